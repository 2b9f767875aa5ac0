/* A client's connection.
 *
 *   connecting ─▶ up ─▶ requests out, answers in ─▶ lost, reset or too slow ─▶ down ─▶ (pause) ─▶
 *
 * Invariants: answers come in the order of the requests and carry their numbers; a body that is
 * told is whole. Whatever breaks that is told to `broken` once. */
#include "tests/sim/link.h"

#include "proto/gen/api.h"
#include "proto/gen/header.h"

#define RETRY_NS    (20 * NS_PER_MS)
#define HEAD_MAX    64u
#define FRAME_LIMIT (256u << 20)

static void link_connect(struct sim_event *e);
static void link_woken(void *context);

static void link_retry_later(struct link *l)
{
    uint64_t after = chance_around(sim_chance(l->sim, SIM_WORKLOAD), RETRY_NS);
    if (!l->stopped)
        sim_plan(l->sim, &l->retry, sim_now_ns(l->sim) + after, link_connect);
}

static void link_connect(struct sim_event *e)
{
    struct link *l = container_of(e, struct link, retry);
    assert(l->client == NULL);
    l->connects++;
    l->client = sim_client_connect(l->sim, l->to, l->port, link_woken, l);
}

void link_break(struct link *l)
{
    bool was_up = l->is_up;
    if (l->client == NULL)
        return;
    sim_client_close(l->client);
    l->client = NULL;
    l->is_up = false;
    l->requests_count = 0;
    sim_unplan(l->sim, &l->timeout);
    if (was_up && !l->stopped)
        l->down(l);
    link_retry_later(l);
}

static void link_timed_out(struct sim_event *e)
{
    struct link *l = container_of(e, struct link, timeout);
    l->timeouts++;
    link_break(l);
}

static void link_watch_time(struct link *l)
{
    if (l->requests_count == 0)
        sim_unplan(l->sim, &l->timeout);
    else
        sim_plan(l->sim, &l->timeout, l->requests[0].sent_ns + l->timeout_ns, link_timed_out);
}

static void link_answer(struct link *l, const uint8_t *frame, size_t size)
{
    struct wire_reader r;
    struct response_header header;
    wire_reader_init(&r, frame, size);
    if (l->requests_count == 0) {
        l->broken(l, "an answer that nobody asked for");
        return;
    }
    struct link_request q = l->requests[0];
    l->requests_count--;
    for (uint32_t i = 0; i < l->requests_count; i++)
        l->requests[i] = l->requests[i + 1];
    int16_t version = api_response_header_version(q.api_key, q.version);
    if (response_header_decode(&header, &r, version, NULL) != 0) {
        l->broken(l, "an unreadable header");
    } else if (header.correlation_id != q.correlation_id) {
        l->broken(l, "an answer out of order");
    } else {
        link_watch_time(l);
        l->answered(l, &q, &r);
    }
}

/* One whole frame, if there is one. */
static bool link_take_frame(struct link *l)
{
    const uint8_t *bytes;
    size_t size = sim_client_received(l->client, &bytes);
    if (size < 4)
        return false;
    uint32_t length = wire_load32(bytes);
    if (length < 4 || length > FRAME_LIMIT) {
        l->broken(l, "a frame of no possible length");
        return false;
    }
    if (size < 4 + (size_t)length)
        return false;
    struct sim_client *client = l->client;
    uint64_t connects = l->connects;
    link_answer(l, bytes + 4, length);
    if (l->client != client || l->connects != connects)
        return false; /* given up meanwhile */
    sim_client_take(client, 4 + (size_t)length);
    return true;
}

static void link_woken(void *context)
{
    struct link *l = context;
    enum sim_client_state state = sim_client_state(l->client);
    if (state == SIM_CLIENT_OPEN && !l->is_up) {
        l->is_up = true;
        l->requests_count = 0;
        l->up(l);
    }
    while (l->client != NULL && l->is_up && !l->mute && link_take_frame(l))
        ;
    if (l->client != NULL && state != SIM_CLIENT_OPEN && state != SIM_CLIENT_CONNECTING)
        link_break(l);
}

void link_start(struct link *l)
{
    link_retry_later(l);
}

void link_stop(struct link *l)
{
    l->stopped = true;
    link_break(l);
    sim_unplan(l->sim, &l->retry);
    if (l->frame != NULL)
        mem_free(l->mem, l->frame, l->frame_room);
    l->frame = NULL;
}

void link_begin(struct link *l, struct wire_writer *w, int16_t api_key, int16_t version,
                uint64_t body_size)
{
    size_t wanted = (size_t)body_size + HEAD_MAX;
    assert(l->is_up && l->requests_count < LINK_REQUESTS_MAX);
    if (wanted > l->frame_room) {
        l->frame = mem_realloc(l->mem, l->frame, l->frame_room, wanted);
        assert(l->frame != NULL);
        l->frame_room = wanted;
    }
    struct request_header header;
    request_header_init(&header);
    header.request_api_key = api_key;
    header.request_api_version = version;
    header.correlation_id = ++l->next_correlation_id;
    header.client_id = (struct wire_string){"torc-sim", 8};
    wire_writer_init(w, l->frame, l->frame_room);
    wire_put_int32(w, 0); /* the length, when it is known */
    request_header_encode(&header, w, api_request_header_version(api_key, version));
}

void link_end(struct link *l, struct wire_writer *w, int16_t api_key, int16_t version, uint64_t tag,
              bool expect_answer)
{
    assert(wire_writer_ok(w) && w->spliced_bytes == 0);
    wire_store32(l->frame, (uint32_t)w->position - 4);
    sim_client_send(l->client, l->frame, (size_t)w->position);
    if (!expect_answer)
        return;
    l->requests[l->requests_count++] =
        (struct link_request){.correlation_id = l->next_correlation_id,
                              .api_key = api_key,
                              .version = version,
                              .sent_ns = sim_now_ns(l->sim),
                              .tag = tag};
    if (l->requests_count == 1)
        link_watch_time(l);
}
