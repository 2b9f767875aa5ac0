/* struct arena: a bump allocator for what lives exactly as long as one request: decoded arrays,
 * reply structs. Nothing in it is freed singly. It takes blocks from a core's budget as needed and
 * has a limit of its own, so one request cannot eat the core. Owner core only. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/mem.h"

#include <stdbool.h>

struct arena_block;

struct arena {
    struct mem *mem;
    struct arena_block *blocks; /* newest first */
    uint8_t *at, *end;          /* free part of the newest block */
    uint64_t taken_bytes, limit_bytes;
    bool failed; /* sticky: some allocation was refused */
};

/* limit_bytes bounds the sum of blocks taken. Takes no memory yet. */
void arena_init(struct arena *a, struct mem *mem, uint64_t limit_bytes);
/* 16-byte aligned, not zeroed; NULL over limit or budget (then a->failed). size may be 0: the
 * result is then non-NULL but holds nothing. */
NODISCARD void *arena_alloc(struct arena *a, size_t size);
/* As arena_alloc for count items, zeroed; NULL too when count * size overflows. */
NODISCARD void *arena_array(struct arena *a, size_t count, size_t size);
/* Copy of size bytes. */
NODISCARD void *arena_copy(struct arena *a, const void *from, size_t size);
/* Everything goes back to the budget; the arena can be used again. */
void arena_release(struct arena *a);

#endif
