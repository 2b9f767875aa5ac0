/* Finding rows of the configuration table: by exact name, by a name with a listener's prefix, and
 * by what somebody may have meant.
 *
 *   listener.name.internal.plain.sasl.jaas.config
 *   └── prefix ─────────┘ └ mechanism ┘ └── row ─┘      the mechanism only before a few SASL keys
 *
 * Invariants:
 *  1. Rows of a scope are strictly ascending by strcmp, as the generator sorts them; config_find
 *     relies on it.
 *  2. Groups of broker synonyms are in precedence order, finest unit first, as Kafka lists them.
 *
 * Failure modes: none; what is not found is NULL. */
#include "broker/config/config_table.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "core/assert.h"
#include "core/core.h"

#define NAME_MAX_COMPARED 96 /* longer names are not compared letter by letter */

const struct config_key *config_find(enum config_scope scope, const char *name)
{
    assert(scope < SCOPES);
    assert(name != NULL);
    const struct config_table *t = &config_tables[scope];
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(t->keys[middle].name, name);
        if (order == 0)
            return &t->keys[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The part after "listener.name.x.", or NULL. */
static const char *after_listener(const char *name)
{
    static const char prefix[] = "listener.name.";
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    const char *dot = strchr(name + sizeof(prefix) - 1, '.');
    return dot == NULL ? NULL : dot + 1;
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

const struct config_key *config_find_broker(const char *name, bool *prefixed)
{
    static const char *const of_mechanisms[] = {
        "connections.max.reauth.ms", "sasl.jaas.config", "sasl.login.callback.handler.class",
        "sasl.login.class", "sasl.server.callback.handler.class"};
    assert(name != NULL);
    const char *base = after_listener(name);
    *prefixed = base != NULL;
    if (base == NULL)
        return config_find(SCOPE_BROKER, name);
    for (size_t i = 0; i < sizeof(of_mechanisms) / sizeof(of_mechanisms[0]); i++)
        if (ends_with(base, of_mechanisms[i]))
            return config_find(SCOPE_BROKER, of_mechanisms[i]);
    return config_find(SCOPE_BROKER, base);
}

const struct config_key *config_find_gone(const char *name)
{
    assert(name != NULL);
    for (uint32_t i = 0; i < config_gone.count; i++) {
        const struct config_key *k = &config_gone.keys[i];
        size_t size = strlen(k->name);
        assert(size > 0);
        bool family = k->name[size - 1] == '*';
        if (family ? strncmp(k->name, name, size - 1) == 0 : strcmp(k->name, name) == 0)
            return k;
    }
    return NULL;
}

/* Optimal string alignment: insertions, deletions, replacements, and swaps of neighbours; three
 * rows of the matrix are enough. */
uint32_t config_distance(const char *a, const char *b, uint32_t limit)
{
    size_t a_size = strlen(a), b_size = strlen(b);
    size_t apart = a_size > b_size ? a_size - b_size : b_size - a_size;
    if (a_size > NAME_MAX_COMPARED || b_size > NAME_MAX_COMPARED || apart > limit)
        return limit + 1;
    uint32_t rows[3][NAME_MAX_COMPARED + 1];
    for (uint32_t j = 0; j <= b_size; j++)
        rows[0][j] = j;
    /* Of a row: what follows is no less than the lesser of two. */
    uint32_t least = 0, least_above = 0;
    for (uint32_t i = 1; i <= a_size && MIN(least, least_above) <= limit; i++) {
        uint32_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        least_above = least;
        least = i;
        for (uint32_t j = 1; j <= b_size; j++) {
            uint32_t changed = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            uint32_t best = MIN(changed, MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, two_above[j - 2] + 1);
            row[j] = best;
            least = MIN(least, best);
        }
    }
    if (MIN(least, least_above) > limit)
        return limit + 1;
    return MIN(rows[a_size % 3][b_size], limit + 1);
}

/* Lower case with dots for - and _, since these are not mistakes of spelling. */
static bool fold(char *to, const char *from)
{
    size_t size = strlen(from);
    if (size > NAME_MAX_COMPARED)
        return false;
    for (size_t i = 0; i <= size; i++) {
        char c = (char)tolower((unsigned char)from[i]);
        to[i] = c == '-' || c == '_' ? '.' : c;
    }
    return true;
}

const char *config_nearest(enum config_scope scope, const char *name)
{
    assert(scope < SCOPES);
    char folded[NAME_MAX_COMPARED + 1] = "";
    if (!fold(folded, name))
        return NULL;
    uint32_t best = (uint32_t)MAX(1u, MIN(4u, strlen(folded) / 5));
    const char *nearest = NULL;
    for (uint32_t i = 0; i < config_tables[scope].count; i++) {
        const char *candidate = config_tables[scope].keys[i].name;
        uint32_t distance = config_distance(folded, candidate, best);
        if (distance > best || (nearest != NULL && distance == best))
            continue;
        nearest = candidate;
        best = distance;
        if (best == 0)
            break;
    }
    return nearest;
}

const char *const *config_broker_synonyms(const char *name)
{
    static const char *const retention[] = {"log.retention.ms", "log.retention.minutes",
                                            "log.retention.hours", NULL};
    static const char *const roll[] = {"log.roll.ms", "log.roll.hours", NULL};
    static const char *const jitter[] = {"log.roll.jitter.ms", "log.roll.jitter.hours", NULL};
    static const char *const flush[] = {"log.flush.interval.ms", "log.flush.scheduler.interval.ms",
                                        NULL};
    static const char *const *const groups[] = {retention, roll, jitter, flush};
    /* The scheduler's interval stands in for the flush interval, never the other way round. */
    if (strcmp(name, flush[1]) == 0)
        return NULL;
    for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
        for (size_t i = 0; groups[g][i] != NULL; i++)
            if (strcmp(groups[g][i], name) == 0)
                return groups[g];
    return NULL;
}

bool config_sensitive(const struct config_key *key)
{
    return key == NULL || key->type == CONFIG_PASSWORD;
}

const char *config_type_name(enum config_type type)
{
    static const char *const names[] = {"UNKNOWN", "BOOLEAN", "STRING", "INT",   "SHORT",
                                        "LONG",    "DOUBLE",  "LIST",   "CLASS", "PASSWORD"};
    assert((size_t)type < sizeof(names) / sizeof(names[0]));
    return names[type];
}

const char *config_mode_name(enum config_mode mode)
{
    static const char *const names[] = {"read-only", "per-broker", "cluster-wide"};
    assert((size_t)mode < sizeof(names) / sizeof(names[0]));
    return names[mode];
}

const char *config_importance_name(enum config_importance importance)
{
    static const char *const names[] = {"high", "medium", "low"};
    assert((size_t)importance < sizeof(names) / sizeof(names[0]));
    return names[importance];
}

const char *config_treatment_name(enum config_treatment treatment)
{
    static const char *const names[] = {"used", "accepted", "refused", "ignored"};
    assert((size_t)treatment < sizeof(names) / sizeof(names[0]));
    return names[treatment];
}
