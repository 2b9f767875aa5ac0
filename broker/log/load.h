/* Bringing a log's files into memory; see load.c. */
#ifndef BROKER_LOG_LOAD_H
#define BROKER_LOG_LOAD_H

#include "broker/log/log_priv.h"

#define LOG_DAMAGED_NAME "log-damaged.torc" /* the folder was found damaged: it is not served */
#define LOG_GAPS_NAME    "log-gaps.torc"    /* write.caching lost records before others */

/* What its folder holds becomes the log's state (empty: the folder is new). 0 or -errno. */
NODISCARD int log_load(struct log *l, bool empty);
/* Index counts and timestamps of a segment as they are at a position in it (a batch begins or the
 * file ends there): reads the index and the batches behind its last entry. *end: the offset there.
 * 0, -EILSEQ (the batches there are damaged: then *position says up to where they are good), or
 * -errno. */
NODISCARD int segment_measure(struct log *l, struct segment *s, uint32_t *position,
                              struct index_cursor *cursor, int64_t *end);
/* For a segment that is not active: index counts and largest timestamp, when first needed. */
NODISCARD int segment_load(struct log *l, struct segment *s);
/* Removes segments from index on, with their files. At once. */
NODISCARD int segments_remove_from(struct log *l, uint32_t index);
/* Cuts a segment's files to what the cursor counts. At once. */
NODISCARD int segment_cut(struct log *l, struct segment *s, uint32_t position,
                          const struct index_cursor *cursor);
/* The newest producer snapshot at or below `below`, and what came after it as far as only the
 * segments know it. */
NODISCARD int log_load_producers(struct log *l, int64_t below);
/* The epochs as the batches say them. */
NODISCARD int log_rebuild_epochs(struct log *l);

#endif
