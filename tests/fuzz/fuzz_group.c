/* Any row of events to a shard of groups: classic members join, sync, beat and leave, members of
 * the new protocol beat, offsets are committed, in transactions too, fetched and deleted, topics
 * come, grow and go, time passes, who asked goes away, the shard is closed and loaded from its log.
 *
 * After each event the shard's counts are those of its lists, states and members fit each other, no
 * partition is with two members, and nothing held was answered. At the end a second shard, loaded
 * from the records of the first, has the same offsets; and nothing is left. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#include "broker/group/consumer_priv.h"
#include "proto/gen/txn_offset_commit.h"
#include "tests/broker/group_rig.h"

#define EVENTS_MAX 200u
#define GROUPS     3u
#define IDS        6u
#define TOPICS     4u

static const char *const group_names[GROUPS] = {"g", "h", "i"};
static const char *const topic_names[TOPICS] = {"t", "ta", "tb", "u"};

struct play {
    struct group_rig rig;
    struct fuzz_reader in;
    char ids[IDS][80]; /* members that were heard of */
    int32_t epochs[IDS];
    struct rig_call *held[IDS]; /* the last join or sync of each */
    uint32_t next;
    bool transactional; /* a record of a transaction was made: the rig's log does not say so */
};

/* ---- choices --------------------------------------------------------------------------------- */

static const char *pick_group(struct play *p)
{
    return group_names[fuzz_below(&p->in, 8) % GROUPS];
}

static const char *pick_topic(struct play *p)
{
    return topic_names[fuzz_below(&p->in, TOPICS)];
}

static const char *pick_instance(struct play *p)
{
    static const char *const names[] = {NULL, NULL, NULL, "s1", "s2"};
    return names[fuzz_below(&p->in, 5)];
}

/* The generation or epoch the member has, or one beside it. */
static int32_t pick_epoch(struct play *p, uint32_t id)
{
    static const int32_t others[] = {-1, 0, -2, 1, 7, INT32_MAX};
    uint32_t way = fuzz_below(&p->in, 16);
    return way < 6 ? others[way] : way == 6 ? p->epochs[id] + 1 : p->epochs[id];
}

static void note_id(struct play *p, uint32_t slot, struct wire_string id, int32_t epoch)
{
    if (id.size > 0 && (size_t)id.size < sizeof(p->ids[0]))
        (void)snprintf(p->ids[slot], sizeof(p->ids[0]), "%.*s", (int)id.size, id.data);
    p->epochs[slot] = epoch;
}

/* ---- classic --------------------------------------------------------------------------------- */

static void event_join(struct play *p)
{
    static const char *const protocols[] = {
        "range=m", "range=@t",     "roundrobin=x,range=y", "range=abc,cooperative-sticky=q",
        "",        "range=@t,a=@t"};
    static const int16_t versions[] = {0, 1, 3, 4, 5, 9};
    const char *group = pick_group(p), *instance = pick_instance(p);
    uint32_t slot = fuzz_below(&p->in, IDS), how = fuzz_byte(&p->in);
    const char *id = how & 0x80 ? "" : p->ids[slot];
    struct rig_call *c = rig_join_for(&p->rig, group, id, instance, versions[how % 6],
                                      protocols[how / 8 % 6], how & 0x40 ? 50 : 10000, 60000);
    p->held[slot] = c->answered ? NULL : c;
    if (c->answered)
        note_id(p, slot, c->tell.join.member_id, c->tell.join.generation_id);
}

static void event_sync(struct play *p)
{
    const char *group = pick_group(p);
    uint32_t slot = fuzz_below(&p->in, IDS), other = fuzz_below(&p->in, IDS);
    const char *const assignments[] = {p->ids[slot], "one", p->ids[other], "two", NULL};
    struct rig_call *c = rig_sync(&p->rig, group, p->ids[slot], pick_epoch(p, slot), assignments);
    p->held[slot] = c->answered ? NULL : c;
}

/* Joins are answered later: what they were told is then known. */
static void hear(struct play *p)
{
    for (uint32_t i = 0; i < IDS; i++) {
        struct rig_call *c = p->held[i];
        if (c == NULL || !c->answered)
            continue;
        if (c->call.kind == GROUP_JOIN)
            note_id(p, i, c->tell.join.member_id, c->tell.join.generation_id);
        p->held[i] = NULL;
    }
}

static void event_abandon(struct play *p)
{
    uint32_t slot = fuzz_below(&p->in, IDS);
    if (p->held[slot] == NULL)
        return;
    group_shard_abandon(&p->rig.shard, &p->held[slot]->call);
    p->rig.shard.changed(&p->rig.shard);
    assert(p->held[slot]->answered);
    p->held[slot] = NULL;
}

/* ---- consumer -------------------------------------------------------------------------------- */

static void beat_subscription(struct play *p, struct consumer_group_heartbeat_request *q)
{
    static const char *const patterns[] = {"t.*", "ta|u", "", "(", "[tu]b?", "\\Qt\\E"};
    uint32_t how = fuzz_byte(&p->in);
    if ((how & 1) != 0) {
        q->subscribed_topic_names = arena_array(&p->rig.arena, 3, sizeof(struct wire_string));
        q->subscribed_topic_names_count = (int32_t)(how >> 4 & 3);
        for (int32_t i = 0; i < q->subscribed_topic_names_count; i++)
            q->subscribed_topic_names[i] = wire_string_of(pick_topic(p));
    }
    if ((how & 2) != 0)
        q->subscribed_topic_regex = wire_string_of(patterns[how / 16 % 6]);
    if ((how & 4) != 0)
        q->server_assignor = wire_string_of((how & 0x80) != 0 ? "range" : "uniform");
    if ((how & 8) != 0)
        q->rebalance_timeout_ms = (how & 0x40) != 0 ? 100 : 30000;
}

/* What it has: nothing, or the first partitions of a topic. */
static void beat_partitions(struct play *p, struct consumer_group_heartbeat_request *q)
{
    uint32_t how = fuzz_byte(&p->in);
    if ((how & 1) == 0)
        return;
    q->topic_partitions_count = 0;
    if ((how & 2) == 0 || p->rig.topics_count == 0)
        return;
    int32_t count = (int32_t)(how >> 2 & 3);
    q->topic_partitions = arena_array(&p->rig.arena, 1, sizeof(*q->topic_partitions));
    q->topic_partitions_count = 1;
    q->topic_partitions[0].topic_id = p->rig.topics[(how >> 4) % p->rig.topics_count].id;
    q->topic_partitions[0].partitions = arena_array(&p->rig.arena, 4, sizeof(int32_t));
    q->topic_partitions[0].partitions_count = count;
    for (int32_t i = 0; i < count; i++)
        q->topic_partitions[0].partitions[i] = i;
}

static void event_beat(struct play *p)
{
    struct group_rig *r = &p->rig;
    uint32_t how = fuzz_byte(&p->in), slot = how % IDS;
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_HEARTBEAT, how & 0x80 ? 0 : 1);
    struct consumer_group_heartbeat_request *q = &c->ask.beat;
    consumer_group_heartbeat_request_init(q);
    q->group_id = wire_string_of(pick_group(p));
    q->member_id = wire_string_of(p->ids[slot]);
    q->member_epoch = (how & 0x40) != 0 ? pick_epoch(p, slot) : p->epochs[slot];
    q->instance_id = wire_string_of((how & 0x20) != 0 ? pick_instance(p) : NULL);
    q->rack_id = q->subscribed_topic_regex = q->server_assignor = WIRE_NULL_STRING;
    q->subscribed_topic_names_count = q->topic_partitions_count = q->rebalance_timeout_ms = -1;
    if (q->member_epoch == 0) { /* else it is refused at once */
        q->rebalance_timeout_ms = 30000;
        q->topic_partitions_count = 0;
    }
    beat_subscription(p, q);
    beat_partitions(p, q);
    rig_call(r, c);
    assert(c->answered);
    if (c->tell.beat.error_code == 0)
        note_id(p, slot, c->tell.beat.member_id, c->tell.beat.member_epoch);
}

/* ---- offsets --------------------------------------------------------------------------------- */

static void event_txn_commit(struct play *p)
{
    struct group_rig *r = &p->rig;
    struct rig_call *c = rig_make(r, GROUP_TXN_COMMIT, 3);
    struct txn_offset_commit_request *q = arena_array(&r->arena, 1, sizeof(*q));
    struct txn_offset_commit_response *out = arena_array(&r->arena, 1, sizeof(*out));
    txn_offset_commit_request_init(q);
    txn_offset_commit_response_init(out);
    q->group_id = wire_string_of(pick_group(p));
    uint32_t how = fuzz_byte(&p->in);
    q->member_id = wire_string_of(how & 1 ? p->ids[how / 2 % IDS] : "");
    q->generation_id = how & 1 ? p->epochs[how / 2 % IDS] : -1;
    q->producer_id = how >> 6;
    q->topics = arena_array(&r->arena, 1, sizeof(*q->topics));
    txn_offset_commit_request_topic_init(q->topics);
    q->topics->name = wire_string_of(pick_topic(p));
    q->topics->partitions = arena_array(&r->arena, 1, sizeof(*q->topics->partitions));
    txn_offset_commit_request_partition_init(q->topics->partitions);
    q->topics->partitions->committed_offset = fuzz_byte(&p->in);
    out->topics = arena_array(&r->arena, 1, sizeof(*out->topics));
    out->topics->partitions = arena_array(&r->arena, 1, sizeof(*out->topics->partitions));
    q->topics_count = q->topics->partitions_count = 1;
    out->topics_count = out->topics->partitions_count = 1;
    c->call.request = q;
    c->call.response = out;
    rig_call(r, c);
    assert(c->answered);
    p->transactional |= r->taken_in_txn;
}

static void event_commit(struct play *p)
{
    uint32_t slot = fuzz_below(&p->in, IDS + 1);
    const char *group = pick_group(p), *topic = pick_topic(p);
    int32_t epoch = slot < IDS ? pick_epoch(p, slot) : -1;
    int32_t partition = (int32_t)fuzz_below(&p->in, 4);
    (void)rig_commit(&p->rig, group, slot < IDS ? p->ids[slot] : "", epoch, topic, partition,
                     fuzz_byte(&p->in), fuzz_below(&p->in, 2) ? "some" : NULL);
}

static void event_end_transaction(struct play *p)
{
    uint32_t how = fuzz_byte(&p->in);
    bool done = group_shard_end_transaction(&p->rig.shard, how >> 6, (how & 1) != 0);
    assert(done);
}

/* ---- the world ------------------------------------------------------------------------------- */

static void event_time(struct play *p)
{
    static const uint32_t ms[] = {1, 50, 3000, 10001, 45001, 60001, 300001, 604800000};
    struct group_rig *r = &p->rig;
    uint32_t passed = ms[fuzz_below(&p->in, 8)];
    for (uint32_t i = 0; i < 4; i++) { /* what fires arms what fires */
        r->now_ns += (uint64_t)passed * NS_PER_MS / 4;
        r->wall_ms += passed / 4;
        (void)wheel_run(&r->wheel, r->now_ns, 1000);
    }
}

static void event_topic(struct play *p)
{
    uint32_t how = fuzz_byte(&p->in);
    const char *name = topic_names[how % TOPICS];
    struct group_topic_facts facts;
    bool there = p->rig.world.topic_by_name(&p->rig, wire_string_of(name), &facts);
    if (how < 128 || !there) {
        rig_topic(&p->rig, name, MAX(there ? facts.partitions_count : 0, 1 + (how >> 2 & 7)));
        return;
    }
    group_shard_topic_deleted(&p->rig.shard, wire_string_of(name), 0);
    rig_topic_gone(&p->rig, name);
}

static void event_ask(struct play *p)
{
    struct group_rig *r = &p->rig;
    const char *group = pick_group(p);
    uint32_t how = fuzz_byte(&p->in);
    switch (how % 6) {
    case 0:
        (void)rig_describe(r, group, 5);
        break;
    case 1:
        (void)rig_list(r, how & 8 ? "Stable" : NULL, how & 16 ? "consumer" : NULL);
        break;
    case 2:
        (void)rig_delete(r, group);
        break;
    case 3:
        (void)rig_offset_delete(r, group, pick_topic(p), how >> 4 & 3);
        break;
    case 4:
        (void)rig_fetch_all(r, group);
        break;
    default: {
        struct rig_call *c = rig_make(r, GROUP_CONSUMER_DESCRIBE, 1);
        c->ask.group = wire_string_of(group);
        rig_call(r, c);
        assert(c->answered);
    }
    }
}

static void event(struct play *p)
{
    uint32_t slot;
    const char *group;
    switch (fuzz_below(&p->in, 16)) {
    case 0:
    case 1:
        event_join(p);
        break;
    case 2:
        event_sync(p);
        break;
    case 3:
        group = pick_group(p);
        slot = fuzz_below(&p->in, IDS);
        (void)rig_heartbeat(&p->rig, group, p->ids[slot], pick_instance(p), pick_epoch(p, slot));
        break;
    case 4:
        group = pick_group(p);
        slot = fuzz_below(&p->in, IDS);
        (void)rig_leave(&p->rig, group, p->ids[slot], pick_instance(p));
        break;
    case 5:
        event_commit(p);
        break;
    case 6:
        event_txn_commit(p);
        break;
    case 7:
        event_end_transaction(p);
        break;
    case 8:
        event_ask(p);
        break;
    case 9:
        event_abandon(p);
        break;
    case 10:
        event_topic(p);
        break;
    case 11:
    case 12:
        event_time(p);
        break;
    default:
        event_beat(p);
    }
    p->rig.shard.changed(&p->rig.shard); /* takes what is left in update */
    hear(p);
}

/* ---- what must hold -------------------------------------------------------------------------- */

static uint32_t count_of(const struct list *all)
{
    uint32_t count = 0;
    LIST_EACH(l, all)
    {
        count += l != NULL;
    }
    return count;
}

static void check_classic(const struct group *g)
{
    uint32_t members = 0, joining = 0, syncing = 0;
    bool leads = g->leader == NULL;
    LIST_EACH(l, &g->members)
    {
        const struct group_member *m = container_of(l, struct group_member, link);
        members++;
        joining += m->awaiting_join;
        syncing += m->pending_sync;
        leads |= m == g->leader;
        assert(m->group == g);
        assert(m->join == NULL || m->awaiting_join);
        assert(m->sync == NULL || m->awaiting_sync);
        assert(map_get(&g->by_id, m->id.data, (uint32_t)m->id.size) == m);
    }
    assert(members == g->members_count && members == g->by_id.count);
    assert(joining == g->awaiting_join_count && syncing == g->pending_sync_count && leads);
    assert(g->by_instance.count <= members && count_of(&g->pending) == g->pending_count);
    assert(members > 0 || g->state.now == GROUP_EMPTY || g->state.now == GROUP_PREPARING);
    assert(g->state.now != GROUP_EMPTY || members == 0);
    assert(g->state.now != GROUP_STABLE || g->leader != NULL);
}

static void check_consumers(const struct consumer_group *cg)
{
    uint32_t count = 0, classic = 0, has = 0, owned = 0;
    LIST_EACH(l, &cg->members)
    {
        const struct consumer *c = container_of(l, struct consumer, link);
        count++;
        classic += c->classic != NULL;
        has += c->assigned.count + c->revoking.count;
        assert(c->of == cg && c->epoch <= cg->epoch);
        assert(c->state != CONSUMER_UNREVOKED || c->revoking.count > 0);
        for (uint32_t i = 0; i < c->assigned.count; i++) {
            const struct part *part = &c->assigned.list[i];
            assert(consumers_owner(cg, part->topic, part->index) == c);
            assert(i == 0 || part_order(part - 1, part) < 0);
        }
        for (uint32_t i = 0; i < c->revoking.count; i++) {
            const struct part *part = &c->revoking.list[i];
            assert(consumers_owner(cg, part->topic, part->index) == c);
        }
    }
    const struct consumer_owned *o;
    for (uint32_t at = 0; (o = map_next(&cg->owned_by_topic, &at)) != NULL;) {
        for (uint32_t i = 0; i < o->room; i++)
            owned += o->owners[i] != NULL;
    }
    assert(count == cg->count && classic == cg->classic_count && has == owned);
    assert(cg->target_epoch <= cg->epoch);
}

static void check(const struct play *p)
{
    const struct group_shard *s = &p->rig.shard;
    uint32_t groups = 0;
    LIST_EACH(l, &s->all)
    {
        const struct group *g = container_of(l, struct group, link);
        groups++;
        if (g->consumers != NULL)
            check_consumers(g->consumers);
        else
            check_classic(g);
    }
    assert(groups == s->groups.count);
    assert(list_empty(&s->update.records) && list_empty(&s->update.answered));
}

/* ---- a play ---------------------------------------------------------------------------------- */

static void same_offsets(struct play *a, struct group_rig *b)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        for (uint32_t t = 0; t < TOPICS; t++) {
            for (int32_t i = 0; i < 4; i++)
                assert(rig_offset(&a->rig, group_names[g], topic_names[t], i) ==
                       rig_offset(b, group_names[g], topic_names[t], i));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play p;
    static struct group_rig second;
    static const char *const policies[] = {NULL, "disabled", "upgrade", "downgrade"};
    if (size > FUZZ_INPUT_MAX)
        return 0;
    p.in = (struct fuzz_reader){data, size};
    p.transactional = false;
    memset(p.held, 0, sizeof(p.held));
    memset(p.epochs, 0, sizeof(p.epochs));
    for (uint32_t i = 0; i < IDS; i++)
        (void)snprintf(p.ids[i], sizeof(p.ids[0]), "m%u", i);
    rig_init(&p.rig);
    p.rig.config.group_initial_rebalance_delay_ms = (int32_t)fuzz_below(&p.in, 2) * 3000;
    p.rig.config.group_max_size = fuzz_below(&p.in, 4) == 1 ? 2 : INT32_MAX;
    p.rig.config.group_consumer_migration_policy = policies[fuzz_below(&p.in, 4)];
    rig_topic(&p.rig, "t", 3);
    for (uint32_t n = 0; n < EVENTS_MAX && p.in.left > 0; n++) {
        event(&p);
        check(&p);
    }
    if (!p.transactional) {
        rig_load(&second, &p.rig);
        same_offsets(&p, &second);
        rig_end(&second);
    }
    rig_end(&p.rig);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    return n < 40 ? fuzz_noise(n, 40 + 20 * n, to) : 0;
}
