/* DeleteRecords (key 21): everything below an offset is gone, and stays gone: the new log start is
 * on disk before the answer (Kafka forgets it in a crash). Offset -1 means the high watermark. */
#include "broker/api/api.h"
#include "broker/api/parts.h"
#include "broker/data_core.h"
#include "proto/gen/delete_records.h"

struct deletion {
    struct parts_item item;
    struct log_delete_records deletion;
    struct delete_records_response_delete_records_partition_result *out;
};

struct deletions {
    struct delete_records_request request;
    struct delete_records_response response;
    struct deletion *items;
    uint32_t count;
};

static void deletion_done(struct log_delete_records *d)
{
    struct deletion *k = container_of(d, struct deletion, deletion);
    k->item.error = d->error;
    parts_done(&k->item);
}

static void deletions_serve(struct data_core *owner, struct parts_item *item, struct log *l)
{
    struct deletion *k = container_of(item, struct deletion, item);
    (void)owner;
    k->deletion.done = deletion_done;
    parts_wait(item);
    if (!log_delete_records(l, &k->deletion))
        deletion_done(&k->deletion);
}

static void deletions_answer(struct parts *p)
{
    struct deletions *s = p->state;
    for (uint32_t i = 0; i < s->count; i++) {
        struct deletion *k = &s->items[i];
        k->out->error_code = (int16_t)k->item.error;
        k->out->low_watermark = k->item.error == KE_NONE ? k->deletion.low_watermark : -1;
    }
    FLOW_ANSWER(p->flow, &s->response, delete_records_response);
}

/* Kafka's order: the topic must exist and not be internal; its cleanup policy must delete. */
static enum kafka_error deletion_check(const struct topic_image *topic, int32_t partition)
{
    if (topic == NULL || topic_partition(topic, partition) == NULL)
        return KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (topic->internal)
        return KE_INVALID_TOPIC_EXCEPTION;
    if ((topic->config.cleanup_policy & CLEANUP_DELETE) == 0)
        return KE_POLICY_VIOLATION;
    return KE_NONE;
}

static bool deletions_split(struct parts *p, struct deletions *s)
{
    struct arena *arena = &p->flow->arena;
    uint32_t count = 0;
    for (int32_t i = 0; i < s->request.topics_count; i++)
        count += (uint32_t)MAX(s->request.topics[i].partitions_count, 0);
    s->items = arena_array(arena, count, sizeof(*s->items));
    s->response.topics =
        arena_array(arena, (size_t)MAX(s->request.topics_count, 0), sizeof(*s->response.topics));
    if (s->items == NULL || s->response.topics == NULL)
        return false;
    for (int32_t i = 0; i < s->request.topics_count; i++) {
        const struct delete_records_request_delete_records_topic *t = &s->request.topics[i];
        struct delete_records_response_delete_records_topic_result *out =
            &s->response.topics[s->response.topics_count++];
        const struct topic_image *topic = image_topic_by_name(&p->flow->core->image, t->name.data,
                                                              (uint32_t)MAX(t->name.size, 0));
        out->name = t->name;
        out->partitions_count = MAX(t->partitions_count, 0);
        out->partitions =
            arena_array(arena, (size_t)out->partitions_count, sizeof(*out->partitions));
        if (out->partitions == NULL)
            return false;
        for (int32_t j = 0; j < t->partitions_count; j++) {
            struct deletion *k = &s->items[s->count++];
            k->out = &out->partitions[j];
            k->out->partition_index = t->partitions[j].partition_index;
            k->deletion.offset = t->partitions[j].offset;
            k->item.error = deletion_check(topic, k->out->partition_index);
            if (k->item.error == KE_NONE)
                parts_add(p, &k->item, topic->id, k->out->partition_index);
        }
    }
    return true;
}

void delete_records_start(struct flow *f, struct wire_reader *body)
{
    struct deletions *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, delete_records, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct parts *p = parts_make(f, deletions_serve, deletions_answer, s);
    if (p == NULL)
        return;
    delete_records_response_init(&s->response);
    if (!deletions_split(p, s)) {
        flow_refuse(f, "no memory");
        return;
    }
    parts_run(p);
}
