"""Reads partitions as read_committed clients do, without a client: whole batches, less those of the
aborted transactions that the answer lists."""
from harness.batch import read_batches, read_records

TRANSACTIONAL, CONTROL, ABORT = 16, 32, 0
MAX_BYTES = 4 << 20


def visible(part):
    """The batches of one partition's answer that a read_committed client gives to its user."""
    aborted = sorted((a["first_offset"], a["producer_id"]) for a in
                     part["aborted_transactions"] or [])
    gone = set()
    for head in read_batches(part["records"] or b""):
        while aborted and aborted[0][0] <= head["base_offset"] + head["last_delta"]:
            gone.add(aborted.pop(0)[1])
        if head["attributes"] & CONTROL:
            if head["payload"][10] == ABORT:  # after length, attributes, deltas, key length, version
                gone.discard(head["producer"])
        elif not (head["attributes"] & TRANSACTIONAL and head["producer"] in gone):
            yield head


class Follower:
    """Reads some topics from their beginnings; take() gives what is new."""

    def __init__(self, topics, level=1):
        self.at = {(t, p): 0 for t, count in topics.items() for p in range(count)}
        self.level, self.stable, self.high = level, {}, {}

    def take(self, client, wait_ms=0):
        """New records as (topic, partition, offset, key, value, headers)."""
        topics = {}
        for (t, p), offset in self.at.items():
            topics.setdefault(t, []).append({"partition": p, "fetch_offset": offset,
                                             "partition_max_bytes": MAX_BYTES})
        answer = client.ask("Fetch", 11, {
            "replica_id": -1, "max_wait_ms": wait_ms, "min_bytes": 1, "max_bytes": 8 * MAX_BYTES,
            "isolation_level": self.level, "session_epoch": -1, "topics": [
                {"topic": t, "partitions": parts} for t, parts in topics.items()]})
        found = []
        for t in answer["responses"]:
            for part in t["partitions"]:
                found += self.part(t["topic"], part)
        return found

    def part(self, topic, part):
        where = topic, part["partition_index"]
        if part["error_code"]:
            return []
        self.stable[where], self.high[where] = part["last_stable_offset"], part["high_watermark"]
        all_heads = read_batches(part["records"] or b"")
        found = [(*where, offset, key, value, headers) for head in visible(part)
                 for offset, _, key, value, headers in read_records(head)
                 if offset >= self.at[where]]
        if all_heads:
            self.at[where] = all_heads[-1]["base_offset"] + all_heads[-1]["last_delta"] + 1
        return found

    def done(self):
        """Whether everything is read that may be read, and nothing waits for a transaction's end."""
        return len(self.high) == len(self.at) and all(
            self.at[w] >= self.high[w] == self.stable[w] for w in self.at)
