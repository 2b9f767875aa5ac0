/* `torc stat`: asks a broker of this machine where the time of its requests and cores goes. The
 * broker answers with a line of JSON and the same as a table; one of them is shown. See
 * broker/stat.h.
 *
 * Failure modes: no broker with that port here, or one that may not be asked: one complaint. */
#include <errno.h>
#include <stdio.h>
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
    return error == 0 && to->size == 0 ? -EBUSY : error;
}

static void show(struct cli *c, const struct text *t, bool json)
{
    size_t line = strcspn(t->data, "\n") + 1;
    size_t at = json ? 0 : MIN(line, t->size), end = json ? MIN(line, t->size) : t->size;
    for (; at < end; at += 2048) /* cli_print has room for a line */
        cli_print(c, "%.*s", (int)MIN(end - at, (size_t)2048), t->data + at);
}

int command_stat(struct cli *c)
{
    struct io_address broker;
    char why[160];
    const char *brokers = cli_value(c, "brokers");
    if (!bench_address_read(&broker, brokers == NULL ? "127.0.0.1:9092" : brokers, why,
                            sizeof(why)))
        return cli_misused(c, "%s", why);
    struct text text;
    if (cli_io(c) == NULL)
        return EXIT_FAILED;
    text_init(&text, &c->mem);
    int error = stat_ask(c, broker.port, &text);
    if (error == 0)
        show(c, &text, cli_count(c, "json") > 0);
    else
        cli_complain(c, "no broker of this user with port %u can be asked on this machine: %s",
                     broker.port, error == -EBUSY ? "it is busy" : strerror(-error));
    text_free(&text);
    return error == 0 ? EXIT_OK : EXIT_FAILED;
}
