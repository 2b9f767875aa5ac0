/* A forger of record batches: right in everything but what the test asks to be wrong. Writes its
 * bytes by itself, without proto/batch.h's builder, so that the two can be held against each other.
 */
#ifndef TESTS_PROTO_FORGE_H
#define TESTS_PROTO_FORGE_H

#include "proto/batch.h"

#define FORGE_ROOM      (1u << 16)
#define FORGE_PATCHES   4
#define FORGE_NOW       1790000000000ll
#define FORGE_KEY       "k"
#define FORGE_VALUE     "value"
#define FORGE_FULL_SIZE 13 /* of a default record */

struct forge_record { /* zeros: key "k", value "value", no headers, offset delta = index */
    int64_t time_delta;
    int32_t delta_plus, length_plus; /* added to the true number */
    int32_t key_size, value_size;    /* written instead of the true number, if not 0 */
    int32_t headers_count;           /* the same */
    uint32_t value_fill;             /* a value of so many 'x' */
    uint8_t attributes;
    bool null_key, empty_key, null_value;
    bool header, header_null_key, header_null_value;
    const char *raw; /* these bytes instead of a record */
    uint32_t raw_size;
};

enum forge_field {
    FORGE_NOTHING,
    FORGE_BASE_OFFSET,
    FORGE_LENGTH,
    FORGE_LEADER_EPOCH,
    FORGE_MAGIC,
    FORGE_CRC,
    FORGE_ATTRIBUTES, /* or-ed to the codec */
    FORGE_LAST_DELTA,
    FORGE_BASE_TIME,
    FORGE_MAX_TIME,
    FORGE_PRODUCER_ID,
    FORGE_PRODUCER_EPOCH,
    FORGE_SEQUENCE,
    FORGE_COUNT,
};

struct forge_patch {
    enum forge_field field;
    int64_t value;
};

struct forge_batch {        /* zeros: one default record at FORGE_NOW, no codec */
    uint32_t records_count; /* 0 with empty = false means 1 */
    bool empty;
    struct forge_record records[3]; /* later ones repeat the last */
    enum codec codec;
    int32_t codec_level;
    const char *packed; /* these bytes instead of the packed records */
    uint32_t packed_size;
    uint32_t packed_cut;     /* bytes missing at the packed end */
    uint32_t packed_flip;    /* this byte from the packed end is inverted; 0: none */
    const char *packed_tail; /* zero-ended text behind */
    struct forge_patch patches[FORGE_PATCHES];
};

/* The records alone. Returns their size. */
uint32_t forge_records(const struct forge_batch *f, uint8_t *to);
/* The whole batch into FORGE_ROOM bytes at to. The checksum is right unless patched. */
uint32_t forge_batch(struct mem *mem, const struct forge_batch *f, uint8_t *to);

#endif
