/* Records: what is inside a batch once its codec is undone. All numbers are varints with the sign
 * folded in (zigzag). Everything here reads strangers' bytes: each length is compared with what is
 * left before it is believed, and nothing is allocated. */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

#include "proto/batch.h"

#include <stdbool.h>
#include <stdint.h>

struct record { /* views into the bytes it was read from */
    const uint8_t *data;
    uint32_t size; /* with the length in front */
    uint8_t attributes;
    int64_t timestamp_delta;
    int32_t offset_delta;
    struct batch_field key, value;
    uint32_t headers_count;
    const uint8_t *headers; /* for record_header_next; ends with the record */
};

struct record_iter {
    const uint8_t *at, *end;
    uint32_t left;  /* records still to come, by the batch's count */
    bool malformed; /* a record broke the format, or bytes and count do not end together */
};

/* Over a batch's records, unpacked. count is the header's. */
void record_iter_init(struct record_iter *it, const uint8_t *data, uint32_t size, int32_t count);
/* false at the end or when malformed. The record's headers have been walked through once. */
NODISCARD bool record_next(struct record_iter *it, struct record *r);

struct record_header_iter {
    const uint8_t *at, *end;
    uint32_t left;
};
void record_header_iter_init(struct record_header_iter *it, const struct record *r);
NODISCARD bool record_header_next(struct record_header_iter *it, struct batch_record_header *h);

/* A record's timestamp: the batch's maximum when the broker stamped it. */
int64_t record_timestamp(const struct batch_header *h, const struct record *r);

/* The records of a whole batch, unpacked if need be (then lent by c till its next unpack). */
NODISCARD enum compress_result record_open(struct compress *c, const uint8_t *batch,
                                           const struct batch_header *h, uint32_t cap,
                                           struct record_iter *it);

struct record_found {
    int64_t offset, timestamp;
};
/* The first record with a timestamp >= t, at or behind min_offset. false: none, or malformed. */
NODISCARD bool record_find_time(struct record_iter it, const struct batch_header *h, int64_t t,
                                int64_t min_offset, struct record_found *found);
/* The first of the records with the largest timestamp. false: no record, or malformed. */
NODISCARD bool record_find_max_time(struct record_iter it, const struct batch_header *h,
                                    struct record_found *found);

/* ---- varints --------------------------------------------------------------------------------- */

#define VARINT_SIZE_MAX  5
#define VARLONG_SIZE_MAX 10

/* Bytes read, 0 when cut short or longer than the type. */
NODISCARD uint32_t varint_read(const uint8_t *at, const uint8_t *end, int32_t *value);
NODISCARD uint32_t varlong_read(const uint8_t *at, const uint8_t *end, int64_t *value);
/* Bytes written; there must be room for varint_size. */
uint32_t varint_write(uint8_t *to, int32_t value);
uint32_t varlong_write(uint8_t *to, int64_t value);
uint32_t varint_size(int32_t value);
uint32_t varlong_size(int64_t value);

#endif
