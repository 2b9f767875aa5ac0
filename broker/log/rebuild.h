/* Writing indexes while batches are walked: recovery and repair; see rebuild.c. */
#ifndef BROKER_LOG_REBUILD_H
#define BROKER_LOG_REBUILD_H

#include "broker/log/index.h"
#include "broker/log/log_priv.h"

#define INDEX_WRITER_ENTRIES 64u

struct index_writer { /* gathers entries and writes them behind those the cursor counted */
    struct log *log;
    struct segment *segment;
    struct index_cursor cursor;
    uint32_t index_count, time_count; /* gathered */
    uint8_t index_bytes[INDEX_WRITER_ENTRIES * INDEX_ENTRY_SIZE];
    uint8_t time_bytes[INDEX_WRITER_ENTRIES * TIME_ENTRY_SIZE];
};

void index_writer_begin(struct index_writer *w, struct log *l, struct segment *s,
                        const struct index_cursor *cursor);
/* A batch at this position of the segment. 0 or -errno. */
NODISCARD int index_writer_add(struct index_writer *w, uint32_t position, uint32_t size,
                               int64_t last_offset, int64_t max_timestamp);
/* Writes what is gathered; w->cursor is then what the files hold. */
NODISCARD int index_writer_flush(struct index_writer *w);

/* Makes the indexes of a segment anew from the sound batches at its beginning, and leaves the rest
 * of the file: *damaged says whether there is any, s->written is then less than the file. */
NODISCARD int segment_index(struct log *l, struct segment *s, bool *damaged, int64_t *end);
/* Walks a whole segment, checks every batch, makes its indexes anew, and cuts the file behind the
 * last good batch. *cut: there was something to cut. *end: the offset behind it. Learns epochs on
 * the way. 0 or -errno. */
NODISCARD int segment_rebuild(struct log *l, struct segment *s, bool *cut, int64_t *end);

#endif
