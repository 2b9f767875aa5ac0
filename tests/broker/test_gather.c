/* When a core lets work gather: for many peers that each say something now and then, and for nobody
 * else. */
#include "broker/gather.h"

#include <criterion/criterion.h>

#define SLOW_NS    (800 * NS_PER_MS)
#define LONGEST_NS (500 * NS_PER_US)

struct heard {
    uint64_t now_ns;
    uint64_t wait_ns, longest_ns; /* that the last turn might wait, and that any might */
};

/* So many a second, each in a turn of its own, for 100 ms; one of `every` says something this long
 * after the last answer, the others long after. */
static void hear(struct gather *g, struct heard *h, uint32_t rate, uint32_t every,
                 uint64_t quiet_ns)
{
    h->longest_ns = 0;
    for (uint32_t i = 0; i < rate / 10; i++) {
        h->now_ns += NS_PER_S / rate;
        gather_hear(g, i % every == 0 ? quiet_ns : SLOW_NS);
        h->wait_ns = gather_turn(g, h->now_ns);
        h->longest_ns = MAX(h->longest_ns, h->wait_ns);
    }
}

Test(gather, many_peers_that_speak_now_and_then_are_waited_for)
{
    struct gather g = {0};
    struct heard h = {.now_ns = NS_PER_S};
    hear(&g, &h, 10000, 1, SLOW_NS);
    cr_assert_eq(h.wait_ns, LONGEST_NS);
    cr_assert_eq(h.longest_ns, LONGEST_NS);
}

Test(gather, the_more_they_say_the_shorter_is_the_wait)
{
    struct gather g = {0};
    struct heard h = {.now_ns = NS_PER_S};
    hear(&g, &h, 60000, 1, SLOW_NS);
    cr_assert_gt(h.wait_ns, 125 * NS_PER_US);
    cr_assert_lt(h.wait_ns, 145 * NS_PER_US);
}

Test(gather, nobody_waits_at_low_rates)
{
    static const uint32_t rates[] = {10, 500, 1000, 2000, 5000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        struct gather g = {0};
        struct heard h = {.now_ns = NS_PER_S};
        hear(&g, &h, rates[i], 1, SLOW_NS);
        cr_assert_eq(h.longest_ns, 0, "%u", rates[i]);
    }
}

Test(gather, nobody_waits_for_peers_that_do_one_thing_after_the_other)
{
    static const uint64_t quiet_ns[] = {0, 50 * NS_PER_US, NS_PER_MS, 3 * NS_PER_MS};
    for (size_t i = 0; i < sizeof(quiet_ns) / sizeof(quiet_ns[0]); i++) {
        struct gather g = {0};
        struct heard h = {.now_ns = NS_PER_S};
        hear(&g, &h, 30000, 1, quiet_ns[i]);
        cr_assert_eq(h.longest_ns, 0, "%zu", i);
    }
}

Test(gather, few_peers_in_a_hurry_beside_many_others_do_not_end_the_waiting_some_do)
{
    struct gather g = {0};
    struct heard h = {.now_ns = NS_PER_S};
    hear(&g, &h, 10000, 10, 0);
    cr_assert_eq(h.wait_ns, LONGEST_NS);
    hear(&g, &h, 10000, 5, 0);
    cr_assert_eq(h.wait_ns, 0);
}

Test(gather, the_wait_ends_when_they_fall_silent)
{
    struct gather g = {0};
    struct heard h = {.now_ns = NS_PER_S};
    hear(&g, &h, 10000, 1, SLOW_NS);
    cr_assert_gt(h.wait_ns, 0);
    cr_assert_eq(gather_turn(&g, h.now_ns + 100 * NS_PER_MS), 0);
    cr_assert_eq(gather_turn(&g, h.now_ns + 300 * NS_PER_MS), 0);
}
