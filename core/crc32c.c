/* CRC-32C by the fastest means at hand.
 *
 *   size >= 256    isa-l, which folds with carry-less multiplication (AVX-512 where there is one)
 *   below          the processor's crc32 instruction, eight bytes at a time; isa-l's set-up costs
 *                  more than the work
 *   no such instruction: isa-l for all sizes; it carries a table version for such machines
 *
 * isa-l's crc32_iscsi neither inverts at the start nor at the end, while CRC-32C as everyone writes
 * it does both; hence the two ~ around it.
 *
 * Invariants:
 *  1. crc32c(crc32c(0, a), b) == crc32c(0, ab) for any cut.
 *  2. The result of crc32c_copy is the checksum of what is at `to`: each strip is copied first and
 *     summed from its new place while it is in the first-level cache, so a source that changes
 *     meanwhile cannot make the sum speak of other bytes than those kept.
 *
 * Failure modes: none. */
#include "core/crc32c.h"

#include <isa-l/crc.h>
#include <stdbool.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"

#define SMALL_MAX  256u
#define STRIP_SIZE 4096u
#define PIECE_MAX  (1u << 30) /* isa-l's length is an int */

/* raw: not inverted, neither in nor out. */
static uint32_t raw_large(uint32_t raw, const uint8_t *p, size_t size)
{
    while (size > 0) {
        size_t piece = MIN(size, PIECE_MAX);
        raw = crc32_iscsi((uint8_t *)(uintptr_t)p, (int)piece, raw);
        p += piece;
        size -= piece;
    }
    return raw;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) static uint32_t raw_small(uint32_t raw, const uint8_t *p,
                                                            size_t size)
{
    uint64_t sum = raw, word;
    for (; size >= 8; size -= 8, p += 8) {
        memcpy(&word, p, sizeof(word));
        sum = __builtin_ia32_crc32di(sum, word);
    }
    raw = (uint32_t)sum;
    for (; size > 0; size--, p++)
        raw = __builtin_ia32_crc32qi(raw, *p);
    return raw;
}

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

#else

static uint32_t raw_small(uint32_t raw, const uint8_t *p, size_t size)
{
    return raw_large(raw, p, size);
}

static bool has_instruction(void)
{
    return false;
}

#endif

static uint32_t raw_any(uint32_t raw, const uint8_t *p, size_t size)
{
    if (size < SMALL_MAX && has_instruction())
        return raw_small(raw, p, size);
    return raw_large(raw, p, size);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    assert(data != NULL || size == 0);
    return ~raw_any(~crc, data, size);
}

uint32_t crc32c_copy(uint32_t crc, void *to, const void *from, size_t size)
{
    assert((to != NULL && from != NULL) || size == 0);
    uint8_t *out = to;
    const uint8_t *in = from;
    assert(out + size <= in || in + size <= out || size == 0);
    uint32_t raw = ~crc;
    while (size > 0) {
        size_t strip = MIN(size, STRIP_SIZE);
        memcpy(out, in, strip);
        raw = raw_any(raw, out, strip);
        out += strip;
        in += strip;
        size -= strip;
    }
    return ~raw;
}
