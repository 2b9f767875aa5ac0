/* struct txn_markers: the end of a transaction, told to the partitions it wrote to. In each a
 * control batch (COMMIT or ABORT) is appended by the partition's owner core; in a partition of
 * __consumer_offsets the group coordinator there also lets the offsets of the transaction count, or
 * forgets them.
 *
 *   home: txn_markers_send ─MSG_MARKERS─▶ owners: append each, wait till durable
 *         ◀──────── m->done ─────────────MSG_MARKERS_HOME──┘
 *
 * done runs when every marker is durable or refused, so a coordinator that then writes that the
 * transaction is complete says the truth after any crash. Writing a marker again is harmless:
 * where the transaction is not open any more, one of the same producer id and epoch is accepted.
 *
 * Who sends owns all of it and keeps it, untouched, till done. */
#ifndef BROKER_TXN_MARKER_H
#define BROKER_TXN_MARKER_H

#include "broker/log/log.h"
#include "core/mail.h"

struct data_core;
struct txn_markers;
struct txn_marker_leg;

struct txn_marker { /* one partition */
    struct uuid topic_id;
    int32_t partition;
    /* out: NONE; UNKNOWN_TOPIC_OR_PARTITION (deleted: nothing to end there);
     * INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED (a later transaction or coordinator
     * was here: never again); NOT_LEADER_OR_FOLLOWER (groups are loading), KAFKA_STORAGE_ERROR: try
     * again. */
    enum kafka_error error;
    /* private */
    struct txn_marker_leg *leg;
    struct txn_marker *next; /* of the same leg */
    struct log_append append;
    struct list link; /* of who holds it at the owner */
    struct log_room_waiter room;
};

struct txn_marker_leg { /* what goes to one owner core */
    struct msg msg;
    struct txn_markers *markers;
    struct data_core *owner;
    struct txn_marker *first, **last;
    uint32_t pending;
};

struct txn_markers {
    /* in */
    int64_t producer_id;
    int16_t producer_epoch; /* that the marker carries: of version 2, one above the data's */
    int32_t coordinator_epoch;
    int8_t transaction_version; /* 2: the epoch must be above the one of the data */
    bool commit;
    bool may_repeat; /* of version 2: one that was written already is NONE, not the past's */
    struct txn_marker *partitions; /* ids, partitions; the rest zero */
    uint32_t partitions_count;
    struct txn_marker_leg *legs;         /* room for one per data core, zeroed */
    void (*done)(struct txn_markers *m); /* at home, never inside txn_markers_send */
    /* private */
    struct data_core *home;
    uint32_t away;
};

/* Home core. At least one partition. */
void txn_markers_send(struct data_core *home, struct txn_markers *m);

/* Owner core, of the group coordinator (broker/coordinator.c). */
/* Appends it; a->done is set. There is room. false: refused, a->error. */
NODISCARD bool txn_marker_start(struct txn_marker *marker, struct log_append *a, struct log *l,
                                int64_t now_ms);
void txn_marker_answered(struct txn_marker *marker); /* marker->error says how */

#endif
