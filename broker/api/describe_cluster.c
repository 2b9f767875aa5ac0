/* DescribeCluster (key 60): the brokers as the listener of the request reaches them. Endpoint type
 * 2 (controllers) is answered by controller listeners only. */
#include "broker/api/api.h"
#include "broker/api/names.h"
#include "broker/data_core.h"
#include "broker/node.h"
#include "proto/gen/describe_cluster.h"

#define ENDPOINT_BROKERS     1
#define ENDPOINT_CONTROLLERS 2

static bool add_brokers(struct flow *f, const struct describe_cluster_request *request,
                        struct describe_cluster_response *r)
{
    const struct image *image = &f->core->image;
    const char *listener = f->core->config->listeners[f->conn->listener].name;
    r->brokers = arena_array(&f->arena, image->brokers_count, sizeof(*r->brokers));
    if (r->brokers == NULL)
        return false;
    for (uint32_t i = 0; i < image->brokers_count; i++) {
        const struct broker_image *b = image->brokers[i];
        const struct endpoint_image *e = broker_endpoint(b, listener);
        if (e == NULL || (b->fenced && !request->include_fenced_brokers))
            continue;
        struct describe_cluster_response_describe_cluster_broker *out =
            &r->brokers[r->brokers_count++];
        describe_cluster_response_describe_cluster_broker_init(out);
        out->broker_id = b->id;
        out->host = wire_string_of(e->host);
        out->port = e->port;
        out->rack = wire_string_of(b->rack);
        out->is_fenced = b->fenced;
    }
    return true;
}

void describe_cluster_start(struct flow *f, struct wire_reader *body)
{
    struct describe_cluster_request request;
    struct describe_cluster_response r;
    if (!FLOW_DECODE(f, describe_cluster, &request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    describe_cluster_response_init(&r);
    if (request.endpoint_type == ENDPOINT_CONTROLLERS) {
        r.error_code = KE_MISMATCHED_ENDPOINT_TYPE;
        r.error_message = wire_string_of("This listener is one of brokers, not of controllers.");
    } else if (request.endpoint_type != ENDPOINT_BROKERS) {
        r.error_code = KE_UNSUPPORTED_ENDPOINT_TYPE;
        r.error_message = wire_string_of("Unsupported endpoint type");
    } else {
        r.cluster_id = wire_string_of(f->core->node->identity.cluster_id);
        r.controller_id = f->core->config->node_id;
        if (request.include_cluster_authorized_operations)
            r.cluster_authorized_operations = OPERATIONS_CLUSTER;
        if (!add_brokers(f, &request, &r)) {
            flow_refuse(f, "no memory");
            return;
        }
    }
    FLOW_ANSWER(f, &r, describe_cluster_response);
}
