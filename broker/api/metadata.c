/* Metadata (key 3): which brokers there are, where clients reach them, and who leads what.
 *
 * Everything is answered from this core's image at once. Topics that are missing and may be
 * created are asked of the control core on the side; this answer says UNKNOWN_TOPIC_OR_PARTITION
 * and the client's next one finds them (AutoTopicCreationManager).
 *
 * Rules that clients depend on: version 0 asks for all topics with an empty list, later ones with
 * null; brokers are told by their endpoint on the listener the request came through; ids are told
 * from version 10 and may be asked by from 12. */
#include "broker/api/api.h"
#include "broker/api/call.h"
#include "broker/api/names.h"
#include "broker/data_core.h"
#include "broker/node.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/metadata.h"

struct metadata {
    struct flow *flow;
    struct metadata_request request;
    struct metadata_response response;
    struct create_topics_request create;
    struct create_topics_request_creatable_topic *missing; /* create.topics */
};

/* ---- brokers --------------------------------------------------------------------------------- */

static bool add_brokers(struct metadata *m)
{
    const struct data_core *core = m->flow->core;
    const struct image *image = &core->image;
    const char *listener = core->config->listeners[m->flow->conn->listener].name;
    m->response.brokers =
        arena_array(&m->flow->arena, image->brokers_count, sizeof(*m->response.brokers));
    if (m->response.brokers == NULL)
        return false;
    for (uint32_t i = 0; i < image->brokers_count; i++) {
        const struct broker_image *b = image->brokers[i];
        const struct endpoint_image *e = broker_endpoint(b, listener);
        if (b->fenced || e == NULL)
            continue;
        struct metadata_response_broker *out = &m->response.brokers[m->response.brokers_count++];
        metadata_response_broker_init(out);
        out->node_id = b->id;
        out->host = wire_string_of(e->host);
        out->port = e->port;
        out->rack = wire_string_of(b->rack);
    }
    return true;
}

/* ---- topics ---------------------------------------------------------------------------------- */

static void add_partition(const struct partition_image *p, struct metadata_response_partition *out)
{
    metadata_response_partition_init(out);
    out->error_code = p->leader == PARTITION_LEADER_NONE ? KE_LEADER_NOT_AVAILABLE : KE_NONE;
    out->partition_index = p->index;
    out->leader_id = p->leader;
    out->leader_epoch = p->leader_epoch;
    out->replica_nodes = (int32_t *)(uintptr_t)p->replicas; /* encoded, never written */
    out->replica_nodes_count = p->replicas_count;
    out->isr_nodes = (int32_t *)(uintptr_t)p->isr;
    out->isr_nodes_count = p->isr_count;
}

static bool add_topic(struct metadata *m, const struct topic_image *t)
{
    struct metadata_response_topic *out = &m->response.topics[m->response.topics_count++];
    metadata_response_topic_init(out);
    out->name = (struct wire_string){t->name, (int32_t)t->name_size};
    out->topic_id = t->id;
    out->is_internal = t->internal;
    out->partitions_count = (int32_t)t->partitions_count;
    out->partitions = arena_array(&m->flow->arena, t->partitions_count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    for (uint32_t i = 0; i < t->partitions_count; i++)
        add_partition(&t->partitions[i], &out->partitions[i]);
    if (m->request.include_topic_authorized_operations)
        out->topic_authorized_operations = OPERATIONS_TOPIC;
    return true;
}

static void add_error(struct metadata *m, struct wire_string name, struct uuid id,
                      enum kafka_error error)
{
    struct metadata_response_topic *out = &m->response.topics[m->response.topics_count++];
    metadata_response_topic_init(out);
    out->error_code = (int16_t)error;
    out->name = name;
    out->topic_id = id;
    out->is_internal = name.size > 0 && topic_name_internal(name);
}

static bool may_create(const struct metadata *m)
{
    /* Versions below 4 have no flag and mean yes. */
    bool asked = m->flow->api_version < 4 || m->request.allow_auto_topic_creation;
    return asked && m->flow->core->config->auto_create_topics_enable;
}

static void add_missing(struct metadata *m, struct wire_string name)
{
    if (!topic_name_valid(name)) {
        add_error(m, name, (struct uuid){{0}}, KE_INVALID_TOPIC_EXCEPTION);
        return;
    }
    add_error(m, name, (struct uuid){{0}}, KE_UNKNOWN_TOPIC_OR_PARTITION);
    if (!may_create(m) || topic_name_internal(name))
        return;
    struct create_topics_request_creatable_topic *t = &m->missing[m->create.topics_count++];
    create_topics_request_creatable_topic_init(t);
    t->name = name;
    t->num_partitions = -1;
    t->replication_factor = -1;
}

/* A name that was asked for before is not answered again. */
static bool asked_before(struct map *seen, const struct metadata_request_topic *asked)
{
    if (asked->name.size <= 0)
        return false;
    if (map_get(seen, asked->name.data, (uint32_t)asked->name.size) != NULL)
        return true;
    if (map_put(seen, asked->name.data, (uint32_t)asked->name.size, (void *)(uintptr_t)asked) != 0)
        return false; /* no memory for the table: answered twice, which is no harm */
    return false;
}

static bool add_asked_once(struct metadata *m, struct map *seen)
{
    const struct image *image = &m->flow->core->image;
    uint32_t count = (uint32_t)MAX(m->request.topics_count, 0);
    m->missing = arena_array(&m->flow->arena, count, sizeof(*m->missing));
    if (m->missing == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct metadata_request_topic *asked = &m->request.topics[i];
        if (asked_before(seen, asked))
            continue;
        bool by_id = asked->name.size < 0 || !uuid_is_zero(asked->topic_id);
        const struct topic_image *t =
            by_id ? image_topic_by_id(image, asked->topic_id)
                  : image_topic_by_name(image, asked->name.data, (uint32_t)asked->name.size);
        if (t != NULL && !add_topic(m, t))
            return false;
        if (t == NULL && by_id)
            add_error(m, WIRE_NULL_STRING, asked->topic_id, KE_UNKNOWN_TOPIC_ID);
        else if (t == NULL)
            add_missing(m, asked->name);
    }
    return true;
}

static bool add_asked(struct metadata *m)
{
    struct map seen;
    map_init(&seen, &m->flow->core->mem, io_random(m->flow->core->io));
    bool added = add_asked_once(m, &seen);
    map_destroy(&seen);
    return added;
}

static bool add_all(struct metadata *m)
{
    const struct image *image = &m->flow->core->image;
    for (uint32_t i = 0; i < image->topics_count; i++) {
        if (!add_topic(m, image->topics[i]))
            return false;
    }
    return true;
}

static bool add_topics(struct metadata *m)
{
    bool all =
        m->request.topics_count < 0 || (m->flow->api_version == 0 && m->request.topics_count == 0);
    uint32_t count = all ? m->flow->core->image.topics_count : (uint32_t)m->request.topics_count;
    m->response.topics = arena_array(&m->flow->arena, count, sizeof(*m->response.topics));
    if (m->response.topics == NULL)
        return false;
    return all ? add_all(m) : add_asked(m);
}

/* ---- answer ---------------------------------------------------------------------------------- */

/* Every topic is answered with the error, and nothing else is told. */
static bool metadata_refuse(struct metadata *m, enum kafka_error error)
{
    uint32_t count = (uint32_t)MAX(m->request.topics_count, 0);
    metadata_response_init(&m->response);
    m->response.topics = arena_array(&m->flow->arena, count, sizeof(*m->response.topics));
    for (uint32_t i = 0; m->response.topics != NULL && i < count; i++) {
        struct wire_string name = m->request.topics[i].name;
        add_error(m, name.size < 0 ? wire_string_of("") : name, m->request.topics[i].topic_id,
                  error);
        m->response.topics[i].is_internal = false;
    }
    return m->response.topics != NULL;
}

/* Asking by id below version 12 is a contradiction that Kafka refuses. */
static bool metadata_valid(const struct metadata *m)
{
    for (int32_t i = 0; i < m->request.topics_count; i++) {
        const struct metadata_request_topic *t = &m->request.topics[i];
        if (t->name.size < 0 && m->flow->api_version < 12)
            return false;
        if (!uuid_is_zero(t->topic_id) && m->flow->api_version < 12)
            return false;
    }
    return true;
}

void metadata_start(struct flow *f, struct wire_reader *body)
{
    struct data_core *core = f->core;
    struct metadata *m = arena_array(&f->arena, 1, sizeof(*m));
    if (m == NULL || !FLOW_DECODE(f, metadata, &m->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    m->flow = f;
    metadata_response_init(&m->response);
    create_topics_request_init(&m->create);
    m->response.cluster_id = wire_string_of(core->node->identity.cluster_id);
    m->response.controller_id = core->config->node_id;
    if (m->request.include_cluster_authorized_operations)
        m->response.cluster_authorized_operations = OPERATIONS_CLUSTER;
    if (!metadata_valid(m) ? !metadata_refuse(m, KE_INVALID_REQUEST)
                           : !add_brokers(m) || !add_topics(m)) {
        flow_refuse(f, "no memory");
        return;
    }
    if (m->create.topics_count > 0) {
        m->create.topics = m->missing;
        m->create.timeout_ms = core->config->request_timeout_ms;
        control_ask_as(f, API_CREATE_TOPICS, 7, &m->create, sizeof(struct create_topics_response),
                       NULL); /* answered without; the client asks again and finds the topics */
    }
    FLOW_ANSWER(f, &m->response, metadata_response);
}
