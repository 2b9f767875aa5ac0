/* struct bench_series: loads that belong together: the points of a sweep, the repetitions of two
 * brokers in turn. What they say together: rows of a table, ratios with their confidence, a page.
 */
#ifndef BROKER_BENCH_SERIES_H
#define BROKER_BENCH_SERIES_H

#include "broker/bench/report.h"

#define SERIES_MAX 256u

struct bench_point {
    char label[64];
    bool other; /* of the second broker */
    struct bench_result result;
};

struct bench_series {
    struct mem *mem;
    struct bench_point *points[SERIES_MAX];
    uint32_t count;
    double threshold; /* worse by more than this share is a regression */
};

void series_init(struct bench_series *s, struct mem *mem);
void series_free(struct bench_series *s);
/* Runs a load and keeps its result; NULL: no memory. A load that failed has its `why`. */
struct bench_point *series_run(struct bench_series *s, struct io *io, const struct bench_options *o,
                               const char *label, bool other, bool *good);

/* One line per point, of 80 columns. */
void series_head(struct text *t, const char *what);
void series_row(struct text *t, const struct bench_point *p);

/* The latency that a result is judged by: end to end where somebody reads, else the response. */
const struct histogram *result_latency(const struct bench_result *r);
double result_cpu_per_gb(const struct bench_result *r);

/* How the first broker stands to the other: above 1 it is better. */
enum series_metric { METRIC_RATE, METRIC_P50, METRIC_P99, METRIC_P999, METRIC_CPU, METRICS };
extern const char *const series_metric_names[METRICS];
struct series_ratio {
    double mean, low, high; /* geometric mean of the pairs' ratios, 95 % confidence interval */
    uint32_t pairs;
    bool regression;
    const char *verdict; /* in a word; an interval that holds 1 has none */
};
/* Points 2n and 2n + 1 are a pair. false: the metric is not there (throughput of a timetable is
 * that of the timetable), or fewer than two pairs. */
NODISCARD bool series_compare(const struct bench_series *s, enum series_metric m,
                              struct series_ratio *r);

/* All histograms as a log that HdrHistogram's tools read. */
void series_hdr(struct text *t, const struct bench_series *s, const struct provenance *p);

#endif
