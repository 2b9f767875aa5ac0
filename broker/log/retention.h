/* What goes: old segments, folders of deleted topics; and the log start offset. See retention.c. */
#ifndef BROKER_LOG_RETENTION_H
#define BROKER_LOG_RETENTION_H

#include "broker/log/log_priv.h"

/* Renames the folder of a deleted log, to be removed after file.delete.delay.ms. */
void retention_remove_folder(struct log *l);
/* Removes what has expired of one log, unless it is being cleaned. */
void retention_of_log(struct log *l);
/* Goes on where the flush of a log's names was waited for. */
void retention_turn(struct log_core *c);
/* Gives the files of a segment the suffix .deleted, to be removed after the topic's delay. The
 * producer snapshot goes too if asked for. 0 or -errno. */
NODISCARD int retention_rename(struct log *l, const struct segment *s, bool snapshot);
/* Of its records; of its file if none has a timestamp; INT64_MAX if that cannot be said. */
int64_t retention_largest_time(struct log *l, struct segment *s);
/* A piece of the periodic work: expired segments, files whose delay is over. */
void retention_tick(struct log_core *c);

#define LOG_START_NAME "log-start.torc"
/* The log start offset of a log whose segments do not say it, in a file of its folder, durable.
 * At once. */
NODISCARD int log_start_write(struct log *l);
/* The same in steps, for the flusher: the new file beside the old one (its path, of PATH_ROOM, is
 * told; the caller syncs it), then its name (the caller syncs the folder). */
NODISCARD int log_start_prepare(struct log *l, char *path);
NODISCARD int log_start_name(struct log *l);
/* The line of that file: false, and NO_OFFSET, if it is damaged. */
bool log_start_parse(const char *text, int64_t *offset);
/* What that file says, NO_OFFSET if there is none that is sound. */
NODISCARD int log_start_read(struct log *l, int64_t *offset);

#endif
