/* Files through the ring: reading, writing, syncing, and what makes them go.
 *
 *   io_write ─▶ [up to 1024 vectors ─▶ short, or more vectors? ─▶ ...] ─▶ done(all or -errno)
 *   io_read  ─▶ [ ... ─▶ end of file ─▶ done(what there was) ]
 *
 *  1. A write is whole or failed. A failure of any part is the result of the whole, and no part is
 *     tried again: pages that failed to reach the device may be gone from memory.
 *  2. A short read that ends inside a page has met the end of the file: kernels stop between
 *     pages for every other reason. Asking again there would be refused for O_DIRECT.
 *  3. A durable write is one write with RWF_DSYNC, not a write and a sync after it: the sync would
 *     always go to a kernel worker thread, the write on written blocks does not.
 *  4. Names and room are changed by a kernel worker always: a file system may wait for its device.
 *
 * Failures: a file system that does not know RWF_DONTCACHE refuses the write before it begins;
 * it is then made without. That is no retry of a failed write: nothing was written. */
#include "io/uring/abi.h"
#include "io/uring/uring_priv.h"

#include <fcntl.h>

#define IOV_PER_CALL 1024u /* UIO_MAXIOV */
#define FILE_PAGE    4096u

static uint32_t rw_flags(const struct io_rw *rw)
{
    uint32_t flags = 0;
    if (!rw->writing)
        return 0;
    if ((rw->flags & IO_DSYNC) != 0)
        flags |= RWF_DSYNC;
    if ((rw->flags & IO_UNCACHED) != 0)
        flags |= RWF_DONTCACHE;
    return flags;
}

static void rw_arm(struct io *io, struct io_rw *rw)
{
    assert(rw->op.armed && rw->iov_count > 0);
    struct io_uring_sqe *sqe = uring_sqe(io);
    uint64_t at = rw->offset + rw->moved;
    if (rw->iov_count == 1) {
        unsigned size = (unsigned)MIN(rw->iov->iov_len, (size_t)INT32_MAX / FILE_PAGE * FILE_PAGE);
        if (rw->writing)
            io_uring_prep_write(sqe, rw->fd, rw->iov->iov_base, size, at);
        else
            io_uring_prep_read(sqe, rw->fd, rw->iov->iov_base, size, at);
    } else {
        unsigned count = MIN(rw->iov_count, IOV_PER_CALL);
        if (rw->writing)
            io_uring_prep_writev(sqe, rw->fd, rw->iov, count, at);
        else
            io_uring_prep_readv(sqe, rw->fd, rw->iov, count, at);
    }
    sqe->rw_flags = (int)rw_flags(rw);
    uring_tag(io, sqe, &rw->op, KIND_RW);
}

static void rw_start(struct io *io, struct io_rw *rw)
{
    assert(core_same(core_self(), io->core));
    assert(!rw->op.armed && rw->op.done != NULL);
    assert(uring_iov_size(rw->iov, rw->iov_count) <= INT32_MAX);
    rw->op.armed = true;
    rw->moved = 0;
    uring_iov_advance(&rw->iov, &rw->iov_count, 0);
    if (rw->iov_count == 0)
        uring_ready(io, &rw->op, 0);
    else
        rw_arm(io, rw);
}

void io_read(struct io *io, struct io_rw *rw)
{
    rw->writing = false;
    rw_start(io, rw);
}

void io_write(struct io *io, struct io_rw *rw)
{
    rw->writing = true;
    rw_start(io, rw);
}

void uring_rw_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    io->inflight--;
    struct io_rw *rw = container_of(op, struct io_rw, op);
    if (result == -EOPNOTSUPP && rw->writing && (rw->flags & IO_UNCACHED) != 0) {
        rw->flags &= ~IO_UNCACHED;
        rw_arm(io, rw);
        return;
    }
    if (result < 0) {
        uring_finish(op, result);
        return;
    }
    uint64_t asked = uring_iov_size(rw->iov, MIN(rw->iov_count, IOV_PER_CALL));
    rw->moved += (uint32_t)result;
    uring_iov_advance(&rw->iov, &rw->iov_count, (uint32_t)result);
    bool at_end = !rw->writing && (uint32_t)result < asked &&
                  (result == 0 || (rw->offset + rw->moved) % FILE_PAGE != 0);
    if (rw->iov_count == 0 || at_end)
        uring_finish(op, (int32_t)rw->moved);
    else if (result == 0)
        uring_finish(op, -EIO); /* a write that moves nothing and names no error */
    else
        rw_arm(io, rw);
}

void io_sync(struct io *io, struct io_sync *s)
{
    assert(core_same(core_self(), io->core));
    assert(!s->op.armed && s->op.done != NULL);
    s->op.armed = true;
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_fsync(sqe, s->fd, s->directory ? 0 : IORING_FSYNC_DATASYNC);
    uring_tag(io, sqe, &s->op, KIND_ONCE);
}

void io_punch(struct io *io, struct io_punch *p)
{
    assert(core_same(core_self(), io->core));
    assert(!p->op.armed && p->op.done != NULL);
    assert(p->size > 0 && p->size <= INT64_MAX && p->offset <= INT64_MAX - p->size);
    p->op.armed = true;
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_fallocate(sqe, p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            (off_t)p->offset, (off_t)p->size);
    uring_tag(io, sqe, &p->op, KIND_ONCE);
}

void io_remove(struct io *io, struct io_remove *r)
{
    assert(core_same(core_self(), io->core));
    assert(!r->op.armed && r->op.done != NULL);
    r->op.armed = true;
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_unlinkat(sqe, AT_FDCWD, r->path, r->folder ? AT_REMOVEDIR : 0);
    uring_tag(io, sqe, &r->op, KIND_ONCE);
}
