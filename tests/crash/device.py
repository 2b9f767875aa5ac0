"""A file system whose power can be cut: a disk in user space (shim.c), or a plain file, under a loop
device, ext4 on it.

    Disk("shim")    power is cut at the device: sectors that were not flushed are kept, lost or torn
    Disk("ioctl")   power is cut at the file system: ext4 forgets what it has not written (EXT4_IOC_SHUTDOWN)

Everything is mounted in a namespace of this process (own_mounts), so the kernel takes it all down when
the last process of the test is gone, whatever ended it: no mount, loop device or file is left behind.
"""
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SHIM = TOP / "build/tests/crash/crash_shim"
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x00020000
MS_NOATIME, MS_REC, MS_PRIVATE = 1024, 16384, 1 << 18
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
MKFS = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-O", "^resize_inode", "-J", "size=4",
        "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")
UNMOUNT_S = 20


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(what, where, kind=None, flags=0, options=None):
    def text(t):
        return None if t is None else os.fsencode(t)
    checked(libc.mount(text(what), text(where), text(kind), ctypes.c_ulong(flags), text(options)))


def unmount(where):
    late = time.monotonic() + UNMOUNT_S
    while libc.umount2(os.fsencode(where), 0) != 0:
        if ctypes.get_errno() != errno.EBUSY or time.monotonic() > late:
            raise OSError(ctypes.get_errno(), f"{where} cannot be unmounted: "
                          f"{os.strerror(ctypes.get_errno())}")
        time.sleep(0.002)  # what a killed process had under way


def own_mounts():
    """From here on what this process and its children mount is theirs alone, and ends with them."""
    checked(libc.unshare(CLONE_NEWNS))
    mount(None, "/", flags=MS_REC | MS_PRIVATE)


def own_memory():
    """A folder in memory that only this namespace sees."""
    folder = Path(tempfile.mkdtemp(prefix=f"torc-test-crash-{os.getpid()}-"))
    mount("torc-test", folder, "tmpfs")
    return folder


def free_loop():
    with open("/dev/loop-control", "rb") as control:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    path = f"/dev/loop{number}"
    if not os.path.exists(path):
        os.mknod(path, 0o60600, os.makedev(7, number))
    return path


def loop_over(file, direct):
    """Make a loop device over a file: (path, descriptor). It goes when nobody has it open any more."""
    flags = os.O_RDWR | os.O_CLOEXEC
    backing = os.open(file, flags | (os.O_DIRECT if direct else 0))
    try:
        while True:
            path = free_loop()
            fd = os.open(path, flags)
            info = struct.pack("=QQQQQIIII64s64s32sQQ", 0, 0, 0, 0, 0, 0, 0, 0,
                               LO_FLAGS_AUTOCLEAR | (LO_FLAGS_DIRECT_IO if direct else 0),
                               os.fsencode(file)[-63:], b"", b"", 0, 0)
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, struct.pack("=II232s64x", backing, 512, info))
                return path, fd
            except OSError as e:
                os.close(fd)
                if e.errno != errno.EBUSY:  # somebody else was faster
                    raise
    finally:
        os.close(backing)


class Shim:
    """The program shim.c, and its commands."""

    def __init__(self, where, image):
        where.mkdir(exist_ok=True)
        self.process = subprocess.Popen([str(SHIM), str(where), str(image)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.file = where / "disk"
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"the shim did not start: {self.process.wait()}")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer or answer[0] != command.split()[0]:
            raise RuntimeError(f"the shim answers {command} with {answer}")
        return {k: int(v) for k, v in (w.split("=") for w in answer[1:] if "=" in w)}

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Disk:
    """ext4 at `where`, made new. kind: shim or ioctl, as above."""

    def __init__(self, kind, folder, megabytes=512):
        self.kind, self.where, self.shim = kind, folder / "disk", None
        self.where.mkdir()
        self.cuts, self.sectors = 0, {"kept": 0, "lost": 0, "torn": 0}
        image = folder / "image"
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        subprocess.run([*MKFS, str(image)], check=True, stdin=subprocess.DEVNULL)
        self.file = image
        if kind == "shim":
            self.shim = Shim(folder / "shim", image)
            self.file = self.shim.file
            image.unlink()
        self.mounted = False
        self.mount()

    def mount(self):
        device, fd = loop_over(self.file, direct=True)
        try:
            mount(device, self.where, "ext4", MS_NOATIME)
        finally:
            os.close(fd)  # the mount holds it
        self.mounted = True

    def unmount(self):
        unmount(self.where)
        self.mounted = False

    def cut(self, seed):
        """The power goes. The processes that use the file system are still to be killed."""
        self.cuts += 1
        if self.shim:
            self.add(self.shim.ask(f"cut {seed % (1 << 63)}"))
            return
        fd = os.open(self.where, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(fd)

    def add(self, sectors):
        for k, n in sectors.items():
            self.sectors[k] += n

    def back(self):
        """The power is back: what is there is mounted again, which replays ext4's journal."""
        self.unmount()
        if self.shim:
            self.shim.ask("on")
        self.mount()

    @contextmanager
    def image(self, seed):
        """A second file system: what a cut at this moment would leave, by the seed. It is mounted while
        the first one goes on."""
        where = self.where.parent / "image"
        where.mkdir(exist_ok=True)
        self.cuts += 1
        file = self.where.parent / f"image-{self.cuts}"
        self.add(self.shim.ask(f"image {seed % (1 << 63)} {file}"))
        device, fd = loop_over(file, direct=True)
        file.unlink()
        try:
            mount(device, where, "ext4", MS_NOATIME)
        finally:
            os.close(fd)
        try:
            yield where
        finally:
            unmount(where)

    def end(self):
        if self.mounted:
            self.unmount()
        if self.shim:
            self.shim.end()


def flushes_reach(disk):
    """What the shim relies on: a durable direct write is at the shim, flushed, when it returns."""
    path, block = disk.where / "probe", memoryview(b"x" * 8192)
    with open(path, "wb") as f:
        f.write(b"0" * 65536)
        os.fsync(f.fileno())
    import mmap
    memory = mmap.mmap(-1, 8192)
    memory.write(block)
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        for i in range(4):
            before = disk.shim.ask("count")
            os.pwritev(fd, [memory], i * 8192, os.RWF_DSYNC)
            after = disk.shim.ask("count")
            if after["flushes"] <= before["flushes"] or after["writes"] <= before["writes"]:
                return False
    finally:
        os.close(fd)
        path.unlink()
    return after["unflushed"] == 0


def probe():
    """The kinds of power cut this machine can do, best first, and why others cannot: (kinds, reasons).
    Call it after own_mounts."""
    kinds, reasons = [], []
    for kind in ("shim", "ioctl"):
        try:
            folder = own_memory()
            disk = None
            try:
                disk = Disk(kind, folder, 16)
                if kind == "shim" and not flushes_reach(disk):
                    raise OSError(errno.EIO, "flushes of the file system do not reach the shim")
                if kind == "ioctl":
                    disk.cut(0)
                    disk.back()
                kinds.append(kind)
            finally:
                if disk:
                    disk.end()
                let_go(folder)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as e:
            reasons.append(f"{kind}: {e}")
    return kinds, reasons


def let_go(folder):
    libc.umount2(os.fsencode(folder), 2)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def powered(choice, report, keep_in, megabytes=512):
    """A Disk of the kind chosen; None if no choice is made, or this machine can do none ("best" only:
    then the test goes on with kills alone, and says so). After a failure what it held is copied."""
    if not choice:
        yield None
        return
    kinds, reasons = [], ["only root can mount"]
    if os.geteuid() == 0:
        own_mounts()
        kinds, reasons = probe()
    if choice == "best":
        choice = kinds[0] if kinds else None
    if choice is None:
        report.ok("not applicable on this machine: power cuts; kills only", "; ".join(reasons))
        yield None
        return
    if choice not in kinds:
        raise RuntimeError("; ".join(reasons))
    folder, disk = own_memory(), None
    try:
        disk = Disk(choice, folder, megabytes)
        print(f"      power is cut by {choice}", flush=True)
        yield disk
        print(f"      {disk.cuts} power cuts by {choice}; sectors not flushed: {disk.sectors}")
    finally:
        with suppress(OSError, RuntimeError):
            if report.failed and disk.mounted:
                shutil.copytree(disk.where, keep_in / "disk")
                print(f"      what the disk held is in {keep_in / 'disk'}")
        with suppress(OSError, RuntimeError):
            if disk:
                disk.end()
        let_go(folder)
