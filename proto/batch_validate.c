/* batch_validate: may this record set be appended, and as what bytes?
 *
 *   record set ─▶ frame ─▶ size ─▶ checksum ─▶ header ─▶ each record ─▶ stamp in place ─▶ verdict
 *                   │        │        │           │           │     └─▶ rebuild ─▶ size ─▶ verdict
 *                   ▼        ▼        ▼           ▼           ▼
 *                87/2/76    10        2        87 (-1)     87/32/10 (-1)
 *
 * The order of the checks is Kafka's, because a batch can be wrong in two ways and clients know one
 * answer: first the request's form (one whole v2 batch; zstd only from version 7), then base
 * offset, size, checksum and codec, then the header's counts and sequence, then the records. The
 * codes were compared with Kafka 4.3.1 case by case; the table is in
 * tests/proto/test_batch_validate.c.
 *
 * What follows the batch and is no whole batch is ignored, as Kafka trims it. A batch whose
 * unpacking fails is answered UNKNOWN_SERVER_ERROR: strange, but Kafka's answer, and final for its
 * clients.
 *
 * Invariants:
 *  1. KE_NONE means: the verdict's bytes are one batch with right counts, its records decode, their
 *     offset deltas are 0 .. n-1, max_timestamp is the records' maximum (or now), and the checksum
 *     agrees. (Without `strict`: all but the statements about records. And of a producer that sets
 *     the append time bit falsely, the bit is taken away and its max_timestamp kept, as by Kafka.)
 *  2. The caller's bytes are changed only behind all checks, and only in the header.
 *  3. A verdict that refuses has a message; one that accepts has none.
 *
 * Where we differ from Kafka 4.3.1, on purpose: wrong offset deltas are put right in uncompressed
 * batches too (Kafka keeps them) and in compressed ones whose codec stays (Kafka fails); a record
 * whose length is wrong inside a compressed batch is refused (Kafka lets it through to consumers);
 * varints with too many bits are 87; a wrong LZ4 content checksum is refused. */
#include "proto/batch.h"

#include <string.h>

#include "core/assert.h"
#include "core/core.h"
#include "proto/record.h"

#define ZSTD_PRODUCE_VERSION_MIN 7

/* ---- saying no ------------------------------------------------------------------------------- */

static bool refuse(struct batch_verdict *v, enum kafka_error error, const char *message)
{
    assert(error != KE_NONE);
    assert(message != NULL);
    v->error = error;
    v->message = message;
    return false;
}

static void note_record(struct batch_verdict *v, int32_t index, const char *message)
{
    if (v->record_errors_count == BATCH_RECORD_ERRORS_MAX)
        return;
    v->record_errors[v->record_errors_count++] =
        (struct batch_record_error){.index = index, .message = message};
}

static bool refuse_unpacking(struct batch_verdict *v, enum compress_result result)
{
    assert(result != COMPRESS_OK);
    if (result == COMPRESS_TOO_LARGE)
        return refuse(v, KE_MESSAGE_TOO_LARGE, "The batch is too large once unpacked.");
    if (result == COMPRESS_NO_MEMORY) /* retriable, and makes no statement about the batch */
        return refuse(v, KE_REQUEST_TIMED_OUT, "No memory to look into the batch at the moment.");
    return refuse(v, KE_UNKNOWN_SERVER_ERROR, "The compressed records cannot be unpacked.");
}

/* ---- the request's form ---------------------------------------------------------------------- */

/* What batch_peek calls malformed because a v2 batch is too short for its own header is, to Kafka,
 * a batch whose checksum cannot be right. So the frame is looked at here with Kafka's eyes. */
enum frame { FRAME_WHOLE, FRAME_NONE, FRAME_BROKEN };

static enum frame look(const uint8_t *at, uint32_t size, uint32_t *frame_size, uint8_t *magic)
{
    if (size < BATCH_PREFIX_SIZE)
        return FRAME_NONE;
    uint32_t length;
    memcpy(&length, at + offsetof(struct batch_bytes, length), sizeof(length));
    length = __builtin_bswap32(length);
    if (length < BATCH_OLD_SIZE_MIN - BATCH_PREFIX_SIZE || length > INT32_MAX - BATCH_PREFIX_SIZE)
        return FRAME_BROKEN;
    if (size < BATCH_PEEK_SIZE)
        return FRAME_NONE;
    *magic = at[offsetof(struct batch_bytes, magic)];
    if (*magic > 2)
        return FRAME_BROKEN;
    *frame_size = length + BATCH_PREFIX_SIZE;
    return size < *frame_size ? FRAME_NONE : FRAME_WHOLE;
}

/* Told with the request below the version that brought zstd, by the log above it. */
#define NO_SUCH_CODEC "The batch names a codec that does not exist."

static bool check_form(struct batch_verdict *v, const struct batch_rules *rules,
                       const uint8_t *records, uint32_t size, uint32_t *batch_size)
{
    uint8_t magic = 0;
    enum frame frame = look(records, size, batch_size, &magic);
    if (frame == FRAME_BROKEN)
        return refuse(v, KE_CORRUPT_MESSAGE, "The record set does not begin with a batch.");
    if (frame == FRAME_NONE)
        return refuse(v, KE_INVALID_RECORD, "The record set holds no whole batch.");
    if (magic != 2)
        return refuse(v, KE_INVALID_RECORD, "Only batches of format version 2 are accepted.");
    uint8_t codec = records[BATCH_CRC_FROM + 1] & BATCH_CODEC_MASK;
    if (codec == CODEC_ZSTD && rules->produce_version < ZSTD_PRODUCE_VERSION_MIN)
        return refuse(v, KE_UNSUPPORTED_COMPRESSION_TYPE,
                      "zstd needs version 7 of the produce request or above.");
    if (codec >= CODECS_COUNT && rules->produce_version < ZSTD_PRODUCE_VERSION_MIN)
        return refuse(v, KE_UNKNOWN_SERVER_ERROR, NO_SUCH_CODEC);
    uint32_t next_size;
    frame = look(records + *batch_size, size - *batch_size, &next_size, &magic);
    if (frame == FRAME_BROKEN)
        return refuse(v, KE_CORRUPT_MESSAGE, "What follows the batch is not a batch.");
    if (frame == FRAME_WHOLE)
        return refuse(v, KE_INVALID_RECORD, "A partition takes one batch in a request.");
    return true;
}

/* ---- the batch as a whole -------------------------------------------------------------------- */

static bool check_bytes(struct batch_verdict *v, const struct batch_rules *rules, uint8_t *records,
                        uint32_t size, uint8_t *copy_to)
{
    static const uint8_t zero[8] = {0};
    if (memcmp(records, zero, sizeof(zero)) != 0)
        return refuse(v, KE_INVALID_RECORD, "A producer's base offset must be 0.");
    if (size > (uint32_t)rules->max_message_bytes)
        return refuse(v, KE_MESSAGE_TOO_LARGE, "The batch is larger than max.message.bytes.");
    if (size < BATCH_HEADER_SIZE)
        return refuse(v, KE_CORRUPT_MESSAGE, "The batch is shorter than its own header.");
    bool matches =
        copy_to != NULL ? batch_copy(copy_to, records, size) : batch_crc_matches(records, size);
    if (!matches)
        return refuse(v, KE_CORRUPT_MESSAGE, "The batch's checksum is wrong.");
    v->batch = copy_to != NULL ? copy_to : records;
    batch_decode_header(v->batch, &v->header);
    assert(v->header.size == size);
    return true;
}

static bool check_header(struct batch_verdict *v)
{
    const struct batch_header *h = &v->header;
    if (batch_codec(h) >= CODECS_COUNT)
        return refuse(v, KE_UNKNOWN_SERVER_ERROR, NO_SUCH_CODEC);
    if (h->last_offset_delta < 0)
        return refuse(v, KE_INVALID_RECORD, "The batch's last offset lies before its first.");
    if (h->record_count <= 0)
        return refuse(v, KE_INVALID_RECORD, "The batch has no records.");
    if ((int64_t)h->record_count != (int64_t)h->last_offset_delta + 1)
        return refuse(v, KE_INVALID_RECORD, "The batch's record count does not fit its offsets.");
    if (batch_has(h, BATCH_CONTROL))
        return refuse(v, KE_INVALID_RECORD, "Clients may not write control batches.");
    if (h->producer_id > BATCH_NO_PRODUCER_ID && h->base_sequence < 0)
        return refuse(v, KE_INVALID_RECORD, "A batch with a producer id needs a sequence number.");
    return true;
}

/* ---- the records ----------------------------------------------------------------------------- */

struct survey { /* what one pass over the records found */
    int64_t max_timestamp;
    int32_t max_timestamp_delta;
    bool deltas_right; /* 0 .. n-1 */
    bool timestamp_refused, any_refused;
};

static bool time_is_out(const struct batch_rules *rules, int64_t timestamp)
{
    /* Wraps as Java's does, on purpose: the limits are INT64_MAX by default. */
    int64_t age = (int64_t)((uint64_t)rules->now_ms - (uint64_t)timestamp);
    return age > rules->timestamp_before_max_ms || age < -rules->timestamp_after_max_ms;
}

/* NULL: fine. A batch may not claim to be stamped by the broker; Kafka overlooks the claim when the
 * topic keeps create times and the time itself is fine. */
static const char *judge_time(const struct batch_rules *rules, const struct batch_header *h,
                              int64_t timestamp)
{
    if (!rules->log_append_time && timestamp != BATCH_NO_TIMESTAMP)
        return time_is_out(rules, timestamp) ? "The timestamp is outside what the topic accepts."
                                             : NULL;
    return batch_has(h, BATCH_LOG_APPEND_TIME) ? "A producer may not set the append time." : NULL;
}

static void survey_record(struct batch_verdict *v, const struct batch_rules *rules,
                          const struct record *r, int32_t index, struct survey *s)
{
    int64_t timestamp = record_timestamp(&v->header, r);
    if (r->offset_delta != index)
        s->deltas_right = false;
    if (timestamp > s->max_timestamp) {
        s->max_timestamp = timestamp;
        s->max_timestamp_delta = index;
    }
    if (rules->compacted && r->key.data == NULL) {
        note_record(v, index, "A compacted topic needs a key in every record.");
        s->any_refused = true;
        return;
    }
    const char *wrong = judge_time(rules, &v->header, timestamp);
    if (wrong == NULL)
        return;
    note_record(v, index, wrong);
    s->any_refused = true;
    s->timestamp_refused = true;
}

static bool check_records(struct batch_verdict *v, const struct batch_rules *rules,
                          struct record_iter it, struct survey *s)
{
    *s = (struct survey){
        .max_timestamp = BATCH_NO_TIMESTAMP,
        .max_timestamp_delta = -1,
        .deltas_right = true,
    };
    struct record r;
    int32_t index = 0;
    while (record_next(&it, &r))
        survey_record(v, rules, &r, index++, s);
    if (it.malformed) {
        v->record_errors_count = 0; /* the indexes mean nothing now */
        return refuse(v, KE_INVALID_RECORD, "A record of the batch is malformed.");
    }
    assert(index == v->header.record_count);
    if (s->timestamp_refused)
        return refuse(v, KE_INVALID_TIMESTAMP, "Records were refused for their timestamps.");
    if (s->any_refused)
        return refuse(v, KE_INVALID_RECORD, "Records were refused.");
    return true;
}

/* The little that can be told without looking at the records. */
static bool check_times_by_header(struct batch_verdict *v, const struct batch_rules *rules)
{
    if (judge_time(rules, &v->header, v->header.max_timestamp) != NULL)
        return refuse(v, KE_INVALID_TIMESTAMP, "The batch's timestamps are not acceptable.");
    return true;
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void stamp_in_place(struct batch_verdict *v, const struct batch_rules *rules,
                           int64_t max_timestamp)
{
    uint32_t size = v->header.size;
    if (rules->log_append_time)
        batch_set_append_time(v->batch, size, rules->now_ms);
    else if (batch_has(&v->header, BATCH_LOG_APPEND_TIME) ||
             v->header.max_timestamp != max_timestamp)
        batch_set_max_timestamp(v->batch, size, max_timestamp);
    else
        return;
    batch_decode_header(v->batch, &v->header);
}

/* Where a record's offset delta stands: behind its length, attributes and timestamp. */
static const uint8_t *offset_delta_at(const struct record *r)
{
    const uint8_t *end = r->data + r->size;
    int32_t length;
    int64_t timestamp;
    const uint8_t *at = r->data + varint_read(r->data, end, &length);
    at += 1;
    return at + varlong_read(at, end, &timestamp);
}

static uint8_t *renumber_record(uint8_t *to, const struct record *r, int32_t index)
{
    const uint8_t *end = r->data + r->size;
    int32_t length, delta;
    uint32_t length_size = varint_read(r->data, end, &length);
    const uint8_t *head = r->data + length_size, *old = offset_delta_at(r);
    uint32_t old_size = varint_read(old, end, &delta);
    const uint8_t *rest = old + old_size;
    to += varint_write(to, (int32_t)((uint32_t)length - old_size + varint_size(index)));
    memcpy(to, head, (size_t)(old - head));
    to += old - head;
    to += varint_write(to, index);
    memcpy(to, rest, (size_t)(end - rest));
    return to + (end - rest);
}

/* The records once more with offset deltas 0 .. n-1, into c's unpacked buffer. */
static bool renumber(struct compress *c, struct record_iter *it, uint32_t *size)
{
    uint32_t count = it->left;
    uint64_t bound = (uint64_t)(it->end - it->at) + (uint64_t)count * 2 * VARINT_SIZE_MAX;
    uint8_t *to = bound > UINT32_MAX ? NULL : compress_scratch(c, (uint32_t)bound);
    if (to == NULL)
        return false;
    uint8_t *at = to;
    struct record r;
    for (int32_t i = 0; record_next(it, &r); i++)
        at = renumber_record(at, &r, i);
    assert(!it->malformed); /* they were read before */
    assert((uint64_t)(at - to) <= bound);
    *size = (uint32_t)(at - to);
    compress_swap(c);
    record_iter_init(it, to, *size, (int32_t)count);
    return true;
}

static bool rebuild(struct compress *c, struct batch_verdict *v, const struct batch_rules *rules,
                    enum codec codec, struct record_iter it, const struct survey *s)
{
    uint32_t size = (uint32_t)(it.end - it.at), packed_size;
    uint8_t *packed;
    if (!s->deltas_right && !renumber(c, &it, &size))
        return refuse_unpacking(v, COMPRESS_NO_MEMORY);
    enum compress_result result = compress_pack(c, codec, rules->codec_level, it.at, size,
                                                BATCH_HEADER_SIZE, &packed, &packed_size);
    if (result != COMPRESS_OK)
        return refuse_unpacking(v, result);
    if (packed_size > (uint32_t)rules->max_message_bytes - BATCH_HEADER_SIZE)
        return refuse(v, KE_MESSAGE_TOO_LARGE,
                      "Packed as the topic wants it, the batch is larger than max.message.bytes.");
    struct batch_header *h = &v->header;
    h->attributes = (h->attributes & BATCH_TRANSACTIONAL) | (uint16_t)codec;
    h->max_timestamp = s->max_timestamp;
    if (rules->log_append_time) {
        h->attributes |= BATCH_LOG_APPEND_TIME;
        h->max_timestamp = rules->now_ms;
    }
    v->batch = packed - BATCH_HEADER_SIZE;
    v->rebuilt = true;
    batch_encode_header(v->batch, packed_size + BATCH_HEADER_SIZE, h);
    batch_decode_header(v->batch, h);
    return true;
}

static bool look_inside(struct compress *c, struct batch_verdict *v,
                        const struct batch_rules *rules)
{
    enum codec have = batch_codec(&v->header);
    enum codec want = rules->codec == BATCH_CODEC_PRODUCER ? have : rules->codec;
    if (!rules->strict && !rules->compacted && have == want) {
        if (!check_times_by_header(v, rules))
            return false;
        stamp_in_place(v, rules, v->header.max_timestamp);
        return true;
    }
    struct record_iter it;
    struct survey s;
    enum compress_result result =
        record_open(c, v->batch, &v->header, rules->unpacked_bytes_max, &it);
    if (result != COMPRESS_OK)
        return refuse_unpacking(v, result);
    if (!check_records(v, rules, it, &s))
        return false;
    v->max_timestamp_delta = rules->log_append_time ? 0 : s.max_timestamp_delta;
    if (have != want || !s.deltas_right)
        return rebuild(c, v, rules, want, it, &s);
    stamp_in_place(v, rules, s.max_timestamp);
    return true;
}

enum kafka_error batch_validate(struct compress *c, const struct batch_rules *rules,
                                uint8_t *records, uint32_t size, uint8_t *copy_to,
                                struct batch_verdict *v)
{
    assert(rules->max_message_bytes >= 0);
    assert(rules->codec <= BATCH_CODEC_PRODUCER);
    assert(rules->unpacked_bytes_max > 0);
    *v = (struct batch_verdict){.max_timestamp_delta = -1};
    uint32_t batch_size = 0;
    v->bad_form = !check_form(v, rules, records, size, &batch_size);
    bool accepted = !v->bad_form && check_bytes(v, rules, records, batch_size, copy_to) &&
                    check_header(v) && look_inside(c, v, rules);
    if (!v->rebuilt)
        compress_trim(c, COMPRESS_KEEP_BYTES);
    assert(accepted == (v->error == KE_NONE)); /* invariant 3 */
    assert(accepted == (v->message == NULL));
    return v->error;
}
