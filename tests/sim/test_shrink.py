#!/usr/bin/env python3
"""A run written down repeats to the same digest, a changed one is told apart, and the shrinker makes a
run that fails smaller: on a disk that lies about its syncs, which the simulator must find."""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.report import Report  # noqa: E402

SIM = TOP / "build/tests/sim/torc-sim"
SHRINK = Path(__file__).with_name("shrink.py")
SEEDS_MAX = 40  # among so many the lie shows
LIMIT_S = 8


def run(*words):
    done = subprocess.run(words, text=True, errors="replace", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


def digest(text):
    found = re.search(r"^digest (\w+)", text, re.M)
    return found and found[1]


def check_trace(report, folder):
    trace, other = folder / "trace", folder / "other"
    status, first = run(SIM, "--seed", "3", "--trace", trace)
    again_status, again = run(SIM, "--replay", trace)
    report.check("a run that was written down repeats", status == again_status == 0 and
                 digest(first) is not None and digest(first) == digest(again), again[-300:])
    lines = trace.read_text().splitlines(keepends=True)
    middle = next(i for i in range(len(lines) // 2, len(lines)) if lines[i][0].isdigit())
    other.write_text("".join(lines[:middle] + lines[middle + 1:]))
    status, text = run(SIM, "--replay", other)
    report.check("a run that lacks a choice is told apart", status == 1 and "another run" in text,
                 text[-300:])
    plan = folder / "plan"
    plan.write_text("seed 3\nset no_such_knob 1\n")
    status, text = run(SIM, "--replay", plan)
    report.check("a plan with an unknown knob is refused", status == 1 and "not known" in text,
                 text[-300:])


def check_shrink(report, folder):
    failing = next((s for s in range(1, SEEDS_MAX) if run(SIM, "--seed", str(s), "--lie")[0]), None)
    report.check(f"a seed finds the lie (it is {failing})", failing is not None)
    status, text = run(SHRINK, str(failing), "--lie", "--any", "--limit", str(LIMIT_S), "--out",
                       folder / "out")
    sizes = re.findall(r"^(?:before|after): +(\d+) knobs on, (\d+) clients", text, re.M)
    smaller = len(sizes) == 2 and all(int(b) < int(a) for a, b in zip(*sizes))
    report.check("the run is made smaller, and repeats", status == 0 and smaller, text[-500:])
    print("\n".join(f"      {line}" for line in text.splitlines()[:4]))


def main():
    report = Report()
    with tempfile.TemporaryDirectory(prefix="torc-shrink-") as folder:
        check_trace(report, Path(folder))
        check_shrink(report, Path(folder))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
