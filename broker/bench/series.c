/* Loads that belong together.
 *
 * Ratios of two brokers come from pairs: A B A B ..., so that what the machine does meanwhile falls
 * on both. The mean of the logarithms of the pairs' ratios and Student's t give the interval; a
 * ratio whose interval holds 1 says nothing.
 *
 * Invariant: above 1 is better for the first broker, whatever the metric. */
#include "broker/bench/series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

const char *const series_metric_names[METRICS] = {"records/s", "p50", "p99", "p99.9", "CPU-s/GB"};

void series_init(struct bench_series *s, struct mem *mem)
{
    *s = (struct bench_series){.mem = mem};
}

void series_free(struct bench_series *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        bench_result_free(&s->points[i]->result);
        mem_free(s->mem, s->points[i], sizeof(*s->points[i]));
    }
    s->count = 0;
}

struct bench_point *series_run(struct bench_series *s, struct io *io, const struct bench_options *o,
                               const char *label, bool other, bool *good)
{
    *good = false;
    struct bench_point *p = s->count < SERIES_MAX ? mem_zalloc(s->mem, sizeof(*p)) : NULL;
    if (p == NULL)
        return NULL;
    s->points[s->count++] = p;
    (void)snprintf(p->label, sizeof(p->label), "%s", label);
    p->other = other;
    *good = bench_run(io, s->mem, o, &p->result);
    return p;
}

const struct histogram *result_latency(const struct bench_result *r)
{
    const struct histogram *e2e = &r->counts.latency[LATENCY_E2E];
    return e2e->count > 0 ? e2e : &r->counts.latency[LATENCY_RESPONSE];
}

double result_cpu_per_gb(const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    double bytes = (double)c->bytes + (double)c->read_bytes;
    double cpu = usage_cpu(&r->begin, &r->end);
    return r->options.pid > 0 && bytes > 0 ? cpu / bytes * 1e9 : 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

void series_head(struct text *t, const char *what)
{
    text_add(t, "%-16.16s %9s %7s %8s %8s %8s %8s %8s\n", what, "records/s", "MB/s", "p50", "p99",
             "p99.9", "max", "CPU-s/GB");
}

void series_row(struct text *t, const struct bench_point *p)
{
    const struct bench_result *r = &p->result;
    const struct histogram *h = result_latency(r);
    char n[7][TEXT_NUMBER_SIZE];
    double cpu = result_cpu_per_gb(r);
    text_add(t, "%-16.16s %9s %7s %8s %8s %8s %8s %8s%s\n", p->label,
             text_decimal(n[0], (double)r->counts.records / r->seconds),
             text_decimal(n[1], (double)r->counts.bytes / r->seconds / 1e6),
             text_duration(n[2], histogram_quantile(h, 0.5)),
             text_duration(n[3], histogram_quantile(h, 0.99)),
             text_duration(n[4], histogram_quantile(h, 0.999)), text_duration(n[5], h->max),
             cpu > 0 ? text_decimal(n[6], cpu) : "-", bench_result_sound(r) ? "" : "  NOT SOUND");
}

/* ---- ratios ---------------------------------------------------------------------------------- */

static double metric_of(const struct bench_result *r, enum series_metric m)
{
    const struct histogram *h = result_latency(r);
    switch (m) {
    case METRIC_RATE:
        return (double)r->counts.records / r->seconds;
    case METRIC_P50:
        return (double)histogram_quantile(h, 0.5);
    case METRIC_P99:
        return (double)histogram_quantile(h, 0.99);
    case METRIC_P999:
        return (double)histogram_quantile(h, 0.999);
    case METRIC_CPU:
    case METRICS:
        break;
    }
    return result_cpu_per_gb(r);
}

/* Student's t, two-sided 95 %, by degrees of freedom. */
static double student(uint32_t freedom)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                               2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                               2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                               2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
    uint32_t count = sizeof(t) / sizeof(t[0]);
    assert(freedom > 0);
    return freedom <= count ? t[freedom - 1] : 1.96;
}

bool series_compare(const struct bench_series *s, enum series_metric m, struct series_ratio *r)
{
    double logs[SERIES_MAX / 2], sum = 0, squares = 0;
    uint32_t pairs = s->count / 2;
    *r = (struct series_ratio){.pairs = pairs};
    if (pairs < 2 || (m == METRIC_RATE && s->points[0]->result.options.rate > 0))
        return false;
    for (size_t i = 0; i < pairs; i++) {
        assert(!s->points[2 * i]->other && s->points[2 * i + 1]->other);
        double a = metric_of(&s->points[2 * i]->result, m);
        double b = metric_of(&s->points[2 * i + 1]->result, m);
        if (a <= 0 || b <= 0)
            return false;
        logs[i] = m == METRIC_RATE ? log(a / b) : log(b / a);
        sum += logs[i];
    }
    double mean = sum / pairs;
    for (uint32_t i = 0; i < pairs; i++)
        squares += (logs[i] - mean) * (logs[i] - mean);
    double half = student(pairs - 1) * sqrt(squares / (pairs - 1) / pairs);
    r->mean = exp(mean);
    r->low = exp(mean - half);
    r->high = exp(mean + half);
    r->regression = r->high < 1 / (1 + s->threshold);
    r->verdict = r->regression ? "REGRESSION" : r->low > 1 ? "better" : r->high < 1 ? "worse" : "";
    return true;
}
