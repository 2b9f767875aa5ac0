/* The log cleaner: keeps of each key only the last record, in the logs whose cleanup.policy has
 * `compact`. One per core, one log at a time, the dirtiest first.
 *
 *   REST ─ a log is dirty ─▶ CLEAR ─▶ MAP ─▶ COPY ─▶ SYNC ─▶ SWAP ─┬─▶ REST
 *                            (table)         ▲  the next group          │
 *                                            └──────────────────────────┘
 *
 *   MAP      reads the dirty part: key ─▶ its last offset, till the table is full
 *   COPY     reads segments from the log's first to where MAP ended, writes what stays into one new
 *            segment per group; a group's segments fit in one of segment.bytes
 *   SYNC     the new segment's files
 *   SWAP     the steps of clean_files.c, with a sync after each; the one that changes the log waits
 *            till no flush uses it
 *
 * It never takes a core for longer than one piece: reads and writes are asynchronous, of
 * log.cleaner.io.buffer.size / 2 / cores each (or of one batch, if that is larger), and what was
 * read is worked off in one go. log.cleaner.io.max.bytes.per.second is kept by resting.
 *
 * Invariants
 *  1. Segments that are being cleaned are neither removed nor written: log->cleaning keeps
 *     retention off, and they end below what the flusher is at.
 *  2. Each batch's checksum is checked before it is looked into: damage is never given a new one.
 *  3. What the log is while a cleaning is under way is what it was before, up to each SWAP.
 *
 * Failure: what cannot be read makes the log uncleanable till the next start (Kafka: the same), and
 * nothing of it is changed. No memory or no space: tried again later. A write or sync that fails
 * fails the directory. */
#include "broker/log/cleaner.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "broker/log/clean_batch.h"
#include "broker/log/clean_files.h"
#include "broker/log/clean_txn.h"
#include "broker/log/dir.h"
#include "broker/log/flush.h"
#include "broker/log/index.h"
#include "broker/log/load.h"
#include "broker/log/offset_map.h"
#include "broker/log/retention.h"
#include "broker/log/segment.h"
#include "core/lab.h"
#include "proto/record.h"

#define GROUP_SEGMENTS_MAX 64u /* a swap renames so many segments' files in one turn */
#define PIECE_BYTES_MIN    (16u << 10)
#define PIECE_BYTES_MAX    (128u << 10) /* worked off in well under a millisecond */
#define CLEAR_SLOTS        (64u << 10)  /* of the table, in one turn */
#define MAP_SLOTS_MIN      64u
#define RATE_UNLIMITED     1e15
#define MEMORY_REST_NS     (5 * NS_PER_S)
#define FLUSH_REST_NS      (200 * NS_PER_MS)

enum clean_stage {
    CLEAN_REST,
    CLEAN_CLEAR,
    CLEAN_MAP,
    CLEAN_COPY,
    CLEAN_SYNC,
    CLEAN_SWAP,
    CLEAN_STAGES
};

static const char *const clean_stage_names[CLEAN_STAGES] = {"rest", "clear", "map",
                                                            "copy", "sync",  "swap"};

struct clean_sync {
    struct cleaner *cleaner;
    struct io_sync sync;
};

struct clean_place {   /* where reading is */
    uint32_t segment;  /* index */
    uint32_t position; /* in it */
};

struct cleaner {
    struct log_core *core;
    struct timer timer;
    struct stage stage;
    struct stage_table stages;
    /* choosing */
    uint32_t slots_left; /* of the table, still to be looked at in this round */
    struct log_key best; /* dirtiest so far */
    double best_ratio;   /* < 0: none */
    bool flushing;       /* others are being flushed first */
    /* one cleaning */
    struct log *log; /* NULL: none under way; referenced */
    bool io_armed, waits_for_flush;
    bool finished; /* all is done */
    bool fatal;    /* the error is the directory's, whatever it is */
    int error;
    struct clean_range range;
    int64_t from, end; /* end: what is below will be clean, when it is over */
    struct clean_place at;
    uint32_t group_first, group_end;
    uint8_t *piece; /* what was read at `at` */
    uint32_t piece_room, piece_size, piece_want;
    bool piece_ready, map_full;
    uint32_t syncs_pending;
    struct segment *used; /* that a read is under way from */
    struct offset_map map;
    struct clean_aborted_list aborted;
    struct clean_txn txn;
    struct clean_rules rules;
    struct clean_out out;
    struct clean_count count;
    struct cleaned cleaned;
    struct io_rw rw;
    struct iovec iov;
    struct clean_sync syncs[SEGMENT_FILES];
    uint64_t began_ns, moved_bytes, map_bytes;
    uint32_t segments_before, segments_after;
};

static void cleaner_run(struct cleaner *k);
static void cleaner_due(struct timer *t);

/* ---- life ------------------------------------------------------------------------------------ */

struct cleaner *cleaner_make(struct log_core *c)
{
    struct cleaner *k = mem_zalloc(c->mem, sizeof(*k));
    if (k == NULL)
        return NULL;
    k->core = c;
    k->stages = (struct stage_table){
        .name = "cleaner",
        .names = clean_stage_names,
        .stages_count = CLEAN_STAGES,
    };
    timer_init(&k->timer, cleaner_due);
    return k;
}

static void cleaner_rest(struct cleaner *k, uint64_t for_ns)
{
    assert(k->log == NULL);
    k->slots_left = k->core->table_room;
    k->best_ratio = -1;
    k->flushing = false;
    timer_arm(k->core->config.wheel, &k->timer, io_now_ns(k->core->io) + for_ns);
}

static uint64_t backoff_ns(const struct cleaner *k)
{
    uint64_t ms = (uint64_t)MAX(k->core->config.cleaner.backoff_ms, 1);
    return MIN(ms, UINT64_MAX / 4 / NS_PER_MS) * NS_PER_MS;
}

void cleaner_start(struct cleaner *k)
{
    assert(k->core->phase.now == PHASE_SERVING);
    stage_begin(&k->stage, &k->stages, CLEAN_REST);
    cleaner_rest(k, backoff_ns(k));
}

static bool cleaner_serving(const struct cleaner *k)
{
    return k->core->phase.now == PHASE_SERVING;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* All below the end is in segments and on the device; else that is asked for. */
static bool range_settled(struct log *l, const struct clean_range *r)
{
    uint32_t end = segment_find(l, r->end);
    bool settled = l->flush == NULL && !l->folder_new && end <= l->writing &&
                   l->segments[end]->created && l->synced_end >= r->end;
    for (uint32_t i = 0; i < end && settled; i++)
        settled = l->segments[i]->created && l->segments[i]->synced &&
                  l->segments[i]->written == l->segments[i]->size;
    if (!settled && l->flush == NULL) {
        l->want_sync = true;
        flush_soon(l);
    }
    return settled;
}

static bool cleaner_may(const struct log *l)
{
    return l->state.now == LOG_OPEN && l->dir->state.now != DIR_FAILED && !l->uncleanable &&
           (log_config(l)->cleanup_policy & CLEANUP_COMPACT) != 0;
}

/* A swap that is begun ends. */
static bool cleaner_must(const struct cleaner *k)
{
    return k->log->state.now == LOG_OPEN && k->core->phase.now != PHASE_STOPPED;
}

static void cleaner_look(struct cleaner *k, struct log *l)
{
    struct clean_range r;
    if (!cleaner_may(l))
        return;
    retention_of_log(l); /* deletion first */
    if (l->state.now != LOG_OPEN || !clean_range_find(l, &r) || r.ratio <= k->best_ratio)
        return;
    if (!range_settled(l, &r)) { /* nor does it keep others waiting */
        SOMETIMES("what is to be compacted is flushed first");
        k->flushing = true;
        return;
    }
    k->best = l->key;
    k->best_ratio = r.ratio;
}

static bool cleaner_begin(struct cleaner *k, struct log *l);

/* A bounded number of logs; then the best of all is cleaned. */
static void cleaner_choose(struct cleaner *k)
{
    struct log_core *c = k->core;
    for (uint32_t i = 0; i < LOGS_PER_TICK && k->slots_left > 0; i++) {
        k->slots_left--;
        struct log *l = k->slots_left < c->table_room ? c->table[k->slots_left] : NULL;
        if (l != NULL)
            cleaner_look(k, l);
    }
    if (k->slots_left > 0) {
        timer_arm(c->config.wheel, &k->timer, io_now_ns(c->io));
        return;
    }
    struct log *l = k->best_ratio < 0 ? NULL : log_find(c, k->best.topic_id, k->best.partition);
    bool begun = l != NULL && cleaner_may(l) && clean_range_find(l, &k->range) &&
                 range_settled(l, &k->range) && cleaner_begin(k, l);
    SOMETIMES_IF(begun, "a compaction begins");
    if (begun)
        cleaner_run(k);
    else
        cleaner_rest(k, k->flushing ? MIN(backoff_ns(k), FLUSH_REST_NS) : backoff_ns(k));
}

/* ---- begin and end --------------------------------------------------------------------------- */

/* As many slots as the range may have records, or as many as this core may have. */
static bool cleaner_make_map(struct cleaner *k)
{
    const struct log_cleaner_config *config = &k->core->config.cleaner;
    uint64_t most = MAX(config->dedupe_bytes / OFFSET_SLOT_BYTES, (uint64_t)MAP_SLOTS_MIN);
    double load =
        config->load_factor > 0.05 && config->load_factor <= 1 ? config->load_factor : 0.9;
    uint64_t records = (uint64_t)(k->range.end - k->range.first_dirty);
    uint64_t slots = MIN((uint64_t)((double)records / load) + MAP_SLOTS_MIN, MIN(most, UINT32_MAX));
    uint64_t secret[2] = {io_random(k->core->io), io_random(k->core->io)};
    for (; slots >= MAP_SLOTS_MIN; slots /= 2) /* what the budget leaves */
        if (offset_map_init(&k->map, k->core->mem, (uint32_t)slots, load, secret))
            return true;
    return false;
}

static bool cleaner_make_piece(struct cleaner *k)
{
    const struct log_core_config *config = &k->core->config;
    uint64_t bytes = config->cleaner.io_bytes / 2;
    k->piece_room = (uint32_t)MIN(MAX(bytes, PIECE_BYTES_MIN), PIECE_BYTES_MAX);
    k->piece = mem_alloc(k->core->mem, k->piece_room);
    return k->piece != NULL;
}

static void cleaner_drop(struct cleaner *k, bool remove)
{
    struct mem *mem = k->core->mem;
    clean_txn_end(&k->txn);
    if (k->cleaned.segment != NULL)
        SOMETIMES("a compaction is given up");
    clean_aborted_free(&k->aborted);
    clean_rules_free(&k->rules);
    clean_out_free(&k->out);
    offset_map_free(&k->map);
    mem_free(mem, k->piece, k->piece_room);
    k->piece = NULL;
    cleaned_drop(&k->cleaned, remove);
}

static bool cleaner_begin(struct cleaner *k, struct log *l)
{
    struct log_core *c = k->core;
    assert(k->log == NULL && !k->io_armed);
    k->aborted = (struct clean_aborted_list){.mem = c->mem};
    k->out = (struct clean_out){.mem = c->mem};
    k->count = (struct clean_count){0};
    k->rules = (struct clean_rules){
        .mem = c->mem,
        .log = l,
        .compress = c->config.compress,
        .map = &k->map,
        .txn = &k->txn,
        .now_ms = io_wall_ms(c->io),
        .delete_retention_ms = log_config(l)->delete_retention_ms,
        .end = k->range.end,
    };
    k->from = k->range.first_dirty;
    k->at = (struct clean_place){segment_find(l, k->from), 0};
    k->error = 0;
    k->finished = k->waits_for_flush = k->fatal = false;
    k->piece_ready = k->map_full = false;
    k->piece_want = 0;
    k->moved_bytes = k->map_bytes = 0;
    k->segments_after = 0;
    k->began_ns = io_now_ns(c->io);
    bool ready =
        clean_aborted_read(&k->aborted, l) == 0 && cleaner_make_map(k) && cleaner_make_piece(k);
    clean_txn_begin(&k->txn, &k->aborted);
    if (!ready) {
        cleaner_drop(k, true);
        return false;
    }
    k->log = l;
    l->cleaning = true;
    log_ref(l);
    stage_move(&k->stage, CLEAN_CLEAR);
    return true;
}

static void cleaner_report(const struct cleaner *k)
{
    const struct log *l = k->log;
    const struct clean_count *n = &k->count;
    trace_line(k->core->trace, TRACE_LOG, TRACE_INFO,
               "%s/%s: cleaned offsets %" PRId64 " to %" PRId64 ": %" PRIu64 " bytes in %" PRIu32
               " segments became %" PRIu64 " in %" PRIu32 ", %" PRIu64 " records became %" PRIu64
               "; %" PRIu32 " keys, the table %.1f%% full, %" PRIu64 " ms",
               l->dir->path, l->folder, k->from, k->end - 1, n->bytes_read, k->segments_before,
               n->bytes_kept, k->segments_after, n->records_read, n->records_kept, k->map.used,
               100.0 * k->map.used / k->map.slots_count,
               (uint64_t)((io_now_ns(k->core->io) - k->began_ns) / NS_PER_MS));
    if (n->keyless > 0)
        trace_line(k->core->trace, TRACE_LOG, TRACE_WARN,
                   "%s/%s: %" PRIu64 " records had no key, and were dropped", l->dir->path,
                   l->folder, n->keyless);
}

static void cleaner_judge_error(struct cleaner *k)
{
    struct log *l = k->log;
    SOMETIMES_IF(k->error == -ECANCELED, "a compaction is stopped");
    if (k->error == 0 || l->state.now != LOG_OPEN || k->error == -ECANCELED)
        return;
    if (k->fatal) {
        dir_fail(l->dir, k->error, "replacing compacted segments");
    } else if (k->error == -ENOSPC || k->error == -EDQUOT) {
        dir_full(l->dir);
    } else if (k->error == -EILSEQ || k->error == -EFBIG) {
        l->uncleanable = true;
        k->core->stats.uncleanable++;
        trace_line(k->core->trace, TRACE_LOG, TRACE_ERROR,
                   "%s/%s cannot be cleaned: a batch in it is damaged, of an old format, or larger "
                   "than can be worked on; nothing was changed",
                   l->dir->path, l->folder);
    } else if (!log_error_passes(k->error)) {
        dir_fail(l->dir, k->error, "cleaning a log");
    }
}

/* The present cleaning is over, done or not. */
static void cleaner_end(struct cleaner *k)
{
    struct log *l = k->log;
    struct log_core *c = k->core;
    assert(!k->io_armed && l->cleaning);
    bool done = k->error == 0;
    if (done && l->state.now == LOG_OPEN) {
        l->cleaned_end = k->end;
        c->stats.cleanings++;
        c->stats.cleaned_bytes_before += k->count.bytes_read;
        c->stats.cleaned_bytes_after += k->count.bytes_kept;
        cleaner_report(k);
    }
    cleaner_judge_error(k);
    /* Of a folder that is not ours any more, or of a kill, the files stay: a start removes them. */
    cleaner_drop(k, l->state.now == LOG_OPEN && c->phase.now != PHASE_STOPPED);
    l->cleaning = false;
    k->log = NULL;
    log_unref(l);
    stage_move(&k->stage, CLEAN_REST);
    if (cleaner_serving(k))
        cleaner_rest(k, done ? 0 : MAX(backoff_ns(k), MEMORY_REST_NS));
}

/* ---- reading --------------------------------------------------------------------------------- */

static void cleaner_rw_done(struct op *op)
{
    struct cleaner *k = container_of(op, struct cleaner, rw.op);
    k->io_armed = false;
    if (k->used != NULL)
        segment_unuse(k->log, k->used);
    if (op->result < 0)
        k->error = op->result;
    else if (k->used != NULL) {
        k->piece_size = (uint32_t)op->result;
        k->piece_ready = true;
    } else if ((uint32_t)op->result != k->out.size) {
        k->error = -EIO;
    } else {
        k->cleaned.segment->size = k->cleaned.segment->written += k->out.size;
        k->out.size = 0;
    }
    k->used = NULL;
    cleaner_run(k);
}

static int cleaner_read(struct cleaner *k)
{
    struct log *l = k->log;
    struct segment *s = l->segments[k->at.segment];
    assert(k->at.position < s->written);
    uint32_t left = s->written - k->at.position;
    uint32_t want = MIN(MAX(k->piece_want, k->piece_room), left);
    if (k->piece_want > left)
        return -EILSEQ;
    if (want > k->piece_room) {
        uint8_t *grown = mem_realloc(k->core->mem, k->piece, k->piece_room, want);
        if (grown == NULL)
            return -ENOMEM;
        k->piece = grown;
        k->piece_room = want;
    }
    segment_use(s);
    int fd = segment_fd(l, s, FILE_LOG);
    if (fd < 0) {
        segment_unuse(l, s);
        return fd;
    }
    k->used = s;
    k->iov = (struct iovec){k->piece, want};
    k->rw = (struct io_rw){.fd = fd, .iov = &k->iov, .iov_count = 1, .offset = k->at.position};
    op_init(&k->rw.op, cleaner_rw_done);
    k->io_armed = true;
    k->moved_bytes += want;
    io_read(k->core->io, &k->rw);
    return 1;
}

static int cleaner_write(struct cleaner *k)
{
    struct segment *s = k->cleaned.segment;
    assert(k->used == NULL && k->out.size > 0);
    if ((uint64_t)s->written + k->out.size > INT32_MAX)
        return -EFBIG;
    k->iov = (struct iovec){k->out.data, k->out.size};
    k->rw = (struct io_rw){.fd = cleaned_fd(&k->cleaned, FILE_LOG),
                           .iov = &k->iov,
                           .iov_count = 1,
                           .offset = s->written};
    op_init(&k->rw.op, cleaner_rw_done);
    k->io_armed = true;
    k->moved_bytes += k->out.size;
    io_write(k->core->io, &k->rw);
    return 1;
}

/* Rests when it has moved more than it may. True: it does. */
static bool cleaner_throttle(struct cleaner *k)
{
    double rate = k->core->config.cleaner.bytes_per_second;
    if (rate <= 0 || rate > RATE_UNLIMITED)
        return false;
    uint64_t now_ns = io_now_ns(k->core->io);
    uint64_t due_ns = k->began_ns + (uint64_t)((double)k->moved_bytes / rate * (double)NS_PER_S);
    if (due_ns <= now_ns)
        return false;
    timer_arm(k->core->config.wheel, &k->timer, due_ns);
    return true;
}

/* ---- what is done with batches --------------------------------------------------------------- */

#define MAP_FULL 1 /* beside 0 and -errno */

static int map_records(struct cleaner *k, const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record r;
    enum compress_result opened =
        record_open(k->core->config.compress, batch, h, BATCH_UNPACKED_BYTES_DEFAULT, &it);
    if (opened != COMPRESS_OK)
        return opened == COMPRESS_NO_MEMORY ? -ENOMEM : -EILSEQ;
    while (record_next(&it, &r)) {
        int64_t offset = h->base_offset + r.offset_delta;
        if (r.key.data != NULL && offset >= k->from &&
            !offset_map_put(&k->map, r.key.data, r.key.size, offset))
            return MAP_FULL;
    }
    return it.malformed ? -EILSEQ : 0;
}

static int map_batch(struct cleaner *k, const uint8_t *batch, const struct batch_header *h)
{
    struct aborted_txn unused;
    int result = 0;
    SOMETIMES_IF(batch_has(h, BATCH_CONTROL), "a marker is compacted");
    if (batch_has(h, BATCH_CONTROL))
        (void)clean_txn_control(&k->txn, h, batch, &unused);
    else if (!clean_txn_data(&k->txn, h) && batch_last_offset(h) >= k->from)
        result = map_records(k, batch, h);
    if (k->txn.no_memory)
        return -ENOMEM;
    if (result == 0 && batch_last_offset(h) >= k->from)
        offset_map_reached(&k->map, batch_last_offset(h));
    return result;
}

static int copy_batch(struct cleaner *k, const uint8_t *batch, const struct batch_header *h)
{
    struct batch_header kept;
    struct aborted_txn aborted;
    uint32_t position = k->cleaned.segment->written + k->out.size;
    int error = clean_batch(&k->rules, batch, h, &k->out, &kept, &aborted, &k->count);
    if (error == 0 && kept.size > 0)
        error = cleaned_add(&k->cleaned, position, &kept);
    if (error == 0 && aborted.first_offset >= 0)
        error = cleaned_add_aborted(&k->cleaned, &aborted);
    return error;
}

/* Works off what was read. 0 or -errno. */
static int cleaner_work(struct cleaner *k)
{
    uint32_t at = 0;
    int result = 0;
    bool whole = true;
    k->piece_ready = false;
    k->piece_want = 0;
    while (at < k->piece_size && whole && result == 0) {
        struct batch_header h;
        const uint8_t *batch = k->piece + at;
        enum batch_peek peek = batch_peek(batch, k->piece_size - at, &h);
        whole = peek != BATCH_PARTIAL;
        if (!whole)
            k->piece_want = at == 0 ? MAX(h.size, k->piece_size + 1) : 0;
        else if (peek != BATCH_WHOLE || h.last_offset_delta < 0 ||
                 !batch_crc_matches(batch, h.size))
            result = -EILSEQ;
        else
            result = k->stage.now == CLEAN_MAP ? map_batch(k, batch, &h) : copy_batch(k, batch, &h);
        if (whole && result == 0)
            at += h.size;
    }
    k->at.position += at;
    if (k->stage.now == CLEAN_MAP)
        k->map_bytes += at;
    k->map_full |= result == MAP_FULL;
    return MIN(result, 0);
}

/* ---- from stage to stage --------------------------------------------------------------------- */

/* The next segments that fit in one. */
static int group_begin(struct cleaner *k)
{
    struct log *l = k->log;
    const struct topic_config *t = log_config(l);
    uint64_t bytes = 0, entries = 0, times = 0;
    uint32_t i = k->group_first;
    for (; l->segments[i]->base < k->end && i - k->group_first < GROUP_SEGMENTS_MAX; i++) {
        struct segment *s = l->segments[i];
        int error = segment_load(l, s);
        if (error != 0)
            return error;
        bytes += s->size;
        entries += s->behind.entries;
        times += s->behind.times;
        bool fits = bytes <= (uint64_t)t->segment_bytes &&
                    entries * INDEX_ENTRY_SIZE <= (uint64_t)t->segment_index_bytes &&
                    times * TIME_ENTRY_SIZE <= (uint64_t)t->segment_index_bytes &&
                    l->segments[i + 1]->base - 1 - l->segments[k->group_first]->base <= INT32_MAX;
        if (i > k->group_first && !fits)
            break;
    }
    k->group_end = i;
    assert(k->group_end > k->group_first);
    k->at = (struct clean_place){k->group_first, 0};
    return cleaned_begin(&k->cleaned, l, l->segments[k->group_first]->base);
}

/* The table is made: from the first segment on. */
static int map_end(struct cleaner *k)
{
    if (!k->map_full)
        offset_map_reached(&k->map, k->range.end - 1);
    if (k->map.latest < k->from)
        return -EFBIG; /* not even one batch has room */
    k->end = k->map.latest + 1;
    clean_txn_end(&k->txn);
    clean_txn_begin(&k->txn, &k->aborted);
    k->group_first = 0;
    k->segments_before = segment_find(k->log, k->end - 1) + 1;
    stage_move(&k->stage, CLEAN_COPY);
    return group_begin(k);
}

static void cleaner_synced(struct op *op)
{
    struct clean_sync *s = container_of(op, struct clean_sync, sync.op);
    struct cleaner *k = s->cleaner;
    assert(k->syncs_pending > 0);
    if (op->result < 0) {
        k->error = op->result;
        k->fatal |= s->sync.directory; /* no other sync would bring these names there */
    }
    if (--k->syncs_pending > 0)
        return;
    k->io_armed = false;
    if (k->error == 0 && k->stage.now == CLEAN_SYNC)
        stage_move(&k->stage, CLEAN_SWAP);
    cleaner_run(k);
}

static int group_end(struct cleaner *k)
{
    int error = cleaned_complete(&k->cleaned);
    if (error != 0)
        return error;
    stage_move(&k->stage, CLEAN_SYNC);
    k->syncs_pending = SEGMENT_FILES;
    k->io_armed = true;
    for (uint32_t which = 0; which < SEGMENT_FILES; which++) {
        struct clean_sync *s = &k->syncs[which];
        *s = (struct clean_sync){.cleaner = k, .sync.fd = cleaned_fd(&k->cleaned, which)};
        op_init(&s->sync.op, cleaner_synced);
        io_sync(k->core->io, &s->sync);
    }
    return 1;
}

static int group_swapped(struct cleaner *k)
{
    const struct log *l = k->log;
    SOMETIMES_IF(k->group_end - k->group_first > 1, "several segments become one");
    k->group_first++;
    k->segments_after++;
    k->finished = l->segments[k->group_first]->base >= k->end;
    if (k->finished)
        return -1;
    stage_move(&k->stage, CLEAN_COPY);
    return group_begin(k);
}

/* One step of the swap; that into the log waits till the flush under way has ended. */
static int group_swap(struct cleaner *k)
{
    struct log *l = k->log;
    struct clean_sync *s = &k->syncs[0];
    k->waits_for_flush = l->flush != NULL && k->cleaned.step == SWAP_REPLACE;
    if (k->waits_for_flush) {
        SOMETIMES("a compacted segment waits for a flush");
        return 1;
    }
    *s = (struct clean_sync){.cleaner = k};
    int result = cleaned_swap(&k->cleaned, k->group_first, k->group_end - k->group_first, &s->sync);
    k->fatal |= result < 0 && cleaned_is_begun(&k->cleaned);
    if (result <= 0)
        return result < 0 ? result : k->cleaned.segment != NULL ? 0 : group_swapped(k);
    k->syncs_pending = 1;
    k->io_armed = true;
    op_init(&s->sync.op, cleaner_synced);
    io_sync(k->core->io, &s->sync);
    return 1;
}

/* Behind the last segment of what the present stage reads? */
static bool reading_over(struct cleaner *k)
{
    const struct log *l = k->log;
    uint32_t end = k->stage.now == CLEAN_COPY ? k->group_end : segment_find(l, k->range.end);
    while (k->at.segment < end && k->at.position >= l->segments[k->at.segment]->written) {
        k->at.segment++;
        k->at.position = 0;
    }
    return k->at.segment >= end || (k->stage.now == CLEAN_MAP && k->map_full);
}

static int cleaner_read_on(struct cleaner *k)
{
    if (k->piece_ready)
        return cleaner_work(k);
    if (k->stage.now == CLEAN_COPY && k->out.size > 0)
        return cleaner_write(k);
    if (reading_over(k))
        return k->stage.now == CLEAN_MAP ? map_end(k) : group_end(k);
    return cleaner_throttle(k) ? 1 : cleaner_read(k);
}

/* 0: go on; 1: armed; < 0: over. */
static int cleaner_advance(struct cleaner *k)
{
    switch ((enum clean_stage)k->stage.now) {
    case CLEAN_CLEAR:
        if (!offset_map_clear(&k->map, CLEAR_SLOTS)) {
            timer_arm(k->core->config.wheel, &k->timer, io_now_ns(k->core->io));
            return 1;
        }
        stage_move(&k->stage, CLEAN_MAP);
        return 0;
    case CLEAN_MAP:
    case CLEAN_COPY:
        return cleaner_read_on(k);
    case CLEAN_SWAP:
        return group_swap(k);
    case CLEAN_SYNC: /* cleaner_synced moves on */
    case CLEAN_REST:
    case CLEAN_STAGES:
        break;
    }
    assert(false);
    return -1;
}

static void cleaner_run(struct cleaner *k)
{
    int next = 0;
    assert(k->log != NULL && !k->io_armed);
    while (next == 0) {
        bool wanted = cleaned_is_begun(&k->cleaned) ? cleaner_must(k)
                                                    : cleaner_serving(k) && cleaner_may(k->log);
        next = k->error != 0 ? k->error : wanted ? cleaner_advance(k) : -ECANCELED;
    }
    if (next > 0)
        return;
    k->error = k->finished ? 0 : next;
    cleaner_end(k);
}

/* ---- from outside ---------------------------------------------------------------------------- */

static void cleaner_due(struct timer *t)
{
    struct cleaner *k = container_of(t, struct cleaner, timer);
    if (k->log != NULL)
        cleaner_run(k);
    else if (cleaner_serving(k))
        cleaner_choose(k);
}

void cleaner_turn(struct cleaner *k)
{
    if (k->log == NULL || !k->waits_for_flush || k->log->flush != NULL)
        return;
    k->waits_for_flush = false;
    cleaner_run(k);
}

bool cleaner_stop(struct cleaner *k)
{
    assert(!cleaner_serving(k));
    timer_cancel(k->core->config.wheel, &k->timer);
    if (k->log != NULL && !k->io_armed)
        cleaner_run(k); /* sees that it is not wanted */
    return k->log == NULL;
}

bool cleaner_busy(const struct cleaner *k)
{
    return k->io_armed;
}

void cleaner_free(struct cleaner *k)
{
    struct log_core *c = k->core;
    assert(!k->io_armed);
    timer_cancel(c->config.wheel, &k->timer);
    if (k->log != NULL) { /* abandoned while it rested */
        k->error = -ECANCELED;
        cleaner_end(k);
    }
    mem_free(c->mem, k, sizeof(*k));
}
