"""What clients get from a directory: every question that its files answer, and how answers differ.

The answers of an undamaged directory are the truth. Of a damaged one each must be the same, or an error
that says so; a Fetch may give fewer records only with an error at the first that it does not give.
"""
import time

from harness.batch import read_batches
from harness.wire import Client, Closed, decode_response, request_bytes

from .directory import TOPICS, START, ROLL

CORRUPT, STORAGE = 2, 56
# What may be said instead of an answer: corrupt, storage, no leader, not this broker, coordinators that
# cannot load, the first of which an old epoch is.
ERRORS = {CORRUPT, STORAGE, 5, 6, 9, 14, 15, 16, 75, 76}
LOADED = {"OffsetFetch": "__consumer_offsets-0", "DescribeTransactions": "__transaction_state-0"}
PARTS = [(t, p) for t, n in TOPICS.items() for p in range(n)]
INTERNAL = [("__consumer_offsets", 0), ("__transaction_state", 0)]
TIMES = [-1, -2, -3, START, START + 3, START + ROLL + 1, START + 5 * ROLL, START + 14 * ROLL]


def by_topic(parts, **fields):
    topics = {}
    for t, p in parts:
        topics.setdefault(t, []).append(p)
    return topics


def questions():
    """All but Fetch: name -> (api, version, values)."""
    topics = by_topic(PARTS)
    asked = {"Metadata": ("Metadata", 9, {"topics": [{"name": t} for t in topics]})}
    for at in TIMES:
        asked[f"ListOffsets {at}"] = ("ListOffsets", 7, {"replica_id": -1, "isolation_level": 0, "topics": [
            {"name": t, "partitions": [{"partition_index": p, "timestamp": at} for p in ps]}
            for t, ps in topics.items()]})
    asked["OffsetForLeaderEpoch"] = ("OffsetForLeaderEpoch", 3, {"replica_id": -2, "topics": [
        {"topic": t, "partitions": [{"partition": p, "current_leader_epoch": -1, "leader_epoch": e}
                                    for p in ps for e in range(3)]} for t, ps in topics.items()]})
    asked["DescribeProducers"] = ("DescribeProducers", 0, {"topics": [
        {"name": t, "partition_indexes": ps} for t, ps in topics.items()]})
    for g in ("readers", "others"):
        asked[f"OffsetFetch {g}"] = ("OffsetFetch", 7, {"group_id": g, "topics": [
            {"name": "plain", "partition_indexes": [0, 1]}], "require_stable": True})
    asked["DescribeTransactions"] = ("DescribeTransactions", 0, {
        "transactional_ids": [f"teller-{i}" for i in range(4)]})
    asked["DescribeConfigs"] = ("DescribeConfigs", 2, {"resources": [
        {"resource_type": 2, "resource_name": t, "configuration_keys": None} for t in topics]})
    return asked


def fetch(parts, isolation, max_bytes=1 << 20):
    """parts: (topic, partition) -> offset."""
    topics = {}
    for (t, p), at in parts.items():
        topics.setdefault(t, []).append({"partition": p, "current_leader_epoch": -1, "fetch_offset": at,
                                         "partition_max_bytes": max_bytes})
    return ("Fetch", 12, {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 24, "session_epoch": -1,
                          "isolation_level": isolation,
                          "topics": [{"topic": t, "partitions": ps} for t, ps in topics.items()]})


def exchange(client, requests):
    """The answers to all of them, asked in one go."""
    client.socket.sendall(b"".join(len(r).to_bytes(4, "big") + r for r in requests))
    return [client.receive_frame() for _ in requests]


class Reader:
    """Asks a directory's questions; the first one to ask learns the truth."""

    def __init__(self):
        self.plan, self.truth, self.batches, self.starts = [], {}, {}, {}
        self.single = {}  # partition -> [(isolation, first offset, batch, request, its undamaged answer)]

    # ---- the truth -------------------------------------------------------------------------------

    def learn(self, address):
        """From an undamaged directory: answers, and the rounds of fetches that read everything."""
        with Client(address) as c:
            for name, asked in questions().items():
                self.remember(name, asked, self.settled(c, asked))
            for isolation in (0, 1):
                self.learn_fetches(c, isolation)
            self.learn_batches(c)
            self.plan.sort(key=lambda p: p[1][0] in LOADED)  # later, they are asked again less often
            frames = exchange(c, [p[2] for p in self.plan])
            self.plan = [(*p, frame) for p, frame in zip(self.plan, frames)]

    @staticmethod
    def settled(c, asked):
        """Coordinators may still be loading."""
        for _ in range(200):
            answer = c.ask(*asked)
            if not {14, 15} & set(errors_of(answer)):
                return answer
        raise RuntimeError(f"{asked[0]}: {answer}")

    def remember(self, name, asked, answer):
        self.truth[name] = answer
        self.plan.append((name, asked, request_bytes(*asked)))

    def learn_fetches(self, c, isolation):
        starts = c.ask(*questions()["ListOffsets -2"])
        at = {(t["name"], p["partition_index"]): p["offset"] for t in starts["topics"]
              for p in t["partitions"]}
        at.update({part: 0 for part in INTERNAL})
        self.starts = dict(at)
        for round_ in range(1000):
            asked = fetch(at, isolation)
            answer = c.ask(*asked)
            self.remember(f"Fetch {isolation}.{round_}", asked, answer)
            moved = False
            for (part, p) in fetched(answer):
                heads = read_batches(p["records"] or b"", partial=False)
                for head in heads:
                    moved = True
                    at[part] = head["base_offset"] + head["last_delta"] + 1
                    if isolation == 0:
                        self.batches.setdefault(part, []).append(head)
            if not moved:
                return
        raise RuntimeError("reading does not end")

    def learn_batches(self, c):
        for part, heads in self.batches.items():
            plan = [(i, max(h["base_offset"], self.starts.get(part, 0)), h) for i in (0, 1) for h in heads]
            asked = [request_bytes(*fetch({part: base}, i, 1)) for i, base, _ in plan]
            self.single[part] = [(*p, a, f) for p, a, f in zip(plan, asked, exchange(c, asked))]

    # ---- comparing -------------------------------------------------------------------------------

    def compare(self, address):
        """Returns (what was answered with an error, what was silently wrong), both lists of (partition it
        is about or None, text). What comes byte by byte as from the undamaged directory is right."""
        told, wrong, broken = [], [], set()
        with Client(address, 10) as c:
            frames = exchange(c, [p[2] for p in self.plan])
            for (name, asked, request, true), frame in zip(self.plan, frames):
                if frame == true:
                    continue
                answer = self.loaded(c, asked, request, true, frame)
                if answer is None:
                    continue
                if asked[0] == "Fetch":
                    broken |= self.differing(answer, self.truth[name])
                else:
                    differ(name, self.truth[name], answer, told, wrong)
            for part in sorted(broken):
                self.one_by_one(c, part, told, wrong)
        return told, wrong

    @staticmethod
    def loaded(c, asked, request, true, frame):
        """The answer, asked for again while a coordinator loads; None: it is the true one."""
        for _ in range(100):
            answer = decode_response(asked[0], asked[1], frame)[1]
            if asked[0] not in LOADED or not {14, 15} & set(errors_of(answer)):
                break
            time.sleep(0.001)
            (frame,) = exchange(c, [request])
            if frame == true:
                return None
        return answer

    @staticmethod
    def differing(answer, truth):
        before = dict(fetched(truth))
        return {part for part, p in fetched(answer) if p != before.get(part)} or set(before)

    def one_by_one(self, c, part, told, wrong):
        """Each batch asked for by its first offset: it comes, or an error does."""
        where, single = "%s-%d" % part, self.single.get(part, [])
        for (isolation, base, head, _, true), frame in zip(single, exchange(c, [s[3] for s in single])):
            if frame == true:
                continue
            p = dict(fetched(decode_response("Fetch", 12, frame)[1]))[part]
            if p["error_code"] in ERRORS or (base == 0 and p["error_code"] == 0 and
                                             p["log_start_offset"] < 0):
                told.append((where, f"{part} at {base}: error {p['error_code']}"))
                continue
            stable = isolation == 0 or base < p["last_stable_offset"]
            got = read_batches(p["records"] or b"")
            if p["error_code"]:
                wrong.append((where, f"{part} at {base}: error {p['error_code']}"))
            elif stable and not got:
                wrong.append((where, f"{part} at {base}: nothing, up to {p['high_watermark']}"))
            elif got and got[0] != head:
                odd = [k for k in head if got[0][k] != head[k]]
                wrong.append((where, f"{part} at {base}: another batch: "
                              f"{[(k, head[k], got[0][k]) for k in odd][:3]}"))
        for isolation in (0, 1):
            truth = [dict(fetched(self.truth[n]))[part] for n, *_ in self.plan
                     if n.startswith(f"Fetch {isolation}.") and part in dict(fetched(self.truth[n]))]
            p = dict(fetched(c.ask(*fetch({part: self.starts[part]}, isolation))))[part]
            if not p["error_code"]:
                for field in ("high_watermark", "last_stable_offset", "log_start_offset",
                              "aborted_transactions"):
                    if p[field] != truth[0][field]:
                        wrong.append((where, f"{part}: {field} {truth[0][field]} -> {p[field]}"))
            else:
                told.append((where, f"{part}: error {p['error_code']}"))


def fetched(answer):
    for t in answer["responses"]:
        for p in t["partitions"]:
            yield (t["topic"], p["partition_index"]), p


def errors_of(value):
    """All error codes in an answer."""
    if isinstance(value, dict):
        for k, v in value.items():
            if "error_code" in k and v:
                yield v
            else:
                yield from errors_of(v)
    elif isinstance(value, list):
        for v in value:
            yield from errors_of(v)


def differ(name, truth, answer, told, wrong):
    """Fields that are not as they were. What has an error beside it is excused."""
    stack = [(name, LOADED.get(name.partition(" ")[0]), None, truth, answer)]
    while stack:
        where, part, topic, a, b = stack.pop()
        if a == b or where == "Metadata.cluster_id":  # meta.properties has no checksum
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            topic = a.get("name") or a.get("topic") or topic
            number = a.get("partition_index", a.get("partition"))
            if part is None and topic is not None and number is not None:
                part = f"{topic}-{number}"
            errors = {v for k, v in b.items() if "error_code" in k and v}
            if errors and errors <= ERRORS:
                told.append((part, f"{where}: error {errors}"))
                continue
            stack += [(f"{where}.{k}", part, topic, a.get(k), b.get(k)) for k in {**a, **b}]
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            stack += [(f"{where}[{i}]", part, topic, x, y) for i, (x, y) in enumerate(zip(a, b))]
        else:
            wrong.append((part, f"{where}: {str(a)[:80]} -> {str(b)[:80]}"))
