/* struct stage: where a flow of one core (a flush, the cleaner) is. stage_move is the only way to
 * advance; it counts how many flows are in each stage. Requests, which are worked on by several
 * cores and timed, have a trip (trip.h).
 * struct state: what a long-lived object is; its table says which successors are allowed. */
#ifndef CORE_STAGE_H
#define CORE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#define STAGES_MAX 16

/* One per kind of flow and core. */
struct stage_table {
    const char *name;         /* "produce" */
    const char *const *names; /* stage names, stages_count of them */
    uint32_t stages_count;
    uint64_t current[STAGES_MAX]; /* gauge: flows in this stage now */
    uint64_t entered[STAGES_MAX]; /* counter */
};

struct stage {
    struct stage_table *table;
    uint8_t now;
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
