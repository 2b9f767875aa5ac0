/* What clients know of consumer groups: which generations there were, who owned what in them, how
 * far was committed. Whatever the broker says is held against it. */
#ifndef TESTS_SIM_GROUP_H
#define TESTS_SIM_GROUP_H

#include "core/core.h"

#include <stdbool.h>
#include <stdint.h>

#define GROUPS_MAX        3u
#define GROUP_TEXT_MAX    256
#define GROUP_CELLS       40u  /* partitions of all topics together */
#define GROUP_GENERATIONS 256u /* the last ones are remembered */
#define GROUP_CLIENTS     8u   /* of a group whose members are held to what they hold */
#define NOBODY            UINT32_MAX

struct group_generation {
    int32_t number; /* -1: none yet */
    uint32_t owner[GROUP_CELLS];
};

struct group_cell { /* of one partition */
    int64_t known;  /* a commit of it was acknowledged, or it was fetched; -1: none */
    int64_t sent;   /* the highest that was ever sent */
    uint32_t taker; /* who was the last to have it for certain, and since when */
    uint64_t taken;
};

struct group_holder { /* what a client has been told is its, and has not given up */
    uint64_t cells;   /* bits */
    uint64_t stamps[GROUP_CELLS];
    uint64_t until_ns; /* till then it is a member for certain: no time-out can have come before */
};

struct group_model {
    char id[24];
    uint32_t cells_count;
    int32_t synced; /* the highest generation with an assignment that was answered: it is durable */
    struct group_generation generations[GROUP_GENERATIONS];
    struct group_cell cells[GROUP_CELLS];
    struct group_holder holders[GROUP_CLIENTS];
    uint64_t stamp;
    uint64_t joins, syncs, commits, refused, fetches;
};

void group_model_init(struct group_model *g, uint32_t number, uint32_t cells_count);

/* Each: true, or false with a sentence in text. */
/* A join that was sent when `floor` was synced is answered. */
bool group_joined(struct group_model *g, int32_t floor, int32_t generation,
                  char text[GROUP_TEXT_MAX]);
/* A sync is answered: in this generation the client owns these cells (bits). */
bool group_synced(struct group_model *g, uint32_t client, int32_t generation, uint64_t cells,
                  char text[GROUP_TEXT_MAX]);
/* A commit is about to be sent. */
void group_commit_sent(struct group_model *g, uint32_t cell, int64_t offset);
/* It was accepted; floor: what was synced when it was sent. */
bool group_committed(struct group_model *g, uint32_t cell, int64_t offset, int32_t generation,
                     int32_t floor, char text[GROUP_TEXT_MAX]);
/* What a fetch sent now may count on. */
int64_t group_floor(const struct group_model *g, uint32_t cell);
bool group_fetched(struct group_model *g, uint32_t cell, int64_t floor, int64_t offset,
                   char text[GROUP_TEXT_MAX]);

/* A client was told that all these cells are its, and is a member until then for certain. */
bool group_holds(struct group_model *g, uint32_t client, uint64_t cells, uint64_t now_ns,
                 uint64_t until_ns, char text[GROUP_TEXT_MAX]);
/* It has given them up, before it says so. */
void group_gives_up(struct group_model *g, uint32_t client, uint64_t cells);
/* It is not certain any more that it is a member. */
void group_doubts(struct group_model *g, uint32_t client);
/* Since it had the cell (its stamp), somebody else has got it for certain. */
bool group_taken_since(const struct group_model *g, uint32_t client, uint32_t cell, uint64_t stamp);

#endif
