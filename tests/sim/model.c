/* The checks of a partition.
 *
 *   acknowledged(offset, bytes) ─┐
 *   seen(offset, bytes)         ─┼─▶ cells[offset]: once known, it never changes
 *   watermark                   ─┘   and what was seen or acknowledged is below every later
 * watermark walk from 0 to the end: dense offsets, every acknowledged cell met, every source in
 * order
 *
 * What is neither acknowledged nor seen may be there or not; then it counts only for order and
 * uniqueness, which idempotent producers are promised in any case. */
#include "tests/sim/model.h"

#include <stdio.h>
#include <string.h>

#include "io/sim/chance.h"
#include "proto/record.h"
#include "proto/wire.h"

#define HASH_FROM 16u /* behind base offset, length and leader epoch */

void model_partition_init(struct model_partition *p, struct mem *mem, const char *topic,
                          int32_t index, uint32_t producers_count)
{
    *p = (struct model_partition){.mem = mem, .topic = topic, .index = index};
    p->sources_count = MAX(producers_count, 1u);
    p->sources = mem_zalloc(mem, p->sources_count * sizeof(*p->sources));
    assert(p->sources != NULL);
}

void model_partition_free(struct model_partition *p)
{
    for (uint32_t i = 0; i < p->sources_count; i++)
        mem_free(p->mem, p->sources[i].offsets,
                 p->sources[i].room * sizeof(*p->sources[i].offsets));
    mem_free(p->mem, p->sources, p->sources_count * sizeof(*p->sources));
    if (p->cells != NULL)
        mem_free(p->mem, p->cells, p->cells_room * sizeof(*p->cells));
}

uint64_t model_hash(const uint8_t *batch, uint32_t size)
{
    assert(size > HASH_FROM);
    uint64_t hash = chance_hash(size, batch + HASH_FROM, size - HASH_FROM);
    return hash != 0 ? hash : 1;
}

static struct model_cell *cell_at(struct model_partition *p, int64_t offset)
{
    assert(offset >= 0);
    if ((uint64_t)offset >= p->cells_room) {
        uint64_t room = p->cells_room > 0 ? p->cells_room : 1024;
        while (room <= (uint64_t)offset)
            room *= 2;
        struct model_cell *grown = mem_zalloc(p->mem, room * sizeof(*grown));
        assert(grown != NULL);
        if (p->cells != NULL) {
            memcpy(grown, p->cells, p->cells_room * sizeof(*grown));
            mem_free(p->mem, p->cells, p->cells_room * sizeof(*grown));
        }
        p->cells = grown;
        p->cells_room = room;
    }
    return &p->cells[offset];
}

static int64_t *source_offset(struct model_partition *p, struct model_stamp stamp)
{
    assert(stamp.producer < p->sources_count);
    struct model_source *s = &p->sources[stamp.producer];
    if (stamp.batch >= s->room) {
        uint32_t room = s->room > 0 ? s->room : 64;
        while (room <= stamp.batch)
            room *= 2;
        s->offsets = mem_realloc(p->mem, s->offsets, s->room * sizeof(*s->offsets),
                                 room * sizeof(*s->offsets));
        assert(s->offsets != NULL);
        for (uint32_t i = s->room; i < room; i++)
            s->offsets[i] = -1;
        s->room = room;
    }
    s->count = MAX(s->count, stamp.batch + 1);
    return &s->offsets[stamp.batch];
}

static bool wrong(const struct model_partition *p, char text[MODEL_TEXT_MAX], const char *what,
                  int64_t offset, struct model_stamp stamp)
{
    (void)snprintf(text, MODEL_TEXT_MAX, "%s-%d offset %lld: %s (producer %u batch %u)", p->topic,
                   p->index, (long long)offset, what, stamp.producer, stamp.batch);
    return false;
}

/* Something is known to be at an offset. */
static bool model_know(struct model_partition *p, struct model_stamp stamp, uint64_t hash,
                       uint32_t count, int64_t base, char text[MODEL_TEXT_MAX])
{
    struct model_cell *cell = cell_at(p, base);
    int64_t *at = source_offset(p, stamp);
    if (cell->hash != 0 && cell->hash != hash)
        return wrong(p, text, "other bytes than were acknowledged or read there before", base,
                     stamp);
    for (uint32_t i = 1; i < count; i++) {
        if (cell_at(p, base + i)->hash != 0)
            return wrong(p, text, "overlaps another batch", base + i, stamp);
    }
    cell = cell_at(p, base);
    if (p->sources[stamp.producer].idempotent && *at >= 0 && *at != base)
        return wrong(p, text, "the same batch is at another offset too", base, stamp);
    cell->hash = hash;
    cell->count = count;
    *at = base;
    return true;
}

bool model_acknowledged(struct model_partition *p, struct model_stamp stamp, uint64_t hash,
                        uint32_t count, int64_t base_offset, char text[MODEL_TEXT_MAX])
{
    if (base_offset < 0)
        return true; /* a duplicate too old for the broker to know where */
    if (!model_know(p, stamp, hash, count, base_offset, text))
        return false;
    struct model_cell *cell = cell_at(p, base_offset);
    p->acknowledged_batches += !cell->acknowledged;
    cell->acknowledged = true;
    p->acknowledged_end = MAX(p->acknowledged_end, base_offset + count);
    return true;
}

bool model_read_stamp(const uint8_t *batch, const struct batch_header *h, struct model_stamp *stamp)
{
    struct record_iter it;
    struct record r;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    if (!record_next(&it, &r) || r.value.data == NULL || r.value.size < MODEL_STAMP_SIZE)
        return false;
    stamp->producer = wire_load32(r.value.data);
    stamp->batch = wire_load32(r.value.data + 4);
    return true;
}

bool model_seen(struct model_partition *p, const uint8_t *batch, const struct batch_header *h,
                char text[MODEL_TEXT_MAX])
{
    struct model_stamp stamp = {0};
    if (!batch_crc_matches(batch, h->size))
        return wrong(p, text, "the checksum does not match", h->base_offset, stamp);
    if (!model_read_stamp(batch, h, &stamp) || stamp.producer >= p->sources_count)
        return wrong(p, text, "a batch that nobody sent", h->base_offset, stamp);
    uint64_t hash = model_hash(batch, h->size);
    if (!model_know(p, stamp, hash, (uint32_t)h->record_count, h->base_offset, text))
        return false;
    struct model_cell *cell = cell_at(p, h->base_offset);
    p->seen_batches += !cell->seen;
    cell->seen = true;
    p->seen_end = MAX(p->seen_end, batch_last_offset(h) + 1);
    return true;
}

int64_t model_floor(const struct model_partition *p)
{
    return MAX(p->seen_end, p->acknowledged_end);
}

bool model_watermark(struct model_partition *p, int64_t floor, int64_t high_watermark,
                     char text[MODEL_TEXT_MAX])
{
    if (high_watermark < floor) {
        (void)snprintf(text, MODEL_TEXT_MAX, "%s-%d: high watermark %lld, after %lld was known",
                       p->topic, p->index, (long long)high_watermark, (long long)floor);
        return false;
    }
    p->seen_end = MAX(p->seen_end, high_watermark);
    return true;
}

/* ---- the walk -------------------------------------------------------------------------------- */

void model_walk_begin(struct model_partition *p)
{
    for (uint32_t i = 0; i < p->sources_count; i++)
        p->sources[i].walked = 0;
}

bool model_walk(struct model_partition *p, const uint8_t *batch, const struct batch_header *h,
                char text[MODEL_TEXT_MAX])
{
    struct model_stamp stamp;
    if (!model_read_stamp(batch, h, &stamp) || stamp.producer >= p->sources_count)
        return false;
    struct model_source *s = &p->sources[stamp.producer];
    if (s->idempotent && stamp.batch != s->walked)
        return wrong(p, text, stamp.batch < s->walked ? "out of order, or twice" : "a gap before",
                     h->base_offset, stamp);
    s->walked = MAX(s->walked, stamp.batch + 1);
    return true;
}

bool model_walk_end(struct model_partition *p, int64_t end, char text[MODEL_TEXT_MAX])
{
    if (end < model_floor(p)) {
        (void)snprintf(text, MODEL_TEXT_MAX, "%s-%d: ends at %lld, but %lld was known", p->topic,
                       p->index, (long long)end, (long long)model_floor(p));
        return false;
    }
    for (uint32_t i = 0; i < p->sources_count; i++) {
        const struct model_source *s = &p->sources[i];
        if (!s->idempotent || s->walked == s->count)
            continue;
        (void)snprintf(text, MODEL_TEXT_MAX, "%s-%d: %u batches of producer %u, %u are known of",
                       p->topic, p->index, s->walked, i, s->count);
        return false;
    }
    return true;
}
