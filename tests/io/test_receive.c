/* Receiving: many connections, split frames, buffers that run out and come back, stopping. The
 * same promises are kept without multishot receives, so most tests run both ways. */
#include "tests/io/rig.h"

#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

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
