/* Reads every partition in order and holds it against the ledger.
 *
 *   fetch ─▶ batches ─▶ records ─▶ one after the other? ─▶ the producer's next? ─▶ at the offset
 *                                                                                  it was told?
 * There are two: one follows while the broker is killed and started, one reads all at the end and
 * must see what the follower saw: what a consumer has read is never taken back.
 *
 * Invariants
 *  1. Offsets of a partition have no gaps: nothing but our records is in it.
 *  2. Sequences of a producer in a partition count 0, 1, 2 ... */
#include "load.h"

#include <stdlib.h>
#include <string.h>

#include "core/core.h"
#include "core/crc32c.h"

#define FETCH     1
#define ANSWER_NS 30000000000ull
#define PAUSE_NS  3000000ull

/* What stood at an offset. */
struct seen {
    uint32_t crc;
    int32_t sequence;
    uint16_t producer;
};

struct follow {
    int64_t next;
    struct seen *seen; /* the follower's: one per offset */
    size_t seen_capacity;
    int32_t expected[PRODUCERS_MAX];
    uint32_t cursor[PRODUCERS_MAX]; /* into the stream's entries */
    int64_t end;                    /* final: where all that was sent ends */
    bool stuck;
};

struct reader {
    struct load *load;
    struct link link;
    bool final, asked;
    int32_t correlation;
    uint64_t asked_ns, pause_ns, records;
    struct reader *follower; /* of the final reader */
    struct follow parts[PARTITIONS_MAX];
};

/* Where what is acknowledged ends in a partition. */
static int64_t promised_end(const struct load *l, uint32_t partition)
{
    int64_t end = 0;
    for (uint32_t p = 0; p < l->producers_count; p++) {
        const struct stream *s = &l->streams[p][partition];
        for (uint32_t i = 0; i < s->count; i++) {
            const struct entry *e = &s->entries[i];
            if (e->offset >= 0)
                end = MAX(end, e->offset + e->count);
        }
    }
    return end;
}

struct reader *reader_make(struct load *l, struct reader *follower)
{
    struct reader *r = load_grow(NULL, sizeof(*r));
    memset(r, 0, sizeof(*r));
    r->load = l;
    r->final = follower != NULL;
    r->follower = follower;
    link_init(&r->link);
    for (uint32_t i = 0; r->final && i < l->partitions_count; i++) {
        for (uint32_t p = 0; p < l->producers_count; p++)
            r->parts[i].end += l->streams[p][i].next;
        if (l->copy)
            r->parts[i].end = promised_end(l, i);
    }
    return r;
}

struct link *reader_link(struct reader *r)
{
    return &r->link;
}

uint64_t reader_records(const struct reader *r)
{
    return r->records;
}

bool reader_done(const struct reader *r)
{
    for (uint32_t i = 0; i < r->load->partitions_count; i++) {
        if (!r->parts[i].stuck && r->parts[i].next < r->parts[i].end)
            return false;
    }
    return true;
}

/* ---- records --------------------------------------------------------------------------------- */

/* What the follower saw at an offset must be what stands there at the end. */
static void check_seen(struct reader *r, uint32_t partition, int64_t offset, const uint8_t *value,
                       size_t size)
{
    struct view v = {value, size, 0, false};
    struct seen now = {.crc = crc32c(0, value, size), .producer = (uint16_t)view_i16(&v)};
    (void)view_i16(&v);
    now.sequence = view_i32(&v);
    struct follow *f = &(r->final ? r->follower : r)->parts[partition];
    if (r->final) {
        const struct seen *was = &f->seen[offset];
        if (offset < f->next && was->crc != now.crc)
            load_wrong(r->load, WRONG_TAKEN_BACK,
                       "partition=%u offset=%lld: was producer=%u sequence=%d, is producer=%u "
                       "sequence=%d",
                       partition, (long long)offset, was->producer, was->sequence, now.producer,
                       now.sequence);
        return;
    }
    if ((size_t)offset >= f->seen_capacity) {
        f->seen_capacity = (size_t)offset * 2 + 1024;
        f->seen = load_grow(f->seen, f->seen_capacity * sizeof(*f->seen));
    }
    f->seen[offset] = now;
}

/* The record of a sequence stands where the ledger says, if the ledger says anything yet. */
static void check_place(struct reader *r, uint32_t partition, uint32_t producer, int32_t sequence,
                        int64_t offset)
{
    struct load *l = r->load;
    struct stream *s = &l->streams[producer][partition];
    uint32_t *cursor = &r->parts[partition].cursor[producer];
    while (*cursor < s->count &&
           s->entries[*cursor].sequence + s->entries[*cursor].count <= sequence)
        (*cursor)++;
    if (*cursor == s->count)
        return;
    const struct entry *e = &s->entries[*cursor];
    int64_t promised = e->offset + (sequence - e->sequence);
    if (e->offset >= 0 && sequence >= e->sequence && promised != offset)
        load_wrong(l, WRONG_MOVED,
                   "partition=%u producer=%u sequence=%d: acknowledged at %lld, stands at %lld",
                   partition, producer, sequence, (long long)promised, (long long)offset);
}

static void check_value(struct reader *r, uint32_t partition, int64_t offset, const uint8_t *value,
                        size_t size)
{
    struct load *l = r->load;
    struct view v = {value, size, 0, false};
    uint32_t producer = (uint16_t)view_i16(&v), in = (uint16_t)view_i16(&v);
    int32_t sequence = view_i32(&v);
    uint32_t length = (uint32_t)view_i32(&v);
    bool good = !v.bad && producer < l->producers_count && in == partition && length == size;
    for (uint32_t i = VALUE_HEAD; good && i < size; i++)
        good = value[i] == (uint8_t)(sequence + (int32_t)i);
    if (!good) {
        load_wrong(l, WRONG_CORRUPT, "partition=%u offset=%lld: not a record that was sent",
                   partition, (long long)offset);
        return;
    }
    int32_t *expected = &r->parts[partition].expected[producer];
    if (sequence < *expected) {
        load_wrong(l, WRONG_DUPLICATED,
                   "partition=%u offset=%lld producer=%u sequence=%d: again, "
                   "%d was to come",
                   partition, (long long)offset, producer, sequence, *expected);
    } else if (sequence > *expected) {
        load_wrong(l, WRONG_REORDERED,
                   "partition=%u offset=%lld producer=%u sequence=%d: but %d "
                   "was to come",
                   partition, (long long)offset, producer, sequence, *expected);
    }
    check_place(r, partition, producer, sequence, offset);
    if (sequence >= *expected)
        *expected = sequence + 1;
}

static void check_record(struct reader *r, uint32_t partition, int64_t base, struct view *v)
{
    struct follow *f = &r->parts[partition];
    int64_t size = view_varint(v);
    size_t end = v->at + (size_t)size;
    (void)view_i8(v);
    (void)view_varint(v);
    int64_t offset = base + view_varint(v);
    (void)view_varint(v); /* null key */
    int64_t value_size = view_varint(v);
    const uint8_t *value = view_take(v, (size_t)value_size);
    (void)view_varint(v);
    if (v->bad || v->at != end || value == NULL) {
        v->bad = true;
        return;
    }
    if (offset < f->next)
        return; /* the batch began before what we asked for */
    if (offset > f->next)
        load_wrong(r->load, WRONG_LOST, "partition=%u offset=%lld: the record after %lld",
                   partition, (long long)offset, (long long)f->next - 1);
    check_seen(r, partition, offset, value, (size_t)value_size);
    f->next = offset + 1;
    r->records++;
    check_value(r, partition, offset, value, (size_t)value_size);
}

/* Whole batches; the last one may be cut short. */
static void check_batches(struct reader *r, uint32_t partition, const uint8_t *data, size_t size)
{
    struct view v = {data, size, 0, false};
    while (size - v.at >= BATCH_HEAD) {
        size_t start = v.at;
        int64_t base = view_i64(&v);
        uint32_t length = (uint32_t)view_i32(&v);
        if (length > size - v.at)
            return;
        struct view head = {data + start + 16, BATCH_HEAD - 16, 0, false};
        struct view records = {data, start + 12 + length, start + BATCH_HEAD, length < 49};
        int8_t magic = view_i8(&head);
        uint32_t crc = (uint32_t)view_i32(&head);
        (void)view_take(&head, 2 + 4 + 8 + 8 + 8 + 2 + 4);
        int32_t count = view_i32(&head);
        bool good = magic == 2 && length >= 49 && crc == crc32c(0, data + start + 21, length - 9);
        for (int32_t i = 0; good && i < count && !records.bad; i++)
            check_record(r, partition, base, &records);
        if (!good || records.bad || records.at != records.size) {
            load_wrong(r->load, WRONG_CORRUPT, "partition=%u offset=%lld: not a batch", partition,
                       (long long)base);
            r->parts[partition].stuck = true;
            return;
        }
        v.at = start + 12 + length;
    }
}

/* ---- fetches --------------------------------------------------------------------------------- */

static void reader_ask(struct reader *r)
{
    struct load *l = r->load;
    struct bytes b = {0};
    bytes_begin(&b, FETCH, 11, ++r->correlation);
    bytes_i32(&b, -1);
    bytes_i32(&b, r->final ? 0 : 20); /* wait */
    bytes_i32(&b, 1);
    bytes_i32(&b, 16 << 20);
    bytes_i8(&b, 0);
    bytes_i32(&b, 0); /* no session */
    bytes_i32(&b, -1);
    bytes_i32(&b, 1);
    bytes_string(&b, l->topic);
    bytes_i32(&b, (int32_t)l->partitions_count);
    for (uint32_t i = 0; i < l->partitions_count; i++) {
        uint32_t p = (i + (uint32_t)r->correlation) % l->partitions_count;
        bytes_i32(&b, (int32_t)p);
        bytes_i32(&b, -1);
        bytes_i64(&b, r->parts[p].next);
        bytes_i64(&b, -1);
        bytes_i32(&b, r->final ? 4 << 20 : 1 << 16);
    }
    bytes_i32(&b, 0);
    bytes_string(&b, "");
    bytes_end(&b);
    link_put(&r->link, b.data, b.size);
    free(b.data);
    r->asked = true;
    r->asked_ns = load_now_ns();
}

void reader_turn(struct reader *r)
{
    uint64_t now = load_now_ns();
    if (r->link.fd < 0 && !link_open(&r->link, r->load))
        return;
    if (r->asked && now - r->asked_ns > ANSWER_NS) {
        load_wrong(r->load, WRONG_ANSWER, "reader: no answer to a fetch");
        reader_lost(r);
        return;
    }
    if (!r->asked && now >= r->pause_ns)
        reader_ask(r);
    if (!link_write(&r->link))
        reader_lost(r);
}

void reader_lost(struct reader *r)
{
    link_close(&r->link);
    r->asked = false;
}

static void reader_refused(struct reader *r, uint32_t partition, int16_t error)
{
    struct follow *f = &r->parts[partition];
    r->load->refused++;
    r->pause_ns = load_now_ns() + PAUSE_NS;
    if (error == 1 && !f->stuck) { /* OFFSET_OUT_OF_RANGE: what was there is not any more */
        load_wrong(r->load, r->final ? WRONG_LOST : WRONG_TAKEN_BACK,
                   "partition=%u offset=%lld: out of range", partition, (long long)f->next);
        f->stuck = true;
    }
    if (error == 2 && !f->stuck) {
        load_wrong(r->load, WRONG_CORRUPT, "partition=%u offset=%lld: the broker calls it corrupt",
                   partition, (long long)f->next);
        f->stuck = true;
    }
}

static void reader_partition(struct reader *r, struct view *v)
{
    uint32_t partition = (uint32_t)view_i32(v);
    int16_t error = view_i16(v);
    int64_t high = view_i64(v);
    (void)view_take(v, 16);
    int32_t aborted = view_i32(v);
    (void)view_i32(v);
    int32_t size = view_i32(v);
    const uint8_t *data = view_take(v, (size_t)MAX(size, 0));
    if (v->bad || aborted > 0 || partition >= r->load->partitions_count) {
        v->bad = true;
        return;
    }
    struct follow *f = &r->parts[partition];
    if (error != 0) {
        reader_refused(r, partition, error);
        return;
    }
    int64_t before = f->next;
    if (!f->stuck)
        check_batches(r, partition, data, (size_t)MAX(size, 0));
    if (r->final && f->next == before && high <= f->next && f->next < f->end && !f->stuck) {
        load_wrong(r->load, WRONG_LOST, "partition=%u offset=%lld: it ends here, %lld were sent",
                   partition, (long long)high, (long long)f->end);
        f->stuck = true;
    }
}

void reader_read(struct reader *r)
{
    if (!link_read(&r->link)) {
        reader_lost(r);
        return;
    }
    uint32_t size;
    const uint8_t *frame = link_frame(&r->link, &size);
    if (frame == NULL)
        return;
    uint64_t before = r->records;
    struct view v = {frame, size, 0, false};
    (void)view_i32(&v); /* correlation */
    (void)view_i32(&v); /* throttle */
    int16_t error = view_i16(&v);
    (void)view_i32(&v);
    int32_t topics = view_i32(&v);
    view_skip_string(&v);
    int32_t count = view_i32(&v);
    for (int32_t i = 0; i < count && !v.bad; i++)
        reader_partition(r, &v);
    if (v.bad || error != 0 || topics != 1)
        load_wrong(r->load, WRONG_ANSWER, "reader: a fetch answer that is none, error %d", error);
    load_answered(r->load, r->asked_ns);
    r->asked = false;
    if (r->records == before)
        r->pause_ns = load_now_ns() + PAUSE_NS;
    if (!r->final)
        r->load->tail_records += r->records - before;
}
