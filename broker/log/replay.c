/* Laying the WAL's batches over one partition's segments.
 *
 *   segment    │ durable by construction │ F: first batch of the WAL          │ behind the WAL
 *              │ must be there, else rot │ equal: left. Not equal: from here  │ sound batches stay,
 *              │                         │ on everything is written anew      │ the rest is cut
 *
 * Segments are written from memory without a sync, so after a power cut what is above F may be
 * anything. What is right is written once more where it stands, and only what is behind it shows
 * the difference: equal bytes leave what follows in place.
 *
 * Comparing and writing go through windows of 64 KiB, direct-mapped by log, because the WAL holds
 * the batches of thousands of logs in the order they came.
 *
 * Invariants
 *  1. Below F nothing is changed, ever. If it is not there the log is FAILED, unless all of it is
 *     below the log start: then the log begins at F.
 *  2. After replay_end the log holds exactly the WAL's batches from F on, in segments begun where
 *     the WAL says they began, and perhaps sound batches behind (a write.caching log's).
 *  3. Indexes cover the same.
 *
 * Failure: rot is reported with its place and takes the partition offline; errors of the disk end
 * the replay of the directory. */
#include "broker/log/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/epoch.h"
#include "broker/log/flush.h"
#include "broker/log/load.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"
#include "broker/log/rebuild.h"
#include "broker/log/scan.h"
#include "broker/log/segment.h"
#include "broker/log/txn_index.h"
#include "core/lab.h"

#define WINDOWS      64u
#define WINDOW_BYTES (64u << 10)

struct window {
    struct log *log; /* NULL: free */
    struct segment *segment;
    uint32_t begin, filled;
    bool dirty; /* to be written */
    uint8_t data[WINDOW_BYTES];
};

struct replays {
    struct log_core *core;
    struct window *windows[WINDOWS]; /* made when first needed */
};

struct replay {        /* of one log */
    uint32_t segment;  /* index of the one the next batch goes to */
    uint32_t position; /* in it */
    int64_t next;      /* offset expected */
    bool writing;      /* nothing of what is there is to be kept any more */
    struct index_writer indexes;
};

struct replays *replays_make(struct log_core *c)
{
    struct replays *rs = mem_zalloc(c->mem, sizeof(*rs));
    if (rs != NULL)
        rs->core = c;
    return rs;
}

void replays_free(struct replays *rs)
{
    for (uint32_t i = 0; i < WINDOWS; i++)
        mem_free(rs->core->mem, rs->windows[i], sizeof(struct window));
    mem_free(rs->core->mem, rs, sizeof(*rs));
}

/* ---- windows --------------------------------------------------------------------------------- */

static int window_write(struct window *w)
{
    if (w->log == NULL || !w->dirty || w->filled == 0)
        return 0;
    struct log *l = w->log;
    segment_use(w->segment);
    int fd = segment_fd(l, w->segment, FILE_LOG);
    int64_t done = fd < 0 ? fd : io_pwrite(l->core->io, fd, w->data, w->filled, w->begin);
    segment_unuse(l, w->segment);
    w->dirty = false;
    if (done < 0)
        return (int)done;
    return done == w->filled ? 0 : -EIO;
}

/* The window of this log, standing at its segment; its content as it was if it was there. */
static int window_take(struct replays *rs, struct log *l, struct segment *s, struct window **taken)
{
    struct window **w = &rs->windows[l->slot % WINDOWS];
    if (*w == NULL)
        *w = mem_zalloc(rs->core->mem, sizeof(**w));
    if (*w == NULL)
        return -ENOMEM;
    *taken = *w;
    if ((*w)->log == l && (*w)->segment == s)
        return 0;
    int error = window_write(*w);
    (*w)->log = l;
    (*w)->segment = s;
    (*w)->begin = (*w)->filled = 0;
    return error;
}

static int window_drop(struct replays *rs, struct log *l)
{
    struct window *w = rs->windows[l->slot % WINDOWS];
    if (w == NULL || w->log != l)
        return 0;
    int error = window_write(w);
    w->log = NULL;
    return error;
}

/* Are these bytes at this position of the file? Then they are written there once more all the same:
 * when a sync has failed in the life before, the page cache shows what the device does not have,
 * and only a write makes the next sync bring it there. */
static int window_compare(struct replays *rs, struct log *l, struct segment *s, uint32_t position,
                          const uint8_t *bytes, uint32_t size, bool *equal)
{
    struct window *w;
    int error = window_take(rs, l, s, &w);
    *equal = error == 0 && (uint64_t)position + size <= s->written;
    while (size > 0 && *equal) {
        if (position < w->begin || position >= w->begin + w->filled) {
            error = window_write(w);
            if (error != 0)
                return error;
            segment_use(s);
            int fd = segment_fd(l, s, FILE_LOG);
            int64_t got = fd < 0 ? fd : io_pread(l->core->io, fd, w->data, WINDOW_BYTES, position);
            segment_unuse(l, s);
            w->begin = position;
            w->filled = got < 0 ? 0 : (uint32_t)got;
            if (got <= 0) {
                *equal = false;
                return (int)got;
            }
        }
        uint32_t part = MIN(size, w->begin + w->filled - position);
        *equal = memcmp(w->data + (position - w->begin), bytes, part) == 0;
        w->dirty |= *equal;
        position += part;
        bytes += part;
        size -= part;
    }
    return error;
}

static int window_append(struct replays *rs, struct log *l, struct segment *s, uint32_t position,
                         const uint8_t *bytes, uint32_t size)
{
    struct window *w;
    int error = window_take(rs, l, s, &w);
    while (size > 0 && error == 0) {
        if (!w->dirty || position != w->begin + w->filled || w->filled == WINDOW_BYTES) {
            error = window_write(w);
            w->begin = position;
            w->filled = 0;
            w->dirty = true;
        }
        uint32_t part = MIN(size, WINDOW_BYTES - w->filled);
        memcpy(w->data + w->filled, bytes, part);
        w->filled += part;
        position += part;
        bytes += part;
        size -= part;
    }
    return error;
}

/* ---- one log --------------------------------------------------------------------------------- */

/* The WAL will be written over, and a later start could not know any more: so a note is left. */
static int replay_note(struct log *l, const char *name, int64_t offset, const char *what)
{
    char path[PATH_ROOM], text[256];
    path_in_folder(path, l->dir->path, l->folder, name);
    int size = snprintf(text, sizeof(text), "%" PRId64 "%s\n", offset, what);
    assert(size > 0 && (size_t)size < sizeof(text));
    return io_replace(l->core->io, path, text, (size_t)size);
}

int replay_rot(struct log *l, int64_t offset, const char *what)
{
    trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s/%s: rot: %s at offset %" PRId64 "; nothing was changed. The partition stays "
               "offline till it is restored and " LOG_DAMAGED_NAME " is removed from it",
               l->dir->path, l->folder, what, offset);
    l->core->stats.rot++;
    l->dir->keep_wal = true;
    log_fail(l, "durable records are damaged or missing");
    char text[128];
    int size = snprintf(text, sizeof(text), ": %s", what);
    assert(size > 0 && (size_t)size < sizeof(text));
    return replay_note(l, LOG_DAMAGED_NAME, offset, text);
}

/* Epochs and producers as they were before the WAL's first batch. */
static int replay_begin_state(struct log *l, int64_t first)
{
    int error = epochs_read(l);
    if (error == -ENOENT || error == -EILSEQ)
        error = first > l->segments[0]->base ? log_rebuild_epochs(l) : 0;
    epochs_truncate_end(l, first);
    if (error == 0)
        error = log_load_producers(l, INT64_MAX);
    /* Else what is between the newest snapshot and the WAL has no producers. */
    if (error == 0 && l->snapshot_damaged)
        error = replay_producers(l, MAX(l->snapshot_offset, l->start_offset), first);
    return error;
}

/* The WAL begins where this segment was complete: its records are durable, and the last entry of
 * its time index, which is written when the next segment begins, perhaps not. */
static int replay_seal_again(struct log *l, struct segment *s)
{
    struct index_cursor cursor;
    uint32_t position = s->written;
    int64_t end;
    int error = segment_measure(l, s, &position, &cursor, &end);
    if (error == -ESTALE || error == -EILSEQ)
        return 0; /* an index that lies, or rot: who reads there will see it */
    if (error != 0)
        return error;
    SOMETIMES_IF(cursor.max_timestamp > cursor.last_time, "a segment's last time was lost");
    s->ahead = s->behind = cursor;
    s->loaded = true;
    return segment_seal(l, s);
}

/* What lies below the WAL is not whole. If all of it is below the log start nobody is to have it:
 * retention was taking it when the power went, which kept some of the names. What the log has is
 * in the WAL from here on, and is written anew. */
static int replay_lacks(struct log *l, const struct wal_entry *e, int64_t offset, const char *what)
{
    struct replay *r = l->replay;
    if (e->base_offset > l->start_offset || l->cached || (e->flags & WAL_AFTER_CACHED) != 0)
        return replay_rot(l, offset, what);
    SOMETIMES("a log that lacks what was deleted is begun anew");
    int error = segments_remove_from(l, 0);
    if (error != 0)
        return error;
    if (segment_add(l, e->base_offset) == NULL)
        return -ENOMEM;
    l->writing = r->segment = r->position = 0;
    l->end_offset = r->next = e->base_offset;
    return 0;
}

/* The file with the epochs is not synced: a power cut may have brought back one that lacks the
 * newest. The batch before the WAL's first one tells. */
static int replay_check_epochs(struct log *l, int64_t first)
{
    if (l->last_epoch <= epochs_latest(l))
        return 0;
    SOMETIMES("the epochs below a replay are learned by scan");
    int error = log_rebuild_epochs(l);
    epochs_truncate_end(l, first);
    return error;
}

static int replay_begin(struct log *l, const struct wal_entry *e)
{
    struct replay *r = l->replay = mem_zalloc(l->core->mem, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    int error = replay_begin_state(l, e->base_offset);
    if (error != 0)
        return error;
    r->segment = l->segments_count - 1;
    r->position = segment_active(l)->written;
    r->next = l->end_offset;
    struct index_cursor cursor = segment_active(l)->behind;
    if (e->base_offset > l->end_offset && e->base_offset <= l->start_offset) {
        error = replay_lacks(l, e, l->end_offset, "records are missing");
        index_cursor_init(&cursor);
    } else if (e->base_offset < l->end_offset) {
        r->segment = segment_find(l, e->base_offset);
        struct segment *s = l->segments[r->segment];
        l->last_epoch = -1; /* what was behind says nothing of what is before */
        /* Its segment's file may have lost its name: then it follows a segment that is complete. */
        bool begins = (e->flags & WAL_FIRST_IN_SEGMENT) != 0 && s->base != e->base_offset;
        r->position = begins ? s->written : e->position;
        bool reached = e->position <= s->written && s->base <= e->base_offset;
        if (reached && r->segment > 0 && s->base == e->base_offset)
            error = replay_seal_again(l, l->segments[r->segment - 1]);
        if (error != 0)
            return error;
        if (reached)
            error = segment_measure(l, s, &r->position, &cursor, &r->next);
        if (error == -ESTALE && r->position != e->position) /* an index that lies: begin without */
            r->position = e->position, index_cursor_init(&cursor), r->next = e->base_offset,
            error = 0;
        bool whole = reached && error == 0 && r->next == e->base_offset;
        if (!whole && (error == 0 || error == -EILSEQ)) {
            error = reached
                        ? replay_lacks(l, e, r->next, "records below the WAL are damaged")
                        : replay_lacks(l, e, e->base_offset, "the segments do not reach the WAL");
            index_cursor_init(&cursor);
        }
    }
    if (error == 0)
        error = replay_check_epochs(l, r->next);
    if (error != 0 || l->state.now != LOG_OPEN)
        return error;
    index_writer_begin(&r->indexes, l, l->segments[r->segment], &cursor);
    l->changed = true;
    l->aborted_from = r->next;
    return txn_index_truncate(l, l->segments[r->segment], r->next);
}

/* The segment is complete at r->position. */
static int replay_close_segment(struct replays *rs, struct log *l, bool seal)
{
    struct replay *r = l->replay;
    struct segment *s = l->segments[r->segment];
    int error = window_drop(rs, l);
    if (error == 0)
        error = index_writer_flush(&r->indexes);
    if (error == 0)
        error = txn_index_write(l, s, r->next);
    if (error == 0 && s->created) {
        l->size_bytes += r->position - MIN(s->size, r->position);
        s->size = s->written = MAX(s->size, r->position);
        error = segment_cut(l, s, r->position, &r->indexes.cursor);
    }
    s->ahead = s->behind = r->indexes.cursor;
    s->loaded = true;
    if (error == 0 && seal)
        error = segment_seal(l, s);
    return error;
}

/* The next batch begins a segment. */
static int replay_next_segment(struct replays *rs, struct log *l, int64_t base)
{
    SOMETIMES("replay goes on in another segment");
    struct replay *r = l->replay;
    struct index_cursor none;
    int error = replay_close_segment(rs, l, true);
    bool there = !r->writing && r->segment + 1 < l->segments_count &&
                 l->segments[r->segment + 1]->base == base;
    if (error == 0 && !there) {
        r->writing = true;
        error = segments_remove_from(l, r->segment + 1);
        if (error == 0 && segment_add(l, base) == NULL)
            error = -ENOMEM;
    }
    if (error != 0)
        return error;
    r->segment++;
    r->position = 0;
    index_cursor_init(&none);
    index_writer_begin(&r->indexes, l, l->segments[r->segment], &none);
    return txn_index_truncate(l, l->segments[r->segment], base);
}

static int replay_learn(struct log *l, const struct batch_header *h, const uint8_t *batch)
{
    int error = 0;
    if (h->base_offset >= l->snapshot_offset && !DEFECT(13))
        error = producer_learn(l, h, batch, h->size);
    if (error == 0 && !epochs_reserve(l))
        error = -ENOMEM;
    if (error == 0)
        epochs_assign(l, h->leader_epoch, h->base_offset);
    return error;
}

/* A batch that now stands at r->position of r->segment. */
static int replay_count(struct log *l, const struct batch_header *h, const uint8_t *batch)
{
    struct replay *r = l->replay;
    struct segment *s = l->segments[r->segment];
    int error =
        index_writer_add(&r->indexes, r->position, h->size, batch_last_offset(h), h->max_timestamp);
    if (r->position == 0)
        s->first_timestamp = h->max_timestamp;
    r->position += h->size;
    r->next = batch_last_offset(h) + 1;
    return error == 0 ? replay_learn(l, h, batch) : error;
}

/* Counts sound batches that follow each other in the current segment, below `limit`. */
static int replay_walk(struct replays *rs, struct log *l, int64_t limit)
{
    struct replay *r = l->replay;
    struct segment *s = l->segments[r->segment];
    struct scan scan;
    struct batch_header h;
    const uint8_t *batch;
    if (r->writing || r->position >= s->written)
        return 0;
    int error = window_drop(rs, l);
    if (error == 0)
        error = segment_reread(l, s);
    scan_begin(&scan, l, s, r->position, s->written, SCAN_VERIFY);
    scan.next_offset = r->next;
    while (error == 0 && r->next < limit && scan_next(&scan, &batch, &h)) {
        if (h.magic != 2 || h.base_offset != r->next)
            break;
        error = replay_count(l, &h, batch);
    }
    if (error == 0 && scan.ended == SCAN_FAILED)
        error = scan.error;
    scan_end(&scan);
    return error;
}

/* Batches are missing between r->next and what the WAL has. */
static int replay_gap(struct replays *rs, struct log *l, const struct wal_entry *e)
{
    struct replay *r = l->replay;
    int error = replay_walk(rs, l, e->base_offset); /* what write.caching put there */
    if (error != 0 || r->next == e->base_offset)
        return error;
    if ((e->flags & WAL_AFTER_CACHED) == 0)
        return replay_rot(l, r->next, "records are missing");
    trace_line(l->core->trace, TRACE_LOG, TRACE_WARN,
               "%s/%s: offsets %" PRId64 " to %" PRId64
               " were acknowledged under write.caching and are lost",
               l->dir->path, l->folder, r->next, e->base_offset - 1);
    r->writing = true;
    error = replay_note(l, LOG_GAPS_NAME, r->next, "");
    r->next = e->base_offset;
    l->gaps = true;
    return error != 0 ? error : segments_remove_from(l, r->segment + 1);
}

int replay_batch(struct replays *rs, struct log *l, const struct wal_entry *e, const uint8_t *batch)
{
    int error = 0;
    if (l->state.now == LOG_OPEN && l->replay == NULL)
        error = replay_begin(l, e);
    if (error != 0 || l->state.now != LOG_OPEN)
        return error;
    struct replay *r = l->replay;
    if (e->base_offset > r->next)
        error = replay_gap(rs, l, e);
    if (error != 0 || l->state.now != LOG_OPEN || e->base_offset < r->next)
        return error;
    struct segment *s = l->segments[r->segment];
    if ((e->flags & WAL_FIRST_IN_SEGMENT) != 0 && s->base != e->base_offset)
        error = replay_next_segment(rs, l, e->base_offset);
    s = l->segments[r->segment];
    if (error == 0 && !s->created) {
        r->writing = true;
        error = segment_create(l, s);
    }
    bool equal = false;
    if (error == 0 && !r->writing)
        error = window_compare(rs, l, s, r->position, batch, e->length, &equal);
    SOMETIMES_IF(equal, "what the WAL has is in its segment already");
    if (error == 0 && !equal) {
        SOMETIMES_IF(!r->writing, "replay begins to write what a segment lacks");
        if (!r->writing)
            error = segments_remove_from(l, r->segment + 1);
        r->writing = true;
        if (error == 0)
            error = window_append(rs, l, s, r->position, batch, e->length);
    }
    struct batch_header h;
    batch_decode_header(batch, &h);
    return error != 0 ? error : replay_count(l, &h, batch);
}

int replay_aborted(struct log *l, const struct wal_entry *e, const uint8_t *bytes)
{
    SOMETIMES("the WAL tells of an aborted transaction");
    struct wal_aborted told;
    if (l->replay == NULL || e->last_offset >= l->replay->next)
        return 0; /* its marker was not laid */
    memcpy(&told, bytes, sizeof(told));
    SOMETIMES("the aborted transaction of a marker that was laid is noted");
    struct aborted_txn t = {.producer_id = told.producer_id,
                            .first_offset = e->base_offset,
                            .last_offset = e->last_offset,
                            .stable_offset = told.stable_offset};
    if (t.producer_id < 0 || t.first_offset < 0 || t.last_offset < t.first_offset)
        return 0; /* not what anybody writes */
    if (!txn_index_reserve(l))
        return -ENOMEM;
    txn_index_add(l, &t);
    return 0;
}

/* What is sound behind the WAL's last batch stays, segment by segment. */
static int replay_behind(struct replays *rs, struct log *l)
{
    struct replay *r = l->replay;
    int error = replay_walk(rs, l, INT64_MAX);
    while (error == 0 && !r->writing && r->position == l->segments[r->segment]->written &&
           r->segment + 1 < l->segments_count && l->segments[r->segment + 1]->base == r->next) {
        error = replay_next_segment(rs, l, r->next);
        if (error == 0)
            error = replay_walk(rs, l, INT64_MAX);
    }
    return error != 0 ? error : segments_remove_from(l, r->segment + 1);
}

int replay_end(struct replays *rs, struct log *l, bool whole)
{
    struct replay *r = l->replay;
    int error = 0;
    if (r == NULL)
        return 0;
    if (whole && l->state.now == LOG_OPEN)
        error = replay_behind(rs, l);
    if (whole && l->state.now == LOG_OPEN && error == 0)
        error = replay_close_segment(rs, l, false);
    if (whole && l->state.now == LOG_OPEN && error == 0) {
        l->writing = l->segments_count - 1;
        l->end_offset = r->next;
        l->torn = false;
        l->producers_dirty = l->producers != NULL && l->snapshot_offset != l->end_offset;
    }
    struct window *w = rs->windows[l->slot % WINDOWS];
    if (w != NULL && w->log == l)
        w->log = NULL;
    mem_free(l->core->mem, r, sizeof(*r));
    l->replay = NULL;
    return error;
}

/* ---- without a WAL --------------------------------------------------------------------------- */

int replay_producers(struct log *l, int64_t from, int64_t to)
{
    SOMETIMES("producers are learned by scan");
    int error = 0;
    for (uint32_t i = segment_find(l, from); i < l->segments_count && error == 0; i++) {
        struct segment *s = l->segments[i];
        struct scan scan;
        struct batch_header h;
        const uint8_t *batch;
        if (!s->created || s->written == 0)
            continue;
        scan_begin(&scan, l, s, 0, s->written, SCAN_WHOLE);
        while (error == 0 && scan_next(&scan, &batch, &h))
            if (h.magic == 2 && batch_last_offset(&h) >= from &&
                h.base_offset < to) /* a log may start inside one */
                error = producer_learn(l, &h, batch, h.size);
        if (error == 0 && scan.ended == SCAN_FAILED)
            error = scan.error;
        scan_end(&scan);
        if (error == 0)
            error = txn_index_write(l, s, INT64_MAX); /* what was learned belongs here */
    }
    return error;
}

/* Behind a segment that ends early nothing was promised either, and would leave a gap. Where a log
 * is compacted, or was, gaps are ordinary. */
static bool scan_ends_log(const struct log *l, uint32_t index, bool cut, int64_t end)
{
    bool gaps = (log_config(l)->cleanup_policy & CLEANUP_COMPACT) != 0;
    if (cut || gaps || index + 1 == l->segments_count)
        return cut;
    int64_t next = l->segments[index + 1]->base;
    return next != end && next > MAX(l->settled_end, l->cleaned_end);
}

int replay_by_scan(struct log *l)
{
    SOMETIMES("segments are scanned");
    int64_t from = MAX(l->recovery_point, l->start_offset), end = 0;
    bool cut = false;
    int error = epochs_read(l);
    if (error == -ENOENT || error == -EILSEQ)
        error = 0;
    for (uint32_t i = segment_find(l, from); i < l->segments_count && error == 0; i++) {
        struct segment *s = l->segments[i];
        if (!s->created)
            continue;
        error =
            segment_reread(l, s); /* nothing else holds these batches, and they are built upon */
        if (error == 0)
            error = segment_rebuild(l, s, &cut, &end);
        if (error == 0)
            error = txn_index_truncate(l, s, s->base); /* made anew with the producers */
        l->aborted_from = MIN(l->aborted_from, s->base);
        if (error == 0 && scan_ends_log(l, i, cut, end)) {
            trace_line(l->core->trace, TRACE_LOG, TRACE_WARN,
                       "%s/%s: cut at offset %" PRId64 ", byte %" PRIu32 " of segment %" PRId64
                       ": what was behind is damaged and was not promised",
                       l->dir->path, l->folder, end, s->written, s->base);
            error = segments_remove_from(l, i + 1);
        }
    }
    if (error != 0)
        return error;
    struct segment *active = segment_active(l);
    uint32_t position = active->written;
    l->writing = l->segments_count - 1;
    l->torn = false;
    l->changed = true;
    error = segment_measure(l, active, &position, &active->behind, &l->end_offset);
    active->ahead = active->behind;
    epochs_truncate_end(l, l->end_offset);
    return error;
}
