#!/usr/bin/env python3
"""Kafka's Java clients of several releases, with the programs by which Kafka tests them itself: what
ClientCompatibilityTest finds supported, and the verifiable producer and consumer, which print each
record, as members of a group."""
import json
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client  # noqa: E402

TOOLS = "org.apache.kafka.tools."
SUPPORTED = ["offsets-for-times", "cluster-id", "create-topics", "describe-acls",
             "describe-configs", "idempotent-producer"]
MADE = "newtopic"  # by ClientCompatibilityTest
RECORDS, LIMIT_S = 500, 60


def call(main, version, *words):
    try:
        return kafka.run_java(TOOLS + main, *words, version=version, timeout_s=LIMIT_S)
    except subprocess.TimeoutExpired as e:
        raise AssertionError(f"{main} is not done after {LIMIT_S} s: {(e.stdout or b'')[-800:]}")


def compatible(broker, version):
    """Kafka's list of what a client of this release can do with a broker as this one."""
    topic = f"compatible-{version}"
    with Client(broker.address) as c:
        c.ask("DeleteTopics", 3, {"topic_names": [MADE], "timeout_ms": 10000})
        # With one partition: it expects its two records, which have no key, in their order.
        c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": topic, "num_partitions": 1, "replication_factor": 1}]})
    words = ["--topic", topic, "--bootstrap-server", broker.address,
             "--num-cluster-nodes", 1, "--expect-record-too-large-exception", "False"]
    for name in SUPPORTED:
        if version != "2.8.2" or name != "idempotent-producer":
            words += [f"--{name}-supported", "True"]
    task = call("ClientCompatibilityTest", version, *words)
    if task.returncode or "SUCCESS" not in task.stdout:
        raise AssertionError(f"exit {task.returncode}: {task.stdout[-800:]}{task.stderr[-800:]}")


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def verifiable_producer(broker, version):
    task = call("VerifiableProducer", version, "--bootstrap-server", broker.address,
                "--topic", f"verified-{version}", "--max-messages", RECORDS)
    sent = [int(e["value"]) for e in lines(task.stdout) if e["name"] == "producer_send_success"]
    if sorted(sent) != list(range(RECORDS)):
        raise AssertionError(f"{len(sent)} of {RECORDS} sent: {task.stdout[-500:]}{task.stderr}")


def verifiable_consumer(broker, version, protocol):
    """Two members of one group, one after the other; the second finds what the first has not read."""
    seen, half = [], RECORDS // 2
    for _ in range(2):
        words = ["--bootstrap-server", broker.address, "--topic", f"verified-{version}",
                 "--group-id", f"{protocol}-{version}", "--max-messages", half, "--verbose"]
        if protocol == "classic":
            words += ["--session-timeout", 10000]
        if version == kafka.VERSION:
            words += ["--group-protocol", protocol]
        task = call("VerifiableConsumer", version, *words)
        events = lines(task.stdout)
        got = [(e["partition"], e["offset"], int(e["value"])) for e in events
               if e["name"] == "record_data"]
        committed = [o["offset"] for e in events if e["name"] == "offsets_committed"
                     and e["success"] for o in e["offsets"]]
        if len(got) != half or not committed:
            raise AssertionError(f"{len(got)} records of {half}, commits {committed[-3:]}:\n"
                                 f"{task.stdout[-800:]}{task.stderr[-800:]}")
        seen += got
    if sorted(value for _, _, value in seen) != list(range(RECORDS)):
        raise AssertionError(f"{len(set(seen))} different records of {RECORDS}")


def run(report, broker):
    for version in [*kafka.OLD, kafka.VERSION]:
        report.case(f"client compatibility, {version}", compatible, broker, version)
        report.case(f"verifiable producer, {version}", verifiable_producer, broker, version)
        report.case(f"verifiable consumer, {version}", verifiable_consumer, broker, version,
                    "classic")
    report.case(f"verifiable consumer, {kafka.VERSION}, consumer protocol", verifiable_consumer,
                broker, kafka.VERSION, "consumer")
    report.check("the broker is still up", broker.alive(), broker.log_tail(5))


def main():
    interrupt_on_term()
    args = arguments(__doc__).parse_args()
    report = Report()
    with Place(args.keep) as place:
        try:
            kafka.jars()
            run(report, place.broker(args.broker, settings={"num.partitions": 3}).start())
        except Skip as e:
            report.skip("versions", str(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
