/* struct link: a Kafka client's connection in the simulated world. It connects again whenever it is
 * lost, asks with real encoders, and holds the broker to answering in the order of the requests. */
#ifndef TESTS_SIM_LINK_H
#define TESTS_SIM_LINK_H

#include "core/arena.h"
#include "io/sim/sim.h"
#include "proto/wire.h"

#define LINK_REQUESTS_MAX 16

struct link_request {
    int32_t correlation_id;
    int16_t api_key, version;
    uint64_t sent_ns;
    uint64_t tag; /* the owner's */
};

struct link {
    /* set by the owner before link_start */
    struct sim *sim;
    struct mem *mem;
    struct sim_machine *to;
    uint16_t port;
    uint64_t timeout_ns; /* for an answer; then the connection is given up */
    void *owner;
    void (*up)(struct link *l);
    void (*down)(struct link *l); /* what was asked is forgotten; a new attempt follows */
    /* The body of an answer; q is gone from the list already. */
    void (*answered)(struct link *l, const struct link_request *q, struct wire_reader *body);
    void (*broken)(struct link *l, const char *why); /* the broker broke the protocol */
    /* link's own */
    struct sim_client *client;
    bool is_up, stopped;
    bool mute; /* takes no answer (sim_client_hold) */
    struct sim_event retry, timeout;
    struct link_request requests[LINK_REQUESTS_MAX]; /* in order */
    uint32_t requests_count;
    int32_t next_correlation_id;
    uint8_t *frame;
    size_t frame_room;
    uint64_t connects, timeouts;
};

void link_start(struct link *l);
/* No more attempts, no more calls; frees what it has. */
void link_stop(struct link *l);
/* Gives the connection up, as a client does that lost its patience. */
void link_break(struct link *l);

/* Makes room for a request and writes its header; the body is encoded into *w next. */
void link_begin(struct link *l, struct wire_writer *w, int16_t api_key, int16_t version,
                uint64_t body_size);
/* expect_answer false: acks=0. */
void link_end(struct link *l, struct wire_writer *w, int16_t api_key, int16_t version, uint64_t tag,
              bool expect_answer);

/* Asks with message `name`_request m. */
#define LINK_ASK(link, m, name, api_key, version, tag, expect_answer)                              \
    do {                                                                                           \
        struct wire_writer ask_ = {0};                                                             \
        name##_request_encode((m), &ask_, (version));                                              \
        link_begin((link), &ask_, (api_key), (version), ask_.position);                            \
        name##_request_encode((m), &ask_, (version));                                              \
        link_end((link), &ask_, (api_key), (version), (tag), (expect_answer));                     \
    } while (0)

#endif
