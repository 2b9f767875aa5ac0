"""The broker under abuse, and the good client beside it that must not notice.

The good client is the load of tests/crash, a process of its own: an idempotent producer on all
partitions and a reader that follows. Its ledger says whether anything was refused, lost or late.
"""
import os
import socket
import struct
import time
from pathlib import Path

from crash.run import WRONGS, Load, TOPIC
from harness.wire import Client

PARTITIONS, RATE, BATCH_MAX = 16, 1_000_000, 20_000
MEMORY, SLACK = 256 << 20, 64 << 20
SLOWEST_MS = 5000          # the good client's slowest answer; this machine may be busy
QUIET_S = 2
SETTLE_S = 20
LINES_MAX = 40             # of the broker's log, for one case


class Watch:
    def __init__(self, broker, memory=MEMORY, memory_checked=True):
        self.broker, self.address, self.memory = broker, broker.address, memory
        self.port, self.memory_checked = broker.port, memory_checked
        with Client(self.address) as c:
            made = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
                {"name": TOPIC, "num_partitions": PARTITIONS, "replication_factor": 1},
                {"name": "abuse", "num_partitions": 8, "replication_factor": 1},
                {"name": "greed", "num_partitions": 8, "replication_factor": 1}]})
        if any(t["error_code"] for t in made["topics"]):
            raise RuntimeError(f"topics were not made: {made}")
        self.load = Load(self.port, 1, RATE, BATCH_MAX)
        late = time.monotonic() + 20
        while self.load.status()["tail"] == 0:
            if time.monotonic() > late:
                raise RuntimeError("the good client gets nothing done")
            time.sleep(0.05)
        self.load.answers()
        time.sleep(QUIET_S)
        self.quiet_us = max(1, self.load.answers()["p99_us"])
        self.fds, self.highest, self.slowest = self.count_fds(), 0, 0

    def count_fds(self, sockets=True):
        """Open sockets, or all other descriptors."""
        folder, count = Path(f"/proc/{self.broker.process.pid}/fd"), 0
        for fd in folder.iterdir():
            try:
                count += os.readlink(fd).startswith("socket:") == sockets
            except FileNotFoundError:  # closed meanwhile
                pass
        return count

    def count_lines(self):
        return self.broker.log.read_bytes().count(b"\n")

    def status(self):
        """The good client's counts; the slowest answer since begin() is kept."""
        counts = self.load.status()
        self.slowest = max(self.slowest, counts["slowest_ms"])
        return counts

    def begin(self):
        self.before, self.lines, self.slowest = self.load.status(), self.count_lines(), 0
        self.load.answers()

    def check(self):
        """The good client goes on, and has met nothing unusual; raises if it has."""
        assert self.broker.alive(), \
            f"the broker ended with {self.broker.process.returncode}:\n{self.broker.log_tail(8)}"
        at = self.status()
        wait_for(lambda: self.status()["tail"] > at["tail"], "the good client reads on")
        wait_for(lambda: self.status()["batches"] > at["batches"], "the good client writes on")
        now = self.status()
        wrong = {w: now[w] for w in WRONGS if now[w]}
        assert not wrong, f"the good client: {wrong} {self.load.wrong[:3]}"
        for word in ("reconnects", "refused", "resent"):
            assert now[word] == self.before[word], \
                f"the good client: {now[word] - self.before[word]} {word}"
        assert self.slowest <= SLOWEST_MS, \
            f"the good client waited {self.slowest} ms for an answer"
        return now["batches"] - self.before["batches"]

    def end(self):
        """What the case did to others; raises if that is not nothing."""
        batches = self.check()
        wait_for(lambda: self.count_fds() <= self.fds + 2, "sockets are closed",
                 lambda: f"{self.count_fds()} open, {self.fds} before")
        resident = self.broker.memory("VmHWM")
        self.highest = max(self.highest, resident)
        if self.memory_checked:
            assert resident <= self.memory + SLACK, \
                f"{resident >> 20} MiB were resident, torc.memory is {self.memory >> 20} MiB"
        lines = self.count_lines() - self.lines
        assert lines <= LINES_MAX, f"{lines} lines in the log"
        p99_us = self.load.answers()["p99_us"]
        return (f"good client: {batches} acks, p99 {p99_us / 1000:.1f} ms, {p99_us / self.quiet_us:.1f} x that of "
                f"before the abuse, slowest {self.slowest} ms; RSS {self.broker.memory() >> 20} MiB, at most {resident >> 20} of "
                f"{self.memory >> 20} + {SLACK >> 20}")


def wait_for(condition, what, why=lambda: "", limit_s=SETTLE_S):
    late = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < late, f"not within {limit_s} s: {what} {why()}"
        time.sleep(0.02)


# ---- raw connections -----------------------------------------------------------------------------

def connect(port, timeout_s=10, receive_buffer=None):
    s = socket.socket()
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.settimeout(timeout_s)
    s.connect(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def frame(body):
    return struct.pack(">i", len(body)) + body


def read_frame(s):
    """The next frame; b"" when the connection is closed. A timeout is the caller's to judge."""
    try:
        head = take(s, 4)
        return head and take(s, struct.unpack(">i", head)[0])
    except ConnectionError:
        return b""


def take(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def closed(s):
    """Whether the broker closes the connection, without a word."""
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def send_all(s, data):
    """Send; the broker may have closed already."""
    try:
        s.sendall(data)
        return True
    except (ConnectionError, BrokenPipeError):
        return False
