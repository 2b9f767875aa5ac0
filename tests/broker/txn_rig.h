/* A shard of transactional ids without a broker around it: virtual time, calls made of plain words,
 * and the log that its records would have become, which a second shard can be loaded from. */
#ifndef TESTS_BROKER_TXN_RIG_H
#define TESTS_BROKER_TXN_RIG_H

#include "broker/txn/txn.h"
#include "proto/gen/describe_transactions.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/list_transactions.h"

#ifndef RIG_RECORDS_MAX
#define RIG_RECORDS_MAX 8192
#endif

struct rig_record {
    uint8_t *key, *value; /* value NULL: a tombstone */
    uint32_t key_size, value_size;
};

struct txn_rig {
    struct mem mem; /* of the shard, and of nothing else */
    struct mem test_mem;
    struct arena arena;
    struct wheel wheel;
    uint64_t now_ns;
    int64_t wall_ms;
    struct broker_config config;
    struct txn_shard shard;
    struct rig_record log[RIG_RECORDS_MAX];
    uint32_t log_count;
    uint32_t handed_over; /* ends whose decision became durable */
    int64_t next_id;      /* of producers */
};

struct rig_answer {
    enum kafka_error error;
    int64_t id; /* of the producer, where the answer has one */
    int16_t epoch;
};

/* Kafka's defaults and transaction.version 2; loaded and empty. */
void rig_init(struct txn_rig *r);
/* Closes the shard; nothing of it may be left. */
void rig_end(struct txn_rig *r);
/* A second shard in a rig of its own, loaded from the first one's log. */
void rig_load(struct txn_rig *r, const struct txn_rig *from);
void rig_pass(struct txn_rig *r, int32_t ms);
/* Takes what the shard has left in its update. */
void rig_take(struct txn_shard *s);

struct rig_answer rig_begin(struct txn_rig *r, const char *id);
struct rig_answer rig_begin_as(struct txn_rig *r, const char *id, int64_t producer_id,
                               int16_t epoch, int16_t version);
/* partition of topic "t". client_version 0 or 2. */
enum kafka_error rig_add(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                         int32_t partition, int8_t client_version);
enum kafka_error rig_verify(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                            int32_t partition);
struct rig_answer rig_finish(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                             bool commit, int16_t version);
/* All markers are durable: the id goes to COMPLETE_*. */
void rig_mark(struct txn_rig *r, const char *id);
struct describe_transactions_response_transaction_state *rig_describe(struct txn_rig *r,
                                                                      const char *id);
struct list_transactions_response *rig_list(struct txn_rig *r, const struct txn_list *q);
/* NULL: the shard does not know the id. */
struct txn *rig_find(struct txn_rig *r, const char *id);
enum txn_state rig_state(struct txn_rig *r, const char *id);

#endif
