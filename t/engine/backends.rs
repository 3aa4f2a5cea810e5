//! Backends: slow ones, ones that die and come back, and what is left of their connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{ask, connect, read_reply};
use crate::server::{Server, descriptors, free_port, wait_until};

/// A backend that answers each request with `reply`, once it is let go.
struct Backend {
    port: u16,
    go: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Backend {
    fn start(port: u16, go: bool) -> Backend {
        let mut listener = None;
        // The one before may not be gone yet.
        wait_until("the port is free", || {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        let backend = Backend {
            port,
            go: Arc::new(AtomicBool::new(go)),
            asked: Arc::default(),
            connections: Arc::default(),
            over: Arc::default(),
        };
        let (go, asked) = (backend.go.clone(), backend.asked.clone());
        let (connections, over) = (backend.connections.clone(), backend.over.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let (go, asked, over) = (go.clone(), asked.clone(), over.clone());
                let small = thread::Builder::new().stack_size(128 << 10);
                small.spawn(move || serve(stream, &go, &asked, &over)).unwrap();
            }
        });
        backend
    }

    fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(stream: TcpStream, go: &AtomicBool, asked: &AtomicUsize, over: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        match stream.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) if over.load(Ordering::Relaxed) => return,
            Ok(_) if line == "\r\n" => {
                asked.fetch_add(1, Ordering::Relaxed);
                while !go.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
                let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nback\n";
                if stream.get_mut().write_all(reply).is_err() {
                    return;
                }
                line.clear();
            }
            Ok(_) => line.clear(),
            Err(_) if over.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

fn server(engine: &str, port: u16, extra: &str) -> Server {
    Server::start(
        engine,
        &format!(
            "LoadModule proxy_module modules/mod_proxy.so\nLoadModule proxy_http_module modules/mod_proxy_http.so\n\
             ProxyPass /back http://127.0.0.1:{port}/\n{extra}"
        ),
    )
}

const FEW: &str = "StartServers 1\nThreadsPerChild 2\nMaxRequestWorkers 2\nMinSpareThreads 1\nMaxSpareThreads 3\nAsyncRequestWorkerFactor 1000\n";

/// Five hundred requests that wait for a slow backend hold no thread: files are answered meanwhile, and nothing is left over.
#[test]
fn a_slow_backend_holds_no_thread() {
    let backend = Backend::start(free_port(), false);
    let server = server("event", backend.port, FEW);
    let child = server.wait_for_children(1)[0];
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    let before = descriptors(child);
    let mut waiting: Vec<_> = (0..500).map(|_| connect(server.port)).collect();
    for stream in &mut waiting {
        stream.get_mut().write_all(b"GET /back/slow HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    wait_until("all wait", || backend.asked.load(Ordering::Relaxed) == 500);
    for _ in 0..50 {
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    }
    backend.go.store(true, Ordering::Relaxed);
    for stream in &mut waiting {
        assert!(read_reply(stream).unwrap().ends_with("back\n"), "{}", server.complaints());
    }
    drop(waiting);
    backend.stop();
    // Connections that the backend has closed go with the next requests; those that are idle are few.
    wait_until("nothing is left over", || {
        let _ = server.get("/back/again");
        descriptors(child) <= before + 600
    });
    assert_eq!(server.children(), [child], "{}", server.complaints());
    assert_eq!(server.complaints().matches("panic").count(), 0);
}

/// A backend that is gone gives 503, and when it is back, replies.
#[test]
fn a_backend_dies_and_comes_back() {
    for engine in ENGINES {
        let port = free_port();
        let server = server(engine, port, "");
        let backend = Backend::start(port, true);
        assert!(server.get("/back/1").ends_with("back\n"), "{}", server.complaints());
        backend.stop();
        drop(backend);
        wait_until("it is gone", || server.get("/back/2").starts_with("HTTP/1.1 503"));
        let again = Backend::start(port, true);
        // A child may have a connection left that the first one is about to close.
        wait_until("it is back", || server.get("/back/3").ends_with("back\n"));
        drop(again);
    }
}

/// Requests under way when the server restarts gracefully get their replies.
#[test]
fn a_graceful_restart_waits_for_backends() {
    for engine in ENGINES {
        let backend = Backend::start(free_port(), false);
        let server = server(engine, backend.port, "StartServers 2\n");
        let mut waiting: Vec<_> = (0..2).map(|_| connect(server.port)).collect();
        for stream in &mut waiting {
            stream.get_mut().write_all(b"GET /back/x HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        }
        wait_until("all wait", || backend.asked.load(Ordering::Relaxed) == 2);
        server.signal(Signal::SIGUSR1);
        wait_until("it is restarted", || server.error_log().matches("resuming normal").count() == 2);
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
        backend.go.store(true, Ordering::Relaxed);
        for stream in &mut waiting {
            assert!(read_reply(stream).unwrap().ends_with("back\n"), "{engine} {}", server.complaints());
        }
    }
}

/// One connection serves all requests that come one after the other; no more than `max=` are made.
#[test]
fn connections_are_kept_and_limited() {
    let backend = Backend::start(free_port(), true);
    let server = server("event", backend.port, "StartServers 1\n");
    let mut client = connect(server.port);
    for _ in 0..50 {
        assert!(ask(&mut client, "/back/x").unwrap().ends_with("back\n"), "{}", server.complaints());
    }
    assert_eq!(backend.connections.load(Ordering::Relaxed), 1);

    let slow = Backend::start(free_port(), false);
    let server = Server::start(
        "event",
        &format!(
            "LoadModule proxy_module modules/mod_proxy.so\nLoadModule proxy_http_module modules/mod_proxy_http.so\n\
             ProxyPass /back http://127.0.0.1:{}/ max=3\n{FEW}",
            slow.port
        ),
    );
    let mut waiting: Vec<_> = (0..20).map(|_| connect(server.port)).collect();
    for stream in &mut waiting {
        stream.get_mut().write_all(b"GET /back/x HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    wait_until("three wait", || slow.asked.load(Ordering::Relaxed) == 3);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(slow.asked.load(Ordering::Relaxed), 3);
    slow.go.store(true, Ordering::Relaxed);
    for stream in &mut waiting {
        assert!(read_reply(stream).unwrap().ends_with("back\n"), "{}", server.complaints());
    }
    assert!(slow.connections.load(Ordering::Relaxed) <= 3);
}

/// A client that goes away takes its backend's connection with it, once the backend has spoken.
#[test]
fn clients_that_go_leave_nothing() {
    for engine in ENGINES {
        let backend = Backend::start(free_port(), true);
        let server = server(engine, backend.port, "StartServers 1\n");
        for _ in 0..20 {
            let mut client = connect(server.port);
            client.get_mut().write_all(b"GET /back/x HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            drop(client);
        }
        wait_until("all were asked", || backend.asked.load(Ordering::Relaxed) == 20);
        let mut rest = String::new();
        let mut client = connect(server.port);
        client.get_mut().write_all(b"GET /back/x HTTP/1.0\r\n\r\n").unwrap();
        client.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("back\n"), "{}", server.complaints());
        for child in server.children() {
            assert!(descriptors(child) < 60, "{engine}");
        }
    }
}
