"""confluent-kafka (librdkafka) as a member: ADDRESS TOPIC GROUP COUNT IDLE_S [consumer], see members.py."""
import sys
import time

from confluent_kafka import Consumer, KafkaError

address, topic, group, count, idle_s = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
how = {"group.protocol": "consumer"} if sys.argv[6:] else {"session.timeout.ms": 10000}
consumer = Consumer({"bootstrap.servers": address, "group.id": group, **how,
                     "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "topic.metadata.refresh.interval.ms": 1000})


def assigned(_, parts):
    print("assigned", *sorted(p.partition for p in parts), flush=True)


def revoked(c, _):
    try:
        c.commit(asynchronous=False)
    except Exception:  # nothing was read yet
        pass


consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
last, got = time.monotonic() + 10, 0
while got < count and time.monotonic() - last < idle_s:
    message = consumer.poll(0.2)
    if message is None:
        continue
    if message.error():
        if message.error().code() != KafkaError._PARTITION_EOF:
            print("error", message.error(), flush=True)
        continue
    print("record", message.partition(), message.offset(), flush=True)
    last, got = time.monotonic(), got + 1
if got:
    consumer.commit(asynchronous=False)
consumer.close()
