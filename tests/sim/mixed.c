/* What movers share: what the seed decides, which topics there are, and when all is well.
 *
 *   done   every partition that somebody in the group subscribes to is with one mover that does,
 *          all have the same epoch, and nobody has anything to do */
#include "tests/sim/mixed.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/run.h"

static const char *const policies[] = {"bidirectional", "upgrade", "downgrade", "disabled"};

static const struct {
    const char *text;
    uint32_t run_topics; /* bits: of those that are there from the beginning */
    bool late;           /* late ones too */
} patterns[] = {
    {NULL, 0, false},
    {"topic-.*", 7, false},
    {"topic-[01]|late-.+", 3, true},
    {"(topic|late)-[0-9]", 7, true},
    {"late-\\d+", 0, true},
};
#define PATTERNS_COUNT (sizeof(patterns) / sizeof(patterns[0]))

void mixed_draw(struct mixed_options *o, struct chance *c)
{
    bool wanted = chance_one_in(c, 3);
    o->groups = (uint32_t)chance_between(c, 1, MIXED_MAX);
    o->movers = (uint32_t)chance_between(c, o->groups, MOVERS_MAX);
    o->policy = chance_one_in(c, 2) ? 0 : (uint32_t)chance_below(c, 4);
    o->session_ms = (uint32_t)chance_between(c, 300, 1500);
    o->heartbeat_ms = (uint32_t)chance_between(c, 10, 100);
    o->interval_ms = chance_one_in(c, 2) ? 0 : (uint32_t)chance_between(c, 1, 300);
    o->late = (uint32_t)chance_below(c, LATE_TOPICS_MAX + 1);
    o->cooperative = chance_one_in(c, 2);
    if (!wanted)
        o->movers = 0;
}

void mixed_properties(const struct mixed_options *o, char *to, size_t size)
{
    to[0] = 0;
    if (o->movers > 0)
        (void)snprintf(to, size,
                       "group.consumer.min.session.timeout.ms=100\n"
                       "group.consumer.session.timeout.ms=%u\n"
                       "group.consumer.min.heartbeat.interval.ms=1\n"
                       "group.consumer.heartbeat.interval.ms=%u\n"
                       "group.consumer.assignment.interval.ms=%u\n"
                       "group.consumer.migration.policy=%s\n",
                       o->session_ms, o->heartbeat_ms, o->interval_ms, policies[o->policy]);
}

bool mixed_may_mix(const struct mixed_options *o)
{
    return o->policy < 2; /* classic members and such of the other kind find into one group */
}

const char *mixed_pattern(uint32_t pattern)
{
    assert(pattern < PATTERNS_COUNT);
    return patterns[pattern].text;
}

uint32_t mixed_subscribed(const struct mixed *x, uint32_t topics, uint32_t pattern)
{
    assert(pattern < PATTERNS_COUNT);
    for (uint32_t t = 0; t < x->topics_count; t++) {
        bool wanted =
            x->topics[t].late ? patterns[pattern].late : (patterns[pattern].run_topics >> t & 1);
        topics |= (uint32_t)wanted << t;
    }
    return topics;
}

uint32_t mixed_topic_of(const struct mixed *x, uint32_t cell)
{
    uint32_t t = x->topics_count - 1;
    while (cell < x->topics[t].first)
        t--;
    return t;
}

uint32_t mixed_topic_find(const struct mixed *x, struct wire_string name, struct uuid id)
{
    uint32_t t = 0;
    for (; t < x->topics_count; t++) {
        const struct mixed_topic *at = &x->topics[t];
        if (name.size >= 0 ? wire_string_equal(name, wire_string_of(at->name))
                           : at->known && uuid_equal(at->id, id))
            break;
    }
    return t;
}

uint64_t mixed_cells(const struct mixed *x, uint32_t topics)
{
    uint64_t cells = 0;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        if ((topics >> t & 1) != 0)
            cells |= ((1ull << x->topics[t].partitions) - 1) << x->topics[t].first;
    }
    return cells;
}

/* ---- life ------------------------------------------------------------------------------------ */

static uint32_t mixed_topics(struct run *r)
{
    struct mixed *x = &r->mixed;
    uint32_t cells = 0;
    for (uint32_t t = 0; t < r->options.topics + x->options.late; t++) {
        struct mixed_topic *at = &x->topics[x->topics_count++];
        bool late = t >= r->options.topics;
        *at = (struct mixed_topic){.first = cells, .late = late};
        (void)snprintf(at->name, sizeof(at->name), "%s-%u", late ? "late" : "topic",
                       late ? t - r->options.topics : t);
        if (!late)
            at->partitions = r->topics[t].partitions_count;
        at->partitions_wanted =
            late ? (uint32_t)chance_between(r->chance, 1, LATE_PARTITIONS_MAX) : at->partitions;
        cells += at->partitions_wanted;
    }
    return cells;
}

void mixed_start(struct run *r)
{
    struct mixed *x = &r->mixed;
    x->options = r->options.mixed;
    if (x->options.movers == 0)
        return;
    uint32_t cells = mixed_topics(r);
    for (uint32_t i = 0; i < x->options.groups; i++) {
        group_model_init(&x->groups[i], i, cells);
        (void)snprintf(x->groups[i].id, sizeof(x->groups[i].id), "mixed-%u", i);
    }
    for (uint32_t i = 0; i < x->options.movers; i++)
        mover_start(&x->movers[i], r, i);
    founder_start(&x->founder, r);
}

void mixed_stop(struct run *r)
{
    for (uint32_t i = 0; i < r->mixed.options.movers; i++) {
        if (r->mixed.movers[i].run != NULL)
            mover_stop(&r->mixed.movers[i]);
    }
    if (r->mixed.founder.run != NULL)
        founder_stop(&r->mixed.founder);
}

/* ---- the end --------------------------------------------------------------------------------- */

static bool group_done(const struct run *r, const struct group_model *g)
{
    const struct mixed *x = &r->mixed;
    uint32_t wanted = 0;
    uint64_t owned = 0;
    int32_t epoch = 0;
    for (uint32_t i = 0; i < x->options.movers; i++) {
        const struct mover *m = &x->movers[i];
        uint32_t topics = mixed_subscribed(x, m->topics, m->consumer ? m->pattern : 0);
        if (m->group != g)
            continue;
        if (!mover_done(m) || (m->owned & ~mixed_cells(x, topics)) != 0 ||
            (m->owned & owned) != 0 || (epoch != 0 && epoch != m->epoch))
            return false;
        wanted |= topics;
        owned |= m->owned;
        epoch = m->epoch;
    }
    return owned == mixed_cells(x, wanted);
}

bool mixed_done(const struct run *r)
{
    const struct mixed *x = &r->mixed;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        if (x->topics[t].partitions < x->topics[t].partitions_wanted)
            return false;
    }
    for (uint32_t i = 0; i < x->options.groups; i++) {
        if (!group_done(r, &x->groups[i]))
            return false;
    }
    return true;
}

void mixed_print(const struct run *r)
{
    const struct mixed *x = &r->mixed;
    if (x->options.movers == 0)
        return;
    (void)fprintf(stderr, "mixed: %s, session %u ms heartbeat %u ms interval %u ms, %s\n",
                  policies[x->options.policy], x->options.session_ms, x->options.heartbeat_ms,
                  x->options.interval_ms, x->options.cooperative ? "cooperative" : "eager");
    for (uint32_t t = 0; t < x->topics_count; t++)
        (void)fprintf(stderr, "  %s: %u of %u partitions from cell %u\n", x->topics[t].name,
                      x->topics[t].partitions, x->topics[t].partitions_wanted, x->topics[t].first);
    for (uint32_t i = 0; i < x->options.groups; i++) {
        const struct group_model *g = &x->groups[i];
        (void)fprintf(stderr, "  %s: %llu joins %llu commits %llu fetches %llu refused\n", g->id,
                      (unsigned long long)g->joins, (unsigned long long)g->commits,
                      (unsigned long long)g->fetches, (unsigned long long)g->refused);
    }
    for (uint32_t i = 0; i < x->options.movers; i++) {
        const struct mover *m = &x->movers[i];
        (void)fprintf(stderr,
                      "  mover %u of %s: %s (%s at last) state %d epoch %d topics %#x pattern %u "
                      "owns %#llx told %#llx id %s %s, %llu moves %llu fences\n",
                      i, m->group->id, m->consumer ? "consumer" : "classic",
                      m->consumer_at_last ? "consumer" : "classic", m->state, m->epoch, m->topics,
                      m->pattern, (unsigned long long)m->owned, (unsigned long long)m->told, m->id,
                      m->instance, (unsigned long long)m->moves, (unsigned long long)m->fences);
    }
}
