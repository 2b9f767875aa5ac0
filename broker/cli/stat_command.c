/* `torc stat`: asks a broker of this machine where the time of its requests and cores goes. The
 * broker answers with a line of JSON and the same as a table; one of them is shown. See
 * broker/stat.h.
 *
 * Failure modes: no broker with that port here, or one that may not be asked: one complaint. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/bench/client.h"
#include "broker/bench/text.h"
#include "broker/cli/command.h"
#include "broker/stat.h"

#define PATIENCE_NS (10 * NS_PER_S)
#define TRIES_MAX   20u
#define PAUSE_MS    50u
#define POLL_BUDGET 64u

struct asking {
    struct io *io;
    struct io_connect connect;
    struct io_recv recv;
    struct text text;
    bool over;
    int error;
};

static void received(struct op *op)
{
    struct asking *a = container_of(op, struct asking, recv.op);
    if (op->result > 0) {
        text_put(&a->text, (const char *)a->recv.data, (size_t)op->result);
        io_buffer_release(a->io, a->recv.buffer);
        return;
    }
    a->error = op->result;
    a->over = true;
}

static void connected(struct op *op)
{
    struct asking *a = container_of(op, struct asking, connect.op);
    if (op->result < 0) {
        a->error = op->result;
        a->over = true;
        return;
    }
    a->recv.fd = op->result;
    io_recv_start(a->io, &a->recv);
}

/* One try; the text is empty if the broker had somebody else to answer. */
static int ask(struct asking *a, uint16_t port)
{
    struct io *io = a->io;
    op_init(&a->connect.op, connected);
    op_init(&a->recv.op, received);
    a->connect.address = (struct io_address){.port = 0};
    (void)snprintf(a->connect.address.host, sizeof(a->connect.address.host), STAT_NAME, port);
    a->over = false;
    a->error = 0;
    a->recv.fd = -1;
    io_connect(io, &a->connect);
    uint64_t limit = io_clock_ns(io) + PATIENCE_NS;
    while (!a->over && io_clock_ns(io) < limit)
        (void)io_poll(io, limit, POLL_BUDGET);
    if (!a->over)
        return -ETIMEDOUT;
    if (a->recv.fd >= 0)
        io_socket_close(io, a->recv.fd);
    return a->error;
}

int stat_ask(struct cli *c, uint16_t port, struct text *to)
{
    /* What an op of the reactor may still point to lives as long as that. */
    struct asking *a = mem_zalloc(&c->mem, sizeof(*a));
    int error = a == NULL ? -ENOMEM : 0;
    if (a != NULL)
        *a = (struct asking){.io = c->io, .text = *to};
    for (uint32_t i = 0; i < TRIES_MAX && error == 0 && a->text.size == 0; i++) {
        uint64_t until = io_clock_ns(c->io) + (i > 0 ? PAUSE_MS * NS_PER_MS : 0);
        while (io_clock_ns(c->io) < until)
            (void)io_poll(c->io, until, POLL_BUDGET);
        error = ask(a, port);
    }
    if (a != NULL)
        *to = a->text;
    if (a != NULL && !a->connect.op.armed && !a->recv.op.armed)
        mem_free(&c->mem, a, sizeof(*a));
    return error == 0 && to->size == 0 ? -EBUSY : error;
}

/* The answer: a line of JSON, a table since the start, a form feed, a table of the last while. */
static void show(struct cli *c, const struct text *t, bool json, bool live)
{
    size_t line = MIN(strcspn(t->data, "\n") + 1, t->size), feed = strcspn(t->data, "\f");
    size_t at = json ? 0 : live ? MIN(feed + 1, t->size) : line;
    size_t end = json ? line : live ? t->size : feed;
    if (live && io_is_terminal(c->io, 1))
        cli_print(c, "\x1b[H\x1b[2J");
    for (; at < end; at += 2048) /* cli_print has room for a line */
        cli_print(c, "%.*s", (int)MIN(end - at, (size_t)2048), t->data + at);
    cli_flush(c);
}

/* Seconds between two looks. */
static bool watch_read(const char *text, double *seconds)
{
    char *end;
    *seconds = strtod(text, &end);
    return *end == 0 && end != text && *seconds >= 0.1 && *seconds <= 86400;
}

struct watch {
    struct op signals;
    bool interrupted;
};

static void interrupted(struct op *op)
{
    container_of(op, struct watch, signals)->interrupted = true;
}

/* Looks again and again until a signal comes (0) or the broker cannot be asked (-errno). The first
 * answer is what the next one counts from. */
static int watch(struct cli *c, uint16_t port, double seconds, bool json)
{
    struct watch *w = mem_zalloc(&c->mem, sizeof(*w));
    struct text text;
    int error = w == NULL ? -ENOMEM : 0;
    if (w != NULL) {
        op_init(&w->signals, interrupted);
        io_signals(c->io, &w->signals);
    }
    for (bool first = true; error == 0 && !w->interrupted; first = false) {
        text_init(&text, &c->mem);
        error = stat_ask(c, port, &text);
        if (error == 0 && (json || !first) && !w->interrupted)
            show(c, &text, json, !json);
        text_free(&text);
        uint64_t until = io_clock_ns(c->io) + (uint64_t)(seconds * (double)NS_PER_S);
        while (error == 0 && !w->interrupted && io_clock_ns(c->io) < until)
            (void)io_poll(c->io, until, POLL_BUDGET);
    }
    return error;
}

static int look(struct cli *c, uint16_t port, bool json)
{
    struct text text;
    text_init(&text, &c->mem);
    int error = stat_ask(c, port, &text);
    if (error == 0)
        show(c, &text, json, false);
    text_free(&text);
    return error;
}

int command_stat(struct cli *c)
{
    struct io_address broker;
    char why[160];
    const char *brokers = cli_value(c, "brokers"), *every = cli_value(c, "watch");
    bool json = cli_count(c, "json") > 0;
    double seconds = 0;
    if (!bench_address_read(&broker, brokers == NULL ? "127.0.0.1:9092" : brokers, why,
                            sizeof(why)))
        return cli_misused(c, "%s", why);
    if (every != NULL && !watch_read(every, &seconds))
        return cli_misused(c, "--watch %s: is no number of seconds from 0.1", every);
    if (cli_io(c) == NULL)
        return EXIT_FAILED;
    int error = every != NULL ? watch(c, broker.port, seconds, json) : look(c, broker.port, json);
    if (error != 0)
        cli_complain(c, "no broker of this user with port %u can be asked on this machine: %s",
                     broker.port, error == -EBUSY ? "it is busy" : strerror(-error));
    return error == 0 ? EXIT_OK : EXIT_FAILED;
}
