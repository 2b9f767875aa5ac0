/* What a load costs without any broker behind it: the same bytes over the same connections to a
 * server that looks at nothing, with the same reactor (io.h). A broker's figure cannot be better
 * than this one for long; what is between them is the broker's own.
 *
 *   bare [OPTION VALUE]...     JSON like that of `torc bench`, on stdout
 *
 *   client                              server
 *   N connections, a window each ─────▶ so many bytes: a request
 *                                         --durable DIR: it waits for a durable write that has
 *                                         the bytes of all that waited (a group commit, WRITES
 *                                         at once, acknowledged in order)
 *   latency, from when it was due ◀──── so many bytes: its answer, from memory
 *                                         --sendfile FILE: a thread per connection and sendfile
 *                                         from FILE, which the page cache has: Kafka's way
 *
 * CPU of the server is that of the process, the kernel's workers included, without the client's
 * thread.
 *
 * Invariants:
 *  1. Requests are answered in the order they came in, on each connection and over all.
 *  2. A durable write goes over blocks that were written before, as a write-ahead log's.
 *
 * Failure modes: each ends the program with a line. */
#include "broker/bench/report.h"
#include "core/core.h"
#include "io/io.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fcntl.h>
#include <pthread.h>

#define CONNECTIONS_MAX 4096u
#define WINDOW_MAX      64u
#define PARTS_MAX       16u /* of one send */
#define WRITES          3u  /* as the broker's write-ahead log has */
#define WRITE_MAX       (1u << 20)
#define PAGE            4096u
#define FILE_SIZE       (64ull << 20)
#define MEMORY          (512ull << 20)
#define POLL_BUDGET     256u
#define LIMIT_NS        (30 * NS_PER_S)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "bare:%d: %s\n", __LINE__, #condition);                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct options {
    uint32_t connections, window, request, answer, records, size;
    double rate, seconds, warmup;
    const char *durable, *sendfile;
    bool reads; /* the answers are what is counted */
};

struct actor {
    const struct options *o;
    struct mem mem;
    struct io *io;
    uint8_t *bytes; /* that are sent, received by nobody, and written */
};

static double cpu_s(int who)
{
    struct rusage r;
    CHECK(getrusage(who, &r) == 0);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void actor_start(struct actor *a, const struct options *o)
{
    static struct io_world *world[2];
    static uint32_t worlds;
    char why[256];
    core_enter((struct core_id){0});
    a->o = o;
    CHECK(mem_init(&a->mem, MEMORY) == 0);
    struct io_world **w = &world[__atomic_fetch_add(&worlds, 1, __ATOMIC_RELAXED)];
    CHECK(io_world_start(w, 1, why, sizeof(why)) == 0);
    struct io_config config = {.world = *w, .core = {0}, .mem = &a->mem, .recv_buffers_count = 256};
    CHECK(io_start(&a->io, &config, why, sizeof(why)) == 0);
    size_t size = (MAX(MAX(o->request, o->answer), WRITE_MAX) + PAGE - 1) / PAGE * PAGE;
    a->bytes = mem_pages(&a->mem, size);
    CHECK(a->bytes != NULL);
    memset(a->bytes, 0x5a, size);
}

/* ---- either end of a connection -------------------------------------------------------------- */

/* Messages of one size go out, as many as are owed; bytes come in, and are counted as messages. */
struct end {
    struct actor *actor;
    struct io_recv recv;
    struct io_send send;
    struct iovec iov[PARTS_MAX];
    uint32_t in_size, out_size, in_have, owed;
    void (*heard)(struct end *e); /* a whole message */
    void *owner;
    bool over;
    /* the client's: when each request that is not answered was due */
    uint64_t due_ns[WINDOW_MAX];
    uint32_t asked, answered;
};

static void end_flush(struct end *e)
{
    uint32_t count = MIN(e->owed, PARTS_MAX);
    if (count == 0 || e->send.op.armed || e->over)
        return;
    for (uint32_t i = 0; i < count; i++)
        e->iov[i] = (struct iovec){e->actor->bytes, e->out_size};
    e->owed -= count;
    e->send.iov = e->iov;
    e->send.iov_count = count;
    io_send(e->actor->io, &e->send);
}

static void end_sent(struct op *op)
{
    struct end *e = container_of(op, struct end, send.op);
    e->over |= op->result < 0;
    end_flush(e);
}

static void end_received(struct op *op)
{
    struct end *e = container_of(op, struct end, recv.op);
    if (op->result <= 0) {
        e->over = true;
        return;
    }
    io_buffer_release(e->actor->io, e->recv.buffer);
    e->in_have += (uint32_t)op->result;
    for (; e->in_have >= e->in_size; e->in_have -= e->in_size)
        e->heard(e);
}

static void end_begin(struct end *e, int fd)
{
    op_init(&e->recv.op, end_received);
    op_init(&e->send.op, end_sent);
    e->recv.fd = e->send.fd = fd;
    io_recv_start(e->actor->io, &e->recv);
}

/* ---- server ---------------------------------------------------------------------------------- */

struct server;

struct group { /* requests that one write makes durable */
    struct server *server;
    struct io_rw rw;
    struct iovec iov;
    uint64_t until; /* requests from the beginning, these included */
    uint64_t begun_ns;
    bool busy, done;
};

struct server {
    struct actor actor;
    struct io_accept accept;
    struct end *ends;
    struct end **waiting; /* ring of those that asked, in order */
    uint32_t room, accepted;
    uint64_t came, writing, acknowledged; /* requests from the beginning */
    struct group groups[WRITES];
    uint64_t at, writes, written, writing_ns;
    uint16_t port;
    int fd;
    bool stop; /* says the client, once; looked at between turns */
};

static void server_answer(struct server *s, struct end *e)
{
    (void)s;
    e->owed++;
    end_flush(e);
}

static void server_commit(struct server *s);

/* The groups that are done, from the oldest on. */
static void group_written(struct op *op)
{
    struct group *g = container_of(op, struct group, rw.op);
    struct server *s = g->server;
    CHECK(op->result > 0);
    s->writing_ns += io_clock_ns(s->actor.io) - g->begun_ns;
    g->done = true;
    for (bool more = true; more;) {
        more = false;
        struct group *oldest = NULL;
        for (uint32_t i = 0; i < WRITES; i++)
            if (s->groups[i].busy && (oldest == NULL || s->groups[i].until < oldest->until))
                oldest = &s->groups[i];
        if (oldest == NULL || !oldest->done)
            break;
        for (; s->acknowledged < oldest->until; s->acknowledged++)
            server_answer(s, s->waiting[s->acknowledged % s->room]);
        oldest->busy = oldest->done = false;
        more = true;
    }
    server_commit(s);
}

static void server_commit(struct server *s)
{
    for (uint32_t i = 0; i < WRITES && s->writing < s->came; i++) {
        struct group *g = &s->groups[i];
        if (g->busy)
            continue;
        uint64_t most = MAX(WRITE_MAX / MAX(s->actor.o->request, 1), 1u);
        uint64_t count = MIN(s->came - s->writing, most);
        uint64_t size = MIN((count * s->actor.o->request + PAGE - 1) / PAGE * PAGE, WRITE_MAX);
        s->at = s->at + size > FILE_SIZE ? 0 : s->at;
        g->iov = (struct iovec){s->actor.bytes, size};
        g->rw.fd = s->fd;
        g->rw.iov = &g->iov;
        g->rw.iov_count = 1;
        g->rw.flags = IO_DSYNC;
        g->rw.offset = s->at;
        s->at += size;
        s->writing += count;
        g->until = s->writing;
        g->busy = true;
        s->writes++;
        s->written += size;
        g->begun_ns = io_clock_ns(s->actor.io);
        io_write(s->actor.io, &g->rw);
    }
}

static void server_heard(struct end *e)
{
    struct server *s = e->owner;
    if (s->fd < 0) {
        server_answer(s, e);
        return;
    }
    s->waiting[s->came++ % s->room] = e;
}

static void server_accepted(struct op *op)
{
    struct server *s = container_of(op, struct server, accept.op);
    if (op->result < 0)
        return;
    CHECK(s->accepted < CONNECTIONS_MAX);
    struct end *e = &s->ends[s->accepted++];
    e->actor = &s->actor;
    e->owner = s;
    e->in_size = s->actor.o->request;
    e->out_size = s->actor.o->answer;
    e->heard = server_heard;
    end_begin(e, op->result);
}

static void server_file(struct server *s)
{
    char path[4096];
    struct io_probe probe;
    struct io *io = s->actor.io;
    s->fd = -1;
    if (s->actor.o->durable == NULL)
        return;
    CHECK(io_probe(io, s->actor.o->durable, &probe) == 0);
    (void)snprintf(path, sizeof(path), "%s/bare.tmp", s->actor.o->durable);
    s->fd = io_open(io, path, IO_WRITE | IO_CREATE | IO_TRUNC | (probe.direct ? IO_DIRECT : 0));
    CHECK(s->fd >= 0);
    CHECK(io_unlink(io, path) == 0);
    for (uint64_t at = 0; at < FILE_SIZE; at += WRITE_MAX)
        CHECK(io_pwrite(io, s->fd, s->actor.bytes, WRITE_MAX, at) == (int64_t)WRITE_MAX);
    CHECK(io_fdatasync(io, s->fd) == 0);
}

static void *server_run(void *argument)
{
    struct server *s = argument;
    struct io_address address = {.host = "127.0.0.1"};
    actor_start(&s->actor, s->actor.o);
    struct io *io = s->actor.io;
    s->room = s->actor.o->connections * s->actor.o->window;
    s->ends = calloc(CONNECTIONS_MAX, sizeof(*s->ends));
    s->waiting = calloc(s->room, sizeof(struct end *));
    CHECK(s->ends != NULL && s->waiting != NULL);
    for (uint32_t i = 0; i < WRITES; i++) {
        s->groups[i].server = s;
        op_init(&s->groups[i].rw.op, group_written);
    }
    server_file(s);
    uint16_t port;
    op_init(&s->accept.op, server_accepted);
    s->accept.listener = io_listen(io, &address, CONNECTIONS_MAX, &port);
    CHECK(s->accept.listener >= 0);
    io_accept(io, &s->accept);
    __atomic_store_n(&s->port, port, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        (void)io_poll(io, io_clock_ns(io) + 100 * NS_PER_MS, POLL_BUDGET);
        server_commit(s); /* all that came in a turn goes together */
    }
    io_stop(io);
    return NULL;
}

/* ---- server by sendfile ---------------------------------------------------------------------- */

struct blocking {
    const struct options *o;
    int fd, file;
};

static void *blocking_serve(void *argument)
{
    struct blocking *b = argument;
    uint8_t request[PAGE];
    CHECK(b->o->request <= sizeof(request));
    while (recv(b->fd, request, b->o->request, MSG_WAITALL) == (ssize_t)b->o->request) {
        off_t at = 0;
        while (at < (off_t)b->o->answer)
            if (sendfile(b->fd, b->file, &at, b->o->answer - (size_t)at) <= 0)
                return NULL;
    }
    return NULL;
}

static void *blocking_run(void *argument)
{
    struct server *s = argument;
    static struct blocking each[CONNECTIONS_MAX];
    pthread_t thread;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int file = open(s->actor.o->sendfile, O_RDONLY | O_CLOEXEC);
    CHECK(listener >= 0 && file >= 0 && lseek(file, 0, SEEK_END) >= (off_t)s->actor.o->answer);
    CHECK(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 128) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    __atomic_store_n(&s->port, ntohs(address.sin_port), __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < s->actor.o->connections; i++) {
        each[i] = (struct blocking){s->actor.o, accept(listener, NULL, NULL), file};
        CHECK(each[i].fd >= 0);
        CHECK(pthread_create(&thread, NULL, blocking_serve, &each[i]) == 0);
    }
    return NULL;
}

/* ---- client ---------------------------------------------------------------------------------- */

struct client {
    struct actor actor;
    struct end *ends;
    uint64_t begin_ns, window_ns, end_ns, due; /* due: requests of the timetable that have been */
    uint64_t counted, answered;
    struct histogram *latency;
};

static void client_ask(struct end *e, uint64_t due_ns)
{
    e->due_ns[e->asked++ % WINDOW_MAX] = due_ns;
    e->owed++;
    end_flush(e);
}

static void client_heard(struct end *e)
{
    struct client *c = e->owner;
    uint64_t now = io_clock_ns(c->actor.io), due = e->due_ns[e->answered++ % WINDOW_MAX];
    /* What was due within the window counts whenever it is answered: what the end cuts off would be
     * the slowest. A closed loop has no timetable, so its end is the window's. */
    bool counts = c->actor.o->rate > 0 ? due < c->end_ns : now < c->end_ns;
    c->answered++;
    if (due >= c->window_ns && counts) {
        histogram_record(c->latency, now - due);
        c->counted++;
    }
    if (c->actor.o->rate <= 0 && now < c->end_ns)
        client_ask(e, now);
}

/* The timetable: a request that finds its connection's window full leaves later, and so do those
 * behind it. */
static uint64_t client_due(struct client *c, uint64_t now)
{
    const struct options *o = c->actor.o;
    for (;; c->due++) {
        uint64_t next = c->begin_ns + (uint64_t)((double)c->due * 1e9 / o->rate);
        struct end *e = &c->ends[c->due % o->connections];
        if (next >= c->end_ns || e->asked - e->answered >= o->window)
            return UINT64_MAX;
        if (next > now)
            return next;
        client_ask(e, next);
    }
}

struct dial {
    struct io_connect connect;
    bool done;
};

static void dialled(struct op *op)
{
    CHECK(op->result >= 0);
    container_of(op, struct dial, connect.op)->done = true;
}

static void client_connect(struct client *c, uint16_t port)
{
    const struct options *o = c->actor.o;
    struct io *io = c->actor.io;
    struct dial *dials = calloc(o->connections, sizeof(*dials));
    c->ends = calloc(o->connections, sizeof(*c->ends));
    CHECK(dials != NULL && c->ends != NULL);
    for (uint32_t i = 0; i < o->connections; i++) {
        op_init(&dials[i].connect.op, dialled);
        dials[i].connect.address = (struct io_address){.host = "127.0.0.1", .port = port};
        io_connect(io, &dials[i].connect);
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        struct end *e = &c->ends[i];
        while (!dials[i].done)
            (void)io_poll(io, io_clock_ns(io) + NS_PER_S, POLL_BUDGET);
        e->actor = &c->actor;
        e->owner = c;
        e->in_size = o->answer;
        e->out_size = o->request;
        e->heard = client_heard;
        end_begin(e, dials[i].connect.op.result);
    }
    free(dials);
}

static void client_until(struct client *c, uint64_t until)
{
    struct io *io = c->actor.io;
    for (uint64_t now = io_clock_ns(io); now < until; now = io_clock_ns(io)) {
        uint64_t next = c->actor.o->rate > 0 ? client_due(c, now) : until;
        (void)io_poll(io, MIN(next, until), POLL_BUDGET);
    }
}

static void client_play(struct client *c, struct bench_result *r)
{
    const struct options *o = c->actor.o;
    c->latency = &r->counts.latency[LATENCY_RESPONSE];
    c->begin_ns = io_clock_ns(c->actor.io);
    c->window_ns = c->begin_ns + (uint64_t)(o->warmup * 1e9);
    c->end_ns = c->window_ns + (uint64_t)(o->seconds * 1e9);
    for (uint32_t i = 0; i < o->connections && o->rate <= 0; i++)
        for (uint32_t n = 0; n < o->window; n++)
            client_ask(&c->ends[i], c->begin_ns);
    client_until(c, c->window_ns);
    double own = cpu_s(RUSAGE_THREAD), all = cpu_s(RUSAGE_SELF);
    client_until(c, c->end_ns);
    own = cpu_s(RUSAGE_THREAD) - own;
    all = cpu_s(RUSAGE_SELF) - all;
    if (o->rate > 0) {
        uint64_t limit = c->end_ns + LIMIT_NS, all_due = 0;
        while (c->begin_ns + (uint64_t)((double)all_due * 1e9 / o->rate) < c->end_ns)
            all_due++;
        while (c->answered < all_due) {
            (void)client_due(c, io_clock_ns(c->actor.io));
            (void)io_poll(c->actor.io, limit, POLL_BUDGET);
            CHECK(io_clock_ns(c->actor.io) < limit);
        }
    }
    r->end.self = own;
    r->end.user = all - own;
    r->end.machine = all;
}

/* ---- words and result ------------------------------------------------------------------------ */

static void options_read(struct options *o, int count, char **words)
{
    CHECK(count % 2 == 1);
    for (int i = 1; i < count; i += 2) {
        const char *name = words[i], *value = words[i + 1];
        const struct {
            const char *name;
            uint32_t *number;
            double *real;
            const char **text;
        } known[] = {{"--connections", &o->connections, NULL, NULL},
                     {"--in-flight", &o->window, NULL, NULL},
                     {"--request", &o->request, NULL, NULL},
                     {"--answer", &o->answer, NULL, NULL},
                     {"--records", &o->records, NULL, NULL},
                     {"--size", &o->size, NULL, NULL},
                     {"--rate", NULL, &o->rate, NULL},
                     {"--seconds", NULL, &o->seconds, NULL},
                     {"--warmup", NULL, &o->warmup, NULL},
                     {"--durable", NULL, NULL, &o->durable},
                     {"--sendfile", NULL, NULL, &o->sendfile}};
        size_t k = 0, all = sizeof(known) / sizeof(known[0]);
        while (k < all && strcmp(known[k].name, name) != 0)
            k++;
        CHECK(k < all);
        if (known[k].number != NULL)
            *known[k].number = (uint32_t)strtoul(value, NULL, 10);
        else if (known[k].real != NULL)
            *known[k].real = strtod(value, NULL);
        else
            *known[k].text = value;
    }
    CHECK(o->connections > 0 && o->connections <= CONNECTIONS_MAX && o->window > 0);
    CHECK(o->window <= WINDOW_MAX && o->request > 0 && o->answer > 0 && o->seconds > 0);
    o->reads = o->answer > o->request;
}

static void result_fill(struct bench_result *r, const struct client *c)
{
    const struct options *o = c->actor.o;
    uint64_t records = c->counted * o->records, bytes = records * o->size;
    r->seconds = r->read_seconds = o->seconds;
    r->options = (struct bench_options){.kind = o->reads ? BENCH_CONSUME : BENCH_PRODUCE,
                                        .brokers = "(no broker)",
                                        .topic = "",
                                        .connections = o->connections,
                                        .consumers = o->connections,
                                        .in_flight = o->window,
                                        .records = o->records,
                                        .size = o->size,
                                        .rate = o->rate,
                                        .seconds = o->seconds,
                                        .warmup = o->warmup,
                                        .acks = BENCH_ACKS_ALL,
                                        .pid = getpid()};
    r->counts.requests = c->counted;
    *(o->reads ? &r->counts.read_records : &r->counts.records) = records;
    *(o->reads ? &r->counts.read_bytes : &r->counts.bytes) = bytes;
    *(o->reads ? &r->counts.fetches : &r->counts.batches) = c->counted;
}

int main(int count, char **words)
{
    struct options o = {.connections = 4, .window = 5, .request = 1100, .answer = 60};
    static struct server server;
    static struct client client;
    static struct bench_result result;
    struct text t;
    pthread_t thread;
    o.records = 1;
    o.size = 1024;
    o.seconds = 1;
    options_read(&o, count, words);
    server.actor.o = &o;
    CHECK(pthread_create(&thread, NULL, o.sendfile != NULL ? blocking_run : server_run, &server) ==
          0);
    while (__atomic_load_n(&server.port, __ATOMIC_ACQUIRE) == 0)
        (void)usleep(1000);
    actor_start(&client.actor, &o);
    client_connect(&client, server.port);
    client_play(&client, &result);
    __atomic_store_n(&server.stop, true, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    result_fill(&result, &client);
    text_init(&t, &client.actor.mem);
    text_json_open(&t, NULL, '{');
    report_json_result(&t, "result", &result);
    text_json_integer(&t, "writes", server.writes);
    text_json_integer(&t, "written_bytes", server.written);
    text_json_integer(&t, "writing_ns", server.writing_ns);
    text_json_close(&t, '}');
    CHECK(!t.failed);
    puts(t.data);
    return 0;
}
