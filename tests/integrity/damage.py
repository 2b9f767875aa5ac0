"""What is done to a directory at rest, in cases; which may be done at once; and what may be passed over."""
import re
import struct
from collections import defaultdict

SMALL = 64  # bytes of a file that is cut everywhere also in a sample
WAL_BLOCK, WAL_SHARES = 4096, 16
BEHIND_INDEX = 3  # batches at most that are behind the last index entry


class Case:
    """One directory with one thing wrong."""

    def __init__(self, kind, file, how, at):
        self.kind, self.file, self.how, self.at = kind, file, how, at
        self.in_gap = False  # it moves a batch within a gap that compaction has left
        self.at_end = False  # of a batch behind the last index entry, where a write-ahead log goes on

    def __str__(self):
        return f"{self.kind}/{self.file} {self.how} at {self.at}"

    def apply(self, data):
        if self.how == "cut":
            return data[:self.at]
        if self.how == "append":
            return data + (bytes(self.at) if self.at > 16 else b"garbage \xff\x00\x01" + bytes([self.at]))
        new = bytearray(data)
        new[self.at] = {"zero": 0, "ones": 255, "flip": data[self.at] ^ 1 << (self.at * 5 + 1) % 8}[self.how]
        return new


def bytes_used(data):
    """Positions worth damaging: all, but of long zeros only the first and last few."""
    if len(data) < 65536:
        return range(len(data))
    used, at = [], 0
    for block in range(0, len(data), WAL_BLOCK):
        end = len(data[block:block + WAL_BLOCK].rstrip(b"\0"))
        if end:
            used += range(block, block + end + 8)
            used.append(block + WAL_BLOCK - 1)
    return used


def cases(made):
    """All of them, in groups: (kind, file) -> list."""
    groups = {}
    for kind, (files, _) in made.items():
        for file, data in files.items():
            if file.endswith(".deleted"):
                continue
            used = bytes_used(data)
            found = [Case(kind, file, how, at) for at in used for how in ("flip", "zero", "ones")
                     if how == "flip" or data[at] != (0 if how == "zero" else 255)]
            found += [Case(kind, file, "cut", at) for at in used if at < len(data)]
            found += [Case(kind, file, "append", n) for n in (1, 2, 100, 5000)]
            if file.startswith("kept-0/") and file.endswith(".log"):
                mark_gaps(data, found)
            if kind == "killed" and file.endswith(".log") and not file.startswith("__cluster"):
                mark_end(file, data, found)
            groups[kind, file] = found
    return groups


def batches(data):
    """(position, size, base offset, last offset) of each."""
    at = 0
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        if size <= 0:
            return
        yield at, size + 12, base, base + struct.unpack_from(">i", data, at + 23)[0]
        at += size + 12


def mark_gaps(data, group):
    """Of a compacted log, which cases give a batch an offset that it might have had."""
    found, low = {}, 0
    for at, size, base, last in batches(data):
        after = next(iter(batches(data[at + size:])), (0, 0, 1 << 62, 0))[2]
        found.update({at + i: (at, low, after - 1 - (last - base)) for i in range(8)})
        low = last + 1
    for case in group:
        if case.how in ("flip", "zero", "ones") and case.at in found:
            at, first, last = found[case.at]
            case.in_gap = first <= int.from_bytes(case.apply(data)[at:at + 8], "big") <= last


def mark_end(file, data, group):
    behind = list(batches(data))[0 if file.startswith("__") else -BEHIND_INDEX:]  # one entry in 4 KiB there
    places = {at + i for at, *_ in behind for i in range(16)}
    for case in group:
        case.at_end = case.how != "cut" and case.at in places


def uncovered(made, groups):
    """Each byte of batches in segments that no checksum covers, and the header of the last group of a
    write-ahead log: what was read wrongly, once."""
    chosen = []
    for (kind, file), group in groups.items():
        data, places = made[kind][0][file], set()
        if file.endswith(".log") and not file.startswith("__cluster"):
            places = {at + i for at, *_ in batches(data) for i in range(16)}
        elif file.startswith("wal-") and kind == "killed":
            last = max((at for at in range(0, len(data), WAL_BLOCK) if data[at:at + 4] == b"TGRP"), default=-64)
            places = set(range(last, last + 64))
        chosen += [c for c in group if c.at in places and c.how in ("flip", "zero")]
    return chosen


def small_cuts(made, groups):
    """Every cut of one small file of each sort."""
    first = {}
    for kind, file in groups:
        if kind == "stopped" and len(made[kind][0][file]) <= SMALL:
            first.setdefault(what(file), groups[kind, file])
    return [c for g in first.values() for c in g if c.how == "cut"]


def sample(made, groups, count, rng):
    """Each file's share: more from those that are large, some from each."""
    total = sum(len(g) for g in groups.values())
    chosen = small_cuts(made, groups) + uncovered(made, groups)
    for g in groups.values():
        share = min(count * len(g) // total, count // 20) if len(groups) > 1 else count
        chosen += rng.sample(g, min(len(g), max(2, share)))
    rng.shuffle(chosen)
    return chosen


# ---- cases that are tried at once ------------------------------------------------------------------

def domain(case):
    """What alone the case can change: the folder of a partition, a closed write-ahead log or a share
    of its blocks. None: it might change anything."""
    folder, _, _ = case.file.rpartition("/")
    if folder and not folder.startswith("__cluster_metadata") and not unknowable(case):
        return folder
    if case.kind == "stopped" and case.file.startswith("wal-"):
        block = case.at // WAL_BLOCK
        return case.file, block % WAL_SHARES if block and case.how in ("flip", "zero", "ones") else None
    return None


def bundles(cases, rng):
    """Lists of cases for one start each, of different domains: what goes wrong in one of them cannot be
    hidden by another. A case that changes the whole of a file is the only one there."""
    for kind in ("stopped", "killed"):
        queues = defaultdict(list)
        for case in (c for c in cases if c.kind == kind):
            where = domain(case)
            if where is None:
                yield [case]
            else:
                queues[where].append(case)
        for queue in queues.values():
            rng.shuffle(queue)
        while queues:
            bundle, whole = [], {w[0] for w in queues if isinstance(w, tuple) and w[1] is None}
            for where in list(queues):
                if isinstance(where, str) or where[1] is None or where[0] not in whole:
                    bundle.append(queues[where].pop())
                    if not queues[where]:
                        del queues[where]
            yield bundle


def unknowable(case):
    """A time index that has lost whole entries, of a segment whose timestamps do not ascend: its last
    entry is true, and only a walk through the segment would tell that a later one was larger. A
    larger log start in Kafka's own file for it, which has no checksum. And another base offset of a batch in
    a compacted log that is as possible as its own: what was between may have been compacted away."""
    return case.in_gap or (case.how == "cut" and case.file.endswith(".timeindex") and case.at % 12 == 0) or \
        (case.how == "flip" and case.file == "log-start-offset-checkpoint")


def unmended(case):
    """Base offset, size and epoch of the last batches in a segment, after a kill: a start believes them
    over the write-ahead log, which has what follows; and inspection does not know where that goes on."""
    return case.at_end


def torn(case, said):
    """Was what is missing of the last write, and was it said?"""
    if case.file.startswith("wal-"):
        return "last write was torn" in said
    return case.file.startswith("__cluster_metadata") and "unfinished write" in said


# ---- what inspection may pass over ---------------------------------------------------------------

HARMLESS = [  # kind, file, how, reason
    ("stopped", r"^wal-", ".*", "a closed write-ahead log is not read: all of it is in segments"),
    ("killed", r"^wal-", "flip|zero|ones", "padding between groups, which no checksum covers, and an "
     "entry's slot in memory, which means nothing on disk"),
    (".*", r"\.index$", "flip|zero|ones", "an entry still leads to its batch, from further away"),
    (".*", r"\.timeindex$", "flip|zero|ones", "an entry's other offset is of a batch that it is true of"),
    (".*", r"index$", "cut", "a shorter index leads to the same batches, later"),
    (".*", r"index$", "append", "zeros behind an index that is open are room that was made in advance"),
    (".*", r"kafka_cleanshutdown$", ".*", "what counts is that the file is there"),
    (".*", r"durable-end\.torc$", ".*", "a mark that cannot be read is as none; its log is whole"),
    (".*", r"quorum-state$", ".*", "no checksum: a higher epoch, names of fields that torc does not read"),
    (".*", r"meta\.properties$", ".*", "no checksum: a cluster id is compared with other directories'"),
    (".*", r"-checkpoint$", ".*", "no checksum: a lower offset makes a start look at more"),
    (".*", r"^bootstrap\.checkpoint$", "flip|zero|ones", "offset and epoch of a batch there mean nothing"),
    ("killed", r"\.log$", "append", "what stands behind the end of a log that was not closed is cut"),
    (".*", r"^__cluster_metadata-0/.*\.checkpoint$", "flip|zero|ones", "offset and epoch of a batch in a "
     "snapshot mean nothing"),
    (".*", r"/log-cleaned\.torc$", ".*", "no checksum: a lower offset says less"),
    (".*", r"partition\.metadata$", "flip|zero|ones", "four bits of an id's last character mean nothing"),
    ("killed", r"\.(timeindex|txnindex|snapshot)$", ".*", "of what the write-ahead log has: it is "
     "written anew"),
]


def harmless(case):
    for kind, file, how, why in HARMLESS:
        if re.fullmatch(kind, case.kind) and re.search(file, case.file) and re.fullmatch(how, case.how):
            return why
    return None


def what(file):
    """The sort of file, for the table."""
    name = file.rpartition("/")[2]
    if file.startswith("__cluster_metadata"):
        return "metadata " + re.sub(r"^[\d-]+", "*", name)
    if file.startswith("__"):
        return "internal " + re.sub(r"^\d+", "*", name)
    return re.sub(r"^\d{20}", "*", re.sub(r"^wal-\d+-\d+", "wal-*", name))
