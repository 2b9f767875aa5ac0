#!/usr/bin/env python3
"""Run the simulator over many seeds: those that have failed once (seeds.txt) and fixed ones, which every
change must pass, fresh ones, others for each change of the sources, and some twice, which must give the
same digest.

A seed that fails is printed with the line that repeats it: build/tests/sim/torc-sim --seed N --verbose
"""
import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SIM = TOP / "build/tests/sim/torc-sim"
SEEDS = Path(__file__).with_name("seeds.txt")  # "NUMBER CAUSE" in a line
SLICE = 25  # seeds of one process
SIMULATED = ("broker", "core", "io", "proto", "tests/sim")
LIMIT_S = 600


def start(first, last, *words, junk=""):
    return subprocess.run([SIM, "--seeds", f"{first}..{last}", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
                          env={**os.environ, "MALLOC_CONF": junk})


def run(first, last, *words):
    task = start(first, last, *words)
    done = re.search(r"^(\d+) seeds, (\d+) failed, ([\d.]+) virtual s, (\d+) events", task.stdout,
                     re.M)
    if task.returncode != 0 or done is None:
        print(task.stdout[-2000:])
        return last - first + 1, max(1, int(done[2]) if done else 1), 0.0, 0
    return int(done[1]), int(done[2]), float(done[3]), int(done[4])


def run_twice(first, last):
    """In two processes, which the system lays out differently, with memory that is filled with junk when
    it is given and when it is given back, and with memory of zeros: the digests must be the same."""
    junk, zero = (start(first, last, "--digests", junk=j) for j in ("junk:true", "zero:true"))
    one, other = (dict(re.findall(r"^digest (\d+) (\w+)$", t.stdout, re.M)) for t in (junk, zero))
    differ = [seed for seed in one if one[seed] != other.get(seed)]
    for seed in differ:
        print(f"FAIL torc-sim --seed {seed}: digests {one[seed]} with junk and {other.get(seed)}")
    failed = max(len(differ), int(junk.returncode != 0 or len(one) != last - first + 1))
    return last - first + 1, failed, 0.0, 0


def known(above):
    """The seeds of seeds.txt that are not among the fixed ones."""
    lines = SEEDS.read_text(encoding="utf-8").splitlines()
    return sorted({int(line.split()[0]) for line in lines if line and line[0] != "#"} -
                  set(range(1, above + 1)))


def of_sources():
    """Where the fresh seeds begin: the same wherever a commit is run, others once a source of what is
    simulated has changed. Outside of a repository, from the clock."""
    asked = subprocess.run(["git", "-C", TOP, "rev-parse", *(f"HEAD:{folder}" for folder in SIMULATED)],
                           check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if asked.returncode:
        return int(time.time()) * 1000
    return int(hashlib.sha256(asked.stdout).hexdigest()[:8], 16) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", type=int, default=300, help="seeds 1..N (default: 300)")
    parser.add_argument("--fresh", type=int, default=60, help="seeds after those (default: 60)")
    parser.add_argument("--clock", action="store_true", help="fresh ones from the clock: never seen")
    parser.add_argument("--twice", type=int, default=20, help="seeds 1..N twice each (default: 20)")
    args = parser.parse_args()
    begin, fresh = time.monotonic(), int(time.time()) * 1000 if args.clock else of_sources()
    regressions = known(args.fixed)
    work = [(a, a) for a in regressions]
    work += [(a, min(a + SLICE - 1, args.fixed)) for a in range(1, args.fixed + 1, SLICE)]
    work += [(fresh + a, fresh + min(a + SLICE, args.fresh) - 1)
             for a in range(0, args.fresh, SLICE)]
    twice = [(a, min(a + SLICE - 1, args.twice)) for a in range(1, args.twice + 1, SLICE)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(pool.map(lambda w: run(*w), work))
        results += pool.map(lambda w: run_twice(*w), twice)
    seeds, failed = sum(r[0] for r in results), sum(r[1] for r in results)
    virtual, events = sum(r[2] for r in results), sum(r[3] for r in results)
    took = time.monotonic() - begin
    print(f"      sim: {len(regressions)} seeds that failed once, {args.fixed} fixed ones, {args.fresh} "
          f"fresh ones from {fresh}, {args.twice} twice with the same digest: {virtual:,.0f} "
          f"virtual s and {events:,} events in {took:.0f} s ({virtual / took:.0f}x real time, "
          f"{events / took:,.0f} events/s)")
    print(f"# passed={seeds - failed} failed={failed} skipped=0 seconds={took:.1f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
