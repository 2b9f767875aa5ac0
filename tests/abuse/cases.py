"""The cases: each takes a Watch and does one kind of damage through raw sockets.

A case returns a short note, or raises when the broker answers wrongly. What others feel is judged by
Watch.end.
"""
import random
import socket
import struct
import time
from contextlib import ExitStack

from harness.batch import batch
from harness.wire import Client, Closed, decode_response, request_bytes

from .watch import closed, connect, frame, read_frame, send_all, wait_for

ALL = []


def case(name):
    def add(run):
        ALL.append((name, run))
        return run
    return add


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
        assert grown < 48 << 20, f"600 half frames cost {grown >> 20} MiB"
        return f"600 connections, {grown >> 10} KiB"


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


def per_address(place, args):
    """A broker of its own with max.connections.per.ip."""
    limit = 10
    broker = place.broker("torc", "per-address", settings={
        "torc.cores": 1, "max.connections.per.ip": limit}).start()
    with ExitStack() as stack:
        tries = [stack.enter_context(connect(broker.port)) for _ in range(limit * 4)]
        time.sleep(0.3)
        alive = 0
        for s in tries:
            send_all(s, frame(request_bytes("ApiVersions", 0, {})))
            alive += read_frame(s) != b""
        assert alive == limit, f"{alive} of {len(tries)} connections were served, not {limit}"
    wait_for(lambda: Client(broker.address).ask("ApiVersions", 0)["error_code"] == 0, "room again")
    assert broker.stop() == 0
    return f"{limit} of {limit * 4}"
