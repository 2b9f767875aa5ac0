/* torc inspect integrity, taken apart: what its files share. integrity.c walks directories and
 * tells what is found, partition.c one folder, segment.c one segment with its indexes, state.c the
 * small files, wal.c the write-ahead log. Same-folder use. */
#ifndef BROKER_CLI_INTEGRITY_H
#define BROKER_CLI_INTEGRITY_H

#include "broker/cli/batches.h"
#include "broker/log/log_priv.h"
#include "broker/quorum/metadata.h"
#include "core/arena.h"

#define INTEGRITY_PER_FILE_MAX 20u /* findings told of one file; the others are counted */

/* What whoever finds it is to do. */
enum integrity_advice {
    ADVICE_RECORDS,    /* bytes of records: only a copy has them */
    ADVICE_DERIVED,    /* a broker makes it anew from the records */
    ADVICE_METADATA,   /* the cluster's metadata */
    ADVICE_IDENTITY,   /* whose directory or folder it is */
    ADVICE_CHECKPOINT, /* a file that may be removed */
    ADVICE_WAL,        /* acknowledged records may be nowhere else */
    ADVICES_COUNT
};

struct integrity_walled { /* a partition's records in the write-ahead log */
    struct log_key key;
    int64_t first, end;
};

enum integrity_kind { FOLDER_RECORDS, FOLDER_OFFSETS, FOLDER_TRANSACTIONS, FOLDER_METADATA };

enum integrity_mark {
    MARK_RECOVERY_POINT,
    MARK_LOG_START,
    MARK_CLEANED,
    MARK_HIGH_WATERMARK,
    INTEGRITY_MARKS
};

struct integrity_marks { /* a folder's lines in the checkpoints of its directory */
    int64_t offsets[INTEGRITY_MARKS];
    uint32_t name_size;
    char name[];
};

struct integrity {
    struct cli *c;
    struct io *io;
    struct compress compress;
    bool json, unpack, terminal;
    /* the directory at hand */
    const char *dir;
    bool clean;          /* it was closed: what is on disk is all there is */
    bool scans;          /* it was not, and has no write-ahead log: a start scans, as Kafka does */
    struct map walled;   /* struct integrity_walled by key: what a start lays over the segments */
    struct map marks;    /* struct integrity_marks by folder */
    struct metadata *md; /* of the cluster; NULL: not known */
    struct meta_properties *meta; /* of the first directory; its version is 0 until it is known */
    /* counts */
    uint64_t files, bytes, batches, partitions, damaged, notes;
    const char *file; /* the one that findings were told of last */
    uint32_t file_findings;
    uint64_t begun_ns, drawn_ns;
};

/* Something is wrong at a byte of a file (position -1: with all of it). */
void integrity_damage(struct integrity *g, const char *path, int64_t position,
                      enum integrity_advice advice, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Nothing is lost, but whoever looks should know. */
void integrity_note(struct integrity *g, const char *path, int64_t position, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));
/* So many bytes of a file were looked at; shows how far it is. */
void integrity_count(struct integrity *g, uint64_t bytes);
/* The whole of a small file; false after it was told why not. *data is freed by the caller, with
 * *size + 1. absent: what a file that is not there means. */
enum integrity_absent { ABSENT_IS_FINE, ABSENT_IS_DAMAGE };
NODISCARD bool integrity_slurp(struct integrity *g, const char *path, size_t limit,
                               enum integrity_absent absent, enum integrity_advice advice,
                               char **data, size_t *size);

/* ---- integrity_state.c
 * --------------------------------------------------------------------------------- */

/* meta.properties, the checkpoints and whether the directory was closed. */
void integrity_root(struct integrity *g);
/* leader-epoch-checkpoint, ascending; count of entries in memory of the command, or NULL. */
struct integrity_epoch {
    int32_t epoch;
    int64_t start;
};
struct integrity_epochs {
    struct integrity_epoch *entries;
    uint32_t count, room;
};
void integrity_epochs_read(struct integrity *g, const char *folder, struct integrity_epochs *es);
void integrity_epochs_free(struct integrity *g, struct integrity_epochs *es);
/* The epoch of the batch that begins at offset; -1: not known. */
int32_t integrity_epoch_at(const struct integrity_epochs *es, int64_t offset);
/* partition.metadata: the topic's id; false after it was told what is wrong. */
NODISCARD bool integrity_topic_id(struct integrity *g, const char *folder, struct uuid *id);
void integrity_snapshot(struct integrity *g, const char *path, int64_t offset, int64_t end);
/* epoch: the last one that the metadata log has. */
void integrity_quorum_state(struct integrity *g, const char *folder, int32_t epoch);
void integrity_bootstrap(struct integrity *g);
void integrity_log_start(struct integrity *g, const char *folder);
/* log-cleaned.torc and log-gaps.torc: one line of numbers. True: the file is there. */
bool integrity_numbers(struct integrity *g, const char *folder, const char *name, uint32_t count);
/* What the directory's checkpoints say of a partition's folder; NO_OFFSET: nothing. */
int64_t integrity_mark(const struct integrity *g, const char *folder, enum integrity_mark which);
const char *integrity_mark_name(enum integrity_mark which); /* of the file */
void integrity_marks_free(struct integrity *g);

/* ---- integrity_partition.c
 * ----------------------------------------------------------------------------- */

/* One folder of segments, that of the metadata log too. */
void integrity_folder(struct integrity *g, const char *name);

/* ---- integrity_segment.c
 * ------------------------------------------------------------------------------- */

struct integrity_txn; /* a transaction that was seen to begin and not to end */

struct integrity_log { /* one partition, as it is walked */
    struct integrity *g;
    const char *folder; /* path */
    enum integrity_kind kind;
    bool gaps;        /* offsets may be missing: it is compacted, or nobody knows */
    bool compacted;   /* markers and transactions may be gone */
    int64_t repaired; /* a start writes anew what is from here on; INT64_MAX: nothing */
    int64_t start;    /* log start offset */
    int64_t next;     /* offset that should come next */
    int32_t epoch;    /* of the batch before */
    struct integrity_epochs epochs;
    struct map open;       /* struct integrity_txn by producer id */
    int64_t snapshot_from; /* metadata: records from here on are replayed */
    struct replay *replay; /* metadata: NULL once one was refused */
};

struct integrity_segment {
    const char *path;    /* of the .log */
    int64_t base, limit; /* limit: base of the next one; INT64_MAX: it is the last */
    bool snapshot;       /* a .checkpoint of the metadata log */
};

void integrity_segment(struct integrity_log *l, const struct integrity_segment *s);
void integrity_txns_free(struct integrity_log *l);

/* ---- integrity_records.c
 * ------------------------------------------------------------------------------- */

/* NULL, or what is wrong with a record of an internal topic or of the metadata log. */
const char *integrity_record(struct integrity_log *l, const struct batch_header *h,
                             const struct record *r, struct arena *arena);

/* ---- integrity_wal.c
 * ----------------------------------------------------------------------------------- */

void integrity_wal(struct integrity *g);
void integrity_wal_free(struct integrity *g);

#endif
