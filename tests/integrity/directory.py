"""A small data directory with everything in it that torc writes, and what a reader gets from it.

    topics       plain (codecs, two partitions), dated (timestamps apart), marked (transactions: committed,
                 aborted, open), kept (compacted twice), moved (its first records deleted)
    of the node  groups' offsets, a classic group, transactions' state, configurations, two snapshots

`stopped` is the directory after a clean stop, `killed` the same after more writes and SIGKILL: part of
what was acknowledged is then in the write-ahead log only. A directory is a dict of path and bytes.
"""
import gzip
import os
import struct
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from harness.batch import batch, record  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

WAIT_S, START = 30, 1_700_000_000_000
TOPICS = {"plain": 2, "dated": 1, "marked": 1, "kept": 1, "moved": 1}
SMALL = {"segment_ms": 60_000, "index_interval_bytes": 300}
ZEROS = bytes(4096)
ROLL = 120_000  # apart by so much, two batches are in two segments
SETTINGS = {
    "torc.cores": 1, "torc.wal.file.bytes": 1 << 20, "torc.wal.files": 2, "torc.cache.bytes": 16 << 20,
    "offsets.topic.num.partitions": 1, "transaction.state.log.num.partitions": 1,
    "log.cleaner.dedupe.buffer.size": 16 << 20, "log.cleaner.backoff.ms": 50,
    "log.initial.task.delay.ms": 50, "log.retention.ms": -1, "group.initial.rebalance.delay.ms": 0,
    "metadata.log.max.record.bytes.between.snapshots": 2000,
    "log.message.timestamp.after.max.ms": 1 << 60}


def load(folder):
    """All files below, but the lock."""
    found = {}
    for at in sorted(Path(folder).rglob("*")):
        if at.is_file() and at.name != ".lock":
            found[str(at.relative_to(folder))] = at.read_bytes()
    return found


def write(path, data):
    fd, end = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), len(data)
    while end >= len(ZEROS) and data[end - len(ZEROS):end] == ZEROS:
        end -= len(ZEROS)  # the rest is a hole
    os.write(fd, data if end == len(data) else data[:end])
    if end < len(data):
        os.ftruncate(fd, len(data))
    os.close(fd)


class Writer:
    """Requests until they are answered well, and every offset that was acknowledged."""

    def __init__(self, address, acked):
        self.client, self.acked = Client(address, WAIT_S), acked

    def until(self, api, version, values, error):
        late, last = time.monotonic() + WAIT_S, None
        while time.monotonic() < late:
            try:
                last = self.client.ask(api, version, values)
            except (OSError, Closed) as e:
                raise RuntimeError(f"{api}: {e}") from e
            if error(last) == 0:
                return last
            time.sleep(0.01)
        raise RuntimeError(f"{api}: {last}")

    def create(self, name, partitions, **configs):
        self.until("CreateTopics", 5, {"timeout_ms": 20000, "topics": [
            {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": [
                {"name": k.replace("_", "."), "value": str(v)} for k, v in configs.items()]}]},
            lambda a: a["topics"][0]["error_code"] if a["topics"][0]["error_code"] != 36 else 0)

    def configure(self, topic, name, value):
        self.until("IncrementalAlterConfigs", 1, {"resources": [
            {"resource_type": 2, "resource_name": topic, "configs": [
                {"name": name, "config_operation": 0, "value": value}]}]},
            lambda a: a["responses"][0]["error_code"])

    def produce(self, topic, raw, partition=0, txn=None):
        answer = self.until("Produce", 9, {
            "transactional_id": txn, "acks": -1, "timeout_ms": 9000, "topic_data": [
                {"name": topic, "partition_data": [{"index": partition, "records": raw}]}]},
            lambda a: a["responses"][0]["partition_responses"][0]["error_code"])
        base = answer["responses"][0]["partition_responses"][0]["base_offset"]
        count = struct.unpack_from(">i", raw, 57)[0]
        self.acked.setdefault((topic, partition), []).append((base, count, raw[61:]))

    def producer(self, txn=None):
        if txn:
            self.until("FindCoordinator", 2, {"key": txn, "key_type": 1}, lambda a: a["error_code"])
        a = self.until("InitProducerId", 4, {"transactional_id": txn, "transaction_timeout_ms": 900000},
                       lambda a: a["error_code"])
        return a["producer_id"], a["producer_epoch"]

    def add(self, txn, pid, epoch, topic):
        self.until("AddPartitionsToTxn", 3, {
            "v3_and_below_transactional_id": txn, "v3_and_below_producer_id": pid,
            "v3_and_below_producer_epoch": epoch,
            "v3_and_below_topics": [{"name": topic, "partitions": [0]}]},
            lambda a: a["results_by_topic_v3_and_below"][0]["results_by_partition"][0]
            ["partition_error_code"])

    def end(self, txn, pid, epoch, committed):
        self.until("EndTxn", 3, {"transactional_id": txn, "producer_id": pid, "producer_epoch": epoch,
                                 "committed": committed}, lambda a: a["error_code"])


def pairs(round_, count, size=40):
    return tuple((b"key-%d" % (i % 5), (b"%d.%d " % (round_, i)) * (size // 5)) for i in range(count))


def packed(round_, at):
    """A batch of a real codec, and one whose bytes a broker has no reason to look into."""
    body = gzip.compress(b"".join(record(i, k, v) for i, (k, v) in enumerate(pairs(round_, 4))))
    return batch(pairs(round_, 4), attributes=1, payload=body, time=at)


def fill(w, round_, acked):
    """One round of writes to everything."""
    pid, epoch = w.producer()
    for i in range(6):
        at = START + (4 * round_ + i // 3) * ROLL + i
        w.produce("plain", batch(pairs(i, 3), time=at, producer=pid, producer_epoch=epoch,
                                 sequence=3 * i))
        w.produce("plain", packed(round_ * 10 + i, at), 1)
        w.produce("dated", batch(pairs(i, 2), time=at + 1000 * (i ^ 1)))
        w.produce("kept", batch(pairs(i, 4), time=at))
        w.produce("moved", batch(pairs(i, 3), time=at))
    transactions(w, round_)
    w.until("FindCoordinator", 2, {"key": "readers", "key_type": 0}, lambda a: a["error_code"])
    for group in ("readers", "others"):
        w.until("OffsetCommit", 7, {"group_id": group, "topics": [
            {"name": "plain", "partitions": [
                {"partition_index": p, "committed_offset": 3 * round_ + p, "committed_metadata": group}
                for p in range(2)]}]}, lambda a: a["topics"][0]["partitions"][0]["error_code"])
    w.until("DeleteRecords", 2, {"timeout_ms": 9000, "topics": [
        {"name": "moved", "partitions": [{"partition_index": 0, "offset": 4 + 9 * round_}]}]},
        lambda a: a["topics"][0]["partitions"][0]["error_code"])
    w.configure("dated", "max.message.bytes", str(900_000 + round_))


def transactions(w, round_):
    for i in range(4):
        txn = f"teller-{i}"
        pid, epoch = w.producer(txn)
        w.add(txn, pid, epoch, "marked")
        for sequence in range(2):
            w.produce("marked", batch(pairs(i, 1), attributes=16, producer=pid, producer_epoch=epoch,
                                      sequence=sequence, time=START + (4 * round_ + i) * ROLL), txn=txn)
        if i < 3:
            w.end(txn, pid, epoch, i != 1)


def settle(broker, check, what):
    late = time.monotonic() + WAIT_S
    while not check(load(broker.data)):
        if time.monotonic() > late:
            raise RuntimeError(f"{what}: not after {WAIT_S} s")
        time.sleep(0.05)


def compacted(files):
    return any(n.startswith("kept-0/") and n.endswith("log-cleaned.torc") for n in files)


def make(place):
    """Returns {"stopped": files, "killed": files} and what was acknowledged by then, each."""
    acked, made = {}, {}
    broker = place.broker("torc", "made", settings=SETTINGS)
    broker.start()
    w = Writer(broker.address, acked)
    for name, partitions in TOPICS.items():
        w.create(name, partitions, **SMALL)
    w.configure("kept", "cleanup.policy", "compact")
    w.configure("kept", "min.cleanable.dirty.ratio", "0.01")
    for round_ in range(2):
        fill(w, round_, acked)
    settle(broker, compacted, "a compaction")
    w.configure("kept", "min.cleanable.dirty.ratio", "1")
    time.sleep(0.3)  # a round of cleaning that was under way
    w.client.close()
    if broker.stop() != 0:
        raise RuntimeError("no clean stop")
    made["stopped"] = (load(broker.data), {k: list(v) for k, v in acked.items()})
    broker.start()
    w = Writer(broker.address, acked)
    for round_ in range(2, 4):
        fill(w, round_, acked)
    w.client.close()
    broker.kill()
    made["killed"] = (load(broker.data), acked)
    return made
