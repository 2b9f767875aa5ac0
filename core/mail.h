/* struct mail: how cores talk. One SPSC ring per ordered pair of cores, plus a local queue for
 * letters to oneself (same path, no shortcut: nothing is delivered inside the send). A message is
 * lent: it is embedded in something that belongs to `home`, and it must come home.
 * A full ring is no error: the letter waits in an outbox of the sender until the next turn, in
 * order. Outboxes are bounded by the pools whose objects embed the messages. */
#ifndef CORE_MAIL_H
#define CORE_MAIL_H

#include "core/core.h"
#include "core/list.h"
#include "core/mem.h"
#include "core/ring.h"
#include "core/trip.h"

struct msg {
    struct list link;    /* outbox or local queue of the sender while it waits there */
    struct trip *trip;   /* of the request that it is a leg of; NULL: of none */
    struct core_id home; /* who owns the thing this is embedded in */
    uint16_t kind;       /* broker/msg.h: the catalogue */
};

struct mail;

/* All rings and bells of one node. Made and destroyed by the start-up thread. */
struct post {
    struct mem *mem;
    uint32_t cores_count;
    struct ring *rings; /* [from * cores_count + to] */
    struct bell *bells; /* [core] */
};

NODISCARD int post_init(struct post *p, struct mem *mem, uint32_t cores_count, uint32_t slots);
void post_destroy(struct post *p);

/* One core's end of it. */
struct mail {
    struct post *post;
    struct core_id self;
    struct trip_board *board;      /* where legs are counted; NULL: letters have none */
    struct list local;             /* letters to oneself */
    struct list outbox[CORES_MAX]; /* letters that found their ring full */
    uint32_t outbox_count;         /* letters in all of them */
    uint32_t next_from;            /* whose turn it is to be drained first */
    uint64_t sent, received, overflowed;
    uint64_t dirty[(CORES_MAX + 63) / 64]; /* peers with staged or waiting letters */
};

void mail_init(struct mail *m, struct post *post, struct core_id self);
/* Never fails, never delivers inside the call. The sender must not touch *msg afterwards. */
void mail_send(struct mail *m, struct core_id to, struct msg *msg);
/* Hands up to budget letters to deliver(context, msg), fairly over the senders. Returns how many.
 */
uint32_t mail_drain(struct mail *m, uint32_t budget,
                    void (*deliver)(void *context, struct msg *msg), void *context);
/* End of turn: retries outboxes, publishes, and calls wake(context, core) for each sleeping core
 * that got mail. */
void mail_publish(struct mail *m, void (*wake)(void *context, struct core_id to), void *context);
/* Letters waiting for this core (local or in a ring)? */
bool mail_pending(const struct mail *m);
/* How many? */
uint32_t mail_depth(const struct mail *m);
/* Letters that this core could not yet hand over? Then it must not sleep for long. */
bool mail_outbox_empty(const struct mail *m);

#endif
