/* DescribeTransactions and ListTransactions (keys 65, 66): transactions seen from outside. Named
 * ids are asked of their coordinators, each on its own; a list is asked of every core. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "broker/group/pattern.h"
#include "proto/gen/describe_transactions.h"
#include "proto/gen/list_transactions.h"

/* ---- DescribeTransactions -------------------------------------------------------------------- */

struct describe {
    struct describe_transactions_request request;
    struct describe_transactions_response response;
};

static void describe_answer(struct group_ask *a)
{
    struct describe *s = a->state;
    FLOW_ANSWER(a->flow, &s->response, describe_transactions_response);
}

void describe_transactions_start(struct flow *f, struct wire_reader *body)
{
    struct describe *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, describe_transactions, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    struct group_names n = {.of_txn = true,
                            .kind = TXN_DESCRIBE,
                            .names = s->request.transactional_ids,
                            .count = (uint32_t)MAX(s->request.transactional_ids_count, 0),
                            .response_size = sizeof(*s->response.transaction_states)};
    describe_transactions_response_init(&s->response);
    n.responses = s->response.transaction_states = arena_array(&f->arena, n.count, n.response_size);
    s->response.transaction_states_count = n.responses != NULL ? (int32_t)n.count : 0;
    group_ask_names(f, describe_answer, s, &n);
}

/* ---- ListTransactions ------------------------------------------------------------------------ */

struct list_of_core {
    struct group_item item;
    struct txn_list list;
    struct pattern pattern; /* its own: matching changes it */
    struct list_transactions_response response;
};

struct listing {
    struct list_transactions_request request;
    struct list_transactions_response response;
    struct list_of_core *cores;
};

/* Filters that name no state are told back. */
static bool list_unknown(struct flow *f, struct listing *s)
{
    const struct list_transactions_request *q = &s->request;
    struct list_transactions_response *r = &s->response;
    uint32_t count = (uint32_t)MAX(q->state_filters_count, 0);
    r->unknown_state_filters = arena_array(&f->arena, count, sizeof(*r->unknown_state_filters));
    if (r->unknown_state_filters == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!txn_state_known(q->state_filters[i]))
            r->unknown_state_filters[r->unknown_state_filters_count++] = q->state_filters[i];
    }
    return true;
}

static void list_refuse(struct flow *f, struct listing *s, enum kafka_error error)
{
    list_transactions_response_init(&s->response);
    s->response.error_code = (int16_t)error;
    FLOW_ANSWER(f, &s->response, list_transactions_response);
}

static void list_answer(struct group_ask *a)
{
    struct listing *s = a->state;
    struct list_transactions_response *out = &s->response;
    size_t count = 0;
    list_transactions_response_init(out);
    for (uint32_t i = 0; i < a->cores_count; i++) {
        if (s->cores[i].response.error_code != KE_NONE)
            out->error_code = s->cores[i].response.error_code;
        count += (size_t)s->cores[i].response.transaction_states_count;
    }
    if (out->error_code != KE_NONE) {
        list_refuse(a->flow, s, (enum kafka_error)out->error_code);
        return;
    }
    out->transaction_states = arena_array(&a->flow->arena, count, sizeof(*out->transaction_states));
    if (out->transaction_states == NULL || !list_unknown(a->flow, s)) {
        flow_refuse(a->flow, "no memory for the answer");
        return;
    }
    for (uint32_t i = 0; i < a->cores_count; i++) {
        const struct list_transactions_response *r = &s->cores[i].response;
        for (int32_t j = 0; j < r->transaction_states_count; j++)
            out->transaction_states[out->transaction_states_count++] = r->transaction_states[j];
    }
    FLOW_ANSWER(a->flow, out, list_transactions_response);
}

static bool list_matches(void *pattern, struct wire_string id)
{
    return pattern_matches(pattern, id);
}

/* false: the pattern is none. */
static bool list_prepare(struct flow *f, const struct listing *s, struct list_of_core *c)
{
    struct wire_string text = s->request.transactional_id_pattern;
    const char *why;
    c->list.filters = &s->request;
    if (text.size <= 0)
        return true;
    c->list.matches = list_matches;
    c->list.pattern = &c->pattern;
    return pattern_compile(&c->pattern, &f->arena, text, &why);
}

void list_transactions_start(struct flow *f, struct wire_reader *body)
{
    struct listing *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, list_transactions, &s->request, body)) {
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
        list_transactions_response_init(&c->response);
        c->item.of_txn = true;
        c->item.txn.item.kind = TXN_LIST;
        c->item.txn.request = &c->list;
        c->item.txn.response = &c->response;
        c->item.txn.spare_id = -1;
        if (!list_prepare(f, s, c)) {
            list_refuse(f, s, KE_INVALID_REGULAR_EXPRESSION);
            return;
        }
        group_ask_add_core(a, &c->item, (struct core_id){i});
    }
    group_ask_run(a);
}
