/* Chance: a stream of pseudo-random numbers from one word of state. Each part of the simulator that
 * draws has a stream of its own, so that switching one kind of fault off does not reshuffle the
 * others. Whole numbers only: a simulation must not depend on how a machine rounds. Every draw is a
 * choice with a name, that of the function which draws, so that a run can be written down, repeated
 * choice by choice, and be compared with another. */
#ifndef IO_SIM_CHANCE_H
#define IO_SIM_CHANCE_H

#include "core/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is shown every draw of the streams that have it, and says what it was: the same value, when it
 * only writes down; that of an earlier run, when it repeats one. site: the function that draws, the
 * name of its choice; bound: the value is below it (0: any word). */
struct chance_tape {
    uint64_t (*drawn)(struct chance_tape *t, const char *site, uint64_t bound, uint64_t value);
};

struct chance {
    uint64_t state;
    struct chance_tape *tape; /* NULL: none; set after chance_init */
};

/* One 64-bit word well mixed: every bit of the result depends on every bit of both. */
uint64_t chance_mix(uint64_t a, uint64_t b);
/* Hash of bytes, the same on every machine. */
uint64_t chance_hash(uint64_t start, const void *bytes, size_t size);

/* The stream number `stream` of a seed. */
void chance_init(struct chance *c, uint64_t seed, uint64_t stream);

/* Any word. */
#define chance_next(c) chance_next_at((c), __func__)
/* 0 .. n-1; n > 0. */
#define chance_below(c, n) chance_below_at((c), __func__, (n))
/* low .. high, both included. */
#define chance_between(c, low, high) chance_between_at((c), __func__, (low), (high))
/* True once in n draws on average; n = 0: never (but a number is drawn all the same). */
#define chance_one_in(c, n) chance_one_in_at((c), __func__, (n))
/* A duration of this mean with a long tail: mostly under twice the mean, now and then far more. */
#define chance_around(c, mean) chance_around_at((c), __func__, (mean))

uint64_t chance_next_at(struct chance *c, const char *site);
uint64_t chance_below_at(struct chance *c, const char *site, uint64_t n);
uint64_t chance_between_at(struct chance *c, const char *site, uint64_t low, uint64_t high);
bool chance_one_in_at(struct chance *c, const char *site, uint32_t n);
uint64_t chance_around_at(struct chance *c, const char *site, uint64_t mean);

#endif
