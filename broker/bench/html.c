/* A page of its own, without scripts and without anything to load: tables, and curves as SVG.
 *
 *   percentiles     latency over the share of requests that were slower, 1 in 10, 100, 1,000 ...
 *   over time       p50 and p99 of each slice of the window
 *   knee            latency over throughput, a dot per point of a sweep
 *
 * All vertical axes are logarithmic: latency spans decades. Colours come from CSS, so that the page
 * is readable in dark and light. */
#include "broker/bench/series.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

#define WIDTH      720.0
#define HEIGHT     300.0
#define LEFT       70.0
#define BOTTOM     40.0
#define TOP        14.0
#define RIGHT      14.0
#define COLOURS    6u
#define NINES_MAX  6.0
#define CURVES_MAX 12u

struct axes {
    double x_min, x_max, y_min, y_max; /* y in log10 of ns */
};

static const char style[] =
    "<!doctype html><meta charset=utf-8><style>\n"
    ":root{color-scheme:light dark;--0:#2563eb;--1:#dc2626;--2:#16a34a;--3:#9333ea;--4:#ea580c;"
    "--5:#0891b2}\n"
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #8884}\n"
    "td:first-child,th:first-child{text-align:left}\n"
    "svg{width:100%;height:auto}svg text{font-size:11px;fill:currentColor}\n"
    ".g{stroke:#8884;stroke-width:1}.l{fill:none;stroke-width:1.6}.d{stroke-dasharray:4 3}\n"
    ".c0{stroke:var(--0)}.c1{stroke:var(--1)}.c2{stroke:var(--2)}.c3{stroke:var(--3)}"
    ".c4{stroke:var(--4)}.c5{stroke:var(--5)}\n"
    ".f0{fill:var(--0)}.f1{fill:var(--1)}.f2{fill:var(--2)}.f3{fill:var(--3)}.f4{fill:var(--4)}"
    ".f5{fill:var(--5)}\n"
    "pre{overflow:auto;background:#8881;padding:.8em}</style>\n";

static void escaped(struct text *t, const char *value)
{
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '<' || *at == '>' || *at == '&' || *at == '"')
            text_add(t, "&#%d;", *at);
        else
            text_put(t, at, 1);
    }
}

static double place_x(const struct axes *a, double x)
{
    double span = a->x_max > a->x_min ? a->x_max - a->x_min : 1;
    return LEFT + (x - a->x_min) / span * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct axes *a, double ns)
{
    double y = log10(MAX(ns, 1)), span = a->y_max - a->y_min;
    return HEIGHT - BOTTOM - (y - a->y_min) / span * (HEIGHT - BOTTOM - TOP);
}

static void axes_cover(struct axes *a, double ns)
{
    double y = log10(MAX(ns, 1));
    a->y_min = MIN(a->y_min, floor(y));
    a->y_max = MAX(a->y_max, ceil(y + 1e-9));
}

static struct axes axes_empty(double x_min, double x_max)
{
    return (struct axes){x_min, x_max, 99, 0};
}

static void figure_begin(struct text *t, struct axes *a, const char *title, const char *below)
{
    char number[TEXT_NUMBER_SIZE];
    if (a->y_max <= a->y_min) {
        a->y_min = MIN(a->y_min, 5);
        a->y_max = a->y_min + 1;
    }
    text_add(t, "<h2>%s</h2>\n<svg viewBox=\"0 0 %g %g\" role=img>", title, WIDTH, HEIGHT);
    for (double y = a->y_min; y <= a->y_max + 0.5; y += 1) {
        double at = place_y(a, pow(10, y));
        text_add(t, "<line class=g x1=%g x2=%g y1=%.1f y2=%.1f />", LEFT, WIDTH - RIGHT, at, at);
        text_add(t, "<text x=%g y=%.1f text-anchor=end>%s</text>", LEFT - 6, at + 4,
                 text_duration(number, (uint64_t)(pow(10, y) + 0.5)));
    }
    text_add(t, "<text x=%g y=%g text-anchor=middle>%s</text>", (LEFT + WIDTH) / 2, HEIGHT - 4,
             below);
}

static void tick(struct text *t, const struct axes *a, double x, const char *name)
{
    double at = place_x(a, x);
    text_add(t, "<line class=g x1=%.1f x2=%.1f y1=%g y2=%g />", at, at, TOP, HEIGHT - BOTTOM);
    text_add(t, "<text x=%.1f y=%g text-anchor=middle>%s</text>", at, HEIGHT - BOTTOM + 16, name);
}

static void figure_end(struct text *t)
{
    text_add(t, "</svg>\n");
}

static void legend(struct text *t, const struct bench_series *s)
{
    text_add(t, "<p>");
    for (uint32_t i = 0; i < s->count && i < CURVES_MAX; i++) {
        text_add(t,
                 "<svg viewBox=\"0 0 20 10\" style=\"width:20px;height:10px\">"
                 "<line class=\"l c%u\" x1=0 x2=20 y1=5 y2=5 /></svg> ",
                 i % COLOURS);
        escaped(t, s->points[i]->label);
        text_add(t, " &nbsp; ");
    }
    text_add(t, "</p>\n");
}

/* ---- curves ---------------------------------------------------------------------------------- */

/* -log10 of the share that is slower: 0, 1 (90 %), 2 (99 %) ... */
static void percentiles(struct text *t, const struct bench_series *s)
{
    static const char *const names[] = {"0",       "90 %",     "99 %",     "99.9 %",
                                        "99.99 %", "99.999 %", "99.9999 %"};
    struct axes a = axes_empty(0, 1);
    for (uint32_t i = 0; i < s->count && i < CURVES_MAX; i++) {
        const struct histogram *h = result_latency(&s->points[i]->result);
        if (h->count == 0)
            continue;
        axes_cover(&a, (double)histogram_quantile(h, 0));
        axes_cover(&a, (double)h->max);
        a.x_max = MAX(a.x_max, MIN(NINES_MAX, ceil(log10((double)h->count))));
    }
    figure_begin(t, &a, "Percentiles", "share of requests that were faster");
    for (uint32_t n = 0; n <= (uint32_t)a.x_max; n++)
        tick(t, &a, n, names[n]);
    for (uint32_t i = 0; i < s->count && i < CURVES_MAX; i++) {
        const struct histogram *h = result_latency(&s->points[i]->result);
        double most = h->count > 0 ? MIN(a.x_max, log10((double)h->count)) : 0;
        text_add(t, "<polyline class=\"l c%u\" points=\"", i % COLOURS);
        for (double x = 0; x <= most && h->count > 0; x += 0.05)
            text_add(t, "%.1f,%.1f ", place_x(&a, x),
                     place_y(&a, (double)histogram_quantile(h, 1 - pow(10, -x))));
        text_add(t, "\"/>");
    }
    figure_end(t);
}

static const struct histogram *slice_of(const struct bench_result *r, uint32_t slice)
{
    const struct bench_slice *s = &r->slices[slice];
    return r->counts.latency[LATENCY_E2E].count > 0 ? &s->e2e : &s->response;
}

static void line_over_time(struct text *t, const struct axes *a, const struct bench_result *r,
                           double quantile, const char *class, uint32_t colour)
{
    text_add(t, "<polyline class=\"l c%u %s\" points=\"", colour % COLOURS, class);
    for (uint32_t i = 0; i < r->slices_count; i++)
        if (slice_of(r, i)->count > 0)
            text_add(t, "%.1f,%.1f ",
                     place_x(a, ((double)i + 0.5) * (double)r->slice_ns / (double)NS_PER_S),
                     place_y(a, (double)histogram_quantile(slice_of(r, i), quantile)));
    text_add(t, "\"/>");
}

static void over_time(struct text *t, const struct bench_series *s)
{
    char number[TEXT_NUMBER_SIZE];
    struct axes a = axes_empty(0, 0);
    for (uint32_t i = 0; i < s->count && i < CURVES_MAX; i++) {
        const struct bench_result *r = &s->points[i]->result;
        a.x_max = MAX(a.x_max, r->seconds);
        for (uint32_t n = 0; n < r->slices_count; n++) {
            const struct histogram *h = slice_of(r, n);
            if (h->count == 0)
                continue;
            axes_cover(&a, (double)histogram_quantile(h, 0.5));
            axes_cover(&a, (double)histogram_quantile(h, 0.99));
        }
    }
    figure_begin(t, &a, "Latency over time: p99, and p50 dashed", "seconds of the window");
    for (uint32_t i = 0; i <= 5; i++)
        tick(t, &a, a.x_max * i / 5, text_decimal(number, a.x_max * i / 5));
    for (uint32_t i = 0; i < s->count && i < CURVES_MAX; i++) {
        line_over_time(t, &a, &s->points[i]->result, 0.99, "", i);
        line_over_time(t, &a, &s->points[i]->result, 0.5, "d", i);
    }
    figure_end(t);
}

static void knee(struct text *t, const struct bench_series *s)
{
    static const double shown[] = {0.5, 0.99, 0.999};
    static const char *const names[] = {"p50", "p99", "p99.9"};
    char number[TEXT_NUMBER_SIZE];
    struct axes a = axes_empty(0, 0);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct bench_result *r = &s->points[i]->result;
        a.x_max = MAX(a.x_max, (double)r->counts.records / r->seconds);
        for (uint32_t q = 0; q < 3; q++)
            axes_cover(&a, (double)histogram_quantile(result_latency(r), shown[q]));
    }
    figure_begin(t, &a, "Latency over throughput", "records per second");
    for (uint32_t i = 0; i <= 5; i++)
        tick(t, &a, a.x_max * i / 5, text_decimal(number, a.x_max * i / 5));
    for (uint32_t q = 0; q < 3; q++) {
        for (uint32_t i = 0; i < s->count; i++) {
            const struct bench_result *r = &s->points[i]->result;
            double x = place_x(&a, (double)r->counts.records / r->seconds);
            double y = place_y(&a, (double)histogram_quantile(result_latency(r), shown[q]));
            text_add(t, "<circle class=f%u cx=%.1f cy=%.1f r=3.5><title>", q, x, y);
            escaped(t, s->points[i]->label);
            text_add(t, " %s</title></circle>", names[q]);
        }
        text_add(t, "<text class=f%u x=%g y=%g style=\"fill:var(--%u)\">%s</text>", q,
                 LEFT + 10 + 50 * q, TOP + 12, q, names[q]);
    }
    figure_end(t);
}

/* ---- page ------------------------------------------------------------------------------------ */

static void rows(struct text *t, const struct bench_series *s)
{
    char n[7][TEXT_NUMBER_SIZE];
    text_add(t, "<table><tr><th><th>records/s<th>MB/s<th>p50<th>p99<th>p99.9<th>p99.99<th>max"
                "<th>CPU-s/GB<th>records\n");
    for (uint32_t i = 0; i < s->count; i++) {
        const struct bench_result *r = &s->points[i]->result;
        const struct histogram *h = result_latency(r);
        double cpu = result_cpu_per_gb(r);
        text_add(t, "<tr><td>");
        escaped(t, s->points[i]->label);
        text_add(t, "<td>%s<td>%s<td>%s<td>%s",
                 text_decimal(n[0], (double)r->counts.records / r->seconds),
                 text_decimal(n[1], (double)r->counts.bytes / r->seconds / 1e6),
                 text_duration(n[2], histogram_quantile(h, 0.5)),
                 text_duration(n[3], histogram_quantile(h, 0.99)));
        text_add(t, "<td>%s<td>%s<td>%s<td>%s<td>%s\n",
                 text_duration(n[0], histogram_quantile(h, 0.999)),
                 text_duration(n[1], histogram_quantile(h, 0.9999)), text_duration(n[2], h->max),
                 cpu > 0 ? text_decimal(n[3], cpu) : "-",
                 bench_result_sound(r) ? "sound" : "<b>NOT SOUND</b>");
    }
    text_add(t, "</table>\n");
}

/* What two brokers' turns say together, also where the first one loses. */
static void ratios(struct text *t, const struct bench_series *s)
{
    text_add(t, "<h2>Ratios</h2><p>Above 1: ");
    escaped(t, s->points[0]->label);
    text_add(t, " is better.</p>\n<table><tr><th><th>ratio<th>95 %% confidence<th>\n");
    for (uint32_t m = 0; m < METRICS; m++) {
        struct series_ratio r;
        if (series_compare(s, (enum series_metric)m, &r))
            text_add(t, "<tr><td>%s<td>%.3fx<td>%.3f .. %.3f<td>%s\n", series_metric_names[m],
                     r.mean, r.low, r.high, r.verdict);
    }
    text_add(t, "</table>\n");
}

void series_html(struct text *t, const struct bench_series *s, const struct provenance *p,
                 const char *title)
{
    text_add(t, "%s<title>", style);
    escaped(t, title);
    text_add(t, "</title><h1>");
    escaped(t, title);
    text_add(t, "</h1>\n<pre>");
    struct text head;
    text_init(&head, t->mem);
    if (s->count > 0)
        report_head(&head, &s->points[0]->result);
    escaped(t, head.data == NULL ? "" : head.data);
    text_free(&head);
    text_add(t, "</pre>\n");
    rows(t, s);
    if (s->count > 1 && s->points[1]->other)
        ratios(t, s);
    legend(t, s);
    percentiles(t, s);
    over_time(t, s);
    if (s->count > 2 && !s->points[1]->other)
        knee(t, s);
    text_add(t, "<h2>Where and when</h2><pre>");
    escaped(t, p->time);
    text_add(t, ", torc %s, commit %s\ntorc ", p->version, p->commit);
    escaped(t, p->words);
    text_add(t, "\n");
    escaped(t, p->cpu);
    text_add(t, ", %u CPUs, Linux ", p->cpus);
    escaped(t, p->kernel);
    text_add(t, "\nroot file system %s on ", p->filesystem);
    escaped(t, p->device);
    text_add(t, "\nload before: %s</pre>\n", p->load);
}
