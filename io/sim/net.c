/* The network between machines and clients: connections as two lines of bytes.
 *
 *   put ─▶ [ on its way ........ | arrived, not taken ] ─▶ taken
 *            delay, cuts down to one byte        ▲ recv, sim_client_take
 *
 * Invariants (TCP's, as far as it promises any):
 *  1. Within one direction bytes neither swap, double nor vanish, until a reset or a power cut.
 *  2. Bytes arrive in pieces that have nothing to do with how they were put.
 *  3. Who closes with bytes unread resets the peer; who sends to a closed end is reset in turn.
 *  4. An end whose machine lost its power says nothing; its peer learns of it later.
 *  5. A connection lives until both ends are closed, whoever holds them.
 *
 * Failure modes: resets at any byte, both ends hearing of it at times of their own; stalls. */
#include <stdio.h>
#include <string.h>

#include "io/sim/sim_priv.h"

#define PIPE_FIRST     1024u
#define LINE_PARTS     16u
#define CLIENT_PORTS   40000u
#define DEAD_PEER_NS   (2 * NS_PER_S)
#define CLOSED_RST_NS  (20 * NS_PER_MS)
#define CLIENT_NETWORK "10.1.%u.%u"

static struct chance *net_chance(struct sim *s)
{
    return &s->streams[SIM_NET];
}

struct sim_end *sim_end_peer(struct sim_end *end)
{
    struct sim_connection *c = end->connection;
    return end == &c->ends[0] ? &c->ends[1] : &c->ends[0];
}

/* ---- pipes ----------------------------------------------------------------------------------- */

static void pipe_append(struct sim *s, struct sim_pipe *p, const void *bytes, size_t size)
{
    size_t held = (size_t)(p->put - p->taken);
    if (p->start + held + size > p->room) {
        if (p->start > 0)
            memmove(p->bytes, p->bytes + p->start, held);
        p->start = 0;
    }
    if (held + size > p->room) {
        size_t room = MAX(MAX(p->room * 2, (size_t)PIPE_FIRST), held + size);
        p->bytes = sim_grow(s, p->bytes, p->room, room);
        p->room = room;
    }
    memcpy(p->bytes + p->start + held, bytes, size);
    p->put += size;
}

static void pipe_free(struct sim *s, struct sim_pipe *p)
{
    sim_unplan(s, &p->arrival);
    if (p->bytes != NULL)
        mem_free(s->mem, p->bytes, p->room);
    p->bytes = NULL;
}

static uint64_t stalled_until(const struct sim_connection *c)
{
    uint64_t until = 0;
    for (uint32_t i = 0; i < 2; i++) {
        if (c->ends[i].machine != NULL)
            until = MAX(until, c->ends[i].machine->net_stalled_until);
    }
    return until;
}

static void pipe_arrive(struct sim_event *e);

/* What is on its way to this end arrives some time. */
static void pipe_plan(struct sim_end *end, uint64_t mean_ns)
{
    struct sim *s = end->connection->sim;
    struct sim_pipe *p = &end->in;
    bool more = p->put > p->arrived || (p->ended && !p->end_arrived);
    if (!more || p->arrival.place != 0)
        return;
    uint64_t at = s->now_ns + 1 + chance_around(net_chance(s), mean_ns);
    sim_plan(s, &p->arrival, MAX(at, stalled_until(end->connection)), pipe_arrive);
}

static uint64_t segment_draw(struct sim_connection *c, uint64_t waiting)
{
    struct sim *s = c->sim;
    bool one = chance_one_in(net_chance(s), s->style.segment_one);
    /* A long line moves in larger pieces, or megabytes would take minutes. */
    uint64_t usual = MAX((uint64_t)c->segment_max, waiting / LINE_PARTS);
    uint64_t most = 1 + chance_below(net_chance(s), usual);
    uint64_t size = one ? 1 : MIN(waiting, most);
    s->counts[SIM_SEGMENTS]++;
    s->counts[SIM_SEGMENTS_OF_ONE] += size == 1;
    return size;
}

static void pipe_arrive(struct sim_event *e)
{
    struct sim_end *end = container_of(e, struct sim_end, in.arrival);
    struct sim *s = end->connection->sim;
    struct sim_pipe *p = &end->in;
    if (p->put > p->arrived) {
        uint64_t size = segment_draw(end->connection, p->put - p->arrived);
        const uint8_t *at = p->bytes + p->start + (p->arrived - p->taken);
        sim_note(s, end->machine != NULL ? end->machine->index : UINT32_MAX, KIND_ARRIVAL,
                 chance_hash(p->arrived, at, (size_t)size));
        p->arrived += size;
    } else {
        p->end_arrived = true;
    }
    if (end->state != END_OPEN) {
        p->taken = p->arrived = p->put;
        p->start = 0;
        if (end->state == END_CLOSED && !end->silent && !p->end_arrived)
            sim_end_reset_soon(sim_end_peer(end), CLOSED_RST_NS);
        return;
    }
    pipe_plan(end, s->style.net_ns / LINE_PARTS / 8);
    sim_end_update(end);
    if (end->client != NULL && sim_end_peer(end)->send != NULL)
        sim_send_push(sim_end_peer(end));
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void client_woken(struct sim_event *e)
{
    struct sim_client *c = container_of(e, struct sim_client, event);
    c->wake(c->context);
}

static void client_update(struct sim_client *c)
{
    const struct sim_end *end = c->end;
    if (end->state == END_RESET)
        c->state = SIM_CLIENT_RESET;
    else if (end->state == END_OPEN)
        c->state = end->in.end_arrived ? SIM_CLIENT_ENDED : SIM_CLIENT_OPEN;
    sim_plan(c->sim, &c->event, c->sim->now_ns, client_woken);
}

void sim_end_update(struct sim_end *end)
{
    if (end->client != NULL)
        client_update(end->client);
    if (end->recv != NULL)
        sim_recv_update(end);
    if (end->send != NULL)
        sim_send_push(end);
}

void sim_end_put(struct sim_end *end, const void *bytes, size_t size)
{
    struct sim_end *peer = sim_end_peer(end);
    if (size == 0)
        return;
    pipe_append(end->connection->sim, &peer->in, bytes, size);
    pipe_plan(peer, end->connection->sim->style.net_ns);
}

void sim_end_take(struct sim_end *end, size_t size)
{
    struct sim_pipe *p = &end->in;
    assert(size <= p->arrived - p->taken);
    p->taken += size;
    p->start = p->taken == p->put ? 0 : p->start + size;
    struct sim_end *peer = sim_end_peer(end);
    if (peer->send != NULL)
        sim_send_push(peer);
}

void sim_end_finish(struct sim_end *end)
{
    struct sim_end *peer = sim_end_peer(end);
    peer->in.ended = true;
    pipe_plan(peer, end->connection->sim->style.net_ns);
}

static void end_reset_due(struct sim_event *e)
{
    struct sim_end *end = container_of(e, struct sim_end, reset);
    struct sim *s = end->connection->sim;
    if (end->state != END_OPEN)
        return;
    end->state = END_RESET;
    s->counts[SIM_RESETS]++;
    sim_unplan(s, &end->in.arrival);
    if (chance_one_in(net_chance(s), 2)) { /* what was not yet read may be gone or not */
        end->in.taken = end->in.arrived = end->in.put;
        end->in.start = 0;
    } else {
        end->in.put = end->in.arrived;
    }
    sim_end_update(end);
}

void sim_end_reset_soon(struct sim_end *end, uint64_t within_ns)
{
    struct sim *s = end->connection->sim;
    uint64_t after = chance_between(net_chance(s), 1, within_ns);
    if (end->state == END_OPEN && end->reset.place == 0)
        sim_plan(s, &end->reset, s->now_ns + after, end_reset_due);
}

void sim_end_close(struct sim_end *end)
{
    assert(end->state != END_CLOSED);
    assert(end->recv == NULL && end->send == NULL); /* io.h: no op on it is armed */
    struct sim_end *peer = sim_end_peer(end);
    bool unread = end->in.put > end->in.taken;
    bool was_open = end->state == END_OPEN;
    list_remove(&end->queued);
    sim_unplan(end->connection->sim, &end->reset);
    end->state = END_CLOSED;
    if (peer->state == END_CLOSED) {
        sim_connection_free(end->connection);
        return;
    }
    if (unread && was_open)
        sim_end_reset_soon(peer, CLOSED_RST_NS);
    else if (was_open && !end->shut)
        sim_end_finish(end);
    end->in.taken = end->in.arrived = end->in.put;
    end->in.start = 0;
}

/* Its machine lost its power. Of what was on its way out some may have left. */
static void end_vanish(struct sim_end *end)
{
    struct sim *s = end->connection->sim;
    struct sim_end *peer = sim_end_peer(end);
    struct sim_pipe *out = &peer->in;
    out->put = chance_between(net_chance(s), out->arrived, out->put);
    out->ended = out->ended && out->end_arrived;
    sim_end_reset_soon(peer, DEAD_PEER_NS);
    end->silent = true;
    end->shut = true;                              /* says no goodbye */
    end->in.put = end->in.arrived = end->in.taken; /* nor that it had something unread */
    end->in.start = 0;
    sim_unplan(s, &end->in.arrival);
    sim_end_close(end);
}

/* ---- connections ----------------------------------------------------------------------------- */

static struct sim_listener *listener_draw(struct sim_machine *m, uint16_t port)
{
    uint64_t count = 0, at = 0;
    for (struct list *l = m->listeners.next; l != &m->listeners; l = l->next) {
        const struct sim_listener *listener = container_of(l, struct sim_listener, link);
        count += listener->port == port && listener->waiting < listener->backlog;
    }
    if (!m->up || count == 0)
        return NULL;
    uint64_t chosen = chance_below(net_chance(m->sim), count);
    for (struct list *l = m->listeners.next; l != &m->listeners; l = l->next) {
        struct sim_listener *listener = container_of(l, struct sim_listener, link);
        if (listener->port == port && listener->waiting < listener->backlog && at++ == chosen)
            return listener;
    }
    return NULL;
}

/* Tells who connects. A client or a core's connect op. */
static void connection_answer(struct sim_connection *c, int error)
{
    struct sim_end *end = &c->ends[0];
    struct sim_client *client = end->client;
    if (client == NULL) {
        sim_connect_answered(end, error);
        return;
    }
    if (error != 0) {
        client->state = SIM_CLIENT_REFUSED;
        sim_plan(c->sim, &client->event, c->sim->now_ns, client_woken);
        return;
    }
    sim_end_update(end);
}

static void connection_connect(struct sim_event *e)
{
    struct sim_connection *c = container_of(e, struct sim_connection, connecting);
    struct sim_listener *l = c->target == NULL ? NULL : listener_draw(c->target, c->port);
    if (l == NULL) {
        c->sim->counts[SIM_REFUSALS]++;
        connection_answer(c, c->target == NULL ? -EHOSTUNREACH : -ECONNREFUSED);
        return;
    }
    c->ends[0].state = c->ends[1].state = END_OPEN;
    c->ends[1].machine = c->target;
    list_push_back(&l->queue, &c->ends[1].queued);
    l->waiting++;
    if (l->accept != NULL)
        sim_op_ready(l->accept);
    connection_answer(c, 0);
}

struct sim_connection *sim_connection_make(struct sim *s, struct sim_machine *target, uint16_t port)
{
    struct sim_connection *c = sim_alloc(s, sizeof(*c));
    c->sim = s;
    c->target = target;
    c->port = port;
    c->segment_max = (uint32_t)chance_between(net_chance(s), 1, s->style.segment_max);
    for (uint32_t i = 0; i < 2; i++) {
        c->ends[i].connection = c;
        list_init(&c->ends[i].queued);
    }
    c->ends[1].state = END_CLOSED; /* until it is accepted by the kernel */
    uint32_t number = s->connections_count++;
    (void)snprintf(c->peer.host, sizeof(c->peer.host), CLIENT_NETWORK, number / 250 % 250,
                   number % 250 + 1);
    c->peer.port = (uint16_t)(CLIENT_PORTS + number % 20000);
    list_push_back(&s->connections, &c->link);
    uint64_t at = s->now_ns + 1 + chance_around(net_chance(s), s->style.net_ns);
    uint64_t stalled = target == NULL ? 0 : target->net_stalled_until;
    sim_plan(s, &c->connecting, MAX(at, stalled), connection_connect);
    return c;
}

void sim_connection_free(struct sim_connection *c)
{
    struct sim *s = c->sim;
    sim_unplan(s, &c->connecting);
    for (uint32_t i = 0; i < 2; i++) {
        assert(list_empty(&c->ends[i].queued));
        sim_unplan(s, &c->ends[i].reset);
        pipe_free(s, &c->ends[i].in);
    }
    list_remove(&c->link);
    mem_free(s->mem, c, sizeof(*c));
}

void sim_listener_close(struct sim_listener *l)
{
    assert(l->accept == NULL); /* io.h: no op on it is armed */
    struct sim *s = l->machine->sim;
    for (struct list *q; (q = list_first(&l->queue)) != NULL;) {
        struct sim_end *end = container_of(q, struct sim_end, queued);
        sim_end_reset_soon(sim_end_peer(end), CLOSED_RST_NS);
        sim_end_close(end);
    }
    list_remove(&l->link);
    mem_free(s->mem, l, sizeof(*l));
}

void sim_net_abandon(struct sim_machine *m, enum death death)
{
    for (uint32_t i = 0; death == DEATH_CUT && i < m->fds_count; i++) {
        struct sim_fd *fd = &m->fds[i];
        if (fd->listener != NULL) {
            for (struct list *q; (q = list_first(&fd->listener->queue)) != NULL;)
                end_vanish(container_of(q, struct sim_end, queued));
        }
        if (fd->end != NULL)
            end_vanish(fd->end);
        fd->end = NULL;
    }
}

void sim_net_free(struct sim *s)
{
    LIST_EACH(it, &s->clients)
    sim_client_close(container_of(it, struct sim_client, link));
    LIST_EACH(it, &s->connections)
    {
        struct sim_connection *c = container_of(it, struct sim_connection, link);
        assert(c->ends[0].machine == NULL || !c->ends[0].machine->up);
        sim_connection_free(c);
    }
}

bool sim_net_reset(struct sim_machine *m)
{
    struct sim *s = m->sim;
    struct sim_connection *chosen = NULL;
    uint64_t seen = 0;
    for (struct list *l = s->connections.next; l != &s->connections; l = l->next) {
        struct sim_connection *c = container_of(l, struct sim_connection, link);
        bool its = c->ends[1].machine == m || c->ends[0].machine == m;
        if (!its || c->ends[0].state != END_OPEN || c->ends[1].state != END_OPEN)
            continue;
        if (chance_below(&s->streams[SIM_FAULTS], ++seen) == 0)
            chosen = c;
    }
    if (chosen == NULL)
        return false;
    sim_end_reset_soon(&chosen->ends[0], 1 + s->style.net_ns * 4);
    sim_end_reset_soon(&chosen->ends[1], 1 + s->style.net_ns * 4);
    return true;
}

/* ---- clients --------------------------------------------------------------------------------- */

struct sim_client *sim_client_connect(struct sim *s, struct sim_machine *to, uint16_t port,
                                      void (*wake)(void *context), void *context)
{
    assert(wake != NULL);
    struct sim_client *c = sim_alloc(s, sizeof(*c));
    c->sim = s;
    c->wake = wake;
    c->context = context;
    c->end = &sim_connection_make(s, to, port)->ends[0];
    c->end->client = c;
    list_push_back(&s->clients, &c->link);
    return c;
}

enum sim_client_state sim_client_state(const struct sim_client *c)
{
    return c->state;
}

void sim_client_send(struct sim_client *c, const void *bytes, size_t size)
{
    if (c->state == SIM_CLIENT_OPEN || c->state == SIM_CLIENT_ENDED)
        sim_end_put(c->end, bytes, size);
}

size_t sim_client_received(struct sim_client *c, const uint8_t **bytes)
{
    const struct sim_pipe *p = &c->end->in;
    *bytes = p->bytes == NULL ? NULL : p->bytes + p->start;
    return (size_t)(p->arrived - p->taken);
}

void sim_client_take(struct sim_client *c, size_t size)
{
    sim_end_take(c->end, size);
}

void sim_client_hold(struct sim_client *c, bool holds)
{
    c->holds = holds;
    if (!holds)
        sim_plan(c->sim, &c->event, c->sim->now_ns, client_woken);
    if (!holds && c->end->state == END_OPEN && sim_end_peer(c->end)->send != NULL)
        sim_send_push(sim_end_peer(c->end));
}

void sim_client_close(struct sim_client *c)
{
    struct sim *s = c->sim;
    sim_unplan(s, &c->event);
    list_remove(&c->link);
    c->end->client = NULL;
    sim_end_close(c->end);
    mem_free(s->mem, c, sizeof(*c));
}
