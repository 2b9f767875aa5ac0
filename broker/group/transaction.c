/* Commits of transactions whose end is not known yet. They are found when the log is replayed: a
 * transactional record is put aside under its producer, and the marker that ends the transaction
 * makes it count or forgets it.
 *
 *   record of producer p ─▶ set aside     marker COMMIT ─▶ the offset, if it is younger than what
 *                                         marker ABORT  ─▶ nothing             is there (by record)
 *
 * Invariants: an offset set aside is not told to anybody; OffsetFetch says UNSTABLE_OFFSET_COMMIT
 * for its partition and it does not expire. A tombstone takes it away too.
 *
 * Failure modes: no memory while loading: the shard cannot be loaded. */
#include "broker/group/group_priv.h"
#include "core/assert.h"

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
    LIST_EACH(l, &s->transactions)
    {
        struct set_aside *a = container_of(l, struct set_aside, link);
        if (set_aside_is(a, key->group, key->topic, key->partition))
            set_aside_free(s, a);
    }
}

static bool transaction_apply(struct group_shard *s, const struct set_aside *a)
{
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
