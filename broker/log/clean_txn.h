/* What compaction knows about transactions while it walks a log; see clean_txn.c. */
#ifndef BROKER_LOG_CLEAN_TXN_H
#define BROKER_LOG_CLEAN_TXN_H

#include "broker/log/txn_index.h"
#include "core/map.h"

struct clean_aborted_list { /* all aborted transactions of the log, by first offset */
    struct mem *mem;
    struct aborted_txn *entries;
    uint32_t count, room;
};

/* Reads the log's indexes of them. At once. 0 or -errno. */
NODISCARD int clean_aborted_read(struct clean_aborted_list *list, struct log *l);
void clean_aborted_free(struct clean_aborted_list *list);

struct clean_txn {
    const struct clean_aborted_list *aborted;
    struct map ongoing; /* producer id -> struct clean_ongoing */
    uint32_t next;      /* of aborted */
    bool no_memory;     /* sticky: answers are not to be trusted any more */
};

void clean_txn_begin(struct clean_txn *t, const struct clean_aborted_list *aborted);
void clean_txn_end(struct clean_txn *t);
/* Batches in their order. True: the batch belongs to an aborted transaction. */
bool clean_txn_data(struct clean_txn *t, const struct batch_header *h);
/* True: nothing of its transaction is in the log, the marker may go. Else, for an abort, *kept is
 * its line in the index of the segment the marker goes to (first_offset NO_OFFSET: there is none).
 */
bool clean_txn_control(struct clean_txn *t, const struct batch_header *h, const uint8_t *batch,
                       struct aborted_txn *kept);

#endif
