#!/usr/bin/env python3
"""The same requests to the broker under test and to Apache Kafka; the answers compared field by field.

The requests are in cases/. What two brokers cannot share (ids, times, ports, directories) is evened out,
and lists without an order are compared as sets. Every other difference must stand in differences.txt
with its reason; an entry there that no longer matches anything is reported, so that the list stays true.
"""
import base64
import fnmatch
import importlib
import re
import struct
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness.batch import batch, read_batches  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client, Closed, decode_response  # noqa: E402
from interop.compare.case import CASES, Id, Pid  # noqa: E402

HERE = Path(__file__).resolve().parent
PARTS = ["topics", "records", "cluster"]
READY_S, DAY_MS = 20, 86_400_000
SEQUENCES = {f"seq-{v}": (1, {}) for v in range(3, 14)}
SETUP = {"plain": (3, {}), "small": (1, {"max.message.bytes": "1000"}), "empty": (1, {}),
         "compacted": (1, {"cleanup.policy": "compact"}), "cut": (1, {}), "growing": (2, {}),
         "appended": (1, {"message.timestamp.type": "LogAppendTime"}), "doomed": (1, {}),
         "altered": (1, {}), **SEQUENCES}
# What a list's elements are called by, so that a missing one is seen as missing.
NAMES = ["api_key", "name", "topic", "topic_name", "topic_id", "partition_index", "partition",
         "resource_name", "broker_id", "node_id", "feature", "replica_id", "log_dir", "index"]
BLURRED = {"finalized_features_epoch", "high_watermark@DescribeQuorum", "log_end_offset",
           "last_fetch_timestamp", "last_caught_up_timestamp", "total_bytes", "usable_bytes",
           "session_id", "client_instance_id", "subscription_id", "max_lag_time_ms",
           "leader_epoch@DescribeQuorum"}


class Side:
    """One of the two brokers, and what only it knows."""

    def __init__(self, broker):
        self.broker, self.ids, self.pids = broker, {}, {}

    def set_up(self):
        topics = [{"name": n, "num_partitions": p, "replication_factor": 1, "configs": [
            {"name": k, "value": v} for k, v in configs.items()]}
            for n, (p, configs) in SETUP.items()]
        with Client(self.broker.address) as c:
            answer = c.ask("CreateTopics", 7, {"topics": topics, "timeout_ms": 30000})
            for t in answer["topics"]:
                if t["error_code"]:
                    raise RuntimeError(f"setting up: {t}")
                self.ids[t["name"]] = t["topic_id"]
            late = time.monotonic() + READY_S
            while not self.ready(c):
                if time.monotonic() > late:
                    raise RuntimeError("the topics of the cases have no leaders")
                time.sleep(0.05)
            for _ in range(10):
                c.ask("Produce", 7, {"acks": -1, "timeout_ms": 9000, "topic_data": [
                    {"name": "cut", "partition_data": [{"index": 0, "records": batch()}]}]})

    def ready(self, client):
        answer = client.ask("ListOffsets", 5, {"replica_id": -1, "topics": [
            {"name": n, "partitions": [{"partition_index": i, "timestamp": -1}
                                       for i in range(p)]} for n, (p, _) in SETUP.items()]})
        return not any(p["error_code"] for t in answer["topics"] for p in t["partitions"])

    def resolve(self, value):
        """Put this broker's ids for Id and Pid."""
        if isinstance(value, Id):
            return self.ids[value.topic]
        if isinstance(value, Pid):
            return self.pids[value.name]
        if isinstance(value, tuple):
            return value[0](**self.resolve(value[1])) if callable(value[0]) else value
        if isinstance(value, dict):
            return {k: self.resolve(v) for k, v in value.items()}
        return [self.resolve(v) for v in value] if isinstance(value, list) else value

    def run(self, case, version):
        """The answer as a dict, or a word for what came instead."""
        late = time.monotonic() + READY_S
        while True:
            values = self.ask(case, version)
            if not case.until_ok or not values.get("error_code") or time.monotonic() > late:
                break
            time.sleep(0.05)
        if case.keep:
            self.pids[case.keep] = values["producer_id"]
        return values

    def ask(self, case, version):
        with Client(self.broker.address, case.wait_s) as c:
            try:
                how = {"body": case.body} if case.body is not None else {}
                c.send(case.api, version, self.resolve(case.values(version)), **how)
                if case.silent:
                    return self.silence(c)
                frame = c.receive_frame()
            except Closed:
                return {"answer": "closed"}
            except TimeoutError:
                return {"answer": "none"}
        shown = version if case.answer_version is None else case.answer_version
        try:
            correlation, values = decode_response(case.api, shown, frame)
        except (ValueError, struct.error) as e:
            return {"answer": f"not readable: {e}", "bytes": frame.hex()}
        if correlation != c.correlation:
            return {"answer": f"correlation id {correlation} for {c.correlation}"}
        return values

    def silence(self, client):
        """No answer to the request before: the next answer is to the next request."""
        client.send("ApiVersions", 0)
        correlation = struct.unpack(">i", client.receive_frame()[:4])[0]
        return {"answer": "none" if correlation == client.correlation else "one"}


class Evener:
    """Makes an answer comparable."""

    def __init__(self, side, api):
        self.side, self.api = side, api
        self.names = {v: f"<id of {k}>" for k, v in side.ids.items()}
        b = side.broker
        self.texts = [(str(b.port), "PORT")]
        if b.kind != "address":
            self.texts += [(str(b.controller), "CPORT"), (str(b.data), "DATA"),
                           (str(b.folder), "DIR")]
        self.texts += [(base64.urlsafe_b64encode(v).decode().rstrip("="), n)
                       for v, n in self.names.items()]

    def text(self, value):
        for word, blank in self.texts:
            value = value.replace(word, blank)
        value = re.sub(r"-922\d{16}", "BOUND", value)  # counted from now, in "out of range"
        return re.sub(r"\b1[6-9]\d{11}\b", "TIME", value)

    def one(self, name, value):
        if name in BLURRED or f"{name}@{self.api}" in BLURRED:
            return "N" if value not in (0, -1, None) else value
        if name == "cluster_id" and value:
            return "ID"
        if name == "records":
            return [self.whole("", b) for b in read_batches(value or b"")]
        if isinstance(value, bytes):
            if len(value) == 16 and any(value):
                return self.names.get(value, "ID")
            return value.hex()
        if name in ("producer_id", "producer") and value >= 0:
            known = {v: k for k, v in self.side.pids.items()}
            return known.get(value, "PID")
        if name == "crc":  # covers the times and ids
            return "CRC"
        if isinstance(value, int) and not isinstance(value, bool):
            if value == self.side.broker.port:
                return "PORT"
            if self.side.broker.kind != "address" and value == self.side.broker.controller:
                return "CPORT"
            return "TIME" if abs(value - time.time() * 1000) < DAY_MS else value
        return self.text(value) if isinstance(value, str) else value

    def whole(self, name, value):
        """Dicts of dicts: a list becomes a dict by what its elements are called."""
        if isinstance(value, dict):
            return {k: self.whole(k, v) for k, v in value.items()}
        if not isinstance(value, list) or name == "records":
            return self.one(name, value)
        if not all(isinstance(v, dict) for v in value):
            return [self.whole("", v) for v in value]
        out = {}
        for element in (self.whole("", v) for v in value):
            key = next((str(element[n]) for n in NAMES if element.get(n) not in (None, "ID")), "")
            while key in out:
                key += "'"
            out[key] = element
        return out


def differences(path, kafka, other):
    """(path, Kafka's, the other's) of all leaves that differ."""
    if isinstance(kafka, dict) and isinstance(other, dict):
        for k in sorted(set(kafka) | set(other)):
            yield from differences(f"{path}.{k}" if path else k, kafka.get(k, "absent"),
                                   other.get(k, "absent"))
    elif isinstance(kafka, list) and isinstance(other, list) and len(kafka) == len(other):
        for i, (a, b) in enumerate(zip(kafka, other)):
            yield from differences(f"{path}.{i}", a, b)
    elif kafka != other:
        yield path, kafka, other


class Allowed:
    """A differences.txt: lines 'API vN name: path: Kafka's -> the other's', * and ? allowed, each
    group of them under a line 'why: ...'."""

    def __init__(self, file):
        self.lines, why = [], None
        for line in file.read_text().splitlines():
            if line.startswith("why:"):
                why = line
            elif line and not line.startswith("#"):
                if not why:
                    raise ValueError("differences.txt: a line without a why above it")
                # [ is no range here: paths and messages are full of them
                self.lines.append([line.replace("[", "[[]"), 0])

    def covers(self, line):
        for entry in self.lines:
            if fnmatch.fnmatchcase(line, entry[0]):
                entry[1] += 1
                return True
        return False

    def tell_unused(self):
        for line, used in self.lines:
            if not used:
                print(f"      differences.txt: nothing matches: {line}")


def compare(report, case, version, sides, allowed, show):
    name, begin = f"{case.api} v{version} {case.name}", time.monotonic()
    found = [Evener(s, case.api).whole("", s.run(case, version)) for s in sides]
    if show:
        print(f"--- {name} ({time.monotonic() - begin:.2f} s)\n{found[0]}\n{found[1]}")
    lines = [f"{name}: {path}: {str(a)[:300]} -> {str(b)[:300]}"
             for path, a, b in differences("", *found)]
    left = [line for line in lines if not allowed.covers(line)]
    note = f"{len(lines)} listed differences" if lines else ""
    if not left:
        report.ok(name, note)
    else:
        report.fail(name, f"{len(left)} differences\n" + "\n".join(
            "        " + line for line in left[:25]))


def main():
    interrupt_on_term()
    parser = arguments(__doc__)
    parser.add_argument("only", nargs="*", help="only cases of these APIs")
    parser.add_argument("--show", action="store_true", help="print all answers")
    args = parser.parse_args()
    for part in PARTS:
        importlib.import_module(f"interop.compare.cases.{part}")
    report, allowed, pairs = Report(), Allowed(HERE / "differences.txt"), set()
    settings = {"log.retention.ms": -1, "num.partitions": 2}
    try:
        with Place(args.keep) as place:
            sides = [Side(place.broker(kind, name, settings=settings).start())
                     for kind, name in (("kafka", "oracle"), (args.broker, "other"))]
            for side in sides:
                side.set_up()
            for case in CASES:
                if args.only and case.api not in args.only:
                    continue
                for version in case.versions:
                    pairs.add((case.api, version))
                    compare(report, case, version, sides, allowed, args.show)
                if not sides[1].broker.alive():
                    raise RuntimeError(f"the broker is gone after {case.api} {case.name}:\n"
                                       + sides[1].broker.log_tail())
    except Skip as e:
        report.skip("compare", str(e))
    except Exception as e:
        report.fail("compare", f"{type(e).__name__}: {e}")
    if not args.only and args.broker != "kafka":
        allowed.tell_unused()
    print(f"      {len(pairs)} pairs of API and version, {len(CASES)} cases")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
