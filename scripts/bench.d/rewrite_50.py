"""50 RewriteRules in the server's configuration, of which the last matches; a file of 1 KB."""

from bench_lib import servers
from bench_lib.load import Load, rounds
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 11


def rewrite_50(bench):
    rules = [f"RewriteRule ^/section{number}/([a-z0-9-]+)/?$ /1k.html?p=$1 [L]" for number in range(49)]
    rules.append("RewriteRule ^/page/([a-z0-9-]+)/?$ /1k.html?p=$1 [L]")
    site = servers.Site(modules=("rewrite",), lines=("RewriteEngine On", *rules))
    with bench.running(site, names=[name for name in bench.names if servers.reads_apache(name)]) as contestants:
        return rounds(bench, contestants, Load("/page/a-page", size=1024))
