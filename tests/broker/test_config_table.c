/* The table's facts: a sample of Kafka 4.3.1's own answers, and what must hold of every row. */
#include "broker/config/config_table.h"

#include <criterion/criterion.h>
#include <math.h>

#include "broker/config/value.h"

struct fact {
    enum config_scope scope;
    const char *name, *default_value;
    enum config_type type;
    enum config_importance importance;
    enum config_mode mode;
    double min, max;
};

static const struct fact facts[] = {
    {SCOPE_BROKER, "message.max.bytes", "1048588", CONFIG_INT, IMPORTANCE_HIGH, MODE_CLUSTER_WIDE,
     0, INFINITY},
    {SCOPE_BROKER, "num.partitions", "1", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY, 1,
     INFINITY},
    {SCOPE_BROKER, "listeners", "PLAINTEXT://:9092", CONFIG_LIST, IMPORTANCE_HIGH, MODE_PER_BROKER,
     -INFINITY, INFINITY},
    {SCOPE_BROKER, "broker.rack", NULL, CONFIG_STRING, IMPORTANCE_MEDIUM, MODE_READ_ONLY, -INFINITY,
     INFINITY},
    {SCOPE_BROKER, "log.retention.hours", "168", CONFIG_INT, IMPORTANCE_HIGH, MODE_READ_ONLY,
     -INFINITY, INFINITY},
    {SCOPE_BROKER, "log.retention.ms", NULL, CONFIG_LONG, IMPORTANCE_HIGH, MODE_CLUSTER_WIDE,
     -INFINITY, INFINITY},
    {SCOPE_BROKER, "log.segment.bytes", "1073741824", CONFIG_INT, IMPORTANCE_HIGH,
     MODE_CLUSTER_WIDE, 1048576, INFINITY},
    {SCOPE_BROKER, "fetch.max.bytes", "57671680", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY,
     1024, INFINITY},
    {SCOPE_BROKER, "offsets.topic.replication.factor", "3", CONFIG_SHORT, IMPORTANCE_HIGH,
     MODE_READ_ONLY, 1, INFINITY},
    {SCOPE_BROKER, "group.share.max.size", "200", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY, 1,
     1000},
    {SCOPE_BROKER, "ssl.keystore.password", NULL, CONFIG_PASSWORD, IMPORTANCE_MEDIUM,
     MODE_PER_BROKER, -INFINITY, INFINITY},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", CONFIG_DOUBLE,
     IMPORTANCE_MEDIUM, MODE_CLUSTER_WIDE, -INFINITY, INFINITY},
    {SCOPE_TOPIC, "segment.bytes", "1073741824", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY,
     1048576, INFINITY},
    {SCOPE_TOPIC, "retention.ms", "604800000", CONFIG_LONG, IMPORTANCE_MEDIUM, MODE_READ_ONLY, -1,
     INFINITY},
    {SCOPE_TOPIC, "compression.zstd.level", "3", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY,
     -131072, 22},
    {SCOPE_TOPIC, "min.cleanable.dirty.ratio", "0.5", CONFIG_DOUBLE, IMPORTANCE_MEDIUM,
     MODE_READ_ONLY, 0, 1},
    {SCOPE_GROUP, "consumer.session.timeout.ms", "45000", CONFIG_INT, IMPORTANCE_MEDIUM,
     MODE_READ_ONLY, 1, INFINITY},
    {SCOPE_GROUP, "share.isolation.level", "read_uncommitted", CONFIG_STRING, IMPORTANCE_MEDIUM,
     MODE_READ_ONLY, -INFINITY, INFINITY},
    {SCOPE_CLIENT_METRICS, "interval.ms", "300000", CONFIG_INT, IMPORTANCE_MEDIUM, MODE_READ_ONLY,
     -INFINITY, INFINITY},
};

Test(config_table, says_what_kafka_says)
{
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        const struct fact *f = &facts[i];
        const struct config_key *key = config_find(f->scope, f->name);
        cr_assert_not_null(key, "%s", f->name);
        cr_assert_eq(key->type, f->type, "%s", f->name);
        cr_assert_eq(key->importance, f->importance, "%s", f->name);
        cr_assert_eq(key->mode, f->mode, "%s", f->name);
        cr_assert_eq(key->min, f->min, "%s", f->name);
        cr_assert_eq(key->max, f->max, "%s", f->name);
        if (f->default_value == NULL)
            cr_assert_null(key->default_value, "%s", f->name);
        else
            cr_assert_str_eq(key->default_value, f->default_value);
    }
}

/* Kafka 4.3.1 lists 340 broker keys, 33 topic keys (34 with the internal one), 17 group keys and 3
 * of client metrics; 20 more broker keys are internal. torc adds its own. */
Test(config_table, lists_as_many_keys_as_kafka_and_torcs_own)
{
    uint32_t listed[SCOPES] = {0}, own = 0;
    for (int scope = 0; scope < SCOPES; scope++)
        for (uint32_t i = 0; i < config_tables[scope].count; i++) {
            const struct config_key *key = &config_tables[scope].keys[i];
            bool torcs =
                strncmp(key->name, "torc.", 5) == 0 || strcmp(key->name, "write.caching") == 0;
            own += torcs ? 1 : 0;
            listed[scope] += key->internal || key->unlisted || torcs ? 0 : 1;
        }
    cr_assert_eq(listed[SCOPE_BROKER], 340, "%u", listed[SCOPE_BROKER]);
    cr_assert_eq(listed[SCOPE_TOPIC], 33);
    cr_assert_eq(listed[SCOPE_GROUP], 17);
    cr_assert_eq(listed[SCOPE_CLIENT_METRICS], 3);
    cr_assert_eq(own, 12);
}

Test(config_table, rows_are_in_order_and_every_default_parses)
{
    for (int scope = 0; scope < SCOPES; scope++)
        for (uint32_t i = 0; i < config_tables[scope].count; i++) {
            const struct config_key *key = &config_tables[scope].keys[i];
            struct config_value v;
            struct config_refusal refusal = {.message = ""};
            if (i > 0)
                cr_assert(strcmp(config_tables[scope].keys[i - 1].name, key->name) < 0);
            cr_assert_eq(config_find((enum config_scope)scope, key->name), key);
            if (key->default_value == NULL)
                continue;
            cr_assert(config_value_parse(key, key->name, key->default_value, &v, &refusal),
                      "%s: %s", key->name, refusal.message);
            char text[512];
            cr_assert_str_eq(config_value_text(key, &v, text, sizeof(text)), key->default_value,
                             "%s", key->name);
        }
}

Test(config_table, says_what_each_key_means_and_why_it_has_no_effect)
{
    for (int scope = 0; scope < SCOPES; scope++)
        for (uint32_t i = 0; i < config_tables[scope].count; i++) {
            const struct config_key *key = &config_tables[scope].keys[i];
            cr_assert_gt(strlen(key->documentation), 10, "%s", key->name);
            cr_assert_eq(key->treatment == TREATMENT_USED, key->reason[0] == '\0', "%s", key->name);
        }
}

Test(config_table, finds_keys_behind_a_listeners_prefix)
{
    bool prefixed;
    cr_assert_str_eq(config_find_broker("listener.name.a.max.connections", &prefixed)->name,
                     "max.connections");
    cr_assert(prefixed);
    cr_assert_str_eq(
        config_find_broker("listener.name.internal.plain.sasl.jaas.config", &prefixed)->name,
        "sasl.jaas.config");
    cr_assert_str_eq(config_find_broker("max.connections", &prefixed)->name, "max.connections");
    cr_assert_not(prefixed);
    cr_assert_null(config_find_broker("listener.name.a.nothing", &prefixed));
    cr_assert_null(config_find_broker("listener.name.a", &prefixed));
}

Test(config_table, knows_keys_that_are_gone)
{
    cr_assert_eq(config_find_gone("zookeeper.connect")->treatment, TREATMENT_REFUSED);
    cr_assert_eq(config_find_gone("inter.broker.protocol.version")->treatment, TREATMENT_IGNORED);
    cr_assert_null(config_find_gone("zookeepe"));
    cr_assert_null(config_find_gone("num.partitions"));
}

Test(config_table, guesses_what_was_meant)
{
    cr_assert_str_eq(config_nearest(SCOPE_BROKER, "num.partition"), "num.partitions");
    cr_assert_str_eq(config_nearest(SCOPE_BROKER, "log_dirs"), "log.dirs");
    cr_assert_str_eq(config_nearest(SCOPE_BROKER, "Auto.Create.Topic.Enabled"),
                     "auto.create.topics.enable");
    cr_assert_str_eq(config_nearest(SCOPE_TOPIC, "retnetion.ms"), "retention.ms");
    cr_assert_null(config_nearest(SCOPE_BROKER, "completely.different.from.all"));
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    cr_assert_null(config_nearest(SCOPE_BROKER, long_name));
}

Test(config_table, distance_counts_edits)
{
    cr_assert_eq(config_distance("", "", 5), 0);
    cr_assert_eq(config_distance("abc", "abc", 5), 0);
    cr_assert_eq(config_distance("abc", "acb", 5), 1, "a swap is one");
    cr_assert_eq(config_distance("kitten", "sitting", 5), 3);
    cr_assert_eq(config_distance("", "abc", 5), 3);
    cr_assert_eq(config_distance("aaaaaaaa", "bbbbbbbb", 3), 4, "no more than limit + 1");
}

Test(config_table, names_synonyms_finest_unit_first)
{
    const char *const *names = config_broker_synonyms("log.retention.hours");
    cr_assert_str_eq(names[0], "log.retention.ms");
    cr_assert_str_eq(names[1], "log.retention.minutes");
    cr_assert_str_eq(names[2], "log.retention.hours");
    cr_assert_null(names[3]);
    cr_assert_null(config_broker_synonyms("num.partitions"));
    cr_assert_null(config_broker_synonyms("log.flush.scheduler.interval.ms"));
}

Test(config_table, secrets_and_unknown_keys_are_sensitive)
{
    cr_assert(config_sensitive(config_find(SCOPE_BROKER, "sasl.jaas.config")));
    cr_assert(config_sensitive(NULL));
    cr_assert_not(config_sensitive(config_find(SCOPE_BROKER, "ssl.keystore.location")));
}
