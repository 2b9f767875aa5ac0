/* Single-producer single-consumer ring of pointers, and the bell that says whether its consumer
 * sleeps. Together with metric.[ch] these are all the atomics of torc.
 *
 *        head              tail           tail_staged
 *          │                 │                 │
 *   ───────▼─────────────────▼─────────────────▼───────────   indices only grow, modulo 2^32;
 *    free  │   published     │     staged      │   free       slot = index & mask
 *   ───────┴─────────────────┴─────────────────┴───────────
 *          consumer reads    producer has written, consumer cannot see yet
 *
 * Invariants:
 *  1. head <= tail <= tail_staged <= head + slots (modulo 2^32).
 *  2. tail, tail_staged, head_cached are written by the producer only; head, tail_cached by the
 *     consumer only.
 *  3. A cached index is an index the other side has really had, so it errs towards "full" for the
 *     producer and towards "empty" for the consumer, never the other way.
 *
 * Ordering.
 *  a. Slots: the producer writes slots, then stores tail (at least release). The consumer loads
 * tail (acquire) and then reads slots below it: it reads what was written, and everything the
 *     producer wrote before, which is how the letter's own fields become visible.
 *  b. Reuse: the consumer reads slots, then stores head (release). The producer loads head
 * (acquire) before it writes a slot again: the old read happened before the new write. c. Sleep.
 * Producer: store tail (T); load asleep (A'). Consumer: store asleep = 1 (A); load tail (T'). A
 * wake is lost only if A' reads the old asleep and T' reads the old tail. All four are seq_cst, so
 * they have one total order in which each load sees the last store before it; if A' does not see A
 * then A' is before A, hence T < A' < A < T', and T' sees T. This is why tail is stored seq_cst and
 * ring_pending loads seq_cst; on x86-64 the store is one xchg per batch and the load is plain.
 * Fences would do as well, but the thread sanitizer cannot see them. d. At most one wake: the
 * producer that turns asleep from 1 to 0 by exchange is the one that wakes. A consumer that woke
 * for another reason clears it itself.
 *  e. End: as sleep, with over in the place of tail, and bell_ended in that of the look at the
 *     rings.
 *
 * Failure modes: full. ring_push says so and takes nothing. */
#include "core/ring.h"

#include <errno.h>

_Static_assert(sizeof(struct ring) == 4 * CACHE_LINE, "one line per writer, none shared");

int ring_init(struct ring *r, struct mem *mem, uint32_t slots)
{
    assert(slots >= 2 && slots <= 1u << 30);
    assert((slots & (slots - 1)) == 0);
    *r = (struct ring){.mask = slots - 1};
    r->slots = mem_zalloc(mem, (size_t)slots * sizeof(void *));
    return r->slots == NULL ? -ENOMEM : 0;
}

void ring_destroy(struct ring *r, struct mem *mem)
{
    if (r->slots != NULL)
        mem_free(mem, r->slots, ((size_t)r->mask + 1) * sizeof(void *));
    *r = (struct ring){0};
}

bool ring_push(struct ring *r, void *item)
{
    assert(item != NULL);
    assert(r->tail_staged - r->head_cached <= r->mask + 1);
    if (r->tail_staged - r->head_cached > r->mask) {
        r->head_cached = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE); /* ordering b */
        if (r->tail_staged - r->head_cached > r->mask)
            return false;
    }
    r->slots[r->tail_staged & r->mask] = item;
    r->tail_staged++;
    return true;
}

bool ring_publish(struct ring *r)
{
    if (__atomic_load_n(&r->tail, __ATOMIC_RELAXED) == r->tail_staged)
        return false;
    __atomic_store_n(&r->tail, r->tail_staged, __ATOMIC_SEQ_CST); /* ordering a, c */
    return true;
}

uint32_t ring_drain(struct ring *r, void **items, uint32_t max)
{
    uint32_t head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
    if (r->tail_cached - head < max)
        r->tail_cached = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE); /* ordering a */
    uint32_t count = MIN(r->tail_cached - head, max);
    assert(count <= r->mask + 1);
    for (uint32_t i = 0; i < count; i++)
        items[i] = r->slots[(head + i) & r->mask];
    if (count > 0)
        __atomic_store_n(&r->head, head + count, __ATOMIC_RELEASE); /* ordering b */
    return count;
}

bool ring_pending(const struct ring *r)
{
    uint32_t head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
    return __atomic_load_n(&r->tail, __ATOMIC_SEQ_CST) != head; /* ordering c */
}

uint32_t ring_depth(const struct ring *r)
{
    uint32_t head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
    return __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) - head;
}

void bell_sleep(struct bell *b)
{
    __atomic_store_n(&b->asleep, 1, __ATOMIC_SEQ_CST); /* ordering c */
}

void bell_awake(struct bell *b)
{
    /* Relaxed: a producer that still sees 1 wakes us once for nothing, which is harmless. */
    __atomic_store_n(&b->asleep, 0, __ATOMIC_RELAXED);
}

bool bell_must_wake(struct bell *b)
{
    if (__atomic_load_n(&b->asleep, __ATOMIC_SEQ_CST) == 0) /* ordering c */
        return false;
    return __atomic_exchange_n(&b->asleep, 0, __ATOMIC_SEQ_CST) != 0; /* ordering d */
}

void bell_end(struct bell *b)
{
    __atomic_store_n(&b->over, 1, __ATOMIC_SEQ_CST); /* ordering e */
}

bool bell_ended(const struct bell *b)
{
    return __atomic_load_n(&b->over, __ATOMIC_SEQ_CST) != 0; /* ordering e */
}
