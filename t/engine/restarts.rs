//! Restarts and stops: nothing is lost, everything can be changed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{Crowd, ask, connect, get};
use crate::server::{Server, alive, descriptors, free_port, wait_until};

/// Many clients while the server is restarted fifty times: no request fails, and the master is left with what it had.
#[test]
fn fifty_graceful_restarts_lose_nothing() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 2\nMinSpareServers 2\n");
        server.wait_for_children(2);
        server.get("/index.html");
        let crowd = Crowd::start(server.port, 6);
        let mut before = 0;
        for round in 0..50 {
            if round == 1 {
                before = descriptors(server.pid());
            }
            let served = crowd.served();
            server.signal(Signal::SIGUSR1);
            wait_until("requests went on", || crowd.served() > served + 5);
            wait_until("it was restarted", || {
                server.error_log().matches("resuming normal operations").count() == round + 2
            });
        }
        let served = crowd.stop().unwrap_or_else(|text| panic!("{engine}: {text}\n{}", server.complaints()));
        assert!(served > 250, "{engine}: {served}");
        // Two children for each that is left over, at most: sockets to those that still end.
        wait_until("the old children are gone", || server.children().len() <= 5);
        let after = descriptors(server.pid());
        assert!(after <= before + 4, "{engine}: {before} descriptors, then {after}");
    }
}

/// The new generation begins with as many processes as the old one had at work.
#[test]
fn a_restart_of_busy_processes_starts_as_many() {
    let server = Server::start("prefork", "StartServers 2\nMinSpareServers 1\nKeepAliveTimeout 60\n");
    server.wait_for_children(2);
    // Each holds a process; the server makes more, one, two, four a second.
    let mut held: Vec<_> = (0..6).map(|_| connect(server.port)).collect();
    for connection in &mut held {
        assert!(ask(connection, "/index.html").unwrap().starts_with("HTTP/1.1 200"));
    }
    let before = server.children();
    assert!(before.len() >= 6, "{before:?}");
    server.signal(Signal::SIGUSR1);
    wait_until("the old processes are gone", || !server.children().iter().any(|pid| before.contains(pid)));
    assert!(server.children().len() >= 6, "{:?}", server.children());
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
        server.signal(Signal::SIGUSR1);
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
        server.signal(Signal::SIGUSR1);
        wait_until("it is logged", || server.error_log().contains("Invalid command 'NoSuchDirective'"));
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        server.configure(engine, "");
        server.signal(Signal::SIGUSR1);
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
        server.signal(Signal::SIGHUP);
        wait_until("the second port answers", || {
            get(second, "/index.html").is_ok_and(|r| r.starts_with("HTTP/1.1 200"))
        });
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        server.configure(engine, "");
        server.signal(Signal::SIGUSR1);
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
        server.signal(Signal::SIGWINCH);
        wait_until("it listens no more", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(first.len() + rest.len() > 4 << 20, "{engine}");
        drop(stream);
        assert_eq!(server.ended(), Some(0), "{engine}");
    }
}

/// An address that takes the place of one that includes it, and the other way round: both can't listen at once.
#[test]
fn a_restart_narrows_and_widens_an_address() {
    for engine in ENGINES {
        let port = free_port();
        let server = Server::start(engine, &format!("Listen {port}\n"));
        for (number, address) in ["127.0.0.1:", "0.0.0.0:", "", "127.0.0.1:"].into_iter().enumerate() {
            assert!(get(port, "/index.html").unwrap().starts_with("HTTP/1.1 200"), "{engine}");
            let old = server.children();
            server.configure(engine, &format!("Listen {address}{port}\n"));
            server.signal(Signal::SIGUSR1);
            wait_until("it was restarted", || {
                server.error_log().matches("resuming normal operations").count() == number + 2
            });
            wait_until("the old children are gone", || old.iter().all(|&pid| !alive(pid)));
        }
        assert!(get(port, "/index.html").unwrap().starts_with("HTTP/1.1 200"), "{engine}");
        // Nobody else may have this address.
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "{engine}");
    }
}

/// SIGHUP: what is under way is cut, but no new connection is refused.
#[test]
fn a_restart_refuses_no_connection() {
    for engine in ENGINES {
        let server = Server::start(engine, "StartServers 2\nMinSpareServers 2\n");
        let old = server.wait_for_children(2);
        for round in 2..12 {
            server.signal(Signal::SIGHUP);
            TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            wait_until("it was restarted", || {
                server.error_log().matches("resuming normal operations").count() == round
            });
        }
        wait_until("the first children are gone", || old.iter().all(|&pid| !alive(pid)));
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"), "{engine}");
        assert!(server.error_log().contains("SIGHUP received.  Attempting to restart"), "{engine}");
        assert!(!server.error_log().contains("still did not exit"), "{engine}: {}", server.error_log());
    }
}

/// A connection between two requests is told that it ends, or is closed, but loses no request.
#[test]
fn a_graceful_restart_closes_kept_connections_after_a_reply() {
    for engine in ENGINES {
        let server = Server::start(engine, "KeepAliveTimeout 60\n");
        let old = server.wait_for_children(1);
        let mut streams: Vec<_> = (0..3).map(|_| connect(server.port)).collect();
        for stream in &mut streams {
            assert!(!ask(stream, "/index.html").unwrap().contains("Connection: close"), "{engine}");
        }
        let mut silent = streams.pop().unwrap();
        server.signal(Signal::SIGUSR1);
        wait_until("new children live", || server.children().iter().any(|pid| !old.contains(pid)));
        for stream in &mut streams {
            // The old child goes on until the new ones are at work.
            wait_until("it is said that the connection ends", || {
                let reply = ask(stream, "/index.html").unwrap();
                assert!(reply.ends_with("hello\n"), "{engine}: {reply}");
                reply.contains("Connection: close")
            });
        }
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{engine}");
        wait_until("the old children are gone", || old.iter().all(|&pid| !alive(pid)));
    }
}

#[test]
fn a_restart_opens_the_logs_anew() {
    for engine in ENGINES {
        let log = "LogFormat %U u\nCustomLog access_log u\n";
        let server = Server::start(engine, log);
        server.get("/first");
        for name in ["error_log", "access_log"] {
            fs::rename(server.root.join(name), server.root.join(format!("{name}.1"))).unwrap();
        }
        server.signal(Signal::SIGUSR1);
        wait_until("it was restarted", || server.error_log().contains("resuming normal operations"));
        let read = |name: &str| fs::read_to_string(server.root.join(name)).unwrap_or_default();
        wait_until("the new children log", || {
            server.get("/second");
            read("access_log").contains("/second")
        });
        assert!(
            read("access_log.1").contains("/first") && !read("access_log").contains("/first"),
            "{engine}"
        );
    }
}

/// The numbers of the engine, and the engine itself, while clients go on.
#[test]
fn a_graceful_restart_changes_the_engine() {
    let server = Server::start("event", "StartServers 2\nThreadsPerChild 5\n");
    server.wait_for_children(2);
    let crowd = Crowd::start(server.port, 4);
    let mut old = server.children();
    for (before, (engine, extra, children)) in [
        ("event", "StartServers 1\nThreadsPerChild 50\n", 1),
        ("prefork", "StartServers 3\nMinSpareServers 3\n", 3),
        ("event", "StartServers 2\n", 2),
        ("worker", "StartServers 2\n", 2),
        ("prefork", "StartServers 2\nMinSpareServers 2\n", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let served = crowd.served();
        server.configure(engine, extra);
        server.signal(Signal::SIGUSR1);
        wait_until("it was restarted", || {
            server.error_log().matches("resuming normal operations").count() == before + 2
        });
        wait_until("the old children are gone", || old.iter().all(|&pid| !alive(pid)));
        wait_until("requests went on", || crowd.served() > served + 20);
        let last = server.error_log().lines().rfind(|line| line.contains("resuming")).unwrap().to_owned();
        assert!(last.contains(&format!("mpm_{engine}:notice")), "{last}");
        wait_until("as many children live", || server.children().len() >= children);
        old = server.children();
    }
    crowd.stop().unwrap_or_else(|text| panic!("{text}\n{}", server.complaints()));
}

/// What the scoreboard was made for can't be changed while the server runs, as in Apache.
#[test]
fn limits_that_stay() {
    let server =
        Server::start("event", "ServerLimit 4\nThreadLimit 10\nThreadsPerChild 10\nMaxRequestWorkers 40\n");
    server.configure("event", "ServerLimit 8\nThreadLimit 20\nThreadsPerChild 20\nMaxRequestWorkers 40\n");
    server.signal(Signal::SIGUSR1);
    wait_until("it was restarted", || server.error_log().matches("resuming normal operations").count() == 2);
    for text in [
        "AH00501: changing ServerLimit to 8 from original value of 4 not allowed during restart",
        "AH00506: changing ThreadLimit to 20 from original value of 10 not allowed during restart",
        "AH00508: ThreadsPerChild of 20 exceeds ThreadLimit of 10, decreasing to match",
    ] {
        assert!(server.error_log().contains(text), "{text}: {}", server.error_log());
    }
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
}

/// A client that takes nothing does not hold the server up for longer than it was told.
#[test]
fn a_graceful_stop_ends_after_its_timeout() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "GracefulShutdownTimeout 1\n");
        let mut stream = connect(server.port);
        for _ in 0..4 {
            write!(stream.get_mut(), "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        }
        let mut first = [0; 1000];
        stream.read_exact(&mut first).unwrap();
        server.signal(Signal::SIGWINCH);
        assert_eq!(server.ended(), Some(0), "{engine}");
        assert!(server.error_log().contains("caught SIGWINCH, shutting down gracefully"), "{engine}");
        assert!(!server.root.join("pid").exists(), "{engine}");
    }
}

/// `-k`: the words of the command line reach the server that runs.
#[test]
fn the_command_line_restarts_and_stops() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "");
        let tell = |word: &str| {
            let status = Command::new(env!("CARGO_BIN_EXE_httpd"))
                .args(["-k", word, "-f"])
                .arg(server.root.join("httpd.conf"))
                .status()
                .unwrap();
            assert!(status.success(), "{engine}: {word}");
        };
        for (count, word) in [(2, "restart"), (3, "graceful")] {
            tell(word);
            wait_until("it was restarted", || {
                server.error_log().matches("resuming normal operations").count() == count
            });
            assert!(get(server.port, "/index.html").unwrap().starts_with("HTTP/1.1 200"), "{engine}: {word}");
        }
        tell("graceful-stop");
        assert_eq!(server.ended(), Some(0), "{engine}");
    }
}
