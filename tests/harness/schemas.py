#!/usr/bin/env python3
"""Compare proto/schema with the definitions in Apache Kafka's jars, which are fetched if need be."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import kafka  # noqa: E402
from harness.report import Report, Skip  # noqa: E402


def main():
    report = Report()
    try:
        task = subprocess.run([sys.executable, kafka.TOP / "tests/proto/compare_schemas.py",
                               kafka.jars()], text=True, capture_output=True)
        print(task.stdout, task.stderr)
        report.check("schemas", task.returncode == 0, f"exit {task.returncode}, see above")
    except Skip as e:
        report.skip("schemas", str(e))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
