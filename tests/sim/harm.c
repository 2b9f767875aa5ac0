/* What is done to the node while it works: power cuts, kills, orderly stops, resets, slow and
 * frozen disks, disks that fail or are full, stalled cores, a stalled network, a wall clock that
 * jumps. Which of these, how often and for how long is drawn from the seed; when harm ends
 * everything is well again.
 *
 * A disk that has failed stays offline until the next start, so its repair is one. */
#include "tests/sim/run.h"

#include <errno.h>
#include <string.h>
#include <stdio.h>

#define RESTART_NS   (200 * NS_PER_MS)
#define RELIEF_NS    (300 * NS_PER_MS)
#define PATIENCE_NS  (60 * NS_PER_S) /* of an orderly stop */
#define SLOW_FACTORS 3
#define REPAIR_NS    NS_PER_S
#define FULL_ROOM    (1u << 20)
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
        r->node.cores_count = (uint32_t)chance_between(r->fate, 1, DATA_CORES_MAX);
    r->stopping = false;
    r->faulted_before = r->faulted; /* its last answers may still be under way */
    r->faulted = sim_disk_failing(r->machine) ? r->faulted : 0;
    r->full_before = r->full;
    r->full = r->full_start = r->full_now;
    r->dead_before = r->dead;
    r->dead &= sim_disk_failing(r->machine);
    sim_node_start(&r->node);
}

void harm_restart(struct run *r)
{
    uint64_t after = 1 + chance_around(r->fate, RESTART_NS);
    sim_unplan(r->sim, &r->hurry);
    sim_plan(r->sim, &r->restart, sim_now_ns(r->sim) + after, restart_due);
}

static void harm_room(struct run *r)
{
    sim_disk_full_at_allocation(r->machine, false);
    sim_disk_capacity(r->machine, UINT64_MAX);
    r->full_now = false;
}

static void relief_due(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, relief);
    sim_disk_slow(r->machine, 1);
    harm_room(r);
}

/* The disk is well again, and somebody starts the node anew, in order or not. */
static void repair_due(struct sim_event *e)
{
    static const enum harm ways[] = {HARM_KILL, HARM_STOP, HARM_CUT};
    struct run *r = container_of(e, struct run, repair);
    sim_disk_fail(r->machine, 0, 0, 0, 0);
    if (!sim_up(r->machine) || r->faulted == 0)
        return;
    enum harm way = ways[chance_below(r->fate, 3)];
    bool deaf = !r->node.ready || r->stopping; /* to a signal */
    harm_take_down(r, way == HARM_STOP && deaf ? HARM_KILL : way);
}

static void hurry_due(struct sim_event *e)
{
    run_fail(container_of(e, struct run, hurry), "an orderly stop does not end");
}

/* The write-ahead logs of cores that are no more are removed before a node serves. One that a cut
 * brought back would be laid over what is newer, at a start that takes it for news. */
static void harm_seek_old(struct run *r, uint32_t cores)
{
    char path[64];
    for (uint32_t dir = 0; dir < r->options.dirs; dir++) {
        for (uint32_t core = cores; core < CORES_MAX && (r->faulted & 1u << dir) == 0; core++) {
            for (uint32_t file = 0; file < r->options.wal_files; file++) {
                (void)snprintf(path, sizeof(path), "/data/logs-%u/wal-%u-%u.torc", dir, core, file);
                if (sim_disk_holds(r->machine, path, dir))
                    run_fail(r, "the power brought %s back: %u cores served without it", path,
                             cores);
            }
        }
    }
}

void harm_take_down(struct run *r, enum harm kind)
{
    if (kind == HARM_CUT) {
        uint32_t served = r->node.ready && !r->full_start ? r->node.cores_count : DATA_CORES_MAX;
        r->cuts++;
        sim_power_cut(r->machine);
        harm_seek_old(r, served);
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

/* On one disk; which calls, how many and when is part of the pick. */
static void harm_disk(struct run *r, enum harm kind, uint64_t pick)
{
    uint32_t volume = (uint32_t)(pick >> 40) % r->options.dirs;
    uint64_t repair = REPAIR_NS + chance_around(r->fate, REPAIR_NS);
    uint32_t calls = 1 + (uint32_t)pick % SIM_DISK_ALL;
    if (kind == HARM_DEAD)
        calls = SIM_DISK_ALL;
    else if ((pick >> 32) % 3 == 0)
        calls = SIM_DISK_SYNC;
    uint32_t times = kind == HARM_DEAD ? UINT32_MAX : 1 + (uint32_t)(pick >> 16) % 3;
    if (r->repair.place != 0)
        return; /* one at a time */
    r->faulted |= 1u << volume;
    r->dead |= kind == HARM_DEAD;
    sim_disk_fail_on(r->machine, 1u << volume, calls, (pick >> 8) % 32, times, -EIO);
    sim_plan(r->sim, &r->repair, sim_now_ns(r->sim) + repair, repair_due);
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
        harm_take_down(r, kind);
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
    case HARM_ERROR:
    case HARM_DEAD:
        harm_disk(r, kind, pick);
        break;
    case HARM_FULL:
        r->full = r->full_now = true;
        r->full_start |= !r->node.ready;
        if (pick >> 63 != 0) /* while records wait for it, not between them */
            sim_disk_full_at_allocation(r->machine, true);
        else
            sim_disk_capacity(r->machine, sim_disk_used(r->machine) + pick % FULL_ROOM);
        sim_plan(r->sim, &r->relief, now + for_ns * (pick >> 63 != 0 ? 8 : 1), relief_due);
        break;
    case HARM_KINDS:
        break;
    }
}

static const char *harm_name(enum harm kind)
{
    static const char *const names[HARM_KINDS] = {"cut",  "kill",   "stop",       "reset",
                                                  "slow", "freeze", "stall-core", "stall-net",
                                                  "wall", "error",  "dead",       "full"};
    return names[__builtin_ctz(kind)];
}

static void harm_due(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, harm);
    enum harm kind = (enum harm)(1u << chance_below(r->fate, HARM_KINDS));
    uint32_t number = r->harms_drawn++;
    if (sim_up(r->machine) && (r->options.harms & kind) != 0 && !plan_omits(r->plan, number)) {
        r->harms_done++;
        if (r->view->tells || r->view->verbose)
            (void)fprintf(stderr, "harm %u %s %.6f\n", number, harm_name(kind),
                          (double)sim_now_ns(r->sim) / 1e9);
        harm_do(r, kind);
    }
    harm_later(r);
}

void harm_start(struct run *r)
{
    const struct run_fault *f = &r->plan->fault;
    if (f->kind == FAULT_ERROR)
        sim_disk_fail(r->machine, SIM_DISK_ALL, f->at - 1, 1, -EIO);
    else if (f->kind == FAULT_FULL)
        sim_disk_full_at(r->machine, f->at);
    else
        harm_later(r);
}

const char *harm_outcome(const struct run *r)
{
    if (r->plan->fault.kind == FAULT_NONE || sim_disk_failed(r->machine)[0] == 0)
        return NULL;
    return r->ends > r->ends_then      ? "the node ended"
           : r->offline && r->starting ? "a directory failed at the start"
           : r->offline                ? "a directory failed"
                                       : "it went on";
}

static void fault_judged(struct sim_event *e)
{
    struct run *r = container_of(e, struct run, harm);
    r->outcome = harm_outcome(r);
    if (r->plan->fault.kind == FAULT_ERROR) {
        repair_due(&r->repair);
        return;
    }
    relief_due(&r->relief);
    if (r->full_start &&
        sim_up(r->machine)) /* what had no space at a start is back after the next */
        harm_take_down(r, HARM_KILL);
}

void harm_look(struct run *r)
{
    enum fault_kind kind = r->plan->fault.kind;
    if (kind == FAULT_NONE || r->outcome != NULL || sim_disk_failed(r->machine)[0] == 0)
        return;
    const char *error = r->node.last_error;
    bool offline = strstr(error, "failed") != NULL || strstr(error, "offline") != NULL;
    bool first = r->harm.place == 0;
    if (first || (offline && !r->offline)) /* a disk may be full yet at a start that comes later */
        r->starting = !r->node.ready;
    r->offline |= offline;
    if (!first)
        return; /* it has come before, and is looked at */
    r->ends_then = r->ends;
    if (kind == FAULT_FULL) {
        r->full = r->full_now = true;
        r->full_start |= !r->node.ready;
    } else {
        r->faulted = (1u << r->options.dirs) - 1; /* whichever it was */
    }
    sim_plan(r->sim, &r->harm, sim_now_ns(r->sim) + REPAIR_NS, fault_judged);
}

void harm_stop(struct run *r)
{
    sim_unplan(r->sim, &r->harm);
    sim_unplan(r->sim, &r->relief);
    sim_unplan(r->sim, &r->repair);
    sim_disk_fail(r->machine, 0, 0, 0, 0);
    harm_room(r);
    sim_disk_slow(r->machine, 1);
    sim_disk_freeze(r->machine, 0);
    sim_net_stall(r->machine, 0);
}
