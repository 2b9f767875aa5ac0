/* broker/config is what server.properties, -X overrides, dynamic broker configs and topic configs
 * mean. Every key of Apache Kafka 4.3 is in one table (config_table.h, generated from *.table): its
 * type, default, synonyms, whether it may change at run time, and what torc does with it.
 *
 *   config_load     file and -X overrides -> struct config: typed values in config.broker
 *   config_resolve  static values + dynamic layers + topic overrides -> effective typed values
 *   describe.h      all configs of a resource with sources and synonyms, as DescribeConfigs lists
 *   alter.h         what an IncrementalAlterConfigs operation makes of the current values
 *
 * Precedence, highest first: topic override, dynamic per-broker, dynamic cluster default, static
 * (-X, then file), default; and within one source the synonym of the finest unit. */
#ifndef BROKER_CONFIG_CONFIG_H
#define BROKER_CONFIG_CONFIG_H

#include "broker/config/topic_config.h"
#include "core/arena.h"
#include "core/mem.h"
#include "io/io.h"
#include "proto/error.h"

#define LISTENERS_MAX         16
#define GROUP_ASSIGNORS_MAX   2 /* uniform, range */
#define LISTENER_NAME_MAX     64
#define HOST_MAX              256
#define LOG_DIRS_MAX          16
#define VOTERS_MAX            16
#define IP_OVERRIDES_MAX      64
#define CONFIG_PROBLEMS_MAX   256
#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define CONFIG_VALUE_MAX      32767 /* longest value that a metadata record carries */

enum security_protocol { /* Kafka's ids, as in a RegisterBroker endpoint */
                         SECURITY_PLAINTEXT = 0,
                         SECURITY_SSL = 1,
                         SECURITY_SASL_PLAINTEXT = 2,
                         SECURITY_SASL_SSL = 3
};

struct listener {
    char name[LISTENER_NAME_MAX]; /* upper case, as clients and metadata see it */
    enum security_protocol protocol;
    char host[HOST_MAX]; /* to bind: numeric, without brackets; "" = all addresses */
    uint16_t port;       /* 0: any free port */
    bool controller;     /* named in controller.listener.names: not for clients */
    /* What Metadata and registrations tell; "" when there is no host to tell (bound to all and not
     * advertised: the broker's canonical host name is used). Port 0: the bound port. */
    char advertised_host[HOST_MAX];
    uint16_t advertised_port;
};

struct voter {
    int32_t id; /* -1 in bootstrap servers */
    char host[HOST_MAX];
    uint16_t port;
};

struct ip_override {
    char host[HOST_MAX];
    int32_t connections;
};

enum process_role { ROLE_BROKER = 1, ROLE_CONTROLLER = 2 }; /* bits */

/* Typed values of what the broker uses. Names are the keys' with _ for . and -. Strings live as
 * long as the struct config they came from. */
struct broker_config {
    int32_t node_id;
    uint32_t process_roles;  /* bits of enum process_role */
    const char *broker_rack; /* NULL: none */
    struct listener listeners[LISTENERS_MAX];
    uint32_t listeners_count;
    int32_t inter_broker_listener; /* index into listeners; -1 on a pure controller */
    char controller_listener_name[LISTENER_NAME_MAX]; /* "" on a node that is alone */
    struct voter voters[VOTERS_MAX];                  /* controller.quorum.voters */
    uint32_t voters_count;
    struct voter bootstrap_servers[VOTERS_MAX]; /* controller.quorum.bootstrap.servers */
    uint32_t bootstrap_servers_count;
    const char *log_dirs[LOG_DIRS_MAX]; /* absolute */
    uint32_t log_dirs_count;
    const char *metadata_log_dir; /* one of log_dirs unless set */

    /* network */
    int32_t socket_request_max_bytes, socket_listen_backlog_size;
    int32_t socket_receive_buffer_bytes, socket_send_buffer_bytes;
    int64_t connections_max_idle_ms;
    int32_t max_connections, max_connections_per_ip, max_connection_creation_rate;
    struct ip_override ip_overrides[IP_OVERRIDES_MAX]; /* max.connections.per.ip.overrides */
    uint32_t ip_overrides_count;
    int32_t queued_max_requests;
    int64_t queued_max_request_bytes; /* -1: no bound */
    int32_t max_request_partition_size_limit;
    int32_t request_timeout_ms;

    /* topics, produce, fetch */
    bool auto_create_topics_enable, delete_topic_enable;
    int32_t num_partitions, default_replication_factor;
    int32_t fetch_max_bytes, max_incremental_fetch_session_cache_slots;
    struct topic_config topic; /* what a topic without overrides has: the log.* keys */
    int64_t log_retention_check_interval_ms;
    int32_t log_flush_offset_checkpoint_interval_ms;
    int64_t log_flush_scheduler_interval_ms;
    int32_t log_flush_start_offset_checkpoint_interval_ms;
    int64_t log_cleaner_backoff_ms, log_cleaner_dedupe_buffer_size;
    int32_t log_cleaner_io_buffer_size;
    double log_cleaner_io_buffer_load_factor, log_cleaner_io_max_bytes_per_second;
    bool log_cleaner_enable;
    int32_t producer_id_expiration_ms, producer_id_expiration_check_interval_ms;

    /* replication */
    int64_t replica_lag_time_max_ms, replica_high_watermark_checkpoint_interval_ms;
    int32_t replica_fetch_max_bytes, replica_fetch_min_bytes, replica_fetch_response_max_bytes;
    int32_t replica_fetch_wait_max_ms, replica_fetch_backoff_ms, replica_socket_timeout_ms;
    bool auto_leader_rebalance_enable, controlled_shutdown_enable;
    int64_t leader_imbalance_check_interval_seconds;

    /* KRaft */
    int32_t broker_heartbeat_interval_ms, broker_session_timeout_ms;
    int32_t initial_broker_registration_timeout_ms;
    int32_t controller_quorum_election_timeout_ms, controller_quorum_fetch_timeout_ms;
    int32_t controller_quorum_election_backoff_max_ms, controller_quorum_request_timeout_ms;
    int32_t controller_quorum_retry_backoff_ms, controller_quorum_append_linger_ms;
    int32_t metadata_log_segment_bytes;
    int64_t metadata_log_segment_ms, metadata_max_retention_bytes, metadata_max_retention_ms;
    int64_t metadata_log_max_record_bytes_between_snapshots;
    int64_t metadata_log_max_snapshot_interval_ms;
    int32_t metadata_max_idle_interval_ms;
    bool unstable_api_versions_enable, unstable_feature_versions_enable;

    /* group coordinator */
    int32_t offsets_topic_num_partitions, offsets_topic_segment_bytes;
    int16_t offsets_topic_replication_factor;
    int32_t offsets_topic_compression_codec; /* 0-4: codec id */
    int32_t offset_metadata_max_bytes, offsets_retention_minutes, offsets_load_buffer_size;
    int64_t offsets_retention_check_interval_ms;
    int32_t offsets_commit_timeout_ms;
    int32_t group_min_session_timeout_ms, group_max_session_timeout_ms;
    int32_t group_initial_rebalance_delay_ms, group_max_size;
    int32_t group_consumer_session_timeout_ms, group_consumer_min_session_timeout_ms;
    int32_t group_consumer_max_session_timeout_ms, group_consumer_heartbeat_interval_ms;
    int32_t group_consumer_min_heartbeat_interval_ms, group_consumer_max_heartbeat_interval_ms;
    int32_t group_consumer_max_size, group_consumer_regex_refresh_interval_ms;
    int32_t group_consumer_assignment_interval_ms;
    const char *group_consumer_migration_policy; /* in any case; NULL: bidirectional */
    const char *group_consumer_assignors[GROUP_ASSIGNORS_MAX]; /* the first is the default */
    uint32_t group_consumer_assignors_count;
    bool group_protocol_consumer; /* the consumer protocol is served */
    int32_t group_share_session_timeout_ms, group_share_heartbeat_interval_ms;
    int32_t group_share_max_size, group_share_record_lock_duration_ms;
    int32_t group_share_delivery_count_limit, group_share_partition_max_record_locks;

    /* transaction coordinator */
    int32_t add_partitions_to_txn_retry_backoff_max_ms;
    int32_t transactional_id_expiration_ms, transaction_max_timeout_ms;
    int32_t transaction_state_log_num_partitions, transaction_state_log_segment_bytes;
    int16_t transaction_state_log_replication_factor;
    int32_t transaction_state_log_min_isr, transaction_state_log_load_buffer_size;
    int32_t transaction_abort_timed_out_transaction_cleanup_interval_ms;
    int32_t transaction_remove_expired_transaction_cleanup_interval_ms;
    bool transaction_partition_verification_enable, transaction_two_phase_commit_enable;

    /* client telemetry */
    int32_t telemetry_max_bytes;

    /* torc's own */
    int32_t torc_cores;  /* data cores; 0 in the file: chosen from the CPUs at start */
    int64_t torc_memory; /* bytes for everything; 0: half of the machine's, at most 64 GiB */
    int64_t torc_wal_file_bytes;
    int32_t torc_wal_files;
    int64_t torc_cache_bytes;     /* per data core */
    int64_t torc_disk_read_bytes; /* per data core */
    int32_t torc_spin_us;
    int32_t torc_slow_request_ms;
    bool torc_stat_socket;
    const char *torc_log_level;
};

/* ---- load ------------------------------------------------------------------------------------ */

enum config_severity { CONFIG_ERROR, CONFIG_WARNING, CONFIG_NOTE };

/* text says what is wrong and what to do, and begins with "FILE:LINE: key: " or "-X key: ". */
struct config_problem {
    enum config_severity severity;
    uint32_t line;   /* 0: not from a file */
    const char *key; /* NULL: about no key in particular */
    const char *text;
};

/* A key that was given, in the order of the file and then of the -X options; later ones win. */
struct config_given {
    const char *name, *value;
    uint32_t line; /* 0: -X, or the defaults of a start without a file */
};

struct config {
    struct arena arena;       /* everything below */
    const char *path;         /* NULL: no file */
    char host_name[HOST_MAX]; /* of the machine: told to clients where a listener names none */
    struct config_given *given;
    uint32_t given_count;
    struct config_problem problems[CONFIG_PROBLEMS_MAX];
    uint32_t problems_count, errors_count;
    struct broker_config broker;
};

/* file NULL: a node of its own on 127.0.0.1:9092, node.id 1, data in /tmp/torc-logs. overrides are
 * "key=value" texts. 0; -EINVAL when errors_count > 0; -errno when the file cannot be read (a
 * problem says so) or memory is short. The config is destroyed by the caller in every case. */
NODISCARD int config_load(struct config *c, struct mem *mem, struct io *io, const char *file,
                          const char *const *overrides, uint32_t overrides_count);
/* The same from text in memory, as if it were the file `name`. */
NODISCARD int config_parse(struct config *c, struct mem *mem, const char *name, const char *text,
                           size_t size, const char *const *overrides, uint32_t overrides_count);
void config_destroy(struct config *c);
/* The value as given (not a default), or NULL. */
const char *config_given(const struct config *c, const char *key);

/* Data cores on a machine with so many CPUs (torc.cores, or by itself). */
uint32_t config_data_cores(const struct broker_config *b, uint32_t cpus);
/* Bytes for the whole broker (torc.memory, or half of what the machine or container has). */
uint64_t config_memory(const struct broker_config *b, uint64_t machine_bytes);

/* ---- resolve --------------------------------------------------------------------------------- */

struct config_entry {
    const char *name, *value;
};
/* What ConfigRecords say of one resource. Entries have distinct names. */
struct config_overrides {
    const struct config_entry *entries;
    uint32_t count;
};

struct config_layers {
    const struct config *node;       /* static; NULL: nothing is set */
    struct config_overrides broker;  /* dynamic, of this broker */
    struct config_overrides cluster; /* dynamic, of the broker resource named "" */
    bool elr; /* eligible.leader.replicas.version >= 1: guards min.insync.replicas */
};

/* Static values with the dynamic ones that torc honours laid over. Values that do not parse (they
 * were checked when they were altered) leave what is below them. */
void config_resolve_broker(const struct config_layers *l, struct broker_config *out);
/* What a topic with these overrides has. */
void config_resolve_topic(const struct config_layers *l, struct config_overrides topic,
                          struct topic_config *out);

/* ---- topic overrides ------------------------------------------------------------------------- */

struct config_refusal {
    enum kafka_error error; /* INVALID_CONFIG, INVALID_REQUEST, POLICY_VIOLATION... */
    char message[512];
};

/* Sets one field. NONE, or INVALID_CONFIG (unknown name, value of the wrong type or range) with
 * *config unchanged and Kafka's kind of sentence in refusal (may be NULL). */
NODISCARD enum kafka_error topic_config_apply(struct topic_config *config, const char *name,
                                              const char *value, struct config_refusal *refusal);
/* All overrides of a topic together, as CreateTopics and alterations check them: each value, then
 * what values mean for each other. false: refused. */
NODISCARD bool config_validate_topic(const struct config_layers *l, struct config_overrides topic,
                                     struct config_refusal *refusal);

#endif
