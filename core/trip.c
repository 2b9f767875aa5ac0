/* The stages of a request, over cores. See trip.h for what they are and how they are timed.
 *
 *   whole  ──ROUTE──┐AWAY ........................┌ROUTE──     A's stages were not the last word
 *   leg A           └RING─ADMIT─RING┘             │
 *   leg B            └RING─ADMIT──WAIT──WRITE──RING┘           B's are the request's
 *
 * Invariants:
 *  1. The sum of the home stages on a board is the number of requests begun there and not ended; of
 *     the legs' stages, over all boards, it is the number of legs away.
 *  2. since_ns never goes back, although the clocks of two cores' turns may: begun_ns and what was
 *     spent in all stages are since_ns. Who counts requests asserts it (stat.c).
 *  3. A leg's trip is touched by who has its letter; its request's only at home.
 *
 * Failure modes: no memory for a leg's trip: it is NULL, nobody is told of it, and its request's
 * time is AWAY. A trail without room adds up in its last step. */
#include "core/trip.h"

#include <stddef.h>

#include "core/assert.h"

const char *const trip_stage_names[TRIP_STAGES] = {"recv",   "queued", "decode",  "route", "away",
                                                   "encode", "send",   "ring",    "admit", "room",
                                                   "wait",   "write",  "publish", "read",  "held"};

static void trail_add(struct trip_trail *trail, uint8_t stage, struct core_id core, uint64_t ns)
{
    if (trail->count == TRIP_STEPS_MAX) {
        trail->lost++;
        trail->steps[TRIP_STEPS_MAX - 1].ns += ns;
        return;
    }
    trail->steps[trail->count++] = (struct trip_step){.ns = ns, .core = core.index, .stage = stage};
}

static inline void stage_enter(struct trip *t, struct trip_board *b, uint8_t stage)
{
    uint16_t bit = (uint16_t)(1u << stage);
    if ((t->passed & bit) == 0)
        t->spent_ns[stage] = 0;
    t->passed |= bit;
    t->now = stage;
    b->current[stage]++;
}

/* Of one that has no trail. */
static inline void stage_leave(struct trip *t, struct trip_board *b, uint64_t at_ns)
{
    uint8_t now = t->now;
    assert(now < TRIP_STAGES);
    b->current[now]--;
    if (at_ns <= t->since_ns) /* invariant 2 */
        return;
    t->spent_ns[now] += at_ns - t->since_ns;
    t->since_ns = at_ns;
}

/* Kept out of the way of the others, of whom there are many more. */
__attribute__((noinline)) static void stage_leave_exactly(struct trip *t, struct trip_board *b,
                                                          uint64_t at_ns)
{
    uint64_t since = t->since_ns;
    uint8_t stage = t->now;
    stage_leave(t, b, at_ns);
    if (t->trail != NULL)
        trail_add(t->trail, stage, b->core, t->since_ns - since);
}

static inline void stage_leave_now(struct trip *t, struct trip_board *b)
{
    if (t->exact)
        stage_leave_exactly(t, b, b->clock(b->context));
    else
        stage_leave(t, b, *b->now_ns);
}

void trip_begin(struct trip *t, struct trip_board *b, uint64_t since_ns, struct trip_trail *trail)
{
    assert(since_ns <= *b->now_ns);
    t->since_ns = t->begun_ns = since_ns;
    t->trail = trail;
    t->whole = NULL;
    t->passed = 0;
    t->exact = trail != NULL;
    t->homewards = false;
    t->legs = 0;
    if (trail != NULL)
        trail->count = trail->lost = 0;
    if (since_ns < *b->now_ns) {
        stage_enter(t, b, TRIP_RECV);
        stage_leave_exactly(t, b, *b->now_ns);
    }
    stage_enter(t, b, TRIP_QUEUED);
}

static bool may_move(const struct trip *t)
{
    return t != NULL && t->now != TRIP_OVER;
}

void trip_move_at(struct trip *t, struct trip_board *b, enum trip_stage stage, uint64_t at_ns)
{
    assert(stage < TRIP_STAGES);
    if (!may_move(t))
        return;
    stage_leave_exactly(t, b, at_ns);
    stage_enter(t, b, (uint8_t)stage);
}

__attribute__((noinline)) static void move_exactly(struct trip *t, struct trip_board *b,
                                                   enum trip_stage stage)
{
    trip_move_at(t, b, stage, b->clock(b->context));
}

void trip_move(struct trip *t, struct trip_board *b, enum trip_stage stage)
{
    assert(stage < TRIP_STAGES);
    if (!may_move(t))
        return;
    if (t->exact) {
        move_exactly(t, b, stage);
        return;
    }
    stage_leave(t, b, *b->now_ns);
    stage_enter(t, b, (uint8_t)stage);
}

void trip_end(struct trip *t, struct trip_board *b)
{
    assert(t->whole == NULL);
    stage_leave_exactly(t, b, *b->now_ns);
    t->now = TRIP_OVER;
}

uint64_t trip_total(const struct trip *t)
{
    return t->since_ns - t->begun_ns - trip_spent(t, TRIP_RECV);
}

/* ---- legs ------------------------------------------------------------------------------------ */

void trip_leg(struct trip *leg, struct trip *whole, struct trip_trail *trail)
{
    assert(whole->whole == NULL);
    leg->whole = whole;
    leg->trail = trail;
    leg->exact = whole->exact;
    leg->now = TRIP_OVER;
}

static void leg_begin(struct trip *leg, struct trip_board *b)
{
    struct trip *whole = leg->whole;
    if (whole->now > TRIP_AWAY) /* answered, or over */
        return;
    if (whole->now != TRIP_AWAY)
        trip_move(whole, b, TRIP_AWAY);
    uint64_t at = MAX(*b->now_ns, whole->since_ns);
    whole->legs++;
    leg->begun_ns = leg->since_ns = at;
    leg->passed = 0;
    leg->homewards = false;
    if (leg->trail != NULL)
        leg->trail->count = leg->trail->lost = 0;
    stage_enter(leg, b, TRIP_RING);
}

void trip_depart(struct trip *leg, struct trip_board *b, bool from_home)
{
    assert(leg->now != TRIP_RING);
    if (leg->now != TRIP_OVER) {
        leg->homewards = true;
        trip_move(leg, b, TRIP_RING);
    } else if (from_home) {
        leg_begin(leg, b);
    }
}

static void trail_adopt(struct trip_trail *trail, const struct trip_trail *leg, struct core_id home,
                        uint64_t before)
{
    if (before > 0)
        trail_add(trail, TRIP_AWAY, home, before);
    for (uint32_t i = 0; leg != NULL && i < leg->count; i++)
        trail_add(trail, leg->steps[i].stage, (struct core_id){leg->steps[i].core},
                  leg->steps[i].ns);
}

/* What the last leg went through is what its request was waiting for. */
static void whole_adopt(struct trip *whole, const struct trip *leg, struct trip_board *b)
{
    uint64_t before = leg->begun_ns - whole->since_ns; /* other legs were out, this one was not */
    assert(leg->begun_ns >= whole->since_ns);
    whole->spent_ns[TRIP_AWAY] += before;
    whole->since_ns = leg->since_ns;
    for (uint32_t bits = leg->passed; bits != 0; bits &= bits - 1) {
        enum trip_stage stage = (enum trip_stage)__builtin_ctz(bits);
        whole->spent_ns[stage] = trip_spent(whole, stage) + leg->spent_ns[stage];
    }
    whole->passed |= leg->passed;
    if (whole->trail != NULL)
        trail_adopt(whole->trail, leg->trail, b->core, before);
    b->current[TRIP_AWAY]--;
    stage_enter(whole, b, TRIP_ROUTE);
}

void trip_arrive(struct trip *leg, struct trip_board *b)
{
    if (leg->now == TRIP_OVER)
        return;
    assert(leg->now == TRIP_RING);
    if (!leg->homewards) {
        trip_move(leg, b, TRIP_ADMIT);
        return;
    }
    struct trip *whole = leg->whole;
    stage_leave_now(leg, b);
    leg->now = TRIP_OVER;
    assert(whole->legs > 0);
    whole->legs--;
    if (whole->legs == 0 && whole->now == TRIP_AWAY)
        whole_adopt(whole, leg, b);
}
