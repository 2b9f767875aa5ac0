/* InitProducerId with a transactional id, asked of its coordinator. */
#ifndef BROKER_API_TRANSACTION_H
#define BROKER_API_TRANSACTION_H

#include "broker/flow.h"
#include "proto/gen/init_producer_id.h"

/* The request stays as long as the flow. Ends with the answer. */
void transaction_init(struct flow *f, const struct init_producer_id_request *q);

#endif
