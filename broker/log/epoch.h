/* Which leader epoch began at which offset (leader-epoch-checkpoint); see epoch.c. */
#ifndef BROKER_LOG_EPOCH_H
#define BROKER_LOG_EPOCH_H

#include "broker/log/log_priv.h"

struct epoch_entry {
    int32_t epoch;
    int64_t start_offset;
};

/* Room for one more entry, so that epochs_assign cannot fail. */
NODISCARD bool epochs_reserve(struct log *l);
/* A batch of this epoch begins at offset. Old epochs, and none (-1), change nothing. */
void epochs_assign(struct log *l, int32_t epoch, int64_t offset);
/* Forgets what is below / at or above an offset. */
void epochs_truncate_start(struct log *l, int64_t offset);
void epochs_truncate_end(struct log *l, int64_t offset);
int32_t epochs_latest(const struct log *l); /* -1: none */
void epochs_free(struct log *l);
/* The file. Not synced: it can be rebuilt from the batches, and is when it disagrees. */
NODISCARD int epochs_write(struct log *l);
NODISCARD int epochs_read(struct log *l); /* -EILSEQ: not readable, now empty; -ENOENT */

#endif
