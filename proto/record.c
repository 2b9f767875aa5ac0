/* record: reading the records inside a batch.
 *
 *   length varint      of what follows
 *   attributes u8      unused by Kafka, any value is kept
 *   timestamp varlong  minus the batch's base timestamp
 *   offset varint      minus the batch's base offset
 *   key varint + bytes, value varint + bytes      a negative length is null
 *   count varint, then per header: key varint + bytes (never null), value varint + bytes
 *
 * All varints are zigzag: 0, -1, 1, -2 ... become 0, 1, 2, 3.
 *
 * Invariants:
 *  1. A cursor never passes its end; once it would have, it is bad for good and yields zeros. So
 *     decoders read straight through and ask once.
 *  2. A record is handed out only after all of it was walked, headers too, and its parts filled its
 *     declared length exactly. Views of a record that was handed out can be trusted.
 *  3. The iterator ends cleanly only if the declared count and the bytes end together.
 *
 * Failure modes: only one, `malformed`. Kafka's leniency is kept where clients might lean on it
 * (any negative key or value length is null, overlong varints are read); where Kafka lets through a
 * record that its own consumers cannot read (a length that does not match, inside a compressed
 * batch), we do not. */
#include "proto/record.h"

#include <string.h>

#include "core/assert.h"
#include "core/core.h"

/* ---- varints --------------------------------------------------------------------------------- */

#define VARINT_LAST_MAX  0x0f /* what the fifth byte may hold of 32 bits */
#define VARLONG_LAST_MAX 0x01 /* what the tenth byte may hold of 64 bits */

static uint32_t unsigned_read(const uint8_t *at, const uint8_t *end, uint32_t size_max,
                              uint8_t last_max, uint64_t *value)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < size_max && at + i < end; i++) {
        uint8_t byte = at[i];
        if (i + 1 == size_max && byte > last_max)
            return 0;
        sum |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = sum;
            return i + 1;
        }
    }
    return 0;
}

static int64_t unfold(uint64_t folded)
{
    return (int64_t)((folded >> 1) ^ (0 - (folded & 1)));
}

uint32_t varint_read(const uint8_t *at, const uint8_t *end, int32_t *value)
{
    assert(at <= end);
    uint64_t folded = 0;
    uint32_t size = unsigned_read(at, end, VARINT_SIZE_MAX, VARINT_LAST_MAX, &folded);
    *value = (int32_t)unfold(folded);
    return size;
}

uint32_t varlong_read(const uint8_t *at, const uint8_t *end, int64_t *value)
{
    assert(at <= end);
    uint64_t folded = 0;
    uint32_t size = unsigned_read(at, end, VARLONG_SIZE_MAX, VARLONG_LAST_MAX, &folded);
    *value = unfold(folded);
    return size;
}

static uint64_t fold(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static uint32_t unsigned_write(uint8_t *to, uint64_t value)
{
    uint32_t size = 0;
    while (value >= 0x80) {
        to[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[size++] = (uint8_t)value;
    assert(size <= VARLONG_SIZE_MAX);
    return size;
}

static uint32_t unsigned_size(uint64_t value)
{
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(value | 1);
    return (bits + 6) / 7;
}

uint32_t varint_write(uint8_t *to, int32_t value)
{
    return unsigned_write(to, fold(value));
}

uint32_t varlong_write(uint8_t *to, int64_t value)
{
    return unsigned_write(to, fold(value));
}

uint32_t varint_size(int32_t value)
{
    return unsigned_size(fold(value));
}

uint32_t varlong_size(int64_t value)
{
    return unsigned_size(fold(value));
}

/* ---- a cursor that remembers its first failure (invariant 1) --------------------------------- */

struct cursor {
    const uint8_t *at, *end;
    bool bad;
};

static void cursor_fail(struct cursor *c)
{
    c->bad = true;
    c->at = c->end;
}

/* One and two bytes are nearly all varints there are: lengths below 8 KiB, deltas below 8 s. */
static inline bool take_short(struct cursor *c, uint32_t *folded)
{
    if (c->end - c->at < 2)
        return false;
    uint32_t low = c->at[0], high = c->at[1];
    if (low < 0x80) {
        *folded = low;
        c->at += 1;
        return true;
    }
    *folded = (low & 0x7f) | high << 7;
    c->at += 2 * (high < 0x80);
    return high < 0x80;
}

static int32_t take_long_varint(struct cursor *c)
{
    int32_t value;
    uint32_t size = varint_read(c->at, c->end, &value);
    if (size == 0) {
        cursor_fail(c);
        return 0;
    }
    c->at += size;
    return value;
}

static int64_t take_long_varlong(struct cursor *c)
{
    int64_t value;
    uint32_t size = varlong_read(c->at, c->end, &value);
    if (size == 0) {
        cursor_fail(c);
        return 0;
    }
    c->at += size;
    return value;
}

static inline int32_t take_varint(struct cursor *c)
{
    uint32_t folded;
    return take_short(c, &folded) ? (int32_t)unfold(folded) : take_long_varint(c);
}

static inline int64_t take_varlong(struct cursor *c)
{
    uint32_t folded;
    return take_short(c, &folded) ? unfold(folded) : take_long_varlong(c);
}

static inline uint8_t take_byte(struct cursor *c)
{
    if (c->at == c->end) {
        cursor_fail(c);
        return 0;
    }
    return *c->at++;
}

/* A length and as many bytes; a negative length is null. */
static inline struct batch_field take_field(struct cursor *c)
{
    int32_t size = take_varint(c);
    if (c->bad || size < 0)
        return (struct batch_field){0};
    if (size > c->end - c->at) {
        cursor_fail(c);
        return (struct batch_field){0};
    }
    struct batch_field field = {.data = c->at, .size = (uint32_t)size};
    c->at += size;
    return field;
}

static bool take_header(struct cursor *c, struct batch_record_header *h)
{
    h->key = take_field(c);
    if (h->key.data == NULL) {
        cursor_fail(c);
        return false;
    }
    h->value = take_field(c);
    return !c->bad;
}

/* ---- records --------------------------------------------------------------------------------- */

void record_iter_init(struct record_iter *it, const uint8_t *data, uint32_t size, int32_t count)
{
    assert(data != NULL);
    it->at = data;
    it->end = data + size;
    it->left = count < 0 ? 0 : (uint32_t)count;
    it->malformed = count < 0;
}

static bool iter_fail(struct record_iter *it)
{
    it->malformed = true;
    it->left = 0;
    return false;
}

static void walk_headers(struct cursor *c, struct record *r)
{
    int32_t count = take_varint(c);
    if (c->bad || count < 0 || count > c->end - c->at) {
        cursor_fail(c);
        return;
    }
    r->headers_count = (uint32_t)count;
    r->headers = c->at;
    struct batch_record_header h;
    for (int32_t i = 0; i < count; i++)
        if (!take_header(c, &h))
            return;
}

bool record_next(struct record_iter *it, struct record *r)
{
    assert(it->at <= it->end);
    if (it->left == 0) {
        if (it->at != it->end)
            it->malformed = true; /* invariant 3 */
        return false;
    }
    struct cursor c = {.at = it->at, .end = it->end};
    int32_t length = take_varint(&c);
    if (c.bad || length < 0 || length > c.end - c.at)
        return iter_fail(it);
    c.end = c.at + length;
    r->attributes = take_byte(&c);
    r->timestamp_delta = take_varlong(&c);
    r->offset_delta = take_varint(&c);
    r->key = take_field(&c);
    r->value = take_field(&c);
    r->headers_count = 0;
    r->headers = NULL;
    walk_headers(&c, r);
    if (c.bad || c.at != c.end)
        return iter_fail(it); /* invariant 2 */
    r->data = it->at;
    r->size = (uint32_t)(c.end - it->at);
    it->at = c.end;
    it->left--;
    assert(r->size > 0);
    return true;
}

void record_header_iter_init(struct record_header_iter *it, const struct record *r)
{
    assert(r->headers != NULL);
    it->at = r->headers;
    it->end = r->data + r->size;
    it->left = r->headers_count;
    assert(it->at <= it->end);
}

bool record_header_next(struct record_header_iter *it, struct batch_record_header *h)
{
    if (it->left == 0)
        return false;
    struct cursor c = {.at = it->at, .end = it->end};
    bool ok = take_header(&c, h);
    assert(ok); /* record_next walked them: invariant 2 */
    it->at = c.at;
    it->left--;
    return true;
}

int64_t record_timestamp(const struct batch_header *h, const struct record *r)
{
    if (batch_has(h, BATCH_LOG_APPEND_TIME))
        return h->max_timestamp;
    return (int64_t)((uint64_t)h->base_timestamp + (uint64_t)r->timestamp_delta);
}

/* ---- whole batches --------------------------------------------------------------------------- */

enum compress_result record_open(struct compress *c, const uint8_t *batch,
                                 const struct batch_header *h, uint32_t cap, struct record_iter *it)
{
    assert(h->magic == 2);
    assert(h->size >= BATCH_HEADER_SIZE);
    const uint8_t *records;
    uint32_t size;
    enum compress_result result =
        compress_unpack(c, batch_codec(h), batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE,
                        cap, &records, &size);
    if (result == COMPRESS_OK)
        record_iter_init(it, records, size, h->record_count);
    return result;
}

bool record_find_time(struct record_iter it, const struct batch_header *h, int64_t t,
                      int64_t min_offset, struct record_found *found)
{
    struct record r;
    while (record_next(&it, &r)) {
        int64_t offset = h->base_offset + r.offset_delta;
        int64_t timestamp = record_timestamp(h, &r);
        if (timestamp >= t && offset >= min_offset) {
            *found = (struct record_found){.offset = offset, .timestamp = timestamp};
            return true;
        }
    }
    return false;
}

bool record_find_max_time(struct record_iter it, const struct batch_header *h,
                          struct record_found *found)
{
    bool any = false;
    struct record r;
    while (record_next(&it, &r)) {
        int64_t timestamp = record_timestamp(h, &r);
        if (any && timestamp <= found->timestamp)
            continue;
        found->offset = h->base_offset + r.offset_delta;
        found->timestamp = timestamp;
        any = true;
    }
    return any && !it.malformed;
}
