/* broker/txn is what transactions mean: who may write under a transactional id, which partitions a
 * transaction has, and how it ends. It is pure: no socket, no file, no clock of its own. One struct
 * txn_shard is one partition of __transaction_state; all ids that hash to it live in it, on the
 * core that owns the partition.
 *
 *   struct txn_call ──▶ txn_shard_call ──▶ update: records to append, items that are answered
 *   a timer fires ────▶ (the same steps) ▶ update, told through shard.changed
 *   a record of the log ▶ txn_shard_replay ▶ the same state again
 *
 * State changes at once; the driver appends the records and lets the items go when they are
 * durable. A transaction that ends is such an item too: when its decision is durable, the driver
 * has markers written into its partitions, says which are (txn_partition_ended), and at last
 * txn_complete, which makes one more record. Formats, names and rules are Kafka 4.3's. */
#ifndef BROKER_TXN_TXN_H
#define BROKER_TXN_TXN_H

#include "broker/config/config.h"
#include "broker/shard.h"
#include "core/list.h"
#include "core/map.h"
#include "core/stage.h"
#include "core/timer.h"
#include "core/uuid.h"
#include "proto/error.h"
#include "proto/wire.h"

#define TXN_TOPIC "__transaction_state"

/*  EMPTY ◀──────────────────────┐     As in the record's transaction_status. DEAD and
 *    │ ▲                        │     PREPARE_EPOCH_FENCE are Kafka's names for steps that are
 *    ▼ │ init                   │     made at once here: an id that is dead is not in the shard,
 *  ONGOING ─▶ PREPARE_COMMIT ─▶ COMPLETE_COMMIT      and a fence raises the epoch and aborts.
 *    │ ▲
 *    ▼ └─ add, from EMPTY and COMPLETE_*
 *  PREPARE_ABORT ─▶ COMPLETE_ABORT     (version 2 aborts from EMPTY and COMPLETE_* too) */
enum txn_state {
    TXN_EMPTY = 0,
    TXN_ONGOING = 1,
    TXN_PREPARE_COMMIT = 2,
    TXN_PREPARE_ABORT = 3,
    TXN_COMPLETE_COMMIT = 4,
    TXN_COMPLETE_ABORT = 5,
    TXN_DEAD = 6,
    TXN_PREPARE_EPOCH_FENCE = 7,
    TXN_STATES
};

/* ---- calls ----------------------------------------------------------------------------------- */

enum txn_kind {
    TXN_INIT,     /* init_producer_id, with a transactional id */
    TXN_ADD,      /* struct txn_add, which holds its answer */
    TXN_END,      /* end_txn */
    TXN_DESCRIBE, /* wire_string -> describe_transactions_response_transaction_state */
    TXN_LIST,     /* struct txn_list; what is found is added to the response */
    TXN_ENDING,   /* no call: a struct txn whose markers are to be written */
    TXN_KINDS
};

struct txn_item { /* what stands in update.answered */
    struct list link;
    enum txn_kind kind;
};

/* One thing asked of one id (or of all of a shard: TXN_LIST). It belongs to who asks, and is lent
 * until `answered`, which runs when everything that it tells is durable. TXN_ADD is held for a
 * while if the transaction before is still ending. */
struct txn_call {
    struct txn_item item;
    int16_t version; /* of the api */
    /* An id that no producer had, or -1. Without one a step that needs it does nothing, and answers
     * with wants_id: ask again with one. */
    int64_t spare_id;
    bool wants_id;
    uint64_t due_ns; /* the shard's: how long it is held; 0: it was not */
    const void *request;
    void *response;
    struct arena *arena; /* for the arrays and texts of the response; TXN_ADD: NULL */
    void (*answered)(struct txn_call *call);
};

struct txn_ask_partition {
    struct uuid topic_id; /* of who asks; the coordinator goes by the name */
    struct wire_string topic;
    int32_t partition;
    /* out: what the coordinator says of AddPartitionsToTxn 4+: NONE, TRANSACTION_ABORTABLE (verify:
     * not in it), INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, CONCURRENT_TRANSACTIONS,
     * INVALID_TXN_STATE, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE.
     * Who asked words it for its own client. */
    enum kafka_error error;
};

struct txn_add {
    struct wire_string id;
    int64_t producer_id;
    int16_t epoch;
    int8_t client_version; /* 2: who asks for a client of transaction version 2 */
    bool verify_only;      /* are they in it? Else they shall be */
    struct txn_ask_partition *partitions;
    uint32_t partitions_count;
};

struct list_transactions_request;

struct txn_list {
    const struct list_transactions_request *filters;       /* but for the pattern */
    bool (*matches)(void *pattern, struct wire_string id); /* NULL: every id does */
    void *pattern;
};

/* What is wrong with a call whatever the transactions are; KE_NONE: ask the shard. */
enum kafka_error txn_call_check(const struct broker_config *config, const struct txn_call *call);
/* Makes the response one that says nothing but the error. */
void txn_call_refuse(struct txn_call *call, enum kafka_error error);

/* ---- transactions ---------------------------------------------------------------------------- */

struct txn_topic {
    struct list link;    /* txn.topics */
    int32_t *partitions; /* ascending */
    uint32_t partitions_count, room;
    uint32_t name_size;
    char name[];
};

struct txn_fields {     /* what a record says */
    struct state state; /* enum txn_state */
    int8_t client_version;
    int16_t epoch, last_epoch; /* last: -1 when not known; it is in no record */
    int32_t timeout_ms;
    int64_t producer_id;
    int64_t prev_producer_id; /* before the last step */
    int64_t next_producer_id; /* -1; else what the producer has after this one's end */
    int64_t start_ms, update_ms;
};

struct txn {
    struct list link; /* shard.all: the last one changed is last */
    struct list open; /* shard.ongoing or shard.ending */
    struct txn_shard *shard;
    struct txn_fields now;
    struct txn_item ending; /* update.answered, or of the driver */
    struct list waiting;    /* struct txn_call: TXN_ADD while it is ending */
    struct list topics;
    struct map topics_by_name; /* empty while they are few */
    uint32_t topics_count, partitions_count;
    bool away; /* the driver's: markers are under way */
    uint32_t id_size;
    char id[];
};

static inline struct wire_string txn_id(const struct txn *t)
{
    return (struct wire_string){t->id, (int32_t)t->id_size};
}

/* Is this the name of a state? As Kafka writes them: "PrepareCommit". */
bool txn_state_known(struct wire_string name);

/* ---- the shard ------------------------------------------------------------------------------- */

struct txn_shard {
    /* set by who makes it */
    struct mem *mem;
    struct wheel *wheel;
    const uint64_t *now_ns; /* monotonic */
    const int64_t *wall_ms;
    const struct broker_config *config;
    uint32_t batch_bytes_max;
    int16_t version;                      /* the cluster's transaction.version */
    void (*changed)(struct txn_shard *s); /* a timer has left something in update */
    void *context;
    /* its own */
    struct map txns; /* by id */
    struct list all;
    struct list ongoing, ending; /* those in ONGOING, and in PREPARE_* */
    struct shard_update update;  /* answered: struct txn_item */
    struct timer aborts, expiry;
    struct timer patience; /* of those who wait */
    bool loaded;
};

/* The fields above `txns` are set. Nothing is allocated yet. */
void txn_shard_init(struct txn_shard *s, uint64_t seed);
/* One record of the log, in order, before txn_shard_loaded. What is unknown is passed over. false:
 * no memory. */
NODISCARD bool txn_shard_replay(struct txn_shard *s, struct batch_field key,
                                struct batch_field value);
/* Everything is replayed: timers run from now on, calls may come. What was about to end is in
 * update.answered again, with all its partitions. */
void txn_shard_loaded(struct txn_shard *s);
/* A step. The call stands in update.answered when it is done. */
void txn_shard_call(struct txn_shard *s, struct txn_call *call);
/* In PREPARE_*: the marker is durable there, or there is nothing to end (any more). */
void txn_partition_ended(struct txn *t, struct wire_string topic, int32_t partition);
/* No partition is left: COMPLETE_*. false: no memory, to be tried again. */
NODISCARD bool txn_complete(struct txn *t);
/* Who waits is answered with the error, then everything is freed, also what the driver still had of
 * struct txn. update.answered is left to be taken; its records are dropped. */
void txn_shard_close(struct txn_shard *s, enum kafka_error error);

#endif
