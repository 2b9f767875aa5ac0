/* The arena: what it cuts, where it stops, and that nothing stays behind. */
#include "core/arena.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "core/guard.h"

#define MIB (1024u * 1024u)

static struct mem mem;

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, MIB), 0);
}

static void end(void)
{
    mem_destroy(&mem);
}

TestSuite(arena, .init = begin, .fini = end);

Test(arena, takes_nothing_until_asked)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    cr_assert_eq(mem.used_bytes, 0);
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, allocations_are_aligned_and_do_not_overlap)
{
    struct arena a;
    uint8_t *p[500];
    arena_init(&a, &mem, MIB);
    for (size_t i = 0; i < 500; i++) {
        p[i] = arena_alloc(&a, i + 1);
        cr_assert_not_null(p[i]);
        cr_assert_eq((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i + 1);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t at = 0; at <= i; at++)
            cr_assert_eq(p[i][at], (uint8_t)i);
    cr_assert_eq(a.taken_bytes, mem.used_bytes);
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, a_small_request_costs_one_small_block)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_not_null(arena_alloc(&a, 50));
    cr_assert_leq(mem.used_bytes, 1024);
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, what_is_larger_than_a_block_gets_its_own)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    uint8_t *big = arena_alloc(&a, 300000);
    cr_assert_not_null(big);
    memset(big, 1, 300000);
    uint8_t *small = arena_alloc(&a, 10);
    cr_assert_not_null(small);
    memset(small, 2, 10);
    cr_assert_eq(big[299999], 1);
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, stops_at_its_own_limit_and_remembers)
{
    struct arena a;
    arena_init(&a, &mem, 4000);
    uint32_t count = 0;
    while (arena_alloc(&a, 64) != NULL)
        count++;
    cr_assert_geq(count, 50);
    cr_assert_leq(count, 4000 / 64);
    cr_assert(a.failed);
    cr_assert_leq(a.taken_bytes, 4000);
    cr_assert_eq(mem.refusals, 0, "it was not the budget that refused");
    arena_release(&a);
    cr_assert_not(a.failed);
    cr_assert_not_null(arena_alloc(&a, 64), "it can be used again");
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, stops_at_the_budget_of_the_core)
{
    struct arena a;
    arena_init(&a, &mem, UINT64_MAX);
    cr_assert_null(arena_alloc(&a, 2 * MIB));
    cr_assert(a.failed);
    cr_assert_eq(mem.refusals, 1);
    cr_assert_not_null(arena_alloc(&a, 100));
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, zero_bytes_are_something_that_holds_nothing)
{
    struct arena a;
    arena_init(&a, &mem, 0);
    cr_assert_not_null(arena_alloc(&a, 0));
    cr_assert_not_null(arena_array(&a, 0, 8));
    cr_assert_not_null(arena_copy(&a, NULL, 0));
    cr_assert_not(a.failed);
    cr_assert_null(arena_alloc(&a, 1));
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, arrays_are_zeroed_and_do_not_overflow)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    for (uint32_t round = 0; round < 3; round++) {
        uint64_t *array = arena_array(&a, 1000, sizeof(*array));
        for (uint32_t i = 0; i < 1000; i++)
            cr_assert_eq(array[i], 0);
        memset(array, 0xff, 8000);
        arena_release(&a);
    }
    cr_assert_null(arena_array(&a, SIZE_MAX / 4, 8));
    cr_assert(a.failed);
    cr_assert_null(arena_alloc(&a, SIZE_MAX - 3));
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(arena, copies_what_it_is_given)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    char *copy = arena_copy(&a, "offsets", 8);
    cr_assert_str_eq(copy, "offsets");
    arena_release(&a);
    cr_assert_eq(mem.used_bytes, 0);
}

#if GUARD_ACTIVE
Test(arena, writing_behind_an_allocation_is_found, .exit_code = 1)
{
    struct arena a;
    arena_init(&a, &mem, MIB);
    volatile uint8_t *p = arena_alloc(&a, 20);
    p[20] = 1;
}
#endif
