/* What a directory can do, found by doing it. */
#include "tests/io/rig.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool never(void *context, const char *name, bool is_directory)
{
    (void)context;
    (void)is_directory;
    cr_assert_fail("%s is left behind", name);
    return true;
}

Test(probe, what_it_says_of_a_disk_holds_and_nothing_is_left)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct io_probe probe;
    cr_assert_eq(io_probe(rig.io, rig_directory(&rig), &probe), 0);
    cr_assert_neq(probe.filesystem[0], 0);
    cr_assert_eq(probe.alignment & (probe.alignment - 1), 0);
    cr_assert(probe.alignment >= 1 && probe.alignment <= 4096);
    cr_assert_eq(io_list(rig.io, rig.directory, never, NULL), 0);
    char path[128];
    int fd = io_open(rig.io, rig_path(&rig, path, "a"), IO_WRITE | IO_CREATE | IO_DIRECT);
    if (probe.direct) {
        uint8_t *page = mem_pages(&rig.mem, 4096);
        memset(page, 1, 4096);
        cr_assert_eq(io_pwrite(rig.io, fd, page, 4096, 0), 4096);
        if (probe.alignment > 1) /* and a smaller step is refused */
            cr_assert_eq(io_pwrite(rig.io, fd, page, probe.alignment / 2, 0), -EINVAL);
        mem_pages_free(&rig.mem, page, 4096);
    }
    if (fd >= 0)
        io_close(rig.io, fd);
    rig_stop(&rig);
}

Test(probe, memory_file_systems_are_known_by_name)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct io_probe probe;
    cr_assert_eq(io_probe(rig.io, "/dev/shm", &probe), 0);
    cr_assert_str_eq(probe.filesystem, "tmpfs");
    rig_stop(&rig);
}

Test(probe, a_directory_that_cannot_be_written_is_an_error)
{
    struct rig rig;
    rig_start(&rig, (struct rig_options){0});
    struct io_probe probe;
    cr_assert_eq(io_probe(rig.io, "/nowhere/at/all", &probe), -ENOENT);
    cr_assert_lt(io_probe(rig.io, "/proc", &probe), 0);
    rig_stop(&rig);
}
