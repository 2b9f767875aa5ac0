/* What values mean for each other, and what a node of torc cannot be. Single values were checked
 * before; here stand the rules that need more than one of them.
 *
 * Invariants:
 *  1. A configuration without complaints from here is one that the broker starts with.
 *  2. A rule that Kafka has is at least as lenient here: what starts Kafka is refused only where
 *     torc does not serve the feature, and the sentence says so.
 *
 * Failure modes: complaints. */
#include "broker/config/load.h"

#include <string.h>

#include "core/assert.h"
#include "core/core.h"
#include "core/trace.h"

static void check_roles(struct config *c)
{
    const struct broker_config *b = &c->broker;
    bool controller_listens = false, broker_listens = false;
    for (uint32_t i = 0; i < b->listeners_count; i++) {
        controller_listens = controller_listens || b->listeners[i].controller;
        broker_listens = broker_listens || !b->listeners[i].controller;
    }
    if (b->process_roles == 0)
        return;
    if (b->process_roles != (ROLE_BROKER | ROLE_CONTROLLER)) {
        config_complain(c, CONFIG_ERROR, "process.roles",
                        "torc serves nodes that are broker and controller in one; say "
                        "process.roles=broker,controller");
        return;
    }
    if (!broker_listens && c->errors_count == 0)
        config_complain(c, CONFIG_ERROR, "listeners",
                        "every listener is a controller's, so no client could connect; add one, as "
                        "in PLAINTEXT://:9092");
    if (b->controller_listener_name[0] != '\0' && !controller_listens && c->errors_count == 0)
        config_complain(c, CONFIG_ERROR, "controller.listener.names",
                        "none of them is in listeners; add one there, or remove the key");
}

static void check_voters(struct config *c)
{
    const struct broker_config *b = &c->broker;
    const char *key = "controller.quorum.voters";
    bool member = b->voters_count == 0;
    for (uint32_t i = 0; i < b->voters_count; i++)
        member = member || b->voters[i].id == b->node_id;
    if (!member)
        config_complain(c, CONFIG_ERROR, key,
                        "node.id %d is not among the voters; a controller must be one of them",
                        b->node_id);
    else if (b->voters_count > 1)
        config_complain(c, CONFIG_ERROR, key,
                        "torc serves quorums of one; name this node only, as in %d@127.0.0.1:9093",
                        b->node_id);
    if (b->bootstrap_servers_count > 1)
        config_complain(c, CONFIG_ERROR, "controller.quorum.bootstrap.servers",
                        "torc serves quorums of one; name this node only");
}

/* A time that is -1 for ever, or at least 1. */
static void check_retention(struct config *c, const char *key)
{
    const struct config_key *row = config_find(SCOPE_BROKER, key);
    const char *text = config_given(c, key);
    struct config_value v;
    assert(row != NULL);
    if (text != NULL && config_value_parse(row, key, text, &v, NULL) && v.integer == 0)
        config_complain(c, CONFIG_ERROR, key,
                        "0 would delete everything at once; say -1 for ever, or at least 1");
}

static void check_at_most(struct config *c, const char *key, int64_t value, const char *other_key,
                          int64_t other)
{
    if (value > other)
        config_complain(c, CONFIG_ERROR, key, "%lld is more than %s, which is %lld; change one",
                        (long long)value, other_key, (long long)other);
}

static void check_pairs(struct config *c)
{
    const struct broker_config *b = &c->broker;
    check_at_most(c, "replica.fetch.wait.max.ms", b->replica_fetch_wait_max_ms,
                  "replica.socket.timeout.ms", b->replica_socket_timeout_ms);
    check_at_most(c, "replica.fetch.wait.max.ms", b->replica_fetch_wait_max_ms,
                  "replica.lag.time.max.ms", b->replica_lag_time_max_ms);
    check_at_most(c, "group.min.session.timeout.ms", b->group_min_session_timeout_ms,
                  "group.max.session.timeout.ms", b->group_max_session_timeout_ms);
    check_at_most(c, "group.consumer.min.session.timeout.ms",
                  b->group_consumer_min_session_timeout_ms, "group.consumer.max.session.timeout.ms",
                  b->group_consumer_max_session_timeout_ms);
    check_at_most(
        c, "group.consumer.min.heartbeat.interval.ms", b->group_consumer_min_heartbeat_interval_ms,
        "group.consumer.max.heartbeat.interval.ms", b->group_consumer_max_heartbeat_interval_ms);
    check_at_most(c, "log.cleaner.min.compaction.lag.ms", b->topic.min_compaction_lag_ms,
                  "log.cleaner.max.compaction.lag.ms", b->topic.max_compaction_lag_ms);
    if (2 * (int64_t)b->broker_heartbeat_interval_ms > b->broker_session_timeout_ms)
        config_complain(c, CONFIG_ERROR, "broker.heartbeat.interval.ms",
                        "%d is more than half of broker.session.timeout.ms, so one lost heartbeat "
                        "would fence the broker",
                        b->broker_heartbeat_interval_ms);
    if (b->max_connections_per_ip == 0 && b->ip_overrides_count == 0)
        config_complain(c, CONFIG_ERROR, "max.connections.per.ip",
                        "0 lets nobody in unless max.connections.per.ip.overrides names them");
    if (b->offsets_topic_compression_codec < 0 || b->offsets_topic_compression_codec > 4)
        config_complain(c, CONFIG_ERROR, "offsets.topic.compression.codec",
                        "no codec has this number; say 0 to 4");
}

static void check_torc(struct config *c)
{
    const struct broker_config *b = &c->broker;
    struct trace probe = {0};
    if (b->torc_wal_file_bytes % 4096 != 0)
        config_complain(c, CONFIG_ERROR, "torc.wal.file.bytes",
                        "%lld is not a multiple of 4096; say %lld",
                        (long long)b->torc_wal_file_bytes,
                        (long long)(b->torc_wal_file_bytes / 4096 + 1) * 4096);
    if (b->torc_memory != 0 && b->torc_memory < (int64_t)64 << 20)
        config_complain(c, CONFIG_ERROR, "torc.memory",
                        "%lld bytes are too few; say at least 67108864, or 0",
                        (long long)b->torc_memory);
    if (b->torc_log_level != NULL && !trace_set_levels(&probe, b->torc_log_level))
        config_complain(c, CONFIG_ERROR, "torc.log.level",
                        "'%.100s' names no level or module; say error, warn, info or debug, or "
                        "MODULE=LEVEL with main, io, net, api, log, quorum or config",
                        b->torc_log_level);
}

void config_check(struct config *c)
{
    assert(c != NULL);
    check_roles(c);
    check_voters(c);
    check_retention(c, "log.retention.ms");
    check_retention(c, "log.retention.minutes");
    check_retention(c, "log.retention.hours");
    check_pairs(c);
    check_torc(c);
    assert(c->problems_count <= CONFIG_PROBLEMS_MAX);
}
