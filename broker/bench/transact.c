/* Transactors: one connection each that ends one transaction after the other, as clients of either
 * generation of the protocol do. Every broker since 0.11 serves the first, Kafka since 4.0 both.
 *
 *   1   due ─▶ AddPartitionsToTxn ─▶ Produce, a batch for each partition ─▶ EndTxn ─▶ now - due
 *   2   due ─▶ Produce, which adds the partitions too ─▶ EndTxn, answered with the next epoch
 *               └ CONCURRENT_TRANSACTIONS: the one before is still being ended; again at once, for
 *                 that time belongs to it
 *
 * Some transactions are aborted on purpose. The sequence numbers of their payloads are used again
 * by the next, so that a reader who is shown an aborted record finds it repeated.
 *
 * Invariant: Kafka's sequence numbers go on over aborts (and begin anew with an epoch), those of
 * payloads do not.
 *
 * Failure modes: any error but the one above ends the load with its name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/bench/worker.h"
#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/add_partitions_to_txn.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/produce.h"

#define REQUEST_MS 30000

void transact_id(char *to, size_t size, uint64_t run, uint32_t number)
{
    (void)snprintf(to, size, "torc-bench-%llx-%u", (unsigned long long)run, number);
}

/* ---- requests -------------------------------------------------------------------------------- */

static int16_t version_of(const struct transactor *t, int16_t *key)
{
    const struct plan *p = t->worker->plan;
    switch (t->step) {
    case TRANSACT_ADDING:
        *key = API_ADD_PARTITIONS_TO_TXN;
        return p->add_version;
    case TRANSACT_WRITING:
        *key = API_PRODUCE;
        return p->produce_version;
    case TRANSACT_ENDING:
    case TRANSACT_IDLE:
        break;
    }
    *key = API_END_TXN;
    return p->end_version;
}

static uint32_t own_at(const struct transactor *t, uint32_t i)
{
    return (t->next + i) % t->share->own_count;
}

static void put_adding(const struct transactor *t, struct wire_writer *w, int16_t version)
{
    const struct plan *p = t->worker->plan;
    int32_t partitions[BENCH_BATCHES_MAX];
    struct add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    struct add_partitions_to_txn_request r;
    for (uint32_t i = 0; i < p->o.batches; i++)
        partitions[i] = (int32_t)t->share->own[own_at(t, i)];
    memset(&topic, 0, sizeof(topic));
    topic.name = wire_string_of(p->topic->name);
    topic.partitions = partitions;
    topic.partitions_count = (int32_t)p->o.batches;
    add_partitions_to_txn_request_init(&r);
    r.v3_and_below_transactional_id = wire_string_of(t->id);
    r.v3_and_below_producer_id = t->producer_id;
    r.v3_and_below_producer_epoch = t->epoch;
    r.v3_and_below_topics = &topic;
    r.v3_and_below_topics_count = 1;
    add_partitions_to_txn_request_encode(&r, w, version);
}

static void put_writing(const struct transactor *t, struct wire_writer *w, int16_t version)
{
    const struct plan *p = t->worker->plan;
    uint32_t size = t->worker->template.batch_size;
    struct produce_request_partition_produce_data data[BENCH_BATCHES_MAX];
    struct produce_request_topic_produce_data topic;
    struct produce_request r;
    for (uint32_t i = 0; i < p->o.batches; i++) {
        produce_request_partition_produce_data_init(&data[i]);
        data[i].index = (int32_t)t->share->own[own_at(t, i)];
        data[i].records =
            (struct wire_records){.data = t->batches + (size_t)i * size, .size = (int32_t)size};
    }
    produce_request_topic_produce_data_init(&topic);
    topic.name = wire_string_of(p->topic->name);
    topic.topic_id = p->topic->id;
    topic.partition_data = data;
    topic.partition_data_count = (int32_t)p->o.batches;
    produce_request_init(&r);
    r.transactional_id = wire_string_of(t->id);
    r.acks = BENCH_ACKS_ALL;
    r.timeout_ms = REQUEST_MS;
    r.topic_data = &topic;
    r.topic_data_count = 1;
    produce_request_encode(&r, w, version);
}

static void put_ending(const struct transactor *t, struct wire_writer *w, int16_t version)
{
    struct end_txn_request r;
    end_txn_request_init(&r);
    r.transactional_id = wire_string_of(t->id);
    r.producer_id = t->producer_id;
    r.producer_epoch = t->epoch;
    r.committed = !t->aborts;
    end_txn_request_encode(&r, w, version);
}

/* The request of the present step. */
static void transactor_put(struct bench_link *k, struct wire_writer *w)
{
    const struct transactor *t = container_of(k, struct transactor, link);
    if (t->step == TRANSACT_ADDING)
        put_adding(t, w, k->version);
    else if (t->step == TRANSACT_WRITING)
        put_writing(t, w, k->version);
    else
        put_ending(t, w, k->version);
}

static void transactor_ask(struct transactor *t)
{
    int16_t key, version = version_of(t, &key);
    if (!t->worker->failed)
        bench_link_ask(&t->link, key, version, transactor_put);
}

/* ---- a transaction --------------------------------------------------------------------------- */

static void stamp_batches(struct transactor *t)
{
    struct worker *w = t->worker;
    const struct bench_options *o = &w->plan->o;
    uint32_t size = w->template.batch_size;
    for (uint32_t i = 0; i < o->batches; i++) {
        uint32_t own = own_at(t, i);
        uint8_t *batch = t->batches + (size_t)i * size;
        struct payload_stamp s = {.first = {w->plan->run, t->due_ns, t->numbers[own], t->number},
                                  .wall_ms = io_wall_ms(w->io),
                                  .producer_id = t->producer_id,
                                  .producer_epoch = t->epoch,
                                  .base_sequence = t->sequences[own],
                                  .transactional = true,
                                  .chance = w->chance++ * 0x9e3779b97f4a7c15ull};
        payload_stamp(&w->template, batch, &s);
        payload_seal(batch, size);
        t->sequences[own] = (int32_t)(((uint32_t)t->sequences[own] + o->records) & INT32_MAX);
        if (!t->aborts)
            t->numbers[own] += o->records;
    }
}

static void transactor_begin(struct transactor *t, uint64_t due_ns)
{
    struct worker *w = t->worker;
    const struct bench_options *o = &w->plan->o;
    assert(t->step == TRANSACT_IDLE);
    t->due_ns = due_ns;
    t->begun_ns = io_clock_ns(w->io);
    t->aborts = (double)(io_random(w->io) % 10000) < o->aborts * 10000;
    stamp_batches(t);
    t->made++;
    t->step = w->plan->o.generation == 1 ? TRANSACT_ADDING : TRANSACT_WRITING;
    transactor_ask(t);
}

/* Begins what is due, or the next one in a closed loop, unless one is under way. */
static void transactor_next(struct transactor *t)
{
    const struct plan *p = t->worker->plan;
    if (t->step != TRANSACT_IDLE || !t->open || t->worker->failed)
        return;
    if (p->request_rate <= 0 && !t->worker->stopping) {
        transactor_begin(t, io_clock_ns(t->worker->io));
    } else if (t->owed > 0) {
        t->owed--;
        transactor_begin(
            t, plan_due_ns(p, t->worker->start_ns, t->made * p->senders_count + t->number));
    }
}

static void transactor_done(struct transactor *t, uint64_t now)
{
    struct worker *w = t->worker;
    struct bench_counts *c = &w->counts;
    const struct bench_options *o = &w->plan->o;
    struct bench_slice *slice = worker_slice(w, now);
    uint64_t records = t->aborts ? 0 : (uint64_t)o->records * o->batches;
    c->acknowledged += records;
    if (slice != NULL) {
        c->requests++;
        c->records += records;
        c->bytes += records * o->size;
        slice->records += records;
        slice->bytes += records * o->size;
        histogram_record(&slice->response, now - t->due_ns);
    }
    if (t->due_ns >= w->begin_ns && t->due_ns < w->end_ns) {
        histogram_record(&c->latency[LATENCY_RESPONSE], now - t->due_ns);
        histogram_record(&c->latency[LATENCY_SERVICE], now - t->begun_ns);
        histogram_record(&c->latency[LATENCY_SLIP], t->begun_ns - t->due_ns);
        histogram_record(&c->latency[LATENCY_END], now - t->ending_ns);
    }
    w->answered_ns = now;
    t->next = (t->next + o->batches) % t->share->own_count;
    t->step = TRANSACT_IDLE;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int16_t adding_error(const struct add_partitions_to_txn_response *r)
{
    for (int32_t i = 0; i < r->results_by_topic_v3_and_below_count; i++) {
        const struct add_partitions_to_txn_response_add_partitions_to_txn_topic_result *topic =
            &r->results_by_topic_v3_and_below[i];
        for (int32_t n = 0; n < topic->results_by_partition_count; n++)
            if (topic->results_by_partition[n].partition_error_code != KE_NONE)
                return topic->results_by_partition[n].partition_error_code;
    }
    return KE_NONE;
}

static int16_t writing_error(const struct produce_response *r)
{
    for (int32_t i = 0; i < r->responses_count; i++)
        for (int32_t n = 0; n < r->responses[i].partition_responses_count; n++)
            if (r->responses[i].partition_responses[n].error_code != KE_NONE)
                return r->responses[i].partition_responses[n].error_code;
    return KE_NONE;
}

/* false: it cannot be read. */
static bool answer_read(struct transactor *t, struct wire_reader *r, int16_t version,
                        int16_t *error)
{
    struct arena *arena = &t->worker->arena;
    if (t->step == TRANSACT_ADDING) {
        struct add_partitions_to_txn_response a;
        if (add_partitions_to_txn_response_decode(&a, r, version, arena) != 0)
            return false;
        *error = adding_error(&a);
        return true;
    }
    if (t->step == TRANSACT_WRITING) {
        struct produce_response a;
        if (produce_response_decode(&a, r, version, arena) != 0)
            return false;
        *error = writing_error(&a);
        return true;
    }
    struct end_txn_response a;
    if (end_txn_response_decode(&a, r, version, arena) != 0)
        return false;
    *error = a.error_code;
    if (a.error_code == KE_NONE && t->worker->plan->o.generation == 2) {
        t->producer_id = a.producer_id;
        t->epoch = a.producer_epoch;
        memset(t->sequences, 0, t->share->own_count * sizeof(*t->sequences));
    }
    return true;
}

static void transactor_answer(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct transactor *t = container_of(k, struct transactor, link);
    struct worker *w = t->worker;
    struct wire_reader r;
    int16_t error;
    uint64_t now = io_clock_ns(w->io);
    arena_release(&w->arena);
    if (!bench_link_answered(k, data, size, &w->arena, &r))
        return;
    if (!answer_read(t, &r, k->version, &error)) {
        bench_link_break(k, "an answer that cannot be read", 0);
        return;
    }
    if (error == KE_CONCURRENT_TRANSACTIONS) {
        w->counts.retried++;
        transactor_ask(t);
        return;
    }
    if (error != KE_NONE) {
        worker_fail(w, "%s in a transaction: %s", api_find(k->key)->name,
                    kafka_error_name((enum kafka_error)error));
        return;
    }
    if (t->step == TRANSACT_ENDING) {
        transactor_done(t, now);
        transactor_next(t);
        return;
    }
    t->step = t->step == TRANSACT_ADDING ? TRANSACT_WRITING : TRANSACT_ENDING;
    t->ending_ns = now;
    transactor_ask(t);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void transactor_opened(struct bench_link *k)
{
    struct transactor *t = container_of(k, struct transactor, link);
    t->open = true;
    worker_opened(t->worker);
}

static void transactor_broken(struct bench_link *k)
{
    struct transactor *t = container_of(k, struct transactor, link);
    worker_broken(t->worker, k, &t->worker->plan->topic->nodes[t->share->node]);
}

static bool transactor_start(struct worker *w, uint32_t number)
{
    const struct plan *p = w->plan;
    struct transactor *t = mem_zalloc(&w->mem, sizeof(*t));
    if (t == NULL)
        return false;
    w->transactors[w->senders_count++] = t;
    t->worker = w;
    t->number = number;
    t->share = &p->senders[number];
    t->producer_id = t->share->producer_id;
    t->epoch = t->share->producer_epoch;
    transact_id(t->id, sizeof(t->id), p->run, number);
    uint32_t own = t->share->own_count, size = w->template.batch_size;
    t->sequences = mem_zalloc(&w->mem, own * sizeof(*t->sequences));
    t->numbers = mem_zalloc(&w->mem, own * sizeof(*t->numbers));
    t->batches = mem_alloc(&w->mem, (size_t)p->o.batches * size);
    if (!worker_link(w, &t->link, 1) || t->sequences == NULL || t->numbers == NULL ||
        t->batches == NULL)
        return false;
    for (uint32_t i = 0; i < p->o.batches; i++)
        memcpy(t->batches + (size_t)i * size, w->template.batch, size);
    t->link.opened = transactor_opened;
    t->link.answer = transactor_answer;
    t->link.broken = transactor_broken;
    bench_link_open(&t->link, &p->topic->nodes[t->share->node]);
    return true;
}

static void transactor_due(struct worker *w, uint32_t i)
{
    w->transactors[i]->owed++;
    transactor_next(w->transactors[i]);
}

static void transactor_go_on(struct worker *w, uint32_t i)
{
    transactor_next(w->transactors[i]);
}

static bool transactor_idle(const struct worker *w, uint32_t i)
{
    return w->transactors[i]->owed == 0 && w->transactors[i]->step == TRANSACT_IDLE;
}

const struct role role_transactor = {transactor_start, transactor_due, transactor_go_on,
                                     transactor_idle};
