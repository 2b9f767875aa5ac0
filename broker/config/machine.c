/* What the machine gives when the configuration leaves it open: how many data cores, how much
 * memory.
 *
 *   CPUs <= 4: a data core each, the control core shares one.  More: one CPU is the control core's.
 *   memory: half of what the machine or the container has, within bounds. */
#include "broker/config/config.h"

#include "core/assert.h"

#define MEMORY_MIN (256ull << 20)
#define MEMORY_MAX (64ull << 30)

uint32_t config_data_cores(const struct broker_config *b, uint32_t cpus)
{
    assert(b != NULL);
    assert(cpus > 0);
    if (b->torc_cores > 0)
        return MIN((uint32_t)b->torc_cores, CORES_MAX - 1u);
    return MIN(cpus <= 4 ? cpus : cpus - 1, CORES_MAX - 1u);
}

uint64_t config_memory(const struct broker_config *b, uint64_t machine_bytes)
{
    assert(b != NULL);
    if (b->torc_memory > 0)
        return (uint64_t)b->torc_memory;
    return MAX(MEMORY_MIN, MIN(MEMORY_MAX, machine_bytes / 2));
}
