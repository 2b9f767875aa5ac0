/* The rounds of a classic group: members are called together, one of them is told who is there, it
 * says who does what, and each gets its share.
 *
 *              first member                 all have joined, or time is up
 *     EMPTY ───────────────▶ PREPARING ────────────────────────────────────▶ COMPLETING
 *       ▲                      ▲  │ nobody is left                            │      │
 *       │                      │  ▼                       a member comes, goes│      │ the leader
 *       └──────────────────────┼─ EMPTY                or changes, or is late │      │ has assigned
 *                              └──────────────────────────────────────────────┴── STABLE
 *
 * The join timer runs in PREPARING only. From EMPTY it is the initial delay: it gives others time
 * to come (group.initial.rebalance.delay.ms), again and again while somebody comes, at most the
 * longest rebalance timeout. Otherwise it is the longest rebalance timeout, after which those that
 * have not joined are left behind; static members keep their place till their session ends. The
 * sync timer runs in COMPLETING and STABLE until everybody has asked for the assignment.
 *
 * Invariants
 *  1. The generation grows by one with each completed join, and only then.
 *  2. In COMPLETING and STABLE no join is held; in EMPTY and PREPARING no sync is held.
 *  3. STABLE is entered after the group's record has been put into the update (classic.c).
 *
 * Failure modes: an EMPTY group whose record cannot be made (memory) goes on without: after a
 * restart the generation before is found again, without active members, and times out. */
#include "broker/group/group_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/sync_group.h"

static const char *const state_names[] = {"Empty", "PreparingRebalance", "CompletingRebalance",
                                          "Stable"};
static const struct state_table states = {
    .name = "group",
    .names = state_names,
    .states_count = GROUP_STATES,
    .allowed = {[GROUP_EMPTY] = 1u << GROUP_PREPARING,
                [GROUP_PREPARING] = 1u << GROUP_EMPTY | 1u << GROUP_COMPLETING,
                [GROUP_COMPLETING] = 1u << GROUP_PREPARING | 1u << GROUP_STABLE,
                [GROUP_STABLE] = 1u << GROUP_PREPARING},
};

static void rebalance_join_fired(struct timer *t);
static void rebalance_sync_fired(struct timer *t);

const char *group_state_name(const struct group *g)
{
    return state_names[g->state.now];
}

void group_move(struct group *g, enum group_state state)
{
    state_move(&g->state, &states, (uint8_t)state);
    g->state_since_ms = *g->shard->wall_ms;
}

void rebalance_timer_init(struct group *g)
{
    timer_init(&g->join, rebalance_join_fired);
    timer_init(&g->sync, rebalance_sync_fired);
}

static void rebalance_arm(struct group *g, struct timer *t, int32_t delay_ms)
{
    timer_arm(g->shard->wheel, t, ms_later(g->shard, delay_ms));
}

/* ---- the assignment -------------------------------------------------------------------------- */

void rebalance_propagate(struct group *g, enum kafka_error error)
{
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        if (!m->awaiting_sync)
            continue;
        struct group_call *call = member_end_sync(m);
        /* Its session may have ended while it was held; it counts from here again. */
        member_beat(m, m->session_timeout_ms);
        if (call == NULL)
            continue;
        struct sync_group_response *r = call->response;
        sync_group_response_init(r);
        r->error_code = (int16_t)error;
        if (error == KE_NONE) {
            r->protocol_type = call_string(call, g->protocol_type);
            r->protocol_name = call_string(call, g->protocol_name);
        }
        if (m->assignment.size > 0)
            r->assignment = call_bytes(call, m->assignment);
        call_answered(g->shard, call);
    }
}

void rebalance_reset(struct group *g, enum kafka_error error)
{
    SOMETIMES("a rebalance begins while members wait for their assignment");
    assert(group_is(g, GROUP_COMPLETING));
    assert(error != KE_NONE);
    LIST_EACH(l, &g->members)
    disown_bytes(g->shard->mem, &container_of(l, struct group_member, link)->assignment);
    rebalance_propagate(g, error);
}

/* A member has asked for its assignment. */
void rebalance_synced(struct group_member *m)
{
    member_clear_pending_sync(m);
    if (m->group->pending_sync_count == 0)
        timer_cancel(m->group->shard->wheel, &m->group->sync);
}

/* ---- calling together ------------------------------------------------------------------------ */

static void rebalance_end_sync(struct group *g)
{
    LIST_EACH(l, &g->members)
    member_clear_pending_sync(container_of(l, struct group_member, link));
    timer_cancel(g->shard->wheel, &g->sync);
}

bool rebalance_allowed(const struct group *g)
{
    return !group_is(g, GROUP_PREPARING);
}

void rebalance_prepare(struct group *g)
{
    assert(rebalance_allowed(g));
    if (group_is(g, GROUP_COMPLETING))
        rebalance_reset(g, KE_REBALANCE_IN_PROGRESS);
    rebalance_end_sync(g);
    g->initial = group_is(g, GROUP_EMPTY);
    g->member_added = false;
    group_move(g, GROUP_PREPARING);
    if (g->initial) {
        int32_t delay_ms = g->shard->config->group_initial_rebalance_delay_ms;
        SOMETIMES_IF(delay_ms > 0, "an empty group waits for its first members");
        g->join_delay_ms = delay_ms;
        g->join_remaining_ms = MAX(group_rebalance_timeout(g) - delay_ms, 0);
        rebalance_arm(g, &g->join, delay_ms);
    } else if (group_all_joined(g)) {
        rebalance_complete(g);
    } else {
        rebalance_arm(g, &g->join, group_rebalance_timeout(g));
    }
}

void rebalance_maybe_complete(struct group *g)
{
    if (group_is(g, GROUP_PREPARING) && !g->initial && group_all_joined(g))
        rebalance_complete(g);
}

void rebalance_or_complete(struct group *g)
{
    if (rebalance_allowed(g))
        rebalance_prepare(g);
    else
        rebalance_maybe_complete(g);
}

/* Its session ended, or its join was not repeated. The initial delay does not hold this up. */
void rebalance_member_gone(struct group *g)
{
    if (group_is(g, GROUP_STABLE) || group_is(g, GROUP_COMPLETING))
        rebalance_prepare(g);
    else if (group_is(g, GROUP_PREPARING) && group_all_joined(g))
        rebalance_complete(g);
}

/* ---- the next generation --------------------------------------------------------------------- */

static void rebalance_leave_behind(struct group *g)
{
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        if (m->awaiting_join || m->instance_id.size >= 0)
            continue;
        member_remove(m);
    }
}

/* The leader must be somebody who has joined. false: nobody has. */
static bool rebalance_elect(struct group *g)
{
    if (g->leader == NULL || g->leader->awaiting_join)
        return g->leader != NULL;
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        if (m->awaiting_join) {
            g->leader = m;
            return true;
        }
    }
    return false;
}

static void rebalance_next_generation(struct group *g)
{
    struct wire_string name;
    g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    /* Without memory for the name the old one stays, and members that do not support it send no
     * metadata; the name is a few bytes. */
    if (own_string(g->shard->mem, &name, group_select_protocol(g))) {
        disown_string(g->shard->mem, &g->protocol_name);
        g->protocol_name = name;
    }
    rebalance_end_sync(g);
    group_move(g, g->members_count > 0 ? GROUP_COMPLETING : GROUP_EMPTY);
    group_note_subscriptions(g);
}

void join_tell(struct group_member *m, struct group_call *call, bool with_members,
               bool skip_assignment)
{
    struct group *g = m->group;
    struct join_group_response *r = call->response;
    join_group_response_init(r);
    r->generation_id = g->generation;
    r->protocol_type = call_string(call, g->protocol_type);
    r->protocol_name = call_string(call, g->protocol_name);
    r->member_id = call_string(call, m->id);
    if (g->leader != NULL)
        r->leader = call_string(call, g->leader->id);
    r->skip_assignment = skip_assignment;
    if (with_members && g->leader == m) {
        r->members = arena_array(call->arena, g->members_count, sizeof(*r->members));
        LIST_EACH(l, &g->members)
        {
            const struct group_member *other = container_of(l, struct group_member, link);
            if (r->members == NULL)
                break;
            struct join_group_response_member *out = &r->members[r->members_count++];
            join_group_response_member_init(out);
            out->member_id = call_string(call, other->id);
            out->group_instance_id = call_string(call, other->instance_id);
            out->metadata = call_bytes(call, member_metadata(other));
        }
    }
    call_answered(g->shard, call);
}

void rebalance_complete(struct group *g)
{
    assert(group_is(g, GROUP_PREPARING));
    timer_cancel(g->shard->wheel, &g->join);
    rebalance_leave_behind(g);
    if (!rebalance_elect(g) && g->members_count > 0) {
        /* Only static members that are away: wait for them, or for the end of their sessions. */
        g->initial = false;
        rebalance_arm(g, &g->join, group_rebalance_timeout(g));
        return;
    }
    rebalance_next_generation(g);
    if (g->members_count == 0) {
        SOMETIMES("a group has become empty");
        g->shard->records_lost += record_group(g) != KE_NONE;
        return;
    }
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        struct group_call *call = member_end_join(m);
        if (call != NULL)
            join_tell(m, call, true, false);
        member_beat(m, m->session_timeout_ms);
        m->is_new = false;
        m->pending_sync = true;
        g->pending_sync_count++;
    }
    rebalance_arm(g, &g->sync, group_rebalance_timeout(g));
}

/* ---- time ------------------------------------------------------------------------------------ */

static void rebalance_join_fired(struct timer *t)
{
    struct group *g = container_of(t, struct group, join);
    assert(group_is(g, GROUP_PREPARING));
    if (g->initial && g->member_added && g->join_remaining_ms != 0) {
        int32_t before_ms = g->join_delay_ms;
        SOMETIMES("a new group waits longer, for more came");
        g->member_added = false;
        g->join_delay_ms =
            MIN(g->shard->config->group_initial_rebalance_delay_ms, g->join_remaining_ms);
        g->join_remaining_ms = MAX(g->join_remaining_ms - before_ms, 0);
        rebalance_arm(g, &g->join, g->join_delay_ms);
        return;
    }
    struct group_shard *s = g->shard;
    rebalance_complete(g);
    s->changed(s);
}

static void rebalance_sync_fired(struct timer *t)
{
    struct group *g = container_of(t, struct group, sync);
    struct group_shard *s = g->shard;
    assert(group_is(g, GROUP_COMPLETING) || group_is(g, GROUP_STABLE));
    if (g->pending_sync_count == 0)
        return;
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        if (m->pending_sync)
            member_remove(m);
    }
    SOMETIMES("a sync times out");
    rebalance_prepare(g);
    s->changed(s);
}
