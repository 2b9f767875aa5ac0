"""Conversations with those that take part in transactions: partitions, and groups that commit offsets."""
import time

from harness.batch import batch
from interop.groups.talk import LOADING, talk

CONCURRENT, WAIT_S = 51, 20


def begin(t, name, version=4):
    """A new transactional id; its producer id and epoch."""
    late = time.monotonic() + WAIT_S
    values = {"transactional_id": name, "transaction_timeout_ms": 60000}
    t.client("a").ask("FindCoordinator", 4, {"key_type": 1, "coordinator_keys": [name]})
    while True:
        answer = t.client("a").ask("InitProducerId", version, values)
        if answer["error_code"] not in (*LOADING, CONCURRENT) or time.monotonic() > late:
            return answer["producer_id"], answer["producer_epoch"]
        time.sleep(0.05)


def produce(t, version, name, pid, epoch, sequence, topic="plain", partition=0, n=1, attributes=16):
    made = batch([(b"k", b"v")] * n, attributes=attributes, producer=pid, producer_epoch=epoch,
                 sequence=sequence, time=int(time.time() * 1000))
    where = {"topic_id": t.ids[topic]} if version >= 13 else {"name": topic}
    answer = t.ask("Produce", version, {
        "transactional_id": name, "acks": -1, "timeout_ms": 5000, "topic_data": [
            {**where, "partition_data": [{"index": partition, "records": made}]}]})
    for topics in answer["responses"]:  # each broker has its own words, and time of what is repeated
        for p in topics["partition_responses"]:
            p.pop("error_message", None)
            p.pop("log_append_time_ms")
    t.lines[-1] = (*t.lines[-1][:3], t.even(answer))


def add(t, name, pid, epoch, topic="plain", partitions=(0,)):
    t.ask("AddPartitionsToTxn", 3, {
        "v3_and_below_transactional_id": name, "v3_and_below_producer_id": pid,
        "v3_and_below_producer_epoch": epoch,
        "v3_and_below_topics": [{"name": topic, "partitions": list(partitions)}]})


def end(t, name, pid, epoch, committed, version=3):
    """Until nothing of it waits for its markers."""
    answer = t.ask("EndTxn", version, {"transactional_id": name, "producer_id": pid,
                                       "producer_epoch": epoch, "committed": committed})
    late = time.monotonic() + WAIT_S
    while time.monotonic() < late:
        seen = t.client("a").ask("DescribeTransactions", 0, {"transactional_ids": [name]})
        if not seen["transaction_states"][0]["transaction_state"].startswith("Prepare"):
            break
        time.sleep(0.02)
    return answer


def mark(t, version, pid, epoch, committed, coordinator=0, topic="plain", partitions=(0,), kind=0):
    more = {"transaction_version": kind} if version >= 2 else {}
    t.ask("WriteTxnMarkers", version, {"markers": [{
        "producer_id": pid, "producer_epoch": epoch, "transaction_result": committed,
        "coordinator_epoch": coordinator, **more,
        "topics": [{"name": topic, "partition_indexes": list(partitions)}]}]})


def read(t, version, offset=0, committed=1, topic="plain"):
    where = {"topic_id": t.ids[topic]} if version >= 13 else {"topic": topic}
    t.ask("Fetch", version, {"max_wait_ms": 0, "max_bytes": 1 << 20, "isolation_level": committed,
                             "topics": [{**where, "partitions": [
                                 {"partition": 0, "fetch_offset": offset,
                                  "partition_max_bytes": 1 << 20}]}]})


def latest(t, topic="plain"):
    for isolation in (0, 1):
        for when in (-1, -2):
            t.ask("ListOffsets", 7, {"replica_id": -1, "isolation_level": isolation, "topics": [
                {"name": topic, "partitions": [{"partition_index": 0, "timestamp": when}]}]})


def commit(t, version, name, pid, epoch, generation=-1, member="", group="txns", topic="plain",
           partition=0, offset=5, metadata="note"):
    p = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
    if version >= 2:
        p["committed_leader_epoch"] = 3
    more = {"generation_id": generation, "member_id": member} if version >= 3 else {}
    t.ask("TxnOffsetCommit", version, {
        "transactional_id": name, "group_id": group, "producer_id": pid, "producer_epoch": epoch,
        **more, "topics": [{"name": topic, "partitions": [p]}]})


def committed(t):
    for stable in (False, True):
        for topics in ([{"name": "plain", "partition_indexes": [0, 1]}], None):
            t.ask("OffsetFetch", 8, {"require_stable": stable, "groups": [
                {"group_id": "txns", "topics": topics}]})


# ---- talks ---------------------------------------------------------------------------------------

@talk
def writes_that_were_not_added(t):
    pid, epoch = begin(t, "not-added")
    for v in (9, 10, 11):
        produce(t, v, "not-added", pid, epoch, 0)
    for v in (9, 11, 12):
        produce(t, v, "not-added", pid + 1000, epoch, 0)
        produce(t, v, "not-added", pid, epoch + 1, 0)
        produce(t, v, "never-was", pid, epoch, 0)
        produce(t, v, None, pid, epoch, 0)


@talk
def a_transaction_of_version_1(t):
    pid, epoch = begin(t, "one")
    add(t, "one", pid, epoch, partitions=(0, 1))
    produce(t, 9, "one", pid, epoch, 0, n=2)
    produce(t, 9, "one", pid, epoch, 0, n=2)  # once more the same
    produce(t, 11, "one", pid, epoch, 5)  # a gap
    produce(t, 9, "one", pid, epoch, 2, attributes=0)
    produce(t, 9, "one", pid, epoch, 0, partition=1)
    produce(t, 9, "one", pid, epoch, 0, partition=2)
    latest(t)
    read(t, 12)
    end(t, "one", pid, epoch, True)
    latest(t)
    read(t, 12)
    produce(t, 9, "one", pid, epoch, 2)
    add(t, "one", pid, epoch)
    produce(t, 9, "one", pid, epoch, 2)
    end(t, "one", pid, epoch, False)
    for v in (4, 11, 12, 13, 18):
        read(t, v)
    read(t, 12, committed=0)
    t.ask("DescribeProducers", 0, {"topics": [{"name": "plain", "partition_indexes": [0]}]})


@talk
def a_transaction_of_version_2(t):
    pid, epoch = begin(t, "two")
    for v in (12, 13):
        produce(t, v, "two", pid, epoch, 0, "small")
        produce(t, v, "two", pid, epoch, 1, "small")
        read(t, 12, topic="small")
        answer = end(t, "two", pid, epoch, v == 13, version=5)
        produce(t, v, "two", pid, epoch, 2, "small")
        pid, epoch = answer["producer_id"], answer["producer_epoch"]
        produce(t, v, "two", pid, epoch, 3, "small")
    latest(t, "small")
    read(t, 13, topic="small")


@talk
def markers(t):
    for v in (1, 2):
        mark(t, v, 500, 3, True, coordinator=3, topic="marked")
        mark(t, v, 500, 2, True, coordinator=3, topic="marked")
        mark(t, v, 500, 3, True, coordinator=2, topic="marked")
        mark(t, v, 501, 0, False, topic="marked")
        mark(t, v, 501, 0, False, topic="marked", partitions=(7,))
        mark(t, v, 501, 0, False, topic="nowhere")
    mark(t, 2, 502, 1, False, topic="marked", kind=2)
    mark(t, 2, 502, 0, False, topic="marked", kind=2)
    t.ask("WriteTxnMarkers", 1, {"markers": []})
    read(t, 12, topic="marked")
    t.ask("DescribeProducers", 0, {"topics": [{"name": "marked", "partition_indexes": [0]}]})


@talk
def offsets_in_a_transaction(t):
    pid, epoch = begin(t, "offsets")
    for v in range(5):
        commit(t, v, "offsets", pid, epoch)
    for v in (5, 0, 2, 3, 4, 5):
        commit(t, v, "offsets", pid, epoch, offset=10 + v)
        commit(t, v, "offsets", pid, epoch, topic="nowhere")
        commit(t, v, "offsets", pid, epoch, partition=9)
        commit(t, v, "offsets", pid, epoch, metadata="n" * 5000)
        commit(t, v, "offsets", pid, epoch, group="")
        commit(t, v, "offsets", pid, epoch + 1)
        commit(t, v, "offsets", pid + 1000, epoch)
        if v >= 3:
            commit(t, v, "offsets", pid, epoch, 3, "nobody")
            commit(t, v, "offsets", pid, epoch, -1, "nobody")
    committed(t)
    end(t, "offsets", pid, epoch, True)
    committed(t)
    commit(t, 3, "offsets", pid, epoch)
    t.ask("AddOffsetsToTxn", 3, {"transactional_id": "offsets", "producer_id": pid,
                                 "producer_epoch": epoch, "group_id": "txns"})
    commit(t, 3, "offsets", pid, epoch, offset=99)
    committed(t)
    end(t, "offsets", pid, epoch, False)
    committed(t)


@talk
def deleting_a_group_whose_offsets_wait(t):
    pid, epoch = begin(t, "waiting")
    commit(t, 5, "waiting", pid, epoch, group="gone")
    t.ask("DeleteGroups", 2, {"groups_names": ["gone"]})
    end(t, "waiting", pid, epoch, True)
    t.ask("OffsetFetch", 8, {"groups": [{"group_id": "gone", "topics": None}]})
    t.ask("DescribeGroups", 6, {"groups": ["gone"]})


@talk
def batches_that_follow_each_other_at_once(t):
    """Facts of one connection, sent without waiting: in order, whatever is verified meanwhile."""
    pid, epoch = begin(t, "hasty")
    client, asked = t.client("a"), 12
    for i in range(asked):
        made = batch([(b"k", b"v")], attributes=16, producer=pid, producer_epoch=epoch, sequence=i)
        client.send("Produce", 12, {"transactional_id": "hasty", "acks": -1, "timeout_ms": 5000,
                                    "topic_data": [{"name": "small", "partition_data": [
                                        {"index": 0, "records": made}]}]})
        client.correlation -= 1  # all of them under one number: the answers come in order
    client.correlation += 1
    got = [client.receive("Produce", 12)["responses"][0]["partition_responses"][0]
           for _ in range(asked)]
    first = got[0]["base_offset"]
    t.note("Produce", 12, {}, {"codes": [p["error_code"] for p in got],
                               "offsets": [p["base_offset"] - first for p in got]})
    end(t, "hasty", pid, epoch, True, version=5)
