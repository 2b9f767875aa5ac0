/* Sockets as a core sees them: the calls of io.h over connections of net.c.
 *
 *   io_listen ─▶ io_accept ─▶ done(fd) ...        queue of the listener ─▶ fd
 *   io_connect ─▶ done(fd or -errno)              answer of the other side ─▶ fd
 *   io_recv_start ─▶ done(bytes in a buffer) ...  arrived ─▶ buffer, cut anywhere
 *   io_send ─▶ done(all, or -errno)               as the pipe has room, hash checked at the end
 *
 * Invariants:
 *  1. Descriptors are reused at once after a close, lowest first, as the kernel does.
 *  2. One recv and one send per end. What a send sends must not change while it is armed.
 *  3. A receive that finds no buffer waits in io->starving, and is ready again when one is back.
 *  4. io_recv_stop and io_cancel_accept may still bring something first.
 *
 * Failure modes: as the kernel names them: -ECONNRESET, -EPIPE, -ECONNREFUSED, -EMFILE. */
#include <string.h>

#include "io/sim/sim_priv.h"

/* ---- addresses ------------------------------------------------------------------------------- */

static bool host_is_v4(const char *host)
{
    uint32_t parts = 0, digits = 0, value = 0;
    for (; *host != 0; host++) {
        if (*host == '.') {
            if (digits == 0)
                return false;
            parts++;
            digits = value = 0;
            continue;
        }
        if (*host < '0' || *host > '9' || ++digits > 3)
            return false;
        value = value * 10 + (uint32_t)(*host - '0');
        if (value > 255)
            return false;
    }
    return parts == 3 && digits > 0;
}

static bool host_is_v6(const char *host)
{
    return strchr(host, ':') != NULL && strspn(host, "0123456789abcdefABCDEF:.") == strlen(host);
}

static bool host_is_any(const char *host)
{
    return host[0] == 0 || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static bool host_is_own(const struct sim_machine *m, const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, m->host) == 0;
}

/* 0, or why nobody can listen there. */
static int host_check(const struct sim_machine *m, const struct io_address *a)
{
    if (memchr(a->host, 0, sizeof(a->host)) == NULL)
        return -EINVAL;
    if (host_is_any(a->host))
        return 0;
    if (!host_is_v4(a->host) && !host_is_v6(a->host))
        return -EINVAL;
    return host_is_own(m, a->host) ? 0 : -EADDRNOTAVAIL;
}

static struct sim_machine *machine_at(struct sim_machine *from, const char *host)
{
    if (host_is_own(from, host))
        return from;
    for (struct list *l = from->sim->machines.next; l != &from->sim->machines; l = l->next) {
        struct sim_machine *m = container_of(l, struct sim_machine, link);
        if (strcmp(m->host, host) == 0)
            return m;
    }
    return NULL;
}

/* ---- listening and accepting ----------------------------------------------------------------- */

static bool port_used(const struct sim_machine *m, uint16_t port)
{
    for (struct list *l = m->listeners.next; l != &m->listeners; l = l->next) {
        if (container_of(l, struct sim_listener, link)->port == port)
            return true;
    }
    return false;
}

int io_port_free(struct io *io, const struct io_address *address)
{
    int error = host_check(io->machine, address);
    return error == 0 && port_used(io->machine, address->port) ? -EADDRINUSE : error;
}

int io_listen(struct io *io, const struct io_address *address, uint32_t backlog,
              uint16_t *bound_port)
{
    struct sim_machine *m = io->machine;
    assert(core_same(core_self(), io->id) && backlog > 0);
    int error = host_check(m, address);
    if (error != 0)
        return error;
    uint16_t port = address->port;
    while (port == 0 || (address->port == 0 && port_used(m, port)))
        port = m->next_port++;
    struct sim_listener *l = sim_alloc(io->sim, sizeof(*l));
    l->machine = m;
    l->port = port;
    l->backlog = backlog;
    list_init(&l->queue);
    list_push_back(&m->listeners, &l->link);
    int fd = sim_fd_open(m, (struct sim_fd){.kind = FD_LISTENER, .listener = l});
    if (fd < 0)
        sim_listener_close(l);
    *bound_port = port;
    return fd;
}

void io_accept(struct io *io, struct io_accept *a)
{
    struct sim_op *o = sim_op_start(io, &a->op, OP_ACCEPT);
    struct sim_fd *fd = sim_fd_find(io->machine, a->listener, FD_LISTENER);
    assert(fd != NULL && fd->listener->accept == NULL);
    a->more = true;
    a->stopping = false;
    o->listener = fd->listener;
    o->listener->accept = o;
    if (!list_empty(&o->listener->queue))
        sim_op_ready(o);
}

void io_cancel_accept(struct io *io, struct io_accept *a)
{
    assert(core_same(core_self(), io->id) && a->op.armed);
    struct sim_fd *fd = sim_fd_find(io->machine, a->listener, FD_LISTENER);
    assert(fd != NULL && fd->listener->accept != NULL);
    a->stopping = true;
    sim_op_ready(fd->listener->accept);
}

static void accept_finish(struct sim_op *o, int32_t result)
{
    struct io_accept *a = container_of(o->op, struct io_accept, op);
    o->listener->accept = NULL;
    sim_op_free(o);
    a->more = false;
    a->op.armed = false;
    a->op.result = result;
    a->op.done(&a->op);
}

void sim_accept_deliver(struct sim_op *o)
{
    struct io_accept *a = container_of(o->op, struct io_accept, op);
    struct sim_listener *l = o->listener;
    struct list *first = list_first(&l->queue);
    bool stop_now = chance_one_in(&o->io->sim->streams[SIM_SCHEDULER], 2);
    if (a->stopping && (first == NULL || stop_now)) {
        accept_finish(o, -ECANCELED);
        return;
    }
    assert(first != NULL);
    struct sim_end *end = container_of(first, struct sim_end, queued);
    int fd = sim_fd_open(o->io->machine, (struct sim_fd){.kind = FD_SOCKET, .end = end});
    if (fd < 0) {
        accept_finish(o, fd);
        return;
    }
    list_remove(first);
    l->waiting--;
    if (list_empty(&l->queue) && !a->stopping)
        sim_op_unready(o);
    a->peer = end->connection->peer;
    a->op.result = fd;
    a->op.done(&a->op);
}

/* ---- connecting ------------------------------------------------------------------------------ */

void io_connect(struct io *io, struct io_connect *c)
{
    struct sim_op *o = sim_op_start(io, &c->op, OP_CONNECT);
    const char *host = c->address.host;
    bool numeric =
        memchr(host, 0, sizeof(c->address.host)) != NULL && (host_is_v4(host) || host_is_v6(host));
    if (!numeric) {
        sim_op_plan(o, -EINVAL, io->sim->now_ns + 1);
        return;
    }
    struct sim_machine *target = machine_at(io->machine, host);
    struct sim_connection *made = sim_connection_make(io->sim, target, c->address.port);
    if (target == io->machine)
        memcpy(made->peer.host, host, sizeof(made->peer.host));
    else
        memcpy(made->peer.host, io->machine->host, sizeof(made->peer.host));
    o->end = &made->ends[0];
    o->end->machine = io->machine;
    o->end->connect = o;
}

void sim_connect_answered(struct sim_end *end, int error)
{
    struct sim_op *o = end->connect;
    assert(o != NULL);
    end->connect = NULL;
    o->end = NULL;
    if (error == 0)
        error = sim_fd_open(end->machine, (struct sim_fd){.kind = FD_SOCKET, .end = end});
    if (error < 0)
        sim_end_close(end);
    o->result = error;
    sim_op_ready(o);
}

void io_cancel_connect(struct io *io, struct io_connect *c)
{
    assert(core_same(core_self(), io->id) && c->op.armed);
    LIST_EACH(it, &io->ops)
    {
        struct sim_op *o = container_of(it, struct sim_op, link);
        if (o->op != &c->op || o->end == NULL)
            continue; /* another's, or it has its answer */
        o->end->connect = NULL;
        sim_end_close(o->end);
        o->end = NULL;
        sim_op_plan(o, -ECANCELED, io->sim->now_ns + 1);
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

static struct sim_end *end_of(struct io *io, int fd)
{
    struct sim_fd *slot = sim_fd_find(io->machine, fd, FD_SOCKET);
    assert(slot != NULL); /* no such socket: used after its close, or never opened */
    return slot->end;
}

void sim_recv_update(struct sim_end *end)
{
    struct sim_op *o = end->recv;
    struct io_recv *r = container_of(o->op, struct io_recv, op);
    bool over = r->stopping || end->state == END_RESET || end->shut;
    if (over) {
        list_remove(&r->link);
        sim_op_ready(o);
    } else if (list_empty(&r->link) && (end->in.arrived > end->in.taken || end->in.end_arrived)) {
        sim_op_ready(o);
    }
}

void io_recv_start(struct io *io, struct io_recv *r)
{
    struct sim_end *end = end_of(io, r->fd);
    assert(end->recv == NULL);
    struct sim_op *o = sim_op_start(io, &r->op, OP_RECV);
    r->more = true;
    r->stopping = false;
    r->data = NULL;
    r->buffer = NULL;
    list_init(&r->link);
    o->end = end;
    end->recv = o;
    sim_recv_update(end);
}

void io_recv_stop(struct io *io, struct io_recv *r)
{
    assert(core_same(core_self(), io->id) && r->op.armed);
    r->stopping = true;
    sim_recv_update(end_of(io, r->fd));
}

static void recv_finish(struct sim_op *o, int32_t result)
{
    struct io_recv *r = container_of(o->op, struct io_recv, op);
    o->end->recv = NULL;
    sim_op_free(o);
    r->more = false;
    r->data = NULL;
    r->buffer = NULL;
    r->op.armed = false;
    r->op.result = result;
    r->op.done(&r->op);
}

static void recv_starve(struct sim_op *o)
{
    struct io_recv *r = container_of(o->op, struct io_recv, op);
    o->io->sim->counts[SIM_BUFFERS_OUT]++;
    sim_op_unready(o);
    list_push_back(&o->io->starving, &r->link);
}

static bool recv_bytes(struct sim_op *o, uint64_t waiting)
{
    struct io_recv *r = container_of(o->op, struct io_recv, op);
    struct io *io = o->io;
    struct sim_end *end = o->end;
    struct chance *c = &io->sim->streams[SIM_NET];
    uint32_t size = (uint32_t)MIN(waiting, (uint64_t)io->buffer_size);
    if (chance_one_in(c, 8))
        size = (uint32_t)chance_between(c, 1, size);
    struct io_buffer *b = sim_buffer_take(io, size);
    if (b == NULL) {
        recv_starve(o);
        return false;
    }
    memcpy(b->data, end->in.bytes + end->in.start, size);
    sim_end_take(end, size);
    r->data = b->data;
    r->buffer = b;
    if (end->in.arrived == end->in.taken && !end->in.end_arrived && !r->stopping &&
        end->state == END_OPEN && !end->shut)
        sim_op_unready(o);
    r->op.result = (int32_t)size;
    r->op.done(&r->op);
    return true;
}

bool sim_recv_deliver(struct sim_op *o)
{
    struct io_recv *r = container_of(o->op, struct io_recv, op);
    struct sim_end *end = o->end;
    uint64_t waiting = end->in.arrived - end->in.taken;
    bool stop_now = chance_one_in(&o->io->sim->streams[SIM_SCHEDULER], 2);
    if (r->stopping && (waiting == 0 || stop_now || o->io->buffers_free == 0))
        recv_finish(o, -ECANCELED);
    else if (waiting > 0)
        return recv_bytes(o, waiting);
    else
        recv_finish(o, end->state == END_RESET ? -ECONNRESET : 0);
    return true;
}

/* ---- sending --------------------------------------------------------------------------------- */

static uint64_t send_hash(const struct io_send *s)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < s->iov_count; i++)
        hash = chance_hash(hash, s->iov[i].iov_base, s->iov[i].iov_len);
    return hash;
}

static void send_finish(struct sim_end *end, int32_t result)
{
    struct sim_op *o = end->send;
    struct io_send *s = container_of(o->op, struct io_send, op);
    assert(send_hash(s) == o->hash); /* invariant 2 */
    for (uint32_t i = 0; i < s->iov_count; i++)
        s->iov[i] = (struct iovec){0};
    s->iov += s->iov_count;
    s->iov_count = 0;
    end->send = NULL;
    o->end = NULL;
    sim_op_plan(o, result, o->io->sim->now_ns + 1);
}

/* Puts `size` bytes from where the send has got to. */
static void send_part(struct sim_end *end, uint64_t size)
{
    struct sim_op *o = end->send;
    const struct io_send *s = container_of(o->op, struct io_send, op);
    uint64_t at = 0, from = o->offset, to = o->offset + size;
    for (uint32_t i = 0; i < s->iov_count && at < to; i++) {
        uint64_t start = MAX(at, from), stop = MIN(at + s->iov[i].iov_len, to);
        if (start < stop)
            sim_end_put(end, (const uint8_t *)s->iov[i].iov_base + (start - at),
                        (size_t)(stop - start));
        at += s->iov[i].iov_len;
    }
    o->offset = to;
}

void sim_send_push(struct sim_end *end)
{
    struct sim_op *o = end->send;
    struct sim *s = end->connection->sim;
    const struct sim_end *peer = sim_end_peer(end);
    if (end->state == END_RESET || end->shut) {
        send_finish(end, end->shut ? -EPIPE : -ECONNRESET);
        return;
    }
    /* A client takes what arrives into memory of its own, whether it looks at it or not. */
    bool takes = peer->client != NULL && !peer->client->holds;
    uint64_t gone = takes ? peer->in.arrived : peer->in.taken;
    uint64_t held = peer->in.put - gone, left = o->size - o->offset;
    uint64_t room = held < s->style.pipe_bytes ? s->style.pipe_bytes - held : 0;
    if (left > 0 && room > 0)
        send_part(end, MIN(left, room));
    if (o->offset == o->size)
        send_finish(end, (int32_t)o->size);
    else
        s->counts[SIM_SENDS_WAITING]++;
}

void io_send(struct io *io, struct io_send *s)
{
    struct sim_end *end = end_of(io, s->fd);
    assert(end->send == NULL);
    struct sim_op *o = sim_op_start(io, &s->op, OP_SEND);
    s->sent = 0;
    o->size = sim_iov_size(s->iov, s->iov_count);
    assert(o->size <= INT32_MAX);
    o->hash = send_hash(s);
    o->end = end;
    end->send = o;
    sim_send_push(end);
}

/* ---- ends ------------------------------------------------------------------------------------ */

void io_shutdown(struct io *io, int fd)
{
    assert(core_same(core_self(), io->id));
    struct sim_end *end = end_of(io, fd);
    if (end->shut)
        return;
    end->shut = true;
    if (end->state == END_OPEN)
        sim_end_finish(end);
    sim_end_update(end);
}

void io_socket_close(struct io *io, int fd)
{
    assert(core_same(core_self(), io->id));
    assert(sim_fd_find(io->machine, fd, FD_FILE) == NULL);
    sim_fd_close(io->machine, fd);
}

void sim_net_forget(struct sim_op *o)
{
    switch (o->kind) {
    case OP_ACCEPT:
        o->listener->accept = NULL;
        break;
    case OP_RECV:
        list_remove(&container_of(o->op, struct io_recv, op)->link);
        o->end->recv = NULL;
        break;
    case OP_SEND:
        if (o->end != NULL)
            o->end->send = NULL;
        break;
    case OP_CONNECT:
        if (o->end != NULL) {
            o->end->connect = NULL;
            sim_end_close(o->end);
        } else if (o->ready != 0 && o->result >= 0) {
            sim_fd_close(o->io->machine, o->result);
        }
        break;
    case OP_SIGNAL:
        o->io->signal = NULL;
        break;
    case OP_RW:
    case OP_SYNC:
    case OP_PUNCH:
    case OP_REMOVE:
    case OP_READY:
        break;
    }
}
