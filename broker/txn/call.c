/* Calls as seen from outside: what is wrong with one whoever is asked, and how one ends.
 *
 * Invariants
 *  1. What an answer points at is the asker's own memory or the call's arena, never a
 * transaction's.
 *  2. A call is answered once.
 *
 * Failure modes: an answer that finds no room in its arena becomes COORDINATOR_NOT_AVAILABLE, which
 * every client retries. */
#include "broker/txn/txn_priv.h"
#include "core/assert.h"
#include "proto/gen/describe_transactions.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/list_transactions.h"

#define INIT_KNOWS_FENCED 4 /* from this version on PRODUCER_FENCED is understood */
#define END_KNOWS_FENCED  2

void txn_call_done(struct txn_shard *s, struct txn_call *call)
{
    if (call->arena != NULL && call->arena->failed)
        txn_call_refuse(call, KE_COORDINATOR_NOT_AVAILABLE);
    assert(list_empty(&call->item.link));
    list_push_back(&s->update.answered, &call->item.link);
}

void txn_call_refused(struct txn_shard *s, struct txn_call *call, enum kafka_error error)
{
    assert(error != KE_NONE);
    assert(list_empty(&call->item.link));
    txn_call_refuse(call, error);
    list_push_back(&s->update.answered, &call->item.link);
}

static int16_t fenced_as(const struct txn_call *call, int16_t known_from, enum kafka_error error)
{
    bool old = error == KE_PRODUCER_FENCED && call->version < known_from;
    return old ? KE_INVALID_PRODUCER_EPOCH : (int16_t)error;
}

static void refuse_add(const struct txn_add *q, enum kafka_error error)
{
    for (uint32_t i = 0; i < q->partitions_count; i++)
        q->partitions[i].error = error;
}

void txn_call_refuse(struct txn_call *call, enum kafka_error error)
{
    switch (call->item.kind) {
    case TXN_INIT: {
        struct init_producer_id_response *r = call->response;
        init_producer_id_response_init(r);
        r->producer_epoch = -1;
        r->error_code = fenced_as(call, INIT_KNOWS_FENCED, error);
        return;
    }
    case TXN_ADD:
        refuse_add(call->request, error);
        return;
    case TXN_END: {
        struct end_txn_response *r = call->response;
        end_txn_response_init(r);
        r->error_code = fenced_as(call, END_KNOWS_FENCED, error);
        return;
    }
    case TXN_DESCRIBE: {
        const struct wire_string *id = call->request;
        struct describe_transactions_response_transaction_state *r = call->response;
        describe_transactions_response_transaction_state_init(r);
        r->transactional_id = *id;
        r->error_code = (int16_t)error;
        return;
    }
    case TXN_LIST: {
        struct list_transactions_response *r = call->response;
        list_transactions_response_init(r);
        r->error_code = (int16_t)error;
        return;
    }
    case TXN_ENDING:
    case TXN_KINDS:
        break;
    }
    assert(false); /* no such call */
}

/* ---- before it is asked ---------------------------------------------------------------------- */

/* In Kafka's order. */
static enum kafka_error check_init(const struct broker_config *c,
                                   const struct init_producer_id_request *q)
{
    if ((q->producer_id == -1) != (q->producer_epoch == -1) || q->transactional_id.size <= 0)
        return KE_INVALID_REQUEST;
    if (q->enable2_pc && !c->transaction_two_phase_commit_enable)
        return KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if (q->keep_prepared_txn)
        return KE_UNSUPPORTED_VERSION;
    if (!q->enable2_pc && (q->transaction_timeout_ms <= 0 ||
                           q->transaction_timeout_ms > c->transaction_max_timeout_ms))
        return KE_INVALID_TRANSACTION_TIMEOUT;
    return KE_NONE;
}

static enum kafka_error check_id(struct wire_string id)
{
    return id.size <= 0 ? KE_INVALID_REQUEST : KE_NONE;
}

enum kafka_error txn_call_check(const struct broker_config *config, const struct txn_call *call)
{
    switch (call->item.kind) {
    case TXN_INIT:
        return check_init(config, call->request);
    case TXN_ADD:
        return check_id(((const struct txn_add *)call->request)->id);
    case TXN_END:
        return check_id(((const struct end_txn_request *)call->request)->transactional_id);
    case TXN_DESCRIBE:
        return check_id(*(const struct wire_string *)call->request);
    case TXN_LIST:
        return KE_NONE;
    case TXN_ENDING:
    case TXN_KINDS:
        break;
    }
    assert(false); /* no such call */
    return KE_UNKNOWN_SERVER_ERROR;
}
