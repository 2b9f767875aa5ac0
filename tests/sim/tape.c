/* The choices of a run in a file. See tape.h for its lines. */
#include "tests/sim/tape.h"

#include <string.h>

#include "core/core.h"

/* By address first, which is quick; the numbers come from the order in which sites are met. */
static uint32_t site_find(struct tape *t, const char *site)
{
    for (uint32_t i = 0; i < t->sites_count; i++) {
        if (t->known[i] == site)
            return i;
    }
    for (uint32_t i = 0; i < t->sites_count; i++) {
        if (strcmp(t->sites[i], site) == 0)
            return i;
    }
    return UINT32_MAX;
}

static uint64_t tape_wrote(struct chance_tape *base, const char *site, uint64_t bound,
                           uint64_t value)
{
    struct tape *t = container_of(base, struct tape, base);
    (void)bound;
    uint32_t id = site_find(t, site);
    if (id == UINT32_MAX) {
        assert(t->sites_count < TAPE_SITES_MAX && strlen(site) < TAPE_SITE_MAX);
        id = t->sites_count++;
        (void)snprintf(t->sites[id], TAPE_SITE_MAX, "%s", site);
        t->known[id] = site;
        (void)fprintf(t->file, "= %u %s\n", id, site);
    }
    (void)fprintf(t->file, "%u %llu\n", id, (unsigned long long)value);
    t->count++;
    return value;
}

static void tape_part(struct tape *t, const char *site, const char *line)
{
    t->has_parted = true;
    (void)snprintf(t->parted, sizeof(t->parted), "choice %llu is made in %s, the file has %s",
                   (unsigned long long)t->count, site, line);
    t->parted[strcspn(t->parted, "\n")] = 0;
}

/* The next choice of the file; false: there is none. */
static bool tape_next(struct tape *t, uint32_t *id, uint64_t *value, char line[128])
{
    unsigned long long word;
    while (fgets(line, 128, t->file) != NULL) {
        if (sscanf(line, "= %u", id) == 1) {
            if (*id != t->sites_count || *id >= TAPE_SITES_MAX ||
                sscanf(line, "= %*u %63s", t->sites[*id]) != 1)
                return false;
            t->sites_count++;
        } else if (sscanf(line, "%u %llu", id, &word) == 2) {
            *value = word;
            return *id < t->sites_count;
        } else {
            return false;
        }
    }
    (void)snprintf(line, 128, "no more");
    return false;
}

static uint64_t tape_said(struct chance_tape *base, const char *site, uint64_t bound,
                          uint64_t value)
{
    struct tape *t = container_of(base, struct tape, base);
    char line[128];
    uint32_t id;
    uint64_t word;
    if (t->has_parted)
        return value;
    if (!tape_next(t, &id, &word, line) || strcmp(t->sites[id], site) != 0 ||
        (bound > 0 && word >= bound)) {
        tape_part(t, site, line);
        return value;
    }
    t->count++;
    return word;
}

void tape_write(struct tape *t, FILE *file)
{
    *t = (struct tape){.base = {tape_wrote}, .file = file};
}

void tape_repeat(struct tape *t, FILE *file)
{
    *t = (struct tape){.base = {tape_said}, .file = file, .repeats = true};
}

bool tape_end(struct tape *t, uint64_t digest)
{
    unsigned long long word;
    char line[128] = "no more";
    if (!t->repeats) {
        (void)fprintf(t->file, ". %016llx\n", (unsigned long long)digest);
        return true;
    }
    if (t->has_parted)
        return false;
    if (fgets(line, sizeof(line), t->file) == NULL || sscanf(line, ". %llx", &word) != 1) {
        tape_part(t, "no place any more", line);
        return false;
    }
    if (word == digest)
        return true;
    t->has_parted = true;
    (void)snprintf(t->parted, sizeof(t->parted), "the digest is %016llx, the file has %016llx",
                   (unsigned long long)digest, word);
    return false;
}
