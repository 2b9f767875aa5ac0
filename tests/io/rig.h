/* A world of one core on the test's thread, and what tests of sockets need again and again: a
 * connected pair, an end that collects what it receives, a sender. Everything runs on one ring,
 * so a test is a straight line: start ops, RIG_UNTIL something holds, look.
 *
 * What io.h promises, and where it is held to it:
 *   io_world_start         a reason for every refusal; fallbacks keep promises   world
 *   io_start, io_stop      refused over budget; an end of all, in silence        reactor
 *   io_poll                never early, idle is free, budget, done never inside  reactor
 *   io_gather              several come as one; none waits for ever              reactor, race
 *   io_wake                self, ring, eventfd, stopped core; none is lost       reactor, race
 *   io_prefault            pages without a touch; no harm in memory that is gone reactor
 *   clocks, chance         still within a turn; draws and starts differ          reactor
 *   io_listen, io_accept   shared ports, both families, EMFILE, cancel           socket
 *   io_connect             refused, bad address, cancel, no descriptor lost      socket
 *   io_send                thousands of parts, nothing, closed peer, shutdown    socket
 *   io_recv, io_buffer     split frames, buffers out and back, stop, reset       receive, torture
 *   io_read, io_write      any place, the end, parts, direct, cut short          file
 *   io_sync                done, refused                                         file
 *   io_punch, io_remove    room and names, later; open files, full folders       file
 *   the calls at once      each, and each with something that is not there       path
 *   io_lock                this process, another, the Java broker's kind         path
 *   io_probe               what it says holds; nothing left behind               probe
 *   io_replace, _slurp     old or new, limits, growing files, small budget       whole
 *   io_remove_tree         all of a folder; none of a folder within              whole
 *   io_signals             kept until heard, again and again                     process
 *   io_thread, io_print    named, pinned; no harm from a closed pipe             process
 *   io_cpus_count          affinity, quotas of both versions, nonsense           cpus */
#ifndef TESTS_IO_RIG_H
#define TESTS_IO_RIG_H

#include "io/uring/uring_priv.h"

#include <criterion/criterion.h>
/* criterion brings the C library's assert; ours is the one meant. */
#undef assert
#define assert(condition)                                                                          \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

#define RIG_LIMIT_NS (20 * NS_PER_S) /* a condition that takes longer will not come */

struct rig {
    struct io_world *world;
    struct io *io;
    struct mem mem;
    char directory[64]; /* made by rig_directory */
};

struct rig_options {
    uint32_t without, buffers_count, buffer_size;
};

void rig_start(struct rig *rig, struct rig_options options);
/* Fails the test when memory is still in use. Removes the directory. */
void rig_stop(struct rig *rig);
/* Makes an empty directory on a disk and names it. */
const char *rig_directory(struct rig *rig);
/* directory/name, in `to`. */
const char *rig_path(const struct rig *rig, char to[128], const char *name);

/* Polls until the condition holds; fails the test after RIG_LIMIT_NS. */
#define RIG_UNTIL(rig, condition)                                                                  \
    do {                                                                                           \
        uint64_t limit_ = io_clock_ns((rig)->io) + RIG_LIMIT_NS;                                   \
        while (!(condition)) {                                                                     \
            (void)io_poll((rig)->io, limit_, 64);                                                  \
            cr_assert(io_now_ns((rig)->io) < limit_, "in time: %s", #condition);                   \
        }                                                                                          \
    } while (0)

/* One end of a connection: collects the sum and number of what comes, and how it ended. */
struct rig_end {
    struct io *io;
    struct io_recv recv;
    uint8_t *bytes; /* NULL: only counted */
    size_t size, used;
    uint32_t dones;
    bool ended, hold; /* hold: keeps the buffers it was lent */
    int32_t result;   /* of the end */
    struct io_buffer *held[64];
    uint32_t held_count;
};

void rig_end_start(struct rig_end *end, struct io *io, int fd, uint8_t *bytes, size_t size);
void rig_end_release(struct rig_end *end);

/* An op that only remembers that it is done. */
struct rig_done {
    uint32_t count;
    int32_t result;
};

struct rig_send {
    struct io_send send;
    struct rig_done done;
};
void rig_send_start(struct rig_send *s, struct io *io, int fd, struct iovec *iov, uint32_t count);

struct rig_rw {
    struct io_rw rw;
    struct rig_done done;
};
void rig_rw_init(struct rig_rw *r, int fd, struct iovec *iov, uint32_t count, uint64_t offset,
                 uint32_t flags);

/* A listener on 127.0.0.1 (or host) and an accept that keeps what came. */
#define RIG_ACCEPTED_MAX 1024
struct rig_listener {
    struct io_accept accept;
    uint16_t port;
    int fds[RIG_ACCEPTED_MAX];
    struct io_address last_peer;
    uint32_t count;
    bool ended;
    int32_t result;
};
void rig_listen(struct rig_listener *l, struct rig *rig, const char *host);
/* Ends the accept and closes the listener; accepted sockets are the caller's. */
void rig_unlisten(struct rig_listener *l, struct rig *rig);

struct rig_connect {
    struct io_connect connect;
    struct rig_done done;
};
void rig_connect_start(struct rig_connect *c, struct io *io, const char *host, uint16_t port);

/* A connected pair of TCP sockets over loopback. */
void rig_pair(struct rig *rig, int *client, int *server);

#endif
