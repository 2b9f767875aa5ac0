"""Apache Kafka itself: its jars, its Java programs, and the schemas inside them.

The jars come once through Maven, with whatever registry this machine's Maven is configured for, into
${TORC_TEST_CACHE:-~/.cache/torc-test}, into a folder that is named by version and list of jars.
"""
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .report import Skip

VERSION = "4.3.1"
OLD = ["2.8.2", "3.9.1"]
TOP = Path(__file__).resolve().parent.parent.parent
HERE = TOP / "tests/interop/kafka"
CACHE = Path(os.environ.get("TORC_TEST_CACHE") or Path.home() / ".cache/torc-test")
# Programs here live for seconds: the quick compiler and one collector thread start and run cheaper.
JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"]
FETCH_S = 300


def jars():
    """The folder with Kafka's jars, filled on first use."""
    listed = hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:8]
    folder = CACHE / f"kafka-{VERSION}-{listed}"
    if folder.exists():
        return folder
    for command in ("java", "mvn"):
        if not shutil.which(command):
            raise Skip(f"no {command} on the PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    part = tempfile.mkdtemp(dir=CACHE, prefix="part-")
    print(f"      fetching Apache Kafka {VERSION} into {folder}", flush=True)
    task = subprocess.run(["mvn", "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies",
                           "dependency:copy", f"-DoutputDirectory={part}",
                           f"-Dkafka.version={VERSION}"],
                          stdin=subprocess.DEVNULL, timeout=FETCH_S)
    if task.returncode == 0 and not folder.exists():
        os.rename(part, folder)
    shutil.rmtree(part, ignore_errors=True)
    if not folder.exists():
        raise Skip(f"Maven brought no Kafka {VERSION}: is there a registry?")
    return folder


def class_path(version=VERSION):
    """All of Kafka; of an older release its clients and tools, with this one's other libraries."""
    folder = jars()
    if version == VERSION:
        return f"{folder}/*"
    own = sorted(folder.glob(f"old/*-{version}.jar"))
    rest = [jar for jar in sorted(folder.glob("*.jar"))
            if not re.match(r"(kafka|connect|scala)[-_]", jar.name)]
    return ":".join(map(str, own + rest))


def java(main, *args, heap="256M", level="WARN", classes=None, jvm=(), version=VERSION):
    """The command line of a Java program with Kafka on its class path."""
    path = class_path(version) + (f":{classes}" if classes else "")
    return ["java", f"-Xmx{heap}", *JVM, *jvm, f"-Dlog.level={level}",
            f"-Dlog4j2.configurationFile={HERE}/log4j2.properties", "-cp", path, main,
            *map(str, args)]


def compile_java(*files):
    """Compile our own Java programs once per content; returns the folder with the classes."""
    if not shutil.which("javac"):
        raise Skip("no javac on the PATH")
    folder = TOP / "build/test-java"
    newest = max(Path(f).stat().st_mtime for f in files)
    marks = [folder / (Path(f).stem + ".class") for f in files]
    if any(not m.exists() or m.stat().st_mtime < newest for m in marks):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["javac", "-nowarn", "-cp", f"{jars()}/*", "-d", folder, *files], check=True)
    return folder


def run_java(main, *args, timeout_s=120, **how):
    """Run a Java program to its end; returns what subprocess.run returns, as text."""
    return subprocess.run(java(main, *args, **how), text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=timeout_s)
