"""Topics as librdkafka sees them, for tests of applications: create, feed at a pace, watch what comes.

Everything here survives a kill of the broker: the feeder is an idempotent producer, and a view reads on
where it was. It wants the interpreter that harness/venv.py makes.
"""
import threading
import time

from .wire import Client

STEP_S = 0.05
QUICK = {"reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 10,
         "log_level": 0}


def create(address, topics, late_s=30):
    """Make topics, a dict of names and partition counts, and wait until they have leaders."""
    with Client(address) as c:
        c.ask("CreateTopics", 7, {"timeout_ms": 20000, "topics": [
            {"name": n, "num_partitions": p, "replication_factor": 1} for n, p in topics.items()]})
        late = time.monotonic() + late_s
        while time.monotonic() < late:
            found = c.ask("Metadata", 9, {"topics": [{"name": n} for n in topics]})["topics"]
            if not any(t["error_code"] or any(p["error_code"] for p in t["partitions"])
                       for t in found):
                return
            time.sleep(STEP_S)
    raise RuntimeError(f"no leaders for {', '.join(topics)}")


class Feeder(threading.Thread):
    """Writes (key, value) pairs to a topic, so many each second; join() raises what went wrong."""

    def __init__(self, address, topic, records, each_s=1_000_000, **settings):
        from confluent_kafka import Producer
        super().__init__(daemon=True)
        self.topic, self.records, self.each_s, self.failure = topic, records, each_s, None
        self.client = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5,
            "partitioner": "murmur2_random", "message.timeout.ms": 120_000, **QUICK, **settings})

    def answered(self, error, _):
        if error is not None:
            self.failure = f"{self.topic}: {error}"

    def run(self):
        begin = time.monotonic()
        for n, (key, value) in enumerate(self.records):
            while n > (time.monotonic() - begin) * self.each_s:
                self.client.poll(0.01)
            while True:
                try:
                    self.client.produce(self.topic, value, key, on_delivery=self.answered)
                    break
                except BufferError:
                    self.client.poll(0.01)
        if self.client.flush(120):
            self.failure = f"{self.topic}: not all were acknowledged"

    def done(self, limit_s=180):
        self.join(limit_s)
        if self.is_alive() or self.failure:
            raise RuntimeError(self.failure or f"{self.topic}: the feeder is not done")


class View:
    """A topic's records from its beginning; what is read is kept in `records`, by partition."""

    def __init__(self, address, topic, partitions, committed=True):
        from confluent_kafka import Consumer, TopicPartition
        self.topic, self.records, self.count = topic, [[] for _ in range(partitions)], 0
        self.client = Consumer({
            "bootstrap.servers": address, "group.id": "a view has none",
            "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 50,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True, "check.crcs": True, **QUICK})
        self.client.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        self.ends = set()

    def pull(self, wait_s=STEP_S):
        """Take what has come since; returns the count of all."""
        for m in self.client.consume(1000, wait_s):
            if m.error() is None:
                self.records[m.partition()].append((m.offset(), m.key(), m.value()))
                self.count += 1
                self.ends.discard(m.partition())
            elif m.error().name() == "_PARTITION_EOF":
                self.ends.add(m.partition())
            elif m.error().name() == "_AUTO_OFFSET_RESET":
                raise AssertionError(f"{self.topic}: {m.error().str()}")
        return self.count

    def reach(self, count, limit_s, alive=lambda: None):
        """Wait for so many records, and call `alive`, which raises when waiting is in vain."""
        late = time.monotonic() + limit_s
        while self.pull() < count:
            alive()
            if time.monotonic() > late:
                raise AssertionError(f"{self.topic}: {self.count} records of {count} "
                                     f"after {limit_s} s")
        return self

    def to_end(self, limit_s=30):
        """Read until each partition has said that its end is reached, once more at least."""
        self.ends, late = set(), time.monotonic() + limit_s
        self.client.assign([self._at(p) for p in range(len(self.records))])
        while len(self.ends) < len(self.records):
            self.pull()
            if time.monotonic() > late:
                raise AssertionError(f"{self.topic}: no end of partitions after {limit_s} s")
        return self

    def _at(self, p):
        from confluent_kafka import TopicPartition
        return TopicPartition(self.topic, p, self.records[p][-1][0] + 1 if self.records[p] else 0)

    def all(self):
        return [(k, v) for part in self.records for _, k, v in part]

    def close(self):
        self.client.close()
