/* Who asks where the time goes is answered here, on the control core: a local socket whose name is
 * the port of the broker, read by `torc stat`. A peer that connects is sent one answer and the end:
 * a line of JSON, then the same as a table. It sends nothing, so there is nothing to read wrong.
 *
 *   accept ─▶ the letter goes to core 0, home, core 1, home ... ─▶ text ─▶ sent ─▶ closed
 *
 * The name is in the abstract name space of Linux: no file to be left behind, no port to be open,
 * and only processes of the same user (or root) on this machine are let in (io_listen).
 *
 * Invariants:
 *  1. One answer is under way at a time; who comes meanwhile is closed and comes again.
 *  2. The sum is owned by the core that has the letter.
 *
 * Failure modes: the name is taken by another broker on another address with the same port: one
 * line, and nobody can ask. A peer that does not read is closed after SEND_NS. */
#include <stdio.h>
#include <string.h>

#include "broker/bench/text.h"
#include "broker/cli/commit.h"
#include "broker/cli/version.h"
#include "broker/control_core.h"
#include "broker/node.h"
#include "broker/stat.h"
#include "proto/gen/api.h"

#define SEND_NS     (5 * NS_PER_S)
#define STOP_NS     NS_PER_S
#define BACKLOG     16u
#define POLL_BUDGET 64u

struct stat_server {
    struct control_core *core;
    struct io_accept accept;
    bool asked;
    int fd; /* of who asked; -1 */
    struct io_send send;
    struct iovec iov;
    struct timer late;
    struct stat_letter letter;
    struct stat_sum sum;
    uint16_t next; /* core that is asked next */
    struct text text;
};

static const char *const span_names[SPANS] = {"queued", "running", "sending", "total"};

/* ---- text ------------------------------------------------------------------------------------ */

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

static void json_core(struct text *t, const struct stat_core *c, uint32_t number)
{
    text_json_open(t, NULL, '{');
    text_json_integer(t, "core", number);
    text_json_integer(t, "busy_ns", c->busy_ns);
    text_json_integer(t, "idle_ns", c->lived_ns - MIN(c->busy_ns, c->lived_ns));
    text_json_integer(t, "turns", c->turns);
    json_histogram(t, "turn_ns", &c->turn_ns);
    text_json_integer(t, "connections", c->connections);
    text_json_integer(t, "accepted", c->accepted);
    text_json_integer(t, "flows", c->flows);
    text_json_integer(t, "letters_out", c->letters_out);
    text_json_integer(t, "letters_in", c->letters_in);
    text_json_integer(t, "rings_full", c->overflowed);
    text_json_integer(t, "outbox", c->outbox);
    text_json_integer(t, "memory_used", c->memory_used);
    text_json_integer(t, "memory_budget", c->memory_budget);
    text_json_integer(t, "frames_bytes", c->frames_bytes);
    text_json_integer(t, "slow_requests", c->slow);
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
    text_json_integer(t, "disk_reads", s->log.disk_reads);
    text_json_integer(t, "cache_bytes", s->log.cache_bytes);
    text_json_integer(t, "cleanings", s->log.cleanings);
    text_json_integer(t, "cleaned_bytes_before", s->log.cleaned_bytes_before);
    text_json_integer(t, "cleaned_bytes_after", s->log.cleaned_bytes_after);
    text_json_integer(t, "uncleanable_logs", s->log.uncleanable);
    json_histogram(t, "wal_write_ns", &s->log_times.wal_write_ns);
    json_histogram(t, "wal_write_bytes", &s->log_times.wal_write_bytes);
    json_histogram(t, "wal_write_batches", &s->log_times.wal_write_batches);
    text_json_close(t, '}');
}

static void json_put(struct text *t, const struct stat_sum *s, uint64_t up_ns)
{
    text_json_open(t, NULL, '{');
    text_json_string(t, "version", TORC_VERSION);
    text_json_string(t, "commit", TORC_COMMIT);
    text_json_integer(t, "up_ns", up_ns);
    text_json_open(t, "under_way", '{');
    text_json_integer(t, "queued", s->current[FLOW_QUEUED]);
    text_json_integer(t, "running", s->current[FLOW_RUNNING]);
    text_json_integer(t, "answered", s->current[FLOW_ANSWERED]);
    text_json_close(t, '}');
    text_json_open(t, "cores", '[');
    for (uint32_t i = 0; i < s->cores_count; i++)
        json_core(t, &s->cores[i], i);
    text_json_close(t, ']');
    text_json_open(t, "apis", '{');
    for (int16_t k = 0; k < API_COUNTERS; k++) {
        const struct api_times *a = &s->apis[k];
        if (a->spent[SPAN_TOTAL].count == 0)
            continue;
        text_json_open(t, api_find(k)->name, '{');
        text_json_integer(t, "bytes_in", a->bytes_in);
        text_json_integer(t, "bytes_out", a->bytes_out);
        for (uint32_t i = 0; i < SPANS; i++)
            json_histogram(t, span_names[i], &a->spent[i]);
        text_json_close(t, '}');
    }
    text_json_close(t, '}');
    json_log(t, s);
    text_json_close(t, '}');
    text_put(t, "\n", 1);
}

static const char *quantile(char *to, const struct histogram *h, double q)
{
    return text_duration(to, histogram_quantile(h, q));
}

static void table_put(struct text *t, const struct stat_sum *s, uint64_t up_ns)
{
    char n[8][TEXT_NUMBER_SIZE];
    text_add(t, "up %.0f s, %llu requests under way (%llu queued, %llu running, %llu answered)\n\n",
             (double)up_ns / (double)NS_PER_S,
             (unsigned long long)(s->current[0] + s->current[1] + s->current[2]),
             (unsigned long long)s->current[FLOW_QUEUED],
             (unsigned long long)s->current[FLOW_RUNNING],
             (unsigned long long)s->current[FLOW_ANSWERED]);
    text_add(t, "%-5s %6s %9s %9s %9s %9s %6s %8s %7s\n", "core", "busy", "turns", "turn p50",
             "p99", "max", "conns", "letters", "memory");
    for (uint32_t i = 0; i < s->cores_count; i++) {
        const struct stat_core *c = &s->cores[i];
        double busy = c->lived_ns > 0 ? (double)c->busy_ns / (double)c->lived_ns * 100 : 0;
        text_add(t, "%-5u %5.1f%% %9s %9s %9s %9s %6llu %8s %7s\n", i, busy,
                 text_decimal(n[0], (double)c->turns), quantile(n[1], &c->turn_ns, 0.5),
                 quantile(n[2], &c->turn_ns, 0.99), quantile(n[3], &c->turn_ns, 1),
                 (unsigned long long)c->connections, text_decimal(n[4], (double)c->letters_in),
                 text_bytes(n[5], (double)c->memory_used));
    }
    text_add(t, "\n%-22s %9s %8s %8s %8s %8s\n", "request", "count", "p50", "p99", "p99.9", "max");
    for (int16_t k = 0; k < API_COUNTERS; k++) {
        const struct api_times *a = &s->apis[k];
        if (a->spent[SPAN_TOTAL].count == 0)
            continue;
        for (uint32_t i = 0; i < SPANS; i++) {
            const struct histogram *h = &a->spent[(i + SPAN_TOTAL) % SPANS];
            char name[32];
            (void)snprintf(name, sizeof(name), "  %s", span_names[(i + SPAN_TOTAL) % SPANS]);
            text_add(t, "%-22.22s %9s %8s %8s %8s %8s\n", i == 0 ? api_find(k)->name : name,
                     i == 0 ? text_count(n[0], h->count) : "", quantile(n[1], h, 0.5),
                     quantile(n[2], h, 0.99), quantile(n[3], h, 0.999), quantile(n[4], h, 1));
        }
    }
    const struct log_core_times *l = &s->log_times;
    text_add(t, "\nwal writes %s: p50 %s, p99 %s, max %s; batches p50 %llu, p99 %llu\n",
             text_count(n[0], s->log.wal_writes), quantile(n[1], &l->wal_write_ns, 0.5),
             quantile(n[2], &l->wal_write_ns, 0.99), quantile(n[3], &l->wal_write_ns, 1),
             (unsigned long long)histogram_quantile(&l->wal_write_batches, 0.5),
             (unsigned long long)histogram_quantile(&l->wal_write_batches, 0.99));
    text_add(t, "  %s written for %s appended. Reads: %s from memory, %s from the disk\n",
             text_bytes(n[4], (double)s->log.wal_bytes),
             text_bytes(n[5], (double)s->log.appended_bytes), text_count(n[6], s->log.memory_reads),
             text_count(n[7], s->log.disk_reads));
}

/* ---- one answer ------------------------------------------------------------------------------ */

static void sum_free(struct stat_server *s)
{
    struct mem *mem = &s->core->mem;
    mem_free(mem, s->sum.apis, API_COUNTERS * sizeof(*s->sum.apis));
    mem_free(mem, s->sum.cores, s->sum.cores_count * sizeof(*s->sum.cores));
    s->sum = (struct stat_sum){0};
}

static void stat_done(struct stat_server *s)
{
    timer_cancel(&s->core->wheel, &s->late);
    io_socket_close(s->core->io, s->fd);
    text_free(&s->text);
    s->fd = -1;
    s->asked = false;
}

static void stat_sent(struct op *op)
{
    stat_done(container_of(op, struct stat_server, send.op));
}

static void stat_late(struct timer *t)
{
    struct stat_server *s = container_of(t, struct stat_server, late);
    io_shutdown(s->core->io, s->fd); /* ends the send */
}

static void stat_answer(struct stat_server *s)
{
    struct control_core *c = s->core;
    uint64_t up_ns = io_now_ns(c->io) - c->started_ns;
    json_put(&s->text, &s->sum, up_ns);
    table_put(&s->text, &s->sum, up_ns);
    sum_free(s);
    if (s->text.failed) {
        stat_done(s);
        return;
    }
    s->iov = (struct iovec){s->text.data, s->text.size};
    op_init(&s->send.op, stat_sent);
    s->send.fd = s->fd;
    s->send.iov = &s->iov;
    s->send.iov_count = 1;
    timer_arm(&c->wheel, &s->late, io_now_ns(c->io) + SEND_NS);
    io_send(c->io, &s->send);
}

static void stat_visit(struct stat_server *s)
{
    s->letter.msg.home = s->core->id;
    s->letter.msg.kind = MSG_STAT;
    mail_send(&s->core->mail, (struct core_id){s->next++}, &s->letter.msg);
}

void stat_home(struct control_core *c, struct msg *msg)
{
    struct stat_server *s = c->stats;
    assert(s != NULL && msg == &s->letter.msg);
    if (s->next < s->sum.cores_count)
        stat_visit(s);
    else
        stat_answer(s);
}

static void stat_accepted(struct op *op)
{
    struct stat_server *s = container_of(op, struct stat_server, accept.op);
    struct control_core *c = s->core;
    if (op->result < 0)
        return;
    if (s->asked || c->state.now != CONTROL_RUNNING) {
        io_socket_close(c->io, op->result);
        return;
    }
    s->asked = true;
    s->fd = op->result;
    s->next = 0;
    s->letter.sum = &s->sum;
    s->sum.cores_count = c->node->cores_count;
    s->sum.apis = mem_zalloc(&c->mem, API_COUNTERS * sizeof(*s->sum.apis));
    s->sum.cores = mem_zalloc(&c->mem, s->sum.cores_count * sizeof(*s->sum.cores));
    if (s->sum.apis != NULL && s->sum.cores != NULL) {
        stat_visit(s);
        return;
    }
    sum_free(s);
    stat_done(s);
}

/* ---- life ------------------------------------------------------------------------------------ */

void stat_server_start(struct control_core *c)
{
    const struct broker_config *b = &c->node->config->broker;
    struct io_address name = {.port = 0};
    uint32_t first = 0;
    uint16_t port;
    while (first < b->listeners_count && b->listeners[first].controller)
        first++;
    struct stat_server *s = mem_zalloc(&c->mem, sizeof(*s));
    if (s == NULL || first == b->listeners_count || !b->torc_stat_socket)
        return;
    (void)snprintf(name.host, sizeof(name.host), STAT_NAME, c->node->ports[first]);
    s->core = c;
    s->fd = -1;
    text_init(&s->text, &c->mem);
    timer_init(&s->late, stat_late);
    op_init(&s->accept.op, stat_accepted);
    s->accept.listener = io_listen(c->io, &name, BACKLOG, &port);
    if (s->accept.listener < 0) {
        trace_line(&c->trace, TRACE_MAIN, TRACE_INFO, "torc stat cannot ask this node: %s: %s",
                   name.host, strerror(-s->accept.listener));
        mem_free(&c->mem, s, sizeof(*s));
        return;
    }
    c->stats = s;
    io_accept(c->io, &s->accept);
}

void stat_server_stop(struct control_core *c)
{
    struct stat_server *s = c->stats;
    if (s == NULL)
        return;
    uint64_t limit = io_clock_ns(c->io) + STOP_NS;
    timer_cancel(&c->wheel, &s->late);
    if (s->accept.op.armed)
        io_cancel_accept(c->io, &s->accept);
    if (s->send.op.armed)
        io_shutdown(c->io, s->fd);
    while ((s->accept.op.armed || s->send.op.armed) && io_clock_ns(c->io) < limit)
        (void)io_poll(c->io, limit, POLL_BUDGET);
    if (!s->accept.op.armed)
        io_socket_close(c->io, s->accept.listener);
    c->stats = NULL; /* its memory goes with the core's */
}
