/* struct counters: named counters and gauges of one core. The owner writes them as plain words; any
 * other core may take a snapshot at any time, each value whole but not all of the same instant.
 * Names are a constant table indexed by the module's own enum. */
#ifndef CORE_METRIC_H
#define CORE_METRIC_H

#include "core/core.h"

#define COUNTERS_MAX 256

struct counters {
    const char *const *names;
    uint32_t count;
    _Alignas(CACHE_LINE) uint64_t values[COUNTERS_MAX]; /* atomic, one writer */
};

/* names: count of them, constant, outliving c. Any core, before the owner starts. */
void counters_init(struct counters *c, const char *const *names, uint32_t count);
/* Owner core. */
void counter_add(struct counters *c, uint32_t index, uint64_t amount);
void counter_set(struct counters *c, uint32_t index, uint64_t value); /* gauges */
/* Any core. */
uint64_t counter_get(const struct counters *c, uint32_t index);
/* Adds all values to to[0 .. count - 1]: start from zero, call once per core, and it is the sum. */
void counters_collect(const struct counters *c, uint64_t *to);

#endif
