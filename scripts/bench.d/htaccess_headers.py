"""Header and ExpiresActive in .htaccess, a file of 1 KB."""

from bench_lib import htaccess
from bench_lib.load import Load
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 10


def htaccess_headers(bench):
    return htaccess.load(bench, Load("/1k.html", size=1024), htaccess.CACHING)
