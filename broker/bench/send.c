/* Senders: one connection each that produces to its own partitions, on the timetable or as fast as
 * its window allows.
 *
 *   due ─▶ slot: batches stamped, head encoded ─▶ one sendmsg for many slots ─▶ answer, in order
 *          made                                   begun ... sent                 ended
 *
 * A request carries `batches` batches, each for another partition of its own. A slot keeps its
 * batches: they are copies of the template in which a send changes only what is different. With a
 * codec they are packed: once, without payload, where nobody reads (produce); at each send, where
 * somebody does.
 *
 * Invariants:
 *  1. Every answer has the correlation id of the oldest request under way.
 *  2. Within a connection, base offsets of one partition rise, and lie a batch apart from the end
 *     offset before the load: spread.
 *  3. The n-th request of sender c is due at start + (n * senders + c) / rate, whenever it is made.
 *
 * Failure modes: an error of a batch is counted and the load goes on; an answer that cannot be read
 * or was not asked for ends the load. */
#include <errno.h>
#include <string.h>

#include "broker/bench/worker.h"
#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/header.h"
#include "proto/gen/produce.h"

#define REQUEST_MS     30000
#define SEND_BYTES_MAX (8u << 20)
#define INDEX_ROOM     8u /* a partition's number and length never take more */
#define IOV_MAX        512u
#define PIECES         2u /* of a batch in the vector: what stands before it, and itself */

struct send_slot {
    uint64_t due_ns, sent_ns, size; /* of the frame */
    int32_t correlation;
    uint32_t first; /* index of its first partition in the sender's own */
    uint8_t *head;  /* the frame but for the batches */
    uint64_t head_size, head_room;
    struct wire_splice *splices;
    struct wire_piece *pieces; /* one per batch */
    uint32_t *rooms;           /* bytes each batch may take */
    bool packed;               /* its batches are packed for good */
};

_Static_assert(BENCH_BATCHES_MAX *PIECES + 1 <= IOV_MAX, "a whole request fits into a vector");

uint64_t plan_due_ns(const struct plan *p, uint64_t start_ns, uint64_t number)
{
    assert(p->request_rate > 0);
    return start_ns + (uint64_t)((double)number * (double)NS_PER_S / p->request_rate);
}

/* ---- what to send ---------------------------------------------------------------------------- */

static uint8_t *piece_bytes(const struct wire_piece *piece)
{
    return (uint8_t *)(uintptr_t)piece->data;
}

/* Packs a stamped template into the slot's batch. */
static bool batch_pack(struct worker *w, struct send_slot *slot, uint32_t i, const uint8_t *plain)
{
    const struct payload_template *t = &w->template;
    uint8_t *packed;
    uint32_t size;
    enum codec codec = w->plan->o.codec;
    if (compress_pack(&w->compress, codec, COMPRESS_LEVEL_DEFAULT, plain + BATCH_HEADER_SIZE,
                      t->batch_size - BATCH_HEADER_SIZE, BATCH_HEADER_SIZE, &packed,
                      &size) != COMPRESS_OK)
        return false;
    uint32_t whole = size + BATCH_HEADER_SIZE;
    struct wire_piece *piece = &slot->pieces[i];
    if (whole > slot->rooms[i]) {
        uint8_t *grown = mem_realloc(&w->mem, piece_bytes(piece), slot->rooms[i], whole);
        if (grown == NULL)
            return false;
        piece->data = grown;
        slot->rooms[i] = whole;
    }
    uint8_t *batch = piece_bytes(piece);
    memcpy(batch, plain, BATCH_HEADER_SIZE);
    memcpy(batch + BATCH_HEADER_SIZE, packed, size);
    struct batch_bytes *head = (struct batch_bytes *)(void *)batch;
    wire_store32(head->length, whole - BATCH_PREFIX_SIZE);
    head->attributes[1] = (uint8_t)((head->attributes[1] & ~BATCH_CODEC_MASK) | (uint8_t)codec);
    piece->size = whole;
    return true;
}

static struct payload_stamp stamp_of(struct sender *s, uint32_t own, uint64_t due_ns)
{
    struct worker *w = s->worker;
    bool idempotent = w->plan->o.idempotent;
    struct payload_stamp stamp = {
        .first = {w->plan->run, due_ns, s->numbers[own], s->number},
        .wall_ms = io_wall_ms(w->io),
        .producer_id = idempotent ? s->share->producer_id : BATCH_NO_PRODUCER_ID,
        .producer_epoch = idempotent ? s->share->producer_epoch : (int16_t)-1,
        .base_sequence = idempotent ? s->sequences[own] : BATCH_NO_SEQUENCE,
        .chance = w->chance++ * 0x9e3779b97f4a7c15ull};
    return stamp;
}

/* Batch i of a slot, for partition own[own]. */
static bool batch_fill(struct sender *s, struct send_slot *slot, uint32_t i, uint32_t own)
{
    struct worker *w = s->worker;
    const struct payload_template *t = &w->template;
    const struct bench_options *o = &w->plan->o;
    struct payload_stamp stamp = stamp_of(s, own, slot->due_ns);
    struct wire_piece *piece = &slot->pieces[i];
    if (o->codec == CODEC_NONE) {
        payload_stamp(t, piece_bytes(piece), &stamp);
    } else if (o->kind == BENCH_PRODUCE && slot->packed) {
        struct payload_template head_only = {.batch_size = BATCH_HEADER_SIZE};
        payload_stamp(&head_only, piece_bytes(piece), &stamp);
    } else {
        if (o->kind != BENCH_PRODUCE)
            payload_stamp(t, t->batch, &stamp);
        if (!batch_pack(w, slot, i, t->batch))
            return false;
        if (o->kind == BENCH_PRODUCE) {
            struct payload_template head_only = {.batch_size = BATCH_HEADER_SIZE};
            payload_stamp(&head_only, piece_bytes(piece), &stamp);
        }
    }
    payload_seal(piece_bytes(piece), piece->size);
    s->numbers[own] += o->records;
    /* Kafka's sequence numbers go from INT32_MAX to 0. */
    s->sequences[own] = (int32_t)(((uint32_t)s->sequences[own] + o->records) & INT32_MAX);
    return true;
}

static void request_put(const struct plan *p, const struct send_slot *slot,
                        const struct produce_request *request, struct wire_writer *w)
{
    struct request_header header = {.request_api_key = API_PRODUCE,
                                    .request_api_version = p->produce_version,
                                    .correlation_id = slot->correlation,
                                    .client_id = wire_string_of(BENCH_CLIENT_NAME)};
    wire_put_int32(w, 0); /* the length, set when it is known */
    request_header_encode(&header, w, api_request_header_version(API_PRODUCE, p->produce_version));
    produce_request_encode(request, w, p->produce_version);
}

static bool slot_encode(struct sender *s, struct send_slot *slot)
{
    const struct plan *p = s->worker->plan;
    uint32_t count = p->o.batches;
    struct produce_request_partition_produce_data data[BENCH_BATCHES_MAX];
    struct produce_request_topic_produce_data topic;
    struct produce_request request;
    produce_request_topic_produce_data_init(&topic);
    topic.name = wire_string_of(p->topic->name);
    topic.topic_id = p->topic->id;
    topic.partition_data = data;
    topic.partition_data_count = (int32_t)count;
    produce_request_init(&request);
    request.acks = p->o.acks;
    request.timeout_ms = REQUEST_MS;
    request.topic_data = &topic;
    request.topic_data_count = 1;
    for (uint32_t i = 0; i < count; i++) {
        produce_request_partition_produce_data_init(&data[i]);
        data[i].index = (int32_t)s->share->own[(slot->first + i) % s->share->own_count];
        data[i].records = (struct wire_records){.pieces = &slot->pieces[i], .pieces_count = 1};
    }
    struct wire_writer w = {0};
    if (slot->head == NULL) {
        request_put(p, slot, &request, &w);
        slot->head_room = w.position + (size_t)count * INDEX_ROOM;
        slot->head = mem_alloc(&s->worker->mem, slot->head_room);
        if (slot->head == NULL)
            return false;
    }
    wire_writer_init(&w, slot->head, slot->head_room);
    wire_writer_splice(&w, slot->splices, count);
    request_put(p, slot, &request, &w);
    assert(wire_writer_ok(&w) && w.splices_count == count);
    slot->head_size = w.position;
    slot->size = w.position + w.spliced_bytes;
    wire_store32(slot->head, (uint32_t)(slot->size - sizeof(uint32_t)));
    return true;
}

/* First use: memory for its batches. */
static bool slot_init(struct sender *s, struct send_slot *slot)
{
    struct worker *w = s->worker;
    uint32_t count = w->plan->o.batches;
    slot->pieces = mem_zalloc(&w->mem, count * sizeof(*slot->pieces));
    slot->splices = mem_zalloc(&w->mem, count * sizeof(*slot->splices));
    slot->rooms = mem_zalloc(&w->mem, count * sizeof(*slot->rooms));
    if (slot->pieces == NULL || slot->splices == NULL || slot->rooms == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *batch = mem_alloc(&w->mem, w->template.batch_size);
        if (batch == NULL)
            return false;
        memcpy(batch, w->template.batch, w->template.batch_size);
        slot->pieces[i] = (struct wire_piece){batch, w->template.batch_size};
        slot->rooms[i] = w->template.batch_size;
    }
    return true;
}

/* The sender's next request; there is room in its window. */
static void sender_make(struct sender *s, uint64_t due_ns)
{
    struct worker *w = s->worker;
    const struct bench_options *o = &w->plan->o;
    assert(s->made - s->ended < o->in_flight);
    struct send_slot *slot = &s->slots[s->made % o->in_flight];
    bool good = slot->pieces != NULL || slot_init(s, slot);
    slot->correlation = (int32_t)(s->made & INT32_MAX);
    slot->due_ns = due_ns;
    slot->first = s->next;
    for (uint32_t i = 0; i < o->batches && good; i++)
        good = batch_fill(s, slot, i, (slot->first + i) % s->share->own_count);
    slot->packed = true;
    s->next = (s->next + o->batches) % s->share->own_count;
    if (!good || !slot_encode(s, slot)) {
        worker_fail(w, "no memory for a request");
        return;
    }
    s->made++;
    if (list_empty(&s->dirty))
        list_push_back(&w->dirty, &s->dirty);
}

static void sender_refill(struct sender *s)
{
    const struct plan *p = s->worker->plan;
    while (s->owed > 0 && s->made - s->ended < p->o.in_flight && !s->worker->failed) {
        s->owed--;
        sender_make(s, plan_due_ns(p, s->worker->start_ns, s->made * p->senders_count + s->number));
    }
}

/* More requests, as far as its window and the plan allow. */
static void sender_fill(struct sender *s)
{
    const struct plan *p = s->worker->plan;
    if (p->request_rate > 0) {
        sender_refill(s);
        return;
    }
    while (s->made - s->ended < p->o.in_flight && !s->worker->failed && !s->worker->stopping &&
           (p->requests_each == 0 || s->made < p->requests_each))
        sender_make(s, io_clock_ns(s->worker->io));
}

/* ---- sending --------------------------------------------------------------------------------- */

static uint32_t slot_gather(const struct send_slot *slot, uint32_t batches, struct iovec *iov)
{
    uint32_t count = 0;
    uint64_t at = 0;
    for (uint32_t i = 0; i < batches; i++) {
        iov[count++] = (struct iovec){slot->head + at, slot->splices[i].position - at};
        iov[count++] = (struct iovec){piece_bytes(&slot->pieces[i]), slot->pieces[i].size};
        at = slot->splices[i].position;
    }
    if (slot->head_size > at)
        iov[count++] = (struct iovec){slot->head + at, slot->head_size - at};
    return count;
}

void sender_flush(struct sender *s)
{
    const struct bench_options *o = &s->worker->plan->o;
    if (!s->open || bench_link_sending(&s->link) || s->link.failed || s->begun == s->made)
        return;
    uint32_t count = 0;
    uint64_t bytes = 0, now = io_clock_ns(s->worker->io);
    while (s->begun < s->made && count + PIECES * o->batches + 1 <= IOV_MAX &&
           (bytes == 0 || bytes < SEND_BYTES_MAX)) {
        struct send_slot *slot = &s->slots[s->begun++ % o->in_flight];
        slot->sent_ns = now;
        count += slot_gather(slot, o->batches, s->link.iov + count);
        bytes += slot->size;
    }
    bench_link_send(&s->link, count);
}

/* One request is over: acknowledged, or sent where no acknowledgement comes. */
static void slot_end(struct sender *s, const struct send_slot *slot, uint64_t now)
{
    struct worker *w = s->worker;
    struct bench_counts *c = &w->counts;
    struct bench_slice *slice = worker_slice(w, now);
    if (slice != NULL) {
        c->requests++;
        histogram_record(&slice->response, now - slot->due_ns);
    }
    if (slot->due_ns >= w->begin_ns && slot->due_ns < w->end_ns) {
        histogram_record(&c->latency[LATENCY_RESPONSE], now - slot->due_ns);
        histogram_record(&c->latency[LATENCY_SERVICE], now - slot->sent_ns);
        histogram_record(&c->latency[LATENCY_SLIP], slot->sent_ns - slot->due_ns);
    }
    s->ended++;
    w->answered_ns = now;
}

static void batch_counted(struct worker *w, uint64_t now)
{
    const struct bench_options *o = &w->plan->o;
    struct bench_slice *slice = worker_slice(w, now);
    w->counts.acknowledged += o->records;
    if (slice == NULL)
        return;
    uint64_t bytes = (uint64_t)o->records * o->size;
    w->counts.batches++;
    w->counts.records += o->records;
    w->counts.bytes += bytes;
    slice->records += o->records;
    slice->bytes += bytes;
}

static void sender_sent(struct bench_link *k)
{
    struct sender *s = container_of(k, struct sender, link);
    const struct bench_options *o = &s->worker->plan->o;
    uint64_t now = io_clock_ns(s->worker->io);
    while (s->sent < s->begun) {
        const struct send_slot *slot = &s->slots[s->sent++ % o->in_flight];
        if (o->acks != 0)
            continue;
        for (uint32_t i = 0; i < o->batches; i++)
            batch_counted(s->worker, now);
        slot_end(s, slot, now);
    }
    if (o->acks == 0)
        sender_fill(s);
    sender_flush(s);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Where a partition stands in the sender's own; own_count if it was not in this request. Brokers
 * answer in any order. */
static uint32_t slot_own(const struct sender *s, const struct send_slot *slot, int32_t partition)
{
    const struct sharing *share = s->share;
    for (uint32_t i = 0; i < s->worker->plan->o.batches; i++) {
        uint32_t own = (slot->first + i) % share->own_count;
        if ((int32_t)share->own[own] == partition)
            return own;
    }
    return share->own_count;
}

static void answer_judge(struct sender *s, const struct send_slot *slot, uint64_t now,
                         const struct produce_response_partition_produce_response *r)
{
    struct worker *w = s->worker;
    if (r->error_code != KE_NONE) {
        if (w->counts.errors++ == 0)
            w->counts.first_error = r->error_code;
        return;
    }
    uint32_t own = slot_own(s, slot, r->index);
    int64_t behind = own == s->share->own_count ? -1 : r->base_offset - w->plan->starts[r->index];
    if (behind < 0 || behind % w->plan->o.records != 0 || r->base_offset <= s->highest[own]) {
        w->counts.misplaced++;
        return;
    }
    s->highest[own] = r->base_offset;
    spread_take(&w->spreads[r->index], (uint64_t)behind / w->plan->o.records);
    batch_counted(w, now);
}

static void sender_answer(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct sender *s = container_of(k, struct sender, link);
    struct worker *w = s->worker;
    const struct plan *p = w->plan;
    struct wire_reader r;
    struct response_header header;
    struct produce_response response;
    uint64_t now = io_clock_ns(w->io);
    if (s->ended == s->begun) {
        bench_link_break(k, "an answer that nobody asked for", 0);
        return;
    }
    const struct send_slot *slot = &s->slots[s->ended % p->o.in_flight];
    arena_release(&w->arena);
    wire_reader_init(&r, data, size);
    if (response_header_decode(&header, &r,
                               api_response_header_version(API_PRODUCE, p->produce_version),
                               &w->arena) != 0 ||
        produce_response_decode(&response, &r, p->produce_version, &w->arena) != 0 ||
        header.correlation_id != slot->correlation || response.responses_count != 1 ||
        response.responses[0].partition_responses_count != (int32_t)p->o.batches) {
        bench_link_break(k, "an answer that is not to what was asked", 0);
        return;
    }
    for (uint32_t i = 0; i < p->o.batches; i++)
        answer_judge(s, slot, now, &response.responses[0].partition_responses[i]);
    slot_end(s, slot, now);
    sender_fill(s);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void sender_opened(struct bench_link *k)
{
    struct sender *s = container_of(k, struct sender, link);
    s->open = true;
    worker_opened(s->worker);
}

static void sender_broken(struct bench_link *k)
{
    struct sender *s = container_of(k, struct sender, link);
    worker_broken(s->worker, k, &s->worker->plan->topic->nodes[s->share->node]);
}

static bool sender_start(struct worker *w, uint32_t number)
{
    const struct plan *p = w->plan;
    struct sender *s = mem_zalloc(&w->mem, sizeof(*s));
    if (s == NULL)
        return false;
    w->senders[w->senders_count++] = s;
    s->worker = w;
    s->number = number;
    s->share = &p->senders[number];
    list_init(&s->dirty);
    uint32_t own = s->share->own_count;
    s->slots = mem_zalloc(&w->mem, p->o.in_flight * sizeof(*s->slots));
    s->highest = mem_zalloc(&w->mem, own * sizeof(*s->highest));
    s->sequences = mem_zalloc(&w->mem, own * sizeof(*s->sequences));
    s->numbers = mem_zalloc(&w->mem, own * sizeof(*s->numbers));
    if (!worker_link(w, &s->link, IOV_MAX) || s->slots == NULL || s->highest == NULL ||
        s->sequences == NULL || s->numbers == NULL)
        return false;
    memset(s->highest, 0xff, own * sizeof(*s->highest));
    s->link.opened = sender_opened;
    s->link.sent = sender_sent;
    s->link.answer = sender_answer;
    s->link.broken = sender_broken;
    bench_link_open(&s->link, &p->topic->nodes[s->share->node]);
    return true;
}

static void sender_due(struct worker *w, uint32_t i)
{
    w->senders[i]->owed++;
    sender_refill(w->senders[i]);
}

static void sender_go_on(struct worker *w, uint32_t i)
{
    sender_fill(w->senders[i]);
}

static bool sender_idle(const struct worker *w, uint32_t i)
{
    return w->senders[i]->ended == w->senders[i]->made && w->senders[i]->owed == 0;
}

const struct role role_sender = {sender_start, sender_due, sender_go_on, sender_idle};
