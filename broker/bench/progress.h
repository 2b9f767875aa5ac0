/* The line that shows a load while it runs, on stderr. On a terminal it is written over each
 * second; elsewhere there is one line per ten seconds. */
#ifndef BROKER_BENCH_PROGRESS_H
#define BROKER_BENCH_PROGRESS_H

#include "broker/bench/worker.h"

struct progress {
    struct io *io;
    const struct plan *plan;
    bool shown, terminal, drawn;
    struct bench_slice since; /* what came since the last line */
    uint64_t since_ns;        /* how long that took */
};

void progress_begin(struct progress *p, struct io *io, const struct plan *plan);
/* Slice `number` is complete on every thread. */
void progress_slice(struct progress *p, const struct worker *workers, uint32_t number);
void progress_end(struct progress *p);

void bench_slice_merge(struct bench_slice *into, const struct bench_slice *from);

#endif
