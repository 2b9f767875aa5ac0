/* What members of a classic group ask: to join, to get their assignment, to be taken for alive, to
 * go. Each call is one step; what it does to the group as a whole is in rebalance.c.
 *
 *   request    EMPTY       PREPARING         COMPLETING               STABLE
 *   join       a round     is held           same again, or a round   leader or changed: a round
 *   sync       25          27                held; the leader's ends  the assignment
 *   heartbeat  25          27                0                        0
 *   unknown member 25, replaced static member 82, other generation 22, no group: 25
 *
 * Invariants
 *  1. A dynamic member of version 4 and later comes twice: the first time it is given an id, so a
 *     client that loses the answer leaves nothing behind but that id, which times out.
 *  2. What the leader assigns is in the group's record before anybody is told of it.
 *  3. A member has its heartbeat timer from the moment it is added; while it is held the timer may
 *     pass without effect, unless it is new: then it is the only bound on its waiting.
 *  4. A group that a join makes leaves a record, even an empty one: it is there after a restart.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE, and nothing has changed. An assignment that
 * does not fit into a batch: UNKNOWN_SERVER_ERROR to all, and a new round. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/sync_group.h"

/* Longest name (client id or instance id) and a UUID. */
#define MEMBER_ID_MAX (WIRE_STRING_MAX)
#define UUID_TEXT     36

/* ---- sessions -------------------------------------------------------------------------------- */

void member_expired(struct timer *t)
{
    struct group_member *m = container_of(t, struct group_member, heartbeat);
    struct group *g = m->group;
    struct group_shard *s = g->shard;
    if (!m->is_new && (m->awaiting_join || m->awaiting_sync))
        return; /* held by us; it counts again when it is let go */
    member_remove(m);
    rebalance_member_gone(g);
    s->changed(s);
}

void member_beat(struct group_member *m, int32_t timeout_ms)
{
    timer_arm(m->group->shard->wheel, &m->heartbeat, ms_later(m->group->shard, timeout_ms));
}

static void pending_expired(struct timer *t)
{
    struct group_pending *p = container_of(t, struct group_pending, timer);
    struct group *g = p->group;
    struct group_shard *s = g->shard;
    pending_remove(p);
    if (group_is(g, GROUP_PREPARING) && group_all_joined(g)) {
        rebalance_complete(g);
        s->changed(s);
    }
}

void classic_loaded(struct group *g)
{
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        member_beat(m, m->session_timeout_ms);
    }
    if (g->members_count > (uint32_t)MAX(g->shard->config->group_max_size, 0) &&
        rebalance_allowed(g))
        rebalance_prepare(g); /* the limit is lower than it was */
}

/* ---- join: new members ----------------------------------------------------------------------- */

static struct wire_string make_member_id(struct group_shard *s, struct group_call *call,
                                         struct wire_string prefix)
{
    struct wire_string uuid = make_uuid_text(s, call->arena);
    int32_t size = MIN(MAX(prefix.size, 0), MEMBER_ID_MAX - UUID_TEXT - 1);
    char *text = arena_alloc(call->arena, (size_t)size + 1 + UUID_TEXT);
    if (text == NULL || uuid.size < 0)
        return WIRE_NULL_STRING;
    assert(uuid.size == UUID_TEXT);
    if (size > 0)
        memcpy(text, prefix.data, (size_t)size);
    text[size] = '-';
    memcpy(text + size + 1, uuid.data, UUID_TEXT);
    return (struct wire_string){text, size + 1 + UUID_TEXT};
}

static void join_refuse(struct group_shard *s, struct group_call *call, struct wire_string member,
                        enum kafka_error error)
{
    call_refused(s, call, error);
    ((struct join_group_response *)call->response)->member_id = member;
}

/* Version 0 has no rebalance timeout: the session's. */
static int32_t join_rebalance_timeout(const struct group_call *call)
{
    const struct join_group_request *r = call->request;
    return call->version == 0 ? r->session_timeout_ms : r->rebalance_timeout_ms;
}

/* A member that is not in the group yet. NULL: no memory. */
static struct group_member *join_make(struct group *g, struct group_call *call,
                                      struct wire_string id)
{
    const struct join_group_request *r = call->request;
    struct group_protocols protocols;
    if (!protocols_copy(g->shard->mem, &protocols, r->protocols, r->protocols_count))
        return NULL;
    struct group_member *m =
        member_create(g, id, r->group_instance_id, call->client_id, call->client_host, &protocols);
    if (m == NULL) {
        protocols_free(g->shard->mem, &protocols);
        return NULL;
    }
    m->session_timeout_ms = r->session_timeout_ms;
    m->rebalance_timeout_ms = join_rebalance_timeout(call);
    return m;
}

static void join_add(struct group *g, struct group_call *call, struct wire_string id)
{
    const struct join_group_request *r = call->request;
    struct group_member *m = join_make(g, call, id);
    if (m == NULL || !member_add(m, r->protocol_type)) {
        if (m != NULL)
            member_destroy(m);
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    struct group_pending *p = pending_find(g, id);
    SOMETIMES_IF(p != NULL, "a member comes with the id it was given");
    if (p != NULL)
        pending_remove(p);
    m->is_new = true;
    if (group_is(g, GROUP_PREPARING) && g->initial)
        g->member_added = true;
    member_await_join(m, call);
    member_beat(m, GROUP_NEW_MEMBER_JOIN_MS);
    rebalance_or_complete(g);
}

static void join_hand_out_id(struct group *g, struct group_call *call, struct wire_string id)
{
    SOMETIMES("a member id is handed out");
    const struct join_group_request *r = call->request;
    uint64_t due = ms_later(g->shard, r->session_timeout_ms);
    if (!pending_add(g, id, due, pending_expired)) {
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    join_refuse(g->shard, call, id, KE_MEMBER_ID_REQUIRED);
}

/* A static member whose place is known, in a stable group: it is told the generation that is; a
 * leader of version 9 need not assign again. */
static void join_resume(struct group_member *m, struct group_call *call,
                        struct wire_string leader_before)
{
    SOMETIMES("a static member resumes");
    struct group *g = m->group;
    if (record_group(g) != KE_NONE) {
        (void)member_end_join(m);
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        rebalance_or_complete(g); /* the new id is not on record: begin anew */
        return;
    }
    (void)member_end_join(m);
    bool skips = call->version >= 9;
    join_tell(m, call, skips, skips && g->leader == m);
    if (!skips) /* an old leader must not take itself for one: it would assign */
        ((struct join_group_response *)call->response)->leader = leader_before;
}

static void join_replace_static(struct group_member *old, struct group_call *call,
                                struct wire_string id)
{
    SOMETIMES("a static member is replaced");
    struct group *g = old->group;
    struct group_member *m = join_make(g, call, id);
    struct wire_string leader_before =
        g->leader != NULL ? call_string(call, g->leader->id) : wire_string_of("");
    struct group_call *join = old->join, *sync = old->sync;
    struct wire_string old_id = call_string(call, old->id);
    if (m == NULL || call->arena->failed) {
        if (m != NULL)
            member_destroy(m);
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    (void)member_end_join(old);
    (void)member_end_sync(old);
    SOMETIMES_IF(join != NULL, "a static member is replaced while it joins");
    if (join != NULL) /* whoever waits under the old id is fenced at once */
        join_refuse(g->shard, join, call_string(join, old_id), KE_FENCED_INSTANCE_ID);
    if (sync != NULL)
        call_refused(g->shard, sync, KE_FENCED_INSTANCE_ID);
    int32_t session_timeout_ms = old->session_timeout_ms;
    if (!member_replace(old, m)) {
        member_destroy(m);
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    member_beat(m, session_timeout_ms);
    member_await_join(m, call);
    if (group_is(g, GROUP_STABLE)) {
        if (wire_string_equal(g->protocol_name, group_select_protocol(g)))
            join_resume(m, call, leader_before);
        else
            rebalance_or_complete(g);
    } else if (group_is(g, GROUP_COMPLETING)) {
        rebalance_prepare(g); /* the leader may be assigning to the old id just now */
    } else {
        rebalance_maybe_complete(g);
    }
}

static void join_new(struct group *g, struct group_call *call)
{
    const struct join_group_request *r = call->request;
    struct group_shard *s = g->shard;
    if (!group_supports(g, r->protocol_type, r->protocols, r->protocols_count)) {
        join_refuse(s, call, wire_string_of(""), KE_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    bool fixed = r->group_instance_id.size >= 0;
    struct wire_string id = make_member_id(s, call, fixed ? r->group_instance_id : call->client_id);
    if (id.size < 0) {
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    struct group_member *known = member_static(g, r->group_instance_id);
    if (known != NULL)
        join_replace_static(known, call, id);
    else if (!fixed && call->version >= 4)
        join_hand_out_id(g, call, id);
    else
        join_add(g, call, id);
}

/* ---- join: known members --------------------------------------------------------------------- */

static void join_update(struct group_member *m, struct group_call *call)
{
    SOMETIMES("a member joins again");
    const struct join_group_request *r = call->request;
    struct group *g = m->group;
    struct group_protocols protocols;
    if (!protocols_copy(g->shard->mem, &protocols, r->protocols, r->protocols_count)) {
        call_refused(g->shard, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    member_set_protocols(m, &protocols);
    m->session_timeout_ms = r->session_timeout_ms;
    m->rebalance_timeout_ms = join_rebalance_timeout(call);
    member_await_join(m, call);
    rebalance_or_complete(g);
}

static void join_again(struct group *g, struct group_call *call)
{
    const struct join_group_request *r = call->request;
    struct group_shard *s = g->shard;
    if (!group_supports(g, r->protocol_type, r->protocols, r->protocols_count)) {
        call_refused(s, call, KE_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    if (pending_find(g, r->member_id) != NULL) {
        if (r->group_instance_id.size >= 0) /* ids of static members are never handed out */
            call_refused(s, call, KE_UNKNOWN_SERVER_ERROR);
        else
            join_add(g, call, r->member_id);
        return;
    }
    enum kafka_error error = member_check(g, r->member_id, r->group_instance_id);
    SOMETIMES_IF(error == KE_UNKNOWN_MEMBER_ID, "a member joins that is not known any more");
    SOMETIMES_IF(error == KE_FENCED_INSTANCE_ID, "a static member was replaced and joins");
    if (error == KE_NONE && group_is(g, GROUP_EMPTY))
        error = KE_UNKNOWN_MEMBER_ID;
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    struct group_member *m = member_find(g, r->member_id);
    bool same = protocols_same(&m->protocols, r);
    SOMETIMES_IF(group_is(g, GROUP_COMPLETING) && same, "the answer to a join was lost");
    if (group_is(g, GROUP_COMPLETING) && same)
        join_tell(m, call, true, false); /* it did not get the answer */
    else if (group_is(g, GROUP_STABLE) && same && g->leader != m)
        join_tell(m, call, false, false);
    else
        join_update(m, call);
}

/* group.max.size. While members gather, those that wait count: the last to come back are out. */
static bool join_accepted(const struct group *g, struct wire_string member_id)
{
    uint32_t size_max = (uint32_t)MAX(g->shard->config->group_max_size, 0);
    const struct group_member *m = member_find(g, member_id);
    if (group_is(g, GROUP_EMPTY))
        return true;
    if (group_is(g, GROUP_PREPARING))
        return (m != NULL && m->awaiting_join) || g->awaiting_join_count < size_max;
    return m != NULL || g->members_count < size_max;
}

static void join_group(struct group *g, struct group_call *call)
{
    const struct join_group_request *r = call->request;
    if (!join_accepted(g, r->member_id)) {
        struct group_member *m = member_find(g, r->member_id);
        struct group_pending *p = pending_find(g, r->member_id);
        if (m != NULL)
            member_remove(m);
        if (p != NULL)
            pending_remove(p);
        join_refuse(g->shard, call, wire_string_of(""), KE_GROUP_MAX_SIZE_REACHED);
    } else if (r->member_id.size == 0) {
        join_new(g, call);
    } else {
        join_again(g, call);
    }
}

void classic_join(struct group_shard *s, struct group_call *call)
{
    const struct join_group_request *r = call->request;
    struct group *g = shard_find(s, r->group_id);
    if (g != NULL && g->consumers != NULL && !convert_to_classic_if_empty(g)) {
        consumers_join(g, call);
        return;
    }
    g = shard_find(s, r->group_id);
    if (g != NULL) {
        join_group(g, call);
        return;
    }
    if (r->member_id.size != 0) {
        call_refused(s, call, KE_UNKNOWN_MEMBER_ID);
        return;
    }
    g = shard_admit(s, r->group_id);
    if (g == NULL) {
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    /* The record is of the group as it is made: nobody in it, invariant 4. */
    if (record_group(g) != KE_NONE) {
        shard_remove(g);
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    join_group(g, call);
}

/* ---- sync ------------------------------------------------------------------------------------ */

static bool differs(struct wire_string asked, struct wire_string known)
{
    return asked.size >= 0 && known.size >= 0 && !wire_string_equal(asked, known);
}

static enum kafka_error sync_check(const struct group *g, const struct sync_group_request *r)
{
    if (group_is(g, GROUP_EMPTY))
        return KE_UNKNOWN_MEMBER_ID;
    enum kafka_error error = member_check(g, r->member_id, r->group_instance_id);
    if (error != KE_NONE)
        return error;
    SOMETIMES_IF(r->generation_id != g->generation, "a sync is of an old generation");
    if (r->generation_id != g->generation)
        return KE_ILLEGAL_GENERATION;
    if (differs(r->protocol_type, g->protocol_type) || differs(r->protocol_name, g->protocol_name))
        return KE_INCONSISTENT_GROUP_PROTOCOL;
    SOMETIMES_IF(group_is(g, GROUP_PREPARING), "a sync comes while its group calls together");
    return group_is(g, GROUP_PREPARING) ? KE_REBALANCE_IN_PROGRESS : KE_NONE;
}

static bool sync_stage(struct group *g, const struct sync_group_request *r)
{
    for (int32_t i = 0; i < r->assignments_count; i++) {
        struct group_member *m = member_find(g, r->assignments[i].member_id);
        if (m == NULL)
            continue;
        disown_bytes(g->shard->mem, &m->staged);
        if (!own_bytes(g->shard->mem, &m->staged, r->assignments[i].assignment))
            return false;
    }
    return true;
}

/* What was staged is in force; members that were not mentioned have nothing. */
static void sync_assign(struct group *g)
{
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        disown_bytes(g->shard->mem, &m->assignment);
        m->assignment = m->staged;
        m->staged = WIRE_NULL_BYTES;
    }
}

static void sync_unstage(struct group *g)
{
    LIST_EACH(l, &g->members)
    disown_bytes(g->shard->mem, &container_of(l, struct group_member, link)->staged);
}

/* The leader has spoken. */
static void sync_complete(struct group *g, const struct sync_group_request *r)
{
    enum kafka_error error = KE_COORDINATOR_NOT_AVAILABLE;
    if (sync_stage(g, r)) {
        sync_assign(g);
        error = record_group(g);
    }
    sync_unstage(g);
    if (error != KE_NONE) {
        rebalance_reset(g, error);
        rebalance_or_complete(g);
        return;
    }
    group_move(g, GROUP_STABLE);
    rebalance_propagate(g, KE_NONE);
}

static void sync_tell(struct group_member *m, struct group_call *call)
{
    struct sync_group_response *r = call->response;
    sync_group_response_init(r);
    r->protocol_type = call_string(call, m->group->protocol_type);
    r->protocol_name = call_string(call, m->group->protocol_name);
    if (m->assignment.size > 0)
        r->assignment = call_bytes(call, m->assignment);
    call_answered(m->group->shard, call);
}

void classic_sync(struct group_shard *s, struct group_call *call)
{
    const struct sync_group_request *r = call->request;
    struct group *g = shard_find(s, r->group_id);
    if (g != NULL && g->consumers != NULL) {
        consumers_sync(g, call);
        return;
    }
    enum kafka_error error = g != NULL ? sync_check(g, r) : KE_UNKNOWN_MEMBER_ID;
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    struct group_member *m = member_find(g, r->member_id);
    rebalance_synced(m);
    if (group_is(g, GROUP_STABLE)) {
        SOMETIMES("an assignment is told again");
        sync_tell(m, call);
        return;
    }
    assert(group_is(g, GROUP_COMPLETING));
    struct group_call *before = member_end_sync(m);
    if (before != NULL) /* asked again on another connection */
        call_refused(s, before, KE_UNKNOWN_MEMBER_ID);
    m->awaiting_sync = true;
    m->sync = call;
    call->member = m;
    if (g->leader == m)
        sync_complete(g, r);
}

/* ---- heartbeat ------------------------------------------------------------------------------- */

static enum kafka_error heartbeat_check(const struct group *g, const struct heartbeat_request *r)
{
    enum kafka_error error = member_check(g, r->member_id, r->group_instance_id);
    SOMETIMES_IF(error == KE_NONE && r->generation_id != g->generation,
                 "a heartbeat is of an old generation");
    if (error == KE_NONE && r->generation_id != g->generation)
        error = KE_ILLEGAL_GENERATION;
    return error;
}

void classic_heartbeat(struct group_shard *s, struct group_call *call)
{
    const struct heartbeat_request *r = call->request;
    struct group *g = shard_find(s, r->group_id);
    if (g != NULL && g->consumers != NULL) {
        consumers_classic_heartbeat(g, call);
        return;
    }
    enum kafka_error error = g != NULL ? heartbeat_check(g, r) : KE_UNKNOWN_MEMBER_ID;
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    struct group_member *m = member_find(g, r->member_id);
    struct heartbeat_response *out = call->response;
    heartbeat_response_init(out);
    member_beat(m, m->session_timeout_ms);
    SOMETIMES_IF(group_is(g, GROUP_PREPARING), "a heartbeat is told to join again");
    if (group_is(g, GROUP_PREPARING)) /* not in COMPLETING: it has joined, and waits */
        out->error_code = KE_REBALANCE_IN_PROGRESS;
    call_answered(s, call);
}

/* ---- leave ----------------------------------------------------------------------------------- */

static enum kafka_error leave_one(struct group *g,
                                  const struct leave_group_request_member_identity *q)
{
    if (q->member_id.size == 0) { /* an administrator, by the name of the static member */
        struct group_member *m = member_static(g, q->group_instance_id);
        if (m == NULL)
            return KE_UNKNOWN_MEMBER_ID;
        member_remove(m);
        return KE_NONE;
    }
    struct group_pending *p = pending_find(g, q->member_id);
    if (p != NULL) {
        SOMETIMES("a member leaves before it has joined");
        pending_remove(p);
        return KE_NONE;
    }
    enum kafka_error error = member_check(g, q->member_id, q->group_instance_id);
    if (error == KE_NONE)
        member_remove(member_find(g, q->member_id));
    return error;
}

void classic_leave(struct group_shard *s, struct group_call *call)
{
    const struct leave_group_request *r = call->request;
    struct leave_group_response *out = call->response;
    struct group *g = shard_find(s, r->group_id);
    uint32_t count = (uint32_t)MAX(r->members_count, 0);
    if (g == NULL) {
        call_refused(s, call, KE_UNKNOWN_MEMBER_ID);
        return;
    }
    if (g->consumers != NULL) {
        consumers_leave(g, call);
        return;
    }
    leave_group_response_init(out);
    out->members = arena_array(call->arena, count, sizeof(*out->members));
    if (out->members == NULL) {
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        enum kafka_error error = leave_one(g, &r->members[i]);
        struct leave_group_response_member_response *m = &out->members[i];
        leave_group_response_member_response_init(m);
        m->member_id = r->members[i].member_id;
        m->group_instance_id = r->members[i].group_instance_id;
        m->error_code = (int16_t)error;
        any |= error == KE_NONE;
    }
    out->members_count = (int32_t)count;
    SOMETIMES_IF(any && group_is(g, GROUP_PREPARING),
                 "a member leaves while its group calls together");
    if (any && (group_is(g, GROUP_STABLE) || group_is(g, GROUP_COMPLETING)))
        rebalance_or_complete(g);
    else if (any)
        rebalance_maybe_complete(g);
    call_answered(s, call);
}
