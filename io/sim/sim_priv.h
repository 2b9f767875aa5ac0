/* What the files of io/sim share: the world, a machine, a core's io, an op in flight, the two ends
 * of a connection. Who owns what:
 *
 *   sim ─▶ machines ─▶ disk ─▶ inodes ─▶ pages          outlives every boot
 *    │        └─▶ cores ─▶ fiber, io ─▶ ops in flight    one boot (io lives in the node's memory)
 *    └─▶ connections ─▶ ends ─▶ pipes                    until both ends have let go
 *
 * All memory but struct io and its receive buffers is the simulator's. */
#ifndef IO_SIM_PRIV_H
#define IO_SIM_PRIV_H

#include "io/sim/disk.h"
#include "io/sim/fiber.h"
#include "io/sim/sim.h"

#include <errno.h>

/* ---- world ----------------------------------------------------------------------------------- */

struct sim {
    struct mem *mem;
    uint64_t now_ns, sequence, digest, events;
    struct chance streams[SIM_STREAMS];
    struct chance_tape *tape;
    struct sim_style style;
    struct sim_event **heap; /* [1 .. heap_count] */
    uint32_t heap_count, heap_room;
    struct list machines, connections, clients;
    uint32_t machines_count, clients_count, connections_count;
    struct sim_core *running; /* whose fiber this is; NULL: the scheduler's own stack */
    uint64_t counts[SIM_COUNTS];
};

/* Memory of the simulator; never NULL. */
void *sim_alloc(struct sim *s, size_t size);
void *sim_grow(struct sim *s, void *old, size_t old_size, size_t new_size);

/* What may be in the digest beside the workload's own kinds. */
enum sim_kind {
    KIND_EVENT = 1,
    KIND_TURN,
    KIND_DONE,
    KIND_ARRIVAL,
    KIND_DISK,
    KIND_DEATH,
    KIND_WORKLOAD = 100,
};

/* ---- ops in flight --------------------------------------------------------------------------- */

enum op_kind {
    OP_ACCEPT,
    OP_RECV,
    OP_SEND,
    OP_CONNECT,
    OP_RW, /* from here on of files */
    OP_SYNC,
    OP_PUNCH,
    OP_REMOVE, /* to here */
    OP_READY,
    OP_SIGNAL
};

/* Stands for an armed op while the simulated kernel has it. */
struct sim_op {
    struct list link; /* io->ops */
    struct io *io;
    struct op *op;
    const void *from; /* who started it, of files: io.from then */
    enum op_kind kind;
    uint32_t ready; /* place in io->ready, from 1; 0: not there */
    int32_t result; /* when it is ready, for the kinds that complete once */
    struct sim_event event;
    struct sim_end *end;           /* recv, send */
    struct sim_listener *listener; /* accept */
    /* files */
    struct inode *inode;
    uint64_t offset, size;
    uint64_t hash; /* of what a write wrote when it was started */
    struct disk_sync sync;
    bool dsync;
    bool names_kept; /* of a directory that is being synced */
};

static inline bool sim_op_of_file(const struct sim_op *o)
{
    return o->kind >= OP_RW && o->kind <= OP_REMOVE;
}
struct sim_op *sim_op_start(struct io *io, struct op *op, enum op_kind kind);
/* Its completion is there to be polled. */
void sim_op_ready(struct sim_op *o);
void sim_op_unready(struct sim_op *o);
/* Ready with this result at at_ns. */
void sim_op_plan(struct sim_op *o, int32_t result, uint64_t at_ns);
/* Forgets it; op.armed is left as it is. */
void sim_op_free(struct sim_op *o);

/* ---- one core's io --------------------------------------------------------------------------- */

struct io {
    struct sim *sim;
    struct sim_machine *machine;
    struct sim_core *core;
    struct core_id id;
    struct mem *mem;
    struct trace *trace;
    uint64_t now_ns;
    int64_t wall_ms;
    struct chance random;
    const void *from; /* where the latest call of files returns to */
    struct list ops;
    struct sim_op **ready; /* simulator's memory */
    uint32_t ready_count, ready_room;
    bool woken, nudged;
    bool polling_outside; /* io_poll runs the world */
    struct io_buffer *buffers;
    uint32_t *buffers_used; /* bytes that were filled, to be soiled at release */
    uint8_t *buffer_memory;
    uint32_t buffers_count, buffer_size, buffers_free, buffers_hand;
    struct list starving; /* io_recv.link */
    struct sim_op *signal;
};

/* Something happened that this core may be waiting for. */
void sim_core_rouse(struct sim_core *c);
/* The core is away for so long, inside the call that uses this; any harm may come meanwhile. */
#define sim_pause(io, ns) sim_pause_in((io), __func__, (ns))
void sim_pause_in(struct io *io, const char *call, uint64_t ns);
/* Leaves the core until at_ns; asleep: or until it is roused. From its own fiber. */
void sim_core_away(struct sim_core *c, uint64_t at_ns, bool asleep);
NODISCARD int sim_buffers_start(struct io *io, const struct io_config *config);
void sim_buffers_stop(struct io *io);
/* NULL: all are lent. */
struct io_buffer *sim_buffer_take(struct io *io, uint32_t used);

/* ---- machines -------------------------------------------------------------------------------- */

#define SIM_PAST 16

enum fd_kind { FD_FREE, FD_FILE, FD_LISTENER, FD_SOCKET };

struct sim_fd {
    enum fd_kind kind;
    uint32_t flags; /* IO_READ, IO_WRITE, IO_DIRECT */
    bool lock;      /* holds the lock of its file */
    struct inode *inode;
    struct sim_listener *listener;
    struct sim_end *end;
};

struct sim_core {
    struct sim_machine *machine;
    struct core_id id;
    struct fiber fiber;
    struct io *io;
    struct sim_event resume;
    uint64_t stalled_until;
    void (*run)(void *argument);
    void *argument;
    bool started;
    bool sleeping; /* in io_poll, until `resume` or a rouse */
    bool calling;  /* inside an at-once call */
    const char *call;
    bool poll_timeout;
};

struct io_world {
    struct sim_machine *machine;
};

struct sim_machine {
    struct list link;
    struct sim *sim;
    char host[64];
    uint32_t index;
    struct disk disk;
    uint32_t slow_factor;
    uint64_t frozen_until;
    struct disk_fault {
        uint32_t volumes, calls, times;
        uint64_t n;
        int error;
    } fault;
    uint64_t disk_calls, full_at; /* so many till now; from which on the disk is full, 0: none */
    char site[DISK_SITE];         /* of the latest failure that was asked for */
    bool full_at_allocation;
    struct sim_refusal refusals[SIM_REFUSED_MAX];
    uint32_t refusals_count;
    struct io_world world;
    struct sim_life life;
    bool up;
    uint32_t cores_count, boots;
    struct sim_core cores[CORES_MAX];
    struct sim_fd *fds;
    uint32_t fds_count, fds_limit, fds_open;
    struct list listeners;
    uint64_t net_stalled_until;
    int64_t wall_offset_ms;
    struct chance chance; /* of this machine: entropy, disk latency */
    uint16_t next_port;
    struct sim_past {                        /* the last calls and transfers, in a ring */
        uint64_t at_ns, inode, offset, size; /* inode 0: a call, nothing is known of it but that */
        const char *what;
        int32_t result;
        struct core_id core;
    } past[SIM_PAST];
    uint64_t past_count;
};

/* An op of a file is done. */
void sim_past_add(struct sim_op *o, const char *what);

static inline struct sim_core *sim_core_of(struct io *io)
{
    return io->core;
}

/* fd or -EMFILE; fills a new slot. */
int sim_fd_open(struct sim_machine *m, struct sim_fd slot);
/* NULL: no such descriptor, or not of this kind. */
struct sim_fd *sim_fd_find(struct sim_machine *m, int fd, enum fd_kind kind);
void sim_fd_close(struct sim_machine *m, int fd);

enum death { DEATH_HALT, DEATH_KILL, DEATH_CUT };
/* A file op that will never be polled: what becomes of its bytes. */
void sim_file_abandon(struct sim_op *o, enum death death);

/* ---- network --------------------------------------------------------------------------------- */

/* One direction of a connection: a line of bytes, of which some have arrived. */
struct sim_pipe {
    uint8_t *bytes; /* [start, start + put - taken) are on their way or wait to be taken */
    size_t start, room;
    uint64_t put, arrived, taken; /* counted from the beginning */
    bool ended, end_arrived;      /* no more will be put; the receiver knows */
    struct sim_event arrival;
};

enum end_state { END_CONNECTING, END_OPEN, END_RESET, END_CLOSED };

struct sim_end {
    struct sim_connection *connection;
    enum end_state state;
    struct sim_machine *machine; /* NULL: a client's */
    struct sim_client *client;
    struct list queued; /* waits to be accepted */
    struct sim_op *recv, *send, *connect;
    struct sim_event reset;
    bool shut;   /* io_shutdown was called */
    bool silent; /* its machine has no power: it answers nothing */
    struct sim_pipe in;
};

struct sim_connection {
    struct list link;
    struct sim *sim;
    struct sim_end ends[2]; /* 0: who connects */
    struct sim_machine *target;
    struct io_address peer; /* who connects, as the other sees it */
    uint16_t port;
    uint32_t segment_max;
    struct sim_event connecting;
};

struct sim_listener {
    struct list link;
    struct sim_machine *machine;
    uint16_t port;
    uint32_t backlog, waiting;
    struct list queue; /* sim_end.queued */
    struct sim_op *accept;
};

struct sim_client {
    struct list link;
    struct sim *sim;
    struct sim_end *end;
    struct sim_event event;
    void (*wake)(void *context);
    void *context;
    enum sim_client_state state;
    bool holds;
};

/* ---- net.c ---- */
struct sim_connection *sim_connection_make(struct sim *s, struct sim_machine *target,
                                           uint16_t port);
/* Never came to be, or both ends are closed. */
void sim_connection_free(struct sim_connection *c);
struct sim_end *sim_end_peer(struct sim_end *end);
/* Something changed for who holds this end: bytes, an end, room to send. */
void sim_end_update(struct sim_end *end);
/* Bytes leave this end. */
void sim_end_put(struct sim_end *end, const void *bytes, size_t size);
/* Bytes that have arrived at this end are taken. */
void sim_end_take(struct sim_end *end, size_t size);
/* No more bytes leave this end. */
void sim_end_finish(struct sim_end *end);
void sim_end_close(struct sim_end *end);
/* A reset reaches this end within at most `within_ns`. */
void sim_end_reset_soon(struct sim_end *end, uint64_t within_ns);

/* ---- socket.c ---- */
/* The other side has answered: 0 or -errno. */
void sim_connect_answered(struct sim_end *end, int error);
void sim_send_push(struct sim_end *end);
void sim_recv_update(struct sim_end *end);
void sim_accept_deliver(struct sim_op *o);
/* False: nothing was told, it waits for a buffer. */
bool sim_recv_deliver(struct sim_op *o);
/* All that the machine holds of the network is gone, after a halt or a kill in order, after a power
 * cut in silence. */
void sim_net_abandon(struct sim_machine *m, enum death death);
void sim_listener_close(struct sim_listener *l);
/* An op that waits at this end or listener is no more (io_stop, death). */
void sim_net_forget(struct sim_op *o);
void sim_net_free(struct sim *s);

static inline uint64_t sim_iov_size(const struct iovec *iov, uint32_t count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

#endif
