/* The codecs: round trips, other writers' frames, bombs, cuts, and budgets that run out anywhere.
 */
#include "proto/compress.h"

#include <criterion/criterion.h>
#include <lz4.h>
#include <snappy-c.h>
#include <string.h>
#include <zlib.h>

#define BUDGET (256u << 20)
#define MIB    (1u << 20)

struct bench {
    struct mem mem;
    struct compress c, other; /* other: what is packed here is unpacked there */
};

static void bench_open(struct bench *b)
{
    cr_assert_eq(mem_init(&b->mem, BUDGET), 0);
    compress_init(&b->c, &b->mem);
    compress_init(&b->other, &b->mem);
}

static void bench_close(struct bench *b)
{
    compress_free(&b->c);
    compress_free(&b->other);
    cr_assert_eq(b->mem.used_bytes, 0);
    mem_destroy(&b->mem);
}

/* Half of it repeats, half does not. */
static void fill(uint8_t *to, uint32_t size)
{
    uint64_t state = 88172645463325252ull;
    for (uint32_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        to[i] = i / 64 % 2 ? (uint8_t) "a line of a log "[i % 16] : (uint8_t)state;
    }
}

static void round_trip(struct bench *b, enum codec codec, int32_t level, const uint8_t *from,
                       uint32_t size)
{
    uint8_t *packed;
    const uint8_t *back;
    uint32_t packed_size, back_size;
    cr_assert_eq(compress_pack(&b->c, codec, level, from, size, 61, &packed, &packed_size),
                 COMPRESS_OK);
    memset(packed - 61, 0xee, 61); /* the headroom is the caller's */
    cr_assert_eq(compress_unpack(&b->other, codec, packed, packed_size, size, &back, &back_size),
                 COMPRESS_OK, "%s level %d size %u", codec_name(codec), level, size);
    cr_assert_eq(back_size, size);
    cr_assert_not_null(back);
    cr_assert_eq(memcmp(back, from, size), 0);
    if (size > 0 && codec != CODEC_NONE)
        cr_assert_eq(
            compress_unpack(&b->other, codec, packed, packed_size, size - 1, &back, &back_size),
            COMPRESS_TOO_LARGE, "%s: one byte above the cap", codec_name(codec));
}

Test(compress, gives_back_what_was_packed)
{
    static const uint32_t sizes[] = {1, 2, 100, 65535, 65536, 65537, 32768, 131072, 1000000};
    struct bench b;
    bench_open(&b);
    uint8_t *from = mem_alloc(&b.mem, MIB);
    fill(from, MIB);
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            round_trip(&b, codec, COMPRESS_LEVEL_DEFAULT, from, sizes[i]);
    for (int32_t level = 1; level <= 9; level++)
        round_trip(&b, CODEC_GZIP, level, from, 5000);
    for (int32_t level = 1; level <= 17; level++)
        round_trip(&b, CODEC_LZ4, level, from, 5000);
    for (int32_t level = -7; level <= 22; level++)
        round_trip(&b, CODEC_ZSTD, level, from, 5000);
    round_trip(&b, CODEC_SNAPPY, COMPRESS_SNAPPY_RAW, from, MIB);
    mem_free(&b.mem, from, MIB);
    bench_close(&b);
}

Test(compress, lends_the_input_when_there_is_no_codec)
{
    struct bench b;
    bench_open(&b);
    const uint8_t from[] = "bytes", *to;
    uint32_t size;
    cr_assert_eq(compress_unpack(&b.c, CODEC_NONE, from, 5, 1, &to, &size), COMPRESS_OK);
    cr_assert_eq(to, from);
    cr_assert_eq(size, 5);
    bench_close(&b);
}

Test(compress, knows_no_other_codecs)
{
    struct bench b;
    bench_open(&b);
    const uint8_t from[] = "bytes", *to;
    uint32_t size;
    for (unsigned codec = CODECS_COUNT; codec < 8; codec++)
        cr_assert_eq(compress_unpack(&b.c, (enum codec)codec, from, 5, 100, &to, &size),
                     COMPRESS_MALFORMED);
    bench_close(&b);
}

Test(compress, never_takes_a_cut_stream_for_the_whole)
{
    struct bench b;
    bench_open(&b);
    uint8_t from[700];
    fill(from, sizeof(from));
    for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
        uint8_t *packed;
        const uint8_t *back;
        uint32_t packed_size, back_size;
        cr_assert_eq(compress_pack(&b.c, codec, COMPRESS_LEVEL_DEFAULT, from, sizeof(from), 0,
                                   &packed, &packed_size),
                     COMPRESS_OK);
        for (uint32_t cut = 0; cut < packed_size; cut++) {
            uint8_t *exact = mem_alloc(&b.mem, cut + 1); /* a sanitizer sees reads past it */
            memcpy(exact + 1, packed, cut);
            enum compress_result result =
                compress_unpack(&b.other, codec, exact + 1, cut, MIB, &back, &back_size);
            cr_assert(result == COMPRESS_MALFORMED ||
                          (result == COMPRESS_OK && back_size < sizeof(from)),
                      "%s at %u", codec_name(codec), cut);
            mem_free(&b.mem, exact, cut + 1);
        }
    }
    bench_close(&b);
}

Test(compress, survives_every_wrong_byte)
{
    struct bench b;
    bench_open(&b);
    uint8_t from[300];
    fill(from, sizeof(from));
    uint32_t refused = 0;
    for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
        uint8_t *packed;
        const uint8_t *back;
        uint32_t size, back_size;
        cr_assert_eq(compress_pack(&b.c, codec, COMPRESS_LEVEL_DEFAULT, from, sizeof(from), 0,
                                   &packed, &size),
                     COMPRESS_OK);
        for (uint32_t at = 0; at < size; at++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                packed[at] ^= (uint8_t)(1u << bit);
                enum compress_result result =
                    compress_unpack(&b.other, codec, packed, size, MIB, &back, &back_size);
                refused += result != COMPRESS_OK;
                cr_assert_neq(result, COMPRESS_NO_MEMORY, "%s byte %u", codec_name(codec), at);
                packed[at] ^= (uint8_t)(1u << bit);
            }
        }
        /* nothing of it is left behind */
        cr_assert_eq(compress_unpack(&b.other, codec, packed, size, MIB, &back, &back_size),
                     COMPRESS_OK);
        cr_assert_eq(memcmp(back, from, sizeof(from)), 0);
    }
    cr_assert_gt(refused, 1000);
    bench_close(&b);
}

/* ---- bombs ----------------------------------------------------------------------------------- */

#define BOMB_BYTES (1u << 30)
#define BOMB_CAP   (8u << 20)

struct bomb {
    uint8_t *data;
    uint32_t size, room;
};

static void bomb_add(struct bomb *b, const void *data, size_t size)
{
    cr_assert_leq(b->size + size, b->room);
    memcpy(b->data + b->size, data, size);
    b->size += (uint32_t)size;
}

static void bomb_gzip(struct bomb *b, const uint8_t *zeros)
{
    uint8_t member[8192];
    z_stream z = {.next_in = (z_const Bytef *)zeros,
                  .avail_in = MIB,
                  .next_out = member,
                  .avail_out = sizeof(member)};
    cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    for (uint32_t i = 0; i < BOMB_BYTES / MIB; i++)
        bomb_add(b, member, z.total_out);
    cr_assert_eq(deflateEnd(&z), Z_OK);
}

static void bomb_snappy(struct bomb *b, const uint8_t *zeros)
{
    char chunk[65536];
    size_t size = sizeof(chunk) - 4;
    cr_assert_eq(snappy_compress((const char *)zeros, 32768, chunk + 4, &size), SNAPPY_OK);
    uint32_t prefix = __builtin_bswap32((uint32_t)size);
    memcpy(chunk, &prefix, sizeof(prefix));
    bomb_add(b, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16);
    for (uint32_t i = 0; i < BOMB_BYTES / 32768; i++)
        bomb_add(b, chunk, size + 4);
}

static void bomb_lz4(struct bomb *b, const uint8_t *zeros)
{
    static char block[4 + LZ4_COMPRESSBOUND(65536)];
    int size = LZ4_compress_default((const char *)zeros, block + 4, 65536, sizeof(block) - 4);
    cr_assert_gt(size, 0);
    memcpy(block, &size, 4);
    bomb_add(b, "\x04\x22\x4d\x18\x60\x40\x82", 7);
    for (uint32_t i = 0; i < BOMB_BYTES / 65536; i++)
        bomb_add(b, block, (size_t)size + 4);
    bomb_add(b, "\0\0\0\0", 4);
}

static void bomb_zstd(struct bomb *b, const uint8_t *zeros)
{
    (void)zeros; /* one zero repeated 131072 times is four bytes */
    bomb_add(b, "\x28\xb5\x2f\xfd\x00\x58", 6);
    for (uint32_t i = 0; i < BOMB_BYTES / 131072 - 1; i++)
        bomb_add(b, "\x02\x00\x10\x00", 4);
    bomb_add(b, "\x03\x00\x10\x00", 4);
}

Test(compress, refuses_a_gibibyte_of_zeros_in_each_codec_within_the_cap)
{
    static void (*const makers[CODECS_COUNT])(struct bomb *, const uint8_t *) = {
        [CODEC_GZIP] = bomb_gzip,
        [CODEC_SNAPPY] = bomb_snappy,
        [CODEC_LZ4] = bomb_lz4,
        [CODEC_ZSTD] = bomb_zstd,
    };
    struct bench b;
    bench_open(&b);
    struct bomb bomb = {.room = 64 * MIB};
    bomb.data = mem_alloc(&b.mem, bomb.room);
    uint8_t *zeros = mem_zalloc(&b.mem, MIB);
    for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
        const uint8_t *to;
        uint32_t size;
        bomb.size = 0;
        makers[codec](&bomb, zeros);
        uint64_t before = b.mem.used_bytes;
        b.mem.peak_bytes = before;
        cr_assert_eq(compress_unpack(&b.c, codec, bomb.data, bomb.size, BOMB_CAP, &to, &size),
                     COMPRESS_TOO_LARGE, "%s", codec_name(codec));
        cr_assert_lt(b.mem.peak_bytes - before, 2 * BOMB_CAP + MIB, "%s took %llu",
                     codec_name(codec), (unsigned long long)(b.mem.peak_bytes - before));
        compress_trim(&b.c, 0);
    }
    cr_assert_eq(b.c.refused, 4);
    mem_free(&b.mem, zeros, MIB);
    mem_free(&b.mem, bomb.data, bomb.room);
    bench_close(&b);
}

/* What the bombs are made of is valid: with a cap above their size the same makers unpack. */
Test(compress, bombs_are_well_formed_streams)
{
    struct bench b;
    bench_open(&b);
    const uint8_t *to;
    uint32_t size;
    static const uint8_t zstd[] = "\x28\xb5\x2f\xfd\x00\x58\x02\x00\x10\x00\x03\x00\x10\x00";
    cr_assert_eq(compress_unpack(&b.c, CODEC_ZSTD, zstd, sizeof(zstd) - 1, MIB, &to, &size),
                 COMPRESS_OK);
    cr_assert_eq(size, 262144);
    cr_assert_eq(to[262143], 0);
    struct bomb bomb = {.room = MIB};
    bomb.data = mem_alloc(&b.mem, bomb.room);
    uint8_t *zeros = mem_zalloc(&b.mem, 65536);
    static char block[4 + LZ4_COMPRESSBOUND(65536)];
    int made = LZ4_compress_default((const char *)zeros, block + 4, 65536, sizeof(block) - 4);
    memcpy(block, &made, 4);
    bomb_add(&bomb, "\x04\x22\x4d\x18\x60\x40\x82", 7);
    bomb_add(&bomb, block, (size_t)made + 4);
    bomb_add(&bomb, block, (size_t)made + 4);
    bomb_add(&bomb, "\0\0\0\0", 4);
    cr_assert_eq(compress_unpack(&b.c, CODEC_LZ4, bomb.data, bomb.size, MIB, &to, &size),
                 COMPRESS_OK);
    cr_assert_eq(size, 131072);
    mem_free(&b.mem, zeros, 65536);
    mem_free(&b.mem, bomb.data, bomb.room);
    bench_close(&b);
}

Test(compress, allocates_nothing_for_what_is_only_declared)
{
    static const struct {
        enum codec codec;
        const char *bytes;
        uint32_t size;
    } lies[] = {
        {CODEC_SNAPPY, "\xff\xff\xff\xff\x0f\x00", 6},                          /* 4 GiB */
        {CODEC_SNAPPY, "\x82SNAPPY\0\0\0\0\1\0\0\0\1\x7f\xff\xff\xff\0\0", 22}, /* a 2 GiB chunk */
        {CODEC_ZSTD, "\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00", 9},                /* 128 MiB window */
        {CODEC_ZSTD, "\x28\xb5\x2f\xfd\xe0\0\0\0\x40\0\0\0\0\x01\0\0", 16},     /* 1 GiB content */
        {CODEC_ZSTD, "\x28\xb5\x2f\xfd\x00\x89\x01\x00\x00", 9}, /* a window above Kafka's */
        {CODEC_ZSTD, "\x50\x2a\x4d\x18\xff\xff\xff\xff", 8},     /* 4 GiB to skip */
        {CODEC_LZ4, "\x04\x22\x4d\x18\x68\x40\0\0\0\x40\0\0\0\0\0", 15}, /* 1 GiB content */
    };
    struct bench b;
    bench_open(&b);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        const uint8_t *to;
        uint32_t size = 0;
        enum compress_result result =
            compress_unpack(&b.c, lies[i].codec, (const uint8_t *)lies[i].bytes, lies[i].size,
                            128 * MIB, &to, &size);
        cr_assert(result == COMPRESS_MALFORMED || (result == COMPRESS_OK && size == 0), "%zu", i);
        cr_assert_lt(b.mem.peak_bytes, MIB, "%zu", i);
    }
    bench_close(&b);
}

Test(compress, takes_zstd_windows_as_large_as_kafka_does)
{
    struct bench b;
    bench_open(&b);
    const uint8_t *to;
    uint32_t size;
    uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 0x88, 0x29, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    cr_assert_eq(compress_unpack(&b.c, CODEC_ZSTD, frame, sizeof(frame), MIB, &to, &size),
                 COMPRESS_OK, "128 MiB");
    cr_assert_eq(size, 5);
    cr_assert_eq(memcmp(to, "hello", 5), 0);
    frame[5] = 0x89;
    cr_assert_eq(compress_unpack(&b.c, CODEC_ZSTD, frame, sizeof(frame), MIB, &to, &size),
                 COMPRESS_MALFORMED, "144 MiB");
    bench_close(&b);
}

/* ---- what other writers do ------------------------------------------------------------------- */

Test(compress, reads_streams_of_several_parts)
{
    struct bench b;
    bench_open(&b);
    static const enum codec several[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_ZSTD};
    uint8_t from[100], both[1000];
    fill(from, sizeof(from));
    for (int i = 0; i < 3; i++) {
        uint8_t *packed;
        const uint8_t *back;
        uint32_t one, two, size;
        cr_assert_eq(
            compress_pack(&b.c, several[i], COMPRESS_LEVEL_DEFAULT, from, 40, 0, &packed, &one),
            COMPRESS_OK);
        memcpy(both, packed, one);
        cr_assert_eq(compress_pack(&b.c, several[i], COMPRESS_LEVEL_DEFAULT, from + 40, 60, 0,
                                   &packed, &two),
                     COMPRESS_OK);
        memcpy(both + one, packed, two);
        cr_assert_eq(compress_unpack(&b.c, several[i], both, one + two, 100, &back, &size),
                     COMPRESS_OK, "%s", codec_name(several[i]));
        cr_assert_eq(size, 100);
        cr_assert_eq(memcmp(back, from, 100), 0);
    }
    bench_close(&b);
}

Test(compress, frames_lz4_and_snappy_as_kafka_does)
{
    struct bench b;
    bench_open(&b);
    uint8_t from[100], *packed;
    uint32_t size;
    fill(from, sizeof(from));
    cr_assert_eq(
        compress_pack(&b.c, CODEC_LZ4, COMPRESS_LEVEL_DEFAULT, from, 100, 0, &packed, &size),
        COMPRESS_OK);
    cr_assert_eq(memcmp(packed, "\x04\x22\x4d\x18\x60\x40\x82", 7), 0, "64 KiB blocks, no sums");
    cr_assert_eq(memcmp(packed + size - 4, "\0\0\0\0", 4), 0, "and no sum at the end");
    cr_assert_eq(
        compress_pack(&b.c, CODEC_SNAPPY, COMPRESS_LEVEL_DEFAULT, from, 100, 0, &packed, &size),
        COMPRESS_OK);
    cr_assert_eq(memcmp(packed, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16), 0);
    bench_close(&b);
}

/* ---- budgets --------------------------------------------------------------------------------- */

Test(compress, says_no_memory_wherever_the_budget_ends_and_leaks_nothing)
{
    struct bench b;
    bench_open(&b);
    uint8_t *from = mem_alloc(&b.mem, 4 * MIB);
    fill(from, 4 * MIB);
    for (enum codec codec = CODEC_GZIP; codec < CODECS_COUNT; codec++) {
        uint8_t *packed, *again;
        const uint8_t *back;
        uint32_t packed_size, size, refused = 0;
        cr_assert_eq(compress_pack(&b.c, codec, COMPRESS_LEVEL_DEFAULT, from, 300000, 0, &packed,
                                   &packed_size),
                     COMPRESS_OK);
        for (uint64_t budget = 512;; budget = budget * 9 / 8) {
            struct mem small;
            struct compress c;
            cr_assert_eq(mem_init(&small, budget), 0);
            compress_init(&c, &small);
            enum compress_result in =
                compress_unpack(&c, codec, packed, packed_size, MIB, &back, &size);
            enum compress_result out =
                compress_pack(&c, codec, COMPRESS_LEVEL_DEFAULT, from, 300000, 0, &again, &size);
            cr_assert(in == COMPRESS_OK || in == COMPRESS_NO_MEMORY, "%s", codec_name(codec));
            cr_assert(out == COMPRESS_OK || out == COMPRESS_NO_MEMORY, "%s", codec_name(codec));
            refused += in != COMPRESS_OK || out != COMPRESS_OK;
            compress_free(&c);
            cr_assert_eq(small.used_bytes, 0, "%s", codec_name(codec));
            mem_destroy(&small);
            if (in == COMPRESS_OK && out == COMPRESS_OK)
                break;
        }
        cr_assert_gt(refused, 10, "%s", codec_name(codec));
    }
    mem_free(&b.mem, from, 4 * MIB);
    bench_close(&b);
}

Test(compress, keeps_little_between_calls)
{
    struct bench b;
    bench_open(&b);
    uint8_t *from = mem_zalloc(&b.mem, 16 * MIB), *packed, small[8192];
    const uint8_t *back;
    uint32_t packed_size, small_size, size;
    uint64_t before = b.mem.used_bytes;
    cr_assert_eq(compress_pack(&b.other, CODEC_LZ4, 0, from, 1000, 0, &packed, &small_size),
                 COMPRESS_OK);
    cr_assert_leq(small_size, sizeof(small));
    memcpy(small, packed, small_size);
    cr_assert_eq(compress_pack(&b.other, CODEC_LZ4, COMPRESS_LEVEL_DEFAULT, from, 16 * MIB, 0,
                               &packed, &packed_size),
                 COMPRESS_OK);
    cr_assert_eq(compress_unpack(&b.c, CODEC_LZ4, packed, packed_size, 16 * MIB, &back, &size),
                 COMPRESS_OK);
    compress_free(&b.other);
    cr_assert_gt(b.mem.used_bytes - before, 16 * MIB);
    cr_assert_eq(compress_unpack(&b.c, CODEC_LZ4, small, small_size, 1000, &back, &size),
                 COMPRESS_OK);
    cr_assert_lt(b.mem.used_bytes - before, 2 * MIB, "the next call gave it back");
    compress_init(&b.other, &b.mem);
    mem_free(&b.mem, from, 16 * MIB);
    bench_close(&b);
}
