/* The segments of a log: a list in offset order whose last one is active, and their open files.
 *
 *   segment_add ─▶ in memory only ─▶ created (flush.c) ─▶ sealed ─▶ removed (retention.c)
 *                  takes batches     written, indexed     complete   .deleted, then gone
 *
 * When to begin a new one is Kafka's decision, taken at append:
 *   size + batch > segment.bytes, or an index is full, or offsets would not fit 31 bits, or the
 *   batch's timestamp is segment.ms - jitter later than the first batch's (by the clock when there
 *   are no timestamps).
 *
 * Files are opened when needed and kept open in least-recently-used order, at most FILES_OPEN_MAX
 * sets per core: idle partitions hold no file descriptor.
 *
 * Invariants
 *  1. bases ascend strictly; segment i holds offsets [base i, base i+1).
 *  2. A segment in use (users > 0) is neither closed nor freed. */
#include "broker/log/segment.h"

#include <errno.h>
#include <string.h>

#include "broker/log/index.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"

const char *const segment_suffixes[SEGMENT_FILES] = {".log", ".index", ".timeindex", ".txnindex"};

static bool segments_grow(struct log *l)
{
    if (l->segments_count < l->segments_room)
        return true;
    uint32_t room = l->segments_room == 0 ? 1 : l->segments_room * 2;
    struct segment **grown = mem_realloc(l->core->mem, l->segments,
                                         l->segments_room * sizeof(*grown), room * sizeof(*grown));
    if (grown == NULL)
        return false;
    l->segments = grown;
    l->segments_room = room;
    return true;
}

struct segment *segment_make(struct log *l, int64_t base)
{
    const struct topic_config *t = log_config(l);
    assert(base >= 0);
    struct segment *s = mem_zalloc(l->core->mem, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->base = base;
    s->first_timestamp = NO_TIMESTAMP;
    s->created_ms = io_wall_ms(l->core->io);
    s->aborted_last = NO_OFFSET;
    int64_t jitter_max = MIN(t->segment_jitter_ms, t->segment_ms);
    if (jitter_max > 0)
        s->jitter_ms = (int64_t)(io_random(l->core->io) % (uint64_t)jitter_max);
    index_cursor_init(&s->ahead);
    index_cursor_init(&s->behind);
    s->loaded = true; /* nothing there that would have to be */
    s->synced = true;
    return s;
}

struct segment *segment_add(struct log *l, int64_t base)
{
    assert(l->segments_count == 0 || segment_active(l)->base < base);
    if (!segments_grow(l))
        return NULL;
    struct segment *s = segment_make(l, base);
    if (s != NULL)
        l->segments[l->segments_count++] = s;
    return s;
}

static bool segment_waited(const struct log *l, const struct segment *s, int64_t max_timestamp)
{
    const struct topic_config *t = log_config(l);
    int64_t waited = s->first_timestamp >= 0 ? max_timestamp - s->first_timestamp
                                             : io_wall_ms(l->core->io) - s->created_ms;
    int64_t limit = t->segment_ms; /* what must be compacted by then must not be active by then */
    if ((t->cleanup_policy & CLEANUP_COMPACT) != 0 && t->max_compaction_lag_ms > 0)
        limit = MIN(limit, t->max_compaction_lag_ms);
    return waited > limit - s->jitter_ms;
}

static bool segment_should_roll(const struct log *l, const struct segment *s,
                                const struct batch_header *h)
{
    const struct topic_config *t = log_config(l);
    assert(h->size <= (uint32_t)t->segment_bytes);
    if (s->size == 0)
        return false;
    return s->size > (uint32_t)t->segment_bytes - h->size ||
           segment_waited(l, s, h->max_timestamp) ||
           s->ahead.entries >= index_entries_max(t->segment_index_bytes) ||
           s->ahead.times + 1 >= time_entries_max(t->segment_index_bytes) ||
           batch_last_offset(h) - s->base > INT32_MAX;
}

bool segment_roll(struct log *l)
{
    struct segment *s = segment_active(l);
    if (s->size == 0)
        return true;
    s = segment_add(l, l->end_offset);
    if (s == NULL)
        return false;
    if (l->producers != NULL) /* without memory for it there is just no snapshot here */
        s->snapshot = producers_encode(l, l->end_offset, &s->snapshot_size);
    return true;
}

struct segment *segment_for_append(struct log *l, const struct batch_header *h)
{
    assert(h->base_offset == l->end_offset);
    if (segment_should_roll(l, segment_active(l), h) && !segment_roll(l))
        return NULL;
    return segment_active(l);
}

uint32_t segment_find(const struct log *l, int64_t offset)
{
    assert(l->segments_count > 0);
    uint32_t low = 0, high = l->segments_count; /* the first with base > offset */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->segments[middle]->base <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? 0 : low - 1;
}

static void segment_drop_snapshot(struct log_core *c, struct segment *s)
{
    mem_free(c->mem, s->snapshot, s->snapshot_size);
    s->snapshot = NULL;
    s->snapshot_size = 0;
}

static void segment_free(struct log_core *c, struct segment *s)
{
    assert(s->users == 0);
    segment_close(c, s);
    segment_drop_snapshot(c, s);
    mem_free(c->mem, s, sizeof(*s));
}

void segment_use(struct segment *s)
{
    s->users++;
    if (s->files != NULL)
        list_remove(&s->files->lru); /* not a candidate for closing */
}

void segment_unuse(struct log *l, struct segment *s)
{
    assert(s->users > 0);
    s->users--;
    if (s->users > 0)
        return;
    if (s->removed)
        segment_free(l->core, s);
    else if (s->files != NULL)
        list_push_back(&l->core->files_lru, &s->files->lru);
}

void segment_remove_first(struct log *l)
{
    assert(l->segments_count > 1);
    struct segment *s = l->segments[0];
    memmove(&l->segments[0], &l->segments[1], (l->segments_count - 1) * sizeof(s));
    l->segments_count--;
    assert(l->writing > 0);
    l->writing--;
    l->size_bytes -= s->size;
    s->removed = true;
    if (s->users == 0)
        segment_free(l->core, s);
}

void segments_replace(struct log *l, uint32_t first, uint32_t count, struct segment *by)
{
    assert(count > 0 && first + count <= l->writing);
    assert(l->segments[first]->base == by->base);
    for (uint32_t i = first; i < first + count; i++) {
        struct segment *s = l->segments[i];
        l->size_bytes -= s->size;
        s->removed = true;
        if (s->users == 0)
            segment_free(l->core, s);
    }
    l->segments[first] = by;
    memmove(&l->segments[first + 1], &l->segments[first + count],
            (l->segments_count - first - count) * sizeof(by));
    l->segments_count -= count - 1;
    l->writing -= count - 1;
    l->size_bytes += by->size;
}

void segment_discard(struct log *l, struct segment *s)
{
    segment_free(l->core, s);
}

void segment_remove_last(struct log *l)
{
    struct segment *s = segment_active(l);
    assert(s->users == 0 && s->size == s->written);
    l->segments_count--;
    l->writing = MIN(l->writing, l->segments_count == 0 ? 0 : l->segments_count - 1);
    l->size_bytes -= s->size;
    segment_free(l->core, s);
}

void segments_free(struct log *l)
{
    for (uint32_t i = 0; i < l->segments_count; i++)
        segment_free(l->core, l->segments[i]);
    mem_free(l->core->mem, l->segments, l->segments_room * sizeof(struct segment *));
    l->segments = NULL;
    l->segments_count = l->segments_room = 0;
}

/* ---- open files ------------------------------------------------------------------------------ */

bool segment_is_short(const struct log *l, const struct segment *s, int64_t end)
{
    uint32_t behind = segment_find(l, s->base) + 1;
    return behind < l->segments_count && s->written == s->size && /* else the rest is in memory */
           l->segments[behind]->base > end && log_is_gapless(l);
}

int segment_read_first_time(struct log *l, struct segment *s)
{
    uint8_t first[BATCH_HEADER_SIZE];
    struct batch_header h;
    if (s->first_timestamp >= 0 || !s->created || s->written < BATCH_HEADER_SIZE)
        return 0;
    segment_use(s);
    int fd = segment_fd(l, s, FILE_LOG);
    int64_t got = fd < 0 ? fd : io_pread(l->core->io, fd, first, sizeof(first), 0);
    segment_unuse(l, s);
    if (got == (int64_t)sizeof(first) && first[BATCH_PEEK_SIZE - 1] == 2) {
        batch_decode_header(first, &h);
        s->first_timestamp = h.max_timestamp;
    }
    return got < 0 ? (int)got : 0;
}

void segment_close(struct log_core *c, struct segment *s)
{
    if (s->files == NULL)
        return;
    assert(s->users == 0);
    for (uint32_t i = 0; i < SEGMENT_FILES; i++)
        if (s->files->fd[i] >= 0)
            io_close(c->io, s->files->fd[i]);
    if (s->files->direct_fd >= 0)
        io_close(c->io, s->files->direct_fd);
    list_remove(&s->files->lru);
    mem_free(c->mem, s->files, sizeof(*s->files));
    s->files = NULL;
    assert(c->files_open > 0);
    c->files_open--;
}

static int files_make(struct log_core *c, struct segment *s)
{
    struct list *oldest = list_first(&c->files_lru);
    if (c->files_open >= c->files_open_max && oldest != NULL)
        segment_close(c, container_of(oldest, struct segment_files, lru)->segment);
    s->files = mem_alloc(c->mem, sizeof(*s->files));
    if (s->files == NULL)
        return -ENOMEM;
    *s->files = (struct segment_files){.segment = s, .fd = {-1, -1, -1, -1}, .direct_fd = -1};
    list_init(&s->files->lru);
    c->files_open++;
    return 0;
}

int segment_begin_as(struct log *l, struct segment *s, enum segment_file which, const char *suffix,
                     uint32_t flags)
{
    assert(s->users > 0); /* or it could be closed, and then opened by its own name */
    int error = s->files == NULL ? files_make(l->core, s) : 0;
    if (error != 0)
        return error;
    assert(s->files->fd[which] < 0);
    char path[PATH_ROOM];
    path_segment(path, l->dir->path, l->folder, s->base, suffix);
    s->files->fd[which] = io_open(l->core->io, path, IO_READ | IO_WRITE | flags);
    return MIN(s->files->fd[which], 0);
}

int segment_fd(struct log *l, struct segment *s, enum segment_file which)
{
    struct log_core *c = l->core;
    assert(s->users > 0);
    assert(which < SEGMENT_FILES);
    int error = s->files == NULL ? files_make(c, s) : 0;
    if (error != 0)
        return error;
    int *fd = &s->files->fd[which];
    if (*fd >= 0)
        return *fd;
    char path[PATH_ROOM];
    path_segment(path, l->dir->path, l->folder, s->base, segment_suffixes[which]);
    bool derived = which != FILE_LOG; /* may be made anew */
    uint32_t flags = IO_READ | IO_WRITE | (derived || !s->created ? IO_CREATE : 0);
    *fd = io_open(c->io, path, flags);
    return *fd;
}

int segment_direct_fd(struct log *l, struct segment *s)
{
    int fd = segment_fd(l, s, FILE_LOG);
    if (fd < 0 || !l->dir->probe.direct)
        return fd < 0 ? fd : -EINVAL;
    if (s->files->direct_fd < 0)
        s->files->direct_fd = io_open_direct(l->core->io, fd);
    return s->files->direct_fd;
}

int segment_reread(struct log *l, struct segment *s)
{
    segment_use(s);
    int fd = segment_fd(l, s, FILE_LOG);
    int error = fd < 0 ? fd : io_reread(l->core->io, fd);
    segment_unuse(l, s);
    return error;
}
