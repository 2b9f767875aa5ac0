/* The first 40 bytes of each value, little-endian words:
 *
 *   at  size  what
 *    0     4  "TLd1"
 *    4     4  CRC-32C of all that follows the payload in the value, then of bytes 8 .. 39
 *    8     8  run
 *   16     8  due_ns: when the record was due, by the sender's monotonic clock
 *   24     8  sequence
 *   32     4  producer
 *   36     4  size of the value
 *
 * The checksum begins with the tail because that never changes: a sender continues it over 32
 * bytes, a reader goes over everything.
 *
 * Invariants:
 *  1. All batches of a template have the same size: what is stamped has a fixed place in it.
 *  2. A stamped batch is valid for any broker once sealed.
 *
 * Failure modes: values shorter than a payload carry none; then only offsets can be checked. */
#include "broker/bench/payload.h"

#include <string.h>

#include "core/core.h"
#include "core/crc32c.h"
#include "proto/record.h"
#include "proto/wire.h"

#define KEY_SIZE 8u

#define MAGIC 0x31644c54u

struct payload_bytes {
    uint32_t magic, crc;
    uint64_t run, due_ns, sequence;
    uint32_t producer, size;
};
_Static_assert(sizeof(struct payload_bytes) == PAYLOAD_SIZE, "the table above");
#define CRC_FROM offsetof(struct payload_bytes, run)

static void fill(uint8_t *to, uint32_t size, bool soft, uint64_t seed)
{
    static const char words[] = "GET /orders/ 200 customer=4711 price=12.50 status=paid ts=";
    uint64_t state = seed | 1;
    for (uint32_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        to[i] = (uint8_t)(state >> 56);
        if (soft && (state >> 40) % 8 != 0)
            to[i] = (uint8_t)words[i % (sizeof(words) - 1)];
    }
}

static bool template_build(struct payload_template *t, const uint8_t *value)
{
    static const uint8_t key[KEY_SIZE];
    struct batch_field k = {t->keys > 0 ? key : NULL, t->keys > 0 ? KEY_SIZE : 0};
    struct batch_field v = {value, t->size};
    struct batch_builder b;
    struct batch_header header = batch_header_plain(0);
    batch_builder_init(&b, t->batch, t->batch_room, &header);
    for (uint32_t i = 0; i < t->records; i++)
        if (!batch_builder_add(&b, 0, k, v, NULL, 0))
            return false;
    t->batch_size = batch_builder_finish(&b);
    struct record_iter it;
    struct record r;
    record_iter_init(&it, t->batch + BATCH_HEADER_SIZE, t->batch_size - BATCH_HEADER_SIZE,
                     (int32_t)t->records);
    for (uint32_t i = 0; record_next(&it, &r); i++)
        t->values[i] = (uint32_t)(r.value.data - t->batch);
    return t->batch_size > 0 && !it.malformed;
}

bool payload_template_make(struct payload_template *t, struct mem *mem, uint32_t records,
                           uint32_t size, uint32_t keys, bool soft, uint64_t seed)
{
    static const uint8_t key[KEY_SIZE];
    assert(records > 0);
    *t = (struct payload_template){.mem = mem, .records = records, .size = size, .keys = keys};
    uint8_t *value = mem_zalloc(mem, (size_t)size + 1);
    if (value == NULL)
        return false;
    fill(value, size, soft, seed);
    uint64_t record = batch_record_size_max((struct batch_field){key, KEY_SIZE},
                                            (struct batch_field){value, size}, NULL, 0);
    uint64_t room = BATCH_HEADER_SIZE + record * records;
    bool good = room <= INT32_MAX;
    if (good) {
        t->batch_room = (uint32_t)room;
        t->batch = mem_alloc(mem, room);
        t->values = mem_zalloc(mem, records * sizeof(*t->values));
        good = t->batch != NULL && t->values != NULL && template_build(t, value);
    }
    if (good && size > PAYLOAD_SIZE)
        t->tail_crc = crc32c(0, value + PAYLOAD_SIZE, size - PAYLOAD_SIZE);
    mem_free(mem, value, (size_t)size + 1);
    return good;
}

/* ---- stamping -------------------------------------------------------------------------------- */

static void stamp_values(const struct payload_template *t, uint8_t *batch,
                         const struct payload_stamp *s)
{
    struct payload_bytes p = {.magic = MAGIC,
                              .run = s->first.run,
                              .due_ns = s->first.due_ns,
                              .sequence = s->first.sequence,
                              .producer = s->first.producer,
                              .size = t->size};
    for (uint32_t i = 0; i < t->records; i++, p.sequence++) {
        p.crc = crc32c(t->tail_crc, (const uint8_t *)&p + CRC_FROM, PAYLOAD_SIZE - CRC_FROM);
        memcpy(batch + t->values[i], &p, sizeof(p));
    }
}

/* A key lies right before its value, but for the value's length. */
static void stamp_keys(const struct payload_template *t, uint8_t *batch, uint64_t chance)
{
    uint32_t length = wire_varint_size((int32_t)t->size);
    for (uint32_t i = 0; i < t->records; i++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        wire_store64(batch + t->values[i] - length - KEY_SIZE, (chance >> 33) % t->keys);
    }
}

void payload_stamp(const struct payload_template *t, uint8_t *batch, const struct payload_stamp *s)
{
    struct batch_bytes *head = (struct batch_bytes *)(void *)batch;
    assert(t->batch_size >= BATCH_HEADER_SIZE);
    wire_store64(head->base_timestamp, (uint64_t)s->wall_ms);
    wire_store64(head->max_timestamp, (uint64_t)s->wall_ms);
    wire_store64(head->producer_id, (uint64_t)s->producer_id);
    wire_store16(head->producer_epoch, (uint16_t)s->producer_epoch);
    wire_store32(head->base_sequence, (uint32_t)s->base_sequence);
    if (s->transactional)
        head->attributes[1] |= BATCH_TRANSACTIONAL;
    if (t->size >= PAYLOAD_SIZE)
        stamp_values(t, batch, s);
    if (t->keys > 0)
        stamp_keys(t, batch, s->chance);
}

void payload_seal(uint8_t *batch, uint32_t size)
{
    struct batch_bytes *head = (struct batch_bytes *)(void *)batch;
    assert(size > BATCH_CRC_FROM);
    wire_store32(head->crc, crc32c(0, batch + BATCH_CRC_FROM, size - BATCH_CRC_FROM));
}

bool payload_read(struct payload *p, const uint8_t *value, uint32_t size, bool *damaged)
{
    struct payload_bytes bytes;
    *damaged = false;
    if (size < PAYLOAD_SIZE)
        return false;
    memcpy(&bytes, value, sizeof(bytes));
    if (bytes.magic != MAGIC)
        return false;
    uint32_t crc = crc32c(0, value + PAYLOAD_SIZE, size - PAYLOAD_SIZE);
    crc = crc32c(crc, value + CRC_FROM, PAYLOAD_SIZE - CRC_FROM);
    if (crc != bytes.crc || size != bytes.size) {
        *damaged = true;
        return false;
    }
    *p = (struct payload){bytes.run, bytes.due_ns, bytes.sequence, bytes.producer};
    return true;
}
