"""A file of 1 KB, over kept-alive connections."""

from bench_lib.load import Load, static
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 1


def keepalive_1k(bench):
    return static(bench, Load("/1k.html", size=1024))
