/* What clients know of the partitions: which bytes were acknowledged or read at which offset, and
 * how far the high watermark was seen. Whatever the broker says is held against it. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "core/core.h"
#include "core/mem.h"
#include "proto/batch.h"

#define MODEL_TEXT_MAX 512

/* A batch as a client made it: who, and the how-manieth. It is written into its first record. */
struct model_stamp {
    uint32_t producer; /* index */
    uint32_t batch;    /* of this producer and partition, from 0 */
};

struct model_cell { /* of one offset */
    uint64_t hash;  /* of the batch that begins there; 0: none is known to */
    uint32_t count; /* its records */
    bool acknowledged, seen;
};

/* What one producer has in one partition. */
struct model_source {
    int64_t *offsets; /* of its batches; -1: not known yet */
    uint32_t count, room;
    bool idempotent;
    /* of the present walk from the beginning */
    uint32_t walked;
};

struct model_partition {
    struct mem *mem;
    const char *topic;
    int32_t index;
    struct model_cell *cells;
    uint64_t cells_room;
    int64_t acknowledged_end; /* behind the last acknowledged record */
    int64_t seen_end;         /* behind the last record read, or the highest watermark seen */
    uint64_t acknowledged_batches, seen_batches;
    struct model_source *sources;
    uint32_t sources_count;
};

void model_partition_init(struct model_partition *p, struct mem *mem, const char *topic,
                          int32_t index, uint32_t producers_count);
void model_partition_free(struct model_partition *p);

/* Hash of what the broker may not change in a batch: all but base offset and leader epoch. */
uint64_t model_hash(const uint8_t *batch, uint32_t size);

/* Each: true, or false with a sentence in text. */
/* The broker says that the batch is at this offset. Offset -1: it is somewhere. */
bool model_acknowledged(struct model_partition *p, struct model_stamp stamp, uint64_t hash,
                        uint32_t count, int64_t base_offset, char text[MODEL_TEXT_MAX]);
/* A client was given this batch. */
bool model_seen(struct model_partition *p, const uint8_t *batch, const struct batch_header *h,
                char text[MODEL_TEXT_MAX]);
/* A response to a request that was sent when the end was known to be at least `floor`. */
bool model_watermark(struct model_partition *p, int64_t floor, int64_t high_watermark,
                     char text[MODEL_TEXT_MAX]);
/* What a request sent now may count on. */
int64_t model_floor(const struct model_partition *p);

/* A walk from offset 0 to the end: begin, each batch in order (also through model_seen), end. */
void model_walk_begin(struct model_partition *p);
bool model_walk(struct model_partition *p, const uint8_t *batch, const struct batch_header *h,
                char text[MODEL_TEXT_MAX]);
bool model_walk_end(struct model_partition *p, int64_t end, char text[MODEL_TEXT_MAX]);

/* The stamp in the first record's value; false: there is none. */
bool model_read_stamp(const uint8_t *batch, const struct batch_header *h,
                      struct model_stamp *stamp);
#define MODEL_STAMP_SIZE 8

#endif
