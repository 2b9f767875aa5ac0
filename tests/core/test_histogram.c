/* Histogram: bounds of the error, and quantiles against sorted values. */
#include "core/histogram.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

static struct histogram h, other;

Test(histogram, empty_answers_zero)
{
    histogram_init(&h);
    cr_assert_eq(histogram_quantile(&h, 0.5), 0);
    cr_assert_eq(histogram_quantile(&h, 1), 0);
}

Test(histogram, small_values_are_exact)
{
    for (uint64_t value = 0; value < 32; value++) {
        histogram_init(&h);
        histogram_record(&h, value);
        histogram_record(&h, UINT64_MAX);
        cr_assert_eq(histogram_quantile(&h, 0.5), value);
    }
}

Test(histogram, the_error_is_under_a_sixteenth_over_the_whole_range)
{
    for (uint32_t shift = 0; shift < 64; shift++) {
        for (uint64_t nudge = 0; nudge < 5; nudge++) {
            uint64_t value = (1ull << shift) * (4 + nudge) / 4 - (nudge == 0);
            if (shift == 63 && nudge > 3)
                continue; /* past 2^64 */
            histogram_init(&h);
            histogram_record(&h, value);
            histogram_record(&h, UINT64_MAX);
            uint64_t upper = histogram_quantile(&h, 0.5);
            cr_assert_geq(upper, value);
            cr_assert_leq(upper - value, value / 16 + 1);
        }
    }
    cr_assert_eq(histogram_upper(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
}

Test(histogram, bucket_bounds_grow_and_cover_every_value_once)
{
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t upper = histogram_upper(i), below = histogram_upper(i - 1);
        cr_assert_gt(upper, below);
        histogram_init(&h);
        histogram_record(&h, below + 1);
        histogram_record(&h, upper);
        cr_assert_eq(h.buckets[i], 2, "bucket %u", i);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

Test(histogram, quantiles_agree_with_sorted_values)
{
    static uint64_t values[10000];
    uint64_t state = 1;
    histogram_init(&h);
    for (uint32_t i = 0; i < 10000; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        values[i] = (state >> 30) >> (state >> 60);
        histogram_record(&h, values[i]);
    }
    qsort(values, 10000, sizeof(values[0]), compare);
    static const double quantiles[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    for (uint32_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        double rank = quantiles[i] * 10000;
        uint32_t at = rank <= 1 ? 0 : (uint32_t)rank - 1 + ((double)(uint32_t)rank < rank);
        uint64_t found = histogram_quantile(&h, quantiles[i]);
        cr_assert_geq(found, values[at]);
        cr_assert_leq(found - values[at], values[at] / 16 + 1, "q %f", quantiles[i]);
    }
    cr_assert_eq(histogram_quantile(&h, 1), values[9999]);
}

Test(histogram, merging_is_recording_both)
{
    struct histogram both;
    histogram_init(&h);
    histogram_init(&other);
    histogram_init(&both);
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_record(i % 3 == 0 ? &h : &other, i * i);
        histogram_record(&both, i * i);
    }
    histogram_merge(&h, &other);
    cr_assert_eq(memcmp(&h, &both, sizeof(h)), 0);
}

Test(histogram, what_came_since_is_the_difference)
{
    histogram_init(&h);
    histogram_init(&other);
    for (uint64_t i = 0; i < 100; i++)
        histogram_record(&h, 1000 + i);
    other = h;
    histogram_record(&h, 5);
    histogram_record(&h, 300);
    histogram_since(&other, &h);
    cr_assert_eq(other.count, 2);
    cr_assert_eq(other.sum, 305);
    cr_assert_eq(histogram_quantile(&other, 0.5), 5);
    cr_assert_geq(other.max, 300, "the largest of all came before");
    cr_assert_leq(other.max, 300 + 300 / 16);
}

Test(histogram, a_quantile_outside_0_to_1_is_a_bug, .signal = SIGABRT)
{
    histogram_init(&h);
    (void)histogram_quantile(&h, 1.5);
}
