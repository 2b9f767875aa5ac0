/* Receivers: one connection each that reads its own partitions, one fetch at a time, without a
 * fetch session, and looks at every record.
 *
 *   fetch ─▶ answer ─▶ batches (checksum) ─▶ records ─▶ payload ─▶ stream of (run, producer):
 * ledger ▲                                                       └▶ now - due: end to end └── until
 * each position is where ORDER_GOAL said
 *
 * Invariants:
 *  1. A position never goes back, except for another pass over all; a record below it is skipped,
 *     as every client skips it.
 *  2. Each record is counted once: checked (with a payload) or foreign (without). Of a second or
 *     later pass only the checksums of batches are looked at: what it measures is the broker.
 *
 * Failure modes: an error of a partition, a batch with a wrong checksum or records that cannot be
 * read are counted as damaged or end the load with the error's name. A partition with more than
 * STREAMS_MAX producers: the others count as foreign. */
#include <errno.h>
#include <string.h>

#include "broker/bench/worker.h"
#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/fetch.h"
#include "proto/record.h"

#define STREAMS_FIRST 8u
#define UNPACKED_MAX  (1u << 29)

/* ---- streams --------------------------------------------------------------------------------- */

struct stream *reading_stream(struct reading *p, uint64_t run, uint32_t producer)
{
    /* Producers mostly come in the same order again. */
    for (uint32_t i = 0; i < p->streams_count; i++) {
        uint32_t at = (p->last + i) % p->streams_count;
        struct stream *s = &p->streams[at];
        if (s->producer == producer && s->run == run) {
            p->last = at;
            return s;
        }
    }
    return NULL;
}

static struct stream *stream_new(struct reading *p, struct mem *mem, const struct payload *found,
                                 uint64_t first)
{
    if (p->streams_count == p->streams_room) {
        uint32_t room = MAX(p->streams_room * 2, STREAMS_FIRST);
        if (room > STREAMS_MAX)
            return NULL;
        struct stream *grown =
            mem_realloc(mem, p->streams, p->streams_room * sizeof(*grown), room * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        p->streams = grown;
        p->streams_room = room;
    }
    struct stream *s = &p->streams[p->streams_count++];
    *s = (struct stream){.run = found->run, .producer = found->producer};
    ledger_init(&s->ledger, mem, first);
    return s;
}

void reading_take(struct reading *p, struct mem *mem, struct bench_counts *counts, uint64_t run,
                  const uint8_t *value, uint32_t size, struct payload *found)
{
    bool damaged;
    found->run = 0;
    if (!payload_read(found, value, size, &damaged)) {
        counts->damaged += damaged;
        counts->foreign += !damaged;
        found->run = 0;
        return;
    }
    struct stream *s = reading_stream(p, found->run, found->producer);
    /* Of another run we may see but the rest: what retention left. */
    if (s == NULL)
        s = stream_new(p, mem, found, found->run == run ? 0 : found->sequence);
    if (s == NULL) {
        counts->foreign++;
        return;
    }
    uint64_t repeated = s->ledger.repeated, disordered = s->ledger.disordered;
    counts->checked++;
    if (!ledger_take(&s->ledger, found->sequence))
        counts->damaged++;
    counts->repeated += s->ledger.repeated - repeated;
    counts->disordered += s->ledger.disordered - disordered;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void record_taken(struct receiver *r, struct reading *p, const struct record *record,
                         uint64_t now)
{
    struct worker *w = r->worker;
    struct bench_counts *c = &w->counts;
    struct payload found;
    uint32_t size = record->value.data == NULL ? 0 : record->value.size;
    reading_take(p, &w->mem, c, w->plan->run, record->value.data, size, &found);
    struct bench_slice *slice = worker_slice(w, now);
    bool reads_old = w->plan->o.kind == BENCH_CONSUME;
    if (slice != NULL || reads_old) {
        c->read_records++;
        c->read_bytes += size;
    }
    if (slice != NULL)
        slice->read_records++;
    if (found.run != w->plan->run || reads_old)
        return;
    uint64_t waited = now > found.due_ns ? now - found.due_ns : 0;
    if (found.due_ns >= w->begin_ns && found.due_ns < w->end_ns)
        histogram_record(&c->latency[LATENCY_E2E], waited);
    if (slice != NULL)
        histogram_record(&slice->e2e, waited);
}

static void batch_taken(struct receiver *r, struct reading *p, const uint8_t *batch,
                        const struct batch_header *h, uint64_t now)
{
    struct worker *w = r->worker;
    struct record_iter it;
    struct record record;
    int64_t last = batch_last_offset(h);
    if (last < p->position)
        return;
    if (r->passes > 0 && batch_crc_matches(batch, h->size)) {
        w->counts.read_records += (uint64_t)h->record_count;
        w->counts.read_bytes += h->size;
        p->position = last + 1;
        return;
    }
    if (!batch_crc_matches(batch, h->size) ||
        record_open(&w->compress, batch, h, UNPACKED_MAX, &it) != COMPRESS_OK) {
        w->counts.damaged += (uint32_t)MAX(h->record_count, 1);
        p->position = last + 1;
        return;
    }
    while (!batch_has(h, BATCH_CONTROL) && record_next(&it, &record))
        if (h->base_offset + record.offset_delta >= p->position)
            record_taken(r, p, &record, now);
    if (!batch_has(h, BATCH_CONTROL) && it.malformed)
        w->counts.damaged++;
    p->position = last + 1;
}

static struct reading *reading_of(struct receiver *r, int32_t partition)
{
    /* Own partitions rise. */
    uint32_t low = 0, high = r->share->own_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((int32_t)r->readings[middle].partition < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->share->own_count && (int32_t)r->readings[low].partition == partition
               ? &r->readings[low]
               : NULL;
}

/* Readers of committed records are told which transactions were aborted, and leave them out: from
 * the first record of each to its marker. */
static bool batch_aborted(struct reading *p, const struct fetch_response_partition_data *d,
                          const uint8_t *batch, const struct batch_header *h)
{
    for (int32_t i = 0; i < d->aborted_transactions_count; i++) {
        const struct fetch_response_aborted_transaction *a = &d->aborted_transactions[i];
        bool known = false;
        for (uint32_t n = 0; n < p->aborted_count; n++)
            known |= p->aborted[n] == a->producer_id;
        /* An entry counts once: behind its marker it is over. */
        if (!known && a->first_offset == h->base_offset && p->aborted_count < ABORTED_MAX)
            p->aborted[p->aborted_count++] = a->producer_id;
    }
    for (uint32_t n = 0; n < p->aborted_count; n++) {
        enum batch_control type;
        int32_t epoch;
        if (p->aborted[n] != h->producer_id)
            continue;
        if (batch_has(h, BATCH_CONTROL) && batch_read_control(batch, h->size, &type, &epoch))
            p->aborted[n] = p->aborted[--p->aborted_count];
        return true;
    }
    return false;
}

static void partition_taken(struct receiver *r, const struct fetch_response_partition_data *d,
                            uint64_t now)
{
    struct reading *p = reading_of(r, d->partition_index);
    if (p == NULL) {
        bench_link_break(&r->link, "a fetch was answered for another partition", 0);
        return;
    }
    if (d->error_code != KE_NONE) {
        worker_fail(r->worker, "fetching partition %d: %s", d->partition_index,
                    kafka_error_name((enum kafka_error)d->error_code));
        return;
    }
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    batch_iter_init(&it, d->records.data, d->records.size > 0 ? (size_t)d->records.size : 0);
    bool committed = r->worker->plan->o.kind == BENCH_TXN;
    while (batch_next(&it, &batch, &h)) {
        if (committed && batch_last_offset(&h) >= p->position && batch_aborted(p, d, batch, &h))
            p->position = batch_last_offset(&h) + 1;
        else
            batch_taken(r, p, batch, &h, now);
    }
    if (it.stopped == BATCH_MALFORMED || it.stopped == BATCH_OLD)
        worker_fail(r->worker, "partition %d holds what is no batch of magic 2",
                    d->partition_index);
}

void receiver_look(struct receiver *r)
{
    if (r->worker->ends == NULL || r->done)
        return;
    for (uint32_t i = 0; i < r->share->own_count; i++)
        if (r->readings[i].position < r->worker->ends[r->readings[i].partition])
            return;
    if (++r->passes < r->worker->plan->o.passes) {
        for (uint32_t i = 0; i < r->share->own_count; i++)
            r->readings[i].position = r->worker->plan->read_from[r->readings[i].partition];
        return;
    }
    r->done = true;
    r->worker->receivers_done++;
}

static void receiver_answer(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct receiver *r = container_of(k, struct receiver, link);
    struct worker *w = r->worker;
    struct wire_reader reader;
    struct fetch_response response;
    uint64_t now = io_clock_ns(w->io);
    arena_release(&w->arena);
    if (!bench_link_answered(k, data, size, &w->arena, &reader))
        return;
    if (fetch_response_decode(&response, &reader, k->version, &w->arena) != 0 ||
        response.responses_count > 1) {
        bench_link_break(k, "an answer that cannot be read", 0);
        return;
    }
    if (response.error_code != KE_NONE) {
        worker_fail(w, "fetch: %s", kafka_error_name((enum kafka_error)response.error_code));
        return;
    }
    w->counts.fetches++;
    histogram_record(&w->counts.latency[LATENCY_FETCH], now - k->asked_ns);
    for (int32_t i = 0; i < response.responses_count; i++)
        for (int32_t n = 0; n < response.responses[i].partitions_count; n++)
            partition_taken(r, &response.responses[i].partitions[n], now);
    receiver_look(r);
    receiver_pump(r);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void fetch_put(struct bench_link *k, struct wire_writer *w)
{
    const struct receiver *r = container_of(k, struct receiver, link);
    const struct plan *p = r->worker->plan;
    uint32_t count = r->share->own_count;
    struct fetch_request_fetch_topic topic;
    struct fetch_request request;
    fetch_request_fetch_topic_init(&topic);
    topic.topic = wire_string_of(p->topic->name);
    topic.topic_id = p->topic->id;
    topic.partitions = r->asks;
    topic.partitions_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        fetch_request_fetch_partition_init(&r->asks[i]);
        r->asks[i].partition = (int32_t)r->readings[i].partition;
        r->asks[i].fetch_offset = r->readings[i].position;
        r->asks[i].partition_max_bytes = (int32_t)p->o.partition_bytes;
    }
    fetch_request_init(&request);
    request.max_wait_ms = (int32_t)p->o.fetch_wait_ms;
    request.min_bytes = 1;
    request.isolation_level = p->o.kind == BENCH_TXN; /* 1: only what is committed */
    request.max_bytes = (int32_t)p->o.fetch_bytes;
    request.topics = &topic;
    request.topics_count = 1;
    request.rack_id = wire_string_of("");
    fetch_request_encode(&request, w, k->version);
}

void receiver_pump(struct receiver *r)
{
    struct worker *w = r->worker;
    if (r->open && !r->done && !r->link.asking && !w->failed && w->started)
        bench_link_ask(&r->link, API_FETCH, w->plan->fetch_version, fetch_put);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void receiver_opened(struct bench_link *k)
{
    struct receiver *r = container_of(k, struct receiver, link);
    r->open = true;
    worker_opened(r->worker);
}

static void receiver_broken(struct bench_link *k)
{
    struct receiver *r = container_of(k, struct receiver, link);
    worker_broken(r->worker, k, &r->worker->plan->topic->nodes[r->share->node]);
}

bool receiver_start(struct worker *w, struct receiver **made, uint32_t number)
{
    const struct plan *p = w->plan;
    struct receiver *r = mem_zalloc(&w->mem, sizeof(*r));
    *made = r;
    if (r == NULL)
        return false;
    r->worker = w;
    r->share = &p->receivers[number];
    r->readings = mem_zalloc(&w->mem, r->share->own_count * sizeof(*r->readings));
    r->asks = mem_alloc(&w->mem, r->share->own_count * sizeof(*r->asks));
    if (!worker_link(w, &r->link, 1) || r->readings == NULL || r->asks == NULL)
        return false;
    for (uint32_t i = 0; i < r->share->own_count; i++) {
        uint32_t partition = r->share->own[i];
        assert(i == 0 || partition > r->share->own[i - 1]);
        r->readings[i].partition = partition;
        r->readings[i].position = p->read_from[partition];
    }
    r->link.opened = receiver_opened;
    r->link.answer = receiver_answer;
    r->link.broken = receiver_broken;
    bench_link_open(&r->link, &p->topic->nodes[r->share->node]);
    return true;
}
