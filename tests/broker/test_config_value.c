/* Single values: what is taken, what is refused with which sentence, what is shown. Sentences are
 * those that Kafka 4.3.1 answers with, since tools and people search for them. */
#include "broker/config/value.h"

#include <criterion/criterion.h>

struct sample {
    enum config_scope scope;
    const char *name, *text;
    const char *shown;   /* canonical text, or NULL: refused */
    const char *message; /* of the refusal */
};

static const struct sample samples[] = {
    {SCOPE_TOPIC, "retention.ms", "+5", "5", NULL},
    {SCOPE_TOPIC, "retention.ms", "  604800000 ", "604800000", NULL},
    {SCOPE_TOPIC, "retention.ms", "-1", "-1", NULL},
    {SCOPE_TOPIC, "flush.ms", "9223372036854775807", "9223372036854775807", NULL},
    {SCOPE_TOPIC, "preallocate", " TRUE ", "true", NULL},
    {SCOPE_TOPIC, "cleanup.policy", " compact , delete", "compact,delete", NULL},
    {SCOPE_TOPIC, "cleanup.policy", "delete,delete", "delete", NULL},
    {SCOPE_TOPIC, "cleanup.policy", "", "", NULL},
    {SCOPE_TOPIC, "min.cleanable.dirty.ratio", "0.25f", "0.25", NULL},
    {SCOPE_TOPIC, "min.cleanable.dirty.ratio", "1", "1.0", NULL},
    {SCOPE_TOPIC, "compression.gzip.level", "-1", "-1", NULL},
    {SCOPE_TOPIC, "leader.replication.throttled.replicas", "*", "*", NULL},
    {SCOPE_TOPIC, "leader.replication.throttled.replicas", "0:1,1:2", "0:1,1:2", NULL},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "1e10", "1.0E10", NULL},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "1234567", "1234567.0", NULL},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "0.0001", "1.0E-4", NULL},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "12345678.9", "1.23456789E7", NULL},
    {SCOPE_BROKER, "log.cleaner.io.max.bytes.per.second", "NaN", "NaN", NULL},
    {SCOPE_BROKER, "group.consumer.migration.policy", "upgrade", "upgrade", NULL},
    {SCOPE_GROUP, "share.auto.offset.reset", "by_duration:PT1H30M", "by_duration:PT1H30M", NULL},
    {SCOPE_GROUP, "share.auto.offset.reset", "by_duration:P1DT0.5S", "by_duration:P1DT0.5S", NULL},
    {SCOPE_TOPIC, "retention.ms", "foo", NULL,
     "Invalid value foo for configuration retention.ms: Not a number of type LONG"},
    {SCOPE_TOPIC, "retention.ms", "", NULL,
     "Invalid value  for configuration retention.ms: Not a number of type LONG"},
    {SCOPE_TOPIC, "retention.ms", "-2", NULL,
     "Invalid value -2 for configuration retention.ms: Value must be at least -1"},
    {SCOPE_TOPIC, "segment.bytes", "3000000000", NULL,
     "Invalid value 3000000000 for configuration segment.bytes: Not a number of type INT"},
    {SCOPE_TOPIC, "segment.bytes", "5", NULL,
     "Invalid value 5 for configuration segment.bytes: Value must be at least 1048576"},
    {SCOPE_TOPIC, "flush.ms", "9223372036854775808", NULL,
     "Invalid value 9223372036854775808 for configuration flush.ms: Not a number of type LONG"},
    {SCOPE_TOPIC, "compression.lz4.level", "18", NULL,
     "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17"},
    {SCOPE_TOPIC, "compression.gzip.level", "0", NULL,
     "Invalid value 0 for configuration compression.gzip.level: "
     "Value must be between 1 and 9 or equal to -1"},
    {SCOPE_TOPIC, "min.cleanable.dirty.ratio", "2", NULL,
     "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: "
     "Value must be no more than 1"},
    {SCOPE_TOPIC, "min.cleanable.dirty.ratio", "0x1p-1", NULL,
     "Invalid value 0x1p-1 for configuration min.cleanable.dirty.ratio: "
     "Not a number of type DOUBLE"},
    {SCOPE_TOPIC, "preallocate", "maybe", NULL,
     "Invalid value maybe for configuration preallocate: "
     "Expected value to be either true or false"},
    {SCOPE_TOPIC, "message.timestamp.type", "createtime", NULL,
     "Invalid value createtime for configuration message.timestamp.type: "
     "String must be one of: CreateTime, LogAppendTime"},
    {SCOPE_TOPIC, "cleanup.policy", "compact,bar", NULL,
     "Invalid value bar for configuration cleanup.policy: String must be one of: compact, delete"},
    {SCOPE_TOPIC, "cleanup.policy", "compact,,delete", NULL,
     "Configuration 'cleanup.policy' values must not be empty."},
    {SCOPE_TOPIC, "leader.replication.throttled.replicas", "*,2:3", NULL,
     "Invalid value [*, 2:3] for configuration leader.replication.throttled.replicas: "
     "leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the "
     "following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."},
    {SCOPE_BROKER, "process.roles", "", NULL,
     "Configuration 'process.roles' must not be empty. Valid values include: [broker, controller]"},
    {SCOPE_BROKER, "listeners", "", NULL,
     "Configuration 'listeners' must not be empty. Valid values include: any non-empty value"},
    {SCOPE_BROKER, "offsets.topic.replication.factor", "40000", NULL,
     "Invalid value 40000 for configuration offsets.topic.replication.factor: "
     "Not a number of type SHORT"},
    {SCOPE_BROKER, "group.consumer.migration.policy", "x", NULL,
     "Invalid value x for configuration group.consumer.migration.policy: String must be one of "
     "(case insensitive): DISABLED, DOWNGRADE, UPGRADE, BIDIRECTIONAL"},
    {SCOPE_BROKER, "remote.log.metadata.manager.class.name", "", NULL,
     "Invalid value  for configuration remote.log.metadata.manager.class.name: "
     "String must be non-empty"},
    {SCOPE_GROUP, "share.auto.offset.reset", "by_duration:1H", NULL,
     "Invalid value by_duration:1H for configuration share.auto.offset.reset: it must be earliest, "
     "latest, or by_duration: followed by a time as in PT1H30M"},
    {SCOPE_GROUP, "share.auto.offset.reset", "by_duration:PT1M1H", NULL,
     "Invalid value by_duration:PT1M1H for configuration share.auto.offset.reset: it must be "
     "earliest, latest, or by_duration: followed by a time as in PT1H30M"},
};

Test(config_value, is_taken_or_refused_as_kafka_does)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const struct sample *s = &samples[i];
        const struct config_key *key = config_find(s->scope, s->name);
        struct config_value v;
        struct config_refusal refusal = {.message = ""};
        char text[256];
        bool taken = config_value_parse(key, s->name, s->text, &v, &refusal);
        cr_assert_eq(taken, s->shown != NULL, "%s=%s: %s", s->name, s->text, refusal.message);
        if (taken) {
            cr_assert_str_eq(config_value_text(key, &v, text, sizeof(text)), s->shown);
        } else {
            cr_assert_eq(refusal.error, KE_INVALID_CONFIG);
            cr_assert_str_eq(refusal.message, s->message);
        }
    }
}

Test(config_value, longer_than_a_record_holds_is_refused)
{
    static char text[CONFIG_VALUE_MAX + 2];
    const struct config_key *key = config_find(SCOPE_BROKER, "broker.rack");
    struct config_value v;
    memset(text, 'r', sizeof(text) - 2);
    cr_assert(config_value_parse(key, key->name, text, &v, NULL));
    text[sizeof(text) - 2] = 'r';
    cr_assert_not(config_value_parse(key, key->name, text, &v, NULL));
}

Test(config_value, refusals_fit_their_sentence_whatever_the_value)
{
    static char text[20000];
    const struct config_key *key = config_find(SCOPE_TOPIC, "retention.ms");
    struct config_value v;
    struct config_refusal refusal;
    memset(text, '7', sizeof(text) - 1);
    cr_assert_not(config_value_parse(key, key->name, text, &v, &refusal));
    cr_assert_lt(strlen(refusal.message), sizeof(refusal.message));
}

Test(config_value, lists_keep_empty_items_between_commas)
{
    struct config_value v = {.text = "a, ,b,", .size = 6};
    struct config_item item;
    const char *at = v.text;
    uint32_t sizes[8], count = 0;
    while (config_list_next(&v, &at, &item))
        sizes[count++] = item.size;
    cr_assert_eq(count, 4);
    cr_assert_eq(sizes[0], 1);
    cr_assert_eq(sizes[1], 0);
    cr_assert_eq(sizes[3], 0);
    v = (struct config_value){.text = ""};
    at = v.text;
    cr_assert_not(config_list_next(&v, &at, &item));
}

Test(config_value, whole_numbers_reach_both_ends)
{
    int64_t n;
    cr_assert(config_parse_integer("-9223372036854775808", 20, &n));
    cr_assert_eq(n, INT64_MIN);
    cr_assert_not(config_parse_integer("-9223372036854775809", 20, &n));
    cr_assert_not(config_parse_integer("", 0, &n));
    cr_assert_not(config_parse_integer("-", 1, &n));
    cr_assert_not(config_parse_integer("1.0", 3, &n));
}
