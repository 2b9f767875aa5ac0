/* Open-addressing hash table, linear probing, backward-shift deletion.
 *
 *   slot:   0     1     2     3     4     5     6     7
 *         ┌─────┬─────┬─────┬─────┬─────┬─────┬─────┬─────┐   a key sits at its home slot (hash &
 *         │     │ a:1 │ b:1 │ c:2 │     │     │ d:6 │     │   mask) or in the unbroken run after it
 *         └─────┴─────┴─────┴─────┴─────┴─────┴─────┴─────┘
 *   removing a: b moves to 1 and c to 2, so there are no tombstones and a lookup that meets an
 * empty slot has seen all there is to see.
 *
 * The full 32-bit hash is kept in the slot: most misses are told apart without touching the key,
 * and growing does not hash again.
 *
 * Invariants:
 *  1. Between a key's home slot and its slot there is no empty slot.
 *  2. At most 7/8 of the slots are used, and one is always empty, so every probe ends.
 *  3. Positions depend on keys, seed and the order of changes, never on addresses.
 *
 * Failure modes: growing is over budget: -ENOMEM and nothing has changed. Keys chosen by an enemy
 * who knows the seed make long runs; the seed is the node's own random number. */
#include "core/map.h"

#include <errno.h>
#include <string.h>

#include "core/core.h"

#define MAP_SLOTS_MIN 2u /* most maps of a group hold one thing */
#define MAP_SLOTS_MAX (1u << 30)

#define MIX_A 0x9e3779b97f4a7c15ull
#define MIX_B 0xd6e8feb86659fd93ull

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t word64(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

static uint64_t word32(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

uint64_t map_hash(const void *key, size_t size, uint64_t seed)
{
    const uint8_t *p = key;
    uint64_t h = seed ^ mix(seed ^ MIX_A, size ^ MIX_B), a = 0, b = 0;
    size_t left = size;
    for (; left > 16; left -= 16, p += 16)
        h = mix(word64(p) ^ MIX_A, word64(p + 8) ^ h);
    if (left >= 8) { /* the two words overlap when left < 16 */
        a = word64(p);
        b = word64(p + left - 8);
    } else if (left >= 4) {
        a = word32(p);
        b = word32(p + left - 4);
    } else if (left > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[left / 2] << 8 | p[left - 1];
    }
    return mix(MIX_B ^ size, mix(a ^ MIX_A, b ^ h));
}

static uint32_t map_hash32(const struct map *m, const void *key, uint32_t key_size)
{
    uint64_t h = map_hash(key, key_size, m->seed);
    return (uint32_t)(h ^ h >> 32);
}

void map_init(struct map *m, struct mem *mem, uint64_t seed)
{
    assert(mem != NULL);
    *m = (struct map){.mem = mem, .seed = seed};
}

void map_destroy(struct map *m)
{
    if (m->slots != NULL)
        mem_free(m->mem, m->slots, (size_t)m->slots_count * sizeof(*m->slots));
    map_init(m, m->mem, m->seed);
}

/* The slot of the key, or the empty slot where it would go. */
static struct map_slot *map_find(const struct map *m, const void *key, uint32_t key_size,
                                 uint32_t hash)
{
    uint32_t mask = m->slots_count - 1;
    for (uint32_t i = 0; i < m->slots_count; i++) {
        struct map_slot *s = &m->slots[(hash + i) & mask];
        if (s->value == NULL)
            return s;
        if (s->hash == hash && s->key_size == key_size &&
            (key_size == 0 || memcmp(s->key, key, key_size) == 0))
            return s;
    }
    assert_failed("a map always has an empty slot", __FILE__, __LINE__); /* invariant 2 */
}

void *map_get(const struct map *m, const void *key, uint32_t key_size)
{
    assert(key != NULL || key_size == 0);
    if (m->count == 0)
        return NULL;
    return map_find(m, key, key_size, map_hash32(m, key, key_size))->value;
}

/* How many of so many slots may be used. */
static uint32_t map_room(uint32_t slots_count)
{
    return slots_count - MAX(slots_count / 8, MIN(slots_count, 1u));
}

/* Moves everything into slots_count slots. 0 or -ENOMEM. */
static int map_resize(struct map *m, uint32_t slots_count)
{
    assert(map_room(slots_count) >= m->count);
    struct map_slot *slots = mem_zalloc(m->mem, (size_t)slots_count * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    uint32_t moved = 0;
    for (uint32_t i = 0; i < m->slots_count; i++) {
        if (m->slots[i].value == NULL)
            continue;
        uint32_t at = m->slots[i].hash & (slots_count - 1);
        while (slots[at].value != NULL) /* ends: invariant 2 */
            at = (at + 1) & (slots_count - 1);
        slots[at] = m->slots[i];
        moved++;
    }
    assert(moved == m->count);
    if (m->slots != NULL)
        mem_free(m->mem, m->slots, (size_t)m->slots_count * sizeof(*m->slots));
    m->slots = slots;
    m->slots_count = slots_count;
    return 0;
}

int map_reserve(struct map *m, uint32_t count)
{
    assert(m->mem != NULL);
    uint32_t slots_count = MAX(m->slots_count, MAP_SLOTS_MIN);
    while (map_room(slots_count) < count && slots_count <= MAP_SLOTS_MAX)
        slots_count *= 2;
    if (slots_count > MAP_SLOTS_MAX)
        return -ENOMEM;
    return slots_count == m->slots_count ? 0 : map_resize(m, slots_count);
}

int map_put(struct map *m, const void *key, uint32_t key_size, void *value)
{
    assert(value != NULL);
    assert(key != NULL || key_size == 0);
    uint32_t hash = map_hash32(m, key, key_size);
    if (m->slots_count > 0) {
        struct map_slot *s = map_find(m, key, key_size, hash);
        if (s->value != NULL) {
            s->key = key; /* the old key lived in the old value */
            s->value = value;
            return 0;
        }
    }
    if (m->count + 1 > map_room(m->slots_count) && map_reserve(m, m->count + 1) < 0)
        return -ENOMEM;
    struct map_slot *s = map_find(m, key, key_size, hash);
    assert(s->value == NULL);
    *s = (struct map_slot){.key = key, .key_size = key_size, .hash = hash, .value = value};
    m->count++;
    return 0;
}

void *map_remove(struct map *m, const void *key, uint32_t key_size)
{
    assert(key != NULL || key_size == 0);
    if (m->count == 0)
        return NULL;
    uint32_t mask = m->slots_count - 1;
    struct map_slot *hole = map_find(m, key, key_size, map_hash32(m, key, key_size));
    void *value = hole->value;
    if (value == NULL)
        return NULL;
    uint32_t at = (uint32_t)(hole - m->slots);
    for (uint32_t i = 1; i < m->slots_count; i++) {
        uint32_t next = ((uint32_t)(hole - m->slots) + i) & mask;
        struct map_slot *s = &m->slots[next];
        if (s->value == NULL)
            break;
        /* s may fill the hole if its home is not after the hole (invariant 1). */
        if (((next - s->hash) & mask) >= ((next - at) & mask)) {
            m->slots[at] = *s;
            at = next;
        }
    }
    m->slots[at] = (struct map_slot){0};
    m->count--;
    return value;
}

void *map_next(const struct map *m, uint32_t *at)
{
    while (*at < m->slots_count) {
        void *value = m->slots[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}
