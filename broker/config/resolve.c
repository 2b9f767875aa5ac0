/* From layers of text to the values in force.
 *
 *   topic override ─┐
 *                   ├─▶ topic_config       log.retention.hours × 3,600,000 ─▶ retention.ms, and so
 * on broker value  ──┘ ▲ └─ dynamic of this broker, else dynamic of the cluster, else static, else
 * default
 *
 * Invariants:
 *  1. A dynamic value for one synonym hides the static values of its coarser synonyms, as Kafka
 *     removes them when it overlays; so log.retention.ms set at run time wins over a file's hours.
 *  2. Texts in force always parse: dynamic ones that do not are passed over, static ones were
 * checked when they were loaded, defaults are tested.
 *  3. What a topic has not overridden is the same as if it had overridden it with the inherited
 * text.
 *
 * Failure modes: none. */
#include "broker/config/resolve.h"

#include <stdio.h>
#include <string.h>

#include "broker/config/load.h"
#include "core/assert.h"
#include "core/core.h"

const char *config_override(struct config_overrides o, const char *name)
{
    assert(o.count == 0 || o.entries != NULL);
    assert(name != NULL);
    for (uint32_t i = 0; i < o.count; i++)
        if (strcmp(o.entries[i].name, name) == 0)
            return o.entries[i].value;
    return NULL;
}

const char *config_given(const struct config *c, const char *key)
{
    assert(c != NULL);
    assert(key != NULL);
    for (uint32_t i = 0; i < c->given_count; i++)
        if (strcmp(c->given[i].name, key) == 0)
            return c->given[i].value;
    return NULL;
}

const char *config_layer(const struct config_layers *l, enum config_source source, const char *name)
{
    assert(source >= SOURCE_DYNAMIC_BROKER && source <= SOURCE_DEFAULT);
    if (source == SOURCE_DYNAMIC_BROKER)
        return config_override(l->broker, name);
    if (source == SOURCE_DYNAMIC_DEFAULT_BROKER)
        return config_override(l->cluster, name);
    if (source == SOURCE_STATIC_BROKER)
        return l->node == NULL ? NULL : config_given(l->node, name);
    const struct config_key *key = config_find(SCOPE_BROKER, name);
    return key == NULL || key->unlisted ? NULL : key->default_value;
}

/* Is a synonym of this key set at run time? (invariant 1) */
static bool hidden(const struct config_layers *l, const char *name)
{
    const char *const *synonyms = config_broker_synonyms(name);
    if (strcmp(name, "log.flush.scheduler.interval.ms") == 0)
        synonyms = config_broker_synonyms("log.flush.interval.ms");
    for (size_t i = 0; synonyms != NULL && synonyms[i] != NULL; i++)
        if (config_override(l->broker, synonyms[i]) != NULL ||
            config_override(l->cluster, synonyms[i]) != NULL)
            return true;
    return false;
}

const char *config_effective(const struct config_layers *l, const struct config_key *key,
                             const char *name)
{
    assert(l != NULL && name != NULL);
    for (int source = SOURCE_DYNAMIC_BROKER; source <= SOURCE_STATIC_BROKER; source++) {
        const char *text = config_layer(l, (enum config_source)source, name);
        struct config_value v;
        if (text == NULL || (source == SOURCE_STATIC_BROKER && hidden(l, name)))
            continue;
        if (key == NULL || config_value_parse(key, name, text, &v, NULL))
            return text;
    }
    return key == NULL ? NULL : key->default_value;
}

static bool is_whole_number(enum config_type type)
{
    return type == CONFIG_INT || type == CONFIG_LONG || type == CONFIG_SHORT;
}

const char *config_inherited(const struct config_layers *l, const struct config_key *key,
                             char scratch[32])
{
    assert(key != NULL);
    for (const struct config_from *f = key->from; f != NULL && f->name != NULL; f++) {
        const struct config_key *broker = config_find(SCOPE_BROKER, f->name);
        assert(broker != NULL);
        const char *text = config_effective(l, broker, f->name);
        struct config_value v;
        if (text == NULL || !config_value_parse(broker, f->name, text, &v, NULL))
            continue;
        if (!is_whole_number(key->type))
            return text;
        int64_t scaled;
        if (__builtin_mul_overflow(v.integer, f->unit, &scaled))
            scaled = v.integer < 0 ? -1 : INT64_MAX;
        if (scaled < 0 && strcmp(key->name, "retention.ms") == 0)
            scaled = -1;
        snprintf(scratch, 32, "%lld", (long long)scaled);
        return scratch;
    }
    return key->default_value;
}

static uint32_t cleanup_bits(const struct config_value *v)
{
    uint32_t bits = CLEANUP_NONE;
    const char *at = v->text;
    struct config_item item;
    while (config_list_next(v, &at, &item))
        bits |= (uint32_t)(config_item_is(&item, "compact") ? CLEANUP_COMPACT : CLEANUP_DELETE);
    return bits;
}

static enum compression_type compression_of(const struct config_value *v)
{
    static const char *const codecs[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    struct config_item item = {v->text, v->size};
    for (uint32_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
        if (config_item_is(&item, codecs[i]))
            return (enum compression_type)i;
    assert(config_item_is(&item, "producer")); /* the table has no other choice */
    return COMPRESSION_PRODUCER;
}

void config_topic_store(struct topic_config *config, const struct config_key *key,
                        const struct config_value *v)
{
    assert(config != NULL);
    assert(v->text != NULL);
    struct config_item item = {v->text, v->size};
    if (key->has_field) {
        bool stored = config_field_store(key, v, config, NULL);
        assert(stored);
    } else if (strcmp(key->name, "cleanup.policy") == 0) {
        config->cleanup_policy = cleanup_bits(v);
    } else if (strcmp(key->name, "compression.type") == 0) {
        config->compression_type = compression_of(v);
    } else if (strcmp(key->name, "message.timestamp.type") == 0) {
        config->log_append_time = config_item_is(&item, "LogAppendTime");
    }
}

struct topic_config topic_config_default(void)
{
    struct topic_config config = {0};
    const struct config_layers nothing = {0};
    config_resolve_topic(&nothing, (struct config_overrides){0}, &config);
    return config;
}

enum kafka_error topic_config_apply(struct topic_config *config, const char *name,
                                    const char *value, struct config_refusal *refusal)
{
    assert(config != NULL);
    assert(name != NULL && value != NULL);
    const struct config_key *key = config_find(SCOPE_TOPIC, name);
    struct config_value v;
    if (key == NULL) {
        (void)config_refuse(refusal, KE_INVALID_CONFIG, "Unknown topic config name: %.200s", name);
        return KE_INVALID_CONFIG;
    }
    if (!config_value_parse(key, name, value, &v, refusal))
        return KE_INVALID_CONFIG;
    config_topic_store(config, key, &v);
    return KE_NONE;
}

void config_resolve_topic(const struct config_layers *l, struct config_overrides topic,
                          struct topic_config *out)
{
    assert(l != NULL);
    assert(out != NULL);
    const struct config_table *t = &config_tables[SCOPE_TOPIC];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct config_key *key = &t->keys[i];
        char scratch[32];
        struct config_value v;
        const char *own = config_override(topic, key->name);
        if (own != NULL && config_value_parse(key, key->name, own, &v, NULL)) {
            config_topic_store(out, key, &v);
            continue;
        }
        const char *inherited = config_inherited(l, key, scratch);
        if (inherited == NULL)
            continue;
        bool fits = config_value_parse(key, key->name, inherited, &v, NULL);
        if (!fits && key->default_value != NULL)
            fits = config_value_parse(key, key->name, key->default_value, &v, NULL);
        if (fits)
            config_topic_store(out, key, &v);
    }
}

void config_resolve_broker(const struct config_layers *l, struct broker_config *out)
{
    assert(l != NULL && l->node != NULL);
    assert(out != NULL);
    *out = l->node->broker;
    const struct config_table *t = &config_tables[SCOPE_BROKER];
    for (uint32_t i = 0; i < t->count; i++) {
        const struct config_key *key = &t->keys[i];
        if (!key->has_field || key->mode == MODE_READ_ONLY)
            continue;
        const char *text = config_effective(l, key, key->name);
        struct config_value v;
        if (text != NULL && config_value_parse(key, key->name, text, &v, NULL)) {
            bool stored = config_field_store(key, &v, out, NULL);
            assert(stored);
        }
    }
    const char *per_ip = config_effective(l, NULL, "max.connections.per.ip.overrides");
    if (!config_parse_ip_overrides(per_ip == NULL ? "" : per_ip, out, NULL))
        memcpy(out->ip_overrides, l->node->broker.ip_overrides, sizeof(out->ip_overrides));
    config_resolve_topic(l, (struct config_overrides){0}, &out->topic);
}

bool config_validate_topic(const struct config_layers *l, struct config_overrides topic,
                           struct config_refusal *refusal)
{
    assert(l != NULL);
    assert(topic.count == 0 || topic.entries != NULL);
    struct topic_config config = {0};
    config_resolve_topic(l, (struct config_overrides){0}, &config);
    for (uint32_t i = 0; i < topic.count; i++)
        if (config_find(SCOPE_TOPIC, topic.entries[i].name) == NULL)
            return config_refuse(refusal, KE_INVALID_CONFIG, "Unknown topic config name: %.200s",
                                 topic.entries[i].name);
    for (uint32_t i = 0; i < topic.count; i++)
        if (topic_config_apply(&config, topic.entries[i].name, topic.entries[i].value, refusal) !=
            KE_NONE)
            return false;
    if (config.min_compaction_lag_ms > config.max_compaction_lag_ms)
        return config_refuse(refusal, KE_INVALID_CONFIG,
                             "conflict topic config setting min.compaction.lag.ms (%lld) > "
                             "max.compaction.lag.ms (%lld)",
                             (long long)config.min_compaction_lag_ms,
                             (long long)config.max_compaction_lag_ms);
    if (config.remote_storage_enable)
        return config_refuse(refusal, KE_INVALID_CONFIG,
                             "Tiered Storage functionality is disabled in the broker. Topic cannot "
                             "be configured with remote log storage.");
    return true;
}
