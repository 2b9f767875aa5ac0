/* DescribeLogDirs (key 35): what lies in which log directory, and how full their disks are. Home
 * knows from the metadata which partitions there are; their owners know size and place. */
#include "broker/api/api.h"
#include "broker/api/parts.h"
#include "broker/data_core.h"
#include "proto/gen/describe_log_dirs.h"

struct placed {
    struct parts_item item;
    const char *topic;
    uint32_t topic_size;
    uint32_t dir; /* the owner's answer */
    uint64_t size_bytes;
};

struct log_dirs {
    struct describe_log_dirs_request request;
    struct describe_log_dirs_response response;
    struct placed *items;
    uint32_t count;
};

static void log_dirs_serve(struct data_core *owner, struct parts_item *item, struct log *l)
{
    struct placed *k = container_of(item, struct placed, item);
    (void)owner;
    k->dir = log_dir(l);
    k->size_bytes = log_size_bytes(l);
}

/* ---- home ------------------------------------------------------------------------------------ */

static bool items_same_topic(const struct placed *a, const struct placed *b)
{
    return uuid_equal(a->item.topic_id, b->item.topic_id);
}

/* All items of one directory, grouped by topic: items of a topic are neighbours. */
static bool log_dir_fill(struct parts *p, const struct log_dirs *s, uint32_t dir,
                         struct describe_log_dirs_response_describe_log_dirs_result *out)
{
    struct arena *arena = &p->flow->arena;
    struct describe_log_dirs_response_describe_log_dirs_partition *partitions =
        arena_array(arena, s->count, sizeof(*partitions));
    out->topics = arena_array(arena, s->count, sizeof(*out->topics));
    if (partitions == NULL || out->topics == NULL)
        return false;
    const struct placed *before = NULL;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct placed *k = &s->items[i];
        if (k->item.error != KE_NONE || k->dir != dir)
            continue;
        if (before == NULL || !items_same_topic(before, k)) {
            struct describe_log_dirs_response_describe_log_dirs_topic *t =
                &out->topics[out->topics_count++];
            t->name = (struct wire_string){k->topic, (int32_t)k->topic_size};
            t->partitions = partitions;
        }
        partitions->partition_index = k->item.partition;
        partitions->partition_size = (int64_t)k->size_bytes;
        partitions++;
        out->topics[out->topics_count - 1].partitions_count++;
        before = k;
    }
    return true;
}

static void log_dirs_answer(struct parts *p)
{
    struct log_dirs *s = p->state;
    struct data_core *core = p->flow->core;
    uint32_t count = core->config->log_dirs_count;
    s->response.results = arena_array(&p->flow->arena, count, sizeof(*s->response.results));
    if (s->response.results == NULL) {
        flow_refuse(p->flow, "no memory");
        return;
    }
    s->response.results_count = (int32_t)count;
    for (uint32_t d = 0; d < count; d++) {
        struct describe_log_dirs_response_describe_log_dirs_result *out = &s->response.results[d];
        describe_log_dirs_response_describe_log_dirs_result_init(out);
        out->log_dir = wire_string_of(core->config->log_dirs[d]);
        uint64_t total, usable;
        if (core->troubles[d].told ||
            io_space(core->io, core->config->log_dirs[d], &total, &usable) != 0) {
            out->error_code = KE_KAFKA_STORAGE_ERROR;
            continue;
        }
        out->total_bytes = (int64_t)total;
        out->usable_bytes = (int64_t)usable;
        if (!log_dir_fill(p, s, d, out)) {
            flow_refuse(p->flow, "no memory");
            return;
        }
    }
    FLOW_ANSWER(p->flow, &s->response, describe_log_dirs_response);
}

static void log_dirs_add(struct parts *p, struct log_dirs *s, const struct topic_image *t,
                         int32_t partition)
{
    struct placed *k = &s->items[s->count++];
    k->topic_size = t->name_size;
    k->topic = arena_copy(&p->flow->arena, t->name, t->name_size); /* the leaf may go meanwhile */
    if (k->topic == NULL)
        k->item.error = KE_UNKNOWN_SERVER_ERROR;
    else
        parts_add(p, &k->item, t->id, partition);
}

static bool log_dirs_all(struct parts *p, struct log_dirs *s)
{
    const struct image *image = &p->flow->core->image;
    s->items = arena_array(&p->flow->arena, image->partitions_count, sizeof(*s->items));
    for (uint32_t i = 0; s->items != NULL && i < image->topics_count; i++) {
        const struct topic_image *t = image->topics[i];
        for (uint32_t j = 0; j < t->partitions_count; j++)
            log_dirs_add(p, s, t, t->partitions[j].index);
    }
    return s->items != NULL;
}

/* Topics and partitions that do not exist are left out of the answer, as Kafka does. */
static bool log_dirs_asked(struct parts *p, struct log_dirs *s)
{
    uint32_t count = 0;
    for (int32_t i = 0; i < s->request.topics_count; i++)
        count += (uint32_t)MAX(s->request.topics[i].partitions_count, 0);
    s->items = arena_array(&p->flow->arena, count, sizeof(*s->items));
    for (int32_t i = 0; s->items != NULL && i < s->request.topics_count; i++) {
        const struct describe_log_dirs_request_describable_log_dir_topic *t = &s->request.topics[i];
        const struct topic_image *topic = image_topic_by_name(&p->flow->core->image, t->topic.data,
                                                              (uint32_t)MAX(t->topic.size, 0));
        for (int32_t j = 0; topic != NULL && j < t->partitions_count; j++) {
            if (topic_partition(topic, t->partitions[j]) != NULL)
                log_dirs_add(p, s, topic, t->partitions[j]);
        }
    }
    return s->items != NULL;
}

void describe_log_dirs_start(struct flow *f, struct wire_reader *body)
{
    struct log_dirs *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, describe_log_dirs, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct parts *p = parts_make(f, log_dirs_serve, log_dirs_answer, s);
    if (p == NULL)
        return;
    describe_log_dirs_response_init(&s->response);
    if (s->request.topics_count < 0 ? !log_dirs_all(p, s) : !log_dirs_asked(p, s)) {
        flow_refuse(f, "no memory");
        return;
    }
    parts_run(p);
}
