/* Asking the control core: what an admin request does to the metadata is decided there
 * (broker/quorum). The decoded request is lent to it; the answer comes in its memory and is given
 * back once it is encoded. Home core only. */
#ifndef BROKER_API_CALL_H
#define BROKER_API_CALL_H

#include "broker/flow.h"

/* Sends `request` (a generated struct of the flow's api and version, alive as long as the flow) to
 * the control core. When its effect is visible on every core, `answer` gets the response struct and
 * ends with FLOW_ANSWER; the response is valid only inside it. */
void control_ask(struct flow *f, const void *request, uint32_t response_size,
                 void (*answer)(struct flow *f, void *response));
/* The same for an api other than the flow's own (auto-creation by Metadata, id blocks). answer
 * NULL: the flow does not wait, it answers by itself, and what becomes of this is seen by who asks
 * again. */
void control_ask_as(struct flow *f, int16_t api_key, int16_t api_version, const void *request,
                    uint32_t response_size, void (*answer)(struct flow *f, void *response));

#endif
