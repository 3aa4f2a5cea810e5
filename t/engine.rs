//! The engines with real processes: children that die, restarts under load, signals, limits.
//!
//! Each test starts the built program in a folder and on a port of its own, and ends it by pid.

// Tests start servers and wait for them.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ENGINES: [&str; 2] = ["prefork", "event"];

/// A running server.
struct Server {
    root: PathBuf,
    port: u16,
    process: Child,
}

/// A port that nobody has, below those that the kernel gives to outgoing connections: such a connection could take it before
/// the server does.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let port = 10_000 + (std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener.local_addr().unwrap().port();
        }
    }
}

/// Until `holds`, at most 20 seconds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    fn start(engine: &str, extra: &str) -> Server {
        Server::start_with(engine, extra, &["-D", "FOREGROUND"])
    }

    fn start_with(engine: &str, extra: &str, options: &[&str]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("httpd-engine-{}-{count}", std::process::id()));
        fs::create_dir_all(root.join("htdocs")).unwrap();
        fs::write(root.join("htdocs/index.html"), "hello\n").unwrap();
        fs::write(root.join("htdocs/large"), vec![b'x'; 4 << 20]).unwrap();
        if is_root() {
            // With -X the process that removes the pid file is the user's.
            let chowned = Command::new("chown").arg("www-data").arg(&root).status().unwrap();
            assert!(chowned.success());
        }
        let port = free_port();
        let mut server = Server { root, port, process: Command::new("true").spawn().unwrap() };
        server.process.wait().unwrap();
        server.configure(engine, extra);
        server.process = Command::new(env!("CARGO_BIN_EXE_httpd"))
            .args(options)
            .arg("-f")
            .arg(server.root.join("httpd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let port = server.port;
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// Writes the configuration. Lines of `extra` about spare servers count in prefork only.
    fn configure(&self, engine: &str, extra: &str) {
        let extra: String = extra
            .lines()
            .filter(|line| engine == "prefork" || !line.contains("SpareServers"))
            .map(|line| format!("{line}\n"))
            .collect();
        let root = self.root.display();
        let user = if is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let text = format!(
            "LoadModule mpm_{engine}_module modules/mod_mpm_{engine}.so\n\
             LoadModule authz_core_module modules/mod_authz_core.so\n\
             ServerRoot {root}\nServerName localhost\nListen 127.0.0.1:{}\n\
             PidFile {root}/pid\nErrorLog {root}/error_log\nDocumentRoot {root}/htdocs\n{user}\
             <Directory {root}/htdocs>\nRequire all granted\n</Directory>\n{extra}\n",
            self.port
        );
        fs::write(self.root.join("httpd.conf"), text).unwrap();
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// The living children of the master.
    fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }

    fn get(&self, path: &str) -> String {
        get(self.port, path).unwrap()
    }

    fn error_log(&self) -> String {
        fs::read_to_string(self.root.join("error_log")).unwrap_or_default()
    }

    /// Waits for the end of the master: its exit code.
    fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.process.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() > end => panic!("the master did not end"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = self.children();
        let _ = self.process.kill();
        let _ = self.process.wait();
        for pid in children {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let state = fields.next().unwrap_or("");
        if state != "Z" && fields.next().and_then(|p| p.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// One request on a connection of its own.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// One request on an open connection; the body's length comes from Content-Length.
fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<String> {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    read_reply(stream)
}

fn read_reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        let end = line == "\r\n";
        head.push_str(&line);
        if end {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    BufReader::new(stream)
}

#[test]
fn serves_and_stops() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "LogLevel info");
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200 OK"), "{engine}");
        let pid = fs::read_to_string(server.root.join("pid")).unwrap();
        assert_eq!(pid.trim(), server.pid().to_string());
        wait_until("children live", || !server.children().is_empty());
        let children = server.children();
        server.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(server.ended(), Some(0), "{engine}");
        assert!(!server.root.join("pid").exists());
        assert!(children.iter().all(|&pid| !alive(pid)), "{engine}");
        // In this order: AH00490 or AH00164, AH00096, AH00491 or AH00169.
        let log = server.error_log();
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{engine}: no {text}: {log}"));
        let removed =
            format!("removed PID file {} (pid={})", server.root.join("pid").display(), server.pid());
        assert!(at("Server built: ") < at(&removed), "{engine}");
        assert!(at(&removed) < at("caught SIGTERM, shutting down"), "{engine}");
    }
}

#[test]
fn keeps_a_connection_and_answers_a_pipeline_in_order() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        let mut stream = connect(server.port);
        for _ in 0..3 {
            assert!(ask(&mut stream, "/index.html").unwrap().ends_with("hello\n"), "{engine}");
        }
        let request = "GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let missing = "GET /missing HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.get_mut().write_all([request, missing, request].concat().as_bytes()).unwrap();
        let statuses: Vec<String> =
            (0..3).map(|_| read_reply(&mut stream).unwrap()[9..12].to_owned()).collect();
        assert_eq!(statuses, ["200", "404", "200"], "{engine}");
    }
}

#[test]
fn a_killed_child_is_replaced() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 2\nMinSpareServers 2\n");
        wait_until("two children live", || server.children().len() >= 2);
        let killed = server.children()[0];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed), nix::sys::signal::Signal::SIGSEGV)
            .unwrap();
        wait_until("the child was replaced", || !alive(killed) && server.children().len() >= 2);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        wait_until("it is logged", || server.error_log().contains("AH00052"));
        let expected = format!("child pid {killed} exit signal Segmentation fault (11)");
        assert!(server.error_log().contains(&expected), "{engine}: {}", server.error_log());
    }
}

#[test]
fn max_connections_per_child_retires_it() {
    for engine in ENGINES {
        let server = Server::start(
            engine,
            "StartServers 1\nMinSpareServers 1\nMaxSpareServers 2\nMaxConnectionsPerChild 3\n",
        );
        wait_until("children live", || !server.children().is_empty());
        let first = server.children();
        for _ in 0..20 {
            assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        }
        wait_until("the first children are gone", || first.iter().all(|&pid| !alive(pid)));
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}

/// Many clients while the server is restarted again and again: no request may fail.
#[test]
fn graceful_restarts_lose_nothing() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 2\nMinSpareServers 2\n");
        let port = server.port;
        let running = Arc::new(AtomicBool::new(true));
        let served = Arc::new(AtomicU32::new(0));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (running, served) = (running.clone(), served.clone());
                thread::spawn(move || {
                    while running.load(Ordering::Relaxed) {
                        let reply = get(port, "/index.html").expect("a request failed during a restart");
                        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello\n"), "{reply:?}");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for round in 0..10 {
            let before = served.load(Ordering::Relaxed);
            server.signal(nix::sys::signal::Signal::SIGUSR1);
            wait_until("requests went on", || served.load(Ordering::Relaxed) > before + 5);
            assert!(alive(server.pid()), "{engine}: round {round}");
        }
        running.store(false, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap_or_else(|_| panic!("{engine}: {}", server.error_log()));
        }
    }
}

/// A reply that is on its way when the restart comes goes to its end.
#[test]
fn a_graceful_restart_finishes_what_is_under_way() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 1\nMinSpareServers 1\nMaxSpareServers 2\n");
        wait_until("children live", || !server.children().is_empty());
        let old = server.children();
        let mut stream = connect(server.port);
        write!(stream.get_mut(), "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        server.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_until("new children live", || server.children().iter().any(|pid| !old.contains(pid)));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(first.len() + rest.len() > 4 << 20, "{engine}: {} bytes", rest.len());
        wait_until("the old children are gone", || old.iter().all(|&pid| !alive(pid)));
    }
}

#[test]
fn a_broken_configuration_keeps_the_old_one_running() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        server.configure(engine, "NoSuchDirective on\n");
        server.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_until("it is logged", || server.error_log().contains("Invalid command 'NoSuchDirective'"));
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        server.configure(engine, "");
        server.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_until("it went on", || server.error_log().matches("resuming normal operations").count() >= 2);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}

#[test]
fn restarts_add_and_remove_listeners() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        let second = free_port();
        server.configure(engine, &format!("Listen 127.0.0.1:{second}\n"));
        server.signal(nix::sys::signal::Signal::SIGHUP);
        wait_until("the second port answers", || {
            get(second, "/index.html").is_ok_and(|r| r.starts_with("HTTP/1.1 200"))
        });
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        server.configure(engine, "");
        server.signal(nix::sys::signal::Signal::SIGUSR1);
        wait_until("the second port is closed", || TcpStream::connect(("127.0.0.1", second)).is_err());
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}

#[test]
fn a_graceful_stop_finishes_what_is_under_way() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "");
        let mut stream = connect(server.port);
        write!(stream.get_mut(), "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        server.signal(nix::sys::signal::Signal::SIGWINCH);
        wait_until("it listens no more", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(first.len() + rest.len() > 4 << 20, "{engine}");
        drop(stream);
        assert_eq!(server.ended(), Some(0), "{engine}");
    }
}

/// The children notice that the master is gone, finish, and leave nothing behind.
#[test]
fn a_killed_master_leaves_no_process() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "");
        wait_until("children live", || !server.children().is_empty());
        let children = server.children();
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        wait_until("the children are gone", || children.iter().all(|&pid| !alive(pid)));
    }
}

/// Event: more idle connections than workers, and requests still answered.
#[test]
fn idle_connections_need_no_worker() {
    let server = Server::start(
        "event",
        "StartServers 1\nThreadsPerChild 2\nMaxRequestWorkers 2\nMinSpareThreads 1\nMaxSpareThreads 3\nKeepAliveTimeout 20\n",
    );
    let mut idle: Vec<_> = (0..200).map(|_| connect(server.port)).collect();
    for stream in &mut idle {
        assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"));
    }
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    for stream in &mut idle {
        assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"));
    }
}

/// Prefork: more clients than spare children makes more children, up to the limit.
#[test]
fn prefork_makes_more_children_when_they_are_busy() {
    let server = Server::start(
        "prefork",
        "StartServers 1\nMinSpareServers 1\nMaxSpareServers 3\nMaxRequestWorkers 4\nServerLimit 4\nKeepAliveTimeout 20\n",
    );
    let mut streams: Vec<_> = (0..3).map(|_| connect(server.port)).collect();
    for stream in &mut streams {
        assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"));
    }
    wait_until("four children live", || server.children().len() == 4);
}

#[test]
fn children_become_the_user() {
    if !is_root() {
        return;
    }
    for engine in ENGINES {
        let server = Server::start(engine, "");
        wait_until("a child lives", || !server.children().is_empty());
        let child = server.children()[0];
        wait_until("the child changed its user", || {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            status.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) != Some("0"))
        });
    }
}

/// `-X`: one process, no children.
#[test]
fn one_process_serves_alone() {
    for engine in ENGINES {
        let mut server = Server::start_with(engine, "", &["-X"]);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        assert!(server.children().is_empty(), "{engine}");
        server.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(server.ended(), Some(0), "{engine}");
        assert!(!server.root.join("pid").exists(), "{engine}");
    }
}

#[test]
fn an_idle_connection_ends_after_keep_alive_timeout() {
    for engine in ENGINES {
        let server = Server::start(engine, "KeepAliveTimeout 300ms\n");
        let mut stream = connect(server.port);
        ask(&mut stream, "/index.html").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{engine}");
    }
}

/// Two families, and several sockets.
#[test]
fn listens_on_ipv6_and_ipv4() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    for engine in ENGINES {
        let second = free_port();
        let server = Server::start(engine, &format!("Listen [::1]:{second}\n"));
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        let mut stream = TcpStream::connect(("::1", second)).unwrap();
        write!(stream, "GET /index.html HTTP/1.1\r\nHost: [::1]:{second}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("hello\n"), "{engine}: {reply}");
    }
}

/// Many virtual hosts on one address: each is found by its name, its alias and its pattern.
#[test]
fn ten_thousand_virtual_hosts() {
    let mut hosts = String::new();
    for i in 0..10_000 {
        hosts.push_str(&format!(
            "<VirtualHost *>\nServerName v{i}.test\nServerAlias w{i}.test *.x{i}.test\nServerAdmin a{i}@test\nServerSignature EMail\n</VirtualHost>\n"
        ));
    }
    let server = Server::start("event", &hosts);
    let names = [
        ("v0.test", 0),
        ("v9999.test", 9999),
        ("w5000.test", 5000),
        ("a.x7777.test", 7777),
        ("nobody.test", 0),
    ];
    for (name, index) in names {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(stream, "GET /missing HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.contains(&format!("mailto:a{index}@test")), "{name}: {reply}");
    }
}

/// What the project ships is a configuration that works: `httpd.conf` with its extra files, laid out as it is installed.
#[test]
fn the_shipped_configuration_serves() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("httpd-conf/default");
    for engine in ENGINES {
        let server = Server::start(engine, "");
        let root = server.root.join("shipped");
        for dir in ["conf", "logs"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (from, to) in [
            ("httpd.conf", "conf"),
            ("mime.types", "conf"),
            ("magic", "conf"),
            ("extra", "conf"),
            ("htdocs", "."),
            ("icons", "."),
            ("error", "."),
            ("cgi-bin", "."),
        ] {
            let copied =
                Command::new("cp").arg("-r").arg(shipped.join(from)).arg(root.join(to)).status().unwrap();
            assert!(copied.success(), "{from}");
        }
        let port = free_port();
        let file = root.join("conf/httpd.conf");
        let mut text = fs::read_to_string(&file).unwrap();
        for (from, to) in [
            ("/usr/local/apache2", root.to_str().unwrap().to_owned()),
            ("Listen 80\n", format!("Listen 127.0.0.1:{port}\nServerName localhost\n")),
            ("mpm_event", format!("mpm_{engine}")),
            ("User daemon\n", if is_root() { "User daemon\n".to_owned() } else { String::new() }),
            ("Group daemon\n", if is_root() { "Group daemon\n".to_owned() } else { String::new() }),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, &to);
        }
        for extra in ["mpm", "autoindex", "default"] {
            text = text.replace(
                &format!("#Include \"conf/extra/httpd-{extra}.conf\""),
                &format!("Include \"conf/extra/httpd-{extra}.conf\""),
            );
        }
        fs::write(&file, text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_httpd"))
            .args(["-D", "FOREGROUND", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let page = get(port, "/").unwrap();
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.contains("Content-Type: text/html"),
            "{engine}: {page}"
        );
        assert!(get(port, "/icons/folder.gif").unwrap().contains("Content-Type: image/gif"), "{engine}");
        assert!(get(port, "/.htaccess").unwrap().starts_with("HTTP/1.1 403"), "{engine}");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(process.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert!(process.wait().unwrap().success(), "{engine}");
        let log = fs::read_to_string(root.join("logs/access_log")).unwrap();
        assert!(log.contains("\"GET / HTTP/1.1\" 200 "), "{engine}: {log}");
    }
}
