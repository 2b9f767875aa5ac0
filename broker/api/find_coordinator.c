/* FindCoordinator (key 10): which broker looks after a group. It is the leader of the partition of
 * __consumer_offsets that the group's id falls on. The first one to ask makes the topic come to be
 * and is told COORDINATOR_NOT_AVAILABLE meanwhile, as everybody until it is there.
 *
 * The topic gets as many copies as offsets.topic.replication.factor says, but not more than there
 * are brokers: a node that is alone serves groups with one copy, where Kafka would refuse to.
 *
 * Coordinators of transactions and of share partitions are asked for here too; while this broker
 * has none, their answer is COORDINATOR_NOT_AVAILABLE. */
#include "broker/api/api.h"
#include "broker/api/call.h"
#include "broker/data_core.h"
#include "broker/group/group.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/find_coordinator.h"

#include <stdio.h>

enum key_type { KEY_GROUP = 0, KEY_TRANSACTION = 1, KEY_SHARE = 2 };

struct find {
    struct flow *flow;
    struct find_coordinator_request request;
    struct find_coordinator_response response;
    struct create_topics_request create;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request_creatable_topic_config configs[3];
    char segment_bytes[16];
    bool missing;
};

static const struct topic_image *offsets_topic(const struct data_core *core)
{
    return image_topic_by_name(&core->image, GROUP_TOPIC, sizeof(GROUP_TOPIC) - 1);
}

static void refuse(struct find_coordinator_response_coordinator *out, enum kafka_error error)
{
    out->node_id = -1;
    out->host = wire_string_of("");
    out->port = -1;
    out->error_code = (int16_t)error;
}

static void find_group(struct find *s, struct find_coordinator_response_coordinator *out)
{
    const struct data_core *core = s->flow->core;
    const struct topic_image *t = offsets_topic(core);
    const struct partition_image *p = NULL;
    if (t == NULL)
        s->missing = true;
    else
        p = topic_partition(t, group_partition(out->key, t->partitions_count));
    const struct broker_image *b = p != NULL ? image_broker(&core->image, p->leader) : NULL;
    const struct endpoint_image *e =
        b != NULL && !b->fenced
            ? broker_endpoint(b, core->config->listeners[s->flow->conn->listener].name)
            : NULL;
    if (e == NULL) {
        refuse(out, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    out->node_id = b->id;
    out->host = wire_string_of(e->host);
    out->port = e->port;
}

/* group:topic id:partition */
static bool share_key_valid(struct wire_string key)
{
    const char *at = key.data, *end = key.data + MAX(key.size, 0);
    const char *first = memchr(at, ':', (size_t)(end - at));
    const char *second = first != NULL ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
    struct uuid id;
    if (second == NULL || first == at || second + 1 == end ||
        !uuid_parse(&id, first + 1, (uint32_t)(second - first - 1)))
        return false;
    for (at = second + 1; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
    }
    return true;
}

static void find_one(struct find *s, struct wire_string key,
                     struct find_coordinator_response_coordinator *out)
{
    find_coordinator_response_coordinator_init(out);
    out->key = key;
    out->error_message = wire_string_of("");
    int8_t type = s->request.key_type;
    if (type == KEY_GROUP) {
        find_group(s, out);
    } else if (type == KEY_TRANSACTION) {
        refuse(out, KE_COORDINATOR_NOT_AVAILABLE);
    } else if (type == KEY_SHARE) {
        bool known = s->flow->api_version >= 6 && share_key_valid(key);
        refuse(out, known ? KE_COORDINATOR_NOT_AVAILABLE : KE_INVALID_REQUEST);
    } else {
        refuse(out, KE_INVALID_REQUEST);
        out->error_message = wire_string_of(kafka_error_message(KE_INVALID_REQUEST));
    }
}

/* ---- the topic ------------------------------------------------------------------------------- */

static void topic_created(struct flow *f, void *response)
{
    (void)f; /* answered long ago; who asks again finds it */
    (void)response;
}

static int16_t topic_copies(const struct data_core *core)
{
    int32_t alive = 0;
    for (uint32_t i = 0; i < core->image.brokers_count; i++)
        alive += !core->image.brokers[i]->fenced;
    return (int16_t)MAX(MIN(core->config->offsets_topic_replication_factor, alive), 1);
}

static void topic_create(struct find *s)
{
    const struct broker_config *config = s->flow->core->config;
    static const char *const names[] = {"cleanup.policy", "compression.type", "segment.bytes"};
    const char *const values[] = {"compact", "producer", s->segment_bytes};
    (void)snprintf(s->segment_bytes, sizeof(s->segment_bytes), "%d",
                   config->offsets_topic_segment_bytes);
    create_topics_request_init(&s->create);
    create_topics_request_creatable_topic_init(&s->topic);
    s->create.topics = &s->topic;
    s->create.topics_count = 1;
    s->create.timeout_ms = config->request_timeout_ms;
    s->topic.name = wire_string_of(GROUP_TOPIC);
    s->topic.num_partitions = config->offsets_topic_num_partitions;
    s->topic.replication_factor = topic_copies(s->flow->core);
    s->topic.configs = s->configs;
    s->topic.configs_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        create_topics_request_creatable_topic_config_init(&s->configs[i]);
        s->configs[i].name = wire_string_of(names[i]);
        s->configs[i].value = wire_string_of(values[i]);
    }
    control_ask_as(s->flow, API_CREATE_TOPICS, 7, &s->create, sizeof(struct create_topics_response),
                   topic_created);
}

/* ---- the request ----------------------------------------------------------------------------- */

static bool find_all(struct find *s)
{
    struct find_coordinator_response *r = &s->response;
    uint32_t count = (uint32_t)MAX(s->request.coordinator_keys_count, 0);
    struct find_coordinator_response_coordinator one;
    if (s->flow->api_version < 4) {
        find_one(s, s->request.key, &one);
        r->node_id = one.node_id;
        r->host = one.host;
        r->port = one.port;
        r->error_code = one.error_code;
        r->error_message = wire_string_of(
            one.error_code == KE_NONE ? "NONE"
                                      : kafka_error_message((enum kafka_error)one.error_code));
        return true;
    }
    r->coordinators = arena_array(&s->flow->arena, count, sizeof(*r->coordinators));
    if (r->coordinators == NULL)
        return false;
    r->coordinators_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++)
        find_one(s, s->request.coordinator_keys[i], &r->coordinators[i]);
    return true;
}

void find_coordinator_start(struct flow *f, struct wire_reader *body)
{
    struct find *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL ||
        find_coordinator_request_decode(&s->request, body, f->api_version, &f->arena) != 0) {
        flow_refuse(f, "malformed body");
        return;
    }
    s->flow = f;
    find_coordinator_response_init(&s->response);
    if (!find_all(s)) {
        flow_refuse(f, "no memory");
        return;
    }
    if (s->missing)
        topic_create(s);
    FLOW_ANSWER(f, &s->response, find_coordinator_response);
}
