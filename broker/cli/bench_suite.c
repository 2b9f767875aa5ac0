/* Scenarios of a file, as the words of a command line.
 *
 * Invariant: a scenario is read by the same table of options as the command it stands for, so what
 * is wrong with it is told in the same words.
 *
 * Failure modes: a file that cannot be read or is no properties; a scenario without a kind, of a
 * kind that there is not, or with an option that its kind does not have: one sentence, with the
 * name. */
#include "broker/cli/bench_suite.h"

#include <stdio.h>
#include <string.h>

#define FILE_LIMIT  (1u << 20)
#define ARENA_LIMIT (8ull << 20)
#define ALL         "all"

struct words {
    struct arena *arena;
    char *list[SUITE_WORDS_MAX];
    int count;
};

bool suite_open(struct suite *s, struct cli *c, const char *path, char *why, size_t why_size)
{
    char *text;
    size_t size;
    uint32_t line = 0;
    *s = (struct suite){.at = 0};
    arena_init(&s->arena, &c->mem, ARENA_LIMIT);
    int error = io_slurp(c->io, &c->mem, path, FILE_LIMIT, &text, &size);
    if (error != 0) {
        (void)snprintf(why, why_size, "%s: %s", path, strerror(-error));
        return false;
    }
    error = properties_parse(&s->properties, &s->arena, text, size, &line);
    mem_free(&c->mem, text, size + 1);
    if (error != 0)
        (void)snprintf(why, why_size, "%s: line %u is no property", path, line);
    return error == 0;
}

void suite_close(struct suite *s)
{
    arena_release(&s->arena);
}

/* The part of a key before its dot; 0: it has none. */
static size_t name_size(const char *key)
{
    const char *dot = strchr(key, '.');
    return dot == NULL ? 0 : (size_t)(dot - key);
}

static bool belongs(const char *key, const char *name)
{
    size_t size = name_size(key);
    return size == strlen(name) && strncmp(key, name, size) == 0;
}

static bool word_add(struct words *w, const char *option, const char *value)
{
    size_t size = strlen(option) + strlen(value) + 4;
    char *word = arena_alloc(w->arena, size);
    if (word == NULL || w->count == (int)SUITE_WORDS_MAX)
        return false;
    (void)snprintf(word, size, value[0] == '\0' ? "--%s" : "--%s=%s", option, value);
    w->list[w->count++] = word;
    return true;
}

/* The options under a name, but those that `unless` has too. */
static bool words_add(struct words *w, const struct suite *s, const struct command *command,
                      const char *name, const char *unless)
{
    for (uint32_t i = 0; i < s->properties.count; i++) {
        const struct property *p = &s->properties.items[i];
        char other[256];
        if (!belongs(p->key, name))
            continue;
        const char *key = p->key + name_size(p->key) + 1;
        (void)snprintf(other, sizeof(other), "%s.%s", unless == NULL ? "" : unless, key);
        const struct option *o = option_find(command, key);
        if (strcmp(key, "kind") == 0 ||
            (unless != NULL && (o == NULL || properties_get(&s->properties, other) != NULL)))
            continue;
        bool flag = o != NULL && o->value == NULL;
        if (flag && strcmp(p->value, "true") != 0)
            continue;
        if (!word_add(w, key, flag ? "" : p->value))
            return false;
    }
    return true;
}

/* The next name that has not been met before; NULL at the end. */
static const char *name_next(struct suite *s)
{
    for (; s->at < s->properties.count; s->at++) {
        const char *key = s->properties.items[s->at].key;
        size_t size = name_size(key);
        bool met = size == 0 || belongs(key, ALL);
        for (uint32_t i = 0; i < s->at && !met; i++) {
            const char *before = s->properties.items[i].key;
            met = name_size(before) == size && strncmp(before, key, size) == 0;
        }
        if (met)
            continue;
        s->at++;
        char *name = arena_alloc(&s->arena, size + 1);
        if (name != NULL)
            (void)snprintf(name, size + 1, "%.*s", (int)size, key);
        return name;
    }
    return NULL;
}

bool suite_next(struct suite *s, struct cli *c, const char **name, enum bench_kind *kind, char *why,
                size_t why_size)
{
    static const char *const kinds[BENCH_KINDS] = {
        [BENCH_PRODUCE] = "produce",   [BENCH_CONSUME] = "consume",         [BENCH_E2E] = "e2e",
        [BENCH_CATCH_UP] = "catch-up", [BENCH_CONNECTIONS] = "connections", [BENCH_TXN] = "txn",
        [BENCH_GROUPS] = "groups"};
    char key[256], command[64], problem[200];
    why[0] = '\0';
    *name = name_next(s);
    if (*name == NULL)
        return false;
    (void)snprintf(key, sizeof(key), "%s.kind", *name);
    const char *said = properties_get(&s->properties, key);
    uint32_t k = 0;
    while (k < BENCH_KINDS && (said == NULL || strcmp(said, kinds[k]) != 0))
        k++;
    if (k == BENCH_KINDS) {
        (void)snprintf(why, why_size,
                       "scenario %s: %s is none of produce, consume, e2e, catch-up, "
                       "connections, txn and groups",
                       *name, key);
        return false;
    }
    (void)snprintf(command, sizeof(command), "bench %s", kinds[k]);
    *kind = (enum bench_kind)k;
    c->command = cli_find(command);
    struct words w = {.arena = &s->arena};
    bool good = (s->brokers == NULL || word_add(&w, "brokers", s->brokers)) &&
                (s->pid == NULL || word_add(&w, "pid", s->pid)) &&
                words_add(&w, s, c->command, ALL, *name) &&
                words_add(&w, s, c->command, *name, NULL);
    if (!good)
        (void)snprintf(why, why_size, "scenario %s: too many options", *name);
    else if (!option_parse(c->command, w.count, w.list, &c->parsed, problem, sizeof(problem)))
        (void)snprintf(why, why_size, "scenario %s: %s", *name, problem);
    return why[0] == '\0';
}
