/* What a data core counts of its own time, and how it tells.
 *
 *   request   trip ends ──▶ total, counts and sums of its stages ──▶ slow? ─▶ a line of the log
 *   turn      io_poll returns ── work ──▶ end of turn         busy is work, the rest is waiting
 *
 * Invariants:
 *  1. A request is counted once, when its answer has left or been dropped.
 *  2. Only its own core writes a core's times; the letter of MSG_STAT is lent to one core at a
 * time.
 *
 * Failure modes: no memory for the times of a kind of request or a stage: it is not counted. A
 * request that took longer than torc.slow.request.ms is one line, at most SLOW_LINES_MAX per second
 * and core; waiting that its client asked for (Fetch and the like) is not slowness. */
#include "broker/stat.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "proto/gen/api.h"

#define SLOW_TEXT_MAX  60
#define SLOW_LINES_MAX 10u
#define SLOW_PATH_SIZE 640u

struct core_times *stat_times_make(struct data_core *c)
{
    struct core_times *t = mem_zalloc(&c->mem, sizeof(*t));
    if (t != NULL)
        t->begun_ns = io_now_ns(c->io);
    return t;
}

void stat_turn(struct data_core *c, uint32_t letters)
{
    struct core_times *t = c->times;
    if (t == NULL)
        return;
    uint64_t spent = io_clock_ns(c->io) - io_now_ns(c->io);
    t->busy_ns += spent;
    histogram_record(&t->turns, spent);
    if (letters > 0)
        histogram_record(&t->letters, letters);
}

/* ---- slow requests --------------------------------------------------------------------------- */

/* Requests whose answer the client lets us hold back. */
static bool waits_by_wish(int16_t key)
{
    return key == API_FETCH || key == API_JOIN_GROUP || key == API_SYNC_GROUP ||
           key == API_SHARE_FETCH;
}

/* "queued 0, route 12, ring 8 > core 1: admit 5, ...", in microseconds and in order. What took
 * less than one on the way of a leg is left out. */
static void path_text(const struct trip *trip, struct core_id home, char *to, size_t size)
{
    const struct trip_trail *trail = trip->trail;
    size_t at = 0;
    uint16_t core = home.index;
    to[0] = 0;
    for (uint32_t i = 0; trail != NULL && i < trail->count && at < size; i++) {
        const struct trip_step *s = &trail->steps[i];
        /* A ring is left where it ends. */
        bool moves = s->core != core && s->stage != TRIP_RING;
        if (moves)
            at += (size_t)snprintf(to + at, size - at, " > core %u:", s->core);
        core = s->stage != TRIP_RING ? s->core : core;
        at += at < size ? (size_t)snprintf(to + at, size - at, "%s%s %llu",
                                           moves || i == 0 ? " " : ", ", trip_stage_names[s->stage],
                                           (unsigned long long)(s->ns / NS_PER_US))
                        : 0;
    }
    if (trail != NULL && trail->lost > 0 && at < size)
        (void)snprintf(to + at, size - at, " (with %u steps more)", trail->lost);
}

static void stat_slow(struct data_core *c, const struct flow *f)
{
    uint64_t limit = (uint32_t)c->config->torc_slow_request_ms * NS_PER_MS;
    uint64_t total = trip_total(&f->trip);
    if (total < limit ||
        total - (waits_by_wish(f->api_key) ? trip_spent(&f->trip, TRIP_HELD) : 0) < limit)
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
    char path[SLOW_PATH_SIZE];
    path_text(&f->trip, c->id, path, sizeof(path));
    trace_line(&c->trace, TRACE_API, TRACE_WARN,
               "slow request: %s v%d of '%.*s' at %s took %llu us:%s; %u bytes in, %llu out; "
               "%u requests of its connection and %llu of the core under way",
               api_find(f->api_key)->name, f->api_version, size, size > 0 ? f->client_id.data : "",
               f->conn->peer.host, (unsigned long long)(total / NS_PER_US), path, f->frame_size,
               (unsigned long long)f->answer_bytes, f->conn->flows_count,
               (unsigned long long)c->flows.pool.count_used);
}

/* ---- counting -------------------------------------------------------------------------------- */

static void api_count(struct api_times *a, struct mem *mem, const struct trip *trip)
{
    uint64_t sum = trip->begun_ns;
    histogram_record(&a->total, trip_total(trip));
    for (uint32_t bits = trip->passed; bits != 0; bits &= bits - 1) {
        uint32_t stage = (uint32_t)__builtin_ctz(bits);
        sum += trip->spent_ns[stage];
        a->passed[stage]++;
        a->spent_ns[stage] += trip->spent_ns[stage];
        if (!trip->exact)
            continue;
        if (a->ns[stage] == NULL)
            a->ns[stage] = mem_zalloc(mem, sizeof(struct histogram));
        if (a->ns[stage] != NULL)
            histogram_record(a->ns[stage], trip->spent_ns[stage]);
    }
    assert(sum == trip->since_ns); /* no time is lost, none is told twice */
}

void stat_flow(struct data_core *c, struct flow *f)
{
    struct core_times *t = c->times;
    assert(core_same(core_self(), c->id));
    bool answered = f->trip.now == TRIP_SEND;
    trip_end(&f->trip, &c->board);
    if (t == NULL || f->api == NULL || !answered)
        return;
    assert(f->api_key >= 0 && f->api_key < API_COUNTERS);
    struct api_times **a = &t->apis[f->api_key];
    if (*a == NULL)
        *a = mem_zalloc(&c->mem, sizeof(**a));
    if (*a == NULL)
        return;
    api_count(*a, &c->mem, &f->trip);
    (*a)->bytes_in += f->frame_size;
    (*a)->bytes_out += f->answer_bytes;
    if (c->config->torc_slow_request_ms > 0)
        stat_slow(c, f);
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct stat_sum *stat_sum_make(struct mem *mem, uint32_t cores_count)
{
    struct stat_sum *s = mem_zalloc(mem, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->mem = mem;
    s->cores_count = cores_count;
    s->cores = mem_zalloc(mem, cores_count * sizeof(*s->cores));
    if (s->cores != NULL)
        return s;
    stat_sum_free(s);
    return NULL;
}

void stat_sum_free(struct stat_sum *s)
{
    if (s == NULL)
        return;
    for (uint32_t k = 0; k < API_COUNTERS; k++) {
        struct api_times *a = s->apis[k];
        for (uint32_t i = 0; a != NULL && i < TRIP_STAGES; i++)
            if (a->ns[i] != NULL)
                mem_free(s->mem, a->ns[i], sizeof(*a->ns[i]));
        if (a != NULL)
            mem_free(s->mem, a, sizeof(*a));
    }
    if (s->cores != NULL)
        mem_free(s->mem, s->cores, s->cores_count * sizeof(*s->cores));
    mem_free(s->mem, s, sizeof(*s));
}

static bool api_tables(struct stat_sum *s, uint32_t key, uint32_t wanted)
{
    struct api_times *a = s->apis[key];
    if (a == NULL && wanted != 0)
        a = s->apis[key] = mem_zalloc(s->mem, sizeof(*a));
    for (uint32_t i = 0; a != NULL && i < TRIP_STAGES; i++) {
        if ((wanted >> i & 1) == 0 || a->ns[i] != NULL)
            continue;
        a->ns[i] = mem_zalloc(s->mem, sizeof(struct histogram));
        if (a->ns[i] == NULL)
            return false;
    }
    return a != NULL || wanted == 0;
}

bool stat_sum_tables(struct stat_sum *s, const struct stat_sum *like)
{
    for (uint32_t k = 0; k < API_COUNTERS; k++)
        if (!api_tables(s, k, like->wanted[k]))
            return false;
    return true;
}

static void sum_want(struct stat_sum *s, const struct data_core *c)
{
    for (uint32_t k = 0; k < API_COUNTERS && c->times != NULL; k++) {
        const struct api_times *a = c->times->apis[k];
        for (uint32_t i = 0; a != NULL && i < TRIP_STAGES; i++)
            s->wanted[k] |= STAT_API | (a->ns[i] != NULL ? 1u << i : 0);
    }
}

static void sum_one(const struct data_core *c, struct stat_core *to)
{
    *to = (struct stat_core){.turns = c->turns,
                             .connections = c->conns.count,
                             .accepted = c->conns.accepted,
                             .flows = c->flows.pool.count_used,
                             .letters_out = c->mail.sent,
                             .letters_in = c->mail.received,
                             .overflowed = c->mail.overflowed,
                             .depth = mail_depth(&c->mail),
                             .outbox = c->mail.outbox_count,
                             .received_bytes = c->conns.received_bytes,
                             .sent_bytes = c->conns.sent_bytes,
                             .copied_bytes = c->conns.copied_bytes,
                             .memory_used = c->mem.used_bytes,
                             .memory_budget = c->mem.budget_bytes,
                             .frames_bytes = c->conns.frames_bytes};
    memcpy(to->current, c->board.current, sizeof(to->current));
    LIST_EACH(l, &c->conns.assembling) /* no requests yet, but under way to be */
    to->current[TRIP_RECV]++;
    if (c->times == NULL)
        return;
    to->busy_ns = c->times->busy_ns;
    to->lived_ns = io_now_ns(c->io) - c->times->begun_ns;
    to->slow = c->times->slow;
    to->turn_ns = c->times->turns;
    to->letters = c->times->letters;
}

/* All counters of the logs. */
static const size_t log_counters[] = {
#define COUNTER(name) offsetof(struct log_core_stats, name)
    COUNTER(appended_batches),    COUNTER(appended_bytes), COUNTER(wal_writes),
    COUNTER(wal_bytes),           COUNTER(segment_bytes),  COUNTER(memory_reads),
    COUNTER(disk_reads),          COUNTER(memory_bytes),   COUNTER(disk_bytes),
    COUNTER(copied_bytes),        COUNTER(torn_tails),     COUNTER(rot),
    COUNTER(cleanings),           COUNTER(uncleanable),    COUNTER(cleaned_bytes_before),
    COUNTER(cleaned_bytes_after),
#undef COUNTER
};
#define LOG_COUNTERS (sizeof(log_counters) / sizeof(log_counters[0]))

static uint64_t *log_counter(struct log_core_stats *s, uint32_t i)
{
    return (uint64_t *)(void *)((uint8_t *)s + log_counters[i]);
}

static void sum_log(struct stat_sum *sum, const struct log_core *logs)
{
    struct log_core_stats s;
    const struct log_core_times *t = log_core_times(logs);
    log_core_stats(logs, &s);
    for (uint32_t i = 0; i < LOG_COUNTERS; i++)
        *log_counter(&sum->log, i) += *log_counter(&s, i);
    sum->log.cache_bytes += s.cache_bytes;
    histogram_merge(&sum->log_times.wal_write_ns, &t->wal_write_ns);
    histogram_merge(&sum->log_times.wal_write_bytes, &t->wal_write_bytes);
    histogram_merge(&sum->log_times.wal_write_batches, &t->wal_write_batches);
    histogram_merge(&sum->log_times.wal_wait_ns, &t->wal_wait_ns);
}

static void api_merge(struct api_times *to, const struct api_times *from)
{
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    histogram_merge(&to->total, &from->total);
    for (uint32_t i = 0; i < TRIP_STAGES; i++) {
        to->passed[i] += from->passed[i];
        to->spent_ns[i] += from->spent_ns[i];
        if (to->ns[i] != NULL && from->ns[i] != NULL)
            histogram_merge(to->ns[i], from->ns[i]);
    }
}

void stat_sum_core(struct stat_sum *s, const struct data_core *c)
{
    assert(c->id.index < s->cores_count);
    sum_one(c, &s->cores[c->id.index]);
    for (uint32_t i = 0; i < TRIP_STAGES; i++)
        s->current[i] += s->cores[c->id.index].current[i];
    for (uint32_t k = 0; k < API_COUNTERS && c->times != NULL; k++)
        if (s->apis[k] != NULL && c->times->apis[k] != NULL)
            api_merge(s->apis[k], c->times->apis[k]);
    if (c->logs != NULL)
        sum_log(s, c->logs);
}

static void api_since(struct api_times *before, const struct api_times *now)
{
    before->bytes_in = now->bytes_in - before->bytes_in;
    before->bytes_out = now->bytes_out - before->bytes_out;
    histogram_since(&before->total, &now->total);
    for (uint32_t i = 0; i < TRIP_STAGES; i++) {
        before->passed[i] = now->passed[i] - before->passed[i];
        before->spent_ns[i] = now->spent_ns[i] - before->spent_ns[i];
        if (before->ns[i] != NULL && now->ns[i] != NULL)
            histogram_since(before->ns[i], now->ns[i]);
    }
}

static void core_since(struct stat_core *before, const struct stat_core *now)
{
    struct stat_core was = *before;
    histogram_since(&was.turn_ns, &now->turn_ns);
    histogram_since(&was.letters, &now->letters);
    *before = *now;
    before->turn_ns = was.turn_ns;
    before->letters = was.letters;
    before->busy_ns -= was.busy_ns;
    before->lived_ns -= was.lived_ns;
    before->turns -= was.turns;
    before->accepted -= was.accepted;
    before->letters_out -= was.letters_out;
    before->letters_in -= was.letters_in;
    before->overflowed -= was.overflowed;
    before->slow -= was.slow;
    before->received_bytes -= was.received_bytes;
    before->sent_bytes -= was.sent_bytes;
    before->copied_bytes -= was.copied_bytes;
}

void stat_sum_since(struct stat_sum *before, const struct stat_sum *now)
{
    assert(before->cores_count == now->cores_count);
    struct log_core_stats all = now->log;
    before->ns = now->ns - before->ns;
    memcpy(before->current, now->current, sizeof(before->current));
    for (uint32_t i = 0; i < now->cores_count; i++)
        core_since(&before->cores[i], &now->cores[i]);
    for (uint32_t k = 0; k < API_COUNTERS; k++)
        if (before->apis[k] != NULL && now->apis[k] != NULL)
            api_since(before->apis[k], now->apis[k]);
    for (uint32_t i = 0; i < LOG_COUNTERS; i++)
        *log_counter(&before->log, i) = *log_counter(&all, i) - *log_counter(&before->log, i);
    before->log.cache_bytes = now->log.cache_bytes;
    histogram_since(&before->log_times.wal_write_ns, &now->log_times.wal_write_ns);
    histogram_since(&before->log_times.wal_write_bytes, &now->log_times.wal_write_bytes);
    histogram_since(&before->log_times.wal_write_batches, &now->log_times.wal_write_batches);
    histogram_since(&before->log_times.wal_wait_ns, &now->log_times.wal_wait_ns);
}

void stat_asked(struct data_core *c, struct msg *msg)
{
    struct stat_letter *letter = container_of(msg, struct stat_letter, msg);
    assert(core_same(core_self(), c->id));
    if (letter->tables)
        sum_want(letter->sum, c);
    else
        stat_sum_core(letter->sum, c);
    msg->kind = MSG_STAT_HOME;
    mail_send(&c->mail, msg->home, msg);
}
