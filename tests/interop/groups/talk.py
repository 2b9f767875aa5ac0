"""A conversation that two brokers must hold alike: a function of a Talk.

A talk has connections by name, so that several clients can be held at once. What is said and answered
is noted; ids that a broker makes up (of members, of producers) are numbered as they appear, times are
evened out, and what has no order is sorted.
"""
import base64
import copy
import re
import struct
import time

from harness.batch import read_batches
from harness.wire import Client

TALKS = []
MEMBER = re.compile(r"([\w.]*-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MADE = re.compile(r"[\w-]{22}")  # a member id that a broker has made for a consumer group
LOADING = (14, 15, 16)  # loading, not available, not coordinator: a fresh topic is being made
PRODUCER_IDS = ("producer_id", "ongoing_txn_producer_id", "v3_and_below_producer_id",
                "producer_id_filters")
DAY_MS = 86_400_000
RESULTS = ("results_by_topic_v3_and_below", "topic_results")
# Lists without an order, by what to sort them.
UNORDERED = {"groups": "group_id", "results": "group_id", "transaction_states": "transactional_id",
             "active_producers": "producer_id", "unknown_state_filters": None}


def talk(run):
    TALKS.append((run.__name__.replace("_", " "), run))
    return run


def merged(*parts):
    """The aborted transactions of several answers, each once, in the order of their offsets."""
    if all(p["aborted_transactions"] is None for p in parts):
        return None
    found = {(a["first_offset"], a["producer_id"]): a
             for p in parts for a in p["aborted_transactions"] or []}
    return [a for _, a in sorted(found.items())]


class Talk:
    """One broker's side of all conversations. lines: what was said, as text, and what was answered, as
    a word or as evened values."""

    def __init__(self, broker, ids):
        self.broker, self.ids, self.connections, self.members, self.lines = broker, ids, {}, {}, []
        self.producers = {}

    def begin(self):
        self.lines, self.members, self.producers = [], {}, {}

    def client(self, on):
        if on not in self.connections:
            self.connections[on] = Client(self.broker.address, 30).__enter__()
        return self.connections[on]

    # ---- evening -------------------------------------------------------------------------------

    def text(self, value):
        value = value.replace(str(self.broker.port), "PORT")
        for topic, uid in self.ids.items():
            value = value.replace(str(uid), f"<id of {topic}>")
            value = value.replace(base64.urlsafe_b64encode(uid).decode().rstrip("="), f"<{topic}>")
        value = re.sub(r"\b1[6-9]\d{11}\b", "TIME", value)
        return MEMBER.sub(lambda m: self.members.setdefault(
            m[0], f"{m[1]}<{len(self.members) + 1}>"), value)

    def even(self, value, name=""):
        if isinstance(value, dict):
            return {k: self.even(v, k) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.even(v, name) for v in value]
        if name == "records":
            return [self.batch(b) for b in read_batches(value or b"")]
        if isinstance(value, bytes):
            return self.text(str(value))
        if name == "member_id" and isinstance(value, str) and MADE.fullmatch(value):
            return self.members.setdefault(value, f"<{len(self.members) + 1}>")
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool) or value is None:
            return value
        if name in PRODUCER_IDS:
            return self.producer(value)
        if value == self.broker.port:
            return "PORT"
        return "TIME" if abs(value - time.time() * 1000) < DAY_MS else value

    def producer(self, number):
        """The producers in the order of their appearance; numbers that no broker gives stay."""
        if number < 0 or number > 1 << 40:
            return number
        return self.producers.setdefault(number, f"producer {len(self.producers) + 1}")

    def batch(self, head):
        """A batch without its times; of a control record, its kind."""
        kept = {k: head[k] for k in ("base_offset", "attributes", "producer_epoch", "sequence",
                                     "count")}
        if head["attributes"] & 32:  # length, attributes, two deltas, key length, version, type
            kept["control"] = struct.unpack_from(">h", head["payload"], 7)[0]
        return {"producer": self.producer(head["producer"]), **kept}

    def order(self, answer):
        """Sort what has no order, and leave out words that are each broker's own. Members have no order
        either: the leader aside, each broker has its own."""
        for key, by in UNORDERED.items():
            if answer.get(key) and (by is None or by in answer[key][0]):
                answer[key].sort(key=lambda g: str(self.even(g[by], by) if by else g))
        for key, value in answer.items():
            if key in RESULTS and value:
                answer[key] = self.results(value)
            if key in ("groups", "topics", "partitions", "members", "transaction_states",
                       "markers", "results_by_transaction") and isinstance(value, list):
                for inner in value:
                    if isinstance(inner, dict):
                        self.order(inner)
            if key in ("topics", "topic_partitions") and value and isinstance(value, list):
                value.sort(key=lambda t: self.text(str(t)))
            if key == "subscribed_topic_names" and value:
                value.sort()
            if key in ("partitions", "partition_indexes") and value and isinstance(value, list):
                value.sort(key=lambda p: p.get("partition_index", p.get("partition")) if isinstance(
                    p, dict) else p)
            if isinstance(value, dict):
                self.order(value)

    @staticmethod
    def results(topics):
        """What became of each partition: Kafka tells of a topic in as many entries as there are errors."""
        return {t["name"]: dict(sorted((p["partition_index"], p["partition_error_code"])
                                       for u in topics if u["name"] == t["name"]
                                       for p in u["results_by_partition"])) for t in topics}

    def note(self, api, version, values, answer):
        heard, answer = answer, copy.deepcopy(answer)
        if isinstance(answer, dict):
            self.order(answer)
            for holder in [answer, *[g for g in answer.get("groups", []) if "members" in g]]:
                if api != "LeaveGroup" and "members" in holder:
                    holder["members"].sort(key=lambda m: self.even(m["member_id"], "member_id"))
            if answer.get("error_code") and "error_message" in answer:
                answer["error_message"] = bool(answer["error_message"])
        said = self.even(values)
        self.lines.append((api, version, str(said), self.even(answer)))
        return heard

    # ---- talking -------------------------------------------------------------------------------

    def ask(self, api, version, values=None, on="a"):
        """Say and note."""
        try:
            answer = self.client(on).ask(api, version, values or {})
        except Exception as e:  # the broker closed, or has not answered
            self.connections.pop(on).__exit__(None, None, None)
            answer = type(e).__name__
        return self.note(api, version, values, answer)

    def until(self, wanted, api, version, values=None, on="a", limit_s=20):
        """Say until the answer is wanted; only the last one is noted."""
        late = time.monotonic() + limit_s
        while True:
            answer = self.client(on).ask(api, version, values or {})
            if wanted(answer) or time.monotonic() > late:
                return self.note(api, version, values, answer)
            time.sleep(0.02)

    def read(self, version, values, on="a"):
        """Fetch from one partition to its end, noted as one answer: how much comes at a time differs. Kafka
        leaves out what is behind the last batch of records, such as the marker after them."""
        values, whole = copy.deepcopy(values), None
        asked = values["topics"][0]["partitions"][0]
        first = asked["fetch_offset"]
        for _ in range(50):
            answer = self.client(on).ask("Fetch", version, values)
            part = answer["responses"][0]["partitions"][0]
            heads = read_batches(part["records"] or b"")
            if whole is None:
                whole = answer
            else:
                kept = whole["responses"][0]["partitions"][0]
                kept["records"] += part["records"] or b""
                kept["aborted_transactions"] = merged(kept, part)
            if not heads:
                break
            asked["fetch_offset"] = heads[-1]["base_offset"] + heads[-1]["last_delta"] + 1
        asked["fetch_offset"] = first
        return self.note("Fetch", version, values, whole)

    def send(self, api, version, values, on):
        """Say, and hear the answer later."""
        self.client(on).send(api, version, values)
        self.client(on).asked = (api, version, values)

    def hear(self, on):
        c = self.client(on)
        return self.note(*c.asked, c.receive(*c.asked[:2]))

    def end(self):
        for c in self.connections.values():
            c.__exit__(None, None, None)
        self.connections = {}


def ready(t):
    """The topics of coordinators are made by the first who asks. Until each partition serves."""
    late = time.monotonic() + 60
    for group in [f"warm{i}" for i in range(200)]:
        while time.monotonic() < late:
            found = t.client("a").ask("FindCoordinator", 3, {"key": group, "key_type": 0})
            if not found["error_code"]:
                answer = t.client("a").ask("DeleteGroups", 2, {"groups_names": [group]})
                if answer["results"][0]["error_code"] not in LOADING:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError("the topic of offsets did not come to be")
