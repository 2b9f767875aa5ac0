/* Groups, as a coordinator drives them: what broker/group is asked, and in whose words.
 *
 * Invariants: a call is a struct group_call, lent by broker/api/group_ask.c until
 * group_call_answered. Failure modes: see coordinator.c. */
#include "broker/coordinator_priv.h"

#include "core/assert.h"
#include "proto/gen/list_groups.h"
#include "proto/gen/txn_offset_commit.h"

static uint64_t groups_random(void *context)
{
    struct coordinator *c = context;
    return io_random(c->core->io);
}

static void groups_changed(struct group_shard *s)
{
    coordinator_drain(s->context);
}

static void groups_init(struct coordinator *c)
{
    struct data_core *core = c->core;
    c->groups = (struct group_shard){.mem = &core->mem,
                                     .wheel = &core->wheel,
                                     .now_ns = io_now_pointer(core->io),
                                     .wall_ms = io_wall_pointer(core->io),
                                     .config = core->config,
                                     .world = &core->coordinators->world,
                                     .random = groups_random,
                                     .changed = groups_changed,
                                     .context = c};
    group_shard_init(&c->groups, io_random(core->io));
    c->update = &c->groups.update;
}

static void groups_follow(struct coordinator *c)
{
    c->groups.batch_bytes_max = c->batch_bytes_max;
}

static bool groups_replay(struct coordinator *c, int64_t offset, int64_t producer_id,
                          struct batch_field key, struct batch_field value)
{
    return group_shard_replay(&c->groups, offset, producer_id, key, value);
}

static bool groups_replay_end(struct coordinator *c, int64_t producer_id, bool commit)
{
    return group_shard_replay_end(&c->groups, producer_id, commit);
}

static void groups_loaded(struct coordinator *c)
{
    group_shard_loaded(&c->groups);
}

/* Is the transaction open in this partition? Else its coordinator must be asked first, unless that
 * is switched off and the client does not rely on being added. false: answered. */
static bool groups_txn_open(struct coordinator *c, struct group_call *call)
{
    const struct txn_offset_commit_request *r = call->request;
    struct log *l = log_find(c->core->logs, c->topic_id, c->partition);
    uint64_t guard = call->txn_guard;
    bool adds = call->version >= 5;
    bool asks =
        !call->verified && (adds || c->core->config->transaction_partition_verification_enable);
    call->unverified = false;
    enum kafka_error error = l == NULL ? KE_NOT_COORDINATOR : KE_NONE;
    if (r->producer_id < 0 || r->producer_epoch < 0)
        error = KE_INVALID_PRODUCER_ID_MAPPING; /* nobody is such a producer */
    if (error == KE_NONE && asks &&
        !log_txn_begin(l, r->producer_id, r->producer_epoch, 0, adds, &guard))
        error = KE_COORDINATOR_NOT_AVAILABLE;
    call->txn_guard = guard;
    call->unverified = error == KE_NONE && asks && guard != 0;
    if (error == KE_NONE && !call->unverified)
        error = log_txn_check(l, r->producer_id, r->producer_epoch, guard);
    if (error != KE_NONE)
        group_call_refuse(call, error);
    return error == KE_NONE && !call->unverified;
}

static void groups_step(struct coordinator *c, struct list *link)
{
    struct group_call *call = container_of(link, struct group_call, link);
    if (call->kind == GROUP_TXN_COMMIT && !groups_txn_open(c, call))
        list_push_back(&c->update->answered, &call->link);
    else
        group_shard_call(&c->groups, call);
}

static void groups_topic_changed(struct coordinator *c, struct wire_string topic, bool created)
{
    group_shard_topic_changed(&c->groups, topic, created);
}

static void groups_topic_deleted(struct coordinator *c, struct wire_string topic)
{
    group_shard_topic_deleted(&c->groups, topic, 0);
}

static void groups_close(struct coordinator *c, enum kafka_error error)
{
    group_shard_close(&c->groups, error);
}

static void groups_refuse(struct coordinator *c, struct list *call, enum kafka_error error)
{
    (void)c; /* may be NULL: nobody is there */
    group_call_refuse(container_of(call, struct group_call, link), error);
    group_call_answered(container_of(call, struct group_call, link));
}

static void groups_answered(struct coordinator *c, struct list *call)
{
    (void)c;
    group_call_answered(container_of(call, struct group_call, link));
}

const struct coordinator_kind coordinator_groups = {
    .topic = GROUP_TOPIC,
    .things = "groups",
    .init = groups_init,
    .follow = groups_follow,
    .replay = groups_replay,
    .replay_end = groups_replay_end,
    .loaded = groups_loaded,
    .step = groups_step,
    .topic_changed = groups_topic_changed,
    .topic_deleted = groups_topic_deleted,
    .close = groups_close,
    .refuse = groups_refuse,
    .answered = groups_answered,
};

/* ---- calls ----------------------------------------------------------------------------------- */

void coordinator_call(struct data_core *core, struct uuid topic_id, int32_t partition,
                      struct group_call *call)
{
    struct coordinator *c = coordinator_find(core, COORDINATOR_GROUPS, topic_id, partition);
    coordinator_take(c, &coordinator_groups, &call->link);
}

void coordinators_list(struct data_core *core, struct group_call *call)
{
    const struct list_groups_response *r = call->response;
    LIST_EACH(l, &core->coordinators->all)
    {
        struct coordinator *c = container_of(l, struct coordinator, link);
        if (c->kind != &coordinator_groups)
            continue;
        if (coordinator_is(c, COORDINATOR_LOADING)) {
            group_call_refuse(call, KE_COORDINATOR_LOAD_IN_PROGRESS);
            break;
        }
        if (!coordinator_is(c, COORDINATOR_ACTIVE))
            continue; /* its groups are not ours to list */
        group_shard_call(&c->groups, call);
        list_remove(&call->link); /* out of update.answered: the next one goes on with it */
        if (r->error_code != KE_NONE)
            break;
    }
    group_call_answered(call);
}

void coordinator_abandon(struct data_core *core, struct uuid topic_id, int32_t partition,
                         struct group_call *call)
{
    struct coordinator *c = coordinator_find(core, COORDINATOR_GROUPS, topic_id, partition);
    if (c == NULL || !coordinator_is(c, COORDINATOR_ACTIVE))
        return;
    group_shard_abandon(&c->groups, call);
    coordinator_drain(c);
}
