"""What the comparing programs of perf/ share: brokers as their users run them, what they use, tables.

Apache Kafka runs with the options of its own start script (1 GB of heap, G1), not with the thrifty ones
of tests/: those would make it slower than it is.
"""
import argparse
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka  # noqa: E402
from harness.broker import Broker, answers  # noqa: E402
from harness.report import Skip  # noqa: E402
from harness.wire import Client  # noqa: E402

BUILD = Path(os.environ.get("TORC_BUILD") or TOP / "build")
KAFKA_JVM = ["java", "-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
             "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
             "-Djava.awt.headless=true"]
TICKS = os.sysconf("SC_CLK_TCK")
START_S, ANSWER_S = 180, 10
RETRY_S = 0.0005  # between two looks whether a broker answers


class Rig(Broker):
    """A broker whose start is measured: ready_s to its own ready line, answer_s to a good Metadata
    answer, both from before exec."""

    READY = {"torc": b"torc ready", "kafka": b"Kafka Server started"}

    def __init__(self, kind, folder, settings=None, jvm=()):
        super().__init__(kind, folder, settings=settings)
        self.jvm, self.ready_s, self.answer_s = list(jvm), None, None

    def command(self):
        config = self.folder / "server.properties"
        if self.kind == "kafka":
            return [*KAFKA_JVM, *self.jvm, "-Dlog.level=INFO",
                    f"-Dlog4j2.configurationFile={kafka.HERE}/log4j2.properties",
                    "-cp", f"{kafka.jars()}/*", "kafka.Kafka", str(config)]
        return [os.environ.get("TORC") or str(BUILD / "torc"), "broker", str(config)]

    def watch(self, pipe, begin):
        """Keep the log and note when the ready line passes."""
        with open(self.log, "ab") as log:
            for line in pipe:
                if self.ready_s is None and self.READY[self.kind] in line:
                    self.ready_s = time.monotonic() - begin
                log.write(line)
                log.flush()

    def start(self, fresh=None):
        if not (self.folder / "server.properties").exists():
            self.configure()
        if self.kind == "kafka" and not (self.data / "meta.properties").exists():
            self.format()
        self.ready_s = None
        command, begin = self.command(), time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, cwd=self.folder)
        watcher = threading.Thread(target=self.watch, args=(self.process.stdout, begin), daemon=True)
        watcher.start()
        while not answers(self.port, ANSWER_S):
            if self.process.poll() is not None or time.monotonic() - begin > START_S:
                self.kill()
                watcher.join()
                raise RuntimeError(f"{self.kind} did not start, {self.log} ends with:\n"
                                   + self.log_tail())
            time.sleep(RETRY_S)
        self.answer_s = time.monotonic() - begin
        while self.ready_s is None and time.monotonic() - begin < START_S:
            time.sleep(RETRY_S)
        return self

    def kill(self):
        """SIGKILL, and until the kernel has let go of its sockets: with io_uring that is a moment
        after the process is gone."""
        super().kill()
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    return s.bind(("127.0.0.1", self.port))
                except OSError:
                    time.sleep(0.01)

    def wire(self, timeout_s=START_S):
        return Client(self.address, timeout_s)

    def cpu_ns(self):
        """CPU time of its threads that live, in ns; finer than the ticks of /proc/PID/stat."""
        total = 0
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
        return total


def raise_files():
    """As many open files as may be; children inherit it. Returns the limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def make_topic(broker, name, partitions, configs=None, patience_s=120):
    """Make a topic and wait until each partition is led; returns seconds."""
    topic = {"name": name, "num_partitions": partitions, "replication_factor": 1,
             "configs": [{"name": k, "value": v} for k, v in (configs or {}).items()]}
    with broker.wire() as wire:
        begin = time.monotonic()
        answer = wire.ask("CreateTopics", 7, {"topics": [topic], "timeout_ms": patience_s * 1000})
        error = answer["topics"][0]["error_code"]
        if error:
            raise RuntimeError(f"CreateTopics {name}: error {error}, "
                               f"{answer['topics'][0]['error_message']}")
        wait_led(wire, {name: partitions}, patience_s)
        return time.monotonic() - begin


def wait_led(wire, topics, patience_s=120):
    """Until Metadata shows every partition of the topics with a leader."""
    limit = time.monotonic() + patience_s
    while True:
        answer = wire.ask("Metadata", 12, {"topics": [{"name": t} for t in topics],
                                           "allow_auto_topic_creation": False})
        led = {t["name"]: sum(p["error_code"] == 0 and p["leader_id"] >= 0 for p in t["partitions"])
               for t in answer["topics"] if t["error_code"] == 0}
        if led == topics:
            return
        if time.monotonic() > limit:
            raise RuntimeError(f"led after {patience_s} s: {led} of {topics}")
        time.sleep(0.002)


def end_offsets(wire, topic, partitions, patience_s=120):
    """The end offset of each partition, once all of them say one."""
    limit = time.monotonic() + patience_s
    asked = [{"partition_index": p, "timestamp": -1} for p in range(partitions)]
    while True:
        answer = wire.ask("ListOffsets", 7, {"replica_id": -1, "topics": [
            {"name": topic, "partitions": asked}]})
        found = answer["topics"][0]["partitions"]
        if all(p["error_code"] == 0 for p in found):
            return {p["partition_index"]: p["offset"] for p in found}
        if time.monotonic() > limit:
            raise RuntimeError(f"{topic}: {sum(p['error_code'] != 0 for p in found)} partitions have "
                               f"no end offset after {patience_s} s")
        time.sleep(0.005)


def delete_topic(broker, name):
    with broker.wire() as wire:
        wire.ask("DeleteTopics", 6, {"topics": [{"name": name}], "timeout_ms": 60000})


def bench(broker, kind, *words, torc=None):
    """One run of `torc bench`; what it says in JSON. `torc`: another build of it."""
    out = Path(broker.folder) / "bench.json"
    command = [torc or BUILD / "torc", "bench", kind, "--brokers", broker.address, "--pid",
               broker.process.pid, "--quiet", "--json", out, *words]
    task = subprocess.run(list(map(str, command)), text=True, capture_output=True,
                          stdin=subprocess.DEVNULL)
    if task.returncode:
        raise RuntimeError(f"{broker.folder.name}: {kind}: {task.stdout}{task.stderr}")
    found = json.loads(out.read_text())
    broker.about = found["provenance"]
    return found["result"]


def figures(result):
    """The figures of a result that tables show, by name."""
    counts, cost, seconds = result["counts"], result["cost"], result["seconds"]
    latency = result["latency"].get("end_to_end") or result["latency"].get("response") or {}
    data = counts["bytes"] or counts["read_bytes"]
    seconds_read = result["read_seconds"] if not counts["bytes"] else seconds
    cpu = cost.get("broker_cpu_s", 0)
    records = counts["records"] or counts["read_records"]
    return {"mb_per_s": data / 1e6 / (seconds_read or seconds),
            "records_per_s": records / (seconds_read or seconds),
            "cpu_s_per_gb": cost.get("broker_cpu_s_per_gb", 0), "broker_cpu": cpu / seconds,
            "cpu_us_per_record": cpu * 1e6 / records if records else 0,
            "p50_us": latency.get("p50_us"), "p99_us": latency.get("p99_us"),
            "p999_us": latency.get("p99.9_us"), "rss_mb": cost.get("broker_rss_bytes", 0) / 1e6,
            "written_per_byte": round(cost.get("broker_written_bytes", 0) / data, 2) if data else 0,
            "load_cpu": round(cost["generator_cpu_s"] / seconds, 2)}


def produce(broker, *words):
    """One load of producers; its figures."""
    pace = [] if "--rate" in words else ["--max"]
    return figures(bench(broker, "produce", *pace, *words))


# ---- the machine ---------------------------------------------------------------------------------

def machine(folder):
    """What a figure depends on besides the programs, as one dict."""
    def text(*command):
        try:
            return subprocess.run(command, cwd=TOP, text=True, capture_output=True).stdout.strip()
        except OSError:
            return ""

    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {"cpu": cpu[1] if cpu else platform.machine(), "cpus": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "kernel": platform.release(), "filesystem": text("stat", "-f", "-c", "%T", folder),
            "commit": text("git", "describe", "--always", "--dirty"),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def spare_cores():
    """Data cores of a torc that shares the machine with the load: one CPU is left to that."""
    return max((os.cpu_count() or 1) - 1, 1)


def load():
    """How busy the machine is: the mean over the last minute."""
    return round(os.getloadavg()[0], 2)


def others_busy(seconds=1.0):
    """CPUs that are busy while we do nothing."""
    def busy():
        words = list(map(int, Path("/proc/stat").read_text().split()[1:8]))
        return sum(words[:3]) + sum(words[5:7])

    before = busy()
    time.sleep(seconds)
    return (busy() - before) / TICKS / seconds


def wait_quiet(limit_s, most=0.2):
    """Until others use little of the CPUs, or the limit; returns what they use."""
    limit = time.monotonic() + limit_s
    while (busy := others_busy()) > most and time.monotonic() < limit:
        pass
    return busy


def kafka_there():
    """Whether Apache Kafka can run here; says why not."""
    try:
        kafka.jars()
        return bool(shutil.which("java"))
    except Skip as e:
        print(f"Apache Kafka is left out: {e}")
        return False


# ---- figures -------------------------------------------------------------------------------------

def middle(values):
    return statistics.median(values) if values else None


def short(value):
    """Three or four digits, whatever the size."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def table(rows):
    """Rows of texts as columns, the first left, the others right; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


class Meter:
    """The figures of one kind of broker. FIGURES: name, unit, goal (at most, or at least where MORE holds
    the name; or None), what. PARTS are the methods that measure."""

    PROGRAM, FIGURES, MORE, PARTS = "", [], (), ()

    def __init__(self, kind, place, options):
        self.kind, self.place, self.options, self.found = kind, place, options, {}

    def note(self, name, value, **more):
        unit = next(f[1] for f in self.FIGURES if f[0] == name)
        self.found[name] = {"value": value, "load": load(), **more}
        extra = "".join(f" {k}={short(v)}" for k, v in more.items())
        print(f"{self.PROGRAM} {self.kind:5} {name}={short(value)} {unit}{extra} load={load()}",
              flush=True)

    def run(self):
        for part in self.PARTS:
            if not self.options.only or part in self.options.only:
                getattr(self, part)()

    def broker(self, name, settings=None):
        return Rig(self.kind, self.place / f"{self.kind}-{name}", settings=settings or {})


def show(meters):
    """All figures beside each other, with the goals; a ratio above 1 is in the first one's favour."""
    kinds, cls = [m.kind for m in meters], type(meters[0])
    rows = [["", *kinds, *(["ratio"] if len(kinds) == 2 else []), "goal", "", ""]]
    for name, unit, goal, what in cls.FIGURES:
        values = [m.found[name]["value"] if name in m.found else None for m in meters]
        row = [name, *map(short, values)]
        if len(values) == 2:
            both = None not in values and min(values) > 0
            ratio = values[1] / values[0] if both else 0
            row.append(f"{short(1 / ratio if name in cls.MORE else ratio)}x" if both else "-")
        met = ""
        if goal is not None and values[0] is not None:
            met = "met" if (values[0] >= goal) == (name in cls.MORE) or values[0] == goal else "MISSED"
        rows.append([*row, f"{short(goal)}" if goal else "", unit, met])
    table(rows)


def measure(cls, doc, files_needed=0):
    """The main of a program of figures: torc, then Apache Kafka, then the table. Status 1 only if a
    measurement failed: goals are not tests."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="PART",
                        help="only these of: " + ", ".join(cls.PARTS))
    parser.add_argument("--no-kafka", action="store_true", help="torc alone")
    parser.add_argument("--dir", type=os.path.abspath, help="where the data directories go (default: the temporary one)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    o = parser.parse_args()
    if unknown := set(o.only) - set(cls.PARTS):
        parser.error(f"there is no {unknown.pop()}")
    # The process that measures holds the other ends: the broker inherits the same limit.
    if (files := raise_files()) < files_needed:
        sys.exit(f"{cls.PROGRAM}: error: {files} open files are too few; see ulimit -Hn")
    place = Path(tempfile.mkdtemp(prefix=f"torc-{cls.PROGRAM}-", dir=o.dir))
    about = machine(place)
    print(f"# {about['cpus']} x {about['cpu']}, Linux {about['kernel']}, {about['filesystem']}, "
          f"commit {about['commit']}, others use {others_busy():.2f} CPUs")
    kinds = ["torc"] + ([] if o.no_kafka or not kafka_there() else ["kafka"])
    meters, failed = [cls(kind, place, o) for kind in kinds], False
    try:
        for meter in meters:
            try:
                meter.run()
            except (OSError, RuntimeError, ValueError, KeyError) as e:
                failed = True
                print(f"{cls.PROGRAM} {meter.kind:5} FAILED: {type(e).__name__}: {e}", flush=True)
        show(meters)
    finally:
        if o.keep or failed:
            print(f"# kept: {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    if o.json:
        Path(o.json).write_text(json.dumps(
            {"machine": about, "figures": {m.kind: m.found for m in meters}}, indent=1) + "\n")
    return 1 if failed else 0
