/* Chance, as splitmix64: a counter and a mixer. Its period is 2^64, any seed will do, and a stream
 * is one word, so that thousands of them cost nothing.
 *
 *   state += odd constant ─▶ two rounds of shift, xor, multiply ─▶ 64 bits
 *
 * Invariants:
 *  1. Equal seed and stream give equal numbers, on every machine and compiler: unsigned words only.
 *  2. Every function draws the same count of numbers whatever they are, so a decision that changes
 *     does not shift the decisions after it.
 *
 * Failure modes: none; bounds that make no sense are our bug. */
#include "io/sim/chance.h"

#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15ull

static uint64_t mixed(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t chance_mix(uint64_t a, uint64_t b)
{
    return mixed(mixed(a + GOLDEN) ^ (b * GOLDEN + 1));
}

uint64_t chance_hash(uint64_t start, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint64_t hash = start ^ size * GOLDEN;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ mixed(word)) * GOLDEN + 1;
    }
    uint64_t rest = 0;
    if (size > 0)
        memcpy(&rest, at, size);
    return mixed(hash ^ rest);
}

void chance_init(struct chance *c, uint64_t seed, uint64_t stream)
{
    c->state = chance_mix(seed, stream);
}

uint64_t chance_next(struct chance *c)
{
    c->state += GOLDEN;
    return mixed(c->state);
}

uint64_t chance_below(struct chance *c, uint64_t n)
{
    assert(n > 0);
    return chance_next(c) % n;
}

uint64_t chance_between(struct chance *c, uint64_t low, uint64_t high)
{
    assert(low <= high);
    uint64_t width = high - low;
    return width == UINT64_MAX ? chance_next(c) : low + chance_below(c, width + 1);
}

bool chance_one_in(struct chance *c, uint32_t n)
{
    uint64_t drawn = chance_next(c);
    return n > 0 && drawn % n == 0;
}

uint64_t chance_around(struct chance *c, uint64_t mean)
{
    uint64_t drawn = chance_next(c);
    uint64_t tail = drawn >> 48; /* 16 bits, apart from those used below */
    uint64_t factor = tail < 64 ? 64 : tail < 2048 ? 8 : 1;
    assert(mean < UINT64_MAX / 256);
    return mean == 0 ? 0 : (drawn & 0xffffffffffffull) % (2 * mean) * factor;
}
