/* The target of a consumer group: which member should have which partition. It is made anew when
 * the group's epoch has moved on, at most once in consumer.assignment.interval.ms, by the assignor
 * that most members ask for.
 *
 *   members, the topics they subscribe to that are there ─┐
 *   the former target: who had what                       ├▶ assignor ─▶ owners ─▶ records of those
 *   the metadata: partitions of each topic ───────────────┘              members that differ
 *
 * Invariants
 *  1. A member's part of the target names topics it subscribes to and partitions that are there.
 *  2. The target's epoch is written last: a log that ends before it has the former epoch, and the
 *     assignment is made once more.
 *
 * Failure modes: no memory, or a member's part larger than a batch: said to the caller; what was
 * changed till then stands, and the epoch does not, so the next heartbeat tries again. */
#include "broker/group/assignor.h"
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

#include <stdlib.h>

/* The topics that are subscribed to and there, sorted by id. */
struct plan {
    struct consumer_group *cg;
    struct assignor_input in;
    struct consumer **members; /* as in.members */
    struct wire_string *names; /* as in.topics */
};

struct plan_topic {
    struct uuid id;
    struct wire_string name;
    uint32_t partitions_count;
};

static int plan_topic_order(const void *a, const void *b)
{
    const struct plan_topic *x = a, *y = b;
    return memcmp(x->id.bytes, y->id.bytes, sizeof(x->id.bytes));
}

static uint32_t plan_topic_index(const struct plan *p, struct uuid id)
{
    uint32_t low = 0, high = p->in.topics_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = memcmp(p->in.topics[middle].id.bytes, id.bytes, sizeof(id.bytes));
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return UINT32_MAX;
}

static bool plan_topics(struct plan *p)
{
    struct group_shard *s = p->cg->group->shard;
    struct arena *arena = p->in.arena;
    uint32_t count = 0, room = p->cg->topics_by_name.count;
    struct plan_topic *list = arena_array(arena, room, sizeof(*list));
    p->in.topics = arena_array(arena, room, sizeof(*p->in.topics));
    p->names = arena_array(arena, room, sizeof(*p->names));
    if (list == NULL || p->in.topics == NULL || p->names == NULL)
        return false;
    LIST_EACH(l, &p->cg->topics)
    {
        const struct consumer_topic *t = container_of(l, struct consumer_topic, link);
        struct group_topic_facts facts;
        if (s->world->topic_by_name(s->world->context, t->name, &facts))
            list[count++] = (struct plan_topic){facts.id, t->name, facts.partitions_count};
    }
    qsort(list, count, sizeof(*list), plan_topic_order);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *owners = arena_array(arena, list[i].partitions_count, sizeof(uint32_t));
        if (owners == NULL)
            return false;
        memset(owners, 0xff, list[i].partitions_count * sizeof(uint32_t));
        p->in.topics[i] = (struct assignor_topic){list[i].id, list[i].partitions_count, owners};
        p->names[i] = list[i].name;
    }
    p->in.topics_count = count;
    return true;
}

static bool plan_subscription(struct plan *p, const struct consumer *c, struct assignor_member *m)
{
    m->topics = arena_array(p->in.arena, p->in.topics_count, sizeof(uint32_t));
    if (m->topics == NULL)
        return false;
    for (uint32_t t = 0; t < p->in.topics_count; t++) {
        if (consumer_subscribes(c, p->names[t]))
            m->topics[m->topics_count++] = t;
    }
    return true;
}

static bool plan_members(struct plan *p)
{
    uint32_t i = 0;
    p->in.members = arena_array(p->in.arena, p->cg->count, sizeof(*p->in.members));
    p->members = arena_array(p->in.arena, p->cg->count, sizeof(struct consumer *));
    if (p->in.members == NULL || p->members == NULL)
        return false;
    p->in.alike = consumers_all_alike(p->cg);
    p->in.members_count = p->cg->count;
    LIST_EACH(l, &p->cg->members)
    {
        struct consumer *c = container_of(l, struct consumer, link);
        struct assignor_member *m = &p->in.members[i];
        p->members[i] = c;
        *m = (struct assignor_member){.id = c->id, .instance_id = c->instance_id};
        if (p->in.alike && i > 0) { /* the same topics */
            m->topics = p->in.members[0].topics;
            m->topics_count = p->in.members[0].topics_count;
        } else if (!plan_subscription(p, c, m)) {
            return false;
        }
        i++;
    }
    assert(i == p->cg->count);
    return true;
}

/* Who has what in the former target, as far as it may stay. */
static void plan_owners(struct plan *p)
{
    for (uint32_t i = 0; i < p->in.members_count; i++) {
        const struct part_set *had = &p->members[i]->target;
        for (uint32_t k = 0; k < had->count;) {
            uint32_t run = part_set_run(had, k), t = plan_topic_index(p, had->list[k].topic);
            bool stays = t != UINT32_MAX && consumer_subscribes(p->members[i], p->names[t]);
            for (uint32_t r = k; stays && r < k + run; r++) {
                int32_t index = had->list[r].index;
                if (index >= 0 && (uint32_t)index < p->in.topics[t].partitions_count)
                    p->in.topics[t].owners[index] = i;
            }
            k += run;
        }
    }
}

/* What each member gets: topics are in order, and so are partitions. */
static struct part_set *plan_result(struct plan *p)
{
    struct part_set *result = arena_array(p->in.arena, p->in.members_count, sizeof(*result));
    uint32_t *counts = arena_array(p->in.arena, p->in.members_count, sizeof(*counts));
    if (result == NULL || counts == NULL)
        return NULL;
    for (uint32_t t = 0; t < p->in.topics_count; t++) {
        for (uint32_t k = 0; k < p->in.topics[t].partitions_count; k++) {
            if (p->in.topics[t].owners[k] != ASSIGNOR_NOBODY)
                counts[p->in.topics[t].owners[k]]++;
        }
    }
    for (uint32_t i = 0; i < p->in.members_count; i++) {
        result[i].list = arena_array(p->in.arena, counts[i], sizeof(struct part));
        if (result[i].list == NULL)
            return NULL;
    }
    for (uint32_t t = 0; t < p->in.topics_count; t++) {
        for (uint32_t k = 0; k < p->in.topics[t].partitions_count; k++) {
            uint32_t m = p->in.topics[t].owners[k];
            if (m != ASSIGNOR_NOBODY)
                result[m].list[result[m].count++] =
                    (struct part){.topic = p->in.topics[t].id, .index = (int32_t)k};
        }
    }
    return result;
}

static bool target_is_due(const struct consumer_group *cg)
{
    const struct group_shard *s = cg->group->shard;
    if (cg->target_epoch >= cg->epoch)
        return false;
    int64_t interval_ms =
        s->world->setting(s->world->context, cg->group->id, GROUP_ASSIGNMENT_INTERVAL);
    return cg->target_ms == 0 || interval_ms == 0 || *s->wall_ms >= cg->target_ms + interval_ms ||
           *s->wall_ms < cg->target_ms; /* the clock was set back: it says nothing */
}

enum kafka_error consumers_target(struct consumer_group *cg)
{
    struct group_shard *s = cg->group->shard;
    struct plan p = {.cg = cg, .in = {.arena = &s->update.arena}};
    if (!target_is_due(cg))
        return KE_NONE;
    if (!plan_topics(&p) || !plan_members(&p))
        return KE_COORDINATOR_NOT_AVAILABLE;
    plan_owners(&p);
    bool range = wire_string_equal(consumers_assignor(cg), wire_string_of("range"));
    struct part_set *result = NULL;
    if (range ? assign_range(&p.in) : assign_uniform(&p.in))
        result = plan_result(&p);
    if (result == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    for (uint32_t i = 0; i < p.in.members_count; i++) {
        struct consumer *c = p.members[i];
        if (part_set_same(&c->target, &result[i]) && c->has_target)
            continue;
        enum kafka_error error = consumer_put_target(c, &result[i]);
        if (error != KE_NONE)
            return error;
    }
    return consumers_put_target_epoch(cg, cg->epoch, *s->wall_ms);
}
