/* struct control: what the control core does for metadata: the one voter of the KRaft quorum, its
 * active controller, and the broker's own registration. Calls (decoded admin requests) queue here;
 * each one becomes metadata records; the records of all waiting calls leave as one write and one
 * sync; then every data core gets the deltas; when all have applied a call's delta it is done, so
 * whoever got the answer sees its effect on every core.
 *
 *   control_submit -> controller step -> records -> metalog append+fdatasync -> delta
 *        done <- all cores returned the delta <- control_delta_applied <- publish <-'
 *
 * All functions: the control core only. Nothing completes inside the call that started it. */
#ifndef BROKER_QUORUM_CONTROL_H
#define BROKER_QUORUM_CONTROL_H

#include "broker/quorum/image.h"
#include "core/arena.h"
#include "core/timer.h"
#include "core/trace.h"
#include "io/io.h"
#include "proto/error.h"

struct control;

/* A feature that this build serves: what is registered and offered in ApiVersions. Those that are
 * the quorum's own (metadata.version, kraft.version, eligible.leader.replicas.version) need not be
 * in the table. */
struct control_feature {
    const char *name;
    int16_t min, max;
};

struct control_config {
    struct io *io;
    struct mem *mem; /* leaves and deltas come from here */
    struct wheel *wheel;
    struct trace *trace;
    const struct config *node;  /* static configuration; outlives the control */
    const char *cluster_id;     /* as format_open found or made it; outlives the control */
    const struct uuid *dir_ids; /* directory.id of each of node->broker.log_dirs; outlives it */
    uint32_t dirs_count;
    uint32_t dirs_failed;          /* bits: could not be read at start, and may have no id */
    uint32_t cores_count;          /* cores that return each delta: 0 .. cores_count - 1 */
    uint16_t ports[LISTENERS_MAX]; /* bound port of each listener, told where none is configured */
    const struct control_feature *served;
    uint32_t served_count;
    /* Lends the delta to every data core, in this order; each returns it by control_delta_applied.
     */
    void (*publish)(void *context, const struct image_delta *delta);
    /* The first full image has been applied by all data cores: open partitions, then
     * control_ready. */
    void (*loaded)(void *context);
    /* The metadata log cannot be written any more (error: -errno): the node has to stop. */
    void (*failed)(void *context, int error);
    void *context;
};

/* Reads snapshot and log (at once), becomes leader of a new epoch, registers the broker (fenced).
 * 0; or -errno with a sentence in why. */
NODISCARD int control_start(struct control **control, const struct control_config *config,
                            char *why, size_t why_size);
/* A log directory has failed: no new partition is placed in it. */
void control_dir_failed(struct control *c, uint32_t dir);
/* The broker serves: unfences it. `loaded` has been called. */
void control_ready(struct control *c);
/* Clean shutdown, first step: waiting calls are served, the broker is fenced, and op.done runs when
 * that is applied everywhere (result 0 or -errno). Calls that come after end with NOT_CONTROLLER.
 */
void control_leave(struct control *c, struct op *op);
/* Second step, when the data cores have stopped: completes and closes the metadata log. -errno: not
 * cleanly. */
NODISCARD int control_stop(struct control *c);
/* Frees everything. After control_stop, or instead of it (then io has stopped: nothing is in
 * flight). No data core has an image any more. */
void control_free(struct control *c);

/* A core has applied (and no longer uses what is `before` in) this delta. */
void control_delta_applied(struct control *c, const struct image_delta *delta, struct core_id core);

/* The control core's own image: never older than any data core's. */
const struct image *control_image(const struct control *c);
const char *control_cluster_id(const struct control *c);
/* Epoch of this broker's registration, for .kafka_cleanshutdown; -1 before it. */
int64_t control_broker_epoch(const struct control *c);
int32_t control_leader_epoch(const struct control *c); /* of the metadata quorum */

struct control_stats {
    int64_t end_offset, applied_offset, snapshot_offset;
    uint64_t calls, refused, records, appends, append_bytes, snapshots;
};
void control_stats(const struct control *c, struct control_stats *stats);

/* ---- calls ----------------------------------------------------------------------------------- */

/* One admin request. request and response are the generated structs of proto/gen for api_key;
 * response arrives zeroed (its _init) and gets its arrays and texts from `arena`, which takes its
 * blocks from the control core's memory; some texts are views of the request. The request may be
 * another core's: it is lent until done. Authorized already. Keys served: CREATE_TOPICS,
 * DELETE_TOPICS, CREATE_PARTITIONS, ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS, UPDATE_FEATURES,
 * ELECT_LEADERS, ALTER_PARTITION_REASSIGNMENTS, LIST_PARTITION_REASSIGNMENTS,
 * ALLOCATE_PRODUCER_IDS, UNREGISTER_BROKER, DESCRIBE_QUORUM. */
struct control_call {
    struct list link;
    int16_t api_key, version;
    const void *request;
    void *response;
    struct arena *arena;
    void (*done)(struct control_call *call);
    void *context; /* the caller's */
    /* What it came to. KE_NONE: the answer is in response. Otherwise there is none, and nothing has
     * been changed: NOT_CONTROLLER while leaving, UNSUPPORTED_VERSION for a key not served,
     * UNKNOWN_SERVER_ERROR without memory. */
    enum kafka_error error;
    int64_t offset; /* control's own: done when all cores are there */
};

void control_submit(struct control *c, struct control_call *call);

#endif
