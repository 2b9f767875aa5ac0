/* What the files of broker/log share. Reading order: wal_format.h, then the structs here from
 * memory (chunk) over disk (segment) to the partition (log) and what holds them all (log_core). */
#ifndef BROKER_LOG_LOG_PRIV_H
#define BROKER_LOG_LOG_PRIV_H

#include <errno.h>

#include "broker/log/log.h"
#include "broker/log/wal_format.h"
#include "core/core.h"
#include "core/map.h"
#include "core/pool.h"
#include "core/stage.h"

/* ---- limits ---------------------------------------------------------------------------------- */

#define CHUNK_BYTES      (1u << 20)
#define CHUNKS_KEPT      2u                 /* free chunks an idle core keeps */
#define CHUNKS_SINGLE    2u                 /* chunks of a core that are not made in pairs */
#define CHUNK_IDLE_NS    (30ull * NS_PER_S) /* cached longer than this without use: given back */
#define WAL_FILES_MAX    64u
#define WAL_WRITE_GROUPS 8u             /* groups that may leave in one write */
#define WAL_WRITE_BYTES  (2u << 20)     /* and how much, unless the first one alone is more */
#define WAL_WRITES_MAX   3u             /* in flight at once */
#define WAL_FLYING_BYTES (2u << 20)     /* and how much, unless it is one write alone */
#define WAL_ZERO_AHEAD   (4u << 20)     /* between groups and zeroing: more than is in flight */
#define WAL_ZERO_BYTES   (256u << 10)   /* piece of background zeroing */
#define WAL_MAKE_REST_NS (1 * NS_PER_S) /* between tries to make a file */
#define FLUSH_OPS_MAX    32u            /* logs being flushed at once */
#define FLUSH_IOV_MAX    256u
#define FLUSH_STAGE_BYTES                                                                          \
    (256u << 10)                       /* small batches are gathered here before they are written  \
                                        */
#define FLUSH_SMALL       1024u        /* "small" */
#define FLUSH_WRITE_BYTES (1u << 20)   /* one write */
#define FLUSH_EAGER_BYTES (1u << 20)   /* a log with so much in memory only is flushed at once */
#define FLUSH_UNCACHED    (256u << 10) /* writes from here on need not stay in the page cache */
#define FILES_OPEN_MAX    768u         /* sets of 4 descriptors, if the caller allows so many */
#define PATH_ROOM         1200u
#define READ_GATHER_BYTES (64u << 10) /* block into which small batches are gathered */
#define READ_SMALL        1024u
#define READ_BLOCK_BYTES  (1u << 20) /* one cold read, unless its first batch is larger */
#define READ_BLOCK_MIN    (64u << 10)
#define READ_NARROWEST    4096u /* where a device refuses, so much at a time is tried */
#define READ_HINTS        256u
#define LOGS_PER_TICK     1024u                /* looked at by housekeeping, per tick */
#define SPACE_LOOK_NS     (100ull * NS_PER_MS) /* while records come, so often at most */
#define SPACE_WAIT_NS     (10ull * NS_PER_MS)  /* while they are refused */
#define NO_OFFSET         (-1)
#define NO_TIMESTAMP      (-1)

_Static_assert(CHUNK_BYTES % WAL_BLOCK == 0, "a chunk is written directly");
_Static_assert(2 * CHUNK_BYTES == MEM_LARGE_PAGE, "twins fill a large page");
_Static_assert(WAL_WRITE_GROUPS <= FLUSH_IOV_MAX, "iovecs");

/* ---- memory: chunk.c ------------------------------------------------------------------------- */

enum block_kind { BLOCK_CHUNK, BLOCK_READ };

struct log_block { /* what a lent piece points into; first member of its holder */
    struct log_core *core;
    uint8_t *data;
    uint32_t capacity; /* multiple of 4096 */
    uint32_t references;
    enum block_kind kind;
};

enum chunk_state { CHUNK_FILLING, CHUNK_SEALED, CHUNK_FREE };

/* Memory that batches are copied into once. Laid out like a WAL file from group headers and
 * entries, so that the same bytes leave as WAL writes; a chunk of a write.caching log has the
 * layout (one group header for the whole chunk, never filled in) but goes to no WAL. */
struct chunk {
    struct log_block block;
    struct list link; /* core->chunks or core->free_chunks */
    struct state state;
    struct chunk *twin; /* they share a large page, and go together; NULL: alone */
    bool cached;        /* not written to a WAL */
    bool evictable;     /* sealed, written, flushed, not lent: counted in core->evictable */
    uint32_t used;      /* laid out so far */
    uint32_t unwritten; /* groups whose WAL write is not done */
    uint32_t unflushed; /* batches that are in no segment yet */
    uint64_t used_ns;   /* sealed, or last lent */
};

void chunks_init(struct log_core *c);
void chunks_free(struct log_core *c);
/* A chunk in FILLING with at least capacity bytes, or NULL: no room. */
NODISCARD struct chunk *chunk_take(struct log_core *c, uint32_t capacity, bool cached);
void chunk_seal(struct chunk *k);
/* One batch of it is in a segment now, or needs no segment any more. */
void chunk_flushed(struct chunk *k);
void chunk_written(struct chunk *k);
/* How many more chunks appends can get. */
uint32_t chunks_room(const struct log_core *c);
/* What they take that is not in segments yet, or lent. */
uint64_t chunks_kept_bytes(const struct log_core *c);
void chunks_shrink(struct log_core *c, uint64_t now_ns);
/* The log a batch's entry is of; NULL: none, or deleted since. */
struct log *log_of_entry(struct log_core *c, const struct wal_entry *e);
/* Calls visit for each entry laid out in a sealed chunk. */
void chunk_entries(const struct chunk *k,
                   void (*visit)(struct log_core *c, const struct wal_entry *e));
void block_retain(struct log_block *b);
void block_release(struct log_block *b);
/* Memory for a cold read or for gathering; NULL over budget. */
NODISCARD struct log_block *block_take(struct log_core *c, uint32_t capacity);

/* ---- tail index: tail.c ---------------------------------------------------------------------- */

#define TAIL_FIRST_IN_SEGMENT 0x80000000u
#define TAIL_INDEXED          0x40000000u /* gets an entry in the offset index */
#define TAIL_SIZE_MASK        0x3fffffffu

struct tail_entry { /* one batch in memory */
    int64_t base_offset;
    struct chunk *chunk;
    uint32_t position; /* of its wal_entry in the chunk */
    uint32_t size;     /* with flags */
};
_Static_assert(sizeof(struct tail_entry) == 24, "one per batch in memory");

struct tail { /* ring, oldest first: flushed ones (cache), then those in memory only */
    struct tail_entry *entries;
    uint32_t room, head, count; /* room: 0 or a power of two */
    uint32_t unflushed;         /* how many at the end are in no segment yet */
};

NODISCARD bool tail_reserve(struct log_core *c, struct tail *t);
void tail_push(struct tail *t, struct tail_entry e);
void tail_free(struct log_core *c, struct tail *t);
static inline struct tail_entry *tail_at(const struct tail *t, uint32_t index)
{
    return &t->entries[(t->head + index) & (t->room - 1)];
}
static inline struct wal_entry *tail_header(const struct tail_entry *e)
{
    return (struct wal_entry *)(void *)(e->chunk->block.data + e->position);
}
static inline uint8_t *tail_batch(const struct tail_entry *e)
{
    return e->chunk->block.data + e->position + sizeof(struct wal_entry);
}
static inline uint32_t tail_size(const struct tail_entry *e)
{
    return e->size & TAIL_SIZE_MASK;
}
/* Index of the batch that holds offset or is the first behind it; t->count: none. */
uint32_t tail_search(const struct tail *t, int64_t offset);
/* Forgets flushed batches up to and including that with this last offset. */
void tail_drop(struct log_core *c, struct tail *t, int64_t last_offset);
/* Forgets all, flushed or not. */
void tail_clear(struct log_core *c, struct tail *t);

/* ---- segments: segment.c, index.c, file.c ---------------------------------------------------- */

enum segment_file { FILE_LOG, FILE_INDEX, FILE_TIME, FILE_TXN, SEGMENT_FILES };
#define SEGMENT_FILES_MADE FILE_TXN /* with the segment; the last one when it has an entry */

struct segment_files { /* open fds, kept in least-recently-used order */
    struct list lru;
    struct segment *segment;
    int fd[SEGMENT_FILES]; /* -1: closed */
    int direct_fd;         /* the .log for direct reads; -1: closed */
    uint32_t users;
};

/* How indexes grow. One cursor is ahead (decides, at append), one follows what is written. */
struct index_cursor {
    uint32_t since;          /* bytes since the last entry */
    uint32_t entries, times; /* of the offset and the time index */
    int64_t max_timestamp, max_timestamp_offset;
    int64_t last_time; /* timestamp of the last time index entry, NO_TIMESTAMP: none */
};

struct segment {
    int64_t base;
    uint32_t size;    /* bytes, with those in memory only */
    uint32_t written; /* bytes in the file */
    struct index_cursor ahead, behind;
    int64_t first_timestamp; /* largest of its first batch; NO_TIMESTAMP: not known yet */
    int64_t created_ms, modified_ms, jitter_ms;
    struct segment_files *files; /* NULL: closed */
    uint32_t users;              /* reads and flushes under way */
    uint8_t *snapshot;           /* producer snapshot to write when its file is made */
    uint32_t snapshot_size;
    uint32_t aborted;     /* entries of its .txnindex */
    int64_t aborted_last; /* last offset of the newest of them */
    bool aborted_found;   /* the file was there at start, and was not looked at yet */
    bool aborted_unsynced;
    bool created;   /* the file exists */
    bool synced;    /* all of `written` is on the device */
    bool sealed;    /* complete: last entries of the indexes are written */
    bool loaded;    /* timestamps and index counts are known */
    bool times_lie; /* its time index does not match it */
    bool removed;   /* renamed to .deleted; freed when users is 0 */
};

/* ---- WAL: wal.c ------------------------------------------------------------------------------ */

struct wal_group {
    struct list link; /* wal->closed or wal->flying */
    struct chunk *chunk;
    uint32_t start, used, entries, entries_crc;
    uint64_t opened_ns;  /* its first entry came */
    bool answered;       /* some who waited for it do not any more: it is written all the same */
    struct list appends; /* struct log_append */
    struct list deletes; /* struct log_delete_records */
};

struct wal_file {
    int fd; /* -1: not made yet */
    uint32_t number;
    uint64_t serial;  /* of the round in which it was last begun; 0: nothing of this generation */
    uint32_t holders; /* logs whose oldest unsettled batch is in this serial */
    uint64_t zeroed;  /* bytes that are written extents, from the start */
};

enum wal_state { WAL_CLOSED, WAL_SERVING, WAL_STALLED, WAL_FAILED };

struct wal_write { /* one under way */
    struct wal *wal;
    struct io_rw rw;
    struct iovec iov[WAL_WRITE_GROUPS + 1];
    uint32_t expected; /* bytes */
    uint32_t groups_count, entries;
    uint64_t first; /* sequence of its first group */
    uint64_t begun_ns;
    bool done; /* but one before it is not */
};

struct wal {
    struct log_dir *dir;
    struct state state;
    bool direct; /* O_DIRECT and DSYNC; else buffered writes, then a sync */
    struct wal_file files[WAL_FILES_MAX];
    uint32_t files_count; /* made so far */
    uint32_t current;
    uint64_t position; /* where the next group goes in the current file */
    uint64_t serial;   /* of the current file */
    uint64_t generation, sequence;
    uint32_t crc;        /* of the last group */
    struct chunk *chunk; /* being filled */
    struct wal_group *open;
    struct list closed, flying;
    struct list unsettled;                   /* struct log by settle_link, oldest serial first */
    struct wal_write writes[WAL_WRITES_MAX]; /* ring: oldest at writes_head */
    uint32_t writes_head, writes_count;
    uint32_t flying_bytes;
    uint64_t typical_ns; /* a write takes: moving average */
    struct io_sync sync; /* where writes are not direct: of the one write there is */
    uint8_t *header_block;
    struct io_rw zero_rw;
    struct iovec zero_iov;
    uint8_t *zero_block;
    uint32_t zero_file;
    uint64_t zero_from;
    struct io_sync make_sync; /* of the file that is being made, then of its name */
    int make_fd, make_folder; /* -1: none is being made */
    uint64_t
        make_ns; /* no other file is made before: it failed for want of descriptors or memory */
};

NODISCARD int wal_init(struct wal *w, struct log_dir *d);
void wal_free(struct wal *w);
bool wal_busy(const struct wal *w); /* I/O under way */
/* Starts a generation: its first file is made or begun anew, durably. */
NODISCARD int wal_begin(struct wal *w, uint64_t generation);
/* Ends the generation: what it held is in segments, synced. At once. 0 or -errno. */
NODISCARD int wal_end(struct wal *w);
/* Room for an entry with size bytes of batch: where the batch goes, or NULL. Nothing happens until
 * wal_commit, which must follow before anything else touches the WAL. */
NODISCARD uint8_t *wal_reserve(struct wal *w, uint32_t size);
/* Fills the entry in front of the reserved bytes, checksums it and makes it part of the open group.
 * Returns its position in the chunk. */
uint32_t wal_commit(struct wal *w, struct wal_entry *entry);
/* What is in the WAL when this is called is waited for: the open group, or the last one. NULL: all
 * of it is durable. */
struct wal_group *wal_last_group(struct wal *w);
/* End of a turn. */
void wal_turn(struct wal *w);
void wal_fail(struct wal *w);
/* Appends of l that wait in it end with this error. */
void wal_refuse_log(struct wal *w, struct log *l, enum kafka_error error);
/* l has a batch in the WAL that is not settled (in a synced segment). */
void wal_hold(struct wal *w, struct log *l);
void wal_unhold(struct wal *w, uint64_t serial);
/* Clients whose appends wait in a WAL that cannot go on for want of space are told so. */
void wal_answer_waiting(struct wal *w);
/* Is the file that comes next still needed by logs? Then the oldest serial, else 0. */
uint64_t wal_wants_settled(const struct wal *w);
uint64_t wal_payload_max(const struct wal *w);

/* ---- a log directory ------------------------------------------------------------------------- */

enum dir_state { DIR_OK, DIR_FULL, DIR_FAILED };

struct wal_found { /* a WAL file that was there at start */
    uint32_t core, number;
    bool valid;   /* the header is one, or could be told from what follows it */
    bool damaged; /* it is not, or the file is shorter than it was */
    bool cut;     /* durable groups of it are gone */
    struct wal_file_header header;
};

struct log_dir {
    struct log_core *core;
    uint32_t index;
    const char *path;
    struct state state;
    struct io_probe probe;
    struct wal wal;
    struct map folders;    /* name -> struct folder: what was there at start */
    bool exhausted;        /* FULL, and nothing at all can be written that needs space */
    uint64_t met_bytes;    /* what was free when that was met */
    uint64_t look_ns;      /* when whoever appends looks at the space again */
    uint32_t root_changes; /* folders that were made or renamed in it */
    bool root_dirty;       /* one was since the last directory sync */
    bool failure_untold;
    int error;           /* why it failed */
    bool read_only;      /* a tool looks at it: nothing is opened to be written */
    uint64_t generation; /* of the newest WAL found at start; 0: none */
    bool had_wal;        /* torc wrote here last, and was not stopped cleanly */
    bool left_open;      /* some core's WAL was not closed: checkpoints are older than it */
    bool keep_wal;       /* what it found is damaged: it is put aside, not written over */
    struct wal_found *wal_found;
    uint32_t wal_found_count, wal_found_room;
    struct map checkpoints; /* folder name -> struct checkpoint, till log_core_serve */
};

struct folder {   /* a partition's directory found at start */
    bool claimed; /* a log was opened in it */
    uint32_t name_size;
    char name[];
};

/* Every log of it refuses from now on; told upwards once. */
void dir_fail(struct log_dir *d, int error, const char *what);
/* -ENOSPC was met: appends are refused and segments not written until there is space. */
void dir_full(struct log_dir *d);
static inline bool dir_writable(const struct log_dir *d)
{
    return d->state.now == DIR_OK || (d->state.now == DIR_FULL && !d->exhausted);
}

/* ---- a partition ----------------------------------------------------------------------------- */

enum log_state { LOG_UNLOADED, LOG_OPEN, LOG_FAILED, LOG_DELETED };

struct shared_config { /* logs of a topic share one */
    struct list link;
    uint32_t references;
    struct topic_config topic;
};

struct producers;
struct txn_index;
struct epochs;
struct flush;
struct cleaner;
struct removal;

struct log_key {
    struct uuid topic_id;
    int32_t partition;
};
_Static_assert(sizeof(struct log_key) == 20, "hashed as bytes");

struct log {
    struct log_core *core;
    struct log_dir *dir;
    struct log_key key;
    uint32_t slot; /* in core->table */
    char *folder;  /* <topic>-<partition> */
    struct state state;
    bool waits;        /* UNLOADED while it serves: no space or descriptors to open it yet */
    bool internal;     /* one of Kafka's internal topics */
    bool cached;       /* write.caching now */
    bool folder_new;   /* folder and partition.metadata are not known to be on the device */
    bool folder_dirty; /* a file was made in it since the last directory sync */
    bool want_sync;    /* the next flush syncs too */
    bool want_names;   /* or at least the small files and the names */
    bool changed;      /* written to since it was opened */
    bool start_dirty;  /* the log start offset is only in the WAL */
    bool has_start;    /* a file with it was found */
    bool torn;         /* found with a file that ends inside a batch */
    bool has_cleaned;  /* a file that says what was compacted was found */
    bool gaps;         /* offsets may have no record: compacted once, or lost by write.caching */
    bool cleaning;     /* its segments are being compacted: they stay till that is over */
    bool lost_aborted; /* of the WAL, by damage: an entry of an aborted one */
    bool snapshot_damaged; /* a producer snapshot that would have been used */
    bool quarantined;      /* found damaged by an earlier start, which has left a note */
    bool uncleanable;      /* compaction met what it cannot read: not tried again in this process */
    struct shared_config *config;
    int32_t leader_epoch;
    int64_t start_offset, end_offset;
    int64_t start_told;  /* what files and the WAL say of the former, wherever segments begin */
    int64_t durable_end; /* acknowledged as far as this */
    int64_t high_watermark;
    int64_t written_end; /* in segments */
    int64_t synced_end;  /* in segments, on the device */
    int64_t cached_end;  /* of what was appended while write.caching */
    int64_t cleaned_end; /* compacted as far as this; NO_OFFSET: never */
    int64_t lost_end;    /* the WAL had records up to here that are damaged; 0: none */
    int64_t settled_end; /* what the WAL says about records below does not count: clean_files.c */
    uint64_t unflushed_bytes, size_bytes;
    struct tail tail;
    struct segment **segments; /* oldest first; the last is the active one */
    uint32_t segments_count, segments_room;
    uint32_t writing;            /* index of the segment the flusher is in */
    struct producers *producers; /* NULL: none known */
    struct txn_index *aborted;   /* NULL: none that is not in a file */
    int64_t aborted_from; /* markers from here on get entries: while it is loaded, not those below,
                             which have theirs */
    bool producers_dirty, epochs_dirty; /* changed since they were last written */
    struct epochs *epochs;
    struct list appends; /* of a cached log: waiting for the flusher */
    struct list watches;
    struct list reads;        /* from disk, under way */
    struct list dirty_link;   /* core->dirty: has batches in memory only, oldest first */
    struct list urgent_link;  /* core->urgent */
    struct list retire_link;  /* core->retiring: segments go when a flush of names has ended */
    struct list settle_link;  /* wal->unsettled */
    struct list moved_link;   /* core->moved: readable end changed in this round */
    uint64_t settle_serial;   /* WAL file of the oldest unsettled batch; 0: none */
    uint64_t settling_serial; /* the same for what a flush under way will settle */
    int64_t recovery_point;   /* as checkpointed when it was opened; NO_OFFSET: not */
    uint32_t snapshots_found;
    int32_t last_epoch;      /* of the last batch seen when it was loaded */
    struct replay *replay;   /* recovery.c, while it runs */
    int64_t snapshot_offset; /* of the newest producer snapshot; NO_OFFSET: none */
    uint64_t synced_ns;      /* when it was last synced (flush.ms) */
    struct flush *flush;     /* under way */
    uint32_t users;          /* flush and cold reads; a deleted log is freed at 0 */
};

static inline const struct topic_config *log_config(const struct log *l)
{
    return &l->config->topic;
}
/* Does each offset have a record, so that a missing one is damage? */
bool log_is_gapless(const struct log *l);
/* The readable end. */
int64_t log_readable_end(const struct log *l, enum log_isolation isolation);
/* durable_end moved: moves the high watermark and remembers to fire watches. */
void log_moved(struct log *l);
void log_fail(struct log *l, const char *why);
/* Tries once more what an error that passes has kept from being opened. */
void log_open_again(struct log *l);
/* Watches fire in the next turn. */
void log_wake_all(struct log *l);
void log_ref(struct log *l);
void log_unref(struct log *l);

/* ---- one core -------------------------------------------------------------------------------- */

struct read_hint { /* where a reader that goes on in order goes on */
    struct log *log;
    int64_t offset, segment_base;
    uint32_t position;
};

enum core_phase { PHASE_STARTING, PHASE_REPLAYED, PHASE_SERVING, PHASE_STOPPING, PHASE_STOPPED };

struct log_core {
    struct log_core_config config;
    struct io *io;
    struct mem *mem;
    struct trace *trace;
    struct state phase;
    struct log_dir *dirs;
    uint32_t dirs_count;
    struct map by_key;
    struct log **table; /* slot -> log, NULL: free */
    uint32_t table_room, table_next, logs_count;
    struct list configs;

    struct list chunks; /* FILLING and SEALED, oldest first */
    struct list free_chunks;
    uint32_t chunks_free, evictable;
    uint64_t chunk_bytes;       /* of all chunks, free ones too */
    struct chunk *cached_chunk; /* of write.caching logs, being filled */
    uint64_t block_bytes;       /* of read blocks */

    struct pool groups;
    struct list completed; /* struct log_append whose done is to be called */
    struct list deletes_completed;
    struct list reads_completed;
    struct read_hint hints[READ_HINTS];
    uint32_t cold_reads; /* under way, or waiting for their turn */
    struct list cold_waiting;
    size_t cold_flying_bytes;
    struct list moved;
    struct list ready_watches;
    struct list room_waiters;

    struct list dirty, urgent, retiring;
    struct pool flushes;
    struct stage_table flush_stages;
    uint64_t txn_guard; /* the last one given out */
    struct list files_lru;
    uint32_t files_open, files_open_max;

    struct removal *removal; /* of renamed files and folders, later */
    struct timer tick;
    uint64_t retention_due_ns;
    uint32_t retention_left; /* slots of the table still to be looked at in this round */
    uint32_t sweep_slot;     /* where housekeeping over the table goes on */
    struct cleaner *cleaner; /* NULL: log.cleaner.enable is false */
    struct op *stop_op;
    uint32_t stop_slot;
    int stop_error;
    struct log_core_stats stats;
    struct log_core_times times;
};

/* ---- flushing: flush.c ----------------------------------------------------------------------- */

/* Starts flushes that are due: urgent ones, then what holds the next WAL file, then what memory
 * pressure asks for. */
void flushes_init(struct log_core *c);
void flushes_free(struct log_core *c);
void flush_turn(struct log_core *c);
/* The log has batches that should reach their segment soon. */
void flush_soon(struct log *l);
/* The clean stop, one turn of it. */
void flush_everything(struct log_core *c);
/* Everything is flushed: the clean stop is over. */
void core_stopped(struct log_core *c, int error);

void core_complete(struct log_core *c); /* calls what is due: done, fire */
/* Accepted before, ends with an error: done is called from core_complete. */
void append_refuse(struct log_append *a, enum kafka_error error);
void delete_refuse(struct log_delete_records *d, enum kafka_error error);

#endif
