"""304 Not Modified: If-None-Match with each server's own ETag."""

from bench_lib.load import Load, static
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 3


def not_modified(bench):
    return static(bench, Load("/1k.html", conditional=True, expect=304, size=0))
