/* What producer.c (rules), producer_table.c (memory) and producer_snapshot.c (files) share. */
#ifndef BROKER_LOG_PRODUCER_PRIV_H
#define BROKER_LOG_PRODUCER_PRIV_H

#include "broker/log/producer.h"
#include "core/id_map.h"

#define PRODUCER_NO_EPOCH    (-1)
#define PRODUCER_NO_SEQUENCE (-1)

struct producer_batch {
    int32_t last_sequence, offset_delta;
    int64_t last_offset, timestamp;
};

struct producer_txn { /* open: in ongoing; or its marker is not below the high watermark yet */
    struct list link;
    int64_t producer_id, first_offset;
    int64_t last_offset; /* of the marker; NO_OFFSET: open */
    int16_t epoch;       /* as they were before the marker */
    int32_t coordinator_epoch;
};

struct producer {
    int64_t id;                   /* first: the key of by_id */
    struct producer_txn *open;    /* NULL: no open transaction */
    struct producer_batch *older; /* those remembered besides the newest, oldest first */
    struct producer_batch newest; /* if count > 0 */
    int64_t last_timestamp;
    int64_t seen_ms; /* wall clock when it last wrote, or was loaded */
    int32_t coordinator_epoch;
    int16_t epoch;
    uint8_t count; /* batches remembered */
    uint8_t room;  /* of older */
};
_Static_assert(sizeof(struct producer) <= 80, "one per producer and partition");

struct verification {
    int64_t producer_id; /* first: the key of verifying */
    uint64_t guard;
    int64_t since_ms;
    int32_t lowest_sequence;
    int16_t epoch;
    bool adds; /* version 2: a producer that is new here begins at sequence 0 */
};

struct producers {
    struct id_map by_id;
    struct id_map verifying;
    struct list ongoing, unreplicated; /* struct producer_txn */
};

static inline const struct producer_batch *producer_batch(const struct producer *p, uint32_t i)
{
    return i + 1 == p->count ? &p->newest : &p->older[i];
}

static inline int64_t producer_txn_start(const struct producer *p)
{
    return p->open != NULL ? p->open->first_offset : NO_OFFSET;
}

static inline int32_t sequence_back(int32_t sequence, int32_t by)
{
    assert(by >= 0);
    return sequence < by ? (int32_t)(INT32_MAX - (by - sequence) + 1) : sequence - by;
}

/* ---- producer.c ---- */
void verification_end(struct log *l, int64_t id);

/* ---- producer_table.c ---- */
NODISCARD bool producers_make(struct log *l);
/* NULL: not known. */
struct producer *producer_find(const struct log *l, int64_t id);
/* Not in the table yet, which has room for it; NULL: no memory. */
struct producer *producer_make(struct log *l, int64_t id);
void producer_free(struct log *l, struct producer *p);
/* Room for one more batch of this epoch; false: no memory. */
NODISCARD bool producer_window_reserve(struct log *l, struct producer *p, int16_t epoch);
/* Room for so many batches in all. */
NODISCARD bool producer_window_make(struct log *l, struct producer *p, uint32_t count);
void producer_window_add(struct producer *p, const struct producer_batch *b);
void producer_set_epoch(struct producer *p, int16_t epoch);
/* The one that was silent longest, has no open transaction and is not `but`; false: there is none.
 */
NODISCARD bool producers_forget_oldest(struct log *l, const struct producer *but);
/* NULL: no memory. */
struct producer_txn *producer_txn_make(struct log *l, int64_t producer_id, int64_t first_offset);
/* Adds it to those that are open, by its first offset. */
void producer_txn_open(struct log *l, struct producer *p, struct producer_txn *t);

#endif
