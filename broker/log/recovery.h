/* What the WAL proves, laid over the segments; see recovery.c. */
#ifndef BROKER_LOG_RECOVERY_H
#define BROKER_LOG_RECOVERY_H

#include "broker/log/log_priv.h"

NODISCARD int recovery_run(struct log_core *c);
/* A log opened on files that were there, after the replay. */
NODISCARD int recovery_open_late(struct log *l);
/* WAL files that no core of this configuration will write over. */
NODISCARD int recovery_remove_old(struct log_dir *d);

/* Before a new WAL begins: the files of one that was found damaged get other names. 0 or -errno. */
NODISCARD int recovery_keep_wal(struct log_dir *d);

#endif
