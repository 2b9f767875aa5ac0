/* Fixed-size objects with a maximum, for everything the hot path acquires and releases.
 *
 *   slabs ─▶ [next size | item | item | item ...] ─▶ [next size | item ...]
 *   free  ─▶ item ─▶ item ─▶ ...      through the first word of each free item, last in first out
 *
 * A slab is about 64 KiB and is taken when the free list is empty; it is kept until pool_destroy,
 * so after warm-up acquire is two loads and a store.
 *
 * Invariants:
 *  1. count_used <= count_made <= count_max; count_made - count_used items are on the free list.
 *  2. Items are 16-byte aligned.
 *  3. A free item is poisoned for the address sanitizer but for the word that links it, so use
 *     after release and double release are found there.
 *
 * Failure modes: all count_max items out, or no budget for a slab: NULL, and the caller sheds load
 * in its one place. */
#include "core/pool.h"

#include "core/core.h"
#include "core/guard.h"

#define POOL_SLAB_BYTES 65536u

struct pool_slab {
    struct pool_slab *next;
    size_t size;
};

struct pool_item {
    struct pool_item *next;
};

_Static_assert(sizeof(struct pool_slab) == 16, "items stay 16-byte aligned");

void pool_init(struct pool *p, struct mem *mem, uint32_t item_size, uint32_t count_max)
{
    assert(mem != NULL);
    assert(item_size >= sizeof(struct pool_item) && item_size <= INT32_MAX);
    assert(count_max > 0);
    uint32_t rounded = (item_size + 15) & ~15u;
    *p = (struct pool){.mem = mem, .item_size = rounded, .count_max = count_max};
    p->items_per_slab = MAX((POOL_SLAB_BYTES - (uint32_t)sizeof(struct pool_slab)) / rounded, 1u);
}

void pool_destroy(struct pool *p)
{
    for (struct pool_slab *s = p->slabs, *next; s != NULL; s = next) {
        next = s->next;
        guard_open(s, s->size);
        mem_free(p->mem, s, s->size);
    }
    p->slabs = p->free = NULL;
    p->count_made = p->count_used = 0;
}

static void pool_put(struct pool *p, struct pool_item *item)
{
    item->next = p->free;
    p->free = item;
    guard_close(item + 1, p->item_size - sizeof(*item));
}

/* Takes one more slab and frees its items so that the lowest address is acquired first. */
static bool pool_grow(struct pool *p)
{
    uint32_t count = MIN(p->items_per_slab, p->count_max - p->count_made);
    if (count == 0)
        return false;
    size_t size = sizeof(struct pool_slab) + (size_t)count * p->item_size;
    struct pool_slab *s = mem_alloc(p->mem, size);
    if (s == NULL)
        return false;
    s->next = p->slabs;
    s->size = size;
    p->slabs = s;
    uint8_t *items = (uint8_t *)(s + 1);
    for (uint32_t i = count; i > 0; i--)
        pool_put(p, (struct pool_item *)(void *)(items + (size_t)(i - 1) * p->item_size));
    p->count_made += count;
    assert(p->count_made <= p->count_max);
    return true;
}

void *pool_acquire(struct pool *p)
{
    assert(p->mem != NULL);
    if (p->free == NULL && !pool_grow(p))
        return NULL;
    struct pool_item *item = p->free;
    p->free = item->next;
    p->count_used++;
    assert(p->count_used <= p->count_made);
    guard_open(item, p->item_size);
    return item;
}

void pool_release(struct pool *p, void *item)
{
    assert(item != NULL);
    assert(p->count_used > 0);
    p->count_used--;
    pool_put(p, item);
}
