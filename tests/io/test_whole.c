/* Whole files: replaced so that a crash leaves one or the other, read, removed by the folder. */
#include "tests/io/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void check_holds(struct rig *rig, const char *path, const char *text)
{
    char *data;
    size_t size;
    cr_assert_eq(io_slurp(rig->io, &rig->mem, path, 1 << 20, &data, &size), 0);
    cr_assert_eq(size, strlen(text));
    cr_assert_str_eq(data, text); /* terminated */
    mem_free(&rig->mem, data, size + 1);
}

Test(whole, a_replaced_file_is_the_new_one_and_nothing_else_is_left)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], other[128];
    rig_directory(&rig);
    rig_path(&rig, path, "a");
    cr_assert_eq(io_replace(rig.io, path, "first, and longer", 17), 0);
    check_holds(&rig, path, "first, and longer");
    cr_assert_eq(io_replace(rig.io, path, "second", 6), 0);
    check_holds(&rig, path, "second");
    struct io_stat stat;
    cr_assert_eq(io_stat(rig.io, rig_path(&rig, other, "a.tmp"), &stat), -ENOENT);
    cr_assert_eq(io_replace(rig.io, path, NULL, 0), 0);
    check_holds(&rig, path, "");
    rig_stop(&rig);
}

Test(whole, a_temporary_file_left_by_a_crash_is_no_obstacle)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], other[128];
    rig_directory(&rig);
    int fd = io_open(rig.io, rig_path(&rig, other, "a.tmp"), IO_WRITE | IO_CREATE);
    cr_assert_eq(io_pwrite(rig.io, fd, "a long torn file", 16, 0), 16);
    io_close(rig.io, fd);
    cr_assert_eq(io_replace(rig.io, rig_path(&rig, path, "a"), "new", 3), 0);
    check_holds(&rig, path, "new");
    rig_stop(&rig);
}

Test(whole, a_replace_that_fails_leaves_the_old_file_and_no_other)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], other[128];
    rig_directory(&rig);
    rig_path(&rig, path, "a");
    cr_assert_eq(io_replace(rig.io, path, "old", 3), 0);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 4096;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    static char large[10000];
    cr_assert_eq(io_replace(rig.io, path, large, sizeof(large)), -EFBIG);
    check_holds(&rig, path, "old");
    struct io_stat stat;
    cr_assert_eq(io_stat(rig.io, rig_path(&rig, other, "a.tmp"), &stat), -ENOENT);
    cr_assert_eq(io_replace(rig.io, rig_path(&rig, other, "none/a"), "x", 1), -ENOENT);
    /* The rename fails: a folder is in its place. */
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, other, "d")), 0);
    cr_assert_eq(io_replace(rig.io, other, "x", 1), -EISDIR);
    cr_assert_eq(io_rmdir(rig.io, other), 0);
    char longest[5000];
    memset(longest, 'x', sizeof(longest));
    longest[4999] = 0;
    cr_assert_eq(io_replace(rig.io, longest, "x", 1), -ENAMETOOLONG);
    rig_stop(&rig);
}

Test(whole, a_path_without_a_folder_is_in_this_one)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char before[256];
    cr_assert_not_null(getcwd(before, sizeof(before)));
    cr_assert_eq(chdir(rig_directory(&rig)), 0);
    cr_assert_eq(io_replace(rig.io, "here", "text", 4), 0);
    check_holds(&rig, "here", "text");
    cr_assert_eq(chdir(before), 0);
    rig_stop(&rig);
}

Test(whole, a_file_up_to_the_limit_is_read_and_a_larger_one_refused)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    char *data;
    size_t size;
    rig_directory(&rig);
    rig_path(&rig, path, "a");
    char *bytes = malloc(9000);
    for (uint32_t i = 0; i < 9000; i++)
        bytes[i] = (char)('a' + i % 26);
    cr_assert_eq(io_replace(rig.io, path, bytes, 9000), 0);
    cr_assert_eq(io_slurp(rig.io, &rig.mem, path, 9000, &data, &size), 0);
    cr_assert_eq(size, 9000);
    cr_assert_arr_eq(data, bytes, 9000);
    cr_assert_eq(data[9000], 0);
    mem_free(&rig.mem, data, size + 1);
    cr_assert_eq(io_slurp(rig.io, &rig.mem, path, 8999, &data, &size), -EFBIG);
    cr_assert_null(data);
    rig_path(&rig, path, "none");
    cr_assert_eq(io_slurp(rig.io, &rig.mem, path, 9000, &data, &size), -ENOENT);
    cr_assert_eq(io_slurp(rig.io, &rig.mem, rig.directory, 9000, &data, &size), -EISDIR);
    free(bytes);
    rig_stop(&rig);
}

Test(whole, a_file_that_says_it_is_empty_is_read_to_its_end)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char *data;
    size_t size;
    cr_assert_eq(io_slurp(rig.io, &rig.mem, "/proc/self/status", 1 << 20, &data, &size), 0);
    cr_assert_gt(size, 512);
    cr_assert_eq(strncmp(data, "Name:", 5), 0);
    cr_assert_eq(data[size - 1], '\n');
    mem_free(&rig.mem, data, size + 1);
    cr_assert_eq(io_slurp(rig.io, &rig.mem, "/proc/self/status", 100, &data, &size), -EFBIG);
    rig_stop(&rig);
}

Test(whole, reading_within_a_small_budget_is_refused_and_leaks_nothing)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], bytes[5000] = {1};
    char *data;
    size_t size;
    rig_directory(&rig);
    rig_path(&rig, path, "a");
    cr_assert_eq(io_replace(rig.io, path, bytes, sizeof(bytes)), 0);
    struct mem small;
    cr_assert_eq(mem_init(&small, 4000), 0);
    cr_assert_eq(io_slurp(rig.io, &small, path, 1 << 20, &data, &size), -ENOMEM);
    cr_assert_eq(io_slurp(rig.io, &small, "/proc/kallsyms", 64 << 20, &data, &size), -ENOMEM);
    cr_assert_eq(small.used_bytes, 0);
    mem_destroy(&small);
    rig_stop(&rig);
}

Test(whole, a_folder_goes_with_everything_in_it)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128], name[64];
    rig_directory(&rig);
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, path, "topic-0")), 0);
    for (uint32_t i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "topic-0/%020u.a-suffix-that-makes-it-long", i);
        int fd = io_open(rig.io, rig_path(&rig, path, name), IO_WRITE | IO_CREATE);
        cr_assert_geq(fd, 0);
        io_close(rig.io, fd);
    }
    cr_assert_eq(io_remove_tree(rig.io, rig_path(&rig, path, "topic-0")), 0);
    struct io_stat stat;
    cr_assert_eq(io_stat(rig.io, path, &stat), -ENOENT);
    cr_assert_eq(io_remove_tree(rig.io, path), -ENOENT);
    rig_stop(&rig);
}

Test(whole, a_folder_within_a_folder_is_refused)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[128];
    rig_directory(&rig);
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, path, "a")), 0);
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, path, "a/b")), 0);
    cr_assert_lt(io_remove_tree(rig.io, rig_path(&rig, path, "a")), 0);
    cr_assert_eq(io_rmdir(rig.io, rig_path(&rig, path, "a/b")), 0);
    cr_assert_eq(io_rmdir(rig.io, rig_path(&rig, path, "a")), 0);
    rig_stop(&rig);
}
