/* Checkpoint files in the root of a directory; see checkpoint.c. */
#ifndef BROKER_LOG_CHECKPOINT_H
#define BROKER_LOG_CHECKPOINT_H

#include "broker/log/log_priv.h"

/* Reads the three files into d->checkpoints. A file that is missing or malformed counts as empty.
 * 0 or -errno. */
NODISCARD int checkpoints_read(struct log_dir *d);
void checkpoints_forget(struct log_dir *d);
/* What the file said about a partition's folder; NO_OFFSET: nothing. */
int64_t checkpoint_get(const struct log_dir *d, const char *folder, enum log_checkpoint which);

#endif
