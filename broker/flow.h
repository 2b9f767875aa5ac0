/* struct flow: one request under way, from its frame to its answer's last byte. It owns the frame,
 * an arena for everything decoded or built for it, and the encoded answer. Home core only. */
#ifndef BROKER_FLOW_H
#define BROKER_FLOW_H

#include "broker/conn.h"
#include "core/arena.h"
#include "core/trip.h"
#include "proto/error.h"
#include "proto/wire.h"

struct flow {
    struct list link; /* conn.flows */
    struct conn *conn;
    struct data_core *core;
    struct trip trip;      /* where it is: core/trip.h */
    const struct api *api; /* broker/api/api.h; set when started */
    /* the request */
    int16_t api_key, api_version;
    int32_t correlation_id;
    struct wire_string client_id;
    const uint8_t *frame;
    uint32_t frame_size, frame_capacity;
    struct io_buffer *buffer; /* what the frame lies in, else the frame is memory of our own */
    struct arena arena;
    void *state; /* of the api file, in the arena */
    /* the answer */
    uint8_t *head; /* encoded bytes, in the arena; lent pieces are spliced in */
    uint32_t head_size;
    uint64_t answer_bytes; /* with what is lent */
    struct wire_splice *splices;
    uint32_t splices_count;
    uint32_t lent;    /* letters away beyond the answer: see flow_lend */
    bool ended;       /* freed when the last one is home */
    bool silent;      /* no answer goes out (acks=0) */
    bool close_after; /* an answerless error: the connection is closed in its place */
    /* What the api file must do when the answer has left or been dropped; may be NULL. It ends with
     * flow_free, at once or later. */
    void (*sent)(struct flow *f);
    /* The connection is gone: stop waiting (parked fetch), the answer will be dropped. May be NULL.
     */
    void (*abandon)(struct flow *f);
    bool polls; /* abandoned, it answers what there is: right for whoever still listens */
};

struct api;
struct data_core;

struct flows {
    struct pool pool;
};

/* The clocks of a core's board are those of its io. */
void board_init(struct trip_board *b, struct core_id core, struct io *io);
void flows_init(struct flows *f, struct data_core *core);
/* since_ns: when the first of its frame came. NULL when none is free: the socket is then not read.
 */
struct flow *flow_acquire(struct conn *c, uint64_t since_ns);
/* It waits for those before it, or is answered and waits to be sent; between them it runs. */
static inline bool flow_queued(const struct flow *f)
{
    return f->trip.now == TRIP_QUEUED;
}
static inline bool flow_answered(const struct flow *f)
{
    return f->trip.now == TRIP_SEND;
}
/* May it run beside other pipelined requests of its connection? (Produce.) Looks at the raw key. */
bool flow_may_pipeline(const struct flow *f);
/* Reads the header and runs the api. Afterwards the flow is running or answered. */
void flow_start(struct flow *f);
/* For api files: reads the body into the request struct of message `name`; false: malformed. */
#define FLOW_DECODE(flow, name, request, body)                                                     \
    (name##_request_decode((request), (body), (flow)->api_version, &(flow)->arena) == 0 &&         \
     flow_decoded(flow))
bool flow_decoded(struct flow *f); /* true */
/* The trip of a letter that works for it elsewhere (msg.trip); NULL without memory, then nobody is
 * told of it. */
struct trip *flow_leg(struct flow *f);
/* For api files: the response struct `m` of message `name` becomes the answer. Measured first, then
 * encoded into memory of the right size; lent pieces in it are spliced, not copied. */
#define FLOW_ANSWER(flow, m, name)                                                                 \
    do {                                                                                           \
        struct wire_writer answer_writer = {0};                                                    \
        flow_encodes(flow);                                                                        \
        name##_encode((m), &answer_writer, (flow)->api_version);                                   \
        if (flow_answer_begin((flow), &answer_writer)) {                                           \
            name##_encode((m), &answer_writer, (flow)->api_version);                               \
            flow_answer_end((flow), &answer_writer);                                               \
        }                                                                                          \
    } while (0)
void flow_encodes(struct flow *f);
/* Takes the measure, makes room, writes the header into a fresh *w; false: the flow was refused. */
bool flow_answer_begin(struct flow *f, struct wire_writer *w);
void flow_answer_end(struct flow *f, struct wire_writer *w);
/* No answer leaves for this request. */
void flow_answer_nothing(struct flow *f);
/* The request cannot be answered in a way the client would understand: closes the connection. */
void flow_refuse(struct flow *f, const char *why);
/* Frees it, or remembers to: letters that are embedded in its memory may still be away. */
void flow_free(struct flow *f);
/* A letter of this flow leaves, or has come home. The flow's memory stays while any is away. */
void flow_lend(struct flow *f);
void flow_unlend(struct flow *f);

#endif
