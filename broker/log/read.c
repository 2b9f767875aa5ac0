/* Reading: from the tail in memory at once, from segments through the ring.
 *
 *   offset ─▶ in the tail index? ─ yes ─▶ pieces lent from chunks (small batches gathered by copy)
 *               │ no
 *               ▼
 *   segment, position (hint of a reader in order, or the offset index) ─▶ read a block ─▶ walk
 *      ▲  its batches: before the offset: skip │ first one cut: a larger block │ segment over: next
 *      └────────────────────────────────────────┘
 *
 * What comes from disk is its own block, never the tail memory: readers that are far behind do not
 * push out what those at the tail read.
 *
 * Reads go past the page cache, so that the kernel reads nothing ahead, and only some at once: a
 * device that is given megabytes to read answers the WAL's writes after them.
 *
 * Invariants
 *  1. Only whole batches below the readable end are returned, the first one holds the offset (or is
 *     the first behind it, where compaction left a gap).
 *  2. Every batch from disk has passed its checksum before it is lent, and what the checksum does
 *     not cover has been held against others: its base offset against the batches before and behind
 *     it and the segment, its leader epoch against the log's epochs. One that fails is not served:
 *     CORRUPT_MESSAGE if it is the first, else the answer ends before it. Nor is an answer given
 *     that passes over records: see cold_passes.
 *  3. Each piece of an answer holds one reference on its block till log_read_release.
 *  4. Readers that do not take what they asked for stop other readers, never appends: they hold no
 *     chunk once three quarters of the cache cannot be had (batches are copied then), and copies
 *     and blocks from disk are bounded by read_bytes_max.
 *  5. When reads wait for their turn, others are under way, and the first one to end starts them.
 *
 * Failure: where the device cannot read, less and less is read at a time. What stays unreadable is
 *  corruption of this range, not of the directory: it is told as such. */
#include "broker/log/read.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "broker/log/epoch.h"
#include "broker/log/index.h"
#include "broker/log/segment.h"
#include "core/lab.h"
#include "proto/wire.h"

#define COLD_TRIES_MAX  8u /* halves 1 MiB down to a page */
#define READ_PAGE       4096u
#define COLD_ROUNDS_MAX 1024u /* blocks looked through for one answer: a segment of 1 GiB */

struct cold_read {
    struct list link; /* in log_core.cold_waiting */
    struct io_rw rw;
    struct iovec iov;
    struct log *log;
    struct log_read *r; /* NULL: nobody waits any more */
    struct segment *segment;
    uint32_t position, rounds;
    uint32_t need; /* no less than this makes sense: the batch at position has so many bytes */
    uint32_t
        narrow; /* read no more than this if it is enough: the device has refused more; 0: any */
    uint32_t want, lead; /* bytes from position on, and of its page before it */
    const uint8_t *data; /* what is at position, in the block */
    uint32_t tries;      /* reads that the device has refused */
    bool entered;        /* there was a segment to read on in, when that was last looked for */
    bool guessed;        /* position came from an index, and no batch has confirmed it yet */
    bool doubt;    /* a batch that was passed over is damaged: what its header says may be wrong */
    bool missing;  /* the offset is in no segment, and should be */
    int64_t next;  /* offsets of the batch at position are not below */
    int64_t entry; /* guessed: last offset of the batch at position */
    struct log_block *block;
};

/* ---- memory ---------------------------------------------------------------------------------- */

static void read_lend(struct log_read *r, const uint8_t *data, uint32_t size, struct log_block *b)
{
    assert(r->pieces_count < LOG_READ_PIECES_MAX);
    r->pieces[r->pieces_count++] = (struct log_piece){data, size, b};
    r->bytes += size;
}

/* Readers hold so many bytes of blocks already that nothing more is read for anybody from disk,
 * or, at twice as many, copied from the tail: see invariant 4. */
static bool read_over(const struct log_core *c, uint32_t times)
{
    return c->config.read_bytes_max > 0 && c->block_bytes >= times * c->config.read_bytes_max;
}

/* Copies a batch behind the ones gathered before it; false: no memory, or too many pieces. */
static bool read_gather(struct log *l, struct log_read *r, const uint8_t *batch, uint32_t size)
{
    struct log_piece *last = r->pieces_count == 0 ? NULL : &r->pieces[r->pieces_count - 1];
    if (last != NULL && last->block->kind == BLOCK_READ &&
        last->size + size <= last->block->capacity) {
        memcpy(last->block->data + last->size, batch, size);
        l->core->stats.copied_bytes += size;
        last->size += size;
        r->bytes += size;
        return true;
    }
    SOMETIMES("small batches are copied together");
    if (r->pieces_count == LOG_READ_PIECES_MAX || read_over(l->core, 2))
        return false;
    struct log_block *b = block_take(l->core, MAX(size, READ_GATHER_BYTES));
    if (b == NULL)
        return false;
    memcpy(b->data, batch, size);
    l->core->stats.copied_bytes += size;
    read_lend(r, b->data, size, b);
    return true;
}

static bool read_fits(const struct log_read *r, uint32_t size)
{
    return (uint64_t)r->bytes + size <= r->max_bytes || (r->bytes == 0 && r->whole_first_batch);
}

static void read_memory(struct log *l, struct log_read *r, int64_t end)
{
    struct log_core *c = l->core;
    bool pinned = 4 * (uint64_t)chunks_room(c) < c->config.cache_bytes / CHUNK_BYTES;
    SOMETIMES_IF(pinned, "readers hold too much of the tail");
    for (uint32_t i = tail_search(&l->tail, r->offset); i < l->tail.count; i++) {
        const struct tail_entry *e = tail_at(&l->tail, i);
        uint32_t size = tail_size(e);
        int64_t last = tail_header(e)->last_offset;
        if (last >= end || !read_fits(r, size))
            break;
        /* A batch is worth a copy only when it is small, or when its chunk must not be held. */
        bool copied = (pinned || size < READ_SMALL) && read_gather(l, r, tail_batch(e), size);
        r->scarce = !copied && pinned;
        if (r->scarce || (!copied && r->pieces_count == LOG_READ_PIECES_MAX))
            break;
        if (!copied) {
            SOMETIMES("a batch is lent from the tail");
            block_retain(&e->chunk->block);
            read_lend(r, tail_batch(e), size, &e->chunk->block);
        }
        r->next_offset = last + 1;
    }
    c->stats.memory_reads++;
    c->stats.memory_bytes += r->bytes;
}

/* ---- disk ------------------------------------------------------------------------------------ */

static void cold_done(struct op *op);

static struct read_hint *read_hint(struct log *l, int64_t offset)
{
    uint64_t mixed = ((uint64_t)offset * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)l->slot << 7);
    return &l->core->hints[(mixed >> 32 ^ mixed) % READ_HINTS];
}

static void cold_let_go(struct cold_read *k)
{
    if (k->segment != NULL)
        segment_unuse(k->log, k->segment);
    k->segment = NULL;
    if (k->block != NULL)
        block_release(k->block);
    k->block = NULL;
}

static void cold_end(struct cold_read *k)
{
    SOMETIMES("a read from disk ends");
    struct log *l = k->log;
    cold_let_go(k);
    l->core->cold_reads--;
    mem_free(l->core->mem, k, sizeof(*k));
    log_unref(l);
}

/* The answer is told in the next turn. */
static void cold_answer(struct cold_read *k, enum kafka_error error)
{
    struct log_read *r = k->r;
    assert(r != NULL && r->cold == k);
    SOMETIMES_IF(error == KE_KAFKA_STORAGE_ERROR, "a read from disk is refused");
    k->log->core->stats.disk_bytes += r->bytes;
    r->cold = NULL;
    r->error = error;
    list_remove(&r->link);
    list_push_back(&k->log->core->reads_completed, &r->link);
    k->r = NULL;
}

void reads_refuse(struct log *l, enum kafka_error error)
{
    struct list *at;
    while ((at = list_first(&l->reads)) != NULL) {
        struct log_read *r = container_of(at, struct log_read, link);
        cold_answer(r->cold, error); /* the block ends when its read does */
    }
}

void reads_forget(struct log *l)
{
    for (uint32_t i = 0; i < READ_HINTS; i++)
        if (l->core->hints[i].log == l)
            l->core->hints[i].log = NULL;
}

/* Where in segment s to begin looking for the offset. 0 or -errno. */
static int cold_locate(struct cold_read *k)
{
    struct log *l = k->log;
    int64_t offset = k->r->offset;
    const struct read_hint *hint = read_hint(l, offset);
    if (hint->log == l && hint->offset == offset && hint->segment_base == k->segment->base &&
        hint->position < k->segment->written) {
        SOMETIMES("a read goes on where the one before ended");
        k->position = hint->position;
        k->next = offset;
        return 0;
    }
    int fd = segment_fd(l, k->segment, FILE_INDEX);
    if (fd < 0)
        return fd;
    struct index_entry found;
    int error =
        index_lookup(l->core->io, fd, k->segment->base, k->segment->behind.entries, offset, &found);
    k->position = found.position < k->segment->written ? found.position : 0;
    k->guessed = k->position > 0;
    k->entry = found.offset;
    return error;
}

static bool cold_fits_flying(const struct log_core *c, size_t size)
{
    return c->cold_flying_bytes == 0 || c->config.disk_read_bytes == 0 ||
           c->cold_flying_bytes + size <= c->config.disk_read_bytes;
}

static void cold_fly(struct cold_read *k)
{
    struct log_core *c = k->log->core;
    c->cold_flying_bytes += k->want;
    c->stats.disk_reads++;
    io_read(c->io, &k->rw);
}

static uint64_t page_up(uint64_t at)
{
    return (at + READ_PAGE - 1) / READ_PAGE * READ_PAGE;
}

static bool cold_has_room(struct cold_read *k, uint32_t size)
{
    if (k->block != NULL && k->block->capacity < size) {
        block_release(k->block);
        k->block = NULL;
    }
    if (k->block == NULL)
        k->block = block_take(k->log->core, size);
    return k->block != NULL;
}

/* Reads a block of at least size bytes from position, when it is its turn. False: it could not be
 * started. */
static bool cold_read_block(struct cold_read *k, uint32_t size)
{
    struct log *l = k->log;
    struct segment *s = k->segment;
    assert(k->position < s->written);
    uint32_t want = MIN(MAX(size, READ_BLOCK_MIN), MAX(size, READ_BLOCK_BYTES));
    want = k->narrow > 0 ? MAX(k->need, k->narrow) : want;
    want = MIN(want, s->written - k->position);
    int fd = segment_direct_fd(l, s);
    bool direct = fd >= 0;
    if (!direct) /* no descriptor is left for it, or the file system has none */
        fd = segment_fd(l, s, FILE_LOG);
    k->want = want;
    k->lead = direct ? k->position % READ_PAGE : 0;
    uint32_t span = direct ? (uint32_t)page_up(k->lead + want) : want;
    if (fd < 0 || !cold_has_room(k, direct ? span + READ_PAGE : span))
        return false;
    uintptr_t begin = (uintptr_t)k->block->data;
    uint8_t *at = k->block->data + (direct ? page_up(begin) - begin : 0);
    k->data = at + k->lead;
    k->iov = (struct iovec){at, span};
    k->rw =
        (struct io_rw){.fd = fd, .iov = &k->iov, .iov_count = 1, .offset = k->position - k->lead};
    op_init(&k->rw.op, cold_done);
    bool waits = !list_empty(&l->core->cold_waiting) || !cold_fits_flying(l->core, want);
    SOMETIMES_IF(waits, "a read from disk waits for others");
    if (waits)
        list_push_back(&l->core->cold_waiting, &k->link);
    else
        cold_fly(k);
    return true;
}

/* Begins in the segment that would hold the offset, or in the first one behind it with data.
 * False: there is none (not k->entered), or reading could not be started. */
static bool cold_enter(struct cold_read *k, uint32_t index)
{
    struct log *l = k->log;
    k->entered = false;
    for (; index < l->segments_count; index++) {
        struct segment *s = l->segments[index];
        if (s->written == 0)
            continue;
        if (k->segment != NULL)
            segment_unuse(l, k->segment);
        k->segment = s;
        k->entered = true;
        segment_use(s);
        k->position = 0;
        k->next = s->base;
        k->guessed = false;
        SOMETIMES_IF(s->base > k->r->offset, "a read begins behind the offset it is of");
        k->missing = s->base > k->r->offset && (k->doubt || log_is_gapless(l));
        if (k->missing)
            return false;
        if (s->base <= k->r->offset && cold_locate(k) != 0)
            k->position = 0; /* without an index it takes longer */
        return cold_read_block(k, MIN(k->r->max_bytes, READ_BLOCK_BYTES));
    }
    return false;
}

struct cold_walk {
    const uint8_t *begin; /* of the first batch that is answered */
    uint32_t size;        /* of all that are */
    uint32_t at;          /* how far the block was looked at */
    uint32_t want;        /* the batch at `at` has so many bytes, more than are here */
    int64_t next_offset;
    bool corrupt;
    bool full; /* it ended because something did not fit or may not be seen */
};

static bool batch_sound(enum batch_peek peek, const uint8_t *batch, uint32_t size)
{
    return peek == BATCH_OLD ? batch_old_crc_matches(batch, size) : batch_crc_matches(batch, size);
}

/* What the batch at `at` of the block has behind it: offsets there are not below. False: that is
 * not in the block. */
static bool cold_limit(const struct cold_read *k, uint32_t at, uint32_t got, uint32_t size,
                       int64_t *limit)
{
    const struct log *l = k->log;
    struct batch_header next;
    uint32_t behind = at + size;
    if (k->position + behind >= k->segment->written || k->segment->removed) {
        uint32_t index = segment_find(l, k->segment->base) + 1;
        bool last = index >= l->segments_count || k->segment->removed;
        *limit = last ? l->end_offset : l->segments[index]->base;
        return true;
    }
    if (got - behind < BATCH_PEEK_SIZE)
        return false;
    *limit = INT64_MAX; /* damage there is not this batch's */
    if (batch_peek(k->data + behind, got - behind, &next) != BATCH_MALFORMED)
        *limit = (int64_t)wire_load64(k->data + behind);
    return true;
}

/* Do the header's offsets fit between those before and behind, and its epoch to the log's? */
static bool cold_fits(const struct cold_read *k, enum batch_peek peek, const struct batch_header *h,
                      int64_t limit)
{
    if (peek == BATCH_OLD)
        return h->base_offset < limit;
    /* One that follows what is before it is right, and the one behind, which is below it, wrong. */
    bool placed = h->base_offset == k->next && limit <= h->base_offset;
    return h->base_offset >= k->next && h->last_offset_delta >= 0 &&
           (placed || batch_last_offset(h) < limit) && log_epoch_fits(k->log, h) &&
           (!k->guessed || batch_last_offset(h) == k->entry); /* else the entry is of another */
}

/* Would the answer pass over records that were there? The first batch of it begins behind the
 * offset: where a log is compacted that is ordinary, unless a batch before is damaged. */
static bool cold_passes(const struct cold_read *k, int64_t base)
{
    return base > k->r->offset && (k->doubt || k->guessed || log_is_gapless(k->log));
}

/* Is the batch what it says, so that the answer may begin with it, or be nothing because of it? */
static bool cold_believed(const struct cold_read *k, enum batch_peek peek, const uint8_t *batch,
                          const struct batch_header *h)
{
    return batch_sound(peek, batch, h->size) && !cold_passes(k, h->base_offset);
}

/* What of the block answers the read. */
static void cold_walk(struct cold_read *k, uint32_t got, int64_t end, struct cold_walk *w)
{
    const struct log_read *r = k->r;
    *w = (struct cold_walk){.next_offset = r->offset};
    while (w->at < got && !w->full) {
        struct batch_header h;
        int64_t limit = 0;
        const uint8_t *batch = k->data + w->at;
        enum batch_peek peek = batch_peek(batch, got - w->at, &h);
        bool whole = peek == BATCH_WHOLE || peek == BATCH_OLD;
        w->corrupt = peek == BATCH_MALFORMED;
        if (w->corrupt)
            return;
        if (!whole || !cold_limit(k, w->at, got, h.size, &limit)) {
            w->want = MAX(h.size, (uint32_t)BATCH_HEADER_SIZE) + (whole ? BATCH_PEEK_SIZE : 0);
            return;
        }
        int64_t last = peek == BATCH_OLD ? h.base_offset : batch_last_offset(&h);
        bool fitting = cold_fits(k, peek, &h, limit);
        if (last >= r->offset || !fitting) {
            bool fits = (uint64_t)w->size + h.size <= r->max_bytes ||
                        (w->size == 0 && r->whole_first_batch);
            w->full = fitting && (last >= end || !fits);
            if (w->size == 0)
                w->corrupt = !fitting || !cold_believed(k, peek, batch, &h);
            else
                w->corrupt = !w->full && (!fitting || !batch_sound(peek, batch, h.size));
            if (w->full || w->corrupt)
                return;
            if (w->size == 0)
                w->begin = batch;
            w->size += h.size;
            w->next_offset = last + 1;
        } else {
            k->doubt |= !batch_sound(peek, batch, h.size);
        }
        k->guessed = false;
        k->next = last + 1;
        w->at += h.size;
    }
}

/* Where an index has led there may be no batch: from the beginning of the segment, then.
 * False: it was not led. */
static bool cold_again(struct cold_read *k)
{
    if (!k->guessed)
        return false;
    k->guessed = k->doubt = false;
    k->position = 0;
    k->need = 0;
    k->next = k->segment->base;
    if (!cold_read_block(k, MIN(k->r->max_bytes, READ_BLOCK_BYTES)))
        cold_answer(k, KE_KAFKA_STORAGE_ERROR);
    return true;
}

static void cold_trace_corrupt(const struct cold_read *k, uint32_t at, const char *what)
{
    trace_line(k->log->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s/%s: segment %" PRId64 " is damaged at byte %" PRIu32 ": %s", k->log->dir->path,
               k->log->folder, k->segment->base, k->position + at, what);
}

/* Lends what was found and remembers where it ended. */
static void cold_deliver(struct cold_read *k, const struct cold_walk *w)
{
    struct log *l = k->log;
    SOMETIMES_IF(k->segment->removed, "what is read was removed meanwhile");
    if (!k->segment->removed) { /* else compaction or retention took it meanwhile */
        struct read_hint *hint = read_hint(l, w->next_offset);
        *hint = (struct read_hint){l, w->next_offset, k->segment->base, k->position + w->at};
        k->r->high_watermark = l->high_watermark; /* what is lent was looked for below these */
        k->r->last_stable_offset = log_last_stable_offset(l);
    }
    read_lend(k->r, w->begin, w->size, k->block);
    k->r->next_offset = w->next_offset;
    k->block = NULL; /* its reference went to the piece */
    cold_answer(k, KE_NONE);
}

/* The device cannot read somewhere in the block: less of it may go well, and what is sound before
 * the bad place is answered. False: there is nothing left to try. */
static bool cold_read_less(struct cold_read *k)
{
    SOMETIMES("a read that failed is tried with less");
    if (++k->tries > COLD_TRIES_MAX)
        return false;
    k->narrow = MAX((uint32_t)k->block->capacity >> k->tries, READ_NARROWEST);
    return cold_read_block(k, k->narrow);
}

static void cold_refused(struct cold_read *k, int error)
{
    SOMETIMES("a read from disk fails");
    struct log *l = k->log;
    if (error == -EIO && cold_read_less(k))
        return;
    trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s/%s: segment %" PRId64 " cannot be read at byte %" PRIu32 ": %s", l->dir->path,
               l->folder, k->segment->base, k->position, strerror(-error));
    l->core->stats.rot += error == -EIO;
    cold_answer(k, error == -EIO ? KE_CORRUPT_MESSAGE : KE_KAFKA_STORAGE_ERROR);
}

/* Nothing for it is in this segment: reads on in the next one. One that was compacted meanwhile may
 * have become one with those behind it: then from where the offset is now. */
static bool cold_next(struct cold_read *k)
{
    struct log *l = k->log;
    if (k->segment->removed) {
        return cold_enter(k, segment_find(l, k->r->offset));
    }
    return cold_enter(k, segment_find(l, k->segment->base) + 1);
}

/* No segment has anything for it, because compaction left a gap: what is behind is in memory. */
static void cold_past_segments(struct cold_read *k, int64_t end)
{
    read_memory(k->log, k->r, end);
    cold_answer(k, KE_NONE);
}

/* Segments end before the offset, and go on behind it. */
static void cold_missing(struct cold_read *k)
{
    struct log *l = k->log;
    trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR,
               "%s/%s: the records from offset %" PRId64 " on are missing before segment %" PRId64,
               l->dir->path, l->folder, k->r->offset, k->segment->base);
    l->core->stats.rot++;
    cold_answer(k, KE_CORRUPT_MESSAGE);
}

/* Of the pages that were read. */
static int32_t cold_got(const struct cold_read *k, uint32_t read)
{
    return (int32_t)MIN(read - MIN(read, k->lead), k->want);
}

/* A block has come: answers, or reads on. */
static void cold_step(struct cold_read *k, int32_t got)
{
    struct log *l = k->log;
    struct cold_walk w;
    if (got < 0) {
        cold_refused(k, got);
        return;
    }
    int64_t end = log_readable_end(l, k->r->isolation);
    cold_walk(k, (uint32_t)got, end, &w);
    if ((got == 0 || (w.corrupt && w.size == 0)) && cold_again(k))
        return;
    if (got == 0 || (w.corrupt && w.size == 0)) {
        cold_trace_corrupt(k, w.at, "not a record batch");
        l->core->stats.rot++;
        cold_answer(k, KE_CORRUPT_MESSAGE);
        return;
    }
    if (w.size > 0) {
        cold_deliver(k, &w);
        return;
    }
    if (w.full || ++k->rounds > COLD_ROUNDS_MAX) {
        cold_answer(k, KE_NONE); /* nothing that may be seen, or that fits */
        return;
    }
    k->position += w.at;
    k->need = w.want;
    bool more = k->position < k->segment->written;
    if (more && w.want > k->segment->written - k->position) {
        cold_trace_corrupt(k, 0, "the last batch is cut");
        l->core->stats.rot++;
        cold_answer(k, KE_CORRUPT_MESSAGE);
    } else if (more) {
        if (!cold_read_block(k, MAX(w.want, MIN(k->r->max_bytes, READ_BLOCK_BYTES))))
            cold_answer(k, KE_KAFKA_STORAGE_ERROR);
    } else if (!cold_next(k)) {
        if (k->missing)
            cold_missing(k);
        else if (k->entered)
            cold_answer(k, KE_KAFKA_STORAGE_ERROR);
        else
            cold_past_segments(k, end);
    }
}

/* Those whose turn it is; who is not waited for any more needs none. */
static void cold_start_waiting(struct log_core *c)
{
    while (!list_empty(&c->cold_waiting)) {
        struct cold_read *k = container_of(list_first(&c->cold_waiting), struct cold_read, link);
        if (k->r != NULL && c->phase.now == PHASE_STOPPED)
            cold_answer(k, KE_KAFKA_STORAGE_ERROR);
        if (k->r != NULL && !cold_fits_flying(c, k->want))
            return;
        list_remove(&k->link);
        if (k->r != NULL)
            cold_fly(k);
        else
            cold_end(k);
    }
}

static void cold_done(struct op *op)
{
    struct cold_read *k = container_of(op, struct cold_read, rw.op);
    struct log_core *c = k->log->core;
    assert(c->cold_flying_bytes >= k->want);
    c->cold_flying_bytes -= k->want;
    if (k->r != NULL && c->phase.now == PHASE_STOPPED)
        cold_answer(k, KE_KAFKA_STORAGE_ERROR);
    if (k->r != NULL)
        cold_step(k, op->result < 0 ? op->result : cold_got(k, (uint32_t)op->result));
    if (k->r == NULL)
        cold_end(k);
    cold_start_waiting(c);
}

static bool read_disk(struct log *l, struct log_read *r)
{
    r->scarce = read_over(l->core, 1);
    if (r->scarce)
        return true;
    struct cold_read *k = mem_zalloc(l->core->mem, sizeof(*k));
    if (k == NULL) {
        r->error = KE_KAFKA_STORAGE_ERROR;
        return true;
    }
    k->log = l;
    k->r = r;
    r->cold = k;
    log_ref(l);
    l->core->cold_reads++;
    list_push_back(&l->reads, &r->link);
    if (cold_enter(k, segment_find(l, r->offset)))
        return false;
    if (k->missing) {
        cold_missing(k);
        cold_end(k);
        return false;
    }
    list_remove(&r->link);
    r->cold = NULL;
    if (k->entered)
        r->error = KE_KAFKA_STORAGE_ERROR;
    else /* a gap, and behind it only memory */
        read_memory(l, r, log_readable_end(l, r->isolation));
    cold_end(k);
    return true;
}

/* ---- both ------------------------------------------------------------------------------------ */

bool log_read(struct log *l, struct log_read *r)
{
    assert(r->done != NULL);
    r->log = l;
    r->cold = NULL;
    list_init(&r->link);
    r->error = KE_NONE;
    r->scarce = false;
    r->pieces_count = r->bytes = 0;
    r->next_offset = r->offset;
    r->high_watermark = l->high_watermark;
    r->last_stable_offset = log_last_stable_offset(l);
    r->start_offset = l->start_offset;
    if (l->state.now != LOG_OPEN) {
        r->error = KE_KAFKA_STORAGE_ERROR;
        return true;
    }
    SOMETIMES_IF(r->offset < l->start_offset, "a read below the log start is refused");
    if (r->offset < l->start_offset || r->offset > l->end_offset) {
        r->error = KE_OFFSET_OUT_OF_RANGE;
        return true;
    }
    int64_t end = log_readable_end(l, r->isolation);
    if (r->offset >= end)
        return true;
    if (l->tail.count > 0 &&
        (r->offset >= tail_at(&l->tail, 0)->base_offset || r->offset >= l->written_end)) {
        read_memory(l, r, end);
        return true;
    }
    return read_disk(l, r);
}

void log_read_release(struct log_core *c, struct log_read *r)
{
    assert(r->cold == NULL);
    for (uint32_t i = 0; i < r->pieces_count; i++) {
        assert(r->pieces[i].block->core == c);
        block_release(r->pieces[i].block);
    }
    r->pieces_count = r->bytes = 0;
}
