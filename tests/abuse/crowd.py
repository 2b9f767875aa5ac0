"""Crowds, by the thousand and hundred thousand. tests/abuse/run.py --full runs these after the others, and
without it small ones of those in BOUNDED; what a crowd leaves in the broker stays there for the next one,
as in life.
"""
import resource
import selectors
import time
from collections import Counter
from contextlib import ExitStack

from harness.wire import Client, decode_response, request_bytes

from .cases import case_into, frame
from .watch import connect, read_frame, send_all, wait_for

COORDINATOR_NOT_AVAILABLE = 15
ALL, BOUNDED = [], []
case, bounded = case_into(ALL), case_into(BOUNDED)


class Pipe:
    """Requests of one kind one behind the other, so many unanswered at a time."""

    def __init__(self, port, api, version, window=50):
        self.socket, self.api, self.version = connect(port, 60), api, version
        self.window, self.waiting, self.answers = window, 0, []

    def ask(self, values):
        self.send(frame(request_bytes(self.api, self.version, values)))

    def send(self, whole):
        send_all(self.socket, whole)
        self.waiting += 1
        if self.waiting >= self.window:
            self.take()

    def take(self):
        while self.waiting:
            answer = read_frame(self.socket)
            assert answer, f"closed before {self.waiting} answers"
            self.answers.append(answer)
            self.waiting -= 1

    def end(self):
        """The answers, decoded; each kind once, since a crowd's are mostly alike."""
        self.take()
        self.socket.close()
        kinds = {a: decode_response(self.api, self.version, a)[1] for a in set(self.answers)}
        return [kinds[a] for a in self.answers]


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


def coordinator(watch, key_type):
    """There is one: its topic is made when it is first asked for."""
    with Client(watch.address) as c:
        wait_for(lambda: c.ask("FindCoordinator", 3, {"key": "crowd", "key_type": key_type}
                               )["error_code"] == 0, "there is a coordinator")
        answer = {0: ("OffsetFetch", 5, {"group_id": "crowd", "topics": []}),
                  1: ("InitProducerId", 4, {"transactional_id": "crowd", "transaction_timeout_ms": 60000,
                                            "producer_id": -1, "producer_epoch": -1})}[key_type]
        wait_for(lambda: c.ask(*answer)["error_code"] == 0, "it has loaded")


def enter(watch, api, version, values, count):
    """Asks once for each name from crowd-0000000 on; many at once, since those of one connection are served one
    behind the other, and each waits for the disk. A note of how long that took, and of whose time."""
    whole, broker = frame(request_bytes(api, version, values)), watch.broker.cpu_s()
    assert whole.count(b"crowd-0000000") == 1
    pipes = [Pipe(watch.port, api, version, count) for _ in range(100)]
    begin, own = time.monotonic(), time.process_time()
    for n in range(count):
        pipe = pipes[n % len(pipes)]
        pipe.take()
        pipe.send(whole.replace(b"crowd-0000000", b"crowd-%07d" % n))
        if n % 5000 == 0:
            watch.check()
    answers = [a for pipe in pipes for a in pipe.end()]
    assert len(answers) == count, len(answers)
    took = time.monotonic() - begin
    return answers, (f"{count} in {took:.1f} s, {watch.broker.cpu_s() - broker:.1f} CPU-s of the broker, "
                     f"{time.process_time() - own:.1f} of this program")


def judge(codes):
    """What does not fit into the memory is refused, and nothing else is."""
    codes = Counter(codes)
    full = codes.pop(COORDINATOR_NOT_AVAILABLE, 0)
    assert set(codes) == {0} and full < codes[0] * 10, (codes, full)
    return f"{full} of {full + codes[0]} refused for want of memory, " * bool(full)


@bounded("a crowd of transactional ids")
def transactional_ids(watch, args):
    coordinator(watch, 1)
    answers, note = enter(watch, "InitProducerId", 4, {
        "transactional_id": "crowd-0000000", "transaction_timeout_ms": 60000, "producer_id": -1,
        "producer_epoch": -1}, 20_000 if args.full else 2000)
    return judge(a["error_code"] for a in answers) + note


@bounded("a crowd of groups with 10 offsets each")
def groups(watch, args):
    coordinator(watch, 0)
    with Client(watch.address) as c:
        made = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": "crowded", "num_partitions": 10, "replication_factor": 1}]})
    assert made["topics"][0]["error_code"] == 0, made
    answers, note = enter(watch, "OffsetCommit", 7, {
        "group_id": "crowd-0000000", "generation_id_or_member_epoch": -1, "member_id": "",
        "group_instance_id": None, "topics": [{"name": "crowded", "partitions": [
            {"partition_index": p, "committed_offset": p, "committed_leader_epoch": -1,
             "committed_metadata": ""} for p in range(10)]}]},
        100_000 if args.full else 3000)
    return judge(p["error_code"] for a in answers for t in a["topics"] for p in t["partitions"]) + note
