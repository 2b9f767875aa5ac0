/* struct id_map: a hash table from 64-bit ids to structs that begin with their id. It is as lean as
 * such a table can be: one pointer per slot, from 2 slots on, grown at 3/4. Iteration is in slot
 * order, which depends only on ids and the order of changes. Owner core only. */
#ifndef CORE_ID_MAP_H
#define CORE_ID_MAP_H

#include "core/mem.h"

#include <stdbool.h>

struct id_map {
    struct mem *mem;
    int64_t **slots;             /* each points to the id its struct begins with; NULL: empty */
    uint32_t count, slots_count; /* slots_count: 0 or a power of two */
};

void id_map_init(struct id_map *m, struct mem *mem);
void id_map_destroy(struct id_map *m);
/* The struct, or NULL. */
void *id_map_get(const struct id_map *m, int64_t id);
/* Room for count structs in all, so that puts up to there cannot fail. 0 or -ENOMEM. */
NODISCARD int id_map_reserve(struct id_map *m, uint32_t count);
/* There is room, and the id is not there yet. item is the address of its id, the first field. */
void id_map_put(struct id_map *m, int64_t *item);
/* The struct removed, or NULL. */
void *id_map_remove(struct id_map *m, int64_t id);
/* Iterates: start with *at = 0; NULL at the end. No change of the map meanwhile, but that after
 * removing the one just seen the iteration goes on from *at - 1. */
void *id_map_next(const struct id_map *m, uint32_t *at);

#endif
