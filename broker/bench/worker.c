/* One thread of a load.
 *
 *   connect ─▶ NEWS_READY ─▶ ORDER_START ─▶ timetable ... end of the window ─▶ drain ─▶ NEWS_SENT
 *      ─▶ ORDER_GOAL ─▶ receivers get there ─▶ NEWS_READ ─▶ ORDER_LEAVE ─▶ close everything
 *
 * The thread never waits longer than LOOK_NS, so that orders need no wake: nothing of it is urgent
 * once the timetable is known.
 *
 * Invariants:
 *  1. The timetable depends on start_ns and the plan alone. What is due within it is sent, also
 *     after its end: who comes too late for the window still waited.
 *  2. A slice is not written any more once NEWS_SLICE has told of it.
 *  3. After NEWS_FAILED `why` is set and nothing new is sent.
 *
 * Failure modes: whatever breaks a connection breaks the load, with one sentence; answers that do
 * not come for DRAIN_NS after the last request do too. */
#include "broker/bench/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

#define LOOK_NS      (20 * NS_PER_MS)
#define DRAIN_NS     (60 * NS_PER_S)
#define CLOSE_NS     (10 * NS_PER_S)
#define POLL_BUDGET  256u
#define DUE_BURST    4096u /* requests made in one turn at most */
#define ORDERS_MAX   8u
#define ARENA_LIMIT  (256ull << 20)
#define RECV_BUFFERS 16u
#define NEWS_RING    512u
_Static_assert(NEWS_RING >= BENCH_SLICES_MAX + NEWS_KINDS, "news never waits");

static void worker_tell(struct worker *w, enum news_kind kind, uint32_t number)
{
    assert(w->slots_used < sizeof(w->slots) / sizeof(w->slots[0]));
    struct news *n = &w->slots[w->slots_used++];
    *n = (struct news){kind, number};
    bool fits = ring_push(&w->news, n);
    assert(fits);
    (void)ring_publish(&w->news);
}

void worker_fail(struct worker *w, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(w->why, sizeof(w->why), format, arguments);
    va_end(arguments);
    worker_tell(w, NEWS_FAILED, 0);
}

void worker_broken(struct worker *w, const struct bench_link *k, const struct io_address *to)
{
    worker_fail(w, "%s:%u: %s%s%s", to->host, to->port, k->what, k->error == 0 ? "" : ": ",
                k->error == 0 ? "" : strerror(-k->error));
}

bool worker_link(struct worker *w, struct bench_link *k, uint32_t iov_max)
{
    assert(w->links_made < w->links_room);
    w->links[w->links_made++] = k;
    return bench_link_init(k, w->io, &w->mem, iov_max);
}

void worker_opened(struct worker *w)
{
    if (++w->opened == w->links_count)
        worker_tell(w, NEWS_READY, 0);
}

struct bench_slice *worker_slice(struct worker *w, uint64_t now)
{
    if (!w->started || now < w->begin_ns || now >= w->end_ns)
        return NULL;
    uint64_t number = (now - w->begin_ns) / w->plan->slice_ns;
    /* What was read off the clock before the slice was told of may come a little later. */
    number = MAX(number, w->next_slice);
    return number < w->plan->slices_count ? &w->slices[number] : NULL;
}

/* ---- orders ---------------------------------------------------------------------------------- */

static void worker_begin(struct worker *w, uint64_t start_ns)
{
    const struct bench_options *o = &w->plan->o;
    w->started = true;
    w->start_ns = start_ns;
    w->begin_ns = start_ns + (uint64_t)(o->warmup * (double)NS_PER_S);
    w->end_ns = w->begin_ns + (uint64_t)(o->seconds * (double)NS_PER_S);
    for (uint32_t i = 0; i < w->receivers_count; i++)
        receiver_pump(w->receivers[i]);
}

static void worker_orders(struct worker *w)
{
    void *items[ORDERS_MAX];
    uint32_t count = ring_drain(&w->orders, items, ORDERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const struct order *o = items[i];
        switch (o->kind) {
        case ORDER_START:
            worker_begin(w, o->start_ns);
            break;
        case ORDER_GOAL:
            w->ends = o->ends;
            for (uint32_t r = 0; r < w->receivers_count; r++)
                receiver_look(w->receivers[r]);
            break;
        case ORDER_STOP:
            w->stopping = true;
            break;
        case ORDER_LEAVE:
            w->leaving = true;
            break;
        }
    }
}

/* ---- the timetable --------------------------------------------------------------------------- */

/* The number, among all requests, of this thread's next one: its senders take turns. */
static uint64_t worker_next(const struct worker *w)
{
    const struct plan *p = w->plan;
    uint64_t round = w->next_number / w->senders_count, turn = w->next_number % w->senders_count;
    return round * p->senders_count + turn * p->threads_count + w->number;
}

static void worker_schedule(struct worker *w, uint64_t now)
{
    const struct plan *p = w->plan;
    if (w->senders_count == 0 || w->stopping)
        return;
    if (p->request_rate <= 0) {
        for (uint32_t i = 0; i < w->senders_count; i++)
            w->role->go_on(w, i);
        return;
    }
    for (uint32_t i = 0; i < DUE_BURST && !w->failed; i++) {
        uint64_t due = plan_due_ns(p, w->start_ns, worker_next(w));
        if (due >= w->end_ns)
            w->stopping = true; /* all there is of the timetable has been handed out */
        if (due > now || due >= w->end_ns)
            return;
        w->role->due(w, (uint32_t)(w->next_number++ % w->senders_count));
    }
}

static bool senders_idle(const struct worker *w)
{
    for (uint32_t i = 0; i < w->senders_count; i++)
        if (!w->role->idle(w, i))
            return false;
    return true;
}

/* Whether this thread has sent all it was asked to send. */
static bool worker_sent(const struct worker *w)
{
    const struct plan *p = w->plan;
    if (p->o.kind == BENCH_CONNECTIONS)
        return dials_all_open(w);
    if (p->requests_each > 0 && !w->stopping)
        for (uint32_t i = 0; i < w->senders_count; i++)
            if (w->senders[i]->made < p->requests_each)
                return false;
    return (w->stopping || p->requests_each > 0) && senders_idle(w);
}

static void worker_slices(struct worker *w, uint64_t now)
{
    while (w->next_slice < w->plan->slices_count &&
           now >= w->begin_ns + (w->next_slice + 1) * w->plan->slice_ns)
        worker_tell(w, NEWS_SLICE, (uint32_t)w->next_slice++);
}

static void worker_time(struct worker *w, uint64_t now)
{
    const struct bench_options *o = &w->plan->o;
    worker_slices(w, now);
    if (now >= w->end_ns && w->senders_count > 0 && w->plan->request_rate <= 0)
        w->stopping = true;
    if (o->kind == BENCH_CONNECTIONS)
        dials_due(w, now);
    if (now >= w->start_ns)
        worker_schedule(w, now);
    if (!w->said_sent && worker_sent(w)) {
        w->said_sent = true;
        worker_tell(w, NEWS_SENT, 0);
    }
    if (!w->said_sent && w->stopping && now > MAX(w->end_ns, w->answered_ns) + DRAIN_NS)
        worker_fail(w, "answers are missing %llu s after the last request", DRAIN_NS / NS_PER_S);
    if (!w->said_read && w->ends != NULL && w->receivers_done == w->receivers_count) {
        w->said_read = true;
        worker_tell(w, NEWS_READ, 0);
    }
}

static uint64_t worker_until(const struct worker *w, uint64_t now)
{
    const struct plan *p = w->plan;
    uint64_t until = now + LOOK_NS;
    if (!w->started || w->stopping || w->failed)
        return until;
    if (now < w->start_ns)
        return MIN(until, w->start_ns);
    until = MIN(until, now < w->begin_ns ? w->begin_ns : MAX(w->end_ns, now + NS_PER_MS));
    if (p->request_rate > 0 && w->senders_count > 0)
        until = MIN(until, plan_due_ns(p, w->start_ns, worker_next(w)));
    if (p->o.kind == BENCH_CONNECTIONS && p->o.rate > 0)
        until = MIN(until, now + NS_PER_MS);
    if (p->o.kind == BENCH_GROUPS && w->senders_count > 0)
        until = MIN(until, w->beat_due_ns);
    return until;
}

static void worker_flush(struct worker *w)
{
    while (!list_empty(&w->dirty)) {
        struct sender *s = container_of(list_pop_front(&w->dirty), struct sender, dirty);
        sender_flush(s);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool worker_open(struct worker *w)
{
    const struct plan *p = w->plan;
    const struct bench_options *o = &p->o;
    char why[sizeof(w->why)];
    struct io_config config = {
        .world = p->world, .core = w->id, .mem = &w->mem, .recv_buffers_count = RECV_BUFFERS};
    if (io_start(&w->io, &config, why, sizeof(why)) != 0) {
        worker_fail(w, "%s", why);
        return false;
    }
    w->role = o->kind == BENCH_TXN      ? &role_transactor
              : o->kind == BENCH_GROUPS ? &role_member
                                        : &role_sender;
    arena_init(&w->arena, &w->mem, ARENA_LIMIT);
    compress_init(&w->compress, &w->mem);
    w->slices = mem_zalloc(&w->mem, p->slices_count * sizeof(*w->slices));
    w->spreads = mem_zalloc(&w->mem, MAX(p->topic->partitions_count, 1) * sizeof(*w->spreads));
    w->senders = mem_zalloc(&w->mem, (p->senders_count + 1) * sizeof(struct sender *));
    w->transactors = mem_zalloc(&w->mem, (p->senders_count + 1) * sizeof(struct transactor *));
    w->members = mem_zalloc(&w->mem, (p->senders_count + 1) * sizeof(struct member *));
    w->receivers = mem_zalloc(&w->mem, (p->receivers_count + 1) * sizeof(struct receiver *));
    w->links_count = (p->senders_count + p->threads_count - 1 - w->number) / p->threads_count +
                     (p->receivers_count + p->threads_count - 1 - w->number) / p->threads_count;
    w->links_room = w->links_count + p->o.connections;
    w->links = mem_zalloc(&w->mem, MAX(w->links_room, 1) * sizeof(struct bench_link *));
    bool good = w->links != NULL && w->slices != NULL && w->spreads != NULL && w->senders != NULL &&
                w->transactors != NULL && w->members != NULL && w->receivers != NULL &&
                payload_template_make(&w->template, &w->mem, o->records, o->size, o->keys, o->soft,
                                      o->seed);
    for (uint32_t i = w->number; i < p->senders_count && good; i += p->threads_count)
        good = w->role->start(w, i);
    for (uint32_t i = w->number; i < p->receivers_count && good; i += p->threads_count)
        good = receiver_start(w, &w->receivers[w->receivers_count++], i);
    if (o->kind == BENCH_CONNECTIONS)
        good = good && dials_start(w);
    if (!good)
        worker_fail(w, "no memory for %u connections", w->links_count);
    else if (w->links_count == 0)
        worker_tell(w, NEWS_READY, 0);
    return good;
}

static bool links_over(const struct worker *w)
{
    for (uint32_t i = 0; i < w->links_made; i++)
        if (!bench_link_over(w->links[i]))
            return false;
    return true;
}

/* What was counted stays for the main thread; sockets go. */
static void worker_close(struct worker *w)
{
    for (uint32_t i = 0; i < w->links_made; i++)
        bench_link_close(w->links[i]);
    uint64_t limit = io_clock_ns(w->io) + CLOSE_NS;
    while (!links_over(w) && io_clock_ns(w->io) < limit)
        (void)io_poll(w->io, limit, POLL_BUDGET);
    for (uint32_t i = 0; i < w->links_made; i++)
        if (bench_link_over(w->links[i]))
            bench_link_free(w->links[i]);
}

void worker_run(void *argument)
{
    struct worker *w = argument;
    core_enter(w->id);
    bool open = worker_open(w);
    while (!w->leaving && w->io != NULL) {
        worker_orders(w);
        uint64_t now = io_clock_ns(w->io);
        if (open && !w->failed && w->plan->o.kind == BENCH_GROUPS)
            members_beat(w, now);
        if (w->started && open)
            worker_time(w, now);
        worker_flush(w);
        (void)io_poll(w->io, worker_until(w, io_clock_ns(w->io)), POLL_BUDGET);
    }
    if (w->io != NULL) {
        worker_close(w);
        compress_free(&w->compress);
        io_stop(w->io);
    }
    core_leave();
}
