//! Programs that read our logs, as Debian ships them: fail2ban's filters find in the error log, and goaccess in the access
//! log, what they find in Apache's. Where one of them is not installed, its test says so and passes.

// Tests start programs and wait for them.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const REAL: &str = "/usr/sbin/apache2";
const FILTERS: &str = "/etc/fail2ban/filter.d";

/// What an attacker tries: the request's first line and the fields that matter.
const ATTACKS: &[&str] = &[
    "GET / HTTP/1.1",
    "GET /nosuch.html HTTP/1.1",
    // apache-auth
    "GET /basic/ HTTP/1.1",
    "GET /basic/ HTTP/1.1\r\nAuthorization: Basic Ym9iOnNlY3JldA==",
    "GET /basic/ HTTP/1.1\r\nAuthorization: Basic Ym9iOndyb25n",
    "GET /basic/ HTTP/1.1\r\nAuthorization: Basic bm9ib2R5Ong=",
    "GET /basic/ HTTP/1.1\r\nAuthorization: Basic ZXZlOiJ4",
    "GET /basic/ HTTP/1.1\r\nAuthorization: Bearer x",
    "GET /digest/ HTTP/1.1\r\nAuthorization: Basic YTpi",
    "GET /digest/ HTTP/1.1\r\nAuthorization: Digest x",
    "GET /digest/ HTTP/1.1\r\nAuthorization: Digest username=\"dig\", realm=\"Other\", nonce=\"x\", uri=\"/digest/\", response=\"x\"",
    "GET /digest/ HTTP/1.1\r\nAuthorization: Digest username=\"dig\", realm=\"Realm\", nonce=\"x\", uri=\"/digest/\", response=\"x\"",
    "GET /digest/ HTTP/1.1\r\nAuthorization: Digest username=\"dig\", realm=\"Realm\", nonce=\"x\", uri=\"/other/\", qop=foo, cnonce=\"a\", nc=1, response=\"x\"",
    "GET /deny/ HTTP/1.1",
    "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
    // apache-noscript, apache-nohome, apache-botsearch
    "GET /x.php HTTP/1.1",
    "GET /admin/config.php HTTP/1.1",
    "GET /x.asp HTTP/1.1",
    "GET /x.pl HTTP/1.1",
    "GET /x.exe HTTP/1.1",
    "GET /cgi-bin/test.cgi HTTP/1.1",
    "GET /~nobody/ HTTP/1.1",
    "GET /phpmyadmin/scripts/setup.php HTTP/1.1",
    "GET /roundcube/ HTTP/1.1",
    // apache-overflows
    "GET /@A@ HTTP/1.1",
    "GET / HTTP/1.1\r\nX-Long: @A@",
    "GET / HTTP/9.9",
    "GET /../../etc/passwd HTTP/1.1",
    "FOO / HTTP/1.1",
    "GET /x\\x01 y HTTP/1.1",
    // apache-shellshock, apache-badbots, apache-fakegooglebot
    "GET /cgi-bin/x HTTP/1.1\r\nUser-Agent: () { :;}; /bin/bash -c id",
    "GET / HTTP/1.1\r\nUser-Agent: EmailCollector",
    "GET / HTTP/1.1\r\nUser-Agent: Googlebot/2.1 (+http://www.google.com/bot.html)",
    "GET /a HTTP/1.1\r\nReferer: http://x/\"quoted\"\r\nUser-Agent: back\\slash \"and\" quote",
];

/// How many lines of which log each filter finds.
const FOUND: &[(&str, &str, u32)] = &[
    ("apache-auth", "error.log", 6),
    ("apache-nohome", "error.log", 1),
    ("apache-noscript", "error.log", 8),
    ("apache-overflows", "error.log", 1),
    ("apache-badbots", "access.log", 1),
];

struct Server {
    root: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    fn start(program: &Path, engine: &str) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("httpd-consumers-{}-{count}", std::process::id()));
        for dir in ["htdocs/basic", "htdocs/digest", "htdocs/deny"] {
            fs::create_dir_all(root.join(dir)).unwrap();
            fs::write(root.join(dir).join("index.html"), "secret\n").unwrap();
        }
        fs::write(root.join("htdocs/index.html"), "hello\n").unwrap();
        fs::write(root.join("users"), "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").unwrap();
        fs::write(root.join("digests"), "dig:Realm:0123456789abcdef0123456789abcdef\n").unwrap();
        let start = 31_000 + (std::process::id() * 11 + count) % 1_000;
        let port = (start as u16..).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let user = if nix::unistd::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let load = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
        let modules: String = [
            "authz_core",
            "authz_host",
            "authz_user",
            "authn_core",
            "authn_file",
            "auth_basic",
            "auth_digest",
            "dir",
        ]
        .map(load)
        .concat();
        let text = format!(
            "{}{modules}ServerRoot @ROOT@\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile @ROOT@/pid\n{user}\
             DocumentRoot @ROOT@/htdocs\nErrorLog @ROOT@/error.log\nLogLevel info\nLimitRequestFieldSize 2000\nLimitRequestLine 2000\n\
             LogFormat \"%h %l %u %t \\\"%r\\\" %>s %O \\\"%{{Referer}}i\\\" \\\"%{{User-Agent}}i\\\"\" combined\n\
             LogFormat \"%v:%p %h %l %u %t \\\"%r\\\" %>s %O \\\"%{{Referer}}i\\\" \\\"%{{User-Agent}}i\\\"\" vhost_combined\n\
             CustomLog @ROOT@/access.log combined\nCustomLog @ROOT@/vhosts.log vhost_combined\n\
             <Location /basic>\nAuthType Basic\nAuthName Private\nAuthUserFile @ROOT@/users\nRequire user bob\n</Location>\n\
             <Location /digest>\nAuthType Digest\nAuthName Realm\nAuthUserFile @ROOT@/digests\nRequire valid-user\n</Location>\n\
             <Location /deny>\nRequire ip 10.9.9.9\n</Location>\n",
            load(&format!("mpm_{engine}")),
        );
        fs::write(root.join("httpd.conf"), text.replace("@ROOT@", root.to_str().unwrap())).unwrap();
        let process = Command::new(program)
            .args(["-D", "FOREGROUND", "-f"])
            .arg(root.join("httpd.conf"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { root, port, process };
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn attack(&self) {
        for attack in ATTACKS {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            let attack = attack.replace("@A@", &"A".repeat(3_000));
            // The server may have refused it before it is written.
            _ = write!(stream, "{attack}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            _ = stream.read_to_end(&mut Vec::new());
        }
    }

    fn stop(&mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        wait_until("it stopped", || self.process.try_wait().unwrap().is_some());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = fs::remove_dir_all(&self.root);
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Our server on both engines, and Apache where it is there, each after the attacks.
fn attacked() -> Vec<(String, Server)> {
    let ours = Path::new(env!("CARGO_BIN_EXE_httpd"));
    let real = Path::new(REAL);
    let mut programs = vec![("prefork", ours), ("event", ours)];
    if real.exists() {
        programs.push(("event", real));
    }
    let run = |(engine, program): (&str, &Path)| {
        let mut server = Server::start(program, engine);
        server.attack();
        server.stop();
        (format!("{} {engine}", program.display()), server)
    };
    programs.into_iter().map(run).collect()
}

fn installed(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

#[test]
fn fail2ban_finds_the_same() {
    if !installed("fail2ban-regex") {
        return;
    }
    for (name, server) in attacked() {
        for &(filter, log, count) in FOUND {
            let output = Command::new("fail2ban-regex")
                .arg(server.root.join(log))
                .arg(format!("{FILTERS}/{filter}.conf"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let line = text.lines().find(|line| line.starts_with("Lines:")).unwrap_or_default();
            eprintln!("{name} {filter} {log} {line}");
            assert!(line.contains(&format!(", {count} matched")), "{name}: {filter} in {log}: {line}");
        }
    }
}

#[test]
fn goaccess_rejects_nothing() {
    if !installed("goaccess") {
        return;
    }
    for (name, server) in attacked() {
        for (log, format) in [("access.log", "COMBINED"), ("vhosts.log", "VCOMBINED")] {
            let report = server.root.join("report.json");
            let status = Command::new("goaccess")
                .arg(server.root.join(log))
                .arg(format!("--log-format={format}"))
                .arg("--no-global-config")
                .arg("-o")
                .arg(&report)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "{name}: {log}");
            let text = String::from_utf8_lossy(&fs::read(&report).unwrap()).into_owned();
            for (key, count) in [("valid_requests", ATTACKS.len()), ("failed_requests", 0)] {
                let found =
                    text.split_once(&format!("\"{key}\": ")).and_then(|(_, rest)| rest.split(',').next());
                assert_eq!(found, Some(&*count.to_string()), "{name}: {log}: {key}");
            }
        }
    }
}
