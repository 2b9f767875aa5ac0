"""What bounds a figure of perf/compare, measured in the same run: the load without a broker (perf/bare), the
device alone, the broker's own writes; and what of it goes into the saved run.

A bound is no excuse: it is shown beside each goal that was missed, with how far the broker is from both.
"""
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import rig

BATCH_BYTES, RECORD_BYTES = 150, 9  # of a request besides its values: headers, names
ANSWER_BYTES, FETCH_BYTES = 60, 100
COLD_BLOCK = 1 << 20


# ---- results -------------------------------------------------------------------------------------

def quantile(buckets, count, share):
    """In us: the upper bound of the bucket that holds it."""
    seen = 0
    for upper, number in buckets:
        seen += number
        if seen >= share * count:
            return upper / 1e3
    return buckets[-1][0] / 1e3 if buckets else 0


def merged_latency(parts):
    """Histograms are merged, percentiles never averaged."""
    sums = {}
    for part in parts:
        for upper, number in part["buckets_ns"]:
            sums[upper] = sums.get(upper, 0) + number
    buckets, count = sorted(sums.items()), sum(sums.values())
    most = max(part["max_us"] for part in parts)
    return {"count": count, "max_us": most, "buckets_ns": buckets,
            **{f"p{name}_us": min(quantile(buckets, count, float(name) / 100), most)
               for name in ("50", "90", "99", "99.9", "99.99")}}


def merged(results):
    """The rounds of a load as one: sums, merged histograms; over time the last of them, and the durable writes of the
    round in which they were fastest."""
    last = results[-1]
    keys = set.intersection(*(set(r["latency"]) for r in results)) & {"response", "end_to_end"}
    counts = {k: sum(r["counts"][k] for r in results) for k in last["counts"]}
    cost = {k: sum(r["cost"].get(k, 0) for r in results) for k in ("broker_cpu_s", "generator_cpu_s")}
    data = counts["bytes"] + counts["read_bytes"]
    if data and cost["broker_cpu_s"]:
        cost["broker_cpu_s_per_gb"] = cost["broker_cpu_s"] / data * 1e9
    return {**{k: last[k] for k in ("kind", "about", "options", "slices", "slice_s")},
            "seconds": sum(r["seconds"] for r in results), "read_seconds": sum(r["read_seconds"] for r in results),
            "rounds": len(results), "counts": counts, "cost": cost,
            "wal": min((r["wal"] for r in results if "wal" in r), key=lambda w: w["us"], default=None),
            "latency": {k: merged_latency([r["latency"][k] for r in results]) for k in keys},
            **({"verified": last["verified"]} if "verified" in last else {})}


# ---- without a broker ----------------------------------------------------------------------------

def shape(words):
    """Of a load's words: what perf/bare has to know of it."""
    said = {w: words[i + 1] for i, w in enumerate(words[:-1]) if str(w).startswith("--")}
    records, size = said.get("--records", 1), said.get("--size", 1024)
    found = ["--connections", said.get("--connections", 4), "--in-flight", said.get("--in-flight", 5),
             "--records", records, "--size", size, "--answer", ANSWER_BYTES,
             "--request", BATCH_BYTES + records * (size + RECORD_BYTES)]
    return found + (["--rate", said["--rate"] / records] if "--rate" in said else [])


def fetches(result):
    """The same for a load that reads: answers as large as they were, one under way per connection."""
    counts = result["counts"]
    answer = counts["read_bytes"] // counts["fetches"]
    return ["--connections", result["options"]["consumers"], "--in-flight", 1, "--request", FETCH_BYTES,
            "--answer", answer, "--records", 1, "--size", answer]


def bare(*words):
    """A run of perf/bare: its result, and its durable writes."""
    task = subprocess.run(list(map(str, [rig.BUILD / "perf/bare", *words])), text=True, capture_output=True,
                          stdin=subprocess.DEVNULL)
    if task.returncode:
        raise RuntimeError(f"perf/bare: {task.stdout}{task.stderr}")
    found = json.loads(task.stdout)
    result = found["result"]
    del result["verified"]  # nothing was
    return {**result, "wal": writes(found["writes"], found["written_bytes"], found["writing_ns"])}


def sendfile(place, *words):
    """The same by sendfile, out of the page cache."""
    answer = words[words.index("--answer") + 1]
    with tempfile.NamedTemporaryFile(dir=place) as file:
        file.write(bytes(answer))
        file.flush()
        return bare("--sendfile", file.name, *words)


def writes(count, size, ns):
    return {"count": count, "bytes": size / count if count else 0, "us": ns / count / 1e3 if count else 0}


def wal(broker):
    """What a running torc says of its write-ahead log so far: writes, bytes, ns."""
    task = subprocess.run([rig.BUILD / "torc", "stat", "--brokers", broker.address, "--json"], text=True,
                          capture_output=True, stdin=subprocess.DEVNULL)
    log = json.loads(task.stdout)["log"] if task.returncode == 0 else {}
    return (log["wal_writes"], log["wal_bytes"], log["wal_write_ns"]["sum"]) if log else (0, 0, 0)


def start_s(place):
    """From exec of the program to its end, doing nothing: what every start of it takes."""
    begin = time.monotonic()
    subprocess.run([rig.BUILD / "torc", "version"], cwd=place, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


# ---- reading what is on the device ---------------------------------------------------------------

def forget(files):
    """The page cache lets go of them; what is not written yet it keeps."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def read_direct(files):
    """Bytes and seconds of reading them past the page cache, a piece after the other."""
    import mmap  # page-aligned memory, as O_DIRECT wants it
    piece, total, begin = mmap.mmap(-1, COLD_BLOCK), 0, time.monotonic()
    for path in files:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        size = COLD_BLOCK
        while size == COLD_BLOCK:  # a shorter piece is the file's end
            size = os.readv(fd, [piece])
            total += size
        os.close(fd)
    return total, time.monotonic() - begin


class Reader(threading.Thread):
    """Reads again and again until it is stopped: what `once` does, which says bytes and seconds."""

    def __init__(self, files, once):
        super().__init__(daemon=True)
        self.files, self.once, self.rates, self.over, self.error = files, once, [], threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.over.is_set():
                forget(self.files)
                size, seconds = self.once()
                self.rates.append(size / seconds / 1e6)
        except (OSError, RuntimeError, ValueError, KeyError) as e:
            self.error = e

    def stop(self):
        """MB/s, the median of the times it was read."""
        self.over.set()
        self.join()
        if self.error:
            raise RuntimeError(f"cold read: {self.error}")
        return rig.middle(self.rates)


# ---- quiet ---------------------------------------------------------------------------------------

def settle(broker, limit_s, pause_s=0.5, cpu=0.05, written=1 << 20):
    """Until a broker does next to nothing twice in a row, or the limit. Returns whether it does."""
    def used():
        io = Path(f"/proc/{broker.process.pid}/io").read_text()
        return broker.cpu_ns() / 1e9, int(io.split("write_bytes: ")[1].split()[0])

    limit, calm = time.monotonic() + limit_s, 0
    while calm < 2 and time.monotonic() < limit:
        before = used()
        time.sleep(pause_s)
        after = used()
        idle = after[0] - before[0] < cpu * pause_s and after[1] - before[1] < written
        calm = calm + 1 if idle else 0
    return calm == 2
