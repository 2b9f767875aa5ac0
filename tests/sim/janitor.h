/* Clients that remove things, in the simulated world: a janitor has a topic of its own, writes to
 * it, deletes records and the whole topic, makes it anew under the same name, changes its settings,
 * and asks what there is. What it was told is held against what it is told later. */
#ifndef TESTS_SIM_JANITOR_H
#define TESTS_SIM_JANITOR_H

#include "tests/sim/link.h"

#define JANITORS_MAX       2u
#define JANITOR_PARTITIONS 3u
#define JANITOR_BATCHES    1024u /* of one partition that are remembered */

struct run;

struct janitor_batch {
    int64_t offset;
    uint32_t count, number, size;
};

struct janitor_part {
    struct janitor_batch batches[JANITOR_BATCHES]; /* acknowledged, in order */
    uint32_t batches_count, made;
    int64_t start_floor;   /* it was told that records below are gone */
    int64_t deleted_below; /* it may have asked so far */
    int64_t carried;       /* that, by a request whose fate is not known: it may come yet, late */
    int64_t end_floor;
    uint64_t unsure_bytes; /* that may be in the log beside what was acknowledged */
};

enum janitor_state { JANITOR_CREATE, JANITOR_LOOK, JANITOR_WORK };

struct janitor {
    struct run *run;
    struct link link;
    struct sim_event act;
    uint32_t index, steps, steps_left;
    char name[16];
    enum janitor_state state;
    struct uuid id, gone_id; /* gone_id: it was told that this topic is deleted */
    uint32_t topics;         /* that it has seen made */
    struct janitor_part parts[JANITOR_PARTITIONS];
    uint32_t setting_sent, setting_known; /* the highest asked for, and what it is at least */
    uint32_t doubt, doubt_start; /* a setting on a lost connection of this start may come yet */
    /* the request under way */
    uint32_t part;
    int64_t offset, floor, end_floor, ceiling;
    struct janitor_batch batch;
    uint8_t *bytes;
    uint32_t setting;
    uint64_t told, refused;
};

void janitor_start(struct janitor *j, struct run *r, uint32_t index);
void janitor_stop(struct janitor *j);
/* Some more steps, after the last restart. */
void janitor_again(struct janitor *j);
/* It has taken all its steps. */
bool janitor_done(const struct janitor *j);

#endif
