/* ConsumerGroupHeartbeat: the one request by which members of a consumer group join, say what they
 * have, learn what they should have, and leave.
 *
 *   epoch  0   joins, or joins again after it was fenced    ┐ look: may it? ─▶ the member's record
 *   epoch >0   is there                                     ┘ ─▶ the group's epoch ─▶ the target
 *                                                             ─▶ one step of reconciliation ─▶
 * answer epoch -1   leaves: it goes; as one whose session ends, or who does not give up in time
 *   epoch -2   a static member leaves for a while: its place and partitions are kept
 *
 *   epochs   member <= target <= group. The group's goes up when what is subscribed to, or its
 *            metadata, changes; the target's when it is made for that; a member's when it gets
 * there.
 *
 * Invariants
 *  1. A request that is refused has changed nothing. One that finds no memory half way may have
 *     made the first of its changes; each is whole, and the next heartbeat makes the others.
 *  2. Every member has a session timer from the moment it is made or loaded.
 *  3. A member's epoch is what the last answer told it, or told it before that: then it is taken
 *     for a repeated request if what it has is a part of what it was given.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE; a record larger than a batch:
 * UNKNOWN_SERVER_ERROR. A timer that cannot make its records tries again after RETRY_MS. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

#include <stdarg.h>
#include <stdio.h>

#define RETRY_MS            1000
#define METADATA_REFRESH_MS (60 * 60 * 1000) /* looked at again without a reason */
#define REASON_MAX          1024

struct beat {
    struct group_shard *s;
    struct group_call *call;
    const struct consumer_group_heartbeat_request *request;
    struct group *g; /* NULL: will be made */
    struct wire_string member_id;
    enum kafka_error error;
    const char *why; /* NULL: the error's own text */
};

/* ---- refusals -------------------------------------------------------------------------------- */

/* Always false, for `return refuse(...)`. */
__attribute__((format(printf, 3, 4))) static bool refuse(struct beat *b, enum kafka_error error,
                                                         const char *format, ...)
{
    va_list arguments;
    char *text = arena_alloc(b->call->arena, REASON_MAX);
    b->error = error;
    if (text == NULL)
        return false;
    va_start(arguments, format);
    (void)vsnprintf(text, REASON_MAX, format, arguments);
    va_end(arguments);
    b->why = text;
    return false;
}

static void beat_refused(struct beat *b)
{
    b->call->why = b->why;
    call_refused(b->s, b->call, b->error);
}

#define TEXT(s) MAX((s).size, 0), (s).data

/* ---- timers ---------------------------------------------------------------------------------- */

static void fence_by_timer(struct consumer *c, struct timer *t)
{
    struct group_shard *s = c->of->group->shard;
    if (consumers_fence(c->of, &c, 1) != KE_NONE)
        timer_arm(s->wheel, t, ms_later(s, RETRY_MS));
    s->changed(s);
}

static void session_fired(struct timer *t)
{
    fence_by_timer(container_of(t, struct consumer, session), t);
}

static void rebalance_fired(struct timer *t)
{
    fence_by_timer(container_of(t, struct consumer, rebalance), t);
}

static void join_fired(struct timer *t)
{
    fence_by_timer(container_of(t, struct consumer_classic, join)->of, t);
}

static void sync_fired(struct timer *t)
{
    fence_by_timer(container_of(t, struct consumer_classic, sync)->of, t);
}

void consumer_timers_init(struct consumer *c)
{
    timer_init(&c->session, session_fired);
    timer_init(&c->rebalance, rebalance_fired);
}

void consumer_classic_init(struct consumer_classic *c)
{
    timer_init(&c->join, join_fired);
    timer_init(&c->sync, sync_fired);
}

void consumer_classic_cancel(struct wheel *wheel, struct consumer_classic *c)
{
    timer_cancel(wheel, &c->join);
    timer_cancel(wheel, &c->sync);
}

void consumer_timers_cancel(struct consumer *c)
{
    struct wheel *wheel = c->of->group->shard->wheel;
    timer_cancel(wheel, &c->session);
    timer_cancel(wheel, &c->rebalance);
    if (c->classic != NULL)
        consumer_classic_cancel(wheel, c->classic);
}

void consumer_beat(struct consumer *c)
{
    struct group_shard *s = c->of->group->shard;
    int32_t timeout_ms = c->classic != NULL ? c->classic->session_timeout_ms
                                            : s->world->setting(s->world->context, c->of->group->id,
                                                                GROUP_SESSION_TIMEOUT);
    timer_arm(s->wheel, &c->session, ms_later(s, timeout_ms));
}

void consumers_loaded(struct group *g)
{
    LIST_EACH(l, &g->consumers->members)
    {
        struct consumer *c = container_of(l, struct consumer, link);
        consumer_beat(c);
        if (c->state == CONSUMER_UNREVOKED && c->classic == NULL)
            timer_arm(g->shard->wheel, &c->rebalance, ms_later(g->shard, c->rebalance_timeout_ms));
    }
}

/* ---- the group's epoch ----------------------------------------------------------------------- */

static bool refresh_is_due(const struct consumer_group *cg)
{
    int64_t now_ms = *cg->group->shard->wall_ms; /* may be set back, further than was ahead */
    return now_ms >= cg->refresh_ms || cg->refresh_ms - now_ms > METADATA_REFRESH_MS ||
           cg->epoch < cg->refresh_epoch;
}

enum kafka_error consumers_refresh(struct consumer_group *cg, bool bump)
{
    int64_t hash;
    enum kafka_error error = KE_NONE;
    bump |= cg->bump_due;
    if (!bump && !refresh_is_due(cg))
        return KE_NONE;
    if (!consumers_hash(cg, &hash))
        return KE_COORDINATOR_NOT_AVAILABLE;
    if (bump || hash != cg->hash)
        error = consumers_put_epoch(cg, cg->epoch == INT32_MAX ? 1 : cg->epoch + 1, hash);
    if (error != KE_NONE)
        return error;
    cg->bump_due = false;
    cg->refresh_ms = *cg->group->shard->wall_ms + METADATA_REFRESH_MS;
    cg->refresh_epoch = cg->epoch;
    return consumers_forget_old_metadata(cg);
}

/* ---- going ----------------------------------------------------------------------------------- */

static enum kafka_error fence_patterns(struct consumer_group *cg)
{
    enum kafka_error error = KE_NONE;
    LIST_EACH(l, &cg->patterns)
    {
        struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        if (error == KE_NONE && p->members == 0 && p->resolved)
            error = consumers_forget_pattern(cg, p->text);
    }
    return error;
}

enum kafka_error consumers_fence(struct consumer_group *cg, struct consumer **gone, uint32_t count)
{
    if (count == 0)
        return KE_NONE;
    if (convert_may_go_down(cg, gone, count))
        return convert_down(cg, gone, count, true);
    for (uint32_t i = 0; i < count; i++) {
        enum kafka_error error = consumer_forget(gone[i]);
        if (error != KE_NONE)
            return error;
        cg->bump_due = true;
    }
    if (fence_patterns(cg) != KE_NONE || consumers_refresh(cg, true) != KE_NONE)
        cg->group->shard->records_lost++; /* made good by the next that is heard of: bump_due */
    return KE_NONE;
}

/* ---- what a request may -------------------------------------------------------------------- */

static bool parts_within(const struct consumer_group_heartbeat_request *r,
                         const struct part_set *of)
{
    if (r->topic_partitions_count < 0)
        return false;
    for (int32_t i = 0; i < r->topic_partitions_count; i++) {
        const struct consumer_group_heartbeat_request_topic_partitions *t = &r->topic_partitions[i];
        for (int32_t k = 0; k < t->partitions_count; k++) {
            if (part_set_find(of, t->topic_id, t->partitions[k]) == NULL)
                return false;
        }
    }
    return true;
}

/* Invariant 3. */
static bool check_epoch(struct beat *b, const struct consumer *c)
{
    int32_t epoch = b->request->member_epoch;
    if (epoch == 0 || epoch == c->epoch)
        return true;
    if (epoch < c->epoch && epoch == c->previous_epoch && parts_within(b->request, &c->assigned))
        return true;
    return refuse(
        b, KE_FENCED_MEMBER_EPOCH,
        "Member epoch %d is %s than the one of the coordinator, %d: the member has to give "
        "up all its partitions and join again.",
        epoch, epoch > c->epoch ? "greater" : "smaller", c->epoch);
}

static bool check_static(struct beat *b, const struct consumer_group *cg)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    const struct consumer *c = consumer_static(cg, r->instance_id);
    const struct consumer *other = consumer_find(cg, b->member_id);
    if (r->member_epoch != 0) {
        if (c == NULL)
            return refuse(b, KE_UNKNOWN_MEMBER_ID, "Instance id %.*s is unknown.",
                          TEXT(r->instance_id));
        if (!wire_string_equal(c->id, r->member_id))
            return refuse(b, KE_FENCED_INSTANCE_ID,
                          "Static member %.*s with instance id %.*s was fenced by member %.*s.",
                          TEXT(r->member_id), TEXT(r->instance_id), TEXT(c->id));
        return r->member_epoch < 0 || check_epoch(b, c);
    }
    bool released = c == NULL || c->classic != NULL || c->epoch == CONSUMER_LEAVES_STATIC;
    if (!released || (other != NULL && other != c))
        return refuse(b, KE_UNRELEASED_INSTANCE_ID,
                      "Static member %.*s with instance id %.*s cannot join the group because the "
                      "instance id is owned by %.*s member.",
                      TEXT(b->member_id), TEXT(r->instance_id), TEXT(released ? other->id : c->id));
    return true;
}

static bool check_member(struct beat *b, const struct consumer_group *cg)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    if (r->instance_id.size >= 0)
        return check_static(b, cg);
    const struct consumer *c = consumer_find(cg, b->member_id);
    if (c != NULL)
        return r->member_epoch < 0 || check_epoch(b, c);
    if (r->member_epoch == 0)
        return true;
    return refuse(b, KE_UNKNOWN_MEMBER_ID, "Member %.*s is not a member of group %.*s.",
                  TEXT(r->member_id), TEXT(r->group_id));
}

/* group.consumer.max.size; `there`: it is a member already. */
static bool check_size(struct beat *b, uint32_t count, bool there)
{
    int32_t size_max = b->s->config->group_consumer_max_size;
    if (there || count < (uint32_t)MAX(size_max, 0))
        return true;
    return refuse(b, KE_GROUP_MAX_SIZE_REACHED,
                  "The consumer group has reached its maximum capacity of %d members.", size_max);
}

static bool check_pattern(struct beat *b)
{
    const char *why;
    struct wire_string text = b->request->subscribed_topic_regex;
    if (text.size <= 0 || (b->g != NULL && b->g->consumers != NULL &&
                           consumers_pattern(b->g->consumers, text) != NULL))
        return true;
    if (pattern_check(&b->s->update.arena, text, &why))
        return true;
    return refuse(b, KE_INVALID_REGULAR_EXPRESSION,
                  "SubscribedTopicRegex `%.*s` is not a valid regular expression: %s.",
                  MIN(text.size, REASON_MAX / 2), text.data, why);
}

/* A group that is not a consumer group, or that is not there. */
static bool check_group(struct beat *b)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    const char *why;
    if (b->g == NULL && r->member_epoch == 0)
        return check_size(b, 0, false);
    if (b->g == NULL)
        return refuse(b, KE_GROUP_ID_NOT_FOUND, "%s %.*s not found.",
                      r->member_epoch < 0 ? "Group" : "Consumer group", TEXT(r->group_id));
    if (r->member_epoch != 0)
        return refuse(b, KE_GROUP_ID_NOT_FOUND, "Group %.*s is not a consumer group.",
                      TEXT(r->group_id));
    if (group_is(b->g, GROUP_EMPTY))
        return check_size(b, 0, false);
    enum kafka_error error = convert_check_up(b->g, &why);
    if (error != KE_NONE)
        return refuse(b, error, "Cannot upgrade classic group %.*s to consumer group because %s.",
                      TEXT(r->group_id), why);
    return check_size(b, b->g->members_count, member_find(b->g, b->member_id) != NULL);
}

static bool beat_check(struct beat *b)
{
    struct consumer_group *cg = b->g != NULL ? b->g->consumers : NULL;
    if (cg == NULL)
        return check_group(b) && check_pattern(b);
    if (b->request->member_epoch >= 0 &&
        !check_size(b, cg->count, consumer_find(cg, b->member_id) != NULL))
        return false;
    return check_member(b, cg) && check_pattern(b);
}

/* ---- the member's record ------------------------------------------------------------------- */

/* What the member is told to be, over what it was. */
static bool told_anew(struct beat *b, const struct consumer *c,
                      struct consumer_group_member_metadata_value *v)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    consumer_told_nothing(v);
    if (c != NULL && !consumer_told(c, &b->s->update.arena, v))
        return false;
    if (r->instance_id.size >= 0)
        v->instance_id = r->instance_id;
    if (r->rack_id.size >= 0)
        v->rack_id = r->rack_id;
    if (r->rebalance_timeout_ms != -1)
        v->rebalance_timeout_ms = r->rebalance_timeout_ms;
    if (r->server_assignor.size >= 0)
        v->server_assignor = r->server_assignor;
    if (r->subscribed_topic_regex.size >= 0)
        v->subscribed_topic_regex = r->subscribed_topic_regex;
    v->client_id = b->call->client_id.size >= 0 ? b->call->client_id : wire_string_of("");
    v->client_host = b->call->client_host;
    v->classic_member_metadata = NULL; /* if it spoke the classic protocol, it does not any more */
    if (r->subscribed_topic_names_count < 0)
        return true;
    v->subscribed_topic_names_count = r->subscribed_topic_names_count;
    v->subscribed_topic_names = names_sorted(&b->s->update.arena, r->subscribed_topic_names,
                                             &v->subscribed_topic_names_count);
    return v->subscribed_topic_names != NULL;
}

struct changes {
    bool topics;           /* other names than before */
    bool pattern;          /* another pattern, or none any more */
    bool pattern_resolved; /* and what it stands for is known */
    bool pattern_new;      /* nobody had it before */
};

static struct changes changes_of(const struct consumer_group *cg, const struct consumer *c,
                                 const struct consumer_group_member_metadata_value *v)
{
    const struct wire_string none = wire_string_of("");
    struct wire_string old = c != NULL && c->pattern.size > 0 ? c->pattern : none;
    struct wire_string now = v->subscribed_topic_regex.size > 0 ? v->subscribed_topic_regex : none;
    const struct consumer_pattern *p = consumers_pattern(cg, now);
    bool known = p != NULL && p->members > 0;
    struct changes d = {.topics = !consumer_has_topics(c, v->subscribed_topic_names,
                                                       v->subscribed_topic_names_count),
                        .pattern = !wire_string_equal(old, now)};
    d.pattern_resolved = d.pattern && (now.size == 0 || (known && p->resolved));
    d.pattern_new = d.pattern && now.size > 0 && !known;
    return d;
}

/* The member as the request makes it. *c is set when there is one, also with an error. */
static enum kafka_error beat_member(struct beat *b, struct consumer_group *cg, struct consumer **c,
                                    struct changes *d)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    struct consumer_group_member_metadata_value v;
    enum kafka_error error = KE_NONE;
    *c = r->instance_id.size >= 0 ? consumer_static(cg, r->instance_id)
                                  : consumer_find(cg, b->member_id);
    if (r->instance_id.size >= 0 && r->member_epoch == 0 && *c != NULL)
        error = consumer_rename(*c, b->member_id);
    if (error != KE_NONE)
        return error;
    if (!told_anew(b, *c, &v))
        return KE_COORDINATOR_NOT_AVAILABLE;
    *d = changes_of(cg, *c, &v);
    if (*c == NULL || !consumer_same(*c, &v))
        error = consumer_put(cg, b->member_id, &v);
    *c = consumer_find(cg, b->member_id);
    if (error == KE_NONE && d->pattern)
        error = fence_patterns(cg);
    return error;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static bool tell_assignment(struct group_call *call, const struct part_set *s)
{
    struct consumer_group_heartbeat_response *out = call->response;
    struct consumer_group_heartbeat_response_assignment *a =
        arena_array(call->arena, 1, sizeof(*a));
    uint32_t topics = 0;
    for (uint32_t i = 0; i < s->count; i += part_set_run(s, i))
        topics++;
    if (a == NULL)
        return false;
    a->topic_partitions = arena_array(call->arena, topics, sizeof(*a->topic_partitions));
    for (uint32_t i = 0; a->topic_partitions != NULL && i < s->count;) {
        uint32_t run = part_set_run(s, i);
        struct consumer_group_heartbeat_response_topic_partitions *t =
            &a->topic_partitions[a->topic_partitions_count++];
        t->topic_id = s->list[i].topic;
        t->partitions = arena_array(call->arena, run, sizeof(int32_t));
        if (t->partitions == NULL)
            return false;
        for (uint32_t k = 0; k < run; k++)
            t->partitions[t->partitions_count++] = s->list[i + k].index;
        i += run;
    }
    out->assignment = a;
    return true;
}

static void beat_answer(struct beat *b, const struct consumer *c, const struct part_set *before)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    struct consumer_group_heartbeat_response *out = b->call->response;
    const struct group_world *w = b->s->world;
    assert(c != NULL);
    consumer_group_heartbeat_response_init(out);
    out->member_id = call_string(b->call, c->id);
    out->member_epoch = c->epoch;
    out->heartbeat_interval_ms = w->setting(w->context, c->of->group->id, GROUP_HEARTBEAT_INTERVAL);
    bool full = r->rebalance_timeout_ms != -1 && r->topic_partitions_count >= 0 &&
                (r->subscribed_topic_names_count >= 0 || r->subscribed_topic_regex.size >= 0);
    if (r->member_epoch == 0 || full || !part_set_same(before, &c->assigned))
        (void)tell_assignment(b->call, &c->assigned); /* call_answered sees a full arena */
    call_answered(b->s, b->call);
}

/* ---- the step -------------------------------------------------------------------------------- */

/* What the member says it has. *to stays NULL if it does not say. */
static bool beat_owned(const struct consumer_group_heartbeat_request *r, struct arena *arena,
                       struct part_set *set, const struct part_set **to)
{
    size_t total = 0;
    *to = NULL;
    *set = (struct part_set){0};
    if (r->topic_partitions_count < 0)
        return true;
    for (int32_t i = 0; i < r->topic_partitions_count; i++)
        total += (uint32_t)MAX(r->topic_partitions[i].partitions_count, 0);
    set->list = arena_array(arena, total, sizeof(*set->list));
    if (set->list == NULL)
        return false;
    for (int32_t i = 0; i < r->topic_partitions_count; i++) {
        const struct consumer_group_heartbeat_request_topic_partitions *t = &r->topic_partitions[i];
        for (int32_t k = 0; k < t->partitions_count; k++)
            set->list[set->count++] =
                (struct part){.topic = t->topic_id, .index = t->partitions[k]};
    }
    part_set_order(set);
    *to = set;
    return true;
}

static bool beat_group(struct beat *b)
{
    b->error = KE_COORDINATOR_NOT_AVAILABLE;
    if (b->g == NULL) {
        b->g = shard_admit(b->s, b->request->group_id);
        return b->g != NULL && consumers_make(b->g) != NULL;
    }
    if (b->g->consumers != NULL)
        return true;
    b->error = convert_up(b->g);
    return b->error == KE_NONE;
}

/* Epoch 0 and above, and allowed. */
static enum kafka_error beat_step(struct beat *b, struct consumer **c, struct part_set *before)
{
    struct consumer_group *cg = b->g->consumers;
    struct arena *arena = &b->s->update.arena;
    struct part_set set;
    const struct part_set *owned;
    struct changes d;
    enum kafka_error error = beat_member(b, cg, c, &d);
    if (error != KE_NONE)
        return error;
    assert(*c != NULL); /* beat_check has let through only who is the member, or may become it */
    before->list =
        arena_copy(arena, (*c)->assigned.list, (*c)->assigned.count * sizeof(struct part));
    before->count = (*c)->assigned.count;
    if (before->list == NULL || !beat_owned(b->request, arena, &set, &owned))
        return KE_COORDINATOR_NOT_AVAILABLE;
    error = consumers_refresh(cg, d.topics || d.pattern_resolved);
    if (error == KE_NONE)
        error = consumers_target(cg);
    if (error == KE_NONE)
        error = consumer_reconcile(*c, owned, d.topics || d.pattern);
    consumers_maybe_resolve(cg, d.pattern_new);
    return error;
}

static void beat_goes_on(struct beat *b)
{
    struct consumer *c = NULL;
    struct part_set before = {0};
    bool made = b->g == NULL;
    if (!beat_group(b)) {
        beat_refused(b);
    } else {
        b->error = beat_step(b, &c, &before);
        if (c != NULL)
            consumer_beat(c);
        if (b->error == KE_NONE)
            beat_answer(b, c, &before);
        else
            beat_refused(b);
    }
    if (made && b->g != NULL && b->s->update.records_count == 0)
        shard_remove(b->g); /* nothing was put: no group came to be */
}

static void beat_leaves(struct beat *b)
{
    const struct consumer_group_heartbeat_request *r = b->request;
    struct consumer_group_heartbeat_response *out = b->call->response;
    struct consumer_group *cg = b->g->consumers;
    struct arena *arena = &b->s->update.arena;
    struct consumer *c = r->instance_id.size >= 0 ? consumer_static(cg, r->instance_id)
                                                  : consumer_find(cg, r->member_id);
    struct consumer_now now = {.epoch = CONSUMER_LEAVES_STATIC};
    assert(c != NULL);
    if (r->member_epoch == CONSUMER_LEAVES) {
        b->error = consumers_fence(cg, &c, 1);
    } else {
        now.previous_epoch = c->previous_epoch;
        now.state = c->state;
        now.assigned.list =
            arena_copy(arena, c->assigned.list, c->assigned.count * sizeof(struct part));
        now.assigned.count = now.assigned.list != NULL ? c->assigned.count : 0;
        for (uint32_t i = 0; i < now.assigned.count; i++)
            now.assigned.list[i].epoch = 0; /* whoever comes back has had them all along */
        b->error =
            now.assigned.list != NULL ? consumer_put_now(c, &now) : KE_COORDINATOR_NOT_AVAILABLE;
    }
    if (b->error != KE_NONE) {
        beat_refused(b);
        return;
    }
    consumer_group_heartbeat_response_init(out);
    out->member_id = r->member_id;
    out->member_epoch = r->member_epoch;
    call_answered(b->s, b->call);
}

/* Version 0 lets the broker make the id. */
static bool beat_name(struct beat *b)
{
    b->member_id = b->request->member_id;
    if (b->member_id.size > 0)
        return true;
    b->member_id = make_member_name(b->s, b->call->arena);
    b->error = KE_COORDINATOR_NOT_AVAILABLE;
    return b->member_id.size > 0;
}

void consumer_heartbeat(struct group_shard *s, struct group_call *call)
{
    struct beat b = {.s = s, .call = call, .request = call->request};
    b.g = shard_find(s, b.request->group_id);
    assert(b.request->member_epoch >= CONSUMER_LEAVES_STATIC); /* consumer_check */
    if (!beat_name(&b) || !beat_check(&b))
        beat_refused(&b);
    else if (b.request->member_epoch < 0)
        beat_leaves(&b);
    else
        beat_goes_on(&b);
}
