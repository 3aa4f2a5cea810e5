"""A WordPress-like .htaccess, and a file of 1 KB six directories below it."""

from bench_lib import htaccess
from bench_lib.load import Load
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 8


def htaccess_file(bench):
    return htaccess.load(bench, Load("/wp-content/uploads/2026/11/23/a/1k.html", size=1024))
