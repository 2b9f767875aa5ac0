/* Producer snapshots: what a partition knows of its producers, in Kafka's format, so that a start
 * need not read the whole log.
 *
 *   0  version i16 = 1 │ crc u32 over all that follows │ count i32          (big-endian)
 *      count x { id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
 *                timestamp i64, coordinator epoch i32, transaction's first offset i64 }
 *      torc's own: magic u32 │ count x { batches u8, each but the last as 24 bytes: last sequence
 *      i32, offset delta i32, last offset i64, timestamp i64 }
 *
 * Kafka reads `count` entries and skips the rest; without the rest only the newest batch of each
 * producer is known to be a duplicate.
 *
 * Failure: damaged, or of another version: refused whole, the log is read instead. Damage in torc's
 * own part only makes windows shorter. */
#include "broker/log/producer_priv.h"
#include "core/crc32c.h"
#include "core/lab.h"

#define SNAPSHOT_VERSION      1
#define SNAPSHOT_HEADER_SIZE  10u /* version, crc, count */
#define SNAPSHOT_CRC_FROM     6u
#define SNAPSHOT_ENTRY_SIZE   46u
#define SNAPSHOT_WINDOW_MAGIC 0x4e495754u /* "TWIN" */
#define WINDOW_BATCH_SIZE     24u

struct producer_then { /* a producer at some point of the log */
    int64_t id, last_timestamp, txn_start;
    int32_t coordinator_epoch;
    int16_t epoch;
    uint8_t count;
    struct producer_batch batches[PRODUCER_BATCHES]; /* oldest first */
};

static uint8_t *put(uint8_t *to, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    return to + size;
}

static uint64_t get(const uint8_t **at, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value = value << 8 | *(*at)++;
    return value;
}

/* ---- written --------------------------------------------------------------------------------- */

/* p as it was before the batch at `below`. What its epoch was before a batch that is not counted is
 * not known; that the batch began at this sequence is, and says what came before. */
static struct producer_then producer_before(const struct log *l, const struct producer *p,
                                            int64_t below)
{
    struct producer_then before = {.id = p->id,
                                   .last_timestamp = p->last_timestamp,
                                   .txn_start = producer_txn_start(p),
                                   .coordinator_epoch = p->coordinator_epoch,
                                   .epoch = p->epoch};
    while (before.count < p->count && producer_batch(p, before.count)->last_offset < below) {
        before.batches[before.count] = *producer_batch(p, before.count);
        before.count++;
    }
    if (before.count == 0 && p->count > 0) {
        const struct producer_batch *oldest = producer_batch(p, 0);
        int32_t first = sequence_back(oldest->last_sequence, oldest->offset_delta);
        before.batches[0] = *oldest;
        before.batches[0].last_sequence =
            first == 0 ? PRODUCER_NO_SEQUENCE : sequence_back(first, 1);
        before.batches[0].offset_delta = 0;
        before.batches[0].last_offset = below - 1;
        before.count = first == 0 ? 0 : 1;
    }
    SOMETIMES_IF(before.count < p->count, "a snapshot leaves out batches that are not durable");
    if (before.txn_start >= below)
        before.txn_start = NO_OFFSET;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        const struct producer_txn *t = container_of(at, struct producer_txn, link);
        if (t->producer_id != p->id || t->first_offset >= below || t->last_offset < below)
            continue;
        SOMETIMES("a snapshot takes back a marker that is not durable");
        before.txn_start = t->first_offset;
        before.epoch = t->epoch; /* the marker may be written again, and must be new then */
        before.coordinator_epoch = t->coordinator_epoch;
    }
    return before;
}

static uint8_t *snapshot_put_entry(uint8_t *to, const struct producer_then *p)
{
    const struct producer_batch none = {PRODUCER_NO_SEQUENCE, 0, NO_OFFSET, NO_TIMESTAMP};
    const struct producer_batch *b = p->count == 0 ? &none : &p->batches[p->count - 1];
    to = put(to, (uint64_t)p->id, 8);
    to = put(to, (uint16_t)p->epoch, 2);
    to = put(to, (uint32_t)b->last_sequence, 4);
    to = put(to, (uint64_t)b->last_offset, 8);
    to = put(to, (uint32_t)b->offset_delta, 4);
    to = put(to, (uint64_t)p->last_timestamp, 8);
    to = put(to, (uint32_t)p->coordinator_epoch, 4);
    return put(to, (uint64_t)p->txn_start, 8);
}

static uint8_t *snapshot_put_window(uint8_t *to, const struct producer_then *p)
{
    uint8_t older = p->count == 0 ? 0 : (uint8_t)(p->count - 1);
    to = put(to, older, 1);
    for (uint32_t i = 0; i < older; i++) {
        to = put(to, (uint32_t)p->batches[i].last_sequence, 4);
        to = put(to, (uint32_t)p->batches[i].offset_delta, 4);
        to = put(to, (uint64_t)p->batches[i].last_offset, 8);
        to = put(to, (uint64_t)p->batches[i].timestamp, 8);
    }
    return to;
}

/* How many bytes a snapshot takes at most. */
static uint32_t snapshot_room(const struct producers *ps)
{
    uint32_t room = SNAPSHOT_HEADER_SIZE + 4;
    const struct producer *p;
    for (uint32_t at = 0; ps != NULL && (p = id_map_next(&ps->by_id, &at)) != NULL;)
        room += SNAPSHOT_ENTRY_SIZE + 1 + (p->count > 0 ? p->count - 1u : 0) * WINDOW_BATCH_SIZE;
    return room;
}

uint8_t *producers_encode(struct log *l, int64_t below, uint32_t *size)
{
    const struct producers *ps = l->producers;
    uint32_t count = ps == NULL ? 0 : ps->by_id.count, room = snapshot_room(ps), at;
    uint8_t *data = mem_alloc(l->core->mem, room), *to = data;
    struct producer *p;
    if (data == NULL)
        return NULL;
    to = put(to, SNAPSHOT_VERSION, 2);
    to = put(to, 0, 4);
    to = put(to, count, 4);
    for (at = 0; count > 0 && (p = id_map_next(&ps->by_id, &at)) != NULL;) {
        struct producer_then before = producer_before(l, p, below);
        to = snapshot_put_entry(to, &before);
    }
    to = put(to, SNAPSHOT_WINDOW_MAGIC, 4);
    for (at = 0; count > 0 && (p = id_map_next(&ps->by_id, &at)) != NULL;) {
        struct producer_then before = producer_before(l, p, below);
        to = snapshot_put_window(to, &before);
    }
    *size = (uint32_t)(to - data);
    assert(*size <= room);
    (void)put(data + 2, crc32c(0, data + SNAPSHOT_CRC_FROM, *size - SNAPSHOT_CRC_FROM), 4);
    if (*size == room)
        return data;
    /* What was reserved too much goes back; a block that only shrinks is not refused. */
    uint8_t *fitted = mem_realloc(l->core->mem, data, room, *size);
    if (fitted == NULL)
        mem_free(l->core->mem, data, room);
    return fitted;
}

/* ---- read ------------------------------------------------------------------------------------ */

static bool snapshot_get_entry(struct log *l, int64_t below, const uint8_t **at)
{
    int64_t id = (int64_t)get(at, 8);
    if (id < 0 || producer_find(l, id) != NULL)
        return false;
    struct producer *p = producer_make(l, id);
    if (p == NULL)
        return false;
    struct producer_batch b;
    p->epoch = (int16_t)get(at, 2);
    b.last_sequence = (int32_t)get(at, 4);
    b.last_offset = (int64_t)get(at, 8);
    b.offset_delta = (int32_t)get(at, 4);
    p->last_timestamp = b.timestamp = (int64_t)get(at, 8);
    p->coordinator_epoch = (int32_t)get(at, 4);
    int64_t txn_start = (int64_t)get(at, 8);
    bool written = b.last_offset < below && txn_start < below; /* when it was made */
    if (b.last_offset >= 0 && b.offset_delta >= 0)
        producer_window_add(p, &b);
    id_map_put(&l->producers->by_id, &p->id); /* producer_make made room */
    if (txn_start < 0 || !written)
        return written;
    struct producer_txn *t = producer_txn_make(l, id, txn_start);
    if (t == NULL)
        return false;
    producer_txn_open(l, p, t);
    return true;
}

/* The older batches of one window; false: damaged. */
static bool snapshot_get_window(struct log *l, struct producer *p, const uint8_t **at,
                                const uint8_t *end)
{
    uint8_t older = *(*at)++;
    if (p == NULL || older >= PRODUCER_BATCHES || end - *at < (int64_t)older * WINDOW_BATCH_SIZE ||
        (older > 0 && p->count != 1) || !producer_window_make(l, p, older + 1u))
        return false;
    for (uint32_t k = 0; k < older; k++) {
        p->older[k].last_sequence = (int32_t)get(at, 4);
        p->older[k].offset_delta = (int32_t)get(at, 4);
        p->older[k].last_offset = (int64_t)get(at, 8);
        p->older[k].timestamp = (int64_t)get(at, 8);
    }
    p->count = (uint8_t)(p->count + older);
    return true;
}

static void snapshot_get_windows(struct log *l, const uint8_t *entries, uint32_t count,
                                 const uint8_t *at, const uint8_t *end)
{
    if (end - at < 4 || get(&at, 4) != SNAPSHOT_WINDOW_MAGIC)
        return;
    for (uint32_t i = 0; i < count && at < end; i++) {
        const uint8_t *entry = entries + (size_t)i * SNAPSHOT_ENTRY_SIZE;
        if (!snapshot_get_window(l, producer_find(l, (int64_t)get(&entry, 8)), &at, end))
            return;
    }
}

bool producers_decode(struct log *l, int64_t below, const uint8_t *data, size_t size)
{
    const uint8_t *at = data;
    producers_free(l);
    if (size < SNAPSHOT_HEADER_SIZE || get(&at, 2) != SNAPSHOT_VERSION)
        return false;
    uint32_t crc = (uint32_t)get(&at, 4), count = (uint32_t)get(&at, 4);
    if (crc != crc32c(0, data + SNAPSHOT_CRC_FROM, size - SNAPSHOT_CRC_FROM) ||
        count > (size - SNAPSHOT_HEADER_SIZE) / SNAPSHOT_ENTRY_SIZE)
        return false;
    const uint8_t *entries = at;
    for (uint32_t i = 0; i < count; i++) {
        if (snapshot_get_entry(l, below, &at))
            continue;
        producers_free(l);
        return false;
    }
    snapshot_get_windows(l, entries, count, at, data + size);
    return true;
}
