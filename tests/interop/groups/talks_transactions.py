"""Conversations about transactions: their coordinator, what producers write in them, what readers see.

Clients of two generations speak here: those that add partitions first (Produce to v11, EndTxn to v4), and
those whose writes add them (Produce v12, TxnOffsetCommit v5, EndTxn v5), where each end raises the epoch.
"""
import time

from harness.batch import batch
from interop.groups.talk import LOADING, talk
from interop.groups.talks import commit, fetch, stable

CONCURRENT, NOBODY = 51, 1 << 41  # NOBODY: no producer's id


def init(txn, version=5, pid=-1, epoch=-1, timeout_ms=60000):
    values = {"transactional_id": txn, "transaction_timeout_ms": timeout_ms}
    if version >= 3:
        values.update(producer_id=pid, producer_epoch=epoch)
    return "InitProducerId", version, values


def topics_of(parts):
    return [{"name": n, "partitions": list(p)} for n, p in parts.items()]


def add(txn, who, version=3, **parts):
    """who: producer id and epoch. parts: tx_open=[0] for partition 0 of tx-open."""
    parts = {n.replace("_", "-"): p for n, p in parts.items()}
    return "AddPartitionsToTxn", version, {
        "v3_and_below_transactional_id": txn, "v3_and_below_producer_id": who[0],
        "v3_and_below_producer_epoch": who[1], "v3_and_below_topics": topics_of(parts)}


def add_many(*asked, version=5):
    """asked: (transactional id, who, verify only, parts)."""
    return "AddPartitionsToTxn", version, {"transactions": [
        {"transactional_id": txn, "producer_id": who[0], "producer_epoch": who[1],
         "verify_only": only, "topics": topics_of(parts)} for txn, who, only, parts in asked]}


def add_offsets(txn, who, group, version=3):
    return "AddOffsetsToTxn", version, {"transactional_id": txn, "producer_id": who[0],
                                        "producer_epoch": who[1], "group_id": group}


def end(txn, who, committed=True, version=4):
    return "EndTxn", version, {"transactional_id": txn, "producer_id": who[0],
                               "producer_epoch": who[1], "committed": committed}


def offsets(txn, who, group, version=4, offset=7, topic="plain", partition=0, metadata="note",
            generation=-1, member="", instance=None):
    values = {"transactional_id": txn, "group_id": group, "producer_id": who[0],
              "producer_epoch": who[1], "topics": [{"name": topic, "partitions": [
                  {"partition_index": partition, "committed_offset": offset,
                   "committed_metadata": metadata}]}]}
    if version >= 3:
        values.update(generation_id=generation, member_id=member, group_instance_id=instance)
    return "TxnOffsetCommit", version, values


def write(t, txn, who, sequence, topic, version=11, partition=0, count=1, transactional=True):
    records = batch([(b"k", b"v%d" % i) for i in range(count)], producer=who[0],
                    producer_epoch=who[1], sequence=sequence, attributes=16 * transactional)
    where = {"name": topic} if version < 13 else {"topic_id": t.ids[topic]}
    return "Produce", version, {"transactional_id": txn, "acks": -1, "timeout_ms": 9000,
                                "topic_data": [{**where, "partition_data": [
                                    {"index": partition, "records": records}]}]}


def read(t, topic, level, version=12, offset=0):
    where = {"topic": topic} if version < 13 else {"topic_id": t.ids[topic]}
    values = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "isolation_level": level,
              "topics": [{**where, "partitions": [
                  {"partition": 0, "fetch_offset": offset, "partition_max_bytes": 1 << 20}]}]}
    if version >= 7:
        values["session_epoch"] = -1
    return version, values


def ends(topic, level, version=7, timestamp=-1):
    return "ListOffsets", version, {"replica_id": -1, "isolation_level": level, "topics": [
        {"name": topic, "partitions": [{"partition_index": 0, "timestamp": timestamp}]}]}


def describe(*txns):
    return "DescribeTransactions", 0, {"transactional_ids": list(txns)}


def producers(topic, *partitions):
    return "DescribeProducers", 0, {"topics": [
        {"name": topic, "partition_indexes": list(partitions) or [0]}]}


def settled(answer):
    """An answer other than that the transaction before is not over yet."""
    if "topic_data" in answer or "responses" in answer:
        return not any(p["error_code"] == CONCURRENT for r in answer["responses"]
                       for p in r["partition_responses"])
    for key in ("results_by_topic_v3_and_below", "topic_results"):
        if any(p["partition_error_code"] == CONCURRENT for r in answer.get(key) or []
               for p in r["results_by_partition"]):
            return False
    return answer.get("error_code") not in (CONCURRENT, *LOADING)


def is_over(answer):
    return all(s["transaction_state"] not in ("PrepareCommit", "PrepareAbort", "PrepareEpochFence",
                                              "Ongoing")
               for s in answer["transaction_states"])


def start(t, txn, **how):
    """A new producer of an id; returns its id and epoch."""
    answer = t.until(settled, *init(txn, **how))
    return answer["producer_id"], answer["producer_epoch"]


@talk
def coordinators_of_transactions(t):
    t.until(lambda a: not a["error_code"], "FindCoordinator", 1, {"key": "tx", "key_type": 1})
    for v in range(1, 4):
        t.ask("FindCoordinator", v, {"key": "tx", "key_type": 1})
        t.ask("FindCoordinator", v, {"key": "", "key_type": 1})
        t.ask("FindCoordinator", v, {"key": "tx", "key_type": 3})
    for v in range(4, 7):
        t.ask("FindCoordinator", v, {"key_type": 1, "coordinator_keys": ["a", "", "b"]})
    for i in range(60):  # each of its partitions
        t.client("a").ask("FindCoordinator", 1, {"key": f"warm{i}", "key_type": 1})
        late = time.monotonic() + 20
        while time.monotonic() < late and t.client("a").ask(*init(f"warm{i}"))["error_code"] in LOADING:
            time.sleep(0.02)


@talk
def producers_begin(t):
    for v in range(6):
        name = f"begin{v}"
        t.ask(*init(None, v))
        t.ask(*init("", v))
        t.ask(*init(name, v, timeout_ms=0))
        t.ask(*init(name, v, timeout_ms=-1))
        t.ask(*init(name, v, timeout_ms=900001))
        t.ask(*init(None, v, timeout_ms=0))
        t.ask(*describe(name))
        t.ask(*init(name, v))
        t.ask(*init(name, v))
        t.ask(*init(name, v, timeout_ms=1234))
        t.ask(*describe(name))
    for v in range(3, 6):
        name = f"again{v}"
        t.ask(*init(name, v, NOBODY, 1))
        t.ask(*init(None, v, NOBODY, 1))
        pid, epoch = start(t, name, version=v)
        t.ask(*init(name, v, pid, -1))
        t.ask(*init(name, v, -1, epoch))
        t.ask(*init(name, v, pid, epoch + 3))
        t.ask(*init(name, v, NOBODY, epoch))
        t.ask(*init(name, v, pid, epoch))
        t.ask(*init(name, v, pid, epoch))
        t.ask(*init(name, v, pid, epoch))
        t.ask(*init(name, v))
        t.ask(*init(name, v, pid, epoch))
        t.ask(*describe(name))
    t.ask("InitProducerId", 6, {"transactional_id": "six", "transaction_timeout_ms": 1000})


@talk
def transactions_of_the_first_generation(t):
    sequence = 0
    for v in range(5):
        name, p = f"first{v}", (3, 5, 7, 9, 11)[v]
        who = start(t, name, version=v)
        t.ask(*write(t, name, who, 0, "tx-one", p))
        t.ask(*add(name, who, min(v, 3), tx_one=[0], tx_two=[0]))
        t.ask(*add(name, who, min(v, 3), tx_one=[0]))
        t.ask(*describe(name))
        t.ask(*write(t, name, who, 0, "tx-one", p))
        t.ask(*ends("tx-one", 0))
        t.ask(*ends("tx-one", 1))
        t.ask(*write(t, name, who, 1, "tx-one", p, count=3))
        t.ask(*write(t, name, who, 0, "tx-two", p))
        t.ask(*producers("tx-one"))
        t.until(settled, *end(name, who, True, v))
        t.until(settled, *end(name, who, True, v))
        t.until(is_over, *describe(name))
        t.ask(*end(name, who, False, v))
        t.read(*read(t, "tx-one", 1, offset=sequence))
        t.ask(*ends("tx-one", 1))
        t.until(settled, *add(name, who, min(v, 3), tx_one=[0]))
        t.ask(*write(t, name, who, 4, "tx-one", p))
        t.until(settled, *end(name, who, False, v))
        t.until(is_over, *describe(name))
        t.ask(*end(name, who, False, v))
        t.ask(*end(name, who, True, v))
        t.read(*read(t, "tx-one", 1, offset=sequence))
        t.read(*read(t, "tx-one", 0, offset=sequence))
        t.ask(*producers("tx-one"))
        sequence = t.ask(*ends("tx-one", 0))["topics"][0]["partitions"][0]["offset"]


@talk
def transactions_of_the_second_generation(t):
    for p in (12, 13):
        name = f"second{p}"
        who = start(t, name)
        t.ask(*end(name, who, True, 5))
        answer = t.ask(*end(name, who, False, 5))
        t.until(is_over, *describe(name))
        if not answer["error_code"] and answer["producer_epoch"] >= 0:
            who = answer["producer_id"], answer["producer_epoch"]
        t.until(settled, *write(t, name, who, 1, "tx-next", p))
        t.ask(*write(t, name, who, 0, "tx-next", p))
        t.ask(*write(t, name, who, 1, "tx-next", p))
        t.ask(*write(t, name, who, 1, "tx-next", p))
        t.ask(*write(t, name, who, 9, "tx-next", p))
        t.ask(*describe(name))
        t.ask(*producers("tx-next"))
        t.ask(*ends("tx-next", 1))
        old = who
        answer = t.until(settled, *end(name, who, True, 5))
        t.until(is_over, *describe(name))
        t.until(settled, *end(name, old, True, 5))
        t.ask(*end(name, old, False, 5))
        who = answer["producer_id"], answer["producer_epoch"]
        t.ask(*write(t, name, old, 2, "tx-next", p))
        t.ask(*write(t, name, who, 2, "tx-next", p))
        t.ask(*write(t, name, who, 0, "tx-next", p))
        old = who
        answer = t.until(settled, *end(name, who, False, 5))
        t.until(is_over, *describe(name))
        t.until(settled, *end(name, old, False, 5))
        t.ask(*end(name, old, True, 5))
        who = answer["producer_id"], answer["producer_epoch"]
        t.ask(*end(name, who, True, 5))
        answer = t.until(settled, *end(name, who, False, 5))
        t.until(is_over, *describe(name))
        t.ask(*end(name, (answer["producer_id"], answer["producer_epoch"]), False, 4))
        t.ask(*producers("tx-next"))
        t.read(*read(t, "tx-next", 1))
        t.ask(*ends("tx-next", 1))


@talk
def partitions_refused(t):
    who = start(t, "parts")
    for v in range(4):
        t.ask(*add("unheard", who, v, tx_one=[0]))
        t.ask(*add("", who, v, tx_one=[0]))
        t.ask(*add("parts", (NOBODY, who[1]), v, tx_one=[0]))
        t.ask(*add("parts", (who[0], who[1] + 1), v, tx_one=[0]))
        t.ask(*add("parts", (who[0], who[1] - 1), v, tx_one=[0]))
        t.ask(*add("parts", (-1, -1), v, tx_one=[0]))
        t.ask(*add("parts", who, v, nowhere=[0]))
        t.ask(*add("parts", who, v, tx_one=[0, 99], nowhere=[0]))
        t.ask(*add("parts", who, v))
        t.ask(*describe("parts"))
    for v in (4, 5):
        t.ask(*add_many(("parts", who, True, {"tx-one": [0]}), version=v))
        t.ask(*add_many(("parts", who, False, {"tx-one": [0], "nowhere": [0]}), version=v))
        t.ask(*add_many(("parts", who, False, {"tx-one": [0]}),
                        ("unheard", who, True, {"tx-one": [0]}), version=v))
        t.ask(*add_many(("parts", who, True, {"tx-one": [0], "tx-two": [0]}), version=v))
        t.ask(*add_many(("parts", (who[0], who[1] + 1), True, {"tx-one": [0]}), version=v))
        t.ask(*add_many(("parts", (NOBODY, 0), True, {"tx-one": [0]}), version=v))
        t.ask(*add_many(("", who, True, {"tx-one": [0]}), version=v))
        t.until(settled, *end("parts", who, False))
        t.until(is_over, *describe("parts"))


@talk
def writes_refused(t):
    who = start(t, "writes")
    other = start(t, "others")
    for p in (3, 8, 9, 11, 12, 13):
        t.ask(*write(t, None, who, 0, "tx-odd", p))
        t.ask(*write(t, "unheard", who, 0, "tx-odd", p))
        t.ask(*write(t, "writes", (who[0], who[1] + 1), 0, "tx-odd", p))
        t.ask(*write(t, "writes", (NOBODY, 0), 0, "tx-odd", p))
        if p < 12:
            t.ask(*write(t, "writes", who, 0, "tx-odd", p))
    t.ask(*add("writes", who, tx_odd=[0]))
    for p in (3, 8, 9, 11):
        t.ask(*write(t, "writes", other, 0, "tx-odd", p))
        t.ask(*write(t, "others", who, 0, "tx-odd", p))
        t.ask(*write(t, "writes", (who[0], who[1] + 1), 0, "tx-odd", p))
    t.ask(*write(t, "writes", who, 0, "tx-odd"))
    for p in (3, 8, 9, 11, 12):
        t.ask(*write(t, "writes", who, 1, "tx-odd", p, transactional=False))
        t.ask(*write(t, None, who, 1, "tx-odd", p, transactional=False))
        t.ask(*write(t, "writes", who, 5, "tx-odd", p))
    t.until(settled, *end("writes", who, False))
    t.until(is_over, *describe("writes"))
    t.ask(*write(t, "writes", who, 1, "tx-odd"))
    t.ask(*write(t, None, who, 1, "tx-odd", transactional=False))
    t.ask(*producers("tx-odd"))
    t.read(*read(t, "tx-odd", 1))
    for level in (0, 1):
        t.ask(*ends("tx-odd", level))


@talk
def ends_refused(t):
    for v in range(6):
        name = f"ends{v}"
        for committed in (True, False):
            t.ask(*end("unheard", (1, 0), committed, v))
            t.ask(*end("", (1, 0), committed, v))
            who = start(t, name)
            t.ask(*end(name, (NOBODY, who[1]), committed, v))
            t.ask(*end(name, (who[0], who[1] + 1), committed, v))
            t.ask(*end(name, (who[0], who[1] - 1), committed, v))
            t.ask(*end(name, who, committed, v))
            t.until(is_over, *describe(name))


@talk
def offsets_in_transactions(t):
    for v in range(6):
        name, group, e = f"offsets{v}", f"tx-group{v}", min(v, 4)
        who = start(t, name)
        t.ask(*commit(group, offset=3))
        if v < 5:
            t.ask(*offsets(name, who, group, v))
            t.ask(*add_offsets("unheard", who, group, e))
            t.ask(*add_offsets("", who, group, e))
            t.ask(*add_offsets(name, who, "", e))
            t.ask(*add_offsets(name, (who[0], who[1] + 1), group, e))
            t.ask(*add_offsets(name, (NOBODY, 0), group, e))
            t.ask(*add_offsets(name, who, group, e))
        t.until(settled, *offsets(name, who, group, v))
        t.ask(*offsets(name, who, group, v, metadata="x" * 4097))
        t.ask(*offsets(name, who, group, v, metadata=None, partition=1))
        t.ask(*offsets(name, who, group, v, topic="nowhere"))
        t.ask(*offsets(name, who, group, v, partition=99))
        t.ask(*offsets(name, who, "", v))
        t.ask(*offsets("", who, group, v))
        t.ask(*offsets(name, (who[0], who[1] + 1), group, v))
        if v >= 3:
            t.ask(*offsets(name, who, group, v, generation=1))
            t.ask(*offsets(name, who, group, v, member="somebody"))
            t.ask(*offsets(name, who, group, v, generation=1, member="somebody"))
            t.ask(*offsets(name, who, group, v, instance="i"))
        t.ask(*describe(name))
        t.ask(*fetch(group, 7))
        for f in range(7, 10):
            api, version, values = fetch(group, f)
            t.ask(api, version, {**values, "require_stable": True})
        t.ask("DeleteGroups", 2, {"groups_names": [group]}) if v == 4 else None
        answer = t.until(settled, *end(name, who, v % 2 == 0, 5 if v == 5 else 4))
        t.until(is_over, *describe(name))
        t.ask(*fetch(group, 7))
        who = (answer["producer_id"], answer["producer_epoch"]) if v == 5 else who
        if v < 5:
            t.until(settled, *add_offsets(name, who, group, e))
        t.until(settled, *offsets(name, who, group, v, offset=9))
        t.ask(*commit(group, offset=4))
        t.until(settled, *end(name, who, v % 2 == 1, 5 if v == 5 else 4))
        t.until(is_over, *describe(name))
        t.ask(*fetch(group, 7))


@talk
def offsets_of_members_in_transactions(t):
    group, name = "tx-members", "members"
    member, generation = stable(t, group)
    who = start(t, name)
    t.ask(*add_offsets(name, who, group))
    for v in (3, 4):
        t.ask(*offsets(name, who, group, v))
        t.ask(*offsets(name, who, group, v, generation=generation, member=member))
        t.ask(*offsets(name, who, group, v, generation=generation + 1, member=member))
        t.ask(*offsets(name, who, group, v, generation=generation, member="other"))
        t.ask(*offsets(name, who, group, v, generation=generation, member=member, instance="i"))
    t.until(settled, *end(name, who))
    t.until(is_over, *describe(name))
    t.ask(*fetch(group, 7))


@talk
def the_old_producer_is_fenced(t):
    for p, e in ((11, 4), (12, 5), (8, 1)):
        name = f"fenced{p}"
        who = start(t, name)
        if p < 12:
            t.ask(*add(name, who, tx_fence=[0]))
        t.until(settled, *write(t, name, who, 0, "tx-fence", p))
        new = start(t, name)
        t.until(is_over, *describe(name))
        t.ask(*end(name, who, True, e))
        t.ask(*write(t, name, who, 1, "tx-fence", p))
        t.ask(*add(name, who, tx_fence=[0]))
        t.ask(*add(name, who, 1, tx_fence=[0]))
        t.ask(*add_offsets(name, who, "g", 3))
        t.ask(*add_offsets(name, who, "g", 1))
        t.ask(*init(name, 5, *who))
        t.ask(*init(name, 3, *who))
        t.ask(*init(name, 4, *new))
        t.ask(*producers("tx-fence"))
        t.read(*read(t, "tx-fence", 1))
        t.ask(*ends("tx-fence", 1))


@talk
def transactions_time_out(t):
    for p, e in ((11, 4), (12, 5)):
        name = f"late{p}"
        who = start(t, name, timeout_ms=500)
        if p < 12:
            t.ask(*add(name, who, tx_late=[0]))
        t.until(settled, *write(t, name, who, 0, "tx-late", p))
        t.until(is_over, *describe(name))
        t.ask(*write(t, name, who, 1, "tx-late", p))
        t.ask(*end(name, who, True, e))
        t.ask(*add(name, who, tx_late=[0]))
        t.ask(*producers("tx-late"))
        t.read(*read(t, "tx-late", 1))
        t.ask(*init(name, 5, *who))
        t.ask(*init(name))


def mark(version, pid, epoch, committed, coordinator, *parts, **more):
    return "WriteTxnMarkers", version, {"markers": [
        {"producer_id": pid, "producer_epoch": epoch, "transaction_result": committed,
         "coordinator_epoch": coordinator, "topics": [
             {"name": n, "partition_indexes": p} for n, p in parts], **more}]}


@talk
def markers(t):
    for v in (1, 2):
        more = {"transaction_version": 2} if v == 2 else {}
        t.ask(*mark(v, 500000, 0, True, 5, ("tx-mark", [0])))
        t.ask(*mark(v, 500000, 0, False, 4, ("tx-mark", [0])))
        t.ask(*mark(v, 500000, 1, False, 5, ("tx-mark", [0]), ("nowhere", [0])))
        t.ask(*mark(v, 500000, 0, True, 5, ("tx-mark", [0, 99])))
        t.ask(*mark(v, 500000, 1, True, 6, ("tx-mark", [0]), **more))
        t.ask(*mark(v, 500000, 1 + v, True, 6, ("tx-mark", [0]), **more))
        t.ask(*mark(v, 500000, 3, True, 6, ("tx-gone", [0]), **more))
        t.ask(*mark(v, 500000, 3, True, 6))
        t.ask(*mark(v, 500000, 4, True, 6, ("__consumer_offsets", [0])))
    t.ask("WriteTxnMarkers", 1, {"markers": []})
    t.ask(*producers("tx-mark"))
    t.read(*read(t, "tx-mark", 1))
    t.ask(*ends("tx-mark", 1))
    who = start(t, "marked")
    t.ask(*add("marked", who, tx_mark=[0]))
    t.ask(*write(t, "marked", who, 0, "tx-mark"))
    t.ask(*ends("tx-mark", 1))
    t.ask(*mark(1, *who, False, 0, ("tx-mark", [0])))  # as an operator ends one that hangs
    t.ask(*producers("tx-mark"))
    t.read(*read(t, "tx-mark", 1))
    t.ask(*ends("tx-mark", 1))
    t.until(settled, *end("marked", who, True))
    t.until(is_over, *describe("marked"))
    t.ask(*ends("tx-mark", 0))


@talk
def what_readers_see(t):
    one, two = start(t, "see1"), start(t, "see2")
    plain = t.client("a").ask(*init(None))
    plain = plain["producer_id"], plain["producer_epoch"]
    t.ask(*write(t, None, plain, 0, "tx-see", transactional=False))
    t.ask(*add("see1", one, tx_see=[0]))
    t.ask(*add("see2", two, tx_see=[0]))
    t.ask(*write(t, "see1", one, 0, "tx-see"))
    t.ask(*write(t, None, plain, 1, "tx-see", transactional=False))
    t.ask(*write(t, "see2", two, 0, "tx-see", count=2))
    for level in (0, 1):
        for v in range(4, 19):
            t.read(*read(t, "tx-see", level, v))
        for v in range(2, 12):
            t.ask(*ends("tx-see", level, v))
        for stamp in (-2, -3, -4, 0, 1_700_000_000_000, 1_800_000_000_000):
            t.ask(*ends("tx-see", level, 8, stamp))
    t.ask(*producers("tx-see", 0, 9))
    t.ask(*producers("nowhere"))
    t.until(settled, *end("see1", one, True))
    t.until(is_over, *describe("see1"))
    t.ask(*ends("tx-see", 1))
    t.read(*read(t, "tx-see", 1))
    t.read(*read(t, "tx-see", 1, offset=4))
    t.until(settled, *end("see2", two, False))
    t.until(is_over, *describe("see2"))
    for v in range(4, 19):
        for offset in (0, 5, 7):
            t.read(*read(t, "tx-see", 1, v, offset))
    t.read(*read(t, "tx-see", 0))
    for stamp in (-1, -2, -3):
        t.ask(*ends("tx-see", 1, 8, stamp))
    t.ask("DeleteRecords", 2, {"timeout_ms": 9000, "topics": [
        {"name": "tx-see", "partitions": [{"partition_index": 0, "offset": 5}]}]})
    t.read(*read(t, "tx-see", 1, offset=5))


def list_transactions(version=2, **filters):
    return "ListTransactions", version, filters


@talk
def transactions_listed(t):
    t.ask(*describe("unheard", "", "list-b"))
    t.ask(*describe())
    a, b = start(t, "list-a"), start(t, "list-b")
    t.ask(*add("list-b", b, tx_list=[0], tx_one=[0], tx_two=[0]))
    t.ask(*describe("list-a", "list-b", "unheard"))
    for v in (0, 1, 2):
        mine = {"producer_id_filters": [a[0], b[0]]}
        t.ask(*list_transactions(v, **mine))
        t.ask(*list_transactions(v, producer_id_filters=[a[0], NOBODY]))
        t.ask(*list_transactions(v, producer_id_filters=[NOBODY]))
        t.ask(*list_transactions(v, state_filters=["Ongoing"], **mine))
        t.ask(*list_transactions(v, state_filters=["ongoing", "Empty", "strange"], **mine))
        t.ask(*list_transactions(v, state_filters=["strange"], **mine))
        t.ask(*list_transactions(v, state_filters=["Dead", ""], **mine))
    for v in (1, 2):
        t.ask(*list_transactions(v, duration_filter=0, **mine))
        t.ask(*list_transactions(v, duration_filter=3600000, **mine))
    t.until(settled, *end("list-b", b, False))
    t.until(is_over, *describe("list-b"))
    t.ask(*list_transactions(2, state_filters=["CompleteAbort"], **mine))


@talk
def transactions_by_pattern(t):
    start(t, "pattern-a")
    start(t, "pattern-b")
    for pattern in ("pattern-.*", "pattern-(a|c)", "attern", "", "[", "(?P<x>", "nothing"):
        more = {"producer_id_filters": [NOBODY]} if not pattern else {}
        t.ask(*list_transactions(2, transactional_id_pattern=pattern, **more))
