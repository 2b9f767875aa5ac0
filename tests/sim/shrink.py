#!/usr/bin/env python3
"""Make a run of the simulator that fails smaller, as long as it fails in the same way.

usage: tests/sim/shrink.py SEED [--defect N] [--lie] [--sim torc-sim] [--any] [--limit S] [--out FILE]
       tests/sim/shrink.py --plan FILE ...

What a run is made of are knobs (how many clients of each kind, topics, batches, disks, cores; which
kinds of harm, for how long; what the machine is like) and the harms that were done. Each knob is turned
to where it does nothing, or else half way there; kinds of harm go one by one; then single harms go, the
more at once the better. Fewer clients draw other numbers from the same seed, which often hides the
failure: so a try is made with a few other seeds too, until the harms are picked.

Fails in the same way: with the same words, whatever the numbers in them; or at the same assertion
(--any: in whatever way, where one cause shows in many).
Ends when nothing can be left out any more or the time is up, prints what is left, and writes a trace:
torc-sim --replay FILE repeats it choice by choice.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
RUN_LIMIT_S = 60
OTHER_SEEDS = 5  # beside its own, for each try
HALVINGS = 3     # of a knob that cannot be calm


class Run:
    """What became of a plan."""

    def __init__(self, plan, text, status):
        self.plan, self.text, self.status = plan, text, status
        self.knobs = {m[2]: (int(m[3]), int(m[4]), m[1] == "bits") for m in
                      re.finditer(r"^(knob|bits) (\S+) (\d+) (\d+)$", text, re.M)}
        self.harms = [int(m[1]) for m in re.finditer(r"^harm (\d+) ", text, re.M)]
        self.way = self.how_it_failed()
        said = re.search(r"([\d.]+) virtual s, (\d+) events", text)
        self.virtual, self.events = (float(said[1]), int(said[2])) if said else (None, None)

    def how_it_failed(self):
        broken = re.search(r"^torc: assertion failed: (.*?:\d+)", self.text, re.M)
        if broken:
            return broken[1]
        said = re.search(r"^FAIL [^:]*: (.*)$", self.text, re.M)
        if said is None:
            return None if self.status == 0 else f"status {self.status}"
        if said[1].startswith("no end of phase"):
            return said[1].split(":")[0]
        return re.sub(r"(?<!error )-?\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", "#", said[1])

    def value(self, knob):
        return self.knobs[knob][0]

    def size(self):
        """What a person has to look at."""
        v = self.value
        clients = v("producers") + v("fetchers") + v("members") + v("tellers") + (v("keeper_batches") > 0)
        partitions = sum(v(f"partitions[{i}]") for i in range(v("topics")))
        turned = sum(value != calm for value, calm, _ in self.knobs.values())
        length = f"{self.virtual:.1f} virtual s, {self.events:,} events" if self.virtual else "crashed"
        return (f"{turned} knobs on, {clients} clients, {v('topics')} topics of {partitions} "
                f"partitions, {v('cores')} cores, {v('dirs')} disks, {len(self.harms)} harms of "
                f"{v('harms').bit_count()} kinds, {length}")


class Shrinker:
    def __init__(self, args):
        self.sim, self.jobs, self.until = args.sim, args.jobs, time.monotonic() + args.limit
        self.folder = Path(tempfile.mkdtemp(prefix="torc-shrink-"))
        self.tries, self.any = 0, args.any
        self.head = (["lie"] if args.lie else []) + ([f"defect {args.defect}"] if args.defect else [])
        self.best = None

    def text(self, plan):
        seed, knobs, omits = plan
        return "\n".join([f"seed {seed}", *self.head, *(f"set {k} {v}" for k, v in knobs.items()),
                          *(f"omit {n}" for n in sorted(omits))]) + "\n"

    def run(self, plan, *words):
        self.tries += 1
        file = self.folder / f"plan-{self.tries}-{plan[0]}"
        file.write_text(self.text(plan))
        try:
            done = subprocess.run([self.sim, "--replay", file, "--tell", *words], text=True,
                                  errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=RUN_LIMIT_S, check=False)
            return Run(plan, done.stdout, done.returncode)
        except subprocess.TimeoutExpired:
            return Run(plan, "", 0)
        finally:
            file.unlink()

    def late(self):
        return time.monotonic() > self.until

    def attempt(self, plans):
        """The first of these that fails as the best one does becomes the best."""
        for i in range(0, len(plans), self.jobs):
            if self.late():
                return False
            with ThreadPoolExecutor(self.jobs) as pool:
                for run in pool.map(self.run, plans[i:i + self.jobs]):
                    if run.knobs and (run.way is not None if self.any else run.way == self.best.way):
                        self.best = run
                        return True
        return False

    def turn(self, knob, value, others):
        seed, knobs, omits = self.best.plan
        plans = [(seed, {**knobs, knob: value}, omits)]
        plans += [(seed % 1000000 + 1000000 * (n + 1), {**knobs, knob: value}, frozenset())
                  for n in range(others)]
        return self.attempt(plans)

    def turn_down(self, knob, others):
        value, calm, bits = self.best.knobs[knob]
        if value == calm or (knob.startswith("partitions[") and
                             int(knob[11]) >= self.best.value("topics")):
            return False
        if self.turn(knob, calm, others):
            return True
        turned = False
        if bits:
            for bit in (1 << n for n in range(value.bit_length()) if value >> n & 1):
                turned |= self.turn(knob, self.best.value(knob) & ~bit, others)
            return turned
        for _ in range(HALVINGS):
            half = (self.best.value(knob) + calm) // 2
            if half in (self.best.value(knob), calm) or not self.turn(knob, half, others):
                break
            turned = True
        return turned

    def omit_harms(self):
        seed, knobs, omits = self.best.plan
        chunk = len(self.best.harms)
        while chunk > 0 and not self.late():
            harms, gone = self.best.harms, False
            for i in range(0, len(harms), chunk):
                seed, knobs, omits = self.best.plan
                gone |= self.attempt([(seed, knobs, omits | frozenset(harms[i:i + chunk]))])
            chunk = chunk // 2 if not gone or chunk == 1 else min(chunk, len(self.best.harms))
            if gone and chunk == 1:
                chunk = 0

    def shrink(self, plan):
        first = self.run(plan)
        if first.way is None:
            sys.exit(f"this run does not fail: {first.text[-200:]}")
        seed, knobs, omits = plan
        knobs = {**{k: v[0] for k, v in first.knobs.items()}, **knobs}
        self.best = Run((seed, knobs, omits), first.text, first.status)
        changed = True
        while changed and not self.late():
            changed = False
            for knob in self.best.knobs:
                changed |= self.turn_down(knob, OTHER_SEEDS)
        self.omit_harms()
        for knob in self.best.knobs:
            self.turn_down(knob, 0)
        return first


def read_plan(file):
    seed, knobs, omits = 0, {}, set()
    for line in file.read_text().splitlines():
        words = line.split()
        if words[:1] == ["choices"]:
            break
        if words[:1] == ["seed"]:
            seed = int(words[1])
        elif words[:1] == ["set"]:
            knobs[words[1]] = int(words[2])
        elif words[:1] == ["omit"]:
            omits.add(int(words[1]))
    return seed, knobs, frozenset(omits)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--plan", type=Path, help="start from this plan or trace")
    parser.add_argument("--sim", type=Path, default=TOP / "build/tests/sim/torc-sim")
    parser.add_argument("--defect", type=int, default=0, help="of tests/sim/bench.py")
    parser.add_argument("--lie", action="store_true")
    parser.add_argument("--any", action="store_true", help="any failure will do")
    parser.add_argument("--limit", type=float, default=120, help="seconds (default: 120)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="the trace (default: build/shrunk-SEED.trace)")
    args = parser.parse_args()
    if (args.seed is None) == (args.plan is None):
        parser.error("a seed or a plan")
    plan = read_plan(args.plan) if args.plan else (args.seed, {}, frozenset())
    out = args.out or TOP / f"build/shrunk-{plan[0]}.trace"
    begin, shrinker = time.monotonic(), Shrinker(args)
    first = shrinker.shrink(plan)
    best = shrinker.best
    trace = shrinker.run(best.plan, "--trace", out)
    again = subprocess.run([args.sim, "--replay", out], text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, check=False, errors="replace")
    same = trace.way == best.way and Run(best.plan, again.stdout, again.returncode).way == best.way
    shrinker.folder.rmdir()
    print(f"fails: {best.way}\nbefore: {first.size()}\nafter:  {best.size()}")
    print("left:   " + ", ".join(f"{k} {v}" for k, (v, calm, _) in best.knobs.items() if v != calm))
    for line in re.findall(r"^harm \d+ .*$", best.text, re.M)[:20]:
        print(f"        {line}")
    print(f"{shrinker.tries} tries in {time.monotonic() - begin:.0f} s; {out}: "
          f"{'repeats' if same else 'DOES NOT REPEAT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
