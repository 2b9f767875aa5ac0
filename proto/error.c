/* error: names, texts and the retriable bit of Kafka's error codes, as one table.
 *
 * The codes on the wire are -1 .. 133 without a gap, so the table is indexed by code + 1.
 *
 * Invariants:
 *  1. Row i describes code i - 1; a row that is missing would be a hole with a NULL name, and the
 *     size of the table is tied to the enum at compile time.
 *  2. The texts are ours and the names are Kafka's: programs compare names and numbers, people read
 *     the texts.
 *
 * Failure modes: a code that is not in the table (a newer broker, a flipped bit in a stored answer)
 * reads as UNKNOWN_SERVER_ERROR, which is not retriable. */
#include "proto/error.h"

#include <stddef.h>

#include "core/assert.h"

struct error_row {
    const char *name, *message;
    bool retriable;
};

/* clang-format off */
static const struct error_row rows[] = {
    {"UNKNOWN_SERVER_ERROR", "Something failed inside the broker.", false},
    {"NONE", "No error.", false},
    {"OFFSET_OUT_OF_RANGE", "The offset asked for is outside what this partition holds.", false},
    {"CORRUPT_MESSAGE",
     "The record batch is damaged: its checksum, size or layout is wrong.", true},
    {"UNKNOWN_TOPIC_OR_PARTITION", "No such topic or partition on this broker.", true},
    {"INVALID_FETCH_SIZE", "The fetch size is not valid.", false},
    {"LEADER_NOT_AVAILABLE", "The partition has no leader at the moment.", true},
    {"NOT_LEADER_OR_FOLLOWER",
     "This broker does not serve the partition in the role the request needs.", true},
    {"REQUEST_TIMED_OUT", "The request was not completed in time.", true},
    {"BROKER_NOT_AVAILABLE", "The broker cannot be reached.", false},
    {"REPLICA_NOT_AVAILABLE", "The partition's replica cannot be used here.", true},
    {"MESSAGE_TOO_LARGE", "The record batch is larger than the topic accepts.", false},
    {"STALE_CONTROLLER_EPOCH", "A newer controller has taken over.", false},
    {"OFFSET_METADATA_TOO_LARGE", "The text stored with the offset is too long.", false},
    {"NETWORK_EXCEPTION", "The connection broke before the answer arrived.", true},
    {"COORDINATOR_LOAD_IN_PROGRESS", "The coordinator is still reading its state.", true},
    {"COORDINATOR_NOT_AVAILABLE", "There is no coordinator at the moment.", true},
    {"NOT_COORDINATOR", "Another broker coordinates this.", true},
    {"INVALID_TOPIC_EXCEPTION", "The topic's name or kind does not allow this.", false},
    {"RECORD_LIST_TOO_LARGE", "The record batch does not fit into one segment.", false},
    {"NOT_ENOUGH_REPLICAS", "Too few replicas are in sync to accept the write.", true},
    {"NOT_ENOUGH_REPLICAS_AFTER_APPEND",
     "Written, but too few replicas stayed in sync to confirm it.", true},
    {"INVALID_REQUIRED_ACKS", "acks must be -1, 0 or 1.", false},
    {"ILLEGAL_GENERATION", "The member's generation is not the group's.", false},
    {"INCONSISTENT_GROUP_PROTOCOL",
     "The member shares no protocol with the rest of the group.", false},
    {"INVALID_GROUP_ID", "The group id is not valid.", false},
    {"UNKNOWN_MEMBER_ID", "The group has no such member.", false},
    {"INVALID_SESSION_TIMEOUT", "The session timeout is outside the broker's limits.", false},
    {"REBALANCE_IN_PROGRESS", "The group is rebalancing: join again.", false},
    {"INVALID_COMMIT_OFFSET_SIZE", "The committed offset is too large to store.", false},
    {"TOPIC_AUTHORIZATION_FAILED", "Not allowed on this topic.", false},
    {"GROUP_AUTHORIZATION_FAILED", "Not allowed on this group.", false},
    {"CLUSTER_AUTHORIZATION_FAILED", "Not allowed on this cluster.", false},
    {"INVALID_TIMESTAMP", "A record's timestamp is outside what the topic accepts.", false},
    {"UNSUPPORTED_SASL_MECHANISM", "This SASL mechanism is not enabled.", false},
    {"ILLEGAL_SASL_STATE", "The request does not fit the state of the authentication.", false},
    {"UNSUPPORTED_VERSION", "This version of the request is not served.", false},
    {"TOPIC_ALREADY_EXISTS", "There is a topic of this name already.", false},
    {"INVALID_PARTITIONS", "The number of partitions is not valid.", false},
    {"INVALID_REPLICATION_FACTOR",
     "The replication factor is below one or above the number of brokers.", false},
    {"INVALID_REPLICA_ASSIGNMENT", "The replica assignment is not valid.", false},
    {"INVALID_CONFIG", "The configuration is not valid.", false},
    {"NOT_CONTROLLER", "Another node is the controller.", true},
    {"INVALID_REQUEST", "The request contradicts itself or its version.", false},
    {"UNSUPPORTED_FOR_MESSAGE_FORMAT", "The stored record format cannot do this.", false},
    {"POLICY_VIOLATION", "A policy of this cluster forbids it.", false},
    {"OUT_OF_ORDER_SEQUENCE_NUMBER",
     "The producer's sequence number does not follow the last one.", false},
    {"DUPLICATE_SEQUENCE_NUMBER", "The producer's sequence number was used before.", false},
    {"INVALID_PRODUCER_EPOCH", "The producer's epoch is older than the current one.", false},
    {"INVALID_TXN_STATE", "The transaction's state does not allow this.", false},
    {"INVALID_PRODUCER_ID_MAPPING",
     "The producer id does not belong to this transactional id.", false},
    {"INVALID_TRANSACTION_TIMEOUT", "The transaction timeout is above the broker's limit.", false},
    {"CONCURRENT_TRANSACTIONS",
     "The previous operation on this transaction is not finished.", true},
    {"TRANSACTION_COORDINATOR_FENCED", "A newer transaction coordinator has taken over.", false},
    {"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "Not allowed on this transactional id.", false},
    {"SECURITY_DISABLED", "Security features are switched off.", false},
    {"OPERATION_NOT_ATTEMPTED", "Not tried, because another part of the request failed.", false},
    {"KAFKA_STORAGE_ERROR", "The log directory of this partition has failed.", true},
    {"LOG_DIR_NOT_FOUND", "The broker has no such log directory.", false},
    {"SASL_AUTHENTICATION_FAILED", "Authentication failed.", false},
    {"UNKNOWN_PRODUCER_ID", "Nothing is known of this producer id here.", false},
    {"REASSIGNMENT_IN_PROGRESS", "The partition is being reassigned.", false},
    {"DELEGATION_TOKEN_AUTH_DISABLED", "Delegation tokens are switched off.", false},
    {"DELEGATION_TOKEN_NOT_FOUND", "No such delegation token.", false},
    {"DELEGATION_TOKEN_OWNER_MISMATCH", "The delegation token belongs to someone else.", false},
    {"DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
     "Delegation tokens cannot be asked for on this connection.", false},
    {"DELEGATION_TOKEN_AUTHORIZATION_FAILED", "Not allowed on this delegation token.", false},
    {"DELEGATION_TOKEN_EXPIRED", "The delegation token has expired.", false},
    {"INVALID_PRINCIPAL_TYPE", "This type of principal is not supported.", false},
    {"NON_EMPTY_GROUP", "The group still has members.", false},
    {"GROUP_ID_NOT_FOUND", "No such group.", false},
    {"FETCH_SESSION_ID_NOT_FOUND", "No such fetch session.", true},
    {"INVALID_FETCH_SESSION_EPOCH", "The fetch session is at another epoch.", true},
    {"LISTENER_NOT_FOUND", "The leader has no listener like the one this request came to.", true},
    {"TOPIC_DELETION_DISABLED", "Deleting topics is switched off.", false},
    {"FENCED_LEADER_EPOCH", "The leader epoch in the request is older than the broker's.", true},
    {"UNKNOWN_LEADER_EPOCH", "The leader epoch in the request is newer than the broker's.", true},
    {"UNSUPPORTED_COMPRESSION_TYPE",
     "The request's version cannot carry this compression codec.", false},
    {"STALE_BROKER_EPOCH", "The broker has registered anew since.", false},
    {"OFFSET_NOT_AVAILABLE", "A new leader cannot vouch for this offset yet.", true},
    {"MEMBER_ID_REQUIRED", "Join again with the member id given in this answer.", false},
    {"PREFERRED_LEADER_NOT_AVAILABLE", "The preferred leader is not available.", true},
    {"GROUP_MAX_SIZE_REACHED", "The group is full.", false},
    {"FENCED_INSTANCE_ID", "Another member has taken over this static member's id.", false},
    {"ELIGIBLE_LEADERS_NOT_AVAILABLE", "No replica is eligible to lead.", true},
    {"ELECTION_NOT_NEEDED", "The partition has the leader it should have.", true},
    {"NO_REASSIGNMENT_IN_PROGRESS", "The partition is not being reassigned.", false},
    {"GROUP_SUBSCRIBED_TO_TOPIC", "The group is subscribed to the topic.", false},
    {"INVALID_RECORD", "The record batch breaks a rule of the broker or the topic.", false},
    {"UNSTABLE_OFFSET_COMMIT", "An open transaction still holds these offsets.", true},
    {"THROTTLING_QUOTA_EXCEEDED", "The quota is used up for now.", true},
    {"PRODUCER_FENCED", "A newer producer with this transactional id has taken over.", false},
    {"RESOURCE_NOT_FOUND", "The request names something that does not exist.", false},
    {"DUPLICATE_RESOURCE", "The request names the same thing twice.", false},
    {"UNACCEPTABLE_CREDENTIAL", "The credential does not meet the rules.", false},
    {"INCONSISTENT_VOTER_SET", "One of the two nodes is not a voter.", false},
    {"INVALID_UPDATE_VERSION", "The version to update to is not valid.", false},
    {"FEATURE_UPDATE_FAILED", "The features could not be updated.", false},
    {"PRINCIPAL_DESERIALIZATION_FAILURE", "The forwarded principal could not be read.", false},
    {"SNAPSHOT_NOT_FOUND", "No such snapshot.", false},
    {"POSITION_OUT_OF_RANGE", "The position is outside the snapshot.", false},
    {"UNKNOWN_TOPIC_ID", "No topic with this id on this broker.", true},
    {"DUPLICATE_BROKER_REGISTRATION", "Another broker is registered under this id.", false},
    {"BROKER_ID_NOT_REGISTERED", "No broker is registered under this id.", false},
    {"INCONSISTENT_TOPIC_ID", "The log belongs to a topic with another id.", true},
    {"INCONSISTENT_CLUSTER_ID", "The request is meant for another cluster.", false},
    {"TRANSACTIONAL_ID_NOT_FOUND", "No such transactional id.", false},
    {"FETCH_SESSION_TOPIC_ID_ERROR",
     "Topic names and topic ids do not mix within one fetch session.", true},
    {"INELIGIBLE_REPLICA", "A replica proposed for the ISR may not be in it.", false},
    {"NEW_LEADER_ELECTED", "Done, and the partition has a new leader now.", false},
    {"OFFSET_MOVED_TO_TIERED_STORAGE", "The offset is in remote storage.", false},
    {"FENCED_MEMBER_EPOCH",
     "The member's epoch is old: give up all partitions and join again.", false},
    {"UNRELEASED_INSTANCE_ID",
     "The static member that holds this instance id has not left yet.", false},
    {"UNSUPPORTED_ASSIGNOR", "The group cannot use this assignor.", false},
    {"STALE_MEMBER_EPOCH", "The member must learn its new epoch from a heartbeat first.", false},
    {"MISMATCHED_ENDPOINT_TYPE", "The request came to the wrong kind of endpoint.", false},
    {"UNSUPPORTED_ENDPOINT_TYPE", "This kind of endpoint is not supported.", false},
    {"UNKNOWN_CONTROLLER_ID", "No controller with this id.", false},
    {"UNKNOWN_SUBSCRIPTION_ID", "The telemetry subscription is unknown or out of date.", false},
    {"TELEMETRY_TOO_LARGE", "The telemetry push is larger than the broker accepts.", false},
    {"INVALID_REGISTRATION", "The controller refuses this broker's registration.", false},
    {"TRANSACTION_ABORTABLE",
     "The transaction failed and must be aborted; the producer may go on.", false},
    {"INVALID_RECORD_STATE", "The record is not in a state that can be acknowledged so.", false},
    {"SHARE_SESSION_NOT_FOUND", "No such share session.", true},
    {"INVALID_SHARE_SESSION_EPOCH", "The share session is at another epoch.", true},
    {"FENCED_STATE_EPOCH", "The share group's state epoch has moved on.", false},
    {"INVALID_VOTER_KEY", "The voter key is not this node's.", false},
    {"DUPLICATE_VOTER", "The node is a voter already.", false},
    {"VOTER_NOT_FOUND", "The node is not a voter.", false},
    {"INVALID_REGULAR_EXPRESSION", "The pattern cannot be parsed.", false},
    {"REBOOTSTRAP_REQUIRED", "Start again from the bootstrap servers.", false},
    {"STREAMS_INVALID_TOPOLOGY", "The topology is not valid.", false},
    {"STREAMS_INVALID_TOPOLOGY_EPOCH", "The topology epoch is not valid.", false},
    {"STREAMS_TOPOLOGY_FENCED", "The topology epoch is out of date.", false},
    {"SHARE_SESSION_LIMIT_REACHED", "No more share sessions are possible here.", true},
};
/* clang-format on */

#define ROWS_COUNT (KAFKA_ERROR_MAX - KAFKA_ERROR_MIN + 1)
_Static_assert(sizeof(rows) / sizeof(rows[0]) == ROWS_COUNT, "one row for each code");

static const struct error_row *row_of(enum kafka_error error)
{
    int code = error;
    if (code < KAFKA_ERROR_MIN || code > KAFKA_ERROR_MAX)
        code = KE_UNKNOWN_SERVER_ERROR;
    const struct error_row *row = &rows[code - KAFKA_ERROR_MIN];
    assert(row->name != NULL);
    assert(row->message != NULL);
    return row;
}

bool kafka_error_known(int16_t code)
{
    return code >= KAFKA_ERROR_MIN && code <= KAFKA_ERROR_MAX;
}

const char *kafka_error_name(enum kafka_error error)
{
    return row_of(error)->name;
}

const char *kafka_error_message(enum kafka_error error)
{
    return row_of(error)->message;
}

bool kafka_error_retriable(enum kafka_error error)
{
    return row_of(error)->retriable;
}
