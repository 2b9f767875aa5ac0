/* Recovery of a core's logs, between log_open of the last and the first append.
 *
 *   WAL of each directory ─▶ entry by entry to its log (replay.c) ─▶ what has no entries and was
 * not closed well: by scan ─▶ epochs, producers, snapshots ─▶ one sync of the file system
 *
 *   found                              a durable log            a write.caching log
 *   closed well (no WAL of ours,       as it is                 as it is
 *   clean-shutdown file there)
 *   WAL of ours, entries for the log   what the WAL proves      what the WAL proves, then sound
 * batches WAL of ours, no entries            as it is: everything     by scan from the recovery
 * point is synced no WAL of ours, unclean            by scan from the recovery point, as Kafka does
 *
 * Invariants
 *  1. Cost depends on what the WAL holds, not on the number or size of segments, except for scans.
 *  2. Replaying twice gives the same as once: until log_core_serve begins a new generation, a crash
 *     just repeats this.
 *  3. What only the WAL knew (producers, epochs, log start) is in files, synced, when this returns.
 *
 * Failure: an error of a directory fails the directory; rot fails the partition. */
#include "broker/log/recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/flush.h"
#include "broker/log/load.h"
#include "broker/log/log_core.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"
#include "broker/log/replay.h"
#include "broker/log/retention.h"
#include "broker/log/segment.h"
#include "broker/log/wal_scan.h"
#include "core/lab.h"

struct recovery {
    struct log_core *core;
    struct log_dir *dir;
    struct replays *replays;
};

/* The file of a segment that the WAL holds from its first batch on is not there, but younger ones
 * are: the power went before the folder was synced, and names are kept in any order. Everything is
 * in the WAL, so the log is written anew from here. (If it was retention that took the file, the
 * log start above it is told, for that is durable before the name goes.) */
static int recovery_begin_below(struct log *l, const struct wal_entry *e)
{
    int error = segments_remove_from(l, 0);
    if (error != 0)
        return error;
    l->end_offset = e->base_offset;
    l->start_offset = MAX(e->base_offset, l->start_told);
    l->writing = 0;
    l->changed = true;
    return segment_add(l, e->base_offset) == NULL ? -ENOMEM : 0;
}

static int recovery_entry(void *context, const struct wal_entry *e, const uint8_t *batch)
{
    struct recovery *v = context;
    struct log *l = log_find(v->core, e->topic_id, e->partition);
    SOMETIMES_IF(l == NULL, "the WAL tells of a log that is no more, or another core's");
    if (l == NULL || l->dir != v->dir || l->state.now != LOG_OPEN)
        return 0; /* deleted, or another core's now */
    if (e->type == WAL_LOG_START) {
        SOMETIMES("the WAL tells of a new log start");
        l->start_dirty |= e->base_offset > l->start_offset;
        l->start_offset = MAX(l->start_offset, e->base_offset);
        l->start_told = MAX(l->start_told, e->base_offset);
        return 0;
    }
    SOMETIMES_IF(e->last_offset < l->settled_end, "the WAL tells of what was compacted since");
    if (e->last_offset < l->settled_end && !DEFECT(14))
        return 0; /* in segments, on the device, and perhaps compacted since */
    if (e->type == WAL_ABORTED)
        return replay_aborted(l, e, batch);
    SOMETIMES_IF(e->last_offset < l->start_told && e->base_offset < l->segments[0]->base,
                 "the WAL tells of what was deleted since");
    if (e->last_offset < l->start_told && e->base_offset < l->segments[0]->base)
        return 0; /* deleted since, and the segment with it */
    if (e->base_offset < l->segments[0]->base && l->replay == NULL) {
        if ((e->flags & WAL_FIRST_IN_SEGMENT) == 0 || l->cached)
            return 0; /* of a segment that was durable: removed since by retention */
        int error = recovery_begin_below(l, e);
        if (error != 0)
            return error;
    }
    return replay_batch(v->replays, l, e, batch);
}

/* Durable records that the WAL has damaged: the segments may have them. */
static void recovery_lost(void *context, const struct wal_entry *e)
{
    struct recovery *v = context;
    struct log *l = log_find(v->core, e->topic_id, e->partition);
    if (l == NULL || l->dir != v->dir || e->last_offset < l->settled_end ||
        e->last_offset < l->start_offset)
        return;
    l->lost_end = MAX(l->lost_end, e->last_offset + 1);
    l->lost_aborted |= e->type == WAL_ABORTED;
}

/* ---- what follows for each log --------------------------------------------------------------- */

/* A log start above everything that is there: as Kafka, it begins there with nothing. */
static int log_begin_at_start(struct log *l)
{
    if (l->start_offset <= l->end_offset)
        return 0;
    trace_line(l->core->trace, TRACE_LOG, TRACE_WARN,
               "%s/%s ends at %" PRId64 ", below its log start %" PRId64 ": begun anew there",
               l->dir->path, l->folder, l->end_offset, l->start_offset);
    int error = segments_remove_from(l, 0);
    if (error != 0)
        return error;
    l->end_offset = l->start_offset;
    l->writing = 0;
    l->changed = true;
    return segment_add(l, l->start_offset) == NULL ? -ENOMEM : 0;
}

/* Does a log that was closed end elsewhere than it did then, or one that has nothing in the WAL
 * below what was in it? (A checkpoint of a directory that was not closed may be about a topic that
 * had the name before.) */
static bool log_ends_wrong(const struct log *l)
{
    bool closed = l->core->config.clean_start && l->recovery_point != NO_OFFSET &&
                  l->end_offset != l->recovery_point && l->recovery_point > l->start_offset;
    return closed || (l->end_offset < l->snapshot_offset && l->end_offset >= l->start_offset);
}

/* A log without WAL entries. */
static int log_recover_alone(struct log *l)
{
    const struct log_dir *d = l->dir;
    bool unclean = d->had_wal || !l->core->config.clean_start;
    if (l->folder_new)
        return 0; /* made just now */
    bool scanned = unclean && (l->cached || !d->had_wal) && l->segments[0]->created;
    if (scanned) {
        SOMETIMES("a log is recovered by scan");
        int error = replay_by_scan(l);
        if (error != 0)
            return error;
    } else if (log_ends_wrong(l)) {
        return replay_rot(l, l->end_offset, "the log ends elsewhere than it did");
    } else if (l->torn) {
        l->core->stats.rot++;
        log_fail(l, "its last segment ends inside a batch");
        return 0;
    } else {
        int error = epochs_read(l);
        if (error != 0 && error != -ENOENT && error != -EILSEQ)
            return error;
    }
    /* Aborted transactions of scanned segments are found anew: from before they began. */
    int error = log_load_producers(l, MIN(l->end_offset, l->aborted_from));
    /* A snapshot is written before a WAL file with producers' batches goes; others need a scan. */
    int64_t known = MAX(l->snapshot_offset, l->start_offset);
    if (error == 0 && (scanned || !d->had_wal || l->cached || l->snapshot_damaged) &&
        known < l->end_offset)
        error = replay_producers(l, known, INT64_MAX);
    return error;
}

/* What only the WAL knew goes into files; the sync of the file system follows. */
static int log_write_state(struct log *l)
{
    int error = 0;
    /* A log that was closed has told all its epochs: one that its list lacks is damage. */
    bool closed = !l->dir->had_wal && l->core->config.clean_start && epochs_latest(l) >= 0;
    if (l->last_epoch > epochs_latest(l) && !closed) {
        SOMETIMES("the epochs of a log are made anew");
        error = log_rebuild_epochs(l);
    }
    epochs_truncate_end(l, l->end_offset);
    if (error == 0 && l->epochs_dirty && l->changed)
        error = epochs_write(l);
    SOMETIMES_IF(l->start_dirty, "recovery writes a log start");
    if (error == 0 && l->start_dirty)
        error = log_start_write(l);
    SOMETIMES_IF(l->producers_dirty, "recovery writes a snapshot of producers");
    if (error == 0 && l->producers_dirty) {
        uint32_t size = 0;
        uint8_t *data = producers_encode(l, l->end_offset, &size);
        error = data == NULL ? -ENOMEM : snapshot_write(l, l->end_offset, data, size);
        mem_free(l->core->mem, data, size);
        if (error == 0)
            l->snapshot_offset = l->end_offset;
        l->producers_dirty = error != 0;
    }
    return error;
}

static int recovery_settle_log(struct log *l)
{
    int error = log_begin_at_start(l);
    if (error == 0)
        error = log_write_state(l);
    l->start_offset = MAX(l->start_offset, l->segments[0]->base);
    if (l->cleaned_end > l->end_offset)
        l->cleaned_end = NO_OFFSET; /* cut since: nothing is known of what will be there */
    l->written_end = l->synced_end = l->durable_end = l->high_watermark = l->end_offset;
    for (uint32_t i = 0; i < l->segments_count; i++)
        l->segments[i]->synced = true; /* the file system is, before anything relies on it */
    l->folder_dirty = false;           /* likewise */
    l->folder_new &= !l->changed;
    l->aborted_from = 0;
    producers_high_watermark(l);
    log_begin_epoch(l);
    return error;
}

int recovery_open_late(struct log *l)
{
    int error = log_recover_alone(l);
    if (error == 0 && l->state.now == LOG_OPEN)
        error = recovery_settle_log(l);
    return error;
}

/* ---- a directory ----------------------------------------------------------------------------- */

/* error: of the scan of the WAL; then what was begun is only let go of, and nothing is cut. */
static int recovery_logs(struct recovery *v, int error)
{
    bool whole = error == 0;
    for (uint32_t i = 0; i < v->core->table_room; i++) {
        struct log *l = v->core->table[i];
        if (l == NULL || l->dir != v->dir)
            continue;
        bool replayed = l->replay != NULL;
        int of_log = replay_end(v->replays, l, whole);
        if (of_log == 0 && error == 0 && !replayed && l->state.now == LOG_OPEN)
            of_log = log_recover_alone(l);
        if (whole && of_log == 0 && l->state.now == LOG_OPEN &&
            (l->lost_end > l->end_offset || l->lost_aborted))
            of_log = replay_rot(l, l->end_offset, "durable records are damaged in the WAL");
        if (of_log == 0 && error == 0 && l->state.now == LOG_OPEN)
            of_log = recovery_settle_log(l);
        error = error != 0 ? error : of_log;
    }
    return error;
}

/* Nothing is served, and the WAL stays as it is, till somebody has decided. */
static int recovery_refuse(struct log_dir *d)
{
    trace_line(d->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s: durable records in the write-ahead log are damaged, and whose they were cannot "
               "be told. Restore the directory from a copy; or, to go on with what its segments "
               "have, keep a copy and remove wal-*.torc from it",
               d->path);
    return -EBADMSG;
}

static int recovery_dir(struct log_core *c, struct log_dir *d)
{
    struct recovery v = {.core = c, .dir = d, .replays = replays_make(c)};
    struct wal_scan_result result = {0};
    if (v.replays == NULL)
        return -ENOMEM;
    struct wal_reader reader = {.context = &v, .entry = recovery_entry, .lost = recovery_lost};
    int error = d->had_wal ? wal_scan(d, &reader, &result) : 0;
    if (error == 0 && result.unknown > 0)
        error = recovery_refuse(d);
    SOMETIMES_IF(error != 0, "a WAL cannot be read at start");
    error = recovery_logs(&v, error);
    replays_free(v.replays);
    d->keep_wal |= result.rot > 0;
    c->stats.torn_tails += result.torn_tails;
    c->stats.rot += result.rot;
    if (result.groups > 0 || result.torn_tails > 0 || result.rot > 0)
        trace_line(c->trace, TRACE_LOG,
                   result.rot > 0          ? TRACE_ERROR
                   : result.torn_tails > 0 ? TRACE_WARN
                                           : TRACE_INFO,
                   "%s: the WAL gave %" PRIu64 " entries in %" PRIu64 " groups%s%s", d->path,
                   result.entries, result.groups,
                   result.torn_tails > 0 ? ", its last write was torn" : "",
                   result.rot > 0 ? ", and durable parts of it are damaged" : "");
    /* Also what an earlier process left in the page cache becomes durable here, at once for all. */
    if (error == 0 && (d->had_wal || !c->config.clean_start))
        error = io_sync_filesystem(c->io, d->path);
    d->root_dirty = d->root_dirty && error != 0;
    return error;
}

int recovery_run(struct log_core *c)
{
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        if (d->state.now == DIR_FAILED)
            continue;
        int error = recovery_dir(c, d);
        if (error == -ENOMEM)
            return error;
        if (error != 0)
            dir_fail(d, error, "recovery");
    }
    return 0;
}

/* A WAL with damage is evidence, and perhaps the only copy of what is whole in it. What could be
 * laid over segments is on the device there. */
int recovery_keep_wal(struct log_dir *d)
{
    for (uint32_t i = 0; d->keep_wal && i < d->wal_found_count; i++) {
        const struct wal_found *f = &d->wal_found[i];
        char path[PATH_ROOM], kept[PATH_ROOM + 32];
        if (f->core != d->core->config.core)
            continue;
        path_wal(path, d->path, f->core, f->number);
        (void)snprintf(kept, sizeof(kept), "%s.kept-%" PRIu64, path, d->generation);
        trace_line(d->core->trace, TRACE_LOG, TRACE_WARN, "%s is kept as %s", path, kept);
        int error = io_rename(d->core->io, path, kept);
        if (error != 0)
            return error;
    }
    return d->keep_wal ? io_sync_directory(d->core->io, d->path) : 0;
}

/* Durably, before anything is appended: one that came back with a power cut would be replayed over
 * what is newer, and cut indexes where it begins. */
int recovery_remove_old(struct log_dir *d)
{
    const struct log_core_config *config = &d->core->config;
    bool removed = false;
    for (uint32_t i = 0; i < d->wal_found_count; i++) {
        const struct wal_found *f = &d->wal_found[i];
        /* Of cores that are no more: one of those that are removes them. */
        if (f->core < config->cores_count || f->core % config->cores_count != config->core)
            continue;
        char path[PATH_ROOM];
        path_wal(path, d->path, f->core, f->number);
        SOMETIMES("the WAL of a core that is no more is removed");
        dir_remove_file(d, path);
        removed = true;
    }
    return removed && !DEFECT(12) ? io_sync_directory(d->core->io, d->path) : 0;
}
