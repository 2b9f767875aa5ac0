/* The table that compaction looks keys up in: for each key of the dirty part the offset of its last
 * record, in a fixed piece of memory, whatever the keys look like.
 *
 *   key ─▶ 128-bit hash ─▶ slot (linear probing) │ hash 16 bytes │ offset + 1, 8 bytes (0: empty) │
 *
 * Keys are not kept: two keys with one hash would be one key, and the older record would be lost.
 * So the hash is a keyed one (SipHash, its secret drawn for each cleaning): equal hashes of
 * different keys cannot be made on purpose, and do not happen by chance.
 *
 * Clearing a large table takes longer than a turn may, so it is cleared piece by piece before use.
 *
 * Invariants
 *  1. used <= limit < slots_count: a probe ends at an empty slot.
 *  2. latest only grows.
 *
 * Failure: a full map refuses new keys; the round of cleaning then ends below them. */
#include "broker/log/offset_map.h"

#include <string.h>

#include "core/core.h"

struct offset_slot {
    struct hash128 hash;
    int64_t offset_1; /* offset + 1; 0: empty */
};
_Static_assert(sizeof(struct offset_slot) == OFFSET_SLOT_BYTES, "bounds the memory");

/* ---- the hash -------------------------------------------------------------------------------- */

static inline uint64_t rotated(uint64_t x, uint32_t by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[0] = rotated(v[0], 32);
    v[2] += v[3];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[2] = rotated(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

static inline uint64_t sip_end(uint64_t v[4])
{
    for (uint32_t i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct hash128 sip_hash(const uint64_t secret[2], const uint8_t *data, uint32_t size)
{
    assert(data != NULL || size == 0);
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575ull, secret[1] ^ 0x646f72616e646f6dull ^ 0xee,
                     secret[0] ^ 0x6c7967656e657261ull, secret[1] ^ 0x7465646279746573ull};
    uint64_t last = (uint64_t)size << 56, word;
    for (; size >= sizeof(word); size -= (uint32_t)sizeof(word), data += sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        sip_word(v, word);
    }
    for (uint32_t i = 0; i < size; i++)
        last |= (uint64_t)data[i] << (8 * i);
    sip_word(v, last);
    struct hash128 hash;
    v[2] ^= 0xee;
    hash.low = sip_end(v);
    v[1] ^= 0xdd;
    hash.high = sip_end(v);
    return hash;
}

/* ---- the map --------------------------------------------------------------------------------- */

bool offset_map_init(struct offset_map *m, struct mem *mem, uint32_t slots_count, double load,
                     const uint64_t secret[2])
{
    assert(slots_count >= 2);
    assert(load > 0 && load <= 1);
    *m = (struct offset_map){.mem = mem, .slots_count = slots_count, .latest = -1};
    m->limit = MIN(MAX((uint32_t)(slots_count * load), 1u), slots_count - 1);
    m->secret[0] = secret[0];
    m->secret[1] = secret[1];
    m->slots = mem_alloc(mem, (size_t)slots_count * sizeof(*m->slots));
    return m->slots != NULL;
}

void offset_map_free(struct offset_map *m)
{
    mem_free(m->mem, m->slots, (size_t)m->slots_count * sizeof(*m->slots));
    m->slots = NULL;
}

bool offset_map_clear(struct offset_map *m, uint32_t slots_count)
{
    assert(m->slots != NULL);
    assert(m->used == 0);
    uint32_t count = MIN(slots_count, m->slots_count - m->cleared);
    memset(m->slots + m->cleared, 0, (size_t)count * sizeof(*m->slots));
    m->cleared += count;
    return m->cleared == m->slots_count;
}

/* The slot of the hash, or the empty one where it belongs. */
static struct offset_slot *slot_find(const struct offset_map *m, struct hash128 hash)
{
    assert(m->cleared == m->slots_count);
    assert(m->used < m->slots_count);
    uint32_t at = (uint32_t)(((unsigned __int128)hash.low * m->slots_count) >> 64);
    struct offset_slot *s = &m->slots[at];
    while (s->offset_1 != 0 && (s->hash.low != hash.low || s->hash.high != hash.high)) {
        at = at + 1 == m->slots_count ? 0 : at + 1;
        s = &m->slots[at];
    }
    return s;
}

bool offset_map_put(struct offset_map *m, const uint8_t *key, uint32_t size, int64_t offset)
{
    assert(offset >= 0);
    struct hash128 hash = sip_hash(m->secret, key, size);
    struct offset_slot *s = slot_find(m, hash);
    if (s->offset_1 == 0) {
        if (m->used == m->limit)
            return false;
        m->used++;
        s->hash = hash;
    }
    s->offset_1 = MAX(s->offset_1, offset + 1);
    return true;
}

int64_t offset_map_get(const struct offset_map *m, const uint8_t *key, uint32_t size)
{
    return slot_find(m, sip_hash(m->secret, key, size))->offset_1 - 1;
}
