/* What a run is made of.
 *
 *   seed ─▶ options_draw, style_draw ─▶ options_set (a plan's knobs) ─▶ run
 *
 * Each number that a seed draws is a knob with a name, so that a plan can set it and the shrinker
 * can turn it: towards `calm`, where the thing is off, or small, or as usual. */
#include "tests/sim/options.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/group.h"
#include "tests/sim/ledger.h"

enum knob_of { OF_RUN, OF_STYLE };

struct knob {
    const char *name;
    size_t offset, size;
    enum knob_of of;
    uint64_t calm;
    bool bits;
};

#define RUN(field, calm_)                                                                          \
    {                                                                                              \
        .name = #field, .offset = offsetof(struct run_options, field),                             \
        .size = sizeof(((struct run_options *)0)->field), .of = OF_RUN, .calm = (calm_)            \
    }
#define STYLE(field, calm_)                                                                        \
    {                                                                                              \
        .name = #field, .offset = offsetof(struct sim_style, field),                               \
        .size = sizeof(((struct sim_style *)0)->field), .of = OF_STYLE, .calm = (calm_)            \
    }

/* In the order in which the shrinker turns them: what takes most away first. */
static const struct knob knobs[] = {
    RUN(tellers, 0),
    RUN(members, 0),
    RUN(mixed.movers, 0),
    RUN(groups, 0),
    RUN(keeper_batches, 0),
    RUN(errands, 0),
    RUN(fetchers, 0),
    RUN(producers, 0),
    {"harms", offsetof(struct run_options, harms), sizeof(uint32_t), OF_RUN, 0, true},
    RUN(harm_ns, 0),
    RUN(topics, 1),
    RUN(partitions[0], 1),
    RUN(partitions[1], 1),
    RUN(partitions[2], 1),
    RUN(ledger_partitions, 1),
    RUN(offsets_partitions, 1),
    RUN(batches, 1),
    RUN(txns, 1),
    RUN(cores, 1),
    RUN(cores_change, 0),
    RUN(dirs, 1),
    RUN(records_max, 1),
    RUN(value_max, 1),
    RUN(harm_mean_ns, 4 * NS_PER_S),
    RUN(segment_ms, 0),
    RUN(roll_ms, 0),
    RUN(index_interval, 4096),
    RUN(join_delay_ms, 0),
    RUN(mixed.late, 0),
    RUN(mixed.groups, 1),
    RUN(mixed.policy, 0),
    RUN(mixed.cooperative, 0),
    RUN(mixed.interval_ms, 0),
    RUN(swarm.janitors, 0),
    RUN(swarm.rudes, 0),
    RUN(swarm.lingers, 0),
    RUN(swarm.floods, 0),
    RUN(swarm.snapshot_bytes, 0),
    RUN(swarm.session_slots, 1000),
    RUN(swarm.idle_ms, 0),
    RUN(swarm.connections, 0),
    RUN(swarm.ring_slots, 1024),
    RUN(swarm.memory_mib, 64),
    RUN(swarm.producer_ms, 0),
    RUN(swarm.txn_ms, 0),
    RUN(swarm.cached, 0),
    RUN(swarm.keeps_sessions, 0),
    RUN(swarm.retention_bytes, 0),
    RUN(swarm.retention_ms, 0),
    RUN(keeper_codec, 0),
    RUN(keeper_segment_ms, 1500),
    RUN(keeper_retention_ms, 86400000),
    RUN(clean_ms, 400),
    RUN(wal_files, 4),
    RUN(cache_mib, 16),
    STYLE(shuffle, 0),
    STYLE(segment_one, 0),
    STYLE(writeback_one_in, 0),
    STYLE(recv_buffers_count, 0),
    STYLE(direct, 1),
    STYLE(ordered_names, 1),
    STYLE(segment_max, 1u << 20),
    STYLE(pipe_bytes, 1u << 20),
};

#define KNOBS (sizeof(knobs) / sizeof(knobs[0]))

void options_draw(struct run_options *o, struct chance *c)
{
    static const uint32_t records[] = {1, 10, 100};
    static const uint32_t values[] = {1, 100, 1000, 20000};
    static const uint32_t batches[] = {20, 100, 400};
    static const uint32_t thinks[] = {1, 500, 20000};
    static const uint64_t means[] = {20 * NS_PER_MS, 200 * NS_PER_MS, NS_PER_S, 4 * NS_PER_S};
    o->cores = (uint32_t)chance_between(c, 1, DATA_CORES_MAX);
    o->cores_change = chance_one_in(c, 3);
    o->dirs = chance_one_in(c, 2) ? 1 : (uint32_t)chance_between(c, 2, DIRS_MAX);
    o->topics = (uint32_t)chance_between(c, 1, TOPICS_MAX);
    for (uint32_t i = 0; i < TOPICS_MAX; i++)
        o->partitions[i] = (uint32_t)chance_between(c, 1, PARTITIONS_MAX);
    o->producers = (uint32_t)chance_between(c, 1, PRODUCERS_MAX);
    o->fetchers = (uint32_t)chance_between(c, 0, FETCHERS_MAX);
    o->batches = batches[chance_below(c, 3)];
    o->records_max = records[chance_below(c, 3)];
    o->value_max = values[chance_below(c, 4)];
    if (o->records_max * o->value_max > 100000)
        o->records_max = 10;
    o->think_us = thinks[chance_below(c, 3)];
    o->segment_ms = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 50, 2000);
    o->index_interval = chance_one_in(c, 2) ? 4096 : 1;
    o->wal_files = (uint32_t)chance_between(c, 2, 4);
    o->cache_mib = (uint32_t)chance_between(c, 4, 16);
    o->harm_ns = chance_between(c, 1, 8) * NS_PER_S;
    o->harm_mean_ns = means[chance_below(c, 4)];
    o->harms = (uint32_t)chance_below(c, 1u << HARM_KINDS);
    if (chance_one_in(c, 4))
        o->harms = HARM_CUT;
    o->groups = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 1, GROUPS_MAX);
    o->members = o->groups == 0 ? 0 : (uint32_t)chance_between(c, o->groups, MEMBERS_MAX);
    o->offsets_partitions = (uint32_t)chance_between(c, 1, 6);
    o->join_delay_ms = (uint32_t)chance_below(c, 2) * 100;
    o->tellers = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 1, TELLERS_MAX);
    o->txns = (uint32_t)chance_between(c, 5, TXNS_MAX);
    o->ledger_partitions = (uint32_t)chance_between(c, 1, LEDGER_PARTITIONS);
    o->keeper_batches = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 20, 600);
    o->keeper_segment_ms = (uint32_t)chance_between(c, 30, 1500);
    o->keeper_retention_ms = chance_one_in(c, 3) ? 86400000 : (uint32_t)chance_between(c, 1, 1000);
    o->keeper_codec = (uint32_t)chance_below(c, 4);
    o->clean_ms = (uint32_t)chance_between(c, 5, 400);
    o->roll_ms = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 100, 3000);
    o->errands = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 20, 400);
    if (o->groups > 0 || o->tellers > 0)
        o->batches = batches[0];
}

/* ---- knobs ----------------------------------------------------------------------------------- */

static uint8_t *knob_at(const struct knob *k, const struct run_options *o,
                        const struct sim_style *style)
{
    const void *base = k->of == OF_RUN ? (const void *)o : (const void *)style;
    return (uint8_t *)(uintptr_t)base + k->offset;
}

static uint64_t knob_get(const struct knob *k, const struct run_options *o,
                         const struct sim_style *style)
{
    uint64_t value = 0; /* the machine is little endian, as everywhere in torc */
    memcpy(&value, knob_at(k, o, style), k->size);
    return value;
}

/* Little of everything, so that all operations of its disk can be tried one after the other. */
static void options_small(struct run_options *o)
{
    o->topics = MIN(o->topics, 2u);
    for (uint32_t i = 0; i < TOPICS_MAX; i++)
        o->partitions[i] = MIN(o->partitions[i], 2u);
    o->producers = o->fetchers = o->groups = o->members = o->tellers = 1;
    o->batches = 20;
    o->offsets_partitions = o->ledger_partitions = 1;
    o->txns = 5;
    o->think_us = 20000;
    o->segment_ms = 300;
    o->keeper_batches = 40;
    o->keeper_segment_ms = 200;
    o->harm_ns = NS_PER_S;
    o->harms = 0;
    o->swarm.floods = false;
}

bool options_set(struct run_options *o, struct sim_style *style, const struct plan *p)
{
    if (p->fault.kind != FAULT_NONE)
        options_small(o);
    if (p->fault.kind == FAULT_ERROR)
        o->swarm.cached = false; /* a sync that fails takes what only the page cache has */
    for (uint32_t i = 0; i < p->sets_count; i++) {
        const struct knob *k = NULL;
        for (size_t n = 0; n < KNOBS && k == NULL; n++)
            k = strcmp(knobs[n].name, p->sets[i].knob) == 0 ? &knobs[n] : NULL;
        if (k == NULL)
            return false;
        memcpy(knob_at(k, o, style), &p->sets[i].value, k->size);
    }
    if (o->groups == 0 || o->members == 0)
        o->groups = o->members = 0;
    o->members = MAX(o->members, o->groups);
    o->mixed.groups = MAX(o->mixed.groups, 1u);
    return true;
}

void options_print(const struct run_options *o, const struct sim_style *style, FILE *to,
                   bool as_knobs)
{
    for (size_t i = 0; i < KNOBS; i++) {
        const struct knob *k = &knobs[i];
        unsigned long long value = knob_get(k, o, style);
        if (as_knobs)
            (void)fprintf(to, "%s %s %llu %llu\n", k->bits ? "bits" : "knob", k->name, value,
                          (unsigned long long)k->calm);
        else
            (void)fprintf(to, "%s %llu%s", k->name, value, i + 1 < KNOBS ? ", " : "\n");
    }
}

/* ---- plans ----------------------------------------------------------------------------------- */

static bool plan_line(struct plan *p, const char *line)
{
    unsigned long long number;
    struct plan_set set;
    if (sscanf(line, "seed %llu", &number) == 1) {
        p->seed = number;
    } else if (sscanf(line, "defect %llu", &number) == 1) {
        p->defect = (uint32_t)number;
    } else if (sscanf(line, "fail %llu", &number) == 1) {
        p->fault = (struct run_fault){FAULT_ERROR, number};
    } else if (sscanf(line, "full %llu", &number) == 1) {
        p->fault = (struct run_fault){FAULT_FULL, number};
    } else if (strcmp(line, "lie\n") == 0) {
        p->lies = true;
    } else if (sscanf(line, "omit %llu", &number) == 1 && p->omits_count < PLAN_OMITS_MAX) {
        p->omits[p->omits_count++] = (uint32_t)number;
    } else if (sscanf(line, "set %31s %llu", set.knob, &number) == 2 &&
               p->sets_count < PLAN_SETS_MAX) {
        set.value = number;
        p->sets[p->sets_count++] = set;
    } else {
        return false;
    }
    return true;
}

bool plan_read(struct plan *p, FILE *from, char *why, size_t why_size)
{
    *p = (struct plan){0};
    char line[128];
    while (fgets(line, sizeof(line), from) != NULL && strcmp(line, "choices\n") != 0) {
        if (line[0] == '#' || line[0] == '\n' || plan_line(p, line))
            continue;
        (void)snprintf(why, why_size, "%s", line);
        return false;
    }
    return true;
}

void plan_write(const struct plan *p, FILE *to)
{
    (void)fprintf(to, "seed %llu\n", (unsigned long long)p->seed);
    if (p->fault.kind != FAULT_NONE)
        (void)fprintf(to, "%s %llu\n", p->fault.kind == FAULT_FULL ? "full" : "fail",
                      (unsigned long long)p->fault.at);
    if (p->lies)
        (void)fprintf(to, "lie\n");
    if (p->defect != 0)
        (void)fprintf(to, "defect %u\n", p->defect);
    for (uint32_t i = 0; i < p->sets_count; i++)
        (void)fprintf(to, "set %s %llu\n", p->sets[i].knob, (unsigned long long)p->sets[i].value);
    for (uint32_t i = 0; i < p->omits_count; i++)
        (void)fprintf(to, "omit %u\n", p->omits[i]);
}

bool plan_omits(const struct plan *p, uint32_t harm)
{
    for (uint32_t i = 0; i < p->omits_count; i++) {
        if (p->omits[i] == harm)
            return true;
    }
    return false;
}
