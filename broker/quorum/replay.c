/* Metadata records become leaves.
 *
 *   record -> draft of the topic, broker or resource it is about (a working copy, in an arena)
 *   finish -> each touched draft is frozen into a leaf; old and new leaf make one change
 *
 * Drafts begin as views of the old leaf and only what changes is copied, so a record costs what it
 * says, not what its topic weighs. A topic of ten thousand partitions is ten thousand records and
 * one leaf.
 *
 *   BeginTransaction -> later records wait as bytes -> EndTransaction replays them
 *                                                  `-> AbortTransaction drops them
 *
 * Invariants
 *  1. A leaf is never changed: drafts point into it, and write beside it.
 *  2. What a record is about must be there; a log that says otherwise is refused, because going on
 *     would mean believing some of it.
 *  3. Within one delta removals come first, so that a name can move to a new id.
 *
 * Failure modes: a record of a kind or version we do not know (a newer cluster's: refused by name);
 * a record about nothing; memory. */
#include "broker/quorum/metadata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/quorum/draft.h"
#include "broker/quorum/leaf.h"
#include "core/assert.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_security.h"
#include "proto/gen/record_topic.h"

#define KEPT_KEY_MAX       (3 * WIRE_STRING_MAX)
#define QUOTA_ENTITIES_MAX 16

void replay_init(struct replay *r, struct metadata *md, uint64_t arena_bytes)
{
    assert(md->mem != NULL);
    *r = (struct replay){.md = md, .next_producer_id = -1};
    arena_init(&r->arena, md->mem, arena_bytes);
    map_init(&r->topics_by_id, md->mem, 0);
    map_init(&r->topics_by_name, md->mem, 0);
    list_init(&r->topics);
    list_init(&r->brokers);
    list_init(&r->configs);
    record_list_init(&r->transaction, &r->arena);
}

void replay_drop(struct replay *r)
{
    assert(r->md != NULL);
    map_destroy(&r->topics_by_id);
    map_destroy(&r->topics_by_name);
    arena_release(&r->arena);
    *r = (struct replay){0};
}

bool replay_is_large(const struct replay *r)
{
    return r->arena.taken_bytes > REPLAY_DRAFTS_BYTES && !r->in_transaction;
}

int replay_refuse(struct replay *r, const char *what)
{
    snprintf(r->why, sizeof(r->why), "%s", what);
    return -EBADMSG;
}

/* ---- one kind each ----------------------------------------------------------------------------
 * The decoded struct points into the value and the arena; both outlive the call. */

static int replay_topic(struct replay *r, const struct topic_record *m)
{
    if (m->name.size <= 0 || uuid_is_zero(m->topic_id))
        return replay_refuse(r, "a topic without a name or an id");
    return draft_topic_add(r, m->topic_id, m->name);
}

static int replay_remove_topic(struct replay *r, const struct remove_topic_record *m)
{
    struct topic_draft *d;
    int result = draft_topic(r, m->topic_id, &d);
    if (result != 0)
        return result;
    draft_topic_remove(r, d);
    return 0;
}

static int replay_partition(struct replay *r, const struct partition_record *m)
{
    struct topic_draft *d;
    struct partition_image *p;
    int result = draft_topic(r, m->topic_id, &d);
    if (result == 0)
        result = draft_partition_add(r, d, m->partition_id, &p);
    if (result != 0)
        return result;
    if (m->replicas_count <= 0 || m->replicas_count > UINT16_MAX)
        return replay_refuse(r, "a partition without replicas");
    if (m->directories_count > 0 && m->directories_count != m->replicas_count)
        return replay_refuse(r, "a partition with other directories than replicas");
    *p = (struct partition_image){
        .index = m->partition_id,
        .leader = m->leader,
        .leader_epoch = m->leader_epoch,
        .partition_epoch = m->partition_epoch,
        .recovery_state = m->leader_recovery_state,
        .replicas = m->replicas,
        .replicas_count = (uint16_t)m->replicas_count,
        .isr = m->isr,
        .isr_count = (uint16_t)MAX(m->isr_count, 0),
        .removing = m->removing_replicas,
        .removing_count = (uint16_t)MAX(m->removing_replicas_count, 0),
        .adding = m->adding_replicas,
        .adding_count = (uint16_t)MAX(m->adding_replicas_count, 0),
        .elr = m->eligible_leader_replicas,
        .elr_count = (uint16_t)MAX(m->eligible_leader_replicas_count, 0),
        .last_known_elr = m->last_known_elr,
        .last_known_elr_count = (uint16_t)MAX(m->last_known_elr_count, 0),
        .directories = m->directories,
    };
    if (m->directories_count <= 0)
        p->directories = draft_no_directories(r, p->replicas_count);
    return p->directories == NULL ? -ENOMEM : 0;
}

static int replay_partition_change(struct replay *r, const struct partition_change_record *m)
{
    struct topic_draft *d;
    struct partition_image *p;
    int result = draft_topic(r, m->topic_id, &d);
    if (result == 0)
        result = draft_partition(r, d, m->partition_id, &p);
    if (result != 0)
        return result;
    draft_ids(&p->isr, &p->isr_count, m->isr, m->isr_count);
    draft_ids(&p->removing, &p->removing_count, m->removing_replicas, m->removing_replicas_count);
    draft_ids(&p->adding, &p->adding_count, m->adding_replicas, m->adding_replicas_count);
    draft_ids(&p->elr, &p->elr_count, m->eligible_leader_replicas,
              m->eligible_leader_replicas_count);
    draft_ids(&p->last_known_elr, &p->last_known_elr_count, m->last_known_elr,
              m->last_known_elr_count);
    bool directories = m->directories_count >= 0;
    if (m->replicas_count >= 0) {
        draft_ids(&p->replicas, &p->replicas_count, m->replicas, m->replicas_count);
        if (!directories)
            p->directories = draft_no_directories(r, p->replicas_count);
        if (p->directories == NULL)
            return -ENOMEM;
    }
    if (directories && m->directories_count != p->replicas_count)
        return replay_refuse(r, "a partition with other directories than replicas");
    if (directories)
        p->directories = m->directories;
    if (m->leader != -2) { /* the field is there: a new leadership even if it is the same broker */
        p->leader = m->leader;
        p->leader_epoch++;
    }
    if (m->leader_recovery_state != -1)
        p->recovery_state = m->leader_recovery_state;
    p->partition_epoch++;
    return 0;
}

static int replay_register_broker(struct replay *r, const struct register_broker_record *m)
{
    struct broker_draft *d;
    if (m->broker_id < 0)
        return replay_refuse(r, "a broker with a negative id");
    int result = draft_broker(r, m->broker_id, true, &d);
    if (result != 0)
        return result;
    struct endpoint_image *endpoints =
        arena_array(&r->arena, (size_t)m->end_points_count, sizeof(*endpoints));
    struct feature_range *features =
        arena_array(&r->arena, (size_t)m->features_count, sizeof(*features));
    if (endpoints == NULL || features == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < m->end_points_count; i++) {
        endpoints[i] = (struct endpoint_image){
            .listener = draft_text(r, m->end_points[i].name),
            .host = draft_text(r, m->end_points[i].host),
            .port = m->end_points[i].port,
            .security_protocol = m->end_points[i].security_protocol,
        };
    }
    for (int32_t i = 0; i < m->features_count; i++) {
        features[i] = (struct feature_range){draft_text(r, m->features[i].name),
                                             m->features[i].min_supported_version,
                                             m->features[i].max_supported_version};
    }
    d->view = (struct broker_image){
        .id = m->broker_id,
        .epoch = m->broker_epoch,
        .incarnation = m->incarnation_id,
        .endpoints = endpoints,
        .endpoints_count = (uint32_t)m->end_points_count,
        .features = features,
        .features_count = (uint32_t)m->features_count,
        .log_dirs = m->log_dirs,
        .log_dirs_count = (uint32_t)MAX(m->log_dirs_count, 0),
        .cordoned_log_dirs = m->cordoned_log_dirs,
        .cordoned_log_dirs_count = (uint32_t)MAX(m->cordoned_log_dirs_count, 0),
        .rack = m->rack.size < 0 ? NULL : draft_text(r, m->rack),
        .fenced = m->fenced,
        .in_controlled_shutdown = m->in_controlled_shutdown,
    };
    return r->arena.failed ? -ENOMEM : 0;
}

static int replay_broker_change(struct replay *r, const struct broker_registration_change_record *m)
{
    struct broker_draft *d;
    int result = draft_broker(r, m->broker_id, false, &d);
    if (result != 0)
        return result;
    if (d->view.epoch != m->broker_epoch)
        return replay_refuse(r, "a change of a broker's registration that is not the current one");
    if (m->fenced != 0)
        d->view.fenced = m->fenced > 0;
    if (m->in_controlled_shutdown != 0)
        d->view.in_controlled_shutdown = m->in_controlled_shutdown > 0;
    if (m->log_dirs_count > 0) {
        d->view.log_dirs = m->log_dirs;
        d->view.log_dirs_count = (uint32_t)m->log_dirs_count;
    }
    if (m->cordoned_log_dirs_count >= 0) {
        d->view.cordoned_log_dirs = m->cordoned_log_dirs;
        d->view.cordoned_log_dirs_count = (uint32_t)m->cordoned_log_dirs_count;
    }
    return 0;
}

static int replay_fence(struct replay *r, int32_t id, int64_t epoch, bool fenced)
{
    struct broker_draft *d;
    int result = draft_broker(r, id, false, &d);
    if (result == 0 && d->view.epoch != epoch)
        return replay_refuse(r, "fencing of a broker's registration that is not the current one");
    if (result == 0)
        d->view.fenced = fenced;
    return result;
}

static int replay_unregister_broker(struct replay *r, const struct unregister_broker_record *m)
{
    struct broker_draft *d;
    int result = draft_broker(r, m->broker_id, false, &d);
    if (result == 0)
        d->removed = true;
    return result;
}

static int replay_config(struct replay *r, const struct config_record *m)
{
    if (m->name.size <= 0)
        return replay_refuse(r, "a config without a name");
    switch (m->resource_type) {
    case RESOURCE_TOPIC:
    case RESOURCE_BROKER:
    case RESOURCE_CLIENT_METRICS:
    case RESOURCE_GROUP:
        return draft_config_set(r, (enum config_resource_type)m->resource_type, m->resource_name,
                                m->name, m->value);
    default:
        return replay_refuse(r, "a config of a resource type that is not known");
    }
}

static int replay_clear_elr(struct replay *r, const struct clear_elr_record *m)
{
    if (m->topic_name.size == 0)
        return draft_clear_elr_all(r);
    struct topic_draft *d;
    int result = draft_topic_named(r, m->topic_name, &d);
    if (result != 0)
        return result;
    return draft_clear_elr(r, d);
}

/* ---- kept as bytes ----------------------------------------------------------------------------
 */

struct kept_key {
    uint8_t *data;
    uint32_t size, room;
};

static void key_add(struct kept_key *k, const void *data, int32_t size)
{
    uint32_t n = (uint32_t)MAX(size, 0);
    assert(k->size + 4 + n <= k->room);
    wire_store32(k->data + k->size, (uint32_t)size);
    if (n > 0)
        memcpy(k->data + k->size + 4, data, n);
    k->size += 4 + n;
}

static int replay_kept(struct replay *r, int16_t kind, const struct wire_string *parts,
                       uint32_t parts_count, const struct record_value *value)
{
    struct kept_key key = {.room = 8};
    for (uint32_t i = 0; i < parts_count; i++)
        key.room += 4 + (uint32_t)MAX(parts[i].size, 0);
    key.data = arena_alloc(&r->arena, key.room);
    if (key.data == NULL)
        return -ENOMEM;
    key_add(&key, &kind, sizeof(kind));
    for (uint32_t i = 0; i < parts_count; i++)
        key_add(&key, parts[i].data, parts[i].size);
    if (value != NULL)
        return kept_put(r->md, key.data, key.size, *value);
    kept_remove(r->md, key.data, key.size);
    return 0;
}

static struct wire_string part_of(const void *data, size_t size)
{
    return (struct wire_string){data, (int32_t)size};
}

static int replay_quota(struct replay *r, const struct client_quota_record *m,
                        const struct record_value *value)
{
    struct wire_string parts[1 + 2 * QUOTA_ENTITIES_MAX] = {m->key};
    const struct client_quota_record_entity_data *entity[QUOTA_ENTITIES_MAX];
    if (m->entity_count < 1 || m->entity_count > QUOTA_ENTITIES_MAX)
        return replay_refuse(r, "a quota of no entity or of too many");
    uint32_t n = (uint32_t)m->entity_count;
    for (uint32_t i = 0; i < n; i++) { /* in the order of their types: one entity, one key */
        uint32_t at = i;
        const struct client_quota_record_entity_data *e = &m->entity[i];
        while (at > 0 &&
               strncmp(entity[at - 1]->entity_type.data, e->entity_type.data,
                       (size_t)MIN(entity[at - 1]->entity_type.size, e->entity_type.size)) > 0) {
            entity[at] = entity[at - 1];
            at--;
        }
        entity[at] = e;
    }
    for (uint32_t i = 0; i < n; i++) {
        parts[1 + 2 * i] = entity[i]->entity_type;
        parts[2 + 2 * i] = entity[i]->entity_name;
    }
    return replay_kept(r, CLIENT_QUOTA_RECORD_API_KEY, parts, 1 + 2 * n, m->remove ? NULL : value);
}

/* Records of users and controllers. -ENOTSUP: it is none of them. */
static int replay_security(struct replay *r, int16_t key, int16_t version, struct wire_reader *in,
                           const struct record_value *value)
{
    union {
        struct access_control_entry_record acl;
        struct remove_access_control_entry_record remove_acl;
        struct user_scram_credential_record scram;
        struct remove_user_scram_credential_record remove_scram;
        struct delegation_token_record token;
        struct remove_delegation_token_record remove_token;
        struct client_quota_record quota;
        struct register_controller_record controller;
    } m;
    struct arena *a = &r->arena;
    struct wire_string parts[2];
#define DECODED(call)                                                                              \
    if ((call) != 0)                                                                               \
    return in->error == WIRE_NO_MEMORY ? -ENOMEM : replay_refuse(r, "a malformed record")
    switch (key) {
    case ACCESS_CONTROL_ENTRY_RECORD_API_KEY:
        DECODED(access_control_entry_record_decode(&m.acl, in, version, a));
        parts[0] = part_of(m.acl.id.bytes, sizeof(m.acl.id.bytes));
        return replay_kept(r, ACCESS_CONTROL_ENTRY_RECORD_API_KEY, parts, 1, value);
    case REMOVE_ACCESS_CONTROL_ENTRY_RECORD_API_KEY:
        DECODED(remove_access_control_entry_record_decode(&m.remove_acl, in, version, a));
        parts[0] = part_of(m.remove_acl.id.bytes, sizeof(m.remove_acl.id.bytes));
        return replay_kept(r, ACCESS_CONTROL_ENTRY_RECORD_API_KEY, parts, 1, NULL);
    case USER_SCRAM_CREDENTIAL_RECORD_API_KEY:
        DECODED(user_scram_credential_record_decode(&m.scram, in, version, a));
        parts[0] = m.scram.name;
        parts[1] = part_of(&m.scram.mechanism, 1);
        return replay_kept(r, USER_SCRAM_CREDENTIAL_RECORD_API_KEY, parts, 2, value);
    case REMOVE_USER_SCRAM_CREDENTIAL_RECORD_API_KEY:
        DECODED(remove_user_scram_credential_record_decode(&m.remove_scram, in, version, a));
        parts[0] = m.remove_scram.name;
        parts[1] = part_of(&m.remove_scram.mechanism, 1);
        return replay_kept(r, USER_SCRAM_CREDENTIAL_RECORD_API_KEY, parts, 2, NULL);
    case DELEGATION_TOKEN_RECORD_API_KEY:
        DECODED(delegation_token_record_decode(&m.token, in, version, a));
        return replay_kept(r, DELEGATION_TOKEN_RECORD_API_KEY, &m.token.token_id, 1, value);
    case REMOVE_DELEGATION_TOKEN_RECORD_API_KEY:
        DECODED(remove_delegation_token_record_decode(&m.remove_token, in, version, a));
        return replay_kept(r, DELEGATION_TOKEN_RECORD_API_KEY, &m.remove_token.token_id, 1, NULL);
    case CLIENT_QUOTA_RECORD_API_KEY:
        DECODED(client_quota_record_decode(&m.quota, in, version, a));
        return replay_quota(r, &m.quota, value);
    case REGISTER_CONTROLLER_RECORD_API_KEY:
        DECODED(register_controller_record_decode(&m.controller, in, version, a));
        parts[0] = part_of(&m.controller.controller_id, sizeof(m.controller.controller_id));
        return replay_kept(r, REGISTER_CONTROLLER_RECORD_API_KEY, parts, 1, value);
    default:
        return -ENOTSUP;
    }
}

/* ---- dispatch ---------------------------------------------------------------------------------
 */

static int replay_producer_ids(struct replay *r, const struct producer_ids_record *m)
{
    int64_t now = r->next_producer_id >= 0 ? r->next_producer_id : r->md->next_producer_id;
    if (m->next_producer_id < now)
        return replay_refuse(r, "producer ids that go back");
    r->next_producer_id = m->next_producer_id;
    return 0;
}

static int replay_decoded(struct replay *r, int16_t key, int16_t version, struct wire_reader *in,
                          const struct record_value *value)
{
    union {
        struct register_broker_record register_broker;
        struct unregister_broker_record unregister_broker;
        struct broker_registration_change_record broker_change;
        struct fence_broker_record fence;
        struct unfence_broker_record unfence;
        struct topic_record topic;
        struct partition_record partition;
        struct partition_change_record partition_change;
        struct remove_topic_record remove_topic;
        struct config_record config;
        struct clear_elr_record clear_elr;
        struct feature_level_record feature;
        struct producer_ids_record producer_ids;
    } m;
    struct arena *a = &r->arena;
    switch (key) {
    case REGISTER_BROKER_RECORD_API_KEY:
        DECODED(register_broker_record_decode(&m.register_broker, in, version, a));
        return replay_register_broker(r, &m.register_broker);
    case UNREGISTER_BROKER_RECORD_API_KEY:
        DECODED(unregister_broker_record_decode(&m.unregister_broker, in, version, a));
        return replay_unregister_broker(r, &m.unregister_broker);
    case BROKER_REGISTRATION_CHANGE_RECORD_API_KEY:
        DECODED(broker_registration_change_record_decode(&m.broker_change, in, version, a));
        return replay_broker_change(r, &m.broker_change);
    case FENCE_BROKER_RECORD_API_KEY:
        DECODED(fence_broker_record_decode(&m.fence, in, version, a));
        return replay_fence(r, m.fence.id, m.fence.epoch, true);
    case UNFENCE_BROKER_RECORD_API_KEY:
        DECODED(unfence_broker_record_decode(&m.unfence, in, version, a));
        return replay_fence(r, m.unfence.id, m.unfence.epoch, false);
    case TOPIC_RECORD_API_KEY:
        DECODED(topic_record_decode(&m.topic, in, version, a));
        return replay_topic(r, &m.topic);
    case PARTITION_RECORD_API_KEY:
        DECODED(partition_record_decode(&m.partition, in, version, a));
        return replay_partition(r, &m.partition);
    case PARTITION_CHANGE_RECORD_API_KEY:
        DECODED(partition_change_record_decode(&m.partition_change, in, version, a));
        return replay_partition_change(r, &m.partition_change);
    case REMOVE_TOPIC_RECORD_API_KEY:
        DECODED(remove_topic_record_decode(&m.remove_topic, in, version, a));
        return replay_remove_topic(r, &m.remove_topic);
    case CONFIG_RECORD_API_KEY:
        DECODED(config_record_decode(&m.config, in, version, a));
        return replay_config(r, &m.config);
    case CLEAR_ELR_RECORD_API_KEY:
        DECODED(clear_elr_record_decode(&m.clear_elr, in, version, a));
        return replay_clear_elr(r, &m.clear_elr);
    case FEATURE_LEVEL_RECORD_API_KEY:
        DECODED(feature_level_record_decode(&m.feature, in, version, a));
        return draft_feature_set(r, m.feature.name, m.feature.feature_level);
    case PRODUCER_IDS_RECORD_API_KEY:
        DECODED(producer_ids_record_decode(&m.producer_ids, in, version, a));
        return replay_producer_ids(r, &m.producer_ids);
    case NO_OP_RECORD_API_KEY:
    case ZK_MIGRATION_STATE_RECORD_API_KEY: /* history */
        return 0;
    default:
        return replay_security(r, key, version, in, value);
    }
#undef DECODED
}

/* What is decoded points into the value, so that has to live as long as the drafts. */
static int replay_copy(struct replay *r, struct record_value *value)
{
    uint8_t *copy = arena_copy(&r->arena, value->data, value->size);
    if (copy == NULL)
        return -ENOMEM;
    value->data = copy;
    return 0;
}

static int replay_one(struct replay *r, struct record_value value, int16_t key, int16_t version,
                      struct wire_reader *in)
{
    if (version > record_version_max(key)) {
        snprintf(r->why, sizeof(r->why),
                 "record %d version %d is of a newer metadata.version than this broker knows", key,
                 version);
        return -EBADMSG;
    }
    int result = replay_decoded(r, key, version, in, &value);
    if (result == -EBADMSG && r->why[0] != '\0') {
        char what[METADATA_WHY_SIZE];
        snprintf(what, sizeof(what), "%s", r->why);
        snprintf(r->why, sizeof(r->why), "record %d: %.200s", key, what);
    }
    assert(result <= 0);
    return result;
}

static int replay_transaction_end(struct replay *r)
{
    int result = r->transaction.failed ? -ENOMEM : 0;
    for (uint32_t i = 0; i < r->transaction.count && result == 0; i++) {
        struct wire_reader in;
        int16_t key = -1, version = -1;
        bool framed = record_open_frame(r->transaction.items[i], &in, &key, &version);
        assert(framed); /* it was when it came */
        result = replay_one(r, r->transaction.items[i], key, version, &in);
    }
    return result;
}

int replay_record(struct replay *r, struct record_value value)
{
    struct wire_reader in;
    int16_t key, version;
    if (value.data == NULL || value.size == 0)
        return replay_refuse(r, "a record without a value");
    if (replay_copy(r, &value) != 0)
        return -ENOMEM;
    if (!record_open_frame(value, &in, &key, &version))
        return replay_refuse(r, "a record without a frame");
    switch (key) {
    case BEGIN_TRANSACTION_RECORD_API_KEY:
        if (r->in_transaction)
            return replay_refuse(r, "a transaction within a transaction");
        r->in_transaction = true;
        record_list_init(&r->transaction, &r->arena);
        return 0;
    case END_TRANSACTION_RECORD_API_KEY:
    case ABORT_TRANSACTION_RECORD_API_KEY:
        if (!r->in_transaction)
            return replay_refuse(r, "the end of a transaction that has not begun");
        r->in_transaction = false;
        return key == END_TRANSACTION_RECORD_API_KEY ? replay_transaction_end(r) : 0;
    default:
        break;
    }
    if (r->in_transaction) {
        record_list_add_value(&r->transaction, value);
        return r->transaction.failed ? -ENOMEM : 0;
    }
    return replay_one(r, value, key, version, &in);
}
