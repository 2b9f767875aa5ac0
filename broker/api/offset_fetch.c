/* OffsetFetch (key 9): how far groups have read. Up to version 7 a request is about one group, from
 * 8 on about several, each with its coordinator; version 10 speaks of topics by their ids.
 *
 *   v1-7  one group ──▶ one item ──▶ the old shape (v1: its error goes to every partition)
 *   v8+   n groups  ──▶ n items
 *   v10   ids become names here before, and names ids after; an id that is unknown is answered
 *         here, a name that has no id any more is left out of "all topics" */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "proto/gen/offset_fetch.h"

struct fetched {
    struct group_item item;
    struct offset_fetch_request_group asked; /* what the coordinator is asked: known topics only */
    struct offset_fetch_response_group told;
};

struct offset_fetch {
    struct flow *flow;
    struct offset_fetch_request request;
    struct offset_fetch_response response;
    struct fetched *groups;
    uint32_t count;
};

/* ---- ask ------------------------------------------------------------------------------------- */

/* Versions 1-7, as if it were one group of version 8. */
static bool ask_old(struct offset_fetch *s, struct fetched *g)
{
    const struct offset_fetch_request *r = &s->request;
    struct arena *arena = &s->flow->arena;
    offset_fetch_request_group_init(&g->asked);
    g->asked.group_id = r->group_id;
    g->asked.topics_count = r->topics_count;
    g->asked.topics = arena_array(arena, (size_t)MAX(r->topics_count, 0), sizeof(*g->asked.topics));
    for (int32_t i = 0; g->asked.topics != NULL && i < r->topics_count; i++) {
        struct offset_fetch_request_topics *t = &g->asked.topics[i];
        offset_fetch_request_topics_init(t);
        t->name = r->topics[i].name;
        t->partition_indexes = r->topics[i].partition_indexes;
        t->partition_indexes_count = r->topics[i].partition_indexes_count;
    }
    return g->asked.topics != NULL;
}

/* Ids that are known, with their names. */
static bool ask_by_id(struct offset_fetch *s, struct fetched *g,
                      const struct offset_fetch_request_group *r)
{
    struct arena *arena = &s->flow->arena;
    uint32_t count = (uint32_t)MAX(r->topics_count, 0);
    g->asked.topics = arena_array(arena, count, sizeof(*g->asked.topics));
    g->asked.topics_count = r->topics_count < 0 ? -1 : 0;
    if (g->asked.topics == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct topic_image *t =
            image_topic_by_id(&s->flow->core->image, r->topics[i].topic_id);
        if (t == NULL)
            continue;
        struct offset_fetch_request_topics *out = &g->asked.topics[g->asked.topics_count++];
        *out = r->topics[i];
        out->name =
            (struct wire_string){arena_copy(arena, t->name, t->name_size), (int32_t)t->name_size};
        if (out->name.data == NULL)
            return false;
    }
    return true;
}

static bool ask_one(struct offset_fetch *s, uint32_t i)
{
    struct fetched *g = &s->groups[i];
    if (s->flow->api_version < 8)
        return ask_old(s, g);
    g->asked = s->request.groups[i];
    return s->flow->api_version < 10 || ask_by_id(s, g, &s->request.groups[i]);
}

/* ---- answer ---------------------------------------------------------------------------------- */

static bool tell_unknown(struct offset_fetch *s, const struct offset_fetch_request_topics *asked,
                         struct offset_fetch_response_topics *out)
{
    uint32_t count = (uint32_t)MAX(asked->partition_indexes_count, 0);
    offset_fetch_response_topics_init(out);
    out->topic_id = asked->topic_id;
    out->partitions = arena_array(&s->flow->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        offset_fetch_response_partitions_init(&out->partitions[i]);
        out->partitions[i].partition_index = asked->partition_indexes[i];
        out->partitions[i].committed_offset = -1;
        out->partitions[i].metadata = wire_string_of("");
        out->partitions[i].error_code = KE_UNKNOWN_TOPIC_ID;
    }
    out->partitions_count = (int32_t)count;
    return true;
}

/* All topics of the group that still have an id. */
static void tell_all_by_id(struct offset_fetch *s, struct offset_fetch_response_group *out)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < out->topics_count; i++) {
        struct offset_fetch_response_topics *t = &out->topics[i];
        const struct topic_image *image =
            image_topic_by_name(&s->flow->core->image, t->name.data, (uint32_t)t->name.size);
        if (image == NULL)
            continue;
        t->topic_id = image->id;
        out->topics[kept++] = *t;
    }
    out->topics_count = kept;
}

/* In the order of the request, those without a name too. */
static bool tell_by_id(struct offset_fetch *s, uint32_t i, struct offset_fetch_response_group *out)
{
    const struct offset_fetch_request_group *r = &s->request.groups[i];
    if (r->topics_count < 0)
        tell_all_by_id(s, out);
    if (r->topics_count < 0 || out->error_code != KE_NONE)
        return true;
    struct offset_fetch_response_topics *topics =
        arena_array(&s->flow->arena, (size_t)r->topics_count, sizeof(*topics));
    int32_t known = 0;
    for (int32_t t = 0; topics != NULL && t < r->topics_count; t++) {
        bool came = known < out->topics_count &&
                    uuid_equal(out->topics[known].topic_id, r->topics[t].topic_id);
        if (came)
            topics[t] = out->topics[known++];
        else if (!tell_unknown(s, &r->topics[t], &topics[t]))
            return false;
    }
    out->topics = topics;
    out->topics_count = r->topics_count;
    return topics != NULL;
}

/* Version 1 has no error for the group: every partition says it. */
static bool tell_old_error(struct offset_fetch *s, int16_t error)
{
    const struct offset_fetch_request *r = &s->request;
    struct arena *arena = &s->flow->arena;
    struct offset_fetch_response *out = &s->response;
    uint32_t count = s->flow->api_version < 2 ? (uint32_t)MAX(r->topics_count, 0) : 0;
    out->error_code = error;
    out->topics = arena_array(arena, count, sizeof(*out->topics));
    for (uint32_t i = 0; out->topics != NULL && i < count; i++) {
        struct offset_fetch_response_topic *t = &out->topics[out->topics_count++];
        uint32_t parts = (uint32_t)MAX(r->topics[i].partition_indexes_count, 0);
        offset_fetch_response_topic_init(t);
        t->name = r->topics[i].name;
        t->partitions = arena_array(arena, parts, sizeof(*t->partitions));
        if (t->partitions == NULL)
            return false;
        t->partitions_count = (int32_t)parts;
        for (uint32_t j = 0; j < parts; j++) {
            offset_fetch_response_partition_init(&t->partitions[j]);
            t->partitions[j].partition_index = r->topics[i].partition_indexes[j];
            t->partitions[j].committed_offset = -1;
            t->partitions[j].metadata = wire_string_of("");
            t->partitions[j].error_code = error;
        }
    }
    return out->topics != NULL;
}

static bool tell_old(struct offset_fetch *s, const struct offset_fetch_response_group *g)
{
    struct arena *arena = &s->flow->arena;
    struct offset_fetch_response *out = &s->response;
    if (g->error_code != KE_NONE)
        return tell_old_error(s, g->error_code);
    out->topics = arena_array(arena, (size_t)g->topics_count, sizeof(*out->topics));
    for (int32_t i = 0; out->topics != NULL && i < g->topics_count; i++) {
        const struct offset_fetch_response_topics *from = &g->topics[i];
        struct offset_fetch_response_topic *t = &out->topics[out->topics_count++];
        offset_fetch_response_topic_init(t);
        t->name = from->name;
        t->partitions = arena_array(arena, (size_t)from->partitions_count, sizeof(*t->partitions));
        if (t->partitions == NULL)
            return false;
        t->partitions_count = from->partitions_count;
        for (int32_t j = 0; j < from->partitions_count; j++)
            t->partitions[j] = (struct offset_fetch_response_partition){
                .partition_index = from->partitions[j].partition_index,
                .committed_offset = from->partitions[j].committed_offset,
                .committed_leader_epoch = from->partitions[j].committed_leader_epoch,
                .metadata = from->partitions[j].metadata,
                .error_code = from->partitions[j].error_code};
    }
    return out->topics != NULL;
}

static bool tell_groups(struct offset_fetch *s)
{
    struct offset_fetch_response *out = &s->response;
    out->groups = arena_array(&s->flow->arena, s->count, sizeof(*out->groups));
    for (uint32_t i = 0; out->groups != NULL && i < s->count; i++) {
        out->groups[i] = s->groups[i].told;
        if (s->flow->api_version >= 10 && !tell_by_id(s, i, &out->groups[i]))
            return false;
    }
    out->groups_count = (int32_t)s->count;
    return out->groups != NULL;
}

static void offset_fetch_answer(struct group_ask *a)
{
    struct offset_fetch *s = a->state;
    offset_fetch_response_init(&s->response);
    bool told = s->flow->api_version < 8 ? tell_old(s, &s->groups[0].told) : tell_groups(s);
    if (told)
        FLOW_ANSWER(a->flow, &s->response, offset_fetch_response);
    else
        flow_refuse(a->flow, "no memory for the answer");
}

void offset_fetch_start(struct flow *f, struct wire_reader *body)
{
    struct offset_fetch *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, offset_fetch, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    s->flow = f;
    s->count = f->api_version < 8 ? 1 : (uint32_t)MAX(s->request.groups_count, 0);
    struct group_ask *a = group_ask_make(f, offset_fetch_answer, s);
    if (a == NULL)
        return;
    s->groups = arena_array(&f->arena, s->count, sizeof(*s->groups));
    for (uint32_t i = 0; s->groups != NULL && i < s->count; i++) {
        struct fetched *g = &s->groups[i];
        if (!ask_one(s, i)) {
            s->groups = NULL;
            break;
        }
        g->item.call.kind = GROUP_FETCH;
        g->item.call.require_stable = s->request.require_stable;
        g->item.call.request = &g->asked;
        g->item.call.response = &g->told;
        group_ask_add(a, &g->item, g->asked.group_id);
    }
    if (s->groups == NULL)
        flow_refuse(f, "no memory");
    else
        group_ask_run(a);
}
