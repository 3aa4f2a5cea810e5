"""A WordPress-like .htaccess, and an address six parts long that it leads to the front page."""

from bench_lib import htaccess
from bench_lib.load import Load
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 9


def htaccess_pretty_url(bench):
    return htaccess.load(bench, Load("/2026/11/23/news/today/a-post/", size=1024))
