/* DescribeTopicPartitions (key 75): topics in name order, page by page. A page ends when it holds
 * as many partitions as the client or max.request.partition.size.limit allows; the cursor then says
 * where the next one begins (DescribeTopicPartitionsRequestHandler). */
#include "broker/api/api.h"
#include "broker/api/names.h"
#include "broker/data_core.h"
#include "proto/gen/describe_topic_partitions.h"

#include <stdlib.h>
#include <string.h>

struct page {
    struct flow *flow;
    struct describe_topic_partitions_request request;
    struct describe_topic_partitions_response response;
    struct describe_topic_partitions_response_cursor cursor;
    struct wire_string *names; /* asked, sorted */
    uint32_t names_count;
    int32_t left; /* partitions that still fit */
};

static int name_compare(struct wire_string a, struct wire_string b)
{
    int order = memcmp(a.data, b.data, (size_t)MIN(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int name_order(const void *a, const void *b)
{
    return name_compare(*(const struct wire_string *)a, *(const struct wire_string *)b);
}

static void add_partition(const struct partition_image *p,
                          struct describe_topic_partitions_response_partition *out)
{
    describe_topic_partitions_response_partition_init(out);
    out->error_code = p->leader == PARTITION_LEADER_NONE ? KE_LEADER_NOT_AVAILABLE : KE_NONE;
    out->partition_index = p->index;
    out->leader_id = p->leader;
    out->leader_epoch = p->leader_epoch;
    /* Encoded, never written. */
    out->replica_nodes = (int32_t *)(uintptr_t)p->replicas;
    out->replica_nodes_count = p->replicas_count;
    out->isr_nodes = (int32_t *)(uintptr_t)p->isr;
    out->isr_nodes_count = p->isr_count;
    out->eligible_leader_replicas = (int32_t *)(uintptr_t)p->elr;
    out->eligible_leader_replicas_count = p->elr_count;
    out->last_known_elr = (int32_t *)(uintptr_t)p->last_known_elr;
    out->last_known_elr_count = p->last_known_elr_count;
}

static struct describe_topic_partitions_response_topic *add_topic(struct page *p,
                                                                  struct wire_string name)
{
    struct describe_topic_partitions_response_topic *out =
        &p->response.topics[p->response.topics_count++];
    describe_topic_partitions_response_topic_init(out);
    out->name = name;
    return out;
}

static void end_page(struct page *p, struct wire_string topic, int32_t partition)
{
    p->cursor.topic_name = topic;
    p->cursor.partition_index = partition;
    p->response.next_cursor = &p->cursor;
}

/* false: no memory. */
static bool add_found(struct page *p, const struct topic_image *t, int32_t first)
{
    struct wire_string name = {t->name, (int32_t)t->name_size};
    struct describe_topic_partitions_response_topic *out = add_topic(p, name);
    int32_t count = (int32_t)t->partitions_count;
    int32_t end = (int32_t)MIN((int64_t)count, (int64_t)first + p->left);
    out->topic_id = t->id;
    out->is_internal = t->internal;
    out->topic_authorized_operations = OPERATIONS_TOPIC;
    out->partitions =
        arena_array(&p->flow->arena, (size_t)MAX(end - first, 0), sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    for (int32_t i = first; i < end; i++)
        add_partition(&t->partitions[i], &out->partitions[out->partitions_count++]);
    p->left -= MAX(end - first, 0);
    if (end < count)
        end_page(p, name, end);
    return true;
}

static void add_missing(struct page *p, struct wire_string name)
{
    struct describe_topic_partitions_response_topic *out = add_topic(p, name);
    out->error_code =
        topic_name_valid(name) ? KE_UNKNOWN_TOPIC_OR_PARTITION : KE_INVALID_TOPIC_EXCEPTION;
    out->topic_authorized_operations = OPERATIONS_TOPIC;
}

/* A cursor before the first partition: every topic asked for is answered with the error. */
static bool page_refuse(struct page *p)
{
    uint32_t count = (uint32_t)MAX(p->request.topics_count, 0);
    p->response.topics = arena_array(&p->flow->arena, count, sizeof(*p->response.topics));
    for (uint32_t i = 0; p->response.topics != NULL && i < count; i++)
        add_topic(p, p->request.topics[i].name)->error_code = KE_INVALID_REQUEST;
    return p->response.topics != NULL;
}

/* One name; false: the page is full, or memory is short (then the flow is told below). */
static bool page_add(struct page *p, struct wire_string name, bool *memory)
{
    const struct topic_image *t =
        image_topic_by_name(&p->flow->core->image, name.data, (uint32_t)name.size);
    const struct describe_topic_partitions_request_cursor *c = p->request.cursor;
    int32_t first = c != NULL && wire_string_equal(c->topic_name, name) ? c->partition_index : 0;
    if (p->left <= 0) {
        end_page(p, name, first);
        return false;
    }
    if (t != NULL)
        *memory = add_found(p, t, MAX(first, 0));
    else
        add_missing(p, name);
    return *memory && p->response.next_cursor == NULL;
}

/* Asked for by name, sorted and without repeats; or all there are. */
static bool page_names(struct page *p)
{
    const struct image *image = &p->flow->core->image;
    bool all = p->request.topics_count <= 0;
    uint32_t count = all ? image->topics_count : (uint32_t)p->request.topics_count;
    p->names = arena_array(&p->flow->arena, count, sizeof(*p->names));
    p->response.topics = arena_array(&p->flow->arena, count, sizeof(*p->response.topics));
    if (p->names == NULL || p->response.topics == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++)
        p->names[i] =
            all ? (struct wire_string){image->topics[i]->name, (int32_t)image->topics[i]->name_size}
                : p->request.topics[i].name;
    if (!all && count > 1)
        qsort(p->names, count, sizeof(*p->names), name_order);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || name_compare(p->names[i - 1], p->names[i]) != 0)
            p->names[p->names_count++] = p->names[i];
    }
    return true;
}

void describe_topic_partitions_start(struct flow *f, struct wire_reader *body)
{
    struct page p = {.flow = f};
    bool memory = true;
    if (!FLOW_DECODE(f, describe_topic_partitions, &p.request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    describe_topic_partitions_response_init(&p.response);
    if (p.request.cursor != NULL && p.request.cursor->partition_index < 0) {
        if (page_refuse(&p))
            FLOW_ANSWER(f, &p.response, describe_topic_partitions_response);
        else
            flow_refuse(f, "no memory");
        return;
    }
    int32_t limit = f->core->config->max_request_partition_size_limit;
    p.left = MIN(limit, p.request.response_partition_limit);
    if (p.left <= 0)
        p.left = limit;
    if (!page_names(&p)) {
        flow_refuse(f, "no memory");
        return;
    }
    for (uint32_t i = 0; i < p.names_count; i++) {
        if (p.request.cursor != NULL && name_compare(p.names[i], p.request.cursor->topic_name) < 0)
            continue;
        if (!page_add(&p, p.names[i], &memory))
            break;
    }
    if (memory)
        FLOW_ANSWER(f, &p.response, describe_topic_partitions_response);
    else
        flow_refuse(f, "no memory");
}
