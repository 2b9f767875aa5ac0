/* A load from beginning to end, as its main thread sees it.
 *
 *   topic, leaders, offsets, producer ids ─▶ plan ─▶ threads connect ─▶ start + window ─▶ drained
 *     ─▶ receivers get to the ends ─▶ threads end ─▶ counts merged ─▶ accounts checked
 *
 * What is checked in the end, in every load:
 *  1. Per partition, acknowledged batches took the offsets start, start + records, ... each once,
 *     and the end offset the broker then tells is behind the last (so nobody else wrote there).
 *  2. Where somebody reads: of each sender and partition every sequence number that was
 * acknowledged was met, once, in order, undamaged; and each offset that lies there was read.
 *
 * Failure modes: anything that breaks a connection, refuses a request kind or does not come is one
 * sentence and no result. Refused batches and broken accounts are results, but not sound ones. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/bench/progress.h"
#include "broker/bench/worker.h"
#include "proto/error.h"
#include "proto/gen/find_coordinator.h"
#include "proto/gen/init_producer_id.h"

#define THREAD_SHARE      4u /* of the memory, for all threads */
#define START_NS          (20 * NS_PER_MS)
#define LOOK_NS           (20 * NS_PER_MS)
#define READY_NS          (120 * NS_PER_S)
#define READ_NS           (60 * NS_PER_S) /* without getting on */
#define POLL_BUDGET       256u
#define NEWS_AT           64u
#define ORDER_SLOTS       8u
#define KEY_GROUP         0 /* of FindCoordinator */
#define KEY_TRANSACTION   1
#define COORDINATORS_FROM 4  /* FindCoordinator asks for several from this version on */
#define TXN_PRODUCE_MAX   11 /* newest versions that are of the first generation: one more is 2 */
#define TXN_ADD_MAX       3
#define TXN_END_MAX       4
#define ID_TIMEOUT_MS     60000
#define ID_TRIES          300u /* a node that has just started hands out ids a little later */
#define ID_PAUSE_MS       100u
#define SLICES_WANTED     60u
#define SLICE_NS_MIN      (50 * NS_PER_MS)
#define FOREVER_S         1e6
#define SETTLE_LOOKS      300u
#define SETTLE_STILL      3u
#define SETTLE_MS         50u

const char *const bench_latency_names[LATENCIES] = {"response", "service", "slip",     "end to end",
                                                    "fetch",    "ending",  "heartbeat"};

struct run {
    struct io *io;
    struct mem *mem;
    struct bench_result *result;
    struct bench_client client;
    struct bench_topic topic;
    struct plan plan;
    struct worker *workers;
    struct order orders[ORDER_SLOTS]; /* written once each, before they are handed out */
    uint32_t orders_used;
    uint32_t ready, sent, read;
    uint32_t slices_told[BENCH_SLICES_MAX]; /* by how many threads */
    int64_t *ends;
    uint64_t start_ns, begin_ns, end_ns, read_ns;
    bool failed, began, ended;
    struct progress progress;
};

static bool run_fail(struct run *r, const char *text)
{
    if (r->result->why[0] == '\0')
        (void)snprintf(r->result->why, sizeof(r->result->why), "%s", text);
    return false;
}

static bool writes(enum bench_kind kind)
{
    return kind == BENCH_PRODUCE || kind == BENCH_E2E || kind == BENCH_CATCH_UP ||
           kind == BENCH_TXN;
}

static bool reads(const struct bench_options *o)
{
    return o->kind == BENCH_CONSUME || o->kind == BENCH_E2E || o->kind == BENCH_CATCH_UP ||
           (o->kind == BENCH_TXN && o->consumers > 0);
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Connection `number` of `count`: which partitions of which leader. Nodes that lead something are
 * taken in turn; the partitions of one are dealt to its connections, or shared where there are
 * fewer of them. */
static bool share_deal(struct run *r, struct sharing *s, uint32_t number, uint32_t count)
{
    const struct bench_topic *t = &r->topic;
    uint32_t led[BENCH_NODES_MAX] = {0}, nodes[BENCH_NODES_MAX], nodes_count = 0;
    for (uint32_t i = 0; i < t->partitions_count; i++)
        led[t->leaders[i]]++;
    for (uint32_t i = 0; i < t->nodes_count; i++)
        if (led[i] > 0)
            nodes[nodes_count++] = i;
    assert(nodes_count > 0);
    s->node = nodes[number % nodes_count];
    uint32_t mine = number / nodes_count;
    uint32_t others = (count + nodes_count - 1 - number % nodes_count) / nodes_count;
    uint32_t partitions = led[s->node];
    assert(others > 0);
    assert(partitions > 0);
    bool shared = partitions < others;
    s->own_count = shared ? 1 : (partitions - mine + others - 1) / others;
    s->own = mem_zalloc(r->mem, s->own_count * sizeof(*s->own));
    if (s->own == NULL)
        return run_fail(r, "no memory");
    uint32_t at = 0, seen = 0;
    for (uint32_t i = 0; i < t->partitions_count; i++) {
        if (t->leaders[i] != s->node)
            continue;
        if (shared ? seen == mine % partitions : seen % others == mine)
            s->own[at++] = i;
        seen++;
    }
    assert(at == s->own_count);
    return true;
}

/* Asking who coordinates also makes the topic that coordinators need. */
static bool coordinator_ready(struct run *r, int8_t key_type, const char *id)
{
    struct wire_string key = wire_string_of(id);
    struct find_coordinator_request request;
    struct find_coordinator_response response;
    for (uint32_t i = 0; i < ID_TRIES; i++) {
        find_coordinator_request_init(&request);
        request.key_type = key_type;
        bool several = r->client.versions[API_FIND_COORDINATOR] >= COORDINATORS_FROM;
        if (several) {
            request.coordinator_keys = &key;
            request.coordinator_keys_count = 1;
        } else {
            request.key = key;
        }
        if (!BENCH_ASK(&r->client, API_FIND_COORDINATOR, find_coordinator, &request, &response))
            return false;
        bool one = several && response.coordinators_count == 1;
        int16_t error = one ? response.coordinators[0].error_code : response.error_code;
        if (error == KE_NONE)
            return true;
        bench_client_rest(&r->client, ID_PAUSE_MS);
    }
    return bench_client_fail(&r->client, "%s have no coordinator",
                             key_type == KEY_GROUP ? "groups" : "transactions");
}

static bool producer_id(struct run *r, struct sharing *s, uint32_t number)
{
    char id[64];
    transact_id(id, sizeof(id), r->plan.run, number);
    bool transactional = r->plan.o.kind == BENCH_TXN;
    if (transactional && !coordinator_ready(r, KEY_TRANSACTION, id))
        return false;
    struct init_producer_id_request request;
    struct init_producer_id_response response;
    init_producer_id_request_init(&request);
    request.transactional_id = transactional ? wire_string_of(id) : WIRE_NULL_STRING;
    request.transaction_timeout_ms = ID_TIMEOUT_MS;
    for (uint32_t i = 0; i < ID_TRIES; i++) {
        if (!BENCH_ASK(&r->client, API_INIT_PRODUCER_ID, init_producer_id, &request, &response))
            return false;
        if (response.error_code != KE_COORDINATOR_LOAD_IN_PROGRESS &&
            response.error_code != KE_COORDINATOR_NOT_AVAILABLE &&
            response.error_code != KE_NOT_COORDINATOR)
            break;
        bench_client_rest(&r->client, ID_PAUSE_MS);
    }
    if (response.error_code != KE_NONE)
        return bench_client_fail(&r->client, "InitProducerId: %s",
                                 kafka_error_name((enum kafka_error)response.error_code));
    s->producer_id = response.producer_id;
    s->producer_epoch = response.producer_epoch;
    return true;
}

static bool plan_share(struct run *r)
{
    struct plan *p = &r->plan;
    const struct bench_options *o = &p->o;
    p->senders_count = writes(o->kind) || o->kind == BENCH_GROUPS ? o->connections : 0;
    p->receivers_count = reads(o) ? MIN(o->consumers, r->topic.partitions_count) : 0;
    p->senders = mem_zalloc(r->mem, (p->senders_count + 1) * sizeof(*p->senders));
    p->receivers = mem_zalloc(r->mem, (p->receivers_count + 1) * sizeof(*p->receivers));
    if (p->senders == NULL || p->receivers == NULL)
        return run_fail(r, "no memory");
    for (uint32_t i = 0; i < p->receivers_count; i++)
        if (!share_deal(r, &p->receivers[i], i, p->receivers_count))
            return false;
    for (uint32_t i = 0; i < p->senders_count; i++) {
        if (!share_deal(r, &p->senders[i], i, p->senders_count))
            return false;
        if (o->batches > p->senders[i].own_count)
            return bench_client_fail(&r->client,
                                     "a request of %u batches needs as many partitions per "
                                     "connection; there are %u",
                                     o->batches, p->senders[i].own_count);
        if ((o->idempotent || o->kind == BENCH_TXN) && !producer_id(r, &p->senders[i], i))
            return false;
    }
    return true;
}

static void plan_numbers(struct run *r)
{
    struct plan *p = &r->plan;
    const struct bench_options *o = &p->o;
    uint64_t per_request = (uint64_t)o->records * o->batches;
    assert(o->threads > 0);
    p->threads_count = o->threads;
    p->memory_bytes = io_memory_bytes() / THREAD_SHARE / o->threads;
    p->request_rate = o->rate / (double)per_request;
    if (o->limit > 0) {
        assert(per_request > 0);
        assert(p->senders_count > 0);
        p->requests_each =
            (o->limit + per_request * p->senders_count - 1) / (per_request * p->senders_count);
        p->o.seconds = FOREVER_S;
        p->o.warmup = 0;
    }
    uint64_t window = (uint64_t)(p->o.seconds * (double)NS_PER_S);
    p->slice_ns = MAX(window / SLICES_WANTED, SLICE_NS_MIN);
    p->slices_count = (uint32_t)MIN((window + p->slice_ns - 1) / p->slice_ns, BENCH_SLICES_MAX);
    assert(p->slices_count > 0);
}

static bool plan_offsets(struct run *r)
{
    struct plan *p = &r->plan;
    size_t size = r->topic.partitions_count * sizeof(int64_t);
    p->starts = mem_zalloc(r->mem, size);
    p->read_from = mem_zalloc(r->mem, size);
    r->ends = mem_zalloc(r->mem, size);
    if (p->starts == NULL || p->read_from == NULL || r->ends == NULL)
        return run_fail(r, "no memory");
    if (!bench_topic_offsets(&r->topic, &r->client, OFFSET_LATEST, p->starts))
        return false;
    if (p->o.kind != BENCH_CONSUME && p->o.kind != BENCH_CATCH_UP) {
        memcpy(p->read_from, p->starts, size);
        return true;
    }
    return bench_topic_offsets(&r->topic, &r->client, OFFSET_EARLIEST, p->read_from);
}

static bool run_topic(struct run *r)
{
    const struct bench_options *o = &r->plan.o;
    struct bench_client *c = &r->client;
    if (o->delete_before && !bench_topic_delete(c, o->topic))
        return false;
    if (o->create > 0 &&
        !bench_topic_make(c, o->topic, o->create, o->copies, o->configs, o->configs_count))
        return false;
    return bench_topic_find(&r->topic, c, o->topic);
}

/* What requests of the generation asked for look like. */
static bool plan_transactions(struct run *r)
{
    struct plan *p = &r->plan;
    const int16_t *versions = r->client.versions;
    uint32_t more = p->o.generation - 1;
    if (!bench_ask_begin(&r->client, API_ADD_PARTITIONS_TO_TXN) ||
        !bench_ask_begin(&r->client, API_END_TXN))
        return false;
    p->produce_version = (int16_t)MIN((uint32_t)versions[API_PRODUCE], TXN_PRODUCE_MAX + more);
    p->add_version = MIN(versions[API_ADD_PARTITIONS_TO_TXN], TXN_ADD_MAX);
    p->end_version = (int16_t)MIN((uint32_t)versions[API_END_TXN], TXN_END_MAX + more);
    if (more > 0 &&
        (p->produce_version <= (int16_t)TXN_PRODUCE_MAX || p->end_version <= (int16_t)TXN_END_MAX))
        return bench_client_fail(&r->client, "transactions of generation 2 are not served");
    return true;
}

static bool plan_groups(struct run *r)
{
    char group[64];
    member_group(group, sizeof(group), r->plan.run, 0);
    return coordinator_ready(r, KEY_GROUP, group) && groups_plan(&r->client, &r->plan, r->mem);
}

static bool run_prepare(struct run *r)
{
    struct plan *p = &r->plan;
    const struct bench_options *o = &p->o;
    if (!bench_client_open(&r->client, r->io, r->mem, &o->address))
        return false;
    p->topic = &r->topic;
    io_entropy(r->io, &p->run, sizeof(p->run));
    p->run |= 1;
    if (o->kind == BENCH_CONNECTIONS) {
        plan_numbers(r);
        p->senders = mem_zalloc(r->mem, sizeof(*p->senders));
        p->receivers = mem_zalloc(r->mem, sizeof(*p->receivers));
        return p->senders != NULL && p->receivers != NULL;
    }
    if ((writes(o->kind) && !bench_ask_begin(&r->client, API_PRODUCE)) ||
        (reads(o) && !bench_ask_begin(&r->client, API_FETCH)))
        return false;
    p->produce_version = r->client.versions[API_PRODUCE];
    if (o->kind == BENCH_TXN && !plan_transactions(r))
        return false;
    p->fetch_version = r->client.versions[API_FETCH];
    if (!run_topic(r))
        return false;
    if ((o->kind == BENCH_TXN || o->kind == BENCH_GROUPS) && r->topic.nodes_count > 1)
        return bench_client_fail(&r->client, "a cluster with more than one node: coordinators of "
                                             "several are not looked for");
    if (o->kind == BENCH_GROUPS && !plan_groups(r))
        return false;
    if (!plan_offsets(r) || !plan_share(r))
        return false;
    plan_numbers(r);
    return true;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void run_order(struct run *r, enum order_kind kind, uint64_t start_ns)
{
    if (r->orders_used == ORDER_SLOTS)
        return;
    struct order *o = &r->orders[r->orders_used++];
    *o = (struct order){kind, start_ns, r->ends};
    for (uint32_t i = 0; i < r->plan.threads_count && r->workers != NULL; i++) {
        if (r->workers[i].thread == NULL)
            continue;
        bool fits = ring_push(&r->workers[i].orders, o);
        assert(fits);
        (void)ring_publish(&r->workers[i].orders);
    }
}

static bool worker_make(struct run *r, uint32_t number)
{
    struct worker *w = &r->workers[number];
    char name[24];
    *w = (struct worker){.id = {(uint16_t)(number + 1)}, .number = number, .plan = &r->plan};
    list_init(&w->dirty);
    list_init(&w->rests);
    if (mem_init(&w->mem, r->plan.memory_bytes) != 0 ||
        ring_init(&w->orders, r->mem, ORDER_SLOTS) != 0 ||
        ring_init(&w->news, r->mem, 2 * BENCH_SLICES_MAX + 32) != 0)
        return false;
    (void)snprintf(name, sizeof(name), "bench-%u", number);
    return io_thread_start(&w->thread, worker_run, w, -1, name) == 0;
}

static bool run_threads(struct run *r)
{
    char why[256];
    uint32_t count = r->plan.threads_count;
    if (io_world_start(&r->plan.world, count + 1, why, sizeof(why)) != 0)
        return run_fail(r, why);
    r->workers = mem_pages(r->mem, (count * sizeof(*r->workers) + 4095) / 4096 * 4096);
    if (r->workers == NULL)
        return run_fail(r, "no memory");
    memset(r->workers, 0, count * sizeof(*r->workers));
    for (uint32_t i = 0; i < count; i++)
        if (!worker_make(r, i))
            return run_fail(r, "a thread cannot be started");
    return true;
}

static void run_news(struct run *r, struct worker *w, const struct news *n)
{
    switch (n->kind) {
    case NEWS_READY:
        r->ready++;
        break;
    case NEWS_SLICE:
        if (++r->slices_told[n->number] == r->plan.threads_count)
            progress_slice(&r->progress, r->workers, n->number);
        break;
    case NEWS_SENT:
        r->sent++;
        break;
    case NEWS_READ:
        r->read++;
        r->read_ns = io_now_ns(r->io);
        break;
    case NEWS_FAILED:
        r->failed = true;
        (void)w;
        break;
    }
}

static void run_usage(struct run *r)
{
    uint64_t now = io_now_ns(r->io);
    const struct bench_options *o = &r->plan.o;
    if (!r->began && r->start_ns > 0 && now >= r->begin_ns) {
        r->began = true;
        r->failed |= !usage_now(r->io, r->mem, o->pid, &r->result->begin);
    }
    if (r->began && !r->ended && now >= r->end_ns) {
        r->ended = true;
        r->failed |= !usage_now(r->io, r->mem, o->pid, &r->result->end);
    }
}

/* One look at everything. false: the load has failed, or the user has had enough. */
static bool run_look(struct run *r)
{
    uint64_t until = io_clock_ns(r->io) + LOOK_NS;
    if (r->start_ns > 0 && !r->began)
        until = MIN(until, r->begin_ns);
    else if (r->began && !r->ended)
        until = MIN(until, r->end_ns);
    (void)io_poll(r->io, until, POLL_BUDGET);
    run_usage(r);
    for (uint32_t i = 0; i < r->plan.threads_count; i++) {
        void *items[NEWS_AT];
        uint32_t count = ring_drain(&r->workers[i].news, items, NEWS_AT);
        for (uint32_t n = 0; n < count; n++)
            run_news(r, &r->workers[i], items[n]);
    }
    const bool *interrupted = r->plan.o.interrupted;
    if (interrupted != NULL && *interrupted)
        r->result->interrupted = true;
    return !r->failed && !r->result->interrupted;
}

/* Until `count` has all threads, or the time is over. */
static bool run_await(struct run *r, const uint32_t *count, uint64_t limit_ns, const char *late)
{
    while (*count < r->plan.threads_count) {
        if (!run_look(r))
            return false;
        if (io_now_ns(r->io) > limit_ns)
            return run_fail(r, late);
    }
    return true;
}

/* What nobody acknowledges may still be on its way: until the ends do not move any more. */
static bool run_settle(struct run *r)
{
    uint32_t still = 0;
    size_t size = r->topic.partitions_count * sizeof(int64_t);
    int64_t *ends = mem_zalloc(r->mem, size);
    if (ends == NULL)
        return run_fail(r, "no memory");
    bool good = true;
    for (uint32_t i = 0; i < SETTLE_LOOKS && still < SETTLE_STILL && good; i++) {
        bench_client_rest(&r->client, SETTLE_MS);
        good = bench_topic_offsets(&r->topic, &r->client, OFFSET_LATEST, ends);
        still = memcmp(ends, r->ends, size) == 0 ? still + 1 : 0;
        memcpy(r->ends, ends, size);
    }
    mem_free(r->mem, ends, size);
    return good;
}

static bool run_window(struct run *r)
{
    const struct bench_options *o = &r->plan.o;
    r->start_ns = io_clock_ns(r->io) + START_NS;
    r->begin_ns = r->start_ns + (uint64_t)(o->warmup * (double)NS_PER_S);
    r->end_ns = r->begin_ns + (uint64_t)(o->seconds * (double)NS_PER_S);
    r->result->begin_wall_ms =
        (uint64_t)io_wall_ms(r->io) + (r->begin_ns - io_now_ns(r->io)) / NS_PER_MS;
    run_order(r, ORDER_START, r->start_ns);
    if (o->kind == BENCH_CONSUME) {
        memcpy(r->ends, r->plan.starts, r->topic.partitions_count * sizeof(int64_t));
        run_order(r, ORDER_GOAL, 0);
        while (r->read < r->plan.threads_count && io_now_ns(r->io) < r->end_ns)
            if (!run_look(r))
                return false;
        return true;
    }
    if (!run_await(r, &r->sent, UINT64_MAX, ""))
        return false;
    if (writes(o->kind) && o->acks == 0 && !run_settle(r))
        return false;
    if (o->kind == BENCH_CONNECTIONS)
        while (!r->ended)
            if (!run_look(r))
                return false;
    return true;
}

/* Readers may take as long as they like if only they get on. */
static bool run_read(struct run *r)
{
    if (!reads(&r->plan.o) || r->plan.o.kind == BENCH_CONSUME)
        return true;
    if (!bench_topic_offsets(&r->topic, &r->client, OFFSET_LATEST, r->ends))
        return false;
    run_order(r, ORDER_GOAL, 0);
    return run_await(r, &r->read, io_clock_ns(r->io) + READ_NS,
                     "consumers have not come to the end a minute after the last record");
}

static void run_end(struct run *r)
{
    if (!r->ended && r->began && !usage_now(r->io, r->mem, r->plan.o.pid, &r->result->end))
        (void)run_fail(r, "the broker's process is gone");
    uint64_t now = io_clock_ns(r->io);
    if (!r->ended && r->began)
        r->end_ns = MIN(now, r->end_ns);
    run_order(r, ORDER_LEAVE, 0);
    for (uint32_t i = 0; i < r->plan.threads_count && r->workers != NULL; i++) {
        struct worker *w = &r->workers[i];
        if (w->thread != NULL)
            io_thread_join(w->thread);
        if (w->why[0] != '\0')
            (void)run_fail(r, w->why);
    }
}

/* ---- what came of it ------------------------------------------------------------------------- */

void bench_counts_merge(struct bench_counts *into, const struct bench_counts *from)
{
    for (uint32_t i = 0; i < LATENCIES; i++)
        histogram_merge(&into->latency[i], &from->latency[i]);
    if (into->errors == 0)
        into->first_error = from->first_error;
    into->requests += from->requests;
    into->batches += from->batches;
    into->records += from->records;
    into->bytes += from->bytes;
    into->fetches += from->fetches;
    into->read_records += from->read_records;
    into->read_bytes += from->read_bytes;
    into->acknowledged += from->acknowledged;
    into->errors += from->errors;
    into->misplaced += from->misplaced;
    into->checked += from->checked;
    into->foreign += from->foreign;
    into->lost += from->lost;
    into->repeated += from->repeated;
    into->disordered += from->disordered;
    into->damaged += from->damaged;
    into->opened += from->opened;
    into->retried += from->retried;
    into->cpu += from->cpu;
}

static void result_slices(struct run *r)
{
    struct bench_result *result = r->result;
    uint32_t count = r->plan.slices_count;
    result->slices = mem_zalloc(r->mem, count * sizeof(*result->slices));
    if (result->slices == NULL)
        return; /* a result without a curve */
    result->slices_count = count;
    result->slice_ns = r->plan.slice_ns;
    for (uint32_t i = 0; i < r->plan.threads_count; i++)
        for (uint32_t n = 0; n < count && r->workers[i].slices != NULL; n++)
            bench_slice_merge(&result->slices[n], &r->workers[i].slices[n]);
}

/* Check 1 of the file's head. */
static uint32_t partitions_broken(struct run *r)
{
    uint32_t broken = 0;
    if (!writes(r->plan.o.kind) || r->plan.o.acks == 0 || r->plan.o.kind == BENCH_TXN)
        return 0;
    for (uint32_t i = 0; i < r->topic.partitions_count; i++) {
        struct spread all = {0};
        for (uint32_t n = 0; n < r->plan.threads_count; n++)
            spread_merge(&all, &r->workers[n].spreads[i]);
        int64_t end = r->plan.starts[i] + (int64_t)(all.count * r->plan.o.records);
        broken += !spread_dense(&all) || end != r->ends[i];
    }
    return broken;
}

static struct reading *reading_find(struct run *r, uint32_t partition)
{
    for (uint32_t i = 0; i < r->plan.threads_count; i++)
        for (uint32_t n = 0; n < r->workers[i].receivers_count; n++) {
            struct receiver *receiver = r->workers[i].receivers[n];
            for (uint32_t k = 0; k < receiver->share->own_count; k++)
                if (receiver->readings[k].partition == partition)
                    return &receiver->readings[k];
        }
    return NULL;
}

/* Check 2: numbers that a sender made and nobody met. Refused batches are not lost. */
static uint64_t lost_of(struct run *r, const struct sharing *share, uint32_t number,
                        const uint64_t *numbers)
{
    uint64_t lost = 0;
    for (uint32_t i = 0; i < share->own_count; i++) {
        struct reading *p = reading_find(r, share->own[i]);
        struct stream *stream = p == NULL ? NULL : reading_stream(p, r->plan.run, number);
        lost += stream == NULL ? numbers[i] : ledger_missing(&stream->ledger, numbers[i]);
    }
    return lost;
}

/* Gaps in what earlier loads left: what is missing below the highest number met. */
static uint64_t gaps_of(const struct reading *p, uint64_t run)
{
    uint64_t gaps = 0;
    for (uint32_t i = 0; i < p->streams_count; i++)
        if (p->streams[i].run != run)
            gaps += ledger_missing(&p->streams[i].ledger, p->streams[i].ledger.highest + 1);
    return gaps;
}

static void result_lost(struct run *r)
{
    const struct bench_options *o = &r->plan.o;
    struct bench_counts *c = &r->result->counts;
    if (!reads(o))
        return;
    for (uint32_t i = 0; i < r->plan.threads_count; i++) {
        const struct worker *w = &r->workers[i];
        for (uint32_t n = 0; n < w->senders_count && o->size >= PAYLOAD_SIZE; n++)
            c->lost += o->kind == BENCH_TXN
                           ? lost_of(r, w->transactors[n]->share, w->transactors[n]->number,
                                     w->transactors[n]->numbers)
                           : lost_of(r, w->senders[n]->share, w->senders[n]->number,
                                     w->senders[n]->numbers);
        for (uint32_t n = 0; n < w->receivers_count; n++)
            for (uint32_t k = 0; k < w->receivers[n]->share->own_count; k++)
                c->lost += gaps_of(&w->receivers[n]->readings[k], r->plan.run);
    }
    uint64_t refused = c->errors * o->records;
    c->lost -= MIN(c->lost, refused);
}

/* Without readers it is counted what lies there: of each transaction the records and, in each
 * partition, its end. Markers may come a little after the answer. */
static bool result_transactions(struct run *r)
{
    const struct bench_options *o = &r->plan.o;
    uint64_t made = 0, lie = 0;
    for (uint32_t i = 0; i < r->plan.threads_count; i++)
        for (uint32_t n = 0; n < r->workers[i].senders_count; n++)
            made += r->workers[i].transactors[n]->made;
    uint64_t wanted = made * o->batches * (o->records + 1ull);
    for (uint32_t look = 0; look < SETTLE_LOOKS; look++) {
        lie = 0;
        for (uint32_t i = 0; i < r->topic.partitions_count; i++)
            lie += (uint64_t)(r->ends[i] - r->plan.starts[i]);
        if (lie >= wanted)
            break;
        bench_client_rest(&r->client, SETTLE_MS);
        if (!bench_topic_offsets(&r->topic, &r->client, OFFSET_LATEST, r->ends))
            return false;
    }
    r->result->counts.misplaced += lie != wanted;
    return true;
}

static bool run_result(struct run *r)
{
    struct bench_result *result = r->result;
    for (uint32_t i = 0; i < r->plan.threads_count; i++)
        bench_counts_merge(&result->counts, &r->workers[i].counts);
    result_slices(r);
    result->seconds = (double)(r->end_ns - r->begin_ns) / (double)NS_PER_S;
    if (r->read_ns > r->start_ns)
        result->read_seconds = (double)(r->read_ns - r->start_ns) / (double)NS_PER_S;
    result->partitions_count = r->topic.partitions_count;
    result->produce_version = r->plan.produce_version;
    result->fetch_version = r->plan.fetch_version;
    result->run = r->plan.run;
    if (r->plan.o.kind == BENCH_CONNECTIONS)
        return true;
    if (writes(r->plan.o.kind) &&
        !bench_topic_offsets(&r->topic, &r->client, OFFSET_LATEST, r->ends))
        return false;
    if (r->plan.o.kind == BENCH_TXN && !reads(&r->plan.o) && !result_transactions(r))
        return false;
    if (r->plan.o.kind == BENCH_GROUPS &&
        !groups_end(&r->client, &r->plan, r->workers, &result->counts))
        return false;
    result->partitions_broken = partitions_broken(r);
    result_lost(r);
    return !r->plan.o.delete_after || bench_topic_delete(&r->client, r->plan.o.topic);
}

bool bench_result_sound(const struct bench_result *r)
{
    const struct bench_counts *c = &r->counts;
    return c->errors == 0 && c->misplaced == 0 && r->partitions_broken == 0 && c->lost == 0 &&
           c->repeated == 0 && c->disordered == 0 && c->damaged == 0;
}

void bench_result_free(struct bench_result *r)
{
    if (r->mem != NULL)
        mem_free(r->mem, r->slices, r->slices_count * sizeof(*r->slices));
    r->slices = NULL;
    r->slices_count = 0;
}

static void run_free(struct run *r)
{
    struct plan *p = &r->plan;
    size_t offsets = r->topic.partitions_count * sizeof(int64_t);
    for (uint32_t i = 0; i < p->threads_count && r->workers != NULL; i++) {
        struct worker *w = &r->workers[i];
        if (w->mem.impl != NULL)
            mem_destroy(&w->mem);
        ring_destroy(&w->orders, r->mem);
        ring_destroy(&w->news, r->mem);
    }
    if (r->workers != NULL)
        mem_pages_free(r->mem, r->workers,
                       (p->threads_count * sizeof(*r->workers) + 4095) / 4096 * 4096);
    if (p->world != NULL)
        io_world_stop(p->world);
    for (uint32_t i = 0; i < p->senders_count && p->senders != NULL; i++)
        mem_free(r->mem, p->senders[i].own, p->senders[i].own_count * sizeof(uint32_t));
    for (uint32_t i = 0; i < p->receivers_count && p->receivers != NULL; i++)
        mem_free(r->mem, p->receivers[i].own, p->receivers[i].own_count * sizeof(uint32_t));
    mem_free(r->mem, p->senders, (p->senders_count + 1) * sizeof(*p->senders));
    mem_free(r->mem, p->receivers, (p->receivers_count + 1) * sizeof(*p->receivers));
    groups_free(p, r->mem);
    mem_free(r->mem, p->starts, offsets);
    mem_free(r->mem, p->read_from, offsets);
    mem_free(r->mem, r->ends, offsets);
    bench_topic_free(&r->topic);
    bench_client_close(&r->client);
}

static bool run_all(struct run *r)
{
    if (!run_prepare(r))
        return false;
    bool good = run_threads(r);
    progress_begin(&r->progress, r->io, &r->plan);
    good =
        good && run_await(r, &r->ready, io_clock_ns(r->io) + READY_NS, "connecting takes too long");
    good = good && run_window(r) && run_read(r);
    run_end(r);
    progress_end(&r->progress);
    return good && r->result->why[0] == '\0' && run_result(r);
}

bool bench_run(struct io *io, struct mem *mem, const struct bench_options *o,
               struct bench_result *result)
{
    *result = (struct bench_result){.mem = mem, .options = *o};
    struct run *r = mem_zalloc(mem, sizeof(*r));
    if (r == NULL) {
        (void)snprintf(result->why, sizeof(result->why), "no memory");
        return false;
    }
    *r = (struct run){.io = io, .mem = mem, .result = result};
    r->plan.o = *o;
    bool good = run_all(r);
    if (!good && r->client.why[0] != '\0')
        (void)run_fail(r, r->client.why);
    if (!good)
        (void)run_fail(r, result->interrupted ? "interrupted" : "the broker's process is gone");
    run_free(r);
    mem_free(mem, r, sizeof(*r));
    return good;
}
