/* Chance: a stream of pseudo-random numbers from one word of state. Each part of the simulator that
 * draws has a stream of its own, so that switching one kind of fault off does not reshuffle the
 * others. Whole numbers only: a simulation must not depend on how a machine rounds. */
#ifndef IO_SIM_CHANCE_H
#define IO_SIM_CHANCE_H

#include "core/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

/* One 64-bit word well mixed: every bit of the result depends on every bit of both. */
uint64_t chance_mix(uint64_t a, uint64_t b);
/* Hash of bytes, the same on every machine. */
uint64_t chance_hash(uint64_t start, const void *bytes, size_t size);

/* The stream number `stream` of a seed. */
void chance_init(struct chance *c, uint64_t seed, uint64_t stream);
uint64_t chance_next(struct chance *c);
/* 0 .. n-1; n > 0. */
uint64_t chance_below(struct chance *c, uint64_t n);
/* low .. high, both included. */
uint64_t chance_between(struct chance *c, uint64_t low, uint64_t high);
/* True once in n draws on average; n = 0: never (but a number is drawn all the same). */
bool chance_one_in(struct chance *c, uint32_t n);
/* A duration of this mean with a long tail: mostly under twice the mean, now and then far more. */
uint64_t chance_around(struct chance *c, uint64_t mean);

#endif
