"""Records: writing them, right and wrong, reading them, and asking where they are."""
from harness.batch import batch

from ..case import NOWHERE, Id, Pid, case



def produce(records, topic="plain", partition=0, acks=-1, transactional=None):
    """By name up to version 12, by id from 13."""
    def values(v):
        made = records(v) if callable(records) else records
        where = NOWHERE if topic == "nowhere" else Id(topic)
        return {"acks": acks, "timeout_ms": 10000, "transactional_id": transactional,
                "topic_data": [{"name": topic, "topic_id": where, "partition_data": [
                    {"index": partition, "records": made}]}]}
    return values


ONE = batch()
THREE = batch(((b"a", b"1"), (None, b"2"), (b"c", None)))
BOTH = "3-13"
case("a record", "Produce", BOTH, produce(ONE))
case("three records", "Produce", BOTH, produce(THREE))
case("acks 1", "Produce", BOTH, produce(ONE, acks=1))
case("acks 0", "Produce", BOTH, produce(ONE, acks=0), silent=True)
case("acks 2", "Produce", BOTH, produce(ONE, acks=2))
case("gzip", "Produce", BOTH, produce(batch(((b"k", b"v" * 500),) * 5, attributes=1)))
case("an unknown topic", "Produce", BOTH, produce(ONE, "nowhere"))
case("an unknown partition", "Produce", BOTH, produce(ONE, partition=77))
case("a negative partition", "Produce", BOTH, produce(ONE, partition=-1))
case("a wrong checksum", "Produce", BOTH, produce(batch(crc=7)))
case("too large", "Produce", BOTH, produce(batch(((b"k", b"x" * 5000),)), "small"))
case("magic 1", "Produce", BOTH, produce(batch(magic=1)))
case("magic 3", "Produce", BOTH, produce(batch(magic=3)))
case("count too high", "Produce", BOTH, produce(batch(count=2)))
case("count zero", "Produce", BOTH, produce(batch(count=0)))
case("count negative", "Produce", BOTH, produce(batch(count=-1)))
case("last delta too high", "Produce", BOTH, produce(batch(last_delta=5)))
case("last delta negative", "Produce", BOTH, produce(batch(last_delta=-1)))
case("two batches", "Produce", BOTH, produce(ONE + ONE))
case("no bytes", "Produce", BOTH, produce(b""))
case("null records", "Produce", 9, produce(None), wait_s=2)  # Kafka never answers it
case("half a batch", "Produce", BOTH, produce(ONE[:-5]))
case("half a head", "Produce", BOTH, produce(ONE[:30]))
case("bytes after the batch", "Produce", BOTH, produce(ONE + b"more"))
case("a length too long", "Produce", BOTH, produce(batch(length=9999)))
case("a length too short", "Produce", BOTH, produce(batch(length=3)))
case("a negative length", "Produce", BOTH, produce(batch(length=-1)))
case("no gzip in gzip", "Produce", BOTH, produce(batch(attributes=1, payload=b"plain text")))
case("no zstd in zstd", "Produce", BOTH, produce(batch(attributes=4, payload=b"plain text")))
case("codec 5", "Produce", BOTH, produce(batch(attributes=5)))
case("a control batch", "Produce", BOTH, produce(batch(attributes=32)))
case("transactional without an id", "Produce", BOTH, produce(batch(attributes=16)))
case("broken records", "Produce", BOTH, produce(batch(payload=b"\x14\0\0\0\x7fabc", count=1)))
case("a record too long", "Produce", BOTH, produce(batch(payload=b"\x7e\0\0\0\x02a\x02b\0")))
case("a base offset of its own", "Produce", BOTH, produce(batch(base_offset=55)))
case("an epoch of its own", "Produce", BOTH, produce(batch(epoch=55)))
case("far in the future", "Produce", BOTH, produce(batch(time=9_000_000_000_000)))
case("no key where it is needed", "Produce", BOTH, produce(batch(((None, b"v"),)), "compacted"))
case("a key where it is needed", "Produce", BOTH, produce(batch(((b"k", b"v"),)), "compacted"))
case("with the broker's time", "Produce", BOTH, produce(ONE, "appended"))
case("several partitions", "Produce", BOTH, lambda v: {
    "acks": -1, "timeout_ms": 10000, "topic_data": [
        {"name": t, "topic_id": Id(t), "partition_data": [
            {"index": p, "records": r} for p, r in parts]}
        for t, parts in (("plain", [(1, ONE), (2, batch(crc=7)), (77, ONE)]),
                         ("small", [(0, ONE)]))]})
case("no topics", "Produce", BOTH, {"acks": -1, "timeout_ms": 1000, "topic_data": []})

case("a producer id", "InitProducerId", "0-5", {
    "transactional_id": None, "transaction_timeout_ms": 60000}, keep="first", until_ok=True)
case("an empty transactional id", "InitProducerId", "0-5", {"transaction_timeout_ms": 60000})
case("bump an unknown id", "InitProducerId", "3-5", {
    "transactional_id": None, "transaction_timeout_ms": 60000, "producer_id": 987654, "producer_epoch": 3})


def sequenced(pid, sequence, epoch=0, n=1):
    def values(v):
        return {"acks": -1, "timeout_ms": 10000, "topic_data": [
            {"name": f"seq-{v}", "topic_id": Id(f"seq-{v}"), "partition_data": [
                {"index": 0, "records": (batch, dict(
                    records=((b"k", b"v"),) * n, producer=Pid(pid), producer_epoch=epoch,
                    sequence=sequence))}]}]}
    return values


for n, (name, sequence, epoch, count) in enumerate([
        ("first", 0, 0, 3), ("next", 3, 0, 2), ("first again", 0, 0, 3), ("next again", 3, 0, 2),
        ("a gap", 9, 0, 1), ("half a repeat", 4, 0, 1), ("a later epoch", 0, 2, 1),
        ("an older epoch", 5, 1, 1), ("a later epoch from the middle", 7, 3, 1),
        ("no sequence", -1, 2, 1)]):
    case(f"sequence: {name}", "Produce", "3-13", sequenced("first", sequence, epoch, count))


def fetch(topic="plain", partition=0, offset=0, epoch=-1, **more):
    def values(v):
        part = {"partition": partition, "fetch_offset": offset, "current_leader_epoch": epoch,
                "partition_max_bytes": 1 << 20}
        part.update(more.get("part", {}))
        where = NOWHERE if topic == "nowhere" else Id(topic)
        base = {"replica_id": -1, "max_wait_ms": 50, "min_bytes": 1, "max_bytes": 1 << 22,
                "session_epoch": -1,
                "topics": [{"topic": topic, "topic_id": where, "partitions": [part]}]}
        base.update({k: x for k, x in more.items() if k != "part"})
        return base
    return values


ALL = "4-18"
case("from the beginning", "Fetch", ALL, fetch())
case("from the middle", "Fetch", ALL, fetch(offset=2))
case("committed only", "Fetch", ALL, fetch(isolation_level=1))
case("at the end", "Fetch", ALL, fetch("empty", 0, 0))
case("an unknown topic", "Fetch", ALL, fetch("nowhere"))
case("an unknown partition", "Fetch", ALL, fetch(partition=77))
case("beyond the end", "Fetch", ALL, fetch(offset=1_000_000))
case("before the beginning", "Fetch", ALL, fetch(offset=-5))
case("deleted records", "Fetch", ALL, fetch("cut", 0, 1))
case("a newer leader epoch", "Fetch", "9-18", fetch(epoch=50))
case("one byte at most", "Fetch", ALL, fetch(max_bytes=1, part={"partition_max_bytes": 1}))
case("no bytes at most", "Fetch", ALL, fetch(part={"partition_max_bytes": 0}))
case("a session", "Fetch", "7-18", fetch(session_id=0, session_epoch=0))
case("an unknown session", "Fetch", "7-18", fetch(session_id=12345, session_epoch=1))
case("a strange session epoch", "Fetch", "7-18", fetch(session_id=12345, session_epoch=0))
case("a diverging epoch", "Fetch", "12-18", fetch(part={"last_fetched_epoch": 50}))
case("no topics", "Fetch", ALL, fetch(topics=[]))
case("an unknown replica", "Fetch", "4-14", fetch(replica_id=7))
case("an idempotent producer's", "Fetch", ALL, lambda v: fetch(f"seq-{min(v, 13)}")(v))


def offsets(time, topic="plain", partition=0, epoch=-1, isolation=0):
    return {"replica_id": -1, "isolation_level": isolation, "timeout_ms": 1000, "topics": [
        {"name": topic, "partitions": [{"partition_index": partition, "timestamp": time,
                                        "current_leader_epoch": epoch}]}]}


for name, time in (("latest", -1), ("earliest", -2), ("by time", 1_600_000_000_000),
                   ("after the last", 1_900_000_000_000), ("time 0", 0)):
    case(name, "ListOffsets", "1-11", offsets(time))
case("latest committed", "ListOffsets", "2-11", offsets(-1, isolation=1))
case("the largest time", "ListOffsets", "1-11", offsets(-3))
case("the largest time of nothing", "ListOffsets", "7-11", offsets(-3, "empty"))
case("earliest local", "ListOffsets", "1-11", offsets(-4))
case("latest tiered", "ListOffsets", "1-11", offsets(-5))
case("earliest pending upload", "ListOffsets", "1-11", offsets(-6))
case("a strange time", "ListOffsets", "1-11", offsets(-77))
case("an unknown topic", "ListOffsets", "1-11", offsets(-1, "nowhere"))
case("an unknown partition", "ListOffsets", "1-11", offsets(-1, partition=77))
case("a newer leader epoch", "ListOffsets", "4-11", offsets(-1, epoch=50))
case("the right leader epoch", "ListOffsets", "4-11", offsets(-1, epoch=0))
case("after deleting", "ListOffsets", "1-11", offsets(-2, "cut"))


def epochs(epoch, topic="plain", partition=0, current=-1):
    return {"replica_id": -1, "topics": [{"topic": topic, "partitions": [
        {"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}]}]}


for name, values in (("epoch 0", epochs(0)), ("a future epoch", epochs(9)),
                     ("a negative epoch", epochs(-1)), ("an unknown topic", epochs(0, "nowhere")),
                     ("an unknown partition", epochs(0, partition=77)),
                     ("a newer leader epoch", epochs(0, current=50)),
                     ("of nothing", epochs(0, "empty"))):
    case(name, "OffsetForLeaderEpoch", "2-4", values)


def delete(offset, topic="cut", partition=0):
    return {"timeout_ms": 5000, "topics": [{"name": topic, "partitions": [
        {"partition_index": partition, "offset": offset}]}]}


case("up to an offset", "DeleteRecords", "0-2", lambda v: delete(2 + v))
case("what is deleted", "DeleteRecords", "0-2", delete(1))
case("beyond the end", "DeleteRecords", "0-2", delete(1000))
case("up to the end", "DeleteRecords", "0-2", delete(-1, "plain", 2))
case("up to a strange offset", "DeleteRecords", "0-2", delete(-2))
case("of an unknown topic", "DeleteRecords", "0-2", delete(1, "nowhere"))
case("of an unknown partition", "DeleteRecords", "0-2", delete(1, partition=77))
case("of a compacted topic", "DeleteRecords", "0-2", delete(1, "compacted"))

case("producers", "DescribeProducers", 0, {"topics": [
    {"name": "seq-13", "partition_indexes": [0, 5]}, {"name": "nowhere", "partition_indexes": [0]}]})
