"""A file of 10 MB, over 16 kept-alive connections."""

from bench_lib.load import Load, static
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 5


def keepalive_10m(bench):
    return static(bench, Load("/10m.bin", connections=16, size=10 * 1024 * 1024))
