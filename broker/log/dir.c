/* One log directory: what was in it at start, whether it can still be written, and the end of it.
 *
 *   OK ──── no space (low-water mark, or ENOSPC) ───▶ FULL ──── space again ───▶ OK
 *                                        and exhausted, from ENOSPC till there is some
 *    └──────────── a write or a sync failed ──────────┴──────▶ FAILED, for good
 *
 * Invariants
 *  1. In FAILED nothing is written to it any more, no log of it acknowledges anything, and
 * dir_failed was or will be called exactly once.
 *  2. In FULL records of clients are refused with a retriable error; everything else goes on: what
 *     makes space (retention, deletion) must, commits and markers of this node have what is left
 *     below the mark. Exhausted, it refuses those too, writes no segments, and ends deletions
 *     without the WAL (retention.c).
 *  3. No client waits for space: what it appended before the shortage was seen, and cannot become
 *     durable now, is answered with that error too. It stays where it is, and becomes durable when
 *     there is space: an idempotent producer that sends it again gets its offsets, as after any
 *     answer that was lost.
 *  4. Whoever appends looks (dir_look), so that a shortage is seen and is over within moments; the
 *     core's tick does where nobody appends.
 *
 * A partition's folder carries its topic's id in partition.metadata. A folder with another id, or
 * with data but no id, is moved aside, never deleted: it may be all that is left of something. */
#include "broker/log/dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/limits.h"
#include "broker/log/checkpoint.h"
#include "broker/log/path.h"
#include "broker/log/removal.h"
#include "broker/log/wal_scan.h"
#include "core/lab.h"

#define METADATA_MAX 256u

static const struct state_table dir_states = {
    .name = "dir",
    .names = (const char *const[]){"ok", "full", "failed"},
    .states_count = 3,
    .allowed = {[DIR_OK] = 1u << DIR_FULL | 1u << DIR_FAILED,
                [DIR_FULL] = 1u << DIR_OK | 1u << DIR_FAILED,
                [DIR_FAILED] = 0},
};

struct listing {
    struct log_dir *dir;
    int error;
};

static int wal_note(struct log_dir *d, struct wal_found found)
{
    if (d->wal_found_count == d->wal_found_room) {
        uint32_t room = d->wal_found_room == 0 ? 8 : d->wal_found_room * 2;
        struct wal_found *grown = mem_realloc(
            d->core->mem, d->wal_found, d->wal_found_room * sizeof(*grown), room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        d->wal_found = grown;
        d->wal_found_room = room;
    }
    d->wal_found[d->wal_found_count++] = found;
    return 0;
}

static bool dir_entry(void *context, const char *name, bool is_directory)
{
    struct listing *listing = context;
    struct log_dir *d = listing->dir;
    uint32_t topic_size = 0;
    int32_t partition = 0;
    struct wal_found wal = {0};
    if (!is_directory && path_parse_wal(name, &wal.core, &wal.number)) {
        listing->error = wal_note(d, wal);
        return listing->error == 0;
    }
    size_t length = strlen(name);
    if (is_directory && length > 7 && strcmp(name + length - 7, "-delete") == 0) {
        char path[PATH_ROOM];
        path_in_dir(path, d->path, name);
        if (d->core->config.core == 0) /* one core is enough */
            removal_plan(d->core, d->index, path, REMOVE_FOLDER, 0);
        return true;
    }
    if (!is_directory || !path_parse_folder(name, &topic_size, &partition))
        return true;
    uint32_t size = (uint32_t)strlen(name);
    struct folder *f = mem_zalloc(d->core->mem, sizeof(*f) + size + 1);
    if (f == NULL) {
        listing->error = -ENOMEM;
        return false;
    }
    f->name_size = size;
    memcpy(f->name, name, size + 1);
    listing->error = map_put(&d->folders, f->name, size, f);
    if (listing->error != 0)
        mem_free(d->core->mem, f, sizeof(*f) + size + 1);
    return listing->error == 0;
}

int dir_init(struct log_dir *d, struct log_core *c, uint32_t index)
{
    assert(index < c->config.dirs_count);
    assert(strlen(c->config.dirs[index]) <= DIR_PATH_MAX);
    *d = (struct log_dir){.core = c, .index = index, .path = c->config.dirs[index]};
    map_init(&d->folders, c->mem, 0);
    if ((c->config.dirs_failed & 1u << index) != 0)
        return -EIO;
    int error = io_probe(c->io, d->path, &d->probe);
    if (error != 0)
        return error;
    struct listing listing = {.dir = d};
    error = io_list(c->io, d->path, dir_entry, &listing);
    if (error == 0)
        error = listing.error;
    if (error == 0)
        error = wal_scan_headers(d);
    return error != 0 ? error : wal_init(&d->wal, d);
}

void dir_forget_folders(struct log_dir *d)
{
    uint32_t at = 0;
    struct folder *f;
    while ((f = map_next(&d->folders, &at)) != NULL)
        mem_free(d->core->mem, f, sizeof(*f) + f->name_size + 1);
    map_destroy(&d->folders);
}

void dir_free(struct log_dir *d)
{
    if (d->core == NULL)
        return;
    wal_free(&d->wal);
    dir_forget_folders(d);
    mem_free(d->core->mem, d->wal_found, d->wal_found_room * sizeof(*d->wal_found));
    d->core = NULL;
}

/* ---- its end, and its being full ------------------------------------------------------------- */

void dir_fail(struct log_dir *d, int error, const char *what)
{
    struct log_core *c = d->core;
    assert(error < 0);
    if (d->state.now == DIR_FAILED)
        return;
    SOMETIMES("a directory fails");
    state_move(&d->state, &dir_states, DIR_FAILED);
    d->error = error;
    d->failure_untold = true;
    trace_line(c->trace, TRACE_LOG, TRACE_ERROR,
               "%s failed: %s: %s; its partitions are offline until restart", d->path, what,
               strerror(-error));
    for (uint32_t i = 0; i < c->table_room; i++)
        if (c->table[i] != NULL && c->table[i]->dir == d)
            log_fail(c->table[i], "its directory failed");
    if (d->wal.dir != NULL) /* else it failed before it had one */
        wal_fail(&d->wal);
}

void dir_tell_failure(struct log_dir *d)
{
    if (!d->failure_untold)
        return;
    assert(d->state.now == DIR_FAILED);
    d->failure_untold = false;
    if (d->core->config.dir_failed != NULL)
        d->core->config.dir_failed(d->core->config.context, d->index, d->error);
}

static void dir_becomes_full(struct log_dir *d)
{
    if (d->state.now != DIR_OK)
        return;
    SOMETIMES("a directory is full");
    state_move(&d->state, &dir_states, DIR_FULL);
    trace_line(d->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s has hardly any space left: records of clients and new partitions are refused "
               "until there is more; delete topics or records, or shorten retention",
               d->path);
}

/* Clients that wait for a page-cache write (write.caching): invariant 3. */
static void dir_answer_cached(struct log_dir *d)
{
    for (uint32_t i = 0; i < d->core->table_room; i++) {
        struct log *l = d->core->table[i];
        if (l == NULL || l->dir != d)
            continue;
        LIST_EACH(at, &l->appends)
        {
            struct log_append *a = container_of(at, struct log_append, link);
            if (a->origin == LOG_ORIGIN_COORDINATOR)
                continue;
            SOMETIMES("a cached append is refused for want of space");
            list_remove(&a->link);
            append_refuse(a, KE_KAFKA_STORAGE_ERROR);
        }
    }
}

void dir_full(struct log_dir *d)
{
    uint64_t total = 0, usable = 0;
    dir_becomes_full(d);
    if (d->state.now != DIR_FULL || d->exhausted)
        return;
    d->exhausted = true;
    d->met_bytes = io_space(d->core->io, d->path, &total, &usable) == 0 ? usable : 0;
    trace_line(d->core->trace, TRACE_LOG, TRACE_ERROR, "%s has no space left at all", d->path);
    dir_answer_cached(d);
}

void dir_look(struct log_dir *d)
{
    if (io_now_ns(d->core->io) >= d->look_ns)
        dir_check_space(d);
}

void dir_check_space(struct log_dir *d)
{
    uint64_t total = 0, usable = 0;
    if (d->state.now == DIR_FAILED || io_space(d->core->io, d->path, &total, &usable) != 0)
        return;
    uint64_t owed = chunks_kept_bytes(d->core);
    if (usable < space_low(total) + owed)
        dir_becomes_full(d);
    if (usable >= space_low(total) / 2 && usable > d->met_bytes)
        d->exhausted = false; /* until it is met again */
    bool full = d->state.now == DIR_FULL;
    d->look_ns = io_now_ns(d->core->io) + (full ? SPACE_WAIT_NS : SPACE_LOOK_NS);
    if (usable > space_back(total) + owed && full && !d->exhausted) {
        SOMETIMES("a full directory has space again");
        state_move(&d->state, &dir_states, DIR_OK);
        trace_line(d->core->trace, TRACE_LOG, TRACE_INFO, "%s has space again", d->path);
    }
}

/* ---- folders --------------------------------------------------------------------------------- */

void dir_remove_file(struct log_dir *d, const char *path)
{
    int error = io_unlink(d->core->io, path);
    if (error != 0 && error != -ENOENT)
        trace_line(d->core->trace, TRACE_LOG, TRACE_WARN, "%s cannot be removed: %s", path,
                   strerror(-error));
}

struct folder *dir_folder(const struct log_dir *d, const char *name)
{
    return map_get(&d->folders, name, (uint32_t)strlen(name));
}

/* The id in a folder's partition.metadata: 0, -ENOENT (no or empty file), -EILSEQ, or -errno. */
static int metadata_read(struct log_dir *d, const char *folder, struct uuid *id)
{
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    path_in_folder(path, d->path, folder, METADATA_NAME);
    int error = io_slurp(d->core->io, d->core->mem, path, METADATA_MAX, &text, &size);
    if (error != 0)
        return error;
    static const char key[] = "topic_id: ";
    const char *at = strstr(text, key);
    bool read = strncmp(text, "version: 0\n", 11) == 0 && at != NULL &&
                strlen(at) >= sizeof(key) - 1 + UUID_TEXT_SIZE - 1 &&
                uuid_parse(id, at + sizeof(key) - 1, UUID_TEXT_SIZE - 1);
    mem_free(d->core->mem, text, size + 1);
    if (size == 0)
        return -ENOENT;
    return read ? 0 : -EILSEQ;
}

bool dir_holds(struct log_dir *d, const char *name, struct uuid id)
{
    const struct folder *f = dir_folder(d, name);
    struct uuid found = {0};
    int error = f != NULL && !f->claimed ? metadata_read(d, name, &found) : -ENOENT;
    if (error == -ENOENT || error == -EILSEQ)
        return false;
    return error != 0 || uuid_equal(found, id); /* what cannot be read must not be passed over */
}

static int metadata_write(struct log_dir *d, const char *folder, struct uuid id)
{
    char path[PATH_ROOM], text[METADATA_MAX], id_text[UUID_TEXT_SIZE];
    path_in_folder(path, d->path, folder, METADATA_NAME);
    int length = snprintf(text, sizeof(text), "version: 0\ntopic_id: %s", uuid_text(id, id_text));
    int fd = io_open(d->core->io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int64_t written = io_pwrite(d->core->io, fd, text, (size_t)length, 0);
    io_close(d->core->io, fd);
    if (written < 0)
        return (int)written;
    return written == length ? 0 : -EIO;
}

int dir_sync_folder(struct log_dir *d, const char *folder, bool with_metadata)
{
    struct log_core *c = d->core;
    char path[PATH_ROOM];
    int error = 0;
    if (DEFECT(6))
        return 0;
    if (with_metadata) {
        path_in_folder(path, d->path, folder, METADATA_NAME);
        int fd = io_open(c->io, path, IO_READ | IO_WRITE);
        if (fd < 0)
            return fd;
        error = io_fdatasync(c->io, fd);
        io_close(c->io, fd);
    }
    path_in_dir(path, d->path, folder);
    if (error == 0)
        error = io_sync_directory(c->io, path);
    if (error == 0 && with_metadata && d->root_dirty) {
        error = io_sync_directory(c->io, d->path);
        d->root_dirty = error != 0;
    }
    return error;
}

int dir_move_aside(struct log_dir *d, const char *folder, const char *why, char *renamed)
{
    SOMETIMES("a folder is moved aside");
    char from[PATH_ROOM], to[PATH_ROOM], name[PATH_ROOM];
    struct uuid id;
    io_entropy(d->core->io, id.bytes, sizeof(id.bytes));
    path_renamed_folder(name, folder, id, why);
    path_in_dir(from, d->path, folder);
    path_in_dir(to, d->path, name);
    int error = io_rename(d->core->io, from, to);
    if (error != 0)
        return error;
    d->root_dirty = true;
    d->root_changes++;
    if (renamed != NULL)
        memcpy(renamed, name, strlen(name) + 1);
    return 0;
}

/* A folder without an id: never synced, unless its segments say otherwise. */
static bool segment_with_data(void *context, const char *name, bool is_directory)
{
    bool *found = context;
    int64_t base = 0;
    const char *suffix;
    if (!is_directory && path_parse_offset(name, &base, &suffix) && strcmp(suffix, ".log") == 0)
        *found = true;
    return !*found;
}

/* What is in the way of a new folder: one of another topic, whose deletion could not rename it.
 * What is left of an earlier try for the same topic, or has no id yet, is not in the way. */
static int folder_clear(struct log_dir *d, const char *name, struct uuid id)
{
    struct uuid found;
    char path[PATH_ROOM];
    int error = metadata_read(d, name, &found);
    if (error == -ENOENT || error == -EILSEQ)
        return 0;
    if (error != 0 || uuid_equal(found, id))
        return error;
    trace_line(d->core->trace, TRACE_LOG, TRACE_WARN,
               "%s/%s is of a deleted topic: it is moved aside", d->path, name);
    error = dir_move_aside(d, name, "stray", NULL);
    path_in_dir(path, d->path, name);
    return error != 0 ? error : io_mkdir(d->core->io, path);
}

static int folder_make(struct log_dir *d, const char *name, struct uuid id)
{
    char path[PATH_ROOM];
    path_in_dir(path, d->path, name);
    int error = io_mkdir(d->core->io, path);
    if (error == -EEXIST)
        error = folder_clear(d, name, id);
    if (error != 0)
        return error;
    d->root_dirty = true;
    d->root_changes++;
    return metadata_write(d, name, id);
}

/* Is the id that was read this one, but for a character or two? Ids are random: another topic's
 * would differ nearly everywhere. */
static bool id_is_misread(struct uuid read, struct uuid id)
{
    char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];
    uint32_t different = 0;
    (void)uuid_text(read, a);
    (void)uuid_text(id, b);
    for (uint32_t i = 0; i < UUID_TEXT_SIZE - 1; i++)
        different += a[i] != b[i] ? 1 : 0;
    return different <= 2;
}

/* Were durable records in the folder? Then its id was durable, too, and what cannot be read of it
 * is damage; else it may be what a crash has left of a folder that was being made. A checkpoint of
 * a directory that was not closed may be about a folder that had the name before. */
static bool folder_was_durable(const struct log_dir *d, const char *name)
{
    return d->core->config.clean_start &&
           checkpoint_get(d, name, LOG_CHECKPOINT_RECOVERY_POINT) > 0;
}

int dir_claim_folder(struct log_dir *d, const char *name, struct uuid id, bool *made)
{
    struct log_core *c = d->core;
    struct folder *f = dir_folder(d, name);
    char path[PATH_ROOM], text[UUID_TEXT_SIZE];
    *made = f == NULL || f->claimed;
    if (*made)
        return folder_make(d, name, id);
    f->claimed = true;
    struct uuid found;
    int error = metadata_read(d, name, &found);
    if (error == 0 && uuid_equal(found, id))
        return 0;
    if (error != 0 && error != -ENOENT && error != -EILSEQ) {
        f->claimed = false;
        return error;
    }
    if (error == 0 ? id_is_misread(found, id) : folder_was_durable(d, name)) {
        trace_line(c->trace, TRACE_LOG, TRACE_ERROR,
                   "%s/%s/" METADATA_NAME
                   " is damaged: if the folder is the topic's, write into it "
                   "\"version: 0\", and on the next line \"topic_id: %s\"",
                   d->path, name, uuid_text(id, text));
        return -EILSEQ;
    }
    bool has_segments = error != -ENOENT;
    path_in_dir(path, d->path, name);
    error = has_segments ? 0 : io_list(c->io, path, segment_with_data, &has_segments);
    if (error == 0 && has_segments) {
        trace_line(c->trace, TRACE_LOG, TRACE_WARN,
                   "%s/%s does not belong to its topic's id: it is moved aside", d->path, name);
        error = dir_move_aside(d, name, "stray", NULL);
    }
    *made = true;
    f->claimed = error == 0; /* else it is there as it was */
    return error != 0 ? error : folder_make(d, name, id);
}
