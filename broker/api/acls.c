/* DescribeAcls, CreateAcls and DeleteAcls (keys 29, 30, 31) as a broker without an authorizer
 * answers them: SECURITY_DISABLED, once or for each thing asked. Clients tell this from a broker
 * that does not know the requests: there is nothing to describe because everything is allowed, and
 * what would allow or deny is refused rather than kept without effect.
 *
 * 1. A kind of 0, which is Kafka's "unknown", closes the connection, as with Kafka; any other
 * passes.
 * 2. Every creation and every filter gets an answer of its own, in their order. */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "core/assert.h"
#include "proto/gen/create_acls.h"
#include "proto/gen/delete_acls.h"
#include "proto/gen/describe_acls.h"

#define WHY "this broker has no authorizer: everything is allowed"

struct acl_kinds {
    int8_t resource_type, pattern_type, operation, permission_type;
};

static bool kinds_known(struct acl_kinds k)
{
    return k.resource_type != 0 && k.pattern_type != 0 && k.operation != 0 &&
           k.permission_type != 0;
}

void describe_acls_start(struct flow *f, struct wire_reader *body)
{
    struct describe_acls_request q;
    struct describe_acls_response r;
    assert(f->core->config != NULL);
    if (!FLOW_DECODE(f, describe_acls, &q, body) ||
        !kinds_known((struct acl_kinds){q.resource_type_filter, q.pattern_type_filter, q.operation,
                                        q.permission_type})) {
        flow_refuse(f, "malformed body");
        return;
    }
    describe_acls_response_init(&r);
    r.error_code = KE_SECURITY_DISABLED;
    r.error_message = wire_string_of(WHY);
    FLOW_ANSWER(f, &r, describe_acls_response);
}

static bool creations_known(const struct create_acls_request *q)
{
    for (int32_t i = 0; i < q->creations_count; i++) {
        const struct create_acls_request_acl_creation *c = &q->creations[i];
        if (!kinds_known((struct acl_kinds){c->resource_type, c->resource_pattern_type,
                                            c->operation, c->permission_type}))
            return false;
    }
    return true;
}

void create_acls_start(struct flow *f, struct wire_reader *body)
{
    struct create_acls_request q;
    struct create_acls_response r;
    if (!FLOW_DECODE(f, create_acls, &q, body) || !creations_known(&q)) {
        flow_refuse(f, "malformed body");
        return;
    }
    create_acls_response_init(&r);
    assert(q.creations_count >= 0);
    r.results = arena_array(&f->arena, (size_t)q.creations_count, sizeof(*r.results));
    if (r.results == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    for (; r.results_count < q.creations_count; r.results_count++) {
        struct create_acls_response_acl_creation_result *out = &r.results[r.results_count];
        create_acls_response_acl_creation_result_init(out);
        out->error_code = KE_SECURITY_DISABLED;
        out->error_message = wire_string_of(WHY);
    }
    assert(r.results_count == q.creations_count);
    FLOW_ANSWER(f, &r, create_acls_response);
}

static bool filters_known(const struct delete_acls_request *q)
{
    for (int32_t i = 0; i < q->filters_count; i++) {
        const struct delete_acls_request_delete_acls_filter *d = &q->filters[i];
        if (!kinds_known((struct acl_kinds){d->resource_type_filter, d->pattern_type_filter,
                                            d->operation, d->permission_type}))
            return false;
    }
    return true;
}

void delete_acls_start(struct flow *f, struct wire_reader *body)
{
    struct delete_acls_request q;
    struct delete_acls_response r;
    if (!FLOW_DECODE(f, delete_acls, &q, body) || !filters_known(&q)) {
        flow_refuse(f, "malformed body");
        return;
    }
    delete_acls_response_init(&r);
    assert(q.filters_count >= 0);
    r.filter_results = arena_array(&f->arena, (size_t)q.filters_count, sizeof(*r.filter_results));
    if (r.filter_results == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    for (; r.filter_results_count < q.filters_count; r.filter_results_count++) {
        struct delete_acls_response_delete_acls_filter_result *out =
            &r.filter_results[r.filter_results_count];
        delete_acls_response_delete_acls_filter_result_init(out);
        out->error_code = KE_SECURITY_DISABLED;
        out->error_message = wire_string_of(WHY);
    }
    assert(r.filter_results_count == q.filters_count);
    FLOW_ANSWER(f, &r, delete_acls_response);
}
