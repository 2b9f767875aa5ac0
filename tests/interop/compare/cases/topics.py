"""Topics: making, describing, growing and deleting them."""
from ..case import NOWHERE, Id, case


def create(*topics, **more):
    return {"topics": list(topics), "timeout_ms": 10000, **more}


def topic(name, partitions=1, replicas=1, **configs):
    return {"name": name, "num_partitions": partitions, "replication_factor": replicas,
            "configs": [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()]}


case("make a topic", "CreateTopics", "2-7", lambda v: create(topic(f"made-{v}", 2)))
case("only try to make one", "CreateTopics", "2-7", create(topic("tried", 2), validate_only=True))
case("the broker's defaults", "CreateTopics", "4-7", lambda v: create(topic(f"def-{v}", -1, -1)))
case("with configs", "CreateTopics", "2-7",
     lambda v: create(topic(f"conf-{v}", retention_ms="5000", cleanup_policy="compact")))
case("one that exists", "CreateTopics", "2-7", create(topic("plain")))
case("the same twice", "CreateTopics", "2-7", create(topic("twice"), topic("twice")))
case("no partitions", "CreateTopics", "2-7", create(topic("bad", 0)))
case("too many replicas", "CreateTopics", "2-7", create(topic("bad", 1, 3)))
case("no replicas", "CreateTopics", "2-7", create(topic("bad", 1, 0)))
case("an unknown config", "CreateTopics", "2-7", create(topic("bad", no_such="1")))
case("a bad config", "CreateTopics", "2-7", create(topic("bad", retention_ms="x")))
case("a null config", "CreateTopics", "5-7",
     create({**topic("bad"), "configs": [{"name": "retention.ms", "value": None}]}))
for n, name in enumerate(["", ".", "..", "a/b", "x" * 250, "sp ace", "__cluster_metadata"]):
    case(f"bad name {n}", "CreateTopics", "2-7", create(topic(name)))
case("an assignment", "CreateTopics", "2-7", lambda v: create(
    {"name": f"assigned-{v}", "num_partitions": -1, "replication_factor": -1,
     "assignments": [{"partition_index": p, "broker_ids": [1]} for p in range(2)]}))
case("an assignment and a count", "CreateTopics", "2-7", create(
    {**topic("bad", 2), "assignments": [{"partition_index": 0, "broker_ids": [1]}]}))
case("an assignment with a hole", "CreateTopics", "2-7", create(
    {"name": "bad", "num_partitions": -1, "replication_factor": -1,
     "assignments": [{"partition_index": p, "broker_ids": [1]} for p in (0, 2)]}))
case("an assignment to nobody", "CreateTopics", "2-7", create(
    {"name": "bad", "num_partitions": -1, "replication_factor": -1,
     "assignments": [{"partition_index": 0, "broker_ids": [9]}]}))
case("no topics at all", "CreateTopics", "2-7", create())

case("all topics", "Metadata", "1-13", {"topics": None, "allow_auto_topic_creation": False})
case("all topics, an empty list", "Metadata", "1-13", {"topics": []})
case("one topic", "Metadata", "0-13", {"topics": [{"name": "plain"}],
                                       "allow_auto_topic_creation": False})
case("several topics", "Metadata", "4-13", {
    "topics": [{"name": "plain"}, {"name": "small"}], "allow_auto_topic_creation": False})
case("the same topic twice", "Metadata", "4-13", {
    "topics": [{"name": "plain"}, {"name": "plain"}], "allow_auto_topic_creation": False})
case("an unknown topic", "Metadata", "4-13", {"topics": [{"name": "nowhere"}],
                                              "allow_auto_topic_creation": False})
case("a bad topic name", "Metadata", "4-13", {"topics": [{"name": "a/b"}],
                                              "allow_auto_topic_creation": False})
case("with operations", "Metadata", "8-13", {
    "topics": [{"name": "plain"}], "allow_auto_topic_creation": False,
    "include_cluster_authorized_operations": True, "include_topic_authorized_operations": True})
case("by id", "Metadata", "12-13", {"topics": [{"topic_id": Id("plain"), "name": None}]})
case("by an unknown id", "Metadata", "12-13", {"topics": [{"topic_id": NOWHERE, "name": None}]})
case("by id before it may be", "Metadata", "10-11",
     {"topics": [{"topic_id": Id("plain"), "name": None}]})
# Before topics that are made on the side, which Kafka does when it pleases.
case("all topics", "DescribeTopicPartitions", 0, {"topics": [], "response_partition_limit": 500})
case("make by asking", "Metadata", "4-13", lambda v: {
    "topics": [{"name": f"asked-{v}"}], "allow_auto_topic_creation": True})

case("one topic", "DescribeTopicPartitions", 0, {"topics": [{"name": "plain"}]})
case("an unknown topic", "DescribeTopicPartitions", 0, {"topics": [{"name": "nowhere"}]})
case("a page", "DescribeTopicPartitions", 0, {
    "topics": [{"name": "plain"}], "response_partition_limit": 2})
case("the next page", "DescribeTopicPartitions", 0, {
    "topics": [{"name": "plain"}, {"name": "small"}], "response_partition_limit": 2,
    "cursor": {"topic_name": "plain", "partition_index": 2}})
case("a bad cursor", "DescribeTopicPartitions", 0, {
    "topics": [{"name": "plain"}], "cursor": {"topic_name": "plain", "partition_index": -2}})

GROW = {"timeout_ms": 10000, "validate_only": False}
case("grow", "CreatePartitions", "0-3",
     lambda v: {**GROW, "topics": [{"name": "growing", "count": 2 + v, "assignments": None}]})
case("only try to grow", "CreatePartitions", "0-3", {
    **GROW, "validate_only": True, "topics": [{"name": "growing", "count": 9,
                                               "assignments": None}]})
case("grow to the same", "CreatePartitions", "0-3",
     {**GROW, "topics": [{"name": "growing", "count": 5, "assignments": None}]})
case("shrink", "CreatePartitions", "0-3",
     {**GROW, "topics": [{"name": "growing", "count": 1, "assignments": None}]})
case("grow nothing", "CreatePartitions", "0-3",
     {**GROW, "topics": [{"name": "nowhere", "count": 3, "assignments": None}]})
case("grow the same twice", "CreatePartitions", "0-3",
     {**GROW, "topics": [{"name": "growing", "count": 7, "assignments": None}] * 2})
case("grow with an assignment", "CreatePartitions", "0-3", lambda v: {**GROW, "topics": [
    {"name": "growing", "count": 6 + v, "assignments": [{"broker_ids": [1]}]}]})
case("grow with too many assignments", "CreatePartitions", "0-3", {**GROW, "topics": [
    {"name": "growing", "count": 10, "assignments": [{"broker_ids": [1]}] * 5}]})
case("grow on to nobody", "CreatePartitions", "0-3", {**GROW, "topics": [
    {"name": "growing", "count": 10, "assignments": [{"broker_ids": [9]}]}]})

case("a topic", "DeleteTopics", "1-5", lambda v: {"topic_names": [f"made-{v + 1}"],
                                                  "timeout_ms": 10000})
case("an unknown topic", "DeleteTopics", "1-5", {"topic_names": ["nowhere"], "timeout_ms": 10000})
case("a topic by name", "DeleteTopics", 6, {"topics": [{"name": "conf-2"}], "timeout_ms": 10000})
case("a topic by id", "DeleteTopics", 6, {"topics": [{"name": None, "topic_id": Id("doomed")}],
                                          "timeout_ms": 10000})
case("a topic by an unknown id", "DeleteTopics", 6, {
    "topics": [{"name": None, "topic_id": NOWHERE}], "timeout_ms": 10000})
case("a topic by name and id", "DeleteTopics", 6, {
    "topics": [{"name": "plain", "topic_id": Id("plain")}], "timeout_ms": 10000})
case("an unknown topic by name", "DeleteTopics", 6, {"topics": [{"name": "nowhere"}],
                                                     "timeout_ms": 10000})
