/* Reading a file: typed values, listeners, and what is said about mistakes. */
#include "tests/broker/config_fixture.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

Test(config_load, defaults_are_kafkas)
{
    struct fixture f;
    fixture_read(&f, ALONE, NULL, 0);
    const struct broker_config *b = &f.config.broker;
    cr_assert_eq(f.result, 0);
    cr_assert_eq(b->node_id, 1);
    cr_assert_eq(b->process_roles, ROLE_BROKER | ROLE_CONTROLLER);
    cr_assert_eq(b->listeners_count, 1);
    cr_assert_str_eq(b->listeners[0].name, "PLAINTEXT");
    cr_assert_str_eq(b->listeners[0].host, "", "all addresses");
    cr_assert_str_eq(b->listeners[0].advertised_host, "localhost");
    cr_assert_eq(b->listeners[0].port, 9092);
    cr_assert_eq(b->inter_broker_listener, 0);
    cr_assert_eq(b->socket_request_max_bytes, 104857600);
    cr_assert_eq(b->connections_max_idle_ms, 600000);
    cr_assert_eq(b->fetch_max_bytes, 57671680);
    cr_assert_eq(b->max_connections, INT32_MAX);
    cr_assert_eq(b->log_retention_check_interval_ms, 300000);
    cr_assert(b->auto_create_topics_enable);
    cr_assert_eq(b->offsets_topic_replication_factor, 3);
    cr_assert_str_eq(b->log_dirs[0], "/tmp/kafka-logs");
    cr_assert_str_eq(b->metadata_log_dir, "/tmp/kafka-logs");
    cr_assert_null(b->broker_rack);
    cr_assert_eq(b->torc_wal_file_bytes, 33554432);
    cr_assert_str_eq(b->torc_log_level, "info");
    cr_assert_eq(b->topic.retention_ms, 604800000);
    cr_assert_eq(b->topic.segment_bytes, 1073741824);
    cr_assert_eq(b->topic.cleanup_policy, CLEANUP_DELETE);
    cr_assert_eq(b->topic.compression_type, COMPRESSION_PRODUCER);
    cr_assert_eq(b->topic.flush_ms, INT64_MAX);
    cr_assert_eq(b->topic.timestamp_after_max_ms, 3600000);
    cr_assert_not(b->topic.write_caching);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, hours_and_minutes_become_milliseconds_and_the_finest_unit_wins)
{
    struct fixture f;
    fixture_read(&f, ALONE "log.retention.hours=2\nlog.roll.hours=1\nlog.roll.jitter.hours=3\n",
                 NULL, 0);
    cr_assert_eq(f.result, 0);
    cr_assert_eq(f.config.broker.topic.retention_ms, 2 * 3600000);
    cr_assert_eq(f.config.broker.topic.segment_ms, 3600000);
    cr_assert_eq(f.config.broker.topic.segment_jitter_ms, 3 * 3600000);
    cr_assert_eq(fixture_end(&f), 0);
    fixture_read(&f,
                 ALONE "log.retention.hours=2\nlog.retention.minutes=5\nlog.roll.ms=7\n"
                       "log.roll.hours=1\nlog.flush.scheduler.interval.ms=9\n",
                 NULL, 0);
    cr_assert_eq(f.config.broker.topic.retention_ms, 5 * 60000);
    cr_assert_eq(f.config.broker.topic.segment_ms, 7);
    cr_assert_eq(f.config.broker.topic.flush_ms, 9);
    cr_assert_eq(fixture_end(&f), 0);
    fixture_read(&f, ALONE "log.retention.hours=-7\n", NULL, 0);
    cr_assert_eq(f.config.broker.topic.retention_ms, -1);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, listeners_have_names_addresses_and_what_clients_are_told)
{
    struct fixture f;
    fixture_read(&f,
                 ALONE "listeners=plaintext://10.0.0.5:9092, V6://[::1]:9094,CONTROLLER://:9093,"
                       "LOCAL://localhost:0\n"
                       "advertised.listeners=PLAINTEXT://kafka.example.org:19092,V6://[fe80::2]:1\n"
                       "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,V6:PLAINTEXT,"
                       "CONTROLLER:PLAINTEXT,LOCAL:PLAINTEXT\n"
                       "controller.listener.names=CONTROLLER\ninter.broker.listener.name=V6\n",
                 NULL, 0);
    const struct broker_config *b = &f.config.broker;
    cr_assert_eq(f.result, 0, "%s", f.config.problems_count ? f.config.problems[0].text : "");
    cr_assert_eq(b->listeners_count, 4);
    cr_assert_str_eq(b->listeners[0].name, "PLAINTEXT");
    cr_assert_str_eq(b->listeners[0].host, "10.0.0.5");
    cr_assert_str_eq(b->listeners[0].advertised_host, "kafka.example.org");
    cr_assert_eq(b->listeners[0].advertised_port, 19092);
    cr_assert_str_eq(b->listeners[1].host, "::1");
    cr_assert_str_eq(b->listeners[1].advertised_host, "fe80::2");
    cr_assert_eq(b->listeners[1].advertised_port, 1);
    cr_assert(b->listeners[2].controller);
    cr_assert_eq(b->inter_broker_listener, 1);
    cr_assert_str_eq(b->listeners[3].host, "127.0.0.1", "what localhost is");
    cr_assert_str_eq(b->listeners[3].advertised_host, "localhost");
    cr_assert_eq(b->listeners[3].advertised_port, 0, "the bound port");
    cr_assert_str_eq(b->controller_listener_name, "CONTROLLER");
    cr_assert_eq(fixture_end(&f), 0);
}

/* Each line alone is a mistake, and the sentence has this part. */
static const struct {
    const char *lines, *part;
    enum config_severity severity;
} mistakes[] = {
    {"listeners=SSL://:9092\n", "serves PLAINTEXT only", CONFIG_ERROR},
    {"listeners=SASL_PLAINTEXT://:9092\n", "serves PLAINTEXT only", CONFIG_ERROR},
    {"listeners=OTHER://:9092\n", "add OTHER:PLAINTEXT", CONFIG_ERROR},
    {"listeners=PLAINTEXT//:9092\n", "is not NAME://HOST:PORT", CONFIG_ERROR},
    {"listeners=PLAINTEXT://:70000\n", "is not NAME://HOST:PORT", CONFIG_ERROR},
    {"listeners=PLAINTEXT://host.example.org:9092\n", "is not a numeric address", CONFIG_ERROR},
    {"listeners=PLAINTEXT://0.0.0.0:9092\n", "advertised.listeners=PLAINTEXT://", CONFIG_ERROR},
    {"listeners=PLAINTEXT://:1,PLAINTEXT://:2\n", "is there twice", CONFIG_ERROR},
    {"listeners=PLAINTEXT://:9092,C://:9092\ncontroller.listener.names=C\n", "both want port 9092",
     CONFIG_ERROR},
    {"advertised.listeners=NOPE://a:1\n", "is not a name in listeners", CONFIG_ERROR},
    {"advertised.listeners=PLAINTEXT://0.0.0.0:1\n", "clients cannot connect", CONFIG_ERROR},
    {"inter.broker.listener.name=NOPE\n", "listener between brokers", CONFIG_ERROR},
    {"controller.quorum.voters=2@a:1\n", "not among the voters", CONFIG_ERROR},
    {"controller.quorum.voters=1@a:1,2@b:1\n", "quorums of one", CONFIG_ERROR},
    {"controller.quorum.voters=1-a:1\n", "is not ID@HOST:PORT", CONFIG_ERROR},
    {"process.roles=broker\n", "broker and controller in one", CONFIG_ERROR},
    {"broker.id=2\n", "remove broker.id", CONFIG_ERROR},
    {"log.dirs=relative\n", "write the whole path", CONFIG_ERROR},
    {"log.dirs=/a,/a\n", "is there twice", CONFIG_ERROR},
    {"num.partitions=x\n", "a.properties:3: num.partitions: Invalid value x", CONFIG_ERROR},
    {"num.partitions=0\n", "Value must be at least 1", CONFIG_ERROR},
    {"log.retention.ms=0\n", "say -1 for ever", CONFIG_ERROR},
    {"zookeeper.connect=a:2181\n", "ZooKeeper is not served", CONFIG_ERROR},
    {"authorizer.class.name=a.B\n", "would not be authorised", CONFIG_ERROR},
    {"remote.log.storage.system.enable=true\n", "tiered storage is not served", CONFIG_ERROR},
    {"max.connections.per.ip.overrides=a\n", "not HOST:COUNT", CONFIG_ERROR},
    {"max.connections.per.ip=0\n", "lets nobody in", CONFIG_ERROR},
    {"broker.heartbeat.interval.ms=5000\n", "one lost heartbeat", CONFIG_ERROR},
    {"torc.wal.file.bytes=2000000\n", "say 2002944", CONFIG_ERROR},
    {"torc.memory=1000\n", "too few", CONFIG_ERROR},
    {"torc.log.level=loud\n", "names no level", CONFIG_ERROR},
    {"num.partition=3\n", "did you mean num.partitions?", CONFIG_WARNING},
    {"retention.ms=3\n", "did you mean log.retention.ms?", CONFIG_WARNING},
    {"inter.broker.protocol.version=3.9\n", "ignored: the metadata version", CONFIG_WARNING},
    {"entirely.unknown.to.everybody=1\n", "torc config list", CONFIG_WARNING},
    {"num.io.threads=16\n", "accepted without effect: torc has no thread pools", CONFIG_NOTE},
};

Test(config_load, says_where_a_mistake_is_and_what_to_do)
{
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        struct fixture f;
        char text[512];
        snprintf(text, sizeof(text), "%s%s", ALONE, mistakes[i].lines);
        fixture_read(&f, text, NULL, 0);
        const struct config_problem *p = fixture_problem(&f, mistakes[i].part);
        cr_assert_not_null(p, "%s said nothing like '%s', but %s", mistakes[i].lines,
                           mistakes[i].part,
                           f.config.problems_count ? f.config.problems[0].text : "nothing");
        cr_assert_eq(p->severity, mistakes[i].severity, "%s", p->text);
        cr_assert_eq(f.result, mistakes[i].severity == CONFIG_ERROR ? -EINVAL : 0, "%s", p->text);
        cr_assert_eq(fixture_end(&f), 0);
    }
}

Test(config_load, a_default_value_said_aloud_is_no_news)
{
    struct fixture f;
    fixture_read(&f,
                 ALONE "num.io.threads=8\nremote.log.storage.system.enable=FALSE\n"
                       "authorizer.class.name=\n",
                 NULL, 0);
    cr_assert_eq(f.result, 0);
    cr_assert_eq(f.config.problems_count, 0, "%s", f.config.problems[0].text);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, options_go_before_the_file)
{
    struct fixture f;
    const char *const options[] = {"num.partitions=7", "node.id=3", "listeners=PLAINTEXT://:0"};
    fixture_read(&f, "process.roles=broker,controller\nnode.id=1\nnum.partitions=2\n", options, 3);
    cr_assert_eq(f.result, 0);
    cr_assert_eq(f.config.broker.num_partitions, 7);
    cr_assert_eq(f.config.broker.node_id, 3);
    cr_assert_str_eq(config_given(&f.config, "broker.id"), "3");
    cr_assert_eq(f.config.broker.listeners[0].port, 0);
    cr_assert_eq(fixture_end(&f), 0);
    const char *const bad[] = {"num.partitions"};
    fixture_read(&f, ALONE, bad, 1);
    cr_assert_eq(f.result, -EINVAL);
    cr_assert_not_null(fixture_problem(&f, "is not key=value"));
    cr_assert_eq(fixture_end(&f), 0);
    const char *const wrong[] = {"num.partitions=x"};
    fixture_read(&f, ALONE, wrong, 1);
    cr_assert_not_null(fixture_problem(&f, "-X num.partitions: Invalid value x"));
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, tells_all_mistakes_in_one_run)
{
    struct fixture f;
    fixture_read(&f, "num.partitions=x\nlog.dirs=relative\nzookeeper.connect=a\n", NULL, 0);
    cr_assert_eq(f.result, -EINVAL);
    cr_assert_not_null(fixture_problem(&f, "process.roles is missing"));
    cr_assert_not_null(fixture_problem(&f, "a.properties:1: num.partitions"));
    cr_assert_not_null(fixture_problem(&f, "a.properties:2: log.dirs"));
    cr_assert_not_null(fixture_problem(&f, "a.properties:3: zookeeper.connect"));
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, foreign_bytes_in_names_and_values_are_escaped_in_sentences)
{
    struct fixture f;
    fixture_read(&f, ALONE "num.partitions=\\u001b[31m\nbad\\u0007key=1\n", NULL, 0);
    cr_assert_not_null(fixture_problem(&f, "num.partitions"));
    for (uint32_t i = 0; i < f.config.problems_count; i++)
        for (const char *at = f.config.problems[i].text; *at != '\0'; at++)
            cr_assert_geq((unsigned char)*at, ' ');
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, connection_bounds_per_address_are_read)
{
    struct fixture f;
    fixture_read(&f, ALONE "max.connections.per.ip.overrides=127.0.0.1:30, ::1:4\n", NULL, 0);
    cr_assert_eq(f.result, 0);
    cr_assert_eq(f.config.broker.ip_overrides_count, 2);
    cr_assert_str_eq(f.config.broker.ip_overrides[0].host, "127.0.0.1");
    cr_assert_eq(f.config.broker.ip_overrides[0].connections, 30);
    cr_assert_str_eq(f.config.broker.ip_overrides[1].host, "::1");
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, more_mistakes_than_are_kept_are_still_counted)
{
    static char text[64 * 1024];
    struct fixture f;
    size_t used = (size_t)snprintf(text, sizeof(text), ALONE);
    for (int i = 0; i < CONFIG_PROBLEMS_MAX + 50; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "zookeeper.key.%d=1\n", i);
    fixture_read(&f, text, NULL, 0);
    cr_assert_eq(f.result, -EINVAL);
    cr_assert_eq(f.config.problems_count, CONFIG_PROBLEMS_MAX);
    cr_assert_eq(f.config.errors_count, CONFIG_PROBLEMS_MAX + 50);
    cr_assert_eq(fixture_end(&f), 0);
}

Test(config_load, short_memory_is_told_and_leaves_nothing_behind)
{
    for (uint64_t budget = 4096; budget < 600u << 10; budget += 8192) {
        struct mem mem;
        struct config config;
        const char text[] = ALONE "num.partitions=x\nlog.dirs=/a,/b\nbroker.rack=r\n";
        cr_assert_eq(mem_init(&mem, budget), 0);
        int result = config_parse(&config, &mem, "a", text, sizeof(text) - 1, NULL, 0);
        cr_assert(result == -ENOMEM || result == -EINVAL);
        config_destroy(&config);
        cr_assert_eq(mem.used_bytes, 0);
        mem_destroy(&mem);
    }
}

Test(config_load, small_machines_share_a_cpu_with_the_control_core)
{
    static const uint32_t cores[][2] = {{1, 1}, {2, 2}, {4, 4}, {5, 4}, {64, 63}, {1000, 128}};
    struct broker_config b = {0};
    for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++)
        cr_assert_eq(config_data_cores(&b, cores[i][0]), cores[i][1]);
    b.torc_cores = 3;
    cr_assert_eq(config_data_cores(&b, 64), 3);
}
