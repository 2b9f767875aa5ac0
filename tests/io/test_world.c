/* Starting a node: what is refused, and why it says so; wakes between cores of one world. */
#include "tests/io/rig.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As container runtimes do it. */
static void forbid_io_uring(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((uint32_t)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

Test(world, a_seccomp_profile_without_io_uring_is_named)
{
    forbid_io_uring(EPERM);
    struct io_world *world = NULL;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -EPERM);
    cr_assert_null(world);
    cr_assert_not_null(strstr(why, "seccomp"), "%s", why);
}

Test(world, a_kernel_without_io_uring_is_named)
{
    forbid_io_uring(ENOSYS);
    struct io_world *world = NULL;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -ENOSYS);
    cr_assert_not_null(strstr(why, "io_uring_setup"), "%s", why);
}

Test(world, want_of_memory_and_of_descriptors_is_named)
{
    forbid_io_uring(ENOMEM);
    struct io_world *world = NULL;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -ENOMEM);
    cr_assert_not_null(strstr(why, "LimitMEMLOCK"), "%s", why);
    forbid_io_uring(EMFILE); /* of two filters the error of the later one wins */
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -EMFILE);
    cr_assert_not_null(strstr(why, "LimitNOFILE"), "%s", why);
}

Test(world, asks_for_as_many_descriptors_as_it_may_have)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 64;
    cr_assert_lt(limit.rlim_cur, limit.rlim_max);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct io_world *world = NULL;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), 0, "%s", why);
    struct rlimit now;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
    cr_assert_eq(now.rlim_cur, limit.rlim_max);
    io_world_stop(world);
}

Test(world, an_old_kernel_is_refused_by_name)
{
    cr_assert_neq(personality(0x0020000 /* UNAME26 */), -1);
    struct io_world *world = NULL;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -ENOSYS);
    cr_assert_not_null(strstr(why, "Linux 2.6"), "%s", why);
    cr_assert_not_null(strstr(why, "6.1"), "%s", why);
}

Test(world, a_why_that_is_too_short_is_cut)
{
    forbid_io_uring(EPERM);
    struct io_world *world = NULL;
    char why[8] = "";
    cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), -EPERM);
    cr_assert_eq(strlen(why), 7);
}

struct lines {
    char text[2048];
    size_t used;
};

static void keep_line(void *context, const char *line, size_t size)
{
    struct lines *l = context;
    cr_assert_lt(l->used + size, sizeof(l->text));
    memcpy(l->text + l->used, line, size);
    l->used += size;
    l->text[l->used] = 0;
}

/* Two cores of one world on one thread; each wakes the other. */
static void wake_each_other(uint32_t without, const char *traced)
{
    struct io_world *world;
    struct mem mem;
    struct lines lines = {0};
    struct trace trace;
    char why[256] = "";
    cr_assert_eq(uring_world_start(&world, 2, without, why, sizeof(why)), 0, "%s", why);
    cr_assert_eq(mem_init(&mem, 64 << 20), 0);
    struct io *ios[2];
    int64_t wall_ms = 0;
    trace_init(&trace, keep_line, &lines, &wall_ms);
    for (uint16_t i = 0; i < 2; i++) {
        core_enter((struct core_id){i});
        struct io_config config = {
            .world = world, .mem = &mem, .trace = &trace, .core = {.index = i}};
        cr_assert_eq(io_start(&ios[i], &config, why, sizeof(why)), 0, "%s", why);
    }
    if (traced != NULL)
        cr_assert_not_null(strstr(lines.text, traced), "%s", lines.text);
    else
        cr_assert_eq(lines.used, 0, "%s", lines.text);
    for (uint16_t i = 0; i < 10; i++) {
        uint16_t from = i % 2, to = 1 - from;
        core_enter((struct core_id){from});
        io_wake(ios[from], (struct core_id){to});
        io_wake(ios[from], (struct core_id){to}); /* two wakes may be one */
        (void)io_poll(ios[from], 0, 16);
        core_enter((struct core_id){to});
        uint64_t start = io_clock_ns(ios[to]);
        cr_assert_eq(io_poll(ios[to], start + 5 * NS_PER_S, 16), 0);
        cr_assert_lt(io_clock_ns(ios[to]), start + NS_PER_S);
        (void)io_poll(ios[to], 0, 16);
    }
    for (uint16_t i = 0; i < 2; i++) {
        core_enter((struct core_id){i});
        io_stop(ios[i]);
        if (i == 0) { /* a wake for a core that has stopped goes nowhere */
            core_enter((struct core_id){1});
            io_wake(ios[1], (struct core_id){0});
            (void)io_poll(ios[1], 0, 16);
        }
    }
    io_world_stop(world);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(world, cores_wake_each_other_by_their_rings)
{
    wake_each_other(0, NULL);
}

Test(world, cores_wake_each_other_by_eventfd_and_say_so)
{
    wake_each_other(WITHOUT_MSG_RING, "eventfd");
}

Test(world, cores_wake_each_other_on_cooperative_rings_and_say_so)
{
    wake_each_other(WITHOUT_DEFER, "COOP_TASKRUN");
}

Test(world, cores_wake_each_other_on_plain_rings_and_say_so)
{
    wake_each_other(WITHOUT_DEFER | WITHOUT_COOP, "plain ring");
}

Test(world, the_want_of_multishot_is_said)
{
    wake_each_other(WITHOUT_MULTISHOT, "multishot");
}

Test(world, a_wake_before_a_core_starts_goes_nowhere)
{
    struct io_world *world;
    struct mem mem;
    char why[256] = "";
    cr_assert_eq(io_world_start(&world, 2, why, sizeof(why)), 0);
    cr_assert_eq(mem_init(&mem, 64 << 20), 0);
    core_enter((struct core_id){0});
    struct io *io;
    struct io_config config = {.world = world, .mem = &mem};
    cr_assert_eq(io_start(&io, &config, why, sizeof(why)), 0);
    io_wake(io, (struct core_id){1});
    uint64_t until = io_clock_ns(io) + NS_PER_MS;
    cr_assert_eq(io_poll(io, until, 16), 0);
    cr_assert_geq(io_clock_ns(io), until);
    io_stop(io);
    io_world_stop(world);
    mem_destroy(&mem);
}
