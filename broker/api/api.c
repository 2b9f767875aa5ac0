/* Which requests are served: the one table, sorted by key. A line here is a promise, advertised to
 * every client; tests compare the ranges with those of Kafka 4.3. */
#include "broker/api/api.h"

#include "broker/data_core.h"
#include "proto/gen/api.h"

static const struct api table[] = {
    {API_PRODUCE, 3, 13, 0, false, produce_start},
    {API_FETCH, 4, 18, 4, false, fetch_start},
    {API_LIST_OFFSETS, 1, 11, 1, false, list_offsets_start},
    {API_METADATA, 0, 13, 0, false, metadata_start},
    {API_OFFSET_COMMIT, 2, 10, 2, false, offset_commit_start},
    {API_OFFSET_FETCH, 1, 10, 1, false, offset_fetch_start},
    {API_FIND_COORDINATOR, 0, 6, 0, false, find_coordinator_start},
    {API_JOIN_GROUP, 0, 9, 0, false, join_group_start},
    {API_HEARTBEAT, 0, 4, 0, false, heartbeat_start},
    {API_LEAVE_GROUP, 0, 5, 0, false, leave_group_start},
    {API_SYNC_GROUP, 0, 5, 0, false, sync_group_start},
    {API_DESCRIBE_GROUPS, 0, 6, 0, false, describe_groups_start},
    {API_LIST_GROUPS, 0, 5, 0, false, list_groups_start},
    {API_API_VERSIONS, 0, 4, 0, false, api_versions_start},
    {API_CREATE_TOPICS, 2, 7, 2, false, create_topics_start},
    {API_DELETE_TOPICS, 1, 6, 1, false, delete_topics_start},
    {API_DELETE_RECORDS, 0, 2, 0, false, delete_records_start},
    {API_INIT_PRODUCER_ID, 0, 5, 0, false, init_producer_id_start},
    {API_OFFSET_FOR_LEADER_EPOCH, 2, 4, 2, false, offset_for_leader_epoch_start},
    {API_ADD_PARTITIONS_TO_TXN, 0, 5, 0, false, add_partitions_to_txn_start},
    {API_ADD_OFFSETS_TO_TXN, 0, 4, 0, false, add_offsets_to_txn_start},
    {API_END_TXN, 0, 5, 0, false, end_txn_start},
    {API_WRITE_TXN_MARKERS, 1, 2, 1, false, write_txn_markers_start},
    {API_TXN_OFFSET_COMMIT, 0, 5, 0, false, txn_offset_commit_start},
    {API_DESCRIBE_ACLS, 1, 3, 1, false, describe_acls_start},
    {API_CREATE_ACLS, 1, 3, 1, false, create_acls_start},
    {API_DELETE_ACLS, 1, 3, 1, false, delete_acls_start},
    {API_DESCRIBE_CONFIGS, 1, 4, 1, false, describe_configs_start},
    {API_ALTER_CONFIGS, 0, 2, 0, false, alter_configs_start},
    {API_DESCRIBE_LOG_DIRS, 1, 5, 1, false, describe_log_dirs_start},
    {API_CREATE_PARTITIONS, 0, 3, 0, false, create_partitions_start},
    {API_DELETE_GROUPS, 0, 2, 0, false, delete_groups_start},
    {API_ELECT_LEADERS, 0, 2, 0, false, elect_leaders_start},
    {API_INCREMENTAL_ALTER_CONFIGS, 0, 1, 0, false, incremental_alter_configs_start},
    {API_ALTER_PARTITION_REASSIGNMENTS, 0, 1, 0, false, alter_partition_reassignments_start},
    {API_LIST_PARTITION_REASSIGNMENTS, 0, 0, 0, false, list_partition_reassignments_start},
    {API_OFFSET_DELETE, 0, 0, 0, false, offset_delete_start},
    {API_DESCRIBE_QUORUM, 0, 2, 0, false, describe_quorum_start},
    {API_UPDATE_FEATURES, 0, 2, 0, false, update_features_start},
    {API_DESCRIBE_CLUSTER, 0, 2, 0, false, describe_cluster_start},
    {API_DESCRIBE_PRODUCERS, 0, 0, 0, false, describe_producers_start},
    {API_UNREGISTER_BROKER, 0, 0, 0, false, unregister_broker_start},
    {API_DESCRIBE_TRANSACTIONS, 0, 0, 0, false, describe_transactions_start},
    {API_LIST_TRANSACTIONS, 0, 2, 0, false, list_transactions_start},
    {API_CONSUMER_GROUP_HEARTBEAT, 0, 1, 0, false, consumer_group_heartbeat_start},
    {API_CONSUMER_GROUP_DESCRIBE, 0, 1, 0, false, consumer_group_describe_start},
    {API_GET_TELEMETRY_SUBSCRIPTIONS, 0, 0, 0, true, get_telemetry_subscriptions_start},
    {API_PUSH_TELEMETRY, 0, 0, 0, true, push_telemetry_start},
    {API_LIST_CONFIG_RESOURCES, 0, 1, 0, false, list_config_resources_start},
    {API_DESCRIBE_TOPIC_PARTITIONS, 0, 0, 0, false, describe_topic_partitions_start},
};

#define TABLE_COUNT (sizeof(table) / sizeof(table[0]))

_Static_assert(API_KEYS_MAX <= API_COUNTERS, "keys index counters");

const struct api *api_served(int16_t key)
{
    for (uint32_t i = 0; i < TABLE_COUNT; i++) {
        if (table[i].key == key)
            return &table[i];
    }
    return NULL;
}

const struct api *api_table(uint32_t *count)
{
    *count = TABLE_COUNT;
    return table;
}
