/* struct metalog: the metadata log of one node as files, Kafka's, and one of our own:
 *
 *   <metadata.log.dir>/__cluster_metadata-0/
 *     00000000000000000000.log .index .timeindex   batches v2, uncompressed
 *     00000000000000001234-0000000003.checkpoint   state before offset 1234, epoch 3
 *     quorum-state  leader-epoch-checkpoint  partition.metadata
 *     durable-end.torc                             our own: what a start may not cut off
 *
 * It knows batches, not what the records in them mean. Control core only. */
#ifndef BROKER_QUORUM_METALOG_H
#define BROKER_QUORUM_METALOG_H

#include "core/mem.h"
#include "core/op.h"
#include "core/trace.h"
#include "io/io.h"
#include "proto/batch.h"

#define METALOG_FOLDER    "__cluster_metadata-0"
#define METALOG_PATH_MAX  1024
#define METALOG_BATCH_MAX (64u << 20) /* Kafka's leaders write at most 8 MiB */

struct metalog;

struct snapshot_id {
    int64_t offset; /* the first one not in it */
    int32_t epoch;
};

struct metalog_options {
    struct io *io;
    struct mem *mem;
    struct trace *trace;
    const char *log_dir;
    int64_t segment_bytes, segment_ms;
    int64_t retention_bytes, retention_ms; /* of snapshots and log together; -1: no bound */
};

enum metalog_source { METALOG_SNAPSHOT, METALOG_LOG };

/* Called for each batch of the newest whole snapshot, then for each batch of the log from there on.
 * Not 0 ends metalog_open with that result. */
struct metalog_reader {
    void *context;
    int (*batch)(void *context, enum metalog_source source, const uint8_t *batch,
                 const struct batch_header *header);
};

/* Makes the folder if there is none, reads everything, cuts a torn tail off. At once. 0 or -errno
 * with a sentence in why: -EBADMSG when bytes that were durable are not what they were. */
NODISCARD int metalog_open(struct metalog **log, const struct metalog_options *options,
                           const struct metalog_reader *reader, char *why, size_t why_size);

int64_t metalog_end_offset(const struct metalog *m);   /* durable: the high watermark */
int64_t metalog_start_offset(const struct metalog *m); /* of the oldest segment or snapshot kept */
int32_t metalog_last_epoch(const struct metalog *m);   /* of the last batch; 0 when empty */
/* Highest snapshot; {-1, -1} when there is none. */
struct snapshot_id metalog_latest_snapshot(const struct metalog *m);

/* Is there surely space for so many bytes more? Takes a reserve ahead where there is; false: the
 * disk is full, and what is left of the reserve is less. At once. */
NODISCARD bool metalog_has_room(struct metalog *m, uint64_t bytes);
/* Writes whole batches, the first of which has the end offset as its base, and ends when they are
 * durable: op->result 0 or -errno. After an error the log takes nothing more. bytes stay untouched
 * until then. One at a time. */
void metalog_append(struct metalog *m, const uint8_t *bytes, uint32_t size, struct op *op);
/* Remembers where an epoch began, in the file that Kafka looks it up in. At once. */
NODISCARD int metalog_note_epoch(struct metalog *m, int32_t epoch, int64_t start_offset);

/* Writes a snapshot of what is below id.offset. op->result 0 or -errno; a failed one leaves no
 * trace and may be tried again. bytes stay untouched until then. One at a time. */
void metalog_snapshot(struct metalog *m, struct snapshot_id id, const uint8_t *bytes, uint64_t size,
                      int64_t last_timestamp_ms, struct op *op);
/* Drops snapshots, and the log before them, beyond what retention asks to keep. At once. */
void metalog_clean(struct metalog *m);

/* Nothing is in flight. clean: index files are completed and everything is synced; 0, or -errno if
 * that failed (reported). Frees m. */
NODISCARD int metalog_close(struct metalog *m, bool clean);

#endif
