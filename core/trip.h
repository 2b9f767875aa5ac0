/* struct trip: what one request passes through, on whichever core, and how long each stage took.
 * trip_move is the only way from one stage to the next; it counts how many are in each ("where are
 * all requests now") and adds up the time. A request that is worked on elsewhere too is AWAY while
 * its legs are out; each leg is a trip of its own that travels in its letter (struct msg), so that
 * only who has the letter touches it. mail.c moves legs into and out of RING; the last one to come
 * home tells what its request was waiting for: its stages become those of the request.
 *
 *   RECV ─▶ QUEUED ─▶ DECODE ─▶ ROUTE ─▶ AWAY ─▶ ROUTE ─▶ ENCODE ─▶ SEND ─▶ over       home core
 *                                 └ RING ─▶ ADMIT ─▶ ... ─▶ RING ┘                     each leg
 *   of a produce  ADMIT ─▶ (ROOM ─▶ ADMIT) ─▶ WAIT ─▶ WRITE ─▶ PUBLISH
 *   of others     ADMIT ─▶ (READ or HELD)
 *
 * Time. Most moves use the turn's clock, which costs nothing: waits that span turns are as exact as
 * a turn is short. What begins and ends within a turn (DECODE, ENCODE, PUBLISH, most of ROUTE and
 * ADMIT) would be 0 by it, so one request in TRIP_EXACT_EVERY reads the real clock (25 ns) at each
 * move; the others leave those stages out (trip_note). All of a trip's times come from a clock that
 * never goes back, so they add up to the whole, exactly.
 *
 * Kafka's RequestMetrics say of the same: RequestQueueTimeMs is QUEUED; LocalTimeMs is DECODE,
 * ROUTE, ADMIT, READ, PUBLISH and ENCODE, and of a produce WRITE, which Kafka leaves to the page
 * cache; RemoteTimeMs (the purgatory) is HELD; ResponseQueueTimeMs and ResponseSendTimeMs are
 * SEND; TotalTimeMs begins as ours with the last byte of the request, so without RECV. RING, ROOM
 * and WAIT have no like there. */
#ifndef CORE_TRIP_H
#define CORE_TRIP_H

#include "core/core.h"

#include <stdbool.h>
#include <stdint.h>

#define TRIP_EXACT_EVERY 16u
#define TRIP_STEPS_MAX   28u

enum trip_stage {
    TRIP_RECV,    /* from its first byte in memory to the last, unless it came whole */
    TRIP_QUEUED,  /* those before it on the connection come first */
    TRIP_DECODE,  /* header and body */
    TRIP_ROUTE,   /* home works on it: who serves what, and what has come of that */
    TRIP_AWAY,    /* its legs, or what they wait for, are not home */
    TRIP_ENCODE,  /* its answer is made */
    TRIP_SEND,    /* until the kernel has taken the answer, after those before it */
    TRIP_RING,    /* a leg between cores, or in the queue to its own */
    TRIP_ADMIT,   /* the owner works on it */
    TRIP_ROOM,    /* waits for log memory, or behind a batch that is being verified */
    TRIP_WAIT,    /* its batches lie in memory, and no write has taken any */
    TRIP_WRITE,   /* until the last of them is durable */
    TRIP_PUBLISH, /* durable, until its letter leaves */
    TRIP_READ,    /* waits for the disk to be read */
    TRIP_HELD,    /* parked: for records to come, other members, a coordinator's own write */
    TRIP_STAGES,
    TRIP_OVER = TRIP_STAGES /* not under way */
};
#define TRIP_HOME_STAGES TRIP_RING /* those before it are of requests, the others of legs */

extern const char *const trip_stage_names[TRIP_STAGES];

/* One per core: its clocks, and who is where. */
struct trip_board {
    struct core_id core;
    const uint64_t *now_ns;           /* the turn's clock */
    uint64_t (*clock)(void *context); /* the real one */
    void *context;
    /* Of legs: a letter is entered by the core that sends it and left by the one that takes it, so
     * only the sum over all cores means something. */
    int64_t current[TRIP_STAGES];
};

/* Step by step, for who asks for slow requests. */
struct trip_trail {
    uint32_t count;
    uint32_t lost; /* steps that had no room; their time is in the last one */
    struct trip_step {
        uint64_t ns;
        uint16_t core;
        uint8_t stage;
    } steps[TRIP_STEPS_MAX];
};

struct trip {
    uint64_t since_ns, begun_ns;
    struct trip_trail *trail;
    struct trip *whole; /* of a leg: of its request, for home to touch; else NULL */
    uint16_t passed;    /* bits: stages it has been in */
    uint8_t now;
    bool exact;                     /* so is one with a trail */
    bool homewards;                 /* of a leg in RING */
    uint32_t legs;                  /* away */
    uint64_t spent_ns[TRIP_STAGES]; /* of those passed; the others hold nothing, see trip_spent */
};
_Static_assert(TRIP_STAGES <= 16, "bits of `passed`");

/* A request is here whole, the first of it since since_ns: it is QUEUED. Who sees that it is one to
 * be timed exactly sets `exact`; one with a trail (else NULL) is, and is told step by step. */
void trip_begin(struct trip *t, struct trip_board *b, uint64_t since_ns, struct trip_trail *trail);
/* A leg, or NULL for who is not told of, may be moved like a request. */
void trip_move(struct trip *t, struct trip_board *b, enum trip_stage stage);
/* The same at a time that was taken before. */
void trip_move_at(struct trip *t, struct trip_board *b, enum trip_stage stage, uint64_t at_ns);
/* To a stage that is over within the turn: only of those that are timed exactly. */
static inline void trip_note(struct trip *t, struct trip_board *b, enum trip_stage stage)
{
    if (t != NULL && t->exact)
        trip_move(t, b, stage);
}
static inline void trip_note_at(struct trip *t, struct trip_board *b, enum trip_stage stage,
                                uint64_t at_ns)
{
    if (t != NULL && t->exact)
        trip_move_at(t, b, stage, at_ns);
}
void trip_end(struct trip *t, struct trip_board *b);
static inline uint64_t trip_spent(const struct trip *t, enum trip_stage stage)
{
    return (t->passed >> stage & 1) != 0 ? t->spent_ns[stage] : 0;
}
/* From the request's last byte to the end, in ns: without RECV. */
uint64_t trip_total(const struct trip *t);

/* Prepares a leg of the request; trail NULL: not followed. It begins when its letter leaves. */
void trip_leg(struct trip *leg, struct trip *whole, struct trip_trail *trail);
/* For mail.c. A letter leaves: its leg begins, or turns home. One that leaves when its request is
 * answered (it gives something back) is no leg. */
void trip_depart(struct trip *leg, struct trip_board *b, bool from_home);
/* It is taken out: at the owner it is admitted, at home it ends. */
void trip_arrive(struct trip *leg, struct trip_board *b);

#endif
