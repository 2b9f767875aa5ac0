/* Reading the words of a command line by a table.
 *
 *   --name value   --name=value   -n value   -nvalue   -abc (flags)   --   positional
 *
 * Words that do not begin with a dash, a dash alone, and all that follow "--" are positional.
 * Options and positional words may be mixed, as people write them.
 *
 * Invariants:
 *  1. counts[i] <= VALUES_MAX, and <= 1 unless options[i].repeats.
 *  2. After true, positionals_count is within the command's bounds, or help was asked for.
 *
 * Failure modes: a sentence that says which word is wrong, and the nearest option to an unknown
 * one.
 */
#include "broker/cli/option.h"

#include <stdio.h>
#include <string.h>

#include "broker/config/config_table.h"

struct reading {
    const struct command *command;
    struct parsed *parsed;
    char *const *words;
    int count, at;
    char *why;
    size_t why_size;
};

uint32_t options_count(const struct command *c)
{
    uint32_t count = 0;
    assert(c != NULL);
    if (c->options == NULL)
        return 0;
    while (c->options[count].name != NULL || c->options[count].letter != 0)
        count++;
    assert(count <= OPTIONS_MAX);
    return count;
}

const struct option *option_find(const struct command *c, const char *name)
{
    for (uint32_t i = 0; i < options_count(c); i++) {
        const struct option *o = &c->options[i];
        if (o->name != NULL && strcmp(o->name, name) == 0)
            return o;
        if (o->letter != 0 && name[0] == o->letter && name[1] == '\0')
            return o;
    }
    return NULL;
}

static bool keep(struct reading *r, const struct option *o, const char *value)
{
    uint32_t i = (uint32_t)(o - r->command->options);
    assert(i < OPTIONS_MAX);
    const char *dashes = o->name != NULL ? "--" : "-";
    char letter[2] = {o->letter, '\0'};
    uint32_t most = o->repeats ? VALUES_MAX : 1;
    if (r->parsed->counts[i] == most) {
        snprintf(r->why, r->why_size, "%s%s is said more than %u time%s", dashes,
                 o->name != NULL ? o->name : letter, most, most == 1 ? "" : "s");
        return false;
    }
    r->parsed->values[i][r->parsed->counts[i]++] = value;
    return true;
}

static void say_unknown(struct reading *r, const char *name, size_t size)
{
    const char *nearest = NULL;
    uint32_t best = 3;
    char copy[64];
    snprintf(copy, sizeof(copy), "%.*s", (int)(size < 63 ? size : 63), name);
    for (uint32_t i = 0; i < options_count(r->command); i++) {
        const char *candidate = r->command->options[i].name;
        if (candidate == NULL)
            continue;
        uint32_t distance = config_distance(copy, candidate, 2);
        if (distance < best) {
            best = distance;
            nearest = candidate;
        }
    }
    snprintf(r->why, r->why_size, "no option is called --%s%s%s%s", copy,
             nearest == NULL ? "" : "; did you mean --", nearest == NULL ? "" : nearest,
             nearest == NULL ? "" : "?");
}

/* The next word as a value, or NULL with a sentence. */
static const char *take_value(struct reading *r, const char *option)
{
    if (r->at < r->count)
        return r->words[r->at++];
    snprintf(r->why, r->why_size, "%s needs a value", option);
    return NULL;
}

static bool long_option(struct reading *r, const char *word)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t size = equals == NULL ? strlen(name) : (size_t)(equals - name);
    char copy[64];
    if (strcmp(word, "--help") == 0) {
        r->parsed->help = true;
        return true;
    }
    snprintf(copy, sizeof(copy), "%.*s", (int)(size < 63 ? size : 63), name);
    const struct option *o = size > 1 ? option_find(r->command, copy) : NULL;
    if (o == NULL) {
        say_unknown(r, name, size);
        return false;
    }
    if (o->value == NULL && equals != NULL) {
        snprintf(r->why, r->why_size, "--%s takes no value", copy);
        return false;
    }
    if (o->value == NULL)
        return keep(r, o, "");
    const char *value = equals != NULL ? equals + 1 : take_value(r, word);
    return value != NULL && keep(r, o, value);
}

static bool short_options(struct reading *r, const char *word)
{
    for (const char *at = word + 1; *at != '\0'; at++) {
        char name[2] = {*at, '\0'};
        const struct option *o = option_find(r->command, name);
        if (o == NULL && *at == 'h') {
            r->parsed->help = true;
            continue;
        }
        if (o == NULL) {
            snprintf(r->why, r->why_size, "no option is called -%c", *at);
            return false;
        }
        if (o->value == NULL) {
            if (!keep(r, o, ""))
                return false;
            continue;
        }
        char dashed[3] = {'-', *at, '\0'};
        const char *value = at[1] != '\0' ? at + 1 : take_value(r, dashed);
        return value != NULL && keep(r, o, value);
    }
    return true;
}

static bool positional(struct reading *r, const char *word)
{
    uint32_t most = r->command->arguments_max;
    assert(most <= POSITIONALS_MAX);
    if (r->parsed->positionals_count >= most) {
        snprintf(r->why, r->why_size, "'%.60s' is one word too many", word);
        return false;
    }
    r->parsed->positionals[r->parsed->positionals_count++] = word;
    return true;
}

bool option_parse(const struct command *c, int count, char *const *words, struct parsed *p,
                  char *why, size_t why_size)
{
    assert(c != NULL && p != NULL);
    assert(why_size > 0);
    *p = (struct parsed){.help = false};
    struct reading r = {.command = c,
                        .parsed = p,
                        .words = words,
                        .count = count,
                        .why = why,
                        .why_size = why_size};
    bool only_words = false;
    while (r.at < count) {
        const char *word = words[r.at++];
        bool dashed = !only_words && word[0] == '-' && word[1] != '\0';
        if (dashed && strcmp(word, "--") == 0)
            only_words = true;
        else if (dashed ? !(word[1] == '-' ? long_option(&r, word) : short_options(&r, word))
                        : !positional(&r, word))
            return false;
    }
    if (p->help || p->positionals_count >= c->arguments_min)
        return true;
    snprintf(why, why_size, "say %s", c->arguments);
    return false;
}
