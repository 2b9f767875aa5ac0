/* Threads, signals, text: what belongs to the process. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct look {
    char name[32];
    int cpus, cpu;
    bool blocked;
};

static void look_around(void *argument)
{
    struct look *l = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    (void)pthread_getaffinity_np(pthread_self(), sizeof(set), &set);
    l->cpus = CPU_COUNT(&set);
    l->cpu = sched_getcpu();
    (void)pthread_getname_np(pthread_self(), l->name, sizeof(l->name));
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    l->blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1;
}

Test(process, a_thread_runs_named_and_pinned_and_hears_no_signals)
{
    cpu_set_t ours;
    CPU_ZERO(&ours);
    cr_assert_eq(sched_getaffinity(0, sizeof(ours), &ours), 0);
    int cpu = 0;
    while (!CPU_ISSET((unsigned)cpu, &ours))
        cpu++;
    struct io_thread *thread;
    struct look l = {0};
    cr_assert_eq(io_thread_start(&thread, look_around, &l, cpu, "a-name-far-too-long"), 0);
    io_thread_join(thread);
    cr_assert_str_eq(l.name, "a-name-far-too-");
    cr_assert_eq(l.cpus, 1);
    cr_assert_eq(l.cpu, cpu);
    cr_assert(l.blocked);
    cr_assert_eq(io_thread_start(&thread, look_around, &l, -1, "free"), 0);
    io_thread_join(thread);
    cr_assert_eq(l.cpus, CPU_COUNT(&ours));
    cr_assert_eq(io_thread_start(&thread, look_around, &l, 1000, "nowhere"), -EINVAL);
}

struct signals {
    struct op op;
    uint32_t count;
    int32_t last;
};

static void signal_done(struct op *op)
{
    struct signals *s = container_of(op, struct signals, op);
    s->count++;
    s->last = op->result;
}

Test(process, signals_arrive_as_completions_again_and_again)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct signals s = {0};
    op_init(&s.op, signal_done);
    cr_assert_eq(kill(getpid(), SIGUSR1), 0); /* before anybody listens: kept, not lost */
    io_signals(rig.io, &s.op);
    cr_assert_eq(s.count, 0);
    RIG_UNTIL(&rig, s.count == 1);
    cr_assert_eq(s.last, SIGUSR1);
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(kill(getpid(), numbers[i]), 0);
        RIG_UNTIL(&rig, s.count == 2 + i);
        cr_assert_eq(s.last, numbers[i]);
        cr_assert(s.op.armed);
    }
    rig_stop(&rig);
    cr_assert_not(s.op.armed);
}

Test(process, text_is_printed_and_a_closed_pipe_is_survived)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int ends[2], before = dup(STDOUT_FILENO);
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    io_print(1, "hello", 5);
    char got[8] = "";
    cr_assert_eq(read(ends[0], got, 5), 5);
    cr_assert_str_eq(got, "hello");
    close(ends[0]);
    io_print(1, "nobody", 6);
    cr_assert_eq(dup2(before, STDOUT_FILENO), STDOUT_FILENO);
    close(before);
    close(ends[1]);
    rig_stop(&rig);
}
