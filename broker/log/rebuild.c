/* Making indexes anew from the batches of a segment.
 *
 * Used where an index cannot be trusted (it does not match its batches, a directory that was not
 * closed) and, a piece at a time, by recovery, which lays WAL entries behind what is there.
 *
 * Invariant: the files never hold more entries than the cursor counts, so an interrupted rebuild
 * leaves a shorter index, which is only slower. */
#include "broker/log/rebuild.h"

#include <errno.h>

#include "broker/log/epoch.h"
#include "broker/log/load.h"
#include "broker/log/scan.h"
#include "broker/log/segment.h"

void index_writer_begin(struct index_writer *w, struct log *l, struct segment *s,
                        const struct index_cursor *cursor)
{
    w->log = l;
    w->segment = s;
    w->cursor = *cursor;
    w->index_count = w->time_count = 0;
}

/* count entries that end where the cursor stands. */
static int entries_write(struct index_writer *w, enum segment_file which, const uint8_t *bytes,
                         uint32_t entry_size, uint32_t count, uint32_t behind)
{
    assert(behind >= count);
    if (count == 0)
        return 0;
    int fd = segment_fd(w->log, w->segment, which);
    if (fd < 0)
        return fd;
    int64_t size = (int64_t)count * entry_size;
    int64_t written = io_pwrite(w->log->core->io, fd, bytes, (size_t)size,
                                (uint64_t)(behind - count) * entry_size);
    if (written < 0)
        return (int)written;
    return written == size ? 0 : -EIO;
}

int index_writer_flush(struct index_writer *w)
{
    segment_use(w->segment);
    int error = entries_write(w, FILE_INDEX, w->index_bytes, INDEX_ENTRY_SIZE, w->index_count,
                              w->cursor.entries);
    if (error == 0)
        error = entries_write(w, FILE_TIME, w->time_bytes, TIME_ENTRY_SIZE, w->time_count,
                              w->cursor.times);
    segment_unuse(w->log, w->segment);
    w->index_count = w->time_count = 0;
    return error;
}

int index_writer_add(struct index_writer *w, uint32_t position, uint32_t size, int64_t last_offset,
                     int64_t max_timestamp)
{
    int64_t base = w->segment->base;
    bool fits = last_offset >= base && last_offset - base <= INT32_MAX;
    bool indexed = fits && index_due(&w->cursor, log_config(w->log)->index_interval_bytes);
    if (indexed)
        index_put(w->index_bytes + w->index_count++ * INDEX_ENTRY_SIZE, base,
                  (struct index_entry){last_offset, position});
    if (index_advance(&w->cursor, indexed, size, last_offset, max_timestamp))
        time_put(w->time_bytes + w->time_count++ * TIME_ENTRY_SIZE, base,
                 (struct time_entry){w->cursor.last_time, w->cursor.max_timestamp_offset});
    return w->index_count == INDEX_WRITER_ENTRIES ? index_writer_flush(w) : 0;
}

static int rebuild_learn(struct log *l, const struct segment *s, const struct batch_header *h)
{
    if (h->magic != 2)
        return 0;
    if (!epochs_reserve(l))
        return -ENOMEM;
    epochs_assign(l, h->leader_epoch, h->base_offset);
    if (batch_has(h, BATCH_CONTROL)) /* of which some may be aborts */
        l->aborted_from = MIN(l->aborted_from, s->base);
    return 0;
}

/* The size of the file, whatever was believed about it. */
static int segment_restat(struct log *l, struct segment *s)
{
    struct io_stat st = {0};
    segment_use(s);
    int fd = segment_fd(l, s, FILE_LOG);
    int error = fd < 0 ? fd : io_fstat(l->core->io, fd, &st);
    segment_unuse(l, s);
    if (error == 0 && st.size > INT32_MAX)
        error = -EFBIG;
    if (error != 0)
        return error;
    l->size_bytes += st.size - s->size;
    s->size = s->written = (uint32_t)st.size;
    return 0;
}

/* Indexes from the sound batches at the beginning. w counts as far as those. */
static int rebuild_scan(struct log *l, struct segment *s, struct index_writer *w, bool *damaged,
                        uint32_t *sound, int64_t *end)
{
    struct index_cursor none;
    struct scan scan;
    struct batch_header h;
    const uint8_t *batch;
    index_cursor_init(&none);
    int error = segment_restat(l, s);
    if (error == 0)
        error = segment_cut(l, s, s->size, &none); /* empty indexes, whole log */
    uint32_t position = 0;
    index_writer_begin(w, l, s, &none);
    s->first_timestamp = NO_TIMESTAMP;
    scan_begin(&scan, l, s, 0, s->size, SCAN_VERIFY);
    while (error == 0 && scan_next(&scan, &batch, &h)) {
        if (position == 0)
            s->first_timestamp = h.max_timestamp;
        error = index_writer_add(w, position, h.size, scan.next_offset - 1, h.max_timestamp);
        if (error == 0)
            error = rebuild_learn(l, s, &h);
        position = scan.position;
    }
    if (error == 0 && scan.ended == SCAN_FAILED)
        error = scan.error;
    *damaged = position < s->size;
    *sound = position;
    *end = scan.next_offset;
    scan_end(&scan);
    return error == 0 ? index_writer_flush(w) : error;
}

int segment_index(struct log *l, struct segment *s, bool *damaged, int64_t *end)
{
    uint32_t sound = 0;
    struct index_writer *w = mem_alloc(l->core->mem, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    int error = rebuild_scan(l, s, w, damaged, &sound, end);
    if (error == 0) {
        s->written = sound;
        s->ahead = s->behind = w->cursor;
        s->loaded = true;
    }
    mem_free(l->core->mem, w, sizeof(*w));
    return error;
}

int segment_rebuild(struct log *l, struct segment *s, bool *cut, int64_t *end)
{
    uint32_t sound = 0;
    struct index_writer *w = mem_alloc(l->core->mem, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    int error = rebuild_scan(l, s, w, cut, &sound, end);
    if (error == 0 && *cut)
        error = segment_cut(l, s, sound, &w->cursor);
    if (error == 0) {
        s->ahead = s->behind = w->cursor;
        s->loaded = true;
    }
    mem_free(l->core->mem, w, sizeof(*w));
    return error;
}
