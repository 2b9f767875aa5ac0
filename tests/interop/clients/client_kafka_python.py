"""kafka-python: write ADDRESS, or read ADDRESS TOPIC..."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402
from kafka.admin import KafkaAdminClient, NewTopic  # noqa: E402
from kafka.errors import MessageSizeTooLargeError, TopicAlreadyExistsError  # noqa: E402
from harness.report import Report  # noqa: E402
from interop.clients.dataset import *  # noqa: E402,F403

WAIT_S = 20


def create(address, name, partitions=PARTITIONS, **config):
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    admin.close()


def write_codec(address, codec):
    topic = f"kafka-python-{codec}"
    create(address, topic)
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=20, acks="all",
                             compression_type=None if codec == "none" else codec)
    sent = [producer.send(topic, value_of(i), key_of(i), headers_of(i), i % PARTITIONS,
                          timestamp_of(i)) for i in range(COUNT)]
    producer.flush(WAIT_S)
    wrong = {i: f.get(WAIT_S).offset for i, f in enumerate(sent)
             if f.get(WAIT_S).offset != i // PARTITIONS}
    producer.close()
    expect(not wrong, f"offsets: {str(wrong)[:300]}")


def assigned(address, topic, partitions=range(PARTITIONS), **more):
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=None, enable_auto_commit=False,
                             consumer_timeout_ms=WAIT_S * 1000, **more)
    parts = [TopicPartition(topic, p) for p in partitions]
    consumer.assign(parts)
    return consumer, parts


def read_topic(address, topic):
    consumer, parts = assigned(address, topic)
    consumer.seek_to_beginning()
    expected = [0] * PARTITIONS
    for seen, r in enumerate(consumer, 1):
        expect(r.offset == expected[r.partition], f"offset {r.offset} for {expected[r.partition]}")
        expected[r.partition] += 1
        check_record(r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
        if seen == COUNT:
            break
    expect(sum(expected) == COUNT, f"{sum(expected)} records for {COUNT}")
    ends = consumer.end_offsets(parts)
    consumer.close()
    expect(set(ends.values()) == {COUNT // PARTITIONS}, f"end offsets {ends}")


def offsets_and_times(address):
    consumer, parts = assigned(address, "kafka-python-none")
    begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
    expect(set(begins.values()) == {0}, f"beginning offsets {begins}")
    expect(set(ends.values()) == {COUNT // PARTITIONS}, f"end offsets {ends}")
    found = consumer.offsets_for_times({p: timestamp_of(300) for p in parts})
    expect({(f.offset, f.timestamp) for f in found.values()} ==
           {(100, timestamp_of(n)) for n in (300, 301, 302)}, f"{found}")
    late = consumer.offsets_for_times({parts[0]: timestamp_of(COUNT)})
    expect(late[parts[0]] is None, f"a time after the end: {late}")
    consumer.seek(parts[1], 150)
    consumer.seek_to_end(parts[0], parts[2])
    r = next(consumer)
    consumer.close()
    expect((r.partition, r.offset) == (1, 150), f"sought 1/150, got {r.partition}/{r.offset}")


def too_large(address):
    create(address, "kafka-python-small", 1, **{"max.message.bytes": "1000"})
    producer = KafkaProducer(bootstrap_servers=address)
    try:
        producer.send("kafka-python-small", b"x" * 5000).get(WAIT_S)
        raise AssertionError("a record over max.message.bytes was taken")
    except MessageSizeTooLargeError:
        producer.close()


def admin_calls(address):
    create(address, "kafka-python-admin", 2)
    admin = KafkaAdminClient(bootstrap_servers=address)
    expect("kafka-python-admin" in admin.list_topics(), "not listed")
    about = admin.describe_topics(["kafka-python-admin"])[0]
    expect(len(about["partitions"]) == 2, f"{about}")
    try:
        create(address, "kafka-python-admin")
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    expect(len(admin.describe_cluster()["brokers"]) == 1, "describe_cluster")
    admin.delete_topics(["kafka-python-admin"])
    expect("kafka-python-admin" not in admin.list_topics(), "still listed")
    admin.close()


def main(mode, address, *topics):
    report = Report()
    if mode == "read":
        for topic in topics:
            report.case(f"reads {topic}", read_topic, address, topic)
        return report.end()
    for codec in CODECS:
        report.case(f"writes {codec}", write_codec, address, codec)
    for case in (offsets_and_times, too_large, admin_calls):
        report.case(case.__name__.replace("_", " "), case, address)
    return report.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
