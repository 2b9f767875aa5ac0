/* forge: see the header. Numbers are written out by shifting, not by the code under test. */
#include "forge.h"

#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/crc32c.h"

static uint8_t *put_varint(uint8_t *to, int64_t value)
{
    uint64_t folded =
        value < 0 ? 2 * (uint64_t)(-(value + 1)) + 1 : 2 * (uint64_t)value; /* zigzag */
    for (; folded > 127; folded /= 128)
        *to++ = (uint8_t)(folded % 128 + 128);
    *to++ = (uint8_t)folded;
    return to;
}

static uint8_t *put_bytes(uint8_t *to, const char *text, uint32_t size)
{
    memcpy(to, text, size);
    return to + size;
}

static uint8_t *put_key(uint8_t *to, const struct forge_record *r)
{
    if (r->null_key)
        return put_varint(to, -1);
    uint32_t size = r->empty_key ? 0 : (uint32_t)strlen(FORGE_KEY);
    to = put_varint(to, r->key_size != 0 ? r->key_size : (int64_t)size);
    return r->key_size < 0 ? to : put_bytes(to, FORGE_KEY, size);
}

static uint8_t *put_value(uint8_t *to, const struct forge_record *r)
{
    if (r->null_value)
        return put_varint(to, -1);
    uint32_t size = r->value_fill > 0 ? r->value_fill : (uint32_t)strlen(FORGE_VALUE);
    to = put_varint(to, r->value_size != 0 ? r->value_size : (int64_t)size);
    if (r->value_size < 0)
        return to;
    if (r->value_fill == 0)
        return put_bytes(to, FORGE_VALUE, size);
    memset(to, 'x', size);
    return to + size;
}

static uint8_t *put_record(uint8_t *to, const struct forge_record *r, uint32_t index)
{
    if (r->raw != NULL)
        return put_bytes(to, r->raw, r->raw_size);
    static _Thread_local uint8_t body[FORGE_ROOM];
    uint8_t *at = body;
    *at++ = r->attributes;
    at = put_varint(at, r->time_delta);
    at = put_varint(at, (int64_t)index + r->delta_plus);
    at = put_key(at, r);
    at = put_value(at, r);
    at = put_varint(at, r->headers_count != 0 ? r->headers_count : r->header);
    if (r->header) {
        at = r->header_null_key ? put_varint(at, -1) : put_bytes(put_varint(at, 1), "h", 1);
        at = r->header_null_value ? put_varint(at, -1) : put_bytes(put_varint(at, 2), "vv", 2);
    }
    to = put_varint(to, at - body + r->length_plus);
    return put_bytes(to, (const char *)body, (uint32_t)(at - body));
}

uint32_t forge_records(const struct forge_batch *f, uint8_t *to)
{
    uint32_t count = f->empty || f->records_count > 0 ? f->records_count : 1;
    uint8_t *at = to;
    for (uint32_t i = 0; i < count; i++)
        at = put_record(at, &f->records[i < 3 ? i : 2], i);
    assert(at - to < FORGE_ROOM - BATCH_HEADER_SIZE);
    return (uint32_t)(at - to);
}

static uint32_t pack(struct mem *mem, const struct forge_batch *f, uint8_t *to)
{
    if (f->packed != NULL) {
        memcpy(to, f->packed, f->packed_size);
        return f->packed_size;
    }
    uint32_t size = forge_records(f, to);
    struct compress c;
    compress_init(&c, mem);
    uint8_t *packed;
    uint32_t packed_size;
    enum compress_result result =
        compress_pack(&c, f->codec, f->codec_level == 0 ? COMPRESS_LEVEL_DEFAULT : f->codec_level,
                      to, size, 0, &packed, &packed_size);
    assert(result == COMPRESS_OK);
    memcpy(to, packed, packed_size);
    compress_free(&c);
    return packed_size;
}

static void put_big(uint8_t *to, uint32_t size, int64_t value)
{
    for (uint32_t i = size; i > 0; i--) {
        to[i - 1] = (uint8_t)value;
        value >>= 8;
    }
}

static const struct {
    uint8_t at, size;
} fields[] = {
    [FORGE_BASE_OFFSET] = {0, 8},
    [FORGE_LENGTH] = {8, 4},
    [FORGE_LEADER_EPOCH] = {12, 4},
    [FORGE_MAGIC] = {16, 1},
    [FORGE_CRC] = {17, 4},
    [FORGE_ATTRIBUTES] = {21, 2},
    [FORGE_LAST_DELTA] = {23, 4},
    [FORGE_BASE_TIME] = {27, 8},
    [FORGE_MAX_TIME] = {35, 8},
    [FORGE_PRODUCER_ID] = {43, 8},
    [FORGE_PRODUCER_EPOCH] = {51, 2},
    [FORGE_SEQUENCE] = {53, 4},
    [FORGE_COUNT] = {57, 4},
};

static void set(uint8_t *batch, enum forge_field field, int64_t value)
{
    put_big(batch + fields[field].at, fields[field].size, value);
}

static uint32_t seal(const struct forge_batch *f, uint8_t *to, uint32_t size)
{
    bool crc_given = false;
    for (int i = 0; i < FORGE_PATCHES; i++) {
        const struct forge_patch *p = &f->patches[i];
        if (p->field == FORGE_NOTHING)
            continue;
        int64_t value = p->field == FORGE_ATTRIBUTES ? p->value | f->codec : p->value;
        set(to, p->field, value);
        crc_given = crc_given || p->field == FORGE_CRC;
        if (p->field == FORGE_BASE_TIME) { /* an honest maximum, unless that is patched later */
            int64_t time = f->records[0].time_delta;
            set(to, FORGE_MAX_TIME, (int64_t)((uint64_t)value + (uint64_t)time));
        }
    }
    if (!crc_given)
        set(to, FORGE_CRC, crc32c(0, to + 21, size - 21));
    return size;
}

uint32_t forge_batch(struct mem *mem, const struct forge_batch *f, uint8_t *to)
{
    uint8_t *body = to + BATCH_HEADER_SIZE;
    uint32_t size = pack(mem, f, body);
    assert(f->packed_cut <= size);
    size -= f->packed_cut;
    if (f->packed_flip > 0)
        body[size - f->packed_flip] ^= 0xff;
    if (f->packed_tail != NULL) {
        uint32_t tail = (uint32_t)strlen(f->packed_tail);
        memcpy(body + size, f->packed_tail, tail);
        size += tail;
    }
    size += BATCH_HEADER_SIZE;
    uint32_t count = f->empty || f->records_count > 0 ? f->records_count : 1;
    int64_t latest = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t time = f->records[i < 3 ? i : 2].time_delta;
        latest = time > latest || i == 0 ? time : latest;
    }
    memset(to, 0, BATCH_HEADER_SIZE);
    set(to, FORGE_LENGTH, size - 12);
    set(to, FORGE_LEADER_EPOCH, -1);
    set(to, FORGE_MAGIC, 2);
    set(to, FORGE_ATTRIBUTES, f->codec);
    set(to, FORGE_LAST_DELTA, (int64_t)count - 1);
    set(to, FORGE_BASE_TIME, FORGE_NOW);
    set(to, FORGE_MAX_TIME, FORGE_NOW + latest);
    set(to, FORGE_PRODUCER_ID, -1);
    set(to, FORGE_PRODUCER_EPOCH, -1);
    set(to, FORGE_SEQUENCE, -1);
    set(to, FORGE_COUNT, count);
    return seal(f, to, size);
}
