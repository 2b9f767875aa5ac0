#!/usr/bin/env python3
"""Consumer groups: the same conversations with Apache Kafka and with the broker under test, answer by
answer and field by field; then real clients, which share partitions, commit, and find their place after
a kill -9. Where the answers differ, differences.txt says why."""
import importlib
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client  # noqa: E402
from interop.compare.run import Allowed, differences  # noqa: E402
from interop.groups.members import run_clients  # noqa: E402
from interop.groups.talk import TALKS, Talk, ready  # noqa: E402

HERE = Path(__file__).resolve().parent
PARTS = ["talks", "participants", "talks_transactions", "consumers", "talks_consumer"]
TOPICS = {"plain": 3, "small": 1, "doomed": 1, "marked": 1, "wide": 7, **{f"tx-{n}": 1 for n in (
    "one", "two", "next", "odd", "fence", "late", "mark", "see", "list", "gone")}}
READY_S, SHOWN = 30, 25


def set_up(broker):
    """The topics of the talks; returns their ids."""
    with Client(broker.address) as c:
        answer = c.ask("CreateTopics", 7, {"timeout_ms": 30000, "topics": [
            {"name": n, "num_partitions": p, "replication_factor": 1} for n, p in TOPICS.items()]})
        ids = {t["name"]: t["topic_id"] for t in answer["topics"]}
        late = time.monotonic() + READY_S
        while any(p["error_code"] for t in c.ask("Metadata", 12, {"topics": [
                {"name": n} for n in TOPICS]})["topics"] for p in t["partitions"] or [
                {"error_code": 3}]):
            if time.monotonic() > late:
                raise RuntimeError("the topics of the talks have no leaders")
            time.sleep(0.05)
    return ids


class Side:
    """One broker's answers, talk by talk."""

    def __init__(self, broker, wanted):
        self.broker, self.wanted, self.lines, self.failure = broker, wanted, {}, None

    def run(self):
        try:
            talk = Talk(self.broker, set_up(self.broker))
            ready(talk)
            for name, hold in TALKS:
                if self.wanted and name not in self.wanted:
                    continue
                talk.begin()
                try:
                    hold(talk)
                except Exception as e:
                    talk.lines.append(("the talk ended", 0, "", f"{type(e).__name__}: {e}"))
                talk.end()
                self.lines[name] = talk.lines
        except Exception as e:
            self.failure = e


def compare(report, name, kafka, other, allowed):
    """Line by line; returns what was asked, for the count."""
    found = []
    for (api, version, said, answer), (api2, version2, said2, answer2) in zip(kafka, other):
        where = f"{api} v{version} {name}"
        if (api, version, said) != (api2, version2, said2):
            found.append(f"{where}: asked: {said} -> {api2} v{version2} {said2}")
            break
        for path, a, b in differences("", answer, answer2):
            line = f"{where}: {path}: {str(a)[:300]} -> {str(b)[:300]}"
            if not allowed.covers(line):
                found += [line, f"    asked {said[:300]}"]
    broken = [line for line in kafka if line[0] == "the talk ended"]
    if broken:
        report.fail(name, f"with Kafka: {broken[0][3]}")
    elif found or len(kafka) != len(other):
        found = found or [f"{len(kafka)} answers -> {len(other)}"]
        report.fail(name, "\n".join("        " + line for line in found[:SHOWN]))
    else:
        report.ok(name, f"{len(kafka)} answers")
    return {(api, version, name, said) for api, version, said, _ in kafka}


def talks(report, place, kind, wanted):
    # Kafka puts assignments off for up to a second to make several at once; one talk is about that.
    settings = {"log.retention.ms": -1, "group.consumer.assignment.interval.ms": 0,
                "transaction.abort.timed.out.transaction.cleanup.interval.ms": 200}
    sides = [Side(place.broker(k, n, settings=settings).start(), wanted)
             for k, n in (("kafka", "oracle"), (kind, "other"))]
    threads = [threading.Thread(target=s.run) for s in sides]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for side in sides:
        if side.failure:
            report.fail(f"talks with {side.broker.kind}", str(side.failure))
    allowed, asked = Allowed(HERE / "differences.txt"), set()
    for name, lines in sides[0].lines.items():
        asked |= compare(report, name, lines, sides[1].lines.get(name, []), allowed)
    if not wanted and kind != "kafka":
        allowed.tell_unused()
    print(f"      {len({a[:2] for a in asked})} pairs of API and version, {len(asked)} triples with cases")
    report.check("the broker is still up", sides[1].broker.alive(), sides[1].broker.log_tail(5))


def main():
    interrupt_on_term()
    parser = arguments(__doc__)
    parser.add_argument("only", nargs="*", help="talks or clients by name; all if none is named")
    parser.add_argument("--no-talks", action="store_true", help="only the clients")
    parser.add_argument("--no-clients", action="store_true", help="only the talks")
    args = parser.parse_args()
    for part in PARTS:
        importlib.import_module(f"interop.groups.{part}")
    report = Report()
    with Place(args.keep) as place:
        if not args.no_talks:
            try:
                talks(report, place, args.broker, args.only)
            except Skip as e:
                report.skip("talks", str(e))
        if not args.no_clients:
            run_clients(report, place, args.broker, args.only)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
