/* What was sent and what came: two accounts that find loss, repetition and disorder.
 * struct ledger: numbers 0, 1, 2 ... of one sender, in the order in which one reader meets them.
 * struct spread: a set of numbers, of which several threads may each have a part; merged, it says
 * whether exactly 0 .. count - 1 are in it. */
#ifndef BROKER_BENCH_LEDGER_H
#define BROKER_BENCH_LEDGER_H

#include "core/mem.h"

#include <stdbool.h>

#define LEDGER_AHEAD (1u << 26) /* numbers that may be seen before one that is missing */

struct ledger {
    struct mem *mem;
    uint64_t next;        /* all below were seen, or never expected */
    uint64_t highest;     /* seen; valid if count > 0 */
    uint64_t count;       /* different numbers seen */
    uint64_t repeated;    /* seen before */
    uint64_t disordered;  /* new, but after a higher one */
    uint64_t *seen;       /* ring of bits for next .. next + words * 64 - 1 */
    uint64_t seen_words;  /* power of two */
    uint64_t above_count; /* bits that are set */
};

/* first: the number expected first. */
void ledger_init(struct ledger *l, struct mem *mem, uint64_t first);
void ledger_free(struct ledger *l);
/* false: too far ahead to be true, or no memory: it is not counted. */
NODISCARD bool ledger_take(struct ledger *l, uint64_t number);
/* Of the numbers below `end`, how many were not seen. */
uint64_t ledger_missing(const struct ledger *l, uint64_t end);

struct spread {
    uint64_t count, highest, mix;
};

void spread_take(struct spread *s, uint64_t number);
void spread_merge(struct spread *into, const struct spread *from);
/* Each of 0 .. count - 1 once (by a 64-bit sum of hashes: an accident is one in 2^64). */
bool spread_dense(const struct spread *s);

#endif
