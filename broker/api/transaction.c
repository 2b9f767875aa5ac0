/* InitProducerId with a transactional id, AddPartitionsToTxn, AddOffsetsToTxn and EndTxn (keys 22,
 * 24 to 26): decoded here, decided by the coordinator of the id (broker/txn), answered here.
 *
 *   ask ─▶ coordinator ─▶ answer
 *    ▲        └ a producer id that nobody had is needed ─▶ one is taken ─┐
 *    └───────────────────────────────────────────────────────────────────┘
 *
 * Invariants: who asks again has an id to give, so an ask goes out twice at most; an id that is not
 * needed then is skipped.
 *
 * Failure modes: no ids to be had now: COORDINATOR_LOAD_IN_PROGRESS, as from Kafka, retried. */
#include "broker/api/transaction.h"

#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/api/producer_id.h"
#include "broker/data_core.h"
#include "broker/txn_ask.h"
#include "proto/gen/add_offsets_to_txn.h"
#include "proto/gen/add_partitions_to_txn.h"
#include "proto/gen/end_txn.h"

#define ADD_BY_BROKERS   4 /* AddPartitionsToTxn: from this version on of several, and of others */
#define ADD_KNOWS_FENCED 2 /* from this version on PRODUCER_FENCED is understood */
#define VERSION_BUMPS    2 /* transaction.version of those who ask in ADD_BY_BROKERS */

/* ---- one call -------------------------------------------------------------------------------- */

struct single {
    struct flow *flow;
    struct wire_string id;
    struct group_item item;
    void (*answer)(struct single *s);
};

static void single_ask(struct single *s, int64_t spare_id);

static void single_id_came(struct flow *f, int64_t id)
{
    struct group_ask *a = f->state;
    struct single *s = a->state;
    if (id >= 0) {
        single_ask(s, id);
        return;
    }
    txn_call_refuse(&s->item.txn, KE_COORDINATOR_LOAD_IN_PROGRESS);
    s->answer(s);
}

static void single_came(struct group_ask *a)
{
    struct single *s = a->state;
    if (s->item.txn.wants_id && s->item.txn.spare_id < 0)
        producer_id_take(s->flow, single_id_came);
    else
        s->answer(s);
}

static void single_ask(struct single *s, int64_t spare_id)
{
    struct group_ask *a = group_ask_make(s->flow, single_came, s);
    if (a == NULL)
        return;
    s->item.txn.spare_id = spare_id;
    group_ask_add_txn(a, &s->item, s->id);
    group_ask_run(a);
}

static void single_begin(struct single *s, struct flow *f, enum txn_kind kind,
                         struct wire_string id, const void *request, void *response)
{
    s->flow = f;
    s->id = id;
    s->item.txn.item.kind = kind;
    s->item.txn.request = request;
    s->item.txn.response = response;
    single_ask(s, -1);
}

/* ---- InitProducerId -------------------------------------------------------------------------- */

struct init {
    struct single single;
    struct init_producer_id_response response;
};

static void init_answer(struct single *s)
{
    struct init *i = container_of(s, struct init, single);
    FLOW_ANSWER(s->flow, &i->response, init_producer_id_response);
}

void transaction_init(struct flow *f, const struct init_producer_id_request *q)
{
    struct init *i = arena_array(&f->arena, 1, sizeof(*i));
    if (i == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    i->single.answer = init_answer;
    single_begin(&i->single, f, TXN_INIT, q->transactional_id, q, &i->response);
}

/* ---- EndTxn ---------------------------------------------------------------------------------- */

struct end {
    struct single single;
    struct end_txn_request request;
    struct end_txn_response response;
};

static void end_answer(struct single *s)
{
    struct end *e = container_of(s, struct end, single);
    FLOW_ANSWER(s->flow, &e->response, end_txn_response);
}

void end_txn_start(struct flow *f, struct wire_reader *body)
{
    struct end *e = arena_array(&f->arena, 1, sizeof(*e));
    if (e == NULL || !FLOW_DECODE(f, end_txn, &e->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    e->single.answer = end_answer;
    single_begin(&e->single, f, TXN_END, e->request.transactional_id, &e->request, &e->response);
}

/* ---- AddOffsetsToTxn ------------------------------------------------------------------------- */

struct offsets {
    struct single single;
    struct add_offsets_to_txn_request request;
    struct txn_add add;
    struct txn_ask_partition partition;
};

static int16_t worded(const struct flow *f, enum kafka_error error)
{
    bool old = error == KE_PRODUCER_FENCED && f->api_version < ADD_KNOWS_FENCED;
    return old ? KE_INVALID_PRODUCER_EPOCH : (int16_t)error;
}

static void offsets_answer(struct single *s)
{
    struct offsets *o = container_of(s, struct offsets, single);
    struct add_offsets_to_txn_response r;
    add_offsets_to_txn_response_init(&r);
    r.error_code = worded(s->flow, o->partition.error);
    FLOW_ANSWER(s->flow, &r, add_offsets_to_txn_response);
}

void add_offsets_to_txn_start(struct flow *f, struct wire_reader *body)
{
    struct offsets *o = arena_array(&f->arena, 1, sizeof(*o));
    if (o == NULL || !FLOW_DECODE(f, add_offsets_to_txn, &o->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    const struct topic_image *t =
        image_topic_by_name(&f->core->image, GROUP_TOPIC, sizeof(GROUP_TOPIC) - 1);
    uint32_t count =
        t != NULL ? t->partitions_count : (uint32_t)f->core->config->offsets_topic_num_partitions;
    o->partition.topic = wire_string_of(GROUP_TOPIC);
    o->partition.partition = group_partition(o->request.group_id, count);
    o->add = (struct txn_add){.id = o->request.transactional_id,
                              .producer_id = o->request.producer_id,
                              .epoch = o->request.producer_epoch,
                              .partitions = &o->partition,
                              .partitions_count = 1};
    o->single.answer = offsets_answer;
    single_begin(&o->single, f, TXN_ADD, o->add.id, &o->add, NULL);
}

/* ---- AddPartitionsToTxn ---------------------------------------------------------------------- */

#define ADD_TOPIC       add_partitions_to_txn_request_add_partitions_to_txn_topic
#define ADD_TRANSACTION add_partitions_to_txn_request_add_partitions_to_txn_transaction
#define ADDED_TOPIC     add_partitions_to_txn_response_add_partitions_to_txn_topic_result
#define ADDED_PARTITION add_partitions_to_txn_response_add_partitions_to_txn_partition_result
#define ADDED           add_partitions_to_txn_response_add_partitions_to_txn_result

struct adding { /* to one transaction */
    const struct ADD_TRANSACTION *asked;
    struct group_item item;
    struct txn_add add;
};

struct additions {
    struct flow *flow;
    struct add_partitions_to_txn_request request;
    struct add_partitions_to_txn_response response;
    struct ADD_TRANSACTION one; /* what old versions ask for */
    struct adding *all;
    uint32_t count;
};

/* The answers, in the order of the request. */
static bool adding_tell(struct flow *f, const struct adding *d, struct ADDED_TOPIC **topics,
                        int32_t *topics_count)
{
    const struct ADD_TRANSACTION *q = d->asked;
    const struct txn_ask_partition *from = d->add.partitions;
    *topics_count = MAX(q->topics_count, 0);
    *topics = arena_array(&f->arena, (size_t)*topics_count, sizeof(**topics));
    for (int32_t i = 0; *topics != NULL && i < *topics_count; i++) {
        struct ADDED_TOPIC *t = &(*topics)[i];
        t->name = q->topics[i].name;
        t->results_by_partition_count = MAX(q->topics[i].partitions_count, 0);
        t->results_by_partition = arena_array(&f->arena, (size_t)t->results_by_partition_count,
                                              sizeof(*t->results_by_partition));
        if (t->results_by_partition == NULL)
            return false;
        for (int32_t j = 0; j < t->results_by_partition_count; j++, from++) {
            t->results_by_partition[j] = (struct ADDED_PARTITION){
                .partition_index = from->partition, .partition_error_code = worded(f, from->error)};
        }
    }
    return *topics != NULL;
}

static bool additions_tell(struct additions *s)
{
    struct add_partitions_to_txn_response *r = &s->response;
    if (s->flow->api_version < ADD_BY_BROKERS)
        return adding_tell(s->flow, &s->all[0], &r->results_by_topic_v3_and_below,
                           &r->results_by_topic_v3_and_below_count);
    r->results_by_transaction =
        arena_array(&s->flow->arena, s->count, sizeof(*r->results_by_transaction));
    for (uint32_t i = 0; r->results_by_transaction != NULL && i < s->count; i++) {
        struct ADDED *to = &r->results_by_transaction[r->results_by_transaction_count++];
        to->transactional_id = s->all[i].asked->transactional_id;
        if (!adding_tell(s->flow, &s->all[i], &to->topic_results, &to->topic_results_count))
            return false;
    }
    return r->results_by_transaction != NULL;
}

static void additions_answer(struct group_ask *a)
{
    struct additions *s = a->state;
    if (additions_tell(s))
        FLOW_ANSWER(s->flow, &s->response, add_partitions_to_txn_response);
    else
        flow_refuse(s->flow, "no memory");
}

/* The partitions in one row. false: no memory. *known: all of them exist; else nothing is asked,
 * and each has its error. */
static bool adding_fill(struct flow *f, struct adding *d, bool *known)
{
    const struct ADD_TRANSACTION *q = d->asked;
    uint64_t count = 0;
    for (int32_t i = 0; i < q->topics_count; i++)
        count += (uint32_t)MAX(q->topics[i].partitions_count, 0);
    d->add.partitions = arena_array(&f->arena, count, sizeof(*d->add.partitions));
    if (d->add.partitions == NULL)
        return false;
    *known = true;
    for (int32_t i = 0; i < q->topics_count; i++) {
        const struct ADD_TOPIC *from = &q->topics[i];
        const struct topic_image *t =
            image_topic_by_name(&f->core->image, from->name.data, (uint32_t)from->name.size);
        for (int32_t j = 0; j < from->partitions_count; j++) {
            struct txn_ask_partition *p = &d->add.partitions[d->add.partitions_count++];
            bool there = t != NULL && topic_partition(t, from->partitions[j]) != NULL;
            p->topic = from->name;
            p->partition = from->partitions[j];
            p->error = there ? KE_OPERATION_NOT_ATTEMPTED : KE_UNKNOWN_TOPIC_OR_PARTITION;
            *known = *known && there;
        }
    }
    return true;
}

static bool additions_add(struct additions *s, struct group_ask *a, uint32_t at,
                          const struct ADD_TRANSACTION *q)
{
    bool known;
    struct adding *d = &s->all[at];
    d->asked = q;
    if (!adding_fill(s->flow, d, &known))
        return false;
    if (!known)
        return true;
    bool broker = s->flow->api_version >= ADD_BY_BROKERS;
    d->add.id = q->transactional_id;
    d->add.producer_id = q->producer_id;
    d->add.epoch = q->producer_epoch;
    d->add.client_version = broker ? VERSION_BUMPS : 0;
    d->add.verify_only = broker && q->verify_only;
    d->item.txn.item.kind = TXN_ADD;
    d->item.txn.request = &d->add;
    d->item.txn.spare_id = -1;
    group_ask_add_txn(a, &d->item, d->add.id);
    return true;
}

static const struct ADD_TRANSACTION *additions_asked(struct additions *s, uint32_t at)
{
    const struct add_partitions_to_txn_request *q = &s->request;
    if (s->flow->api_version >= ADD_BY_BROKERS)
        return &q->transactions[at];
    s->one = (struct ADD_TRANSACTION){.transactional_id = q->v3_and_below_transactional_id,
                                      .producer_id = q->v3_and_below_producer_id,
                                      .producer_epoch = q->v3_and_below_producer_epoch,
                                      .topics = q->v3_and_below_topics,
                                      .topics_count = q->v3_and_below_topics_count};
    return &s->one;
}

void add_partitions_to_txn_start(struct flow *f, struct wire_reader *body)
{
    struct additions *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, add_partitions_to_txn, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    s->flow = f;
    s->count =
        f->api_version < ADD_BY_BROKERS ? 1 : (uint32_t)MAX(s->request.transactions_count, 0);
    add_partitions_to_txn_response_init(&s->response);
    struct group_ask *a = group_ask_make(f, additions_answer, s);
    if (a == NULL)
        return;
    s->all = arena_array(&f->arena, s->count, sizeof(*s->all));
    bool made = s->all != NULL;
    for (uint32_t i = 0; made && i < s->count; i++)
        made = additions_add(s, a, i, additions_asked(s, i));
    if (made)
        group_ask_run(a);
    else
        flow_refuse(f, "no memory");
}
