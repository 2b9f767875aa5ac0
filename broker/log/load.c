/* Bringing a log into memory when it is opened: its segments, where it begins and ends. */
#include "broker/log/load.h"

#include <errno.h>

#include "broker/log/segment.h"

int log_load(struct log *l, bool empty)
{
    (void)empty;
    l->snapshot_offset = NO_OFFSET;
    return segment_add(l, 0) == NULL ? -ENOMEM : 0;
}
