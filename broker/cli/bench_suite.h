/* struct suite: a file of scenarios for `torc bench suite`. Same-folder use.
 *
 *   # Java's properties; NAME.kind says what is run, the rest are its options
 *   all.seconds = 5
 *   paced.kind = e2e
 *   paced.rate = 1000
 *   batches.kind = produce
 *   batches.max = true
 *
 * What stands under `all` goes for every scenario; what a scenario says itself wins. */
#ifndef BROKER_CLI_BENCH_SUITE_H
#define BROKER_CLI_BENCH_SUITE_H

#include "broker/cli/bench_command.h"
#include "core/arena.h"
#include "core/properties.h"

#define SUITE_WORDS_MAX 64u

struct suite {
    struct arena arena;
    struct properties properties;
    const char *brokers, *pid, *floor; /* said on the command line, for all; may be NULL */
    uint32_t at;                       /* property at which the next scenario is looked for */
};

/* false: a sentence in why. */
NODISCARD bool suite_open(struct suite *s, struct cli *c, const char *path, char *why,
                          size_t why_size);
void suite_close(struct suite *s);
/* The next scenario: its name, and c's command and words as if they had been typed. *kind: what to
 * run. false at the end (why empty) or when it is wrong. */
NODISCARD bool suite_next(struct suite *s, struct cli *c, const char **name, enum bench_kind *kind,
                          char *why, size_t why_size);

#endif
