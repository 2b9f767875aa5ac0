/* log_append: from a client's record set to a batch that has offsets, lies in a chunk, and waits to
 * become durable.
 *
 *   admit ─▶ check and copy (one pass) ─▶ producer state ─▶ offsets ─▶ WAL entry, tail index
 *     │            │                          │ duplicate
 *     └─ refused   └─ refused                 └─▶ original offsets, waits like the original
 *
 * Invariants
 *  1. A refused append leaves no trace: offsets, producer state and roll are decided before the
 *     first of them is changed, and the bytes reserved in the chunk are reserved again by the next.
 *  2. An accepted one is done exactly once, never inside log_append.
 *  3. A batch goes to the WAL, or (write.caching) to a chunk of the other kind, never to both.
 *
 * The order of the checks is Kafka's (ReplicaManager, LogValidator, UnifiedLog,
 * ProducerAppendInfo). */
#include "broker/log/log_priv.h"

#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/index.h"
#include "broker/log/producer.h"
#include "broker/log/segment.h"
#include "core/crc32c.h"
#include "core/lab.h"

static bool refused(struct log_append *a, enum kafka_error error, const char *message)
{
    a->error = error;
    a->message = message;
    return false;
}

void append_refuse(struct log_append *a, enum kafka_error error)
{
    SOMETIMES("an append that was accepted is refused");
    assert(a->log != NULL);
    a->error = error;
    a->base_offset = NO_OFFSET;
    list_push_back(&a->log->core->completed, &a->link);
}

static bool append_admit(struct log *l, struct log_append *a)
{
    a->message = NULL;
    a->record_errors_count = 0;
    a->base_offset = a->last_offset = NO_OFFSET;
    a->append_time_ms = NO_TIMESTAMP;
    a->log_start_offset = l->start_offset;
    if (l->core->phase.now == PHASE_REPLAYED) { /* the core that sent it serves a moment earlier */
        /* Of what a client has sent ahead the first would be refused, and a later one taken. */
        assert(a->origin != LOG_ORIGIN_CLIENT);
        return refused(a, KE_NOT_LEADER_OR_FOLLOWER, "The log is not served yet.");
    }
    if (l->state.now != LOG_OPEN || l->core->phase.now != PHASE_SERVING)
        return refused(a, KE_KAFKA_STORAGE_ERROR, "The log is offline.");
    dir_look(l->dir);
    bool taken =
        a->origin == LOG_ORIGIN_COORDINATOR ? dir_writable(l->dir) : l->dir->state.now == DIR_OK;
    SOMETIMES_IF(!taken, "an append to a full directory is refused");
    if (!taken)
        return refused(a, KE_KAFKA_STORAGE_ERROR, "The log directory has no space left.");
    if (l->internal && a->origin == LOG_ORIGIN_CLIENT && !a->admin_client)
        return refused(a, KE_INVALID_TOPIC_EXCEPTION, "Cannot append to an internal topic.");
    if (a->records_size > wal_payload_max(&l->dir->wal))
        return refused(a, KE_MESSAGE_TOO_LARGE, "The record set is larger than a log can take.");
    return true;
}

/* ---- where the bytes go ---------------------------------------------------------------------- */

static uint8_t *cached_reserve(struct log_core *c, uint32_t size)
{
    uint32_t header = (uint32_t)sizeof(struct wal_group_header);
    uint32_t need = (uint32_t)sizeof(struct wal_entry) + wal_padded(size, WAL_ENTRY_ALIGN);
    struct chunk *k = c->cached_chunk;
    if (k == NULL || (uint64_t)k->used + need > k->block.capacity) {
        if (k != NULL)
            chunk_seal(k);
        uint32_t capacity = MAX(CHUNK_BYTES, wal_padded(header + need, WAL_BLOCK));
        k = c->cached_chunk = chunk_take(c, capacity, true);
        if (k == NULL)
            return NULL;
        k->used = header;
    }
    return k->block.data + k->used + sizeof(struct wal_entry);
}

static uint32_t cached_commit(struct log_core *c, const struct wal_entry *entry)
{
    struct chunk *k = c->cached_chunk;
    assert(k != NULL && k->cached);
    uint32_t position = k->used;
    memcpy(k->block.data + position, entry, sizeof(*entry));
    k->used += (uint32_t)sizeof(*entry) + wal_padded(entry->length, WAL_ENTRY_ALIGN);
    assert(k->used <= k->block.capacity);
    return position;
}

/* A marker may be followed by the entry of the transaction that it aborts, in the same group. */
#define MARKER_TAIL ((uint32_t)(sizeof(struct wal_entry) + sizeof(struct wal_aborted)))

static uint8_t *append_reserve(struct log *l, uint32_t size)
{
    size += size <= BATCH_MARKER_SIZE_MAX ? MARKER_TAIL : 0;
    return l->cached ? cached_reserve(l->core, size) : wal_reserve(&l->dir->wal, size);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static struct batch_rules append_rules(const struct log *l, const struct log_append *a)
{
    const struct topic_config *t = log_config(l);
    return (struct batch_rules){
        .max_message_bytes = t->max_message_bytes,
        .compacted = (t->cleanup_policy & CLEANUP_COMPACT) != 0,
        .log_append_time = t->log_append_time,
        .strict = !l->core->config.trust_batches,
        .produce_version = a->produce_version,
        .timestamp_before_max_ms = t->timestamp_before_max_ms,
        .timestamp_after_max_ms = t->timestamp_after_max_ms,
        .now_ms = io_wall_ms(l->core->io),
        .codec = (enum codec)t->compression_type,
        .codec_level = t->compression_type == COMPRESSION_GZIP   ? t->compression_gzip_level
                       : t->compression_type == COMPRESSION_LZ4  ? t->compression_lz4_level
                       : t->compression_type == COMPRESSION_ZSTD ? t->compression_zstd_level
                                                                 : COMPRESS_LEVEL_DEFAULT,
        .unpacked_bytes_max = BATCH_UNPACKED_BYTES_DEFAULT,
    };
}

/* What this node wrote itself needs no judging, only its header. */
static bool append_check_own(struct log_append *a, uint8_t *to, struct batch_verdict *v)
{
    *v = (struct batch_verdict){.error = KE_NONE, .batch = to, .max_timestamp_delta = -1};
    if (batch_peek(a->records, a->records_size, &v->header) != BATCH_WHOLE ||
        v->header.size != a->records_size || v->header.last_offset_delta < 0 ||
        !batch_copy(to, a->records, v->header.size))
        v->error = KE_CORRUPT_MESSAGE;
    return v->error == KE_NONE;
}

/* Judges the records and copies the batch to where it stays; NULL when refused. */
static uint8_t *append_take(struct log *l, struct log_append *a, struct batch_verdict *v)
{
    uint8_t *to = append_reserve(l, a->records_size);
    if (to == NULL) {
        (void)refused(a, KE_KAFKA_STORAGE_ERROR, "No memory for appends.");
        return NULL;
    }
    if (a->origin == LOG_ORIGIN_COORDINATOR) {
        (void)append_check_own(a, to, v);
    } else {
        struct batch_rules rules = append_rules(l, a);
        (void)batch_validate(l->core->config.compress, &rules, a->records, a->records_size, to, v);
    }
    SOMETIMES_IF(v->error != KE_NONE, "a batch is refused for its bytes");
    if (v->error != KE_NONE) {
        a->record_errors_count = v->record_errors_count;
        memcpy(a->record_errors, v->record_errors, sizeof(a->record_errors));
        (void)refused(a, v->error, v->message);
        if (v->bad_form)
            a->log_start_offset = NO_OFFSET; /* Kafka refuses those before it asks the log */
        return NULL;
    }
    if (v->batch == to)
        return to;
    SOMETIMES("a batch is packed anew");
    if (v->header.size > wal_payload_max(&l->dir->wal)) {
        (void)refused(a, KE_MESSAGE_TOO_LARGE, "The record set is larger than a log can take.");
        return NULL;
    }
    to = append_reserve(l, v->header.size);
    if (to == NULL)
        (void)refused(a, KE_KAFKA_STORAGE_ERROR, "No memory for appends.");
    else
        memcpy(to, v->batch, v->header.size);
    return to;
}

/* ---- effects --------------------------------------------------------------------------------- */

static void append_await(struct log *l, struct log_append *a)
{
    a->log = l;
    a->wait_offset = a->last_offset + 1;
    a->error = KE_NONE;
    list_init(&a->link);
    if (a->wait_offset <= l->durable_end || DEFECT(26)) { /* a duplicate of old */
        SOMETIMES("a duplicate of old is acknowledged at once");
        list_push_back(&l->core->completed, &a->link);
    } else if (l->cached) {
        SOMETIMES("an append waits for a page-cache write");
        list_push_back(&l->appends, &a->link);
    } else {
        struct wal_group *g = wal_last_group(&l->dir->wal);
        assert(g != NULL);
        list_push_back(&g->appends, &a->link);
    }
}

static void append_batch(struct log *l, const struct batch_header *h, uint8_t *batch,
                         struct segment *s)
{
    struct log_core *c = l->core;
    const struct topic_config *t = log_config(l);
    int64_t base = l->end_offset, last = base + h->last_offset_delta;
    batch_set_base_offset(batch, base);
    batch_set_leader_epoch(batch, l->leader_epoch);
    bool first = s->size == 0;
    assert(!first || s->base <= base);
    struct wal_entry entry = {
        .type = WAL_BATCH,
        .flags = (uint8_t)((first ? WAL_FIRST_IN_SEGMENT : 0) |
                           (l->cached_end > l->synced_end ? WAL_AFTER_CACHED : 0)),
        .topic_id = l->key.topic_id,
        .partition = l->key.partition,
        .leader_epoch = l->leader_epoch,
        .base_offset = base,
        .last_offset = last,
        .length = h->size,
        .batch_crc = h->crc,
        .position = s->size,
        .slot = l->slot,
    };
    struct tail_entry in_memory = {.base_offset = base, .size = h->size};
    if (first)
        in_memory.size |= TAIL_FIRST_IN_SEGMENT;
    if (index_due(&s->ahead, t->index_interval_bytes))
        in_memory.size |= TAIL_INDEXED;
    index_advance(&s->ahead, (in_memory.size & TAIL_INDEXED) != 0, h->size, last, h->max_timestamp);
    if (l->cached) {
        in_memory.position = cached_commit(c, &entry);
        in_memory.chunk = c->cached_chunk;
        l->cached_end = last + 1;
    } else {
        in_memory.position = wal_commit(&l->dir->wal, &entry);
        in_memory.chunk = l->dir->wal.open->chunk;
        wal_hold(&l->dir->wal, l);
    }
    tail_push(&l->tail, in_memory);
    if (first)
        s->first_timestamp = h->max_timestamp;
    s->size += h->size;
    l->size_bytes += h->size;
    l->unflushed_bytes += h->size;
    l->end_offset = last + 1;
    epochs_assign(l, l->leader_epoch, base);
    l->changed = true;
    if (list_empty(&l->dirty_link))
        list_push_back(&c->dirty, &l->dirty_link);
    if (l->cached || l->unflushed_bytes >= FLUSH_EAGER_BYTES)
        flush_soon(l);
    c->stats.appended_batches++;
    c->stats.appended_bytes += h->size;
    c->stats.copied_bytes += h->size;
}

/* What replay of the WAL will put into the segment's index of aborted transactions. */
static void append_aborted(struct log *l, const struct aborted_txn *t)
{
    struct wal *w = &l->dir->wal;
    struct wal_aborted aborted = {t->producer_id, t->stable_offset};
    struct wal_entry entry = {.type = WAL_ABORTED,
                              .topic_id = l->key.topic_id,
                              .partition = l->key.partition,
                              .leader_epoch = l->leader_epoch,
                              .base_offset = t->first_offset,
                              .last_offset = t->last_offset,
                              .length = sizeof(aborted),
                              .batch_crc = crc32c(0, (const uint8_t *)&aborted, sizeof(aborted)),
                              .slot = l->slot};
    const struct wal_group *g = w->open;
    uint8_t *to = wal_reserve(w, sizeof(aborted));
    assert(to != NULL && w->open == g); /* append_reserve has left room */
    memcpy(to, &aborted, sizeof(aborted));
    (void)wal_commit(w, &entry);
}

bool log_takes_records(const struct log *l)
{
    return l->state.now == LOG_OPEN && l->dir->state.now == DIR_OK &&
           l->core->phase.now == PHASE_SERVING;
}

bool log_append(struct log *l, struct log_append *a)
{
    assert(a->done != NULL);
    assert(a->records != NULL || a->records_size == 0);
    struct batch_verdict v;
    if (!append_admit(l, a))
        return false;
    uint8_t *batch = append_take(l, a, &v);
    if (batch == NULL)
        return false;
    v.header.base_offset = l->end_offset;
    if (v.header.size > (uint32_t)log_config(l)->segment_bytes)
        return refused(a, KE_RECORD_LIST_TOO_LARGE, "The record set is larger than a segment.");
    struct producer_change change;
    enum producer_verdict known = producer_check(l, &v.header, batch, a, &change);
    if (known == PRODUCER_REFUSED)
        return refused(a, change.error, change.message);
    if (known == PRODUCER_DUPLICATE) {
        SOMETIMES_IF(change.last_offset >= l->durable_end,
                     "a duplicate comes while the first one is under way");
        a->base_offset = change.base_offset;
        a->last_offset = change.last_offset;
        a->append_time_ms = log_config(l)->log_append_time ? change.timestamp : NO_TIMESTAMP;
        append_await(l, a);
        return true;
    }
    struct segment *s = NULL; /* what may fail comes first (invariant 1) */
    if (tail_reserve(l->core, &l->tail) && epochs_reserve(l) &&
        producer_reserve(l, &v.header, &change))
        s = segment_for_append(l, &v.header);
    if (s == NULL) {
        producer_unreserve(l, &change);
        return refused(a, KE_KAFKA_STORAGE_ERROR, "No memory for appends.");
    }
    a->base_offset = l->end_offset;
    a->last_offset = batch_last_offset(&v.header);
    if (log_config(l)->log_append_time)
        a->append_time_ms = v.header.max_timestamp;
    append_batch(l, &v.header, batch, s);
    /* Whoever ends a transaction relies on its marker, also where records need not be on disk: one
     * that was lost would leave the transaction open for good. */
    l->want_sync |= l->cached && change.marker;
    if (change.aborts && !l->cached && !DEFECT(39))
        append_aborted(l, &change.aborted);
    producer_apply(l, &v.header, &change);
    append_await(l, a);
    return true;
}
