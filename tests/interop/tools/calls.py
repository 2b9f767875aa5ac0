"""The calls of Kafka's tools that two brokers must answer alike, in order, each with a name.

In the words of a call stand {b} for --bootstrap-server HOST:PORT, {dir} for a scratch folder. The state
a call leaves is what later calls see. A call whose tool is "file" writes its text into {dir}/name.
"""
from collections import namedtuple

Call = namedtuple("Call", "name tool words stdin alone", defaults=("", False))
CREATE, ALTER, DESCRIBE = "{b} --create --topic", "{b} --alter --topic", "{b} --describe"
READ = "{b} --timeout-ms 1200 --formatter-property print.offset=true --offset earliest --topic"
FULL = ("{b} --timeout-ms 1200 --formatter-property print.key=true --formatter-property "
        "print.headers=true --formatter-property print.offset=true --formatter-property "
        "print.timestamp=true --offset earliest --topic")
TEN = "".join(f"value-{n}\n" for n in range(10))
KEYED = "".join(f"h{n}:x\tkey-{n}\tvalue-{n}\n" for n in range(8))


def topics():
    t = "kafka-topics"
    yield Call("list topics of an empty broker", t, "{b} --list")
    yield Call("create a topic", t, f"{CREATE} plain --partitions 3 --replication-factor 1")
    yield Call("create a topic with defaults", t, f"{CREATE} defaults")
    yield Call("create a topic with configs", t, f"{CREATE} configured --partitions 2 --config "
               "retention.ms=3600000 --config cleanup.policy=compact,delete --config "
               "segment.bytes=2097152")
    yield Call("create a topic with an assignment", t, f"{CREATE} assigned --replica-assignment 1,1")
    yield Call("create a topic that exists", t, f"{CREATE} plain --partitions 3")
    yield Call("create unless it exists", t, f"{CREATE} plain --partitions 3 --if-not-exists")
    yield Call("create a topic with a bad name", t, f"{CREATE} bad/name")
    yield Call("create a topic whose name collides", t, f"{CREATE} a.b_c")
    yield Call("create a topic whose name collides, again", t, f"{CREATE} a_b.c")
    yield Call("create a topic with no partitions", t, f"{CREATE} none --partitions 0")
    yield Call("create a topic with too many replicas", t, f"{CREATE} many --replication-factor 3")
    yield Call("create a topic with an unknown config", t, f"{CREATE} odd --config no.such.key=1")
    yield Call("create a topic with a bad value", t, f"{CREATE} odd --config retention.ms=soon")
    yield Call("create a topic with a bad assignment", t, f"{CREATE} odd --replica-assignment 7,7")
    yield Call("list topics", t, "{b} --list --exclude-internal")
    for name in ("plain", "configured", "assigned", "defaults"):
        yield Call(f"describe {name}", t, f"{DESCRIBE} --topic {name}")
    yield Call("describe overrides", t, f"{DESCRIBE} --topics-with-overrides --topic configured")
    yield Call("describe under-replicated", t, f"{DESCRIBE} --under-replicated-partitions")
    yield Call("describe unavailable", t, f"{DESCRIBE} --unavailable-partitions")
    yield Call("describe an unknown topic", t, f"{DESCRIBE} --topic nowhere")
    yield Call("add partitions", t, f"{ALTER} plain --partitions 5")
    yield Call("take partitions away", t, f"{ALTER} plain --partitions 2")
    yield Call("add no partitions", t, f"{ALTER} plain --partitions 5")
    yield Call("add partitions to an unknown topic", t, f"{ALTER} nowhere --partitions 2")
    yield Call("add partitions with an assignment", t,
               f"{ALTER} assigned --partitions 3 --replica-assignment 1,1,1")
    yield Call("describe after adding", t, f"{DESCRIBE} --topic plain")
    yield Call("delete a topic", t, "{b} --delete --topic defaults")
    yield Call("delete an unknown topic", t, "{b} --delete --topic nowhere")
    yield Call("delete if it exists", t, "{b} --delete --topic nowhere --if-exists")
    yield Call("list topics after deleting", t, "{b} --list --exclude-internal")


def configs():
    t, topic, one = "kafka-configs", "--entity-type topics --entity-name", "--entity-type brokers " \
        "--entity-name 1"
    yield Call("describe topic configs", t, f"{DESCRIBE} {topic} configured")
    yield Call("describe all topic configs", t, f"{DESCRIBE} --all {topic} plain")
    yield Call("alter topic configs", t,
               f"{{b}} --alter {topic} plain --add-config max.message.bytes=200000,retention.ms=-1")
    yield Call("describe altered topic configs", t, f"{DESCRIBE} {topic} plain")
    yield Call("append to a list", t, f"{{b}} --alter {topic} plain --add-config "
               "cleanup.policy=[compact,delete]")
    yield Call("describe a list", t, f"{DESCRIBE} {topic} plain")
    yield Call("delete a topic config", t, f"{{b}} --alter {topic} plain --delete-config "
               "retention.ms,cleanup.policy")
    yield Call("describe after deleting a config", t, f"{DESCRIBE} {topic} plain")
    yield Call("delete a config that is not set", t,
               f"{{b}} --alter {topic} plain --delete-config retention.bytes")
    yield Call("alter an unknown topic", t,
               f"{{b}} --alter {topic} nowhere --add-config retention.ms=1000")
    yield Call("describe an unknown topic's configs", t, f"{DESCRIBE} {topic} nowhere")
    yield Call("alter an unknown key", t, f"{{b}} --alter {topic} plain --add-config no.such=1")
    yield Call("alter to a bad value", t, f"{{b}} --alter {topic} plain --add-config "
               "segment.bytes=3")
    yield Call("alter to no number", t, f"{{b}} --alter {topic} plain --add-config "
               "retention.bytes=much")
    yield Call("describe broker configs", t, f"{DESCRIBE} {one}")
    yield Call("describe all broker configs", t, f"{DESCRIBE} --all {one}")
    yield Call("alter broker configs", t, f"{{b}} --alter {one} --add-config "
               "message.max.bytes=2000000")
    yield Call("describe altered broker configs", t, f"{DESCRIBE} {one}")
    yield Call("alter the default of brokers", t,
               "{b} --alter --entity-type brokers --entity-default --add-config "
               "log.retention.ms=7200000")
    yield Call("describe the default of brokers", t,
               f"{DESCRIBE} --entity-type brokers --entity-default")
    yield Call("describe a topic's synonyms", t, f"{DESCRIBE} --all {topic} assigned")
    yield Call("delete the default of brokers", t,
               "{b} --alter --entity-type brokers --entity-default --delete-config "
               "log.retention.ms")
    yield Call("delete a broker config", t, f"{{b}} --alter {one} --delete-config "
               "message.max.bytes")
    yield Call("alter a static broker config", t, f"{{b}} --alter {one} --add-config node.id=7")


def records():
    p, c, o = "kafka-console-producer", "kafka-console-consumer", "kafka-get-offsets"
    topic = "kafka-topics"
    yield Call("create a topic for records", topic, f"{CREATE} one --partitions 1")
    yield Call("create a topic for codecs", topic, f"{CREATE} codecs --partitions 1")
    yield Call("produce values", p, "{b} --topic one --sync --timeout 1", TEN)
    yield Call("consume values", c, f"{READ} one --partition 0")
    yield Call("consume from an offset", c, "{b} --topic one --partition 0 --offset 7 "
               "--max-messages 3 --formatter-property print.offset=true")
    yield Call("consume from the end", c, "{b} --topic one --partition 0 --offset latest "
               "--timeout-ms 600")
    yield Call("consume beyond the end", c, "{b} --topic one --partition 0 --offset 8 "
               "--timeout-ms 1200")
    yield Call("consume an unknown topic", c, "{b} --topic nowhere --partition 0 --offset earliest "
               "--timeout-ms 600 --command-property allow.auto.create.topics=false")
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        yield Call(f"produce {codec}", p,
                   f"{{b}} --topic codecs --compression-codec {codec} --reader-property "
                   "parse.key=true --reader-property parse.headers=true", KEYED)
    yield Call("produce with acks 1", p, "{b} --topic codecs --request-required-acks 1", "one\n")
    yield Call("produce with acks 0", p, "{b} --topic codecs --request-required-acks 0", "nil\n")
    yield Call("consume all codecs", c, f"{FULL} codecs --partition 0")
    yield Call("create a small topic", topic, f"{CREATE} small --config max.message.bytes=100")
    yield Call("produce too large", p, "{b} --topic small --sync --timeout 1", "x" * 500 + "\n")
    yield Call("end offsets", o, "{b} --topic one")
    yield Call("begin offsets", o, "{b} --topic one --time earliest")
    yield Call("max-timestamp offsets", o, "{b} --topic one --time max-timestamp")
    yield Call("offsets by time 0", o, "{b} --topic one --time 0")
    yield Call("offsets of far future", o, "{b} --topic one --time 9999999999999")
    yield Call("offsets of all topics", o, "{b} --exclude-internal-topics")
    yield Call("offsets of partitions", o, "{b} --topic-partitions plain:0-2,codecs")
    yield Call("local offsets", o, "{b} --topic one --time earliest-local")
    yield Call("tiered offsets", o, "{b} --topic one --time latest-tiered")
    yield Call("offsets of an unknown topic", o, "{b} --topic nowhere")
    yield Call("first.json", "file", '{"version":1,"partitions":['
               '{"topic":"one","partition":0,"offset":4}]}')
    yield Call("beyond.json", "file", '{"version":1,"partitions":['
               '{"topic":"one","partition":0,"offset":4000}]}')
    yield Call("all.json", "file", '{"version":1,"partitions":['
               '{"topic":"codecs","partition":0,"offset":-1}]}')
    for name in ("first", "beyond", "all"):
        yield Call(f"delete records, {name}", "kafka-delete-records",
                   f"{{b}} --offset-json-file {{dir}}/{name}.json")
    yield Call("begin offsets after deleting", o, "{b} --exclude-internal-topics --time earliest")
    yield Call("consume after deleting", c, f"{READ} one --partition 0")


def cluster():
    d, m = "kafka-log-dirs", "kafka-metadata-quorum"
    yield Call("api versions", "kafka-broker-api-versions", "{b}")
    yield Call("cluster id", "kafka-cluster", "cluster-id {b}")
    yield Call("endpoints", "kafka-cluster", "list-endpoints {b}")
    yield Call("features", "kafka-features", "{b} describe")
    yield Call("quorum status", m, "{b} describe --status")
    yield Call("quorum replication", m, "{b} describe --replication")
    yield Call("log directories of a topic", d, "{b} --describe --topic-list one")
    yield Call("log directories of a broker", d, "{b} --describe --broker-list 1 --topic-list plain")
    yield Call("log directories of an unknown topic", d, "{b} --describe --topic-list nowhere")
    yield Call("elect preferred leaders", "kafka-leader-election",
               "{b} --election-type preferred --all-topic-partitions")
    yield Call("elect one preferred leader", "kafka-leader-election",
               "{b} --election-type preferred --topic plain --partition 1")
    yield Call("elect an unclean leader", "kafka-leader-election",
               "{b} --election-type unclean --topic plain --partition 1")
    yield Call("elect for an unknown topic", "kafka-leader-election",
               "{b} --election-type preferred --topic nowhere --partition 1")
    yield Call("list reassignments", "kafka-reassign-partitions", "{b} --list")
    yield Call("upgrade a feature to what it is", "kafka-features",
               "{b} upgrade --feature group.version=1")
    yield Call("upgrade an unknown feature", "kafka-features", "{b} upgrade --feature no.such=1")
    yield Call("upgrade a feature too far", "kafka-features",
               "{b} upgrade --feature group.version=9")


def load():
    yield Call("create a topic for load", "kafka-topics", f"{CREATE} load --partitions 4")
    # Answered once all partitions are served. Before, Kafka refuses a producer's first batch and may
    # take its second: then the first is out of order until the client gives up after two minutes.
    yield Call("end offsets before load", "kafka-get-offsets", "{b} --topic load")
    yield Call("producer performance", "kafka-producer-perf-test",
               "--topic load --num-records 20000 --record-size 200 --throughput -1 {b}")
    yield Call("producer performance, acks 1", "kafka-producer-perf-test",
               "--topic load --num-records 5000 --record-size 1000 --throughput -1 {b} "
               "--command-property acks=1 --command-property compression.type=lz4 "
               "--command-property enable.idempotence=false")
    yield Call("verifiable producer", "kafka-verifiable-producer",
               "{b} --topic load --max-messages 2000 --acks -1", alone=True)
    yield Call("end offsets after load", "kafka-get-offsets", "{b} --topic load")


def groups():
    g, new = "kafka-consumer-groups", "--group new"
    yield Call("consume as a new consumer", "kafka-console-consumer",
               "{b} --topic one --from-beginning --max-messages 6 --group new --timeout-ms 20000 "
               "--command-property group.protocol=consumer")
    yield Call("list groups of the new protocol", g, "{b} --list --type consumer")
    yield Call("list groups by state", g, "{b} --list --state Empty")
    yield Call("describe a group of the new protocol", g, f"{{b}} --describe {new} --verbose")
    yield Call("its state", g, f"{{b}} --describe {new} --state --verbose")
    yield Call("its members", g, f"{{b}} --describe {new} --members --verbose")
    yield Call("reset its offsets", g, f"{{b}} --reset-offsets {new} --topic one --to-offset 3 "
               "--execute")
    yield Call("configure it", "kafka-configs", "{b} --alter --entity-type groups --entity-name new "
               "--add-config consumer.session.timeout.ms=50000")
    yield Call("its configuration", "kafka-configs",
               "{b} --describe --entity-type groups --entity-name new")
    yield Call("delete it", g, f"{{b}} --delete {new}")


def calls():
    for part in (topics, configs, records, cluster, load, groups):
        yield from part()
