/* FindCoordinator (key 10): which broker looks after a group, or after a transactional id. It is
 * the leader of the partition of __consumer_offsets, or of __transaction_state, that the id falls
 * on. The first one to ask makes the topic come to be and is told COORDINATOR_NOT_AVAILABLE
 * meanwhile, as everybody until it is there.
 *
 * The topics get as many copies as their replication.factor keys say, but not more than there are
 * brokers, and no more of them must be in sync: a node that is alone serves with one copy, where
 * Kafka would refuse to.
 *
 * Coordinators of share partitions are asked for here too; while this broker has none, their answer
 * is COORDINATOR_NOT_AVAILABLE. */
#include "broker/api/api.h"
#include "broker/api/call.h"
#include "broker/data_core.h"
#include "broker/group/group.h"
#include "broker/txn/txn.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/find_coordinator.h"

#include <stdio.h>
#include <string.h>

enum key_type { KEY_GROUP = 0, KEY_TRANSACTION = 1, KEY_SHARE = 2 };

#define CONFIGS_MAX     5u
#define NUMBER_TEXT_MAX 16

struct find {
    struct flow *flow;
    struct find_coordinator_request request;
    struct find_coordinator_response response;
    struct create_topics_request create;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request_creatable_topic_config configs[CONFIGS_MAX];
    char segment_bytes[NUMBER_TEXT_MAX], min_isr[NUMBER_TEXT_MAX];
    bool missing;
};

/* Of the sort of id that this request is about. */
static const char *find_topic(const struct find *s)
{
    return s->request.key_type == KEY_TRANSACTION ? TXN_TOPIC : GROUP_TOPIC;
}

static void refuse(struct find_coordinator_response_coordinator *out, enum kafka_error error)
{
    out->node_id = -1;
    out->host = wire_string_of("");
    out->port = -1;
    out->error_code = (int16_t)error;
}

static void find_leader(struct find *s, struct find_coordinator_response_coordinator *out)
{
    const struct data_core *core = s->flow->core;
    const char *name = find_topic(s);
    const struct topic_image *t = image_topic_by_name(&core->image, name, (uint32_t)strlen(name));
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
    if (type == KEY_GROUP || type == KEY_TRANSACTION) {
        find_leader(s, out);
    } else if (type == KEY_SHARE) {
        bool known = s->flow->api_version >= 6 && share_key_valid(key);
        refuse(out, known ? KE_COORDINATOR_NOT_AVAILABLE : KE_INVALID_REQUEST);
    } else {
        refuse(out, KE_INVALID_REQUEST);
        out->error_message = wire_string_of(kafka_error_message(KE_INVALID_REQUEST));
    }
}

/* ---- the topic ------------------------------------------------------------------------------- */

static int16_t topic_copies(const struct data_core *core, int16_t wanted)
{
    int32_t alive = 0;
    for (uint32_t i = 0; i < core->image.brokers_count; i++)
        alive += !core->image.brokers[i]->fenced;
    return (int16_t)MAX(MIN(wanted, alive), 1);
}

static void topic_config(struct find *s, const char *name, const char *value)
{
    struct create_topics_request_creatable_topic_config *c = &s->configs[s->topic.configs_count++];
    create_topics_request_creatable_topic_config_init(c);
    c->name = wire_string_of(name);
    c->value = wire_string_of(value);
}

static void topic_of_groups(struct find *s)
{
    const struct broker_config *config = s->flow->core->config;
    (void)snprintf(s->segment_bytes, NUMBER_TEXT_MAX, "%d", config->offsets_topic_segment_bytes);
    s->topic.num_partitions = config->offsets_topic_num_partitions;
    s->topic.replication_factor =
        topic_copies(s->flow->core, config->offsets_topic_replication_factor);
    topic_config(s, "cleanup.policy", "compact");
    topic_config(s, "compression.type", "producer");
    topic_config(s, "segment.bytes", s->segment_bytes);
}

static void topic_of_transactions(struct find *s)
{
    const struct broker_config *config = s->flow->core->config;
    int16_t copies = topic_copies(s->flow->core, config->transaction_state_log_replication_factor);
    (void)snprintf(s->segment_bytes, NUMBER_TEXT_MAX, "%d",
                   config->transaction_state_log_segment_bytes);
    (void)snprintf(s->min_isr, NUMBER_TEXT_MAX, "%d",
                   MIN(config->transaction_state_log_min_isr, copies));
    s->topic.num_partitions = config->transaction_state_log_num_partitions;
    s->topic.replication_factor = copies;
    topic_config(s, "cleanup.policy", "compact");
    topic_config(s, "compression.type", "uncompressed");
    topic_config(s, "min.insync.replicas", s->min_isr);
    topic_config(s, "segment.bytes", s->segment_bytes);
    topic_config(s, "unclean.leader.election.enable", "false");
}

static void topic_create(struct find *s)
{
    create_topics_request_init(&s->create);
    create_topics_request_creatable_topic_init(&s->topic);
    s->create.topics = &s->topic;
    s->create.topics_count = 1;
    s->create.timeout_ms = s->flow->core->config->request_timeout_ms;
    s->topic.name = wire_string_of(find_topic(s));
    s->topic.configs = s->configs;
    if (s->request.key_type == KEY_TRANSACTION)
        topic_of_transactions(s);
    else
        topic_of_groups(s);
    assert(s->topic.configs_count <= (int32_t)CONFIGS_MAX);
    control_ask_as(s->flow, API_CREATE_TOPICS, 7, &s->create, sizeof(struct create_topics_response),
                   NULL); /* answered without; who asks again finds it */
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
    if (s == NULL || !FLOW_DECODE(f, find_coordinator, &s->request, body)) {
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
