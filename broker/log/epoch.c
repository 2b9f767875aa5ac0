/* Leader epochs of one partition: an ascending list of {epoch, first offset}, the answer to "where
 * did epoch e end?" (KIP-320), kept in Kafka's file leader-epoch-checkpoint:
 *
 *   0                  version
 *   2                  entries
 *   0 0                epoch, start offset
 *   3 1200
 *
 * Invariant: epochs and start offsets ascend strictly. An epoch in which nothing was written is not
 * in the list. The file is derived data: it is written without a sync (the folder is synced before
 * a WAL file is reused) and rebuilt from the batches when it is missing or behind them. */
#include "broker/log/epoch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/path.h"
#include "core/lab.h"

#define EPOCH_FILE     "leader-epoch-checkpoint"
#define EPOCH_LINE_MAX 34u
#define EPOCH_FILE_MAX (16u << 20)

struct epochs {
    uint32_t count, room;
    struct epoch_entry entries[];
};

static size_t epochs_bytes(uint32_t room)
{
    return sizeof(struct epochs) + room * sizeof(struct epoch_entry);
}

bool epochs_reserve(struct log *l)
{
    struct epochs *es = l->epochs;
    if (es != NULL && es->count < es->room)
        return true;
    uint32_t room = es == NULL ? 1 : es->room * 2;
    assert(room > 0 && room < UINT32_MAX / 2);
    struct epochs *grown =
        mem_realloc(l->core->mem, es, es == NULL ? 0 : epochs_bytes(es->room), epochs_bytes(room));
    if (grown == NULL)
        return false;
    if (es == NULL)
        grown->count = 0;
    grown->room = room;
    l->epochs = grown;
    return true;
}

int32_t epochs_latest(const struct log *l)
{
    return l->epochs == NULL || l->epochs->count == 0
               ? -1
               : l->epochs->entries[l->epochs->count - 1].epoch;
}

void epochs_assign(struct log *l, int32_t epoch, int64_t offset)
{
    struct epochs *es = l->epochs;
    assert(es != NULL && es->count < es->room);
    if (epoch < 0 || epoch <= epochs_latest(l))
        return;
    if (epoch > l->leader_epoch)
        return; /* damage: a checksum does not cover it */
    while (es->count > 0 && es->entries[es->count - 1].start_offset >= offset)
        es->count--; /* an epoch that turned out to hold nothing */
    es->entries[es->count++] = (struct epoch_entry){epoch, offset};
    l->epochs_dirty = true;
}

void epochs_truncate_start(struct log *l, int64_t offset)
{
    struct epochs *es = l->epochs;
    uint32_t drop = 0;
    if (es == NULL)
        return;
    while (drop + 1 < es->count && es->entries[drop + 1].start_offset <= offset)
        drop++;
    if (drop > 0) {
        memmove(es->entries, es->entries + drop, (es->count - drop) * sizeof(es->entries[0]));
        es->count -= drop;
        l->epochs_dirty = true;
    }
    if (es->count > 0 && es->entries[0].start_offset < offset) {
        es->entries[0].start_offset = offset;
        l->epochs_dirty = true;
    }
}

void epochs_truncate_end(struct log *l, int64_t offset)
{
    struct epochs *es = l->epochs;
    while (es != NULL && es->count > 0 && es->entries[es->count - 1].start_offset >= offset) {
        es->count--;
        l->epochs_dirty = true;
    }
}

void epochs_free(struct log *l)
{
    if (l->epochs != NULL)
        mem_free(l->core->mem, l->epochs, epochs_bytes(l->epochs->room));
    l->epochs = NULL;
}

void log_epoch_end(const struct log *l, int32_t epoch, int32_t *found_epoch, int64_t *end_offset)
{
    const struct epochs *es = l->epochs;
    *found_epoch = -1;
    *end_offset = NO_OFFSET;
    if (epoch < 0 || es == NULL || es->count == 0)
        return;
    if (epoch == epochs_latest(l)) { /* it may still be written in */
        *found_epoch = epoch;
        *end_offset = l->end_offset;
        return;
    }
    uint32_t higher = 0;
    while (higher < es->count && es->entries[higher].epoch <= epoch)
        higher++;
    if (higher == es->count)
        return;
    /* Before the first known one: that epoch itself, ended where the first known begins. */
    *found_epoch = higher == 0 ? epoch : es->entries[higher - 1].epoch;
    *end_offset = es->entries[higher].start_offset;
}

int32_t log_epoch_at(const struct log *l, int64_t offset)
{
    const struct epochs *es = l->epochs;
    for (uint32_t i = es == NULL ? 0 : es->count; i > 0; i--)
        if (es->entries[i - 1].start_offset <= offset)
            return es->entries[i - 1].epoch;
    return -1;
}

bool log_epoch_fits(const struct log *l, const struct batch_header *h)
{
    /* Epochs begin at the log start, which may be inside the batch. */
    int64_t last = batch_last_offset(h), at = MIN(last, MAX(h->base_offset, l->start_offset));
    int32_t epoch = log_epoch_at(l, at);
    return epoch < 0 || h->leader_epoch == -1 || epoch == h->leader_epoch;
}

/* ---- the file -------------------------------------------------------------------------------- */

int epochs_write(struct log *l)
{
    struct log_core *c = l->core;
    uint32_t count = l->epochs == NULL ? 0 : l->epochs->count;
    size_t room = (size_t)(count + 2) * EPOCH_LINE_MAX, size = 0;
    char path[PATH_ROOM], temporary[PATH_ROOM];
    path_in_folder(path, l->dir->path, l->folder, EPOCH_FILE);
    path_in_folder(temporary, l->dir->path, l->folder, EPOCH_FILE ".tmp");
    char *text = mem_alloc(c->mem, room);
    if (text == NULL)
        return -ENOMEM;
    size += (size_t)snprintf(text, room, "0\n%" PRIu32 "\n", count);
    for (uint32_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, room - size, "%" PRId32 " %" PRId64 "\n",
                                 l->epochs->entries[i].epoch, l->epochs->entries[i].start_offset);
    assert(size < room);
    int error = io_open(c->io, temporary, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (error >= 0) {
        int fd = error;
        int64_t written = io_pwrite(c->io, fd, text, size, 0);
        error = written == (int64_t)size ? 0 : written < 0 ? (int)written : -EIO;
        io_close(c->io, fd);
    }
    mem_free(c->mem, text, room);
    if (error == 0)
        error = io_rename(c->io, temporary, path);
    if (error == 0)
        l->epochs_dirty = false;
    return error;
}

/* One line "epoch offset"; moves *at behind it. */
static bool epoch_line(char **at, struct epoch_entry *e)
{
    char *end;
    long long epoch = strtoll(*at, &end, 10);
    if (end == *at || *end != ' ' || epoch < 0 || epoch > INT32_MAX)
        return false;
    *at = end + 1;
    long long offset = strtoll(*at, &end, 10);
    if (end == *at || *end != '\n' || offset < 0)
        return false; /* a number that ends with the file may have lost digits */
    *at = end + 1;
    *e = (struct epoch_entry){(int32_t)epoch, offset};
    return true;
}

static int epochs_parse(struct log *l, char *text)
{
    char *at = text, *end;
    if (strncmp(at, "0\n", 2) != 0)
        return -EILSEQ;
    at += 2;
    unsigned long count = strtoul(at, &end, 10);
    if (end == at || *end != '\n' || count > EPOCH_FILE_MAX / 4)
        return -EILSEQ;
    at = end + 1;
    for (unsigned long i = 0; i < count; i++) {
        struct epoch_entry e;
        if (!epoch_line(&at, &e) || e.epoch <= epochs_latest(l))
            return -EILSEQ;
        if (!epochs_reserve(l))
            return -ENOMEM;
        epochs_assign(l, e.epoch, e.start_offset);
    }
    return *at == 0 ? 0 : -EILSEQ;
}

int epochs_read(struct log *l)
{
    char path[PATH_ROOM], *text = NULL;
    size_t size = 0;
    epochs_free(l);
    path_in_folder(path, l->dir->path, l->folder, EPOCH_FILE);
    int error = io_slurp(l->core->io, l->core->mem, path, EPOCH_FILE_MAX, &text, &size);
    if (error != 0)
        return error;
    error = epochs_parse(l, text);
    mem_free(l->core->mem, text, size + 1);
    if (error != 0)
        epochs_free(l);
    SOMETIMES_IF(error != 0, "the epochs of a log are damaged");
    l->epochs_dirty = error != 0;
    return error;
}
