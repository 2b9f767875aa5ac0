/* Deleting: old segments, folders of deleted topics, DeleteRecords; see retention.c. */
#ifndef BROKER_LOG_RETENTION_H
#define BROKER_LOG_RETENTION_H

#include "broker/log/log_priv.h"

/* Renames the folder of a deleted log, to be removed after file.delete.delay.ms. */
void retention_remove_folder(struct log *l);
/* A piece of the periodic work: expired segments, files whose delay is over. */
void retention_tick(struct log_core *c);
/* Frees the list of files to be removed (they are found again at the next start). */
void retention_forget(struct log_core *c);

#endif
