/* uniform for members that subscribe to different topics: as even as the subscriptions allow.
 *
 *   1. everybody keeps what it has and still subscribes to
 *   2. topic by topic, the hardest first, what nobody has goes to the least loaded subscribers
 *   3. topic by topic, again and again, partitions go from the most to the least loaded
 *      subscribers, until a whole round moves nothing, or ROUNDS_MAX
 *
 *   loads, sorted   [ 2 2 2 | 3 4 4 | 7 7 7 ]      two ranges of equal load, filled level by level
 *                    least ─▶         ◀─ most      from both ends; balanced when they differ by 1
 *
 * "Hardest first": most partitions per subscriber, then fewest subscribers, then the id.
 *
 * Invariants
 *  1. A partition is owned by a subscriber, or by nobody before step 2 has come to its topic.
 *  2. loads[m] is the number of partitions m owns; sorted is by the loads at the time of
 *     balance_init, later loads differ only within the two ranges.
 *  3. Subscribers of one topic that have the same subscriptions end within one of each other.
 *
 * Failure modes: no memory: false. Members that overlap in chains may end a little less than even,
 * as with Kafka: each topic is balanced on its own. */
#include "broker/group/assignor.h"
#include "core/assert.h"
#include "core/core.h"

#include <stdlib.h>

#define ROUNDS_MAX 16 /* each halves what is uneven, roughly; Kafka's number too */

struct uneven_topic {
    uint32_t *subscribers; /* ranks, ascending */
    uint32_t subscribers_count;
};

/* Members are spoken of by rank: their place in the order in which they are looked at. */
struct uneven {
    struct assignor_input *in;
    const uint32_t *order;        /* rank -> member */
    uint32_t *rank;               /* member -> rank */
    struct uneven_topic *details; /* by topic */
    uint32_t *topics;             /* the hardest first */
    uint32_t *loads;              /* by rank */
    /* balancing one topic */
    uint32_t *sorted, sorted_count; /* ranks by load */
    uint32_t least_end, least_next, most_start, most_end;
    int64_t most_next, least_level, most_level;
    uint32_t *starts, *ends; /* by rank: its part of `parts` */
    uint32_t *parts;         /* partitions of the topic, grouped by owner */
};

/* ---- order ----------------------------------------------------------------------------------- */

struct hard {
    double per_subscriber;
    uint32_t subscribers_count, topic;
    struct uuid id;
};

static int hard_order(const void *a, const void *b)
{
    const struct hard *x = a, *y = b;
    if (x->per_subscriber > y->per_subscriber || x->per_subscriber < y->per_subscriber)
        return x->per_subscriber > y->per_subscriber ? -1 : 1;
    if (x->subscribers_count != y->subscribers_count)
        return x->subscribers_count < y->subscribers_count ? -1 : 1;
    return assignor_uuid_order(x->id, y->id);
}

struct load {
    uint32_t load, rank;
};

static int load_order(const void *a, const void *b)
{
    const struct load *x = a, *y = b;
    if (x->load != y->load)
        return x->load < y->load ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* ---- setting up ------------------------------------------------------------------------------ */

static bool uneven_subscribers(struct uneven *u)
{
    struct assignor_input *in = u->in;
    for (uint32_t i = 0; i < in->members_count; i++) {
        for (uint32_t k = 0; k < in->members[i].topics_count; k++)
            u->details[in->members[i].topics[k]].subscribers_count++;
    }
    for (uint32_t t = 0; t < in->topics_count; t++) {
        struct uneven_topic *d = &u->details[t];
        d->subscribers = arena_array(in->arena, d->subscribers_count, sizeof(uint32_t));
        if (d->subscribers == NULL)
            return false;
        d->subscribers_count = 0;
    }
    for (uint32_t r = 0; r < in->members_count; r++) {
        const struct assignor_member *m = &in->members[u->order[r]];
        for (uint32_t k = 0; k < m->topics_count; k++) {
            struct uneven_topic *d = &u->details[m->topics[k]];
            d->subscribers[d->subscribers_count++] = r;
        }
    }
    return true;
}

static bool uneven_sort_topics(struct uneven *u)
{
    struct assignor_input *in = u->in;
    struct hard *list = arena_array(in->arena, in->topics_count, sizeof(*list));
    if (list == NULL)
        return false;
    for (uint32_t t = 0; t < in->topics_count; t++) {
        uint32_t subscribers = u->details[t].subscribers_count;
        list[t] = (struct hard){
            subscribers > 0 ? in->topics[t].partitions_count / (double)subscribers : 0, subscribers,
            t, in->topics[t].id};
    }
    qsort(list, in->topics_count, sizeof(*list), hard_order);
    for (uint32_t t = 0; t < in->topics_count; t++)
        u->topics[t] = list[t].topic;
    return true;
}

static bool uneven_init(struct uneven *u, struct assignor_input *in, const uint32_t *order)
{
    struct arena *a = in->arena;
    uint32_t most = 0, members = in->members_count;
    *u = (struct uneven){.in = in, .order = order};
    for (uint32_t t = 0; t < in->topics_count; t++)
        most = MAX(most, in->topics[t].partitions_count);
    u->rank = arena_array(a, members, sizeof(uint32_t));
    u->loads = arena_array(a, members, sizeof(uint32_t));
    u->sorted = arena_array(a, members, sizeof(uint32_t));
    u->starts = arena_array(a, members, sizeof(uint32_t));
    u->ends = arena_array(a, members, sizeof(uint32_t));
    u->parts = arena_array(a, most, sizeof(uint32_t));
    u->topics = arena_array(a, in->topics_count, sizeof(uint32_t));
    u->details = arena_array(a, in->topics_count, sizeof(*u->details));
    if (a->failed)
        return false;
    for (uint32_t r = 0; r < members; r++)
        u->rank[order[r]] = r;
    for (uint32_t t = 0; t < in->topics_count; t++) {
        for (uint32_t p = 0; p < in->topics[t].partitions_count; p++) {
            if (in->topics[t].owners[p] != ASSIGNOR_NOBODY)
                u->loads[u->rank[in->topics[t].owners[p]]]++;
        }
    }
    return uneven_subscribers(u) && uneven_sort_topics(u);
}

/* ---- the two ranges -------------------------------------------------------------------------- */

/* How far apart the most and the least loaded subscriber are; false: no memory. */
static bool balance_init(struct uneven *u, const struct uneven_topic *d, uint32_t *apart)
{
    struct load *list = arena_array(u->in->arena, d->subscribers_count, sizeof(*list));
    uint32_t count = d->subscribers_count;
    if (list == NULL)
        return false;
    assert(count > 0);
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct load){u->loads[d->subscribers[i]], d->subscribers[i]};
    qsort(list, count, sizeof(*list), load_order);
    for (uint32_t i = 0; i < count; i++)
        u->sorted[i] = list[i].rank;
    u->sorted_count = count;
    u->least_end = u->least_next = 0;
    u->least_level = (int64_t)list[0].load - 1;
    u->most_start = u->most_end = count;
    u->most_level = (int64_t)list[count - 1].load + 1;
    u->most_next = (int64_t)count - 1;
    *apart = list[count - 1].load - list[0].load;
    return true;
}

/* Whom the next partition goes to. */
static uint32_t balance_least(struct uneven *u)
{
    if (u->least_next >= u->least_end) {
        u->least_level++;
        while (u->least_end < u->sorted_count &&
               u->loads[u->sorted[u->least_end]] == u->least_level)
            u->least_end++;
        u->least_next = 0;
    }
    return u->sorted[u->least_next++];
}

/* Whom the next partition comes from; ASSIGNOR_NOBODY: nobody has any to give. */
static uint32_t balance_most(struct uneven *u)
{
    if (u->most_next < (int64_t)u->most_start) {
        if (u->most_end <= u->most_start && u->most_start > 0)
            u->most_level = u->loads[u->sorted[u->most_start - 1]];
        else
            u->most_level--;
        while (u->most_start > 0 && u->loads[u->sorted[u->most_start - 1]] == u->most_level)
            u->most_start--;
        u->most_next = (int64_t)u->most_end - 1;
    }
    if (u->most_next < 0)
        return ASSIGNOR_NOBODY;
    return u->sorted[u->most_next--];
}

/* The one that was just returned has nothing of this topic: out of the range. */
static void balance_exclude(struct uneven *u)
{
    uint32_t at = (uint32_t)(u->most_next + 1);
    assert(u->most_end > 0 && at < u->most_end);
    uint32_t rank = u->sorted[at];
    u->sorted[at] = u->sorted[u->most_end - 1];
    u->sorted[u->most_end - 1] = rank;
    u->most_end--;
}

static bool balance_done(const struct uneven *u)
{
    return u->most_level - u->least_level <= 1;
}

/* ---- moving ---------------------------------------------------------------------------------- */

static void give(struct uneven *u, uint32_t topic, uint32_t partition, uint32_t rank)
{
    uint32_t *owner = &u->in->topics[topic].owners[partition];
    if (*owner != ASSIGNOR_NOBODY)
        u->loads[u->rank[*owner]]--;
    *owner = u->order[rank];
    u->loads[rank]++;
}

static bool hand_out(struct uneven *u, uint32_t topic)
{
    const struct assignor_topic *t = &u->in->topics[topic];
    uint32_t apart;
    bool any = false;
    for (uint32_t p = 0; p < t->partitions_count; p++)
        any |= t->owners[p] == ASSIGNOR_NOBODY;
    if (!any || u->details[topic].subscribers_count == 0)
        return true;
    if (!balance_init(u, &u->details[topic], &apart))
        return false;
    for (uint32_t p = 0; p < t->partitions_count; p++) {
        if (t->owners[p] == ASSIGNOR_NOBODY)
            give(u, topic, p, balance_least(u));
    }
    return true;
}

/* Partitions grouped by owner, each group ascending. */
static void group_by_owner(struct uneven *u, const struct assignor_topic *t)
{
    uint32_t at = 0;
    memset(u->ends, 0, u->in->members_count * sizeof(uint32_t));
    for (uint32_t p = 0; p < t->partitions_count; p++)
        u->ends[u->rank[t->owners[p]]]++;
    for (uint32_t r = 0; r < u->in->members_count; r++) {
        uint32_t count = u->ends[r];
        u->starts[r] = u->ends[r] = at;
        at += count;
    }
    for (uint32_t p = 0; p < t->partitions_count; p++)
        u->parts[u->ends[u->rank[t->owners[p]]]++] = p;
}

static bool even_out(struct uneven *u, uint32_t topic, uint32_t *moved)
{
    const struct assignor_topic *t = &u->in->topics[topic];
    uint32_t apart;
    *moved = 0;
    if (!balance_init(u, &u->details[topic], &apart))
        return false;
    if (apart <= 1)
        return true;
    group_by_owner(u, t);
    while (!balance_done(u)) {
        uint32_t from = balance_most(u);
        while (from != ASSIGNOR_NOBODY && u->ends[from] <= u->starts[from]) {
            balance_exclude(u);
            from = balance_most(u);
        }
        if (from == ASSIGNOR_NOBODY)
            break;
        uint32_t partition = u->parts[--u->ends[from]];
        uint32_t to = balance_least(u);
        if (balance_done(u))
            break;
        give(u, topic, partition, to);
        (*moved)++;
    }
    return true;
}

bool assign_uneven(struct assignor_input *in, const uint32_t *members_order)
{
    struct uneven u;
    uint32_t last = UINT32_MAX;
    if (!uneven_init(&u, in, members_order))
        return false;
    for (uint32_t i = 0; i < in->topics_count; i++) {
        if (!hand_out(&u, u.topics[i]))
            return false;
    }
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        for (uint32_t i = 0; i < in->topics_count; i++) {
            uint32_t moved;
            if (u.details[u.topics[i]].subscribers_count < 2)
                continue;
            if (i == last)
                return true; /* all the way round without a move */
            if (!even_out(&u, u.topics[i], &moved))
                return false;
            if (moved > 0 || last == UINT32_MAX)
                last = i;
        }
    }
    return true;
}
