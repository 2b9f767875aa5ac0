/* Files and directories at once: the calls that name things, and small reads and writes for
 * start-up, rolls and admin work. Plain system calls, no ring.
 *
 *  1. Everything returns 0, a count or an fd, or -errno. EINTR is tried again where the kernel may
 *     return it before anything happened; never after a sync, which may have lost its error.
 *  2. Descriptors are close-on-exec.
 *  3. Locks are open-file-description locks: they exclude other descriptors of this process as
 *     well, and the POSIX lock that another broker holds on the same directory's .lock file.
 *
 * Failures are the caller's to judge. A directory that shrinks while it is listed is listed as it
 * was at some moment of each entry, as the kernel has it. */
#include "io/uring/uring_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_MODE      0644
#define DIRECTORY_MODE 0755
#define LIST_SIZE      8192u /* of entries asked for at once */

static int result_of(int returned)
{
    return returned < 0 ? -errno : returned;
}

static int open_again(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return result_of(fd);
}

int io_open(struct io *io, const char *path, uint32_t flags)
{
    (void)io;
    assert((flags & (IO_READ | IO_WRITE)) != 0);
    assert((flags & ~(IO_READ | IO_WRITE | IO_CREATE | IO_EXCL | IO_TRUNC | IO_DIRECT)) == 0);
    int how = O_RDONLY;
    if ((flags & IO_WRITE) != 0)
        how = (flags & IO_READ) != 0 ? O_RDWR : O_WRONLY;
    how |= (flags & IO_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & IO_EXCL) != 0 ? O_EXCL : 0;
    how |= (flags & IO_TRUNC) != 0 ? O_TRUNC : 0;
    how |= (flags & IO_DIRECT) != 0 ? O_DIRECT : 0;
    return open_again(path, how);
}

void io_close(struct io *io, int fd)
{
    (void)io;
    assert(fd >= 0);
    close(fd);
}

static void stat_fill(const struct stat *from, struct io_stat *to)
{
    *to = (struct io_stat){
        .size = (uint64_t)from->st_size,
        .modified_ms = (int64_t)from->st_mtim.tv_sec * 1000 +
                       (int64_t)(from->st_mtim.tv_nsec / (long)NS_PER_MS),
        .is_directory = S_ISDIR(from->st_mode),
    };
}

int io_stat(struct io *io, const char *path, struct io_stat *to)
{
    (void)io;
    struct stat s;
    if (stat(path, &s) != 0)
        return -errno;
    stat_fill(&s, to);
    return 0;
}

int io_fstat(struct io *io, int fd, struct io_stat *to)
{
    (void)io;
    struct stat s;
    if (fstat(fd, &s) != 0)
        return -errno;
    stat_fill(&s, to);
    return 0;
}

int64_t io_pread(struct io *io, int fd, void *to, size_t size, uint64_t offset)
{
    (void)io;
    assert(size <= INT64_MAX && offset <= INT64_MAX - size);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
        if ((offset + done) % 4096 != 0)
            break; /* the end of the file: see file.c, 2 */
    }
    return (int64_t)done;
}

int64_t io_pwrite(struct io *io, int fd, const void *from, size_t size, uint64_t offset)
{
    (void)io;
    assert(size <= INT64_MAX && offset <= INT64_MAX - size);
    size_t done = 0;
    while (done < size) {
        ssize_t n = pwrite(fd, (const uint8_t *)from + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return (int64_t)done;
}

int io_truncate(struct io *io, int fd, uint64_t size)
{
    (void)io;
    assert(size <= INT64_MAX);
    return result_of(ftruncate(fd, (off_t)size));
}

int io_allocate(struct io *io, int fd, uint64_t size)
{
    (void)io;
    assert(size > 0 && size <= INT64_MAX);
    int n;
    do
        n = fallocate(fd, 0, 0, (off_t)size);
    while (n < 0 && errno == EINTR);
    return result_of(n);
}

int io_reserve(struct io *io, int fd, uint64_t size)
{
    (void)io;
    assert(size > 0 && size <= INT64_MAX);
    int n;
    do
        n = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
    while (n < 0 && errno == EINTR);
    return result_of(n);
}

/* File systems wait for direct I/O under way before they allocate, even where all is allocated.
 * Seen on a throttled disk: the writes of a process that was killed, and waited for, kept landing
 * for four seconds, and this call took as long. What it says does not matter: a file system that
 * cannot allocate has no direct I/O that goes on by itself. */
void io_settle(struct io *io, int fd)
{
    (void)io;
    assert(fd >= 0);
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_size > 0)
        (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, st.st_size);
}

int io_fdatasync(struct io *io, int fd)
{
    (void)io;
    return result_of(fdatasync(fd));
}

int io_reread(struct io *io, int fd)
{
    (void)io;
    int error = result_of(fdatasync(fd));
    return error != 0 ? error : -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

int io_open_direct(struct io *io, int fd)
{
    (void)io;
    char path[32];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open_again(path, O_RDONLY | O_DIRECT);
}

int io_sync_directory(struct io *io, const char *path)
{
    (void)io;
    int fd = open_again(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    int error = result_of(fsync(fd));
    close(fd);
    return error;
}

int io_sync_filesystem(struct io *io, const char *path)
{
    (void)io;
    int fd = open_again(path, O_RDONLY);
    if (fd < 0)
        return fd;
    int error = result_of(syncfs(fd));
    close(fd);
    return error;
}

int io_mkdir(struct io *io, const char *path)
{
    (void)io;
    return result_of(mkdir(path, DIRECTORY_MODE));
}

int io_rmdir(struct io *io, const char *path)
{
    (void)io;
    return result_of(rmdir(path));
}

int io_unlink(struct io *io, const char *path)
{
    (void)io;
    return result_of(unlink(path));
}

int io_rename(struct io *io, const char *from, const char *to)
{
    (void)io;
    return result_of(rename(from, to));
}

/* Some file systems do not say in the entry what kind of thing it names. */
static bool entry_is_directory(int directory, const struct dirent64 *entry)
{
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    struct stat s;
    return fstatat(directory, entry->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(s.st_mode);
}

static bool entry_is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int io_list(struct io *io, const char *path,
            bool (*visit)(void *context, const char *name, bool is_directory), void *context)
{
    (void)io;
    assert(visit != NULL);
    int fd = open_again(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    _Alignas(struct dirent64) char entries[LIST_SIZE];
    ssize_t size;
    int error = 0;
    bool go_on = true;
    while (go_on && (size = getdents64(fd, entries, sizeof(entries))) != 0) {
        if (size < 0) {
            error = -errno;
            break;
        }
        for (ssize_t at = 0; at < size && go_on;) {
            struct dirent64 *entry = (struct dirent64 *)(void *)(entries + at);
            at += entry->d_reclen;
            if (!entry_is_dots(entry->d_name))
                go_on = visit(context, entry->d_name, entry_is_directory(fd, entry));
        }
    }
    close(fd);
    return error;
}

int io_space(struct io *io, const char *path, uint64_t *total, uint64_t *usable)
{
    (void)io;
    struct statvfs s;
    if (statvfs(path, &s) != 0)
        return -errno;
    *total = (uint64_t)s.f_blocks * s.f_frsize;
    *usable = (uint64_t)s.f_bavail * s.f_frsize;
    return 0;
}

int io_lock(struct io *io, const char *path)
{
    (void)io;
    int fd = open_again(path, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return fd;
    int error = errno == EACCES ? -EAGAIN : -errno;
    close(fd);
    return error;
}
