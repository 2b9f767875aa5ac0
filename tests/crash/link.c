/* Frames over a socket that may be gone at any time, and the bytes they are made of.
 *
 * Failure modes: memory that is not there ends the program; everything else is a lost connection,
 * which the owner opens again. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE (256u << 10)
#define RETRY_NS  2000000ull

static void grow_to(uint8_t **data, size_t *capacity, size_t need)
{
    if (need <= *capacity)
        return;
    *capacity = need * 2;
    *data = load_grow(*data, *capacity);
}

/* ---- link ------------------------------------------------------------------------------------ */

void link_init(struct link *k)
{
    *k = (struct link){.fd = -1};
}

bool link_open(struct link *k, struct load *l)
{
    if (k->fd >= 0 || load_now_ns() < k->retry_ns)
        return false;
    k->retry_ns = load_now_ns() + RETRY_NS;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(l->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    /* Loopback connects or refuses at once. */
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    k->fd = fd;
    k->in_have = k->in_at = k->out_have = k->out_sent = 0;
    l->reconnects++;
    return true;
}

void link_close(struct link *k)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
    k->retry_ns = load_now_ns() + RETRY_NS;
}

void link_put(struct link *k, const void *data, size_t size)
{
    grow_to(&k->out, &k->out_capacity, k->out_have + size);
    memcpy(k->out + k->out_have, data, size);
    k->out_have += size;
}

bool link_write(struct link *k)
{
    while (k->out_sent < k->out_have) {
        ssize_t n = send(k->fd, k->out + k->out_sent, k->out_have - k->out_sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        k->out_sent += (size_t)n;
    }
    k->out_have = k->out_sent = 0;
    return true;
}

bool link_read(struct link *k)
{
    memmove(k->in, k->in + k->in_at, k->in_have - k->in_at);
    k->in_have -= k->in_at;
    k->in_at = 0;
    grow_to(&k->in, &k->in_capacity, k->in_have + READ_SIZE);
    ssize_t n = recv(k->fd, k->in + k->in_have, READ_SIZE, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    k->in_have += (size_t)n;
    return true;
}

const uint8_t *link_frame(struct link *k, uint32_t *size)
{
    struct view v = {k->in + k->in_at, k->in_have - k->in_at, 0, false};
    *size = (uint32_t)view_i32(&v);
    const uint8_t *frame = view_take(&v, *size);
    if (frame != NULL)
        k->in_at += 4 + (size_t)*size;
    return frame;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

void bytes_put(struct bytes *b, const void *data, size_t size)
{
    grow_to(&b->data, &b->capacity, b->size + size);
    if (size > 0)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void bytes_big(struct bytes *b, uint64_t v, uint32_t size)
{
    uint8_t raw[8];
    for (uint32_t i = 0; i < size; i++)
        raw[i] = (uint8_t)(v >> (8 * (size - 1 - i)));
    bytes_put(b, raw, size);
}

void bytes_i8(struct bytes *b, int8_t v)
{
    bytes_big(b, (uint64_t)v, 1);
}

void bytes_i16(struct bytes *b, int16_t v)
{
    bytes_big(b, (uint64_t)v, 2);
}

void bytes_i32(struct bytes *b, int32_t v)
{
    bytes_big(b, (uint64_t)v, 4);
}

void bytes_i64(struct bytes *b, int64_t v)
{
    bytes_big(b, (uint64_t)v, 8);
}

void bytes_string(struct bytes *b, const char *text)
{
    bytes_i16(b, text == NULL ? -1 : (int16_t)strlen(text));
    if (text != NULL)
        bytes_put(b, text, strlen(text));
}

void bytes_varint(struct bytes *b, int64_t v)
{
    uint64_t n = ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
    while (n > 127) {
        bytes_i8(b, (int8_t)(n | 128));
        n >>= 7;
    }
    bytes_i8(b, (int8_t)n);
}

void bytes_set_i32(struct bytes *b, size_t at, int32_t v)
{
    for (uint32_t i = 0; i < 4; i++)
        b->data[at + i] = (uint8_t)((uint32_t)v >> (24 - 8 * i));
}

void bytes_begin(struct bytes *b, int16_t api, int16_t version, int32_t correlation)
{
    b->size = 0;
    bytes_i32(b, 0);
    bytes_i16(b, api);
    bytes_i16(b, version);
    bytes_i32(b, correlation);
    bytes_string(b, "crash-load");
}

void bytes_end(struct bytes *b)
{
    bytes_set_i32(b, 0, (int32_t)b->size - 4);
}

/* ---- view ------------------------------------------------------------------------------------ */

const uint8_t *view_take(struct view *v, size_t size)
{
    if (v->bad || size > v->size - v->at) {
        v->bad = true;
        return NULL;
    }
    v->at += size;
    return v->data + v->at - size;
}

static uint64_t view_big(struct view *v, uint32_t size)
{
    const uint8_t *at = view_take(v, size);
    uint64_t n = 0;
    for (uint32_t i = 0; at != NULL && i < size; i++)
        n = n << 8 | at[i];
    return n;
}

int8_t view_i8(struct view *v)
{
    return (int8_t)view_big(v, 1);
}

int16_t view_i16(struct view *v)
{
    return (int16_t)view_big(v, 2);
}

int32_t view_i32(struct view *v)
{
    return (int32_t)view_big(v, 4);
}

int64_t view_i64(struct view *v)
{
    return (int64_t)view_big(v, 8);
}

int64_t view_varint(struct view *v)
{
    uint64_t n = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        uint64_t byte = view_big(v, 1);
        n |= (byte & 127) << shift;
        if (byte < 128)
            return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
    }
    v->bad = true;
    return 0;
}

void view_skip_string(struct view *v)
{
    int16_t size = view_i16(v);
    (void)view_take(v, size < 0 ? 0 : (size_t)size);
}
