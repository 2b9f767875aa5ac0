#!/usr/bin/env python3
"""Is the simulator any good? Builds a laboratory (meson -Dlab=true), puts one defect after the other
into the broker, and measures how long the simulator takes to find each. With --marks: runs seeds
without a defect and says which rare paths (SOMETIMES in the source) hardly any seed has been on;
one that none has been on is a failure.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DEFECTS = {
    1: "the WAL is written without a sync",
    2: "a failed write of the WAL is taken for a good one",
    3: "a batch that was sent twice is appended twice",
    4: "a commit of an old generation is accepted",
    5: "readers are not told which transactions were aborted",
    6: "folders are not synced",
    7: "the coordinator of transactions accepts old epochs",
    8: "segments are not synced before their WAL file is written over",
    9: "records are given out before they are durable",
    10: "offsets of an open transaction are passed over, not waited for",
    11: "checksums of batches in the WAL are not looked at",
    12: "the removal of old WAL files is not synced",
    13: "producers are not learned from the WAL",
    14: "what was compacted is laid again from the WAL",
    15: "a compacted segment takes its place without syncs between",
    22: "every 1024th letter between cores is lost",
    23: "the last stable offset is one too high",
    25: "retention by size removes one segment too many",
    26: "an append is acknowledged before it is written",
    28: "metadata snapshots leave out the settings of topics",
    30: "that records were deleted is not written down",
    33: "coordinators answer before their records are durable",
    34: "a fetch session does not take new offsets",
    39: "what was aborted is not written into the WAL",
    40: "a member of the new protocol gets partitions that others have not given up yet",
    41: "members of a consumer group commit in epochs that are over, what is not theirs any more",
    42: "a group that becomes a consumer group forgets what its members have",
}
LIES = "the device says that it has synced, and has not"
SLICE = 5


def build(where, option="-Dlab=true"):
    """The simulator in a folder of its own: its path."""
    if not (where / "build.ninja").exists():
        subprocess.run(["meson", "setup", where, option], cwd=TOP, check=True,
                       stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", where, "tests/sim/torc-sim"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL)
    return where / "tests/sim/torc-sim"


def seeds(sim, first, *words):
    return subprocess.run([sim, "--seeds", f"{first}..{first + SLICE - 1}", *words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def hunt(sim, words, limit):
    """Seconds until a seed fails, and what it says; None: not within the limit."""
    begin, first = time.monotonic(), 1
    while time.monotonic() - begin < limit:
        done = seeds(sim, first, *words)
        if done.returncode != 0:
            said = re.search(r"^FAIL .*", done.stdout, re.M)
            return time.monotonic() - begin, said[0] if said else done.stdout[-100:]
        first += SLICE
    return None, f"not found in {first - 1} seeds"


def bench(sim, args):
    hunts = [(text, ["--defect", str(number)]) for number, text in DEFECTS.items()
             if not args.only or number in args.only]
    if not args.only:
        hunts.append((LIES, ["--lie"]))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda h: hunt(sim, h[1], args.limit), hunts))
    for (text, words), (took, said) in zip(hunts, results):
        shown = "   -   " if took is None else f"{took:5.1f} s"
        print(f"{shown}  {' '.join(words):<12}  {text}\n               {said[:110]}")
    found = [took for took, _ in results if took is not None]
    missed = len(results) - len(found)
    print(f"      {len(found)} of {len(results)} defects found, median "
          f"{statistics.median(found) if found else 0:.1f} s, worst {max(found, default=0):.1f} s, "
          f"{args.jobs} at a time")
    print(f"# passed={len(found)} failed={missed} skipped=0")
    return 1 if missed else 0


def marks(sim, count, jobs):
    hits = {}
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(lambda s: seeds(sim, s, "--marks"), range(1, count + 1, SLICE)):
            for number, name in re.findall(r"^mark (\d+) (.*)$", done.stdout, re.M):
                hits[name] = hits.get(name, 0) + int(number)
    for name, number in sorted(hits.items(), key=lambda h: h[1]):
        if number < 10:
            print(f"{number:6d}  {name}")
    hit = sum(number > 0 for number in hits.values())
    print(f"      marks: {hit} of {len(hits)} met in {count} seeds")
    print(f"# passed={hit} failed={len(hits) - hit} skipped=0")
    return 1 if hit < len(hits) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=TOP / "build-lab")
    parser.add_argument("--limit", type=float, default=300, help="seconds per defect")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="these defects")
    parser.add_argument("--marks", type=int, metavar="SEEDS", help="run so many without a defect")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    sim = build(args.build)
    return marks(sim, args.marks, args.jobs) if args.marks else bench(sim, args)


if __name__ == "__main__":
    sys.exit(main())
