/* This node as a voter of the quorum. Pure. */
#ifndef BROKER_QUORUM_VOTER_H
#define BROKER_QUORUM_VOTER_H

#include "broker/config/config.h"
#include "broker/quorum/image.h"
#include "core/uuid.h"
#include "proto/gen/record_quorum.h"

/* Where controllers reach this node: its controller listener, or, on a node that is alone, a name
 * and port that a listener added later would have. */
struct endpoint_image voter_endpoint(const struct config *node);
/* For VotersRecords; endpoint lives as long as the voter. */
void voter_of(const struct config *node, struct uuid directory,
              struct voters_record_endpoint *endpoint, struct voters_record_voter *voter);

#endif
