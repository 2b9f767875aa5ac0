#!/usr/bin/env python3
"""Crash images: what the disk would hold if the power went now, again and again while the load goes on.

    crash_load ──▶ broker ──▶ ext4 ──▶ the shim: flushed sectors, and those that are not
        │                                  └─ image by a seed ─▶ loop, ext4 (its journal is replayed)
        └─ a copy, with the ledger of this moment ──reads all──▶ a second broker, recovered on it

Against run.py --power the load never stops for it, so images come at all moments of rolls, checkpoints
and WAL files that are begun anew, and every one is read from the first byte. All that was acknowledged when
it was made must be there once, at its offset, in order, and whatever a reader saw by then.
"""
import random
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from crash.device import powered  # noqa: E402
from crash.run import PARTITIONS, TOPIC, WRONGS, Load, settings  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.wire import Client  # noqa: E402

CHECK_S = 60


class Images:
    def __init__(self, place, disk, args):
        self.disk, self.random = disk, random.Random(args.seed)
        how = settings(self.random, 2)
        print("      " + " ".join(f"{k}={v}" for k, v in how.items()), flush=True)
        self.broker = place.broker("torc", settings=how)
        self.broker.data = disk.where / "data"
        self.second = place.broker("torc", name="second", settings=how)
        self.broker.start()
        with Client(self.broker.address) as c:
            made = c.ask("CreateTopics", 5, {"timeout_ms": 30000, "topics": [
                {"name": TOPIC, "num_partitions": PARTITIONS, "replication_factor": 1}]})
        assert made["topics"][0]["error_code"] == 0, made
        self.load = Load(self.broker.port, args.seed, args.rate, self.random.choice((20_000, 200_000)))
        self.bad, self.records = [], 0

    def one(self, number):
        before = self.load.status()["batches"]
        while self.load.status()["batches"] == before:
            time.sleep(0.002)
        time.sleep(self.random.random() * 0.05)
        seed = self.random.getrandbits(60)
        self.load.ask(f"fork {self.second.port}", "forked")
        with self.disk.image(seed) as where:
            self.second.data = where / "data"
            self.second.configure()
            try:
                self.second.start()
                counts = self.load.await_answer("checked", CHECK_S)
            finally:
                self.second.kill()
        self.records += counts["read"]
        wrong = {w: counts[w] for w in WRONGS if counts[w]}
        if wrong:
            self.bad.append(f"image {number} (seed {seed}): {wrong}")

    def run(self, count):
        told = begin = time.monotonic()
        for number in range(count):
            self.one(number)
            if self.bad:
                break
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"      {number + 1} images, {told - begin:.0f} s", flush=True)


def run(report, place, args, disk):
    if disk is None:
        return
    images, begin = Images(place, disk, args), time.monotonic()
    try:
        images.run(args.images)
        alive = images.broker.alive()
    finally:
        images.load.end()
        images.broker.kill()  # or the disk could not be let go
    report.check(f"{disk.cuts} images, {images.records} records read: what was acknowledged is there",
                 not images.bad, "; ".join(images.bad))
    report.check("the broker under the load was not disturbed", alive, images.broker.log_tail(5))
    took = time.monotonic() - begin
    report.counted(images=disk.cuts, records=images.records, bad=len(images.bad), **disk.sectors)
    print(f"      {took:.0f} s, {took / max(1, disk.cuts) * 1000:.0f} ms an image", flush=True)


def main():
    interrupt_on_term()
    args = arguments(
        __doc__, images={"type": int, "default": 8, "help": "how many (default: 8)"},
        rate={"type": int, "default": 400_000, "help": "bytes produced a second"},
        seed={"type": int, "default": int(time.time()), "help": "of all that is random"}).parse_args()
    report = Report()
    print(f"      seed {args.seed}")
    with Place(args.keep) as place:
        try:
            with powered("best", report, place.folder, 192) as disk:
                if disk is not None and disk.shim is None:
                    report.ok("not applicable on this machine: crash images; there is no shim")
                    disk_of_images = None
                else:
                    disk_of_images = disk
                run(report, place, args, disk_of_images)
        except Exception as e:
            report.fail("images", f"{type(e).__name__}: {e}")
        place.keep |= report.failed > 0
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
