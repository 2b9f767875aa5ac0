/* One partition's worth of transactional ids: the table, the dispatch of calls, the replay of the
 * log, what is asked of all ids, and what time does to them.
 *
 * Invariants
 *  1. An id is in the table and in `all`, or nowhere. `all` is in the order of the last change, so
 *     what may be forgotten stands in front.
 *  2. An id is in `ongoing` exactly in ONGOING, in `ending` exactly in PREPARE_*.
 *  3. Replaying the log from its start gives what was there when its last record was made, but for
 *     last_epoch and for the partitions whose markers were written already: they get them again.
 *  4. Calls wait only at transactions that are ending, and each for a bounded time.
 *  5. What is about to end is handed to the driver once its record is durable, and once after every
 *     load: no transaction is left half ended.
 *
 * Failure modes: a record that cannot be read is passed over, as one of a kind that is not known;
 * no memory while replaying ends the loading. What a timer cannot do for want of memory it tries
 * again at its next round. */
#include "broker/txn/txn_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/describe_transactions.h"
#include "proto/gen/list_transactions.h"
#include "proto/gen/record_transaction.h"

#define UPDATE_BYTES_MAX  (64ull << 20)
#define REPLAY_BYTES_MAX  (16ull << 20) /* what one record may decode into */
#define FENCED_PER_ROUND  1000u
#define EXPIRED_PER_ROUND 1000u
#define ROUND_GOES_ON_NS  NS_PER_MS

#define ALLOW(state)    (1u << (state))
#define ALLOW_FROM_IDLE (ALLOW(TXN_EMPTY) | ALLOW(TXN_ONGOING) | ALLOW(TXN_PREPARE_ABORT))

static const char *const state_names[] = {"Empty",        "Ongoing",          "PrepareCommit",
                                          "PrepareAbort", "CompleteCommit",   "CompleteAbort",
                                          "Dead",         "PrepareEpochFence"};
static const struct state_table states = {
    .name = "transaction",
    .names = state_names,
    .states_count = TXN_STATES,
    .allowed = {[TXN_EMPTY] = ALLOW_FROM_IDLE,
                [TXN_ONGOING] =
                    ALLOW(TXN_ONGOING) | ALLOW(TXN_PREPARE_COMMIT) | ALLOW(TXN_PREPARE_ABORT),
                [TXN_PREPARE_COMMIT] = ALLOW(TXN_COMPLETE_COMMIT),
                [TXN_PREPARE_ABORT] = ALLOW(TXN_COMPLETE_ABORT),
                [TXN_COMPLETE_COMMIT] = ALLOW_FROM_IDLE,
                [TXN_COMPLETE_ABORT] = ALLOW_FROM_IDLE},
};

static void shard_abort(struct timer *t);
static void shard_expire(struct timer *t);
static void shard_impatient(struct timer *t);

void txn_shard_init(struct txn_shard *s, uint64_t seed)
{
    assert(s->mem != NULL && s->wheel != NULL && s->config != NULL);
    assert(s->changed != NULL);
    map_init(&s->txns, s->mem, seed);
    list_init(&s->all);
    list_init(&s->ongoing);
    list_init(&s->ending);
    shard_update_init(&s->update, s->mem, UPDATE_BYTES_MAX);
    timer_init(&s->aborts, shard_abort);
    timer_init(&s->expiry, shard_expire);
    timer_init(&s->patience, shard_impatient);
    s->loaded = false;
}

/* ---- the table ------------------------------------------------------------------------------- */

const char *txn_state_name(uint8_t state)
{
    assert(state < TXN_STATES);
    return state_names[state];
}

bool txn_state_known(struct wire_string name)
{
    for (uint32_t i = 0; i < TXN_STATES; i++) {
        if (wire_string_equal(name, wire_string_of(state_names[i])))
            return true;
    }
    return false;
}

struct txn *txn_find(const struct txn_shard *s, struct wire_string id)
{
    return map_get(&s->txns, id.data, (uint32_t)MAX(id.size, 0));
}

struct txn *txn_create(struct txn_shard *s, struct wire_string id)
{
    assert(id.size > 0 && txn_find(s, id) == NULL);
    struct txn *t = mem_zalloc(s->mem, sizeof(*t) + (size_t)id.size);
    if (t == NULL)
        return NULL;
    t->shard = s;
    t->id_size = (uint32_t)id.size;
    memcpy(t->id, id.data, t->id_size);
    if (map_put(&s->txns, t->id, t->id_size, t) != 0) {
        mem_free(s->mem, t, sizeof(*t) + t->id_size);
        return NULL;
    }
    list_init(&t->link);
    list_init(&t->open);
    list_init(&t->topics);
    map_init(&t->topics_by_name, s->mem, s->txns.seed);
    list_init(&t->waiting);
    list_init(&t->ending.link);
    t->ending.kind = TXN_ENDING;
    t->now = (struct txn_fields){.epoch = -1,
                                 .last_epoch = -1,
                                 .producer_id = -1,
                                 .prev_producer_id = -1,
                                 .next_producer_id = -1,
                                 .start_ms = -1,
                                 .update_ms = *s->wall_ms};
    list_push_back(&s->all, &t->link);
    return t;
}

void txn_remove(struct txn *t)
{
    struct txn_shard *s = t->shard;
    assert(list_empty(&t->waiting));
    (void)map_remove(&s->txns, t->id, t->id_size);
    list_remove(&t->link);
    list_remove(&t->open);
    list_remove(&t->ending.link);
    txn_clear(t);
    mem_free(s->mem, t, sizeof(*t) + t->id_size);
}

/* Invariants 1 and 2. */
static void txn_place(struct txn *t)
{
    struct txn_shard *s = t->shard;
    list_remove(&t->link);
    list_push_back(&s->all, &t->link);
    if (txn_is(t, TXN_ONGOING) && !list_empty(&t->open))
        return; /* it was ongoing before */
    list_remove(&t->open);
    if (txn_is(t, TXN_ONGOING))
        list_push_back(&s->ongoing, &t->open);
    else if (txn_ends(t))
        list_push_back(&s->ending, &t->open);
}

/* Invariant 5. */
static void txn_hand_over(struct txn *t)
{
    assert(list_empty(&t->ending.link) && !t->away);
    list_push_back(&t->shard->update.answered, &t->ending.link);
}

void txn_set(struct txn *t, const struct txn_fields *next)
{
    struct txn_fields fields = *next;
    fields.state = t->now.state;
    state_move(&fields.state, &states, next->state.now);
    t->now = fields;
    txn_place(t);
    if (txn_ends(t))
        txn_hand_over(t);
}

/* ---- what is asked of ids -------------------------------------------------------------------- */

static struct wire_string call_string(struct txn_call *call, struct wire_string s)
{
    const char *copy = arena_copy(call->arena, s.data, (size_t)s.size);
    return (struct wire_string){copy, copy != NULL ? s.size : 0};
}

static void describe_topics(struct txn *t, struct txn_call *call,
                            struct describe_transactions_response_transaction_state *r)
{
    uint32_t count = 0;
    LIST_EACH(l, &t->topics)
    count++;
    r->topics = arena_array(call->arena, count, sizeof(*r->topics));
    LIST_EACH(l, &t->topics)
    {
        const struct txn_topic *p = container_of(l, struct txn_topic, link);
        if (r->topics == NULL || p->partitions_count == 0)
            continue;
        struct describe_transactions_response_topic_data *out = &r->topics[r->topics_count];
        out->topic = call_string(call, (struct wire_string){p->name, (int32_t)p->name_size});
        out->partitions =
            arena_copy(call->arena, p->partitions, p->partitions_count * sizeof(p->partitions[0]));
        out->partitions_count = (int32_t)p->partitions_count;
        if (out->partitions != NULL)
            r->topics_count++;
    }
}

static void shard_describe(struct txn_shard *s, struct txn_call *call)
{
    const struct wire_string *id = call->request;
    struct describe_transactions_response_transaction_state *r = call->response;
    struct txn *t = txn_find(s, *id);
    if (t == NULL) {
        txn_call_refused(s, call, KE_TRANSACTIONAL_ID_NOT_FOUND);
        return;
    }
    describe_transactions_response_transaction_state_init(r);
    r->transactional_id = *id;
    r->transaction_state = wire_string_of(txn_state_name(t->now.state.now));
    r->transaction_timeout_ms = t->now.timeout_ms;
    r->transaction_start_time_ms = t->now.start_ms;
    r->producer_id = t->now.producer_id;
    r->producer_epoch = t->now.epoch;
    describe_topics(t, call, r);
    txn_call_done(s, call);
}

static bool list_wants(const struct txn *t, const struct txn_list *list)
{
    const struct list_transactions_request *q = list->filters;
    bool wanted = q->producer_id_filters_count == 0;
    for (int32_t i = 0; i < q->producer_id_filters_count && !wanted; i++)
        wanted = q->producer_id_filters[i] == t->now.producer_id;
    if (!wanted)
        return false;
    wanted = q->state_filters_count == 0;
    for (int32_t i = 0; i < q->state_filters_count && !wanted; i++)
        wanted = wire_string_equal(q->state_filters[i],
                                   wire_string_of(txn_state_name(t->now.state.now)));
    if (!wanted)
        return false;
    if (q->duration_filter >= 0 && *t->shard->wall_ms - t->now.start_ms <= q->duration_filter)
        return false;
    return list->matches == NULL || list->matches(list->pattern, txn_id(t));
}

/* There is room up to the next power of two. */
static bool list_grow(struct txn_call *call, struct list_transactions_response *r)
{
    uint32_t count = (uint32_t)r->transaction_states_count;
    if ((count & (count - 1)) != 0)
        return true;
    struct list_transactions_response_transaction_state *more =
        arena_array(call->arena, MAX(2 * (size_t)count, 1), sizeof(*more));
    if (more == NULL)
        return false;
    if (count > 0)
        memcpy(more, r->transaction_states, count * sizeof(*more));
    r->transaction_states = more;
    return true;
}

static void shard_list(struct txn_shard *s, struct txn_call *call)
{
    const struct txn_list *q = call->request;
    struct list_transactions_response *r = call->response;
    LIST_EACH(l, &s->all)
    {
        struct txn *t = container_of(l, struct txn, link);
        if (!list_wants(t, q))
            continue;
        if (!list_grow(call, r))
            break; /* the arena is full: txn_call_done says so */
        struct list_transactions_response_transaction_state *out =
            &r->transaction_states[r->transaction_states_count++];
        out->transactional_id = call_string(call, txn_id(t));
        out->producer_id = t->now.producer_id;
        out->transaction_state = wire_string_of(txn_state_name(t->now.state.now));
    }
    txn_call_done(s, call);
}

void txn_shard_call(struct txn_shard *s, struct txn_call *call)
{
    assert(s->loaded);
    call->wants_id = false;
    list_init(&call->item.link);
    switch (call->item.kind) {
    case TXN_INIT:
        step_init(s, call);
        return;
    case TXN_ADD:
        step_add(s, call);
        return;
    case TXN_END:
        step_end(s, call);
        return;
    case TXN_DESCRIBE:
        shard_describe(s, call);
        return;
    case TXN_LIST:
        shard_list(s, call);
        return;
    case TXN_ENDING:
    case TXN_KINDS:
        break;
    }
    assert(false); /* no such call */
}

/* ---- the log --------------------------------------------------------------------------------- */

static bool value_known(const struct transaction_log_value *v)
{
    bool state = v->transaction_status >= TXN_EMPTY && v->transaction_status <= TXN_COMPLETE_ABORT;
    return state && v->producer_id >= 0 && v->producer_epoch >= 0;
}

static bool replay_partitions(struct txn *t, const struct transaction_log_value *v)
{
    txn_clear(t);
    for (int32_t i = 0; i < v->transaction_partitions_count; i++) {
        const struct transaction_log_value_partitions_schema *p = &v->transaction_partitions[i];
        for (int32_t j = 0; j < p->partition_ids_count; j++) {
            if (!txn_put(t, p->topic, p->partition_ids[j]))
                return false;
        }
    }
    return true;
}

static bool replay_value(struct txn_shard *s, struct wire_string id,
                         const struct transaction_log_value *v)
{
    struct txn *t = txn_find(s, id);
    if (t == NULL)
        t = txn_create(s, id);
    if (t == NULL || !replay_partitions(t, v))
        return false;
    t->now = (struct txn_fields){
        .state = {(uint8_t)v->transaction_status},
        .client_version = (int8_t)MIN(MAX(v->client_transaction_version, 0), TXN_VERSION_BUMPS),
        .epoch = v->producer_epoch,
        .last_epoch = -1,
        .timeout_ms = v->transaction_timeout_ms,
        .producer_id = v->producer_id,
        .prev_producer_id = v->previous_producer_id,
        .next_producer_id = v->next_producer_id,
        .start_ms = v->transaction_start_timestamp_ms,
        .update_ms = v->transaction_last_update_timestamp_ms};
    list_remove(&t->open);
    txn_place(t);
    return true;
}

bool txn_shard_replay(struct txn_shard *s, struct batch_field key, struct batch_field value)
{
    assert(!s->loaded);
    struct transaction_log_key k;
    struct transaction_log_value v;
    struct wire_reader r;
    struct arena arena;
    bool done = true;
    arena_init(&arena, s->mem, REPLAY_BYTES_MAX);
    wire_reader_init(&r, key.data, key.data != NULL ? key.size : 0);
    int16_t kind = wire_get_int16(&r);
    if (r.error != 0 || kind != TRANSACTION_LOG_KEY_API_KEY ||
        transaction_log_key_decode(&k, &r, 0, &arena) != 0 || k.transactional_id.size <= 0)
        goto out;
    if (value.data == NULL) {
        struct txn *t = txn_find(s, k.transactional_id);
        if (t != NULL)
            txn_remove(t);
        goto out;
    }
    wire_reader_init(&r, value.data, value.size);
    int16_t version = wire_get_int16(&r);
    if (r.error == 0 && version >= 0 && version <= TRANSACTION_LOG_VALUE_VERSION_MAX &&
        transaction_log_value_decode(&v, &r, version, &arena) == 0 && value_known(&v))
        done = replay_value(s, k.transactional_id, &v);
out:
    done = done && !arena.failed;
    arena_release(&arena);
    return done;
}

static uint64_t ms_later(const struct txn_shard *s, int32_t ms)
{
    uint64_t wait = ms > 0 ? (uint32_t)ms : 1;
    return *s->now_ns + wait * NS_PER_MS;
}

static void rounds_begin(struct txn_shard *s)
{
    const struct broker_config *c = s->config;
    timer_arm(s->wheel, &s->aborts,
              ms_later(s, c->transaction_abort_timed_out_transaction_cleanup_interval_ms));
    timer_arm(s->wheel, &s->expiry,
              ms_later(s, c->transaction_remove_expired_transaction_cleanup_interval_ms));
}

void txn_shard_loaded(struct txn_shard *s)
{
    assert(!s->loaded);
    s->loaded = true;
    SOMETIMES_IF(!list_empty(&s->ongoing), "a transaction is open at a start");
    SOMETIMES_IF(!list_empty(&s->ending), "a transaction goes on ending after a start");
    LIST_EACH(l, &s->ending)
    txn_hand_over(container_of(l, struct txn, open));
    rounds_begin(s);
}

static void waiting_refuse(struct txn *t, enum kafka_error error)
{
    struct list *l;
    SOMETIMES_IF(!list_empty(&t->waiting), "an add waits while its coordinator goes");
    while ((l = list_pop_front(&t->waiting)) != NULL)
        txn_call_refused(t->shard, container_of(l, struct txn_call, item.link), error);
}

void txn_shard_close(struct txn_shard *s, enum kafka_error error)
{
    timer_cancel(s->wheel, &s->aborts);
    timer_cancel(s->wheel, &s->expiry);
    timer_cancel(s->wheel, &s->patience);
    struct list *l;
    while ((l = list_first(&s->all)) != NULL) {
        waiting_refuse(container_of(l, struct txn, link), error);
        txn_remove(container_of(l, struct txn, link));
    }
    map_destroy(&s->txns);
    shard_update_taken(&s->update);
    s->loaded = false;
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Who has waited long enough is told so. */
static void shard_impatient(struct timer *timer)
{
    struct txn_shard *s = container_of(timer, struct txn_shard, patience);
    uint64_t next_ns = UINT64_MAX;
    bool told = false;
    LIST_EACH(l, &s->ending)
    {
        struct txn *t = container_of(l, struct txn, open);
        LIST_EACH(w, &t->waiting)
        {
            struct txn_call *call = container_of(w, struct txn_call, item.link);
            if (call->due_ns > *s->now_ns) {
                next_ns = MIN(next_ns, call->due_ns);
                continue;
            }
            list_remove(w);
            SOMETIMES("an add has waited long enough");
            txn_call_refused(s, call, KE_CONCURRENT_TRANSACTIONS);
            told = true;
        }
    }
    if (next_ns != UINT64_MAX)
        timer_arm(s->wheel, timer, next_ns);
    if (told)
        s->changed(s);
}

/* A timeout of INT32_MAX is that of a transaction which somebody else ends. */
static bool txn_overdue(const struct txn *t)
{
    return t->now.timeout_ms != INT32_MAX &&
           t->now.start_ms + t->now.timeout_ms < *t->shard->wall_ms;
}

static void shard_abort(struct timer *timer)
{
    struct txn_shard *s = container_of(timer, struct txn_shard, aborts);
    uint32_t fenced = 0;
    assert(s->loaded);
    LIST_EACH(l, &s->ongoing)
    {
        struct txn *t = container_of(l, struct txn, open);
        if (!txn_overdue(t))
            continue;
        SOMETIMES("a transaction times out");
        if (fenced == FENCED_PER_ROUND || step_fence(t) != KE_NONE)
            break;
        fenced++;
    }
    timer_arm(
        s->wheel, timer,
        fenced == FENCED_PER_ROUND
            ? *s->now_ns + ROUND_GOES_ON_NS
            : ms_later(s, s->config->transaction_abort_timed_out_transaction_cleanup_interval_ms));
    if (fenced > 0)
        s->changed(s);
}

static bool txn_forgettable(const struct txn *t)
{
    return !txn_ends(t) && !txn_is(t, TXN_ONGOING) &&
           t->now.update_ms <=
               *t->shard->wall_ms - t->shard->config->transactional_id_expiration_ms;
}

static void shard_expire(struct timer *timer)
{
    struct txn_shard *s = container_of(timer, struct txn_shard, expiry);
    int64_t until_ms = *s->wall_ms - s->config->transactional_id_expiration_ms;
    uint32_t gone = 0, seen = 0;
    assert(s->loaded);
    LIST_EACH(l, &s->all)
    {
        struct txn *t = container_of(l, struct txn, link);
        if (t->now.update_ms > until_ms || seen++ == EXPIRED_PER_ROUND)
            break; /* invariant 1: the others are younger */
        if (!txn_forgettable(t))
            continue;
        if (record_txn_gone(t) != KE_NONE)
            break;
        txn_remove(t);
        gone++;
    }
    timer_arm(
        s->wheel, timer,
        gone > 0 && seen > EXPIRED_PER_ROUND
            ? *s->now_ns + ROUND_GOES_ON_NS
            : ms_later(s, s->config->transaction_remove_expired_transaction_cleanup_interval_ms));
    if (gone > 0)
        s->changed(s);
}
