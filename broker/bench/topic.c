/* The topic a load runs on. Everything here is before or after a measurement and may wait: a topic
 * just made has no leaders for a moment, and a partition just led may not know its end yet.
 *
 * Invariants:
 *  1. After bench_topic_find every partition 0 .. partitions_count - 1 has a leader in nodes.
 *  2. A cluster of one node is spoken to under the address the user gave, whatever it advertises.
 *
 * Failure modes: a topic that is not there or not led after PATIENCE looks; nodes that advertise
 * names, where there are several: addresses are numeric here. */
#include "broker/bench/topic.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/list_offsets.h"
#include "proto/gen/metadata.h"

#define PATIENCE      600u /* looks, a tenth of a second apart */
#define PATIENCE_MS   100u
#define DELETE_MS     60000
#define PARTITIONS_AT 10000u /* per request */
#define TOPICS_BY_ID  6      /* DeleteTopics from this version on may name them by id */

static const char *error_text(int16_t error)
{
    return kafka_error_name((enum kafka_error)error);
}

bool bench_topic_make(struct bench_client *c, const char *name, uint32_t partitions, int16_t copies,
                      const char *const *configs, uint32_t configs_count)
{
    struct create_topics_request_creatable_topic_config pairs[BENCH_CONFIGS_MAX];
    assert(partitions > 0 && configs_count <= BENCH_CONFIGS_MAX);
    for (uint32_t i = 0; i < configs_count; i++) {
        const char *equals = strchr(configs[i], '=');
        if (equals == NULL)
            return bench_client_fail(c, "--config %s is not KEY=VALUE", configs[i]);
        create_topics_request_creatable_topic_config_init(&pairs[i]);
        pairs[i].name = (struct wire_string){configs[i], (int32_t)(equals - configs[i])};
        pairs[i].value = wire_string_of(equals + 1);
    }
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request request;
    struct create_topics_response response;
    create_topics_request_creatable_topic_init(&topic);
    topic.name = wire_string_of(name);
    topic.num_partitions = (int32_t)partitions;
    topic.replication_factor = copies;
    topic.configs = pairs;
    topic.configs_count = (int32_t)configs_count;
    create_topics_request_init(&request);
    request.topics = &topic;
    request.topics_count = 1;
    if (!BENCH_ASK(c, API_CREATE_TOPICS, create_topics, &request, &response))
        return false;
    if (response.topics_count != 1)
        return bench_client_fail(c, "CreateTopics was answered for %d topics",
                                 response.topics_count);
    int16_t error = response.topics[0].error_code;
    if (error != KE_NONE && error != KE_TOPIC_ALREADY_EXISTS)
        return bench_client_fail(c, "topic %s cannot be made: %s", name, error_text(error));
    return true;
}

/* ---- finding --------------------------------------------------------------------------------- */

static bool topic_led(const struct metadata_response_topic *t)
{
    for (int32_t i = 0; i < t->partitions_count; i++)
        if (t->partitions[i].error_code != KE_NONE || t->partitions[i].leader_id < 0)
            return false;
    return t->error_code == KE_NONE && t->partitions_count > 0;
}

static bool topic_ask(struct bench_client *c, const char *name, struct metadata_response *response)
{
    struct metadata_request_topic topic;
    struct metadata_request request;
    metadata_request_topic_init(&topic);
    topic.name = wire_string_of(name);
    metadata_request_init(&request);
    request.topics = &topic;
    request.topics_count = 1;
    request.allow_auto_topic_creation = false;
    return BENCH_ASK(c, API_METADATA, metadata, &request, response);
}

static bool topic_nodes(struct bench_topic *t, struct bench_client *c,
                        const struct metadata_response *response)
{
    t->nodes_count = (uint32_t)MAX(response->brokers_count, 0);
    if (t->nodes_count == 0 || t->nodes_count > BENCH_NODES_MAX)
        return bench_client_fail(c, "a cluster of %u nodes", t->nodes_count);
    for (uint32_t i = 0; i < t->nodes_count && t->nodes_count > 1; i++) {
        char text[128], why[160];
        const struct metadata_response_broker *b = &response->brokers[i];
        (void)snprintf(text, sizeof(text), "[%.*s]:%d", (int)b->host.size, b->host.data, b->port);
        if (!bench_address_read(&t->nodes[i], text, why, sizeof(why)))
            return bench_client_fail(c, "node %d: %s", b->node_id, why);
    }
    if (t->nodes_count == 1)
        t->nodes[0] = c->address;
    return true;
}

static bool topic_fill(struct bench_topic *t, struct bench_client *c,
                       const struct metadata_response *response)
{
    const struct metadata_response_topic *m = &response->topics[0];
    t->id = m->topic_id;
    t->partitions_count = (uint32_t)m->partitions_count;
    if (t->partitions_count > BENCH_PARTITIONS_MAX)
        return bench_client_fail(c, "more than %u partitions", BENCH_PARTITIONS_MAX);
    t->leaders = mem_zalloc(t->mem, t->partitions_count);
    if (t->leaders == NULL)
        return bench_client_fail(c, "no memory");
    if (!topic_nodes(t, c, response))
        return false;
    for (uint32_t i = 0; i < t->partitions_count; i++) {
        const struct metadata_response_partition *p = &m->partitions[i];
        uint32_t node = 0;
        while (node < t->nodes_count && response->brokers[node].node_id != p->leader_id)
            node++;
        if (node == t->nodes_count || p->partition_index < 0 ||
            (uint32_t)p->partition_index >= t->partitions_count)
            return bench_client_fail(c, "partition %d is led by node %d, which is not known",
                                     p->partition_index, p->leader_id);
        t->leaders[p->partition_index] = (uint8_t)node;
    }
    return true;
}

bool bench_topic_find(struct bench_topic *t, struct bench_client *c, const char *name)
{
    struct metadata_response response;
    *t = (struct bench_topic){.mem = c->mem, .name = name};
    for (uint32_t i = 0; i < PATIENCE; i++) {
        if (!topic_ask(c, name, &response))
            return false;
        if (response.topics_count == 1 && topic_led(&response.topics[0]))
            return topic_fill(t, c, &response);
        if (response.topics_count == 1 &&
            response.topics[0].error_code == KE_UNKNOWN_TOPIC_OR_PARTITION && i > PATIENCE / 60)
            return bench_client_fail(c, "there is no topic %s; --create N makes one", name);
        bench_client_rest(c, PATIENCE_MS);
    }
    return bench_client_fail(c, "topic %s is not led", name);
}

void bench_topic_free(struct bench_topic *t)
{
    if (t->mem != NULL)
        mem_free(t->mem, t->leaders, t->partitions_count);
    t->leaders = NULL;
}

bool bench_topic_delete(struct bench_client *c, const char *name)
{
    struct delete_topics_request_delete_topic_state topic;
    struct delete_topics_request request;
    struct delete_topics_response response;
    struct wire_string names = wire_string_of(name);
    delete_topics_request_delete_topic_state_init(&topic);
    topic.name = names;
    delete_topics_request_init(&request);
    request.timeout_ms = DELETE_MS;
    if (c->versions[API_DELETE_TOPICS] >= TOPICS_BY_ID) {
        request.topics = &topic;
        request.topics_count = 1;
    } else {
        request.topic_names = &names;
        request.topic_names_count = 1;
    }
    if (!BENCH_ASK(c, API_DELETE_TOPICS, delete_topics, &request, &response))
        return false;
    if (response.responses_count != 1)
        return bench_client_fail(c, "DeleteTopics was answered for %d topics",
                                 response.responses_count);
    int16_t error = response.responses[0].error_code;
    if (error != KE_NONE && error != KE_UNKNOWN_TOPIC_OR_PARTITION)
        return bench_client_fail(c, "topic %s cannot be deleted: %s", name, error_text(error));
    for (uint32_t i = 0; i < PATIENCE; i++) {
        struct metadata_response metadata;
        if (!topic_ask(c, name, &metadata))
            return false;
        if (metadata.topics_count == 1 && metadata.topics[0].error_code != KE_NONE)
            return true;
        bench_client_rest(c, PATIENCE_MS);
    }
    return bench_client_fail(c, "topic %s does not go", name);
}

/* ---- offsets --------------------------------------------------------------------------------- */

struct offsets_asked {
    const struct bench_topic *topic;
    uint8_t node;
    int64_t which;
    int64_t *offsets;
};

/* Partitions of one leader from *next on. *again: some of them cannot say yet. */
static bool offsets_some(const struct offsets_asked *a, struct bench_client *c, uint32_t *next,
                         bool *again)
{
    const struct bench_topic *t = a->topic;
    uint32_t room = MIN(t->partitions_count, PARTITIONS_AT), count = 0, at = *next;
    struct list_offsets_request_list_offsets_topic topic;
    struct list_offsets_request request;
    struct list_offsets_response response;
    list_offsets_request_list_offsets_topic_init(&topic);
    topic.name = wire_string_of(t->name);
    topic.partitions = mem_zalloc(c->mem, room * sizeof(*topic.partitions));
    if (topic.partitions == NULL)
        return bench_client_fail(c, "no memory");
    for (; at < t->partitions_count && count < room; at++) {
        if (t->leaders[at] != a->node)
            continue;
        list_offsets_request_list_offsets_partition_init(&topic.partitions[count]);
        topic.partitions[count].partition_index = (int32_t)at;
        topic.partitions[count++].timestamp = a->which;
    }
    topic.partitions_count = (int32_t)count;
    list_offsets_request_init(&request);
    request.replica_id = -1;
    request.topics = &topic;
    request.topics_count = 1;
    bool good = count == 0 || BENCH_ASK(c, API_LIST_OFFSETS, list_offsets, &request, &response);
    mem_free(c->mem, topic.partitions, room * sizeof(*topic.partitions));
    if (!good)
        return false;
    if (count > 0 &&
        (response.topics_count != 1 || response.topics[0].partitions_count != (int32_t)count))
        return bench_client_fail(c, "ListOffsets was not answered for what was asked");
    *again = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct list_offsets_response_list_offsets_partition_response *p =
            &response.topics[0].partitions[i];
        if (p->partition_index < 0 || (uint32_t)p->partition_index >= t->partitions_count)
            return bench_client_fail(c, "ListOffsets answered for partition %d",
                                     p->partition_index);
        *again |= p->error_code != KE_NONE;
        a->offsets[p->partition_index] = p->offset;
    }
    *next = *again ? *next : at;
    return true;
}

static bool offsets_of_node(const struct offsets_asked *a, struct bench_client *c)
{
    uint32_t looks = 0;
    for (uint32_t next = 0; next < a->topic->partitions_count;) {
        bool again = false;
        if (!offsets_some(a, c, &next, &again))
            return false;
        if (!again)
            continue;
        if (++looks == PATIENCE)
            return bench_client_fail(c, "partitions of %s have no offset", a->topic->name);
        bench_client_rest(c, PATIENCE_MS);
    }
    return true;
}

bool bench_topic_offsets(const struct bench_topic *t, struct bench_client *c, int64_t which,
                         int64_t *offsets)
{
    struct offsets_asked a = {.topic = t, .which = which, .offsets = offsets};
    assert(offsets != NULL);
    if (t->nodes_count == 1)
        return offsets_of_node(&a, c);
    for (uint32_t i = 0; i < t->nodes_count; i++) {
        struct bench_client other;
        a.node = (uint8_t)i;
        bool good =
            bench_client_open(&other, c->io, c->mem, &t->nodes[i]) && offsets_of_node(&a, &other);
        if (!good)
            (void)bench_client_fail(c, "%s", other.why);
        bench_client_close(&other);
        if (!good)
            return false;
    }
    return true;
}
