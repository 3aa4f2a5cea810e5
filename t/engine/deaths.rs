//! Processes that are killed: nobody else loses anything, and nothing is left behind.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{ask, connect, get};
use crate::server::{Server, alive, kill, wait_until};

#[test]
fn a_killed_child_is_replaced() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 2\nMinSpareServers 2\n");
        wait_until("two children live", || server.children().len() >= 2);
        let killed = server.children()[0];
        // One that has only just begun would take the first one as the master does.
        wait_until("the child is dead", || {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed), Signal::SIGSEGV);
            !alive(killed)
        });
        wait_until("the child was replaced", || server.children().len() >= 2);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        wait_until("it is logged", || server.error_log().contains("AH00052"));
        let expected = format!("child pid {killed} exit signal Segmentation fault (11)");
        assert!(server.error_log().contains(&expected), "{engine}: {}", server.error_log());
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

/// Kept connections with the number of the child that has each, which the access log tells.
fn connections_by_child(server: &Server, count: usize) -> Vec<(i32, BufReader<TcpStream>)> {
    let mut streams: Vec<_> = (0..count).map(|_| connect(server.port)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        ask(stream, &format!("/index.html?{number}")).unwrap();
    }
    let log = || fs::read_to_string(server.root.join("access_log")).unwrap_or_default();
    let pid_of = |number: usize| {
        let log = log();
        let line = log.lines().find(|line| line.ends_with(&format!(" ?{number}")))?;
        line.split(' ').next()?.parse().ok()
    };
    wait_until("all is logged", || (0..count).all(|number| pid_of(number).is_some()));
    (0..count).map(|number| pid_of(number).unwrap()).zip(streams).collect()
}

const LOG_PIDS: &str = "LogFormat \"%P %q\" p\nCustomLog access_log p\nKeepAliveTimeout 60\n";

/// The connections of other children never notice.
#[test]
fn a_killed_child_takes_only_its_own_connections() {
    for engine in ENGINES {
        let extra = format!("{LOG_PIDS}StartServers 4\nMinSpareServers 4\n");
        let server = Server::start(engine, &extra);
        server.wait_for_children(4);
        let mut connections = connections_by_child(&server, 8);
        let killed = connections[0].0;
        kill(killed, Signal::SIGKILL);
        wait_until("it is dead", || !alive(killed));
        for (pid, stream) in &mut connections {
            if *pid != killed {
                assert!(ask(stream, "/index.html").unwrap().ends_with("hello\n"), "{engine}");
            }
        }
        wait_until("it was replaced", || server.children().len() >= 4);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}

/// Children die again and again under load: clients that try once more get everything, and so does a new one at the end.
#[test]
fn children_killed_at_random() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 4\nMinSpareServers 4\n");
        let port = server.port;
        server.wait_for_children(4);
        let (running, broken, served) = (AtomicBool::new(true), AtomicU32::new(0), AtomicU32::new(0));
        let kills = 20;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while running.load(Ordering::Relaxed) {
                        match get(port, "/index.html") {
                            Ok(reply) if reply.ends_with("hello\n") => {
                                served.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => {
                                broken.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            for round in 0..kills {
                let before = served.load(Ordering::Relaxed);
                wait_until("requests went on", || served.load(Ordering::Relaxed) > before + 20);
                let children = server.children();
                if let Some(&pid) = children.get(round * 7 % children.len().max(1)) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            running.store(false, Ordering::Relaxed);
        });
        let broken = broken.load(Ordering::Relaxed);
        // Each death can meet one request of each client.
        assert!(broken <= kills as u32 * 4, "{engine}: {broken} of {}", served.load(Ordering::Relaxed));
        assert!(alive(server.pid()), "{engine}");
        wait_until("there are enough children again", || server.children().len() >= 3);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
    }
}

/// What is under way when the master is killed goes to its end; then children and the readers of logs are gone.
#[test]
fn a_killed_master_cuts_no_reply() {
    for engine in ENGINES {
        let log = "LogFormat %U u\nCustomLog \"|/bin/cat\" u\n";
        let mut server = Server::start(engine, &format!("{log}KeepAliveTimeout 60\n"));
        server.wait_for_children(2);
        let mut busy = connect(server.port);
        write!(busy.get_mut(), "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0; 1000];
        busy.read_exact(&mut first).unwrap();
        let mut idle = connect(server.port);
        ask(&mut idle, "/index.html").unwrap();
        let all = server.children();
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        let mut rest = Vec::new();
        busy.read_to_end(&mut rest).unwrap();
        assert!(first.len() + rest.len() > 4 << 20, "{engine}: {} bytes", rest.len());
        let mut end = Vec::new();
        idle.read_to_end(&mut end).unwrap();
        wait_until("no process is left", || all.iter().all(|&pid| !alive(pid)));
        assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err(), "{engine}: somebody listens");
    }
}

/// A server that was killed is started again in its place.
#[test]
fn a_start_after_a_kill() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "");
        server.wait_for_children(1);
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        assert!(server.root.join("pid").exists(), "{engine}");
        wait_until("the port is free", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        server.launch(&["-D", "FOREGROUND"]);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        assert!(
            server.error_log().contains("overwritten -- Unclean shutdown of previous Apache run?"),
            "{engine}"
        );
    }
}
