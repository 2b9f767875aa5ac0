"""A broker to test: torc, Apache Kafka, or one that already runs. Every harness takes it by name.

    torc          build/torc (or the program $TORC names), on a data directory of its own
    kafka         Apache Kafka, the same; what a test expects is proved against it
    HOST:PORT     one that runs; it cannot be stopped or killed from here

Both are started from the same server.properties, so that one directory can change hands.
"""
import argparse
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import kafka

TOP = kafka.TOP
START_S, STOP_S = 90, 60  # patience, on a busy machine
SERVER_JVM = ["-Xms512M"]

PROPERTIES = """process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port, timeout_s=2):
    """Whether Metadata v1 is answered with at least one broker."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as s:
            s.sendall(struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0))  # no client id, no topics
            return struct.unpack(">iii", s.makefile("rb").read(12))[2] > 0
    except (OSError, struct.error):
        return False


class Broker:
    """One node in a folder: server.properties, server.log, data/."""

    def __init__(self, kind, folder, port=None, settings=None, cluster_id=None):
        self.kind, self.folder, self.process = kind, Path(folder), None
        self.data = self.folder / "data"
        self.port, self.controller = port or free_port(), free_port()
        self.cluster_id = cluster_id or "A" + secrets.token_urlsafe(16)[1:]
        self.settings = dict(settings or {})
        self.address = f"127.0.0.1:{self.port}"
        self.started_s = 0.0

    @property
    def log(self):
        return self.folder / "server.log"

    def configure(self):
        """Write server.properties; torc's own keys stay out of what Kafka reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = PROPERTIES.format(port=self.port, controller=self.controller, data=self.data)
        own = {k: v for k, v in self.settings.items()
               if self.kind == "torc" or not k.startswith("torc.")}
        text += "".join(f"{k}={v}\n" for k, v in own.items())
        (self.folder / "server.properties").write_text(text)

    def command(self):
        config = self.folder / "server.properties"
        if self.kind == "kafka":
            return kafka.java("kafka.Kafka", config, heap="1G", level="INFO", jvm=SERVER_JVM)
        return [os.environ.get("TORC") or str(TOP / "build/torc"), "broker", str(config)]

    def format(self):
        """Kafka wants its directory formatted; torc formats an empty one itself."""
        task = kafka.run_java("kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c",
                              self.folder / "server.properties")
        if task.returncode:
            raise RuntimeError(f"kafka-storage format: {task.stdout}{task.stderr}")

    def start(self):
        """Start and wait until it serves; returns self. Writes the configuration at first."""
        self.launch()
        return self.await_ready()

    def launch(self):
        """Start, and do not wait."""
        if not (self.folder / "server.properties").exists():
            self.configure()
        if self.kind == "kafka" and not (self.data / "meta.properties").exists():
            self.format()
        self.launched = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, cwd=self.folder)

    def await_ready(self):
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() - self.launched > START_S:
                end = "".join(self.log.read_text(errors="replace").splitlines(True)[-15:])
                raise RuntimeError(f"{self.kind} did not start "
                                   f"(exit {self.process.poll()}), {self.log} ends with:\n{end}")
            time.sleep(0.002 if self.kind == "torc" else 0.05)
        self.started_s = time.monotonic() - self.launched
        return self

    def stop(self):
        """A clean stop; returns the exit status."""
        if self.process is None:
            return None
        self.process.terminate()
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.kind} did not stop within {STOP_S} s of SIGTERM")
        self.process = None
        return status

    def kill(self):
        """No clean stop at all: SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def memory(self, field="VmRSS"):
        """Resident bytes (VmRSS), or at its highest (VmHWM)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", text)[1]) << 10

    def cpu_s(self):
        """CPU time it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_tail(self, lines=20):
        return "".join(self.log.read_text(errors="replace").splitlines(True)[-lines:])


class Remote(Broker):
    """A broker that somebody else runs."""

    def __init__(self, address):
        self.kind, self.address, self.process = "address", address, None
        self.port = int(address.rpartition(":")[2])

    def start(self):
        if not answers(self.port):
            raise RuntimeError(f"nothing answers at {self.address}")
        return self

    def stop(self):
        return 0

    kill = stop

    def alive(self):
        return answers(self.port)

    def log_tail(self, lines=20):
        return "its log is somebody else's"


class Place:
    """A folder for the brokers of one test program; they end with it. Kept if something failed."""

    def __init__(self, keep=False):
        base = os.environ.get("TORC_TEST_DIR")
        # The name says whose it is: several runs at once must be told apart by whoever clears up.
        program = Path(sys.argv[0]).resolve().parent.name
        prefix = f"torc-test-{program}-{os.getpid()}-"
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        self.brokers, self.keep = [], keep

    def broker(self, kind, name=None, **how):
        """A broker of a kind, as the head of this file says; not started yet."""
        if ":" in kind:
            return Remote(kind)
        b = Broker(kind, self.folder / (name or kind), **how)
        self.brokers.append(b)
        return b

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for b in self.brokers:
            b.kill()
        if self.keep or failure[0]:
            print(f"      kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def arguments(doc, **more):
    """The argument parser of a harness: --broker, --keep and whatever else it wants."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="torc", metavar="torc|kafka|HOST:PORT",
                        help="the broker under test (default: torc)")
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    for name, how in more.items():
        parser.add_argument("--" + name.replace("_", "-"), **how)
    return parser


def interrupt_on_term():
    """End as by ^C on SIGTERM, so that brokers do not outlive their test."""
    def end(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, end)
