/* The floor: what the machine does without any broker.
 *
 *   jitter     one thread pinned to each CPU, one after the other, looks at the clock without end:
 *              a gap is time that somebody else had
 *   timer      waits of a millisecond: how late they end
 *   loopback   a thread sends 100 bytes, this one sends them back
 *   device     4 KiB writes at depths 1 .. 32, with and without a sync in each
 *
 * Invariants:
 *  1. One thing is measured at a time.
 *  2. Writes go over blocks that were written before, so that no file grows: the fast case, which a
 *     write-ahead log has.
 *
 * Failure modes: a directory that cannot be written ends it; the file is removed in any case. */
#include "broker/bench/floor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

#define SCENE_NS     (200 * NS_PER_MS)
#define LIMIT_NS     (30 * NS_PER_S)
#define TIMER_NS     NS_PER_MS
#define TIMERS       200u
#define MESSAGE_SIZE 100u
#define FILE_SIZE    (32ull << 20)
#define PIECE_SIZE   (1u << 20)
#define WRITE_SIZE   4096u
#define DEPTH_MAX    32u
#define POLL_BUDGET  64u
#define STOLEN_NS    (10 * NS_PER_US) /* a longer gap is not ours */

/* ---- threads --------------------------------------------------------------------------------- */

struct floor_thread {
    struct io_world *world;
    struct io_address address;
    struct histogram *to;
    uint64_t end_ns;
    int error;
    void (*play)(struct floor_thread *t, struct io *io);
};

static void thread_run(void *argument)
{
    struct floor_thread *t = argument;
    struct mem mem;
    struct io *io;
    char why[256];
    core_enter((struct core_id){0});
    t->error = mem_init(&mem, 16ull << 20);
    if (t->error == 0) {
        struct io_config config = {.world = t->world, .core = {0}, .mem = &mem};
        t->error = io_start(&io, &config, why, sizeof(why));
        if (t->error == 0) {
            t->play(t, io);
            io_stop(io);
        }
        mem_destroy(&mem);
    }
    core_leave();
}

/* A core of a world is started once, so each thread has a world of its own. */
static int thread_begin(struct floor_thread *t, struct io_thread **thread, int cpu)
{
    char why[256];
    int error = io_world_start(&t->world, 1, why, sizeof(why));
    if (error != 0)
        return error;
    error = io_thread_start(thread, thread_run, t, cpu, "floor");
    if (error != 0 && cpu >= 0) /* not ours to pin to */
        error = io_thread_start(thread, thread_run, t, -1, "floor");
    if (error != 0)
        io_world_stop(t->world);
    return error;
}

static int thread_end(struct floor_thread *t, struct io_thread *thread)
{
    io_thread_join(thread);
    io_world_stop(t->world);
    return t->error;
}

static void jitter_play(struct floor_thread *t, struct io *io)
{
    uint64_t before = io_clock_ns(io), end = before + SCENE_NS;
    while (before < end) {
        uint64_t now = io_clock_ns(io);
        histogram_record(t->to, now - before);
        before = now;
    }
}

static int jitter_measure(struct floor *f)
{
    int error = 0;
    f->cpus_count = MIN(io_cpus_count(), FLOOR_CPUS_MAX);
    f->jitter_seconds = (double)SCENE_NS / (double)NS_PER_S;
    for (uint32_t i = 0; i < f->cpus_count && error == 0; i++) {
        struct floor_thread t = {.to = &f->jitter[i], .play = jitter_play};
        struct io_thread *thread;
        error = thread_begin(&t, &thread, (int)i);
        if (error == 0)
            error = thread_end(&t, thread);
    }
    return error;
}

/* ---- loopback -------------------------------------------------------------------------------- */

struct speaker { /* either end */
    struct io *io;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov;
    uint8_t message[MESSAGE_SIZE];
    struct histogram *to; /* of the one who asks */
    uint64_t sent_ns, end_ns;
    uint32_t missing;
    bool over;
};

static void speaker_say(struct speaker *s)
{
    s->iov = (struct iovec){s->message, MESSAGE_SIZE};
    s->send.iov = &s->iov;
    s->send.iov_count = 1;
    s->missing = MESSAGE_SIZE;
    s->sent_ns = io_clock_ns(s->io);
    io_send(s->io, &s->send);
}

/* Both what was said has left and the answer is here. */
static void speaker_turn(struct speaker *s)
{
    if (s->missing > 0 || s->send.op.armed || s->over)
        return;
    if (s->to != NULL && io_clock_ns(s->io) >= s->end_ns)
        io_shutdown(s->io, s->recv.fd);
    else
        speaker_say(s);
}

static void speaker_heard(struct op *op)
{
    struct speaker *s = container_of(op, struct speaker, recv.op);
    if (op->result <= 0) {
        s->over = true;
        return;
    }
    s->missing -= MIN(s->missing, (uint32_t)op->result);
    io_buffer_release(s->io, s->recv.buffer);
    if (s->missing == 0 && s->to != NULL)
        histogram_record(s->to, io_clock_ns(s->io) - s->sent_ns);
    speaker_turn(s);
}

static void speaker_said(struct op *op)
{
    speaker_turn(container_of(op, struct speaker, send.op));
}

static void speaker_begin(struct speaker *s, int fd)
{
    op_init(&s->recv.op, speaker_heard);
    op_init(&s->send.op, speaker_said);
    s->recv.fd = s->send.fd = fd;
    s->missing = MESSAGE_SIZE;
    io_recv_start(s->io, &s->recv);
}

static void speaker_wait(struct speaker *s)
{
    uint64_t limit = io_clock_ns(s->io) + LIMIT_NS;
    while ((!s->over || s->send.op.armed) && io_clock_ns(s->io) < limit)
        (void)io_poll(s->io, limit, POLL_BUDGET);
    if (s->recv.fd > 0 && !s->recv.op.armed)
        io_socket_close(s->io, s->recv.fd);
}

struct dialling {
    struct io_connect connect;
    bool done;
};

static void dialled(struct op *op)
{
    container_of(op, struct dialling, connect.op)->done = true;
}

static void loopback_play(struct floor_thread *t, struct io *io)
{
    struct dialling d = {.done = false};
    op_init(&d.connect.op, dialled);
    d.connect.address = t->address;
    io_connect(io, &d.connect);
    while (!d.done)
        (void)io_poll(io, io_clock_ns(io) + NS_PER_S, POLL_BUDGET);
    t->error = MIN(d.connect.op.result, 0);
    if (t->error != 0)
        return;
    struct speaker s = {.io = io, .to = t->to, .end_ns = io_clock_ns(io) + SCENE_NS};
    speaker_begin(&s, d.connect.op.result);
    speaker_say(&s);
    speaker_wait(&s);
}

struct hearing {
    struct io_accept accept;
    struct speaker speaker;
    bool ended;
};

static void hearing_accepted(struct op *op)
{
    struct hearing *h = container_of(op, struct hearing, accept.op);
    if (op->result >= 0 && h->speaker.recv.fd == 0)
        speaker_begin(&h->speaker, op->result);
    h->ended = op->result < 0;
}

static int loopback_measure(struct floor *f, struct io *io)
{
    struct hearing h = {.speaker.io = io};
    struct floor_thread t = {
        .address = {.host = "127.0.0.1"}, .to = &f->loopback, .play = loopback_play};
    struct io_thread *thread;
    h.accept.listener = io_listen(io, &t.address, 1, &t.address.port);
    if (h.accept.listener < 0)
        return h.accept.listener;
    op_init(&h.accept.op, hearing_accepted);
    io_accept(io, &h.accept);
    int error = thread_begin(&t, &thread, -1);
    if (error == 0) {
        speaker_wait(&h.speaker);
        error = thread_end(&t, thread);
    }
    if (h.accept.op.armed)
        io_cancel_accept(io, &h.accept);
    while (h.accept.op.armed)
        (void)io_poll(io, io_clock_ns(io) + NS_PER_S, POLL_BUDGET);
    io_socket_close(io, h.accept.listener);
    return error;
}

/* ---- device ---------------------------------------------------------------------------------- */

struct device {
    struct io *io;
    int fd;
    uint8_t *bytes;
    uint32_t flags;
    uint64_t at, end_ns;
    struct histogram *to;
    int error;
};

struct writing {
    struct device *device;
    struct io_rw rw;
    struct iovec iov;
    uint64_t begun_ns;
};

static void writing_begin(struct writing *w)
{
    struct device *d = w->device;
    w->iov = (struct iovec){d->bytes, WRITE_SIZE};
    w->rw.fd = d->fd;
    w->rw.iov = &w->iov;
    w->rw.iov_count = 1;
    w->rw.flags = d->flags;
    w->rw.offset = d->at;
    d->at = (d->at + WRITE_SIZE) % FILE_SIZE;
    w->begun_ns = io_clock_ns(d->io);
    io_write(d->io, &w->rw);
}

static void writing_done(struct op *op)
{
    struct writing *w = container_of(op, struct writing, rw.op);
    struct device *d = w->device;
    uint64_t now = io_clock_ns(d->io);
    if (op->result < 0)
        d->error = op->result;
    histogram_record(d->to, now - w->begun_ns);
    if (d->error == 0 && now < d->end_ns)
        writing_begin(w);
}

static int depth_measure(struct device *d, uint32_t depth)
{
    struct writing writings[DEPTH_MAX];
    bool armed = true;
    d->end_ns = io_clock_ns(d->io) + SCENE_NS;
    for (uint32_t i = 0; i < depth; i++) {
        writings[i] = (struct writing){.device = d};
        op_init(&writings[i].rw.op, writing_done);
        writing_begin(&writings[i]);
    }
    while (armed) {
        (void)io_poll(d->io, io_clock_ns(d->io) + NS_PER_S, POLL_BUDGET);
        armed = false;
        for (uint32_t i = 0; i < depth; i++)
            armed |= writings[i].rw.op.armed;
    }
    return d->error;
}

static int device_depths(struct floor *f, struct device *d)
{
    int error = 0;
    for (uint32_t i = 0; i < FLOOR_DEPTHS && error == 0; i++) {
        struct floor_writes *w = &f->writes[i];
        w->depth = 1u << i;
        w->seconds = (double)SCENE_NS / (double)NS_PER_S;
        d->to = &w->plain;
        d->flags = 0;
        error = depth_measure(d, w->depth);
        d->to = &w->synced;
        d->flags = IO_DSYNC;
        if (error == 0)
            error = depth_measure(d, w->depth);
    }
    return error;
}

static int device_measure(struct floor *f, struct io *io, struct mem *mem, const char *directory)
{
    char path[4096];
    struct io_probe probe;
    struct device d = {.io = io};
    (void)snprintf(path, sizeof(path), "%s/torc-bench-floor.tmp", directory);
    int error = io_probe(io, directory, &probe);
    if (error != 0)
        return error;
    f->direct = probe.direct;
    (void)snprintf(f->filesystem, sizeof(f->filesystem), "%s", probe.filesystem);
    d.fd = io_open(io, path, IO_WRITE | IO_CREATE | IO_TRUNC | (probe.direct ? IO_DIRECT : 0));
    if (d.fd < 0)
        return d.fd;
    d.bytes = mem_pages(mem, PIECE_SIZE);
    error = d.bytes == NULL ? -ENOMEM : 0;
    if (error == 0)
        memset(d.bytes, 0x5a, PIECE_SIZE);
    for (uint64_t at = 0; at < FILE_SIZE && error == 0; at += PIECE_SIZE) {
        int64_t n = io_pwrite(io, d.fd, d.bytes, PIECE_SIZE, at);
        error = n < 0 ? (int)n : 0;
    }
    if (error == 0)
        error = io_fdatasync(io, d.fd);
    if (error == 0)
        error = device_depths(f, &d);
    io_close(io, d.fd);
    int removed = io_unlink(io, path);
    if (d.bytes != NULL)
        mem_pages_free(mem, d.bytes, PIECE_SIZE);
    return error != 0 ? error : removed;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void timer_measure(struct floor *f, struct io *io)
{
    for (uint32_t i = 0; i < TIMERS; i++) {
        uint64_t until = io_clock_ns(io) + TIMER_NS;
        while (io_clock_ns(io) < until)
            (void)io_poll(io, until, POLL_BUDGET);
        histogram_record(&f->timer, io_clock_ns(io) - until);
    }
}

int floor_measure(struct floor *f, struct io *io, struct mem *mem, const char *directory, char *why,
                  size_t why_size)
{
    memset(f, 0, sizeof(*f));
    int error = device_measure(f, io, mem, directory);
    if (error != 0) {
        (void)snprintf(why, why_size, "%s cannot be measured: %s", directory, strerror(-error));
        return error;
    }
    error = jitter_measure(f);
    if (error == 0)
        error = loopback_measure(f, io);
    if (error != 0)
        (void)snprintf(why, why_size, "the machine cannot be measured: %s", strerror(-error));
    else
        timer_measure(f, io);
    return error;
}

/* ---- showing --------------------------------------------------------------------------------- */

static void row(struct text *t, const char *name, const struct histogram *h, const char *more)
{
    char n[4][TEXT_NUMBER_SIZE];
    text_add(t, " %-25s %8s %8s %8s %8s  %s\n", name,
             text_duration(n[0], histogram_quantile(h, 0.5)),
             text_duration(n[1], histogram_quantile(h, 0.99)),
             text_duration(n[2], histogram_quantile(h, 0.999)), text_duration(n[3], h->max), more);
}

/* Of the time measured, the share in gaps too long to be ours. */
static double stolen(const struct histogram *h, double seconds)
{
    double ns = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (histogram_upper(i) >= STOLEN_NS && h->buckets[i] > 0)
            ns += (double)h->buckets[i] * (double)histogram_upper(i);
    return ns / 1e9 / seconds;
}

void floor_table(struct text *t, const struct floor *f)
{
    char name[64], more[64], number[TEXT_NUMBER_SIZE];
    text_add(t, "%-26s %8s %8s %8s %8s\n", "floor of this machine", "p50", "p99", "p99.9", "max");
    for (uint32_t i = 0; i < f->cpus_count; i++) {
        (void)snprintf(name, sizeof(name), "clock gaps, CPU %u", i);
        (void)snprintf(more, sizeof(more), "%.1f%% others'",
                       stolen(&f->jitter[i], f->jitter_seconds) * 100);
        row(t, name, &f->jitter[i], more);
    }
    row(t, "1 ms timer, late by", &f->timer, "");
    row(t, "loopback round trip", &f->loopback, "");
    for (uint32_t i = 0; i < 2 * FLOOR_DEPTHS; i++) {
        const struct floor_writes *w = &f->writes[i % FLOOR_DEPTHS];
        const struct histogram *h = i < FLOOR_DEPTHS ? &w->plain : &w->synced;
        (void)snprintf(name, sizeof(name), "4 KiB write%s, %u deep",
                       i < FLOOR_DEPTHS ? "" : "+sync", w->depth);
        (void)snprintf(more, sizeof(more), "%s/s",
                       text_decimal(number, (double)h->count / MAX(w->seconds, 1e-9)));
        row(t, name, h, more);
    }
    text_add(t, " (%s%s)\n\n", f->filesystem,
             f->direct ? ", O_DIRECT" : ", through the page cache");
}

static void json_row(struct text *t, const char *key, const struct histogram *h)
{
    text_json_open(t, key, '{');
    text_json_integer(t, "count", h->count);
    text_json_number(t, "p50_us", (double)histogram_quantile(h, 0.5) / 1e3);
    text_json_number(t, "p99_us", (double)histogram_quantile(h, 0.99) / 1e3);
    text_json_number(t, "p99.9_us", (double)histogram_quantile(h, 0.999) / 1e3);
    text_json_number(t, "max_us", (double)h->max / 1e3);
    text_json_close(t, '}');
}

void floor_json(struct text *t, const char *key, const struct floor *f)
{
    text_json_open(t, key, '{');
    text_json_open(t, "clock_gaps", '[');
    for (uint32_t i = 0; i < f->cpus_count; i++)
        json_row(t, NULL, &f->jitter[i]);
    text_json_close(t, ']');
    json_row(t, "timer", &f->timer);
    json_row(t, "loopback", &f->loopback);
    text_json_string(t, "filesystem", f->filesystem);
    text_json_boolean(t, "direct", f->direct);
    text_json_open(t, "writes", '[');
    for (uint32_t i = 0; i < FLOOR_DEPTHS; i++) {
        text_json_open(t, NULL, '{');
        text_json_integer(t, "depth", f->writes[i].depth);
        json_row(t, "plain", &f->writes[i].plain);
        json_row(t, "synced", &f->writes[i].synced);
        text_json_close(t, '}');
    }
    text_json_close(t, ']');
    text_json_close(t, '}');
}
