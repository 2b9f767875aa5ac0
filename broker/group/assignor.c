/* The assignors for members that subscribe to the same topics, and range for all.
 *
 *   uniform   quota = partitions / members; (partitions mod members) of them get one more, those
 *             first that have one more
 *             1. who has more than its quota gives up the last of what it has
 *             2. what nobody has, then what was given up, fills those below their quota
 *   range     for each topic on its own, members by name (static ones first):
 *             the next partitions / subscribers partitions, one more for the first few
 *
 * Kafka walks hash maps; where the order matters for the result the same order is taken here: that
 * of the buckets of a Java HashMap.
 *
 * Invariants
 *  1. After an assignment every partition of a topic with subscribers has an owner that subscribes.
 *  2. uniform: of alike members no two differ by more than one partition.
 *  3. The result depends on what is in the input only, not on the order it is in, but for keys of
 *     one bucket.
 *
 * Failure modes: no memory: false; owners may hold anything then. */
#include "broker/group/assignor.h"
#include "core/assert.h"
#include "core/core.h"

#include <stdlib.h>

/* ---- Java's order ---------------------------------------------------------------------------- */

int32_t assignor_java_hash(struct wire_string s)
{
    uint32_t hash = 0;
    for (int32_t i = 0; i < s.size; i++)
        hash = hash * 31 + (uint8_t)s.data[i];
    return (int32_t)hash;
}

static uint64_t be64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

int32_t assignor_java_hash_uuid(struct uuid id)
{
    uint64_t both = be64(id.bytes) ^ be64(id.bytes + 8);
    return (int32_t)((uint32_t)(both >> 32) ^ (uint32_t)both);
}

int assignor_uuid_order(struct uuid a, struct uuid b)
{
    int64_t x = (int64_t)be64(a.bytes), y = (int64_t)be64(b.bytes);
    if (x == y) {
        x = (int64_t)be64(a.bytes + 8);
        y = (int64_t)be64(b.bytes + 8);
    }
    return (x > y) - (x < y);
}

struct bucket {
    uint32_t bucket, index;
};

static int bucket_order(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    if (x->bucket != y->bucket)
        return x->bucket < y->bucket ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* Of a HashMap that was made for `sized` entries, or grew to hold count. */
static uint32_t java_buckets(uint32_t count, uint32_t sized)
{
    uint64_t buckets = 16;
    uint64_t wanted = sized > 0 ? (uint64_t)((double)sized / 0.75) + 1 : 0;
    while (buckets < wanted || count * 4ull > buckets * 3)
        buckets *= 2;
    return (uint32_t)MIN(buckets, 1u << 31);
}

bool assignor_java_order(struct arena *arena, const int32_t *hashes, uint32_t count, uint32_t sized,
                         uint32_t *order)
{
    struct bucket *list = arena_array(arena, count, sizeof(*list));
    uint32_t buckets = java_buckets(count, sized);
    if (list == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t hash = (uint32_t)hashes[i];
        list[i] = (struct bucket){(hash ^ hash >> 16) & (buckets - 1), i};
    }
    qsort(list, count, sizeof(*list), bucket_order);
    for (uint32_t i = 0; i < count; i++)
        order[i] = list[i].index;
    return true;
}

static bool members_in_java_order(struct assignor_input *in, uint32_t *order)
{
    int32_t *hashes = arena_array(in->arena, in->members_count, sizeof(*hashes));
    if (hashes == NULL)
        return false;
    for (uint32_t i = 0; i < in->members_count; i++)
        hashes[i] = assignor_java_hash(in->members[i].id);
    return assignor_java_order(in->arena, hashes, in->members_count, 0, order);
}

static bool topics_in_java_order(struct assignor_input *in, uint32_t *order)
{
    int32_t *hashes = arena_array(in->arena, in->topics_count, sizeof(*hashes));
    if (hashes == NULL)
        return false;
    for (uint32_t i = 0; i < in->topics_count; i++)
        hashes[i] = assignor_java_hash_uuid(in->topics[i].id);
    return assignor_java_order(in->arena, hashes, in->topics_count, in->topics_count, order);
}

/* ---- uniform --------------------------------------------------------------------------------- */

struct free_part {
    uint32_t topic, partition;
};

struct uniform {
    struct assignor_input *in;
    uint32_t *members, *topics; /* in Java's order */
    uint32_t *quota;            /* by member: what it may still get */
    struct free_part *unowned;
    uint64_t unowned_count, total;
    uint32_t least, more; /* what everybody gets; how many get one more */
};

static bool uniform_init(struct uniform *u, struct assignor_input *in)
{
    *u = (struct uniform){.in = in};
    for (uint32_t t = 0; t < in->topics_count; t++)
        u->total += in->topics[t].partitions_count;
    u->members = arena_array(in->arena, in->members_count, sizeof(uint32_t));
    u->quota = arena_array(in->arena, in->members_count, sizeof(uint32_t));
    u->topics = arena_array(in->arena, in->topics_count, sizeof(uint32_t));
    u->unowned = arena_array(in->arena, u->total, sizeof(*u->unowned));
    return u->members != NULL && u->quota != NULL && u->topics != NULL && u->unowned != NULL &&
           members_in_java_order(in, u->members) && topics_in_java_order(in, u->topics);
}

static void uniform_collect(struct uniform *u)
{
    for (uint32_t i = 0; i < u->in->topics_count; i++) {
        const struct assignor_topic *t = &u->in->topics[u->topics[i]];
        for (uint32_t p = 0; p < t->partitions_count; p++) {
            if (t->owners[p] == ASSIGNOR_NOBODY)
                u->unowned[u->unowned_count++] = (struct free_part){u->topics[i], p};
        }
    }
}

/* What a member has, with what decides the order in which Java walks it. */
struct held {
    uint32_t topic_bucket, topic, part_bucket, partition;
};

static int held_order(const void *a, const void *b)
{
    const struct held *x = a, *y = b;
    const uint32_t *p = &x->topic_bucket, *q = &y->topic_bucket;
    for (int i = 0; i < 4; i++) {
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    }
    return 0;
}

_Static_assert(sizeof(struct held) == 4 * sizeof(uint32_t), "held_order looks at it as an array");

/* One member's, topic by topic: in the order of a map of its topics, each with a set of numbers. */
static void held_sort(const struct assignor_input *in, struct held *list, uint32_t count)
{
    uint32_t topics = 0, buckets;
    for (uint32_t i = 0; i < count; i++)
        topics += i == 0 || list[i].topic != list[i - 1].topic;
    buckets = java_buckets(topics, 0);
    for (uint32_t i = 0, run; i < count; i += run) {
        for (run = 1; i + run < count && list[i + run].topic == list[i].topic;)
            run++;
        uint32_t hash = (uint32_t)assignor_java_hash_uuid(in->topics[list[i].topic].id);
        for (uint32_t k = i; k < i + run; k++) {
            list[k].topic_bucket = (hash ^ hash >> 16) & (buckets - 1);
            list[k].part_bucket = list[k].partition & (java_buckets(run, run) - 1);
        }
    }
    qsort(list, count, sizeof(*list), held_order);
}

/* What each member has beyond its quota is released, in the order of members. */
static void uniform_release(struct uniform *u, struct held *held, const uint32_t *starts,
                            const uint32_t *ends)
{
    struct assignor_input *in = u->in;
    for (uint32_t i = 0; i < in->members_count; i++) {
        uint32_t m = u->members[i];
        bool extra = u->more > 0;
        u->quota[m] = u->least + extra;
        held_sort(in, held + starts[m], ends[m] - starts[m]);
        for (uint32_t k = starts[m]; k < ends[m]; k++) {
            if (u->quota[m] > 0) {
                u->quota[m]--;
                continue;
            }
            in->topics[held[k].topic].owners[held[k].partition] = ASSIGNOR_NOBODY;
            u->unowned[u->unowned_count++] = (struct free_part){held[k].topic, held[k].partition};
        }
        /* Who does not need the extra one leaves it to those that have more already. */
        if (u->quota[m] > 0 && extra && in->members_count - i > u->more) {
            u->quota[m]--;
            extra = false;
        }
        u->more -= extra;
    }
}

static bool uniform_trim(struct uniform *u)
{
    struct assignor_input *in = u->in;
    uint32_t *ends = arena_array(in->arena, in->members_count, sizeof(*ends));
    uint32_t *starts = arena_array(in->arena, in->members_count, sizeof(*starts));
    struct held *held = arena_array(in->arena, u->total, sizeof(*held));
    uint32_t at = 0;
    if (ends == NULL || starts == NULL || held == NULL)
        return false;
    for (uint32_t t = 0; t < in->topics_count; t++) {
        for (uint32_t p = 0; p < in->topics[t].partitions_count; p++) {
            if (in->topics[t].owners[p] != ASSIGNOR_NOBODY)
                ends[in->topics[t].owners[p]]++;
        }
    }
    for (uint32_t m = 0; m < in->members_count; m++) {
        uint32_t count = ends[m];
        starts[m] = ends[m] = at;
        at += count;
    }
    for (uint32_t t = 0; t < in->topics_count; t++) {
        for (uint32_t p = 0; p < in->topics[t].partitions_count; p++) {
            uint32_t m = in->topics[t].owners[p];
            if (m != ASSIGNOR_NOBODY)
                held[ends[m]++] = (struct held){.topic = t, .partition = p};
        }
    }
    uniform_release(u, held, starts, ends);
    return true;
}

static void uniform_fill(struct uniform *u)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < u->in->members_count; i++) {
        uint32_t m = u->members[i];
        for (; u->quota[m] > 0 && next < u->unowned_count; u->quota[m]--, next++)
            u->in->topics[u->unowned[next].topic].owners[u->unowned[next].partition] = m;
    }
    assert(next == u->unowned_count); /* the quotas sum up to all partitions */
}

bool assign_uniform(struct assignor_input *in)
{
    struct uniform u;
    if (in->members_count == 0 || in->topics_count == 0)
        return true;
    if (!uniform_init(&u, in))
        return false;
    if (!in->alike)
        return assign_uneven(in, u.members);
    u.least = (uint32_t)(u.total / in->members_count);
    u.more = (uint32_t)(u.total % in->members_count);
    uniform_collect(&u);
    if (!uniform_trim(&u))
        return false;
    uniform_fill(&u);
    return true;
}

/* ---- range ----------------------------------------------------------------------------------- */

struct named {
    struct wire_string id, instance_id;
    uint32_t index;
};

static int text_order(struct wire_string x, struct wire_string y)
{
    int32_t size = MIN(x.size, y.size);
    int order = size > 0 ? memcmp(x.data, y.data, (size_t)size) : 0;
    return order != 0 ? order : (x.size > y.size) - (x.size < y.size);
}

/* Static members come first: their names come back. */
static int named_order(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    if (x->instance_id.size >= 0 && y->instance_id.size >= 0)
        return text_order(x->instance_id, y->instance_id);
    if (x->instance_id.size >= 0 || y->instance_id.size >= 0)
        return x->instance_id.size >= 0 ? -1 : 1;
    return text_order(x->id, y->id);
}

bool assign_range(struct assignor_input *in)
{
    struct named *members = arena_array(in->arena, in->members_count, sizeof(*members));
    uint32_t *subscribers = arena_array(in->arena, in->topics_count, sizeof(uint32_t));
    uint32_t *extra = arena_array(in->arena, in->topics_count, sizeof(uint32_t));
    uint32_t *next = arena_array(in->arena, in->topics_count, sizeof(uint32_t));
    if (members == NULL || subscribers == NULL || extra == NULL || next == NULL)
        return false;
    for (uint32_t i = 0; i < in->members_count; i++) {
        const struct assignor_member *m = &in->members[i];
        members[i] = (struct named){m->id, m->instance_id, i};
        for (uint32_t k = 0; k < m->topics_count; k++)
            subscribers[m->topics[k]]++;
    }
    qsort(members, in->members_count, sizeof(*members), named_order);
    for (uint32_t t = 0; t < in->topics_count; t++)
        extra[t] = subscribers[t] > 0 ? in->topics[t].partitions_count % subscribers[t] : 0;
    for (uint32_t i = 0; i < in->members_count; i++) {
        const struct assignor_member *m = &in->members[members[i].index];
        for (uint32_t k = 0; k < m->topics_count; k++) {
            uint32_t t = m->topics[k];
            uint32_t count = in->topics[t].partitions_count / subscribers[t] + (extra[t] > 0);
            extra[t] -= extra[t] > 0;
            for (; count > 0; count--)
                in->topics[t].owners[next[t]++] = members[i].index;
        }
    }
    return true;
}
