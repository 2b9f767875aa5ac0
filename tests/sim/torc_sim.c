/* torc-sim: runs seeds of the simulated workload and says which fail.
 *
 *   torc-sim --seed N          one seed, --verbose: with the node's log and what was done
 *   torc-sim --seeds A..B      these seeds
 *   torc-sim --time S          seeds from --seed (or 0) on, for S seconds
 *   --twice                    each seed twice: the digests must be equal
 *   --lie                      the device says that it has synced, and has not
 *   --defect N, --marks        with a defect; say which marks were met (laboratory builds)
 *
 * Exit code 0: all passed. A failing seed prints one line that reproduces it; so does an assertion
 * or a crash, by a signal handler. */
#include "tests/sim/run.h"

#include "core/lab.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options {
    uint64_t first, last;
    uint32_t seconds;
    uint32_t defect;
    bool verbose, twice, lie, marks;
};

static char running[64]; /* what the signal handler prints */

static void on_signal(int number)
{
    ssize_t n = write(STDERR_FILENO, running, strlen(running));
    (void)n;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void usage(void)
{
    (void)fprintf(stderr, "usage: torc-sim [--seed N | --seeds A..B] [--time SECONDS] [--twice] "
                          "[--verbose] [--lie] [--defect N] [--marks]\n");
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        char *end;
        if (strcmp(argv[i], "--verbose") == 0) {
            o->verbose = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            o->twice = true;
        } else if (strcmp(argv[i], "--lie") == 0) {
            o->lie = true;
        } else if (strcmp(argv[i], "--marks") == 0) {
            o->marks = true;
        } else if (strcmp(argv[i], "--defect") == 0) {
            o->defect = (uint32_t)strtoul(value, &end, 10);
            if (end == value || *end != 0)
                return false;
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            o->first = o->last = strtoull(value, &end, 10);
            if (end == value || *end != 0)
                return false;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            o->first = strtoull(value, &end, 10);
            if (end == value || strncmp(end, "..", 2) != 0)
                return false;
            o->last = strtoull(end + 2, &end, 10);
            if (*end != 0 || o->last < o->first)
                return false;
            i++;
        } else if (strcmp(argv[i], "--time") == 0) {
            o->seconds = (uint32_t)strtoul(value, &end, 10);
            if (end == value || *end != 0)
                return false;
            i++;
        } else {
            return false;
        }
    }
    return true;
}

/* Whether the seed failed. */
static bool run_seed(uint64_t seed, const struct options *o, uint64_t *events, uint64_t *virtual_ns)
{
    (void)snprintf(running, sizeof(running), "FAIL torc-sim --seed %llu: crashed\n",
                   (unsigned long long)seed);
    struct run_result first = run_seed_of(seed, o->verbose, o->lie);
    *events += first.events;
    *virtual_ns += first.virtual_ns;
    if (o->verbose)
        (void)fprintf(stderr, "digest %016llx\n", (unsigned long long)first.digest);
    if (first.failed || !o->twice)
        return first.failed;
    struct run_result second = run_seed_of(seed, false, o->lie);
    if (second.digest == first.digest && !second.failed)
        return false;
    (void)fprintf(stderr, "FAIL torc-sim --seed %llu --twice: digests %016llx and %016llx\n",
                  (unsigned long long)seed, (unsigned long long)first.digest,
                  (unsigned long long)second.digest);
    return true;
}

/* What this build has of core/lab.h. False: it has nothing. */
static bool lab_use(const struct options *o)
{
#if TORC_LAB
    *lab_defect() = o->defect;
    return true;
#else
    return o->defect == 0 && !o->marks;
#endif
}

static void lab_tell(const struct options *o)
{
#if TORC_LAB
    uint32_t count = 0, hit = 0;
    struct lab_mark *const *marks = lab_marks(&count);
    for (uint32_t i = 0; i < count; i++) {
        hit += marks[i]->hits > 0;
        if (o->marks)
            (void)printf("mark %llu %s\n", (unsigned long long)marks[i]->hits, marks[i]->name);
    }
    (void)printf("marks: %u of %u\n", hit, count);
#else
    (void)o;
#endif
}

int main(int argc, char **argv)
{
    struct options o = {0};
    if (!parse(argc, argv, &o) || !lab_use(&o)) {
        usage();
        return 2;
    }
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGSEGV, on_signal);
    uint64_t failures = 0, seeds = 0, events = 0, virtual_ns = 0;
    time_t start = time(NULL);
    if (o.seconds > 0)
        o.last = UINT64_MAX;
    for (uint64_t seed = o.first; seed <= o.last; seed++) {
        failures += run_seed(seed, &o, &events, &virtual_ns);
        seeds++;
        if (o.seconds > 0 && time(NULL) - start >= (time_t)o.seconds)
            break;
    }
    lab_tell(&o);
    (void)printf("%llu seeds, %llu failed, %.1f virtual s, %llu events, %ld s\n",
                 (unsigned long long)seeds, (unsigned long long)failures, (double)virtual_ns / 1e9,
                 (unsigned long long)events, (long)(time(NULL) - start));
    return failures > 0 ? 1 : 0;
}
