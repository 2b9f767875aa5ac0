/* See peer.h. A request is small and goes out with one write; should the socket be full, the
 * program waits for it, for then the broker is what is slow. Whatever else goes wrong ends the
 * program. */
#include "perf/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"
#include "proto/gen/api.h"
#include "proto/gen/entries.h"
#include "proto/gen/header.h"

#define ARENA_LIMIT (256ull << 20)
#define INPUT_FIRST 512u
#define ANSWER_MAX  (64u << 20)
#define WRITE_MS    60000
#define CLIENT_NAME "torc-perf"

uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void peers_init(struct peers *all, struct client *client)
{
    *all = (struct peers){.client = client, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (all->epoll < 0)
        die("epoll: %s", strerror(errno));
    arena_init(&all->arena, &client->mem, ARENA_LIMIT);
}

void peers_destroy(struct peers *all)
{
    arena_release(&all->arena);
    (void)close(all->epoll);
}

void peer_open(struct peer *p, struct peers *all)
{
    *p = (struct peer){.fd = client_socket(all->client->host, all->client->port)};
    if (fcntl(p->fd, F_SETFL, O_NONBLOCK) != 0)
        die("fcntl: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    if (epoll_ctl(all->epoll, EPOLL_CTL_ADD, p->fd, &event) != 0)
        die("epoll: %s", strerror(errno));
}

void peer_close(struct peer *p)
{
    (void)close(p->fd);
    free(p->input);
    *p = (struct peer){.fd = -1};
}

static const struct proto_entry *entry_of(enum proto_kind kind, int16_t key)
{
    for (uint32_t i = 0; i < proto_entries_count; i++)
        if (proto_entries[i].kind == kind && proto_entries[i].key == key)
            return &proto_entries[i];
    die("no message has the key %d", key);
}

static void peer_write(struct peer *p, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(p->fd, data, size);
        if (n < 0 && errno != EAGAIN)
            die("write: %s", strerror(errno));
        if (n < 0) {
            struct pollfd poller = {.fd = p->fd, .events = POLLOUT};
            if (poll(&poller, 1, WRITE_MS) <= 0)
                die("the broker does not read");
            continue;
        }
        data += n;
        size -= (size_t)n;
    }
}

void peer_ask(struct peer *p, struct peers *all, int16_t key, const void *request)
{
    assert(!p->waits);
    p->key = key;
    p->version = client_version(all->client, key);
    const struct proto_entry *entry = entry_of(PROTO_REQUEST, key);
    struct request_header header = {.request_api_key = key,
                                    .request_api_version = p->version,
                                    .correlation_id = ++p->correlation,
                                    .client_id = wire_string_of(CLIENT_NAME)};
    int16_t header_version = api_request_header_version(key, p->version);
    uint64_t size =
        4 + request_header_size(&header, header_version) + entry->size(request, p->version);
    uint8_t *frame = malloc(size);
    if (frame == NULL)
        die("no memory for a request of %llu bytes", (unsigned long long)size);
    struct wire_writer w;
    wire_writer_init(&w, frame, size);
    wire_put_int32(&w, (int32_t)(size - 4));
    request_header_encode(&header, &w, header_version);
    entry->encode(request, &w, p->version);
    assert(wire_writer_ok(&w) && w.position == size);
    p->asked_ns = now_ns();
    p->waits = true;
    peer_write(p, frame, size);
    free(frame);
}

/* Room for so many bytes of an answer. */
static void peer_reserve(struct peer *p, uint32_t size)
{
    if (size <= p->input_capacity)
        return;
    p->input_capacity = size;
    p->input = realloc(p->input, size);
    if (p->input == NULL)
        die("no memory for an answer of %u bytes", size);
}

static void peer_decode(struct peer *p, struct peers *all, uint32_t size, void *response)
{
    struct wire_reader r;
    struct response_header header;
    arena_release(&all->arena);
    wire_reader_init(&r, p->input + 4, size);
    if (response_header_decode(&header, &r, api_response_header_version(p->key, p->version),
                               &all->arena) != 0 ||
        header.correlation_id != p->correlation ||
        entry_of(PROTO_RESPONSE, p->key)->decode(response, &r, p->version, &all->arena) != 0)
        die("the answer to %s v%d cannot be read", api_find(p->key)->name, p->version);
}

bool peer_hear(struct peer *p, struct peers *all, void *response)
{
    assert(p->waits);
    uint32_t want = 4;
    peer_reserve(p, INPUT_FIRST);
    for (;;) {
        if (p->input_size >= 4)
            want = 4 + wire_load32(p->input);
        if (want > ANSWER_MAX)
            die("an answer of %u bytes", want);
        peer_reserve(p, want);
        if (p->input_size >= 4 && p->input_size >= want)
            break;
        ssize_t n = read(p->fd, p->input + p->input_size, p->input_capacity - p->input_size);
        if (n == 0)
            die("the broker closed a connection");
        if (n < 0 && errno != EAGAIN)
            die("read: %s", strerror(errno));
        if (n < 0)
            return false;
        p->input_size += (uint32_t)n;
    }
    if (p->input_size > want)
        die("an answer to nothing");
    peer_decode(p, all, want - 4, response);
    p->input_size = 0;
    p->waits = false;
    return true;
}
