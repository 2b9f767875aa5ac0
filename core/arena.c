/* Memory that lives as long as one request: taken by moving a pointer, given back all at once.
 *
 *   blocks ─▶ [next size |used|used|used|····free····]      newest, allocations are cut from it
 *               └─▶ [next size |used|used|used|used|··]      older ones only wait for release
 *
 * Blocks double from 1 KiB to 64 KiB, so a small request costs one small block and a large one a
 * handful; what does not fit in a fresh block of that size gets a block of its own size.
 *
 * Invariants:
 *  1. taken_bytes is the sum of the blocks' sizes, headers included, and is at most limit_bytes.
 *  2. `at` is 16-byte aligned and at <= end; both NULL while there is no block.
 *  3. `failed` is set by the first refusal and stays until release, so a decoder may check once.
 *
 * Failure modes: the arena's limit or the core's budget is reached: NULL. The tail of the newest
 * block is lost when a larger block follows; at most half of what was taken. */
#include "core/arena.h"

#include <string.h>

#include "core/core.h"
#include "core/guard.h"

#define ARENA_BLOCK_MIN 1024u
#define ARENA_BLOCK_MAX 65536u

struct arena_block {
    struct arena_block *next;
    uint64_t size; /* of the whole block */
};

_Static_assert(sizeof(struct arena_block) == 16, "what follows the header is 16-byte aligned");

/* Where zero-sized allocations point: nothing may be read or written there. */
static const uint8_t nothing[16] __attribute__((aligned(16)));

void arena_init(struct arena *a, struct mem *mem, uint64_t limit_bytes)
{
    assert(mem != NULL);
    *a = (struct arena){.mem = mem, .limit_bytes = limit_bytes};
}

/* A new newest block with room for size bytes (already rounded). */
static bool arena_grow(struct arena *a, size_t size)
{
    uint64_t left = a->limit_bytes - a->taken_bytes;
    uint64_t need = (uint64_t)size + sizeof(struct arena_block);
    if (need > left)
        return false;
    uint64_t want = MIN(MAX(a->taken_bytes, ARENA_BLOCK_MIN), ARENA_BLOCK_MAX);
    uint64_t block_size = MAX(need, MIN(want, left & ~15ull));
    struct arena_block *b = mem_alloc(a->mem, block_size);
    if (b == NULL)
        return false;
    b->next = a->blocks;
    b->size = block_size;
    a->blocks = b;
    a->at = (uint8_t *)(b + 1);
    a->end = (uint8_t *)b + block_size;
    a->taken_bytes += block_size;
    assert(a->taken_bytes <= a->limit_bytes);
    guard_close(a->at, (size_t)(a->end - a->at));
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    assert(a->mem != NULL);
    if (size == 0)
        return (void *)(uintptr_t)nothing;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (size > PTRDIFF_MAX - 64 ||
        (rounded > (size_t)(a->end - a->at) && !arena_grow(a, rounded))) {
        a->failed = true;
        return NULL;
    }
    void *p = a->at;
    a->at += rounded;
    assert(a->at <= a->end);
    guard_open(p, size);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        a->failed = true;
        return NULL;
    }
    void *p = arena_alloc(a, bytes);
    if (p != NULL && bytes > 0)
        memset(p, 0, bytes);
    return p;
}

void *arena_copy(struct arena *a, const void *from, size_t size)
{
    assert(from != NULL || size == 0);
    void *p = arena_alloc(a, size);
    if (p != NULL && size > 0)
        memcpy(p, from, size);
    return p;
}

void arena_release(struct arena *a)
{
    uint64_t released_bytes = 0;
    for (struct arena_block *b = a->blocks, *next; b != NULL; b = next) {
        next = b->next;
        released_bytes += b->size;
        guard_open(b, b->size);
        mem_free(a->mem, b, b->size);
    }
    assert(released_bytes == a->taken_bytes);
    arena_init(a, a->mem, a->limit_bytes);
}
