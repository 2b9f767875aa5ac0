/* Produce (key 0): batches in, offsets out, when they are on disk.
 *
 *   home core    START ─ split by owner ─▶ AWAIT_LEGS ─────────────────────────────▶ answer
 *   owner core         └▶ ADMIT ─▶ (AWAIT_ROOM) ─▶ AWAIT_DURABLE ─────────────────┘
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
 *
 * Failure modes: per partition, Kafka's code. acks=0 with any error closes the connection, the only
 * sign such a producer can see (KafkaApis.handleProduceRequest). */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "broker/step.h"
#include "proto/batch.h"
#include "proto/gen/produce.h"

struct produce_part {
    struct log_append append;
    struct produce_leg *leg;
    struct produce_part *next; /* of the same leg */
    struct uuid topic_id;
    int32_t partition;
    struct produce_response_partition_produce_response *out;
};

struct produce_leg {
    struct msg msg;
    struct produce *produce; /* home's; the owner reads nothing of it but what never changes */
    struct data_core *owner; /* set by the owner when it arrives */
    struct produce_part *parts, **last;
    struct produce_part *next; /* owner: the part to admit next */
    struct list waiter;        /* owner: data_core.room_waiters */
    uint32_t pending;          /* owner: parts not durable yet */
    bool used;
};

struct produce {
    struct flow *flow;
    struct produce_request request;
    struct produce_response response;
    uint32_t cores_count;
    uint32_t legs_away;
    bool admin_client, authorized;
    int16_t version;
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
    /* No transaction coordinator serves ids yet, so none can be known to it. */
    if (part_transactional(&in->records))
        return KE_INVALID_PRODUCER_ID_MAPPING;
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
        list_init(&leg->waiter);
        leg->produce = p;
        leg->last = &leg->parts;
    }
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

void produce_start(struct flow *f, struct wire_reader *body)
{
    struct data_core *core = f->core;
    assert(core_same(core_self(), core->id));
    struct produce *p =
        arena_array(&f->arena, 1, sizeof(*p) + core->cores_count * sizeof(struct produce_leg));
    if (p == NULL || produce_request_decode(&p->request, body, f->api_version, &f->arena) != 0) {
        flow_refuse(f, "malformed body");
        return;
    }
    f->state = p;
    p->flow = f;
    p->version = f->api_version;
    p->cores_count = core->cores_count;
    p->admin_client = wire_string_equal(f->client_id, wire_string_of("__admin_client"));
    p->authorized = produce_authorized(p);
    if (!produce_split(p)) {
        flow_refuse(f, "no memory");
        return;
    }
    for (uint16_t i = 0; i < p->cores_count; i++)
        p->legs_away += p->legs[i].used;
    for (uint16_t i = 0; i < p->cores_count; i++) {
        if (p->legs[i].used)
            mail_send(&core->mail, (struct core_id){i}, &p->legs[i].msg);
    }
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
    assert(leg->pending > 0);
    leg->pending--;
    if (leg->pending == 0)
        leg_return(leg->owner, leg);
}

/* One part after the other while there is room: all of a large request may be more than the log's
 * memory holds. false: the rest waits. */
static bool leg_admit(struct data_core *core, struct produce_leg *leg)
{
    assert(leg->pending > 0);
    while (leg->next != NULL) {
        if (!log_core_has_room(core->logs))
            return false;
        struct produce_part *part = leg->next;
        struct log *l = log_find(core->logs, part->topic_id, part->partition);
        leg->next = part->next;
        part->append.done = part_done;
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
    return true;
}

void produce_leg_arrived(struct data_core *core, struct msg *msg)
{
    struct produce_leg *leg = container_of(msg, struct produce_leg, msg);
    leg->owner = core;
    leg->next = leg->parts;
    leg->pending = 1; /* ours, so that nothing completes the leg before all of it is admitted */
    if (!list_empty(&core->room_waiters) || !leg_admit(core, leg))
        list_push_back(&core->room_waiters, &leg->waiter);
}

void produce_legs_resume(struct data_core *core)
{
    while (!list_empty(&core->room_waiters) && log_core_has_room(core->logs)) {
        struct list *l = list_pop_front(&core->room_waiters);
        if (!leg_admit(core, container_of(l, struct produce_leg, waiter)))
            list_push_front(&core->room_waiters, l);
    }
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
    if (--p->legs_away == 0)
        produce_answer(p);
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
