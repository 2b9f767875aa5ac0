/* Files of the simulated world: the disk (disk.c, keep.c) with latency, faults and descriptors.
 *
 *   io_write ─▶ in flight, bytes still the caller's ─▶ (latency) ─▶ now [─▶ kept: IO_DSYNC] ─▶ done
 *   io_sync  ─▶ begins: what is there now ────────── (latency) ─▶ kept ─▶ done
 *   io_punch, io_remove ──────────────────────────── (latency) ─▶ now ─▶ done
 *   at once  ─▶ sim_pause: other cores run, or everything ends ─▶ it happens ─▶ returns
 *
 * Invariants:
 *  1. A transfer touches the disk at its end, at one moment drawn: two that overlap in time may
 *     happen in either order, and a read may see neither or both.
 *  2. What a write writes must not change while it is in flight: its hash is taken at both ends.
 *  3. Vectors come back soiled (io.h: io may change them).
 *  4. A write in flight at the end of a process is done in part: by pages after a kill, by sectors
 *     after a power cut. What gives room or a name back is done or not.
 *  5. IO_DIRECT needs memory, offset and size in multiples of 4096, and is refused otherwise.
 *
 * Failure modes: errors that sim_disk_fail or the capacity ask for, at the moment of the transfer.
 * A failed write has written some pages; a failed sync has lost some, for good. */
#include <stdio.h>
#include <string.h>

#include "io/sim/sim_priv.h"

#define SPACE_TOTAL (1ull << 40)

/* ---- faults and latency ---------------------------------------------------------------------- */

static const char *call_name(uint32_t call)
{
    return call == SIM_DISK_READ    ? "read"
           : call == SIM_DISK_WRITE ? "write"
           : call == SIM_DISK_SYNC  ? "sync"
           : call == SIM_DISK_NAME  ? "name"
                                    : "look";
}

/* Who calls: all calls of files begin with it. */
#define CALLED(io) ((io)->from = __builtin_return_address(0))

/* A call fails, and it is noted whose. */
static int refused(struct sim_machine *m, const void *from, int error)
{
    uint32_t at = 0;
    while (at < m->refusals_count &&
           (m->refusals[at].from != from || m->refusals[at].error != error))
        at++;
    if (at == SIM_REFUSED_MAX)
        return error;
    m->refusals_count = MAX(m->refusals_count, at + 1);
    m->refusals[at].from = from;
    m->refusals[at].error = error;
    m->refusals[at].times++;
    return error;
}

/* 0, or the error that was asked for. i: what is touched; NULL: it has only a path yet. */
static int fault_next(struct sim_machine *m, const void *from, const struct inode *i,
                      const char *path, uint32_t call)
{
    struct disk_fault *f = &m->fault;
    uint32_t volume = i != NULL ? i->volume : disk_volume(&m->disk, path);
    m->disk_calls++;
    if (m->disk_calls == m->full_at) {
        disk_site(&m->disk, i, path, call_name(call), m->site);
        m->disk.capacity = m->disk.bytes;
    }
    if ((f->calls & call) == 0 || (f->volumes & 1u << volume) == 0 || f->times == 0)
        return 0;
    if (f->n > 0) {
        f->n--;
        return 0;
    }
    f->times--;
    disk_site(&m->disk, i, path, call_name(call), m->site);
    m->sim->counts[SIM_DISK_FAILURES]++;
    return refused(m, from, f->error);
}

static uint64_t transfer_at(struct sim_machine *m, uint64_t mean_ns)
{
    uint64_t at = m->sim->now_ns + 1 + chance_around(&m->chance, mean_ns) * m->slow_factor;
    return MAX(at, m->frozen_until);
}

static int64_t wall_now(const struct io *io)
{
    return io->wall_ms;
}

/* ---- vectors --------------------------------------------------------------------------------- */

static uint64_t iov_hash(const struct iovec *iov, uint32_t count)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < count; i++)
        hash = chance_hash(hash, iov[i].iov_base, iov[i].iov_len);
    return hash;
}

static bool iov_aligned(const struct io_rw *rw)
{
    bool aligned = rw->offset % DISK_PAGE == 0;
    for (uint32_t i = 0; i < rw->iov_count; i++)
        aligned &=
            (uintptr_t)rw->iov[i].iov_base % DISK_PAGE == 0 && rw->iov[i].iov_len % DISK_PAGE == 0;
    return aligned;
}

static void iov_soil(struct io_rw *rw)
{
    for (uint32_t i = 0; i < rw->iov_count; i++)
        rw->iov[i] = (struct iovec){0};
    rw->iov += rw->iov_count;
    rw->iov_count = 0;
}

/* Writes bytes [from, to) of what rw holds. */
static int iov_write(struct sim_op *o, const struct io_rw *rw, uint64_t from, uint64_t to)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < rw->iov_count; i++) {
        uint64_t start = MAX(at, from), end = MIN(at + rw->iov[i].iov_len, to);
        if (start < end) {
            const uint8_t *bytes = (const uint8_t *)rw->iov[i].iov_base + (start - at);
            int error = disk_write(&o->io->machine->disk, o->inode, o->offset + start, bytes,
                                   (size_t)(end - start));
            if (error != 0)
                return error;
        }
        at += rw->iov[i].iov_len;
    }
    return 0;
}

static uint64_t iov_read(struct sim_op *o, const struct io_rw *rw)
{
    uint64_t moved = 0;
    for (uint32_t i = 0; i < rw->iov_count; i++) {
        size_t n = disk_read(o->inode, o->offset + moved, rw->iov[i].iov_base, rw->iov[i].iov_len);
        moved += n;
        if (n < rw->iov[i].iov_len)
            break;
    }
    return moved;
}

/* ---- asynchronous transfers ------------------------------------------------------------------ */

/* A write fails after some of its pages, none and all included, or in the sync that belongs to it.
 */
static void write_fail(struct sim_op *o, const struct io_rw *rw)
{
    struct disk *d = &o->io->machine->disk;
    uint64_t pages = (o->size + DISK_PAGE - 1) / DISK_PAGE;
    uint64_t part = MIN(o->size, chance_between(&o->io->machine->chance, 0, pages) * DISK_PAGE);
    int error = iov_write(o, rw, 0, part);
    (void)error; /* it has failed already */
    if (!o->dsync || part == 0)
        return;
    struct disk_sync sync;
    disk_sync_begin(d, o->inode, &sync);
    disk_sync_fail(d, o->inode, &sync);
}

static int32_t write_happens(struct sim_op *o, const struct io_rw *rw)
{
    struct sim_machine *m = o->io->machine;
    assert(iov_hash(rw->iov, rw->iov_count) == o->hash); /* invariant 2 */
    int error = fault_next(m, o->from, o->inode, NULL, SIM_DISK_WRITE);
    if (error == 0 && !disk_has_room(&m->disk, o->inode, o->offset, o->size))
        error = refused(m, o->from, -ENOSPC);
    if (error != 0) {
        write_fail(o, rw);
        return error;
    }
    error = iov_write(o, rw, 0, o->size);
    assert(error == 0);
    o->inode->modified_ms = wall_now(o->io);
    if (o->dsync && !o->io->sim->style.lies)
        disk_keep(&m->disk, o->inode, o->offset, o->size);
    return (int32_t)o->size;
}

static void rw_due(struct sim_event *e)
{
    struct sim_op *o = container_of(e, struct sim_op, event);
    struct io_rw *rw = container_of(o->op, struct io_rw, op);
    struct sim_machine *m = o->io->machine;
    if (rw->writing) {
        o->result = write_happens(o, rw);
    } else {
        int error = fault_next(m, o->from, o->inode, NULL, SIM_DISK_READ);
        o->result = error != 0 ? error : (int32_t)iov_read(o, rw);
    }
    sim_note(m->sim, m->index, KIND_DISK,
             chance_mix(o->inode->id, chance_mix(o->offset, (uint32_t)o->result ^ o->hash)));
    sim_past_add(o, rw->writing ? "write" : "read");
    iov_soil(rw);
    disk_release(&m->disk, o->inode);
    o->inode = NULL;
    sim_op_ready(o);
}

static void rw_start(struct io *io, struct io_rw *rw, bool writing)
{
    struct sim_machine *m = io->machine;
    rw->writing = writing;
    rw->moved = 0;
    struct sim_op *o = sim_op_start(io, &rw->op, OP_RW);
    o->size = sim_iov_size(rw->iov, rw->iov_count);
    assert(o->size <= INT32_MAX);
    struct sim_fd *fd = sim_fd_find(m, rw->fd, FD_FILE);
    int32_t refused = 0;
    if (fd == NULL || (fd->flags & (writing ? IO_WRITE : IO_READ)) == 0)
        refused = -EBADF;
    else if (fd->inode->directory)
        refused = -EISDIR;
    else if ((fd->flags & IO_DIRECT) != 0 && !iov_aligned(rw))
        refused = -EINVAL;
    if (refused != 0 || o->size == 0) {
        sim_op_plan(o, refused, io->sim->now_ns + 1);
        return;
    }
    o->inode = fd->inode;
    disk_hold(o->inode);
    o->offset = rw->offset;
    o->dsync = writing && (rw->flags & IO_DSYNC) != 0;
    o->hash = writing ? iov_hash(rw->iov, rw->iov_count) : 0;
    const struct sim_style *y = &io->sim->style;
    uint64_t mean = !writing ? y->read_ns : o->dsync ? y->write_ns + y->sync_ns : y->write_ns;
    sim_plan(io->sim, &o->event, transfer_at(m, mean), rw_due);
}

void io_read(struct io *io, struct io_rw *rw)
{
    CALLED(io);
    rw_start(io, rw, false);
}

void io_write(struct io *io, struct io_rw *rw)
{
    CALLED(io);
    rw_start(io, rw, true);
}

static int sync_ends(struct sim_machine *m, const void *from, struct inode *i,
                     const struct disk_sync *sync)
{
    int error = fault_next(m, from, i, NULL, SIM_DISK_SYNC);
    if (m->sim->style.lies)
        i->syncs--;
    else if (error != 0)
        disk_sync_fail(&m->disk, i, sync);
    else
        disk_sync_end(&m->disk, i, sync);
    return error;
}

/* Of a directory: its names are kept at the beginning or at the end, which is drawn, so that a
 * change meanwhile may be kept with them or not. */
static void names_sync_begin(struct sim_op *o)
{
    struct sim_machine *m = o->io->machine;
    o->names_kept = chance_one_in(&m->chance, 2);
    if (o->names_kept)
        disk_sync_names(&m->disk, o->inode);
}

static int names_sync_end(struct sim_op *o)
{
    struct sim_machine *m = o->io->machine;
    int error = fault_next(m, o->from, o->inode, NULL, SIM_DISK_SYNC);
    if (error == 0 && !o->names_kept)
        disk_sync_names(&m->disk, o->inode);
    return error;
}

static void sync_due(struct sim_event *e)
{
    struct sim_op *o = container_of(e, struct sim_op, event);
    struct sim_machine *m = o->io->machine;
    o->result = o->inode->directory ? names_sync_end(o) : sync_ends(m, o->from, o->inode, &o->sync);
    sim_note(m->sim, m->index, KIND_DISK, chance_mix(o->inode->id, (uint32_t)o->result));
    sim_past_add(o, "sync");
    disk_release(&m->disk, o->inode);
    o->inode = NULL;
    sim_op_ready(o);
}

void io_sync(struct io *io, struct io_sync *s)
{
    CALLED(io);
    struct sim_op *o = sim_op_start(io, &s->op, OP_SYNC);
    struct sim_fd *fd = sim_fd_find(io->machine, s->fd, FD_FILE);
    if (fd == NULL || fd->inode->directory != s->directory) {
        sim_op_plan(o, fd == NULL ? -EBADF : -EINVAL, io->sim->now_ns + 1);
        return;
    }
    o->inode = fd->inode;
    disk_hold(o->inode);
    if (s->directory)
        names_sync_begin(o);
    else
        disk_sync_begin(&io->machine->disk, o->inode, &o->sync);
    sim_plan(io->sim, &o->event, transfer_at(io->machine, io->sim->style.sync_ns), sync_due);
}

/* ---- asynchronous changes of room and names -------------------------------------------------- */

static int change_happens(struct sim_op *o)
{
    struct disk *d = &o->io->machine->disk;
    if (o->kind == OP_PUNCH) {
        disk_punch(d, o->inode, o->offset, o->size);
        return 0;
    }
    const struct io_remove *r = container_of(o->op, struct io_remove, op);
    return disk_remove(d, r->path, r->folder);
}

static void change_due(struct sim_event *e)
{
    struct sim_op *o = container_of(e, struct sim_op, event);
    struct sim_machine *m = o->io->machine;
    o->result = fault_next(m, o->from, o->inode, NULL, SIM_DISK_NAME);
    if (o->result == 0)
        o->result = change_happens(o);
    sim_note(m->sim, m->index, KIND_DISK,
             chance_mix(o->inode->id, chance_mix(o->offset, (uint32_t)o->result)));
    sim_past_add(o, o->kind == OP_PUNCH ? "punch" : "remove");
    disk_release(&m->disk, o->inode);
    o->inode = NULL;
    sim_op_ready(o);
}

static void change_plan(struct sim_op *o, struct inode *i)
{
    o->inode = i;
    disk_hold(i);
    sim_plan(o->io->sim, &o->event, transfer_at(o->io->machine, o->io->sim->style.write_ns),
             change_due);
}

void io_punch(struct io *io, struct io_punch *p)
{
    CALLED(io);
    struct sim_op *o = sim_op_start(io, &p->op, OP_PUNCH);
    struct sim_fd *fd = sim_fd_find(io->machine, p->fd, FD_FILE);
    assert(p->size > 0);
    o->offset = p->offset;
    o->size = p->size;
    if (fd == NULL || (fd->flags & IO_WRITE) == 0)
        sim_op_plan(o, -EBADF, io->sim->now_ns + 1);
    else
        change_plan(o, fd->inode);
}

void io_remove(struct io *io, struct io_remove *r)
{
    CALLED(io);
    struct sim_op *o = sim_op_start(io, &r->op, OP_REMOVE);
    struct inode *i;
    int error = disk_find(&io->machine->disk, r->path, &i);
    if (error != 0)
        sim_op_plan(o, error, io->sim->now_ns + 1);
    else
        change_plan(o, i);
}

/* ---- the end of a process -------------------------------------------------------------------- */

/* Sector by sector: those that are chosen have reached the device. */
static void write_torn(struct sim_op *o, const struct io_rw *rw)
{
    struct sim_machine *m = o->io->machine;
    uint64_t mood = chance_below(&m->chance, 4); /* none, all, the first few, any */
    uint64_t first = chance_between(&m->chance, 0, o->size);
    for (uint64_t at = 0; at < o->size;) {
        uint64_t next =
            MIN(o->size, ((o->offset + at) / DISK_SECTOR + 1) * DISK_SECTOR - o->offset);
        bool some = chance_one_in(&m->chance, 2);
        bool kept = mood == 1 || (mood == 2 && next <= first) || (mood == 3 && some);
        if (kept && iov_write(o, rw, at, next) == 0 && o->dsync)
            disk_keep(&m->disk, o->inode, o->offset + at, next - at);
        at = next;
    }
    m->sim->counts[SIM_WRITES_TORN] += mood >= 2;
}

/* None of it, some pages, or all. */
static void write_partly(struct sim_op *o, const struct io_rw *rw)
{
    struct chance *c = &o->io->machine->chance;
    uint64_t part = chance_between(c, 0, o->size) / DISK_PAGE * DISK_PAGE;
    int error = iov_write(o, rw, 0, chance_one_in(c, 2) ? o->size : part);
    (void)error; /* a full disk: then none of it */
}

void sim_file_abandon(struct sim_op *o, enum death death)
{
    struct sim_machine *m = o->io->machine;
    if (o->inode == NULL)
        return; /* it has happened, or was refused */
    if (o->kind == OP_SYNC && o->inode->directory) {
        if (!o->names_kept && chance_one_in(&m->chance, 2))
            disk_sync_names(&m->disk, o->inode);
    } else if (o->kind == OP_SYNC) {
        if (chance_one_in(&m->chance, 2))
            disk_sync_end(&m->disk, o->inode, &o->sync);
        else
            o->inode->syncs--;
    } else if (o->kind == OP_PUNCH || o->kind == OP_REMOVE) {
        if (chance_one_in(&m->chance, 2))
            (void)!change_happens(o);
    } else {
        const struct io_rw *rw = container_of(o->op, struct io_rw, op);
        if (rw->writing) {
            m->sim->counts[SIM_WRITES_CUT]++;
            if (death == DEATH_CUT)
                write_torn(o, rw);
            else
                write_partly(o, rw);
        }
    }
    disk_release(&m->disk, o->inode);
    o->inode = NULL;
}

/* ---- at once: descriptors -------------------------------------------------------------------- */

static int open_inode(struct io *io, const char *path, uint32_t flags, struct inode **found)
{
    struct disk *d = &io->machine->disk;
    int error = disk_find(d, path, found);
    if (error == 0 && (flags & IO_CREATE) != 0 && (flags & IO_EXCL) != 0)
        return -EEXIST;
    if (error == -ENOENT && (flags & IO_CREATE) != 0) {
        error = fault_next(io->machine, io->from, NULL, path, SIM_DISK_NAME);
        if (error == 0)
            error = disk_add(d, path, false, wall_now(io), found);
    } else if (error == 0) {
        error = fault_next(io->machine, io->from, *found, NULL, SIM_DISK_LOOK);
    }
    if (error != 0)
        return error;
    assert(*found != NULL);
    if ((*found)->directory && (flags & (IO_WRITE | IO_CREATE)) != 0)
        return -EISDIR;
    if ((flags & IO_DIRECT) != 0 && !io->sim->style.direct)
        return -EINVAL;
    if ((flags & IO_TRUNC) != 0)
        disk_resize(d, *found, 0);
    return 0;
}

static int open_file(struct io *io, const char *path, uint32_t flags)
{
    assert((flags & (IO_READ | IO_WRITE)) != 0);
    assert((flags & ~(IO_READ | IO_WRITE | IO_CREATE | IO_EXCL | IO_TRUNC | IO_DIRECT)) == 0);
    sim_pause_in(io, "io_open", io->sim->style.call_ns);
    if (io->machine->fds_open >= io->machine->fds_limit)
        return -EMFILE;
    struct inode *i;
    int error = open_inode(io, path, flags, &i);
    if (error != 0)
        return error;
    disk_hold(i);
    return sim_fd_open(io->machine, (struct sim_fd){.kind = FD_FILE, .flags = flags, .inode = i});
}

int io_open(struct io *io, const char *path, uint32_t flags)
{
    CALLED(io);
    return open_file(io, path, flags);
}

void io_close(struct io *io, int fd)
{
    sim_fd_close(io->machine, fd);
}

int io_lock(struct io *io, const char *path)
{
    CALLED(io);
    int fd = open_file(io, path, IO_READ | IO_WRITE | IO_CREATE);
    if (fd < 0)
        return fd;
    struct sim_fd *slot = sim_fd_find(io->machine, fd, FD_FILE);
    if (slot->inode->locked) {
        io_close(io, fd);
        return -EAGAIN;
    }
    slot->inode->locked = slot->lock = true;
    return fd;
}

static void stat_fill(const struct inode *i, struct io_stat *stat)
{
    *stat = (struct io_stat){.size = i->directory ? DISK_PAGE : i->size_now,
                             .modified_ms = i->modified_ms,
                             .is_directory = i->directory};
}

int io_stat(struct io *io, const char *path, struct io_stat *stat)
{
    CALLED(io);
    sim_pause(io, io->sim->style.call_ns);
    struct inode *i;
    int error = disk_find(&io->machine->disk, path, &i);
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_LOOK);
    if (error == 0)
        stat_fill(i, stat);
    return error;
}

/* 0, or why the descriptor will not do. */
static int fd_inode(struct io *io, int fd, uint32_t flag, struct inode **i)
{
    struct sim_fd *slot = sim_fd_find(io->machine, fd, FD_FILE);
    if (slot == NULL || (slot->flags & flag) != flag)
        return -EBADF;
    *i = slot->inode;
    return 0;
}

int io_fstat(struct io *io, int fd, struct io_stat *stat)
{
    CALLED(io);
    sim_pause(io, io->sim->style.call_ns);
    struct inode *i;
    int error = fd_inode(io, fd, 0, &i);
    if (error == 0)
        stat_fill(i, stat);
    return error;
}

/* ---- at once: content ------------------------------------------------------------------------ */

int64_t io_pread(struct io *io, int fd, void *to, size_t size, uint64_t offset)
{
    CALLED(io);
    sim_pause(io, io->sim->style.read_ns);
    struct inode *i;
    int error = fd_inode(io, fd, IO_READ, &i);
    if (error == 0 && i->directory)
        error = -EISDIR;
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_READ);
    return error != 0 ? error : (int64_t)disk_read(i, offset, to, size);
}

int64_t io_pwrite(struct io *io, int fd, const void *from, size_t size, uint64_t offset)
{
    CALLED(io);
    struct sim_machine *m = io->machine;
    sim_pause(io, io->sim->style.write_ns);
    struct inode *i;
    int error = fd_inode(io, fd, IO_WRITE, &i);
    if (error == 0)
        error = fault_next(m, io->from, i, NULL, SIM_DISK_WRITE);
    if (error == 0 && !disk_has_room(&m->disk, i, offset, size))
        error = refused(m, io->from, -ENOSPC);
    /* A large one may end half way. */
    size_t part = size > DISK_PAGE ? chance_below(&m->chance, size / DISK_PAGE) * DISK_PAGE : 0;
    if (error == 0 && part > 0) {
        error = disk_write(&m->disk, i, offset, from, part);
        sim_pause(io, io->sim->style.write_ns);
    }
    if (error == 0)
        error = disk_write(&m->disk, i, offset + part, (const uint8_t *)from + part, size - part);
    if (error != 0)
        return error;
    i->modified_ms = wall_now(io);
    return (int64_t)size;
}

int io_truncate(struct io *io, int fd, uint64_t size)
{
    CALLED(io);
    sim_pause(io, io->sim->style.call_ns);
    struct inode *i;
    int error = fd_inode(io, fd, IO_WRITE, &i);
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_NAME);
    if (error == 0)
        disk_resize(&io->machine->disk, i, size);
    return error;
}

/* Here, what was under way when a process ended has landed or not by the time it starts again. */
void io_settle(struct io *io, int fd)
{
    assert(fd >= 0);
    sim_pause(io, io->sim->style.call_ns);
}

static int reserve(struct io *io, int fd, uint64_t size, struct inode **i)
{
    sim_pause(io, io->sim->style.call_ns);
    int error = fd_inode(io, fd, IO_WRITE, i);
    if (error == 0)
        error = fault_next(io->machine, io->from, *i, NULL, SIM_DISK_NAME);
    if (error != 0)
        return error;
    error = disk_reserve(&io->machine->disk, *i, size);
    return error == 0 ? 0 : refused(io->machine, io->from, error);
}

int io_reserve(struct io *io, int fd, uint64_t size)
{
    CALLED(io);
    struct inode *i;
    return reserve(io, fd, size, &i);
}

int io_allocate(struct io *io, int fd, uint64_t size)
{
    CALLED(io);
    struct inode *i;
    struct disk *d = &io->machine->disk;
    if (io->machine->full_at_allocation)
        d->capacity = d->bytes + size - size / 8;
    io->machine->full_at_allocation = false;
    int error = reserve(io, fd, size, &i);
    if (error == 0)
        i->size_now = MAX(i->size_now, size);
    return error;
}

static int sync_file(struct io *io, int fd)
{
    struct inode *i;
    int error = fd_inode(io, fd, 0, &i);
    if (error != 0)
        return error;
    struct disk_sync sync;
    disk_sync_begin(&io->machine->disk, i, &sync);
    sim_pause_in(io, "io_fdatasync", io->sim->style.sync_ns);
    return sync_ends(io->machine, io->from, i, &sync);
}

int io_fdatasync(struct io *io, int fd)
{
    CALLED(io);
    return sync_file(io, fd);
}

/* ---- at once: names -------------------------------------------------------------------------- */

int io_reread(struct io *io, int fd)
{
    CALLED(io);
    struct inode *i;
    int error = sync_file(io, fd);
    if (error == 0)
        error = fd_inode(io, fd, 0, &i);
    if (error == 0)
        disk_reread(&io->machine->disk, i);
    return error;
}

int io_open_direct(struct io *io, int fd)
{
    sim_pause_in(io, "io_open_direct", io->sim->style.call_ns);
    struct inode *i;
    int error = fd_inode(io, fd, IO_READ, &i);
    if (error == 0 && io->machine->fds_open >= io->machine->fds_limit)
        error = -EMFILE;
    if (error == 0 && !io->sim->style.direct)
        error = -EINVAL;
    if (error != 0)
        return error;
    disk_hold(i);
    return sim_fd_open(io->machine,
                       (struct sim_fd){.kind = FD_FILE, .flags = IO_READ | IO_DIRECT, .inode = i});
}

int io_sync_directory(struct io *io, const char *path)
{
    CALLED(io);
    sim_pause(io, io->sim->style.sync_ns);
    struct inode *i;
    int error = disk_find(&io->machine->disk, path, &i);
    if (error == 0 && !i->directory)
        error = -ENOTDIR;
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_SYNC);
    if (error == 0)
        disk_sync_names(&io->machine->disk, i);
    return error;
}

int io_sync_filesystem(struct io *io, const char *path)
{
    CALLED(io);
    sim_pause(io, io->sim->style.sync_ns);
    struct inode *i;
    int error = disk_find(&io->machine->disk, path, &i);
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_SYNC);
    if (error == 0)
        disk_sync_all(&io->machine->disk);
    return error;
}

static int name_call(struct io *io, const char *path)
{
    sim_pause(io, io->sim->style.call_ns);
    return fault_next(io->machine, io->from, NULL, path, SIM_DISK_NAME);
}

int io_mkdir(struct io *io, const char *path)
{
    CALLED(io);
    int error = name_call(io, path);
    struct inode *i;
    return error != 0 ? error : disk_add(&io->machine->disk, path, true, wall_now(io), &i);
}

int io_rmdir(struct io *io, const char *path)
{
    CALLED(io);
    int error = name_call(io, path);
    return error != 0 ? error : disk_remove(&io->machine->disk, path, true);
}

int io_unlink(struct io *io, const char *path)
{
    CALLED(io);
    struct inode *i;
    sim_pause(io, io->sim->style.call_ns);
    int error = disk_find(&io->machine->disk, path, &i);
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_NAME);
    return error != 0 ? error : disk_remove(&io->machine->disk, path, false);
}

int io_rename(struct io *io, const char *from, const char *to)
{
    CALLED(io);
    int error = name_call(io, from);
    return error != 0 ? error : disk_move(&io->machine->disk, from, to);
}

int io_list(struct io *io, const char *path,
            bool (*visit)(void *context, const char *name, bool is_directory), void *context)
{
    CALLED(io);
    assert(visit != NULL);
    sim_pause(io, io->sim->style.call_ns);
    struct inode *i;
    int error = disk_find(&io->machine->disk, path, &i);
    if (error == 0 && !i->directory)
        error = -ENOTDIR;
    if (error == 0)
        error = fault_next(io->machine, io->from, i, NULL, SIM_DISK_LOOK);
    if (error != 0)
        return error;
    for (uint32_t n = 0; n < i->now.count; n++) {
        if (!visit(context, i->now.list[n].text, i->now.list[n].inode->directory))
            break;
    }
    return 0;
}

int io_space(struct io *io, const char *path, uint64_t *total, uint64_t *usable)
{
    sim_pause(io, io->sim->style.call_ns);
    const struct disk *d = &io->machine->disk;
    struct inode *i;
    int error = disk_find(&io->machine->disk, path, &i);
    if (error != 0)
        return error;
    *total = MIN(d->capacity, SPACE_TOTAL);
    *usable = *total > d->bytes ? *total - d->bytes : 0;
    return 0;
}

int io_probe(struct io *io, const char *directory, struct io_probe *probe)
{
    sim_pause(io, io->sim->style.call_ns);
    struct inode *i;
    int error = disk_find(&io->machine->disk, directory, &i);
    if (error != 0)
        return error;
    *probe = (struct io_probe){
        .direct = io->sim->style.direct, .alignment = DISK_PAGE, .uncached = true};
    (void)snprintf(probe->filesystem, sizeof(probe->filesystem), "sim");
    return 0;
}

/* ---- harm ------------------------------------------------------------------------------------ */

void sim_disk_volume(struct sim_machine *m, const char *path, uint32_t volume)
{
    struct inode *i;
    assert(volume < 32);
    int error = disk_find(&m->disk, path, &i);
    if (error != 0)
        error = disk_add(&m->disk, path, true, 0, &i);
    assert(error == 0 && i->directory);
    i->volume = (uint8_t)volume;
    disk_sync_all(&m->disk); /* the name of it stays */
}

void sim_disk_full_at_allocation(struct sim_machine *m, bool on)
{
    m->full_at_allocation = on;
}

bool sim_disk_holds(struct sim_machine *m, const char *path, uint32_t volume)
{
    struct inode *i;
    return disk_find(&m->disk, path, &i) == 0 && i->volume == volume;
}

bool sim_disk_rot(struct sim_machine *m, const char *path, uint64_t offset)
{
    struct inode *i;
    if (disk_find(&m->disk, path, &i) != 0 || i->directory || offset >= i->size_now)
        return false;
    return disk_rot(&m->disk, i, offset);
}
