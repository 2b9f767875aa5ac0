/* Every message there is, in every version it has: filled from a seed, encoded, decoded, encoded
 * again. And the tables that say which messages there are. */
#include "filler.h"
#include "proto/gen/api.h"
#include "proto/gen/api_versions.h"
#include "proto/gen/entries.h"
#include "proto/gen/fetch.h"
#include "proto/gen/header.h"
#include "proto/gen/list_offsets.h"
#include "proto/gen/metadata.h"
#include "proto/gen/record_classic_group.h"
#include "proto/gen/record_consumer_group.h"
#include "proto/gen/record_consumer_protocol.h"
#include "proto/gen/record_topic.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#define ROUNDS     40
#define OUTPUT_MAX (1 << 20)
#define BUDGET     (64u << 20)

struct bench { /* what each test needs, and whether it gave it all back */
    struct mem mem;
    struct arena arena;
    uint8_t *first, *second;
};

static void bench_open(struct bench *b)
{
    cr_assert_eq(mem_init(&b->mem, BUDGET), 0);
    arena_init(&b->arena, &b->mem, BUDGET / 2);
    b->first = mem_alloc(&b->mem, OUTPUT_MAX);
    b->second = mem_alloc(&b->mem, OUTPUT_MAX);
    cr_assert(b->first && b->second);
}

static void bench_close(struct bench *b)
{
    arena_release(&b->arena);
    mem_free(&b->mem, b->first, OUTPUT_MAX);
    mem_free(&b->mem, b->second, OUTPUT_MAX);
    cr_assert_eq(b->mem.used_bytes, 0);
    mem_destroy(&b->mem);
}

/* Encodes into exactly the room that was measured. */
static uint64_t encode(const struct proto_entry *e, const void *m, int16_t version, uint8_t *to)
{
    uint64_t size = e->size(m, version);
    cr_assert_leq(size, OUTPUT_MAX, "%s", e->shape.name);
    struct wire_writer w;
    wire_writer_init(&w, to, size);
    e->encode(m, &w, version);
    cr_assert(wire_writer_ok(&w), "%s v%d", e->shape.name, version);
    cr_assert_eq(w.position, size, "%s v%d", e->shape.name, version);
    return size;
}

static void fill(struct bench *b, struct filler *f, const struct proto_entry *e, void *m,
                 int16_t version)
{
    (void)b;
    cr_assert(filler_fill(f, &e->shape, m, version), "%s v%d", e->shape.name, version);
}

/* A message with its bytes at b->first; the caller's to look at until the arena is released. */
static uint64_t make(struct bench *b, uint64_t seed, const struct proto_entry *e, int16_t version)
{
    struct filler f = {.state = seed, .arena = &b->arena};
    void *m = arena_alloc(&b->arena, e->shape.size);
    cr_assert(m);
    fill(b, &f, e, m, version);
    return encode(e, m, version, b->first);
}

static void round_trip(struct bench *b, uint64_t seed, const struct proto_entry *e, int16_t version)
{
    uint64_t size = make(b, seed, e, version);
    void *copy = arena_alloc(&b->arena, e->shape.size);
    cr_assert(copy);
    struct wire_reader r;
    wire_reader_init(&r, b->first, size);
    int error = e->decode(copy, &r, version, &b->arena);
    cr_assert_eq(error, 0, "%s v%d seed %lu: %d", e->shape.name, version, seed, error);
    cr_assert_eq(wire_left(&r), 0, "%s v%d", e->shape.name, version);
    cr_assert_eq(encode(e, copy, version, b->second), size, "%s v%d", e->shape.name, version);
    cr_assert_eq(memcmp(b->first, b->second, size), 0, "%s v%d", e->shape.name, version);
    arena_release(&b->arena);
}

Test(messages, come_back_the_same_from_their_bytes)
{
    struct bench b;
    bench_open(&b);
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        for (int16_t v = e->version_min; v <= e->version_max; v++)
            for (uint64_t round = 1; round <= ROUNDS; round++)
                round_trip(&b, round * 0x9e3779b97f4a7c15, e, v);
    }
    bench_close(&b);
}

/* No message ends in bytes that nobody reads. */
Test(messages, cut_short_anywhere_are_malformed)
{
    struct bench b;
    bench_open(&b);
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        for (int16_t v = e->version_min; v <= e->version_max; v++) {
            uint64_t size = make(&b, 77 + i, e, v);
            for (uint64_t cut = 0; cut < size; cut += 1 + cut / 64) {
                memcpy(b.second + OUTPUT_MAX - cut, b.first, cut);
                struct wire_reader r;
                wire_reader_init(&r, b.second + OUTPUT_MAX - cut, cut);
                void *m = arena_alloc(&b.arena, e->shape.size);
                cr_assert_eq(e->decode(m, &r, v, &b.arena), WIRE_MALFORMED, "%s v%d cut at %lu",
                             e->shape.name, v, cut);
            }
            arena_release(&b.arena);
        }
    }
    bench_close(&b);
}

/* ---- golden bytes: what Kafka 4.3.1 puts on the wire ----------------------------------------- */

static const struct proto_entry *entry(const char *name)
{
    for (uint32_t i = 0; i < proto_entries_count; i++)
        if (strcmp(proto_entries[i].shape.name, name) == 0)
            return &proto_entries[i];
    abort(); /* no message of that name */
}

static uint8_t digit(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* Decodes the hex into m, which must take all of it and give the same bytes again. */
static void golden(struct bench *b, const char *name, int16_t version, const char *hex, void *m)
{
    const struct proto_entry *e = entry(name);
    size_t size = strlen(hex) / 2;
    cr_assert_leq(size, OUTPUT_MAX);
    for (size_t i = 0; i < size; i++)
        b->first[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    struct wire_reader r;
    wire_reader_init(&r, b->first, size);
    cr_assert_eq(e->decode(m, &r, version, &b->arena), 0, "%s", name);
    cr_assert_eq(wire_left(&r), 0, "%s", name);
    cr_assert_eq(encode(e, m, version, b->second), size, "%s", name);
    cr_assert_eq(memcmp(b->first, b->second, size), 0, "%s", name);
}

static bool is(struct wire_string s, const char *text)
{
    return wire_string_equal(s, wire_string_of(text));
}

Test(golden, request_header_keeps_the_classic_client_id)
{
    struct bench b;
    bench_open(&b);
    struct request_header m;
    golden(&b, "request_header", 2, "000100100000000700026d6500", &m);
    cr_assert(m.request_api_key == 1 && m.request_api_version == 16 && m.correlation_id == 7);
    cr_assert(is(m.client_id, "me"));
    bench_close(&b);
}

Test(golden, fetch_response_with_tags_and_records)
{
    struct bench b;
    bench_open(&b);
    struct fetch_response m;
    golden(&b, "fetch_response", 16,
           "0000000100000000002a020102030405060708090a0b0c0d0e0f1002000000030006000000000000"
           "0064000000000000005a000000000000000502000000000000004d000000000000005800ffffffff"
           "04deadbe0101090000000200000009000001000d02000000020268000023840000",
           &m);
    cr_assert(m.throttle_time_ms == 1 && m.session_id == 42 && m.responses_count == 1);
    const struct fetch_response_partition_data *p = m.responses[0].partitions;
    cr_assert(p->partition_index == 3 && p->error_code == 6 && p->high_watermark == 100);
    cr_assert(p->aborted_transactions_count == 1 && p->aborted_transactions[0].producer_id == 77);
    cr_assert(p->current_leader.leader_id == 2 && p->current_leader.leader_epoch == 9);
    cr_assert_eq(p->diverging_epoch.end_offset, -1, "an absent tag leaves the default");
    cr_assert(p->records.size == 3 && p->records.data[0] == 0xde);
    cr_assert(m.node_endpoints_count == 1 && m.node_endpoints[0].port == 9092);
    cr_assert_eq(m.node_endpoints[0].rack.size, -1);
    bench_close(&b);
}

Test(golden, partition_record_of_the_metadata_log)
{
    struct bench b;
    bench_open(&b);
    struct partition_record m;
    golden(&b, "partition_record", 2,
           "000000010102030405060708090a0b0c0d0e0f100300000001000000020200000001010100000001"
           "0000000400000005030102030405060708090a0b0c0d0e0f100102030405060708090a0b0c0d0e0f"
           "100200010101050200000002",
           &m);
    cr_assert(m.replicas_count == 2 && m.replicas[1] == 2 && m.isr_count == 1);
    cr_assert(m.leader == 1 && m.leader_epoch == 4 && m.partition_epoch == 5);
    cr_assert(m.leader_recovery_state == 1 && m.directories_count == 2);
    cr_assert(m.eligible_leader_replicas_count == 1 && m.eligible_leader_replicas[0] == 2);
    cr_assert_eq(m.last_known_elr_count, -1);
    bench_close(&b);
}

Test(golden, offset_commit_value_with_a_tagged_topic_id)
{
    struct bench b;
    bench_open(&b);
    struct offset_commit_value m;
    golden(&b, "offset_commit_value", 4,
           "000000000000000a00000003026d0000011f71fb04cb0100100102030405060708090a0b0c0d0e0f10",
           &m);
    cr_assert(m.offset == 10 && m.leader_epoch == 3 && is(m.metadata, "m"));
    cr_assert(m.commit_timestamp == 1234567890123 && m.topic_id.bytes[15] == 0x10);
    bench_close(&b);
}

Test(golden, null_struct_in_a_tag_is_one_zero_byte)
{
    struct bench b;
    bench_open(&b);
    struct consumer_group_member_metadata_value m;
    golden(&b, "consumer_group_member_metadata_value", 0, "010101010101ffffffff0100", &m);
    cr_assert(m.classic_member_metadata, "left out, it is not null but its default");
    golden(&b, "consumer_group_member_metadata_value", 0, "010101010101ffffffff0101000100", &m);
    cr_assert_null(m.classic_member_metadata);
    golden(&b, "consumer_group_member_metadata_value", 0,
           "010101010101ffffffff01010007010000000501"
           "00",
           &m);
    cr_assert_eq(m.classic_member_metadata->session_timeout_ms, 5);
    bench_close(&b);
}

Test(golden, classic_encoding_of_list_offsets_and_subscription)
{
    struct bench b;
    bench_open(&b);
    struct list_offsets_request l;
    golden(&b, "list_offsets_request", 2,
           "ffffffff01000000010001740000000100000000ffffffffffffffff", &l);
    cr_assert(l.isolation_level == 1 && is(l.topics[0].name, "t"));
    cr_assert_eq(l.topics[0].partitions[0].timestamp, -1);
    struct consumer_protocol_subscription s;
    golden(&b, "consumer_protocol_subscription", 3,
           "0000000200016100026263ffffffff0000000000000005000172", &s);
    cr_assert(s.topics_count == 2 && is(s.topics[1], "bc") && s.user_data.size == -1);
    cr_assert(s.generation_id == 5 && is(s.rack_id, "r"));
    bench_close(&b);
}

/* The answer of a 4.3.1 broker to ApiVersions v0, without its header. */
static const char api_versions_answer[] =
    "00000000004b00000000000d00010004001200020001000b00030000000d00080002000a00090001000a"
    "000a00000006000b00000009000c00000004000d00000005000e00000005000f00000006001000000005"
    "001100000001001200000004001300020007001400010006001500000002001600000005001700020004"
    "001800000005001900000004001a00000005001b00010002001c00000005001d00010003001e00010003"
    "001f00010003002000010004002100000002002200010002002300010005002400000002002500000003"
    "002600010003002700010002002800010002002900010003002a00000002002b00000002002c00000001"
    "002d00000001002e00000000002f00000000003000000001003100000001003200000000003300000000"
    "003700000002003900000002003c00000002003d00000000004000000000004100000000004200000002"
    "004400000001004500000001004a00000001004b00000000004c00010001004d00010001004e00010002"
    "004f00010002005000000001005100000000005300000000005400000000005500000001005600000000"
    "005700000001005800000000005900000000005a00000001005b00000000005c00000000";

Test(golden, our_ranges_are_those_that_a_broker_offers)
{
    struct bench b;
    bench_open(&b);
    struct api_versions_response m;
    golden(&b, "api_versions_response", 0, api_versions_answer, &m);
    cr_assert_gt(m.api_keys_count, 70);
    for (int32_t i = 0; i < m.api_keys_count; i++) {
        const struct api_info *info = api_find(m.api_keys[i].api_key);
        cr_assert(info, "%d", m.api_keys[i].api_key);
        cr_assert_eq(info->advertised_min, m.api_keys[i].min_version, "%s", info->name);
        cr_assert_eq(info->advertised_max, m.api_keys[i].max_version, "%s", info->name);
        cr_assert(info->listeners & API_ON_BROKER, "%s", info->name);
    }
    bench_close(&b);
}

/* ---- tables ---------------------------------------------------------------------------------- */

Test(api, is_found_by_key_and_nothing_else_is)
{
    uint32_t count = 0;
    for (int32_t key = INT16_MIN; key <= INT16_MAX; key++) {
        const struct api_info *info = api_find((int16_t)key);
        if (!info)
            continue;
        count++;
        cr_assert_eq(info->key, key);
        cr_assert_leq(info->version_min, info->version_max, "%s", info->name);
        cr_assert_neq(info->listeners, 0, "%s", info->name);
    }
    cr_assert_eq(count, 89);
    cr_assert_null(api_find(4), "removed with ZooKeeper");
    cr_assert_null(api_find(API_KEYS_MAX + 1));
    cr_assert_str_eq(api_find(API_FETCH)->name, "Fetch");
}

Test(api, header_versions_follow_the_first_flexible_version)
{
    cr_assert_eq(api_request_header_version(API_FETCH, 11), 1);
    cr_assert_eq(api_request_header_version(API_FETCH, 12), 2);
    cr_assert_eq(api_response_header_version(API_FETCH, 11), 0);
    cr_assert_eq(api_response_header_version(API_FETCH, 12), 1);
    cr_assert_eq(api_request_header_version(API_SASL_HANDSHAKE, 1), 1, "never flexible");
    cr_assert_eq(api_request_header_version(API_API_VERSIONS, 3), 2);
    cr_assert_eq(api_response_header_version(API_API_VERSIONS, 3), 0, "the one exception");
}

Test(api, unstable_version_is_decoded_but_not_offered)
{
    const struct api_info *info = api_find(API_INIT_PRODUCER_ID);
    cr_assert(info->version_max == 6 && info->advertised_max == 5);
    info = api_find(API_PRODUCE);
    cr_assert(info->version_min == 3 && info->advertised_min == 0, "for old librdkafka");
}

Test(messages, have_kafkas_defaults)
{
    struct fetch_request m;
    fetch_request_init(&m);
    cr_assert(m.replica_id == -1 && m.max_bytes == 0x7fffffff && m.session_epoch == -1);
    cr_assert(m.cluster_id.size == -1 && m.rack_id.size == 0 && m.topics_count == 0);
    cr_assert_eq(m.replica_state.replica_epoch, -1);
    struct fetch_request_fetch_partition p;
    fetch_request_fetch_partition_init(&p);
    cr_assert_eq(p.high_watermark, INT64_MAX);
}

Test(messages, drop_an_ignorable_field_that_the_version_lacks)
{
    struct metadata_response m;
    metadata_response_init(&m);
    m.throttle_time_ms = 5; /* 3+ */
    uint64_t size = metadata_response_size(&m, 2);
    m.throttle_time_ms = 0;
    cr_assert_eq(metadata_response_size(&m, 2), size);
}

Test(messages, refuse_to_lose_a_field_that_the_version_lacks, .signal = SIGABRT)
{
    struct fetch_response_partition_data p;
    struct fetch_response_fetchable_topic_response topic;
    struct fetch_response m;
    fetch_response_init(&m);
    fetch_response_fetchable_topic_response_init(&topic);
    fetch_response_partition_data_init(&p);
    p.preferred_read_replica = 2; /* 11+, and a v10 client would read an empty partition */
    topic.partitions = &p;
    topic.partitions_count = 1;
    m.responses = &topic;
    m.responses_count = 1;
    cr_assert_eq(fetch_response_size(&m, 10), 0);
}

Test(messages, unknown_tags_are_skipped)
{
    struct bench b;
    bench_open(&b);
    static const uint8_t bytes[] = {0, 0, 0, 9, 2, 0, 1, 0xff, 7, 2, 1, 2};
    struct wire_reader r;
    struct response_header m;
    wire_reader_init(&r, bytes, sizeof(bytes));
    cr_assert_eq(response_header_decode(&m, &r, 1, &b.arena), 0);
    cr_assert_eq(m.correlation_id, 9);
    cr_assert_eq(wire_left(&r), 0);
    bench_close(&b);
}
