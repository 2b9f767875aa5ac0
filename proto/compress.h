/* struct compress: one core's compression contexts and the two buffers that compressed record sets
 * are unpacked into and packed into. It exists because the broker must look inside compressed
 * batches (checks, compaction, time lookups) and sometimes packs them anew (compression.type).
 *
 * What is unpacked comes from strangers: output stops at a cap the caller gives, and memory grows
 * with what has really been produced, never with what a header declares. Results are lent: they
 * stay valid until the next call of the same kind on the same struct. Owner core only. */
#ifndef PROTO_COMPRESS_H
#define PROTO_COMPRESS_H

#include "core/assert.h"
#include "core/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum codec { /* as in the attributes of a record batch */
             CODEC_NONE = 0,
             CODEC_GZIP = 1,
             CODEC_SNAPPY = 2,
             CODEC_LZ4 = 3,
             CODEC_ZSTD = 4,
             CODECS_COUNT,
};

#define COMPRESS_LEVEL_DEFAULT INT32_MIN /* whatever Kafka's default is for the codec */
#define COMPRESS_SNAPPY_RAW    1         /* level of CODEC_SNAPPY: without the xerial frame */
#define COMPRESS_KEEP_BYTES    (1u << 20)
#define COMPRESS_CAP_MAX       (1u << 30)

struct compress_buffer {
    uint8_t *data;
    uint32_t room;
};

struct compress {
    struct mem *mem;
    struct compress_buffer unpacked, packed;
    /* contexts, made at first use */
    struct ZSTD_DCtx_s *zstd_in;
    struct ZSTD_CCtx_s *zstd_out;
    struct LZ4F_dctx_s *lz4_in;
    struct LZ4F_cctx_s *lz4_out;
    struct z_stream_s *gzip_in;
    uint64_t unpacked_bytes, refused; /* counters */
};

enum compress_result {
    COMPRESS_OK,
    COMPRESS_MALFORMED, /* not what the codec's format allows, or cut short */
    COMPRESS_TOO_LARGE, /* would exceed the cap */
    COMPRESS_NO_MEMORY, /* over budget */
};

void compress_init(struct compress *c, struct mem *mem);
void compress_free(struct compress *c);
/* Gives back what the buffers hold beyond keep_bytes each: lent results end. Unpacking does so by
 * itself with COMPRESS_KEEP_BYTES before it begins. */
void compress_trim(struct compress *c, uint32_t keep_bytes);

/* Unpacks all of `from`; CODEC_NONE lends `from` itself. *to is never NULL when OK. Codecs that do
 * not exist are MALFORMED. cap <= COMPRESS_CAP_MAX. */
NODISCARD enum compress_result compress_unpack(struct compress *c, enum codec codec,
                                               const uint8_t *from, uint32_t from_size,
                                               uint32_t cap, const uint8_t **to, uint32_t *to_size);
/* Packs `from`, framed as Kafka's Java client does, leaving `headroom` unused bytes in front of the
 * result (*to points behind them): for a batch header. `from` may lie in what was unpacked. */
NODISCARD enum compress_result compress_pack(struct compress *c, enum codec codec, int32_t level,
                                             const uint8_t *from, uint32_t from_size,
                                             uint32_t headroom, uint8_t **to, uint32_t *to_size);
/* The packed buffer with room for size bytes, for a caller that fills it itself; NULL over budget.
 * compress_swap then makes it the unpacked one, so that it can be packed from. */
NODISCARD uint8_t *compress_scratch(struct compress *c, uint32_t size);
void compress_swap(struct compress *c);
/* "gzip", "none" for CODEC_NONE. */
const char *codec_name(enum codec codec);

#endif
