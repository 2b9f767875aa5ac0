/* struct txn_ask: what a participant of a transaction asks its coordinator before the first write
 * of the transaction in some partitions (KIP-890): are they part of the ongoing transaction
 * (verify), or make them part of it (add: clients of transaction version 2, Produce 12,
 * TxnOffsetCommit 5).
 *
 *   home: txn_ask_send ─MSG_TXN─▶ owner of the id's partition of __transaction_state:
 *         ◀── a->done ──MSG_TXN_HOME── txn_ask_answer ◀─ now or later ─ txn_ask_serve
 *
 * The ask and all it points at belong to who asks and stay till done. Who waits remembers in the
 * log that the transaction is open there, so only its first batches in a partition ask. */
#ifndef BROKER_TXN_ASK_H
#define BROKER_TXN_ASK_H

#include "broker/txn/txn.h"
#include "core/mail.h"

struct data_core;

struct txn_ask {
    struct msg msg;
    /* in */
    struct wire_string transactional_id;
    int64_t producer_id;
    int16_t producer_epoch;
    bool add; /* false: verify only */
    struct txn_ask_partition *partitions;
    uint32_t partitions_count;
    void (*done)(struct txn_ask *a); /* at home, never inside txn_ask_send */
    /* private */
    struct txn_call call; /* the coordinator's, as the next two */
    struct txn_add asked;
    struct data_core *owner;
    struct data_core *home;
    int32_t coordinator; /* partition of __transaction_state */
    struct uuid coordinator_topic_id;
};

/* The partition of __transaction_state that holds the id. */
int32_t txn_partition(struct wire_string transactional_id, uint32_t partitions_count);

/* Home core. Without the topic every partition gets COORDINATOR_NOT_AVAILABLE. */
void txn_ask_send(struct data_core *home, struct txn_ask *a);
/* Owner core, of the coordinator: works on it, and ends with txn_ask_answer, now or later. */
void txn_ask_serve(struct data_core *owner, struct txn_ask *a);
void txn_ask_answer(struct data_core *owner, struct txn_ask *a);
/* The same error for every partition, and answered. */
void txn_ask_refuse(struct data_core *owner, struct txn_ask *a, enum kafka_error error);

#endif
