/* The rig's body: sets up one core's world, and ends it only when everything it took is back. */
#include "tests/io/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RIG_MEMORY (256u << 20)

void rig_start(struct rig *rig, struct rig_options options)
{
    memset(rig, 0, sizeof(*rig));
    char why[256] = "";
    core_enter((struct core_id){0});
    cr_assert_eq(mem_init(&rig->mem, RIG_MEMORY), 0);
    cr_assert_eq(uring_world_start(&rig->world, 1, options.without, why, sizeof(why)), 0, "%s",
                 why);
    struct io_config config = {.world = rig->world,
                               .mem = &rig->mem,
                               .recv_buffers_count = options.buffers_count,
                               .recv_buffer_size = options.buffer_size};
    cr_assert_eq(io_start(&rig->io, &config, why, sizeof(why)), 0, "%s", why);
}

void rig_stop(struct rig *rig)
{
    if (rig->directory[0] != 0)
        cr_assert_eq(io_remove_tree(rig->io, rig->directory), 0);
    io_stop(rig->io);
    io_world_stop(rig->world);
    cr_assert_eq(rig->mem.used_bytes, 0);
    mem_destroy(&rig->mem);
    core_leave();
}

const char *rig_directory(struct rig *rig)
{
    cr_assert_eq(rig->directory[0], 0);
    snprintf(rig->directory, sizeof(rig->directory), "/var/tmp/torc-test-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->directory));
    return rig->directory;
}

const char *rig_path(const struct rig *rig, char to[128], const char *name)
{
    snprintf(to, 128, "%s/%s", rig->directory, name);
    return to;
}

static void end_done(struct op *op)
{
    struct rig_end *end = container_of(op, struct rig_end, recv.op);
    if (op->result <= 0) {
        cr_assert(!end->recv.more && !op->armed);
        end->ended = true;
        end->result = op->result;
        return;
    }
    cr_assert(end->recv.more && op->armed);
    end->dones++;
    size_t size = (size_t)op->result;
    if (end->bytes != NULL) {
        cr_assert_leq(end->used + size, end->size);
        memcpy(end->bytes + end->used, end->recv.data, size);
    }
    end->used += size;
    if (end->hold)
        end->held[end->held_count++] = end->recv.buffer;
    else
        io_buffer_release(end->io, end->recv.buffer);
}

void rig_end_start(struct rig_end *end, struct io *io, int fd, uint8_t *bytes, size_t size)
{
    *end = (struct rig_end){.io = io, .bytes = bytes, .size = size};
    op_init(&end->recv.op, end_done);
    end->recv.fd = fd;
    io_recv_start(io, &end->recv);
}

void rig_end_release(struct rig_end *end)
{
    for (uint32_t i = 0; i < end->held_count; i++)
        io_buffer_release(end->io, end->held[i]);
    end->held_count = 0;
}

static void send_done(struct op *op)
{
    struct rig_send *s = container_of(op, struct rig_send, send.op);
    s->done.count++;
    s->done.result = op->result;
}

void rig_send_start(struct rig_send *s, struct io *io, int fd, struct iovec *iov, uint32_t count)
{
    *s = (struct rig_send){.send = {.fd = fd, .iov = iov, .iov_count = count}};
    op_init(&s->send.op, send_done);
    io_send(io, &s->send);
    cr_assert(s->send.op.armed && s->done.count == 0);
}

static void rw_done(struct op *op)
{
    struct rig_rw *r = container_of(op, struct rig_rw, rw.op);
    r->done.count++;
    r->done.result = op->result;
}

void rig_rw_init(struct rig_rw *r, int fd, struct iovec *iov, uint32_t count, uint64_t offset,
                 uint32_t flags)
{
    *r = (struct rig_rw){
        .rw = {.fd = fd, .iov = iov, .iov_count = count, .offset = offset, .flags = flags}};
    op_init(&r->rw.op, rw_done);
}

static void accept_done(struct op *op)
{
    struct rig_listener *l = container_of(op, struct rig_listener, accept.op);
    if (op->result < 0) {
        cr_assert(!l->accept.more && !op->armed);
        l->ended = true;
        l->result = op->result;
        return;
    }
    cr_assert(l->accept.more && op->armed);
    cr_assert_lt(l->count, RIG_ACCEPTED_MAX);
    l->fds[l->count++] = op->result;
    l->last_peer = l->accept.peer;
}

void rig_listen(struct rig_listener *l, struct rig *rig, const char *host)
{
    memset(l, 0, sizeof(*l));
    struct io_address a = {0};
    snprintf(a.host, sizeof(a.host), "%s", host);
    op_init(&l->accept.op, accept_done);
    l->accept.listener = io_listen(rig->io, &a, 1024, &l->port);
    cr_assert_geq(l->accept.listener, 0);
    cr_assert(l->port != 0 || host[0] == '@');
    io_accept(rig->io, &l->accept);
}

void rig_unlisten(struct rig_listener *l, struct rig *rig)
{
    if (l->accept.op.armed) {
        io_cancel_accept(rig->io, &l->accept);
        RIG_UNTIL(rig, l->ended);
        cr_assert_eq(l->result, -ECANCELED);
    }
    io_socket_close(rig->io, l->accept.listener);
}

static void connect_done(struct op *op)
{
    struct rig_connect *c = container_of(op, struct rig_connect, connect.op);
    c->done.count++;
    c->done.result = op->result;
}

void rig_connect_start(struct rig_connect *c, struct io *io, const char *host, uint16_t port)
{
    memset(c, 0, sizeof(*c));
    op_init(&c->connect.op, connect_done);
    snprintf(c->connect.address.host, sizeof(c->connect.address.host), "%s", host);
    c->connect.address.port = port;
    io_connect(io, &c->connect);
    cr_assert(c->connect.op.armed && c->done.count == 0);
}

void rig_pair(struct rig *rig, int *client, int *server)
{
    struct rig_listener l;
    struct rig_connect c;
    rig_listen(&l, rig, "127.0.0.1");
    rig_connect_start(&c, rig->io, "127.0.0.1", l.port);
    RIG_UNTIL(rig, c.done.count == 1 && l.count == 1);
    cr_assert_geq(c.done.result, 0);
    *client = c.done.result;
    *server = l.fds[0];
    rig_unlisten(&l, rig);
}
