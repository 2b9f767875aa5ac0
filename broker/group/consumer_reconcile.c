/* What a member has, brought towards what it should have, one heartbeat at a time: it gives up
 * first, and gets what others have given up. No partition is ever with two members.
 *
 *              something to give up                      all given up, nothing is missing
 *     STABLE ───────────────────────▶ UNREVOKED ────────────────────────────────────────▶ STABLE
 *       ▲ │                               │ all given up, others still have                 │
 *       │ └───────────────┐               ▼ what it should get                              │
 *       │                 └────────▶ UNRELEASED ──▶ (the same again at each heartbeat) ─────┘
 *
 *   keeps   = has and should have           gives = has and should not have
 *   gets    = should have, and nobody has   lacks = should have, and somebody has
 *   should have = the target, of topics it subscribes to now
 *
 * The epoch moves to the target's when there is nothing left to give up: from then on the member is
 * spoken to in the new epoch.
 *
 * Invariants
 *  1. A partition is handed out only when nobody owns it, or the member itself still gives it up.
 *  2. In UNREVOKED the epoch does not change; `revoking` is what is to be given up.
 *  3. revoking is empty in STABLE and UNRELEASED.
 *
 * Failure modes: as of the record it makes. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"

struct reconciling {
    struct consumer *c;
    const struct part_set *owned; /* NULL: the member does not say */
    struct arena *arena;
    struct consumer_now next;
};

/* Is it the id of a topic that the member subscribes to? */
static bool topic_wanted(const struct reconciling *r, struct uuid id)
{
    const struct group_shard *s = r->c->of->group->shard;
    struct group_topic_facts t;
    return s->world->topic_by_id(s->world->context, id, &t) && consumer_subscribes(r->c, t.name);
}

/* Does the member still say it has any of these? One that does not say has them. */
static bool owns_any(const struct reconciling *r, const struct part_set *of)
{
    if (r->owned == NULL)
        return true;
    for (uint32_t i = 0; i < r->owned->count; i++) {
        if (part_set_find(of, r->owned->list[i].topic, r->owned->list[i].index) != NULL)
            return true;
    }
    return false;
}

static struct part_set set_of(struct arena *arena, uint32_t room)
{
    return (struct part_set){.list = arena_array(arena, room, sizeof(struct part))};
}

/* Topics that are not subscribed to any more go from what it has to what it gives up. */
static bool strip(struct reconciling *r)
{
    const struct consumer *c = r->c;
    struct part_set assigned = set_of(r->arena, c->assigned.count);
    struct part_set revoking = set_of(r->arena, c->assigned.count + c->revoking.count);
    if (assigned.list == NULL || revoking.list == NULL)
        return false;
    for (uint32_t i = 0; i < c->assigned.count;) {
        uint32_t run = part_set_run(&c->assigned, i);
        struct part_set *to = topic_wanted(r, c->assigned.list[i].topic) ? &assigned : &revoking;
        memcpy(to->list + to->count, c->assigned.list + i, run * sizeof(struct part));
        to->count += run;
        i += run;
    }
    if (revoking.count == 0)
        return true; /* nothing is stripped */
    if (c->revoking.count > 0)
        memcpy(revoking.list + revoking.count, c->revoking.list,
               c->revoking.count * sizeof(struct part));
    revoking.count += c->revoking.count;
    part_set_order(&revoking);
    r->next.assigned = assigned;
    r->next.previous_epoch = c->epoch;
    if (owns_any(r, &revoking)) {
        r->next.state = CONSUMER_UNREVOKED;
        r->next.revoking = revoking;
    }
    return true;
}

struct sorted { /* what may be said of each partition of the target and of what it has */
    struct part_set keeps, gives, gets;
    bool lacks;
};

static bool sort_out(struct reconciling *r, struct sorted *o)
{
    const struct consumer *c = r->c;
    const struct part_set *has = &c->assigned, *target = &c->target;
    o->keeps = set_of(r->arena, has->count + target->count);
    o->gives = set_of(r->arena, has->count);
    o->gets = set_of(r->arena, target->count);
    o->lacks = false;
    if (o->keeps.list == NULL || o->gives.list == NULL || o->gets.list == NULL)
        return false;
    for (uint32_t i = 0; i < has->count;) {
        uint32_t run = part_set_run(has, i);
        bool wanted = topic_wanted(r, has->list[i].topic);
        for (uint32_t end = i + run; i < end; i++) {
            struct part_set *to =
                wanted && part_set_find(target, has->list[i].topic, has->list[i].index) != NULL
                    ? &o->keeps
                    : &o->gives;
            to->list[to->count++] = has->list[i];
        }
    }
    for (uint32_t i = 0; i < target->count;) {
        uint32_t run = part_set_run(target, i), end = i + run;
        if (!topic_wanted(r, target->list[i].topic)) {
            i = end;
            continue;
        }
        for (; i < end; i++) {
            struct part p = target->list[i];
            if (part_set_find(has, p.topic, p.index) != NULL)
                continue;
            if (consumers_owner(c->of, p.topic, p.index) != NULL && !DEFECT(40) &&
                part_set_find(&c->revoking, p.topic, p.index) == NULL) {
                o->lacks = true; /* invariant 1 */
                continue;
            }
            p.epoch = c->of->target_epoch;
            o->gets.list[o->gets.count++] = p;
        }
    }
    return true;
}

static bool advance(struct reconciling *r)
{
    struct sorted o;
    const struct consumer *c = r->c;
    if (!sort_out(r, &o))
        return false;
    r->next.previous_epoch = c->epoch;
    if (o.gives.count > 0 && owns_any(r, &o.gives)) {
        r->next.state = CONSUMER_UNREVOKED;
        r->next.assigned = o.keeps;
        r->next.revoking = o.gives;
        return true;
    }
    memcpy(o.keeps.list + o.keeps.count, o.gets.list, o.gets.count * sizeof(struct part));
    o.keeps.count += o.gets.count;
    part_set_order(&o.keeps);
    r->next.state = o.lacks ? CONSUMER_UNRELEASED : CONSUMER_STABLE;
    r->next.epoch = c->of->target_epoch;
    r->next.assigned = o.keeps;
    r->next.revoking = (struct part_set){0};
    return true;
}

static bool step(struct reconciling *r, bool subscription_changed)
{
    const struct consumer *c = r->c;
    switch (c->state) {
    case CONSUMER_STABLE:
        if (c->epoch != c->of->target_epoch)
            return advance(r);
        return !subscription_changed || strip(r);
    case CONSUMER_UNREVOKED:
        if (!owns_any(r, &c->revoking))
            return advance(r);
        return !subscription_changed || strip(r);
    case CONSUMER_UNRELEASED:
        return advance(r);
    }
    assert(false); /* no such state */
    return true;
}

enum kafka_error consumer_reconcile(struct consumer *c, const struct part_set *owned,
                                    bool subscription_changed)
{
    struct group_shard *s = c->of->group->shard;
    struct reconciling r = {.c = c, .owned = owned, .arena = &s->update.arena};
    if (!subscription_changed && consumer_reconciled(c))
        return KE_NONE;
    r.next = (struct consumer_now){.epoch = c->epoch,
                                   .previous_epoch = c->previous_epoch,
                                   .state = c->state,
                                   .assigned = c->assigned,
                                   .revoking = c->revoking};
    if (!step(&r, subscription_changed))
        return KE_COORDINATOR_NOT_AVAILABLE;
    if (r.next.epoch == c->epoch && r.next.previous_epoch == c->previous_epoch &&
        r.next.state == c->state && part_set_same_epochs(&r.next.assigned, &c->assigned) &&
        part_set_same_epochs(&r.next.revoking, &c->revoking))
        return KE_NONE;
    enum kafka_error error = consumer_put_now(c, &r.next);
    if (error != KE_NONE || c->classic != NULL)
        return error; /* classic members have timers of their own */
    if (c->state == CONSUMER_UNREVOKED)
        timer_arm(s->wheel, &c->rebalance, ms_later(s, c->rebalance_timeout_ms));
    else
        timer_cancel(s->wheel, &c->rebalance);
    return KE_NONE;
}
