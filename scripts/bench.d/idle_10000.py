"""10,000 idle kept-alive connections: memory for each, and what a new request meets."""

import time

from bench_lib import clients, report, servers

ORDER = 8
COUNT = 10000
PATIENCE = 15


def idle_10000(bench):
    rows = []
    for name in bench.names:
        # One at a time: each needs the machine's file descriptors for itself.
        with bench.running(servers.Site(keepalive_timeout=300), names=[name]) as contestants:
            for server in contestants:
                bench.say(f"{COUNT} idle connections to {name}")
                with bench.on_load_core_ourselves():
                    rows.append(measured(server))
    return rows


def measured(server):
    clients.probe(server.port, 5)
    time.sleep(1)
    before = server.group.pss()
    idle = clients.Idle(server.port)
    try:
        began = time.monotonic()
        idle.connect(COUNT, PATIENCE)
        opened = time.monotonic() - began
        time.sleep(1)
        held, after = idle.held(), server.group.pss()
        cpu = server.group.cpu()
        time.sleep(2)
        cpu = (server.group.cpu() - cpu) / 2
        wait, trouble = clients.probe(server.port, 5)
        return {"server": server.name, "asked": COUNT, "served": idle.served, "held": held, "open_s": opened,
                "pss_before_mib": before / 2 ** 20, "pss_mib": after / 2 ** 20,
                "kib_each": (after - before) / 1024 / held if held else None, "idle_cpu_pct": cpu * 100,
                "new_ms": wait * 1e3 if wait is not None else None, "new_trouble": trouble,
                "processes": len(server.group.pids())}
    finally:
        idle.close()


def show(rows):
    full = [row for row in rows if row["held"] == COUNT]
    report.ratios(full, "kib_each", more_is_better=False)
    for row in rows:
        if row["new_ms"] is None:
            row["new_ms"] = row["new_trouble"]
    return report.table(rows, [("server", "server"), ("served", "served"), ("held", "held"), ("open_s", "opened in s"),
                               ("kib_each", "KiB each"), ("vs_best", "/ least peer"), ("pss_mib", "PSS MiB"),
                               ("processes", "processes"), ("idle_cpu_pct", "idle cpu %"),
                               ("new_ms", "new request ms")])
