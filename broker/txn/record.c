/* What the coordinator writes, in Kafka's formats, so that either broker reads the other's topic.
 *
 *   key    int16 0        | transactional id
 *   value  int16 version  | producer, epoch, timeout, state, partitions, times
 *          (none: a tombstone)      version 1 from transaction.version 1 on
 *
 * Version 1 has tagged fields for the producer ids before and after: without them an end that is
 * done after a restart could not go on to the id that the producer has been told of.
 *
 * Invariants
 *  1. A record and the change it stands for are made in one step.
 *  2. Keys and values live in update.arena till the driver has copied them.
 *
 * Failure modes: no memory, or larger than a batch may be: said to the caller, nothing is added. */
#include "broker/txn/txn_priv.h"
#include "core/assert.h"
#include "proto/gen/record_transaction.h"

/* data NULL: no memory. */
static struct batch_field key_of(struct txn *t)
{
    struct arena *arena = &t->shard->update.arena;
    struct transaction_log_key key = {.transactional_id = txn_id(t)};
    size_t size = 2 + (size_t)transaction_log_key_size(&key, 0);
    uint8_t *bytes = arena_alloc(arena, size);
    if (bytes == NULL)
        return (struct batch_field){0};
    struct wire_writer w;
    wire_writer_init(&w, bytes, size);
    wire_put_int16(&w, TRANSACTION_LOG_KEY_API_KEY);
    transaction_log_key_encode(&key, &w, 0);
    assert(wire_writer_ok(&w));
    return (struct batch_field){bytes, (uint32_t)size};
}

static bool partitions_of(struct txn *t, struct transaction_log_value *v)
{
    uint32_t topics_count = 0;
    LIST_EACH(l, &t->topics)
    topics_count++;
    v->transaction_partitions =
        arena_array(&t->shard->update.arena, topics_count, sizeof(*v->transaction_partitions));
    if (v->transaction_partitions == NULL)
        return false;
    LIST_EACH(l, &t->topics)
    {
        const struct txn_topic *p = container_of(l, struct txn_topic, link);
        if (p->partitions_count == 0)
            continue;
        struct transaction_log_value_partitions_schema *out =
            &v->transaction_partitions[v->transaction_partitions_count++];
        out->topic = (struct wire_string){p->name, (int32_t)p->name_size};
        out->partition_ids = p->partitions;
        out->partition_ids_count = (int32_t)p->partitions_count;
    }
    return true;
}

/* The older value has no more than it had before the feature. */
static int16_t value_version(const struct txn_shard *s)
{
    return s->version >= 1 ? 1 : 0;
}

static struct batch_field value_of(struct txn_shard *s, const struct transaction_log_value *v)
{
    int16_t version = value_version(s);
    size_t size = 2 + (size_t)transaction_log_value_size(v, version);
    uint8_t *bytes = arena_alloc(&s->update.arena, size);
    if (bytes == NULL)
        return (struct batch_field){0};
    struct wire_writer w;
    wire_writer_init(&w, bytes, size);
    wire_put_int16(&w, version);
    transaction_log_value_encode(v, &w, version);
    assert(wire_writer_ok(&w));
    return (struct batch_field){bytes, (uint32_t)size};
}

enum kafka_error record_txn(struct txn *t, const struct txn_fields *as, bool with_partitions)
{
    struct transaction_log_value v;
    transaction_log_value_init(&v);
    v.producer_id = as->producer_id;
    v.producer_epoch = as->epoch;
    v.transaction_timeout_ms = as->timeout_ms;
    v.transaction_status = (int8_t)as->state.now;
    v.transaction_last_update_timestamp_ms = as->update_ms;
    v.transaction_start_timestamp_ms = as->start_ms;
    if (value_version(t->shard) >= 1) {
        v.previous_producer_id = as->prev_producer_id;
        v.next_producer_id = as->next_producer_id;
        v.client_transaction_version = as->client_version;
    }
    v.transaction_partitions = NULL;
    v.transaction_partitions_count = as->state.now == TXN_EMPTY ? -1 : 0;
    assert(as->producer_id >= 0 && as->epoch >= 0);
    if (with_partitions && !partitions_of(t, &v))
        return KE_COORDINATOR_NOT_AVAILABLE;
    struct batch_field key = key_of(t), value = value_of(t->shard, &v);
    if (key.data == NULL || value.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return shard_update_add(&t->shard->update, key, value, t->shard->batch_bytes_max);
}

enum kafka_error record_txn_gone(struct txn *t)
{
    struct batch_field key = key_of(t);
    if (key.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return shard_update_add(&t->shard->update, key, (struct batch_field){0},
                            t->shard->batch_bytes_max);
}
