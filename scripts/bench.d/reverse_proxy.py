"""A reverse proxy in front of nginx, which serves a file of 1 KB; kept-alive connections on both sides."""

from bench_lib import servers
from bench_lib.load import Load, rounds
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 13


def reverse_proxy(bench):
    backend = servers.create("nginx-ofc")
    try:
        backend.prepare(servers.Site(), bench.root, bench.work)
        backend.start(bench.load_core)
    except (servers.Unavailable, OSError) as reason:
        bench.skip("all", f"no backend: {reason}")
        backend.stop()
        return []
    bench.running_now.append(backend)
    try:
        names = list(dict.fromkeys([*bench.names, "haproxy"]))
        with bench.running(servers.Site(backend=backend.port), names=names) as contestants:
            return rounds(bench, contestants, Load("/1k.html", size=1024))
    finally:
        backend.stop()
        bench.running_now.remove(backend)
