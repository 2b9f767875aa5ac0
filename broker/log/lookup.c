/* Offsets by time (ListOffsets): the first record at or behind a timestamp, and the largest one.
 *
 *   segments whose largest timestamp is not below t ─▶ time index ─▶ offset index ─▶ batches from
 *   there on ─▶ records of the first batch whose largest timestamp is not below t
 *   then the batches in memory only
 *
 * Kafka's rule: the answer is a record, never the start of its batch, and it carries the leader
 * epoch of its batch. Disk is read at once: this is asked when a consumer starts, not per record.
 *
 * Invariant: an answer is below the readable end and not below the log start.
 * Failure: what cannot be read is KAFKA_STORAGE_ERROR, what is damaged CORRUPT_MESSAGE. */
#include "broker/log/log_priv.h"

#include <errno.h>

#include "broker/log/index.h"
#include "broker/log/load.h"
#include "broker/log/scan.h"
#include "broker/log/segment.h"
#include "broker/log/times.h"
#include "core/lab.h"
#include "proto/record.h"

struct lookup {
    struct log *log;
    int64_t timestamp, end;
    struct log_position *found;
    bool over; /* found, or what follows may not be seen */
    enum kafka_error error;
};

/* The record in this batch, if there is one. */
static void lookup_batch(struct lookup *k, const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record_found found;
    struct log *l = k->log;
    if (h->base_offset >= k->end) {
        k->over = true;
        return;
    }
    if (h->magic != 2 || h->max_timestamp < k->timestamp || batch_last_offset(h) < l->start_offset)
        return;
    enum compress_result opened =
        record_open(l->core->config.compress, batch, h, BATCH_UNPACKED_BYTES_DEFAULT, &it);
    if (opened != COMPRESS_OK) {
        k->error = opened == COMPRESS_NO_MEMORY ? KE_KAFKA_STORAGE_ERROR : KE_CORRUPT_MESSAGE;
        k->over = true;
        return;
    }
    if (!record_find_time(it, h, k->timestamp, l->start_offset, &found))
        return; /* compaction removed it; the next one, then */
    k->over = true;
    if (found.offset >= k->end)
        return;
    k->found->offset = found.offset;
    k->found->timestamp = found.timestamp;
    k->found->leader_epoch = h->leader_epoch;
}

/* Where in the segment to begin: 0 or -errno. */
static int lookup_position(struct lookup *k, struct segment *s, uint32_t *position)
{
    struct io *io = k->log->core->io;
    struct time_entry before;
    struct index_entry at;
    int fd = segment_fd(k->log, s, FILE_TIME);
    /* The last entry below t: nothing up to its offset reaches t. */
    int error =
        fd < 0 ? fd : time_lookup(io, fd, s->base, s->behind.times, k->timestamp - 1, &before);
    *position = 0;
    if (error != 0 || s->times_lie || before.timestamp == NO_TIMESTAMP)
        return error;
    fd = segment_fd(k->log, s, FILE_INDEX);
    error = fd < 0 ? fd : index_lookup(io, fd, s->base, s->behind.entries, before.offset, &at);
    if (error != 0)
        return error;
    *position = at.position < s->written ? at.position : 0;
    if (*position == 0)
        return 0;
    error = times_check_entry(k->log, s, &before);
    if (error == -ESTALE)
        *position = 0; /* it takes longer */
    return error == -ESTALE ? 0 : error;
}

/* What the checksum does not cover, as in read.c: offsets are not below next, and begin there if
 * that is where the batch before ended and nothing may be missing. False: it is damaged, and so is
 * told. */
static bool lookup_fits(struct lookup *k, const struct segment *s, const struct batch_header *h,
                        int64_t next, bool follows)
{
    const struct log *l = k->log;
    if (h->magic != 2)
        return true;
    uint32_t behind = segment_find(l, s->base) + 1;
    int64_t limit = behind < l->segments_count ? l->segments[behind]->base : l->end_offset;
    bool fits = h->base_offset >= next && batch_last_offset(h) < limit && log_epoch_fits(l, h) &&
                (h->base_offset == next || !follows || !log_is_gapless(l));
    if (!fits)
        k->error = KE_CORRUPT_MESSAGE;
    return fits;
}

static void lookup_segment(struct lookup *k, struct segment *s)
{
    struct log *l = k->log;
    uint32_t position = 0;
    struct scan scan;
    struct batch_header h;
    const uint8_t *batch;
    if (s->created && s->written == 0 && segment_is_short(l, s, s->base))
        k->error = KE_CORRUPT_MESSAGE;
    k->over = k->error != KE_NONE;
    if (!s->created || s->written == 0)
        return;
    segment_use(s);
    int error = segment_load(l, s);
    if (error == 0 && s->behind.max_timestamp >= k->timestamp) {
        SOMETIMES("a time is looked for in a segment");
        error = lookup_position(k, s, &position);
        int64_t next = s->base;
        bool follows = position == 0;
        scan_begin(&scan, l, s, position, s->written, SCAN_VERIFY);
        while (error == 0 && !k->over && k->error == KE_NONE && scan_next(&scan, &batch, &h)) {
            if (lookup_fits(k, s, &h, next, follows))
                lookup_batch(k, batch, &h);
            next = scan.next_offset;
            follows = true;
        }
        /* A base offset that is too high shows by the batch behind. */
        if (error == 0 && k->over && k->error == KE_NONE && scan_next(&scan, &batch, &h))
            (void)lookup_fits(k, s, &h, next, true);
        else if (error == 0 && !k->over && scan.ended == SCAN_FAILED)
            error = scan.error;
        else if (error == 0 && !k->over &&
                 (scan.ended != SCAN_CLEAN || segment_is_short(l, s, next)))
            k->error = KE_CORRUPT_MESSAGE;
        scan_end(&scan);
    }
    segment_unuse(l, s);
    if (error != 0)
        k->error = KE_KAFKA_STORAGE_ERROR;
    k->over |= k->error != KE_NONE;
}

static void lookup_memory(struct lookup *k)
{
    const struct tail *t = &k->log->tail;
    SOMETIMES_IF(t->unflushed > 0, "a time is looked for in memory");
    for (uint32_t i = t->count - t->unflushed; i < t->count && !k->over; i++) {
        const struct tail_entry *e = tail_at(t, i);
        struct batch_header h;
        batch_decode_header(tail_batch(e), &h);
        lookup_batch(k, tail_batch(e), &h);
    }
}

enum kafka_error log_find_time(struct log *l, int64_t timestamp_ms, enum log_isolation isolation,
                               struct log_position *found)
{
    struct lookup k = {
        .log = l, .timestamp = timestamp_ms, .end = log_readable_end(l, isolation), .found = found};
    *found = (struct log_position){NO_OFFSET, NO_TIMESTAMP, -1};
    if (l->state.now != LOG_OPEN)
        return KE_KAFKA_STORAGE_ERROR;
    for (uint32_t i = segment_find(l, l->start_offset); i < l->segments_count && !k.over; i++)
        lookup_segment(&k, l->segments[i]);
    if (!k.over)
        lookup_memory(&k);
    return k.error;
}

enum kafka_error log_find_max_time(struct log *l, enum log_isolation isolation,
                                   struct log_position *found)
{
    int64_t largest = NO_TIMESTAMP;
    *found = (struct log_position){NO_OFFSET, NO_TIMESTAMP, -1};
    if (l->state.now != LOG_OPEN)
        return KE_KAFKA_STORAGE_ERROR;
    for (uint32_t i = segment_find(l, l->start_offset); i < l->segments_count; i++) {
        struct segment *s = l->segments[i];
        if (s->created && segment_load(l, s) != 0)
            return KE_KAFKA_STORAGE_ERROR;
        largest = MAX(largest, s->ahead.max_timestamp);
    }
    if (largest < 0)
        return KE_NONE;
    return log_find_time(l, largest, isolation, found);
}
