/* What a client may append: the table holds what Apache Kafka 4.3.1 answered to these very batches,
 * sent to it over the wire. Where torc answers otherwise, the row says both. */
#include "forge.h"
#include "golden_batches.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <string.h>

#define BUDGET  (512u << 20)
#define HOUR_MS 3600000ll
#define FAR     INT64_MAX

enum topic { PLAIN, COMPACTED, APPEND_TIME, NARROW_TIMES, AS_LZ4, AS_NONE, SMALL, SMALL_NONE };

static struct batch_rules rules_of(enum topic topic)
{
    struct batch_rules r = {
        .max_message_bytes = 1048588,
        .strict = true,
        .produce_version = 8,
        .timestamp_before_max_ms = FAR,
        .timestamp_after_max_ms = HOUR_MS,
        .now_ms = FORGE_NOW,
        .codec = BATCH_CODEC_PRODUCER,
        .codec_level = COMPRESS_LEVEL_DEFAULT,
        .unpacked_bytes_max = 1u << 20,
    };
    r.compacted = topic == COMPACTED;
    r.log_append_time = topic == APPEND_TIME;
    if (topic == NARROW_TIMES) {
        r.timestamp_before_max_ms = 1000000;
        r.timestamp_after_max_ms = 1000;
    }
    if (topic == AS_LZ4)
        r.codec = CODEC_LZ4;
    if (topic == AS_NONE || topic == SMALL_NONE)
        r.codec = CODEC_NONE;
    if (topic == SMALL || topic == SMALL_NONE)
        r.max_message_bytes = 200;
    return r;
}

#define SAME     0x7fff /* torc answers as Kafka does */
#define CUT_ALL  0xffffffff
#define SET(...) .b.patches = {__VA_ARGS__}
#define RAW(text)                                                                                  \
    {                                                                                              \
        .raw = text, .raw_size = sizeof(text) - 1                                                  \
    }
#define PACKED(text) .b.packed = text, .b.packed_size = sizeof(text) - 1

struct row {
    const char *fact;
    enum topic topic;
    enum kafka_error kafka;
    int differs; /* torc's own answer + SAME, when it is not Kafka's; 0: the same */
    int16_t version;
    struct forge_batch b;
    uint32_t cut;     /* bytes missing at the end of the record set */
    bool twice;       /* the batch again behind itself */
    uint32_t cut_two; /* bytes missing at the end of the second */
    const char *tail; /* bytes behind it all */
    uint32_t tail_size;
    uint32_t errors; /* record errors expected */
};

#define TORC(error) .differs = (error) + SAME

static const struct row rows[] = {
    {"a good batch", .kafka = KE_NONE},
    /* the request's form */
    {"nothing at all", .kafka = KE_INVALID_RECORD, .cut = CUT_ALL},
    {"a cut batch", .kafka = KE_INVALID_RECORD, .cut = 1},
    {"a cut batch of an old version", .kafka = KE_INVALID_RECORD, .cut = 1, .version = 3},
    {"a cut header", .kafka = KE_INVALID_RECORD, .cut = 14},
    {"17 bytes", .kafka = KE_INVALID_RECORD, .cut = 57},
    {"16 bytes", .kafka = KE_INVALID_RECORD, .cut = 58},
    {"10 bytes", .kafka = KE_INVALID_RECORD, .cut = 64},
    {"length 0", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, 0})},
    {"length 13", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, 13})},
    {"length 14", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, 14})},
    {"length 48", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, 48})},
    {"length 49", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, 49})},
    {"length -1", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_LENGTH, -1})},
    {"length INT32_MAX", .kafka = KE_UNKNOWN_SERVER_ERROR, TORC(KE_CORRUPT_MESSAGE),
     SET({FORGE_LENGTH, INT32_MAX})},
    {"length INT32_MAX - 20", .kafka = KE_INVALID_RECORD, SET({FORGE_LENGTH, INT32_MAX - 20})},
    {"5 bytes behind", .kafka = KE_NONE, .tail = "\0\0\0\0\0", .tail_size = 5},
    {"12 zeros behind", .kafka = KE_CORRUPT_MESSAGE, .tail = "\0\0\0\0\0\0\0\0\0\0\0\0",
     .tail_size = 12},
    {"a cut second batch", .kafka = KE_NONE, .twice = true, .cut_two = 1},
    {"13 bytes of a second batch", .kafka = KE_NONE, .twice = true, .cut_two = 61},
    {"two batches", .kafka = KE_INVALID_RECORD, .twice = true},
    {"magic 0", .kafka = KE_INVALID_RECORD, SET({FORGE_MAGIC, 0})},
    {"magic 1", .kafka = KE_INVALID_RECORD, SET({FORGE_MAGIC, 1})},
    {"magic 3", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_MAGIC, 3})},
    {"magic -1", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_MAGIC, -1})},
    {"zstd in version 6", .kafka = KE_UNSUPPORTED_COMPRESSION_TYPE, .version = 6,
     .b.codec = CODEC_ZSTD},
    {"zstd in version 7", .kafka = KE_NONE, .version = 7, .b.codec = CODEC_ZSTD},
    {"zstd in version 6, twice", .kafka = KE_UNSUPPORTED_COMPRESSION_TYPE, .version = 6,
     .b.codec = CODEC_ZSTD, .twice = true},
    {"zstd in version 6 at offset 5", .kafka = KE_UNSUPPORTED_COMPRESSION_TYPE, .version = 6,
     .b.codec = CODEC_ZSTD, SET({FORGE_BASE_OFFSET, 5})},
    /* the batch */
    {"base offset 1", .kafka = KE_INVALID_RECORD, SET({FORGE_BASE_OFFSET, 1})},
    {"base offset -1", .kafka = KE_INVALID_RECORD, SET({FORGE_BASE_OFFSET, -1})},
    {"base offset 1, checksum wrong", .kafka = KE_INVALID_RECORD,
     SET({FORGE_BASE_OFFSET, 1}, {FORGE_CRC, 1})},
    {"checksum wrong", .kafka = KE_CORRUPT_MESSAGE, SET({FORGE_CRC, 1})},
    {"too large", SMALL, .kafka = KE_MESSAGE_TOO_LARGE, .b.records[0].value_fill = 300},
    {"too large, checksum wrong", SMALL, .kafka = KE_MESSAGE_TOO_LARGE,
     .b.records[0].value_fill = 300, SET({FORGE_CRC, 1})},
    {"too large, base offset 1", SMALL, .kafka = KE_INVALID_RECORD, .b.records[0].value_fill = 300,
     SET({FORGE_BASE_OFFSET, 1})},
    {"as large as may be", SMALL, .kafka = KE_NONE, .b.records[0].value_fill = 200 - 61 - 10},
    {"too large when unpacked for good", SMALL_NONE, .kafka = KE_MESSAGE_TOO_LARGE,
     .b.codec = CODEC_GZIP, .b.records[0].value_fill = 300},
    {"last offset delta -1", .kafka = KE_INVALID_RECORD, SET({FORGE_LAST_DELTA, -1})},
    {"last offset delta -2", .kafka = KE_INVALID_RECORD, SET({FORGE_LAST_DELTA, -2})},
    {"last offset delta 1 of one", .kafka = KE_INVALID_RECORD, SET({FORGE_LAST_DELTA, 1})},
    {"last offset delta INT32_MAX", .kafka = KE_INVALID_RECORD, SET({FORGE_LAST_DELTA, INT32_MAX})},
    {"count 0", .kafka = KE_INVALID_RECORD, SET({FORGE_COUNT, 0})},
    {"count 0, last offset delta -1", .kafka = KE_INVALID_RECORD,
     SET({FORGE_COUNT, 0}, {FORGE_LAST_DELTA, -1})},
    {"count -1", .kafka = KE_INVALID_RECORD, SET({FORGE_COUNT, -1})},
    {"count INT32_MAX", .kafka = KE_INVALID_RECORD, SET({FORGE_COUNT, INT32_MAX})},
    {"two announced, one there", .kafka = KE_INVALID_RECORD,
     SET({FORGE_COUNT, 2}, {FORGE_LAST_DELTA, 1})},
    {"a million announced, one there", .kafka = KE_INVALID_RECORD,
     SET({FORGE_COUNT, 1000000}, {FORGE_LAST_DELTA, 999999})},
    {"one announced, two there", .kafka = KE_INVALID_RECORD, .b.records_count = 2,
     SET({FORGE_COUNT, 1}, {FORGE_LAST_DELTA, 0})},
    {"one announced, none there", .kafka = KE_INVALID_RECORD, .b.empty = true,
     SET({FORGE_COUNT, 1}, {FORGE_LAST_DELTA, 0})},
    {"a control batch", .kafka = KE_INVALID_RECORD, SET({FORGE_ATTRIBUTES, BATCH_CONTROL})},
    {"producer id without sequence", .kafka = KE_INVALID_RECORD,
     SET({FORGE_PRODUCER_ID, 77}, {FORGE_PRODUCER_EPOCH, 0})},
    {"producer id with sequence -2", .kafka = KE_INVALID_RECORD,
     SET({FORGE_PRODUCER_ID, 77}, {FORGE_PRODUCER_EPOCH, 0}, {FORGE_SEQUENCE, -2})},
    {"producer id with sequence", .kafka = KE_NONE,
     SET({FORGE_PRODUCER_ID, 77}, {FORGE_PRODUCER_EPOCH, 0}, {FORGE_SEQUENCE, 0})},
    {"producer id with epoch -1", .kafka = KE_NONE,
     SET({FORGE_PRODUCER_ID, 77}, {FORGE_SEQUENCE, 0})},
    {"producer id -2", .kafka = KE_NONE, SET({FORGE_PRODUCER_ID, -2})},
    {"sequence without producer id", .kafka = KE_NONE, SET({FORGE_SEQUENCE, 5})},
    {"attribute bit 7", .kafka = KE_NONE, SET({FORGE_ATTRIBUTES, 0x80})},
    {"attribute bit 8", .kafka = KE_NONE, SET({FORGE_ATTRIBUTES, 0x100})},
    {"attribute bit 15", .kafka = KE_NONE, SET({FORGE_ATTRIBUTES, 0x8000})},
    {"a delete horizon", .kafka = KE_NONE, SET({FORGE_ATTRIBUTES, BATCH_DELETE_HORIZON})},
    {"codec 5", .kafka = KE_UNKNOWN_SERVER_ERROR, SET({FORGE_ATTRIBUTES, 5})},
    {"codec 6 in version 6", .kafka = KE_UNKNOWN_SERVER_ERROR, .version = 6,
     SET({FORGE_ATTRIBUTES, 6})},
    {"codec 7", .kafka = KE_UNKNOWN_SERVER_ERROR, SET({FORGE_ATTRIBUTES, 7})},
    {"codec 5, checksum wrong", .kafka = KE_CORRUPT_MESSAGE,
     SET({FORGE_ATTRIBUTES, 5}, {FORGE_CRC, 1})},
    {"codec 5, count wrong", .kafka = KE_UNKNOWN_SERVER_ERROR,
     SET({FORGE_ATTRIBUTES, 5}, {FORGE_LAST_DELTA, 7})},
    /* records */
    {"record length one less", .kafka = KE_INVALID_RECORD, .b.records[0].length_plus = -1},
    {"record length one more", .kafka = KE_INVALID_RECORD, .b.records[0].length_plus = 1},
    {"a record with a byte to spare", .kafka = KE_INVALID_RECORD,
     .b.records[0] = RAW("\x1a\0\0\0\x02k\x0avalue\0\0")},
    {"record length -5", .kafka = KE_INVALID_RECORD, .b.records[0] = RAW("\x09\0\0\0\0\0\0")},
    {"record length 0", .kafka = KE_INVALID_RECORD, .b.records[0] = RAW("\0\0\0\0\0\0\0")},
    {"record length of six bytes", .kafka = KE_UNKNOWN_SERVER_ERROR, TORC(KE_INVALID_RECORD),
     .b.records[0] = RAW("\x80\x80\x80\x80\x80\x01\0\0\0\0\0\0\0\0\0")},
    {"an overlong zero", .kafka = KE_NONE, .b.records[0] = RAW("\x0e\0\0\0\x80\x00\x01\x00")},
    {"record attributes", .kafka = KE_NONE, .b.records[0].attributes = 7},
    {"key size -2", .kafka = KE_NONE, .b.records[0].key_size = -2},
    {"value size -2", .kafka = KE_NONE, .b.records[0].value_size = -2},
    {"key size past the end", .kafka = KE_INVALID_RECORD, .b.records[0].key_size = 1000},
    {"value size past the end", .kafka = KE_INVALID_RECORD, .b.records[0].value_size = 1000},
    {"a header", .kafka = KE_NONE, .b.records[0].header = true},
    {"a header without value", .kafka = KE_NONE,
     .b.records[0] = {.header = true, .header_null_value = true}},
    {"a header without key", .kafka = KE_INVALID_RECORD,
     .b.records[0] = {.header = true, .header_null_key = true}},
    {"headers -1", .kafka = KE_INVALID_RECORD, .b.records[0].headers_count = -1},
    {"headers 5 of none", .kafka = KE_INVALID_RECORD, .b.records[0].headers_count = 5},
    {"headers INT32_MAX", .kafka = KE_INVALID_RECORD, .b.records[0].headers_count = INT32_MAX},
    {"offset deltas 0 0", .kafka = KE_NONE, .b.records_count = 2, .b.records[1].delta_plus = -1},
    {"offset deltas 5 6", .kafka = KE_NONE, .b.records_count = 2,
     .b.records = {{.delta_plus = 5}, {.delta_plus = 5}}},
    {"offset delta -1", .kafka = KE_NONE, .b.records[0].delta_plus = -1},
    {"no key", .kafka = KE_NONE, .b.records[0].null_key = true},
    {"no key in a compacted topic", COMPACTED, .kafka = KE_INVALID_RECORD, .b.records_count = 3,
     .b.records = {{0}, {.null_key = true}, {.null_key = true}}, .errors = 2},
    {"no key, packed, compacted", COMPACTED, .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     .b.records[0].null_key = true, .errors = 1},
    {"twelve without key, compacted", COMPACTED, .kafka = KE_INVALID_RECORD, .b.records_count = 12,
     .b.records = {{.null_key = true}, {.null_key = true}, {.null_key = true}},
     .errors = BATCH_RECORD_ERRORS_MAX},
    {"an empty key in a compacted topic", COMPACTED, .kafka = KE_NONE,
     .b.records[0].empty_key = true},
    {"no value in a compacted topic", COMPACTED, .kafka = KE_NONE, .b.records[0].null_value = true},
    {"no key, then a malformed record", COMPACTED, .kafka = KE_INVALID_RECORD, .b.records_count = 2,
     .b.records = {{.null_key = true}, {.length_plus = -1}}},
    {"no key and a late time", COMPACTED, .kafka = KE_INVALID_TIMESTAMP, .b.records_count = 2,
     .b.records = {{.null_key = true}, {.time_delta = 3 * HOUR_MS}}, .errors = 2},
    /* times */
    {"no timestamp", .kafka = KE_NONE, SET({FORGE_BASE_TIME, -1})},
    {"timestamp -2", .kafka = KE_NONE, SET({FORGE_BASE_TIME, -2})},
    {"timestamp 0", .kafka = KE_NONE, SET({FORGE_BASE_TIME, 0})},
    {"two hours ahead", .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_BASE_TIME, FORGE_NOW + 2 * HOUR_MS}), .errors = 1},
    {"timestamp INT64_MIN", .kafka = KE_INVALID_TIMESTAMP, SET({FORGE_BASE_TIME, INT64_MIN}),
     .errors = 1},
    {"timestamp INT64_MAX", .kafka = KE_INVALID_TIMESTAMP, SET({FORGE_BASE_TIME, INT64_MAX}),
     .errors = 1},
    {"a timestamp that wraps", .kafka = KE_INVALID_TIMESTAMP, .b.records[0].time_delta = 5,
     SET({FORGE_BASE_TIME, INT64_MAX}), .errors = 1},
    {"max timestamp too high", .kafka = KE_NONE, SET({FORGE_MAX_TIME, FORGE_NOW + 9 * HOUR_MS})},
    {"max timestamp too low", .kafka = KE_NONE, SET({FORGE_MAX_TIME, 5})},
    {"two of three ahead", .kafka = KE_INVALID_TIMESTAMP, .b.records_count = 3,
     .b.records = {{0}, {.time_delta = 2 * HOUR_MS}, {.time_delta = 3 * HOUR_MS}}, .errors = 2},
    {"before the limit", NARROW_TIMES, .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_BASE_TIME, FORGE_NOW - 2000000}), .errors = 1},
    {"at the early limit", NARROW_TIMES, .kafka = KE_NONE,
     SET({FORGE_BASE_TIME, FORGE_NOW - 1000000})},
    {"behind the limit", NARROW_TIMES, .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_BASE_TIME, FORGE_NOW + 1001}), .errors = 1},
    {"no timestamp, narrow limits", NARROW_TIMES, .kafka = KE_NONE, SET({FORGE_BASE_TIME, -1})},
    {"packed, before the limit", NARROW_TIMES, .kafka = KE_INVALID_TIMESTAMP, .b.records_count = 3,
     .b.codec = CODEC_GZIP, SET({FORGE_BASE_TIME, FORGE_NOW - 2000000}), .errors = 3},
    {"append time set by the producer", .kafka = KE_NONE,
     SET({FORGE_ATTRIBUTES, BATCH_LOG_APPEND_TIME})},
    {"append time set, no timestamp", .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_ATTRIBUTES, BATCH_LOG_APPEND_TIME}, {FORGE_BASE_TIME, -1}), .errors = 1},
    {"append time set, before the limit", NARROW_TIMES, .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_ATTRIBUTES, BATCH_LOG_APPEND_TIME}, {FORGE_MAX_TIME, FORGE_NOW - 2000000}),
     .errors = 1},
    {"append time set where it is used", APPEND_TIME, .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_ATTRIBUTES, BATCH_LOG_APPEND_TIME}), .errors = 1},
    {"append time set where it is used, no timestamp", APPEND_TIME, .kafka = KE_INVALID_TIMESTAMP,
     SET({FORGE_ATTRIBUTES, BATCH_LOG_APPEND_TIME}, {FORGE_BASE_TIME, -1}), .errors = 1},
    {"append time", APPEND_TIME, .kafka = KE_NONE},
    {"append time of an old batch", APPEND_TIME, .kafka = KE_NONE, SET({FORGE_BASE_TIME, 0})},
    {"append time of a future batch", APPEND_TIME, .kafka = KE_NONE,
     SET({FORGE_BASE_TIME, FORGE_NOW + 5 * HOUR_MS})},
    {"append time of a packed batch", APPEND_TIME, .kafka = KE_NONE, .b.codec = CODEC_GZIP,
     .b.records_count = 3},
    /* codecs */
    {"gzip", .kafka = KE_NONE, .b.codec = CODEC_GZIP, .b.records_count = 3},
    {"gzip cut", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP, .b.packed_cut = 1},
    {"gzip without trailer", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP,
     .b.packed_cut = 9},
    {"gzip checksum", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP, .b.packed_flip = 8},
    {"gzip and more", .kafka = KE_NONE, .b.codec = CODEC_GZIP, .b.packed_tail = "junkjunkjunk"},
    {"no gzip", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP, PACKED("abcdefghijklmno")},
    {"gzip of nothing", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP, PACKED("")},
    {"snappy", .kafka = KE_NONE, .b.codec = CODEC_SNAPPY, .b.records_count = 3},
    {"raw snappy", .kafka = KE_NONE, .b.codec = CODEC_SNAPPY, .b.records_count = 3,
     .b.codec_level = COMPRESS_SNAPPY_RAW},
    {"snappy cut", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_SNAPPY, .b.packed_cut = 1},
    {"snappy header alone", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_SNAPPY,
     PACKED("\x82SNAPPY\0\0\0\0\1\0\0\0\1")},
    {"snappy chunk -1", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_SNAPPY,
     PACKED("\x82SNAPPY\0\0\0\0\1\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff")},
    {"snappy chunk 0", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_SNAPPY,
     PACKED("\x82SNAPPY\0\0\0\0\1\0\0\0\1\0\0\0\0")},
    {"snappy of a lie", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_SNAPPY,
     PACKED("\xff\xff\xff\xff\x0f"
            "abc")},
    {"snappy of nothing", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_SNAPPY, PACKED("")},
    {"snappy and 3 bytes", .kafka = KE_NONE, .b.codec = CODEC_SNAPPY, .b.packed_tail = "abc"},
    {"lz4", .kafka = KE_NONE, .b.codec = CODEC_LZ4, .b.records_count = 3},
    {"lz4 without end", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_LZ4, .b.packed_cut = 4},
    {"lz4 cut", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_LZ4, .b.packed_cut = 6},
    {"lz4 and more", .kafka = KE_NONE, .b.codec = CODEC_LZ4, .b.packed_tail = "junk"},
    {"no lz4", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_LZ4, PACKED("abcdefghijklmno")},
    {"lz4 of nothing", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_LZ4, PACKED("")},
    {"lz4 of linked blocks", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_LZ4,
     PACKED("\x04\x22\x4d\x18\x40\x40\xc0\0\0\0\0")},
    {"zstd", .kafka = KE_NONE, .b.codec = CODEC_ZSTD, .b.records_count = 3},
    {"zstd cut", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_ZSTD, .b.packed_cut = 1},
    {"zstd and more", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_ZSTD,
     .b.packed_tail = "junk"},
    {"no zstd", .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_ZSTD, PACKED("abcdefghijklmno")},
    {"zstd of nothing", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_ZSTD, PACKED("")},
    {"gzip, record length one less", .kafka = KE_NONE, TORC(KE_INVALID_RECORD),
     .b.codec = CODEC_GZIP, .b.records[0].length_plus = -1},
    {"gzip, key size -2", .kafka = KE_NONE, .b.codec = CODEC_GZIP, .b.records[0].key_size = -2},
    {"gzip, one too many announced", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     SET({FORGE_COUNT, 2}, {FORGE_LAST_DELTA, 1})},
    {"gzip, one too few announced", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     .b.records_count = 2, SET({FORGE_COUNT, 1}, {FORGE_LAST_DELTA, 0})},
    {"gzip, a header without key", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     .b.records[0] = {.header = true, .header_null_key = true}},
    {"gzip, headers -1", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     .b.records[0].headers_count = -1},
    {"gzip, value past the end", .kafka = KE_INVALID_RECORD, .b.codec = CODEC_GZIP,
     .b.records[0].value_size = 1000},
    {"gzip, offset deltas 5 6", .kafka = KE_UNKNOWN_SERVER_ERROR, TORC(KE_NONE),
     .b.codec = CODEC_GZIP, .b.records_count = 2,
     .b.records = {{.delta_plus = 5}, {.delta_plus = 5}}},
    {"gzip to lz4", AS_LZ4, .kafka = KE_NONE, .b.codec = CODEC_GZIP, .b.records_count = 3},
    {"none to lz4", AS_LZ4, .kafka = KE_NONE, .b.records_count = 2},
    {"none to lz4, record length", AS_LZ4, .kafka = KE_INVALID_RECORD,
     .b.records[0].length_plus = 1},
    {"gzip to none", AS_NONE, .kafka = KE_NONE, .b.codec = CODEC_GZIP, .b.records_count = 3},
    {"gzip to none, offset deltas 5 7", AS_NONE, .kafka = KE_NONE, .b.codec = CODEC_GZIP,
     .b.records_count = 2, .b.records = {{.delta_plus = 5}, {.delta_plus = 6}}},
    {"no gzip to none", AS_NONE, .kafka = KE_UNKNOWN_SERVER_ERROR, .b.codec = CODEC_GZIP,
     PACKED("abcdefghijklmno")},
};

struct bench {
    struct mem mem;
    struct compress compress;
    uint8_t *set, *copy;
    struct batch_verdict v;
};

#define SET_ROOM (2 * FORGE_ROOM + 64)

static void bench_open(struct bench *b)
{
    cr_assert_eq(mem_init(&b->mem, BUDGET), 0);
    compress_init(&b->compress, &b->mem);
    b->set = mem_alloc(&b->mem, SET_ROOM);
    b->copy = mem_alloc(&b->mem, SET_ROOM);
    cr_assert(b->set && b->copy);
}

static void bench_close(struct bench *b)
{
    compress_free(&b->compress);
    mem_free(&b->mem, b->set, SET_ROOM);
    mem_free(&b->mem, b->copy, SET_ROOM);
    cr_assert_eq(b->mem.used_bytes, 0);
    mem_destroy(&b->mem);
}

static uint32_t record_set(struct bench *b, const struct row *row)
{
    uint32_t size = forge_batch(&b->mem, &row->b, b->set);
    if (row->twice) {
        memcpy(b->set + size, b->set, size);
        size = 2 * size - row->cut_two;
    }
    if (row->tail != NULL)
        memcpy(b->set + size, row->tail, row->tail_size);
    size += row->tail_size;
    return row->cut == CUT_ALL ? 0 : size - row->cut;
}

/* What KE_NONE promises (invariant 1 of batch_validate.c). */
static void check_accepted(struct bench *b, const struct batch_rules *rules, const char *fact)
{
    const struct batch_verdict *v = &b->v;
    struct batch_header h;
    cr_assert_eq(batch_peek(v->batch, v->header.size, &h), BATCH_WHOLE, "%s", fact);
    cr_assert_eq(memcmp(&h, &v->header, sizeof(h)), 0, "%s: header is what the bytes say", fact);
    cr_assert(batch_crc_matches(v->batch, h.size), "%s", fact);
    cr_assert_eq(batch_has(&h, BATCH_LOG_APPEND_TIME), rules->log_append_time, "%s", fact);
    if (rules->codec != BATCH_CODEC_PRODUCER)
        cr_assert_eq(batch_codec(&h), rules->codec, "%s", fact);
    uint8_t *own = mem_alloc(&b->mem, h.size); /* unpacking may end the loan */
    cr_assert_not_null(own);
    memcpy(own, v->batch, h.size);
    struct record_iter it;
    struct record r;
    cr_assert_eq(record_open(&b->compress, own, &h, 1u << 20, &it), COMPRESS_OK, "%s", fact);
    int64_t max_timestamp = BATCH_NO_TIMESTAMP;
    int32_t count = 0;
    for (; record_next(&it, &r); count++) {
        cr_assert_eq(r.offset_delta, count, "%s", fact);
        if (record_timestamp(&h, &r) > max_timestamp) {
            max_timestamp = record_timestamp(&h, &r);
            if (max_timestamp == h.max_timestamp)
                cr_assert_eq(v->max_timestamp_delta, count, "%s", fact);
        }
    }
    cr_assert(!it.malformed, "%s", fact);
    cr_assert_eq(count, h.record_count, "%s", fact);
    if (strstr(fact, "append time set by the producer") == NULL) /* there Kafka keeps the maximum */
        cr_assert_eq(h.max_timestamp, max_timestamp, "%s", fact);
    mem_free(&b->mem, own, h.size);
}

static void check_row(struct bench *b, const struct row *row, bool copied)
{
    struct batch_rules rules = rules_of(row->topic);
    if (row->version != 0)
        rules.produce_version = row->version;
    enum kafka_error want =
        row->differs == 0 ? row->kafka : (enum kafka_error)(row->differs - SAME);
    uint32_t size = record_set(b, row);
    enum kafka_error error =
        batch_validate(&b->compress, &rules, b->set, size, copied ? b->copy : NULL, &b->v);
    cr_assert_eq(error, want, "%s: %s", row->fact, kafka_error_name(error));
    cr_assert_eq(b->v.error, error);
    cr_assert_eq(b->v.record_errors_count, row->errors, "%s", row->fact);
    for (uint32_t i = 0; i < row->errors; i++)
        cr_assert_not_null(b->v.record_errors[i].message);
    if (error == KE_NONE) {
        cr_assert(b->v.rebuilt || b->v.batch == (copied ? b->copy : b->set), "%s", row->fact);
        check_accepted(b, &rules, row->fact);
    }
}

Test(batch_validate, answers_as_kafka_4_3_1)
{
    struct bench b;
    bench_open(&b);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&b, &rows[i], false);
    bench_close(&b);
}

Test(batch_validate, answers_the_same_when_it_copies_on_the_way)
{
    struct bench b;
    bench_open(&b);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&b, &rows[i], true);
    bench_close(&b);
}

Test(batch_validate, names_the_records_it_refuses)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {.records_count = 3, .records[1].null_key = true};
    struct batch_rules rules = rules_of(COMPACTED);
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_INVALID_RECORD);
    cr_assert_eq(b.v.record_errors_count, 1);
    cr_assert_eq(b.v.record_errors[0].index, 1);
    bench_close(&b);
}

Test(batch_validate, corrects_a_lying_max_timestamp_as_kafka_does)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {
        .records_count = 3,
        .records = {{.time_delta = 5}, {.time_delta = 9}, {.time_delta = 9}},
        .patches = {{FORGE_MAX_TIME, FORGE_NOW + 99}, {FORGE_ATTRIBUTES, 0xc0}},
    };
    struct batch_rules rules = rules_of(PLAIN);
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE);
    cr_assert_eq(b.v.header.max_timestamp, FORGE_NOW + 9);
    cr_assert_eq(b.v.max_timestamp_delta, 1, "the first of the latest");
    cr_assert_eq(b.v.header.attributes, 0x40, "a rewritten header has known bits only");
    bench_close(&b);
}

Test(batch_validate, corrects_a_lying_max_timestamp_when_it_packs_anew_too)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {
        .records_count = 2,
        .records = {{.time_delta = 7}, {.time_delta = 4}},
        .patches = {{FORGE_MAX_TIME, FORGE_NOW + 99}},
    };
    struct batch_rules rules = rules_of(AS_LZ4);
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE);
    cr_assert(b.v.rebuilt);
    cr_assert_eq(b.v.header.max_timestamp, FORGE_NOW + 7);
    rules.log_append_time = true;
    rules.now_ms = FORGE_NOW + 1234;
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE);
    cr_assert_eq(b.v.header.max_timestamp, FORGE_NOW + 1234);
    cr_assert(batch_has(&b.v.header, BATCH_LOG_APPEND_TIME));
    bench_close(&b);
}

Test(batch_validate, stamps_append_time_and_keeps_the_records)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {.records_count = 2, .records = {{.time_delta = 3}, {.time_delta = 1}}};
    struct batch_rules rules = rules_of(APPEND_TIME);
    rules.now_ms = FORGE_NOW + 1234;
    uint8_t before[256];
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    memcpy(before, b.set, size);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE);
    cr_assert_eq(b.v.header.max_timestamp, FORGE_NOW + 1234);
    cr_assert_eq(b.v.header.base_timestamp, FORGE_NOW);
    cr_assert_eq(b.v.max_timestamp_delta, 0);
    cr_assert_eq(memcmp(before + 61, b.set + 61, size - 61), 0);
    bench_close(&b);
}

Test(batch_validate, changes_nothing_in_a_batch_it_refuses)
{
    struct bench b;
    bench_open(&b);
    uint8_t *before = mem_alloc(&b.mem, SET_ROOM);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct batch_rules rules = rules_of(rows[i].topic);
        rules.max_message_bytes = 70; /* most are larger */
        uint32_t size = record_set(&b, &rows[i]);
        memcpy(before, b.set, size);
        if (batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v) != KE_NONE)
            cr_assert_eq(memcmp(before, b.set, size), 0, "%s", rows[i].fact);
    }
    mem_free(&b.mem, before, SET_ROOM);
    bench_close(&b);
}

Test(batch_validate, packs_anew_in_every_pair_of_codecs)
{
    struct bench b;
    bench_open(&b);
    for (enum codec from = 0; from < CODECS_COUNT; from++) {
        for (enum codec to = 0; to < CODECS_COUNT; to++) {
            for (int wrong = 0; wrong < 2; wrong++) {
                struct forge_batch f = {.codec = from,
                                        .records_count = 200,
                                        .records[2] = {.delta_plus = wrong, .header = true}};
                struct batch_rules rules = rules_of(PLAIN);
                rules.codec = to;
                uint32_t size = forge_batch(&b.mem, &f, b.set);
                enum kafka_error error =
                    batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v);
                cr_assert_eq(error, KE_NONE, "%s to %s", codec_name(from), codec_name(to));
                cr_assert_eq(b.v.rebuilt, from != to || wrong);
                check_accepted(&b, &rules, "packed anew");
            }
        }
    }
    bench_close(&b);
}

Test(batch_validate, rebuilding_changes_nothing_but_the_offsets)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch right = {.records_count = 300, .records[1] = {.time_delta = -70}};
    struct forge_batch wrong = right;
    wrong.records[2].delta_plus = 100000;
    uint32_t right_size = forge_batch(&b.mem, &right, b.copy);
    uint32_t wrong_size = forge_batch(&b.mem, &wrong, b.set);
    struct batch_rules rules = rules_of(PLAIN);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, wrong_size, NULL, &b.v), KE_NONE);
    cr_assert(b.v.rebuilt);
    cr_assert_eq(b.v.header.size, right_size);
    cr_assert_eq(memcmp(b.v.batch, b.copy, right_size), 0);
    bench_close(&b);
}

Test(batch_validate, trusts_the_records_only_when_told_to)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {.records_count = 2, .records[0].length_plus = 1};
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    struct batch_rules rules = rules_of(PLAIN);
    rules.strict = false;
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE);
    cr_assert_eq(b.v.max_timestamp_delta, -1, "not looked at");
    rules.compacted = true;
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_INVALID_RECORD);
    rules.compacted = false;
    rules.codec = CODEC_LZ4;
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_INVALID_RECORD);
    rules = rules_of(NARROW_TIMES);
    rules.strict = false;
    struct forge_batch late = {.patches = {{FORGE_BASE_TIME, FORGE_NOW + 2000}}};
    size = forge_batch(&b.mem, &late, b.set);
    cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_INVALID_TIMESTAMP,
                 "a maximum in the future is seen in the header");
    bench_close(&b);
}

Test(batch_validate, takes_what_real_clients_send)
{
    struct bench b;
    bench_open(&b);
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        for (int client = 0; client < 2; client++) {
            const struct golden *g = &goldens[codec][client];
            memcpy(b.set, g->data, g->size);
            batch_set_base_offset(b.set, 0);
            struct batch_rules rules = rules_of(PLAIN);
            rules.now_ms = 1795270000000;
            enum kafka_error error =
                batch_validate(&b.compress, &rules, b.set, g->size, NULL, &b.v);
            cr_assert_eq(error, KE_NONE, "%s", g->name);
            cr_assert(!b.v.rebuilt, "%s", g->name);
            cr_assert_eq(memcmp(b.set + 12, g->data + 12, g->size - 12), 0, "%s", g->name);
        }
    }
    bench_close(&b);
}

Test(batch_validate, detects_every_flipped_bit_but_those_of_the_leader_epoch)
{
    struct bench b;
    bench_open(&b);
    struct batch_rules rules = rules_of(PLAIN);
    rules.now_ms = 1795270000000;
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        const struct golden *g = &goldens[codec][0];
        for (uint32_t bit = 0; bit < g->size * 8; bit++) {
            memcpy(b.set, g->data, g->size);
            batch_set_base_offset(b.set, 0);
            b.set[bit / 8] ^= (uint8_t)(1u << bit % 8);
            bool epoch = bit / 8 >= 12 && bit / 8 < 16;
            enum kafka_error error =
                batch_validate(&b.compress, &rules, b.set, g->size, NULL, &b.v);
            cr_assert_eq(error == KE_NONE, epoch, "%s bit %u", g->name, bit);
        }
    }
    bench_close(&b);
}

Test(batch_validate, refuses_a_batch_cut_at_any_byte)
{
    struct bench b;
    bench_open(&b);
    struct batch_rules rules = rules_of(PLAIN);
    rules.now_ms = 1795270000000;
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        const struct golden *g = &goldens[codec][1];
        for (uint32_t size = 0; size < g->size; size++) {
            uint8_t *exact = mem_alloc(&b.mem, size + 1); /* a sanitizer sees reads past it */
            memcpy(exact + 1, g->data, size);
            cr_assert_neq(batch_validate(&b.compress, &rules, exact + 1, size, NULL, &b.v), KE_NONE,
                          "%s at %u", g->name, size);
            mem_free(&b.mem, exact, size + 1);
        }
    }
    bench_close(&b);
}

Test(batch_validate, asks_for_a_retry_when_memory_is_short)
{
    struct bench b;
    bench_open(&b);
    struct forge_batch f = {.codec = CODEC_ZSTD, .records_count = 3, .records[2].delta_plus = 1};
    struct batch_rules rules = rules_of(PLAIN);
    rules.codec = CODEC_GZIP;
    uint32_t size = forge_batch(&b.mem, &f, b.set);
    uint32_t refused = 0;
    enum kafka_error error = KE_REQUEST_TIMED_OUT;
    for (uint64_t budget = 1024; error != KE_NONE; budget += 16 << 10) {
        struct mem small;
        struct compress c;
        cr_assert_eq(mem_init(&small, budget), 0);
        compress_init(&c, &small);
        error = batch_validate(&c, &rules, b.set, size, NULL, &b.v);
        cr_assert(error == KE_NONE || error == KE_REQUEST_TIMED_OUT);
        cr_assert(error == KE_NONE || kafka_error_retriable(error));
        refused += error != KE_NONE;
        compress_free(&c);
        cr_assert_eq(small.used_bytes, 0);
        mem_destroy(&small);
    }
    cr_assert_gt(refused, 3, "several places were reached");
    bench_close(&b);
}

Test(batch_validate, refuses_what_unpacks_beyond_the_limit)
{
    struct bench b;
    bench_open(&b);
    for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
        struct forge_batch f = {.codec = codec, .records[0].value_fill = 30000};
        struct batch_rules rules = rules_of(PLAIN);
        uint32_t size = forge_batch(&b.mem, &f, b.set);
        rules.unpacked_bytes_max = 30015;
        cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v), KE_NONE, "%s",
                     codec_name(codec));
        rules.unpacked_bytes_max = 30000;
        cr_assert_eq(batch_validate(&b.compress, &rules, b.set, size, NULL, &b.v),
                     KE_MESSAGE_TOO_LARGE, "%s", codec_name(codec));
    }
    bench_close(&b);
}
