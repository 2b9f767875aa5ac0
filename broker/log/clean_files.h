/* The files of compaction: the segment being made, how it takes its place, and what a crash in
 * between leaves; see clean_files.c. */
#ifndef BROKER_LOG_CLEAN_FILES_H
#define BROKER_LOG_CLEAN_FILES_H

#include "broker/log/clean_txn.h"
#include "broker/log/log_priv.h"
#include "broker/log/rebuild.h"
#include "broker/log/segment.h"

#define LOG_CLEANED_NAME "log-cleaned.torc"

enum swap_step { SWAP_NOTE, SWAP_NOTE_NAME, SWAP_PREPARE, SWAP_REPLACE, SWAP_NAME, SWAP_END };

struct cleaned { /* a segment that is not in its log yet, or not by its name */
    struct log *log;
    struct segment *segment; /* NULL: none; used once by this */
    struct index_writer indexes;
    enum swap_step step; /* the next one */
    int note_fd, folder_fd;
};

/* Makes the files <base>.*.cleaned, empty. 0 or -errno; then there is nothing. */
NODISCARD int cleaned_begin(struct cleaned *c, struct log *l, int64_t base);
/* Index entries for a batch that will stand at a position. 0 or -errno. */
NODISCARD int cleaned_add(struct cleaned *c, uint32_t position, const struct batch_header *h);
NODISCARD int cleaned_add_aborted(struct cleaned *c, const struct aborted_txn *aborted);
/* All batches are in the file: the last index entries. At once. */
NODISCARD int cleaned_complete(struct cleaned *c);
/* One of its files, to be synced before the swap. */
static inline int cleaned_fd(struct cleaned *c, enum segment_file which)
{
    return segment_fd(c->log, c->segment, which);
}
/* The next step of taking the place of count segments of the log, from first on, which are on the
 * device as a whole. 1: the caller does this sync, and calls again; 0: calls again, or there is no
 * segment any more, and it is over; -errno. No flush may use the log when SWAP_REPLACE is next. */
NODISCARD int cleaned_swap(struct cleaned *c, uint32_t first, uint32_t count, struct io_sync *sync);
/* Is it begun, so that only a start could undo it? Then it is not given up but with its log, and an
 * error fails the directory. */
static inline bool cleaned_is_begun(const struct cleaned *c)
{
    return c->segment != NULL && c->step > SWAP_PREPARE;
}
/* Closes and, if asked for, removes the files. */
void cleaned_drop(struct cleaned *c, bool remove);

/* At load: ends what a crash interrupted, by Kafka's rules. At once, durable. 0 or -errno. */
NODISCARD int cleaned_recover(struct log *l);
/* Reads what the log's file says about settled_end. */
NODISCARD int cleaned_read(struct log *l);
/* settled_end does not hold (any more): forgotten, durably. */
NODISCARD int cleaned_forget(struct log *l);

#endif
