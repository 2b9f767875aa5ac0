/* torc-sim: runs seeds of the simulated workload and says which fail.
 *
 *   torc-sim --seed N          one seed, --verbose: with the node's log and what was done
 *   torc-sim --seeds A..B      these seeds
 *   torc-sim --time S          seeds from --seed (or 0) on, for S seconds
 *   --twice                    each seed twice: the digests must be equal
 *   --digests                  print that of each seed
 *   --lie                      the device says that it has synced, and has not
 *   --defect N, --marks        with a defect; say which marks were met (laboratory builds)
 *   --trace FILE               write the run and all its choices down
 *   --replay FILE              repeat that run, choice by choice, to the same digest; or run a plan
 *                              without choices (tests/sim/options.h)
 *   --fail A..B, --full A..B   a small workload of one seed, once for each operation A to B of its
 *                              disk: it fails with EIO, or from it on nothing fits for a second.
 *                              A line for each: site and outcome. --every K: each K'th only.
 *                              At the end, which calls of this program have failed, by address
 *   --tell                     say what the run is made of (tests/sim/shrink.py)
 *
 * Exit code 0: all passed. A failing seed prints what the node was doing and one line that
 * reproduces it; so does an assertion or a crash, by a signal handler. */
#include "tests/sim/run.h"

#include "core/lab.h"
#include "tests/sim/tape.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REFUSALS_MAX 2048u

struct options {
    uint64_t first, last;
    uint32_t seconds;
    uint32_t defect;
    bool verbose, twice, digests, lie, marks, tells;
    const char *trace, *replay; /* files */
    struct run_fault fault;     /* the first one */
    uint64_t fault_last, every;
};

static char running[64]; /* what the signal handler prints */
static const struct run *under_way;
static struct tape choices;                       /* large */
static struct sim_refusal refusals[REFUSALS_MAX]; /* of all runs */
static uint32_t refusals_count;

/* Half of what it looks at may be out of joint: a second signal ends it. */
static void on_signal(int number)
{
    (void)signal(SIGABRT, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    if (under_way != NULL)
        run_look(under_way);
    if (choices.file != NULL)
        (void)fflush(choices.file);
    ssize_t n = write(STDERR_FILENO, running, strlen(running));
    (void)n;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void usage(void)
{
    (void)fprintf(stderr, "usage: torc-sim [--seed N | --seeds A..B] [--time SECONDS] [--twice] "
                          "[--digests] [--verbose] [--lie] [--defect N] [--marks] [--trace FILE] "
                          "[--replay FILE] [--tell] [--fail A..B | --full A..B] [--every K]\n");
}

static bool parse_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end;
    *number = strtoull(text, &end, 10);
    return end != text && *end == 0 && *number <= most;
}

/* "A..B", or "A" alone. */
static bool parse_range(const char *text, uint64_t *first, uint64_t *last)
{
    char *end;
    *first = *last = strtoull(text, &end, 10);
    if (end != text && strncmp(end, "..", 2) == 0)
        return parse_number(end + 2, UINT64_MAX, last) && *last >= *first;
    return end != text && *end == 0;
}

static bool parse_fault(const char *word, const char *value, struct options *o)
{
    o->fault.kind = strcmp(word, "--full") == 0 ? FAULT_FULL : FAULT_ERROR;
    return parse_range(value, &o->fault.at, &o->fault_last) && o->fault.at > 0;
}

static bool parse_flag(const char *word, struct options *o)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--verbose", &o->verbose}, {"--twice", &o->twice}, {"--digests", &o->digests},
                 {"--lie", &o->lie},         {"--marks", &o->marks}, {"--tell", &o->tells}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(word, flags[i].name) == 0)
            return *flags[i].flag = true;
    }
    return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        uint64_t number = 0;
        bool good;
        if (parse_flag(argv[i], o))
            continue;
        if (i + 1 >= argc)
            return false;
        const char *word = argv[i++], *value = argv[i];
        if (strcmp(word, "--defect") == 0) {
            good = parse_number(value, UINT32_MAX, &number);
            o->defect = (uint32_t)number;
        } else if (strcmp(word, "--seed") == 0) {
            good = parse_number(value, UINT64_MAX, &o->first);
            o->last = o->first;
        } else if (strcmp(word, "--seeds") == 0) {
            good = parse_range(value, &o->first, &o->last);
        } else if (strcmp(word, "--fail") == 0 || strcmp(word, "--full") == 0) {
            good = parse_fault(word, value, o);
        } else if (strcmp(word, "--every") == 0) {
            good = parse_number(value, UINT64_MAX, &o->every) && o->every > 0;
        } else if (strcmp(word, "--time") == 0) {
            good = parse_number(value, UINT32_MAX, &number);
            o->seconds = (uint32_t)number;
        } else if (strcmp(word, "--trace") == 0) {
            good = (o->trace = value) != NULL;
        } else if (strcmp(word, "--replay") == 0) {
            good = (o->replay = value) != NULL;
        } else {
            good = false;
        }
        if (!good)
            return false;
    }
    return (o->trace == NULL && o->replay == NULL) ||
           (!o->twice && o->seconds == 0 && o->first == o->last);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* What this build has of core/lab.h. False: it has nothing. */
static bool lab_use(uint32_t defect, bool marks)
{
#if TORC_LAB
    (void)marks;
    *lab_defect() = defect;
    return true;
#else
    return defect == 0 && !marks;
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

static void refusal_add(const struct sim_refusal *r)
{
    uint32_t i = 0;
    while (i < refusals_count && (refusals[i].from != r->from || refusals[i].error != r->error))
        i++;
    if (i == REFUSALS_MAX)
        return;
    if (i == refusals_count)
        refusals[refusals_count++] = (struct sim_refusal){.from = r->from, .error = r->error};
    refusals[i].times += r->times;
}

static struct run_result run_one(const struct plan *plan, const struct options *o,
                                 struct chance_tape *tape)
{
    struct run_view view = {.verbose = o->verbose,
                            .tells = o->tells,
                            .tape = tape,
                            .now = &under_way,
                            .refused = plan->fault.kind != FAULT_NONE ? refusal_add : NULL};
    (void)snprintf(running, sizeof(running), "FAIL torc-sim --seed %llu: crashed\n",
                   (unsigned long long)plan->seed);
    return run_plan(plan, &view);
}

/* Whether the seed failed. */
static bool run_seed(uint64_t seed, const struct options *o, struct run_result *sum)
{
    struct plan plan = {.seed = seed, .lies = o->lie, .defect = o->defect};
    struct run_result first = run_one(&plan, o, NULL);
    sum->events += first.events;
    sum->virtual_ns += first.virtual_ns;
    if (o->digests || o->verbose)
        (void)printf("digest %llu %016llx\n", (unsigned long long)seed,
                     (unsigned long long)first.digest);
    if (first.failed || !o->twice)
        return first.failed;
    struct run_result second = run_one(&plan, o, NULL);
    if (second.digest == first.digest && !second.failed)
        return false;
    (void)fprintf(stderr, "FAIL torc-sim --seed %llu --twice: digests %016llx and %016llx\n",
                  (unsigned long long)seed, (unsigned long long)first.digest,
                  (unsigned long long)second.digest);
    return true;
}

/* One run that comes from a file, goes to a file, or both. */
static bool run_file(const struct options *o, struct run_result *sum)
{
    struct plan plan = {.seed = o->first, .lies = o->lie, .defect = o->defect};
    char why[128];
    FILE *from = o->replay != NULL ? fopen(o->replay, "r") : NULL;
    FILE *to = o->trace != NULL ? fopen(o->trace, "w") : NULL;
    bool good = (o->replay == NULL || from != NULL) && (o->trace == NULL || to != NULL);
    if (!good || (from != NULL && !plan_read(&plan, from, why, sizeof(why)))) {
        (void)fprintf(stderr, "FAIL torc-sim: the file %s\n", good ? why : "cannot be opened");
        return true;
    }
    if (!lab_use(plan.defect, false)) {
        (void)fprintf(stderr, "FAIL torc-sim: this build has no defects\n");
        return true;
    }
    int next = from != NULL ? fgetc(from) : EOF;
    bool repeats = next != EOF && ungetc(next, from) == next;
    if (to != NULL) {
        plan_write(&plan, to);
        (void)fprintf(to, "choices\n");
        tape_write(&choices, to);
    } else if (repeats) {
        tape_repeat(&choices, from);
    }
    *sum = run_one(&plan, o, to != NULL || repeats ? &choices.base : NULL);
    bool same = (to == NULL && !repeats) || tape_end(&choices, sum->digest);
    if (!same)
        (void)fprintf(stderr, "FAIL torc-sim --replay: another run: %s\n", choices.parted);
    (void)printf("digest %016llx, %llu choices\n", (unsigned long long)sum->digest,
                 (unsigned long long)choices.count);
    good = (to == NULL || fclose(to) == 0) && (from == NULL || fclose(from) == 0);
    return sum->failed || !same || !good;
}

/* Addresses as the file of this program has them, for tests/sim/faults.py. */
static void refusals_tell(void)
{
    extern const char __executable_start[]; /* the linker's */
    for (uint32_t i = 0; i < refusals_count; i++)
        (void)printf(
            "call\t%llx\t%d\t%u\n",
            (unsigned long long)((uintptr_t)refusals[i].from - (uintptr_t)__executable_start),
            -refusals[i].error, refusals[i].times);
}

/* One fault after the other; the exit code. */
static int run_faults(const struct options *o)
{
    uint64_t failures = 0, faults = 0;
    struct plan plan = {.seed = o->first, .fault = o->fault, .defect = o->defect};
    bool reached = true;
    for (; plan.fault.at <= o->fault_last && reached; plan.fault.at += o->every) {
        struct run_result r = run_one(&plan, o, NULL);
        reached = r.site[0] != 0;
        failures += r.failed;
        faults += reached;
        if (reached)
            (void)printf("%llu\t%s\t%s\n", (unsigned long long)plan.fault.at, r.site,
                         r.failed            ? "FAILED"
                         : r.outcome == NULL ? "it was over"
                                             : r.outcome);
    }
    refusals_tell();
    (void)printf("%llu faults, %llu failed\n", (unsigned long long)faults,
                 (unsigned long long)failures);
    return failures > 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.every = 1};
    if (!parse(argc, argv, &o) || !lab_use(o.defect, o.marks)) {
        usage();
        return 2;
    }
    (void)signal(SIGABRT, on_signal);
    (void)signal(SIGSEGV, on_signal);
    if (o.fault.kind != FAULT_NONE)
        return run_faults(&o);
    uint64_t failures = 0, seeds = 0;
    struct run_result sum = {0};
    struct timespec start, end;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    double took = 0;
    if (o.seconds > 0)
        o.last = UINT64_MAX;
    for (uint64_t seed = o.first; seed <= o.last; seed++) {
        bool files = o.trace != NULL || o.replay != NULL;
        failures += files ? run_file(&o, &sum) : run_seed(seed, &o, &sum);
        seeds++;
        (void)clock_gettime(CLOCK_MONOTONIC, &end);
        took = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
        if (o.seconds > 0 && took >= o.seconds)
            break;
    }
    lab_tell(&o);
    double virtual_s = (double)sum.virtual_ns / 1e9;
    (void)printf("%llu seeds, %llu failed, %.1f virtual s, %llu events, %.1f s: %.0fx real time, "
                 "%.0f events/s\n",
                 (unsigned long long)seeds, (unsigned long long)failures, virtual_s,
                 (unsigned long long)sum.events, took, virtual_s / took, (double)sum.events / took);
    return failures > 0 ? 1 : 0;
}
