"""kcat as a member: ADDRESS TOPIC GROUP COUNT IDLE_S, see members.py. It ends at the end of its
partitions by itself."""
import re
import subprocess
import sys
import threading

address, topic, group, count, idle_s = *sys.argv[1:4], sys.argv[4], float(sys.argv[5])
command = ["kcat", "-b", address, "-G", group, topic, "-u", "-c", count, "-f", "record %p %o\n",
           "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000"]
task = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
timer = threading.Timer(10 + idle_s, task.terminate)
one_at_a_time = threading.Lock()


def say(line):
    """Whole lines, from whichever thread."""
    with one_at_a_time:
        print(line, flush=True)


def tell():
    for line in task.stderr:
        if m := re.search(r"assigned: (.*)", line):
            say(" ".join(["assigned", *map(str, sorted(int(p) for p in re.findall(r"\[(\d+)\]", m[1])))]))


threading.Thread(target=tell, daemon=True).start()
timer.start()
for line in task.stdout:
    timer.cancel()
    say(line.rstrip("\n"))
    timer = threading.Timer(idle_s, task.terminate)
    timer.start()
task.wait()
timer.cancel()
