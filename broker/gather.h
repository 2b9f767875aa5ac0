/* How long a core may let work gather before it takes it up (io_gather). */
#ifndef BROKER_GATHER_H
#define BROKER_GATHER_H

#include "core/core.h"

struct gather {
    uint64_t since_ns; /* what is counted came since */
    uint32_t heard, eager;
    uint64_t wait_ns;
};

/* Bytes came on a connection on which nothing was said, and nothing owed, for so long. */
void gather_hear(struct gather *g, uint64_t quiet_ns);
/* Once per turn: how long the next wait may be, after what was heard lately. */
uint64_t gather_turn(struct gather *g, uint64_t now_ns);

#endif
