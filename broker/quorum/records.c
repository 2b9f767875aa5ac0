/* Between structs and the bytes of the metadata log.
 *
 *   record value:  uvarint 1 | uvarint api key | uvarint version | message (flexible)
 *   control value: key int16 0, int16 type | value: the message, whose version is its first field
 *   batch:         v2, uncompressed, key null, partition leader epoch = epoch of the metadata
 * leader
 *
 * A controller step only ever speaks of structs; it gets here, becomes bytes, and the bytes are
 * what is replayed into our own image. So nothing is published that the log does not say.
 *
 * Invariants
 *  1. One call's records are one batch: after a crash all of them are there or none.
 *  2. Frame version is 1; 0 was never in a release we open.
 *
 * Failure: memory only; `failed` is looked at once, at the end. */
#include "broker/quorum/records.h"

#include <string.h>

#include "core/assert.h"
#include "core/core.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_quorum.h"
#include "proto/gen/record_topic.h"

#define FRAME_VERSION     1u
#define FRAME_SIZE_MAX    7u /* three uvarints of our numbers, and room */
#define RECORD_OVERHEAD   64u
#define CONTROL_VALUE_MAX 65536u
#define RECORDS_ROOM_MIN  16u

void record_list_init(struct record_list *l, struct arena *arena)
{
    assert(arena != NULL);
    *l = (struct record_list){.arena = arena};
}

void record_list_add_value(struct record_list *l, struct record_value value)
{
    assert(value.data != NULL && value.size > 0);
    if (l->failed)
        return;
    if (l->count == l->room) {
        uint32_t room = MAX(l->room * 2, RECORDS_ROOM_MIN);
        struct record_value *items = arena_alloc(l->arena, room * sizeof(*items));
        if (items == NULL) {
            l->failed = true;
            return;
        }
        if (l->count > 0)
            memcpy(items, l->items, l->count * sizeof(*items));
        l->items = items;
        l->room = room;
    }
    l->items[l->count++] = value;
}

/* The messages that we write; others are only read. */
static void record_encode(struct wire_writer *w, int16_t key, int16_t version, const void *message)
{
    switch (key) {
    case REGISTER_BROKER_RECORD_API_KEY:
        register_broker_record_encode(message, w, version);
        return;
    case UNREGISTER_BROKER_RECORD_API_KEY:
        unregister_broker_record_encode(message, w, version);
        return;
    case TOPIC_RECORD_API_KEY:
        topic_record_encode(message, w, version);
        return;
    case PARTITION_RECORD_API_KEY:
        partition_record_encode(message, w, version);
        return;
    case CONFIG_RECORD_API_KEY:
        config_record_encode(message, w, version);
        return;
    case PARTITION_CHANGE_RECORD_API_KEY:
        partition_change_record_encode(message, w, version);
        return;
    case REMOVE_TOPIC_RECORD_API_KEY:
        remove_topic_record_encode(message, w, version);
        return;
    case FEATURE_LEVEL_RECORD_API_KEY:
        feature_level_record_encode(message, w, version);
        return;
    case PRODUCER_IDS_RECORD_API_KEY:
        producer_ids_record_encode(message, w, version);
        return;
    case BROKER_REGISTRATION_CHANGE_RECORD_API_KEY:
        broker_registration_change_record_encode(message, w, version);
        return;
    case BEGIN_TRANSACTION_RECORD_API_KEY:
        begin_transaction_record_encode(message, w, version);
        return;
    case END_TRANSACTION_RECORD_API_KEY:
        end_transaction_record_encode(message, w, version);
        return;
    case ABORT_TRANSACTION_RECORD_API_KEY:
        abort_transaction_record_encode(message, w, version);
        return;
    case REGISTER_CONTROLLER_RECORD_API_KEY:
        register_controller_record_encode(message, w, version);
        return;
    case CLEAR_ELR_RECORD_API_KEY:
        clear_elr_record_encode(message, w, version);
        return;
    default:
        assert(key < 0); /* a record that we do not write */
    }
}

static void frame_encode(struct wire_writer *w, int16_t key, int16_t version, const void *message)
{
    assert(key >= 0 && version >= 0);
    wire_put_uvarint(w, FRAME_VERSION);
    wire_put_uvarint(w, (uint32_t)key);
    wire_put_uvarint(w, (uint32_t)version);
    record_encode(w, key, version, message);
}

void record_list_add(struct record_list *l, int16_t key, int16_t version, const void *message)
{
    if (l->failed)
        return;
    struct wire_writer w = {0};
    frame_encode(&w, key, version, message);
    uint64_t size = w.position;
    uint8_t *data = size > RECORDS_BATCH_MAX ? NULL : arena_alloc(l->arena, size);
    if (data == NULL) {
        l->failed = true;
        return;
    }
    wire_writer_init(&w, data, size);
    frame_encode(&w, key, version, message);
    assert(wire_writer_ok(&w) && w.position == size);
    record_list_add_value(l, (struct record_value){data, (uint32_t)size});
}

bool record_open_frame(struct record_value value, struct wire_reader *r, int16_t *key,
                       int16_t *version)
{
    wire_reader_init(r, value.data, value.size);
    uint32_t frame = wire_get_uvarint(r);
    uint32_t k = wire_get_uvarint(r);
    uint32_t v = wire_get_uvarint(r);
    if (r->error != 0 || frame != FRAME_VERSION || k > INT16_MAX || v > INT16_MAX)
        return false;
    *key = (int16_t)k;
    *version = (int16_t)v;
    assert(wire_left(r) < value.size);
    return true;
}

/* ---- batches ----------------------------------------------------------------------------------
 */

void batch_buffer_init(struct batch_buffer *b, struct mem *mem)
{
    assert(mem != NULL);
    *b = (struct batch_buffer){.mem = mem};
}

void batch_buffer_release(struct batch_buffer *b)
{
    mem_free(b->mem, b->data, b->room);
    *b = (struct batch_buffer){.mem = b->mem};
}

/* Room for so many more bytes; NULL: failed. */
static uint8_t *batch_buffer_claim(struct batch_buffer *b, uint64_t size)
{
    if (b->failed)
        return NULL;
    if (b->size + size > b->room) {
        uint64_t room = MAX(b->room * 2, b->size + size);
        uint8_t *data = mem_realloc(b->mem, b->data, b->room, room);
        if (data == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    return b->data + b->size;
}

static struct batch_header header_make(int64_t base_offset, int32_t epoch)
{
    struct batch_header h = batch_header_plain(base_offset);
    h.leader_epoch = epoch;
    return h;
}

void batch_buffer_add_records(struct batch_buffer *b, int64_t base_offset, int32_t epoch,
                              int64_t timestamp_ms, const struct record_value *items,
                              uint32_t count)
{
    assert(count > 0);
    uint64_t room = BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++)
        room += items[i].size + RECORD_OVERHEAD;
    uint8_t *to = room > INT32_MAX ? NULL : batch_buffer_claim(b, room);
    if (to == NULL) {
        b->failed = true;
        return;
    }
    struct batch_header h = header_make(base_offset, epoch);
    struct batch_builder builder;
    batch_builder_init(&builder, to, (uint32_t)room, &h);
    for (uint32_t i = 0; i < count; i++) {
        bool fits = batch_builder_add(&builder, timestamp_ms, (struct batch_field){NULL, 0},
                                      (struct batch_field){items[i].data, items[i].size}, NULL, 0);
        assert(fits); /* the sum above is generous */
    }
    b->size += batch_builder_finish(&builder);
    assert(b->size <= b->room);
}

static void control_encode(struct wire_writer *w, const struct control_record *c)
{
    switch (c->type) {
    case BATCH_CONTROL_LEADER_CHANGE:
        leader_change_message_encode(c->message, w, c->version);
        return;
    case BATCH_CONTROL_SNAPSHOT_HEADER:
        snapshot_header_record_encode(c->message, w, c->version);
        return;
    case BATCH_CONTROL_SNAPSHOT_FOOTER:
        snapshot_footer_record_encode(c->message, w, c->version);
        return;
    case BATCH_CONTROL_KRAFT_VERSION:
        kraft_version_record_encode(c->message, w, c->version);
        return;
    case BATCH_CONTROL_KRAFT_VOTERS:
        voters_record_encode(c->message, w, c->version);
        return;
    default:
        assert(c->message == NULL); /* a control record that is not ours to write */
    }
}

void batch_buffer_add_controls(struct batch_buffer *b, int64_t base_offset, int32_t epoch,
                               int64_t timestamp_ms, const struct control_record *items,
                               uint32_t count)
{
    assert(count > 0);
    uint64_t room = BATCH_HEADER_SIZE, value_max = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct wire_writer w = {0};
        control_encode(&w, &items[i]);
        room += w.position + RECORD_OVERHEAD;
        value_max = MAX(value_max, w.position);
    }
    assert(value_max <= CONTROL_VALUE_MAX);
    /* The message is encoded behind the batch's own room, then copied into it. */
    uint8_t *to = batch_buffer_claim(b, room + value_max);
    if (to == NULL)
        return;
    struct batch_header h = header_make(base_offset, epoch);
    h.attributes |= BATCH_CONTROL;
    struct batch_builder builder;
    batch_builder_init(&builder, to, (uint32_t)room, &h);
    for (uint32_t i = 0; i < count; i++) {
        struct wire_writer w;
        wire_writer_init(&w, to + room, value_max);
        control_encode(&w, &items[i]);
        uint8_t key[BATCH_CONTROL_KEY_SIZE] = {0, 0, 0, (uint8_t)items[i].type};
        bool fits =
            batch_builder_add(&builder, timestamp_ms, (struct batch_field){key, sizeof(key)},
                              (struct batch_field){to + room, (uint32_t)w.position}, NULL, 0);
        assert(fits);
    }
    b->size += batch_builder_finish(&builder);
    assert(b->size <= b->room);
}
