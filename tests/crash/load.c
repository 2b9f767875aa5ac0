/* Load that outlives its broker: producers, a reader that follows, and the ledger of every
 * acknowledgement, in one thread that never waits for a broker.
 *
 *   load --port N --topic T [--producers 4] [--partitions 16] [--rate BYTES] [--batch-max BYTES]
 *        [--seed N]
 *
 *   stdin    status   one line of counts
 *            answers  how many there were since they were last asked for, and the p99 of how long
 *                     they took
 *            drain    no new records; answers "drained" when everything is acknowledged
 *            check    reads all partitions from the beginning; answers "checked"
 *            fork N   answers "forked"; a copy of this process, with the ledger as it is now, holds
 *                     against it what a broker at port N has, answers "checked" and ends: it must
 *                     have all that is acknowledged now, and may have more of what was sent
 *            quit
 *   stdout   "wrong KIND ..." as soon as something is, and the answers
 *
 * The broker may die and come back at any moment: connections are opened again, and what was not
 * answered is repeated. */
#include "load.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define TURN_MS  2
#define DRAIN_NS 120000000000ull
#define BURST_NS 100000000ull /* of the rate, which may be saved up */

static const char *const wrong_names[WRONGS] = {"lost",    "duplicated", "reordered", "moved",
                                                "corrupt", "taken-back", "answer"};

struct crew {
    struct load load;
    struct producer *producers[PRODUCERS_MAX];
    struct reader *follower, *final;
    char line[256];
    uint32_t line_size;
    uint64_t drain_ns;
    bool quit;
};

/* ---- shared ---------------------------------------------------------------------------------- */

void load_wrong(struct load *l, enum wrong kind, const char *form, ...)
{
    if (l->wrong[kind]++ >= WRONG_SHOWN)
        return;
    va_list args;
    va_start(args, form);
    printf("wrong %s: ", wrong_names[kind]);
    vprintf(form, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
}

uint32_t load_random(struct load *l, uint32_t below)
{
    l->random += 0x9E3779B97F4A7C15ull;
    uint64_t z = l->random;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return below == 0 ? 0 : (uint32_t)((z >> 33) % below);
}

uint64_t load_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void load_answered(struct load *l, uint64_t asked_ns)
{
    uint64_t took = load_now_ns() - asked_ns;
    histogram_record(&l->answers, took);
    if (took > l->slowest_ns)
        l->slowest_ns = took;
}

void *load_grow(void *memory, size_t size)
{
    void *grown = realloc(memory, size);
    if (grown == NULL) {
        fprintf(stderr, "load: no memory\n");
        exit(2);
    }
    return grown;
}

/* ---- commands -------------------------------------------------------------------------------- */

static void say_counts(struct crew *c, const char *word)
{
    struct load *l = &c->load;
    printf("%s batches=%llu records=%llu sent=%llu bytes=%llu resent=%llu probed=%llu "
           "reconnects=%llu refused=%llu tail=%llu",
           word, (unsigned long long)l->batches_acked, (unsigned long long)l->records_acked,
           (unsigned long long)l->records_sent, (unsigned long long)l->bytes_sent,
           (unsigned long long)l->resent, (unsigned long long)l->probed,
           (unsigned long long)l->reconnects, (unsigned long long)l->refused,
           (unsigned long long)l->tail_records);
    printf(" slowest_ms=%llu", (unsigned long long)l->slowest_ns / 1000000);
    l->slowest_ns = 0;
    printf(" read=%llu", c->final == NULL ? 0ull : (unsigned long long)reader_records(c->final));
    for (uint32_t i = 0; i < WRONGS; i++)
        printf(" %s=%llu", wrong_names[i], (unsigned long long)l->wrong[i]);
    putchar('\n');
    fflush(stdout);
}

static void say_answers(struct load *l)
{
    printf("answers count=%llu p99_us=%llu\n", (unsigned long long)l->answers.count,
           (unsigned long long)histogram_quantile(&l->answers, 0.99) / 1000);
    fflush(stdout);
    histogram_init(&l->answers);
}

/* The copy lets go of what is the parent's, and checks. */
static void command_fork(struct crew *c, uint16_t port)
{
    pid_t child = fork();
    if (child != 0) {
        printf("forked\n");
        fflush(stdout);
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    c->load.copy = true; /* the connections are the parent's */
    c->load.port = port;
    c->final = reader_make(&c->load, c->follower);
    c->drain_ns = load_now_ns() + DRAIN_NS;
}

static void command(struct crew *c, const char *word)
{
    if (strncmp(word, "fork ", 5) == 0) {
        command_fork(c, (uint16_t)strtoul(word + 5, NULL, 10));
        return;
    }
    if (strcmp(word, "status") == 0) {
        say_counts(c, "status");
    } else if (strcmp(word, "answers") == 0) {
        say_answers(&c->load);
    } else if (strcmp(word, "drain") == 0) {
        c->load.draining = true;
        c->drain_ns = load_now_ns() + DRAIN_NS;
    } else if (strcmp(word, "check") == 0) {
        c->final = reader_make(&c->load, c->follower);
        c->drain_ns = load_now_ns() + DRAIN_NS;
    } else {
        c->quit = true;
    }
}

static void read_commands(struct crew *c)
{
    char chunk[128];
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n <= 0)
        c->quit = true;
    for (ssize_t i = 0; i < n; i++) {
        if (chunk[i] != '\n' && c->line_size < sizeof(c->line) - 1) {
            c->line[c->line_size++] = chunk[i];
            continue;
        }
        c->line[c->line_size] = '\0';
        c->line_size = 0;
        command(c, c->line);
    }
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void earn(struct load *l)
{
    uint64_t now = load_now_ns();
    int64_t most = (int64_t)(l->rate * (BURST_NS / 1000) / 1000000);
    l->budget += (int64_t)((now - l->budget_ns) / 1000 * l->rate / 1000000);
    l->budget_ns = now;
    if (l->budget > most)
        l->budget = most;
}

/* Says "drained" and "checked" when it is so, or after too long. */
static void look_for_ends(struct crew *c)
{
    struct load *l = &c->load;
    bool late = load_now_ns() > c->drain_ns;
    if (c->final != NULL && c->drain_ns > 0 && (late || reader_done(c->final))) {
        if (late)
            load_wrong(l, WRONG_LOST, "the partitions cannot be read to their ends");
        c->drain_ns = 0;
        say_counts(c, "checked");
        c->quit |= l->copy;
    }
    if (c->final != NULL || c->drain_ns == 0)
        return;
    bool idle = true;
    for (uint32_t i = 0; i < l->producers_count; i++)
        idle &= producer_idle(c->producers[i]);
    if (!idle && !late)
        return;
    if (!idle)
        load_wrong(l, WRONG_ANSWER, "not everything is acknowledged");
    c->drain_ns = 0;
    say_counts(c, "drained");
}

static void turn(struct crew *c)
{
    struct load *l = &c->load;
    uint32_t producers = l->copy ? 0 : l->producers_count;
    struct pollfd fds[PRODUCERS_MAX + 2] = {{.fd = l->copy ? -1 : STDIN_FILENO, .events = POLLIN}};
    struct reader *reader = c->final != NULL ? c->final : c->follower;
    struct link *links[PRODUCERS_MAX + 1];
    earn(l);
    reader_turn(reader);
    links[0] = reader_link(reader);
    for (uint32_t i = 0; i < producers; i++) {
        producer_turn(c->producers[i]);
        links[i + 1] = producer_link(c->producers[i]);
    }
    for (uint32_t i = 0; i <= producers; i++) {
        short events = links[i]->out_have > 0 ? POLLIN | POLLOUT : POLLIN;
        fds[i + 1] = (struct pollfd){.fd = links[i]->fd, .events = events};
    }
    if (poll(fds, producers + 2, TURN_MS) < 0)
        return;
    if (fds[0].revents != 0)
        read_commands(c);
    if (l->copy)
        producers = 0; /* just forked off: what came for the parent is the parent's */
    short any = POLLIN | POLLHUP | POLLERR;
    if ((fds[1].revents & any) && reader == (c->final != NULL ? c->final : c->follower))
        reader_read(reader);
    for (uint32_t i = 0; i < producers; i++) {
        if (fds[i + 2].revents & any)
            producer_read(c->producers[i]);
    }
    look_for_ends(c);
}

static bool option(struct load *l, const char *name, const char *value)
{
    uint64_t n = strtoull(value, NULL, 10);
    if (strcmp(name, "--topic") == 0)
        l->topic = value;
    else if (strcmp(name, "--port") == 0)
        l->port = (uint16_t)n;
    else if (strcmp(name, "--producers") == 0)
        l->producers_count = (uint32_t)n;
    else if (strcmp(name, "--partitions") == 0)
        l->partitions_count = (uint32_t)n;
    else if (strcmp(name, "--rate") == 0)
        l->rate = n;
    else if (strcmp(name, "--batch-max") == 0)
        l->batch_max = (uint32_t)n;
    else if (strcmp(name, "--seed") == 0)
        l->random = n;
    else
        return false;
    return true;
}

int main(int count, char **words)
{
    struct crew *c = load_grow(NULL, sizeof(*c));
    memset(c, 0, sizeof(*c));
    struct load *l = &c->load;
    *l = (struct load){.topic = "crash",
                       .producers_count = 4,
                       .partitions_count = 16,
                       .rate = 20000000,
                       .batch_max = 200000};
    bool good = count % 2 == 1;
    for (int i = 1; i + 1 < count && good; i += 2)
        good = option(l, words[i], words[i + 1]);
    if (!good || l->port == 0 || l->producers_count > PRODUCERS_MAX ||
        l->partitions_count > PARTITIONS_MAX || l->partitions_count == 0) {
        fprintf(stderr, "usage: load --port N [--topic T] [--producers N] [--partitions N] "
                        "[--rate BYTES] [--batch-max BYTES] [--seed N]\n");
        return 2;
    }
    (void)signal(SIGCHLD, SIG_IGN); /* copies are nobody's to wait for */
    histogram_init(&l->answers);
    l->budget_ns = load_now_ns();
    c->follower = reader_make(l, NULL);
    for (uint32_t i = 0; i < l->producers_count; i++)
        c->producers[i] = producer_make(l, i);
    while (!c->quit)
        turn(c);
    return 0;
}
