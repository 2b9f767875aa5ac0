/* DescribeGroups, ListGroups, DeleteGroups (keys 15, 16, 42): groups seen from outside. Named
 * groups are asked of their coordinators, each on its own; a list is asked of every core. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/describe_groups.h"
#include "proto/gen/list_groups.h"

/* read delete describe, configs both */
#define OPERATIONS_GROUP 0x0d48

/* ---- DescribeGroups -------------------------------------------------------------------------- */

struct describe {
    struct describe_groups_request request;
    struct describe_groups_response response;
};

static void describe_answer(struct group_ask *a)
{
    struct describe *s = a->state;
    for (int32_t i = 0; i < s->response.groups_count; i++) {
        struct describe_groups_response_described_group *g = &s->response.groups[i];
        if (s->request.include_authorized_operations && g->error_code == KE_NONE)
            g->authorized_operations = OPERATIONS_GROUP;
    }
    FLOW_ANSWER(a->flow, &s->response, describe_groups_response);
}

void describe_groups_start(struct flow *f, struct wire_reader *body)
{
    struct describe *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, describe_groups, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_names n = {.kind = GROUP_DESCRIBE,
                            .names = s->request.groups,
                            .count = (uint32_t)MAX(s->request.groups_count, 0),
                            .response_size = sizeof(*s->response.groups)};
    describe_groups_response_init(&s->response);
    n.responses = s->response.groups = arena_array(&f->arena, n.count, n.response_size);
    s->response.groups_count = n.responses != NULL ? (int32_t)n.count : 0;
    group_ask_names(f, describe_answer, s, &n);
}

/* ---- ListGroups ------------------------------------------------------------------------------ */

struct list_of_core {
    struct group_item item;
    struct list_groups_response response;
};

struct listing {
    struct list_groups_request request;
    struct list_groups_response response;
    struct list_of_core *cores;
};

static void list_answer(struct group_ask *a)
{
    struct listing *s = a->state;
    struct list_groups_response *out = &s->response;
    size_t count = 0;
    list_groups_response_init(out);
    for (uint32_t i = 0; i < a->cores_count; i++) {
        if (s->cores[i].response.error_code != KE_NONE)
            out->error_code = s->cores[i].response.error_code;
        count += (size_t)s->cores[i].response.groups_count;
    }
    if (out->error_code != KE_NONE)
        count = 0;
    out->groups = arena_array(&a->flow->arena, count, sizeof(*out->groups));
    if (out->groups == NULL) {
        flow_refuse(a->flow, "no memory for the answer");
        return;
    }
    for (uint32_t i = 0; i < a->cores_count && count > 0; i++) {
        const struct list_groups_response *r = &s->cores[i].response;
        for (int32_t j = 0; j < r->groups_count; j++)
            out->groups[out->groups_count++] = r->groups[j];
    }
    FLOW_ANSWER(a->flow, out, list_groups_response);
}

void list_groups_start(struct flow *f, struct wire_reader *body)
{
    struct listing *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, list_groups, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_ask *a = group_ask_make(f, list_answer, s);
    if (a == NULL)
        return;
    s->cores = arena_array(&f->arena, a->cores_count, sizeof(*s->cores));
    if (s->cores == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    for (uint16_t i = 0; i < a->cores_count; i++) {
        struct list_of_core *c = &s->cores[i];
        list_groups_response_init(&c->response);
        c->item.call.kind = GROUP_LIST;
        c->item.call.request = &s->request;
        c->item.call.response = &c->response;
        group_ask_add_core(a, &c->item, (struct core_id){i});
    }
    group_ask_run(a);
}

/* ---- DeleteGroups ---------------------------------------------------------------------------- */

struct deletion {
    struct delete_groups_request request;
    struct delete_groups_response response;
};

static void delete_answer(struct group_ask *a)
{
    struct deletion *s = a->state;
    FLOW_ANSWER(a->flow, &s->response, delete_groups_response);
}

void delete_groups_start(struct flow *f, struct wire_reader *body)
{
    struct deletion *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, delete_groups, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_names n = {.kind = GROUP_DELETE,
                            .names = s->request.groups_names,
                            .count = (uint32_t)MAX(s->request.groups_names_count, 0),
                            .response_size = sizeof(*s->response.results)};
    delete_groups_response_init(&s->response);
    n.responses = s->response.results = arena_array(&f->arena, n.count, n.response_size);
    s->response.results_count = n.responses != NULL ? (int32_t)n.count : 0;
    group_ask_names(f, delete_answer, s, &n);
}
