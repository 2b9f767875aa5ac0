/* The ring as one thread sees it: what is visible when. Two threads are in tests/race. */
#include "core/ring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

static struct mem mem;
static uint8_t things[64];

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, 1 << 20), 0);
}

static void end(void)
{
    mem_destroy(&mem);
}

TestSuite(ring, .init = begin, .fini = end);

Test(ring, nothing_is_visible_before_it_is_published)
{
    struct ring r;
    void *out[8];
    cr_assert_eq(ring_init(&r, &mem, 8), 0);
    cr_assert(ring_push(&r, &things[0]));
    cr_assert_eq(ring_drain(&r, out, 8), 0);
    cr_assert_not(ring_pending(&r));
    cr_assert_eq(ring_depth(&r), 0);
    cr_assert(ring_publish(&r));
    cr_assert(ring_pending(&r));
    cr_assert_eq(ring_depth(&r), 1);
    cr_assert_not(ring_publish(&r), "there is nothing more to publish");
    cr_assert_eq(ring_drain(&r, out, 8), 1);
    cr_assert_eq(out[0], &things[0]);
    cr_assert_not(ring_pending(&r));
    ring_destroy(&r, &mem);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(ring, holds_exactly_its_slots_and_takes_again_after_a_drain)
{
    struct ring r;
    void *out[8];
    cr_assert_eq(ring_init(&r, &mem, 4), 0);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert(ring_push(&r, &things[i]));
    cr_assert_not(ring_push(&r, &things[4]));
    (void)ring_publish(&r);
    cr_assert_not(ring_push(&r, &things[4]), "published is not consumed");
    cr_assert_eq(ring_drain(&r, out, 1), 1);
    cr_assert(ring_push(&r, &things[4]));
    cr_assert_not(ring_push(&r, &things[5]));
    ring_destroy(&r, &mem);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(ring, keeps_the_order_when_its_indices_wrap)
{
    struct ring r;
    void *out[8];
    uint32_t sent = 0, received = 0;
    cr_assert_eq(ring_init(&r, &mem, 8), 0);
    /* As if it had carried almost 2^32 letters. */
    r.tail_staged = r.head_cached = r.tail = r.head = r.tail_cached = UINT32_MAX - 10;
    while (received < 1000) {
        for (uint32_t i = 0; i < 1 + sent % 5 && ring_push(&r, &things[sent % 64]); i++)
            sent++;
        (void)ring_publish(&r);
        uint32_t count = ring_drain(&r, out, 1 + received % 3);
        for (uint32_t i = 0; i < count; i++)
            cr_assert_eq(out[i], &things[received++ % 64]);
    }
    ring_destroy(&r, &mem);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(ring, over_budget_is_a_refusal)
{
    struct ring r;
    cr_assert_eq(ring_init(&r, &mem, 1 << 20), -ENOMEM);
    ring_destroy(&r, &mem);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(ring, slots_that_are_no_power_of_two_are_a_bug, .signal = SIGABRT)
{
    struct ring r;
    (void)!ring_init(&r, &mem, 12);
}

Test(bell, wakes_a_sleeper_once)
{
    struct bell b = {0};
    cr_assert_not(bell_must_wake(&b), "nobody sleeps");
    bell_sleep(&b);
    cr_assert(bell_must_wake(&b));
    cr_assert_not(bell_must_wake(&b), "it has been woken");
    bell_sleep(&b);
    bell_awake(&b);
    cr_assert_not(bell_must_wake(&b), "it woke by itself");
}

Test(bell, tells_its_owner_to_end_once_and_for_all)
{
    struct bell b = {0};
    cr_assert_not(bell_ended(&b));
    bell_sleep(&b);
    bell_end(&b);
    cr_assert(bell_must_wake(&b), "it sleeps");
    bell_awake(&b);
    bell_sleep(&b);
    cr_assert(bell_ended(&b));
}
