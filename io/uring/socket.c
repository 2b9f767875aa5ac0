/* Sockets: addresses, listening, accepting, connecting, sending.
 *
 *   io_listen ─▶ fd ─▶ io_accept ─▶ done(fd) done(fd) ... done(-errno)
 *   io_connect ─▶ done(fd or -errno)
 *   io_send ─▶ [send ─▶ short? the rest ─▶ ...] ─▶ done(all bytes or -errno)
 *
 *  1. Every core listens on the same port with SO_REUSEPORT; the kernel spreads connections.
 *  2. TCP_NODELAY is set on the listener, and accepted sockets inherit it: no call per accept.
 *  3. Sockets stay blocking: io_uring waits for readiness itself, and only then.
 *  4. One send per socket at a time, so MSG_WAITALL may continue short ones in the kernel; what
 *     still comes back short is continued here. The last part sent decides the result.
 *  5. All addresses is one IPv6 socket that also takes IPv4, where the machine has IPv6; peers
 *     that came by IPv4 are named in IPv4.
 *
 * Failures: an accept that fails because this one connection is already gone is not an end; one
 * that fails because the process has run out of something is, because the same answer would come
 * back at once. A peer that resets is -ECONNRESET or -EPIPE for sends (SIGPIPE never comes). */
#include "io/uring/uring_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define IOV_PER_CALL 1024u /* UIO_MAXIOV */
/* How long a port may be somebody else's before it counts as taken: one second. */
#define PORT_TRIES    500u
#define PORT_PAUSE_NS 2000000

/* ---- addresses ------------------------------------------------------------------------------- */

/* False: not a numeric address. */
static bool address_encode(const struct io_address *a, struct sockaddr_storage *to, socklen_t *size)
{
    memset(to, 0, sizeof(*to));
    struct sockaddr_in *v4 = (struct sockaddr_in *)to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
    struct sockaddr_un *local = (struct sockaddr_un *)to;
    if (memchr(a->host, 0, sizeof(a->host)) == NULL)
        return false;
    if (a->host[0] == '@' && a->host[1] != 0) { /* in the kernel's form the @ is a zero */
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path + 1, a->host + 1, strlen(a->host + 1));
        *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->host));
        return true;
    }
    if (inet_pton(AF_INET, a->host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        *size = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, a->host[0] != 0 ? a->host : "::", &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a->port);
    *size = sizeof(*v6);
    return true;
}

static void address_decode(const struct sockaddr_storage *from, struct io_address *a)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    memset(a, 0, sizeof(*a));
    if (from->ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &v4->sin_addr, a->host, sizeof(a->host));
        a->port = ntohs(v4->sin_port);
    } else if (from->ss_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            (void)inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], a->host, sizeof(a->host));
        else
            (void)inet_ntop(AF_INET6, &v6->sin6_addr, a->host, sizeof(a->host));
        a->port = ntohs(v6->sin6_port);
    }
}

/* ---- listening and accepting ----------------------------------------------------------------- */

static int listen_at(const struct sockaddr_storage *address, socklen_t size, uint32_t backlog)
{
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1, off = 0;
    bool local = address->ss_family == AF_UNIX; /* a name is one listener's alone */
    if ((local || (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                   setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
                   setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0)) &&
        (address->ss_family != AF_INET6 ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0) &&
        bind(fd, (const struct sockaddr *)address, size) == 0 &&
        listen(fd, (int)MIN(backlog, (uint32_t)INT32_MAX)) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

int io_listen(struct io *io, const struct io_address *address, uint32_t backlog,
              uint16_t *bound_port)
{
    assert(core_same(core_self(), io->core));
    assert(backlog > 0);
    struct sockaddr_storage to;
    socklen_t size;
    if (!address_encode(address, &to, &size))
        return -EINVAL;
    int fd = listen_at(&to, size, backlog);
    if (address->host[0] == 0 && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
        struct io_address v4 = {.host = "0.0.0.0", .port = address->port};
        bool encoded = address_encode(&v4, &to, &size);
        assert(encoded);
        fd = listen_at(&to, size, backlog);
    }
    if (fd < 0)
        return fd;
    size = sizeof(to);
    struct io_address bound;
    if (getsockname(fd, (struct sockaddr *)&to, &size) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    address_decode(&to, &bound);
    *bound_port = bound.port;
    return fd;
}

static int port_try(const struct sockaddr_storage *to, socklen_t size)
{
    int on = 1;
    int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (error == 0)
        error = bind(fd, (const struct sockaddr *)to, size);
    if (error != 0)
        error = -errno;
    close(fd);
    return error;
}

/* The kernel takes a killed process's rings apart after the process itself is gone, so whoever
 * starts it again at once meets its listeners for some milliseconds more (5 to 30 measured). */
int io_port_free(struct io *io, const struct io_address *address)
{
    assert(core_same(core_self(), io->core));
    struct sockaddr_storage to;
    socklen_t size;
    if (!address_encode(address, &to, &size))
        return -EINVAL;
    int error = port_try(&to, size);
    for (uint32_t i = 0; error == -EADDRINUSE && i < PORT_TRIES; i++) {
        struct timespec pause = {.tv_nsec = PORT_PAUSE_NS};
        (void)nanosleep(&pause, NULL);
        error = port_try(&to, size);
    }
    return error;
}

static void accept_arm(struct io *io, struct io_accept *a)
{
    assert(a->op.armed);
    struct io_uring_sqe *sqe = uring_sqe(io);
    if (io->multishot)
        io_uring_prep_multishot_accept(sqe, a->listener, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, a->listener, NULL, NULL, SOCK_CLOEXEC);
    uring_tag(io, sqe, &a->op, KIND_ACCEPT);
}

void io_accept(struct io *io, struct io_accept *a)
{
    assert(core_same(core_self(), io->core));
    assert(!a->op.armed && a->op.done != NULL);
    a->op.armed = true;
    a->more = true;
    a->stopping = false;
    accept_arm(io, a);
}

void io_cancel_accept(struct io *io, struct io_accept *a)
{
    assert(core_same(core_self(), io->core));
    assert(a->op.armed);
    if (!a->stopping)
        uring_cancel(io, &a->op, KIND_ACCEPT);
    a->stopping = true;
}

/* Errors of the one connection that was being accepted, not of accepting. */
static bool accept_error_passes(int32_t result)
{
    return result == -ECONNABORTED || result == -EINTR || result == -EAGAIN || result == -EPROTO ||
           result == -EPERM || result == -ENETDOWN || result == -EHOSTUNREACH ||
           result == -ENETUNREACH;
}

/* Of a local peer: is it root, or who we are? */
static bool peer_is_ours(int fd)
{
    struct ucred who;
    socklen_t size = sizeof(who);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

void uring_accept_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    struct io_accept *a = container_of(op, struct io_accept, op);
    assert(op->armed);
    bool ended = (flags & IORING_CQE_F_MORE) == 0;
    if (ended)
        io->inflight--;
    bool stopped = ended && a->stopping;
    if (result < 0) {
        assert(ended);
        if (!stopped && accept_error_passes(result)) {
            accept_arm(io, a);
            return;
        }
        a->more = false;
        uring_finish(op, stopped ? -ECANCELED : result);
        return;
    }
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof(peer);
    if (getpeername(result, (struct sockaddr *)&peer, &size) != 0)
        peer.ss_family = AF_UNSPEC; /* gone already: the next receive will say so */
    address_decode(&peer, &a->peer);
    if (ended && !stopped)
        accept_arm(io, a);
    if (peer.ss_family == AF_UNIX && !peer_is_ours(result)) {
        close(result);
    } else {
        op->result = result;
        op->done(op);
    }
    if (stopped) {
        a->more = false;
        uring_ready(io, op, -ECANCELED);
    }
}

/* ---- connecting ------------------------------------------------------------------------------ */

struct connect_state {
    struct sockaddr_storage address;
    socklen_t size;
    int fd;
};
_Static_assert(sizeof(struct connect_state) <= sizeof(((struct io_connect *)0)->internal),
               "io.h leaves room for it");

static struct connect_state *connect_state(struct io_connect *c)
{
    return (struct connect_state *)(void *)c->internal;
}

void io_connect(struct io *io, struct io_connect *c)
{
    assert(core_same(core_self(), io->core));
    assert(!c->op.armed && c->op.done != NULL);
    struct connect_state *s = connect_state(c);
    c->op.armed = true;
    s->fd = -1;
    if (c->address.host[0] == 0 || !address_encode(&c->address, &s->address, &s->size)) {
        uring_ready(io, &c->op, -EINVAL);
        return;
    }
    s->fd = socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        uring_ready(io, &c->op, -errno);
        return;
    }
    int on = 1;
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_connect(sqe, s->fd, (struct sockaddr *)&s->address, s->size);
    uring_tag(io, sqe, &c->op, KIND_CONNECT);
}

void io_cancel_connect(struct io *io, struct io_connect *c)
{
    assert(core_same(core_self(), io->core));
    uring_cancel(io, &c->op, KIND_CONNECT);
}

void uring_connect_drop(struct op *op)
{
    struct connect_state *s = connect_state(container_of(op, struct io_connect, op));
    assert(s->fd >= 0);
    close(s->fd);
    s->fd = -1;
}

void uring_connect_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    io->inflight--;
    struct connect_state *s = connect_state(container_of(op, struct io_connect, op));
    int fd = s->fd;
    if (result < 0)
        uring_connect_drop(op);
    uring_finish(op, result < 0 ? result : fd);
}

/* ---- sending --------------------------------------------------------------------------------- */

_Static_assert(sizeof(struct msghdr) <= sizeof(((struct io_send *)0)->internal),
               "io.h leaves room for it");

static void send_arm(struct io *io, struct io_send *s)
{
    assert(s->op.armed && s->iov_count > 0);
    const int flags = MSG_WAITALL | MSG_NOSIGNAL;
    struct io_uring_sqe *sqe = uring_sqe(io);
    if (s->iov_count == 1) {
        io_uring_prep_send(sqe, s->fd, s->iov->iov_base, s->iov->iov_len, flags);
    } else {
        struct msghdr *m = (struct msghdr *)(void *)s->internal;
        *m = (struct msghdr){.msg_iov = s->iov, .msg_iovlen = MIN(s->iov_count, IOV_PER_CALL)};
        io_uring_prep_sendmsg(sqe, s->fd, m, (unsigned)flags);
    }
    uring_tag(io, sqe, &s->op, KIND_SEND);
}

void io_send(struct io *io, struct io_send *s)
{
    assert(core_same(core_self(), io->core));
    assert(!s->op.armed && s->op.done != NULL);
    assert(uring_iov_size(s->iov, s->iov_count) <= INT32_MAX);
    s->op.armed = true;
    s->sent = 0;
    uring_iov_advance(&s->iov, &s->iov_count, 0);
    if (s->iov_count == 0)
        uring_ready(io, &s->op, 0);
    else
        send_arm(io, s);
}

void uring_send_settle(struct io *io, struct op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    io->inflight--;
    struct io_send *s = container_of(op, struct io_send, op);
    if (result <= 0) {
        uring_finish(op, result < 0 ? result : -EPIPE);
        return;
    }
    s->sent += (uint32_t)result;
    uring_iov_advance(&s->iov, &s->iov_count, (uint32_t)result);
    if (s->iov_count > 0)
        send_arm(io, s);
    else
        uring_finish(op, (int32_t)s->sent);
}

void io_shutdown(struct io *io, int fd)
{
    assert(core_same(core_self(), io->core));
    assert(fd >= 0);
    (void)shutdown(fd, SHUT_RDWR);
}

void io_socket_close(struct io *io, int fd)
{
    assert(core_same(core_self(), io->core));
    assert(fd >= 0);
    close(fd);
}
