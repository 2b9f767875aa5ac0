/* struct pool: fixed-size objects with a maximum. Slabs are taken from the core's budget the first
 * time they are needed and kept, so the hot path never allocates and an idle broker stays small.
 * Objects come back in LIFO order (cache-hot), zeroed only where the owner zeroes them. */
#ifndef CORE_POOL_H
#define CORE_POOL_H

#include "core/mem.h"

struct pool {
    struct mem *mem;
    void *free;  /* singly linked through the first word */
    void *slabs; /* all slabs, for pool_destroy */
    uint32_t item_size, items_per_slab;
    uint32_t count_max, count_made, count_used;
};

/* item_size >= 8, rounded up to 16; count_max is the commented sum of all holders. */
void pool_init(struct pool *p, struct mem *mem, uint32_t item_size, uint32_t count_max);
/* Items still out become invalid. */
void pool_destroy(struct pool *p);
/* NULL when count_max are out, or the budget refuses a new slab. Contents are undefined. */
NODISCARD void *pool_acquire(struct pool *p);
void pool_release(struct pool *p, void *item);

#endif
