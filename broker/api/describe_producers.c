/* DescribeProducers (key 61): who writes to a partition, as its owner remembers it. */
#include "broker/api/api.h"
#include "broker/api/parts.h"
#include "broker/data_core.h"
#include "proto/gen/describe_producers.h"

/* How many an answer grows by at a time. */
#define PRODUCERS_STEP 64

struct producers_item {
    struct parts_item item;
    struct describe_producers_response_producer_state *states; /* in the owner's arena */
    uint32_t count, room;
    struct describe_producers_response_partition_response *out;
};

struct producers {
    struct describe_producers_request request;
    struct describe_producers_response response;
    struct producers_item *items;
    uint32_t count;
};

/* ---- owner ----------------------------------------------------------------------------------- */

static bool producers_grow(struct producers_item *k)
{
    uint32_t room = k->room == 0 ? PRODUCERS_STEP : k->room * 2;
    struct describe_producers_response_producer_state *grown =
        arena_array(&k->item.leg->arena, room, sizeof(*grown));
    if (grown == NULL)
        return false;
    if (k->count > 0)
        memcpy(grown, k->states, k->count * sizeof(*grown));
    k->states = grown;
    k->room = room;
    return true;
}

static void producers_visit(void *context, const struct log_producer *p)
{
    struct producers_item *k = context;
    if (k->count == k->room && !producers_grow(k)) {
        k->item.error = KE_UNKNOWN_SERVER_ERROR;
        return;
    }
    struct describe_producers_response_producer_state *s = &k->states[k->count++];
    describe_producers_response_producer_state_init(s);
    s->producer_id = p->producer_id;
    s->producer_epoch = p->producer_epoch;
    s->last_sequence = p->last_sequence;
    s->last_timestamp = p->last_timestamp;
    s->coordinator_epoch = p->coordinator_epoch;
    s->current_txn_start_offset = p->txn_start_offset;
}

static void producers_serve(struct data_core *owner, struct parts_item *item, struct log *l)
{
    (void)owner;
    log_producers(l, producers_visit, container_of(item, struct producers_item, item));
}

/* ---- home ------------------------------------------------------------------------------------ */

static void producers_answer(struct parts *p)
{
    struct producers *s = p->state;
    for (uint32_t i = 0; i < s->count; i++) {
        struct producers_item *k = &s->items[i];
        k->out->error_code = (int16_t)k->item.error;
        if (k->item.error != KE_NONE) {
            k->out->error_message = wire_string_of(kafka_error_message(k->item.error));
            continue;
        }
        k->out->active_producers = k->states;
        k->out->active_producers_count = (int32_t)k->count;
    }
    FLOW_ANSWER(p->flow, &s->response, describe_producers_response);
}

static bool producers_split(struct parts *p, struct producers *s)
{
    struct arena *arena = &p->flow->arena;
    uint32_t count = 0;
    for (int32_t i = 0; i < s->request.topics_count; i++)
        count += (uint32_t)MAX(s->request.topics[i].partition_indexes_count, 0);
    s->items = arena_array(arena, count, sizeof(*s->items));
    s->response.topics =
        arena_array(arena, (size_t)MAX(s->request.topics_count, 0), sizeof(*s->response.topics));
    if (s->items == NULL || s->response.topics == NULL)
        return false;
    for (int32_t i = 0; i < s->request.topics_count; i++) {
        const struct describe_producers_request_topic_request *t = &s->request.topics[i];
        struct describe_producers_response_topic_response *out =
            &s->response.topics[s->response.topics_count++];
        const struct topic_image *topic = image_topic_by_name(&p->flow->core->image, t->name.data,
                                                              (uint32_t)MAX(t->name.size, 0));
        out->name = t->name;
        out->partitions_count = MAX(t->partition_indexes_count, 0);
        out->partitions =
            arena_array(arena, (size_t)out->partitions_count, sizeof(*out->partitions));
        if (out->partitions == NULL)
            return false;
        for (int32_t j = 0; j < t->partition_indexes_count; j++) {
            struct producers_item *k = &s->items[s->count++];
            k->out = &out->partitions[j];
            describe_producers_response_partition_response_init(k->out);
            k->out->partition_index = t->partition_indexes[j];
            if (topic == NULL || topic_partition(topic, k->out->partition_index) == NULL)
                k->item.error = KE_UNKNOWN_TOPIC_OR_PARTITION;
            else
                parts_add(p, &k->item, topic->id, k->out->partition_index);
        }
    }
    return true;
}

void describe_producers_start(struct flow *f, struct wire_reader *body)
{
    struct producers *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, describe_producers, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct parts *p = parts_make(f, producers_serve, producers_answer, s);
    if (p == NULL)
        return;
    describe_producers_response_init(&s->response);
    if (!producers_split(p, s)) {
        flow_refuse(f, "no memory");
        return;
    }
    parts_run(p);
}
