#!/usr/bin/env python3
"""One data directory, passed between torc and Apache Kafka; whoever opens it finds all of it.

    torc ──100 MB──▶ clean stop ──▶ Kafka ──10 MB──▶ clean stop ──▶ torc        and Kafka first
          every record read           every record read, appended         every record read

Twelve partitions in small segments, five producers, one for each codec, idempotent, with keys, headers
and timestamps. At each change of hands these must agree with what the one before gave out:
 1. each record: offset, timestamp, key, value, headers;
 2. topics: ids, partitions, configurations; begin and end offsets; offsets by time;
 3. what an idempotent producer wrote: a batch sent again gets the offset it had;
 4. a group's committed offsets;
 5. groups of the consumer protocol: epochs, members, what they have; they go on where they were;
 6. which transactions were committed, aborted, and left open;
 7. coordinators' state, a classic group's member, a compacted topic: see state.py.
Kafka must call nothing torn or corrupt when it opens torc's directory, and its dump tool must accept each
file in it.
"""
import hashlib
import re
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import venv  # noqa: E402
from harness.batch import batch  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.tools import Tools  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402
from interop.exchange.state import CHECKPOINT, TOPICS, State  # noqa: E402
from interop.exchange.transacted import TXN_TOPIC, Transacted  # noqa: E402

TOPIC, PARTITIONS, SEQ, GROUP = "exchange", 12, "sequenced", "exchange-group"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SETTINGS = {"log.segment.bytes": 2 << 20, "num.partitions": 1, "torc.cores": 2,
            "offsets.topic.num.partitions": 3, "transaction.state.log.num.partitions": 3,
            "log.cleaner.backoff.ms": 200}
DECODERS = {"__consumer_offsets": "--offsets-decoder",
            "__transaction_state": "--transaction-log-decoder"}
# Group, member, names of topics, pattern.
CONSUMERS = [("sharing", "one", [TOPIC, SEQ], None), ("sharing", "two", [TOPIC, SEQ], None),
             ("matching", "three", None, "exch.*"), ("ranging", "four", [TOPIC], None)]
FIRST_MB, MORE_MB, WAIT_S = 100, 10, 60
COMPLAINTS = re.compile(r"corrupt|Recovering unflushed (?!.*__cluster_metadata)|index file|ERROR|"
                        r"unclean shutdown|Found invalid|not consistent|Exception")
# Kafka's coordinators begin to load, meet the new leader epoch of their own broker, and load again; and
# its controller is asked to register before it knows that it is the active one.
RACE = re.compile(r"NotLeaderOrFollower|no longer the leader|NotController|CONTROLLER_REGISTRATION|"
                  r"^\s+at ")


def value_of(codec, counter):
    """Text that compresses as logs do, of 20 to 4,000 bytes; it cannot be told from its neighbour's."""
    word = f"{codec} {counter} {counter * 2654435761 % 2 ** 32:08x} "
    size = 20 + counter * 7919 % 400 if counter % 10 else 4000
    return (word * (size // len(word) + 1))[:size].encode()


class Writer:
    """Writes records through five producers and remembers what it wrote."""

    def __init__(self):
        self.counter, self.begin_ms = [0] * len(CODECS), int(time.time() * 1000) - 7_200_000
        self.bytes = 0

    def write(self, address, mb):
        import confluent_kafka as ck
        failed, want = [], self.bytes + (mb << 20)
        producers = [ck.Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "compression.type": codec,
            "linger.ms": 10, "batch.num.messages": 500, "message.timeout.ms": WAIT_S * 1000,
            "queue.buffering.max.messages": 200_000, "log_level": 2}) for codec in CODECS]

        def done(error, _):
            if error:
                failed.append(str(error))

        while self.bytes < want:
            for c, producer in enumerate(producers):
                for _ in range(100):
                    n = self.counter[c]
                    value = value_of(c, n)
                    producer.produce(TOPIC, value, f"key-{n}", n % PARTITIONS, on_delivery=done,
                                     timestamp=self.begin_ms + n,
                                     headers=[("n", str(n)), ("codec", CODECS[c])])
                    self.counter[c] = n + 1
                    self.bytes += len(value) + 60
                producer.poll(0)
        left = sum(p.flush(WAIT_S) for p in producers)
        if failed or left:
            raise RuntimeError(f"{len(failed)} not delivered, {left} unanswered: {failed[:3]}")
        return sum(self.counter)


def read_all(address, count):
    """A digest of each partition: all its records' offsets, times, keys, values, headers, in order."""
    import confluent_kafka as ck
    consumer = ck.Consumer({"bootstrap.servers": address, "group.id": "reader", "log_level": 2,
                            "enable.auto.commit": False, "check.crcs": True,
                            "fetch.wait.max.ms": 50, "auto.offset.reset": "error"})
    consumer.assign([ck.TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])
    digests = [hashlib.sha256() for _ in range(PARTITIONS)]
    seen, late, wrong = 0, time.monotonic() + WAIT_S, []
    while seen < count and time.monotonic() < late:
        for m in consumer.consume(5000, 1):
            if m.error():
                raise RuntimeError(f"after {seen} records: {m.error()}")
            seen += 1
            headers = dict(m.headers())
            n, codec = int(headers["n"]), CODECS.index(headers["codec"].decode())
            if m.value() != value_of(codec, n) or m.key() != b"key-%d" % n:
                wrong.append((m.partition(), m.offset()))
            digests[m.partition()].update(repr((m.offset(), m.timestamp(), m.key(), m.value(),
                                                m.headers())).encode())
    consumer.close()
    if seen != count or wrong:
        raise RuntimeError(f"{seen} of {count} records, {len(wrong)} not as written: {wrong[:3]}")
    return [d.hexdigest()[:16] for d in digests]


def settled(found):
    """Whether every partition answered."""
    return not any(p[1] for name in ("begin", "end", "by time", "max") for p in found[name])


def facts(client, begin_ms):
    """What admin calls say, without what may change with the broker."""
    topics = client.ask("Metadata", 12, {"topics": None})["topics"]
    shape = {t["name"]: (t["topic_id"].hex(), len(t["partitions"])) for t in topics}
    configs = client.ask("DescribeConfigs", 4, {"resources": [
        {"resource_type": 2, "resource_name": TOPIC, "configuration_keys": None}]})
    shape["configs"] = {c["name"]: c["value"] for c in configs["results"][0]["configs"]
                        if c["config_source"] == 1}
    for name, stamp in (("begin", -2), ("end", -1), ("by time", begin_ms + 5000), ("max", -3)):
        parts = client.ask("ListOffsets", 7, {"replica_id": -1, "topics": [
            {"name": TOPIC, "partitions": [{"partition_index": p, "timestamp": stamp}
                                           for p in range(PARTITIONS)]}]})["topics"][0]["partitions"]
        shape[name] = [(p["partition_index"], p["error_code"], p["offset"], p["timestamp"])
                       for p in sorted(parts, key=lambda p: p["partition_index"])]
    return shape


class Sequenced:
    """An idempotent producer without a client: what it wrote before, it sends again."""

    def __init__(self):
        self.pid, self.sent = None, []

    def produce(self, client, sequence):
        records = batch(((b"s", b"%d" % sequence),) * 2, producer=self.pid, producer_epoch=0,
                        sequence=sequence, time=int(time.time() * 1000))
        answer = client.ask("Produce", 9, {"acks": -1, "timeout_ms": 9000, "topic_data": [
            {"name": SEQ, "partition_data": [{"index": 0, "records": records}]}]})
        return answer["responses"][0]["partition_responses"][0]

    def go_on(self, client):
        """Write two more batches; returns what is wrong."""
        if self.pid is None:
            given = until(lambda: client.ask("InitProducerId", 4, {
                "transactional_id": None, "transaction_timeout_ms": 9000}),
                          lambda g: g["error_code"] == 0, "a producer id")
            self.pid = given["producer_id"]
        for _ in range(2):
            sequence = len(self.sent) * 2
            part = self.produce(client, sequence)
            if part["error_code"]:
                return f"sequence {sequence}: {part}"
            self.sent.append(part["base_offset"])
        return ""

    def repeat(self, client):
        """The last again, as snapshots hold no more, and one from beyond a gap; returns what is wrong."""
        count = len(self.sent)
        part = self.produce(client, count * 2 - 2)
        if part["error_code"] or part["base_offset"] != self.sent[-1]:
            return f"sequence {count * 2 - 2} was at {self.sent[-1]}, again: {part}"
        part = self.produce(client, count * 2 + 10)
        return "" if part["error_code"] == 45 else f"a gap in the sequence: {part}"


def commit(client, offset):
    """Commit an offset in a group that nobody is in."""
    answer = client.ask("OffsetCommit", 8, {
        "group_id": GROUP, "generation_id_or_member_epoch": -1, "member_id": "", "topics": [
            {"name": TOPIC, "partitions": [{"partition_index": 3, "committed_offset": offset,
                                            "committed_metadata": f"at {offset}"}]}]})
    return answer["topics"][0]["partitions"][0]["error_code"]


def committed(client):
    answer = client.ask("OffsetFetch", 7, {"group_id": GROUP, "topics": [
        {"name": TOPIC, "partition_indexes": [3]}], "require_stable": False})
    part = answer["topics"][0]["partitions"][0] if answer["topics"] else {}
    return (part.get("committed_offset"), part.get("metadata"),
            part.get("error_code") or answer.get("error_code"))


def beat(client, group, member, epoch, names=None, pattern=None):
    """A heartbeat of a member; at epoch 0 it joins, and has nothing."""
    more = {} if epoch else {"rebalance_timeout_ms": 60000, "topic_partitions": [],
                             "subscribed_topic_names": names, "subscribed_topic_regex": pattern,
                             "server_assignor": "range" if group == "ranging" else "uniform"}
    return client.ask("ConsumerGroupHeartbeat", 1, {
        "group_id": group, "member_id": member, "member_epoch": epoch, **more})


def consumers(client):
    """The groups of the consumer protocol, as they are described."""
    found = {}
    for g in client.ask("ConsumerGroupDescribe", 1, {
            "group_ids": sorted({c[0] for c in CONSUMERS})})["groups"]:
        for m in g["members"]:
            for key in ("assignment", "target_assignment"):
                m[key] = sorted((t["topic_name"], sorted(t["partitions"]))
                                for t in m[key]["topic_partitions"])
        found[g["group_id"]] = {**g, "members": sorted(g["members"], key=lambda m: m["member_id"])}
    return found


def stable(found):
    return all(g["group_state"] == "Stable" and all(
        m["assignment"] for m in g["members"]) for g in found.values())


def join_all(client):
    for group, member, names, pattern in CONSUMERS:
        beat(client, group, member, 0, names, pattern)
    return consumers(client)


def go_on(client, found):
    """Each says that it is still there; returns the groups as they are then."""
    epochs = {(g, m["member_id"]): m["member_epoch"] for g in found for m in found[g]["members"]}
    wrong = [(who, a["error_code"], a["member_epoch"]) for who, epoch in epochs.items()
             for a in [beat(client, *who, epoch)] if a["error_code"] or a["member_epoch"] != epoch]
    return wrong or consumers(client)


def until(attempt, wanted, what):
    """Repeat what a broker that has just started may refuse at first."""
    late, last = time.monotonic() + WAIT_S, None
    while time.monotonic() < late:
        try:
            last = attempt()
            if wanted(last):
                return last
        except (OSError, Closed) as e:
            last = e
        time.sleep(0.1)
    raise RuntimeError(f"{what}: {last} after {WAIT_S} s")


class Exchange:
    """The one directory, and what must be found in it."""

    def __init__(self, report, place, name):
        self.report, self.place, self.name = report, place, name
        self.folder = place.folder / name
        self.writer, self.sequenced = Writer(), Sequenced()
        self.transacted = Transacted(until)
        self.digests = self.facts = self.offset = self.groups = None
        self.port = None
        self.count = 0
        self.state = State(self.folder / "data")

    def broker(self, kind, turn):
        """The broker of this turn, on the one data directory."""
        b = self.place.broker(kind, f"{self.name}/{turn}-{kind}", settings=SETTINGS)
        if self.port:  # metadata holds the listeners of the node that registers next anyway
            b.port, b.controller = self.port
            b.address = f"127.0.0.1:{b.port}"
        self.port = b.port, b.controller
        b.data = self.folder / "data"
        return b

    def turn(self, kind, turn, mb):
        """Open, compare with all that is known, write more, stop cleanly."""
        b, say = self.broker(kind, turn), f"{self.name}: {kind}"
        b.start()
        with Client(b.address, WAIT_S) as c:
            complaints = [line for line in b.log.read_text(errors="replace").splitlines()
                          if COMPLAINTS.search(line) and not RACE.search(line)] if kind == "kafka" else []
            self.report.check(f"{say} calls nothing torn", not complaints,
                              "\n".join(complaints[:8]))
            until(lambda: c.ask("FindCoordinator", 2, {"key": GROUP})["error_code"],
                  lambda e: e == 0, "a coordinator")
            if turn == 0:
                self.create(c)
            else:
                self.compare(c, b, say)
            begin = time.monotonic()
            self.count = self.writer.write(b.address, mb)
            took = time.monotonic() - begin
            wrong = self.sequenced.go_on(c)
            self.report.check(f"{say} takes an idempotent producer's next", not wrong, wrong)
            self.transacted.go_on(c)
            wrong = self.transacted.wrong(c)
            self.report.check(f"{say} ends transactions", not wrong, wrong)
            self.offset = 1000 + turn
            until(lambda: commit(c, self.offset), lambda e: e == 0, "a commit")
            wrong = self.state.leave(c)
            self.report.check(f"{say} takes transactions", not wrong, f"{wrong}")
            self.facts = until(lambda: facts(c, self.writer.begin_ms), settled, "offsets")
            self.groups = until(lambda: join_all(c), stable, "consumers with partitions")
        self.digests = read_all(b.address, self.count)
        status = b.stop()
        self.report.check(f"{say} writes up to {self.count} records and stops", status in (0, 143),
                          f"exit {status}")
        print(f"      {mb} MB in {took:.1f} s")
        return b

    def create(self, client):
        answer = client.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": TOPIC, "num_partitions": PARTITIONS, "replication_factor": 1, "configs": [
                {"name": "segment.bytes", "value": str(1 << 20)},
                {"name": "index.interval.bytes", "value": "1024"}]},
            {"name": SEQ, "num_partitions": 1, "replication_factor": 1},
            {"name": TXN_TOPIC, "num_partitions": 1, "replication_factor": 1}, *TOPICS]})
        if any(t["error_code"] for t in answer["topics"]):
            raise RuntimeError(f"{answer}")
        until(lambda: facts(client, 0), settled, "leaders")

    def compare(self, client, broker, say):
        """Facts 1 to 7 of the head of this file."""
        got = until(lambda: facts(client, self.writer.begin_ms), settled, "offsets")
        for key, want in self.facts.items():
            self.report.check(f"{say} finds the same {key}", got.get(key) == want,
                              f"{str(got.get(key))[:300]}, not {str(want)[:300]}")
        self.report.case(f"{say} gives every record as it was", self.same_records, broker)
        wrong = self.sequenced.repeat(client)
        self.report.check(f"{say} knows what an idempotent producer wrote", not wrong, wrong)
        wrong = self.transacted.wrong(client)
        self.report.check(f"{say} knows how each transaction ended", not wrong, wrong)
        want = self.offset, f"at {self.offset}", 0
        found = until(lambda: committed(client), lambda f: f[2] == 0, "a group's offsets")
        self.report.check(f"{say} finds the group's offset", found == want, f"{found}, not {want}")

        found = until(lambda: consumers(client),
                      lambda f: all(g["error_code"] not in (14, 15, 16) for g in f.values()), "groups")
        self.report.check(f"{say} finds the same consumers", found == self.groups,
                          f"{str(found)[:900]}, not {str(self.groups)[:900]}")
        found = go_on(client, found)
        self.report.check(f"{say} lets them go on", found == self.groups,
                          f"{str(found)[:900]}, not {str(self.groups)[:900]}")

        for fact, wrong in self.state.find(client):
            self.report.check(f"{say} {fact}", not wrong, wrong)

    def same_records(self, broker):
        digests = read_all(broker.address, self.count)
        wrong = [p for p in range(PARTITIONS) if digests[p] != self.digests[p]]
        if wrong:
            raise AssertionError(f"partitions {wrong} changed")
        return f"{self.count} records"


def dump(report, tools, data, say):
    """Kafka's dump tool on every segment, index, snapshot and checkpoint."""
    files = {kind: sorted(data.rglob(f"*{kind}")) for kind in
             (".log", ".index", ".timeindex", ".txnindex", ".snapshot", ".checkpoint")}
    for kind, found in files.items():
        # topic-checkpoint files are text without a suffix; .checkpoint is metadata's snapshots
        bad, words = [], []
        for n in range(0, len(found), 40):
            part = ",".join(map(str, found[n:n + 40]))
            if kind in (".index", ".timeindex"):
                words = ["--index-sanity-check"]
            elif kind == ".checkpoint":
                words = ["--cluster-metadata-decoder"]
            answer = tools.run("kafka-dump-log", "--files", part, *words, limit_s=120)
            text = answer.out + answer.err
            bad += [line for line in text.splitlines()
                    if re.search(r"isvalid: false|Found \w+ mismatch|failed sanity|Exception|Mismatches|"
                                 r"Could not|offset mismatch|corrupt", line)]
            if answer.status:
                bad.append(f"exit {answer.status}: {text[-300:]}")
        if found:
            report.check(f"{say}: Kafka's dump tool accepts {len(found)} {kind} files", not bad,
                         "\n".join(bad[:6]))
    for topic, decoder in DECODERS.items():
        logs = ",".join(map(str, sorted(data.glob(f"{topic}-*/*.log"))))
        answer = tools.run("kafka-dump-log", "--files", logs, decoder, limit_s=120)
        count = len(re.findall(r"^\| offset: .*payload", answer.out, re.M))
        report.check(f"{say}: Kafka's dump tool decodes {topic}", not answer.status and count > 0
                     and "Could not" not in answer.out, f"{count} records, {answer.err[-300:]}")
    lines = (data / CHECKPOINT).read_text().splitlines()
    report.check(f"{say}: {CHECKPOINT} is one of Kafka's", lines[0] == "0"
                 and int(lines[1]) == len(lines) - 2, f"{lines}")


def main():
    interrupt_on_term()
    parser = arguments(__doc__, mb={"type": int, "default": FIRST_MB, "help": "how much at first"})
    args = parser.parse_args()
    venv.enter("exchange")
    report = Report()
    try:
        with Place(args.keep) as place, Tools() as tools:
            for name, order in (("there", [args.broker, "kafka", args.broker]),
                                ("back", ["kafka", args.broker, "kafka"])):
                exchange = Exchange(report, place, name)
                for turn, kind in enumerate(order):
                    b = exchange.turn(kind, turn, MORE_MB if turn else args.mb)
                    if kind == args.broker:
                        dump(report, tools, b.data, f"{name}, turn {turn}")
            place.keep |= report.failed > 0
    except Skip as e:
        report.skip("exchange", str(e))
    except Exception as e:
        report.fail("exchange", f"{type(e).__name__}: {e}")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
