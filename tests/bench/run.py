#!/usr/bin/env python3
"""`torc bench` against a broker on loopback: does it measure what it says, and find what is broken?

What it must find is made on purpose: the batches of a sound topic are written again into others with one
left out, one twice, two exchanged, and one byte of a value turned.
"""
import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "perf")]
import evidence  # noqa: E402
from harness.batch import crc32c  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Client  # noqa: E402

TORC = os.environ.get("TORC") or TOP / "build/torc"
OK, FAILED, USAGE, MISSED = 0, 1, 2, 3


class Bench:
    def __init__(self, broker, folder):
        self.broker, self.folder = broker, folder

    def run(self, kind, *words, brokers=None):
        """The exit status, both outputs, and the JSON if there is one."""
        out = self.folder / "bench.json"
        out.unlink(missing_ok=True)
        command = [TORC, "bench", kind, "--brokers", brokers or self.broker.address, "--json", out, *words]
        task = subprocess.run(list(map(str, command)), text=True, capture_output=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        found = json.loads(out.read_text()) if out.exists() else None
        return task.returncode, task.stdout, task.stderr, found

    def sound(self, kind, *words):
        code, out, err, found = self.run(kind, *words)
        assert code == OK, f"status {code}: {out}{err}"
        assert found["result"]["verified"]["sound"], found["result"]["verified"]
        return found["result"], out


def produce(b):
    words = ["--create", 4, "--rate", 400, "--seconds", 0.5, "--warmup", 0.2]
    r, out = b.sound("produce", "--topic", "p", *words)
    assert r["counts"]["acknowledged"] == 280 >= r["counts"]["records"] > 0, r["counts"]
    latency = r["latency"]
    assert latency["response"]["count"] == latency["service"]["count"] == 200, latency["response"]
    assert latency["response"]["p50_us"] >= latency["service"]["p50_us"], latency
    assert sum(n for _, n in latency["response"]["buckets_ns"]) == 200
    assert "open loop" in out and "p99.99" in out and max(map(len, out.splitlines())) <= 80, out


def kinds_of_batches(b):
    r, _ = b.sound("produce", "--topic", "n", "--create", 3, "--max", "--count", 2400, "--records", 10)
    assert r["counts"]["acknowledged"] == 2400, r["counts"]
    r, _ = b.sound("consume", "--topic", "n", "--consumers", 2, "--passes", 3)
    assert r["counts"]["read_records"] == 7200 and r["verified"]["checked"] == 2400, r
    words = ["--max", "--seconds", 0.1, "--warmup", 0, "--create", 8, "--fresh", "--topic", "k"]
    for more in (["--acks", 1], ["--acks", 0], ["--idempotent"], ["--keys", 9], ["--batches", 2],
                 ["--records", 100, "--size", 10], ["--records", 20, "--codec", "lz4"],
                 ["--records", 20, "--codec", "zstd", "--text"], ["--size", 0],
                 ["--connections", 20, "--threads", 2]):
        r, _ = b.sound("produce", *words, *more)
        assert r["counts"]["acknowledged"] > 0, (more, r["counts"])


def end_to_end(b):
    words = ["--rate", 1000, "--records", 5, "--seconds", 0.5, "--warmup", 0.2]
    for more in (["--create", 3], ["--threads", 2, "--consumers", 2], ["--codec", "snappy"]):
        r, out = b.sound("e2e", "--topic", "e", *words, *more)
        v = r["verified"]
        assert v["checked"] == r["counts"]["acknowledged"] == 700, (v, r["counts"])
        assert r["latency"]["end_to_end"]["count"] == 500, r["latency"]["end_to_end"]["count"]
        assert "0 lost, 0 repeated, 0 out of order" in out, out


def transactions(b):
    """Readers of what is committed see all of it and nothing else; others meet numbers twice."""
    r, out = b.sound("txn", "--topic", "t", "--create", 2, "--rate", 200, "--records", 2, "--seconds", 0.6,
                     "--warmup", 0.1, "--aborts", 30)
    v, counts = r["verified"], r["counts"]
    assert v["checked"] == counts["acknowledged"] > 0 and "transactions/s" in out, (v, counts)
    assert counts["acknowledged"] < 140 and r["latency"]["response"]["count"] == 60, r["latency"]
    code, _, err, found = b.run("consume", "--topic", "t")
    v = found["result"]["verified"]
    assert code == FAILED and 0 < v["repeated"] <= 140 - counts["acknowledged"], (v, err)
    for generation in (1, 2):  # without readers, what lies there is counted
        r, out = b.sound("txn", "--topic", f"g{generation}", "--create", 3, "--max", "--seconds", 0.3, "--warmup",
                         0.1, "--batches", 3, "--connections", 1, "--consumers", 0, "--generation", generation, "--aborts", 20)
        assert r["counts"]["requests"] > 0 and r["latency"]["ending"]["count"] > 0, r["counts"]
        assert r["produce_version"] == 10 + generation and f"generation {generation}" in out, out
    r, _ = b.sound("txn", "--topic", "g", "--create", 2, "--rate", 200, "--records", 2, "--seconds", 0.4, "--warmup",
                   0.1, "--aborts", 30, "--generation", 2)
    assert r["verified"]["checked"] == r["counts"]["acknowledged"] > 0, r


def catch_up(b):
    r, _ = b.sound("catch-up", "--topic", "c", "--create", 2, "--backlog", 5000, "--rate", 200,
                   "--seconds", 0.4, "--warmup", 0.1, "--fresh")
    assert r["verified"]["checked"] >= 5000 + 100, r["verified"]


def connections(b):
    r, out = b.sound("connections", "--connections", 200, "--seconds", 0.3, "--rate", 1000)
    assert r["counts"]["opened"] == 200 and "opened" in out, r["counts"]


def groups(b):
    """Members of both protocols; their groups are gone in the end. What is taken away is missed."""
    pid = ["--pid", b.broker.process.pid]
    for protocol in ("classic", "consumer"):
        r, out = b.sound("groups", "--topic", "m", "--create", 3, "--protocol", protocol, "--connections", 40,
                         "--rate", 200, "--seconds", 0.5, "--warmup", 0.1, "--threads", 2, *pid)
        assert r["counts"]["acknowledged"] == 120 and r["verified"]["checked"] == 40, r
        assert r["latency"]["response"]["count"] == 100 and f"40 members, {protocol} protocol" in out, out
        cost = r["cost"]
        assert 0 < cost["broker_busiest_thread_s"] <= cost["broker_cpu_s"] + 0.1, cost
        r, _ = b.sound("groups", "--topic", "m", "--protocol", protocol, "--connections", 3, "--max",
                       "--seconds", 0.3, "--warmup", 0)
        assert r["counts"]["acknowledged"] > 3 and r["verified"]["checked"] == 3, r
    with Client(b.broker.address) as wire:
        def ours():
            return [g for g in wire.ask("ListGroups", 4)["groups"] if g["group_id"].startswith("torc-bench-")]

        assert not ours(), ours()

        def committed(group):
            answer = wire.ask("OffsetFetch", 7, {"group_id": group["group_id"], "require_stable": False, "topics": [
                {"name": "gone", "partition_indexes": [0]}]})
            return answer["topics"][0]["partitions"][0]["committed_offset"]

        def take_away():
            while not any(committed(g) > 2 for g in ours()):
                pass
            wire.ask("DeleteTopics", 5, {"topic_names": ["gone"], "timeout_ms": 9000})

        thief = threading.Thread(target=take_away, daemon=True)
        thief.start()
        code, _, err, found = b.run("groups", "--topic", "gone", "--create", 1, "--connections", 1, "--rate", 20,
                                    "--seconds", 2, "--warmup", 0)
        thief.join()
    v = found["result"]["verified"]
    assert code == FAILED and v["errors"] > 0 and v["lost"] > 0, (code, v, err)
    assert "commits were refused" in err, err


def cost(b):
    _, out = b.sound("produce", "--topic", "p", "--rate", 200, "--seconds", 0.5, "--warmup", 0,
                     "--pid", b.broker.process.pid)
    assert "CPU-s/GB" in out and "rss" in out, out


def floor(b):
    code, out, err, found = b.run("produce", "--floor", b.folder, "--topic", "p", "--rate", 100, "--seconds",
                                  0.2, "--warmup", 0)
    assert code == OK, err
    f = found["floor"]
    assert len(f["clock_gaps"]) >= 1 and f["timer"]["count"] == 200 and f["loopback"]["count"] > 100, f
    assert [w["depth"] for w in f["writes"]] == [1, 2, 4, 8, 16, 32], f["writes"]
    assert all(w[k]["count"] > 0 for w in f["writes"] for k in ("plain", "synced")), f["writes"]
    assert "4 KiB write+sync, 32 deep" in out and not list(b.folder.glob("*.tmp")), out
    task = subprocess.run([TORC, "bench", "floor", "/nonexistent"], text=True, capture_output=True, timeout=30)
    assert task.returncode == FAILED and "cannot be measured" in task.stderr, task.stderr


def hdr_counts(text):
    """The counts of a histogram of a log, by bucket."""
    packed = base64.b64decode(text)
    assert packed[:4].hex() == "1c849314" and int.from_bytes(packed[4:8], "big") == len(packed) - 8, packed[:8]
    plain = zlib.decompress(packed[8:])
    assert plain[:4].hex() == "1c849313" and int.from_bytes(plain[4:8], "big") == len(plain) - 40, plain[:40]
    assert int.from_bytes(plain[12:16], "big") == 1, "significant digits"
    counts, bucket, at = {}, 0, 40
    while at < len(plain):
        value = 0
        for i in range(9):
            byte = plain[at + i]
            value |= (byte if i == 8 else byte & 127) << 7 * i
            if i == 8 or byte < 128:
                break
        at += i + 1
        value = value >> 1 ^ -(value & 1)
        if value > 0:
            counts[bucket] = value
        bucket += -value if value < 0 else 1
    return counts


def hdr(b):
    """The log has what the JSON has: the same counts in the same buckets, of the whole and in pieces."""
    log = b.folder / "bench.hdr"
    r, _ = b.sound("e2e", "--topic", "h", "--create", 2, "--rate", 500, "--seconds", 0.5, "--warmup", 0, "--hdr", log)
    lines = log.read_text().splitlines()
    assert lines[0] == "#[Histogram log format version 1.3]" and lines[2].startswith("#[StartTime: 1"), lines[:3]
    found = [line.split(",") for line in lines if line.startswith("Tag=")]
    for name, h in r["latency"].items():
        tag = f"Tag={b.broker.address}.{name}"
        whole = [row for row in found if row[0] == tag]
        assert len(whole) == 1 and float(whole[0][2]) == 0.5, (tag, [row[0] for row in found])
        # 32 exact values, then 16 to a power of two: the upper bound of each.
        said = [[(n if n < 32 else (16 + n % 16 + 1 << n // 16 - 1) - 1), c]
                for n, c in hdr_counts(whole[0][4]).items()]
        assert said == h["buckets_ns"], (name, said, h["buckets_ns"])
    pieces = [row for row in found if row[0].endswith(".response.slices")]
    times = [float(row[1]) for row in pieces]
    assert len(pieces) > 2 and times == sorted(times) and times[-1] < 0.5, times
    assert sum(sum(hdr_counts(row[4]).values()) for row in pieces) <= 250, pieces


def series(b):
    """Several loads for one question: their number, their labels, their files, the exit status."""
    words = ["--topic", "p", "--seconds", 0.2, "--warmup", 0]
    page = b.folder / "bench.html"
    code, out, err, found = b.run("produce", *words, "--max", "--sweep", "records=1,10,100", "--html", page)
    assert code == OK, (code, err)
    assert [p["label"] for p in found["series"]] == ["10", "100"], found["series"]
    assert found["series"][1]["result"]["options"]["records"] == 100
    html = page.read_text()
    assert html.count("<polyline") == 9 and html.count("<circle") == 9 and "http" not in html, html[:500]
    for tag in ("svg", "table", "h2"):
        assert html.count(f"<{tag}") == html.count(f"</{tag}>") > 0, tag

    for axis, option, values in (("keys", "keys", [0, 7]), ("acks", "acks", [0, 1]), ("size", "size", [1, 500]),
                                 ("rate", "rate", [90, 300]), ("batches", "batches", [1, 2]),
                                 ("connections", "connections", [1, 3]), ("in-flight", "in_flight", [1, 2]),
                                 ("codec", "codec", ["none", "lz4"]), ("partitions", "partitions", [1, 3]),
                                 ("idempotent", "idempotent", [False, True])):
        said = ",".join(str(v).lower() for v in values)
        code, out, err, found = b.run("produce", *words, "--connections", 1, "--rate", 60,
                                      "--sweep", f"{axis}={said}")
        assert code == OK, (axis, code, err)
        options = [p["options"] for p in (found["result"], found["series"][0]["result"])]
        assert [o[option] for o in options] == values, (axis, options)
        topics = [f"p-{n}" for n in values] if axis == "partitions" else ["p", "p"]
        assert [o["topic"] for o in options] == topics, options
    code, out, err, found = b.run("produce", *words, "--rate", 60, "--sweep", "transactional=false,true")
    assert code == OK and [found["result"]["kind"], found["series"][0]["result"]["kind"]] == ["produce", "txn"], err
    code, out, err, found = b.run("e2e", *words, "--rate", 60, "--sweep", "connections=1,2", "--sweep", "consumers=1,3")
    pairs = [(r["options"]["connections"], r["options"]["consumers"])
             for r in (found["result"], *(p["result"] for p in found["series"]))]
    assert code == OK and pairs == [(1, 1), (1, 3), (2, 1), (2, 3)] and "\n2 3 " in out, (pairs, out, err)

    code, out, err, found = b.run("produce", *words, "--rate", 12800, "--slo", "p50<40ms")
    points = [found["result"], *(p["result"] for p in found["series"])]
    kept = [p["options"]["rate"] for p in points if p["latency"]["response"]["p50_us"] <= 40000]
    if code == OK:  # what this machine makes of it, it must agree with what was measured
        assert f"p50<40ms: {max(kept):,.0f} records/s" in out and len(points) >= 7, (kept, out)
    else:
        assert code == MISSED and not kept and "is not kept at 12,800 records/s" in err, (kept, err)
    code, out, err, _ = b.run("produce", *words, "--rate", 50, "--slo", "p50<1us")
    assert code == MISSED and "is not kept at 50.0 records/s" in err, (code, err)

    pair = ["--versus", b.broker.address, "--repeat", 2]
    code, out, err, found = b.run("e2e", *words, "--rate", 100, *pair, "--threshold", 900, "--html", page)
    html = page.read_text()
    assert "<h2>Ratios</h2>" in html and "<td>p99.9<td>" in html and html.count("<polyline") == 12, html[:500]
    said = found["provenance"]
    assert said["command_line"] in html and said["command_line"].startswith("bench e2e --brokers"), said
    assert said["commit"] in html and all(said[k] for k in ("commit", "cpu", "kernel", "filesystem", "device")), said
    assert code == OK and len(found["series"]) == 3 and "p99.9" in found["ratios"], (code, out, err)
    assert found["provenance_versus"]["broker"] == "torc", found["provenance_versus"]
    mean, low, high = found["ratios"]["p50"]
    assert low <= mean <= high and "95 % confidence" in out, found["ratios"]


def provenance(b):
    """Where the broker's data is, on what, and which broker it is: not the root's, not this program's."""
    words = ["--topic", "p", "--rate", 100, "--seconds", 0.1, "--warmup", 0]
    for more in ([], ["--pid", b.broker.process.pid]):
        b.sound("produce", *words, *more)
        p = json.loads((b.folder / "bench.json").read_text())["provenance"]
        found = subprocess.run(["findmnt", "-vno", "FSTYPE,SOURCE", "-T", b.broker.data], text=True, capture_output=True)
        assert p["data_directory"] == str(b.broker.data) and found.returncode == 0, (p, found.stderr)
        assert [p["filesystem"], p["device"]] == found.stdout.split()[:2], (p, found.stdout)
        version = subprocess.run([TORC, "version"], text=True, capture_output=True).stdout
        assert p["broker"] == "torc" and p["broker_version"].split(",")[0] in version, (p, version)
    command = [TORC, "bench", "floor", b.folder, "--json", b.folder / "bench.json"]
    assert subprocess.run(command, capture_output=True).returncode == OK
    p = json.loads((b.folder / "bench.json").read_text())["provenance"]
    assert p["filesystem"] == found.stdout.split()[0] and p["broker"] == "unknown", p


def pages(b):
    """Saved runs over each other, and the document of another program, with what was lost as plain as what was won."""
    files = [b.folder / f"run{n}.json" for n in (1, 2)]
    for n, file in enumerate(files):
        b.sound("produce", "--topic", "p", "--rate", 300 + n, "--seconds", 0.4, "--warmup", 0)
        file.write_bytes((b.folder / "bench.json").read_bytes())
    said = [json.loads(f.read_text()) for f in files]

    def page(*runs):
        out = b.folder / "page.html"
        out.unlink(missing_ok=True)
        task = subprocess.run(list(map(str, [TORC, "bench", "page", out, *runs])), text=True, capture_output=True,
                              timeout=30)
        return task.returncode, task.stderr, out.read_text() if out.exists() else ""

    code, err, html = page(*files)
    assert code == OK, err
    assert html.count("<polyline") == 6 and html.count("<h3>Percentiles") == 1, html.count("<polyline")
    for n, run in enumerate(said):
        assert f"{b.broker.address} (run{n + 1}.json)" in html and run["provenance"]["command_line"] in html
    for tag in ("svg", "table", "h2", "h3", "pre"):
        assert html.count(f"<{tag}") == html.count(f"</{tag}>") > 0, tag

    # A load of so many records has no length beforehand: its slices may be longer than it was.
    b.sound("produce", "--topic", "p", "--max", "--count", 500, "--warmup", 0)
    code, err, html = page(b.folder / "bench.json")
    across = [float(x) for curve in re.findall(r'polyline[^>]*points="([^"]*)"', html)
              for x, _ in re.findall(r"([^ ,]+),([^ ,]+)", curve)]
    assert code == OK and across and 0 <= min(across) and max(across) <= 720, max(across)

    points = [{"label": f"arm <{n}>", "result": r["result"]} for n, r in enumerate(said)]
    document = {"title": "a & b \u00e9\"", "provenance": {"cpus": 2}, "floor": {"timer": {"p50_us": 50}},
                "tables": [{"title": "goals", "rows": [["", "goal"], ["x", "met"], ["y", "missed, 3"]]}],
                "loads": [{"title": "P1", "points": points}, {"title": "P2", "points": points[:1]},
                          {"title": "empty", "points": []}]}
    files[0].write_text(json.dumps(document))
    code, err, html = page(files[0])
    assert code == OK and "<h1>a &#38; b \u00e9&#34;</h1>" in html and "arm &#60;1&#62;" in html, (err, html[:3000])
    assert "<td class=met>met" in html and "<td class=missed>missed, 3" in html and "late by<td>50.0 us" in html
    assert html.count("<polyline") == 9 and html.count("<h2>P") == 2, html.count("<polyline")
    for text, at in (('{"a": [1, 2', 11), ("{} x", 3), ('{"a": "', 7), ("", 0), ("[1 2]", 3), ('{"a":\\u0041}', 5)):
        files[0].write_text(text)
        code, err, html = page(files[0])
        assert code == FAILED and f"run1.json: no JSON at byte {at}" in err and not html, (text, code, err)
    code, err, _ = page(b.folder / "absent.json")
    assert code == FAILED and "absent.json: No such file" in err, err


def bare(b):
    """perf/bare: as much as was asked for, answered once each, as durable as said."""
    shape = ["--connections", 3, "--in-flight", 4, "--records", 2, "--size", 500, "--request", 1100, "--seconds", 0.4]
    r = evidence.bare(*shape, "--rate", 500)
    assert r["counts"]["requests"] == r["latency"]["response"]["count"] == 200, r["counts"]
    assert r["counts"]["records"] == 2 * r["counts"]["requests"] and r["wal"]["count"] == 0, r["counts"]
    r = evidence.bare(*shape, "--durable", b.folder, "--warmup", 0.1)
    written = r["wal"]["count"] * r["wal"]["bytes"]
    assert r["counts"]["requests"] > 10 and written >= 1100 * r["counts"]["requests"], (r["counts"], r["wal"])
    assert 1 < r["wal"]["us"] < 1e6, r["wal"]
    assert not list(b.folder.glob("bare*")), "its file has no name"
    reads = ["--connections", 2, "--in-flight", 1, "--request", 100, "--answer", 300000, "--records", 1, "--size", 300000]
    for found in (evidence.bare(*reads, "--seconds", 0.3), evidence.sendfile(b.folder, *reads, "--seconds", 0.3)):
        assert found["counts"]["read_bytes"] == 300000 * found["counts"]["fetches"] > 0, found["counts"]


def comparison(b):
    """What perf/compare makes of figures: rounds merged, goals met and missed alike, bounds beside what was missed."""
    def result(values, seconds):
        return {"kind": "produce", "about": "", "options": {}, "slices": [], "slice_s": 0, "seconds": seconds,
                "read_seconds": 0, "counts": {"records": 10, "bytes": 5 * 10 ** 9, "read_bytes": 0},
                "cost": {"broker_cpu_s": 2, "generator_cpu_s": 1, "broker_rss_bytes": 7},
                "latency": {"response": {"buckets_ns": values, "max_us": values[-1][0] / 1e3},
                            "service": {"buckets_ns": [], "max_us": 0}}}

    one = evidence.merged([result([[1000, 50], [2000, 50]], 1), result([[2000, 99], [90000, 1]], 3)])
    h = one["latency"]["response"]
    assert one["seconds"] == 4 and one["counts"]["records"] == 20 and one["cost"]["broker_cpu_s_per_gb"] == .4, one
    assert h["buckets_ns"] == [(1000, 50), (2000, 149), (90000, 1)] and h["count"] == 200 and h["max_us"] == 90
    assert (h["p50_us"], h["p99_us"], h["p99.9_us"]) == (2, 2, 90) and "service" not in one["latency"], h

    compare = SourceFileLoader("compare", str(TOP / "perf/compare")).load_module()
    options = SimpleNamespace(classes=["torc", "kafka", "bare"], loads=compare.LOADS, short=False, cores=1)
    c = compare.Comparison(options, b.folder)
    c.about = {"cpus": 2}
    load = compare.LOADS[0]
    c.found = {load.name: {"torc": {"mb_per_s": 200, "cpu_s_per_gb": 1, "p99_us": 5},
                           "kafka": {"mb_per_s": 100, "cpu_s_per_gb": 5, "p99_us": 5},
                           "bare": {"mb_per_s": 250, "cpu_s_per_gb": .5, "p99_us": 4}}}
    c.results = {load.name: {"torc": {**one, "wal": evidence.writes(10, 40960, 5000000)}, "bare": one}}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        c.print_head()
        c.print(load)
    assert ">= 3x: missed, 300" in out.getvalue() and "<= 0.25x: met" in out.getvalue(), out.getvalue()
    (name, text), = c.evidence()
    assert name == "P1 batches MB/s" and "200 for 300: 1.50x apart" in text, (name, text)
    assert "no broker 250, not the goal either" in text and "torc's durable writes 4.0 KiB in 500 us" in text, text
    c.floor_us, paced = 8000, next(load for load in compare.LOADS if load.name == "P3 paced")
    c.found[paced.name] = {"torc": {"p50_us": 2000}, "bare": {"p50_us": 150}}
    for us, verdict in ((100, "missed, 160"), (9000, "met")):  # a slow moment makes no goal easier
        c.results[paced.name] = {"bare": {"wal": evidence.writes(10, 40960, us * 10000)}}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            c.print(paced)
        assert f"floor + 60: {verdict}" in out.getvalue(), (us, out.getvalue())
        del c.rows[-2:], c.missed[1:]
    goals, others, missed = (t["rows"] for t in c.document()["tables"])
    assert [row[-1] for row in goals[1:]] == ["missed, 300", "met"] and len(others) == len(missed) == 2, goals


def suite(b):
    """A file of scenarios: all. goes for all, what a scenario says itself wins, mistakes have names."""
    file = b.folder / "suite.properties"
    file.write_text("all.seconds=0.2\nall.warmup=0\nall.create=2\nall.topic=suite\nall.rate=200\n"
                    "one.kind=e2e\ntwo.kind=produce\ntwo.rate=300\ntwo.idempotent=true\n"
                    "three.kind=connections\nthree.connections=5\n"
                    "four.kind=catch-up\nfour.topic=suite-backlog\nfour.backlog=300\n")
    out = b.folder / "suite.json"
    command = [TORC, "bench", "suite", file, "--brokers", b.broker.address, "--json", out]
    task = subprocess.run(list(map(str, command)), text=True, capture_output=True, timeout=60)
    assert task.returncode == OK, task.stderr
    found = json.loads(out.read_text())
    results = [found["result"], *(p["result"] for p in found["series"])]
    assert [r["kind"] for r in results] == ["e2e", "produce", "connections", "catch-up"], found["series"]
    assert task.stdout.startswith("floor of this machine") and found["floor"]["loopback"]["count"] > 0, task.stdout
    assert found["provenance"]["data_directory"] == str(b.broker.data), found["provenance"]
    assert [r["options"]["rate"] for r in results] == [200, 300, 200, 200] and results[1]["options"]["idempotent"]
    for text, said in (("x.rate=5\n", "scenario x: x.kind is none of"),
                       ("x.kind=e2e\nx.recrods=5\n", "scenario x: no option is called --recrods"),
                       ("x.kind=e2e\nx.rate=no\n", "is not a number")):
        file.write_text(text)
        task = subprocess.run(list(map(str, command)), text=True, capture_output=True, timeout=60)
        assert task.returncode == USAGE and said in task.stderr, (text, task.stderr)


HOME_STAGES = ["recv", "queued", "decode", "route", "away", "encode", "send"]


def stat_of(b):
    task = subprocess.run([TORC, "stat", "--brokers", b.broker.address, "--json"], text=True,
                          capture_output=True, timeout=20)
    assert task.returncode == OK, task.stderr
    return json.loads(task.stdout)


def stat(b):
    """What the broker says of itself agrees with what the load did to it."""
    before = stat_of(b)
    r, _ = b.sound("e2e", "--topic", "s", "--create", 3, "--rate", 400, "--seconds", 0.5, "--warmup", 0)
    after = stat_of(b)

    def grown(*path):
        old, new = before, after
        for key in path:
            old, new = old.get(key, {}), new[key]
        return new - (old or 0)

    assert grown("apis", "Produce", "total", "count") == 200
    for stage in ("queued", "route", "away", "ring", "admit", "wait", "write", "send"):
        assert grown("apis", "Produce", "stages", stage, "requests") == 200, stage
    for stage in ("queued", "decode", "route", "ring", "admit", "wait", "write", "publish", "encode", "send"):
        timed = after["apis"]["Produce"]["stages"][stage]["timed"]
        assert timed["count"] >= 200 // 16 and timed["max"] > 0, (stage, timed)
    assert after["apis"]["Fetch"]["stages"]["held"]["sum_ns"] > 0, after["apis"]["Fetch"]
    for name, api in after["apis"].items():
        stages = sum(stage["sum_ns"] for key, stage in api["stages"].items() if key != "recv")
        assert stages == api["total"]["sum"], (name, "its stages do not add up to the whole", api)
    assert grown("apis", "Fetch", "total", "count") >= r["counts"]["fetches"] > 0
    assert grown("log", "appended_batches") == 200, after["log"]
    assert 0 < grown("log", "wal_write_ns", "count") <= 200 + 3, after["log"]
    assert grown("log", "wal_wait_ns", "count") == grown("log", "wal_write_bytes", "count"), after["log"]
    assert grown("log", "wal_write_batches", "sum") >= 200, after["log"]
    # Of each record: into the frame's memory, into the log's, and for the reader or the segment.
    size = r["options"]["size"] * 200
    assert grown("log", "copied_bytes") >= size and grown("log", "memory_read_bytes") >= size, after["log"]
    for key in ("received_bytes", "sent_bytes", "copied_bytes"):
        assert sum(c[key] for c in after["cores"]) - sum(c[key] for c in before["cores"]) >= size, key
    assert sum(c["turns"] for c in after["cores"]) > sum(c["turns"] for c in before["cores"])
    for core in after["cores"]:
        assert core["busy_ns"] == core["turn_ns"]["sum"] and core["turn_ns"]["count"] + 1 >= core["turns"]
        assert core["busy_ns"] + core["idle_ns"] <= after["up_ns"] + 1e9, core
        assert core["letters_in"] - 1 <= core["turn_letters"]["sum"] <= core["letters_in"], core
    task = subprocess.run([TORC, "stat", "--brokers", b.broker.address], text=True, capture_output=True,
                          timeout=20)
    assert "wal writes" in task.stdout and max(map(len, task.stdout.splitlines())) <= 80, task.stdout
    assert "\f" not in task.stdout and "the last" not in task.stdout, task.stdout
    task = subprocess.run([TORC, "stat", "--brokers", "127.0.0.1:1"], text=True, capture_output=True,
                          timeout=20)
    assert task.returncode == FAILED and "can be asked" in task.stderr, task.stderr


def where_requests_are(b):
    """One that waits for records is shown where it waits, and is gone when it has them."""
    b.sound("produce", "--topic", "quiet", "--create", 1, "--rate", 100, "--seconds", 0.1, "--warmup", 0)
    ask = {"replica_id": -1, "max_wait_ms": 2500, "min_bytes": 1, "max_bytes": 1000, "session_epoch": -1,
           "rack_id": "", "topics": [{"topic": "quiet", "partitions": [
               {"partition": 0, "fetch_offset": 10, "partition_max_bytes": 1000}]}]}
    with Client(b.broker.address) as wire:
        waiter = threading.Thread(target=wire.ask, args=("Fetch", 12, ask))
        waiter.start()
        limit = time.monotonic() + 2
        now = stat_of(b)["under_way"]
        while now["legs"]["held"] == 0 and time.monotonic() < limit:
            now = stat_of(b)["under_way"]
        assert now["requests"] == now["stages"]["away"] == now["legs"]["held"] == 1, now
        assert list(now["stages"]) == HOME_STAGES and sum(now["stages"].values()) == 1, now
        assert sum(now["legs"].values()) == 1, now
        waiter.join()
    while now["requests"] > 0 and time.monotonic() < limit + 20:  # it is over after the client has its answer
        now = stat_of(b)["under_way"]
    assert now["requests"] == 0 and not any(now["legs"].values()), now


def watch(b):
    """A view each time, of what happened since the one before; it ends when it is told to."""
    command = [TORC, "stat", "--brokers", b.broker.address, "--watch", "0.5"]
    begun = time.monotonic()
    task = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    guard = threading.Timer(60, task.kill)
    guard.start()

    def view():
        """(seconds, requests that produced) of the next view that is whole."""
        lines = []
        while not (lines and lines[-1].startswith("copies")):
            lines.append(task.stdout.readline())
            assert lines[-1], ("the views end", lines)
        text = "".join(lines)
        made = re.search(r"^Produce +([\d,]+)", text, re.M)
        return float(re.search(r"the last (\S+)", text)[1]), int(made[1].replace(",", "")) if made else 0

    try:
        views = [view()]
        for rounds in (1, 2):  # the second load begins when the first has been seen
            b.sound("produce", "--topic", "w", "--create", 1, "--rate", 200, "--seconds", 0.5, "--warmup", 0)
            while sum(made for _, made in views) < 100 * rounds:
                views.append(view())
        task.send_signal(signal.SIGINT)
        took = time.monotonic() - begun
        out, err = task.communicate(timeout=20)
    finally:
        guard.cancel()
        task.kill()
    assert task.returncode == OK and not err, (task.returncode, err)
    assert "Produce " not in out, out
    # All together: a busy machine makes one view longer and the next one shorter.
    assert len(views) >= 3, views
    assert 0.4 * len(views) < sum(seconds for seconds, _ in views) < took + 0.1 * len(views), (views, took)
    assert sum(made for _, made in views) == 200 and max(made for _, made in views) <= 100, views
    command[-1] = "soon"
    task = subprocess.run(command, text=True, capture_output=True, timeout=20)
    assert task.returncode == USAGE and "is no number" in task.stderr, task.stderr


def path_of(text, what):
    """[(core, stage, us)] of the first slow request of a kind, and what the line says that it took."""
    line = next(l for l in text.splitlines() if f"slow request: {what}" in l)
    core = int(re.search(r"core=(\d+)", line)[1])
    took, path = re.search(r"took (\d+) us: (.*?); ", line).groups()
    steps = []
    for step in re.split(r", | (?=>)", path):
        step = step.split()
        if step[0] == ">":
            core, step = int(step[2].rstrip(":")), step[3:]
        steps.append((core, step[0], int(step[1])))
    return int(took), steps


def log_until(b, what, since=0):
    """The log, when it says so. A request is over, and told of, after its client has the answer."""
    limit = time.monotonic() + 20
    while True:
        text = b.broker.log.read_text()[since:]
        if re.search(what + ".*\n", text):
            return text
        assert time.monotonic() < limit, (what, text[-2000:])
        time.sleep(0.01)


def slow_requests(b):
    b.sound("produce", "--topic", "big", "--create", 1, "--config", "max.message.bytes=20000000",
            "--size", 16000000, "--rate", 4, "--seconds", 1.5, "--warmup", 0, "--connections", 1)
    text = b.broker.log.read_text()
    assert "slow request: Produce" in text and "'torc-bench' at 127.0.0.1" in text, text[-2000:]
    assert len([l for l in text.splitlines() if "slow request" in l]) < 2000, "lines are limited"
    big = "\n".join(l for l in text.splitlines() if re.search(r"; 160\d{5} bytes in", l))
    took, steps = path_of(big, "Produce")
    assert [step[1] for step in steps] == ["recv", "queued", "decode", "route", "ring", "admit", "wait", "write",
                                           "publish", "ring", "route", "encode", "send"], steps
    home, owner = steps[0][0], steps[5][0]
    assert {core for core, stage, _ in steps if stage in ("admit", "wait", "write", "publish")} == {owner}
    assert {core for core, stage, _ in steps if stage in ("queued", "decode", "route", "send")} == {home}
    assert 0 <= took - sum(us for _, stage, us in steps if stage != "recv") <= len(steps), (took, steps)
    assert dict((stage, us) for _, stage, us in steps)["write"] > 0, steps
    time.sleep(1.1)  # so many lines in a second
    with Client(b.broker.address) as wire:
        wire.ask("CreateTopics", 7, {"timeout_ms": 10000, "topics": [
            {"name": "many", "num_partitions": 400, "replication_factor": 1}]})
        took, steps = path_of(log_until(b, "slow request: CreateTopics", len(text)), "CreateTopics")
    assert "held" in [step[1] for step in steps] and len({core for core, _, _ in steps}) == 2, steps


def reads_batches(wire, topic):
    answer = wire.ask("Fetch", 12, {"replica_id": -1, "max_wait_ms": 100, "min_bytes": 1,
                                    "max_bytes": 1 << 24, "session_epoch": -1, "rack_id": "", "topics": [
        {"topic": topic, "partitions": [{"partition": 0, "fetch_offset": 0,
                                         "partition_max_bytes": 1 << 24}]}]})
    records = answer["responses"][0]["partitions"][0]["records"]
    found, at = [], 0
    while at < len(records):
        size = 12 + int.from_bytes(records[at + 8:at + 12], "big")
        found.append(bytes(8) + records[at + 8:at + size])  # as it was before it had an offset
        at += size
    return found


def write_batches(wire, topic, batches):
    for batch in batches:
        answer = wire.ask("Produce", 9, {"acks": -1, "timeout_ms": 10000, "topic_data": [
            {"name": topic, "partition_data": [{"index": 0, "records": batch}]}]})
        error = answer["responses"][0]["partition_responses"][0]["error_code"]
        assert error == 0, f"Produce: error {error}"


def turned(batch):
    """One byte of the last value turned, checksum of the batch right again."""
    changed = bytearray(batch)
    changed[-10] ^= 1
    changed[17:21] = crc32c(bytes(changed[21:])).to_bytes(4, "big")
    return bytes(changed)


def broken_streams(b):
    b.sound("produce", "--topic", "whole", "--create", 1, "--rate", 200, "--records", 4, "--seconds", 0.2,
            "--warmup", 0, "--connections", 1)
    with Client(b.broker.address) as wire:
        whole = reads_batches(wire, "whole")
        assert len(whole) == 10, len(whole)
        swapped = [*whole[:3], whole[4], whole[3], *whole[5:]]
        for name, batches, what, count in (
                ("sound", whole, None, 0),
                ("lost", whole[:5] + whole[6:], "lost", 4),
                ("repeated", whole[:6] + whole[5:], "repeated", 4),
                ("swapped", swapped, "disordered", 4),
                ("turned", [*whole[:-1], turned(whole[-1])], "damaged", 1)):
            wire.ask("CreateTopics", 7, {"timeout_ms": 10000, "topics": [
                {"name": name, "num_partitions": 1, "replication_factor": 1}]})
            write_batches(wire, name, batches)
            code, out, err, found = b.run("consume", "--topic", name)
            v = found["result"]["verified"]
            others = {k: v[k] for k in ("lost", "repeated", "disordered", "damaged") if k != what and v[k]}
            assert v.get(what, 0) == count and not others, (name, v)
            assert code == (FAILED if what else OK) and (what is None or "records:" in err), (name, err)


def misuse(b):
    for words, said in ((["produce"], "say --rate"), (["produce", "--rate", "x"], "is not a number"),
                        (["produce", "--rate", 5, "--max"], "contradict"),
                        (["produce", "--rate", 5, "--acks", 2], "is not 0, 1 or all"),
                        (["produce", "--max", "--codec", "rar"], "none, gzip"),
                        (["produce", "--max", "--idempotent", "--acks", 1], "needs --acks all"),
                        (["produce", "--max", "--in-flight", 0.5], "in-flight"),
                        (["produce", "--max", "--fresh"], "needs --create"),
                        (["produce", "--rate", 5, "--count", 5], "goes with --max"),
                        (["produce", "--max", "--slo", "p9<1ms"], "needs --rate"),
                        (["produce", "--rate", 5, "--slo", "p9=1ms"], "is not like"),
                        (["produce", "--rate", 5, "--sweep", "x=1"], "wants KEY=A,B.."),
                        (["produce", "--rate", 5, "--sweep", "quiet=true"], "wants KEY=A,B.."),
                        (["produce", "--rate", 5, "--sweep", "rate=1", "--slo", "x"], "different"),
                        (["e2e", "--max", "--recrods", 5], "did you mean --records")):
        code, out, err, _ = b.run(*words)
        assert code == USAGE and not out and said in err, (words, code, err)
    code, _, err, _ = b.run("produce", "--max", brokers="host.example:9092")
    assert code == USAGE and "no numeric address" in err, err


def failures(b):
    code, out, err, _ = b.run("produce", "--max", brokers="127.0.0.1:1")
    assert code == FAILED and "connect: Connection refused" in err and not out, err
    code, out, err, _ = b.run("produce", "--max", "--topic", "absent")
    assert code == FAILED and "there is no topic absent; --create N makes one" in err, err
    code, out, err, _ = b.run("produce", "--max", "--topic", "small", "--create", 1, "--config",
                              "max.message.bytes=1000", "--size", 2000, "--seconds", 0.1, "--warmup", 0)
    assert code == FAILED and "MESSAGE_TOO_LARGE" in err, err


def main():
    arguments(__doc__).parse_args()
    interrupt_on_term()
    report = Report()
    with Place() as place:
        broker = place.broker("torc", settings={"torc.slow.request.ms": 1}).start()
        bench = Bench(broker, place.folder)
        for case in (produce, kinds_of_batches, end_to_end, transactions, catch_up, connections, groups,
                     cost, floor, hdr, series, provenance, pages, bare, comparison, suite, stat, where_requests_are,
                     watch, slow_requests, broken_streams, misuse, failures):
            report.case(case.__name__.replace("_", " "), case, bench)
        place.keep = report.failed > 0
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
