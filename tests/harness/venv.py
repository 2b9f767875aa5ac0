"""The Python clients, in a virtual environment of their own with pinned versions."""
import os
import shutil
import subprocess
import sys

from . import kafka
from .report import Report, Skip

WANTED = kafka.TOP / "tests/interop/clients/requirements.txt"
FOLDER = kafka.CACHE / "python"
INSTALL_S = 300


def install(*command, cwd=None):
    """Run an installer; a failure means that there is no registry here."""
    task = subprocess.run(command, cwd=cwd, text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=INSTALL_S)
    if task.returncode:
        print(task.stdout[-2000:], task.stderr[-2000:])
        raise Skip(f"'{' '.join(map(str, command[:4]))} ...' failed: is there a registry?")


def fresh(folder, source):
    """Whether an installation must be made: none was made from this very list."""
    mark = folder / source.name
    return not mark.exists() or mark.read_text() != source.read_text()


def python():
    """The interpreter that has the clients; installed on first use."""
    if fresh(FOLDER, WANTED):
        shutil.rmtree(FOLDER, ignore_errors=True)
        install(sys.executable, "-m", "venv", FOLDER)
        install(FOLDER / "bin/pip", "install", "-q", "-r", WANTED)
        shutil.copy(WANTED, FOLDER)
    return FOLDER / "bin/python"


def enter(what):
    """Go on in that interpreter; where it cannot be had, report `what` as skipped and end."""
    if sys.prefix == str(FOLDER):
        return
    try:
        os.execv(python(), [str(python()), *sys.argv])
    except Skip as e:
        report = Report()
        report.skip(what, str(e))
        sys.exit(report.end())
