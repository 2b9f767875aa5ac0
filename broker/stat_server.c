/* Who asks where the time goes is answered here, on the control core: a local socket whose name is
 * the port of the broker, read by `torc stat`. A peer that connects is sent one answer and the end:
 * a line of JSON, the same as a table, a form feed, and a table of what happened since somebody
 * asked before. It sends nothing, so there is nothing to read wrong.
 *
 *   accept ─▶ the letter goes to core 0, home, core 1, home ... : which tables there are
 *          ─▶ and once more: what is in them ─▶ text ─▶ sent ─▶ closed
 *
 * The name is in the abstract name space of Linux: no file to be left behind, no port to be open,
 * and only processes of the same user (or root) on this machine are let in (io_listen).
 *
 * Invariants:
 *  1. One answer is under way at a time; who comes meanwhile is closed and comes again.
 *  2. The sum is owned by the core that has the letter.
 *  3. What was told last is kept for who asks next; before anybody has asked nothing is held.
 *
 * Failure modes: the name is taken by another broker on another address with the same port: one
 * line, and nobody can ask. A peer that does not read is closed after SEND_NS. */
#include <stdio.h>
#include <string.h>

#include "broker/bench/text.h"
#include "broker/control_core.h"
#include "broker/node.h"
#include "broker/stat.h"

#define SEND_NS     (5 * NS_PER_S)
#define STOP_NS     NS_PER_S
#define BACKLOG     16u
#define POLL_BUDGET 64u

struct stat_server {
    struct control_core *core;
    struct io_accept accept;
    bool asked;
    int fd; /* of who asked; -1 */
    struct io_send send;
    struct iovec iov;
    struct timer late;
    struct stat_letter letter;
    struct stat_sum *sum, *before; /* before: of the last answer, NULL: none */
    uint16_t next;                 /* core that is asked next */
    struct text text;
};

/* ---- one answer ------------------------------------------------------------------------------ */

static void stat_done(struct stat_server *s)
{
    timer_cancel(&s->core->wheel, &s->late);
    io_socket_close(s->core->io, s->fd);
    text_free(&s->text);
    stat_sum_free(s->sum); /* of an answer that failed */
    s->sum = NULL;
    s->fd = -1;
    s->asked = false;
}

static void stat_sent(struct op *op)
{
    stat_done(container_of(op, struct stat_server, send.op));
}

static void stat_late(struct timer *t)
{
    struct stat_server *s = container_of(t, struct stat_server, late);
    io_shutdown(s->core->io, s->fd); /* ends the send */
}

static void stat_tell(struct stat_server *s)
{
    struct control_core *c = s->core;
    struct stat_sum *now = s->sum;
    now->ns = io_now_ns(c->io) - c->started_ns;
    for (uint32_t i = 0; i < TRIP_STAGES; i++)
        now->current[i] += c->board.current[i]; /* legs that are here */
    stat_sum_since(s->before, now);
    stat_sum_json(&s->text, now);
    stat_sum_table(&s->text, now, false);
    text_put(&s->text, "\f", 1);
    stat_sum_table(&s->text, s->before, true);
    stat_sum_free(s->before);
    s->before = now;
    s->sum = NULL;
}

static void stat_answer(struct stat_server *s)
{
    struct control_core *c = s->core;
    stat_tell(s);
    if (s->text.failed) {
        stat_done(s);
        return;
    }
    s->iov = (struct iovec){s->text.data, s->text.size};
    op_init(&s->send.op, stat_sent);
    s->send.fd = s->fd;
    s->send.iov = &s->iov;
    s->send.iov_count = 1;
    timer_arm(&c->wheel, &s->late, io_now_ns(c->io) + SEND_NS);
    io_send(c->io, &s->send);
}

static void stat_visit(struct stat_server *s)
{
    s->letter.msg.home = s->core->id;
    s->letter.msg.kind = MSG_STAT;
    mail_send(&s->core->mail, (struct core_id){s->next++}, &s->letter.msg);
}

void stat_home(struct control_core *c, struct msg *msg)
{
    struct stat_server *s = c->stats;
    assert(s != NULL && msg == &s->letter.msg);
    if (s->next < s->sum->cores_count) {
        stat_visit(s);
    } else if (!s->letter.tables) {
        stat_answer(s);
    } else if (stat_sum_tables(s->sum, s->sum) && stat_sum_tables(s->before, s->sum)) {
        s->letter.tables = false;
        s->next = 0;
        stat_visit(s);
    } else {
        stat_done(s);
    }
}

static void stat_accepted(struct op *op)
{
    struct stat_server *s = container_of(op, struct stat_server, accept.op);
    struct control_core *c = s->core;
    if (op->result < 0)
        return;
    if (s->asked || c->state.now != CONTROL_RUNNING) {
        io_socket_close(c->io, op->result);
        return;
    }
    s->asked = true;
    s->fd = op->result;
    s->next = 0;
    s->sum = stat_sum_make(&c->mem, c->node->cores_count);
    if (s->before == NULL)
        s->before = stat_sum_make(&c->mem, c->node->cores_count);
    s->letter.sum = s->sum;
    s->letter.tables = true;
    if (s->sum != NULL && s->before != NULL)
        stat_visit(s);
    else
        stat_done(s);
}

/* ---- life ------------------------------------------------------------------------------------ */

void stat_server_start(struct control_core *c)
{
    const struct broker_config *b = &c->node->config->broker;
    struct io_address name = {.port = 0};
    uint32_t first = 0;
    uint16_t port;
    while (first < b->listeners_count && b->listeners[first].controller)
        first++;
    struct stat_server *s = mem_zalloc(&c->mem, sizeof(*s));
    if (s == NULL || first == b->listeners_count || !b->torc_stat_socket)
        return;
    (void)snprintf(name.host, sizeof(name.host), STAT_NAME, c->node->ports[first]);
    s->core = c;
    s->fd = -1;
    text_init(&s->text, &c->mem);
    timer_init(&s->late, stat_late);
    op_init(&s->accept.op, stat_accepted);
    s->accept.listener = io_listen(c->io, &name, BACKLOG, &port);
    if (s->accept.listener < 0) {
        trace_line(&c->trace, TRACE_MAIN, TRACE_INFO, "torc stat cannot ask this node: %s: %s",
                   name.host, strerror(-s->accept.listener));
        mem_free(&c->mem, s, sizeof(*s));
        return;
    }
    c->stats = s;
    io_accept(c->io, &s->accept);
}

void stat_server_stop(struct control_core *c)
{
    struct stat_server *s = c->stats;
    if (s == NULL)
        return;
    uint64_t limit = io_clock_ns(c->io) + STOP_NS;
    timer_cancel(&c->wheel, &s->late);
    if (s->accept.op.armed)
        io_cancel_accept(c->io, &s->accept);
    if (s->send.op.armed)
        io_shutdown(c->io, s->fd);
    while ((s->accept.op.armed || s->send.op.armed) && io_clock_ns(c->io) < limit)
        (void)io_poll(c->io, limit, POLL_BUDGET);
    if (!s->accept.op.armed)
        io_socket_close(c->io, s->accept.listener);
    c->stats = NULL; /* its memory goes with the core's */
}
