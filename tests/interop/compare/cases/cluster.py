"""The cluster: versions, configurations, features, quorum, directories."""
from ..case import case

CLIENT = {"client_software_name": "torc-test", "client_software_version": "1.0"}
case("versions", "ApiVersions", "0-4", CLIENT)
case("versions in an unknown version", "ApiVersions", 9, body=b"", answer_version=0)
case("versions in a far version", "ApiVersions", 999, body=b"\0\0\0", answer_version=0)
case("a bad software name", "ApiVersions", "3-4", {**CLIENT, "client_software_name": "!"})
case("an empty software name", "ApiVersions", "3-4", {**CLIENT, "client_software_name": ""})
case("a body cut short", "Metadata", 4, body=b"\0\0")
case("bytes after the body", "Metadata", 1, body=b"\0\0\0\0more")
case("an unknown version", "Metadata", 77, body=b"\0\0\0\0")
case("a negative count", "Produce", 3, body=b"\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xfe")
case("an absurd count", "Metadata", 4, body=b"\x7f\xff\xff\xff\0")
case("Produce 0", "Produce", 0, body=b"\0\1\0\0\3\xe8\0\0\0\0")
case("Produce 2", "Produce", 2, body=b"\0\1\0\0\3\xe8\0\0\0\0")
case("Fetch 3", "Fetch", 3, body=b"\xff\xff\xff\xff" + bytes(16))

case("the cluster", "DescribeCluster", "0-2", {})
case("with operations", "DescribeCluster", "0-2", {"include_cluster_authorized_operations": True})
case("the controllers", "DescribeCluster", "1-2", {"endpoint_type": 2})
case("a strange kind", "DescribeCluster", "1-2", {"endpoint_type": 7})
case("fenced ones too", "DescribeCluster", 2, {"include_fenced_brokers": True})

TOPIC, BROKER, LOGGER = 2, 4, 8


def describe(kind, name, keys=None, synonyms=True, documentation=False):
    return {"resources": [{"resource_type": kind, "resource_name": name,
                           "configuration_keys": keys}],
            "include_synonyms": synonyms, "include_documentation": documentation}


SOME = ["retention.ms", "cleanup.policy", "max.message.bytes", "no.such.key", "segment.bytes"]
case("a topic", "DescribeConfigs", "1-4", describe(TOPIC, "small"))
case("some of a topic", "DescribeConfigs", "1-4", describe(TOPIC, "small", SOME))
case("none of a topic", "DescribeConfigs", "1-4", describe(TOPIC, "small", []))
case("without synonyms", "DescribeConfigs", "1-4", describe(TOPIC, "small", SOME, False))
case("an unknown topic", "DescribeConfigs", "1-4", describe(TOPIC, "nowhere"))
case("a bad topic", "DescribeConfigs", "1-4", describe(TOPIC, "a/b"))
case("the broker", "DescribeConfigs", "1-4", describe(BROKER, "1"))
case("some of the broker", "DescribeConfigs", "1-4", describe(
    BROKER, "1", ["num.partitions", "log.retention.hours", "cleanup.policy", "node.id",
                  "default.replication.factor", "auto.create.topics.enable", "listeners"]))
case("the default of brokers", "DescribeConfigs", "1-4", describe(BROKER, ""))
case("another broker", "DescribeConfigs", "1-4", describe(BROKER, "9"))
case("no broker", "DescribeConfigs", "1-4", describe(BROKER, "x"))
case("a strange kind", "DescribeConfigs", "1-4", describe(99, "x"))

SET, DELETE, APPEND, SUBTRACT = range(4)


def alter(kind, name, *changes, validate=False):
    return {"validate_only": validate, "resources": [
        {"resource_type": kind, "resource_name": name, "configs": [
            {"name": k, "config_operation": op, "value": v} for op, k, v in changes]}]}


for name, values in (
        ("set", alter(TOPIC, "altered", (SET, "retention.ms", "77000"))),
        ("only try to set", alter(TOPIC, "altered", (SET, "retention.ms", "1"), validate=True)),
        ("append", alter(TOPIC, "altered", (APPEND, "cleanup.policy", "compact"))),
        ("subtract", alter(TOPIC, "altered", (SUBTRACT, "cleanup.policy", "delete"))),
        ("append to no list", alter(TOPIC, "altered", (APPEND, "retention.ms", "1"))),
        ("delete", alter(TOPIC, "altered", (DELETE, "retention.ms", None))),
        ("the same key twice", alter(TOPIC, "altered", (SET, "retention.ms", "1"),
                                     (SET, "retention.ms", "2"))),
        ("an unknown key", alter(TOPIC, "altered", (SET, "no.such", "1"))),
        ("no number", alter(TOPIC, "altered", (SET, "retention.ms", "soon"))),
        ("out of bounds", alter(TOPIC, "altered", (SET, "segment.bytes", "1"))),
        ("no policy", alter(TOPIC, "altered", (SET, "cleanup.policy", "shred"))),
        ("a null value", alter(TOPIC, "altered", (SET, "retention.ms", None))),
        ("a strange operation", alter(TOPIC, "altered", (9, "retention.ms", "1"))),
        ("an unknown topic", alter(TOPIC, "nowhere", (SET, "retention.ms", "1"))),
        ("a bad topic", alter(TOPIC, "a/b", (SET, "retention.ms", "1"))),
        ("the broker", alter(BROKER, "1", (SET, "log.retention.ms", "99000000"))),
        ("the broker back", alter(BROKER, "1", (DELETE, "log.retention.ms", None))),
        ("a static key", alter(BROKER, "1", (SET, "node.id", "2"))),
        ("no broker", alter(BROKER, "x", (SET, "log.retention.ms", "1"))),
        ("a strange kind", alter(99, "x", (SET, "a", "b"))),
        ("nothing", {"resources": []})):
    case(name, "IncrementalAlterConfigs", "0-1", values)
case("the altered topic", "DescribeConfigs", 4, describe(TOPIC, "altered"))


def replace(kind, name, validate=False, **configs):
    return {"validate_only": validate, "resources": [
        {"resource_type": kind, "resource_name": name, "configs": [
            {"name": k.replace("_", "."), "value": v} for k, v in configs.items()]}]}


case("replace all", "AlterConfigs", "0-2", replace(TOPIC, "altered", retention_ms="88000"))
case("replace all by nothing", "AlterConfigs", "0-2", replace(TOPIC, "altered"))
case("only try", "AlterConfigs", "0-2", replace(TOPIC, "altered", True, retention_ms="1"))
case("an unknown key", "AlterConfigs", "0-2", replace(TOPIC, "altered", no_such="1"))
case("an unknown topic", "AlterConfigs", "0-2", replace(TOPIC, "nowhere", retention_ms="1"))
case("a strange kind", "AlterConfigs", "0-2", replace(99, "x", a="b"))

case("all kinds", "ListConfigResources", "0-1", {})
case("topics", "ListConfigResources", 1, {"resource_types": [TOPIC]})
case("brokers", "ListConfigResources", 1, {"resource_types": [BROKER]})
case("a strange kind", "ListConfigResources", 1, {"resource_types": [99]})

case("some", "DescribeLogDirs", "1-5", {"topics": [{"topic": "small", "partitions": [0]}]})
case("an unknown topic", "DescribeLogDirs", "1-5", {"topics": [{"topic": "nowhere",
                                                               "partitions": [0]}]})
case("none", "DescribeLogDirs", "1-5", {"topics": []})

QUORUM = {"topics": [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]}
case("the quorum", "DescribeQuorum", "0-2", QUORUM)
case("another topic's quorum", "DescribeQuorum", "0-2", {
    "topics": [{"topic_name": "plain", "partitions": [{"partition_index": 0}]}]})


def elect(kind, *parts):
    return {"election_type": kind, "timeout_ms": 5000, "topic_partitions": [
        {"topic": t, "partitions": p} for t, p in parts]}


case("the preferred", "ElectLeaders", "0-2", elect(0, ("plain", [0, 1])))
case("an unclean one", "ElectLeaders", "1-2", elect(1, ("plain", [0])))
case("for an unknown topic", "ElectLeaders", "0-2", elect(0, ("nowhere", [0])))
case("for an unknown partition", "ElectLeaders", "0-2", elect(0, ("plain", [77])))

case("all", "ListPartitionReassignments", 0, {"timeout_ms": 5000, "topics": None})
case("some", "ListPartitionReassignments", 0, {"timeout_ms": 5000, "topics": [
    {"name": "plain", "partition_indexes": [0]}]})
case("an unknown topic", "ListPartitionReassignments", 0, {"timeout_ms": 5000, "topics": [
    {"name": "nowhere", "partition_indexes": [0]}]})
case("to where it is", "AlterPartitionReassignments", "0-1", {"timeout_ms": 5000, "topics": [
    {"name": "plain", "partitions": [{"partition_index": 0, "replicas": [1]}]}]})
case("to nobody", "AlterPartitionReassignments", "0-1", {"timeout_ms": 5000, "topics": [
    {"name": "plain", "partitions": [{"partition_index": 0, "replicas": [9]}]}]})
case("cancel none", "AlterPartitionReassignments", "0-1", {"timeout_ms": 5000, "topics": [
    {"name": "plain", "partitions": [{"partition_index": 0, "replicas": None}]}]})


def update(feature, level, **more):
    return {"timeout_ms": 5000, "feature_updates": [
        {"feature": feature, "max_version_level": level, "upgrade_type": 1, **more}]}


case("a feature as it is", "UpdateFeatures", "0-2", update("group.version", 1))
case("an unknown feature", "UpdateFeatures", "0-2", update("no.such", 1))
case("a feature too far", "UpdateFeatures", "0-2", update("group.version", 99))
case("only try", "UpdateFeatures", "1-2", {**update("group.version", 1), "validate_only": True})
case("no features", "UpdateFeatures", "0-2", {"timeout_ms": 5000, "feature_updates": []})

case("telemetry", "GetTelemetrySubscriptions", 0, {"client_instance_id": bytes(16)})
case("telemetry of an unknown client", "PushTelemetry", 0, {
    "client_instance_id": b"0123456789abcdef", "subscription_id": 5, "metrics": b""})
ANY = {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1}
ENTRY = {"resource_type": 2, "resource_name": "plain", "resource_pattern_type": 3, "operation": 3,
         "principal": "User:a", "host": "*", "permission_type": 3}
case("acls", "DescribeAcls", "1-3", ANY)
case("acls of a topic", "DescribeAcls", "1-3", {**ANY, "resource_type_filter": 2,
                                                "resource_name_filter": "plain"})
for name in ANY:
    for code in (0, 99):
        case(f"acls, {name} {code}", "DescribeAcls", "1-3", {**ANY, name: code})
case("two acls", "CreateAcls", "1-3", {"creations": [ENTRY, {**ENTRY, "operation": 4}]})
case("no acls", "CreateAcls", "1-3", {"creations": []})
case("an acl of nothing", "CreateAcls", "1-3", {"creations": [{**ENTRY, "resource_type": 0}]})
case("all acls go", "DeleteAcls", "1-3", {"filters": [ANY, ANY]})
case("no acls go", "DeleteAcls", "1-3", {"filters": []})
case("an acl of a strange kind", "CreateAcls", "1-3", {"creations": [{**ENTRY, "operation": 99}]})
case("acls of a strange kind go", "DeleteAcls", "1-3", {"filters": [{**ANY, "operation": 99}]})
case("acls of nothing go", "DeleteAcls", "1-3", {"filters": [{**ANY, "permission_type": 0}]})
case("quotas", "DescribeClientQuotas", "0-1", {"components": [], "strict": False})
case("scram", "DescribeUserScramCredentials", 0, {"users": None})
case("no handshake here", "SaslHandshake", "0-1", {"mechanism": "PLAIN"})
case("no authentication here", "SaslAuthenticate", "0-2", {"auth_bytes": b"x"})
case("tokens", "DescribeDelegationToken", "1-3", {"owners": None})
case("directories of replicas", "AlterReplicaLogDirs", "1-2", {"dirs": [
    {"path": "/nowhere", "topics": [{"name": "plain", "partitions": [0]}]}]})
