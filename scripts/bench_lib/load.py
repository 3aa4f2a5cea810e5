"""Load from wrk, in rounds that go through all servers in turn."""

import json
import os
import subprocess
import time

from . import measure, servers

# What wrk runs in its one thread: the headers, the hosts to choose from, and the result as JSON.
SCRIPT = """
local bench = {}
function init(args)
  math.randomseed(1)
  for at = 1, #args do
    local name, value = args[at]:match("^([^=]+)=(.*)$")
    if name == "hosts" then
      bench.requests = {}
      for number = 0, tonumber(value) - 1 do
        wrk.headers["Host"] = "host" .. number .. ".bench.test"
        bench.requests[number + 1] = wrk.format("GET")
      end
    else
      wrk.headers[name] = value
    end
  end
  bench.request = wrk.format("GET")
end
function request()
  if bench.requests then
    return bench.requests[math.random(#bench.requests)]
  end
  return bench.request
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "seconds": %f, "bytes": %d, "p50": %f, "p99": %f, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


class Load:
    """One kind of request. `conditional` sends back each server's own ETag; `expect` is the status it gets."""

    def __init__(self, path, connections=64, headers=None, conditional=False, expect=200, size=None, hosts=0):
        self.path, self.connections, self.headers = path, connections, headers or {}
        self.conditional, self.expect, self.size, self.hosts = conditional, expect, size, hosts

    def headers_for(self, server):
        """The headers to send, once a request with them has had the reply that it should."""
        headers, host = dict(self.headers), servers.host_name(0) if self.hosts else None
        if self.conditional:
            etag = server.get(self.path, headers, host)[1].get("ETag")
            if not etag:
                raise servers.Unavailable("its reply has no ETag")
            headers["If-None-Match"] = etag
        status, _, body = server.get(self.path, headers, host)
        if status != self.expect or (self.size is not None and len(body) != self.size):
            raise servers.Unavailable(f"answered {status} with {len(body)} bytes: {server.last_words()}")
        return headers

    def run(self, bench, server, headers, seconds):
        """One run of wrk: its figures, with the server's CPU time."""
        script = os.path.join(bench.work, "wrk.lua")
        if not os.path.exists(script):
            with open(script, "w", encoding="ascii") as file:
                file.write(SCRIPT)
        command = [servers.program("wrk"), "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "20s",
                   "-s", script, f"http://127.0.0.1:{server.port}{self.path}", "--"]
        command += [f"{name}={value}" for name, value in headers.items()]
        if self.hosts:
            command.append(f"hosts={self.hosts}")
        before = server.group.cpu()
        done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=bench.on_load_core)
        cpu = server.group.cpu() - before
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if not line:
            raise servers.Unavailable(f"wrk failed: {(done.stderr or done.stdout).strip()[-200:]}")
        result = json.loads(line[len("RESULT "):])
        result["cpu"] = cpu
        # A 304 is no error, a redirect neither; wrk counts 400 and above.
        result["errors"] = sum(result.pop(kind) for kind in ("connect", "read", "write", "status", "timeout"))
        return result


def rounds(bench, contestants, load):
    """Loads each server in turn, `bench.rounds` times over, and returns a row of medians for each.

    `contestants` are started servers. The order moves on by one each round, so that none is always first.
    """
    rows, ready = [], []
    for server in contestants:
        try:
            headers = load.headers_for(server)
            load.run(bench, server, headers, 1)     # not counted: caches fill, processes are spawned
            ready.append((server, headers, []))
        except (servers.Unavailable, OSError) as reason:
            bench.skip(server.name, reason)
    for number in range(bench.rounds):
        for at in range(len(ready)):
            server, headers, results = ready[(at + number) % len(ready)]
            bench.say(f"round {number + 1}/{bench.rounds} {server.name}")
            try:
                results.append(load.run(bench, server, headers, bench.seconds))
            except servers.Unavailable as reason:
                bench.skip(server.name, reason)
            if server.process.poll() is not None:
                bench.skip(server.name, f"it died: {server.last_words()}")
    for server, headers, results in ready:
        results = [result for result in results if result["requests"] and result["cpu"] > 0]
        if not results:
            bench.skip(server.name, "no request was answered")
            continue
        per_cpu = [result["requests"] / result["cpu"] for result in results]
        row = {
            "server": server.name,
            "req_per_cpu_s": measure.median(per_cpu),
            "spread": (max(per_cpu) - min(per_cpu)) / measure.median(per_cpu),
            "req_per_s": measure.median([result["requests"] / result["seconds"] for result in results]),
            "mb_per_s": measure.median([result["bytes"] / result["seconds"] / 1e6 for result in results]),
            "p50_ms": measure.median([result["p50"] for result in results]),
            "p99_ms": measure.median([result["p99"] for result in results]),
            "errors": sum(result["errors"] for result in results),
            "rounds": results,
        }
        if bench.call_counter:
            row["calls_per_req"] = system_calls(bench, server, headers, load)
        rows.append(row)
    return rows


def system_calls(bench, server, headers, load):
    bench.say(f"system calls of {server.name}")
    counter = bench.call_counter(server.group.pids())
    try:
        result = load.run(bench, server, headers, 1)
    finally:
        # The last requests' calls, and what follows them.
        time.sleep(0.1)
        total = counter.stop()
    return total / result["requests"] if total and result["requests"] else None


def static(bench, load, site=servers.Site()):
    """The usual scenario: all servers with the same site, the same load on each."""
    with bench.running(site) as contestants:
        return rounds(bench, contestants, load)


