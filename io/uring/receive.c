/* Receiving: a few buffers per core that the kernel fills for whichever socket has data.
 *
 *   io_recv_start ─▶ armed in the kernel ─▶ data in a buffer ─▶ done ─▶ ... ─▶ end, error
 *                       ▲        │ no buffer (-ENOBUFS)                          or stopped
 *                       │        ▼
 *     io_poll, when ◀── starving list ◀── io_buffer_release of the last reference refills
 *
 * A buffer is taken when data comes, not when a receive is armed, so idle connections cost none,
 * and the few buffers that there are stay in the L2 cache.
 *
 *  1. A buffer is either the kernel's (references 0) or its holders' (references > 0);
 *     buffers_free counts the kernel's, less those in completions not yet looked at.
 *  2. A starving receive is armed again only after a buffer came back, at most as many as there
 *     are buffers: arming it before gives -ENOBUFS again at once, for ever.
 *  3. Starving receives wait in order, and one that starves again goes to the end.
 *  4. The last `done` of a receive has result <= 0. When the kernel ends an armed receive together
 *     with data, it is armed anew before its owner hears of the data.
 *  5. Memory of the buffers is not touched before data comes into it.
 *
 * Failures: holders that keep all buffers while they wait for data of a starving socket wait for
 * ever; io_buffers_free lets them copy out in time. */
#include "io/uring/uring_priv.h"

#define BUFFERS_COUNT_DEFAULT 16u
#define BUFFER_SIZE_DEFAULT   (64u * 1024)
#define BUFFERS_COUNT_MAX     32768u
#define PAGE                  4096u
#define GROUP                 0

static void buffer_refill(struct io *io, struct io_buffer *b)
{
    assert(b->references == 0);
    assert(io->buffers_free < io->buffers_count);
    io_uring_buf_ring_add(io->buffer_ring, b->data, b->size, b->id, (int)(io->buffers_count - 1),
                          0);
    io_uring_buf_ring_advance(io->buffer_ring, 1);
    io->buffers_free++;
}

static void buffers_free_memory(struct io *io)
{
    mem_pages_free(io->mem, io->buffer_ring, io->buffer_ring_size);
    mem_pages_free(io->mem, io->buffer_memory, (size_t)io->buffers_count * io->buffer_size);
    mem_free(io->mem, io->buffers, io->buffers_count * sizeof(struct io_buffer));
}

int uring_buffers_start(struct io *io, const struct io_config *config)
{
    uint32_t count =
        config->recv_buffers_count > 0 ? config->recv_buffers_count : BUFFERS_COUNT_DEFAULT;
    uint32_t size = config->recv_buffer_size > 0 ? config->recv_buffer_size : BUFFER_SIZE_DEFAULT;
    assert((count & (count - 1)) == 0 && count <= BUFFERS_COUNT_MAX);
    assert(size % PAGE == 0);
    io->buffers_count = count;
    io->buffer_size = size;
    io->buffer_ring_size = (count * sizeof(struct io_uring_buf) + PAGE - 1) / PAGE * PAGE;
    io->buffer_ring = mem_pages(io->mem, io->buffer_ring_size);
    io->buffer_memory = mem_pages(io->mem, (size_t)count * size);
    io->buffers = mem_zalloc(io->mem, count * sizeof(struct io_buffer));
    int error = -ENOMEM;
    if (io->buffer_ring == NULL || io->buffer_memory == NULL || io->buffers == NULL)
        goto fail;
    io_uring_buf_ring_init(io->buffer_ring);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)io->buffer_ring, .ring_entries = count, .bgid = GROUP};
    error = io_uring_register_buf_ring(io->ring, &reg, 0);
    if (error != 0)
        goto fail;
    for (uint32_t i = 0; i < count; i++) {
        io->buffers[i] = (struct io_buffer){
            .data = io->buffer_memory + (size_t)i * size, .size = size, .id = (uint16_t)i};
        buffer_refill(io, &io->buffers[i]);
    }
    return 0;
fail:
    if (io->buffer_ring != NULL)
        mem_pages_free(io->mem, io->buffer_ring, io->buffer_ring_size);
    if (io->buffer_memory != NULL)
        mem_pages_free(io->mem, io->buffer_memory, (size_t)count * size);
    mem_free(io->mem, io->buffers, count * sizeof(struct io_buffer));
    return error;
}

void uring_buffers_stop(struct io *io)
{
    assert(io->inflight == 0); /* nobody receives into them any more */
    (void)io_uring_unregister_buf_ring(io->ring, GROUP);
    buffers_free_memory(io);
}

uint32_t io_buffers_free(const struct io *io)
{
    return io->buffers_free;
}

void io_buffer_retain(struct io_buffer *b)
{
    assert(b->references > 0);
    assert(b->references < UINT32_MAX);
    b->references++;
}

void io_buffer_release(struct io *io, struct io_buffer *b)
{
    assert(core_same(core_self(), io->core));
    assert(b == &io->buffers[b->id]);
    assert(b->references > 0);
    if (--b->references == 0)
        buffer_refill(io, b);
}

static void recv_arm(struct io *io, struct io_recv *r)
{
    assert(r->op.armed);
    struct io_uring_sqe *sqe = uring_sqe(io);
    if (io->multishot)
        io_uring_prep_recv_multishot(sqe, r->fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, r->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    uring_tag(io, sqe, &r->op, KIND_RECV);
}

void io_recv_start(struct io *io, struct io_recv *r)
{
    assert(core_same(core_self(), io->core));
    assert(!r->op.armed && r->op.done != NULL);
    assert(r->fd >= 0);
    r->op.armed = true;
    r->more = true;
    r->stopping = false;
    r->data = NULL;
    r->buffer = NULL;
    list_init(&r->link);
    recv_arm(io, r);
}

/* Ends a receive that the kernel no longer knows. */
static void recv_end_stopped(struct io *io, struct io_recv *r)
{
    assert(r->stopping);
    r->more = false;
    uring_ready(io, &r->op, -ECANCELED);
}

void io_recv_stop(struct io *io, struct io_recv *r)
{
    assert(core_same(core_self(), io->core));
    assert(r->op.armed);
    if (r->stopping)
        return;
    r->stopping = true;
    if (list_empty(&r->link)) {
        uring_cancel(io, &r->op, KIND_RECV);
    } else {
        list_remove(&r->link);
        recv_end_stopped(io, r);
    }
}

void uring_recv_feed(struct io *io)
{
    uint32_t count = io->buffers_free;
    struct list *l;
    while (count-- > 0 && (l = list_pop_front(&io->starving)) != NULL)
        recv_arm(io, container_of(l, struct io_recv, link));
}

static void recv_deliver(struct io *io, struct io_recv *r, struct io_buffer *b, int32_t size,
                         bool ended)
{
    assert(b != NULL);
    assert(size > 0 && (uint32_t)size <= b->size);
    b->references = 1;
    r->data = b->data;
    r->buffer = b;
    if (ended && !r->stopping)
        recv_arm(io, r);
    bool over = ended && r->stopping; /* before done, which may ask to stop what was just armed */
    r->op.result = size;
    r->op.done(&r->op);
    if (over)
        recv_end_stopped(io, r);
}

void uring_recv_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    struct io_recv *r = container_of(op, struct io_recv, op);
    assert(op->armed);
    bool ended = (flags & IORING_CQE_F_MORE) == 0;
    if (ended)
        io->inflight--;
    struct io_buffer *b = NULL;
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
        assert(id < io->buffers_count && io->buffers_free > 0);
        b = &io->buffers[id];
        assert(b->references == 0);
        io->buffers_free--;
    }
    if (result > 0) {
        recv_deliver(io, r, b, result, ended);
        return;
    }
    if (b != NULL)
        buffer_refill(io, b);
    assert(ended);
    if (r->stopping && result < 0) {
        result = -ECANCELED;
    } else if (result == -ENOBUFS) {
        list_push_back(&io->starving, &r->link);
        return;
    }
    r->more = false;
    r->data = NULL;
    r->buffer = NULL;
    uring_finish(op, result);
}
