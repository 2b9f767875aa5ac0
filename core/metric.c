/* Counters: one writer, any reader.
 *
 *   owner:  load (plain to the machine), add, store      no locked instruction, no shared line
 *   reader: load                                          while it is written
 *
 * Invariants:
 *  1. Only the owner core stores, so its load-add-store loses nothing.
 *  2. A reader sees each counter at some value it has had, and never going backwards; two counters
 *     of one snapshot may be of different instants, so ratios of them are only nearly right.
 * Relaxed order is enough for both: nothing else is concluded from a counter's value.
 *
 * Failure modes: none; counters wrap modulo 2^64. */
#include "core/metric.h"

#include <string.h>

#include "core/assert.h"

void counters_init(struct counters *c, const char *const *names, uint32_t count)
{
    assert(names != NULL);
    assert(count > 0 && count <= COUNTERS_MAX);
    memset(c, 0, sizeof(*c));
    c->names = names;
    c->count = count;
}

void counter_add(struct counters *c, uint32_t index, uint64_t amount)
{
    assert(index < c->count);
    uint64_t value = __atomic_load_n(&c->values[index], __ATOMIC_RELAXED);
    __atomic_store_n(&c->values[index], value + amount, __ATOMIC_RELAXED);
}

void counter_set(struct counters *c, uint32_t index, uint64_t value)
{
    assert(index < c->count);
    __atomic_store_n(&c->values[index], value, __ATOMIC_RELAXED);
}

uint64_t counter_get(const struct counters *c, uint32_t index)
{
    assert(index < c->count);
    return __atomic_load_n(&c->values[index], __ATOMIC_RELAXED);
}

void counters_collect(const struct counters *c, uint64_t *to)
{
    assert(to != NULL);
    for (uint32_t i = 0; i < c->count; i++)
        to[i] += __atomic_load_n(&c->values[i], __ATOMIC_RELAXED);
}
