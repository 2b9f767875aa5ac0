/* Streams between many pairs through too few buffers, while their receivers stop, start, hold and
 * release at random. Whatever the order of things: no byte is lost, doubled or swapped, and at the
 * end every buffer is back. The seed is in the name of the failing assertion. */
#include "tests/io/rig.h"

#include <stdlib.h>
#include <string.h>

#define PAIRS       24u
#define STREAM_SIZE (384u * 1024)
#define HOLD_MAX    2u
#define TURNS_MAX   200000u

struct chance {
    uint64_t state;
};

static uint32_t chance(struct chance *c, uint32_t below)
{
    c->state = c->state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(c->state >> 33) % below;
}

struct pair {
    struct rig *rig;
    struct chance *chance;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov[3];
    struct io_buffer *held[HOLD_MAX];
    uint32_t held_count, held_all_max;
    uint32_t *held_all;
    uint32_t sent, received, stops;
    bool ended;
};

static uint8_t pattern[STREAM_SIZE];

static void pair_send(struct pair *p)
{
    uint32_t count = 1 + chance(p->chance, 3);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = chance(p->chance, 20000);
        size = MIN(size, STREAM_SIZE - p->sent);
        p->iov[i] = (struct iovec){pattern + p->sent, size};
        p->sent += size;
    }
    p->send.iov = p->iov;
    p->send.iov_count = count;
    io_send(p->rig->io, &p->send);
}

static void pair_sent(struct op *op)
{
    struct pair *p = container_of(op, struct pair, send.op);
    cr_assert_geq(op->result, 0, "%d after %u", op->result, p->sent);
    if (p->sent < STREAM_SIZE)
        pair_send(p);
    else
        io_shutdown(p->rig->io, p->send.fd);
}

static void pair_received(struct op *op)
{
    struct pair *p = container_of(op, struct pair, recv.op);
    if (op->result <= 0) {
        cr_assert(op->result == 0 || op->result == -ECANCELED, "%d", op->result);
        cr_assert(!op->armed && !p->recv.more);
        p->ended = op->result == 0;
        p->stops += op->result != 0;
        return; /* the turn starts it again */
    }
    uint32_t size = (uint32_t)op->result;
    cr_assert_leq(p->received + size, STREAM_SIZE);
    cr_assert_eq(memcmp(p->recv.data, pattern + p->received, size), 0, "at %u", p->received);
    p->received += size;
    if (p->held_count < HOLD_MAX && *p->held_all < p->held_all_max && chance(p->chance, 3) == 0) {
        p->held[p->held_count++] = p->recv.buffer;
        (*p->held_all)++;
    } else {
        io_buffer_release(p->rig->io, p->recv.buffer);
    }
    if (chance(p->chance, 8) == 0)
        io_recv_stop(p->rig->io, &p->recv);
}

static void pair_turn(struct pair *p)
{
    if (p->held_count > 0 && chance(p->chance, 4) == 0) {
        io_buffer_release(p->rig->io, p->held[--p->held_count]);
        (*p->held_all)--;
    }
    if (p->ended)
        return;
    if (!p->recv.op.armed)
        io_recv_start(p->rig->io, &p->recv);
    else if (chance(p->chance, 50) == 0)
        io_recv_stop(p->rig->io, &p->recv);
}

static void pair_start(struct pair *p, struct rig *rig)
{
    p->rig = rig;
    rig_pair(rig, &p->send.fd, &p->recv.fd);
    op_init(&p->recv.op, pair_received);
    op_init(&p->send.op, pair_sent);
    pair_send(p);
}

static void torture(uint64_t seed, uint32_t without)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){
                        .without = without, .buffers_count = 4, .buffer_size = 4096 * 2});
    struct chance c = {seed};
    struct pair *pairs = calloc(PAIRS, sizeof(*pairs));
    uint32_t held = 0, over = 0, turns = 0, stops = 0;
    for (uint32_t i = 0; i < PAIRS; i++) {
        pairs[i].chance = &c;
        pairs[i].held_all = &held;
        pairs[i].held_all_max = 4;
        pair_start(&pairs[i], &rig);
    }
    while (over < PAIRS) {
        (void)io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 1 + chance(&c, 40));
        cr_assert_lt(++turns, TURNS_MAX, "seed %llu", (unsigned long long)seed);
        over = 0;
        for (uint32_t i = 0; i < PAIRS; i++) {
            pair_turn(&pairs[i]);
            over += pairs[i].ended && pairs[i].held_count == 0;
        }
    }
    for (uint32_t i = 0; i < PAIRS; i++) {
        cr_assert_eq(pairs[i].received, STREAM_SIZE, "seed %llu", (unsigned long long)seed);
        stops += pairs[i].stops;
        io_socket_close(rig.io, pairs[i].send.fd);
        io_socket_close(rig.io, pairs[i].recv.fd);
    }
    cr_assert_gt(stops, PAIRS); /* else nothing was tried */
    cr_assert_eq(io_buffers_free(rig.io), 4);
    cr_assert_eq(rig.io->inflight, rig.world->bell_fds[0] >= 0 ? 1 : 0); /* the bell's */
    free(pairs);
    rig_stop(&rig);
}

static void begin(void)
{
    struct chance c = {1};
    for (uint32_t i = 0; i < STREAM_SIZE; i++)
        pattern[i] = (uint8_t)chance(&c, 256);
}

TestSuite(torture, .init = begin);

Test(torture, streams_survive_stops_and_holds_in_any_order)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        torture(seed, 0);
}

Test(torture, streams_survive_without_multishot)
{
    for (uint64_t seed = 11; seed <= 12; seed++)
        torture(seed, WITHOUT_MULTISHOT);
}

Test(torture, streams_survive_on_a_plain_ring)
{
    for (uint64_t seed = 21; seed <= 22; seed++)
        torture(seed, WITHOUT_DEFER | WITHOUT_COOP | WITHOUT_MSG_RING);
}
