"""How a test program says what happened, so that people and tools/test read the same lines.

    ok    NAME                one fact checked and true
    FAIL  NAME: why           one fact checked and false
    skip  NAME: why           not checked, because this machine lacks something
    # passed=3 failed=0 skipped=1

A program whose cases are many of one kind says how many, in a line that can be added up over runs:

    # counted kills=47 records=256861 lost=0

The last line is what tools/test counts; a program that ends without it counts as one failure. With
CI=1 in the environment nothing may be skipped: a skip is a failure.
"""
import os
import sys
import time
import traceback


class Skip(Exception):
    """Raised by a case when the machine lacks what it needs."""


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.begin = time.monotonic()

    def ok(self, name, note=""):
        self.passed += 1
        print(f"ok    {name}{note and ': ' + note}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAIL  {name}: {why}", flush=True)

    def skip(self, name, why):
        if os.environ.get("CI") == "1":
            return self.fail(name, f"would be skipped, and CI=1 forbids that: {why}")
        self.skipped += 1
        print(f"skip  {name}: {why}", flush=True)

    def check(self, name, holds, why=""):
        """Count one fact; `why` explains a failure."""
        self.ok(name) if holds else self.fail(name, why or "does not hold")
        return bool(holds)

    def case(self, name, run, *args, **kwargs):
        """Run one case: it fails by raising; what it returns (a short text) is printed."""
        begin = time.monotonic()
        try:
            note = run(*args, **kwargs)
        except Skip as e:
            self.skip(name, str(e))
        except Exception as e:  # a case may fail in any way, and the others must still run
            traceback.print_exc(file=sys.stdout)
            self.fail(name, f"{type(e).__name__}: {e}"[:600])
        else:
            self.ok(name, f"{note + ', ' if note else ''}{time.monotonic() - begin:.1f} s")

    @staticmethod
    def counted(**numbers):
        print("# counted " + " ".join(f"{k.replace(' ', '-')}={n}" for k, n in numbers.items()), flush=True)

    def end(self):
        """Print the count and return the exit status."""
        print(f"# passed={self.passed} failed={self.failed} skipped={self.skipped} "
              f"seconds={time.monotonic() - self.begin:.1f}", flush=True)
        return 1 if self.failed or not (self.passed or self.skipped) else 0
