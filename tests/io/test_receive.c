/* Receiving: many connections, split frames, buffers that run out and come back, stopping. The
 * same promises are kept without multishot receives, so most tests run both ways. */
#include "tests/io/rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define ECHOES 200u
#define FRAME  1000u

/* An echo server's connection and its client, which sends one frame in pieces. */
struct echo {
    struct rig *rig;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov;
    uint8_t bytes[FRAME];
    uint32_t used; /* received, not yet sent back */
    bool ended;
};

static void echo_pump(struct echo *e)
{
    if (e->send.op.armed || e->used == 0)
        return;
    e->iov = (struct iovec){e->bytes, e->used};
    e->send.fd = e->recv.fd;
    e->send.iov = &e->iov;
    e->send.iov_count = 1;
    io_send(e->rig->io, &e->send);
}

static void echo_sent(struct op *op)
{
    struct echo *e = container_of(op, struct echo, send.op);
    cr_assert_gt(op->result, 0);
    uint32_t sent = (uint32_t)op->result;
    memmove(e->bytes, e->bytes + sent, e->used - sent);
    e->used -= sent;
    echo_pump(e);
}

static void echo_received(struct op *op)
{
    struct echo *e = container_of(op, struct echo, recv.op);
    if (op->result <= 0) {
        e->ended = true;
        return;
    }
    uint32_t size = (uint32_t)op->result;
    cr_assert_leq(e->used + size, FRAME);
    memcpy(e->bytes + e->used, e->recv.data, size);
    e->used += size;
    io_buffer_release(e->rig->io, e->recv.buffer);
    echo_pump(e);
}

static void echo_start(struct echo *e, struct rig *rig, int fd)
{
    e->rig = rig;
    op_init(&e->recv.op, echo_received);
    op_init(&e->send.op, echo_sent);
    e->recv.fd = fd;
    io_recv_start(rig->io, &e->recv);
}

static void echo_many(uint32_t without)
{
    struct rig rig;
    rig_start(&rig,
              (struct rig_options){.without = without, .buffers_count = 4, .buffer_size = 4096});
    struct rig_listener l;
    rig_listen(&l, &rig, "127.0.0.1");
    struct rig_connect *connects = calloc(ECHOES, sizeof(*connects));
    struct echo *echoes = calloc(ECHOES, sizeof(*echoes));
    struct rig_end *ends = calloc(ECHOES, sizeof(*ends));
    uint8_t *got = calloc(ECHOES, FRAME), *frame = calloc(ECHOES, FRAME);
    for (uint32_t i = 0; i < ECHOES; i++) {
        rig_connect_start(&connects[i], rig.io, "127.0.0.1", l.port);
        RIG_UNTIL(&rig, connects[i].done.count == 1 && l.count == i + 1);
        echo_start(&echoes[i], &rig, l.fds[i]);
        rig_end_start(&ends[i], rig.io, connects[i].done.result, got + i * FRAME, FRAME);
        for (uint32_t j = 0; j < FRAME; j++)
            frame[i * FRAME + j] = (uint8_t)(i * 31 + j);
    }
    /* Ten pieces each, all connections at once. */
    for (uint32_t piece = 0; piece < 10; piece++) {
        struct rig_send sends[ECHOES];
        struct iovec iovs[ECHOES];
        for (uint32_t i = 0; i < ECHOES; i++) {
            iovs[i] = (struct iovec){frame + i * FRAME + piece * (FRAME / 10), FRAME / 10};
            rig_send_start(&sends[i], rig.io, connects[i].done.result, &iovs[i], 1);
        }
        for (uint32_t i = 0; i < ECHOES; i++)
            RIG_UNTIL(&rig, sends[i].done.count == 1);
    }
    for (uint32_t i = 0; i < ECHOES; i++)
        RIG_UNTIL(&rig, ends[i].used == FRAME);
    cr_assert_arr_eq(got, frame, ECHOES * FRAME);
    cr_assert_eq(io_buffers_free(rig.io), 4);
    for (uint32_t i = 0; i < ECHOES; i++)
        io_shutdown(rig.io, connects[i].done.result);
    for (uint32_t i = 0; i < ECHOES; i++) {
        RIG_UNTIL(&rig, ends[i].ended && echoes[i].ended);
        io_socket_close(rig.io, connects[i].done.result);
        io_socket_close(rig.io, l.fds[i]);
    }
    rig_unlisten(&l, &rig);
    free(connects);
    free(echoes);
    free(ends);
    free(got);
    free(frame);
    rig_stop(&rig);
}

Test(receive, many_connections_echo_frames_split_in_pieces_through_four_buffers)
{
    echo_many(0);
}

Test(receive, many_connections_echo_without_multishot)
{
    echo_many(WITHOUT_MULTISHOT);
}

Test(receive, many_connections_echo_without_deferred_task_work)
{
    echo_many(WITHOUT_DEFER);
}

Test(receive, many_connections_echo_on_a_plain_ring)
{
    echo_many(WITHOUT_DEFER | WITHOUT_COOP | WITHOUT_MSG_RING);
}

/* ---- buffers that run out -------------------------------------------------------------------- */

#define HELD_BUFFERS 4u
#define HELD_BYTES   (16u * 4096)

static void exhausted(uint32_t without)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){
                        .without = without, .buffers_count = HELD_BUFFERS, .buffer_size = 4096});
    int client, server;
    rig_pair(&rig, &client, &server);
    uint8_t *sent = malloc(HELD_BYTES), *got = malloc(HELD_BYTES);
    for (uint32_t i = 0; i < HELD_BYTES; i++)
        sent[i] = (uint8_t)(i * 13 + i / 4096);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, got, HELD_BYTES);
    end.hold = true;
    struct iovec iov = {sent, HELD_BYTES};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, io_buffers_free(rig.io) == 0);
    /* Nothing more comes, and nothing spins, while all are held. */
    size_t used = end.used;
    cr_assert_eq(end.held_count, HELD_BUFFERS);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_leq(io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 64), 1); /* the send */
    cr_assert_eq(end.used, used);
    cr_assert(!end.ended && end.recv.op.armed);
    /* One comes back, one more arrives; until all is there. */
    while (end.used < HELD_BYTES) {
        used = end.used;
        end.held_count--;
        io_buffer_release(rig.io, end.held[end.held_count]);
        RIG_UNTIL(&rig, end.used > used);
        cr_assert_leq(end.used - used, 4096);
    }
    RIG_UNTIL(&rig, send.done.count == 1);
    cr_assert_arr_eq(got, sent, HELD_BYTES);
    rig_end_release(&end);
    io_shutdown(rig.io, client);
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, 0);
    cr_assert_eq(io_buffers_free(rig.io), HELD_BUFFERS);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    free(sent);
    free(got);
    rig_stop(&rig);
}

Test(receive, waits_by_itself_when_buffers_run_out_and_goes_on_when_one_comes_back)
{
    exhausted(0);
}

Test(receive, waits_for_buffers_without_multishot_too)
{
    exhausted(WITHOUT_MULTISHOT);
}

Test(receive, starving_connections_are_served_in_turn)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.buffers_count = 1, .buffer_size = 4096});
    enum { CONNECTIONS = 20 };
    int clients[CONNECTIONS], servers[CONNECTIONS];
    struct rig_end ends[CONNECTIONS];
    struct rig_send sends[CONNECTIONS];
    struct iovec iovs[CONNECTIONS];
    static uint8_t bytes[3 * 4096];
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        rig_pair(&rig, &clients[i], &servers[i]);
        rig_end_start(&ends[i], rig.io, servers[i], NULL, 0);
        iovs[i] = (struct iovec){bytes, sizeof(bytes)};
        rig_send_start(&sends[i], rig.io, clients[i], &iovs[i], 1);
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        RIG_UNTIL(&rig, ends[i].used == sizeof(bytes));
        RIG_UNTIL(&rig, sends[i].done.count == 1);
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        io_shutdown(rig.io, clients[i]);
        RIG_UNTIL(&rig, ends[i].ended);
        io_socket_close(rig.io, clients[i]);
        io_socket_close(rig.io, servers[i]);
    }
    rig_stop(&rig);
}

Test(receive, a_retained_buffer_keeps_its_bytes_until_the_last_release)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.buffers_count = 1, .buffer_size = 4096});
    int client, server;
    rig_pair(&rig, &client, &server);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, NULL, 0);
    end.hold = true;
    char first[] = "first", second[] = "second";
    struct iovec iov = {first, 5};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, end.used == 5 && send.done.count == 1);
    struct io_buffer *b = end.held[0];
    io_buffer_retain(b);
    iov = (struct iovec){second, 6};
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, send.done.count == 1);
    io_buffer_release(rig.io, b);
    (void)io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 64);
    cr_assert_eq(end.used, 5);
    cr_assert_arr_eq(b->data, "first", 5);
    end.held_count = 0;
    io_buffer_release(rig.io, b);
    RIG_UNTIL(&rig, end.used == 11);
    cr_assert_arr_eq(end.recv.data, "second", 6);
    rig_end_release(&end);
    io_recv_stop(rig.io, &end.recv);
    RIG_UNTIL(&rig, end.ended);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(receive, memory_of_buffers_is_not_resident_before_data_comes)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.buffers_count = 16, .buffer_size = 65536});
    uint8_t *memory = rig.io->buffer_memory;
    unsigned char resident[16 * 16];
    cr_assert_eq(mincore(memory, 16 * 65536, resident), 0);
    uint32_t count = 0;
    for (uint32_t i = 0; i < sizeof(resident); i++)
        count += resident[i] & 1;
    cr_assert_leq(count, 2, "%u pages", count);
    rig_stop(&rig);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void stop_and_restart(uint32_t without)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.without = without});
    int client, server;
    rig_pair(&rig, &client, &server);
    char text[] = "later";
    uint8_t got[8];
    struct rig_end end;
    for (uint32_t i = 0; i < 3; i++) {
        rig_end_start(&end, rig.io, server, got, sizeof(got));
        if (i > 0)
            (void)io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 64); /* armed in the kernel */
        io_recv_stop(rig.io, &end.recv);
        io_recv_stop(rig.io, &end.recv); /* asking twice is asking once */
        cr_assert(!end.ended);
        RIG_UNTIL(&rig, end.ended);
        cr_assert_eq(end.result, -ECANCELED);
        cr_assert_eq(end.dones, 0);
    }
    struct iovec iov = {text, 5};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, send.done.count == 1);
    rig_end_start(&end, rig.io, server, got, sizeof(got));
    RIG_UNTIL(&rig, end.used == 5);
    cr_assert_arr_eq(got, "later", 5);
    io_recv_stop(rig.io, &end.recv);
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, -ECANCELED);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    cr_assert_eq(rig.io->inflight, 0);
    rig_stop(&rig);
}

Test(receive, stops_and_starts_again_without_losing_bytes)
{
    stop_and_restart(0);
}

Test(receive, stops_and_starts_again_without_multishot)
{
    stop_and_restart(WITHOUT_MULTISHOT);
}

Test(receive, stopping_while_data_waits_gives_data_first_or_not_but_always_one_end)
{
    struct rig rig;
    for (uint32_t i = 0; i < 2; i++) {
        rig_start(&rig, (struct rig_options){.without = i == 0 ? 0 : WITHOUT_MULTISHOT});
        int client, server;
        rig_pair(&rig, &client, &server);
        uint8_t got[8];
        char text[] = "now";
        struct iovec iov = {text, 3};
        struct rig_send send;
        rig_send_start(&send, rig.io, client, &iov, 1);
        RIG_UNTIL(&rig, send.done.count == 1);
        struct rig_end end;
        rig_end_start(&end, rig.io, server, got, sizeof(got));
        io_recv_stop(rig.io, &end.recv);
        RIG_UNTIL(&rig, end.ended);
        cr_assert_eq(end.result, -ECANCELED);
        cr_assert(end.used == 0 || end.used == 3);
        cr_assert_eq(io_poll(rig.io, 0, 64), 0);
        cr_assert_eq(rig.io->inflight, 0);
        io_socket_close(rig.io, client);
        io_socket_close(rig.io, server);
        rig_stop(&rig);
    }
}

Test(receive, stops_while_it_waits_for_a_buffer)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.buffers_count = 1, .buffer_size = 4096});
    int client, server;
    rig_pair(&rig, &client, &server);
    static uint8_t bytes[3 * 4096];
    struct iovec iov = {bytes, sizeof(bytes)};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, NULL, 0);
    end.hold = true;
    RIG_UNTIL(&rig, !list_empty(&end.recv.link));
    io_recv_stop(rig.io, &end.recv);
    cr_assert(!end.ended);
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, -ECANCELED);
    rig_end_release(&end);
    RIG_UNTIL(&rig, send.done.count == 1);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(receive, a_peer_that_closes_ends_it_with_zero_after_its_last_bytes)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    uint8_t got[8];
    char text[] = "bye";
    struct iovec iov = {text, 3};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    RIG_UNTIL(&rig, send.done.count == 1);
    io_socket_close(rig.io, client);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, got, sizeof(got));
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, 0);
    cr_assert_eq(end.used, 3);
    cr_assert_eq(io_buffers_free(rig.io), 16);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(receive, a_reset_ends_it_with_the_error)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, NULL, 0);
    (void)io_poll(rig.io, 0, 64);
    struct linger reset = {.l_onoff = 1};
    cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    io_socket_close(rig.io, client);
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, -ECONNRESET);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(receive, shutdown_ends_an_armed_receive)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    struct rig_end end;
    rig_end_start(&end, rig.io, server, NULL, 0);
    (void)io_poll(rig.io, 0, 64);
    io_shutdown(rig.io, server);
    RIG_UNTIL(&rig, end.ended);
    cr_assert_eq(end.result, 0);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(receive, releasing_a_buffer_twice_is_our_bug, .signal = SIGABRT)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    io_buffer_release(rig.io, &rig.io->buffers[0]);
}
