#!/usr/bin/env python3
"""Every byte of a data directory, damaged: nothing is ever silently wrong.

    small directory ──one byte changed, a file cut, garbage behind it──▶ torc inspect integrity
                                                                     └─▶ torc broker ─▶ a reader

once after a clean stop, once after a kill. What the broker may do with it:
    same       the reader gets exactly what it gets from the undamaged directory
    told       what is missing is answered with an error (CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR ...), and
               all else is right, batch by batch
    refused    it does not start, and says which file or directory and why
    known      an answer is wrong, as it would be with Apache Kafka: see unknowable()
    unmended   an answer is wrong, and should not be: see unmended()
    torn       after a kill only: the last write to the write-ahead log, or the last append to the
               metadata log, is damaged. That cannot be told from a write that was under way when
               the power went, which was never acknowledged. It is cut, and the log says so
What it may not do: answer wrongly without an error, crash, hang, or take more memory than LIMIT_MB.

A batch with a damaged record is never given to a client: checksums are checked before. What a batch's
checksum does not cover (base offset, length, leader epoch) must be right, too: a client would believe it.

`torc inspect integrity` must find the damage, unless the byte is one of those that say nothing or cannot be
vouched for; HARMLESS names them, each with its reason. What it finds there may be said; what it does
not find must be `same` then.

The table counts, by the sort of file:
    detected   the broker said it: told, refused or torn
    repaired   it was there, inspection finds it, and a reader gets exactly what he should
    harmless   neither says anything, and a reader gets exactly what he should
    known, unmended  see above
    WRONG      anything else: there must be none

Cases that can be told apart are tried at once (damage.bundles): on a machine of 2 CPUs that does nothing else,
all of them take less than half an hour.

Without --full, a sample that is the same each time: every cut of one small file of each sort, each byte of
batches that no checksum covers, the header of the last group in the write-ahead log, and bytes and cuts of all
files, drawn from a fixed seed.
"""
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from integrity import directory  # noqa: E402
from integrity.bench import Bench, unfound  # noqa: E402
from integrity.damage import bundles, cases, sample, what  # noqa: E402

SEED, WORKER_S = 20261121, 120
WORKERS = 4 * (os.cpu_count() or 1)  # most wait for the kernel while another computes


def work(made, root, tasks, results):
    bench = Bench(made, root)
    results.put((None, 0))
    for bundle in iter(tasks.get, None):
        begun = bench.starts
        try:
            done = bench.run(bundle)
        except Exception as e:  # told to whoever waits
            done = [(c, "CRASH", False, f"the test: {type(e).__name__} {e}") for c in bundle]
        results.put((done, bench.starts - begun))
    bench.zygote.end()


def drive(made, chosen, jobs, root, seconds):
    """Yields ([(case, outcome, found, detail)], starts that this took)."""
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = []
    for i in range(jobs):
        (root / str(i)).mkdir()
        workers.append(multiprocessing.Process(target=work, args=(made, root / str(i), tasks, results),
                                               daemon=True))
        workers[-1].start()
    for _ in workers:
        results.get(timeout=WORKER_S)
    late, given, back = time.monotonic() + seconds, 0, 0
    while given < min(len(chosen), 4 * jobs):
        tasks.put(chosen[given])
        given += 1
    while back < given:
        yield results.get(timeout=WORKER_S)
        back += 1
        if given < len(chosen) and time.monotonic() < late:
            tasks.put(chosen[given])
            given += 1
    for _ in workers:
        tasks.put(None)
    for w in workers:
        w.join(10)


def column(outcome, found):
    if not outcome.islower():
        return "WRONG"
    if outcome == "same":
        return "repaired" if found else "harmless"
    return outcome if outcome in ("known", "unmended") else "detected"


def table(counts, columns=("cases", "detected", "repaired", "harmless", "known",
                                   "unmended", "WRONG")):
    counts = {**counts, "all": sum(counts.values(), Counter())}
    print(f"      {'file':36}" + "".join(f"{c:>10}" for c in columns))
    for sort, c in counts.items():
        print(f"      {sort[:36]:36}" + "".join(f"{c[k]:10}" for k in columns))


class Tally:
    """What came of the cases."""

    def __init__(self, whole):
        self.counts, self.bad, self.unfound = {}, [], []
        self.whole, self.done, self.starts = whole, 0, 0
        self.begin = self.told = time.monotonic()

    def add(self, results, starts):
        self.starts += starts
        for case, outcome, found, detail in results:
            self.done += 1
            c = self.counts.setdefault(what(case.file), Counter())
            c["cases"] += 1
            c[column(outcome, found)] += 1
            if not outcome.islower():
                self.bad.append(f"{case}: {outcome}: {detail}")
                print(f"      {self.bad[-1][:1500]}", flush=True)
            elif unfound(case, outcome, found):
                self.unfound.append(f"{case}: {outcome}: {detail[:200]}")
        if time.monotonic() - self.told > 30:
            self.told = time.monotonic()
            print(f"      {self.done} of {self.whole} cases, {self.starts} starts, "
                  f"{self.told - self.begin:.0f} s", flush=True)


def main():
    args = arguments(__doc__, full={"action": "store_true", "help": "each byte, cut and variant"},
                     only={"default": "", "help": "files whose kind/path matches this"},
                     count={"type": int, "default": 1500, "help": "cases of a sample"},
                     seconds={"type": float, "default": 60, "help": "begin no more after so long"},
                     jobs={"type": int, "default": WORKERS},
                     seed={"type": int, "default": SEED}).parse_args()
    interrupt_on_term()
    report = Report()
    rng = random.Random(args.seed)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix=f"torc-test-integrity-{os.getpid()}-", dir=base))
    try:
        with Place() as place:
            made = directory.make(place)
        groups = {k: g for k, g in cases(made).items() if re.search(args.only, "/".join(k))}
        total = sum(len(g) for g in groups.values())
        chosen = [c for g in groups.values() for c in g] if args.full else \
            sample(made, groups, args.count, rng)
        tried = list(bundles(chosen, rng))
        rng.shuffle(tried)
        tally, begin = Tally(len(chosen)), time.monotonic()
        for results, starts in drive(made, tried, args.jobs, root, 1e9 if args.full else args.seconds):
            tally.add(results, starts)
        table(dict(sorted(tally.counts.items())))
        print(f"      {tally.done} of {len(chosen)} chosen of {total} cases, {tally.starts} starts in "
              f"{time.monotonic() - begin:.0f} s")
        report.check("nothing is silently wrong", not tally.bad,
                     f"{len(tally.bad)} cases: {tally.bad[:3]}")
        report.check("inspection finds what is not harmless", not tally.unfound,
                     f"{len(tally.unfound)} cases: {tally.unfound[:10]}")
        report.check("every case was tried", not args.full or tally.done == len(chosen))
        for u in tally.unfound[:400]:
            print("      unfound", u)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
