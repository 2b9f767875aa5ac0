/* What the files of broker/txn share. */
#ifndef BROKER_TXN_TXN_PRIV_H
#define BROKER_TXN_TXN_PRIV_H

#include "broker/txn/txn.h"

#define TXN_VERSION_BUMPS 2 /* from this transaction.version on every end raises the epoch */

/* ---- shard.c ---- */
struct txn *txn_find(const struct txn_shard *s, struct wire_string id);
/* NULL: no memory. Empty, without an epoch. */
struct txn *txn_create(struct txn_shard *s, struct wire_string id);
void txn_remove(struct txn *t);
/* The fields are in the log (to be): they count. */
void txn_set(struct txn *t, const struct txn_fields *next);
const char *txn_state_name(uint8_t state);
static inline bool txn_is(const struct txn *t, enum txn_state state)
{
    return t->now.state.now == state;
}
static inline bool txn_ends(const struct txn *t)
{
    return txn_is(t, TXN_PREPARE_COMMIT) || txn_is(t, TXN_PREPARE_ABORT);
}
void txn_call_done(struct txn_shard *s, struct txn_call *call);
void txn_call_refused(struct txn_shard *s, struct txn_call *call, enum kafka_error error);

/* ---- partition.c ---- */
bool txn_has(const struct txn *t, struct wire_string topic, int32_t partition);
/* false: no memory; what was added before it stays. */
NODISCARD bool txn_put(struct txn *t, struct wire_string topic, int32_t partition);
void txn_take(struct txn *t, struct wire_string topic, int32_t partition);
void txn_clear(struct txn *t); /* of all partitions */

/* ---- step.c ---- */
void step_init(struct txn_shard *s, struct txn_call *call);
void step_add(struct txn_shard *s, struct txn_call *call);
/* Tries again those who wait: the transaction has ended. */
void step_waiting(struct txn *t);
void step_end(struct txn_shard *s, struct txn_call *call);
/* The epoch is raised, and what is ongoing aborted: nobody who has the old one is heard again. */
NODISCARD enum kafka_error step_fence(struct txn *t);

/* ---- record.c: what is written ---- */
/* t as it would be with these fields, and with its partitions unless they are to be left out.
 * KE_NONE; COORDINATOR_NOT_AVAILABLE: no memory; UNKNOWN_SERVER_ERROR: too large for a batch. */
NODISCARD enum kafka_error record_txn(struct txn *t, const struct txn_fields *as,
                                      bool with_partitions);
NODISCARD enum kafka_error record_txn_gone(struct txn *t);

#endif
