/* What alterations make of a resource. Pure: reads the layers, writes a list of ConfigRecords to
 * be.
 *
 *   edits ─▶ known operation, no key twice ─▶ new text per key ─▶ all overrides together
 *                                              (append and        │ names, values, bounds,
 *                                               subtract on lists) ▼ what may change at run time
 *                                                              results, or a refusal
 *
 * Checks and their order are Kafka's, and so are codes: topics and groups answer INVALID_CONFIG,
 * brokers mostly INVALID_REQUEST, client metrics either.
 *
 * Invariants:
 *  1. Nothing is changed here. The results, laid over the current overrides, passed every check.
 *  2. A topic's, group's or subscription's result differs from what is there; a broker's may repeat
 *     it, since Kafka writes it again so that files it names are read again.
 *
 * Failure modes: refusals; UNKNOWN_SERVER_ERROR when the request's arena is full. */
#include "broker/config/alter.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "broker/config/load.h"
#include "broker/config/resolve.h"
#include "core/assert.h"
#include "core/core.h"

#define EDITS_MAX 1024 /* of one resource in one request */

struct alter {
    const struct config_layers *layers;
    const struct config_resource *resource;
    struct config_overrides current;
    struct arena *arena;
    struct config_results *results;
    struct config_overrides after; /* current with the results laid over */
    struct config_refusal *refusal;
};

static bool short_of_memory(struct alter *a)
{
    return config_refuse(a->refusal, KE_UNKNOWN_SERVER_ERROR,
                         "The request changes more than its memory holds.");
}

static enum config_scope scope_of(const struct config_resource *r)
{
    if (r->type == RESOURCE_TOPIC)
        return SCOPE_TOPIC;
    if (r->type == RESOURCE_GROUP)
        return SCOPE_GROUP;
    return r->type == RESOURCE_CLIENT_METRICS ? SCOPE_CLIENT_METRICS : SCOPE_BROKER;
}

static const struct config_key *find_key(const struct config_resource *r, const char *name)
{
    bool prefixed;
    if (r->type == RESOURCE_BROKER)
        return config_find_broker(name, &prefixed);
    return config_find(scope_of(r), name);
}

/* ---- new texts ------------------------------------------------------------------------------- */

static bool list_has(const char *list, const struct config_item *item)
{
    struct config_value v = {.text = list, .size = (uint32_t)strlen(list)};
    const char *at = v.text;
    struct config_item other;
    while (config_list_next(&v, &at, &other))
        if (other.size == item->size && memcmp(other.text, item->text, item->size) == 0)
            return true;
    return false;
}

static void add_item(char *list, size_t *used, const struct config_item *item)
{
    if (*used > 0)
        list[(*used)++] = ',';
    memcpy(list + *used, item->text, item->size);
    *used += item->size;
    list[*used] = '\0';
}

/* `now` with the items of `change` added at the end or taken out. */
static const char *edit_list(struct alter *a, const char *now, const char *change, bool append)
{
    size_t room = strlen(now) + strlen(change) + 2, used = 0;
    char *list = arena_alloc(a->arena, room);
    if (list == NULL)
        return NULL;
    list[0] = '\0';
    struct config_value v = {.text = now, .size = (uint32_t)strlen(now)};
    const char *at = v.text;
    struct config_item item;
    while (config_list_next(&v, &at, &item))
        if (item.size > 0 && (append || !list_has(change, &item)))
            add_item(list, &used, &item);
    v = (struct config_value){.text = change, .size = (uint32_t)strlen(change)};
    at = v.text;
    while (append && config_list_next(&v, &at, &item))
        if (!list_has(list, &item))
            add_item(list, &used, &item);
    assert(used < room);
    return list;
}

static bool refuse_list(struct alter *a, const struct config_edit *e)
{
    bool append = e->operation == CONFIG_APPEND;
    if (a->resource->type == RESOURCE_BROKER)
        return config_refuse(a->refusal, KE_INVALID_CONFIG,
                             "Config value %s is not allowed for config key: %.200s",
                             append ? "append" : "subtract", e->name);
    return config_refuse(a->refusal, KE_INVALID_CONFIG,
                         "Can't %s to key %.200s because its type is not LIST.",
                         append ? "APPEND" : "SUBTRACT", e->name);
}

/* The text that an edit leads to: NULL in *text removes the override. */
static bool new_text(struct alter *a, const struct config_edit *e, const char **text)
{
    *text = NULL;
    if (e->operation == CONFIG_DELETE)
        return true;
    if (e->operation < CONFIG_SET || e->operation > CONFIG_SUBTRACT)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "Unknown operation type %d for the key %.200s", e->operation, e->name);
    if (e->value == NULL)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "Null value not supported for : %.200s", e->name);
    *text = e->value;
    if (e->operation == CONFIG_SET)
        return true;
    const struct config_key *key = find_key(a->resource, e->name);
    if (key == NULL || key->type != CONFIG_LIST || a->resource->type == RESOURCE_CLIENT_METRICS)
        return refuse_list(a, e);
    if (e->operation == CONFIG_APPEND && e->value[0] == '\0')
        return config_refuse(a->refusal, KE_INVALID_CONFIG,
                             "Configuration '%.200s' values must not be empty.", e->name);
    const char *now = config_override(a->current, e->name);
    if (now == NULL)
        now = key->default_value == NULL ? "" : key->default_value;
    *text = edit_list(a, now, e->value, e->operation == CONFIG_APPEND);
    return *text != NULL || short_of_memory(a);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool collect(struct alter *a, const struct config_edit *edits, uint32_t edits_count)
{
    a->results->items = arena_array(a->arena, edits_count, sizeof(*a->results->items));
    if (a->results->items == NULL)
        return short_of_memory(a);
    for (uint32_t i = 0; i < edits_count; i++) {
        const char *text;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(edits[j].name, edits[i].name) == 0)
                return config_refuse(a->refusal, KE_INVALID_REQUEST,
                                     "Error due to duplicate config keys");
        if (!new_text(a, &edits[i], &text))
            return false;
        if (text != NULL && strlen(text) > CONFIG_VALUE_MAX)
            return config_refuse(a->refusal, KE_INVALID_CONFIG,
                                 "The configuration value cannot be added because it exceeds the "
                                 "maximum value size of %d bytes.",
                                 CONFIG_VALUE_MAX);
        if (!same_text(text, config_override(a->current, edits[i].name)) ||
            (a->resource->type == RESOURCE_BROKER && text != NULL))
            a->results->items[a->results->count++] = (struct config_result){edits[i].name, text};
    }
    return true;
}

static const struct config_result *find_result(const struct alter *a, const char *name)
{
    for (uint32_t i = 0; i < a->results->count; i++)
        if (strcmp(a->results->items[i].name, name) == 0)
            return &a->results->items[i];
    return NULL;
}

static bool lay_over(struct alter *a)
{
    struct config_entry *entries =
        arena_array(a->arena, a->current.count + a->results->count, sizeof(*entries));
    uint32_t count = 0;
    if (entries == NULL)
        return short_of_memory(a);
    for (uint32_t i = 0; i < a->current.count; i++)
        if (find_result(a, a->current.entries[i].name) == NULL)
            entries[count++] = a->current.entries[i];
    for (uint32_t i = 0; i < a->results->count; i++)
        if (a->results->items[i].value != NULL)
            entries[count++] =
                (struct config_entry){a->results->items[i].name, a->results->items[i].value};
    a->after = (struct config_overrides){entries, count};
    return true;
}

/* ---- brokers --------------------------------------------------------------------------------- */

/* The names, of those set now, for which `is` holds, as Java shows a sorted set. */
static bool refuse_names(struct alter *a, const char *sentence,
                         bool (*is)(const struct alter *a, const char *name))
{
    char names[300] = "";
    size_t used = 0;
    const char *last = "";
    for (uint32_t round = 0; round < a->results->count; round++) { /* in order of names */
        const char *least = NULL;
        for (uint32_t i = 0; i < a->results->count; i++) {
            const struct config_result *r = &a->results->items[i];
            if (r->value != NULL && is(a, r->name) && strcmp(r->name, last) > 0 &&
                (least == NULL || strcmp(r->name, least) < 0))
                least = r->name;
        }
        if (least == NULL)
            break;
        if (used < sizeof(names))
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
                                     used == 0 ? "" : ", ", least);
        last = least;
    }
    if (used == 0)
        return true;
    return config_refuse(a->refusal, KE_INVALID_REQUEST, "%s: [%s]", sentence, names);
}

static bool is_static_name(const struct alter *a, const char *name)
{
    const struct config_key *key = config_find(SCOPE_BROKER, name);
    (void)a;
    return key != NULL && key->mode == MODE_READ_ONLY && !key->unlisted;
}

static bool is_security_name(const struct alter *a, const char *name)
{
    static const char *const names[] = {"ssl.key.password",
                                        "ssl.keystore.certificate.chain",
                                        "ssl.keystore.key",
                                        "ssl.keystore.location",
                                        "ssl.keystore.password",
                                        "ssl.keystore.type",
                                        "ssl.truststore.certificates",
                                        "ssl.truststore.location",
                                        "ssl.truststore.password",
                                        "ssl.truststore.type"};
    (void)a;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_per_broker_name(const struct alter *a, const char *name)
{
    const struct config_key *key = config_find(SCOPE_BROKER, name);
    return a->resource->cluster_default && key != NULL && key->mode == MODE_PER_BROKER;
}

static bool check_elr(struct alter *a)
{
    static const char name[] = "min.insync.replicas";
    const struct config_result *r = find_result(a, name);
    if (!a->layers->elr || r == NULL)
        return true;
    if (!a->resource->cluster_default)
        return config_refuse(a->refusal, KE_INVALID_CONFIG,
                             "Broker-level %s cannot be altered while ELR is enabled.", name);
    if (r->value == NULL)
        return config_refuse(a->refusal, KE_INVALID_CONFIG,
                             "Cluster-level %s cannot be removed while ELR is enabled.", name);
    return true;
}

/* consumer.session.timeout.ms -> group.consumer.min.session.timeout.ms, which may not be there. */
static const struct config_key *bound_of(const char *name, const char *which)
{
    char bound[128];
    const char *dot = strchr(name, '.');
    assert(dot != NULL);
    const char *rest = dot + 1;
    if (strcmp(name, "streams.num.standby.replicas") == 0)
        rest = "standby.replicas";
    snprintf(bound, sizeof(bound), "group.%.*s.%s.%s", (int)(dot - name), name, which, rest);
    return config_find(SCOPE_BROKER, bound);
}

static bool broker_number(const struct alter *a, const struct config_key *key, int64_t *to)
{
    struct config_value v;
    const char *text = config_effective(a->layers, key, key->name);
    if (text == NULL || !config_value_parse(key, key->name, text, &v, NULL))
        return false;
    *to = v.integer;
    return true;
}

/* Three broker keys that change at run time are bounded by others, as the groups' own are. */
static bool check_group_default(struct alter *a, const char *name, int64_t value)
{
    static const char prefix[] = "group.", suffix[] = ".assignment.interval.ms";
    int64_t bound;
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 || strstr(name, suffix) == NULL)
        return true;
    const struct config_key *min = bound_of(name + sizeof(prefix) - 1, "min");
    const struct config_key *max = bound_of(name + sizeof(prefix) - 1, "max");
    if (min != NULL && broker_number(a, min, &bound) && value < bound)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "%s must be greater than or equal to %s", name, min->name);
    if (max != NULL && broker_number(a, max, &bound) && value > bound)
        return config_refuse(a->refusal, KE_INVALID_REQUEST, "%s must be less than or equal to %s",
                             name, max->name);
    return true;
}

static bool check_broker_value(struct alter *a, const struct config_entry *e)
{
    bool prefixed;
    struct config_value v;
    char shown[64];
    const struct config_key *key = config_find_broker(e->name, &prefixed);
    if (key == NULL)
        return true; /* Kafka keeps keys that it does not know */
    if (!config_value_parse(key, e->name, e->value, &v, a->refusal)) {
        a->refusal->error = KE_INVALID_REQUEST;
        return false;
    }
    if (strcmp(e->name, "log.retention.ms") == 0 && v.integer == 0)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "requirement failed: log.retention.ms must be unlimited (-1) or, "
                             "greater than or equal to 1");
    if (strcmp(e->name, "max.connections.per.ip.overrides") == 0) {
        struct broker_config scratch;
        bool good = config_parse_ip_overrides(e->value, &scratch, a->refusal);
        a->refusal->error = good ? a->refusal->error : KE_INVALID_REQUEST;
        return good;
    }
    if (!check_group_default(a, e->name, v.integer))
        return false;
    if (find_result(a, e->name) == NULL)
        return true;
    config_value_text(key, &v, shown, sizeof(shown));
    if (key->treatment == TREATMENT_REFUSED &&
        (key->default_value == NULL || strcmp(shown, key->default_value) != 0))
        return config_refuse(a->refusal, KE_INVALID_REQUEST, "%s: %s", e->name, key->reason);
    if (strcmp(key->name, "listeners") == 0 ||
        strcmp(key->name, "listener.security.protocol.map") == 0)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "%s cannot change while the broker runs: change its file and start it "
                             "again",
                             e->name);
    return true;
}

static bool check_broker(struct alter *a)
{
    if (!check_elr(a) ||
        !refuse_names(a, "Cannot update these configs dynamically", is_static_name) ||
        !refuse_names(a,
                      "These security configs can be dynamically updated only per-listener using "
                      "the listener prefix",
                      is_security_name) ||
        !refuse_names(a,
                      "Cannot update these configs at default cluster level, broker id must be "
                      "specified",
                      is_per_broker_name))
        return false;
    for (uint32_t i = 0; i < a->after.count; i++)
        if (!check_broker_value(a, &a->after.entries[i]))
            return false;
    return true;
}

/* ---- groups ------------------------------------------------------------------------------ */

static bool check_group_value(struct alter *a, const struct config_entry *e)
{
    const struct config_key *key = config_find(SCOPE_GROUP, e->name);
    struct config_value v;
    int64_t bound;
    if (!config_value_parse(key, e->name, e->value, &v, a->refusal))
        return false;
    if (key->type != CONFIG_INT)
        return true;
    const struct config_key *min = bound_of(e->name, "min"), *max = bound_of(e->name, "max");
    if (min != NULL && broker_number(a, min, &bound) && v.integer < bound)
        return config_refuse(a->refusal, KE_INVALID_CONFIG,
                             "%s must be greater than or equal to %s", e->name, min->name);
    if (max != NULL && broker_number(a, max, &bound) && v.integer > bound)
        return config_refuse(a->refusal, KE_INVALID_CONFIG, "%s must be less than or equal to %s",
                             e->name, max->name);
    return true;
}

/* What the group would have for key: its override, else what it inherits. */
static int64_t group_number(const struct alter *a, const char *name)
{
    const struct config_key *key = config_find(SCOPE_GROUP, name);
    struct config_value v;
    char scratch[32];
    assert(key != NULL);
    const char *text = config_override(a->after, name);
    if (text == NULL)
        text = config_inherited(a->layers, key, scratch);
    return text != NULL && config_value_parse(key, name, text, &v, NULL) ? v.integer : 0;
}

static bool check_group(struct alter *a)
{
    static const char *const kinds[] = {"consumer", "share", "streams"};
    for (uint32_t i = 0; i < a->after.count; i++)
        if (config_find(SCOPE_GROUP, a->after.entries[i].name) == NULL)
            return config_refuse(a->refusal, KE_INVALID_CONFIG, "Unknown group config name: %.200s",
                                 a->after.entries[i].name);
    for (uint32_t i = 0; i < a->after.count; i++)
        if (!check_group_value(a, &a->after.entries[i]))
            return false;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char session[64], heartbeat[64];
        snprintf(session, sizeof(session), "%s.session.timeout.ms", kinds[i]);
        snprintf(heartbeat, sizeof(heartbeat), "%s.heartbeat.interval.ms", kinds[i]);
        if (group_number(a, session) <= group_number(a, heartbeat))
            return config_refuse(a->refusal, KE_INVALID_CONFIG, "%s must be greater than %s",
                                 session, heartbeat);
    }
    return true;
}

/* ---- client metrics -------------------------------------------------------------------------- */

/* "client_id=kafka-.*": one of the selectors, and a pattern whose brackets are closed. */
static bool is_match(const struct config_item *item)
{
    static const char *const selectors[] = {"client_instance_id",    "client_id",
                                            "client_software_name",  "client_software_version",
                                            "client_source_address", "client_source_port"};
    const char *equals = memchr(item->text, '=', item->size);
    if (equals == NULL)
        return false;
    struct config_item name = {item->text, (uint32_t)(equals - item->text)};
    bool known = false;
    for (size_t i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++)
        known = known || config_item_is(&name, selectors[i]);
    int32_t round = 0, square = 0;
    for (const char *at = equals + 1; at < item->text + item->size; at++) {
        if (*at == '\\') {
            at++;
            continue;
        }
        round += *at == '(' ? 1 : *at == ')' ? -1 : 0;
        square += *at == '[' ? 1 : *at == ']' ? -1 : 0;
        if (round < 0)
            return false;
    }
    return known && round == 0 && square <= 0;
}

static bool check_metrics_value(struct alter *a, const struct config_entry *e)
{
    const struct config_key *key = config_find(SCOPE_CLIENT_METRICS, e->name);
    struct config_value v;
    if (key == NULL)
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "Unknown client metrics configuration: %.200s", e->name);
    if (!config_value_parse(key, e->name, e->value, &v, a->refusal))
        return false;
    if (strcmp(e->name, "interval.ms") == 0 && (v.integer < 100 || v.integer > 3600000))
        return config_refuse(a->refusal, KE_INVALID_REQUEST,
                             "Invalid value %lld for interval.ms, interval must be between 100 and "
                             "3600000 (1 hour)",
                             (long long)v.integer);
    const char *at = v.text;
    struct config_item item;
    while (strcmp(e->name, "match") == 0 && config_list_next(&v, &at, &item))
        if (!is_match(&item))
            return config_refuse(a->refusal, KE_INVALID_CONFIG,
                                 "Illegal client matching pattern: %.*s", (int)MIN(item.size, 200),
                                 item.text);
    return true;
}

static bool check_metrics(struct alter *a)
{
    for (uint32_t i = 0; i < a->after.count; i++)
        if (!check_metrics_value(a, &a->after.entries[i]))
            return false;
    return true;
}

/* ---- all ------------------------------------------------------------------------------------- */

static bool check_all(struct alter *a)
{
    switch (a->resource->type) {
    case RESOURCE_TOPIC:
        return config_validate_topic(a->layers, a->after, a->refusal);
    case RESOURCE_BROKER:
        return check_broker(a);
    case RESOURCE_GROUP:
        return check_group(a);
    case RESOURCE_CLIENT_METRICS:
        return check_metrics(a);
    case RESOURCE_BROKER_LOGGER:
        break;
    }
    return config_refuse(a->refusal, KE_INVALID_REQUEST, "Unexpected resource type %d",
                         a->resource->type);
}

bool config_alter(const struct config_layers *l, const struct config_resource *r,
                  const struct config_edit *edits, uint32_t edits_count, struct arena *arena,
                  struct config_results *results, struct config_refusal *refusal)
{
    assert(l != NULL && r != NULL && arena != NULL);
    assert(results != NULL && refusal != NULL);
    *results = (struct config_results){0};
    struct alter a = {.layers = l,
                      .resource = r,
                      .current = r->own,
                      .arena = arena,
                      .results = results,
                      .refusal = refusal};
    if (r->type == RESOURCE_BROKER)
        a.current = r->cluster_default ? l->cluster : l->broker;
    if (edits_count > EDITS_MAX)
        return config_refuse(refusal, KE_INVALID_REQUEST, "More than %d changes to one resource",
                             EDITS_MAX);
    return collect(&a, edits, edits_count) && lay_over(&a) && check_all(&a);
}

bool config_replace(const struct config_layers *l, const struct config_resource *r,
                    const struct config_entry *entries, uint32_t entries_count, struct arena *arena,
                    struct config_results *results, struct config_refusal *refusal)
{
    assert(l != NULL && r != NULL && arena != NULL);
    assert(entries_count == 0 || entries != NULL);
    struct config_overrides current = r->own, named = {entries, entries_count};
    if (r->type == RESOURCE_BROKER)
        current = r->cluster_default ? l->cluster : l->broker;
    struct config_edit *edits =
        arena_array(arena, (size_t)current.count + entries_count, sizeof(*edits));
    if (edits == NULL)
        return config_refuse(refusal, KE_UNKNOWN_SERVER_ERROR,
                             "The request changes more than its memory holds.");
    uint32_t count = 0;
    for (uint32_t i = 0; i < entries_count; i++)
        edits[count++] = (struct config_edit){CONFIG_SET, entries[i].name, entries[i].value};
    for (uint32_t i = 0; i < current.count; i++)
        if (config_override(named, current.entries[i].name) == NULL)
            edits[count++] = (struct config_edit){CONFIG_DELETE, current.entries[i].name, NULL};
    return config_alter(l, r, edits, count, arena, results, refusal);
}
