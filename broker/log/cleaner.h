/* The log cleaner of a core: compaction of the logs that ask for it; see cleaner.c. */
#ifndef BROKER_LOG_CLEANER_H
#define BROKER_LOG_CLEANER_H

#include "broker/log/log_priv.h"

struct clean_range { /* what of a log can be cleaned now, by Kafka's reckoning */
    int64_t first_dirty;
    int64_t end; /* the first offset that may not be touched: where a segment begins */
    uint64_t clean_bytes, dirty_bytes;
    double ratio;
    bool due; /* something dirty is older than max.compaction.lag.ms */
};
/* False: nothing. */
NODISCARD bool clean_range_find(struct log *l, struct clean_range *r);

/* NULL over budget. */
NODISCARD struct cleaner *cleaner_make(struct log_core *c);
/* The core serves: looks for work from now on. */
void cleaner_start(struct cleaner *k);
/* A turn: goes on where it waited for a flush. */
void cleaner_turn(struct cleaner *k);
/* Ends soon what is under way; true: nothing is. */
bool cleaner_stop(struct cleaner *k);
bool cleaner_busy(const struct cleaner *k); /* I/O under way */
void cleaner_free(struct cleaner *k);

#endif
