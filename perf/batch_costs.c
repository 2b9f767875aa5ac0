/* What judging one batch costs: batch_validate on batches as producers send them, with all records
 * looked at (strict) and by header alone, plain and with the copy that the log wants anyway.
 *
 *   usage: batch_costs [seconds per line]
 *   line:  batch 16x1024 lz4 strict: 12345 ns/batch 1.36 GB/s (packed 1234 B)
 *
 * GB/s counts the unpacked records, so that codecs compare. Time is the thread's own CPU time, and
 * each line is the best of five rounds: what else the machine does only ever adds. */
#include "proto/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/assert.h"
#include "core/core.h"

#define BUDGET    (256u << 20)
#define ROOM      (1u << 20)
#define NOW_MS    1795269800000ll
#define ROUNDS    5
#define PER_CHECK 64 /* batches between two looks at the clock */

struct shape {
    uint32_t records, value_size;
};

struct bench {
    struct mem mem;
    struct compress compress;
    uint8_t *plain, *batch, *copy;
    uint32_t plain_size, size;
    double seconds;
};

static double cpu_seconds(void)
{
    struct timespec t;
    int error = clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    assert(error == 0);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Values like log lines: words from a small dictionary with numbers between. */
static void fill(uint8_t *to, uint32_t size, uint64_t *state)
{
    static const char *const words[8] = {
        "GET ", "/api/v1/items/", " 200 ", "user=", " ms=", " trace=", "POST ", "agent=Mozilla "};
    uint32_t at = 0;
    while (at < size) {
        *state = *state * 6364136223846793005ull + 1442695040888963407ull;
        char piece[32];
        int n = snprintf(piece, sizeof(piece), "%s%u", words[*state >> 61],
                         (unsigned)(*state >> 33) % 100000);
        uint32_t take = MIN((uint32_t)n, size - at);
        memcpy(to + at, piece, take);
        at += take;
    }
}

static void make(struct bench *b, struct shape s, enum codec codec)
{
    static uint8_t value[1u << 16];
    uint64_t state = 42;
    struct batch_header h = batch_header_plain(0);
    struct batch_builder builder;
    batch_builder_init(&builder, b->plain, ROOM, &h);
    for (uint32_t i = 0; i < s.records; i++) {
        fill(value, s.value_size, &state);
        struct batch_field key = {.data = (const uint8_t *)"key-0123", .size = 8};
        struct batch_field field = {.data = value, .size = s.value_size};
        bool added = batch_builder_add(&builder, NOW_MS + i, key, field, NULL, 0);
        assert(added);
    }
    b->plain_size = batch_builder_finish(&builder);
    memcpy(b->batch, b->plain, b->plain_size);
    b->size = b->plain_size;
    if (codec == CODEC_NONE)
        return;
    uint8_t *packed;
    uint32_t packed_size;
    enum compress_result result =
        compress_pack(&b->compress, codec, COMPRESS_LEVEL_DEFAULT, b->plain + BATCH_HEADER_SIZE,
                      b->plain_size - BATCH_HEADER_SIZE, 0, &packed, &packed_size);
    assert(result == COMPRESS_OK);
    memcpy(b->batch + BATCH_HEADER_SIZE, packed, packed_size);
    b->size = packed_size + BATCH_HEADER_SIZE;
    batch_decode_header(b->plain, &h);
    h.attributes = (uint16_t)codec;
    batch_encode_header(b->batch, b->size, &h);
}

static double one_round(struct bench *b, const struct batch_rules *rules, bool copied)
{
    uint64_t batches = 0;
    double start = cpu_seconds(), spent = 0;
    while (spent < b->seconds / ROUNDS) {
        for (int i = 0; i < PER_CHECK; i++) {
            struct batch_verdict v;
            enum kafka_error error =
                batch_validate(&b->compress, rules, b->batch, b->size, copied ? b->copy : NULL, &v);
            assert(error == KE_NONE);
        }
        batches += PER_CHECK;
        spent = cpu_seconds() - start;
    }
    return spent * 1e9 / (double)batches;
}

static void line(struct bench *b, struct shape s, enum codec codec, const char *how)
{
    struct batch_rules rules = {
        .max_message_bytes = 1048588,
        .strict = strcmp(how, "header") != 0,
        .log_append_time = strcmp(how, "append time") == 0,
        .produce_version = 9,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = 3600000,
        .now_ms = NOW_MS,
        .codec = strcmp(how, "to zstd") == 0 ? CODEC_ZSTD : BATCH_CODEC_PRODUCER,
        .codec_level = COMPRESS_LEVEL_DEFAULT,
        .unpacked_bytes_max = 64u << 20,
    };
    make(b, s, codec);
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) {
        double ns = one_round(b, &rules, rules.log_append_time || strcmp(how, "copy") == 0);
        if (i == 0 || ns < best)
            best = ns;
    }
    printf("batch %ux%u %s %s: %.0f ns/batch %.2f GB/s (packed %u B)\n", s.records, s.value_size,
           codec_name(codec), how, best, (double)b->plain_size / best, b->size);
}

int main(int argc, char **argv)
{
    static struct bench b;
    int error = mem_init(&b.mem, BUDGET);
    assert(error == 0);
    compress_init(&b.compress, &b.mem);
    b.seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    b.plain = mem_alloc(&b.mem, ROOM);
    b.batch = mem_alloc(&b.mem, ROOM);
    b.copy = mem_alloc(&b.mem, ROOM);
    assert(b.plain && b.batch && b.copy);
    static const struct shape shapes[] = {{1, 100}, {16, 1024}, {1000, 100}};
    static const char *const ways[] = {"strict", "copy", "append time", "header"};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++)
            line(&b, shapes[i], CODEC_NONE, ways[way]);
        for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
            line(&b, shapes[i], codec, "strict");
            line(&b, shapes[i], codec, "header");
        }
        line(&b, shapes[i], CODEC_LZ4, "to zstd");
    }
    compress_free(&b.compress);
    mem_free(&b.mem, b.plain, ROOM);
    mem_free(&b.mem, b.batch, ROOM);
    mem_free(&b.mem, b.copy, ROOM);
    assert(b.mem.used_bytes == 0);
    mem_destroy(&b.mem);
    return 0;
}
