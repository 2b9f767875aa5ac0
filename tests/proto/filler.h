/* Fills any message with values from a seed, by its shape, so that one test can go over all of
 * them: what a version lacks stays at its default, what may be null sometimes is. */
#ifndef TESTS_PROTO_FILLER_H
#define TESTS_PROTO_FILLER_H

#include "proto/gen/entries.h"

struct filler {
    uint64_t state; /* xorshift; not 0 */
    struct arena *arena;
};

/* m is the struct of the shape. Arrays and texts come from the arena; false when it is full. */
NODISCARD bool filler_fill(struct filler *f, const struct proto_shape *shape, void *m,
                           int16_t version);
uint64_t filler_next(struct filler *f);

#endif
