#!/usr/bin/env python3
"""Fuzz: build the targets with clang, libFuzzer, ASan and UBSan, and run them one after another.

    tests/fuzz/run.py                        30 seconds each
    tests/fuzz/run.py --seconds 600 log      one for ten minutes
    tests/fuzz/run.py --executions 100000000 messages batch
    tests/fuzz/run.py --keep                 no fuzzing: what is kept in tests/fuzz/corpus becomes the
                                             smallest inputs that cover as much as all found so far
    tests/fuzz/run.py --found FILE log       remember what went wrong, once it is mended: the smoke run
                                             of every build begins with it
    build-fuzz/tests/fuzz/fuzz_log FILE      again what was found

Prints for each target: executions and how many in a second, edges of the code that were covered,
inputs that cover them, findings. All that was ever found stays in build-fuzz/corpus, and what is in
tests/fuzz/corpus is added to it. A finding is a file in build-fuzz/findings; the exit status is 1.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD, KEPT = TOP / "build-fuzz", TOP / "tests/fuzz/corpus"
FOUND, FINDINGS = BUILD / "corpus", BUILD / "findings"
KEPT_BYTES, KEPT_INPUT = 40_000, 4096  # of one target; an input
LIMIT_S, LIMIT_MB = 20, 2048           # for one input
# Of these an input takes microseconds: libFuzzer would weigh its inputs for longer than it runs them.
QUICK = {"batch", "codec", "messages", "metadata", "records", "text"}
ENV = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
       "UBSAN_OPTIONS": "print_stacktrace=1"}


def build(targets):
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", BUILD.name, "-Dfuzz=true", "-Db_lundef=false",
                        "-Db_sanitize=address,undefined"], cwd=TOP, check=True,
                       env={**os.environ, "CC": "clang"}, stdout=subprocess.DEVNULL)
    task = subprocess.run(["ninja", "-C", str(BUILD), *(f"tests/fuzz/fuzz_{t}" for t in targets)],
                          capture_output=True, text=True)
    if task.returncode != 0:
        sys.exit(task.stdout[-4000:])


def program(target, *words, **env):
    """Its output, and how it ended."""
    task = subprocess.run([str(BUILD / f"tests/fuzz/fuzz_{target}"), *map(str, words)],
                          env={**ENV, **env}, capture_output=True, text=True, errors="replace")
    return task.stdout + task.stderr, task.returncode


def unpacked(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at:at + 2], "big")
        yield data[at + 2:at + 2 + size]
        at += 2 + size


def prepare(target):
    """The folder of all that was found, with the seeds and what is kept."""
    folder = FOUND / target
    folder.mkdir(parents=True, exist_ok=True)
    said, status = program(target, FUZZ_SEEDS=str(folder))
    if status != 0:
        sys.exit(f"{target} gives no seeds:\n{said[-2000:]}")
    for name in (target, f"{target}.found"):
        for n, data in enumerate(unpacked(KEPT / name) if (KEPT / name).exists() else ()):
            (folder / f"kept-{name}-{n:05}").write_bytes(data)
    return folder


def fuzz(target, args):
    folder, findings = prepare(target), FINDINGS / target
    findings.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    limit = [f"-runs={args.executions}"] if args.executions else [f"-max_total_time={args.seconds}"]
    if args.executions and args.seconds:
        limit.append(f"-max_total_time={args.seconds}")
    said, status = program(target, folder, *limit, f"-timeout={LIMIT_S}", f"-rss_limit_mb={LIMIT_MB}",
                           f"-entropic={int(target not in QUICK)}", "-print_final_stats=1", "-reload=0", "-use_value_profile=0",
                           f"-artifact_prefix={findings}/", f"-seed={args.seed}")
    took = time.monotonic() - begin
    runs = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said)
    lines = re.findall(r"^#\d+\s.*?cov: (\d+) ft: \d+ corp: (\d+)", said, re.M)
    runs = int(runs[-1]) if runs else 0
    edges, corpus = lines[-1] if lines else ("-", "-")
    found = re.findall(r"Test unit written to (\S+)", said)
    print(f"{target:10} {runs:12,} executions  {runs / took:9,.0f}/s  {edges:>6} edges  "
          f"{corpus:>6} inputs  {took:6.0f} s  {'FOUND ' + ' '.join(found) if status else 'nothing'}",
          flush=True)
    if status:
        (findings / "said.txt").write_text(said)
        lines = [s[:200] for s in said.splitlines() if "fuzzer::" not in s and "libc" not in s]
        at = next((n for n, t in enumerate(lines) if re.search(
            r"ERROR: |runtime error|assert|Assertion|failed at", t)), max(0, len(lines) - 30))
        print("\n".join("    " + t for t in lines[at:at + 14]), flush=True)
    return runs, bool(status)


def keep(target):
    """The fewest small inputs with all the coverage, as far as they fit."""
    folder = prepare(target)
    with tempfile.TemporaryDirectory(dir=BUILD) as small:
        said, status = program(target, "-merge=1", f"-max_len={KEPT_INPUT}", f"-timeout={LIMIT_S}",
                               small, folder)
        if status != 0:
            sys.exit(f"{target}: {said[-2000:]}")
        inputs = sorted((p.read_bytes() for p in Path(small).iterdir()), key=lambda d: (len(d), d))
    kept, size = [], 0
    for data in inputs:
        if size + 2 + len(data) > KEPT_BYTES:
            break
        kept.append(len(data).to_bytes(2, "big") + data)
        size += len(kept[-1])
    (KEPT / target).write_bytes(b"".join(kept))
    print(f"{target:10} {len(kept):5} of {len(inputs):5} inputs kept, {size:6} bytes", flush=True)


def main():
    known = sorted(p.name for p in KEPT.iterdir() if not p.suffix)
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=0, help="for each target (default: 30)")
    parser.add_argument("--executions", type=int, default=0, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0: another each time")
    parser.add_argument("--keep", action="store_true", help="make the kept corpora anew")
    parser.add_argument("--found", metavar="FILE", help="an input to be kept for ever")
    parser.add_argument("--fresh", action="store_true", help="forget what was found before")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(known))
    args = parser.parse_args()
    for target in args.targets:
        if target not in known:
            parser.error(f"no target is named {target}")
    targets = args.targets or known
    if args.found:
        data = Path(args.found).read_bytes()
        with open(KEPT / f"{targets[0]}.found", "ab") as f:
            f.write(len(data).to_bytes(2, "big") + data)
        return 0
    if not args.seconds and not args.executions:
        args.seconds = 30
    if args.fresh:
        shutil.rmtree(FOUND, ignore_errors=True)
    build(targets)
    if args.keep:
        for target in targets:
            keep(target)
        return 0
    ended = [fuzz(t, args) for t in targets]
    wrong = sum(bad for _, bad in ended)
    print(f"{sum(runs for runs, _ in ended):,} executions, {wrong} targets with findings")
    print(f"# passed={len(ended) - wrong} failed={wrong} skipped=0")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
