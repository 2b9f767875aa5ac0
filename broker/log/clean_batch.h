/* What compaction leaves of one batch; see clean_batch.c. */
#ifndef BROKER_LOG_CLEAN_BATCH_H
#define BROKER_LOG_CLEAN_BATCH_H

#include "broker/log/clean_txn.h"
#include "broker/log/log_priv.h"
#include "broker/log/offset_map.h"

struct clean_out { /* bytes to be written, grown as needed */
    struct mem *mem;
    uint8_t *data;
    uint32_t size, room;
};

struct clean_rules {
    struct mem *mem;
    const struct log *log; /* whose producers count */
    struct compress *compress;
    const struct offset_map *map;
    struct clean_txn *txn;
    int64_t now_ms, delete_retention_ms;
    int64_t end;   /* of the round: the batch that ends there stays, if only as a header */
    uint8_t *keep; /* scratch: one byte per record */
    uint32_t keep_room;
};

struct clean_count {
    uint64_t bytes_read, bytes_kept, records_read, records_kept;
    uint64_t keyless;
};

/* Puts what is left behind out->size; *kept is its header, size 0 when nothing is. *aborted as in
 * clean_txn_control. 0, -ENOMEM, -EILSEQ (damaged; nothing was put). */
NODISCARD int clean_batch(struct clean_rules *rules, const uint8_t *batch,
                          const struct batch_header *h, struct clean_out *out,
                          struct batch_header *kept, struct aborted_txn *aborted,
                          struct clean_count *count);
void clean_rules_free(struct clean_rules *rules);
/* Room for size more bytes. */
NODISCARD bool clean_out_reserve(struct clean_out *out, uint32_t size);
void clean_out_free(struct clean_out *out);

#endif
