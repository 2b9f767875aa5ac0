/* How many CPUs this process may keep busy: the affinity mask, narrowed by cgroup quotas.
 *
 *   /proc/self/cgroup   0::/a/b          ─▶ /sys/fs/cgroup/{a/b, a, .}/cpu.max          (v2)
 *                       4:cpu,cpuacct:/a ─▶ /sys/fs/cgroup/cpu/{a, .}/cpu.cfs_quota_us  (v1)
 *
 *  1. A quota binds every group below it, so the smallest one on the way to the root counts.
 *  2. A part of a CPU is rounded down, but never to none: a thread on a CPU that is taken away
 *     half of the time stalls everybody who waits for it.
 *  3. In a container the path of the group may not be visible from inside; its files are then at
 *     the root of the mount, which is always looked at too.
 *
 * Failures: a file that is missing or says nothing sensible sets no limit. */
#include "io/uring/uring_priv.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TEXT_SIZE  4096u
#define PATH_SIZE  4096u
#define LEVELS_MAX 64u /* of nested groups */

/* The start of a file as text; "" when there is none. */
static void text_read(const char *path, char *to, size_t size)
{
    to[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, to, size - 1);
    close(fd);
    to[n > 0 ? n : 0] = 0;
}

static uint32_t cpus_of(long long quota, long long period, uint32_t limit)
{
    if (quota <= 0 || period <= 0)
        return limit;
    long long cpus = quota / period;
    return cpus < 1 ? 1 : cpus < (long long)limit ? (uint32_t)cpus : limit;
}

/* directory/name as a number; -1 when there is none. */
static long long number_read(const char *directory, const char *name)
{
    char path[PATH_SIZE], text[64];
    int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -1;
    text_read(path, text, sizeof(text));
    char *end;
    long long n = strtoll(text, &end, 10);
    return end != text ? n : -1;
}

/* "max 100000", or "150000 100000". */
static uint32_t limit_v2(const char *directory, uint32_t limit)
{
    char path[PATH_SIZE], text[64];
    int length = snprintf(path, sizeof(path), "%s/cpu.max", directory);
    if (length < 0 || (size_t)length >= sizeof(path))
        return limit;
    text_read(path, text, sizeof(text));
    char *end;
    long long quota = strtoll(text, &end, 10);
    if (end == text)
        return limit;
    return cpus_of(quota, strtoll(end, NULL, 10), limit);
}

static uint32_t limit_v1(const char *directory, uint32_t limit)
{
    return cpus_of(number_read(directory, "cpu.cfs_quota_us"),
                   number_read(directory, "cpu.cfs_period_us"), limit);
}

/* The smallest limit from the group up to the mount. */
static uint32_t limit_up(const char *mount, const char *group,
                         uint32_t (*limit_of)(const char *, uint32_t), uint32_t limit)
{
    char path[PATH_SIZE];
    int length = snprintf(path, sizeof(path), "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof(path))
        return limit_of(mount, limit);
    size_t mount_length = strlen(mount);
    for (uint32_t i = 0; i < LEVELS_MAX; i++) {
        limit = limit_of(path, limit);
        char *slash = strrchr(path + mount_length, '/');
        if (slash == NULL)
            break;
        *slash = 0;
    }
    return limit;
}

static bool controllers_have_cpu(const char *list, size_t size)
{
    for (size_t at = 0; at < size;) {
        const char *comma = memchr(list + at, ',', size - at);
        size_t length = comma != NULL ? (size_t)(comma - list) - at : size - at;
        if (length == 3 && memcmp(list + at, "cpu", 3) == 0)
            return true;
        at += length + 1;
    }
    return false;
}

uint32_t uring_cpus_under(const char *root, uint32_t affinity)
{
    assert(affinity > 0);
    char path[PATH_SIZE], groups[TEXT_SIZE];
    uint32_t limit = affinity;
    int length = snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    assert(length > 0 && (size_t)length < sizeof(path));
    text_read(path, groups, sizeof(groups));
    char *rest = groups, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL)
            continue;
        controllers++;
        size_t size = (size_t)(group - controllers);
        group++;
        if (size == 0) {
            snprintf(path, sizeof(path), "%s/sys/fs/cgroup", root);
            limit = limit_up(path, group, limit_v2, limit);
        } else if (controllers_have_cpu(controllers, size)) {
            snprintf(path, sizeof(path), "%s/sys/fs/cgroup/cpu", root);
            limit = limit_up(path, group, limit_v1, limit);
        }
    }
    assert(limit > 0 && limit <= affinity);
    return limit;
}

uint32_t io_cpus_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = CPU_COUNT(&set);
    return uring_cpus_under("", count > 0 ? (uint32_t)count : 1);
}

/* ---- memory ---------------------------------------------------------------------------------- */

void io_use_large_pages(void *memory, size_t size)
{
    assert(((uintptr_t)memory & 4095u) == 0);
    (void)madvise(memory, size, MADV_HUGEPAGE); /* a kernel without them uses small ones */
}

uint64_t io_memory_bytes(void)
{
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    static const char *const limits[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/memory"};
    static const char *const names[] = {"memory.max", "memory.limit_in_bytes"};
    for (uint32_t i = 0; i < 2; i++) {
        long long limit = number_read(limits[i], names[i]);
        if (limit > 0 && (uint64_t)limit < bytes)
            bytes = (uint64_t)limit;
    }
    return bytes;
}
