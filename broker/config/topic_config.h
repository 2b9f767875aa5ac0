/* struct topic_config: what a topic's configuration means, typed: the broker's defaults with the
 * topic's overrides laid over. Immutable once published; shared by all cores. Names, units and
 * defaults are Kafka's (LogConfig, TopicConfig); the table behind it is in config_table. */
#ifndef BROKER_CONFIG_TOPIC_CONFIG_H
#define BROKER_CONFIG_TOPIC_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum cleanup_policy { CLEANUP_NONE = 0, CLEANUP_DELETE = 1, CLEANUP_COMPACT = 2 }; /* bits */

enum compression_type { /* values 0-4 are the codec ids of a record batch */
                        COMPRESSION_UNCOMPRESSED = 0,
                        COMPRESSION_GZIP = 1,
                        COMPRESSION_SNAPPY = 2,
                        COMPRESSION_LZ4 = 3,
                        COMPRESSION_ZSTD = 4,
                        COMPRESSION_PRODUCER = 5,
};

struct topic_config {
    uint32_t cleanup_policy; /* bits of enum cleanup_policy */
    enum compression_type compression_type;
    int32_t compression_gzip_level, compression_lz4_level, compression_zstd_level;
    int64_t retention_ms, retention_bytes; /* -1: no limit */
    int32_t segment_bytes, segment_index_bytes, index_interval_bytes;
    int64_t segment_ms, segment_jitter_ms;
    int32_t max_message_bytes;
    int64_t flush_messages, flush_ms; /* INT64_MAX: never */
    int64_t file_delete_delay_ms, delete_retention_ms;
    int64_t min_compaction_lag_ms, max_compaction_lag_ms;
    double min_cleanable_dirty_ratio;
    bool log_append_time; /* message.timestamp.type */
    int64_t timestamp_before_max_ms, timestamp_after_max_ms;
    int32_t min_insync_replicas;
    bool unclean_leader_election, preallocate;
    bool remote_storage_enable;
    bool write_caching; /* torc's own: ack after the page-cache write, Kafka's guarantee */
};

/* Every field at Kafka 4.3's default. */
struct topic_config topic_config_default(void);

#endif
