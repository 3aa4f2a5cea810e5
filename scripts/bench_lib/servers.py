"""The servers that are compared, each with a configuration that does the same as the others'."""

import grp
import http.client
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

from . import measure

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What a default installation of Debian's apache2 loads, and what a server of nothing but files needs.
STOCK = ("access_compat alias auth_basic authn_core authn_file authz_core authz_host authz_user autoindex deflate "
         "dir env filter mime negotiation reqtimeout setenvif status").split()
LEAN = "authz_core dir mime".split()

TUNING = {
    "event": "",
    "prefork": "",
    "event-tuned": """
ServerLimit 2
StartServers 2
ThreadLimit 128
ThreadsPerChild 128
MinSpareThreads 64
MaxSpareThreads 256
MaxRequestWorkers 256
AsyncRequestWorkerFactor 64
EnableSendfile On
""",
    "prefork-tuned": """
ServerLimit 256
StartServers 80
MinSpareServers 80
MaxSpareServers 256
MaxRequestWorkers 256
EnableSendfile On
""",
}


class Unavailable(Exception):
    """This server cannot take part, and why."""


@dataclass(frozen=True)
class Site:
    """What is asked of every server alike."""
    access_log: bool = False
    vhosts: int = 0
    keepalive_timeout: int = 60
    # Of Apache's language alone: more modules, what .htaccess may override, more lines; and a tree of its own.
    modules: tuple = ()
    override: str = "None"
    lines: tuple = ()
    root: str = ""
    # The port of an HTTP server on this machine that everything is passed on to.
    backend: int = 0


def host_name(number):
    return f"host{number}.bench.test"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def user():
    """An account to give root up for, and its group; none when not root."""
    if os.getuid() != 0:
        return None
    for name in ("daemon", "www-data", "nobody"):
        try:
            return name, grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name
        except KeyError:
            pass
    return None


def program(*names):
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise Unavailable(f"{names[0]} is not installed")


def version(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0]


class Server:
    """One server: its program, its configuration, its life. Subclasses say what differs."""

    graceful = None     # the signal for a graceful restart

    def __init__(self, name):
        self.name = name
        self.process = self.group = self.port = self.folder = None

    # What subclasses give.

    def program(self):
        raise NotImplementedError

    def version(self):
        return version([self.program(), "-v"])

    def configuration(self, site, root):
        """The text of the configuration; may raise Unavailable."""
        raise NotImplementedError

    def command(self, file):
        raise NotImplementedError

    def check_command(self, file):
        """The command that only checks the configuration; None: there is none."""
        return None

    # What is common.

    def prepare(self, site, root, work):
        """Writes the configuration below `work`."""
        self.port = free_port()
        self.folder = os.path.join(work, f"{self.name}-{self.port}")
        os.makedirs(os.path.join(self.folder, "logs"), mode=0o777)
        os.chmod(os.path.join(self.folder, "logs"), 0o777)
        self.file = os.path.join(self.folder, "server.conf")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(self.configuration(site, root))

    def start(self, core):
        """Starts it on that core (None: any) and returns the seconds until it answered."""
        command = self.command(self.file)   # a missing program is noticed here
        self.group = measure.Group(f"{self.name}-{self.port}")

        def child():
            if core is not None:
                os.sched_setaffinity(0, {core})
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self.group.enter()

        began = time.monotonic()
        with open(os.path.join(self.folder, "output"), "wb") as output:
            # A session of its own: a Ctrl-C is for us alone, who then end it in order.
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            cwd=self.folder, start_new_session=True, preexec_fn=child)
        self.group.root = self.process.pid
        while time.monotonic() - began < 20:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return time.monotonic() - began
            except OSError:
                time.sleep(0.005)
        raise Unavailable(f"did not start: {self.last_words()}")

    def last_words(self):
        text = ""
        for name in ("output", "logs/error_log"):
            text += measure.read(os.path.join(self.folder, name))
        return " | ".join(text.strip().splitlines()[-3:]) or "it said nothing"

    def get(self, path, headers=None, host=None):
        """One request on a connection of its own: (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = dict(headers or {})
            if host:
                headers["Host"] = host
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def stop(self):
        """Ends it and whatever it left, each by its process id."""
        if self.process is None:
            return
        left = set(self.group.pids())
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                left |= set(self.group.pids())
                self.process.kill()
                self.process.wait()
        # In a control group all that is left is ours; without one, those who were in its tree.
        deadline = time.monotonic() + 2
        while (left := self.survivors(left)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.group.remove()
        self.process = None

    def survivors(self, before):
        if self.group.path:
            return set(self.group.pids())
        session = str(self.process.pid)
        return {pid for pid in before
                if measure.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[3:4] == [session]}


class Apache(Server):
    """Debian's apache2, with one of its engines."""

    graceful = signal.SIGUSR1

    def __init__(self, name, engine):
        super().__init__(name)
        self.engine = engine

    def program(self):
        return program("apache2", "httpd")

    def modules(self):
        for folder in (os.environ.get("APACHE_MODULES", ""), "/usr/lib/apache2/modules", "/usr/lib64/httpd/modules",
                       "/usr/local/apache2/modules"):
            if os.path.isdir(folder):
                return folder
        raise Unavailable("no folder with Apache's modules (set APACHE_MODULES)")

    def configuration(self, site, root):
        modules, tuned, root = self.modules(), self.engine.endswith("-tuned"), site.root or root
        account = user()
        out = [f'ServerRoot "{self.folder}"', f'DefaultRuntimeDir "{self.folder}/logs"', 'PidFile "logs/pid"',
               f"Listen 127.0.0.1:{self.port}", "ServerName localhost"]
        out += [f"LoadModule {name}_module {modules}/mod_{name}.so"
                for name in ["mpm_" + self.engine.partition("-")[0]] + (LEAN if tuned else STOCK) + list(site.modules)]
        # Part of the program in Debian's build, a module elsewhere.
        for name in ("unixd", "log_config"):
            out += [f"<IfModule !{name}_module>", f"LoadModule {name}_module {modules}/mod_{name}.so", "</IfModule>"]
        if account:
            out += [f"User {account[0]}", f"Group {account[1]}"]
        out += ['ErrorLog "logs/error_log"', "LogLevel warn", f'TypesConfig "{TOP}/httpd-conf/default/mime.types"',
                "Timeout 60", "KeepAlive On", "MaxKeepAliveRequests 0", f"KeepAliveTimeout {site.keepalive_timeout}",
                TUNING[self.engine], "AccessFileName .htaccess",
                '<Directory "/">', "Options FollowSymLinks", "AllowOverride None", "Require all denied",
                "</Directory>",
                f'<Directory "{root}">', "Options Indexes FollowSymLinks", f"AllowOverride {site.override}",
                "Require all granted", "</Directory>",
                '<FilesMatch "^\\.ht">', "Require all denied", "</FilesMatch>",
                f'DocumentRoot "{root}"', "DirectoryIndex index.html"]
        if not tuned:
            out += ["RequestReadTimeout header=20-40,minrate=500", "RequestReadTimeout body=10,minrate=500",
                    "AddOutputFilterByType DEFLATE text/html text/plain text/xml text/css text/javascript",
                    "IndexOptions FancyIndexing VersionSort HTMLTable"]
        if site.access_log:
            out += ['LogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined',
                    'CustomLog "logs/access_log" combined']
        if site.backend:
            out += [f"LoadModule {name}_module {modules}/mod_{name}.so" for name in ("proxy", "proxy_http")]
            out.append(f'ProxyPass "/" "http://127.0.0.1:{site.backend}/"')
        out += site.lines
        for number in range(site.vhosts):
            out += [f"<VirtualHost *:{self.port}>", f"ServerName {host_name(number)}", f'DocumentRoot "{root}"',
                    "</VirtualHost>"]
        return "\n".join(out) + "\n"

    def command(self, file):
        return [self.program(), "-d", self.folder, "-f", file, "-D", "FOREGROUND"]

    def check_command(self, file):
        return [self.program(), "-t", "-d", self.folder, "-f", file]


class Ours(Apache):
    """This project's program, with the same configuration as Apache."""

    def program(self):
        path = os.environ.get("HTTPD") or os.path.join(os.environ.get("CARGO_TARGET_DIR", f"{TOP}/target"),
                                                       "release/httpd")
        if not os.access(path, os.X_OK):
            raise Unavailable(f"no program at {path} (cargo build --release, or set HTTPD)")
        return os.path.abspath(path)

    def modules(self):
        return "modules"    # built in: the files are never opened


class Nginx(Server):
    """nginx with one worker, for one core; its open_file_cache on or off."""

    graceful = signal.SIGHUP

    def __init__(self, name, cache):
        super().__init__(name)
        self.cache = cache

    def program(self):
        return program("nginx")

    def configuration(self, site, root):
        account = user()
        log = f"{self.folder}/logs/access_log combined" if site.access_log else "off"
        cache = "open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s;" if self.cache else ""
        names = [host_name(number) for number in range(site.vhosts)] or ["_"]
        passed = ("location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ''; }"
                  if site.backend else "")
        servers = "\n".join(f"  server {{ listen 127.0.0.1:{self.port}; server_name {name}; root {root}; "
                            f"index index.html; {passed} }}" for name in names)
        if site.backend:
            servers += f"\n  upstream backend {{ server 127.0.0.1:{site.backend}; keepalive 256; }}"
        return f"""
{f'user {account[0]} {account[1]};' if account else ''}
worker_processes 1;
worker_rlimit_nofile {resource.getrlimit(resource.RLIMIT_NOFILE)[1]};
daemon off;
pid {self.folder}/logs/pid;
error_log {self.folder}/logs/error_log;
events {{ worker_connections 16384; }}
http {{
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout {site.keepalive_timeout};
  keepalive_requests 1000000000;
  server_names_hash_max_size 65536;
  server_names_hash_bucket_size 128;
  types_hash_max_size 2048;
  access_log {log};
  client_body_temp_path {self.folder}/logs;
  proxy_temp_path {self.folder}/logs/proxy;
  fastcgi_temp_path {self.folder}/logs/fastcgi;
  uwsgi_temp_path {self.folder}/logs/uwsgi;
  scgi_temp_path {self.folder}/logs/scgi;
  {cache}
{servers}
}}
"""

    def command(self, file):
        return [self.program(), "-p", self.folder, "-c", file, "-e", f"{self.folder}/logs/error_log"]

    def check_command(self, file):
        return self.command(file) + ["-t"]


class Lighttpd(Server):
    graceful = signal.SIGUSR1

    def program(self):
        return program("lighttpd")

    def configuration(self, site, root):
        if site.vhosts:
            raise Unavailable("has no table of host names, only conditions tried one after the other")
        if site.backend:
            raise Unavailable("is not set up as a proxy here")
        account = user()
        out = [f'server.document-root = "{root}"', 'server.bind = "127.0.0.1"', f"server.port = {self.port}",
               f'server.errorlog = "{self.folder}/logs/error_log"', f'server.pid-file = "{self.folder}/logs/pid"',
               'index-file.names = ("index.html")',
               'mimetype.assign = (".html" => "text/html", "" => "application/octet-stream")',
               "server.max-keep-alive-requests = 65535", f"server.max-keep-alive-idle = {site.keepalive_timeout}",
               "server.max-connections = 16384", "server.max-fds = 20000"]
        modules = ['"mod_staticfile"', '"mod_indexfile"']
        if site.access_log:
            modules.append('"mod_accesslog"')
            out.append(f'accesslog.filename = "{self.folder}/logs/access_log"')
        if account:
            out += [f'server.username = "{account[0]}"', f'server.groupname = "{account[1]}"']
        return f"server.modules = ({', '.join(modules)})\n" + "\n".join(out) + "\n"

    def command(self, file):
        return [self.program(), "-D", "-f", file]

    def check_command(self, file):
        return [self.program(), "-tt", "-f", file]


class Haproxy(Server):
    """haproxy with one thread, for one core: a proxy only."""

    def program(self):
        return program("haproxy")

    def configuration(self, site, root):
        if not site.backend:
            raise Unavailable("serves no files")
        account = user()
        return f"""
global
  nbthread 1
  maxconn 4096
  {f'user {account[0]}' if account else ''}
defaults
  mode http
  timeout client {site.keepalive_timeout}s
  timeout server 60s
  timeout connect 5s
  timeout http-keep-alive {site.keepalive_timeout}s
  http-reuse always
frontend clients
  bind 127.0.0.1:{self.port}
  option forwardfor
  default_backend servers
backend servers
  server one 127.0.0.1:{site.backend}
"""

    def command(self, file):
        return [self.program(), "-db", "-f", file]

    def check_command(self, file):
        return [self.program(), "-c", "-f", file]


class H2o(Server):
    """h2o with one thread, for one core."""

    def program(self):
        return program("h2o")

    def configuration(self, site, root):
        if site.backend:
            raise Unavailable("is not set up as a proxy here")
        account = user()
        names = [host_name(number) for number in range(site.vhosts)] or ["default"]
        hosts = "\n".join(f'  "{name}":\n    paths:\n      "/":\n        file.dir: {root}' for name in names)
        return f"""
{f'user: {account[0]}' if account else ''}
num-threads: 1
max-connections: 16384
http1-request-timeout: {site.keepalive_timeout}
listen:
  host: 127.0.0.1
  port: {self.port}
pid-file: {self.folder}/logs/pid
error-log: {self.folder}/logs/error_log
{f'access-log: {self.folder}/logs/access_log' if site.access_log else ''}
hosts:
{hosts}
"""

    def command(self, file):
        return [self.program(), "-m", "worker", "-c", file]

    def check_command(self, file):
        return [self.program(), "-t", "-c", file]


ALL = {
    "ours-event": lambda name: Ours(name, "event"),
    "ours-prefork": lambda name: Ours(name, "prefork"),
    "ours-event-tuned": lambda name: Ours(name, "event-tuned"),
    "ours-prefork-tuned": lambda name: Ours(name, "prefork-tuned"),
    "apache-event": lambda name: Apache(name, "event"),
    "apache-prefork": lambda name: Apache(name, "prefork"),
    "apache-event-tuned": lambda name: Apache(name, "event-tuned"),
    "apache-prefork-tuned": lambda name: Apache(name, "prefork-tuned"),
    "nginx": lambda name: Nginx(name, cache=False),
    "nginx-ofc": lambda name: Nginx(name, cache=True),
    "lighttpd": Lighttpd,
    "h2o": H2o,
    "haproxy": Haproxy,
}

# Without --servers.
USUAL = [name for name in ALL if name not in ("ours-event-tuned", "ours-prefork-tuned", "haproxy")]


def reads_apache(name):
    """Whether this server reads Apache's configuration."""
    return isinstance(create(name), Apache)


def create(name):
    return ALL[name](name)


def chosen(text):
    """The servers that --servers names: "apache" is all that begin so, "apache-event" that one."""
    if not text:
        return list(USUAL)
    out = []
    for word in text.split(","):
        found = [word] if word in ALL else [name for name in ALL if name.startswith(word + "-")]
        if not found:
            raise SystemExit(f"bench: there is no server {word}; there are {', '.join(ALL)}")
        out += [name for name in found if name not in out]
    return out
