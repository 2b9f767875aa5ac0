/* Names that clients choose, and what may be done to what they name. */
#ifndef BROKER_API_NAMES_H
#define BROKER_API_NAMES_H

#include "proto/wire.h"

/* Without an authorizer everybody may do everything that the resource knows: bit n is
 * AclOperation code n (READ 3 ... IDEMPOTENT_WRITE 12). */
#define OPERATIONS_TOPIC   0x0df8 /* read write create delete alter describe, configs both */
#define OPERATIONS_CLUSTER 0x1fa0 /* create alter describe cluster-action, configs, idempotent */

/* 1 to 249 of [a-zA-Z0-9._-], not "." or "..": Topic.validate. */
bool topic_name_valid(struct wire_string name);
/* __consumer_offsets, __transaction_state, __share_group_state. */
bool topic_name_internal(struct wire_string name);

#endif
