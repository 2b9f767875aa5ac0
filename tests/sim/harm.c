/* What is done to the node while it works: power cuts, kills, orderly stops, resets, slow and
 * frozen disks, stalled cores, a stalled network, a wall clock that jumps. Which of these, how
 * often and for how long is drawn from the seed; when harm ends everything is well again. */
#include "tests/sim/run.h"

#define RESTART_NS   (200 * NS_PER_MS)
#define RELIEF_NS    (300 * NS_PER_MS)
#define PATIENCE_NS  (60 * NS_PER_S) /* of an orderly stop */
#define SLOW_FACTORS 3
#define WALL_JUMP_MS 1500000 /* to and fro is less than the hour that timestamps may be ahead */

static void harm_due(struct sim_event *e);

static void harm_later(struct run *r)
{
    uint64_t after = 1 + chance_around(r->fate, r->options.harm_mean_ns);
    sim_plan(r->sim, &r->harm, sim_now_ns(r->sim) + after, harm_due);
}

static void restart_due(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, restart);
    if (r->options.cores_change)
        r->node.cores_count = (uint32_t)chance_between(r->fate, 1, 5);
    r->stopping = false;
    sim_node_start(&r->node);
}

void harm_restart(struct run *r)
{
    uint64_t after = 1 + chance_around(r->fate, RESTART_NS);
    sim_unplan(r->sim, &r->hurry);
    sim_plan(r->sim, &r->restart, sim_now_ns(r->sim) + after, restart_due);
}

static void relief_due(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, relief);
    sim_disk_slow(r->machine, 1);
}

static void hurry_due(struct sim_event *e)
{
    run_fail(container_of(e, struct run, hurry), "an orderly stop does not end");
}

static void harm_lives(struct run *r, enum harm kind)
{
    if (kind == HARM_CUT) {
        r->cuts++;
        sim_power_cut(r->machine);
        harm_restart(r);
    } else if (kind == HARM_KILL) {
        r->kills++;
        sim_kill(r->machine);
        harm_restart(r);
    } else if (r->node.ready && !r->stopping) {
        r->stops++;
        r->stopping = true;
        sim_signal(r->machine, 15);
        sim_plan(r->sim, &r->hurry, sim_now_ns(r->sim) + PATIENCE_NS, hurry_due);
    }
}

static void harm_do(struct run *r, enum harm kind)
{
    static const uint32_t factors[SLOW_FACTORS] = {3, 20, 100};
    uint64_t now = sim_now_ns(r->sim);
    uint64_t for_ns = chance_around(r->fate, RELIEF_NS);
    uint64_t pick = chance_next(r->fate);
    switch (kind) {
    case HARM_CUT:
    case HARM_KILL:
    case HARM_STOP:
        harm_lives(r, kind);
        break;
    case HARM_RESET:
        for (uint64_t i = 0; i <= pick % 3; i++)
            (void)sim_net_reset(r->machine);
        break;
    case HARM_SLOW:
        sim_disk_slow(r->machine, factors[pick % SLOW_FACTORS]);
        sim_plan(r->sim, &r->relief, now + for_ns, relief_due);
        break;
    case HARM_FREEZE:
        sim_disk_freeze(r->machine, now + for_ns);
        break;
    case HARM_STALL_CORE:
        sim_core_stall(r->machine,
                       (struct core_id){(uint16_t)(pick % (r->node.node->cores_count + 1))},
                       now + for_ns);
        break;
    case HARM_STALL_NET:
        sim_net_stall(r->machine, now + for_ns);
        break;
    case HARM_WALL:
        for_ns = pick % (2 * WALL_JUMP_MS);
        sim_wall_jump(r->machine, (int64_t)for_ns - WALL_JUMP_MS - r->wall_offset_ms);
        r->wall_offset_ms = (int64_t)for_ns - WALL_JUMP_MS;
        break;
    case HARM_KINDS:
        break;
    }
}

static void harm_due(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, harm);
    enum harm kind = (enum harm)(1u << chance_below(r->fate, HARM_KINDS));
    if (sim_up(r->machine) && (r->options.harms & kind) != 0)
        harm_do(r, kind);
    harm_later(r);
}

void harm_start(struct run *r)
{
    harm_later(r);
}

void harm_stop(struct run *r)
{
    sim_unplan(r->sim, &r->harm);
    sim_unplan(r->sim, &r->relief);
    sim_disk_slow(r->machine, 1);
    sim_disk_freeze(r->machine, 0);
    sim_net_stall(r->machine, 0);
}
