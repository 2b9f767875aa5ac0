#!/usr/bin/env python3
"""All tests of torc, as steps of groups: runs them, counts what they report, keeps their output.

A step is a command. It ends with a line "# passed=N failed=N skipped=N" (tests/harness/report.py), or
is one of meson's tests, whose programs are counted one by one. `tools/test --help` is the manual.

Steps run in two lanes at once, each in the order of the list: those that compute, and those of real
clients, which mostly wait, and share what they fetch from registries. What both need is built before.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build/test-logs"
JOBS = os.cpu_count() or 1
TTY = sys.stdout.isatty()
SUMMARY = re.compile(r"^# passed=(\d+) failed=(\d+) skipped=(\d+)", re.M)
CRITERION = re.compile(r"Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")


class Step:
    """One command, with what must be on this machine for it and how long it may take."""

    def __init__(self, name, what, command, needs=(), files=(), limit_s=300, env=None):
        self.name, self.what, self.command = name, what, command
        self.needs, self.files, self.limit_s, self.env = needs, files, limit_s, env or {}

    def lane(self):
        """0: before all others; 1: computes; 2: clients."""
        group = self.name.split("/")[0]
        return 0 if group == "build" else 2 if group in ("interop", "schema", "run") else 1

    def lacks(self):
        """Why it cannot run here, or None."""
        for command in self.needs:
            if not shutil.which(command):
                return f"no {command} on the PATH"
        for file in self.files:
            if not (TOP / file).exists():
                return f"no {file}"
        return None


def meson(name, what, folder, suite, options=(), env=None, limit_s=900, needs=()):
    """A step that builds the tree in a folder of its own and runs one suite of its tests."""
    self = [sys.executable, __file__, "--meson", folder, suite or "-", *options]
    return Step(name, what, self, needs=("meson", "ninja", *needs), limit_s=limit_s, env=env)


PY = sys.executable
JAVA, BROKER = ("java", "javac", "mvn"), ("build/torc",)
LOAD, SHIM = "build/tests/crash/crash_load", "build/tests/crash/crash_shim"
CLOCK, ZYGOTE = "build/tests/crash/clock.so", "build/tests/integrity/zygote.so"
BARE = "build/perf/bare"
ONE_PASSED = " && echo '# passed=1 failed=0 skipped=0'"  # for a command that only ends well or not
STEPS = [
    Step("build/torc", "build/torc as users build it, and the programs that tests use",
         ["bash", "-c", "tools/build --no-install && ninja -C build" + ONE_PASSED], ("meson", "ninja"),
         limit_s=600),
    meson("unit/gcc-sanitized", "unit tests, gcc with ASan and UBSan", "build-asan", "unit",
          ["-Db_sanitize=address,undefined"],
          {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}),
    meson("unit/clang", "the tree with clang, unit tests without sanitizers", "build-clang", "unit",
          env={"CC": "clang"}, needs=("clang",)),
    Step("static/tidy", "layers, limits and forbidden things in the sources", [PY, "tools/tidy"]),
    Step("static/analyze", "clang-tidy's checks of core/ and io/; tools/analyze asks more, about everything",
         [PY, "tools/analyze", "--no-install", "--only", "clang-tidy", "core", "io"],
         ("clang-tidy", "meson")),
    Step("static/tidy-itself", "tidy against trees that break one rule each",
         [PY, "tests/tools/test_tidy.py"], needs=("cc", "ar")),
    Step("static/soak-itself", "a short turn of each kind of row of tools/soak, and the sums of its ledger",
         [PY, "tests/tools/test_soak.py"], (), (*BROKER, LOAD, SHIM, ZYGOTE, "build/tests/sim/torc-sim"), 200),
    meson("race/tsan", "programs with real threads, under TSan", "build-tsan", "race",
          ["-Db_sanitize=thread", "-Db_lundef=false"]),
    Step("schema/jars", "message schemas agree with those in Kafka's own jars",
         [PY, "tests/harness/schemas.py"], JAVA, ("tests/proto/compare_schemas.py",)),
    Step("sim/seeds", "the simulator: power cuts, kills, resets; fixed seeds, fresh seeds, repeats",
         [PY, "tests/sim/run.py"], (), ("build/tests/sim/torc-sim",), 600),
    Step("sim/shrink", "a simulated run repeats from its trace, and one that fails is made smaller",
         [PY, "tests/sim/test_shrink.py"], (), ("build/tests/sim/torc-sim",), 200),
    Step("sim/sanitized", "a few seeds of the simulator with ASan and UBSan",
         ["bash", "-c", "build-asan/tests/sim/torc-sim --seeds 1..20" + ONE_PASSED], (),
         ("build-asan/tests/sim/torc-sim",)),
    Step("sim/faults", "one operation of the disk fails, or meets a full disk: outcomes by site",
         [PY, "tests/sim/faults.py"], (), ("build/tests/sim/torc-sim",)),
    Step("interop/clients", "real clients write and read each other's records by partition",
         [PY, "tests/interop/clients/run.py"], (), BROKER, 400),
    Step("interop/kill", "librdkafka's idempotent producers lose and repeat nothing over kills",
         [PY, "tests/interop/kill/run.py"], (), BROKER, 300),
    Step("interop/compare", "the same requests to Apache Kafka: the same answers, field by field",
         [PY, "tests/interop/compare/run.py"], JAVA, BROKER, 300),
    Step("interop/tools", "Kafka's own tools answer as with Apache Kafka",
         [PY, "tests/interop/tools/run.py"], JAVA, BROKER, 300),
    Step("interop/groups", "consumer groups: answers as with Apache Kafka, and real members",
         [PY, "tests/interop/groups/run.py"], JAVA, BROKER, 600),
    Step("interop/transactions", "transactions of real clients over kills, and Kafka's tool for them",
         [PY, "tests/interop/transactions/run.py"], JAVA, BROKER, 300),
    Step("interop/versions", "Java clients of Kafka 2.8, 3.9 and 4.3, by Kafka's own test programs",
         [PY, "tests/interop/versions/run.py"], JAVA, BROKER, 300),
    Step("interop/connect", "Kafka Connect: file to topic to file, over kills and restarts",
         [PY, "tests/interop/connect/run.py"], JAVA, BROKER, 200),
    Step("interop/streams", "Kafka Streams: a word count, and exactly-once booking over kills",
         [PY, "tests/interop/streams/run.py"], JAVA, BROKER, 300),
    Step("interop/copy", "every client copies a topic in transactions, killed, each record once",
         [PY, "tests/interop/copy/run.py"], JAVA, BROKER, 400),
    Step("interop/franz", "franz-go's own tests: groups and transactions in chains",
         [PY, "tests/interop/franz/run.py"], ("go",), BROKER, 400),
    Step("interop/exchange", "torc and Apache Kafka open each other's data directory, all is there",
         [PY, "tests/interop/exchange/run.py"], JAVA, BROKER, 400),
    Step("interop/compaction", "the same records, compacted by torc and by Apache Kafka: the same is left",
         [PY, "tests/interop/compaction/run.py"], JAVA, BROKER, 200),
    Step("crash/kill", "killed under load again and again: nothing acknowledged is lost",
         [PY, "tests/crash/run.py"], (), (*BROKER, LOAD), 300),
    Step("crash/transactions", "killed under transactions and groups: exactly once, whole or not at all",
         [PY, "tests/crash/transactions.py"], (), BROKER, 300),
    Step("crash/power", "the power is cut under load: what was acknowledged is on the device",
         [PY, "tests/crash/run.py", "--power", "best", "--cycles", "12", "--rate", "3000000", "--cores",
          "2"], (), (*BROKER, LOAD, SHIM), 300),
    Step("crash/power-transactions", "the power is cut under transactions and groups",
         [PY, "tests/crash/transactions.py", "--power", "best", "--cycles", "6"], (), (*BROKER, SHIM),
         300),
    Step("crash/images", "what the disk would hold after a power cut at any moment is recovered whole",
         [PY, "tests/crash/images.py"], (), (*BROKER, LOAD, SHIM), 300),
    Step("crash/many", "kills of several brokers at once, added up",
         [PY, "tests/crash/many.py", "kill", "60"], (), (*BROKER, LOAD), 120),
    Step("crash/environment", "no space, dead and slow disks, clocks that jump, no rights, descriptors, memory",
         [PY, "tests/crash/environment.py"], (), (*BROKER, SHIM, CLOCK), 300),
    Step("integrity/bytes", "data at rest, damaged byte by byte: found, told or harmless, never wrong",
         [PY, "tests/integrity/run.py"], (), (*BROKER, ZYGOTE), 200),
    Step("abuse/peers", "whatever a peer does, a good client beside it notices nothing",
         [PY, "tests/abuse/run.py"], (), (*BROKER, LOAD), 300),
    Step("bench/loopback", "torc bench measures what it says and finds what is lost or repeated",
         [PY, "tests/bench/run.py"], (), (*BROKER, BARE), 200),
    Step("bench/compare", "torc beside Apache Kafka: every load of perf/compare runs and is sound",
         ["bash", "-c", "perf/compare --short" + ONE_PASSED], JAVA, (*BROKER, BARE), 300),
    Step("run/proof", "what ./tools/run shows: write, read, kill, read again, copy exactly once",
         ["bash", "-c", "python3 tools/prove.py" + ONE_PASSED], ("kcat",), BROKER, 200),
]


# ---- counting ------------------------------------------------------------------------------------

def count_meson(folder):
    """Count the tests of meson's last run: those inside criterion programs, else the program."""
    passed = failed = skipped = 0
    for line in (TOP / folder / "meson-logs/testlog.json").read_text().splitlines():
        test = json.loads(line)
        text = test.get("stdout", "") + test.get("stderr", "")
        inner = [tuple(map(int, m)) for m in CRITERION.findall(text)]
        own = SUMMARY.findall(text)
        if inner:
            good = sum(i[1] for i in inner)
            bad = sum(i[2] + i[3] for i in inner)
        elif own:
            good, bad = int(own[-1][0]), int(own[-1][1])
            skipped += int(own[-1][2])
        else:
            good, bad = int(test["result"] == "OK"), 0
        if test["result"] == "SKIP":
            skipped += 1
        elif test["result"] not in ("OK", "EXPECTEDFAIL"):
            bad = max(bad, 1)
        if bad:
            print(f"FAIL  {test['name']}: {test['result']}\n{text[-4000:]}")
        else:
            print(f"ok    {test['name']}: {good} tests, {test['duration']:.1f} s")
        passed, failed = passed + good, failed + bad
    return passed, failed, skipped


def race_programs(folder):
    """The files that the tests of suite race consist of."""
    listed = subprocess.run(["meson", "introspect", "--tests", folder], cwd=TOP, text=True,
                            capture_output=True, check=True).stdout
    return sorted({os.path.relpath(t["cmd"][0], TOP / folder) for t in json.loads(listed)
                   if any(s.endswith("race") for s in t["suite"])})


def run_meson(folder, suite, *options):
    """Configure, build and test in a folder. A build that warns or fails is one failure."""
    def quietly(*command):
        return subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL).returncode == 0

    log = TOP / folder / "meson-logs/testlog.json"
    ready = (TOP / folder / "build.ninja").exists() or quietly("meson", "setup", folder, *options)
    # Only what the suite needs, where that is little: the sanitized builds are slow to make.
    targets = race_programs(folder) if ready and suite == "race" else []
    if not ready or not quietly("ninja", "-C", folder, f"-j{JOBS}", *targets):
        print(f"FAIL  the build in {folder}\n# passed=0 failed=1 skipped=0")
        return 1
    print(f"ok    the build in {folder}")
    log.unlink(missing_ok=True)
    filters = [] if suite == "-" else ["--suite", suite]
    quietly("meson", "test", "-C", folder, "--no-rebuild", "--num-processes", str(JOBS), *filters)
    passed, failed, skipped = count_meson(folder) if log.exists() else (0, 0, 0)
    print(f"# passed={passed + 1} failed={failed} skipped={skipped}")
    return 1 if failed else 0


# ---- running -------------------------------------------------------------------------------------

class Board:
    """What is shown: a line for each step that has ended and, on a terminal, what runs now."""

    def __init__(self, steps):
        self.lock, self.running, self.ended, self.count = threading.Lock(), {}, 0, len(steps)
        self.tasks = set()  # process groups under way
        self.width = max(len(s.name) for s in steps)
        self.total, self.broken = [0, 0, 0], []
        if TTY:
            threading.Thread(target=self.keep_alive, daemon=True).start()

    def keep_alive(self):
        while True:
            time.sleep(1)
            with self.lock:
                now = time.monotonic()
                line = ", ".join(f"{n} {now - t:.0f} s" for n, t in self.running.items())
                print(f"\r\033[K{line}", end="", flush=True)

    def begin(self, step):
        with self.lock:
            self.running[step.name] = time.monotonic()

    def end(self, step, counts, note, lines=()):
        """counts: passed, failed, skipped. lines: what of the step's output is worth showing."""
        with self.lock:
            self.running.pop(step.name, None)
            self.ended += 1
            self.total = [a + b for a, b in zip(self.total, counts)]
            if counts[1]:
                self.broken.append(step.name)
            head = "\r\033[K" if TTY else ""
            print(f"{head}[{self.ended:2}/{self.count}] {step.name:{self.width}}  {note}")
            print(*(f"        {line[:300]}" for line in lines), sep="\n", end="\n" if lines else "",
                  flush=True)


def kill_group(task):
    """End a step's process and what it left behind."""
    try:
        os.killpg(task.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    task.wait()


def wait_for(step, log, board):
    """Run the step's command, output into log. Returns (exit status, what to say if it was late)."""
    with open(log, "wb") as out:
        task = subprocess.Popen(step.command, cwd=TOP, stdout=out, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL, start_new_session=True,
                                env={**os.environ, "PYTHONUNBUFFERED": "1", **step.env})
        late = ""
        board.tasks.add(task)
        try:
            task.wait(step.limit_s)
        except subprocess.TimeoutExpired:
            late = f"FAIL  {step.name}: not done after {step.limit_s} s"
        finally:
            kill_group(task)
            board.tasks.discard(task)
    return task.returncode, late


def run_step(step, board):
    """Run a step, if this machine can, and tell the board."""
    lack = step.lacks()
    if lack:
        forbidden = os.environ.get("CI") == "1"
        board.end(step, (0, 1, 0) if forbidden else (0, 0, 1),
                  f"{'FAILED' if forbidden else 'skipped'}: {lack}")
        return
    log = LOGS / (step.name.replace("/", "-") + ".log")
    begin = time.monotonic()
    board.begin(step)
    status, late = wait_for(step, log, board)
    text = log.read_text(errors="replace")
    counts = SUMMARY.findall(text)
    passed, failed, skipped = map(int, counts[-1]) if counts else (0, 1, 0)
    if late or (status != 0 and failed == 0):
        failed += 1
    note = f"{passed:5} passed" + f", {failed} FAILED" * bool(failed)
    note += f", {skipped} skipped" * bool(skipped) + f"  ({time.monotonic() - begin:.1f} s)"
    lines = [line for line in text.splitlines() if line.startswith("skip  ")]
    if failed:
        # each failure with the lines below it that say more
        wrong = re.findall(r"^FAIL.*(?:\n[ \t].*){0,6}", text, re.M)[:20]
        wrong = [line for failure in wrong for line in failure.splitlines()]
        wrong += [late] if late else []
        lines += wrong or [t for t in text.splitlines()[-15:] if t]
    board.end(step, (passed, failed, skipped), note, lines)


def run_lane(steps, board, stop):
    for step in steps:
        if stop and board.broken:
            return
        run_step(step, board)


def select(words):
    """The steps named, in the order of the list; all of them if none is."""
    known = {s.name for s in STEPS} | {s.name.split("/")[0] for s in STEPS}
    for word in words:
        if word not in known:
            sys.exit(f"tools/test: error: no group or step is named '{word}'; see --list")
    return [s for s in STEPS if not words or s.name in words or s.name.split("/")[0] in words]


def main(words):
    if words[:1] == ["--meson"]:
        return run_meson(*words[1:])
    stop = "--stop" in words
    listing = "--list" in words
    steps = select([w for w in words if not w.startswith("--")])
    if listing:
        for s in steps:
            print(f"{s.name:24} {s.what}" + (f" (skipped here: {s.lacks()})" if s.lacks() else ""))
        return 0
    LOGS.mkdir(parents=True, exist_ok=True)
    begin, board = time.monotonic(), Board(steps)
    lanes = [[s for s in steps if s.lane() == n] for n in range(3)]
    run_lane(lanes[0], board, stop)
    side = threading.Thread(target=run_lane, args=(lanes[1], board, stop), daemon=True)
    side.start()
    try:
        run_lane(lanes[2], board, stop)
        side.join()
    except KeyboardInterrupt:
        for task in list(board.tasks):
            kill_group(task)
        raise
    total, broken = board.total, board.broken
    print(f"\n{time.monotonic() - begin:.0f} s; the output of each step is in build/test-logs/")
    if broken:
        print(f"failed: {' '.join(broken)}; again: ./tools/test {' '.join(broken)}")
    if total[2]:
        print(f"{total[2]} skipped")
    print(f"{total[0]} passed, {total[1]} failed", flush=True)
    return 1 if total[1] else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("tools/test: interrupted")
