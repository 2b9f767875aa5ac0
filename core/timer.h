/* Timer wheel of one core: 4 levels of 256 slots, 1 ms ticks. Arming, re-arming and cancelling are
 * O(1). A timer never fires early; it fires at most one tick late plus the length of a turn. */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include "core/list.h"

#include <stdbool.h>
#include <stdint.h>

struct timer {
    struct list link;              /* unlinked: not armed */
    uint64_t due_ns;               /* monotonic */
    void (*fire)(struct timer *t); /* not armed any more when called; may arm it again */
};

struct wheel {
    uint64_t tick; /* ms since start of the monotonic clock, the last one expired */
    uint32_t armed_count;
    struct list due;       /* collected, waiting for budget */
    uint64_t filled[4][4]; /* bit: the slot may hold timers */
    struct list slots[4][256];
};

void wheel_init(struct wheel *w, uint64_t now_ns);
void timer_init(struct timer *t, void (*fire)(struct timer *t));
/* Moves an armed timer. A due time in the past fires on the next wheel_run. */
void timer_arm(struct wheel *w, struct timer *t, uint64_t due_ns);
/* Nothing happens if it is not armed. */
void timer_cancel(struct wheel *w, struct timer *t);
static inline bool timer_armed(const struct timer *t)
{
    return !list_empty(&t->link);
}
/* Fires what is due, at most budget timers; returns how many. */
uint32_t wheel_run(struct wheel *w, uint64_t now_ns, uint32_t budget);
/* When wheel_run is next worth calling (may be early, never late); UINT64_MAX if nothing is armed.
 */
uint64_t wheel_next_ns(const struct wheel *w);

#endif
