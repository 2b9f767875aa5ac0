/* Reading a WAL back after a crash: which groups were written, in which order, and where it ends.
 *
 *   files of one writer core, newest generation, by start sequence
 *     │ hdr │ g 17 │ g 18 │ g 19 │ old bytes      ─▶      │ hdr │ g 20 │ g 21 │ torn │ old bytes
 *                                  └ next file begins with 20, chained to 19's checksum ┘
 *
 * A group counts when its header, every entry header, every batch and the chain to the group before
 * agree. Where that ends is one of
 *   end         nothing of this generation follows: the last write was whole
 *   torn tail   a group of the last writes is damaged; it was never acknowledged, so it is cut,
 *               and with it what was in flight behind it, be it whole: nothing of that was either
 *   rot         behind the damage is a group that left when what is damaged was durable. Entries
 *               in between that are whole still count; of one whose header is, it is told who lost
 *               it; where not even that can be read, anybody may have lost something. Reading goes
 *               on behind it.
 *   begun anew  the oldest file is damaged: what was in it is settled, and its successor holds
 *               what is needed
 *
 * A file's own header is not written again while groups are, so it may rot as well: it is made anew
 * from the first group. A file that became shorter, or of which nothing can be read, may have held
 * anybody's records. (It is made under another name, so it never was shorter, nor empty.)
 *
 * Whose files: when the number of cores is what it was, a core reads its own. Otherwise partitions
 * have moved, and every core reads all and takes what belongs to its logs.
 *
 * Invariant: nothing read is believed before it is bounded by the bytes that are there. */
#include "broker/log/wal_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/path.h"
#include "core/crc32c.h"
#include "core/lab.h"

#define WINDOW_BYTES (4u << 20)
/* How far behind damage a later write is looked for: what may be in flight, and then some. */
#define LOOK_BYTES (2 * WAL_FLYING_BYTES + 2 * WAL_WRITE_BYTES + 2 * CHUNK_BYTES)

struct wal_set { /* one writer core's newest generation, as it is walked */
    struct log_dir *dir;
    struct wal_found *files[WAL_FILES_MAX];
    uint32_t files_count;
    uint32_t at_file;
    uint64_t position, sequence; /* of the group expected next */
    uint32_t crc;                /* of the one before */
    int fd;
    uint8_t *window;
    uint32_t room, filled;
    uint64_t begin; /* window holds [begin, begin + filled) of the file */
    const struct wal_reader *reader;
    struct wal_scan_result *result;
};

/* ---- headers --------------------------------------------------------------------------------- */

/* A file that was made and not begun yet: zeros. */
static bool header_is_fresh(const struct wal_file_header *h, uint64_t size)
{
    static const struct wal_file_header none;
    return memcmp(h, &none, sizeof(none)) == 0 && size >= 2 * (uint64_t)WAL_BLOCK;
}

static void header_judge(struct log_dir *d, struct wal_found *f, uint32_t got,
                         const struct wal_group_header *first, uint32_t first_size, uint64_t size)
{
    struct wal_file_header *h = &f->header;
    bool sound = got == sizeof(*h) && h->magic == WAL_MAGIC && h->version == WAL_VERSION &&
                 h->crc == crc32c(0, h, offsetof(struct wal_file_header, crc)) &&
                 h->core == f->core && h->number == f->number;
    f->valid = sound && h->file_bytes <= size;
    if (f->valid || d->core->config.clean_start || (sound && h->closed != 0) ||
        (got == sizeof(*h) && header_is_fresh(h, size)))
        return;
    f->damaged = true;
    f->valid = sound;
    f->cut = sound;
    if (sound) {
        h->file_bytes = size;
        return;
    }
    f->valid = first_size == sizeof(*first) && first->magic == WAL_GROUP_MAGIC &&
               first->version == WAL_VERSION &&
               first->crc == crc32c(0, first, offsetof(struct wal_group_header, crc));
    /* How many cores there were is not known: every core looks at it. */
    *h = (struct wal_file_header){.generation = first->generation,
                                  .start_sequence = first->sequence,
                                  .file_bytes = size,
                                  .start_crc = first->previous_crc,
                                  .number = f->number,
                                  .core = (uint16_t)f->core,
                                  .cores_count = UINT16_MAX};
    f->cut = !f->valid; /* all of it */
}

static int header_read(struct log_dir *d, struct wal_found *f)
{
    struct io *io = d->core->io;
    char path[PATH_ROOM];
    struct io_stat st;
    path_wal(path, d->path, f->core, f->number);
    int fd = io_open(io, path, d->read_only ? IO_READ : IO_READ | IO_WRITE);
    if (fd < 0)
        return fd;
    if (!d->read_only)
        io_settle(io, fd); /* whoever wrote it may have been killed a moment ago */
    struct wal_group_header first = {0};
    int64_t got = io_pread(io, fd, &f->header, sizeof(f->header), 0);
    int64_t more = io_pread(io, fd, &first, sizeof(first), WAL_BLOCK);
    int error = io_fstat(io, fd, &st);
    io_close(io, fd);
    if (got < 0 || error != 0)
        return got < 0 ? (int)got : error;
    header_judge(d, f, (uint32_t)got, &first, (uint32_t)MAX(more, (int64_t)0), st.size);
    SOMETIMES_IF(!f->valid, "a WAL file has no sound header");
    return more < 0 ? (int)more : 0;
}

/* Must this core look at what that core wrote? */
static bool set_is_ours(const struct log_dir *d, const struct wal_found *f)
{
    const struct log_core_config *config = &d->core->config;
    return f->header.cores_count != config->cores_count || f->core == config->core;
}

static uint64_t newest_generation(const struct log_dir *d, uint32_t core)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < d->wal_found_count; i++)
        if (d->wal_found[i].valid && d->wal_found[i].core == core)
            newest = MAX(newest, d->wal_found[i].header.generation);
    return newest;
}

static bool generation_closed(const struct log_dir *d, uint32_t core, uint64_t generation)
{
    bool closed = false;
    for (uint32_t i = 0; i < d->wal_found_count; i++) {
        const struct wal_found *f = &d->wal_found[i];
        closed |= f->valid && f->core == core && f->header.generation == generation &&
                  f->header.closed != 0;
    }
    SOMETIMES_IF(closed, "a WAL was closed in order");
    return closed;
}

int wal_scan_headers(struct log_dir *d)
{
    int error = 0;
    for (uint32_t i = 0; i < d->wal_found_count && error == 0; i++)
        error = header_read(d, &d->wal_found[i]);
    for (uint32_t i = 0; i < d->wal_found_count && error == 0; i++) {
        const struct wal_found *f = &d->wal_found[i];
        bool open =
            (f->valid || f->cut) && !generation_closed(d, f->core, newest_generation(d, f->core));
        d->left_open |= open;
        d->had_wal |= open && set_is_ours(d, f);
    }
    d->generation = newest_generation(d, d->core->config.core);
    return error;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int set_open_file(struct wal_set *w, uint32_t n)
{
    const struct wal_found *f = w->files[n];
    char path[PATH_ROOM];
    if (w->fd >= 0)
        io_close(w->dir->core->io, w->fd);
    path_wal(path, w->dir->path, f->core, f->number);
    w->fd = io_open(w->dir->core->io, path, IO_READ);
    w->at_file = n;
    w->position = WAL_BLOCK;
    w->begin = w->filled = 0;
    return w->fd < 0 ? w->fd : 0;
}

/* size bytes at position of the current file; NULL with *error 0: the file is shorter. */
static const uint8_t *set_bytes(struct wal_set *w, uint64_t position, uint64_t size, int *error)
{
    struct mem *mem = w->dir->core->mem;
    *error = 0;
    if (position + size > w->files[w->at_file]->header.file_bytes)
        return NULL;
    if (position >= w->begin && position + size <= w->begin + w->filled)
        return w->window + (position - w->begin);
    uint32_t want = (uint32_t)MAX(size, (uint64_t)WINDOW_BYTES);
    if (want > w->room) {
        uint8_t *grown = mem_realloc(mem, w->window, w->room, want);
        if (grown == NULL) {
            *error = -ENOMEM;
            return NULL;
        }
        w->window = grown;
        w->room = want;
    }
    int64_t got = io_pread(w->dir->core->io, w->fd, w->window, w->room, position);
    w->begin = position;
    w->filled = got < 0 ? 0 : (uint32_t)got;
    if (got < 0)
        *error = (int)got;
    return got >= (int64_t)size ? w->window : NULL;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static bool header_sound(const struct wal_set *w, const struct wal_group_header *h)
{
    return h->magic == WAL_GROUP_MAGIC && h->version == WAL_VERSION &&
           h->generation == w->files[0]->header.generation &&
           h->crc == crc32c(0, h, offsetof(struct wal_group_header, crc)) &&
           h->length % WAL_BLOCK == 0 && h->used <= h->length && h->used >= sizeof(*h) &&
           h->first_in_flight <= h->sequence;
}

/* Damaged as it may be: is this the group expected here, and not bytes of a generation before? Of
 * what says so, one field may be the damaged one. */
static bool header_meant(const struct wal_set *w, const struct wal_group_header *h)
{
    uint32_t right = h->magic == WAL_GROUP_MAGIC;
    right += h->generation == w->files[0]->header.generation;
    right += h->sequence == w->sequence;
    right += h->previous_crc == w->crc;
    return right >= 3;
}

static bool batch_sound(const struct wal_entry *e, const uint8_t *batch)
{
    struct batch_header b;
    return batch_peek(batch, e->length, &b) == BATCH_WHOLE && b.size == e->length &&
           b.base_offset == e->base_offset && batch_last_offset(&b) == e->last_offset &&
           b.crc == e->batch_crc && b.leader_epoch == e->leader_epoch && e->base_offset >= 0 &&
           b.last_offset_delta >= 0 && batch_crc_matches(batch, b.size);
}

static bool entry_sound(const struct wal_entry *e, uint32_t room)
{
    const void *from = &e->type;
    return e->crc == crc32c(0, from,
                            offsetof(struct wal_entry, slot) - offsetof(struct wal_entry, type)) &&
           e->length <= room && wal_padded(e->length, WAL_ENTRY_ALIGN) <= room &&
           (e->type == WAL_BATCH || (e->type == WAL_LOG_START && e->length == 0) ||
            (e->type == WAL_ABORTED && e->length == sizeof(struct wal_aborted))) &&
           e->partition >= 0;
}

/* All entries of a group whose header is sound. */
static bool entries_sound(const uint8_t *group, const struct wal_group_header *h)
{
    uint32_t at = sizeof(*h), crc = 0;
    for (uint32_t i = 0; i < h->entries; i++) {
        struct wal_entry e;
        if (h->used - at < sizeof(e))
            return false;
        memcpy(&e, group + at, sizeof(e));
        at += (uint32_t)sizeof(e);
        if (!entry_sound(&e, h->used - at))
            return false;
        if (e.type == WAL_BATCH && !DEFECT(11) && !batch_sound(&e, group + at))
            return false;
        if (e.type == WAL_ABORTED && crc32c(0, group + at, e.length) != e.batch_crc)
            return false;
        crc = crc32c(crc, &e.crc, sizeof(e.crc));
        at += wal_padded(e.length, WAL_ENTRY_ALIGN);
    }
    return at == h->used && crc == h->entries_crc;
}

static int entries_visit(struct wal_set *w, const uint8_t *group, const struct wal_group_header *h)
{
    uint32_t at = sizeof(*h);
    int error = 0;
    for (uint32_t i = 0; i < h->entries && error == 0; i++) {
        struct wal_entry e;
        memcpy(&e, group + at, sizeof(e));
        at += (uint32_t)sizeof(e);
        error = w->reader->entry(w->reader->context, &e, e.length > 0 ? group + at : NULL);
        at += wal_padded(e.length, WAL_ENTRY_ALIGN);
    }
    w->result->groups++;
    w->result->entries += h->entries;
    w->result->bytes += h->length;
    return error;
}

/* The whole group expected here, or NULL (*error: a read that failed). */
static const uint8_t *set_group(struct wal_set *w, struct wal_group_header *h, int *error)
{
    const uint8_t *group = set_bytes(w, w->position, sizeof(*h), error);
    if (group == NULL)
        return NULL;
    memcpy(h, group, sizeof(*h));
    SOMETIMES_IF(header_sound(w, h) && h->sequence < w->sequence,
                 "groups of before lie behind the end of the WAL");
    if (!header_sound(w, h) || h->sequence != w->sequence || h->previous_crc != w->crc)
        return NULL;
    group = set_bytes(w, w->position, h->length, error);
    bool sound = group != NULL && entries_sound(group, h);
    SOMETIMES_IF(group != NULL && !sound, "a group of the WAL is torn");
    return sound ? group : NULL;
}

/* ---- where it ends --------------------------------------------------------------------------- */

/* The oldest file of several is the one that is begun anew next, when all in it is settled: damage
 * there may come from a first write that was torn, and is no rot. (Were it rot in something that is
 * still needed, the logs would miss it.) */
static bool set_is_oldest(const struct wal_set *w)
{
    return w->at_file == 0 && w->files_count > 1;
}

/* A damaged place of a group, up to where the next one begins. */
struct salvage {
    struct wal_set *set;
    const uint8_t *bytes;
    uint32_t size, at;
    int error;
};

static bool salvage_header(const struct salvage *v, uint32_t at, struct wal_group_header *h)
{
    if (v->size - at < sizeof(*h))
        return false;
    memcpy(h, v->bytes + at, sizeof(*h));
    return header_sound(v->set, h) && h->length <= v->size - at;
}

/* Nothing but padding up to the next group, or the end. */
static bool salvage_group_ends(const struct salvage *v)
{
    struct wal_group_header h;
    uint32_t next = wal_padded(v->at, WAL_BLOCK);
    for (uint32_t i = v->at; i < next && i < v->size; i++)
        if (v->bytes[i] != 0)
            return false;
    return next >= v->size || salvage_header(v, next, &h);
}

/* The entry here, if its header is sound: given, or told to be lost. */
static bool salvage_entry(struct salvage *v, uint32_t end)
{
    const struct wal_reader *reader = v->set->reader;
    struct wal_entry e;
    if (end - v->at < sizeof(e))
        return false;
    memcpy(&e, v->bytes + v->at, sizeof(e));
    uint32_t room = end - v->at - (uint32_t)sizeof(e);
    if (!entry_sound(&e, room))
        return false;
    const uint8_t *bytes = v->bytes + v->at + sizeof(e);
    bool whole = e.type == WAL_BATCH     ? batch_sound(&e, bytes)
                 : e.type == WAL_ABORTED ? crc32c(0, bytes, e.length) == e.batch_crc
                                         : true;
    if (whole)
        v->error = reader->entry(reader->context, &e, e.length > 0 ? bytes : NULL);
    else if (reader->lost != NULL)
        reader->lost(reader->context, &e);
    v->at += (uint32_t)sizeof(e) + wal_padded(e.length, WAL_ENTRY_ALIGN);
    return true;
}

/* One group, sound header or not. */
static void salvage_group(struct salvage *v)
{
    struct wal_group_header h;
    uint32_t begin = v->at;
    bool sound = salvage_header(v, begin, &h);
    uint32_t end = sound ? begin + h.used : v->size, left = sound ? h.entries : UINT32_MAX;
    v->at += (uint32_t)sizeof(h);
    while (v->error == 0 && v->at < end && left > 0) {
        if (!sound && salvage_group_ends(v))
            break;
        left--;
        if (salvage_entry(v, end))
            continue;
        v->set->result->unknown++;
        left = UINT32_MAX; /* how many it was is not known any more */
        do
            v->at += WAL_ENTRY_ALIGN;
        while (v->at < end && !salvage_entry(v, end) && (sound || !salvage_group_ends(v)));
    }
    v->at = sound ? begin + h.length : wal_padded(v->at, WAL_BLOCK);
}

/* What was durable up to `to`, which is in this file: what is whole of it counts. */
static int set_salvage(struct wal_set *w, uint64_t to)
{
    int error = 0;
    assert(to > w->position && to - w->position <= LOOK_BYTES);
    struct salvage v = {.set = w, .size = (uint32_t)(to - w->position)};
    v.bytes = set_bytes(w, w->position, v.size, &error);
    if (v.bytes == NULL)
        return error != 0 ? error : -EIO;
    while (v.at < v.size && v.error == 0)
        salvage_group(&v);
    return v.error;
}

/* Is there, behind damage, a group in this file that left later? Then reading goes on there. */
static bool set_look_ahead(struct wal_set *w, int *error)
{
    uint64_t end = MIN(w->position + LOOK_BYTES, w->files[w->at_file]->header.file_bytes);
    bool torn = false;
    for (uint64_t at = w->position; at + WAL_BLOCK <= end; at += WAL_BLOCK) {
        struct wal_group_header h;
        const uint8_t *bytes = set_bytes(w, at, sizeof(h), error);
        if (bytes == NULL)
            break;
        memcpy(&h, bytes, sizeof(h));
        torn |= (at == w->position && header_meant(w, &h)) ||
                (h.magic == WAL_GROUP_MAGIC && h.sequence >= w->sequence &&
                 h.generation == w->files[0]->header.generation);
        if (!header_sound(w, &h) || h.first_in_flight <= w->sequence)
            continue;
        if (set_is_oldest(w) && h.sequence >= w->files[w->files_count - 1]->header.start_sequence) {
            return false;
        }
        if (!set_is_oldest(w)) {
            w->result->rot++;
            *error = set_salvage(w, at);
        }
        w->position = at;
        w->sequence = h.sequence;
        w->crc = h.previous_crc;
        return *error == 0;
    }
    if (torn && *error == 0 && w->at_file + 1 == w->files_count) {
        SOMETIMES("the last write into the WAL was torn");
        w->result->torn_tails++;
    }
    SOMETIMES("the end of a WAL is looked behind");
    return false;
}

/* Behind the last good group of a file: on in the next one, behind damage, or nowhere. */
static bool set_go_on(struct wal_set *w, int *error)
{
    bool next = w->at_file + 1 < w->files_count;
    if (next) {
        const struct wal_file_header *h = &w->files[w->at_file + 1]->header;
        if (h->start_sequence == w->sequence && h->start_crc == w->crc) {
            SOMETIMES("the WAL is followed into the next file");
            *error = set_open_file(w, w->at_file + 1);
            return *error == 0;
        }
    }
    if (set_look_ahead(w, error))
        return true;
    if (!next || *error != 0)
        return false;
    const struct wal_file_header *h = &w->files[w->at_file + 1]->header;
    /* A later file was begun, so this one had been written further. */
    w->result->rot += set_is_oldest(w) ? 0 : 1;
    w->result->unknown += set_is_oldest(w) ? 0 : 1;
    w->sequence = h->start_sequence;
    w->crc = h->start_crc;
    *error = set_open_file(w, w->at_file + 1);
    return *error == 0;
}

static int found_order(const void *a, const void *b)
{
    const struct wal_found *const *left = a, *const *right = b;
    uint64_t x = (*left)->header.start_sequence, y = (*right)->header.start_sequence;
    return x < y ? -1 : x > y;
}

static void set_gather(struct wal_set *w, uint32_t core)
{
    struct log_dir *d = w->dir;
    uint64_t generation = newest_generation(d, core);
    if (generation_closed(d, core, generation))
        return;
    for (uint32_t i = 0; i < d->wal_found_count; i++) {
        struct wal_found *f = &d->wal_found[i];
        if (f->valid && f->core == core && f->header.generation == generation &&
            set_is_ours(d, f) && w->files_count < WAL_FILES_MAX)
            w->files[w->files_count++] = f;
    }
    if (w->files_count > 1)
        qsort(w->files, w->files_count, sizeof(w->files[0]), found_order);
}

static int set_walk(struct wal_set *w)
{
    int error = set_open_file(w, 0);
    SOMETIMES_IF(w->files[0]->core != w->dir->core->config.core, "the WAL of another core is read");
    w->sequence = w->files[0]->header.start_sequence;
    w->crc = w->files[0]->header.start_crc;
    while (error == 0) {
        struct wal_group_header h;
        const uint8_t *group = set_group(w, &h, &error);
        if (group != NULL) {
            error = entries_visit(w, group, &h);
            w->position += h.length;
            w->sequence++;
            w->crc = h.crc;
        } else if (error != 0 || !set_go_on(w, &error)) {
            break;
        }
    }
    if (w->fd >= 0)
        io_close(w->dir->core->io, w->fd);
    mem_free(w->dir->core->mem, w->window, w->room);
    return error;
}

int wal_scan(struct log_dir *d, const struct wal_reader *reader, struct wal_scan_result *result)
{
    int error = 0;
    assert(reader->entry != NULL);
    *result = (struct wal_scan_result){0};
    for (uint32_t core = 0; core < CORES_MAX && error == 0; core++) {
        struct wal_set w = {.dir = d, .fd = -1, .reader = reader, .result = result};
        set_gather(&w, core);
        if (w.files_count > 0)
            error = set_walk(&w);
    }
    for (uint32_t i = 0; i < d->wal_found_count && error == 0; i++) {
        const struct wal_found *f = &d->wal_found[i];
        bool lost = f->cut && set_is_ours(d, f) &&
                    !generation_closed(d, f->core, newest_generation(d, f->core));
        result->unknown += lost ? 1 : 0;
        result->rot += lost ? 1 : 0;
    }
    return error;
}
