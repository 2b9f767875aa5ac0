/* Transactions, as a coordinator drives them: what broker/txn is asked, and the markers that end
 * transactions where they wrote.
 *
 *   PREPARE_* is durable ─▶ a marker to each partition (broker/txn_marker.h) ─▶ each durable?
 *        ▲                                                        │ all        │ no: those again,
 *        └── after every load, from the record                   ▼            │ after a rest
 *                                                    COMPLETE_* is written ◀───┘
 *
 * Invariants
 *  1. COMPLETE_* is made only when every marker is durable or its partition is gone. A crash before
 *     that leaves PREPARE_* in the log, and the load writes all markers again; a partition takes
 * the same marker twice without harm.
 *  2. Of one transaction one set of markers is under way at most (txn.away). It is freed when it is
 *     back; then the transaction is touched only if the coordinator is still active, as a shard
 * that has been closed has freed it.
 *
 * Failure modes: a partition that cannot take its marker now (its log is offline, a full disk, its
 * groups are loading) is tried again, for ever: until then the transaction stays in PREPARE_*,
 * which its producer sees as CONCURRENT_TRANSACTIONS. A partition that says that a later
 * transaction or coordinator was there already has nothing to end. */
#include "broker/coordinator_priv.h"

#include "broker/txn_marker.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/list_transactions.h"

#define SAY_AGAIN_NS (100 * NS_PER_MS)
#define FEATURE_TXN  "transaction.version"

struct ending { /* markers under way, or about to be */
    struct txn_markers markers;
    struct coordinator *of;
    struct txn *txn;
    size_t size;
    const struct txn_topic **topics; /* of each marker */
};

static bool ending_say(struct coordinator *c, struct txn *t);
static void ending_later(struct coordinator *c, struct txn *t, uint64_t rest_ns);

/* ---- the shard ------------------------------------------------------------------------------- */

static void txns_changed(struct txn_shard *s)
{
    coordinator_drain(s->context);
}

static void ending_go_on(struct coordinator *c, struct txn *t)
{
    if (!ending_say(c, t) && !txn_complete(t))
        ending_later(c, t, SAY_AGAIN_NS);
}

static void txns_say(struct timer *timer)
{
    struct coordinator *c = container_of(timer, struct coordinator, say);
    struct list again;
    struct list *l;
    list_init(&again);
    list_splice_back(&again, &c->unsaid);
    while ((l = list_pop_front(&again)) != NULL)
        ending_go_on(c, container_of(l, struct txn, ending.link));
    coordinator_drain(c);
}

static void txns_init(struct coordinator *c)
{
    struct data_core *core = c->core;
    c->txns = (struct txn_shard){.mem = &core->mem,
                                 .wheel = &core->wheel,
                                 .now_ns = io_now_pointer(core->io),
                                 .wall_ms = io_wall_pointer(core->io),
                                 .config = core->config,
                                 .changed = txns_changed,
                                 .context = c};
    txn_shard_init(&c->txns, io_random(core->io));
    list_init(&c->unsaid);
    timer_init(&c->say, txns_say);
    c->update = &c->txns.update;
}

static void txns_follow(struct coordinator *c)
{
    c->txns.batch_bytes_max = c->batch_bytes_max;
    c->txns.version = image_feature(&c->core->image, FEATURE_TXN);
}

static bool txns_replay(struct coordinator *c, int64_t offset, int64_t producer_id,
                        struct batch_field key, struct batch_field value)
{
    (void)offset;
    (void)producer_id;
    return txn_shard_replay(&c->txns, key, value);
}

static bool txns_replay_end(struct coordinator *c, int64_t producer_id, bool commit)
{
    (void)c; /* no transaction writes to this topic: somebody's marker means nothing here */
    (void)producer_id;
    (void)commit;
    return true;
}

static void txns_loaded(struct coordinator *c)
{
    txn_shard_loaded(&c->txns);
}

static void txns_step(struct coordinator *c, struct list *call)
{
    struct txn_item *item = container_of(call, struct txn_item, link);
    txn_shard_call(&c->txns, container_of(item, struct txn_call, item));
}

static void txns_topic_deleted(struct coordinator *c, struct wire_string topic)
{
    (void)c; /* its partitions are found to be gone when their transactions end */
    (void)topic;
}

static void txns_close(struct coordinator *c, enum kafka_error error)
{
    timer_cancel(&c->core->wheel, &c->say);
    txn_shard_close(&c->txns, error);
    assert(list_empty(&c->unsaid));
}

static void txns_refuse(struct coordinator *c, struct list *call, enum kafka_error error)
{
    struct txn_item *item = container_of(call, struct txn_item, link);
    (void)c; /* may be NULL: nobody is there */
    if (item->kind == TXN_ENDING)
        return; /* its record is not durable */
    struct txn_call *asked = container_of(item, struct txn_call, item);
    txn_call_refuse(asked, error);
    asked->answered(asked);
}

static void txns_answered(struct coordinator *c, struct list *call)
{
    struct txn_item *item = container_of(call, struct txn_item, link);
    if (item->kind == TXN_ENDING) {
        struct txn *t = container_of(item, struct txn, ending);
        if (!ending_say(c, t))
            ending_later(c, t, 0); /* answers are leaving: no step is made among them */
        return;
    }
    struct txn_call *asked = container_of(item, struct txn_call, item);
    asked->answered(asked);
}

const struct coordinator_kind coordinator_txns = {
    .topic = TXN_TOPIC,
    .things = "transactions",
    .init = txns_init,
    .follow = txns_follow,
    .replay = txns_replay,
    .replay_end = txns_replay_end,
    .loaded = txns_loaded,
    .step = txns_step,
    .topic_deleted = txns_topic_deleted,
    .close = txns_close,
    .refuse = txns_refuse,
    .answered = txns_answered,
};

/* ---- the markers ----------------------------------------------------------------------------- */

/* Later: in a step of its own, with what else could not be done now. */
static void ending_later(struct coordinator *c, struct txn *t, uint64_t rest_ns)
{
    SOMETIMES("a marker is sent again later");
    uint64_t due_ns = io_now_ns(c->core->io) + rest_ns;
    assert(list_empty(&t->ending.link));
    list_push_back(&c->unsaid, &t->ending.link);
    if (!timer_armed(&c->say) || c->say.due_ns > due_ns)
        timer_arm(&c->core->wheel, &c->say, due_ns);
}

static void ending_free(struct ending *e)
{
    mem_free(&e->of->core->mem, e, e->size);
}

/* NULL: no memory. Everything in it is zero but where its arrays are. */
static struct ending *ending_make(struct coordinator *c, struct txn *t)
{
    uint32_t cores = c->core->cores_count, count = t->partitions_count;
    size_t legs_at = sizeof(struct ending) + count * sizeof(struct txn_marker);
    size_t topics_at = legs_at + cores * sizeof(struct txn_marker_leg);
    size_t size = topics_at + count * sizeof(struct txn_topic *);
    uint8_t *bytes = mem_zalloc(&c->core->mem, size);
    struct ending *e = (struct ending *)(void *)bytes;
    if (e == NULL)
        return NULL;
    e->of = c;
    e->txn = t;
    e->size = size;
    e->markers.partitions = (struct txn_marker *)(void *)(bytes + sizeof(*e));
    e->markers.legs = (struct txn_marker_leg *)(void *)(bytes + legs_at);
    e->topics = (const struct txn_topic **)(void *)(bytes + topics_at);
    return e;
}

/* One marker for each partition that there is; the others have nothing to end. */
static void ending_address(struct ending *e)
{
    const struct image *image = &e->of->core->image;
    LIST_EACH(l, &e->txn->topics)
    {
        struct txn_topic *p = container_of(l, struct txn_topic, link);
        struct wire_string name = {p->name, (int32_t)p->name_size};
        const struct topic_image *topic = image_topic_by_name(image, p->name, p->name_size);
        for (uint32_t i = p->partitions_count; i-- > 0;) {
            int32_t partition = p->partitions[i];
            if (topic == NULL || topic_partition(topic, partition) == NULL) {
                txn_partition_ended(e->txn, name, partition);
                continue;
            }
            struct txn_marker *k = &e->markers.partitions[e->markers.partitions_count];
            k->topic_id = topic->id;
            k->partition = partition;
            e->topics[e->markers.partitions_count++] = p;
        }
    }
}

static void ending_came(struct txn_markers *m);

static void ending_send(struct ending *e)
{
    struct txn_markers *m = &e->markers;
    const struct txn_fields *now = &e->txn->now;
    m->producer_id = now->producer_id;
    m->producer_epoch = now->epoch;
    m->coordinator_epoch = e->of->leader_epoch;
    m->transaction_version = now->client_version;
    m->commit = now->state.now == TXN_PREPARE_COMMIT;
    m->may_repeat = true;
    m->done = ending_came;
    e->txn->away = true;
    e->of->lent++;
    txn_markers_send(e->of->core, m);
}

/* Its decision is durable, or was said and not everywhere heard. false: there is nobody to tell. */
static bool ending_say(struct coordinator *c, struct txn *t)
{
    assert(!t->away && coordinator_is(c, COORDINATOR_ACTIVE));
    struct ending *e = ending_make(c, t);
    if (e == NULL) {
        ending_later(c, t, SAY_AGAIN_NS);
        return true;
    }
    ending_address(e);
    if (e->markers.partitions_count == 0) {
        ending_free(e);
        return false;
    }
    ending_send(e);
    return true;
}

/* Has the partition nothing more to end? */
static bool marker_settled(struct coordinator *c, const struct txn *t, const struct txn_marker *k)
{
    switch (k->error) {
    case KE_NONE:
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
        return true;
    case KE_INVALID_PRODUCER_EPOCH:
    case KE_TRANSACTION_COORDINATOR_FENCED:
        trace_line(&c->core->trace, TRACE_API, TRACE_WARN,
                   "the marker of transactional id %.*s is of the past in partition %d: %s",
                   (int)t->id_size, t->id, k->partition, kafka_error_name(k->error));
        return true;
    default:
        return false;
    }
}

static void ending_came(struct txn_markers *m)
{
    struct ending *e = container_of(m, struct ending, markers);
    struct coordinator *c = e->of;
    struct txn *t = e->txn;
    bool active = coordinator_is(c, COORDINATOR_ACTIVE);
    for (uint32_t i = 0; active && i < m->partitions_count; i++) {
        const struct txn_topic *p = e->topics[i];
        if (marker_settled(c, t, &m->partitions[i]))
            txn_partition_ended(t, (struct wire_string){p->name, (int32_t)p->name_size},
                                m->partitions[i].partition);
    }
    ending_free(e);
    if (active) {
        t->away = false;
        if (t->partitions_count > 0 || !txn_complete(t))
            ending_later(c, t, SAY_AGAIN_NS);
        coordinator_drain(c);
    }
    coordinator_return(c);
}

/* ---- calls ----------------------------------------------------------------------------------- */

void coordinator_txn_call(struct data_core *core, struct uuid topic_id, int32_t partition,
                          struct txn_call *call)
{
    struct coordinator *c = coordinator_find(core, COORDINATOR_TXNS, topic_id, partition);
    coordinator_take(c, &coordinator_txns, &call->item.link);
}

void coordinators_list_txns(struct data_core *core, struct txn_call *call)
{
    const struct list_transactions_response *r = call->response;
    LIST_EACH(l, &core->coordinators->all)
    {
        struct coordinator *c = container_of(l, struct coordinator, link);
        if (c->kind != &coordinator_txns)
            continue;
        if (coordinator_is(c, COORDINATOR_LOADING)) {
            txn_call_refuse(call, KE_COORDINATOR_LOAD_IN_PROGRESS);
            break;
        }
        if (!coordinator_is(c, COORDINATOR_ACTIVE))
            continue; /* its transactions are not ours to list */
        txn_shard_call(&c->txns, call);
        list_remove(&call->item.link); /* out of update.answered: the next one goes on with it */
        if (r->error_code != KE_NONE)
            break;
    }
    call->answered(call);
}
