/* Producer ids out of this core's block.
 *
 *   block has ids ─▶ one at once        block empty ─▶ wait ─▶ one AllocateProducerIds per who
 * waits
 *
 * Invariants: an id may be skipped, never given twice: of blocks that come for several flows at
 * once the last one stays. Failure modes: the controller refuses: came gets -1. */
#include "broker/api/producer_id.h"

#include "broker/api/call.h"
#include "broker/data_core.h"
#include "proto/gen/allocate_producer_ids.h"
#include "proto/gen/api.h"

struct taking {
    struct allocate_producer_ids_request request;
    void (*came)(struct flow *f, int64_t id);
    void *state; /* of the flow's api */
};

static void block_came(struct flow *f, void *response)
{
    const struct allocate_producer_ids_response *r = response;
    struct taking *t = f->state;
    struct data_core *core = f->core;
    f->state = t->state;
    if (r->error_code != KE_NONE) {
        t->came(f, -1);
        return;
    }
    core->producer_id_next = r->producer_id_start;
    core->producer_id_end = r->producer_id_start + r->producer_id_len;
    t->came(f, core->producer_id_next++);
}

void producer_id_take(struct flow *f, void (*came)(struct flow *f, int64_t id))
{
    struct data_core *core = f->core;
    if (core->producer_id_next < core->producer_id_end) {
        came(f, core->producer_id_next++);
        return;
    }
    struct taking *t = arena_array(&f->arena, 1, sizeof(*t));
    if (t == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    allocate_producer_ids_request_init(&t->request);
    t->request.broker_id = core->config->node_id;
    const struct broker_image *self = image_broker(&core->image, core->config->node_id);
    t->request.broker_epoch = self != NULL ? self->epoch : -1;
    t->came = came;
    t->state = f->state;
    f->state = t;
    f->abandon = NULL; /* what was asked before has come home */
    control_ask_as(f, API_ALLOCATE_PRODUCER_IDS, 0, &t->request,
                   sizeof(struct allocate_producer_ids_response), block_came);
}
