#!/usr/bin/env python3
"""tools/soak: a short turn of one row of each kind, what its ledger then says, and the sums over it."""
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.report import Report  # noqa: E402

KINDS = ["sim", "kill", "integrity"]       # by --time, by --minutes, by cases and --seconds
FUZZ = "build-fuzz/tests/fuzz/fuzz_codec"  # only where somebody has built it: that takes minutes


def soak(ledger, *words):
    task = subprocess.run([sys.executable, "tools/soak", "--ledger", str(ledger), *words], cwd=TOP,
                          text=True, capture_output=True)
    return task.returncode, task.stdout + task.stderr


def columns(line):
    words = line.split()
    return words[0], int(words[1].replace(",", "")), int(words[2]), int(words[3])


def check(report, ledger):
    rows = KINDS + ["fuzz-codec"] * (TOP / FUZZ).exists()
    old = "2026-01-01T00:00:00Z\tsim\t1\t2.0\t40\t1\ttorc-sim --seed 1\n"  # without its commit
    ledger.write_text(old)
    status, said = soak(ledger, "--hours", "1", "--rounds", "1", "--turn", "2", "--only", ",".join(rows))
    report.check("a round of all kinds ends well", status == 0, said[-600:])
    turns = [line.split("\t") for line in ledger.read_text().splitlines()[1:]]
    report.check("each row had its turn", sorted(t[1] for t in turns) == sorted(rows), said[-600:])
    report.check("each has done something, and nothing failed",
                 all(int(t[4]) > 0 and t[5] == "0" for t in turns) and len(turns) == len(rows), f"{turns}")
    status, said = soak(ledger, "--sums")
    sums = {c[0]: c[1:] for c in map(columns, said.splitlines()[1:])}
    done = {t[1]: (int(t[4]), 1, 0) for t in turns}
    done["sim"] = (done["sim"][0] + 40, 2, 1)
    report.check("sums are of all turns, those of other evenings too", sums == done, f"{sums} {done}")
    status, said = soak(ledger, "--sums", "--since", "HEAD", "--only", "sim")
    sums = [columns(line) for line in said.splitlines()[1:]]
    report.check("turns of other commits can be left out", [s[2] for s in sums] == [1], said)


def main():
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        check(report, Path(folder) / "ledger.tsv")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
