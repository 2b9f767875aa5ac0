/* What records of a load carry, so that a reader can tell loss from repetition from disorder, and
 * when each was due. A template batch is built once; each send stamps a copy of it. */
#ifndef BROKER_BENCH_PAYLOAD_H
#define BROKER_BENCH_PAYLOAD_H

#include "proto/batch.h"

#define PAYLOAD_SIZE 40u /* values below this carry nothing */

struct payload {
    uint64_t run; /* random, of one load */
    uint64_t due_ns;
    uint64_t sequence; /* of this producer in this partition: 0, 1, 2 ... */
    uint32_t producer;
};

struct payload_template {
    struct mem *mem;
    uint8_t *batch; /* uncompressed */
    uint32_t batch_size, batch_room;
    uint32_t records, size; /* bytes of a value */
    uint32_t keys;          /* different ones; 0: records have none */
    uint32_t *values;       /* where value i begins in the batch */
    uint32_t tail_crc;      /* of what follows the payload in each value */
};

struct payload_stamp {
    struct payload first; /* of the first record; the sequence goes on in the others */
    int64_t wall_ms;
    int64_t producer_id; /* or BATCH_NO_PRODUCER_ID and the like */
    int16_t producer_epoch;
    int32_t base_sequence;
    bool transactional;
    uint64_t chance; /* keys are taken by it */
};

/* Its memory goes with mem. The content of values is pseudo-random by seed (hard to compress), or
 * text-like if `soft`. */
NODISCARD bool payload_template_make(struct payload_template *t, struct mem *mem, uint32_t records,
                                     uint32_t size, uint32_t keys, bool soft, uint64_t seed);
/* Stamps a copy of the template. The checksum is not yet right: payload_seal. */
void payload_stamp(const struct payload_template *t, uint8_t *batch, const struct payload_stamp *s);
void payload_seal(uint8_t *batch, uint32_t size);
/* Of a value: false when it carries no payload, or one that is damaged (*damaged). */
NODISCARD bool payload_read(struct payload *p, const uint8_t *value, uint32_t size, bool *damaged);

#endif
