#!/usr/bin/env python3
"""Kafka Streams on the broker: a word count at least once, and a ledger exactly once while both the
application and the broker are killed.

    transfers ─▶ ledger ─▶ repartition topic ─▶ ledger, store and changelog ─▶ booked
                   ▲ kill -9, start again            ▲ broker: kill -9, start again

Each transfer is two entries, each entry of an account adds one to its number: committed output must be
1, 2, 3, ... for each account, with the balance at the end that the transfers give.
"""
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka, venv  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.records import Feeder, View, create  # noqa: E402
from harness.report import Report, Skip  # noqa: E402

HERE = Path(__file__).resolve().parent
PARTITIONS = 2
TOPICS = ["lines", "words", "transfers", "booked"]
LINES, TRANSFERS, ACCOUNTS, EACH_S = 400, 3000, 40, 400
LIMIT_S = 90
# the killed application's transaction and membership must end soon
SETTINGS = {"group.min.session.timeout.ms": 1000, "log.retention.ms": -1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500}


class App:
    """A Streams application in a folder of its own."""

    def __init__(self, name, broker, folder, classes):
        self.name, self.log = name, folder / f"{name}.log"
        self.command = kafka.java("StreamsApp", name, broker.address, classes=classes,
                                  jvm=["-Djava.io.tmpdir=" + str(folder)])
        self.folder, self.process = folder, None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.folder)
        return self

    def alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n"
                                 + self.log.read_text(errors="replace")[-1500:])

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(LIMIT_S)
        if status:
            raise AssertionError(f"{self.name} ended with {status} on SIGTERM:\n"
                                 + self.log.read_text(errors="replace")[-1500:])


def word_count(broker, app):
    """Counts are exact, because nothing is killed here; a clean stop ends with status 0."""
    pick = random.Random(1)
    words = [f"w{n}" for n in range(50)]
    lines = [" ".join(pick.choices(words, k=8)) for _ in range(LINES)]
    Feeder(broker.address, "lines", [(None, line) for line in lines]).run()
    view = View(broker.address, "words", PARTITIONS).reach(LINES * 8, LIMIT_S, app.alive)
    app.stop()
    last = {k.decode(): int(v) for k, v in view.to_end().all()}
    view.close()
    want = Counter(word for line in lines for word in line.split())
    if last != want:
        raise AssertionError(f"{len(set(last.items()) ^ set(want.items()))} counts are wrong")
    return f"{view.count} updates"


def transfers():
    pick = random.Random(2)
    return [(*pick.sample(range(ACCOUNTS), 2), pick.randrange(1, 100)) for _ in range(TRANSFERS)]


def check_ledger(view, moved):
    """Numbers without gap or repetition, balances as the transfers say."""
    want, balance = Counter(), Counter()
    for source, target, amount in moved:
        want.update([source, target])
        balance[source] -= amount
        balance[target] += amount
    found = defaultdict(list)
    for key, value in view.all():
        found[int(key)].append(tuple(map(int, value.split())))
    for account, count in want.items():
        numbers = [n for n, _ in found[account]]
        if numbers != list(range(1, count + 1)):
            wrong = next((i for i, n in enumerate(numbers) if n != i + 1), len(numbers))
            raise AssertionError(f"account {account}: {len(numbers)} entries of {count}, "
                                 f"entry {wrong + 1} has number {numbers[wrong:wrong + 1]}")
        if found[account][-1][1] != balance[account]:
            raise AssertionError(f"account {account} has {found[account][-1][1]}, "
                                 f"not {balance[account]}")


def ledger(broker, app):
    """Killed application, killed broker: each entry is booked once."""
    moved = transfers()
    feeder = Feeder(broker.address, "transfers", [
        (str(n), f"{a} {b} {amount}") for n, (a, b, amount) in enumerate(moved)], EACH_S)
    view = View(broker.address, "booked", PARTITIONS)
    total = 2 * TRANSFERS
    feeder.start()
    view.reach(total // 5, LIMIT_S, app.alive)
    app.kill()
    app.start()
    killed = view.to_end().count
    view.reach(total // 2, LIMIT_S, app.alive)
    if broker.kind != "address":
        broker.kill()
        broker.start()
    view.reach(total, LIMIT_S, app.alive)
    feeder.done()
    app.stop()
    check_ledger(view.to_end(), moved)
    view.close()
    return f"killed at {killed} of {total} entries"


def changelog(broker):
    """The store's changelog, read by itself, holds the last booking of each account."""
    booked = View(broker.address, "booked", PARTITIONS).to_end()
    kept = View(broker.address, "ledger-balances-changelog", PARTITIONS).to_end()
    a, b = dict(booked.all()), dict(kept.all())
    booked.close()
    kept.close()
    if a != b or len(b) != ACCOUNTS:
        raise AssertionError(f"{len(b)} accounts, {len(set(a.items()) ^ set(b.items()))} differences")
    return f"{kept.count} records for {len(b)} accounts"


def run(report, place, kind):
    classes = kafka.compile_java(HERE / "StreamsApp.java")
    broker = place.broker(kind, settings=SETTINGS).start()
    create(broker.address, {t: PARTITIONS for t in TOPICS})
    apps = [App(name, broker, place.folder, classes) for name in ("words", "ledger")]
    try:
        for app in apps:
            app.start()
        report.case("word count, at least once", word_count, broker, apps[0])
        report.case("ledger, exactly once, application and broker killed", ledger, broker, apps[1])
        report.case("changelog of the ledger's store", changelog, broker)
        report.check("the broker is still up", broker.alive(), broker.log_tail(5))
    finally:
        for app in apps:
            app.kill()


def main():
    interrupt_on_term()
    args = arguments(__doc__).parse_args()
    venv.enter("streams")
    report = Report()
    with Place(args.keep) as place:
        try:
            run(report, place, args.broker)
        except Skip as e:
            report.skip("streams", str(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
