/* What the files of metalog share: segments, snapshots, and reading a file batch by batch. */
#ifndef BROKER_QUORUM_METALOG_PRIV_H
#define BROKER_QUORUM_METALOG_PRIV_H

#include "broker/quorum/metalog.h"

#define METALOG_SEGMENTS_MAX  65536u /* 64 TiB of metadata at the default size */
#define METALOG_SNAPSHOTS_MAX 65536u
#define METALOG_EPOCHS_MAX    (1u << 20)
#define METALOG_NAME_MAX      256u  /* of a file in the folder */
#define INDEX_INTERVAL_BYTES  4096u /* index.interval.bytes, as Kafka has it for this log */

/* One entry of .index and .timeindex. */
struct metalog_index_entry {
    uint32_t relative_offset; /* of a batch's last record */
    uint32_t position;
    int64_t timestamp; /* largest so far in the segment, and whose it is */
    uint32_t timestamp_offset;
};

struct metalog_segment {
    int64_t base_offset, end_offset;
    uint64_t size;
    int64_t first_timestamp, max_timestamp; /* -1: empty */
    int64_t max_timestamp_offset;
};

struct metalog_snapshot_file {
    struct snapshot_id id;
    uint64_t size;
    int64_t last_timestamp_ms;
};

struct metalog_epoch {
    int32_t epoch;
    int64_t start_offset;
};

struct metalog {
    struct metalog_options options;
    char folder[METALOG_PATH_MAX - METALOG_NAME_MAX];
    struct metalog_segment *segments; /* in order; the last one is written */
    uint32_t segments_count, segments_size;
    struct metalog_snapshot_file *snapshots; /* in order */
    uint32_t snapshots_count, snapshots_size;
    struct metalog_epoch *epochs;
    uint32_t epochs_count, epochs_size;
    struct metalog_index_entry *index; /* of the last segment */
    uint32_t index_count, index_size;
    uint32_t bytes_since_index;
    int fd;            /* of the last segment */
    uint64_t reserved; /* bytes of it for which there is space */
    int64_t end_offset;
    int32_t last_epoch;
    bool failed;
    int mark_fd;        /* -1: the mark cannot be written */
    int64_t marked_end; /* what was durable by the last mark; 0: not known */

    struct io_rw append_rw; /* one append at a time */
    struct iovec append_iov;
    struct op *append_op;
    const uint8_t *append_bytes;
    uint32_t append_size;

    struct io_rw snapshot_rw; /* one snapshot at a time */
    struct io_sync snapshot_sync;
    struct iovec snapshot_iov;
    struct op *snapshot_op;
    struct metalog_snapshot_file snapshot_new;
    const uint8_t *snapshot_bytes;
    int snapshot_fd;
};

/* "folder/name"; there is room for every name. */
void metalog_path(const struct metalog *m, const char *name, char *path);
void metalog_segment_path(const struct metalog *m, int64_t base, const char *suffix, char *path);
void metalog_snapshot_path(const struct metalog *m, struct snapshot_id id, const char *suffix,
                           char *path);

/* Grows an array of count items by one; 0 or -ENOMEM. */
NODISCARD int metalog_grow(struct metalog *m, void *array, uint32_t count, uint32_t *size,
                           size_t item_size, uint32_t max);

/* Books a batch that stands at the end of the last segment: offsets, timestamps, epoch, index. */
NODISCARD int metalog_book(struct metalog *m, const struct batch_header *h);
/* A new, empty last segment, with room for so many bytes; -ENOSPC: there is none, and no segment */
NODISCARD int metalog_add_segment(struct metalog *m, int64_t base, uint64_t bytes);
/* Writes .index and .timeindex of the last segment. */
NODISCARD int metalog_write_index(struct metalog *m);
NODISCARD int metalog_write_epochs(struct metalog *m);

/* ---- reading a file of batches ----------------------------------------------------------------
 */

struct batch_file {
    struct io *io;
    struct mem *mem;
    int fd;
    uint64_t size, position; /* of the file; of the next batch in it */
    uint8_t *buffer;
    uint64_t buffer_size, buffer_from, buffer_filled;
};

void batch_file_init(struct batch_file *f, struct io *io, struct mem *mem, int fd, uint64_t size);
void batch_file_done(struct batch_file *f);
/* 1 and a batch whose checksum holds, valid till the next call; 0 at the end of the file; -EBADMSG
 * when the bytes at `position` are no batch; -ENOMEM or what reading said. */
NODISCARD int batch_file_next(struct batch_file *f, const uint8_t **batch,
                              struct batch_header *header);
/* Behind a bad place: is there a whole batch of an epoch above `epoch`, up to `noted`, in the next
 * bytes? */
NODISCARD int batch_file_find_later(struct batch_file *f, int32_t epoch, int32_t noted,
                                    bool *found);

/* What was durable when it was said last: metalog_mark.c. At once, and never an error. */
#define METALOG_MARK_FILE "durable-end.torc"
void metalog_mark_open(struct metalog *m);
void metalog_mark_set(struct metalog *m); /* end_offset is durable */

/* Lists and reads everything: metalog_recover.c. */
NODISCARD int metalog_recover(struct metalog *m, const struct metalog_reader *reader, char *why,
                              size_t why_size);

#endif
