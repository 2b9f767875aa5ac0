/* A blocking client for the programs in perf/: one connection, one request at a time, every request
 * kind there is by its key, in the newest version both sides know. It prepares and checks; it is
 * not measured. What goes wrong ends the program with a sentence. */
#ifndef PERF_CLIENT_H
#define PERF_CLIENT_H

#include "proto/gen/api.h"
#include "proto/wire.h"

struct client {
    int fd;
    char host[64];
    uint16_t port;
    struct mem mem;
    struct arena arena; /* what the last answer was decoded into */
    uint8_t *answer;    /* the last answer, which it points into */
    int32_t correlation;
    int16_t versions[API_KEYS_MAX + 1]; /* newest common version; -1: none */
};

/* Prints program, text and ends with status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A connected socket, TCP_NODELAY set. */
int client_socket(const char *host, uint16_t port);
/* address is HOST:PORT, numeric. Asks which versions the broker has. */
void client_init(struct client *c, const char *address);
void client_destroy(struct client *c);
/* What of the two sides is newest; ends the program if there is none. */
int16_t client_version(const struct client *c, int16_t key);
/* Sends a request and decodes its answer, which is valid till the next call. */
void client_ask(struct client *c, int16_t key, const void *request, void *response);

/* The id of a topic and how many partitions it has, once all of them are led by somebody. */
struct uuid client_find_topic(struct client *c, const char *name, uint32_t *partitions);

#endif
