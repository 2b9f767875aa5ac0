/* InitProducerId (key 22). Without a transactional id: a number that no producer had before. With
 * one: who has it from now on, says its coordinator (broker/api/transaction.c). */
#include "broker/api/api.h"
#include "broker/api/producer_id.h"
#include "broker/api/transaction.h"
#include "proto/gen/init_producer_id.h"

static void answer(struct flow *f, int64_t id, enum kafka_error error)
{
    struct init_producer_id_response r;
    init_producer_id_response_init(&r);
    r.error_code = (int16_t)error;
    r.producer_id = id;
    r.producer_epoch = id >= 0 ? 0 : -1;
    FLOW_ANSWER(f, &r, init_producer_id_response);
}

static void id_came(struct flow *f, int64_t id)
{
    /* retriable, as RPCProducerIdManager */
    answer(f, id, id >= 0 ? KE_NONE : KE_COORDINATOR_LOAD_IN_PROGRESS);
}

void init_producer_id_start(struct flow *f, struct wire_reader *body)
{
    struct init_producer_id_request *q = arena_array(&f->arena, 1, sizeof(*q));
    if (q == NULL || !FLOW_DECODE(f, init_producer_id, q, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    if ((q->producer_id == -1) != (q->producer_epoch == -1))
        answer(f, -1, KE_INVALID_REQUEST);
    else if (q->transactional_id.size >= 0)
        transaction_init(f, q);
    else
        producer_id_take(f, id_came);
}
