"""Crowds, by the thousand and hundred thousand. tests/abuse/run.py --full runs these after the others;
what a crowd leaves in the broker stays there for the next one, as in life.
"""
import resource
import selectors
import time
from collections import Counter
from contextlib import ExitStack

from harness.wire import Client, decode_response, request_bytes

from .cases import case_into, frame
from .watch import connect, read_frame, send_all, wait_for

ALL = []
case = case_into(ALL)


class Pipe:
    """Requests of one kind one behind the other, so many unanswered at a time; counts the errors."""

    def __init__(self, port, api, version, window=50):
        self.socket, self.api, self.version = connect(port, 60), api, version
        self.window, self.waiting, self.answers = window, 0, []

    def ask(self, values):
        send_all(self.socket, frame(request_bytes(self.api, self.version, values)))
        self.waiting += 1
        if self.waiting >= self.window:
            self.take()

    def take(self):
        while self.waiting:
            answer = read_frame(self.socket)
            assert answer, f"closed before {self.waiting} answers"
            self.answers.append(decode_response(self.api, self.version, answer)[1])
            self.waiting -= 1

    def end(self):
        self.take()
        self.socket.close()
        return self.answers


@case("10000 idle connections")
def idle(watch, args):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    with ExitStack() as stack:
        before = watch.broker.memory()
        for _ in range(10_000):
            stack.enter_context(connect(watch.port))
        wait_for(lambda: watch.count_fds() >= watch.fds + 9_900, "they are accepted")
        for _ in range(20):
            watch.check()
            time.sleep(0.1)
        each = (watch.broker.memory() - before) // 10_000
    return f"{each} bytes each"


@case("2000 that send a byte a second")
def slow(watch, args):
    whole = frame(request_bytes("Metadata", 1, {"topics": [{"name": "slow"}]}))
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(watch.port)) for _ in range(2000)]
        for byte in whole[:12]:
            for s in peers:
                send_all(s, bytes([byte]))
            watch.check()
            time.sleep(0.5)


@case("100000 producer ids")
def producer_ids(watch, args):
    pipe = Pipe(watch.port, "InitProducerId", 4)
    for _ in range(100_000):
        pipe.ask({"transactional_id": None, "transaction_timeout_ms": 60000, "producer_id": -1,
                  "producer_epoch": -1})
    answers = pipe.end()
    given = {a["producer_id"] for a in answers if a["error_code"] == 0}
    assert len(given) == len(answers), Counter(a["error_code"] for a in answers)


@case("fetch sessions beyond what is remembered")
def sessions(watch, args):
    pipe = Pipe(watch.port, "Fetch", 11, 20)
    for n in range(5000):
        pipe.ask({"replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1, "session_id": 0,
                  "session_epoch": 0, "topics": [{"topic": "abuse", "partitions": [
                      {"partition": p, "fetch_offset": 0, "log_start_offset": -1,
                       "partition_max_bytes": 1} for p in range(8)]}]})
    answers = pipe.end()
    made = {a["session_id"] for a in answers} - {0}
    assert not any(a["error_code"] for a in answers) and made
    return f"{len(made)} made"


def pour(sockets, request, seconds):
    """Each sends it again and again, and takes what comes; returns how many bytes came."""
    selector, taken, left = selectors.DefaultSelector(), 0, {s: request * 64 for s in sockets}
    for s in sockets:
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ | selectors.EVENT_WRITE)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for key, ready in selector.select(0.1):
            s = key.fileobj
            try:
                if ready & selectors.EVENT_READ:
                    taken += len(s.recv(1 << 20))
                if ready & selectors.EVENT_WRITE:
                    left[s] = left[s][s.send(left[s]):] or request * 64
            except BlockingIOError:
                pass
    selector.close()
    return taken


@case("300 that pour requests for 2000 topics")
def metadata(watch, args):
    with Client(watch.address) as c:
        c.ask("CreateTopics", 5, {"timeout_ms": 60000, "topics": [
            {"name": f"poured-{i}", "num_partitions": 1, "replication_factor": 1}
            for i in range(2000)]})
    request = frame(request_bytes("Metadata", 8, {"topics": None}))
    with ExitStack() as stack:
        peers = [stack.enter_context(connect(watch.port)) for _ in range(300)]
        watch.begin()
        taken = 0
        for _ in range(3):
            taken += pour(peers, request, 3)
            watch.status()
    assert taken > 0
    return f"{taken >> 20} MiB of answers"
