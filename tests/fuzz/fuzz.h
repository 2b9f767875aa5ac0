/* A fuzz target is a program of two functions: one takes any bytes, the other gives the inputs to
 * begin with. tests/fuzz/driver.c does the rest; tests/fuzz/run.py runs them all.
 *
 * A target does no I/O but with the simulator's, keeps its memory from one input to the next where
 * that changes nothing, and asserts what must hold whatever the bytes are. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "core/assert.h"
#include "core/core.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FUZZ_INPUT_MAX (1u << 16)

/* Always 0. Longer inputs than FUZZ_INPUT_MAX are passed over. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The n-th input to begin with, at most FUZZ_INPUT_MAX bytes in `to`: its size; 0: there is none,
 * nor any after it. */
size_t fuzz_seed(uint32_t n, uint8_t *to);
/* For a seed of events drawn by chance: size bytes, the same for the same n; returns size. */
size_t fuzz_noise(uint32_t n, uint32_t size, uint8_t *to);

/* An input that is a row of choices. What is read behind its end is zero. */
struct fuzz_reader {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t fuzz_byte(struct fuzz_reader *r)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->at++;
}

/* 0 to below - 1, of one byte */
static inline uint32_t fuzz_below(struct fuzz_reader *r, uint32_t below)
{
    return fuzz_byte(r) % below;
}

static inline uint32_t fuzz_u16(struct fuzz_reader *r)
{
    uint32_t high = fuzz_byte(r);
    return high << 8 | fuzz_byte(r);
}

static inline uint64_t fuzz_u64(struct fuzz_reader *r)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < 8; i++)
        value = value << 8 | fuzz_byte(r);
    return value;
}

/* At most `size` bytes of what is left; the number of them. */
static inline size_t fuzz_bytes(struct fuzz_reader *r, size_t size, const uint8_t **bytes)
{
    size = MIN(size, r->left);
    *bytes = r->at;
    r->at += size;
    r->left -= size;
    return size;
}

#endif
