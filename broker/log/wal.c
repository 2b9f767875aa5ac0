/* The write-ahead log of one core in one log directory: how an append becomes durable.
 *
 *   wal_reserve/commit     wal_turn                 completions, in order
 *   open group ──────────▶ closed groups ─────────▶ flying groups ─────────▶ appends done
 *   (takes entries)        (wait their turn)        (some writes)            durable_end moves
 *
 *   wal-C-0  │hdr│ group │ group │ ... │      files are written over in turn; the one that comes
 *   wal-C-1  │hdr│ group │ ...              ◀ next must first be "settled": every log with data in
 *   wal-C-2  │hdr│ older generation data      it has flushed and synced its segments (flush.c)
 *
 * Everything that came while WAL_WRITES_MAX writes were in flight leaves with the next one: group
 * commit whose cost is per core, not per partition. With one write at a time an append would wait
 * for half of the one before it too; a device takes a few at once in hardly more time than one.
 * Files are made when the one before is half full, and zeroed
 * in the background, the current one well ahead of its groups, so that their extents are written
 * ones; before that they are only slower.
 *
 * Invariants
 *  1. Groups leave in the order they were opened, sequence ascending by one. Writes end in any
 *     order, but a group is done only when all before it are.
 *  2. A group lies in one chunk and in one file.
 *  3. A file is begun only with holders == 0, and it is the oldest one.
 *  4. A log with an unsettled entry in file serial s holds a serial <= s.
 *  5. The header block of a file leaves in the same write as its first group, so a file whose
 *     header is lost holds nothing that was acknowledged.
 *  6. A file is begun when nothing of the one before is in flight, and goes on when its header is
 *     on the device: damage at the end of a file that has a successor, and a newer group in a file
 *     with an older header, are rot, not torn tails.
 *
 * Failure: a failed write or sync fails the directory, once, for good (dir_fail). No space, no
 * descriptor or no memory for a new file: the files that are there go on in turn; with one alone,
 * or with files whose logs have no space for their segments, it is stalled until there is some.
 * Clients do not wait for space (wal_answer_waiting). Of scarce space only the second file is
 * taken, without which it would stop. */
#include "broker/log/log_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/path.h"
#include "core/crc32c.h"
#include "core/lab.h"

static const struct state_table wal_states = {
    .name = "wal",
    .names = (const char *const[]){"closed", "serving", "stalled", "failed"},
    .states_count = 4,
    .allowed = {[WAL_CLOSED] = 1u << WAL_SERVING | 1u << WAL_FAILED,
                [WAL_SERVING] = 1u << WAL_STALLED | 1u << WAL_FAILED,
                [WAL_STALLED] = 1u << WAL_SERVING | 1u << WAL_FAILED,
                [WAL_FAILED] = 0},
};

static void wal_written(struct op *op);
static void wal_synced(struct op *op);
static void wal_zeroed(struct op *op);
static void wal_made(struct op *op);

static struct log_core *wal_core(const struct wal *w)
{
    return w->dir->core;
}

static uint64_t wal_padded64(uint64_t position)
{
    return (position + WAL_BLOCK - 1) / WAL_BLOCK * WAL_BLOCK;
}

static uint64_t wal_file_bytes(const struct wal *w)
{
    return wal_core(w)->config.wal_file_bytes;
}

uint64_t wal_payload_max(const struct wal *w)
{
    uint64_t overhead = 2 * WAL_BLOCK + sizeof(struct wal_group_header) + sizeof(struct wal_entry);
    assert(wal_file_bytes(w) > overhead);
    return MIN(wal_file_bytes(w) - overhead, (uint64_t)TAIL_SIZE_MASK / 2);
}

int wal_init(struct wal *w, struct log_dir *d)
{
    *w = (struct wal){.dir = d, .direct = d->probe.direct};
    list_init(&w->closed);
    list_init(&w->flying);
    list_init(&w->unsettled);
    for (uint32_t i = 0; i < WAL_FILES_MAX; i++)
        w->files[i] = (struct wal_file){.fd = -1, .number = i};
    for (uint32_t i = 0; i < WAL_WRITES_MAX; i++) {
        w->writes[i].wal = w;
        op_init(&w->writes[i].rw.op, wal_written);
    }
    op_init(&w->sync.op, wal_synced);
    op_init(&w->zero_rw.op, wal_zeroed);
    op_init(&w->make_sync.op, wal_made);
    w->make_fd = -1;
    w->header_block = mem_pages(d->core->mem, WAL_BLOCK);
    return w->header_block == NULL ? -ENOMEM : 0;
}

static void wal_drop_zero_block(struct wal *w)
{
    assert(!w->zero_rw.op.armed);
    if (w->zero_block != NULL)
        mem_pages_free(wal_core(w)->mem, w->zero_block, WAL_ZERO_BYTES);
    w->zero_block = NULL;
}

/* The kernel reads memory of flying groups. */
static bool wal_flies(const struct wal *w)
{
    for (uint32_t i = 0; i < WAL_WRITES_MAX; i++)
        if (w->writes[i].rw.op.armed)
            return true;
    return w->sync.op.armed;
}

bool wal_busy(const struct wal *w)
{
    return wal_flies(w) || w->zero_rw.op.armed || w->make_sync.op.armed;
}

static void wal_drop_groups(struct wal *w, struct list *groups)
{
    struct list *l;
    while ((l = list_pop_front(groups)) != NULL)
        pool_release(&wal_core(w)->groups, container_of(l, struct wal_group, link));
}

void wal_free(struct wal *w)
{
    if (w->dir == NULL)
        return;
    assert(!wal_flies(w));
    wal_drop_groups(w, &w->closed);
    wal_drop_groups(w, &w->flying);
    if (w->open != NULL)
        pool_release(&wal_core(w)->groups, w->open);
    w->open = NULL;
    wal_drop_zero_block(w);
    for (uint32_t i = 0; i < WAL_FILES_MAX; i++)
        if (w->files[i].fd >= 0)
            io_close(wal_core(w)->io, w->files[i].fd);
    if (w->header_block != NULL)
        mem_pages_free(wal_core(w)->mem, w->header_block, WAL_BLOCK);
    *w = (struct wal){0};
}

/* ---- files ----------------------------------------------------------------------------------- */

static void path_making(const struct wal *w, uint32_t n, char *making, char *path)
{
    path_wal(path, w->dir->path, wal_core(w)->config.core, n);
    (void)snprintf(making, PATH_ROOM + 8, "%s.new", path);
}

static uint32_t wal_open_flags(const struct wal *w)
{
    return IO_READ | IO_WRITE | (w->direct ? IO_DIRECT : 0);
}

/* File n at its full size, not synced, and without its name: a file of that name that is shorter
 * has lost something. The fd, or -errno. */
static int wal_file_make(struct wal *w, uint32_t n)
{
    struct log_core *c = wal_core(w);
    char making[PATH_ROOM + 8], path[PATH_ROOM];
    path_making(w, n, making, path);
    int fd = io_open(c->io, making, wal_open_flags(w) | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int error = io_allocate(c->io, fd, wal_file_bytes(w));
    if (error == 0)
        return fd;
    io_close(c->io, fd);
    dir_remove_file(w->dir, making);
    return error;
}

static int wal_file_name(struct wal *w, uint32_t n)
{
    char making[PATH_ROOM + 8], path[PATH_ROOM];
    path_making(w, n, making, path);
    return io_rename(wal_core(w)->io, making, path);
}

static void wal_file_drop(struct wal *w, uint32_t n, int fd)
{
    char making[PATH_ROOM + 8], path[PATH_ROOM];
    path_making(w, n, making, path);
    io_close(wal_core(w)->io, fd);
    dir_remove_file(w->dir, making);
}

/* File n, if it is there at the right size: the fd, -ENOENT, or -errno. */
static int wal_file_found(struct wal *w, uint32_t n)
{
    struct log_core *c = wal_core(w);
    struct io_stat st;
    char path[PATH_ROOM];
    path_wal(path, w->dir->path, c->config.core, n);
    bool there = io_stat(c->io, path, &st) == 0 && st.size == wal_file_bytes(w);
    return there ? io_open(c->io, path, wal_open_flags(w)) : -ENOENT;
}

static void wal_file_take(struct wal *w, uint32_t n, int fd, bool found)
{
    struct wal_file *f = &w->files[n];
    assert(n < wal_core(w)->config.wal_files_count && f->fd < 0 && fd >= 0);
    f->fd = fd;
    f->zeroed = found ? wal_file_bytes(w) : 0;
    w->files_count = MAX(w->files_count, n + 1);
}

/* The first file. At once. 0 or -errno. */
static int wal_file_open(struct wal *w)
{
    struct log_core *c = wal_core(w);
    int fd = wal_file_found(w, 0);
    bool found = fd != -ENOENT;
    if (!found)
        fd = wal_file_make(w, 0);
    if (fd < 0)
        return fd;
    int error = found ? 0 : io_fdatasync(c->io, fd);
    if (error == 0 && !found)
        error = wal_file_name(w, 0);
    if (error == 0 && !found)
        error = io_sync_directory(c->io, w->dir->path);
    if (error == 0)
        wal_file_take(w, 0, fd, found);
    else
        wal_file_drop(w, 0, fd);
    return error;
}

static void wal_fill_header(struct wal *w, uint64_t start_sequence, bool closed)
{
    struct log_core *c = wal_core(w);
    struct wal_file_header *h = (void *)w->header_block;
    memset(w->header_block, 0, WAL_BLOCK);
    *h = (struct wal_file_header){
        .magic = WAL_MAGIC,
        .version = WAL_VERSION,
        .generation = w->generation,
        .start_sequence = start_sequence,
        .file_bytes = wal_file_bytes(w),
        .start_crc = w->crc,
        .number = w->current,
        .core = c->config.core,
        .cores_count = c->config.cores_count,
        .closed = closed ? 1 : 0,
    };
    h->crc = crc32c(0, h, offsetof(struct wal_file_header, crc));
}

/* Files of an earlier, larger configuration. */
static void wal_remove_extra(struct wal *w)
{
    struct log_core *c = wal_core(w);
    for (uint32_t n = c->config.wal_files_count; n < WAL_FILES_MAX; n++) {
        char path[PATH_ROOM];
        path_wal(path, w->dir->path, c->config.core, n);
        dir_remove_file(w->dir, path); /* most are not there */
    }
}

/* The block of the current file. At once. */
static int wal_write_header(struct wal *w)
{
    struct log_core *c = wal_core(w);
    int fd = w->files[w->current].fd;
    int64_t written = io_pwrite(c->io, fd, w->header_block, WAL_BLOCK, 0);
    if (written != WAL_BLOCK)
        return written < 0 ? (int)written : -EIO;
    return io_fdatasync(c->io, fd);
}

int wal_begin(struct wal *w, uint64_t generation)
{
    struct log_core *c = wal_core(w);
    assert(w->state.now == WAL_CLOSED);
    assert(generation > 0);
    wal_remove_extra(w);
    int error = wal_file_open(w);
    if (error != 0)
        return error;
    w->generation = generation;
    w->sequence = 0;
    w->crc = (uint32_t)io_random(c->io); /* nothing of another life can continue this chain */
    w->serial = 1;
    w->current = 0;
    w->files[0].serial = 1;
    w->position = WAL_BLOCK;
    wal_fill_header(w, 1, false);
    error = wal_write_header(w);
    if (error == 0)
        state_move(&w->state, &wal_states, WAL_SERVING);
    return error;
}

int wal_end(struct wal *w)
{
    assert(w->state.now == WAL_SERVING);
    assert(wal_last_group(w) == NULL);
    wal_fill_header(w, w->sequence + 1, true);
    return wal_write_header(w);
}

/* ---- appending ------------------------------------------------------------------------------- */

static void wal_close_group(struct wal *w)
{
    struct wal_group *g = w->open;
    assert(g != NULL && g->entries > 0);
    struct wal_group_header *h = (void *)(g->chunk->block.data + g->start);
    uint32_t length = wal_padded(g->used, WAL_BLOCK);
    memset((uint8_t *)h + g->used, 0, length - g->used);
    *h = (struct wal_group_header){
        .magic = WAL_GROUP_MAGIC,
        .version = WAL_VERSION,
        .length = length,
        .used = g->used,
        .entries = g->entries,
        .entries_crc = g->entries_crc,
    };
    g->chunk->used = g->start + length;
    g->chunk->unwritten++;
    w->open = NULL;
    list_push_back(&w->closed, &g->link);
}

/* An open group, empty or with room for need bytes more. */
static struct wal_group *wal_open_group(struct wal *w, uint32_t need)
{
    struct wal_group *g = w->open;
    uint64_t largest = wal_file_bytes(w) - WAL_BLOCK; /* invariant 2 */
    if (g != NULL && g->entries > 0 &&
        ((uint64_t)g->start + g->used + need > g->chunk->block.capacity ||
         wal_padded(g->used + need, WAL_BLOCK) > largest)) {
        SOMETIMES("a group of the WAL is full");
        wal_close_group(w);
        g = NULL;
    }
    if (g != NULL)
        return g;
    g = pool_acquire(&wal_core(w)->groups);
    if (g == NULL)
        return NULL;
    *g = (struct wal_group){0};
    list_init(&g->link);
    list_init(&g->appends);
    list_init(&g->deletes);
    w->open = g;
    return g;
}

uint8_t *wal_reserve(struct wal *w, uint32_t size)
{
    assert(w->state.now != WAL_CLOSED && w->state.now != WAL_FAILED);
    assert(size <= wal_payload_max(w));
    uint32_t need = (uint32_t)sizeof(struct wal_entry) + wal_padded(size, WAL_ENTRY_ALIGN);
    uint32_t header = (uint32_t)sizeof(struct wal_group_header);
    struct wal_group *g = wal_open_group(w, need);
    if (g == NULL)
        return NULL;
    if (g->entries == 0) { /* where it begins is still open */
        struct chunk *k = w->chunk;
        if (k == NULL || (uint64_t)k->used + header + need > k->block.capacity) {
            if (k != NULL)
                chunk_seal(k);
            uint32_t capacity = MAX(CHUNK_BYTES, wal_padded(header + need, WAL_BLOCK));
            k = w->chunk = chunk_take(wal_core(w), capacity, false);
        }
        if (k == NULL)
            return NULL;
        g->chunk = k;
        g->start = k->used;
        g->used = header;
    }
    return g->chunk->block.data + g->start + g->used + sizeof(struct wal_entry);
}

uint32_t wal_commit(struct wal *w, struct wal_entry *entry)
{
    struct wal_group *g = w->open;
    assert(g != NULL && g->chunk != NULL);
    uint32_t position = g->start + g->used;
    uint32_t padded = wal_padded(entry->length, WAL_ENTRY_ALIGN);
    assert((uint64_t)position + sizeof(*entry) + padded <= g->chunk->block.capacity);
    uint8_t *at = g->chunk->block.data + position;
    entry->crc = crc32c(0, &entry->type,
                        offsetof(struct wal_entry, slot) - offsetof(struct wal_entry, type));
    memcpy(at, entry, sizeof(*entry));
    memset(at + sizeof(*entry) + entry->length, 0, padded - entry->length);
    g->entries_crc = crc32c(g->entries_crc, &entry->crc, sizeof(entry->crc));
    if (g->entries++ == 0)
        g->opened_ns = io_now_ns(wal_core(w)->io);
    g->used += (uint32_t)sizeof(*entry) + padded;
    return position;
}

struct wal_group *wal_last_group(struct wal *w)
{
    if (w->open != NULL && w->open->entries > 0)
        return w->open;
    if (!list_empty(&w->closed))
        return container_of(w->closed.prev, struct wal_group, link);
    if (!list_empty(&w->flying))
        return container_of(w->flying.prev, struct wal_group, link);
    return NULL;
}

/* ---- who still needs a file ------------------------------------------------------------------ */

void wal_hold(struct wal *w, struct log *l)
{
    assert(l->dir == w->dir);
    if (l->settle_serial != 0)
        return;
    assert(list_empty(&l->settle_link));
    l->settle_serial = w->serial;
    w->files[w->current].holders++;
    list_push_back(&w->unsettled, &l->settle_link);
}

void wal_unhold(struct wal *w, uint64_t serial)
{
    assert(serial > 0);
    for (uint32_t i = 0; i < w->files_count; i++) {
        struct wal_file *f = &w->files[i];
        if (f->serial != serial)
            continue;
        assert(f->holders > 0);
        f->holders--;
        return;
    }
    assert(false); /* invariant 3: a held file is not begun anew */
}

static uint32_t wal_next_number(const struct wal *w)
{
    /* While there are files to be made they come first; then round and round. */
    return w->current + 1 < w->files_count ? w->current + 1 : 0;
}

/* Is there another file to come, and is there what it takes as far as is known? */
static bool wal_may_make(const struct wal *w)
{
    const struct log_core *c = wal_core(w);
    return w->files_count < c->config.wal_files_count && dir_writable(w->dir) &&
           (w->dir->state.now == DIR_OK || w->files_count < 2) && io_now_ns(c->io) >= w->make_ns;
}

uint64_t wal_wants_settled(const struct wal *w)
{
    if (w->state.now == WAL_CLOSED || w->state.now == WAL_FAILED)
        return 0;
    if (wal_may_make(w))
        return 0; /* the next file will be a new one */
    const struct wal_file *next = &w->files[wal_next_number(w)];
    return next->holders > 0 ? next->serial : 0;
}

/* ---- background: the next file --------------------------------------------------------------- */

/* The file with blocks still to be written, and from where: the current one, well ahead of its
 * groups, then the next one. NULL: none. */
static struct wal_file *wal_zero_where(struct wal *w, uint64_t *from)
{
    struct wal_file *f = &w->files[w->current];
    *from = MAX(f->zeroed, wal_padded64(w->position) + WAL_ZERO_AHEAD);
    if (*from < wal_file_bytes(w))
        return f->zeroed < wal_file_bytes(w) ? f : NULL;
    f = &w->files[wal_next_number(w)];
    *from = f->zeroed;
    bool fresh = f->number != w->current && f->serial == 0;
    return fresh && f->zeroed < wal_file_bytes(w) ? f : NULL;
}

static void wal_zero(struct wal *w)
{
    struct log_core *c = wal_core(w);
    uint64_t from = 0;
    if (w->zero_rw.op.armed)
        return;
    struct wal_file *f = wal_zero_where(w, &from);
    if (f == NULL) {
        wal_drop_zero_block(w);
        return;
    }
    if (w->zero_block == NULL) {
        w->zero_block = mem_pages(c->mem, WAL_ZERO_BYTES);
        SOMETIMES("a WAL file is zeroed");
        if (w->zero_block == NULL)
            return; /* it will do without */
        memset(w->zero_block, 0, WAL_ZERO_BYTES);
    }
    uint64_t size = MIN((uint64_t)WAL_ZERO_BYTES, wal_file_bytes(w) - from);
    w->zero_file = f->number;
    w->zero_from = from;
    w->zero_iov = (struct iovec){w->zero_block, size};
    w->zero_rw.fd = f->fd;
    w->zero_rw.iov = &w->zero_iov;
    w->zero_rw.iov_count = 1;
    w->zero_rw.flags = 0;
    w->zero_rw.offset = from;
    io_write(c->io, &w->zero_rw);
}

static void wal_zeroed(struct op *op)
{
    struct wal *w = container_of(op, struct wal, zero_rw.op);
    assert(w->zero_file < WAL_FILES_MAX);
    if (op->result < 0) { /* allocated space cannot be written: the device is bad */
        dir_fail(w->dir, op->result, "zeroing a WAL file");
        return;
    }
    w->files[w->zero_file].zeroed = w->zero_from + (uint64_t)op->result;
}

/* The next file is not there in time, maybe: then the log goes on in those that are. */
static void wal_make_later(struct wal *w, int error)
{
    struct log_core *c = wal_core(w);
    w->make_ns = io_now_ns(c->io) + WAL_MAKE_REST_NS;
    trace_line(
        c->trace, TRACE_LOG, TRACE_WARN,
        "%s: no WAL file can be made just now, it is tried again: %s; raise the limit of open "
        "files (ulimit -n, LimitNOFILE=) or the memory",
        w->dir->path, strerror(-error));
}

/* The file being made is not to be had: what that means depends on why. */
static void wal_make_refused(struct wal *w, int error)
{
    bool full = error == -ENOSPC || error == -EDQUOT;
    SOMETIMES_IF(full, "there is no space for another WAL file");
    if (full && w->state.now == WAL_STALLED)
        dir_full(w->dir);
    else if (full) /* not needed yet */
        w->make_ns = io_now_ns(wal_core(w)->io) + WAL_MAKE_REST_NS;
    else if (log_error_passes(error))
        wal_make_later(w, error);
    else
        dir_fail(w->dir, error, "making a WAL file");
}

static void wal_make_sync(struct wal *w, int fd, bool directory)
{
    w->make_sync.fd = fd;
    w->make_sync.directory = directory;
    io_sync(wal_core(w)->io, &w->make_sync);
}

/* The next one: its size is made durable, then its name. One that an earlier life has left is as
 * far as that: what it left in the page cache, too, became durable at the start. */
static int wal_make(struct wal *w)
{
    struct log_core *c = wal_core(w);
    assert(w->make_fd < 0 && !w->make_sync.op.armed);
    int fd = wal_file_found(w, w->files_count);
    if (fd >= 0)
        wal_file_take(w, w->files_count, fd, true);
    if (fd != -ENOENT)
        return MIN(fd, 0);
    int folder = io_open(c->io, w->dir->path, IO_READ); /* had before there is a name */
    if (folder < 0)
        return folder;
    fd = wal_file_make(w, w->files_count);
    if (fd < 0) {
        io_close(c->io, folder);
        return fd;
    }
    w->make_fd = fd;
    w->make_folder = folder;
    wal_make_sync(w, fd, false);
    return 0;
}

static void wal_make_end(struct wal *w, bool made)
{
    struct log_core *c = wal_core(w);
    io_close(c->io, w->make_folder);
    if (made)
        wal_file_take(w, w->files_count, w->make_fd, false);
    else
        wal_file_drop(w, w->files_count, w->make_fd);
    w->make_fd = -1;
}

static void wal_made(struct op *op)
{
    struct wal *w = container_of(op, struct wal, make_sync.op);
    int error = op->result;
    bool over = w->state.now == WAL_FAILED || wal_core(w)->phase.now == PHASE_STOPPED;
    bool named = w->make_sync.directory;
    assert(w->make_fd >= 0);
    if (!over && error == 0 && !named) {
        error = wal_file_name(w, w->files_count);
        if (error == 0) {
            wal_make_sync(w, w->make_folder, true);
            return;
        }
    }
    SOMETIMES_IF(over, "a WAL ends while a file is being made");
    wal_make_end(w, !over && error == 0);
    if (over || error == 0)
        return;
    if (named)
        dir_fail(w->dir, error, "making a WAL file"); /* no other sync would bring its name there */
    else
        wal_make_refused(w, error);
}

/* Makes the next file once this one is half full, or has no room for the group that is to be
 * written, and zeroes it. */
static void wal_prepare(struct wal *w)
{
    bool soon = w->position > wal_file_bytes(w) / 2 || w->state.now == WAL_STALLED ||
                w->dir->state.now == DIR_FULL; /* while there is space */
    if (soon && w->make_fd < 0 && w->current + 1 == w->files_count && wal_may_make(w)) {
        int error = wal_make(w);
        if (error != 0)
            wal_make_refused(w, error);
    }
    if (w->state.now != WAL_FAILED)
        wal_zero(w);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Turns to the next file. false: it is not free yet. */
static bool wal_next_file(struct wal *w)
{
    uint32_t n = wal_next_number(w);
    struct wal_file *f = &w->files[n];
    SOMETIMES_IF(f->holders > 0, "the WAL waits for its next file to be settled");
    if (n == w->current || f->holders > 0 || f->fd < 0)
        return false;
    SOMETIMES_IF(w->zero_rw.op.armed && w->zero_file == n,
                 "a WAL file waits for the zero that is being written into it");
    if (w->zero_rw.op.armed && w->zero_file == n)
        return false; /* a zero could land on a group */
    SOMETIMES("the WAL goes on to another file");
    w->current = n;
    w->serial++;
    SOMETIMES("a WAL file is begun");
    f->serial = w->serial;
    w->position = 0;
    return true;
}

static void wal_seal_group(struct wal *w, struct wal_group *g, uint64_t first_in_flight)
{
    struct wal_group_header *h = (void *)(g->chunk->block.data + g->start);
    assert(h->magic == WAL_GROUP_MAGIC);
    h->generation = w->generation;
    h->sequence = ++w->sequence;
    h->first_in_flight = first_in_flight;
    h->wall_ms = io_wall_ms(wal_core(w)->io);
    h->previous_crc = w->crc;
    h->crc = crc32c(0, h, offsetof(struct wal_group_header, crc));
    w->crc = h->crc;
}

static uint32_t group_length(const struct wal_group *g)
{
    return wal_padded(g->used, WAL_BLOCK);
}

/* A zero under way must not land on a group: groups end before it. */
static uint64_t wal_write_limit(const struct wal *w)
{
    bool zeroing = w->zero_rw.op.armed && w->zero_file == w->current;
    return zeroing ? w->zero_from : wal_file_bytes(w);
}

/* May a write that begins with so many bytes leave now, beside those in flight? Turns to the next
 * file if it must; stalls if that is not free. */
static bool wal_may_write(struct wal *w, uint32_t length)
{
    assert(length <= wal_file_bytes(w) - WAL_BLOCK);      /* invariant 2 */
    uint32_t writes_max = w->direct ? WAL_WRITES_MAX : 1; /* a sync is for one */
    SOMETIMES_IF(w->writes_count >= writes_max,
                 "as many writes of the WAL are in flight as may be");
    if (w->writes_count >= writes_max)
        return false;
    if (w->writes_count > 0 && w->flying_bytes + length > WAL_FLYING_BYTES)
        return false;
    SOMETIMES_IF(w->writes_count > 0 && w->writes[w->writes_head].rw.offset == 0,
                 "a write of the WAL waits for that of the header");
    if (w->writes_count > 0 && w->writes[w->writes_head].rw.offset == 0) /* invariant 6 */
        return false;
    if (w->position + length > wal_file_bytes(w)) {
        if (w->writes_count > 0) /* invariant 6 */
            return false;
        if (!wal_next_file(w)) {
            SOMETIMES_IF(w->state.now != WAL_STALLED, "the WAL is stalled");
            if (w->state.now != WAL_STALLED)
                state_move(&w->state, &wal_states, WAL_STALLED);
            return false;
        }
    }
    return w->position + length <= wal_write_limit(w); /* if not: when that zero is written */
}

/* What it holds was in memory only until now. */
static void wal_group_leaves(struct wal *w, struct wal_group *g)
{
    struct log_core *c = wal_core(w);
    LIST_EACH(at, &g->appends)
    {
        struct trip *t = container_of(at, struct log_append, link)->trip;
        if (t != NULL && t->now == TRIP_WAIT)
            trip_move(t, c->config.board, TRIP_WRITE);
    }
    list_remove(&g->link);
    list_push_back(&w->flying, &g->link);
}

static void wal_write(struct wal *w)
{
    struct log_core *c = wal_core(w);
    uint64_t limit = wal_write_limit(w);
    struct wal_write *x = &w->writes[(w->writes_head + w->writes_count) % WAL_WRITES_MAX];
    assert(!x->rw.op.armed && !x->done);
    uint32_t iov_count = 0;
    x->rw.offset = w->position;
    x->expected = x->groups_count = x->entries = 0;
    x->begun_ns = io_now_ns(c->io);
    x->first = w->sequence + 1;
    if (w->position == 0) { /* invariant 5 */
        wal_fill_header(w, x->first, false);
        x->iov[iov_count++] = (struct iovec){w->header_block, WAL_BLOCK};
        w->position = x->expected = WAL_BLOCK;
    }
    uint64_t first_in_flight = w->writes_count > 0 ? w->writes[w->writes_head].first : x->first;
    for (uint32_t i = 0; i < WAL_WRITE_GROUPS && !list_empty(&w->closed); i++) {
        struct wal_group *g = container_of(list_first(&w->closed), struct wal_group, link);
        uint32_t length = group_length(g);
        if (i > 0 && (x->expected + length > WAL_WRITE_BYTES || w->position + length > limit))
            break;
        wal_seal_group(w, g, first_in_flight);
        if (i == 0)
            histogram_record(&c->times.wal_wait_ns, x->begun_ns - g->opened_ns);
        wal_group_leaves(w, g);
        x->iov[iov_count++] = (struct iovec){g->chunk->block.data + g->start, length};
        x->groups_count++;
        x->entries += g->entries;
        w->position += length;
        x->expected += length;
    }
    SOMETIMES_IF(w->state.now == WAL_STALLED, "a stalled WAL goes on");
    if (w->state.now == WAL_STALLED)
        state_move(&w->state, &wal_states, WAL_SERVING);
    w->writes_count++;
    SOMETIMES_IF(x->groups_count > 1, "a write of the WAL has more than one group");
    w->flying_bytes += x->expected;
    x->rw.fd = w->files[w->current].fd;
    x->rw.iov = x->iov;
    x->rw.iov_count = iov_count;
    x->rw.flags = w->direct && !DEFECT(1) ? IO_DSYNC : 0;
    c->stats.wal_writes++;
    c->stats.wal_bytes += x->expected;
    histogram_record(&c->times.wal_write_bytes, x->expected);
    histogram_record(&c->times.wal_write_batches, x->entries);
    io_write(c->io, &x->rw);
}

/* The append's batch is durable: so are those of its log before it. */
static void wal_append_done(struct wal *w, struct log_append *a)
{
    struct log *l = a->log;
    assert(l != NULL && l->dir == w->dir);
    a->error = KE_NONE;
    if (a->wait_offset > l->durable_end) {
        l->durable_end = a->wait_offset;
        log_moved(l);
    }
    list_push_back(&wal_core(w)->completed, &a->link);
}

/* Of what it has those know who waited for it; these do not any more. */
static void wal_group_note(struct wal *w, const struct wal_group *g)
{
    struct log_core *c = wal_core(w);
    uint32_t at = g->start + (uint32_t)sizeof(struct wal_group_header), end = g->start + g->used;
    SOMETIMES("what was answered for want of space becomes durable");
    while (at < end) {
        const struct wal_entry *e = (const void *)(g->chunk->block.data + at);
        struct log *l = log_of_entry(c, e);
        if (l != NULL && e->last_offset + 1 > l->durable_end) {
            l->durable_end = e->last_offset + 1;
            log_moved(l);
        }
        at += (uint32_t)sizeof(*e) + wal_padded(e->length, WAL_ENTRY_ALIGN);
    }
}

static void wal_group_done(struct wal *w, struct wal_group *g)
{
    struct list *at;
    if (g->answered)
        wal_group_note(w, g);
    chunk_written(g->chunk);
    while ((at = list_pop_front(&g->appends)) != NULL)
        wal_append_done(w, container_of(at, struct log_append, link));
    while ((at = list_pop_front(&g->deletes)) != NULL) {
        struct log_delete_records *d = container_of(at, struct log_delete_records, link);
        d->error = KE_NONE;
        list_push_back(&wal_core(w)->deletes_completed, &d->link);
    }
    pool_release(&wal_core(w)->groups, g);
}

/* A write is done: its groups are, and those of done writes behind it, if all before are. */
static void wal_complete(struct wal *w, struct wal_write *done)
{
    assert(!done->done && w->writes_count > 0);
    SOMETIMES_IF(done != &w->writes[w->writes_head],
                 "a write of the WAL overtakes the one before it");
    done->done = true;
    struct log_core *c = wal_core(w);
    uint64_t took = io_now_ns(c->io) - done->begun_ns;
    histogram_record(&c->times.wal_write_ns, took);
    w->typical_ns = (w->typical_ns * 7 + took) / 8;
    while (w->writes_count > 0 && w->writes[w->writes_head].done) {
        struct wal_write *x = &w->writes[w->writes_head];
        for (uint32_t i = 0; i < x->groups_count; i++) {
            struct list *l = list_pop_front(&w->flying);
            assert(l != NULL);
            wal_group_done(w, container_of(l, struct wal_group, link));
        }
        x->done = false;
        w->flying_bytes -= x->expected;
        w->writes_head = (w->writes_head + 1) % WAL_WRITES_MAX;
        w->writes_count--;
    }
    assert(w->writes_count > 0 || (w->flying_bytes == 0 && list_empty(&w->flying)));
}

/* Nothing of these groups is promised any more; their memory is ours again. */
static void wal_refuse(struct wal *w, struct list *groups)
{
    struct list *l, *at;
    while ((l = list_pop_front(groups)) != NULL) {
        struct wal_group *g = container_of(l, struct wal_group, link);
        if (g->chunk != NULL)
            chunk_written(g->chunk);
        while ((at = list_pop_front(&g->appends)) != NULL)
            append_refuse(container_of(at, struct log_append, link), KE_KAFKA_STORAGE_ERROR);
        while ((at = list_pop_front(&g->deletes)) != NULL)
            delete_refuse(container_of(at, struct log_delete_records, link),
                          KE_KAFKA_STORAGE_ERROR);
        pool_release(&wal_core(w)->groups, g);
    }
}

void wal_fail(struct wal *w)
{
    SOMETIMES("the WAL of a directory fails");
    assert(w->dir->state.now == DIR_FAILED);
    if (w->state.now == WAL_FAILED)
        return;
    state_move(&w->state, &wal_states, WAL_FAILED);
    if (w->open != NULL && w->open->entries > 0)
        wal_close_group(w);
    if (w->open != NULL)
        pool_release(&wal_core(w)->groups, w->open);
    w->open = NULL;
    wal_refuse(w, &w->closed);
    SOMETIMES_IF(wal_flies(w), "the WAL fails with writes in flight");
    if (!wal_flies(w))
        wal_refuse(w, &w->flying); /* else the kernel reads them: at the last completion */
}

static void group_answer(struct wal_group *g)
{
    LIST_EACH(at, &g->appends)
    {
        struct log_append *a = container_of(at, struct log_append, link);
        if (a->origin == LOG_ORIGIN_COORDINATOR)
            continue; /* it is never in doubt about what it has appended */
        SOMETIMES("an append that waits in the WAL is refused for want of space");
        g->answered = true;
        list_remove(&a->link);
        append_refuse(a, KE_KAFKA_STORAGE_ERROR);
    }
}

void wal_answer_waiting(struct wal *w)
{
    assert(w->state.now == WAL_STALLED);
    assert(w->dir->state.now == DIR_FULL);
    LIST_EACH(at, &w->closed)
    group_answer(container_of(at, struct wal_group, link));
    if (w->open != NULL)
        group_answer(w->open);
}

static void group_refuse_log(struct wal_group *g, struct log *l, enum kafka_error error)
{
    LIST_EACH(at, &g->appends)
    {
        struct log_append *a = container_of(at, struct log_append, link);
        if (a->log != l)
            continue;
        SOMETIMES("an append of a deleted log waits in the WAL");
        list_remove(&a->link);
        append_refuse(a, error);
    }
    LIST_EACH(at, &g->deletes)
    {
        struct log_delete_records *d = container_of(at, struct log_delete_records, link);
        if (d->log != l)
            continue;
        list_remove(&d->link);
        delete_refuse(d, error);
    }
}

void wal_refuse_log(struct wal *w, struct log *l, enum kafka_error error)
{
    if (w->dir == NULL)
        return; /* never opened: its directory failed before */
    SOMETIMES("what waits in the WAL for a log is refused");
    if (w->open != NULL)
        group_refuse_log(w->open, l, error);
    LIST_EACH(at, &w->closed)
    group_refuse_log(container_of(at, struct wal_group, link), l, error);
    LIST_EACH(at, &w->flying)
    group_refuse_log(container_of(at, struct wal_group, link), l, error);
}

/* Nothing is promised any more; the last completion gives the memory back. */
static bool wal_over(struct wal *w)
{
    if (w->state.now != WAL_FAILED && wal_core(w)->phase.now != PHASE_STOPPED)
        return false;
    SOMETIMES("a write ends after the end of its WAL");
    if (!wal_flies(w))
        wal_refuse(w, &w->flying);
    return true;
}

static void wal_synced(struct op *op)
{
    struct wal *w = container_of(op, struct wal, sync.op);
    if (wal_over(w))
        return;
    if (op->result < 0)
        dir_fail(w->dir, op->result, "syncing the WAL");
    else
        wal_complete(w, &w->writes[w->writes_head]);
}

static void wal_written(struct op *op)
{
    struct wal_write *x = container_of(op, struct wal_write, rw.op);
    struct wal *w = x->wal;
    if (wal_over(w))
        return;
    assert(w->state.now == WAL_SERVING);
    if ((op->result < 0 || (uint32_t)op->result != x->expected) && !DEFECT(2)) {
        dir_fail(w->dir, op->result < 0 ? op->result : -EIO, "writing the WAL");
        return;
    }
    if (w->direct) {
        wal_complete(w, x);
        return;
    }
    assert(w->writes_count == 1);
    SOMETIMES("the WAL is synced apart from its writes");
    w->sync.fd = w->files[w->current].fd;
    io_sync(wal_core(w)->io, &w->sync);
}

void wal_turn(struct wal *w)
{
    if (w->state.now != WAL_SERVING && w->state.now != WAL_STALLED)
        return;
    wal_prepare(w);
    const struct wal_group *first = w->open != NULL && w->open->entries > 0 ? w->open : NULL;
    if (!list_empty(&w->closed))
        first = container_of(list_first(&w->closed), struct wal_group, link);
    if (w->state.now == WAL_FAILED || first == NULL)
        return;
    /* What cannot leave now gathers in the open group instead of making many small ones. */
    if (wal_may_write(w, group_length(first))) {
        if (w->open != NULL && w->open->entries > 0)
            wal_close_group(w);
        wal_write(w);
    }
    if (w->state.now == WAL_STALLED)
        wal_prepare(w);
    if (w->state.now == WAL_STALLED && !dir_writable(w->dir))
        wal_answer_waiting(w);
}
