/* Produces to a Kafka broker as fast as it takes it, or on a timetable, and says what that cost.
 *
 *   link 0 ── slot slot slot ──▶ broker ──▶ answers, in order ─▶ parts: which offsets came back
 *   link 1 ── slot ...                                        └▶ histogram, counters
 *
 * Closed loop: each link (connection) keeps in_flight requests under way. The rate is then what the
 * broker makes it; its latency is that of a full queue and says little by itself.
 * Open loop (--rate): request i is due at start + i / rate, whatever became of those before it, and
 * its latency counts from that moment, so a stall is paid by all who would have come meanwhile.
 * `service` latency, counted from the write to the socket, is printed beside it; `slip` is how late
 * this program itself was.
 *
 * A request carries `batches` batches, each for another partition of its link: link c of N has the
 * partitions p with p mod N = c, or, where there are fewer partitions than links, one they share.
 * Records never change, so batches are built once; idempotent ones get their producer fields and
 * checksum at each send. The first `warmup` seconds are not counted. A request counts for latency
 * if it was due within the window, for throughput if it was answered within it.
 *
 * Invariants, on which the exit status depends
 *  1. Every answer has the correlation id of the oldest request under way on its link.
 *  2. No answer has an error.
 *  3. Offsets are dense: per partition, the batches take start, start + records, ... each once, and
 *     the end offset the broker then tells is start + records x batches. (So nobody else writes.)
 *  4. Within a link, offsets of one partition rise.
 *
 * MB are 10^6 bytes of record values: what the user sent, not what it was packed in. One thread; if
 * load_cpu comes near 1 it is this program that was measured. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"
#include "core/crc32c.h"
#include "core/histogram.h"
#include "perf/client.h"
#include "perf/offsets.h"
#include "perf/usage.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "proto/gen/header.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/produce.h"

#define CONFIGS_MAX     32u
#define LINKS_MAX       20000u
#define IN_FLIGHT_MAX   1024u
#define PARTITIONS_MAX  100000u
#define RECORDS_MAX     100000u
#define SIZE_MAX_RECORD (64u << 20)
#define BATCHES_MAX     1000u
#define EVENTS_MAX      256
#define VECTORS_MAX     512
#define INPUT_FIRST     65536u
#define INPUT_MAX       (64u << 20)
#define DRAIN_NS        (60 * NS_PER_S)
#define ACKS_ALL        (-1)
#define REQUEST_MS      30000
#define ID_TIMEOUT_MS   60000
#define ARENA_LIMIT     (64ull << 20)
#define CLIENT_NAME     "torc-perf"

struct options {
    const char *address, *topic, *histogram;
    const char *configs[CONFIGS_MAX];
    uint32_t configs_count, create;
    uint32_t connections, in_flight, records, size, batches;
    double seconds, warmup, rate;
    bool idempotent;
    int32_t pid;
};

struct slot { /* one request under way */
    uint64_t due_ns, sent_ns;
    int32_t correlation;
    uint32_t first;                /* index of its first partition in the link's own */
    uint8_t *head;                 /* the frame but for the batches */
    struct wire_splice *splices;   /* where the batches belong in it */
    struct wire_piece *pieces;     /* two per batch: its header and its records */
    struct batch_bytes *own_heads; /* idempotent: each batch has its own */
    uint64_t head_size, size;
};

struct link {
    int fd;
    struct slot *slots;         /* number n is slots[n % in_flight] */
    uint64_t made, sent, ended; /* requests; ended <= sent <= made <= ended + in_flight */
    uint64_t bytes_sent;        /* of request number `sent` */
    uint64_t owed;              /* open loop: due, but the window was full */
    uint32_t *own, own_count;   /* partitions */
    uint32_t next;              /* own[] index of the next batch */
    int64_t *highest;           /* base offset answered, per own partition */
    int32_t *sequences;         /* idempotent: of the next record, per own partition */
    int64_t producer_id;
    int16_t producer_epoch;
    uint8_t *input;
    uint32_t input_size, input_capacity;
    bool dirty, polls_out;
};

struct load {
    struct options o;
    struct client client;
    struct uuid topic_id;
    uint32_t parts_count;
    struct offsets *parts; /* what came back, per partition */
    struct link *links;
    int epoll;
    uint8_t *batch; /* the one batch that is sent over and over */
    uint32_t batch_size;
    int16_t version;
    struct arena arena;                            /* of the answer being read */
    uint64_t start_ns, begin_ns, end_ns, next_due; /* the window; open loop: next request */
    struct usage used_begin, used_end;
    bool measuring, stopped;
    uint64_t batches, requests; /* answered within the window */
    uint64_t errors, misplaced; /* broken invariants 2; 3 and 4 */
    int16_t first_error;
    struct histogram response, service, slip;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void *zeroed(size_t count, size_t size)
{
    void *p = calloc(count, size);
    if (p == NULL)
        die("no memory for %zu x %zu bytes", count, size);
    return p;
}

/* ---- what to send ---------------------------------------------------------------------------- */

static void batch_make(struct load *l)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    int64_t wall_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    uint8_t *value = zeroed(l->o.size + 1, 1);
    uint64_t state = 0x9e3779b97f4a7c15;
    for (uint32_t i = 0; i < l->o.size; i++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        value[i] = (uint8_t)(state >> 56);
    }
    struct batch_field key = {NULL, 0}, field = {value, l->o.size};
    uint64_t room =
        BATCH_HEADER_SIZE + (uint64_t)batch_record_size_max(key, field, NULL, 0) * l->o.records;
    if (room > INT32_MAX)
        die("a batch of %u records of %u bytes is too large", l->o.records, l->o.size);
    l->batch = zeroed(1, room);
    struct batch_builder b;
    struct batch_header header = batch_header_plain(0);
    batch_builder_init(&b, l->batch, (uint32_t)room, &header);
    for (uint32_t i = 0; i < l->o.records; i++)
        if (!batch_builder_add(&b, wall_ms, key, field, NULL, 0))
            die("record %u does not fit into its batch", i);
    l->batch_size = batch_builder_finish(&b);
    free(value);
}

/* Kafka's sequence numbers go from INT32_MAX to 0. */
static int32_t sequence_after(int32_t sequence, uint32_t records)
{
    return (int32_t)(((uint32_t)sequence + records) & INT32_MAX);
}

static void head_of_producer(struct load *l, struct link *k, uint32_t own, struct batch_bytes *head)
{
    memcpy(head, l->batch, BATCH_HEADER_SIZE);
    wire_store64(head->producer_id, (uint64_t)k->producer_id);
    wire_store16(head->producer_epoch, (uint16_t)k->producer_epoch);
    wire_store32(head->base_sequence, (uint32_t)k->sequences[own]);
    k->sequences[own] = sequence_after(k->sequences[own], l->o.records);
    uint32_t crc =
        crc32c(0, (const uint8_t *)head + BATCH_CRC_FROM, BATCH_HEADER_SIZE - BATCH_CRC_FROM);
    crc = crc32c(crc, l->batch + BATCH_HEADER_SIZE, l->batch_size - BATCH_HEADER_SIZE);
    wire_store32(head->crc, crc);
}

static void request_put(struct load *l, const struct slot *s, const struct produce_request *request,
                        struct wire_writer *w)
{
    struct request_header header = {.request_api_key = API_PRODUCE,
                                    .request_api_version = l->version,
                                    .correlation_id = s->correlation,
                                    .client_id = wire_string_of(CLIENT_NAME)};
    wire_put_int32(w, 0); /* the length, set when it is known */
    request_header_encode(&header, w, api_request_header_version(API_PRODUCE, l->version));
    produce_request_encode(request, w, l->version);
}

/* Writes the frame of the link's next request; the first time, makes room for it. */
static void slot_fill(struct load *l, struct link *k, struct slot *s)
{
    uint32_t count = l->o.batches;
    struct produce_request_partition_produce_data data[BATCHES_MAX];
    struct produce_request_topic_produce_data topic;
    struct produce_request request;
    produce_request_topic_produce_data_init(&topic);
    topic.name = wire_string_of(l->o.topic);
    topic.topic_id = l->topic_id;
    topic.partition_data = data;
    topic.partition_data_count = (int32_t)count;
    produce_request_init(&request);
    request.acks = ACKS_ALL;
    request.timeout_ms = REQUEST_MS;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    if (s->head == NULL) {
        s->pieces = zeroed(2 * (size_t)count, sizeof(*s->pieces));
        s->splices = zeroed(count, sizeof(*s->splices));
        s->own_heads = zeroed(count, sizeof(*s->own_heads));
    }
    s->first = k->next;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t own = (s->first + i) % k->own_count;
        struct wire_piece *pieces = &s->pieces[(size_t)2 * i];
        pieces[0] = (struct wire_piece){l->batch, BATCH_HEADER_SIZE};
        pieces[1] =
            (struct wire_piece){l->batch + BATCH_HEADER_SIZE, l->batch_size - BATCH_HEADER_SIZE};
        if (l->o.idempotent) {
            head_of_producer(l, k, own, &s->own_heads[i]);
            pieces[0].data = &s->own_heads[i];
        }
        produce_request_partition_produce_data_init(&data[i]);
        data[i].index = (int32_t)k->own[own];
        data[i].records = (struct wire_records){.pieces = pieces, .pieces_count = 2};
    }
    k->next = (k->next + count) % k->own_count;
    struct wire_writer w = {0};
    if (s->head == NULL) {
        request_put(l, s, &request, &w);
        s->head_size = w.position;
        s->head = zeroed(1, w.position + count * 8); /* partition numbers never need more */
    }
    wire_writer_init(&w, s->head, s->head_size + count * 8);
    wire_writer_splice(&w, s->splices, count);
    request_put(l, s, &request, &w);
    assert(wire_writer_ok(&w) && w.splices_count == count);
    s->head_size = w.position;
    s->size = w.position + w.spliced_bytes;
    wire_store32(s->head, (uint32_t)(s->size - 4));
}

static void link_touch(struct link *k)
{
    k->dirty = true;
}

/* The link's next request, due at due_ns; there is room in its window. */
static void link_make(struct load *l, struct link *k, uint64_t due_ns)
{
    assert(k->made - k->ended < l->o.in_flight);
    struct slot *s = &k->slots[k->made % l->o.in_flight];
    s->correlation = (int32_t)(k->made & INT32_MAX);
    s->due_ns = due_ns;
    slot_fill(l, k, s);
    k->made++;
    link_touch(k);
}

/* ---- sending --------------------------------------------------------------------------------- */

struct vectors {
    struct iovec list[VECTORS_MAX];
    int count;
    uint64_t skip; /* bytes at the front that have gone already */
};

/* false: full. */
static bool vectors_add(struct vectors *v, const void *data, uint64_t size)
{
    uint64_t skipped = MIN(v->skip, size);
    v->skip -= skipped;
    if (size == skipped)
        return true;
    if (v->count == VECTORS_MAX)
        return false;
    v->list[v->count++] =
        (struct iovec){(uint8_t *)(uintptr_t)data + skipped, (size_t)(size - skipped)};
    return true;
}

static bool vectors_add_slot(struct vectors *v, const struct slot *s, uint32_t batches)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < batches; i++) {
        const struct wire_splice *p = &s->splices[i];
        if (!vectors_add(v, s->head + at, p->position - at) ||
            !vectors_add(v, p->pieces[0].data, p->pieces[0].size) ||
            !vectors_add(v, p->pieces[1].data, p->pieces[1].size))
            return false;
        at = p->position;
    }
    return vectors_add(v, s->head + at, s->head_size - at);
}

static void link_poll(struct load *l, struct link *k, bool out)
{
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = k};
    if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, k->fd, &event) != 0)
        die("epoll: %s", strerror(errno));
    k->polls_out = out;
}

/* Counts off what the kernel took. */
static void link_sent(struct load *l, struct link *k, uint64_t bytes, uint64_t now)
{
    k->bytes_sent += bytes;
    while (k->sent < k->made) {
        struct slot *s = &k->slots[k->sent % l->o.in_flight];
        if (k->bytes_sent < s->size)
            return;
        k->bytes_sent -= s->size;
        s->sent_ns = now;
        k->sent++;
    }
    assert(k->bytes_sent == 0);
}

static void link_flush(struct load *l, struct link *k)
{
    k->dirty = false;
    while (k->sent < k->made) {
        struct vectors v;
        v.count = 0;
        v.skip = k->bytes_sent;
        for (uint64_t n = k->sent; n < k->made; n++)
            if (!vectors_add_slot(&v, &k->slots[n % l->o.in_flight], l->o.batches))
                break;
        uint64_t now = now_ns();
        ssize_t n = writev(k->fd, v.list, v.count);
        if (n < 0 && errno != EAGAIN)
            die("write: %s", strerror(errno));
        if (n < 0)
            break;
        link_sent(l, k, (uint64_t)n, now);
    }
    bool out = k->sent < k->made;
    if (out != k->polls_out)
        link_poll(l, k, out);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Where a partition stands in the link's own; own_count if it was not in this request. Brokers
 * answer in any order. */
static uint32_t slot_own(const struct load *l, const struct link *k, const struct slot *s,
                         int32_t partition)
{
    uint32_t own = l->parts_count >= l->o.connections ? (uint32_t)partition / l->o.connections : 0;
    if (partition < 0 || own >= k->own_count || k->own[own] != (uint32_t)partition)
        return k->own_count;
    uint32_t number = (own + k->own_count - s->first) % k->own_count;
    return number < l->o.batches ? own : k->own_count;
}

static void answer_judge(struct load *l, struct link *k, const struct slot *s,
                         const struct produce_response_partition_produce_response *r)
{
    if (r->error_code != KE_NONE) {
        if (l->errors++ == 0)
            l->first_error = r->error_code;
        return;
    }
    uint32_t own = slot_own(l, k, s, r->index);
    if (own == k->own_count || r->base_offset <= k->highest[own] ||
        !offsets_take(&l->parts[r->index], r->base_offset)) {
        l->misplaced++;
        return;
    }
    k->highest[own] = r->base_offset;
    l->batches += l->measuring;
}

static void answer_read(struct load *l, struct link *k, const uint8_t *data, uint32_t size,
                        uint64_t now)
{
    if (k->ended == k->sent)
        die("an answer to nothing");
    const struct slot *s = &k->slots[k->ended % l->o.in_flight];
    struct wire_reader r;
    struct response_header header;
    struct produce_response response;
    arena_release(&l->arena);
    wire_reader_init(&r, data, size);
    int16_t version = api_response_header_version(API_PRODUCE, l->version);
    if (response_header_decode(&header, &r, version, &l->arena) != 0 ||
        produce_response_decode(&response, &r, l->version, &l->arena) != 0)
        die("an answer cannot be read");
    if (header.correlation_id != s->correlation)
        die("the answer to %d came instead of that to %d", header.correlation_id, s->correlation);
    if (response.responses_count != 1 ||
        response.responses[0].partition_responses_count != (int32_t)l->o.batches)
        die("an answer for other partitions than asked");
    for (uint32_t i = 0; i < l->o.batches; i++)
        answer_judge(l, k, s, &response.responses[0].partition_responses[i]);
    l->requests += l->measuring;
    if (s->due_ns >= l->begin_ns && s->due_ns < l->end_ns) {
        histogram_record(&l->response, now - s->due_ns);
        histogram_record(&l->service, now - s->sent_ns);
        histogram_record(&l->slip, s->sent_ns - s->due_ns);
    }
    k->ended++;
}

/* A place in the window is free: the next request, if there is one. */
static void link_refill(struct load *l, struct link *k, uint64_t now);

static void link_read(struct load *l, struct link *k)
{
    ssize_t n = read(k->fd, k->input + k->input_size, k->input_capacity - k->input_size);
    if (n == 0)
        die("the broker closed a connection");
    if (n < 0 && errno != EAGAIN)
        die("read: %s", strerror(errno));
    if (n < 0)
        return;
    uint64_t now = now_ns();
    k->input_size += (uint32_t)n;
    uint32_t at = 0;
    while (k->input_size - at >= 4) {
        uint32_t size = wire_load32(k->input + at);
        if (size > INPUT_MAX)
            die("an answer of %u bytes", size);
        if (size + 4 > k->input_capacity) {
            k->input_capacity = size + 4;
            k->input = realloc(k->input, k->input_capacity);
            if (k->input == NULL)
                die("no memory for an answer of %u bytes", size);
        }
        if (k->input_size - at < size + 4)
            break;
        answer_read(l, k, k->input + at + 4, size, now);
        at += size + 4;
    }
    k->input_size -= at;
    memmove(k->input, k->input + at, k->input_size);
    link_refill(l, k, now);
}

/* ---- the timetable --------------------------------------------------------------------------- */

static uint64_t due_ns(const struct load *l, uint64_t number)
{
    return l->start_ns + (uint64_t)((double)number * (double)NS_PER_S / l->o.rate);
}

static void link_refill(struct load *l, struct link *k, uint64_t now)
{
    if (l->stopped)
        return;
    uint64_t number = (uint64_t)(k - l->links);
    while (k->made - k->ended < l->o.in_flight) {
        if (l->o.rate <= 0) {
            link_make(l, k, now);
        } else if (k->owed > 0) {
            link_make(l, k, due_ns(l, k->made * l->o.connections + number));
            k->owed--;
        } else {
            break;
        }
    }
}

/* Hands out what is due. Request i belongs to link i mod connections. */
static void load_schedule(struct load *l, uint64_t now)
{
    while (!l->stopped && due_ns(l, l->next_due) <= now) {
        struct link *k = &l->links[l->next_due++ % l->o.connections];
        k->owed++;
        link_refill(l, k, now);
    }
}

static bool load_idle(const struct load *l)
{
    for (uint32_t i = 0; i < l->o.connections; i++)
        if (l->links[i].ended < l->links[i].made)
            return false;
    return true;
}

/* ---- the run --------------------------------------------------------------------------------- */

static void load_phase(struct load *l, uint64_t now)
{
    if (!l->measuring && !l->stopped && now >= l->begin_ns) {
        l->measuring = true;
        l->used_begin = usage_now(l->o.pid);
        l->begin_ns = now_ns();
    }
    if (l->measuring && now >= l->end_ns) {
        l->used_end = usage_now(l->o.pid);
        l->end_ns = now;
        l->measuring = false;
        l->stopped = true;
    }
}

static void load_wait(struct load *l, uint64_t now, struct epoll_event *events, int *count)
{
    uint64_t until = l->stopped ? l->end_ns + DRAIN_NS : l->measuring ? l->end_ns : l->begin_ns;
    if (l->o.rate > 0 && !l->stopped)
        until = MIN(until, due_ns(l, l->next_due));
    uint64_t wait = until > now ? until - now : 0;
    struct timespec t = {(time_t)(wait / NS_PER_S), (long)(wait % NS_PER_S)};
    *count = epoll_pwait2(l->epoll, events, EVENTS_MAX, &t, NULL);
    if (*count < 0 && errno != EINTR)
        die("epoll: %s", strerror(errno));
}

static void load_run(struct load *l)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_ns();
    l->start_ns = now;
    l->begin_ns = now + (uint64_t)(l->o.warmup * (double)NS_PER_S);
    l->end_ns = l->begin_ns + (uint64_t)(l->o.seconds * (double)NS_PER_S);
    if (l->o.rate <= 0)
        for (uint32_t i = 0; i < l->o.connections; i++)
            link_refill(l, &l->links[i], now);
    for (;;) {
        now = now_ns();
        load_phase(l, now);
        if (l->stopped && load_idle(l))
            break; /* the last answer came before the end: there is nothing to wait for */
        if (l->stopped && now > l->end_ns + DRAIN_NS)
            die("answers are missing %llu s after the last request", DRAIN_NS / NS_PER_S);
        if (l->o.rate > 0)
            load_schedule(l, now);
        for (uint32_t i = 0; i < l->o.connections; i++)
            if (l->links[i].dirty)
                link_flush(l, &l->links[i]);
        int count;
        load_wait(l, now_ns(), events, &count);
        for (int i = 0; i < count; i++) {
            struct link *k = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                link_touch(k);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                link_read(l, k);
        }
    }
}

/* Invariant 3, with what the broker says in the end. Returns how many partitions break it. */
static uint32_t load_verify(struct load *l)
{
    uint32_t broken = 0;
    int64_t *ends = zeroed(l->parts_count, sizeof(*ends));
    client_ends(&l->client, l->o.topic, l->parts_count, ends);
    for (uint32_t i = 0; i < l->parts_count; i++)
        broken += !offsets_dense(&l->parts[i], ends[i]);
    free(ends);
    return broken;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void link_share(struct load *l, struct link *k, uint32_t number)
{
    uint32_t count = l->parts_count, links = l->o.connections;
    k->own_count = count >= links ? (count - number + links - 1) / links : 1;
    k->own = zeroed(k->own_count, sizeof(*k->own));
    for (uint32_t i = 0; i < k->own_count; i++)
        k->own[i] = count >= links ? number + i * links : number % count;
    k->highest = zeroed(k->own_count, sizeof(*k->highest));
    for (uint32_t i = 0; i < k->own_count; i++)
        k->highest[i] = -1;
    k->sequences = zeroed(k->own_count, sizeof(*k->sequences));
    if (l->o.batches > k->own_count)
        die("a request of %u batches needs as many partitions per connection; there are %u",
            l->o.batches, k->own_count);
}

static void link_start(struct load *l, struct link *k, uint32_t number)
{
    link_share(l, k, number);
    k->slots = zeroed(l->o.in_flight, sizeof(*k->slots));
    k->input_capacity = INPUT_FIRST;
    k->input = zeroed(1, k->input_capacity);
    if (l->o.idempotent) {
        struct init_producer_id_request request;
        struct init_producer_id_response response;
        init_producer_id_request_init(&request);
        request.transactional_id = WIRE_NULL_STRING;
        request.transaction_timeout_ms = ID_TIMEOUT_MS;
        client_ask(&l->client, API_INIT_PRODUCER_ID, &request, &response);
        if (response.error_code != KE_NONE)
            die("InitProducerId: %s", kafka_error_name((enum kafka_error)response.error_code));
        k->producer_id = response.producer_id;
        k->producer_epoch = response.producer_epoch;
    }
    k->fd = client_socket(l->client.host, l->client.port);
    if (fcntl(k->fd, F_SETFL, O_NONBLOCK) != 0)
        die("fcntl: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = k};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, k->fd, &event) != 0)
        die("epoll: %s", strerror(errno));
}

static void load_start(struct load *l)
{
    client_init(&l->client, l->o.address);
    l->version = client_version(&l->client, API_PRODUCE);
    if (l->o.create > 0)
        client_make_topic(&l->client, l->o.topic, l->o.create, l->o.configs, l->o.configs_count);
    l->topic_id = client_find_topic(&l->client, l->o.topic, &l->parts_count);
    if (l->parts_count > PARTITIONS_MAX)
        die("more than %u partitions", PARTITIONS_MAX);
    int64_t *ends = zeroed(l->parts_count, sizeof(*ends));
    client_ends(&l->client, l->o.topic, l->parts_count, ends);
    l->parts = zeroed(l->parts_count, sizeof(*l->parts));
    for (uint32_t i = 0; i < l->parts_count; i++)
        offsets_init(&l->parts[i], ends[i], l->o.records,
                     l->o.connections * l->o.in_flight * l->o.batches);
    free(ends);
    batch_make(l);
    arena_init(&l->arena, &l->client.mem, ARENA_LIMIT);
    histogram_init(&l->response);
    histogram_init(&l->service);
    histogram_init(&l->slip);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        die("epoll: %s", strerror(errno));
    (void)prctl(PR_SET_TIMERSLACK, 1);
    l->links = zeroed(l->o.connections, sizeof(*l->links));
    for (uint32_t i = 0; i < l->o.connections; i++)
        link_start(l, &l->links[i], i);
}

/* ---- output ---------------------------------------------------------------------------------- */

static void print_latency(const char *name, const struct histogram *h)
{
    printf(" %sp50_us=%.1f %sp99_us=%.1f %sp999_us=%.1f %smax_us=%.1f", name,
           (double)histogram_quantile(h, 0.5) / 1e3, name,
           (double)histogram_quantile(h, 0.99) / 1e3, name,
           (double)histogram_quantile(h, 0.999) / 1e3, name, (double)h->max / 1e3);
}

static void load_print(const struct load *l, double load_before, uint32_t broken)
{
    const struct options *o = &l->o;
    double seconds = (double)(l->end_ns - l->begin_ns) / (double)NS_PER_S;
    double records = (double)l->batches * o->records, bytes = records * o->size, gb = bytes / 1e9;
    double broker = l->used_end.broker - l->used_begin.broker;
    double self = l->used_end.self - l->used_begin.self;
    double machine = l->used_end.machine - l->used_begin.machine;
    printf("produce loop=%s connections=%u in_flight=%u partitions=%u batches=%u records=%u "
           "size=%u idempotent=%d version=%d seconds=%.2f",
           o->rate > 0 ? "open" : "closed", o->connections, o->in_flight, l->parts_count,
           o->batches, o->records, o->size, o->idempotent, l->version, seconds);
    printf(" mb_per_s=%.2f records_per_s=%.0f requests_per_s=%.0f", bytes / 1e6 / seconds,
           records / seconds, (double)l->requests / seconds);
    print_latency("", &l->response);
    if (o->rate > 0) {
        print_latency("service_", &l->service);
        print_latency("slip_", &l->slip);
    }
    if (o->pid > 0 && bytes > 0) {
        uint64_t written = l->used_end.broker_written - l->used_begin.broker_written;
        printf(" broker_cpu=%.3f broker_cpu_s_per_gb=%.3f broker_cpu_us_per_request=%.2f "
               "written_per_byte=%.2f",
               broker / seconds, broker / gb, broker * 1e6 / (double)l->requests,
               (double)written / bytes);
    }
    if (bytes > 0)
        printf(" others_cpu_s_per_gb=%.3f", (machine - self) / gb);
    printf(" load_cpu=%.3f load_before=%.2f errors=%llu misplaced=%llu dense=%d\n", self / seconds,
           load_before, (unsigned long long)l->errors, (unsigned long long)l->misplaced,
           broken == 0);
}

/* The response histogram, one line per bucket that holds something. */
static void histogram_write(const struct histogram *h, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        die("%s: %s", path, strerror(errno));
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (h->buckets[i] > 0)
            (void)fprintf(f, "%llu %llu\n", (unsigned long long)histogram_upper(i),
                          (unsigned long long)h->buckets[i]);
    if (fclose(f) != 0)
        die("%s: %s", path, strerror(errno));
}

static const char usage_text[] =
    "usage: produce_load [options] HOST:PORT\n"
    "Produces to a Kafka broker with acks=all, checks the answers, prints one line.\n\n"
    "  --topic NAME         perf-load\n"
    "  --create N           make the topic with N partitions, unless it is there\n"
    "  --config KEY=VALUE   of the topic made; may be repeated\n"
    "  --connections N      4\n"
    "  --in-flight N        requests under way per connection: 5\n"
    "  --records N          per batch: 16\n"
    "  --size N             bytes of a record's value: 1024\n"
    "  --batches N          per request, each for another partition: 1\n"
    "  --rate N             requests per second, all connections: open loop; else closed\n"
    "  --seconds N          measured: 5\n"
    "  --warmup N           seconds before that: 1\n"
    "  --idempotent         with producer ids and sequence numbers\n"
    "  --pid PID            of the broker: prints its CPU time and bytes written\n"
    "  --histogram FILE     latencies: upper bound in ns and count of each bucket\n\n"
    "Status: 0 all is well, 1 failed or an answer was wrong, 2 usage.\n";

_Noreturn static void usage(const char *why)
{
    (void)fprintf(stderr, "produce_load: error: %s; see --help\n", why);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        char why[128];
        (void)snprintf(why, sizeof(why), "'%.40s' is not a number from %g to %g", text, least,
                       most);
        usage(why);
    }
    return value;
}

static void option_set(struct options *o, int option)
{
    switch (option) {
    case 't':
        o->topic = optarg;
        return;
    case 'k':
        if (o->configs_count == CONFIGS_MAX)
            usage("too many --config");
        o->configs[o->configs_count++] = optarg;
        return;
    case 'H':
        o->histogram = optarg;
        return;
    case 'i':
        o->idempotent = true;
        return;
    case 'c':
        o->create = (uint32_t)number(optarg, 1, PARTITIONS_MAX);
        return;
    case 'n':
        o->connections = (uint32_t)number(optarg, 1, LINKS_MAX);
        return;
    case 'f':
        o->in_flight = (uint32_t)number(optarg, 1, IN_FLIGHT_MAX);
        return;
    case 'r':
        o->records = (uint32_t)number(optarg, 1, RECORDS_MAX);
        return;
    case 's':
        o->size = (uint32_t)number(optarg, 0, SIZE_MAX_RECORD);
        return;
    case 'b':
        o->batches = (uint32_t)number(optarg, 1, BATCHES_MAX);
        return;
    case 'R':
        o->rate = number(optarg, 0.001, 1e8);
        return;
    case 'S':
        o->seconds = number(optarg, 0.01, 1e6);
        return;
    case 'w':
        o->warmup = number(optarg, 0, 1e6);
        return;
    case 'p':
        o->pid = (int32_t)number(optarg, 1, INT32_MAX);
        return;
    case 'h':
        (void)fputs(usage_text, stdout);
        exit(0);
    default:
        usage("no such option, or its value is missing");
    }
}

static void options_read(struct options *o, int count, char **arguments)
{
    static const struct option options[] = {
        {"topic", 1, NULL, 't'},     {"create", 1, NULL, 'c'},
        {"config", 1, NULL, 'k'},    {"connections", 1, NULL, 'n'},
        {"in-flight", 1, NULL, 'f'}, {"records", 1, NULL, 'r'},
        {"size", 1, NULL, 's'},      {"batches", 1, NULL, 'b'},
        {"rate", 1, NULL, 'R'},      {"seconds", 1, NULL, 'S'},
        {"warmup", 1, NULL, 'w'},    {"idempotent", 0, NULL, 'i'},
        {"pid", 1, NULL, 'p'},       {"histogram", 1, NULL, 'H'},
        {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
    *o = (struct options){.topic = "perf-load",
                          .connections = 4,
                          .in_flight = 5,
                          .records = 16,
                          .size = 1024,
                          .batches = 1,
                          .seconds = 5,
                          .warmup = 1};
    opterr = 0;
    for (int option; (option = getopt_long(count, arguments, "h", options, NULL)) != -1;)
        option_set(o, option);
    if (optind != count - 1)
        usage("one HOST:PORT is wanted");
    o->address = arguments[optind];
}

int main(int count, char **arguments)
{
    static struct load load;
    struct load *l = &load;
    options_read(&l->o, count, arguments);
    double load_before = -1;
    (void)getloadavg(&load_before, 1);
    load_start(l);
    load_run(l);
    uint32_t broken = load_verify(l);
    load_print(l, load_before, broken);
    if (l->o.histogram)
        histogram_write(&l->response, l->o.histogram);
    if (l->errors > 0)
        (void)fprintf(stderr, "error: %llu batches refused, the first with %s\n",
                      (unsigned long long)l->errors,
                      kafka_error_name((enum kafka_error)l->first_error));
    if (l->misplaced > 0 || broken > 0)
        (void)fprintf(stderr, "error: %llu offsets out of place, %u partitions not dense\n",
                      (unsigned long long)l->misplaced, broken);
    arena_release(&l->arena);
    client_destroy(&l->client);
    return l->errors > 0 || l->misplaced > 0 || broken > 0;
}
