/* broker/log is how records are kept. One struct log_core per data core owns a write-ahead log per
 * log directory, the memory that holds the tail of every partition, and all partition logs of the
 * core; one struct log is one partition. On disk each partition is exactly Kafka's files.
 *
 * The life of a batch: log_append checks it (proto/batch), decides its offsets, and copies it once
 * into a chunk of aligned memory, the same memory that leaves as the next O_DIRECT|DSYNC write of
 * the WAL (group commit: everything that came while a write was in flight goes in the next one) and
 * that consumers at the tail read. When the write is done the batch is durable: high watermark
 * moves, the append's `done` runs, watchers fire. Later, off that path, the flusher writes the same
 * bytes into the partition's segment, and a WAL file is written over only when everything in it is
 * synced in segments. Topics with write.caching skip the WAL and are done after the segment's
 * page-cache write.
 *
 * All functions: the owner core only. */
#ifndef BROKER_LOG_LOG_H
#define BROKER_LOG_LOG_H

#include <errno.h>

#include "broker/config/topic_config.h"
#include "core/histogram.h"
#include "core/list.h"
#include "core/mem.h"
#include "core/op.h"
#include "core/timer.h"
#include "core/trace.h"
#include "core/trip.h"
#include "core/uuid.h"
#include "io/io.h"
#include "proto/batch.h"
#include "proto/error.h"

struct log_core;
struct log;
struct log_block; /* memory that pieces of a read point into, reference-counted */
struct cold_read;

/* ---- one core's logs ------------------------------------------------------------------------- */

struct log_cleaner_config { /* a core's share of log.cleaner.* */
    bool enable;
    uint64_t dedupe_bytes; /* of memory for the table of keys */
    uint32_t io_bytes;     /* of memory for what is read and written */
    double load_factor;    /* how full the table may get */
    double bytes_per_second;
    int64_t backoff_ms;
};

struct log_core_config {
    struct io *io;
    struct mem *mem;
    struct wheel *wheel;
    struct trace *trace;
    struct compress *compress;  /* the core's; used only inside calls */
    struct trip_board *board;   /* the core's; NULL: appends have no trips */
    uint16_t core, cores_count; /* data cores */
    const char *const *dirs;    /* log directories, absolute, existing and locked by start-up */
    const struct uuid *dir_ids; /* directory.id of each */
    uint32_t dirs_count;
    uint32_t dirs_failed;           /* bits: not to be looked at, their logs are FAILED */
    uint64_t wal_file_bytes;        /* torc.wal.file.bytes, multiple of 4096 */
    uint32_t wal_files_count;       /* torc.wal.files, >= 2 */
    uint64_t cache_bytes;           /* torc.cache.bytes: tail memory of this core */
    uint32_t files_open_max;        /* segments kept open, five descriptors each; 0: a default */
    uint64_t read_bytes_max;        /* memory lent to readers beside the tail; 0: no bound */
    uint64_t disk_read_bytes;       /* torc.disk.read.bytes: at once, for readers; 0: no bound */
    bool trust_batches;             /* see batch_rules.strict, which is its opposite */
    bool clean_start;               /* the clean-shutdown file was there in every directory */
    int64_t retention_check_ms;     /* log.retention.check.interval.ms */
    int64_t checkpoint_ms;          /* log.flush.offset.checkpoint.interval.ms */
    int64_t producer_expiration_ms; /* producer.id.expiration.ms */
    bool verify_transactions;       /* transaction.partition.verification.enable */
    struct log_cleaner_config cleaner;
    /* A directory died (write or sync failed): told once, after its logs refuse everything. */
    void (*dir_failed)(void *context, uint32_t dir, int error);
    void *context;
};

/* The life of a core's logs: log_core_start, log_open for each partition the metadata gives this
 * core, log_core_replay; when the replay of EVERY core has returned, log_core_serve; then appends
 * and reads. (With another number of cores than last time a core also reads the WAL files others
 * are about to write over: hence the two steps.)
 *
 * Reads checkpoints, the list of partition folders and of WAL files. 0 or -errno. */
NODISCARD int log_core_start(struct log_core **core, const struct log_core_config *config);
/* Lays what the WAL proves over the segments, and syncs. Reports (by trace) torn tails and rot. A
 * directory that fails here is told through dir_failed. 0 or -errno. */
NODISCARD int log_core_replay(struct log_core *core);
/* Another core could not read this directory at start: nor may this one use it, whose new WAL might
 * be written over what the other has not read. Between replay and serve. */
void log_core_lose_dir(struct log_core *core, uint32_t dir);
/* Starts a new WAL generation; from here on logs opened take appends. 0 or -errno. */
NODISCARD int log_core_serve(struct log_core *core);
/* End of a turn: starts the WAL writes for what was appended in it. */
void log_core_turn(struct log_core *core);
/* When all writes of the WAL that are under way should be done, going by the last ones; 0 where
 * that is not near: there are none, they take longer than max_ns, or so many batches wait for them
 * that the core has work anyway. */
uint64_t log_core_near_ns(const struct log_core *core, uint64_t max_ns);
/* Clean shutdown: refuses appends, flushes and syncs everything, trims, writes snapshots; then
 * op.done (result 0, or -errno when a directory failed). Afterwards the checkpoint parts below can
 * still be asked for. */
void log_core_stop(struct log_core *core, struct op *op);
/* Instead of a stop: starts no more I/O, writes nothing more; what a kill would leave stays. Then
 * poll until it is not busy, and free. Callbacks do not run any more. */
void log_core_abandon(struct log_core *core);
bool log_core_busy(const struct log_core *core); /* I/O under way */
/* Frees memory, after log_core_stop or log_core_abandon. Lent pieces have been released. */
void log_core_free(struct log_core *core);

/* Room in the tail memory. When the flusher is behind (a slow disk) there is none, and who admits
 * produce requests waits instead of appending: log_append itself never waits, it refuses with
 * KAFKA_STORAGE_ERROR. */
bool log_core_has_room(const struct log_core *core);
struct log_room_waiter {
    struct list link;
    void (*fire)(struct log_room_waiter *w);
};
/* Told once, in a later turn, in order of asking. list_remove(&w->link) takes it back. */
void log_core_await_room(struct log_core *core, struct log_room_waiter *w);
/* Looks for expired segments now, not at the next log.retention.check.interval.ms. */
void log_core_retain_now(struct log_core *core);
/* Partition folders found on disk that no log_open claimed, once all logs are open: moved aside to
 * <name>.<uuid>-stray as Kafka does, unless `owned` says that they are another core's. */
void log_core_set_aside_strays(struct log_core *core,
                               bool (*owned)(void *context, const char *folder), void *context);

/* The checkpoint files of a directory hold the partitions of all cores: each core lends its lines,
 * one core (control) writes the file. */
enum log_checkpoint {
    LOG_CHECKPOINT_RECOVERY_POINT, /* recovery-point-offset-checkpoint */
    LOG_CHECKPOINT_HIGH_WATERMARK, /* replication-offset-checkpoint */
    LOG_CHECKPOINT_LOG_START,      /* log-start-offset-checkpoint */
    LOG_CHECKPOINT_CLEANER,        /* cleaner-offset-checkpoint */
    LOG_CHECKPOINTS_COUNT
};
struct log_checkpoint_part {
    char *text; /* "topic partition offset\n" lines, count of them */
    size_t size, room;
    uint32_t count;
};
/* 0 or -ENOMEM. Give the part back with log_core_checkpoint_free, on the same core. */
NODISCARD int log_core_checkpoint(struct log_core *core, uint32_t dir, enum log_checkpoint which,
                                  struct log_checkpoint_part *part);
void log_core_checkpoint_free(struct log_core *core, struct log_checkpoint_part *part);
/* Replaces the file in the directory `path` by all parts. Any core. 0 or -errno. */
NODISCARD int log_checkpoint_write(struct io *io, struct mem *mem, const char *path,
                                   enum log_checkpoint which,
                                   const struct log_checkpoint_part *parts, uint32_t parts_count);

/* ---- one partition --------------------------------------------------------------------------- */

struct log_identity {
    struct uuid topic_id;
    const char *topic; /* copied */
    int32_t partition;
    uint32_t dir;         /* index into dirs; for a partition that has a folder already, ignored */
    int32_t leader_epoch; /* current, stamped into batches */
};

/* NULL with *error set (-ENOMEM over budget, else -errno). Makes the folder if there is none. A log
 * that cannot be read is opened FAILED and answers KAFKA_STORAGE_ERROR; so does one for which there
 * is no space or descriptor just now, until there is. */
struct log *log_open(struct log_core *core, const struct log_identity *id,
                     const struct topic_config *config, int *error);
/* The log with this id, or NULL. */
struct log *log_find(struct log_core *core, struct uuid topic_id, int32_t partition);
/* Applies at once to what follows. The config is copied. */
void log_reconfigure(struct log *l, const struct topic_config *config);
void log_set_leader_epoch(struct log *l, int32_t epoch);
/* The folder is renamed to ...-delete now and removed after file.delete.delay.ms. Pending appends
 * and watches end with UNKNOWN_TOPIC_OR_PARTITION; lent read pieces stay valid till released. */
void log_delete(struct log *l);

enum kafka_error log_status(const struct log *l); /* NONE, or KAFKA_STORAGE_ERROR when failed */
/* It is not open yet, for want of space or descriptors, and will be. */
bool log_waits(const struct log *l);
int64_t log_start_offset(const struct log *l);
int64_t log_end_offset(const struct log *l);
int64_t log_high_watermark(const struct log *l);
int64_t log_last_stable_offset(const struct log *l);
int32_t log_leader_epoch(const struct log *l);
uint64_t log_size_bytes(const struct log *l); /* of the segments, with what is still in memory */
uint32_t log_dir(const struct log *l);

/* ---- append ---------------------------------------------------------------------------------- */

enum log_origin {
    LOG_ORIGIN_CLIENT,      /* a produce request: all checks */
    LOG_ORIGIN_COORDINATOR, /* this node: internal topics and control batches are its business */
};

struct log_append {
    /* in; `records` may be changed in place and must live until log_append returns, not longer */
    uint8_t *records;
    uint32_t records_size;
    enum log_origin origin;
    int16_t produce_version; /* of the request: some refusals depend on it */
    bool admin_client;       /* may write to internal topics */
    /* Of a client's transactional batch: what log_txn_begin said; 0: nothing. */
    uint64_t txn_guard;
    /* Of a marker: from version 2 on its epoch must be above the data's, but for one written again
     * (may_repeat): same epoch, no open transaction, nothing is appended. */
    int8_t transaction_version;
    bool may_repeat;
    struct trip *trip; /* goes from WAIT to WRITE when a write takes it along; NULL: of none */
    /* out */
    enum kafka_error error;
    const char *message; /* constant text or NULL */
    struct batch_record_error record_errors[BATCH_RECORD_ERRORS_MAX];
    uint32_t record_errors_count;
    int64_t base_offset, last_offset, append_time_ms, log_start_offset;
    /* private */
    struct list link;
    struct log *log;
    int64_t wait_offset;
    void (*done)(struct log_append *a);
};

/* Checks and takes one record set (one v2 batch) from a client. false: refused, a->error says why,
 * `done` is not called. true: `done` runs when it is as durable as the topic asks (NONE), or its
 * directory failed or is so full that it cannot become durable now (KAFKA_STORAGE_ERROR; in the
 * latter case it may later) or the topic is deleted. A known duplicate is accepted
 * with its original offsets, and done when those are durable. Checks in Kafka's order
 * (LogValidator, UnifiedLog.append, ProducerAppendInfo). */
NODISCARD bool log_append(struct log *l, struct log_append *a);
/* false: a client's append would be refused, whatever it holds. */
bool log_takes_records(const struct log *l);

/* Before the first batch of a transaction here: is it open already? Then *guard is 0 and the batch
 * may be appended. Else who asks must have the transaction's coordinator confirm it, and append
 * with *guard: unless the transaction ended meanwhile, it is then taken. Later batches with a lower
 * sequence than one that waits go first. `adds`: the client is of transaction version 2. false: no
 * memory. */
NODISCARD bool log_txn_begin(struct log *l, int64_t producer_id, int16_t producer_epoch,
                             int32_t base_sequence, bool adds, uint64_t *guard);
/* The coordinator knows nothing of such a transaction, and never will: whoever asked is forgotten.
 */
void log_txn_forget(struct log *l, int64_t producer_id, uint64_t guard);
/* Would a batch of this node's own in this producer's transaction be taken? KE_NONE,
 * INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE. */
enum kafka_error log_txn_check(const struct log *l, int64_t producer_id, int16_t producer_epoch,
                               uint64_t guard);

/* ---- read ------------------------------------------------------------------------------------ */

#define LOG_READ_PIECES_MAX 64

enum log_isolation { LOG_READ_HIGH_WATERMARK, LOG_READ_STABLE, LOG_READ_END };

struct log_piece {
    const uint8_t *data;
    uint32_t size;
    struct log_block *block; /* what keeps data alive */
};

struct log_read {
    /* in */
    int64_t offset;
    uint32_t max_bytes;
    bool whole_first_batch; /* return the first batch even if it is larger than max_bytes */
    enum log_isolation isolation;
    /* out: whole batches, the first one containing `offset` */
    int64_t next_offset;    /* behind the last of them; `offset` when there is none */
    enum kafka_error error; /* OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR, CORRUPT_MESSAGE */
    bool scarce;            /* less than there is, or nothing: readers hold too much already */
    struct log_piece pieces[LOG_READ_PIECES_MAX];
    uint32_t pieces_count, bytes;
    int64_t high_watermark, last_stable_offset, start_offset;
    void (*done)(struct log_read *r);
    /* private */
    struct log *log;
    struct cold_read *cold; /* under way */
    struct list link;
};

/* true: the answer is there now (from memory, or nothing to give, or an error). false: it comes
 * from disk, `done` will run. Pieces are lent until log_read_release. */
NODISCARD bool log_read(struct log *l, struct log_read *r);
void log_read_release(struct log_core *core, struct log_read *r);

/* Aborted transactions, in the order in which they began. */
struct log_aborted {
    int64_t producer_id, first_offset;
};
struct log_aborted_list {
    struct log_aborted *entries;
    uint32_t count, room;
};
/* Those with records in [from, upper): what a reader of committed records must pass over there.
 * May read disk, at once. The list is the caller's, zeroed at first. */
NODISCARD enum kafka_error log_collect_aborted(struct log *l, int64_t from, int64_t upper,
                                               struct log_aborted_list *list);
void log_aborted_list_free(struct log_core *core, struct log_aborted_list *list);

/* Told once when the readable end (by isolation) passes `offset`, or the log fails or is deleted.
 * If that is so already, fires on the next log_core_turn. */
struct log_watch {
    struct list link;
    int64_t offset;
    enum log_isolation isolation;
    void (*fire)(struct log_watch *w);
};
void log_watch(struct log *l, struct log_watch *w);
void log_unwatch(struct log_watch *w); /* nothing happens if it has fired */

/* ---- lookups and admin ----------------------------------------------------------------------- */

struct log_position {
    int64_t offset, timestamp; /* -1, -1: no such record */
    int32_t leader_epoch;
};

/* The first record with a timestamp >= timestamp_ms, below the readable end. Reads disk at once. */
NODISCARD enum kafka_error log_find_time(struct log *l, int64_t timestamp_ms,
                                         enum log_isolation isolation, struct log_position *found);
/* The record with the largest timestamp; none when that is not below the readable end. */
NODISCARD enum kafka_error log_find_max_time(struct log *l, enum log_isolation isolation,
                                             struct log_position *found);
/* KIP-320: the largest known epoch <= epoch and its end offset; (-1, -1) when unknown. */
void log_epoch_end(const struct log *l, int32_t epoch, int32_t *found_epoch, int64_t *end_offset);
int32_t log_epoch_at(const struct log *l, int64_t offset); /* -1 when unknown */
/* May a batch have the epoch that it says? No checksum covers it. */
bool log_epoch_fits(const struct log *l, const struct batch_header *h);

struct log_delete_records {
    int64_t offset; /* -1: the high watermark */
    enum kafka_error error;
    int64_t low_watermark;
    void (*done)(struct log_delete_records *d);
    /* private */
    struct list link;
    struct log *log;
};
/* DeleteRecords, durable when done. false: refused, error set. */
NODISCARD bool log_delete_records(struct log *l, struct log_delete_records *d);

struct log_producer {
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t last_sequence;
    int64_t last_timestamp;
    int32_t coordinator_epoch;
    int64_t txn_start_offset; /* -1: none */
};
/* DescribeProducers: calls visit for each active producer, in no order that means anything. */
void log_producers(const struct log *l, void (*visit)(void *context, const struct log_producer *p),
                   void *context);

struct log_core_stats {
    uint64_t appended_batches, appended_bytes, wal_writes, wal_bytes, segment_bytes, memory_reads,
        disk_reads, memory_bytes, disk_bytes, copied_bytes, cache_bytes, torn_tails, rot, cleanings,
        cleaned_bytes_before, cleaned_bytes_after, uncleanable;
};
void log_core_stats(const struct log_core *core, struct log_core_stats *stats);

/* Writes of the write-ahead log: how long each took, and how much it took along. */
struct log_core_times {
    struct histogram wal_write_ns, wal_write_bytes, wal_write_batches;
    struct histogram wal_wait_ns; /* from the first batch in memory to the write that takes it */
};
const struct log_core_times *log_core_times(const struct log_core *core);

/* Want of memory or descriptors: it says nothing about the directory, and is over some day. */
static inline bool log_error_passes(int error)
{
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE;
}

#endif
