/* The world of one node: a ring per core, made by the thread that starts the node, before any core
 * runs, so that every core knows every other's ring from its first turn on.
 *
 *   start-up thread           core's thread                     another core
 *   io_world_start ─▶ ring, disabled ─▶ io_start: enables it ─▶ MSG_RING to its fd: io_wake
 *
 *  1. ring_fds and bell_fds never change after io_world_start; nobody needs a lock to read them.
 *  2. A ring's descriptor outlives its core: only io_world_stop closes it, so a late wake meets a
 *     ring that nobody polls, never somebody else's file.
 *  3. Every feature is tried by doing it once. A ring that can be made proves nothing about what
 *     it will do under a seccomp filter or an emulated kernel.
 *  4. What is missing becomes a WITHOUT_ bit, and the cores take the slower way:
 *        DEFER_TASKRUN ─▶ COOP_TASKRUN ─▶ plain ring          (interrupts the thread for each
 * event) multishot accept and receive ─▶ one shot each        (one more entry per event) MSG_RING
 * ─▶ eventfd with a read armed on the ring    (one more system call per wake)
 *
 * Failures: no io_uring at all is refused with the remedy in `why`, as operators meet it in
 * containers most of all. */
#include "io/uring/uring_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define KERNEL_MAJOR_MIN  6
#define KERNEL_MINOR_MIN  1
#define PROBE_ENTRIES     8u
#define PROBE_BUFFER_SIZE 64u
#define PROBE_MIN_WAIT_NS 1000
#define PROBE_WAIT_NS     200000000 /* an operation that takes longer on loopback is not there */

static bool kernel_is_old(const char *release)
{
    char *end;
    long major = strtol(release, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major < KERNEL_MAJOR_MIN || (major == KERNEL_MAJOR_MIN && minor < KERNEL_MINOR_MIN);
}

/* kernel.io_uring_disabled: 0, 1 or 2; -1 where the kernel has no such switch. */
static int disabled_switch(void)
{
    int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    char text[8] = {0};
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 ? (int)strtol(text, NULL, 10) : -1;
}

static void explain(int error, char *why, size_t why_size)
{
    assert(error < 0);
    int off = disabled_switch();
    if (off == 2)
        snprintf(why, why_size,
                 "io_uring is switched off for everybody (kernel.io_uring_disabled=2); run: "
                 "sysctl -w kernel.io_uring_disabled=0");
    else if (off == 1 && error == -EPERM)
        snprintf(why, why_size,
                 "io_uring is only for the group of kernel.io_uring_group "
                 "(kernel.io_uring_disabled=1); add this user to that group, or run: "
                 "sysctl -w kernel.io_uring_disabled=0");
    else if (error == -EPERM || error == -EACCES || error == -ENOSYS)
        snprintf(why, why_size,
                 "io_uring is refused (%s), most likely by a container's seccomp profile; allow "
                 "io_uring_setup, io_uring_enter and io_uring_register in it (Docker: "
                 "--security-opt seccomp=PROFILE, Kubernetes: seccompProfile)",
                 strerror(-error));
    else if (error == -ENOMEM)
        snprintf(why, why_size,
                 "no memory for an io_uring; raise the memory limit of the cgroup, "
                 "or LimitMEMLOCK / ulimit -l");
    else if (error == -EMFILE || error == -ENFILE)
        snprintf(why, why_size,
                 "no file descriptor left for an io_uring; raise LimitNOFILE / "
                 "ulimit -n");
    else
        snprintf(why, why_size, "io_uring_setup: %s", strerror(-error));
}

/* The best ring there is; narrows *lacks as it falls back. */
static int ring_make(struct io_uring *ring, uint32_t entries, uint32_t *lacks)
{
    const struct {
        uint32_t needs, flags;
    } choices[] = {
        {WITHOUT_DEFER,
         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
        {WITHOUT_COOP, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
        {0, 0},
    };
    int error = -EINVAL;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        if ((*lacks & choices[i].needs) != 0)
            continue;
        struct io_uring_params p = {0};
        p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
                  IORING_SETUP_R_DISABLED | choices[i].flags;
        p.cq_entries = entries * (CQ_ENTRIES / SQ_ENTRIES);
        error = io_uring_queue_init_params(entries, ring, &p);
        if (error == 0 && (ring->features & IORING_FEAT_EXT_ARG) == 0) {
            io_uring_queue_exit(ring); /* no wait with a timeout: not a kernel we support */
            return -EINVAL;
        }
        if (error != -EINVAL)
            return error;
        *lacks |= choices[i].needs;
    }
    return error;
}

int uring_enable(struct io_uring *ring)
{
    /* Not io_uring_enable_rings: some builds of the library forgot to export it. */
    return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Submits what is queued and takes one completion. */
static bool probe_reap(struct io_uring *ring, int32_t *result, uint32_t *flags)
{
    struct io_uring_cqe *cqe = NULL;
    struct __kernel_timespec limit = {.tv_nsec = PROBE_WAIT_NS};
    (void)io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, NULL);
    if (cqe == NULL)
        return false;
    *result = cqe->res;
    *flags = cqe->flags;
    io_uring_cqe_seen(ring, cqe);
    return true;
}

static bool probe_msg_ring(struct io_uring *from, uint32_t lacks)
{
    struct io_uring to;
    if (ring_make(&to, PROBE_ENTRIES, &lacks) != 0)
        return false;
    bool works = false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(from);
    if (uring_enable(&to) == 0 && sqe != NULL) {
        io_uring_prep_msg_ring(sqe, to.ring_fd, 0, 77, 0);
        sqe->user_data = 0;
        int32_t result = -1;
        uint32_t flags = 0;
        works = probe_reap(from, &result, &flags) && result == 0 &&
                probe_reap(&to, &result, &flags) && result == 0;
    }
    io_uring_queue_exit(&to);
    return works;
}

/* Two bytes over a socket pair, into two buffers of one armed receive. */
static bool probe_multishot(struct io_uring *ring)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works = page != MAP_FAILED;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)page, .ring_entries = 2};
    if (works && io_uring_register_buf_ring(ring, &reg, 0) == 0) {
        struct io_uring_buf_ring *buffers = (struct io_uring_buf_ring *)(void *)page;
        io_uring_buf_ring_init(buffers);
        for (uint16_t i = 0; i < 2; i++)
            io_uring_buf_ring_add(buffers, page + 2048 + i * PROBE_BUFFER_SIZE, PROBE_BUFFER_SIZE,
                                  i, 1, i);
        io_uring_buf_ring_advance(buffers, 2);
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        io_uring_prep_recv_multishot(sqe, pair[0], NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
        sqe->user_data = 0;
        for (uint16_t i = 0; i < 2 && works; i++) {
            int32_t result = -1;
            uint32_t flags = 0;
            works = write(pair[1], "x", 1) == 1 && probe_reap(ring, &result, &flags) &&
                    result == 1 && (flags & IORING_CQE_F_MORE) != 0;
        }
        (void)shutdown(pair[1], SHUT_RDWR);
        int32_t result;
        uint32_t flags;
        (void)probe_reap(ring, &result, &flags); /* its end */
        (void)io_uring_unregister_buf_ring(ring, 0);
    } else {
        works = false;
    }
    if (page != MAP_FAILED)
        (void)munmap(page, 4096);
    close(pair[0]);
    close(pair[1]);
    return works;
}

/* Two completions are waited for, one is there, and the wait goes on for one soon enough. */
static bool probe_min_wait(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_nop(sqe);
    sqe->user_data = 0;
    if (io_uring_submit(ring) != 1)
        return false;
    struct timespec begin, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    int error = uring_wait_for(ring, false, 2, PROBE_MIN_WAIT_NS, PROBE_WAIT_NS);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    int32_t result = -1;
    uint32_t flags = 0;
    int64_t took = (end.tv_sec - begin.tv_sec) * (int64_t)NS_PER_S + end.tv_nsec - begin.tv_nsec;
    return probe_reap(ring, &result, &flags) && result == 0 && error == 0 && took < PROBE_WAIT_NS;
}

static int probe_features(uint32_t *lacks)
{
    struct io_uring ring;
    int error = ring_make(&ring, PROBE_ENTRIES, lacks);
    if (error != 0)
        return error;
    error = uring_enable(&ring);
    if (error == 0) {
        if (!probe_msg_ring(&ring, *lacks))
            *lacks |= WITHOUT_MSG_RING;
        if (!probe_multishot(&ring))
            *lacks |= WITHOUT_MULTISHOT;
        if (!probe_min_wait(&ring))
            *lacks |= WITHOUT_MIN_WAIT;
    }
    io_uring_queue_exit(&ring);
    return error;
}

static void signals_block(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over the limit is -EFBIG */
}

static int cores_make(struct io_world *w)
{
    for (uint32_t i = 0; i < w->cores_count; i++) {
        int error = ring_make(&w->cores[i].ring, SQ_ENTRIES, &w->lacks);
        if (error != 0)
            return error;
        w->cores[i].made = true;
        w->ring_fds[i] = w->cores[i].ring.ring_fd;
        if ((w->lacks & WITHOUT_MSG_RING) == 0)
            continue;
        w->bell_fds[i] = eventfd(0, EFD_CLOEXEC);
        if (w->bell_fds[i] < 0)
            return -errno;
    }
    return 0;
}

int uring_world_start(struct io_world **world, uint32_t cores_count, uint32_t without, char *why,
                      size_t why_size)
{
    assert(cores_count > 0 && cores_count <= CORES_MAX);
    assert(why != NULL && why_size > 0);
    struct utsname name;
    if (uname(&name) == 0 && kernel_is_old(name.release)) {
        snprintf(why, why_size, "Linux %s is too old; torc needs %d.%d or newer", name.release,
                 KERNEL_MAJOR_MIN, KERNEL_MINOR_MIN);
        return -ENOSYS;
    }
    uint32_t lacks = without;
    int error = probe_features(&lacks);
    if (error != 0) {
        explain(error, why, why_size);
        return error;
    }
    size_t size = sizeof(struct io_world) + cores_count * sizeof(struct world_core);
    struct io_world *w =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED) {
        explain(-ENOMEM, why, why_size);
        return -ENOMEM;
    }
    w->cores_count = cores_count;
    w->lacks = lacks;
    w->size = size;
    for (uint32_t i = 0; i < CORES_MAX; i++)
        w->ring_fds[i] = w->bell_fds[i] = -1;
    error = cores_make(w);
    if (error != 0) {
        explain(error, why, why_size);
        io_world_stop(w);
        return error;
    }
    signals_block();
    *world = w;
    return 0;
}

uint64_t io_descriptors_max(const struct io *io)
{
    struct rlimit limit;
    assert(io != NULL);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT32_MAX;
    return limit.rlim_cur;
}

/* The soft limit is low for the sake of programs that select(); a broker asks for all it may have.
 */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* it does with what it has */
}

int io_world_start(struct io_world **world, uint32_t cores_count, char *why, size_t why_size)
{
    raise_descriptors();
    return uring_world_start(world, cores_count, 0, why, why_size);
}

void io_world_stop(struct io_world *w)
{
    assert(w != NULL);
    for (uint32_t i = 0; i < w->cores_count; i++) {
        assert(!w->cores[i].started); /* io_stop comes first */
        if (w->cores[i].made)
            io_uring_queue_exit(&w->cores[i].ring);
        if (w->bell_fds[i] >= 0)
            close(w->bell_fds[i]);
    }
    (void)munmap(w, w->size);
}
