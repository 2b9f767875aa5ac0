#!/usr/bin/env python3
"""Every byte of a data directory, damaged: nothing is ever silently wrong.

    small directory ──one byte changed, a file cut, garbage behind it──▶ torc inspect integrity
                                                                     └─▶ torc broker ─▶ a reader

once after a clean stop, once after a kill. What the broker may do with it:
    same       the reader gets exactly what it gets from the undamaged directory
    told       what is missing is answered with an error (CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR ...), and
               all else is right, batch by batch
    refused    it does not start, and says which file or directory and why
    known      ListOffsets is wrong, as it would be with Apache Kafka: see unknowable()
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
    known      see above
    WRONG      anything else: there must be none

Without --full, a sample that is the same each time: every cut of one small file of each sort, and bytes
and cuts of all files, drawn from a fixed seed.
"""
import multiprocessing
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.broker import Place, arguments, free_port, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Closed  # noqa: E402
from integrity import directory  # noqa: E402
from integrity.reader import Reader  # noqa: E402

READY_S, LIMIT_MB, SEED = 20, 400, 20261121
SMALL = 64  # bytes of a file that is cut everywhere also in a sample
TORC = os.environ.get("TORC") or str(TOP / "build/torc")
CHECKED = {"log.cleaner.enable": "false", "torc.stat.socket": "false"}
WAL_BLOCK = 4096


class Case:
    """One directory with one thing wrong."""

    def __init__(self, kind, file, how, at):
        self.kind, self.file, self.how, self.at = kind, file, how, at

    def __str__(self):
        return f"{self.kind}/{self.file} {self.how} at {self.at}"

    def apply(self, data):
        if self.how == "cut":
            return data[:self.at]
        if self.how == "append":
            return data + (bytes(self.at) if self.at > 16 else b"garbage \xff\x00\x01" + bytes([self.at]))
        byte = data[self.at]
        byte = {"zero": 0, "ones": 255, "flip": byte ^ 1 << (self.at * 5 + 1) % 8}[self.how]
        return data[:self.at] + bytes([byte]) + data[self.at + 1:]


def bytes_used(data):
    """Positions worth damaging: all, but of long zeros only the first and last few."""
    if len(data) < 65536:
        return range(len(data))
    used, at = [], 0
    for block in range(0, len(data), WAL_BLOCK):
        end = len(data[block:block + WAL_BLOCK].rstrip(b"\0"))
        if end:
            used += range(block, block + end + 8)
            used.append(block + WAL_BLOCK - 1)
    return used


def cases(made):
    """All of them, in groups: (kind, file) -> list."""
    groups = {}
    for kind, (files, _) in made.items():
        for file, data in files.items():
            if file.endswith(".deleted"):
                continue
            used = bytes_used(data)
            found = [Case(kind, file, how, at) for at in used for how in ("flip", "zero", "ones")
                     if how == "flip" or data[at] != (0 if how == "zero" else 255)]
            found += [Case(kind, file, "cut", at) for at in used if at < len(data)]
            found += [Case(kind, file, "append", n) for n in (1, 2, 100, 5000)]
            groups[kind, file] = found
    return groups


def small_cuts(made, groups):
    """Every cut of one small file of each sort."""
    first = {}
    for kind, file in groups:
        if kind == "stopped" and len(made[kind][0][file]) <= SMALL:
            first.setdefault(what(file), groups[kind, file])
    return [c for g in first.values() for c in g if c.how == "cut"]


def sample(made, groups, count, rng):
    """Each file's share: more from those that are large, some from each."""
    total = sum(len(g) for g in groups.values())
    chosen = small_cuts(made, groups)
    count -= len(chosen)
    for g in groups.values():
        share = min(count * len(g) // total, count // 20) if len(groups) > 1 else count
        chosen += rng.sample(g, min(len(g), max(2, share)))
    rng.shuffle(chosen)
    return chosen


class Bench:
    """One worker's directory, port and truth."""

    def __init__(self, made, root):
        self.made, self.root, self.port = made, Path(root), free_port()
        self.data, self.readers = self.root / "data", {}
        self.config = self.root / "server.properties"
        shown = {**directory.SETTINGS, **CHECKED}
        self.config.write_text(
            f"process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n"
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"controller.quorum.voters=1@127.0.0.1:1\nlog.dirs={self.data}\n"
            + "".join(f"{k}={v}\n" for k, v in shown.items()))
        for kind, (files, _) in made.items():
            directory.store(files, self.data)
            process, lines = self.start()
            if process.poll() is not None:
                raise RuntimeError("\n".join(lines))
            self.readers[kind] = Reader()
            self.readers[kind].learn(f"127.0.0.1:{self.port}")
            self.end(process)

    def start(self):
        """The process and what it said until it was ready, or ended, or was too late."""
        process = subprocess.Popen([TORC, "broker", str(self.config)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text, late = b"", time.monotonic() + READY_S
        while b"torc ready" not in text and time.monotonic() < late:
            if select.select([process.stdout], [], [], 0.2)[0]:
                more = os.read(process.stdout.fileno(), 65536)
                if not more:
                    process.wait()
                    break
                text += more
        return process, text.decode(errors="replace").splitlines()

    @staticmethod
    def end(process):
        """Returns what else it said."""
        process.kill()
        rest = process.stdout.read().decode(errors="replace")
        process.stdout.close()
        process.wait()
        return rest.splitlines()

    def inspect(self):
        """(found, text) of torc inspect integrity."""
        task = subprocess.run([TORC, "inspect", "integrity", "--records", str(self.data)],
                              capture_output=True, text=True, timeout=READY_S)
        if task.returncode not in (0, 1):
            return None, f"exit {task.returncode}: {task.stdout[-2000:]}{task.stderr[-2000:]}"
        return task.returncode == 1 or "is not whole" in task.stdout, task.stdout

    def run(self, case):
        """(outcome, inspected, detail)."""
        files, _ = self.made[case.kind]
        directory.store({**files, case.file: case.apply(files[case.file])}, self.data)
        found, text = self.inspect()
        if found is None:
            return "CRASH", False, f"inspect: {text}"
        process, lines = self.start()
        if process.poll() is not None:
            status, lines = process.returncode, lines + self.end(process)
            said = [t for t in lines if "ERROR" in t or t.startswith("torc:")]
            if status != 1 or not said:
                return "CRASH", found, f"exit {status}: " + "\n".join(lines[-12:])
            return "refused", found, said[-1]
        outcome, detail = self.judge(case, process, lines)
        return outcome, found, detail

    def judge(self, case, process, lines):
        if not any("torc ready" in t for t in lines):
            self.end(process)
            return "HANG", "\n".join(lines[-5:])
        try:
            told, wrong = self.readers[case.kind].compare(f"127.0.0.1:{self.port}")
            memory = int(re.search(r"VmHWM:\s+(\d+)",
                                   Path(f"/proc/{process.pid}/status").read_text())[1]) >> 10
        except (OSError, Closed, ValueError, TypeError) as e:
            died = process.poll()
            lines += self.end(process)
            return "CRASH", f"{type(e).__name__} {e}, exit {died}: " + "\n".join(lines[-12:])
        lines += self.end(process)
        said = "; ".join(t for t in lines if " WARN " in t or " ERROR " in t)
        if memory > LIMIT_MB and "asan" not in TORC:
            return "MEMORY", f"{memory} MB"
        if wrong and case.kind == "killed" and torn(case, said):
            return "torn", said
        if wrong and unknowable(case):
            return "known", said
        if wrong:
            return "WRONG", f"{wrong[:3]} told {told[:2]} said {said[-300:]}"
        return ("told" if told else "same"), said or str(told[:2])


def unknowable(case):
    """A time index that has lost whole entries, of a segment whose timestamps do not ascend: its last
    entry is true, and only a walk through the segment would tell that a later one was larger. And a
    larger log start in Kafka's own file for it, which has no checksum."""
    return (case.how == "cut" and case.file.endswith(".timeindex") and case.at % 12 == 0) or \
        (case.how == "flip" and case.file == "log-start-offset-checkpoint")


def torn(case, said):
    """Was what is missing of the last write, and was it said?"""
    if case.file.startswith("wal-"):
        return "last write was torn" in said
    return case.file.startswith("__cluster_metadata") and "unfinished write" in said


# ---- what inspection may pass over ---------------------------------------------------------------

HARMLESS = [  # kind, file, how, reason
    ("stopped", r"^wal-", ".*", "a closed write-ahead log is not read: all of it is in segments"),
    ("killed", r"^wal-", "flip|zero|ones", "padding between groups, which no checksum covers, and an "
     "entry's slot in memory, which means nothing on disk"),
    (".*", r"\.index$", "flip|zero|ones", "an entry still leads to its batch, from further away"),
    (".*", r"\.timeindex$", "flip|zero|ones", "an entry's other offset is of a batch that it is true of"),
    (".*", r"index$", "cut", "a shorter index leads to the same batches, later"),
    (".*", r"index$", "append", "zeros behind an index that is open are room that was made in advance"),
    (".*", r"kafka_cleanshutdown$", ".*", "what counts is that the file is there"),
    (".*", r"durable-end\.torc$", ".*", "a mark that cannot be read is as none; its log is whole"),
    (".*", r"quorum-state$", ".*", "no checksum: a higher epoch, names of fields that torc does not read"),
    (".*", r"meta\.properties$", ".*", "no checksum: a cluster id is compared with other directories'"),
    (".*", r"-checkpoint$", ".*", "no checksum: a lower offset makes a start look at more"),
    (".*", r"^bootstrap\.checkpoint$", "flip|zero|ones", "offset and epoch of a batch there mean nothing"),
    ("killed", r"\.log$", "append", "what stands behind the end of a log that was not closed is cut"),
    (".*", r"^__cluster_metadata-0/.*\.checkpoint$", "flip|zero|ones", "offset and epoch of a batch in a "
     "snapshot mean nothing"),
    (".*", r"/log-cleaned\.torc$", ".*", "no checksum: a lower offset says less"),
    (".*", r"partition\.metadata$", "flip|zero|ones", "four bits of an id's last character mean nothing"),
    ("killed", r"\.(timeindex|txnindex|snapshot)$", ".*", "of what the write-ahead log has: it is "
     "written anew"),
]


def harmless(case):
    for kind, file, how, why in HARMLESS:
        if re.fullmatch(kind, case.kind) and re.search(file, case.file) and re.fullmatch(how, case.how):
            return why
    return None


def work(made, root, cases, results):
    bench = Bench(made, root)
    results.put(None)
    for case in iter(cases.get, None):
        try:
            result = bench.run(case)
        except Exception as e:  # told to whoever waits
            result = ("CRASH", False, f"the test: {type(e).__name__} {e}")
        results.put((case, *result))
    results.put(None)


def drive(made, chosen, jobs, root, seconds):
    """Yields (case, outcome, found, detail)."""
    cases, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = []
    for i in range(jobs):
        (root / str(i)).mkdir()
        workers.append(multiprocessing.Process(target=work, args=(made, root / str(i), cases, results),
                                               daemon=True))
        workers[-1].start()
    for _ in workers:
        results.get()
    late, given, back = time.monotonic() + seconds, 0, 0
    while given < min(len(chosen), 2 * jobs):
        cases.put(chosen[given])
        given += 1
    while back < given:
        yield results.get()
        back += 1
        if given < len(chosen) and time.monotonic() < late:
            cases.put(chosen[given])
            given += 1
    for _ in workers:
        cases.put(None)
    for w in workers:
        w.join(10)


def what(file):
    """The sort of file, for the table."""
    name = file.rpartition("/")[2]
    if file.startswith("__cluster_metadata"):
        return "metadata " + re.sub(r"^[\d-]+", "*", name)
    if file.startswith("__"):
        return "internal " + re.sub(r"^\d+", "*", name)
    return re.sub(r"^\d{20}", "*", re.sub(r"^wal-\d+-\d+", "wal-*", name))


def column(outcome, found):
    if not outcome.islower():
        return "WRONG"
    if outcome == "same":
        return "repaired" if found else "harmless"
    return "known" if outcome == "known" else "detected"


def table(counts, columns=("cases", "detected", "repaired", "harmless", "known", "WRONG")):
    counts = {**counts, "all": sum(counts.values(), Counter())}
    print(f"      {'file':36}" + "".join(f"{c:>10}" for c in columns))
    for sort, c in counts.items():
        print(f"      {sort[:36]:36}" + "".join(f"{c[k]:10}" for k in columns))


def main():
    args = arguments(__doc__, full={"action": "store_true", "help": "each byte, cut and variant"},
                     only={"default": "", "help": "files whose kind/path matches this"},
                     count={"type": int, "default": 300, "help": "cases of a sample"},
                     seconds={"type": float, "default": 30, "help": "begin no more after so long"},
                     jobs={"type": int, "default": os.cpu_count()},
                     seed={"type": int, "default": SEED}).parse_args()
    interrupt_on_term()
    report, counts, bad, unfound = Report(), {}, [], []
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
        begin, done = time.monotonic(), 0
        seconds = 1e9 if args.full else args.seconds
        for case, outcome, found, detail in drive(made, chosen, args.jobs, root, seconds):
            done += 1
            c = counts.setdefault(what(case.file), Counter())
            c["cases"] += 1
            c[column(outcome, found)] += 1
            if not outcome.islower():
                bad.append(f"{case}: {outcome}: {detail}")
                print(f"      {bad[-1][:1500]}", flush=True)
            elif not found and (outcome not in ("same", "known") or not harmless(case)):
                unfound.append(f"{case}: {outcome}: {detail[:200]}")
        took = time.monotonic() - begin
        table(dict(sorted(counts.items())))
        print(f"      {done} of {len(chosen)} chosen of {total} cases in {took:.0f} s")
        report.check("nothing is silently wrong", not bad, f"{len(bad)} cases: {bad[:3]}")
        report.check("inspection finds what is not harmless", not unfound,
                     f"{len(unfound)} cases: {unfound[:10]}")
        for u in unfound[:400]:
            print("      unfound", u)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
