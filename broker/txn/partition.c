/* The partitions of one transaction: by topic, in the order the topics came; their numbers sorted.
 *
 * Invariants
 *  1. partitions_count is the sum over the topics.
 *  2. topics_by_name has none of the topics, or all once there have been more than a few.
 *  3. A topic stays until txn_clear, also when no partition of it is left: who ends the transaction
 *     still walks over them.
 *
 * Failure modes: no memory, said to the caller. */
#include "broker/txn/txn_priv.h"
#include "core/assert.h"

#define PARTITIONS_FIRST 2u
#define TOPICS_FEW       8u /* looked through one by one */

static struct txn_topic *topic_find(const struct txn *t, struct wire_string name)
{
    if (t->topics_by_name.count > 0)
        return map_get(&t->topics_by_name, name.data, (uint32_t)name.size);
    LIST_EACH(l, &t->topics)
    {
        struct txn_topic *p = container_of(l, struct txn_topic, link);
        if (p->name_size == (uint32_t)name.size && memcmp(p->name, name.data, p->name_size) == 0)
            return p;
    }
    return NULL;
}

/* Invariant 2. */
static bool topics_index(struct txn *t, struct txn_topic *added)
{
    if (t->topics_count < TOPICS_FEW)
        return true;
    if (map_reserve(&t->topics_by_name, t->topics_count + 1) != 0)
        return false;
    if (t->topics_by_name.count == 0) {
        LIST_EACH(l, &t->topics)
        {
            struct txn_topic *p = container_of(l, struct txn_topic, link);
            if (map_put(&t->topics_by_name, p->name, p->name_size, p) != 0)
                return false;
        }
    }
    return map_put(&t->topics_by_name, added->name, added->name_size, added) == 0;
}

static struct txn_topic *topic_make(struct txn *t, struct wire_string name)
{
    assert(name.size >= 0);
    struct txn_topic *p = mem_zalloc(t->shard->mem, sizeof(*p) + (size_t)name.size);
    if (p == NULL)
        return NULL;
    p->name_size = (uint32_t)name.size;
    memcpy(p->name, name.data, p->name_size);
    list_init(&p->link);
    if (!topics_index(t, p)) {
        mem_free(t->shard->mem, p, sizeof(*p) + p->name_size);
        return NULL;
    }
    list_push_back(&t->topics, &p->link);
    t->topics_count++;
    return p;
}

/* Where it is, or would be. */
static uint32_t partition_index(const struct txn_topic *p, int32_t partition)
{
    uint32_t low = 0, high = p->partitions_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->partitions[middle] < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool partition_at(const struct txn_topic *p, uint32_t index, int32_t partition)
{
    return index < p->partitions_count && p->partitions[index] == partition;
}

bool txn_has(const struct txn *t, struct wire_string topic, int32_t partition)
{
    const struct txn_topic *p = topic_find(t, topic);
    return p != NULL && partition_at(p, partition_index(p, partition), partition);
}

static bool topic_grow(struct txn *t, struct txn_topic *p)
{
    uint32_t room = MAX(p->room * 2, PARTITIONS_FIRST);
    int32_t *more = mem_alloc(t->shard->mem, room * sizeof(*more));
    if (more == NULL)
        return false;
    if (p->partitions_count > 0)
        memcpy(more, p->partitions, p->partitions_count * sizeof(*more));
    mem_free(t->shard->mem, p->partitions, p->room * sizeof(*more));
    p->partitions = more;
    p->room = room;
    return true;
}

bool txn_put(struct txn *t, struct wire_string topic, int32_t partition)
{
    struct txn_topic *p = topic_find(t, topic);
    if (p == NULL)
        p = topic_make(t, topic);
    if (p == NULL)
        return false;
    uint32_t at = partition_index(p, partition);
    if (partition_at(p, at, partition))
        return true;
    if (p->partitions_count == p->room && !topic_grow(t, p))
        return false;
    memmove(&p->partitions[at + 1], &p->partitions[at],
            (p->partitions_count - at) * sizeof(p->partitions[0]));
    p->partitions[at] = partition;
    p->partitions_count++;
    t->partitions_count++;
    return true;
}

void txn_take(struct txn *t, struct wire_string topic, int32_t partition)
{
    struct txn_topic *p = topic_find(t, topic);
    uint32_t at = p != NULL ? partition_index(p, partition) : 0;
    if (p == NULL || !partition_at(p, at, partition))
        return;
    assert(t->partitions_count > 0);
    p->partitions_count--;
    t->partitions_count--;
    memmove(&p->partitions[at], &p->partitions[at + 1],
            (p->partitions_count - at) * sizeof(p->partitions[0]));
}

void txn_clear(struct txn *t)
{
    struct mem *mem = t->shard->mem;
    struct list *l;
    while ((l = list_pop_front(&t->topics)) != NULL) {
        struct txn_topic *p = container_of(l, struct txn_topic, link);
        mem_free(mem, p->partitions, p->room * sizeof(p->partitions[0]));
        mem_free(mem, p, sizeof(*p) + p->name_size);
    }
    map_destroy(&t->topics_by_name);
    map_init(&t->topics_by_name, mem, t->shard->txns.seed);
    t->topics_count = t->partitions_count = 0;
}
