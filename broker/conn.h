/* struct conn: one client connection, owned by the core that accepted it. It cuts the byte stream
 * into frames, hands each frame to a flow, and sends the flows' answers in the order in which the
 * requests came (Kafka clients match answers to requests by order). */
#ifndef BROKER_CONN_H
#define BROKER_CONN_H

#include "broker/limits.h"
#include "core/list.h"
#include "core/pool.h"
#include "core/stage.h"
#include "core/timer.h"
#include "io/io.h"

struct conn;
struct data_core;
struct flow;

enum conn_state {
    CONN_OPEN,    /* reads and answers */
    CONN_CLOSING, /* shut down; waits for its armed ops and running flows */
    CONN_STATES
};

/* The vector of one sendmsg, held only while something is being sent. */
struct outgoing {
    struct conn *conn;
    struct io_send send;
    struct iovec iov[SEND_IOV_MAX];
};

/* How far into a flow's answer the bytes have been handed to the kernel. */
struct reply_cursor {
    uint64_t at; /* bytes of the encoded part already taken */
    uint32_t splice, piece;
};

struct conn {
    struct list link;  /* conns.all, least recently active first */
    struct list dirty; /* conns.dirty or heavy: look at it before the turn ends, or in its turn */
    struct data_core *core;
    struct state state;
    int fd;
    uint16_t listener; /* index into the config's listeners */
    struct io_address peer;
    uint64_t active_ns; /* last byte either way */

    struct io_recv recv;
    bool ended;        /* the peer will send no more; it may still listen */
    bool broken;       /* it takes no answers any more */
    uint8_t unheard;   /* answers dropped since */
    uint8_t length[4]; /* the frame length being gathered */
    uint32_t length_have;
    uint8_t *frame; /* the frame being assembled; frame_have of frame_size bytes are there */
    uint32_t frame_size, frame_have, frame_capacity;
    struct list assembling; /* conns.assembling, while there is a frame */
    uint64_t frame_ns;      /* when its memory was first taken */
    bool starving;          /* in conns.starved */
    uint8_t *stash;         /* bytes received after we decided to stop reading */
    uint32_t stash_size, stash_at;

    struct list flows; /* in request order */
    uint32_t flows_count;
    uint64_t flows_bytes;
    uint32_t running;       /* started and not yet answered */
    bool heavy;             /* its last answer was long: others come first */
    bool running_exclusive; /* what runs is not a produce: nothing may start beside it */

    uint64_t unsent_bytes; /* of answers */
    struct outgoing *out;  /* armed send, or NULL */
    struct list stalling;  /* conns.sending, while a send is armed */
    uint64_t out_ns;       /* since when */
    uint32_t sending;      /* flows at the head of the list that leave whole with it */
    struct reply_cursor cursor;
};

/* All connections of one core. */
struct conns {
    struct list all;     /* oldest activity first */
    struct list dirty;   /* have answers to send or bytes to parse */
    struct list heavy;   /* the same, with long answers: after all others */
    struct list starved; /* stopped for lack of memory or flows, not for their own limits */
    struct list assembling, sending; /* longest first */
    uint64_t frames_bytes;           /* of frames that are assembled or worked on */
    uint64_t scarce_ns;              /* when memory was last found scarce; 0: never */
    uint64_t encoded_bytes;          /* of all answers, without what is lent */
    uint64_t received_bytes, sent_bytes;
    uint64_t copied_bytes; /* of what was received */
    uint32_t count;
    uint32_t count_max;      /* of descriptors: the others are for files */
    uint64_t quiet_until_ns; /* that there are no more is not told again before */
    struct pool pool, outgoing;
    struct timer sweep;
    uint64_t accepted, refused, closed_idle, closed_bad, closed_stalled;
};

int conns_init(struct conns *c, struct data_core *core);
/* Frees what is left; no op is armed any more (or the reactor is gone). */
void conns_free(struct conns *c);
/* A connection was accepted on this core's listener. Takes the fd. */
void conn_open(struct data_core *core, int fd, const struct io_address *peer, uint16_t listener);
/* Ends it: what runs, runs out; what is unsent is dropped. Idempotent. */
void conn_close(struct conn *c);
/* A flow of it has its answer (or needs none): something may be sent or started. */
void conn_wake(struct conn *c);
/* End of turn: parse what waits, start flows, send answers. */
void conns_flush(struct data_core *core);
/* Some of those with long answers. */
void conns_flush_heavy(struct data_core *core);
/* An answer of it was encoded: so much work it is. */
void conn_answered(struct conn *c, uint64_t encoded_bytes);
/* Frames are memory of their own, counted. */
uint8_t *conns_take_frame(struct conns *c, uint32_t capacity);
void conns_free_frame(struct conns *c, uint8_t *frame, uint32_t capacity);
/* Readers hold too much, or frames do: peers that do not get on are closed sooner. */
void conns_scarce(struct conns *c);
/* Closes all, for the end of the node. */
void conns_close_all(struct conns *c);

#endif
