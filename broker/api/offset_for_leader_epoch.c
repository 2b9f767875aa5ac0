/* OffsetForLeaderEpoch (key 23): where did an epoch end? Consumers ask it after a leader change to
 * find out whether what they read still exists (KIP-320). The largest known epoch at or below the
 * one asked answers, with its end; the current epoch ends at the readable end of the log. */
#include "broker/api/api.h"
#include "broker/api/parts.h"
#include "broker/data_core.h"
#include "proto/gen/offset_for_leader_epoch.h"

struct epoch_lookup {
    struct parts_item item;
    int32_t current_leader_epoch, epoch;
    int32_t found_epoch;
    int64_t end_offset;
    struct offset_for_leader_epoch_response_epoch_end_offset *out;
};

struct epochs {
    struct offset_for_leader_epoch_request request;
    struct offset_for_leader_epoch_response response;
    struct epoch_lookup *lookups;
    uint32_t count;
};

static void epochs_serve(struct data_core *owner, struct parts_item *item, struct log *l)
{
    struct epoch_lookup *k = container_of(item, struct epoch_lookup, item);
    (void)owner;
    item->error = parts_check_epoch(l, k->current_leader_epoch);
    if (item->error == KE_NONE)
        log_epoch_end(l, k->epoch, &k->found_epoch, &k->end_offset);
}

static void epochs_answer(struct parts *p)
{
    struct epochs *s = p->state;
    for (uint32_t i = 0; i < s->count; i++) {
        struct epoch_lookup *k = &s->lookups[i];
        k->out->error_code = (int16_t)k->item.error;
        if (k->item.error != KE_NONE)
            continue;
        k->out->leader_epoch = k->found_epoch;
        k->out->end_offset = k->end_offset;
    }
    FLOW_ANSWER(p->flow, &s->response, offset_for_leader_epoch_response);
}

static void epochs_add(struct parts *p, struct epochs *s, const struct topic_image *topic,
                       const struct offset_for_leader_epoch_request_offset_for_leader_partition *q,
                       struct offset_for_leader_epoch_response_epoch_end_offset *out)
{
    struct epoch_lookup *k = &s->lookups[s->count++];
    offset_for_leader_epoch_response_epoch_end_offset_init(out);
    out->partition = q->partition;
    k->out = out;
    k->current_leader_epoch = q->current_leader_epoch;
    k->epoch = q->leader_epoch;
    if (topic == NULL || topic_partition(topic, q->partition) == NULL)
        k->item.error = KE_UNKNOWN_TOPIC_OR_PARTITION;
    else
        parts_add(p, &k->item, topic->id, q->partition);
}

static bool epochs_split(struct parts *p, struct epochs *s)
{
    struct arena *arena = &p->flow->arena;
    uint32_t count = 0;
    for (int32_t i = 0; i < s->request.topics_count; i++)
        count += (uint32_t)MAX(s->request.topics[i].partitions_count, 0);
    s->lookups = arena_array(arena, count, sizeof(*s->lookups));
    s->response.topics =
        arena_array(arena, (size_t)MAX(s->request.topics_count, 0), sizeof(*s->response.topics));
    if (s->lookups == NULL || s->response.topics == NULL)
        return false;
    for (int32_t i = 0; i < s->request.topics_count; i++) {
        const struct offset_for_leader_epoch_request_offset_for_leader_topic *t =
            &s->request.topics[i];
        struct offset_for_leader_epoch_response_offset_for_leader_topic_result *out =
            &s->response.topics[s->response.topics_count++];
        const struct topic_image *topic = image_topic_by_name(&p->flow->core->image, t->topic.data,
                                                              (uint32_t)MAX(t->topic.size, 0));
        out->topic = t->topic;
        out->partitions_count = MAX(t->partitions_count, 0);
        out->partitions =
            arena_array(arena, (size_t)out->partitions_count, sizeof(*out->partitions));
        if (out->partitions == NULL)
            return false;
        for (int32_t j = 0; j < t->partitions_count; j++)
            epochs_add(p, s, topic, &t->partitions[j], &out->partitions[j]);
    }
    return true;
}

void offset_for_leader_epoch_start(struct flow *f, struct wire_reader *body)
{
    struct epochs *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, offset_for_leader_epoch, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct parts *p = parts_make(f, epochs_serve, epochs_answer, s);
    if (p == NULL)
        return;
    offset_for_leader_epoch_response_init(&s->response);
    if (!epochs_split(p, s)) {
        flow_refuse(f, "no memory");
        return;
    }
    parts_run(p);
}
