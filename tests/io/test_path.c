/* Files and directories at once, against what the kernel says of them. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

Test(path, a_file_is_opened_as_its_flags_say)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    rig_path(&rig, path, "a");
    cr_assert_eq(io_open(rig.io, path, IO_READ), -ENOENT);
    int fd = io_open(rig.io, path, IO_WRITE | IO_CREATE | IO_EXCL);
    cr_assert_geq(fd, 0);
    cr_assert_neq(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    cr_assert_eq(io_pwrite(rig.io, fd, "hello", 5, 0), 5);
    char got[8];
    cr_assert_eq(io_pread(rig.io, fd, got, 5, 0), -EBADF); /* only for writing */
    io_close(rig.io, fd);
    cr_assert_eq(io_open(rig.io, path, IO_WRITE | IO_CREATE | IO_EXCL), -EEXIST);
    fd = io_open(rig.io, path, IO_READ);
    cr_assert_eq(io_pread(rig.io, fd, got, 8, 0), 5);
    cr_assert_eq(io_pread(rig.io, fd, got, 8, 5), 0);
    cr_assert_eq(io_pwrite(rig.io, fd, "x", 1, 0), -EBADF);
    io_close(rig.io, fd);
    fd = io_open(rig.io, path, IO_READ | IO_WRITE | IO_TRUNC);
    cr_assert_eq(io_pread(rig.io, fd, got, 8, 0), 0);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(path, large_transfers_at_once_are_whole)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    int fd = io_open(rig.io, rig_path(&rig, path, "a"), IO_READ | IO_WRITE | IO_CREATE);
    size_t size = (5u << 20) + 17;
    uint8_t *bytes = malloc(size), *got = malloc(size + 10);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 11 + i / 4096);
    cr_assert_eq(io_pwrite(rig.io, fd, bytes, size, 3), (int64_t)size);
    cr_assert_eq(io_pread(rig.io, fd, got, size + 10, 3), (int64_t)size);
    cr_assert_arr_eq(got, bytes, size);
    io_close(rig.io, fd);
    free(bytes);
    free(got);
    rig_stop(&rig);
}

Test(path, stat_tells_size_time_and_kind)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    int fd = io_open(rig.io, rig_path(&rig, path, "a"), IO_WRITE | IO_CREATE);
    cr_assert_eq(io_pwrite(rig.io, fd, "hello", 5, 100), 5);
    struct io_stat stat, same;
    cr_assert_eq(io_stat(rig.io, path, &stat), 0);
    cr_assert_eq(io_fstat(rig.io, fd, &same), 0);
    cr_assert_eq(stat.size, 105);
    cr_assert_eq(same.size, 105);
    cr_assert_eq(same.modified_ms, stat.modified_ms);
    cr_assert_not(stat.is_directory);
    cr_assert_leq(llabs(stat.modified_ms - (int64_t)time(NULL) * 1000), 3000);
    cr_assert_eq(io_stat(rig.io, rig.directory, &stat), 0);
    cr_assert(stat.is_directory);
    cr_assert_eq(io_stat(rig.io, rig_path(&rig, path, "b"), &stat), -ENOENT);
    cr_assert_eq(io_fstat(rig.io, 999, &stat), -EBADF);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(path, a_file_grows_and_shrinks_and_takes_room)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    int fd = io_open(rig.io, rig_path(&rig, path, "a"), IO_READ | IO_WRITE | IO_CREATE);
    struct io_stat stat;
    cr_assert_eq(io_allocate(rig.io, fd, 1 << 20), 0);
    cr_assert_eq(io_fstat(rig.io, fd, &stat), 0);
    cr_assert_eq(stat.size, 1 << 20);
    uint8_t byte = 1;
    cr_assert_eq(io_pread(rig.io, fd, &byte, 1, 1000), 1);
    cr_assert_eq(byte, 0);
    cr_assert_eq(io_truncate(rig.io, fd, 10), 0);
    cr_assert_eq(io_fstat(rig.io, fd, &stat), 0);
    cr_assert_eq(stat.size, 10);
    cr_assert_eq(io_truncate(rig.io, 999, 10), -EBADF);
    cr_assert_eq(io_allocate(rig.io, 999, 10), -EBADF);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(path, syncs_succeed_and_say_when_there_is_nothing_to_sync)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    int fd = io_open(rig.io, rig_path(&rig, path, "a"), IO_WRITE | IO_CREATE);
    cr_assert_eq(io_pwrite(rig.io, fd, "hello", 5, 0), 5);
    cr_assert_eq(io_fdatasync(rig.io, fd), 0);
    cr_assert_eq(io_sync_directory(rig.io, rig.directory), 0);
    cr_assert_eq(io_sync_filesystem(rig.io, rig.directory), 0);
    io_close(rig.io, fd);
    cr_assert_eq(io_fdatasync(rig.io, fd), -EBADF);
    cr_assert_eq(io_sync_directory(rig.io, path), -ENOTDIR);
    cr_assert_eq(io_sync_filesystem(rig.io, rig_path(&rig, path, "none")), -ENOENT);
    rig_stop(&rig);
}

Test(path, directories_and_names_come_and_go)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char a[128], b[128], inner[128];
    rig_directory(&rig);
    rig_path(&rig, a, "a");
    rig_path(&rig, b, "b");
    rig_path(&rig, inner, "a/f");
    cr_assert_eq(io_mkdir(rig.io, a), 0);
    cr_assert_eq(io_mkdir(rig.io, a), -EEXIST);
    io_close(rig.io, io_open(rig.io, inner, IO_WRITE | IO_CREATE));
    cr_assert_eq(io_rmdir(rig.io, a), -ENOTEMPTY);
    cr_assert_eq(io_rename(rig.io, a, b), 0);
    cr_assert_eq(io_unlink(rig.io, inner), -ENOENT);
    cr_assert_eq(io_unlink(rig.io, rig_path(&rig, inner, "b/f")), 0);
    cr_assert_eq(io_rmdir(rig.io, b), 0);
    cr_assert_eq(io_rmdir(rig.io, b), -ENOENT);
    cr_assert_eq(io_rename(rig.io, a, b), -ENOENT);
    rig_stop(&rig);
}

struct listing {
    uint32_t files, directories, stop_after;
    bool seen[500];
};

static bool list_visit(void *context, const char *name, bool is_directory)
{
    struct listing *l = context;
    cr_assert_str_neq(name, ".");
    cr_assert_str_neq(name, "..");
    if (is_directory) {
        cr_assert_str_eq(name, "inner");
        l->directories++;
    } else {
        uint32_t i = (uint32_t)strtoul(name + strlen("a-file-of-a-rather-long-name-"), NULL, 10);
        cr_assert_not(l->seen[i]);
        l->seen[i] = true;
        l->files++;
    }
    return l->files + l->directories < l->stop_after;
}

Test(path, a_listing_shows_every_entry_once_and_stops_when_told)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], name[64];
    rig_directory(&rig);
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "a-file-of-a-rather-long-name-%u", i);
        int fd = io_open(rig.io, rig_path(&rig, path, name), IO_WRITE | IO_CREATE);
        cr_assert_geq(fd, 0);
        io_close(rig.io, fd);
    }
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, path, "inner")), 0);
    struct listing all = {.stop_after = 1000};
    cr_assert_eq(io_list(rig.io, rig.directory, list_visit, &all), 0);
    cr_assert_eq(all.files, 500);
    cr_assert_eq(all.directories, 1);
    struct listing some = {.stop_after = 7};
    cr_assert_eq(io_list(rig.io, rig.directory, list_visit, &some), 0);
    cr_assert_eq(some.files + some.directories, 7);
    cr_assert_eq(io_rmdir(rig.io, path), 0);
    cr_assert_eq(io_list(rig.io, path, list_visit, &some), -ENOENT);
    rig_stop(&rig);
}

Test(path, space_is_told_and_not_more_usable_than_there_is)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    uint64_t total = 0, usable = 0;
    cr_assert_eq(io_space(rig.io, "/var/tmp", &total, &usable), 0);
    cr_assert_gt(total, 0);
    cr_assert_leq(usable, total);
    cr_assert_eq(io_space(rig.io, "/nowhere/at/all", &total, &usable), -ENOENT);
    rig_stop(&rig);
}

Test(path, a_lock_excludes_everybody_else_until_it_is_closed)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    rig_path(&rig, path, ".lock");
    int fd = io_lock(rig.io, path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_lock(rig.io, path), -EAGAIN);
    /* Another process, with the kind of lock that the Java broker takes. */
    pid_t child = fork();
    if (child == 0) {
        int other = open(path, O_RDWR);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        _exit(fcntl(other, F_SETLK, &lock) == 0 ? 1 : 0);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    io_close(rig.io, fd);
    fd = io_lock(rig.io, path);
    cr_assert_geq(fd, 0);
    io_close(rig.io, fd);
    cr_assert_eq(io_lock(rig.io, rig_path(&rig, path, "none/.lock")), -ENOENT);
    rig_stop(&rig);
}
