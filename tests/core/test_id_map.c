/* The map of ids against a plain array, its memory, and that it stays whole over budget. */
#include "core/id_map.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#define ITEMS 2000u

struct item {
    int64_t id;
    bool in;
};

static struct mem mem;
static struct item items[ITEMS];

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, 16 << 20), 0);
    for (uint32_t i = 0; i < ITEMS; i++)
        items[i] = (struct item){.id = i % 3 == 0 ? (int64_t)i << 40 : i};
}

static void end(void)
{
    mem_destroy(&mem);
}

TestSuite(id_map, .init = begin, .fini = end);

static void put(struct id_map *m, struct item *item)
{
    cr_assert_eq(id_map_reserve(m, m->count + 1), 0);
    id_map_put(m, &item->id);
}

Test(id_map, an_empty_one_has_nothing_and_takes_nothing)
{
    struct id_map m;
    uint32_t at = 0;
    id_map_init(&m, &mem);
    cr_assert_null(id_map_get(&m, 0));
    cr_assert_null(id_map_remove(&m, 0));
    cr_assert_null(id_map_next(&m, &at));
    cr_assert_eq(mem.used_bytes, 0);
    id_map_destroy(&m);
}

Test(id_map, one_id_takes_two_slots_and_many_at_most_22_bytes_each)
{
    struct id_map m;
    id_map_init(&m, &mem);
    put(&m, &items[0]);
    cr_assert_eq(mem.used_bytes, 2 * sizeof(void *));
    for (uint32_t i = 1; i < ITEMS; i++) {
        put(&m, &items[i]);
        cr_assert(i < 8 || mem.used_bytes <= 22ull * (i + 1), "%u: %lu", i, mem.used_bytes);
    }
    id_map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(id_map, agrees_with_an_array_over_many_changes)
{
    struct id_map m;
    uint64_t state = 3;
    uint32_t count = 0;
    id_map_init(&m, &mem);
    for (uint32_t round = 0; round < 60000; round++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        struct item *item = &items[(state >> 33) % (round < 30000 ? ITEMS : 50)];
        cr_assert_eq(id_map_get(&m, item->id), item->in ? item : NULL);
        if (item->in) {
            cr_assert_eq(id_map_remove(&m, item->id), item);
            count--;
        } else {
            put(&m, item);
            count++;
        }
        item->in = !item->in;
        cr_assert_eq(m.count, count);
    }
    uint32_t at = 0, seen = 0;
    for (struct item *item; (item = id_map_next(&m, &at)) != NULL; seen++) {
        cr_assert(item->in);
        item->in = false; /* so that a second visit fails */
    }
    cr_assert_eq(seen, count);
    id_map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(id_map, all_can_be_removed_while_it_is_gone_through)
{
    struct id_map m;
    id_map_init(&m, &mem);
    for (uint32_t i = 0; i < ITEMS; i++)
        put(&m, &items[i]);
    uint32_t at = 0, seen = 0;
    for (const struct item *item; (item = id_map_next(&m, &at)) != NULL; seen++) {
        cr_assert_eq(id_map_remove(&m, item->id), item);
        at--;
    }
    cr_assert_eq(seen, ITEMS);
    cr_assert_eq(m.count, 0);
    id_map_destroy(&m);
}

Test(id_map, over_budget_changes_nothing)
{
    struct id_map m;
    struct mem small;
    uint32_t count = 0;
    cr_assert_eq(mem_init(&small, 4096), 0);
    id_map_init(&m, &small);
    for (; id_map_reserve(&m, count + 1) == 0; count++)
        id_map_put(&m, &items[count].id);
    cr_assert_gt(count, 100);
    cr_assert_lt(count, ITEMS);
    cr_assert_eq(id_map_reserve(&m, count + 1), -ENOMEM);
    for (uint32_t i = 0; i < ITEMS; i++)
        cr_assert_eq(id_map_get(&m, items[i].id), i < count ? &items[i] : NULL);
    id_map_destroy(&m);
    cr_assert_eq(small.used_bytes, 0);
    mem_destroy(&small);
}

Test(id_map, putting_an_id_twice_is_a_bug, .signal = SIGABRT)
{
    struct id_map m;
    struct item twin = {.id = items[1].id};
    id_map_init(&m, &mem);
    cr_assert_eq(id_map_reserve(&m, 8), 0);
    id_map_put(&m, &items[1].id);
    id_map_put(&m, &twin.id);
}
