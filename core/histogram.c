/* Latency histogram with logarithmic buckets, each power of two cut into 16.
 *
 *   value          bucket                     width
 *   0 .. 15        value                      1        exact
 *   16 .. 31       16 .. 31                   1        exact
 *   32 .. 63       32 .. 47                   2
 *   2^e .. 2^(e+1) 16 + 16 (e - 4) + the four bits under the leading one; width 2^(e-4)
 *
 * Invariants:
 *  1. count is the sum of the buckets.
 *  2. The upper bound of a value's bucket is at least the value and at most 1/16 larger.
 *
 * Failure modes: none; sum wraps modulo 2^64, as counters do. */
#include "core/histogram.h"

#include <string.h>

#include "core/assert.h"
#include "core/core.h"

static uint32_t bucket_of(uint64_t value)
{
    if (value < 16)
        return (uint32_t)value;
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t bucket = 16 * (exponent - 3) + (uint32_t)((value >> (exponent - 4)) & 15);
    assert(bucket < HISTOGRAM_BUCKETS);
    return bucket;
}

uint64_t histogram_upper(uint32_t bucket)
{
    assert(bucket < HISTOGRAM_BUCKETS);
    if (bucket < 16)
        return bucket;
    uint32_t shift = bucket / 16 - 1;
    return ((uint64_t)(16 + bucket % 16 + 1) << shift) - 1; /* the last one wraps to UINT64_MAX */
}

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void histogram_record(struct histogram *h, uint64_t value)
{
    h->count++;
    h->sum += value;
    h->max = MAX(h->max, value);
    h->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    assert(into != from);
    into->count += from->count;
    into->sum += from->sum;
    into->max = MAX(into->max, from->max);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

void histogram_since(struct histogram *before, const struct histogram *now)
{
    assert(now->count >= before->count);
    before->count = now->count - before->count;
    before->sum = now->sum - before->sum;
    before->max = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        before->buckets[i] = now->buckets[i] - before->buckets[i];
        if (before->buckets[i] > 0)
            before->max = MIN(histogram_upper(i), now->max);
    }
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    assert(q >= 0 && q <= 1);
    if (h->count == 0)
        return 0;
    double exact = q * (double)h->count;
    uint64_t rank = exact >= (double)h->count ? h->count : (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    if (rank >= h->count)
        return h->max;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return MIN(histogram_upper(i), h->max);
    }
    return h->max;
}
