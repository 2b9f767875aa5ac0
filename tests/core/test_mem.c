/* Budgets: what they refuse, what they count, and that dropping one drops everything. */
#include "core/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#define MIB (1024u * 1024u)

Test(mem, counts_live_blocks_as_asked)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, MIB), 0);
    void *a = mem_alloc(&m, 100), *b = mem_zalloc(&m, 1);
    cr_assert_not_null(a);
    cr_assert_not_null(b);
    cr_assert_eq(m.used_bytes, 101);
    mem_free(&m, a, 100);
    cr_assert_eq(m.used_bytes, 1);
    cr_assert_eq(m.peak_bytes, 101);
    mem_free(&m, b, 1);
    mem_free(&m, NULL, 5);
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, refuses_over_budget_and_takes_again_after_a_free)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, 1000), 0);
    void *a = mem_alloc(&m, 600);
    cr_assert_not_null(a);
    cr_assert_null(mem_alloc(&m, 401));
    cr_assert_null(mem_zalloc(&m, 401));
    cr_assert_null(mem_alloc(&m, SIZE_MAX), "nor does the size wrap");
    cr_assert_eq(m.refusals, 3);
    void *b = mem_alloc(&m, 400);
    cr_assert_not_null(b, "the last byte of the budget can be had");
    mem_free(&m, a, 600);
    a = mem_alloc(&m, 600);
    cr_assert_not_null(a);
    mem_free(&m, a, 600);
    mem_free(&m, b, 400);
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, an_endless_budget_still_refuses_absurd_sizes)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, UINT64_MAX), 0);
    cr_assert_null(mem_alloc(&m, SIZE_MAX));
    cr_assert_null(mem_alloc(&m, SIZE_MAX - 15));
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, blocks_are_16_byte_aligned_and_hold_their_size)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, 64 * MIB), 0);
    void *blocks[300];
    for (size_t i = 0; i < 300; i++) {
        size_t size = i * 37 + 1;
        blocks[i] = mem_alloc(&m, size);
        cr_assert_not_null(blocks[i]);
        cr_assert_eq((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, size);
    }
    for (size_t i = 0; i < 300; i++) {
        cr_assert_eq(((uint8_t *)blocks[i])[i * 37], (uint8_t)i);
        mem_free(&m, blocks[i], i * 37 + 1);
    }
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, zeroed_blocks_are_zero_even_when_used_before)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, MIB), 0);
    for (uint32_t round = 0; round < 100; round++) {
        uint8_t *p = mem_zalloc(&m, 333);
        for (uint32_t i = 0; i < 333; i++)
            cr_assert_eq(p[i], 0);
        memset(p, 0xff, 333);
        mem_free(&m, p, 333);
    }
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, realloc_keeps_the_contents_and_the_count)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, 10000), 0);
    char *p = mem_realloc(&m, NULL, 0, 6);
    memcpy(p, "hello", 6);
    for (size_t size = 6; size < 5000; size = size * 2 + 1) {
        p = mem_realloc(&m, p, size, size * 2 + 1);
        cr_assert_str_eq(p, "hello");
        cr_assert_eq(m.used_bytes, size * 2 + 1);
    }
    uint64_t used = m.used_bytes;
    cr_assert_null(mem_realloc(&m, p, used, 10001));
    cr_assert_str_eq(p, "hello", "a refused realloc leaves the block");
    cr_assert_eq(m.used_bytes, used);
    p = mem_realloc(&m, p, used, 6);
    cr_assert_str_eq(p, "hello");
    mem_free(&m, p, 6);
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, pages_are_page_aligned_and_counted)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, 4 * MIB), 0);
    uint8_t *a = mem_pages(&m, 4096), *b = mem_pages(&m, MIB);
    cr_assert_eq((uintptr_t)a % 4096, 0);
    cr_assert_eq((uintptr_t)b % 4096, 0);
    memset(a, 1, 4096);
    memset(b, 2, MIB);
    cr_assert_eq(m.used_bytes, 4096 + MIB);
    cr_assert_null(mem_pages(&m, 4 * MIB));
    mem_pages_free(&m, a, 4096);
    mem_pages_free(&m, b, MIB);
    mem_pages_free(&m, NULL, 4096);
    cr_assert_eq(m.used_bytes, 0);
    mem_destroy(&m);
}

Test(mem, destroy_drops_blocks_and_pages_still_live)
{
    /* More often than there can be arenas, so that those not given back would run out. */
    for (uint32_t round = 0; round < 5000; round++) {
        struct mem m;
        cr_assert_eq(mem_init(&m, 64 * MIB), 0);
        for (uint32_t i = 0; i < 50; i++)
            cr_assert_not_null(mem_alloc(&m, 1 + i * 700));
        uint8_t *pages = mem_pages(&m, 256 * 1024);
        cr_assert_not_null(pages);
        memset(pages, 1, 256 * 1024);
        mem_destroy(&m);
    }
}

Test(mem, budgets_live_side_by_side)
{
    struct mem m[40];
    void *p[40];
    for (uint32_t i = 0; i < 40; i++) {
        cr_assert_eq(mem_init(&m[i], MIB), 0);
        p[i] = mem_alloc(&m[i], 5000);
        memset(p[i], (int)i, 5000);
    }
    for (uint32_t i = 0; i < 40; i += 2)
        mem_destroy(&m[i]);
    for (uint32_t i = 1; i < 40; i += 2) {
        cr_assert_eq(((uint8_t *)p[i])[4999], i);
        mem_free(&m[i], p[i], 5000);
        cr_assert_eq(m[i].used_bytes, 0);
        mem_destroy(&m[i]);
    }
}

Test(mem, freeing_more_than_is_used_is_a_bug, .signal = SIGABRT)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, MIB), 0);
    void *p = mem_alloc(&m, 16);
    mem_free(&m, p, 32);
}

Test(mem, pages_of_an_odd_size_are_a_bug, .signal = SIGABRT)
{
    struct mem m;
    cr_assert_eq(mem_init(&m, MIB), 0);
    void *p = mem_pages(&m, 5000);
    cr_assert_null(p);
}
