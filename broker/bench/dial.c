/* Connections that do nothing: each is opened when its moment has come, asks once which versions
 * the broker has, and stays. What is measured is how long a client that comes waits for its first
 * answer, and what the broker holds for those that stay.
 *
 *   due ─▶ connect ─▶ ApiVersions ─▶ answer: now - due        all open ─▶ NEWS_SENT
 *
 * Invariant: connection i of the whole load is due at start + i / rate, or at once in a closed
 * loop, where DIALING_MAX are under way. */
#include <string.h>

#include "broker/bench/worker.h"
#include "core/core.h"

#define DIALING_MAX 64u

struct dial {
    struct bench_link link;
    struct worker *worker;
    uint64_t due_ns, sent_ns;
    bool answered;
};

/* The same bytes for all: version 0 has no content. */
static const uint8_t hello[] = {0, 0,  0,   20,  0,   18,  0,   0,   0,   0,   0,   1,
                                0, 10, 't', 'o', 'r', 'c', '-', 'b', 'e', 'n', 'c', 'h'};

static void dial_opened(struct bench_link *k)
{
    k->iov[0] = (struct iovec){(void *)(uintptr_t)hello, sizeof(hello)};
    bench_link_send(k, 1);
}

static void dial_answer(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct dial *d = container_of(k, struct dial, link);
    struct worker *w = d->worker;
    uint64_t now = io_clock_ns(w->io);
    (void)data;
    if (d->answered || size < 2 * sizeof(int32_t)) {
        bench_link_break(k, "an answer that nobody asked for", 0);
        return;
    }
    d->answered = true;
    w->counts.opened++;
    histogram_record(&w->counts.latency[LATENCY_RESPONSE], now - d->due_ns);
    histogram_record(&w->counts.latency[LATENCY_SERVICE], now - d->sent_ns);
    histogram_record(&w->counts.latency[LATENCY_SLIP], d->sent_ns - d->due_ns);
    struct bench_slice *slice = worker_slice(w, now);
    if (slice != NULL) {
        slice->records++;
        histogram_record(&slice->response, now - d->due_ns);
    }
}

static void dial_broken(struct bench_link *k)
{
    struct dial *d = container_of(k, struct dial, link);
    worker_broken(d->worker, k, &d->worker->plan->o.address);
}

bool dials_start(struct worker *w)
{
    const struct plan *p = w->plan;
    w->dials_count = (p->o.connections + p->threads_count - 1 - w->number) / p->threads_count;
    w->dials = mem_zalloc(&w->mem, MAX(w->dials_count, 1) * sizeof(*w->dials));
    return w->dials != NULL;
}

bool dials_all_open(const struct worker *w)
{
    return w->counts.opened == w->dials_count;
}

void dials_due(struct worker *w, uint64_t now)
{
    const struct plan *p = w->plan;
    while (w->dials_next < w->dials_count && !w->failed) {
        uint64_t number = (uint64_t)w->dials_next * p->threads_count + w->number, due = now;
        if (p->o.rate > 0)
            due = w->start_ns + (uint64_t)((double)number * (double)NS_PER_S / p->o.rate);
        else if (w->dials_next - w->counts.opened >= DIALING_MAX)
            return;
        if (due > now)
            return;
        struct dial *d = &w->dials[w->dials_next++];
        d->worker = w;
        d->due_ns = due;
        d->sent_ns = now;
        if (!worker_link(w, &d->link, 1)) {
            worker_fail(w, "no memory for a connection");
            return;
        }
        d->link.opened = dial_opened;
        d->link.answer = dial_answer;
        d->link.broken = dial_broken;
        bench_link_open(&d->link, &p->o.address);
    }
}
