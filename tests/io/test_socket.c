/* Sockets: addresses, listening, accepting, connecting, sending. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int listen_on(struct rig *rig, const char *host, uint16_t port, uint16_t *bound)
{
    struct io_address a = {.port = port};
    strncpy(a.host, host, sizeof(a.host) - 1);
    return io_listen(rig->io, &a, 16, bound);
}

/* ---- listening ------------------------------------------------------------------------------- */

Test(socket, two_listeners_share_a_port_and_keep_it_when_asked_for_by_number)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint16_t port, again;
    int first = listen_on(&rig, "127.0.0.1", 0, &port);
    cr_assert_geq(first, 0);
    int second = listen_on(&rig, "127.0.0.1", port, &again);
    cr_assert_geq(second, 0);
    cr_assert_eq(port, again);
    cr_assert_neq(fcntl(first, F_GETFD) & FD_CLOEXEC, 0);
    io_socket_close(rig.io, first);
    io_socket_close(rig.io, second);
    rig_stop(&rig);
}

Test(socket, an_address_that_is_no_number_is_refused)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint16_t port;
    cr_assert_eq(listen_on(&rig, "localhost", 0, &port), -EINVAL);
    cr_assert_eq(listen_on(&rig, "1.2.3.4.5", 0, &port), -EINVAL);
    struct io_address full;
    memset(&full, '1', sizeof(full)); /* no terminator */
    cr_assert_eq(io_listen(rig.io, &full, 16, &port), -EINVAL);
    cr_assert_eq(listen_on(&rig, "203.0.113.77", 0, &port), -EADDRNOTAVAIL);
    rig_stop(&rig);
}

Test(socket, a_port_that_somebody_else_has_is_refused)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int other = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    cr_assert_eq(bind(other, (struct sockaddr *)&a, size), 0);
    cr_assert_eq(listen(other, 1), 0);
    cr_assert_eq(getsockname(other, (struct sockaddr *)&a, &size), 0);
    uint16_t port;
    cr_assert_eq(listen_on(&rig, "127.0.0.1", ntohs(a.sin_port), &port), -EADDRINUSE);
    close(other);
    rig_stop(&rig);
}

#define FEW 64 /* descriptors */

/* ---- accepting ------------------------------------------------------------------------------- */

static void accept_many(uint32_t without)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){.without = without});
    struct rig_listener l;
    rig_listen(&l, &rig, "127.0.0.1");
    struct rig_connect c[50];
    for (uint32_t i = 0; i < 50; i++)
        rig_connect_start(&c[i], rig.io, "127.0.0.1", l.port);
    for (uint32_t i = 0; i < 50; i++)
        RIG_UNTIL(&rig, c[i].done.count == 1);
    RIG_UNTIL(&rig, l.count == 50);
    for (uint32_t i = 0; i < 50; i++) {
        int on = 0;
        socklen_t size = sizeof(on);
        cr_assert_eq(getsockopt(l.fds[i], IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
        cr_assert_neq(on, 0);
        cr_assert_neq(fcntl(l.fds[i], F_GETFD) & FD_CLOEXEC, 0);
        cr_assert_eq(getsockopt(c[i].done.result, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
        cr_assert_neq(on, 0);
        cr_assert_neq(fcntl(c[i].done.result, F_GETFD) & FD_CLOEXEC, 0);
        io_socket_close(rig.io, l.fds[i]);
        io_socket_close(rig.io, c[i].done.result);
    }
    cr_assert_str_eq(l.last_peer.host, "127.0.0.1");
    cr_assert_neq(l.last_peer.port, 0);
    rig_unlisten(&l, &rig);
    rig_stop(&rig);
}

Test(socket, accepts_many_without_delay_and_closed_on_exec)
{
    accept_many(0);
}

Test(socket, accepts_many_without_multishot)
{
    accept_many(WITHOUT_MULTISHOT);
}

Test(socket, all_addresses_take_both_families_and_name_peers_in_their_own)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct rig_listener l;
    rig_listen(&l, &rig, "");
    struct rig_connect c;
    rig_connect_start(&c, rig.io, "127.0.0.1", l.port);
    RIG_UNTIL(&rig, l.count == 1 && c.done.count == 1);
    cr_assert_str_eq(l.last_peer.host, "127.0.0.1");
    io_socket_close(rig.io, l.fds[0]);
    io_socket_close(rig.io, c.done.result);
    rig_connect_start(&c, rig.io, "::1", l.port);
    RIG_UNTIL(&rig, c.done.count == 1);
    if (c.done.result >= 0) { /* else this machine has no IPv6 */
        RIG_UNTIL(&rig, l.count == 2);
        cr_assert_str_eq(l.last_peer.host, "::1");
        io_socket_close(rig.io, l.fds[1]);
        io_socket_close(rig.io, c.done.result);
    }
    rig_unlisten(&l, &rig);
    rig_stop(&rig);
}

Test(socket, a_local_name_is_one_listener_s_and_lets_its_own_user_in)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char name[32];
    uint16_t port;
    snprintf(name, sizeof(name), "@torc-test-%d", (int)getpid());
    struct rig_listener l;
    rig_listen(&l, &rig, name);
    cr_assert_eq(listen_on(&rig, name, 0, &port), -EADDRINUSE);
    struct rig_connect c;
    rig_connect_start(&c, rig.io, name, 0);
    RIG_UNTIL(&rig, l.count == 1 && c.done.count == 1);
    cr_assert_geq(c.done.result, 0);
    io_socket_close(rig.io, l.fds[0]);
    io_socket_close(rig.io, c.done.result);
    rig_unlisten(&l, &rig);
    rig_connect_start(&c, rig.io, name, 0);
    RIG_UNTIL(&rig, c.done.count == 1);
    cr_assert_eq(c.done.result, -ECONNREFUSED, "the name goes with its listener");
    rig_stop(&rig);
}

Test(socket, a_local_name_lets_no_other_user_in)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int size = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "torc-other-%d", (int)getpid());
    char name[64];
    snprintf(name, sizeof(name), "@%.60s", a.sun_path + 1);
    struct rig_listener l;
    rig_listen(&l, &rig, name);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
        bool other = setuid(65534) == 0; /* only root can become somebody else */
        bool refused = connect(fd, (struct sockaddr *)&a, length) == 0 && read(fd, &byte, 1) == 0;
        _exit(!other || refused ? 0 : 1);
    }
    int status = -1;
    uint64_t limit = io_clock_ns(rig.io) + RIG_LIMIT_NS;
    while (waitpid(child, &status, WNOHANG) != child && l.count == 0) {
        cr_assert_lt(io_clock_ns(rig.io), limit);
        (void)io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS,
                      64); /* who is refused wakes nobody */
    }
    if (geteuid() == 0) {
        cr_assert_eq(l.count, 0);
        cr_assert_eq(status, 0);
    } else {
        for (uint32_t i = 0; i < l.count; i++)
            io_socket_close(rig.io, l.fds[i]);
        cr_assert_eq(waitpid(child, &status, 0), child);
    }
    rig_unlisten(&l, &rig);
    rig_stop(&rig);
}

Test(socket, accept_ends_when_descriptors_run_out_and_may_be_started_again)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = FEW;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rig_listener l;
    rig_listen(&l, &rig, "127.0.0.1");
    struct rig_connect c, late;
    rig_connect_start(&c, rig.io, "127.0.0.1", l.port);
    RIG_UNTIL(&rig, c.done.count == 1 && l.count == 1);
    rig_connect_start(&late, rig.io, "127.0.0.1", l.port); /* has its descriptor already */
    int others[FEW], count = 0, fd;
    while ((fd = dup(STDIN_FILENO)) >= 0)
        others[count++] = fd;
    RIG_UNTIL(&rig, l.ended);
    cr_assert_eq(l.result, -EMFILE);
    cr_assert_eq(l.count, 1);
    /* Still so, and it does not wait to say it. */
    l.ended = false;
    io_accept(rig.io, &l.accept);
    RIG_UNTIL(&rig, l.ended);
    cr_assert_eq(l.result, -EMFILE);
    while (count > 0)
        close(others[--count]);
    l.ended = false;
    io_accept(rig.io, &l.accept);
    RIG_UNTIL(&rig, l.count == 2 && late.done.count == 1);
    io_socket_close(rig.io, c.done.result);
    io_socket_close(rig.io, late.done.result);
    io_socket_close(rig.io, l.fds[0]);
    io_socket_close(rig.io, l.fds[1]);
    rig_unlisten(&l, &rig);
    rig_stop(&rig);
}

Test(socket, a_cancelled_accept_ends_once_and_may_be_started_again)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct rig_listener l;
    rig_listen(&l, &rig, "127.0.0.1");
    for (uint32_t i = 0; i < 3; i++) {
        io_cancel_accept(rig.io, &l.accept);
        io_cancel_accept(rig.io, &l.accept);
        cr_assert(!l.ended);
        RIG_UNTIL(&rig, l.ended);
        cr_assert_eq(l.result, -ECANCELED);
        l.ended = false;
        io_accept(rig.io, &l.accept);
        (void)io_poll(rig.io, 0, 64);
    }
    rig_unlisten(&l, &rig);
    cr_assert_eq(rig.io->inflight, 0);
    rig_stop(&rig);
}

/* ---- connecting ------------------------------------------------------------------------------ */

Test(socket, connecting_to_nobody_is_refused_and_leaks_no_descriptor)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint16_t port;
    int fd = listen_on(&rig, "127.0.0.1", 0, &port);
    io_socket_close(rig.io, fd);
    struct rig_connect c;
    rig_connect_start(&c, rig.io, "127.0.0.1", port);
    RIG_UNTIL(&rig, c.done.count == 1);
    cr_assert_eq(c.done.result, -ECONNREFUSED);
    rig_connect_start(&c, rig.io, "nobody", port);
    RIG_UNTIL(&rig, c.done.count == 1);
    cr_assert_eq(c.done.result, -EINVAL);
    rig_connect_start(&c, rig.io, "", port);
    RIG_UNTIL(&rig, c.done.count == 1);
    cr_assert_eq(c.done.result, -EINVAL);
    int next = open("/dev/null", O_RDONLY);
    cr_assert_eq(next, fd);
    close(next);
    rig_stop(&rig);
}

Test(socket, a_connect_that_gets_no_answer_can_be_cancelled)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    /* Nobody accepts, and the queue holds two: a later one hangs. */
    int other = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    cr_assert_eq(bind(other, (struct sockaddr *)&a, size), 0);
    cr_assert_eq(listen(other, 1), 0);
    cr_assert_eq(getsockname(other, (struct sockaddr *)&a, &size), 0);
    struct rig_connect c[4];
    for (uint32_t i = 0; i < 4; i++)
        rig_connect_start(&c[i], rig.io, "127.0.0.1", ntohs(a.sin_port));
    RIG_UNTIL(&rig, c[0].done.count == 1 && c[1].done.count == 1);
    cr_assert_eq(c[3].done.count, 0);
    io_cancel_connect(rig.io, &c[2].connect);
    io_cancel_connect(rig.io, &c[3].connect);
    RIG_UNTIL(&rig, c[2].done.count == 1 && c[3].done.count == 1);
    cr_assert_eq(c[2].done.result, -ECANCELED);
    cr_assert_eq(c[3].done.result, -ECANCELED);
    io_socket_close(rig.io, c[0].done.result);
    io_socket_close(rig.io, c[1].done.result);
    close(other);
    rig_stop(&rig);
}

/* ---- sending --------------------------------------------------------------------------------- */

#define LARGE (48u << 20)

Test(socket, a_large_send_in_thousands_of_parts_arrives_whole)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    uint8_t *sent = malloc(LARGE), *got = malloc(LARGE);
    for (uint32_t i = 0; i < LARGE; i++)
        sent[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    enum { PARTS = 3000 };
    struct iovec *iov = calloc(PARTS, sizeof(*iov));
    uint32_t at = 0;
    for (uint32_t i = 0; i < PARTS; i++) {
        uint32_t size = i + 1 == PARTS ? LARGE - at : i % 5 == 0 ? 0 : LARGE / PARTS + i % 7;
        iov[i] = (struct iovec){sent + at, size};
        at += size;
    }
    struct rig_end end;
    rig_end_start(&end, rig.io, server, got, LARGE);
    struct rig_send send;
    rig_send_start(&send, rig.io, client, iov, PARTS);
    RIG_UNTIL(&rig, send.done.count == 1 && end.used == LARGE);
    cr_assert_eq(send.done.result, (int32_t)LARGE);
    cr_assert_eq(memcmp(sent, got, LARGE), 0);
    io_shutdown(rig.io, client);
    RIG_UNTIL(&rig, end.ended);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    free(sent);
    free(got);
    free(iov);
    rig_stop(&rig);
}

Test(socket, a_send_of_nothing_is_done_with_zero_later)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    struct rig_send send;
    struct iovec iov[2] = {{NULL, 0}, {NULL, 0}};
    rig_send_start(&send, rig.io, client, iov, 2);
    RIG_UNTIL(&rig, send.done.count == 1);
    cr_assert_eq(send.done.result, 0);
    rig_send_start(&send, rig.io, client, iov, 0);
    RIG_UNTIL(&rig, send.done.count == 1);
    cr_assert_eq(send.done.result, 0);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    rig_stop(&rig);
}

Test(socket, a_send_to_a_closed_peer_fails_and_raises_no_signal)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    (void)signal(SIGPIPE, SIG_DFL); /* not by being ignored */
    int client, server;
    rig_pair(&rig, &client, &server);
    io_socket_close(rig.io, server);
    struct rig_send send = {0};
    static uint8_t bytes[65536];
    for (uint32_t i = 0; i < 10 && send.done.result >= 0; i++) {
        struct iovec iov = {bytes, sizeof(bytes)};
        rig_send_start(&send, rig.io, client, &iov, 1);
        RIG_UNTIL(&rig, send.done.count == 1);
    }
    cr_assert(send.done.result == -EPIPE || send.done.result == -ECONNRESET);
    io_socket_close(rig.io, client);
    rig_stop(&rig);
}

Test(socket, shutdown_ends_a_send_that_nobody_reads)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int client, server;
    rig_pair(&rig, &client, &server);
    uint8_t *bytes = calloc(1, LARGE);
    struct iovec iov = {bytes, LARGE};
    struct rig_send send;
    rig_send_start(&send, rig.io, client, &iov, 1);
    for (uint32_t i = 0; i < 3; i++)
        (void)io_poll(rig.io, io_clock_ns(rig.io) + NS_PER_MS, 64);
    cr_assert_eq(send.done.count, 0);
    io_shutdown(rig.io, client);
    RIG_UNTIL(&rig, send.done.count == 1);
    cr_assert_eq(send.done.result, -EPIPE);
    io_socket_close(rig.io, client);
    io_socket_close(rig.io, server);
    free(bytes);
    rig_stop(&rig);
}
