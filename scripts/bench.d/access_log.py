"""What an access log in combined format costs, a file of 1 KB."""

from bench_lib import report, servers
from bench_lib.load import Load, rounds

ORDER = 6


def access_log(bench):
    """Each server twice in the same rounds, with the log and without."""
    with bench.running() as plain, \
            bench.running(servers.Site(access_log=True), label=lambda name: name + "+log") as logged:
        rows = rounds(bench, [server for pair in zip_by_name(plain, logged) for server in pair], Load("/1k.html"))
    without = {row["server"]: row for row in rows}
    for row in rows:
        name, found, _ = row["server"].partition("+log")
        if found and name in without:
            row["cost"] = 1 - row["req_per_cpu_s"] / without[name]["req_per_cpu_s"]
    return rows


def zip_by_name(plain, logged):
    """Pairs, so that the two of one server run one after the other."""
    other = {server.name: server for server in logged}
    return [(server, other[server.name + "+log"]) for server in plain if server.name + "+log" in other]


def show(rows):
    for row in rows:
        row["cost_pct"] = f"{row['cost'] * 100:.0f}" if "cost" in row else None
    return report.load_table(rows, report.LOAD + [("cost_pct", "log costs %")])
