"""build/torc begun many times a second by a process that has loaded it once (zygote.c)."""
import os
import signal
import socket
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TORC = os.environ.get("TORC") or str(TOP / "build/torc")
PRELOADED = TOP / "build/tests/integrity/zygote.so"


class Zygote:
    """Starts tasks; they end with it."""

    def __init__(self):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sanitized = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        with theirs:
            at_three = f"exec 3<&{theirs.fileno()}; exec \"$0\""
            self.process = subprocess.Popen(
                ["bash", "-c", f"export LD_PRELOAD={PRELOADED}; {at_three}", TORC],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                env={**os.environ, "ASAN_OPTIONS": sanitized})

    def ask(self, message, *descriptors):
        socket.send_fds(self.socket, [message], descriptors)
        answer = self.socket.recv(64)
        if not answer:
            raise RuntimeError(f"the zygote ended with {self.process.wait()}")
        return int(answer)

    def begin(self, *words):
        return Task(self, words)

    def end(self):
        self.socket.close()
        self.process.wait()


class Task:
    """A process, and the descriptor of what it says."""

    def __init__(self, zygote, words):
        self.zygote, (self.output, theirs) = zygote, os.pipe()
        try:
            self.pid = zygote.ask(b"r" + b"\0".join(map(os.fsencode, (TORC, *words))), theirs)
        finally:
            os.close(theirs)
        if self.pid < 0:
            raise RuntimeError("the zygote cannot fork")

    def read(self):
        return os.read(self.output, 1 << 20)

    def rest(self):
        """What else it says until it ends."""
        text = b"".join(iter(self.read, b""))
        os.close(self.output)
        return text.decode(errors="replace")

    def wait(self):
        """The exit status; the number of the signal, negative, that ended it."""
        return os.waitstatus_to_exitcode(self.zygote.ask(b"w%d" % self.pid))

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
