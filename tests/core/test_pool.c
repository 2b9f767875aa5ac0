/* The pool: its maximum, its budget, and that items come back to be used again. */
#include "core/pool.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "core/guard.h"

#define MIB (1024u * 1024u)

static struct mem mem;

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, 8 * MIB), 0);
}

static void end(void)
{
    mem_destroy(&mem);
}

TestSuite(pool, .init = begin, .fini = end);

Test(pool, gives_out_exactly_its_maximum)
{
    struct pool p;
    void *items[1000];
    pool_init(&p, &mem, 200, 1000);
    cr_assert_eq(mem.used_bytes, 0, "an idle pool takes nothing");
    for (uint32_t i = 0; i < 1000; i++) {
        items[i] = pool_acquire(&p);
        cr_assert_not_null(items[i]);
        cr_assert_eq((uintptr_t)items[i] % 16, 0);
        memset(items[i], (int)i, 200);
    }
    cr_assert_null(pool_acquire(&p));
    cr_assert_eq(p.count_used, 1000);
    cr_assert_lt(mem.used_bytes, 1000 * 208 + 100, "the last slab is no larger than needed");
    for (uint32_t i = 0; i < 1000; i++) {
        cr_assert_eq(((uint8_t *)items[i])[199], (uint8_t)i);
        pool_release(&p, items[i]);
    }
    cr_assert_eq(p.count_used, 0);
    pool_destroy(&p);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(pool, the_item_released_last_is_acquired_first)
{
    struct pool p;
    pool_init(&p, &mem, 64, 10);
    void *a = pool_acquire(&p), *b = pool_acquire(&p);
    pool_release(&p, a);
    pool_release(&p, b);
    cr_assert_eq(pool_acquire(&p), b);
    cr_assert_eq(pool_acquire(&p), a);
    pool_destroy(&p);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(pool, takes_no_more_memory_after_it_has_warmed_up)
{
    struct pool p;
    void *items[100];
    uint64_t warm_bytes = 0;
    pool_init(&p, &mem, 1000, 100);
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < 100; i++)
            items[i] = pool_acquire(&p);
        if (round == 0)
            warm_bytes = mem.used_bytes;
        for (uint32_t i = 0; i < 100; i++)
            pool_release(&p, items[i]);
        cr_assert_eq(mem.used_bytes, warm_bytes);
    }
    pool_destroy(&p);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(pool, items_larger_than_a_slab_get_one_each)
{
    struct pool p;
    pool_init(&p, &mem, 100000, 3);
    void *a = pool_acquire(&p), *b = pool_acquire(&p);
    memset(a, 1, 100000);
    memset(b, 2, 100000);
    cr_assert_eq(((uint8_t *)a)[99999], 1);
    cr_assert_eq(p.count_made, 2);
    pool_destroy(&p);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(pool, an_exhausted_budget_is_a_refusal)
{
    struct pool p;
    pool_init(&p, &mem, 1 * MIB, 100);
    uint32_t count = 0;
    void *last = NULL;
    for (void *item; (item = pool_acquire(&p)) != NULL; count++)
        last = item;
    cr_assert_eq(count, 7);
    cr_assert_eq(mem.refusals, 1);
    pool_release(&p, last);
    cr_assert_eq(pool_acquire(&p), last);
    pool_destroy(&p);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(pool, releasing_more_than_was_acquired_is_a_bug, .signal = SIGABRT)
{
    struct pool p;
    pool_init(&p, &mem, 64, 10);
    void *a = pool_acquire(&p);
    pool_release(&p, a);
    pool_release(&p, a);
}

#if GUARD_ACTIVE
Test(pool, use_after_release_is_found, .exit_code = 1)
{
    struct pool p;
    pool_init(&p, &mem, 64, 10);
    volatile uint8_t *a = pool_acquire(&p);
    pool_release(&p, (void *)(uintptr_t)a);
    a[40] = 1;
}
#endif
