#!/usr/bin/env python3
"""Kafka's own tools against the broker under test and against Apache Kafka: the same calls, the same
answers. What may differ (ids, times, ports, figures) is evened out; any other difference must stand in
differences.txt with its reason."""
import difflib
import fnmatch
import re
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from harness.tools import Tools  # noqa: E402
from interop.tools.calls import calls  # noqa: E402

HERE = Path(__file__).resolve().parent
ID = r"(?<![\w-])[\w-]{22}(?![\w-])"
EVEN = [
    (r"(?m)^\[\d{4}-\d\d-\d\d [\d:,]+\] ", ""),              # log lines of the client
    (r"\bTopicId: \S+", "TopicId: ID"),
    (r"(Cluster ?I[dD]: +)\S+", r"\1ID"),
    (rf"(?m)^(\d+\s+){ID}", r"\1ID"),                          # a directory's
    (r'"(avg_throughput|target_throughput)":[-\d.E]+', r'"\1":N'),
    (r"\b1[6-9]\d{11}\b", "TIME"),
    (r"(HighWatermark: +|Epoch: +|FinalizedVersionLevel: 4\S+ +Epoch: )\d+", r"\1N"),
    (r"(?m)^\s+at .*\n", ""),                                # a stack trace tells nothing of brokers
    (r"(?m)^(\d+\s+ID\s+)\d+", r"\1N"),                         # log end offset of the quorum
    (r"\d+ records sent, .*(records/sec).*", "figures"),
    (r"(?m)^[\d.]+ms? .*latency.*", "figures"),
    (r"(connection to node |Connection to node )-?\d+ .*", r"\1N"),
    (r"(?<![\w-])[\w-]{22}(?=\s+/127)", "MEMBER"),           # of a group of the new protocol
]
BATCHED = {"end offsets after load"}       # sums matter, the split over partitions is by chance
SETTLE_S = 0.25  # Kafka applies an acknowledged change, and a member's leave, a moment later
SORTED = {"log directories of a topic", "log directories of a broker", "verifiable producer"}


def even(text, broker, folder):
    """Replace what two brokers, or two runs of one, cannot have in common."""
    text = text.replace(str(broker.port), "PORT").replace(str(folder), "DIR")
    if broker.kind != "address":
        text = text.replace(str(broker.controller), "CPORT").replace(str(broker.data), "DATA")
    for pattern, with_what in EVEN:
        text = re.sub(pattern, with_what, text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def shape(call, lines):
    """Order or sum what has no order."""
    if call.name in BATCHED:
        return [f"sum {sum(int(line.rpartition(':')[2]) for line in lines)}"]
    if call.name == "verifiable producer":
        lines = [re.sub(r'"(partition|offset)":\d+', r'"\1":N', line) for line in lines]
    if call.name in SORTED:
        lines = sorted(re.sub(r'\{"partition":[^}]*\}', "", line) +
                       " ".join(sorted(re.findall(r'\{"partition":[^}]*\}', line)))
                       for line in lines)
    return lines


def run_all(tools, broker, folder):
    """Every call's evened-out answer, by name."""
    answers = {}
    folder.mkdir(parents=True, exist_ok=True)
    for call in calls():
        if call.tool == "file":
            (folder / call.name).write_text(call.words)
            continue
        words = call.words.replace("{b}", f"--bootstrap-server {broker.address}")
        words = words.replace("{dir}", str(folder))
        begin = time.monotonic()
        a = (tools.alone if call.alone else tools.run)(call.tool, words, stdin=call.stdin)
        lines = [f"exit {a.status}", *even(a.out, broker, folder),
                 *("err: " + line for line in even(a.err, broker, folder))]
        answers[call.name] = (shape(call, lines) if call.name not in BATCHED
                              else shape(call, even(a.out, broker, folder)),
                              time.monotonic() - begin)
        if "--alter" in words or "--group" in words:
            time.sleep(SETTLE_S)
        if not broker.alive():
            raise RuntimeError(f"{broker.kind} is gone after '{call.name}':\n{broker.log_tail()}")
    return answers


def allowed_differences():
    """differences.txt as a list of (names, reason, removed patterns, added patterns)."""
    entries = []
    for line in (HERE / "differences.txt").read_text().splitlines():
        if m := re.fullmatch(r"\[(.+)\]", line):
            entries.append([m[1], "", [], []])
        elif line.startswith("why: "):
            entries[-1][1] = line[5:]
        elif line[:2] in ("- ", "+ "):
            entries[-1][2 if line[0] == "-" else 3].append(line[2:])
    if any(not e[1] for e in entries):
        raise ValueError("differences.txt: every entry needs its why")
    return entries


def unexplained(name, kafka, other, entries):
    """Lines of the difference that no entry explains."""
    diff = [d for d in difflib.ndiff(kafka, other) if d[0] in "-+"]
    left = []
    for line in diff:
        side = 2 if line[0] == "-" else 3
        if not any(fnmatch.fnmatchcase(name, e[0]) and
                   any(re.fullmatch(p, line[2:]) for p in e[side]) for e in entries):
            left.append(line)
    return left


def main():
    interrupt_on_term()
    args = arguments(__doc__, show={"action": "store_true", "help": "print every answer of Kafka"}) \
        .parse_args()
    report = Report()
    try:
        with Place(args.keep) as place, Tools() as tools:
            kafka = run_all(tools, place.broker("kafka", "oracle").start(), place.folder / "f1")
            if args.show:
                for name, (lines, took) in kafka.items():
                    print(f"--- {name} ({took:.2f} s)", *lines, sep="\n")
            other = run_all(tools, place.broker(args.broker).start(), place.folder / "f2")
            entries = allowed_differences()
            for name, (lines, _) in kafka.items():
                left = unexplained(name, lines, other[name][0], entries)
                report.check(name, not left, "unlike Kafka:\n" + "\n".join(
                    "        " + line for line in left[:40]))
    except Skip as e:
        report.skip("tools", str(e))
    except Exception as e:
        report.fail("tools", f"{type(e).__name__}: {e}")
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
