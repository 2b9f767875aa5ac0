/* Groups whose members speak either protocol, in the simulated world. Movers are members that go
 * from one protocol to the other and back, so that groups are converted both ways while they live;
 * a founder makes topics while they work, which patterns then stand for. What each was told is held
 * against what all others were told (group.h). */
#ifndef TESTS_SIM_MIXED_H
#define TESTS_SIM_MIXED_H

#include "core/core.h"
#include "tests/sim/group.h"
#include "tests/sim/link.h"

#define MIXED_MAX           2u /* groups */
#define MOVERS_MAX          7u
#define MIXED_TOPICS_MAX    5u /* the run's, and late ones */
#define LATE_TOPICS_MAX     2u
#define LATE_PARTITIONS_MAX 4u
#define MOVER_SEEN          16u /* members that a leader knows of */
_Static_assert(MOVERS_MAX <= GROUP_CLIENTS, "each is a client of its group");

struct run;

struct mixed_options { /* what the seed decides; no movers: nothing of it all */
    uint32_t groups, movers;
    uint32_t policy; /* of migration */
    uint32_t session_ms, heartbeat_ms, interval_ms;
    uint32_t late; /* topics */
    bool cooperative;
};

struct mixed_topic {
    char name[24];
    struct uuid id;
    bool known;                 /* it is there, and its id is known */
    uint32_t partitions, first; /* first: cell of its partition 0 */
    uint32_t partitions_wanted; /* of late ones: in the end */
    bool late;
};

enum mover_state {
    MOVER_FIND,
    MOVER_JOIN,
    MOVER_SYNC, /* classic */
    MOVER_LOOK, /* fetches what is committed of what it has got */
    MOVER_STABLE
};

/* An identity that a mover had, and what was its then. */
struct mover_past {
    char id[64];
    bool consumer;
    bool given_back; /* it has said that it gives them up; if not, it was put out */
    int32_t epoch;   /* 0: none */
    uint64_t cells, stamps[GROUP_CELLS];
};

struct mover {
    struct run *run;
    struct link link;
    struct group_model *group;
    struct sim_event act;
    uint32_t index, era;               /* era: of its versions */
    uint32_t session_ms, rebalance_ms; /* of its own; consumers have the broker's session */
    uint64_t think_ns;
    bool consumer, consumer_at_last; /* the protocol it speaks now, and in the end */
    enum mover_state state;
    char id[64], instance[16];
    uint32_t names;     /* ids that it gave itself */
    int32_t epoch;      /* or generation; 0: not a member */
    int32_t epoch_told; /* in which it was told what it has */
    uint32_t topics;    /* bits of mixed.topics that it names */
    uint32_t pattern;   /* of mixed_patterns; 0: none */
    uint32_t assignor;
    uint64_t owned;              /* cells */
    int64_t next[GROUP_CELLS];   /* committed as far; -1: not known yet */
    int64_t floors[GROUP_CELLS]; /* known when the present fetch was sent */
    int32_t floor;     /* the highest epoch of sure members when the present join was sent */
    uint32_t floor_of; /* whose it is */
    uint64_t sent_ns;  /* of the present request */
    uint64_t since_ns; /* what the node may take that for, at the earliest: its cores' clocks */
    struct mover_past past;
    /* as consumer */
    uint64_t told; /* cells that it should have */
    bool full;     /* an answer was lost: the next heartbeat says everything */
    uint64_t said; /* what the last one that was answered said it has */
    uint64_t saying;
    uint32_t lags; /* heartbeats before it gives up what it should */
    /* as classic */
    uint64_t offered; /* cells of its subscription when it joined */
    int32_t heard;    /* no generation above it can have been made with this id in it */
    uint64_t
        session_ns; /* its join has begun its session then, at the earliest; 0: it may not have */
    struct mover_seen {
        char id[64];
        uint32_t topics;
        int32_t generation;
        uint64_t owned, cells;
    } seen[MOVER_SEEN];
    uint32_t seen_count;
    uint32_t looked_start; /* start of the node in which it looked */
    uint32_t doubt_start;  /* start of the node in which an old request of it may still arrive */
    bool asking, committing, leaving; /* what is not answered yet; asking: to be or not a member */
    bool consumer_next;               /* what it will speak when it has left */
    bool must_fail;                   /* the present commit */
    uint32_t commits_well;            /* since harm has ended */
    uint64_t moves, fences;
};

/* Makes late topics, and more partitions of them. */
struct founder {
    struct run *run;
    struct link link;
    struct sim_event act;
    bool looking;
};

struct mixed {
    struct mixed_options options;
    struct mixed_topic topics[MIXED_TOPICS_MAX];
    uint32_t topics_count;
    struct group_model groups[MIXED_MAX];
    struct mover movers[MOVERS_MAX];
    struct founder founder;
};

/* ---- mixed.c ---- */
void mixed_draw(struct mixed_options *o, struct chance *c);
/* Lines for server.properties. */
void mixed_properties(const struct mixed_options *o, char *to, size_t size);
void mixed_start(struct run *r);
void mixed_stop(struct run *r);
/* All groups are stable, all is assigned, all have committed and looked since the last start. */
bool mixed_done(const struct run *r);
void mixed_print(const struct run *r);
/* Whether movers of the wrong protocol get in some day. */
bool mixed_may_mix(const struct mixed_options *o);
const char *mixed_pattern(uint32_t pattern);
/* Topics that a mover subscribes to, as bits: by name, or by its pattern. */
uint32_t mixed_subscribed(const struct mixed *x, uint32_t topics, uint32_t pattern);
uint32_t mixed_topic_of(const struct mixed *x, uint32_t cell);
/* By name, or (name null) by id; topics_count: there is none. */
uint32_t mixed_topic_find(const struct mixed *x, struct wire_string name, struct uuid id);
/* Cells of these topics, of partitions that are there. */
uint64_t mixed_cells(const struct mixed *x, uint32_t topics);

/* ---- founder.c ---- */
void founder_start(struct founder *f, struct run *r);
void founder_stop(struct founder *f);

/* ---- mover.c ---- */
void mover_start(struct mover *m, struct run *r, uint32_t index);
void mover_stop(struct mover *m);
bool mover_done(const struct mover *m);

#endif
