#!/usr/bin/env python3
"""The tests that franz-go's authors run their client with against Kafka, compiled from its published
module, against the broker: partitions paused, purged, added; chains of consumer groups and of
transactions, each record once and in order, while members come and go.

Left out are tests that need no broker, and TestIssue865 and TestClient_Produce: thousands of writes one
after the other, which measure the disk.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "tests"))
from harness import venv  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report, Skip  # noqa: E402
from interop.clients.run import HERE as CLIENTS, modules, need  # noqa: E402

TESTS = ["TestTxnEtl", "TestGroupETL", "TestGroupSimple", "TestPause.*", "TestDirectPartitionPurge",
         "TestIssue(325|337|434|523|648|769|810|831|1034)",
         "TestAddRemovePartitions", "TestConsumeRegex", "TestConsumeTopicRetrieval.*", "TestPing",
         "TestPooling", "TestUnknownGroupOffsetFetchPinned"]
RECORDS, AT_ONCE, LIMIT_S = 3000, 16, 200  # they wait more than they work
SETTINGS = {"group.initial.rebalance.delay.ms": 0, "log.retention.ms": -1}


def program():
    """The package's tests as one program, in the version that this machine's Go can compile."""
    need("go")
    path = TOP / "build/test-go/kgo.test"
    path.parent.mkdir(parents=True, exist_ok=True)
    venv.install("go", "test", "-c", f"-modfile={modules()}", "-o", path,
                 "github.com/twmb/franz-go/pkg/kgo", cwd=CLIENTS / "go")
    return path


def run(report, broker, path, only):
    env = {**os.environ, "KGO_SEEDS": broker.address, "KGO_TEST_RF": "1",
           "KGO_TEST_RECORDS": str(RECORDS), "KGO_TEST_STABLE_FETCH": "1", "KGO_LOG_LEVEL": "none"}
    command = [path, "-test.v", f"-test.parallel={AT_ONCE}", f"-test.timeout={LIMIT_S}s",
               "-test.run", f"^({'|'.join(only or TESTS)})$"]
    task = subprocess.run(command, env=env, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = re.findall(r"^ *--- (PASS|FAIL|SKIP): (\S+) \((.*)\)", task.stdout, re.M)
    for result, name, took in found:
        if result == "PASS":
            report.ok(name, took)
        elif result == "FAIL":
            report.fail(name, took)
        else:
            report.skip(name, "the test says so itself")
    if task.returncode:
        print("      " + "\n      ".join(line[:300] for line in task.stdout.splitlines()[-60:]))
    report.check("the program ended well", task.returncode == 0 and found,
                 f"exit {task.returncode}")
    report.check("the broker is still up", broker.alive(), broker.log_tail(5))


def main():
    interrupt_on_term()
    parser = arguments(__doc__)
    parser.add_argument("tests", nargs="*", help="only these")
    args = parser.parse_args()
    report = Report()
    with Place(args.keep) as place:
        try:
            path = program()
            run(report, place.broker(args.broker, settings=SETTINGS).start(), path, args.tests)
        except Skip as e:
            report.skip("franz-go's tests", str(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
