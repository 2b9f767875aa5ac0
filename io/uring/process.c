/* What belongs to the process and not to a core: threads, signals, text output.
 *
 *  1. Signals of operators arrive as completions on the control core's ring: they are blocked in
 *     every thread (io_world_start does it before there are threads) and read from a signalfd.
 *     A signal therefore never interrupts anybody.
 *  2. A thread is started with all signals blocked, pinned before it runs its first line.
 *  3. io_print loses text rather than time or the process: a closed or full pipe is no reason to
 *     stop a broker.
 *
 * Failures: a pin to a CPU that is not ours is refused by io_thread_start. */
#include "io/uring/uring_priv.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREAD_NAME_SIZE 16u /* the kernel's */
#define PRINT_WRITES_MAX 1000u

struct io_thread {
    pthread_t handle;
    void (*run)(void *argument);
    void *argument;
    char name[THREAD_NAME_SIZE];
};

static void *thread_main(void *argument)
{
    struct io_thread *t = argument;
    (void)pthread_setname_np(pthread_self(), t->name);
    t->run(t->argument);
    return NULL;
}

int io_thread_start(struct io_thread **thread, void (*run)(void *argument), void *argument, int cpu,
                    const char *name)
{
    assert(run != NULL && name != NULL);
    assert(cpu < CPU_SETSIZE);
    struct io_thread *t =
        mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        return -ENOMEM;
    t->run = run;
    t->argument = argument;
    snprintf(t->name, sizeof(t->name), "%s", name);
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error == 0 && cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        error = pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
    }
    sigset_t all, before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0)
        error = pthread_create(&t->handle, &attributes, thread_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (error != 0) {
        (void)munmap(t, sizeof(*t));
        return -error;
    }
    *thread = t;
    return 0;
}

void io_thread_join(struct io_thread *t)
{
    assert(t != NULL);
    int error = pthread_join(t->handle, NULL);
    assert(error == 0);
    (void)munmap(t, sizeof(*t));
}

static void signal_arm(struct io *io)
{
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_read(sqe, io->signal_fd, &io->signal, sizeof(io->signal), 0);
    uring_tag_internal(sqe, INTERNAL_SIGNAL);
    io->inflight++;
}

void io_signals(struct io *io, struct op *op)
{
    assert(core_same(core_self(), io->core));
    assert(io->signal_op == NULL && !op->armed && op->done != NULL);
    op->armed = true;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    io->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (io->signal_fd < 0) {
        uring_ready(io, op, -errno);
        return;
    }
    io->signal_op = op;
    signal_arm(io);
}

void uring_signal_settle(struct io *io, int32_t result)
{
    struct op *op = io->signal_op;
    assert(op != NULL && op->armed);
    if (result != (int32_t)sizeof(io->signal)) {
        io->signal_op = NULL;
        close(io->signal_fd);
        io->signal_fd = -1;
        uring_finish(op, result < 0 ? result : -EIO);
        return;
    }
    op->result = (int32_t)io->signal.ssi_signo;
    signal_arm(io);
    op->done(op);
}

void io_print(int where, const char *text, size_t size)
{
    assert(where == STDOUT_FILENO || where == STDERR_FILENO);
    for (uint32_t i = 0; i < PRINT_WRITES_MAX && size > 0; i++) {
        ssize_t n = write(where, text, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        size -= (size_t)n;
    }
}

bool io_is_terminal(struct io *io, int where)
{
    (void)io;
    return isatty(where) == 1;
}
