/* What a disk holds, and what it would still hold if the power went now: see block.c. */
#ifndef TESTS_CRASH_BLOCK_H
#define TESTS_CRASH_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

/* One write that no flush has followed yet. */
struct block_write {
    uint64_t offset;
    uint32_t size;
    uint8_t *data;
};

struct block {
    uint8_t *now, *kept; /* size bytes each, from mmap: untouched pages cost nothing */
    uint64_t size;
    struct block_write *writes; /* since the last flush, oldest first */
    uint32_t writes_count, writes_room;
};

/* What a cut did to the sectors that were not flushed; one written twice counts twice. */
struct block_cut {
    uint64_t kept, lost, torn_writes;
};

/* Contents from a file; its size is the disk's. False: it cannot be read. */
bool block_open(struct block *b, const char *path);
void block_put(struct block *b, uint64_t offset, const void *data, uint32_t size);
void block_flush(struct block *b);
/* Puts into `to` (size bytes) what the seed leaves of the disk. */
void block_crash(const struct block *b, uint64_t seed, uint8_t *to, struct block_cut *cut);
/* The power goes: what is left is all there is. */
void block_cut(struct block *b, uint64_t seed, struct block_cut *cut);
/* Writes `size` bytes into a file, leaving holes for pages of zeros. False: it cannot be written.
 */
bool block_save(const uint8_t *bytes, uint64_t size, const char *path);

/* splitmix64; below > 0. */
uint64_t block_random(uint64_t *state, uint64_t below);

#endif
