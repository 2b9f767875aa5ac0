/* The flusher: batches from memory into their partition's segment, and segments onto the device.
 *
 *   dirty logs ──▶ WRITE: a piece into the .log, its entries into .index and .timeindex ─┐
 *   (memory only)    ▲                                      more, or a new segment       │
 *                    └───────────────────────────────────────────────────────────────────┤
 *   settle wanted ──▶ NAMES: small files ──▶ FOLDER ──▶ SYNC: one unsynced segment ◀─────┘
 *                     after the other ──▶ SNAPSHOT of producers: written, synced, its name
 *
 * A log is flushed when it has much in memory only, when it is a write.caching log (each append
 * waits for it), when the WAL wants to write over a file with data of it (settle), when memory gets
 * scarce (the oldest data first), and at the clean stop. One flush per log, FLUSH_OPS_MAX per core.
 *
 * Invariants
 *  1. Only batches that are durable in the WAL, or cached ones, go to a segment: a segment never
 *     holds more than was promised, so recovery may cut behind the last WAL entry.
 *  2. written_end and synced_end move only when the I/O is done.
 *  3. A flush that settles lets go of the WAL serials its log held when it began, after the sync.
 *  4. A segment's files are exactly as long as their content at all times.
 *  5. A sync that failed, for whatever reason, is not tried again: the next one would succeed and
 *     have lost what this one was to bring to the device.
 *
 * Failure: no space for a write makes the directory FULL and the flush is tried again later,
 * nothing is lost: the batches stay in memory and in the WAL. Any other error, and each of a sync,
 * fails the directory. */
#include "broker/log/flush.h"

#include <errno.h>
#include <string.h>

#include "broker/log/cleaner.h"
#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/index.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"
#include "broker/log/removal.h"
#include "broker/log/retention.h"
#include "broker/log/segment.h"
#include "broker/log/txn_index.h"
#include "core/lab.h"

#define INDEX_BATCH 256u /* index entries that one write may bring */

/* What is under way, or begins now. */
enum flush_stage {
    FLUSH_WRITE,
    FLUSH_NAMES,
    FLUSH_FOLDER,
    FLUSH_SYNC,
    FLUSH_SNAPSHOT,
    FLUSH_SNAPSHOT_SYNC,
    FLUSH_SNAPSHOT_NAME,
    FLUSH_STAGES
};

static const char *const flush_stage_names[FLUSH_STAGES] = {
    "write", "names", "folder", "sync", "snapshot", "snapshot sync", "snapshot name"};

struct flush_rw {
    struct flush *flush;
    struct io_rw rw;
    uint32_t expected;
};

struct flush_sync {
    struct flush *flush;
    struct io_sync sync;
    bool owned; /* the descriptor was opened for this */
};

struct flush {
    struct log *log;
    struct stage stage;
    bool names;      /* small files and names become durable */
    bool settle;     /* and segments */
    bool letting_go; /* and let go of settling_serial */
    int error;
    int sync_error;   /* then nobody tries again: invariant 5 */
    uint32_t pending; /* armed ops */
    int64_t target;   /* writes till here, and no further */
    struct segment *segment;
    /* the write under way */
    uint32_t batches, bytes, iov_count, staged;
    uint32_t index_count, time_count;
    struct index_cursor behind; /* the segment's, when it is done */
    int64_t end;                /* written_end, when it is done */
    uint8_t *staging;
    struct flush_rw rw[SEGMENT_FILES];
    struct iovec index_iov, time_iov;
    struct iovec iov[FLUSH_IOV_MAX];
    uint8_t index_bytes[INDEX_BATCH * INDEX_ENTRY_SIZE];
    uint8_t time_bytes[(INDEX_BATCH + 1) * TIME_ENTRY_SIZE];
    /* the sync under way */
    int64_t log_start;     /* that goes into its file, or NO_OFFSET */
    uint32_t root_changes; /* of the directory, when its sync began */
    int64_t settle_end;    /* synced_end, when it is done */
    uint32_t sync_at;      /* segment index */
    struct flush_sync sync[SEGMENT_FILES];
    /* the snapshot under way */
    uint8_t *snapshot;
    uint32_t snapshot_size;
    int64_t snapshot_offset;
    int snapshot_fd;
};

static void flush_step(struct flush *f);
static void flush_written(struct op *op);
static void flush_synced(struct op *op);

void flushes_init(struct log_core *c)
{
    pool_init(&c->flushes, c->mem, sizeof(struct flush), FLUSH_OPS_MAX);
    c->flush_stages = (struct stage_table){
        .name = "flush",
        .names = flush_stage_names,
        .stages_count = FLUSH_STAGES,
    };
}

void flushes_free(struct log_core *c)
{
    pool_destroy(&c->flushes);
}

/* How many unflushed batches may be written now (invariant 1). */
static bool batch_flushable(const struct log *l, const struct tail_entry *e)
{
    return e->chunk->cached || e->base_offset < l->durable_end;
}

static bool log_flushable(const struct log *l)
{
    return l->tail.unflushed > 0 &&
           batch_flushable(l, tail_at(&l->tail, l->tail.count - l->tail.unflushed));
}

void flush_soon(struct log *l)
{
    if (l->state.now == LOG_OPEN && list_empty(&l->urgent_link))
        list_push_back(&l->core->urgent, &l->urgent_link);
}

/* ---- write ----------------------------------------------------------------------------------- */

int segment_seal(struct log *l, struct segment *s)
{
    struct index_cursor *k = &s->behind;
    uint8_t entry[TIME_ENTRY_SIZE];
    SOMETIMES_IF(!s->sealed && s->created && k->max_timestamp > k->last_time,
                 "a segment's last time is written when it is complete");
    /* One that lies is left as it was found: its times are not those of entries. */
    if (s->sealed || !s->created || s->times_lie || k->max_timestamp <= k->last_time) {
        s->sealed = s->created;
        return 0;
    }
    time_put(entry, s->base, (struct time_entry){k->max_timestamp, k->max_timestamp_offset});
    segment_use(s);
    int fd = segment_fd(l, s, FILE_TIME);
    int64_t written = fd < 0 ? fd
                             : io_pwrite(l->core->io, fd, entry, TIME_ENTRY_SIZE,
                                         (uint64_t)k->times * TIME_ENTRY_SIZE);
    segment_unuse(l, s);
    if (written != TIME_ENTRY_SIZE)
        return written < 0 ? (int)written : -EIO;
    k->last_time = k->max_timestamp;
    k->times++;
    s->ahead.last_time = k->last_time; /* batches may still come after a clean stop's seal */
    s->ahead.times = k->times;
    s->synced = false;
    s->sealed = true;
    return 0;
}

int snapshot_write(struct log *l, int64_t offset, const uint8_t *data, uint32_t size)
{
    char path[PATH_ROOM];
    path_segment(path, l->dir->path, l->folder, offset, ".snapshot");
    int fd = io_open(l->core->io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int64_t written = io_pwrite(l->core->io, fd, data, size, 0);
    io_close(l->core->io, fd);
    l->folder_dirty = true;
    if (written < 0)
        return (int)written;
    return written == size ? 0 : -EIO;
}

int segment_create(struct log *l, struct segment *s)
{
    int error = 0;
    segment_use(s);
    for (uint32_t which = 0; which < SEGMENT_FILES_MADE && error >= 0; which++)
        error = segment_fd(l, s, which);
    segment_unuse(l, s);
    if (error < 0)
        return error;
    s->created = true;
    s->synced = false;
    l->folder_dirty = true;
    if (s->snapshot == NULL)
        return 0;
    SOMETIMES("a segment begins with a snapshot of its producers");
    /* One that is on the device already says the same, and stays: written anew it could be torn. */
    bool there = s->base == l->snapshot_offset;
    error = there ? 0 : snapshot_write(l, s->base, s->snapshot, s->snapshot_size);
    mem_free(l->core->mem, s->snapshot, s->snapshot_size);
    s->snapshot = NULL;
    s->snapshot_size = 0;
    return error;
}

/* The segment the next batch belongs to, with its files there. */
static int flush_enter_segment(struct flush *f, const struct tail_entry *first)
{
    struct log *l = f->log;
    int error = 0;
    while (l->writing + 1 < l->segments_count &&
           l->segments[l->writing + 1]->base <= first->base_offset && error == 0) {
        error = segment_seal(l, l->segments[l->writing]);
        if (error == 0)
            l->writing++;
    }
    f->segment = l->segments[l->writing];
    if (error == 0 && !f->segment->created)
        error = segment_create(l, f->segment);
    return error;
}

static uint8_t *flush_staging(struct flush *f)
{
    if (f->staging == NULL)
        f->staging = mem_alloc(f->log->core->mem, FLUSH_STAGE_BYTES);
    return f->staging;
}

/* One more batch of the write; false: it does not fit any more. */
static bool flush_gather(struct flush *f, const struct tail_entry *e)
{
    uint8_t *batch = tail_batch(e);
    uint32_t size = tail_size(e);
    bool small = size < FLUSH_SMALL && flush_staging(f) != NULL;
    if (f->index_count == INDEX_BATCH || (f->batches > 0 && f->bytes + size > FLUSH_WRITE_BYTES))
        return false;
    if (small) {
        if (f->staged + size > FLUSH_STAGE_BYTES)
            return false;
        memcpy(f->staging + f->staged, batch, size);
        batch = f->staging + f->staged;
        f->staged += size;
        f->log->core->stats.copied_bytes += size;
    }
    struct iovec *last = f->iov_count == 0 ? NULL : &f->iov[f->iov_count - 1];
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == batch) {
        last->iov_len += size;
    } else if (f->iov_count == FLUSH_IOV_MAX) {
        return false;
    } else {
        f->iov[f->iov_count++] = (struct iovec){batch, size};
    }
    return true;
}

static void flush_gather_index(struct flush *f, const struct tail_entry *e, uint32_t position)
{
    struct batch_header h;
    const struct segment *s = f->segment;
    batch_decode_header(tail_batch(e), &h);
    int64_t last = batch_last_offset(&h);
    bool indexed = (e->size & TAIL_INDEXED) != 0;
    if (indexed) {
        index_put(f->index_bytes + f->index_count * INDEX_ENTRY_SIZE, s->base,
                  (struct index_entry){last, position});
        f->index_count++;
    }
    if (index_advance(&f->behind, indexed, h.size, last, h.max_timestamp)) {
        time_put(f->time_bytes + f->time_count * TIME_ENTRY_SIZE, s->base,
                 (struct time_entry){f->behind.last_time, f->behind.max_timestamp_offset});
        f->time_count++;
    }
}

/* Gathers what goes into one segment with one write. */
static void flush_fill(struct flush *f, uint32_t from)
{
    struct log *l = f->log;
    f->batches = f->bytes = f->iov_count = f->staged = 0;
    f->index_count = f->time_count = 0;
    f->behind = f->segment->behind;
    for (uint32_t i = from; i < l->tail.count; i++) {
        const struct tail_entry *e = tail_at(&l->tail, i);
        bool next_segment =
            (e->size & TAIL_FIRST_IN_SEGMENT) != 0 && f->segment->written + f->bytes > 0;
        if (next_segment || e->base_offset >= f->target || !batch_flushable(l, e) ||
            !flush_gather(f, e))
            break;
        flush_gather_index(f, e, f->segment->written + f->bytes);
        f->bytes += tail_size(e);
        f->batches++;
        f->end = tail_header(e)->last_offset + 1;
    }
    assert(f->batches > 0);
}

static int flush_arm_write(struct flush *f, enum segment_file which, struct iovec *iov,
                           uint32_t iov_count, uint64_t offset, uint32_t size)
{
    struct log *l = f->log;
    int fd = segment_fd(l, f->segment, which);
    if (fd < 0)
        return fd;
    struct flush_rw *rw = &f->rw[which];
    bool uncached = which == FILE_LOG && l->dir->probe.uncached && size >= FLUSH_UNCACHED;
    *rw = (struct flush_rw){.flush = f, .expected = size};
    rw->rw = (struct io_rw){.fd = fd,
                            .iov = iov,
                            .iov_count = iov_count,
                            .offset = offset,
                            .flags = uncached ? IO_UNCACHED : 0};
    op_init(&rw->rw.op, flush_written);
    f->pending++;
    io_write(l->core->io, &rw->rw);
    return 0;
}

/* The first error counts. */
static void flush_note(struct flush *f, int error)
{
    if (f->error == 0)
        f->error = error;
}

/* 0: armed. */
static int flush_write(struct flush *f)
{
    struct log *l = f->log;
    uint32_t from = l->tail.count - l->tail.unflushed;
    int error = flush_enter_segment(f, tail_at(&l->tail, from));
    if (error != 0)
        return error;
    struct segment *s = f->segment;
    flush_fill(f, from);
    error = txn_index_write(l, s, f->end);
    if (error != 0)
        return error;
    segment_use(s);
    error = flush_arm_write(f, FILE_LOG, f->iov, f->iov_count, s->written, f->bytes);
    if (error == 0 && f->index_count > 0) {
        uint32_t size = f->index_count * INDEX_ENTRY_SIZE;
        f->index_iov = (struct iovec){f->index_bytes, size};
        error = flush_arm_write(f, FILE_INDEX, &f->index_iov, 1,
                                (uint64_t)s->behind.entries * INDEX_ENTRY_SIZE, size);
    }
    if (error == 0 && f->time_count > 0) {
        uint32_t size = f->time_count * TIME_ENTRY_SIZE;
        f->time_iov = (struct iovec){f->time_bytes, size};
        error = flush_arm_write(f, FILE_TIME, &f->time_iov, 1,
                                (uint64_t)s->behind.times * TIME_ENTRY_SIZE, size);
    }
    if (f->pending == 0)
        segment_unuse(l, s);
    return error; /* what is armed comes back first, and then the flush is over */
}

/* What waited for a page-cache write (write.caching). */
static void flush_acknowledge(struct log *l, int64_t end)
{
    struct list *at;
    if (end > l->durable_end) {
        l->durable_end = end;
        log_moved(l);
    }
    while ((at = list_first(&l->appends)) != NULL) {
        struct log_append *a = container_of(at, struct log_append, link);
        if (a->wait_offset > l->durable_end)
            break;
        SOMETIMES("a cached append is acknowledged");
        list_remove(&a->link);
        a->error = KE_NONE;
        list_push_back(&l->core->completed, &a->link);
    }
}

static void flush_write_done(struct flush *f)
{
    struct log *l = f->log;
    struct segment *s = f->segment;
    assert(l->tail.unflushed >= f->batches);
    uint32_t from = l->tail.count - l->tail.unflushed;
    for (uint32_t i = 0; i < f->batches; i++)
        chunk_flushed(tail_at(&l->tail, from + i)->chunk);
    l->tail.unflushed -= f->batches;
    l->unflushed_bytes -= f->bytes;
    s->written += f->bytes;
    s->behind = f->behind;
    s->synced = s->sealed = false;
    l->written_end = f->end;
    l->core->stats.segment_bytes += f->bytes;
    if (l->cached && l->written_end - l->synced_end >= log_config(l)->flush_messages)
        f->settle = true; /* and these are acknowledged after it */
    else if (!f->settle && l->cached_end > l->durable_end)
        flush_acknowledge(l, l->written_end);
}

static void flush_written(struct op *op)
{
    struct flush_rw *rw = container_of(op, struct flush_rw, rw.op);
    struct flush *f = rw->flush;
    assert(f->pending > 0);
    f->pending--;
    if (op->result < 0 || (uint32_t)op->result != rw->expected)
        f->error = op->result < 0 ? op->result : -EIO;
    if (f->pending > 0)
        return;
    if (f->stage.now == FLUSH_WRITE) {
        if (f->error == 0 && f->log->state.now == LOG_OPEN)
            flush_write_done(f);
        segment_unuse(f->log, f->segment);
    }
    flush_step(f);
}

/* ---- sync ------------------------------------------------------------------------------------ */

static int flush_arm_sync(struct flush *f, uint32_t which, int fd)
{
    struct flush_sync *s = &f->sync[which];
    if (fd < 0)
        return fd;
    *s = (struct flush_sync){.flush = f, .sync.fd = fd};
    op_init(&s->sync.op, flush_synced);
    f->pending++;
    io_sync(f->log->core->io, &s->sync);
    return 0;
}

/* The same of a file, or a directory, that is opened for it. */
static int flush_arm_path(struct flush *f, uint32_t which, const char *path, bool directory)
{
    struct flush_sync *s = &f->sync[which];
    struct io *io = f->log->core->io;
    int fd = io_open(io, path, directory ? IO_READ : IO_READ | IO_WRITE);
    if (fd < 0)
        return fd;
    *s = (struct flush_sync){.flush = f, .owned = true, .sync = {.fd = fd, .directory = directory}};
    op_init(&s->sync.op, flush_synced);
    f->pending++;
    io_sync(io, &s->sync);
    return 0;
}

/* What comes before the segments, and can be derived: the small files. */
static int flush_names(struct flush *f)
{
    struct log *l = f->log;
    char path[PATH_ROOM];
    stage_move(&f->stage, FLUSH_NAMES);
    int error = l->epochs_dirty ? epochs_write(l) : 0;
    if (error == 0 && l->start_dirty) {
        f->log_start = l->start_offset;
        error = log_start_prepare(l, path);
        if (error == 0)
            error = flush_arm_path(f, 0, path, false);
    }
    if (error == 0 && l->folder_new && !DEFECT(6)) {
        path_in_folder(path, l->dir->path, l->folder, METADATA_NAME);
        error = flush_arm_path(f, 1, path, false);
    }
    return error;
}

/* Then the names of all files, and that of the folder if it is new. */
static int flush_folder(struct flush *f)
{
    struct log *l = f->log;
    struct log_dir *d = l->dir;
    char path[PATH_ROOM];
    stage_move(&f->stage, FLUSH_FOLDER);
    int error = f->log_start != NO_OFFSET ? log_start_name(l) : 0;
    bool wanted = (f->log_start != NO_OFFSET || l->folder_new || l->folder_dirty) && !DEFECT(6);
    l->folder_dirty = false; /* a flush that fails says otherwise */
    path_in_dir(path, d->path, l->folder);
    if (error == 0 && wanted)
        error = flush_arm_path(f, 0, path, true);
    SOMETIMES_IF(l->folder_new, "a folder that is new is made durable");
    f->root_changes = d->root_changes;
    if (error == 0 && wanted && l->folder_new && d->root_dirty)
        error = flush_arm_path(f, 1, d->path, true);
    return error;
}

static void flush_folder_end(struct flush *f)
{
    struct log *l = f->log;
    if (f->log_start == l->start_offset)
        l->start_dirty = false;
    if (l->folder_new && l->dir->root_changes == f->root_changes)
        l->dir->root_dirty = false;
    l->folder_new = false;
}

/* The segments come next, and who produced into them. */
static int flush_sync_begin(struct flush *f)
{
    struct log *l = f->log;
    stage_move(&f->stage, FLUSH_SYNC);
    f->settle_end = l->written_end;
    f->sync_at = 0;
    if (!l->producers_dirty)
        return 0;
    /* without memory for it the WAL file just stays held */
    f->snapshot = producers_encode(l, l->durable_end, &f->snapshot_size);
    f->snapshot_offset = l->durable_end;
    if (f->snapshot == NULL)
        return -ENOMEM;
    l->producers_dirty = l->end_offset > l->durable_end;
    return 0;
}

/* Syncs the next segment that needs it. False: none. */
static bool flush_sync_segment(struct flush *f)
{
    struct log *l = f->log;
    while (f->sync_at <= l->writing &&
           (l->segments[f->sync_at]->synced || DEFECT(8) || !l->segments[f->sync_at]->created))
        f->sync_at++;
    if (f->sync_at > l->writing)
        return false;
    struct segment *s = f->segment = l->segments[f->sync_at];
    segment_use(s);
    s->synced = true; /* of what is in it now: a write meanwhile says otherwise */
    for (uint32_t which = 0; which < SEGMENT_FILES_MADE && f->error == 0; which++)
        f->error = flush_arm_sync(f, which, segment_fd(l, s, which));
    if (s->aborted_unsynced && f->error == 0)
        f->error = flush_arm_sync(f, FILE_TXN, segment_fd(l, s, FILE_TXN));
    s->aborted_unsynced &= f->error != 0;
    if (f->pending == 0)
        segment_unuse(l, s);
    return true;
}

static void flush_synced(struct op *op)
{
    struct flush_sync *s = container_of(op, struct flush_sync, sync.op);
    struct flush *f = s->flush;
    assert(f->pending > 0);
    f->pending--;
    if (op->result < 0)
        f->error = f->sync_error = op->result;
    if (s->owned)
        io_close(f->log->core->io, s->sync.fd);
    if (f->pending > 0)
        return;
    if (f->stage.now == FLUSH_SYNC)
        segment_unuse(f->log, f->segment);
    flush_step(f);
}

/* ---- snapshot -------------------------------------------------------------------------------- */

static int flush_snapshot(struct flush *f)
{
    struct log *l = f->log;
    char path[PATH_ROOM];
    path_segment(path, l->dir->path, l->folder, f->snapshot_offset, ".snapshot");
    f->snapshot_fd = io_open(l->core->io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (f->snapshot_fd < 0)
        return f->snapshot_fd;
    struct flush_rw *rw = &f->rw[0];
    *rw = (struct flush_rw){.flush = f, .expected = f->snapshot_size};
    f->index_iov = (struct iovec){f->snapshot, f->snapshot_size};
    rw->rw = (struct io_rw){.fd = f->snapshot_fd, .iov = &f->index_iov, .iov_count = 1};
    op_init(&rw->rw.op, flush_written);
    f->pending++;
    io_write(l->core->io, &rw->rw);
    return 0;
}

/* The new one is there; the one before it that belongs to no segment goes. */
static void snapshot_replaced(struct log *l, int64_t offset)
{
    int64_t old = l->snapshot_offset;
    l->snapshot_offset = offset;
    if (old != NO_OFFSET && old != offset && l->segments[segment_find(l, old)]->base != old) {
        char path[PATH_ROOM];
        path_segment(path, l->dir->path, l->folder, old, ".snapshot");
        SOMETIMES("an old snapshot of producers goes");
        removal_plan(l->core, l->dir->index, path, REMOVE_FILE, 0); /* one too many does no harm */
    }
}

static int flush_snapshot_name(struct flush *f)
{
    const struct log *l = f->log;
    char path[PATH_ROOM];
    stage_move(&f->stage, FLUSH_SNAPSHOT_NAME);
    path_in_dir(path, l->dir->path, l->folder);
    return DEFECT(6) ? 0 : flush_arm_path(f, 0, path, true);
}

static void flush_drop_snapshot(struct flush *f)
{
    SOMETIMES("a flush ends");
    struct log_core *c = f->log->core;
    if (f->snapshot_fd >= 0)
        io_close(c->io, f->snapshot_fd);
    f->snapshot_fd = -1;
    mem_free(c->mem, f->snapshot, f->snapshot_size);
    f->snapshot = NULL;
}

/* ---- one flush ------------------------------------------------------------------------------- */

/* What the WAL holds for this log will be settled; what is not durable yet stays held. */
static void flush_begin_letting_go(struct flush *f)
{
    struct log *l = f->log;
    assert(l->settling_serial == 0);
    f->letting_go = true;
    l->settling_serial = l->settle_serial;
    l->settle_serial = 0;
    list_remove(&l->settle_link);
    if (l->end_offset > f->target)
        wal_hold(&l->dir->wal, l);
}

static void flush_end_letting_go(struct flush *f, bool settled)
{
    struct log *l = f->log;
    uint64_t serial = l->settling_serial;
    l->settling_serial = 0;
    if (serial == 0)
        return;
    if (settled || l->state.now != LOG_OPEN) {
        wal_unhold(&l->dir->wal, serial);
        return;
    }
    SOMETIMES("what was not settled is held again");
    if (l->settle_serial != 0) { /* back to the older of the two */
        wal_unhold(&l->dir->wal, l->settle_serial);
        list_remove(&l->settle_link);
    }
    l->settle_serial = serial;
    list_push_front(&l->dir->wal.unsettled, &l->settle_link);
}

static bool flush_start(struct log *l, bool settle)
{
    struct log_core *c = l->core;
    assert(l->flush == NULL && l->state.now == LOG_OPEN);
    struct flush *f = pool_acquire(&c->flushes);
    SOMETIMES_IF(f == NULL, "as many flushes are under way as may be");
    if (f == NULL)
        return false;
    memset(f, 0, offsetof(struct flush, index_bytes));
    f->log = l;
    f->snapshot = NULL;
    f->snapshot_fd = -1;
    f->log_start = NO_OFFSET;
    f->settle = settle || l->want_sync;
    f->names = l->want_names;
    f->target = l->written_end;
    for (uint32_t i = l->tail.count; i > l->tail.count - l->tail.unflushed; i--) {
        const struct tail_entry *e = tail_at(&l->tail, i - 1);
        if (!batch_flushable(l, e))
            continue;
        f->target = tail_header(e)->last_offset + 1;
        break;
    }
    stage_begin(&f->stage, &c->flush_stages, FLUSH_WRITE);
    l->flush = f;
    l->want_sync = l->want_names = false;
    log_ref(l);
    list_remove(&l->dirty_link);
    list_remove(&l->urgent_link);
    if (f->settle)
        flush_begin_letting_go(f);
    flush_step(f);
    return true;
}

static void flush_judge_error(struct flush *f)
{
    SOMETIMES("a flush fails");
    struct log *l = f->log;
    if (f->snapshot != NULL)
        l->producers_dirty = true; /* it did not get there */
    l->folder_dirty = true;
    if (l->state.now != LOG_OPEN)
        return;
    l->want_sync |= f->settle;
    if (f->sync_error != 0)
        dir_fail(l->dir, f->sync_error, "syncing a log");
    else if (f->error == -ENOSPC || f->error == -EDQUOT)
        dir_full(l->dir);
    else if (!log_error_passes(f->error))
        dir_fail(l->dir, f->error, "writing a segment");
}

static void flush_finish(struct flush *f)
{
    struct log *l = f->log;
    struct log_core *c = l->core;
    assert(f->pending == 0);
    if (f->error != 0)
        flush_judge_error(f);
    bool settled = f->error == 0 && l->state.now == LOG_OPEN;
    if (f->letting_go)
        flush_end_letting_go(f, settled);
    flush_drop_snapshot(f);
    if (f->staging != NULL)
        mem_free(c->mem, f->staging, FLUSH_STAGE_BYTES);
    stage_end(&f->stage);
    l->flush = NULL;
    pool_release(&c->flushes, f);
    if (l->state.now != LOG_OPEN)
        tail_clear(c, &l->tail);
    else if (l->tail.unflushed > 0 && list_empty(&l->dirty_link))
        list_push_back(&c->dirty, &l->dirty_link);
    if (l->state.now == LOG_OPEN && (l->cached ? l->tail.unflushed > 0 : l->want_sync))
        flush_soon(l);
    log_unref(l);
}

static void flush_sync_end(struct flush *f)
{
    struct log *l = f->log;
    l->synced_end = MAX(l->synced_end, f->settle_end);
    l->synced_ns = io_now_ns(l->core->io);
    if (l->cached_end > l->durable_end)
        flush_acknowledge(l, f->settle_end);
    stage_move(&f->stage, FLUSH_SNAPSHOT);
}

/* The next step, with what the last one armed done. 0: go on looking; < 0: over. */
static int flush_advance(struct flush *f)
{
    struct log *l = f->log;
    switch ((enum flush_stage)f->stage.now) {
    case FLUSH_WRITE:
        if (l->written_end < f->target)
            flush_note(f, flush_write(f));
        else if (f->settle || f->names)
            flush_note(f, flush_names(f));
        else
            return -1;
        return 0;
    case FLUSH_NAMES:
        flush_note(f, flush_folder(f));
        return 0;
    case FLUSH_FOLDER:
        flush_folder_end(f);
        if (!f->settle)
            return -1;
        flush_note(f, flush_sync_begin(f));
        return 0;
    case FLUSH_SYNC:
        if (flush_sync_segment(f))
            return 0;
        flush_sync_end(f);
        if (f->snapshot == NULL)
            return -1;
        flush_note(f, flush_snapshot(f));
        return 0;
    case FLUSH_SNAPSHOT:
        stage_move(&f->stage, FLUSH_SNAPSHOT_SYNC);
        flush_note(f, flush_arm_sync(f, 0, f->snapshot_fd));
        return 0;
    case FLUSH_SNAPSHOT_SYNC:
        flush_note(f, flush_snapshot_name(f));
        return 0;
    case FLUSH_SNAPSHOT_NAME:
        snapshot_replaced(l, f->snapshot_offset);
        return -1;
    case FLUSH_STAGES:
        break;
    }
    assert(false);
    return -1;
}

static void flush_step(struct flush *f)
{
    int next = 0;
    while (next == 0) {
        if (f->pending > 0)
            return; /* also with an error: what is armed comes back first */
        if (f->error != 0 || f->log->state.now != LOG_OPEN ||
            f->log->core->phase.now == PHASE_STOPPED)
            next = -1;
        else
            next = flush_advance(f);
    }
    if (next < 0)
        flush_finish(f);
}

/* ---- choosing -------------------------------------------------------------------------------- */

static bool log_can_flush(const struct log *l)
{
    return l->flush == NULL && l->state.now == LOG_OPEN && dir_writable(l->dir);
}

static void flush_urgent(struct log_core *c)
{
    uint32_t looks = 4 * FLUSH_OPS_MAX;
    LIST_EACH(at, &c->urgent)
    {
        struct log *l = container_of(at, struct log, urgent_link);
        if (looks-- == 0)
            return;
        bool wanted = l->want_sync || l->want_names;
        if (l->flush == NULL && l->tail.unflushed == 0 && !wanted)
            list_remove(&l->urgent_link); /* done by another flush */
        else if (log_can_flush(l) && (log_flushable(l) || wanted) && !flush_start(l, false))
            return;
    }
}

/* Logs that keep the WAL from going on to its next file. */
static void flush_settle(struct log_core *c)
{
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct wal *w = &c->dirs[i].wal;
        uint64_t serial = wal_wants_settled(w);
        uint32_t looks = 4 * FLUSH_OPS_MAX;
        if (serial == 0)
            continue;
        LIST_EACH(at, &w->unsettled)
        {
            struct log *l = container_of(at, struct log, settle_link);
            SOMETIMES("a log is flushed so that the WAL can go on");
            if (l->settle_serial > serial || looks-- == 0)
                break;
            if (log_can_flush(l) && !flush_start(l, true))
                return;
        }
    }
}

/* Memory is getting scarce: the oldest data first. */
static void flush_for_room(struct log_core *c)
{
    uint32_t looks = 2 * FLUSH_OPS_MAX;
    if (2 * (uint64_t)chunks_room(c) >= c->config.cache_bytes / CHUNK_BYTES)
        return;
    SOMETIMES("memory is scarce, and the oldest is flushed");
    LIST_EACH(at, &c->dirty)
    {
        struct log *l = container_of(at, struct log, dirty_link);
        if (looks-- == 0)
            return;
        if (log_can_flush(l) && log_flushable(l) && !flush_start(l, false))
            return;
    }
}

void flush_turn(struct log_core *c)
{
    if (c->phase.now == PHASE_STOPPING) {
        flush_everything(c);
        return;
    }
    flush_urgent(c);
    flush_settle(c);
    flush_for_room(c);
}

/* ---- the clean stop -------------------------------------------------------------------------- */

/* The files of a log as Kafka leaves them when it closes one. At once, not synced. */
static int log_close_files(struct log *l)
{
    int error = 0;
    if (!l->changed)
        return 0;
    for (uint32_t i = 0; i < l->segments_count && error == 0; i++) {
        struct segment *s = l->segments[i];
        if (!s->created)
            error = segment_create(l, s);
        if (error == 0)
            error = segment_seal(l, s);
    }
    if (error == 0 && l->epochs_dirty)
        error = epochs_write(l);
    if (error == 0 && l->start_dirty)
        error = log_start_write(l);
    if (error == 0 && l->snapshot_offset != l->end_offset) {
        uint32_t size = 0;
        uint8_t *data = producers_encode(l, l->end_offset, &size);
        error = data == NULL ? -ENOMEM : snapshot_write(l, l->end_offset, data, size);
        mem_free(l->core->mem, data, size);
        if (error == 0)
            snapshot_replaced(l, l->end_offset);
    }
    if (error == 0)
        l->synced_end = l->end_offset; /* as soon as core_stop has synced the file system */
    return error;
}

static void flush_stop_end(struct log_core *c)
{
    for (uint32_t i = 0; i < c->table_room; i++) {
        struct log *l = c->table[i];
        if (l == NULL || l->state.now != LOG_OPEN)
            continue;
        int error = l->written_end == l->end_offset ? log_close_files(l) : -ENOSPC;
        c->stop_error = error != 0 ? error : c->stop_error;
    }
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        int error = d->state.now == DIR_FAILED ? d->error : io_sync_filesystem(c->io, d->path);
        c->stop_error = error != 0 ? error : c->stop_error;
    }
    for (uint32_t i = 0; i < c->dirs_count; i++) { /* only now, and only if all is well */
        struct log_dir *d = &c->dirs[i];
        if (c->stop_error == 0 && d->state.now != DIR_FAILED)
            c->stop_error = wal_end(&d->wal);
    }
    core_stopped(c, c->stop_error);
}

/* Waits for the WAL, flushes one log after the other, then closes all. */
void flush_everything(struct log_core *c)
{
    if (c->cleaner != NULL && !cleaner_stop(c->cleaner))
        return;
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct wal *w = &c->dirs[i].wal;
        if (w->state.now == WAL_SERVING && wal_last_group(w) != NULL)
            return;
    }
    for (uint32_t i = 0; i < c->dirs_count; i++)
        if (c->dirs[i].state.now == DIR_FULL)
            dir_check_space(&c->dirs[i]); /* no tick does it any more */
    flush_settle(c);                      /* a stalled WAL goes on */
    bool started = false;
    for (; c->stop_slot < c->table_room; c->stop_slot++) {
        struct log *l = c->table[c->stop_slot];
        if (l == NULL || !log_can_flush(l) || !log_flushable(l))
            continue;
        if (!flush_start(l, false))
            return;
        started = true;
    }
    c->stop_slot = 0; /* those that were being flushed already may have more */
    if (started || c->flushes.count_used > 0)
        return;
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        if (d->wal.state.now != WAL_STALLED)
            continue;
        if (d->state.now != DIR_FULL)
            return;
        dir_fail(d, -ENOSPC, "stopping in order"); /* no waiting for room: the next start does */
    }
    flush_stop_end(c);
}
