/* When a core should let work gather: a wake costs far more than a request, and 10,000 peers that
 * say something once a second wake a core 10,000 times a second, for one request each. A write of
 * the WAL costs as much again, and each has one commit in it.
 *
 *   heard 5 ms ──▶ often enough, and by peers in no hurry? ──▶ wait for about GATHER_EACH of them,
 *                                                              GATHER_NS_MAX at most
 *
 * Who is in a hurry: a peer that speaks while it is owed an answer, or soon after it got one, most
 * likely does all it does one after the other, so what each answer is late, all its work is. One
 * that thinks for much longer than we wait loses nothing by it.
 *
 * Invariants: 1. Below GATHER_RATE_MIN, nothing is waited for: the core is idle anyway, and what
 * there is would not come in twos. 2. What is waited is at most a twentieth of what peers let pass
 * by themselves. 3. Counts are of one span; what it allows holds for the next. */
#include "broker/gather.h"

#include "core/assert.h"

#define SPAN_NS         (5 * NS_PER_MS)
#define GATHER_RATE_MIN 6000u /* per second */
#define GATHER_EACH     8u
#define GATHER_NS_MAX   (500 * NS_PER_US)
#define EAGER_NS        (20 * GATHER_NS_MAX)
#define EAGER_SHARE     8u /* one of so many may be in a hurry */

void gather_hear(struct gather *g, uint64_t quiet_ns)
{
    assert(g->heard < UINT32_MAX);
    g->heard++;
    if (quiet_ns < EAGER_NS)
        g->eager++;
}

uint64_t gather_turn(struct gather *g, uint64_t now_ns)
{
    assert(now_ns >= g->since_ns);
    uint64_t span = now_ns - g->since_ns;
    if (span < SPAN_NS)
        return g->wait_ns;
    g->wait_ns = 0;
    if (g->heard * NS_PER_S / GATHER_RATE_MIN >= span && g->eager <= g->heard / EAGER_SHARE)
        g->wait_ns = MIN(span * GATHER_EACH / g->heard, GATHER_NS_MAX);
    g->since_ns = now_ns;
    g->heard = g->eager = 0;
    return g->wait_ns;
}
