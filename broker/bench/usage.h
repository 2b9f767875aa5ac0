/* What a load cost, from outside: what the kernel says of the broker's process, of this program and
 * of the machine. */
#ifndef BROKER_BENCH_USAGE_H
#define BROKER_BENCH_USAGE_H

#include "io/io.h"

#define USAGE_THREADS_MAX 512u /* of which it is known who used how much */

struct usage_thread {
    long number; /* the kernel's */
    double scheduled;
};

struct usage {                        /* so far; seconds of CPU and counts */
    double user, system;              /* of the broker; threads of io_uring are its own */
    double scheduled;                 /* of the broker's living threads, by the scheduler */
    double machine, self;             /* of everybody; of this program */
    uint64_t resident, resident_peak; /* bytes, now */
    uint64_t written, read;           /* bytes towards and from the device */
    uint64_t switches_voluntary,
        switches; /* context switches, all threads; `switches` the forced */
    uint32_t threads, told_count;
    struct usage_thread told[USAGE_THREADS_MAX]; /* living threads of the broker */
};

/* pid is the broker's; 0: nothing of it. false: it is not there. */
NODISCARD bool usage_now(struct io *io, struct mem *mem, int32_t pid, struct usage *u);

/* CPU seconds of the broker between two of them: by its ticks (10 ms each), or by the scheduler's
 * account of its living threads where those are too coarse. */
double usage_cpu(const struct usage *from, const struct usage *to);
/* CPU seconds of the thread that used most between them, by the scheduler's account. */
double usage_busiest(const struct usage *from, const struct usage *to);

#endif
