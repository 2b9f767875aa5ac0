#!/usr/bin/env python3
"""One failure at each operation of the disk, one run of the simulator each.

    torc-sim --fail: the operation fails with EIO      torc-sim --full: from it on nothing fits, for a second

The workload is small and has everything: start, topics, produce (idempotent, transactions), groups, rolls,
retention, compaction, a kill or a power cut or a stop, the start after it, the clean stop. Each run is
judged as every simulated run is: nothing acknowledged is lost or changed, every request ends, the node
comes back. On top of that, what a failure may lead to depends on where it is (OUTCOMES).

With --sites, of a build that is made for it (build-faults: no call is a jump there, so that each returns to
who made it): a table of all places in the broker's sources that call the disk, and how often each has met
EIO, and ENOSPC where room is asked for. One that has not been met is a failure.

The simulator and not a real disk: only there an operation has a number that stays the same from run to
run, and each run takes some hundredths of a second.
"""
import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.report import Report  # noqa: E402
from sim import bench  # noqa: E402

SIM = TOP / "build/tests/sim/torc-sim"
ENDED, FAILED, WENT_ON = "the node ended", "a directory failed", "it went on"
# Where an error may pass without the directory being failed: nothing was promised by it, it is told and
# tried again or left to the next start. Everywhere else a failed write or sync takes its directory offline.
MAY_PASS = re.compile(
    r"read |look |name |"
    r"(write|sync) 0-0\.checkpoint\.part|"  # a snapshot of the metadata: made again, the log is whole
    r"sync __cluster_metadata-0$|"  # the name of one, or old ones go; that of a segment ends the node
    r"(write|sync) [a-z-]*-checkpoint(\.tmp)?$|"  # where the next start begins to look
    r"(write|sync) [a-z-]+-0\.0\..*(cleaned|swap)|"  # compaction gives up on this log
    r"write durable-end\.torc$|"  # a mark that counts as none if it is not right
    r"(write|sync) \.kafka_cleanshutdown\.tmp$|"  # then it was no clean stop
    r"(write|sync) logs-0$|"  # the names of those; what relies on names fails the directory
    r"(write|sync) $")  # of a file that is deleted already
FILLS = ("io_write", "io_pwrite", "io_allocate", "io_reserve")  # what ENOSPC can come of
ASKS = (*FILLS, "io_read", "io_pread", "io_sync", "io_fdatasync", "io_reread", "io_sync_directory",
        "io_sync_filesystem", "io_punch", "io_remove", "io_open", "io_lock", "io_stat", "io_truncate",
        "io_mkdir", "io_rmdir", "io_unlink", "io_rename", "io_list")


def run(sim, seed, kind, first, last, every):
    task = subprocess.run([sim, "--seed", str(seed), f"--{kind}", f"{first}..{last}", "--every", str(every)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = [line.split("\t") for line in task.stdout.splitlines()]
    broken = [line for line in task.stdout.splitlines() if line.startswith("FAIL")]
    if task.returncode not in (0, 1) and not broken:
        broken.append(f"torc-sim ended with {task.returncode}: {task.stdout[-300:]}")
    calls = [(int(at, 16), int(error), int(times)) for at, error, times in
             (line[1:] for line in lines if line[0] == "call" and len(line) == 4)]
    return [line for line in lines if len(line) == 3], broken, calls


def calls_of(sim):
    """{address a call returns to: (place in the sources, function that is called)}, of the broker."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", sim], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    found = re.findall(r"call\s+[0-9a-f]+ <(io_\w+)>\n\s*([0-9a-f]+):", code)
    calls = {int(at, 16): name for name, at in found if name in ASKS}
    told = subprocess.run(["addr2line", "-e", sim, "-f", "-i", "-a"], check=True, text=True,
                          input="".join(f"{at - 1:x}\n" for at in calls), stdout=subprocess.PIPE).stdout
    places = {}
    for address, function, place in re.findall(r"^0x([0-9a-f]+)\n(\w+)\n(\S+:\d+)", told, re.M):
        file = os.path.relpath((sim.parents[2] / place).resolve(), TOP)
        if file.startswith(("broker/", "core/", "io/whole.c")):
            places[int(address, 16) + 1] = (f"{file} {function}", calls[int(address, 16) + 1])
    return places


def tell_sites(report, places, met):
    """All places, how often each has met which error, and which has not met what it can meet."""
    table, missed = defaultdict(Counter), []
    for at, (place, call) in places.items():
        for error in (5, 28):
            table[place, call][error] += met[at, error]
    for (place, call), times in sorted(table.items()):
        full = f"{times[28]:8d}" if call in FILLS else "       -"
        print(f"      {place:64} {call:18} {times[5]:8d} {full}")
        missed += [f"{place} {call} {name}" for error, name in ((5, "EIO"), (28, "ENOSPC"))
                   if times[error] == 0 and (error == 5 or call in FILLS)]
    wanted = sum(1 + (call in FILLS) for _, call in table)
    print(f"      {wanted - len(missed)} of {wanted} pairs of a place and an error were met, at "
          f"{len(table)} places")
    report.check("every place that calls the disk has met each error that it can", not missed,
                 "\n         ".join(["", *missed]))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="workloads (default: 2)")
    parser.add_argument("--first", type=int, default=1, help="the first one's seed (default: 1)")
    parser.add_argument("--every", type=int, default=61, help="1: at each operation (default: 61)")
    parser.add_argument("--sites", action="store_true", help="which places have met which error")
    parser.add_argument("--table", action="store_true", help="print all sites and outcomes")
    args = parser.parse_args()
    report, begin, work = Report(), time.monotonic(), []
    jobs, met = os.cpu_count() or 1, Counter()
    sim = bench.build(TOP / "build-faults", "-Doptimization=1") if args.sites else SIM
    for seed in range(args.first, args.first + args.seeds):
        for kind in ("fail", "full"):
            work += [(seed, kind, 1 + job * args.every, 1 << 40, args.every * jobs)
                     for job in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda w: run(sim, *w), work))
    sites, wrong, broken = defaultdict(Counter), [], []
    for (seed, kind, *_), (rows, lines, calls) in zip(work, results):
        broken += lines
        for at, error, times in calls:
            met[at, error] += times
        for at, site, outcome in rows:
            sites[kind, site][outcome] += 1
            bad = (outcome == WENT_ON and kind == "fail" and not MAY_PASS.match(site)) or (
                outcome == FAILED and kind == "full")
            if bad:
                wrong.append(f"--seed {seed} --{kind} {at}: {site}: {outcome}")
    for (kind, site), outcomes in sorted(sites.items()) if args.table else ():
        print(f"      {kind:4} {site:40} {dict(outcomes)}")
    tried = {kind: sum(sum(c.values()) for (k, _), c in sites.items() if k == kind)
             for kind in ("fail", "full")}
    report.check(f"{tried['fail']} operations failed one by one, each promise was kept",
                 tried["fail"] > 0 and not any("--fail" in b for b in broken), "; ".join(broken[:5]))
    report.check(f"the disk was full from {tried['full']} operations on, each promise was kept",
                 tried["full"] > 0 and not any("--full" in b for b in broken), "; ".join(broken[:5]))
    report.check(f"what comes of a failure is what its place allows, at {len(sites)} sites", not wrong,
                 f"{len(wrong)}: " + "; ".join(wrong[:8]))
    if args.sites:
        tell_sites(report, calls_of(sim), met)
    print(f"      {time.monotonic() - begin:.0f} s")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
