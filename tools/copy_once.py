"""The application of ./tools/run: copies a topic exactly once, by librdkafka as the distribution has it.

    copy_once.py ADDRESS SOURCE TARGET NAME SIZE

It reads committed records as the only, static member of the group NAME, and writes up to SIZE of them
and its place in the source in one transaction of the transactional id NAME. Before it commits it says
"open", and "copied N" after that: N counts from its start. At the end of the source it ends.
"""
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

CALL_S, WAIT_S = 60, 0.2


def copy(producer, consumer, target, records):
    """One transaction."""
    places = {}
    producer.begin_transaction()
    for m in records:
        producer.produce(target, m.value(), m.key(), m.partition())
        places[m.topic(), m.partition()] = m.offset() + 1
        producer.poll(0)
    producer.flush(CALL_S)
    print("open", flush=True)
    producer.send_offsets_to_transaction([TopicPartition(*at, o) for at, o in places.items()],
                                         consumer.consumer_group_metadata(), CALL_S)
    producer.commit_transaction(CALL_S)


def main(address, source, target, name, size):
    common = {"bootstrap.servers": address, "broker.address.family": "v4",
              "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 100, "log_level": 0}
    producer = Producer({**common, "transactional.id": name, "linger.ms": 1,
                         "queue.buffering.max.messages": 2 * size})
    producer.init_transactions(CALL_S)  # ends what an earlier copier of this name has left
    consumer = Consumer({**common, "group.id": name, "group.instance.id": name,
                         "isolation.level": "read_committed", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "enable.partition.eof": True,
                         "fetch.wait.max.ms": 50})
    consumer.subscribe([source])
    partitions = len(consumer.list_topics(source, CALL_S).topics[source].partitions)
    ended, count = set(), 0
    while len(ended) < partitions:
        records = []
        for m in consumer.consume(size, WAIT_S):
            if m.error() is None:
                records.append(m)
                ended.discard(m.partition())
            elif m.error().code() == KafkaError._PARTITION_EOF:
                ended.add(m.partition())
        if records:
            copy(producer, consumer, target, records)
            count += len(records)
            print("copied", count, flush=True)
    consumer.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5], int(sys.argv[5]))
    except KafkaException as e:
        sys.exit(f"copy_once.py: {e}")
