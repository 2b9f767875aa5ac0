/* Which transactions of a partition were aborted, for consumers that read committed records only.
 *
 *   abort marker ─▶ in memory ─ its batch goes to a segment ─▶ <base>.txnindex of that segment
 *
 *   .txnindex   34 bytes each, big-endian: version i16 = 0 │ producer id i64 │ first offset i64 │
 *               last offset i64 (the marker's) │ last stable offset i64 after the marker
 *
 * Kafka's file: made when there is a first entry, appended to, never preallocated. A marker's entry
 * is in the segment that holds the marker; the transaction may have begun in an earlier one. So a
 * reader looks through segments from the one he reads in, until an entry says that at its time
 * everything up to the end of what he reads was decided.
 *
 * Invariants
 *  1. Entries ascend in last offset, in a file, over files, and from files to memory.
 *  2. An entry of a marker in the WAL is in the WAL too (WAL_ABORTED), in the same group: replay
 *     cuts the files where the WAL begins and adds what the WAL says.
 *  3. Where a segment is scanned instead, its entries are made anew from the markers.
 *
 * Failure: a file that cannot be read fails the fetch, as KAFKA_STORAGE_ERROR; entries that make no
 * sense end the file. */
#include "broker/log/txn_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/segment.h"
#include "core/lab.h"

#define ENTRY_VERSION 0
#define ENTRIES_READ  120u /* in one piece: 4080 bytes */
#define PENDING_MIN   8u
#define COLLECT_MIN   8u
#define BISECT_PROBES 40u

struct txn_index { /* those in memory only */
    struct aborted_txn *entries;
    uint32_t count, room;
    int64_t last_offset; /* of the newest known, here or written */
};

/* ---- bytes ----------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *to, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    return to + size;
}

static int64_t get(const uint8_t **at)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < 8; i++)
        value = value << 8 | *(*at)++;
    return (int64_t)value;
}

void txn_index_put(uint8_t *to, const struct aborted_txn *t)
{
    assert(t->first_offset >= 0 && t->last_offset >= t->first_offset);
    to = put(to, ENTRY_VERSION, 2);
    to = put(to, (uint64_t)t->producer_id, 8);
    to = put(to, (uint64_t)t->first_offset, 8);
    to = put(to, (uint64_t)t->last_offset, 8);
    (void)put(to, (uint64_t)t->stable_offset, 8);
}

bool txn_index_get(const uint8_t *from, struct aborted_txn *t)
{
    const uint8_t *at = from + 2;
    bool version = from[0] == 0 && from[1] == ENTRY_VERSION;
    t->producer_id = get(&at);
    t->first_offset = get(&at);
    t->last_offset = get(&at);
    t->stable_offset = get(&at);
    return version && t->producer_id >= 0 && t->first_offset >= 0 &&
           t->last_offset > t->first_offset;
}

/* ---- in memory ------------------------------------------------------------------------------- */

bool txn_index_reserve(struct log *l)
{
    struct mem *mem = l->core->mem;
    if (l->aborted == NULL) {
        l->aborted = mem_zalloc(mem, sizeof(*l->aborted));
        if (l->aborted == NULL)
            return false;
        l->aborted->last_offset = NO_OFFSET;
    }
    struct txn_index *x = l->aborted;
    if (x->count < x->room)
        return true;
    uint32_t room = MAX(x->room * 2, PENDING_MIN);
    struct aborted_txn *grown =
        mem_realloc(mem, x->entries, x->room * sizeof(*x->entries), room * sizeof(*x->entries));
    if (grown == NULL)
        return false;
    x->entries = grown;
    x->room = room;
    return true;
}

void txn_index_add(struct log *l, const struct aborted_txn *t)
{
    struct txn_index *x = l->aborted;
    assert(x != NULL && x->count < x->room);
    if (t->last_offset <= x->last_offset)
        return;
    x->entries[x->count++] = *t;
    x->last_offset = t->last_offset;
}

void txn_index_free(struct log *l)
{
    if (l->aborted == NULL)
        return;
    mem_free(l->core->mem, l->aborted->entries, l->aborted->room * sizeof(struct aborted_txn));
    mem_free(l->core->mem, l->aborted, sizeof(*l->aborted));
    l->aborted = NULL;
}

static void pending_drop(struct txn_index *x, uint32_t count)
{
    assert(count <= x->count);
    x->count -= count;
    memmove(x->entries, x->entries + count, x->count * sizeof(*x->entries));
}

/* ---- the file -------------------------------------------------------------------------------- */

static int entries_read(struct log *l, struct segment *s, uint32_t from, uint32_t count,
                        uint8_t *bytes)
{
    int fd = segment_fd(l, s, FILE_TXN);
    if (fd < 0)
        return fd;
    int64_t size = (int64_t)count * TXN_INDEX_ENTRY_SIZE;
    int64_t got =
        io_pread(l->core->io, fd, bytes, (size_t)size, (uint64_t)from * TXN_INDEX_ENTRY_SIZE);
    if (got < 0)
        return (int)got;
    return got == size ? 0 : -EIO;
}

/* How many entries the file has, when first needed. The caller uses the segment. */
static int file_measure(struct log *l, struct segment *s)
{
    struct io_stat st;
    struct aborted_txn last;
    uint8_t bytes[TXN_INDEX_ENTRY_SIZE];
    if (!s->aborted_found)
        return 0;
    int fd = segment_fd(l, s, FILE_TXN);
    int error = fd < 0 ? fd : io_fstat(l->core->io, fd, &st);
    if (error != 0)
        return error;
    s->aborted = (uint32_t)MIN(st.size / TXN_INDEX_ENTRY_SIZE, (uint64_t)INT32_MAX);
    if (s->aborted > 0)
        error = entries_read(l, s, s->aborted - 1, 1, bytes);
    if (error != 0)
        return error;
    s->aborted_last = s->aborted > 0 && txn_index_get(bytes, &last) ? last.last_offset : INT64_MAX;
    s->aborted_found = false;
    return 0;
}

int txn_index_write(struct log *l, struct segment *s, int64_t below)
{
    struct txn_index *x = l->aborted;
    uint32_t count = 0;
    while (x != NULL && count < x->count && x->entries[count].last_offset < below)
        count++;
    if (count == 0)
        return 0;
    uint8_t *bytes = mem_alloc(l->core->mem, count * TXN_INDEX_ENTRY_SIZE);
    if (bytes == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        txn_index_put(bytes + i * TXN_INDEX_ENTRY_SIZE, &x->entries[i]);
    segment_use(s);
    int error = file_measure(l, s);
    int fd = error != 0 ? error : segment_fd(l, s, FILE_TXN);
    int64_t size = (int64_t)count * TXN_INDEX_ENTRY_SIZE;
    int64_t done = fd < 0 ? fd
                          : io_pwrite(l->core->io, fd, bytes, (size_t)size,
                                      (uint64_t)s->aborted * TXN_INDEX_ENTRY_SIZE);
    segment_unuse(l, s);
    mem_free(l->core->mem, bytes, count * TXN_INDEX_ENTRY_SIZE);
    if (done != size)
        return done < 0 ? (int)done : -EIO;
    l->folder_dirty |= s->aborted == 0; /* it has come to be */
    s->aborted += count;
    s->aborted_last = x->entries[count - 1].last_offset;
    s->aborted_unsynced = true;
    s->synced = false;
    pending_drop(x, count);
    return 0;
}

/* The first entry with a last offset that is not below. The segment is measured and in use. */
static int entries_find(struct log *l, struct segment *s, int64_t offset, uint32_t *found)
{
    uint32_t low = 0, high = s->aborted;
    uint8_t bytes[TXN_INDEX_ENTRY_SIZE];
    struct aborted_txn t;
    for (uint32_t i = 0; i < BISECT_PROBES && low < high; i++) {
        uint32_t middle = low + (high - low) / 2;
        int error = entries_read(l, s, middle, 1, bytes);
        if (error != 0)
            return error;
        if (txn_index_get(bytes, &t) && t.last_offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low;
    return 0;
}

int txn_index_truncate(struct log *l, struct segment *s, int64_t offset)
{
    uint32_t keep = 0;
    struct txn_index *x = l->aborted;
    while (x != NULL && x->count > 0 && x->entries[x->count - 1].last_offset >= offset)
        x->count--;
    if (x != NULL)
        x->last_offset = MIN(x->last_offset, offset - 1);
    SOMETIMES_IF(s->aborted_found || s->aborted > 0,
                 "aborted transactions that were not promised go");
    if (!s->aborted_found && s->aborted == 0)
        return 0;
    segment_use(s);
    int error = file_measure(l, s);
    if (error == 0)
        error = entries_find(l, s, offset, &keep);
    int fd = error != 0 ? error : segment_fd(l, s, FILE_TXN);
    if (fd >= 0)
        error = io_truncate(l->core->io, fd, (uint64_t)keep * TXN_INDEX_ENTRY_SIZE);
    segment_unuse(l, s);
    if (fd < 0 || error != 0)
        return fd < 0 ? fd : error;
    s->aborted = keep;
    s->aborted_last = keep == 0 ? NO_OFFSET : offset - 1;
    s->aborted_unsynced = true;
    return 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

struct collect {
    struct log *log;
    int64_t from, upper;
    struct log_aborted_list *list;
    enum kafka_error error;
    bool over; /* what follows cannot matter */
};

static bool list_grow(struct mem *mem, struct log_aborted_list *list)
{
    uint32_t room = MAX(list->room * 2, COLLECT_MIN);
    struct log_aborted *grown =
        mem_realloc(mem, list->entries, list->room * sizeof(*grown), room * sizeof(*grown));
    if (grown == NULL)
        return false;
    list->entries = grown;
    list->room = room;
    return true;
}

static void collect_one(struct collect *k, const struct aborted_txn *t)
{
    struct log_aborted_list *list = k->list;
    k->over = t->stable_offset >= k->upper;
    if (t->last_offset < k->from || t->first_offset >= k->upper)
        return;
    if (list->count == list->room && !list_grow(k->log->core->mem, list)) {
        k->error = KE_KAFKA_STORAGE_ERROR;
        k->over = true;
        return;
    }
    list->entries[list->count++] = (struct log_aborted){t->producer_id, t->first_offset};
}

static int collect_file(struct collect *k, struct segment *s)
{
    uint8_t bytes[ENTRIES_READ * TXN_INDEX_ENTRY_SIZE];
    uint32_t at = 0;
    struct aborted_txn t;
    int error = file_measure(k->log, s);
    if (error != 0 || s->aborted == 0 || s->aborted_last < k->from)
        return error;
    error = entries_find(k->log, s, k->from, &at);
    SOMETIMES("aborted transactions are read from a file");
    while (error == 0 && !k->over && at < s->aborted) {
        uint32_t count = MIN(ENTRIES_READ, s->aborted - at);
        error = entries_read(k->log, s, at, count, bytes);
        for (uint32_t i = 0; i < count && error == 0 && !k->over; i++) {
            if (!txn_index_get(bytes + i * TXN_INDEX_ENTRY_SIZE, &t))
                return 0;
            collect_one(k, &t);
        }
        at += count;
    }
    return error;
}

static int aborted_order(const void *a, const void *b)
{
    const struct log_aborted *left = a, *right = b;
    return left->first_offset < right->first_offset ? -1 : left->first_offset > right->first_offset;
}

enum kafka_error log_collect_aborted(struct log *l, int64_t from, int64_t upper,
                                     struct log_aborted_list *list)
{
    struct collect k = {.log = l, .from = from, .upper = upper, .list = list};
    assert(from <= upper);
    list->count = 0;
    if (DEFECT(5))
        return KE_NONE;
    for (uint32_t i = segment_find(l, from); i < l->segments_count && !k.over; i++) {
        struct segment *s = l->segments[i];
        if (!s->aborted_found && s->aborted == 0)
            continue;
        segment_use(s);
        int error = collect_file(&k, s);
        segment_unuse(l, s);
        if (error != 0)
            return KE_KAFKA_STORAGE_ERROR;
    }
    for (uint32_t i = 0; l->aborted != NULL && i < l->aborted->count && !k.over; i++)
        collect_one(&k, &l->aborted->entries[i]);
    if (list->count > 1)
        qsort(list->entries, list->count, sizeof(*list->entries), aborted_order);
    return k.error;
}

void log_aborted_list_free(struct log_core *c, struct log_aborted_list *list)
{
    mem_free(c->mem, list->entries, list->room * sizeof(*list->entries));
    *list = (struct log_aborted_list){0};
}

static int all_add(struct mem *mem, struct aborted_txn **entries, uint32_t *count, uint32_t *room,
                   const struct aborted_txn *t)
{
    if (*count == *room) {
        uint32_t more = MAX(*room * 2, COLLECT_MIN);
        struct aborted_txn *grown =
            mem_realloc(mem, *entries, *room * sizeof(*grown), more * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        *entries = grown;
        *room = more;
    }
    (*entries)[(*count)++] = *t;
    return 0;
}

static int all_of_segment(struct log *l, struct segment *s, struct aborted_txn **entries,
                          uint32_t *count, uint32_t *room)
{
    uint8_t bytes[ENTRIES_READ * TXN_INDEX_ENTRY_SIZE];
    struct aborted_txn t;
    int error = file_measure(l, s);
    for (uint32_t at = 0; at < s->aborted && error == 0; at += ENTRIES_READ) {
        uint32_t some = MIN(ENTRIES_READ, s->aborted - at);
        error = entries_read(l, s, at, some, bytes);
        for (uint32_t i = 0; i < some && error == 0; i++) {
            if (!txn_index_get(bytes + i * TXN_INDEX_ENTRY_SIZE, &t))
                return 0;
            error = all_add(l->core->mem, entries, count, room, &t);
        }
    }
    return error;
}

int txn_index_all(struct log *l, struct aborted_txn **entries, uint32_t *count, uint32_t *room)
{
    const struct txn_index *x = l->aborted;
    int error = 0;
    assert(*count == 0);
    for (uint32_t i = 0; i < l->segments_count && error == 0; i++) {
        struct segment *s = l->segments[i];
        if (!s->aborted_found && s->aborted == 0)
            continue;
        segment_use(s);
        error = all_of_segment(l, s, entries, count, room);
        segment_unuse(l, s);
    }
    for (uint32_t i = 0; x != NULL && i < x->count && error == 0; i++)
        error = all_add(l->core->mem, entries, count, room, &x->entries[i]);
    return error;
}
