/* A compacted topic in the simulated world: a writer gives keys new versions and deletes them, a
 * reader walks from the first offset to the last over and over, and what it finds is held against
 * what is known of each version. */
#ifndef TESTS_SIM_KEEPER_H
#define TESTS_SIM_KEEPER_H

#include "proto/compress.h"
#include "tests/sim/link.h"

#define KEEPER_TOPIC    "kept"
#define KEEPER_KEYS     12u
#define KEEPER_VERSIONS 600u /* of one key */
#define KEEPER_RECORDS  4u   /* of a batch */

struct run;

struct keeper_version {
    int64_t offset; /* -1: not known */
    uint32_t walk;  /* in which it was seen last */
    bool deletes, acknowledged, seen;
    bool gone; /* a walk went past its offset and did not see it: nobody may any more */
};

struct keeper_key {
    struct keeper_version versions[KEEPER_VERSIONS];
    uint32_t made;
    int32_t acknowledged; /* the latest; -1: none */
    /* of the present walk */
    int32_t owed;  /* acknowledged when it began */
    int32_t found; /* the last one seen */
};

struct keeper {
    struct run *run;
    struct compress compress;
    struct keeper_key keys[KEEPER_KEYS];
    uint32_t gone, came; /* versions compacted away, records seen */
    /* the writer */
    struct link writer;
    struct sim_event act;
    bool made;           /* the topic */
    int64_t producer_id; /* -1: none yet */
    int16_t producer_epoch;
    int32_t sequence;
    uint32_t left;  /* batches */
    uint8_t *bytes; /* the batch under way */
    uint32_t size, count;
    uint8_t batch_keys[KEEPER_RECORDS];
    uint32_t batch_versions[KEEPER_RECORDS];
    /* the reader */
    struct link reader;
    struct sim_event look;
    int16_t version;
    uint32_t max_bytes;
    int64_t offset, record_next, floor, known_end;
    uint32_t walk;     /* number of the present one */
    uint64_t began_ns; /* the present one */
    uint32_t complete; /* walks that began after all was acknowledged */
    bool whole;        /* the present one did */
};

void keeper_start(struct keeper *k, struct run *r);
void keeper_stop(struct keeper *k);
/* From now on another walk is owed. */
void keeper_again(struct keeper *k);
/* All is acknowledged, and was walked through since. */
bool keeper_done(const struct keeper *k);

#endif
