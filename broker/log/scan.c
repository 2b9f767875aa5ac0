/* Walking the batches of a segment on disk, at once: for loading, recovery and time lookups.
 *
 * The file is read in blocks into a buffer that grows to the largest batch met. What is not a batch
 * ends the walk and says where; nothing is changed.
 *
 * Invariant: s->position is always the end of the last good batch. */
#include "broker/log/scan.h"

#include <errno.h>

#include "broker/log/segment.h"

#define SCAN_BLOCK        (128u << 10)
#define SCAN_BLOCK_HEADER (4u << 10)

void scan_begin(struct scan *s, struct log *l, struct segment *segment, uint32_t from, uint32_t to,
                enum scan_how how)
{
    assert(from <= to);
    assert(to <= INT32_MAX);
    *s = (struct scan){.log = l,
                       .segment = segment,
                       .position = from,
                       .end = to,
                       .next_offset = segment->base,
                       .how = how,
                       .begin = from};
    segment_use(segment);
}

static bool scan_fail(struct scan *s, enum scan_end how, int error)
{
    s->ended = how;
    s->error = error;
    return false;
}

/* At least `size` bytes from position on are in the buffer, or all there are. */
static bool scan_fill(struct scan *s, uint32_t size)
{
    uint32_t block = s->how == SCAN_HEADERS ? SCAN_BLOCK_HEADER : SCAN_BLOCK;
    uint32_t want = MIN(MAX(size, block), s->end - s->position);
    if (want > s->room) {
        uint32_t room = MAX(want, MIN(block, s->end - s->begin));
        uint8_t *grown = mem_realloc(s->log->core->mem, s->buffer, s->room, room);
        if (grown == NULL)
            return scan_fail(s, SCAN_FAILED, -ENOMEM);
        s->buffer = grown;
        s->room = room;
    }
    int fd = segment_fd(s->log, s->segment, FILE_LOG);
    if (fd < 0)
        return scan_fail(s, SCAN_FAILED, fd);
    int64_t got = io_pread(s->log->core->io, fd, s->buffer, want, s->position);
    if (got < 0)
        return scan_fail(s, SCAN_FAILED, (int)got);
    s->begin = s->position;
    s->filled = (uint32_t)got;
    return true;
}

static uint32_t scan_left(const struct scan *s)
{
    assert(s->position >= s->begin);
    uint32_t used = s->position - s->begin;
    return used < s->filled ? s->filled - used : 0;
}

/* Is what was decoded a batch that can follow the one before? */
static bool scan_good(const struct scan *s, const uint8_t *batch, enum batch_peek peek,
                      const struct batch_header *h)
{
    int64_t last = peek == BATCH_OLD ? h->base_offset : batch_last_offset(h);
    /* No checksum covers the base offset. Above this it is none of this segment. */
    if (last < s->next_offset || last - s->segment->base > INT32_MAX)
        return false;
    if (peek == BATCH_OLD)
        return s->how != SCAN_VERIFY || batch_old_crc_matches(batch, h->size);
    return h->last_offset_delta >= 0 &&
           (s->how != SCAN_VERIFY || batch_crc_matches(batch, h->size));
}

bool scan_next(struct scan *s, const uint8_t **batch, struct batch_header *h)
{
    uint32_t want = BATCH_HEADER_SIZE;
    for (uint32_t tries = 0; tries < 3; tries++) { /* header, then the whole of it */
        if (s->position == s->end)
            return scan_fail(s, SCAN_CLEAN, 0);
        if (scan_left(s) < want && !scan_fill(s, want))
            return false;
        *batch = s->buffer + (s->position - s->begin);
        enum batch_peek peek = batch_peek(*batch, scan_left(s), h);
        if (peek == BATCH_MALFORMED)
            return scan_fail(s, SCAN_DAMAGED, 0);
        bool header_here = scan_left(s) >= BATCH_HEADER_SIZE && h->magic == 2;
        uint32_t size = MAX(h->size, (uint32_t)BATCH_HEADER_SIZE);
        if (peek == BATCH_PARTIAL && size > s->end - s->position)
            return scan_fail(s, SCAN_CUT, 0);
        if (peek == BATCH_PARTIAL && s->how == SCAN_HEADERS && header_here)
            batch_decode_header(*batch, h);
        else if (peek == BATCH_PARTIAL) {
            want = size;
            continue;
        }
        if (!scan_good(s, *batch, peek, h))
            return scan_fail(s, SCAN_DAMAGED, 0);
        s->next_offset = (peek == BATCH_OLD ? h->base_offset : batch_last_offset(h)) + 1;
        s->position += h->size;
        return true;
    }
    return scan_fail(s, SCAN_CUT, 0);
}

void scan_end(struct scan *s)
{
    mem_free(s->log->core->mem, s->buffer, s->room);
    s->buffer = NULL;
    segment_unuse(s->log, s->segment);
}
