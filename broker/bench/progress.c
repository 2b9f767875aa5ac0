/* See progress.h. What is shown is what the threads have told of: slices that nobody writes any
 * more. */
#include "broker/bench/progress.h"

#include <stdio.h>
#include <string.h>

#include "broker/bench/text.h"

#define BAR_CELLS   16u
#define LINE_ROOM   256
#define TERMINAL_S  1u
#define ELSEWHERE_S 10u
#define STDERR      2

void bench_slice_merge(struct bench_slice *into, const struct bench_slice *from)
{
    assert(into != from);
    into->records += from->records;
    into->bytes += from->bytes;
    into->read_records += from->read_records;
    histogram_merge(&into->response, &from->response);
    histogram_merge(&into->e2e, &from->e2e);
}

void progress_begin(struct progress *p, struct io *io, const struct plan *plan)
{
    *p = (struct progress){.io = io, .plan = plan, .terminal = io_is_terminal(io, STDERR)};
    p->shown = !plan->o.quiet && plan->o.limit == 0;
}

static void draw(struct progress *p, uint32_t number)
{
    const struct plan *plan = p->plan;
    const struct bench_slice *s = &p->since;
    char line[LINE_ROOM], bar[BAR_CELLS + 1], a[TEXT_NUMBER_SIZE], b[TEXT_NUMBER_SIZE],
        c[TEXT_NUMBER_SIZE], d[TEXT_NUMBER_SIZE];
    double seconds = (double)p->since_ns / (double)NS_PER_S;
    uint32_t part = (number + 1) * 100 / plan->slices_count;
    bool e2e = s->e2e.count > 0;
    const struct histogram *h = e2e ? &s->e2e : &s->response;
    uint64_t records =
        plan->senders_count == 0 && plan->receivers_count > 0 ? s->read_records : s->records;
    for (uint32_t i = 0; i < BAR_CELLS; i++)
        bar[i] = i < part * BAR_CELLS / 100 ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    int size = snprintf(
        line, sizeof(line), "%s[%s] %3u%%  %s/s  %s/s  %sp50 %s  p99 %s  max %s%s",
        p->terminal ? "\r" : "", bar, part, text_decimal(a, (double)records / seconds),
        text_bytes(b, (double)s->bytes / seconds), e2e ? "end to end " : "",
        text_duration(c, histogram_quantile(h, 0.5)), text_duration(d, histogram_quantile(h, 0.99)),
        text_duration((char[TEXT_NUMBER_SIZE]){0}, h->max), p->terminal ? "\033[K" : "\n");
    io_print(STDERR, line, (size_t)MIN(size, (int)sizeof(line) - 1));
    p->drawn = true;
}

void progress_slice(struct progress *p, const struct worker *workers, uint32_t number)
{
    const struct plan *plan = p->plan;
    if (!p->shown)
        return;
    for (uint32_t i = 0; i < plan->threads_count; i++)
        bench_slice_merge(&p->since, &workers[i].slices[number]);
    p->since_ns += plan->slice_ns;
    if (p->since_ns < (p->terminal ? TERMINAL_S : ELSEWHERE_S) * NS_PER_S)
        return;
    draw(p, number);
    memset(&p->since, 0, sizeof(p->since));
    p->since_ns = 0;
}

void progress_end(struct progress *p)
{
    if (p->drawn && p->terminal)
        io_print(STDERR, "\r\033[K", 4);
    p->drawn = false;
}
