/* Any bytes as the records of __consumer_offsets or __transaction_state, as somebody else may have
 * written them. The shard is loaded from them, asked about what it found, and time passes; nothing
 * is out of bounds, and nothing is left. The first byte chooses the topic; then a row of records:
 * how it was written, sizes of key and value, key, value. Seeds: records of every kind, filled in.
 */
#include "tests/fuzz/fuzz.h"

#include "broker/group/group.h"
#include "broker/txn/txn.h"
#include "tests/proto/filler.h"

#define BUDGET      (64u << 20)
#define RECORDS_MAX 256u
#define TOMBSTONE   0xff

struct bench {
    struct mem mem;
    struct wheel wheel;
    uint64_t now_ns, random;
    int64_t wall_ms;
    struct broker_config config;
    struct group_world world;
};

/* ---- the world ------------------------------------------------------------------------------- */

static bool topic_t(struct group_topic_facts *to)
{
    *to = (struct group_topic_facts){.name = wire_string_of("t"), .partitions_count = 3};
    to->id.bytes[0] = 0x40;
    return true;
}

static bool world_by_name(void *context, struct wire_string name, struct group_topic_facts *to)
{
    (void)context;
    return wire_string_equal(name, wire_string_of("t")) && topic_t(to);
}

static bool world_by_id(void *context, struct uuid id, struct group_topic_facts *to)
{
    (void)context;
    return topic_t(to) && uuid_equal(id, to->id);
}

static bool world_after(void *context, struct wire_string name, struct group_topic_facts *to)
{
    (void)context;
    return name.size <= 0 && topic_t(to);
}

static uint32_t world_racks(void *context, const struct group_topic_facts *t, uint32_t partition,
                            struct wire_string *racks, uint32_t max)
{
    (void)context, (void)t, (void)partition, (void)racks, (void)max;
    return 0;
}

static int32_t world_setting(void *context, struct wire_string group, enum group_setting setting)
{
    (void)context, (void)group;
    return setting == GROUP_SESSION_TIMEOUT ? 45000 : 5000;
}

static int64_t world_version(void *context)
{
    (void)context;
    return 1;
}

static uint64_t bench_random(void *context)
{
    struct bench *b = context;
    return b->random = b->random * 6364136223846793005ull + 1442695040888963407ull;
}

static void bench_start(struct bench *b)
{
    int error = b->mem.budget_bytes == 0 ? mem_init(&b->mem, BUDGET) : 0;
    assert(error == 0);
    b->now_ns = 1000 * NS_PER_S;
    b->wall_ms = 1700000000000;
    b->random = 7;
    wheel_init(&b->wheel, b->now_ns);
    b->config = (struct broker_config){
        .group_min_session_timeout_ms = 1,
        .group_max_session_timeout_ms = 1800000,
        .group_max_size = INT32_MAX,
        .group_consumer_max_size = INT32_MAX,
        .group_consumer_assignors = {"uniform", "range"},
        .group_consumer_assignors_count = 2,
        .group_consumer_regex_refresh_interval_ms = 600000,
        .offset_metadata_max_bytes = 4096,
        .offsets_retention_minutes = 10080,
        .offsets_retention_check_interval_ms = 600000,
        .add_partitions_to_txn_retry_backoff_max_ms = 100,
        .transaction_max_timeout_ms = 900000,
        .transactional_id_expiration_ms = 604800000,
        .transaction_abort_timed_out_transaction_cleanup_interval_ms = 10000,
        .transaction_remove_expired_transaction_cleanup_interval_ms = 3600000,
    };
    b->world = (struct group_world){.context = b,
                                    .topic_by_name = world_by_name,
                                    .topic_by_id = world_by_id,
                                    .topic_after = world_after,
                                    .racks = world_racks,
                                    .setting = world_setting,
                                    .version = world_version};
}

static void pass(struct bench *b)
{
    for (uint32_t i = 0; i < 8; i++) {
        b->now_ns += i < 4 ? 20 * NS_PER_S : 40 * 3600 * NS_PER_S;
        b->wall_ms += i < 4 ? 20000 : 144000000;
        (void)wheel_run(&b->wheel, b->now_ns, 1000);
    }
}

/* ---- records --------------------------------------------------------------------------------- */

struct one {
    uint32_t how;
    struct batch_field key, value;
};

static bool read_one(struct fuzz_reader *r, struct one *one)
{
    if (r->left < 5)
        return false;
    one->how = fuzz_byte(r);
    uint32_t key_size = fuzz_u16(r), value_size = fuzz_u16(r);
    one->key.size = (uint32_t)fuzz_bytes(r, key_size, &one->key.data);
    one->value.size = (uint32_t)fuzz_bytes(r, value_size, &one->value.data);
    if (one->how == TOMBSTONE)
        one->value = (struct batch_field){NULL, 0};
    return true;
}

static void groups_changed(struct group_shard *s)
{
    shard_update_taken(&s->update);
    assert(list_empty(&s->update.answered));
}

static void groups(struct bench *b, struct fuzz_reader *r)
{
    static struct group_shard s;
    struct one one;
    s = (struct group_shard){.mem = &b->mem,
                             .wheel = &b->wheel,
                             .now_ns = &b->now_ns,
                             .wall_ms = &b->wall_ms,
                             .config = &b->config,
                             .world = &b->world,
                             .batch_bytes_max = 1048588,
                             .random = bench_random,
                             .changed = groups_changed,
                             .context = b};
    group_shard_init(&s, 7);
    for (uint32_t n = 0; n < RECORDS_MAX && read_one(r, &one); n++) {
        int64_t producer = (one.how & 3) == 1 ? (int64_t)(one.how >> 2) : -1;
        bool done = (one.how & 3) == 2
                        ? group_shard_replay_end(&s, one.how >> 3, (one.how & 4) != 0)
                        : group_shard_replay(&s, n, producer, one.key, one.value);
        assert(done);
    }
    group_shard_loaded(&s);
    groups_changed(&s);
    pass(b);
    group_shard_topic_changed(&s, wire_string_of("t"), true);
    groups_changed(&s);
    pass(b);
    group_shard_topic_deleted(&s, wire_string_of("t"), 0);
    group_shard_close(&s, KE_NOT_COORDINATOR);
    groups_changed(&s);
}

static void txns_changed(struct txn_shard *s)
{
    shard_update_taken(&s->update);
    while (list_pop_front(&s->update.answered) != NULL) {
    }
}

static void txns(struct bench *b, struct fuzz_reader *r)
{
    static struct txn_shard s;
    struct one one;
    s = (struct txn_shard){.mem = &b->mem,
                           .wheel = &b->wheel,
                           .now_ns = &b->now_ns,
                           .wall_ms = &b->wall_ms,
                           .config = &b->config,
                           .batch_bytes_max = 1048588,
                           .version = 2,
                           .changed = txns_changed,
                           .context = b};
    txn_shard_init(&s, 7);
    for (uint32_t n = 0; n < RECORDS_MAX && read_one(r, &one); n++) {
        bool done = txn_shard_replay(&s, one.key, one.value);
        assert(done);
    }
    txn_shard_loaded(&s);
    txns_changed(&s);
    pass(b);
    txn_shard_close(&s, KE_NOT_COORDINATOR);
    txns_changed(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bench b;
    struct fuzz_reader r = {data, size};
    if (size < 1 || size > FUZZ_INPUT_MAX)
        return 0;
    bench_start(&b);
    if ((fuzz_byte(&r) & 1) != 0)
        txns(&b, &r);
    else
        groups(&b, &r);
    assert(b.wheel.armed_count == 0);
    assert(b.mem.used_bytes == 0);
    return 0;
}

/* ---- seeds ----------------------------------------------------------------------------------- */

/* A message behind its two bytes, filled in: with the same seed keys begin with the same group. */
static size_t put_message(const struct proto_entry *e, int16_t version, int16_t first, uint8_t *to)
{
    struct mem mem;
    struct arena arena;
    struct wire_writer w;
    int error = mem_init(&mem, 1u << 20);
    assert(error == 0);
    arena_init(&arena, &mem, 1u << 19);
    struct filler f = {.state = 0x746f7263, .arena = &arena};
    void *m = arena_alloc(&arena, e->shape.size);
    bool filled = m != NULL && filler_fill(&f, &e->shape, m, version);
    assert(filled);
    wire_store16(to, (uint16_t)first);
    wire_writer_init(&w, to + 2, 8192);
    e->encode(m, &w, version);
    size_t size = wire_writer_ok(&w) ? 2 + w.position : 2;
    arena_release(&arena);
    mem_destroy(&mem);
    return size;
}

static const struct proto_entry *find(enum proto_kind kind, const struct proto_entry *like)
{
    size_t stem = strlen(like->shape.name) - strlen("key");
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        if (e->kind == kind && e->key == like->key && strlen(e->shape.name) > stem &&
            memcmp(e->shape.name, like->shape.name, stem) == 0)
            return e;
    }
    return NULL;
}

static size_t put_record(const struct proto_entry *key, int16_t version, uint8_t *to)
{
    const struct proto_entry *value = find(PROTO_VALUE, key);
    size_t key_size = put_message(key, 0, key->key, to + 5), value_size = 0;
    if (value != NULL)
        value_size = put_message(value, MIN(version, value->version_max),
                                 MIN(version, value->version_max), to + 5 + key_size);
    to[0] = 0;
    wire_store16(to + 1, (uint16_t)key_size);
    wire_store16(to + 3, (uint16_t)value_size);
    return 5 + key_size + value_size;
}

/* Of the n-th version of values: everything there is; then each kind by itself. */
size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    size_t size = 1;
    uint32_t kind = 0;
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        if (e->kind != PROTO_KEY)
            continue;
        bool transaction = strncmp(e->shape.name, "transaction", 11) == 0;
        if (n < 5 && !transaction && size < FUZZ_INPUT_MAX - 20000)
            size += put_record(e, (int16_t)n, to + size);
        if (n >= 5 && kind++ == n - 5)
            size += put_record(e, 9, to + size);
        if (n < 5 || size > 1)
            to[0] = n >= 5 && transaction;
        if (n >= 5 && size > 1)
            break;
    }
    return size > 1 ? size : 0;
}
