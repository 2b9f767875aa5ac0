/* A client connection: bytes in, frames cut, answers out in order.
 *
 *   kernel ─▶ recv buffer ─▶ whole frame in it? ─yes─▶ flow views the buffer (or a small copy)
 *                                  └─no──▶ frame memory, grown with what has arrived ─▶ flow
 *   flows (request order):  [answered][answered][running][queued]...
 *                            └── leave together as one sendmsg ──┘
 *
 * Invariants
 *  1. Answers leave in request order, whatever order the work finished in.
 *  2. Produce requests may run beside produce requests; anything else runs alone, because Kafka
 *     serves one request of a connection at a time and clients may rely on what an earlier
 *     request did. Two produces to one partition reach its owner in order (mail is FIFO).
 *  3. At most one receive and one send are armed per connection.
 *  4. What a client declares costs nothing; what it has sent is bounded: CONN_FLOWS_MAX requests
 *     and CONN_BYTES_MAX bytes under way, plus one frame, plus a stash of at most the receive
 *     buffers that were in flight when we stopped reading.
 *  5. What a peer sent before it ended its stream or broke it off is served (a producer with acks=0
 *     sends and leaves, a member of a group says that it leaves and is gone); the connection closes
 *     when nothing of it is left. Kafka: Selector.maybeReadFromClosingChannel.
 *  6. A connection is freed only when no op of it is armed and no flow of it is left.
 *
 *  7. A request is started only when the answers before it have all but left (produce excepted), so
 *     a peer that does not read holds one answer.
 *  8. Connections are served in turn, and those whose last answer was long after all others: of
 * them a turn takes only so much (CONN_HEAVY_BYTES, TURN_HEAVY_BYTES). So hundreds that ask for all
 *     metadata wait for each other, and a produce waits for one of them.
 *
 * Failure modes: a bad frame length, an undecodable request, a send error, idle time: the
 * connection closes. No memory for a frame: it waits in `starved` until there is some; if nothing
 * at all is under way on the core, it closes, for nothing would ever wake it. A peer that takes
 * nothing of its answer is closed after a minute; while others starve, after seconds, and so are
 * those that began a frame and do not end it. */
#include "broker/conn.h"

#include <errno.h>
#include <string.h>

#include "broker/api/api.h"
#include "broker/data_core.h"
#include "broker/flow.h"
#include "broker/stat.h"
#include "core/lab.h"

static const char *const conn_state_names[] = {"open", "closing"};
static const struct state_table conn_states = {
    .name = "conn",
    .names = conn_state_names,
    .states_count = CONN_STATES,
    .allowed = {[CONN_OPEN] = 1u << CONN_CLOSING},
};

static void conn_received(struct op *op);
static void conn_sent(struct op *op);
static void conns_sweep(struct timer *t);
static void conn_feed(struct conn *c, const uint8_t *data, uint32_t size, struct io_buffer *buffer);

int conns_init(struct conns *c, struct data_core *core)
{
    *c = (struct conns){0};
    list_init(&c->all);
    list_init(&c->dirty);
    list_init(&c->heavy);
    list_init(&c->starved);
    list_init(&c->assembling);
    list_init(&c->sending);
    c->count_max = CONNS_MAX;
    pool_init(&c->pool, &core->mem, sizeof(struct conn), CONNS_MAX);
    pool_init(&c->outgoing, &core->mem, sizeof(struct outgoing), OUTGOING_MAX);
    timer_init(&c->sweep, conns_sweep);
    timer_arm(&core->wheel, &c->sweep, io_now_ns(core->io) + IDLE_SWEEP_NS);
    return 0;
}

void conns_free(struct conns *c)
{
    pool_destroy(&c->outgoing);
    pool_destroy(&c->pool);
}

/* ---- life ------------------------------------------------------------------------------------ */

static uint32_t conns_from(const struct conns *all, const struct io_address *peer)
{
    uint32_t count = 0;
    LIST_EACH(l, &all->all)
    {
        const struct conn *c = container_of(l, struct conn, link);
        count += strcmp(c->peer.host, peer->host) == 0;
    }
    return count;
}

/* max.connections bounds the node; the kernel spreads connections over the cores' listeners, and a
 * core admits its share rounded up. Per-address limits are counted on each core likewise. */
static bool conns_admit(const struct data_core *core, const struct io_address *peer)
{
    const struct broker_config *config = core->config;
    uint32_t cores = core->cores_count;
    uint32_t share = (uint32_t)config->max_connections / cores +
                     ((uint32_t)config->max_connections % cores != 0);
    if (core->conns.count >= MIN(share, core->conns.count_max))
        return false;
    int32_t per_ip = config->max_connections_per_ip;
    for (uint32_t i = 0; i < config->ip_overrides_count; i++) {
        if (strcmp(config->ip_overrides[i].host, peer->host) == 0)
            per_ip = config->ip_overrides[i].connections;
    }
    if (per_ip == INT32_MAX)
        return true;
    uint32_t ip_share = ((uint32_t)per_ip + cores - 1) / cores;
    return conns_from(&core->conns, peer) < ip_share;
}

static void conn_refuse(struct data_core *core, int fd)
{
    struct conns *all = &core->conns;
    uint64_t now_ns = io_now_ns(core->io);
    SOMETIMES("a connection is refused");
    all->refused++;
    io_socket_close(core->io, fd);
    if (all->count < all->count_max || now_ns < all->quiet_until_ns)
        return;
    all->quiet_until_ns = now_ns + ACCEPT_QUIET_NS;
    trace_line(
        &core->trace, TRACE_NET, TRACE_WARN,
        "new connections are refused: this core has %u, and what is left of %llu descriptors "
        "is for files; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        all->count, (unsigned long long)io_descriptors_max(core->io));
}

void conn_open(struct data_core *core, int fd, const struct io_address *peer, uint16_t listener)
{
    assert(core_same(core_self(), core->id));
    assert(fd >= 0);
    struct conn *c = conns_admit(core, peer) ? pool_acquire(&core->conns.pool) : NULL;
    if (c == NULL) {
        conn_refuse(core, fd);
        return;
    }
    memset(c, 0, sizeof(*c));
    c->core = core;
    c->fd = fd;
    c->peer = *peer;
    c->listener = listener;
    c->active_ns = io_now_ns(core->io);
    list_init(&c->dirty);
    list_init(&c->flows);
    list_init(&c->assembling);
    list_init(&c->stalling);
    list_push_back(&core->conns.all, &c->link);
    core->conns.count++;
    core->conns.accepted++;
    op_init(&c->recv.op, conn_received);
    list_init(&c->recv.link);
    c->recv.fd = fd;
    io_recv_start(core->io, &c->recv);
}

static void conn_free(struct conn *c)
{
    struct data_core *core = c->core;
    assert(!c->recv.op.armed && c->out == NULL);
    assert(list_empty(&c->flows));
    if (c->frame != NULL)
        conns_free_frame(&core->conns, c->frame, c->frame_capacity);
    if (c->stash != NULL)
        mem_free(&core->mem, c->stash, c->stash_size);
    io_socket_close(core->io, c->fd);
    list_remove(&c->dirty);
    list_remove(&c->assembling);
    list_remove(&c->link);
    assert(list_empty(&c->stalling));
    core->conns.count--;
    pool_release(&core->conns.pool, c);
}

static void conn_mark(struct conn *c)
{
    struct conns *conns = &c->core->conns;
    if (list_empty(&c->dirty))
        list_push_back(c->heavy ? &conns->heavy : &conns->dirty, &c->dirty);
}

/* What waits for something to happen need not wait longer; `only_polls`: the connection can still
 * be answered, so only what may be answered early. */
static void conn_abandon(struct conn *c, bool only_polls)
{
    LIST_EACH(l, &c->flows)
    {
        struct flow *f = container_of(l, struct flow, link);
        if (flow_queued(f) || flow_answered(f) || f->abandon == NULL || (only_polls && !f->polls))
            continue;
        SOMETIMES("a request is abandoned with its connection");
        f->abandon(f);
    }
}

void conn_close(struct conn *c)
{
    if (c->state.now == CONN_CLOSING)
        return;
    state_move(&c->state, &conn_states, CONN_CLOSING);
    io_shutdown(c->core->io, c->fd);
    if (c->recv.op.armed)
        io_recv_stop(c->core->io, &c->recv);
    conn_abandon(c, false);
    conn_wake(c); /* it may have been starved */
}

void conns_close_all(struct conns *conns)
{
    LIST_EACH(l, &conns->all)
    conn_close(container_of(l, struct conn, link));
}

void conn_wake(struct conn *c)
{
    c->starving = false;
    list_remove(&c->dirty);
    conn_mark(c);
}

void conns_scarce(struct conns *c)
{
    c->scarce_ns = io_now_ns(container_of(c, struct data_core, conns)->io);
}

/* Peers that take nothing of their answers, and when memory is scarce also those that hold it with
 * frames that do not get complete: who waits for it himself only if nobody else is to blame. */
static void conns_close_stalled(struct conns *conns, uint64_t now)
{
    bool scarce = conns->scarce_ns != 0 && now - conns->scarce_ns < SCARCE_NS;
    uint64_t patience = scarce ? SCARCE_STALL_NS : SEND_STALL_NS;
    LIST_EACH(l, &conns->sending)
    {
        struct conn *c = container_of(l, struct conn, stalling);
        if (now - c->out_ns < patience)
            break;
        conns->closed_stalled += c->state.now == CONN_OPEN;
        conn_close(c);
    }
    if (list_empty(&conns->starved))
        return;
    uint64_t freed = 0;
    for (uint32_t waiting = 0; waiting < 2 && freed == 0; waiting++) {
        LIST_EACH(l, &conns->assembling)
        {
            struct conn *c = container_of(l, struct conn, assembling);
            if (now - c->frame_ns < (1 + waiting) * SCARCE_STALL_NS)
                break;
            if (c->state.now != CONN_OPEN || c->starving != (waiting == 1))
                continue;
            freed += c->frame_capacity;
            conns->closed_stalled++;
            conn_close(c);
            if (waiting == 1 || freed > conns->frames_bytes / 2)
                break;
        }
    }
}

static void conns_sweep(struct timer *t)
{
    struct conns *conns = container_of(t, struct conns, sweep);
    struct data_core *core = container_of(conns, struct data_core, conns);
    uint64_t now = io_now_ns(core->io);
    uint64_t idle_max = (uint64_t)core->config->connections_max_idle_ms * NS_PER_MS;
    LIST_EACH(l, &conns->all)
    {
        struct conn *c = container_of(l, struct conn, link);
        if (now - c->active_ns < idle_max)
            break; /* the list is in order of activity */
        SOMETIMES("an idle connection is closed");
        if (c->state.now == CONN_OPEN)
            conns->closed_idle++;
        conn_close(c);
    }
    conns_close_stalled(conns, now);
    timer_arm(&core->wheel, t, now + IDLE_SWEEP_NS);
}

/* ---- frames' memory -------------------------------------------------------------------------- */

uint8_t *conns_take_frame(struct conns *c, uint32_t capacity)
{
    struct data_core *core = container_of(c, struct data_core, conns);
    uint8_t *frame = mem_alloc(&core->mem, capacity);
    if (frame != NULL)
        c->frames_bytes += capacity;
    return frame;
}

void conns_free_frame(struct conns *c, uint8_t *frame, uint32_t capacity)
{
    assert(c->frames_bytes >= capacity);
    c->frames_bytes -= capacity;
    mem_free(&container_of(c, struct data_core, conns)->mem, frame, capacity);
}

static void conn_active(struct conn *c)
{
    c->active_ns = io_now_ns(c->core->io);
    list_remove(&c->link);
    list_push_back(&c->core->conns.all, &c->link);
}

/* ---- receive --------------------------------------------------------------------------------- */

/* Peer's fault: a counter, no log line (it could write millions). */
static void conn_bad(struct conn *c)
{
    c->core->conns.closed_bad++;
    SOMETIMES("a peer breaks the protocol");
    conn_close(c);
}

static bool conn_may_take(const struct conn *c)
{
    return c->flows_count < CONN_FLOWS_MAX &&
           (c->flows_bytes < CONN_BYTES_MAX || c->flows_count == 0);
}

/* The stream failed with an error. If the peer broke it off nobody takes answers any more, but what
 * came before is still to be read and served. */
static void conn_broken(struct conn *c, int32_t error)
{
    if (error != -ECONNRESET && error != -EPIPE && error != -ETIMEDOUT) {
        conn_close(c);
        return;
    }
    SOMETIMES_IF(!list_empty(&c->flows), "a peer breaks off with requests under way");
    c->broken = true;
}

/* Keeps bytes that came after we decided to stop; reading stops until they are used. */
static void conn_stash(struct conn *c, const uint8_t *data, uint32_t size)
{
    struct mem *mem = &c->core->mem;
    uint32_t rest = c->stash_size - c->stash_at;
    if (c->stash != NULL && data + size == c->stash + c->stash_size) {
        c->stash_at = c->stash_size - size; /* it comes from there */
        return;
    }
    SOMETIMES("received bytes wait for their turn");
    assert(rest == 0 || c->stash != NULL);
    uint8_t *grown = mem_alloc(mem, (size_t)rest + size);
    if (grown == NULL) {
        conn_bad(c);
        return;
    }
    if (rest > 0)
        memcpy(grown, c->stash + c->stash_at, rest);
    memcpy(grown + rest, data, size);
    c->core->conns.copied_bytes += rest + size;
    if (c->stash != NULL)
        mem_free(mem, c->stash, c->stash_size);
    c->stash = grown;
    c->stash_size = rest + size;
    c->stash_at = 0;
    if (c->recv.op.armed)
        io_recv_stop(c->core->io, &c->recv);
}

/* A whole frame is here. In place when it lies in a buffer and may stay there. */
static bool conn_take(struct conn *c, const uint8_t *frame, uint32_t size, struct io_buffer *buffer)
{
    struct data_core *core = c->core;
    struct flow *f = flow_acquire(c, io_now_ns(core->io));
    if (f == NULL)
        return false;
    f->frame_size = size;
    bool copy =
        size <= FRAME_COPY_MAX || buffer == NULL || io_buffers_free(core->io) < RECV_BUFFERS_LOW;
    SOMETIMES_IF(size > FRAME_COPY_MAX && buffer != NULL && copy,
                 "a frame is copied because buffers are few");
    if (copy) {
        uint8_t *own = conns_take_frame(&core->conns, MAX(size, 1u));
        if (own == NULL) {
            flow_free(f);
            return false;
        }
        memcpy(own, frame, size);
        core->conns.copied_bytes += size;
        f->frame = own;
        f->frame_capacity = MAX(size, 1u);
    } else {
        SOMETIMES("a frame stays where it was received");
        io_buffer_retain(buffer);
        f->frame = frame;
        f->buffer = buffer;
    }
    c->flows_bytes += size;
    conn_mark(c);
    return true;
}

/* The frame that was assembled becomes a flow; its memory goes along. */
static bool conn_take_assembled(struct conn *c)
{
    struct flow *f = flow_acquire(c, c->frame_ns);
    if (f == NULL)
        return false;
    f->frame = c->frame;
    f->frame_size = c->frame_size;
    f->frame_capacity = c->frame_capacity;
    c->flows_bytes += c->frame_size;
    c->frame = NULL;
    list_remove(&c->assembling);
    c->frame_capacity = c->frame_have = c->frame_size = 0;
    c->length_have = 0;
    conn_mark(c);
    return true;
}

/* Room for `more` bytes of the frame, grown fourfold. The frames of all share a quarter of the
 * core's memory; one that is larger may have what there is, if it is alone. */
static bool conn_grow_frame(struct conn *c, uint32_t more)
{
    SOMETIMES("a frame is assembled");
    struct conns *conns = &c->core->conns;
    struct mem *mem = &c->core->mem;
    uint64_t need = (uint64_t)c->frame_have + more;
    if (need <= c->frame_capacity)
        return true;
    uint64_t capacity = MAX((uint64_t)c->frame_capacity * 4, (uint64_t)FRAME_FIRST_BYTES);
    capacity = MIN(MAX(capacity, need), (uint64_t)c->frame_size);
    uint64_t others = conns->frames_bytes - c->frame_capacity;
    if (others > 0 && others + capacity > mem->budget_bytes / FRAMES_SHARE)
        return false;
    uintptr_t before = (uintptr_t)c->frame;
    uint8_t *grown = mem_realloc(mem, c->frame, c->frame_capacity, capacity);
    if (grown == NULL)
        return false;
    conns->frames_bytes += capacity - c->frame_capacity;
    conns->copied_bytes += (uintptr_t)grown != before ? c->frame_have : 0;
    if (c->frame == NULL) {
        c->frame_ns = io_now_ns(c->core->io);
        list_push_back(&conns->assembling, &c->assembling);
    }
    c->frame = grown;
    c->frame_capacity = (uint32_t)capacity;
    return true;
}

static bool conn_length(struct conn *c, const uint8_t **data, uint32_t *size)
{
    while (c->length_have < 4 && *size > 0) {
        c->length[c->length_have++] = **data;
        (*data)++;
        (*size)--;
    }
    if (c->length_have < 4)
        return false;
    c->frame_size = (uint32_t)c->length[0] << 24 | (uint32_t)c->length[1] << 16 |
                    (uint32_t)c->length[2] << 8 | (uint32_t)c->length[3];
    if (c->frame_size > (uint32_t)c->core->config->socket_request_max_bytes) {
        conn_bad(c); /* negative lengths too */
        return false;
    }
    return true;
}

static void conn_hunger(struct conn *c)
{
    c->starving = true;
    list_remove(&c->dirty);
    list_push_back(&c->core->conns.starved, &c->dirty);
    conns_scarce(&c->core->conns);
}

/* No flow or no memory: wait until something ends. */
static void conn_starve(struct conn *c, const uint8_t *data, uint32_t size)
{
    conn_stash(c, data, size);
    if (c->state.now != CONN_OPEN)
        return;
    if (c->core->flows.pool.count_used == 0 && c->core->conns.count == 1) {
        conn_bad(c);
        return;
    }
    conn_hunger(c);
}

/* Uses received bytes: cuts frames, or keeps what must wait. Bounded by size. */
static void conn_feed(struct conn *c, const uint8_t *data, uint32_t size, struct io_buffer *buffer)
{
    while (size > 0 && c->state.now == CONN_OPEN) {
        if (c->stash != NULL && c->stash_at < c->stash_size && buffer != NULL) {
            conn_stash(c, data, size); /* older bytes wait already */
            return;
        }
        if (!conn_may_take(c)) {
            conn_stash(c, data, size);
            return;
        }
        if (c->length_have < 4 && !conn_length(c, &data, &size))
            return;
        if (c->frame_have == 0 && size >= c->frame_size) {
            if (!conn_take(c, data, c->frame_size, buffer)) {
                conn_starve(c, data, size);
                return;
            }
            data += c->frame_size;
            size -= c->frame_size;
            c->length_have = 0;
            continue;
        }
        uint32_t part = MIN(size, c->frame_size - c->frame_have);
        if (part == 0)
            return; /* only its length has come */
        if (!conn_grow_frame(c, part)) {
            conn_starve(c, data, size);
            return;
        }
        memcpy(c->frame + c->frame_have, data, part);
        c->core->conns.copied_bytes += part;
        c->frame_have += part;
        data += part;
        size -= part;
        if (c->frame_have == c->frame_size && !conn_take_assembled(c)) {
            conn_starve(c, data, size);
            return;
        }
    }
}

static void conn_received(struct op *op)
{
    struct conn *c = container_of(op, struct conn, recv.op);
    struct data_core *core = c->core;
    assert(core_same(core_self(), core->id));
    if (op->result > 0) {
        core->conns.received_bytes += (uint32_t)op->result;
        SOMETIMES_IF(c->state.now != CONN_OPEN, "bytes come for a connection that is being closed");
        if (c->state.now == CONN_OPEN) {
            gather_hear(&core->gather,
                        list_empty(&c->flows) ? io_now_ns(core->io) - c->active_ns : 0);
            conn_active(c);
            conn_feed(c, c->recv.data, (uint32_t)op->result, c->recv.buffer);
        }
        io_buffer_release(core->io, c->recv.buffer);
    } else if (op->result == 0) {
        SOMETIMES_IF(!list_empty(&c->flows), "a peer has ended with requests under way");
        c->ended = true; /* what came before the end is still served: see conn_flush */
    } else if (op->result != -ECANCELED) {
        conn_broken(c, op->result);
        c->ended = true;
    }
    if (!c->recv.more)
        conn_wake(c); /* may be freed, or read again */
}

/* Uses the stash, then reads on. */
static void conn_resume(struct conn *c)
{
    if (c->stash != NULL && conn_may_take(c)) {
        uint32_t at = c->stash_at;
        c->stash_at = c->stash_size; /* conn_feed puts back what it does not take */
        conn_feed(c, c->stash + at, c->stash_size - at, NULL);
        if (c->stash_at == c->stash_size) {
            mem_free(&c->core->mem, c->stash, c->stash_size);
            c->stash = NULL;
            c->stash_size = c->stash_at = 0;
        }
    }
    if (c->state.now == CONN_OPEN && c->stash == NULL && !c->recv.op.armed && !c->ended &&
        conn_may_take(c))
        io_recv_start(c->core->io, &c->recv);
}

/* ---- start and send -------------------------------------------------------------------------- */

/* Starts what may run: see invariant 2. */
static void conn_start_flows(struct conn *c)
{
    LIST_EACH(l, &c->flows)
    {
        struct flow *f = container_of(l, struct flow, link);
        if (!flow_queued(f))
            continue;
        if (c->state.now != CONN_OPEN)
            return;
        bool beside = flow_may_pipeline(f);
        if (c->running > 0 && (c->running_exclusive || !beside))
            return;
        SOMETIMES_IF(!beside && c->unsent_bytes >= CONN_UNSENT_MAX,
                     "requests wait until answers have left");
        if (!beside && c->unsent_bytes >= CONN_UNSENT_MAX)
            return; /* those before it must leave first */
        c->running++;
        c->running_exclusive = !beside;
        flow_start(f); /* may answer at once, may close the connection */
        if (c->heavy && c->running == 0)
            return; /* marked again: the next one in its turn (invariant 8) */
    }
}

static uint32_t outgoing_add(struct outgoing *o, const void *data, uint64_t size)
{
    o->iov[o->send.iov_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return (uint32_t)size;
}

/* Adds the rest of a flow's answer; false if the vector or the byte budget is full first. */
static bool outgoing_fill(struct outgoing *o, struct reply_cursor *at, const struct flow *f,
                          uint64_t *bytes)
{
    for (;;) { /* bounded by iov and pieces */
        SOMETIMES_IF(o->send.iov_count == SEND_IOV_MAX || *bytes >= SEND_BYTES_MAX,
                     "an answer is sent in parts");
        if (o->send.iov_count == SEND_IOV_MAX || *bytes >= SEND_BYTES_MAX)
            return false;
        uint64_t stop = f->head_size;
        if (at->splice < f->splices_count)
            stop = f->splices[at->splice].position;
        if (at->at < stop) {
            *bytes += outgoing_add(o, f->head + at->at, stop - at->at);
            at->at = stop;
            continue;
        }
        if (at->splice == f->splices_count)
            return true;
        const struct wire_splice *s = &f->splices[at->splice];
        if (at->piece == s->pieces_count) {
            at->splice++;
            at->piece = 0;
            continue;
        }
        const struct wire_piece *p = &s->pieces[at->piece++];
        *bytes += outgoing_add(o, p->data, p->size);
    }
}

/* The answer is out (or dropped): the api file lets go of what it lent. */
static void conn_finish_flow(struct conn *c, struct flow *f)
{
    list_remove(&f->link);
    c->flows_count--;
    c->flows_bytes -= f->frame_size;
    c->unsent_bytes -= f->answer_bytes;
    stat_flow(c->core, f);
    if (f->sent != NULL)
        f->sent(f);
    else
        flow_free(f);
}

/* Those that run do so to their end; of a broken connection those that wait come to their turn. */
static void conn_drop_answers(struct conn *c)
{
    LIST_EACH(l, &c->flows)
    {
        struct flow *f = container_of(l, struct flow, link);
        if (!flow_answered(f) && !(flow_queued(f) && c->state.now != CONN_OPEN))
            continue;
        SOMETIMES("an answer is dropped");
        if (c->state.now == CONN_OPEN && ++c->unheard > CONN_FLOWS_MAX)
            conn_close(c); /* it poured requests and left: not worth more work */
        conn_mark(c);      /* room for others */
        conn_finish_flow(c, f);
    }
}

/* Gathers answered flows from the head of the list into one send. */
static void conn_send(struct conn *c)
{
    struct data_core *core = c->core;
    struct outgoing *o = NULL;
    uint64_t bytes = 0;
    LIST_EACH(l, &c->flows)
    {
        struct flow *f = container_of(l, struct flow, link);
        if (!flow_answered(f))
            break;
        if (f->silent && c->sending == 0) {
            bool bad = f->close_after;
            conn_finish_flow(c, f);
            conn_mark(c); /* no send will end and ask whether there is room to read on */
            SOMETIMES_IF(bad, "an error cannot be told with acks=0");
            if (bad) {
                conn_bad(c);
                break;
            }
            continue;
        }
        if (f->silent)
            break; /* after those before it have left */
        if (o == NULL) {
            o = pool_acquire(&core->conns.outgoing);
            if (o == NULL) {
                conn_hunger(c);
                return;
            }
            o->send.iov_count = 0;
        }
        if (!outgoing_fill(o, &c->cursor, f, &bytes))
            break;
        c->sending++;
        c->cursor = (struct reply_cursor){0};
    }
    if (o == NULL)
        return;
    if (c->state.now != CONN_OPEN) {
        pool_release(&core->conns.outgoing, o);
        return;
    }
    c->out = o;
    op_init(&o->send.op, conn_sent);
    o->send.fd = c->fd;
    o->send.iov = o->iov;
    o->conn = c;
    c->out_ns = io_now_ns(core->io);
    list_push_back(&core->conns.sending, &c->stalling);
    io_send(core->io, &o->send);
}

static void conn_sent(struct op *op)
{
    struct outgoing *o = container_of(op, struct outgoing, send.op);
    struct conn *c = o->conn;
    struct data_core *core = c->core;
    int32_t result = op->result;
    assert(c->out == o);
    c->out = NULL;
    list_remove(&c->stalling);
    pool_release(&core->conns.outgoing, o);
    SOMETIMES_IF(result < 0, "a send fails");
    if (result < 0)
        conn_broken(c, result);
    else
        conn_active(c);
    core->conns.sent_bytes += (uint32_t)MAX(result, 0);
    for (; c->sending > 0; c->sending--) {
        struct list *l = list_first(&c->flows);
        assert(l != NULL);
        conn_finish_flow(c, container_of(l, struct flow, link));
    }
    conn_wake(c);
}

static void conn_flush(struct conn *c)
{
    if (c->state.now == CONN_OPEN) {
        conn_resume(c);
        conn_start_flows(c);
        if (c->ended)
            conn_abandon(c, !c->broken); /* most likely nobody listens any more */
        if (c->out == NULL && c->state.now == CONN_OPEN && c->broken)
            conn_drop_answers(c);
        else if (c->out == NULL && c->state.now == CONN_OPEN)
            conn_send(c);
        if (c->ended && c->stash == NULL && list_empty(&c->flows))
            conn_close(c);
    }
    if (c->state.now == CONN_OPEN)
        return;
    if (c->out == NULL)
        conn_drop_answers(c);
    if (c->out == NULL && !c->recv.op.armed && list_empty(&c->flows))
        conn_free(c);
}

void conns_flush(struct data_core *core)
{
    struct conns *conns = &core->conns;
    /* Memory or flows may have come back since: who starved looks again, one per turn. */
    struct list *hungry = list_first(&conns->starved);
    if (hungry != NULL && core->flows.pool.count_used < FLOWS_MAX)
        conn_wake(container_of(hungry, struct conn, dirty));
    /* A flow that answers at once marks its connection again: bounded by requests received. */
    struct list *l;
    while ((l = list_pop_front(&conns->dirty)) != NULL)
        conn_flush(container_of(l, struct conn, dirty));
}

void conn_answered(struct conn *c, uint64_t encoded_bytes)
{
    c->heavy = encoded_bytes >= CONN_HEAVY_BYTES;
    c->core->conns.encoded_bytes += encoded_bytes;
}

void conns_flush_heavy(struct data_core *core)
{
    struct conns *conns = &core->conns;
    uint64_t until = conns->encoded_bytes + TURN_HEAVY_BYTES;
    uint32_t looks = TURN_HEAVY_MAX;
    struct list *l = NULL;
    while (looks-- > 0 && conns->encoded_bytes < until &&
           (l = list_pop_front(&conns->heavy)) != NULL)
        conn_flush(container_of(l, struct conn, dirty));
}
