"""2,000 clients that send a byte a second: are others still served?"""

import time

from bench_lib import clients, measure, report

ORDER = 9
COUNT = 2000
SECONDS = 10
PROBES = 10     # a second


def slow_2000(bench):
    rows = []
    for name in bench.names:
        with bench.running(names=[name]) as contestants:
            for server in contestants:
                bench.say(f"{COUNT} slow clients of {name}")
                with bench.on_load_core_ourselves():
                    rows.append(measured(server))
    return rows


def measured(server):
    clients.probe(server.port, 5)
    slow = clients.Slow(server.port, COUNT)
    waits, troubles = [], []
    try:
        began, cpu = time.monotonic(), server.group.cpu()
        next_byte = next_probe = began
        while (now := time.monotonic()) < began + SECONDS:
            if now >= next_byte:
                slow.byte()
                next_byte += 1
            if now >= next_probe:
                # One that waits two seconds is one that gave up; the next ones are then not sent late.
                wait, trouble = clients.probe(server.port, 2)
                if trouble:
                    troubles.append(trouble)
                else:
                    waits.append(wait)
                next_probe = max(next_probe + 1 / PROBES, time.monotonic())
            time.sleep(max(0, min(next_byte, next_probe) - time.monotonic()))
        spent = time.monotonic() - began
        return {"server": server.name, "served": len(waits), "failed": len(troubles),
                "trouble": max(set(troubles), key=troubles.count) if troubles else None,
                "slow_open": len(slow.open), "slow_waiting": len(slow.coming), "cut": slow.refused,
                "pss_mib": server.group.pss() / 2 ** 20,
                "cpu_pct": (server.group.cpu() - cpu) / spent * 100,
                "p50_ms": scaled(measure.percentile(waits, 0.5)), "p99_ms": scaled(measure.percentile(waits, 0.99))}
    finally:
        slow.close()


def scaled(seconds):
    return seconds * 1e3 if seconds is not None else None


def show(rows):
    return report.table(rows, [("server", "server"), ("served", "others served"), ("failed", "not served"),
                               ("trouble", "why"), ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"),
                               ("slow_open", "slow ones in"), ("slow_waiting", "not let in"),
                               ("cut", "cut off"), ("cpu_pct", "cpu %"), ("pss_mib", "PSS MiB")])
