#!/usr/bin/env python3
"""Kill the broker again and again under transactions and groups, and hold it to their promises.

    writers ──transactions, 60 % commit──▶ ledger (6 partitions), offsets of a group
    feeder  ──idempotent──▶ input ──▶ 2 copiers (one group) ──exactly once──▶ output
    members ──commits of groups of one, either protocol──▶ watcher ◀── committed offsets, the ledger as it grows
    this program: SIGKILL within milliseconds of an EndTxn or at any time, while it starts, SIGTERM ...
                  with --power: most kills are power cuts (device.py)

Writers of both generations: with AddPartitionsToTxn, and with writes that add partitions themselves
(where the broker has them). Facts that must hold during the run, after it, and again after a clean stop:
 1. read_committed sees no record of an aborted transaction, neither live nor later.
 2. A committed transaction is there whole, each record once; one of unknown outcome whole or not at all.
 3. A producer's transactions stand in each partition in the order of their numbers.
 4. Each input record is in the output once; the copiers' group has committed exactly what it copied.
 5. A committed offset never goes back, whoever committed it; members outlive the kill of the broker.
 6. Every request is answered in bounded time; in the end no transaction is left open, and the last
    stable offsets are the ends.
A failure keeps the data directory.
"""
import faulthandler
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from crash.committed import Follower  # noqa: E402
from crash.device import powered  # noqa: E402
from crash.killer import Killer  # noqa: E402
from crash.parties import (ABORTED, COMMITTED, EITHER, INPUT, LEDGER, OUTPUT, PARTS,  # noqa: E402
                           Copier, Feeder, Member, NewMember, Watcher, Writer)
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Client  # noqa: E402

WRITERS, COPIERS = 4, 2
DRAIN_S, PROGRESS_S, READ_S = 90, 60, 90
NEVER_ENDED = ("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence")


class Crew(Killer):
    """The broker, all who use it, and what they found."""

    def __init__(self, broker, args):
        super().__init__(broker, random.Random(args.seed))
        self.args, self.address = args, broker.address
        self.lock, self.phase = threading.Lock(), "run"
        self.done, self.faults, self.promised = Counter(), defaultdict(list), {}
        self.ending, self.up_since = threading.Event(), None
        self.patience_s = 120 if broker.kind == "kafka" else 30  # a JVM takes its time to start

    # ---- what parties ask ------------------------------------------------------------------------

    def rng(self, name):
        return random.Random(f"{self.args.seed} {name}")

    def count(self, what):
        with self.lock:
            self.done[what] += 1

    def fault(self, kind, text):
        with self.lock:
            self.faults[kind].append(text)
        print(f"      {kind}: {text}", flush=True)

    def promise(self, what, offset):
        with self.lock:
            self.promised[what] = max(offset, self.promised.get(what, -1))

    def broker_is_up(self, seconds):
        since = self.up_since
        return since is not None and time.monotonic() - since > seconds

    def stopping(self, party):
        if self.phase == "drain":
            return not isinstance(party, (Copier, Watcher))
        return self.phase == "end"

    # ---- the run ---------------------------------------------------------------------------------

    def recruit(self, second):
        self.writers = [Writer(self, n, 2 if second and n % 2 else 1) for n in range(WRITERS)]
        self.copiers = [Copier(self, n) for n in range(COPIERS)]
        self.members = [Member(self, 0), NewMember(self, 0)]
        self.feeder = Feeder(self)
        groups = {w.group: [0] for w in self.writers} | {m.group: [1] for m in self.members}
        groups["copies"] = list(range(PARTS[INPUT]))
        self.watcher = Watcher(self, groups, Follower({LEDGER: PARTS[LEDGER]}))
        self.parties = [*self.writers, *self.copiers, *self.members, self.feeder, self.watcher]
        for p in self.parties:
            p.start()

    def await_more(self, what, measure, by):
        goal, late = measure() + by, time.monotonic() + PROGRESS_S
        while measure() < goal:
            if self.broker.process.poll() is not None:
                raise RuntimeError(f"the broker ended by itself with {self.broker.process.returncode}")
            if time.monotonic() > late or self.faults:
                raise RuntimeError(f"no {what} after a start")
            time.sleep(0.003)

    def ended(self):
        return sum(self.done[k] for k in (COMMITTED, ABORTED, EITHER))

    def cycle(self, number):
        if self.random.random() < 0.9:
            self.await_more("transaction", self.ended, self.random.randint(1, 30))
        if number % 3 == 2:
            self.await_more("copy", lambda: sum(c.copied for c in self.copiers), 1)
        when = "at an end"
        if self.random.random() < 0.6:
            self.ending.clear()
            self.ending.wait(2)
            time.sleep(self.random.random() * self.random.choice((0.001, 0.004, 0.02)))
        else:
            when = "at any time"
            time.sleep(self.random.random() * self.random.choice((0.01, 0.1, 0.5)))
        self.up_since = None
        self.stop() if number % 7 == 6 else self.kill(when)
        self.start()
        self.up_since = time.monotonic()

    def run(self):
        self.up_since = told = begin = time.monotonic()
        for number in range(self.args.cycles):
            self.cycle(number)
            if self.faults:
                raise RuntimeError("ended early")
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"      {number + 1} cycles, {dict(self.done)}, "
                      f"{sum(c.copied for c in self.copiers)} copied, {told - begin:.0f} s", flush=True)
        self.phase = "drain"
        for p in self.parties:
            if self.stopping(p):
                p.join(3 * self.patience_s)
        self.await_copies()
        self.phase = "end"
        for p in self.parties:
            p.join(3 * self.patience_s)
            if p.is_alive():
                self.fault("answer", f"{p.name} does not end")
                faulthandler.dump_traceback(sys.stdout)

    def await_copies(self):
        """Until the copiers have committed the end of the input."""
        late = time.monotonic() + DRAIN_S
        while any(self.promised.get(("copies", p), 0) < n for p, n in enumerate(self.feeder.counts)):
            if time.monotonic() > late:
                self.fault("answer", "the copiers did not reach the end of the input: "
                           f"{self.promised} of {self.feeder.counts}")
                return
            time.sleep(0.02)


# ---- judgement -------------------------------------------------------------------------------------

def read_all(address, topic, level=1):
    """All records of a topic; with whether nothing was left open."""
    follower, found, late = Follower({topic: PARTS[topic]}, level), [], time.monotonic() + READ_S
    with Client(address, 30) as c:
        while not follower.done() and time.monotonic() < late:
            found += follower.take(c, 50)
    return found, follower


def judge_ledger(crew, address, say):
    found, follower = read_all(address, LEDGER)
    yield f"{say}no transaction holds the last stable offsets back", [] if follower.done() else [
        f"{follower.at} read, {follower.stable} stable, {follower.high} the ends"]
    there, order, disorder = defaultdict(list), {}, []
    for _, p, offset, _, value, _ in found:
        number, n, i, _ = map(int, value.split())
        there[number, n].append((i, p))
        if order.get((p, number), 0) >= n:
            disorder.append(f"{value} at {offset} of partition {p} after {order[p, number]}")
        order[p, number] = n
    aborted, torn = [], []
    for w in crew.writers:
        for n, (outcome, parts, _) in w.outcomes.items():
            got, whole = sorted(there.pop((w.number, n), [])), list(enumerate(parts))
            where = f"transaction {n} of {w.name}, {outcome}: {got} of {whole}"
            if outcome == ABORTED and got:
                aborted.append(where)
            elif outcome == COMMITTED and got != whole or outcome == EITHER and got not in ([], whole):
                torn.append(where)
    yield f"{say}no record of an aborted transaction is seen", aborted
    yield f"{say}transactions are there whole and once, or not at all", torn
    yield f"{say}no record is of nobody's", [f"{k}: {v}" for k, v in there.items()]
    yield f"{say}each producer's records stand in their order", disorder
    final = {(p, offset): value for _, p, offset, _, value, _ in found}
    yield f"{say}what was seen live is what is there", [
        f"{value} at {offset} of partition {p}" for _, p, offset, _, value, _ in crew.watcher.seen
        if final.get((p, offset)) != value]


def judge_copies(crew, address, say):
    output = Counter(value for _, _, _, _, value, _ in read_all(address, OUTPUT)[0])
    want = {b"%d %d" % (p, i) for p, n in enumerate(crew.feeder.counts) for i in range(n)}
    written = Counter(value for _, _, _, _, value, _ in read_all(address, INPUT)[0])
    yield f"{say}the input is what was acknowledged, once", [
        *(f"{v} {c} times" for v, c in written.items() if c > 1 or v not in want),
        *(f"{v} is missing" for v in want - set(written))]
    yield f"{say}nothing is copied twice", [f"{v} {c} times" for v, c in output.items() if c > 1]
    yield f"{say}everything is copied", [f"{v} is missing" for v in want - set(output)]


def judge_offsets(crew, address, say):
    wrong = []
    with Client(address, 30) as c:
        def fetch(group, partition):
            answer = c.ask("OffsetFetch", 7, {"group_id": group, "require_stable": True, "topics": [
                {"name": INPUT, "partition_indexes": [partition]}]})
            part = answer["topics"][0]["partitions"][0]
            return part["committed_offset"] if not part["error_code"] else (part["error_code"],)

        for w in crew.writers:
            sure = max((n for n, (o, _, at) in w.outcomes.items() if at and o == COMMITTED), default=-1)
            may = {n for n, (o, _, at) in w.outcomes.items() if at and o == EITHER and n > sure}
            if (got := fetch(w.group, 0)) not in {sure} | may:
                wrong.append(f"{w.group}: {got}, not {sure} or one of {may}")
        for m in crew.members:
            if (got := fetch(m.group, 1)) != m.offset:
                wrong.append(f"{m.group}: {got}, not {m.offset}")
        for p, n in enumerate(crew.feeder.counts):
            if n and (got := fetch("copies", p)) != n:
                wrong.append(f"copies, partition {p}: {got}, not {n}")
        yield f"{say}groups have committed what was acknowledged", wrong
        late, left = time.monotonic() + crew.patience_s, None
        while left is None or left and time.monotonic() < late:
            listed = c.ask("ListTransactions", 0, {})["transaction_states"]
            left = [t for t in listed if t["transaction_state"] in NEVER_ENDED]
            time.sleep(0.05)
        yield f"{say}no transaction is left open", [f"{t}" for t in left]


def judge(report, crew, say):
    for part in (judge_ledger, judge_copies, judge_offsets):
        for fact, wrong in part(crew, crew.address, say):
            report.check(fact, not wrong, f"{len(wrong)}: " + "; ".join(map(str, wrong[:5])))


def prepare(broker):
    """Make the topics; returns whether writes can add partitions to transactions themselves."""
    with Client(broker.address, 30) as c:
        made = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
            {"name": t, "num_partitions": n, "replication_factor": 1} for t, n in PARTS.items()]})
        if any(t["error_code"] for t in made["topics"]):
            raise RuntimeError(f"the topics were not made: {made}")
        late = time.monotonic() + READ_S
        for kind in (0, 1):  # the first who asks makes the topics of coordinators
            while c.ask("FindCoordinator", 3, {"key": "x", "key_type": kind})["error_code"]:
                if time.monotonic() > late:
                    raise RuntimeError("there are no coordinators")
                time.sleep(0.02)
        known = c.ask("ApiVersions", 3, {"client_software_name": "crash",
                                         "client_software_version": "1"})
        level = max((f["max_version_level"] for f in known["finalized_features"]
                     if f["name"] == "transaction.version"), default=0)
        return level >= 2


def settings(rng, cores):
    """Small files everywhere, so that all of them are rolled, checkpointed and taken over often."""
    return {"torc.cores": cores, "torc.memory": 1 << 30, "offsets.topic.num.partitions": 3,
            "transaction.state.log.num.partitions": 3, "group.min.session.timeout.ms": 1000,
            "torc.wal.file.bytes": rng.choice((1 << 20, 2 << 20)), "torc.wal.files": 3,
            "log.segment.bytes": 1 << 20, "offsets.topic.segment.bytes": 1 << 20,
            "transaction.state.log.segment.bytes": 1 << 20,
            "log.flush.offset.checkpoint.interval.ms": rng.choice((200, 1000, 60000)),
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500}


def run(report, place, args, disk):
    rng = random.Random(args.seed)
    broker = place.broker(args.broker, settings=settings(rng, args.cores))
    if disk:
        broker.data = disk.where / "data"
    broker.start()
    crew, begin = Crew(broker, args), time.monotonic()
    crew.disk = disk
    try:
        crew.recruit(prepare(broker))
        crew.run()
        for kind in ("went back", "answer"):
            report.check({"went back": "no committed offset went back",
                          "answer": "every request was answered in time, and as it should be"}[kind],
                         not crew.faults[kind], "; ".join(crew.faults[kind][:5]))
        judge(report, crew, "")
        crew.stop()
        crew.start()
        judge(report, crew, "after a clean stop: ")
        crew.stop()
        report.check(f"{crew.counts['stopped']} clean stops ended with status 0", not crew.bad_stops
                     or args.broker == "kafka", "; ".join(crew.bad_stops[:5]))
    except Exception as e:
        report.fail("transactions", f"{type(e).__name__}: {e}; {dict(crew.faults)}"[:2000])
    crew.phase = "end"
    kills = ", ".join(f"{n} {k}" for k, n in crew.counts.items())
    starts = sorted(crew.starts) or [0]
    slowest = max(p.slowest for p in crew.parties if hasattr(p, "slowest"))
    print(f"      {args.cycles} cycles ({kills}); transactions: {dict(crew.done)}; "
          f"{sum(c.copied for c in crew.copiers)} copied, {sum(m.offset for m in crew.members)} commits "
          f"of members; start {starts[len(starts) // 2] * 1000:.0f} ms median, slowest answer "
          f"{slowest:.2f} s; {time.monotonic() - begin:.0f} s", flush=True)
    report.counted(cycles=args.cycles, **crew.ends(), **crew.done, broken=report.failed,
                   copied=sum(c.copied for c in crew.copiers), commits=sum(m.offset for m in crew.members))
    broker.kill()
    if report.failed:
        print("      the broker's log ends with:\n" + broker.log_tail(), flush=True)


def main():
    interrupt_on_term()
    sys.setswitchinterval(0.0005)  # a kill shall come within milliseconds
    args = arguments(
        __doc__, cycles={"type": int, "default": 20, "help": "kills and stops (default: 20)"},
        cores={"type": int, "default": 2, "help": "torc.cores (default: 2)"},
        power={"choices": ("shim", "ioctl", "best"), "help": "cut the power (root), by this way"},
        seed={"type": int, "default": int(time.time()), "help": "of all that is random"}).parse_args()
    report = Report()
    print(f"      seed {args.seed}")
    with Place(args.keep) as place:
        try:
            with powered(args.power, report, place.folder) as disk:
                run(report, place, args, disk)
        except Exception as e:
            report.fail("transactions", f"{type(e).__name__}: {e}")
        place.keep |= report.failed > 0
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
