/* Idempotent and transactional producers of one partition; see producer.c. */
#ifndef BROKER_LOG_PRODUCER_H
#define BROKER_LOG_PRODUCER_H

#include "broker/log/txn_index.h"

#define PRODUCER_BATCHES                                                                           \
    5u /* requests a client has in flight at most: the window for duplicates                       \
        */

enum producer_verdict { PRODUCER_ACCEPTED, PRODUCER_DUPLICATE, PRODUCER_REFUSED };

struct producer;
struct producer_txn;

struct producer_change {    /* what an accepted batch will do */
    enum kafka_error error; /* PRODUCER_REFUSED */
    const char *message;
    int64_t base_offset, last_offset, timestamp; /* of the original: PRODUCER_DUPLICATE */
    struct producer *producer;                   /* known, or reserved */
    struct producer_txn *txn;                    /* reserved: the batch opens it */
    bool made, marker, commit;
    int32_t coordinator_epoch;
    bool aborts; /* the transaction that was open: then this is its entry */
    struct aborted_txn aborted;
};

/* Judges a batch that will get the offsets in h (base_offset set by the caller). */
enum producer_verdict producer_check(struct log *l, const struct batch_header *h,
                                     const uint8_t *batch, const struct log_append *a,
                                     struct producer_change *change);
/* Takes the memory the change needs; false: none. After it apply or unreserve. */
NODISCARD bool producer_reserve(struct log *l, const struct batch_header *h,
                                struct producer_change *change);
void producer_unreserve(struct log *l, struct producer_change *change);
void producer_apply(struct log *l, const struct batch_header *h, struct producer_change *change);
/* A batch found on disk (replay): always believed. 0 or -ENOMEM. */
NODISCARD int producer_learn(struct log *l, const struct batch_header *h, const uint8_t *batch,
                             uint32_t size);

/* What is remembered of a producer: the last offset of its last batch with records (NO_OFFSET: none
 * of this epoch) and its epoch. False: nothing. */
NODISCARD bool producer_last(const struct log *l, int64_t id, int64_t *last_offset, int16_t *epoch);
/* The first offset of an open transaction, or of one whose marker is not below the high watermark;
 * INT64_MAX: none. */
int64_t producers_first_unstable(const struct log *l);
void producers_high_watermark(struct log *l);
/* Forgets those that wrote nothing for longer than the core's producer_expiration_ms. */
void producers_expire(struct log *l);
void producers_free(struct log *l);

/* Producer snapshots, Kafka's format, followed by the rest of the windows (which Kafka skips). */
/* The state before the batch at offset `below`: what came since may yet be lost. */
NODISCARD uint8_t *producers_encode(struct log *l, int64_t below, uint32_t *size);
/* Of the state before offset `below`. false: damaged, or of another version; the state is then
 * empty. */
NODISCARD bool producers_decode(struct log *l, int64_t below, const uint8_t *data, size_t size);

#endif
