/* A producer as Kafka's clients are: up to five requests in flight, everything that is not
 * acknowledged sent again in order after a lost connection or a refusal.
 *
 *   make a parcel ─▶ in flight ─▶ acknowledged: told to the model
 *                        │ refused, may pass: wait until nothing is in flight, pause, all again
 *                        └ connection lost: all again on the next one
 *
 * An idempotent producer numbers its batches, so whatever it sends twice must be there once. */
#include "tests/sim/run.h"

#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/produce.h"

#define INIT_VERSION 4
#define PAUSE_NS     (30 * NS_PER_MS)
#define ANSWER_LIMIT (64u << 20)
#define BATCH_ROOM   (1u << 20)

static void producer_pump(struct producer *p);

/* ---- making batches -------------------------------------------------------------------------- */

static void batch_fill(struct producer *p, struct out_batch *b, struct batch_builder *builder)
{
    struct run *r = p->run;
    uint8_t value[1 << 16];
    uint32_t records = (uint32_t)chance_between(r->chance, 1, r->options.records_max);
    int64_t timestamp = 1795262400000ll + (int64_t)(sim_now_ns(r->sim) / NS_PER_MS);
    for (uint32_t i = 0; i < records; i++) {
        uint32_t size = MODEL_STAMP_SIZE + (uint32_t)chance_below(r->chance, r->options.value_max);
        uint64_t filler = chance_next(r->chance);
        wire_store32(value, b->stamp.producer);
        wire_store32(value + 4, b->stamp.batch);
        for (uint32_t at = MODEL_STAMP_SIZE; at < size; at++)
            value[at] = (uint8_t)(filler >> at % 57);
        struct batch_field none = {0}, content = {value, size};
        if (!batch_builder_add(builder, timestamp, none, content, NULL, 0))
            break;
        b->count++;
    }
}

static void batch_make(struct producer *p, struct out_batch *b, uint32_t topic, uint32_t partition)
{
    struct run *r = p->run;
    struct batch_header header = batch_header_plain(0);
    struct batch_builder builder;
    uint8_t *room = mem_alloc(&r->mem, BATCH_ROOM);
    assert(room != NULL);
    *b = (struct out_batch){.topic = topic, .partition = partition};
    b->stamp = (struct model_stamp){p->index, p->batches[topic][partition]++};
    if (p->idempotent) {
        header.producer_id = p->producer_id;
        header.producer_epoch = p->producer_epoch;
        header.base_sequence = p->sequences[topic][partition];
    }
    batch_builder_init(&builder, room, BATCH_ROOM - 4096, &header);
    batch_fill(p, b, &builder);
    b->size = batch_builder_finish(&builder);
    assert(b->size > 0 && b->count > 0);
    b->bytes = mem_alloc(&r->mem, b->size);
    assert(b->bytes != NULL);
    memcpy(b->bytes, room, b->size);
    mem_free(&r->mem, room, BATCH_ROOM);
    b->hash = model_hash(b->bytes, b->size);
    p->sequences[topic][partition] += (int32_t)b->count;
}

static void batch_free(struct run *r, struct out_batch *b)
{
    mem_free(&r->mem, b->bytes, b->size);
    b->bytes = NULL;
}

static void parcel_make(struct producer *p)
{
    struct run *r = p->run;
    struct parcel *parcel = &p->parcels[p->parcels_count++];
    *parcel = (struct parcel){.number = ++p->numbers};
    uint32_t wanted = p->by_many ? (uint32_t)chance_between(r->chance, 1, PARCEL_BATCHES) : 1;
    for (uint32_t i = 0; i < wanted && p->left > 0; i++) {
        uint32_t topic = (uint32_t)chance_below(r->chance, r->options.topics);
        uint32_t partition = (uint32_t)chance_below(r->chance, r->topics[topic].partitions_count);
        bool has = false; /* one batch per partition and request */
        for (uint32_t j = 0; j < parcel->count; j++)
            has |= parcel->batches[j].topic == topic && parcel->batches[j].partition == partition;
        if (has)
            continue;
        batch_make(p, &parcel->batches[parcel->count++], topic, partition);
        p->left--;
    }
}

static void parcel_remove(struct producer *p, uint32_t at)
{
    for (uint32_t i = 0; i < p->parcels[at].count; i++)
        batch_free(p->run, &p->parcels[at].batches[i]);
    p->parcels_count--;
    for (uint32_t i = at; i < p->parcels_count; i++)
        p->parcels[i] = p->parcels[i + 1];
}

/* ---- sending --------------------------------------------------------------------------------- */

static void parcel_send(struct producer *p, struct parcel *parcel)
{
    struct run *r = p->run;
    struct produce_request_topic_produce_data topics[TOPICS_MAX];
    struct produce_request_partition_produce_data parts[TOPICS_MAX][PARCEL_BATCHES];
    struct produce_request m;
    produce_request_init(&m);
    m.acks = p->acks;
    m.timeout_ms = 10000;
    m.topic_data = topics;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        struct produce_request_topic_produce_data *data = &topics[m.topic_data_count];
        produce_request_topic_produce_data_init(data);
        data->name = (struct wire_string){r->topics[t].name, (int32_t)strlen(r->topics[t].name)};
        data->topic_id = r->topics[t].id;
        data->partition_data = parts[t];
        for (uint32_t i = 0; i < parcel->count; i++) {
            const struct out_batch *b = &parcel->batches[i];
            if (b->topic != t || b->acknowledged)
                continue;
            struct produce_request_partition_produce_data *part =
                &parts[t][data->partition_data_count++];
            produce_request_partition_produce_data_init(part);
            part->index = (int32_t)b->partition;
            part->records = (struct wire_records){.data = b->bytes, .size = (int32_t)b->size};
        }
        m.topic_data_count += data->partition_data_count > 0;
    }
    parcel->in_flight = true;
    LINK_ASK(&p->link, &m, produce, API_PRODUCE, p->version, parcel->number, p->acks != 0);
}

static bool producer_ready(const struct producer *p)
{
    return p->link.is_up && p->run->admin.created && (!p->idempotent || p->producer_id >= 0);
}

static void producer_ask_id(struct producer *p)
{
    struct init_producer_id_request m;
    init_producer_id_request_init(&m);
    m.transactional_id = (struct wire_string){NULL, -1};
    p->asked_id = true;
    LINK_ASK(&p->link, &m, init_producer_id, API_INIT_PRODUCER_ID, INIT_VERSION, 0, true);
}

static void producer_thought(struct sim_event *e)
{
    producer_pump(container_of(e, struct producer, think));
}

static void producer_think(struct producer *p)
{
    struct run *r = p->run;
    uint64_t after = 1 + chance_around(r->chance, (uint64_t)r->options.think_us * NS_PER_US);
    if (p->think.place == 0)
        sim_plan(r->sim, &p->think, sim_now_ns(r->sim) + after, producer_thought);
}

static uint32_t producer_in_flight(const struct producer *p)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->parcels_count; i++)
        count += p->parcels[i].in_flight;
    return count;
}

static void producer_paused(struct sim_event *e)
{
    struct producer *p = container_of(e, struct producer, pause);
    p->again = false;
    producer_pump(p);
}

/* Sends what is there and not in flight, then makes one more. */
static void producer_pump(struct producer *p)
{
    struct run *r = p->run;
    if (!producer_ready(p)) {
        if (p->link.is_up && p->idempotent && p->producer_id < 0 && !p->asked_id)
            producer_ask_id(p);
        producer_think(p); /* until the topics are there */
        return;
    }
    if (p->again) {
        if (producer_in_flight(p) == 0 && p->pause.place == 0)
            sim_plan(r->sim, &p->pause, sim_now_ns(r->sim) + PAUSE_NS, producer_paused);
        return;
    }
    for (uint32_t i = 0; i < p->parcels_count; i++) {
        if (!p->parcels[i].in_flight)
            parcel_send(p, &p->parcels[i]);
    }
    if (p->left == 0 || p->parcels_count >= p->in_flight_max)
        return;
    parcel_make(p);
    parcel_send(p, &p->parcels[p->parcels_count - 1]);
    if (p->acks == 0)
        parcel_remove(p, p->parcels_count - 1);
    producer_think(p);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Errors that a client answers by trying again. */
static bool error_passes(int16_t error)
{
    switch ((enum kafka_error)error) {
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
    case KE_LEADER_NOT_AVAILABLE:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_REQUEST_TIMED_OUT:
    case KE_NOT_ENOUGH_REPLICAS:
    case KE_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case KE_OUT_OF_ORDER_SEQUENCE_NUMBER: /* of one behind a refused one */
    case KE_KAFKA_STORAGE_ERROR:
    case KE_UNKNOWN_TOPIC_ID:
        return true;
    default:
        return false;
    }
}

static struct out_batch *parcel_batch(struct run *r, struct parcel *parcel, int16_t version,
                                      const struct produce_response_topic_produce_response *t,
                                      int32_t partition)
{
    for (uint32_t i = 0; i < parcel->count; i++) {
        struct out_batch *b = &parcel->batches[i];
        const struct topic *topic = &r->topics[b->topic];
        bool same = version >= 13 ? uuid_equal(topic->id, t->topic_id)
                                  : (size_t)t->name.size == strlen(topic->name) &&
                                        memcmp(t->name.data, topic->name, strlen(topic->name)) == 0;
        if (same && (int32_t)b->partition == partition)
            return b;
    }
    return NULL;
}

static void batch_answered(struct producer *p, struct out_batch *b,
                           const struct produce_response_partition_produce_response *answer)
{
    struct run *r = p->run;
    char text[MODEL_TEXT_MAX];
    int16_t error = answer->error_code;
    if (error == KE_NONE || (error == KE_DUPLICATE_SEQUENCE_NUMBER && p->idempotent)) {
        int64_t offset = error == KE_NONE ? answer->base_offset : -1;
        if (error == KE_NONE && offset < 0)
            run_fail(r, "an acknowledgement without an offset");
        else if (!model_acknowledged(&r->topics[b->topic].partitions[b->partition], b->stamp,
                                     b->hash, b->count, offset, text))
            run_fail(r, "acknowledged: %s", text);
        b->acknowledged = true;
        p->acknowledged++;
        return;
    }
    p->refused++;
    p->again = true;
    bool offline = run_may_be_offline(r, b->topic, b->partition);
    if (!error_passes(error) || (error == KE_KAFKA_STORAGE_ERROR && !offline))
        run_fail(r, "produce to %s-%u: error %d", r->topics[b->topic].name, b->partition, error);
}

static void parcel_answered(struct producer *p, struct parcel *parcel,
                            const struct produce_response *m)
{
    uint32_t told = 0, open = 0;
    for (uint32_t i = 0; i < parcel->count; i++)
        open += !parcel->batches[i].acknowledged;
    for (int32_t t = 0; t < m->responses_count; t++) {
        const struct produce_response_topic_produce_response *topic = &m->responses[t];
        for (int32_t i = 0; i < topic->partition_responses_count; i++) {
            struct out_batch *b = parcel_batch(p->run, parcel, p->version, topic,
                                               topic->partition_responses[i].index);
            if (b == NULL || b->acknowledged) {
                run_fail(p->run, "an answer about a partition that was not asked");
                return;
            }
            batch_answered(p, b, &topic->partition_responses[i]);
            told++;
        }
    }
    if (told != open)
        run_fail(p->run, "answers for %u partitions of %u", told, open);
}

static void producer_answered(struct link *l, const struct link_request *q,
                              struct wire_reader *body)
{
    struct producer *p = l->owner;
    struct run *r = p->run;
    struct arena arena;
    arena_init(&arena, &r->mem, ANSWER_LIMIT);
    if (q->api_key == API_INIT_PRODUCER_ID) {
        struct init_producer_id_response m;
        p->asked_id = false;
        if (init_producer_id_response_decode(&m, body, INIT_VERSION, &arena) != 0)
            run_broken(r, "producer", "an unreadable InitProducerId response");
        else if (m.error_code == KE_NONE)
            run_new_id(r, p, m.producer_id, m.producer_epoch);
    } else {
        struct produce_response m;
        uint32_t at = 0;
        while (at < p->parcels_count && p->parcels[at].number != q->tag)
            at++;
        assert(at < p->parcels_count);
        p->parcels[at].in_flight = false;
        if (produce_response_decode(&m, body, p->version, &arena) != 0)
            run_broken(r, "producer", "an unreadable Produce response");
        else
            parcel_answered(p, &p->parcels[at], &m);
        bool all = true;
        for (uint32_t i = 0; i < p->parcels[at].count; i++)
            all &= p->parcels[at].batches[i].acknowledged;
        if (all)
            parcel_remove(p, at);
    }
    arena_release(&arena);
    producer_think(p);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void producer_up(struct link *l)
{
    struct producer *p = l->owner;
    p->asked_id = false;
    p->again = false;
    producer_pump(p);
}

static void producer_down(struct link *l)
{
    struct producer *p = l->owner;
    for (uint32_t i = 0; i < p->parcels_count; i++)
        p->parcels[i].in_flight = false;
    sim_unplan(p->run->sim, &p->pause);
}

static void producer_broken(struct link *l, const char *why)
{
    struct producer *p = l->owner;
    run_broken(p->run, "producer", why);
}

void producer_start(struct producer *p, struct run *r, uint32_t index)
{
    struct chance *c = r->chance;
    *p = (struct producer){.run = r, .index = index, .producer_id = -1, .left = r->options.batches};
    p->idempotent = !chance_one_in(c, 3);
    if (r->options.swarm.producer_ms > 0)
        p->idempotent = false; /* what the broker has forgotten may be there twice */
    p->by_many = chance_one_in(c, 2);
    p->acks = p->idempotent ? -1 : (int16_t)chance_between(c, 0, 2) - 1;
    p->version = (int16_t)chance_between(c, 3, 13);
    p->in_flight_max = (uint32_t)chance_between(c, 1, PARCELS_MAX);
    for (uint32_t t = 0; t < r->options.topics; t++) {
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++)
            r->topics[t].partitions[i].sources[index].idempotent = p->idempotent;
    }
    p->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = p,
                            .up = producer_up,
                            .down = producer_down,
                            .answered = producer_answered,
                            .broken = producer_broken};
    link_start(&p->link);
}

void producer_stop(struct producer *p)
{
    sim_unplan(p->run->sim, &p->think);
    sim_unplan(p->run->sim, &p->pause);
    while (p->parcels_count > 0)
        parcel_remove(p, p->parcels_count - 1);
    link_stop(&p->link);
}

bool producer_done(const struct producer *p)
{
    return p->left == 0 && p->parcels_count == 0;
}
