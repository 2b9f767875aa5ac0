/* The two sparse indexes of a segment; see index.c. */
#ifndef BROKER_LOG_INDEX_H
#define BROKER_LOG_INDEX_H

#include "broker/log/log_priv.h"

#define INDEX_ENTRY_SIZE 8u
#define TIME_ENTRY_SIZE  12u

struct index_entry {
    int64_t offset; /* last offset of a batch */
    uint32_t position;
};

struct time_entry {
    int64_t timestamp, offset;
};

/* More than the interval since the last entry? Asked before a batch is counted. */
bool index_due(const struct index_cursor *c, int32_t interval_bytes);
/* Counts a batch; indexed: it got an entry in the offset index. True: the time index gets one too:
 * {c->last_time, c->max_timestamp_offset}. */
bool index_advance(struct index_cursor *c, bool indexed, uint32_t size, int64_t last_offset,
                   int64_t max_timestamp);
void index_cursor_init(struct index_cursor *c);
/* Entries that fit in an index of so many bytes. */
uint32_t index_entries_max(int32_t index_bytes);
uint32_t time_entries_max(int32_t index_bytes);

void index_put(uint8_t *to, int64_t segment_base, struct index_entry e);
struct index_entry index_get(const uint8_t *from, int64_t segment_base);
void time_put(uint8_t *to, int64_t segment_base, struct time_entry e);
struct time_entry time_get(const uint8_t *from, int64_t segment_base);

/* How many entries of the file are real (a tail of zeros, of a size that is no multiple, or out of
 * order, is not); *last is the last of them. 0 or -errno. */
NODISCARD int index_measure(struct io *io, int fd, int64_t segment_base, uint32_t *entries,
                            struct index_entry *last);
NODISCARD int time_measure(struct io *io, int fd, int64_t segment_base, uint32_t *entries,
                           struct time_entry *last);
/* How many entries point below a position (hold an offset below `offset`), and the last of them. */
NODISCARD int index_count_below(struct io *io, int fd, int64_t segment_base, uint32_t entries,
                                uint32_t position, uint32_t *count, struct index_entry *last);
NODISCARD int time_count_below(struct io *io, int fd, int64_t segment_base, uint32_t entries,
                               int64_t offset, uint32_t *count, struct time_entry *last);
/* The last entry at or below an offset: position 0 when there is none. Reads at once. */
NODISCARD int index_lookup(struct io *io, int fd, int64_t segment_base, uint32_t entries,
                           int64_t offset, struct index_entry *found);
/* The last entry with a timestamp below (or at) t; {-1, segment_base} when there is none. */
NODISCARD int time_lookup(struct io *io, int fd, int64_t segment_base, uint32_t entries,
                          int64_t timestamp, struct time_entry *found);

#endif
