/* One partition's worth of groups: the table, the dispatch of calls, the replay of the log, what is
 * asked of all groups, and what is forgotten in time.
 *
 * Invariants
 *  1. A group is in the table and in the list, or nowhere. It has left both before it is freed.
 *  2. Replaying the log from its start gives the groups, generations, members, assignments and
 *     offsets that were there when its last record was made. What is not in it, timers and calls,
 *     begins anew: every member has a whole session to be heard of.
 *  3. Memory of update.arena is given back in shard_update_taken only.
 *
 * Failure modes: a record that cannot be read is passed over, as one of a kind that is not known
 * (a later Kafka's, or another sort of group); no memory while replaying ends the loading. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/describe_groups.h"
#include "proto/gen/list_groups.h"

#include <stdio.h>

#define UPDATE_BYTES_MAX (64ull << 20)

static void shard_expire(struct timer *t);

void group_shard_init(struct group_shard *s, uint64_t seed)
{
    assert(s->mem != NULL && s->wheel != NULL && s->config != NULL);
    assert(s->changed != NULL && s->random != NULL);
    assert(s->world != NULL);
    map_init(&s->groups, s->mem, seed);
    list_init(&s->all);
    list_init(&s->transactions);
    shard_update_init(&s->update, s->mem, UPDATE_BYTES_MAX);
    s->next_record = 0;
    s->records_lost = 0;
    s->topics_version = 0;
    s->loaded = false;
    timer_init(&s->expiry, shard_expire);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct group *shard_find(const struct group_shard *s, struct wire_string id)
{
    return map_get(&s->groups, id.data, (uint32_t)MAX(id.size, 0));
}

struct group *shard_create(struct group_shard *s, struct wire_string id)
{
    struct group *g = mem_zalloc(s->mem, sizeof(*g));
    if (g == NULL)
        return NULL;
    assert(shard_find(s, id) == NULL);
    g->shard = s;
    list_init(&g->link);
    g->protocol_type = g->protocol_name = WIRE_NULL_STRING;
    g->state_since_ms = *s->wall_ms;
    list_init(&g->members);
    list_init(&g->pending);
    list_init(&g->topics);
    map_init(&g->by_id, s->mem, s->groups.seed);
    map_init(&g->by_instance, s->mem, s->groups.seed);
    map_init(&g->topics_by_name, s->mem, s->groups.seed);
    rebalance_timer_init(g);
    if (!own_string(s->mem, &g->id, id)) {
        mem_free(s->mem, g, sizeof(*g));
        return NULL;
    }
    if (map_put(&s->groups, g->id.data, (uint32_t)g->id.size, g) != 0) {
        disown_string(s->mem, &g->id);
        mem_free(s->mem, g, sizeof(*g));
        return NULL;
    }
    list_push_back(&s->all, &g->link);
    return g;
}

struct group *shard_admit(struct group_shard *s, struct wire_string id)
{
    return mem_may_grow(s->mem) ? shard_create(s, id) : NULL;
}

void group_clear_members(struct group *g)
{
    LIST_EACH(l, &g->members)
    member_remove(container_of(l, struct group_member, link));
    LIST_EACH(l, &g->pending)
    pending_remove(container_of(l, struct group_pending, link));
    assert(g->members_count == 0 && g->pending_count == 0);
    assert(g->awaiting_join_count == 0 && g->pending_sync_count == 0);
}

void shard_remove(struct group *g)
{
    struct group_shard *s = g->shard;
    group_clear_members(g);
    consumers_free(g);
    offsets_free(g);
    timer_cancel(s->wheel, &g->join);
    timer_cancel(s->wheel, &g->sync);
    void *was = map_remove(&s->groups, g->id.data, (uint32_t)g->id.size);
    assert(was == g);
    list_remove(&g->link);
    map_destroy(&g->by_id);
    map_destroy(&g->by_instance);
    map_destroy(&g->topics_by_name);
    name_set_disown(s->mem, &g->subscribed);
    disown_string(s->mem, &g->protocol_type);
    disown_string(s->mem, &g->protocol_name);
    disown_string(s->mem, &g->id);
    mem_free(s->mem, g, sizeof(*g));
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void describe_member(struct group_call *call, const struct group_member *m,
                            struct describe_groups_response_described_group_member *out)
{
    describe_groups_response_described_group_member_init(out);
    out->member_id = call_string(call, m->id);
    out->group_instance_id = call_string(call, m->instance_id);
    out->client_id = m->client_id.size >= 0 ? call_string(call, m->client_id) : wire_string_of("");
    out->client_host = call_string(call, m->client_host);
    if (m->assignment.size > 0)
        out->member_assignment = call_bytes(call, m->assignment);
    if (group_is(m->group, GROUP_STABLE))
        out->member_metadata = call_bytes(call, member_metadata(m));
}

/* Up to version 5 a group that is not there is "Dead" without an error. */
static void describe_missing(struct group_call *call, struct wire_string id, bool other_type)
{

    struct describe_groups_response_described_group *r = call->response;
    r->group_state = wire_string_of("Dead");
    if (call->version < 6)
        return;
    size_t room = (size_t)MAX(id.size, 0) + sizeof("Group  is not a classic group.");
    char *text = arena_alloc(call->arena, room);
    if (text == NULL)
        return;
    (void)snprintf(text, room, "Group %.*s %s.", MAX(id.size, 0), id.data,
                   other_type ? "is not a classic group" : "not found");
    r->error_code = KE_GROUP_ID_NOT_FOUND;
    r->error_message = wire_string_of(text);
}

static void shard_describe(struct group_shard *s, struct group_call *call)
{
    const struct wire_string *id = call->request;
    struct describe_groups_response_described_group *r = call->response;
    const struct group *g = shard_find(s, *id);
    describe_groups_response_described_group_init(r);
    r->group_id = *id;
    if (g == NULL || g->consumers != NULL) {
        describe_missing(call, *id, g != NULL);
        call_answered(s, call);
        return;
    }
    r->group_state = wire_string_of(group_state_name(g));
    if (g->protocol_type.size > 0)
        r->protocol_type = call_string(call, g->protocol_type);
    if (group_is(g, GROUP_STABLE) && g->protocol_name.size > 0)
        r->protocol_data = call_string(call, g->protocol_name);
    r->members = arena_array(call->arena, g->members_count, sizeof(*r->members));
    LIST_EACH(l, &g->members)
    {
        if (r->members == NULL)
            break; /* call_answered sees that the arena is full */
        describe_member(call, container_of(l, struct group_member, link),
                        &r->members[r->members_count++]);
    }
    call_answered(s, call);
}

/* Letters count the same in both cases; blanks around do not count. */
static bool filter_names(struct wire_string filter, const char *name)
{
    int32_t from = 0, to = MAX(filter.size, 0), i = 0;
    while (from < to && (uint8_t)filter.data[from] <= ' ')
        from++;
    while (to > from && (uint8_t)filter.data[to - 1] <= ' ')
        to--;
    for (; from + i < to && name[i] != '\0'; i++) {
        int a = (uint8_t)filter.data[from + i], b = (uint8_t)name[i];
        a += a >= 'A' && a <= 'Z' ? 'a' - 'A' : 0;
        b += b >= 'A' && b <= 'Z' ? 'a' - 'A' : 0;
        if (a != b)
            return false;
    }
    return from + i == to && name[i] == '\0';
}

static bool filter_lets(const struct wire_string *filters, int32_t count, const char *name)
{
    bool named = count <= 0;
    for (int32_t i = 0; i < count; i++)
        named |= filter_names(filters[i], name);
    return named;
}

static void shard_list(struct group_shard *s, struct group_call *call)
{
    const struct list_groups_request *q = call->request;
    struct list_groups_response *r = call->response;
    size_t room = (size_t)r->groups_count + s->groups.count;
    struct list_groups_response_listed_group *groups =
        arena_array(call->arena, room, sizeof(*groups));
    if (groups == NULL) {
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if (r->groups_count > 0)
        memcpy(groups, r->groups, (size_t)r->groups_count * sizeof(*groups));
    r->groups = groups;
    LIST_EACH(l, &s->all)
    {
        const struct group *g = container_of(l, struct group, link);
        const char *type = g->consumers != NULL ? "consumer" : "classic";
        const char *state = group_any_state_name(g);
        if (!filter_lets(q->types_filter, q->types_filter_count, type) ||
            !filter_lets(q->states_filter, q->states_filter_count, state))
            continue;
        struct list_groups_response_listed_group *out = &groups[r->groups_count++];
        list_groups_response_listed_group_init(out);
        out->group_id = call_string(call, g->id);
        if (g->consumers != NULL)
            out->protocol_type = wire_string_of("consumer");
        else if (g->protocol_type.size > 0)
            out->protocol_type = call_string(call, g->protocol_type);
        out->group_state = wire_string_of(state);
        out->group_type = wire_string_of(type);
    }
    call_answered(s, call);
}

bool group_has_members(const struct group *g)
{
    return g->consumers != NULL ? g->consumers->count > 0 : !group_is(g, GROUP_EMPTY);
}

const char *group_any_state_name(const struct group *g)
{
    return g->consumers != NULL ? consumers_state(g->consumers) : group_state_name(g);
}

static enum kafka_error record_any_gone(struct group *g)
{
    return g->consumers != NULL ? consumers_record_gone(g->consumers) : record_group_gone(g);
}

static void shard_delete(struct group_shard *s, struct group_call *call)
{
    const struct wire_string *id = call->request;
    struct group *g = shard_find(s, *id);
    uint32_t before = s->update.records_count;
    if (g == NULL || group_has_members(g)) {
        call_refused(s, call, g == NULL ? KE_GROUP_ID_NOT_FOUND : KE_NON_EMPTY_GROUP);
        return;
    }
    /* The group's own comes last: where it stands in the log, nothing of the group is left. */
    if (!offsets_record_gone(g) || !transaction_record_gone(g) || record_any_gone(g) != KE_NONE) {
        record_rewind(s, before);
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    transaction_drop_group(g);
    shard_remove(g);
    struct delete_groups_response_deletable_group_result *r = call->response;
    delete_groups_response_deletable_group_result_init(r);
    r->group_id = *id;
    call_answered(s, call);
}

void group_shard_call(struct group_shard *s, struct group_call *call)
{
    static void (*const steps[GROUP_CALL_KINDS])(struct group_shard * s,
                                                 struct group_call * call) = {
        [GROUP_JOIN] = classic_join,
        [GROUP_SYNC] = classic_sync,
        [GROUP_HEARTBEAT] = classic_heartbeat,
        [GROUP_LEAVE] = classic_leave,
        [GROUP_COMMIT] = offsets_commit,
        [GROUP_TXN_COMMIT] = transaction_commit,
        [GROUP_FETCH] = offsets_fetch,
        [GROUP_OFFSET_DELETE] = offsets_delete,
        [GROUP_DESCRIBE] = shard_describe,
        [GROUP_LIST] = shard_list,
        [GROUP_DELETE] = shard_delete,
        [GROUP_CONSUMER_HEARTBEAT] = consumer_heartbeat,
        [GROUP_CONSUMER_DESCRIBE] = consumers_describe,
    };
    assert(s->loaded);
    assert(call->kind < GROUP_CALL_KINDS && call->member == NULL);
    steps[call->kind](s, call);
}

void group_shard_abandon(struct group_shard *s, struct group_call *call)
{
    struct group_member *m = call->member;
    if (m == NULL)
        return; /* it has been answered */
    assert(m->join == call || m->sync == call);
    if (m->join == call)
        m->join = NULL; /* it still counts as joined: member.c, invariant 3 */
    else
        m->sync = NULL;
    call->member = NULL;
    call_refused(s, call, KE_UNKNOWN_MEMBER_ID);
}

/* ---- time and the world ---------------------------------------------------------------------- */

static void shard_arm_expiry(struct group_shard *s)
{
    int64_t every_ms = MAX(s->config->offsets_retention_check_interval_ms, 1);
    timer_arm(s->wheel, &s->expiry, *s->now_ns + (uint64_t)every_ms * NS_PER_MS);
}

/* Expired offsets, and groups of which nothing is left: GroupCoordinatorShard.cleanupGroupMetadata.
 */
static void shard_expire(struct timer *t)
{
    struct group_shard *s = container_of(t, struct group_shard, expiry);
    LIST_EACH(l, &s->all)
    {
        struct group *g = container_of(l, struct group, link);
        if (offsets_expire(g) && !group_has_members(g) && record_any_gone(g) == KE_NONE)
            shard_remove(g);
    }
    shard_arm_expiry(s);
    s->changed(s);
}

void group_shard_topic_deleted(struct group_shard *s, struct wire_string topic,
                               int32_t first_partition)
{
    assert(s->loaded);
    LIST_EACH(l, &s->all)
    offsets_topic_deleted(container_of(l, struct group, link), topic, first_partition);
    transaction_topic_deleted(s, topic, first_partition);
}

void group_shard_topic_changed(struct group_shard *s, struct wire_string topic, bool created)
{
    assert(s->loaded);
    if (created || s->topics_version == 0)
        s->topics_version = s->world->version(s->world->context);
    LIST_EACH(l, &s->all)
    {
        struct consumer_group *cg = container_of(l, struct group, link)->consumers;
        if (cg != NULL && consumers_subscribe(cg, topic))
            cg->refresh_ms = cg->refresh_epoch = 0;
    }
}

void group_shard_close(struct group_shard *s, enum kafka_error error)
{
    LIST_EACH(l, &s->all)
    {
        struct group *g = container_of(l, struct group, link);
        LIST_EACH(at, &g->members)
        {
            struct group_member *m = container_of(at, struct group_member, link);
            struct group_call *join = member_end_join(m), *sync = member_end_sync(m);
            if (join != NULL)
                call_refused(s, join, error);
            if (sync != NULL)
                call_refused(s, sync, error);
        }
        shard_remove(g);
    }
    transaction_free(s);
    timer_cancel(s->wheel, &s->expiry);
    map_destroy(&s->groups);
    shard_update_taken(&s->update);
    s->loaded = false;
}

/* ---- replay ---------------------------------------------------------------------------------- */

static bool replay_offset(struct group_shard *s, int64_t offset, int64_t producer_id,
                          struct wire_reader *key_bytes, struct batch_field value)
{
    struct offset_commit_key key;
    struct offset_commit_value v;
    if (offset_commit_key_decode(&key, key_bytes, 0, &s->update.arena) != 0)
        return true;
    struct group *g = shard_find(s, key.group);
    if (value.data == NULL) {
        if (g != NULL)
            offsets_drop(g, key.topic, key.partition);
        transaction_drop(s, &key);
        return true;
    }
    struct wire_reader r;
    wire_reader_init(&r, value.data, value.size);
    int16_t version = wire_get_int16(&r);
    if (version < 0 || version > OFFSET_COMMIT_VALUE_VERSION_MAX ||
        offset_commit_value_decode(&v, &r, version, &s->update.arena) != 0)
        return true;
    if (g == NULL)
        g = shard_create(s, key.group); /* a simple group, unless its own record comes */
    if (g == NULL)
        return false;
    if (producer_id >= 0)
        return transaction_put(s, producer_id, offset, &key, &v);
    return offsets_put(g, key.topic, key.partition, offset, &v);
}

/* Members as they were written, each with the one protocol that was chosen. */
static bool replay_member(struct group *g, const struct group_metadata_value *v,
                          const struct group_metadata_value_member_metadata *in)
{
    struct join_group_request_protocol protocol = {.name = v->protocol,
                                                   .metadata = in->subscription};
    struct group_protocols protocols;
    if (in->member_id.size <= 0 || member_find(g, in->member_id) != NULL ||
        member_static(g, in->group_instance_id) != NULL)
        return true; /* not what anybody writes */
    if (!protocols_copy(g->shard->mem, &protocols, &protocol, 1))
        return false;
    struct group_member *m = member_create(g, in->member_id, in->group_instance_id, in->client_id,
                                           in->client_host, &protocols);
    if (m == NULL) {
        protocols_free(g->shard->mem, &protocols);
        return false;
    }
    m->session_timeout_ms = in->session_timeout;
    m->rebalance_timeout_ms =
        in->rebalance_timeout == -1 ? in->session_timeout : in->rebalance_timeout;
    if (!own_bytes(g->shard->mem, &m->assignment, in->assignment) ||
        !member_add(m, v->protocol_type)) {
        member_destroy(m);
        return false;
    }
    return true;
}

static bool replay_value(struct group *g, const struct group_metadata_value *v)
{
    struct mem *mem = g->shard->mem;
    group_clear_members(g);
    disown_string(mem, &g->protocol_type);
    disown_string(mem, &g->protocol_name);
    g->leader = NULL;
    for (int32_t i = 0; i < v->members_count; i++) {
        if (!replay_member(g, v, &v->members[i]))
            return false;
    }
    disown_string(mem, &g->protocol_type);
    if (v->protocol_type.size > 0 && !own_string(mem, &g->protocol_type, v->protocol_type))
        return false;
    if (!own_string(mem, &g->protocol_name, v->protocol))
        return false;
    if (v->leader.size > 0 && member_find(g, v->leader) != NULL)
        g->leader = member_find(g, v->leader);
    g->generation = v->generation;
    g->state_since_ms = v->current_state_timestamp;
    g->state.now = g->members_count > 0 ? GROUP_STABLE : GROUP_EMPTY; /* no move: it was loaded */
    group_note_subscriptions(g);
    return true;
}

static bool replay_group(struct group_shard *s, struct wire_reader *key_bytes,
                         struct batch_field value)
{
    struct group_metadata_key key;
    struct group_metadata_value v;
    if (group_metadata_key_decode(&key, key_bytes, 0, &s->update.arena) != 0)
        return true;
    struct group *g = shard_find(s, key.group);
    if (g != NULL && g->consumers != NULL) {
        if (value.data == NULL || g->consumers->count > 0)
            return true; /* it became a consumer group after */
        consumers_free(g);
    }
    if (value.data == NULL) {
        if (g != NULL && g->topics_by_name.count == 0)
            shard_remove(g);
        else if (g != NULL) /* its offsets have tombstones of their own */
            return replay_value(g, &(struct group_metadata_value){.protocol = WIRE_NULL_STRING,
                                                                  .current_state_timestamp = -1});
        return true;
    }
    struct wire_reader r;
    wire_reader_init(&r, value.data, value.size);
    int16_t version = wire_get_int16(&r);
    if (version < 0 || version > GROUP_METADATA_VALUE_VERSION_MAX ||
        group_metadata_value_decode(&v, &r, version, &s->update.arena) != 0)
        return true;
    if (g == NULL)
        g = shard_create(s, key.group);
    return g != NULL && replay_value(g, &v);
}

bool group_shard_replay(struct group_shard *s, int64_t offset, int64_t producer_id,
                        struct batch_field key, struct batch_field value)
{
    struct wire_reader r;
    bool done = true;
    assert(!s->loaded);
    s->next_record = offset + 1;
    wire_reader_init(&r, key.data, key.data != NULL ? key.size : 0);
    int16_t kind = wire_get_int16(&r);
    if (r.error == 0 && (kind == LEGACY_OFFSET_COMMIT_KEY_API_KEY ||
                         kind == OFFSET_COMMIT_KEY_API_KEY)) /* both have the same fields */
        done = replay_offset(s, offset, producer_id, &r, value);
    else if (r.error == 0 && kind == GROUP_METADATA_KEY_API_KEY)
        done = replay_group(s, &r, value);
    else if (r.error == 0 && ((kind >= CONSUMER_GROUP_METADATA_KEY_API_KEY &&
                               kind <= CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_API_KEY) ||
                              kind == CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY))
        done = consumers_replay(s, kind, &r, value);
    arena_release(&s->update.arena);
    return done;
}

bool group_shard_replay_end(struct group_shard *s, int64_t producer_id, bool commit)
{
    assert(!s->loaded);
    return transaction_end(s, producer_id, commit);
}

bool group_shard_end_transaction(struct group_shard *s, int64_t producer_id, bool commit)
{
    assert(s->loaded);
    return transaction_end(s, producer_id, commit);
}

void group_shard_loaded(struct group_shard *s)
{
    assert(!s->loaded);
    s->loaded = true;
    LIST_EACH(l, &s->all)
    {
        struct group *g = container_of(l, struct group, link);
        if (g->consumers != NULL)
            consumers_loaded(g);
        else
            classic_loaded(g);
    }
    shard_arm_expiry(s);
}
