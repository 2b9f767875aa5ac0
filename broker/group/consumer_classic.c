/* Members of a consumer group that speak the classic protocol still: JoinGroup, SyncGroup,
 * Heartbeat, LeaveGroup, served by a group that has epochs and targets and no rounds.
 *
 *   join       one step of reconciliation; the generation told is the member's epoch
 *   sync       what it has, as an assignment of the consumer protocol
 *   heartbeat  REBALANCE_IN_PROGRESS while there is something to rejoin for: a newer epoch,
 *              something to give up, or something that has become free
 *
 *   heartbeat says so ──▶ join timer: must join within its rebalance timeout, or it is out
 *   join is answered ───▶ sync timer: must sync within it, or it is out
 *
 * It gives up partitions between the joins: what it says it owns in its subscription is what it
 * has. One of its joins does what a heartbeat does for the others, but nobody is held.
 *
 * Invariants
 *  1. Nothing is held: every call is answered at once.
 *  2. A member's first protocol is the one it is spoken to in; the broker assigns, whatever it is.
 *
 * Failure modes: as consumer_heartbeat.c. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/sync_group.h"

#include <strings.h>

/* ---- who may join ---------------------------------------------------------------------------- */

/* Some protocol that all classic members have. */
static bool protocols_fit(const struct consumer_group *cg, const struct join_group_request *r)
{
    if (!wire_string_equal(r->protocol_type, wire_string_of("consumer")))
        return false;
    for (int32_t i = 0; i < r->protocols_count; i++) {
        uint32_t have = 0;
        LIST_EACH(l, &cg->members)
        {
            const struct consumer *c = container_of(l, struct consumer, link);
            bool has = false;
            for (uint32_t k = 0; c->classic != NULL && !has && k < c->classic->protocols.count; k++)
                has = wire_string_equal(c->classic->protocols.list[k].name, r->protocols[i].name);
            have += has;
        }
        if (have == cg->classic_count)
            return true;
    }
    return false;
}

static enum kafka_error check_static(const struct consumer_group *cg, struct wire_string id,
                                     struct wire_string instance_id)
{
    const struct consumer *c = consumer_static(cg, instance_id);
    if (c == NULL)
        return KE_UNKNOWN_MEMBER_ID;
    return wire_string_equal(c->id, id) ? KE_NONE : KE_FENCED_INSTANCE_ID;
}

static enum kafka_error join_check(const struct consumer_group *cg,
                                   const struct join_group_request *r)
{
    const struct broker_config *config = cg->group->shard->config;
    const char *policy = config->group_consumer_migration_policy;
    if (policy != NULL && strcasecmp(policy, "disabled") == 0)
        return KE_INCONSISTENT_GROUP_PROTOCOL;
    if (cg->count >= (uint32_t)MAX(config->group_consumer_max_size, 0) &&
        consumer_find(cg, r->member_id) == NULL)
        return KE_GROUP_MAX_SIZE_REACHED;
    if (!protocols_fit(cg, r))
        return KE_INCONSISTENT_GROUP_PROTOCOL;
    if (r->group_instance_id.size >= 0 && r->member_id.size > 0)
        return check_static(cg, r->member_id, r->group_instance_id);
    return KE_NONE;
}

/* ---- join ------------------------------------------------------------------------------------ */

struct joining {
    struct consumer_group *cg;
    struct group_call *call;
    const struct join_group_request *request;
    struct wire_string id;
    struct consumer_protocol_subscription sub;
    struct consumer *c;
    bool replaces; /* a static consumer-protocol member, the last one that spoke it */
    bool changed;  /* subscribes to something else than before */
};

static bool join_told(struct joining *j, struct consumer_group_member_metadata_value *v)
{
    const struct join_group_request *r = j->request;
    struct arena *arena = &j->cg->group->shard->update.arena;
    struct consumer_group_member_metadata_value_classic_member_metadata *m =
        arena_array(arena, 1, sizeof(*m));
    consumer_told_nothing(v);
    if (m == NULL || (j->c != NULL && !consumer_told(j->c, arena, v)))
        return false;
    if (r->group_instance_id.size >= 0)
        v->instance_id = r->group_instance_id;
    if (j->sub.rack_id.size > 0)
        v->rack_id = j->sub.rack_id;
    v->rebalance_timeout_ms =
        j->call->version == 0 ? r->session_timeout_ms : r->rebalance_timeout_ms;
    v->subscribed_topic_names_count = j->sub.topics_count;
    v->subscribed_topic_names =
        names_sorted(arena, j->sub.topics, &v->subscribed_topic_names_count);
    v->subscribed_topic_regex = wire_string_of("");
    v->client_id = j->call->client_id.size >= 0 ? j->call->client_id : wire_string_of("");
    v->client_host = j->call->client_host;
    m->session_timeout_ms = r->session_timeout_ms;
    m->supported_protocols =
        arena_array(arena, (size_t)r->protocols_count, sizeof(*m->supported_protocols));
    if (m->supported_protocols == NULL || v->subscribed_topic_names == NULL)
        return false;
    for (int32_t i = 0; i < r->protocols_count; i++) {
        m->supported_protocols[i].name = r->protocols[i].name;
        m->supported_protocols[i].metadata = r->protocols[i].metadata;
        if (m->supported_protocols[i].metadata.size < 0)
            m->supported_protocols[i].metadata = (struct wire_bytes){(const uint8_t *)"", 0};
    }
    m->supported_protocols_count = r->protocols_count;
    v->classic_member_metadata = m;
    return true;
}

/* The member as the request makes it, and the group's epoch. */
static enum kafka_error join_member(struct joining *j)
{
    struct consumer_group *cg = j->cg;
    const struct join_group_request *r = j->request;
    struct consumer_group_member_metadata_value v;
    enum kafka_error error = KE_NONE;
    bool fixed = r->group_instance_id.size >= 0;
    j->c = fixed ? consumer_static(cg, r->group_instance_id) : consumer_find(cg, j->id);
    j->replaces =
        fixed && j->c != NULL && j->c->classic == NULL && cg->classic_count == cg->count - 1;
    if (fixed && j->c != NULL && r->member_id.size == 0)
        error = consumer_rename(j->c, j->id);
    if (error != KE_NONE)
        return error;
    if (!join_told(j, &v))
        return KE_COORDINATOR_NOT_AVAILABLE;
    bool had_pattern = j->c != NULL && j->c->pattern.size > 0;
    struct wire_string pattern =
        had_pattern ? call_string(j->call, j->c->pattern) : wire_string_of(NULL);
    j->changed = had_pattern || !consumer_has_topics(j->c, v.subscribed_topic_names,
                                                     v.subscribed_topic_names_count);
    if (j->c == NULL || !consumer_same(j->c, &v))
        error = consumer_put(cg, j->id, &v);
    j->c = consumer_find(cg, j->id);
    const struct consumer_pattern *p = consumers_pattern(cg, pattern);
    if (error == KE_NONE && p != NULL && p->members == 0)
        error = consumers_forget_pattern(cg, pattern);
    return error == KE_NONE ? consumers_refresh(cg, j->changed) : error;
}

static enum kafka_error join_reconcile(struct joining *j)
{
    struct group_shard *s = j->cg->group->shard;
    struct consumer_protocol_assignment owned;
    struct part_set set;
    consumer_protocol_assignment_init(&owned);
    owned.assigned_partitions =
        arena_array(&s->update.arena, (size_t)MAX(j->sub.owned_partitions_count, 0),
                    sizeof(*owned.assigned_partitions));
    if (owned.assigned_partitions == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    for (int32_t i = 0; i < j->sub.owned_partitions_count; i++) {
        owned.assigned_partitions[i].topic = j->sub.owned_partitions[i].topic;
        owned.assigned_partitions[i].partitions = j->sub.owned_partitions[i].partitions;
        owned.assigned_partitions[i].partitions_count = j->sub.owned_partitions[i].partitions_count;
    }
    owned.assigned_partitions_count = j->sub.owned_partitions_count;
    if (!parts_by_name(s, &owned, 0, &set))
        return KE_COORDINATOR_NOT_AVAILABLE;
    return consumer_reconcile(j->c, &set, j->changed);
}

static void join_answer(struct joining *j)
{
    struct group *g = j->cg->group;
    struct join_group_response *r = j->call->response;
    join_group_response_init(r);
    r->member_id = call_string(j->call, j->c->id);
    r->generation_id = j->c->epoch;
    r->protocol_type = wire_string_of("consumer");
    r->protocol_name = call_string(j->call, j->c->classic->protocols.list[0].name);
    timer_cancel(g->shard->wheel, &j->c->classic->join);
    consumer_beat(j->c);
    timer_arm(g->shard->wheel, &j->c->classic->sync,
              ms_later(g->shard, j->c->rebalance_timeout_ms));
    call_answered(g->shard, j->call);
}

/* Nobody is left who speaks the consumer protocol: the answer is of the consumer group still, all
 * that follows is classic. */
static void join_downgrades(struct joining *j)
{
    struct consumer_group *cg = j->cg;
    struct group_shard *s = cg->group->shard;
    bool rebalance = cg->target_epoch < cg->epoch;
    struct join_group_response told;
    enum kafka_error error = rebalance ? KE_NONE : join_reconcile(j);
    join_group_response_init(&told);
    told.member_id = j->id;
    told.generation_id = rebalance ? cg->epoch : j->c->epoch;
    told.protocol_type = wire_string_of("consumer");
    told.protocol_name = call_string(j->call, j->c->classic->protocols.list[0].name);
    if (error == KE_NONE)
        error = convert_down(cg, NULL, 0, rebalance);
    if (error != KE_NONE) {
        call_refused(s, j->call, error);
        return;
    }
    *(struct join_group_response *)j->call->response = told;
    call_answered(s, j->call);
}

/* Unlike a classic group it does not say to whom. */
static void join_refused(struct group_shard *s, struct group_call *call, enum kafka_error error,
                         struct wire_string id)
{
    call_refused(s, call, error);
    ((struct join_group_response *)call->response)->member_id = id;
}

static bool join_names(struct joining *j)
{
    j->id = j->request->member_id;
    if (j->id.size == 0)
        j->id = make_member_name(j->cg->group->shard, j->call->arena);
    return j->id.size > 0;
}

void consumers_join(struct group *g, struct group_call *call)
{
    struct group_shard *s = g->shard;
    const struct join_group_request *r = call->request;
    struct joining j = {.cg = g->consumers, .call = call, .request = r};
    enum kafka_error error = join_check(j.cg, r);
    if (error == KE_NONE && !join_names(&j))
        error = KE_COORDINATOR_NOT_AVAILABLE;
    bool asks_id = error == KE_NONE && call->version >= 4 && r->member_id.size == 0 &&
                   r->group_instance_id.size < 0;
    if (error == KE_NONE && !asks_id &&
        !classic_subscription(&s->update.arena, r->protocols[0].metadata, &j.sub))
        error = KE_INCONSISTENT_GROUP_PROTOCOL;
    if (error != KE_NONE || asks_id) {
        join_refused(s, call, asks_id ? KE_MEMBER_ID_REQUIRED : error,
                     asks_id ? j.id : wire_string_of(""));
        return;
    }
    error = join_member(&j);
    if (error == KE_NONE && j.replaces && convert_may_go_down(j.cg, NULL, 0)) {
        join_downgrades(&j);
        return;
    }
    if (error == KE_NONE)
        error = consumers_target(j.cg);
    if (error == KE_NONE)
        error = join_reconcile(&j);
    if (error == KE_NONE) {
        join_answer(&j);
        return;
    }
    if (j.c != NULL)
        consumer_beat(j.c);
    join_refused(s, call, error, wire_string_of(""));
}

/* ---- sync and heartbeat ---------------------------------------------------------------------- */

static enum kafka_error member_of(const struct consumer_group *cg, struct wire_string id,
                                  struct wire_string instance_id, int32_t generation,
                                  struct consumer **c)
{
    enum kafka_error error = instance_id.size >= 0 ? check_static(cg, id, instance_id) : KE_NONE;
    *c = consumer_find(cg, id);
    if (error == KE_NONE && (*c == NULL || (*c)->classic == NULL))
        error = KE_UNKNOWN_MEMBER_ID;
    if (error == KE_NONE && generation != (*c)->epoch)
        error = KE_ILLEGAL_GENERATION;
    return error;
}

static void must_rejoin(struct consumer *c)
{
    struct group_shard *s = c->of->group->shard;
    if (!timer_armed(&c->classic->join))
        timer_arm(s->wheel, &c->classic->join, ms_later(s, c->rebalance_timeout_ms));
}

static enum kafka_error sync_check(struct consumer *c, const struct sync_group_request *r)
{
    if ((r->protocol_type.size >= 0 &&
         !wire_string_equal(r->protocol_type, wire_string_of("consumer"))) ||
        (r->protocol_name.size >= 0 &&
         !wire_string_equal(r->protocol_name, c->classic->protocols.list[0].name)))
        return KE_INCONSISTENT_GROUP_PROTOCOL;
    if (c->of->target_epoch <= c->epoch || c->state == CONSUMER_UNREVOKED)
        return KE_NONE;
    must_rejoin(c);
    return KE_REBALANCE_IN_PROGRESS;
}

void consumers_sync(struct group *g, struct group_call *call)
{
    struct group_shard *s = g->shard;
    const struct sync_group_request *q = call->request;
    struct sync_group_response *r = call->response;
    struct consumer *c;
    struct wire_bytes bytes = WIRE_NULL_BYTES;
    enum kafka_error error =
        member_of(g->consumers, q->member_id, q->group_instance_id, q->generation_id, &c);
    if (error == KE_NONE)
        error = sync_check(c, q);
    if (error == KE_NONE) {
        bytes = assignment_bytes(s, &c->assigned, c->classic->protocols.list[0].metadata);
        error = bytes.size < 0 ? KE_COORDINATOR_NOT_AVAILABLE : KE_NONE;
    }
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    timer_cancel(s->wheel, &c->classic->sync);
    consumer_beat(c);
    sync_group_response_init(r);
    r->protocol_type = q->protocol_type;
    r->protocol_name = q->protocol_name;
    r->assignment = call_bytes(call, bytes);
    call_answered(s, call);
}

/* Does it wait for something that somebody has still? */
static bool waits(const struct consumer *c)
{
    for (uint32_t i = 0; i < c->target.count; i++) {
        const struct part *p = &c->target.list[i];
        if (part_set_find(&c->assigned, p->topic, p->index) == NULL &&
            consumers_owner(c->of, p->topic, p->index) != NULL)
            return true;
    }
    return false;
}

void consumers_classic_heartbeat(struct group *g, struct group_call *call)
{
    const struct heartbeat_request *q = call->request;
    struct heartbeat_response *r = call->response;
    struct consumer *c;
    enum kafka_error error =
        member_of(g->consumers, q->member_id, q->group_instance_id, q->generation_id, &c);
    if (error != KE_NONE) {
        call_refused(g->shard, call, error);
        return;
    }
    heartbeat_response_init(r);
    consumer_beat(c);
    if (c->epoch < g->consumers->epoch || c->state == CONSUMER_UNREVOKED ||
        (c->state == CONSUMER_UNRELEASED && !waits(c))) {
        must_rejoin(c);
        r->error_code = KE_REBALANCE_IN_PROGRESS;
    }
    call_answered(g->shard, call);
}

/* ---- leave ----------------------------------------------------------------------------------- */

/* Members of either protocol: an administrator removes them so. */
static enum kafka_error leave_one(const struct consumer_group *cg,
                                  const struct leave_group_request_member_identity *q,
                                  struct consumer **c)
{
    *c = q->group_instance_id.size >= 0 ? consumer_static(cg, q->group_instance_id)
                                        : consumer_find(cg, q->member_id);
    if (*c == NULL)
        return KE_UNKNOWN_MEMBER_ID;
    if (q->group_instance_id.size >= 0 && q->member_id.size > 0 &&
        !wire_string_equal((*c)->id, q->member_id))
        return KE_FENCED_INSTANCE_ID;
    return KE_NONE;
}

void consumers_leave(struct group *g, struct group_call *call)
{
    struct group_shard *s = g->shard;
    const struct leave_group_request *q = call->request;
    struct leave_group_response *r = call->response;
    uint32_t count = (uint32_t)MAX(q->members_count, 0), gone_count = 0;
    struct consumer **gone = arena_array(&s->update.arena, count, sizeof(struct consumer *));
    leave_group_response_init(r);
    r->members = arena_array(call->arena, count, sizeof(*r->members));
    if (gone == NULL || r->members == NULL) {
        call_refused(s, call, KE_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct leave_group_response_member_response *m = &r->members[r->members_count++];
        struct consumer *c;
        bool again = false;
        leave_group_response_member_response_init(m);
        m->member_id = q->members[i].member_id;
        m->group_instance_id = q->members[i].group_instance_id;
        m->error_code = (int16_t)leave_one(g->consumers, &q->members[i], &c);
        for (uint32_t k = 0; k < gone_count; k++)
            again |= gone[k] == c;
        if (m->error_code == KE_NONE && !again)
            gone[gone_count++] = c;
    }
    enum kafka_error error = consumers_fence(g->consumers, gone, gone_count);
    if (error != KE_NONE)
        call_refused(s, call, error);
    else
        call_answered(s, call);
}
