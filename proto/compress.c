/* compress: the four codecs of record batches, unpacked under a cap and packed as Kafka does.
 *
 *   compressed bytes ──▶ codec ──▶ `unpacked` buffer ──▶ records are read, checked, numbered anew
 *                                                             │
 *   batch to store   ◀── header goes into headroom ◀── codec ◀┘   `packed` buffer
 *
 * What each codec looks like inside a batch:
 *   gzip    one or more gzip members (RFC 1952); what follows and is no member is ignored
 *   snappy  xerial framing: 16 bytes header "\x82SNAPPY\0" + 2 versions, then chunks: i32 size and
 * a snappy block, each of 32 KiB at most when Java writes; the header may come again between
 * chunks. Or one raw snappy block. lz4     one LZ4 frame of independent blocks; what follows is
 * ignored zstd    one or more frames
 *
 * Invariants:
 *  1. Nothing is allocated because a header declares it. Buffers grow with what was produced, or by
 *     a bound computed from the bytes that really came: 22 times the input for snappy (its densest
 *     element makes 64 bytes out of 3), 128 KiB per block seen for zstd.
 *  2. At most cap + 1 bytes are produced: the one more byte proves that there was too much.
 *  3. Contexts are reset before use, so a broken batch leaves nothing behind for the next.
 *  4. Except for snappy, whose library takes its own (bounded) working memory while packing, all
 *     memory is the budget's, contexts included.
 *
 * Failure modes: MALFORMED is the client's fault or rot on disk; TOO_LARGE a bomb or an honest
 * giant; NO_MEMORY is over budget and worth a retry.
 *
 * The context constructors that take an allocator are not in the stable part of the zstd and lz4
 * headers. They are exported by the libraries and have kept their form for many releases. */
#define ZSTD_STATIC_LINKING_ONLY
#define LZ4F_STATIC_LINKING_ONLY
#include "proto/compress.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <stddef.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/assert.h"
#include "core/core.h"

#define ROOM_MIN (64u << 10)

/* ---- the budget, as the libraries want it: free without a size ------------------------------- */

struct block_head {
    _Alignas(16) size_t size;
};

static void *library_alloc(void *mem, size_t size)
{
    if (size > COMPRESS_CAP_MAX)
        return NULL;
    struct block_head *head = mem_alloc(mem, sizeof(*head) + size);
    if (head == NULL)
        return NULL;
    head->size = sizeof(*head) + size;
    return head + 1;
}

static void library_free(void *mem, void *p)
{
    if (p == NULL)
        return;
    struct block_head *head = (struct block_head *)p - 1;
    assert(head->size >= sizeof(*head));
    mem_free(mem, head, head->size);
}

static void *zlib_alloc(void *mem, unsigned count, unsigned size)
{
    uint64_t bytes = (uint64_t)count * size;
    return bytes > COMPRESS_CAP_MAX ? NULL : library_alloc(mem, (size_t)bytes);
}

/* ---- buffers --------------------------------------------------------------------------------- */

static bool buffer_reserve(struct compress *c, struct compress_buffer *b, uint64_t size)
{
    if (size <= b->room && b->data != NULL)
        return true;
    if (size > UINT32_MAX)
        return false;
    uint32_t room = MAX((uint32_t)size, ROOM_MIN);
    uint8_t *data = mem_realloc(c->mem, b->data, b->room, room);
    if (data == NULL)
        return false;
    b->data = data;
    b->room = room;
    assert(b->room >= size);
    return true;
}

/* For decoders that stream: more room behind `used`, never beyond cap + 1 (invariant 2). */
static enum compress_result buffer_grow(struct compress *c, struct compress_buffer *b,
                                        uint32_t used, uint32_t cap)
{
    assert(cap <= COMPRESS_CAP_MAX);
    if (used > cap)
        return COMPRESS_TOO_LARGE;
    uint64_t want = MIN(MAX(2 * (uint64_t)b->room, ROOM_MIN), (uint64_t)cap + 1);
    if (!buffer_reserve(c, b, MAX(want, (uint64_t)used + 1)))
        return COMPRESS_NO_MEMORY;
    return COMPRESS_OK;
}

static void buffer_trim(struct compress *c, struct compress_buffer *b, uint32_t keep_bytes)
{
    if (b->room <= keep_bytes)
        return;
    mem_free(c->mem, b->data, b->room);
    *b = (struct compress_buffer){0};
}

void compress_trim(struct compress *c, uint32_t keep_bytes)
{
    buffer_trim(c, &c->unpacked, keep_bytes);
    buffer_trim(c, &c->packed, keep_bytes);
}

uint8_t *compress_scratch(struct compress *c, uint32_t size)
{
    return buffer_reserve(c, &c->packed, size) ? c->packed.data : NULL;
}

void compress_swap(struct compress *c)
{
    struct compress_buffer packed = c->packed;
    c->packed = c->unpacked;
    c->unpacked = packed;
}

/* ---- life ------------------------------------------------------------------------------------ */

void compress_init(struct compress *c, struct mem *mem)
{
    assert(mem != NULL);
    *c = (struct compress){.mem = mem};
}

static void lz4_in_free(struct compress *c)
{
    if (c->lz4_in != NULL)
        LZ4F_freeDecompressionContext(c->lz4_in);
    c->lz4_in = NULL;
}

void compress_free(struct compress *c)
{
    assert(c->mem != NULL);
    compress_trim(c, 0);
    (void)ZSTD_freeDCtx(c->zstd_in);
    (void)ZSTD_freeCCtx(c->zstd_out);
    lz4_in_free(c);
    if (c->lz4_out != NULL)
        LZ4F_freeCompressionContext(c->lz4_out);
    if (c->gzip_in != NULL) {
        (void)inflateEnd(c->gzip_in);
        mem_free(c->mem, c->gzip_in, sizeof(*c->gzip_in));
    }
    *c = (struct compress){.mem = c->mem};
}

const char *codec_name(enum codec codec)
{
    static const char *const names[CODECS_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};
    assert(codec < CODECS_COUNT);
    return names[codec];
}

/* ---- gzip ------------------------------------------------------------------------------------ */

#define GZIP_WINDOW_BITS (16 + 15) /* a gzip wrapper around the largest window */

static bool gzip_in_ready(struct compress *c)
{
    if (c->gzip_in != NULL)
        return inflateReset(c->gzip_in) == Z_OK;
    z_stream *z = mem_zalloc(c->mem, sizeof(*z));
    if (z == NULL)
        return false;
    z->zalloc = zlib_alloc;
    z->zfree = library_free;
    z->opaque = c->mem;
    if (inflateInit2(z, GZIP_WINDOW_BITS) != Z_OK) {
        mem_free(c->mem, z, sizeof(*z));
        return false;
    }
    c->gzip_in = z;
    return true;
}

static bool gzip_member_follows(const z_stream *z)
{
    return z->avail_in >= 2 && z->next_in[0] == 0x1f && z->next_in[1] == 0x8b;
}

static enum compress_result gzip_unpack(struct compress *c, const uint8_t *from, uint32_t from_size,
                                        uint32_t cap, uint32_t *to_size)
{
    if (!gzip_in_ready(c))
        return COMPRESS_NO_MEMORY;
    z_stream *z = c->gzip_in;
    z->next_in = (z_const Bytef *)from;
    z->avail_in = from_size;
    uint32_t used = 0;
    for (;;) { /* each turn takes input, makes output or ends */
        if (used == c->unpacked.room || used > cap) {
            enum compress_result grown = buffer_grow(c, &c->unpacked, used, cap);
            if (grown != COMPRESS_OK)
                return grown;
        }
        uint32_t room = MIN(c->unpacked.room, cap + 1) - used;
        z->next_out = c->unpacked.data + used;
        z->avail_out = room;
        uint32_t before_in = z->avail_in;
        int status = inflate(z, Z_NO_FLUSH);
        used += room - z->avail_out;
        if (status == Z_STREAM_END) {
            if (!gzip_member_follows(z))
                break;
            if (inflateReset(z) != Z_OK)
                return COMPRESS_MALFORMED;
            continue;
        }
        if (status == Z_MEM_ERROR)
            return COMPRESS_NO_MEMORY;
        if (status != Z_OK && !(status == Z_BUF_ERROR && z->avail_out == 0))
            return COMPRESS_MALFORMED; /* Z_BUF_ERROR with room left: the input ended too early */
        if (before_in == z->avail_in && z->avail_out == room)
            return COMPRESS_MALFORMED;
    }
    *to_size = used;
    return used > cap ? COMPRESS_TOO_LARGE : COMPRESS_OK;
}

static enum compress_result gzip_pack(struct compress *c, int32_t level, const uint8_t *from,
                                      uint32_t from_size, uint32_t headroom, uint32_t *to_size)
{
    z_stream z = {.zalloc = zlib_alloc, .zfree = library_free, .opaque = c->mem};
    int gzip_level = level >= 1 && level <= 9 ? level : Z_DEFAULT_COMPRESSION;
    if (deflateInit2(&z, gzip_level, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return COMPRESS_NO_MEMORY;
    enum compress_result result = COMPRESS_NO_MEMORY;
    uint64_t bound = deflateBound(&z, from_size);
    if (buffer_reserve(c, &c->packed, headroom + bound)) {
        z.next_in = (z_const Bytef *)from;
        z.avail_in = from_size;
        z.next_out = c->packed.data + headroom;
        z.avail_out = (uint32_t)bound;
        int status = deflate(&z, Z_FINISH);
        assert(status == Z_STREAM_END);
        *to_size = (uint32_t)z.total_out;
        result = COMPRESS_OK;
    }
    (void)deflateEnd(&z);
    return result;
}

/* ---- snappy ---------------------------------------------------------------------------------- */

#define XERIAL_HEADER_SIZE 16
#define XERIAL_MAGIC_SIZE  8
#define XERIAL_BLOCK_SIZE  (32u << 10)
#define SNAPPY_RATIO_MAX   22

static const uint8_t xerial_header[XERIAL_HEADER_SIZE] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,
                                                          0,    0,   0,   1,   0,   0,   0,   1};

static bool is_xerial_header(const uint8_t *at, uint32_t left)
{
    return left >= XERIAL_HEADER_SIZE && memcmp(at, xerial_header, XERIAL_MAGIC_SIZE) == 0;
}

/* One block, behind *used bytes of output. */
static enum compress_result snappy_block(struct compress *c, const uint8_t *from, uint32_t size,
                                         uint32_t cap, uint32_t *used)
{
    size_t declared = 0;
    const char *block = (const char *)from;
    if (snappy_uncompressed_length(block, size, &declared) != SNAPPY_OK || declared == 0 ||
        declared > (uint64_t)size * SNAPPY_RATIO_MAX) /* invariant 1 */
        return COMPRESS_MALFORMED;
    uint64_t total = *used + (uint64_t)declared;
    if (total > cap)
        return COMPRESS_TOO_LARGE;
    if (total > c->unpacked.room) {
        uint64_t more = MIN(MAX(total, 2 * (uint64_t)c->unpacked.room), (uint64_t)cap);
        if (!buffer_reserve(c, &c->unpacked, more))
            return COMPRESS_NO_MEMORY;
    }
    size_t made = declared;
    if (snappy_uncompress(block, size, (char *)c->unpacked.data + *used, &made) != SNAPPY_OK)
        return COMPRESS_MALFORMED;
    assert(made == declared);
    *used = (uint32_t)total;
    return COMPRESS_OK;
}

static enum compress_result snappy_unpack(struct compress *c, const uint8_t *from, uint32_t size,
                                          uint32_t cap, uint32_t *to_size)
{
    *to_size = 0;
    if (!is_xerial_header(from, size))
        return snappy_block(c, from, size, cap, to_size);
    const uint8_t *at = from, *end = from + size;
    while (end - at >= 4) { /* fewer are no chunk; Java's reader ignores them too */
        uint32_t left = (uint32_t)(end - at);
        if (is_xerial_header(at, left)) {
            at += XERIAL_HEADER_SIZE;
            continue;
        }
        uint32_t chunk =
            (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        if (chunk > left - 4)
            return COMPRESS_MALFORMED;
        enum compress_result result = snappy_block(c, at + 4, chunk, cap, to_size);
        if (result != COMPRESS_OK)
            return result;
        at += 4 + chunk;
    }
    return COMPRESS_OK;
}

static enum compress_result snappy_pack(struct compress *c, int32_t level, const uint8_t *from,
                                        uint32_t from_size, uint32_t headroom, uint32_t *to_size)
{
    bool raw = level == COMPRESS_SNAPPY_RAW;
    uint32_t block_size = raw ? from_size : XERIAL_BLOCK_SIZE;
    uint64_t blocks = raw ? 1 : (uint64_t)from_size / XERIAL_BLOCK_SIZE + 1;
    uint64_t bound = headroom + XERIAL_HEADER_SIZE +
                     blocks * (4 + snappy_max_compressed_length(MIN(block_size, from_size)));
    if (!buffer_reserve(c, &c->packed, bound))
        return COMPRESS_NO_MEMORY;
    uint8_t *to = c->packed.data + headroom, *at = to;
    const uint8_t *end = c->packed.data + c->packed.room;
    if (!raw) {
        memcpy(at, xerial_header, XERIAL_HEADER_SIZE);
        at += XERIAL_HEADER_SIZE;
    }
    for (uint32_t done = 0; done < from_size; done += block_size) {
        uint32_t prefix = raw ? 0 : 4;
        size_t made = (size_t)(end - at) - prefix;
        snappy_status status =
            snappy_compress((const char *)from + done, MIN(block_size, from_size - done),
                            (char *)at + prefix, &made);
        assert(status == SNAPPY_OK);
        uint32_t size = __builtin_bswap32((uint32_t)made);
        memcpy(at, &size, prefix);
        at += prefix + made;
    }
    *to_size = (uint32_t)(at - to);
    return COMPRESS_OK;
}

/* ---- lz4 ------------------------------------------------------------------------------------- */

#define LZ4_FRAME_MAGIC      0x184d2204u
#define LZ4_FLAG_INDEPENDENT 0x20
#define LZ4_FLAG_DICTIONARY  0x01
#define LZ4_LEVEL_KAFKA      9 /* Kafka's default; it stands for the fast compressor */

static uint32_t little32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return v; /* little-endian hosts only: asserted in batch.c */
}

/* Kafka's reader takes a frame of independent blocks without dictionary, and nothing else. */
static bool lz4_frame_allowed(const uint8_t *from, uint32_t size)
{
    return size >= LZ4F_HEADER_SIZE_MIN && little32(from) == LZ4_FRAME_MAGIC &&
           (from[4] & LZ4_FLAG_INDEPENDENT) != 0 && (from[4] & LZ4_FLAG_DICTIONARY) == 0;
}

static bool lz4_in_ready(struct compress *c)
{
    LZ4F_CustomMem mem = {
        .customAlloc = library_alloc, .customFree = library_free, .opaqueState = c->mem};
    if (c->lz4_in == NULL)
        c->lz4_in = LZ4F_createDecompressionContext_advanced(mem, LZ4F_VERSION);
    else
        LZ4F_resetDecompressionContext(c->lz4_in);
    return c->lz4_in != NULL;
}

static enum compress_result lz4_stream(struct compress *c, const uint8_t *from, uint32_t from_size,
                                       uint32_t cap, uint32_t *to_size)
{
    uint32_t used = 0, at = 0;
    for (;;) { /* each turn takes input, makes output or ends */
        if (used == c->unpacked.room || used > cap) {
            enum compress_result grown = buffer_grow(c, &c->unpacked, used, cap);
            if (grown != COMPRESS_OK)
                return grown;
        }
        size_t made = MIN(c->unpacked.room, cap + 1) - used, taken = from_size - at;
        size_t status =
            LZ4F_decompress(c->lz4_in, c->unpacked.data + used, &made, from + at, &taken, NULL);
        if (LZ4F_isError(status))
            return LZ4F_getErrorCode(status) == LZ4F_ERROR_allocation_failed ? COMPRESS_NO_MEMORY
                                                                             : COMPRESS_MALFORMED;
        used += (uint32_t)made;
        at += (uint32_t)taken;
        if (status == 0)
            break;
        if (made == 0 && taken == 0)
            return COMPRESS_MALFORMED; /* it wants more than there is */
    }
    *to_size = used;
    return used > cap ? COMPRESS_TOO_LARGE : COMPRESS_OK;
}

static enum compress_result lz4_unpack(struct compress *c, const uint8_t *from, uint32_t from_size,
                                       uint32_t cap, uint32_t *to_size)
{
    if (!lz4_frame_allowed(from, from_size))
        return COMPRESS_MALFORMED;
    if (!lz4_in_ready(c))
        return COMPRESS_NO_MEMORY;
    enum compress_result result = lz4_stream(c, from, from_size, cap, to_size);
    /* The context keeps buffers of the frame's block size (64 KiB to 4 MiB). Java's is 64 KiB;
     * anything larger goes back at once. */
    if ((from[5] >> 4) > LZ4F_max64KB)
        lz4_in_free(c);
    return result;
}

static enum compress_result lz4_pack(struct compress *c, int32_t level, const uint8_t *from,
                                     uint32_t from_size, uint32_t headroom, uint32_t *to_size)
{
    LZ4F_CustomMem mem = {
        .customAlloc = library_alloc, .customFree = library_free, .opaqueState = c->mem};
    LZ4F_preferences_t how = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level == COMPRESS_LEVEL_DEFAULT || level == LZ4_LEVEL_KAFKA ? 0 : level,
        .autoFlush = 1,
    };
    if (c->lz4_out == NULL)
        c->lz4_out = LZ4F_createCompressionContext_advanced(mem, LZ4F_VERSION);
    uint64_t bound = headroom + LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(from_size, &how);
    if (c->lz4_out == NULL || !buffer_reserve(c, &c->packed, bound))
        return COMPRESS_NO_MEMORY;
    uint8_t *to = c->packed.data + headroom;
    size_t room = c->packed.room - headroom;
    size_t head = LZ4F_compressBegin(c->lz4_out, to, room, &how);
    if (LZ4F_isError(head))
        return COMPRESS_NO_MEMORY; /* all else is right by construction */
    size_t body = LZ4F_compressUpdate(c->lz4_out, to + head, room - head, from, from_size, NULL);
    assert(!LZ4F_isError(body));
    size_t tail = LZ4F_compressEnd(c->lz4_out, to + head + body, room - head - body, NULL);
    assert(!LZ4F_isError(tail));
    *to_size = (uint32_t)(head + body + tail);
    return COMPRESS_OK;
}

/* ---- zstd ------------------------------------------------------------------------------------ */

#define ZSTD_FRAME_MAGIC        0xfd2fb528u
#define ZSTD_SKIPPABLE_MAGIC    0x184d2a50u /* and 15 more */
#define ZSTD_BLOCK_MAX          (128u << 10)
#define ZSTD_WINDOW_MAX         (1ull << 27) /* what Kafka's reader allows */
#define ZSTD_LEVEL_KAFKA        3
#define ZSTD_DESCRIPTOR_SINGLE  0x20
#define ZSTD_DESCRIPTOR_CHECKED 0x04

/* Size of a frame's header behind the magic, 0 when it is cut short or not to be accepted. */
static uint32_t zstd_header_size(const uint8_t *at, uint32_t left)
{
    if (left < 1)
        return 0;
    static const uint8_t dictionary_sizes[4] = {0, 1, 2, 4}, content_sizes[4] = {0, 2, 4, 8};
    uint8_t descriptor = at[0];
    bool single = (descriptor & ZSTD_DESCRIPTOR_SINGLE) != 0;
    uint32_t content = content_sizes[descriptor >> 6];
    if (single && content == 0)
        content = 1;
    uint32_t size = 1 + (single ? 0u : 1u) + dictionary_sizes[descriptor & 3] + content;
    if (size > left || (descriptor & 3) != 0)
        return 0;
    if (single)
        return size; /* the window is the content, and that is capped */
    uint64_t base = 1ull << (10 + (at[1] >> 3));
    return base + base / 8 * (at[1] & 7) > ZSTD_WINDOW_MAX ? 0 : size;
}

/* Walks one frame's blocks without undoing them: its size, and how much it can make at most
 * (invariant 1). false: cut short or not zstd. */
static bool zstd_frame_measure(const uint8_t *from, uint32_t size, uint32_t *frame_size,
                               uint64_t *bound)
{
    *bound = 0;
    if (size < 8)
        return false;
    uint32_t magic = little32(from);
    if ((magic & ~15u) == ZSTD_SKIPPABLE_MAGIC) {
        uint64_t skip = 8 + (uint64_t)little32(from + 4);
        *frame_size = (uint32_t)MIN(skip, (uint64_t)size);
        return skip <= size;
    }
    uint32_t header = zstd_header_size(from + 4, size - 4);
    if (magic != ZSTD_FRAME_MAGIC || header == 0)
        return false;
    uint64_t at = 4 + header;
    for (bool last = false; !last;) {
        if (size - at < 3)
            return false;
        uint32_t head = from[at] | (uint32_t)from[at + 1] << 8 | (uint32_t)from[at + 2] << 16;
        uint32_t type = head >> 1 & 3, declared = head >> 3;
        last = (head & 1) != 0;
        if (type == 3 || declared > ZSTD_BLOCK_MAX)
            return false;
        at += 3 + (type == 1 ? 1 : declared); /* type 1: one byte, repeated */
        *bound += type == 2 ? ZSTD_BLOCK_MAX : declared;
        if (at > size)
            return false;
    }
    at += (from[4] & ZSTD_DESCRIPTOR_CHECKED) != 0 ? 4 : 0;
    *frame_size = (uint32_t)MIN(at, (uint64_t)size);
    return at <= size;
}

static bool zstd_in_ready(struct compress *c)
{
    ZSTD_customMem mem = {
        .customAlloc = library_alloc, .customFree = library_free, .opaque = c->mem};
    if (c->zstd_in == NULL)
        c->zstd_in = ZSTD_createDCtx_advanced(mem);
    return c->zstd_in != NULL;
}

static enum compress_result zstd_unpack(struct compress *c, const uint8_t *from, uint32_t from_size,
                                        uint32_t cap, uint32_t *to_size)
{
    if (!zstd_in_ready(c))
        return COMPRESS_NO_MEMORY;
    uint32_t used = 0;
    for (uint32_t at = 0; at < from_size;) {
        uint32_t frame_size;
        uint64_t bound;
        if (!zstd_frame_measure(from + at, from_size - at, &frame_size, &bound))
            return COMPRESS_MALFORMED;
        uint64_t room = MIN(bound, (uint64_t)cap + 1 - used);
        if (!buffer_reserve(c, &c->unpacked, used + room))
            return COMPRESS_NO_MEMORY;
        size_t made =
            ZSTD_decompressDCtx(c->zstd_in, c->unpacked.data + used, room, from + at, frame_size);
        if (ZSTD_isError(made)) {
            bool short_of_room = ZSTD_getErrorCode(made) == ZSTD_error_dstSize_tooSmall;
            return short_of_room && room < bound ? COMPRESS_TOO_LARGE : COMPRESS_MALFORMED;
        }
        used += (uint32_t)made;
        if (used > cap)
            return COMPRESS_TOO_LARGE;
        at += frame_size;
    }
    *to_size = used;
    return COMPRESS_OK;
}

static enum compress_result zstd_pack(struct compress *c, int32_t level, const uint8_t *from,
                                      uint32_t from_size, uint32_t headroom, uint32_t *to_size)
{
    ZSTD_customMem mem = {
        .customAlloc = library_alloc, .customFree = library_free, .opaque = c->mem};
    if (c->zstd_out == NULL)
        c->zstd_out = ZSTD_createCCtx_advanced(mem);
    uint64_t bound = headroom + (uint64_t)ZSTD_compressBound(from_size);
    if (c->zstd_out == NULL || !buffer_reserve(c, &c->packed, bound))
        return COMPRESS_NO_MEMORY;
    int zstd_level = level == COMPRESS_LEVEL_DEFAULT ? ZSTD_LEVEL_KAFKA : level;
    size_t made = ZSTD_compressCCtx(c->zstd_out, c->packed.data + headroom,
                                    c->packed.room - headroom, from, from_size, zstd_level);
    if (ZSTD_isError(made))
        return COMPRESS_NO_MEMORY; /* the room suffices: only the context's memory can be short */
    *to_size = (uint32_t)made;
    return COMPRESS_OK;
}

/* ---- by codec -------------------------------------------------------------------------------- */

static enum compress_result unpack(struct compress *c, enum codec codec, const uint8_t *from,
                                   uint32_t from_size, uint32_t cap, uint32_t *to_size)
{
    switch (codec) {
    case CODEC_GZIP:
        return gzip_unpack(c, from, from_size, cap, to_size);
    case CODEC_SNAPPY:
        return snappy_unpack(c, from, from_size, cap, to_size);
    case CODEC_LZ4:
        return lz4_unpack(c, from, from_size, cap, to_size);
    case CODEC_ZSTD:
        return zstd_unpack(c, from, from_size, cap, to_size);
    case CODEC_NONE:
    case CODECS_COUNT:
        break;
    }
    return COMPRESS_MALFORMED; /* numbers 5 to 7 of a batch's attributes */
}

enum compress_result compress_unpack(struct compress *c, enum codec codec, const uint8_t *from,
                                     uint32_t from_size, uint32_t cap, const uint8_t **to,
                                     uint32_t *to_size)
{
    assert(from != NULL);
    assert(cap <= COMPRESS_CAP_MAX);
    *to = from;
    *to_size = from_size;
    if (codec == CODEC_NONE)
        return COMPRESS_OK;
    buffer_trim(c, &c->unpacked, COMPRESS_KEEP_BYTES);
    if (!buffer_reserve(c, &c->unpacked, ROOM_MIN))
        return COMPRESS_NO_MEMORY;
    enum compress_result result = unpack(c, codec, from, from_size, cap, to_size);
    if (result != COMPRESS_OK) {
        c->refused++;
        return result;
    }
    assert(*to_size <= cap);
    *to = c->unpacked.data;
    c->unpacked_bytes += *to_size;
    return COMPRESS_OK;
}

enum compress_result compress_pack(struct compress *c, enum codec codec, int32_t level,
                                   const uint8_t *from, uint32_t from_size, uint32_t headroom,
                                   uint8_t **to, uint32_t *to_size)
{
    assert(from != NULL);
    assert(from_size <= COMPRESS_CAP_MAX);
    enum compress_result result = COMPRESS_NO_MEMORY;
    switch (codec) {
    case CODEC_NONE:
        if (buffer_reserve(c, &c->packed, (uint64_t)headroom + from_size)) {
            memcpy(c->packed.data + headroom, from, from_size);
            *to_size = from_size;
            result = COMPRESS_OK;
        }
        break;
    case CODEC_GZIP:
        result = gzip_pack(c, level, from, from_size, headroom, to_size);
        break;
    case CODEC_SNAPPY:
        result = snappy_pack(c, level, from, from_size, headroom, to_size);
        break;
    case CODEC_LZ4:
        result = lz4_pack(c, level, from, from_size, headroom, to_size);
        break;
    case CODEC_ZSTD:
        result = zstd_pack(c, level, from, from_size, headroom, to_size);
        break;
    case CODECS_COUNT:
        assert(codec != CODECS_COUNT);
        break;
    }
    if (result == COMPRESS_OK)
        *to = c->packed.data + headroom;
    return result;
}
