"""Kafka's command-line tools, many calls to one JVM (tests/interop/tools/ToolRunner.java)."""
import base64
import shlex
import subprocess
import threading
from collections import namedtuple

from . import kafka

CLASSES = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "kafka-dump-log": "org.apache.kafka.tools.DumpLogSegments",
}
Answer = namedtuple("Answer", "status out err")


class Tools:
    """A JVM that runs one tool at a time."""

    def __init__(self):
        self.jvm = None
        self.start()

    def start(self):
        classes = kafka.compile_java(kafka.TOP / "tests/interop/tools/ToolRunner.java")
        self.jvm = subprocess.Popen(kafka.java("ToolRunner", heap="512M", classes=classes),
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.DEVNULL, text=True)

    def run(self, tool, *words, stdin="", limit_s=90):
        """Call a tool with words; a single string with blanks is split as a shell would."""
        if len(words) == 1:
            words = shlex.split(words[0])
        call = [str(limit_s), CLASSES[tool], stdin, *map(str, words)]
        line = "\t".join(base64.b64encode(w.encode()).decode() for w in call)
        guard = threading.Timer(limit_s + 15, self.jvm.kill)
        guard.start()
        try:
            self.jvm.stdin.write(line + "\n")
            self.jvm.stdin.flush()
            answer = self.jvm.stdout.readline()
        finally:
            guard.cancel()
        if not answer:
            raise RuntimeError(f"the JVM ended in {tool} {' '.join(map(str, words))}")
        status, out, err = answer.rstrip("\n").split("\t")
        if status == "-1":  # it still runs in there, and would write into the next one's output
            self.__exit__()
            self.start()
        return Answer(int(status), *(base64.b64decode(w).decode(errors="replace")
                                     for w in (out, err)))

    def alone(self, tool, *words, stdin="", limit_s=60):
        """The same in a JVM that ends with it, for tools that act when the JVM ends."""
        if len(words) == 1:
            words = shlex.split(words[0])
        task = subprocess.run(kafka.java(CLASSES[tool], *words), input=stdin, text=True,
                              capture_output=True, timeout=limit_s)
        return Answer(task.returncode, task.stdout, task.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.jvm.kill()
        self.jvm.wait()
