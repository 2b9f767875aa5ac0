/* One connection to a broker, as bytes: requests leave whole, answers come whole.
 *
 *   bench_link_open ─▶ opened ─▶ bench_link_send ─▶ sent ─▶ ...
 *                                bench_link_ask ──▶ (the send before is over) ─▶ sent
 *   receive buffers ─▶ whole answers in place, others put together ─▶ answer
 *
 * Invariants:
 *  1. At most one send is under way; its pieces stay untouched till `sent`.
 *  2. An answer that lies in one receive buffer is not copied; one that does not is put together in
 *     `input`, whose size is what the answer said, at most BENCH_ANSWER_MAX.
 *  3. Of owners that ask, one request is under way; its answer has its correlation id.
 *  4. After `broken` no other callback runs but those of ops that were armed, and none of them
 *     reaches the owner.
 *
 * Failure modes: whatever fails breaks the link once, with what was being done and the errno. */
#include "broker/bench/link.h"

#include <errno.h>
#include <string.h>

#include "proto/gen/api.h"
#include "proto/gen/header.h"

#define LENGTH_SIZE  4u
#define FIRST_ANSWER (64u << 10)

void bench_link_break(struct bench_link *k, const char *what, int error)
{
    assert(what != NULL && error <= 0);
    if (k->failed)
        return;
    k->failed = true;
    k->what = what;
    k->error = error;
    if (k->fd >= 0)
        io_shutdown(k->io, k->fd);
    if (k->broken != NULL)
        k->broken(k);
}

/* Room for the answer being put together. */
static bool input_room(struct bench_link *k, uint32_t size)
{
    if (size <= k->input_capacity)
        return true;
    uint32_t wanted = MAX(size, FIRST_ANSWER);
    uint8_t *grown = mem_realloc(k->mem, k->input, k->input_capacity, wanted);
    if (grown == NULL)
        return false;
    k->input = grown;
    k->input_capacity = wanted;
    return true;
}

/* Bytes that the answer in `input` still needs to be whole, its length included. */
static uint32_t input_missing(const struct bench_link *k)
{
    if (k->input_size < LENGTH_SIZE)
        return LENGTH_SIZE - k->input_size;
    return wire_load32(k->input) + LENGTH_SIZE - k->input_size;
}

static bool length_good(struct bench_link *k, uint32_t length)
{
    if (length <= BENCH_ANSWER_MAX)
        return true;
    bench_link_break(k, "an answer is larger than any should be", 0);
    return false;
}

/* Adds to the answer in `input`; returns how many bytes were taken. */
static uint32_t input_add(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    uint32_t taken = 0;
    for (uint32_t part = 0; part < 2; part++) { /* the length, then the rest */
        uint32_t n = MIN(input_missing(k), size - taken);
        if (n == 0)
            break;
        if (!input_room(k, k->input_size + input_missing(k))) {
            bench_link_break(k, "no memory for an answer", -ENOMEM);
            return size;
        }
        memcpy(k->input + k->input_size, data + taken, n);
        k->input_size += n;
        taken += n;
        if (k->input_size == LENGTH_SIZE && !length_good(k, wire_load32(k->input)))
            return size;
    }
    if (k->input_size >= LENGTH_SIZE && input_missing(k) == 0) {
        uint32_t whole = k->input_size;
        k->input_size = 0;
        k->answer(k, k->input + LENGTH_SIZE, whole - LENGTH_SIZE);
    }
    return taken;
}

static void link_take(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    uint32_t at = 0;
    while (at < size && !k->failed) {
        uint32_t left = size - at;
        if (k->input_size == 0 && left >= LENGTH_SIZE) {
            uint32_t length = wire_load32(data + at);
            if (!length_good(k, length))
                return;
            if (left - LENGTH_SIZE >= length) {
                k->answer(k, data + at + LENGTH_SIZE, length);
                at += LENGTH_SIZE + length;
                continue;
            }
        }
        at += input_add(k, data + at, left);
    }
}

static void link_received(struct op *op)
{
    struct bench_link *k = container_of(op, struct bench_link, recv.op);
    if (op->result <= 0) {
        bench_link_break(k, op->result == 0 ? "the broker closed the connection" : "receive",
                         op->result);
        return;
    }
    link_take(k, k->recv.data, (uint32_t)op->result);
    io_buffer_release(k->io, k->recv.buffer);
}

/* ---- one request at a time ------------------------------------------------------------------- */

static void ask_put(struct bench_link *k, struct wire_writer *w, uint64_t size)
{
    struct request_header header = {.request_api_key = k->key,
                                    .request_api_version = k->version,
                                    .correlation_id = k->correlation,
                                    .client_id = wire_string_of(BENCH_CLIENT_NAME)};
    wire_put_int32(w, (int32_t)(size - LENGTH_SIZE));
    request_header_encode(&header, w, api_request_header_version(k->key, k->version));
    k->put(k, w);
}

static void ask_send(struct bench_link *k)
{
    struct wire_writer w = {0};
    k->waits = false;
    k->correlation++;
    ask_put(k, &w, LENGTH_SIZE);
    uint64_t size = w.position;
    if (size > k->frame_room) {
        uint8_t *grown = mem_realloc(k->mem, k->frame, k->frame_room, size);
        if (grown == NULL) {
            bench_link_break(k, "no memory for a request", -ENOMEM);
            return;
        }
        k->frame = grown;
        k->frame_room = size;
    }
    wire_writer_init(&w, k->frame, size);
    ask_put(k, &w, size);
    assert(wire_writer_ok(&w) && w.position == size);
    k->asked_ns = io_clock_ns(k->io);
    k->iov[0] = (struct iovec){k->frame, size};
    bench_link_send(k, 1);
}

void bench_link_ask(struct bench_link *k, int16_t key, int16_t version,
                    void (*put)(struct bench_link *k, struct wire_writer *w))
{
    assert(!k->asking && put != NULL);
    if (k->failed)
        return;
    k->asking = k->waits = true;
    k->key = key;
    k->version = version;
    k->put = put;
    if (!bench_link_sending(k))
        ask_send(k);
}

bool bench_link_answered(struct bench_link *k, const uint8_t *data, uint32_t size,
                         struct arena *arena, struct wire_reader *r)
{
    struct response_header header;
    wire_reader_init(r, data, size);
    bool good = k->asking && !k->waits &&
                response_header_decode(&header, r, api_response_header_version(k->key, k->version),
                                       arena) == 0 &&
                header.correlation_id == k->correlation;
    k->asking = false;
    if (!good)
        bench_link_break(k, "an answer that is not to what was asked", 0);
    return good;
}

static void link_sent(struct op *op)
{
    struct bench_link *k = container_of(op, struct bench_link, send.op);
    if (op->result < 0)
        bench_link_break(k, "send", op->result);
    else if (!k->failed && k->waits)
        ask_send(k);
    else if (!k->failed && k->sent != NULL)
        k->sent(k);
}

static void link_connected(struct op *op)
{
    struct bench_link *k = container_of(op, struct bench_link, connect.op);
    if (op->result < 0) {
        bench_link_break(k, "connect", op->result);
        return;
    }
    k->fd = op->result;
    k->recv.fd = k->send.fd = k->fd;
    if (k->failed)
        return;
    io_recv_start(k->io, &k->recv);
    k->opened(k);
}

bool bench_link_init(struct bench_link *k, struct io *io, struct mem *mem, uint32_t iov_max)
{
    assert(iov_max > 0);
    *k = (struct bench_link){.io = io, .mem = mem, .fd = -1, .iov_max = iov_max};
    op_init(&k->connect.op, link_connected);
    op_init(&k->recv.op, link_received);
    op_init(&k->send.op, link_sent);
    k->iov = mem_alloc(mem, iov_max * sizeof(*k->iov));
    return k->iov != NULL;
}

void bench_link_open(struct bench_link *k, const struct io_address *address)
{
    assert(k->fd < 0 && !k->connect.op.armed);
    assert(k->opened != NULL && k->answer != NULL);
    k->connect.address = *address;
    io_connect(k->io, &k->connect);
}

void bench_link_send(struct bench_link *k, uint32_t count)
{
    assert(!k->send.op.armed && !k->failed);
    assert(count > 0 && count <= k->iov_max);
    k->send.iov = k->iov;
    k->send.iov_count = count;
    io_send(k->io, &k->send);
}

void bench_link_close(struct bench_link *k)
{
    k->failed = true;
    if (k->connect.op.armed)
        io_cancel_connect(k->io, &k->connect);
    else if (k->fd >= 0)
        io_shutdown(k->io, k->fd);
}

bool bench_link_over(const struct bench_link *k)
{
    return !k->connect.op.armed && !k->recv.op.armed && !k->send.op.armed;
}

void bench_link_free(struct bench_link *k)
{
    assert(bench_link_over(k));
    if (k->fd >= 0)
        io_socket_close(k->io, k->fd);
    mem_free(k->mem, k->iov, k->iov_max * sizeof(*k->iov));
    mem_free(k->mem, k->input, k->input_capacity);
    mem_free(k->mem, k->frame, k->frame_room);
    k->fd = -1;
}
