"""kafka-python as a member: ADDRESS TOPIC GROUP COUNT IDLE_S, see members.py."""
import sys
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer

address, topic, group, count, idle_s = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
consumer = KafkaConsumer(bootstrap_servers=address, group_id=group, auto_offset_reset="earliest",
                         enable_auto_commit=False, session_timeout_ms=10000,
                         heartbeat_interval_ms=500)


class Listener(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        if revoked:
            consumer.commit()

    def on_partitions_assigned(self, parts):
        print("assigned", *sorted(p.partition for p in parts), flush=True)


consumer.subscribe([topic], listener=Listener())
last, got = time.monotonic() + 10, 0
while got < count and time.monotonic() - last < idle_s:
    for records in consumer.poll(200, max_records=count - got).values():
        for r in records:
            print("record", r.partition, r.offset, flush=True)
            last, got = time.monotonic(), got + 1
if got:
    consumer.commit()
consumer.close(autocommit=False)
