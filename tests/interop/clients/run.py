#!/usr/bin/env python3
"""Real clients against one broker: each writes the records of dataset.py in all its codecs, then each
reads what all the others wrote, by partition, and compares every record.

The codec of each batch as the broker keeps it is checked too, because a client that thinks the broker
cannot compress sends plain batches without a word.
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import kafka, venv  # noqa: E402
from harness.batch import CODECS, read_batches  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client as Wire  # noqa: E402
from interop.clients.dataset import PARTITIONS, expect  # noqa: E402

HERE = Path(__file__).resolve().parent
CACHE = kafka.CACHE
LIMIT_S = 150
EVERY = ["none", "gzip", "snappy", "lz4", "zstd"]


def need(*commands):
    for command in commands:
        if not shutil.which(command):
            raise Skip(f"no {command} on the PATH")


def python(program):
    """The command of a Python client, in a virtual environment with the pinned packages."""
    return lambda: [venv.python(), HERE / program]


def kcat():
    need("kcat")
    return [sys.executable, HERE / "client_kcat.py"]


def java():
    need("java", "javac")
    classes = kafka.compile_java(HERE / "java/JavaClient.java")
    return kafka.java("JavaClient", classes=classes)


def modules():
    """Debian's Go is too old for the current franz-go, so it has a list of its own."""
    version = re.search(r"go1\.(\d+)", subprocess.check_output(["go", "version"], text=True))
    return "go.mod" if int(version[1]) >= 21 else "go-1.19.mod"


def go():
    need("go")
    program = TOP / "build/test-go/client"
    program.parent.mkdir(parents=True, exist_ok=True)
    venv.install("go", "build", f"-modfile={modules()}", "-o", program, ".", cwd=HERE / "go")
    return [program]


def node():
    need("node", "npm")
    folder, wanted = CACHE / "node", HERE / "js/package.json"
    if venv.fresh(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wanted, folder / "package.json")
        try:
            venv.install("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                         "--no-package-lock", cwd=folder)
        except Skip:
            (folder / "package.json").unlink()
            raise
    shutil.copy(HERE / "js/client.js", folder)
    return ["node", folder / "client.js"]


# name, topics' prefix, how to get it, what it writes and what it can read
CLIENTS = [
    ("kcat", None, kcat, [], EVERY),
    ("confluent-kafka", "confluent", python("client_confluent.py"), EVERY, EVERY),
    ("kafka-python", "kafka-python", python("client_kafka_python.py"), EVERY, EVERY),
    ("aiokafka", "aiokafka", python("client_aiokafka.py"), EVERY, EVERY),
    ("franz-go", "franz", go, EVERY, EVERY),
    ("kafkajs", "kafkajs", node, EVERY[:3], EVERY[:3]),
    ("java", "java", java, EVERY, EVERY),
]


def run(report, name, command, *words):
    """Run a client and count each of its lines as ours."""
    before = report.passed + report.failed
    try:
        task = subprocess.run([*command, *words], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=LIMIT_S)
        out, status = task.stdout, task.returncode
    except subprocess.TimeoutExpired as e:
        out, status = (e.stdout or b"").decode(errors="replace"), f"none within {LIMIT_S} s"
    failed = 0
    for line in out.splitlines():
        if m := re.match(r"(ok|FAIL)  +([^:]*): (.*)", line):
            failed += m[1] == "FAIL"
            report.ok(f"{name} {m[2]}", m[3]) if m[1] == "ok" else report.fail(f"{name} {m[2]}",
                                                                              m[3])
        elif not line.startswith("#"):
            print(f"      {line}")
    if report.passed + report.failed == before or (status != 0 and not failed):
        report.fail(f"{name} {words[0]}", f"exit {status}: {out[-500:]}")


def stored_codec(address, topic, codec):
    """Every batch the broker gives has the codec it was sent with."""
    want = CODECS.index(codec)
    with Wire(address) as wire:
        for p in range(PARTITIONS):
            answer = wire.ask("Fetch", 11, {
                "max_wait_ms": 100, "min_bytes": 1, "max_bytes": 1 << 26, "session_epoch": -1,
                "topics": [{"topic": topic, "partitions": [
                    {"partition": p, "fetch_offset": 0, "partition_max_bytes": 1 << 24}]}]})
            part = answer["responses"][0]["partitions"][0]
            found = [b["attributes"] & 7 for b in read_batches(part["records"] or b"")]
            expect(part["error_code"] == 0 and found, f"partition {p}: {part['error_code']}")
            # kafka-python and franz-go send a batch plain that compression would make longer
            expect(set(found) <= {want, 0} and want in found, f"partition {p}: codecs {found}")


def main():
    interrupt_on_term()
    parser = arguments(__doc__)
    parser.add_argument("clients", nargs="*", help="only these clients")
    args = parser.parse_args()
    report = Report()
    with Place(args.keep) as place:
        # the records are of 2023: a broker that deletes by age would be right to
        settings = {"num.partitions": 2, "log.retention.ms": -1}
        broker = place.broker(args.broker, settings=settings).start()
        ready = []
        for name, prefix, prepare, writes, reads in CLIENTS:
            if args.clients and name not in args.clients:
                continue
            try:
                command = [os.fspath(w) for w in prepare()]
            except Skip as e:
                report.skip(name, str(e))
                continue
            run(report, name, command, "write", broker.address)
            ready.append((name, prefix, command, writes, reads))
        for name, prefix, _, writes, _ in ready:
            for codec in writes:
                report.case(f"{name} batches are {codec}", stored_codec, broker.address,
                            f"{prefix}-{codec}", codec)
        for name, _, command, _, reads in ready:
            topics = [f"{prefix}-{codec}" for _, prefix, _, writes, _ in ready for codec in writes
                      if codec in reads]
            run(report, name, command, "read", broker.address, *topics)
        report.check("the broker is still up", broker.alive(), "it is gone")
        if report.failed and broker.kind != "address":
            print("      the broker's log ends with:\n" + broker.log_tail(10))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
