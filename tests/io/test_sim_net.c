/* The simulated network as a core and a workload's client see it: bytes in order whatever the cuts,
 * ends that are told, buffers that run out, machines that fall silent. */
#include "tests/io/sim_rig.h"

#include <errno.h>
#include <string.h>

#define PORT   9092
#define STREAM 50000u
#define SEEDS  40u

static uint8_t pattern[STREAM];

static void begin(void)
{
    struct chance c;
    chance_init(&c, 1, 1);
    for (uint32_t i = 0; i < STREAM; i++)
        pattern[i] = (uint8_t)chance_next(&c);
}

TestSuite(sim_net, .init = begin);

/* A server of one connection: takes what comes, may hold buffers, sends what it is told to. */
struct server {
    struct sim_rig *r;
    struct io_accept accept;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov[3];
    struct io_buffer *held[8];
    uint32_t held_count, hold;
    int fd, accept_result, recv_result, send_result;
    uint32_t accepts, sends;
    bool accept_ended, recv_ended;
    size_t received;
};

static void server_accepted(struct op *op)
{
    struct server *s = container_of(op, struct server, accept.op);
    if (op->result < 0) {
        cr_assert(!s->accept.more && !op->armed);
        s->accept_ended = true;
        s->accept_result = op->result;
        return;
    }
    s->fd = op->result;
    s->accepts++;
}

static void server_received(struct op *op)
{
    struct server *s = container_of(op, struct server, recv.op);
    if (op->result <= 0) {
        cr_assert(!s->recv.more && !op->armed);
        s->recv_ended = true;
        s->recv_result = op->result;
        return;
    }
    size_t size = (size_t)op->result;
    cr_assert_leq(s->received + size, STREAM);
    cr_assert_eq(memcmp(s->recv.data, pattern + s->received, size), 0);
    s->received += size;
    if (s->held_count < s->hold)
        s->held[s->held_count++] = s->recv.buffer;
    else
        io_buffer_release(s->r->io, s->recv.buffer);
}

static void server_sent(struct op *op)
{
    struct server *s = container_of(op, struct server, send.op);
    s->sends++;
    s->send_result = op->result;
}

static void server_listen(struct server *s, struct sim_rig *r)
{
    uint16_t port;
    struct io_address any = {.port = PORT};
    *s = (struct server){.r = r, .fd = -1};
    op_init(&s->accept.op, server_accepted);
    op_init(&s->recv.op, server_received);
    op_init(&s->send.op, server_sent);
    s->accept.listener = io_listen(r->io, &any, 16, &port);
    cr_assert(s->accept.listener >= 0 && port == PORT);
    io_accept(r->io, &s->accept);
}

static void woken(void *context)
{
    ++*(uint32_t *)context;
}

static struct sim_client *server_meet(struct server *s, uint32_t *wakes)
{
    struct sim_client *c = sim_client_connect(s->r->sim, s->r->machine, PORT, woken, wakes);
    SIM_UNTIL(s->r, s->accepts == 1 && sim_client_state(c) == SIM_CLIENT_OPEN);
    s->recv.fd = s->send.fd = s->fd;
    return c;
}

static void server_send(struct server *s, const uint8_t *bytes, size_t size)
{
    union {
        const uint8_t *from;
        uint8_t *to;
    } p = {.from = bytes};
    s->iov[0] = (struct iovec){p.to, size / 3};
    s->iov[1] = (struct iovec){NULL, 0};
    s->iov[2] = (struct iovec){p.to + size / 3, size - size / 3};
    s->send.iov = s->iov;
    s->send.iov_count = 3;
    io_send(s->r->io, &s->send);
}

/* Everything is closed in order. */
static void server_end(struct server *s)
{
    struct io *io = s->r->io;
    for (uint32_t i = 0; i < s->held_count; i++)
        io_buffer_release(io, s->held[i]);
    if (s->accept.op.armed) {
        io_cancel_accept(io, &s->accept);
        SIM_UNTIL(s->r, s->accept_ended);
        cr_assert_eq(s->accept_result, -ECANCELED);
    }
    if (s->recv.op.armed) {
        io_recv_stop(io, &s->recv);
        SIM_UNTIL(s->r, s->recv_ended);
    }
    if (s->fd >= 0)
        io_socket_close(io, s->fd);
    io_socket_close(io, s->accept.listener);
}

Test(sim_net, bytes_arrive_in_order_whatever_the_cuts_and_the_end_is_told_behind_them)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct server s;
        uint32_t wakes = 0;
        sim_rig_start(&r, seed);
        server_listen(&s, &r);
        struct sim_client *c = server_meet(&s, &wakes);
        io_recv_start(r.io, &s.recv);
        for (uint32_t at = 0; at < STREAM; at += 5000)
            sim_client_send(c, pattern + at, 5000);
        SIM_UNTIL(&r, s.received == STREAM);
        cr_assert(!s.recv_ended);
        sim_client_close(c);
        SIM_UNTIL(&r, s.recv_ended);
        cr_assert_eq(s.recv_result, 0);
        server_end(&s);
        sim_rig_stop(&r);
    }
}

Test(sim_net, a_send_is_whole_and_waits_for_room)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct server s;
        const uint8_t *got;
        uint32_t wakes = 0;
        sim_rig_start(&r, seed);
        sim_style(r.sim)->pipe_bytes = 4096;
        server_listen(&s, &r);
        struct sim_client *c = server_meet(&s, &wakes);
        server_send(&s, pattern, STREAM);
        cr_assert_eq(s.sends, 0);
        SIM_UNTIL(&r, sim_client_received(c, &got) == STREAM && s.sends == 1);
        cr_assert_eq(s.send_result, (int)STREAM);
        cr_assert_eq(memcmp(got, pattern, STREAM), 0);
        cr_assert_gt(sim_counted(r.sim, SIM_SENDS_WAITING), 0);
        cr_assert_gt(wakes, 1);
        io_shutdown(r.io, s.fd);
        SIM_UNTIL(&r, sim_client_state(c) == SIM_CLIENT_ENDED);
        sim_client_take(c, STREAM);
        sim_client_close(c);
        server_end(&s);
        sim_rig_stop(&r);
    }
}

Test(sim_net, a_receive_without_buffers_waits_until_one_is_back)
{
    struct sim_rig r;
    struct server s;
    uint32_t wakes = 0;
    sim_rig_start(&r, 3);
    uint32_t buffers = io_buffers_free(r.io);
    server_listen(&s, &r);
    struct sim_client *c = server_meet(&s, &wakes);
    s.hold = buffers;
    cr_assert_leq(buffers, 8);
    io_recv_start(r.io, &s.recv);
    size_t sent = 0;
    for (; s.held_count < buffers; sent += 10) {
        cr_assert_lt(sent, 5000);
        sim_client_send(c, pattern + sent, 10);
        uint32_t before = s.held_count;
        SIM_UNTIL(&r, s.held_count > before);
    }
    size_t received = s.received;
    sim_client_send(c, pattern + sent, 100);
    for (uint32_t i = 0; i < 50; i++)
        (void)io_poll(r.io, io_clock_ns(r.io) + 10 * NS_PER_MS, 16);
    cr_assert_eq(s.received, received);
    cr_assert_gt(sim_counted(r.sim, SIM_BUFFERS_OUT), 0);
    io_buffer_release(r.io, s.held[--s.held_count]);
    s.hold = 0;
    SIM_UNTIL(&r, s.received == sent + 100);
    cr_assert_eq(io_buffers_free(r.io), 1);
    sim_client_close(c);
    SIM_UNTIL(&r, s.recv_ended);
    server_end(&s);
    sim_rig_stop(&r);
}

Test(sim_net, a_stopped_receive_ends_once_and_may_be_started_again)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct server s;
        uint32_t wakes = 0;
        sim_rig_start(&r, seed);
        server_listen(&s, &r);
        struct sim_client *c = server_meet(&s, &wakes);
        for (uint32_t i = 0; i < 5; i++) {
            s.recv_ended = false;
            io_recv_start(r.io, &s.recv);
            sim_client_send(c, pattern + i * 1000, 1000);
            if (i % 2 == 0)
                (void)io_poll(r.io, io_clock_ns(r.io) + NS_PER_MS, 16);
            if (s.recv.op.armed)
                io_recv_stop(r.io, &s.recv);
            cr_assert(s.recv_ended == !s.recv.op.armed);
            SIM_UNTIL(&r, s.recv_ended);
            cr_assert_eq(s.recv_result, -ECANCELED);
        }
        s.recv_ended = false;
        io_recv_start(r.io, &s.recv);
        SIM_UNTIL(&r, s.received == 5000);
        sim_client_close(c);
        SIM_UNTIL(&r, s.recv_ended);
        server_end(&s);
        sim_rig_stop(&r);
    }
}

Test(sim_net, a_reset_is_told_to_both_ends)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct server s;
        uint32_t wakes = 0;
        sim_rig_start(&r, seed);
        server_listen(&s, &r);
        struct sim_client *c = server_meet(&s, &wakes);
        io_recv_start(r.io, &s.recv);
        sim_client_send(c, pattern, STREAM);
        (void)io_poll(r.io, io_clock_ns(r.io) + NS_PER_MS, 16);
        cr_assert(sim_net_reset(r.machine));
        SIM_UNTIL(&r, s.recv_ended && sim_client_state(c) == SIM_CLIENT_RESET);
        cr_assert_eq(s.recv_result, -ECONNRESET);
        server_send(&s, pattern, 100);
        SIM_UNTIL(&r, s.sends == 1);
        cr_assert_eq(s.send_result, -ECONNRESET);
        cr_assert(!sim_net_reset(r.machine));
        sim_client_close(c);
        server_end(&s);
        sim_rig_stop(&r);
    }
}

Test(sim_net, who_sends_to_a_closed_end_is_reset)
{
    struct sim_rig r;
    struct server s;
    uint32_t wakes = 0;
    sim_rig_start(&r, 1);
    server_listen(&s, &r);
    struct sim_client *c = server_meet(&s, &wakes);
    io_socket_close(r.io, s.fd);
    s.fd = -1;
    SIM_UNTIL(&r, sim_client_state(c) == SIM_CLIENT_ENDED);
    sim_client_send(c, pattern, 10);
    SIM_UNTIL(&r, sim_client_state(c) == SIM_CLIENT_RESET);
    sim_client_close(c);
    server_end(&s);
    sim_rig_stop(&r);
}

Test(sim_net, nobody_listening_is_a_refusal)
{
    struct sim_rig r;
    uint32_t wakes = 0;
    sim_rig_start(&r, 1);
    struct sim_client *c = sim_client_connect(r.sim, r.machine, PORT, woken, &wakes);
    SIM_UNTIL(&r, wakes > 0);
    cr_assert_eq(sim_client_state(c), SIM_CLIENT_REFUSED);
    sim_client_close(c);
    sim_rig_stop(&r);
}

Test(sim_net, descriptors_run_out_and_come_back)
{
    struct sim_rig r;
    struct server s;
    uint32_t wakes = 0;
    sim_rig_start(&r, 1);
    server_listen(&s, &r);
    sim_fds_limit(r.machine, 1);
    struct sim_client *c = sim_client_connect(r.sim, r.machine, PORT, woken, &wakes);
    SIM_UNTIL(&r, s.accept_ended);
    cr_assert_eq(s.accept_result, -EMFILE);
    cr_assert_eq(io_open(r.io, "/f", IO_WRITE | IO_CREATE), -EMFILE);
    sim_fds_limit(r.machine, 100);
    s.accept_ended = false;
    io_accept(r.io, &s.accept);
    SIM_UNTIL(&r, s.accepts == 1);
    sim_client_close(c);
    server_end(&s);
    sim_rig_stop(&r);
}

Test(sim_net, a_machine_without_power_falls_silent_and_its_peers_learn_of_it)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct server s;
        uint32_t wakes = 0;
        sim_rig_start(&r, seed);
        server_listen(&s, &r);
        struct sim_client *c = server_meet(&s, &wakes);
        io_recv_start(r.io, &s.recv);
        server_send(&s, pattern, STREAM);
        sim_client_send(c, pattern, STREAM);
        (void)io_poll(r.io, io_clock_ns(r.io) + NS_PER_MS, 16);
        sim_rig_cut(&r);
        cr_assert_eq(sim_fds_open(r.machine), 0);
        SIM_UNTIL(&r, sim_client_state(c) == SIM_CLIENT_RESET);
        sim_client_close(c);
        sim_rig_stop(&r);
    }
}

/* ---- connecting from a core ------------------------------------------------------------------ */

struct caller {
    struct io_connect connect;
    uint32_t done;
};

static void caller_done(struct op *op)
{
    container_of(op, struct caller, connect.op)->done++;
}

static void caller_start(struct caller *c, struct sim_rig *r, const char *host, uint16_t port)
{
    *c = (struct caller){0};
    op_init(&c->connect.op, caller_done);
    strncpy(c->connect.address.host, host, sizeof(c->connect.address.host) - 1);
    c->connect.address.port = port;
    io_connect(r->io, &c->connect);
}

Test(sim_net, a_core_connects_is_refused_or_cancels)
{
    struct sim_rig r;
    struct server s;
    struct caller c;
    sim_rig_start(&r, 1);
    server_listen(&s, &r);
    caller_start(&c, &r, "127.0.0.1", PORT);
    cr_assert_eq(c.done, 0);
    SIM_UNTIL(&r, c.done == 1 && s.accepts == 1);
    cr_assert_geq(c.connect.op.result, 0);
    cr_assert_str_eq(s.accept.peer.host, "127.0.0.1");
    io_socket_close(r.io, c.connect.op.result);
    static const struct {
        const char *host;
        uint16_t port;
        int result;
    } refused[] = {{"127.0.0.1", 1, -ECONNREFUSED},
                   {"10.9.9.9", PORT, -EHOSTUNREACH},
                   {"nobody", PORT, -EINVAL},
                   {"", PORT, -EINVAL}};
    for (uint32_t i = 0; i < 4; i++) {
        caller_start(&c, &r, refused[i].host, refused[i].port);
        SIM_UNTIL(&r, c.done == 1);
        cr_assert_eq(c.connect.op.result, refused[i].result);
    }
    caller_start(&c, &r, "127.0.0.1", PORT);
    io_cancel_connect(r.io, &c.connect);
    SIM_UNTIL(&r, c.done == 1);
    cr_assert_eq(c.connect.op.result, -ECANCELED);
    server_end(&s);
    sim_rig_stop(&r);
}
