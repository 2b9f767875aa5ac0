/* struct stage: where a flow (one request under way) is. stage_move is the only way to advance; it
 * counts how many flows are in each stage and how long they stayed, so "where are all requests
 * now" and a latency histogram per stage cost nothing extra.
 * struct state: what a long-lived object is; its table says which successors are allowed. */
#ifndef CORE_STAGE_H
#define CORE_STAGE_H

#include "core/histogram.h"

#include <stdbool.h>
#include <stdint.h>

#define STAGES_MAX 16

/* One per kind of flow and core. */
struct stage_table {
    const char *name;         /* "produce" */
    const char *const *names; /* stage names, stages_count of them */
    uint32_t stages_count;
    const uint64_t *now_ns;       /* the core's sampled clock */
    uint64_t current[STAGES_MAX]; /* gauge: flows in this stage now */
    uint64_t entered[STAGES_MAX]; /* counter */
    struct histogram *spent;      /* [stages_count] ns; may be NULL (not measured) */
};

struct stage {
    struct stage_table *table;
    uint8_t now;
    uint64_t since_ns;
};

void stage_begin(struct stage *s, struct stage_table *t, uint8_t first);
void stage_move(struct stage *s, uint8_t next);
void stage_end(struct stage *s);

#define STATES_MAX 16

struct state_table {
    const char *name;
    const char *const *names;
    uint32_t states_count;
    uint32_t allowed[STATES_MAX]; /* bit n set: state n may follow */
};

struct state {
    uint8_t now;
};

/* Asserts that the move is in the table. */
void state_move(struct state *s, const struct state_table *t, uint8_t next);
bool state_allows(const struct state *s, const struct state_table *t, uint8_t next);

#endif
