/* Where and when a load was measured: what a figure depends on besides the programs. Everything
 * comes from /proc and /sys, but for the broker's directory, which it is asked for. */
#include "broker/bench/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/bench/client.h"
#include "proto/gen/describe_log_dirs.h"

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

/* ---- the directory --------------------------------------------------------------------------- */

/* Of the device under the directory's file system; a partition's is that of the whole device. */
static void write_cache_of(struct provenance *p, struct io *io, struct mem *mem)
{
    char path[160];
    const char *slash = strrchr(p->device, '/'), *name = slash == NULL ? p->device : slash + 1;
    (void)snprintf(path, sizeof(path), "/sys/class/block/%s/queue/write_cache", name);
    line_of(io, mem, path, NULL, p->write_cache, sizeof(p->write_cache));
    if (p->write_cache[0] != '\0')
        return;
    (void)snprintf(path, sizeof(path), "/sys/class/block/%s/../queue/write_cache", name);
    line_of(io, mem, path, NULL, p->write_cache, sizeof(p->write_cache));
}

/* Whether a directory is under a mount point, which has no slash at its end unless it is the root.
 */
static bool lies_under(const char *directory, const char *place)
{
    size_t size = strlen(place);
    return strcmp(place, "/") == 0 ? directory[0] == '/'
                                   : strncmp(directory, place, size) == 0 &&
                                         (directory[size] == '/' || directory[size] == '\0');
}

/* The innermost mount that it lies under; of two at the same place the later one. */
static void device_of(struct provenance *p, struct io *io, struct mem *mem, const char *mounts)
{
    char *text;
    size_t size, deepest = 0;
    if (io_slurp(io, mem, mounts, FILE_LIMIT, &text, &size) != 0)
        return;
    for (const char *at = text; at != NULL && *at != '\0';) {
        char device[64], place[256], kind[32];
        if (sscanf(at, "%63s %255s %31s", device, place, kind) == 3 &&
            lies_under(p->directory, place) && strlen(place) >= deepest) {
            deepest = strlen(place);
            (void)snprintf(p->device, sizeof(p->device), "%s", device);
            (void)snprintf(p->filesystem, sizeof(p->filesystem), "%s", kind);
        }
        at = strchr(at, '\n');
        at = at == NULL ? NULL : at + 1;
    }
    mem_free(mem, text, size + 1);
    write_cache_of(p, io, mem);
}

/* ---- the broker ------------------------------------------------------------------------------ */

static const char jar[] = "kafka-clients-"; /* which every version has beside its server */

static bool jar_visit(void *context, const char *name, bool is_directory)
{
    struct provenance *p = context;
    const char *dot = strstr(name, ".jar");
    if (is_directory || strncmp(name, jar, strlen(jar)) != 0 || dot == NULL)
        return true;
    (void)snprintf(p->broker, sizeof(p->broker), "Apache Kafka");
    (void)snprintf(p->broker_version, sizeof(p->broker_version), "%.*s",
                   (int)MIN((size_t)(dot - name) - strlen(jar), 60), name + strlen(jar));
    return false;
}

/* A JVM's class path names its jars, or folders of jars. */
static void jars_of(struct provenance *p, struct io *io, struct mem *mem, int32_t pid)
{
    char path[64], folder[512];
    char *text;
    size_t size;
    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (io_slurp(io, mem, path, FILE_LIMIT, &text, &size) != 0)
        return;
    for (size_t i = 0; i < size; i++) /* words end with zeros, paths of a class path with colons */
        if (text[i] == ':')
            text[i] = '\0';
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        const char *word = text + at, *slash = strrchr(word, '/');
        if (slash == NULL)
            continue;
        (void)jar_visit(p, slash + 1, false);
        (void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - word), word);
        int ignored = strcmp(slash, "/*") == 0 ? io_list(io, folder, jar_visit, p) : 0;
        (void)ignored; /* a folder of its own name space: unknown */
    }
    mem_free(mem, text, size + 1);
}

static void ask_directory(struct provenance *p, struct io *io, struct mem *mem,
                          const struct io_address *address)
{
    struct bench_client c;
    struct describe_log_dirs_request request; /* of no topic: the directories alone */
    struct describe_log_dirs_response response;
    struct describe_log_dirs_request_describable_log_dir_topic none;
    describe_log_dirs_request_init(&request);
    request.topics = &none;
    request.topics_count = 0;
    if (bench_client_open(&c, io, mem, address) &&
        BENCH_ASK(&c, API_DESCRIBE_LOG_DIRS, describe_log_dirs, &request, &response) &&
        response.results_count > 0)
        (void)snprintf(p->directory, sizeof(p->directory), "%.*s",
                       (int)response.results[0].log_dir.size, response.results[0].log_dir.data);
    bench_client_close(&c);
}

static bool is_here(const struct io_address *a)
{
    return strncmp(a->host, "127.", 4) == 0 || strcmp(a->host, "::1") == 0;
}

void provenance_broker(struct provenance *p, struct io *io, struct mem *mem,
                       const struct io_address *address, int32_t pid)
{
    char path[64];
    ask_directory(p, io, mem, address);
    if (pid > 0) {
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        line_of(io, mem, path, NULL, p->broker, sizeof(p->broker));
        jars_of(p, io, mem, pid);
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/mounts", pid);
    if (pid > 0 || is_here(address))
        device_of(p, io, mem, pid > 0 ? path : "/proc/self/mounts");
}

void provenance_read(struct provenance *p, struct io *io, struct mem *mem, const char *directory)
{
    p->cpus = io_cpus_count();
    p->memory_bytes = io_memory_bytes();
    line_of(io, mem, "/proc/cpuinfo", "model name", p->cpu, sizeof(p->cpu));
    line_of(io, mem, "/proc/sys/kernel/osrelease", NULL, p->kernel, sizeof(p->kernel));
    line_of(io, mem, "/proc/loadavg", NULL, p->load, sizeof(p->load));
    line_of(io, mem, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", NULL, p->governor,
            sizeof(p->governor));
    date_of(io_wall_ms(io), p->time, sizeof(p->time));
    if (directory == NULL)
        return;
    (void)snprintf(p->directory, sizeof(p->directory), "%s", directory);
    device_of(p, io, mem, "/proc/self/mounts");
}

static const char *or_unknown(const char *text)
{
    return text[0] == '\0' ? "unknown" : text;
}

void report_json_provenance(struct text *t, const char *key, const struct provenance *p)
{
    text_json_open(t, key, '{');
    text_json_string(t, "version", p->version);
    text_json_string(t, "commit", p->commit);
    text_json_string(t, "command_line", p->words);
    text_json_string(t, "time", p->time);
    text_json_string(t, "cpu", or_unknown(p->cpu));
    text_json_integer(t, "cpus", p->cpus);
    text_json_string(t, "governor", or_unknown(p->governor));
    text_json_integer(t, "memory_bytes", p->memory_bytes);
    text_json_string(t, "kernel", or_unknown(p->kernel));
    text_json_string(t, "load", or_unknown(p->load));
    text_json_string(t, "broker", or_unknown(p->broker));
    text_json_string(t, "broker_version", or_unknown(p->broker_version));
    text_json_string(t, "data_directory", or_unknown(p->directory));
    text_json_string(t, "filesystem", or_unknown(p->filesystem));
    text_json_string(t, "device", or_unknown(p->device));
    text_json_string(t, "write_cache", or_unknown(p->write_cache));
    text_json_close(t, '}');
}
