/* Metadata records as bytes: the frame around each (uvarint frame version 1, api key, version, then
 * the message), lists of them as a controller step makes them, and batches of them as the log and
 * snapshots hold them. */
#ifndef BROKER_QUORUM_RECORDS_H
#define BROKER_QUORUM_RECORDS_H

#include "core/arena.h"
#include "core/mem.h"
#include "proto/batch.h"
#include "proto/wire.h"

/* Kafka's bounds on what one admin operation, and one batch, may hold. */
#define RECORDS_PER_CALL_MAX 10000
#define RECORDS_BATCH_MAX    (8u << 20)

struct record_value { /* with its frame */
    const uint8_t *data;
    uint32_t size;
};

/* What a step wants written, in order. */
struct record_list {
    struct arena *arena;
    struct record_value *items;
    uint32_t count, room;
    bool failed; /* no memory; sticky */
};

void record_list_init(struct record_list *l, struct arena *arena);
/* message: the generated struct for this record's api key. */
void record_list_add(struct record_list *l, int16_t key, int16_t version, const void *message);
/* A value with its frame; the bytes are not copied. */
void record_list_add_value(struct record_list *l, struct record_value value);

/* Takes a value's frame off. r is left at the message. false: not a frame of version 1. */
NODISCARD bool record_open_frame(struct record_value value, struct wire_reader *r, int16_t *key,
                                 int16_t *version);

/* Bytes that grow: batches one behind the other. */
struct batch_buffer {
    struct mem *mem;
    uint8_t *data;
    uint64_t size, room;
    bool failed; /* no memory; sticky */
};

void batch_buffer_init(struct batch_buffer *b, struct mem *mem);
void batch_buffer_release(struct batch_buffer *b);
/* One batch of the items [from, from + count), all at one time. */
void batch_buffer_add_records(struct batch_buffer *b, int64_t base_offset, int32_t epoch,
                              int64_t timestamp_ms, const struct record_value *items,
                              uint32_t count);
/* A control record of a batch that may hold several. */
struct control_record {
    enum batch_control type;
    const void *message; /* leader_change_message, snapshot_header_record, ... */
    int16_t version;
};
void batch_buffer_add_controls(struct batch_buffer *b, int64_t base_offset, int32_t epoch,
                               int64_t timestamp_ms, const struct control_record *items,
                               uint32_t count);

#endif
