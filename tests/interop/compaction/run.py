#!/usr/bin/env python3
"""Compaction: the same records to torc and to Apache Kafka, cleaned by both, leave the same.

    phase by phase into two topics ─▶ min.cleanable.dirty.ratio 1 ─▶ 0.01: one round of cleaning
                                      more records, another round: what was a deletion is gone now

Timestamps are chosen so that each phase begins a segment. Compared are the files, segment by segment:
batches with offsets, attributes, producers and sequences, records, offset indexes, sizes of the others,
and the cleaner's checkpoint. The topics differ in delete.retention.ms: in `soon` deletions and markers go
in the second round, in `late` they stay.

And on torc alone: a group's offsets survive that __consumer_offsets is compacted, and a kill after it.
"""
import re
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness.batch import batch, read_batches, read_records  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

TOPICS = {"soon": "0", "late": "86400000"}
WAIT_S, MINUTE, HOUR = 60, 60_000, 3_600_000
SETTINGS = {"log.cleaner.backoff.ms": 100, "log.initial.task.delay.ms": 100, "torc.cores": 1,
            "offsets.topic.num.partitions": 1, "transaction.state.log.num.partitions": 1,
            "log.cleaner.dedupe.buffer.size": 16 << 20, "log.flush.offset.checkpoint.interval.ms": 500}
CONTROL, HORIZON = 0x20, 0x40


def until(attempt, wanted, what):
    late, last = time.monotonic() + WAIT_S, None
    while time.monotonic() < late:
        try:
            last = attempt()
            if wanted(last):
                return last
        except (OSError, Closed) as e:
            last = e
        time.sleep(0.05)
    raise RuntimeError(f"{what}: {str(last)[:300]} after {WAIT_S} s")


class Side:
    """One broker and what is written to it."""

    def __init__(self, place, kind, now):
        self.kind, self.now = kind, now
        self.broker = place.broker(kind, kind, settings=SETTINGS)
        self.broker.start()
        self.client = Client(self.broker.address, WAIT_S)
        self.producers = {}  # name -> [producer id, epoch, next sequence by topic]
        answer = self.client.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": name, "num_partitions": 1, "replication_factor": 1, "configs": [
                {"name": "cleanup.policy", "value": "compact"},
                {"name": "segment.ms", "value": str(MINUTE)},
                {"name": "index.interval.bytes", "value": "100"},
                {"name": "min.cleanable.dirty.ratio", "value": "1"},
                {"name": "delete.retention.ms", "value": retention}]}
            for name, retention in TOPICS.items()]})
        if any(t["error_code"] for t in answer["topics"]):
            raise RuntimeError(f"{kind}: {answer}")

    def produce(self, topic, records, at, producer=None, attributes=0):
        how = {}
        if producer:
            known = self.producers[producer]
            how = {"producer": known[0], "producer_epoch": known[1],
                   "sequence": known[2].get(topic, 0)}
            known[2][topic] = how["sequence"] + len(records)
        raw = batch(tuple((k.encode(), None if v is None else v.encode()) for k, v in records),
                    time=at, attributes=attributes, **how)
        transactional = producer if attributes & 0x10 else None

        def send():
            answer = self.client.ask("Produce", 9, {
                "transactional_id": transactional, "acks": -1, "timeout_ms": 9000, "topic_data": [
                    {"name": topic, "partition_data": [{"index": 0, "records": raw}]}]})
            return answer["responses"][0]["partition_responses"][0]
        part = until(send, lambda p: p["error_code"] not in (3, 6, 5, 51), "a produce")
        if part["error_code"]:
            raise RuntimeError(f"{self.kind}: {topic}: {part}")

    def begin(self, name, transactional=False):
        if transactional:
            until(lambda: self.client.ask("FindCoordinator", 2, {"key": name, "key_type": 1}),
                  lambda a: a["error_code"] == 0, "a coordinator")
        given = until(lambda: self.client.ask("InitProducerId", 4, {
            "transactional_id": name if transactional else None, "transaction_timeout_ms": 60000}),
            lambda g: g["error_code"] == 0, "a producer id")
        self.producers[name] = [given["producer_id"], given["producer_epoch"], {}]

    def transaction(self, name, topic, records, at, commit):
        """One transaction; its marker has the broker's time."""
        pid, epoch, _ = self.producers[name]
        until(lambda: self.client.ask("AddPartitionsToTxn", 3, {
            "v3_and_below_transactional_id": name, "v3_and_below_producer_id": pid,
            "v3_and_below_producer_epoch": epoch,
            "v3_and_below_topics": [{"name": topic, "partitions": [0]}]}),
            lambda a: a["results_by_topic_v3_and_below"][0]["results_by_partition"][0]
            ["partition_error_code"] == 0, "a transaction")
        for record in records:
            self.produce(topic, [record], at, name, attributes=0x10)
        until(lambda: self.client.ask("EndTxn", 3, {
            "transactional_id": name, "producer_id": pid, "producer_epoch": epoch,
            "committed": commit}), lambda a: a["error_code"] == 0, "an end")
        end = self.end_offset(topic, 0)
        until(lambda: self.end_offset(topic, 1), lambda stable: stable >= end, "a marker")

    def end_offset(self, topic, isolation):
        answer = self.client.ask("ListOffsets", 7, {
            "replica_id": -1, "isolation_level": isolation, "topics": [
                {"name": topic, "partitions": [{"partition_index": 0, "timestamp": -1}]}]})
        return answer["topics"][0]["partitions"][0]["offset"]

    def alter(self, topic, name, value):
        answer = self.client.ask("IncrementalAlterConfigs", 1, {"resources": [
            {"resource_type": 2, "resource_name": topic, "configs": [
                {"name": name, "config_operation": 0, "value": value}]}]})
        if answer["responses"][0]["error_code"]:
            raise RuntimeError(f"{self.kind}: {answer}")

    # ---- what is written

    def first_round(self, topic):
        past = self.now - 10 * HOUR
        for n in range(6):
            self.produce(topic, [(f"k{i}", f"v{n}-{i}" * 5) for i in range(n, n + 5)], past)
        self.produce(topic, [(f"z{i % 4}", f"gzip {i} " * 20) for i in range(20)], past + 1, None, 1)
        self.produce(topic, [("k3", "again"), ("k3", "and again"), ("only", "once")], past + HOUR)
        for n in range(4):
            self.produce(topic, [(f"p{n % 2}", f"sequenced {n}")], past + HOUR + n, "plain")
        self.produce(topic, [("k4", None), ("k5", "kept"), ("k6", None)], past + 2 * HOUR)
        self.transaction("aborts", topic, [("k1", "aborted"), ("k2", "aborted")], past + 3 * HOUR,
                         False)
        self.transaction("commits", topic, [("k2", "committed"), ("t", "committed")],
                         past + 3 * HOUR, True)
        soon = self.now + 5 * MINUTE
        self.produce(topic, [(f"p{n}", "later") for n in range(2)], soon)
        self.produce(topic, [("active", "1")], soon + 5 * MINUTE)

    def second_round(self, topic):
        soon = self.now + 15 * MINUTE
        self.produce(topic, [("k4", "back"), ("k0", None)], soon)
        self.transaction("aborts", topic, [("k7", "aborted")], soon + 1, False)
        self.produce(topic, [("t", "over it"), ("k2", "over it")], soon + 5 * MINUTE)
        self.produce(topic, [("active", "2")], soon + 10 * MINUTE)

    # ---- what is there

    def segments(self, topic):
        """Files of all but the active segment: (base, batches, offset index, sizes of the others)."""
        folder = self.broker.data / f"{topic}-0"
        pids = {p[0]: name for name, p in self.producers.items()}
        found = []
        for log in sorted(folder.glob("*.log"))[:-1]:
            batches = [self.plain(b, pids) for b in read_batches(log.read_bytes(), False)]
            aborted = log.with_suffix(".txnindex")
            found.append((log.stem, batches, log.with_suffix(".index").read_bytes().hex(),
                          log.with_suffix(".timeindex").stat().st_size,
                          aborted.stat().st_size if aborted.exists() else 0))
        return found

    @staticmethod
    def plain(b, pids):
        """A batch without what may differ: checksums, sizes when packed, times of the broker's own."""
        own = bool(b["attributes"] & CONTROL)
        records = [(r[0], 0 if own else r[1], r[2], r[3]) for r in read_records(b)]
        first = 0 if own or b["attributes"] & HORIZON else b["first_time"]
        return (b["base_offset"], b["last_delta"], b["attributes"], first,
                0 if own else b["max_time"], pids.get(b["producer"], b["producer"]),
                b["producer_epoch"], b["sequence"], b["count"], b["epoch"], tuple(records))

    def clean(self, topic, gone):
        """Lets the cleaner work till nothing of `gone` (key, value) is left."""
        def left():
            segments = self.segments(topic)
            busy = [p.name for p in (self.broker.data / f"{topic}-0").iterdir()
                    if p.suffix in (".cleaned", ".swap")]
            return busy + [r[0] for s in segments for b in s[1] for r in b[-1]
                           if (r[2], r[3]) == gone]
        self.alter(topic, "min.cleanable.dirty.ratio", "0.001")
        until(left, lambda found: not found, f"{self.kind} cleaning {topic}")
        time.sleep(0.3)  # the round's last swap is seen before the round is over
        self.alter(topic, "min.cleanable.dirty.ratio", "1")

    def checkpoint(self):
        path = self.broker.data / "cleaner-offset-checkpoint"
        lines = path.read_text().splitlines()[2:] if path.exists() else []
        return sorted(line for line in lines if line.split()[0] in TOPICS)


def explain(one, other):
    """The first difference between two lists of segments."""
    if [s[0] for s in one] != [s[0] for s in other]:
        return f"segments {[s[0][-6:] for s in one]}, not {[s[0][-6:] for s in other]}"
    for a, b in zip(one, other):
        for x, y in zip(a[1], b[1]):
            if x != y:
                return f"segment {a[0]}: torc has\n{x}\nKafka has\n{y}"
        if len(a[1]) != len(b[1]):
            return f"segment {a[0]}: {len(a[1])} batches, not {len(b[1])}: {(a[1] + b[1])[-1]}"
        if a[2:] != b[2:]:
            return f"segment {a[0]}: indexes {a[2:]}, not {b[2:]}"
    return ""


def compare(report, sides):
    for side in sides:
        side.begin("plain")
        side.begin("aborts", True)
        side.begin("commits", True)
        for topic in TOPICS:
            side.first_round(topic)
    for name, work, gone in (("first", None, (b"k3", b"again")),
                             ("second", Side.second_round, (b"k2", b"committed"))):
        for side in sides:
            for topic in TOPICS:
                if work:
                    work(side, topic)
                side.clean(topic, gone)
        for topic in TOPICS:
            torc, kafka = (side.segments(topic) for side in sides)
            report.check(f"{name} round, {topic}: the same is left", torc == kafka,
                         explain(torc, kafka))
            count = sum(b[8] for s in torc for b in s[1])
            print(f"      {topic}: {count} records in {len(torc)} segments")
        want = sides[1].checkpoint()
        got = until(sides[0].checkpoint, lambda c: c == want, "torc's checkpoint") if want else None
        report.check(f"{name} round: the same cleaner checkpoint", bool(want) and got == want,
                     f"{got}, not {want}")


# ---- the directory changes hands

COMPLAINTS = re.compile(r"[Cc]orrupt|Resetting first dirty|index file|ERROR|Found invalid|Exception")


def taken_over(place, side):
    """Kafka opens what torc has compacted, finds it as it was, and compacts on from there."""
    before = {topic: side.segments(topic) for topic in TOPICS}
    side.client.close()
    side.broker.stop()
    kafka = place.broker("kafka", "taken-over", settings=SETTINGS)
    kafka.port, kafka.controller = side.broker.port, side.broker.controller
    kafka.address, kafka.data = side.broker.address, side.broker.data
    kafka.start()
    try:
        time.sleep(1)  # its cleaner looks ten times
        lines = [line for line in kafka.log.read_text(errors="replace").splitlines()
                 if COMPLAINTS.search(line) and ("soon-0" in line or "late-0" in line or
                                                 "leaner" in line)]
        if lines:
            raise AssertionError("\n".join(lines[:5]))
        wrong = [t for t in TOPICS if side.segments(t) != before[t]]
        if wrong:
            raise AssertionError(f"{wrong} changed: {explain(side.segments(wrong[0]), before[wrong[0]])}")
    finally:
        kafka.kill()
    return f"{sum(len(s) for s in before.values())} segments"


# ---- offsets of groups ---------------------------------------------------------------------------

def commit(client, group, offset):
    answer = client.ask("OffsetCommit", 8, {
        "group_id": group, "generation_id_or_member_epoch": -1, "member_id": "", "topics": [
            {"name": "soon", "partitions": [{"partition_index": 0, "committed_offset": offset,
                                             "committed_metadata": "m" * 3500}]}]})
    return answer["topics"][0]["partitions"][0]["error_code"]


def committed(client, group):
    answer = client.ask("OffsetFetch", 7, {"group_id": group, "topics": [
        {"name": "soon", "partition_indexes": [0]}], "require_stable": False})
    part = answer["topics"][0]["partitions"][0] if answer["topics"] else {}
    return part.get("error_code") or answer.get("error_code") or part.get("committed_offset")


def offsets_survive(side):
    """Commits of ten groups fill segments of __consumer_offsets; all but the last ones go."""
    c, b = side.client, side.broker
    groups = [f"group {n}" for n in range(10)]
    for group in groups:
        until(lambda: c.ask("FindCoordinator", 2, {"key": group})["error_code"], lambda e: e == 0,
              "a coordinator")
    side.alter("__consumer_offsets", "segment.bytes", str(1 << 20))
    side.alter("__consumer_offsets", "min.cleanable.dirty.ratio", "0.01")
    size, offset = 0, 0
    while size < 2_500_000:
        offset += 1
        for group in groups:
            until(lambda: commit(c, group, offset), lambda e: e == 0, "a commit")
        size += 3600 * len(groups)
    folder = b.data / "__consumer_offsets-0"

    def kept():
        return sum(p.stat().st_size for p in sorted(folder.glob("*.log"))[:-1])
    until(lambda: (len(list(folder.glob("*.log"))) > 1, kept()), lambda k: k[0] and k[1] < 100_000,
          "compaction of __consumer_offsets")
    for how in (b.kill, b.stop):
        how()
        b.start()
        with Client(b.address, WAIT_S) as again:
            for group in groups:
                until(lambda: committed(again, group), lambda o: o == offset, f"offset of {group}")
    lines = re.findall(r"__consumer_offsets-0: cleaned [^\n]*", b.log.read_text(errors="replace"))
    return f"{offset} commits of {len(groups)} groups, {len(lines)} rounds: {lines[0]}"


def main():
    interrupt_on_term()
    args = arguments(__doc__).parse_args()
    report = Report()
    try:
        with Place(args.keep) as place:
            now = int(time.time() * 1000)
            torc, kafka = (Side(place, kind, now) for kind in (args.broker, "kafka"))
            compare(report, (torc, kafka))
            kafka.broker.kill()
            report.case("a group's offsets survive compaction, a kill and a stop", offsets_survive,
                        torc)
            report.case("Kafka opens the compacted directory and finds it as it was", taken_over,
                        place, torc)
            place.keep |= report.failed > 0
    except Skip as e:
        report.skip("compaction", str(e))
    except Exception as e:
        report.fail("compaction", f"{type(e).__name__}: {e}")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
