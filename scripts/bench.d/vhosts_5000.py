"""5,000 virtual hosts by name, a request to any of them: speed, memory, check and start."""

import os
import resource
import subprocess
import time

from bench_lib import report, servers
from bench_lib.load import Load, rounds

ORDER = 7
COUNT = 5000


def vhosts_5000(bench):
    with bench.running(servers.Site(vhosts=COUNT)) as contestants:
        figures = {}
        for server in contestants:
            figures[server.name] = {"start_ms": server.startup_s * 1e3, "pss_mib": server.group.pss() / 2 ** 20,
                                    **check(bench, server)}
        rows = rounds(bench, contestants, Load("/1k.html", hosts=COUNT, size=1024))
    for row in rows:
        row.update(figures[row["server"]])
    return rows


def check(bench, server):
    """Time to check the configuration, as before a reload."""
    command = server.check_command(server.file)
    if not command:
        return {}

    def child():
        if bench.server_core is not None:
            os.sched_setaffinity(0, {bench.server_core})

    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=server.folder, capture_output=True, check=False, preexec_fn=child)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        bench.skip(server.name, f"does not check its configuration: {done.stderr.decode(errors='replace')[-200:]}")
        return {}
    return {"check_ms": (time.monotonic() - began) * 1e3,
            "check_cpu_ms": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3}


def show(rows):
    return report.load_table(rows, report.LOAD + [("check_ms", "check ms"), ("check_cpu_ms", "check cpu-ms"),
                                                  ("start_ms", "start ms"), ("pss_mib", "PSS MiB")])
