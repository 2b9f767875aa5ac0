"""A transactional producer without a client: what it committed, aborted, and left open."""
import time

from harness.batch import batch, read_batches

TXN_TOPIC, TXN_ID, ROUNDS = "transacted", "exchange-transactions", 30


class Transacted:
    def __init__(self, until):
        self.until, self.pid, self.epoch = until, None, None
        self.committed, self.open_at = [], None

    def produce(self, client, sequence):
        records = batch(((b"k", b"t" * 500),), attributes=16, producer=self.pid,
                        producer_epoch=self.epoch, sequence=sequence, time=int(time.time() * 1000))
        # Only before a transaction is known to its coordinator may a broker say that it is busy.
        part = self.until(lambda: client.ask("Produce", 12, {
            "transactional_id": TXN_ID, "acks": -1, "timeout_ms": 9000, "topic_data": [
                {"name": TXN_TOPIC, "partition_data": [{"index": 0, "records": records}]}]})
            ["responses"][0]["partition_responses"][0],
            lambda p: p["error_code"] not in (19, 51), "a batch in a transaction")
        if part["error_code"]:
            raise RuntimeError(f"sequence {sequence} of epoch {self.epoch}: {part}")
        return part["base_offset"]

    def end(self, client, committed):
        answer = self.until(lambda: client.ask("EndTxn", 5, {
            "transactional_id": TXN_ID, "producer_id": self.pid, "producer_epoch": self.epoch,
            "committed": committed}), lambda a: a["error_code"] not in (14, 15, 16, 51), "an end")
        if answer["error_code"]:
            raise RuntimeError(f"EndTxn: {answer}")
        self.pid, self.epoch = answer["producer_id"], answer["producer_epoch"]

    def go_on(self, client):
        """Transactions of two batches, every third one aborted, and one that stays open."""
        self.until(lambda: client.ask("FindCoordinator", 4, {
            "key_type": 1, "coordinator_keys": [TXN_ID]})["coordinators"][0]["error_code"],
            lambda e: e == 0, "a coordinator of transactions")
        given = self.until(lambda: client.ask("InitProducerId", 4, {
            "transactional_id": TXN_ID, "transaction_timeout_ms": 900_000}),
            lambda g: g["error_code"] == 0, "a transactional producer")
        self.pid, self.epoch = given["producer_id"], given["producer_epoch"]
        for i in range(ROUNDS):
            offsets = [self.produce(client, 0), self.produce(client, 1)]
            if i % 3:
                self.committed += offsets
            self.end(client, i % 3 != 0)
        self.open_at = self.produce(client, 0)

    def seen(self, client):
        """What a reader of committed records gets, as clients find it: offsets, and where it ends."""
        seen, at, stable = [], 0, 0
        while True:
            part = client.ask("Fetch", 12, {
                "max_wait_ms": 0, "max_bytes": 1 << 20, "isolation_level": 1, "topics": [
                    {"topic": TXN_TOPIC, "partitions": [
                        {"partition": 0, "fetch_offset": at, "partition_max_bytes": 4000}]}]})
            part = part["responses"][0]["partitions"][0]
            if part["error_code"]:
                raise RuntimeError(f"reading at {at}: {part['error_code']}")
            begun = sorted((a["first_offset"], a["producer_id"])
                           for a in part["aborted_transactions"])
            stable, aborted, heads = part["last_stable_offset"], set(), read_batches(part["records"])
            for head in heads:
                last = head["base_offset"] + head["last_delta"]
                while begun and begun[0][0] <= last:
                    aborted.add(begun.pop(0)[1])
                if head["attributes"] & 32:  # an end: what is open then is another
                    aborted.discard(head["producer"])
                elif head["producer"] not in aborted:
                    seen.append(head["base_offset"])
                at = last + 1
            if not heads:
                return seen, stable

    def wrong(self, client):
        """What does not agree with what was done; nothing is right."""
        seen, stable = self.seen(client)
        if stable != self.open_at:
            return f"stable up to {stable}, but what is open began at {self.open_at}"
        odd = sorted(set(seen) ^ set(self.committed))
        return f"committed and not seen, or seen and not committed: {odd[:20]}" if odd else ""
