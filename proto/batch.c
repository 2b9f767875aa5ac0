/* batch: Kafka's record batch v2 as bytes: reading, walking, stamping and building.
 *
 *    0  base_offset i64          27  base_timestamp i64     (bit 6 set: the delete horizon)
 *    8  length i32               35  max_timestamp i64
 *   12  leader_epoch i32         43  producer_id i64
 *   16  magic i8 = 2             51  producer_epoch i16
 *   17  crc u32 of 21..end       53  base_sequence i32
 *   21  attributes i16           57  record_count i32
 *   23  last_offset_delta i32    61  records, one compressed block if a codec is set
 *
 * Invariants:
 *  1. `size` of a decoded header is 12 + length, between 61 and INT32_MAX, and the batch's bytes
 *     reach that far (BATCH_WHOLE). Nothing else about the header is promised by reading it.
 *  2. Whoever changes a byte behind the checksum sets the checksum in the same function.
 *  3. A builder's batch is valid after each successful add, but for header and checksum, which
 *     batch_builder_finish writes; a record that does not fit changes nothing.
 *
 * Failure modes: bytes that are no batch are BATCH_MALFORMED; what that means (a client's fault, a
 * torn tail, rot) is the reader's to say. Formats v0 and v1 of old segments are told apart
 * (BATCH_OLD), their checksum is known, and otherwise they are not understood. */
#include "proto/batch.h"

#include <string.h>
#include <zlib.h>

#include "core/assert.h"
#include "core/core.h"
#include "core/crc32c.h"
#include "proto/record.h"

#define MAGIC            2
#define LENGTH_MIN       14 /* v0's own header: below it nothing can be a batch */
#define BATCH_SIZE_MAX   INT32_MAX
#define LAST_ATTRIBUTE   BATCH_DELETE_HORIZON
#define ATTRIBUTES_KNOWN (2 * LAST_ATTRIBUTE - 1)

/* ---- big-endian ------------------------------------------------------------------------------ */

static uint16_t get16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof(v));
    return __builtin_bswap16(v);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return __builtin_bswap32(v);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    return __builtin_bswap64(v);
}

static void put16(uint8_t *at, uint16_t v)
{
    v = __builtin_bswap16(v);
    memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(at, &v, sizeof(v));
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the swaps above assume it");

static struct batch_bytes *bytes_of(uint8_t *batch)
{
    return (struct batch_bytes *)(void *)batch;
}

static const struct batch_bytes *const_bytes_of(const uint8_t *batch)
{
    return (const struct batch_bytes *)(const void *)batch;
}

/* ---- reading --------------------------------------------------------------------------------- */

int32_t batch_last_sequence(const struct batch_header *h)
{
    if (h->base_sequence == BATCH_NO_SEQUENCE)
        return BATCH_NO_SEQUENCE;
    int64_t last = (int64_t)h->base_sequence + h->last_offset_delta;
    if (last > INT32_MAX)
        last -= (int64_t)INT32_MAX + 1;
    return (int32_t)last;
}

void batch_decode_header(const uint8_t *batch, struct batch_header *header)
{
    const struct batch_bytes *b = const_bytes_of(batch);
    assert(b->magic == MAGIC);
    *header = (struct batch_header){
        .base_offset = (int64_t)get64(b->base_offset),
        .size = get32(b->length) + BATCH_PREFIX_SIZE,
        .leader_epoch = (int32_t)get32(b->leader_epoch),
        .magic = b->magic,
        .crc = get32(b->crc),
        .attributes = get16(b->attributes),
        .last_offset_delta = (int32_t)get32(b->last_offset_delta),
        .base_timestamp = (int64_t)get64(b->base_timestamp),
        .max_timestamp = (int64_t)get64(b->max_timestamp),
        .producer_id = (int64_t)get64(b->producer_id),
        .producer_epoch = (int16_t)get16(b->producer_epoch),
        .base_sequence = (int32_t)get32(b->base_sequence),
        .record_count = (int32_t)get32(b->record_count),
    };
}

enum batch_peek batch_peek(const uint8_t *data, size_t size, struct batch_header *header)
{
    *header = (struct batch_header){0};
    if (size < BATCH_PREFIX_SIZE)
        return BATCH_PARTIAL;
    const struct batch_bytes *b = const_bytes_of(data);
    uint32_t length = get32(b->length);
    if (length < LENGTH_MIN || length > BATCH_SIZE_MAX - BATCH_PREFIX_SIZE)
        return BATCH_MALFORMED;
    header->base_offset = (int64_t)get64(b->base_offset);
    header->size = length + BATCH_PREFIX_SIZE;
    if (size < BATCH_PEEK_SIZE)
        return BATCH_PARTIAL;
    header->magic = b->magic;
    if (b->magic > MAGIC)
        return BATCH_MALFORMED;
    if (b->magic == MAGIC && header->size < BATCH_HEADER_SIZE)
        return BATCH_MALFORMED;
    if (size < header->size)
        return BATCH_PARTIAL;
    if (b->magic < MAGIC)
        return BATCH_OLD;
    batch_decode_header(data, header);
    assert(header->size >= BATCH_HEADER_SIZE); /* invariant 1 */
    return BATCH_WHOLE;
}

static uint32_t crc_of(const uint8_t *batch, uint32_t size)
{
    assert(size >= BATCH_HEADER_SIZE);
    return crc32c(0, batch + BATCH_CRC_FROM, size - BATCH_CRC_FROM);
}

bool batch_crc_matches(const uint8_t *batch, uint32_t size)
{
    return crc_of(batch, size) == get32(const_bytes_of(batch)->crc);
}

bool batch_old_crc_matches(const uint8_t *message, uint32_t size)
{
    assert(size >= BATCH_OLD_SIZE_MIN);
    uint32_t from = BATCH_PEEK_SIZE - 1; /* the magic */
    return (uint32_t)crc32(0, message + from, size - from) == get32(message + BATCH_PREFIX_SIZE);
}

bool batch_copy(uint8_t *to, const uint8_t *batch, uint32_t size)
{
    assert(size >= BATCH_HEADER_SIZE);
    memcpy(to, batch, BATCH_CRC_FROM);
    uint32_t crc =
        crc32c_copy(0, to + BATCH_CRC_FROM, batch + BATCH_CRC_FROM, size - BATCH_CRC_FROM);
    return crc == get32(const_bytes_of(to)->crc);
}

void batch_iter_init(struct batch_iter *it, const uint8_t *data, size_t size)
{
    assert(data != NULL || size == 0);
    it->at = data;
    it->end = size == 0 ? data : data + size;
    it->stopped = BATCH_WHOLE;
}

bool batch_next(struct batch_iter *it, const uint8_t **batch, struct batch_header *header)
{
    if (it->at == it->end || it->stopped != BATCH_WHOLE)
        return false;
    it->stopped = batch_peek(it->at, (size_t)(it->end - it->at), header);
    if (it->stopped != BATCH_WHOLE)
        return false;
    *batch = it->at;
    it->at += header->size;
    assert(it->at <= it->end);
    return true;
}

/* ---- changing -------------------------------------------------------------------------------- */

static void seal(uint8_t *batch, uint32_t size)
{
    assert(get32(const_bytes_of(batch)->length) == size - BATCH_PREFIX_SIZE);
    put32(bytes_of(batch)->crc, crc_of(batch, size));
}

void batch_set_base_offset(uint8_t *batch, int64_t base_offset)
{
    assert(base_offset >= 0);
    put64(bytes_of(batch)->base_offset, (uint64_t)base_offset);
}

void batch_set_leader_epoch(uint8_t *batch, int32_t epoch)
{
    put32(bytes_of(batch)->leader_epoch, (uint32_t)epoch);
}

static void stamp(uint8_t *batch, uint32_t size, uint16_t type, int64_t max_timestamp)
{
    assert(size >= BATCH_HEADER_SIZE);
    struct batch_bytes *b = bytes_of(batch);
    uint16_t others = get16(b->attributes) & ATTRIBUTES_KNOWN & ~BATCH_LOG_APPEND_TIME;
    put16(b->attributes, others | type);
    put64(b->max_timestamp, (uint64_t)max_timestamp);
    seal(batch, size); /* invariant 2 */
}

void batch_set_append_time(uint8_t *batch, uint32_t size, int64_t now_ms)
{
    stamp(batch, size, BATCH_LOG_APPEND_TIME, now_ms);
}

void batch_set_max_timestamp(uint8_t *batch, uint32_t size, int64_t max_timestamp)
{
    stamp(batch, size, 0, max_timestamp);
}

void batch_encode_header(uint8_t *batch, uint32_t size, const struct batch_header *h)
{
    assert(size >= BATCH_HEADER_SIZE);
    assert(size <= BATCH_SIZE_MAX);
    struct batch_bytes *b = bytes_of(batch);
    put64(b->base_offset, (uint64_t)h->base_offset);
    put32(b->length, size - BATCH_PREFIX_SIZE);
    put32(b->leader_epoch, (uint32_t)h->leader_epoch);
    b->magic = MAGIC;
    put16(b->attributes, h->attributes);
    put32(b->last_offset_delta, (uint32_t)h->last_offset_delta);
    put64(b->base_timestamp, (uint64_t)h->base_timestamp);
    put64(b->max_timestamp, (uint64_t)h->max_timestamp);
    put64(b->producer_id, (uint64_t)h->producer_id);
    put16(b->producer_epoch, (uint16_t)h->producer_epoch);
    put32(b->base_sequence, (uint32_t)h->base_sequence);
    put32(b->record_count, (uint32_t)h->record_count);
    seal(batch, size);
}

/* ---- building -------------------------------------------------------------------------------- */

struct batch_header batch_header_plain(int64_t base_offset)
{
    return (struct batch_header){
        .base_offset = base_offset,
        .leader_epoch = -1,
        .magic = MAGIC,
        .base_timestamp = BATCH_NO_TIMESTAMP,
        .max_timestamp = BATCH_NO_TIMESTAMP,
        .producer_id = BATCH_NO_PRODUCER_ID,
        .producer_epoch = -1,
        .base_sequence = BATCH_NO_SEQUENCE,
    };
}

void batch_builder_init(struct batch_builder *b, uint8_t *to, uint32_t room,
                        const struct batch_header *header)
{
    assert(room >= BATCH_HEADER_SIZE);
    assert((header->attributes & BATCH_CODEC_MASK) == CODEC_NONE);
    *b = (struct batch_builder){
        .to = to,
        .room = MIN(room, (uint32_t)BATCH_SIZE_MAX),
        .size = BATCH_HEADER_SIZE,
        .header = *header,
    };
    b->header.magic = MAGIC;
    b->header.record_count = 0;
    b->header.last_offset_delta = -1;
}

/* Length in front and bytes, for a key or a value: what it takes and how it is written. */
static uint64_t field_size(struct batch_field f)
{
    if (f.data == NULL)
        return varint_size(-1);
    return (uint64_t)varlong_size(f.size) + f.size;
}

static uint8_t *put_field(uint8_t *at, struct batch_field f)
{
    if (f.data == NULL)
        return at + varint_write(at, -1);
    at += varint_write(at, (int32_t)f.size);
    memcpy(at, f.data, f.size);
    return at + f.size;
}

static uint64_t headers_size(const struct batch_record_header *headers, uint32_t count)
{
    uint64_t size = varlong_size(count);
    for (uint32_t i = 0; i < count; i++) {
        assert(headers[i].key.data != NULL);
        size += field_size(headers[i].key) + field_size(headers[i].value);
    }
    return size;
}

uint32_t batch_record_size_max(struct batch_field key, struct batch_field value,
                               const struct batch_record_header *headers, uint32_t headers_count)
{
    uint64_t size = VARINT_SIZE_MAX + 1 + VARLONG_SIZE_MAX + VARINT_SIZE_MAX + field_size(key) +
                    field_size(value) + headers_size(headers, headers_count);
    assert(size <= UINT32_MAX);
    return (uint32_t)size;
}

bool batch_builder_add(struct batch_builder *b, int64_t timestamp, struct batch_field key,
                       struct batch_field value, const struct batch_record_header *headers,
                       uint32_t headers_count)
{
    assert(b->size <= b->room);
    bool first = b->header.record_count == 0;
    int64_t base = first ? timestamp : b->header.base_timestamp;
    int64_t delta = (int64_t)((uint64_t)timestamp - (uint64_t)base);
    int32_t index = b->header.record_count;
    uint64_t body = 1 + varlong_size(delta) + varint_size(index) + field_size(key) +
                    field_size(value) + headers_size(headers, headers_count);
    if (body > BATCH_SIZE_MAX || b->size + varlong_size((int64_t)body) + body > b->room) {
        b->full = true;
        return false;
    }
    uint8_t *at = b->to + b->size;
    at += varint_write(at, (int32_t)body);
    const uint8_t *end = at + body;
    *at++ = 0;
    at += varlong_write(at, delta);
    at += varint_write(at, index);
    at = put_field(at, key);
    at = put_field(at, value);
    at += varint_write(at, (int32_t)headers_count);
    for (uint32_t i = 0; i < headers_count; i++)
        at = put_field(put_field(at, headers[i].key), headers[i].value);
    assert(at == end);
    b->size = (uint32_t)(end - b->to);
    b->header.base_timestamp = base;
    if (first || timestamp > b->header.max_timestamp)
        b->header.max_timestamp = timestamp;
    b->header.record_count++;
    b->header.last_offset_delta = index;
    return true;
}

uint32_t batch_builder_finish(struct batch_builder *b)
{
    assert(b->size <= b->room);
    if (b->header.record_count == 0)
        return 0;
    batch_encode_header(b->to, b->size, &b->header);
    assert(b->header.last_offset_delta == b->header.record_count - 1);
    return b->size;
}

/* ---- control batches ------------------------------------------------------------------------- */

#define CONTROL_VERSION   0
#define MARKER_VALUE_SIZE 6 /* version i16, coordinator epoch i32 */

_Static_assert(BATCH_HEADER_SIZE + 7 + BATCH_CONTROL_KEY_SIZE + MARKER_VALUE_SIZE <=
                   BATCH_MARKER_SIZE_MAX,
               "the seven numbers of a marker's record are small: one byte each");

uint32_t batch_build_control(uint8_t *to, uint32_t room, const struct batch_header *header,
                             enum batch_control type, int64_t timestamp, struct batch_field value)
{
    struct batch_header h = *header;
    h.attributes |= BATCH_CONTROL;
    struct batch_builder b;
    batch_builder_init(&b, to, room, &h);
    uint8_t key[BATCH_CONTROL_KEY_SIZE];
    put16(key, CONTROL_VERSION);
    put16(key + 2, (uint16_t)type);
    struct batch_field key_field = {.data = key, .size = sizeof(key)};
    if (!batch_builder_add(&b, timestamp, key_field, value, NULL, 0))
        return 0;
    return batch_builder_finish(&b);
}

uint32_t batch_build_marker(uint8_t *to, uint32_t room, const struct batch_header *header,
                            bool commit, int32_t coordinator_epoch, int64_t timestamp)
{
    assert(room >= BATCH_MARKER_SIZE_MAX);
    assert(header->producer_id >= 0);
    struct batch_header h = *header;
    h.attributes |= BATCH_TRANSACTIONAL;
    h.base_sequence = BATCH_NO_SEQUENCE;
    uint8_t value[MARKER_VALUE_SIZE];
    put16(value, CONTROL_VERSION);
    put32(value + 2, (uint32_t)coordinator_epoch);
    uint32_t size =
        batch_build_control(to, room, &h, commit ? BATCH_CONTROL_COMMIT : BATCH_CONTROL_ABORT,
                            timestamp, (struct batch_field){.data = value, .size = sizeof(value)});
    assert(size != 0);
    return size;
}

bool batch_read_control(const uint8_t *batch, uint32_t size, enum batch_control *type,
                        int32_t *coordinator_epoch)
{
    struct batch_header h;
    if (batch_peek(batch, size, &h) != BATCH_WHOLE || !batch_has(&h, BATCH_CONTROL) ||
        batch_codec(&h) != CODEC_NONE)
        return false;
    struct record_iter it;
    struct record r;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h.size - BATCH_HEADER_SIZE, h.record_count);
    if (!record_next(&it, &r) || r.key.data == NULL || r.key.size < BATCH_CONTROL_KEY_SIZE)
        return false;
    *type = (enum batch_control)get16(r.key.data + 2);
    *coordinator_epoch = -1;
    if (*type > BATCH_CONTROL_COMMIT)
        return true;
    if (r.value.data == NULL || r.value.size < MARKER_VALUE_SIZE)
        return false;
    *coordinator_epoch = (int32_t)get32(r.value.data + 2);
    return true;
}
