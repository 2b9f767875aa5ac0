/* Who this node is to its quorum: id, directory, endpoint, and the versions of kraft.version it
 * understands. A node that is alone has no controller listener, but a voter in the log needs an
 * endpoint; it gets the one that is customary, so that a controller listener added later, or Kafka
 * taking the directory over, finds nothing odd. */
#include "broker/quorum/voter.h"

#include "core/assert.h"

#define CONTROLLER_NAME "CONTROLLER"
#define CONTROLLER_HOST "localhost"
#define CONTROLLER_PORT 9093

struct endpoint_image voter_endpoint(const struct config *node)
{
    const struct broker_config *b = &node->broker;
    struct endpoint_image e = {CONTROLLER_NAME, CONTROLLER_HOST, CONTROLLER_PORT,
                               SECURITY_PLAINTEXT};
    assert(b->listeners_count <= LISTENERS_MAX);
    for (uint32_t i = 0; i < b->listeners_count; i++) {
        const struct listener *l = &b->listeners[i];
        if (l->advertised_host[0] != '\0')
            e.host = l->advertised_host;
        if (!l->controller)
            continue;
        e.listener = l->name;
        e.port = l->advertised_port != 0 ? l->advertised_port : l->port;
        e.security_protocol = (int16_t)l->protocol;
        break;
    }
    return e;
}

void voter_of(const struct config *node, struct uuid directory,
              struct voters_record_endpoint *endpoint, struct voters_record_voter *voter)
{
    struct endpoint_image e = voter_endpoint(node);
    assert(node->broker.node_id >= 0);
    voters_record_endpoint_init(endpoint);
    endpoint->name = wire_string_of(e.listener);
    endpoint->host = wire_string_of(e.host);
    endpoint->port = e.port;
    voters_record_voter_init(voter);
    voter->voter_id = node->broker.node_id;
    voter->voter_directory_id = directory;
    voter->endpoints = endpoint;
    voter->endpoints_count = 1;
    voter->kraft_version_feature.min_supported_version = 0;
    voter->kraft_version_feature.max_supported_version = 1;
}
