/* Alterations: what Kafka 4.3.1 takes and refuses, with its codes and sentences. */
#include "broker/config/alter.h"

#include <criterion/criterion.h>

struct attempt {
    struct mem mem;
    struct arena arena;
    struct config_results results;
    struct config_refusal refusal;
    bool ok;
};

static void attempt_begin(struct attempt *a)
{
    *a = (struct attempt){0};
    cr_assert_eq(mem_init(&a->mem, 8u << 20), 0);
    arena_init(&a->arena, &a->mem, 4u << 20);
}

static void attempt_end(struct attempt *a)
{
    arena_release(&a->arena);
    cr_assert_eq(a->mem.used_bytes, 0);
    mem_destroy(&a->mem);
}

static const struct config_entry topic_entries[] = {{"retention.ms", "5"},
                                                    {"cleanup.policy", "compact,delete"}};
static const struct config_layers nothing = {0};

/* operation, name, value; what is written ("NULL": removed, "-": nothing), or the refusal. */
struct sample {
    enum config_resource_type type;
    int8_t operation;
    const char *name, *value, *written;
    enum kafka_error error;
    const char *message;
};

static const struct sample samples[] = {
    {RESOURCE_TOPIC, CONFIG_SET, "retention.ms", "7", "7", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SET, "retention.ms", "5", "-", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_DELETE, "retention.ms", NULL, "NULL", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_DELETE, "no.such", NULL, "-", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_APPEND, "cleanup.policy", "compact", "-", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SUBTRACT, "cleanup.policy", "compact", "delete", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SUBTRACT, "cleanup.policy", "nope", "-", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_APPEND, "follower.replication.throttled.replicas", "0:1,1:1", "0:1,1:1",
     KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SET, "internal.segment.bytes", "100", "100", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SET, "write.caching", "true", "true", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SET, "retention.ms", NULL, NULL, KE_INVALID_REQUEST,
     "Null value not supported for : retention.ms"},
    {RESOURCE_TOPIC, CONFIG_SET, "no.such", "1", NULL, KE_INVALID_CONFIG,
     "Unknown topic config name: no.such"},
    {RESOURCE_TOPIC, CONFIG_SET, "message.downconversion.enable", "true", NULL, KE_INVALID_CONFIG,
     "Unknown topic config name: message.downconversion.enable"},
    {RESOURCE_TOPIC, CONFIG_APPEND, "retention.ms", "1", NULL, KE_INVALID_CONFIG,
     "Can't APPEND to key retention.ms because its type is not LIST."},
    {RESOURCE_TOPIC, CONFIG_SET, "min.compaction.lag.ms", "9223372036854775807",
     "9223372036854775807", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_APPEND, "cleanup.policy", "", NULL, KE_INVALID_CONFIG,
     "Configuration 'cleanup.policy' values must not be empty."},
    {RESOURCE_BROKER, CONFIG_SET, "group.consumer.assignment.interval.ms", "77777", NULL,
     KE_INVALID_REQUEST,
     "group.consumer.assignment.interval.ms must be less than or equal to "
     "group.consumer.max.assignment.interval.ms"},
    {RESOURCE_BROKER, CONFIG_SET, "group.consumer.assignment.interval.ms", "5", "5", KE_NONE, NULL},
    {RESOURCE_TOPIC, CONFIG_SET, "remote.storage.enable", "true", NULL, KE_INVALID_CONFIG,
     "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with "
     "remote log storage."},
    {RESOURCE_TOPIC, 9, "retention.ms", "1", NULL, KE_INVALID_REQUEST,
     "Unknown operation type 9 for the key retention.ms"},
    {RESOURCE_BROKER, CONFIG_SET, "message.max.bytes", "2000000", "2000000", KE_NONE, NULL},
    {RESOURCE_BROKER, CONFIG_SET, "no.such", "1", "1", KE_NONE, NULL},
    {RESOURCE_BROKER, CONFIG_SET, "leader.replication.throttled.rate", "1000", "1000", KE_NONE,
     NULL},
    {RESOURCE_BROKER, CONFIG_SET, "listener.name.plaintext.max.connections", "10", "10", KE_NONE,
     NULL},
    {RESOURCE_BROKER, CONFIG_APPEND, "log.cleanup.policy", "compact", "delete,compact", KE_NONE,
     NULL},
    {RESOURCE_BROKER, CONFIG_DELETE, "num.partitions", NULL, "-", KE_NONE, NULL},
    {RESOURCE_BROKER, CONFIG_SET, "write.caching", "true", "true", KE_NONE, NULL},
    {RESOURCE_BROKER, CONFIG_SET, "log.retention.ms", "0", NULL, KE_INVALID_REQUEST,
     "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1"},
    {RESOURCE_BROKER, CONFIG_SET, "log.retention.ms", "foo", NULL, KE_INVALID_REQUEST,
     "Invalid value foo for configuration log.retention.ms: Not a number of type LONG"},
    {RESOURCE_BROKER, CONFIG_SET, "num.partitions", "2", NULL, KE_INVALID_REQUEST,
     "Cannot update these configs dynamically: [num.partitions]"},
    {RESOURCE_BROKER, CONFIG_SET, "torc.cores", "2", NULL, KE_INVALID_REQUEST,
     "Cannot update these configs dynamically: [torc.cores]"},
    {RESOURCE_BROKER, CONFIG_SET, "ssl.keystore.location", "/x", NULL, KE_INVALID_REQUEST,
     "These security configs can be dynamically updated only per-listener using the listener "
     "prefix: [ssl.keystore.location]"},
    {RESOURCE_BROKER, CONFIG_APPEND, "message.max.bytes", "5", NULL, KE_INVALID_CONFIG,
     "Config value append is not allowed for config key: message.max.bytes"},
    {RESOURCE_BROKER, CONFIG_SET, "listeners", "PLAINTEXT://:1", NULL, KE_INVALID_REQUEST,
     "listeners cannot change while the broker runs: change its file and start it again"},
    {RESOURCE_BROKER, CONFIG_SET, "config.providers", "file", NULL, KE_INVALID_REQUEST,
     "config.providers: values are taken literally and no provider is asked; write the values "
     "themselves"},
    {RESOURCE_GROUP, CONFIG_SET, "consumer.session.timeout.ms", "50000", "50000", KE_NONE, NULL},
    {RESOURCE_GROUP, CONFIG_SET, "consumer.session.timeout.ms", "5", NULL, KE_INVALID_CONFIG,
     "consumer.session.timeout.ms must be greater than or equal to "
     "group.consumer.min.session.timeout.ms"},
    {RESOURCE_GROUP, CONFIG_SET, "share.record.lock.duration.ms", "99999999", NULL,
     KE_INVALID_CONFIG,
     "share.record.lock.duration.ms must be less than or equal to "
     "group.share.max.record.lock.duration.ms"},
    {RESOURCE_GROUP, CONFIG_SET, "streams.num.standby.replicas", "5", NULL, KE_INVALID_CONFIG,
     "streams.num.standby.replicas must be less than or equal to "
     "group.streams.max.standby.replicas"},
    {RESOURCE_GROUP, CONFIG_SET, "no.such", "5", NULL, KE_INVALID_CONFIG,
     "Unknown group config name: no.such"},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "interval.ms", "1000", "1000", KE_NONE, NULL},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "match", "client_id=a.*,client_software_name=[a-z]+",
     "client_id=a.*,client_software_name=[a-z]+", KE_NONE, NULL},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "interval.ms", "5", NULL, KE_INVALID_REQUEST,
     "Invalid value 5 for interval.ms, interval must be between 100 and 3600000 (1 hour)"},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "match", "foo=a.*", NULL, KE_INVALID_CONFIG,
     "Illegal client matching pattern: foo=a.*"},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "match", "client_id=[", NULL, KE_INVALID_CONFIG,
     "Illegal client matching pattern: client_id=["},
    {RESOURCE_CLIENT_METRICS, CONFIG_SET, "nope", "1", NULL, KE_INVALID_REQUEST,
     "Unknown client metrics configuration: nope"},
    {RESOURCE_CLIENT_METRICS, CONFIG_APPEND, "metrics", "a.", NULL, KE_INVALID_CONFIG,
     "Can't APPEND to key metrics because its type is not LIST."},
};

static void check_sample(const struct sample *s, const struct attempt *a)
{
    cr_assert_eq(a->ok, s->written != NULL, "%s: %s", s->name, a->refusal.message);
    if (!a->ok) {
        cr_assert_eq(a->refusal.error, s->error, "%s", a->refusal.message);
        cr_assert_str_eq(a->refusal.message, s->message);
        return;
    }
    bool none = strcmp(s->written, "-") == 0, removed = strcmp(s->written, "NULL") == 0;
    cr_assert_eq(a->results.count, none ? 0 : 1, "%s", s->name);
    if (none)
        return;
    cr_assert_str_eq(a->results.items[0].name, s->name);
    if (removed)
        cr_assert_null(a->results.items[0].value);
    else
        cr_assert_str_eq(a->results.items[0].value, s->written);
}

Test(config_alter, does_as_kafka_does)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const struct sample *s = &samples[i];
        struct attempt a;
        struct config_resource r = {.type = s->type};
        if (s->type == RESOURCE_TOPIC)
            r.own = (struct config_overrides){topic_entries, 2};
        struct config_edit edit = {s->operation, s->name, s->value};
        attempt_begin(&a);
        a.ok = config_alter(&nothing, &r, &edit, 1, &a.arena, &a.results, &a.refusal);
        check_sample(s, &a);
        attempt_end(&a);
    }
}

Test(config_alter, judges_all_edits_of_a_resource_together)
{
    static const struct config_edit lags[] = {{CONFIG_SET, "min.compaction.lag.ms", "100"},
                                              {CONFIG_SET, "max.compaction.lag.ms", "50"}};
    static const struct config_edit twice[] = {{CONFIG_SET, "retention.ms", "100"},
                                               {CONFIG_SET, "retention.ms", "200"}};
    static const struct config_edit fixed[] = {{CONFIG_SET, "num.partitions", "1"},
                                               {CONFIG_SET, "node.id", "5"}};
    struct config_resource topic = {.type = RESOURCE_TOPIC}, broker = {.type = RESOURCE_BROKER};
    struct attempt a;
    attempt_begin(&a);
    cr_assert_not(config_alter(&nothing, &topic, lags, 2, &a.arena, &a.results, &a.refusal));
    cr_assert_str_eq(a.refusal.message, "conflict topic config setting min.compaction.lag.ms (100) "
                                        "> max.compaction.lag.ms (50)");
    cr_assert_not(config_alter(&nothing, &topic, twice, 2, &a.arena, &a.results, &a.refusal));
    cr_assert_eq(a.refusal.error, KE_INVALID_REQUEST);
    cr_assert_str_eq(a.refusal.message, "Error due to duplicate config keys");
    cr_assert_not(config_alter(&nothing, &broker, fixed, 2, &a.arena, &a.results, &a.refusal));
    cr_assert_str_eq(a.refusal.message,
                     "Cannot update these configs dynamically: [node.id, num.partitions]");
    attempt_end(&a);
}

Test(config_alter, keys_of_one_broker_are_not_for_all)
{
    struct config_resource r = {.type = RESOURCE_BROKER, .cluster_default = true};
    static const struct config_edit edit = {CONFIG_SET, "sasl.jaas.config", "x"};
    struct attempt a;
    attempt_begin(&a);
    cr_assert_not(config_alter(&nothing, &r, &edit, 1, &a.arena, &a.results, &a.refusal));
    cr_assert_str_eq(a.refusal.message,
                     "Cannot update these configs at default cluster level, broker id must be "
                     "specified: [sasl.jaas.config]");
    attempt_end(&a);
}

Test(config_alter, min_insync_replicas_stays_with_the_cluster_while_elr_is_on)
{
    struct config_layers l = {.elr = true};
    struct config_resource one = {.type = RESOURCE_BROKER};
    struct config_resource all = {.type = RESOURCE_BROKER, .cluster_default = true};
    static const struct config_entry set[] = {{"min.insync.replicas", "1"}};
    static const struct config_edit two = {CONFIG_SET, "min.insync.replicas", "2"};
    static const struct config_edit gone = {CONFIG_DELETE, "min.insync.replicas", NULL};
    struct attempt a;
    l.cluster = (struct config_overrides){set, 1};
    attempt_begin(&a);
    cr_assert_not(config_alter(&l, &one, &two, 1, &a.arena, &a.results, &a.refusal));
    cr_assert_eq(a.refusal.error, KE_INVALID_CONFIG);
    cr_assert(config_alter(&l, &all, &two, 1, &a.arena, &a.results, &a.refusal));
    cr_assert_not(config_alter(&l, &all, &gone, 1, &a.arena, &a.results, &a.refusal));
    l.elr = false;
    cr_assert(config_alter(&l, &one, &two, 1, &a.arena, &a.results, &a.refusal));
    attempt_end(&a);
}

Test(config_alter, replace_takes_away_what_is_not_named)
{
    struct config_resource r = {.type = RESOURCE_TOPIC, .own = {topic_entries, 2}};
    static const struct config_entry entries[] = {{"retention.ms", "5"}, {"segment.ms", "9"}};
    struct attempt a;
    attempt_begin(&a);
    cr_assert(config_replace(&nothing, &r, entries, 2, &a.arena, &a.results, &a.refusal));
    cr_assert_eq(a.results.count, 2, "retention.ms stays as it is");
    cr_assert_str_eq(a.results.items[0].name, "segment.ms");
    cr_assert_str_eq(a.results.items[1].name, "cleanup.policy");
    cr_assert_null(a.results.items[1].value);
    attempt_end(&a);
}

Test(config_alter, a_full_arena_is_an_answer)
{
    struct config_resource r = {.type = RESOURCE_TOPIC, .own = {topic_entries, 2}};
    static const struct config_edit edit = {CONFIG_SET, "segment.ms", "9"};
    struct attempt a;
    attempt_begin(&a);
    a.arena.limit_bytes = 16;
    cr_assert_not(config_alter(&nothing, &r, &edit, 1, &a.arena, &a.results, &a.refusal));
    cr_assert_eq(a.refusal.error, KE_UNKNOWN_SERVER_ERROR);
    attempt_end(&a);
}

Test(config_alter, topic_values_are_checked_one_by_one_too)
{
    struct topic_config config = topic_config_default();
    struct config_refusal refusal;
    cr_assert_eq(topic_config_apply(&config, "retention.ms", "77", NULL), KE_NONE);
    cr_assert_eq(config.retention_ms, 77);
    cr_assert_eq(topic_config_apply(&config, "retention.ms", "x", &refusal), KE_INVALID_CONFIG);
    cr_assert_eq(config.retention_ms, 77, "as it was");
    cr_assert_eq(topic_config_apply(&config, "nope", "x", &refusal), KE_INVALID_CONFIG);
    cr_assert_str_eq(refusal.message, "Unknown topic config name: nope");
}

Test(config_logger, levels_follow_names_and_root_is_all)
{
    struct trace t = {.level = {TRACE_INFO, TRACE_INFO, TRACE_INFO, TRACE_INFO, TRACE_INFO}};
    struct config_refusal refusal;
    static const struct config_edit net = {CONFIG_SET, "kafka.network.SocketServer", "DEBUG"};
    static const struct config_edit root = {CONFIG_SET, "root", "WARN"};
    static const struct config_edit back = {CONFIG_DELETE, "torc.net", NULL};
    cr_assert(config_logger_alter(&t, &net, 1, true, &refusal));
    cr_assert_eq(t.level[TRACE_NET], TRACE_INFO, "only validated");
    cr_assert(config_logger_alter(&t, &net, 1, false, &refusal));
    cr_assert_eq(t.level[TRACE_NET], TRACE_DEBUG);
    cr_assert_eq(t.level[TRACE_LOG], TRACE_INFO);
    cr_assert(config_logger_alter(&t, &back, 1, false, &refusal));
    cr_assert_eq(t.level[TRACE_NET], TRACE_INFO);
    cr_assert(config_logger_alter(&t, &root, 1, false, &refusal));
    for (int m = 0; m < TRACE_MODULES; m++)
        cr_assert_eq(t.level[m], TRACE_WARN);
}

Test(config_logger, refuses_as_kafka_does)
{
    static const struct {
        struct config_edit edit;
        enum kafka_error error;
        const char *message;
    } bad[] = {
        {{CONFIG_SET, "root", "debug"},
         KE_INVALID_CONFIG,
         "Cannot set the log level of root to debug as it is not a supported log level. Valid log "
         "levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"},
        {{CONFIG_SET, "nosuch", "INFO"}, KE_INVALID_CONFIG, "Logger nosuch does not exist!"},
        {{CONFIG_DELETE, "root", NULL},
         KE_INVALID_REQUEST,
         "Removing the log level of the root logger is not allowed"},
        {{CONFIG_APPEND, "root", "INFO"},
         KE_INVALID_REQUEST,
         "APPEND operation is not allowed for the BROKER_LOGGER resource"},
    };
    struct trace t = {.level = {TRACE_INFO}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config_refusal refusal;
        struct config_edit edits[2] = {{CONFIG_SET, "root", "DEBUG"}, bad[i].edit};
        cr_assert_not(config_logger_alter(&t, edits, 2, false, &refusal));
        cr_assert_eq(refusal.error, bad[i].error);
        cr_assert_str_eq(refusal.message, bad[i].message);
        cr_assert_eq(t.level[TRACE_MAIN], TRACE_INFO, "nothing was applied");
    }
}
