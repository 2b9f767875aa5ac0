/* Where and when a load was measured: what a figure depends on besides the programs. Everything
 * comes from /proc and /sys; what is not there stays empty. */
#include "broker/bench/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT (1u << 20)
#define DAY_S      86400

/* The first line of a file, or what follows a name in it. */
static void line_of(struct io *io, struct mem *mem, const char *path, const char *name, char *to,
                    size_t to_size)
{
    char *text;
    size_t size;
    to[0] = '\0';
    if (io_slurp(io, mem, path, FILE_LIMIT, &text, &size) != 0)
        return;
    const char *at = name == NULL ? text : strstr(text, name);
    if (at != NULL && name != NULL)
        at += strlen(name);
    if (at != NULL) {
        at += strspn(at, " \t:");
        (void)snprintf(to, to_size, "%.*s", (int)strcspn(at, "\n"), at);
    }
    mem_free(mem, text, size + 1);
}

/* Days since 1970 to a date (Gregorian; eras of 400 years). */
static void date_of(int64_t wall_ms, char *to, size_t size)
{
    int64_t seconds = wall_ms / 1000, z = seconds / DAY_S + 719468;
    int64_t era = z / 146097, day = z - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t in_year = day - (365 * year + year / 4 - year / 100), m = (5 * in_year + 2) / 153;
    int64_t month = m < 10 ? m + 3 : m - 9;
    int64_t rest = seconds % DAY_S;
    (void)snprintf(to, size, "%04d-%02d-%02dT%02d:%02d:%02dZ",
                   (int)(year + era * 400 + (month <= 2)), (int)month,
                   (int)(in_year - (153 * m + 2) / 5 + 1), (int)(rest / 3600),
                   (int)(rest / 60 % 60), (int)(rest % 60));
}

/* What the root directory is on. */
static void device_of(struct provenance *p, struct io *io, struct mem *mem)
{
    char *text;
    size_t size;
    if (io_slurp(io, mem, "/proc/self/mounts", FILE_LIMIT, &text, &size) != 0)
        return;
    for (const char *at = text; at != NULL && *at != '\0';) {
        char device[64], place[128], kind[32];
        if (sscanf(at, "%63s %127s %31s", device, place, kind) == 3 && strcmp(place, "/") == 0) {
            (void)snprintf(p->device, sizeof(p->device), "%.60s", device);
            (void)snprintf(p->filesystem, sizeof(p->filesystem), "%.31s", kind);
        }
        at = strchr(at, '\n');
        at = at == NULL ? NULL : at + 1;
    }
    mem_free(mem, text, size + 1);
}

void provenance_read(struct provenance *p, struct io *io, struct mem *mem, int32_t pid)
{
    char path[64];
    p->cpus = io_cpus_count();
    p->memory_bytes = io_memory_bytes();
    line_of(io, mem, "/proc/cpuinfo", "model name", p->cpu, sizeof(p->cpu));
    line_of(io, mem, "/proc/sys/kernel/osrelease", NULL, p->kernel, sizeof(p->kernel));
    line_of(io, mem, "/proc/loadavg", NULL, p->load, sizeof(p->load));
    line_of(io, mem, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", NULL, p->governor,
            sizeof(p->governor));
    if (pid > 0) {
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        line_of(io, mem, path, NULL, p->broker, sizeof(p->broker));
    }
    device_of(p, io, mem);
    date_of(io_wall_ms(io), p->time, sizeof(p->time));
}

void report_json_provenance(struct text *t, const char *key, const struct provenance *p)
{
    text_json_open(t, key, '{');
    text_json_string(t, "version", p->version);
    text_json_string(t, "commit", p->commit);
    text_json_string(t, "command_line", p->words);
    text_json_string(t, "time", p->time);
    text_json_string(t, "cpu", p->cpu);
    text_json_integer(t, "cpus", p->cpus);
    text_json_string(t, "governor", p->governor);
    text_json_integer(t, "memory_bytes", p->memory_bytes);
    text_json_string(t, "kernel", p->kernel);
    text_json_string(t, "filesystem", p->filesystem);
    text_json_string(t, "device", p->device);
    text_json_string(t, "load", p->load);
    text_json_string(t, "broker", p->broker);
    text_json_close(t, '}');
}
