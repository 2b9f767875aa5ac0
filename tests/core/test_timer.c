/* The timer wheel against a plain list of timers, and its edges one by one. */
#include "core/timer.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "core/core.h"

#define TIMERS 300u
#define BUDGET 1000000u

struct probe {
    struct timer timer;
    struct wheel *wheel;
    uint32_t fired;
    uint64_t fired_at_ns;
    bool again; /* arms itself for the past each time */
};

static struct wheel wheel;
static struct probe probes[TIMERS];
static uint64_t now_ns;

static void note(struct timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    cr_assert_not(timer_armed(t));
    p->fired++;
    p->fired_at_ns = now_ns;
    if (p->again)
        timer_arm(&wheel, t, 0);
}

static void begin_at(uint64_t ns)
{
    now_ns = ns;
    wheel_init(&wheel, ns);
    for (uint32_t i = 0; i < TIMERS; i++) {
        probes[i] = (struct probe){.wheel = &wheel};
        timer_init(&probes[i].timer, note);
    }
}

static uint32_t run_at(uint64_t ns)
{
    now_ns = ns;
    return wheel_run(&wheel, ns, BUDGET);
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 20;
}

Test(timer, never_fires_early_and_at_most_one_tick_late)
{
    static const uint64_t delays[] = {1,
                                      999999,
                                      1000000,
                                      1000001,
                                      255 * NS_PER_MS,
                                      256 * NS_PER_MS,
                                      257 * NS_PER_MS,
                                      65535 * NS_PER_MS,
                                      65536 * NS_PER_MS + 5,
                                      70 * NS_PER_S};
    for (uint32_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        uint64_t start = 123456789ull + i * 77777777, due = start + delays[i];
        begin_at(start);
        timer_arm(&wheel, &probes[0].timer, due);
        for (uint64_t t = start; probes[0].fired == 0; t += 333333) {
            cr_assert_leq(t, due + 2 * NS_PER_MS);
            (void)run_at(t);
        }
        cr_assert_geq(probes[0].fired_at_ns, due);
        cr_assert_leq(probes[0].fired_at_ns, due + NS_PER_MS + 333333);
        cr_assert_eq(wheel.armed_count, 0);
    }
}

Test(timer, an_idle_wheel_has_nothing_next)
{
    begin_at(5 * NS_PER_S);
    cr_assert_eq(wheel_next_ns(&wheel), UINT64_MAX);
    timer_arm(&wheel, &probes[0].timer, 6 * NS_PER_S);
    cr_assert_leq(wheel_next_ns(&wheel), 6 * NS_PER_S);
    timer_cancel(&wheel, &probes[0].timer);
    cr_assert_eq(wheel_next_ns(&wheel), UINT64_MAX);
    cr_assert_eq(run_at(10 * NS_PER_S), 0);
}

Test(timer, a_due_time_in_the_past_fires_on_the_next_run)
{
    begin_at(5 * NS_PER_S);
    timer_arm(&wheel, &probes[0].timer, 1);
    cr_assert_leq(wheel_next_ns(&wheel), 5 * NS_PER_S);
    cr_assert_eq(run_at(5 * NS_PER_S), 1, "though the clock has not moved");
}

Test(timer, one_that_arms_itself_for_now_fires_once_per_run)
{
    begin_at(NS_PER_S);
    probes[0].again = true;
    timer_arm(&wheel, &probes[0].timer, 0);
    for (uint32_t i = 1; i < 5; i++) {
        cr_assert_eq(run_at(NS_PER_S), 1);
        cr_assert_eq(probes[0].fired, i);
    }
}

Test(timer, re_arming_moves_it)
{
    begin_at(0);
    timer_arm(&wheel, &probes[0].timer, 10 * NS_PER_MS);
    timer_arm(&wheel, &probes[0].timer, 400 * NS_PER_MS);
    cr_assert_eq(wheel.armed_count, 1);
    cr_assert_eq(run_at(399 * NS_PER_MS), 0);
    cr_assert_eq(run_at(400 * NS_PER_MS), 1);
}

Test(timer, cancelling_twice_or_never_armed_does_nothing)
{
    begin_at(0);
    timer_cancel(&wheel, &probes[0].timer);
    timer_arm(&wheel, &probes[0].timer, 10 * NS_PER_MS);
    timer_cancel(&wheel, &probes[0].timer);
    timer_cancel(&wheel, &probes[0].timer);
    cr_assert_eq(wheel.armed_count, 0);
    cr_assert_eq(run_at(NS_PER_S), 0);
}

Test(timer, what_a_budget_leaves_fires_first_in_the_next_run)
{
    begin_at(0);
    for (uint32_t i = 0; i < 10; i++)
        timer_arm(&wheel, &probes[i].timer, (i + 1) * NS_PER_MS);
    now_ns = NS_PER_S;
    cr_assert_eq(wheel_run(&wheel, now_ns, 4), 4);
    cr_assert_leq(wheel_next_ns(&wheel), now_ns);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(probes[i].fired, i < 4, "the earliest four");
    timer_cancel(&wheel, &probes[9].timer);
    cr_assert_eq(wheel_run(&wheel, now_ns, 4), 4);
    cr_assert_eq(wheel_run(&wheel, now_ns, 4), 1);
    cr_assert_eq(wheel.armed_count, 0);
}

Test(timer, a_clock_that_goes_backwards_fires_nothing_early)
{
    begin_at(10 * NS_PER_S);
    timer_arm(&wheel, &probes[0].timer, 11 * NS_PER_S);
    cr_assert_eq(run_at(3 * NS_PER_S), 0);
    cr_assert_eq(run_at(10 * NS_PER_S + 999 * NS_PER_MS), 0);
    cr_assert_eq(run_at(11 * NS_PER_S), 1);
}

Test(timer, reaches_beyond_its_last_level)
{
    uint64_t year_ns = 365ull * 86400 * NS_PER_S;
    begin_at(NS_PER_S);
    timer_arm(&wheel, &probes[0].timer, NS_PER_S + year_ns);
    timer_arm(&wheel, &probes[1].timer, UINT64_MAX);
    uint32_t wakes = 0;
    while (probes[0].fired == 0) {
        uint64_t next = wheel_next_ns(&wheel);
        cr_assert_gt(next, now_ns, "each wake brings it nearer");
        cr_assert_lt(wakes++, 40);
        (void)run_at(next);
    }
    cr_assert_eq(now_ns, NS_PER_S + year_ns);
    cr_assert_eq(probes[1].fired, 0);
    cr_assert_eq(wheel.armed_count, 1);
}

Test(timer, one_jump_over_everything_fires_everything_in_order)
{
    begin_at(0);
    for (uint32_t i = 0; i < 40; i++)
        timer_arm(&wheel, &probes[i].timer, 1ull << i);
    cr_assert_eq(run_at(1ull << 40), 40);
    cr_assert_eq(wheel.armed_count, 0);
}

/* Arms, moves, cancels at random and compares every run with what the due times say. */
Test(timer, agrees_with_a_list_of_due_times)
{
    uint64_t state = 42;
    uint64_t due[TIMERS]; /* UINT64_MAX: not armed */
    begin_at(987654321);
    for (uint32_t i = 0; i < TIMERS; i++)
        due[i] = UINT64_MAX;
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t i = (uint32_t)(random_next(&state) % TIMERS);
        uint64_t span = 1ull << random_next(&state) % 48;
        if (random_next(&state) % 4 == 0) {
            timer_cancel(&wheel, &probes[i].timer);
            due[i] = UINT64_MAX;
        } else {
            due[i] = now_ns + random_next(&state) % span;
            timer_arm(&wheel, &probes[i].timer, due[i]);
        }
        if (round % 3 != 0)
            continue;
        uint64_t first = UINT64_MAX;
        for (uint32_t k = 0; k < TIMERS; k++)
            first = MIN(first, due[k]);
        if (first == UINT64_MAX)
            cr_assert_eq(wheel_next_ns(&wheel), UINT64_MAX);
        else
            cr_assert_leq(wheel_next_ns(&wheel), MAX(first, now_ns) + NS_PER_MS);
        uint64_t step = random_next(&state) % (1ull << random_next(&state) % 40);
        uint64_t tick = (now_ns + step) / NS_PER_MS;
        (void)run_at(now_ns + step);
        for (uint32_t k = 0; k < TIMERS; k++) {
            bool must = due[k] != UINT64_MAX && due[k] <= tick * NS_PER_MS;
            bool may = due[k] <= now_ns;
            cr_assert(!must || probes[k].fired == 1);
            cr_assert(may || probes[k].fired == 0, "round %u: %u fired early", round, k);
            if (probes[k].fired > 0)
                due[k] = UINT64_MAX;
            probes[k].fired = 0;
            cr_assert_eq(timer_armed(&probes[k].timer), due[k] != UINT64_MAX);
        }
    }
}
