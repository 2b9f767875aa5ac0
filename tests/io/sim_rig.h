/* A simulated machine whose one core is the test itself: a straight line of calls of io.h, with the
 * power going in between. */
#ifndef TESTS_IO_SIM_RIG_H
#define TESTS_IO_SIM_RIG_H

#include "io/sim/sim.h"

#include <criterion/criterion.h>
/* criterion brings the C library's assert; ours is the one meant. */
#undef assert
#define assert(condition)                                                                          \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

struct sim_rig {
    struct mem world_mem; /* the simulator's */
    struct mem mem;       /* the process's; a power cut drops it */
    struct sim *sim;
    struct sim_machine *machine;
    struct io *io;
};

void sim_rig_start(struct sim_rig *r, uint64_t seed);
/* Fails the test when memory is still in use. */
void sim_rig_stop(struct sim_rig *r);
/* The process dies, with the power or without, and a new one starts. */
void sim_rig_cut(struct sim_rig *r);
void sim_rig_kill(struct sim_rig *r);

/* Whole files at once. */
void sim_rig_write(struct sim_rig *r, const char *path, const void *bytes, size_t size,
                   uint64_t offset);
void sim_rig_sync(struct sim_rig *r, const char *path);
/* The file's size, -1 when there is none; up to `size` bytes of it in `to`. */
int64_t sim_rig_read(struct sim_rig *r, const char *path, void *to, size_t size);

/* Polls until the condition holds; fails the test after a virtual minute. */
#define SIM_UNTIL(r, condition)                                                                    \
    do {                                                                                           \
        uint64_t limit_ = io_clock_ns((r)->io) + 60 * NS_PER_S;                                    \
        while (!(condition)) {                                                                     \
            (void)io_poll((r)->io, io_clock_ns((r)->io) + NS_PER_MS, 64);                          \
            cr_assert(io_now_ns((r)->io) < limit_, "in time: %s", #condition);                     \
        }                                                                                          \
    } while (0)

#endif
