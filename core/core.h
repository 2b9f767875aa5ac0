/* core/ is what one CPU core is made of: its identity, its memory, its timers, its mail to other
 * cores, and the words (op, msg, stage, state) in which waiting is written. It knows neither Kafka
 * nor the kernel. Everything belongs to exactly one core, and functions that touch a core's state
 * say so by asserting core_self(). */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CACHE_LINE 64

/* Data cores are 0 .. n-1, the control core is n. CORES_MAX bounds both together. */
#define CORES_MAX 129

/* One field, so that the compiler keeps a core apart from a partition or an index. */
struct core_id {
    uint16_t index;
};

static inline bool core_same(struct core_id a, struct core_id b)
{
    return a.index == b.index;
}

/* The core that runs now, on this thread. The simulator enters a core before each of its turns;
 * a real thread enters once. Outside any core (start-up, tests) it is CORES_MAX. */
struct core_id core_self(void);
void core_enter(struct core_id id);
void core_leave(void);

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(1 ? (pointer) : &((type *)0)->member) - offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

#endif
