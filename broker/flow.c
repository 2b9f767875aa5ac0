/* A request under way: header in, answer out. The api file in between decides what is answered;
 * here is what all of them share: which api it is, where its memory comes from, how an answer is
 * encoded around lent memory, and how a request is refused.
 *
 * Invariants
 *  1. A flow is answered exactly once, by flow_answer, flow_answer_nothing or flow_refuse.
 *  2. Views into the frame (strings, records) live as long as the flow, which holds the frame.
 *  3. Lent pieces are encoded by reference; they go home in `sent`, after their last byte left.
 *
 * Failure modes: unknown api or version, malformed header or body: the connection closes, as Kafka
 * does, because no answer could be understood; ApiVersions alone answers any version. No memory to
 * decode or encode: the connection closes too, and the client tries again. */
#include "broker/flow.h"

#include <string.h>

#include "broker/api/api.h"
#include "broker/data_core.h"
#include "proto/gen/api.h"
#include "proto/gen/header.h"

static uint64_t board_clock(void *context)
{
    return io_clock_ns(context);
}

void board_init(struct trip_board *b, struct core_id core, struct io *io)
{
    *b = (struct trip_board){
        .core = core, .now_ns = io_now_pointer(io), .clock = board_clock, .context = io};
}

void flows_init(struct flows *f, struct data_core *core)
{
    pool_init(&f->pool, &core->mem, sizeof(struct flow), FLOWS_MAX);
}

static struct trip_trail *flow_trail(struct flow *f)
{
    return arena_alloc(&f->arena, sizeof(struct trip_trail));
}

struct flow *flow_acquire(struct conn *c, uint64_t since_ns)
{
    struct data_core *core = c->core;
    struct flow *f = pool_acquire(&core->flows.pool);
    if (f == NULL)
        return NULL;
    memset(f, 0, sizeof(*f));
    f->conn = c;
    f->core = core;
    uint64_t share = (core->mem.budget_bytes - core->mem.used_bytes) / FLOW_ARENA_SHARE;
    arena_init(&f->arena, &core->mem, MIN(MAX(share, FLOW_ARENA_MIN), FLOW_ARENA_MAX));
    trip_begin(&f->trip, &core->board, since_ns,
               core->config->torc_slow_request_ms > 0 ? flow_trail(f) : NULL);
    list_push_back(&c->flows, &f->link);
    c->flows_count++;
    return f;
}

void flow_lend(struct flow *f)
{
    f->lent++;
}

void flow_unlend(struct flow *f)
{
    assert(f->lent > 0);
    f->lent--;
    if (f->lent == 0 && f->ended)
        flow_free(f);
}

void flow_free(struct flow *f)
{
    struct data_core *core = f->core;
    f->ended = true;
    if (f->lent > 0)
        return;
    if (!list_empty(&f->link)) { /* refused before it ever ran: conn_take without memory */
        list_remove(&f->link);
        f->conn->flows_count--;
    }
    if (f->buffer != NULL)
        io_buffer_release(core->io, f->buffer);
    else if (f->frame != NULL)
        conns_free_frame(&core->conns, (void *)(uintptr_t)f->frame, f->frame_capacity);
    arena_release(&f->arena);
    if (f->trip.now != TRIP_OVER) /* it never ran */
        trip_end(&f->trip, &core->board);
    pool_release(&core->flows.pool, f);
}

bool flow_may_pipeline(const struct flow *f)
{
    return f->frame_size >= 2 && f->frame[0] == 0 && f->frame[1] == API_PRODUCE;
}

struct trip *flow_leg(struct flow *f)
{
    struct trip *leg = arena_alloc(&f->arena, sizeof(*leg));
    if (leg != NULL)
        trip_leg(leg, &f->trip, f->trip.trail != NULL ? flow_trail(f) : NULL);
    return leg;
}

bool flow_decoded(struct flow *f)
{
    trip_note(&f->trip, &f->core->board, TRIP_ROUTE);
    return true;
}

void flow_encodes(struct flow *f)
{
    trip_note(&f->trip, &f->core->board, TRIP_ENCODE);
}

static void flow_end(struct flow *f)
{
    assert(!flow_queued(f) && !flow_answered(f));
    assert(f->conn->running > 0);
    trip_move(&f->trip, &f->core->board, TRIP_SEND);
    f->conn->running--;
    conn_wake(f->conn);
}

void flow_answer_nothing(struct flow *f)
{
    f->silent = true;
    flow_end(f);
}

void flow_refuse(struct flow *f, const char *why)
{
    trace_line(&f->core->trace, TRACE_API, TRACE_DEBUG, "closing %s: %s (api key %d version %d)",
               f->conn->peer.host, why, f->api_key, f->api_version);
    f->silent = true;
    f->close_after = true;
    flow_end(f);
}

/* What Kafka's RequestHeader reads: v1, or v2 with tagged fields for flexible requests. */
static bool flow_read_header(struct flow *f, struct wire_reader *r)
{
    if (f->frame_size < 8)
        return false;
    f->api_key = (int16_t)(f->frame[0] << 8 | f->frame[1]);
    f->api_version = (int16_t)(f->frame[2] << 8 | f->frame[3]);
    f->api = api_served(f->api_key);
    if (f->api == NULL)
        return false;
    int16_t known = f->api_version;
    bool unknown = known < f->api->min || known > f->api->max;
    if (unknown && f->api_key != API_API_VERSIONS)
        return false;
    wire_reader_init(r, f->frame, f->frame_size);
    struct request_header header;
    /* An ApiVersions request of an unknown version: only the fixed part can be read. */
    int16_t header_version = unknown ? 1 : api_request_header_version(f->api_key, known);
    if (request_header_decode(&header, r, header_version, &f->arena) != 0)
        return false;
    f->correlation_id = header.correlation_id;
    f->client_id = header.client_id;
    return true;
}

void flow_start(struct flow *f)
{
    struct wire_reader body;
    assert(flow_queued(f));
    uint8_t key = f->frame_size >= 2 && f->frame[0] == 0 ? f->frame[1] % API_COUNTERS : 0;
    f->trip.exact |= f->core->requests[key] % TRIP_EXACT_EVERY == 0;
    trip_move(&f->trip, &f->core->board, f->trip.exact ? TRIP_DECODE : TRIP_ROUTE);
    if (!flow_read_header(f, &body)) {
        flow_refuse(f, "unreadable header, or a request that is not served");
        return;
    }
    f->core->requests[f->api_key]++;
    f->api->start(f, &body);
}

bool flow_answer_begin(struct flow *f, struct wire_writer *w)
{
    int16_t header_version = api_response_header_version(f->api_key, f->api_version);
    uint64_t head = 8u + (header_version >= 1 ? 1u : 0u) + w->position;
    uint64_t total = head + w->spliced_bytes - 4;
    uint32_t splices_count = w->splices_count;
    if (total <= INT32_MAX) {
        f->head = arena_alloc(&f->arena, head);
        f->splices = arena_array(&f->arena, splices_count, sizeof(*f->splices));
    }
    if (f->head == NULL || f->splices == NULL) {
        flow_refuse(f, "no memory for the answer");
        return false;
    }
    f->head_size = (uint32_t)head;
    wire_writer_init(w, f->head, head);
    wire_writer_splice(w, f->splices, splices_count);
    wire_put_int32(w, (int32_t)total);
    wire_put_int32(w, f->correlation_id);
    if (header_version >= 1)
        wire_put_uvarint(w, 0); /* no tagged fields */
    return true;
}

void flow_answer_end(struct flow *f, struct wire_writer *w)
{
    assert(wire_writer_ok(w));
    assert(w->position == f->head_size);
    f->splices_count = w->splices_count;
    f->answer_bytes = w->position + w->spliced_bytes;
    f->conn->unsent_bytes += f->answer_bytes;
    conn_answered(f->conn, w->position);
    flow_end(f);
}
