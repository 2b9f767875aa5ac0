/* ConsumerGroupHeartbeat and ConsumerGroupDescribe (keys 68, 69): the consumer group protocol.
 * Asked of the groups' coordinators; decided in broker/group.
 *
 * Served while the feature group.version is at 1 and group.coordinator.rebalance.protocols names
 * consumer; otherwise refused with UNSUPPORTED_VERSION, which clients take for what it is. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "proto/gen/consumer_group_describe.h"
#include "proto/gen/consumer_group_heartbeat.h"

/* read delete describe, configs both */
#define OPERATIONS_GROUP 0x0d48

static bool protocol_enabled(const struct flow *f)
{
    return f->core->config->group_protocol_consumer &&
           image_feature(&f->core->image, "group.version") > 0;
}

/* ---- ConsumerGroupHeartbeat ------------------------------------------------------------------ */

struct beating {
    struct group_item item;
    struct consumer_group_heartbeat_request request;
    struct consumer_group_heartbeat_response response;
};

static void beat_answer(struct group_ask *a)
{
    struct beating *s = a->state;
    FLOW_ANSWER(a->flow, &s->response, consumer_group_heartbeat_response);
}

void consumer_group_heartbeat_start(struct flow *f, struct wire_reader *body)
{
    struct beating *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, consumer_group_heartbeat, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    if (!protocol_enabled(f)) {
        consumer_group_heartbeat_response_init(&s->response);
        s->response.error_code = KE_UNSUPPORTED_VERSION;
        FLOW_ANSWER(f, &s->response, consumer_group_heartbeat_response);
        return;
    }
    struct group_ask *a = group_ask_make(f, beat_answer, s);
    if (a == NULL)
        return;
    s->item.call.kind = GROUP_CONSUMER_HEARTBEAT;
    s->item.call.request = &s->request;
    s->item.call.response = &s->response;
    group_ask_add(a, &s->item, s->request.group_id);
    group_ask_run(a);
}

/* ---- ConsumerGroupDescribe ------------------------------------------------------------------- */

struct described {
    struct consumer_group_describe_request request;
    struct consumer_group_describe_response response;
};

static void describe_answer(struct group_ask *a)
{
    struct described *s = a->state;
    for (int32_t i = 0; i < s->response.groups_count; i++) {
        struct consumer_group_describe_response_described_group *g = &s->response.groups[i];
        if (s->request.include_authorized_operations && g->error_code == KE_NONE)
            g->authorized_operations = OPERATIONS_GROUP;
    }
    FLOW_ANSWER(a->flow, &s->response, consumer_group_describe_response);
}

static void describe_disabled(struct flow *f, struct described *s)
{
    for (int32_t i = 0; i < s->response.groups_count; i++) {
        struct consumer_group_describe_response_described_group *g = &s->response.groups[i];
        consumer_group_describe_response_described_group_init(g);
        g->group_id = s->request.group_ids[i];
        g->error_code = KE_UNSUPPORTED_VERSION;
    }
    FLOW_ANSWER(f, &s->response, consumer_group_describe_response);
}

void consumer_group_describe_start(struct flow *f, struct wire_reader *body)
{
    struct described *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, consumer_group_describe, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_names n = {.kind = GROUP_CONSUMER_DESCRIBE,
                            .names = s->request.group_ids,
                            .count = (uint32_t)MAX(s->request.group_ids_count, 0),
                            .response_size = sizeof(*s->response.groups)};
    consumer_group_describe_response_init(&s->response);
    n.responses = s->response.groups = arena_array(&f->arena, n.count, n.response_size);
    s->response.groups_count = n.responses != NULL ? (int32_t)n.count : 0;
    if (!protocol_enabled(f) && n.responses != NULL) {
        describe_disabled(f, s);
        return;
    }
    group_ask_names(f, describe_answer, s, &n);
}
