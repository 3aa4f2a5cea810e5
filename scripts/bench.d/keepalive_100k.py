"""A file of 100 KB, over kept-alive connections."""

from bench_lib.load import Load, static
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 4


def keepalive_100k(bench):
    return static(bench, Load("/100k.bin", size=100 * 1024))
