/* struct data_core: a small broker of its own. One pinned thread, one reactor, its own memory,
 * connections, partitions, write-ahead log and caches. Nothing in it is ever touched by another
 * core; others send messages. */
#ifndef BROKER_DATA_CORE_H
#define BROKER_DATA_CORE_H

#include "broker/config/config.h"
#include "broker/conn.h"
#include "broker/flow.h"
#include "broker/gather.h"
#include "broker/log/log.h"
#include "broker/msg.h"
#include "broker/quorum/image.h"
#include "core/assert.h"
#include "core/core.h"
#include "core/mail.h"
#include "core/mem.h"
#include "core/timer.h"
#include "core/trace.h"
#include "core/trip.h"
#include "io/io.h"
#include "proto/compress.h"

#define API_COUNTERS 128 /* by api key */

struct node;
struct fetch_sessions;
struct coordinators;

enum data_core_state {
    DATA_CORE_WAITING,  /* no metadata yet */
    DATA_CORE_REPLAYED, /* logs are open, the WAL is laid over them */
    DATA_CORE_SERVING,
    DATA_CORE_STOPPING,
    DATA_CORE_STOPPED,
    DATA_CORE_STATES
};

struct listening {
    struct io_accept accept;
    struct data_core *core;
    struct timer rest; /* after EMFILE and the like */
    uint16_t listener; /* index into config->listeners */
    bool open;
    uint64_t quiet_until_ns; /* not told again before */
};

/* What a core reports to the control core when it cannot go on with something. */
struct trouble {
    struct msg msg;
    uint32_t dir; /* log directory, or UINT32_MAX: the core itself */
    int error;    /* -errno */
    char text[512];
    bool told; /* away, or told for good */
};

struct data_core {
    struct core_id id;
    struct state state;
    struct node *node;
    const struct broker_config *config;
    uint32_t cores_count; /* data cores */
    struct mem mem;
    struct io *io;
    struct trace trace;
    struct wheel wheel;
    struct mail mail;
    struct image image;
    struct compress *compress;
    struct log_core *logs; /* NULL until the first delta */
    struct trip_board board;
    struct conns conns;
    struct flows flows;
    struct gather gather;
    struct pool reads; /* struct fetch_read: lent or under way */
    struct fetch_sessions *sessions;
    struct coordinators *coordinators;         /* of groups */
    int64_t producer_id_next, producer_id_end; /* of this core's block */
    struct list room_waiters;                  /* produce legs that wait for log memory, in order */
    struct list parked;                        /* fetch legs that watch */
    struct list txn_holds;                     /* of produce: producers being verified */
    struct listening listening[LISTENERS_MAX];
    struct trouble troubles[LOG_DIRS_MAX + 1];
    uint64_t requests[API_COUNTERS];
    struct core_times *times; /* broker/stat.h; NULL: no memory for it */
    struct msg started;
    struct op stop_op;
    struct msg *stop_msg;
    uint64_t turns;
};

/* On the core's own thread (or the simulator's). Tells the control core MSG_STARTED; or
 * MSG_TROUBLE, returns false, and then makes no turn. */
NODISCARD bool data_core_start(struct data_core *c, struct node *node, struct core_id id);
/* The control core has told it to make no more turns. */
bool data_core_ended(const struct data_core *c);
/* After its last turn, on the same thread. */
void data_core_leave(struct data_core *c);
/* When no core runs any more: its memory goes. */
void data_core_free(struct data_core *c);
bool data_core_stopped(const struct data_core *c);

/* Letters of the control core. */
void data_core_image(struct data_core *c, struct msg *msg);
void data_core_open(struct data_core *c, struct msg *msg);
void data_core_accept(struct data_core *c, struct msg *msg);
void data_core_checkpoint(struct data_core *c, struct msg *msg);
void data_core_stop(struct data_core *c, struct msg *msg);
void data_core_trouble_home(struct data_core *c, struct msg *msg);

/* Which data core owns a partition: the same on every core, remembered nowhere. */
struct core_id partition_owner(struct uuid topic_id, int32_t partition, uint32_t cores_count);

#endif
