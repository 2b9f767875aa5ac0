/* Offsets that count when a transaction commits. Each is put aside under its producer, when it is
 * committed (TxnOffsetCommit) or found in the log, and the marker that ends the transaction makes
 * it count or forgets it.
 *
 *   commit of producer p ─▶ set aside     marker COMMIT ─▶ the offset, if it is younger than what
 *                                         marker ABORT  ─▶ nothing             is there (by record)
 *
 * Invariants
 *  1. An offset set aside is not told to anybody; OffsetFetch says UNSTABLE_OFFSET_COMMIT for its
 *     partition and it does not expire. A tombstone takes it away too.
 *  2. A commit is put aside as a whole or not at all.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE and nothing has changed; while loading, or
 * when a transaction ends: the shard goes offline, and the log decides at the next start. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/txn_offset_commit.h"

struct set_aside {
    struct list link; /* shard.transactions, in log order */
    int64_t producer_id, record;
    struct offset_commit_key key; /* texts are its own */
    struct offset_commit_value value;
};

static void set_aside_free(struct group_shard *s, struct set_aside *a)
{
    list_remove(&a->link);
    disown_string(s->mem, &a->key.group);
    disown_string(s->mem, &a->key.topic);
    disown_string(s->mem, &a->value.metadata);
    mem_free(s->mem, a, sizeof(*a));
}

static bool set_aside_is(const struct set_aside *a, struct wire_string group,
                         struct wire_string topic, int32_t partition)
{
    return a->key.partition == partition && wire_string_equal(a->key.topic, topic) &&
           wire_string_equal(a->key.group, group);
}

bool transaction_put(struct group_shard *s, int64_t producer_id, int64_t record,
                     const struct offset_commit_key *key, const struct offset_commit_value *value)
{
    struct set_aside *a = mem_zalloc(s->mem, sizeof(*a));
    if (a == NULL)
        return false;
    assert(producer_id >= 0);
    list_init(&a->link);
    a->producer_id = producer_id;
    a->record = record;
    a->key.partition = key->partition;
    a->value = *value;
    a->key.group = a->key.topic = a->value.metadata = WIRE_NULL_STRING;
    if (!own_string(s->mem, &a->key.group, key->group) ||
        !own_string(s->mem, &a->key.topic, key->topic) ||
        !own_string(s->mem, &a->value.metadata, value->metadata)) {
        set_aside_free(s, a);
        return false;
    }
    list_push_back(&s->transactions, &a->link);
    return true;
}

void transaction_drop(struct group_shard *s, const struct offset_commit_key *key)
{
    SOMETIMES("offsets of a transaction are dropped");
    LIST_EACH(l, &s->transactions)
    {
        struct set_aside *a = container_of(l, struct set_aside, link);
        if (set_aside_is(a, key->group, key->topic, key->partition))
            set_aside_free(s, a);
    }
}

static bool transaction_apply(struct group_shard *s, const struct set_aside *a)
{
    SOMETIMES("offsets of a transaction count");
    struct group *g = shard_find(s, a->key.group);
    if (g == NULL)
        g = shard_create(s, a->key.group);
    if (g == NULL)
        return false;
    if (offsets_record(g, a->key.topic, a->key.partition) > a->record)
        return true;
    return offsets_put(g, a->key.topic, a->key.partition, a->record, &a->value);
}

bool transaction_end(struct group_shard *s, int64_t producer_id, bool commit)
{
    LIST_EACH(l, &s->transactions)
    {
        struct set_aside *a = container_of(l, struct set_aside, link);
        if (a->producer_id != producer_id)
            continue;
        if (commit && !transaction_apply(s, a))
            return false;
        set_aside_free(s, a);
    }
    return true;
}

bool transaction_holds(const struct group_shard *s, struct wire_string group,
                       struct wire_string topic, int32_t partition)
{
    LIST_EACH(l, &s->transactions)
    {
        if (set_aside_is(container_of(l, struct set_aside, link), group, topic, partition))
            return true;
    }
    return false;
}

bool transaction_holds_group(const struct group_shard *s, struct wire_string group)
{
    LIST_EACH(l, &s->transactions)
    {
        if (wire_string_equal(container_of(l, struct set_aside, link)->key.group, group))
            return true;
    }
    return false;
}

void transaction_free(struct group_shard *s)
{
    LIST_EACH(l, &s->transactions)
    set_aside_free(s, container_of(l, struct set_aside, link));
}

/* ---- commit ---------------------------------------------------------------------------------- */

/* A member of a consumer group: its epoch, or that of an assignment that it still has. */
static enum kafka_error commit_check_consumer(const struct group *g,
                                              const struct txn_offset_commit_request *r)
{
    const struct group_world *w = g->shard->world;
    bool named = r->member_id.size > 0 || r->group_instance_id.size >= 0, stale;
    if (r->generation_id == -1 && !named)
        return KE_NONE;
    enum kafka_error error =
        consumers_check_commit(g->consumers, r->member_id, r->generation_id, INT16_MAX, &stale);
    for (int32_t i = 0; stale && error == KE_NONE && i < r->topics_count; i++) {
        const struct txn_offset_commit_request_topic *t = &r->topics[i];
        struct group_topic_facts facts = {0};
        bool there = w->topic_by_name(w->context, t->name, &facts);
        for (int32_t j = 0; there && error == KE_NONE && j < t->partitions_count; j++)
            error = consumer_commits(consumer_find(g->consumers, r->member_id), facts.id,
                                     t->partitions[j].partition_index, r->generation_id);
    }
    return error;
}

/* ClassicGroup.validateOffsetCommit: who names no member and no generation, as old clients, is not
 * asked for one; and a rebalance does not keep a transaction from being committed. */
static enum kafka_error commit_check(const struct group *g,
                                     const struct txn_offset_commit_request *r)
{
    bool named = r->member_id.size > 0 || r->group_instance_id.size >= 0;
    if (g->consumers != NULL)
        return commit_check_consumer(g, r);
    if (r->generation_id < 0 && (group_is(g, GROUP_EMPTY) || !named))
        return KE_NONE;
    enum kafka_error error = member_check(g, r->member_id, r->group_instance_id);
    if (error != KE_NONE)
        return error;
    return r->generation_id != g->generation ? KE_ILLEGAL_GENERATION : KE_NONE;
}

static struct group *commit_group(struct group_shard *s, const struct txn_offset_commit_request *r,
                                  enum kafka_error *error)
{
    struct group *g = shard_find(s, r->group_id);
    *error = KE_NONE;
    if (g != NULL) {
        *error = commit_check(g, r);
        return g;
    }
    if (r->generation_id >= 0) {
        *error = KE_ILLEGAL_GENERATION;
        return NULL;
    }
    g = shard_admit(s, r->group_id); /* a simple one */
    *error = g != NULL ? KE_NONE : KE_COORDINATOR_NOT_AVAILABLE;
    return g;
}

static enum kafka_error commit_one(struct group *g, const struct txn_offset_commit_request *r,
                                   struct wire_string topic,
                                   const struct txn_offset_commit_request_partition *p)
{
    struct group_shard *s = g->shard;
    struct offset_commit_key key = {g->id, topic, p->partition_index};
    struct offset_commit_value v;
    offset_commit_value_init(&v);
    v.offset = p->committed_offset;
    v.leader_epoch = p->committed_leader_epoch;
    v.metadata = p->committed_metadata.size >= 0 ? p->committed_metadata : wire_string_of("");
    v.commit_timestamp = *s->wall_ms;
    v.expire_timestamp = -1;
    enum kafka_error error = record_offset(g, topic, p->partition_index, &v);
    if (error != KE_NONE)
        return error;
    if (BATCH_HEADER_SIZE + s->update.records_bytes > s->batch_bytes_max)
        return KE_UNKNOWN_SERVER_ERROR;
    if (!offsets_may_put(g, topic, p->partition_index))
        return KE_COORDINATOR_NOT_AVAILABLE;
    return transaction_put(s, r->producer_id, s->next_record++, &key, &v)
               ? KE_NONE
               : KE_COORDINATOR_NOT_AVAILABLE;
}

static enum kafka_error commit_all(struct group *g, const struct txn_offset_commit_request *r,
                                   struct txn_offset_commit_response *out)
{
    enum kafka_error error = KE_NONE;
    for (int32_t i = 0; error == KE_NONE && i < r->topics_count; i++) {
        const struct txn_offset_commit_request_topic *t = &r->topics[i];
        for (int32_t j = 0; error == KE_NONE && j < t->partitions_count; j++) {
            int16_t *code = &out->topics[i].partitions[j].error_code;
            if (*code == KE_NONE &&
                offsets_metadata_too_long(g->shard, t->partitions[j].committed_metadata))
                *code = KE_OFFSET_METADATA_TOO_LARGE;
            if (*code == KE_NONE)
                error = commit_one(g, r, t->name, &t->partitions[j]);
        }
    }
    return error;
}

/* Takes back what was put aside behind `last`. */
static void commit_undo(struct group_shard *s, const struct list *last)
{
    while (s->transactions.prev != last)
        set_aside_free(s, container_of(s->transactions.prev, struct set_aside, link));
}

void transaction_commit(struct group_shard *s, struct group_call *call)
{
    const struct txn_offset_commit_request *r = call->request;
    const struct list *last = s->transactions.prev;
    uint32_t before = s->update.records_count;
    bool known = shard_find(s, r->group_id) != NULL;
    enum kafka_error error;
    struct group *g = commit_group(s, r, &error);
    if (error == KE_NONE)
        error = commit_all(g, r, call->response);
    if (error != KE_NONE) {
        commit_undo(s, last);
        record_rewind(s, before);
    }
    if (g != NULL && !known && s->update.records_count == before)
        shard_remove(g); /* nothing was put: no group came to be */
    s->update.in_txn = s->update.records_count > before;
    s->update.producer_id = r->producer_id;
    s->update.producer_epoch = r->producer_epoch;
    s->update.txn_guard = call->txn_guard;
    assert(!s->update.in_txn || before == 0); /* the driver takes each step's records */
    if (error != KE_NONE)
        call_refused(s, call, error);
    else
        call_answered(s, call);
}

/* ---- forgetting ------------------------------------------------------------------------------ */

bool transaction_record_gone(struct group *g)
{
    LIST_EACH(l, &g->shard->transactions)
    {
        const struct set_aside *a = container_of(l, struct set_aside, link);
        if (!wire_string_equal(a->key.group, g->id) ||
            offsets_record(g, a->key.topic, a->key.partition) >= 0)
            continue;
        if (record_offset_gone(g, a->key.topic, a->key.partition) != KE_NONE)
            return false; /* the caller rewinds */
    }
    return true;
}

void transaction_drop_group(struct group *g)
{
    LIST_EACH(l, &g->shard->transactions)
    {
        struct set_aside *a = container_of(l, struct set_aside, link);
        if (wire_string_equal(a->key.group, g->id))
            set_aside_free(g->shard, a);
    }
}

void transaction_topic_deleted(struct group_shard *s, struct wire_string topic,
                               int32_t first_partition)
{
    LIST_EACH(l, &s->transactions)
    {
        struct set_aside *a = container_of(l, struct set_aside, link);
        struct group *g = shard_find(s, a->key.group);
        if (a->key.partition < first_partition || !wire_string_equal(a->key.topic, topic))
            continue;
        if (g == NULL || record_offset_gone(g, topic, a->key.partition) == KE_NONE)
            set_aside_free(s, a);
        else
            s->records_lost++;
    }
}
