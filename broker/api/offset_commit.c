/* OffsetCommit and OffsetDelete (keys 8, 47): a group notes how far it has read, or forgets it.
 *
 * Home says for each partition whether there is such a topic and partition, and puts the names of
 * topics that are asked for by id (version 10); the rest goes to the group's coordinator. The
 * response is made here with a place for each partition of the request; the coordinator fills in
 * its codes where home had none.
 *
 * Failure modes: nothing left to commit: answered without asking, as Kafka does. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_delete.h"

struct commit {
    struct group_item item;
    struct offset_commit_request request;
    struct offset_commit_response response;
    uint32_t left; /* partitions that home does not refuse */
};

/* The name stays while the request is away: the topic may be deleted meanwhile. */
static bool commit_name(struct flow *f, const struct topic_image *t, struct wire_string *name)
{
    if (t == NULL)
        return true;
    *name =
        (struct wire_string){arena_copy(&f->arena, t->name, t->name_size), (int32_t)t->name_size};
    return name->data != NULL;
}

static bool commit_topic(struct flow *f, struct commit *s, struct offset_commit_request_topic *in,
                         struct offset_commit_response_topic *out)
{
    const struct image *image = &f->core->image;
    bool by_id = f->api_version >= 10;
    const struct topic_image *t =
        by_id ? image_topic_by_id(image, in->topic_id)
              : image_topic_by_name(image, in->name.data, (uint32_t)MAX(in->name.size, 0));
    uint32_t count = (uint32_t)MAX(in->partitions_count, 0);
    offset_commit_response_topic_init(out);
    out->name = in->name;
    out->topic_id = in->topic_id;
    out->partitions = arena_array(&f->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL || (by_id && !commit_name(f, t, &in->name)))
        return false;
    out->partitions_count = (int32_t)count;
    if (!by_id) /* the id is kept with the offset in any case */
        in->topic_id = t != NULL ? t->id : (struct uuid){{0}};
    for (uint32_t i = 0; i < count; i++) {
        int32_t partition = in->partitions[i].partition_index;
        out->partitions[i].partition_index = partition;
        if (t == NULL)
            out->partitions[i].error_code =
                by_id ? KE_UNKNOWN_TOPIC_ID : KE_UNKNOWN_TOPIC_OR_PARTITION;
        else if (topic_partition(t, partition) == NULL)
            out->partitions[i].error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        else
            s->left++;
    }
    return true;
}

static void commit_answer(struct group_ask *a)
{
    struct commit *s = a->state;
    FLOW_ANSWER(a->flow, &s->response, offset_commit_response);
}

void offset_commit_start(struct flow *f, struct wire_reader *body)
{
    struct commit *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, offset_commit, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_ask *a = group_ask_make(f, commit_answer, s);
    if (a == NULL)
        return;
    uint32_t count = (uint32_t)MAX(s->request.topics_count, 0);
    offset_commit_response_init(&s->response);
    s->response.topics = arena_array(&f->arena, count, sizeof(*s->response.topics));
    bool made = s->response.topics != NULL;
    for (uint32_t i = 0; made && i < count; i++)
        made = commit_topic(f, s, &s->request.topics[i], &s->response.topics[i]);
    if (!made) {
        flow_refuse(f, "no memory");
        return;
    }
    s->response.topics_count = (int32_t)count;
    s->item.call.kind = GROUP_COMMIT;
    s->item.call.request = &s->request;
    s->item.call.response = &s->response;
    if (s->left > 0)
        group_ask_add(a, &s->item, s->request.group_id);
    group_ask_run(a);
}

/* ---- OffsetDelete ---------------------------------------------------------------------------- */

struct forget {
    struct group_item item;
    struct offset_delete_request request;
    struct offset_delete_response response;
};

static bool forget_topic(struct flow *f, const struct offset_delete_request_topic *in,
                         struct offset_delete_response_topic *out)
{
    const struct topic_image *t =
        image_topic_by_name(&f->core->image, in->name.data, (uint32_t)MAX(in->name.size, 0));
    uint32_t count = (uint32_t)MAX(in->partitions_count, 0);
    offset_delete_response_topic_init(out);
    out->name = in->name;
    out->partitions = arena_array(&f->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    out->partitions_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        out->partitions[i].partition_index = in->partitions[i].partition_index;
        if (t == NULL || topic_partition(t, in->partitions[i].partition_index) == NULL)
            out->partitions[i].error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
    }
    return true;
}

static void forget_answer(struct group_ask *a)
{
    struct forget *s = a->state;
    FLOW_ANSWER(a->flow, &s->response, offset_delete_response);
}

void offset_delete_start(struct flow *f, struct wire_reader *body)
{
    struct forget *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, offset_delete, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_ask *a = group_ask_make(f, forget_answer, s);
    if (a == NULL)
        return;
    uint32_t count = (uint32_t)MAX(s->request.topics_count, 0);
    offset_delete_response_init(&s->response);
    s->response.topics = arena_array(&f->arena, count, sizeof(*s->response.topics));
    bool made = s->response.topics != NULL;
    for (uint32_t i = 0; made && i < count; i++)
        made = forget_topic(f, &s->request.topics[i], &s->response.topics[i]);
    if (!made) {
        flow_refuse(f, "no memory");
        return;
    }
    s->response.topics_count = (int32_t)count;
    s->item.call.kind = GROUP_OFFSET_DELETE;
    s->item.call.request = &s->request;
    s->item.call.response = &s->response;
    group_ask_add(a, &s->item, s->request.group_id);
    group_ask_run(a);
}
