/* The table, the plot of the terminal, and the JSON of one result.
 *
 *   produce  acks=all  1 x 1,024 B  20,000/s  10 s  4 connections x 5  16 partitions  open loop
 *                       p50      p90      p99    p99.9   p99.99      max
 *   response         181 us   236 us   402 us   880 us   1.9 ms   3.1 ms
 *   service  ...
 *
 * Latencies come from merged histograms: the upper bound of the bucket, at most 1/16 too large. */
#include "broker/bench/report.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"

#define COLUMNS    80u
#define GAP        "  "
#define PLOT_ROWS  6u
#define PLOT_CELLS 60u
#define BLOCKS     8u

static const char *const kinds[BENCH_KINDS] = {"produce",     "consume", "e2e",   "catch-up",
                                               "connections", "txn",     "groups"};
static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999, 1};
static const char *const quantile_names[] = {"p50", "p90", "p99", "p99.9", "p99.99", "max"};
#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static bool writes(const struct bench_options *o)
{
    return o->kind == BENCH_PRODUCE || o->kind == BENCH_E2E || o->kind == BENCH_CATCH_UP ||
           o->kind == BENCH_TXN;
}

static bool reads(const struct bench_options *o)
{
    return o->kind == BENCH_CONSUME || o->kind == BENCH_E2E || o->kind == BENCH_CATCH_UP ||
           (o->kind == BENCH_TXN && o->consumers > 0);
}

/* Two blanks between its parts. */
static void head_put(struct text *t, const struct bench_result *r)
{
    const struct bench_options *o = &r->options;
    char a[TEXT_NUMBER_SIZE], b[TEXT_NUMBER_SIZE];
    text_add(t, "%s %s", kinds[o->kind], o->brokers);
    if (writes(o)) {
        text_add(t, "  acks=%s", o->acks == 0 ? "0" : o->acks == 1 ? "1" : "all");
        text_add(t, "  %u x %s B", o->records, text_count(a, o->size));
        if (o->codec != CODEC_NONE)
            text_add(t, " %s", codec_name(o->codec));
        if (o->batches > 1)
            text_add(t, "  %u batches/request", o->batches);
        text_add(t, "%s%s", o->idempotent ? "  idempotent" : "", o->keys > 0 ? "  keyed" : "");
        if (o->kind == BENCH_TXN)
            text_add(t, "  generation %u", o->generation);
        if (o->aborts > 0)
            text_add(t, "  %g%% aborted", o->aborts * 100);
    }
    if (o->kind == BENCH_GROUPS)
        text_add(t, "  %u members, %s protocol", o->connections,
                 o->consumer_protocol ? "consumer" : "classic");
    if (o->rate > 0)
        text_add(t, "  %s/s", text_decimal(b, o->rate));
    text_add(t, "  %g s  %u connection%s", r->seconds,
             o->kind == BENCH_CONSUME ? o->consumers : o->connections,
             o->connections == 1 ? "" : "s");
    if (writes(o) && o->kind != BENCH_TXN)
        text_add(t, " x %u", o->in_flight);
    if (r->partitions_count > 0)
        text_add(t, "  %u partitions", r->partitions_count);
    text_add(t, "  %s loop", o->rate > 0 ? "open" : "closed");
}

void report_head(struct text *t, const struct bench_result *r)
{
    struct text head;
    size_t column = 0;
    text_init(&head, t->mem);
    head_put(&head, r);
    for (const char *at = head.data == NULL ? "" : head.data; *at != '\0';) {
        const char *end = strstr(at, GAP);
        size_t size = end == NULL ? strlen(at) : (size_t)(end - at);
        if (column > 0 && column + strlen(GAP) + size > COLUMNS) {
            text_add(t, "\n");
            column = 0;
        }
        text_add(t, "%s%.*s", at == head.data ? "" : GAP, (int)size, at);
        column += (at == head.data ? 0 : strlen(GAP)) + size;
        at += size + (end == NULL ? 0 : strlen(GAP));
    }
    text_add(t, "\n");
    text_free(&head);
}

static void latency_row(struct text *t, const char *name, const struct histogram *h)
{
    char number[TEXT_NUMBER_SIZE];
    text_add(t, " %-13s", name);
    for (size_t i = 0; i < QUANTILES; i++)
        text_add(t, " %10s",
                 h->count == 0 ? "-" : text_duration(number, histogram_quantile(h, quantiles[i])));
    text_add(t, "\n");
}

static void throughput_lines(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    const struct bench_options *o = &r->options;
    char a[TEXT_NUMBER_SIZE], b[TEXT_NUMBER_SIZE], d[TEXT_NUMBER_SIZE];
    if (writes(o))
        text_add(t, " produced      %s records/s  %s/s  %s %s/s\n",
                 text_decimal(a, (double)c->records / r->seconds),
                 text_bytes(b, (double)c->bytes / r->seconds),
                 text_decimal(d, (double)c->requests / r->seconds),
                 o->kind == BENCH_TXN ? "transactions" : "requests");
    double seconds = o->kind == BENCH_CONSUME && r->read_seconds > 0 ? r->read_seconds : r->seconds;
    if (reads(o))
        text_add(t, " consumed      %s records/s  %s/s  %s fetches\n",
                 text_decimal(a, (double)c->read_records / seconds),
                 text_bytes(b, (double)c->read_bytes / seconds), text_count(d, c->fetches));
    if (o->kind == BENCH_GROUPS)
        text_add(t, " committed     %s offsets/s\n",
                 text_decimal(a, (double)c->records / r->seconds));
    if (o->kind == BENCH_CATCH_UP)
        text_add(t, " caught up     after %.2f s\n", r->read_seconds);
    if (o->kind == BENCH_CONNECTIONS)
        text_add(t, " opened        %s connections\n", text_count(a, c->opened));
}

static void cost_lines(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    const struct usage *a = &r->begin, *b = &r->end;
    double bytes = (double)c->bytes + (reads(&r->options) ? (double)c->read_bytes : 0);
    double records = (double)c->records + (reads(&r->options) ? (double)c->read_records : 0);
    double user = b->user - a->user, system = b->system - a->system, cpu = usage_cpu(a, b);
    char n[6][TEXT_NUMBER_SIZE];
    if (r->options.pid > 0) {
        text_add(t, " broker        %.2f CPUs (%.2f user, %.2f system)  rss %s, peak %s\n",
                 cpu / r->seconds, user / r->seconds, system / r->seconds,
                 text_bytes(n[0], (double)b->resident), text_bytes(n[1], (double)b->resident_peak));
        text_add(t, "               busiest thread %.2f  %s CPU-s/GB  %s CPU-s/million records\n",
                 usage_busiest(a, b) / r->seconds,
                 text_decimal(n[0], bytes > 0 ? cpu / bytes * 1e9 : 0),
                 text_decimal(n[1], records > 0 ? cpu / records * 1e6 : 0));
        double switches = (double)(b->switches - a->switches) +
                          (double)(b->switches_voluntary - a->switches_voluntary);
        text_add(t, "               wrote %s (%s per byte)  %s switches/s\n",
                 text_bytes(n[2], (double)(b->written - a->written)),
                 text_decimal(
                     n[3], c->bytes > 0 ? (double)(b->written - a->written) / (double)c->bytes : 0),
                 text_decimal(n[4], switches / r->seconds));
    }
    double machine = (b->machine - a->machine) / r->seconds;
    double self = (b->self - a->self) / r->seconds;
    text_add(t, " machine       %.2f CPUs busy, %.2f of them this program\n", machine, self);
}

static void verified_line(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    char n[6][TEXT_NUMBER_SIZE];
    if (r->options.kind == BENCH_CONNECTIONS)
        return;
    if (r->options.kind == BENCH_GROUPS)
        text_add(t, " verified      %s commits acknowledged, %s of them missing in %s groups\n",
                 text_count(n[0], c->acknowledged), text_count(n[1], c->lost),
                 text_count(n[2], c->checked));
    if (reads(&r->options))
        text_add(t,
                 " verified      %s records read: %s lost, %s repeated, %s out of order,\n"
                 "               %s damaged%s\n",
                 text_count(n[0], c->checked), text_count(n[1], c->lost),
                 text_count(n[2], c->repeated), text_count(n[3], c->disordered),
                 text_count(n[4], c->damaged),
                 c->checked > 0 ? "" : "; they carry no sequence numbers");
    if (c->foreign > 0)
        text_add(t, "               %s more carry no sequence numbers\n",
                 text_count(n[0], c->foreign));
    if (writes(&r->options) && r->options.acks != 0 && r->options.kind != BENCH_TXN)
        text_add(t, " offsets       %s records acknowledged, %s\n",
                 text_count(n[5], c->acknowledged),
                 r->partitions_broken == 0 && c->misplaced == 0 && c->errors == 0
                     ? "every offset given once"
                     : "NOT as they should be");
}

void report_table(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    text_add(t, " %-13s", "");
    for (size_t i = 0; i < QUANTILES; i++)
        text_add(t, " %10s", quantile_names[i]);
    text_add(t, "\n");
    for (uint32_t i = 0; i < LATENCIES; i++) {
        bool shown = c->latency[i].count > 0 &&
                     (i != LATENCY_FETCH || r->options.kind == BENCH_CONSUME) &&
                     (r->options.rate > 0 || (i != LATENCY_SLIP && i != LATENCY_SERVICE));
        if (shown)
            latency_row(t, bench_latency_names[i], &c->latency[i]);
    }
    throughput_lines(t, r);
    cost_lines(t, r);
    verified_line(t, r);
}

void report_wrong(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    if (bench_result_sound(r))
        return;
    if (c->errors > 0)
        text_add(t, "%llu %s were refused, the first with %s; ", (unsigned long long)c->errors,
                 r->options.kind == BENCH_GROUPS ? "commits" : "batches",
                 kafka_error_name((enum kafka_error)c->first_error));
    if (c->misplaced > 0 && r->options.kind == BENCH_TXN)
        text_add(t, "there lie not as many records and ends as transactions made; ");
    else if (c->misplaced > 0)
        text_add(t, "%llu offsets are out of place; ", (unsigned long long)c->misplaced);
    if (r->partitions_broken > 0)
        text_add(t, "%u partitions do not hold what was acknowledged; ", r->partitions_broken);
    uint64_t wrong = c->lost + c->repeated + c->disordered + c->damaged;
    if (wrong > 0)
        text_add(t, "%s: %llu lost, %llu repeated, %llu out of order, %llu damaged; ",
                 r->options.kind == BENCH_GROUPS ? "commits" : "records",
                 (unsigned long long)c->lost, (unsigned long long)c->repeated,
                 (unsigned long long)c->disordered, (unsigned long long)c->damaged);
    t->size -= MIN(t->size, 2); /* the last separator */
    if (t->data != NULL)
        t->data[t->size] = '\0';
}

/* ---- plot ------------------------------------------------------------------------------------ */

static const struct histogram *slice_latency(const struct bench_result *r, uint32_t slice)
{
    const struct bench_slice *s = &r->slices[slice];
    return r->counts.latency[LATENCY_E2E].count > 0 ? &s->e2e : &s->response;
}

/* One character row: what of each column's height lies in it. */
static void plot_row(struct text *t, const double *heights, uint32_t columns, uint32_t row)
{
    static const char *const blocks[BLOCKS + 1] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                                   "\u2585", "\u2586", "\u2587", "\u2588"};
    for (uint32_t i = 0; i < columns; i++) {
        double inside = heights[i] * PLOT_ROWS - (double)(PLOT_ROWS - 1 - row);
        int eighths = (int)(inside * BLOCKS + 0.5);
        text_add(t, "%s", blocks[eighths < 0 ? 0 : MIN((uint32_t)eighths, BLOCKS)]);
    }
}

void report_plot(struct text *t, const struct bench_result *r)
{
    double heights[PLOT_CELLS];
    char number[TEXT_NUMBER_SIZE];
    uint64_t highest = 0;
    uint32_t columns = MIN(r->slices_count, PLOT_CELLS);
    for (uint32_t i = 0; i < columns; i++)
        highest = MAX(highest, histogram_quantile(slice_latency(r, i), 0.99));
    if (columns < 2 || highest == 0)
        return;
    for (uint32_t i = 0; i < columns; i++)
        heights[i] = (double)histogram_quantile(slice_latency(r, i), 0.99) / (double)highest;
    for (uint32_t row = 0; row < PLOT_ROWS; row++) {
        uint64_t edge = highest * (PLOT_ROWS - row) / PLOT_ROWS;
        text_add(t, " %9s |", row == 0 || row == PLOT_ROWS / 2 ? text_duration(number, edge) : "");
        plot_row(t, heights, columns, row);
        text_add(t, "\n");
    }
    text_add(t, " %9s +", "p99");
    for (uint32_t i = 0; i < columns; i++)
        text_put(t, "-", 1);
    text_add(t, " %.3g s\n", (double)columns * (double)r->slice_ns / (double)NS_PER_S);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_options(struct text *t, const struct bench_result *r)
{
    const struct bench_options *o = &r->options;
    text_json_open(t, "options", '{');
    text_json_string(t, "brokers", o->brokers);
    text_json_string(t, "topic", o->topic);
    text_json_string(t, "loop", o->rate > 0 ? "open" : "closed");
    text_json_number(t, "rate", o->rate);
    text_json_number(t, "seconds", o->seconds);
    text_json_number(t, "warmup", o->warmup);
    text_json_integer(t, "threads", o->threads);
    text_json_integer(t, "connections", o->connections);
    text_json_integer(t, "consumers", o->consumers);
    text_json_integer(t, "in_flight", o->in_flight);
    text_json_integer(t, "records", o->records);
    text_json_integer(t, "size", o->size);
    text_json_integer(t, "batches", o->batches);
    text_json_integer(t, "keys", o->keys);
    text_json_number(t, "acks", o->acks);
    text_json_string(t, "codec", codec_name(o->codec));
    text_json_boolean(t, "idempotent", o->idempotent);
    text_json_integer(t, "seed", o->seed);
    text_json_integer(t, "backlog", o->backlog);
    text_json_number(t, "aborts", o->aborts);
    text_json_integer(t, "generation", o->generation);
    text_json_string(t, "protocol", o->consumer_protocol ? "consumer" : "classic");
    text_json_integer(t, "partitions", r->partitions_count);
    text_json_close(t, '}');
}

static void json_histogram(struct text *t, const char *key, const struct histogram *h)
{
    char name[16];
    text_json_open(t, key, '{');
    text_json_integer(t, "count", h->count);
    text_json_number(t, "mean_us", h->count == 0 ? 0 : (double)h->sum / (double)h->count / 1e3);
    for (size_t i = 0; i < QUANTILES; i++) {
        (void)snprintf(name, sizeof(name), "%s_us", quantile_names[i]);
        text_json_number(t, name, (double)histogram_quantile(h, quantiles[i]) / 1e3);
    }
    text_json_open(t, "buckets_ns", '[');
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (h->buckets[i] == 0)
            continue;
        text_json_open(t, NULL, '[');
        text_json_integer(t, NULL, histogram_upper(i));
        text_json_integer(t, NULL, h->buckets[i]);
        text_json_close(t, ']');
    }
    text_json_close(t, ']');
    text_json_close(t, '}');
}

static void json_counts(struct text *t, const struct bench_counts *c)
{
    text_json_open(t, "counts", '{');
    text_json_integer(t, "requests", c->requests);
    text_json_integer(t, "batches", c->batches);
    text_json_integer(t, "records", c->records);
    text_json_integer(t, "bytes", c->bytes);
    text_json_integer(t, "acknowledged", c->acknowledged);
    text_json_integer(t, "fetches", c->fetches);
    text_json_integer(t, "read_records", c->read_records);
    text_json_integer(t, "read_bytes", c->read_bytes);
    text_json_integer(t, "opened", c->opened);
    text_json_integer(t, "retried", c->retried);
    text_json_close(t, '}');
}

static void json_verified(struct text *t, const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    text_json_open(t, "verified", '{');
    text_json_boolean(t, "sound", bench_result_sound(r));
    text_json_integer(t, "checked", c->checked);
    text_json_integer(t, "foreign", c->foreign);
    text_json_integer(t, "lost", c->lost);
    text_json_integer(t, "repeated", c->repeated);
    text_json_integer(t, "disordered", c->disordered);
    text_json_integer(t, "damaged", c->damaged);
    text_json_integer(t, "errors", c->errors);
    text_json_integer(t, "misplaced", c->misplaced);
    text_json_integer(t, "partitions_broken", r->partitions_broken);
    text_json_close(t, '}');
}

static void json_cost(struct text *t, const struct bench_result *r)
{
    const struct usage *a = &r->begin, *b = &r->end;
    const struct bench_counts *c = &r->counts;
    double bytes = (double)c->bytes + (double)c->read_bytes;
    double records = (double)c->records + (double)c->read_records;
    double cpu = usage_cpu(a, b);
    text_json_open(t, "cost", '{');
    text_json_number(t, "machine_cpu_s", b->machine - a->machine);
    text_json_number(t, "generator_cpu_s", b->self - a->self);
    if (r->options.pid > 0) {
        text_json_number(t, "broker_user_s", b->user - a->user);
        text_json_number(t, "broker_system_s", b->system - a->system);
        text_json_number(t, "broker_cpu_s", cpu);
        text_json_number(t, "broker_busiest_thread_s", usage_busiest(a, b));
        text_json_number(t, "broker_cpu_s_per_gb", bytes > 0 ? cpu / bytes * 1e9 : 0);
        text_json_number(t, "broker_cpu_s_per_million", records > 0 ? cpu / records * 1e6 : 0);
        text_json_integer(t, "broker_rss_bytes", b->resident);
        text_json_integer(t, "broker_rss_peak_bytes", b->resident_peak);
        text_json_integer(t, "broker_rss_before_bytes", a->resident);
        text_json_integer(t, "broker_written_bytes", b->written - a->written);
        text_json_integer(t, "broker_read_bytes", b->read - a->read);
        text_json_integer(t, "broker_switches_voluntary",
                          b->switches_voluntary - a->switches_voluntary);
        text_json_integer(t, "broker_switches_forced", b->switches - a->switches);
        text_json_integer(t, "broker_threads", b->threads);
    }
    text_json_close(t, '}');
}

static void json_slices(struct text *t, const struct bench_result *r)
{
    text_json_open(t, "slices", '[');
    for (uint32_t i = 0; i < r->slices_count; i++) {
        const struct bench_slice *s = &r->slices[i];
        const struct histogram *h = slice_latency(r, i);
        text_json_open(t, NULL, '[');
        text_json_integer(t, NULL, s->records);
        text_json_integer(t, NULL, s->read_records);
        text_json_number(t, NULL, (double)histogram_quantile(h, 0.5) / 1e3);
        text_json_number(t, NULL, (double)histogram_quantile(h, 0.99) / 1e3);
        text_json_number(t, NULL, (double)h->max / 1e3);
        text_json_close(t, ']');
    }
    text_json_close(t, ']');
}

void report_json_result(struct text *t, const char *key, const struct bench_result *r)
{
    static const char *const names[LATENCIES] = {"response", "service", "slip",     "end_to_end",
                                                 "fetch",    "ending",  "heartbeat"};
    text_json_open(t, key, '{');
    text_json_string(t, "kind", kinds[r->options.kind]);
    struct text about;
    text_init(&about, t->mem);
    report_head(&about, r);
    text_json_string(t, "about", about.data == NULL ? "" : about.data);
    text_free(&about);
    json_options(t, r);
    text_json_number(t, "seconds", r->seconds);
    text_json_number(t, "read_seconds", r->read_seconds);
    text_json_number(t, "records_per_s", (double)r->counts.records / r->seconds);
    text_json_number(t, "bytes_per_s", (double)r->counts.bytes / r->seconds);
    text_json_integer(t, "produce_version", (uint64_t)r->produce_version);
    text_json_integer(t, "fetch_version", (uint64_t)r->fetch_version);
    text_json_open(t, "latency", '{');
    for (uint32_t i = 0; i < LATENCIES; i++)
        if (r->counts.latency[i].count > 0)
            json_histogram(t, names[i], &r->counts.latency[i]);
    text_json_close(t, '}');
    json_counts(t, &r->counts);
    json_verified(t, r);
    json_cost(t, r);
    text_json_number(t, "slice_s", (double)r->slice_ns / (double)NS_PER_S);
    json_slices(t, r);
    text_json_close(t, '}');
}
