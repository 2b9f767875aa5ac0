/* What a partition remembers of its idempotent and transactional producers, with Kafka's rules.
 * (How it is kept in memory: producer_table.c; on disk: producer_snapshot.c.)
 *
 *   producer id ─▶ epoch, last 5 batches {last sequence, last offset, offset delta, timestamp},
 *                  coordinator epoch, first offset of its open transaction
 *
 *   ongoing        open transactions, by their first offset
 *   unreplicated   ended ones whose marker is not below the high watermark yet: as long as the
 *                  marker could be lost, what it decided is not stable
 *   verifying      producers about to open a transaction, while its coordinator is asked: a guard
 *                  that the batch must bring back, so that an answer that a marker has overtaken
 *                  opens nothing; and the lowest sequence that was refused or waits, so that higher
 *                  ones do not go first
 *
 * Invariants
 *  1. State is a function of the batches in the log (and of expiry): replay gives the same.
 *  2. Checking changes nothing; producer_apply cannot fail, because producer_reserve came before.
 *  3. ongoing ascends in first offsets; first unstable offset = min(first ongoing, first
 * unreplicated).
 *
 * Failure: over budget, the producer of this log that was silent longest (and has no open
 * transaction) is forgotten, as if it had expired; if there is none, the append is refused. */
#include "broker/log/producer_priv.h"

#include <errno.h>

#include "core/lab.h"

static bool in_sequence(int32_t last, int32_t next)
{
    return (int64_t)next == (int64_t)last + 1 || (next == 0 && last == INT32_MAX);
}

/* ---- judging --------------------------------------------------------------------------------- */

static const struct producer_batch *producer_duplicate(const struct producer *p,
                                                       const struct batch_header *h)
{
    if (p->epoch != h->producer_epoch || h->base_sequence < 0 || DEFECT(3))
        return NULL;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct producer_batch *b = producer_batch(p, i);
        if (sequence_back(b->last_sequence, b->offset_delta) == h->base_sequence &&
            b->last_sequence == batch_last_sequence(h))
            return b;
    }
    return NULL;
}

static enum producer_verdict refuse(struct producer_change *change, enum kafka_error error,
                                    const char *message)
{
    SOMETIMES("a batch of a producer is refused");
    change->error = error;
    change->message = message;
    return PRODUCER_REFUSED;
}

static bool sequence_follows(const struct producer *p, const struct batch_header *h)
{
    if (p == NULL || p->epoch == PRODUCER_NO_EPOCH)
        return true; /* state may have been forgotten: any sequence begins it anew */
    if (p->epoch != h->producer_epoch)
        return h->base_sequence == 0;
    int32_t last = p->count == 0 ? PRODUCER_NO_SEQUENCE : p->newest.last_sequence;
    return in_sequence(last, h->base_sequence);
}

static bool marker_read(const struct batch_header *h, const uint8_t *batch,
                        struct producer_change *change)
{
    enum batch_control type;
    if (!batch_read_control(batch, h->size, &type, &change->coordinator_epoch))
        return false;
    change->marker = type == BATCH_CONTROL_ABORT || type == BATCH_CONTROL_COMMIT;
    change->commit = type == BATCH_CONTROL_COMMIT;
    return true;
}

/* The entry of the transaction that this marker aborts. Stable is then what is below the oldest
 * other transaction (ProducerStateManager.lastStableOffset). */
static void marker_abort(const struct log *l, const struct producer *p,
                         const struct batch_header *h, struct producer_change *change)
{
    if (p == NULL || p->open == NULL || !change->marker || change->commit)
        return;
    SOMETIMES("a transaction is aborted in a log");
    change->aborts = h->base_offset >= l->aborted_from;
    change->aborted = (struct aborted_txn){.producer_id = p->id,
                                           .first_offset = p->open->first_offset,
                                           .last_offset = h->base_offset,
                                           .stable_offset = h->base_offset + 1};
    LIST_EACH(at, &l->producers->ongoing)
    {
        const struct producer_txn *other = container_of(at, struct producer_txn, link);
        SOMETIMES_IF(other != p->open, "a transaction is aborted while others are open");
        if (other == p->open)
            continue;
        change->aborted.stable_offset = other->first_offset;
        return;
    }
}

static enum producer_verdict marker_check(const struct log *l, const struct producer *p,
                                          const struct batch_header *h, const uint8_t *batch,
                                          const struct log_append *a,
                                          struct producer_change *change)
{
    if (!marker_read(h, batch, change))
        return refuse(change, KE_INVALID_RECORD, "The control record cannot be read.");
    if (p != NULL && change->marker && a->transaction_version >= 2 &&
        h->producer_epoch == p->epoch) {
        if (!a->may_repeat || p->open != NULL)
            return refuse(change, KE_INVALID_PRODUCER_EPOCH, "The marker is of the past.");
        SOMETIMES("a marker that is there already is told again");
        change->base_offset = change->last_offset = l->end_offset - 1; /* it is below */
        return PRODUCER_DUPLICATE;
    }
    if (p != NULL && change->marker && p->coordinator_epoch > change->coordinator_epoch)
        return refuse(change, KE_TRANSACTION_COORDINATOR_FENCED,
                      "The marker comes from an old coordinator.");
    marker_abort(l, p, h, change);
    return PRODUCER_ACCEPTED;
}

/* ---- verification ---------------------------------------------------------------------------- */

static struct verification *verification_find(const struct log *l, int64_t id)
{
    return l->producers == NULL ? NULL : id_map_get(&l->producers->verifying, id);
}

void verification_end(struct log *l, int64_t id)
{
    struct verification *v = verification_find(l, id);
    if (v == NULL)
        return;
    SOMETIMES("a verification ends");
    (void)id_map_remove(&l->producers->verifying, v->producer_id);
    mem_free(l->core->mem, v, sizeof(*v));
}

static struct verification *verification_make(struct log *l, int64_t id)
{
    if (!producers_make(l) ||
        id_map_reserve(&l->producers->verifying, l->producers->verifying.count + 1) != 0)
        return NULL;
    struct verification *v = mem_zalloc(l->core->mem, sizeof(*v));
    if (v == NULL)
        return NULL;
    v->producer_id = id;
    v->guard = ++l->core->txn_guard;
    v->since_ms = io_wall_ms(l->core->io);
    id_map_put(&l->producers->verifying, &v->producer_id);
    return v;
}

/* Is its transaction open, and is it this one? */
static bool producer_in_txn(const struct producer *p, int16_t epoch)
{
    return p != NULL && p->open != NULL && p->epoch == epoch;
}

static enum kafka_error txn_check(const struct log *l, const struct producer *p, int64_t id,
                                  int16_t epoch, uint64_t guard)
{
    if (producer_in_txn(p, epoch))
        return KE_NONE;
    if (p != NULL && epoch < p->epoch)
        return KE_INVALID_PRODUCER_EPOCH;
    const struct verification *v = verification_find(l, id);
    bool verified = v != NULL && guard != 0 && v->guard == guard;
    return verified || !l->core->config.verify_transactions ? KE_NONE : KE_INVALID_TXN_STATE;
}

enum kafka_error log_txn_check(const struct log *l, int64_t producer_id, int16_t producer_epoch,
                               uint64_t guard)
{
    return txn_check(l, producer_find(l, producer_id), producer_id, producer_epoch, guard);
}

/* VerificationStateEntry: the lowest sequence of the newest epoch. */
static bool sequence_waits_for_lower(const struct log *l, const struct producer *p,
                                     const struct batch_header *h)
{
    const struct verification *v = verification_find(l, h->producer_id);
    if (v == NULL)
        return false;
    bool is_new = p == NULL || p->count == 0;
    return (v->adds && is_new && h->base_sequence != 0) || h->base_sequence > v->lowest_sequence;
}

enum producer_verdict producer_check(struct log *l, const struct batch_header *h,
                                     const uint8_t *batch, const struct log_append *a,
                                     struct producer_change *change)
{
    bool client = a->origin == LOG_ORIGIN_CLIENT, txn = batch_has(h, BATCH_TRANSACTIONAL);
    *change = (struct producer_change){.error = KE_NONE};
    if (h->producer_id < 0)
        return PRODUCER_ACCEPTED;
    struct producer *p = change->producer = producer_find(l, h->producer_id);
    const struct producer_batch *original = p != NULL && client ? producer_duplicate(p, h) : NULL;
    if (original != NULL) {
        SOMETIMES("a batch is a duplicate");
        change->last_offset = original->last_offset;
        change->base_offset = original->last_offset - original->offset_delta;
        change->timestamp = original->timestamp;
        return PRODUCER_DUPLICATE;
    }
    SOMETIMES_IF(p != NULL && h->producer_epoch < p->epoch, "a batch of an old epoch is refused");
    if (p != NULL && h->producer_epoch < p->epoch)
        return refuse(change, KE_INVALID_PRODUCER_EPOCH, "The producer's epoch is old.");
    if (batch_has(h, BATCH_CONTROL))
        return marker_check(l, p, h, batch, a, change);
    enum kafka_error error =
        txn ? txn_check(l, p, h->producer_id, h->producer_epoch, a->txn_guard) : KE_NONE;
    if (error != KE_NONE)
        return refuse(change, error, "Record was not part of an ongoing transaction");
    SOMETIMES_IF(client && !sequence_follows(p, h), "a batch out of sequence is refused");
    if (client && (sequence_waits_for_lower(l, p, h) || !sequence_follows(p, h)))
        return refuse(change, KE_OUT_OF_ORDER_SEQUENCE_NUMBER,
                      "The sequence does not follow the producer's last one.");
    if (p != NULL && p->open != NULL && !txn)
        return refuse(change, KE_INVALID_TXN_STATE,
                      "A batch outside the producer's open transaction.");
    return PRODUCER_ACCEPTED;
}

bool log_txn_begin(struct log *l, int64_t producer_id, int16_t producer_epoch,
                   int32_t base_sequence, bool adds, uint64_t *guard)
{
    struct verification *v = verification_find(l, producer_id);
    *guard = 0;
    if (producer_in_txn(producer_find(l, producer_id), producer_epoch))
        return true;
    if (v == NULL) {
        v = verification_make(l, producer_id);
        if (v == NULL)
            return false;
        v->epoch = producer_epoch;
        v->lowest_sequence = base_sequence;
        v->adds = adds;
    }
    if (producer_epoch > v->epoch ||
        (producer_epoch == v->epoch && base_sequence < v->lowest_sequence)) {
        v->epoch = producer_epoch;
        v->lowest_sequence = base_sequence;
    }
    *guard = v->guard;
    return true;
}

void log_txn_forget(struct log *l, int64_t producer_id, uint64_t guard)
{
    const struct verification *v = verification_find(l, producer_id);
    if (v != NULL && v->guard == guard)
        verification_end(l, producer_id);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Known, with room for the batch, and a transaction if it opens one. */
static bool reserve_producer(struct log *l, const struct batch_header *h,
                             struct producer_change *change)
{
    if (change->producer == NULL) {
        change->producer = producer_make(l, h->producer_id);
        change->made = change->producer != NULL;
    }
    if (change->producer == NULL || batch_has(h, BATCH_CONTROL))
        return change->producer != NULL;
    if (!producer_window_reserve(l, change->producer, h->producer_epoch))
        return false;
    if (!batch_has(h, BATCH_TRANSACTIONAL) || change->producer->open != NULL)
        return true;
    if (change->txn == NULL)
        change->txn = producer_txn_make(l, h->producer_id, h->base_offset);
    return change->txn != NULL;
}

bool producer_reserve(struct log *l, const struct batch_header *h, struct producer_change *change)
{
    assert(change->error == KE_NONE);
    if (h->producer_id < 0)
        return true;
    if (change->aborts && !txn_index_reserve(l))
        return false;
    return reserve_producer(l, h, change) ||
           (producers_forget_oldest(l, change->producer) && reserve_producer(l, h, change));
}

void producer_unreserve(struct log *l, struct producer_change *change)
{
    mem_free(l->core->mem, change->txn, sizeof(*change->txn));
    if (change->made)
        producer_free(l, change->producer);
    change->made = false;
    change->txn = NULL;
    change->producer = NULL;
}

/* ---- effects --------------------------------------------------------------------------------- */

static void producer_end_txn(struct log *l, struct producer *p, const struct batch_header *h,
                             const struct producer_change *change)
{
    struct producer_txn *t = p->open;
    SOMETIMES_IF(t == NULL, "a marker ends nothing where it is written");
    if (t != NULL) { /* else nothing was open here: the marker is only written */
        t->epoch = p->epoch;
        t->coordinator_epoch = p->coordinator_epoch;
        t->last_offset = h->base_offset;
        p->open = NULL;
        list_remove(&t->link);
        list_push_back(&l->producers->unreplicated, &t->link);
    }
    producer_set_epoch(p, h->producer_epoch);
    p->coordinator_epoch = change->coordinator_epoch;
    p->last_timestamp = h->max_timestamp;
    p->seen_ms = io_wall_ms(l->core->io);
    if (t != NULL && change->aborts)
        txn_index_add(l, &change->aborted);
}

/* A marker of version 2 has the raised epoch, in which the next transaction may already wait for
 * its coordinator: what is being verified for that one stays. */
static bool verification_is_next(const struct log *l, const struct producer *p,
                                 const struct batch_header *h)
{
    const struct verification *v = verification_find(l, p->id);
    return v != NULL && v->adds && batch_has(h, BATCH_CONTROL) && v->epoch > p->epoch &&
           v->epoch >= h->producer_epoch;
}

void producer_apply(struct log *l, const struct batch_header *h, struct producer_change *change)
{
    struct producer *p = change->producer;
    if (h->producer_id < 0)
        return;
    assert(p != NULL && p->id == h->producer_id);
    if (change->made)
        id_map_put(&l->producers->by_id, &p->id);
    l->producers_dirty = true;
    SOMETIMES_IF(batch_has(h, BATCH_CONTROL) && verification_is_next(l, p, h),
                 "a marker meets the verification of the next transaction");
    if (batch_has(h, BATCH_TRANSACTIONAL) && !verification_is_next(l, p, h))
        verification_end(l, p->id);
    if (batch_has(h, BATCH_CONTROL)) {
        if (change->marker)
            producer_end_txn(l, p, h, change);
        return;
    }
    producer_set_epoch(p, h->producer_epoch);
    p->seen_ms = io_wall_ms(l->core->io);
    producer_window_add(p, &(struct producer_batch){
                               .last_sequence = batch_last_sequence(h),
                               .offset_delta = h->last_offset_delta,
                               .last_offset = batch_last_offset(h),
                               .timestamp = h->max_timestamp,
                           });
    if (change->txn == NULL)
        return;
    producer_txn_open(l, p, change->txn);
    change->txn = NULL;
}

int producer_learn(struct log *l, const struct batch_header *h, const uint8_t *batch, uint32_t size)
{
    assert(size >= BATCH_HEADER_SIZE);
    struct producer_change change = {.error = KE_NONE, .coordinator_epoch = PRODUCER_NO_EPOCH};
    if (h->producer_id < 0)
        return 0;
    change.producer = producer_find(l, h->producer_id);
    if (batch_has(h, BATCH_CONTROL) && h->record_count > 0 && /* compaction may have emptied it */
        marker_read(h, batch, &change))
        marker_abort(l, change.producer, h, &change);
    if (!producer_reserve(l, h, &change)) {
        producer_unreserve(l, &change);
        return -ENOMEM;
    }
    producer_apply(l, h, &change);
    return 0;
}
