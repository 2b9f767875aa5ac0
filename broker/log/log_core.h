/* What log.c and others ask of the core; see log_core.c. */
#ifndef BROKER_LOG_LOG_CORE_H
#define BROKER_LOG_LOG_CORE_H

#include "broker/log/log_priv.h"

/* Into the table and the map. False: over budget. */
NODISCARD bool core_add_log(struct log_core *c, struct log *l);
void core_remove_log(struct log_core *c, struct log *l);
/* Frees a log that is on no list any more. */
void log_destroy(struct log *l);
/* The leader epoch begins at the end offset. */
void log_begin_epoch(struct log *l);
void log_take_due_watches(struct log *l, struct list *due);

#endif
