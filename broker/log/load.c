/* Bringing a log into memory when it is opened: what is in its folder, where it begins and ends.
 *
 *   folder ─▶ segments (names, sizes) ─▶ active one: index counts, batches behind its last index
 *   entry ─▶ end offset
 *
 * It must be cheap, because thousands of partitions are opened before a node is ready: of the last
 * segment only what is behind the last index entry is looked at, headers only; of the others
 * nothing until somebody asks.
 *
 * A file that ends inside a batch is left as it is: `written` is then the end of the last whole
 * batch and `torn` is set, and recovery decides what that means.
 *
 * Failure: a folder that cannot be listed or holds segments no Kafka could have written is an
 * error; the log is then FAILED. A damaged index is made anew. */
#include "broker/log/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/checkpoint.h"
#include "broker/log/clean_files.h"
#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/index.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"
#include "broker/log/rebuild.h"
#include "broker/log/removal.h"
#include "broker/log/retention.h"
#include "broker/log/scan.h"
#include "broker/log/segment.h"
#include "broker/log/times.h"
#include "broker/log/txn_index.h"
#include "core/lab.h"

#define SNAPSHOT_MAX (256u << 20)

/* ---- the folder ------------------------------------------------------------------------------ */

struct found { /* names that are numbers, of one kind */
    int64_t *offsets;
    uint32_t count, room;
};

struct folder_listing {
    struct log *log;
    struct found segments, snapshots, aborted;
    bool interrupted; /* a compaction has left files on their way */
    int error;
};

static int found_add(struct log *l, struct found *f, int64_t offset)
{
    if (f->count == f->room) {
        uint32_t room = f->room == 0 ? 8 : f->room * 2;
        int64_t *grown =
            mem_realloc(l->core->mem, f->offsets, f->room * sizeof(*grown), room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        f->offsets = grown;
        f->room = room;
    }
    f->offsets[f->count++] = offset;
    return 0;
}

static void found_free(struct log *l, struct found *f)
{
    mem_free(l->core->mem, f->offsets, f->room * sizeof(*f->offsets));
}

static int offset_order(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

/* Its delay ended with the process. Not removed at once: the folder is being listed. */
static void folder_doom_file(struct log *l, const char *name)
{
    char path[PATH_ROOM];
    path_in_folder(path, l->dir->path, l->folder, name);
    removal_plan(l->core, l->dir->index, path, REMOVE_FILE, 0);
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t size = strlen(name), tail = strlen(suffix);
    return size >= tail && strcmp(name + size - tail, suffix) == 0;
}

static bool folder_entry(void *context, const char *name, bool is_directory)
{
    struct folder_listing *f = context;
    int64_t offset = 0;
    const char *suffix = "";
    f->log->has_start |= strcmp(name, LOG_START_NAME) == 0;
    f->log->quarantined |= strcmp(name, LOG_DAMAGED_NAME) == 0;
    f->log->has_cleaned |= strcmp(name, LOG_CLEANED_NAME) == 0;
    f->log->gaps |= f->log->has_cleaned || strcmp(name, LOG_GAPS_NAME) == 0;
    if (is_directory || !path_parse_offset(name, &offset, &suffix))
        return true;
    if (strcmp(suffix, ".log") == 0)
        f->error = found_add(f->log, &f->segments, offset);
    else if (strcmp(suffix, ".snapshot") == 0)
        f->error = found_add(f->log, &f->snapshots, offset);
    else if (strcmp(suffix, TXN_INDEX_SUFFIX) == 0)
        f->error = found_add(f->log, &f->aborted, offset);
    else if (ends_with(suffix, ".deleted"))
        folder_doom_file(f->log, name);
    else if (ends_with(suffix, ".swap") || ends_with(suffix, ".cleaned"))
        f->interrupted = true;
    return f->error == 0;
}

static int folder_list(struct folder_listing *f)
{
    struct log *l = f->log;
    char path[PATH_ROOM];
    path_in_dir(path, l->dir->path, l->folder);
    int error = io_list(l->core->io, path, folder_entry, f);
    if (error == 0)
        error = f->error;
    if (f->segments.count > 1)
        qsort(f->segments.offsets, f->segments.count, sizeof(int64_t), offset_order);
    if (f->snapshots.count > 1)
        qsort(f->snapshots.offsets, f->snapshots.count, sizeof(int64_t), offset_order);
    return error;
}

/* ---- one segment ----------------------------------------------------------------------------- */

static int segment_open_found(struct log *l, int64_t base)
{
    char path[PATH_ROOM];
    struct io_stat st;
    path_segment(path, l->dir->path, l->folder, base, ".log");
    int error = io_stat(l->core->io, path, &st);
    if (error != 0)
        return error;
    if (st.size > INT32_MAX)
        return -EFBIG;
    struct segment *s = segment_add(l, base);
    if (s == NULL)
        return -ENOMEM;
    s->size = s->written = (uint32_t)st.size;
    s->modified_ms = st.modified_ms;
    s->created = true;
    s->loaded = false;
    l->size_bytes += s->size;
    return 0;
}

int segment_load(struct log *l, struct segment *s)
{
    struct index_entry last;
    struct time_entry latest;
    if (s->loaded)
        return 0;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_INDEX);
    int error = fd < 0 ? fd : index_measure(l->core->io, fd, s->base, &s->behind.entries, &last);
    if (error == 0) {
        fd = segment_fd(l, s, FILE_TIME);
        error = fd < 0 ? fd : time_measure(l->core->io, fd, s->base, &s->behind.times, &latest);
    }
    segment_unuse(l, s);
    if (error != 0)
        return error;
    s->behind.max_timestamp = s->behind.last_time = latest.timestamp;
    s->behind.max_timestamp_offset = latest.offset;
    s->ahead = s->behind;
    s->loaded = true;
    error = times_check(l, s);
    return error == -ESTALE ? times_learn(l, s) : error;
}

/* Walks from the last index entry below *position up to there. */
static int measure_walk(struct log *l, struct segment *s, struct index_entry from,
                        uint32_t *position, struct index_cursor *c, int64_t *end)
{
    struct scan scan;
    struct batch_header h;
    const uint8_t *batch;
    bool first = from.position > 0, matches = true, gapless = log_is_gapless(l), gap = false;
    scan_begin(&scan, l, s, from.position, *position, SCAN_HEADERS);
    while (matches && !gap && scan_next(&scan, &batch, &h)) {
        int64_t last = scan.next_offset - 1;
        matches = !first || last == from.offset;
        gap = gapless && !first && h.magic == 2 && h.base_offset > *end;
        if (gap) { /* the offset is damaged: a checksum does not cover it */
            scan.position -= h.size;
            break;
        }
        first = false;
        c->since += h.size;
        if (h.magic == 2 && h.max_timestamp > c->max_timestamp) {
            c->max_timestamp = h.max_timestamp;
            c->max_timestamp_offset = last;
        }
        l->last_epoch = h.magic == 2 ? h.leader_epoch : l->last_epoch;
        *end = last + 1;
    }
    int error = 0;
    if (matches && scan.ended == SCAN_FAILED)
        error = scan.error;
    else if (!matches || (first && *position > 0))
        error = -ESTALE; /* the index points at something else */
    else if (gap || scan.ended != SCAN_CLEAN)
        error = -EILSEQ;
    *position = scan.position;
    scan_end(&scan);
    return error;
}

int segment_measure(struct log *l, struct segment *s, uint32_t *position,
                    struct index_cursor *cursor, int64_t *end)
{
    struct io *io = l->core->io;
    struct index_entry last;
    struct time_entry latest = {NO_TIMESTAMP, s->base};
    index_cursor_init(cursor);
    *end = s->base;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_INDEX);
    int error = fd < 0 ? fd : index_measure(io, fd, s->base, &cursor->entries, &last);
    if (error == 0)
        error =
            index_count_below(io, fd, s->base, cursor->entries, *position, &cursor->entries, &last);
    fd = error != 0 ? -1 : segment_fd(l, s, FILE_TIME);
    if (error == 0)
        error = fd < 0 ? fd : time_measure(io, fd, s->base, &cursor->times, &latest);
    if (error == 0) {
        cursor->max_timestamp = cursor->last_time = latest.timestamp;
        cursor->max_timestamp_offset = latest.offset;
        error = measure_walk(l, s, last, position, cursor, end);
    }
    if (error == 0 || error == -EILSEQ) { /* time entries of batches that do not count go, too */
        int again = time_count_below(io, fd, s->base, cursor->times, *end, &cursor->times, &latest);
        cursor->last_time = latest.timestamp;
        error = again != 0 ? again : error;
    }
    segment_unuse(l, s);
    return error;
}

static int file_cut(struct log *l, struct segment *s, enum segment_file which, uint64_t size)
{
    int fd = segment_fd(l, s, which);
    struct io_stat st;
    if (fd < 0)
        return fd;
    int error = io_fstat(l->core->io, fd, &st);
    if (error == 0 && st.size > size)
        error = io_truncate(l->core->io, fd, size);
    return error;
}

int segment_cut(struct log *l, struct segment *s, uint32_t position,
                const struct index_cursor *cursor)
{
    segment_use(s);
    int error = file_cut(l, s, FILE_LOG, position);
    if (error == 0)
        error = file_cut(l, s, FILE_INDEX, (uint64_t)cursor->entries * INDEX_ENTRY_SIZE);
    if (error == 0)
        error = file_cut(l, s, FILE_TIME, (uint64_t)cursor->times * TIME_ENTRY_SIZE);
    segment_unuse(l, s);
    if (error != 0)
        return error;
    l->size_bytes -= s->size - position;
    s->size = s->written = position;
    s->synced = s->sealed = false;
    return 0;
}

int segments_remove_from(struct log *l, uint32_t index)
{
    while (l->segments_count > index) {
        struct segment *s = segment_active(l);
        for (uint32_t which = 0; which < SEGMENT_FILES; which++) {
            char path[PATH_ROOM];
            path_segment(path, l->dir->path, l->folder, s->base, segment_suffixes[which]);
            int error = io_unlink(l->core->io, path);
            if (error != 0 && error != -ENOENT)
                return error;
        }
        segment_remove_last(l);
    }
    return 0;
}

/* ---- the active one -------------------------------------------------------------------------- */

/* What is behind the last index entry has been measured: the last time entry remains, and whether
 * a part of one is left. */
static int active_check_times(struct log *l, struct segment *s)
{
    struct time_entry latest;
    struct io_stat st = {0};
    uint32_t times = 0;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_TIME);
    int error = fd < 0 ? fd : time_measure(l->core->io, fd, s->base, &times, &latest);
    if (error == 0)
        error = io_fstat(l->core->io, fd, &st);
    segment_unuse(l, s);
    if (error == 0 && st.size % TIME_ENTRY_SIZE != 0)
        return -ESTALE;
    return error != 0 || times == 0 ? error : times_check_entry(l, s, &latest);
}

static int active_load(struct log *l)
{
    struct segment *s = segment_active(l);
    uint32_t position = s->size;
    bool damaged = false;
    int error = segment_measure(l, s, &position, &s->behind, &l->end_offset);
    if (error == 0)
        error = active_check_times(l, s);
    if (error == -ESTALE) {
        SOMETIMES("indexes that do not match are made anew");
        int64_t end = 0;
        trace_line(l->core->trace, TRACE_LOG, TRACE_WARN,
                   "%s/%s: the indexes of segment %" PRId64 " do not match it: made anew",
                   l->dir->path, l->folder, s->base);
        error = segment_index(l, s, &damaged, &end);
        position = s->written;
        if (error == 0)
            error = segment_measure(l, s, &position, &s->behind, &l->end_offset);
    }
    if (error == -EILSEQ) {
        SOMETIMES("a file ends inside a batch");
        l->torn = true;
        error = 0;
    }
    l->torn |= damaged;
    if (error != 0)
        return error;
    l->size_bytes -= s->size - position;
    s->size = s->written = position;
    s->ahead = s->behind;
    s->loaded = true;
    return segment_read_first_time(l, s);
}

/* The active segment is empty: the epoch of the last batch is that of the one before. */
static int last_epoch_load(struct log *l)
{
    struct segment *s = l->segments[l->segments_count - 2];
    struct index_cursor cursor;
    uint32_t position = s->written;
    int64_t end;
    int error = segment_measure(l, s, &position, &cursor, &end);
    return error == -ESTALE || error == -EILSEQ ? 0 : error; /* who reads there will see it */
}

static int log_load_found(struct log *l, struct folder_listing *f)
{
    int error = folder_list(f);
    SOMETIMES_IF(error == 0 && f->interrupted, "a compaction was interrupted");
    if (error == 0 && f->interrupted) {
        error = cleaned_recover(l);
        f->segments.count = f->snapshots.count = f->aborted.count = 0;
        if (error == 0)
            error = folder_list(f);
    }
    for (uint32_t i = 0; i < f->segments.count && error == 0; i++)
        error = segment_open_found(l, f->segments.offsets[i]);
    for (uint32_t i = 0; i < f->snapshots.count && error == 0; i++)
        l->snapshot_offset = MAX(l->snapshot_offset, f->snapshots.offsets[i]);
    l->snapshots_found = f->snapshots.count;
    if (error != 0)
        return error;
    if (l->segments_count == 0)
        return segment_add(l, 0) == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < f->aborted.count; i++) {
        struct segment *s = l->segments[segment_find(l, f->aborted.offsets[i])];
        s->aborted_found |= s->base == f->aborted.offsets[i];
    }
    l->writing = l->segments_count - 1;
    error = active_load(l);
    bool unknown = error == 0 && l->last_epoch < 0 && l->segments_count > 1;
    return unknown ? last_epoch_load(l) : error;
}

int log_load(struct log *l, bool empty)
{
    struct folder_listing f = {.log = l};
    l->snapshot_offset = l->recovery_point = NO_OFFSET;
    l->last_epoch = -1;
    l->aborted_from = INT64_MAX;
    l->gaps = checkpoint_get(l->dir, l->folder, LOG_CHECKPOINT_CLEANER) != NO_OFFSET;
    if (empty)
        return segment_add(l, 0) == NULL ? -ENOMEM : 0;
    int error = log_load_found(l, &f);
    found_free(l, &f.segments);
    found_free(l, &f.snapshots);
    found_free(l, &f.aborted);
    if (error != 0)
        return error;
    int64_t start = checkpoint_get(l->dir, l->folder, LOG_CHECKPOINT_LOG_START), own = NO_OFFSET;
    if (l->has_start)
        error = log_start_read(l, &own);
    if (error == 0 && l->has_cleaned)
        error = cleaned_read(l);
    if (error == 0 && l->settled_end > l->end_offset)
        error = cleaned_forget(l); /* it was cut since, by somebody who does not know the file */
    if (error != 0)
        return error;
    /* Where torc was not stopped well it may tell of an earlier topic of this name. The WAL knows,
     * or, when it was closed, the log's own file; only the checkpoints could not be written. */
    bool closed_only = l->dir->wal_found_count > 0 && !l->core->config.clean_start;
    if (l->dir->left_open || closed_only)
        start = NO_OFFSET;
    l->start_dirty |= start > MAX(l->segments[0]->base, own);
    l->start_told = MAX(start, own);
    l->start_offset = MAX(l->segments[0]->base, l->start_told);
    l->recovery_point = checkpoint_get(l->dir, l->folder, LOG_CHECKPOINT_RECOVERY_POINT);
    if (l->recovery_point > l->end_offset)
        l->recovery_point = NO_OFFSET; /* of a log that was longer, or another one */
    l->aborted_from = INT64_MAX;       /* whatever indexes were made anew */
    l->cleaned_end = checkpoint_get(l->dir, l->folder, LOG_CHECKPOINT_CLEANER);
    l->written_end = l->synced_end = l->durable_end = l->high_watermark = l->end_offset;
    return 0;
}

/* ---- producers and epochs -------------------------------------------------------------------- */

static int snapshot_read(struct log *l, int64_t offset, bool *good)
{
    char path[PATH_ROOM], *data = NULL;
    size_t size = 0;
    path_segment(path, l->dir->path, l->folder, offset, ".snapshot");
    int error = io_slurp(l->core->io, l->core->mem, path, SNAPSHOT_MAX, &data, &size);
    if (error != 0)
        return error;
    *good = producers_decode(l, offset, (const uint8_t *)data, size);
    mem_free(l->core->mem, data, size + 1);
    SOMETIMES_IF(!*good, "a snapshot of producers is damaged");
    l->snapshot_damaged |= !*good;
    if (!*good)
        trace_line(l->core->trace, TRACE_LOG, TRACE_WARN, "%s is damaged: not used", path);
    return 0;
}

/* Newest first: snapshots above `below` say what is not in the log (any more): they go, and so do
 * those that belong to no segment, but for the one that is used. */
int log_load_producers(struct log *l, int64_t below)
{
    struct folder_listing f = {.log = l};
    bool good = false;
    if (l->snapshots_found == 0)
        return 0;
    int error = folder_list(&f);
    l->snapshot_offset = NO_OFFSET;
    for (uint32_t i = f.snapshots.count; i > 0 && error == 0; i--) {
        int64_t offset = f.snapshots.offsets[i - 1];
        if (offset <= below && !good)
            error = snapshot_read(l, offset, &good);
        if (good && l->snapshot_offset == NO_OFFSET)
            l->snapshot_offset = offset;
        bool of_segment = l->segments[segment_find(l, offset)]->base == offset;
        if (offset <= below && (of_segment || offset == l->snapshot_offset))
            continue;
        char path[PATH_ROOM];
        path_segment(path, l->dir->path, l->folder, offset, ".snapshot");
        SOMETIMES_IF(offset > below, "a snapshot tells of producers that are no more");
        if (offset > below) /* it would be believed once the log has grown past it */
            dir_remove_file(l->dir, path);
        else
            removal_plan(l->core, l->dir->index, path, REMOVE_FILE, 0);
    }
    found_free(l, &f.segments);
    found_free(l, &f.snapshots);
    found_free(l, &f.aborted);
    return error;
}

int log_rebuild_epochs(struct log *l)
{
    int error = 0;
    epochs_free(l);
    for (uint32_t i = 0; i < l->segments_count && error == 0; i++) {
        struct segment *s = l->segments[i];
        struct scan scan;
        struct batch_header h;
        const uint8_t *batch;
        if (!s->created || s->written == 0)
            continue;
        scan_begin(&scan, l, s, 0, s->written, SCAN_HEADERS);
        while (error == 0 && scan_next(&scan, &batch, &h)) {
            error = epochs_reserve(l) ? 0 : -ENOMEM;
            bool first = epochs_latest(l) < 0; /* it began where the log does, compacted or not */
            if (error == 0 && h.magic == 2)
                epochs_assign(l, h.leader_epoch,
                              first ? MIN(l->start_offset, h.base_offset) : h.base_offset);
        }
        if (error == 0 && scan.ended == SCAN_FAILED)
            error = scan.error;
        scan_end(&scan);
    }
    l->epochs_dirty = true;
    return error;
}
