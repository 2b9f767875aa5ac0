/* Produce (key 0): batches in, offsets out, when they are on disk.
 *
 *   home core    START ─ split by owner ─▶ AWAIT_LEGS ─────────────────────────────▶ answer
 *   owner core         └▶ ADMIT ─▶ (AWAIT_ROOM) ─▶ AWAIT_DURABLE ─────────────────┘
 *
 * The first batch of a transaction in a partition (KIP-890): its owner sends the leg home as it is,
 * with a guard for each such batch; home asks the transaction's coordinator about all of them at
 * once (txn_ask.h), and sends those that it lets pass again:
 *
 *   leg ─▶ owner: is it open here? ─ yes ─▶ ADMIT
 *                    └ no ─▶ home ─▶ coordinator ─▶ home ─▶ owner: ADMIT, with the guards
 *                              ▲ busy with the last one, and the client adds: soon again ◀┘
 *
 * A leg is what one owner core must do for this request: home lends it, the owner returns it. The
 * records stay in the request's frame at home; the owner reads them there once, while admitting,
 * and copies them into its log memory.
 *
 * Invariants
 *  1. A partition is answered with no error only when its batch is as durable as its topic asks
 *     (log_append's done). acks=1 waits for the same: an ack means it is on disk.
 *  2. Legs of one connection reach an owner in request order and are admitted in that order: a leg
 *     waits for room, with what is left of it, behind those that wait already.
 *  3. The frame is not freed while a leg is away: the flow is answered after the last one is home.
 *  4. A leg with a batch that must be verified appends nothing before all of it is decided, and
 *     later legs of the same producer wait at the owner till it has been admitted: so batches stay
 *     in the order in which they were sent, also when requests are pipelined.
 *
 * Failure modes: per partition, Kafka's code. acks=0 with any error closes the connection, the only
 * sign such a producer can see (KafkaApis.handleProduceRequest). */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "broker/step.h"
#include "broker/txn_ask.h"
#include "core/lab.h"
#include "proto/batch.h"
#include "proto/gen/produce.h"

/* How soon and how long a coordinator that is busy with the producer's last transaction is asked
 * again, before the client is told so (add.partitions.to.txn.retry.backoff.max.ms). */
#define TXN_RETRY_FIRST_NS (1 * NS_PER_MS)
#define TXN_RETRY_LAST_NS  (20 * NS_PER_MS)
#define TXN_RETRY_TIME_NS  (100 * NS_PER_MS)

struct produce_part {
    struct log_append append;
    struct produce_leg *leg;
    struct produce_part *next; /* of the same leg */
    struct uuid topic_id;
    int32_t partition;
    bool txn;     /* a transactional batch: that the transaction is open is checked */
    bool refused; /* answered before it came to the log */
    bool unknown; /* and that for good */
    int32_t base_sequence;
    struct produce_response_partition_produce_response *out;
};

/* What a request in a transaction has beside. */
struct produce_txn {
    struct txn_ask ask; /* id, producer id and epoch are set by the first transactional batch */
    struct produce_part **asked;
    struct produce *produce;
    struct timer timer;
    uint64_t until_ns, wait_ns;
    bool found, mixed; /* a transactional batch; more than one producer */
};

struct produce_leg {
    struct msg msg;
    struct produce *produce; /* home's; the owner reads nothing of it but what never changes */
    struct data_core *owner; /* set by the owner when it arrives */
    struct produce_part *parts, **last;
    struct produce_part *next; /* owner: the part to admit next */
    struct list waiter;        /* owner: data_core.room_waiters */
    uint32_t pending;          /* owner: parts not durable yet */
    uint32_t unverified;       /* owner: transactions to be asked for; then nothing was appended */
    bool used;
    bool checks; /* home: it has transactional batches that are not verified */
    bool asked;  /* owner: it has been home for that, and others of its producer wait for it */
};

/* A producer whose first batch of a transaction is being verified, on the owner of its partition.
 */
struct produce_hold {
    struct list link; /* data_core.txn_holds */
    int64_t producer_id;
    struct list legs; /* that wait, in order, by `waiter` */
};

struct produce {
    struct flow *flow;
    struct produce_request request;
    struct produce_response response;
    uint32_t cores_count;
    uint32_t legs_away;
    bool admin_client, authorized;
    int16_t version;
    struct produce_txn *txn; /* NULL: no transactional id */
    struct produce_leg legs[];
};

static void produce_answer(struct produce *p);

/* ---- home: decode and split ------------------------------------------------------------------ */

static void part_refuse(struct produce_response_partition_produce_response *out,
                        enum kafka_error error, const char *message)
{
    out->error_code = (int16_t)error;
    out->base_offset = -1;
    out->log_append_time_ms = -1;
    out->log_start_offset = -1;
    out->error_message = wire_string_of(message);
}

static bool part_transactional(const struct wire_records *r)
{
    struct batch_header h;
    return r->size > 0 && batch_peek(r->data, (uint32_t)r->size, &h) == BATCH_WHOLE &&
           batch_has(&h, BATCH_TRANSACTIONAL);
}

/* A transactional batch in a request without transactional id: the whole request is refused. */
static bool produce_authorized(const struct produce *p)
{
    if (p->request.transactional_id.size >= 0)
        return true;
    for (int32_t i = 0; i < p->request.topic_data_count; i++) {
        const struct produce_request_topic_produce_data *t = &p->request.topic_data[i];
        for (int32_t j = 0; j < t->partition_data_count; j++) {
            if (part_transactional(&t->partition_data[j].records))
                return false;
        }
    }
    return true;
}

/* Whose transaction the request is in, and that it is one. */
static void part_look(struct produce *p, const struct wire_records *r, struct produce_part *part)
{
    struct produce_txn *t = p->txn;
    struct batch_header h;
    if (t == NULL || r->size <= 0 || batch_peek(r->data, (uint32_t)r->size, &h) != BATCH_WHOLE ||
        !batch_has(&h, BATCH_TRANSACTIONAL) || h.producer_id < 0)
        return;
    t->mixed |= t->found &&
                (t->ask.producer_id != h.producer_id || t->ask.producer_epoch != h.producer_epoch);
    t->found = true;
    t->ask.producer_id = h.producer_id;
    t->ask.producer_epoch = h.producer_epoch;
    part->base_sequence = h.base_sequence;
    part->txn = t->ask.add || p->flow->core->config->transaction_partition_verification_enable;
}

/* What can be said without the owner. KE_NONE: the owner must look at it. */
static enum kafka_error part_check(const struct produce *p, const struct topic_image *topic,
                                   const struct produce_request_partition_produce_data *in)
{
    if (!p->authorized)
        return KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if (topic == NULL)
        return p->version >= 13 ? KE_UNKNOWN_TOPIC_ID : KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (topic_partition(topic, in->index) == NULL)
        return KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (p->request.acks < -1 || p->request.acks > 1)
        return KE_INVALID_REQUIRED_ACKS;
    if (topic->internal && !p->admin_client)
        return KE_INVALID_TOPIC_EXCEPTION;
    return KE_NONE;
}

static void produce_add(struct produce *p, const struct topic_image *topic,
                        const struct produce_request_partition_produce_data *in,
                        struct produce_part *part)
{
    struct core_id owner = partition_owner(topic->id, in->index, p->cores_count);
    struct produce_leg *leg = &p->legs[owner.index];
    part->leg = leg;
    part->topic_id = topic->id;
    part->partition = in->index;
    part->append.records = (uint8_t *)(uintptr_t)in->records.data; /* the frame is ours */
    part->append.records_size = in->records.size < 0 ? 0 : (uint32_t)in->records.size;
    part->append.produce_version = p->version;
    part->append.admin_client = p->admin_client;
    if (!leg->used) {
        leg->used = true;
        leg->msg.home = p->flow->core->id;
        leg->msg.kind = MSG_PRODUCE;
        leg->msg.trip = flow_leg(p->flow);
        list_init(&leg->waiter);
        leg->produce = p;
        leg->last = &leg->parts;
    }
    part_look(p, &in->records, part);
    leg->checks |= part->txn;
    *leg->last = part;
    leg->last = &part->next;
}

static const struct topic_image *produce_topic(const struct produce *p,
                                               const struct produce_request_topic_produce_data *t)
{
    const struct image *image = &p->flow->core->image;
    if (p->version >= 13)
        return image_topic_by_id(image, t->topic_id);
    return image_topic_by_name(image, t->name.data, (uint32_t)t->name.size);
}

/* One answer entry per request entry, in order. false: no memory. */
static bool produce_split_topic(struct produce *p,
                                const struct produce_request_topic_produce_data *in,
                                struct produce_response_topic_produce_response *out)
{
    struct arena *arena = &p->flow->arena;
    const struct topic_image *topic = produce_topic(p, in);
    uint32_t count = (uint32_t)MAX(in->partition_data_count, 0);
    out->name = in->name;
    out->topic_id = in->topic_id;
    out->partition_responses_count = (int32_t)count;
    out->partition_responses = arena_array(arena, count, sizeof(*out->partition_responses));
    struct produce_part *parts = arena_array(arena, count, sizeof(*parts));
    if (out->partition_responses == NULL || parts == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct produce_response_partition_produce_response *o = &out->partition_responses[i];
        produce_response_partition_produce_response_init(o);
        o->index = in->partition_data[i].index;
        enum kafka_error error = part_check(p, topic, &in->partition_data[i]);
        parts[i].out = o;
        if (error != KE_NONE)
            part_refuse(o, error, NULL);
        else
            produce_add(p, topic, &in->partition_data[i], &parts[i]);
    }
    return true;
}

static bool produce_split(struct produce *p)
{
    uint32_t count = (uint32_t)MAX(p->request.topic_data_count, 0);
    produce_response_init(&p->response);
    p->response.responses_count = (int32_t)count;
    p->response.responses = arena_array(&p->flow->arena, count, sizeof(*p->response.responses));
    if (p->response.responses == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        produce_response_topic_produce_response_init(&p->response.responses[i]);
        if (!produce_split_topic(p, &p->request.topic_data[i], &p->response.responses[i]))
            return false;
    }
    return true;
}

static void txn_retry(struct timer *t);
static void txn_answered(struct txn_ask *ask);

/* false: no memory. */
static bool produce_txn_make(struct produce *p)
{
    if (p->request.transactional_id.size < 0)
        return true;
    struct produce_txn *t = p->txn = arena_array(&p->flow->arena, 1, sizeof(*t));
    if (t == NULL)
        return false;
    t->produce = p;
    t->ask.transactional_id = p->request.transactional_id;
    t->ask.add = p->version >= 12;
    t->ask.done = txn_answered;
    t->ask.msg.trip = flow_leg(p->flow);
    t->wait_ns = TXN_RETRY_FIRST_NS;
    t->until_ns = io_now_ns(p->flow->core->io) + TXN_RETRY_TIME_NS;
    timer_init(&t->timer, txn_retry);
    return true;
}

/* More than one producer in one request: as a whole it is none's. */
static void produce_refuse_mixed(struct produce *p)
{
    SOMETIMES("one request is of several producers");
    for (int32_t i = 0; i < p->response.responses_count; i++) {
        struct produce_response_topic_produce_response *t = &p->response.responses[i];
        for (int32_t j = 0; j < t->partition_responses_count; j++)
            part_refuse(&t->partition_responses[j], KE_INVALID_PRODUCER_ID_MAPPING, NULL);
    }
    for (uint16_t i = 0; i < p->cores_count; i++)
        p->legs[i].used = false;
}

static void legs_send(struct produce *p, bool unverified)
{
    struct data_core *core = p->flow->core;
    for (uint16_t i = 0; i < p->cores_count; i++)
        p->legs_away += p->legs[i].used && (!unverified || p->legs[i].unverified > 0);
    for (uint16_t i = 0; i < p->cores_count; i++) {
        struct produce_leg *leg = &p->legs[i];
        if (!leg->used || (unverified && leg->unverified == 0))
            continue;
        leg->msg.kind = MSG_PRODUCE;
        mail_send(&core->mail, (struct core_id){i}, &leg->msg);
    }
}

void produce_start(struct flow *f, struct wire_reader *body)
{
    struct data_core *core = f->core;
    assert(core_same(core_self(), core->id));
    struct produce *p =
        arena_array(&f->arena, 1, sizeof(*p) + core->cores_count * sizeof(struct produce_leg));
    if (p == NULL || !FLOW_DECODE(f, produce, &p->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    f->state = p;
    p->flow = f;
    p->version = f->api_version;
    p->cores_count = core->cores_count;
    p->admin_client = wire_string_equal(f->client_id, wire_string_of("__admin_client"));
    p->authorized = produce_authorized(p);
    if (!produce_txn_make(p) || !produce_split(p)) {
        flow_refuse(f, "no memory");
        return;
    }
    if (p->txn != NULL && p->txn->mixed)
        produce_refuse_mixed(p);
    legs_send(p, false);
    if (p->legs_away == 0)
        produce_answer(p);
}

/* ---- owner: admit and wait ------------------------------------------------------------------- */

static void leg_return(struct data_core *core, struct produce_leg *leg)
{
    assert(leg->pending == 0);
    leg->msg.kind = MSG_PRODUCE_HOME;
    mail_send(&core->mail, leg->msg.home, &leg->msg);
}

static void part_done(struct log_append *a)
{
    struct produce_part *part = container_of(a, struct produce_part, append);
    struct produce_leg *leg = part->leg;
    struct data_core *core = leg->owner;
    assert(leg->pending > 0);
    leg->pending--;
    if (leg->pending > 0)
        return;
    trip_note_at(leg->msg.trip, &core->board, TRIP_PUBLISH, io_now_ns(core->io));
    leg_return(core, leg);
}

/* One part after the other while there is room: all of a large request may be more than the log's
 * memory holds. false: the rest waits. What would be refused does not wait: on a full disk there
 * may be no room for as long as there is no space. */
static bool leg_admit(struct data_core *core, struct produce_leg *leg)
{
    assert(leg->pending > 0);
    while (leg->next != NULL) {
        struct produce_part *part = leg->next;
        struct log *l = log_find(core->logs, part->topic_id, part->partition);
        if (!log_core_has_room(core->logs) && l != NULL && log_takes_records(l)) {
            SOMETIMES("a produce waits for room in the log");
            return false;
        }
        leg->next = part->next;
        if (part->unknown && l != NULL)
            log_txn_forget(l, leg->produce->txn->ask.producer_id, part->append.txn_guard);
        if (part->refused)
            continue;
        part->append.done = part_done;
        part->append.trip = leg->msg.trip;
        if (l == NULL) { /* deleted since home looked */
            part->append.error = KE_UNKNOWN_TOPIC_OR_PARTITION;
            part->append.base_offset = -1;
            continue;
        }
        if (log_append(l, &part->append))
            leg->pending++;
    }
    leg->pending--;
    if (leg->pending == 0)
        leg_return(core, leg);
    else
        trip_move(leg->msg.trip, &core->board, TRIP_WAIT);
    return true;
}

/* ---- owner: one at a time ------------------------------------------------------------------- */

static struct produce_hold *hold_find(const struct data_core *core, int64_t producer_id)
{
    LIST_EACH(l, &core->txn_holds)
    {
        struct produce_hold *h = container_of(l, struct produce_hold, link);
        if (h->producer_id == producer_id)
            return h;
    }
    return NULL;
}

/* Without memory nobody waits: then the log may find later batches out of order, and clients send
 * them again. */
static void hold_make(struct data_core *core, int64_t producer_id)
{
    SOMETIMES("a batch waits at its owner");
    struct produce_hold *h = mem_alloc(&core->mem, sizeof(*h));
    if (h == NULL)
        return;
    h->producer_id = producer_id;
    list_init(&h->legs);
    list_init(&h->link);
    list_push_back(&core->txn_holds, &h->link);
}

static bool leg_verify(struct data_core *core, struct produce_leg *leg);
static void leg_begin(struct data_core *core, struct produce_leg *leg);

/* The one that they waited for has been admitted: so are they, up to the next one that must be
 * verified itself. */
static void hold_release(struct data_core *core, int64_t producer_id)
{
    struct produce_hold *h = hold_find(core, producer_id);
    while (h != NULL && !list_empty(&h->legs)) {
        struct list *l = list_pop_front(&h->legs);
        struct produce_leg *leg = container_of(l, struct produce_leg, waiter);
        if (!leg_verify(core, leg))
            return; /* it has gone home, and the rest waits for it now */
        leg_begin(core, leg);
    }
    if (h == NULL)
        return;
    list_remove(&h->link);
    mem_free(&core->mem, h, sizeof(*h));
}

/* Counts the transactions that are not open where they write. Who is verified keeps its guard. */
static void leg_check(struct data_core *core, struct produce_leg *leg)
{
    assert(leg->checks);
    assert(leg->produce->txn != NULL);
    const struct txn_ask *ask = &leg->produce->txn->ask;
    leg->unverified = 0;
    for (struct produce_part *part = leg->parts; part != NULL; part = part->next) {
        struct log *l = log_find(core->logs, part->topic_id, part->partition);
        part->append.txn_guard = 0;
        if (!part->txn || l == NULL)
            continue;
        if (!log_txn_begin(l, ask->producer_id, ask->producer_epoch, part->base_sequence, ask->add,
                           &part->append.txn_guard))
            part->append.txn_guard = 0; /* without memory the log says that nobody verified it */
        leg->unverified += part->append.txn_guard != 0;
    }
}

/* false: some of it must be verified, it has gone home. */
static bool leg_verify(struct data_core *core, struct produce_leg *leg)
{
    if (!leg->checks)
        return true;
    leg_check(core, leg);
    if (leg->unverified == 0)
        return true;
    leg->asked = true;
    leg_return(core, leg);
    return false;
}

static void leg_begin(struct data_core *core, struct produce_leg *leg)
{
    leg->next = leg->parts;
    leg->pending = 1; /* ours, so that nothing completes the leg before all of it is admitted */
    if (list_empty(&core->room_waiters) && leg_admit(core, leg))
        return;
    trip_move(leg->msg.trip, &core->board, TRIP_ROOM);
    list_push_back(&core->room_waiters, &leg->waiter);
}

void produce_leg_arrived(struct data_core *core, struct msg *msg)
{
    struct produce_leg *leg = container_of(msg, struct produce_leg, msg);
    const struct produce_txn *t = leg->produce->txn;
    int64_t producer_id = t != NULL && t->found ? t->ask.producer_id : -1;
    struct produce_hold *h = producer_id >= 0 ? hold_find(core, producer_id) : NULL;
    bool asked = leg->asked;
    leg->owner = core;
    if (h != NULL && !asked) {
        SOMETIMES("a batch waits behind one that is being verified");
        trip_move(leg->msg.trip, &core->board, TRIP_ROOM);
        list_push_back(&h->legs, &leg->waiter);
        return;
    }
    if (!leg_verify(core, leg)) {
        if (h == NULL)
            hold_make(core, producer_id);
        return;
    }
    leg_begin(core, leg); /* it may be home when this returns */
    if (asked)
        hold_release(core, producer_id);
}

void produce_legs_resume(struct data_core *core)
{
    while (!list_empty(&core->room_waiters)) {
        struct list *l = list_pop_front(&core->room_waiters);
        assert(l != NULL);
        if (leg_admit(core, container_of(l, struct produce_leg, waiter)))
            continue;
        list_push_front(&core->room_waiters, l);
        return;
    }
}

/* ---- home: verify ---------------------------------------------------------------------------- */

/* What the coordinator says, as this client understands it (ReplicaManager, AddPartitionsToTxn-
 * Manager): clients that do not know the coordinator's errors here get one that they retry. */
static enum kafka_error txn_error(const struct produce *p, enum kafka_error error)
{
    switch (error) {
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_NOT_COORDINATOR:
        return KE_NOT_ENOUGH_REPLICAS;
    case KE_CONCURRENT_TRANSACTIONS:
        return p->version >= 12 ? error : KE_NOT_ENOUGH_REPLICAS;
    case KE_PRODUCER_FENCED:
        return KE_INVALID_PRODUCER_EPOCH;
    case KE_TRANSACTION_ABORTABLE:
        return p->version >= 11 ? error : KE_INVALID_TXN_STATE;
    default:
        return error;
    }
}

static const char *txn_message(enum kafka_error error)
{
    if (error == KE_NOT_ENOUGH_REPLICAS)
        return "The transaction's coordinator cannot be asked about the partition now.";
    return error == KE_INVALID_TXN_STATE ? "The partition is not part of the transaction." : NULL;
}

/* The name is a copy: the topic may be deleted while the ask is away. false: no memory. */
static bool txn_ask_add(struct produce *p, struct produce_part *part)
{
    SOMETIMES("a produce adds partitions to a transaction");
    struct produce_txn *t = p->txn;
    const struct topic_image *topic = image_topic_by_id(&p->flow->core->image, part->topic_id);
    struct txn_ask_partition *asked = &t->ask.partitions[t->ask.partitions_count];
    *asked = (struct txn_ask_partition){
        .topic_id = part->topic_id, .topic = wire_string_of(""), .partition = part->partition};
    if (topic != NULL)
        asked->topic = (struct wire_string){
            arena_copy(&p->flow->arena, topic->name, topic->name_size), (int32_t)topic->name_size};
    t->asked[t->ask.partitions_count++] = part;
    return asked->topic.data != NULL;
}

/* One ask for all that must be verified. false: no memory. */
static bool txn_ask_for(struct produce *p)
{
    struct produce_txn *t = p->txn;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->cores_count; i++)
        count += p->legs[i].used ? p->legs[i].unverified : 0;
    t->asked = arena_array(&p->flow->arena, count, sizeof(struct produce_part *));
    t->ask.partitions = arena_array(&p->flow->arena, count, sizeof(*t->ask.partitions));
    if (t->asked == NULL || t->ask.partitions == NULL)
        return false;
    t->ask.partitions_count = 0;
    for (uint32_t i = 0; i < p->cores_count; i++) {
        const struct produce_leg *leg = &p->legs[i];
        for (struct produce_part *part = leg->used && leg->unverified > 0 ? leg->parts : NULL;
             part != NULL; part = part->next) {
            assert(part->append.txn_guard == 0 || t->ask.partitions_count < count);
            if (part->append.txn_guard != 0 && !txn_ask_add(p, part))
                return false;
        }
    }
    txn_ask_send(p->flow->core, &t->ask);
    return true;
}

static void txn_judge(struct produce *p, struct produce_part *part, enum kafka_error said)
{
    enum kafka_error error = txn_error(p, said);
    if (error == KE_NONE)
        return;
    SOMETIMES("a partition is refused by the coordinator of the transaction");
    part->refused = true;
    part->unknown = said == KE_INVALID_PRODUCER_ID_MAPPING || said == KE_PRODUCER_FENCED;
    part_refuse(part->out, error, txn_message(error));
}

/* All is judged: the legs go again, also one of which nothing is left, because others wait for it
 * at its owner. */
static void txn_go_on(struct produce *p)
{
    for (uint32_t i = 0; i < p->cores_count; i++)
        p->legs[i].checks = false; /* what is let pass has its guard, or needs none */
    legs_send(p, true);
}

static void txn_refuse_all(struct produce *p, enum kafka_error error)
{
    for (uint32_t i = 0; i < p->cores_count; i++) {
        const struct produce_leg *leg = &p->legs[i];
        for (struct produce_part *part = leg->used && leg->unverified > 0 ? leg->parts : NULL;
             part != NULL; part = part->next) {
            if (part->append.txn_guard != 0)
                txn_judge(p, part, error);
        }
    }
    txn_go_on(p);
}

static bool txn_busy(const struct produce_txn *t)
{
    if (!t->ask.add || io_now_ns(t->produce->flow->core->io) >= t->until_ns)
        return false;
    for (uint32_t i = 0; i < t->ask.partitions_count; i++) {
        if (t->ask.partitions[i].error == KE_CONCURRENT_TRANSACTIONS)
            return true;
    }
    return false;
}

static void txn_answered(struct txn_ask *ask)
{
    struct produce_txn *t = container_of(ask, struct produce_txn, ask);
    struct produce *p = t->produce;
    struct data_core *core = p->flow->core;
    if (txn_busy(t)) {
        trip_move(&p->flow->trip, &core->board, TRIP_AWAY);
        timer_arm(&core->wheel, &t->timer, io_now_ns(core->io) + t->wait_ns);
        t->wait_ns = MIN(t->wait_ns * 2, TXN_RETRY_LAST_NS);
        return;
    }
    for (uint32_t i = 0; i < ask->partitions_count; i++)
        txn_judge(p, t->asked[i], ask->partitions[i].error);
    txn_go_on(p);
}

static void txn_retry(struct timer *timer)
{
    SOMETIMES("a produce waits for a transaction");
    struct produce_txn *t = container_of(timer, struct produce_txn, timer);
    legs_send(t->produce, true); /* another batch may have opened it meanwhile */
}

/* ---- home: answer ---------------------------------------------------------------------------- */

static bool part_record_errors(struct produce *p, struct produce_part *part)
{
    const struct log_append *a = &part->append;
    if (a->record_errors_count == 0)
        return true;
    struct produce_response_batch_index_and_error_message *errors =
        arena_array(&p->flow->arena, a->record_errors_count, sizeof(*errors));
    if (errors == NULL)
        return false;
    for (uint32_t i = 0; i < a->record_errors_count; i++) {
        errors[i].batch_index = a->record_errors[i].index;
        errors[i].batch_index_error_message = wire_string_of(a->record_errors[i].message);
    }
    part->out->record_errors = errors;
    part->out->record_errors_count = (int32_t)a->record_errors_count;
    return true;
}

/* Errors of the batch's content tell where the log begins; those of its form or of the log do not
 * (ReplicaManager.appendToLocalLog). */
static int64_t log_start_told(const struct log_append *a)
{
    switch (a->error) {
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_MESSAGE_TOO_LARGE:
    case KE_RECORD_LIST_TOO_LARGE:
    case KE_CORRUPT_MESSAGE:
    case KE_KAFKA_STORAGE_ERROR:
        return -1;
    default:
        return a->log_start_offset;
    }
}

static bool leg_collect(struct produce *p, struct produce_leg *leg)
{
    for (struct produce_part *part = leg->parts; part != NULL; part = part->next) {
        const struct log_append *a = &part->append;
        struct produce_response_partition_produce_response *out = part->out;
        if (part->refused)
            continue;
        if (a->error != KE_NONE) {
            part_refuse(out, a->error, a->message);
            out->log_start_offset = log_start_told(a);
            if (!part_record_errors(p, part))
                return false;
            continue;
        }
        out->base_offset = a->base_offset;
        out->log_append_time_ms = a->append_time_ms;
        out->log_start_offset = a->log_start_offset;
    }
    return true;
}

void produce_leg_home(struct data_core *core, struct msg *msg)
{
    struct produce_leg *leg = container_of(msg, struct produce_leg, msg);
    struct produce *p = leg->produce;
    assert(core_same(core_self(), p->flow->core->id) && p->flow->core == core);
    assert(p->legs_away > 0);
    if (--p->legs_away > 0)
        return;
    bool unverified = false;
    for (uint32_t i = 0; i < p->cores_count; i++)
        unverified |= p->legs[i].used && p->legs[i].checks && p->legs[i].unverified > 0;
    if (!unverified)
        produce_answer(p);
    else if (!txn_ask_for(p))
        txn_refuse_all(p, KE_COORDINATOR_NOT_AVAILABLE);
}

static bool produce_any_error(const struct produce *p)
{
    for (int32_t i = 0; i < p->response.responses_count; i++) {
        const struct produce_response_topic_produce_response *t = &p->response.responses[i];
        for (int32_t j = 0; j < t->partition_responses_count; j++) {
            if (t->partition_responses[j].error_code != KE_NONE)
                return true;
        }
    }
    return false;
}

static void produce_answer(struct produce *p)
{
    struct flow *f = p->flow;
    for (uint32_t i = 0; i < p->cores_count; i++) {
        if (p->legs[i].used && !leg_collect(p, &p->legs[i])) {
            flow_refuse(f, "no memory");
            return;
        }
    }
    if (p->request.acks != 0)
        FLOW_ANSWER(f, &p->response, produce_response);
    else if (produce_any_error(p))
        flow_refuse(f, "a produce with acks=0 failed");
    else
        flow_answer_nothing(f);
}
