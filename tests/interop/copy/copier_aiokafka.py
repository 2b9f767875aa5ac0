"""aiokafka as a copier: ADDRESS SOURCE TARGET NAME SIZE, see run.py."""
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

address, source, target, name, size = *sys.argv[1:5], int(sys.argv[5])


async def copy(producer, batches):
    sent = [await producer.send(target, r.value, r.key, partition=r.partition)
            for records in batches.values() for r in records]
    await asyncio.gather(*sent)
    await asyncio.sleep(0.02)  # be found with an open transaction


async def main():
    producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=name,
                                transaction_timeout_ms=5000)
    await producer.start()
    consumer = AIOKafkaConsumer(source, bootstrap_servers=address, group_id=name,
                                isolation_level="read_committed", auto_offset_reset="earliest",
                                enable_auto_commit=False, group_instance_id=name,
                                session_timeout_ms=30000, heartbeat_interval_ms=300)
    await consumer.start()
    count = 0
    while True:
        batches = await consumer.getmany(timeout_ms=200, max_records=size)
        if not batches:
            continue
        await producer.begin_transaction()
        await copy(producer, batches)
        count += 1
        if count % 5 == 0:
            await producer.abort_transaction()
            for part, records in batches.items():
                consumer.seek(part, records[0].offset)
            print("aborted", flush=True)
            continue
        await producer.send_offsets_to_transaction(
            {part: records[-1].offset + 1 for part, records in batches.items()}, name)
        await producer.commit_transaction()
        print("committed", sum(map(len, batches.values())), flush=True)


asyncio.run(main())
