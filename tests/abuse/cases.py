"""The cases: each takes a Watch and does one kind of damage through raw sockets.

A case returns a short note, or raises when the broker answers wrongly. What others feel is judged by
Watch.end.
"""
import os
import random
import signal
import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack

from harness.batch import batch, crc32c
from harness.broker import answers
from harness.wire import (API_VERSIONS, Client, decode_response, request_bytes, request_of,
                          within)

from . import bombs, mutate
from .watch import closed, connect, frame, read_frame, send_all, wait_for

ALL = []


def case_into(cases):
    def case(name):
        def add(run):
            cases.append((name, run))
            return run
        return add
    return case


case = case_into(ALL)


# ---- frames --------------------------------------------------------------------------------------

@case("bad frame lengths close the connection")
def bad_lengths(watch, args):
    for size in (-1, -2**31, 0, 2**31 - 1, 104857601, 0x47455420):
        with connect(watch.port) as s:
            send_all(s, struct.pack(">i", size) + b"x" * 100)
            assert closed(s), f"a frame of {size} bytes keeps the connection open"


@case("half frames and silence cost what was sent")
def half_frames(watch, args):
    before = watch.broker.memory()
    with ExitStack() as stack:
        for i in range(600):
            s = stack.enter_context(connect(watch.port))
            send_all(s, (struct.pack(">i", 100 << 20) + b"\0" * (i % 7))[:1 + i % 11])
        time.sleep(0.5)
        grown = watch.broker.memory() - before
        assert grown < 48 << 20 or not watch.memory_checked, f"600 half frames cost {grown >> 20} MiB"
        return f"600 connections, {grown >> 10} KiB"


@case("large frames that do not get complete")
def hoarded_frames(watch, args):
    """Each sends most of what it declares, slowly from then on, and holds memory for nothing."""
    with ExitStack() as stack:
        hoards = [stack.enter_context(connect(watch.port)) for _ in range(60)]
        for s in hoards:
            s.setblocking(False)
        pour(hoards, struct.pack(">i", 100 << 20) + bytes(1 << 20), 600 << 20)
        begin = time.monotonic()
        while time.monotonic() - begin < 9:
            watch.check()
            # A large frame of an honest client gets through, after a while at the latest.
            with connect(watch.port, 20) as s:
                send_all(s, frame(request_bytes("Metadata", 8, {"topics": [{"name": "x" * 200}] * 3000})))
                assert read_frame(s), "an honest request was refused"
            for s in hoards:
                try:
                    s.send(b"x")
                except OSError:
                    pass
        took = time.monotonic() - begin
    return f"{took:.1f} s"


@case("garbage closes the connection")
def garbage(watch, args):
    rng = random.Random(args.seed)
    texts = [b"GET / HTTP/1.1\r\nHost: torc\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00" + b"\1" * 512,
             b"\0" * 1000, b"\xff" * 1000, b"SSH-2.0-x\r\n" * 20]
    for i in range(300):
        text = texts[i] if i < len(texts) else rng.randbytes(rng.randint(5, 3000))
        if i >= len(texts):
            text = struct.pack(">i", len(text)) + text  # a frame, at least
        with connect(watch.port) as s:
            send_all(s, text)
            s.shutdown(socket.SHUT_WR)
            assert closed(s), f"garbage {i} is answered or kept"
    return "300 connections"


@case("what a peer has sent before it breaks off is served")
def broken_off(watch, args):
    """The broker is stopped meanwhile, so that it sees a request and the reset behind it at once."""
    def end():
        with Client(watch.address) as c:
            answer = c.ask("ListOffsets", 5, {"replica_id": -1, "topics": [
                {"name": "abuse", "partitions": [{"partition_index": 0, "timestamp": -1}]}]})
        return answer["topics"][0]["partitions"][0]["offset"]

    begin, body = end(), frame(request_bytes("Produce", 7, {"acks": 1, "timeout_ms": 5000, "topic_data": [
        {"name": "abuse", "partition_data": [{"index": 0, "records": batch()}]}]}))
    peers = [connect(watch.port) for _ in range(40)]
    for s in peers:  # the broker has them all: each was answered once
        send_all(s, frame(request_bytes("ApiVersions", 0, {})))
        assert read_frame(s), "not answered"
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.kill(watch.broker.process.pid, signal.SIGSTOP)
    try:
        for s in peers:
            send_all(s, body)
            s.close()
        time.sleep(0.05)
    finally:
        os.kill(watch.broker.process.pid, signal.SIGCONT)
    wait_for(lambda: end() == begin + len(peers), "all of their records",
             lambda: f"{end() - begin} of {len(peers)}")


# ---- requests that are nearly right --------------------------------------------------------------

class Prober:
    """Sends frames one by one on a connection that is opened again whenever it was closed."""

    def __init__(self, port, patience_s):
        self.port, self.patience_s, self.socket = port, patience_s, None
        self.answered = self.refused = 0

    def ask(self, body):
        """The answer, b"" if the broker closed instead, None if it does neither."""
        if self.socket is None:
            self.socket = connect(self.port, self.patience_s)
        send_all(self.socket, frame(body))
        try:
            answer = read_frame(self.socket)
        except TimeoutError:
            answer = None
        if answer:
            self.answered += 1
            return answer
        self.refused += 1
        self.close()
        return answer

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def served(watch):
    """(api key, version) of everything the broker names and the schemas know."""
    with Client(watch.address) as c:
        keys = c.ask("ApiVersions", 0)["api_keys"]
    return [(k["api_key"], v) for k in keys for v in range(k["min_version"], k["max_version"] + 1)
            if within(v, request_of(k["api_key"]).versions)]


@case("every request and version is answered as its schema says")
def samples(watch, args):
    probe, all_served = Prober(watch.port, 10), served(watch)
    for api, version in all_served:
        answer = probe.ask(mutate.request(api, version, 7))
        assert answer, f"api {api} version {version} is not answered"
        correlation, _ = decode_response(api, version, answer)
        assert correlation == 7, f"api {api} version {version}: correlation {correlation}"
    probe.close()
    return f"{len(all_served)} versions"


@case("requests cut after any byte close the connection")
def cut_short(watch, args):
    probe = Prober(watch.port, 10)
    for api, version in served(watch):
        whole = mutate.request(api, version)
        for cut in range(len(whole)):
            answer = probe.ask(whole[:cut])
            assert answer is not None, f"api {api} version {version} cut at {cut}: silence"
            assert not answer or api == API_VERSIONS, \
                f"api {api} version {version} cut at {cut} of {len(whole)} is answered"
    probe.close()
    return f"{probe.refused} refused"


@case("absurd lengths and counts are refused")
def evil_lengths(watch, args):
    probe = Prober(watch.port, 10)
    for api, version in served(watch):
        for body in mutate.with_evil_lengths(api, version):
            assert probe.ask(body) is not None, f"api {api} version {version}: silence to {body.hex()}"
    probe.close()
    assert probe.refused > 1000
    return f"{probe.refused} refused, {probe.answered} answered"


@case("requests with turned bits are answered or refused")
def turned_bits(watch, args):
    rng, probe, silent = random.Random(args.seed), Prober(watch.port, 1), 0
    for api, version in served(watch):
        for body in mutate.turned(mutate.request(api, version), rng, 60):
            if probe.ask(body) is not None:
                continue
            # A fetch may have been told to wait for long, a produce to answer nothing.
            assert body[:2] in (b"\0\0", b"\0\1"), f"api {api} version {version}: silence to {body.hex()}"
            silent += 1
    probe.close()
    return f"{probe.refused} refused, {probe.answered} answered, {silent} waited"


@case("batches with turned bits are answered or refused")
def turned_batches(watch, args):
    rng, probe, codes = random.Random(args.seed), Prober(watch.port, 10), Counter()
    good = batch([(b"k", b"v" * 20), (None, b""), (b"", None)])
    for body in mutate.turned(good, rng, 800):
        if rng.random() < 0.6:  # past the checksum
            body = body[:17] + struct.pack(">I", crc32c(body[21:])) + body[21:]
        codes[produce(probe, "greed", 0, body)] += 1
    for cut in range(len(good)):
        codes[produce(probe, "greed", 0, good[:cut])] += 1
    probe.close()
    assert set(codes) - {0} and None not in codes, codes
    return " ".join(f"{c}:{n}" for c, n in sorted(codes.items()))


# ---- greed ---------------------------------------------------------------------------------------

def produce(probe, topic, partition, records, version=7):
    """The partition's error code; None if there is no answer, -99 if the connection was closed."""
    answer = probe.ask(request_bytes("Produce", version, {"acks": -1, "timeout_ms": 5000, "topic_data": [
        {"name": topic, "partition_data": [{"index": partition, "records": records}]}]}))
    if answer is None:
        return None
    if not answer:
        return -99
    _, values = decode_response("Produce", version, answer)
    return values["responses"][0]["partition_responses"][0]["error_code"]


def fetch(topic, partitions, offset=0, most=50 << 20, each=50 << 20, wait_ms=0):
    return frame(request_bytes("Fetch", 11, {
        "replica_id": -1, "max_wait_ms": wait_ms, "min_bytes": 1, "max_bytes": most,
        "session_epoch": -1, "topics": [{"topic": topic, "partitions": [
            {"partition": p, "fetch_offset": offset, "log_start_offset": -1,
             "partition_max_bytes": each} for p in partitions]}]}))


def pour(sockets, data, limit):
    """Send the same bytes to all until they take no more; returns how many went out."""
    sent, left = 0, {s: b"" for s in sockets}
    for s in sockets:
        s.setblocking(False)
    quiet = 0
    while left and quiet < 20 and sent < limit:
        moved = 0
        for s in list(left):
            rest = left[s] or data
            try:
                n = s.send(rest)
            except BlockingIOError:
                continue
            except ConnectionError:
                del left[s]
                continue
            left[s], moved = rest[n:], moved + n
        quiet = 0 if moved else quiet + 1
        sent += moved
        if not moved:
            time.sleep(0.02)
    return sent


@case("thousands of requests that nobody reads the answers of")
def pipelined(watch, args):
    one = (frame(request_bytes("ApiVersions", 0, {})) + frame(request_bytes("Metadata", 1, {}))
           + frame(mutate.request(32, 1)) + frame(mutate.request(2, 1)))
    with ExitStack() as stack:
        greedy = [stack.enter_context(connect(watch.port, receive_buffer=4096)) for _ in range(30)]
        sent = pour(greedy, one * 50, 1 << 30)
        time.sleep(1)
    return f"30 connections took {sent >> 10} KiB of requests"


@case("readers that ask for everything and read nothing")
def zero_window(watch, args):
    probe, big = Prober(watch.port, 20), batch([(None, bytes([i]) * 30000) for i in range(30)])
    for i in range(64):
        code = produce(probe, "greed", i % 8, big)
        assert code == 0, f"produce: {code}"
    probe.close()
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(watch.port, receive_buffer=4096)) for _ in range(80)]
        for i, s in enumerate(idle):
            send_all(s, fetch("greed", [(i + k) % 8 for k in range(8)]) * 4)
        begin, held = time.monotonic(), 0
        while time.monotonic() - begin < 6:
            watch.check()
            held = max(held, watch.count_fds() - watch.fds)
            time.sleep(0.2)
    return f"{held} of 80 readers at most"


@case("2000 idle connections")
def idle(watch, args):
    with ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(connect(watch.port))
        wait_for(lambda: watch.count_fds() >= watch.fds + 2000, "2000 connections are accepted")
        for _ in range(10):
            watch.check()
            time.sleep(0.1)


@case("a flood of connections that come and go")
def flood(watch, args):
    reset = struct.pack("ii", 1, 0)
    begin = time.monotonic()
    for i in range(6000):
        s = connect(watch.port)
        if i % 3 == 0:
            send_all(s, frame(request_bytes("Metadata", 1, {}))[:i % 30])
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        s.close()
    return f"6000 in {time.monotonic() - begin:.1f} s"


@case("fetches of everything in tiny pieces")
def tiny_fetches(watch, args):
    with connect(watch.port) as s:
        for i in range(400):
            send_all(s, fetch("greed", range(8), i % 3, 1, 1))
            assert read_frame(s), "closed"
        send_all(s, fetch("greed", range(8), 0, 0, 0) + fetch("greed", range(8), 0, -1, -1)
                 + fetch("greed", range(20000), 0, 1, 1))
        for _ in range(3):
            assert read_frame(s), "closed"


@case("fetches that name one partition for ever, and wait for ever")
def parked(watch, args):
    probe = Prober(watch.port, 20)
    with Client(watch.address) as c:
        parts = c.ask("ListOffsets", 5, {"replica_id": -1, "topics": [{"name": "greed", "partitions": [
            {"partition_index": 0, "timestamp": -1}]}]})["topics"][0]["partitions"]
    end = parts[0]["offset"]
    with ExitStack() as stack:
        for i in range(40):
            s = stack.enter_context(connect(watch.port))
            send_all(s, fetch("greed", [0] * 30_000, end, wait_ms=2**31 - 1))
        for _ in range(10):
            watch.check()
            assert probe.ask(mutate.request(3, 1)), "an honest request was refused"
            time.sleep(0.2)
    probe.close()


@case("metadata for 100000 names")
def many_names(watch, args):
    names = [{"name": f"nobody-has-made-this-{i}"} for i in range(100_000)]
    probe = Prober(watch.port, 30)
    answer = probe.ask(request_bytes("Metadata", 8, {"topics": names}))
    assert answer is not None, "silence"
    note = "refused"
    if answer:
        _, values = decode_response("Metadata", 8, answer)
        codes = Counter(t["error_code"] for t in values["topics"])
        assert codes == {3: 100_000}, codes
        note = "answered"
    probe.close()
    return note


@case("10000 producer ids in a partition")
def producer_ids(watch, args):
    record = batch([(None, b"x")], sequence=0, producer_epoch=0)
    with connect(watch.port, 60) as s:
        for first in range(0, 10_000, 25):
            bodies = []
            for n in range(first, first + 25):
                body = bytearray(record)
                struct.pack_into(">q", body, 43, 1_000_000 + n)
                struct.pack_into(">I", body, 17, crc32c(bytes(body[21:])))
                bodies.append(frame(request_bytes("Produce", 7, {
                    "acks": -1, "timeout_ms": 5000, "topic_data": [{"name": "greed", "partition_data": [
                        {"index": 7, "records": bytes(body)}]}]})))
            send_all(s, b"".join(bodies))
            for _ in bodies:
                answer = read_frame(s)
                assert answer, "closed"
                part = decode_response("Produce", 7, answer)[1]["responses"][0]["partition_responses"][0]
                assert part["error_code"] == 0, part


@case("topics with absurd counts")
def absurd_topics(watch, args):
    def create(topics, timeout_s=30):
        probe = Prober(watch.port, timeout_s)
        answer = probe.ask(request_bytes("CreateTopics", 5, {"timeout_ms": 5000, "topics": topics}))
        probe.close()
        assert answer is not None, "silence"
        return [t["error_code"] for t in decode_response("CreateTopics", 5, answer)[1]["topics"]] \
            if answer else None

    def one(partitions, replicas=1, **more):
        return create([{"name": "absurd", "num_partitions": partitions, "replication_factor": replicas,
                        **more}])
    for partitions, replicas in ((2**31 - 1, 1), (10**6, 1), (10**5, 1), (0, 1), (-2, 1), (1, 32767),
                                 (1, 0), (1, -2)):
        codes = one(partitions, replicas)
        assert codes is None or codes[0] != 0, f"{partitions} partitions x {replicas}: {codes}"
    many = [{"partition_index": i, "broker_ids": [1]} for i in range(100_000)]
    codes = one(-1, -1, assignments=many)
    assert codes is None or codes[0] != 0, codes
    one(-1, -1, assignments=[{"partition_index": 0, "broker_ids": [1] * 50_000}])
    one(1, 1, configs=[{"name": f"x{i}", "value": "y" * 50} for i in range(50_000)])
    create([{"name": f"absurd-{i}", "num_partitions": 10**4, "replication_factor": 1}
            for i in range(5000)])
    with Client(watch.address, 30) as c:
        made = {t["name"]: len(t["partitions"]) for t in c.ask("Metadata", 1, {"topics": None})["topics"]}
    assert sum(made.values()) < 20_000, f"{sum(made.values())} partitions came into being"
    return f"{len(made)} topics and {sum(made.values())} partitions exist"


# ---- bombs ---------------------------------------------------------------------------------------

@case("decompression bombs")
def decompression(watch, args):
    with Client(watch.address) as c:
        c.ask("CreateTopics", 5, {"timeout_ms": 5000, "topics": [
            {"name": name, "num_partitions": 4, "replication_factor": 1,
             "configs": [{"name": k, "value": v}]} for name, k, v in (
                 ("bomb-as-is", "compression.type", "producer"),
                 ("bomb-again", "compression.type", "gzip"),
                 ("bomb-compact", "cleanup.policy", "compact"),
                 ("bomb-time", "message.timestamp.type", "LogAppendTime"))]})
    probe, codes, slowest = Prober(watch.port, 60), Counter(), 0.0
    for name, attributes, payload, count in bombs.ALL():
        body = batch([(b"k", b"v")] * 1, attributes=attributes, payload=payload, count=count,
                     last_delta=count - 1)
        for topic in ("bomb-as-is", "bomb-again", "bomb-compact", "bomb-time"):
            begin = time.monotonic()
            code = produce(probe, topic, 0, body)
            slowest = max(slowest, time.monotonic() - begin)
            assert code is not None, f"{name} to {topic}: silence"
            codes[code] += 1
    probe.close()
    return f"slowest {slowest * 1000:.0f} ms; " + " ".join(f"{c}:{n}" for c, n in sorted(codes.items()))


# ---- alone ---------------------------------------------------------------------------------------

def per_address(place, args):
    """A broker of its own with max.connections.per.ip."""
    limit = 10
    broker = place.broker("torc", "per-address", settings={
        "torc.cores": 1, "max.connections.per.ip": limit}).start()
    time.sleep(0.3)  # the connection that start() asked with counts until its end is seen
    with ExitStack() as stack:
        tries = [stack.enter_context(connect(broker.port)) for _ in range(limit * 4)]
        time.sleep(0.3)
        alive = 0
        for s in tries:
            send_all(s, frame(request_bytes("ApiVersions", 0, {})))
            alive += read_frame(s) != b""
        assert alive == limit, f"{alive} of {len(tries)} connections were served, not {limit}"
    wait_for(lambda: answers(broker.port), "room again")
    assert broker.stop() == 0
    return f"{limit} of {limit * 4}"
