/* The steps of a transaction: what InitProducerId, the adding of partitions and EndTxn do to it,
 * and what is answered. The rules are those of Kafka's TransactionCoordinator.
 *
 *   epochs      init raises it. Version 1 keeps it over a transaction, version 2 raises it at every
 *               end, so that what is late belongs to no later transaction. 32767 is never handed
 *               out: it is what a fence raises 32766 to; a producer at 32766 gets a new id.
 *   ids         producer_id with its epoch is who may write. prev_producer_id is the one before the
 *               last step: who repeats a request that changed it is known by it.
 *   a repeat    of an init or an end that was not heard is answered as the first was.
 *
 *   EndTxn of version 2      abort, epoch as now    a repeat (one below)
 *     EMPTY                  aborts, raises         PRODUCER_FENCED
 *     COMPLETE_ABORT         aborts, raises         NONE; commit: INVALID_TXN_STATE
 *     COMPLETE_COMMIT        aborts, raises         INVALID_TXN_STATE; commit: NONE
 *                            commit: INVALID_TXN_STATE in all three
 *
 * Invariants
 *  1. A step changes a transaction only if its record has been made.
 *  2. While a transaction ends (PREPARE_*) nothing but its completion changes it. Who wants to add
 *     partitions waits for that, it is a matter of two writes, but not for long
 *     (add.partitions.to.txn.retry.backoff.max.ms); then it is told CONCURRENT_TRANSACTIONS, to ask
 *     again soon, as all others are at once.
 *  3. Epochs never go over 32767, whatever a peer or a disk says.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE, retried by the client, nothing has changed.
 */
#include "broker/txn/txn_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/init_producer_id.h"

static bool epoch_exhausted(int16_t epoch)
{
    return epoch >= INT16_MAX - 1;
}

static int16_t epoch_raised(int16_t epoch)
{
    return epoch < INT16_MAX ? (int16_t)(epoch + 1) : epoch;
}

/* Invariant 1. */
static enum kafka_error step_to(struct txn *t, struct txn_fields *next, enum txn_state state,
                                bool with_partitions)
{
    next->state.now = (uint8_t)state;
    next->prev_producer_id = t->now.producer_id;
    enum kafka_error error = record_txn(t, next, with_partitions);
    if (error == KE_NONE)
        txn_set(t, next);
    return error;
}

/* ---- init ------------------------------------------------------------------------------------ */

static bool init_expects(const struct init_producer_id_request *q)
{
    return q->producer_id != -1;
}

/* Is who asks the one who has the id, or had it till it was used up? */
static bool init_known(const struct txn *t, const struct init_producer_id_request *q)
{
    const struct txn_fields *now = &t->now;
    return !init_expects(q) || now->epoch == -1 || q->producer_id == now->producer_id ||
           (q->producer_id == now->prev_producer_id && epoch_exhausted(q->producer_epoch));
}

/* The next epoch, or the next id. KE_NONE with call->wants_id: nothing was done. */
static enum kafka_error init_raise(struct txn *t, struct txn_call *call)
{
    const struct init_producer_id_request *q = call->request;
    const struct txn_fields *now = &t->now;
    struct txn_fields next = *now;
    bool expects = init_expects(q);
    if (epoch_exhausted(now->epoch) && (!expects || q->producer_epoch == now->epoch)) {
        if (call->spare_id < 0) {
            call->wants_id = true;
            return KE_NONE;
        }
        next.producer_id = call->spare_id;
        next.epoch = 0;
        next.last_epoch = expects ? now->epoch : -1;
    } else if (!expects || now->epoch == -1 || q->producer_epoch == now->epoch) {
        next.last_epoch = expects ? now->epoch : -1;
        next.epoch = epoch_raised(now->epoch);
    } else if (q->producer_epoch != now->last_epoch) {
        return KE_PRODUCER_FENCED;
    } /* else a repeat: the same answer */
    next.timeout_ms = q->enable2_pc ? INT32_MAX : q->transaction_timeout_ms;
    next.start_ms = -1;
    next.update_ms = *t->shard->wall_ms;
    return step_to(t, &next, TXN_EMPTY, false);
}

static enum kafka_error init_step(struct txn *t, struct txn_call *call)
{
    SOMETIMES_IF(txn_ends(t), "an id is asked for while its transaction ends");
    if (txn_ends(t))
        return KE_CONCURRENT_TRANSACTIONS;
    if (!init_known(t, call->request))
        return KE_PRODUCER_FENCED;
    SOMETIMES_IF(txn_is(t, TXN_ONGOING), "an id is asked for while its transaction is open");
    if (!txn_is(t, TXN_ONGOING))
        return init_raise(t, call);
    enum kafka_error error = step_fence(t);
    return error != KE_NONE ? error : KE_CONCURRENT_TRANSACTIONS;
}

void step_init(struct txn_shard *s, struct txn_call *call)
{
    const struct init_producer_id_request *q = call->request;
    struct init_producer_id_response *r = call->response;
    struct txn *t = txn_find(s, q->transactional_id);
    init_producer_id_response_init(r);
    r->producer_epoch = -1;
    bool known = t != NULL;
    if (!known && call->spare_id < 0) {
        call->wants_id = true;
        txn_call_done(s, call);
        return;
    }
    if (!known) {
        t = mem_may_grow(s->mem) ? txn_create(s, q->transactional_id) : NULL;
        if (t == NULL) {
            txn_call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
            return;
        }
        t->now.producer_id = call->spare_id;
    }
    enum kafka_error error = init_step(t, call);
    if (error != KE_NONE) {
        if (!known)
            txn_remove(t);
        txn_call_refused(s, call, error);
        return;
    }
    if (!call->wants_id) {
        r->producer_id = t->now.producer_id;
        r->producer_epoch = t->now.epoch;
    }
    txn_call_done(s, call);
}

enum kafka_error step_fence(struct txn *t)
{
    SOMETIMES("an open transaction is fenced");
    assert(txn_is(t, TXN_ONGOING));
    struct txn_fields next = t->now;
    bool bumps = t->shard->version >= TXN_VERSION_BUMPS;
    next.epoch = epoch_raised(t->now.epoch);
    next.last_epoch = bumps ? t->now.epoch : -1;
    next.next_producer_id = -1;
    next.client_version = bumps ? TXN_VERSION_BUMPS : 0;
    next.update_ms = *t->shard->wall_ms;
    return step_to(t, &next, TXN_PREPARE_ABORT, true);
}

/* ---- add ------------------------------------------------------------------------------------- */

static void add_tell(const struct txn_add *q, enum kafka_error error)
{
    for (uint32_t i = 0; i < q->partitions_count; i++)
        q->partitions[i].error = error;
}

static enum kafka_error add_check(const struct txn *t, const struct txn_add *q)
{
    if (t == NULL)
        return KE_INVALID_PRODUCER_ID_MAPPING;
    /* Who adds waits for the end that goes on, and only then learns who it is; who only looks is
     * told at once. */
    if (!q->verify_only && txn_ends(t))
        return KE_CONCURRENT_TRANSACTIONS;
    if (t->now.producer_id != q->producer_id)
        return KE_INVALID_PRODUCER_ID_MAPPING;
    SOMETIMES_IF(t->now.epoch != q->epoch, "partitions are added by who was fenced");
    if ((t->now.epoch != q->epoch || q->epoch == INT16_MAX) && !DEFECT(7))
        return KE_PRODUCER_FENCED;
    return txn_ends(t) ? KE_CONCURRENT_TRANSACTIONS : KE_NONE;
}

static bool add_all_there(const struct txn *t, const struct txn_add *q)
{
    for (uint32_t i = 0; i < q->partitions_count; i++) {
        if (!txn_has(t, q->partitions[i].topic, q->partitions[i].partition))
            return false;
    }
    return true;
}

static void add_verify(const struct txn *t, const struct txn_add *q)
{
    SOMETIMES("partitions are verified");
    for (uint32_t i = 0; i < q->partitions_count; i++) {
        struct txn_ask_partition *p = &q->partitions[i];
        p->error = txn_has(t, p->topic, p->partition) ? KE_NONE : KE_TRANSACTION_ABORTABLE;
    }
}

/* Those that were not there before have said so in their error field; it is only used inside. */
static enum kafka_error add_put(struct txn *t, const struct txn_add *q)
{
    struct txn_fields next = t->now;
    enum kafka_error error = KE_NONE;
    uint32_t done = 0;
    for (; done < q->partitions_count && error == KE_NONE; done++) {
        struct txn_ask_partition *p = &q->partitions[done];
        p->error = txn_has(t, p->topic, p->partition) ? KE_NONE : KE_OPERATION_NOT_ATTEMPTED;
        if (!txn_put(t, p->topic, p->partition))
            error = KE_COORDINATOR_NOT_AVAILABLE;
    }
    next.update_ms = *t->shard->wall_ms;
    next.client_version = q->client_version;
    if (!txn_is(t, TXN_ONGOING))
        next.start_ms = next.update_ms;
    if (error == KE_NONE)
        error = step_to(t, &next, TXN_ONGOING, true);
    for (uint32_t i = 0; i < done && error != KE_NONE; i++) {
        const struct txn_ask_partition *p = &q->partitions[i];
        if (p->error != KE_NONE)
            txn_take(t, p->topic, p->partition);
    }
    if (error != KE_NONE && !txn_is(t, TXN_ONGOING))
        txn_clear(t);
    return error;
}

/* Invariant 2. false: it has waited long enough. */
static bool add_wait(struct txn_shard *s, struct txn *t, struct txn_call *call)
{
    uint64_t wait_ms = (uint32_t)s->config->add_partitions_to_txn_retry_backoff_max_ms;
    if (call->due_ns == 0)
        call->due_ns = *s->now_ns + wait_ms * NS_PER_MS;
    if (call->due_ns <= *s->now_ns)
        return false;
    SOMETIMES("an add waits for the end of the transaction before");
    list_push_back(&t->waiting, &call->item.link);
    if (!timer_armed(&s->patience))
        timer_arm(s->wheel, &s->patience, call->due_ns);
    return true;
}

void step_waiting(struct txn *t)
{
    struct list waiting;
    struct list *l;
    list_init(&waiting);
    list_splice_back(&waiting, &t->waiting);
    while ((l = list_pop_front(&waiting)) != NULL)
        step_add(t->shard, container_of(l, struct txn_call, item.link));
}

void step_add(struct txn_shard *s, struct txn_call *call)
{
    const struct txn_add *q = call->request;
    struct txn *t = txn_find(s, q->id);
    enum kafka_error error = add_check(t, q);
    if (error == KE_CONCURRENT_TRANSACTIONS && !q->verify_only && add_wait(s, t, call))
        return;
    if (error != KE_NONE) {
        txn_call_refused(s, call, error);
        return;
    }
    if (q->verify_only) {
        add_verify(t, q);
        txn_call_done(s, call);
        return;
    }
    if (!txn_is(t, TXN_ONGOING) || !add_all_there(t, q))
        error = add_put(t, q);
    add_tell(q, error);
    txn_call_done(s, call);
}

/* ---- end ------------------------------------------------------------------------------------- */

static enum txn_state end_state(const struct end_txn_request *q)
{
    return q->committed ? TXN_PREPARE_COMMIT : TXN_PREPARE_ABORT;
}

/* It has ended already, so. */
static bool end_done(const struct txn *t, const struct end_txn_request *q)
{
    return txn_is(t, q->committed ? TXN_COMPLETE_COMMIT : TXN_COMPLETE_ABORT);
}

static enum kafka_error end_version_1(struct txn *t, const struct end_txn_request *q)
{
    SOMETIMES("a transaction ends in version 1");
    if (t->now.producer_id != q->producer_id)
        return KE_INVALID_PRODUCER_ID_MAPPING;
    SOMETIMES_IF(t->now.epoch != q->producer_epoch, "an end comes from who was fenced");
    if (t->now.epoch != q->producer_epoch && !DEFECT(7))
        return KE_PRODUCER_FENCED;
    if (txn_ends(t))
        return KE_CONCURRENT_TRANSACTIONS;
    SOMETIMES_IF(end_done(t, q), "an end is repeated in version 1");
    if (!txn_is(t, TXN_ONGOING))
        return end_done(t, q) ? KE_NONE : KE_INVALID_TXN_STATE;
    struct txn_fields next = t->now;
    next.next_producer_id = -1;
    next.client_version = 0;
    next.update_ms = *t->shard->wall_ms;
    return step_to(t, &next, end_state(q), true);
}

static enum kafka_error end_raise(struct txn *t, struct txn_call *call,
                                  const struct txn_fields *now)
{
    SOMETIMES("a transaction ends in version 2");
    struct txn_fields next = *now;
    next.next_producer_id = -1;
    if (epoch_exhausted(now->epoch)) {
        if (call->spare_id < 0) {
            call->wants_id = true;
            return KE_NONE;
        }
        next.next_producer_id = call->spare_id;
    }
    next.epoch = epoch_raised(now->epoch);
    next.last_epoch = now->epoch;
    next.client_version = TXN_VERSION_BUMPS;
    next.update_ms = *t->shard->wall_ms;
    if (!txn_is(t, TXN_ONGOING)) /* nothing was written: it begins and ends now */
        next.start_ms = next.update_ms;
    return step_to(t, &next, end_state(call->request), true);
}

static enum kafka_error end_version_2(struct txn *t, struct txn_call *call)
{
    const struct end_txn_request *q = call->request;
    const struct txn_fields *now = &t->now;
    if (txn_ends(t))
        return KE_CONCURRENT_TRANSACTIONS;
    bool open = txn_is(t, TXN_EMPTY) || txn_is(t, TXN_ONGOING);
    bool over = now->prev_producer_id == q->producer_id && now->epoch == 0 &&
                q->producer_epoch == INT16_MAX - 1;
    bool repeat = over || now->epoch == q->producer_epoch + 1;
    if (now->producer_id != q->producer_id && !over)
        return KE_INVALID_PRODUCER_ID_MAPPING;
    if (now->epoch != q->producer_epoch && (open || !repeat))
        return KE_PRODUCER_FENCED;
    if (txn_is(t, TXN_ONGOING))
        return end_raise(t, call, now);
    SOMETIMES_IF(repeat && !open && end_done(t, q), "an end is repeated in version 2");
    if (repeat && !open)
        return end_done(t, q) ? KE_NONE : KE_INVALID_TXN_STATE;
    SOMETIMES_IF(!q->committed, "an empty transaction is aborted");
    return q->committed ? KE_INVALID_TXN_STATE : end_raise(t, call, now);
}

void step_end(struct txn_shard *s, struct txn_call *call)
{
    const struct end_txn_request *q = call->request;
    struct end_txn_response *r = call->response;
    struct txn *t = txn_find(s, q->transactional_id);
    bool raises = call->version > 4;
    enum kafka_error error = t == NULL ? KE_INVALID_PRODUCER_ID_MAPPING
                             : raises  ? end_version_2(t, call)
                                       : end_version_1(t, q);
    if (error != KE_NONE) {
        txn_call_refused(s, call, error);
        return;
    }
    end_txn_response_init(r);
    if (raises && !call->wants_id) {
        bool moves_on = t->now.next_producer_id >= 0;
        r->producer_id = moves_on ? t->now.next_producer_id : t->now.producer_id;
        r->producer_epoch = moves_on ? 0 : t->now.epoch;
    }
    txn_call_done(s, call);
}

/* ---- after the markers ----------------------------------------------------------------------- */

void txn_partition_ended(struct txn *t, struct wire_string topic, int32_t partition)
{
    assert(txn_ends(t));
    txn_take(t, topic, partition);
}

bool txn_complete(struct txn *t)
{
    assert(txn_ends(t) && t->partitions_count == 0);
    struct txn_fields next = t->now;
    if (next.client_version >= TXN_VERSION_BUMPS && next.next_producer_id >= 0) {
        next.producer_id = next.next_producer_id;
        next.epoch = 0; /* last_epoch stays what the producer has last seen */
    }
    next.next_producer_id = -1;
    next.update_ms = *t->shard->wall_ms;
    if (step_to(t, &next, txn_is(t, TXN_PREPARE_COMMIT) ? TXN_COMPLETE_COMMIT : TXN_COMPLETE_ABORT,
                false) != KE_NONE)
        return false;
    txn_clear(t);
    step_waiting(t);
    return true;
}
