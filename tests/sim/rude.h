/* A client that does not behave, in the simulated world: bytes that are no request, requests that
 * are cut short, repeated, contradictory or about what there is not, connections that are left half
 * open, that never take an answer, or that are only held. Nothing it asks for may have an effect on
 * what the others see; the broker has to outlive it. */
#ifndef TESTS_SIM_RUDE_H
#define TESTS_SIM_RUDE_H

#include "tests/sim/link.h"

#define RUDES_MAX 3u

struct run;

struct rude {
    struct run *run;
    struct link link;
    struct sim_event act;
    uint32_t left;   /* what it may still do on this connection */
    uint32_t way;    /* how it behaves on it */
    int64_t id;      /* a producer id, or -1 */
    int32_t session; /* a fetch session */
    int32_t number;
    char member[128]; /* of the group that rude ones share; empty: none */
    int32_t generation;
    int64_t txn_id; /* what its transactional id was given, or -1 */
    int16_t txn_epoch;
    uint64_t acts;
};

void rude_start(struct rude *u, struct run *r, uint32_t index);
void rude_stop(struct rude *u);

#endif
