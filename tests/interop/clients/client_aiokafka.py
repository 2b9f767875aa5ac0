"""aiokafka: write ADDRESS, or read ADDRESS TOPIC..."""
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: E402
from aiokafka.errors import MessageSizeTooLargeError  # noqa: E402
from harness.report import Report  # noqa: E402
from interop.clients.dataset import *  # noqa: E402,F403

WAIT_S = 20


async def create(address, name, partitions=PARTITIONS, **config):
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    finally:
        await admin.close()


async def write_codec(address, codec):
    topic = f"aiokafka-{codec}"
    await create(address, topic)
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, enable_idempotence=True,
                                compression_type=None if codec == "none" else codec)
    await producer.start()
    try:
        sent = [await producer.send(topic, value_of(i), key_of(i), i % PARTITIONS,
                                    timestamp_of(i), headers_of(i)) for i in range(COUNT)]
        done = await asyncio.gather(*sent)
    finally:
        await producer.stop()
    wrong = {i: d.offset for i, d in enumerate(done) if d.offset != i // PARTITIONS}
    expect(not wrong, f"offsets: {str(wrong)[:300]}")


async def read_topic(address, topic):
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=None,
                                enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        expected = [0] * PARTITIONS
        while sum(expected) < COUNT:
            r = await asyncio.wait_for(consumer.getone(), WAIT_S)
            expect(r.offset == expected[r.partition],
                   f"offset {r.offset} for {expected[r.partition]}")
            expected[r.partition] += 1
            check_record(r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
        ends = await consumer.end_offsets(parts)
        expect(set(ends.values()) == {COUNT // PARTITIONS}, f"end offsets {ends}")
    finally:
        await consumer.stop()


async def offsets_and_times(address):
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=None)
    await consumer.start()
    try:
        parts = [TopicPartition("aiokafka-none", p) for p in range(PARTITIONS)]
        consumer.assign(parts)
        found = await consumer.offsets_for_times({p: timestamp_of(300) for p in parts})
        expect({f.offset for f in found.values()} == {100}, f"{found}")
        begins = await consumer.beginning_offsets(parts)
        expect(set(begins.values()) == {0}, f"beginning offsets {begins}")
        consumer.seek(parts[1], 150)
        await consumer.seek_to_end(parts[0], parts[2])
        r = await asyncio.wait_for(consumer.getone(), WAIT_S)
        expect((r.partition, r.offset) == (1, 150), f"got {r.partition}/{r.offset}")
    finally:
        await consumer.stop()


async def too_large(address):
    await create(address, "aiokafka-small", 1, **{"max.message.bytes": "1000"})
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        await producer.send_and_wait("aiokafka-small", b"x" * 5000)
        raise AssertionError("a record over max.message.bytes was taken")
    except MessageSizeTooLargeError:
        pass
    finally:
        await producer.stop()


async def admin_calls(address):
    await create(address, "aiokafka-admin", 2)
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        about = (await admin.describe_topics(["aiokafka-admin"]))[0]
        expect(len(about["partitions"]) == 2, f"{about}")
        await admin.delete_topics(["aiokafka-admin"])
        expect("aiokafka-admin" not in await admin.list_topics(), "still listed")
    finally:
        await admin.close()


def main(mode, address, *topics):
    report = Report()

    def case(name, run, *args):
        report.case(name, lambda: asyncio.run(run(*args)))

    if mode == "read":
        for topic in topics:
            case(f"reads {topic}", read_topic, address, topic)
        return report.end()
    for codec in CODECS:
        case(f"writes {codec}, idempotent", write_codec, address, codec)
    for run in (offsets_and_times, too_large, admin_calls):
        case(run.__name__.replace("_", " "), run, address)
    return report.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
