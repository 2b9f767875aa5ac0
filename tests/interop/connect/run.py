#!/usr/bin/env python3
"""Kafka Connect, one worker: a file's lines go through a topic into another file, each once, while the
broker is killed and the worker is stopped and started.

    source.txt ─▶ FileStreamSource ─▶ topic ─▶ FileStreamSink ─▶ sink.txt

The worker keeps the source's place in a file of its own and the sink's in the group of the sink.
"""
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka, venv  # noqa: E402
from harness.broker import Place, arguments, free_port, interrupt_on_term  # noqa: E402
from harness.records import View  # noqa: E402
from harness.report import Report, Skip  # noqa: E402

PART, LIMIT_S, POLL_S = 1000, 60, 0.05  # lines at a time
WORKER = """bootstrap.servers={address}
listeners=http://127.0.0.1:{port}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=300
plugin.discovery=service_load
consumer.metadata.max.age.ms=1000
"""
SOURCE = """name=source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
tasks.max=1
file={folder}/source.txt
topic=lines
topic.creation.default.partitions=1
topic.creation.default.replication.factor=1
"""
SINK = """name=sink
connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector
tasks.max=1
file={folder}/sink.txt
topics=lines
"""


class Worker:
    """A standalone worker, its settings and its files in a folder."""

    def __init__(self, broker, folder):
        self.folder, self.process, self.port = folder, None, free_port()
        self.lines = 0
        for name, text in (("worker", WORKER), ("source", SOURCE), ("sink", SINK)):
            (folder / f"{name}.properties").write_text(
                text.format(address=broker.address, folder=folder, port=self.port))
        (folder / "source.txt").touch()

    def start(self):
        files = [self.folder / f"{n}.properties" for n in ("worker", "source", "sink")]
        with open(self.folder / "worker.log", "ab") as log:
            self.process = subprocess.Popen(
                kafka.java("org.apache.kafka.connect.cli.ConnectStandalone", *files, heap="512M"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def write(self):
        """So many lines more for the source."""
        with open(self.folder / "source.txt", "a") as f:
            f.writelines(f"line {self.lines + n}\n" for n in range(PART))
        self.lines += PART

    def sunk(self):
        sink = self.folder / "sink.txt"
        return sink.read_text().splitlines() if sink.exists() else []

    def end_of_log(self):
        return (self.folder / "worker.log").read_text(errors="replace")[-1500:]

    def await_sunk(self):
        """All lines written have come out; returns how long it took."""
        begin = time.monotonic()
        while len(self.sunk()) < self.lines:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended:\n{self.end_of_log()}")
            if time.monotonic() > begin + LIMIT_S:
                raise AssertionError(f"{len(self.sunk())} lines of {self.lines} after {LIMIT_S} s"
                                     f"\n{self.end_of_log()}")
            time.sleep(POLL_S)
        if self.sunk() != [f"line {n}" for n in range(self.lines)]:
            raise AssertionError(f"{len(self.sunk())} lines, {len(set(self.sunk()))} different, "
                                 f"{self.lines} were written")
        return f"{self.lines} lines"

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT_S)


def first(worker):
    worker.write()
    worker.start()
    return worker.await_sunk()


def states(worker):
    """The worker's own view of its connectors."""
    for name in ("source", "sink"):
        url = f"http://127.0.0.1:{worker.port}/connectors/{name}/status"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        if text.count('"RUNNING"') != 2:
            raise AssertionError(text)


def over_kill(worker, broker):
    broker.kill()
    worker.write()
    broker.start()
    return worker.await_sunk()


def restarted(worker):
    """A clean stop hands in its place; what is written meanwhile comes after the next start."""
    worker.stop()
    worker.write()
    worker.start()
    return worker.await_sunk()


def topic(worker, broker):
    view = View(broker.address, "lines", 1).to_end()
    found = [value.decode() for _, value in view.all()]
    view.close()
    if found != [f"line {n}" for n in range(worker.lines)]:
        raise AssertionError(f"the topic has {len(found)} records, {len(set(found))} different, "
                             f"of {worker.lines}")


def run(report, place, kind):
    kafka.jars()
    broker = place.broker(kind, settings={"log.retention.ms": -1}).start()
    worker = Worker(broker, place.folder)
    try:
        report.case("file to topic to file", first, worker)
        report.case("connectors and tasks run", states, worker)
        if broker.kind != "address":
            report.case("the broker is killed and started", over_kill, worker, broker)
        report.case("the worker is stopped and started", restarted, worker)
        worker.stop()
        report.case("each line is in the topic once", topic, worker, broker)
        report.check("the broker is still up", broker.alive(), broker.log_tail(5))
    finally:
        if worker.process and worker.process.poll() is None:
            worker.process.kill()


def main():
    interrupt_on_term()
    args = arguments(__doc__).parse_args()
    venv.enter("connect")
    report = Report()
    with Place(args.keep) as place:
        try:
            run(report, place, args.broker)
        except Skip as e:
            report.skip("connect", str(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
