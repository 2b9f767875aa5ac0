"""Real clients as members of groups.

Each program takes ADDRESS TOPIC GROUP COUNT IDLE_S, and "consumer" if it is to speak the consumer
protocol (KIP-848): it reads from the earliest offset that its group has
not committed, prints "record PARTITION OFFSET" for each record and "assigned PARTITION..." for each
assignment, commits, and leaves after COUNT records or when none has come for IDLE_S.
"""
import collections
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from harness import kafka, venv
from harness.batch import batch
from harness.report import Skip
from harness.wire import Client
from interop.clients import run as clients

HERE = Path(__file__).resolve().parent
PARTITIONS, LIMIT_S, EACH = 4, 90, 25
ALL = 1_000_000
Ran = collections.namedtuple("Ran", "records assigned text")


def python(program):
    return lambda: [venv.python(), HERE / program]


def kcat():
    clients.need("kcat")
    return [clients.sys.executable, HERE / "member_kcat.py"]


def node():
    folder = Path(clients.node()[1]).parent
    shutil.copy(HERE / "member.js", folder)
    return ["node", folder / "member.js"]


def go():
    clients.go()  # brings the modules
    program = clients.TOP / "build/test-go/member"
    venv.install("go", "build", f"-modfile={clients.modules()}", "-o", program, "./member",
                 cwd=clients.HERE / "go")
    return [program]


def java():
    """Kafka's console consumer; it has an order of words of its own, see words()."""
    clients.need("java")
    return kafka.java("org.apache.kafka.tools.consumer.ConsoleConsumer")


CLIENTS = [("kcat", kcat), ("confluent-kafka", python("member_confluent.py")),
           ("kafka-python", python("member_kafka_python.py")),
           ("aiokafka", python("member_aiokafka.py")), ("franz-go", go), ("kafkajs", node),
           ("java", java), ("confluent-kafka as consumer", python("member_confluent.py")),
           ("java as consumer", java)]


def words(name, address, topic, group, count, idle_s):
    new = name.endswith(" as consumer")
    if not name.startswith("java"):
        return [address, topic, group, str(count), str(idle_s), *(["consumer"] if new else [])]
    return [*(["--command-property", "group.protocol=consumer"] if new else []), "--bootstrap-server", address, "--topic", topic, "--group", group, "--from-beginning",
            "--timeout-ms", str(int(idle_s * 1000) + 8000), "--formatter-property",
            "print.partition=true", "--formatter-property", "print.offset=true",
            *(["--max-messages", str(count)] if count < ALL else [])]


def start(name, command, *rest):
    return subprocess.Popen([*map(os.fspath, command), *words(name, *rest)], text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def finish(task):
    """What a member has printed, when it has left."""
    try:
        text = task.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        task.kill()
        text = task.communicate()[0] + "\nnot done in time"
    found = re.findall(r"^record (\d+) (\d+)|^Partition:(\d+)\s+Offset:(\d+)", text, re.M)
    records = [(int(a or c), int(b or d)) for a, b, c, d in found]
    assigned = [set(map(int, m.split())) for m in re.findall(r"^assigned(.*)", text, re.M)]
    return Ran(records, assigned, text)


def produce(address, topic, each):
    """So many records into each partition, one batch each."""
    with Client(address) as c:
        answer = c.ask("Produce", 7, {"acks": -1, "timeout_ms": 20000, "topic_data": [
            {"name": topic, "partition_data": [
                {"index": p, "records": batch([(b"k", b"v%d" % i) for i in range(each)])}
                for p in range(PARTITIONS)]}]})
        for p in answer["responses"][0]["partition_responses"]:
            if p["error_code"]:
                raise RuntimeError(f"produce: {p}")


def create(address, topic):
    with Client(address) as c:
        c.ask("CreateTopics", 7, {"timeout_ms": 20000, "topics": [
            {"name": topic, "num_partitions": PARTITIONS, "replication_factor": 1}]})
        late = time.monotonic() + 20
        while time.monotonic() < late:
            t = c.ask("Metadata", 9, {"topics": [{"name": topic}]})["topics"][0]
            if not t["error_code"] and all(not p["error_code"] for p in t["partitions"]):
                return
            time.sleep(0.05)
    raise RuntimeError(f"{topic} has no leaders")


def expect_records(ran, low, high):
    want = {(p, o) for p in range(PARTITIONS) for o in range(low, high)}
    got = set(ran.records)
    if got != want or len(ran.records) != len(want):
        raise AssertionError(f"{len(ran.records)} records, {len(want - got)} are missing, "
                             f"{len(got - want)} too many\n{ran.text[-800:]}")


def story(ran):
    """What a member has seen, in short: runs of records of one partition as one line."""
    lines = []
    for line in ran.text.splitlines():
        m = re.match(r"(record \d+|Partition:\d+\s+Offset:) ?(\d+)", line)
        if m and lines and lines[-1][0] == m[1]:
            lines[-1][2] = m[2]
        else:
            lines.append([m[1], m[2], m[2]] if m else [line, "", ""])
    return "; ".join(f"{a} {b}..{c}" if b else a for a, b, c in lines)[-1500:]


def alone(broker, name, command):
    """One member reads all, another of its group then nothing more but what is new."""
    topic = f"t-{name}".replace(" ", "-")
    create(broker.address, topic)
    produce(broker.address, topic, EACH)
    expect_records(finish(start(name, command, broker.address, topic, f"g-{name}",
                                EACH * PARTITIONS, 8)), 0, EACH)
    produce(broker.address, topic, 2)
    expect_records(finish(start(name, command, broker.address, topic, f"g-{name}",
                                2 * PARTITIONS, 8)), EACH, EACH + 2)


def together(broker, name, command):
    """Two members share the partitions: each has some, none has another's, nothing is lost."""
    topic, group = f"t-{name}".replace(" ", "-"), f"both-{name}"
    both = [start(name, command, broker.address, topic, group, ALL, 4) for _ in range(2)]
    produce(broker.address, topic, 3)
    ran = [finish(task) for task in both]
    got = set(ran[0].records) | set(ran[1].records)
    want = {(p, o) for p in range(PARTITIONS) for o in range(EACH + 5)}
    if got != want:
        raise AssertionError(f"{len(want - got)} records are missing:\n{story(ran[0])}\n"
                             f"{story(ran[1])}")
    for r in ran:
        if not r.assigned and not name.startswith("java"):
            raise AssertionError(f"a member was never assigned anything\n{r.text[-500:]}")


def both_protocols(broker, _, command):
    """A classic member and one of the consumer protocol share a group, while it is taken over, and
    after the latter has left the former has everything again."""
    topic, group = "t-both-protocols", "both protocols"
    create(broker.address, topic)
    produce(broker.address, topic, 2)
    old = start("confluent-kafka", command, broker.address, topic, group, ALL, 9)
    time.sleep(1)
    new = start("confluent-kafka as consumer", command, broker.address, topic, group, ALL, 4)
    for _ in range(5):
        time.sleep(0.5)
        produce(broker.address, topic, 1)
    ran = [finish(new)]
    produce(broker.address, topic, 1)
    ran.append(finish(old))
    got = set(ran[0].records) | set(ran[1].records)
    if got != {(p, o) for p in range(PARTITIONS) for o in range(8)}:
        raise AssertionError(f"{len(got)} records:\n{story(ran[0])}\n{story(ran[1])}")
    if not ran[0].assigned or not any(a and len(a) < PARTITIONS for a in ran[1].assigned):
        raise AssertionError(f"they did not share:\n{story(ran[0])}\n{story(ran[1])}")
    if (PARTITIONS - 1, 7) not in ran[1].records:
        raise AssertionError(f"the last is not the first one's:\n{story(ran[1])}")


def after_kill(broker, name, command):
    """What was committed before a kill -9 is still known."""
    topic = f"t-{name}".replace(" ", "-")
    produce(broker.address, topic, 4 if name == "java as consumer" else 1)  # three are of `together`
    ran = finish(start(name, command, broker.address, topic, f"g-{name}", 4 * PARTITIONS, 8))
    expect_records(ran, EACH + 2, EACH + 6)


def run_clients(report, place, kind, wanted):
    """Kills the broker once for all clients."""
    able, settings = [], {"log.retention.ms": -1, "group.consumer.min.heartbeat.interval.ms": 300,
                          "group.consumer.heartbeat.interval.ms": 300}
    broker = place.broker(kind, "clients", settings=settings).start()
    for name, prepare in CLIENTS:
        if wanted and name not in wanted:
            continue
        try:
            able.append((name, prepare()))
        except Skip as e:
            report.skip(name, str(e))
    for name, command in able:
        report.case(f"{name} alone", alone, broker, name, command)
        if name != "java as consumer":  # it waits long before it leaves; the other one does the same
            report.case(f"{name} together", together, broker, name, command)
        if name == "confluent-kafka as consumer":
            report.case("both protocols together", both_protocols, broker, name, command)
    if broker.kind == "address":
        report.skip("clients after a kill", "the broker is somebody else's")
        return
    broker.kill()
    broker.start()
    for name, command in able:
        report.case(f"{name} after a kill", after_kill, broker, name, command)
    report.check("the broker is up after the clients", broker.alive(), broker.log_tail(5))
