#!/usr/bin/env python3
"""The broker where the machine fails it: no space, no disk, no rights, no descriptors, no memory.

Each case is a fresh broker, on small real file systems of its own (device.py) where it needs them. It
says what a client must see, what the log must say, and what must come back by itself. Everything that
was acknowledged before is read back, at the end and after a restart.

What is only in the simulator: errors at every single operation (torc-sim --faults).
"""
import errno
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from crash import device  # noqa: E402
from harness.batch import batch, read_batches, read_records  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.wire import Client, Closed  # noqa: E402

STORAGE_ERROR, NONE = 56, 0
CLOCK, HOUR_S = TOP / "build/tests/crash/clock.so", 3600
SMALL = {"torc.cores": 2, "torc.memory": 512 << 20, "torc.wal.file.bytes": 1 << 20, "torc.wal.files": 3,
         "torc.cache.bytes": 4 << 20, "log.segment.bytes": 1 << 20, "offsets.topic.num.partitions": 2,
         "log.flush.offset.checkpoint.interval.ms": 500}


class User:
    """A client that remembers what was acknowledged to it."""

    def __init__(self, broker):
        self.broker, self.client, self.acked, self.number = broker, Client(broker.address, 20), {}, 0

    def ask(self, *words):
        return self.client.ask(*words)

    def again(self):
        self.client.close()
        self.client = Client(self.broker.address, 20)

    def create(self, name, partitions=2, **configs):
        made = self.ask("CreateTopics", 5, {"timeout_ms": 15000, "topics": [
            {"name": name, "num_partitions": partitions, "replication_factor": 1,
             "configs": [{"name": k.replace("_", "."), "value": str(v)} for k, v in configs.items()]}]})
        return made["topics"][0]["error_code"], made["topics"][0]["error_message"]

    def delete(self, name):
        return self.ask("DeleteTopics", 4, {"topic_names": [name], "timeout_ms": 15000}
                        )["responses"][0]["error_code"]

    def produce(self, topic, partition=0, size=100):
        self.number += 1
        value = b"%d " % self.number + b"x" * size
        part = self.ask("Produce", 7, {"acks": -1, "timeout_ms": 15000, "topic_data": [
            {"name": topic, "partition_data": [{"index": partition, "records": batch(
                [(None, value)], time=int(time.time() * 1000))}]}]}
        )["responses"][0]["partition_responses"][0]
        if part["error_code"] == NONE:
            self.acked[topic, partition, part["base_offset"]] = value
        return part["error_code"]

    def fetch(self, topic, partition, offset):
        part = self.ask("Fetch", 11, {
            "replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "session_epoch": -1,
            "topics": [{"topic": topic, "partitions": [
                {"partition": partition, "fetch_offset": offset, "log_start_offset": -1,
                 "partition_max_bytes": 1 << 20}]}]})["responses"][0]["partitions"][0]
        if part["error_code"] or not part["records"]:
            return part["error_code"], None
        return NONE, next(r[3] for head in read_batches(part["records"]) for r in read_records(head)
                          if r[0] == offset)

    def commit(self, group, offset):
        late = time.monotonic() + 15
        while True:
            error = self.ask("OffsetCommit", 7, {
                "group_id": group, "member_id": "", "generation_id_or_member_epoch": -1, "topics": [
                    {"name": "a", "partitions": [{"partition_index": 0, "committed_offset": offset,
                                                  "committed_metadata": ""}]}]}
            )["topics"][0]["partitions"][0]["error_code"]
            if error not in (14, 15, 16) or time.monotonic() > late:
                return error
            self.ask("FindCoordinator", 3, {"key": group, "key_type": 0})
            time.sleep(0.02)

    def delete_records(self, topic, partition, offset):
        part = self.ask("DeleteRecords", 1, {"timeout_ms": 15000, "topics": [
            {"name": topic, "partitions": [{"partition_index": partition, "offset": offset}]}]}
        )["topics"][0]["partitions"][0]
        if part["error_code"] == NONE:
            self.acked = {k: v for k, v in self.acked.items()
                          if k[:2] != (topic, partition) or k[2] >= offset}
        return part["error_code"]

    def check(self):
        """Everything acknowledged is there."""
        for (topic, partition, offset), value in self.acked.items():
            got = self.fetch(topic, partition, offset)
            assert got == (NONE, value), f"{topic}-{partition} at {offset}: {got[0]}, {got[1] and got[1][:20]}"
        return len(self.acked)


def until(what, holds, seconds):
    """Wait for it; returns how long that took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - begin


def says(broker, text):
    assert text in broker.log.read_text(errors="replace"), f"the log does not say: {text}"


class Setting:
    """What a case needs: brokers, and disks where this machine can make them."""

    def __init__(self, place, kinds, reasons):
        self.place, self.kinds, self.reasons, self.number = place, kinds, reasons, 0

    @contextmanager
    def disks(self, count=1, megabytes=96, want=None):
        if not self.kinds or (want and want not in self.kinds):
            raise Skip("; ".join(self.reasons))
        folders, disks = [], []
        try:
            for _ in range(count):
                folders.append(device.own_memory())
                disks.append(device.Disk(want or self.kinds[0], folders[-1], megabytes))
            yield disks
        finally:
            for b in self.place.brokers:
                b.kill()
            for d in disks:
                d.end()
            for f in folders:
                device.let_go(f)

    def broker(self, data=None, **settings):
        self.number += 1
        b = self.place.broker("torc", name=f"broker-{self.number}", settings={
            **SMALL, **{k.replace("_", "."): v for k, v in settings.items()}})
        if data:
            b.data = data
        return b

    @staticmethod
    def ended(broker):
        """It has to end by itself; its status."""
        return broker.process.wait(20)


def fill(disk, leave=0):
    """A foreign file takes the space, but for so many bytes."""
    with open(disk.where / "fill", "ab", 0) as f:
        while (free := os.statvfs(disk.where).f_bavail * 4096 - leave) > 0:
            try:
                os.posix_fallocate(f.fileno(), f.tell(), max(4096, min(free, 8 << 20)))
                f.seek(0, 2)
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                break


# ---- space -----------------------------------------------------------------------------------------

def full_disk(s):
    """Produce is refused and says so, the rest goes on, and comes back without a restart."""
    with s.disks() as (disk,):
        b = s.broker(disk.where / "data").start()
        u = User(b)
        assert [u.create(t)[0] for t in "abc"] == [NONE] * 3
        for i in range(300):
            assert u.produce("ab"[i % 2], i % 2, 5000) == NONE
        assert u.commit("g", 1) == NONE
        fill(disk)
        slowest = 0  # of those that come before the broker has seen it, too
        begin = time.monotonic()
        for i in range(2000):
            sent = time.monotonic()
            error = u.produce("ab"[i % 2], i % 2, 20000)
            slowest = max(slowest, time.monotonic() - sent)
            if error == STORAGE_ERROR:
                break
            assert error == NONE, error
        else:
            raise AssertionError("produce is not refused")
        refused = time.monotonic() - begin
        assert refused < 10 and slowest < 5, (refused, slowest)
        error, message = u.create("new", 50)
        assert error == STORAGE_ERROR and "full" in message, (error, message)
        assert u.fetch("a", 0, 0)[0] == NONE
        assert u.delete("c") == NONE
        for i in range(50):  # the metadata log has its reserve
            assert u.ask("InitProducerId", 4, {"transactional_id": None, "transaction_timeout_ms": 1000}
                         )["error_code"] == NONE
        says(b, "delete topics or records")
        time.sleep(1.2)
        assert b.alive(), b.log_tail()
        (disk.where / "fill").unlink()
        back = until("produce again", lambda: u.produce("a", 0) == NONE, 10)
        assert u.create("new", 5)[0] == NONE and u.produce("new", 4) == NONE
        assert u.commit("g", 2) == NONE
        u.check()
        assert b.stop() == 0
        b.start()
        u.again()
        return f"{u.check()} records kept; refused after {refused:.1f} s, slowest answer {slowest:.2f} s, " \
               f"back {back:.2f} s after there was space"


def nearly_full(s):
    """Below the low-water mark, but not at the end: commits and deletions still go on."""
    with s.disks() as (disk,):
        b = s.broker(disk.where / "data").start()
        u = User(b)
        assert u.create("a")[0] == NONE and u.produce("a") == NONE and u.commit("g", 1) == NONE
        fill(disk, leave=2 << 20)
        until("produce is refused", lambda: u.produce("a") == STORAGE_ERROR, 5)
        for i in range(200):
            assert u.commit("g", i) == NONE
        assert u.delete_records("a", 0, 1) == NONE
        (disk.where / "fill").unlink()
        until("produce again", lambda: u.produce("a") == NONE, 5)
        u.check()
        return "commits are taken while produce is refused"


def deletes_when_full(s):
    """One WAL file, and it is at its end: DeleteRecords is answered, and makes the space."""
    with s.disks() as (disk,):
        b = s.broker(disk.where / "data", torc_cores=1).start()
        u = User(b)
        assert u.create("a", 1)[0] == NONE
        assert u.ask("Produce", 7, {"acks": -1, "timeout_ms": 15000, "topic_data": [
            {"name": "a", "partition_data": [{"index": 0, "records": batch(
                [(None, b"x")] * 400, time=int(time.time() * 1000))}]}]}
        )["responses"][0]["partition_responses"][0]["error_code"] == NONE
        for i in range(7):
            assert u.produce("a", 0, 60000) == NONE  # not yet half of the first WAL file: it is alone
        fill(disk)
        for i in range(400):
            if u.produce("a", 0, 30000) != NONE:
                break
        for i in range(300):  # into the file that they fill, until it is at its end
            begin, error = time.monotonic(), u.delete_records("a", 0, i + 1)
            took = time.monotonic() - begin
            assert error in (NONE, STORAGE_ERROR) and took < 4, (error, took)
            if took > 0.3:
                break
        else:
            raise AssertionError("the WAL did not come to its end")
        (disk.where / "fill").unlink()
        until("produce again", lambda: u.produce("a") == NONE, 10)
        b.kill()
        b.start()
        u.again()
        u.check()
        return f"DeleteRecords says {error} after {took:.1f} s"


def start_when_full(s):
    """A start on a full disk works, or says what to do; with space again it works."""
    with s.disks() as (disk,):
        b = s.broker(disk.where / "data").start()
        u = User(b)
        assert u.create("a")[0] == NONE
        for i in range(100):
            assert u.produce("a", i % 2, 3000) == NONE
        fill(disk)
        b.kill()
        started = True
        try:
            b.start()
        except RuntimeError:
            says(b, "No space left on device")
            started = False
        if started:
            u.again()
            u.check()
            b.kill()
        (disk.where / "fill").unlink()
        b.start()
        u.again()
        u.check()
        return "it starts" if started else "it says that there is no space"


# ---- disks that die --------------------------------------------------------------------------------

def read_only(s):
    """Remounted read-only under load: the node ends with a clear line, and nothing is lost."""
    with s.disks() as (disk,):
        b = s.broker(disk.where / "data").start()
        u = User(b)
        assert u.create("a")[0] == NONE
        for i in range(50):
            assert u.produce("a", i % 2, 3000) == NONE
        # open files would keep it from becoming read-only: the disk does what errors=remount-ro does
        disk.cut(1)
        try:
            while u.produce("a") == NONE:
                pass
        except Exception:
            pass
        status = s.ended(b)
        assert status == 1, status
        says(b, "failed")
        disk.back()
        b.start()
        u.again()
        return f"{u.check()} records kept, exit status {status}"


def one_of_two(s):
    """One log directory dies: the partitions of the other go on, new ones are made there."""
    with s.disks(2, want="shim") as (good, bad):
        b = s.broker(f"{good.where}/data,{bad.where}/data").start()
        u = User(b)
        assert u.create("a", 8)[0] == NONE
        for p in range(8):
            assert u.produce("a", p) == NONE
        bad.shim.ask(f"fail w 0 1000000 {errno.EIO}")
        answers = {}
        for _ in range(3):
            for p in range(8):
                answers.setdefault(p, []).append(u.produce("a", p))
        dead = [p for p, a in answers.items() if a[-1] == STORAGE_ERROR]
        assert len(dead) == 4 and all(set(a) == {NONE} for p, a in answers.items() if p not in dead), answers
        says(b, f"log directory {bad.where}/data failed: Input/output error")
        assert u.create("later", 8)[0] == NONE
        later = [u.produce("later", p) for p in range(8)]
        assert later.count(NONE) == 8, f"new partitions on a dead directory: {later}"
        bad.shim.ask("fail w 0 0 5")
        status = b.stop()
        assert status == 1, status
        bad.cut(3)
        bad.back()
        b.start()
        u.again()
        return f"{u.check()} records kept, {len(dead)} of 8 partitions offline until the restart"


def unreadable_at_start(s):
    """One of two log directories cannot be read at start: as Kafka, the node serves the other, and what was
    in this one is offline, not begun anew. When it is there again, so are its records."""
    b = s.broker()
    good, bad, kept = b.folder / "good", b.folder / "bad", b.folder / "kept"
    meta, b.data = bad / "meta.properties", f"{good},{bad}"
    u = User(b.start())
    assert u.create("a", 8)[0] == NONE
    assert [u.produce("a", p) for p in range(8)] == [NONE] * 8
    held = {p for p in range(8) if (bad / f"a-{p}").exists()}
    assert len(held) == 4

    def no_folder(spoil):
        (bad.rename(kept), bad.write_text("")) if spoil else (bad.unlink(), kept.rename(bad))

    def no_file(spoil):
        (meta.rename(kept), meta.mkdir()) if spoil else (meta.rmdir(), kept.rename(meta))

    def damaged(spoil):
        (shutil.copy(meta, kept), meta.write_text("version=1\n")) if spoil else kept.rename(meta)

    for how in (no_folder, no_file, damaged):
        if how == no_file:
            b.kill()
        else:
            assert b.stop() == 0
        how(True)
        b.start()
        u.again()
        says(b, f"what is in {bad} is offline")
        for p in range(8):
            want = STORAGE_ERROR if p in held else NONE
            got = u.fetch("a", p, 0)[0], u.produce("a", p)
            assert got == (want, want), (how.__name__, p, got)
            assert p not in held or not (good / f"a-{p}").exists()
        assert u.create(how.__name__, 4)[0] == NONE
        assert [u.produce(how.__name__, p) for p in range(4)] == [NONE] * 4
        assert b.stop() == 1
        how(False)
        b.start()
        u.again()
        u.check()
    b.kill()
    good.rename(kept)
    good.write_text("")  # the metadata is there
    refuses(b, f"cannot lock {good}")
    return f"{len(u.acked)} records kept, 4 of 8 partitions offline while their directory was not to be read"


def slow_disk(s):
    """A disk that freezes for a second: answers are late, none is wrong."""
    with s.disks(want="shim") as (disk,):
        b = s.broker(disk.where / "data").start()
        u = User(b)
        assert u.create("a")[0] == NONE
        disk.shim.ask("freeze 1000")
        begin = time.monotonic()
        assert u.produce("a") == NONE
        took = time.monotonic() - begin
        assert took > 0.8, "it was acknowledged without the disk"
        u.check()
        return f"acknowledged after {took:.1f} s"


def removed(s):
    """The folder is removed under it: it does not crash, it ends with a clear line at the first roll."""
    b = s.broker().start()
    u = User(b)
    assert u.create("a", 1)[0] == NONE and u.produce("a") == NONE
    shutil.rmtree(b.data)
    try:
        for _ in range(400):
            u.produce("a", 0, 50000)
    except Exception:
        pass
    status = s.ended(b)
    assert status == 1, status
    says(b, "No such file or directory")
    return f"exit status {status}"


def eager(s):
    """Clients come back the moment it listens, with what they sent before: none is refused anything. (Of
    several batches that are under way the first would be refused, and a later one taken.)"""
    cores, partitions, peers = 16, 32, 32
    b = s.broker(torc_cores=cores, torc_memory=2 << 30).start()
    assert User(b).create("a", partitions)[0] == NONE
    body = {"acks": -1, "timeout_ms": 15000, "topic_data": [{"name": "a", "partition_data": [
        {"index": i, "records": batch([(None, b"early")], time=int(time.time() * 1000))}
        for i in range(partitions)]}]}
    answered = 0

    def send():
        while True:  # its port may not be there yet
            try:
                client = Client(b.address, 20)
                client.send("Produce", 7, body)
                return client
            except (ConnectionError, Closed):
                assert b.alive() and time.monotonic() < late, "it does not listen"

    for _ in range(4):
        b.kill()
        b.launch()
        late = time.monotonic() + 20
        waiting = [send() for _ in range(peers)]
        while waiting:
            client = waiting.pop()
            try:
                answer = client.receive("Produce", 7)
            except Closed:  # that one came before it listened for good
                waiting.append(send())
                continue
            for part in answer["responses"][0]["partition_responses"]:
                assert part["error_code"] == NONE, part
                answered += 1
            client.close()
        b.await_ready()
    return f"{answered} batches of {peers} clients taken by {cores} cores while they came up, 4 times"


# ---- time ------------------------------------------------------------------------------------------

def clock_jumps(s):
    """The wall clock jumps an hour ahead, two back and one ahead: records are taken and stamped by it,
    members stay, offsets are committed, nothing is lost."""
    b = s.broker()
    b.folder.mkdir()
    shift = b.folder / "clock"
    shift.write_bytes(bytes(8))
    command = b.command()
    b.command = lambda: ["env", f"LD_PRELOAD={CLOCK}", f"TORC_TEST_CLOCK={shift}", *command]
    u = User(b.start())
    assert u.create("a", 2, message_timestamp_type="LogAppendTime")[0] == NONE
    assert u.produce("a") == NONE and u.commit("g", 1) == NONE
    for hours in (1, -1, 0):
        with open(shift, "r+b") as f:  # in place: it is mapped
            f.write(struct.pack("=q", hours * HOUR_S))
        time.sleep(0.7)  # a checkpoint, and a look at what has grown old
        for i in range(20):
            assert u.produce("a", i % 2, 20000) == NONE
        stamp = u.ask("Produce", 7, {"acks": -1, "timeout_ms": 15000, "topic_data": [
            {"name": "a", "partition_data": [{"index": 0, "records": batch([(None, b"now")])}]}]}
        )["responses"][0]["partition_responses"][0]["log_append_time_ms"]
        ahead = stamp / 1000 - time.time()
        assert abs(ahead - hours * HOUR_S) < 30, f"stamped {ahead:.0f} s ahead, not {hours} h"
        assert u.commit("g", 10 + hours) == NONE
        u.check()
    b.kill()
    b.start()
    u.again()
    return f"{u.check()} records kept"


def paused(s):
    """SIGSTOP under load: who asked meanwhile is answered when it goes on; killed while stopped it has
    kept what was acknowledged."""
    b = s.broker().start()
    u = User(b)
    assert u.create("a")[0] == NONE and u.produce("a") == NONE
    for seconds in (0.5, 2):
        b.process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(seconds, b.process.send_signal, (signal.SIGCONT,))
        timer.start()
        begin = time.monotonic()
        assert u.produce("a") == NONE
        assert time.monotonic() - begin > seconds * 0.9
        assert u.commit("g", 1) == NONE
    assert u.produce("a", 1) == NONE
    b.process.send_signal(signal.SIGSTOP)
    b.kill()
    b.start()
    u.again()
    return f"{u.check()} records kept"


def prompt(s):
    """Who has nothing to do ends at once: a core that sleeps is woken for it, not by its next timer."""
    b, took = s.broker(), []
    for _ in range(5):
        b.start()
        begin = time.monotonic()
        assert b.stop() == 0
        took.append(time.monotonic() - begin)
    assert statistics.median(took) < 0.3, took
    return f"stopped within {statistics.median(took) * 1000:.0f} ms"


# ---- rights, descriptors, memory -------------------------------------------------------------------

def refuses(broker, text, before=None):
    """It does not start, and says why; the sentence."""
    broker.configure()
    task = subprocess.run(broker.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, preexec_fn=before, timeout=20, cwd="/")
    assert task.returncode == 1, (task.returncode, task.stdout[-500:])
    assert text in task.stdout, task.stdout[-500:]
    return next(line for line in task.stdout.splitlines() if text in line)[-150:]


def wrong_owner(s):
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    folder = Path("/tmp") / f"torc-test-crash-owner-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        (folder / "data").mkdir(mode=0o700)
        b = s.broker(folder / "data")
        b.folder = folder
        b.configure()
        program, *words = b.command()
        shutil.copy(program, folder / "torc")  # the tree may be where only root looks
        b.command = lambda: [folder / "torc", *words]
        return refuses(b, "Permission denied", lambda: os.setuid(65534))
    finally:
        shutil.rmtree(folder)


def descriptors(s):
    """A low limit of descriptors: connections are refused, files are not, and there is room again later."""
    b = s.broker(torc_cores=1, log_flush_offset_checkpoint_interval_ms=60000)
    command = b.command()
    b.command = lambda: ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *command]
    b.start()
    u = User(b)
    assert u.create("a", 2)[0] == NONE and u.produce("a") == NONE
    crowd = []
    for i in range(300):
        time.sleep(0.02 if i % 25 == 24 else 0)
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(("127.0.0.1", b.port))  # beyond the backlog it waits in the kernel
        crowd.append(c)
    until("it says so", lambda: "raise the limit of open files" in b.log.read_text(), 10)
    assert u.produce("a") == NONE
    assert u.create("many", 40)[0] == NONE  # they need files, of which there are enough
    for p in range(40):
        until(f"many-{p} takes records", lambda p=p: u.produce("many", p) == NONE, 5)
    for c in crowd:
        c.close()
    took = until("new connections", lambda: answered(b), 10)
    u.again()
    assert u.produce("a") == NONE
    u.check()
    text = b.log.read_text()
    assert "Too many open files" not in text
    lines = text.count("raise the limit of open files")
    assert lines < 10, f"{lines} lines about descriptors"
    return f"served {took:.1f} s after there were descriptors again"


def answered(broker):
    try:
        with Client(broker.address, 1) as c:
            return len(c.ask("Metadata", 1, {"topics": []})["brokers"]) == 1
    except Exception:
        return False


def memory(s):
    """Less address space than torc.memory asks for: a sentence, no crash."""
    return refuses(s.broker(), "raise the limit of memory", lambda: resource.setrlimit(
        resource.RLIMIT_AS, (60 << 20, 60 << 20)))


CASES = (eager, full_disk, nearly_full, deletes_when_full, start_when_full, read_only, one_of_two,
         unreadable_at_start, slow_disk, removed, clock_jumps, paused, prompt, wrong_owner, descriptors,
         memory)


def main():
    interrupt_on_term()
    args = arguments(__doc__, only={"help": "cases whose names contain this"}).parse_args()
    report = Report()
    kinds, reasons = [], ["only root can mount"]
    if os.geteuid() == 0:
        device.own_mounts()
        kinds, reasons = device.probe()
    print(f"      file systems by {' and '.join(kinds) or 'nobody'}; {'; '.join(reasons)}")
    with Place(args.keep) as place:
        setting = Setting(place, kinds, reasons)
        for case in CASES:
            if args.only and args.only not in case.__name__:
                continue
            name = case.__name__.replace("_", " ")
            try:
                report.case(name, case, setting)
            finally:
                for b in place.brokers:
                    if report.failed and b.log.exists():
                        print("      the log ends with:\n" + b.log_tail(12))
                    b.kill()
                place.brokers.clear()
        place.keep |= report.failed > 0
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
