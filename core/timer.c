/* The timer wheel of one core.
 *
 *   level 0: 256 slots of 1 ms     ┐ a timer sits in the lowest level whose span reaches its tick;
 *   level 1: 256 slots of 256 ms   │ when the tick enters a slot of a higher level, the timers in
 * it level 2: 256 slots of 65.5 s   │ move down ("cascade"), each at most three times in its life
 *   level 3: 256 slots of 4.66 h   ┘
 *   due:     collected timers, waiting for wheel_run's budget
 *
 * A timer's tick is its due time rounded up to a whole millisecond, and it is collected when the
 * clock rounded down has reached that: never early, less than one tick late.
 *
 * The clock may jump far (an idle core, a simulated day): wheel_run does not step through the ticks
 * between but goes from one filled slot to the next. `filled` has a bit for each slot that may hold
 * timers; cancelling leaves the bit, and whoever meets an empty slot behind it looks past it.
 *
 * Invariants:
 *  1. armed_count is the number of linked timers, those in `due` included.
 *  2. A timer in level l has 256^l <= its tick - w->tick at the moment it was put there, and is
 *     moved or collected no later than its tick.
 *  3. Timers armed inside `fire` run in a later wheel_run, even if they are due at once, so a timer
 *     that re-arms itself for now cannot hold the core.
 *
 * Failure modes: a due time further than 49 days waits in the last slot of level 3 and is put there
 * again until it comes within reach. A clock that goes backwards moves nothing. */
#include "core/timer.h"

#include "core/assert.h"
#include "core/core.h"

#define LEVELS 4u
#define SLOTS  256u

#define TICK_NONE UINT64_MAX

void wheel_init(struct wheel *w, uint64_t now_ns)
{
    *w = (struct wheel){.tick = now_ns / NS_PER_MS};
    list_init(&w->due);
    for (uint32_t level = 0; level < LEVELS; level++)
        for (uint32_t slot = 0; slot < SLOTS; slot++)
            list_init(&w->slots[level][slot]);
}

void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
    assert(fire != NULL);
    *t = (struct timer){.fire = fire};
    list_init(&t->link);
}

static uint64_t timer_tick(const struct timer *t)
{
    return t->due_ns / NS_PER_MS + (t->due_ns % NS_PER_MS != 0);
}

/* Links t where its distance from the wheel's tick says. */
static void wheel_put(struct wheel *w, struct timer *t)
{
    uint64_t tick = timer_tick(t);
    if (tick <= w->tick) {
        list_push_back(&w->due, &t->link);
        return;
    }
    uint64_t distance = tick - w->tick;
    if (distance > UINT32_MAX) {
        distance = UINT32_MAX;
        tick = w->tick + distance;
    }
    uint32_t level = (63u - (uint32_t)__builtin_clzll(distance)) / 8;
    uint32_t slot = (uint32_t)(tick >> (8 * level)) % SLOTS;
    assert(level < LEVELS);
    list_push_back(&w->slots[level][slot], &t->link);
    w->filled[level][slot / 64] |= 1ull << (slot % 64);
}

void timer_arm(struct wheel *w, struct timer *t, uint64_t due_ns)
{
    assert(t->fire != NULL);
    timer_cancel(w, t);
    t->due_ns = due_ns;
    wheel_put(w, t);
    w->armed_count++;
    assert(timer_armed(t));
}

void timer_cancel(struct wheel *w, struct timer *t)
{
    if (!timer_armed(t))
        return;
    assert(w->armed_count > 0);
    list_remove(&t->link);
    w->armed_count--;
}

/* The distance in slots, 1 .. 256, from slot `from` to the next one of the level with a timer in
 * it; 0 if there is none. */
static uint32_t level_next(const struct wheel *w, uint32_t level, uint32_t from)
{
    for (uint32_t distance = 1; distance <= SLOTS;) {
        uint32_t slot = (from + distance) % SLOTS;
        uint64_t bits = w->filled[level][slot / 64] >> (slot % 64);
        if (bits == 0) {
            distance += 64 - slot % 64;
            continue;
        }
        uint32_t skip = (uint32_t)__builtin_ctzll(bits);
        distance += skip;
        if (distance <= SLOTS && !list_empty(&w->slots[level][slot + skip]))
            return distance;
        distance++;
    }
    return 0;
}

/* The next tick at which a slot must be collected or cascaded. */
static uint64_t wheel_next_tick(const struct wheel *w)
{
    uint64_t next = TICK_NONE;
    for (uint32_t level = 0; level < LEVELS; level++) {
        uint64_t at = w->tick >> (8 * level);
        uint32_t distance = level_next(w, level, (uint32_t)at % SLOTS);
        if (distance > 0)
            next = MIN(next, (at + distance) << (8 * level));
    }
    return next;
}

/* Empties one slot: timers go to where they belong now. */
static void wheel_spill(struct wheel *w, uint32_t level)
{
    uint32_t slot = (uint32_t)(w->tick >> (8 * level)) % SLOTS;
    struct list timers;
    list_init(&timers);
    list_splice_back(&timers, &w->slots[level][slot]);
    w->filled[level][slot / 64] &= ~(1ull << (slot % 64));
    for (struct list *l; (l = list_pop_front(&timers)) != NULL;)
        wheel_put(w, container_of(l, struct timer, link));
}

/* Collects everything whose tick is at most `tick`. Each round empties a slot, and a timer passes
 * through at most LEVELS slots, so the rounds are bounded by the timers armed. */
static void wheel_advance(struct wheel *w, uint64_t tick)
{
    if (tick <= w->tick)
        return;
    for (;;) {
        uint64_t next = wheel_next_tick(w);
        if (next > tick)
            break;
        assert(next > w->tick);
        w->tick = next;
        for (uint32_t level = LEVELS; level-- > 0;)
            if ((next & ((1ull << (8 * level)) - 1)) == 0)
                wheel_spill(w, level);
    }
    w->tick = tick;
}

uint32_t wheel_run(struct wheel *w, uint64_t now_ns, uint32_t budget)
{
    assert(budget > 0);
    wheel_advance(w, now_ns / NS_PER_MS);
    struct list due; /* invariant 3: those armed from now on are not in it */
    list_init(&due);
    list_splice_back(&due, &w->due);
    uint32_t fired = 0;
    for (struct list *l; fired < budget && (l = list_pop_front(&due)) != NULL; fired++) {
        struct timer *t = container_of(l, struct timer, link);
        assert(t->due_ns <= now_ns || timer_tick(t) <= w->tick);
        assert(w->armed_count > 0);
        w->armed_count--;
        t->fire(t);
    }
    list_splice_back(&due, &w->due);
    list_splice_back(&w->due, &due);
    return fired;
}

uint64_t wheel_next_ns(const struct wheel *w)
{
    if (w->armed_count == 0)
        return UINT64_MAX;
    if (!list_empty(&w->due))
        return w->tick * NS_PER_MS;
    uint64_t next = wheel_next_tick(w);
    assert(next != TICK_NONE);
    return next * NS_PER_MS;
}
