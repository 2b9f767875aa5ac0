/* struct ring: single-producer single-consumer queue of pointers between two cores. All atomics of
 * torc live in ring.[ch] and metric.[ch]; the ordering argument stands on top of ring.c.
 *   producer: ring_push (staged, invisible) ... ring_publish (one store for the batch)
 *   consumer: ring_drain
 * Producer and consumer words are on separate cache lines, each with a cached copy of the other's
 * index. struct bell tells a producer whether the consumer sleeps and needs a wake. */
#ifndef CORE_RING_H
#define CORE_RING_H

#include "core/core.h"
#include "core/mem.h"

struct ring {
    _Alignas(CACHE_LINE) uint32_t tail_staged; /* producer only */
    uint32_t head_cached;                      /* producer's copy of head */
    _Alignas(CACHE_LINE) uint32_t tail;        /* published; atomic */
    _Alignas(CACHE_LINE) uint32_t head;        /* consumed; atomic */
    uint32_t tail_cached;                      /* consumer's copy of tail */
    _Alignas(CACHE_LINE) void **slots;
    uint32_t mask;
};

/* slots: power of two. Memory belongs to mem (control core's, at start). 0 or -ENOMEM. */
NODISCARD int ring_init(struct ring *r, struct mem *mem, uint32_t slots);
void ring_destroy(struct ring *r, struct mem *mem);
/* false when full; the message is then not taken. Producer core. */
NODISCARD bool ring_push(struct ring *r, void *item);
/* Makes everything pushed visible. Returns whether anything was published. Producer core. */
bool ring_publish(struct ring *r);
/* Takes up to max items in order. Consumer core. */
uint32_t ring_drain(struct ring *r, void **items, uint32_t max);
/* Anything published and not drained? Consumer core. */
bool ring_pending(const struct ring *r);
/* How much? As of now; more may come. Consumer core. */
uint32_t ring_depth(const struct ring *r);

/* One per core: raised by the owner before it blocks, read by producers after they publish. */
struct bell {
    _Alignas(CACHE_LINE) uint32_t asleep; /* atomic */
    uint32_t over;                        /* atomic: the owner is to end */
};

void bell_sleep(struct bell *b);     /* owner, then re-check the rings, then block */
void bell_awake(struct bell *b);     /* owner, after waking */
bool bell_must_wake(struct bell *b); /* producer, after ring_publish; true at most once per sleep */
/* Tells the owner to end, without a ring, which could be full; then bell_must_wake. For good. */
void bell_end(struct bell *b);
bool bell_ended(const struct bell *b); /* owner; once more after bell_sleep */

#endif
