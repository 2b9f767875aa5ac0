/* Reads that go to disk; see read.c. */
#ifndef BROKER_LOG_READ_H
#define BROKER_LOG_READ_H

#include "broker/log/log_priv.h"

/* Every read of l under way ends with this error (log deleted or failed). */
void reads_refuse(struct log *l, enum kafka_error error);
/* Where readers of l were in its files is not so any more: others took their place, or l its end.
 */
void reads_forget(struct log *l);

#endif
