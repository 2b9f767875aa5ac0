/* The offset index and the time index of a segment, Kafka's files:
 *
 *   .index      8 bytes   relative offset i32 of a batch's last record │ position i32 of that batch
 *   .timeindex 12 bytes   timestamp i64 │ relative offset i32: the largest so far, and where
 *
 * Both get an entry for a batch when more than index.interval.bytes came since the last one; the
 * time index only if its timestamp grew. They are appended to as the segment is, never
 * preallocated; files of an unclean Kafka have a tail of zeros, which is cut.
 *
 * Invariant: an index is a hint. What it says is compared with the batch it points at, and an index
 * that lies costs time, never a wrong answer. So nothing here asserts what a file holds. */
#include "broker/log/index.h"

#include <errno.h>
#include <string.h>

#define PROBES_MAX 40u /* bisection of at most 2^32 entries, with room */

void index_cursor_init(struct index_cursor *c)
{
    *c = (struct index_cursor){.max_timestamp = NO_TIMESTAMP,
                               .max_timestamp_offset = NO_OFFSET,
                               .last_time = NO_TIMESTAMP};
}

bool index_due(const struct index_cursor *c, int32_t interval_bytes)
{
    return c->since > (uint32_t)MAX(interval_bytes, 0);
}

bool index_advance(struct index_cursor *c, bool indexed, uint32_t size, int64_t last_offset,
                   int64_t max_timestamp)
{
    bool timed = false;
    if (max_timestamp > c->max_timestamp) {
        c->max_timestamp = max_timestamp;
        c->max_timestamp_offset = last_offset;
    }
    if (indexed) {
        c->entries++;
        timed = c->max_timestamp > c->last_time;
        c->since = 0;
    }
    if (timed) {
        c->times++;
        c->last_time = c->max_timestamp;
    }
    c->since += size;
    return timed;
}

uint32_t index_entries_max(int32_t index_bytes)
{
    return (uint32_t)MAX(index_bytes, 0) / INDEX_ENTRY_SIZE;
}

uint32_t time_entries_max(int32_t index_bytes)
{
    return (uint32_t)MAX(index_bytes, 0) / TIME_ENTRY_SIZE;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void put32(uint8_t *to, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(to, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    return __builtin_bswap32(value);
}

void index_put(uint8_t *to, int64_t segment_base, struct index_entry e)
{
    assert(e.offset >= segment_base);
    assert(e.offset - segment_base <= INT32_MAX);
    put32(to, (uint32_t)(e.offset - segment_base));
    put32(to + 4, e.position);
}

struct index_entry index_get(const uint8_t *from, int64_t segment_base)
{
    return (struct index_entry){segment_base + get32(from), get32(from + 4)};
}

void time_put(uint8_t *to, int64_t segment_base, struct time_entry e)
{
    assert(e.offset >= segment_base);
    assert(e.offset - segment_base <= INT32_MAX);
    uint64_t timestamp = (uint64_t)e.timestamp;
    put32(to, (uint32_t)(timestamp >> 32));
    put32(to + 4, (uint32_t)timestamp);
    put32(to + 8, (uint32_t)(e.offset - segment_base));
}

struct time_entry time_get(const uint8_t *from, int64_t segment_base)
{
    uint64_t timestamp = (uint64_t)get32(from) << 32 | get32(from + 4);
    return (struct time_entry){(int64_t)timestamp, segment_base + get32(from + 8)};
}

/* ---- files ----------------------------------------------------------------------------------- */

static int entry_read(struct io *io, int fd, uint32_t index, uint32_t entry_size, uint8_t *entry)
{
    int64_t got = io_pread(io, fd, entry, entry_size, (uint64_t)index * entry_size);
    if (got < 0)
        return (int)got;
    return got == entry_size ? 0 : -EIO;
}

/* A real entry: an index entry of a batch that is not the segment's first (relative offset and
 * position above 0), a time entry with a timestamp. */
static bool entry_real(const uint8_t *entry, uint32_t entry_size)
{
    if (entry_size == INDEX_ENTRY_SIZE)
        return get32(entry) > 0 && get32(entry) <= INT32_MAX && get32(entry + 4) > 0;
    return (get32(entry) | get32(entry + 4)) != 0 && get32(entry + 8) <= INT32_MAX;
}

/* Real entries come first, so where zeros begin can be bisected; checked at the end first, because
 * a file that was closed well has none. */
static int entries_measure(struct io *io, int fd, uint32_t entry_size, uint32_t *entries,
                           uint8_t *last)
{
    struct io_stat st;
    int error = io_fstat(io, fd, &st);
    if (error != 0)
        return error;
    uint32_t low = 0, high = (uint32_t)MIN(st.size / entry_size, (uint64_t)INT32_MAX);
    uint32_t middle = high; /* looks at entry middle - 1 */
    uint8_t entry[TIME_ENTRY_SIZE];
    for (uint32_t i = 0; i < PROBES_MAX && low < high; i++) {
        error = entry_read(io, fd, middle - 1, entry_size, entry);
        if (error != 0)
            return error;
        if (entry_real(entry, entry_size)) {
            low = middle;
            memcpy(last, entry, entry_size);
        } else {
            high = middle - 1;
        }
        middle = low + (high - low + 1) / 2;
    }
    *entries = low;
    return 0;
}

int index_measure(struct io *io, int fd, int64_t segment_base, uint32_t *entries,
                  struct index_entry *last)
{
    uint8_t entry[INDEX_ENTRY_SIZE] = {0};
    int error = entries_measure(io, fd, INDEX_ENTRY_SIZE, entries, entry);
    *last = index_get(entry, segment_base);
    return error;
}

int time_measure(struct io *io, int fd, int64_t segment_base, uint32_t *entries,
                 struct time_entry *last)
{
    uint8_t entry[TIME_ENTRY_SIZE] = {0};
    int error = entries_measure(io, fd, TIME_ENTRY_SIZE, entries, entry);
    *last = *entries > 0 ? time_get(entry, segment_base)
                         : (struct time_entry){NO_TIMESTAMP, segment_base};
    return error;
}

int index_count_below(struct io *io, int fd, int64_t segment_base, uint32_t entries,
                      uint32_t position, uint32_t *count, struct index_entry *last)
{
    uint32_t low = 0, high = entries;
    uint8_t entry[INDEX_ENTRY_SIZE];
    *last = (struct index_entry){segment_base, 0};
    for (uint32_t i = 0; i < PROBES_MAX && low < high; i++) {
        /* The answer is nearly always the last entry: look there first. */
        uint32_t middle = i == 0 ? high - 1 : low + (high - low) / 2;
        int error = entry_read(io, fd, middle, INDEX_ENTRY_SIZE, entry);
        if (error != 0)
            return error;
        struct index_entry e = index_get(entry, segment_base);
        if (e.position < position) {
            low = middle + 1;
            *last = e;
        } else {
            high = middle;
        }
    }
    *count = low;
    return 0;
}

int time_count_below(struct io *io, int fd, int64_t segment_base, uint32_t entries, int64_t offset,
                     uint32_t *count, struct time_entry *last)
{
    uint32_t low = 0, high = entries;
    uint8_t entry[TIME_ENTRY_SIZE];
    *last = (struct time_entry){NO_TIMESTAMP, segment_base};
    for (uint32_t i = 0; i < PROBES_MAX && low < high; i++) {
        uint32_t middle = i == 0 ? high - 1 : low + (high - low) / 2;
        int error = entry_read(io, fd, middle, TIME_ENTRY_SIZE, entry);
        if (error != 0)
            return error;
        struct time_entry e = time_get(entry, segment_base);
        if (e.offset < offset) {
            low = middle + 1;
            *last = e;
        } else {
            high = middle;
        }
    }
    *count = low;
    return 0;
}

int index_lookup(struct io *io, int fd, int64_t segment_base, uint32_t entries, int64_t offset,
                 struct index_entry *found)
{
    uint32_t low = 0, high = entries; /* the first entry above offset is in [low, high] */
    uint8_t entry[INDEX_ENTRY_SIZE];
    *found = (struct index_entry){segment_base, 0};
    for (uint32_t i = 0; i < PROBES_MAX && low < high; i++) {
        uint32_t middle = low + (high - low) / 2;
        int error = entry_read(io, fd, middle, INDEX_ENTRY_SIZE, entry);
        if (error != 0)
            return error;
        struct index_entry e = index_get(entry, segment_base);
        if (e.offset <= offset) {
            low = middle + 1;
            *found = e;
        } else {
            high = middle;
        }
    }
    return 0;
}

int time_lookup(struct io *io, int fd, int64_t segment_base, uint32_t entries, int64_t timestamp,
                struct time_entry *found)
{
    uint32_t low = 0, high = entries;
    uint8_t entry[TIME_ENTRY_SIZE];
    *found = (struct time_entry){NO_TIMESTAMP, segment_base};
    for (uint32_t i = 0; i < PROBES_MAX && low < high; i++) {
        uint32_t middle = low + (high - low) / 2;
        int error = entry_read(io, fd, middle, TIME_ENTRY_SIZE, entry);
        if (error != 0)
            return error;
        struct time_entry e = time_get(entry, segment_base);
        if (e.timestamp <= timestamp) {
            low = middle + 1;
            *found = e;
        } else {
            high = middle;
        }
    }
    return 0;
}
