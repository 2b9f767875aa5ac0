/* The API: one file per kind of request, one line each in the table of api.c. What is in the table
 * is served, and what is served is advertised (ApiVersions); there is nothing in between. */
#ifndef BROKER_API_API_H
#define BROKER_API_API_H

#include "broker/flow.h"

struct api {
    int16_t key;
    int16_t min, max;       /* served */
    int16_t advertised_min; /* Produce says 0, for old librdkafka; 0-2 are then not served */
    bool hidden;            /* served, not advertised */
    /* Decodes the body and works on it until the flow is answered, now or later. */
    void (*start)(struct flow *f, struct wire_reader *body);
};

/* NULL: not served. */
const struct api *api_served(int16_t key);
/* For ApiVersions: all of them, ascending by key. */
const struct api *api_table(uint32_t *count);

void produce_start(struct flow *f, struct wire_reader *body);
void fetch_start(struct flow *f, struct wire_reader *body);
void list_offsets_start(struct flow *f, struct wire_reader *body);
void metadata_start(struct flow *f, struct wire_reader *body);
void api_versions_start(struct flow *f, struct wire_reader *body);
void create_topics_start(struct flow *f, struct wire_reader *body);
void delete_topics_start(struct flow *f, struct wire_reader *body);
void delete_records_start(struct flow *f, struct wire_reader *body);
void init_producer_id_start(struct flow *f, struct wire_reader *body);
void add_partitions_to_txn_start(struct flow *f, struct wire_reader *body);
void add_offsets_to_txn_start(struct flow *f, struct wire_reader *body);
void end_txn_start(struct flow *f, struct wire_reader *body);
void describe_transactions_start(struct flow *f, struct wire_reader *body);
void list_transactions_start(struct flow *f, struct wire_reader *body);
void offset_for_leader_epoch_start(struct flow *f, struct wire_reader *body);
void describe_configs_start(struct flow *f, struct wire_reader *body);
void alter_configs_start(struct flow *f, struct wire_reader *body);
void describe_log_dirs_start(struct flow *f, struct wire_reader *body);
void create_partitions_start(struct flow *f, struct wire_reader *body);
void elect_leaders_start(struct flow *f, struct wire_reader *body);
void incremental_alter_configs_start(struct flow *f, struct wire_reader *body);
void alter_partition_reassignments_start(struct flow *f, struct wire_reader *body);
void list_partition_reassignments_start(struct flow *f, struct wire_reader *body);
void describe_quorum_start(struct flow *f, struct wire_reader *body);
void update_features_start(struct flow *f, struct wire_reader *body);
void describe_cluster_start(struct flow *f, struct wire_reader *body);
void describe_producers_start(struct flow *f, struct wire_reader *body);
void unregister_broker_start(struct flow *f, struct wire_reader *body);
void describe_acls_start(struct flow *f, struct wire_reader *body);
void create_acls_start(struct flow *f, struct wire_reader *body);
void delete_acls_start(struct flow *f, struct wire_reader *body);
void get_telemetry_subscriptions_start(struct flow *f, struct wire_reader *body);
void push_telemetry_start(struct flow *f, struct wire_reader *body);
void list_config_resources_start(struct flow *f, struct wire_reader *body);
void describe_topic_partitions_start(struct flow *f, struct wire_reader *body);
void offset_commit_start(struct flow *f, struct wire_reader *body);
void offset_fetch_start(struct flow *f, struct wire_reader *body);
void find_coordinator_start(struct flow *f, struct wire_reader *body);
void join_group_start(struct flow *f, struct wire_reader *body);
void heartbeat_start(struct flow *f, struct wire_reader *body);
void leave_group_start(struct flow *f, struct wire_reader *body);
void sync_group_start(struct flow *f, struct wire_reader *body);
void describe_groups_start(struct flow *f, struct wire_reader *body);
void consumer_group_heartbeat_start(struct flow *f, struct wire_reader *body);
void consumer_group_describe_start(struct flow *f, struct wire_reader *body);
void list_groups_start(struct flow *f, struct wire_reader *body);
void delete_groups_start(struct flow *f, struct wire_reader *body);
void txn_offset_commit_start(struct flow *f, struct wire_reader *body);
void write_txn_markers_start(struct flow *f, struct wire_reader *body);
void offset_delete_start(struct flow *f, struct wire_reader *body);

#endif
