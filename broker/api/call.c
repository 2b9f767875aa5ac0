/* One admin call: home ─MSG_CONTROL─▶ control ─▶ home (answers) ─MSG_CONTROL_FREE─▶ control ─▶
 * home.
 *
 * Invariants: the request is not touched at home while the letter is away; the response is not
 * touched at home after the letter left for the second time; the flow's memory stays until the
 * letter is home for good (flow_lend). The control side is in control_core.c.
 *
 * Failure modes: the control core cannot answer (it is leaving, its log has failed, no memory):
 * response is NULL and the flow is refused. */
#include "broker/api/call.h"

#include "broker/api/control_leg.h"
#include "broker/data_core.h"
#include "broker/node.h"
#include "broker/step.h"

void control_ask_as(struct flow *f, int16_t api_key, int16_t api_version, const void *request,
                    uint32_t response_size, void (*answer)(struct flow *f, void *response))
{
    struct data_core *core = f->core;
    assert(core_same(core_self(), core->id));
    struct control_leg *leg = arena_array(&f->arena, 1, sizeof(*leg));
    if (leg == NULL) {
        if (answer != NULL)
            flow_refuse(f, "no memory");
        return;
    }
    leg->msg.home = core->id;
    leg->msg.kind = MSG_CONTROL;
    leg->flow = f;
    leg->api_key = api_key;
    leg->api_version = api_version;
    leg->request = request;
    leg->response_size = response_size;
    leg->answer = answer;
    if (answer != NULL)
        leg->msg.trip = flow_leg(f);
    flow_lend(f);
    mail_send(&core->mail, core->node->control_id, &leg->msg);
}

void control_ask(struct flow *f, const void *request, uint32_t response_size,
                 void (*answer)(struct flow *f, void *response))
{
    control_ask_as(f, f->api_key, f->api_version, request, response_size, answer);
}

void control_call_home(struct data_core *core, struct msg *msg)
{
    struct control_leg *leg = container_of(msg, struct control_leg, msg);
    struct flow *f = leg->flow;
    assert(f->core == core);
    if (leg->answer != NULL && leg->response == NULL)
        flow_refuse(f, "the control core cannot answer");
    else if (leg->answer != NULL)
        leg->answer(f, leg->response);
    leg->msg.trip = NULL; /* nobody waits for that */
    leg->msg.kind = MSG_CONTROL_FREE;
    mail_send(&core->mail, core->node->control_id, &leg->msg);
}

void control_free_home(struct data_core *core, struct msg *msg)
{
    struct control_leg *leg = container_of(msg, struct control_leg, msg);
    assert(leg->flow->core == core);
    flow_unlend(leg->flow);
}
