"""A file of 1 KB, a new connection for each request."""

from bench_lib.load import Load, static
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 2


def close_1k(bench):
    return static(bench, Load("/1k.html", headers={"Connection": "close"}, size=1024))
