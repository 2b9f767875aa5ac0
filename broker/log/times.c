/* Holding a time index against the batches it is about.
 *
 * A time index has no checksum, and is believed where it matters: a segment whose largest timestamp
 * is too small is passed over by lookups, and removed by retention. So when a segment is first
 * looked at, its last entry must agree with the batch that the entry names, and the batches behind
 * the last entry of the offset index, where nothing is in an index yet, must have no later
 * timestamp. That costs two short reads. If it does not hold, the largest timestamp is learned from
 * all batches, and lookups read the segment from its start.
 *
 * Not found so: a time index that has lost some whole entries from its end, of a segment whose
 * timestamps fall towards its end.
 *
 * Failure modes: what cannot be read is told. Of a segment that is itself damaged the largest
 * timestamp counts as the largest there is, so that nobody passes over it. */
#include "broker/log/times.h"

#include <errno.h>
#include <inttypes.h>

#include "broker/log/scan.h"
#include "broker/log/segment.h"
#include "core/lab.h"

/* The batch that holds the offset: 0, -ESTALE: none, or -errno. */
static int batch_holding(struct log *l, struct segment *s, int64_t offset, struct batch_header *h)
{
    struct index_entry at = {s->base, 0};
    struct scan scan;
    const uint8_t *batch;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_INDEX);
    int error =
        fd < 0 ? fd : index_lookup(l->core->io, fd, s->base, s->behind.entries, offset, &at);
    segment_unuse(l, s);
    if (error != 0)
        return error;
    scan_begin(&scan, l, s, at.position < s->written ? at.position : 0, s->written, SCAN_HEADERS);
    bool found = false;
    while (!found && scan_next(&scan, &batch, h))
        found = scan.next_offset > offset;
    if (!found)
        error = scan.ended == SCAN_FAILED ? scan.error : -ESTALE;
    scan_end(&scan);
    return found && h->base_offset > offset ? -ESTALE : error;
}

int times_check_entry(struct log *l, struct segment *s, const struct time_entry *e)
{
    struct batch_header h;
    int error = batch_holding(l, s, e->offset, &h);
    if (error == 0 && h.magic == 2 && h.max_timestamp != e->timestamp)
        error = -ESTALE;
    SOMETIMES_IF(error == -ESTALE, "an entry of a time index lies");
    return error;
}

/* The largest timestamp from a position on. 0 or -errno. */
static int times_walk(struct log *l, struct segment *s, uint32_t from, enum scan_how how,
                      struct index_cursor *c)
{
    struct scan scan;
    struct batch_header h;
    const uint8_t *batch;
    scan_begin(&scan, l, s, from, s->written, how);
    while (scan_next(&scan, &batch, &h)) {
        if (h.magic != 2 || h.max_timestamp <= c->max_timestamp)
            continue;
        c->max_timestamp = h.max_timestamp;
        c->max_timestamp_offset = scan.next_offset - 1;
    }
    int error = scan.ended == SCAN_FAILED ? scan.error : 0;
    bool whole = scan.ended == SCAN_CLEAN && !segment_is_short(l, s, scan.next_offset);
    if (!whole)
        c->max_timestamp =
            INT64_MAX; /* of what is missing: nobody may pass over it, nor remove it */
    scan_end(&scan);
    return error;
}

/* The last entries of both indexes, and whether the files end with them. */
static int times_last(struct log *l, struct segment *s, struct time_entry *time,
                      struct index_entry *index)
{
    struct io *io = l->core->io;
    struct io_stat st = {0};
    uint32_t entries = 0, times = 0;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_INDEX);
    int error = fd < 0 ? fd : index_measure(io, fd, s->base, &entries, index);
    fd = error != 0 ? error : segment_fd(l, s, FILE_TIME);
    if (error == 0)
        error = fd < 0 ? fd : time_measure(io, fd, s->base, &times, time);
    if (error == 0)
        error = io_fstat(io, fd, &st);
    segment_unuse(l, s);
    if (error == 0 && st.size % TIME_ENTRY_SIZE != 0)
        error = -ESTALE;
    if (times == 0)
        time->timestamp = NO_TIMESTAMP; /* a complete segment has an entry */
    return error == 0 && times == 0 ? -ESTALE : error;
}

int times_check(struct log *l, struct segment *s)
{
    struct time_entry time = {NO_TIMESTAMP, s->base};
    struct index_entry index = {s->base, 0};
    struct index_cursor tail;
    index_cursor_init(&tail);
    if (s->written == 0)
        return 0;
    int error = times_last(l, s, &time, &index);
    if (error == 0 && time.timestamp != NO_TIMESTAMP)
        error = times_check_entry(l, s, &time);
    if (error == 0)
        error =
            times_walk(l, s, index.position < s->written ? index.position : 0, SCAN_HEADERS, &tail);
    bool later = tail.max_timestamp > time.timestamp; /* or damaged */
    return error == 0 && later ? -ESTALE : error;
}

int times_learn(struct log *l, struct segment *s)
{
    SOMETIMES("the largest timestamp of a segment is learned from its batches");
    trace_line(l->core->trace, TRACE_LOG, TRACE_WARN,
               "%s/%s: the time index of segment %" PRId64 " does not match it: not used",
               l->dir->path, l->folder, s->base);
    s->behind.max_timestamp = NO_TIMESTAMP;
    s->behind.max_timestamp_offset = NO_OFFSET;
    s->times_lie = true;
    /* A timestamp of a damaged batch may be the one that does not match. */
    int error = times_walk(l, s, 0, SCAN_VERIFY, &s->behind);
    s->ahead = s->behind;
    return error;
}
