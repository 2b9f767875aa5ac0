"""kafka-python as a copier: ADDRESS SOURCE TARGET NAME SIZE, see run.py."""
import sys
import time

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

address, source, target, name, size = *sys.argv[1:5], int(sys.argv[5])
producer = KafkaProducer(bootstrap_servers=address, transactional_id=name, acks="all",
                         transaction_timeout_ms=5000, enable_idempotence=True)
producer.init_transactions()
consumer = KafkaConsumer(source, bootstrap_servers=address, group_id=name,
                         isolation_level="read_committed", auto_offset_reset="earliest",
                         enable_auto_commit=False, group_instance_id=name,
                         session_timeout_ms=30000, heartbeat_interval_ms=300)
count = 0
while True:
    # it returns when there are records; a poll that ends while it joins may leave it without any
    batches = consumer.poll(10_000, max_records=size)
    if not batches:
        continue
    producer.begin_transaction()
    for part, records in batches.items():
        for r in records:
            producer.send(target, r.value, r.key, partition=r.partition)
    producer.flush()
    time.sleep(0.02)  # be found with an open transaction
    count += 1
    if count % 5 == 0:
        producer.abort_transaction()
        for part, records in batches.items():
            consumer.seek(part, records[0].offset)
        print("aborted", flush=True)
        continue
    producer.send_offsets_to_transaction(
        {part: OffsetAndMetadata(records[-1].offset + 1, "", -1)
         for part, records in batches.items()}, consumer.group_metadata())
    producer.commit_transaction()
    print("committed", sum(map(len, batches.values())), flush=True)
