/* What a partition remembers of its idempotent and transactional producers, with Kafka's rules.
 *
 *   producer id ─▶ epoch, last 5 batches {last sequence, last offset, offset delta, timestamp},
 *                  coordinator epoch, first offset of its open transaction
 *
 *   ongoing        open transactions, oldest first
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
 *  3. ongoing ascends in txn_start; first unstable offset = min(first ongoing, first unreplicated).
 *
 * Failure: over budget, the producer of this log that was silent longest (and has no open
 * transaction) is forgotten, as if it had expired; if there is none, the append is refused. */
#include "broker/log/producer.h"

#include <errno.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/lab.h"

#define SNAPSHOT_VERSION      1
#define SNAPSHOT_HEADER_SIZE  10u /* version, crc, count */
#define SNAPSHOT_CRC_FROM     6u
#define SNAPSHOT_ENTRY_SIZE   46u
#define SNAPSHOT_WINDOW_MAGIC 0x4e495754u /* torc's own part: "TWIN" */
#define WINDOW_BATCH_SIZE     24u
#define NO_EPOCH              (-1)
#define NO_SEQUENCE           (-1)

struct producer_batch {
    int32_t last_sequence, offset_delta;
    int64_t last_offset, timestamp;
};

struct producer {
    int64_t id;
    int16_t epoch;
    uint8_t count; /* batches remembered, oldest first */
    int32_t coordinator_epoch;
    int64_t txn_start; /* NO_OFFSET: no open transaction */
    int64_t last_timestamp;
    int64_t seen_ms; /* wall clock when it last wrote, or was loaded */
    struct list ongoing;
    struct producer_batch batches[PRODUCER_BATCHES];
};

struct producer_txn { /* unreplicated */
    struct list link;
    int64_t producer_id, first_offset, last_offset;
    int16_t epoch; /* as they were before the marker */
    int32_t coordinator_epoch;
};

struct verification {
    int64_t producer_id;
    uint64_t guard;
    int64_t since_ms;
    int32_t lowest_sequence;
    int16_t epoch;
    bool adds; /* version 2: a producer that is new here begins at sequence 0 */
};

struct producers {
    struct map by_id;
    struct map verifying; /* by producer id */
    struct list ongoing, unreplicated;
};

static struct producer *producer_find(const struct log *l, int64_t id)
{
    return l->producers == NULL ? NULL : map_get(&l->producers->by_id, &id, sizeof(id));
}

static int32_t sequence_back(int32_t sequence, int32_t by)
{
    assert(by >= 0);
    return sequence < by ? (int32_t)(INT32_MAX - (by - sequence) + 1) : sequence - by;
}

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
        const struct producer_batch *b = &p->batches[i];
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
    if (p == NULL || p->epoch == NO_EPOCH)
        return true; /* state may have been forgotten: any sequence begins it anew */
    if (p->epoch != h->producer_epoch)
        return h->base_sequence == 0;
    int32_t last = p->count == 0 ? NO_SEQUENCE : p->batches[p->count - 1].last_sequence;
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
    if (p == NULL || p->txn_start == NO_OFFSET || !change->marker || change->commit)
        return;
    SOMETIMES("a transaction is aborted in a log");
    change->aborts = h->base_offset >= l->aborted_from;
    change->aborted = (struct aborted_txn){.producer_id = p->id,
                                           .first_offset = p->txn_start,
                                           .last_offset = h->base_offset,
                                           .stable_offset = h->base_offset + 1};
    LIST_EACH(at, &l->producers->ongoing)
    {
        const struct producer *other = container_of(at, struct producer, ongoing);
        SOMETIMES_IF(other != p, "a transaction is aborted while others are open");
        if (other == p)
            continue;
        change->aborted.stable_offset = other->txn_start;
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
        if (!a->may_repeat || p->txn_start != NO_OFFSET)
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
    return l->producers == NULL ? NULL : map_get(&l->producers->verifying, &id, sizeof(id));
}

static void verification_end(struct log *l, int64_t id)
{
    struct verification *v = verification_find(l, id);
    if (v == NULL)
        return;
    SOMETIMES("a verification ends");
    (void)map_remove(&l->producers->verifying, &v->producer_id, sizeof(v->producer_id));
    mem_free(l->core->mem, v, sizeof(*v));
}

/* Is its transaction open, and is it this one? */
static bool producer_in_txn(const struct producer *p, int16_t epoch)
{
    return p != NULL && p->txn_start != NO_OFFSET && p->epoch == epoch;
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
    if (p != NULL && p->txn_start != NO_OFFSET && !txn)
        return refuse(change, KE_INVALID_TXN_STATE,
                      "A batch outside the producer's open transaction.");
    return PRODUCER_ACCEPTED;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static bool producers_make(struct log *l)
{
    if (l->producers != NULL)
        return true;
    l->producers = mem_zalloc(l->core->mem, sizeof(*l->producers));
    if (l->producers == NULL)
        return false;
    map_init(&l->producers->by_id, l->core->mem, 0);
    map_init(&l->producers->verifying, l->core->mem, 0);
    list_init(&l->producers->ongoing);
    list_init(&l->producers->unreplicated);
    return true;
}

static void producer_forget(struct log *l, struct producer *p)
{
    assert(p->txn_start == NO_OFFSET && list_empty(&p->ongoing));
    void *removed = map_remove(&l->producers->by_id, &p->id, sizeof(p->id));
    assert(removed == p);
    mem_free(l->core->mem, p, sizeof(*p));
}

static bool producers_forget_oldest(struct log *l)
{
    uint32_t at = 0;
    struct producer *p, *oldest = NULL;
    if (l->producers == NULL)
        return false;
    while ((p = map_next(&l->producers->by_id, &at)) != NULL)
        if (p->txn_start == NO_OFFSET &&
            (oldest == NULL || p->last_timestamp < oldest->last_timestamp))
            oldest = p;
    if (oldest == NULL)
        return false;
    producer_forget(l, oldest);
    return true;
}

static struct producer *producer_make(struct log *l, int64_t id)
{
    if (!producers_make(l) || map_reserve(&l->producers->by_id, l->producers->by_id.count + 1) != 0)
        return NULL;
    struct producer *p = mem_zalloc(l->core->mem, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->id = id;
    p->epoch = NO_EPOCH;
    p->coordinator_epoch = NO_EPOCH;
    p->txn_start = NO_OFFSET;
    p->last_timestamp = NO_TIMESTAMP;
    p->seen_ms = io_wall_ms(l->core->io);
    list_init(&p->ongoing);
    return p;
}

bool log_txn_begin(struct log *l, int64_t producer_id, int16_t producer_epoch,
                   int32_t base_sequence, bool adds, uint64_t *guard)
{
    struct verification *v = verification_find(l, producer_id);
    *guard = 0;
    if (producer_in_txn(producer_find(l, producer_id), producer_epoch))
        return true;
    if (v == NULL) {
        v = producers_make(l) ? mem_zalloc(l->core->mem, sizeof(*v)) : NULL;
        if (v == NULL)
            return false;
        *v = (struct verification){.producer_id = producer_id,
                                   .guard = ++l->core->txn_guard,
                                   .since_ms = io_wall_ms(l->core->io),
                                   .lowest_sequence = base_sequence,
                                   .epoch = producer_epoch,
                                   .adds = adds};
        if (map_put(&l->producers->verifying, &v->producer_id, sizeof(v->producer_id), v) != 0) {
            mem_free(l->core->mem, v, sizeof(*v));
            return false;
        }
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

bool producer_reserve(struct log *l, const struct batch_header *h, struct producer_change *change)
{
    assert(change->error == KE_NONE);
    if (h->producer_id < 0)
        return true;
    if (change->marker) {
        change->txn = mem_zalloc(l->core->mem, sizeof(*change->txn));
        if (change->txn == NULL)
            return false;
        list_init(&change->txn->link);
    }
    if (change->aborts && !txn_index_reserve(l))
        return false;
    if (change->producer != NULL)
        return true;
    change->producer = producer_make(l, h->producer_id);
    if (change->producer == NULL && producers_forget_oldest(l))
        change->producer = producer_make(l, h->producer_id);
    change->made = change->producer != NULL;
    return change->made;
}

void producer_unreserve(struct log *l, struct producer_change *change)
{
    mem_free(l->core->mem, change->txn, sizeof(*change->txn));
    if (change->made)
        mem_free(l->core->mem, change->producer, sizeof(*change->producer));
    change->txn = NULL;
    change->producer = NULL;
}

void producers_free(struct log *l)
{
    struct producers *ps = l->producers;
    struct producer *p;
    struct list *at;
    uint32_t slot = 0;
    if (ps == NULL)
        return;
    while ((p = map_next(&ps->by_id, &slot)) != NULL)
        mem_free(l->core->mem, p, sizeof(*p));
    while ((at = list_pop_front(&ps->unreplicated)) != NULL)
        mem_free(l->core->mem, container_of(at, struct producer_txn, link),
                 sizeof(struct producer_txn));
    struct verification *v;
    for (slot = 0; (v = map_next(&ps->verifying, &slot)) != NULL;)
        mem_free(l->core->mem, v, sizeof(*v));
    map_destroy(&ps->by_id);
    map_destroy(&ps->verifying);
    mem_free(l->core->mem, ps, sizeof(*ps));
    l->producers = NULL;
}

/* ---- effects --------------------------------------------------------------------------------- */

static void producer_set_epoch(struct producer *p, int16_t epoch)
{
    if (p->epoch == epoch)
        return;
    SOMETIMES_IF(p->epoch >= 0, "a producer has a new epoch in a log");
    p->epoch = epoch;
    p->count = 0;
}

static void producer_add_batch(struct producer *p, struct producer_batch b)
{
    assert(p->count <= PRODUCER_BATCHES);
    if (p->count == PRODUCER_BATCHES) {
        memmove(&p->batches[0], &p->batches[1], (PRODUCER_BATCHES - 1) * sizeof(b));
        p->count--;
    }
    p->batches[p->count++] = b;
    p->last_timestamp = b.timestamp;
}

static void producer_end_txn(struct log *l, struct producer *p, const struct batch_header *h,
                             struct producer_change *change)
{
    change->txn->epoch = p->epoch;
    change->txn->coordinator_epoch = p->coordinator_epoch;
    producer_set_epoch(p, h->producer_epoch);
    p->coordinator_epoch = change->coordinator_epoch;
    p->last_timestamp = h->max_timestamp;
    p->seen_ms = io_wall_ms(l->core->io);
    if (p->txn_start == NO_OFFSET) { /* nothing was open here: the marker is only written */
        SOMETIMES("a marker ends nothing where it is written");
        mem_free(l->core->mem, change->txn, sizeof(*change->txn));
        change->txn = NULL;
        return;
    }
    change->txn->producer_id = p->id;
    change->txn->first_offset = p->txn_start;
    change->txn->last_offset = h->base_offset;
    list_push_back(&l->producers->unreplicated, &change->txn->link);
    change->txn = NULL;
    p->txn_start = NO_OFFSET;
    list_remove(&p->ongoing);
    if (change->aborts)
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
    if (change->made) {
        int error = map_put(&l->producers->by_id, &p->id, sizeof(p->id), p);
        assert(error == 0); /* reserved */
    }
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
    producer_add_batch(p, (struct producer_batch){
                              .last_sequence = batch_last_sequence(h),
                              .offset_delta = h->last_offset_delta,
                              .last_offset = batch_last_offset(h),
                              .timestamp = h->max_timestamp,
                          });
    if (batch_has(h, BATCH_TRANSACTIONAL) && p->txn_start == NO_OFFSET) {
        p->txn_start = h->base_offset;
        list_push_back(&l->producers->ongoing, &p->ongoing);
    }
}

int producer_learn(struct log *l, const struct batch_header *h, const uint8_t *batch, uint32_t size)
{
    assert(size >= BATCH_HEADER_SIZE);
    struct producer_change change = {.error = KE_NONE, .coordinator_epoch = NO_EPOCH};
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

bool producer_last(const struct log *l, int64_t id, int64_t *last_offset, int16_t *epoch)
{
    const struct producer *p = producer_find(l, id);
    if (p == NULL)
        return false;
    *last_offset = p->count == 0 ? NO_OFFSET : p->batches[p->count - 1].last_offset;
    *epoch = p->epoch;
    return true;
}

int64_t producers_first_unstable(const struct log *l)
{
    int64_t first = INT64_MAX;
    if (l->producers == NULL)
        return first;
    const struct list *ongoing = list_first(&l->producers->ongoing);
    if (ongoing != NULL)
        first = container_of(ongoing, const struct producer, ongoing)->txn_start;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        const struct producer_txn *t = container_of(at, struct producer_txn, link);
        first = MIN(first, t->first_offset);
    }
    return first;
}

void producers_high_watermark(struct log *l)
{
    if (l->producers == NULL)
        return;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        struct producer_txn *t = container_of(at, struct producer_txn, link);
        if (t->last_offset >= l->high_watermark)
            continue;
        list_remove(&t->link);
        mem_free(l->core->mem, t, sizeof(*t));
    }
}

void producers_expire(struct log *l)
{
    int64_t now_ms = io_wall_ms(l->core->io);
    uint32_t at = 0;
    struct producer *p;
    if (l->producers == NULL)
        return;
    struct verification *v;
    while ((v = map_next(&l->producers->verifying, &at)) != NULL) {
        if (now_ms - v->since_ms < l->core->config.producer_expiration_ms)
            continue;
        verification_end(l, v->producer_id); /* never verified */
        at--;
    }
    at = 0;
    while ((p = map_next(&l->producers->by_id, &at)) != NULL) {
        /* Not by timestamps alone: who writes old records now is not gone. */
        int64_t last_ms = MAX(p->last_timestamp, p->seen_ms);
        if (p->txn_start != NO_OFFSET || now_ms - last_ms < l->core->config.producer_expiration_ms)
            continue;
        SOMETIMES("a producer is forgotten");
        producer_forget(l, p);
        at--; /* removal moves the next one into this slot */
    }
}

/* ---- DescribeProducers ----------------------------------------------------------------------- */

void log_producers(const struct log *l, void (*visit)(void *context, const struct log_producer *p),
                   void *context)
{
    const struct producer *p;
    uint32_t at = 0;
    while (l->producers != NULL && (p = map_next(&l->producers->by_id, &at)) != NULL)
        visit(context, &(struct log_producer){
                           .producer_id = p->id,
                           .producer_epoch = p->epoch,
                           .last_sequence =
                               p->count == 0 ? NO_SEQUENCE : p->batches[p->count - 1].last_sequence,
                           .last_timestamp = p->last_timestamp,
                           .coordinator_epoch = p->coordinator_epoch,
                           .txn_start_offset = p->txn_start,
                       });
}

/* ---- snapshots ------------------------------------------------------------------------------- */
/*   0  version i16 = 1 │ crc u32 over all that follows │ count i32          (big-endian)
 *      count x { id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
 *                timestamp i64, coordinator epoch i32, transaction's first offset i64 }
 *      torc's own: magic u32 │ count x { batches u8, each but the last as 24 bytes: last sequence
 *      i32, offset delta i32, last offset i64, timestamp i64 } */

static uint8_t *put(uint8_t *to, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    return to + size;
}

static uint64_t get(const uint8_t **at, uint32_t size)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < size; i++)
        value = value << 8 | *(*at)++;
    return value;
}

/* p as it was before the batch at `below`. What its epoch was before a batch that is not counted is
 * not known; that the batch began at this sequence is, and says what came before. */
static struct producer producer_before(const struct log *l, const struct producer *p, int64_t below)
{
    struct producer before = *p;
    while (before.count > 0 && before.batches[before.count - 1].last_offset >= below)
        before.count--;
    if (before.count == 0 && p->count > 0) {
        int32_t first = sequence_back(p->batches[0].last_sequence, p->batches[0].offset_delta);
        before.batches[0].last_sequence = first == 0 ? NO_SEQUENCE : sequence_back(first, 1);
        before.batches[0].offset_delta = 0;
        before.batches[0].last_offset = below - 1;
        before.count = first == 0 ? 0 : 1;
    }
    SOMETIMES_IF(before.count < p->count, "a snapshot leaves out batches that are not durable");
    if (before.txn_start >= below)
        before.txn_start = NO_OFFSET;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        const struct producer_txn *t = container_of(at, struct producer_txn, link);
        if (t->producer_id != p->id || t->first_offset >= below || t->last_offset < below)
            continue;
        SOMETIMES("a snapshot takes back a marker that is not durable");
        before.txn_start = t->first_offset;
        before.epoch = t->epoch; /* the marker may be written again, and must be new then */
        before.coordinator_epoch = t->coordinator_epoch;
    }
    return before;
}

static uint8_t *snapshot_put_entry(uint8_t *to, const struct producer *p)
{
    struct producer_batch none = {NO_SEQUENCE, 0, NO_OFFSET, NO_TIMESTAMP};
    const struct producer_batch *b = p->count == 0 ? &none : &p->batches[p->count - 1];
    to = put(to, (uint64_t)p->id, 8);
    to = put(to, (uint16_t)p->epoch, 2);
    to = put(to, (uint32_t)b->last_sequence, 4);
    to = put(to, (uint64_t)b->last_offset, 8);
    to = put(to, (uint32_t)b->offset_delta, 4);
    to = put(to, (uint64_t)p->last_timestamp, 8);
    to = put(to, (uint32_t)p->coordinator_epoch, 4);
    return put(to, (uint64_t)p->txn_start, 8);
}

static uint8_t *snapshot_put_window(uint8_t *to, const struct producer *p)
{
    uint8_t older = p->count == 0 ? 0 : (uint8_t)(p->count - 1);
    to = put(to, older, 1);
    for (uint32_t i = 0; i < older; i++) {
        to = put(to, (uint32_t)p->batches[i].last_sequence, 4);
        to = put(to, (uint32_t)p->batches[i].offset_delta, 4);
        to = put(to, (uint64_t)p->batches[i].last_offset, 8);
        to = put(to, (uint64_t)p->batches[i].timestamp, 8);
    }
    return to;
}

uint8_t *producers_encode(struct log *l, int64_t below, uint32_t *size)
{
    const struct producers *ps = l->producers;
    uint32_t count = ps == NULL ? 0 : ps->by_id.count, at;
    uint32_t room = SNAPSHOT_HEADER_SIZE + 4 +
                    count * (SNAPSHOT_ENTRY_SIZE + 1 + (PRODUCER_BATCHES - 1) * WINDOW_BATCH_SIZE);
    uint8_t *data = mem_alloc(l->core->mem, room), *to = data;
    struct producer *p;
    if (data == NULL)
        return NULL;
    to = put(to, SNAPSHOT_VERSION, 2);
    to = put(to, 0, 4);
    to = put(to, count, 4);
    for (at = 0; count > 0 && (p = map_next(&ps->by_id, &at)) != NULL;) {
        struct producer before = producer_before(l, p, below);
        to = snapshot_put_entry(to, &before);
    }
    to = put(to, SNAPSHOT_WINDOW_MAGIC, 4);
    for (at = 0; count > 0 && (p = map_next(&ps->by_id, &at)) != NULL;) {
        struct producer before = producer_before(l, p, below);
        to = snapshot_put_window(to, &before);
    }
    *size = (uint32_t)(to - data);
    assert(*size <= room);
    (void)put(data + 2, crc32c(0, data + SNAPSHOT_CRC_FROM, *size - SNAPSHOT_CRC_FROM), 4);
    /* What was reserved too much goes back; a block that only shrinks is not refused. */
    uint8_t *fitted = mem_realloc(l->core->mem, data, room, *size);
    if (fitted == NULL)
        mem_free(l->core->mem, data, room);
    return fitted;
}

static bool snapshot_get_entry(struct log *l, const uint8_t **at)
{
    int64_t id = (int64_t)get(at, 8);
    if (id < 0 || producer_find(l, id) != NULL)
        return false;
    struct producer *p = producer_make(l, id);
    if (p == NULL)
        return false;
    struct producer_batch b;
    p->epoch = (int16_t)get(at, 2);
    b.last_sequence = (int32_t)get(at, 4);
    b.last_offset = (int64_t)get(at, 8);
    b.offset_delta = (int32_t)get(at, 4);
    p->last_timestamp = b.timestamp = (int64_t)get(at, 8);
    p->coordinator_epoch = (int32_t)get(at, 4);
    p->txn_start = (int64_t)get(at, 8);
    if (b.last_offset >= 0 && b.offset_delta >= 0)
        p->batches[p->count++] = b;
    int error = map_put(&l->producers->by_id, &p->id, sizeof(p->id), p);
    assert(error == 0); /* reserved by producer_make */
    if (p->txn_start < 0)
        return true;
    struct list *before = &l->producers->ongoing; /* kept in order of txn_start */
    LIST_EACH(other, &l->producers->ongoing)
    {
        if (container_of(other, struct producer, ongoing)->txn_start > p->txn_start) {
            before = other;
            break;
        }
    }
    list_insert_before(before, &p->ongoing);
    return true;
}

/* The older batches of a window, if there are any; damage here only makes windows shorter. */
static void snapshot_get_windows(struct log *l, const uint8_t *entries, uint32_t count,
                                 const uint8_t *at, const uint8_t *end)
{
    if (end - at < 4 || get(&at, 4) != SNAPSHOT_WINDOW_MAGIC)
        return;
    for (uint32_t i = 0; i < count && at < end; i++) {
        const uint8_t *entry = entries + (size_t)i * SNAPSHOT_ENTRY_SIZE;
        struct producer *p = producer_find(l, (int64_t)get(&entry, 8));
        uint8_t older = *at++;
        if (p == NULL || older >= PRODUCER_BATCHES || end - at < (int64_t)older * WINDOW_BATCH_SIZE)
            return;
        if (older > 0 && p->count != 1)
            return;
        if (older > 0)
            p->batches[older] = p->batches[0];
        for (uint32_t k = 0; k < older; k++) {
            p->batches[k].last_sequence = (int32_t)get(&at, 4);
            p->batches[k].offset_delta = (int32_t)get(&at, 4);
            p->batches[k].last_offset = (int64_t)get(&at, 8);
            p->batches[k].timestamp = (int64_t)get(&at, 8);
        }
        p->count = (uint8_t)(p->count + older);
    }
}

bool producers_decode(struct log *l, const uint8_t *data, size_t size)
{
    const uint8_t *at = data;
    producers_free(l);
    if (size < SNAPSHOT_HEADER_SIZE || get(&at, 2) != SNAPSHOT_VERSION)
        return false;
    uint32_t crc = (uint32_t)get(&at, 4), count = (uint32_t)get(&at, 4);
    if (crc != crc32c(0, data + SNAPSHOT_CRC_FROM, size - SNAPSHOT_CRC_FROM) ||
        count > (size - SNAPSHOT_HEADER_SIZE) / SNAPSHOT_ENTRY_SIZE)
        return false;
    const uint8_t *entries = at;
    for (uint32_t i = 0; i < count; i++) {
        if (snapshot_get_entry(l, &at))
            continue;
        producers_free(l);
        return false;
    }
    snapshot_get_windows(l, entries, count, at, data + size);
    return true;
}
