#!/usr/bin/env python3
"""Kill the broker again and again under load, and hold it to every promise it made in between.

    crash_load (C) ──idempotent, acks=all──▶ broker ──▶ a reader that follows
        └── ledger: partition, producer, sequence, offset of every acknowledgement
    this program: SIGKILL, start, SIGKILL while it starts, SIGTERM ... and admin calls in between
                  with --power: most kills are power cuts, also in the middle of a start (device.py)

Small segments and a write-ahead log of few small files make rolls, checkpoints and reuse of WAL files
happen all the time. Facts that must hold after the last start, and again after a clean stop:
 1. Every acknowledged record is there once, at its offset, in the order of its producer.
 2. A batch that is sent again after a crash gets the offset it had.
 3. What the following reader saw is what the last reader sees.
 4. Topics whose creation was acknowledged exist with what was written to them; deleted ones do not.
 5. No producer id was given twice.
 6. A clean stop ends with status 0, also under load.
A failure keeps the data directory and says which partition, offset, producer and sequence.
"""
import os
import random
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from crash.device import powered  # noqa: E402
from crash.killer import Killer  # noqa: E402
from harness.batch import batch, read_batches, read_records  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

LOAD = TOP / "build/tests/crash/crash_load"
TOPIC, PARTITIONS, PRODUCERS = "crash", 16, 4
ANSWER_S, CHECK_S = 60, 200
WRONGS = "lost duplicated reordered moved corrupt taken-back answer".split()
GONE = (OSError, Closed, ValueError)  # what a client meets when the broker dies under it


class Load:
    """The program that produces and checks, and its answers."""

    def __init__(self, port, seed, rate, batch_max):
        self.process = subprocess.Popen(
            [str(LOAD), "--port", str(port), "--topic", TOPIC, "--producers", str(PRODUCERS),
             "--partitions", str(PARTITIONS), "--seed", str(seed), "--rate", str(rate),
             "--batch-max", str(batch_max)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.wrong, self.rest = [], b""

    def lines(self, timeout_s):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        if not ready:
            return None
        data = self.process.stdout.read1(65536)
        if not data:
            raise RuntimeError(f"crash_load ended with {self.process.wait()}")
        *whole, self.rest = (self.rest + data).split(b"\n")
        return [line.decode() for line in whole]

    def ask(self, word, answer, timeout_s=ANSWER_S):
        """Send a command; returns the counts of its answer."""
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        return self.await_answer(answer, timeout_s)

    def await_answer(self, answer, timeout_s):
        late = time.monotonic() + timeout_s
        while (left := late - time.monotonic()) > 0:
            for line in self.lines(left) or ():
                if line.startswith("wrong"):
                    self.wrong.append(line)
                    print(f"      {line}", flush=True)
                elif line.startswith(answer):
                    return {k: int(v) for k, v in (w.split("=") for w in line.split()[1:])}
        raise RuntimeError(f"crash_load did not say {answer} within {timeout_s} s")

    def status(self):
        return self.ask("status", "status")

    def answers(self):
        return self.ask("answers", "answers")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Admin:
    """Calls in between, each remembered only if it was acknowledged."""

    def __init__(self, address):
        self.address, self.number = address, 0
        self.topics, self.doubtful, self.ids = {}, set(), []  # name -> (partitions, an offset)
        self.empty = []  # answers that leave out what was asked

    def create(self, rng):
        self.number += 1
        name, parts = f"made-{self.number}", rng.randint(1, 5)
        self.doubtful.add(name)
        with Client(self.address, 10) as c:
            answer = c.ask("CreateTopics", 5, {"timeout_ms": 10000, "topics": [
                {"name": name, "num_partitions": parts, "replication_factor": 1}]})
            if not answer["topics"]:
                self.empty.append(f"CreateTopics of {name}")
            elif answer["topics"][0]["error_code"] == 0:
                self.topics[name] = (parts, None)
                self.doubtful.discard(name)
                self.write(c, name, parts)

    def write(self, client, name, parts):
        now = int(time.time() * 1000)  # retention runs here, and would take an old record
        answer = client.ask("Produce", 7, {"acks": -1, "timeout_ms": 10000, "topic_data": [
            {"name": name, "partition_data": [
                {"index": parts - 1, "records": batch([(None, name.encode())], time=now)}]}]})
        part = answer["responses"][0]["partition_responses"][0]
        if part["error_code"] == 0:
            self.topics[name] = (parts, part["base_offset"])

    def delete(self, rng):
        if not self.topics:
            return
        name = rng.choice(sorted(self.topics))
        kept = self.topics.pop(name)
        self.doubtful.add(name)
        with Client(self.address, 10) as c:
            answer = c.ask("DeleteTopics", 4, {"topic_names": [name], "timeout_ms": 10000})
        if not answer["responses"]:
            self.empty.append(f"DeleteTopics of {name}")
        elif answer["responses"][0]["error_code"] == 0:
            self.doubtful.discard(name)
        else:
            self.topics[name] = kept

    def take_id(self):
        with Client(self.address, 10) as c:
            answer = c.ask("InitProducerId", 1, {"transactional_id": None,
                                                 "transaction_timeout_ms": 60000})
        if answer["error_code"] == 0:
            self.ids.append(answer["producer_id"])

    def some(self, rng):
        """One or two calls; the broker may die under them."""
        try:
            if rng.random() < 0.7:
                self.create(rng)
            if rng.random() < 0.3:
                self.delete(rng)
            if rng.random() < 0.5:
                self.take_id()
        except GONE:
            pass

    def faults(self):
        """What is not as it was acknowledged."""
        with Client(self.address) as c:
            known = {t["name"]: len(t["partitions"])
                     for t in c.ask("Metadata", 1, {"topics": None})["topics"]}
            for name, (parts, offset) in self.topics.items():
                if known.get(name) != parts:
                    yield f"{name} has {known.get(name)} partitions, {parts} were made"
                elif offset is not None and not self.holds(c, name, parts - 1, offset):
                    yield f"{name}-{parts - 1} has lost its record at {offset}"
        for name in set(known) - set(self.topics) - self.doubtful - {TOPIC}:
            yield f"{name} was deleted and is there"
        for call in self.empty:
            yield f"{call} was answered without the topic"
        for number, times in Counter(self.ids).items():
            if times > 1:
                yield f"producer id {number} was given {times} times"

    @staticmethod
    def holds(client, name, partition, offset):
        answer = client.ask("Fetch", 11, {
            "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20,
            "session_epoch": -1, "topics": [{"topic": name, "partitions": [
                {"partition": partition, "fetch_offset": offset, "log_start_offset": -1,
                 "partition_max_bytes": 1 << 20}]}]})
        part = answer["responses"][0]["partitions"][0]
        if part["error_code"] or not part["records"]:
            return False
        first = next(read_records(read_batches(part["records"])[0]))
        return first[0] == offset and first[3] == name.encode()


def slow_disk(folder, bytes_a_second):
    """A control group (v1, for root) whose writes to the folder's disk are slow."""
    device = os.stat(folder).st_dev
    group = Path("/sys/fs/cgroup/blkio") / folder.parent.name
    group.mkdir()
    (group / "blkio.throttle.write_bps_device").write_text(
        f"{os.major(device)}:{os.minor(device)} {bytes_a_second}")
    return group


class Crash(Killer):
    def __init__(self, broker, args, load_rate, batch_max):
        super().__init__(broker, random.Random(args.seed))
        self.args = args
        self.admin = Admin(broker.address)
        self.load = Load(broker.port, args.seed, load_rate, batch_max)
        self.slow = slow_disk(broker.folder, args.slow_disk) if args.slow_disk else None

    # ---- cycles ----------------------------------------------------------------------------------

    def await_progress(self):
        """Some acknowledgements after a start, from whatever is left of the load."""
        before, late = self.load.status()["batches"], time.monotonic() + ANSWER_S
        while self.load.status()["batches"] == before:
            if self.broker.process.poll() is not None:
                raise RuntimeError(f"the broker ended by itself with "
                                   f"{self.broker.process.returncode}")
            if time.monotonic() > late or sum(self.load.status()[w] for w in WRONGS):
                raise RuntimeError("nothing was acknowledged after a start")
            time.sleep(0.003)

    def cycle(self, number):
        if self.random.random() < 0.9:
            self.await_progress()
        admin = None
        if self.random.random() < 0.4:
            admin = threading.Thread(target=self.admin.some, args=(self.random,), daemon=True)
            admin.start()
            if self.random.random() < 0.3:
                admin.join(10)
        time.sleep(self.random.choice((0.0, 0.02, 0.1, 0.3)) * self.random.random() * 2)
        if number % 7 == 6:
            self.stop()
        else:
            self.kill("under load" if admin is None else "in admin calls")
        if admin is not None:
            admin.join(15)
        self.start()

    def run(self):
        told = begin = time.monotonic()
        for number in range(self.args.cycles):
            self.cycle(number)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                s = self.load.status()
                print(f"      {number + 1} cycles, {s['records']} records acknowledged, "
                      f"{told - begin:.0f} s", flush=True)
        self.load.ask("drain", "drained", CHECK_S)
        self.kill("at rest")
        self.start()
        self.load.ask("check", "checked", CHECK_S)
        faults = list(self.admin.faults())
        self.stop()
        self.start()
        counts = self.load.ask("check", "checked", CHECK_S)
        self.stop()
        return counts, faults


def settings(rng, cores):
    """What makes rolls, checkpoints and reuse of WAL files frequent, drawn anew for each seed."""
    return {
        "torc.cores": cores, "torc.memory": 1 << 30,
        "torc.wal.file.bytes": rng.choice((1 << 20, 1 << 20, 2 << 20, 8 << 20)),
        "torc.wal.files": rng.choice((2, 2, 3, 4)),
        "torc.cache.bytes": rng.choice((2 << 20, 8 << 20)),
        "log.segment.bytes": rng.choice((1 << 20, 1 << 20, 4 << 20)),
        "log.index.interval.bytes": rng.choice((0, 1000, 4096)),
        "log.flush.offset.checkpoint.interval.ms": rng.choice((200, 1000, 60000)),
        "log.retention.check.interval.ms": 500,
    }


def judge(report, crash, counts, faults):
    told = {"lost": "acknowledged records are lost", "duplicated": "records are there twice",
            "reordered": "records are out of order", "moved": "stand elsewhere than acknowledged",
            "corrupt": "are not what was sent", "taken-back": "that were read were taken back",
            "answer": "answers that no repeating overcomes"}
    for word in WRONGS:
        report.check(f"0 {told[word]}", counts[word] == 0, f"{counts[word]}")
    report.check(f"all {counts['sent']} records were acknowledged and read back",
                 counts["records"] == counts["sent"] == counts["read"],
                 f"{counts['records']} acknowledged, {counts['read']} read")
    report.check(f"{len(crash.admin.topics)} topics and {len(crash.admin.ids)} producer ids are as "
                 "they were acknowledged", not faults, "; ".join(faults[:5]))
    report.check(f"{crash.counts['stopped']} clean stops ended with status 0", not crash.bad_stops,
                 "; ".join(crash.bad_stops[:5]))


def ledger(crash, counts, seconds):
    kills = sum(n for k, n in crash.counts.items() if k != "stopped")
    how = ", ".join(f"{n} {k}" for k, n in crash.counts.items() if k != "stopped")
    starts = sorted(crash.starts)
    return (f"crash: {crash.args.cycles} cycles, {kills} kills ({how}), {crash.counts['stopped']} clean "
            f"stops; {counts['records']} records in {counts['batches']} batches acknowledged, "
            f"{counts['bytes'] >> 20} MiB, {counts['resent']} batches sent again, "
            f"{counts['probed']} after their ack, {counts['refused']} refused; "
            + ", ".join(f"{counts[w]} {w}" for w in WRONGS) +
            f"; start {starts[len(starts) // 2] * 1000:.0f} ms median, {starts[-1] * 1000:.0f} ms at "
            f"most; {seconds:.0f} s")


def run(report, place, args, disk):
    rng = random.Random(args.seed)
    how = settings(rng, args.cores)
    print("      " + " ".join(f"{k}={v}" for k, v in how.items()), flush=True)
    broker = place.broker(args.broker, port=args.port, settings=how)
    if disk:
        broker.data = disk.where / "data"
    broker.start()
    with Client(broker.address) as c:
        made = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": TOPIC, "num_partitions": PARTITIONS, "replication_factor": 1}]})
    if made["topics"][0]["error_code"]:
        raise RuntimeError(f"the topic was not made: {made}")
    crash = Crash(broker, args, args.rate, rng.choice((20_000, 200_000)))
    crash.disk = disk
    begin = time.monotonic()
    try:
        counts, faults = crash.run()
        judge(report, crash, counts, faults)
        print("      " + ledger(crash, counts, time.monotonic() - begin), flush=True)
        report.counted(cycles=args.cycles, **crash.ends(), **{k: counts[k] for k in (
            "records", "batches", "resent", "probed", *WRONGS)})
    except Exception as e:
        report.fail("crash", f"{type(e).__name__}: {e}")
        print("      after " + ", ".join(f"{n} {k}" for k, n in crash.counts.items()))
    finally:
        crash.load.end()
        broker.kill()
        if crash.slow:
            crash.slow.rmdir()
        if report.failed:
            print("      the broker's log ends with:\n" + broker.log_tail(), flush=True)


def main():
    interrupt_on_term()
    args = arguments(
        __doc__, cycles={"type": int, "default": 25, "help": "kills and stops (default: 25)"},
        cores={"type": int, "default": 4, "help": "torc.cores (default: 4)"},
        port={"type": int, "help": "of the broker (default: a free one)"},
        slow_disk={"type": int, "metavar": "BYTES", "help": "every other start finds a disk that "
                   "writes so many a second, and is killed while it does (root, cgroup v1)"},
        rate={"type": int, "default": 20_000_000, "help": "bytes produced a second"},
        power={"choices": ("shim", "ioctl", "best"), "help": "cut the power (root), by this way"},
        seed={"type": int, "default": int(time.time()), "help": "of all that is random"}).parse_args()
    report = Report()
    print(f"      seed {args.seed}")
    with Place(args.keep) as place:
        try:
            with powered(args.power, report, place.folder) as disk:
                run(report, place, args, disk)
        except Exception as e:
            report.fail("crash", f"{type(e).__name__}: {e}")
        place.keep |= report.failed > 0
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
