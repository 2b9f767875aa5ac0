/* struct mem: the memory budget of one core. Everything that grows with the data comes from here;
 * "over budget" is a normal return (NULL) that the caller turns into a throttle or a refusal.
 * Below it is one jemalloc arena per budget (plain malloc in sanitizer builds), so that memory
 * never migrates between cores and mem_destroy can drop all of it at once (a simulated power cut).
 * Blocks are freed by the core that made them, with the size they were made with. */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "core/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem {
    uint64_t budget_bytes;
    uint64_t used_bytes; /* sum of live blocks, as asked */
    uint64_t peak_bytes;
    uint64_t refusals; /* how often the budget said no */
    /* What somebody counts on having later; nothing is kept for it but by mem_may_grow. */
    uint64_t promised_bytes;
    void *impl; /* arena, or list of blocks under sanitizers */
};

/* budget_bytes > 0. Returns 0, -ENOMEM. */
NODISCARD int mem_init(struct mem *m, uint64_t budget_bytes);
/* Frees every block still live. */
void mem_destroy(struct mem *m);

/* 16-byte aligned; NULL over budget or when the system has none. size > 0. */
NODISCARD void *mem_alloc(struct mem *m, size_t size);
/* As mem_alloc, zeroed. */
NODISCARD void *mem_zalloc(struct mem *m, size_t size);
/* Grows or shrinks; NULL leaves the old block as it was. old may be NULL with old_size 0. */
NODISCARD void *mem_realloc(struct mem *m, void *old, size_t old_size, size_t new_size);
/* NULL is ignored. */
void mem_free(struct mem *m, void *p, size_t size);

/* What comes as often as peers like, and stays, asks this before it begins something new: it gets
 * nothing of what is promised, nor of the last share, which those need who are there already. */
#define MEM_LAST_SHARE 8u
static inline bool mem_may_grow(const struct mem *m)
{
    assert(m->used_bytes <= m->budget_bytes);
    return m->budget_bytes - m->used_bytes > m->promised_bytes + m->budget_bytes / MEM_LAST_SHARE;
}

/* 4096-aligned memory for direct I/O, not zeroed, and whatever must not share a cache line with
 * another's. Freed pages go back to the system within seconds. size is a multiple of 4096; where it
 * is one of MEM_LARGE_PAGE, so is the address (not in sanitized builds). */
#define MEM_LARGE_PAGE (2u << 20)
NODISCARD void *mem_pages(struct mem *m, size_t size);
void mem_pages_free(struct mem *m, void *p, size_t size);

#endif
