/* The reactor of one core: one ring for its sockets, its files and the wakes of other cores.
 *
 *   io_recv_start, io_write, ...      queue entries; nothing enters the kernel
 *          │
 *   io_poll ─▶ ONE enter: submits all, waits ─▶ clocks ─▶ settle by kind ─▶ op.done
 *                 ▲                                          │ short transfer, lost arm
 *                 └──────────────────────────────────────────┘ goes round again
 *
 *  1. done runs from io_poll only: starting an op at most submits, and completions are looked at
 *     nowhere else.
 *  2. One system call per turn when there is something to submit or to wait for; none when
 *     completions are left over from the last turn and nothing is queued.
 *  3. inflight counts the completions that the kernel owes. io_stop comes back when it is zero, so
 *     that memory of ops and buffers may then be freed.
 *  4. A poll does not return before its time without a completion or a wake; the kernel's timeout
 *     is relative, taken from the clock just before the wait, so it cannot be early.
 *  5. Clocks are read once per poll, after waking.
 *
 * Spinning: who knows that a completion is near (io_spin) has the core look at the completion ring
 * until then: a wake takes a virtual CPU 20 to 50 us. Looking costs no system call: the kernel
 * raises IORING_SQ_TASKRUN in shared memory when there is work to fetch. After a spin the core
 * rests for twice as long, so that it looks for a third of the time at most, whatever it is told.
 *
 * Failures: a full submission queue is submitted and filled again. -EBUSY and -EAGAIN of an enter
 * leave the entries queued for the next turn. A completion lost by the kernel (-EBADR, it had no
 * memory to keep it) is not survivable: somebody would wait for ever. */
#include "io/uring/uring_priv.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define BATCH        64u /* completions looked at together */
#define SUBMITS_MAX  1000u
#define ROUNDS_MAX   1000u           /* of one poll that only met io's own completions */
#define STOP_NS_MAX  (10 * NS_PER_S) /* a device that takes longer will not answer */
#define STOP_TURN_NS 100000000
#define IOWQ_WORKERS 4u
#define SLEEP_NS_MAX (3600 * NS_PER_S) /* then it looks around, and sleeps on */
#define GATHER_MAX   32u               /* completions that end a gathering wait before its time */
#define SIGMASK_SIZE 8u                /* as the kernel has it */
#define SPIN_RESTS   2u                /* as long as the spin before */

/* ---- clocks and chance ----------------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t which)
{
    struct timespec t;
    int error = clock_gettime(which, &t);
    assert(error == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void clocks_sample(struct io *io)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    assert(now >= io->now_ns);
    io->now_ns = now;
    io->wall_ms = (int64_t)(clock_ns(CLOCK_REALTIME) / NS_PER_MS);
}

uint64_t io_now_ns(const struct io *io)
{
    return io->now_ns;
}

int64_t io_wall_ms(const struct io *io)
{
    return io->wall_ms;
}

const uint64_t *io_now_pointer(const struct io *io)
{
    return &io->now_ns;
}

const int64_t *io_wall_pointer(const struct io *io)
{
    return &io->wall_ms;
}

uint64_t io_clock_ns(struct io *io)
{
    (void)io;
    return clock_ns(CLOCK_MONOTONIC);
}

void io_entropy(struct io *io, void *to, size_t size)
{
    (void)io;
    uint8_t *at = to;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        assert(n > 0); /* getrandom does not fail on a kernel with io_uring */
        at += n;
        size -= (size_t)n;
    }
}

static uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256**: good enough for jitter, and three nanoseconds. */
uint64_t io_random(struct io *io)
{
    uint64_t *s = io->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* ---- submission ------------------------------------------------------------------------------ */

static bool enter_error_passes(int error)
{
    return error == -ETIME || error == -EINTR || error == -EAGAIN || error == -EBUSY;
}

struct io_uring_sqe *uring_sqe(struct io *io)
{
    assert(core_same(core_self(), io->core));
    for (uint32_t i = 0; i < SUBMITS_MAX; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(io->ring);
        if (sqe != NULL)
            return sqe;
        int n = io_uring_submit(io->ring);
        assert(n >= 0 || enter_error_passes(n));
    }
    assert(io_uring_sq_space_left(io->ring) > 0); /* the kernel takes no entries any more */
    return NULL;
}

void uring_tag(struct io *io, struct io_uring_sqe *sqe, struct op *op, enum uring_kind kind)
{
    assert(((uintptr_t)op & KIND_MASK) == 0);
    assert(kind != KIND_INTERNAL);
    sqe->user_data = (uintptr_t)op | (uint64_t)kind;
    io->inflight++;
}

void uring_tag_internal(struct io_uring_sqe *sqe, enum uring_internal code)
{
    sqe->user_data = (uint64_t)code << KIND_BITS | KIND_INTERNAL;
}

void uring_ready(struct io *io, struct op *op, int32_t result)
{
    assert(op->armed);
    op->result = result;
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_nop(sqe);
    uring_tag(io, sqe, op, KIND_READY);
}

void uring_cancel(struct io *io, const struct op *op, enum uring_kind kind)
{
    assert(op->armed);
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_cancel64(sqe, (uintptr_t)op | (uint64_t)kind, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    uring_tag_internal(sqe, INTERNAL_NONE);
}

void uring_finish(struct op *op, int32_t result)
{
    assert(op->armed);
    op->armed = false;
    op->result = result;
    op->done(op);
}

/* ---- wakes ----------------------------------------------------------------------------------- */

static void bell_arm(struct io *io)
{
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_read(sqe, io->world->bell_fds[io->core.index], &io->bell_value,
                       sizeof(io->bell_value), 0);
    uring_tag_internal(sqe, INTERNAL_BELL);
    io->inflight++;
}

void io_wake(struct io *from, struct core_id to)
{
    assert(core_same(core_self(), from->core));
    assert(to.index < from->world->cores_count);
    if (core_same(to, from->core)) {
        from->nudged = true;
        return;
    }
    int bell = from->world->bell_fds[to.index];
    if (bell >= 0) {
        uint64_t one = 1;
        ssize_t n = write(bell, &one, sizeof(one));
        assert(n == (ssize_t)sizeof(one) || errno == EAGAIN); /* a full counter rings as well */
        return;
    }
    /* Leaves with the next enter. A core that has not started, or has stopped, does not sleep. */
    struct io_uring_sqe *sqe = uring_sqe(from);
    io_uring_prep_msg_ring(sqe, from->world->ring_fds[to.index], 0,
                           (uint64_t)INTERNAL_WAKE << KIND_BITS | KIND_INTERNAL, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    uring_tag_internal(sqe, INTERNAL_NONE);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The kernel always leaves this to one of its helper threads. Nobody waits for it, so it is not
 * among what is in flight: in memory that was freed meanwhile it fails, or finds pages for somebody
 * else. */
void io_prefault(struct io *io, void *memory, size_t size)
{
    assert(core_same(core_self(), io->core));
    assert(((uintptr_t)memory & 4095u) == 0 && size > 0 && size <= INT32_MAX);
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_madvise(sqe, memory, (off_t)size, MADV_POPULATE_WRITE);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    uring_tag_internal(sqe, INTERNAL_NONE);
}

/* ---- one turn -------------------------------------------------------------------------------- */

/* Returns how many were somebody's. */
static uint32_t internal_settle(struct io *io, uint64_t code, int32_t result)
{
    switch ((enum uring_internal)code) {
    case INTERNAL_NONE:
        break; /* a cancel that came too late, a wake for a core that is not there */
    case INTERNAL_WAKE:
        io->woken = true;
        break;
    case INTERNAL_BELL:
        io->inflight--;
        io->woken = true;
        bell_arm(io);
        break;
    case INTERNAL_SIGNAL:
        io->inflight--;
        uring_signal_settle(io, result);
        return 1;
    }
    return 0;
}

static void once_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    io->inflight--;
    uring_finish(op, result);
}

static void ready_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    (void)result;
    (void)flags;
    io->inflight--;
    uring_finish(op, op->result);
}

static void (*const settles[KINDS])(struct io *, struct op *, int32_t, uint32_t) = {
    [KIND_ACCEPT] = uring_accept_settle, [KIND_RECV] = uring_recv_settle,
    [KIND_SEND] = uring_send_settle,     [KIND_CONNECT] = uring_connect_settle,
    [KIND_RW] = uring_rw_settle,         [KIND_ONCE] = once_settle,
    [KIND_READY] = ready_settle,
};

static struct op *op_of(uint64_t user_data)
{
    return (struct op *)(uintptr_t)(user_data & ~(uint64_t)KIND_MASK);
}

/* Settles what is there, up to the budget. Returns how many were somebody's. */
static uint32_t reap(struct io *io, uint32_t budget)
{
    uint32_t count = 0;
    while (count < budget) {
        struct io_uring_cqe *batch[BATCH];
        uint32_t n = io_uring_peek_batch_cqe(io->ring, batch, MIN(BATCH, budget - count));
        if (n == 0)
            break;
        for (uint32_t i = 0; i < n; i++) {
            struct io_uring_cqe cqe = {
                .user_data = batch[i]->user_data, .res = batch[i]->res, .flags = batch[i]->flags};
            io_uring_cqe_seen(io->ring, batch[i]); /* done may stay long, its slot need not */
            uint64_t kind = cqe.user_data & KIND_MASK;
            if (kind == KIND_INTERNAL) {
                count += internal_settle(io, cqe.user_data >> KIND_BITS, cqe.res);
                continue;
            }
            settles[kind](io, op_of(cqe.user_data), cqe.res, cqe.flags);
            count++;
        }
        if (n < BATCH)
            break;
    }
    return count;
}

/* Does the kernel hold work for us that only an enter brings out? */
static bool kernel_calls(const struct io *io)
{
    return (IO_URING_READ_ONCE(*io->ring->sq.kflags) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void enter(struct io *io)
{
    if (io_uring_sq_ready(io->ring) == 0 && io->taskrun_flag && !kernel_calls(io))
        return;
    int n = io_uring_submit_and_get_events(io->ring);
    assert(n >= 0 || enter_error_passes(n));
}

/* Looks for a completion until then; true when there is one. */
static bool spin(struct io *io, uint64_t until_ns)
{
    enter(io);
    while (io_uring_cq_ready(io->ring) == 0) {
        if (clock_ns(CLOCK_MONOTONIC) >= until_ns)
            return false;
        __builtin_ia32_pause();
        if (kernel_calls(io) || !io->taskrun_flag)
            enter(io);
    }
    return true;
}

static bool spin_then_rest(struct io *io, uint64_t start_ns, uint64_t until_ns)
{
    bool found = spin(io, MIN(io->spin_until_ns, until_ns));
    uint64_t end = clock_ns(CLOCK_MONOTONIC);
    io->spin_from_ns = end + (end - start_ns) * SPIN_RESTS;
    return found;
}

/* Not liburing's call for it: that is of 2.8, and the wait must know what the submission has
 * brought at once, so that it waits for more than that. */
int uring_wait_for(struct io_uring *ring, bool registered, uint32_t count, uint64_t min_wait_ns,
                   uint64_t limit_ns)
{
    struct __kernel_timespec t = {.tv_sec = (int64_t)(limit_ns / NS_PER_S),
                                  .tv_nsec = (int64_t)(limit_ns % NS_PER_S)};
    struct abi_wait wait = {.sigmask_size = SIGMASK_SIZE,
                            .min_wait_us = (uint32_t)(min_wait_ns / NS_PER_US),
                            .timeout = (uintptr_t)&t};
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (registered)
        flags |= IORING_ENTER_REGISTERED_RING;
    int n = io_uring_enter2((unsigned)ring->enter_ring_fd, 0, count, flags, (sigset_t *)&wait,
                            sizeof(wait));
    return MIN(n, 0);
}

/* Sleeps for some completions more than what submitting brings. */
static void gather(struct io *io, uint64_t left)
{
    int n = io_uring_submit(io->ring);
    assert(n >= 0 || enter_error_passes(n));
    uint32_t count = io_uring_cq_ready(io->ring) + GATHER_MAX;
    n = uring_wait_for(io->ring, io->registered, count, io->gather_ns, left);
    assert(n >= 0 || enter_error_passes(n));
}

static void wait(struct io *io, uint64_t until_ns)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    if (start >= until_ns) {
        enter(io);
        return;
    }
    if (io->gather_ns > 0 && until_ns - start > io->gather_ns) {
        gather(io, MIN(until_ns - start, SLEEP_NS_MAX));
        return;
    }
    if (start < io->spin_until_ns && start >= io->spin_from_ns) {
        if (spin_then_rest(io, start, until_ns))
            return;
        start = clock_ns(CLOCK_MONOTONIC);
    }
    uint64_t left = start < until_ns ? MIN(until_ns - start, SLEEP_NS_MAX) : 0;
    struct __kernel_timespec t = {.tv_sec = (int64_t)(left / NS_PER_S),
                                  .tv_nsec = (int64_t)(left % NS_PER_S)};
    struct io_uring_cqe *cqe;
    int n = io_uring_submit_and_wait_timeout(io->ring, &cqe, 1, &t, NULL);
    assert(n >= 0 || enter_error_passes(n));
}

void io_spin(struct io *io, uint64_t until_ns)
{
    assert(core_same(core_self(), io->core));
    io->spin_until_ns = until_ns;
}

void io_gather(struct io *io, uint64_t ns)
{
    assert(core_same(core_self(), io->core));
    assert(ns < NS_PER_S);
    io->gather_ns = (io->world->lacks & WITHOUT_MIN_WAIT) != 0 ? 0 : ns;
}

uint32_t io_poll(struct io *io, uint64_t until_ns, uint32_t budget)
{
    assert(core_same(core_self(), io->core));
    assert(budget > 0);
    if (io->nudged)
        until_ns = 0;
    io->nudged = false;
    io->woken = false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < ROUNDS_MAX; i++) {
        uring_recv_feed(io);
        if (until_ns == 0 || io_uring_cq_ready(io->ring) > 0)
            enter(io);
        else
            wait(io, until_ns);
        clocks_sample(io);
        count = reap(io, budget);
        if (count > 0 || io->woken || io->nudged || io->now_ns >= until_ns)
            break;
    }
    return count;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void lacks_trace(const struct io *io)
{
    uint32_t lacks = io->world->lacks;
    if (io->trace == NULL || io->core.index != 0)
        return; /* it is the same for all cores */
    if ((lacks & WITHOUT_DEFER) != 0)
        trace_line(io->trace, TRACE_IO, TRACE_WARN, "io_uring has no DEFER_TASKRUN here; using %s",
                   (lacks & WITHOUT_COOP) != 0 ? "a plain ring" : "COOP_TASKRUN");
    if ((lacks & WITHOUT_MULTISHOT) != 0)
        trace_line(io->trace, TRACE_IO, TRACE_WARN,
                   "io_uring has no multishot receive here; arming each receive anew");
    if ((lacks & WITHOUT_MSG_RING) != 0)
        trace_line(io->trace, TRACE_IO, TRACE_WARN,
                   "io_uring has no MSG_RING here; waking cores by eventfd");
    if ((lacks & WITHOUT_MIN_WAIT) != 0)
        trace_line(io->trace, TRACE_IO, TRACE_DEBUG,
                   "io_uring cannot wait for several completions here; each wakes its core");
}

static int ring_enable(struct io *io, char *why, size_t why_size)
{
    int error = uring_enable(io->ring);
    if (error < 0) {
        snprintf(why, why_size, "io_uring of core %u: %s", io->core.index, strerror(-error));
        return error;
    }
    /* Neither is vital: without the first an enter is 100 ns slower, without the second a slow disk
     * may make the kernel start more helper threads than we like. */
    io->registered = io_uring_register_ring_fd(io->ring) == 1;
    if (!io->registered && io->trace != NULL)
        trace_line(io->trace, TRACE_IO, TRACE_WARN, "io_uring cannot register its own descriptor");
    unsigned workers[2] = {IOWQ_WORKERS, IOWQ_WORKERS};
    if (io_uring_register_iowq_max_workers(io->ring, workers) != 0 && io->trace != NULL)
        trace_line(io->trace, TRACE_IO, TRACE_WARN, "io_uring cannot bound its worker threads");
    return 0;
}

int io_start(struct io **out, const struct io_config *config, char *why, size_t why_size)
{
    assert(config->world != NULL && config->mem != NULL);
    assert(core_same(core_self(), config->core));
    assert(config->core.index < config->world->cores_count);
    struct world_core *seat = &config->world->cores[config->core.index];
    assert(!seat->started);
    struct io *io = mem_zalloc(config->mem, sizeof(*io));
    if (io == NULL) {
        snprintf(why, why_size, "the memory budget has no room for io");
        return -ENOMEM;
    }
    io->ring = &seat->ring;
    io->world = config->world;
    io->mem = config->mem;
    io->trace = config->trace;
    io->core = config->core;
    io->multishot = (io->world->lacks & WITHOUT_MULTISHOT) == 0;
    io->taskrun_flag = (io->ring->flags & IORING_SETUP_TASKRUN_FLAG) != 0;
    io->signal_fd = -1;
    list_init(&io->starving);
    io_entropy(io, io->random, sizeof(io->random));
    io->random[0] |= 1; /* all zero would stay zero */
    clocks_sample(io);
    int error = ring_enable(io, why, why_size);
    if (error == 0) {
        error = uring_buffers_start(io, config);
        if (error != 0)
            snprintf(why, why_size, "receive buffers of %u x %u bytes: %s%s", io->buffers_count,
                     io->buffer_size, strerror(-error),
                     error == -ENOMEM ? "; raise the limit of memory (ulimit -v, cgroup)" : "");
    }
    if (error != 0) {
        mem_free(io->mem, io, sizeof(*io));
        return error;
    }
    lacks_trace(io);
    if (io->world->bell_fds[io->core.index] >= 0)
        bell_arm(io);
    seat->started = true;
    *out = io;
    return 0;
}

/* A completion that comes while everything ends: its owner hears nothing, but may free the op. */
static void drop(struct io *io, uint64_t user_data, int32_t result, uint32_t flags)
{
    uint64_t kind = user_data & KIND_MASK;
    bool last = (flags & IORING_CQE_F_MORE) == 0;
    if (kind == KIND_INTERNAL) {
        uint64_t code = user_data >> KIND_BITS;
        if (code == INTERNAL_BELL || code == INTERNAL_SIGNAL)
            io->inflight--;
        return;
    }
    struct op *op = op_of(user_data);
    if (kind == KIND_ACCEPT && result >= 0)
        close(result);
    if (kind == KIND_CONNECT)
        uring_connect_drop(op);
    if (last) {
        op->armed = false;
        io->inflight--;
    }
}

static void cancel_all(struct io *io)
{
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    uring_tag_internal(sqe, INTERNAL_NONE);
    uint64_t limit = clock_ns(CLOCK_MONOTONIC) + STOP_NS_MAX;
    while (io->inflight > 0 && clock_ns(CLOCK_MONOTONIC) < limit) {
        struct __kernel_timespec t = {.tv_nsec = STOP_TURN_NS};
        struct io_uring_cqe *cqe;
        (void)io_uring_submit_and_wait_timeout(io->ring, &cqe, 1, &t, NULL);
        while (io_uring_peek_cqe(io->ring, &cqe) == 0) {
            drop(io, cqe->user_data, cqe->res, cqe->flags);
            io_uring_cqe_seen(io->ring, cqe);
        }
    }
}

void io_stop(struct io *io)
{
    assert(core_same(core_self(), io->core));
    assert(io->world->cores[io->core.index].started);
    cancel_all(io);
    struct list *l;
    while ((l = list_pop_front(&io->starving)) != NULL)
        container_of(l, struct io_recv, link)->op.armed = false;
    if (io->signal_op != NULL)
        io->signal_op->armed = false;
    if (io->signal_fd >= 0)
        close(io->signal_fd);
    (void)io_uring_unregister_ring_fd(io->ring);
    io->world->cores[io->core.index].started = false;
    if (io->inflight > 0) {
        /* A device that does not answer may still write to our buffers: they are left to it. */
        if (io->trace != NULL)
            trace_line(io->trace, TRACE_IO, TRACE_ERROR, "stopped with %u operations unanswered",
                       io->inflight);
        return;
    }
    uring_buffers_stop(io);
    mem_free(io->mem, io, sizeof(*io));
}
