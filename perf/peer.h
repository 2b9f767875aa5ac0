/* One connection of many that a program holds at once: it does not block, and has one request under
 * way at most. Requests go through the table of all messages, in the versions a client learned. */
#ifndef PERF_PEER_H
#define PERF_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "perf/client.h"

struct peer {
    int fd;
    int16_t key, version; /* of the request under way */
    int32_t correlation;
    bool waits;        /* for an answer */
    uint64_t asked_ns; /* when it was asked */
    uint8_t *input;
    uint32_t input_size, input_capacity;
};

/* What peers share. */
struct peers {
    const struct client *client; /* versions, and where the broker is */
    int epoll;
    struct arena arena; /* the answer that was read last */
};

uint64_t now_ns(void);

void peers_init(struct peers *all, struct client *client);
void peers_destroy(struct peers *all);
/* Connects; the peer must stay where it is: it is what epoll's events point to. */
void peer_open(struct peer *p, struct peers *all);
void peer_close(struct peer *p);
/* Sends a request; there is none under way. */
void peer_ask(struct peer *p, struct peers *all, int16_t key, const void *request);
/* Reads what there is; true: the whole answer is there, decoded, valid till the next of any peer.
 */
bool peer_hear(struct peer *p, struct peers *all, void *response);

#endif
