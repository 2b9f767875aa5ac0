/* A page of its own, without scripts and without anything to load: tables, and curves as SVG. It is
 * made of what was written as JSON, so a run of last year is shown as one of now, and beside it.
 *
 *   percentiles     latency over the share of requests that were slower, 1 in 10, 100, 1,000 ...
 *   over time       p50 and p99 of each slice of the window
 *   knee            latency over throughput, a dot per point of a sweep
 *
 *   run   {"command", "label", "result", "series": [{"label", "result"}], "ratios", "threshold"}
 *         or {"title", "tables": [{"title", "rows": [[text]]}],
 *             "loads": [{"title", "points": [{"label", "result"}]}]}
 *         and in both "provenance" and "floor"
 *   page  tables and ratios of each run; of each load of all runs its table and curves; the floor
 *         of each run, and where and when it was
 *
 * All vertical axes are logarithmic: latency spans decades. Colours come from CSS, so that the page
 * is readable in dark and light.
 *
 * Failure modes: what is missing in a run is not shown; more than the arena holds is left out. */
#include "broker/bench/page.h"

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
#define KNEE_MIN   3u

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
    ".met{color:var(--2)}.missed{color:var(--1);font-weight:bold}\n"
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
    text_add(t, "<h3>%s</h3>\n<svg viewBox=\"0 0 %g %g\" role=img>", title, WIDTH, HEIGHT);
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

/* ---- what there is --------------------------------------------------------------------------- */

struct point {
    const char *label, *run; /* run: NULL where there is only one */
    const struct json *result, *latency;
    struct point *next;
};

struct load {
    const char *title;
    struct point *first, **last;
    uint32_t count;
    bool swept; /* its points differ in how much they ask for */
    struct load *next;
};

static struct load *load_of(struct load **all, struct arena *arena, const char *title)
{
    for (; *all != NULL; all = &(*all)->next)
        if (strcmp((*all)->title, title) == 0)
            return *all;
    struct load *l = arena_array(arena, 1, sizeof(*l));
    if (l != NULL) {
        l->title = title;
        l->last = &l->first;
        *all = l;
    }
    return l;
}

/* The latency that a result is judged by: end to end where somebody reads, else the response. */
static const struct json *latency_of(const struct json *result)
{
    const struct json *all = json_find(result, "latency");
    const struct json *e2e = json_find(all, "end_to_end");
    return e2e != NULL ? e2e : json_find(all, "response");
}

static void point_add(struct load *l, struct arena *arena, const struct json *j, const char *run)
{
    struct point *p = l == NULL ? NULL : arena_array(arena, 1, sizeof(*p));
    const struct json *result = json_find(j, "result");
    if (p == NULL || result == NULL)
        return;
    *p = (struct point){json_string(j, "label"), run, result, latency_of(result), NULL};
    *l->last = p;
    l->last = &p->next;
    l->count++;
}

static struct load *loads_find(struct arena *arena, const struct page_run *runs, uint32_t count)
{
    struct load *all = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct json *run = runs[i].json;
        const char *name = count > 1 ? runs[i].name : NULL;
        const struct json *loads = json_first(json_find(run, "loads"));
        for (const struct json *l = loads; l != NULL; l = l->next) {
            struct load *load = load_of(&all, arena, json_string(l, "title"));
            for (const struct json *p = json_first(json_find(l, "points")); p != NULL; p = p->next)
                point_add(load, arena, p, name);
        }
        if (loads != NULL || json_find(run, "result") == NULL)
            continue;
        struct load *load = load_of(&all, arena, json_string(run, "command"));
        point_add(load, arena, run, name);
        for (const struct json *p = json_first(json_find(run, "series")); p != NULL; p = p->next)
            point_add(load, arena, p, name);
        if (load != NULL)
            load->swept = count == 1 && json_find(run, "ratios") == NULL && load->count >= KNEE_MIN;
    }
    return all;
}

static void point_name(struct text *t, const struct point *p)
{
    escaped(t, p->label);
    if (p->run != NULL) {
        text_add(t, " (");
        escaped(t, p->run);
        text_add(t, ")");
    }
}

/* In ns, from the buckets: the upper bound of the one that holds it. */
static double quantile(const struct json *h, double q)
{
    double rank = ceil(q * json_number(h, "count")), seen = 0;
    const struct json *bucket = json_first(json_find(h, "buckets_ns"));
    if (q >= 1)
        return json_number(h, "max_us") * 1e3;
    for (; bucket != NULL; bucket = bucket->next) {
        const struct json *upper = json_first(bucket);
        if (upper == NULL || upper->next == NULL)
            continue; /* not what bench writes */
        seen += upper->next->number;
        if (seen >= MAX(rank, 1))
            return upper->number;
    }
    return 0;
}

static double rate_of(const struct json *result)
{
    const struct json *counts = json_find(result, "counts");
    bool reads = json_number(counts, "records") <= 0;
    double seconds = json_number(result, reads ? "read_seconds" : "seconds");
    double records = json_number(counts, reads ? "read_records" : "records");
    return records / (seconds > 0 ? seconds : MAX(json_number(result, "seconds"), 1e-9));
}

/* ---- curves ---------------------------------------------------------------------------------- */

static void legend(struct text *t, const struct load *l)
{
    uint32_t i = 0;
    text_add(t, "<p>");
    for (const struct point *p = l->first; p != NULL && i < CURVES_MAX; p = p->next, i++) {
        text_add(t,
                 "<svg viewBox=\"0 0 20 10\" style=\"width:20px;height:10px\">"
                 "<line class=\"l c%u%s\" x1=0 x2=20 y1=5 y2=5 /></svg> ",
                 i % COLOURS, i < COLOURS ? "" : " d");
        point_name(t, p);
        text_add(t, " &nbsp; ");
    }
    text_add(t, "</p>\n");
}

/* -log10 of the share that is slower: 0, 1 (90 %), 2 (99 %) ... */
static void percentiles(struct text *t, const struct load *l)
{
    static const char *const names[] = {"0",       "90 %",     "99 %",     "99.9 %",
                                        "99.99 %", "99.999 %", "99.9999 %"};
    struct axes a = axes_empty(0, 1);
    uint32_t colour = 0;
    for (const struct point *p = l->first; p != NULL; p = p->next) {
        double count = json_number(p->latency, "count");
        if (count <= 0)
            continue;
        axes_cover(&a, quantile(p->latency, 0));
        axes_cover(&a, quantile(p->latency, 1));
        a.x_max = MAX(a.x_max, MIN(NINES_MAX, ceil(log10(count))));
    }
    figure_begin(t, &a, "Percentiles", "share of requests that were faster");
    for (uint32_t n = 0; n <= (uint32_t)a.x_max; n++)
        tick(t, &a, n, names[n]);
    for (const struct point *p = l->first; p != NULL && colour < CURVES_MAX; p = p->next) {
        double count = json_number(p->latency, "count");
        double most = count > 0 ? MIN(a.x_max, log10(count)) : -1;
        text_add(t, "<polyline class=\"l c%u%s\" points=\"", colour % COLOURS,
                 colour < COLOURS ? "" : " d");
        colour++;
        for (double x = 0; x <= most; x += 0.05)
            text_add(t, "%.1f,%.1f ", place_x(&a, x),
                     place_y(&a, quantile(p->latency, 1 - pow(10, -x))));
        text_add(t, "\"/>");
    }
    figure_end(t);
}

enum { SLICE_P50 = 2, SLICE_P99 = 3 }; /* of [records, records read, p50 us, p99 us, longest] */

static double slice_ns(const struct json *slice, uint32_t which)
{
    const struct json *item = json_first(slice);
    for (uint32_t i = 0; i < which && item != NULL; i++)
        item = item->next;
    return item == NULL ? 0 : item->number * 1e3;
}

static void line_over_time(struct text *t, const struct axes *a, const struct json *result,
                           uint32_t which, uint32_t colour)
{
    double at = 0.5, wide = json_number(result, "slice_s");
    text_add(t, "<polyline class=\"l c%u %s\" points=\"", colour % COLOURS,
             which == SLICE_P50 ? "d" : "");
    for (const struct json *s = json_first(json_find(result, "slices")); s != NULL; s = s->next) {
        double ns = slice_ns(s, which);
        if (ns > 0 && at * wide <= a->x_max)
            text_add(t, "%.1f,%.1f ", place_x(a, at * wide), place_y(a, ns));
        at++;
    }
    text_add(t, "\"/>");
}

static void over_time(struct text *t, const struct load *l)
{
    char number[TEXT_NUMBER_SIZE];
    struct axes a = axes_empty(0, 0);
    uint32_t slices = 0, colour = 0;
    for (const struct point *p = l->first; p != NULL; p = p->next) {
        const struct json *s = json_first(json_find(p->result, "slices"));
        a.x_max = MAX(a.x_max, json_number(p->result, "seconds"));
        for (; s != NULL; s = s->next) {
            /* A load that ended by its number of records may have been shorter than a slice. */
            if (slice_ns(s, SLICE_P99) <= 0 ||
                json_number(p->result, "slice_s") > json_number(p->result, "seconds"))
                continue;
            slices++;
            axes_cover(&a, slice_ns(s, SLICE_P50));
            axes_cover(&a, slice_ns(s, SLICE_P99));
        }
    }
    if (slices == 0)
        return;
    figure_begin(t, &a, "Latency over time: p99, and p50 dashed", "seconds of the window");
    for (uint32_t i = 0; i <= 5; i++)
        tick(t, &a, a.x_max * i / 5, text_decimal(number, a.x_max * i / 5));
    for (const struct point *p = l->first; p != NULL && colour < CURVES_MAX; p = p->next) {
        line_over_time(t, &a, p->result, SLICE_P99, colour);
        line_over_time(t, &a, p->result, SLICE_P50, colour++);
    }
    figure_end(t);
}

static void knee(struct text *t, const struct load *l)
{
    static const double shown[] = {0.5, 0.99, 0.999};
    static const char *const names[] = {"p50", "p99", "p99.9"};
    char number[TEXT_NUMBER_SIZE];
    struct axes a = axes_empty(0, 0);
    for (const struct point *p = l->first; p != NULL; p = p->next) {
        a.x_max = MAX(a.x_max, rate_of(p->result));
        for (uint32_t q = 0; q < 3; q++)
            axes_cover(&a, quantile(p->latency, shown[q]));
    }
    figure_begin(t, &a, "Latency over throughput", "records per second");
    for (uint32_t i = 0; i <= 5; i++)
        tick(t, &a, a.x_max * i / 5, text_decimal(number, a.x_max * i / 5));
    for (uint32_t q = 0; q < 3; q++) {
        for (const struct point *p = l->first; p != NULL; p = p->next) {
            text_add(t, "<circle class=f%u cx=%.1f cy=%.1f r=3.5><title>", q,
                     place_x(&a, rate_of(p->result)), place_y(&a, quantile(p->latency, shown[q])));
            point_name(t, p);
            text_add(t, " %s</title></circle>", names[q]);
        }
        text_add(t, "<text class=f%u x=%g y=%g style=\"fill:var(--%u)\">%s</text>", q,
                 LEFT + 10 + 50 * q, TOP + 12, q, names[q]);
    }
    figure_end(t);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void duration_cell(struct text *t, const struct json *h, const char *key)
{
    char number[TEXT_NUMBER_SIZE];
    double us = json_number(h, key);
    text_add(t, "<td>%s", us > 0 ? text_duration(number, (uint64_t)(us * 1e3)) : "-");
}

static void decimal_cell(struct text *t, double value)
{
    char number[TEXT_NUMBER_SIZE];
    text_add(t, "<td>%s", value > 0 ? text_decimal(number, value) : "-");
}

static void load_rows(struct text *t, const struct load *l)
{
    static const char *const keys[] = {"p50_us", "p99_us", "p99.9_us", "p99.99_us", "max_us"};
    text_add(t, "<table><tr><th><th>records/s<th>MB/s<th>p50<th>p99<th>p99.9<th>p99.99<th>max"
                "<th>CPU-s/GB<th>records\n");
    for (const struct point *p = l->first; p != NULL; p = p->next) {
        const struct json *counts = json_find(p->result, "counts");
        const struct json *sound = json_find(json_find(p->result, "verified"), "sound");
        bool reads = json_number(counts, "records") <= 0;
        double records = json_number(counts, reads ? "read_records" : "records");
        double bytes = json_number(counts, reads ? "read_bytes" : "bytes");
        double rate = rate_of(p->result);
        text_add(t, "<tr><td>");
        point_name(t, p);
        decimal_cell(t, rate);
        decimal_cell(t, records > 0 ? rate * bytes / records / 1e6 : 0);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            duration_cell(t, p->latency, keys[i]);
        decimal_cell(t, json_number(json_find(p->result, "cost"), "broker_cpu_s_per_gb"));
        text_add(t, "<td>%s\n",
                 sound == NULL         ? "-"
                 : sound->number > 0.5 ? "sound"
                                       : "<b class=missed>NOT SOUND</b>");
    }
    text_add(t, "</table>\n");
}

/* What two brokers' turns say together, also where the first one loses. */
static void ratios(struct text *t, const struct json *run)
{
    const struct json *all = json_find(run, "ratios");
    double worst = 1 / (1 + json_number(run, "threshold"));
    if (all == NULL)
        return;
    text_add(t, "<h2>Ratios</h2><p>Above 1: ");
    escaped(t, json_string(run, "label"));
    text_add(t, " is better.</p>\n<table><tr><th><th>ratio<th>95 %% confidence<th>\n");
    for (const struct json *r = all->first; r != NULL; r = r->next) {
        const struct json *mean = r->first, *low = mean == NULL ? NULL : mean->next;
        const struct json *high = low == NULL ? NULL : low->next;
        if (high == NULL)
            continue;
        text_add(t, "<tr><td>%s<td>%.3fx<td>%.3f .. %.3f", r->key, mean->number, low->number,
                 high->number);
        if (high->number < 1)
            text_add(t, "<td class=missed>%s\n", high->number < worst ? "REGRESSION" : "worse");
        else
            text_add(t, "<td class=met>%s\n", low->number > 1 ? "better" : "");
    }
    text_add(t, "</table>\n");
}

/* The first row is the head. What was met or missed says so in colour, both alike. */
static void table(struct text *t, const struct json *j)
{
    const char *cell = "th";
    text_add(t, "<h2>");
    escaped(t, json_string(j, "title"));
    text_add(t, "</h2>\n<table>");
    for (const struct json *row = json_first(json_find(j, "rows")); row != NULL; row = row->next) {
        text_add(t, "<tr>");
        for (const struct json *c = json_first(row); c != NULL; c = c->next) {
            const char *class = strncmp(c->string, "missed", 6) == 0 ? " class=missed"
                                : strncmp(c->string, "met", 3) == 0  ? " class=met"
                                                                     : "";
            text_add(t, "<%s%s>", cell, class);
            escaped(t, c->string);
        }
        text_add(t, "\n");
        cell = "td";
    }
    text_add(t, "</table>\n");
}

static void floor_row(struct text *t, const char *name, double depth, const struct json *h)
{
    static const char *const keys[] = {"p50_us", "p99_us", "p99.9_us", "max_us"};
    if (h == NULL)
        return;
    text_add(t, "<tr><td>");
    text_add(t, depth > 0 ? "%s, %g deep" : "%s", name, depth);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        duration_cell(t, h, keys[i]);
    text_add(t, "\n");
}

static void floor_rows(struct text *t, const struct json *floor)
{
    char name[32];
    uint32_t cpu = 0;
    if (floor == NULL)
        return;
    text_add(t, "<h3>What this machine does without a broker</h3>\n"
                "<table><tr><th><th>p50<th>p99<th>p99.9<th>max\n");
    for (const struct json *h = json_first(json_find(floor, "clock_gaps")); h != NULL;
         h = h->next) {
        (void)snprintf(name, sizeof(name), "clock gaps, CPU %u", cpu++);
        floor_row(t, name, 0, h);
    }
    floor_row(t, "1 ms timer, late by", 0, json_find(floor, "timer"));
    floor_row(t, "loopback round trip", 0, json_find(floor, "loopback"));
    const struct json *writes = json_first(json_find(floor, "writes"));
    for (const struct json *w = writes; w != NULL; w = w->next)
        floor_row(t, "4 KiB write", json_number(w, "depth"), json_find(w, "plain"));
    for (const struct json *w = writes; w != NULL; w = w->next)
        floor_row(t, "4 KiB write+sync", json_number(w, "depth"), json_find(w, "synced"));
    text_add(t, "</table>\n");
}

/* ---- page ------------------------------------------------------------------------------------ */

static void load_show(struct text *t, const struct load *l)
{
    bool curves = false;
    for (const struct point *p = l->first; p != NULL; p = p->next)
        curves |= json_number(p->latency, "count") > 0;
    text_add(t, "<h2>");
    escaped(t, l->title);
    text_add(t, "</h2>\n<pre>");
    escaped(t, l->first == NULL ? "" : json_string(l->first->result, "about"));
    text_add(t, "</pre>\n");
    load_rows(t, l);
    if (!curves)
        return;
    legend(t, l);
    percentiles(t, l);
    over_time(t, l);
    if (l->swept)
        knee(t, l);
}

static void whereabouts(struct text *t, const struct page_run *run, const char *key, bool named)
{
    const struct json *all = json_first(json_find(run->json, key));
    if (all == NULL)
        return;
    text_add(t, "<h2>Where and when");
    if (named) {
        text_add(t, ": ");
        escaped(t, run->name);
    }
    text_add(t, "</h2>\n<table>");
    for (const struct json *j = all; j != NULL; j = j->next) {
        text_add(t, "<tr><td>");
        escaped(t, j->key);
        text_add(t, "<td style=\"text-align:left\">");
        if (j->kind == JSON_NUMBER)
            text_add(t, "%.15g\n", j->number);
        else
            escaped(t, j->string);
    }
    text_add(t, "</table>\n");
}

void page_html(struct text *t, struct arena *arena, const struct page_run *runs, uint32_t count,
               const char *title)
{
    text_add(t, "%s<title>", style);
    escaped(t, title);
    text_add(t, "</title><h1>");
    escaped(t, title);
    text_add(t, "</h1>\n");
    for (uint32_t i = 0; i < count; i++) {
        const struct json *tables = json_first(json_find(runs[i].json, "tables"));
        for (const struct json *j = tables; j != NULL; j = j->next)
            table(t, j);
        ratios(t, runs[i].json);
    }
    for (const struct load *l = loads_find(arena, runs, count); l != NULL; l = l->next)
        load_show(t, l);
    for (uint32_t i = 0; i < count; i++) {
        whereabouts(t, &runs[i], "provenance", count > 1);
        whereabouts(t, &runs[i], "provenance_versus", count > 1);
        floor_rows(t, json_find(runs[i].json, "floor"));
    }
}
