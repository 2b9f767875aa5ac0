/* What `torc stat` shows of a sum: a line of JSON for programs, a table of 80 columns for people.
 *
 * Failure modes: no memory for the text: text.failed, and nothing is shown. */
#include <stdio.h>
#include <string.h>

#include "broker/bench/text.h"
#include "broker/cli/commit.h"
#include "broker/cli/version.h"
#include "broker/stat.h"
#include "proto/gen/api.h"

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_histogram(struct text *t, const char *key, const struct histogram *h)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 1};
    static const char *const names[] = {"p50", "p90", "p99", "p999", "max"};
    text_json_open(t, key, '{');
    text_json_integer(t, "count", h->count);
    text_json_integer(t, "sum", h->sum);
    for (uint32_t i = 0; i < 5; i++)
        text_json_integer(t, names[i], histogram_quantile(h, quantiles[i]));
    text_json_close(t, '}');
}

/* Legs that travelled while the cores were asked may be missed: never less than none. */
static uint64_t shown(int64_t count)
{
    return (uint64_t)MAX(count, 0);
}

static uint64_t under_way(const int64_t *current)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < TRIP_HOME_STAGES; i++)
        sum += shown(current[i]);
    return sum;
}

static void json_stages(struct text *t, const int64_t *current)
{
    text_json_integer(t, "requests", under_way(current));
    text_json_open(t, "stages", '{');
    for (uint32_t i = 0; i < TRIP_HOME_STAGES; i++)
        text_json_integer(t, trip_stage_names[i], shown(current[i]));
    text_json_close(t, '}');
    text_json_open(t, "legs", '{');
    for (uint32_t i = TRIP_HOME_STAGES; i < TRIP_STAGES; i++)
        text_json_integer(t, trip_stage_names[i], shown(current[i]));
    text_json_close(t, '}');
}

static void json_core(struct text *t, const struct stat_core *c, uint32_t number)
{
    text_json_open(t, NULL, '{');
    text_json_integer(t, "core", number);
    text_json_integer(t, "busy_ns", c->busy_ns);
    text_json_integer(t, "idle_ns", c->lived_ns - MIN(c->busy_ns, c->lived_ns));
    text_json_integer(t, "turns", c->turns);
    json_histogram(t, "turn_ns", &c->turn_ns);
    json_histogram(t, "turn_letters", &c->letters);
    text_json_integer(t, "connections", c->connections);
    text_json_integer(t, "accepted", c->accepted);
    text_json_integer(t, "flows", c->flows);
    text_json_integer(t, "letters_out", c->letters_out);
    text_json_integer(t, "letters_in", c->letters_in);
    text_json_integer(t, "rings_depth", c->depth);
    text_json_integer(t, "rings_full", c->overflowed);
    text_json_integer(t, "outbox", c->outbox);
    text_json_integer(t, "received_bytes", c->received_bytes);
    text_json_integer(t, "sent_bytes", c->sent_bytes);
    text_json_integer(t, "copied_bytes", c->copied_bytes);
    text_json_integer(t, "memory_used", c->memory_used);
    text_json_integer(t, "memory_budget", c->memory_budget);
    text_json_integer(t, "frames_bytes", c->frames_bytes);
    text_json_integer(t, "slow_requests", c->slow);
    text_json_close(t, '}');
}

static void json_api(struct text *t, const struct api_times *a, int16_t key)
{
    text_json_open(t, api_find(key)->name, '{');
    text_json_integer(t, "bytes_in", a->bytes_in);
    text_json_integer(t, "bytes_out", a->bytes_out);
    json_histogram(t, "total", &a->total);
    text_json_open(t, "stages", '{');
    for (uint32_t i = 0; i < TRIP_STAGES; i++) {
        if (a->passed[i] == 0)
            continue;
        text_json_open(t, trip_stage_names[i], '{');
        text_json_integer(t, "requests", a->passed[i]);
        text_json_integer(t, "sum_ns", a->spent_ns[i]);
        if (a->ns[i] != NULL)
            json_histogram(t, "timed", a->ns[i]);
        text_json_close(t, '}');
    }
    text_json_close(t, '}');
    text_json_close(t, '}');
}

static void json_log(struct text *t, const struct stat_sum *s)
{
    text_json_open(t, "log", '{');
    text_json_integer(t, "appended_batches", s->log.appended_batches);
    text_json_integer(t, "appended_bytes", s->log.appended_bytes);
    text_json_integer(t, "wal_writes", s->log.wal_writes);
    text_json_integer(t, "wal_bytes", s->log.wal_bytes);
    text_json_integer(t, "segment_bytes", s->log.segment_bytes);
    text_json_integer(t, "memory_reads", s->log.memory_reads);
    text_json_integer(t, "memory_read_bytes", s->log.memory_bytes);
    text_json_integer(t, "disk_reads", s->log.disk_reads);
    text_json_integer(t, "disk_read_bytes", s->log.disk_bytes);
    text_json_integer(t, "copied_bytes", s->log.copied_bytes);
    text_json_integer(t, "cache_bytes", s->log.cache_bytes);
    text_json_integer(t, "cleanings", s->log.cleanings);
    text_json_integer(t, "cleaned_bytes_before", s->log.cleaned_bytes_before);
    text_json_integer(t, "cleaned_bytes_after", s->log.cleaned_bytes_after);
    text_json_integer(t, "uncleanable_logs", s->log.uncleanable);
    json_histogram(t, "wal_wait_ns", &s->log_times.wal_wait_ns);
    json_histogram(t, "wal_write_ns", &s->log_times.wal_write_ns);
    json_histogram(t, "wal_write_bytes", &s->log_times.wal_write_bytes);
    json_histogram(t, "wal_write_batches", &s->log_times.wal_write_batches);
    text_json_close(t, '}');
}

/* What our own code has copied of what requests and answers carried. */
static void sum_copies(const struct stat_sum *s, double *carried, double *copied)
{
    *carried = 0;
    *copied = (double)s->log.copied_bytes;
    for (uint32_t i = 0; i < s->cores_count; i++) {
        *carried += (double)(s->cores[i].received_bytes + s->cores[i].sent_bytes);
        *copied += (double)s->cores[i].copied_bytes;
    }
}

void stat_sum_json(struct text *t, const struct stat_sum *s)
{
    double carried, copied;
    sum_copies(s, &carried, &copied);
    text_json_open(t, NULL, '{');
    text_json_string(t, "version", TORC_VERSION);
    text_json_string(t, "commit", TORC_COMMIT);
    text_json_integer(t, "up_ns", s->ns);
    text_json_open(t, "under_way", '{');
    json_stages(t, s->current);
    text_json_close(t, '}');
    text_json_open(t, "cores", '[');
    for (uint32_t i = 0; i < s->cores_count; i++)
        json_core(t, &s->cores[i], i);
    text_json_close(t, ']');
    text_json_open(t, "apis", '{');
    for (int16_t k = 0; k < API_COUNTERS; k++)
        if (s->apis[k] != NULL && s->apis[k]->total.count > 0)
            json_api(t, s->apis[k], k);
    text_json_close(t, '}');
    text_json_number(t, "copies_per_byte", carried > 0 ? copied / carried : 0);
    json_log(t, s);
    text_json_close(t, '}');
    text_put(t, "\n", 1);
}

/* ---- table ----------------------------------------------------------------------------------- */

static const char *quantile(char *to, const struct histogram *h, double q)
{
    return text_duration(to, histogram_quantile(h, q));
}

/* "what: 3 a, 1 b"; nothing where all are 0. */
static void stages_add(struct text *t, const char *what, const int64_t *current, uint32_t from,
                       uint32_t to)
{
    const char *between = what;
    for (uint32_t i = from; i < to; i++) {
        if (current[i] <= 0)
            continue;
        text_add(t, "%s%llu %s", between, (unsigned long long)current[i], trip_stage_names[i]);
        between = ", ";
    }
    if (between != what)
        text_add(t, "\n");
}

static void cores_add(struct text *t, const struct stat_sum *s)
{
    char n[8][TEXT_NUMBER_SIZE];
    text_add(t, "\n%-4s %6s %7s %8s %8s %8s %7s %4s %5s %7s\n", "core", "busy", "turns", "turn p50",
             "p99", "max", "letters", "p99", "conns", "memory");
    for (uint32_t i = 0; i < s->cores_count; i++) {
        const struct stat_core *c = &s->cores[i];
        double busy = c->lived_ns > 0 ? (double)c->busy_ns / (double)c->lived_ns * 100 : 0;
        text_add(t, "%-4u %5.1f%% %7s %8s %8s %8s %7s %4llu %5llu %7s\n", i, busy,
                 text_short(n[0], c->turns), quantile(n[1], &c->turn_ns, 0.5),
                 quantile(n[2], &c->turn_ns, 0.99), quantile(n[3], &c->turn_ns, 1),
                 text_short(n[4], c->letters_in),
                 (unsigned long long)histogram_quantile(&c->letters, 0.99),
                 (unsigned long long)c->connections, text_bytes(n[5], (double)c->memory_used));
    }
}

static void row_add(struct text *t, const char *name, const char *count, const char *rate,
                    const struct histogram *h)
{
    char n[4][TEXT_NUMBER_SIZE];
    text_add(t, "%-24.24s %9s %8s %8s %8s %8s %8s\n", name, count, rate, quantile(n[0], h, 0.5),
             quantile(n[1], h, 0.99), quantile(n[2], h, 0.999), quantile(n[3], h, 1));
}

static void api_add(struct text *t, const struct stat_sum *s, int16_t key)
{
    static const struct histogram nothing;
    const struct api_times *a = s->apis[key];
    char n[2][TEXT_NUMBER_SIZE], name[32];
    double seconds = (double)s->ns / (double)NS_PER_S;
    row_add(t, api_find(key)->name, text_short(n[0], a->total.count),
            text_decimal(n[1], seconds > 0 ? (double)a->total.count / seconds : 0), &a->total);
    for (uint32_t i = 0; i < TRIP_STAGES; i++) {
        if (a->spent_ns[i] == 0)
            continue;
        double whole = (double)a->total.sum + (double)a->spent_ns[TRIP_RECV];
        (void)snprintf(name, sizeof(name), "  %s", trip_stage_names[i]);
        (void)snprintf(n[0], sizeof(n[0]), "%.1f%%",
                       whole > 0 ? (double)a->spent_ns[i] / whole * 100 : 0);
        row_add(t, name, n[0], "", a->ns[i] != NULL ? a->ns[i] : &nothing);
    }
}

static void log_add(struct text *t, const struct stat_sum *s)
{
    const struct log_core_times *l = &s->log_times;
    char n[8][TEXT_NUMBER_SIZE];
    double carried, copied, read = (double)(s->log.memory_bytes + s->log.disk_bytes);
    sum_copies(s, &carried, &copied);
    text_add(t, "\nwal writes %s: p50 %s, p99 %s, max %s\n", text_short(n[0], s->log.wal_writes),
             quantile(n[1], &l->wal_write_ns, 0.5), quantile(n[2], &l->wal_write_ns, 0.99),
             quantile(n[3], &l->wal_write_ns, 1));
    text_add(t, "  after their first batch has waited: p50 %s, p99 %s, max %s\n",
             quantile(n[0], &l->wal_wait_ns, 0.5), quantile(n[1], &l->wal_wait_ns, 0.99),
             quantile(n[2], &l->wal_wait_ns, 1));
    text_add(t, "  groups of p50 %llu, p99 %llu, max %llu batches; %s written for %s appended\n",
             (unsigned long long)histogram_quantile(&l->wal_write_batches, 0.5),
             (unsigned long long)histogram_quantile(&l->wal_write_batches, 0.99),
             (unsigned long long)histogram_quantile(&l->wal_write_batches, 1),
             text_bytes(n[0], (double)s->log.wal_bytes),
             text_bytes(n[1], (double)s->log.appended_bytes));
    text_add(t, "reads: %s from memory, %s from the disk in %s reads: %.1f%% cache hits\n",
             text_bytes(n[0], (double)s->log.memory_bytes),
             text_bytes(n[1], (double)s->log.disk_bytes), text_short(n[2], s->log.disk_reads),
             read > 0 ? (double)s->log.memory_bytes / read * 100 : 100.0);
    text_add(t, "copies: %s for %s received and sent: %.2f per byte\n", text_bytes(n[0], copied),
             text_bytes(n[1], carried), carried > 0 ? copied / carried : 0);
}

void stat_sum_table(struct text *t, const struct stat_sum *s, bool live)
{
    uint64_t depth = 0;
    for (uint32_t i = 0; i < s->cores_count; i++)
        depth += s->cores[i].depth + s->cores[i].outbox;
    text_add(t, live ? "the last %.1f s" : "up %.0f s", (double)s->ns / (double)NS_PER_S);
    text_add(t, ", %llu requests under way, %llu letters in rings\n",
             (unsigned long long)under_way(s->current), (unsigned long long)depth);
    stages_add(t, "  requests: ", s->current, 0, TRIP_HOME_STAGES);
    stages_add(t, "  legs of those away: ", s->current, TRIP_HOME_STAGES, TRIP_STAGES);
    cores_add(t, s);
    text_add(t, "\n%-24s %9s %8s %8s %8s %8s %8s\n", "request, share of stages", "count", "per s",
             "p50", "p99", "p99.9", "max");
    for (int16_t k = 0; k < API_COUNTERS; k++)
        if (s->apis[k] != NULL && s->apis[k]->total.count > 0)
            api_add(t, s, k);
    log_add(t, s);
}
