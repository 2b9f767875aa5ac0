/* Producer ids, each given once: a core takes blocks of a thousand from the metadata (ProducerIds
 * records), so ids stay unique over restarts and cores. Home core only. */
#ifndef BROKER_API_PRODUCER_ID_H
#define BROKER_API_PRODUCER_ID_H

#include "broker/flow.h"

/* came runs at once if this core has an id left, else when a block has come; id -1: there is none
 * now. */
void producer_id_take(struct flow *f, void (*came)(struct flow *f, int64_t id));

#endif
