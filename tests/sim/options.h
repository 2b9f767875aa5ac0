/* What a run is made of: struct run_options, drawn from the seed, and struct plan, which says the
 * seed and what is to be otherwise than it draws: fewer clients, no such fault, this harm not. */
#ifndef TESTS_SIM_OPTIONS_H
#define TESTS_SIM_OPTIONS_H

#include "io/sim/sim.h"
#include "tests/sim/mixed.h"
#include "tests/sim/swarm.h"

#include <stdio.h>

#define TOPICS_MAX     3u
#define PARTITIONS_MAX 8u /* of one topic */
#define PRODUCERS_MAX  6u
#define FETCHERS_MAX   4u
#define DIRS_MAX       3u
#define DATA_CORES_MAX 5u
#define MEMBERS_MAX    9u
#define PLAN_SETS_MAX  64u
#define PLAN_OMITS_MAX 4096u

/* What the seed decides (swarm): each thing is there or not, each number large or small. */
struct run_options {
    uint32_t cores, cores_change; /* cores_change: other numbers at later starts */
    uint32_t dirs;                /* log directories, each a disk of its own */
    uint32_t topics, partitions[TOPICS_MAX];
    uint32_t producers, fetchers;
    uint32_t batches;     /* of each producer, in all */
    uint32_t records_max; /* of a batch */
    uint32_t value_max;   /* bytes */
    uint32_t think_us;    /* a producer between two requests */
    uint32_t segment_ms;  /* 0: by size only */
    uint32_t index_interval;
    uint32_t wal_files;
    uint32_t cache_mib;
    uint64_t harm_ns;      /* how long harm is done */
    uint64_t harm_mean_ns; /* between two */
    uint32_t harms;        /* bits of enum harm */
    uint32_t groups, members, offsets_partitions, join_delay_ms;
    uint32_t tellers, txns, ledger_partitions; /* txns: of each */
    uint32_t keeper_batches;                   /* 0: no compacted topic */
    uint32_t keeper_segment_ms, keeper_retention_ms, keeper_codec;
    uint32_t errands;           /* of the clerk, 0: there is none */
    uint32_t clean_ms, roll_ms; /* the cleaner's rest; all topics' segment.ms, 0: the default */
    struct swarm swarm;
    struct mixed_options mixed;
};

enum harm {
    HARM_CUT = 1,
    HARM_KILL = 2,
    HARM_STOP = 4,
    HARM_RESET = 8,
    HARM_SLOW = 16,
    HARM_FREEZE = 32,
    HARM_STALL_CORE = 64,
    HARM_STALL_NET = 128,
    HARM_WALL = 256,
    HARM_ERROR = 512, /* a few calls of a disk fail */
    HARM_DEAD = 1024, /* a disk fails in everything for a while */
    HARM_FULL = 2048, /* hardly any room is left for a while */
    HARM_KINDS = 12
};

/* One failure at one operation of the disk, counted from 1 over all starts, instead of the harm
 * that the seed would do, and with a small workload. */
enum fault_kind { FAULT_NONE, FAULT_ERROR, FAULT_FULL };
struct run_fault {
    enum fault_kind kind;
    uint64_t at;
};

/* As text, a line each: "seed N", "lie", "defect N", "set KNOB VALUE", "omit HARM", "fail N",
 * "full N". */
struct plan {
    uint64_t seed;
    struct run_fault fault;
    bool lies;       /* the device does not keep what it says it has synced, which must be found */
    uint32_t defect; /* laboratory builds: 0 is none */
    struct plan_set {
        char knob[32];
        uint64_t value;
    } sets[PLAN_SETS_MAX];
    uint32_t sets_count;
    uint32_t omits[PLAN_OMITS_MAX]; /* harms by their numbers */
    uint32_t omits_count;
};

/* Up to the end, or to the line "choices". False: a line makes no sense, and is in `why`. */
bool plan_read(struct plan *p, FILE *from, char *why, size_t why_size);
void plan_write(const struct plan *p, FILE *to);
bool plan_omits(const struct plan *p, uint32_t harm);

void options_draw(struct run_options *o, struct chance *c);
/* What the plan says is otherwise, and what follows from it. False: there is no such knob. */
bool options_set(struct run_options *o, struct sim_style *style, const struct plan *p);
/* In one line, or a line per knob: "knob NAME VALUE CALM", where calm is the value that does least;
 * "bits NAME VALUE CALM" if each bit is a switch of its own. */
void options_print(const struct run_options *o, const struct sim_style *style, FILE *to,
                   bool as_knobs);

#endif
