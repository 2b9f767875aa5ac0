"""confluent-kafka (librdkafka) as a copier: ADDRESS SOURCE TARGET NAME SIZE, see run.py."""
import os
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

address, source, target, name, size = *sys.argv[1:5], int(sys.argv[5])
# After a broker's restart librdkafka 2.16 may wait for ever in send_offsets_to_transaction, with any
# broker: for a connection to the group's coordinator that it gave up itself. An application ends then.
STUCK_S = 4
QUICK = {"bootstrap.servers": address, "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 100,
         "retry.backoff.ms": 10}
producer = Producer({**QUICK, "transactional.id": name, "transaction.timeout.ms": 5000,
                     "linger.ms": 0})
producer.init_transactions(30)
consumer = Consumer({**QUICK, "group.id": name, "isolation.level": "read_committed",
                     "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "group.instance.id": name, "heartbeat.interval.ms": 300})
consumer.subscribe([source])


def run():
    count = 0
    while True:
        records = [m for m in consumer.consume(size, 0.2) if m.error() is None]
        if not records:
            continue
        stuck = threading.Timer(STUCK_S, os._exit, [3])
        stuck.start()
        first, following = {}, {}
        producer.begin_transaction()
        for m in records:
            producer.produce(target, m.value(), m.key(), m.partition())
            first.setdefault(m.partition(), m.offset())
            following[m.partition()] = m.offset() + 1
        producer.flush()
        time.sleep(0.02)  # be found with an open transaction
        count += 1
        if count % 5 == 0:
            producer.abort_transaction()
            for p, offset in first.items():
                consumer.seek(TopicPartition(source, p, offset))
            print("aborted", flush=True)
            stuck.cancel()
            continue
        producer.send_offsets_to_transaction(
            [TopicPartition(source, p, o) for p, o in following.items()],
            consumer.consumer_group_metadata())
        producer.commit_transaction()
        print("committed", len(records), flush=True)
        stuck.cancel()


run()
