/* struct map: open-addressing hash table from byte keys to pointers, linear probing, grown at 7/8,
 * from 2 slots on. Keys are not copied: they live in the value. Iteration is in slot order, which
 * depends only on the keys and the seed (never on addresses), so simulated runs repeat. Owner core
 * only. */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include "core/mem.h"

#include <stdbool.h>

struct map_slot {
    const void *key;
    uint32_t key_size, hash;
    void *value; /* NULL: empty */
};

struct map {
    struct mem *mem;
    struct map_slot *slots;
    uint32_t count, slots_count; /* slots_count: 0 or a power of two */
    uint64_t seed;
};

/* The hash it uses: fast, seeded, the same on every machine; not for secrets. */
uint64_t map_hash(const void *key, size_t size, uint64_t seed);

void map_init(struct map *m, struct mem *mem, uint64_t seed);
void map_destroy(struct map *m);
/* The value, or NULL. */
void *map_get(const struct map *m, const void *key, uint32_t key_size);
/* Adds or replaces; value is not NULL. 0 or -ENOMEM (nothing changed). */
NODISCARD int map_put(struct map *m, const void *key, uint32_t key_size, void *value);
/* Room for count values in all, so that puts up to there cannot fail. 0 or -ENOMEM. */
NODISCARD int map_reserve(struct map *m, uint32_t count);
/* The value removed, or NULL. */
void *map_remove(struct map *m, const void *key, uint32_t key_size);
/* Iterates: start with *at = 0; NULL at the end. No change of the map meanwhile. */
void *map_next(const struct map *m, uint32_t *at);

#endif
