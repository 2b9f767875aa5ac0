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

/* Four words side by side: what one needs of the last would be waited for. */
uint64_t chance_hash(uint64_t start, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint64_t hash = start ^ size * GOLDEN, a = 1, b = 2, c = 3, d = 4, words[4];
    for (; size >= sizeof(words); at += sizeof(words), size -= sizeof(words)) {
        memcpy(words, at, sizeof(words));
        a = (a ^ words[0]) * GOLDEN;
        b = (b ^ words[1]) * GOLDEN;
        c = (c ^ words[2]) * GOLDEN;
        d = (d ^ words[3]) * GOLDEN;
        a ^= a >> 32;
        b ^= b >> 32;
        c ^= c >> 32;
        d ^= d >> 32;
    }
    hash = mixed(mixed(mixed(mixed(hash ^ a) ^ b) ^ c) ^ d);
    for (; size >= sizeof(hash); at += sizeof(hash), size -= sizeof(hash)) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        hash = mixed(hash ^ word) + GOLDEN;
    }
    uint64_t rest = 0;
    if (size > 0)
        memcpy(&rest, at, size);
    return mixed(hash ^ rest);
}

void chance_init(struct chance *c, uint64_t seed, uint64_t stream)
{
    *c = (struct chance){.state = chance_mix(seed, stream)};
}

static uint64_t drawn(struct chance *c)
{
    c->state += GOLDEN;
    return mixed(c->state);
}

static uint64_t chosen(struct chance *c, const char *site, uint64_t bound, uint64_t value)
{
    return c->tape == NULL ? value : c->tape->drawn(c->tape, site, bound, value);
}

uint64_t chance_next_at(struct chance *c, const char *site)
{
    return chosen(c, site, 0, drawn(c));
}

uint64_t chance_below_at(struct chance *c, const char *site, uint64_t n)
{
    assert(n > 0);
    return chosen(c, site, n, drawn(c) % n);
}

uint64_t chance_between_at(struct chance *c, const char *site, uint64_t low, uint64_t high)
{
    assert(low <= high);
    uint64_t width = high - low;
    return width == UINT64_MAX ? chance_next_at(c, site)
                               : low + chance_below_at(c, site, width + 1);
}

bool chance_one_in_at(struct chance *c, const char *site, uint32_t n)
{
    uint64_t word = drawn(c);
    return chosen(c, site, 2, n > 0 && word % n == 0) != 0;
}

uint64_t chance_around_at(struct chance *c, const char *site, uint64_t mean)
{
    uint64_t word = drawn(c);
    uint64_t tail = word >> 48; /* 16 bits, apart from those used below */
    uint64_t factor = tail < 64 ? 64 : tail < 2048 ? 8 : 1;
    assert(mean < UINT64_MAX / 256);
    uint64_t value = mean == 0 ? 0 : (word & 0xffffffffffffull) % (2 * mean) * factor;
    return chosen(c, site, 0, value);
}
