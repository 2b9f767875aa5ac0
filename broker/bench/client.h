/* struct bench_client: a client that asks one thing at a time and waits for the answer. It prepares
 * loads and looks at what they left; it is not measured. What goes wrong is one sentence in `why`,
 * after which every call says false. */
#ifndef BROKER_BENCH_CLIENT_H
#define BROKER_BENCH_CLIENT_H

#include "broker/bench/link.h"
#include "proto/gen/api.h"

struct bench_client {
    struct io *io;
    struct mem *mem;
    struct bench_link link;
    struct io_address address;
    struct arena arena;                 /* what the last answer lies in, and was decoded into */
    int16_t versions[API_KEYS_MAX + 1]; /* newest common version; -1: none */
    int32_t correlation;
    /* the request under way */
    int16_t key, version;
    uint8_t *frame;
    uint64_t frame_size;
    struct wire_writer writer;
    struct wire_reader reader;
    bool opened, answered;
    char why[384];
};

/* HOST:PORT or [HOST]:PORT, numeric or localhost. false: it is not. */
NODISCARD bool bench_address_read(struct io_address *a, const char *text, char *why, size_t size);

/* Connects and asks which versions the broker has. bench_client_close in any case. */
NODISCARD bool bench_client_open(struct bench_client *c, struct io *io, struct mem *mem,
                                 const struct io_address *address);
void bench_client_close(struct bench_client *c);
/* A sentence into why; always false. */
bool bench_client_fail(struct bench_client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Waits for ms milliseconds. */
void bench_client_rest(struct bench_client *c, uint32_t ms);

/* BENCH_ASK(client, key, name, &request, &response): bool. The answer is valid till the next. */
#define BENCH_ASK(c, api, name, request, response)                                                 \
    (bench_ask_begin((c), (api)) &&                                                                \
     bench_ask_room((c), name##_request_size((request), (c)->version)) &&                          \
     (name##_request_encode((request), &(c)->writer, (c)->version), bench_ask_wait(c)) &&          \
     bench_ask_end((c),                                                                            \
                   name##_response_decode((response), &(c)->reader, (c)->version, &(c)->arena)))
NODISCARD bool bench_ask_begin(struct bench_client *c, int16_t key);
NODISCARD bool bench_ask_room(struct bench_client *c, uint64_t size);
NODISCARD bool bench_ask_wait(struct bench_client *c);
NODISCARD bool bench_ask_end(struct bench_client *c, int decoded);

#endif
