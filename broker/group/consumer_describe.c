/* Consumer groups seen from outside: what is wrong with a heartbeat by itself, how they are
 * described, who may commit and fetch offsets.
 *
 *   commit of a member   epoch as the coordinator's: yes
 *                        older: partitions that it has had since then or before; that far it read
 *                        newer: no                                             (KIP-1251)
 *   without a member     only while the group is empty
 *
 * Failure modes: an answer that finds no room: text.c. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/consumer_group_describe.h"

#include <stdio.h>

#define MEMBER_EPOCH_VERSION_MIN 9 /* of OffsetCommit: it knows of member epochs */

typedef struct consumer_group_describe_response_topic_partitions described_topic;
typedef struct consumer_group_describe_response_assignment described_assignment;

/* ---- a heartbeat by itself ------------------------------------------------------------------- */

/* Blanks are nothing, as Java's trim has it. null is no text at all. */
static bool blank(struct wire_string s)
{
    bool empty = s.size >= 0;
    for (int32_t i = 0; empty && i < s.size; i++)
        empty = (uint8_t)s.data[i] <= ' ';
    return empty;
}

static const char *joining_lacks(const struct consumer_group_heartbeat_request *r)
{
    if (r->rebalance_timeout_ms == -1)
        return "RebalanceTimeoutMs must be provided in first request.";
    if (r->topic_partitions_count != 0)
        return "TopicPartitions must be empty when (re-)joining.";
    if (r->subscribed_topic_names_count < 0 && r->subscribed_topic_regex.size < 0)
        return "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
               "(re-)joining.";
    return NULL;
}

static const char *heartbeat_lacks(const struct consumer_group_heartbeat_request *r,
                                   int16_t version)
{
    if ((version >= 1 || r->member_epoch > 0 || r->member_epoch == CONSUMER_LEAVES) &&
        blank(r->member_id))
        return "MemberId can't be empty.";
    if (blank(r->group_id))
        return "GroupId can't be empty.";
    if (blank(r->instance_id))
        return "InstanceId can't be empty.";
    if (blank(r->rack_id))
        return "RackId can't be empty.";
    if (r->member_epoch == 0)
        return joining_lacks(r);
    if (r->member_epoch == CONSUMER_LEAVES_STATIC && r->instance_id.size < 0)
        return "InstanceId can't be null.";
    return r->member_epoch < CONSUMER_LEAVES_STATIC ? "MemberEpoch is invalid." : NULL;
}

static bool assignor_known(const struct broker_config *config, struct wire_string name)
{
    bool known = name.size < 0;
    for (uint32_t i = 0; !known && i < config->group_consumer_assignors_count; i++)
        known = wire_string_equal(name, wire_string_of(config->group_consumer_assignors[i]));
    return known;
}

enum kafka_error consumer_check(const struct broker_config *config, struct group_call *call)
{
    const struct consumer_group_heartbeat_request *r = call->request;
    call->why = heartbeat_lacks(r, call->version);
    if (call->why != NULL)
        return KE_INVALID_REQUEST;
    if (assignor_known(config, r->server_assignor))
        return KE_NONE;
    call->why = "The server does not have this assignor.";
    return KE_UNSUPPORTED_ASSIGNOR;
}

void consumer_refuse(struct group_call *call, enum kafka_error error)
{
    if (call->kind == GROUP_CONSUMER_HEARTBEAT) {
        struct consumer_group_heartbeat_response *r = call->response;
        consumer_group_heartbeat_response_init(r);
        r->error_code = (int16_t)error;
        r->error_message =
            wire_string_of(call->why != NULL ? call->why : kafka_error_message(error));
        return;
    }
    struct consumer_group_describe_response_described_group *r = call->response;
    assert(call->kind == GROUP_CONSUMER_DESCRIBE);
    consumer_group_describe_response_described_group_init(r);
    r->group_id = *(const struct wire_string *)call->request;
    r->error_code = (int16_t)error;
    r->error_message = wire_string_of(call->why);
}

/* ---- describe -------------------------------------------------------------------------------- */

/* Topics that are gone are left out: they have no name any more. */
static void describe_parts(struct group_shard *s, struct group_call *call,
                           const struct part_set *set, described_assignment *out)
{
    uint32_t topics = 0;
    for (uint32_t i = 0; i < set->count; i += part_set_run(set, i))
        topics++;
    out->topic_partitions = arena_array(call->arena, topics, sizeof(described_topic));
    for (uint32_t i = 0; out->topic_partitions != NULL && i < set->count;) {
        uint32_t run = part_set_run(set, i);
        struct group_topic_facts facts;
        if (s->world->topic_by_id(s->world->context, set->list[i].topic, &facts)) {
            described_topic *t = &out->topic_partitions[out->topic_partitions_count++];
            t->topic_id = set->list[i].topic;
            t->topic_name = call_string(call, facts.name);
            t->partitions = arena_array(call->arena, run, sizeof(int32_t));
            for (uint32_t k = 0; t->partitions != NULL && k < run; k++)
                t->partitions[t->partitions_count++] = set->list[i + k].index;
        }
        i += run;
    }
}

static void describe_member(struct group_shard *s, struct group_call *call,
                            const struct consumer *c,
                            struct consumer_group_describe_response_member *out)
{
    consumer_group_describe_response_member_init(out);
    out->member_id = call_string(call, c->id);
    out->instance_id = call_string(call, c->instance_id);
    out->rack_id = call_string(call, c->rack_id);
    out->member_epoch = c->epoch;
    out->client_id = c->client_id.size >= 0 ? call_string(call, c->client_id) : wire_string_of("");
    out->client_host =
        c->client_host.size >= 0 ? call_string(call, c->client_host) : wire_string_of("");
    out->subscribed_topic_regex = call_string(call, c->pattern);
    out->member_type = c->classic != NULL ? 0 : 1;
    out->subscribed_topic_names =
        arena_array(call->arena, c->topics.count, sizeof(struct wire_string));
    for (uint32_t i = 0; out->subscribed_topic_names != NULL && i < c->topics.count; i++)
        out->subscribed_topic_names[out->subscribed_topic_names_count++] =
            call_string(call, c->topics.list[i]);
    struct part_set has = {.list = arena_array(call->arena, c->assigned.count + c->revoking.count,
                                               sizeof(struct part))};
    if (has.list == NULL)
        return; /* call_answered sees that the arena is full */
    if (c->assigned.count > 0)
        memcpy(has.list, c->assigned.list, c->assigned.count * sizeof(struct part));
    if (c->revoking.count > 0)
        memcpy(has.list + c->assigned.count, c->revoking.list,
               c->revoking.count * sizeof(struct part));
    has.count = c->assigned.count + c->revoking.count;
    part_set_order(&has);
    describe_parts(s, call, &has, &out->assignment); /* what it gives up, it has still */
    describe_parts(s, call, &c->target, &out->target_assignment);
}

static void describe_missing(struct group_shard *s, struct group_call *call, bool other_type)
{
    const struct wire_string *id = call->request;
    size_t room = (size_t)MAX(id->size, 0) + sizeof("Group  is not a consumer group.");
    char *text = arena_alloc(call->arena, room);
    if (text != NULL) {
        (void)snprintf(text, room, "Group %.*s %s.", MAX(id->size, 0), id->data,
                       other_type ? "is not a consumer group" : "not found");
        call->why = text;
    }
    call_refused(s, call, KE_GROUP_ID_NOT_FOUND);
}

void consumers_describe(struct group_shard *s, struct group_call *call)
{
    const struct wire_string *id = call->request;
    struct consumer_group_describe_response_described_group *r = call->response;
    const struct group *g = shard_find(s, *id);
    if (g == NULL || g->consumers == NULL) {
        describe_missing(s, call, g != NULL);
        return;
    }
    const struct consumer_group *cg = g->consumers;
    consumer_group_describe_response_described_group_init(r);
    r->group_id = *id;
    r->group_state = wire_string_of(consumers_state(cg));
    r->group_epoch = cg->epoch;
    r->assignment_epoch = cg->target_epoch;
    r->assignor_name = consumers_assignor(cg);
    r->members = arena_array(call->arena, cg->count, sizeof(*r->members));
    LIST_EACH(l, &cg->members)
    {
        if (r->members == NULL)
            break; /* call_answered sees that the arena is full */
        describe_member(s, call, container_of(l, struct consumer, link),
                        &r->members[r->members_count++]);
    }
    call_answered(s, call);
}

/* ---- offsets --------------------------------------------------------------------------------- */

enum kafka_error consumers_check_commit(const struct consumer_group *cg, struct wire_string id,
                                        int32_t epoch, int16_t version, bool *stale)
{
    *stale = false;
    if (epoch < 0 && cg->count == 0)
        return KE_NONE;
    const struct consumer *c = consumer_find(cg, id);
    if (c == NULL)
        return KE_UNKNOWN_MEMBER_ID;
    if (c->classic == NULL && version < MEMBER_EPOCH_VERSION_MIN)
        return KE_UNSUPPORTED_VERSION;
    if (epoch > c->epoch)
        return c->classic != NULL ? KE_ILLEGAL_GENERATION : KE_STALE_MEMBER_EPOCH;
    *stale = epoch < c->epoch;
    return KE_NONE;
}

enum kafka_error consumer_commits(const struct consumer *c, struct uuid topic, int32_t index,
                                  int32_t epoch)
{
    const struct part *p = part_set_find(&c->assigned, topic, index);
    if (p == NULL)
        p = part_set_find(&c->revoking, topic, index);
    if ((p != NULL && epoch >= p->epoch) || DEFECT(41))
        return KE_NONE;
    return c->classic != NULL ? KE_ILLEGAL_GENERATION : KE_STALE_MEMBER_EPOCH;
}

enum kafka_error consumers_check_fetch(const struct consumer_group *cg, struct wire_string id,
                                       int32_t epoch)
{
    if (id.size < 0 && epoch < 0)
        return KE_NONE;
    const struct consumer *c = consumer_find(cg, id);
    if (c == NULL)
        return KE_UNKNOWN_MEMBER_ID;
    if (epoch == c->epoch)
        return KE_NONE;
    return c->classic != NULL ? KE_ILLEGAL_GENERATION : KE_STALE_MEMBER_EPOCH;
}
