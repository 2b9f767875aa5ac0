/* Subscriptions by pattern: which topics each stands for is worked out beside the heartbeats, all
 * patterns of a group together, and put on record; members are spoken to in terms of topics only.
 *
 *   heartbeat ─ due? ─▶ timer, at once ─▶ every topic, every pattern ─▶ records ─▶ the epoch
 *
 *   due: a pattern is new or was never resolved, or topics have come since, or it is long ago
 *        (group.consumer.regex.refresh.interval.ms); not again within 10 s, unless the group had no
 *        resolved pattern before.
 *
 * Invariants
 *  1. All resolved patterns of a group are of one version of the metadata.
 *  2. A pattern stands for what it was last resolved to; a new one for nothing until it is.
 *
 * Failure modes: no memory: nothing is resolved; the next heartbeat starts it again. A pattern on
 * record (Kafka's) that is not understood here stands for what the record says, and stays so. */
#include "broker/group/consumer_priv.h"
#include "broker/group/pattern.h"
#include "core/assert.h"

#define REFRESH_MIN_MS 10000
/* Topics of one resolution: as many as a cluster can have; a bound for the loop. */
#define TOPICS_MAX (1u << 22)

bool pattern_check(struct arena *arena, struct wire_string text, const char **why)
{
    struct pattern p;
    return pattern_compile(&p, arena, text, why);
}

/* ---- resolving ------------------------------------------------------------------------------- */

struct resolution {
    struct consumer_pattern *of;
    struct pattern compiled;
    bool known; /* compiled */
    struct wire_string *names;
    int32_t count, room;
};

static bool resolution_add(struct arena *arena, struct resolution *r, struct wire_string name)
{
    if (r->count == r->room) {
        int32_t room = MAX(r->room * 2, 16);
        struct wire_string *grown = arena_array(arena, (size_t)room, sizeof(*grown));
        if (grown == NULL)
            return false;
        if (r->count > 0)
            memcpy(grown, r->names, (size_t)r->count * sizeof(*grown));
        r->names = grown;
        r->room = room;
    }
    r->names[r->count++] = name;
    return true;
}

static bool resolve_all(struct consumer_group *cg, struct resolution *list, uint32_t count)
{
    struct group_shard *s = cg->group->shard;
    struct arena *arena = &s->update.arena;
    struct wire_string after = WIRE_NULL_STRING;
    struct group_topic_facts t;
    for (uint32_t n = 0; n < TOPICS_MAX; n++) {
        if (!s->world->topic_after(s->world->context, after, &t))
            return true;
        for (uint32_t i = 0; i < count; i++) {
            if (list[i].known && pattern_matches(&list[i].compiled, t.name) &&
                !resolution_add(arena, &list[i], t.name))
                return false;
        }
        after = t.name;
    }
    return true;
}

/* *changed: some pattern stands for other topics than before. */
static enum kafka_error record_all(struct consumer_group *cg, struct resolution *list,
                                   uint32_t count, bool *changed)
{
    struct group_shard *s = cg->group->shard;
    for (uint32_t i = 0; i < count; i++) {
        struct consumer_pattern *p = list[i].of;
        struct consumer_group_regular_expression_value v = {
            .topics = list[i].names,
            .topics_count = list[i].count,
            .version = s->world->version(s->world->context),
            .timestamp = *s->wall_ms};
        if (!list[i].known) { /* as it was */
            v.topics = p->topics.list;
            v.topics_count = (int32_t)p->topics.count;
        }
        bool same = p->resolved && (int32_t)p->topics.count == v.topics_count;
        for (int32_t k = 0; same && k < v.topics_count; k++)
            same = wire_string_equal(p->topics.list[k], v.topics[k]);
        *changed |= !same && (p->resolved || v.topics_count > 0);
        enum kafka_error error = consumers_put_pattern(cg, p->text, &v);
        if (error != KE_NONE)
            return error;
    }
    return KE_NONE;
}

static void resolve(struct consumer_group *cg)
{
    struct arena *arena = &cg->group->shard->update.arena;
    struct resolution *list = arena_array(arena, cg->patterns_by_text.count, sizeof(*list));
    uint32_t count = 0;
    bool changed = false;
    const char *why;
    if (list == NULL)
        return;
    LIST_EACH(l, &cg->patterns)
    {
        struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        if (p->members == 0)
            continue;
        list[count] = (struct resolution){.of = p};
        list[count].known = pattern_compile(&list[count].compiled, arena, p->text, &why);
        count++;
    }
    if (arena->failed || !resolve_all(cg, list, count))
        return;
    enum kafka_error error = record_all(cg, list, count, &changed);
    if (error == KE_NONE) {
        cg->refresh_ms = cg->refresh_epoch = 0; /* the metadata counts too */
        error = consumers_refresh(cg, changed);
    }
    cg->group->shard->records_lost += error != KE_NONE;
}

void consumers_resolve_fired(struct timer *t)
{
    struct consumer_group *cg = container_of(t, struct consumer_group, resolve);
    struct group_shard *s = cg->group->shard;
    resolve(cg);
    s->changed(s);
}

/* ---- when ------------------------------------------------------------------------------------ */

void consumers_maybe_resolve(struct consumer_group *cg, bool now)
{
    struct group_shard *s = cg->group->shard;
    int64_t at_ms = 0, version = INT64_MAX;
    bool due = now, any = false;
    if (timer_armed(&cg->resolve))
        return;
    LIST_EACH(l, &cg->patterns)
    {
        const struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        any |= p->members > 0;
        due |= p->members > 0 && !p->resolved;
        if (p->resolved) {
            at_ms = MAX(at_ms, p->timestamp_ms);
            version = MIN(version, p->version);
        }
    }
    if (!any || *s->wall_ms <= at_ms + REFRESH_MIN_MS)
        return;
    due |= version < s->topics_version;
    due |= *s->wall_ms > at_ms + s->config->group_consumer_regex_refresh_interval_ms;
    if (due)
        timer_arm(s->wheel, &cg->resolve, *s->now_ns);
}
