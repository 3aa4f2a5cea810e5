//! Clients that wait, and clients that let the server wait.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::ENGINES;
use crate::client::{Crowd, ask, connect};
use crate::server::{Server, wait_until};

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

/// Raises the limit of descriptors as far as it goes; what it is.
fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    getrlimit(Resource::RLIMIT_NOFILE).unwrap().0
}

/// Event with nothing set: ten thousand connections between two requests, and requests go on.
#[test]
fn ten_thousand_idle_connections() {
    let most = usize::try_from(descriptor_limit().saturating_sub(1000)).unwrap_or(usize::MAX);
    let count = most.min(10_000);
    if count < 10_000 {
        eprintln!("with {count} connections only: the limit of descriptors allows no more");
    }
    let server = Server::start("event", "KeepAliveTimeout 600\nMaxKeepAliveRequests 0\n");
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = connect(server.port);
        assert!(ask(&mut stream, "/index.html").unwrap().ends_with("hello\n"));
        idle.push(stream);
    }
    let crowd = Crowd::start(server.port, 2);
    wait_until("requests go on", || crowd.served() > 200);
    crowd.stop().unwrap_or_else(|text| panic!("{text}\n{}", server.complaints()));
    for pid in server.children() {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count());
        assert!(threads <= 26, "{threads} threads");
    }
    for stream in idle.iter_mut().step_by(97) {
        assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"));
    }
}

/// When descriptors are short, connections that wait for nothing make room for those that come.
#[test]
fn short_of_descriptors() {
    let server = Server::start_limited(
        "event",
        "StartServers 1\nThreadsPerChild 5\nMaxRequestWorkers 5\nKeepAliveTimeout 600\n",
        100,
    );
    server.wait_for_children(1);
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stream = connect(server.port);
        assert!(ask(&mut stream, "/index.html").unwrap().ends_with("hello\n"));
        idle.push(stream);
    }
    assert!(server.error_log().matches("AH02179").count() < 300, "{}", server.complaints());
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    assert_eq!(server.children().len(), 1);
}

/// Runs Debian's slowhttptest for a while; `None` where it is not installed.
fn slowhttptest(server: &Server, attack: &[&str]) -> Option<std::process::Child> {
    let url = format!("http://127.0.0.1:{}/large", server.port);
    let started = Command::new("slowhttptest")
        .args(attack)
        .args(["-c", "800", "-r", "400", "-i", "1", "-l", "20", "-u", &url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(child) => Some(child),
        Err(_) => {
            eprintln!("left out: slowhttptest is not installed");
            None
        }
    }
}

/// Event: heads, bodies and readers that are slow take no worker, so that everybody else is served.
#[test]
fn slow_clients_hold_nobody_up() {
    for attack in [&["-H"][..], &["-B", "-s", "8192"], &["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32"]]
    {
        let server = Server::start("event", "TimeOut 60\n");
        let Some(mut slow) = slowhttptest(&server, attack) else { return };
        let crowd = Crowd::start(server.port, 2);
        let connections = || fs::read_dir(format!("/proc/{}/fd", slow.id())).map_or(0, |fds| fds.count());
        wait_until("many slow clients are there", || connections() > 500);
        let served = crowd.served();
        wait_until("requests go on", || crowd.served() > served + 200);
        let _ = slow.kill();
        let _ = slow.wait();
        crowd.stop().unwrap_or_else(|text| panic!("{attack:?}: {text}\n{}", server.complaints()));
        assert!(!server.error_log().contains("MaxRequestWorkers"), "{}", server.error_log());
    }
}

/// Prefork: RequestReadTimeout sends slow clients away, and others are served again.
#[test]
fn slow_clients_of_prefork_go() {
    let server = Server::start(
        "prefork",
        "LoadModule reqtimeout_module modules/mod_reqtimeout.so\nRequestReadTimeout header=1 body=1\n\
         MaxRequestWorkers 10\nAcceptFilter http none\n",
    );
    let mut slow: Vec<_> = (0..30).map(|_| connect(server.port)).collect();
    for stream in &mut slow {
        stream.get_mut().write_all(b"GET /index.html HTTP/1.1\r\nHost: x\r\n").unwrap();
    }
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    let mut reply = String::new();
    slow[0].read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408 Request Timeout"), "{reply:?}");
}

/// TimeOut: a client that takes nothing, and one that sends nothing, is let go by both engines.
#[test]
fn timeout_ends_what_does_not_go_on() {
    for engine in ENGINES {
        let server = Server::start(
            engine,
            "TimeOut 1\nAcceptFilter http none\nLogFormat %U u\nCustomLog access_log u\n",
        );
        let mut reader = connect(server.port);
        for _ in 0..8 {
            write!(reader.get_mut(), "GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        let mut head = connect(server.port);
        write!(head.get_mut(), "GET / HTTP/1.1\r\n").unwrap();
        let mut reply = String::new();
        head.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 408"), "{engine}: {reply:?}");
        wait_until("the reader is let go", || {
            let log = fs::read_to_string(server.root.join("access_log")).unwrap_or_default();
            log.contains("/large")
        });
        drop(reader);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}
