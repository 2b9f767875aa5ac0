/* Which core runs on this thread: the only mutable state outside an argument in all of torc. */
#include "core/core.h"

#include "core/assert.h"

static _Thread_local struct core_id self = {CORES_MAX};

struct core_id core_self(void)
{
    return self;
}

void core_enter(struct core_id id)
{
    assert(id.index < CORES_MAX);
    self = id;
}

void core_leave(void)
{
    self.index = CORES_MAX;
}
