#!/usr/bin/env python3
"""Real clients copy a topic exactly once: they read committed records in a group, write them and their
place in one transaction, abort every fifth one, and are killed, as the broker is.

    source ─▶ copier ─▶ copy of it                 copiers of all clients at once, one broker
                ▲ kill -9 at a quarter, started again; broker killed when all have a half

A copier takes ADDRESS SOURCE TARGET NAME SIZE: its group and transactional id are NAME, a transaction
has up to SIZE records, each goes to the partition it came from; it copies until it is killed, and ends
with status 3 at an error, after which it is started again. Then the committed records of each copy must
be those of the source, in order, and the aborted ones must be there for readers who ask for them.

Copiers are static members where their client can be: they find their place at once after a kill, and
none rejoins while a transaction of its own is open, which not every client is made for.
"""
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka, venv  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.records import Feeder, View, create  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from interop.clients import run as clients  # noqa: E402

HERE = Path(__file__).resolve().parent
SOURCE, PARTITIONS, EACH, SIZE = "source", 2, 1000, 25
LIMIT_S, STARTS_MAX = 90, 8
# some ask for their place before they end the transaction they left, and wait until it times out
SETTINGS = {"group.min.session.timeout.ms": 1000, "log.retention.ms": -1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500}


def node():
    folder = Path(clients.node()[1]).parent
    shutil.copy(HERE / "copier.js", folder)
    return ["node", folder / "copier.js"]


def go():
    clients.go()  # brings the modules
    program = TOP / "build/test-go/copier"
    venv.install("go", "build", f"-modfile={clients.modules()}", "-o", program, "./copier",
                 cwd=clients.HERE / "go")
    return [program]


def python(program):
    return lambda: [venv.python(), HERE / program]


def java(version):
    """Kafka's own copier, of older releases; it copies one partition, and ends when it is done.
    This release's is in tests/interop/transactions."""
    return lambda: kafka.java("org.apache.kafka.tools.TransactionalMessageCopier", version=version)


COPIERS = [("confluent-kafka", python("copier_confluent.py")),
           ("kafka-python", python("copier_kafka_python.py")),
           ("aiokafka", python("copier_aiokafka.py")), ("kafkajs", node), ("franz-go", go),
           *((f"java-{v}", java(v)) for v in kafka.OLD)]


class Copier:
    """One client's copy, from its first start to the check."""

    def __init__(self, name, command, broker, folder):
        self.name, self.java, self.broker = name, name.startswith("java-"), broker
        self.target, self.log = f"copy-{name}", folder / f"{name}.log"
        words = [broker.address, SOURCE, self.target, name, SIZE]
        if self.java:
            words = ["--broker-list", broker.address, "--input-topic", SOURCE, "--input-partition",
                     0, "--output-topic", self.target, "--consumer-group", name,
                     "--transactional-id", name, "--transaction-size", SIZE,
                     "--transaction-timeout", 5000, "--enable-random-aborts"]
        self.command = [os.fspath(w) for w in command] + [str(w) for w in words]
        self.total = EACH if self.java else EACH * PARTITIONS
        self.process, self.starts, self.failure, self.at_kill = None, 0, None, 0
        self.half, self.times = threading.Event(), [time.monotonic()]

    def start(self):
        self.starts += 1
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def alive(self):
        """Start it again if it has given up."""
        if self.process.poll() in (None, 0):
            return
        if self.starts > STARTS_MAX:
            raise AssertionError(f"it ended {self.starts} times, status {self.process.poll()}:\n"
                                 + self.log.read_text(errors="replace")[-1200:])
        self.start()

    def run(self):
        """Copy all, killed at a quarter; goes on when the others are half done, too."""
        try:
            view = View(self.broker.address, self.target, PARTITIONS)
            self.start()
            view.reach(self.total // 4, LIMIT_S, self.alive)
            self.times.append(time.monotonic())
            self.kill()
            self.start()
            self.at_kill = view.to_end().count
            view.reach(self.total // 2, LIMIT_S, self.alive)
            self.times.append(time.monotonic())
            self.half.set()
            view.reach(self.total, LIMIT_S, self.alive)
            self.times.append(time.monotonic())
            if self.java:
                self.process.wait(LIMIT_S)  # its last word is that it is done
            view.close()
        except Exception as e:
            self.failure = e
            print(f"      {self.name} said last:\n{self.log.read_text(errors='replace')[-800:]}")
        finally:
            self.half.set()
            self.kill()

    def check(self, source):
        if self.failure:
            raise self.failure
        committed = View(self.broker.address, self.target, PARTITIONS).to_end()
        everything = View(self.broker.address, self.target, PARTITIONS, False).to_end()
        for p in range(1 if self.java else PARTITIONS):
            found = [(k, v) for _, k, v in committed.records[p]]
            want = [(k, v) for _, k, v in source.records[p]]
            if found != want:
                raise AssertionError(f"partition {p}: {len(found)} records, {len(set(found))} "
                                     f"different, of {len(want)}")
        aborted = everything.count - committed.count
        if committed.count != self.total or aborted <= 0:
            raise AssertionError(f"{committed.count} committed of {self.total}, {aborted} aborted")
        committed.close()
        everything.close()
        took = "+".join(f"{b - a:.1f}" for a, b in zip(self.times, self.times[1:]))
        return f"killed at {self.at_kill}, {aborted} aborted, {self.starts} starts, {took} s"


def run_all(copiers, broker):
    threads = [threading.Thread(target=c.run) for c in copiers]
    for t in threads:
        t.start()
    for c in copiers:
        c.half.wait()
    if broker.kind != "address":
        broker.kill()
        broker.start()
    for t in threads:
        t.join()


def kcat(broker):
    """One transaction per run; one that is killed before its end leaves nothing to committed readers."""
    clients.need("kcat")
    write = ["kcat", "-b", broker.address, "-P", "-t", "by-kcat", "-X", "transactional.id=kcat"]
    create(broker.address, {"by-kcat": 1})
    subprocess.run(write, input="a\nb\n", text=True, check=True, timeout=LIMIT_S)
    cut = subprocess.Popen(write, stdin=subprocess.PIPE, text=True)
    cut.stdin.write("lost\n" * 500_000)  # it reads a megabyte at a time
    cut.stdin.flush()
    everything = View(broker.address, "by-kcat", 1, False).reach(3, LIMIT_S)
    everything.close()
    cut.kill()
    cut.wait()
    subprocess.run(write, input="c\n", text=True, check=True, timeout=LIMIT_S)
    read = subprocess.run(["kcat", "-b", broker.address, "-C", "-t", "by-kcat", "-e", "-q", "-X",
                           "isolation.level=read_committed"], text=True, capture_output=True,
                          timeout=LIMIT_S)
    if read.stdout != "a\nb\nc\n":
        raise AssertionError(f"{read.stdout!r} {read.stderr}")


def run(report, place, kind, wanted):
    broker = place.broker(kind, settings=SETTINGS).start()
    copiers = []
    for name, prepare in COPIERS:
        if not wanted or name in wanted:
            try:
                copiers.append(Copier(name, prepare(), broker, place.folder))
            except Skip as e:
                report.skip(name, str(e))
    create(broker.address, {SOURCE: PARTITIONS, **{c.target: PARTITIONS for c in copiers}})
    Feeder(broker.address, SOURCE, [(f"key {n}", f"value {n}")
                                    for n in range(EACH * PARTITIONS)]).run()
    source = View(broker.address, SOURCE, PARTITIONS).to_end()
    for c in copiers:
        c.total = len(source.records[0]) if c.java else source.count
    begin = time.monotonic()
    try:
        run_all(copiers, broker)
    finally:
        for c in copiers:
            c.kill()
    print(f"      copying took {time.monotonic() - begin:.1f} s")
    for c in copiers:
        report.case(c.name, c.check, source)
    if not wanted or "kcat" in wanted:
        report.case("kcat", kcat, broker)
    report.check("the broker is still up", broker.alive(), broker.log_tail(5))


def main():
    interrupt_on_term()
    parser = arguments(__doc__)
    parser.add_argument("clients", nargs="*", help="only these clients")
    args = parser.parse_args()
    venv.enter("copiers")
    report = Report()
    with Place(args.keep) as place:
        run(report, place, args.broker, args.clients)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
