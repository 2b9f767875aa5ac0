/* Compaction of one batch, with Kafka's rules, so that both leave the same of the same log.
 *
 *   which batch                             what stays of it
 *   ends at the end of the round            its header at least: the log's end must be known
 *   last one of an active producer          its header at least: the last sequence must be known
 *   of an aborted transaction               nothing else
 *   marker, nothing left of its transaction it, till its delete horizon has passed
 *   any other                               the records below, nothing if there are none
 *
 *   record     newer one of its key in the map  goes
 *              no key                           goes
 *              no value (a deletion)            stays till its batch's delete horizon has passed
 *
 * The delete horizon is when what was found in this round to be a deletion, or an idle marker, may
 * go: now + delete.retention.ms, put into the batch the first time in place of the base timestamp
 * (attribute bit 6), the records' deltas being counted from it. A batch keeps its base offset, last
 * offset, sequence, epoch, producer and codec; what remains is packed anew.
 *
 * Invariants
 *  1. A batch of which all stays, and that needs no horizon, is copied byte for byte.
 *  2. What is above map->latest is left alone.
 *  3. Nothing is put into `out` unless all of it is.
 *
 * Failure: a batch that cannot be read is -EILSEQ. Its checksum is the caller's to check, before.
 */
#include "broker/log/clean_batch.h"

#include <errno.h>
#include <string.h>

#include "broker/log/producer.h"
#include "core/lab.h"
#include "proto/record.h"

#define RECORD_HEAD_MAX (VARINT_SIZE_MAX + 1 + VARLONG_SIZE_MAX + VARINT_SIZE_MAX)

struct survey { /* of a batch's records */
    uint32_t kept;
    uint32_t size_max; /* of the kept ones, numbered anew */
    bool all, deletions;
    int64_t first_timestamp, max_timestamp; /* of the kept ones */
};

enum retention { RETAIN_HEADER, DROP_IF_EMPTY, DROP };

bool clean_out_reserve(struct clean_out *out, uint32_t size)
{
    uint64_t need = (uint64_t)out->size + size;
    if (need <= out->room)
        return true;
    if (need > INT32_MAX)
        return false;
    uint32_t room = (uint32_t)MIN(MAX(need, 2ull * out->room), (uint64_t)INT32_MAX);
    uint8_t *grown = mem_realloc(out->mem, out->data, out->room, room);
    if (grown == NULL)
        return false;
    out->data = grown;
    out->room = room;
    return true;
}

void clean_out_free(struct clean_out *out)
{
    mem_free(out->mem, out->data, out->room);
    out->data = NULL;
    out->size = out->room = 0;
}

void clean_rules_free(struct clean_rules *rules)
{
    mem_free(rules->mem, rules->keep, rules->keep_room);
    rules->keep = NULL;
    rules->keep_room = 0;
}

/* ---- what stays ------------------------------------------------------------------------------ */

/* With a horizon, the base timestamp is it. */
static bool horizon_passed(const struct batch_header *h, int64_t now_ms)
{
    return batch_has(h, BATCH_DELETE_HORIZON) && h->base_timestamp <= now_ms;
}

static enum retention batch_retention(const struct clean_rules *rules, const struct batch_header *h,
                                      bool discard)
{
    int64_t last_data;
    int16_t epoch;
    if (h->producer_id >= 0 && producer_last(rules->log, h->producer_id, &last_data, &epoch)) {
        bool last = last_data != NO_OFFSET
                        ? batch_last_offset(h) == last_data
                        : batch_has(h, BATCH_CONTROL) && h->producer_epoch == epoch;
        SOMETIMES_IF(last, "the last batch of a producer is kept without records");
        if (last)
            return RETAIN_HEADER;
    }
    if (batch_last_offset(h) + 1 == rules->end)
        return RETAIN_HEADER;
    return discard ? DROP : DROP_IF_EMPTY;
}

static bool record_stays(const struct clean_rules *rules, const struct batch_header *h,
                         const struct record *r, struct clean_count *count)
{
    int64_t offset = h->base_offset + r->offset_delta;
    if (batch_has(h, BATCH_CONTROL) || offset > rules->map->latest)
        return true;
    if (r->key.data == NULL) {
        count->keyless++;
        return false;
    }
    if (offset < offset_map_get(rules->map, r->key.data, r->key.size))
        return false;
    SOMETIMES_IF(r->value.data == NULL && horizon_passed(h, rules->now_ms),
                 "a deletion is old enough to go");
    return r->value.data != NULL || !horizon_passed(h, rules->now_ms);
}

static bool keep_reserve(struct clean_rules *rules, uint32_t records)
{
    if (records <= rules->keep_room)
        return true;
    uint8_t *grown = mem_realloc(rules->mem, rules->keep, rules->keep_room, records);
    if (grown == NULL)
        return false;
    rules->keep = grown;
    rules->keep_room = records;
    return true;
}

/* Decides about each record. 0 or -EILSEQ. */
static int survey_records(struct clean_rules *rules, const struct batch_header *h,
                          struct record_iter it, struct survey *s, struct clean_count *count)
{
    struct record r;
    uint32_t index = 0;
    *s = (struct survey){.all = true, .max_timestamp = BATCH_NO_TIMESTAMP};
    while (record_next(&it, &r)) {
        bool stays = record_stays(rules, h, &r, count);
        rules->keep[index++] = stays;
        s->all &= stays;
        if (!stays)
            continue;
        int64_t timestamp = record_timestamp(h, &r);
        if (s->kept++ == 0)
            s->first_timestamp = timestamp;
        s->max_timestamp = MAX(s->max_timestamp, timestamp);
        s->deletions |= r.value.data == NULL;
        s->size_max += r.size + RECORD_HEAD_MAX;
    }
    count->records_read += index;
    return it.malformed ? -EILSEQ : 0;
}

/* ---- building -------------------------------------------------------------------------------- */

/* Where key, value and headers begin: behind length, attributes, timestamp and offset. */
static const uint8_t *record_body(const struct record *r)
{
    const uint8_t *at = r->data, *end = r->data + r->size;
    int64_t timestamp;
    int32_t number;
    at += varint_read(at, end, &number);
    at += 1;
    at += varlong_read(at, end, &timestamp);
    at += varint_read(at, end, &number);
    assert(at < end); /* record_next has walked it */
    return at;
}

static uint8_t *record_put(uint8_t *to, const struct record *r, int64_t timestamp_delta)
{
    const uint8_t *body = record_body(r);
    uint32_t body_size = (uint32_t)(r->data + r->size - body);
    uint32_t length = 1 + varlong_size(timestamp_delta) + varint_size(r->offset_delta) + body_size;
    to += varint_write(to, (int32_t)length);
    *to++ = 0;
    to += varlong_write(to, timestamp_delta);
    to += varint_write(to, r->offset_delta);
    memcpy(to, body, body_size);
    return to + body_size;
}

static uint32_t records_put(const struct clean_rules *rules, const struct batch_header *h,
                            struct record_iter it, int64_t base_timestamp, uint8_t *to)
{
    struct record r;
    uint32_t index = 0;
    uint8_t *begin = to;
    while (record_next(&it, &r))
        if (rules->keep[index++])
            to = record_put(
                to, &r, (int64_t)((uint64_t)record_timestamp(h, &r) - (uint64_t)base_timestamp));
    return (uint32_t)(to - begin);
}

static int put_header(struct clean_out *out, const struct batch_header *header, uint32_t size,
                      struct batch_header *kept)
{
    uint8_t *batch = out->data + out->size;
    assert(out->size + size <= out->room);
    batch_encode_header(batch, size, header);
    batch_decode_header(batch, kept);
    out->size += size;
    return 0;
}

/* Packed again, with the codec's default level. */
static int put_packed(const struct clean_rules *rules, const struct batch_header *h,
                      struct record_iter it, const struct survey *s, struct batch_header *built,
                      struct clean_out *out, struct batch_header *kept)
{
    struct compress *c = rules->compress;
    uint8_t *scratch = compress_scratch(c, s->size_max), *packed;
    uint32_t packed_size;
    if (scratch == NULL)
        return -ENOMEM;
    uint32_t size = records_put(rules, h, it, built->base_timestamp, scratch);
    assert(size <= s->size_max);
    compress_swap(c);
    if (compress_pack(c, batch_codec(h), COMPRESS_LEVEL_DEFAULT, scratch, size, BATCH_HEADER_SIZE,
                      &packed, &packed_size) != COMPRESS_OK ||
        !clean_out_reserve(out, BATCH_HEADER_SIZE + packed_size))
        return -ENOMEM;
    memcpy(out->data + out->size + BATCH_HEADER_SIZE, packed, packed_size);
    return put_header(out, built, BATCH_HEADER_SIZE + packed_size, kept);
}

static int put_rebuilt(const struct clean_rules *rules, const struct batch_header *h,
                       struct record_iter it, const struct survey *s, bool new_horizon,
                       struct clean_out *out, struct batch_header *kept)
{
    struct batch_header built = *h;
    built.record_count = (int32_t)s->kept;
    if (new_horizon) {
        built.attributes |= BATCH_DELETE_HORIZON;
        built.base_timestamp = rules->delete_retention_ms > INT64_MAX - rules->now_ms
                                   ? INT64_MAX
                                   : rules->now_ms + rules->delete_retention_ms;
    } else if (!batch_has(h, BATCH_DELETE_HORIZON)) {
        built.base_timestamp = s->first_timestamp;
    }
    if (!batch_has(h, BATCH_LOG_APPEND_TIME))
        built.max_timestamp = s->max_timestamp;
    if (batch_codec(h) != CODEC_NONE)
        return put_packed(rules, h, it, s, &built, out, kept);
    if (!clean_out_reserve(out, BATCH_HEADER_SIZE + s->size_max))
        return -ENOMEM;
    uint32_t size =
        records_put(rules, h, it, built.base_timestamp, out->data + out->size + BATCH_HEADER_SIZE);
    assert(size <= s->size_max);
    return put_header(out, &built, BATCH_HEADER_SIZE + size, kept);
}

static int put_empty(const struct batch_header *h, struct clean_out *out, struct batch_header *kept)
{
    struct batch_header empty = *h;
    empty.attributes &= (uint16_t) ~(BATCH_CODEC_MASK | BATCH_DELETE_HORIZON);
    empty.base_timestamp = BATCH_NO_TIMESTAMP;
    empty.record_count = 0;
    if (!clean_out_reserve(out, BATCH_HEADER_SIZE))
        return -ENOMEM;
    return put_header(out, &empty, BATCH_HEADER_SIZE, kept);
}

static int put_whole(const uint8_t *batch, const struct batch_header *h, struct clean_out *out,
                     struct batch_header *kept)
{
    if (!clean_out_reserve(out, h->size))
        return -ENOMEM;
    memcpy(out->data + out->size, batch, h->size);
    out->size += h->size;
    *kept = *h;
    return 0;
}

/* ---- one batch ------------------------------------------------------------------------------- */

static int clean_records(struct clean_rules *rules, const uint8_t *batch,
                         const struct batch_header *h, bool discard, bool idle_marker,
                         struct clean_out *out, struct batch_header *kept,
                         struct clean_count *count)
{
    struct record_iter it;
    struct survey s = {.all = h->record_count == 0};
    if (h->record_count < 0)
        return -EILSEQ;
    if (!discard && h->record_count > 0) {
        enum compress_result opened =
            record_open(rules->compress, batch, h, BATCH_UNPACKED_BYTES_DEFAULT, &it);
        if (opened == COMPRESS_NO_MEMORY || !keep_reserve(rules, (uint32_t)h->record_count))
            return -ENOMEM;
        int error = opened != COMPRESS_OK ? -EILSEQ : survey_records(rules, h, it, &s, count);
        if (error != 0)
            return error;
    }
    count->records_kept += s.kept;
    if (s.kept == 0)
        return 0;
    bool new_horizon = (s.deletions || idle_marker) && !batch_has(h, BATCH_DELETE_HORIZON);
    if (s.all && !new_horizon)
        return put_whole(batch, h, out, kept);
    return put_rebuilt(rules, h, it, &s, new_horizon, out, kept);
}

int clean_batch(struct clean_rules *rules, const uint8_t *batch, const struct batch_header *h,
                struct clean_out *out, struct batch_header *kept, struct aborted_txn *aborted,
                struct clean_count *count)
{
    assert(h->magic == 2);
    bool control = batch_has(h, BATCH_CONTROL);
    aborted->first_offset = NO_OFFSET;
    kept->size = 0;
    bool idle =
        control ? clean_txn_control(rules->txn, h, batch, aborted) : clean_txn_data(rules->txn, h);
    if (rules->txn->no_memory)
        return -ENOMEM;
    bool discard = idle && (!control || horizon_passed(h, rules->now_ms));
    enum retention retention = batch_retention(rules, h, discard);
    uint32_t before = out->size;
    int error = 0;
    if (retention != DROP)
        error = clean_records(rules, batch, h, discard, idle && control, out, kept, count);
    if (error == 0 && kept->size == 0 && retention == RETAIN_HEADER)
        error = put_empty(h, out, kept);
    count->bytes_read += h->size;
    count->bytes_kept += out->size - before;
    return error;
}
