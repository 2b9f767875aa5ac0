/* Open addressing as in map.c (linear probing, backward-shift deletion), but a slot is nothing than
 * a pointer to a struct that begins with its id:
 *
 *   slot:   0     1     2     3              ┌──▶ struct { int64_t id; ... }
 *         ┌─────┬─────┬─────┬─────┐          │
 *         │     │  ●──┼──●  │     │   8 bytes a slot, 11 to 21 bytes for each id once there are
 * many └─────┴──┼──┴─────┴─────┘ └──▶ struct { int64_t id; ... }
 *
 * A probe reads the struct it points to, so runs are kept short: 3/4 of the slots are used at most.
 * The tables this is for (what a partition knows of its producers) are asked for ids that are
 * there.
 *
 * Invariants:
 *  1. Between an id's home slot and its slot there is no empty slot.
 *  2. At least a quarter of the slots is empty, so every probe ends.
 *
 * Failure modes: growing is over budget: -ENOMEM and nothing has changed. */
#include "core/id_map.h"

#include <errno.h>

#include "core/core.h"
#include "core/map.h"

#define SLOTS_MIN 2u
#define SLOTS_MAX (1u << 30)

void id_map_init(struct id_map *m, struct mem *mem)
{
    assert(mem != NULL);
    *m = (struct id_map){.mem = mem};
}

void id_map_destroy(struct id_map *m)
{
    if (m->slots != NULL)
        mem_free(m->mem, m->slots, (size_t)m->slots_count * sizeof(*m->slots));
    id_map_init(m, m->mem);
}

static uint32_t id_home(int64_t id, uint32_t slots_count)
{
    return (uint32_t)map_hash(&id, sizeof(id), 0) & (slots_count - 1);
}

/* How many of so many slots may be used. */
static uint32_t id_room(uint32_t slots_count)
{
    return slots_count - MAX(slots_count / 4, MIN(slots_count, 1u));
}

/* Its slot, or the empty one where it would go. */
static uint32_t id_find(const struct id_map *m, int64_t id)
{
    uint32_t at = id_home(id, m->slots_count);
    while (m->slots[at] != NULL && *m->slots[at] != id) /* ends: invariant 2 */
        at = (at + 1) & (m->slots_count - 1);
    return at;
}

void *id_map_get(const struct id_map *m, int64_t id)
{
    return m->count == 0 ? NULL : m->slots[id_find(m, id)];
}

int id_map_reserve(struct id_map *m, uint32_t count)
{
    assert(m->mem != NULL);
    struct id_map grown = *m;
    grown.slots_count = MAX(m->slots_count, SLOTS_MIN);
    while (id_room(grown.slots_count) < count && grown.slots_count <= SLOTS_MAX)
        grown.slots_count *= 2;
    if (grown.slots_count > SLOTS_MAX)
        return -ENOMEM;
    if (grown.slots_count == m->slots_count)
        return 0;
    grown.slots = mem_zalloc(m->mem, (size_t)grown.slots_count * sizeof(*grown.slots));
    if (grown.slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < m->slots_count; i++)
        if (m->slots[i] != NULL)
            grown.slots[id_find(&grown, *m->slots[i])] = m->slots[i];
    id_map_destroy(m);
    *m = grown;
    return 0;
}

void id_map_put(struct id_map *m, int64_t *item)
{
    assert(m->count < id_room(m->slots_count));
    uint32_t at = id_find(m, *item);
    assert(m->slots[at] == NULL);
    m->slots[at] = item;
    m->count++;
}

void *id_map_remove(struct id_map *m, int64_t id)
{
    if (m->count == 0)
        return NULL;
    uint32_t mask = m->slots_count - 1, hole = id_find(m, id);
    void *item = m->slots[hole];
    if (item == NULL)
        return NULL;
    for (uint32_t at = (hole + 1) & mask; m->slots[at] != NULL; at = (at + 1) & mask) {
        /* It may fill the hole if its home is not after the hole (invariant 1). */
        if (((at - id_home(*m->slots[at], m->slots_count)) & mask) < ((at - hole) & mask))
            continue;
        m->slots[hole] = m->slots[at];
        hole = at;
    }
    m->slots[hole] = NULL;
    m->count--;
    return item;
}

void *id_map_next(const struct id_map *m, uint32_t *at)
{
    while (*at < m->slots_count) {
        void *item = m->slots[(*at)++];
        if (item != NULL)
            return item;
    }
    return NULL;
}
