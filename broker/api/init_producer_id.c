/* InitProducerId (key 22) without a transactional id: a number that no producer had before. Each
 * core takes blocks of a thousand from the metadata (ProducerIds records) and hands them out one by
 * one, so ids stay unique over restarts and cores.
 *
 *   block has ids ─▶ answer at once        block empty ─▶ wait ─▶ one AllocateProducerIds for all
 *
 * Requests with a transactional id belong to a transaction coordinator; there is none, and
 * FindCoordinator says so, so clients stop before they come here. */
#include "broker/api/api.h"
#include "broker/api/call.h"
#include "broker/data_core.h"
#include "proto/gen/allocate_producer_ids.h"
#include "proto/gen/api.h"
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

static void block_came(struct flow *f, void *response)
{
    const struct allocate_producer_ids_response *r = response;
    struct data_core *core = f->core;
    if (r->error_code != KE_NONE) {
        answer(f, -1, KE_COORDINATOR_LOAD_IN_PROGRESS); /* retriable, as RPCProducerIdManager */
        return;
    }
    /* Another request of this core may have brought a block meanwhile: ids may be skipped, never
     * given twice. */
    core->producer_id_next = r->producer_id_start;
    core->producer_id_end = r->producer_id_start + r->producer_id_len;
    answer(f, core->producer_id_next++, KE_NONE);
}

static void ask_block(struct flow *f)
{
    struct data_core *core = f->core;
    struct allocate_producer_ids_request *r = arena_alloc(&f->arena, sizeof(*r));
    if (r == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    allocate_producer_ids_request_init(r);
    r->broker_id = core->config->node_id;
    const struct broker_image *self = image_broker(&core->image, core->config->node_id);
    r->broker_epoch = self != NULL ? self->epoch : -1;
    control_ask_as(f, API_ALLOCATE_PRODUCER_IDS, 0, r,
                   sizeof(struct allocate_producer_ids_response), block_came);
}

void init_producer_id_start(struct flow *f, struct wire_reader *body)
{
    struct init_producer_id_request request;
    struct data_core *core = f->core;
    if (init_producer_id_request_decode(&request, body, f->api_version, &f->arena) != 0) {
        flow_refuse(f, "malformed body");
        return;
    }
    if (request.transactional_id.size >= 0 ||
        (request.producer_id == -1) != (request.producer_epoch == -1)) {
        answer(f, -1, KE_INVALID_REQUEST);
        return;
    }
    if (core->producer_id_next < core->producer_id_end)
        answer(f, core->producer_id_next++, KE_NONE);
    else
        ask_block(f);
}
