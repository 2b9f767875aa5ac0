/* Counters of one core, and their sum over several. */
#include "core/metric.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "core/assert.h"

enum { REQUESTS, BYTES, OPEN, COUNTERS };

static const char *const names[COUNTERS] = {"requests", "bytes", "open"};
static struct counters a, b;

Test(metric, counters_add_and_gauges_are_set)
{
    counters_init(&a, names, COUNTERS);
    counter_add(&a, REQUESTS, 1);
    counter_add(&a, REQUESTS, 2);
    counter_set(&a, OPEN, 9);
    counter_set(&a, OPEN, 4);
    cr_assert_eq(counter_get(&a, REQUESTS), 3);
    cr_assert_eq(counter_get(&a, BYTES), 0);
    cr_assert_eq(counter_get(&a, OPEN), 4);
    cr_assert_eq((uintptr_t)a.values % CACHE_LINE, 0);
}

Test(metric, collecting_cores_adds_them_up)
{
    uint64_t sum[COUNTERS] = {0};
    counters_init(&a, names, COUNTERS);
    counters_init(&b, names, COUNTERS);
    counter_add(&a, BYTES, 5);
    counter_add(&b, BYTES, 6);
    counter_add(&b, OPEN, 1);
    counters_collect(&a, sum);
    counters_collect(&b, sum);
    cr_assert_eq(sum[REQUESTS], 0);
    cr_assert_eq(sum[BYTES], 11);
    cr_assert_eq(sum[OPEN], 1);
}

Test(metric, a_counter_without_a_name_is_a_bug, .signal = SIGABRT)
{
    counters_init(&a, names, COUNTERS);
    counter_add(&a, COUNTERS, 1);
}
