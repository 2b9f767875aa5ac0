/* Records whose meaning the node itself lives by: those of the metadata log, of __consumer_offsets
 * and of __transaction_state. A whole batch with the right checksum may still hold what nobody can
 * read; each is taken apart with the codecs that the broker takes it apart with.
 *
 * Invariant: kinds that a later Kafka may have added are passed over, as a broker does.
 *
 * Failure modes: a sentence about the record. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <string.h>

#include "core/core.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_classic_group.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_consumer_group.h"
#include "proto/gen/record_control.h"
#include "proto/gen/record_quorum.h"
#include "proto/gen/record_security.h"
#include "proto/gen/record_topic.h"
#include "proto/gen/record_transaction.h"

typedef int decoder(struct wire_reader *r, int16_t version, struct arena *arena);

#define DECODER(message)                                                                           \
    static int take_##message(struct wire_reader *r, int16_t version, struct arena *arena)         \
    {                                                                                              \
        struct message m;                                                                          \
        return message##_decode(&m, r, version, arena);                                            \
    }

DECODER(offset_commit_key)
DECODER(offset_commit_value)
DECODER(group_metadata_key)
DECODER(group_metadata_value)
DECODER(consumer_group_metadata_key)
DECODER(consumer_group_metadata_value)
DECODER(consumer_group_partition_metadata_key)
DECODER(consumer_group_partition_metadata_value)
DECODER(consumer_group_member_metadata_key)
DECODER(consumer_group_member_metadata_value)
DECODER(consumer_group_target_assignment_metadata_key)
DECODER(consumer_group_target_assignment_metadata_value)
DECODER(consumer_group_target_assignment_member_key)
DECODER(consumer_group_target_assignment_member_value)
DECODER(consumer_group_current_member_assignment_key)
DECODER(consumer_group_current_member_assignment_value)
DECODER(consumer_group_regular_expression_key)
DECODER(consumer_group_regular_expression_value)
DECODER(transaction_log_key)
DECODER(transaction_log_value)
DECODER(leader_change_message)
DECODER(snapshot_header_record)
DECODER(snapshot_footer_record)
DECODER(kraft_version_record)
DECODER(voters_record)

struct kind { /* of a record with a key: the key's first two bytes say which */
    int16_t number, version_max;
    decoder *key, *value;
};

#define KIND(upper, lower)                                                                         \
    {                                                                                              \
        upper##_KEY_API_KEY, upper##_VALUE_VERSION_MAX, take_##lower##_key, take_##lower##_value   \
    }

static const struct kind group_kinds[] = {
    {0, OFFSET_COMMIT_VALUE_VERSION_MAX, take_offset_commit_key, take_offset_commit_value},
    KIND(OFFSET_COMMIT, offset_commit),
    KIND(GROUP_METADATA, group_metadata),
    KIND(CONSUMER_GROUP_METADATA, consumer_group_metadata),
    KIND(CONSUMER_GROUP_PARTITION_METADATA, consumer_group_partition_metadata),
    KIND(CONSUMER_GROUP_MEMBER_METADATA, consumer_group_member_metadata),
    KIND(CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA, consumer_group_target_assignment_metadata),
    KIND(CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER, consumer_group_target_assignment_member),
    KIND(CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT, consumer_group_current_member_assignment),
    KIND(CONSUMER_GROUP_REGULAR_EXPRESSION, consumer_group_regular_expression),
};

static const struct kind txn_kinds[] = {KIND(TRANSACTION_LOG, transaction_log)};

static decoder *const controls[] = {
    [BATCH_CONTROL_LEADER_CHANGE] = take_leader_change_message,
    [BATCH_CONTROL_SNAPSHOT_HEADER] = take_snapshot_header_record,
    [BATCH_CONTROL_SNAPSHOT_FOOTER] = take_snapshot_footer_record,
    [BATCH_CONTROL_KRAFT_VERSION] = take_kraft_version_record,
    [BATCH_CONTROL_KRAFT_VOTERS] = take_voters_record,
};

static const struct kind *kind_find(const struct integrity_log *l, int16_t number)
{
    bool groups = l->kind == FOLDER_OFFSETS;
    const struct kind *kinds = groups ? group_kinds : txn_kinds;
    size_t count = groups ? sizeof(group_kinds) / sizeof(group_kinds[0])
                          : sizeof(txn_kinds) / sizeof(txn_kinds[0]);
    for (size_t i = 0; i < count; i++)
        if (kinds[i].number == number)
            return &kinds[i];
    return NULL;
}

static const char *keyed_wrong(const struct integrity_log *l, const struct record *r,
                               struct arena *arena)
{
    struct wire_reader key, value;
    if (r->key.data == NULL || r->key.size < 2)
        return "a record has no key that says what it is";
    wire_reader_init(&key, r->key.data, r->key.size);
    const struct kind *k = kind_find(l, wire_get_int16(&key));
    if (k == NULL)
        return NULL; /* of a later Kafka, or another sort of group */
    if (k->key(&key, 0, arena) != 0)
        return "the key of a record cannot be read";
    if (r->value.data == NULL)
        return NULL;
    wire_reader_init(&value, r->value.data, r->value.size);
    int16_t version = wire_get_int16(&value);
    if (version < 0 || r->value.size < 2)
        return "the value of a record has no version";
    if (version <= k->version_max && k->value(&value, version, arena) != 0)
        return "the value of a record cannot be read";
    return NULL;
}

static const char *control_wrong(const struct integrity_log *l, const struct record *r,
                                 struct arena *arena)
{
    struct wire_reader value;
    if (r->key.data == NULL || r->key.size < BATCH_CONTROL_KEY_SIZE || r->value.data == NULL)
        return "a control record is cut short";
    uint16_t type = wire_load16(r->key.data + 2);
    if (l->kind != FOLDER_METADATA || type >= sizeof(controls) / sizeof(controls[0]) ||
        controls[type] == NULL)
        return NULL;
    wire_reader_init(&value, r->value.data, r->value.size);
    return controls[type](&value, 0, arena) != 0 ? "a control record cannot be read" : NULL;
}

/* Replayed as a start replays it: what it is about must be there. */
static const char *metadata_wrong(struct integrity_log *l, const struct batch_header *h,
                                  const struct record *r)
{
    struct wire_reader in;
    int16_t key, version;
    struct record_value value = {r->value.data, r->value.size};
    if (value.data == NULL || !record_open_frame(value, &in, &key, &version))
        return "a record has no frame";
    if (l->replay == NULL || h->base_offset < l->snapshot_from)
        return NULL;
    int error = replay_record(l->replay, value);
    if (error == -ENOMEM)
        return "no memory to replay the metadata";
    return error == 0                  ? NULL
           : l->replay->why[0] != '\0' ? l->replay->why
                                       : "a record cannot be replayed";
}

const char *integrity_record(struct integrity_log *l, const struct batch_header *h,
                             const struct record *r, struct arena *arena)
{
    if (batch_has(h, BATCH_CONTROL))
        return control_wrong(l, r, arena);
    if (l->kind == FOLDER_METADATA)
        return metadata_wrong(l, h, r);
    return l->kind == FOLDER_RECORDS ? NULL : keyed_wrong(l, r, arena);
}
