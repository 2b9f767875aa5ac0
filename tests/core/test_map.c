/* The map against a plain array, its memory, and that two runs are alike. */
#include "core/map.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ITEMS 2000u

struct item {
    char key[24];
    uint32_t size;
    bool in;
};

static struct mem mem;
static struct item items[ITEMS];

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, 16 << 20), 0);
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (struct item){.size = 0};
        items[i].size =
            (uint32_t)snprintf(items[i].key, 24, "%.*s%u", (int)(i % 14), "topic-with-a-name", i);
    }
}

static void end(void)
{
    mem_destroy(&mem);
}

TestSuite(map, .init = begin, .fini = end);

static int put(struct map *m, struct item *item)
{
    return map_put(m, item->key, item->size, item);
}

Test(map, an_empty_one_has_nothing_and_takes_nothing)
{
    struct map m;
    uint32_t at = 0;
    map_init(&m, &mem, 1);
    cr_assert_null(map_get(&m, "a", 1));
    cr_assert_null(map_remove(&m, "a", 1));
    cr_assert_null(map_next(&m, &at));
    cr_assert_eq(mem.used_bytes, 0);
    map_destroy(&m);
}

Test(map, putting_a_known_key_replaces_value_and_key)
{
    struct map m;
    char key[2] = "k";
    map_init(&m, &mem, 1);
    cr_assert_eq(map_put(&m, key, 1, &items[0]), 0);
    cr_assert_eq(map_put(&m, "k", 1, &items[1]), 0);
    key[0] = 'x'; /* the old key may go away with the old value */
    cr_assert_eq(m.count, 1);
    cr_assert_eq(map_get(&m, "k", 1), &items[1]);
    map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(map, keys_are_bytes_of_any_size)
{
    struct map m;
    static const char zeros[4];
    map_init(&m, &mem, 1);
    for (uint32_t size = 0; size < 4; size++)
        cr_assert_eq(map_put(&m, size == 0 ? NULL : zeros, size, &items[size]), 0);
    for (uint32_t size = 0; size < 4; size++)
        cr_assert_eq(map_get(&m, zeros, size), &items[size]);
    map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(map, agrees_with_an_array_over_many_changes)
{
    struct map m;
    uint64_t state = 3;
    uint32_t count = 0;
    map_init(&m, &mem, 99);
    for (uint32_t round = 0; round < 60000; round++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        struct item *item = &items[(state >> 33) % (round < 30000 ? ITEMS : 50)];
        cr_assert_eq(map_get(&m, item->key, item->size), item->in ? item : NULL);
        if ((state >> 60) % 2 == 0) {
            cr_assert_eq(map_remove(&m, item->key, item->size), item->in ? item : NULL);
            count -= item->in;
            item->in = false;
        } else {
            cr_assert_eq(put(&m, item), 0);
            count += !item->in;
            item->in = true;
        }
        cr_assert_eq(m.count, count);
    }
    uint32_t at = 0, seen = 0;
    for (struct item *item; (item = map_next(&m, &at)) != NULL; seen++) {
        cr_assert(item->in);
        item->in = false; /* so that a second visit fails */
    }
    cr_assert_eq(seen, count);
    map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(map, over_budget_changes_nothing)
{
    struct map m;
    struct mem small;
    uint32_t count = 0;
    cr_assert_eq(mem_init(&small, 4096), 0);
    map_init(&m, &small, 1);
    while (count < ITEMS && put(&m, &items[count]) == 0)
        count++;
    cr_assert_gt(count, 20);
    cr_assert_lt(count, ITEMS);
    cr_assert_eq(m.count, count);
    for (uint32_t i = 0; i < ITEMS; i++)
        cr_assert_eq(map_get(&m, items[i].key, items[i].size), i < count ? &items[i] : NULL);
    cr_assert_eq(put(&m, &items[0]), 0, "replacing needs no room");
    map_destroy(&m);
    cr_assert_eq(small.used_bytes, 0);
    mem_destroy(&small);
}

Test(map, reserved_room_is_enough)
{
    struct map m;
    map_init(&m, &mem, 1);
    cr_assert_eq(map_reserve(&m, ITEMS), 0);
    uint64_t used = mem.used_bytes;
    for (uint32_t i = 0; i < ITEMS; i++)
        cr_assert_eq(put(&m, &items[i]), 0);
    cr_assert_eq(mem.used_bytes, used);
    cr_assert_eq(map_reserve(&m, 5), 0);
    cr_assert_eq(m.count, ITEMS, "a smaller reservation takes nothing away");
    cr_assert_eq(map_reserve(&m, UINT32_MAX), -ENOMEM);
    map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(map, the_same_changes_give_the_same_order_wherever_keys_live)
{
    static struct item moved[ITEMS + 1];
    struct map a, b;
    uint32_t at_a = 0, at_b = 0;
    memcpy(moved + 1, items, sizeof(items));
    map_init(&a, &mem, 5);
    map_init(&b, &mem, 5);
    for (uint32_t i = 0; i < ITEMS; i++) {
        cr_assert_eq(put(&a, &items[i]), 0);
        cr_assert_eq(put(&b, &moved[i + 1]), 0);
    }
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item *x = map_next(&a, &at_a), *y = map_next(&b, &at_b);
        cr_assert_str_eq(x->key, y->key);
    }
    map_destroy(&a);
    map_destroy(&b);
    cr_assert_eq(mem.used_bytes, 0);
}

Test(map, the_hash_is_the_same_on_every_machine)
{
    /* Fixed for ever: which core owns a partition may depend on it. */
    uint64_t sum = 0;
    uint8_t bytes[64];
    for (uint32_t i = 0; i < 64; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (uint32_t size = 0; size <= 64; size++)
        sum = sum * 31 + map_hash(bytes, size, size);
    cr_assert_eq(sum, 2760230587117279995ull);
}

Test(map, the_hash_spreads_keys_that_differ_in_one_bit)
{
    uint8_t key[32] = {0};
    uint64_t plain = map_hash(key, 32, 1);
    uint32_t fewest = 64, most = 0;
    for (uint32_t bit = 0; bit < 256; bit++) {
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        uint32_t changed = (uint32_t)__builtin_popcountll(map_hash(key, 32, 1) ^ plain);
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        fewest = changed < fewest ? changed : fewest;
        most = changed > most ? changed : most;
    }
    cr_assert_gt(fewest, 12);
    cr_assert_lt(most, 52);
}

Test(map, sequential_keys_make_short_runs)
{
    static uint64_t numbers[ITEMS];
    struct map m;
    map_init(&m, &mem, 1);
    for (uint64_t i = 0; i < ITEMS; i++) {
        numbers[i] = i;
        cr_assert_eq(map_put(&m, &numbers[i], 8, &numbers[i]), 0);
    }
    uint32_t distance = 0;
    for (uint32_t i = 0; i < m.slots_count; i++)
        if (m.slots[i].value != NULL)
            distance += (i - m.slots[i].hash) & (m.slots_count - 1);
    cr_assert_lt(distance, 20 * ITEMS);
    map_destroy(&m);
    cr_assert_eq(mem.used_bytes, 0);
}
