/* A trip's stages add up to the whole, on whichever core, and everybody is somewhere. */
#include "core/trip.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "core/mail.h"

enum { HOME, OWNER, CORES };

static uint64_t now_ns[CORES]; /* turn's clocks */
static uint64_t real_ns;       /* and the real one */
static uint32_t looks;         /* at the real one */
static struct trip_board boards[CORES];
static struct trip whole;

static uint64_t look(void *context)
{
    (void)context;
    looks++;
    return real_ns;
}

static void begin(void)
{
    real_ns = now_ns[HOME] = now_ns[OWNER] = 1000;
    looks = 0;
    for (uint16_t i = 0; i < CORES; i++)
        boards[i] = (struct trip_board){.core = {i}, .now_ns = &now_ns[i], .clock = look};
}

TestSuite(trip, .init = begin);

static int64_t everywhere(uint32_t from, uint32_t to)
{
    int64_t sum = 0;
    for (uint32_t i = from; i < to; i++)
        sum += boards[HOME].current[i] + boards[OWNER].current[i];
    return sum;
}

static uint64_t spent_in_all(const struct trip *t)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < TRIP_STAGES; i++)
        sum += trip_spent(t, (enum trip_stage)i);
    return sum;
}

/* A letter there and back: so long on the way, at the owner in `stage`, and on the way again. */
static void travel(struct trip *leg, enum trip_stage stage, uint64_t ns)
{
    trip_depart(leg, &boards[HOME], true);
    cr_assert_eq(everywhere(TRIP_RING, TRIP_RING + 1), 1);
    real_ns = now_ns[OWNER] = now_ns[HOME] + ns;
    trip_arrive(leg, &boards[OWNER]);
    trip_move(leg, &boards[OWNER], stage);
    real_ns = now_ns[OWNER] += 10 * ns;
    trip_depart(leg, &boards[OWNER], false);
    real_ns = now_ns[HOME] = now_ns[OWNER] + 2 * ns;
    trip_arrive(leg, &boards[HOME]);
}

Test(trip, stages_of_a_request_at_home_add_up_and_leave_out_how_long_it_took_to_come)
{
    trip_begin(&whole, &boards[HOME], 400, NULL);
    cr_assert_eq(trip_spent(&whole, TRIP_RECV), 600);
    cr_assert_eq(everywhere(0, TRIP_STAGES), 1);
    now_ns[HOME] += 5;
    trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    trip_note(&whole, &boards[HOME], TRIP_ENCODE);
    cr_assert_eq(whole.now, TRIP_ROUTE, "it is not timed so exactly");
    trip_move(&whole, &boards[HOME], TRIP_SEND);
    cr_assert_eq(boards[HOME].current[TRIP_SEND], 1);
    now_ns[HOME] += 70;
    trip_end(&whole, &boards[HOME]);
    cr_assert_eq(everywhere(0, TRIP_STAGES), 0);
    cr_assert_eq(trip_spent(&whole, TRIP_QUEUED), 5);
    cr_assert_eq(trip_spent(&whole, TRIP_SEND), 70);
    cr_assert_eq(trip_total(&whole), 75);
    cr_assert_eq(looks, 0, "the turn's clock is enough");
}

Test(trip, one_that_is_timed_exactly_looks_at_the_clock)
{
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    whole.exact = true;
    real_ns += 30;
    trip_move(&whole, &boards[HOME], TRIP_DECODE);
    real_ns += 4;
    trip_note(&whole, &boards[HOME], TRIP_ROUTE);
    real_ns += 5;
    trip_move(&whole, &boards[HOME], TRIP_SEND);
    trip_end(&whole, &boards[HOME]); /* the turn began before all that */
    cr_assert_eq(trip_spent(&whole, TRIP_QUEUED), 30);
    cr_assert_eq(trip_spent(&whole, TRIP_DECODE), 4);
    cr_assert_eq(trip_spent(&whole, TRIP_ROUTE), 5);
    cr_assert_eq(trip_spent(&whole, TRIP_SEND), 0);
    cr_assert_eq(trip_total(&whole), 39);
}

Test(trip, the_leg_that_comes_home_last_tells_what_was_waited_for)
{
    struct trip early, late;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    trip_leg(&early, &whole, NULL);
    trip_leg(&late, &whole, NULL);
    trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    trip_depart(&early, &boards[HOME], true);
    cr_assert_eq(whole.now, TRIP_AWAY);
    now_ns[HOME] += 3; /* the other one leaves in a later turn */
    trip_depart(&late, &boards[HOME], true);
    cr_assert_eq(whole.legs, 2);
    cr_assert_eq(everywhere(0, TRIP_HOME_STAGES), 1);
    cr_assert_eq(everywhere(TRIP_HOME_STAGES, TRIP_STAGES), 2);
    now_ns[OWNER] = now_ns[HOME] + 100;
    trip_arrive(&early, &boards[OWNER]);
    trip_arrive(&late, &boards[OWNER]);
    trip_move(&late, &boards[OWNER], TRIP_WAIT);
    trip_depart(&early, &boards[OWNER], false);
    now_ns[OWNER] += 50;
    trip_move(&late, &boards[OWNER], TRIP_WRITE);
    cr_assert_eq(everywhere(TRIP_WRITE, TRIP_WRITE + 1), 1);
    now_ns[HOME] += 160;
    trip_arrive(&early, &boards[HOME]);
    cr_assert_eq(whole.now, TRIP_AWAY);
    now_ns[OWNER] += 1000;
    trip_depart(&late, &boards[OWNER], false);
    now_ns[HOME] += 2000;
    trip_arrive(&late, &boards[HOME]);
    cr_assert_eq(whole.now, TRIP_ROUTE);
    trip_move(&whole, &boards[HOME], TRIP_SEND);
    trip_end(&whole, &boards[HOME]);
    cr_assert_eq(trip_spent(&whole, TRIP_AWAY), 3);
    cr_assert_eq(trip_spent(&whole, TRIP_WAIT), 50);
    cr_assert_eq(trip_spent(&whole, TRIP_WRITE), 1000);
    cr_assert_eq(trip_spent(&whole, TRIP_RING), 100 + 1010);
    cr_assert_eq(spent_in_all(&whole), now_ns[HOME] - 1000);
    cr_assert_eq(everywhere(0, TRIP_STAGES), 0);
}

Test(trip, a_core_whose_turn_began_earlier_takes_no_time_back)
{
    struct trip leg;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    trip_leg(&leg, &whole, NULL);
    now_ns[HOME] = 5000;
    trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    trip_depart(&leg, &boards[HOME], true);
    now_ns[OWNER] = 4000; /* sampled before the letter was written */
    trip_arrive(&leg, &boards[OWNER]);
    trip_depart(&leg, &boards[OWNER], false);
    trip_arrive(&leg, &boards[HOME]);
    trip_end(&whole, &boards[HOME]);
    cr_assert_eq(spent_in_all(&whole), 4000);
    cr_assert_eq(trip_spent(&whole, TRIP_RING), 0);
}

Test(trip, a_leg_may_go_again_and_one_after_the_answer_is_none)
{
    struct trip leg;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    trip_leg(&leg, &whole, NULL);
    trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    travel(&leg, TRIP_READ, 7);
    travel(&leg, TRIP_HELD, 100);
    cr_assert_eq(trip_spent(&whole, TRIP_READ), 70);
    cr_assert_eq(trip_spent(&whole, TRIP_HELD), 1000);
    cr_assert_eq(trip_spent(&whole, TRIP_RING), 3 * 7 + 3 * 100);
    trip_move(&whole, &boards[HOME], TRIP_SEND);
    trip_depart(&leg, &boards[HOME], true); /* gives something back */
    trip_arrive(&leg, &boards[OWNER]);
    trip_depart(&leg, &boards[OWNER], false);
    trip_arrive(&leg, &boards[HOME]);
    cr_assert_eq(everywhere(TRIP_HOME_STAGES, TRIP_STAGES), 0);
    cr_assert_eq(whole.now, TRIP_SEND);
    trip_end(&whole, &boards[HOME]);
    cr_assert_eq(spent_in_all(&whole), 13 * 107);
}

Test(trip, a_trail_has_each_step_on_its_core)
{
    static const struct trip_step told[] = {{0, HOME, TRIP_QUEUED},  {0, HOME, TRIP_ROUTE},
                                            {7, OWNER, TRIP_RING},   {0, OWNER, TRIP_ADMIT},
                                            {70, OWNER, TRIP_WRITE}, {14, HOME, TRIP_RING},
                                            {0, HOME, TRIP_ROUTE}};
    struct trip_trail trail, other;
    struct trip leg;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], &trail);
    cr_assert(whole.exact);
    cr_assert_eq(whole.trail, &trail);
    trip_leg(&leg, &whole, &other);
    trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    travel(&leg, TRIP_WRITE, 7);
    trip_move(&whole, &boards[HOME], TRIP_SEND);
    cr_assert_eq(trail.count, sizeof(told) / sizeof(told[0]));
    for (uint32_t i = 0; i < trail.count; i++) {
        cr_expect_eq(trail.steps[i].stage, told[i].stage, "step %u", i);
        cr_expect_eq(trail.steps[i].core, told[i].core, "step %u", i);
        cr_expect_eq(trail.steps[i].ns, told[i].ns, "step %u", i);
    }
    trip_end(&whole, &boards[HOME]);
}

Test(trip, a_trail_that_is_full_loses_no_time)
{
    struct trip_trail trail;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], &trail);
    for (uint32_t i = 0; i < 3 * TRIP_STEPS_MAX; i++) {
        real_ns += 2;
        trip_move(&whole, &boards[HOME], TRIP_ROUTE);
    }
    now_ns[HOME] = real_ns;
    trip_end(&whole, &boards[HOME]);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < trail.count; i++)
        sum += trail.steps[i].ns;
    cr_assert_eq(sum, spent_in_all(&whole));
    cr_assert_eq(sum, 6 * TRIP_STEPS_MAX);
    cr_assert_eq(trail.lost, 2 * TRIP_STEPS_MAX + 1);
}

Test(trip, nobody_and_who_is_over_may_be_moved)
{
    struct trip leg;
    trip_leg(&leg, &whole, NULL);
    trip_move(NULL, &boards[HOME], TRIP_WAIT);
    trip_note(NULL, &boards[HOME], TRIP_PUBLISH);
    trip_move(&leg, &boards[HOME], TRIP_WAIT);
    cr_assert_eq(leg.now, TRIP_OVER);
    cr_assert_eq(everywhere(0, TRIP_STAGES), 0);
}

Test(trip, ending_twice_is_a_bug, .signal = SIGABRT)
{
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    trip_end(&whole, &boards[HOME]);
    trip_end(&whole, &boards[HOME]);
}

Test(trip, a_leg_in_its_ring_cannot_be_sent, .signal = SIGABRT)
{
    struct trip leg;
    trip_begin(&whole, &boards[HOME], now_ns[HOME], NULL);
    trip_leg(&leg, &whole, NULL);
    trip_depart(&leg, &boards[HOME], true);
    trip_depart(&leg, &boards[HOME], true);
}
