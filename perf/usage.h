/* What a load cost: CPU time of the broker, of this program, and of everybody on the machine. */
#ifndef PERF_USAGE_H
#define PERF_USAGE_H

#include <stdint.h>

struct usage { /* seconds of CPU, so far */
    double broker, machine, self;
    uint64_t broker_written; /* bytes towards the disk */
};

/* pid is the broker's; 0: nothing of it. Threads of io_uring belong to their process. */
struct usage usage_now(int32_t pid);

#endif
