/* What the machine offers where the configuration leaves it open: how many data cores, how much
 * memory.
 *
 *   CPUs   1  2  3  4  5  8  64         memory  half of the smaller of MemTotal and the cgroup's
 *   cores  1  2  3  4  4  7  63                 limit, between 256 MiB and 64 GiB
 *
 * Up to four CPUs a CPU for the control core alone would cost a quarter of the broker or more, so
 * it shares one; above that it has its own.
 *
 * Failure modes: where the kernel does not say (or under simulation) 4 GiB of memory are assumed.
 */
#include "broker/config/config.h"

#include <stdlib.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"

#define MEMORY_ASSUMED (4ull << 30)
#define MEMORY_MIN     (256ull << 20)
#define MEMORY_MAX     (64ull << 30)

uint32_t config_data_cores(const struct broker_config *b, uint32_t cpus)
{
    assert(b != NULL);
    assert(cpus > 0);
    if (b->torc_cores > 0)
        return MIN((uint32_t)b->torc_cores, CORES_MAX - 1u);
    return MIN(cpus <= 4 ? cpus : cpus - 1, CORES_MAX - 1u);
}

/* The number after `name` in a small file of the kernel's; 0 when there is none. */
static uint64_t read_number(struct io *io, const char *path, const char *name)
{
    char text[512];
    int fd = io_open(io, path, IO_READ);
    if (fd < 0)
        return 0;
    int64_t size = io_pread(io, fd, text, sizeof(text) - 1, 0);
    io_close(io, fd);
    text[size > 0 ? size : 0] = '\0';
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

uint64_t config_memory(const struct broker_config *b, struct io *io)
{
    assert(b != NULL);
    assert(io != NULL);
    if (b->torc_memory > 0)
        return (uint64_t)b->torc_memory;
    uint64_t total = read_number(io, "/proc/meminfo", "MemTotal:") << 10;
    uint64_t limit = read_number(io, "/sys/fs/cgroup/memory.max", "");
    if (total == 0)
        total = MEMORY_ASSUMED;
    if (limit > 0 && limit < total) /* "max" reads as 0 */
        total = limit;
    return MAX(MEMORY_MIN, MIN(MEMORY_MAX, total / 2));
}
