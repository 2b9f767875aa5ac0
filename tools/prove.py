"""What ./tools/run shows: a broker on a fresh directory does its main job with kcat, is killed in the
middle of its life, and has lost nothing; then tools/copy_once.py copies all in transactions, is
killed, the broker is killed under it, and the copy has every record once.

Records are compared as a multiset: the checksum is over the sorted digests of all (key, value) pairs,
so it does not depend on partitions or order, while order within a partition is checked by key: what
the index says first about a package must come first.
"""
import argparse
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TORC = TOP / "build/torc"
TOPIC, PARTITIONS, GROUP = "packages", 6, "readers"
KEY_END, RECORD_END = b"\x1f", b"\x1e"  # between key and value, and behind each record, for kcat
READY_S, KCAT_S = 30, 180
COPY, COPIER, COPY_SIZE, COPY_S, STARTS_MAX = "packages-copy", "copier", 2000, 120, 6
SYSTEM_PYTHON = "/usr/bin/python3"  # the distribution's, as is the client that tools/copy_once.py uses


class Failed(Exception):
    """Something did not hold; its text says what."""


def say(text):
    print(f"torc: {text}", flush=True)


def input_records():
    """The package index as (name, entry) pairs, in its own order."""
    for command in (["apt-cache", "dumpavail"], ["cat", "/var/lib/dpkg/status"]):
        if shutil.which(command[0]) is None:
            continue
        text = subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout
        entries = [e for e in text.split(b"\n\n") if e.strip()]
        if len(entries) > 100:
            name = " ".join(command)
            break
    else:
        raise Failed("this machine has no package index (apt-cache dumpavail, /var/lib/dpkg/status)")
    records = []
    for entry in entries:
        first = next((l for l in entry.split(b"\n") if l.startswith(b"Package: ")), b"Package: ?")
        value = entry.strip(b"\n").replace(RECORD_END, b" ").replace(KEY_END, b" ")
        records.append((first[9:].strip(), value))
    say(f"input: {len(records):,} entries of the package index ({name})")
    return records


def checksum(records):
    digests = sorted(hashlib.sha256(k + KEY_END + v).digest() for k, v in records)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def free_port(wanted):
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return s.getsockname()[1]
            except OSError:
                say(f"port {port} is taken, choosing a free one")
    raise Failed("no free port")


class Broker:
    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None
        self.log = folder.parent / (folder.name + ".log")

    def start(self):
        begin = time.monotonic()
        command = [TORC, "broker", "-X", f"log.dirs={self.folder}",
                   "-X", f"listeners=PLAINTEXT://127.0.0.1:{self.port}",
                   "-X", f"num.partitions={PARTITIONS}",
                   "-X", "group.initial.rebalance.delay.ms=0"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)
        while time.monotonic() < begin + READY_S:
            if self.process.poll() is not None:
                raise Failed(f"the broker ended with code {self.process.returncode}; "
                             f"its log is {self.log}")
            if self.answers():
                return time.monotonic() - begin
            time.sleep(0.002)
        raise Failed(f"the broker was not ready in {READY_S} s; its log is {self.log}")

    def answers(self):
        """Does ApiVersions v0 get an answer?"""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                s.sendall(bytes.fromhex("0000000a0012000000000001ffff"))
                return len(s.recv(4)) == 4
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(READY_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("the broker did not stop on SIGTERM") from None
        if code != 0:
            raise Failed(f"the broker's clean stop ended with code {code}; its log is {self.log}")


def kcat(broker, *args, data=None):
    command = ["kcat", "-b", f"127.0.0.1:{broker.port}", "-X", "broker.address.family=v4",
               "-X", "fetch.wait.max.ms=20", *args]
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=KCAT_S, check=False)
    if done.returncode != 0:
        raise Failed(f"kcat failed: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def rate(records, took):
    size = sum(len(k) + len(v) for k, v in records)
    return f"{len(records):,} records, {size / 1e6:.1f} MB in {took:.2f} s: " \
           f"{len(records) / took:,.0f} records/s, {size / took / 1e6:.1f} MB/s"


def write(broker, records):
    data = b"".join(k + KEY_END + v + RECORD_END for k, v in records)
    begin = time.monotonic()
    kcat(broker, "-P", "-t", TOPIC, "-K", KEY_END.decode(), "-D", RECORD_END.decode(),
         "-X", "acks=all", "-X", "enable.idempotence=true", data=data)
    say("written, acks=all, every record on disk: " + rate(records, time.monotonic() - begin))


def parse(data):
    return [tuple(r.split(KEY_END, 1)) for r in data.split(RECORD_END) if r]


def check(what, records, wanted, took):
    if len(records) != len(wanted) or checksum(records) != checksum(wanted):
        raise Failed(f"{what}: {len(records):,} records with checksum {checksum(records)}, "
                     f"but {len(wanted):,} with {checksum(wanted)} were written")
    order, expected = {}, {}
    for key, value in records:
        order.setdefault(key, []).append(value)
    for key, value in wanted:
        expected.setdefault(key, []).append(value)
    if order != expected:
        raise Failed(f"{what}: records of one key came in another order than they were written")
    say(f"{what}: {rate(records, took)}, checksum {checksum(records)}")


def read(broker, what, wanted, topic=TOPIC):
    begin, found = time.monotonic(), []
    for p in range(PARTITIONS):
        found += parse(kcat(broker, "-C", "-t", topic, "-p", str(p), "-o", "beginning", "-e", "-q",
                            "-f", "%k" + KEY_END.decode() + "%s" + RECORD_END.decode()))
    check(what, found, wanted, time.monotonic() - begin)


def read_group(broker, wanted):
    begin = time.monotonic()
    data = kcat(broker, "-G", GROUP, "-X", "auto.offset.reset=earliest", "-e", "-q",
                "-f", "%k" + KEY_END.decode() + "%s" + RECORD_END.decode(), TOPIC)
    check(f"read through the group '{GROUP}'", parse(data), wanted, time.monotonic() - begin)


class Copier:
    """tools/copy_once.py, started again when it has ended before its work was done."""

    def __init__(self, broker):
        self.command = [SYSTEM_PYTHON, TOP / "tools/copy_once.py", f"127.0.0.1:{broker.port}", TOPIC,
                        COPY, COPIER, str(COPY_SIZE)]
        self.log = broker.folder.parent / "copy.log"
        self.starts, self.before, self.copied, self.process = 0, 0, 0, None

    def start(self):
        self.starts, self.before = self.starts + 1, self.copied
        if self.starts > STARTS_MAX:
            raise Failed(f"the copier ended {STARTS_MAX} times; its log is {self.log}")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, text=True,
                                            stdout=subprocess.PIPE, stderr=log)

    def run(self, until):
        """Go on until a transaction is open and so many records were copied before, or to the end."""
        late = time.monotonic() + COPY_S
        while True:
            line = self.process.stdout.readline().split()
            if line == ["open"] and self.copied >= until:
                return
            if line and line[0] == "copied":
                self.copied = self.before + int(line[1])
            if not line and self.process.wait() == 0:
                return
            if time.monotonic() > late:
                raise Failed(f"the copier is not done after {COPY_S} s; its log is {self.log}")
            if not line:
                self.start()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def copy_once(broker, records):
    """Both sides die with a transaction open: the copier at a third, the broker at two thirds."""
    begin, copier = time.monotonic(), Copier(broker)
    if subprocess.run([SYSTEM_PYTHON, "-c", "import confluent_kafka"], capture_output=True).returncode:
        lack = f"{SYSTEM_PYTHON} has no confluent_kafka (package python3-confluent-kafka)"
        if os.environ.get("CI") == "1":
            raise Failed(lack)
        say(f"not copied in transactions: {lack}")
        return
    kcat(broker, "-P", "-t", COPY, data=b"")
    copier.start()
    copier.run(len(records) // 3)
    copier.kill()
    say(f"copying in transactions: {copier.copied:,} records, then the copier is killed")
    copier.start()
    copier.run(2 * len(records) // 3)
    broker.kill()
    say(f"  {copier.copied:,} records, then the broker is killed: "
        f"ready in {broker.start() * 1e3:.0f} ms")
    copier.run(len(records) + 1)
    say(f"  copied in {time.monotonic() - begin:.1f} s")
    read(broker, "read from the copy, committed records only", records, COPY)


def prove(broker, records):
    say(f"started on {broker.folder}, port {broker.port}: ready in {broker.start() * 1e3:.0f} ms")
    write(broker, records)
    read(broker, "read back by partition", records)
    read_group(broker, records)
    broker.kill()
    say(f"killed (SIGKILL) and restarted: ready in {broker.start() * 1e3:.0f} ms")
    read(broker, "read again after the kill", records)
    copy_once(broker, records)
    measure(broker)


def measure(broker):
    """Latency from due to read, at a modest rate: what this machine makes of it today."""
    task = subprocess.run([TORC, "bench", "e2e", "--brokers", f"127.0.0.1:{broker.port}", "--topic",
                           "torc-bench", "--create", "6", "--rate", "1000", "--seconds", "3", "--warmup",
                           "1", "--pid", str(broker.process.pid), "--plot", "--quiet"], text=True,
                          capture_output=True, timeout=READY_S)
    if task.returncode:
        raise Failed(f"torc bench e2e: {task.stdout}{task.stderr}")
    print(task.stdout, end="", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--port", type=int, default=9092)
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="torc-run-"))
    broker = Broker(place / "data", free_port(args.port))
    begin, kept = time.monotonic(), True
    try:
        records = input_records()
        prove(broker, records)
        if args.stay:
            say(f"the broker stays: bootstrap 127.0.0.1:{broker.port}, data {broker.folder}, "
                f"log {broker.log}")
            say(f"  kcat -b 127.0.0.1:{broker.port} -C -t {TOPIC} -p 0 -o -3 -e")
            say(f"  stop it with: kill {broker.process.pid}")
        else:
            broker.stop()
            kept = False
        print(f"torc run: ok, {len(records):,} records written, read, killed, read again: 0 lost, "
              f"{time.monotonic() - begin:.1f} s", flush=True)
        return 0
    except (Failed, subprocess.TimeoutExpired) as e:
        if broker.process is not None and broker.process.poll() is None:
            broker.process.kill()
        print(f"torc run: FAILED: {e} (data and log are kept in {place})", flush=True)
        return 1
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
