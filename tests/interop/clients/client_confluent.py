"""confluent-kafka, which is the current librdkafka: write ADDRESS, or read ADDRESS TOPIC..."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from confluent_kafka import (OFFSET_BEGINNING, Consumer, KafkaError, KafkaException,  # noqa: E402
                             Producer, TopicPartition)
from confluent_kafka.admin import (AdminClient, ConfigResource, NewPartitions,  # noqa: E402
                                   NewTopic, OffsetSpec)
from harness.report import Report  # noqa: E402
from interop.clients.dataset import *  # noqa: E402,F403

WAIT_S = 40


def consumer(address, **more):
    return Consumer({"bootstrap.servers": address, "group.id": "unused",
                     "enable.auto.commit": False, "enable.partition.eof": True,
                     "fetch.wait.max.ms": 50, **more})


def finish(futures):
    return {k: f.result(WAIT_S) for k, f in futures.items()}


def create(admin, name, partitions=PARTITIONS, **config):
    finish(admin.create_topics([NewTopic(name, partitions, 1, config=config)]))


def write_codec(address, codec):
    create(AdminClient({"bootstrap.servers": address}), f"confluent-{codec}")
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 20,
                         "compression.type": codec, "message.timeout.ms": WAIT_S * 1000})
    got = {}

    def delivered(i):
        def call(error, message):
            got[i] = error or message.offset()
        return call

    for i in range(COUNT):
        producer.produce(f"confluent-{codec}", value_of(i), key_of(i), i % PARTITIONS,
                         on_delivery=delivered(i), timestamp=timestamp_of(i),
                         headers=headers_of(i))
        producer.poll(0)
    expect(producer.flush(WAIT_S) == 0, "not all records were delivered in time")
    wrong = {i: got[i] for i in range(COUNT) if got[i] != i // PARTITIONS}
    expect(not wrong, f"offsets: {str(wrong)[:300]}")


def read_topic(c, topic):
    c.list_topics(topic, WAIT_S)
    c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    seen, ends = 0, set()
    expected = [0] * PARTITIONS
    while len(ends) < PARTITIONS:
        message = c.poll(WAIT_S)
        expect(message is not None, f"nothing came, {seen} records so far")
        if message.error():
            expect(message.error().code() == KafkaError._PARTITION_EOF, str(message.error()))
            ends.add(message.partition())
            continue
        p = message.partition()
        expect(message.offset() == expected[p], f"offset {message.offset()} for {expected[p]}")
        expected[p] += 1
        seen += 1
        check_record(p, message.offset(), message.key(), message.value(), message.headers(),
                     message.timestamp()[1])
    expect(seen == COUNT, f"{seen} records for {COUNT}")


def offsets_and_times(address):
    c = consumer(address)
    for p in range(PARTITIONS):
        low, high = c.get_watermark_offsets(TopicPartition("confluent-none", p), WAIT_S)
        expect((low, high) == (0, COUNT // PARTITIONS), f"watermarks {low}, {high}")
    ask = [TopicPartition("confluent-none", p, timestamp_of(300)) for p in range(PARTITIONS)]
    found = [t.offset for t in c.offsets_for_times(ask, WAIT_S)]
    expect(found == [100, 100, 100], f"offsets of record 300's time: {found}")
    ask = [TopicPartition("confluent-none", 0, timestamp_of(COUNT))]
    expect(c.offsets_for_times(ask, WAIT_S)[0].offset == -1, "a time after the end has an offset")
    c.assign([TopicPartition("confluent-none", 1, 150)])
    message = c.poll(WAIT_S)
    expect(message.offset() == 150, f"sought 150, got {message.offset()}")
    c.close()


def out_of_range(address):
    c = consumer(address, **{"auto.offset.reset": "error"})
    c.assign([TopicPartition("confluent-none", 0, 10_000)])
    message = c.poll(WAIT_S)
    expect(message.error().code() == KafkaError._AUTO_OFFSET_RESET, str(message.error()))
    c.close()


def too_large(address):
    create(AdminClient({"bootstrap.servers": address}), "confluent-small", 1,
           **{"max.message.bytes": "1000"})
    got = []
    producer = Producer({"bootstrap.servers": address})
    producer.produce("confluent-small", b"x" * 5000, on_delivery=lambda e, m: got.append(e))
    producer.flush(WAIT_S)
    expect(got and got[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, f"{got}")


def admin_calls(address):
    admin = AdminClient({"bootstrap.servers": address})
    create(admin, "confluent-admin", 2, **{"retention.ms": "3600000"})
    resource = ConfigResource("topic", "confluent-admin")
    config = finish(admin.describe_configs([resource]))[resource]
    expect(config["retention.ms"].value == "3600000", f"retention.ms {config['retention.ms']}")
    expect(config["cleanup.policy"].value == "delete", f"{config['cleanup.policy']}")
    finish(admin.create_partitions([NewPartitions("confluent-admin", 4)]))
    partitions = admin.list_topics("confluent-admin", WAIT_S).topics["confluent-admin"].partitions
    expect(len(partitions) == 4, f"{len(partitions)} partitions")
    spec = {TopicPartition("confluent-none", 0): OffsetSpec.latest(),
            TopicPartition("confluent-none", 1): OffsetSpec.max_timestamp()}
    found = sorted(r.offset for r in finish(admin.list_offsets(spec)).values())
    expect(found == [199, 200], f"list_offsets: {found}")
    expect(len(admin.describe_cluster().result(WAIT_S).nodes) == 1, "describe_cluster")
    try:
        create(admin, "confluent-admin")
        raise AssertionError("a topic was created twice")
    except KafkaException as e:
        expect(e.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, str(e))
    cut = finish(admin.delete_records([TopicPartition("confluent-none", 2, 0)]))
    expect([r.low_watermark for r in cut.values()] == [0], f"delete_records: {cut}")
    finish(admin.delete_topics(["confluent-admin"]))
    expect("confluent-admin" not in admin.list_topics(timeout=WAIT_S).topics, "still listed")


def main(mode, address, *topics):
    report = Report()
    if mode == "read":
        c = consumer(address)
        for topic in topics:
            report.case(f"reads {topic}", read_topic, c, topic)
        c.close()
        return report.end()
    for codec in CODECS:
        report.case(f"writes {codec}, idempotent", write_codec, address, codec)
    for case in (offsets_and_times, out_of_range, too_large, admin_calls):
        report.case(case.__name__.replace("_", " "), case, address)
    return report.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
