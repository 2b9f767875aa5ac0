/* What control's files share: its state, and making records real. */
#ifndef BROKER_QUORUM_CONTROL_PRIV_H
#define BROKER_QUORUM_CONTROL_PRIV_H

#include "broker/quorum/control.h"
#include "broker/quorum/controller.h"
#include "broker/quorum/metalog.h"

/*   LOADING -> PUBLISHING -> LOADED -> LEAVING -> STOPPED
 *      `----------`---- FAILED ----'-------'
 * LOADING: the first append is under way. PUBLISHING: data cores get the first image. */
enum control_phase {
    CONTROL_PHASE_LOADING,
    CONTROL_PHASE_PUBLISHING,
    CONTROL_PHASE_LOADED,
    CONTROL_PHASE_LEAVING,
    CONTROL_PHASE_STOPPED,
    CONTROL_PHASE_FAILED,
};

struct control {
    struct control_config config;
    enum control_phase phase;
    struct metadata md; /* what is decided: records in the log or on their way */
    struct metalog *log;
    int32_t leader_epoch;
    struct uuid incarnation;
    uint32_t dir_loads[LOG_DIRS_MAX];
    uint32_t dirs_failed; /* bits */

    struct list queue;    /* calls not looked at yet */
    struct list grouped;  /* calls whose records are in the append under way, or need none */
    struct list awaiting; /* durable; some core has not applied it yet */
    struct batch_buffer group;
    struct list group_deltas;
    struct op append;
    int64_t next_offset;     /* of the next record */
    int64_t durable_offset;  /* last one in the log and synced */
    int64_t applied_offset;  /* last one that all cores have applied */
    struct list deltas_held; /* durable, and wait to be published */
    struct list deltas_away; /* published, in order */
    struct timer kick;       /* looks at the queue in the next turn */

    bool want_unfence, want_fence;
    struct op *leave;
    int64_t leave_offset;

    struct timer housekeeping;
    struct op snapshot;
    struct batch_buffer snapshot_bytes;
    int64_t snapshot_offset; /* of the newest */
    int64_t snapshot_ms;     /* when it was begun, or the start */
    uint64_t bytes_since_snapshot;

    struct control_stats stats;
};

/* How a step sees this node. */
struct controller control_view(const struct control *c);
/* Records become part of the group to append and of md: one batch, one delta (NULL for none: at
 * start, when the first delta tells everything). 0; -ENOMEM or -EBADMSG with nothing changed. */
NODISCARD int control_commit(struct control *c, const struct record_list *records,
                             struct image_delta **delta);
/* Starts the append of what is in the group. */
void control_append(struct control *c);
/* Partitions of this broker per directory, after a change or for all of an image. */
void control_count_dirs(struct control *c, const struct topic_image *t, int sign);

/* control_load.c: everything of control_start up to the first append. */
NODISCARD int control_load(struct control *c, char *why, size_t why_size);

#endif
