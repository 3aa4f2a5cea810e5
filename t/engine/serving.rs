//! Requests, users, addresses, configurations.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::ENGINES;
use crate::client::{ask, connect, get, read_reply};
use crate::server::{Server, alive, free_port, is_root, kill, wait_until};

#[test]
fn serves_and_stops() {
    for engine in ENGINES {
        let mut server = Server::start(engine, "LogLevel info");
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200 OK"), "{engine}");
        let pid = fs::read_to_string(server.root.join("pid")).unwrap();
        assert_eq!(pid.trim(), server.pid().to_string());
        wait_until("children live", || !server.children().is_empty());
        let children = server.children();
        server.signal(Signal::SIGTERM);
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
        server.signal(Signal::SIGTERM);
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

/// A virtual host's own KeepAliveTimeout counts for connections whose last request it served.
#[test]
fn keep_alive_timeout_of_a_virtual_host() {
    for engine in ENGINES {
        let server = Server::start(
            engine,
            "KeepAliveTimeout 60\n<VirtualHost *>\nServerName first\n</VirtualHost>\n\
             <VirtualHost *>\nServerName localhost\nKeepAliveTimeout 300ms\n</VirtualHost>\n",
        );
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
        kill(process.id() as i32, Signal::SIGTERM);
        assert!(process.wait().unwrap().success(), "{engine}");
        let log = fs::read_to_string(root.join("logs/access_log")).unwrap();
        assert!(log.contains("\"GET / HTTP/1.1\" 200 "), "{engine}: {log}");
    }
}
