/* What goes, and when: Kafka's rules.
 *
 *   every log.retention.check.interval.ms, oldest segment first, only below the high watermark:
 *     wholly below the log start offset          always
 *     more than retention.bytes without it       cleanup.policy delete
 *     its largest timestamp older than .ms       cleanup.policy delete; the file's time if it has
 * none the active segment goes too: a new one is begun first, so that the log keeps its end
 *
 *   segment ─▶ files renamed .deleted ─▶ file.delete.delay.ms ─▶ removed
 *   topic   ─▶ folder renamed -delete ─▶ file.delete.delay.ms ─▶ removed
 *
 * DeleteRecords moves the log start offset at once and is durable by an entry of the WAL. Before
 * that entry's file is written over, the offset is put into the partition's folder (log-start.torc,
 * the offset and the CRC-32C of its digits: a larger one would hide records, or, above the end,
 * cost all of them), because Kafka's own place for it, one file for all partitions, is written
 * rarely.
 *
 * Retention moves the log start in the same way, and its segments lose their names when that offset
 * is in the folder, durably, by a flush of names (flush.c). The WAL's entry would not do, although
 * it is durable before: a recovery meets the batches of those segments in the WAL before it, and
 * would take them for some whose names a power cut has lost.
 *
 * In a FULL directory nobody waits: segments are looked at every second, files go without their
 * delay (whoever reads them has them open), and a deletion does not wait for a WAL that is stalled.
 *
 * Invariants
 *  1. The log start offset never falls, and the end never moves here.
 *  2. A segment with data in memory only is not removed.
 *  3. A new active segment, and the log start, are on the device before an old segment is renamed.
 *
 * Failure: a rename that fails fails the directory; removals are removal.c's. */
#include "broker/log/retention.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/flush.h"
#include "broker/log/load.h"
#include "broker/log/path.h"
#include "broker/log/removal.h"
#include "broker/log/segment.h"
#include "core/crc32c.h"
#include "core/lab.h"

#define LOG_START_TEXT_MAX 64

/* ---- folders --------------------------------------------------------------------------------- */

static uint64_t delay_end(const struct log *l)
{
    uint64_t delay_ms = (uint64_t)MAX(log_config(l)->file_delete_delay_ms, 0);
    uint64_t now_ns = io_now_ns(l->core->io);
    return delay_ms > (UINT64_MAX - now_ns) / NS_PER_MS ? UINT64_MAX
                                                        : now_ns + delay_ms * NS_PER_MS;
}

void retention_remove_folder(struct log *l)
{
    struct log_dir *d = l->dir;
    char name[PATH_ROOM], path[PATH_ROOM];
    if (d->state.now == DIR_FAILED)
        return;
    int error = dir_move_aside(d, l->folder, "delete", name);
    SOMETIMES_IF(error == 0, "the folder of a deleted log is moved aside");
    if (error == -ENOENT)
        return; /* it never came to be */
    if (error == -ENOSPC || error == -EDQUOT) {
        dir_full(d); /* the next start finds it without a topic */
        return;
    }
    if (error != 0) {
        dir_fail(d, error, "renaming the folder of a deleted topic");
        return;
    }
    path_in_dir(path, d->path, name);
    removal_plan(l->core, d->index, path, REMOVE_FOLDER, delay_end(l));
}

/* ---- segments -------------------------------------------------------------------------------- */

int retention_rename(struct log *l, const struct segment *s, bool snapshot)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".txnindex",
                                           ".snapshot"};
    size_t count = sizeof(suffixes) / sizeof(suffixes[0]) - (snapshot ? 0 : 1);
    for (size_t i = 0; i < count; i++) {
        char from[PATH_ROOM], to[PATH_ROOM], suffix[32];
        snprintf(suffix, sizeof(suffix), "%s.deleted", suffixes[i]);
        path_segment(from, l->dir->path, l->folder, s->base, suffixes[i]);
        path_segment(to, l->dir->path, l->folder, s->base, suffix);
        int error = io_rename(l->core->io, from, to);
        if (error == -ENOENT)
            continue;
        if (error != 0)
            return error;
        removal_plan(l->core, l->dir->index, to, s->users > 0 ? REMOVE_READ_FILE : REMOVE_FILE,
                     delay_end(l));
    }
    return 0;
}

/* The log start offset moves to where the remaining segments begin. */
static void log_move_start(struct log *l, int64_t offset)
{
    if (offset <= l->start_offset)
        return;
    assert(offset <= l->high_watermark);
    l->start_offset = offset;
    l->changed = true;
    epochs_truncate_start(l, offset);
}

int64_t retention_largest_time(struct log *l, struct segment *s)
{
    if (s->created && segment_load(l, s) != 0)
        return INT64_MAX; /* not known: it stays */
    if (s->ahead.max_timestamp >= 0)
        return s->ahead.max_timestamp;
    return s->modified_ms > 0 ? s->modified_ms : s->created_ms;
}

static bool segment_expired(struct log *l, uint32_t index, uint64_t excess_bytes)
{
    const struct topic_config *t = log_config(l);
    struct segment *s = l->segments[index];
    bool last = index + 1 == l->segments_count;
    int64_t end = last ? l->end_offset : l->segments[index + 1]->base;
    if (l->high_watermark < end || (last && s->size == 0))
        return false;
    SOMETIMES_IF(!last && end <= l->start_offset, "a segment below the log start goes");
    if (!last && end <= l->start_offset)
        return true;
    if ((t->cleanup_policy & CLEANUP_DELETE) == 0)
        return false;
    SOMETIMES_IF(t->retention_bytes >= 0 && excess_bytes >= s->size && excess_bytes > 0,
                 "a segment goes because its log is too large");
    if (t->retention_bytes >= 0 && (excess_bytes >= s->size || DEFECT(25)) && excess_bytes > 0)
        return true;
    return t->retention_ms >= 0 &&
           io_wall_ms(l->core->io) - retention_largest_time(l, s) > t->retention_ms;
}

static uint32_t segments_expired(struct log *l)
{
    const struct topic_config *t = log_config(l);
    uint64_t keep = (uint64_t)MAX(t->retention_bytes, 0);
    uint64_t excess = t->retention_bytes >= 0 && l->size_bytes > keep ? l->size_bytes - keep : 0;
    uint32_t count = 0;
    while (count < l->segments_count && segment_expired(l, count, excess)) {
        excess -= MIN(excess, (uint64_t)l->segments[count]->size);
        count++;
    }
    return count;
}

/* Begins a new active segment. */
static int log_roll_now(struct log *l)
{
    assert(l->flush == NULL && l->tail.unflushed == 0);
    SOMETIMES("a log whose every segment is old rolls");
    struct segment *old = segment_active(l);
    if (!segment_roll(l))
        return -ENOMEM;
    int error = segment_seal(l, old);
    if (error == 0)
        error = segment_create(l, segment_active(l));
    if (error == 0)
        l->writing = l->segments_count - 1;
    return error;
}

/* The WAL says that the log begins at offset now. False: it has no room. */
static bool log_tell_start(struct log *l, int64_t offset)
{
    struct wal *w = &l->dir->wal;
    struct wal_entry entry = {.type = WAL_LOG_START,
                              .topic_id = l->key.topic_id,
                              .partition = l->key.partition,
                              .leader_epoch = l->leader_epoch,
                              .base_offset = offset,
                              .last_offset = offset,
                              .slot = l->slot};
    assert(offset > l->start_offset);
    if (wal_reserve(w, 0) == NULL)
        return false;
    if (!DEFECT(30))
        wal_commit(w, &entry);
    wal_hold(w, l);
    log_move_start(l, offset);
    l->start_dirty = true;
    log_moved(l); /* what is stable may have moved with it */
    return true;
}

static bool names_durable(const struct log *l)
{
    return !l->start_dirty && !l->folder_dirty && !l->folder_new;
}

/* The same at once, where no flush writes to a full directory. */
static int names_sync(struct log *l)
{
    int error = l->start_dirty ? log_start_write(l) : 0;
    if (error == -ENOSPC || error == -EDQUOT) { /* what makes space does not wait for it */
        dir_full(l->dir);
        error = 0;
    }
    if (error == 0 && (l->folder_new || l->folder_dirty))
        error = dir_sync_folder(l->dir, l->folder, l->folder_new);
    if (error == 0)
        l->folder_new = l->folder_dirty = false;
    return error;
}

/* What is wholly below the log start. */
static int log_remove_segments(struct log *l)
{
    int error = 0;
    while (error == 0 && l->writing > 0 && l->segments[1]->base <= l->start_offset) {
        struct segment *s = l->segments[0];
        SOMETIMES("segments are removed");
        error = s->created ? retention_rename(l, s, true) : 0;
        if (error == 0)
            segment_remove_first(l);
    }
    return error;
}

/* The log start moves to behind the first count segments. They go when that is durable. */
static int log_retire(struct log *l, uint32_t count)
{
    bool all = count == l->segments_count;
    if ((all && l->tail.unflushed > 0) || (!all && count > l->writing)) {
        SOMETIMES("segments that are to go are flushed first");
        flush_soon(l); /* invariant 2: then at the next check */
        return 0;
    }
    int error = all ? log_roll_now(l) : 0;
    if (error == -ENOSPC || error == -EDQUOT) { /* the one that cannot be replaced stays */
        dir_full(l->dir);
        count--;
        error = 0;
    }
    if (error != 0 || count == 0)
        return error;
    int64_t start = l->segments[count]->base;
    if (start > l->start_offset && !log_tell_start(l, start))
        return 0; /* at the next check */
    if (!dir_writable(l->dir)) {
        error = names_sync(l);
        return error == 0 ? log_remove_segments(l) : error;
    }
    l->want_names = true;
    flush_soon(l);
    list_push_back(&l->core->retiring, &l->retire_link);
    return 0;
}

static void retention_look(struct log *l, bool further)
{
    list_remove(&l->retire_link);
    if (l->cleaning || l->flush != NULL)
        return;
    int error = names_durable(l) ? log_remove_segments(l) : 0;
    uint32_t count = error == 0 && further ? segments_expired(l) : 0;
    if (count > 0)
        error = log_retire(l, count);
    if (error == -ENOSPC || error == -EDQUOT)
        dir_full(l->dir);
    else if (error != 0 && !log_error_passes(error))
        dir_fail(l->dir, error, "removing old segments");
}

void retention_of_log(struct log *l)
{
    retention_look(l, true);
}

void retention_turn(struct log_core *c)
{
    struct list due, *at;
    list_init(&due);
    list_splice_back(&due, &c->retiring);
    for (uint32_t looks = 4 * FLUSH_OPS_MAX; looks > 0 && (at = list_pop_front(&due)) != NULL;
         looks--) {
        struct log *l = container_of(at, struct log, retire_link);
        if (l->flush != NULL || l->want_names)
            list_push_back(&c->retiring, at);
        else
            retention_look(l, false); /* of a flush that failed, at the next check */
    }
    list_splice_back(&due, &c->retiring); /* those not looked at come first */
    list_splice_back(&c->retiring, &due);
}

void log_core_retain_now(struct log_core *c)
{
    c->retention_left = c->table_room;
}

/* Deletions that wait in a WAL which has no file to go on in: their offsets go where the flusher
 * would put them. What cannot be written there either is refused, and has still moved the start. */
static void deletes_end_now(struct wal *w, struct wal_group *g)
{
    LIST_EACH(at, &g->deletes)
    {
        struct log_delete_records *d = container_of(at, struct log_delete_records, link);
        struct log *l = d->log;
        if (l->flush != NULL)
            continue; /* it may be about to write the same file */
        int error = l->start_dirty ? log_start_write(l) : 0;
        SOMETIMES("records are deleted without the WAL");
        if (error != 0 && error != -ENOSPC && error != -EDQUOT && !log_error_passes(error)) {
            dir_fail(w->dir, error, "writing a log start"); /* wal_fail answers it */
            return;
        }
        list_remove(&d->link);
        if (error == 0)
            list_push_back(&l->core->deletes_completed, &d->link);
        else
            delete_refuse(d, KE_KAFKA_STORAGE_ERROR);
    }
}

/* The WAL waits for space, and what makes space must not wait for the WAL. */
static void retention_of_full(struct log_dir *d)
{
    struct wal *w = &d->wal;
    if (d->state.now != DIR_FULL)
        return;
    log_core_retain_now(d->core);
    if (w->state.now != WAL_STALLED)
        return;
    LIST_EACH(at, &w->closed)
    {
        deletes_end_now(w, container_of(at, struct wal_group, link));
        if (w->state.now != WAL_STALLED)
            return;
    }
    if (w->open != NULL)
        deletes_end_now(w, w->open);
}

void retention_tick(struct log_core *c)
{
    uint64_t now_ns = io_now_ns(c->io);
    for (uint32_t i = 0; i < c->dirs_count; i++)
        retention_of_full(&c->dirs[i]);
    removal_tick(c->removal);
    if (c->retention_left == 0 && now_ns >= c->retention_due_ns) {
        c->retention_left = c->table_room;
        c->retention_due_ns = now_ns + (uint64_t)c->config.retention_check_ms * NS_PER_MS;
    }
    for (uint32_t i = 0; i < LOGS_PER_TICK && c->retention_left > 0; i++) {
        c->retention_left--;
        struct log *l = c->table[c->retention_left % c->table_room];
        if (l != NULL && l->state.now == LOG_OPEN && l->dir->state.now != DIR_FAILED)
            retention_of_log(l);
    }
}

/* ---- DeleteRecords --------------------------------------------------------------------------- */

void delete_refuse(struct log_delete_records *d, enum kafka_error error)
{
    assert(d->log != NULL);
    d->error = error;
    d->low_watermark = NO_OFFSET;
    list_push_back(&d->log->core->deletes_completed, &d->link);
}

static bool refused(struct log_delete_records *d, enum kafka_error error)
{
    d->error = error;
    d->low_watermark = NO_OFFSET;
    return false;
}

bool log_delete_records(struct log *l, struct log_delete_records *d)
{
    struct wal *w = &l->dir->wal;
    int64_t offset = d->offset == -1 ? l->high_watermark : d->offset;
    assert(d->done != NULL);
    d->log = l;
    list_init(&d->link);
    if (l->state.now != LOG_OPEN || l->core->phase.now != PHASE_SERVING)
        return refused(d, KE_KAFKA_STORAGE_ERROR);
    if ((log_config(l)->cleanup_policy & CLEANUP_DELETE) == 0)
        return refused(d, KE_POLICY_VIOLATION);
    SOMETIMES_IF(offset > l->high_watermark, "a deletion of records is refused");
    if (offset < 0 || offset > l->high_watermark)
        return refused(d, KE_OFFSET_OUT_OF_RANGE);
    if (offset > l->start_offset && !log_tell_start(l, offset))
        return refused(d, KE_KAFKA_STORAGE_ERROR);
    d->error = KE_NONE;
    d->low_watermark = l->start_offset;
    struct wal_group *g = wal_last_group(w); /* also a repeated one waits for the first */
    SOMETIMES_IF(d->offset != 0, "records are deleted");
    list_push_back(g != NULL ? &g->deletes : &l->core->deletes_completed, &d->link);
    return true;
}

static size_t log_start_text(const struct log *l, char *text, size_t room)
{
    size_t digits = (size_t)snprintf(text, room, "%" PRId64, l->start_offset);
    size_t more =
        (size_t)snprintf(text + digits, room - digits, " %" PRIu32 "\n", crc32c(0, text, digits));
    assert(digits + more < room);
    return digits + more;
}

int log_start_write(struct log *l)
{
    char path[PATH_ROOM], text[LOG_START_TEXT_MAX];
    assert(l->flush == NULL);
    size_t size = log_start_text(l, text, sizeof(text));
    path_in_folder(path, l->dir->path, l->folder, LOG_START_NAME);
    int error = io_replace(l->core->io, path, text, size);
    if (error == 0)
        l->start_dirty = false;
    return error;
}

int log_start_prepare(struct log *l, char *path)
{
    struct io *io = l->core->io;
    char text[LOG_START_TEXT_MAX];
    size_t size = log_start_text(l, text, sizeof(text));
    path_in_folder(path, l->dir->path, l->folder, LOG_START_NAME ".tmp");
    int fd = io_open(io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int64_t written = io_pwrite(io, fd, text, size, 0);
    io_close(io, fd);
    if (written < 0)
        return (int)written;
    return written == (int64_t)size ? 0 : -EIO;
}

int log_start_name(struct log *l)
{
    char from[PATH_ROOM], to[PATH_ROOM];
    path_in_folder(from, l->dir->path, l->folder, LOG_START_NAME ".tmp");
    path_in_folder(to, l->dir->path, l->folder, LOG_START_NAME);
    return io_rename(l->core->io, from, to);
}

bool log_start_parse(const char *text, int64_t *offset)
{
    char *digits_end, *end = NULL;
    long long value = strtoll(text, &digits_end, 10);
    bool sound = digits_end != text && *digits_end == ' ' && value >= 0 &&
                 strtoul(digits_end, &end, 10) == crc32c(0, text, (size_t)(digits_end - text)) &&
                 strcmp(end, "\n") == 0;
    *offset = sound ? value : NO_OFFSET;
    return sound;
}

int log_start_read(struct log *l, int64_t *offset)
{
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    *offset = NO_OFFSET;
    path_in_folder(path, l->dir->path, l->folder, LOG_START_NAME);
    int error = io_slurp(l->core->io, l->core->mem, path, LOG_START_TEXT_MAX, &text, &size);
    if (error == -ENOENT || error == -EFBIG)
        return 0;
    if (error != 0)
        return error;
    if (!log_start_parse(text, offset))
        trace_line(l->core->trace, TRACE_LOG, TRACE_WARN, "%s is damaged: not used", path);
    mem_free(l->core->mem, text, size + 1);
    return 0;
}
