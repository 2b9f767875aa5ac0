/* The tail index of one log: which batches are in memory, and where.
 *
 *      head                                                     head + count
 *      ▼                                                        ▼
 *      │ in a segment too: cache          │ in memory only      │
 *      └──── count - unflushed ───────────┴──── unflushed ──────┘
 *
 * A ring of 24-byte entries in offset order, searched by bisection; it grows by doubling out of the
 * core's budget, and an idle log has none.
 *
 * Invariants
 *  1. base_offset ascends strictly.
 *  2. Entries leave only at the front and only when flushed; so what is in memory is one range.
 *  3. An unflushed entry is counted in its chunk's `unflushed`. */
#include "broker/log/log_priv.h"

#include <string.h>

#define TAIL_ROOM_MIN 8u

static bool tail_resize(struct log_core *c, struct tail *t, uint32_t room)
{
    assert(room >= t->count);
    assert((room & (room - 1)) == 0);
    struct tail_entry *entries = mem_alloc(c->mem, room * sizeof(*entries));
    if (entries == NULL)
        return false;
    for (uint32_t i = 0; i < t->count; i++)
        entries[i] = *tail_at(t, i);
    mem_free(c->mem, t->entries, t->room * sizeof(*entries));
    t->entries = entries;
    t->room = room;
    t->head = 0;
    return true;
}

bool tail_reserve(struct log_core *c, struct tail *t)
{
    if (t->count < t->room)
        return true;
    if (t->room > UINT32_MAX / 4)
        return false;
    return tail_resize(c, t, t->room == 0 ? TAIL_ROOM_MIN : t->room * 2);
}

void tail_push(struct tail *t, struct tail_entry e)
{
    assert(t->count < t->room);
    assert(t->count == 0 || tail_at(t, t->count - 1)->base_offset < e.base_offset);
    t->count++;
    t->unflushed++;
    *tail_at(t, t->count - 1) = e;
    e.chunk->unflushed++;
}

void tail_free(struct log_core *c, struct tail *t)
{
    mem_free(c->mem, t->entries, t->room * sizeof(*t->entries));
    *t = (struct tail){0};
}

uint32_t tail_search(const struct tail *t, int64_t offset)
{
    uint32_t low = 0, high = t->count; /* the first with base > offset is in [low, high] */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tail_at(t, middle)->base_offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0 && tail_header(tail_at(t, low - 1))->last_offset >= offset)
        return low - 1;
    return low;
}

/* A log that fell idle gives its ring back; one that had a burst gives most of it. */
static void tail_trim(struct log_core *c, struct tail *t)
{
    if (t->count == 0)
        tail_free(c, t);
    else if (t->room > 64 && t->count < t->room / 8)
        tail_resize(c, t, t->room / 2); /* refused: it stays as large as it is */
}

void tail_drop(struct log_core *c, struct tail *t, int64_t last_offset)
{
    assert(t->unflushed <= t->count);
    uint32_t before = t->count;
    while (t->count > t->unflushed && tail_at(t, 0)->base_offset <= last_offset) {
        t->head = (t->head + 1) & (t->room - 1);
        t->count--;
    }
    if (t->count < before)
        tail_trim(c, t);
}

void tail_clear(struct log_core *c, struct tail *t)
{
    assert(t->unflushed <= t->count);
    for (uint32_t i = t->count - t->unflushed; i < t->count; i++)
        chunk_flushed(tail_at(t, i)->chunk);
    tail_free(c, t);
}
