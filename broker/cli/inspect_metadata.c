/* torc inspect metadata: what the metadata log or a snapshot says, a line per record.
 *
 *   offset 12 epoch 1  TOPIC_RECORD v0  name=orders id=...
 *
 * Records are read with the codecs that the broker replays them with. Kinds whose fields are long
 * or secret are named without them.
 *
 * Failure modes: exit code 1 for bytes that are no whole batch, wrong checksums, and records that
 * cannot be read; what can be read is shown all the same. */
#include "broker/cli/batches.h"

#include <stdio.h>
#include <string.h>

#include "broker/quorum/metalog.h"
#include "broker/quorum/records.h"
#include "core/arena.h"
#include "core/core.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_security.h"
#include "proto/gen/record_topic.h"

#define RECORD_MEMORY_BYTES (64u << 20)
#define SUMMARY_ROOM        1024

struct line { /* a record's fields, as text */
    char text[SUMMARY_ROOM];
    size_t used;
};

static const struct {
    int16_t key;
    const char *name;
} kinds[] = {
    {REGISTER_BROKER_RECORD_API_KEY, "REGISTER_BROKER_RECORD"},
    {UNREGISTER_BROKER_RECORD_API_KEY, "UNREGISTER_BROKER_RECORD"},
    {TOPIC_RECORD_API_KEY, "TOPIC_RECORD"},
    {PARTITION_RECORD_API_KEY, "PARTITION_RECORD"},
    {CONFIG_RECORD_API_KEY, "CONFIG_RECORD"},
    {PARTITION_CHANGE_RECORD_API_KEY, "PARTITION_CHANGE_RECORD"},
    {FENCE_BROKER_RECORD_API_KEY, "FENCE_BROKER_RECORD"},
    {UNFENCE_BROKER_RECORD_API_KEY, "UNFENCE_BROKER_RECORD"},
    {REMOVE_TOPIC_RECORD_API_KEY, "REMOVE_TOPIC_RECORD"},
    {DELEGATION_TOKEN_RECORD_API_KEY, "DELEGATION_TOKEN_RECORD"},
    {USER_SCRAM_CREDENTIAL_RECORD_API_KEY, "USER_SCRAM_CREDENTIAL_RECORD"},
    {FEATURE_LEVEL_RECORD_API_KEY, "FEATURE_LEVEL_RECORD"},
    {CLIENT_QUOTA_RECORD_API_KEY, "CLIENT_QUOTA_RECORD"},
    {PRODUCER_IDS_RECORD_API_KEY, "PRODUCER_IDS_RECORD"},
    {BROKER_REGISTRATION_CHANGE_RECORD_API_KEY, "BROKER_REGISTRATION_CHANGE_RECORD"},
    {ACCESS_CONTROL_ENTRY_RECORD_API_KEY, "ACCESS_CONTROL_ENTRY_RECORD"},
    {REMOVE_ACCESS_CONTROL_ENTRY_RECORD_API_KEY, "REMOVE_ACCESS_CONTROL_ENTRY_RECORD"},
    {NO_OP_RECORD_API_KEY, "NO_OP_RECORD"},
    {ZK_MIGRATION_STATE_RECORD_API_KEY, "ZK_MIGRATION_STATE_RECORD"},
    {REMOVE_USER_SCRAM_CREDENTIAL_RECORD_API_KEY, "REMOVE_USER_SCRAM_CREDENTIAL_RECORD"},
    {BEGIN_TRANSACTION_RECORD_API_KEY, "BEGIN_TRANSACTION_RECORD"},
    {END_TRANSACTION_RECORD_API_KEY, "END_TRANSACTION_RECORD"},
    {ABORT_TRANSACTION_RECORD_API_KEY, "ABORT_TRANSACTION_RECORD"},
    {REMOVE_DELEGATION_TOKEN_RECORD_API_KEY, "REMOVE_DELEGATION_TOKEN_RECORD"},
    {REGISTER_CONTROLLER_RECORD_API_KEY, "REGISTER_CONTROLLER_RECORD"},
    {CLEAR_ELR_RECORD_API_KEY, "CLEAR_ELR_RECORD"},
};

static const char *kind_name(int16_t key)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].key == key)
            return kinds[i].name;
    return NULL;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static void put(struct line *l, const char *name, const char *value)
{
    assert(l->used < SUMMARY_ROOM);
    l->used += (size_t)snprintf(l->text + l->used, SUMMARY_ROOM - l->used, "%s%s=%s",
                                l->used == 0 ? "" : " ", name, value);
    l->used = MIN(l->used, SUMMARY_ROOM - 1u);
}

static void put_text(struct line *l, const char *name, struct wire_string value)
{
    char shown[400];
    if (value.data == NULL)
        put(l, name, "null");
    else
        put(l, name, trace_escape(shown, sizeof(shown), value.data, (size_t)value.size));
}

static void put_integer(struct line *l, const char *name, int64_t value)
{
    char shown[24];
    snprintf(shown, sizeof(shown), "%lld", (long long)value);
    put(l, name, shown);
}

static void put_uuid(struct line *l, const char *name, struct uuid value)
{
    char shown[UUID_TEXT_SIZE];
    put(l, name, uuid_text(value, shown));
}

static void put_ids(struct line *l, const char *name, const int32_t *ids, int32_t count)
{
    char shown[200];
    size_t used = (size_t)snprintf(shown, sizeof(shown), "[");
    for (int32_t i = 0; i < count && used < sizeof(shown) - 16; i++)
        used +=
            (size_t)snprintf(shown + used, sizeof(shown) - used, "%s%d", i == 0 ? "" : ",", ids[i]);
    snprintf(shown + used, sizeof(shown) - used, "]");
    put(l, name, shown);
}

static int show_partition(struct line *l, struct wire_reader *r, int16_t version,
                          struct arena *arena)
{
    struct partition_record m;
    int result = partition_record_decode(&m, r, version, arena);
    if (result != 0)
        return result;
    put_uuid(l, "topic", m.topic_id);
    put_integer(l, "partition", m.partition_id);
    put_ids(l, "replicas", m.replicas, m.replicas_count);
    put_ids(l, "isr", m.isr, m.isr_count);
    put_integer(l, "leader", m.leader);
    put_integer(l, "leader-epoch", m.leader_epoch);
    put_integer(l, "partition-epoch", m.partition_epoch);
    return 0;
}

static int show_partition_change(struct line *l, struct wire_reader *r, int16_t version,
                                 struct arena *arena)
{
    struct partition_change_record m;
    int result = partition_change_record_decode(&m, r, version, arena);
    if (result != 0)
        return result;
    put_uuid(l, "topic", m.topic_id);
    put_integer(l, "partition", m.partition_id);
    if (m.isr_count >= 0)
        put_ids(l, "isr", m.isr, m.isr_count);
    if (m.leader != -2) /* no change */
        put_integer(l, "leader", m.leader);
    if (m.replicas_count >= 0)
        put_ids(l, "replicas", m.replicas, m.replicas_count);
    return 0;
}

static int show_register_broker(struct line *l, struct wire_reader *r, int16_t version,
                                struct arena *arena)
{
    struct register_broker_record m;
    int result = register_broker_record_decode(&m, r, version, arena);
    if (result != 0)
        return result;
    put_integer(l, "broker", m.broker_id);
    put_integer(l, "epoch", m.broker_epoch);
    put_uuid(l, "incarnation", m.incarnation_id);
    put_text(l, "rack", m.rack);
    put(l, "fenced", m.fenced ? "true" : "false");
    return 0;
}

static int show_config(struct line *l, struct wire_reader *r, int16_t version, struct arena *arena)
{
    struct config_record m;
    int result = config_record_decode(&m, r, version, arena);
    if (result != 0)
        return result;
    bool secret = m.name.size > 8 && (memmem(m.name.data, (size_t)m.name.size, "password", 8) ||
                                      memmem(m.name.data, (size_t)m.name.size, "jaas", 4) ||
                                      memmem(m.name.data, (size_t)m.name.size, "secret", 6));
    put_integer(l, "resource-type", m.resource_type);
    put_text(l, "resource", m.resource_name);
    put_text(l, "name", m.name);
    put_text(l, "value", secret ? wire_string_of("(secret)") : m.value);
    return 0;
}

/* Kinds of one or two fields. -1: not one of these. */
static int show_small(struct line *l, int16_t key, struct wire_reader *r, int16_t version,
                      struct arena *arena)
{
    union {
        struct topic_record topic;
        struct remove_topic_record removed;
        struct feature_level_record feature;
        struct producer_ids_record ids;
        struct begin_transaction_record begin;
        struct clear_elr_record clear;
    } m;
    int result;
    switch (key) {
    case TOPIC_RECORD_API_KEY:
        result = topic_record_decode(&m.topic, r, version, arena);
        if (result == 0) {
            put_text(l, "name", m.topic.name);
            put_uuid(l, "id", m.topic.topic_id);
        }
        return result;
    case REMOVE_TOPIC_RECORD_API_KEY:
        result = remove_topic_record_decode(&m.removed, r, version, arena);
        if (result == 0)
            put_uuid(l, "id", m.removed.topic_id);
        return result;
    case FEATURE_LEVEL_RECORD_API_KEY:
        result = feature_level_record_decode(&m.feature, r, version, arena);
        if (result == 0) {
            put_text(l, "name", m.feature.name);
            put_integer(l, "level", m.feature.feature_level);
        }
        return result;
    case PRODUCER_IDS_RECORD_API_KEY:
        result = producer_ids_record_decode(&m.ids, r, version, arena);
        if (result == 0)
            put_integer(l, "next", m.ids.next_producer_id);
        return result;
    case BEGIN_TRANSACTION_RECORD_API_KEY:
        result = begin_transaction_record_decode(&m.begin, r, version, arena);
        if (result == 0)
            put_text(l, "name", m.begin.name);
        return result;
    case CLEAR_ELR_RECORD_API_KEY:
        result = clear_elr_record_decode(&m.clear, r, version, arena);
        if (result == 0)
            put_text(l, "topic", m.clear.topic_name);
        return result;
    default:
        return 0; /* named only */
    }
}

static int show_fields(struct line *l, int16_t key, struct wire_reader *r, int16_t version,
                       struct arena *arena)
{
    if (key == PARTITION_RECORD_API_KEY)
        return show_partition(l, r, version, arena);
    if (key == PARTITION_CHANGE_RECORD_API_KEY)
        return show_partition_change(l, r, version, arena);
    if (key == REGISTER_BROKER_RECORD_API_KEY)
        return show_register_broker(l, r, version, arena);
    if (key == CONFIG_RECORD_API_KEY)
        return show_config(l, r, version, arena);
    return show_small(l, key, r, version, arena);
}

/* ---- records --------------------------------------------------------------------------------- */

static void print_record(struct cli *c, int64_t offset, int32_t epoch, const char *kind,
                         int16_t version, const char *fields)
{
    if (cli_count(c, "json") == 0) {
        cli_print(c, "offset %lld epoch %d  %s v%d  %s\n", (long long)offset, epoch, kind, version,
                  fields);
        return;
    }
    cli_json_open(c, NULL, '{');
    cli_json_integer(c, "offset", offset);
    cli_json_integer(c, "epoch", epoch);
    cli_json_text(c, "type", kind);
    cli_json_integer(c, "version", version);
    cli_json_text(c, "fields", fields);
    cli_json_close(c, '}');
}

static bool show_value(struct cli *c, const struct batch_header *h, const struct record *r)
{
    struct wire_reader reader;
    struct arena arena;
    struct line l = {.used = 0};
    int16_t key, version;
    struct record_value value = {r->value.data, r->value.size};
    int64_t offset = h->base_offset + r->offset_delta;
    if (r->value.data == NULL || !record_open_frame(value, &reader, &key, &version)) {
        print_record(c, offset, h->leader_epoch, "UNREADABLE", -1, "");
        return false;
    }
    const char *kind = kind_name(key);
    if (kind == NULL) {
        put_integer(&l, "key", key);
        print_record(c, offset, h->leader_epoch, "UNKNOWN", version, l.text);
        return false;
    }
    arena_init(&arena, &c->mem, RECORD_MEMORY_BYTES);
    bool readable = show_fields(&l, key, &reader, version, &arena) == 0;
    arena_release(&arena);
    print_record(c, offset, h->leader_epoch, kind, version, readable ? l.text : "UNREADABLE");
    return readable;
}

static bool show_control(struct cli *c, const struct batch_header *h, const struct record *r)
{
    static const char *const names[] = {"ABORT",           "COMMIT",          "LEADER_CHANGE",
                                        "SNAPSHOT_HEADER", "SNAPSHOT_FOOTER", "KRAFT_VERSION",
                                        "KRAFT_VOTERS"};
    if (r->key.data == NULL || r->key.size < BATCH_CONTROL_KEY_SIZE)
        return false;
    uint32_t type = (uint32_t)r->key.data[2] << 8 | r->key.data[3];
    bool known = type < sizeof(names) / sizeof(names[0]);
    print_record(c, h->base_offset + r->offset_delta, h->leader_epoch,
                 known ? names[type] : "UNKNOWN_CONTROL", 0, "");
    return known;
}

static bool show_batch(struct cli *c, const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record r;
    bool good = true;
    if (batch_codec(h) != CODEC_NONE) /* nobody writes them so */
        return false;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    while (record_next(&it, &r))
        good =
            (batch_has(h, BATCH_CONTROL) ? show_control(c, h, &r) : show_value(c, h, &r)) && good;
    return good && !it.malformed;
}

static int inspect_file(struct cli *c, const char *path)
{
    struct batches b;
    const uint8_t *batch;
    struct batch_header h;
    uint64_t position, invalid = 0;
    char shown[512];
    bool json = cli_count(c, "json") > 0;
    int error = batches_open(&b, c, path);
    if (error != 0) {
        cli_complain(c, "%s cannot be read: %s", cli_shown(&shown, path), strerror(-error));
        return EXIT_FAILED;
    }
    if (json) {
        cli_json_open(c, NULL, '{');
        cli_json_text(c, "path", path);
        cli_json_open(c, "records", '[');
    } else {
        cli_print(c, "%s\n", cli_shown(&shown, path));
    }
    while (batches_next(&b, &batch, &h, &position))
        invalid += batch_crc_matches(batch, h.size) && show_batch(c, batch, &h) ? 0 : 1;
    if (json) {
        cli_json_close(c, ']');
        cli_json_integer(c, "invalid_batches", (int64_t)invalid);
        cli_json_text(c, "wrong", b.wrong);
        cli_json_close(c, '}');
    }
    int result = batches_verdict(c, path, &b, invalid);
    batches_close(&b);
    return result;
}

/* A log directory stands for the metadata folder in it. */
static const char *metadata_path(struct cli *c, const char *path)
{
    struct io_stat stat;
    struct io *io = cli_io(c);
    size_t room = strlen(path) + sizeof(METALOG_FOLDER) + 1;
    char *inside = mem_alloc(&c->mem, room); /* freed with the command's memory */
    if (io == NULL || inside == NULL)
        return path;
    snprintf(inside, room, "%s/%s", path, METALOG_FOLDER);
    return io_stat(io, inside, &stat) == 0 && stat.is_directory ? inside : path;
}

int command_inspect_metadata(struct cli *c)
{
    static const char *const suffixes[] = {".checkpoint", ".log", NULL};
    struct files *found = mem_alloc(&c->mem, sizeof(*found));
    const char *path = metadata_path(c, c->parsed.positionals[0]);
    char shown[512];
    int count = found == NULL ? -1 : files_find(c, path, suffixes, found);
    if (count <= 0) {
        cli_complain(c, "%s: %s", cli_shown(&shown, path),
                     count == 0 ? "there is no metadata log or snapshot in it" : strerror(-count));
        return EXIT_FAILED;
    }
    int result = EXIT_OK;
    bool json = cli_count(c, "json") > 0;
    if (json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '[');
    }
    for (uint32_t i = 0; i < found->count; i++)
        if (inspect_file(c, found->paths[i]) != EXIT_OK)
            result = EXIT_FAILED;
    if (json) {
        cli_json_close(c, ']');
        cli_json_end(c, result == EXIT_OK ? NULL : "not every record can be read");
    }
    return result;
}
