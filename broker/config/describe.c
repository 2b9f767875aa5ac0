/* What DescribeConfigs says of a resource, key by key, the way Kafka's ConfigHelper puts it
 * together:
 *
 *   value      what is in force, in canonical text
 *   synonyms   for each layer, highest first, for each synonym name: what it says; and all that
 *              stands before the first one with the very name that is described is dropped, so a
 *              key whose coarser synonym speaks has no synonyms at all
 *   source     that of the first synonym, else default
 *
 * Keys are those of the table but for internal ones, and whatever else is given: internal keys,
 * listener-prefixed ones, and unknown ones, whose type nobody knows and whose value is not shown.
 *
 * Invariants:
 *  1. Every listed key is visited once, in name order within the table, then the others.
 *  2. A sensitive key's value leaves here nowhere, neither as value nor as synonym.
 *
 * Failure modes: none. Texts are lent for the visit; numbers live in a buffer of the walk. */
#include "broker/config/describe.h"

#include <stdio.h>
#include <string.h>

#include "broker/config/resolve.h"
#include "core/assert.h"
#include "core/core.h"

struct walk {
    const struct config_layers *layers;
    const struct config_resource *resource;
    bool (*visit)(void *context, const struct config_description *d);
    void *context;
    struct config_description d;
    char text[CONFIG_VALUE_MAX + 1];
};

static void add_synonym(struct config_description *d, const char *name, const char *value,
                        enum config_source source)
{
    if (d->synonyms_count == CONFIG_SYNONYMS_MAX)
        return;
    d->synonyms[d->synonyms_count++] =
        (struct config_synonym){name, d->sensitive ? NULL : value, source};
}

/* The names under which a broker key may be set, highest first; at most four and NULL. */
static void synonym_names(const char *name, const char *names[5])
{
    const char *const *group = config_broker_synonyms(name);
    bool prefixed;
    const struct config_key *key = config_find_broker(name, &prefixed);
    size_t count = 0;
    for (; group != NULL && group[count] != NULL && count < 4; count++)
        names[count] = group[count];
    if (group == NULL)
        names[count++] = name;
    if (group == NULL && prefixed && key != NULL)
        names[count++] = key->name;
    names[count] = NULL;
}

/* Adds what the layers say of a broker key, `first` being the highest layer that counts. */
static void add_broker_synonyms(struct walk *w, const char *name, bool cluster_only)
{
    const char *names[5];
    synonym_names(name, names);
    bool found = false;
    for (int source = SOURCE_DYNAMIC_BROKER; source <= SOURCE_DEFAULT; source++) {
        for (size_t i = 0; names[i] != NULL; i++) {
            const char *value = config_layer(w->layers, (enum config_source)source, names[i]);
            if (value == NULL)
                continue;
            found = found || strcmp(names[i], name) == 0;
            if (found && (!cluster_only || source == SOURCE_DYNAMIC_DEFAULT_BROKER))
                add_synonym(&w->d, names[i], value, (enum config_source)source);
        }
    }
}

/* Canonical text of a value, or the text itself when it does not parse. */
static const char *canonical(struct walk *w, const struct config_key *key, const char *text)
{
    struct config_value v;
    if (text == NULL || key == NULL || !config_value_parse(key, key->name, text, &v, NULL))
        return text;
    return config_value_text(key, &v, w->text, sizeof(w->text));
}

static bool finish(struct walk *w)
{
    struct config_description *d = &w->d;
    assert(d->name != NULL);
    d->source = d->synonyms_count == 0 ? SOURCE_DEFAULT : d->synonyms[0].source;
    if (d->sensitive)
        d->value = NULL;
    return w->visit(w->context, d);
}

static void begin(struct walk *w, const char *name, const struct config_key *key)
{
    w->d = (struct config_description){
        .name = name,
        .type = key == NULL ? CONFIG_UNKNOWN : key->type,
        .sensitive = config_sensitive(key),
        .documentation = key == NULL ? NULL : key->documentation,
    };
}

/* ---- brokers --------------------------------------------------------------------------------- */

static bool broker_entry(struct walk *w, const char *name)
{
    bool prefixed;
    const struct config_key *key = config_find_broker(name, &prefixed);
    if (key != NULL && key->unlisted)
        key = NULL; /* Kafka itself does not know it */
    begin(w, name, key);
    w->d.read_only = key == NULL || prefixed || key->mode == MODE_READ_ONLY;
    w->d.value = canonical(w, key, config_effective(w->layers, key, name));
    add_broker_synonyms(w, name, w->resource->cluster_default);
    return finish(w);
}

/* Not in the plain table listing? */
static bool is_extra(const char *name)
{
    const struct config_key *key = config_find(SCOPE_BROKER, name);
    return key == NULL || key->internal || key->unlisted;
}

static bool named_before(struct config_overrides o, const char *name)
{
    return config_override(o, name) != NULL;
}

static bool broker_extras(struct walk *w)
{
    const struct config_layers *l = w->layers;
    for (uint32_t i = 0; i < l->broker.count; i++)
        if (is_extra(l->broker.entries[i].name) && !broker_entry(w, l->broker.entries[i].name))
            return false;
    for (uint32_t i = 0; i < l->cluster.count; i++) {
        const char *name = l->cluster.entries[i].name;
        if (is_extra(name) && !named_before(l->broker, name) && !broker_entry(w, name))
            return false;
    }
    for (uint32_t i = 0; l->node != NULL && i < l->node->given_count; i++) {
        const char *name = l->node->given[i].name;
        if (is_extra(name) && !named_before(l->broker, name) && !named_before(l->cluster, name) &&
            !broker_entry(w, name))
            return false;
    }
    return true;
}

static void describe_broker(struct walk *w)
{
    const struct config_table *t = &config_tables[SCOPE_BROKER];
    if (w->resource->cluster_default) { /* only what is set there */
        for (uint32_t i = 0; i < w->layers->cluster.count; i++)
            if (!broker_entry(w, w->layers->cluster.entries[i].name))
                return;
        return;
    }
    for (uint32_t i = 0; i < t->count; i++)
        if (!t->keys[i].internal && !t->keys[i].unlisted && !broker_entry(w, t->keys[i].name))
            return;
    (void)broker_extras(w);
}

/* ---- what inherits from brokers: topics and groups ------------------------------------------- */

static enum config_source own_source(const struct config_resource *r)
{
    if (r->type == RESOURCE_GROUP)
        return SOURCE_GROUP;
    return r->type == RESOURCE_CLIENT_METRICS ? SOURCE_CLIENT_METRICS : SOURCE_TOPIC;
}

static bool inheriting_entry(struct walk *w, const struct config_key *key)
{
    char scratch[32];
    const char *own = config_override(w->resource->own, key->name);
    begin(w, key->name, key);
    const char *text = own != NULL ? own : config_inherited(w->layers, key, scratch);
    w->d.value = canonical(w, key, text);
    if (own != NULL)
        add_synonym(&w->d, key->name, w->d.value, own_source(w->resource));
    if (key->from != NULL)
        add_broker_synonyms(w, key->from->name, false);
    else if (w->resource->type == RESOURCE_GROUP && key->default_value != NULL)
        add_synonym(&w->d, key->name, key->default_value, SOURCE_DEFAULT);
    return finish(w);
}

static void describe_inheriting(struct walk *w, enum config_scope scope)
{
    const struct config_table *t = &config_tables[scope];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct config_key *key = &t->keys[i];
        if (key->internal && config_override(w->resource->own, key->name) == NULL)
            continue;
        if (!inheriting_entry(w, key))
            return;
    }
    for (uint32_t i = 0; i < w->resource->own.count; i++) {
        const struct config_entry *e = &w->resource->own.entries[i];
        if (config_find(scope, e->name) != NULL)
            continue;
        begin(w, e->name, NULL);
        add_synonym(&w->d, e->name, NULL, own_source(w->resource));
        if (!finish(w))
            return;
    }
}

/* ---- loggers --------------------------------------------------------------------------------- */

static void describe_loggers(struct walk *w)
{
    static const char *const levels[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    assert(w->resource->trace != NULL);
    for (uint32_t i = 0; i < config_loggers_count; i++) {
        const struct config_logger *logger = &config_loggers[i];
        w->d = (struct config_description){
            .name = logger->name,
            .value = levels[w->resource->trace->level[logger->module]],
            .source = SOURCE_DYNAMIC_BROKER_LOGGER,
        };
        if (!w->visit(w->context, &w->d))
            return;
    }
}

void config_describe(const struct config_layers *l, const struct config_resource *r,
                     bool (*visit)(void *context, const struct config_description *d),
                     void *context)
{
    assert(l != NULL && r != NULL);
    assert(visit != NULL);
    struct walk w = {.layers = l, .resource = r, .visit = visit, .context = context};
    switch (r->type) {
    case RESOURCE_BROKER:
        describe_broker(&w);
        break;
    case RESOURCE_TOPIC:
        describe_inheriting(&w, SCOPE_TOPIC);
        break;
    case RESOURCE_GROUP:
        describe_inheriting(&w, SCOPE_GROUP);
        break;
    case RESOURCE_CLIENT_METRICS:
        describe_inheriting(&w, SCOPE_CLIENT_METRICS);
        break;
    case RESOURCE_BROKER_LOGGER:
        describe_loggers(&w);
        break;
    }
}
