//! How many children there are, and what happens when there can be no more.

use std::fs;
use std::io::{Read, Write};
use std::thread;

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{Crowd, ask, connect};
use crate::server::{Server, alive, wait_until};

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

/// A reply that is on its way when the limit comes goes to its end, and a kept connection is served on.
#[test]
fn max_connections_per_child_cuts_nothing() {
    for engine in ENGINES {
        let server = Server::start(
            engine,
            "StartServers 1\nMinSpareServers 1\nMaxSpareServers 2\nMaxConnectionsPerChild 2\nKeepAliveTimeout 60\n",
        );
        server.wait_for_children(1);
        let mut busy = connect(server.port);
        write!(busy.get_mut(), "GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut first = [0; 1000];
        busy.read_exact(&mut first).unwrap();
        let crowd = Crowd::start(server.port, 4);
        wait_until("many requests were answered", || crowd.served() > 50);
        crowd.stop().unwrap_or_else(|text| panic!("{engine}: {text}\n{}", server.complaints()));
        let mut rest = Vec::new();
        busy.read_to_end(&mut rest).unwrap();
        assert!(first.len() + rest.len() > 4 << 20, "{engine}: {} bytes", rest.len());
    }
}

/// Prefork: when all children are taken it is said once; who waited is served when one is free again.
#[test]
fn prefork_reaches_its_limit_and_leaves_it() {
    let server = Server::start(
        "prefork",
        "StartServers 1\nMinSpareServers 1\nMaxSpareServers 2\nMaxRequestWorkers 3\nServerLimit 3\nKeepAliveTimeout 60\nAcceptFilter http none\n",
    );
    for round in 0..2 {
        let mut held: Vec<_> = (0..3).map(|_| connect(server.port)).collect();
        for stream in &mut held {
            assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"));
        }
        wait_until("it is said", || server.error_log().contains("AH00161: server reached MaxRequestWorkers"));
        assert_eq!(server.children().len(), 3, "round {round}");
        let port = server.port;
        let waiting = thread::spawn(move || crate::client::get(port, "/index.html"));
        drop(held);
        assert!(waiting.join().unwrap().unwrap().ends_with("hello\n"));
        wait_until("children that are not needed go", || server.children().len() == 2);
    }
    assert_eq!(server.error_log().matches("AH00161").count(), 1);
}

/// Event: requests that need threads reach the limit; those that need none are answered all the while on the connections
/// that are there.
#[test]
fn event_reaches_its_limit_and_leaves_it() {
    let server = Server::start(
        "event",
        "LoadModule auth_basic_module modules/mod_auth_basic.so\n\
         LoadModule authn_core_module modules/mod_authn_core.so\n\
         LoadModule authn_file_module modules/mod_authn_file.so\n\
         LoadModule authz_user_module modules/mod_authz_user.so\n\
         <Location /secret>\nAuthType Basic\nAuthName x\nAuthUserFile users\nRequire valid-user\n</Location>\n\
         StartServers 1\nThreadsPerChild 2\nMaxRequestWorkers 2\nMinSpareThreads 1\nMaxSpareThreads 3\n\
         KeepAliveTimeout 60\n",
    );
    // A hash that takes its time.
    let hash = "u:$2y$12$abcdefghijklmnopqrstuu5LoV8VEiBFsO16gv1qF0Hqv9o.NbEwS\n";
    fs::write(server.root.join("users"), hash).unwrap();
    let port = server.port;
    let running = std::sync::atomic::AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while running.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut stream = connect(port);
                    let _ = write!(
                        stream.get_mut(),
                        "GET /secret HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dTpw\r\nConnection: close\r\n\r\n"
                    );
                    let mut reply = String::new();
                    let _ = stream.read_to_string(&mut reply);
                    assert!(reply.starts_with("HTTP/1.1 401"), "{reply:?}");
                }
            });
        }
        wait_until("it is said", || server.error_log().contains("AH00484: server reached MaxRequestWorkers"));
        running.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    assert_eq!(server.error_log().matches("AH00484").count(), 1);
}

/// More idle workers than MaxSpareThreads: children go one by one, and no client notices.
#[test]
fn event_lets_idle_children_go() {
    let server =
        Server::start("event", "StartServers 6\nThreadsPerChild 5\nMinSpareThreads 5\nMaxSpareThreads 10\n");
    server.wait_for_children(6);
    let crowd = Crowd::start(server.port, 2);
    wait_until("they are gone", || server.children().len() <= 2);
    crowd.stop().unwrap_or_else(|text| panic!("{text}\n{}", server.complaints()));
    assert!(!server.children().is_empty());
}

/// Several sockets for one address, each with children of its own: none is left alone.
#[test]
fn buckets_of_listening_sockets() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("left out: one processor makes one bucket");
        return;
    }
    for engine in ENGINES {
        let server = Server::start(engine, "ListenCoresBucketsRatio 1\nStartServers 1\nMinSpareServers 1\n");
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{:04X} 00000000:0000 0A", server.port);
        assert_eq!(table.lines().filter(|line| line.contains(&local)).count(), cores, "{engine}");
        server.wait_for_children(cores);
        let crowd = Crowd::start(server.port, 4);
        for round in 0..4 {
            let served = crowd.served();
            let children = server.children();
            if round % 2 == 0 {
                server.signal(Signal::SIGUSR1);
                wait_until("the old children are gone", || children.iter().all(|&pid| !alive(pid)));
            }
            wait_until("requests went on", || crowd.served() > served + 50);
        }
        crowd.stop().unwrap_or_else(|text| panic!("{engine}: {text}\n{}", server.complaints()));
    }
}
