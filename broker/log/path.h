/* Names of the files of a log directory, Kafka's and our own. Each writes at most PATH_ROOM bytes,
 * terminated; directories longer than DIR_PATH_MAX are refused at start. */
#ifndef BROKER_LOG_PATH_H
#define BROKER_LOG_PATH_H

#include "core/assert.h"
#include "core/uuid.h"

#include <stdbool.h>
#include <stdint.h>

#define DIR_PATH_MAX    700u
#define FOLDER_NAME_MAX 255u /* the file system's limit, and Kafka's */

void path_wal(char *to, const char *dir, uint32_t core, uint32_t number);
void path_in_dir(char *to, const char *dir, const char *name);
void path_in_folder(char *to, const char *dir, const char *folder, const char *name);
/* <dir>/<folder>/<20 digits><suffix>, suffix with its dot. */
void path_segment(char *to, const char *dir, const char *folder, int64_t base, const char *suffix);
/* <folder>.<uuid>-<why>, cut to the limit as Kafka cuts it (the topic's end is lost). */
void path_renamed_folder(char *to, const char *folder, struct uuid id, const char *why);
/* "wal-3-1.torc" */
NODISCARD bool path_parse_wal(const char *name, uint32_t *core, uint32_t *number);
/* "topic-with-dashes-12": where the topic ends; false if it is no partition folder. */
NODISCARD bool path_parse_folder(const char *name, uint32_t *topic_size, int32_t *partition);
/* "00000000000000000042.log": the offset and where the suffix begins. */
NODISCARD bool path_parse_offset(const char *name, int64_t *offset, const char **suffix);

#endif
