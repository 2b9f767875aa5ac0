/* See client.h. Requests and answers go through the table of all messages (proto/gen/entries.h), so
 * that any request kind can be asked by its key. */
#include "perf/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/api_versions.h"
#include "proto/gen/entries.h"
#include "proto/gen/header.h"
#include "proto/gen/metadata.h"

#define MEMORY      (512ull << 20)
#define ANSWER_MAX  (256u << 20)
#define PATIENCE    600 /* looks, a tenth of a second apart */
#define PATIENCE_US 100000u
#define CLIENT_NAME "torc-perf"

void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)fputs("error: ", stderr);
    (void)vfprintf(stderr, format, list);
    (void)fputc('\n', stderr);
    va_end(list);
    exit(1);
}

int client_socket(const char *host, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("'%s' is no numeric IPv4 address", host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        die("%s:%u: %s", host, port, strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    return fd;
}

static void socket_write(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n <= 0)
            die("write: %s", strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

static void socket_read(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, data, size);
        if (n <= 0)
            die("%s", n == 0 ? "the broker closed the connection" : strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

static const struct proto_entry *entry_find(enum proto_kind kind, int16_t key)
{
    for (uint32_t i = 0; i < proto_entries_count; i++)
        if (proto_entries[i].kind == kind && proto_entries[i].key == key)
            return &proto_entries[i];
    die("no request kind has the key %d", key);
}

int16_t client_version(const struct client *c, int16_t key)
{
    assert(key >= 0 && key <= API_KEYS_MAX);
    if (c->versions[key] < 0)
        die("the broker does not serve %s", api_find(key)->name);
    return c->versions[key];
}

static void client_send(struct client *c, int16_t key, int16_t version, const void *request)
{
    const struct proto_entry *entry = entry_find(PROTO_REQUEST, key);
    struct request_header header = {.request_api_key = key,
                                    .request_api_version = version,
                                    .correlation_id = ++c->correlation,
                                    .client_id = wire_string_of(CLIENT_NAME)};
    int16_t header_version = api_request_header_version(key, version);
    uint64_t size =
        4 + request_header_size(&header, header_version) + entry->size(request, version);
    uint8_t *frame = malloc(size);
    if (frame == NULL)
        die("no memory for a request of %llu bytes", (unsigned long long)size);
    struct wire_writer w;
    wire_writer_init(&w, frame, size);
    wire_put_int32(&w, (int32_t)(size - 4));
    request_header_encode(&header, &w, header_version);
    entry->encode(request, &w, version);
    assert(wire_writer_ok(&w) && w.position == size);
    socket_write(c->fd, frame, size);
    free(frame);
}

static void client_receive(struct client *c, int16_t key, int16_t version, void *response)
{
    const struct proto_entry *entry = entry_find(PROTO_RESPONSE, key);
    uint8_t prefix[4];
    socket_read(c->fd, prefix, sizeof(prefix));
    uint32_t size = wire_load32(prefix);
    if (size > ANSWER_MAX)
        die("an answer of %u bytes", size);
    free(c->answer);
    c->answer = malloc(size + 1);
    if (c->answer == NULL)
        die("no memory for an answer of %u bytes", size);
    socket_read(c->fd, c->answer, size);
    arena_release(&c->arena);
    struct wire_reader r;
    struct response_header header;
    wire_reader_init(&r, c->answer, size);
    if (response_header_decode(&header, &r, api_response_header_version(key, version), &c->arena) !=
            0 ||
        header.correlation_id != c->correlation || entry->decode(response, &r, version, &c->arena))
        die("the answer to %s v%d cannot be read", api_find(key)->name, version);
}

void client_ask(struct client *c, int16_t key, const void *request, void *response)
{
    int16_t version = client_version(c, key);
    client_send(c, key, version, request);
    client_receive(c, key, version, response);
}

/* Version 0, which every broker answers. */
static void client_learn_versions(struct client *c)
{
    struct api_versions_request request;
    struct api_versions_response response;
    api_versions_request_init(&request);
    client_send(c, API_API_VERSIONS, 0, &request);
    client_receive(c, API_API_VERSIONS, 0, &response);
    for (int32_t i = 0; i < response.api_keys_count; i++) {
        const struct api_versions_response_api_version *v = &response.api_keys[i];
        const struct api_info *ours = api_find(v->api_key);
        if (ours != NULL && v->min_version <= ours->advertised_max &&
            v->max_version >= ours->version_min)
            c->versions[v->api_key] = MIN(v->max_version, ours->advertised_max);
    }
}

void client_init(struct client *c, const char *address)
{
    *c = (struct client){0};
    const char *colon = strrchr(address, ':');
    char *end;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (port == 0 || port > UINT16_MAX || *end != '\0' ||
        (size_t)(colon - address) >= sizeof(c->host))
        die("'%s' is not HOST:PORT", address);
    memcpy(c->host, address, (size_t)(colon - address));
    c->port = (uint16_t)port;
    if (mem_init(&c->mem, MEMORY) != 0)
        die("no memory");
    arena_init(&c->arena, &c->mem, MEMORY);
    for (int16_t key = 0; key <= API_KEYS_MAX; key++)
        c->versions[key] = -1;
    c->fd = client_socket(c->host, c->port);
    client_learn_versions(c);
}

void client_destroy(struct client *c)
{
    (void)close(c->fd);
    free(c->answer);
    arena_release(&c->arena);
    mem_destroy(&c->mem);
}

/* ---- what the programs ask ------------------------------------------------------------------- */

/* Whether every partition has a leader. */
static bool topic_led(const struct metadata_response_topic *t)
{
    for (int32_t i = 0; i < t->partitions_count; i++)
        if (t->partitions[i].error_code != KE_NONE)
            return false;
    return t->error_code == KE_NONE && t->partitions_count > 0;
}

struct uuid client_find_topic(struct client *c, const char *name, uint32_t *partitions)
{
    struct metadata_request_topic topic;
    struct metadata_request request;
    struct metadata_response response;
    metadata_request_topic_init(&topic);
    topic.name = wire_string_of(name);
    metadata_request_init(&request);
    request.topics = &topic;
    request.topics_count = 1;
    request.allow_auto_topic_creation = false;
    for (uint32_t i = 0; i < PATIENCE; i++) {
        client_ask(c, API_METADATA, &request, &response);
        if (response.topics_count == 1 && topic_led(&response.topics[0])) {
            *partitions = (uint32_t)response.topics[0].partitions_count;
            return response.topics[0].topic_id;
        }
        (void)usleep(PATIENCE_US);
    }
    die("topic %s is not there, or not led", name);
}
