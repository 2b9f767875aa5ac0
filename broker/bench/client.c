/* A client that asks one thing at a time. It is what the load's main thread uses: a request is
 * encoded into a frame of its own, sent, and the reactor polled until the answer is there.
 *
 *   bench_ask_begin ─▶ _room ─▶ (encode) ─▶ _wait ─▶ (decode) ─▶ _end          see BENCH_ASK
 *
 * Invariants:
 *  1. One request is under way at most; its answer has its correlation id.
 *  2. `why` is set once, by what went wrong first.
 *
 * Failure modes: a broker that does not answer for ANSWER_NS; one that does not serve a request
 * kind; answers that are not what the schema says. */
#include "broker/bench/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/gen/api_versions.h"
#include "proto/gen/header.h"

#define ARENA_LIMIT (1ull << 30)
#define ANSWER_NS   (60 * NS_PER_S)
#define POLL_BUDGET 256u
#define PORT_MAX    65535ul

bool bench_client_fail(struct bench_client *c, const char *format, ...)
{
    if (c->why[0] != '\0')
        return false;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(c->why, sizeof(c->why), format, arguments);
    va_end(arguments);
    return false;
}

bool bench_address_read(struct io_address *a, const char *text, char *why, size_t size)
{
    const char *colon = strrchr(text, ':'), *begin = text, *end = colon;
    char *rest = NULL;
    unsigned long port = colon == NULL ? 0 : strtoul(colon + 1, &rest, 10);
    if (colon != NULL && text[0] == '[' && colon > text && colon[-1] == ']') {
        begin++;
        end--;
    }
    if (port == 0 || port > PORT_MAX || *rest != '\0' || end == begin ||
        (size_t)(end - begin) >= sizeof(a->host)) {
        (void)snprintf(why, size, "'%.80s' is not HOST:PORT", text);
        return false;
    }
    *a = (struct io_address){.port = (uint16_t)port};
    memcpy(a->host, begin, (size_t)(end - begin));
    if (strcmp(a->host, "localhost") == 0)
        (void)snprintf(a->host, sizeof(a->host), "127.0.0.1");
    for (const char *at = a->host; *at != '\0'; at++) {
        if (strchr("0123456789abcdefABCDEF.:", *at) == NULL) {
            (void)snprintf(why, size, "'%.60s' is no numeric address (and not localhost)", a->host);
            return false;
        }
    }
    return true;
}

/* ---- the connection -------------------------------------------------------------------------- */

static struct bench_client *client_of(struct bench_link *k)
{
    return container_of(k, struct bench_client, link);
}

static void client_opened(struct bench_link *k)
{
    client_of(k)->opened = true;
}

static void client_answered(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct bench_client *c = client_of(k);
    const uint8_t *copy = c->answered ? NULL : arena_copy(&c->arena, data, size);
    if (copy == NULL) {
        bench_link_break(k, "an answer that nobody asked for, or too large", 0);
        return;
    }
    wire_reader_init(&c->reader, copy, size);
    c->answered = true;
}

static void client_broken(struct bench_link *k)
{
    struct bench_client *c = client_of(k);
    (void)bench_client_fail(c, "%s:%u: %s%s%s", c->address.host, c->address.port, k->what,
                            k->error == 0 ? "" : ": ", k->error == 0 ? "" : strerror(-k->error));
}

static bool client_wait(struct bench_client *c, const bool *done)
{
    uint64_t limit = io_clock_ns(c->io) + ANSWER_NS;
    while (!*done && c->why[0] == '\0') {
        (void)io_poll(c->io, limit, POLL_BUDGET);
        if (!*done && io_now_ns(c->io) >= limit)
            return bench_client_fail(c, "%s:%u does not answer", c->address.host, c->address.port);
    }
    return c->why[0] == '\0';
}

void bench_client_rest(struct bench_client *c, uint32_t ms)
{
    uint64_t until = io_clock_ns(c->io) + ms * NS_PER_MS;
    while (io_clock_ns(c->io) < until)
        (void)io_poll(c->io, until, POLL_BUDGET);
}

/* ---- asking ---------------------------------------------------------------------------------- */

bool bench_ask_begin(struct bench_client *c, int16_t key)
{
    if (c->why[0] != '\0')
        return false;
    c->key = key;
    c->version = c->versions[key];
    if (c->version < 0)
        return bench_client_fail(c, "%s:%u does not serve %s", c->address.host, c->address.port,
                                 api_find(key)->name);
    return true;
}

bool bench_ask_room(struct bench_client *c, uint64_t size)
{
    struct request_header header = {.request_api_key = c->key,
                                    .request_api_version = c->version,
                                    .correlation_id = ++c->correlation,
                                    .client_id = wire_string_of(BENCH_CLIENT_NAME)};
    int16_t header_version = api_request_header_version(c->key, c->version);
    uint64_t whole = sizeof(int32_t) + request_header_size(&header, header_version) + size;
    mem_free(c->mem, c->frame, c->frame_size);
    c->frame = whole > INT32_MAX ? NULL : mem_alloc(c->mem, whole);
    c->frame_size = c->frame == NULL ? 0 : whole;
    if (c->frame == NULL)
        return bench_client_fail(c, "no memory for a request");
    arena_release(&c->arena);
    wire_writer_init(&c->writer, c->frame, whole);
    wire_put_int32(&c->writer, (int32_t)(whole - sizeof(int32_t)));
    request_header_encode(&header, &c->writer, header_version);
    return true;
}

bool bench_ask_wait(struct bench_client *c)
{
    assert(wire_writer_ok(&c->writer) && c->writer.position == c->frame_size);
    c->answered = false;
    c->link.iov[0] = (struct iovec){c->frame, c->frame_size};
    bench_link_send(&c->link, 1);
    if (!client_wait(c, &c->answered))
        return false;
    while (bench_link_sending(&c->link)) /* answered, so it has left: only told late */
        (void)io_poll(c->io, 0, POLL_BUDGET);
    struct response_header header;
    int16_t header_version = api_response_header_version(c->key, c->version);
    if (response_header_decode(&header, &c->reader, header_version, &c->arena) != 0 ||
        header.correlation_id != c->correlation)
        return bench_client_fail(c, "an answer that is not to the request before it");
    return true;
}

bool bench_ask_end(struct bench_client *c, int decoded)
{
    if (decoded != 0)
        return bench_client_fail(c, "the answer to %s v%d cannot be read", api_find(c->key)->name,
                                 c->version);
    return true;
}

/* Version 0, which every broker answers. */
static bool client_learn_versions(struct bench_client *c)
{
    struct api_versions_request request;
    struct api_versions_response response;
    api_versions_request_init(&request);
    c->versions[API_API_VERSIONS] = 0;
    if (!BENCH_ASK(c, API_API_VERSIONS, api_versions, &request, &response))
        return false;
    for (int32_t i = 0; i < response.api_keys_count; i++) {
        const struct api_versions_response_api_version *v = &response.api_keys[i];
        const struct api_info *ours = api_find(v->api_key);
        if (ours != NULL && v->min_version <= ours->advertised_max &&
            v->max_version >= ours->version_min)
            c->versions[v->api_key] = MIN(v->max_version, ours->advertised_max);
    }
    return true;
}

bool bench_client_open(struct bench_client *c, struct io *io, struct mem *mem,
                       const struct io_address *address)
{
    *c = (struct bench_client){.io = io, .mem = mem, .address = *address};
    arena_init(&c->arena, mem, ARENA_LIMIT);
    for (size_t key = 0; key <= API_KEYS_MAX; key++)
        c->versions[key] = -1;
    if (!bench_link_init(&c->link, io, mem, 1))
        return bench_client_fail(c, "no memory");
    c->link.opened = client_opened;
    c->link.answer = client_answered;
    c->link.broken = client_broken;
    bench_link_open(&c->link, address);
    return client_wait(c, &c->opened) && client_learn_versions(c);
}

void bench_client_close(struct bench_client *c)
{
    if (c->io == NULL)
        return;
    bench_link_close(&c->link);
    while (!bench_link_over(&c->link))
        (void)io_poll(c->io, io_clock_ns(c->io) + NS_PER_S, POLL_BUDGET);
    bench_link_free(&c->link);
    mem_free(c->mem, c->frame, c->frame_size);
    arena_release(&c->arena);
    c->frame = NULL;
    c->frame_size = 0;
}
