/* The floor of this machine: what io.h costs before anything is built on it. Whatever the broker
 * takes on top of these figures is ours to answer for.
 *
 *   io_floor [DIRECTORY]      one line per figure; DIRECTORY is where the disk is measured
 *
 *   echo    core 1 ── 256 bytes ──▶ core 0 ──▶ back: round trips over loopback, 1 and 16 at a time
 *   bulk    core 1 sends 1 MiB at a time, core 0 receives and looks at nothing
 *   dsync   one durable write at a time, over blocks that have been written before
 *   wake    core 0 wakes core 1 out of its sleep: from before io_wake to after io_poll
 *   idle    CPU that a sleeping core uses
 *
 * Cores are pinned to CPUs 0 and 1. Figures are of one run; noise of shared machines is 10 to 20
 * per cent. */
#include "core/histogram.h"
#include "core/ring.h"
#include "io/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECTIONS_MAX 16u
#define MESSAGE_SIZE    256u
#define BULK_PART       65536u
#define BULK_PARTS      16u
#define SCENE_NS        (NS_PER_S / 2)
#define LIMIT_NS        (30 * NS_PER_S)
#define WAKES           1000u
#define RING_SLOTS      1024u /* all of them: the sleeper may be late */
#define WAKE_GAP_NS     (300 * NS_PER_US)
#define FILE_SIZE       (64ull << 20)
#define WRITE_MAX       65536u
#define IDLE_NS         (2 * NS_PER_S)
#define MEMORY          (32u << 20)
#define POLL_BUDGET     256u

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "io_floor:%d: %s\n", __LINE__, #condition);                            \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- two cores ------------------------------------------------------------------------------- */

struct scene;

struct actor {
    struct scene *scene;
    uint16_t index;
    void (*play)(struct actor *a);
    struct mem mem;
    struct io *io;
    uint64_t cpu_ns;
};

struct scene {
    struct io_world *world;
    struct mem mem;
    struct ring ring; /* from core 0 to core 1 */
    struct bell bell; /* of core 1 */
    struct actor actors[2];
    uint32_t connections_count;
    uint16_t port;
    uint64_t bytes;
    struct histogram histogram;
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void actor_run(void *argument)
{
    struct actor *a = argument;
    char why[256];
    core_enter((struct core_id){a->index});
    CHECK(mem_init(&a->mem, MEMORY) == 0);
    struct io_config config = {
        .world = a->scene->world, .core = {.index = a->index}, .mem = &a->mem};
    CHECK(io_start(&a->io, &config, why, sizeof(why)) == 0);
    uint64_t start = thread_cpu_ns();
    a->play(a);
    a->cpu_ns = thread_cpu_ns() - start;
    io_stop(a->io);
    mem_destroy(&a->mem);
    core_leave();
}

static void scene_run(struct scene *s, void (*play0)(struct actor *), void (*play1)(struct actor *))
{
    char why[256];
    if (io_world_start(&s->world, 2, why, sizeof(why)) != 0) {
        fprintf(stderr, "io_floor: %s\n", why);
        exit(1);
    }
    CHECK(mem_init(&s->mem, 1 << 20) == 0);
    CHECK(ring_init(&s->ring, &s->mem, RING_SLOTS) == 0);
    bell_awake(&s->bell);
    histogram_init(&s->histogram);
    struct io_thread *threads[2];
    for (uint16_t i = 0; i < 2; i++) {
        s->actors[i] = (struct actor){.scene = s, .index = i, .play = i == 0 ? play0 : play1};
        /* On a machine with one CPU they share it. */
        if (io_thread_start(&threads[i], actor_run, &s->actors[i], i, "floor") != 0)
            CHECK(io_thread_start(&threads[i], actor_run, &s->actors[i], -1, "floor") == 0);
    }
    for (uint16_t i = 0; i < 2; i++)
        io_thread_join(threads[i]);
    ring_destroy(&s->ring, &s->mem);
    mem_destroy(&s->mem);
    io_world_stop(s->world);
}

static void hand_over(struct actor *a, void *thing)
{
    CHECK(ring_push(&a->scene->ring, thing));
    (void)ring_publish(&a->scene->ring);
    if (bell_must_wake(&a->scene->bell))
        io_wake(a->io, (struct core_id){1});
}

static void *take_over(struct actor *a)
{
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    void *thing;
    while (ring_drain(&a->scene->ring, &thing, 1) == 0) {
        bell_sleep(&a->scene->bell);
        (void)io_poll(a->io, ring_pending(&a->scene->ring) ? 0 : limit, POLL_BUDGET);
        bell_awake(&a->scene->bell);
        CHECK(io_now_ns(a->io) < limit);
    }
    return thing;
}

/* ---- echo ------------------------------------------------------------------------------------ */

struct server;

struct server_end {
    struct server *server;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov;
    struct io_buffer *buffer;
};

struct server {
    struct actor *actor;
    struct io_accept accept;
    struct server_end ends[CONNECTIONS_MAX];
    uint32_t accepted, ended;
};

static void server_received(struct op *op)
{
    struct server_end *e = container_of(op, struct server_end, recv.op);
    if (op->result <= 0) {
        e->server->ended++;
        return;
    }
    CHECK(!e->send.op.armed); /* the client waits for its answer */
    e->buffer = e->recv.buffer;
    e->iov = (struct iovec){(void *)(uintptr_t)e->recv.data, (size_t)op->result};
    e->send.iov = &e->iov;
    e->send.iov_count = 1;
    io_send(e->server->actor->io, &e->send);
}

static void server_sent(struct op *op)
{
    struct server_end *e = container_of(op, struct server_end, send.op);
    CHECK(op->result > 0);
    io_buffer_release(e->server->actor->io, e->buffer);
}

static void server_accepted(struct op *op)
{
    struct server *s = container_of(op, struct server, accept.op);
    if (op->result < 0)
        return;
    CHECK(s->accepted < CONNECTIONS_MAX);
    struct server_end *e = &s->ends[s->accepted++];
    e->server = s;
    op_init(&e->recv.op, server_received);
    op_init(&e->send.op, server_sent);
    e->recv.fd = e->send.fd = op->result;
    io_recv_start(s->actor->io, &e->recv);
}

static void server_play(struct actor *a)
{
    struct server *s = calloc(1, sizeof(*s));
    CHECK(s != NULL);
    s->actor = a;
    struct io_address address = {.host = "127.0.0.1"};
    op_init(&s->accept.op, server_accepted);
    s->accept.listener = io_listen(a->io, &address, 64, &a->scene->port);
    CHECK(s->accept.listener >= 0);
    io_accept(a->io, &s->accept);
    hand_over(a, a);
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    while (s->ended < a->scene->connections_count) {
        (void)io_poll(a->io, limit, POLL_BUDGET);
        CHECK(io_now_ns(a->io) < limit);
    }
    for (uint32_t i = 0; i < s->accepted; i++)
        io_socket_close(a->io, s->ends[i].recv.fd);
    io_cancel_accept(a->io, &s->accept);
    while (s->accept.op.armed)
        (void)io_poll(a->io, limit, POLL_BUDGET);
    io_socket_close(a->io, s->accept.listener);
    free(s);
}

struct client_end {
    struct actor *actor;
    struct io_connect connect;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov;
    uint64_t sent_ns, end_ns;
    uint32_t missing; /* bytes of the answer */
    bool over;
    uint8_t message[MESSAGE_SIZE];
};

static void client_ask(struct client_end *e)
{
    e->sent_ns = io_clock_ns(e->actor->io);
    if (e->sent_ns >= e->end_ns) {
        io_shutdown(e->actor->io, e->recv.fd);
        return;
    }
    e->missing = MESSAGE_SIZE;
    e->iov = (struct iovec){e->message, MESSAGE_SIZE};
    e->send.iov = &e->iov;
    e->send.iov_count = 1;
    io_send(e->actor->io, &e->send);
}

static void client_try(struct client_end *e)
{
    if (e->missing == 0 && !e->send.op.armed)
        client_ask(e);
}

static void client_received(struct op *op)
{
    struct client_end *e = container_of(op, struct client_end, recv.op);
    if (op->result <= 0) {
        e->over = true;
        return;
    }
    CHECK((uint32_t)op->result <= e->missing);
    e->missing -= (uint32_t)op->result;
    io_buffer_release(e->actor->io, e->recv.buffer);
    if (e->missing > 0)
        return;
    histogram_record(&e->actor->scene->histogram, io_clock_ns(e->actor->io) - e->sent_ns);
    client_try(e);
}

static void client_sent(struct op *op)
{
    struct client_end *e = container_of(op, struct client_end, send.op);
    CHECK(op->result == (int32_t)MESSAGE_SIZE);
    client_try(e);
}

static void client_connected(struct op *op)
{
    struct client_end *e = container_of(op, struct client_end, connect.op);
    CHECK(op->result >= 0);
    e->recv.fd = e->send.fd = op->result;
    e->end_ns = io_clock_ns(e->actor->io) + SCENE_NS;
    io_recv_start(e->actor->io, &e->recv);
    client_ask(e);
}

static void client_play(struct actor *a)
{
    (void)take_over(a);
    uint32_t count = a->scene->connections_count, over = 0;
    struct client_end *ends = calloc(count, sizeof(*ends));
    CHECK(ends != NULL);
    for (uint32_t i = 0; i < count; i++) {
        struct client_end *e = &ends[i];
        e->actor = a;
        op_init(&e->connect.op, client_connected);
        op_init(&e->recv.op, client_received);
        op_init(&e->send.op, client_sent);
        e->connect.address = (struct io_address){.host = "127.0.0.1", .port = a->scene->port};
        io_connect(a->io, &e->connect);
    }
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    while (over < count) {
        (void)io_poll(a->io, limit, POLL_BUDGET);
        CHECK(io_now_ns(a->io) < limit);
        over = 0;
        for (uint32_t i = 0; i < count; i++)
            over += ends[i].over;
    }
    for (uint32_t i = 0; i < count; i++)
        io_socket_close(a->io, ends[i].recv.fd);
    free(ends);
}

static void echo_measure(struct scene *s, uint32_t connections)
{
    s->connections_count = connections;
    scene_run(s, server_play, client_play);
    const struct histogram *h = &s->histogram;
    printf("echo   connections=%-3u size=%u per_s=%-7.0f p50_us=%-7.1f p99_us=%-7.1f "
           "p999_us=%-7.1f server_cpu_us=%.2f\n",
           connections, MESSAGE_SIZE, (double)h->count * (double)NS_PER_S / (double)SCENE_NS,
           (double)histogram_quantile(h, 0.5) / 1e3, (double)histogram_quantile(h, 0.99) / 1e3,
           (double)histogram_quantile(h, 0.999) / 1e3,
           (double)s->actors[0].cpu_ns / 1e3 / (double)h->count);
}

/* ---- bulk ------------------------------------------------------------------------------------ */

struct sink {
    struct actor *actor;
    struct io_accept accept;
    struct io_recv recv;
    uint64_t bytes;
    bool over;
};

static void sink_received(struct op *op)
{
    struct sink *k = container_of(op, struct sink, recv.op);
    if (op->result <= 0) {
        k->over = true;
        return;
    }
    k->bytes += (uint32_t)op->result;
    io_buffer_release(k->actor->io, k->recv.buffer);
}

static void sink_accepted(struct op *op)
{
    struct sink *k = container_of(op, struct sink, accept.op);
    if (op->result < 0)
        return;
    op_init(&k->recv.op, sink_received);
    k->recv.fd = op->result;
    io_recv_start(k->actor->io, &k->recv);
}

static void sink_play(struct actor *a)
{
    struct sink k = {.actor = a};
    struct io_address address = {.host = "127.0.0.1"};
    op_init(&k.accept.op, sink_accepted);
    k.accept.listener = io_listen(a->io, &address, 64, &a->scene->port);
    CHECK(k.accept.listener >= 0);
    io_accept(a->io, &k.accept);
    hand_over(a, a);
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    while (!k.over) {
        (void)io_poll(a->io, limit, POLL_BUDGET);
        CHECK(io_now_ns(a->io) < limit);
    }
    a->scene->bytes = k.bytes;
    io_socket_close(a->io, k.recv.fd);
    io_cancel_accept(a->io, &k.accept);
    while (k.accept.op.armed)
        (void)io_poll(a->io, limit, POLL_BUDGET);
    io_socket_close(a->io, k.accept.listener);
}

struct source {
    struct actor *actor;
    struct io_connect connect;
    struct io_send send;
    struct iovec iov[BULK_PARTS];
    uint8_t *part;
    uint64_t end_ns;
    bool over;
};

static void source_pump(struct source *s)
{
    if (io_clock_ns(s->actor->io) >= s->end_ns) {
        s->over = true;
        return;
    }
    for (uint32_t i = 0; i < BULK_PARTS; i++)
        s->iov[i] = (struct iovec){s->part, BULK_PART};
    s->send.iov = s->iov;
    s->send.iov_count = BULK_PARTS;
    io_send(s->actor->io, &s->send);
}

static void source_sent(struct op *op)
{
    CHECK(op->result == (int32_t)(BULK_PARTS * BULK_PART));
    source_pump(container_of(op, struct source, send.op));
}

static void source_connected(struct op *op)
{
    struct source *s = container_of(op, struct source, connect.op);
    CHECK(op->result >= 0);
    s->send.fd = op->result;
    s->end_ns = io_clock_ns(s->actor->io) + SCENE_NS;
    source_pump(s);
}

static void source_play(struct actor *a)
{
    (void)take_over(a);
    struct source s = {.actor = a, .part = mem_zalloc(&a->mem, BULK_PART)};
    CHECK(s.part != NULL);
    op_init(&s.connect.op, source_connected);
    op_init(&s.send.op, source_sent);
    s.connect.address = (struct io_address){.host = "127.0.0.1", .port = a->scene->port};
    io_connect(a->io, &s.connect);
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    while (!s.over) {
        (void)io_poll(a->io, limit, POLL_BUDGET);
        CHECK(io_now_ns(a->io) < limit);
    }
    io_socket_close(a->io, s.send.fd);
    mem_free(&a->mem, s.part, BULK_PART);
}

static void bulk_measure(struct scene *s)
{
    scene_run(s, sink_play, source_play);
    double kib = (double)s->bytes / 1024;
    printf("bulk   gb_per_s=%.2f receive_cpu_ns_per_kib=%.0f send_cpu_ns_per_kib=%.0f\n",
           (double)s->bytes / ((double)SCENE_NS / (double)NS_PER_S) / 1e9,
           (double)s->actors[0].cpu_ns / kib, (double)s->actors[1].cpu_ns / kib);
}

/* ---- disk ------------------------------------------------------------------------------------ */

static const char *disk_directory;

static void disk_done(struct op *op)
{
    (void)op;
}

static int32_t disk_write(struct actor *a, int fd, void *bytes, uint32_t size, uint64_t offset)
{
    struct iovec iov = {bytes, size};
    struct io_rw w = {.fd = fd, .iov = &iov, .iov_count = 1, .offset = offset, .flags = IO_DSYNC};
    op_init(&w.op, disk_done);
    io_write(a->io, &w);
    uint64_t limit = io_clock_ns(a->io) + LIMIT_NS;
    while (w.op.armed) {
        (void)io_poll(a->io, limit, POLL_BUDGET);
        CHECK(io_now_ns(a->io) < limit);
    }
    return w.op.result;
}

static void disk_play(struct actor *a)
{
    char path[4096];
    struct io_probe probe;
    snprintf(path, sizeof(path), "%s/io_floor.tmp", disk_directory);
    CHECK(io_probe(a->io, disk_directory, &probe) == 0);
    uint32_t flags = IO_READ | IO_WRITE | IO_CREATE | IO_TRUNC;
    int fd = io_open(a->io, path, flags | (probe.direct ? IO_DIRECT : 0));
    CHECK(fd >= 0);
    uint8_t *bytes = mem_pages(&a->mem, WRITE_MAX);
    CHECK(bytes != NULL);
    memset(bytes, 0x5a, WRITE_MAX);
    for (uint64_t at = 0; at < FILE_SIZE; at += WRITE_MAX)
        CHECK(io_pwrite(a->io, fd, bytes, WRITE_MAX, at) == (int64_t)WRITE_MAX);
    CHECK(io_fdatasync(a->io, fd) == 0);
    for (uint32_t size = 4096; size <= WRITE_MAX; size *= 4) {
        struct histogram h;
        histogram_init(&h);
        uint64_t end = io_clock_ns(a->io) + SCENE_NS;
        for (uint64_t at = 0; io_now_ns(a->io) < end; at = (at + size) % FILE_SIZE) {
            uint64_t start = io_clock_ns(a->io);
            CHECK(disk_write(a, fd, bytes, size, at) == (int32_t)size);
            histogram_record(&h, io_clock_ns(a->io) - start);
        }
        printf("dsync  size=%-6u fs=%s direct=%d per_s=%-7.0f p50_us=%-7.1f p99_us=%-7.1f "
               "p999_us=%.1f\n",
               size, probe.filesystem, probe.direct,
               (double)h.count * (double)NS_PER_S / (double)SCENE_NS,
               (double)histogram_quantile(&h, 0.5) / 1e3,
               (double)histogram_quantile(&h, 0.99) / 1e3,
               (double)histogram_quantile(&h, 0.999) / 1e3);
    }
    io_close(a->io, fd);
    CHECK(io_unlink(a->io, path) == 0);
    mem_pages_free(&a->mem, bytes, WRITE_MAX);
}

static void nobody_play(struct actor *a)
{
    (void)a;
}

/* ---- wake ------------------------------------------------------------------------------------ */

static uint64_t wake_times[WAKES];

static void waker_play(struct actor *a)
{
    for (uint32_t i = 0; i < WAKES; i++) {
        uint64_t gap = io_clock_ns(a->io) + WAKE_GAP_NS;
        while (io_clock_ns(a->io) < gap)
            (void)io_poll(a->io, gap, POLL_BUDGET);
        wake_times[i] = io_clock_ns(a->io);
        hand_over(a, &wake_times[i]);
        (void)io_poll(a->io, 0, POLL_BUDGET);
    }
}

static void sleeper_play(struct actor *a)
{
    for (uint32_t i = 0; i < WAKES; i++) {
        const uint64_t *sent = take_over(a);
        histogram_record(&a->scene->histogram, io_now_ns(a->io) - *sent);
    }
}

/* ---- idle ------------------------------------------------------------------------------------ */

static void idle_play(struct actor *a)
{
    uint64_t until = io_clock_ns(a->io) + IDLE_NS;
    while (io_clock_ns(a->io) < until)
        (void)io_poll(a->io, until, POLL_BUDGET);
}

int main(int count, char **arguments)
{
    disk_directory = count > 1 ? arguments[1] : "/var/tmp";
    struct scene *s = calloc(1, sizeof(*s));
    CHECK(s != NULL);
    echo_measure(s, 1);
    echo_measure(s, 16);
    bulk_measure(s);
    scene_run(s, disk_play, nobody_play);
    scene_run(s, waker_play, sleeper_play);
    printf("wake   gap_us=%llu p50_us=%.1f p99_us=%.1f\n", WAKE_GAP_NS / NS_PER_US,
           (double)histogram_quantile(&s->histogram, 0.5) / 1e3,
           (double)histogram_quantile(&s->histogram, 0.99) / 1e3);
    scene_run(s, idle_play, idle_play);
    printf("idle   seconds=%llu cpu_ms=%.3f\n", IDLE_NS / NS_PER_S,
           (double)s->actors[1].cpu_ns / 1e6);
    free(s);
    return 0;
}
