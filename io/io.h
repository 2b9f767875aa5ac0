/* io.h is the boundary to the kernel: sockets, files, sync, time, entropy, threads. Nothing above
 * it makes a system call, so what runs on it runs on the simulator unchanged. Two bodies exist,
 * io/uring (the real one) and io/sim (everything simulated); exactly one is linked.
 *
 * Rules that both bodies keep, and the simulator enforces with malice:
 *  1. Nothing completes inside the call that started it. `done` runs from io_poll only.
 *  2. Completions of different ops come in any order. One recv and one send per socket at a time.
 *  3. An armed op (op.armed) may not move or be freed; cancel, then wait for its `done`. An op that
 *     completes many times stays armed until `more` is false, and then has result <= 0.
 *  4. Errors are negative errno. A read or write is whole or failed: short ones are continued by
 *     io itself; a read that meets the end of the file returns what there was.
 *  5. A failed write or sync is reported once and exactly; io never retries it.
 * Every struct io belongs to one core, on whose thread core_enter was called before io_start; only
 * io_wake is called for another one.
 *
 * Functions marked "at once" block the caller for as long as the kernel takes (a namespace
 * operation, a small file). They are for start-up, roll and admin work, never per record. */
#ifndef IO_IO_H
#define IO_IO_H

#include "core/core.h"
#include "core/list.h"
#include "core/mem.h"
#include "core/op.h"
#include "core/trace.h"

#include <sys/uio.h>

struct io;       /* one core's reactor */
struct io_world; /* what the cores of one node share (uring: ring fds for wakes; sim: one machine)
                  */

/* ---- node ------------------------------------------------------------------------------------ */

/* Checks the kernel (minimum 6.1, io_uring allowed) and makes the shared part, before any thread.
 * From then on SIGPIPE and SIGXFSZ are ignored and the signals of io_signals are blocked, in
 * threads made later too. On failure returns -errno and writes a sentence into `why` that says what
 * is wrong and what to do about it. */
NODISCARD int io_world_start(struct io_world **world, uint32_t cores_count, char *why,
                             size_t why_size);
/* After every core has stopped. */
void io_world_stop(struct io_world *world);

struct io_config {
    struct io_world *world;
    struct core_id core;
    struct mem *mem;
    struct trace *trace; /* one line per feature that is missing and what it falls back to */
    uint32_t recv_buffers_count; /* power of two; 0: 16 */
    uint32_t recv_buffer_size;   /* multiple of 4096; 0: 64 KiB */
};

/* On the core's own thread, once per core of a world. 0 or -errno with `why` as above. */
NODISCARD int io_start(struct io **io, const struct io_config *config, char *why, size_t why_size);
/* What is still armed is cancelled and over when this returns; its `done` never runs. */
void io_stop(struct io *io);

/* One turn: submits what was started, waits for a completion, a wake or until_ns (0: does not
 * wait), samples the clocks, then runs `done` for up to `budget` completions. Returns how many. */
uint32_t io_poll(struct io *io, uint64_t until_ns, uint32_t budget);
/* From now on a poll that has to wait may keep back what completes, wakes included, for up to so
 * long, for more to come with it: fewer turns for the same work. 0: never. Where the kernel cannot
 * (before 6.12), and under simulation, nothing is kept back. */
void io_gather(struct io *io, uint64_t ns);
/* Until then a poll that has to wait looks for completions rather than sleeps: one is near, and a
 * wake takes long. It rests in between: it looks for a third of the time at most. 0: sleeps at
 * once. Under simulation nothing is looked for. */
void io_spin(struct io *io, uint64_t until_ns);
/* Makes core `to` return from its io_poll. From any core of the same world. */
void io_wake(struct io *from, struct core_id to);

/* Monotonic ns and wall-clock ms as sampled by the last io_poll (or io_start): stable in a turn. */
uint64_t io_now_ns(const struct io *io);
int64_t io_wall_ms(const struct io *io);
const uint64_t *io_now_pointer(const struct io *io);
const int64_t *io_wall_pointer(const struct io *io);
/* Not sampled: reads the monotonic clock now (for measuring inside a turn). */
uint64_t io_clock_ns(struct io *io);

uint64_t io_random(struct io *io);                     /* jitter, session ids */
void io_entropy(struct io *io, void *to, size_t size); /* uuids, secrets */

/* ---- network --------------------------------------------------------------------------------- */

struct io_address {
    /* Numeric IPv4 or IPv6, terminated; "" = all addresses. "@NAME": a local name (Linux's abstract
     * one, without a file), for processes of the same user and root only; it has no port. */
    char host[64];
    uint16_t port; /* 0 asks for any free one when listening */
};

/* At once. Listens with SO_REUSEPORT, so each core has a listener on the same port; *bound_port
 * gets the port chosen. fd or -errno. */
NODISCARD int io_listen(struct io *io, const struct io_address *address, uint32_t backlog,
                        uint16_t *bound_port);

/* -EADDRINUSE when somebody listens there, and still does after a second: a broker that was killed
 * leaves its port a little later than it ends. (io_listen shares the port with whoever shares it
 * too, which is meant for the cores of one broker, not for two brokers.) */
NODISCARD int io_port_free(struct io *io, const struct io_address *address);

/* Accepts until it fails or is cancelled: op.result is a connected fd (TCP_NODELAY set) or -errno.
 * `more` false: it has ended (result < 0), and may be started again. -EMFILE, -ENFILE, -ENOMEM end
 * it: start it again after a pause. */
struct io_accept {
    struct op op;
    int listener;
    bool more;
    bool stopping; /* io's own */
    struct io_address peer;
};
void io_accept(struct io *io, struct io_accept *a);
/* Ends it with -ECANCELED, maybe after more connections. Not for an unarmed one. */
void io_cancel_accept(struct io *io, struct io_accept *a);

/* A receive buffer lent by the core's provided-buffer ring, reference-counted by the holder core.
 */
struct io_buffer {
    uint8_t *data;
    uint32_t size; /* capacity */
    uint32_t references;
    uint16_t id;
};

/* Receives until stopped, end or error. op.result > 0: so many bytes at `data`, inside `buffer`, of
 * which the callee now holds one reference. 0: the peer has closed. < 0: -errno (-ECANCELED after
 * io_recv_stop). `more` false: ended (result <= 0); may be started again unless the peer closed.
 * When buffers run out io waits for one to come back by itself. */
struct io_recv {
    struct op op;
    int fd;
    bool more;
    bool stopping; /* io's own */
    const uint8_t *data;
    struct io_buffer *buffer;
    struct list link; /* io's own: waiting for buffers */
};
void io_recv_start(struct io *io, struct io_recv *r);
/* Asks it to end; `done` still comes, maybe with data first. Not for an unarmed one. */
void io_recv_stop(struct io *io, struct io_recv *r);
void io_buffer_retain(struct io_buffer *b);
void io_buffer_release(struct io *io, struct io_buffer *b);
/* Buffers the kernel can still fill. Holders copy out when this gets low. */
uint32_t io_buffers_free(const struct io *io);

/* Sends everything or fails. iov and what it points at stay untouched by the caller until done.
 * op.result: bytes, or -errno. */
struct io_send {
    struct op op;
    int fd;
    struct iovec *iov; /* io may change it */
    uint32_t iov_count;
    uint64_t sent; /* io's own */
    uint64_t internal[8];
};
void io_send(struct io *io, struct io_send *s);
/* At once: makes armed receives and sends of the socket end soon (shutdown both ways). */
void io_shutdown(struct io *io, int fd);
/* At once. No op on the socket is armed. */
void io_socket_close(struct io *io, int fd);
/* Clients of ours and simulated workloads: op.result is a connected fd, or -errno. */
struct io_connect {
    struct op op;
    struct io_address address;
    uint64_t internal[24];
};
void io_connect(struct io *io, struct io_connect *c);
/* Ends it soon, with -ECANCELED unless it got its answer first. Not for an unarmed one. */
void io_cancel_connect(struct io *io, struct io_connect *c);

/* ---- files: asynchronous --------------------------------------------------------------------- */

#define IO_READ     0x01u
#define IO_WRITE    0x02u
#define IO_CREATE   0x04u
#define IO_EXCL     0x08u
#define IO_TRUNC    0x10u
#define IO_DIRECT   0x20u /* O_DIRECT: memory, offset and sizes are multiples of 4096 */
#define IO_DSYNC    0x40u /* on a write: durable when done */
#define IO_UNCACHED 0x80u /* on a write: do not keep the pages, where io_probe says it can */

struct io_rw {
    struct op op; /* result: bytes moved (INT32_MAX at most per call), or -errno */
    int fd;
    struct iovec *iov; /* lives until done; io may change it */
    uint32_t iov_count;
    uint32_t flags; /* IO_DSYNC, IO_UNCACHED */
    uint64_t offset;
    uint64_t moved; /* io's own */
    bool writing;   /* io's own */
};
void io_read(struct io *io, struct io_rw *rw);
void io_write(struct io *io, struct io_rw *rw);
/* fdatasync; of a directory (opened with IO_READ): the names that are in it. result 0 or -errno. */
struct io_sync {
    struct op op;
    int fd;
    bool directory;
};
void io_sync(struct io *io, struct io_sync *s);
/* Gives the room of these bytes back; they read as zeros then. The end of the file stays where it
 * is. result 0 or -errno; -EOPNOTSUPP where the file system cannot. */
struct io_punch {
    struct op op;
    int fd; /* open for writing */
    uint64_t offset, size;
};
void io_punch(struct io *io, struct io_punch *p);
/* Removes a name, and with the last one of a file what room it has. result 0 or -errno. */
struct io_remove {
    struct op op;
    const char *path; /* lives until done */
    bool folder;      /* an empty one */
};
void io_remove(struct io *io, struct io_remove *r);

/* ---- files: at once -------------------------------------------------------------------------- */

struct io_stat {
    uint64_t size;
    int64_t modified_ms;
    bool is_directory;
};

NODISCARD int io_open(struct io *io, const char *path, uint32_t flags); /* fd or -errno */
void io_close(struct io *io, int fd);
NODISCARD int io_stat(struct io *io, const char *path, struct io_stat *stat);
NODISCARD int io_fstat(struct io *io, int fd, struct io_stat *stat);
NODISCARD int64_t io_pread(struct io *io, int fd, void *to, size_t size, uint64_t offset);
NODISCARD int64_t io_pwrite(struct io *io, int fd, const void *from, size_t size, uint64_t offset);
NODISCARD int io_truncate(struct io *io, int fd, uint64_t size);
NODISCARD int io_allocate(struct io *io, int fd, uint64_t size); /* space and size, unwritten */
/* Space for its first bytes, with no change of its size: writing them cannot meet -ENOSPC. 0,
 * -errno; -EOPNOTSUPP where the file system cannot promise that. */
NODISCARD int io_reserve(struct io *io, int fd, uint64_t size);
/* What is read from the file next comes from the device: its dirty pages are written, and all of
 * them dropped from the page cache, where a failed sync may have left what no device holds. -errno
 * as of a sync. */
NODISCARD int io_reread(struct io *io, int fd);
/* The file of fd once more, for direct reads, whatever its name is by now. -errno; -EINVAL where
 * its file system has none. */
NODISCARD int io_open_direct(struct io *io, int fd);
/* Returns when no direct write to this file, by whoever, is under way any more: those of a killed
 * process go on after it is gone, and would land on what is written next. fd is open for writing.
 */
void io_settle(struct io *io, int fd);
NODISCARD int io_fdatasync(struct io *io, int fd);
NODISCARD int io_sync_directory(struct io *io, const char *path);
/* Everything of the file system that holds path is on its device (syncfs). */
NODISCARD int io_sync_filesystem(struct io *io, const char *path);
NODISCARD int io_mkdir(struct io *io, const char *path); /* -EEXIST if there */
/* With its parents; -EEXIST if it is there. (io/whole.c) */
NODISCARD int io_mkdirs(struct io *io, const char *path);
NODISCARD int io_rmdir(struct io *io, const char *path);
NODISCARD int io_unlink(struct io *io, const char *path);
NODISCARD int io_rename(struct io *io, const char *from, const char *to);
/* Calls visit for each entry but . and .., in name order under simulation; stops when it is false.
 */
NODISCARD int io_list(struct io *io, const char *path,
                      bool (*visit)(void *context, const char *name, bool is_directory),
                      void *context);
NODISCARD int io_space(struct io *io, const char *path, uint64_t *total, uint64_t *usable);
/* Advisory lock on a file made if absent, held until io_close: fd, or -EAGAIN when another process
 * has it. */
NODISCARD int io_lock(struct io *io, const char *path);

/* What the file system under a directory can do, found by doing it. */
struct io_probe {
    bool direct; /* O_DIRECT + RWF_DSYNC works */
    uint32_t alignment;
    bool uncached;
    char filesystem[16]; /* "ext4", "xfs", "tmpfs", ... */
};
NODISCARD int io_probe(struct io *io, const char *directory, struct io_probe *probe);

/* Both built on the above, the same in both bodies (io/whole.c).
 * Replaces a small file so that a crash leaves the old or the new one, whole: writes path.tmp,
 * syncs it, renames, syncs the directory. */
NODISCARD int io_replace(struct io *io, const char *path, const void *data, size_t size);
/* Reads a whole file of at most limit bytes into memory of mem, with a terminating zero after
 * *size bytes; the caller frees *size + 1. -EFBIG when larger. */
NODISCARD int io_slurp(struct io *io, struct mem *mem, const char *path, size_t limit, char **data,
                       size_t *size);
/* Removes a directory with everything in it (one level of plain files, as partition folders are).
 */
NODISCARD int io_remove_tree(struct io *io, const char *path);

/* ---- process --------------------------------------------------------------------------------- */

/* Each time SIGTERM, SIGINT, SIGHUP or SIGUSR1 arrives: op.result is its number; or once -errno,
 * and then not again. Armed until then or io_stop. Control core. */
void io_signals(struct io *io, struct op *op);

struct io_thread;
/* Runs run(argument) on a new thread, pinned to cpu when cpu >= 0. */
NODISCARD int io_thread_start(struct io_thread **thread, void (*run)(void *argument),
                              void *argument, int cpu, const char *name);
void io_thread_join(struct io_thread *thread);
/* Memory this process may use: the machine's, narrowed by its cgroup. */
uint64_t io_memory_bytes(void);
/* Descriptors that this process may have open; io_world_start has raised it as far as it may go. */
uint64_t io_descriptors_max(const struct io *io);
/* This memory is used before long: let the kernel find it pages meanwhile, beside the core. What it
 * does not get done, first use does. It may be freed at any time. */
void io_prefault(struct io *io, void *memory, size_t size);
/* All of this memory is about to be used: let the kernel back it by the largest pages it has. */
void io_use_large_pages(void *memory, size_t size);
/* CPUs this process may use (affinity and cgroup quota), at least 1. */
uint32_t io_cpus_count(void);
/* Text to stdout (1) or stderr (2) of the process. Never fails. */
void io_print(int where, const char *text, size_t size);
/* Does somebody look at stdout (1) or stderr (2) as it is written? */
bool io_is_terminal(struct io *io, int where);

#endif
