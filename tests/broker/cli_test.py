#!/usr/bin/env python3
"""The command line from outside: words in, text and exit code out.

usage: cli_test.py PROGRAM [unittest arguments]
"""
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.batch import batch, crc32c  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1])
ALONE = "process.roles=broker,controller\nnode.id=1\n"


def torc(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def padded(data, to):
    return data + bytes(-len(data) % to)


class CliTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def write(self, name, content):
        path = self.dir / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def envelope(self, out):
        answer = json.loads(out)
        self.assertEqual(["command", "version", "data", "errors"], list(answer))
        return answer


class Frame(CliTest):
    def test_words_that_are_no_command_are_misuse_with_a_guess(self):
        for words, guess in ((["confg"], "torc config`"),
                             (["config", "chekc", "x"], "config check"),
                             (["inspect", "segmnt", "x"], "inspect segment"),
                             (["formt"], "torc format`")):
            code, out, err = torc(*words)
            self.assertEqual((2, ""), (code, out))
            self.assertIn(f"did you mean `{guess}" if guess.endswith("`") else guess, err)

    def test_nothing_said_shows_the_commands_and_is_misuse(self):
        code, out, _ = torc()
        self.assertEqual(2, code)
        self.assertIn("usage: torc COMMAND", out)

    def test_help_is_asked_in_four_ways_and_is_the_same(self):
        self.assertEqual(1, len({torc("help", "config", "check"), torc("config", "check", "-h"),
                                 torc("config", "check", "--help"),
                                 torc("config", "check", "some", "--help")}))
        code, out, _ = torc("help", "config", "check")
        self.assertEqual(0, code)
        self.assertIn("usage: torc config check [OPTION]... FILE", out)
        self.assertIn("--json", out)

    def test_every_command_has_help_that_names_its_options(self):
        pending, seen = [[]], 0
        while pending:
            words = pending.pop()
            code, out, err = torc("help", *words)
            self.assertEqual((0, ""), (code, err))
            for name in re.findall(r"^  (\w+(?: \w+)?)  ", out, re.M):
                pending.append(name.split())
                seen += 1
        self.assertEqual(24, seen)

    def test_version(self):
        self.assertEqual(torc("version"), torc("--version"))
        self.assertRegex(torc("--version")[1], r"^torc \d+\.\d+\.\d+, speaks Kafka 4\.3\n$")

    def test_wrong_options_say_what_is_wrong(self):
        for words, part in ((["config", "list", "--scpe"], "did you mean --scope?"),
                            (["config", "list", "--json=1"], "--json takes no value"),
                            (["config", "list", "--scope"], "--scope needs a value"),
                            (["config", "list", "-q"], "no option is called -q"),
                            (["config", "list", "extra"], "one word too many"),
                            (["config", "list", "--json", "--json"], "more than 1 time"),
                            (["config", "list", "--scope", "moon"], "--scope is broker"),
                            (["config", "explain"], "say KEY")):
            code, out, err = torc(*words)
            self.assertEqual((2, ""), (code, out), words)
            self.assertIn(part, err)


class Broker(CliTest):
    def test_starts_without_a_file_as_a_node_of_its_own(self):
        self.assertEqual((0, "broker: node 1, port 9092, data in /tmp/torc-logs\n", ""),
                         torc("broker"))

    def test_a_properties_file_means_broker_and_options_go_before_it(self):
        path = self.write("a.properties", ALONE + "listeners=PLAINTEXT://:1\nlog.dirs=/a\n")
        expected = (0, "broker: node 1, port 7, data in /a\n", "")
        self.assertEqual(expected, torc(path, "-X", "listeners=PLAINTEXT://:7"))
        self.assertEqual(expected, torc("broker", "-Xlisteners=PLAINTEXT://:7", path))

    def test_mistakes_are_told_and_it_does_not_start(self):
        path = self.write("a.properties", ALONE + "num.partitions=x\nnum.partition=1\n")
        code, out, err = torc(path)
        self.assertEqual((1, ""), (code, out))
        self.assertIn(f"error: {path}:3: num.partitions: Invalid value x", err)
        self.assertIn("warning: ", err)
        self.assertIn("not started: 1 error in the configuration", err)
        code, _, err = torc("broker", self.dir / "absent.properties")
        self.assertEqual(1, code)
        self.assertIn("cannot be read: No such file", err)


class Config(CliTest):
    def test_check_tells_everything_and_its_code_says_whether_it_starts(self):
        good = self.write("good.properties", ALONE + "num.io.threads=3\n")
        code, out, err = torc("config", "check", good)
        self.assertEqual((0, ""), (code, err))
        self.assertIn("note: ", out)
        self.assertIn("the broker starts with it: node 1, listens on PLAINTEXT://:9092", out)
        bad = self.write("bad.properties", ALONE + "listeners=SSL://:9092\nzookeeper.connect=a\n")
        code, out, _ = torc("config", "check", bad)
        self.assertEqual(1, code)
        self.assertIn("errors 2", out)
        answer = self.envelope(torc("config", "check", "--json", bad)[1])
        self.assertFalse(answer["data"]["ok"])
        self.assertEqual({"listeners", "zookeeper.connect"},
                         {p["key"] for p in answer["data"]["problems"]})

    def test_check_reads_a_file_of_any_bytes_without_falling_over(self):
        for content in (b"\xff\xfe\x00=\x00", b"a=\\u12", b"=" * 70000, b"\\", b""):
            code, out, _ = torc("config", "check", self.write("x.properties", content))
            self.assertEqual(1, code)
            self.assertIn("does not start", out)

    def test_list_has_every_key_once(self):
        answer = self.envelope(torc("config", "list", "--json", "--all")[1])
        names = [key["name"] for key in answer["data"]]
        self.assertEqual(sorted(set(names)), names)
        self.assertGreater(len(names), 360)
        code, out, _ = torc("config", "list", "-s", "topic")
        self.assertEqual(0, code)
        self.assertIn("write.caching", out)
        self.assertNotIn("internal.segment.bytes", out)
        refused = torc("config", "list", "--treatment=refused")[1].splitlines()[1:]
        self.assertTrue(all(" refused " in line for line in refused))

    def test_explain_knows_keys_of_all_kinds_and_guesses(self):
        for key, part in (("log.retention.ms", "a key of brokers"), ("retention.ms", "inherits"),
                          ("consumer.session.timeout.ms", "a key of group"),
                          ("match", "a key of client-metrics"),
                          ("listener.name.a.ssl.keystore.password", "never shown"),
                          ("zookeeper.connect", "refused: ")):
            code, out, _ = torc("config", "explain", key)
            self.assertEqual(0, code, key)
            self.assertIn(part, out)
        code, _, err = torc("config", "explain", "retnetion.ms")
        self.assertEqual(1, code)
        self.assertIn("did you mean retention.ms?", err)
        both = self.envelope(torc("config", "explain", "--json", "compression.type")[1])
        self.assertEqual(["broker", "topic"], [key["scope"] for key in both["data"]])


class Format(CliTest):
    CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"

    def format(self, *words, name="data"):
        path = self.write("f.properties", ALONE + f"log.dirs={self.dir / name}\n")
        return torc("format", "-c", path, "-t", self.CLUSTER, *words)

    def features(self, name="data"):
        answer = self.envelope(
            torc("inspect", "metadata", "--json", self.dir / name / "bootstrap.checkpoint")[1])
        return {r["fields"].split()[0][5:]: int(r["fields"].split("=")[-1])
                for r in answer["data"][0]["records"] if r["type"] == "FEATURE_LEVEL_RECORD"}

    def test_writes_once_and_is_left_alone_on_demand(self):
        code, out, _ = self.format("--standalone")
        self.assertEqual(0, code)
        self.assertIn(f"formatted {self.dir / 'data'}: cluster {self.CLUSTER}, node 1", out)
        self.assertIn(f"cluster.id={self.CLUSTER}",
                      (self.dir / "data" / "meta.properties").read_text())
        code, _, err = self.format()
        self.assertEqual(1, code)
        self.assertIn("formatted already", err)
        code, out, _ = self.format("-g", "--json")
        self.assertEqual(0, code)
        self.assertFalse(self.envelope(out)["data"]["formatted_now"])

    def test_levels_of_features_follow_the_release_as_in_kafka(self):
        full = {"metadata.version": 30, "eligible.leader.replicas.version": 1, "group.version": 1,
                "share.version": 1, "streams.version": 1, "transaction.version": 2}
        for name, words, expected in (
                ("a", [], full),
                ("b", ["-r", "3.9"], {"metadata.version": 21}),
                ("c", ["-r", "4.0-IV3"], {"metadata.version": 25, "group.version": 1,
                                          "transaction.version": 2}),
                ("d", ["-f", "transaction.version=1"], {**full, "transaction.version": 1}),
                ("e", ["-f", "share.version=0"],
                 {k: v for k, v in full.items() if k != "share.version"}),
                ("f", ["-f", "metadata.version=21", "-f", "transaction.version=2"],
                 {"metadata.version": 21, "transaction.version": 2})):
            self.assertEqual(0, self.format(*words, name=name)[0])
            self.assertEqual(expected, self.features(name), words)

    def test_what_it_cannot_do_is_refused_before_anything_is_written(self):
        for words, part in ((["-I", "1@a:1:x"], "quorums of one"), (["-N"], "join a quorum"),
                            (["-S", "x"], "does not serve"), (["-r", "9.9"], "is unknown"),
                            (["-f", "moon=1"], "no feature is called moon"),
                            (["-f", "group.version"], "is not NAME=LEVEL"),
                            (["-f", "group.version=9"], "newest level of group.version is 1"),
                            (["-f", "group.version=1", "-f", "group.version=0"], "said twice"),
                            (["-f", "metadata.version=99"], "is not served"),
                            (["-r", "4.0", "-f", "metadata.version=25"], "both choose"),
                            (["-r", "3.8", "-f", "eligible.leader.replicas.version=1"], "needs"),
                            (["-s", "-f", "kraft.version=0"], "kraft.version 0")):
            code, _, err = self.format(*words)
            self.assertEqual(2, code, words)
            self.assertIn(part, err)
            self.assertFalse((self.dir / "data").exists())


class Segment(CliTest):
    NAME = "t-0/00000000000000000007.log"

    def test_shows_batches_as_kafkas_tool_does(self):
        content = batch([(b"k", b"v"), (None, b"vv")], base_offset=7, epoch=3, producer=5,
                        producer_epoch=1, sequence=2)
        path = self.write(self.NAME, content)
        code, out, err = torc("inspect", "segment", "--records", path)
        self.assertEqual((0, ""), (code, err))
        lines = out.splitlines()
        self.assertEqual("Log starting offset: 7", lines[1])
        self.assertRegex(lines[2], r"^baseOffset: 7 lastOffset: 8 count: 2 baseSequence: 2 "
                         r"lastSequence: 3 producerId: 5 producerEpoch: 1 partitionLeaderEpoch: 3 "
                         r"isTransactional: false isControl: false "
                         r"deleteHorizonMs: OptionalLong.empty position: 0 "
                         rf"CreateTime: 1700000000000 size: {len(content)} magic: 2 "
                         r"compresscodec: none crc: \d+ isvalid: true$")
        self.assertEqual("| offset: 8 CreateTime: 1700000000000 keySize: -1 valueSize: 2 "
                         "sequence: 3 headerKeys: []", lines[4])

    def test_looks_into_compressed_batches(self):
        path = self.write(self.NAME, batch([(b"k", b"v")] * 3, attributes=1))
        code, out, _ = torc("inspect", "segment", "-r", path)
        self.assertEqual(0, code)
        self.assertEqual(3, out.count("| offset: "))
        self.assertIn("compresscodec: gzip", out)

    def test_damage_is_told_and_what_is_whole_is_shown(self):
        one = batch(base_offset=0)
        for content, part, whole in ((one + one[:-3], f"is cut short; {len(one) - 3} bytes", 1),
                                     (one + bytes(8) + b"\xff" * 80, "is no batch", 1),
                                     (one + batch(crc=1), "1 batches whose bytes", 2),
                                     (one + batch(attributes=1, payload=b"xx"), "1 batches", 2),
                                     (one + batch(magic=1), "magic 0 or 1", 1)):
            path = self.write(self.NAME, content)
            code, out, err = torc("inspect", "segment", "-r", path)
            self.assertEqual(1, code, part)
            self.assertIn(part, err)
            self.assertEqual(whole, out.count("baseOffset: "))

    def test_space_taken_in_advance_is_no_damage(self):
        path = self.write(self.NAME, batch() + bytes(2_000_000))
        self.assertEqual(0, torc("inspect", "segment", path)[0])

    def test_a_batch_larger_than_the_window_is_read(self):
        path = self.write(self.NAME, batch() + batch([(None, bytes(3_000_000))], base_offset=1))
        code, out, _ = torc("inspect", "segment", "-r", path)
        self.assertEqual(0, code)
        self.assertIn("valueSize: 3000000", out)

    def test_aborted_transactions_are_shown_as_kafka_does(self):
        entries = struct.pack(">hqqqq", 0, 7, 3, 9, 10) + struct.pack(">hqqqq", 0, 8, 4, 12, 13)
        path = self.write("t-0/00000000000000000000.txnindex", entries)
        code, out, _ = torc("inspect", "segment", path)
        self.assertEqual(0, code)
        self.assertIn("version: 0 producerId: 7 firstOffset: 3 lastOffset: 9 lastStableOffset: 10\n"
                      "version: 0 producerId: 8 firstOffset: 4 lastOffset: 12 lastStableOffset: 13",
                      out)
        answer = self.envelope(torc("inspect", "segment", "--json", self.dir / "t-0")[1])
        self.assertEqual(8, answer["data"][0]["aborted_transactions"][1]["producer_id"])
        self.write("t-0/00000000000000000000.txnindex", entries + b"x")
        self.assertEqual(1, torc("inspect", "segment", path)[0])

    def test_a_directory_stands_for_its_segments_in_order(self):
        self.write("t-0/00000000000000000009.log", batch(base_offset=9))
        self.write("t-0/00000000000000000000.log", batch())
        self.write("t-0/00000000000000000000.index", b"not a segment")
        answer = self.envelope(torc("inspect", "segment", "--json", self.dir / "t-0")[1])
        self.assertEqual([0, 9], [f["base_offset"] for f in answer["data"]])
        self.assertEqual([0, 9], [f["batches"][0]["base_offset"] for f in answer["data"]])
        self.assertEqual([], answer["errors"])

    def test_nothing_to_look_at_is_a_failure(self):
        self.assertEqual(1, torc("inspect", "segment", self.dir)[0])
        self.assertEqual(1, torc("inspect", "segment", self.dir / "absent")[0])

    def test_bytes_of_all_kinds_never_make_it_fall_over(self):
        one = batch([(b"key", b"value")] * 4, attributes=1)
        for at in range(len(one)):
            changed = one[:at] + bytes([one[at] ^ 0xff]) + one[at + 1:]
            code, _, _ = torc("inspect", "segment", "-r", self.write(self.NAME, changed))
            self.assertIn(code, (0, 1), at)


class Integrity(CliTest):
    """What is found in a directory of one node and one topic; tests/integrity does it byte by byte."""
    FOLDER = "data/t-0/"
    EMPTY = "00000000000000000000"

    def setUp(self):
        super().setUp()
        path = self.write("f.properties", ALONE + f"log.dirs={self.dir / 'data'}\n")
        self.assertEqual(0, torc("format", "-c", path)[0])
        first = batch([(b"k", b"v")] * 2, base_offset=0, epoch=0)
        self.log = first + batch([(b"k", b"w")], base_offset=2, epoch=0, time=1_700_000_000_001)
        self.write(self.FOLDER + "partition.metadata", "version: 0\ntopic_id: MkU3OEVBNTcwNTJENDM2Qg")
        self.write(self.FOLDER + "leader-epoch-checkpoint", "0\n1\n0 0\n")
        self.write(self.FOLDER + self.EMPTY + ".log", self.log)
        self.write(self.FOLDER + self.EMPTY + ".index", struct.pack(">ii", 2, len(first)))
        self.write(self.FOLDER + self.EMPTY + ".timeindex",
                   struct.pack(">qi", 1_700_000_000_001, 2))
        self.write("data/.kafka_cleanshutdown", "")

    def inspect(self, *words):
        code, out, err = torc("inspect", "integrity", "--json", *words, self.dir / "data")
        data = self.envelope(out)["data"]
        self.assertEqual(code, 1 if data["damaged"] else 0, err)
        return [(os.path.basename(f["file"]), f.get("position"), f["what"]) for f in data["findings"]
                if f["severity"] == "damage"]

    def found(self, name, content, text):
        before = (self.dir / "data/t-0" / name).read_bytes()
        self.write(self.FOLDER + name, content)
        found = self.inspect("--records")
        self.assertTrue(any(f[0] == name and text in f[2] for f in found), f"{name}: {found}")
        self.write(self.FOLDER + name, before)

    def test_a_whole_directory_has_no_damage_and_is_not_changed(self):
        before = {p: p.read_bytes() for p in self.dir.rglob("*") if p.is_file()}
        code, out, err = torc("inspect", "integrity", self.dir / "data")
        self.assertEqual((0, ""), (code, err), out)
        self.assertIn("no damage", out)
        self.assertTrue(all(len(line) <= 80 or "/" in line for line in out.splitlines()))
        self.assertEqual(before, {p: p.read_bytes() for p in self.dir.rglob("*") if p.is_file()})

    def test_wrong_use_is_2(self):
        self.assertEqual(2, torc("inspect", "integrity", self.dir / "none")[0])
        self.assertEqual(2, torc("inspect", "integrity", self.dir)[0])
        lock = self.write("data/.lock", "")
        with open(lock, "r+b") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            code, _, err = torc("inspect", "integrity", self.dir / "data")
            self.assertEqual(2, code)
            self.assertIn("used by a running broker", err)

    def test_damage_in_records_is_told_with_its_place(self):
        log = bytearray(self.log)
        log[70] ^= 1
        self.found(self.EMPTY + ".log", bytes(log), "checksum of the batch does not match")
        log = bytearray(self.log)
        log[7] = 5
        self.found(self.EMPTY + ".log", bytes(log), "overlap those of the batch before")
        log = bytearray(self.log)
        log[15] = 7
        self.found(self.EMPTY + ".log", bytes(log), "leader epoch is not that of")
        self.found(self.EMPTY + ".log", self.log[:-3], "is cut short")
        self.found(self.EMPTY + ".log", self.log + b"x" * 80, "is no batch")

    def test_indexes_that_lie_are_damage(self):
        self.found(self.EMPTY + ".index", struct.pack(">ii", 2, 5), "no batch at the position")
        self.found(self.EMPTY + ".index", struct.pack(">iib", 2, 70, 1), "no number of entries")
        self.found(self.EMPTY + ".timeindex", struct.pack(">qi", 1_700_000_000_002, 2), "largest")
        self.found(self.EMPTY + ".timeindex", b"", "its last entry is not the largest")

    def test_small_files_are_read_strictly(self):
        self.found("leader-epoch-checkpoint", "0\n1\n1 0\n", "") if False else None
        self.found("leader-epoch-checkpoint", "0\n2\n0 0\n", "no list of epochs")
        self.found("partition.metadata", "version: 0\ntopic_id: MkU3", "not a version and a topic id")
        self.write("data/recovery-point-offset-checkpoint", "0\n1\nt 0 9\n")
        self.assertEqual(["t-0 is said to reach offset 9, and its records end at 3"],
                         [f[2] for f in self.inspect()])


class Metadata(CliTest):
    def test_a_formatted_directory_is_told_record_by_record(self):
        data = self.dir / "data"
        path = self.write("f.properties", ALONE + f"log.dirs={data}\n")
        self.assertEqual(0, torc("format", "-c", path)[0])
        code, out, err = torc("inspect", "metadata", data)
        self.assertEqual((0, ""), (code, err))
        self.assertIn("KRAFT_VOTERS", out)
        code, out, _ = torc("inspect", "metadata", data / "bootstrap.checkpoint")
        self.assertEqual(0, code)
        self.assertIn("FEATURE_LEVEL_RECORD v0  name=metadata.version level=30", out)
        self.assertIn("SNAPSHOT_FOOTER", out)

    def test_records_that_are_not_metadata_are_told_as_such(self):
        path = self.write("00000000000000000000.log", batch([(None, b"\1\x7f\0rest")]))
        code, out, _ = torc("inspect", "metadata", path)
        self.assertEqual(1, code)
        self.assertIn("UNKNOWN v0  key=127", out)


class Wal(CliTest):
    """Files as broker/log/wal_format.h lays them out."""

    def entry(self, data, offset=5):
        body = struct.pack("<BBH16siiqqIII", 1, 0, 0, bytes(15) + b"\1", 2, 0, offset, offset,
                           len(data), 0, 61)
        crc = crc32c(body)
        return crc, padded(struct.pack("<I", crc) + body + struct.pack("<I", 0) + data, 8)

    def group(self, sequence, previous, entries):
        crcs = b"".join(struct.pack("<I", crc) for crc, _ in entries)
        body = b"".join(data for _, data in entries)
        used = 64 + len(body)
        head = struct.pack("<IIQQQqIIIII", 0x50524754, 1, 9, sequence, sequence, 1234,
                           used + -used % 4096, used, len(entries), crc32c(crcs), previous)
        crc = crc32c(head)
        return crc, padded(head + struct.pack("<I", crc) + body, 4096)

    def file(self, *groups, start=100):
        head = struct.pack("<IIQQQIIHHII", 0x4c415754, 1, 9, start, 1 << 20, 0, 0, 0, 2, 0, 0)
        return padded(head + struct.pack("<I", crc32c(head)), 4096) + b"".join(groups)

    def test_shows_groups_and_entries_up_to_the_first_that_does_not_follow(self):
        crc, first = self.group(100, 0, [self.entry(batch(base_offset=5))])
        crc, second = self.group(101, crc, [self.entry(batch()), self.entry(batch())])
        _, older = self.group(50, 0, [])
        path = self.write("wal-0-0.torc", self.file(first, second, older))
        code, out, err = torc("inspect", "wal", "--entries", path)
        self.assertEqual((0, ""), (code, err))
        self.assertIn("core 0 of 2, file 0, generation 9, from group 100", out)
        self.assertIn("partition 2 epoch 0 offsets 5-5", out)
        self.assertEqual(3, out.count(" valid\n"))
        self.assertIn("2 groups; older groups follow", out)
        answer = self.envelope(torc("inspect", "wal", "--json", self.dir)[1])
        self.assertEqual([1, 2], [g["valid_entries"] for g in answer["data"][0]["groups"]])

    def test_a_torn_group_ends_the_walk(self):
        crc, first = self.group(100, 0, [self.entry(batch())])
        _, second = self.group(101, crc, [self.entry(batch()), self.entry(batch())])
        torn = bytearray(self.file(first, second))
        torn[-3900] ^= 1
        code, out, _ = torc("inspect", "wal", self.write("wal-0-0.torc", bytes(torn)))
        self.assertEqual(0, code)
        self.assertIn("the last group shown is torn", out)

    def test_other_files_are_refused(self):
        self.assertEqual(1, torc("inspect", "wal", self.write("a.torc", b"x" * 5000))[0])
        self.assertEqual(1, torc("inspect", "wal", self.write("b.torc", b""))[0])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
