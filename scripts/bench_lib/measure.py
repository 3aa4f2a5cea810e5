"""Figures of a process tree: CPU time, memory, system calls."""

import os
import re
import shutil
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def tree(root):
    """The process and all its living descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read(f"/proc/{name}/stat")
            if stat:
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    out, queue = [], [root]
    while queue:
        pid = queue.pop()
        out.append(pid)
        queue += children.get(pid, [])
    return [pid for pid in out if os.path.exists(f"/proc/{pid}")]


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Group:
    """A control group for one server: counts the CPU time of all that it ever forked, to the microsecond.

    Version 2 (cpu.stat) or version 1 (cpuacct.usage), where one can be made; otherwise the ticks of
    /proc/PID/stat, in which a child that has ended counts once its parent has waited for it.
    """

    def __init__(self, name):
        self.path, self.how, self.root = None, "proc", None
        for how, mount in mounts():
            path = os.path.join(mount, f"httpd-bench-{os.getpid()}-{name}")
            file = os.path.join(path, "cpu.stat" if how == "cgroup2" else "cpuacct.usage")
            try:
                os.mkdir(path)
            except OSError:
                continue
            if os.path.exists(file):
                self.path, self.how, self.file = path, how, file
                return
            os.rmdir(path)

    def enter(self):
        """For the child, between fork and exec."""
        if self.path:
            with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

    def pids(self):
        if self.path:
            return [int(pid) for pid in read(os.path.join(self.path, "cgroup.procs")).split()]
        return tree(self.root) if self.root else []

    def cpu(self):
        """Seconds of CPU, user and system, of the whole tree since it began."""
        if self.how == "cgroup2":
            return int(re.search(r"usage_usec (\d+)", read(self.file)).group(1)) / 1e6
        if self.how == "cgroup1":
            return int(read(self.file)) / 1e9
        ticks = 0
        for pid in self.pids():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            if fields:
                ticks += sum(map(int, fields[11:15]))
        return ticks / TICK

    def pss(self):
        """Bytes of memory, shared pages counted in parts."""
        total = 0
        for pid in self.pids():
            found = re.search(r"^Pss:\s+(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
            total += int(found.group(1)) * 1024 if found else 0
        return total

    def remove(self):
        if self.path:
            for _ in range(50):
                try:
                    os.rmdir(self.path)
                    return
                except OSError:
                    time.sleep(0.02)


def mounts():
    """Where control groups can be made: version 2 first, below our own group."""
    own = dict(line.split(":", 2)[1:] for line in read("/proc/self/cgroup").splitlines())
    found = {}
    for line in read("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, mount = rest.split()[0], fields.split()[4]
        if kind == "cgroup2":
            found["cgroup2"] = mount.rstrip("/") + own.get("", "/")
        elif kind == "cgroup" and "cpuacct" in rest.split()[2].split(","):
            group = next((path for names, path in own.items() if "cpuacct" in names.split(",")), "/")
            found["cgroup1"] = mount.rstrip("/") + group
    return [(how, found[how]) for how in ("cgroup2", "cgroup1") if how in found]


class Perf:
    """Counts the system calls of processes and of their children to come, at full speed."""

    COMMAND = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter"]

    def __init__(self, pids):
        self.process = subprocess.Popen([*self.COMMAND, "-p", ",".join(map(str, pids))],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)     # it doesn't say when it has begun

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        counted = re.search(r"^(\d+),", self.process.communicate()[1], re.MULTILINE)
        return int(counted.group(1)) if counted else None


class Strace:
    """The same where perf is not to be had. A server so slowed down always finds a request waiting: those
    that first look whether there is one, or take several at a time, need fewer calls than they really do."""

    def __init__(self, pids):
        self.process = subprocess.Popen(["strace", "-c", "-f", *(f"-p{pid}" for pid in pids)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        # It says so for each process that it has got hold of.
        for _ in pids:
            if not self.process.stderr.readline():
                break
        time.sleep(0.2)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        # Columns: share of time, seconds, microseconds a call, calls, and errors if there were any.
        total = re.search(r"^100\.00 +\S+ +\S+ +(\d+) +(?:\d+ +)?total$", self.process.communicate()[1], re.MULTILINE)
        return int(total.group(1)) if total else None


def call_counter():
    """Perf, or Strace, or None."""
    try:
        done = subprocess.run([*Perf.COMMAND, "true"], capture_output=True, text=True, check=False)
        if re.search(r"^\d+,", done.stderr, re.MULTILINE):
            return Perf
    except OSError:
        pass
    return Strace if shutil.which("strace") else None


def median(values):
    values = sorted(value for value in values if value is not None)
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else None
