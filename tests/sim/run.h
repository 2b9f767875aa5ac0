/* struct run: one seed of the produce workload: a node, its clients, the harm that is done to it,
 * and what is known of what it should hold. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include "tests/sim/clerk.h"
#include "tests/sim/group.h"
#include "tests/sim/janitor.h"
#include "tests/sim/keeper.h"
#include "tests/sim/ledger.h"
#include "tests/sim/link.h"
#include "tests/sim/mixed.h"
#include "tests/sim/model.h"
#include "tests/sim/options.h"
#include "tests/sim/rude.h"
#include "tests/sim/sim_node.h"

#define PARCELS_MAX    5u
#define PARCEL_BATCHES 6u
#define KNOWN_IDS_MAX  4096u
_Static_assert(TOPICS_MAX *PARTITIONS_MAX + LATE_TOPICS_MAX * LATE_PARTITIONS_MAX <= GROUP_CELLS,
               "a group reads them all");
_Static_assert(TOPICS_MAX + LATE_TOPICS_MAX <= MIXED_TOPICS_MAX, "and movers know them all");

struct run;

struct topic {
    char name[32];
    struct uuid id;
    uint32_t partitions_count;
    struct model_partition partitions[PARTITIONS_MAX];
};

struct out_batch {
    uint8_t *bytes;
    uint32_t size, count;
    uint64_t hash;
    uint32_t topic, partition;
    struct model_stamp stamp;
    bool acknowledged;
};

/* What goes in one request. */
struct parcel {
    struct out_batch batches[PARCEL_BATCHES];
    uint32_t count;
    uint64_t number;
    bool in_flight;
};

struct producer {
    struct run *run;
    struct link link;
    uint32_t index;
    bool idempotent, by_many; /* by_many: several partitions in a request */
    int16_t acks, version;
    uint32_t in_flight_max;
    int64_t producer_id;
    int16_t producer_epoch;
    bool asked_id;
    int32_t sequences[TOPICS_MAX][PARTITIONS_MAX];
    uint32_t batches[TOPICS_MAX][PARTITIONS_MAX]; /* made so far */
    uint32_t left;                                /* batches to make */
    struct parcel parcels[PARCELS_MAX];           /* in order, not all acknowledged */
    uint32_t parcels_count;
    uint64_t numbers;
    bool again; /* something was refused: let what is in flight come back, then all once more */
    struct sim_event think, pause;
    uint64_t acknowledged, refused;
};

struct fetcher {
    struct run *run;
    struct link link;
    uint32_t index;
    int16_t version;
    bool sessions, walks; /* walks: from the beginning to the end, once */
    bool wanders;         /* goes back now and then */
    int32_t session_id, session_epoch;
    uint32_t max_bytes, partition_max_bytes, max_wait_ms;
    struct fetch_position {
        bool wanted, changed, walked;
        int64_t offset;
        int64_t floor; /* when the present request was sent */
    } at[TOPICS_MAX][PARTITIONS_MAX];
    struct sim_event think;
    uint64_t batches;
};

enum member_state { MEMBER_FIND, MEMBER_JOIN, MEMBER_SYNC, MEMBER_LOOK, MEMBER_STABLE };

struct member {
    struct run *run;
    struct link link;
    uint32_t index, era; /* era: of its versions */
    uint32_t session_ms;
    uint64_t think_ns;
    struct group_model *group;
    enum member_state state;
    char id[128], instance[16];
    int32_t generation;
    uint64_t cells;            /* bits: what it owns */
    int64_t next[GROUP_CELLS]; /* committed as far; -1: not known yet */
    int32_t floor;             /* synced when the present request was sent */
    int64_t floors[GROUP_CELLS];
    struct member_seen { /* as leader */
        char id[128];
        uint8_t cells[GROUP_CELLS];
        uint32_t cells_count;
    } seen[16];
    uint32_t seen_count;
    uint32_t looked_start, left_start; /* start of the node in which it looked, or left */
    bool committing;                   /* a commit is not answered yet */
    uint32_t commits_well;             /* since harm has ended */
    struct sim_event act;
};

struct admin {
    struct run *run;
    struct link link;
    bool created;
    struct sim_event pause;
};

enum run_phase { PHASE_HARM, PHASE_HEAL, PHASE_FINAL, PHASE_STOP, PHASE_OVER };

struct run {
    const struct plan *plan;
    const struct run_view *view;
    struct mem mem; /* everything but the node's */
    struct sim *sim;
    struct sim_machine *machine;
    struct sim_node node;
    struct run_options options;
    struct chance *chance; /* of the workload */
    struct chance *fate;   /* of the harm */
    struct topic topics[TOPICS_MAX];
    struct producer producers[PRODUCERS_MAX];
    struct fetcher fetchers[FETCHERS_MAX + 1]; /* the last one walks at the end */
    struct admin admin;
    struct group_model groups[GROUPS_MAX];
    struct member members[MEMBERS_MAX];
    struct ledger ledger;
    struct teller tellers[TELLERS_MAX];
    struct auditor auditor, walker; /* walker: at the end */
    struct keeper keeper;
    struct janitor janitors[JANITORS_MAX];
    struct rude rudes[RUDES_MAX];
    struct mixed mixed;
    struct clerk clerk;
    enum run_phase phase;
    uint64_t phase_deadline;
    uint32_t waits_for; /* the producer or fetcher that was not done when they were asked last */
    struct sim_event harm, restart, relief, repair, hurry;
    uint32_t harms_drawn; /* so far: the number of one */
    uint32_t harms_done;
    bool was_ready;         /* in this start */
    bool stopping;          /* SIGTERM was sent in this start */
    uint32_t starts_before; /* the last time it was taken down */
    int64_t wall_offset_ms;
    int64_t known_ids[KNOWN_IDS_MAX];
    uint32_t known_ids_count;
    uint32_t cuts, kills, stops;
    uint32_t faulted;        /* disks (bits) that have failed in this start: they may be offline */
    uint32_t faulted_before; /* in the start before */
    bool full_before;
    bool dead;                 /* one of them in everything */
    bool dead_before;          /* in the start before */
    bool full;                 /* no room now, or at some time in this start */
    uint32_t ends;             /* how often the node has ended by an error */
    uint32_t ends_then;        /* when the plan's fault came */
    bool starting;             /* the node was not ready then */
    bool offline;              /* a directory has failed since */
    const char *outcome;       /* of that fault */
    bool full_now, full_start; /* full_start: this start may have failed for that */
    bool failed;
    char text[MODEL_TEXT_MAX + 128];
};

/* The first failure stays. */
void run_fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* May the broker refuse this partition because of its disk? */
bool run_may_be_offline(const struct run *r, uint32_t topic, uint32_t partition);
/* Is memory short now, or was it in this start? Then much may be refused. */
bool run_is_tight(const struct run *r);
/* May somebody be told that what is on the disk is damaged? */
bool run_may_be_unreadable(const struct run *r);
/* For links: the broker broke the protocol. */
void run_broken(struct run *r, const char *who, const char *why);

void admin_start(struct admin *a, struct run *r);
void admin_stop(struct admin *a);

/* A producer id was given out: to nobody before. */
void run_new_id(struct run *r, struct producer *p, int64_t id, int16_t epoch);

void producer_start(struct producer *p, struct run *r, uint32_t index);
void producer_stop(struct producer *p);
bool producer_done(const struct producer *p);

void fetcher_start(struct fetcher *f, struct run *r, uint32_t index, bool walks);
void fetcher_stop(struct fetcher *f);
/* It has read all that is known to be there; a walker: has reached the end. */
bool fetcher_done(const struct fetcher *f);

void member_start(struct member *m, struct run *r, uint32_t index);
void member_stop(struct member *m);
/* Its group is stable, all is assigned, it has committed and looked since the last start. */
bool member_done(const struct member *m);

void harm_start(struct run *r);
void harm_stop(struct run *r);
/* The power is cut, the process killed, or stopped in order if it is ready. */
void harm_take_down(struct run *r, enum harm kind);
/* The node is down, whatever the reason: it starts again soon. */
void harm_restart(struct run *r);

/* Looks whether the plan's fault has come, and what has come of it. After each step. */
void harm_look(struct run *r);
/* What has come of it by now; NULL: it did not come. */
const char *harm_outcome(const struct run *r);

struct run_result {
    uint64_t digest, events, virtual_ns;
    bool failed;
    char site[64];       /* of the plan's fault; "": it did not come */
    const char *outcome; /* what came of it, constant text; NULL: not known */
};
/* How a run is looked at. */
struct run_view {
    bool verbose; /* what the node logs, and what was done at the end */
    bool tells;   /* prints what it is made of: knobs and harms, for tests/sim/shrink.py */
    struct chance_tape *tape;                     /* NULL: none */
    const struct run **now;                       /* is told which run is under way, NULL: none */
    void (*refused)(const struct sim_refusal *r); /* each call that failed, at the end; or NULL */
};
/* One run. Prints one line when it fails, behind what the node was doing. */
struct run_result run_plan(const struct plan *plan, const struct run_view *view);
/* What the run under way is doing, to stderr: also from a handler of signals. */
void run_look(const struct run *r);

#endif
