/* Groups that change their type while they live, so that the members of a classic group can be
 * replaced one by one by such that speak the consumer group protocol, and back.
 *
 *   classic  ── a consumer-protocol member joins ─────────────▶ consumer group; the others go on
 *                (they all speak "consumer", none is too odd)   with what they have, epoch =
 * generation classic  ◀─ the last consumer-protocol member goes ──────── consumer group; a round
 * begins empty one, of either type: becomes what the one who joins speaks
 *
 * group.consumer.migration.policy says which of the two may happen. Offsets stay: they are the
 * group's, whatever its type.
 *
 * Invariants
 *  1. What is on record of the old type is deleted in the same step that records the new one.
 *  2. A conversion that is refused has changed nothing. Everything is made (in the arena) before
 *     anything of the old type is let go.
 *  3. Held joins and syncs are answered REBALANCE_IN_PROGRESS: their members come again.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE; the group is as it was. Metadata of members
 * that cannot be read: it stays classic. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/join_group.h"
#include "proto/gen/record_consumer_protocol.h"

#include <strings.h>

static bool policy_has(const struct broker_config *config, const char *one)
{
    const char *policy = config->group_consumer_migration_policy;
    return policy == NULL || strcasecmp(policy, "bidirectional") == 0 ||
           strcasecmp(policy, one) == 0;
}

/* ---- what members of a classic group say ----------------------------------------------------- */

bool classic_subscription(struct arena *arena, struct wire_bytes metadata,
                          struct consumer_protocol_subscription *to)
{
    struct wire_reader r;
    wire_reader_init(&r, metadata.data, (size_t)MAX(metadata.size, 0));
    int16_t version = wire_get_int16(&r);
    if (r.error != 0 || version < 0)
        return false;
    version = MIN(version, CONSUMER_PROTOCOL_SUBSCRIPTION_VERSION_MAX);
    return consumer_protocol_subscription_decode(to, &r, version, arena) == 0;
}

static bool classic_assignment(struct arena *arena, struct wire_bytes bytes,
                               struct consumer_protocol_assignment *to)
{
    struct wire_reader r;
    consumer_protocol_assignment_init(to);
    if (bytes.size <= 0)
        return true;
    wire_reader_init(&r, bytes.data, (size_t)bytes.size);
    int16_t version = wire_get_int16(&r);
    if (r.error != 0 || version < 0)
        return false;
    version = MIN(version, CONSUMER_PROTOCOL_ASSIGNMENT_VERSION_MAX);
    return consumer_protocol_assignment_decode(to, &r, version, arena) == 0;
}

enum kafka_error convert_check_up(const struct group *g, const char **why)
{
    const struct broker_config *config = g->shard->config;
    struct arena *arena = &g->shard->update.arena;
    struct consumer_protocol_subscription sub;
    struct consumer_protocol_assignment has;
    assert(g->consumers == NULL);
    *why = NULL;
    if (!policy_has(config, "upgrade"))
        *why = "online upgrade is disabled";
    else if (!group_consumes(g))
        *why = "the group does not use the consumer embedded protocol";
    else if (g->members_count > (uint32_t)MAX(config->group_consumer_max_size, 0))
        *why = "the group size exceeds the consumer group maximum size";
    LIST_EACH(l, &g->members)
    {
        const struct group_member *m = container_of(l, struct group_member, link);
        if (*why != NULL)
            break;
        if (m->protocols.count == 0 || !classic_subscription(arena, converted_metadata(m), &sub) ||
            !classic_assignment(arena, m->assignment, &has))
            *why = "the embedded consumer protocol is malformed";
        else if (has.user_data.size > 0)
            *why = "an unsupported custom assignor is in use";
    }
    return *why == NULL ? KE_NONE : KE_GROUP_ID_NOT_FOUND;
}

/* ---- up -------------------------------------------------------------------------------------- */

struct moved { /* one member, in the arena */
    struct wire_string id;
    struct consumer_group_member_metadata_value told;
    struct consumer_now now;
};

/* Before the first round has ended there is no protocol yet: then its first. */
struct wire_bytes converted_metadata(const struct group_member *m)
{
    struct wire_bytes metadata = member_metadata(m);
    if (metadata.size == 0 && m->protocols.count > 0)
        metadata = m->protocols.list[0].metadata;
    return metadata;
}

static struct wire_string keep_text(struct arena *arena, struct wire_string s)
{
    if (s.size <= 0)
        return s.size < 0 ? s : wire_string_of("");
    return (struct wire_string){arena_copy(arena, s.data, (size_t)s.size), s.size};
}

static bool moved_protocols(struct arena *arena, const struct group_member *m, struct moved *to)
{
    struct consumer_group_member_metadata_value_classic_member_metadata *c =
        arena_array(arena, 1, sizeof(*c));
    if (c == NULL)
        return false;
    c->session_timeout_ms = m->session_timeout_ms;
    c->supported_protocols =
        arena_array(arena, m->protocols.count, sizeof(*c->supported_protocols));
    if (c->supported_protocols == NULL)
        return false;
    for (uint32_t i = 0; i < m->protocols.count; i++) {
        struct wire_bytes b = m->protocols.list[i].metadata;
        c->supported_protocols[i].name = keep_text(arena, m->protocols.list[i].name);
        c->supported_protocols[i].metadata =
            (struct wire_bytes){arena_copy(arena, b.data, (size_t)b.size), b.size};
    }
    c->supported_protocols_count = (int32_t)m->protocols.count;
    to->told.classic_member_metadata = c;
    return true;
}

/* Partitions by name, of topics that are there, as they are. */
bool parts_by_name(struct group_shard *s, const struct consumer_protocol_assignment *a,
                   int32_t epoch, struct part_set *to)
{
    size_t total = 0;
    *to = (struct part_set){0};
    for (int32_t i = 0; i < a->assigned_partitions_count; i++)
        total += (uint32_t)MAX(a->assigned_partitions[i].partitions_count, 0);
    to->list = arena_array(&s->update.arena, total, sizeof(*to->list));
    if (to->list == NULL)
        return false;
    for (int32_t i = 0; i < a->assigned_partitions_count; i++) {
        const struct consumer_protocol_assignment_topic_partition *t = &a->assigned_partitions[i];
        struct group_topic_facts facts;
        if (!s->world->topic_by_name(s->world->context, t->topic, &facts))
            continue;
        for (int32_t k = 0; k < t->partitions_count; k++) {
            int32_t index = t->partitions[k];
            if (index >= 0 && (uint32_t)index < facts.partitions_count)
                to->list[to->count++] =
                    (struct part){.topic = facts.id, .index = index, .epoch = epoch};
        }
    }
    part_set_order(to);
    return true;
}

static bool moved_make(struct group *g, const struct group_member *m, int32_t generation,
                       struct moved *to)
{
    struct group_shard *s = g->shard;
    struct arena *arena = &s->update.arena;
    struct consumer_protocol_subscription sub;
    struct consumer_protocol_assignment has;
    struct wire_bytes metadata = converted_metadata(m);
    metadata.data = arena_copy(arena, metadata.data, (size_t)MAX(metadata.size, 0));
    if (metadata.data == NULL || !classic_subscription(arena, metadata, &sub) ||
        !classic_assignment(arena, m->assignment, &has))
        return false;
    to->id = keep_text(arena, m->id);
    consumer_told_nothing(&to->told);
    to->told.instance_id = keep_text(arena, m->instance_id);
    to->told.rack_id = sub.rack_id.size > 0 ? sub.rack_id : wire_string_of(NULL);
    to->told.client_id =
        keep_text(arena, m->client_id.size >= 0 ? m->client_id : wire_string_of(""));
    to->told.client_host =
        keep_text(arena, m->client_host.size >= 0 ? m->client_host : wire_string_of(""));
    to->told.rebalance_timeout_ms = m->rebalance_timeout_ms;
    to->told.subscribed_topic_names_count = sub.topics_count;
    to->told.subscribed_topic_names =
        names_sorted(arena, sub.topics, &to->told.subscribed_topic_names_count);
    to->now = (struct consumer_now){
        .epoch = generation, .previous_epoch = generation, .state = CONSUMER_STABLE};
    return to->told.subscribed_topic_names != NULL && moved_protocols(arena, m, to) &&
           (DEFECT(42) || parts_by_name(s, &has, generation, &to->now.assigned)) && !arena->failed;
}

/* Nothing of a classic group is left but its id and its offsets. */
static void classic_strip(struct group *g)
{
    struct group_shard *s = g->shard;
    LIST_EACH(l, &g->members)
    {
        struct group_member *m = container_of(l, struct group_member, link);
        struct group_call *join = member_end_join(m), *sync = member_end_sync(m);
        if (join != NULL)
            call_refused(s, join, KE_REBALANCE_IN_PROGRESS);
        if (sync != NULL)
            call_refused(s, sync, KE_REBALANCE_IN_PROGRESS);
    }
    group_clear_members(g);
    timer_cancel(s->wheel, &g->join);
    timer_cancel(s->wheel, &g->sync);
    disown_string(s->mem, &g->protocol_type);
    disown_string(s->mem, &g->protocol_name);
    name_set_disown(s->mem, &g->subscribed);
    g->subscribed_known = false;
    g->leader = NULL;
    g->generation = 0;
    g->state.now = GROUP_EMPTY; /* no move: it is another kind of group now */
}

static enum kafka_error up_records(struct consumer_group *cg, struct moved *list, uint32_t count,
                                   int32_t generation)
{
    enum kafka_error error = KE_NONE;
    int64_t hash;
    for (uint32_t i = 0; i < count && error == KE_NONE; i++)
        error = consumer_put(cg, list[i].id, &list[i].told);
    if (error == KE_NONE)
        error = consumers_hash(cg, &hash) ? consumers_put_epoch(cg, generation, hash)
                                          : KE_COORDINATOR_NOT_AVAILABLE;
    for (uint32_t i = 0; i < count && error == KE_NONE; i++)
        error = consumer_put_target(consumer_find(cg, list[i].id), &list[i].now.assigned);
    if (error == KE_NONE)
        error = consumers_put_target_epoch(cg, generation, 0);
    for (uint32_t i = 0; i < count && error == KE_NONE; i++)
        error = consumer_put_now(consumer_find(cg, list[i].id), &list[i].now);
    return error;
}

enum kafka_error convert_up(struct group *g)
{
    struct group_shard *s = g->shard;
    struct moved *list = arena_array(&s->update.arena, g->members_count, sizeof(*list));
    uint32_t count = 0, before = s->update.records_count;
    int32_t generation = MAX(g->generation, 1); /* 0, before the first round: says who joins */
    assert(g->consumers == NULL);
    LIST_EACH(l, &g->members)
    {
        if (list == NULL ||
            !moved_make(g, container_of(l, struct group_member, link), generation, &list[count]))
            return KE_COORDINATOR_NOT_AVAILABLE;
        count++;
    }
    enum kafka_error error = record_group_gone(g);
    if (error != KE_NONE)
        return error;
    struct consumer_group *cg = consumers_make(g);
    if (cg == NULL)
        error = KE_COORDINATOR_NOT_AVAILABLE;
    else if (count > 0)
        error = up_records(cg, list, count, generation);
    if (error != KE_NONE) { /* invariant 2: the classic group is still whole */
        consumers_free(g);
        record_rewind(s, before);
        return error;
    }
    classic_strip(g);
    LIST_EACH(l, &cg->members)
    consumer_beat(container_of(l, struct consumer, link));
    return KE_NONE;
}

/* ---- down ------------------------------------------------------------------------------------ */

bool convert_may_go_down(const struct consumer_group *cg, struct consumer **gone, uint32_t count)
{
    const struct broker_config *config = cg->group->shard->config;
    for (uint32_t i = 0; i < count; i++) {
        if (gone[i]->classic != NULL)
            return false;
    }
    assert(cg->count >= count);
    uint32_t left = cg->count - count;
    return cg->classic_count == left && left > 0 && policy_has(config, "downgrade") &&
           left <= (uint32_t)MAX(config->group_max_size, 0);
}

/* An assignment as classic members read it, in the version of their own metadata. */
struct wire_bytes assignment_bytes(struct group_shard *s, const struct part_set *set,
                                   struct wire_bytes metadata)
{
    struct arena *arena = &s->update.arena;
    const struct wire_bytes none = WIRE_NULL_BYTES;
    struct consumer_protocol_assignment a;
    struct wire_reader r;
    uint32_t topics = 0;
    wire_reader_init(&r, metadata.data, (size_t)MAX(metadata.size, 0));
    int16_t version = wire_get_int16(&r);
    version = MIN(MAX(version, 0), CONSUMER_PROTOCOL_ASSIGNMENT_VERSION_MAX);
    consumer_protocol_assignment_init(&a);
    for (uint32_t i = 0; i < set->count; i += part_set_run(set, i))
        topics++;
    a.assigned_partitions = arena_array(arena, topics, sizeof(*a.assigned_partitions));
    if (a.assigned_partitions == NULL)
        return none;
    for (uint32_t i = 0; i < set->count;) {
        uint32_t run = part_set_run(set, i);
        struct group_topic_facts facts;
        if (s->world->topic_by_id(s->world->context, set->list[i].topic, &facts)) {
            struct consumer_protocol_assignment_topic_partition *t =
                &a.assigned_partitions[a.assigned_partitions_count++];
            t->topic = facts.name;
            t->partitions = arena_array(arena, run, sizeof(int32_t));
            if (t->partitions == NULL)
                return none;
            for (uint32_t k = 0; k < run; k++)
                t->partitions[t->partitions_count++] = set->list[i + k].index;
        }
        i += run;
    }
    a.user_data = none;
    struct batch_field field = {0};
    RECORD_ENCODE(arena, field, version, consumer_protocol_assignment, &a, version);
    return field.data != NULL ? (struct wire_bytes){field.data, (int32_t)field.size} : none;
}

/* A member of the classic group, beside the consumer group that still is. */
static bool down_member(struct group *g, const struct consumer *c)
{
    struct group_shard *s = g->shard;
    struct group_protocols protocols;
    const struct group_protocols *has = c->classic != NULL ? &c->classic->protocols : NULL;
    if (has == NULL || has->count == 0)
        return false;
    struct join_group_request_protocol *list =
        arena_array(&s->update.arena, has->count, sizeof(*list));
    if (list == NULL)
        return false;
    for (uint32_t i = 0; i < has->count; i++) {
        list[i].name = has->list[i].name;
        list[i].metadata = has->list[i].metadata;
    }
    if (!protocols_copy(s->mem, &protocols, list, (int32_t)has->count))
        return false;
    struct group_member *m =
        member_create(g, c->id, c->instance_id, c->client_id, c->client_host, &protocols);
    if (m == NULL) {
        protocols_free(s->mem, &protocols);
        return false;
    }
    m->session_timeout_ms = c->classic->session_timeout_ms;
    m->rebalance_timeout_ms = c->rebalance_timeout_ms;
    struct wire_bytes assignment = assignment_bytes(s, &c->assigned, has->list[0].metadata);
    if (assignment.size < 0 || !own_bytes(s->mem, &m->assignment, assignment) ||
        !member_add(m, wire_string_of("consumer"))) {
        member_destroy(m);
        return false;
    }
    return true;
}

static bool down_members(struct consumer_group *cg, struct consumer **gone, uint32_t count)
{
    struct group *g = cg->group;
    LIST_EACH(l, &cg->members)
    {
        const struct consumer *c = container_of(l, struct consumer, link);
        bool goes = false;
        for (uint32_t i = 0; i < count; i++)
            goes |= gone[i] == c;
        if (!goes && !down_member(g, c))
            return false;
    }
    return own_string(g->shard->mem, &g->protocol_name, group_select_protocol(g));
}

enum kafka_error convert_down(struct consumer_group *cg, struct consumer **gone, uint32_t count,
                              bool rebalance)
{
    struct group *g = cg->group;
    struct group_shard *s = g->shard;
    uint32_t before = s->update.records_count;
    enum kafka_error error = consumers_record_gone(cg);
    if (error != KE_NONE)
        return error;
    g->generation = cg->epoch;
    g->state_since_ms = *s->wall_ms;
    error = down_members(cg, gone, count) ? record_group(g) : KE_COORDINATOR_NOT_AVAILABLE;
    if (error != KE_NONE) {
        classic_strip(g);
        record_rewind(s, before);
        return error;
    }
    g->state.now = GROUP_STABLE; /* no move: it is another kind of group now */
    consumers_free(g);
    group_note_subscriptions(g);
    classic_loaded(g); /* sessions begin anew */
    if (rebalance && rebalance_allowed(g))
        rebalance_prepare(g);
    return KE_NONE;
}

/* ---- without members ------------------------------------------------------------------------- */

bool convert_to_classic_if_empty(struct group *g)
{
    if (g->consumers == NULL || g->consumers->count > 0)
        return false;
    if (consumers_record_gone(g->consumers) != KE_NONE)
        return false; /* whoever joins is told that it is not possible now */
    consumers_free(g);
    g->state_since_ms = *g->shard->wall_ms;
    return true;
}
