/* Latency histogram with HDR buckets: 64 powers of two, each cut into 16, so the relative error is
 * under 6.25 %. Merging adds buckets; percentiles are taken from merged buckets, never averaged.
 * One writer core; others read copies. */
#ifndef CORE_HISTOGRAM_H
#define CORE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 976 /* 16 exact values, then 60 powers x 16 */

struct histogram {
    uint64_t count, sum, max;
    uint64_t buckets[HISTOGRAM_BUCKETS]; /* 64 bits: a hot bucket passes 2^32 within an hour */
};

/* The largest value that falls into the bucket; for whoever exports buckets. */
uint64_t histogram_upper(uint32_t bucket);

void histogram_init(struct histogram *h);
void histogram_record(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* before becomes what was recorded from then to now; its max is that of the highest bucket. */
void histogram_since(struct histogram *before, const struct histogram *now);
/* Upper bound of the bucket that holds quantile q in [0, 1]; 0 when empty; q = 1 gives max. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
