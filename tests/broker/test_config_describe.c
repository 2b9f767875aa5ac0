/* What DescribeConfigs would list: values, sources and synonyms, checked against answers of Kafka
 * 4.3.1 with the same layers. */
#include "broker/config/describe.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/broker/config_fixture.h"

/* Finds one key in a listing, and writes its synonyms as SOURCE:name=value, ... */
struct search {
    const char *name;
    bool found, read_only, sensitive, value_null;
    enum config_type type;
    enum config_source source;
    char value[256], synonyms[1024];
    uint32_t visited;
};

static bool look(void *context, const struct config_description *d)
{
    struct search *s = context;
    s->visited++;
    if (strcmp(d->name, s->name) != 0)
        return true;
    s->found = true;
    s->read_only = d->read_only;
    s->sensitive = d->sensitive;
    s->type = d->type;
    s->source = d->source;
    s->value_null = d->value == NULL;
    snprintf(s->value, sizeof(s->value), "%s", d->value == NULL ? "" : d->value);
    size_t used = 0;
    s->synonyms[0] = '\0';
    for (uint32_t i = 0; i < d->synonyms_count; i++)
        used += (size_t)snprintf(s->synonyms + used, sizeof(s->synonyms) - used, "%s%d:%s=%s",
                                 i == 0 ? "" : " ", d->synonyms[i].source, d->synonyms[i].name,
                                 d->synonyms[i].value == NULL ? "null" : d->synonyms[i].value);
    return true;
}

static struct search find(const struct config_layers *l, struct config_resource r, const char *name)
{
    struct search s = {.name = name};
    config_describe(l, &r, look, &s);
    return s;
}

#define ENTRIES(...)                                                                               \
    (struct config_overrides)                                                                      \
    {                                                                                              \
        (const struct config_entry[]){__VA_ARGS__},                                                \
            sizeof((const struct config_entry[]){__VA_ARGS__}) / sizeof(struct config_entry)       \
    }

static const struct config_resource broker = {.type = RESOURCE_BROKER};

Test(config_describe, broker_values_come_from_file_or_default)
{
    struct fixture f;
    fixture_read(&f, ALONE "num.partitions=3\nauto.create.topics.enable=FALSE\n", NULL, 0);
    struct config_layers l = {.node = &f.config};
    struct search s = find(&l, broker, "num.partitions");
    cr_assert_eq(s.visited, 351, "every key once: %u", s.visited);
    cr_assert_str_eq(s.value, "3");
    cr_assert_eq(s.source, SOURCE_STATIC_BROKER);
    cr_assert_str_eq(s.synonyms, "4:num.partitions=3 5:num.partitions=1");
    cr_assert(s.read_only);
    s = find(&l, broker, "auto.create.topics.enable");
    cr_assert_str_eq(s.value, "false", "canonical");
    cr_assert_str_eq(s.synonyms,
                     "4:auto.create.topics.enable=FALSE 5:auto.create.topics.enable=true");
    s = find(&l, broker, "broker.id");
    cr_assert_str_eq(s.synonyms, "4:broker.id=1 5:broker.id=-1");
    s = find(&l, broker, "broker.rack");
    cr_assert(s.value_null);
    cr_assert_eq(s.source, SOURCE_DEFAULT);
    cr_assert_str_eq(s.synonyms, "");
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_describe, a_value_set_equal_to_the_default_shows_where_it_was_set)
{
    struct config_layers l = {0};
    struct config_resource topic = {.type = RESOURCE_TOPIC,
                                    .own = ENTRIES({"retention.ms", "604800000"})};
    struct search s = find(&l, topic, "retention.ms");
    cr_assert_eq(s.source, SOURCE_TOPIC);
    cr_assert_str_eq(s.synonyms, "1:retention.ms=604800000");
    cr_assert_not(s.read_only);
    s = find(&l, (struct config_resource){.type = RESOURCE_TOPIC}, "retention.ms");
    cr_assert_str_eq(s.value, "604800000");
    cr_assert_eq(s.source, SOURCE_DEFAULT);
    cr_assert_str_eq(s.synonyms, "", "hours speak, but under another name");
}

Test(config_describe, topic_synonyms_stand_in_order_of_precedence)
{
    struct fixture f;
    fixture_read(&f, ALONE "log.cleanup.policy=compact\n", NULL, 0);
    struct config_layers l = {.node = &f.config,
                              .broker = ENTRIES({"log.retention.ms", "5000"}),
                              .cluster = ENTRIES({"log.roll.ms", "1000"})};
    struct config_resource topic = {
        .type = RESOURCE_TOPIC,
        .own = ENTRIES({"cleanup.policy", " compact , delete"}, {"retention.ms", "7"})};
    struct search s = find(&l, topic, "cleanup.policy");
    cr_assert_str_eq(s.value, "compact,delete");
    cr_assert_str_eq(s.synonyms, "1:cleanup.policy=compact,delete 4:log.cleanup.policy=compact "
                                 "5:log.cleanup.policy=delete");
    s = find(&l, topic, "retention.ms");
    cr_assert_str_eq(s.synonyms,
                     "1:retention.ms=7 2:log.retention.ms=5000 5:log.retention.hours=168");
    s = find(&l, topic, "segment.ms");
    cr_assert_str_eq(s.value, "1000");
    cr_assert_eq(s.source, SOURCE_DYNAMIC_DEFAULT_BROKER);
    cr_assert_str_eq(s.synonyms, "3:log.roll.ms=1000 5:log.roll.hours=168");
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_describe, a_dynamic_value_goes_before_the_files_coarser_unit)
{
    struct fixture f;
    fixture_read(&f, ALONE "log.retention.hours=24\nlog.retention.minutes=600\n", NULL, 0);
    struct config_layers l = {.node = &f.config, .broker = ENTRIES({"log.retention.ms", "5000"})};
    struct topic_config config;
    config_resolve_topic(&l, (struct config_overrides){0}, &config);
    cr_assert_eq(config.retention_ms, 5000);
    struct search s = find(&l, broker, "log.retention.hours");
    cr_assert_str_eq(s.value, "168");
    cr_assert_str_eq(s.synonyms, "4:log.retention.hours=24 5:log.retention.hours=168");
    l.broker.count = 0;
    config_resolve_topic(&l, (struct config_overrides){0}, &config);
    cr_assert_eq(config.retention_ms, 600 * 60000);
    s = find(&l, (struct config_resource){.type = RESOURCE_TOPIC}, "retention.ms");
    cr_assert_str_eq(s.value, "36000000");
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_describe, secrets_and_unknown_keys_are_listed_without_values)
{
    struct fixture f;
    fixture_read(&f, ALONE "ssl.keystore.password=hush\nunknown.key=hush\n", NULL, 0);
    struct config_layers l = {.node = &f.config, .broker = ENTRIES({"sasl.jaas.config", "hush"})};
    static const char *const names[] = {"ssl.keystore.password", "unknown.key", "sasl.jaas.config"};
    for (size_t i = 0; i < 3; i++) {
        struct search s = find(&l, broker, names[i]);
        cr_assert(s.found, "%s", names[i]);
        cr_assert(s.sensitive);
        cr_assert(s.value_null);
        cr_assert_null(strstr(s.synonyms, "hush"));
        cr_assert_not_null(strstr(s.synonyms, "null"));
    }
    struct search s = find(&l, broker, "unknown.key");
    cr_assert_eq(s.type, CONFIG_UNKNOWN);
    cr_assert(s.read_only);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_describe, prefixed_and_internal_keys_are_listed_when_given)
{
    struct fixture f;
    fixture_read(&f, ALONE "listener.name.plaintext.max.connections=10\n", NULL, 0);
    struct config_layers l = {.node = &f.config};
    struct search s = find(&l, broker, "listener.name.plaintext.max.connections");
    cr_assert_str_eq(s.value, "10");
    cr_assert_eq(s.type, CONFIG_INT);
    cr_assert(s.read_only);
    cr_assert_str_eq(s.synonyms, "4:listener.name.plaintext.max.connections=10 "
                                 "5:max.connections=2147483647");
    struct config_resource topic = {.type = RESOURCE_TOPIC};
    cr_assert_not(find(&l, topic, "internal.segment.bytes").found);
    topic.own = ENTRIES({"internal.segment.bytes", "100"});
    cr_assert_str_eq(find(&l, topic, "internal.segment.bytes").value, "100");
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_describe, the_cluster_default_lists_only_what_is_set_there)
{
    struct config_layers l = {
        .broker = ENTRIES({"message.max.bytes", "1"}),
        .cluster = ENTRIES({"message.max.bytes", "3000000"}, {"min.insync.replicas", "1"})};
    struct config_resource r = {.type = RESOURCE_BROKER, .cluster_default = true};
    struct search s = find(&l, r, "message.max.bytes");
    cr_assert_eq(s.visited, 2);
    cr_assert_str_eq(s.synonyms, "3:message.max.bytes=3000000");
    cr_assert_not(s.read_only);
}

Test(config_describe, groups_inherit_from_broker_keys)
{
    struct config_layers l = {.cluster = ENTRIES({"group.consumer.assignment.interval.ms", "5"})};
    struct config_resource g = {.type = RESOURCE_GROUP,
                                .own = ENTRIES({"consumer.session.timeout.ms", "50000"})};
    struct search s = find(&l, g, "consumer.session.timeout.ms");
    cr_assert_eq(s.source, SOURCE_GROUP);
    cr_assert_str_eq(s.synonyms, "8:consumer.session.timeout.ms=50000 "
                                 "5:group.consumer.session.timeout.ms=45000");
    s = find(&l, g, "consumer.assignment.interval.ms");
    cr_assert_str_eq(s.value, "5");
    cr_assert_eq(s.source, SOURCE_DYNAMIC_DEFAULT_BROKER);
    s = find(&l, g, "share.auto.offset.reset");
    cr_assert_str_eq(s.synonyms, "5:share.auto.offset.reset=latest");
}

Test(config_describe, client_metrics_and_loggers_have_no_synonyms_of_others)
{
    struct config_layers l = {0};
    struct config_resource m = {.type = RESOURCE_CLIENT_METRICS,
                                .own = ENTRIES({"interval.ms", "1000"})};
    struct search s = find(&l, m, "interval.ms");
    cr_assert_eq(s.source, SOURCE_CLIENT_METRICS);
    cr_assert_str_eq(s.synonyms, "7:interval.ms=1000");
    cr_assert_eq(s.visited, 3);
    struct trace trace = {.level = {[TRACE_MAIN] = TRACE_INFO, [TRACE_NET] = TRACE_DEBUG}};
    struct config_resource r = {.type = RESOURCE_BROKER_LOGGER, .trace = &trace};
    cr_assert_str_eq(find(&l, r, "kafka.network.SocketServer").value, "DEBUG");
    cr_assert_str_eq(find(&l, r, "root").value, "INFO");
    cr_assert_eq(find(&l, r, "root").source, SOURCE_DYNAMIC_BROKER_LOGGER);
}

static bool stop_at_second(void *context, const struct config_description *d)
{
    (void)d;
    return ++*(uint32_t *)context < 2;
}

Test(config_describe, stops_when_the_visitor_has_enough)
{
    static const enum config_resource_type types[] = {RESOURCE_TOPIC, RESOURCE_BROKER,
                                                      RESOURCE_BROKER_LOGGER,
                                                      RESOURCE_CLIENT_METRICS, RESOURCE_GROUP};
    struct config_layers l = {0};
    struct trace trace = {0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct config_resource r = {.type = types[i], .trace = &trace};
        uint32_t visited = 0;
        config_describe(&l, &r, stop_at_second, &visited);
        cr_assert_eq(visited, 2);
    }
}

Test(config_resolve, dynamic_broker_values_reach_their_fields)
{
    struct fixture f;
    fixture_read(&f, ALONE "max.connections.per.ip.overrides=10.0.0.1:5\n", NULL, 0);
    struct config_layers l = {
        .node = &f.config,
        .broker = ENTRIES({"max.connections", "77"}, {"message.max.bytes", "not a number"},
                          {"num.partitions", "9"}),
        .cluster = ENTRIES({"max.connections", "66"}, {"message.max.bytes", "2000000"},
                           {"write.caching", "true"})};
    struct broker_config b;
    config_resolve_broker(&l, &b);
    cr_assert_eq(b.max_connections, 77);
    cr_assert_eq(b.topic.max_message_bytes, 2000000, "what does not parse is passed over");
    cr_assert_eq(b.num_partitions, 1, "not one that changes at run time");
    cr_assert(b.topic.write_caching);
    cr_assert_eq(b.ip_overrides_count, 1);
    l.broker = ENTRIES({"max.connections.per.ip.overrides", "10.0.0.2:6,10.0.0.3:7"});
    config_resolve_broker(&l, &b);
    cr_assert_eq(b.ip_overrides_count, 2);
    cr_assert_eq(b.ip_overrides[1].connections, 7);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_resolve, topic_overrides_are_laid_over_what_is_inherited)
{
    struct config_layers l = {.cluster = ENTRIES({"log.message.timestamp.type", "LogAppendTime"},
                                                 {"compression.type", "zstd"})};
    struct topic_config config;
    config_resolve_topic(&l, ENTRIES({"cleanup.policy", ""}, {"min.cleanable.dirty.ratio", "0.25"}),
                         &config);
    cr_assert(config.log_append_time);
    cr_assert_eq(config.compression_type, COMPRESSION_ZSTD);
    cr_assert_eq(config.cleanup_policy, CLEANUP_NONE);
    cr_assert_eq(config.min_cleanable_dirty_ratio, 0.25);
    struct topic_config plain = topic_config_default();
    cr_assert_not(plain.log_append_time);
    cr_assert_eq(plain.max_message_bytes, 1048588);
    cr_assert_eq(plain.delete_retention_ms, 86400000);
    cr_assert_eq(plain.max_compaction_lag_ms, INT64_MAX);
}
