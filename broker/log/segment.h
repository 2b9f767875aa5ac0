/* Segments: the list of a log, when a new one begins, and their open files; see segment.c. */
#ifndef BROKER_LOG_SEGMENT_H
#define BROKER_LOG_SEGMENT_H

#include "broker/log/log_priv.h"

/* In memory only; the flusher makes its files. NULL over budget. */
NODISCARD struct segment *segment_add(struct log *l, int64_t base);
/* The active segment, after rolling if this batch (its base offset set) asks for it. NULL over
 * budget; then nothing has changed. */
NODISCARD struct segment *segment_for_append(struct log *l, const struct batch_header *h);
/* A new active segment at the end offset, if the active one holds anything. */
NODISCARD bool segment_roll(struct log *l);
static inline struct segment *segment_active(const struct log *l)
{
    assert(l->segments_count > 0);
    return l->segments[l->segments_count - 1];
}
/* Index of the segment that would hold offset; the first one for offsets before it. */
uint32_t segment_find(const struct log *l, int64_t offset);
/* Takes the oldest one out of the list (it is freed when its last user lets go). */
void segment_remove_first(struct log *l);
/* Another one takes the place of count of them, none of which is being written. */
void segments_replace(struct log *l, uint32_t first, uint32_t count, struct segment *by);
/* One that is not in the list: made, and freed. NULL over budget. */
NODISCARD struct segment *segment_make(struct log *l, int64_t base);
void segment_discard(struct log *l, struct segment *s);
/* The newest one, with nothing of it in memory only. */
void segment_remove_last(struct log *l);
void segment_use(struct segment *s);
void segment_unuse(struct log *l, struct segment *s);
void segments_free(struct log *l);

/* fd of one of its files, opened if need be; -errno. Valid while the caller uses the segment. */
NODISCARD int segment_fd(struct log *l, struct segment *s, enum segment_file which);
/* The same of its .log, for direct reads; -EINVAL where they are not possible.
 * Who gets none reads by the other. */
NODISCARD int segment_direct_fd(struct log *l, struct segment *s);
/* Its batches are read from the device next, not from what an earlier process left in the page
 * cache. At once. 0 or -errno. */
NODISCARD int segment_reread(struct log *l, struct segment *s);
/* Opens one of its files under another name; segment_fd is then that file as long as the segment is
 * used. flags: IO_CREATE and so on. 0 or -errno. */
NODISCARD int segment_begin_as(struct log *l, struct segment *s, enum segment_file which,
                               const char *suffix, uint32_t flags);
/* Sees to it that first_timestamp is known, if there is a first batch: reads disk the first time. 0
 * or -errno; NO_TIMESTAMP stays when there is none, or an old message. */
NODISCARD int segment_read_first_time(struct log *l, struct segment *s);
void segment_close(struct log_core *c, struct segment *s);
extern const char *const segment_suffixes[SEGMENT_FILES];

/* Are records missing between the segment, whose batches end at this offset, and the next one? */
bool segment_is_short(const struct log *l, const struct segment *s, int64_t end);

#endif
