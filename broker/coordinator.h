/* struct coordinators: the coordinators of one data core. A partition of __consumer_offsets has its
 * groups (broker/group), one of __transaction_state its transactions (broker/txn), on the core that
 * owns it: loaded from its log, changed by calls and timers, kept by appending what they say to the
 * same log. Owner core only. */
#ifndef BROKER_COORDINATOR_H
#define BROKER_COORDINATOR_H

#include "broker/group/group.h"
#include "broker/quorum/image.h"
#include "broker/txn/txn.h"

struct coordinators;
struct data_core;

NODISCARD int coordinators_start(struct data_core *core); /* 0 or -ENOMEM; empty */
/* The core serves, or its image has changed (it has been applied): partitions come and go, offsets
 * of deleted topics go. delta NULL: look at the whole image. */
void coordinators_image(struct data_core *core, const struct image_delta *delta);
/* The core stops: nobody is held any more, and nobody is let in. */
void coordinators_stop(struct data_core *core);

/* The call is answered by group_call_answered: later, never inside. */
void coordinator_call(struct data_core *core, struct uuid topic_id, int32_t partition,
                      struct group_call *call);
/* GROUP_LIST, over all of this core's. The response is set up by the caller. */
void coordinators_list(struct data_core *core, struct group_call *call);
/* Who asked is gone. */
void coordinator_abandon(struct data_core *core, struct uuid topic_id, int32_t partition,
                         struct group_call *call);
/* The call is answered by call->answered: later, never inside. */
void coordinator_txn_call(struct data_core *core, struct uuid topic_id, int32_t partition,
                          struct txn_call *call);
/* TXN_LIST, over all of this core's. The response is set up by the caller. */
void coordinators_list_txns(struct data_core *core, struct txn_call *call);
/* The end of a transaction in a partition of groups: appended in order with what the groups append,
 * then txn_marker_answered. false: it is not a partition of groups. */
struct txn_marker;
NODISCARD bool coordinator_takes_marker(struct data_core *core, struct txn_marker *marker);
/* Of broker/api/group_ask.c: the response is complete, and durable is what it says. */
void group_call_answered(struct group_call *call);

/* coordinator_world.c: the core's image and configuration, as its groups see them. */
void coordinator_world(struct data_core *core, struct group_world *world);

struct coordinators_stats {
    uint64_t groups, transactional_ids, loaded, loading, failed, appended_batches, appended_records;
};
void coordinators_stats(const struct data_core *core, struct coordinators_stats *stats);

#endif
