/* ListOffsets (key 2): from a time to an offset.
 *
 *   -1 latest: the readable end (high watermark, or last stable offset for read_committed)
 *   -2 earliest   -3 the record with the largest timestamp (v7)   -4 earliest local (v8): = -2 here
 *   -5 latest tiered (v9), -6 earliest pending upload (v11): nothing is tiered, so -1 and epoch -1
 *   >= 0: the first record with a timestamp at or behind it, inside its batch; none: offset -1
 *
 * The epoch told is the record's own, or the current one for the end (ReplicaManager.fetchOffset).
 * Special timestamps below the version that brought them are refused per partition. Lookups by time
 * read a few index and log blocks at once on the owner core. */
#include "broker/api/api.h"
#include "broker/api/parts.h"
#include "broker/data_core.h"
#include "proto/gen/list_offsets.h"

enum special_time {
    TIME_LATEST = -1,
    TIME_EARLIEST = -2,
    TIME_MAX = -3,
    TIME_EARLIEST_LOCAL = -4,
    TIME_LATEST_TIERED = -5,
    TIME_EARLIEST_PENDING_UPLOAD = -6,
};

struct lookup {
    struct parts_item item;
    int64_t timestamp;
    int32_t current_leader_epoch;
    enum log_isolation isolation;
    struct log_position found;
    struct list_offsets_response_list_offsets_partition_response *out;
};

struct list_offsets {
    struct list_offsets_request request;
    struct list_offsets_response response;
    struct lookup *lookups;
    uint32_t count;
};

static bool time_known(int64_t timestamp, int16_t version)
{
    switch (timestamp) {
    case TIME_MAX:
        return version >= 7;
    case TIME_EARLIEST_LOCAL:
        return version >= 8;
    case TIME_LATEST_TIERED:
        return version >= 9;
    case TIME_EARLIEST_PENDING_UPLOAD:
        return version >= 11;
    default:
        return timestamp >= TIME_EARLIEST;
    }
}

/* ---- owner ----------------------------------------------------------------------------------- */

static void found_end(const struct log *l, const struct lookup *k, struct log_position *found)
{
    found->offset = k->isolation == LOG_READ_STABLE ? log_last_stable_offset(l)
                    : k->isolation == LOG_READ_END  ? log_end_offset(l)
                                                    : log_high_watermark(l);
    found->leader_epoch = log_leader_epoch(l);
}

static void list_offsets_serve(struct data_core *owner, struct parts_item *item, struct log *l)
{
    struct lookup *k = container_of(item, struct lookup, item);
    struct log_position *found = &k->found;
    (void)owner;
    item->error = parts_check_epoch(l, k->current_leader_epoch);
    if (item->error != KE_NONE)
        return;
    switch (k->timestamp) {
    case TIME_LATEST:
        found_end(l, k, found);
        return;
    case TIME_EARLIEST:
    case TIME_EARLIEST_LOCAL:
        found->offset = log_start_offset(l);
        found->leader_epoch = log_epoch_at(l, found->offset);
        return;
    case TIME_MAX:
        item->error = log_find_max_time(l, k->isolation, found);
        return;
    case TIME_LATEST_TIERED:
    case TIME_EARLIEST_PENDING_UPLOAD:
        return;
    default:
        item->error = log_find_time(l, k->timestamp, k->isolation, found);
    }
}

/* ---- home ------------------------------------------------------------------------------------ */

static void list_offsets_answer(struct parts *p)
{
    struct list_offsets *s = p->state;
    for (uint32_t i = 0; i < s->count; i++) {
        struct lookup *k = &s->lookups[i];
        k->out->error_code = (int16_t)k->item.error;
        if (k->item.error != KE_NONE)
            continue;
        k->out->timestamp = k->found.timestamp;
        k->out->offset = k->found.offset;
        if (p->flow->api_version >= 4)
            k->out->leader_epoch = k->found.leader_epoch;
    }
    FLOW_ANSWER(p->flow, &s->response, list_offsets_response);
}

static enum log_isolation request_isolation(const struct list_offsets_request *r)
{
    if (r->replica_id != -1) /* a follower or a debugging consumer sees the log's end */
        return LOG_READ_END;
    return r->isolation_level == 1 ? LOG_READ_STABLE : LOG_READ_HIGH_WATERMARK;
}

/* The same partition twice in one topic entry: Kafka refuses each of them. */
static bool partition_repeated(const struct list_offsets_request_list_offsets_topic *t, int32_t at)
{
    for (int32_t i = 0; i < t->partitions_count; i++) {
        if (i != at && t->partitions[i].partition_index == t->partitions[at].partition_index)
            return true;
    }
    return false;
}

static void lookup_add(struct parts *p, struct list_offsets *s, const struct topic_image *topic,
                       const struct list_offsets_request_list_offsets_topic *t, int32_t at,
                       struct list_offsets_response_list_offsets_partition_response *out)
{
    const struct list_offsets_request_list_offsets_partition *q = &t->partitions[at];
    struct lookup *k = &s->lookups[s->count++];
    list_offsets_response_list_offsets_partition_response_init(out);
    out->partition_index = q->partition_index;
    k->out = out;
    k->timestamp = q->timestamp;
    k->current_leader_epoch = q->current_leader_epoch;
    k->isolation = request_isolation(&s->request);
    k->found = (struct log_position){-1, -1, -1};
    if (partition_repeated(t, at))
        k->item.error = KE_INVALID_REQUEST;
    else if (!time_known(q->timestamp, p->flow->api_version))
        k->item.error = KE_UNSUPPORTED_VERSION;
    else if (topic == NULL || topic_partition(topic, q->partition_index) == NULL)
        k->item.error = KE_UNKNOWN_TOPIC_OR_PARTITION;
    else
        parts_add(p, &k->item, topic->id, q->partition_index);
}

static bool list_offsets_split(struct parts *p, struct list_offsets *s)
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
        const struct list_offsets_request_list_offsets_topic *t = &s->request.topics[i];
        struct list_offsets_response_list_offsets_topic_response *out =
            &s->response.topics[s->response.topics_count++];
        const struct topic_image *topic = image_topic_by_name(&p->flow->core->image, t->name.data,
                                                              (uint32_t)MAX(t->name.size, 0));
        out->name = t->name;
        out->partitions_count = MAX(t->partitions_count, 0);
        out->partitions =
            arena_array(arena, (size_t)out->partitions_count, sizeof(*out->partitions));
        if (out->partitions == NULL)
            return false;
        for (int32_t j = 0; j < t->partitions_count; j++)
            lookup_add(p, s, topic, t, j, &out->partitions[j]);
    }
    return true;
}

void list_offsets_start(struct flow *f, struct wire_reader *body)
{
    struct list_offsets *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, list_offsets, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct parts *p = parts_make(f, list_offsets_serve, list_offsets_answer, s);
    if (p == NULL)
        return;
    list_offsets_response_init(&s->response);
    if (!list_offsets_split(p, s)) {
        flow_refuse(f, "no memory");
        return;
    }
    parts_run(p);
}
