"""What coordinators and the cleaner keep, passed on with a directory: transactions, a classic group's
member, a compacted topic.

At each turn some transactions are finished and some left open; whoever opens the directory next must
know all of them, and let each open one end as its producer asks:

    goes-on    written to, left open    ─▶ one more record with the next sequence, then committed
    given-up   written to, left open    ─▶ InitProducerId: aborted
    offsets    a group's offset in it   ─▶ unstable till it is committed, then the group's
"""
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from crash.committed import Follower  # noqa: E402
from harness.batch import batch  # noqa: E402

TX, LEAN, CLASSIC = "transactional", "compacted", "classic-group"
PARTS, KEYS, ROUNDS, WAIT_S = 2, 20, 40, 60
CONCURRENT, UNSTABLE, LOADING = 51, 88, (14, 15, 16)
IDS = ["committed", "aborted", "goes-on", "given-up", "offsets"]
TOPICS = [{"name": TX, "num_partitions": PARTS, "replication_factor": 1},
          {"name": LEAN, "num_partitions": 1, "replication_factor": 1, "configs": [
              {"name": "cleanup.policy", "value": "compact"},
              {"name": "min.cleanable.dirty.ratio", "value": "0.01"},
              {"name": "segment.ms", "value": "1000"}]}]
CHECKPOINT = "cleaner-offset-checkpoint"


def again(attempt, code, what, more=()):
    """Until what was just started or ended is ready; returns the answer."""
    late = time.monotonic() + WAIT_S
    while (error := code(answer := attempt())) in (CONCURRENT, *LOADING, *more):
        if time.monotonic() > late:
            raise RuntimeError(f"{what}: error {error} for {WAIT_S} s")
        time.sleep(0.05)
    return answer


def plain(answer):
    return answer["error_code"]


def of_parts(answer):
    return max([p["error_code"] for t in answer.get("topics") or answer["responses"]
                for p in t.get("partitions") or t["partition_responses"]], default=0)


class Producer:
    """A transactional producer of the first generation, which outlives the broker it talks to."""

    def __init__(self, name):
        self.name, self.who, self.sequences = name, None, [0] * PARTS

    def begin(self, c):
        again(lambda: c.ask("FindCoordinator", 2, {"key": self.name, "key_type": 1}), plain, "find")
        answer = again(lambda: c.ask("InitProducerId", 4, {
            "transactional_id": self.name, "transaction_timeout_ms": 600000}), plain, "init")
        self.who, self.sequences = (answer["producer_id"], answer["producer_epoch"]), [0] * PARTS
        return plain(answer)

    def about(self):
        return {"transactional_id": self.name, "producer_id": self.who[0],
                "producer_epoch": self.who[1]}

    def add(self, c):
        def code(answer):
            return max(p["partition_error_code"] for t in answer["results_by_topic_v3_and_below"]
                       for p in t["results_by_partition"])
        return code(again(lambda: c.ask("AddPartitionsToTxn", 3, {
            **{f"v3_and_below_{k}": v for k, v in self.about().items()},
            "v3_and_below_topics": [{"name": TX, "partitions": list(range(PARTS))}]}), code, "add"))

    def write(self, c, text):
        """A record to each partition."""
        for p in range(PARTS):
            records = batch([(b"k", b"%s of %s" % (text.encode(), self.name.encode()))],
                            producer=self.who[0], producer_epoch=self.who[1], attributes=16,
                            sequence=self.sequences[p], time=int(time.time() * 1000))
            answer = again(lambda: c.ask("Produce", 9, {
                "transactional_id": self.name, "acks": -1, "timeout_ms": 9000, "topic_data": [
                    {"name": TX, "partition_data": [{"index": p, "records": records}]}]}),
                of_parts, "produce")
            self.sequences[p] += 1
            if of_parts(answer):
                return of_parts(answer)
        return 0

    def offset(self, c, offset):
        again(lambda: c.ask("AddOffsetsToTxn", 3, {**self.about(), "group_id": "in-transaction"}),
              plain, "add offsets")
        return of_parts(again(lambda: c.ask("TxnOffsetCommit", 3, {
            **self.about(), "group_id": "in-transaction", "topics": [{"name": TX, "partitions": [
                {"partition_index": 0, "committed_offset": offset, "committed_metadata": "m"}]}]}),
            of_parts, "commit offsets"))

    def end(self, c, committed):
        error = plain(again(lambda: c.ask("EndTxn", 3, {**self.about(), "committed": committed}),
                            plain, "end"))
        again(lambda: describe(c)[self.name], lambda d: CONCURRENT if d["transaction_state"].startswith(
            "Prepare") else 0, "the end")
        return error


def describe(c):
    answer = again(lambda: c.ask("DescribeTransactions", 0, {"transactional_ids": IDS}),
                   lambda a: max(s["error_code"] for s in a["transaction_states"]), "describe")
    for s in answer["transaction_states"]:
        s["topics"].sort(key=lambda t: t["topic"])
        for t in s["topics"]:
            t["partitions"].sort()
    return {s["transactional_id"]: s for s in answer["transaction_states"]}


def active(c):
    """The producers of the transactional topic, but for who coordinates."""
    answer = c.ask("DescribeProducers", 0, {"topics": [
        {"name": TX, "partition_indexes": list(range(PARTS))}]})
    found = {p["partition_index"]: sorted(
        ({k: v for k, v in a.items() if k != "coordinator_epoch"} for a in p["active_producers"]),
        key=lambda a: a["producer_id"]) for p in answer["topics"][0]["partitions"]}
    return dict(sorted(found.items()))


def read(c, level):
    """All records, and the ends that readers of that level see."""
    follower, found, late = Follower({TX: PARTS}, level), [], time.monotonic() + WAIT_S
    ends = {(TX, p): None for p in range(PARTS)}
    while time.monotonic() < late:
        found += follower.take(c, 20)
        ends = follower.stable if level else follower.high
        if len(ends) == PARTS and all(follower.at[w] >= ends[w] for w in ends):
            break
    return sorted((p, offset, value) for _, p, offset, _, value, _ in found), dict(ends)


def fetch(c, stable):
    answer = again(lambda: c.ask("OffsetFetch", 7, {
        "group_id": "in-transaction", "require_stable": stable, "topics": [
            {"name": TX, "partition_indexes": [0]}]}), plain, "fetch offsets")
    part = answer["topics"][0]["partitions"][0]
    return part["committed_offset"], part["error_code"]


class State:
    """What one turn leaves and the next must find."""

    def __init__(self, data):
        self.data, self.turns, self.last, self.offset = data, 0, {}, -1
        self.producers = {name: Producer(name) for name in IDS}
        self.values, self.member, self.group = {}, None, None

    # ---- leaving ---------------------------------------------------------------------------------

    def leave(self, c):
        """Write, end some and not others, and note how all stands."""
        self.turns += 1
        errors = {}
        for name, p in self.producers.items():
            errors[f"begin {name}"] = p.begin(c)
            errors[f"add {name}"] = p.add(c)
            errors[f"write {name}"] = p.write(c, f"turn {self.turns}")
        errors["offset"] = self.producers["offsets"].offset(c, 100 + self.turns)
        errors["commit"] = self.producers["committed"].end(c, True)
        errors["abort"] = self.producers["aborted"].end(c, False)
        self.join(c)
        self.compact(c)
        self.note(c)
        return {k: v for k, v in errors.items() if v}

    def note(self, c):
        self.last = {"transactions": describe(c), "producers": active(c),
                     "what is committed": read(c, 1), "all records": read(c, 0),
                     "the offset before the transaction": fetch(c, False),
                     "an offset in a transaction as unstable": fetch(c, True)}

    def join(self, c):
        """The one member of a group; it joins anew each turn if the one before has left."""
        member = {"group_id": CLASSIC, "protocol_type": "consumer", "session_timeout_ms": 1800000,
                  "rebalance_timeout_ms": 1000,
                  "protocols": [{"name": "range", "metadata": b"\0\1\0\0\0\0\xff\xff\xff\xff"}]}
        again(lambda: c.ask("FindCoordinator", 2, {"key": CLASSIC}), plain, "find")
        if self.member is None:
            first = again(lambda: c.ask("JoinGroup", 5, {**member, "member_id": ""}), plain, "join")
            self.member = first["member_id"]
        joined = again(lambda: c.ask("JoinGroup", 5, {**member, "member_id": self.member}), plain,
                       "join")
        self.generation = joined["generation_id"]
        c.ask("SyncGroup", 3, {"group_id": CLASSIC, "generation_id": self.generation,
                               "member_id": self.member, "assignments": [
                                   {"member_id": self.member, "assignment": b"all of it"}]})
        self.group = self.describe_group(c)

    @staticmethod
    def describe_group(c):
        return again(lambda: c.ask("DescribeGroups", 5, {"groups": [CLASSIC]})["groups"][0], plain,
                     "describe")

    def compact(self, c):
        """The same keys again and again; times that begin a segment for each round of the cleaner."""
        begin = int(time.time() * 1000) - 3_600_000 + self.turns * 600_000
        for n in range(ROUNDS):
            pairs = [(b"key-%d" % k, b"%d of turn %d, round %d" % (k, self.turns, n))
                     for k in range(KEYS)]
            answer = c.ask("Produce", 9, {"acks": -1, "timeout_ms": 9000, "topic_data": [
                {"name": LEAN, "partition_data": [
                    {"index": 0, "records": batch(pairs, time=begin + n * 10_000)}]}]})
            if of_parts(answer):
                raise RuntimeError(f"the compacted topic: {of_parts(answer)}")
            self.values.update(pairs)
        late = time.monotonic() + WAIT_S
        while self.cleaned() <= self.offset:
            if time.monotonic() > late:
                raise RuntimeError(f"{LEAN} is never compacted")
            time.sleep(0.1)
        self.offset = self.cleaned()

    def cleaned(self):
        """How far the cleaner has come, by its checkpoint."""
        file = self.data / CHECKPOINT
        words = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return next((int(w[2]) for w in words if w[:2] == [LEAN, "0"]), -1)

    # ---- finding ---------------------------------------------------------------------------------

    def find(self, c):
        """Facts that must hold on the same directory at another broker: (fact, what is wrong)."""
        left = self.last
        self.note(c)
        for fact, want in left.items():
            got = self.last[fact]
            yield f"finds {fact}", "" if got == want else f"{str(got)[:900]}, not {str(want)[:900]}"
        got = self.describe_group(c)
        yield "finds the classic group", "" if got == self.group else f"{got}, not {self.group}"
        beat = again(lambda: c.ask("Heartbeat", 3, {
            "group_id": CLASSIC, "member_id": self.member, "generation_id": self.generation}),
            plain, "heartbeat")
        yield "knows its member", plain(beat) and f"error {plain(beat)}"
        yield from self.finish(c)
        follower, kept = Follower({LEAN: 1}), {}
        late = time.monotonic() + WAIT_S
        while not follower.done() and time.monotonic() < late:
            kept.update((key, value) for _, _, _, key, value, _ in follower.take(c, 20))
        yield "has the latest of each key", "" if kept == self.values else f"{kept}"

    def finish(self, c):
        """Each open transaction ends as its producer asks."""
        before = {value for _, _, value in self.last["what is committed"][0]}
        wrote = self.producers["goes-on"].write(c, f"turn {self.turns}, later")
        ended = self.producers["goes-on"].end(c, True)
        yield "lets an open transaction go on", (wrote or ended) and f"errors {wrote}, {ended}"
        epoch = self.producers["given-up"].who[1]
        error = self.producers["given-up"].begin(c)
        now = self.producers["given-up"].who[1]
        yield "aborts one that is begun anew", "" if not error and now > epoch else (
            f"error {error}, epoch {epoch}, then {now}")
        error = self.producers["offsets"].end(c, True)
        got, want = fetch(c, True), (100 + self.turns, 0)
        yield "commits offsets with their transaction", "" if not error and got == want else (
            f"error {error}, {got}, not {want}")
        records, ends = read(c, 1)
        new = {v for _, _, v in records} - before
        want = {b"%s of goes-on" % t.encode() for t in (f"turn {self.turns}",
                                                        f"turn {self.turns}, later")}
        want.add(b"turn %d of offsets" % self.turns)
        yield "shows what was committed then, and nothing else", "" if new == want else f"{new}"
        yield "leaves nothing open", "" if ends == read(c, 0)[1] else f"{ends}"
