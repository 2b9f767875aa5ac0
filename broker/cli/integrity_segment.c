/* One segment and what stands beside it, in one pass over each file.
 *
 *   .log        batch by batch ──────┬──────────────┬────────────────┐
 *   .index      entry by entry: is there a batch at its position?    │
 *   .timeindex  entry by entry: is it the largest timestamp so far? ─┤
 *   .txnindex   entry by entry: is there such an abort marker? ──────┘
 *
 * All four ascend, so each is read through a small buffer as the batches pass by.
 *
 * A batch is whole when its checksum says so; what the checksum does not cover (base offset, leader
 * epoch) is held against its neighbours, the segment's name, and leader-epoch-checkpoint. An offset
 * index entry is right when a search that begins there misses nothing: there is a batch at its
 * position, all before end below its offset, and its own begins at or below it. (Kafka before 4
 * named the last offset of several batches there.) Fewer entries than there could be are no damage.
 *
 * Invariant: what is at or behind l->repaired is a note: a start writes it anew.
 *
 * Failure modes: bytes that are no batch end the walk of this segment. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/index.h"
#include "broker/log/txn_index.h"
#include "core/core.h"

#define ENTRIES_ROOM       4080u /* a multiple of each entry's size */
#define RECORD_BYTES_MAX   (64u << 20)
#define UNPACKED_BYTES_MAX (512u << 20)

_Static_assert(ENTRIES_ROOM % INDEX_ENTRY_SIZE == 0, "whole entries");
_Static_assert(ENTRIES_ROOM % TIME_ENTRY_SIZE == 0, "whole entries");
_Static_assert(ENTRIES_ROOM % TXN_INDEX_ENTRY_SIZE == 0, "whole entries");

struct integrity_txn {
    int64_t producer_id, first_offset;
};

struct entries { /* of one index file */
    char path[PATH_ROOM + 64];
    int fd; /* -1: there is none, or it was given up */
    uint32_t entry_size;
    uint64_t size, at; /* at: of the entry that comes next */
    uint8_t bytes[ENTRIES_ROOM];
    uint32_t used, here;        /* here: of the next one in bytes */
    int64_t before, before_too; /* of the entry before: they ascend */
};

struct walk {
    struct integrity_log *l;
    const struct integrity_segment *s;
    struct batches b;
    struct entries index, times, txns;
    int64_t max_timestamp, last_time;
    uint32_t batches;
    bool footer; /* of a snapshot: the last batch was one */
};

/* ---- telling --------------------------------------------------------------------------------- */

static bool is_repaired(const struct walk *w, int64_t offset)
{
    return offset >= w->l->repaired;
}

/* Wrong in the records at this position, where this offset is or should be. */
static void wrong_at(struct walk *w, uint64_t position, int64_t offset, const char *what)
{
    struct integrity *g = w->l->g;
    if (is_repaired(w, offset))
        integrity_note(g, w->s->path, (int64_t)position,
                       "offset %" PRId64 ": %s; the node was not stopped, and the next start "
                       "repairs or cuts what is from offset %" PRId64 " on",
                       offset, what, w->l->repaired);
    else
        integrity_damage(g, w->s->path, (int64_t)position,
                         w->l->kind == FOLDER_METADATA ? ADVICE_METADATA : ADVICE_RECORDS,
                         "offset %" PRId64 ": %s", offset, what);
}

static void wrong_entry(struct walk *w, struct entries *e, int64_t offset, const char *what)
{
    if (!is_repaired(w, offset))
        integrity_damage(w->l->g, e->path, (int64_t)e->at, ADVICE_DERIVED, "%s", what);
}

/* ---- indexes --------------------------------------------------------------------------------- */

static void entries_open(struct walk *w, struct entries *e, const char *suffix, uint32_t entry_size,
                         bool needed)
{
    struct integrity *g = w->l->g;
    struct io_stat stat = {0};
    int stem = (int)(strlen(w->s->path) - strlen(".log"));
    e->entry_size = entry_size;
    e->before = e->before_too = -1;
    (void)snprintf(e->path, sizeof(e->path), "%.*s%s", stem, w->s->path, suffix);
    e->fd = io_open(g->io, e->path, IO_READ);
    if (e->fd == -ENOENT && !needed)
        return;
    if (e->fd == -ENOENT && is_repaired(w, w->s->base))
        return;
    int error = e->fd < 0 ? e->fd : io_fstat(g->io, e->fd, &stat);
    e->size = stat.size;
    if (error != 0)
        integrity_damage(g, e->path, -1, ADVICE_DERIVED, "it cannot be read: %s", strerror(-error));
    else if (e->size % entry_size != 0)
        integrity_damage(g, e->path, (int64_t)(e->size - e->size % entry_size), ADVICE_DERIVED,
                         "its size is no number of entries of %u bytes", entry_size);
    g->files++;
    integrity_count(g, e->size);
}

static void entries_close(struct walk *w, struct entries *e)
{
    if (e->fd >= 0)
        io_close(w->l->g->io, e->fd);
    e->fd = -1;
}

/* The entry that comes next, or NULL. */
static const uint8_t *entries_peek(struct walk *w, struct entries *e)
{
    if (e->fd < 0 || e->at + e->entry_size > e->size)
        return NULL;
    if (e->here == e->used) {
        int64_t got = io_pread(w->l->g->io, e->fd, e->bytes, sizeof(e->bytes), e->at);
        e->here = 0;
        e->used = got < 0 ? 0 : (uint32_t)got - (uint32_t)got % e->entry_size;
        if (e->used == 0) {
            integrity_damage(w->l->g, e->path, (int64_t)e->at, ADVICE_DERIVED, "it cannot be read");
            entries_close(w, e);
            return NULL;
        }
    }
    return e->bytes + e->here;
}

static void entries_pass(struct entries *e)
{
    e->here += e->entry_size;
    e->at += e->entry_size;
}

static bool is_zero(const uint8_t *entry, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        if (entry[i] != 0)
            return false;
    return true;
}

/* The batch at this position has come: entries up to it are judged. */
static void check_index(struct walk *w, uint64_t position, const struct batch_header *h)
{
    struct entries *e = &w->index;
    const uint8_t *at;
    while ((at = entries_peek(w, e)) != NULL) {
        struct index_entry i = index_get(at, w->s->base);
        if (is_zero(at, e->entry_size) || i.position > position)
            return;
        if (i.position < position)
            wrong_entry(w, e, i.offset, "there is no batch at the position that the entry names");
        else if (i.offset < h->base_offset || (i.position <= e->before && e->at > 0))
            wrong_entry(w, e, i.offset, "the entry's offset is not that of the batch it points at");
        else if (i.offset <= e->before_too)
            wrong_entry(w, e, i.offset, "the offsets of the index do not ascend");
        e->before = i.position;
        e->before_too = i.offset;
        entries_pass(e);
    }
}

/* The batch is counted in max_timestamp already. */
static void check_times(struct walk *w, const struct batch_header *h)
{
    struct entries *e = &w->times;
    const uint8_t *at;
    while ((at = entries_peek(w, e)) != NULL) {
        struct time_entry t = time_get(at, w->s->base);
        if (is_zero(at, e->entry_size) || t.offset > batch_last_offset(h))
            return;
        if (t.timestamp <= e->before && e->at > 0)
            wrong_entry(w, e, t.offset, "the timestamps of the index do not ascend");
        else if (t.timestamp != w->max_timestamp)
            wrong_entry(w, e, t.offset,
                        "the entry's timestamp is not the largest up to its offset");
        e->before = t.timestamp;
        w->last_time = t.timestamp;
        entries_pass(e);
    }
}

/* What is behind the last entry that a batch has answered for. */
static void check_rest(struct walk *w, struct entries *e, int64_t end)
{
    const uint8_t *at;
    bool open = w->s->limit == INT64_MAX && !w->l->g->clean; /* Kafka makes room in advance */
    while ((at = entries_peek(w, e)) != NULL) {
        if (!is_zero(at, e->entry_size) || !open)
            wrong_entry(w, e, end, "the entry is about what the segment does not hold");
        entries_pass(e);
    }
    entries_close(w, e);
}

static void check_last_time(struct walk *w, int64_t end)
{
    bool closed = w->s->limit != INT64_MAX || w->l->g->clean;
    if (w->times.fd < 0 || !closed || w->max_timestamp < 0 || w->last_time == w->max_timestamp)
        return;
    wrong_entry(w, &w->times, end, "its last entry is not the largest timestamp of the segment");
}

/* ---- transactions ---------------------------------------------------------------------------- */

static struct integrity_txn *txn_find(struct integrity_log *l, int64_t producer_id)
{
    return map_get(&l->open, &producer_id, sizeof(producer_id));
}

static void txn_open(struct integrity_log *l, const struct batch_header *h)
{
    struct mem *mem = &l->g->c->mem;
    if (txn_find(l, h->producer_id) != NULL)
        return;
    struct integrity_txn *t = mem_alloc(mem, sizeof(*t));
    if (t == NULL)
        return;
    *t = (struct integrity_txn){h->producer_id, h->base_offset};
    if (map_put(&l->open, &t->producer_id, sizeof(t->producer_id), t) != 0)
        mem_free(mem, t, sizeof(*t));
}

void integrity_txns_free(struct integrity_log *l)
{
    uint32_t at = 0;
    struct integrity_txn *t;
    while ((t = map_next(&l->open, &at)) != NULL)
        mem_free(&l->g->c->mem, t, sizeof(*t));
    map_destroy(&l->open);
}

/* What was stable once this transaction was decided. */
static int64_t stable_behind(struct integrity_log *l, int64_t marker)
{
    uint32_t at = 0;
    int64_t stable = marker + 1;
    struct integrity_txn *t;
    while ((t = map_next(&l->open, &at)) != NULL)
        stable = MIN(stable, t->first_offset);
    return stable;
}

static void check_aborted(struct walk *w, const struct batch_header *h,
                          const struct integrity_txn *opened)
{
    struct entries *e = &w->txns;
    struct aborted_txn t;
    const uint8_t *at;
    while ((at = entries_peek(w, e)) != NULL) {
        bool readable = txn_index_get(at, &t);
        if (readable && t.last_offset > h->base_offset)
            break;
        bool here = readable && t.last_offset == h->base_offset;
        if (!readable)
            wrong_entry(w, e, h->base_offset, "the entry cannot be one");
        else if (!here || t.producer_id != h->producer_id)
            wrong_entry(w, e, h->base_offset, "the entry's transaction has no abort marker");
        else if (opened != NULL && !w->l->compacted && t.first_offset != opened->first_offset)
            wrong_entry(w, e, h->base_offset, "the entry's transaction began elsewhere");
        else if (opened != NULL && !w->l->compacted &&
                 t.stable_offset != stable_behind(w->l, h->base_offset))
            wrong_entry(w, e, h->base_offset, "the entry's last stable offset is wrong");
        entries_pass(e);
        if (here)
            return;
    }
    if (opened != NULL && !w->l->compacted)
        wrong_entry(w, e, h->base_offset, "an aborted transaction has no entry");
}

static void check_txn(struct walk *w, const uint8_t *batch, const struct batch_header *h)
{
    enum batch_control type;
    int32_t ignored;
    if (!batch_has(h, BATCH_TRANSACTIONAL) || w->l->kind == FOLDER_METADATA)
        return;
    if (!batch_has(h, BATCH_CONTROL)) {
        txn_open(w->l, h);
        return;
    }
    if (!batch_read_control(batch, h->size, &type, &ignored))
        return;
    struct integrity_txn *t = txn_find(w->l, h->producer_id);
    if (t != NULL)
        (void)map_remove(&w->l->open, &t->producer_id, sizeof(t->producer_id));
    if (type == BATCH_CONTROL_ABORT)
        check_aborted(w, h, t);
    mem_free(&w->l->g->c->mem, t, sizeof(*t));
}

/* ---- batches --------------------------------------------------------------------------------- */

static const char *records_wrong(struct walk *w, const uint8_t *batch, const struct batch_header *h)
{
    struct integrity *g = w->l->g;
    struct record_iter it;
    struct record r;
    struct arena arena;
    const char *wrong = NULL;
    if (!g->unpack && w->l->kind == FOLDER_RECORDS && !batch_has(h, BATCH_CONTROL))
        return NULL;
    if (record_open(&g->compress, batch, h, UNPACKED_BYTES_MAX, &it) != COMPRESS_OK)
        return "its records cannot be unpacked";
    arena_init(&arena, &g->c->mem, RECORD_BYTES_MAX);
    int32_t before = -1;
    while (wrong == NULL && record_next(&it, &r)) {
        if (r.offset_delta <= before || r.offset_delta > h->last_offset_delta)
            wrong = "the offsets of its records do not ascend";
        before = r.offset_delta;
        if (wrong == NULL)
            wrong = integrity_record(w->l, h, &r, &arena);
        arena_release(&arena);
    }
    return wrong != NULL ? wrong : it.malformed ? "its records cannot be read" : NULL;
}

/* What the checksum covers. */
static const char *batch_wrong(struct walk *w, const uint8_t *batch, const struct batch_header *h)
{
    bool kept_whole = !w->l->compacted;
    if (!batch_crc_matches(batch, h->size))
        return "the checksum of the batch does not match its bytes";
    if (batch_codec(h) >= CODECS_COUNT ||
        (w->l->kind == FOLDER_METADATA && batch_codec(h) != CODEC_NONE))
        return "the batch is packed by a codec that there is not";
    if (h->record_count < 0 || h->record_count > (int64_t)h->last_offset_delta + 1 ||
        (kept_whole && h->record_count != h->last_offset_delta + 1))
        return "the batch has another number of records than of offsets";
    return records_wrong(w, batch, h);
}

/* What it does not. */
static const char *place_wrong(struct walk *w, const struct batch_header *h)
{
    struct integrity_log *l = w->l;
    if (h->last_offset_delta < 0 || h->base_offset < w->s->base)
        return "the batch's offsets are below those of its segment";
    if (h->base_offset < l->next)
        return "the batch's offsets overlap those of the batch before";
    if (h->base_offset > l->next && !l->gaps)
        return "offsets are missing before this batch";
    if (batch_last_offset(h) >= w->s->limit || batch_last_offset(h) - w->s->base > INT32_MAX)
        return "the batch's offsets are above those of its segment";
    if (w->s->snapshot)
        return NULL;
    if (h->leader_epoch < l->epoch)
        return "the batch's leader epoch is lower than that of the batch before";
    int32_t known = integrity_epoch_at(&l->epochs, h->base_offset);
    if (known >= 0 && known != h->leader_epoch && !is_repaired(w, h->base_offset))
        return "the batch's leader epoch is not that of leader-epoch-checkpoint";
    return NULL;
}

/* A snapshot begins with its header and ends with its footer. */
static const char *frame_wrong(struct walk *w, const uint8_t *batch, const struct batch_header *h)
{
    enum batch_control type;
    int32_t ignored;
    bool control =
        batch_has(h, BATCH_CONTROL) && batch_read_control(batch, h->size, &type, &ignored);
    if (!w->s->snapshot)
        return NULL;
    if (w->footer)
        return "something follows the footer of the snapshot";
    if (w->batches == 0 && !(control && type == BATCH_CONTROL_SNAPSHOT_HEADER))
        return "the snapshot does not begin with its header";
    w->footer = control && type == BATCH_CONTROL_SNAPSHOT_FOOTER;
    return NULL;
}

static void check_batch(struct walk *w, const uint8_t *batch, const struct batch_header *h,
                        uint64_t position)
{
    struct integrity_log *l = w->l;
    int64_t expected = l->next;
    const char *wrong = place_wrong(w, h);
    if (wrong == NULL)
        wrong = batch_wrong(w, batch, h);
    if (wrong == NULL)
        wrong = frame_wrong(w, batch, h);
    if (wrong != NULL)
        wrong_at(w, position, expected, wrong);
    l->g->batches++;
    w->batches++;
    if (h->last_offset_delta < 0 || h->base_offset < expected || h->base_offset < w->s->base ||
        batch_last_offset(h) >= w->s->limit)
        return; /* its offsets say nothing */
    l->next = batch_last_offset(h) + 1;
    l->epoch = MAX(l->epoch, h->leader_epoch);
    if (w->s->snapshot || !batch_crc_matches(batch, h->size))
        return;
    w->max_timestamp = MAX(w->max_timestamp, h->max_timestamp);
    check_index(w, position, h);
    check_times(w, h);
    check_txn(w, batch, h);
}

static void walk_batches(struct walk *w)
{
    struct integrity *g = w->l->g;
    const uint8_t *batch;
    struct batch_header h;
    uint64_t position, told = 0;
    while (batches_next(&w->b, &batch, &h, &position)) {
        check_batch(w, batch, &h, position);
        integrity_count(g, batches_at(&w->b) - told);
        told = batches_at(&w->b);
    }
    if (batches_at(&w->b) < w->b.size) {
        char what[160];
        (void)snprintf(what, sizeof(what), "%" PRIu64 " bytes to the end of the file: %s",
                       w->b.size - batches_at(&w->b),
                       w->b.wrong != NULL ? w->b.wrong : "zeros that are no batch");
        wrong_at(w, batches_at(&w->b), w->l->next, what);
    }
    if (w->s->snapshot && !w->footer)
        integrity_damage(g, w->s->path, (int64_t)w->b.size, ADVICE_METADATA,
                         "the snapshot does not end with its footer");
}

void integrity_segment(struct integrity_log *l, const struct integrity_segment *s)
{
    struct integrity *g = l->g;
    struct walk *w = mem_zalloc(&g->c->mem, sizeof(*w));
    int error = w == NULL ? -ENOMEM : batches_open(&w->b, g->c, s->path);
    if (error != 0) {
        integrity_damage(g, s->path, -1, ADVICE_RECORDS, "it cannot be read: %s", strerror(-error));
        mem_free(&g->c->mem, w, sizeof(*w));
        return;
    }
    w->l = l;
    w->s = s;
    w->max_timestamp = w->last_time = NO_TIMESTAMP;
    w->index.fd = w->times.fd = w->txns.fd = -1;
    g->files++;
    if (!s->snapshot) {
        entries_open(w, &w->index, ".index", INDEX_ENTRY_SIZE, true);
        entries_open(w, &w->times, ".timeindex", TIME_ENTRY_SIZE, true);
        entries_open(w, &w->txns, TXN_INDEX_SUFFIX, TXN_INDEX_ENTRY_SIZE, false);
    }
    walk_batches(w);
    check_last_time(w, l->next);
    check_rest(w, &w->index, l->next);
    check_rest(w, &w->times, l->next);
    check_rest(w, &w->txns, l->next);
    batches_close(&w->b);
    mem_free(&g->c->mem, w, sizeof(*w));
}
