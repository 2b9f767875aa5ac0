/* One seed: clients of all kinds against one node that is harmed, then healed, then taken down once
 * more and read from the first byte to the last.
 *
 *   HARM  ─▶ clients work, harm is done
 *   HEAL  ─▶ no more harm: every request must come to its end, every fetcher to the end of the logs
 *   FINAL ─▶ power cut, kill or stop; a walker reads everything after the restart
 *   STOP  ─▶ an orderly stop must end with exit code 0
 *
 * What is checked stands in model.c (bytes, offsets, order), fetcher.c (answers) and here: phases
 * end in time, the node never gives up by itself, no producer id is given out twice. */
#include "tests/sim/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RUN_MEMORY (3ull << 30)
#define HEAL_NS    (300 * NS_PER_S)
#define FINAL_NS   (120 * NS_PER_S)
#define STOP_NS    (120 * NS_PER_S)
#define STEPS_MAX  200000000ull

void run_fail(struct run *r, const char *format, ...)
{
    if (r->failed)
        return;
    va_list list;
    va_start(list, format);
    (void)vsnprintf(r->text, sizeof(r->text), format, list);
    va_end(list);
    r->failed = true;
}

void run_broken(struct run *r, const char *who, const char *why)
{
    run_fail(r, "%s: %s", who, why);
}

void run_new_id(struct run *r, struct producer *p, int64_t id, int16_t epoch)
{
    for (uint32_t i = 0; i < r->known_ids_count; i++) {
        if (r->known_ids[i] == id)
            run_fail(r, "producer id %lld was given out twice", (long long)id);
    }
    if (r->known_ids_count < KNOWN_IDS_MAX)
        r->known_ids[r->known_ids_count++] = id;
    p->producer_id = id;
    p->producer_epoch = epoch;
}

/* ---- the node ----------------------------------------------------------------------------------
 */

static void run_properties(const struct run *r, char *to, size_t size)
{
    static const char *const dirs[] = {"/data/logs-0", "/data/logs-0,/data/logs-1",
                                       "/data/logs-0,/data/logs-1,/data/logs-2"};
    const struct run_options *o = &r->options;
    char roll[64] = "", more[1024] = "", mixed[512];
    if (o->roll_ms > 0)
        (void)snprintf(roll, sizeof(roll), "log.roll.ms=%u\n", o->roll_ms);
    swarm_properties(&o->swarm, more, sizeof(more));
    mixed_properties(&o->mixed, mixed, sizeof(mixed));
    (void)snprintf(to, size,
                   "node.id=1\n"
                   "process.roles=broker,controller\n"
                   "listeners=PLAINTEXT://0.0.0.0:%u,CONTROLLER://0.0.0.0:9093\n"
                   "advertised.listeners=PLAINTEXT://10.0.0.1:%u\n"
                   "controller.listener.names=CONTROLLER\n"
                   "controller.quorum.voters=1@10.0.0.1:9093\n"
                   "log.dirs=%s\n"
                   "log.flush.offset.checkpoint.interval.ms=700\n"
                   "offsets.topic.replication.factor=1\n"
                   "offsets.topic.num.partitions=%u\n"
                   "transaction.state.log.replication.factor=1\n"
                   "transaction.state.log.min.isr=1\n"
                   "transaction.state.log.num.partitions=%u\n"
                   "transaction.abort.timed.out.transaction.cleanup.interval.ms=200\n"
                   "num.partitions=%u\n"
                   "group.min.session.timeout.ms=100\n"
                   "group.initial.rebalance.delay.ms=%u\n"
                   "torc.cores=%u\n"
                   "torc.memory=%llu\n"
                   "torc.wal.file.bytes=1048576\n"
                   "torc.wal.files=%u\n"
                   "torc.cache.bytes=%u\n"
                   "torc.disk.read.bytes=%u\n" /* 1: one after the other */
                   "torc.log.level=%s\n"
                   "log.cleaner.backoff.ms=%u\n"
                   "log.cleaner.min.cleanable.ratio=0.1\n"
                   "%s%s%s",
                   SIM_NODE_PORT, SIM_NODE_PORT, dirs[o->dirs - 1], o->offsets_partitions,
                   o->offsets_partitions, o->ledger_partitions, o->join_delay_ms, o->cores,
                   ((unsigned long long)o->swarm.memory_mib << 20) * (o->cores + 1), o->wal_files,
                   o->cache_mib << 20, o->cache_mib % 2 == 0 ? 1u : 1u << 21,
                   r->view->verbose ? "debug" : "warn", o->clean_ms, roll, more, mixed);
}

/* ---- phases ---------------------------------------------------------------------------------- */

static bool run_members_done(const struct run *r)
{
    for (uint32_t i = 0; i < r->options.members; i++) {
        if (!member_done(&r->members[i]))
            return false;
    }
    for (uint32_t i = 0; i < r->options.tellers; i++) {
        if (!teller_done(&r->tellers[i]))
            return false;
    }
    if (r->options.keeper_batches > 0 && !keeper_done(&r->keeper))
        return false;
    for (uint32_t i = 0; i < r->options.swarm.janitors; i++) {
        if (!janitor_done(&r->janitors[i]))
            return false;
    }
    if (!mixed_done(r) || (r->options.errands > 0 && !clerk_done(&r->clerk)))
        return false;
    return r->options.tellers == 0 || auditor_done(&r->auditor);
}

/* This is asked at every event, so who was not done the last time is asked first. */
static bool run_clients_done(struct run *r)
{
    uint32_t producers = r->options.producers, all = producers + r->options.fetchers;
    for (uint32_t i = 0; i < all; i++) {
        uint32_t who = (r->waits_for + i) % all;
        if (who < producers ? producer_done(&r->producers[who])
                            : fetcher_done(&r->fetchers[who - producers]))
            continue;
        r->waits_for = who;
        return false;
    }
    return run_members_done(r);
}

static void run_move(struct run *r, enum run_phase phase, uint64_t limit_ns)
{
    r->phase = phase;
    r->phase_deadline = sim_now_ns(r->sim) + limit_ns;
    sim_note(r->sim, 0, 200, phase);
    if (r->view->verbose)
        (void)fprintf(stderr, "[%9.6f] ---- phase %d\n", (double)sim_now_ns(r->sim) / 1e9, phase);
}

static void run_go_down(struct run *r)
{
    static const enum harm ways[] = {HARM_KILL, HARM_STOP, HARM_CUT};
    enum harm way = ways[chance_below(r->fate, 3)];
    if (!sim_up(r->machine))
        return;
    if (way == HARM_STOP && (!r->node.ready || r->stopping))
        way = HARM_CUT;
    if (r->options.swarm.cached && way == HARM_CUT)
        way = HARM_KILL; /* a cut may take what is acknowledged */
    harm_take_down(r, way);
}

static void run_stuck(struct run *r)
{
    static const char *const names[] = {"harm", "heal", "final", "stop"};
    uint32_t open = 0, behind = 0, unstable = 0, tellers = 0, janitors = 0;
    for (uint32_t i = 0; i < r->options.producers; i++)
        open += !producer_done(&r->producers[i]);
    for (uint32_t i = 0; i < r->options.fetchers; i++)
        behind += !fetcher_done(&r->fetchers[i]);
    for (uint32_t i = 0; i < r->options.members; i++)
        unstable += !member_done(&r->members[i]);
    for (uint32_t i = 0; i < r->options.tellers; i++)
        tellers += !teller_done(&r->tellers[i]);
    for (uint32_t i = 0; i < r->options.swarm.janitors; i++)
        janitors += !janitor_done(&r->janitors[i]);
    run_fail(
        r,
        "no end of phase %s: %u producers wait, %u fetchers are behind, %u members are not "
        "stable, %u tellers and %u janitors wait, clerk %s, keeper %s, ledger %s, mixed groups %s, "
        "node %s, topics %s",
        names[r->phase], open, behind, unstable, tellers, janitors,
        r->options.errands == 0 || clerk_done(&r->clerk) ? "done" : "waits",
        r->options.keeper_batches == 0 || keeper_done(&r->keeper) ? "done" : "waits",
        r->options.tellers == 0 || auditor_done(&r->auditor) ? "read" : "not read",
        mixed_done(r) ? "stable" : "not stable", r->node.ready ? "ready" : "not ready",
        r->admin.created ? "made" : "not made");
}

static void run_phases(struct run *r)
{
    struct fetcher *walker = &r->fetchers[FETCHERS_MAX];
    uint64_t now = sim_now_ns(r->sim);
    switch (r->phase) {
    case PHASE_HARM:
        if (now < r->options.harm_ns)
            break;
        if (r->plan->fault.kind == FAULT_NONE)
            harm_stop(r);
        if (r->faulted != 0 || r->full_start) /* what is offline is back only after a restart */
            run_go_down(r);
        run_move(r, PHASE_HEAL, HEAL_NS);
        break;
    case PHASE_HEAL:
        if (!run_clients_done(r) || !r->node.ready || r->stopping)
            break;
        r->starts_before = r->node.starts;
        run_go_down(r);
        fetcher_start(walker, r, FETCHERS_MAX, true);
        if (r->options.tellers > 0)
            auditor_start(&r->walker, r, true);
        if (r->options.keeper_batches > 0)
            keeper_again(&r->keeper);
        for (uint32_t i = 0; i < r->options.swarm.janitors; i++)
            janitor_again(&r->janitors[i]);
        if (r->options.errands > 0)
            clerk_again(&r->clerk);
        run_move(r, PHASE_FINAL, FINAL_NS);
        break;
    case PHASE_FINAL:
        if (!fetcher_done(walker) || (r->options.tellers > 0 && !auditor_done(&r->walker)) ||
            !run_members_done(r) || !r->node.ready || r->node.starts == r->starts_before)
            break;
        if (r->plan->fault.kind != FAULT_NONE && r->harm.place != 0)
            break; /* it is not judged yet, nor repaired */
        r->stopping = true;
        sim_signal(r->machine, 15);
        run_move(r, PHASE_STOP, STOP_NS);
        break;
    case PHASE_STOP:
    case PHASE_OVER:
        break;
    }
    if (r->phase != PHASE_OVER && r->phase_deadline > 0 && now > r->phase_deadline)
        run_stuck(r);
}

bool run_may_be_unreadable(const struct run *r)
{
    return r->dead || r->dead_before;
}

bool run_is_tight(const struct run *r)
{
    (void)r;
    return false;
}

/* Without the disk of the metadata log, or without any, there is no node; with another one gone, or
 * full, it goes on until it is stopped, and says then that it was not clean. */
static bool run_may_end(const struct run *r)
{
    bool metadata = (r->faulted & 1) != 0, passing = r->stopping || !r->was_ready;
    return metadata || ((r->full || r->faulted != 0) && passing);
}

bool run_may_be_offline(const struct run *r, uint32_t topic, uint32_t partition)
{
    char path[96];
    uint32_t faulted = r->faulted | r->faulted_before;
    bool placed = false, offline = false;
    for (uint32_t i = 0; i < r->options.dirs; i++) {
        (void)snprintf(path, sizeof(path), "/data/logs-%u/%s-%u", i, r->topics[topic].name,
                       partition);
        bool here = sim_disk_holds(r->machine, path, i);
        placed |= here;
        offline |= here && (faulted & 1u << i) != 0;
    }
    return r->full || r->full_before || offline || (!placed && faulted != 0);
}

static void run_tend(struct run *r)
{
    r->was_ready = r->node.node == NULL ? r->was_ready : r->node.ready;
    int exit_code;
    if (!sim_node_tend(&r->node, &exit_code))
        return;
    r->ends += exit_code != 0;
    if (exit_code != 0 && !run_may_end(r))
        run_fail(r, "the node ended by itself: %s", r->node.last_error);
    if (r->phase == PHASE_STOP)
        r->phase = PHASE_OVER;
    else
        harm_restart(r);
}

/* A data core that serves never waits for a device, but where a full disk leaves it no other way.
 */
static void run_blocks(struct run *r)
{
    bool serves = r->node.node != NULL && sim_up(r->machine) && r->node.ready && !r->stopping;
    for (uint16_t i = 0; serves && i < r->node.node->cores_count; i++) {
        const char *call = sim_core_call(r->machine, (struct core_id){i});
        bool waits = call != NULL && (strcmp(call, "io_fdatasync") == 0 ||
                                      strncmp(call, "io_sync_", strlen("io_sync_")) == 0);
        if (waits && !r->full && !r->full_before)
            run_fail(r, "core %u waits in %s", i, call);
    }
}

static bool run_over(void *context)
{
    struct run *r = context;
    char why[128];
    harm_look(r);
    if (sim_events(r->sim) % 16 == 0 && !sim_node_adds_up(&r->node, why, sizeof(why)))
        run_fail(r, "where all requests are: %s", why);
    run_blocks(r);
    run_tend(r);
    if (!r->failed)
        run_phases(r);
    return r->failed || r->phase == PHASE_OVER;
}

/* ---- one seed -------------------------------------------------------------------------------- */

static void run_make(struct run *r)
{
    const struct plan *plan = r->plan;
    char properties[4096];
    struct chance draw;
    int error = mem_init(&r->mem, RUN_MEMORY);
    assert(error == 0);
    r->sim = sim_make_taped(&r->mem, plan->seed, r->view->tape);
    sim_style(r->sim)->lies = plan->lies;
    r->chance = sim_chance(r->sim, SIM_WORKLOAD);
    r->fate = sim_chance(r->sim, SIM_FAULTS);
    chance_init(&draw, plan->seed, 2000);
    draw.tape = r->view->tape;
    options_draw(&r->options, &draw);
    chance_init(&draw, plan->seed, 3000);
    draw.tape = r->view->tape;
    swarm_draw(&r->options.swarm, &draw);
    chance_init(&draw, plan->seed, 2001);
    draw.tape = r->view->tape;
    mixed_draw(&r->options.mixed, &draw);
    if (!options_set(&r->options, sim_style(r->sim), plan))
        run_fail(r, "the plan has a knob that is not known");
    swarm_agree(&r->options);
    if (r->view->verbose || r->view->tells)
        options_print(&r->options, sim_style(r->sim), stderr, r->view->tells);
    r->machine = sim_machine_make(r->sim, "10.0.0.1");
    sim_disk_volume(r->machine, "/data", 0);
    for (uint32_t i = 0; i < r->options.dirs; i++) {
        (void)snprintf(properties, sizeof(properties), "/data/logs-%u", i);
        sim_disk_volume(r->machine, properties, i);
    }
    run_properties(r, properties, sizeof(properties));
    if (!sim_node_make(&r->node, r->sim, r->machine, properties, r->view->verbose))
        run_fail(r, "the configuration is refused: %s", r->node.why);
    r->node.cores_count = r->options.cores;
    r->node.ring_slots = r->options.swarm.ring_slots;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        struct topic *topic = &r->topics[t];
        (void)snprintf(topic->name, sizeof(topic->name), "topic-%u", t);
        topic->partitions_count = r->options.partitions[t];
        for (uint32_t i = 0; i < topic->partitions_count; i++)
            model_partition_init(&topic->partitions[i], &r->mem, topic->name, (int32_t)i,
                                 r->options.producers);
    }
}

static void run_make_groups(struct run *r)
{
    uint32_t cells = 0;
    for (uint32_t t = 0; t < r->options.topics; t++)
        cells += r->topics[t].partitions_count;
    for (uint32_t i = 0; i < r->options.groups; i++)
        group_model_init(&r->groups[i], i, cells);
}

static void run_free(struct run *r)
{
    sim_unplan(r->sim, &r->restart);
    sim_unplan(r->sim, &r->hurry);
    harm_stop(r);
    admin_stop(&r->admin);
    for (uint32_t i = 0; i < r->options.producers; i++)
        producer_stop(&r->producers[i]);
    for (uint32_t i = 0; i < r->options.members; i++)
        member_stop(&r->members[i]);
    for (uint32_t i = 0; i < r->options.tellers; i++)
        teller_stop(&r->tellers[i]);
    if (r->auditor.run != NULL)
        auditor_stop(&r->auditor);
    if (r->walker.run != NULL)
        auditor_stop(&r->walker);
    if (r->keeper.run != NULL)
        keeper_stop(&r->keeper);
    for (uint32_t i = 0; i < r->options.swarm.janitors; i++)
        janitor_stop(&r->janitors[i]);
    for (uint32_t i = 0; i < r->options.swarm.rudes; i++)
        rude_stop(&r->rudes[i]);
    mixed_stop(r);
    if (r->clerk.run != NULL)
        clerk_stop(&r->clerk);
    for (uint32_t i = 0; i <= FETCHERS_MAX; i++) {
        if (r->fetchers[i].run != NULL)
            fetcher_stop(&r->fetchers[i]);
    }
    if (sim_up(r->machine))
        sim_kill(r->machine);
    sim_node_free(&r->node);
    for (uint32_t t = 0; t < r->options.topics; t++) {
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++)
            model_partition_free(&r->topics[t].partitions[i]);
    }
    sim_free(r->sim);
    if (r->mem.used_bytes != 0)
        run_fail(r, "%llu bytes of the simulation are lost", (unsigned long long)r->mem.used_bytes);
    mem_destroy(&r->mem);
}

static void run_clients_print(const struct run *r)
{
    for (uint32_t i = 0; i < r->options.producers; i++) {
        const struct producer *p = &r->producers[i];
        (void)fprintf(stderr,
                      "producer %u: v%d acks %d id %lld in flight %u of %u, %u left, %llu done, "
                      "%llu refused, %llu connects\n",
                      i, p->version, p->acks, (long long)p->producer_id, p->parcels_count,
                      p->in_flight_max, p->left, (unsigned long long)p->acknowledged,
                      (unsigned long long)p->refused, (unsigned long long)p->link.connects);
    }
    for (uint32_t i = 0; i <= FETCHERS_MAX; i++) {
        const struct fetcher *f = &r->fetchers[i];
        if (f->run == NULL)
            continue;
        (void)fprintf(stderr,
                      "fetcher %u: v%d session %d/%d bytes %u/%u wait %u asked %u up %d "
                      "connects %llu timeouts %llu:",
                      i, f->version, f->session_id, f->session_epoch, f->max_bytes,
                      f->partition_max_bytes, f->max_wait_ms, f->link.requests_count, f->link.is_up,
                      (unsigned long long)f->link.connects, (unsigned long long)f->link.timeouts);
        for (uint32_t t = 0; t < r->options.topics; t++) {
            for (uint32_t n = 0; n < r->topics[t].partitions_count; n++) {
                if (f->at[t][n].wanted)
                    (void)fprintf(stderr, " %u-%u:%lld/%lld", t, n, (long long)f->at[t][n].offset,
                                  (long long)model_floor(&r->topics[t].partitions[n]));
            }
        }
        (void)fprintf(stderr, "\n");
    }
}

static void run_groups_print(const struct run *r)
{
    for (uint32_t i = 0; i < r->options.groups; i++) {
        const struct group_model *g = &r->groups[i];
        (void)fprintf(stderr,
                      "%s: generation %d, %llu joins %llu syncs %llu commits %llu fetches, %llu "
                      "refused\n",
                      g->id, g->synced, (unsigned long long)g->joins, (unsigned long long)g->syncs,
                      (unsigned long long)g->commits, (unsigned long long)g->fetches,
                      (unsigned long long)g->refused);
    }
    for (uint32_t i = 0; i < r->options.members; i++) {
        const struct member *m = &r->members[i];
        (void)fprintf(stderr, "member %u of %s: state %d generation %d cells %#llx id %s\n", i,
                      m->group->id, m->state, m->generation, (unsigned long long)m->cells, m->id);
    }
}

static void run_ledger_print(const struct run *r)
{
    const struct ledger *l = &r->ledger;
    for (uint32_t i = 0; i < r->options.tellers; i++) {
        const struct teller *t = &r->tellers[i];
        (void)fprintf(stderr, "%s: %s state %d id %lld/%d, %u of %u transactions, timeout %u ms\n",
                      t->id, t->verbatim ? "v1" : "v2", t->state, (long long)t->producer_id,
                      t->producer_epoch, t->made, r->options.txns, t->timeout_ms);
    }
    if (r->options.tellers > 0)
        (void)fprintf(stderr, "ledger: %u partitions, %llu committed, %llu refused, %llu zombies\n",
                      l->partitions_count, (unsigned long long)l->committed,
                      (unsigned long long)l->refused, (unsigned long long)l->zombies);
}

static void run_keeper_print(const struct run *r)
{
    const struct keeper *k = &r->keeper;
    if (r->options.keeper_batches > 0)
        (void)fprintf(stderr,
                      "kept: %u walks, ends at %lld, %u versions compacted away, %u to go\n",
                      k->walk, (long long)k->known_end, k->gone, k->left);
    if (r->options.errands > 0)
        (void)fprintf(stderr, "clerk: %llu errands done, %llu excused, %u desks forsaken\n",
                      (unsigned long long)r->clerk.done, (unsigned long long)r->clerk.excused,
                      r->clerk.forsaken);
}

static void run_summary(const struct run *r)
{
    run_clients_print(r);
    run_groups_print(r);
    run_ledger_print(r);
    run_keeper_print(r);
    mixed_print(r);
    uint64_t acknowledged = 0, seen = 0;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++) {
            acknowledged += r->topics[t].partitions[i].acknowledged_batches;
            seen += r->topics[t].partitions[i].seen_batches;
        }
    }
    (void)fprintf(stderr,
                  "cuts %u kills %u stops %u starts %u acknowledged %llu seen %llu, %.3f s, "
                  "%llu events\n",
                  r->cuts, r->kills, r->stops, r->node.starts, (unsigned long long)acknowledged,
                  (unsigned long long)seen, (double)sim_now_ns(r->sim) / 1e9,
                  (unsigned long long)sim_events(r->sim));
    for (uint32_t i = 0; i < SIM_COUNTS; i++)
        (void)fprintf(stderr, "  %-22s %llu\n", sim_count_name((enum sim_count)i),
                      (unsigned long long)sim_counted(r->sim, (enum sim_count)i));
}

static void look_line(void *context, const char *text)
{
    (void)context;
    (void)fprintf(stderr, "  %s\n", text);
}

void run_look(const struct run *r)
{
    (void)fprintf(stderr, "  phase %d, %u harms done\n", r->phase, r->harms_done);
    sim_node_look(&r->node, look_line, NULL);
    sim_look(r->sim, look_line, NULL);
}

static void run_start(struct run *r)
{
    admin_start(&r->admin, r);
    for (uint32_t i = 0; i < r->options.producers; i++)
        producer_start(&r->producers[i], r, i);
    for (uint32_t i = 0; i < r->options.fetchers; i++)
        fetcher_start(&r->fetchers[i], r, i, false);
    for (uint32_t i = 0; i < r->options.members; i++)
        member_start(&r->members[i], r, i);
    for (uint32_t i = 0; i < r->options.tellers; i++)
        teller_start(&r->tellers[i], r, i);
    if (r->options.tellers > 0)
        auditor_start(&r->auditor, r, false);
    if (r->options.keeper_batches > 0)
        keeper_start(&r->keeper, r);
    for (uint32_t i = 0; i < r->options.swarm.janitors; i++)
        janitor_start(&r->janitors[i], r, i);
    for (uint32_t i = 0; i < r->options.swarm.rudes; i++)
        rude_start(&r->rudes[i], r, i);
    mixed_start(r);
    if (r->options.errands > 0)
        clerk_start(&r->clerk, r);
    harm_start(r);
}

struct run_result run_plan(const struct plan *plan, const struct run_view *view)
{
    struct run *r;
    struct mem own;
    int error = mem_init(&own, sizeof(*r) + 4096);
    assert(error == 0);
    r = mem_zalloc(&own, sizeof(*r));
    assert(r != NULL);
    r->plan = plan;
    r->view = view;
    run_make(r);
    run_make_groups(r);
    run_start(r);
    if (!r->failed)
        sim_node_start(&r->node);
    *view->now = r;
    (void)sim_run(r->sim, UINT64_MAX, run_over, r);
    *view->now = NULL;
    if (!r->failed && r->phase != PHASE_OVER)
        run_fail(r, "nothing happens any more in phase %d", r->phase);
    struct run_result result = {.digest = sim_digest(r->sim),
                                .events = sim_events(r->sim),
                                .virtual_ns = sim_now_ns(r->sim),
                                .outcome = r->outcome != NULL ? r->outcome : harm_outcome(r)};
    (void)snprintf(result.site, sizeof(result.site), "%s", sim_disk_failed(r->machine));
    const struct sim_refusal *refusals;
    uint32_t refusals_count = sim_disk_refusals(r->machine, &refusals);
    for (uint32_t i = 0; i < refusals_count && view->refused != NULL; i++)
        view->refused(&refusals[i]);
    if (view->verbose)
        run_summary(r);
    if (r->failed)
        run_look(r);
    run_free(r);
    result.failed = r->failed;
    char fault[48] = "";
    if (plan->fault.kind != FAULT_NONE)
        (void)snprintf(fault, sizeof(fault), " --%s %llu",
                       plan->fault.kind == FAULT_FULL ? "full" : "fail",
                       (unsigned long long)plan->fault.at);
    if (r->failed)
        (void)fprintf(stderr, "FAIL torc-sim --seed %llu%s: %s\n", (unsigned long long)plan->seed,
                      fault, r->text);
    mem_free(&own, r, sizeof(*r));
    mem_destroy(&own);
    return result;
}
