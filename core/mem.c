/* The budget of one core, and the only file that knows where memory comes from.
 *
 *   mem_alloc ── over budget? ── yes ─▶ NULL, refusals + 1        (the caller throttles or refuses)
 *                    │ no
 *                    ▼
 *   jemalloc arena of this budget, through a thread cache of this budget      (TORC_SANITIZED = 0)
 *   malloc, with a header that links all live blocks                         (TORC_SANITIZED = 1)
 *
 * Why an arena and a cache of our own: memory then never migrates between cores, no lock is
 * contended, and a whole budget can be dropped in one call, which is what a simulated power cut
 * does thousands of times in a run. jemalloc reuses the number of a destroyed arena for the next
 * one created, so the count of arenas follows the budgets alive now, not all there ever were.
 *
 * Invariants:
 *  1. used_bytes is the sum of the sizes asked for by live blocks, and never exceeds budget_bytes.
 *  2. A block is freed with the size it was made with; sanitized builds assert it.
 *  3. Every block is 16-byte aligned: sizes are rounded up to 16, and each jemalloc size class that
 *     is a multiple of 16 begins at a multiple of 16.
 *  4. Blocks in the cache belong to the arena of the same budget: the cache is only ever used
 *     together with that arena, and is destroyed before it.
 *
 * Failure modes: the system has no memory although the budget has (NULL, not counted as a refusal);
 * jemalloc has no more cache slots (the budget works without a cache, slower).
 *
 * Pages for direct I/O come from the same arena. Freed ones go back to the system as the arena
 * decays, within about ten seconds; unmapping each at once would make a cache that breathes pay a
 * page fault and a zeroing per 4 KiB. */
#include "core/mem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if TORC_SANITIZED
#include "core/guard.h"
#include "core/list.h"
#else
#include <jemalloc/jemalloc.h>
#endif

#define MEM_PAGE 4096u

/* Whether the budget has room for size more bytes; counts the refusal if not. */
static bool mem_admits(struct mem *m, size_t size)
{
    assert(m->used_bytes <= m->budget_bytes);
    if (size <= m->budget_bytes - m->used_bytes && size <= PTRDIFF_MAX - MEM_PAGE)
        return true;
    m->refusals++;
    return false;
}

static void mem_take(struct mem *m, size_t size)
{
    m->used_bytes += size;
    assert(m->used_bytes <= m->budget_bytes);
    if (m->used_bytes > m->peak_bytes)
        m->peak_bytes = m->used_bytes;
}

static void mem_give(struct mem *m, size_t size)
{
    assert(m->used_bytes >= size);
    m->used_bytes -= size;
}

#if TORC_SANITIZED

/* In front of every block. The guard is poisoned, so that running off the front of a block is found
 * as surely as running off its end. */
struct mem_block {
    struct list link;
    size_t size;
    bool pages;
    uint8_t guard[7];
};

struct mem_impl {
    struct list blocks;
};

_Static_assert(sizeof(struct mem_block) % 16 == 0, "blocks stay 16-byte aligned");
_Static_assert(sizeof(struct mem_block) <= MEM_PAGE, "the header of pages fits before them");

static int impl_start(struct mem *m)
{
    struct mem_impl *impl = malloc(sizeof(*impl));
    if (impl == NULL)
        return -ENOMEM;
    list_init(&impl->blocks);
    m->impl = impl;
    return 0;
}

static void *impl_link(struct mem *m, struct mem_block *b, size_t size, bool pages)
{
    struct mem_impl *impl = m->impl;
    b->size = size;
    b->pages = pages;
    list_push_back(&impl->blocks, &b->link);
    guard_close(b->guard, sizeof(b->guard));
    return b + 1;
}

static struct mem_block *impl_unlink(void *p, size_t size)
{
    struct mem_block *b = (struct mem_block *)p - 1;
    assert(b->size == size);
    guard_open(b->guard, sizeof(b->guard));
    list_remove(&b->link);
    return b;
}

static void *impl_alloc(struct mem *m, size_t size, bool zero)
{
    size_t whole = sizeof(struct mem_block) + size;
    struct mem_block *b = zero ? calloc(1, whole) : malloc(whole);
    return b == NULL ? NULL : impl_link(m, b, size, false);
}

static void impl_free(struct mem *m, void *p, size_t size)
{
    (void)m;
    free(impl_unlink(p, size));
}

static void *impl_realloc(struct mem *m, void *old, size_t old_size, size_t new_size)
{
    /* Always moves, so that a pointer kept across a realloc is found. */
    void *p = impl_alloc(m, new_size, false);
    if (p == NULL)
        return NULL;
    memcpy(p, old, old_size < new_size ? old_size : new_size);
    impl_free(m, old, old_size);
    return p;
}

static void *impl_pages(struct mem *m, size_t size)
{
    /* The header takes the end of a page of its own; free needs the start of that page. */
    uint8_t *whole = aligned_alloc(MEM_PAGE, size + MEM_PAGE);
    if (whole == NULL)
        return NULL;
    return impl_link(m, (struct mem_block *)(void *)(whole + MEM_PAGE) - 1, size, true);
}

static void impl_pages_free(struct mem *m, void *p, size_t size)
{
    (void)m;
    (void)impl_unlink(p, size);
    free((uint8_t *)p - MEM_PAGE);
}

static void impl_stop(struct mem *m)
{
    struct mem_impl *impl = m->impl;
    LIST_EACH(it, &impl->blocks)
    {
        struct mem_block *b = (struct mem_block *)(void *)it;
        if (b->pages)
            impl_pages_free(m, b + 1, b->size);
        else
            impl_free(m, b + 1, b->size);
    }
    free(impl);
}

#else

struct mem_impl {
    unsigned arena, cache;
    bool has_cache;
    int alloc_flags, free_flags;
    size_t decay_mib[3]; /* "arena.<i>.decay", looked up once */
};

static int impl_start(struct mem *m)
{
    struct mem_impl *impl = mallocx(sizeof(*impl), MALLOCX_ZERO);
    if (impl == NULL)
        return -ENOMEM;
    size_t size = sizeof(impl->arena);
    if (mallctl("arenas.create", &impl->arena, &size, NULL, 0) != 0) {
        dallocx(impl, 0);
        return -ENOMEM;
    }
    size = sizeof(impl->cache);
    impl->has_cache = mallctl("tcache.create", &impl->cache, &size, NULL, 0) == 0;
    impl->free_flags = impl->has_cache ? MALLOCX_TCACHE(impl->cache) : MALLOCX_TCACHE_NONE;
    impl->alloc_flags = MALLOCX_ARENA(impl->arena) | impl->free_flags;
    size_t levels = 3;
    int looked_up = mallctlnametomib("arena.0.decay", impl->decay_mib, &levels);
    assert(looked_up == 0 && levels == 3);
    impl->decay_mib[1] = impl->arena;
    m->impl = impl;
    return 0;
}

static size_t impl_size(size_t size)
{
    return (size + 15) & ~(size_t)15;
}

static void *impl_alloc(struct mem *m, size_t size, bool zero)
{
    const struct mem_impl *impl = m->impl;
    return mallocx(impl_size(size), impl->alloc_flags | (zero ? MALLOCX_ZERO : 0));
}

static void impl_free(struct mem *m, void *p, size_t size)
{
    const struct mem_impl *impl = m->impl;
    sdallocx(p, impl_size(size), impl->free_flags);
}

static void *impl_realloc(struct mem *m, void *old, size_t old_size, size_t new_size)
{
    (void)old_size;
    const struct mem_impl *impl = m->impl;
    return rallocx(old, impl_size(new_size), impl->alloc_flags);
}

static int impl_pages_flags(size_t size)
{
    return MALLOCX_TCACHE_NONE |
           MALLOCX_ALIGN(size % MEM_LARGE_PAGE == 0 ? MEM_LARGE_PAGE : MEM_PAGE);
}

static void *impl_pages(struct mem *m, size_t size)
{
    const struct mem_impl *impl = m->impl;
    return mallocx(size, MALLOCX_ARENA(impl->arena) | impl_pages_flags(size));
}

static void impl_pages_free(struct mem *m, void *p, size_t size)
{
    const struct mem_impl *impl = m->impl;
    sdallocx(p, size, impl_pages_flags(size));
    /* Decay runs on allocator activity; a core gone idle after a free would keep the pages. */
    (void)mallctlbymib(impl->decay_mib, 3, NULL, NULL, NULL, 0);
}

static void impl_stop(struct mem *m)
{
    struct mem_impl *impl = m->impl;
    if (impl->has_cache) {
        int dropped = mallctl("tcache.destroy", NULL, NULL, &impl->cache, sizeof(impl->cache));
        assert(dropped == 0);
    }
    char name[48];
    (void)snprintf(name, sizeof(name), "arena.%u.destroy", impl->arena);
    int destroyed = mallctl(name, NULL, NULL, NULL, 0);
    assert(destroyed == 0);
    dallocx(impl, 0);
}

#endif

int mem_init(struct mem *m, uint64_t budget_bytes)
{
    assert(budget_bytes > 0);
    *m = (struct mem){.budget_bytes = budget_bytes};
    return impl_start(m);
}

void mem_destroy(struct mem *m)
{
    assert(m->impl != NULL);
    impl_stop(m);
    *m = (struct mem){0};
}

void *mem_alloc(struct mem *m, size_t size)
{
    assert(m->impl != NULL);
    assert(size > 0);
    if (!mem_admits(m, size))
        return NULL;
    void *p = impl_alloc(m, size, false);
    if (p != NULL)
        mem_take(m, size);
    return p;
}

void *mem_zalloc(struct mem *m, size_t size)
{
    assert(m->impl != NULL);
    assert(size > 0);
    if (!mem_admits(m, size))
        return NULL;
    void *p = impl_alloc(m, size, true);
    if (p != NULL)
        mem_take(m, size);
    return p;
}

void *mem_realloc(struct mem *m, void *old, size_t old_size, size_t new_size)
{
    assert((old == NULL) == (old_size == 0));
    assert(new_size > 0);
    if (old == NULL)
        return mem_alloc(m, new_size);
    if (new_size > old_size && !mem_admits(m, new_size - old_size))
        return NULL;
    void *p = impl_realloc(m, old, old_size, new_size);
    if (p == NULL)
        return NULL;
    mem_give(m, old_size);
    mem_take(m, new_size);
    return p;
}

void mem_free(struct mem *m, void *p, size_t size)
{
    if (p == NULL)
        return;
    assert(m->impl != NULL);
    assert(size > 0);
    impl_free(m, p, size);
    mem_give(m, size);
}

void *mem_pages(struct mem *m, size_t size)
{
    assert(m->impl != NULL);
    assert(size > 0 && size % MEM_PAGE == 0);
    if (!mem_admits(m, size))
        return NULL;
    void *p = impl_pages(m, size);
    if (p != NULL)
        mem_take(m, size);
    return p;
}

void mem_pages_free(struct mem *m, void *p, size_t size)
{
    if (p == NULL)
        return;
    assert(size > 0 && size % MEM_PAGE == 0);
    assert(((uintptr_t)p & (MEM_PAGE - 1)) == 0);
    impl_pages_free(m, p, size);
    mem_give(m, size);
}
