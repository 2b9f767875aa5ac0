"""Those who load a broker with transactions and groups while it is killed, each a thread.

A party says what it was promised, never what it hopes: an outcome is known if an answer told it, or if a
later answer leaves only one. Each request is answered, by this broker process or a later one, within
the crew's patience, or that is a fault.
"""
import struct
import sys
import threading
import time
import traceback

from crash.committed import visible
from harness.batch import batch, read_records
from harness.wire import Client, Closed

ANSWER_S = 10
LEDGER, INPUT, OUTPUT = "ledger", "input", "output"
PARTS = {LEDGER: 6, INPUT: 4, OUTPUT: 4}
LOADING, CONCURRENT, UNSTABLE = (14, 15, 16), 51, 88
NOT_YET = (3, 5, 6, 7, 9, 19, 56, *LOADING, CONCURRENT)  # what a broker that has just started may say
GONE = (OSError, Closed, struct.error)
COMMITTED, ABORTED, EITHER = "committed", "aborted", "either"
SUBSCRIPTION = struct.pack(">hih", 0, 1, 5) + b"input" + struct.pack(">i", -1)


class Lost(Exception):
    """The broker went away under a request."""


class Party(threading.Thread):
    """A client that outlives its broker. ask() raises Lost when the connection broke: the request may
    or may not have been done."""

    def __init__(self, crew, name):
        super().__init__(name=name, daemon=True)
        self.crew, self.client, self.random = crew, None, crew.rng(name)
        self.slowest = 0.0

    def connect(self):
        late = time.monotonic() + self.crew.patience_s
        while self.client is None:
            try:
                self.client = Client(self.crew.address, ANSWER_S)
            except OSError:
                if time.monotonic() > late:
                    raise RuntimeError(f"{self.name}: no connection") from None
                time.sleep(0.01)

    def drop(self):
        if self.client is not None:
            self.client.close()
            self.client = None

    def ask(self, api, version, values):
        self.connect()
        try:
            return self.client.ask(api, version, values)
        except TimeoutError:
            self.drop()
            if self.crew.broker_is_up(ANSWER_S):
                raise RuntimeError(f"{self.name}: no answer to {api} in {ANSWER_S} s") from None
            raise Lost from None
        except GONE:
            self.drop()
            raise Lost from None

    def insist(self, api, version, values, error_of, again=NOT_YET):
        """Ask until the answer is no "not yet"; for what may be asked any number of times if again is
        all, and Lost is the caller's."""
        begin = time.monotonic()
        while True:
            answer = self.ask(api, version, values)
            error = error_of(answer)
            took = time.monotonic() - begin
            if error not in again:
                self.slowest = max(self.slowest, took)
                return answer
            if took > self.crew.patience_s:
                raise RuntimeError(f"{self.name}: {api} says {error} for {took:.0f} s")
            time.sleep(0.005)

    def insist_over(self, *words, **how):
        """The same, over the ends of brokers: only for what may be done twice."""
        late = time.monotonic() + 2 * self.crew.patience_s
        while True:
            try:
                return self.insist(*words, **how)
            except Lost:
                if time.monotonic() > late:
                    raise RuntimeError(f"{self.name}: the broker is never there") from None

    def run(self):
        try:
            while not self.crew.stopping(self):
                self.turn()
        except Exception as e:
            traceback.print_exc(file=sys.stdout)
            self.crew.fault("answer", f"{self.name}: {type(e).__name__}: {e}")
        self.drop()


def code(answer):
    return answer["error_code"]


def produce_code(answer):
    return max((p["error_code"] for t in answer["responses"] for p in t["partition_responses"]),
               default=0)


def add_code(answer):
    return max((p["partition_error_code"] for t in answer["results_by_topic_v3_and_below"]
                for p in t["results_by_partition"]), default=0)


def offsets_code(answer):
    return max((p["error_code"] for t in answer["topics"] for p in t["partitions"]), default=0)


class Writer(Party):
    """Transactions over the ledger's partitions and a group's offset, that commit and abort.

    generation 1 adds partitions first; generation 2's writes add them, and each end raises the epoch.
    """

    def __init__(self, crew, number, generation):
        super().__init__(crew, f"writer-{number}")
        self.number, self.generation = number, generation
        self.who, self.sequences, self.turns = None, {}, 0
        self.outcomes = {}  # number of a transaction -> (outcome, records, offset)
        self.group = f"writes-{number}"

    def init(self):
        """A new epoch: what was open is aborted by it."""
        answer = self.insist_over("InitProducerId", 4, {
            "transactional_id": self.name, "transaction_timeout_ms": 600000}, error_of=code)
        if code(answer):
            raise RuntimeError(f"InitProducerId says {code(answer)}")
        self.take(answer)

    def take(self, answer):
        who = answer["producer_id"], answer["producer_epoch"]
        if who != self.who:
            self.who, self.sequences = who, {}

    def about(self):
        return {"transactional_id": self.name, "producer_id": self.who[0],
                "producer_epoch": self.who[1]}

    def steps(self, n, parts):
        """The requests of a transaction before its end, as (api, version, values, code of the answer)."""
        if self.generation == 1:
            yield "AddPartitionsToTxn", 3, {
                "v3_and_below_transactional_id": self.name, "v3_and_below_producer_id": self.who[0],
                "v3_and_below_producer_epoch": self.who[1],
                "v3_and_below_topics": [{"name": LEDGER, "partitions": parts}]}, add_code
        for i, p in enumerate(parts):
            sequence = self.sequences.get(p, 0)
            value = b"%d %d %d %d" % (self.number, n, i, len(parts))
            records = batch([(b"k", value)], producer=self.who[0], producer_epoch=self.who[1],
                            sequence=sequence, attributes=16, time=int(time.time() * 1000))
            yield "Produce", 9 if self.generation == 1 else 12, {
                "transactional_id": self.name, "acks": -1, "timeout_ms": 9000, "topic_data": [
                    {"name": LEDGER, "partition_data": [{"index": p, "records": records}]}]
            }, produce_code
            self.sequences[p] = sequence + 1
        if n % 3 == 0:
            if self.generation == 1:
                yield "AddOffsetsToTxn", 3, {**self.about(), "group_id": self.group}, code
            yield "TxnOffsetCommit", 3 if self.generation == 1 else 5, {
                **self.about(), "group_id": self.group, "topics": [{"name": INPUT, "partitions": [
                    {"partition_index": 0, "committed_offset": n, "committed_metadata": ""}]}]
            }, offsets_code

    def turn(self):
        """One transaction. A break before its end is asked for: go on with it, or begin anew."""
        if self.who is None:
            self.init()
        self.turns += 1
        n, commit = self.turns, self.random.random() < 0.6
        parts = self.random.sample(range(PARTS[LEDGER]), self.random.randint(1, 4))
        persist = self.random.random() < 0.5
        for step in self.steps(n, parts):
            try:
                answer = (self.insist_over if persist else self.insist)(*step[:3], error_of=step[3])
            except Lost:
                return self.give_up(n, parts)
            if step[3](answer):
                raise RuntimeError(f"{step[0]} of transaction {n} says {step[3](answer)}")
        if self.random.random() < 0.03:  # it hangs until another one begins
            return self.give_up(n, parts)
        self.crew.ending.set()
        self.end(n, parts, commit, persist)

    def give_up(self, n, parts):
        self.init()
        self.note(n, ABORTED, parts)

    def note(self, n, outcome, parts):
        self.outcomes[n] = outcome, parts, n % 3 == 0
        self.crew.count(outcome)

    def end(self, n, parts, commit, persist):
        version = 3 if self.generation == 1 else 5
        try:
            answer = (self.insist_over if persist else self.insist)(
                "EndTxn", version, {**self.about(), "committed": commit}, error_of=code)
        except Lost:
            self.init()
            return self.note(n, EITHER if commit else ABORTED, parts)
        if code(answer):
            raise RuntimeError(f"EndTxn({commit}) of transaction {n} says {code(answer)}")
        self.note(n, COMMITTED if commit else ABORTED, parts)
        if self.generation == 2:
            self.take(answer)


class Feeder(Party):
    """Writes the numbers that the copiers copy, each once."""

    def __init__(self, crew):
        super().__init__(crew, "feeder")
        self.who, self.counts = None, [0] * PARTS[INPUT]

    def turn(self):
        if self.who is None:
            answer = self.insist_over("InitProducerId", 4, {
                "transactional_id": None, "transaction_timeout_ms": 9000}, error_of=code)
            self.who = answer["producer_id"], answer["producer_epoch"]
        p = self.random.randrange(PARTS[INPUT])
        count = self.random.randint(1, 20)
        records = [(None, b"%d %d" % (p, self.counts[p] + i)) for i in range(count)]
        answer = self.insist_over("Produce", 9, {
            "transactional_id": None, "acks": -1, "timeout_ms": 9000, "topic_data": [
                {"name": INPUT, "partition_data": [{"index": p, "records": batch(
                    records, producer=self.who[0], producer_epoch=self.who[1],
                    sequence=self.counts[p], time=int(time.time() * 1000))}]}]},
            error_of=produce_code)
        if produce_code(answer):
            raise RuntimeError(f"Produce says {produce_code(answer)}")
        self.counts[p] += count
        time.sleep(0.02)


class Copier(Party):
    """Exactly-once copies by a member of a group: consume, produce, offsets and records in one transaction.

    Whatever goes wrong, the way back is the same: a new epoch, which aborts what was open, then the group
    again, then the offsets that are committed."""

    GROUP = "copies"

    def __init__(self, crew, number):
        super().__init__(crew, f"copier-{number}")
        self.member, self.generation, self.who = "", -1, None
        self.at, self.sequences, self.copied = {}, {}, 0

    def begin(self):
        answer = self.insist_over("InitProducerId", 4, {
            "transactional_id": self.name, "transaction_timeout_ms": 60000}, error_of=code)
        if code(answer):
            raise RuntimeError(f"InitProducerId says {code(answer)}")
        self.who, self.sequences = (answer["producer_id"], answer["producer_epoch"]), {}

    def enter(self):
        """Join and sync; false if it must be tried again."""
        answer = self.insist_over("JoinGroup", 5, {
            "group_id": self.GROUP, "member_id": self.member, "protocol_type": "consumer",
            "session_timeout_ms": 6000, "rebalance_timeout_ms": 2000, "protocols": [
                {"name": "range", "metadata": SUBSCRIPTION}]}, error_of=code)
        if code(answer) == 25:
            self.member = ""
            return False
        self.member = answer["member_id"]
        if code(answer):
            return False
        self.generation, members = answer["generation_id"], answer["members"]
        shares = [{"member_id": m["member_id"], "assignment": bytes(
            range(i, PARTS[INPUT], len(members)))} for i, m in enumerate(members)]
        answer = self.insist_over("SyncGroup", 3, {
            "group_id": self.GROUP, "member_id": self.member, "generation_id": self.generation,
            "assignments": shares}, error_of=code)
        return code(answer) == 0 and self.find(answer["assignment"])

    def find(self, partitions):
        """Where to go on: what is committed, which an open transaction makes unknown."""
        self.at = {}
        if not partitions:
            return True
        answer = self.insist_over("OffsetFetch", 7, {
            "group_id": self.GROUP, "require_stable": True, "topics": [
                {"name": INPUT, "partition_indexes": list(partitions)}]},
            error_of=lambda a: code(a) or offsets_code(a), again=(*NOT_YET, UNSTABLE))
        self.at = {p["partition_index"]: max(0, p["committed_offset"])
                   for p in answer["topics"][0]["partitions"]}
        return True

    def turn(self):
        if self.who is None:
            self.begin()
            self.generation = -1
        if self.generation < 0 and not self.enter():
            self.generation = -1
            return
        try:
            beat = self.insist("Heartbeat", 3, {
                "group_id": self.GROUP, "member_id": self.member,
                "generation_id": self.generation}, error_of=code)
            if code(beat):
                self.generation = -1
                return
            self.copy()
        except Lost:
            self.who = None
            self.crew.count("copies given up")

    def read(self):
        """Some records of one partition: (partition, next offset, values)."""
        for p in self.random.sample(sorted(self.at), len(self.at)):
            answer = self.insist("Fetch", 11, {
                "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 4000,
                "isolation_level": 1, "session_epoch": -1, "topics": [
                    {"topic": INPUT, "partitions": [{"partition": p, "fetch_offset": self.at[p],
                                                     "partition_max_bytes": 4000}]}]},
                error_of=lambda a: a["responses"][0]["partitions"][0]["error_code"])
            found = [(r[0], r[3]) for head in visible(answer["responses"][0]["partitions"][0])
                     for r in read_records(head) if r[0] >= self.at[p]]
            if found:
                return p, found[-1][0] + 1, [v for _, v in found]
        return None

    def copy(self):
        """One transaction. An answer that ends it (a rebalance, a fence) is no fault."""
        found = self.read()
        if found is None:
            time.sleep(0.01)
            return
        p, after, values = found
        about = {"transactional_id": self.name, "producer_id": self.who[0],
                 "producer_epoch": self.who[1]}
        sequence = self.sequences.get(p, 0)
        records = batch([(b"%d" % p, v) for v in values], producer=self.who[0], attributes=16,
                        producer_epoch=self.who[1], sequence=sequence, time=int(time.time() * 1000))
        steps = [("AddPartitionsToTxn", 3, {
            **{f"v3_and_below_{k}": v for k, v in about.items()},
            "v3_and_below_topics": [{"name": OUTPUT, "partitions": [p]}]}, add_code),
            ("Produce", 9, {"transactional_id": self.name, "acks": -1, "timeout_ms": 9000,
                            "topic_data": [{"name": OUTPUT, "partition_data": [
                                {"index": p, "records": records}]}]}, produce_code),
            ("AddOffsetsToTxn", 3, {**about, "group_id": self.GROUP}, code),
            ("TxnOffsetCommit", 3, {
                **about, "group_id": self.GROUP, "generation_id": self.generation,
                "member_id": self.member, "topics": [{"name": INPUT, "partitions": [
                    {"partition_index": p, "committed_offset": after,
                     "committed_metadata": ""}]}]}, offsets_code)]
        for api, version, values_of, error_of in steps:
            error = error_of(self.insist(api, version, values_of, error_of=error_of))
            if error:
                return self.abort(api, error)
        self.crew.ending.set()
        error = code(self.insist("EndTxn", 3, {**about, "committed": True}, error_of=code))
        if error:
            return self.abort("EndTxn", error)
        self.at[p], self.sequences[p] = after, sequence + len(values)
        self.copied += len(values)

    def abort(self, api, error):
        if error not in (22, 25, 27) or api != "TxnOffsetCommit":  # its group has moved on
            raise RuntimeError(f"{api} says {error}")
        self.who = None
        self.crew.count("copies given up")


class Member(Party):
    """The one member of a group of the classic protocol: what it committed stays, and the group still
    knows it after a kill."""

    def __init__(self, crew, number):
        super().__init__(crew, f"member-{number}")
        self.group, self.member, self.generation, self.offset = f"plain-{number}", "", -1, 0

    def enter(self):
        while True:
            answer = self.insist_over("JoinGroup", 5, {
                "group_id": self.group, "member_id": self.member, "protocol_type": "consumer",
                "session_timeout_ms": 60000, "rebalance_timeout_ms": 1000, "protocols": [
                    {"name": "range", "metadata": SUBSCRIPTION}]}, error_of=code)
            self.member = answer["member_id"]
            if code(answer) == 79:
                continue
            if code(answer) == 25:
                self.member = ""
                continue
            if code(answer):
                raise RuntimeError(f"JoinGroup says {code(answer)}")
            self.generation = answer["generation_id"]
            synced = self.insist_over("SyncGroup", 3, {
                "group_id": self.group, "member_id": self.member, "generation_id": self.generation,
                "assignments": [{"member_id": self.member, "assignment": b"all"}]}, error_of=code)
            if code(synced) == 0 and synced["assignment"] == b"all":
                return

    def turn(self):
        if self.generation < 0:
            self.enter()
        self.offset += 1
        answer = self.insist_over("OffsetCommit", 7, {
            "group_id": self.group, "member_id": self.member,
            "generation_id_or_member_epoch": self.generation, "topics": [
                {"name": INPUT, "partitions": [{"partition_index": 1, "committed_metadata": "",
                                                "committed_offset": self.offset}]}]},
            error_of=offsets_code)
        if offsets_code(answer):
            raise RuntimeError(f"OffsetCommit in generation {self.generation} says "
                               f"{offsets_code(answer)}")
        self.crew.promise((self.group, 1), self.offset)
        time.sleep(0.01)


class NewMember(Party):
    """The same with the new protocol: its epoch, too, outlives the broker."""

    def __init__(self, crew, number):
        super().__init__(crew, f"new-member-{number}")
        self.group, self.epoch, self.offset = f"modern-{number}", 0, 0

    def beat(self, **more):
        answer = self.insist_over("ConsumerGroupHeartbeat", 0, {
            "group_id": self.group, "member_id": self.name, "member_epoch": self.epoch, **more},
            error_of=code)
        if code(answer):
            raise RuntimeError(f"ConsumerGroupHeartbeat in epoch {self.epoch} says {code(answer)}: "
                               f"{answer['error_message']}")
        self.epoch = answer["member_epoch"]
        return answer

    def turn(self):
        if self.epoch == 0:
            self.beat(rebalance_timeout_ms=5000, subscribed_topic_names=[INPUT], topic_partitions=[])
        answer = self.beat()
        if answer["assignment"]:
            self.beat(topic_partitions=answer["assignment"]["topic_partitions"])
        self.offset += 1
        answer = self.insist_over("OffsetCommit", 9, {
            "group_id": self.group, "member_id": self.name,
            "generation_id_or_member_epoch": self.epoch, "topics": [
                {"name": INPUT, "partitions": [{"partition_index": 1, "committed_metadata": "",
                                                "committed_offset": self.offset}]}]},
            error_of=offsets_code)
        if offsets_code(answer):
            raise RuntimeError(f"OffsetCommit in epoch {self.epoch} says {offsets_code(answer)}")
        self.crew.promise((self.group, 1), self.offset)
        time.sleep(0.01)


class Watcher(Party):
    """Asks for all committed offsets all the time: none may be less than what was promised or seen
    before. Reads the ledger as it grows."""

    def __init__(self, crew, groups, follower):
        super().__init__(crew, "watcher")
        self.groups, self.follower, self.seen = groups, follower, []

    def turn(self):
        for group, partitions in self.groups.items():
            least = {p: self.crew.promised.get((group, p), -1) for p in partitions}
            answer = self.insist_over("OffsetFetch", 7, {
                "group_id": group, "require_stable": False, "topics": [
                    {"name": INPUT, "partition_indexes": list(partitions)}]}, error_of=code)
            if code(answer):
                raise RuntimeError(f"OffsetFetch says {code(answer)}")
            for p in answer["topics"][0]["partitions"]:
                index, offset = p["partition_index"], p["committed_offset"]
                if offset < least[index]:
                    self.crew.fault("went back", f"{group} had {least[index]} committed in partition "
                                    f"{index}, now it is {offset}")
                self.crew.promise((group, index), offset)
        try:
            self.connect()
            self.seen += self.follower.take(self.client, 10)
        except GONE:
            self.drop()
        time.sleep(0.01)
