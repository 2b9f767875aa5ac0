"""One worker: a damaged directory, what `torc inspect integrity` says of it, a broker on it, a reader.

A directory is kept from one case to the next, and only the files that are not as they should be are written:
what is written gets a time of its own, so that whoever writes to it is seen. The program is loaded once
(zygote.py). What can be told apart is damaged in one go (damage.bundles); when anything of that is out of the
ordinary, each case is repeated alone, so that no finding rests on a bundle.
"""
import os
import re
import select
import shutil
import time
from pathlib import Path

from harness.broker import free_port
from harness.wire import Closed

from . import directory
from .damage import domain, harmless, torn, unknowable, unmended
from .reader import Reader
from .zygote import TORC, Zygote

READY_S, LIMIT_MB = 20, 400
CHECKED = {"log.cleaner.enable": "false", "torc.stat.socket": "false"}
MARK_NS = (int(time.time()) - 100) * 10**9 + 12345  # when a file was written that nobody has touched


class Folder:
    """A directory that becomes what is asked for."""

    def __init__(self, path):
        self.path, self.known = str(path), {}  # name -> (bytes, as they are found)

    def look(self):
        """({name: what tells whether it was written to}, the folders there are, inner ones last)."""
        files, folders, stack = {}, [], [""]
        while stack:
            folder = stack.pop()
            folders.append(folder)
            for at in os.scandir(f"{self.path}/{folder}"):
                if at.is_dir(follow_symlinks=False):
                    stack.append(f"{folder}{at.name}/")
                elif at.name != ".lock":
                    s = at.stat()
                    files[folder + at.name] = (s.st_size, s.st_mtime_ns, s.st_ino)
        return files, folders

    def become(self, wanted):
        os.makedirs(self.path, exist_ok=True)
        there, folders = self.look()
        needed = {"", *(n.rpartition("/")[0] + "/" for n in wanted if "/" in n)}
        for folder in folders:
            if folder not in needed:
                shutil.rmtree(f"{self.path}/{folder}", ignore_errors=True)
        for name in there:
            if name not in wanted and os.path.exists(f"{self.path}/{name}"):
                os.unlink(f"{self.path}/{name}")
        for folder in needed.difference(folders):
            os.mkdir(f"{self.path}/{folder}")
        for name, data in wanted.items():
            known = self.known.get(name)
            if known is None or known[0] is not data or known[1] != there.get(name):
                self.known[name] = (data, self.write(f"{self.path}/{name}", data))

    @staticmethod
    def write(path, data):
        directory.write(path, data)
        os.utime(path, ns=(MARK_NS, MARK_NS))
        s = os.stat(path)
        return s.st_size, s.st_mtime_ns, s.st_ino


class Bench:
    """One worker's directory, port and truth."""

    def __init__(self, made, root):
        self.made, self.root, self.port = made, Path(root), free_port()
        self.folder, self.readers, self.zygote = Folder(self.root / "data"), {}, Zygote()
        self.starts = 0
        self.config = self.root / "server.properties"
        shown = {**directory.SETTINGS, **CHECKED}
        self.config.write_text(
            f"process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n"
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"controller.quorum.voters=1@127.0.0.1:1\nlog.dirs={self.folder.path}\n"
            + "".join(f"{k}={v}\n" for k, v in shown.items()))
        for kind, (files, _) in made.items():
            self.folder.become(files)
            task, lines, alive = self.start()
            if not alive:
                raise RuntimeError("\n".join(lines))
            self.readers[kind] = Reader()
            self.readers[kind].learn(f"127.0.0.1:{self.port}")
            self.end(task)

    def start(self):
        """The task, what it said until it was ready, or ended, or was too late, and whether it lives."""
        self.starts += 1
        task = self.zygote.begin("broker", str(self.config))
        text, late, alive = b"", time.monotonic() + READY_S, True
        while b"torc ready" not in text and time.monotonic() < late and alive:
            if select.select([task.output], [], [], 0.2)[0]:
                more = task.read()
                text, alive = text + more, bool(more)
        return task, text.decode(errors="replace").splitlines(), alive

    @staticmethod
    def end(task):
        """Returns what else it said, and the status it ended with."""
        task.kill()
        rest = task.rest().splitlines()
        return rest, task.wait()

    def inspect(self):
        """(text, None), or what is wrong with its end."""
        task = self.zygote.begin("inspect", "integrity", "--records", self.folder.path)
        text, late = b"", time.monotonic() + READY_S
        while select.select([task.output], [], [], max(0, late - time.monotonic()))[0]:
            more = task.read()
            if not more:
                break
            text += more
        else:
            task.kill()
        text += task.rest().encode()
        status = task.wait()
        text = text.decode(errors="replace")
        bad = status not in (0, 1) or (status == 1) != ("\nDAMAGED " in "\n" + text)
        return text, f"inspect: exit {status}: {text[-2000:]}" if bad else None

    # ---- one start -------------------------------------------------------------------------------

    def run(self, bundle):
        """[(case, outcome, found, detail)], for each of the bundle."""
        results = self.attempt(bundle)
        if len(bundle) > 1 and (results is None or any(
                not outcome.islower() or unfound(c, outcome, found) for c, outcome, found, _ in results)):
            results = [r for case in bundle for r in self.attempt([case])]
        return results

    def attempt(self, bundle):
        """As run; None if there are several cases, and it cannot be told which of them is to blame."""
        kind, alone = bundle[0].kind, bundle[0] if len(bundle) == 1 else None
        files = dict(self.made[kind][0])
        for case in bundle:
            files[case.file] = case.apply(files[case.file])
        self.folder.become(files)
        text, bad = self.inspect()
        if bad:
            return [(alone, "CRASH", False, bad)] if alone else None
        found = found_of(text, bundle)
        task, lines, alive = self.start()
        if alone:
            return [(alone, *self.judge_one(alone, found.get(alone), task, lines, alive))]
        return None if found is None else self.judge_many(bundle, found, task, lines, alive)

    def ask(self, kind, task):
        """(told, wrong, resident megabytes at most), or what went wrong with asking."""
        try:
            told, wrong = self.readers[kind].compare(f"127.0.0.1:{self.port}")
            text = Path(f"/proc/{task.pid}/status").read_text()
            return told, wrong, int(re.search(r"VmHWM:\s+(\d+)", text)[1]) >> 10
        except (OSError, Closed, ValueError, TypeError) as e:
            return f"{type(e).__name__} {e}"

    def judge_one(self, case, found, task, lines, alive):
        ready = any("torc ready" in t for t in lines)
        asked = self.ask(case.kind, task) if alive and ready else None
        rest, status = self.end(task)
        lines += rest
        if not alive:
            said = [t for t in lines if "ERROR" in t or t.startswith("torc:")]
            if status != 1 or not said:
                return "CRASH", found, f"exit {status}: " + "\n".join(lines[-12:])
            return "refused", found, said[-1]
        if not ready:
            return "HANG", found, "\n".join(lines[-5:])
        if isinstance(asked, str):
            return "CRASH", found, f"{asked}, exit {status}: " + "\n".join(lines[-12:])
        return self.outcome(case, found, asked, said_of(lines))

    @staticmethod
    def outcome(case, found, asked, said):
        told, wrong, memory = asked
        if memory > LIMIT_MB and "asan" not in TORC:
            return "MEMORY", found, f"{memory} MB"
        if wrong and case.kind == "killed" and torn(case, said):
            return "torn", found, said
        if wrong and unknowable(case):
            return "known", found, said
        if wrong and unmended(case):
            return "unmended", found, f"{wrong[:3]}"
        if wrong:
            return "WRONG", found, f"{wrong[:3]} told {told[:2]} said {said[-300:]}"
        return "told" if told else "same", found, said or str(told[:2])

    def judge_many(self, bundle, found, task, lines, alive):
        asked = self.ask(bundle[0].kind, task) if alive and "torc ready" in "\n".join(lines) else ""
        rest, _ = self.end(task)
        if isinstance(asked, str) or asked[1] or asked[2] > LIMIT_MB and "asan" not in TORC:
            return None
        told = {where for where, _ in asked[0]}
        if told - {domain(c) for c in bundle}:
            return None
        said = said_of(lines + rest)
        return [(c, "told" if domain(c) in told else "same", found[c], said) for c in bundle]


def said_of(lines):
    return "; ".join(t for t in lines if " WARN " in t or " ERROR " in t)


def found_of(text, bundle):
    """case -> whether inspection has found it; None: it has found what is of none of them."""
    blocks = re.split(r"^(?=DAMAGED |note )", text, flags=re.M)[1:]
    blocks = [b for b in blocks if b.startswith("DAMAGED") or "is not whole" in b]
    if len(bundle) == 1:
        return {bundle[0]: bool(blocks)}
    found = dict.fromkeys(bundle, False)
    for block in blocks:
        of = [c for c in bundle if isinstance(domain(c), str) and re.search(
            rf"[ /]{re.escape(domain(c))}\b", "\n".join(block.splitlines()[:2]))]
        if len(of) != 1:
            return None
        found[of[0]] = True
    return found


def unfound(case, outcome, found):
    """Whether inspection has passed over what it should have found."""
    return not found and outcome.islower() and not unmended(case) and (outcome not in ("same", "known") or not harmless(case))
