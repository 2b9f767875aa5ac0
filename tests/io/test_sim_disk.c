/* What the simulated disk keeps when the power goes: what was synced, always; the rest in every
 * combination that a real one may leave. Tests of "may" look at many seeds and want to see each. */
#include "tests/io/sim_rig.h"

#include <errno.h>
#include <string.h>

#define SEEDS 200u
#define PAGE  4096u

static uint8_t page_a[8 * PAGE], page_b[8 * PAGE];

static void begin(void)
{
    memset(page_a, 'a', sizeof(page_a));
    memset(page_b, 'b', sizeof(page_b));
}

TestSuite(sim_disk, .init = begin);

/* A file in the root that is wholly kept: name, size and bytes. */
static void keep_file(struct sim_rig *r, const char *path, size_t size)
{
    sim_rig_write(r, path, page_a, size, 0);
    sim_rig_sync(r, path);
    cr_assert_eq(io_sync_directory(r->io, "/"), 0);
}

Test(sim_disk, what_is_synced_survives_a_power_cut)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[8 * PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", 5 * PAGE + 100);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 5 * PAGE + 100);
        cr_assert_arr_eq(got, page_a, 5 * PAGE + 100);
        sim_rig_stop(&r);
    }
}

/* Overwrites a page that is kept, cuts, and says which of the sectors are new. */
static uint32_t sectors_after_cut(uint64_t seed)
{
    struct sim_rig r;
    uint8_t got[PAGE];
    sim_rig_start(&r, seed);
    keep_file(&r, "/f", PAGE);
    sim_rig_write(&r, "/f", page_b, PAGE, 0);
    sim_rig_cut(&r);
    cr_assert_eq(sim_rig_read(&r, "/f", got, PAGE), PAGE);
    uint32_t new = 0;
    for (uint32_t s = 0; s < 8; s++) {
        const uint8_t *whole = got[s * 512] == 'b' ? page_b : page_a;
        cr_assert_arr_eq(got + s * 512, whole, 512); /* never mixed within a sector */
        new |= (uint32_t)(got[s * 512] == 'b') << s;
    }
    sim_rig_stop(&r);
    return new;
}

Test(sim_disk, an_unsynced_page_is_lost_kept_or_torn_between_sectors)
{
    bool lost = false, kept = false, torn = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint32_t new = sectors_after_cut(seed);
        lost |= new == 0;
        kept |= new == 0xff;
        torn |= new != 0 && new != 0xff;
    }
    cr_assert(lost && kept && torn);
}

Test(sim_disk, an_unsynced_size_is_lost_kept_or_in_between_and_shows_zeros_or_bytes)
{
    bool lost = false, kept = false, between = false, zeros = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[8 * PAGE] = {0};
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        sim_rig_write(&r, "/f", page_b, 3 * PAGE, PAGE);
        sim_rig_cut(&r);
        int64_t size = sim_rig_read(&r, "/f", got, sizeof(got));
        cr_assert(size >= PAGE && size <= 4 * PAGE);
        lost |= size == PAGE;
        kept |= size == 4 * PAGE;
        between |= size > PAGE && size < 4 * PAGE;
        zeros |= size > PAGE && got[PAGE] == 0;
        for (int64_t i = 0; i < size; i++)
            cr_assert(got[i] == (i < (int64_t)PAGE ? 'a' : 'b') || (i >= (int64_t)PAGE && !got[i]));
        sim_rig_stop(&r);
    }
    cr_assert(lost && kept && between && zeros);
}

Test(sim_disk, a_name_is_kept_by_the_sync_of_its_folder_and_by_nothing_else)
{
    bool lost = false, kept = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        sim_rig_write(&r, "/f", page_a, PAGE, 0);
        sim_rig_sync(&r, "/f");
        sim_rig_cut(&r);
        int64_t size = sim_rig_read(&r, "/f", got, PAGE);
        lost |= size < 0;
        kept |= size == PAGE;
        if (size >= 0)
            cr_assert_arr_eq(got, page_a, PAGE);
        sim_rig_stop(&r);
    }
    cr_assert(lost && kept);
}

Test(sim_disk, a_folder_is_kept_by_the_sync_of_the_folder_it_is_in)
{
    bool lost = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        cr_assert_eq(io_mkdir(r.io, "/d"), 0);
        sim_rig_write(&r, "/d/f", page_a, PAGE, 0);
        sim_rig_sync(&r, "/d/f");
        cr_assert_eq(io_sync_directory(r.io, "/d"), 0);
        if (seed % 2 == 0)
            cr_assert_eq(io_sync_directory(r.io, "/"), 0);
        sim_rig_cut(&r);
        int64_t size = sim_rig_read(&r, "/d/f", got, PAGE);
        if (seed % 2 == 0)
            cr_assert_eq(size, PAGE);
        lost |= size < 0;
        sim_rig_stop(&r);
    }
    cr_assert(lost);
}

Test(sim_disk, a_replaced_file_is_the_old_or_the_new_one_whole_whatever_moment_the_power_goes)
{
    bool old = false, new = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[2 * PAGE];
        sim_rig_start(&r, seed);
        cr_assert_eq(io_replace(r.io, "/f", page_a, PAGE), 0);
        sim_rig_write(&r, "/f.tmp", page_b, 2 * PAGE, 0);
        sim_rig_sync(&r, "/f.tmp");
        cr_assert_eq(io_rename(r.io, "/f.tmp", "/f"), 0);
        sim_rig_cut(&r);
        int64_t size = sim_rig_read(&r, "/f", got, sizeof(got));
        cr_assert(size == PAGE || size == 2 * PAGE);
        cr_assert_arr_eq(got, size == PAGE ? page_a : page_b, (size_t)size);
        old |= size == PAGE;
        new |= size == 2 * PAGE;
        cr_assert_eq(io_replace(r.io, "/f", page_b, 17), 0);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 17);
        sim_rig_stop(&r);
    }
    cr_assert(old && new);
}

Test(sim_disk, an_unsynced_unlink_may_come_undone_and_a_synced_one_may_not)
{
    bool undone = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        keep_file(&r, "/g", PAGE);
        cr_assert_eq(io_unlink(r.io, "/g"), 0);
        cr_assert_eq(io_sync_directory(r.io, "/"), 0);
        cr_assert_eq(io_unlink(r.io, "/f"), 0);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/g", got, PAGE), -1);
        int64_t size = sim_rig_read(&r, "/f", got, PAGE);
        if (size >= 0) {
            cr_assert_eq(size, PAGE);
            cr_assert_arr_eq(got, page_a, PAGE);
            undone = true;
        }
        sim_rig_stop(&r);
    }
    cr_assert(undone);
}

/* ---- ops ------------------------------------------------------------------------------------- */

struct waited {
    struct io_rw rw;
    struct iovec iov;
    struct io_sync sync;
    uint32_t done;
};

static void rw_done(struct op *op)
{
    container_of(op, struct waited, rw.op)->done++;
}

static void sync_done(struct op *op)
{
    container_of(op, struct waited, sync.op)->done++;
}

static void write_start(struct sim_rig *r, struct waited *w, int fd, void *bytes, size_t size,
                        uint64_t offset, uint32_t flags)
{
    *w = (struct waited){.iov = {bytes, size}};
    op_init(&w->rw.op, rw_done);
    w->rw.fd = fd;
    w->rw.iov = &w->iov;
    w->rw.iov_count = 1;
    w->rw.offset = offset;
    w->rw.flags = flags;
    io_write(r->io, &w->rw);
}

Test(sim_disk, a_durable_write_is_kept_when_done_and_torn_by_sectors_when_not)
{
    bool none = false, all = false, torn = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct waited w;
        sim_rig_start(&r, seed);
        sim_style(r.sim)->direct = true;
        keep_file(&r, "/f", 4 * PAGE);
        int fd = io_open(r.io, "/f", IO_READ | IO_WRITE | IO_DIRECT);
        uint8_t *page = mem_pages(&r.mem, 2 * PAGE), got[4 * PAGE];
        memset(page, 'b', 2 * PAGE);
        write_start(&r, &w, fd, page, 2 * PAGE, PAGE, IO_DSYNC);
        if (seed % 2 == 0)
            SIM_UNTIL(&r, w.done == 1);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 4 * PAGE);
        cr_assert_arr_eq(got, page_a, PAGE);
        cr_assert_arr_eq(got + 3 * PAGE, page_a, PAGE);
        uint32_t new = 0;
        for (uint32_t s = 0; s < 16; s++) {
            const uint8_t *sector = got + PAGE + s * 512;
            cr_assert_arr_eq(sector, sector[0] == 'b' ? page_b : page_a, 512);
            new += sector[0] == 'b';
        }
        if (seed % 2 == 0)
            cr_assert_eq(new, 16);
        none |= new == 0;
        all |= seed % 2 == 1 && new == 16;
        torn |= new > 0 && new < 16;
        sim_rig_stop(&r);
    }
    cr_assert(none && all && torn);
}

Test(sim_disk, a_sync_keeps_what_was_there_when_it_began_and_need_not_keep_more)
{
    bool later_lost = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct waited w = {0};
        uint8_t got[8 * PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        int fd = io_open(r.io, "/f", IO_WRITE);
        cr_assert_eq(io_pwrite(r.io, fd, page_b, PAGE, PAGE), PAGE);
        op_init(&w.sync.op, sync_done);
        w.sync.fd = fd;
        io_sync(r.io, &w.sync);
        cr_assert_eq(io_pwrite(r.io, fd, "later", 5, PAGE), 5); /* over what is being synced */
        cr_assert_eq(io_pwrite(r.io, fd, page_b, PAGE, 2 * PAGE), PAGE);
        SIM_UNTIL(&r, w.done == 1);
        cr_assert_eq(w.sync.op.result, 0);
        io_close(r.io, fd);
        sim_rig_cut(&r);
        int64_t size = sim_rig_read(&r, "/f", got, sizeof(got));
        cr_assert_geq(size, 2 * PAGE);
        cr_assert_arr_eq(got + PAGE + 5, page_b, PAGE - 5);
        cr_assert(memcmp(got + PAGE, "later", 5) == 0 || memcmp(got + PAGE, page_b, 5) == 0);
        later_lost |= memcmp(got + PAGE, page_b, 5) == 0 && size == 2 * PAGE;
        sim_rig_stop(&r);
    }
    cr_assert(later_lost);
}

/* The name that came first is there; that of the meantime is kept with it or not. */
Test(sim_disk, a_sync_of_a_directory_keeps_the_names_that_were_there_when_it_began)
{
    bool with = false, without = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        struct waited w = {0};
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        io_close(r.io, io_open(r.io, "/first", IO_WRITE | IO_CREATE));
        op_init(&w.sync.op, sync_done);
        w.sync.fd = io_open(r.io, "/", IO_READ);
        w.sync.directory = true;
        io_sync(r.io, &w.sync);
        io_close(r.io, io_open(r.io, "/later", IO_WRITE | IO_CREATE));
        SIM_UNTIL(&r, w.done == 1);
        cr_assert_eq(w.sync.op.result, 0);
        io_close(r.io, w.sync.fd);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/first", got, sizeof(got)), 0);
        bool later = sim_rig_read(&r, "/later", got, sizeof(got)) == 0;
        with |= later;
        without |= !later;
        sim_rig_stop(&r);
    }
    cr_assert(with && without);
}

Test(sim_disk, a_kill_leaves_the_page_cache)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_rig r;
        uint8_t got[8 * PAGE];
        sim_rig_start(&r, seed);
        cr_assert_eq(io_mkdir(r.io, "/d"), 0);
        sim_rig_write(&r, "/d/f", page_b, 3 * PAGE, 0);
        int lock = io_lock(r.io, "/d/.lock");
        cr_assert_geq(lock, 0);
        cr_assert_eq(io_lock(r.io, "/d/.lock"), -EAGAIN);
        sim_rig_kill(&r);
        cr_assert_eq(sim_fds_open(r.machine), 0);
        cr_assert_eq(sim_rig_read(&r, "/d/f", got, sizeof(got)), 3 * PAGE);
        cr_assert_arr_eq(got, page_b, 3 * PAGE);
        lock = io_lock(r.io, "/d/.lock"); /* died with its process */
        cr_assert_geq(lock, 0);
        io_close(r.io, lock);
        sim_rig_stop(&r);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

Test(sim_disk, a_failed_sync_loses_what_it_should_have_kept_and_the_next_one_does_not_help)
{
    bool lost = false;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        sim_rig_write(&r, "/f", page_b, PAGE, 0);
        int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
        sim_disk_fail(r.machine, SIM_DISK_SYNC, 0, 1, -EIO);
        cr_assert_eq(io_fdatasync(r.io, fd), -EIO);
        cr_assert_eq(io_fdatasync(r.io, fd), 0);
        cr_assert_eq(io_pread(r.io, fd, got, PAGE, 0), PAGE);
        cr_assert_arr_eq(got, page_b, PAGE); /* the cache has it still */
        io_close(r.io, fd);
        sim_rig_cut(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, PAGE), PAGE);
        lost |= got[0] == 'a';
        sim_rig_stop(&r);
    }
    cr_assert(lost);
}

Test(sim_disk, the_nth_call_fails_so_many_times)
{
    struct sim_rig r;
    sim_rig_start(&r, 1);
    sim_disk_fail(r.machine, SIM_DISK_WRITE, 2, 2, -EIO);
    int fd = io_open(r.io, "/f", IO_READ | IO_WRITE | IO_CREATE);
    int64_t results[6];
    for (uint32_t i = 0; i < 6; i++)
        results[i] = io_pwrite(r.io, fd, "x", 1, i);
    cr_assert(results[0] == 1 && results[1] == 1 && results[2] == -EIO && results[3] == -EIO);
    cr_assert(results[4] == 1 && results[5] == 1);
    cr_assert_eq(sim_counted(r.sim, SIM_DISK_FAILURES), 2);
    io_close(r.io, fd);
    sim_rig_stop(&r);
}

Test(sim_disk, a_full_disk_refuses_what_does_not_fit_and_takes_what_is_there_already)
{
    struct sim_rig r;
    uint64_t total, usable;
    sim_rig_start(&r, 1);
    sim_disk_capacity(r.machine, 4 * PAGE);
    sim_rig_write(&r, "/f", page_a, 3 * PAGE, 0);
    int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
    cr_assert_eq(io_space(r.io, "/", &total, &usable), 0);
    cr_assert(total == 4 * PAGE && usable == PAGE);
    cr_assert_eq(io_pwrite(r.io, fd, page_a, 2 * PAGE, 3 * PAGE), -ENOSPC);
    cr_assert_eq(io_pwrite(r.io, fd, page_b, 3 * PAGE, 0), 3 * PAGE);
    cr_assert_eq(io_allocate(r.io, fd, 5 * PAGE), -ENOSPC);
    cr_assert_eq(io_truncate(r.io, fd, 0), 0);
    cr_assert_eq(io_allocate(r.io, fd, 4 * PAGE), 0);
    cr_assert_eq(io_pwrite(r.io, fd, page_b, 4 * PAGE, 0), 4 * PAGE);
    io_close(r.io, fd);
    sim_rig_stop(&r);
}

Test(sim_disk, a_shrunk_file_that_grows_again_shows_zeros)
{
    struct sim_rig r;
    uint8_t got[4 * PAGE], zeros[PAGE] = {0};
    sim_rig_start(&r, 1);
    sim_rig_write(&r, "/f", page_a, 3 * PAGE, 0);
    int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
    cr_assert_eq(io_truncate(r.io, fd, 100), 0);
    cr_assert_eq(io_truncate(r.io, fd, 3 * PAGE), 0);
    cr_assert_eq(io_pread(r.io, fd, got, sizeof(got), 0), 3 * PAGE);
    cr_assert_arr_eq(got, page_a, 100);
    cr_assert_arr_eq(got + 100, zeros, PAGE - 100);
    cr_assert_arr_eq(got + 2 * PAGE, zeros, PAGE);
    io_close(r.io, fd);
    sim_rig_stop(&r);
}

Test(sim_disk, what_a_failed_sync_lost_may_be_seen_to_be_lost_at_the_next_start)
{
    uint32_t lost = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        sim_rig_write(&r, "/f", page_b, PAGE, 0);
        int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
        sim_disk_fail(r.machine, SIM_DISK_SYNC, 0, 1, -EIO);
        cr_assert_eq(io_fdatasync(r.io, fd), -EIO);
        io_close(r.io, fd);
        sim_rig_kill(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, PAGE), PAGE);
        lost += got[0] == 'a';
        sim_rig_stop(&r);
    }
    cr_assert(lost > 0 && lost < SEEDS);
}

Test(sim_disk, a_volume_fails_alone)
{
    struct sim_rig r;
    struct io_stat stat;
    sim_rig_start(&r, 1);
    sim_disk_volume(r.machine, "/one", 1);
    sim_disk_volume(r.machine, "/two", 2);
    sim_rig_write(&r, "/one/f", page_a, PAGE, 0);
    sim_rig_write(&r, "/two/f", page_a, PAGE, 0);
    cr_assert(sim_disk_holds(r.machine, "/one/f", 1) && !sim_disk_holds(r.machine, "/one/f", 2));
    sim_disk_fail_on(r.machine, 1u << 1, SIM_DISK_ALL, 0, UINT32_MAX, -EIO);
    cr_assert(sim_disk_failing(r.machine));
    cr_assert_eq(io_stat(r.io, "/one/f", &stat), -EIO);
    cr_assert_eq(io_mkdir(r.io, "/one/d"), -EIO);
    cr_assert_eq(io_open(r.io, "/one/f", IO_READ), -EIO);
    cr_assert_eq(io_stat(r.io, "/two/f", &stat), 0);
    cr_assert_eq(io_mkdir(r.io, "/two/d"), 0);
    sim_disk_fail(r.machine, 0, 0, 0, 0);
    cr_assert_eq(io_stat(r.io, "/one/f", &stat), 0);
    sim_rig_stop(&r);
}

/* ---- room and names that go ------------------------------------------------------------------ */

static void op_over(struct op *op)
{
    cr_assert(!op->armed);
}

static struct io_punch punch_of(int fd, uint64_t offset, uint64_t size)
{
    struct io_punch p = {.fd = fd, .offset = offset, .size = size};
    op_init(&p.op, op_over);
    return p;
}

static struct io_remove remove_of(const char *path, bool folder)
{
    struct io_remove r = {.path = path, .folder = folder};
    op_init(&r.op, op_over);
    return r;
}

Test(sim_disk, what_is_punched_is_zeros_and_takes_no_room)
{
    struct sim_rig r;
    uint8_t got[3 * PAGE], zeros[PAGE] = {0};
    sim_rig_start(&r, 1);
    keep_file(&r, "/f", 2 * PAGE + 100);
    uint64_t used = sim_disk_used(r.machine);
    int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
    struct io_punch p = punch_of(fd, PAGE, PAGE);
    io_punch(r.io, &p);
    cr_assert(p.op.armed);
    SIM_UNTIL(&r, !p.op.armed);
    cr_assert_eq(p.op.result, 0);
    cr_assert_eq(sim_disk_used(r.machine), used - PAGE);
    cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 2 * PAGE + 100);
    cr_assert_arr_eq(got, page_a, PAGE);
    cr_assert_arr_eq(got + PAGE, zeros, PAGE);
    cr_assert_arr_eq(got + 2 * PAGE, page_a, 100);
    p = punch_of(fd, 10, 20); /* less than a page */
    io_punch(r.io, &p);
    SIM_UNTIL(&r, !p.op.armed);
    cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 2 * PAGE + 100);
    cr_assert(got[9] == 'a' && got[10] == 0 && got[29] == 0 && got[30] == 'a');
    p = punch_of(fd, 0, 2 << 20); /* beyond the end, which stays */
    io_punch(r.io, &p);
    SIM_UNTIL(&r, !p.op.armed);
    cr_assert_eq(sim_rig_read(&r, "/f", got, sizeof(got)), 2 * PAGE + 100);
    cr_assert_eq(sim_disk_used(r.machine), used - 3 * PAGE);
    io_close(r.io, fd);
    p = punch_of(fd, 0, PAGE);
    io_punch(r.io, &p);
    SIM_UNTIL(&r, !p.op.armed);
    cr_assert_eq(p.op.result, -EBADF);
    sim_rig_stop(&r);
}

static int32_t removed(struct sim_rig *r, const char *path, bool folder)
{
    struct io_remove rm = remove_of(path, folder);
    io_remove(r->io, &rm);
    cr_assert(rm.op.armed);
    SIM_UNTIL(r, !rm.op.armed);
    return rm.op.result;
}

Test(sim_disk, names_are_removed_of_files_and_of_empty_folders)
{
    struct sim_rig r;
    uint8_t got[PAGE];
    sim_rig_start(&r, 1);
    cr_assert_eq(io_mkdir(r.io, "/d"), 0);
    sim_rig_write(&r, "/d/f", page_a, PAGE, 0);
    cr_assert_eq(removed(&r, "/d", true), -ENOTEMPTY);
    cr_assert_eq(removed(&r, "/d", false), -EISDIR);
    cr_assert_eq(removed(&r, "/d/f", true), -ENOTDIR);
    cr_assert_eq(removed(&r, "/d/f", false), 0);
    cr_assert_eq(sim_rig_read(&r, "/d/f", got, PAGE), -1);
    cr_assert_eq(removed(&r, "/d/f", false), -ENOENT);
    sim_disk_fail(r.machine, SIM_DISK_NAME, 0, 1, -EIO);
    cr_assert_eq(removed(&r, "/d", true), -EIO);
    cr_assert_eq(removed(&r, "/d", true), 0);
    sim_rig_stop(&r);
}

/* Kept, punched and with its name, or gone: after a kill, whichever it was on its way to. */
Test(sim_disk, a_process_that_ends_leaves_a_removal_done_or_not)
{
    uint32_t was[2] = {0}, is_gone = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_rig r;
        uint8_t got[PAGE];
        sim_rig_start(&r, seed);
        keep_file(&r, "/f", PAGE);
        keep_file(&r, "/g", PAGE);
        int fd = io_open(r.io, "/f", IO_READ | IO_WRITE);
        struct io_punch p = punch_of(fd, 0, PAGE);
        struct io_remove rm = remove_of("/g", false);
        io_punch(r.io, &p);
        io_remove(r.io, &rm);
        sim_rig_kill(&r);
        cr_assert_eq(sim_rig_read(&r, "/f", got, PAGE), PAGE);
        cr_assert(got[0] == got[PAGE - 1] && (got[0] == 'a' || got[0] == 0));
        was[got[0] == 'a']++;
        is_gone += sim_rig_read(&r, "/g", got, PAGE) < 0;
        sim_rig_stop(&r);
    }
    cr_assert(was[0] > 0 && was[1] > 0 && is_gone > 0 && is_gone < SEEDS);
}
