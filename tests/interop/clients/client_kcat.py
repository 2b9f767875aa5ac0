"""kcat, on Debian's librdkafka: write ADDRESS, or read ADDRESS TOPIC...

It cannot choose timestamps nor other headers for each record, so it writes lines of its own, and reads
both these and the other clients' records.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from harness.report import Report  # noqa: E402
from interop.clients.dataset import *  # noqa: E402,F403

WAIT_S = 30
LINES = 400


def kcat(address, *words, stdin=""):
    task = subprocess.run(["kcat", "-b", address, "-m", "15", *words], input=stdin, text=True,
                          capture_output=True, timeout=WAIT_S)
    expect(task.returncode == 0, f"kcat {' '.join(words)}: {task.stderr[-300:]}")
    return task.stdout


def line(i):
    return f"key-{i}\tline {i} " + "x" * (i % 200)


def consume(address, topic, partition, offset="beginning", *more):
    where = [] if partition is None else ["-p", str(partition)]
    out = kcat(address, "-C", "-q", "-e", "-J", "-X", "fetch.wait.max.ms=20", "-t", topic, *where,
               "-o", offset, *more)
    return [json.loads(text) for text in out.splitlines()]


def write_codec(address, codec, idempotent):
    topic = f"kcat-{codec}" + "-idempotent" * idempotent
    for partition in (0, 1):  # the topic is made with two partitions by the broker's default
        words = ["-P", "-t", topic, "-p", str(partition), "-K", "\t", "-z", codec, "-H", "from=kcat"]
        words += ["-X", "enable.idempotence=true", "-X", "acks=all"] if idempotent else []
        kcat(address, *words, stdin="".join(line(i) + "\n" for i in range(LINES)))
    for partition in (0, 1):
        got = consume(address, topic, partition)
        expect([r["offset"] for r in got] == list(range(LINES)), f"{len(got)} records")
        for i, r in enumerate(got):
            expect(f"{r['key']}\t{r['payload']}" == line(i), f"record {i}: {str(r)[:200]}")
            expect(r["headers"] == ["from", "kcat"], f"record {i}: {r['headers']}")


def files_and_nulls(address):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("a whole file\nas one record\n" * 2000)
        file.flush()
        kcat(address, "-P", "-t", "kcat-file", "-p", "0", file.name)
        kcat(address, "-P", "-t", "kcat-file", "-p", "0", "-Z", "-K", ":", stdin="gone:\n")
        whole, gone = consume(address, "kcat-file", 0)
        expect(whole["payload"] == open(file.name).read(), "the file came back otherwise")
        expect((gone["key"], gone["payload"]) == ("gone", None), f"{gone}")


def queries(address):
    about = json.loads(kcat(address, "-L", "-J", "-t", "kcat-none"))
    expect(len(about["brokers"]) == 1 and len(about["topics"][0]["partitions"]) == 2, f"{about}")
    out = kcat(address, "-Q", "-t", "kcat-none:0:-1", "-t", "kcat-none:1:-2")
    expect(out.splitlines() == [f"kcat-none [0] offset {LINES}", "kcat-none [1] offset 0"], out)
    expect([r["offset"] for r in consume(address, "kcat-none", 0, "-3")] ==
           [LINES - 3, LINES - 2, LINES - 1], "the last three")
    expect(len(consume(address, "kcat-none", 0, "100", "-c", "5")) == 5, "five from 100")
    first = consume(address, "kcat-none", 0, "0", "-c", "1")[0]["ts"]
    expect(len(consume(address, "kcat-none", 0, f"s@{first}")) == LINES, "all since the first")


def read_topic(address, topic):
    records = consume(address, topic, None)
    for p in range(PARTITIONS):
        got = [r for r in records if r["partition"] == p]
        expect([r["offset"] for r in got] == list(range(COUNT // PARTITIONS)), f"{len(got)} records")
    for r in records:
        flat = r.get("headers", [])
        headers = [(k, v.encode()) for k, v in zip(flat[::2], flat[1::2])]
        key, value = (None if r[w] is None else r[w].encode() for w in ("key", "payload"))
        if key is None and key_of(r["offset"] * PARTITIONS + r["partition"]) == b"":
            key = b""  # kcat shows an empty key as null
        check_record(r["partition"], r["offset"], key, value, headers, r["ts"])


def main(mode, address, *topics):
    report = Report()
    if mode == "read":
        for topic in topics:
            report.case(f"reads {topic}", read_topic, address, topic)
        return report.end()
    for codec in CODECS:
        report.case(f"writes and reads {codec}", write_codec, address, codec, False)
    report.case("writes and reads lz4, idempotent", write_codec, address, "lz4", True)
    for case in (files_and_nulls, queries):
        report.case(case.__name__.replace("_", " "), case, address)
    return report.end()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
