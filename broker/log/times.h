/* Whether a segment's time index may be believed; see times.c. */
#ifndef BROKER_LOG_TIMES_H
#define BROKER_LOG_TIMES_H

#include "broker/log/index.h"
#include "broker/log/log_priv.h"

/* Does the last entry of the time index say what the batch that it names says, and has nothing
 * behind the last index entry a later timestamp? The segment's index counts are known. 0, -ESTALE:
 * it does not, or -errno. At once. */
NODISCARD int times_check(struct log *l, struct segment *s);
/* Is this entry, which a search has found, true of its batch? 0, -ESTALE, or -errno. At once. */
NODISCARD int times_check_entry(struct log *l, struct segment *s, const struct time_entry *e);
/* The largest timestamp of the segment by its batches, put where the index said another. At once. 0
 * or -errno. */
NODISCARD int times_learn(struct log *l, struct segment *s);

#endif
