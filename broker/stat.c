/* What a data core counts of its own time, and how it tells.
 *
 *   request   received ── queued ──▶ started ── running ──▶ answered ── sending ──▶ gone
 *   turn      io_poll returns ── work ──▶ end of turn         busy is work, the rest is waiting
 *
 * Invariants:
 *  1. A request is counted once, when its answer has left or been dropped.
 *  2. Only its own core writes a core's times; the letter of MSG_STAT is lent to one core at a
 * time.
 *
 * Failure modes: no memory for the times of a kind of request: it is not counted. A request that
 * took longer than torc.slow.request.ms is one line, at most SLOW_LINES_MAX per second and core;
 * waiting that its client asked for (Fetch and the like) is not slowness. */
#include "broker/stat.h"

#include "proto/gen/api.h"

#define SLOW_TEXT_MAX  60
#define SLOW_LINES_MAX 10u

struct core_times *stat_times_make(struct data_core *c)
{
    struct core_times *t = mem_zalloc(&c->mem, sizeof(*t));
    if (t != NULL)
        t->begun_ns = io_now_ns(c->io);
    return t;
}

void stat_turn(struct data_core *c)
{
    struct core_times *t = c->times;
    if (t == NULL)
        return;
    uint64_t spent = io_clock_ns(c->io) - io_now_ns(c->io);
    t->busy_ns += spent;
    histogram_record(&t->turns, spent);
}

/* Requests whose answer the client lets us hold back. */
static bool waits_by_wish(int16_t key)
{
    return key == API_FETCH || key == API_JOIN_GROUP || key == API_SYNC_GROUP ||
           key == API_SHARE_FETCH;
}

static void stat_slow(struct data_core *c, const struct flow *f, const uint64_t *spent)
{
    uint64_t limit = (uint32_t)c->config->torc_slow_request_ms * NS_PER_MS;
    uint64_t counted = spent[SPAN_TOTAL] - (waits_by_wish(f->api_key) ? spent[SPAN_RUNNING] : 0ul);
    if (limit == 0 || counted < limit)
        return;
    struct core_times *t = c->times;
    uint64_t second = io_now_ns(c->io) / NS_PER_S;
    t->slow++;
    if (second != t->slow_second)
        t->slow_lines = 0;
    t->slow_second = second;
    if (t->slow_lines++ >= SLOW_LINES_MAX)
        return;
    int size = f->client_id.size < 0 ? 0 : MIN(f->client_id.size, SLOW_TEXT_MAX);
    const struct api_info *api = api_find(f->api_key);
    trace_line(&c->trace, TRACE_API, TRACE_WARN,
               "slow request: %s v%d of '%.*s' at %s took %llu us: queued %llu, running %llu, "
               "sending %llu; %u bytes in, %llu out; %u requests of its connection and %llu of the "
               "core under way",
               api->name, f->api_version, size, size > 0 ? f->client_id.data : "",
               f->conn->peer.host, (unsigned long long)(spent[SPAN_TOTAL] / NS_PER_US),
               (unsigned long long)(spent[SPAN_QUEUED] / NS_PER_US),
               (unsigned long long)(spent[SPAN_RUNNING] / NS_PER_US),
               (unsigned long long)(spent[SPAN_SENDING] / NS_PER_US), f->frame_size,
               (unsigned long long)f->answer_bytes, f->conn->flows_count,
               (unsigned long long)c->flows.pool.count_used);
}

void stat_flow(struct data_core *c, const struct flow *f)
{
    struct core_times *t = c->times;
    assert(core_same(core_self(), c->id));
    if (t == NULL || f->api == NULL || f->answered_ns == 0)
        return;
    assert(f->api_key >= 0 && f->api_key < API_COUNTERS);
    struct api_times **a = &t->apis[f->api_key];
    if (*a == NULL)
        *a = mem_zalloc(&c->mem, sizeof(**a));
    if (*a == NULL)
        return;
    uint64_t now = io_now_ns(c->io);
    const uint64_t spent[SPANS] = {[SPAN_QUEUED] = f->started_ns - f->received_ns,
                                   [SPAN_RUNNING] = f->answered_ns - f->started_ns,
                                   [SPAN_SENDING] = now - f->answered_ns,
                                   [SPAN_TOTAL] = now - f->received_ns};
    for (uint32_t i = 0; i < SPANS; i++)
        histogram_record(&(*a)->spent[i], spent[i]);
    (*a)->bytes_in += f->frame_size;
    (*a)->bytes_out += f->answer_bytes;
    stat_slow(c, f, spent);
}

/* ---- telling --------------------------------------------------------------------------------- */

static void sum_core(const struct data_core *c, struct stat_core *to)
{
    *to = (struct stat_core){.turns = c->turns,
                             .connections = c->conns.count,
                             .accepted = c->conns.accepted,
                             .flows = c->flows.pool.count_used,
                             .letters_out = c->mail.sent,
                             .letters_in = c->mail.received,
                             .overflowed = c->mail.overflowed,
                             .outbox = c->mail.outbox_count,
                             .memory_used = c->mem.used_bytes,
                             .memory_budget = c->mem.budget_bytes,
                             .frames_bytes = c->conns.frames_bytes};
    if (c->times == NULL)
        return;
    to->busy_ns = c->times->busy_ns;
    to->lived_ns = io_now_ns(c->io) - c->times->begun_ns;
    to->slow = c->times->slow;
    to->turn_ns = c->times->turns;
}

static void sum_log(const struct log_core *logs, struct stat_sum *sum)
{
    struct log_core_stats s;
    struct log_core_stats *to = &sum->log;
    const struct log_core_times *t = log_core_times(logs);
    log_core_stats(logs, &s);
    to->appended_batches += s.appended_batches;
    to->appended_bytes += s.appended_bytes;
    to->wal_writes += s.wal_writes;
    to->wal_bytes += s.wal_bytes;
    to->segment_bytes += s.segment_bytes;
    to->memory_reads += s.memory_reads;
    to->disk_reads += s.disk_reads;
    to->cache_bytes += s.cache_bytes;
    to->torn_tails += s.torn_tails;
    to->rot += s.rot;
    to->cleanings += s.cleanings;
    to->cleaned_bytes_before += s.cleaned_bytes_before;
    to->cleaned_bytes_after += s.cleaned_bytes_after;
    to->uncleanable += s.uncleanable;
    histogram_merge(&sum->log_times.wal_write_ns, &t->wal_write_ns);
    histogram_merge(&sum->log_times.wal_write_bytes, &t->wal_write_bytes);
    histogram_merge(&sum->log_times.wal_write_batches, &t->wal_write_batches);
}

void stat_asked(struct data_core *c, struct msg *msg)
{
    struct stat_sum *sum = container_of(msg, struct stat_letter, msg)->sum;
    assert(core_same(core_self(), c->id) && c->id.index < sum->cores_count);
    sum_core(c, &sum->cores[c->id.index]);
    for (uint32_t i = 0; i < FLOW_STAGES; i++)
        sum->current[i] += c->flows.stages.current[i];
    for (uint32_t k = 0; k < API_COUNTERS && c->times != NULL; k++) {
        const struct api_times *from = c->times->apis[k];
        if (from == NULL)
            continue;
        for (uint32_t i = 0; i < SPANS; i++)
            histogram_merge(&sum->apis[k].spent[i], &from->spent[i]);
        sum->apis[k].bytes_in += from->bytes_in;
        sum->apis[k].bytes_out += from->bytes_out;
    }
    if (c->logs != NULL)
        sum_log(c->logs, sum);
    msg->kind = MSG_STAT_HOME;
    mail_send(&c->mail, msg->home, msg);
}
