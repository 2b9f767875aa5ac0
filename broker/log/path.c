/* Names of files and folders, made and read. Kafka's rules: a partition's folder is
 * <topic>-<partition>, split at the last dash; a segment's files carry its base offset in 20
 * digits.
 *
 * Invariant: what is written fits PATH_ROOM because directories are at most DIR_PATH_MAX long and
 * names at most FOLDER_NAME_MAX. Reading never trusts: a name that is not exactly of the form is
 * not ours and is left alone. */
#include "broker/log/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/log_priv.h"

_Static_assert(DIR_PATH_MAX + 1 + FOLDER_NAME_MAX + 1 + 64 < PATH_ROOM, "longest path");

static void path_checked(int length)
{
    assert(length > 0);
    assert((uint32_t)length < PATH_ROOM);
}

void path_wal(char *to, const char *dir, uint32_t core, uint32_t number)
{
    path_checked(snprintf(to, PATH_ROOM, "%s/wal-%u-%u.torc", dir, core, number));
}

void path_in_dir(char *to, const char *dir, const char *name)
{
    path_checked(snprintf(to, PATH_ROOM, "%s/%s", dir, name));
}

void path_in_folder(char *to, const char *dir, const char *folder, const char *name)
{
    path_checked(snprintf(to, PATH_ROOM, "%s/%s/%s", dir, folder, name));
}

void path_segment(char *to, const char *dir, const char *folder, int64_t base, const char *suffix)
{
    assert(base >= 0);
    path_checked(snprintf(to, PATH_ROOM, "%s/%s/%020" PRId64 "%s", dir, folder, base, suffix));
}

void path_renamed_folder(char *to, const char *folder, struct uuid id, const char *why)
{
    char hex[33];
    for (uint32_t i = 0; i < sizeof(id.bytes); i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", id.bytes[i]);
    const char *dash = strrchr(folder, '-');
    assert(dash != NULL);
    size_t rest = strlen(dash) + 1 + sizeof(hex) - 1 + 1 + strlen(why);
    assert(rest < FOLDER_NAME_MAX);
    size_t topic = MIN((size_t)(dash - folder), FOLDER_NAME_MAX - rest);
    path_checked(snprintf(to, PATH_ROOM, "%.*s%s.%s-%s", (int)topic, folder, dash, hex, why));
}

/* A decimal number without sign or leading zeros at *at; moves *at behind it. */
static bool digits_read(const char **at, uint64_t max, uint64_t *value)
{
    const char *begin = *at;
    *value = 0;
    while (**at >= '0' && **at <= '9') {
        *value = *value * 10 + (uint64_t)(**at - '0');
        if (*value > max)
            return false;
        (*at)++;
    }
    return *at > begin && (*begin != '0' || *at == begin + 1);
}

bool path_parse_wal(const char *name, uint32_t *core, uint32_t *number)
{
    uint64_t c = 0, n = 0;
    if (strncmp(name, "wal-", 4) != 0)
        return false;
    const char *at = name + 4;
    if (!digits_read(&at, CORES_MAX, &c) || *at++ != '-')
        return false;
    if (!digits_read(&at, WAL_FILES_MAX - 1, &n) || strcmp(at, ".torc") != 0)
        return false;
    *core = (uint32_t)c;
    *number = (uint32_t)n;
    return true;
}

bool path_parse_folder(const char *name, uint32_t *topic_size, int32_t *partition)
{
    const char *dash = strrchr(name, '-');
    if (dash == NULL || dash == name || dash - name > 249)
        return false;
    const char *at = dash + 1;
    uint64_t value = 0;
    if (!digits_read(&at, INT32_MAX, &value) || *at != 0)
        return false;
    for (const char *p = name; p < dash; p++) {
        bool legal = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || *p == '.' || *p == '_' || *p == '-';
        if (!legal)
            return false;
    }
    *topic_size = (uint32_t)(dash - name);
    *partition = (int32_t)value;
    return true;
}

bool path_parse_offset(const char *name, int64_t *offset, const char **suffix)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        if (value > (uint64_t)INT64_MAX / 10)
            return false;
        value = value * 10 + (uint64_t)(name[i] - '0');
    }
    if (value > INT64_MAX)
        return false;
    *offset = (int64_t)value;
    *suffix = name + 20;
    return true;
}
