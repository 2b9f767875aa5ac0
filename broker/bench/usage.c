/* See usage.h. Everything comes from /proc: the kernel's own accounts.
 *
 *   /proc/PID/stat                   utime, stime
 *   /proc/PID/status                 VmRSS, VmHWM, Threads
 *   /proc/PID/io                     read_bytes, write_bytes: what went to the device
 *   /proc/PID/task/TID/status        context switches, per thread; those of ended threads are gone
 *   /proc/stat                       everybody: nobody's softirqs and write-back are forgotten
 *
 *   /proc/PID/task/TID/schedstat     CPU time in ns, per thread
 *
 * Invariant: files that may not be read (another user's /proc/PID/io) leave zero behind.
 * Failure modes: a process that is not there. */
#include "broker/bench/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICKS_PER_S 100.0 /* USER_HZ, the same on every Linux a broker runs on */
#define COARSE_S    1.0
#define FILE_LIMIT  (1u << 20)
#define PATH_ROOM   128

static char *proc_read(struct io *io, struct mem *mem, const char *path, size_t *size)
{
    char *text;
    return io_slurp(io, mem, path, FILE_LIMIT, &text, size) == 0 ? text : NULL;
}

/* The number behind a name at the beginning of a line; 0 if there is none. */
static uint64_t proc_number(const char *text, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0';) {
        if (strncmp(at, name, size) == 0)
            return strtoull(at + size, NULL, 10);
        at = strchr(at, '\n');
        at = at == NULL ? NULL : at + 1;
    }
    return 0;
}

static bool process_cpu(struct io *io, struct mem *mem, const char *path, double *user,
                        double *system)
{
    size_t size;
    char *text = proc_read(io, mem, path, &size);
    if (text == NULL)
        return false;
    const char *behind_name = strrchr(text, ')');
    unsigned long long u = 0, s = 0;
    bool good = behind_name != NULL &&
                sscanf(behind_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &u,
                       &s) == 2;
    *user = (double)u / TICKS_PER_S;
    *system = (double)s / TICKS_PER_S;
    mem_free(mem, text, size + 1);
    return good;
}

struct threads_seen {
    struct io *io;
    struct mem *mem;
    struct usage *usage;
    int32_t pid;
};

static bool thread_visit(void *context, const char *name, bool is_directory)
{
    struct threads_seen *t = context;
    char path[PATH_ROOM];
    size_t size;
    if (!is_directory || strlen(name) > 16)
        return true;
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", t->pid, name);
    char *text = proc_read(t->io, t->mem, path, &size);
    if (text == NULL)
        return true;
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", t->pid, name);
    size_t account_size;
    char *account = proc_read(t->io, t->mem, path, &account_size);
    if (account != NULL) {
        double scheduled = strtod(account, NULL) / 1e9;
        t->usage->scheduled += scheduled;
        if (t->usage->told_count < USAGE_THREADS_MAX)
            t->usage->told[t->usage->told_count++] =
                (struct usage_thread){strtol(name, NULL, 10), scheduled};
        mem_free(t->mem, account, account_size + 1);
    }
    t->usage->switches_voluntary += proc_number(text, "voluntary_ctxt_switches:");
    t->usage->switches += proc_number(text, "nonvoluntary_ctxt_switches:");
    mem_free(t->mem, text, size + 1);
    return true;
}

static bool broker_usage(struct io *io, struct mem *mem, int32_t pid, struct usage *u)
{
    char path[PATH_ROOM];
    size_t size;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (!process_cpu(io, mem, path, &u->user, &u->system))
        return false;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    char *text = proc_read(io, mem, path, &size);
    if (text != NULL) {
        u->resident = proc_number(text, "VmRSS:") * 1024;
        u->resident_peak = proc_number(text, "VmHWM:") * 1024;
        u->threads = (uint32_t)proc_number(text, "Threads:");
        mem_free(mem, text, size + 1);
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/io", pid);
    text = proc_read(io, mem, path, &size);
    if (text != NULL) {
        u->read = proc_number(text, "read_bytes:");
        u->written = proc_number(text, "write_bytes:");
        mem_free(mem, text, size + 1);
    }
    struct threads_seen threads = {io, mem, u, pid};
    (void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
    int ignored = io_list(io, path, thread_visit, &threads);
    (void)ignored; /* threads end as they like */
    return true;
}

static void machine_usage(struct io *io, struct mem *mem, struct usage *u)
{
    size_t size;
    unsigned long long user = 0, nice = 0, system = 0, irq = 0, softirq = 0;
    char *text = proc_read(io, mem, "/proc/stat", &size);
    if (text == NULL)
        return;
    if (sscanf(text, "cpu %llu %llu %llu %*u %*u %llu %llu", &user, &nice, &system, &irq,
               &softirq) == 5)
        u->machine = (double)(user + nice + system + irq + softirq) / TICKS_PER_S;
    mem_free(mem, text, size + 1);
}

double usage_cpu(const struct usage *from, const struct usage *to)
{
    double ticks = to->user + to->system - from->user - from->system;
    double exact = to->scheduled - from->scheduled;
    return ticks < COARSE_S && exact > 0 ? exact : ticks;
}

double usage_busiest(const struct usage *from, const struct usage *to)
{
    double most = 0;
    for (uint32_t i = 0; i < to->told_count; i++) {
        double before = 0; /* one that is new began with nothing */
        for (uint32_t n = 0; n < from->told_count; n++)
            if (from->told[n].number == to->told[i].number)
                before = from->told[n].scheduled;
        most = MAX(most, to->told[i].scheduled - before);
    }
    return most;
}

bool usage_now(struct io *io, struct mem *mem, int32_t pid, struct usage *u)
{
    double user, system;
    *u = (struct usage){.user = 0};
    machine_usage(io, mem, u);
    if (process_cpu(io, mem, "/proc/self/stat", &user, &system))
        u->self = user + system;
    return pid <= 0 || broker_usage(io, mem, pid, u);
}
