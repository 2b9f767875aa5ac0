/* An idempotent producer, acks=all, that repeats what was not answered until it is.
 *
 *   new ─▶ unanswered (5 requests, oldest first) ──answer──▶ ledger
 *             │  connection lost: all of them again, the same bytes, in order
 *             └─ refused with an error worth repeating ─▶ again (batches) ─▶ new requests, in order
 *
 * Invariants
 *  1. Batches of a partition are sent in order of sequence, and repeated in that order; a producer
 *     with something in `again` sends nothing new.
 *  2. A batch is repeated with the same bytes; the broker tells it from a new one by its sequence.
 *  3. After a reconnect the last request that was answered is now and then sent once more: its
 *     batches are among the last five, so it must be answered with the same offsets. */
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/core.h"
#include "core/crc32c.h"

#define PRODUCE          0
#define INIT_PRODUCER_ID 22
#define ANSWER_NS        30000000000ull
#define AGAIN_NS         2000000ull

struct part {
    uint32_t partition, entry;
    struct bytes batch;
};

struct request {
    struct bytes frame;
    int32_t correlation;
    uint64_t sent_ns;
    uint32_t parts_count;
    bool probe; /* answered before: see invariant 3 */
    struct part parts[PARTITIONS_MAX];
};

struct producer {
    struct load *load;
    uint32_t number;
    struct link link;
    int64_t id;
    int16_t epoch;
    int32_t correlation, asked_id;             /* asked_id: correlation of the question for an id */
    struct request *unanswered[IN_FLIGHT + 1]; /* and one probe */
    uint32_t unanswered_count;
    struct request *last; /* answered in full */
    struct part again[IN_FLIGHT * PARTITIONS_MAX];
    uint32_t again_count;
    uint64_t heard_ns, again_ns;
};

/* UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
 * REPLICA_NOT_AVAILABLE, KAFKA_STORAGE_ERROR */
static const int16_t worth_repeating[] = {3, 5, 6, 7, 9, 56};

struct producer *producer_make(struct load *l, uint32_t number)
{
    struct producer *p = load_grow(NULL, sizeof(*p));
    memset(p, 0, sizeof(*p));
    p->load = l;
    p->number = number;
    p->id = -1;
    link_init(&p->link);
    return p;
}

struct link *producer_link(struct producer *p)
{
    return &p->link;
}

bool producer_idle(const struct producer *p)
{
    return p->unanswered_count == 0 && p->again_count == 0;
}

/* ---- batches --------------------------------------------------------------------------------- */

static uint32_t value_size(struct load *l, uint32_t style)
{
    static const uint32_t most[] = {40, 400, 4000, 1};
    uint32_t size = VALUE_HEAD + load_random(l, most[style % 4]);
    if (load_random(l, 400) == 0)
        size += load_random(l, l->batch_max); /* a large one, now and then */
    return size;
}

static void put_record(struct bytes *b, struct producer *p, uint32_t partition, int32_t delta,
                       int32_t sequence, uint32_t size)
{
    struct bytes body = {0}, value = {0};
    bytes_i16(&value, (int16_t)p->number);
    bytes_i16(&value, (int16_t)partition);
    bytes_i32(&value, sequence);
    bytes_i32(&value, (int32_t)size);
    for (uint32_t i = VALUE_HEAD; i < size; i++)
        bytes_i8(&value, (int8_t)(sequence + (int32_t)i));
    bytes_i8(&body, 0);
    bytes_varint(&body, 0); /* time */
    bytes_varint(&body, delta);
    bytes_varint(&body, -1); /* no key */
    bytes_varint(&body, (int64_t)value.size);
    bytes_put(&body, value.data, value.size);
    bytes_varint(&body, 0); /* no headers */
    bytes_varint(b, (int64_t)body.size);
    bytes_put(b, body.data, body.size);
    free(body.data);
    free(value.data);
}

static void make_batch(struct producer *p, uint32_t partition, struct part *part)
{
    struct load *l = p->load;
    struct stream *s = &l->streams[p->number][partition];
    int32_t wanted = 1 + (int32_t)load_random(l, load_random(l, 10) == 0 ? 30 : 4), count = 0;
    struct bytes *b = &part->batch;
    *b = (struct bytes){0};
    bytes_i64(b, 0); /* base offset */
    bytes_i32(b, 0); /* length, below */
    bytes_i32(b, -1);
    bytes_i8(b, 2);
    bytes_i32(b, 0);                          /* checksum, below */
    bytes_i16(b, 0);                          /* attributes */
    bytes_i32(b, 0);                          /* last offset delta, below */
    int64_t now = (int64_t)time(NULL) * 1000; /* older ones would fall to retention */
    bytes_i64(b, now);
    bytes_i64(b, now);
    bytes_i64(b, p->id);
    bytes_i16(b, p->epoch);
    bytes_i32(b, s->next);
    bytes_i32(b, 0); /* records, below */
    for (; count < wanted && b->size < l->batch_max; count++)
        put_record(b, p, partition, count, s->next + count, value_size(l, p->number));
    bytes_set_i32(b, 23, count - 1);
    bytes_set_i32(b, 57, count);
    bytes_set_i32(b, 8, (int32_t)b->size - 12);
    bytes_set_i32(b, 17, (int32_t)crc32c(0, b->data + 21, b->size - 21));
    if (s->count == s->capacity) {
        s->capacity = s->capacity * 2 + 1024;
        s->entries = load_grow(s->entries, s->capacity * sizeof(*s->entries));
    }
    part->partition = partition;
    part->entry = s->count;
    s->entries[s->count++] = (struct entry){s->next, count, -1};
    s->next += count;
    l->records_sent += (uint64_t)count;
    l->bytes_sent += b->size;
    l->budget -= (int64_t)b->size;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void request_free(struct request *r)
{
    if (r == NULL)
        return;
    for (uint32_t i = 0; i < r->parts_count; i++)
        free(r->parts[i].batch.data);
    free(r->frame.data);
    free(r);
}

static void request_encode(struct producer *p, struct request *r)
{
    struct bytes *b = &r->frame;
    r->correlation = ++p->correlation;
    bytes_begin(b, PRODUCE, 7, r->correlation);
    bytes_string(b, NULL);
    bytes_i16(b, -1);
    bytes_i32(b, 30000);
    bytes_i32(b, 1);
    bytes_string(b, p->load->topic);
    bytes_i32(b, (int32_t)r->parts_count);
    for (uint32_t i = 0; i < r->parts_count; i++) {
        bytes_i32(b, (int32_t)r->parts[i].partition);
        bytes_i32(b, (int32_t)r->parts[i].batch.size);
        bytes_put(b, r->parts[i].batch.data, r->parts[i].batch.size);
    }
    bytes_end(b);
}

static void producer_send(struct producer *p, struct request *r)
{
    if (p->unanswered_count == 0)
        p->heard_ns = load_now_ns();
    p->unanswered[p->unanswered_count++] = r;
    r->sent_ns = load_now_ns();
    link_put(&p->link, r->frame.data, r->frame.size);
}

static struct request *request_make(void)
{
    struct request *r = load_grow(NULL, sizeof(*r));
    memset(r, 0, sizeof(*r));
    return r;
}

/* New batches for some of the partitions; NULL if none of them works any more. */
static struct request *request_new(struct producer *p)
{
    struct load *l = p->load;
    struct request *r = request_make();
    uint32_t wanted = 1 + load_random(l, load_random(l, 3) == 0 ? l->partitions_count : 3);
    uint32_t first = load_random(l, l->partitions_count);
    for (uint32_t i = 0; i < l->partitions_count && r->parts_count < wanted; i++) {
        uint32_t partition = (first + i) % l->partitions_count;
        if (!l->streams[p->number][partition].broken)
            make_batch(p, partition, &r->parts[r->parts_count++]);
    }
    if (r->parts_count == 0) {
        request_free(r);
        return NULL;
    }
    request_encode(p, r);
    return r;
}

/* The first refused batch of each partition, in order. */
static struct request *request_again(struct producer *p)
{
    struct request *r = request_make();
    uint64_t taken = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->again_count; i++) {
        uint64_t bit = 1ull << p->again[i].partition;
        if (taken & bit)
            p->again[kept++] = p->again[i];
        else
            r->parts[r->parts_count++] = p->again[i];
        taken |= bit;
    }
    p->again_count = kept;
    p->load->resent += r->parts_count;
    request_encode(p, r);
    return r;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void producer_opened(struct producer *p)
{
    struct load *l = p->load;
    p->heard_ns = load_now_ns();
    if (p->id < 0) {
        struct bytes b = {0};
        p->asked_id = ++p->correlation;
        bytes_begin(&b, INIT_PRODUCER_ID, 1, p->asked_id);
        bytes_string(&b, NULL);
        bytes_i32(&b, 60000);
        bytes_end(&b);
        link_put(&p->link, b.data, b.size);
        free(b.data);
        return;
    }
    for (uint32_t i = 0; i < p->unanswered_count; i++) {
        struct request *r = p->unanswered[i];
        link_put(&p->link, r->frame.data, r->frame.size);
        l->resent += r->parts_count;
    }
    /* In front of nothing that is unanswered its batches are the last ones. */
    if (p->last != NULL && p->unanswered_count == 0 && p->again_count == 0) {
        p->last->probe = true;
        producer_send(p, p->last);
        p->last = NULL;
        l->probed++;
    }
}

void producer_turn(struct producer *p)
{
    struct load *l = p->load;
    if (p->link.fd < 0) {
        if (!link_open(&p->link, l))
            return;
        producer_opened(p);
    }
    uint64_t now = load_now_ns();
    bool waits = p->unanswered_count > 0 || p->id < 0;
    if (waits && now - p->heard_ns > ANSWER_NS) {
        load_wrong(l, WRONG_ANSWER, "producer=%u: no answer within %llu s", p->number,
                   ANSWER_NS / 1000000000ull);
        producer_lost(p);
        return;
    }
    if (p->id >= 0 && p->again_count > 0 && p->unanswered_count == 0 && now >= p->again_ns)
        producer_send(p, request_again(p));
    while (p->id >= 0 && !l->draining && p->again_count == 0 && p->unanswered_count < IN_FLIGHT &&
           l->budget > 0) {
        struct request *r = request_new(p);
        if (r == NULL)
            break;
        producer_send(p, r);
    }
    if (!link_write(&p->link))
        producer_lost(p);
}

void producer_lost(struct producer *p)
{
    link_close(&p->link);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void part_acked(struct producer *p, const struct request *r, const struct part *part,
                       int64_t offset)
{
    struct load *l = p->load;
    struct stream *s = &l->streams[p->number][part->partition];
    struct entry *e = &s->entries[part->entry];
    if (r->probe || e->offset >= 0) {
        if (e->offset != offset)
            load_wrong(l, WRONG_MOVED,
                       "partition=%u producer=%u sequence=%d: was acknowledged at %lld, sent once "
                       "more it is at %lld",
                       part->partition, p->number, e->sequence, (long long)e->offset,
                       (long long)offset);
        return;
    }
    e->offset = offset;
    s->failing = false;
    l->batches_acked++;
    l->records_acked += (uint64_t)e->count;
}

/* true: the batch is dealt with; false: again. */
static bool part_answered(struct producer *p, const struct request *r, const struct part *part,
                          int16_t error, int64_t offset)
{
    struct load *l = p->load;
    struct stream *s = &l->streams[p->number][part->partition];
    if (error == 0) {
        part_acked(p, r, part, offset);
        return true;
    }
    l->refused++;
    bool again = error == 45 && s->failing; /* out of order, because one before it failed */
    for (size_t i = 0; i < sizeof(worth_repeating) / sizeof(*worth_repeating); i++)
        again |= worth_repeating[i] == error;
    if (again && r->probe)
        return true; /* asked at a bad moment; it is acknowledged anyway */
    if (again) {
        s->failing = true;
        return false;
    }
    if (!s->broken)
        load_wrong(l, WRONG_ANSWER, "partition=%u producer=%u sequence=%d count=%d%s: error %d",
                   part->partition, p->number, s->entries[part->entry].sequence,
                   s->entries[part->entry].count, r->probe ? ", acknowledged before" : "", error);
    s->broken = true;
    return true;
}

static struct part *request_part(struct request *r, int32_t partition)
{
    for (uint32_t i = 0; i < r->parts_count; i++) {
        if (r->parts[i].partition == (uint32_t)partition)
            return &r->parts[i];
    }
    return NULL;
}

/* Takes the batch; in front of later ones of its partition, which wait already if this was itself
 * sent again. */
static void again_put(struct producer *p, struct part *part)
{
    uint32_t i = 0;
    while (i < p->again_count &&
           (p->again[i].partition != part->partition || p->again[i].entry < part->entry))
        i++;
    memmove(p->again + i + 1, p->again + i, (p->again_count - i) * sizeof(*part));
    p->again[i] = *part;
    p->again_count++;
    part->batch = (struct bytes){0};
}

static void producer_answered(struct producer *p, struct request *r, struct view *v)
{
    bool whole = true;
    uint32_t seen = 0;
    int32_t topics = view_i32(v);
    view_skip_string(v);
    int32_t count = view_i32(v);
    for (int32_t i = 0; i < count && !v->bad; i++) {
        struct part *part = request_part(r, view_i32(v));
        int16_t error = view_i16(v);
        int64_t offset = view_i64(v);
        (void)view_take(v, 16);
        if (v->bad || part == NULL)
            break;
        seen++;
        if (part_answered(p, r, part, error, offset))
            continue;
        whole = false;
        again_put(p, part);
    }
    (void)view_i32(v);
    if (v->bad || topics != 1 || seen != r->parts_count || v->at != v->size)
        load_wrong(p->load, WRONG_ANSWER, "producer=%u: a produce answer that is none", p->number);
    if (!whole) {
        p->again_ns = load_now_ns() + AGAIN_NS;
        request_free(r);
        return;
    }
    request_free(p->last);
    p->last = r;
}

static void producer_id_given(struct producer *p, struct view *v)
{
    (void)view_i32(v);
    int16_t error = view_i16(v);
    int64_t id = view_i64(v);
    int16_t epoch = view_i16(v);
    if (v->bad || error != 0) {
        p->load->refused++;
        producer_lost(p); /* and asks again */
        return;
    }
    p->id = id;
    p->epoch = epoch;
}

void producer_read(struct producer *p)
{
    if (!link_read(&p->link)) {
        producer_lost(p);
        return;
    }
    uint32_t size;
    const uint8_t *frame;
    while (p->link.fd >= 0 && (frame = link_frame(&p->link, &size)) != NULL) {
        struct view v = {frame, size, 0, false};
        int32_t correlation = view_i32(&v);
        p->heard_ns = load_now_ns();
        if (p->id < 0 && correlation == p->asked_id) {
            producer_id_given(p, &v);
            continue;
        }
        struct request *r = p->unanswered_count > 0 ? p->unanswered[0] : NULL;
        if (r == NULL || r->correlation != correlation) {
            load_wrong(p->load, WRONG_ANSWER, "producer=%u: an answer to %d, which waits for none",
                       p->number, correlation);
            producer_lost(p);
            return;
        }
        load_answered(p->load, r->sent_ns);
        p->unanswered_count--;
        memmove(p->unanswered, p->unanswered + 1, p->unanswered_count * sizeof(r));
        producer_answered(p, r, &v);
    }
}
