/* Commands and their options as data: one table gives parsing, --help and the check of both. */
#ifndef BROKER_CLI_OPTION_H
#define BROKER_CLI_OPTION_H

#include "core/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MAX     48 /* of one command */
#define VALUES_MAX      64 /* of one option that may be repeated */
#define POSITIONALS_MAX 64

struct option {
    const char *name; /* without dashes; NULL: only a letter */
    char letter;      /* 0: only a name */
    bool repeats;
    const char *value; /* what its value is called in help; NULL: a flag */
    const char *help;
};

struct cli;

struct command {
    const char *name;      /* "config check" */
    const char *arguments; /* as help shows them: "FILE [FILE]..." */
    uint32_t arguments_min, arguments_max;
    const char *summary;          /* one line, for the list of commands */
    const char *description;      /* paragraphs, for its own help; may be NULL */
    const struct option *options; /* ends with an entry without name and letter; may be NULL */
    int (*run)(struct cli *cli);  /* NULL: a family, whose commands are named "NAME ..." */
};

/* What was said, by index of the option. */
struct parsed {
    const char *values[OPTIONS_MAX][VALUES_MAX]; /* "" for a flag */
    uint32_t counts[OPTIONS_MAX];
    const char *positionals[POSITIONALS_MAX];
    uint32_t positionals_count;
    bool help;
};

/* Reads the words after the command's name. false: a sentence in why. */
NODISCARD bool option_parse(const struct command *c, int count, char *const *words,
                            struct parsed *p, char *why, size_t why_size);
/* The command's options, by name or letter as one string; NULL when there is none such. */
const struct option *option_find(const struct command *c, const char *name);
uint32_t options_count(const struct command *c);

#endif
