/* struct tape: the choices of a run in a file, written down as they are made, or taken from there
 * again. Behind a plan (tests/sim/options.h) and a line "choices", a line each:
 *
 *   = ID SITE     this site is called ID from here on
 *   ID VALUE      what was drawn there
 *   . DIGEST      the end of the run, and what it came to
 *
 * A repeated run must draw at the same sites in the same order; where it does not, the first place
 * is kept in `parted`, and the run goes on by its own draws. */
#ifndef TESTS_SIM_TAPE_H
#define TESTS_SIM_TAPE_H

#include "io/sim/chance.h"

#include <stdio.h>

#define TAPE_SITES_MAX 512u
#define TAPE_SITE_MAX  64u

struct tape {
    struct chance_tape base;
    FILE *file;
    bool repeats;
    uint64_t count; /* choices so far */
    uint32_t sites_count;
    char sites[TAPE_SITES_MAX][TAPE_SITE_MAX];
    const char *known[TAPE_SITES_MAX]; /* as the program has them: found faster */
    bool has_parted;
    char parted[256];
};

/* file: stands behind the line "choices"; stays the caller's. */
void tape_write(struct tape *t, FILE *file);
void tape_repeat(struct tape *t, FILE *file);
/* The run is over. Repeating: whether it came to the same end by the same choices. */
bool tape_end(struct tape *t, uint64_t digest);

#endif
