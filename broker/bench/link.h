/* struct bench_link: one connection to a broker. It connects, sends what it is given, and cuts what
 * comes into answers. What the answers mean, and which request comes next, is its owner's.
 *
 * Owners either gather pieces of many requests (bench_link_send), or ask one thing at a time
 * (bench_link_ask), of which the link keeps the frame. */
#ifndef BROKER_BENCH_LINK_H
#define BROKER_BENCH_LINK_H

#include "core/arena.h"
#include "io/io.h"
#include "proto/wire.h"

#define BENCH_ANSWER_MAX  (256u << 20)
#define BENCH_CLIENT_NAME "torc-bench"

struct bench_link {
    struct io *io;
    struct mem *mem;
    struct io_connect connect;
    struct io_recv recv;
    struct io_send send;
    struct iovec *iov; /* for the one send that may be under way */
    uint32_t iov_max;
    int fd;           /* -1: not connected */
    bool failed;      /* no request will be answered any more; `why` says it */
    const char *what; /* went wrong */
    int error;        /* with this -errno, or 0 */
    uint8_t *input;   /* the answer being put together */
    uint32_t input_size, input_capacity;
    /* What is asked, one thing at a time. */
    bool asking, waits; /* waits: for the send before to be over */
    int16_t key, version;
    int32_t correlation;
    uint64_t asked_ns; /* when it left */
    void (*put)(struct bench_link *k, struct wire_writer *w);
    uint8_t *frame;
    uint64_t frame_room;
    /* The owner's; all run from io_poll only. */
    void (*opened)(struct bench_link *k);
    /* A send is over; the next may begin. May be NULL. */
    void (*sent)(struct bench_link *k);
    void (*answer)(struct bench_link *k, const uint8_t *data, uint32_t size);
    void (*broken)(struct bench_link *k);
};

/* The callbacks are set by the caller afterwards, before link_open. false: no memory. */
NODISCARD bool bench_link_init(struct bench_link *k, struct io *io, struct mem *mem,
                               uint32_t iov_max);
void bench_link_open(struct bench_link *k, const struct io_address *address);
static inline bool bench_link_sending(const struct bench_link *k)
{
    return k->send.op.armed;
}
/* Sends count pieces of k->iov; none is under way. What they point at stays till `sent`. */
void bench_link_send(struct bench_link *k, uint32_t count);
/* Asks for one thing, while nothing else is asked. put writes the request's body, of k->version:
 * twice, the first time into nothing, so that its size is known. */
void bench_link_ask(struct bench_link *k, int16_t key, int16_t version,
                    void (*put)(struct bench_link *k, struct wire_writer *w));
/* Whether it is the answer to what was asked; *r then stands behind its header. */
NODISCARD bool bench_link_answered(struct bench_link *k, const uint8_t *data, uint32_t size,
                                   struct arena *arena, struct wire_reader *r);
/* The owner met something that this connection cannot go on with. */
void bench_link_break(struct bench_link *k, const char *what, int error);
/* Nothing runs after bench_link_over, which the owner polls for; then bench_link_free. */
void bench_link_close(struct bench_link *k);
bool bench_link_over(const struct bench_link *k);
void bench_link_free(struct bench_link *k);

#endif
