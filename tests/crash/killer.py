"""A broker that is killed and started again and again, at moments that a seed decides; on a disk whose
power can be cut (device.py) most ends are power cuts, and a clean stop is followed by one."""
import statistics
import subprocess
import time
from collections import Counter

from harness.broker import answers

READY_S, STOP_S = 60, 60
CUT_SHARE = 0.8  # of the kills on a disk whose power can be cut; what others leave in caches, a cut may take


class Killer:
    """counts: how it ended, by when; starts: seconds until it served again."""

    def __init__(self, broker, random):
        self.broker, self.random, self.slow, self.disk = broker, random, None, None
        self.counts, self.starts, self.bad_stops = Counter(), [], []

    def launch(self):
        command = self.broker.command()
        if self.slow and self.random.random() < 0.5:
            command = ["sh", "-c", f'echo $$ > {self.slow}/cgroup.procs; exec "$@"', "sh", *command]
        with open(self.broker.log, "ab") as log:
            self.broker.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, cwd=self.broker.folder)
        self.launched = time.monotonic()

    def start(self):
        """Start it, now and then killing it first while it recovers."""
        self.launch()
        typical = statistics.median(self.starts[-9:]) if self.starts else 0.1
        while self.random.random() < 0.25:
            time.sleep(self.random.random() * typical * 1.3)
            self.kill("starting")
            self.launch()
        while not answers(self.broker.port):
            if self.broker.process.poll() is not None:
                raise RuntimeError(f"the broker ended with {self.broker.process.returncode} "
                                   "instead of starting")
            if time.monotonic() - self.launched > READY_S:
                raise RuntimeError(f"the broker did not start within {READY_S} s")
            time.sleep(0.002)
        self.starts.append(time.monotonic() - self.launched)

    def kill(self, when):
        if self.broker.process.poll() is not None:
            raise RuntimeError(f"the broker ended by itself with {self.broker.process.returncode}")
        cut = self.disk and self.random.random() < CUT_SHARE
        if cut:
            self.disk.cut(self.random.getrandbits(60))
        self.broker.kill()
        if cut:
            self.disk.back()
        self.counts[("cut " if cut else "killed ") + when] += 1

    def ends(self):
        """What there was of kills, power cuts and clean stops, to be counted."""
        cuts = sum(n for k, n in self.counts.items() if k.startswith("cut"))
        stops = self.counts["stopped"]
        kills = sum(self.counts.values()) - cuts - stops
        return {"kills": kills, "cuts": self.disk.cuts if self.disk else 0, "stops": stops}

    def stop(self):
        if self.broker.process.poll() is not None:
            raise RuntimeError(f"the broker ended by itself with {self.broker.process.returncode}")
        begin = time.monotonic()
        self.broker.process.terminate()
        status = self.broker.process.wait(STOP_S)
        self.counts["stopped"] += 1
        if status != 0:
            self.bad_stops.append(f"status {status} after {time.monotonic() - begin:.1f} s")
        if self.disk and status == 0:
            self.disk.cut(self.random.getrandbits(60))
            self.disk.back()
