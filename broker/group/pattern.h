/* Regular expressions over topic names: the syntax of RE2, as Kafka's consumers send them. What is
 * matched is the whole name. Time is linear in the name, times the size of the pattern, which is
 * bounded: no pattern of a client can keep a core busy. Pure. */
#ifndef BROKER_GROUP_PATTERN_H
#define BROKER_GROUP_PATTERN_H

#include "core/arena.h"
#include "proto/wire.h"

struct pattern_step;

struct pattern {
    struct pattern_step *steps;
    uint32_t steps_count;
    uint32_t *list[2], *stack; /* of the matcher */
    uint32_t *seen;            /* by step: round in which it was added last */
    uint32_t round;
};

/* false: *why says what is wrong with the text ("no memory" among it). All memory is the arena's.
 */
NODISCARD bool pattern_compile(struct pattern *p, struct arena *arena, struct wire_string text,
                               const char **why);
bool pattern_matches(struct pattern *p, struct wire_string name);

#endif
