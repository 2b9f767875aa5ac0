/* Who is in a group: members with what they support, static names, member ids that were given out
 * and have not come back, the leader, and the vote about the protocol.
 *
 * Invariants
 *  1. by_id holds exactly the members of the list; by_instance exactly the static ones.
 *  2. awaiting_join_count and pending_sync_count count the members whose flags say so.
 *  3. A member that has a call has its flag; a flag without a call means that who asked is gone and
 *     the member is still reckoned with.
 *  4. The group has a leader whenever it has members and was not loaded without one.
 *
 * Failure modes: no memory: nothing has changed, the caller refuses the join. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/record_consumer_protocol.h"

/* Protocols that all members of a group support; clients have one to three. */
#define CANDIDATES_MAX       32u
#define SUBSCRIBED_BYTES_MAX (16ull << 20) /* names of topics that one group subscribes to */

/* ---- what a member supports ------------------------------------------------------------------ */

bool protocols_copy(struct mem *mem, struct group_protocols *to,
                    const struct join_group_request_protocol *from, int32_t count)
{
    *to = (struct group_protocols){0};
    size_t size = 0;
    for (int32_t i = 0; i < count; i++)
        size += sizeof(struct group_protocol) + (size_t)MAX(from[i].name.size, 0) +
                (size_t)MAX(from[i].metadata.size, 0);
    if (size == 0)
        return true;
    to->list = mem_alloc(mem, size);
    if (to->list == NULL)
        return false;
    to->count = (uint32_t)count;
    to->size = size;
    uint8_t *text = (uint8_t *)(to->list + count);
    for (int32_t i = 0; i < count; i++) {
        struct group_protocol *p = &to->list[i];
        p->name = (struct wire_string){(const char *)text, MAX(from[i].name.size, 0)};
        if (p->name.size > 0)
            memcpy(text, from[i].name.data, (size_t)p->name.size);
        text += p->name.size;
        p->metadata = (struct wire_bytes){text, MAX(from[i].metadata.size, 0)};
        if (p->metadata.size > 0)
            memcpy(text, from[i].metadata.data, (size_t)p->metadata.size);
        text += p->metadata.size;
    }
    assert(text == (uint8_t *)to->list + size);
    return true;
}

void protocols_free(struct mem *mem, struct group_protocols *p)
{
    if (p->size > 0)
        mem_free(mem, p->list, p->size);
    *p = (struct group_protocols){0};
}

bool protocols_same(const struct group_protocols *p, const struct join_group_request *r)
{
    if ((int32_t)p->count != r->protocols_count)
        return false;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct wire_bytes *a = &p->list[i].metadata, *b = &r->protocols[i].metadata;
        if (!wire_string_equal(p->list[i].name, r->protocols[i].name) || a->size != b->size ||
            (a->size > 0 && memcmp(a->data, b->data, (size_t)a->size) != 0))
            return false;
    }
    return true;
}

static const struct group_protocol *member_protocol(const struct group_member *m,
                                                    struct wire_string name)
{
    for (uint32_t i = 0; i < m->protocols.count; i++) {
        if (wire_string_equal(m->protocols.list[i].name, name))
            return &m->protocols.list[i];
    }
    return NULL;
}

struct wire_bytes member_metadata(const struct group_member *m)
{
    const struct group_protocol *p = member_protocol(m, m->group->protocol_name);
    return p != NULL ? p->metadata : (struct wire_bytes){(const uint8_t *)"", 0};
}

static bool supported_by_all(const struct group *g, struct wire_string name)
{
    LIST_EACH(l, &g->members)
    {
        if (member_protocol(container_of(l, struct group_member, link), name) == NULL)
            return false;
    }
    return true;
}

bool group_supports(const struct group *g, struct wire_string protocol_type,
                    const struct join_group_request_protocol *protocols, int32_t count)
{
    if (group_is(g, GROUP_EMPTY))
        return protocol_type.size > 0 && count > 0;
    if (!wire_string_equal(g->protocol_type, protocol_type))
        return false;
    for (int32_t i = 0; i < count; i++) {
        if (supported_by_all(g, protocols[i].name))
            return true;
    }
    return false;
}

/* What all support, in the order of the first member; more than CANDIDATES_MAX are not looked at.
 */
static uint32_t group_candidates(const struct group *g, struct wire_string *candidates)
{
    const struct list *first = list_first(&g->members);
    assert(first != NULL);
    const struct group_protocols *p = &container_of(first, struct group_member, link)->protocols;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->count && count < CANDIDATES_MAX; i++) {
        if (supported_by_all(g, p->list[i].name))
            candidates[count++] = p->list[i].name;
    }
    return count;
}

static uint32_t member_vote(const struct group_member *m, const struct wire_string *candidates,
                            uint32_t count)
{
    for (uint32_t i = 0; i < m->protocols.count; i++) {
        for (uint32_t c = 0; c < count; c++) {
            if (wire_string_equal(m->protocols.list[i].name, candidates[c]))
                return c;
        }
    }
    assert(false); /* a candidate is supported by all */
    return 0;
}

/* Each member votes for the first of its protocols that all support; the first member's order
 * decides a tie. */
struct wire_string group_select_protocol(const struct group *g)
{
    struct wire_string candidates[CANDIDATES_MAX];
    uint32_t votes[CANDIDATES_MAX] = {0};
    if (g->members_count == 0)
        return WIRE_NULL_STRING;
    uint32_t count = group_candidates(g, candidates), best = 0;
    assert(count > 0); /* who has nothing in common with the others was not let in */
    LIST_EACH(l, &g->members)
    votes[member_vote(container_of(l, struct group_member, link), candidates, count)]++;
    for (uint32_t c = 1; c < count; c++)
        best = votes[c] > votes[best] ? c : best;
    return candidates[best];
}

/* ---- coming and going ------------------------------------------------------------------------ */

struct group_member *member_find(const struct group *g, struct wire_string id)
{
    return id.size > 0 ? map_get(&g->by_id, id.data, (uint32_t)id.size) : NULL;
}

struct group_member *member_static(const struct group *g, struct wire_string instance_id)
{
    if (instance_id.size < 0)
        return NULL;
    return map_get(&g->by_instance, instance_id.data, (uint32_t)instance_id.size);
}

struct group_member *member_create(struct group *g, struct wire_string id,
                                   struct wire_string instance_id, struct wire_string client_id,
                                   struct wire_string client_host,
                                   struct group_protocols *protocols)
{
    struct mem *mem = g->shard->mem;
    struct group_member *m = mem_zalloc(mem, sizeof(*m));
    if (m == NULL)
        return NULL;
    assert(id.size > 0);
    m->group = g;
    list_init(&m->link);
    m->id = m->instance_id = m->client_id = m->client_host = WIRE_NULL_STRING;
    m->assignment = m->staged = WIRE_NULL_BYTES;
    timer_init(&m->heartbeat, member_expired);
    if (!own_string(mem, &m->id, id) || !own_string(mem, &m->instance_id, instance_id) ||
        !own_string(mem, &m->client_id, client_id) ||
        !own_string(mem, &m->client_host, client_host)) {
        member_destroy(m);
        return NULL;
    }
    m->protocols = *protocols;
    *protocols = (struct group_protocols){0};
    return m;
}

void member_destroy(struct group_member *m)
{
    struct mem *mem = m->group->shard->mem;
    assert(list_empty(&m->link));
    assert(m->join == NULL && m->sync == NULL);
    timer_cancel(m->group->shard->wheel, &m->heartbeat);
    disown_string(mem, &m->id);
    disown_string(mem, &m->instance_id);
    disown_string(mem, &m->client_id);
    disown_string(mem, &m->client_host);
    disown_bytes(mem, &m->assignment);
    disown_bytes(mem, &m->staged);
    protocols_free(mem, &m->protocols);
    mem_free(mem, m, sizeof(*m));
}

static void member_index(struct group_member *m)
{
    struct group *g = m->group;
    int error = map_put(&g->by_id, m->id.data, (uint32_t)m->id.size, m);
    assert(error == 0); /* room was reserved */
    if (m->instance_id.size >= 0)
        error = map_put(&g->by_instance, m->instance_id.data, (uint32_t)m->instance_id.size, m);
    assert(error == 0);
}

static void member_unindex(struct group_member *m)
{
    struct group *g = m->group;
    void *was = map_remove(&g->by_id, m->id.data, (uint32_t)m->id.size);
    assert(was == m);
    if (m->instance_id.size >= 0)
        (void)map_remove(&g->by_instance, m->instance_id.data, (uint32_t)m->instance_id.size);
}

static bool index_reserve(struct group_member *m)
{
    struct group *g = m->group;
    return map_reserve(&g->by_id, g->members_count + 1) == 0 &&
           (m->instance_id.size < 0 || map_reserve(&g->by_instance, g->by_instance.count + 1) == 0);
}

bool member_add(struct group_member *m, struct wire_string protocol_type)
{
    struct group *g = m->group;
    struct wire_string type = WIRE_NULL_STRING;
    bool sets_type = g->members_count == 0;
    if (!index_reserve(m) || (sets_type && !own_string(g->shard->mem, &type, protocol_type)))
        return false;
    if (sets_type) {
        disown_string(g->shard->mem, &g->protocol_type);
        g->protocol_type = type;
    }
    member_index(m);
    list_push_back(&g->members, &m->link);
    g->members_count++;
    if (g->leader == NULL)
        g->leader = m;
    return true;
}

/* The flags and calls leave with it. */
static void member_unlink(struct group_member *m)
{
    struct group *g = m->group;
    assert(m->join == NULL && m->sync == NULL);
    if (m->awaiting_join)
        g->awaiting_join_count--;
    member_clear_pending_sync(m);
    m->awaiting_join = m->awaiting_sync = false;
    member_unindex(m);
    list_remove(&m->link);
    g->members_count--;
}

bool member_replace(struct group_member *old, struct group_member *m)
{
    struct group *g = old->group;
    assert(m->instance_id.size >= 0);
    assert(wire_string_equal(m->instance_id, old->instance_id));
    if (map_reserve(&g->by_id, g->members_count + 1) != 0)
        return false;
    list_insert_before(&old->link, &m->link);
    bool leads = g->leader == old;
    m->assignment = old->assignment;
    old->assignment = WIRE_NULL_BYTES;
    member_unlink(old);
    g->members_count++;
    member_index(m);
    if (leads)
        g->leader = m;
    member_destroy(old);
    return true;
}

void member_remove(struct group_member *m)
{
    struct group *g = m->group;
    struct group_call *join = member_end_join(m), *sync = member_end_sync(m);
    if (join != NULL) {
        call_refused(g->shard, join, KE_UNKNOWN_MEMBER_ID);
        ((struct join_group_response *)join->response)->member_id = wire_string_of("");
    }
    if (sync != NULL)
        call_refused(g->shard, sync, KE_UNKNOWN_MEMBER_ID);
    member_unlink(m);
    SOMETIMES_IF(g->leader == m, "the leader of a group is gone");
    if (g->leader == m) {
        struct list *first = list_first(&g->members);
        g->leader = first != NULL ? container_of(first, struct group_member, link) : NULL;
    }
    member_destroy(m);
}

void member_set_protocols(struct group_member *m, struct group_protocols *protocols)
{
    protocols_free(m->group->shard->mem, &m->protocols);
    m->protocols = *protocols;
    *protocols = (struct group_protocols){0};
}

enum kafka_error member_check(const struct group *g, struct wire_string id,
                              struct wire_string instance_id)
{
    if (instance_id.size >= 0) {
        const struct group_member *m = member_static(g, instance_id);
        if (m == NULL)
            return KE_UNKNOWN_MEMBER_ID;
        if (!wire_string_equal(m->id, id))
            return KE_FENCED_INSTANCE_ID;
    }
    return member_find(g, id) != NULL ? KE_NONE : KE_UNKNOWN_MEMBER_ID;
}

/* ---- waiting --------------------------------------------------------------------------------- */

void member_await_join(struct group_member *m, struct group_call *call)
{
    assert(call->kind == GROUP_JOIN && call->member == NULL);
    struct group_call *before = member_end_join(m);
    if (before != NULL) /* asked again on another connection: the first asker is answered too */
        call_refused(m->group->shard, before, KE_UNKNOWN_MEMBER_ID);
    m->awaiting_join = true;
    m->join = call;
    m->group->awaiting_join_count++;
    call->member = m;
}

struct group_call *member_end_join(struct group_member *m)
{
    struct group_call *call = m->join;
    if (m->awaiting_join)
        m->group->awaiting_join_count--;
    m->awaiting_join = false;
    m->join = NULL;
    if (call != NULL)
        call->member = NULL;
    return call;
}

struct group_call *member_end_sync(struct group_member *m)
{
    struct group_call *call = m->sync;
    m->awaiting_sync = false;
    m->sync = NULL;
    if (call != NULL)
        call->member = NULL;
    return call;
}

void member_clear_pending_sync(struct group_member *m)
{
    if (m->pending_sync)
        m->group->pending_sync_count--;
    m->pending_sync = false;
}

bool group_all_joined(const struct group *g)
{
    assert(g->awaiting_join_count <= g->members_count);
    return g->awaiting_join_count == g->members_count && g->pending_count == 0;
}

int32_t group_rebalance_timeout(const struct group *g)
{
    int32_t longest = 0;
    LIST_EACH(l, &g->members)
    longest = MAX(longest, container_of(l, struct group_member, link)->rebalance_timeout_ms);
    return longest;
}

/* ---- ids given out --------------------------------------------------------------------------- */

struct group_pending *pending_find(const struct group *g, struct wire_string id)
{
    LIST_EACH(l, &g->pending)
    {
        struct group_pending *p = container_of(l, struct group_pending, link);
        if (wire_string_equal(p->id, id))
            return p;
    }
    return NULL;
}

bool pending_add(struct group *g, struct wire_string id, uint64_t due_ns,
                 void (*fire)(struct timer *t))
{
    struct group_pending *p = mem_zalloc(g->shard->mem, sizeof(*p));
    if (p == NULL)
        return false;
    if (!own_string(g->shard->mem, &p->id, id)) {
        mem_free(g->shard->mem, p, sizeof(*p));
        return false;
    }
    p->group = g;
    timer_init(&p->timer, fire);
    timer_arm(g->shard->wheel, &p->timer, due_ns);
    list_push_back(&g->pending, &p->link);
    g->pending_count++;
    return true;
}

void pending_remove(struct group_pending *p)
{
    struct group *g = p->group;
    assert(g->pending_count > 0);
    timer_cancel(g->shard->wheel, &p->timer);
    list_remove(&p->link);
    g->pending_count--;
    disown_string(g->shard->mem, &p->id);
    mem_free(g->shard->mem, p, sizeof(*p));
}

/* ---- what they read -------------------------------------------------------------------------- */

bool group_consumes(const struct group *g)
{
    if (g->consumers != NULL)
        return true;
    return wire_string_equal(g->protocol_type, wire_string_of("consumer"));
}

/* What members say while it is gathered: names in the arena, each once. */
struct noted {
    struct map names;
    struct arena arena;
};

static bool note_topic(struct noted *n, struct wire_string topic)
{
    if (topic.size <= 0 || map_get(&n->names, topic.data, (uint32_t)topic.size) != NULL)
        return true;
    struct wire_string *name = arena_copy(&n->arena, &topic, sizeof(topic));
    return name != NULL && map_put(&n->names, name->data, (uint32_t)name->size, name) == 0;
}

static bool note_member(struct noted *n, struct wire_bytes metadata)
{
    struct wire_reader r;
    struct consumer_protocol_subscription sub;
    wire_reader_init(&r, metadata.data, (size_t)metadata.size);
    (void)wire_get_int16(&r); /* every version begins as version 0 does */
    if (consumer_protocol_subscription_decode(&sub, &r, 0, &n->arena) != 0)
        return false;
    for (int32_t i = 0; i < sub.topics_count; i++) {
        if (!note_topic(n, sub.topics[i]))
            return false;
    }
    return true;
}

static bool note_members(const struct group *g, struct noted *n)
{
    struct wire_bytes before = WIRE_NULL_BYTES;
    LIST_EACH(l, &g->members)
    {
        struct wire_bytes metadata = member_metadata(container_of(l, struct group_member, link));
        if (before.data != NULL && metadata.size == before.size &&
            memcmp(metadata.data, before.data, (size_t)metadata.size) == 0)
            continue; /* most members say the same */
        before = metadata;
        if (!note_member(n, metadata))
            return false; /* some member speaks otherwise: nothing is known */
    }
    return true;
}

static bool note_keep(struct group *g, struct noted *n)
{
    struct wire_string *list = arena_array(&n->arena, n->names.count, sizeof(*list)), *name;
    int32_t count = 0;
    if (list == NULL)
        return false;
    for (uint32_t at = 0; (name = map_next(&n->names, &at)) != NULL;)
        list[count++] = *name;
    return name_set_own(g->shard->mem, &g->subscribed, list, count);
}

void group_note_subscriptions(struct group *g)
{
    struct noted n;
    name_set_disown(g->shard->mem, &g->subscribed);
    g->subscribed_known = false;
    if (!group_consumes(g) || (g->members_count > 0 && g->protocol_name.size < 0))
        return;
    map_init(&n.names, g->shard->mem, g->shard->groups.seed);
    arena_init(&n.arena, g->shard->mem, SUBSCRIBED_BYTES_MAX);
    g->subscribed_known = note_members(g, &n) && note_keep(g, &n);
    map_destroy(&n.names);
    arena_release(&n.arena);
}

bool group_subscribes(const struct group *g, struct wire_string topic)
{
    if (g->consumers != NULL)
        return consumers_subscribe(g->consumers, topic);
    if (!g->subscribed_known)
        return group_consumes(g);
    return topic.size > 0 && name_set_has(&g->subscribed, topic);
}
