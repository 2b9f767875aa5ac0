/* The offsets that one partition's batches got, all of the same number of records: from the end
 * offset before the run on, each step taken once, none left out. */
#ifndef PERF_OFFSETS_H
#define PERF_OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

struct offsets {
    int64_t start;   /* end offset before the run */
    uint32_t step;   /* records per batch */
    uint32_t ahead;  /* batches that may be under way at once */
    uint64_t taken;  /* batches */
    int64_t highest; /* base offset; -1: none */
    uint64_t *seen;  /* a bit per batch since start */
    uint64_t seen_words;
};

void offsets_init(struct offsets *o, int64_t start, uint32_t step, uint32_t ahead);
/* false: the base offset is none a batch could have, or another batch has it. */
bool offsets_take(struct offsets *o, int64_t base);
/* With the end offset after the run: every step was taken, and nobody else wrote. */
bool offsets_dense(const struct offsets *o, int64_t end);

#endif
