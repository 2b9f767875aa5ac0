#!/usr/bin/env python3
"""Kill the broker again and again under a real client's load, and check what was promised meanwhile.

tests/crash does this with its own producers, which know the protocol; here librdkafka decides what to
repeat after a crash, when, and on which connection, as it does for most of the world's clients.

    producers ──idempotent, acks=all──▶ broker ──▶ tail reader        each record: producer, counter
        └── every acknowledgement: partition, offset                  each partition of each producer
                         SIGKILL, start, SIGKILL ...                  counts 0, 1, 2, ...

At the end all partitions are read from the beginning. Facts that must hold:
 1. An acknowledged record is there, at the offset that was acknowledged.
 2. No record is there twice, although producers repeat what was not acknowledged.
 3. The records of one producer in one partition are in the order in which they were sent, without gaps.
 4. What the tail reader saw is what the last reader sees: nothing read is ever taken back.
 5. No producer met an error that it could not overcome by repeating.
 6. A topic whose creation was acknowledged exists.
A kill comes at a random moment under load, and every so often while the broker is starting.
"""
import random
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import venv  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

TOPIC, PARTITIONS = "crash", 16
CODECS = ["none", "lz4", "zstd"]      # one producer each
IN_FLIGHT, SIZES = 600, (0, 40, 400, 4000)
LOAD_S, START_KILLS = (0.15, 0.6), 0.2  # how long load runs before a kill; share of kills in starting
DRAIN_S, STEP_S = 120, 60
VALUE = struct.Struct(">HHQ")         # producer, partition, counter


class Producer(threading.Thread):
    """Sends counted records to all partitions until told to stop, then until all are answered."""

    def __init__(self, number, address, seed):
        super().__init__(daemon=True)
        self.number, self.random = number, random.Random(seed * 100 + number)
        self.acked, self.failed = {}, Counter()  # (partition, counter) -> offset
        self.sent, self.waiting, self.stopping, self.left = [0] * PARTITIONS, 0, False, None
        self.fatal = None
        self.client = kafka_clients().Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "acks": "all",
            "compression.type": CODECS[number % len(CODECS)], "linger.ms": 3,
            "batch.size": 65536, "message.timeout.ms": 600_000, "request.timeout.ms": 10_000,
            "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50, "retry.backoff.ms": 10,
            "retry.backoff.max.ms": 100, "log_level": 2, "error_cb": self.on_error})

    def on_error(self, error):
        if error.fatal():
            self.fatal = str(error)

    def delivered(self, partition, counter):
        def call(error, message):
            self.waiting -= 1
            if error is None:
                self.acked[partition, counter] = message.offset()
            else:
                self.failed[str(error)] += 1
        return call

    def run(self):
        while not self.stopping:
            while self.waiting < IN_FLIGHT and not self.stopping:
                p = self.random.randrange(PARTITIONS)
                value = VALUE.pack(self.number, p, self.sent[p])
                value += b"." * self.random.choice(SIZES)
                self.client.produce(TOPIC, value, partition=p,
                                    on_delivery=self.delivered(p, self.sent[p]))
                self.sent[p] += 1
                self.waiting += 1
            self.client.poll(0.01)
        self.left = self.client.flush(DRAIN_S)


class Tail(threading.Thread):
    """Reads as the records come and remembers what it saw."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.seen, self.errors, self.stopping = {}, Counter(), False
        self.client = reader(address)

    def run(self):
        while not self.stopping:
            for m in self.client.consume(500, 0.05):
                if m.error() is None:
                    at = m.partition(), m.offset()
                    value = VALUE.unpack_from(m.value())
                    if self.seen.setdefault(at, value) != value:
                        self.errors[f"{at} was {self.seen[at]}, became {value}"] += 1
                elif not m.error().retriable() and m.error().name() == "_AUTO_OFFSET_RESET":
                    self.errors[f"partition {m.partition()}: {m.error().str()}"] += 1
        self.client.close()


def kafka_clients():
    import confluent_kafka
    return confluent_kafka


def reader(address):
    ck = kafka_clients()
    client = ck.Consumer({
        "bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False,
        "auto.offset.reset": "error", "fetch.wait.max.ms": 20, "check.crcs": True,
        "reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 50, "log_level": 2,
        "fetch.error.backoff.ms": 10, "fetch.queue.backoff.ms": 10})
    client.assign([ck.TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])
    return client


def create(address, name, partitions):
    with Client(address) as c:
        answer = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": name, "num_partitions": partitions, "replication_factor": 1}]})
    return answer["topics"][0]["error_code"] == 0


def ends(address):
    """The end offset of each partition, or None while a partition has no leader."""
    with Client(address) as c:
        answer = c.ask("ListOffsets", 5, {"replica_id": -1, "topics": [{"name": TOPIC, "partitions": [
            {"partition_index": p, "timestamp": -1} for p in range(PARTITIONS)]}]})
    parts = answer["topics"][0]["partitions"] if answer["topics"] else []
    if len(parts) < PARTITIONS or any(p["error_code"] for p in parts):
        return None
    return {p["partition_index"]: p["offset"] for p in parts}


def wait_for(condition, what):
    late = time.monotonic() + STEP_S
    while True:
        try:
            if result := condition():
                return result
        except (OSError, Closed):
            pass
        if time.monotonic() > late:
            raise RuntimeError(f"{what}: not within {STEP_S} s")
        time.sleep(0.01)


class Crash:
    def __init__(self, broker, args):
        self.broker, self.cycles = broker, args.cycles
        self.random = random.Random(args.seed)
        self.starts, self.topics, self.lags = [], [], []
        self.producers = [Producer(n, broker.address, args.seed) for n in range(len(CODECS))]
        self.tail = Tail(broker.address)

    def acked(self):
        return sum(len(p.acked) for p in self.producers)

    def start(self):
        """Start the broker, now and then killing it before it is up."""
        self.broker.launch()
        while self.random.random() < START_KILLS:
            time.sleep(self.random.random() * (0.06 if self.broker.kind == "torc" else 2))
            self.broker.kill()
            self.broker.launch()
        self.broker.await_ready()
        self.starts.append(self.broker.started_s)

    def cycle(self, number):
        before = self.acked()
        promised = {}
        for producer in self.producers:
            for (p, _), offset in list(producer.acked.items())[-2000:]:
                promised[p] = max(promised.get(p, 0), offset + 1)
        found = wait_for(lambda: ends(self.broker.address), "leaders of all partitions")
        self.lags += [f"partition {p} ends at {found[p]}, acknowledged up to {n}"
                      for p, n in promised.items() if found[p] < n]
        try:
            if create(self.broker.address, f"topic-{number}", 2):
                self.topics.append(f"topic-{number}")
        except (OSError, Closed):
            pass
        wait_for(lambda: self.acked() > before, "an acknowledgement after the start")
        time.sleep(self.random.uniform(*LOAD_S))
        self.broker.kill()
        self.start()

    def run(self):
        for thread in (*self.producers, self.tail):
            thread.start()
        begin = told = time.monotonic()
        for number in range(self.cycles):
            self.cycle(number)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"      {number + 1} kills, {self.acked()} acknowledged, "
                      f"{told - begin:.0f} s", flush=True)
        for p in self.producers:
            p.stopping = True
        for p in self.producers:
            p.join(DRAIN_S + 10)
        self.took = time.monotonic() - begin
        self.tail.stopping = True
        self.tail.join(10)


def read_all(address):
    """Every record: (partition, offset) -> (producer, partition, counter)."""
    client, found, want = reader(address), {}, wait_for(lambda: ends(address), "end offsets")
    late = time.monotonic() + DRAIN_S
    left = sum(want.values())
    while left > 0 and time.monotonic() < late:
        for m in client.consume(2000, 0.2):
            if m.error() is None:
                found[m.partition(), m.offset()] = VALUE.unpack_from(m.value())
                left -= 1
    client.close()
    return found, want


def few(items):
    items = list(items)
    return f"{len(items)}, such as {items[:3]}"


def check(report, crash, records, want):
    """Facts 1 to 6 of the head of this file."""
    where, twice = {}, []
    for at, value in records.items():
        (twice.append(value) if value in where else where.__setitem__(value, at))
    acked = {(p.number, part, n): (part, offset) for p in crash.producers
             for (part, n), offset in p.acked.items()}
    lost = [v for v in acked if v not in where]
    moved = [(v, at, where[v]) for v, at in acked.items() if v in where and where[v] != at]
    disorder, expected = [], Counter()
    for (p, offset), value in sorted(records.items()):
        stream = value[0], p
        if value[1] != p or value[2] != expected[stream]:
            disorder.append((p, offset, value, expected[stream]))
        expected[stream] = value[2] + 1
    total = sum(want.values())
    report.check(f"all {total} records can be read", len(records) == total, f"{len(records)} came")
    report.check(f"0 of {len(acked)} acknowledged are lost", not lost, few(lost))
    report.check("each is where it was acknowledged", not moved, few(moved))
    report.check("0 are there twice", not twice, few(twice))
    report.check("0 are out of order or missing in between", not disorder, few(disorder))
    changed = [(at, v, records.get(at)) for at, v in crash.tail.seen.items()
               if records.get(at) != v]
    report.check(f"none of {len(crash.tail.seen)} read while it went on was taken back",
                 not changed and not crash.tail.errors,
                 f"{few(changed)}; {dict(crash.tail.errors.most_common(3))}")
    report.check("no start ended a log before what was acknowledged", not crash.lags,
                 few(crash.lags))
    broken = [p.fatal or dict(p.failed) or f"{p.left} unanswered" for p in crash.producers
              if p.fatal or p.failed or p.left != 0]
    report.check("no producer met what it could not overcome", not broken, str(broken)[:400])
    with Client(crash.broker.address) as c:
        known = {t["name"] for t in c.ask("Metadata", 1, {"topics": None})["topics"]}
    gone = set(crash.topics) - known
    report.check(f"all {len(crash.topics)} topics made in between exist", not gone, str(gone))


def main():
    interrupt_on_term()
    parser = arguments(__doc__, cycles={"type": int, "default": 10, "help": "kills (default: 10)"},
                       seed={"type": int, "default": int(time.time()), "help": "of what is random"})
    args = parser.parse_args()
    venv.enter("kill")
    report = Report()
    print(f"      seed {args.seed}")
    with Place(args.keep) as place:
        broker = place.broker(args.broker, settings={"torc.cores": 4, "num.partitions": 2})
        try:
            broker.start()
            if not create(broker.address, TOPIC, PARTITIONS):
                raise RuntimeError("the topic was not made")
            wait_for(lambda: ends(broker.address), "leaders of all partitions")
            crash = Crash(broker, args)
            crash.run()
            check(report, crash, *read_all(broker.address))
            starts = sorted(crash.starts)
            report.ok(f"{len(starts)} kills", f"{crash.took:.0f} s, {crash.acked()} acknowledged, "
                      f"start to answer: median {starts[len(starts) // 2] * 1000:.0f} ms, "
                      f"longest {starts[-1] * 1000:.0f} ms")
        except Exception as e:
            report.fail("crash", f"seed {args.seed}: {type(e).__name__}: {e}")
        place.keep |= report.failed > 0
        if report.failed:
            print("      the broker's log ends with:\n" + broker.log_tail())
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
