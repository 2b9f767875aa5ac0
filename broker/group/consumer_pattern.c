/* Subscriptions by pattern: which topics each stands for is worked out beside the heartbeats, all
 * patterns of a group together, and put on record; members are spoken to in terms of topics only.
 *
 *   heartbeat ─ due? ─▶ timer ─▶ pattern by pattern, some topics a turn ─▶ records ─▶ the epoch
 *
 *   due: a pattern is new or was never resolved, or topics have come since, or it is long ago
 *        (group.consumer.regex.refresh.interval.ms); not again within 10 s, unless the group had no
 *        resolved pattern before.
 *
 * Invariants
 *  1. The epoch moves when all patterns of a group are resolved, once for all of them.
 *  2. A pattern stands for what it was last resolved to; a new one for nothing until it is.
 *
 * Failure modes: no memory: the rest is not resolved; a later heartbeat starts it again. A pattern
 * on record (Kafka's) that is not understood here stands for what the record says, and stays so. */
#include "broker/group/consumer_priv.h"
#include "broker/group/pattern.h"
#include "core/assert.h"

#define REFRESH_MIN_MS 10000
#define STEPS_PER_TURN 500u /* topics against a pattern: some milliseconds at the very worst */
#define NAME_MAX_BYTES 249  /* of a topic */
#define ARENA_MAX      (16ull << 20)

bool pattern_check(struct arena *arena, struct wire_string text, const char **why)
{
    struct pattern p;
    return pattern_compile(&p, arena, text, why);
}

/* ---- resolving ------------------------------------------------------------------------------- */

struct consumer_resolving {
    struct arena arena; /* of the pattern that is looked at */
    struct pattern compiled;
    bool known;              /* compiled */
    struct wire_string text; /* of the pattern, which may go meanwhile; null: none is looked at */
    struct wire_string after;
    char after_text[NAME_MAX_BYTES]; /* the topic that was looked at last */
    struct wire_string *names;
    int32_t count, room;
    uint32_t round;
    int64_t version; /* of the metadata when it began */
    bool changed;    /* some pattern stands for other topics than before */
};

void consumers_resolve_end(struct consumer_group *cg)
{
    struct consumer_resolving *r = cg->resolving;
    struct group_shard *s = cg->group->shard;
    timer_cancel(s->wheel, &cg->resolve);
    if (r == NULL)
        return;
    arena_release(&r->arena);
    mem_free(s->mem, r, sizeof(*r));
    cg->resolving = NULL;
}

static bool resolve_begin(struct consumer_group *cg)
{
    struct group_shard *s = cg->group->shard;
    struct consumer_resolving *r = mem_zalloc(s->mem, sizeof(*r));
    if (r == NULL)
        return false;
    arena_init(&r->arena, s->mem, ARENA_MAX);
    r->text = r->after = WIRE_NULL_STRING;
    r->round = ++cg->rounds;
    r->version = s->world->version(s->world->context);
    cg->resolving = r;
    return true;
}

static struct wire_string keep(struct arena *arena, struct wire_string s)
{
    const char *copy = arena_copy(arena, s.data, (size_t)s.size);
    return (struct wire_string){copy, copy != NULL ? s.size : -1};
}

/* The next pattern that was not looked at in this round. false: there is none. */
static bool resolve_next(struct consumer_group *cg)
{
    struct consumer_resolving *r = cg->resolving;
    const char *why;
    LIST_EACH(l, &cg->patterns)
    {
        struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        if (p->members == 0 || p->round == r->round)
            continue;
        p->round = r->round;
        arena_release(&r->arena);
        r->names = NULL;
        r->count = r->room = 0;
        r->after = WIRE_NULL_STRING;
        r->text = keep(&r->arena, p->text);
        r->known = pattern_compile(&r->compiled, &r->arena, p->text, &why);
        return true;
    }
    return false;
}

static bool resolve_add(struct consumer_resolving *r, struct wire_string name)
{
    if (r->count == r->room) {
        int32_t room = MAX(r->room * 2, 16);
        struct wire_string *grown = arena_array(&r->arena, (size_t)room, sizeof(*grown));
        if (grown == NULL)
            return false;
        if (r->count > 0)
            memcpy(grown, r->names, (size_t)r->count * sizeof(*grown));
        r->names = grown;
        r->room = room;
    }
    r->names[r->count] = keep(&r->arena, name);
    return r->names[r->count++].size >= 0;
}

/* All topics have been looked at: what the pattern stands for goes on record. */
static bool resolve_record(struct consumer_group *cg)
{
    struct consumer_resolving *r = cg->resolving;
    struct consumer_pattern *p = consumers_pattern(cg, r->text);
    struct consumer_group_regular_expression_value v = {.topics = r->names,
                                                        .topics_count = r->count,
                                                        .version = r->version,
                                                        .timestamp = *cg->group->shard->wall_ms};
    assert(p != NULL);
    if (!r->known) { /* as it was */
        v.topics = p->topics.list;
        v.topics_count = (int32_t)p->topics.count;
    }
    bool same = p->resolved && (int32_t)p->topics.count == v.topics_count;
    for (int32_t k = 0; same && k < v.topics_count; k++)
        same = wire_string_equal(p->topics.list[k], v.topics[k]);
    r->changed |= !same && (p->resolved || v.topics_count > 0);
    return consumers_put_pattern(cg, p->text, &v) == KE_NONE;
}

/* One topic, or the end of a pattern. *done: there is nothing left. false: no memory. */
static bool resolve_one(struct consumer_group *cg, bool *done)
{
    struct group_shard *s = cg->group->shard;
    struct consumer_resolving *r = cg->resolving;
    const struct consumer_pattern *p = consumers_pattern(cg, r->text);
    struct group_topic_facts t;
    if (p == NULL || p->members == 0) {
        *done = !resolve_next(cg);
        return *done || !r->arena.failed;
    }
    if (!s->world->topic_after(s->world->context, r->after, &t)) {
        bool recorded = resolve_record(cg);
        r->text = WIRE_NULL_STRING;
        return recorded;
    }
    if (r->known && pattern_matches(&r->compiled, t.name) && !resolve_add(r, t.name))
        return false;
    r->after = (struct wire_string){r->after_text, MIN(t.name.size, NAME_MAX_BYTES)};
    memcpy(r->after_text, t.name.data, (size_t)r->after.size);
    return true;
}

/* Some topics; the timer is armed again if there are more. */
static void resolve_some(struct consumer_group *cg)
{
    struct group_shard *s = cg->group->shard;
    bool done = false, good = cg->resolving != NULL || resolve_begin(cg);
    for (uint32_t i = 0; good && !done && i < STEPS_PER_TURN; i++)
        good = resolve_one(cg, &done);
    if (good && !done) {
        timer_arm(s->wheel, &cg->resolve, *s->now_ns);
        return;
    }
    bool changed = cg->resolving != NULL && cg->resolving->changed;
    consumers_resolve_end(cg);
    cg->refresh_ms = cg->refresh_epoch = 0; /* the metadata counts too */
    s->records_lost += !good || consumers_refresh(cg, changed) != KE_NONE;
}

void consumers_resolve_fired(struct timer *t)
{
    struct consumer_group *cg = container_of(t, struct consumer_group, resolve);
    struct group_shard *s = cg->group->shard;
    resolve_some(cg);
    s->changed(s);
}

/* ---- when ------------------------------------------------------------------------------------ */

void consumers_maybe_resolve(struct consumer_group *cg, bool now)
{
    struct group_shard *s = cg->group->shard;
    int64_t at_ms = 0, version = INT64_MAX;
    bool due = now, any = false;
    if (timer_armed(&cg->resolve) || cg->resolving != NULL)
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
    bool back = *s->wall_ms < at_ms; /* the clock was: what it says of that time is nothing */
    if (!any || (!back && *s->wall_ms <= at_ms + REFRESH_MIN_MS))
        return;
    due |= version < s->topics_version;
    due |= back || *s->wall_ms > at_ms + s->config->group_consumer_regex_refresh_interval_ms;
    if (due)
        timer_arm(s->wheel, &cg->resolve, *s->now_ns);
}
