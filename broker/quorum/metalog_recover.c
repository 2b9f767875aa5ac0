/* What a metadata log does at start: find out what is really there.
 *
 *   list folder -> remove .part, .deleted
 *        |
 *        v
 *   newest snapshot whose every byte checks --(none at all: start of the log)
 *        |  its batches go to the reader
 *        v
 *   segments, oldest first, every batch checked --> batches from the snapshot on go to the reader
 *        |
 *        +- bad bytes in the last segment, nothing of a later epoch behind them: a write that was
 *        |  under way when the machine stopped. Never acknowledged, so it is cut off. The first
 * write |  of an epoch may be torn as well, and leave later batches of it whole: an epoch counts
 * only |  when leader-epoch-checkpoint has it, which is written when that first write is durable.
 *        |  None of it either when durable-end.torc says that more was durable.
 *        +- bad bytes anywhere else: what was durable has rotted. Refused: starting on half of the
 *           metadata would make every topic behind the hole disappear.
 *
 * Invariants
 *  1. The reader gets a snapshot only after all of it has been checked, header to footer.
 *  2. Offsets given to the reader have no gap, and epochs never go down.
 *  3. What is cut off is only what no later start of a leader (a higher epoch) has built upon.
 *
 * Failure modes: no snapshot for a log that does not begin at 0; a rotten segment; offsets that
 * jump. All are refused with the file and the position. A rotten newest snapshot is passed over for
 * an older one as long as the log reaches back to it. */
#include "broker/quorum/metalog_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/lab.h"
#include "proto/record.h"

#define BATCH_FILE_BUFFER   (1u << 20)
#define LATER_SEARCH_BYTES  (64u << 20) /* how far behind a bad place we look */
#define APPEND_MAX          (8u << 20)  /* one append; Kafka's leaders write at most so much too */
#define KEEP_PIECE          (64u << 10)
#define EPOCHS_FILE_MAX     (16u << 20)
#define NAME_SNAPSHOT_SIZE  31 /* %020d-%010d */
#define NAME_SEGMENT_DIGITS 20

/* ---- reading a file of batches ----------------------------------------------------------------
 */

void batch_file_init(struct batch_file *f, struct io *io, struct mem *mem, int fd, uint64_t size)
{
    assert(fd >= 0);
    *f = (struct batch_file){.io = io, .mem = mem, .fd = fd, .size = size};
}

void batch_file_done(struct batch_file *f)
{
    mem_free(f->mem, f->buffer, f->buffer_size);
    f->buffer = NULL;
    f->buffer_size = 0;
}

/* Makes the bytes [position, position + wanted) be in the buffer, or as many as the file has. */
static int batch_file_fill(struct batch_file *f, uint64_t wanted, const uint8_t **at,
                           uint64_t *available)
{
    assert(f->position <= f->size);
    uint64_t left = f->size - f->position;
    uint64_t need = MIN(wanted, left);
    uint64_t skip = f->position - f->buffer_from;
    if (f->buffer == NULL || need > f->buffer_size) {
        uint64_t size = MAX((uint64_t)BATCH_FILE_BUFFER, need);
        uint8_t *bigger = mem_alloc(f->mem, size);
        if (bigger == NULL)
            return -ENOMEM;
        mem_free(f->mem, f->buffer, f->buffer_size);
        f->buffer = bigger;
        f->buffer_size = size;
        f->buffer_filled = 0;
    }
    if (skip + need > f->buffer_filled || f->buffer_filled == 0) {
        f->buffer_from = f->position;
        f->buffer_filled = 0;
        skip = 0;
        uint64_t read_size = MIN(f->buffer_size, left);
        int64_t n = read_size == 0 ? 0 : io_pread(f->io, f->fd, f->buffer, read_size, f->position);
        if (n < 0)
            return (int)n;
        f->buffer_filled = (uint64_t)n;
    }
    *at = f->buffer + skip;
    *available = MIN(f->buffer_filled - skip, left);
    return 0;
}

int batch_file_next(struct batch_file *f, const uint8_t **batch, struct batch_header *header)
{
    if (f->position == f->size)
        return 0;
    const uint8_t *at;
    uint64_t available;
    int result = batch_file_fill(f, BATCH_PEEK_SIZE, &at, &available);
    assert(result <= 0);
    if (result != 0)
        return result;
    enum batch_peek peek = batch_peek(at, available, header);
    if (peek == BATCH_PARTIAL && header->size != 0 && header->size <= METALOG_BATCH_MAX) {
        result = batch_file_fill(f, header->size, &at, &available);
        assert(result <= 0);
        if (result != 0)
            return result;
        peek = batch_peek(at, available, header);
    }
    if (peek != BATCH_WHOLE || !batch_crc_matches(at, header->size))
        return -EBADMSG;
    if (batch_codec(header) != CODEC_NONE || header->record_count <= 0 ||
        header->last_offset_delta != header->record_count - 1)
        return -EBADMSG;
    *batch = at;
    f->position += header->size;
    assert(f->position <= f->size);
    return 1;
}

int batch_file_find_later(struct batch_file *f, int32_t epoch, int32_t noted, bool *found)
{
    *found = false;
    uint64_t from = f->position;
    const uint8_t *at;
    uint64_t available;
    int result = batch_file_fill(f, LATER_SEARCH_BYTES, &at, &available);
    if (result != 0)
        return result;
    for (uint64_t i = 1; i + BATCH_HEADER_SIZE <= available && !*found; i++) {
        struct batch_header h;
        if (at[i + BATCH_PEEK_SIZE - 1] != 2)
            continue;
        if (batch_peek(at + i, available - i, &h) != BATCH_WHOLE || h.leader_epoch <= epoch ||
            h.leader_epoch > noted)
            continue;
        *found = batch_crc_matches(at + i, h.size);
    }
    assert(f->position == from);
    return 0;
}

/* ---- what is in the folder --------------------------------------------------------------------
 */

struct listing {
    struct metalog *m;
    int64_t *bases; /* of segments */
    uint32_t bases_count, bases_size;
    int result;
};

static bool digits(const char *text, uint32_t count, int64_t *value)
{
    *value = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9' || *value > (INT64_MAX - 9) / 10)
            return false;
        *value = *value * 10 + (text[i] - '0');
    }
    return true;
}

static bool snapshot_name(const char *name, struct snapshot_id *id)
{
    int64_t epoch;
    if (strlen(name) < NAME_SNAPSHOT_SIZE || name[20] != '-')
        return false;
    if (!digits(name, 20, &id->offset) || !digits(name + 21, 10, &epoch) || epoch > INT32_MAX)
        return false;
    id->epoch = (int32_t)epoch;
    return true;
}

static bool listing_visit(void *context, const char *name, bool is_directory)
{
    struct listing *l = context;
    struct metalog *m = l->m;
    struct snapshot_id id;
    int64_t base;
    if (is_directory || l->result != 0)
        return l->result == 0;
    size_t size = strlen(name);
    if (size == NAME_SEGMENT_DIGITS + 4 && strcmp(name + NAME_SEGMENT_DIGITS, ".log") == 0 &&
        digits(name, NAME_SEGMENT_DIGITS, &base)) {
        l->result = metalog_grow(m, &l->bases, l->bases_count, &l->bases_size, sizeof(int64_t),
                                 METALOG_SEGMENTS_MAX);
        if (l->result == 0)
            l->bases[l->bases_count++] = base;
    } else if (snapshot_name(name, &id) && strcmp(name + NAME_SNAPSHOT_SIZE, ".checkpoint") == 0) {
        l->result = metalog_grow(m, &m->snapshots, m->snapshots_count, &m->snapshots_size,
                                 sizeof(*m->snapshots), METALOG_SNAPSHOTS_MAX);
        if (l->result == 0)
            m->snapshots[m->snapshots_count++] = (struct metalog_snapshot_file){.id = id};
    }
    return l->result == 0;
}

/* A leftover of a snapshot under way, or one about to be removed; its name ends so. */
static bool leftover_visit(void *context, const char *name, bool is_directory)
{
    char *found = context; /* METALOG_NAME_MAX */
    size_t size = strlen(name);
    struct snapshot_id id;
    if (is_directory || !strstr(name, ".checkpoint"))
        return true;
    bool part = size > 5 && strcmp(name + size - 5, ".part") == 0;
    bool deleted = snapshot_name(name, &id) && size > 8 && strcmp(name + size - 8, ".deleted") == 0;
    if ((!part && !deleted) || size >= METALOG_NAME_MAX)
        return true;
    memcpy(found, name, size + 1);
    return false;
}

static int leftovers_remove(struct metalog *m)
{
    /* One at a time, because a listing is no place to remove from. */
    for (uint32_t i = 0; i < METALOG_SNAPSHOTS_MAX; i++) {
        char name[METALOG_NAME_MAX] = "", path[METALOG_PATH_MAX];
        int result = io_list(m->options.io, m->folder, leftover_visit, name);
        if (result != 0 || name[0] == '\0')
            return result;
        SOMETIMES("a metadata snapshot was not complete");
        metalog_path(m, name, path);
        result = io_unlink(m->options.io, path);
        if (result != 0)
            return result;
    }
    return -EBUSY;
}

static int compare_bases(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int compare_snapshots(const void *a, const void *b)
{
    const struct metalog_snapshot_file *x = a, *y = b;
    if (x->id.offset != y->id.offset)
        return x->id.offset < y->id.offset ? -1 : 1;
    return x->id.epoch < y->id.epoch ? -1 : x->id.epoch > y->id.epoch;
}

/* ---- snapshots --------------------------------------------------------------------------------
 */

/* The header record carries when the last record below the snapshot was appended. */
static int64_t snapshot_header_timestamp(const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record r;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    if (!record_next(&it, &r) || r.value.data == NULL || r.value.size < 10)
        return h->max_timestamp;
    uint64_t value = 0;
    for (int i = 2; i < 10; i++) /* behind the version, i16 */
        value = value << 8 | r.value.data[i];
    return (int64_t)value;
}

/* Checks (reader NULL) or gives away a snapshot. */
static int snapshot_pass(struct metalog *m, struct metalog_snapshot_file *s,
                         const struct metalog_reader *reader)
{
    char path[METALOG_PATH_MAX];
    metalog_snapshot_path(m, s->id, ".checkpoint", path);
    struct io_stat stat;
    int fd = io_open(m->options.io, path, IO_READ);
    if (fd < 0)
        return fd;
    int result = io_fstat(m->options.io, fd, &stat);
    if (result != 0) {
        io_close(m->options.io, fd);
        return result;
    }
    s->size = stat.size;
    struct batch_file f;
    batch_file_init(&f, m->options.io, m->options.mem, fd, stat.size);
    enum batch_control first = BATCH_CONTROL_ABORT, last = BATCH_CONTROL_ABORT;
    const uint8_t *batch;
    struct batch_header h;
    int32_t ignored;
    for (uint32_t i = 0; (result = batch_file_next(&f, &batch, &h)) == 1; i++) {
        enum batch_control type = BATCH_CONTROL_ABORT;
        if (batch_has(&h, BATCH_CONTROL) && !batch_read_control(batch, h.size, &type, &ignored))
            result = -EBADMSG;
        if (i == 0) {
            first = type;
            s->last_timestamp_ms = snapshot_header_timestamp(batch, &h);
        }
        last = type;
        if (result == 1 && reader != NULL)
            result = reader->batch(reader->context, METALOG_SNAPSHOT, batch, &h) + 1;
        if (result != 1)
            break;
    }
    result = result > 0 ? result - 1 : result;
    if (result == 0 &&
        (first != BATCH_CONTROL_SNAPSHOT_HEADER || last != BATCH_CONTROL_SNAPSHOT_FOOTER))
        result = -EBADMSG;
    batch_file_done(&f);
    io_close(m->options.io, fd);
    return result;
}

/* Gives the newest whole one away; passes over rotten ones, which are told and left where they
 * are. m->snapshots keeps those that are whole. */
static int snapshots_load(struct metalog *m, const struct metalog_reader *reader,
                          struct snapshot_id *from, char *why, size_t why_size)
{
    uint32_t whole = 0;
    char path[METALOG_PATH_MAX];
    for (uint32_t i = 0; i < m->snapshots_count; i++) {
        struct metalog_snapshot_file s = m->snapshots[i];
        int result = snapshot_pass(m, &s, NULL);
        metalog_snapshot_path(m, s.id, ".checkpoint", path);
        if (result == -EBADMSG) {
            trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN, "%s is damaged and is not used",
                       path);
            continue;
        }
        if (result != 0) {
            snprintf(why, why_size, "cannot read %s: error %d", path, -result);
            return result;
        }
        m->snapshots[whole++] = s;
    }
    m->snapshots_count = whole;
    *from = (struct snapshot_id){0, 0};
    if (whole == 0)
        return 0;
    SOMETIMES("metadata is loaded from a snapshot");
    struct metalog_snapshot_file *newest = &m->snapshots[whole - 1];
    *from = newest->id;
    int result = snapshot_pass(m, newest, reader);
    if (result != 0 && why[0] == '\0') {
        metalog_snapshot_path(m, newest->id, ".checkpoint", path);
        snprintf(why, why_size, "cannot use %s: error %d", path, -result);
    }
    return result;
}

/* ---- segments ---------------------------------------------------------------------------------
 */

static int segment_cut(struct metalog *m, struct batch_file *f, const char *path)
{
    trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN,
               "%s: %" PRIu64 " bytes of an unfinished write are cut off at %" PRIu64, path,
               f->size - f->position, f->position);
    SOMETIMES("an unfinished write of the metadata log is cut");
    int result = io_truncate(m->options.io, m->fd, f->position);
    return result != 0 ? result : io_fdatasync(m->options.io, m->fd);
}

/* The latest epoch of which leader-epoch-checkpoint knows; -1: none, or it cannot be read. */
static int32_t noted_epoch(const struct metalog *m)
{
    char path[METALOG_PATH_MAX], *text = NULL;
    size_t size = 0;
    int64_t epoch = -1;
    metalog_path(m, "leader-epoch-checkpoint", path);
    if (io_slurp(m->options.io, m->options.mem, path, EPOCHS_FILE_MAX, &text, &size) != 0)
        return -1;
    char *line = memchr(text, '\n', size); /* behind the version; then the count, then the epochs */
    line = line == NULL ? NULL : strchr(line + 1, '\n');
    while (line != NULL && line[1] != '\0') {
        epoch = strtoll(line + 1, NULL, 10);
        line = strchr(line + 1, '\n');
    }
    mem_free(m->options.mem, text, size + 1);
    return epoch >= 0 && epoch <= INT32_MAX ? (int32_t)epoch : -1;
}

/* What the page cache shows may be on no disk yet: a process that was killed has left it there, or
 * its last sync has failed, and no later one brings those bytes back. So the last append, whatever
 * it was, is written once more before anything is built upon it, or a power cut would tear a hole
 * below. */
static int segment_keep(struct metalog *m, uint64_t end)
{
    struct io *io = m->options.io;
    uint8_t *bytes = mem_alloc(m->options.mem, KEEP_PIECE);
    int64_t done = bytes == NULL ? -ENOMEM : 0;
    uint64_t at = end > APPEND_MAX ? end - APPEND_MAX : 0;
    while (done >= 0 && at < end) {
        uint64_t size = MIN(end - at, (uint64_t)KEEP_PIECE);
        done = io_pread(io, m->fd, bytes, size, at);
        if (done > 0)
            done = io_pwrite(io, m->fd, bytes, (uint64_t)done, at);
        if (done == 0)
            done = -EIO; /* it was there a moment ago */
        at += done > 0 ? (uint64_t)done : 0;
    }
    mem_free(m->options.mem, bytes, KEEP_PIECE);
    return done < 0 ? (int)done : io_fdatasync(io, m->fd);
}

/* Reads one segment, which is m's last, into m's books, and from offset `from` to the reader. */
static int segment_scan(struct metalog *m, const struct metalog_reader *reader, int64_t from,
                        bool is_last, const char *path, char *why, size_t why_size)
{
    struct io_stat stat;
    int result = io_fstat(m->options.io, m->fd, &stat);
    if (result != 0)
        return result;
    struct batch_file f;
    batch_file_init(&f, m->options.io, m->options.mem, m->fd, stat.size);
    const uint8_t *batch;
    struct batch_header h;
    while ((result = batch_file_next(&f, &batch, &h)) == 1) {
        const struct metalog_segment *s = &m->segments[m->segments_count - 1];
        if (h.base_offset != s->end_offset || h.leader_epoch < m->last_epoch) {
            f.position -= h.size; /* invariant 2: it is whole, but it does not belong here */
            result = -EBADMSG;
            break;
        }
        result = metalog_book(m, &h);
        if (result == 0 && h.base_offset >= from)
            result = reader->batch(reader->context, METALOG_LOG, batch, &h);
        if (result != 0)
            break;
    }
    if (result == -EBADMSG && why[0] == '\0') {
        bool later = !is_last || m->end_offset < m->marked_end;
        result = later ? 0 : batch_file_find_later(&f, m->last_epoch, noted_epoch(m), &later);
        if (result == 0 && !later) {
            result = segment_cut(m, &f, path);
        } else if (result == 0) {
            snprintf(why, why_size,
                     "%s is damaged at byte %" PRIu64 ", and not by an unfinished write: "
                     "restore it from a copy",
                     path, f.position);
            result = -EBADMSG;
        }
    }
    if (result == 0 && is_last)
        result = segment_keep(m, f.position);
    batch_file_done(&f);
    return result;
}

static int segments_scan(struct metalog *m, const struct metalog_reader *reader,
                         const struct listing *l, int64_t from, char *why, size_t why_size)
{
    int result = 0;
    for (uint32_t i = 0; i < l->bases_count && result == 0; i++) {
        char path[METALOG_PATH_MAX], index[METALOG_PATH_MAX];
        struct io_stat stat;
        metalog_segment_path(m, l->bases[i], ".log", path);
        if (i > 0 && l->bases[i] != m->end_offset) {
            snprintf(why, why_size, "%s does not follow the segment before it, which ends at %lld",
                     path, (long long)m->end_offset);
            return -EBADMSG;
        }
        result = metalog_add_segment(m, l->bases[i], 0);
        m->end_offset = l->bases[i];
        bool is_last = i + 1 == l->bases_count;
        if (result == 0)
            result = segment_scan(m, reader, from, is_last, path, why, why_size);
        metalog_segment_path(m, l->bases[i], ".index", index);
        if (result == 0 && !is_last && io_stat(m->options.io, index, &stat) == -ENOENT)
            result = metalog_write_index(m);
        if (result != 0 && why[0] == '\0')
            snprintf(why, why_size, "cannot read %s: error %d", path, -result);
    }
    return result;
}

/* The log ends below the newest snapshot: what it holds is in the snapshot, so it starts anew. */
static int segments_restart(struct metalog *m, const struct listing *l, struct snapshot_id id)
{
    trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN,
               "the metadata log ends at %lld, its newest snapshot at %lld: starting from there",
               (long long)m->end_offset, (long long)id.offset);
    m->segments_count = 0;
    m->epochs_count = 0;
    int result = metalog_add_segment(m, id.offset, 0);
    for (uint32_t i = 0; i < l->bases_count && result == 0; i++) {
        char path[METALOG_PATH_MAX];
        metalog_segment_path(m, l->bases[i], ".log", path);
        result = io_unlink(m->options.io, path);
    }
    m->end_offset = id.offset;
    m->last_epoch = id.epoch;
    return result;
}

int metalog_recover(struct metalog *m, const struct metalog_reader *reader, char *why,
                    size_t why_size)
{
    assert(m->segments_count == 0 && m->snapshots_count == 0);
    why[0] = '\0';
    struct listing l = {.m = m};
    struct snapshot_id from = {0, 0};
    int result = leftovers_remove(m);
    if (result == 0)
        result = io_list(m->options.io, m->folder, listing_visit, &l);
    if (result == 0)
        result = l.result;
    if (result != 0)
        snprintf(why, why_size, "cannot list %s: error %d", m->folder, -result);
    if (l.bases_count > 1)
        qsort(l.bases, l.bases_count, sizeof(*l.bases), compare_bases);
    if (m->snapshots_count > 1)
        qsort(m->snapshots, m->snapshots_count, sizeof(*m->snapshots), compare_snapshots);
    if (result == 0)
        result = snapshots_load(m, reader, &from, why, why_size);
    if (result == 0 && l.bases_count > 0 && l.bases[0] > from.offset) {
        snprintf(why, why_size,
                 "%s begins at offset %lld and no usable snapshot covers what is before", m->folder,
                 (long long)l.bases[0]);
        result = -EBADMSG;
    }
    if (result == 0)
        result = segments_scan(m, reader, &l, from.offset, why, why_size);
    if (result == 0 && l.bases_count == 0) {
        m->end_offset = from.offset;
        m->last_epoch = from.epoch;
        result = metalog_add_segment(m, from.offset, 0);
    } else if (result == 0 && m->end_offset < from.offset) {
        result = segments_restart(m, &l, from);
    }
    if (result != 0 && why[0] == '\0')
        snprintf(why, why_size, "cannot open %s: error %d", m->folder, -result);
    if (result == 0 && m->end_offset < m->marked_end) {
        snprintf(why, why_size,
                 "%.400s ends at offset %lld, and was durable up to %lld: restore it from a copy, "
                 "or remove " METALOG_MARK_FILE " from it to go on without what is missing",
                 m->folder, (long long)m->end_offset, (long long)m->marked_end);
        result = -EBADMSG;
    }
    m->last_epoch = MAX(m->last_epoch, from.epoch);
    mem_free(m->options.mem, l.bases, l.bases_size * sizeof(*l.bases));
    return result;
}
