/* The turn of a reactor: time, budget, full queues, waking oneself, stopping. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void never_early(struct rig_options options, uint64_t gather_ns, uint64_t spin_ns)
{
    struct rig rig;
    rig_start(&rig, options);
    io_gather(rig.io, gather_ns);
    static const uint64_t waits[] = {1, 1000, 50000, 100000, 1000000, 3000000, 20000000};
    for (uint32_t i = 0; i < 50; i++) {
        uint64_t now = io_clock_ns(rig.io), until = now + waits[i % 7] + i;
        io_spin(rig.io, spin_ns == 0 ? 0 : now + spin_ns);
        cr_assert_eq(io_poll(rig.io, until, 16), 0);
        cr_assert_geq(io_clock_ns(rig.io), until);
        cr_assert_geq(io_now_ns(rig.io), until);
    }
    rig_stop(&rig);
}

Test(reactor, a_poll_never_returns_before_its_time)
{
    never_early((struct rig_options){0}, 0, 0);
}

Test(reactor, a_poll_never_returns_before_its_time_when_it_spins)
{
    never_early((struct rig_options){0}, 0, 50 * NS_PER_US);
}

Test(reactor, a_poll_never_returns_before_its_time_on_a_plain_ring)
{
    never_early((struct rig_options){.without = WITHOUT_DEFER | WITHOUT_COOP | WITHOUT_MSG_RING}, 0,
                0);
}

Test(reactor, a_poll_never_returns_before_its_time_when_it_gathers)
{
    never_early((struct rig_options){0}, 70 * NS_PER_US, 0);
}

/* ---- gathering ------------------------------------------------------------------------------- */

#define ALARMS_MAX 40u
#define GATHER_NS  (900 * NS_PER_MS) /* longer than a busy machine keeps a test waiting */

/* Reads that are done some time from now. */
struct alarms {
    struct rig_rw reads[ALARMS_MAX];
    struct iovec iovs[ALARMS_MAX];
    uint64_t rings[ALARMS_MAX];
    uint32_t count;
};

static void alarms_add(struct alarms *a, struct rig *rig, uint64_t after_ns)
{
    uint32_t i = a->count++;
    assert(i < ALARMS_MAX && after_ns < NS_PER_S);
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec when = {.it_value.tv_nsec = (long)after_ns};
    cr_assert_eq(timerfd_settime(fd, 0, &when, NULL), 0);
    a->iovs[i] = (struct iovec){&a->rings[i], sizeof(a->rings[i])};
    rig_rw_init(&a->reads[i], fd, &a->iovs[i], 1, 0, 0);
    io_read(rig->io, &a->reads[i].rw);
}

static void alarms_end(struct alarms *a, struct rig *rig)
{
    for (uint32_t i = 0; i < a->count; i++) {
        RIG_UNTIL(rig, a->reads[i].done.count == 1);
        cr_assert_eq(a->reads[i].done.result, 8);
        close(a->reads[i].rw.fd);
    }
}

/* False, and the rig is not started: the kernel cannot. */
static bool gathers(struct rig *rig, uint64_t ns)
{
    rig_start(rig, (struct rig_options){0});
    if ((rig->world->lacks & WITHOUT_MIN_WAIT) != 0) {
        rig_stop(rig);
        cr_skip_test("this kernel has no wait for several completions");
        return false;
    }
    io_gather(rig->io, ns);
    return true;
}

Test(reactor, a_gathering_poll_takes_up_together_what_comes_within_its_time)
{
    struct rig rig;
    struct alarms alarms = {0};
    if (!gathers(&rig, GATHER_NS))
        return;
    uint64_t start = io_clock_ns(rig.io);
    alarms_add(&alarms, &rig, NS_PER_MS);
    alarms_add(&alarms, &rig, 20 * NS_PER_MS);
    cr_assert_eq(io_poll(rig.io, start + 5 * NS_PER_S, 16), 2);
    cr_assert_geq(io_now_ns(rig.io), start + GATHER_NS);
    cr_assert_lt(io_now_ns(rig.io), start + 4 * NS_PER_S);
    alarms_end(&alarms, &rig);
    rig_stop(&rig);
}

Test(reactor, a_poll_that_has_gathered_nothing_in_its_time_returns_with_the_first)
{
    struct rig rig;
    struct alarms alarms = {0};
    if (!gathers(&rig, NS_PER_MS))
        return;
    uint64_t start = io_clock_ns(rig.io);
    alarms_add(&alarms, &rig, 50 * NS_PER_MS);
    alarms_add(&alarms, &rig, 990 * NS_PER_MS);
    cr_assert_eq(io_poll(rig.io, start + 5 * NS_PER_S, 16), 1);
    cr_assert_lt(io_now_ns(rig.io), start + 990 * NS_PER_MS);
    alarms_end(&alarms, &rig);
    rig_stop(&rig);
}

Test(reactor, a_gathering_poll_waits_no_longer_once_it_has_much)
{
    struct rig rig;
    struct alarms alarms = {0};
    if (!gathers(&rig, GATHER_NS))
        return;
    for (uint32_t i = 0; i < ALARMS_MAX; i++)
        alarms_add(&alarms, &rig, NS_PER_MS);
    uint64_t start = io_clock_ns(rig.io);
    cr_assert_geq(io_poll(rig.io, start + 5 * NS_PER_S, 64), 32);
    cr_assert_lt(io_now_ns(rig.io), start + GATHER_NS);
    io_gather(rig.io, 0);
    alarms_end(&alarms, &rig);
    rig_stop(&rig);
}

Test(reactor, nothing_is_gathered_where_the_kernel_cannot_or_when_it_is_called_off)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct rig rig;
        struct alarms alarms = {0};
        rig_start(&rig, (struct rig_options){.without = i == 0 ? WITHOUT_MIN_WAIT : 0});
        io_gather(rig.io, GATHER_NS);
        if (i == 1)
            io_gather(rig.io, 0);
        uint64_t start = io_clock_ns(rig.io);
        alarms_add(&alarms, &rig, NS_PER_MS);
        cr_assert_eq(io_poll(rig.io, start + 5 * NS_PER_S, 16), 1);
        cr_assert_lt(io_now_ns(rig.io), start + GATHER_NS);
        alarms_end(&alarms, &rig);
        rig_stop(&rig);
    }
}

Test(reactor, a_poll_without_time_does_not_wait)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint64_t start = io_clock_ns(rig.io);
    for (uint32_t i = 0; i < 1000; i++)
        cr_assert_eq(io_poll(rig.io, 0, 16), 0);
    cr_assert_lt(io_clock_ns(rig.io) - start, NS_PER_S);
    rig_stop(&rig);
}

/* CPU time of polls of a millisecond for 300 ms, each told that a completion is near for spin_ns.
 */
static uint64_t polls_cpu_ns(uint64_t spin_ns)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint64_t start = thread_cpu_ns(), now, until = io_clock_ns(rig.io) + 300 * NS_PER_MS;
    while ((now = io_clock_ns(rig.io)) < until) {
        io_spin(rig.io, now + spin_ns);
        (void)io_poll(rig.io, now + NS_PER_MS, 16);
    }
    uint64_t cpu = thread_cpu_ns() - start;
    rig_stop(&rig);
    return cpu;
}

Test(reactor, a_core_looks_while_a_completion_is_near_but_for_a_third_of_its_time_at_most)
{
    uint64_t asleep = polls_cpu_ns(0), looking = polls_cpu_ns(NS_PER_S);
    cr_assert_gt(looking, asleep);
    cr_assert_lt(looking, 150 * NS_PER_MS + asleep);
}

Test(reactor, a_core_that_looks_sees_what_completes)
{
    struct rig rig;
    struct alarms alarms = {0};
    rig_start(&rig, (struct rig_options){0});
    for (uint32_t i = 0; i < 20; i++) {
        alarms_add(&alarms, &rig, NS_PER_MS);
        uint64_t now = io_clock_ns(rig.io);
        io_spin(rig.io, now + 5 * NS_PER_S);
        cr_assert_eq(io_poll(rig.io, now + 5 * NS_PER_S, 16), 1);
        cr_assert_lt(io_now_ns(rig.io), now + 5 * NS_PER_S);
    }
    alarms_end(&alarms, &rig);
    rig_stop(&rig);
}

Test(reactor, clocks_stand_still_within_a_turn_and_go_on_with_the_next)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint64_t now = io_now_ns(rig.io);
    cr_assert_gt(now, 0);
    cr_assert_eq(*io_now_pointer(rig.io), now);
    while (io_clock_ns(rig.io) < now + NS_PER_MS)
        cr_assert_eq(io_now_ns(rig.io), now);
    (void)io_poll(rig.io, 0, 1);
    cr_assert_geq(io_now_ns(rig.io), now + NS_PER_MS);
    cr_assert_leq(io_now_ns(rig.io), io_clock_ns(rig.io));
    int64_t wall = (int64_t)time(NULL) * 1000;
    cr_assert_leq(llabs(io_wall_ms(rig.io) - wall), 2000);
    cr_assert_eq(*io_wall_pointer(rig.io), io_wall_ms(rig.io));
    rig_stop(&rig);
}

Test(reactor, waking_oneself_makes_the_next_poll_return_at_once)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    io_wake(rig.io, (struct core_id){0});
    cr_assert_eq(io_poll(rig.io, io_clock_ns(rig.io) + 5 * NS_PER_S, 16), 0);
    uint64_t until = io_clock_ns(rig.io) + NS_PER_MS;
    cr_assert_eq(io_poll(rig.io, until, 16), 0); /* once */
    cr_assert_geq(io_clock_ns(rig.io), until);
    rig_stop(&rig);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool resident(uint8_t *memory, size_t size)
{
    unsigned char pages[64];
    assert(size / 4096 <= sizeof(pages));
    cr_assert_eq(mincore(memory, size, pages), 0);
    for (size_t i = 0; i < size / 4096; i++)
        if ((pages[i] & 1) == 0)
            return false;
    return true;
}

Test(reactor, memory_is_backed_beside_the_core_that_does_not_touch_it)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    const size_t size = 64 * 4096;
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(memory != MAP_FAILED && !resident(memory, size));
    io_prefault(rig.io, memory, size);
    uint64_t limit = io_clock_ns(rig.io) + RIG_LIMIT_NS;
    while (!resident(memory, size)) {
        cr_assert_eq(io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 16), 0);
        cr_assert_lt(io_now_ns(rig.io), limit);
    }
    cr_assert_eq(rig.io->inflight, 0);
    cr_assert_eq(munmap(memory, size), 0);
    io_prefault(rig.io, memory, size); /* of memory that is gone: nobody hears of it */
    cr_assert_eq(io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 16), 0);
    rig_stop(&rig);
}

/* ---- many ops -------------------------------------------------------------------------------- */

#define READS (CQ_ENTRIES + 3 * SQ_ENTRIES) /* more than either queue holds */

Test(reactor, more_ops_than_queues_hold_all_come_back_within_the_budget)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int zero = open("/dev/zero", O_RDONLY);
    struct rig_rw *reads = calloc(READS, sizeof(*reads));
    struct iovec *iovs = calloc(READS, sizeof(*iovs));
    uint8_t *bytes = malloc(READS);
    memset(bytes, 1, READS);
    for (uint32_t i = 0; i < READS; i++) {
        iovs[i] = (struct iovec){bytes + i, 1};
        rig_rw_init(&reads[i], zero, &iovs[i], 1, 0, 0);
        io_read(rig.io, &reads[i].rw);
        cr_assert(reads[i].rw.op.armed && reads[i].done.count == 0);
    }
    uint32_t all = 0;
    while (all < READS) {
        uint32_t n = io_poll(rig.io, io_clock_ns(rig.io) + RIG_LIMIT_NS, 100);
        cr_assert(n > 0 && n <= 100);
        all += n;
    }
    for (uint32_t i = 0; i < READS; i++) {
        cr_assert_eq(reads[i].done.count, 1);
        cr_assert_eq(reads[i].done.result, 1);
        cr_assert_eq(bytes[i], 0);
    }
    cr_assert_eq(rig.io->inflight, 0);
    close(zero);
    free(reads);
    free(iovs);
    free(bytes);
    rig_stop(&rig);
}

struct again {
    struct rig *rig;
    struct rig_rw r;
    struct iovec iov;
    uint8_t byte;
    uint32_t count;
    bool inside;
};

static void again_done(struct op *op)
{
    struct again *a = container_of(op, struct again, r.rw.op);
    cr_assert(!a->inside); /* not from within the call below */
    a->count++;
    if (a->count == 5)
        return;
    a->inside = true;
    a->r.rw.iov = &a->iov;
    a->r.rw.iov_count = 1;
    a->iov = (struct iovec){&a->byte, 1};
    io_read(a->rig->io, &a->r.rw);
    a->inside = false;
}

Test(reactor, done_may_start_its_op_again_and_is_never_called_by_that)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct again a = {.rig = &rig};
    a.iov = (struct iovec){&a.byte, 1};
    int zero = open("/dev/zero", O_RDONLY);
    rig_rw_init(&a.r, zero, &a.iov, 1, 0, 0);
    a.r.rw.op.done = again_done;
    io_read(rig.io, &a.r.rw);
    cr_assert_eq(a.count, 0);
    RIG_UNTIL(&rig, a.count == 5);
    close(zero);
    rig_stop(&rig);
}

/* ---- chance ---------------------------------------------------------------------------------- */

Test(reactor, chance_differs_from_draw_to_draw_and_from_start_to_start)
{
    uint64_t first[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct rig rig;
        rig_start(&rig, (struct rig_options){0});
        first[i] = io_random(rig.io);
        for (uint32_t j = 0; j < 1000; j++)
            cr_assert_neq(io_random(rig.io), first[i]);
        uint8_t a[600] = {0}, b[600] = {0};
        io_entropy(rig.io, a, sizeof(a));
        io_entropy(rig.io, b, sizeof(b));
        cr_assert_neq(memcmp(a, b, sizeof(a)), 0);
        cr_assert_neq(memcmp(a + 584, b + 584, 16), 0);
        rig_stop(&rig);
    }
    cr_assert_neq(first[0], first[1]);
}

/* ---- stopping -------------------------------------------------------------------------------- */

Test(reactor, stopping_ends_what_is_armed_and_calls_nobody)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.buffers_count = 2, .buffer_size = 4096});
    int client, server;
    rig_pair(&rig, &client, &server);
    struct rig_listener l;
    rig_listen(&l, &rig, "127.0.0.1");
    struct rig_end end, other;
    rig_end_start(&end, rig.io, server, NULL, 0);
    rig_end_start(&other, rig.io, client, NULL, 0);
    (void)io_poll(rig.io, 0, 64);
    struct rig_send send;
    uint8_t *bytes = calloc(1, 32u << 20);
    struct iovec iov = {bytes, 32u << 20};
    end.hold = true; /* starves at two buffers, and the send hangs */
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, io_buffers_free(rig.io) == 0);
    uint32_t dones = end.dones;
    io_stop(rig.io);
    cr_assert(!end.ended && !other.ended && !l.ended);
    cr_assert_eq(send.done.count, 0);
    cr_assert_eq(end.dones, dones);
    cr_assert(!end.recv.op.armed && !other.recv.op.armed && !l.accept.op.armed);
    cr_assert(!send.send.op.armed);
    cr_assert_eq(rig.mem.used_bytes, 0);
    close(client);
    close(server);
    close(l.accept.listener);
    free(bytes);
    io_world_stop(rig.world);
    mem_destroy(&rig.mem);
}

Test(reactor, starting_without_memory_is_refused_with_a_reason)
{
    struct io_world *world;
    char why[256] = "";
    core_enter((struct core_id){0});
    for (uint64_t budget = 64; budget < (2u << 20); budget *= 8) {
        struct mem mem;
        cr_assert_eq(io_world_start(&world, 1, why, sizeof(why)), 0);
        cr_assert_eq(mem_init(&mem, budget), 0);
        struct io *io;
        struct io_config config = {.world = world, .mem = &mem};
        int error = io_start(&io, &config, why, sizeof(why));
        if (error == 0) {
            io_stop(io);
        } else {
            cr_assert_eq(error, -ENOMEM);
            cr_assert_neq(why[0], 0);
        }
        cr_assert_eq(error == 0, budget > (1u << 20), "%llu", (unsigned long long)budget);
        cr_assert_eq(mem.used_bytes, 0);
        mem_destroy(&mem);
        io_world_stop(world);
    }
}
