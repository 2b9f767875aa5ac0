/* Log directories and the partition folders in them; see dir.c. */
#ifndef BROKER_LOG_DIR_H
#define BROKER_LOG_DIR_H

#include "broker/log/log_priv.h"

#define METADATA_NAME "partition.metadata"

NODISCARD int dir_init(struct log_dir *d, struct log_core *c, uint32_t index);
void dir_free(struct log_dir *d);
void dir_forget_folders(struct log_dir *d);
/* Calls the core's dir_failed if that has not been done. */
void dir_tell_failure(struct log_dir *d);
void dir_check_space(struct log_dir *d);
/* The same, unless it was a moment ago. */
void dir_look(struct log_dir *d);
/* What was there at start, or NULL. */
struct folder *dir_folder(const struct log_dir *d, const char *name);
/* Was there a folder of this name at start, unclaimed, that is this topic's or cannot be read? */
bool dir_holds(struct log_dir *d, const char *name, struct uuid id);
/* The folder for a partition: the one found at start if its id agrees, else (*made) a new one, with
 * partition.metadata, not synced. 0 or -errno. */
NODISCARD int dir_claim_folder(struct log_dir *d, const char *name, struct uuid id, bool *made);
/* Removes a file nobody will miss: failure is only reported, and not being there is none. */
void dir_remove_file(struct log_dir *d, const char *path);
/* Makes names in the folder (and it and its partition.metadata) durable. At once. */
NODISCARD int dir_sync_folder(struct log_dir *d, const char *folder, bool with_metadata);
/* Renames to <folder>.<uuid>-<why>; the new name goes to renamed (PATH_ROOM) unless NULL. */
NODISCARD int dir_move_aside(struct log_dir *d, const char *folder, const char *why, char *renamed);

#endif
