/* How a compacted segment takes the place of those it was made of, so that a crash at any point
 * leaves the old ones or the new one, and the same for Apache Kafka if that starts next.
 *
 *   1  <base>.log.cleaned, .index, .timeindex, .txnindex: written, synced
 *   2  log-cleaned.torc says what will be replaced; the folder is synced
 *   3  .cleaned ─▶ .swap, each; folder synced     from here on a start completes it
 *   4  the old files ─▶ .deleted                  the log in memory has the new segment now;
 *      folder synced                              its files are open, and stay so until after 5
 *   5  .swap ─▶ final names; folder synced
 *
 *   at start  any .cleaned: it and all .swap from its offset on are removed: nothing has happened
 *             .log.swap:    the segments that it replaces are removed, then .swap ─▶ final
 *
 *   log-cleaned.torc   settled base end size\n     numbers of the log's last swap
 *
 * Which segments a .swap replaces, Kafka tells by its last batch. That is not enough when the last
 * of them were left without records, so `end` is in the file too; it counts if base and size are
 * those of the .swap that is found.
 *
 * The write-ahead log still holds batches of segments that were compacted since. So what is below
 * `settled` is on the device in segments, wholly, from before the first swap on, and recovery does
 * not ask the WAL about it. This replaces nothing the WAL is needed for: see invariant 1.
 *
 * Invariants
 *  1. Only segments below settled are replaced, and all below it were synced before it was written.
 *  2. At most one segment per log is between 1 and 5.
 *  3. The names .swap are all there (durably) before the first old file loses its name, and all of
 *     those have lost it before the first .swap does. A directory keeps any part of what was done
 *     to it since its last sync, so there is a sync between.
 *
 * Failure: an error from 3 on fails the directory; the next start ends what was begun. */
#include "broker/log/clean_files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/flush.h"
#include "broker/log/path.h"
#include "broker/log/read.h"
#include "broker/log/retention.h"
#include "broker/log/scan.h"
#include "broker/log/segment.h"
#include "core/lab.h"

#define SUFFIX_ROOM   16u
#define LEFTOVERS_MAX (1u << 20)
#define NOTE_ROOM     96u

static void path_cleaned(char *to, const struct log *l, int64_t base, uint32_t which,
                         const char *stage)
{
    char suffix[32];
    snprintf(suffix, sizeof(suffix), "%s%s", segment_suffixes[which], stage);
    path_segment(to, l->dir->path, l->folder, base, suffix);
}

/* ---- the small file -------------------------------------------------------------------------- */

struct swap_note {
    int64_t settled, base, end, size;
};

static void note_path(char *to, const struct log *l)
{
    path_in_folder(to, l->dir->path, l->folder, LOG_CLEANED_NAME);
}

static size_t note_text(const struct swap_note *n, char *text)
{
    int size = snprintf(text, NOTE_ROOM, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n",
                        n->settled, n->base, n->end, n->size);
    assert(size > 0 && (size_t)size < NOTE_ROOM);
    return (size_t)size;
}

/* 0 or -errno; a file that is not there or says nothing: all NO_OFFSET. */
static int note_read(struct log *l, struct swap_note *n)
{
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    long long v[4];
    *n = (struct swap_note){NO_OFFSET, NO_OFFSET, NO_OFFSET, NO_OFFSET};
    note_path(path, l);
    int error = io_slurp(l->core->io, l->core->mem, path, 128, &text, &size);
    if (error == -ENOENT || error == -EFBIG)
        return 0;
    if (error != 0)
        return error;
    char end = 0;
    if (sscanf(text, "%lld %lld %lld %lld%c", &v[0], &v[1], &v[2], &v[3], &end) == 5 && end == '\n')
        *n = (struct swap_note){v[0], v[1], v[2], v[3]};
    mem_free(l->core->mem, text, size + 1);
    return 0;
}

int cleaned_read(struct log *l)
{
    struct swap_note n;
    int error = note_read(l, &n);
    l->settled_end = error == 0 ? n.settled : NO_OFFSET;
    return error;
}

int cleaned_forget(struct log *l)
{
    struct swap_note none = {NO_OFFSET, NO_OFFSET, NO_OFFSET, NO_OFFSET};
    char path[PATH_ROOM], text[NOTE_ROOM];
    size_t size = note_text(&none, text);
    l->settled_end = NO_OFFSET;
    note_path(path, l);
    return io_replace(l->core->io, path, text, size);
}

/* ---- making one ------------------------------------------------------------------------------ */

static int cleaned_open(struct cleaned *c)
{
    struct log *l = c->log;
    int error = 0;
    for (uint32_t which = 0; which < SEGMENT_FILES && error == 0; which++) {
        char suffix[32];
        snprintf(suffix, sizeof(suffix), "%s.cleaned", segment_suffixes[which]);
        error = segment_begin_as(l, c->segment, which, suffix, IO_CREATE | IO_TRUNC);
    }
    return error;
}

int cleaned_begin(struct cleaned *c, struct log *l, int64_t base)
{
    struct index_cursor none;
    c->log = l;
    c->step = SWAP_NOTE;
    c->note_fd = c->folder_fd = -1;
    c->segment = segment_make(l, base);
    if (c->segment == NULL)
        return -ENOMEM;
    segment_use(c->segment);
    c->segment->created = true;
    index_cursor_init(&none);
    index_writer_begin(&c->indexes, l, c->segment, &none);
    int error = cleaned_open(c);
    if (error != 0)
        cleaned_drop(c, true);
    return error;
}

int cleaned_add(struct cleaned *c, uint32_t position, const struct batch_header *h)
{
    assert(h->base_offset >= c->segment->base);
    if (position == 0)
        c->segment->first_timestamp = h->max_timestamp;
    return index_writer_add(&c->indexes, position, h->size, batch_last_offset(h), h->max_timestamp);
}

int cleaned_add_aborted(struct cleaned *c, const struct aborted_txn *aborted)
{
    uint8_t entry[TXN_INDEX_ENTRY_SIZE];
    struct segment *s = c->segment;
    txn_index_put(entry, aborted);
    int64_t written = io_pwrite(c->log->core->io, cleaned_fd(c, FILE_TXN), entry, sizeof(entry),
                                (uint64_t)s->aborted * TXN_INDEX_ENTRY_SIZE);
    s->aborted++;
    s->aborted_last = aborted->last_offset;
    if (written < 0)
        return (int)written;
    return written == (int64_t)sizeof(entry) ? 0 : -EIO;
}

int cleaned_complete(struct cleaned *c)
{
    struct segment *s = c->segment;
    int error = index_writer_flush(&c->indexes);
    s->behind = c->indexes.cursor;
    if (error == 0)
        error = segment_seal(c->log, s);
    s->ahead = s->behind;
    s->synced = true; /* the caller's next step */
    return error;
}

/* ---- the swap -------------------------------------------------------------------------------- */

/* 1, after what is to be synced was told. */
static int swap_sync(struct io_sync *sync, int fd, bool directory)
{
    sync->fd = fd;
    sync->directory = directory;
    return 1;
}

static int swap_sync_folder(const struct cleaned *c, struct io_sync *sync)
{
    return DEFECT(15) ? 0 : swap_sync(sync, c->folder_fd, true);
}

/* Descriptors are had before anything happens: want of them must not come in between. */
static int swap_note(struct cleaned *c, int64_t end, struct io_sync *sync)
{
    struct log *l = c->log;
    struct swap_note note = {MAX(l->settled_end, end), c->segment->base, end, c->segment->written};
    char path[PATH_ROOM], text[NOTE_ROOM];
    size_t size = note_text(&note, text);
    path_in_dir(path, l->dir->path, l->folder);
    c->folder_fd = io_open(l->core->io, path, IO_READ);
    if (c->folder_fd < 0)
        return c->folder_fd;
    path_in_folder(path, l->dir->path, l->folder, LOG_CLEANED_NAME ".tmp");
    c->note_fd = io_open(l->core->io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (c->note_fd < 0)
        return c->note_fd;
    int64_t written = io_pwrite(l->core->io, c->note_fd, text, size, 0);
    if (written != (int64_t)size)
        return written < 0 ? (int)written : -EIO;
    return swap_sync(sync, c->note_fd, false);
}

static int swap_note_name(struct cleaned *c, struct io_sync *sync)
{
    struct log *l = c->log;
    char from[PATH_ROOM], to[PATH_ROOM];
    path_in_folder(from, l->dir->path, l->folder, LOG_CLEANED_NAME ".tmp");
    note_path(to, l);
    int error = io_rename(l->core->io, from, to);
    return error != 0 ? error : swap_sync(sync, c->folder_fd, true);
}

static int cleaned_rename(const struct cleaned *c, const char *from_stage, const char *to_stage)
{
    const struct log *l = c->log;
    int error = 0;
    for (uint32_t which = 0; which < SEGMENT_FILES && error == 0; which++) {
        char from[PATH_ROOM], to[PATH_ROOM];
        path_cleaned(from, l, c->segment->base, which, from_stage);
        path_cleaned(to, l, c->segment->base, which, to_stage);
        error = io_rename(l->core->io, from, to);
    }
    return error;
}

/* Of the first one the producer snapshot stays: it is at the base of the new one, too. */
static int replaced_rename(struct log *l, uint32_t first, uint32_t count)
{
    int error = 0;
    for (uint32_t i = first; i < first + count && error == 0; i++) {
        const struct segment *s = l->segments[i];
        error = retention_rename(l, s, i > first && s->base != l->snapshot_offset);
    }
    return error;
}

/* What remembered places in the old ones forgets them. */
static void replaced_forget(struct log *l, int64_t end)
{
    reads_forget(l);
    tail_drop(l->core, &l->tail, end - 1);
}

/* The log has the new one from now on: by its open files, which being used keeps open. */
static int swap_replace(struct cleaned *c, uint32_t first, uint32_t count)
{
    struct log *l = c->log;
    int64_t end = l->segments[first + count]->base;
    assert(l->flush == NULL);
    assert(first + count <= l->writing);
    c->segment->modified_ms = l->segments[first + count - 1]->modified_ms;
    int error = replaced_rename(l, first, count);
    if (error != 0)
        return error;
    segments_replace(l, first, count, c->segment);
    replaced_forget(l, end);
    return 0;
}

static void cleaned_close(struct cleaned *c)
{
    if (c->note_fd >= 0)
        io_close(c->log->core->io, c->note_fd);
    if (c->folder_fd >= 0)
        io_close(c->log->core->io, c->folder_fd);
    c->note_fd = c->folder_fd = -1;
}

static void swap_end(struct cleaned *c)
{
    struct log *l = c->log;
    struct segment *s = c->segment;
    SOMETIMES_IF(s->aborted > 0, "a compacted segment keeps aborted transactions");
    if (s->aborted == 0) { /* the empty one took an old one's place: now nothing is needed there */
        char path[PATH_ROOM];
        path_cleaned(path, l, s->base, FILE_TXN, "");
        dir_remove_file(l->dir, path);
    }
    cleaned_close(c);
    segment_unuse(l, s);
    c->segment = NULL;
}

int cleaned_swap(struct cleaned *c, uint32_t first, uint32_t count, struct io_sync *sync)
{
    struct log *l = c->log;
    int error = 0;
    assert(c->segment != NULL);
    enum swap_step step = c->step++;
    switch (step) {
    case SWAP_NOTE:
        return swap_note(c, l->segments[first + count]->base, sync);
    case SWAP_NOTE_NAME:
        return swap_note_name(c, sync);
    case SWAP_PREPARE:
        l->settled_end = MAX(l->settled_end, l->segments[first + count]->base);
        l->gaps = true;
        error = cleaned_rename(c, ".cleaned", ".swap");
        break;
    case SWAP_REPLACE:
        error = swap_replace(c, first, count);
        break;
    case SWAP_NAME:
        error = cleaned_rename(c, ".swap", "");
        break;
    case SWAP_END:
        swap_end(c);
        return 0;
    }
    return error != 0 ? error : swap_sync_folder(c, sync);
}

void cleaned_drop(struct cleaned *c, bool remove)
{
    struct segment *s = c->segment;
    if (s == NULL)
        return;
    for (uint32_t which = 0; which < SEGMENT_FILES && remove; which++) {
        char path[PATH_ROOM];
        path_cleaned(path, c->log, s->base, which, ".cleaned");
        dir_remove_file(c->log->dir, path);
    }
    cleaned_close(c);
    bool in_log = c->log->segments[segment_find(c->log, s->base)] == s;
    segment_unuse(c->log, s);
    if (!in_log)
        segment_discard(c->log, s);
    c->segment = NULL;
}

/* ---- at start -------------------------------------------------------------------------------- */

enum leftover_kind { LEFT_PLAIN, LEFT_CLEANED, LEFT_SWAP };

struct leftover {
    int64_t base;
    enum leftover_kind kind;
    char name[SUFFIX_ROOM]; /* ".log", ".index", ".timeindex", ".txnindex" */
};

struct leftovers {
    struct log *log;
    struct leftover *list;
    uint32_t count, room;
    int64_t cleaned_min; /* INT64_MAX: none */
    int error;
};

static void leftover_path(char *to, const struct log *l, const struct leftover *f, bool plain)
{
    static const char *const stages[] = {"", ".cleaned", ".swap"};
    char suffix[SUFFIX_ROOM + 16];
    snprintf(suffix, sizeof(suffix), "%s%s", f->name, plain ? "" : stages[f->kind]);
    path_segment(to, l->dir->path, l->folder, f->base, suffix);
}

static int leftovers_grow(struct leftovers *all)
{
    if (all->count < all->room)
        return 0;
    uint32_t room = all->room == 0 ? 32 : all->room * 2;
    struct leftover *grown = room > LEFTOVERS_MAX
                                 ? NULL
                                 : mem_realloc(all->log->core->mem, all->list,
                                               all->room * sizeof(*grown), room * sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    all->list = grown;
    all->room = room;
    return 0;
}

/* "<base>.log.swap": one of the four kinds of file, as it is or on its way. */
static bool leftover_entry(void *context, const char *name, bool is_directory)
{
    struct leftovers *all = context;
    struct leftover f = {0};
    const char *suffix = "";
    if (is_directory || !path_parse_offset(name, &f.base, &suffix))
        return true;
    for (uint32_t i = 0; i < SEGMENT_FILES; i++) {
        size_t size = strlen(segment_suffixes[i]);
        const char *stage = suffix + size;
        if (strncmp(suffix, segment_suffixes[i], size) != 0 || (*stage != 0 && *stage != '.'))
            continue;
        f.kind = strcmp(stage, ".swap") == 0      ? LEFT_SWAP
                 : strcmp(stage, ".cleaned") == 0 ? LEFT_CLEANED
                                                  : LEFT_PLAIN;
        if (f.kind == LEFT_PLAIN && *stage != 0)
            continue; /* .deleted */
        memcpy(f.name, segment_suffixes[i], size + 1);
        all->error = leftovers_grow(all);
        if (all->error != 0)
            return false;
        if (f.kind == LEFT_CLEANED)
            all->cleaned_min = MIN(all->cleaned_min, f.base);
        all->list[all->count++] = f;
        return true;
    }
    return true;
}

/* A .log.swap's size, and the offset behind its last batch. */
static int swap_measure(struct log *l, int64_t base, uint64_t *size, int64_t *end)
{
    struct batch_header h;
    const uint8_t *batch;
    struct scan scan;
    struct io_stat st = {0};
    struct segment *s = segment_make(l, base);
    if (s == NULL)
        return -ENOMEM;
    segment_use(s);
    int error = segment_begin_as(l, s, FILE_LOG, ".log.swap", 0);
    if (error == 0)
        error = io_fstat(l->core->io, segment_fd(l, s, FILE_LOG), &st);
    if (error == 0 && st.size > INT32_MAX)
        error = -EFBIG;
    *size = st.size;
    if (error == 0) {
        scan_begin(&scan, l, s, 0, (uint32_t)st.size, SCAN_HEADERS);
        while (scan_next(&scan, &batch, &h))
            ;
        *end = scan.next_offset;
        error = scan.ended == SCAN_FAILED ? scan.error : 0;
        scan_end(&scan);
    }
    segment_unuse(l, s);
    segment_discard(l, s);
    return error;
}

static int leftover_remove(struct log *l, const struct leftover *f)
{
    char path[PATH_ROOM];
    leftover_path(path, l, f, false);
    int error = io_unlink(l->core->io, path);
    return error == -ENOENT ? 0 : error;
}

/* The segments that a .log.swap replaces go, but for the one at its base: the rename does that. */
static int swap_remove_replaced(struct leftovers *all, const struct leftover *swap)
{
    SOMETIMES("a compaction is completed at start");
    struct log *l = all->log;
    struct swap_note note;
    uint64_t size = 0;
    int64_t end = swap->base;
    int error = note_read(l, &note);
    if (error == 0)
        error = swap_measure(l, swap->base, &size, &end);
    if (error == 0 && note.base == swap->base && (uint64_t)note.size == size)
        end = MAX(end, note.end);
    for (uint32_t i = 0; i < all->count && error == 0; i++) {
        const struct leftover *f = &all->list[i];
        if (f->kind == LEFT_PLAIN && f->base > swap->base && f->base < end)
            error = leftover_remove(l, f);
    }
    trace_line(l->core->trace, TRACE_LOG, TRACE_INFO,
               "%s/%s: a compaction of offsets %" PRId64 " to %" PRId64
               " was interrupted: completed",
               l->dir->path, l->folder, swap->base, end - 1);
    return error;
}

static int leftovers_end(struct leftovers *all)
{
    struct log *l = all->log;
    int error = 0;
    for (uint32_t i = 0; i < all->count && error == 0; i++) {
        struct leftover *f = &all->list[i];
        bool invalid = f->kind == LEFT_SWAP && f->base >= all->cleaned_min;
        if (f->kind == LEFT_CLEANED || invalid) {
            SOMETIMES("a compaction is undone at start");
            error = leftover_remove(l, f);
            f->kind = LEFT_CLEANED;
        }
    }
    for (uint32_t i = 0; i < all->count && error == 0; i++) {
        const struct leftover *f = &all->list[i];
        if (f->kind == LEFT_SWAP && strcmp(f->name, ".log") == 0)
            error = swap_remove_replaced(all, f);
    }
    if (error == 0)
        error = dir_sync_folder(l->dir, l->folder, false);
    for (uint32_t i = 0; i < all->count && error == 0; i++) {
        const struct leftover *f = &all->list[i];
        char from[PATH_ROOM], to[PATH_ROOM];
        leftover_path(from, l, f, false);
        leftover_path(to, l, f, true);
        if (f->kind == LEFT_SWAP)
            error = io_rename(l->core->io, from, to);
    }
    return error == 0 ? dir_sync_folder(l->dir, l->folder, false) : error;
}

int cleaned_recover(struct log *l)
{
    struct leftovers all = {.log = l, .cleaned_min = INT64_MAX};
    char path[PATH_ROOM];
    path_in_dir(path, l->dir->path, l->folder);
    int error = io_list(l->core->io, path, leftover_entry, &all);
    if (error == 0)
        error = all.error;
    if (error == 0)
        error = leftovers_end(&all);
    mem_free(l->core->mem, all.list, all.room * sizeof(*all.list));
    return error;
}
