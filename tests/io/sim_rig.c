/* The simulated rig: a machine that is booted again after each cut or kill, and whole files at
 * once. */
#include "tests/io/sim_rig.h"

#define WORLD_MEMORY   (512u << 20)
#define PROCESS_MEMORY (64u << 20)

static void rig_boot(struct sim_rig *r)
{
    char why[256] = "";
    struct sim_life life = {0};
    cr_assert_eq(mem_init(&r->mem, PROCESS_MEMORY), 0);
    struct io_world *world = sim_boot(r->machine, 1, &life);
    struct io_config config = {.world = world, .mem = &r->mem};
    core_enter((struct core_id){0});
    cr_assert_eq(io_start(&r->io, &config, why, sizeof(why)), 0, "%s", why);
}

void sim_rig_start(struct sim_rig *r, uint64_t seed)
{
    *r = (struct sim_rig){0};
    cr_assert_eq(mem_init(&r->world_mem, WORLD_MEMORY), 0);
    r->sim = sim_make(&r->world_mem, seed);
    r->machine = sim_machine_make(r->sim, "10.0.0.1");
    rig_boot(r);
}

void sim_rig_stop(struct sim_rig *r)
{
    io_stop(r->io);
    cr_assert_eq(r->mem.used_bytes, 0);
    core_leave();
    sim_halt(r->machine);
    sim_free(r->sim);
    cr_assert_eq(r->world_mem.used_bytes, 0);
    mem_destroy(&r->mem);
    mem_destroy(&r->world_mem);
}

void sim_rig_cut(struct sim_rig *r)
{
    core_leave();
    sim_power_cut(r->machine);
    mem_destroy(&r->mem);
    rig_boot(r);
}

void sim_rig_kill(struct sim_rig *r)
{
    core_leave();
    sim_kill(r->machine);
    mem_destroy(&r->mem);
    rig_boot(r);
}

void sim_rig_write(struct sim_rig *r, const char *path, const void *bytes, size_t size,
                   uint64_t offset)
{
    int fd = io_open(r->io, path, IO_WRITE | IO_CREATE);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_pwrite(r->io, fd, bytes, size, offset), (int64_t)size);
    io_close(r->io, fd);
}

void sim_rig_sync(struct sim_rig *r, const char *path)
{
    int fd = io_open(r->io, path, IO_WRITE);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_fdatasync(r->io, fd), 0);
    io_close(r->io, fd);
}

int64_t sim_rig_read(struct sim_rig *r, const char *path, void *to, size_t size)
{
    struct io_stat stat;
    if (io_stat(r->io, path, &stat) != 0)
        return -1;
    int fd = io_open(r->io, path, IO_READ);
    cr_assert_geq(fd, 0);
    int64_t n = io_pread(r->io, fd, to, size, 0);
    cr_assert_eq(n, (int64_t)MIN((uint64_t)size, stat.size));
    io_close(r->io, fd);
    return (int64_t)stat.size;
}
