"""A CGI program in C that says hello, over 8 kept-alive connections."""

import os
import subprocess

from bench_lib import servers
from bench_lib.load import Load, rounds
from bench_lib.report import load_table as show  # noqa: F401

ORDER = 12

HELLO = """
#include <stdio.h>
int main(void) { puts("Content-Type: text/plain\\r\\n\\r\\nhello"); return 0; }
"""


def cgi_hello(bench):
    folder = os.path.join(bench.work, "cgi-bin")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "hello.c"), "w", encoding="ascii") as file:
        file.write(HELLO)
    try:
        subprocess.run([servers.program("cc"), "-O2", "-o", f"{folder}/hello", f"{folder}/hello.c"], check=True)
    except (servers.Unavailable, subprocess.CalledProcessError) as reason:
        bench.skip("all", f"no C compiler: {reason}")
        return []
    os.chmod(bench.work, 0o755)
    names = [name for name in bench.names if servers.reads_apache(name)]
    lines = (f'ScriptAlias "/cgi-bin/" "{folder}/"', f'<Directory "{folder}">', "Require all granted", "</Directory>",
             "ScriptSock cgisock")
    with bench.running(servers.Site(modules=("cgid",), lines=lines), names=names) as contestants:
        return rounds(bench, contestants, Load("/cgi-bin/hello", connections=8, size=6))
