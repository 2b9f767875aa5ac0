/* What a shard of a coordinator (broker/group, broker/txn) and who drives it (broker/coordinator.h)
 * have in common: what a step leaves behind. Pure: no log, no network. */
#ifndef BROKER_SHARD_H
#define BROKER_SHARD_H

#include "core/arena.h"
#include "core/list.h"
#include "core/mem.h"
#include "proto/batch.h"
#include "proto/error.h"

struct shard_record { /* in update.arena */
    struct list link;
    struct batch_field key, value; /* value.data NULL: a tombstone */
};

/* State changes at once; records and answers gather here. The driver takes both, appends the
 * records, and lets the answers go when they are durable. */
struct shard_update {
    struct list records;  /* struct shard_record, to be appended in this order */
    struct list answered; /* calls whose response is complete, by their links */
    uint64_t records_bytes;
    uint32_t records_count;
    bool in_txn; /* the records are part of this transaction, and go into a batch of its producer */
    int64_t producer_id;
    int16_t producer_epoch;
    uint64_t txn_guard; /* log.h: log_txn_begin */
    struct arena arena;
};

static inline void shard_update_init(struct shard_update *u, struct mem *mem, uint64_t bytes_max)
{
    list_init(&u->records);
    list_init(&u->answered);
    arena_init(&u->arena, mem, bytes_max);
    u->records_bytes = 0;
    u->records_count = 0;
    u->in_txn = false;
}

/* One more record, encoded; a value without data is a tombstone. COORDINATOR_NOT_AVAILABLE: no
 * memory. UNKNOWN_SERVER_ERROR: no batch of batch_bytes_max holds it. */
NODISCARD static inline enum kafka_error shard_update_add(struct shard_update *u,
                                                          struct batch_field key,
                                                          struct batch_field value,
                                                          uint32_t batch_bytes_max)
{
    struct shard_record *r = arena_alloc(&u->arena, sizeof(*r));
    if (r == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    uint32_t bytes = batch_record_size_max(key, value, NULL, 0);
    if (BATCH_HEADER_SIZE + bytes > batch_bytes_max)
        return KE_UNKNOWN_SERVER_ERROR;
    r->key = key;
    r->value = value;
    list_init(&r->link);
    list_push_back(&u->records, &r->link);
    u->records_bytes += bytes;
    u->records_count++;
    return KE_NONE;
}

/* The records have been taken (copied): their memory goes. */
static inline void shard_update_taken(struct shard_update *u)
{
    list_init(&u->records);
    u->records_bytes = 0;
    u->records_count = 0;
    u->in_txn = false;
    arena_release(&u->arena);
}

#endif
