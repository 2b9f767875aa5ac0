#!/usr/bin/env python3
"""Thousands of kills, power cuts or images: the programs beside this one, several at once, added up.

    tests/crash/many.py kill 5000                  kills (run.py)
    tests/crash/many.py power 5000                 power cuts under load (run.py --power)
    tests/crash/many.py images 5000                images of the device (images.py)
    tests/crash/many.py transactions 5000          kills under transactions and groups
    tests/crash/many.py power-transactions 5000    power cuts under them

Each run is short, on a broker, a directory, settings and a seed of its own, and ends with the whole judgement
of its program; all that was acknowledged in it is in that program's ledger. Directories are in memory: what
a killed process leaves behind it leaves in the page cache, on whatever device, and a power cut is made by
the shim. What a device of its own pace does, a single run of those programs on a disk shows.

The last lines are the sums of what the runs counted. A run that fails is shown, with the command that repeats
its seed, and its directory is kept where the program says; --stop-after so many of them ends it all.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.broker import interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402

PY, HERE = sys.executable, "tests/crash/"
POWER = ["--power", "shim"]
KINDS = {  # name: (what is counted, the command of one run)
    "kill": ("kills", ["run.py", "--cycles", "{length}", "--rate", "4000000", "--cores", "{cores}"]),
    "power": ("cuts", ["run.py", *POWER, "--cycles", "{length}", "--rate", "2000000", "--cores", "{cores}"]),
    "images": ("images", ["images.py", "--images", "{length}"]),
    "transactions": ("kills", ["transactions.py", "--cycles", "{length}"]),
    "power-transactions": ("cuts", ["transactions.py", *POWER, "--cycles", "{length}"]),
}
RUN_S = 600  # a run that takes longer is stuck


class Run:
    def __init__(self, kind, seed, length, root):
        self.command = [PY, HERE + KINDS[kind][1][0], *KINDS[kind][1][1:], "--seed", str(seed)]
        self.command = [w.format(cores=1 + seed % 4, length=length) for w in self.command]
        self.output = tempfile.TemporaryFile(dir=root)
        self.task = subprocess.Popen(
            self.command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            env={**os.environ, "TORC_TEST_DIR": str(root)}, start_new_session=True)
        self.begin = time.monotonic()

    def ended(self):
        if time.monotonic() - self.begin > RUN_S:
            self.end()
        return self.task.poll() is not None

    def end(self):
        """As by ^C, so that it takes its brokers and mounts with it."""
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(self.task.pid, number)
                self.task.wait(15)
                return
            except subprocess.TimeoutExpired:
                pass
            except ProcessLookupError:
                self.task.wait()
                return

    def judged(self):
        """(numbers that were counted, whether all was well, what it said)."""
        self.output.seek(0)
        text = self.output.read().decode(errors="replace")
        counted = re.findall(r"^# counted (.*)", text, re.M)
        numbers = {k: int(n) for k, n in (w.split("=") for w in counted[-1].split())} if counted else {}
        return numbers, self.task.returncode == 0 and bool(numbers), text


class Many:
    def __init__(self, args, report, root):
        self.args, self.report, self.root = args, report, root
        self.sums, self.failed, self.running, self.runs = Counter(), 0, [], 0
        self.what = KINDS[args.kind][0]
        self.length = 60 if args.count >= 1000 and not 0 < args.minutes < 1 else 12
        self.begin = self.told = time.monotonic()

    def more(self):
        late = self.args.minutes and time.monotonic() - self.begin > 60 * self.args.minutes
        return self.sums[self.what] < self.args.count and self.failed < self.args.stop_after and not late

    def take(self, run):
        self.running.remove(run)
        numbers, well, text = run.judged()
        self.sums.update(numbers)
        if not well:
            self.failed += 1
            self.report.fail(f"run of seed {run.command[-1]}", " ".join(run.command))
            print("\n".join("      " + t for t in text.splitlines()[-40:]), flush=True)

    def all(self):
        try:
            while self.more() or self.running:
                while self.more() and len(self.running) < self.args.jobs:
                    self.running.append(Run(self.args.kind, self.args.seed + self.runs, self.length, self.root))
                    self.runs += 1
                for run in [r for r in self.running if r.ended()]:
                    self.take(run)
                if time.monotonic() - self.told > 30:
                    self.told = time.monotonic()
                    print(f"      {self.line()}", flush=True)
                time.sleep(0.02)
        finally:
            for run in self.running:
                run.end()

    def line(self):
        took = time.monotonic() - self.begin
        return (f"{self.sums[self.what]} {self.what} in {self.runs} runs, {self.failed} failed, {took:.0f} s, "
                f"{self.sums[self.what] / took * 60:.0f} a minute: "
                + ", ".join(f"{n} {k}" for k, n in self.sums.items() if k != self.what))


def main():
    interrupt_on_term()
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="runs at once")
    parser.add_argument("--minutes", type=float, default=0, help="begin no run after so many")
    parser.add_argument("--stop-after", type=int, default=3, help="runs that failed (default: 3)")
    parser.add_argument("--seed", type=int, default=int(time.time()) * 1000 % 10**9, help="of the first run")
    args = parser.parse_args()
    report = Report()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix=f"torc-test-crash-many-{os.getpid()}-", dir=base))
    many = Many(args, report, root)
    try:
        many.all()
    finally:
        print(f"      {args.kind}: {many.line()}", flush=True)
        if not many.failed:
            shutil.rmtree(root, ignore_errors=True)
    if not many.failed:
        report.check(f"{many.sums[many.what]} {many.what}, all runs were well", many.sums[many.what] > 0)
    report.counted(**many.sums)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
