/* Record batches, Kafka's format v2: what a producer sends, what lies in a segment and what a
 * consumer gets are the same bytes. A 61-byte header, all big-endian, then the records, packed as
 * one block if a codec is set. Here are the header as bytes and as a struct, its checksum, walking
 * and building batches, and the checks a batch from a client must pass.
 *
 * The checksum covers everything behind itself, so base offset and leader epoch can be set without
 * touching it; timestamps and attributes cannot. */
#ifndef PROTO_BATCH_H
#define PROTO_BATCH_H

#include "proto/compress.h"
#include "proto/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the header ------------------------------------------------------------------------------ */

struct batch_bytes { /* on the wire and on disk */
    uint8_t base_offset[8];
    uint8_t length[4]; /* of what follows this field */
    uint8_t leader_epoch[4];
    uint8_t magic;
    uint8_t crc[4]; /* CRC-32C of all that follows this field */
    uint8_t attributes[2];
    uint8_t last_offset_delta[4];
    uint8_t base_timestamp[8];
    uint8_t max_timestamp[8];
    uint8_t producer_id[8];
    uint8_t producer_epoch[2];
    uint8_t base_sequence[4];
    uint8_t record_count[4];
    uint8_t records[];
};

#define BATCH_HEADER_SIZE  61
#define BATCH_PREFIX_SIZE  12 /* base offset and length: what `length` does not count */
#define BATCH_PEEK_SIZE    17 /* enough to know size and magic */
#define BATCH_OLD_SIZE_MIN 26 /* magic 0 with empty key and value */
#define BATCH_CRC_FROM     21

_Static_assert(sizeof(struct batch_bytes) == BATCH_HEADER_SIZE, "v2 header");
_Static_assert(offsetof(struct batch_bytes, leader_epoch) == BATCH_PREFIX_SIZE, "length's end");
_Static_assert(offsetof(struct batch_bytes, magic) == BATCH_PEEK_SIZE - 1, "magic is last to peek");
_Static_assert(offsetof(struct batch_bytes, attributes) == BATCH_CRC_FROM, "what the CRC covers");
_Static_assert(offsetof(struct batch_bytes, base_timestamp) == 27, "v2 header");
_Static_assert(offsetof(struct batch_bytes, producer_id) == 43, "v2 header");
_Static_assert(offsetof(struct batch_bytes, record_count) == 57, "v2 header");

enum batch_attribute { /* bits; 0-2 are the codec */
                       BATCH_CODEC_MASK = 0x07,
                       BATCH_LOG_APPEND_TIME = 0x08,
                       BATCH_TRANSACTIONAL = 0x10,
                       BATCH_CONTROL = 0x20,
                       BATCH_DELETE_HORIZON = 0x40,
};

#define BATCH_NO_TIMESTAMP   (-1)
#define BATCH_NO_PRODUCER_ID (-1)
#define BATCH_NO_SEQUENCE    (-1)

struct batch_header {
    int64_t base_offset;
    uint32_t size; /* of the whole batch, header included */
    int32_t leader_epoch;
    uint8_t magic;
    uint32_t crc;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp, max_timestamp;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count;
};

static inline int64_t batch_last_offset(const struct batch_header *h)
{
    /* of damaged ones too: below the base then */
    return (int64_t)((uint64_t)h->base_offset + (uint64_t)(int64_t)h->last_offset_delta);
}

static inline bool batch_has(const struct batch_header *h, enum batch_attribute bit)
{
    return (h->attributes & bit) != 0;
}

/* May be a number no codec has (5-7) until checked. */
static inline enum codec batch_codec(const struct batch_header *h)
{
    return (enum codec)(h->attributes & BATCH_CODEC_MASK);
}

/* The sequence number of the last record; wraps to 0 behind INT32_MAX. */
int32_t batch_last_sequence(const struct batch_header *h);

/* ---- reading --------------------------------------------------------------------------------- */

enum batch_peek {
    BATCH_WHOLE,     /* all of it is here; the header is decoded, nothing else is checked */
    BATCH_PARTIAL,   /* more bytes are needed; header->size is 0 when even that is unknown */
    BATCH_MALFORMED, /* length below the minimum or above INT32_MAX - 12, or unknown magic */
    BATCH_OLD, /* whole, but magic 0 or 1: base_offset (of the last record), size, magic only */
};

/* Looks at the batch that begins at data. */
NODISCARD enum batch_peek batch_peek(const uint8_t *data, size_t size, struct batch_header *header);
/* Decodes a header of which all 61 bytes are here and whose magic is 2. */
void batch_decode_header(const uint8_t *batch, struct batch_header *header);
/* Of a whole batch: does the checksum agree? */
NODISCARD bool batch_crc_matches(const uint8_t *batch, uint32_t size);
/* The same of a whole message of magic 0 or 1, whose checksum is a CRC-32. */
NODISCARD bool batch_old_crc_matches(const uint8_t *message, uint32_t size);
/* The same while copying it, one pass for both. */
NODISCARD bool batch_copy(uint8_t *to, const uint8_t *batch, uint32_t size);

/* Walks the whole batches in a buffer. */
struct batch_iter {
    const uint8_t *at, *end;
    enum batch_peek stopped; /* why next() said false: BATCH_WHOLE at the clean end */
};
void batch_iter_init(struct batch_iter *it, const uint8_t *data, size_t size);
/* *batch points into the buffer. Stops (false) at the end and at the first that is not BATCH_WHOLE;
 * it->at is then where that one begins. */
NODISCARD bool batch_next(struct batch_iter *it, const uint8_t **batch,
                          struct batch_header *header);

/* ---- changing a batch in place --------------------------------------------------------------- */

void batch_set_base_offset(uint8_t *batch, int64_t base_offset); /* outside the checksum */
void batch_set_leader_epoch(uint8_t *batch, int32_t epoch);      /* outside the checksum */
/* Sets the LogAppendTime bit and max_timestamp, and the checksum anew. */
void batch_set_append_time(uint8_t *batch, uint32_t size, int64_t now_ms);
/* Sets max_timestamp of a CreateTime batch, and the checksum anew. */
void batch_set_max_timestamp(uint8_t *batch, uint32_t size, int64_t max_timestamp);
/* All header fields from h, with size = size, and the checksum anew. */
void batch_encode_header(uint8_t *batch, uint32_t size, const struct batch_header *h);

/* ---- building -------------------------------------------------------------------------------- */

/* Writes one uncompressed batch into the caller's bytes. Offset deltas count 0, 1, 2 ... */
struct batch_builder {
    uint8_t *to;
    uint32_t room, size;
    struct batch_header header;
    bool full; /* a record did not fit; sticky */
};

struct batch_field { /* a key, value or header value; data NULL is null, whatever the size */
    const uint8_t *data;
    uint32_t size;
};

struct batch_record_header {
    struct batch_field key, value; /* key must not be null */
};

/* A header for an ordinary batch: no producer, no timestamp, leader epoch -1, base offset given. */
struct batch_header batch_header_plain(int64_t base_offset);

/* From `header` come base offset, leader epoch, attributes (the codec must be none), producer
 * fields; the rest is computed. room >= BATCH_HEADER_SIZE. */
void batch_builder_init(struct batch_builder *b, uint8_t *to, uint32_t room,
                        const struct batch_header *header);
/* false: it did not fit, the batch is as before and b->full is set. */
NODISCARD bool batch_builder_add(struct batch_builder *b, int64_t timestamp, struct batch_field key,
                                 struct batch_field value,
                                 const struct batch_record_header *headers, uint32_t headers_count);
/* How many bytes such a record takes, at most. */
uint32_t batch_record_size_max(struct batch_field key, struct batch_field value,
                               const struct batch_record_header *headers, uint32_t headers_count);
/* The size of the finished batch, header and checksum set; 0 when it has no record. */
uint32_t batch_builder_finish(struct batch_builder *b);

/* Keys of control records. The value of all but the first two is a message of the metadata log's
 * schemas and is the caller's to encode. */
enum batch_control {
    BATCH_CONTROL_ABORT = 0,
    BATCH_CONTROL_COMMIT = 1,
    BATCH_CONTROL_LEADER_CHANGE = 2,
    BATCH_CONTROL_SNAPSHOT_HEADER = 3,
    BATCH_CONTROL_SNAPSHOT_FOOTER = 4,
    BATCH_CONTROL_KRAFT_VERSION = 5,
    BATCH_CONTROL_KRAFT_VOTERS = 6,
};
#define BATCH_CONTROL_KEY_SIZE 4
#define BATCH_MARKER_SIZE_MAX  96

/* One control record in one batch; 0 when it does not fit. header: as for the builder, its control
 * bit is set here. */
uint32_t batch_build_control(uint8_t *to, uint32_t room, const struct batch_header *header,
                             enum batch_control type, int64_t timestamp, struct batch_field value);
/* The end of a transaction: ABORT or COMMIT. room >= BATCH_MARKER_SIZE_MAX. Returns the size. */
uint32_t batch_build_marker(uint8_t *to, uint32_t room, const struct batch_header *header,
                            bool commit, int32_t coordinator_epoch, int64_t timestamp);
/* Of a control batch's first record: false when it is none. coordinator_epoch is -1 unless it is a
 * marker. */
NODISCARD bool batch_read_control(const uint8_t *batch, uint32_t size, enum batch_control *type,
                                  int32_t *coordinator_epoch);

/* ---- checking what a client sends ------------------------------------------------------------ */

#define BATCH_RECORD_ERRORS_MAX      8
#define BATCH_CODEC_PRODUCER         CODECS_COUNT /* keep the codec the producer chose */
#define BATCH_UNPACKED_BYTES_DEFAULT (128u << 20)

struct batch_rules { /* what the topic and the request ask of a batch */
    int32_t max_message_bytes;
    bool compacted, log_append_time;
    /* false: trust the records when only their header matters (CreateTime, not compacted, codec
     * kept): faster, but a lying max_timestamp gets into the time index. Checksum and header are
     * always checked. */
    bool strict;
    int16_t produce_version;
    int64_t timestamp_before_max_ms, timestamp_after_max_ms, now_ms;
    enum codec codec; /* compression.type; BATCH_CODEC_PRODUCER for "producer" */
    int32_t codec_level;
    uint32_t unpacked_bytes_max; /* above: MESSAGE_TOO_LARGE */
};

struct batch_record_error {
    int32_t index;       /* of the record in its batch */
    const char *message; /* constant text */
};

struct batch_verdict {
    enum kafka_error error;
    const char *message; /* constant text, NULL when KE_NONE */
    struct batch_record_error record_errors[BATCH_RECORD_ERRORS_MAX];
    uint32_t record_errors_count;
    /* The batch to store: where it was, or, when it had to be packed or numbered anew, in memory
     * lent by `compress` till its next call. Its header is valid only when KE_NONE. */
    uint8_t *batch;
    struct batch_header header;
    bool rebuilt;
    bool bad_form; /* refused as a request, before it was looked at as what a log could take */
    /* Offset delta of the first record with header.max_timestamp; -1: not looked at. */
    int32_t max_timestamp_delta;
};

/* Judges a record set a client wants appended, in the order and with the codes of Kafka. May change
 * `records` in place (append time, a wrong max_timestamp). Offsets and leader epoch are still the
 * client's: set them on v->batch. copy_to, when not NULL, has room for size bytes that do not
 * overlap: the checksum pass copies the batch there, and v->batch is there (unless rebuilt). */
enum kafka_error batch_validate(struct compress *c, const struct batch_rules *rules,
                                uint8_t *records, uint32_t size, uint8_t *copy_to,
                                struct batch_verdict *v);

#endif
