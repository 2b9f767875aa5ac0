/* What the files of io/uring share: the reactor of one core, the world of one node, and how an op
 * travels through the kernel and back.
 *
 *   user_data = address of the op | kind        (ops are 8-aligned, so three bits are free)
 *             = internal code << 3 | INTERNAL   (nobody's op: a wake, a bell, a signal, a cancel)
 *
 * The kind chooses the settle function that turns a completion into `done`, into the continuation
 * of a short transfer, or into a re-arm. Objects outlive their ops (io.h rule 3), which is what
 * makes addresses good names for them. */
#ifndef IO_URING_PRIV_H
#define IO_URING_PRIV_H

#include "io/io.h"
#include "io/uring/abi.h"

#include <errno.h>
#include <liburing.h>
#include <sys/signalfd.h>

enum uring_kind {
    KIND_INTERNAL,
    KIND_ACCEPT,
    KIND_RECV,
    KIND_SEND,
    KIND_CONNECT,
    KIND_RW,
    KIND_ONCE,  /* done with what the kernel says, the first time it says something */
    KIND_READY, /* a no-op that brings a result known before the kernel was asked */
};
#define KIND_BITS 3u
#define KIND_MASK 7u
#define KINDS     8u

enum uring_internal { INTERNAL_NONE, INTERNAL_WAKE, INTERNAL_BELL, INTERNAL_SIGNAL };

/* Features that a world is told to do without: tests of the fallbacks use it. */
#define WITHOUT_DEFER     1u /* DEFER_TASKRUN and SINGLE_ISSUER */
#define WITHOUT_COOP      2u /* COOP_TASKRUN */
#define WITHOUT_MULTISHOT 4u
#define WITHOUT_MSG_RING  8u
#define WITHOUT_MIN_WAIT  16u

#define SQ_ENTRIES 1024u
#define CQ_ENTRIES 8192u

struct io_world {
    uint32_t cores_count;
    uint32_t lacks; /* WITHOUT_ bits: asked for or found missing */
    size_t size;    /* of the mapping this lives in */
    int ring_fds[CORES_MAX];
    int bell_fds[CORES_MAX]; /* eventfds; -1 where rings wake each other themselves */
    struct world_core {
        _Alignas(CACHE_LINE) struct io_uring ring;
        bool made, started;
    } cores[];
};

struct io {
    struct io_uring *ring;
    struct io_world *world;
    struct mem *mem;
    struct trace *trace;
    struct core_id core;
    bool multishot, taskrun_flag;
    bool registered; /* the kernel knows the ring's descriptor by its number in the ring itself */
    bool woken;      /* a wake was reaped in this poll */
    bool nudged;     /* the core woke itself: the next poll does not wait */

    uint64_t now_ns;
    int64_t wall_ms;
    uint64_t spin_from_ns, spin_until_ns; /* not before, for its rest; io_spin */
    uint64_t gather_ns;                   /* io_gather */
    uint32_t inflight; /* completions that the kernel still owes, of any kind but cancels */
    uint64_t random[4];

    /* receive buffers: see receive.c */
    struct io_uring_buf_ring *buffer_ring;
    size_t buffer_ring_size;
    uint8_t *buffer_memory;
    struct io_buffer *buffers;
    uint32_t buffers_count, buffer_size, buffers_free;
    struct list starving; /* io_recv.link: armed for their owners, waiting for a buffer */

    uint64_t bell_value;
    int signal_fd;
    struct op *signal_op;
    struct signalfd_siginfo signal;
};

/* As io_world_start, without some features. */
NODISCARD int uring_world_start(struct io_world **world, uint32_t cores_count, uint32_t without,
                                char *why, size_t why_size);

/* Lets a ring made disabled run, for the thread that calls. 0 or -errno. */
NODISCARD int uring_enable(struct io_uring *ring);

/* Waits for `count` completions, those that are there included; after min_wait_ns for one; and at
 * most limit_ns. Submits nothing. 0 or -errno. */
int uring_wait_for(struct io_uring *ring, bool registered, uint32_t count, uint64_t min_wait_ns,
                   uint64_t limit_ns);

/* An entry of the submission queue; submits first when the queue is full. Never NULL. */
struct io_uring_sqe *uring_sqe(struct io *io);
/* Names a prepared entry after its op and counts it as in flight. */
void uring_tag(struct io *io, struct io_uring_sqe *sqe, struct op *op, enum uring_kind kind);
void uring_tag_internal(struct io_uring_sqe *sqe, enum uring_internal code);
/* `done` with this result, from the next io_poll. */
void uring_ready(struct io *io, struct op *op, int32_t result);
void uring_cancel(struct io *io, const struct op *op, enum uring_kind kind);
/* The last completion of an op: hands it back to its owner. */
void uring_finish(struct op *op, int32_t result);

void uring_accept_settle(struct io *io, struct op *op, int32_t result, uint32_t flags);
void uring_recv_settle(struct io *io, struct op *op, int32_t result, uint32_t flags);
void uring_send_settle(struct io *io, struct op *op, int32_t result, uint32_t flags);
void uring_connect_settle(struct io *io, struct op *op, int32_t result, uint32_t flags);
void uring_rw_settle(struct io *io, struct op *op, int32_t result, uint32_t flags);
void uring_signal_settle(struct io *io, int32_t result);
/* For io_stop: frees what a completion that nobody will see brought. */
void uring_connect_drop(struct op *op);

NODISCARD int uring_buffers_start(struct io *io, const struct io_config *config);
void uring_buffers_stop(struct io *io);
/* Arms as many starving receives as there are buffers. */
void uring_recv_feed(struct io *io);

/* Moves the vector on by `bytes`, and past empty parts at its front. */
static inline void uring_iov_advance(struct iovec **iov, uint32_t *count, uint64_t bytes)
{
    while (*count > 0 && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    assert(*count > 0 || bytes == 0);
    if (bytes > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= (size_t)bytes;
    }
}

static inline uint64_t uring_iov_size(const struct iovec *iov, uint32_t count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

/* CPUs that cgroup quotas leave of `affinity`, with /proc and /sys under root ("" in earnest). */
uint32_t uring_cpus_under(const char *root, uint32_t affinity);

#endif
