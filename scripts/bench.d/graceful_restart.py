"""Three graceful restarts under load: failed requests, and the longest wait."""

import os

from bench_lib import clients, measure, report

ORDER = 10
CONNECTIONS = 32
RESTARTS = 3
APART = 2.5


def graceful_restart(bench):
    rows = []
    for name in bench.names:
        with bench.running(names=[name]) as contestants:
            for server in contestants:
                if server.graceful is None:
                    bench.skip(name, "restarts gracefully only under a program of its own (start_server)")
                    continue
                bench.say(f"graceful restarts of {name}")
                with bench.on_load_core_ourselves():
                    rows.append(measured(bench, server))
    return rows


def measured(bench, server):
    client = clients.Steady(server.port, CONNECTIONS)
    try:
        client.run(1)
        client.waits.clear()
        first = client.done
        before = set(server.group.pids())
        for _ in range(RESTARTS):
            os.kill(server.process.pid, server.graceful)
            client.run(APART)
        after = set(server.group.pids())
        if server.process.poll() is not None:
            bench.skip(server.name, f"it died: {server.last_words()}")
        return {"server": server.name, "done": client.done - first, "retried": client.retried,
                "failed": client.refused + client.no_reply + client.cut + client.bad, "refused": client.refused,
                "no_reply": client.no_reply, "cut": client.cut, "bad_status": client.bad,
                "longest_ms": max(max(client.waits, default=0), client.overdue()) * 1e3,
                "p50_ms": measure.percentile(client.waits, 0.5) * 1e3 if client.waits else None,
                "p99_ms": measure.percentile(client.waits, 0.99) * 1e3 if client.waits else None,
                "req_per_s": (client.done - first) / (RESTARTS * APART),
                # Whether anything happened at all: the processes that serve are new ones. lighttpd keeps its one.
                "replaced": len(before - after)}
    finally:
        client.close()


def show(rows):
    return report.table(rows, [("server", "server"), ("done", "done"), ("failed", "failed"), ("refused", "refused"),
                               ("no_reply", "no reply"), ("cut", "cut"), ("bad_status", "not 200"),
                               ("retried", "retried"), ("longest_ms", "longest ms"), ("p50_ms", "p50 ms"),
                               ("p99_ms", "p99 ms"), ("req_per_s", "req/s"), ("replaced", "replaced processes")])
