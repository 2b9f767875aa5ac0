/* Where a flow is, and what a long-lived object is.
 *
 *   stage_begin ─▶ current[first]+1 ─ stage_move ─▶ current[old]-1, current[new]+1, entered[new]+1
 *                                   ─ stage_end ──▶ current[old]-1
 *
 * Invariants:
 *  1. The sum of current[] is the number of flows begun and not ended.
 *  2. entered[s] - current[s] flows have left stage s.
 *  3. A state changes only to a successor its table allows; everything else is our bug.
 *
 * Failure modes: none. A flow that ends twice, or moves after its end, is caught by its table
 * pointer, which stage_end clears. */
#include "core/stage.h"

#include <stddef.h>

#include "core/assert.h"

static void stage_enter(struct stage *s, uint8_t next)
{
    struct stage_table *t = s->table;
    assert(next < t->stages_count);
    s->now = next;
    t->current[next]++;
    t->entered[next]++;
}

static void stage_leave(struct stage *s)
{
    struct stage_table *t = s->table;
    assert(s->now < t->stages_count);
    assert(t->current[s->now] > 0);
    t->current[s->now]--;
}

void stage_begin(struct stage *s, struct stage_table *t, uint8_t first)
{
    assert(t != NULL);
    assert(t->stages_count > 0 && t->stages_count <= STAGES_MAX);
    s->table = t;
    stage_enter(s, first);
}

void stage_move(struct stage *s, uint8_t next)
{
    assert(s->table != NULL);
    assert(next < s->table->stages_count);
    stage_leave(s);
    stage_enter(s, next);
}

void stage_end(struct stage *s)
{
    assert(s->table != NULL);
    stage_leave(s);
    s->table = NULL;
}

bool state_allows(const struct state *s, const struct state_table *t, uint8_t next)
{
    assert(t->states_count > 0 && t->states_count <= STATES_MAX);
    assert(s->now < t->states_count);
    return next < t->states_count && (t->allowed[s->now] >> next & 1) != 0;
}

void state_move(struct state *s, const struct state_table *t, uint8_t next)
{
    bool allowed = state_allows(s, t, next);
    assert(allowed);
    s->now = next;
}
