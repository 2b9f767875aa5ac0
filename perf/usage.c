/* See usage.h. Everything comes from /proc: the kernel's own accounts, in its own ticks. */
#include "perf/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/core.h"
#include "perf/client.h"

#define TEXT_MAX 4096

static bool file_read(const char *path, char *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, TEXT_MAX - 1);
    if (fd >= 0)
        (void)close(fd);
    text[MAX(n, 0)] = '\0';
    return n > 0;
}

static double broker_cpu(int32_t pid)
{
    char path[64], text[TEXT_MAX];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (!file_read(path, text))
        die("%s: %s", path, strerror(errno));
    const char *behind_name = strrchr(text, ')');
    unsigned long long user, system;
    if (behind_name == NULL ||
        sscanf(behind_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system) != 2)
        die("%s is not as expected", path);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t broker_written(int32_t pid)
{
    char path[64], text[TEXT_MAX];
    (void)snprintf(path, sizeof(path), "/proc/%d/io", pid);
    const char *line = file_read(path, text) ? strstr(text, "\nwrite_bytes: ") : NULL;
    return line ? strtoull(line + strlen("\nwrite_bytes: "), NULL, 10) : 0;
}

/* CPU time of everybody on the machine: nobody's softirqs and write-back are forgotten. */
static double machine_cpu(void)
{
    char text[TEXT_MAX];
    unsigned long long user, nice, system, irq, softirq;
    if (!file_read("/proc/stat", text) || sscanf(text, "cpu %llu %llu %llu %*u %*u %llu %llu",
                                                 &user, &nice, &system, &irq, &softirq) != 5)
        die("/proc/stat is not as expected");
    return (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
}

struct usage usage_now(int32_t pid)
{
    struct rusage r;
    (void)getrusage(RUSAGE_SELF, &r);
    struct usage u = {.machine = machine_cpu()};
    u.self = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
             (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
    if (pid > 0) {
        u.broker = broker_cpu(pid);
        u.broker_written = broker_written(pid);
    }
    return u;
}
