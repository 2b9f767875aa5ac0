/* struct control_core: the one core that serves no client. It opens the log directories, keeps the
 * cluster's metadata (broker/quorum), tells the data cores about it, and leads the node through
 * start and stop. Slow work happens here, never on a data core. */
#ifndef BROKER_CONTROL_CORE_H
#define BROKER_CONTROL_CORE_H

#include "broker/log/log.h"
#include "broker/msg.h"
#include "broker/quorum/control.h"
#include "core/mail.h"
#include "core/pool.h"
#include "core/stage.h"
#include "core/timer.h"
#include "core/trace.h"

struct node;

/*   STARTING ─▶ LOADING ─▶ OPENING ─▶ JOINING ─▶ RUNNING ─▶ LEAVING ─▶ STOPPING ─▶ STOPPED
 *   STARTING: data cores make their reactors.  LOADING: data cores replay their logs.   OPENING:
 * they start to serve. JOINING: the registration becomes active; then the ready line is printed.
 *   LEAVING: controlled shutdown is registered.  STOPPING: data cores flush and close. */
enum control_core_state {
    CONTROL_STARTING,
    CONTROL_LOADING,
    CONTROL_OPENING,
    CONTROL_JOINING,
    CONTROL_RUNNING,
    CONTROL_LEAVING,
    CONTROL_STOPPING,
    CONTROL_STOPPED,
    CONTROL_STATES
};

/* A metadata delta on its way to one core and back. */
struct delta_letter {
    struct msg msg;
    const struct image_delta *delta;
    struct core_id to;
};

/* MSG_OPEN, MSG_ACCEPT, MSG_STOP. */
struct plain_letter {
    struct msg msg;
    int result;           /* 0 or -errno */
    uint32_t dirs_failed; /* bits: log directories that some core could not read */
};

/* MSG_CHECKPOINT: the core fills parts[dir][which]; lent back with `give_back` set. */
struct checkpoint_letter {
    struct msg msg;
    struct log_checkpoint_part parts[LOG_DIRS_MAX][LOG_CHECKPOINTS_COUNT];
    bool give_back;
    bool failed;
};

struct control_core {
    struct core_id id;
    struct state state;
    struct node *node;
    struct mem mem;
    struct io *io;
    struct trace trace;
    struct wheel wheel;
    struct mail mail;
    struct trip_board board;
    struct control *control;
    struct pool letters;   /* struct delta_letter */
    struct pool calls;     /* struct control_call with its arena, see admin calls */
    uint32_t cores_joined; /* that know that the node is let in */
    uint32_t awaited;      /* cores that have not answered the present step */
    struct plain_letter plain[CORES_MAX];
    struct checkpoint_letter *checkpoints; /* one per data core */
    bool checkpointing;
    struct timer checkpoint_timer;
    struct stat_server *stats; /* NULL: nobody can ask */
    struct op signals;
    struct op leave;
    int locks[LOG_DIRS_MAX];   /* fds of .lock, -1 */
    int probes[LISTENERS_MAX]; /* listeners that only hold a chosen port; -1 */
    uint64_t started_ns;
    uint32_t dirs_failed; /* bits */
    int exit_code;
    bool stop_asked;
};

NODISCARD int control_core_start(struct control_core *c, struct node *node, char *why,
                                 size_t why_size);
void control_core_turn(struct control_core *c, uint64_t wait_until_ns);
/* Begins a clean shutdown; the second time it ends at once. */
void control_core_stop(struct control_core *c);
bool control_core_stopped(const struct control_core *c);
/* Tells the data cores that it is over; they make no turn after. */
void control_core_end(struct control_core *c);
void control_core_free(struct control_core *c);

#endif
