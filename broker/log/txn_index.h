/* Aborted transactions of a partition: in memory until their marker is in a segment, then in that
 * segment's .txnindex; see txn_index.c. */
#ifndef BROKER_LOG_TXN_INDEX_H
#define BROKER_LOG_TXN_INDEX_H

#include "broker/log/log_priv.h"

#define TXN_INDEX_ENTRY_SIZE 34u
#define TXN_INDEX_SUFFIX     ".txnindex"

struct aborted_txn {
    int64_t producer_id;
    int64_t first_offset, last_offset; /* last: of the marker */
    int64_t stable_offset;             /* last stable offset once the marker is committed */
};

void txn_index_put(uint8_t *to, const struct aborted_txn *t);
/* false: of another version, or not possible. */
NODISCARD bool txn_index_get(const uint8_t *from, struct aborted_txn *t);

/* Room for one more. */
NODISCARD bool txn_index_reserve(struct log *l);
/* Later ones have a higher last_offset; one that is known already is passed over. */
void txn_index_add(struct log *l, const struct aborted_txn *t);
void txn_index_free(struct log *l);
/* What ends below this offset goes into the file of the segment, which holds it. At once. 0 or
 * -errno; what was not written stays. */
NODISCARD int txn_index_write(struct log *l, struct segment *s, int64_t below);
/* Forgets what ends at or behind the offset, in the segment's file and in memory. */
NODISCARD int txn_index_truncate(struct log *l, struct segment *s, int64_t offset);

/* All of the log, in order, into grown memory of the core: the caller frees *room entries. At once.
 * 0 or -errno. */
NODISCARD int txn_index_all(struct log *l, struct aborted_txn **entries, uint32_t *count,
                            uint32_t *room);

#endif
