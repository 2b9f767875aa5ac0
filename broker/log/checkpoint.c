/* The checkpoint files that Kafka keeps in the root of each log directory, one line per partition:
 *
 *   0                     version
 *   2                     lines that follow
 *   orders 0 1234         topic, partition, offset
 *   orders 1 999
 *
 * At start every core reads them whole and keeps what its partitions may ask for until it serves.
 * Later each core lends the lines of its partitions as text, and one core writes the file.
 *
 * Invariant: they are hints about the past. A recovery point may be lower than the truth, a high
 * watermark is clamped to the log; only the log start offset says something the segments do not
 * (DeleteRecords), and it is in the WAL until it is here.
 *
 * Failure: a malformed file is reported and counts as empty, as if it had never been written. */
#include "broker/log/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/path.h"

#define FILE_BYTES_MAX (256u << 20)
#define LINE_BYTES_MAX (FOLDER_NAME_MAX + 1 + 11 + 1 + 20 + 1 + 1)

static const char *const checkpoint_names[LOG_CHECKPOINTS_COUNT] = {
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
};

struct checkpoint {
    int64_t offsets[LOG_CHECKPOINTS_COUNT];
    uint32_t name_size;
    char name[]; /* of the folder */
};

static size_t checkpoint_bytes(uint32_t name_size)
{
    return sizeof(struct checkpoint) + name_size + 1;
}

static struct checkpoint *checkpoint_take(struct log_dir *d, const char *name, uint32_t size)
{
    struct checkpoint *k = map_get(&d->checkpoints, name, size);
    if (k != NULL)
        return k;
    k = mem_zalloc(d->core->mem, checkpoint_bytes(size));
    if (k == NULL)
        return NULL;
    memcpy(k->name, name, size);
    k->name_size = size;
    for (uint32_t i = 0; i < LOG_CHECKPOINTS_COUNT; i++)
        k->offsets[i] = NO_OFFSET;
    if (map_put(&d->checkpoints, k->name, size, k) == 0)
        return k;
    mem_free(d->core->mem, k, checkpoint_bytes(size));
    return NULL;
}

/* "topic partition offset\n" at *at: 0, -EILSEQ, -ENOMEM. Moves *at behind it. */
static int checkpoint_line(struct log_dir *d, enum log_checkpoint which, char **at)
{
    char folder[FOLDER_NAME_MAX + 1], *end;
    char *space = strchr(*at, ' ');
    if (space == NULL || space == *at || space - *at > 249)
        return -EILSEQ;
    long long partition = strtoll(space + 1, &end, 10);
    if (end == space + 1 || *end != ' ' || partition < 0 || partition > INT32_MAX)
        return -EILSEQ;
    char *number = end + 1;
    long long offset = strtoll(number, &end, 10);
    if (end == number || *end != '\n')
        return -EILSEQ; /* a number that ends with the file may have lost digits */
    int size = snprintf(folder, sizeof(folder), "%.*s-%lld", (int)(space - *at), *at, partition);
    if (size <= 0 || (uint32_t)size > FOLDER_NAME_MAX)
        return -EILSEQ;
    *at = end + 1;
    if (map_get(&d->folders, folder, (uint32_t)size) == NULL)
        return 0; /* nothing there that it could be about */
    struct checkpoint *k = checkpoint_take(d, folder, (uint32_t)size);
    if (k == NULL)
        return -ENOMEM;
    k->offsets[which] = offset;
    return 0;
}

static int checkpoint_parse(struct log_dir *d, enum log_checkpoint which, char *text)
{
    char *at = text, *end;
    if (strncmp(at, "0\n", 2) != 0)
        return -EILSEQ;
    at += 2;
    unsigned long count = strtoul(at, &end, 10);
    if (end == at || *end != '\n' || count > FILE_BYTES_MAX / 6)
        return -EILSEQ;
    at = end + 1;
    for (unsigned long i = 0; i < count; i++) {
        int error = checkpoint_line(d, which, &at);
        if (error != 0)
            return error;
    }
    return *at == 0 ? 0 : -EILSEQ;
}

int checkpoints_read(struct log_dir *d)
{
    struct log_core *c = d->core;
    map_init(&d->checkpoints, c->mem, 0);
    for (uint32_t which = 0; which < LOG_CHECKPOINTS_COUNT; which++) {
        char path[PATH_ROOM], *text = NULL;
        size_t size = 0;
        path_in_dir(path, d->path, checkpoint_names[which]);
        int error = io_slurp(c->io, c->mem, path, FILE_BYTES_MAX, &text, &size);
        if (error == -ENOENT)
            continue;
        if (error != 0)
            return error;
        error = checkpoint_parse(d, which, text);
        mem_free(c->mem, text, size + 1);
        if (error == -ENOMEM)
            return error;
        if (error != 0)
            trace_line(c->trace, TRACE_LOG, TRACE_WARN, "%s is malformed", path);
    }
    return 0;
}

void checkpoints_forget(struct log_dir *d)
{
    uint32_t at = 0;
    struct checkpoint *k;
    if (d->checkpoints.mem == NULL)
        return;
    while ((k = map_next(&d->checkpoints, &at)) != NULL)
        mem_free(d->core->mem, k, checkpoint_bytes(k->name_size));
    map_destroy(&d->checkpoints);
    d->checkpoints.mem = NULL;
}

int64_t checkpoint_get(const struct log_dir *d, const char *folder, enum log_checkpoint which)
{
    if (d->checkpoints.mem == NULL)
        return NO_OFFSET;
    const struct checkpoint *k = map_get(&d->checkpoints, folder, (uint32_t)strlen(folder));
    return k == NULL ? NO_OFFSET : k->offsets[which];
}

/* ---- a core's part --------------------------------------------------------------------------- */

static int64_t checkpoint_value(const struct log *l, enum log_checkpoint which)
{
    if (which == LOG_CHECKPOINT_RECOVERY_POINT)
        return l->synced_end;
    if (which == LOG_CHECKPOINT_HIGH_WATERMARK)
        return l->high_watermark;
    if (which == LOG_CHECKPOINT_CLEANER)
        return l->cleaned_end;
    /* Kafka writes it only where the segments do not say it. */
    bool said = l->segments_count > 0 && l->start_offset <= l->segments[0]->base;
    return said ? NO_OFFSET : l->start_offset;
}

static bool part_reserve(struct log_core *c, struct log_checkpoint_part *part)
{
    if (part->room - part->size >= LINE_BYTES_MAX)
        return true;
    size_t room = MAX(part->room * 2, (size_t)4096);
    char *text = mem_realloc(c->mem, part->text, part->room, room);
    if (text == NULL)
        return false;
    part->text = text;
    part->room = room;
    return true;
}

int log_core_checkpoint(struct log_core *c, uint32_t dir, enum log_checkpoint which,
                        struct log_checkpoint_part *part)
{
    assert(dir < c->dirs_count);
    assert(which < LOG_CHECKPOINTS_COUNT);
    *part = (struct log_checkpoint_part){0};
    for (uint32_t i = 0; i < c->table_room; i++) {
        const struct log *l = c->table[i];
        if (l == NULL || l->dir != &c->dirs[dir])
            continue;
        int64_t value = checkpoint_value(l, which);
        if (value < 0)
            continue;
        if (!part_reserve(c, part)) {
            log_core_checkpoint_free(c, part);
            return -ENOMEM;
        }
        const char *dash = strrchr(l->folder, '-');
        part->size += (size_t)snprintf(part->text + part->size, part->room - part->size,
                                       "%.*s %s %" PRId64 "\n", (int)(dash - l->folder), l->folder,
                                       dash + 1, value);
        part->count++;
    }
    return 0;
}

void log_core_checkpoint_free(struct log_core *c, struct log_checkpoint_part *part)
{
    mem_free(c->mem, part->text, part->room);
    *part = (struct log_checkpoint_part){0};
}

int log_checkpoint_write(struct io *io, struct mem *mem, const char *path,
                         enum log_checkpoint which, const struct log_checkpoint_part *parts,
                         uint32_t parts_count)
{
    char file[PATH_ROOM];
    uint64_t count = 0;
    size_t room = 64, size;
    assert(which < LOG_CHECKPOINTS_COUNT);
    path_in_dir(file, path, checkpoint_names[which]);
    for (uint32_t i = 0; i < parts_count; i++) {
        count += parts[i].count;
        room += parts[i].size;
    }
    char *text = mem_alloc(mem, room);
    if (text == NULL)
        return -ENOMEM;
    size = (size_t)snprintf(text, room, "0\n%" PRIu64 "\n", count);
    for (uint32_t i = 0; i < parts_count; i++) {
        if (parts[i].size > 0)
            memcpy(text + size, parts[i].text, parts[i].size);
        size += parts[i].size;
    }
    assert(size < room);
    int error = io_replace(io, file, text, size);
    mem_free(mem, text, room);
    return error;
}
