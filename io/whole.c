/* Whole files, built on io.h alone, so that both bodies share them: replace one atomically, read
 * one, remove a folder.
 *
 *   io_replace   path.tmp written ─▶ its data synced ─▶ renamed over path ─▶ directory synced
 *                crash here: old     old                old or new           new
 *
 *  1. After a crash path holds the old bytes or the new ones, whole; when io_replace has returned
 *     0, the new ones.
 *  2. A path.tmp left by a crash is overwritten by the next io_replace of the same path.
 *  3. io_slurp reads to the end that it finds, not to the size it was told: files of /proc say 0,
 *     and a file may grow meanwhile.
 *  4. io_remove_tree never removes while it lists: what a listing says after an entry has vanished
 *     is not defined. It lists a handful of names, removes them, and lists again.
 *
 * Failures: io_replace that fails before the rename leaves path as it was and removes path.tmp; one
 * that fails to sync the directory has replaced the file, but does not promise that it lasts. */
#include "io/io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE     4096u
#define SLURP_MIN     512u
#define NAMES_SIZE    8192u   /* of one handful */
#define HANDFULS_MAX  100000u /* more entries than any folder of ours has */
#define NAME_SIZE_MAX 256u

/* ---- replace --------------------------------------------------------------------------------- */

/* The directory that holds path; false when the text does not fit. */
static bool directory_of(const char *path, char *to, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= size)
        return false;
    memcpy(to, length > 0 ? path : ".", length > 0 ? length : 1);
    to[length > 0 ? length : 1] = 0;
    return true;
}

static int write_and_sync(struct io *io, const char *path, const void *data, size_t size)
{
    int fd = io_open(io, path, IO_WRITE | IO_CREATE | IO_TRUNC);
    if (fd < 0)
        return fd;
    int error = 0;
    if (size > 0) {
        int64_t n = io_pwrite(io, fd, data, size, 0);
        error = n < 0 ? (int)n : 0;
    }
    if (error == 0)
        error = io_fdatasync(io, fd);
    io_close(io, fd);
    return error;
}

int io_replace(struct io *io, const char *path, const void *data, size_t size)
{
    assert(path[0] != 0);
    assert(data != NULL || size == 0);
    char temporary[PATH_SIZE], directory[PATH_SIZE];
    int length = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof(temporary) ||
        !directory_of(path, directory, sizeof(directory)))
        return -ENAMETOOLONG;
    int error = write_and_sync(io, temporary, data, size);
    if (error == 0)
        error = io_rename(io, temporary, path);
    if (error != 0) {
        int ignored = io_unlink(io, temporary);
        (void)ignored; /* it may not even exist */
        return error;
    }
    return io_sync_directory(io, directory);
}

/* ---- slurp ----------------------------------------------------------------------------------- */

/* Reads until the end into *data, growing it; *capacity bytes are allocated at return. */
static int slurp(struct io *io, struct mem *mem, int fd, size_t limit, char **data,
                 size_t *capacity, size_t *size)
{
    for (;;) {
        assert(*size <= *capacity);
        if (*size == *capacity) {
            size_t more = MIN(MAX(*capacity * 2, (size_t)SLURP_MIN), limit + 1);
            char *grown = mem_realloc(mem, *data, *capacity, more);
            if (grown == NULL)
                return -ENOMEM;
            *data = grown;
            *capacity = more;
        }
        size_t want = *capacity - *size;
        int64_t n = io_pread(io, fd, *data + *size, want, *size);
        if (n < 0)
            return (int)n;
        *size += (size_t)n;
        if (*size > limit)
            return -EFBIG;
        if (n == 0)
            return 0;
    }
}

int io_slurp(struct io *io, struct mem *mem, const char *path, size_t limit, char **data,
             size_t *size)
{
    assert(limit > 0 && limit < SIZE_MAX / 4);
    *data = NULL;
    *size = 0;
    int fd = io_open(io, path, IO_READ);
    if (fd < 0)
        return fd;
    struct io_stat stat;
    size_t capacity = 0;
    int error = io_fstat(io, fd, &stat);
    if (error == 0 && stat.size > limit)
        error = -EFBIG;
    if (error == 0) {
        /* One byte more than it says shows the end of it without another read. */
        capacity = stat.size > 0 ? (size_t)stat.size + 1 : SLURP_MIN;
        *data = mem_alloc(mem, capacity);
        error = *data == NULL ? -ENOMEM : slurp(io, mem, fd, limit, data, &capacity, size);
    }
    io_close(io, fd);
    if (error == 0) {
        char *fitted = mem_realloc(mem, *data, capacity, *size + 1);
        if (fitted != NULL) {
            fitted[*size] = 0;
            *data = fitted;
            return 0;
        }
        error = -ENOMEM;
    }
    if (*data != NULL)
        mem_free(mem, *data, capacity);
    *data = NULL;
    *size = 0;
    return error;
}

/* ---- remove a folder ------------------------------------------------------------------------- */

struct handful {
    char names[NAMES_SIZE]; /* terminated names, one after the other */
    size_t used;
    uint32_t count;
};

static bool take_name(void *context, const char *name, bool is_directory)
{
    (void)is_directory; /* the unlink will say so */
    struct handful *h = context;
    size_t size = strlen(name) + 1;
    assert(size <= NAME_SIZE_MAX);
    memcpy(h->names + h->used, name, size);
    h->used += size;
    h->count++;
    return h->used + NAME_SIZE_MAX <= NAMES_SIZE;
}

static int remove_handful(struct io *io, const char *path, const struct handful *h)
{
    const char *name = h->names;
    for (uint32_t i = 0; i < h->count; i++) {
        char file[PATH_SIZE];
        int length = snprintf(file, sizeof(file), "%s/%s", path, name);
        if (length < 0 || (size_t)length >= sizeof(file))
            return -ENAMETOOLONG;
        int error = io_unlink(io, file);
        if (error != 0 && error != -ENOENT)
            return error;
        name += strlen(name) + 1;
    }
    return 0;
}

int io_remove_tree(struct io *io, const char *path)
{
    assert(path[0] != 0);
    for (uint32_t i = 0; i < HANDFULS_MAX; i++) {
        struct handful h;
        h.used = 0;
        h.count = 0;
        int error = io_list(io, path, take_name, &h);
        if (error != 0)
            return error;
        if (h.count == 0)
            return io_rmdir(io, path);
        error = remove_handful(io, path, &h);
        if (error != 0)
            return error;
    }
    return -EBUSY; /* somebody adds files as fast as we remove them */
}

/* ---- folders --------------------------------------------------------------------------------- */

int io_mkdirs(struct io *io, const char *path)
{
    char part[PATH_SIZE];
    size_t length = strlen(path);
    if (length >= sizeof(part))
        return -ENAMETOOLONG;
    memcpy(part, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (part[i] != '/')
            continue;
        part[i] = 0;
        int error = io_mkdir(io, part);
        if (error != 0 && error != -EEXIST)
            return error;
        part[i] = '/';
    }
    return io_mkdir(io, path);
}
