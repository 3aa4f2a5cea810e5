"""Tables of figures, with the ratios that matter."""


def number(value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratios(rows, key, more_is_better=True):
    """Adds to each row how it stands to Apache's event and to the best that isn't ours; to ours, how each
    stands to Apache with the same engine and tuning."""
    by_name = {row["server"]: row.get(key) for row in rows}
    event = by_name.get("apache-event")
    peers = [row[key] for row in rows if not row["server"].startswith("ours") and row.get(key)]
    best = (max if more_is_better else min)(peers) if peers else None
    for row in rows:
        row["vs_event"] = f"{row[key] / event:.2f}x" if event and row.get(key) else None
        twin = by_name.get(row["server"].replace("ours-", "apache-", 1))
        row["vs_twin"] = f"{row[key] / twin:.2f}x" if twin and row["server"].startswith("ours-") else None
        row["vs_best"] = f"{row[key] / best:.2f}x" if best and row.get(key) else None


def table(rows, columns):
    """Rows of dicts as text; a column is (key, title)."""
    columns = [(key, title) for key, title in columns if any(row.get(key) is not None for row in rows)]
    cells = [[title for _, title in columns]] + [[number(row.get(key)) for key, _ in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    out = []
    for line in cells:
        first, *rest = [cell.ljust(width) if at == 0 else cell.rjust(width)
                        for at, (cell, width) in enumerate(zip(line, widths))]
        out.append("  ".join([first, *rest]).rstrip())
    return "\n".join(out)


# The columns of a run of wrk.
LOAD = [("server", "server"), ("req_per_cpu_s", "req/cpu-s"), ("spread_pct", "±%"), ("vs_event", "/ apache event"),
        ("vs_twin", "/ its apache"), ("vs_best", "/ best peer"), ("req_per_s", "req/s"),
        ("p50_ms", "p50 ms"), ("p99_ms", "p99 ms"), ("calls_per_req", "calls/req"), ("errors", "errors")]


def load_table(rows, columns=LOAD):
    ratios(rows, "req_per_cpu_s")
    for row in rows:
        row["spread_pct"] = f"{row['spread'] * 50:.0f}"
        if not row["errors"]:
            row["errors"] = None
    return table(rows, columns)
