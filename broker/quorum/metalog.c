/* The metadata log's files: appending, rolling, snapshots, retention.
 *
 *   metalog_append: [roll] -> io_write DSYNC -> book offsets and index -> op->done
 *   metalog_snapshot: .part -> io_write -> io_sync -> rename, sync folder -> op->done
 *
 * Index files serve Kafka and its tools, not us: we read the log once, at start, from end to end.
 * So entries are kept in memory and written where Kafka needs them whole, at a roll and at a clean
 * close. After a crash they are missing or short, and Kafka, which opens this log as if it had
 * crashed in any case, makes them anew.
 *
 * Invariants
 *  1. end_offset counts only what a completed DSYNC write covers. With one voter it is the high
 *     watermark; nobody is told of a record above it.
 *  2. Offsets are without gaps, epochs never go down.
 *  3. log start > 0 only while a snapshot at or above it exists.
 *  4. A snapshot has its final name only when its bytes and its name are durable.
 *  5. After a failed write the file's tail is unknown: `failed` is set and stays; the node stops
 * and recovery looks at what is really there.
 *
 *  6. Space is taken ahead of what is written (metalog_has_room), and whoever wants to append asks
 *     first: a full disk refuses what would grow the metadata, and what makes room or keeps the
 *     node going still finds the reserve. A segment is not ended while there is none for the next.
 *
 * Failure modes: a write or sync error (5), no space in spite of (6) among them; a snapshot that
 * cannot be written is removed and only reported, the log is still whole. */
#include "broker/quorum/metalog_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "core/lab.h"

#define EPOCHS_TEXT_LINE 36 /* "2147483647 9223372036854775807\n" and room */
#define RESERVE_BYTES    (4u << 20)

void metalog_path(const struct metalog *m, const char *name, char *path)
{
    int n = snprintf(path, METALOG_PATH_MAX, "%s/%s", m->folder, name);
    assert(n > 0 && n < METALOG_PATH_MAX);
}

void metalog_segment_path(const struct metalog *m, int64_t base, const char *suffix, char *path)
{
    int n = snprintf(path, METALOG_PATH_MAX, "%s/%020lld%s", m->folder, (long long)base, suffix);
    assert(n > 0 && n < METALOG_PATH_MAX);
}

void metalog_snapshot_path(const struct metalog *m, struct snapshot_id id, const char *suffix,
                           char *path)
{
    int n = snprintf(path, METALOG_PATH_MAX, "%s/%020lld-%010d%s", m->folder, (long long)id.offset,
                     id.epoch, suffix);
    assert(n > 0 && n < METALOG_PATH_MAX);
}

int metalog_grow(struct metalog *m, void *array, uint32_t count, uint32_t *size, size_t item_size,
                 uint32_t max)
{
    assert(count <= *size);
    if (count < *size)
        return 0;
    if (count >= max)
        return -ENOMEM;
    uint32_t grown = MIN(max, MAX(*size * 2, 16u));
    void *old;
    memcpy(&old, array, sizeof(old)); /* array is the address of a pointer to items */
    void *bigger = mem_realloc(m->options.mem, old, *size * item_size, grown * item_size);
    if (bigger == NULL)
        return -ENOMEM;
    memcpy(array, &bigger, sizeof(bigger));
    *size = grown;
    return 0;
}

int64_t metalog_end_offset(const struct metalog *m)
{
    return m->end_offset;
}

int64_t metalog_start_offset(const struct metalog *m)
{
    assert(m->segments_count > 0);
    return m->segments[0].base_offset;
}

int32_t metalog_last_epoch(const struct metalog *m)
{
    return m->last_epoch;
}

struct snapshot_id metalog_latest_snapshot(const struct metalog *m)
{
    if (m->snapshots_count == 0)
        return (struct snapshot_id){-1, -1};
    return m->snapshots[m->snapshots_count - 1].id;
}

/* ---- small files ------------------------------------------------------------------------------
 */

int metalog_write_epochs(struct metalog *m)
{
    size_t room = 32 + (size_t)m->epochs_count * EPOCHS_TEXT_LINE;
    char *text = mem_alloc(m->options.mem, room);
    if (text == NULL)
        return -ENOMEM;
    size_t at = (size_t)snprintf(text, room, "0\n%u\n", m->epochs_count);
    for (uint32_t i = 0; i < m->epochs_count; i++) {
        at += (size_t)snprintf(text + at, room - at, "%d %lld\n", m->epochs[i].epoch,
                               (long long)m->epochs[i].start_offset);
        assert(at < room);
    }
    char path[METALOG_PATH_MAX];
    metalog_path(m, "leader-epoch-checkpoint", path);
    int result = io_replace(m->options.io, path, text, at);
    mem_free(m->options.mem, text, room);
    return result;
}

int metalog_note_epoch(struct metalog *m, int32_t epoch, int64_t start_offset)
{
    assert(start_offset <= m->end_offset);
    uint32_t n = m->epochs_count;
    if (n == 0 || m->epochs[n - 1].epoch != epoch) {
        assert(n == 0 || m->epochs[n - 1].epoch < epoch); /* invariant 2 */
        int result =
            metalog_grow(m, &m->epochs, n, &m->epochs_size, sizeof(*m->epochs), METALOG_EPOCHS_MAX);
        if (result != 0)
            return result;
        m->epochs[m->epochs_count++] = (struct metalog_epoch){epoch, start_offset};
    }
    return metalog_write_epochs(m);
}

static void put_be32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static int write_whole_file(struct metalog *m, const char *path, const uint8_t *bytes, size_t size)
{
    int fd = io_open(m->options.io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int64_t written = size == 0 ? 0 : io_pwrite(m->options.io, fd, bytes, size, 0);
    int result = written < 0 ? (int)written : io_fdatasync(m->options.io, fd);
    io_close(m->options.io, fd);
    return result;
}

/* .index: {i32 relative offset, i32 position}; .timeindex: {i64 timestamp, i32 relative offset}. */
int metalog_write_index(struct metalog *m)
{
    assert(m->segments_count > 0);
    const struct metalog_segment *s = &m->segments[m->segments_count - 1];
    uint32_t n = m->index_count;
    size_t room = (size_t)(n + 1) * 20;
    uint8_t *bytes = mem_zalloc(m->options.mem, room);
    if (bytes == NULL)
        return -ENOMEM;
    uint8_t *times = bytes + (size_t)n * 8;
    uint32_t times_count = 0;
    int64_t last_time = -1;
    for (uint32_t i = 0; i <= n; i++) {
        struct metalog_index_entry e = {.timestamp = s->max_timestamp};
        if (i < n) {
            e = m->index[i];
            put_be32(bytes + (size_t)i * 8, e.relative_offset);
            put_be32(bytes + (size_t)i * 8 + 4, e.position);
        } else {
            e.timestamp_offset = (uint32_t)(s->max_timestamp_offset - s->base_offset);
        }
        if (e.timestamp <= last_time)
            continue;
        last_time = e.timestamp;
        uint8_t *to = times + (size_t)times_count++ * 12;
        put_be32(to, (uint32_t)((uint64_t)e.timestamp >> 32));
        put_be32(to + 4, (uint32_t)e.timestamp);
        put_be32(to + 8, e.timestamp_offset);
    }
    char path[METALOG_PATH_MAX];
    metalog_segment_path(m, s->base_offset, ".index", path);
    int result = write_whole_file(m, path, bytes, (size_t)n * 8);
    metalog_segment_path(m, s->base_offset, ".timeindex", path);
    if (result == 0)
        result = write_whole_file(m, path, times, (size_t)times_count * 12);
    mem_free(m->options.mem, bytes, room);
    return result;
}

/* ---- the end of the log -----------------------------------------------------------------------
 */

/* False: no space. A file system that cannot reserve is not asked again. */
static bool reserve(struct metalog *m, uint64_t size)
{
    int result = io_reserve(m->options.io, m->fd, size);
    bool full = result == -ENOSPC || result == -EDQUOT;
    if (!full)
        m->reserved = result == 0 ? size : UINT64_MAX;
    return !full;
}

bool metalog_has_room(struct metalog *m, uint64_t bytes)
{
    assert(m->segments_count > 0);
    uint64_t end = m->segments[m->segments_count - 1].size + bytes;
    if (end <= m->reserved)
        return true;
    bool whole = reserve(m, end + RESERVE_BYTES);
    SOMETIMES_IF(!whole, "there is no room for a reserve of the metadata log");
    return whole || reserve(m, end);
}

/* A file without room for what is to be written goes again, for good: the segment before it goes
 * on, and a file behind it would not follow. */
static int segment_room(struct metalog *m, const char *path, int fd, uint64_t bytes)
{
    int result = bytes > 0 ? io_reserve(m->options.io, fd, bytes) : 0;
    if (result != -ENOSPC && result != -EDQUOT)
        return 0; /* what cannot be reserved is found out by writing */
    int gone = io_unlink(m->options.io, path);
    if (gone == 0)
        gone = io_sync_directory(m->options.io, m->folder);
    return gone != 0 ? gone : result;
}

int metalog_add_segment(struct metalog *m, int64_t base, uint64_t bytes)
{
    int result = metalog_grow(m, &m->segments, m->segments_count, &m->segments_size,
                              sizeof(*m->segments), METALOG_SEGMENTS_MAX);
    if (result != 0)
        return result;
    char path[METALOG_PATH_MAX];
    metalog_segment_path(m, base, ".log", path);
    int fd = io_open(m->options.io, path, IO_READ | IO_WRITE | IO_CREATE);
    if (fd < 0)
        return fd;
    result = io_sync_directory(m->options.io, m->folder);
    if (result == 0)
        result = segment_room(m, path, fd, bytes);
    if (result != 0) {
        io_close(m->options.io, fd);
        return result;
    }
    if (m->fd >= 0)
        io_close(m->options.io, m->fd);
    m->fd = fd;
    m->reserved = 0;
    m->segments[m->segments_count++] = (struct metalog_segment){
        .base_offset = base,
        .end_offset = base,
        .first_timestamp = -1,
        .max_timestamp = -1,
        .max_timestamp_offset = base,
    };
    m->index_count = 0;
    m->bytes_since_index = 0;
    return 0;
}

int metalog_book(struct metalog *m, const struct batch_header *h)
{
    struct metalog_segment *s = &m->segments[m->segments_count - 1];
    assert(h->base_offset == s->end_offset); /* invariant 2 */
    int64_t last = batch_last_offset(h);
    if (s->first_timestamp < 0)
        s->first_timestamp = h->max_timestamp;
    if (h->max_timestamp > s->max_timestamp) {
        s->max_timestamp = h->max_timestamp;
        s->max_timestamp_offset = last;
    }
    if (m->bytes_since_index > INDEX_INTERVAL_BYTES) {
        int result = metalog_grow(m, &m->index, m->index_count, &m->index_size, sizeof(*m->index),
                                  UINT32_MAX / 32);
        if (result != 0)
            return result;
        m->index[m->index_count++] = (struct metalog_index_entry){
            .relative_offset = (uint32_t)(last - s->base_offset),
            .position = (uint32_t)s->size,
            .timestamp = s->max_timestamp,
            .timestamp_offset = (uint32_t)(s->max_timestamp_offset - s->base_offset),
        };
        m->bytes_since_index = 0;
    }
    m->bytes_since_index += h->size;
    s->size += h->size;
    s->end_offset = last + 1;
    if (m->epochs_count == 0 || m->epochs[m->epochs_count - 1].epoch != h->leader_epoch) {
        int result = metalog_grow(m, &m->epochs, m->epochs_count, &m->epochs_size,
                                  sizeof(*m->epochs), METALOG_EPOCHS_MAX);
        if (result != 0)
            return result;
        m->epochs[m->epochs_count++] = (struct metalog_epoch){h->leader_epoch, h->base_offset};
    }
    m->end_offset = s->end_offset;
    m->last_epoch = h->leader_epoch;
    return 0;
}

static bool segment_is_full(const struct metalog *m, uint32_t size)
{
    const struct metalog_segment *s = &m->segments[m->segments_count - 1];
    uint64_t total = 0, usable = 0;
    if (s->size == 0)
        return false;
    if (io_space(m->options.io, m->folder, &total, &usable) == 0 && usable < 2ull * RESERVE_BYTES)
        return false; /* invariant 6 */
    if (s->size + size > (uint64_t)m->options.segment_bytes)
        return true;
    int64_t age = io_wall_ms(m->options.io) - s->first_timestamp;
    return s->first_timestamp >= 0 && age > m->options.segment_ms;
}

static void metalog_append_done(struct op *op)
{
    struct metalog *m = container_of(op, struct metalog, append_rw.op);
    struct op *waiting = m->append_op;
    assert(waiting != NULL && waiting->armed);
    int result = op->result < 0 ? op->result : 0;
    struct batch_iter it;
    const uint8_t *batch;
    struct batch_header h;
    batch_iter_init(&it, m->append_bytes, m->append_size);
    while (result == 0 && batch_next(&it, &batch, &h))
        result = metalog_book(m, &h);
    if (result != 0)
        m->failed = true; /* invariant 5 */
    else
        metalog_mark_set(m);
    m->append_op = NULL;
    waiting->armed = false;
    waiting->result = result;
    waiting->done(waiting);
}

void metalog_append(struct metalog *m, const uint8_t *bytes, uint32_t size, struct op *op)
{
    assert(m->append_op == NULL);
    assert(size >= BATCH_HEADER_SIZE && !op->armed);
    int result = m->failed ? -EIO : 0;
    if (result == 0 && segment_is_full(m, size)) {
        SOMETIMES("the metadata log begins a segment");
        result = metalog_write_index(m);
        if (result == 0)
            result = metalog_add_segment(m, m->end_offset, size);
        bool passes =
            result == -EMFILE || result == -ENFILE || result == -ENOSPC || result == -EDQUOT;
        SOMETIMES_IF(passes, "a segment of the metadata log cannot be begun yet");
        if (passes)
            result = 0; /* on in the old one, which has its room; the next append tries again */
    }
    m->append_op = op;
    m->append_bytes = bytes;
    m->append_size = size;
    op->armed = true;
    op_init(&m->append_rw.op, metalog_append_done);
    m->append_iov = (struct iovec){(void *)(uintptr_t)bytes, size};
    m->append_rw.iov = &m->append_iov;
    m->append_rw.iov_count = 1;
    m->append_rw.flags = IO_DSYNC;
    m->append_rw.offset = m->segments[m->segments_count - 1].size;
    /* A log that cannot be written is told through the same door: writing to no file fails. */
    m->append_rw.fd = result == 0 ? m->fd : -1;
    io_write(m->options.io, &m->append_rw);
}

/* ---- snapshots --------------------------------------------------------------------------------
 */

static void snapshot_end(struct metalog *m, int result)
{
    struct op *waiting = m->snapshot_op;
    assert(waiting != NULL && waiting->armed);
    struct io *io = m->options.io;
    char part[METALOG_PATH_MAX], path[METALOG_PATH_MAX];
    metalog_snapshot_path(m, m->snapshot_new.id, ".checkpoint.part", part);
    metalog_snapshot_path(m, m->snapshot_new.id, ".checkpoint", path);
    if (m->snapshot_fd >= 0)
        io_close(io, m->snapshot_fd);
    m->snapshot_fd = -1;
    if (result == 0)
        result = metalog_grow(m, &m->snapshots, m->snapshots_count, &m->snapshots_size,
                              sizeof(*m->snapshots), METALOG_SNAPSHOTS_MAX);
    if (result == 0)
        result = io_rename(io, part, path);
    if (result == 0)
        result = io_sync_directory(io, m->folder); /* invariant 4 */
    if (result == 0)
        m->snapshots[m->snapshots_count++] = m->snapshot_new;
    else if (io_unlink(io, part) != 0)
        trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN, "%s stays behind", part);
    m->snapshot_op = NULL;
    waiting->armed = false;
    waiting->result = result;
    waiting->done(waiting);
}

static void snapshot_synced(struct op *op)
{
    SOMETIMES("a metadata snapshot is synced");
    struct metalog *m = container_of(op, struct metalog, snapshot_sync.op);
    assert(m->snapshot_op != NULL);
    snapshot_end(m, op->result < 0 ? op->result : 0);
}

static void snapshot_written(struct op *op)
{
    struct metalog *m = container_of(op, struct metalog, snapshot_rw.op);
    assert(m->snapshot_op != NULL);
    SOMETIMES_IF(op->result < 0, "a metadata snapshot cannot be written");
    if (op->result < 0) {
        snapshot_end(m, op->result);
        return;
    }
    op_init(&m->snapshot_sync.op, snapshot_synced);
    m->snapshot_sync.fd = m->snapshot_fd;
    io_sync(m->options.io, &m->snapshot_sync);
}

void metalog_snapshot(struct metalog *m, struct snapshot_id id, const uint8_t *bytes, uint64_t size,
                      int64_t last_timestamp_ms, struct op *op)
{
    assert(m->snapshot_op == NULL && !op->armed);
    assert(id.offset <= m->end_offset && size > 0 && size <= INT32_MAX);
    assert(id.offset > metalog_latest_snapshot(m).offset);
    char path[METALOG_PATH_MAX];
    metalog_snapshot_path(m, id, ".checkpoint.part", path);
    m->snapshot_fd = io_open(m->options.io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    m->snapshot_new = (struct metalog_snapshot_file){id, size, last_timestamp_ms};
    m->snapshot_op = op;
    op->armed = true;
    op_init(&m->snapshot_rw.op, snapshot_written);
    m->snapshot_iov = (struct iovec){(void *)(uintptr_t)bytes, size};
    m->snapshot_rw.iov = &m->snapshot_iov;
    m->snapshot_rw.iov_count = 1;
    m->snapshot_rw.flags = 0;
    m->snapshot_rw.offset = 0;
    m->snapshot_rw.fd = m->snapshot_fd; /* not opened: the write fails and says so */
    io_write(m->options.io, &m->snapshot_rw);
}

/* ---- retention --------------------------------------------------------------------------------
 */

/* False: it is there yet. */
static bool segment_remove(struct metalog *m, int64_t base)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex"};
    char path[METALOG_PATH_MAX];
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        metalog_segment_path(m, base, suffixes[i], path);
        int result = io_unlink(m->options.io, path);
        if (result == 0 || result == -ENOENT)
            continue;
        trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN, "cannot remove %s: error %d", path,
                   -result);
        if (i == 0)
            return false;
    }
    return true;
}

/* Segments all of whose records are below offset; never the last one, and none behind one that
 * stays: the next start refuses a log with a gap. */
static void segments_drop_before(struct metalog *m, int64_t offset)
{
    uint32_t drop = 0;
    while (drop + 1 < m->segments_count && m->segments[drop].end_offset <= offset &&
           segment_remove(m, m->segments[drop].base_offset))
        drop++;
    SOMETIMES_IF(drop > 0, "segments of the metadata log are removed");
    m->segments_count -= drop;
    memmove(m->segments, m->segments + drop, m->segments_count * sizeof(*m->segments));
    uint32_t old = 0;
    int64_t start = m->segments[0].base_offset;
    while (old + 1 < m->epochs_count && m->epochs[old + 1].start_offset <= start)
        old++;
    if (old > 0) {
        m->epochs_count -= old;
        memmove(m->epochs, m->epochs + old, m->epochs_count * sizeof(*m->epochs));
    }
    if (m->epochs_count > 0 && m->epochs[0].start_offset < start)
        m->epochs[0].start_offset = start;
}

static bool oldest_is_beyond_retention(const struct metalog *m)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < m->segments_count; i++)
        total += m->segments[i].size;
    for (uint32_t i = 0; i < m->snapshots_count; i++)
        total += m->snapshots[i].size;
    if (m->options.retention_bytes >= 0 && total > (uint64_t)m->options.retention_bytes)
        return true;
    int64_t age = io_wall_ms(m->options.io) - m->snapshots[0].last_timestamp_ms;
    return m->options.retention_ms >= 0 && age > m->options.retention_ms;
}

void metalog_clean(struct metalog *m)
{
    assert(m->segments_count > 0);
    bool cleaned = false;
    while (m->snapshots_count >= 2 && oldest_is_beyond_retention(m)) {
        /* The log goes up to the next snapshot first: invariant 3 holds at every step. */
        SOMETIMES("old metadata is removed");
        segments_drop_before(m, m->snapshots[1].id.offset);
        char path[METALOG_PATH_MAX];
        metalog_snapshot_path(m, m->snapshots[0].id, ".checkpoint", path);
        int result = io_unlink(m->options.io, path);
        if (result != 0 && result != -ENOENT)
            trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN, "cannot remove %s: error %d",
                       path, -result);
        m->snapshots_count--;
        memmove(m->snapshots, m->snapshots + 1, m->snapshots_count * sizeof(*m->snapshots));
        cleaned = true;
    }
    if (!cleaned)
        return;
    int result = metalog_write_epochs(m);
    if (result == 0)
        result = io_sync_directory(m->options.io, m->folder);
    if (result != 0)
        trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN,
                   "old metadata may come back after a crash: error %d", -result);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int folder_make(struct metalog *m)
{
    static const char partition_metadata[] = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";
    struct io *io = m->options.io;
    int result = io_mkdir(io, m->folder);
    if (result != 0 && result != -EEXIST)
        return result;
    if (result == 0)
        result = io_sync_directory(io, m->options.log_dir);
    else
        result = 0;
    char path[METALOG_PATH_MAX];
    metalog_path(m, "partition.metadata", path);
    struct io_stat stat;
    if (result == 0 && io_stat(io, path, &stat) == -ENOENT)
        result = io_replace(io, path, partition_metadata, sizeof(partition_metadata) - 1);
    return result;
}

static void metalog_free(struct metalog *m)
{
    struct mem *mem = m->options.mem;
    if (m->fd >= 0)
        io_close(m->options.io, m->fd);
    if (m->mark_fd >= 0)
        io_close(m->options.io, m->mark_fd);
    mem_free(mem, m->segments, m->segments_size * sizeof(*m->segments));
    mem_free(mem, m->snapshots, m->snapshots_size * sizeof(*m->snapshots));
    mem_free(mem, m->epochs, m->epochs_size * sizeof(*m->epochs));
    mem_free(mem, m->index, m->index_size * sizeof(*m->index));
    mem_free(mem, m, sizeof(*m));
}

int metalog_open(struct metalog **log, const struct metalog_options *options,
                 const struct metalog_reader *reader, char *why, size_t why_size)
{
    assert(options->segment_bytes > 0);
    assert(reader->batch != NULL);
    struct metalog *m = mem_zalloc(options->mem, sizeof(*m));
    if (m == NULL) {
        snprintf(why, why_size, "no memory for the metadata log");
        return -ENOMEM;
    }
    m->options = *options;
    m->fd = m->mark_fd = m->snapshot_fd = -1;
    int result = -ENAMETOOLONG;
    int n = snprintf(m->folder, sizeof(m->folder), "%s/" METALOG_FOLDER, options->log_dir);
    if (n > 0 && (size_t)n < sizeof(m->folder))
        result = folder_make(m);
    if (result != 0)
        snprintf(why, why_size, "cannot make %s: error %d", m->folder, -result);
    else
        metalog_mark_open(m);
    if (result == 0)
        result = metalog_recover(m, reader, why, why_size);
    if (result != 0) {
        metalog_free(m);
        return result;
    }
    metalog_mark_set(m);
    assert(m->fd >= 0 && m->segments_count > 0);
    *log = m;
    return 0;
}

int metalog_close(struct metalog *m, bool clean)
{
    int result = 0;
    assert(m->append_op == NULL);
    assert(m->snapshot_op == NULL);
    if (clean && !m->failed) {
        result = io_fdatasync(m->options.io, m->fd);
        if (result == 0)
            result = metalog_write_index(m);
        if (result == 0 && m->mark_fd >= 0)
            result = io_fdatasync(m->options.io, m->mark_fd);
        if (result == 0)
            result = io_sync_directory(m->options.io, m->folder);
        if (result != 0)
            trace_line(m->options.trace, TRACE_QUORUM, TRACE_WARN,
                       "the metadata log cannot be closed: %s", strerror(-result));
    }
    metalog_free(m);
    return result;
}
