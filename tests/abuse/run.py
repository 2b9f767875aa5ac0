#!/usr/bin/env python3
"""Abuse the broker in every way a peer can, while a good client goes on and must not notice.

Each case of cases.py runs against one broker with little memory. After each of them: the broker lives,
the good client met no error, no reconnect and no long wait, memory stayed within torc.memory and
64 MiB, no descriptor leaked, and the log was not flooded.
"""
import sys
import time
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from abuse import cases, crowd  # noqa: E402
from abuse.watch import MEMORY, Watch  # noqa: E402
from harness.broker import Place, arguments, interrupt_on_term  # noqa: E402
from harness.report import Report  # noqa: E402


def run_case(watch, name, case, args):
    watch.begin()
    note = case(watch, args)
    return ", ".join(n for n in (note, watch.end()) if n)


def stop(broker):
    begin = time.monotonic()
    status = broker.stop()
    assert status == 0, f"exit status {status}:\n{broker.log_tail(8)}"
    return f"{time.monotonic() - begin:.1f} s to stop"


def main():
    interrupt_on_term()
    args = arguments(
        __doc__, only={"help": "cases whose names contain this"},
        cores={"type": int, "default": 4, "help": "torc.cores (default: 4)"},
        seed={"type": int, "default": 1, "help": "of mutations and garbage"},
        full={"action": "store_true", "help": "crowds too: half a minute more"},
        no_memory={"action": "store_true", "help": "do not judge memory (sanitized builds)"},
    ).parse_args()
    report = Report()
    with Place(args.keep) as place:
        broker = place.broker(args.broker, settings={
            "torc.cores": args.cores, "torc.memory": MEMORY, "log.segment.bytes": 8 << 20,
            "torc.wal.file.bytes": 8 << 20})
        watch = None
        try:
            broker.start()
            watch = Watch(broker, memory_checked=not args.no_memory)
            for name, case in cases.ALL + crowd.ALL * args.full + crowd.BOUNDED:
                if not args.only or args.only in name:
                    report.case(name, run_case, watch, name, case, args)
                    if not broker.alive():
                        break
            if not args.only and broker.alive():
                report.case("a clean stop after all that", stop, broker)
            if not args.only or args.only in "per-address":
                report.case("connections of one address are bounded", cases.per_address, place, args)
        except Exception as e:
            traceback.print_exc(file=sys.stdout)
            report.fail("abuse", f"{type(e).__name__}: {e}"[:600])
        if watch is not None:
            print(f"      abuse: {report.passed} cases passed, at most {watch.highest >> 20} MiB "
                  f"resident of {MEMORY >> 20} MiB torc.memory", flush=True)
            watch.load.end()
        place.keep |= report.failed > 0
        if report.failed:
            print("      the broker's log ends with:\n" + broker.log_tail(), flush=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
