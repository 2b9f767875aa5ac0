#!/usr/bin/env python3
"""Transactions of real clients while the broker is killed again and again, and Kafka's own tool for them.

    librdkafka ──partitions, then records (version 1)──▶ broker ──▶ a reader of what is committed
    Kafka's TransactionalMessageCopier: from one topic to another, offsets in the transaction,
        ends at random as commit or abort (version 2) ──▶ broker
                                     SIGKILL, start, SIGKILL ...

Facts that must hold in the end:
 1. Of each transaction everything can be read, over all its partitions, or nothing.
 2. What was committed is there, once; what was aborted is not.
 3. Nothing that a reader of committed records has seen is ever taken back.
 4. The copy has every record of its source once.
 5. No transaction is open, and readers of committed records come as far as all others.
Then kafka-transactions is asked the same of this broker and of Apache Kafka: list, describe, and a
transaction that hangs, found and aborted.
"""
import random
import re
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka, records, venv  # noqa: E402
from harness.batch import batch  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

TOPICS = {"left": 3, "right": 3, "source": 2, "copy": 2}
PRODUCERS, COPIED, CONCURRENT, LOADING = 3, 20_000, 51, (14, 15, 16)
LOAD_S, STEP_S = (0.8, 1.6), 60
VALUE = struct.Struct(">HIHH")  # producer, transaction, record, records of the transaction
COMMITTED, ABORTED = "committed", "aborted"


class Producer(threading.Thread):
    """Transaction after transaction; how each one ended, if it was told."""

    def __init__(self, number, address, seed):
        super().__init__(daemon=True)
        self.number, self.address = number, address
        self.random = random.Random(seed * 100 + number)
        self.ended, self.stopping, self.failure, self.slowest_s = {}, False, None, 0.0

    def make(self):
        from confluent_kafka import Producer as Client
        client = Client({"bootstrap.servers": self.address, "linger.ms": 2,
                         "transactional.id": f"atoms-{self.number}",
                         "transaction.timeout.ms": 10_000, **records.QUICK})
        client.init_transactions(STEP_S)
        return client

    def end(self, client, commit):
        """Until the broker has said that it is so."""
        from confluent_kafka import KafkaException
        late = time.monotonic() + STEP_S
        while True:
            try:
                client.commit_transaction(STEP_S) if commit else client.abort_transaction(STEP_S)
                return COMMITTED if commit else ABORTED
            except KafkaException as e:
                if e.args[0].txn_requires_abort():
                    commit = False
                elif not e.args[0].retriable() or time.monotonic() > late:
                    raise

    def transaction(self, client, number):
        count = self.random.randint(2, 6)
        client.begin_transaction()
        for n in range(count):
            client.produce(self.random.choice(("left", "right")),
                           VALUE.pack(self.number, number, n, count),
                           partition=self.random.randrange(3))
        client.poll(0)
        if self.random.random() < 0.5:
            client.flush(5)
        self.ended[number] = self.end(client, self.random.random() < 0.7)

    def run(self):
        from confluent_kafka import KafkaException
        number, client = 0, None
        while not self.stopping:
            begin = time.monotonic()
            try:
                client = client or self.make()
                self.transaction(client, number)
            except KafkaException as e:
                if not e.args[0].fatal():
                    self.failure = str(e)
                    return
                client = None  # its end is not known
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
            number += 1


class Reader(threading.Thread):
    """What is committed, as it comes."""

    def __init__(self, address):
        from confluent_kafka import Consumer, TopicPartition
        super().__init__(daemon=True)
        self.seen, self.twice, self.stopping = {}, [], False
        self.client = Consumer({
            "bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False,
            "isolation.level": "read_committed", "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50, **records.QUICK})
        self.client.assign([TopicPartition(t, p, 0) for t in ("left", "right") for p in range(3)])

    def run(self):
        while not self.stopping:
            for m in self.client.consume(500, 0.05):
                if m.error() is None:
                    at = m.topic(), m.partition(), m.offset()
                    value = VALUE.unpack(m.value())
                    if self.seen.setdefault(at, value) != value:
                        self.twice.append((at, self.seen[at], value))
        self.client.close()


class Copier:
    """Kafka's program; it says when it has copied everything."""

    def __init__(self, address):
        self.process = subprocess.Popen(
            kafka.java("org.apache.kafka.tools.TransactionalMessageCopier",
                       "--broker-list", address, "--input-topic", "source", "--input-partition", 0,
                       "--output-topic", "copy", "--consumer-group", "copiers",
                       "--transactional-id", "copier", "--transaction-size", 40,
                       "--max-messages", COPIED, "--enable-random-aborts", "--use-group-metadata",
                       "--transaction-timeout", 10000, "--group-mode"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait(self, limit_s):
        try:
            text, _ = self.process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            text = self.process.communicate()[0]
            raise AssertionError(f"it is not done: {text[-1500:]}")
        if self.process.returncode:
            raise AssertionError(f"exit {self.process.returncode}: {text[-1500:]}")
        return f"{text.count('ProcessLoop')} transactions"


def ask(address, api, version, values, limit_s=STEP_S):
    """Until the answer has no error of a coordinator that is coming up."""
    late = time.monotonic() + limit_s
    while True:
        try:
            with Client(address) as c:
                answer = c.ask(api, version, values)
            told = [answer, *answer.get("transaction_states", [])]
            loading = any(t.get("error_code") in LOADING for t in told)
            if not loading or time.monotonic() > late:
                return answer
        except (OSError, Closed):
            if time.monotonic() > late:
                raise
        time.sleep(0.02)


def ends(address, topic, level):
    parts = ask(address, "ListOffsets", 5, {"replica_id": -1, "isolation_level": level, "topics": [
        {"name": topic, "partitions": [{"partition_index": p, "timestamp": -1}
                                       for p in range(TOPICS[topic])]}]})["topics"][0]["partitions"]
    return {p["partition_index"]: p["offset"] for p in parts}


def read_all(address, topics):
    """Every committed value by place, up to the ends of now."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    client = Consumer({"bootstrap.servers": address, "group.id": "unused",
                       "enable.auto.commit": False, "isolation.level": "read_committed",
                       "auto.offset.reset": "error", "enable.partition.eof": True,
                       "fetch.wait.max.ms": 20, **records.QUICK})
    client.assign([TopicPartition(t, p, 0) for t in topics for p in range(TOPICS[t])])
    found, left = {}, sum(TOPICS[t] for t in topics)
    late = time.monotonic() + STEP_S
    while left and time.monotonic() < late:
        for m in client.consume(1000, 0.2):
            if m.error() is None:
                found[m.topic(), m.partition(), m.offset()] = m.value()
            elif m.error().code() == KafkaError._PARTITION_EOF:
                left -= 1
    client.close()
    return found


def few(items):
    items = list(items)
    return f"{len(items)}, such as {items[:3]}"


def check_atoms(report, producers, found):
    """Facts 1 and 2."""
    seen, counts = defaultdict(Counter), {}
    for value in found.values():
        producer, number, n, count = VALUE.unpack(value)
        seen[producer, number][n] += 1
        counts[producer, number] = count
    told = {(p.number, n): how for p in producers for n, how in p.ended.items()}
    torn = [t for t, parts in seen.items() if len(parts) != counts[t]]
    twice = [t for t, parts in seen.items() if max(parts.values()) > 1]
    lost = [t for t, how in told.items() if how == COMMITTED and t not in seen]
    back = [t for t, how in told.items() if how == ABORTED and t in seen]
    tally = Counter(told.values())
    report.check(f"{len(seen)} transactions can be read whole", not torn, few(torn))
    report.check(f"none of {tally[COMMITTED]} committed ones is lost", not lost, few(lost))
    report.check(f"none of {tally[ABORTED]} aborted ones is there", not back, few(back))
    report.check("nothing is there twice", not twice, few(twice))


def check_ends(report, address):
    """Fact 5. Those whose producer is gone are aborted by the coordinator in its time."""
    late = time.monotonic() + STEP_S
    while True:
        states = ask(address, "ListTransactions", 0, {})["transaction_states"]
        left = [s["transactional_id"] for s in states
                if not s["transaction_state"].startswith(("Complete", "Empty"))]
        behind = [t for t in TOPICS if ends(address, t, 0) != ends(address, t, 1)]
        if not left and not behind or time.monotonic() > late:
            break
        time.sleep(0.1)
    report.check(f"none of {len(states)} transactional ids has an open transaction", not left,
                 str(left))
    report.check("what is committed reaches to the end of every topic", not behind, str(behind))


def killing(report, broker, kills, seed):
    rng = random.Random(seed)
    records.create(broker.address, TOPICS)
    feeder = records.Feeder(broker.address, "source",
                            ((b"k", b"%d" % n) for n in range(COPIED)), partitioner="consistent")
    feeder.start()
    feeder.done()
    producers = [Producer(n, broker.address, seed) for n in range(PRODUCERS)]
    reader, copier = Reader(broker.address), Copier(broker.address)
    for thread in (*producers, reader):
        thread.start()
    time.sleep(2)  # the JVM has begun
    slowest = 0
    for _ in range(kills):
        time.sleep(rng.uniform(*LOAD_S))
        broker.kill()
        broker.start()
        begin = time.monotonic()
        ask(broker.address, "DescribeTransactions", 0, {"transactional_ids": ["atoms-0"]})
        slowest = max(slowest, time.monotonic() - begin)
    for p in producers:
        p.stopping = True
    for p in producers:
        p.join(STEP_S)
    failures = [p.failure or "it still runs" for p in producers if p.failure or p.is_alive()]
    report.check("every producer could go on", not failures, str(failures))
    report.case("the copier ends", copier.wait, STEP_S)
    check_ends(report, broker.address)
    found = read_all(broker.address, ["left", "right"])
    check_atoms(report, producers, found)
    reader.stopping = True
    reader.join(10)
    gone = [at for at, v in reader.seen.items() if VALUE.pack(*v) != found.get(at)]
    report.check(f"none of {len(reader.seen)} committed records that were read was taken back",
                 not gone and not reader.twice, f"{few(gone)}; {few(reader.twice)}")
    copied = Counter(int(v) for v in read_all(broker.address, ["copy"]).values())
    report.check(f"{COPIED} records are copied once each",
                 copied == Counter(range(COPIED)), f"{sum(copied.values())}, {len(copied)} of them "
                 f"different, {few(n for n in copied if copied[n] > 1)} more than once")
    report.ok(f"{kills} kills", f"a coordinator answers {slowest * 1000:.0f} ms after the start")


# ---- kafka-transactions --------------------------------------------------------------------------

def settled(address, api, version, values):
    """Until the end before is over."""
    late = time.monotonic() + STEP_S
    while (answer := ask(address, api, version, values)).get("error_code") == CONCURRENT:
        if time.monotonic() > late:
            break
        time.sleep(0.02)
    return answer


def prepare(address):
    """Ids in three states, and a transaction that no coordinator knows of. The producer's id."""
    records.create(address, {"tooled": 2})
    with Client(address) as c:  # so that ids of producers are no other number in the answers
        while c.ask("InitProducerId", 4, {"transactional_id": None})["producer_id"] < 1000:
            pass
    ask(address, "FindCoordinator", 3, {"key": "x", "key_type": 1})
    who = {}
    for name in ("empty", "open", "over"):
        late = time.monotonic() + STEP_S
        while (a := settled(address, "InitProducerId", 4, {
                "transactional_id": name, "transaction_timeout_ms": 60000}))["error_code"]:
            if time.monotonic() > late:
                raise RuntimeError(f"{name}: {a}")
            time.sleep(0.02)
        who[name] = {"producer_id": a["producer_id"], "producer_epoch": a["producer_epoch"]}
    for name in ("open", "over"):
        ask(address, "AddPartitionsToTxn", 3, {
            "v3_and_below_transactional_id": name,
            "v3_and_below_producer_id": who[name]["producer_id"],
            "v3_and_below_producer_epoch": who[name]["producer_epoch"],
            "v3_and_below_topics": [{"name": "tooled", "partitions": [1]}]})
    ask(address, "EndTxn", 3, {"transactional_id": "over", "committed": True, **who["over"]})
    hangs = batch(producer=who["empty"]["producer_id"], producer_epoch=0, sequence=0, attributes=16)
    answer = ask(address, "Produce", 9, {
        "transactional_id": "empty", "acks": -1, "timeout_ms": 9000, "topic_data": [
            {"name": "tooled", "partition_data": [{"index": 0, "records": hangs}]}]})
    if answer["responses"][0]["partition_responses"][0]["error_code"]:
        raise RuntimeError(f"nothing hangs: {answer}")
    return who


CALLS = [
    ("the version", ""),
    ("list", "list"),
    ("list by pattern", "list --transactional-id-pattern o.*"),
    ("list by no pattern", "list --transactional-id-pattern ["),
    ("list by duration", "list --duration-filter 3600000"),
    ("describe an open one", "describe --transactional-id open"),
    ("describe an empty one", "describe --transactional-id empty"),
    ("describe an unknown one", "describe --transactional-id nobody"),
    ("describe producers", "describe-producers --topic tooled --partition 0"),
    ("find what hangs", "find-hanging --topic tooled --max-transaction-timeout 0"),
    ("abort what hangs", "abort --topic tooled --partition 0 --start-offset 0"),
    ("abort it again", "abort --topic tooled --partition 0 --start-offset 0"),
    ("find nothing more", "find-hanging --topic tooled --max-transaction-timeout 0"),
    ("producers afterwards", "describe-producers --topic tooled --partition 0"),
    ("fence a producer", "forceTerminateTransaction --transactional-id open"),
]
EVEN = [(r"\b1[6-9]\d{11}\b", "TIME"), (r"(?m)^\s+at .*\n", ""),
        (r"(?m)^(\d+\s+open\s+.*Ongoing\s+60000\s+\S+\s+)\d+", r"\1AGE"),
        (r"(?m)^(tooled\s+\d\s+\d+\s+\d+\s+-?\d+\s+\d+\s+TIME\s+)\d+", r"\1AGE")]


def answers(tools, broker):
    who = prepare(broker.address)
    time.sleep(0.5)
    found = {}
    for name, words in CALLS:
        a = tools.run("kafka-transactions", f"--bootstrap-server {broker.address} {words}")
        text = a.out + a.err
        for pattern, with_what in EVEN:
            text = re.sub(pattern, with_what, text)
        for n, producer in enumerate(w["producer_id"] for w in who.values()):
            text = re.sub(rf"\b{producer}\b", f"<{n}>", text)
        lines = sorted(re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
        found[name] = [f"exit {a.status}", *lines]
    return found


def compare(report, place, kind):
    from harness.tools import Tools
    settings = {"transaction.partition.verification.enable": "false"}
    brokers = [place.broker(k, n, settings=settings) for k, n in (("kafka", "oracle"), (kind, "t"))]
    for b in brokers:
        b.launch()
    for b in brokers:
        b.await_ready()
    with Tools() as tools:
        wanted, got = (answers(tools, b) for b in brokers)
    for name, lines in wanted.items():
        report.check(f"kafka-transactions: {name}", lines == got[name],
                     f"\n        Kafka: {lines}\n        here:  {got[name]}")


def main():
    interrupt_on_term()
    args = arguments(__doc__, kills={"type": int, "default": 8, "help": "kills (default: 8)"},
                     no_tool={"action": "store_true", "help": "only the clients"},
                     seed={"type": int, "default": int(time.time()), "help": "of what is random"}
                     ).parse_args()
    venv.enter("transactions")
    report = Report()
    print(f"      seed {args.seed}")
    with Place(args.keep) as place:
        broker = place.broker(args.broker, settings={
            "torc.cores": 3, "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000})
        try:
            broker.start()
            killing(report, broker, args.kills, args.seed)
            if not args.no_tool:
                compare(report, place, args.broker)
        except Skip as e:
            report.skip("transactions", str(e))
        except Exception as e:
            report.fail("transactions", f"seed {args.seed}: {type(e).__name__}: {e}")
        place.keep |= report.failed > 0
        if report.failed:
            print("      the broker's log ends with:\n" + broker.log_tail())
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
