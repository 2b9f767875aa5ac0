/* The cluster itself: brokers and their registration, producer ids, the quorum's description, and
 * who leads which partition.
 *
 * With one voter the only broker that can be alive is this one. Others may be registered, if the
 * directory comes from a larger cluster; they are fenced, and what only they have stays offline.
 *
 *   start:  RegisterController, RegisterBroker (fenced) -> a new leadership for every partition
 *           that is ours to lead -> unfenced when the logs are open
 *   stop:   fenced
 *
 * A new leadership at every start, even after a clean stop: if the end of a log was lost with the
 * page cache (write.caching), its offsets will be given again, and only a higher leader epoch tells
 * a consumer that they are others.
 *
 * Invariants
 *  1. A broker epoch is the offset of its RegisterBroker record.
 *  2. Only a broker in the ISR, in an eligible list when the ISR is empty, or the last known one
 *     when that is empty too, is made leader; anyone else only when ElectLeaders asks for an
 *     unclean election.
 *  3. Blocks of producer ids never overlap: the next one begins where the record says.
 *
 * Failure modes: see controller.c. */
#include "broker/quorum/controller_priv.h"

#include <stdlib.h>
#include <string.h>

#include "broker/quorum/voter.h"
#include "core/assert.h"
#include "proto/gen/allocate_producer_ids.h"
#include "proto/gen/describe_quorum.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_quorum.h"
#include "proto/gen/unregister_broker.h"

#define METADATA_TOPIC     "__cluster_metadata"
#define OWN_FEATURES_COUNT 3u
#define REGISTRATION_FENCE 1
#define REGISTRATION_FREE  (-1)

/* ---- registration -----------------------------------------------------------------------------
 */

/* What this build is able to do, whatever it serves to clients. */
static const struct control_feature own_features[OWN_FEATURES_COUNT] = {
    {FEATURE_ELR, 0, 1},
    {FEATURE_KRAFT_VERSION, 0, 1},
    {FEATURE_METADATA_VERSION, METADATA_3_3_IV3, METADATA_4_3_IV0},
};

bool feature_supported(const struct controller *c, const char *name, int16_t *min, int16_t *max)
{
    for (uint32_t i = 0; i < OWN_FEATURES_COUNT + c->served_count; i++) {
        const struct control_feature *f =
            i < OWN_FEATURES_COUNT ? &own_features[i] : &c->served[i - OWN_FEATURES_COUNT];
        if (strcmp(f->name, name) != 0)
            continue;
        *min = f->min;
        *max = f->max;
        return true;
    }
    return false;
}

/* The i-th feature to register; NULL for one of `served` that is ours anyway. */
static const struct control_feature *feature_at(const struct controller *c, uint32_t i)
{
    if (i < OWN_FEATURES_COUNT)
        return &own_features[i];
    const struct control_feature *f = &c->served[i - OWN_FEATURES_COUNT];
    for (uint32_t k = 0; k < OWN_FEATURES_COUNT; k++) {
        if (strcmp(f->name, own_features[k].name) == 0)
            return NULL;
    }
    return f;
}

static void controller_record(struct step *s, const struct broker_registration *r)
{
    uint32_t room = OWN_FEATURES_COUNT + s->c->served_count;
    struct register_controller_record m;
    struct register_controller_record_controller_endpoint endpoint;
    register_controller_record_init(&m);
    register_controller_record_controller_endpoint_init(&endpoint);
    endpoint.name = wire_string_of(r->controller_endpoint.listener);
    endpoint.host = wire_string_of(r->controller_endpoint.host);
    endpoint.port = r->controller_endpoint.port;
    endpoint.security_protocol = r->controller_endpoint.security_protocol;
    m.controller_id = s->c->broker_id;
    m.incarnation_id = r->controller_incarnation;
    m.end_points = &endpoint;
    m.end_points_count = 1;
    m.features = arena_array(s->scratch, room, sizeof(*m.features));
    for (uint32_t i = 0; i < room && m.features != NULL; i++) {
        const struct control_feature *f = feature_at(s->c, i);
        if (f == NULL)
            continue;
        m.features[m.features_count].name = wire_string_of(f->name);
        m.features[m.features_count].min_supported_version = f->min;
        m.features[m.features_count++].max_supported_version = f->max;
    }
    record_list_add(&s->records, REGISTER_CONTROLLER_RECORD_API_KEY, 0, &m);
}

static int uuid_order(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uuid));
}

static void broker_record(struct step *s, const struct broker_registration *r)
{
    uint32_t room = OWN_FEATURES_COUNT + s->c->served_count;
    int16_t version = level_register_broker_version(step_level(s));
    struct register_broker_record m;
    register_broker_record_init(&m);
    m.broker_id = s->c->broker_id;
    m.incarnation_id = r->incarnation;
    m.broker_epoch = r->epoch + s->records.count; /* invariant 1 */
    m.rack = wire_string_of(r->rack);
    m.end_points = arena_array(s->scratch, r->endpoints_count, sizeof(*m.end_points));
    m.features = arena_array(s->scratch, room, sizeof(*m.features));
    struct uuid *dirs = arena_array(s->scratch, s->c->dirs_count, sizeof(*dirs));
    uint32_t dirs_count = 0;
    if (m.end_points == NULL || m.features == NULL || dirs == NULL)
        return; /* the step fails as a whole */
    for (uint32_t i = 0; i < r->endpoints_count; i++) {
        m.end_points[i].name = wire_string_of(r->endpoints[i].listener);
        m.end_points[i].host = wire_string_of(r->endpoints[i].host);
        m.end_points[i].port = r->endpoints[i].port;
        m.end_points[i].security_protocol = r->endpoints[i].security_protocol;
    }
    m.end_points_count = (int32_t)r->endpoints_count;
    for (uint32_t i = 0; i < room; i++) {
        const struct control_feature *f = feature_at(s->c, i);
        if (f == NULL)
            continue;
        m.features[m.features_count].name = wire_string_of(f->name);
        m.features[m.features_count].min_supported_version = f->min;
        m.features[m.features_count++].max_supported_version = f->max;
    }
    for (uint32_t i = 0; i < s->c->dirs_count; i++)
        if ((s->c->dirs_failed & 1u << i) == 0) /* as Kafka: those that are online */
            dirs[dirs_count++] = s->c->dir_ids[i];
    qsort(dirs, dirs_count, sizeof(*dirs), uuid_order);
    m.cordoned_log_dirs_count = version >= 4 ? 0 : -1;
    if (version >= 3) {
        m.log_dirs = dirs;
        m.log_dirs_count = (int32_t)dirs_count;
    }
    record_list_add(&s->records, REGISTER_BROKER_RECORD_API_KEY, version, &m);
}

void controller_register(struct step *s, const struct broker_registration *r)
{
    record_list_init(&s->records, s->scratch);
    assert(r->endpoints_count > 0);
    if (step_level(s) >= METADATA_3_7_IV0)
        controller_record(s, r);
    broker_record(s, r);
    assert(s->records.failed || s->records.count <= 2);
}

void controller_fence(struct step *s, bool fenced)
{
    record_list_init(&s->records, s->scratch);
    const struct broker_image *self = image_broker(step_image(s), s->c->broker_id);
    assert(self != NULL);
    struct broker_registration_change_record m;
    broker_registration_change_record_init(&m);
    m.broker_id = self->id;
    m.broker_epoch = self->epoch;
    m.fenced = fenced ? REGISTRATION_FENCE : REGISTRATION_FREE;
    m.cordoned_log_dirs_count = -1;
    record_list_add(&s->records, BROKER_REGISTRATION_CHANGE_RECORD_API_KEY, 0, &m);
}

void controller_bootstrap(struct step *s, const struct record_value *records, uint32_t count)
{
    struct begin_transaction_record begin;
    struct end_transaction_record end;
    bool elr = false;
    record_list_init(&s->records, s->scratch);
    begin_transaction_record_init(&begin);
    end_transaction_record_init(&end);
    begin.name = wire_string_of("Bootstrap records");
    record_list_add(&s->records, BEGIN_TRANSACTION_RECORD_API_KEY, 0, &begin);
    for (uint32_t i = 0; i < count; i++) {
        struct wire_reader in;
        struct feature_level_record feature;
        int16_t key, version;
        record_list_add_value(&s->records, records[i]);
        if (record_open_frame(records[i], &in, &key, &version) &&
            key == FEATURE_LEVEL_RECORD_API_KEY && version == 0 &&
            feature_level_record_decode(&feature, &in, 0, s->scratch) == 0 &&
            wire_string_equal(feature.name, wire_string_of(FEATURE_ELR)))
            elr = feature.feature_level > 0;
    }
    if (elr)
        elr_safety_records(s);
    record_list_add(&s->records, END_TRANSACTION_RECORD_API_KEY, 0, &end);
}

/* ---- unregistering ----------------------------------------------------------------------------
 */

void step_unregister_broker(struct step *s, const struct unregister_broker_request *q,
                            struct unregister_broker_response *a)
{
    const struct broker_image *b = image_broker(step_image(s), q->broker_id);
    struct outcome o = outcome_none();
    assert(s->records.count == 0);
    if (b == NULL) {
        o = outcome_error(s, KE_BROKER_ID_NOT_REGISTERED,
                          "Broker ID %d is not currently registered", q->broker_id);
    } else if (b->id == s->c->broker_id) {
        o = outcome_error(s, KE_INVALID_REQUEST,
                          "Broker %d is running and leads this cluster: it cannot be "
                          "unregistered.",
                          q->broker_id);
    } else {
        struct unregister_broker_record m;
        unregister_broker_record_init(&m);
        m.broker_id = b->id;
        m.broker_epoch = b->epoch;
        record_list_add(&s->records, UNREGISTER_BROKER_RECORD_API_KEY, 0, &m);
    }
    a->error_code = (int16_t)o.error;
    a->error_message = o.message;
}

/* ---- producer ids -----------------------------------------------------------------------------
 */

static enum kafka_error producer_ids_check(struct step *s,
                                           const struct allocate_producer_ids_request *q)
{
    const struct broker_image *b = image_broker(step_image(s), q->broker_id);
    if (b == NULL)
        return KE_BROKER_ID_NOT_REGISTERED;
    if (b->epoch != q->broker_epoch)
        return KE_STALE_BROKER_EPOCH;
    /* Not one more whole block: ids have run out. */
    return s->c->md->next_producer_id > INT64_MAX - PRODUCER_ID_BLOCK ? KE_UNKNOWN_SERVER_ERROR
                                                                      : KE_NONE;
}

void step_allocate_producer_ids(struct step *s, const struct allocate_producer_ids_request *q,
                                struct allocate_producer_ids_response *a)
{
    enum kafka_error error = producer_ids_check(s, q);
    assert(s->records.count == 0);
    a->error_code = (int16_t)error;
    if (error != KE_NONE)
        return;
    struct producer_ids_record m;
    producer_ids_record_init(&m);
    m.broker_id = q->broker_id;
    m.broker_epoch = q->broker_epoch;
    m.next_producer_id = s->c->md->next_producer_id + PRODUCER_ID_BLOCK; /* invariant 3 */
    record_list_add(&s->records, PRODUCER_IDS_RECORD_API_KEY, 0, &m);
    a->producer_id_start = s->c->md->next_producer_id;
    a->producer_id_len = PRODUCER_ID_BLOCK;
}

/* ---- DescribeQuorum ---------------------------------------------------------------------------
 */

static void quorum_partition(struct step *s, const struct voters_record *voters,
                             struct describe_quorum_response_partition_data *p)
{
    struct describe_quorum_response_replica_state *self = step_array(s, 1, sizeof(*self));
    if (self == NULL)
        return;
    describe_quorum_response_replica_state_init(self);
    self->replica_id = s->c->broker_id;
    if (voters->voters_count > 0)
        self->replica_directory_id = voters->voters[0].voter_directory_id;
    self->log_end_offset = s->c->end_offset;
    self->last_fetch_timestamp = self->last_caught_up_timestamp = s->c->now_ms;
    p->leader_id = s->c->broker_id;
    p->leader_epoch = s->c->leader_epoch;
    p->high_watermark = s->c->end_offset;
    p->current_voters = self;
    p->current_voters_count = 1;
    p->error_message = wire_string_of("");
}

static void quorum_nodes(struct step *s, const struct voters_record *voters,
                         struct describe_quorum_response *a)
{
    a->nodes = step_array(s, voters->voters_count, sizeof(*a->nodes));
    for (int32_t i = 0; i < voters->voters_count && a->nodes != NULL; i++) {
        const struct voters_record_voter *v = &voters->voters[i];
        struct describe_quorum_response_node *n = &a->nodes[a->nodes_count++];
        describe_quorum_response_node_init(n);
        n->node_id = v->voter_id;
        n->listeners = step_array(s, v->endpoints_count, sizeof(*n->listeners));
        for (int32_t k = 0; k < v->endpoints_count && n->listeners != NULL; k++) {
            describe_quorum_response_listener_init(&n->listeners[k]);
            n->listeners[k].name = v->endpoints[k].name;
            n->listeners[k].host = v->endpoints[k].host;
            n->listeners[k].port = v->endpoints[k].port;
            n->listeners_count++;
        }
    }
}

/* The voters in the log, or, with a static quorum, this node as configured. Texts are copied to
 * the answer: the metadata may have other voters by the time it is sent. */
static void quorum_voters(struct step *s, struct voters_record *voters)
{
    const struct metadata *md = s->c->md;
    struct voters_record_endpoint *endpoint = step_array(s, 1, sizeof(*endpoint));
    struct voters_record_voter *voter = step_array(s, 1, sizeof(*voter));
    voters_record_init(voters);
    if (endpoint == NULL || voter == NULL)
        return;
    if (md->kraft_version > 0 && md->voters != NULL) {
        struct wire_reader in;
        const uint8_t *copy = arena_copy(s->arena, md->voters, md->voters_size);
        if (copy == NULL)
            return;
        wire_reader_init(&in, copy, md->voters_size);
        if (voters_record_decode(voters, &in, 0, s->arena) == 0)
            return;
        voters_record_init(voters);
    }
    static const struct uuid no_directory = {{0}};
    voter_of(s->c->node, no_directory, endpoint, voter);
    voters->voters = voter;
    voters->voters_count = 1;
}

void step_describe_quorum(struct step *s, const struct describe_quorum_request *q,
                          struct describe_quorum_response *a)
{
    struct voters_record voters;
    bool known = q->topics_count == 1 && q->topics[0].partitions_count == 1 &&
                 q->topics[0].partitions[0].partition_index == 0 &&
                 wire_string_equal(q->topics[0].topic_name, wire_string_of(METADATA_TOPIC));
    assert(s->records.count == 0);
    a->error_message = wire_string_of("");
    a->topics = step_array(s, q->topics_count, sizeof(*a->topics));
    quorum_voters(s, &voters);
    for (int32_t i = 0; i < q->topics_count && a->topics != NULL; i++) {
        const struct describe_quorum_request_topic_data *from = &q->topics[i];
        struct describe_quorum_response_topic_data *to = &a->topics[a->topics_count++];
        describe_quorum_response_topic_data_init(to);
        to->topic_name = from->topic_name;
        to->partitions = step_array(s, from->partitions_count, sizeof(*to->partitions));
        for (int32_t k = 0; k < from->partitions_count && to->partitions != NULL; k++) {
            struct describe_quorum_response_partition_data *p =
                &to->partitions[to->partitions_count++];
            describe_quorum_response_partition_data_init(p);
            p->partition_index = from->partitions[k].partition_index;
            if (known) {
                quorum_partition(s, &voters, p);
                continue;
            }
            struct outcome o = outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION,
                                             "This server does not host this topic-partition.");
            p->error_code = (int16_t)o.error;
            p->error_message = o.message;
        }
    }
    if (known && s->version >= 2)
        quorum_nodes(s, &voters, a);
}
