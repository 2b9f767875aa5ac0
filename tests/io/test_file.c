/* Files through the ring: whole or failed, durable when asked, short only at the end. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 300000u

static int open_new(struct rig *rig, const char *name, uint32_t flags)
{
    char path[128];
    int fd = io_open(rig->io, rig_path(rig, path, name), IO_READ | IO_WRITE | IO_CREATE | flags);
    cr_assert_geq(fd, 0);
    return fd;
}

static int32_t write_at(struct rig *rig, int fd, const void *bytes, size_t size, uint64_t offset,
                        uint32_t flags)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, size};
    struct rig_rw w;
    rig_rw_init(&w, fd, &iov, 1, offset, flags);
    io_write(rig->io, &w.rw);
    cr_assert(w.rw.op.armed && w.done.count == 0);
    RIG_UNTIL(rig, w.done.count == 1);
    cr_assert(!w.rw.op.armed);
    return w.done.result;
}

static int32_t read_at(struct rig *rig, int fd, void *bytes, size_t size, uint64_t offset)
{
    struct iovec iov = {bytes, size};
    struct rig_rw r;
    rig_rw_init(&r, fd, &iov, 1, offset, 0);
    io_read(rig->io, &r.rw);
    cr_assert(r.rw.op.armed && r.done.count == 0);
    RIG_UNTIL(rig, r.done.count == 1);
    return r.done.result;
}

Test(file, what_was_written_is_read_at_any_place)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    uint8_t *bytes = malloc(SIZE), *got = malloc(SIZE);
    for (uint32_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    cr_assert_eq(write_at(&rig, fd, bytes, SIZE, 12345, 0), (int32_t)SIZE);
    cr_assert_eq(read_at(&rig, fd, got, 1000, 12345 + 777), 1000);
    cr_assert_arr_eq(got, bytes + 777, 1000);
    cr_assert_eq(read_at(&rig, fd, got, SIZE, 12345), (int32_t)SIZE);
    cr_assert_arr_eq(got, bytes, SIZE);
    io_close(rig.io, fd);
    free(bytes);
    free(got);
    rig_stop(&rig);
}

Test(file, a_read_over_the_end_brings_what_there_is)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    uint8_t bytes[8192], got[20000];
    memset(bytes, 5, sizeof(bytes));
    cr_assert_eq(write_at(&rig, fd, bytes, 5000, 0, 0), 5000);
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 0), 5000);
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 4999), 1);
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 5000), 0);
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 1u << 30), 0);
    cr_assert_eq(write_at(&rig, fd, bytes, 8192, 0, 0), 8192); /* an end between pages */
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 0), 8192);
    /* In parts, of which some stay empty. */
    struct iovec iov[3] = {{got, 3000}, {got + 3000, 9000}, {got + 12000, 100}};
    struct rig_rw r;
    rig_rw_init(&r, fd, iov, 3, 0, 0);
    io_read(rig.io, &r.rw);
    RIG_UNTIL(&rig, r.done.count == 1);
    cr_assert_eq(r.done.result, 8192);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(file, thousands_of_parts_are_written_and_read_in_order)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    enum { PARTS = 2500, PART = 61 };
    uint8_t *bytes = malloc(PARTS * PART), *got = calloc(PARTS, PART);
    struct iovec *iov = calloc(PARTS, sizeof(*iov));
    for (uint32_t i = 0; i < PARTS * PART; i++)
        bytes[i] = (uint8_t)(i * 3 + i / 1000);
    struct rig_rw rw;
    for (uint32_t i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){bytes + i * PART, PART};
    rig_rw_init(&rw, fd, iov, PARTS, 99, IO_DSYNC);
    io_write(rig.io, &rw.rw);
    RIG_UNTIL(&rig, rw.done.count == 1);
    cr_assert_eq(rw.done.result, PARTS * PART);
    for (uint32_t i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){got + i * PART, PART};
    rig_rw_init(&rw, fd, iov, PARTS, 99, 0);
    io_read(rig.io, &rw.rw);
    RIG_UNTIL(&rig, rw.done.count == 1);
    cr_assert_eq(rw.done.result, PARTS * PART);
    cr_assert_arr_eq(got, bytes, PARTS * PART);
    io_close(rig.io, fd);
    free(bytes);
    free(got);
    free(iov);
    rig_stop(&rig);
}

Test(file, a_transfer_of_nothing_is_done_with_zero_later)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    cr_assert_eq(write_at(&rig, fd, NULL, 0, 0, 0), 0);
    cr_assert_eq(read_at(&rig, fd, NULL, 0, 0), 0);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(file, direct_durable_writes_are_read_back_and_an_odd_end_is_an_end)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct io_probe probe;
    cr_assert_eq(io_probe(rig.io, rig_directory(&rig), &probe), 0);
    int fd = open_new(&rig, "a", probe.direct ? IO_DIRECT : 0);
    uint8_t *page = mem_pages(&rig.mem, 16384);
    memset(page, 9, 16384);
    cr_assert_eq(write_at(&rig, fd, page, 8192, 4096, IO_DSYNC), 8192);
    cr_assert_eq(read_at(&rig, fd, page, 4096, 0), 4096);
    cr_assert_eq(page[0], 0);
    cr_assert_eq(page[4095], 0);
    cr_assert_eq(io_truncate(rig.io, fd, 5000), 0);
    cr_assert_eq(read_at(&rig, fd, page, 16384, 0), 5000);
    cr_assert_eq(page[4999], 9);
    struct iovec iov[3] = {{page, 4096}, {page + 4096, 4096}, {page + 8192, 8192}};
    struct rig_rw r;
    rig_rw_init(&r, fd, iov, 3, 0, 0);
    io_read(rig.io, &r.rw);
    RIG_UNTIL(&rig, r.done.count == 1);
    cr_assert_eq(r.done.result, 5000);
    io_close(rig.io, fd);
    mem_pages_free(&rig.mem, page, 16384);
    rig_stop(&rig);
}

Test(file, uncached_writes_work_where_the_file_system_knows_nothing_of_them)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    char path[] = "/dev/shm/torc-test-XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write_at(&rig, fd, "hello", 5, 0, IO_UNCACHED), 5);
    char got[8];
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 0), 5);
    cr_assert_arr_eq(got, "hello", 5);
    io_close(rig.io, fd);
    cr_assert_eq(io_unlink(rig.io, path), 0);
    rig_directory(&rig);
    fd = open_new(&rig, "a", 0); /* and on a disk that may know them */
    cr_assert_eq(write_at(&rig, fd, "hello", 5, 0, IO_UNCACHED | IO_DSYNC), 5);
    cr_assert_eq(read_at(&rig, fd, got, sizeof(got), 0), 5);
    io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(file, a_failed_write_says_why_and_is_reported_once)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    int full = open("/dev/full", O_RDWR);
    cr_assert_eq(write_at(&rig, full, "x", 1, 0, 0), -ENOSPC);
    close(full);
    int readable = open("/dev/null", O_RDONLY);
    cr_assert_eq(write_at(&rig, readable, "x", 1, 0, 0), -EBADF);
    close(readable);
    cr_assert_eq(write_at(&rig, readable, "x", 1, 0, 0), -EBADF);
    cr_assert_eq(rig.io->inflight, 0);
    rig_stop(&rig);
}

Test(file, a_write_that_is_cut_short_goes_on_and_reports_the_error_that_cut_it)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    uint8_t *bytes = calloc(1, 65536);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 32768 + 100;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(write_at(&rig, fd, bytes, 65536, 0, 0), -EFBIG);
    struct io_stat stat;
    cr_assert_eq(io_fstat(rig.io, fd, &stat), 0);
    cr_assert_eq(stat.size, 32768 + 100);
    io_close(rig.io, fd);
    free(bytes);
    rig_stop(&rig);
}

static void sync_done(struct op *op)
{
    cr_assert(!op->armed);
}

Test(file, sync_succeeds_on_a_file_and_fails_on_what_is_none)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    struct io_sync s = {.directory = true};
    op_init(&s.op, sync_done);
    s.fd = io_open(rig.io, rig.directory, IO_READ);
    cr_assert_geq(s.fd, 0);
    io_sync(rig.io, &s);
    RIG_UNTIL(&rig, !s.op.armed);
    cr_assert_eq(s.op.result, 0);
    io_close(rig.io, s.fd);
    s.directory = false;
    s.fd = open_new(&rig, "a", 0);
    cr_assert_eq(write_at(&rig, s.fd, "x", 1, 0, 0), 1);
    io_sync(rig.io, &s);
    cr_assert(s.op.armed);
    RIG_UNTIL(&rig, !s.op.armed);
    cr_assert_eq(s.op.result, 0);
    io_close(rig.io, s.fd);
    io_sync(rig.io, &s);
    RIG_UNTIL(&rig, !s.op.armed);
    cr_assert_eq(s.op.result, -EBADF);
    rig_stop(&rig);
}

static int32_t punch(struct rig *rig, int fd, uint64_t offset, uint64_t size)
{
    struct io_punch p = {.fd = fd, .offset = offset, .size = size};
    op_init(&p.op, sync_done);
    io_punch(rig->io, &p);
    cr_assert(p.op.armed);
    RIG_UNTIL(rig, !p.op.armed);
    return p.op.result;
}

Test(file, what_is_punched_reads_as_zeros_and_takes_no_room)
{
    struct rig rig;
    struct stat before, after;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    int fd = open_new(&rig, "a", 0);
    uint8_t *bytes = malloc(SIZE), *got = malloc(SIZE);
    memset(bytes, 'a', SIZE);
    cr_assert_eq(write_at(&rig, fd, bytes, SIZE, 0, IO_DSYNC), (int32_t)SIZE);
    cr_assert_eq(fstat(fd, &before), 0);
    cr_assert_eq(punch(&rig, fd, 8192, 65536), 0);
    memset(bytes + 8192, 0, 65536);
    cr_assert_eq(read_at(&rig, fd, got, SIZE, 0), (int32_t)SIZE);
    cr_assert_arr_eq(got, bytes, SIZE);
    cr_assert_eq(fstat(fd, &after), 0);
    cr_assert_eq(after.st_blocks, before.st_blocks - 65536 / 512);
    cr_assert_eq(punch(&rig, fd, 0, 2 * SIZE), 0);
    cr_assert_eq(fstat(fd, &after), 0);
    cr_assert(after.st_blocks == 0 && after.st_size == SIZE);
    io_close(rig.io, fd);
    cr_assert_eq(punch(&rig, fd, 0, SIZE), -EBADF);
    free(bytes);
    free(got);
    rig_stop(&rig);
}

static int32_t remove_now(struct rig *rig, const char *path, bool folder)
{
    struct io_remove r = {.path = path, .folder = folder};
    op_init(&r.op, sync_done);
    io_remove(rig->io, &r);
    cr_assert(r.op.armed);
    RIG_UNTIL(rig, !r.op.armed);
    return r.op.result;
}

Test(file, names_are_removed_of_files_and_of_empty_folders)
{
    struct rig rig;
    char file[128], folder[128];
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    cr_assert_eq(io_mkdir(rig.io, rig_path(&rig, folder, "f")), 0);
    int fd = open_new(&rig, "f/a", 0);
    rig_path(&rig, file, "f/a");
    cr_assert_eq(remove_now(&rig, folder, true), -ENOTEMPTY);
    cr_assert_eq(remove_now(&rig, file, true), -ENOTDIR);
    cr_assert_eq(remove_now(&rig, folder, false), -EISDIR);
    cr_assert_eq(write_at(&rig, fd, "x", 1, 0, 0), 1);
    cr_assert_eq(remove_now(&rig, file, false), 0);
    cr_assert_eq(access(file, F_OK), -1);
    char got = 0;
    cr_assert(read_at(&rig, fd, &got, 1, 0) == 1 && got == 'x'); /* as long as it is open */
    io_close(rig.io, fd);
    cr_assert_eq(remove_now(&rig, file, false), -ENOENT);
    cr_assert_eq(remove_now(&rig, folder, true), 0);
    cr_assert_eq(access(folder, F_OK), -1);
    rig_stop(&rig);
}

Test(file, settling_waits_for_direct_writes_under_way)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    rig_directory(&rig);
    const size_t size = 64u << 20;
    int direct = open_new(&rig, "a", IO_DIRECT), other = open_new(&rig, "a", 0);
    uint8_t *bytes = mem_pages(&rig.mem, 1 << 20), last = 0;
    cr_assert_eq(io_allocate(rig.io, direct, size), 0);
    memset(bytes, 7, 1 << 20);
    struct iovec iov[64];
    for (uint32_t i = 0; i < 64; i++)
        iov[i] = (struct iovec){bytes, 1 << 20};
    struct rig_rw w;
    rig_rw_init(&w, direct, iov, 64, 0, IO_DSYNC);
    io_write(rig.io, &w.rw);
    (void)io_poll(rig.io, 0, 64); /* submits */
    io_settle(rig.io, other);
    cr_assert_eq(io_pread(rig.io, other, &last, 1, size - 1), 1);
    cr_assert_eq(last, 7);
    RIG_UNTIL(&rig, w.done.count == 1);
    cr_assert_eq(w.done.result, (int32_t)size);
    io_close(rig.io, direct);
    io_close(rig.io, other);
    mem_pages_free(&rig.mem, bytes, 1 << 20);
    rig_stop(&rig);
}
