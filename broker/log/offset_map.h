/* The last offset of each key of a log's dirty part, in memory of a fixed size; see offset_map.c.
 */
#ifndef BROKER_LOG_OFFSET_MAP_H
#define BROKER_LOG_OFFSET_MAP_H

#include "core/mem.h"

#include <stdbool.h>

#define OFFSET_SLOT_BYTES 24u

struct offset_slot;

struct offset_map {
    struct mem *mem;
    struct offset_slot *slots;
    uint32_t slots_count, used, limit; /* limit: keys it takes */
    uint32_t cleared;                  /* slots that are empty for sure: see offset_map_clear */
    uint64_t secret[2];
    int64_t latest; /* what is at or below it has been put; -1: nothing */
};

/* Room for slots_count keys times `load`. The slots are not usable before offset_map_clear has
 * said so. False: over budget. */
NODISCARD bool offset_map_init(struct offset_map *m, struct mem *mem, uint32_t slots_count,
                               double load, const uint64_t secret[2]);
void offset_map_free(struct offset_map *m);
/* Clears so many more slots; true: all are. */
NODISCARD bool offset_map_clear(struct offset_map *m, uint32_t slots_count);
/* False: the map is full, and does not know the key. */
NODISCARD bool offset_map_put(struct offset_map *m, const uint8_t *key, uint32_t size,
                              int64_t offset);
/* -1: not known. */
int64_t offset_map_get(const struct offset_map *m, const uint8_t *key, uint32_t size);
static inline void offset_map_reached(struct offset_map *m, int64_t offset)
{
    if (offset > m->latest)
        m->latest = offset;
}

struct hash128 {
    uint64_t low, high;
};
/* SipHash-2-4 with 128 bits of result. */
struct hash128 sip_hash(const uint64_t secret[2], const uint8_t *data, uint32_t size);

#endif
