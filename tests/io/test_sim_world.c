/* The world itself: events in order, cores on fibers that wait, wake and die, time that costs
 * nothing, and the same again from the same seed. */
#include "tests/io/sim_rig.h"

#include <errno.h>
#include <string.h>

#define CORES 3u

struct toll {
    struct sim_event event;
    uint32_t *order, *count, name;
};

static void toll_fire(struct sim_event *e)
{
    struct toll *t = container_of(e, struct toll, event);
    t->order[(*t->count)++] = t->name;
}

Test(sim_world, events_fire_by_time_and_then_in_the_order_of_planning)
{
    struct mem mem;
    uint32_t order[1000], count = 0;
    static struct toll tolls[1000];
    cr_assert_eq(mem_init(&mem, 64u << 20), 0);
    struct sim *s = sim_make(&mem, 5);
    struct chance c;
    chance_init(&c, 5, 5);
    for (uint32_t i = 0; i < 1000; i++) {
        tolls[i] = (struct toll){.order = order, .count = &count, .name = i};
        sim_plan(s, &tolls[i].event, 2 * NS_PER_S + chance_below(&c, 50), toll_fire);
    }
    for (uint32_t i = 0; i < 1000; i += 3)
        sim_unplan(s, &tolls[i].event);
    for (uint32_t i = 1; i < 1000; i += 3) /* moved: as if planned now */
        sim_plan(s, &tolls[i].event, tolls[i].event.at_ns, toll_fire);
    while (sim_step(s))
        ;
    cr_assert_eq(count, 666);
    for (uint32_t i = 1; i < count; i++) {
        const struct sim_event *a = &tolls[order[i - 1]].event, *b = &tolls[order[i]].event;
        cr_assert(a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->sequence < b->sequence));
    }
    cr_assert_eq(sim_now_ns(s), tolls[order[count - 1]].event.at_ns);
    sim_free(s);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

/* ---- cores ----------------------------------------------------------------------------------- */

/* A ring of cores: each waits for a wake, writes to its file and wakes the next. */
struct ring {
    struct mem world_mem, mem[CORES];
    struct sim *sim;
    struct sim_machine *machine;
    struct ring_core {
        struct ring *ring;
        struct core_id id;
        struct io *io;
        uint32_t turns, early;
        bool said;
    } cores[CORES];
    uint32_t turns_max, holder, died;
};

static void ring_turn(struct ring_core *c)
{
    char path[16] = "/file-0", text[32] = "turn ";
    path[6] = (char)('0' + c->id.index);
    text[5] = (char)('0' + c->turns % 10);
    cr_assert_eq(io_replace(c->io, path, text, strlen(text)), 0);
    c->turns++;
    c->ring->holder = (c->id.index + 1u) % CORES;
    io_wake(c->io, (struct core_id){(uint16_t)c->ring->holder});
}

static void ring_run(void *argument)
{
    struct ring_core *c = argument;
    struct ring *r = c->ring;
    char why[256];
    cr_assert(core_same(core_self(), c->id));
    struct io_config config = {
        .world = sim_world(r->machine), .core = c->id, .mem = &r->mem[c->id.index]};
    cr_assert_eq(io_start(&c->io, &config, why, sizeof(why)), 0);
    while (c->turns < r->turns_max) {
        uint64_t until = io_now_ns(c->io) + NS_PER_S;
        if (r->holder == c->id.index)
            ring_turn(c);
        uint32_t told = io_poll(c->io, until, 16);
        cr_assert_eq(told, 0);
        c->early += io_now_ns(c->io) < until;
    }
    io_stop(c->io);
    c->io = NULL;
}

static void ring_died(void *context)
{
    struct ring *r = context;
    r->died++;
    for (uint32_t i = 0; i < CORES; i++)
        mem_destroy(&r->mem[i]);
}

static void ring_boot(struct ring *r)
{
    struct sim_life life = {.died = ring_died, .context = r};
    (void)sim_boot(r->machine, CORES, &life);
    for (uint16_t i = 0; i < CORES; i++) {
        cr_assert_eq(mem_init(&r->mem[i], 8u << 20), 0);
        r->cores[i] = (struct ring_core){.ring = r, .id = {i}};
        sim_core_start(r->machine, (struct core_id){i}, ring_run, &r->cores[i]);
    }
}

static void ring_make(struct ring *r, uint64_t seed, uint32_t turns)
{
    *r = (struct ring){.turns_max = turns};
    cr_assert_eq(mem_init(&r->world_mem, 256u << 20), 0);
    r->sim = sim_make(&r->world_mem, seed);
    r->machine = sim_machine_make(r->sim, "10.0.0.1");
    ring_boot(r);
}

static void ring_free(struct ring *r)
{
    if (sim_up(r->machine)) {
        sim_halt(r->machine);
        for (uint32_t i = 0; i < CORES; i++) {
            cr_assert_eq(r->mem[i].used_bytes, 0);
            mem_destroy(&r->mem[i]);
        }
    }
    sim_free(r->sim);
    cr_assert_eq(r->world_mem.used_bytes, 0);
    mem_destroy(&r->world_mem);
}

static bool ring_idle(void *context)
{
    struct ring *r = context;
    return sim_idle(r->machine);
}

static uint64_t ring_digest(uint64_t seed)
{
    struct ring r;
    ring_make(&r, seed, 20);
    cr_assert(sim_run(r.sim, UINT64_MAX, ring_idle, &r));
    for (uint32_t i = 0; i < CORES; i++)
        cr_assert_eq(r.cores[i].turns, 20);
    uint64_t digest = sim_digest(r.sim);
    ring_free(&r);
    return digest;
}

Test(sim_world, cores_wait_wake_each_other_and_end)
{
    struct ring r;
    ring_make(&r, 7, 20);
    cr_assert(sim_run(r.sim, UINT64_MAX, ring_idle, &r));
    cr_assert_gt(r.cores[1].early, 0);              /* woken, not timed out */
    cr_assert_lt(sim_now_ns(r.sim), 40 * NS_PER_S); /* 60 turns, each would time out in a second */
    ring_free(&r);
}

Test(sim_world, the_same_seed_does_the_same_and_another_does_not)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        cr_assert_eq(ring_digest(seed), ring_digest(seed));
        cr_assert_neq(ring_digest(seed), ring_digest(seed + 1));
    }
}

Test(sim_world, a_machine_dies_at_any_moment_and_its_replaced_files_are_whole)
{
    uint64_t inside = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct ring r;
        ring_make(&r, seed, 1000);
        (void)sim_run(r.sim, NS_PER_S + seed * 3 * NS_PER_MS, NULL, NULL);
        if (seed % 3 == 0)
            sim_kill(r.machine);
        else
            sim_power_cut(r.machine);
        cr_assert_eq(r.died, 1);
        cr_assert(!sim_up(r.machine));
        inside += sim_counted(r.sim, SIM_DEATHS_IN_CALLS);
        ring_boot(&r);
        r.turns_max = 3;
        cr_assert(sim_run(r.sim, UINT64_MAX, ring_idle, &r));
        ring_free(&r);
    }
    cr_assert_gt(inside, 20);
}

Test(sim_world, a_stalled_core_does_not_run_before_its_time)
{
    struct ring r;
    ring_make(&r, 1, 5);
    sim_core_stall(r.machine, (struct core_id){0}, 50 * NS_PER_S);
    (void)sim_run(r.sim, 49 * NS_PER_S, NULL, NULL);
    cr_assert_eq(r.cores[0].turns, 0);
    cr_assert(sim_run(r.sim, UINT64_MAX, ring_idle, &r));
    ring_free(&r);
}

/* ---- io, as a straight line ------------------------------------------------------------------ */

Test(sim_world, a_poll_never_returns_before_its_time)
{
    struct sim_rig r;
    sim_rig_start(&r, 1);
    for (uint64_t wait = 1; wait < NS_PER_S; wait *= 7) {
        uint64_t until = io_clock_ns(r.io) + wait;
        cr_assert_eq(io_poll(r.io, until, 16), 0);
        cr_assert_geq(io_now_ns(r.io), until);
    }
    io_wake(r.io, (struct core_id){0});
    uint64_t now = io_clock_ns(r.io);
    cr_assert_eq(io_poll(r.io, now + NS_PER_S, 16), 0);
    cr_assert_lt(io_now_ns(r.io), now + NS_PER_S);
    sim_rig_stop(&r);
}

Test(sim_world, the_wall_clock_goes_on_and_jumps_when_told)
{
    struct sim_rig r;
    sim_rig_start(&r, 1);
    int64_t wall = io_wall_ms(r.io);
    (void)io_poll(r.io, io_now_ns(r.io) + 10 * NS_PER_S, 16);
    cr_assert_eq(io_wall_ms(r.io), wall + 10000);
    sim_wall_jump(r.machine, -3600000);
    cr_assert_eq(io_wall_ms(r.io), wall + 10000); /* as of the last poll */
    (void)io_poll(r.io, io_now_ns(r.io) + NS_PER_S, 16);
    cr_assert_eq(*io_wall_pointer(r.io), wall + 11000 - 3600000);
    sim_rig_stop(&r);
}

static void signalled(struct op *op)
{
    cr_assert(op->armed);
}

Test(sim_world, a_signal_is_told_as_often_as_it_comes)
{
    struct sim_rig r;
    struct op op;
    sim_rig_start(&r, 1);
    op_init(&op, signalled);
    sim_signal(r.machine, 15); /* nobody asked */
    cr_assert_eq(io_poll(r.io, 0, 16), 0);
    io_signals(r.io, &op);
    for (int number = 1; number < 4; number++) {
        sim_signal(r.machine, number);
        cr_assert_eq(io_poll(r.io, 0, 16), 1);
        cr_assert_eq(op.result, number);
    }
    sim_rig_stop(&r);
    cr_assert(!op.armed);
}

Test(sim_world, starting_without_memory_is_refused_with_a_reason)
{
    struct sim_rig r;
    char why[256] = "";
    struct mem small;
    struct sim_life life = {0};
    sim_rig_start(&r, 1);
    struct sim_machine *other = sim_machine_make(r.sim, "10.0.0.2");
    struct io_world *world = sim_boot(other, 1, &life);
    for (uint64_t budget = 64; budget <= 65536; budget *= 4) {
        struct io *io;
        cr_assert_eq(mem_init(&small, budget), 0);
        struct io_config config = {.world = world, .mem = &small, .recv_buffers_count = 16};
        cr_assert_eq(io_start(&io, &config, why, sizeof(why)), -ENOMEM);
        cr_assert_neq(why[0], 0);
        cr_assert_eq(small.used_bytes, 0);
        mem_destroy(&small);
    }
    sim_halt(other);
    sim_rig_stop(&r);
}
