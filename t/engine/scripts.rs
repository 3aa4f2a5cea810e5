//! Scripts: many at once, clients that leave them, bodies that nobody reads, output without end.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::PermissionsExt;

use crate::ENGINES;
use crate::client::connect;
use crate::server::{Server, children_of, wait_until};

/// A server with scripts in its folder for documents: names and what they do.
fn server(engine: &str, extra: &str, scripts: &[(&str, &str)]) -> Server {
    let server = Server::start(
        engine,
        &format!(
            "LoadModule cgi_module modules/mod_cgi.so\n<Location /cgi>\nOptions ExecCGI\nSetHandler cgi-script\n</Location>\n{extra}"
        ),
    );
    let dir = server.root.join("htdocs/cgi");
    fs::create_dir_all(&dir).unwrap();
    for (name, text) in scripts {
        let file = dir.join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    server
}

const HEAD: &str = "printf 'Content-Type: text/plain\\n\\n'";

/// The processes of the server's children.
fn scripts(server: &Server) -> usize {
    server.children().into_iter().map(|child| children_of(child).len()).sum()
}

/// Two hundred scripts that take their time hold no thread: files are answered meanwhile.
#[test]
fn slow_scripts_hold_no_thread() {
    let extra = "StartServers 1\nThreadsPerChild 2\nMaxRequestWorkers 2\nMinSpareThreads 1\nMaxSpareThreads 3\nAsyncRequestWorkerFactor 1000\n";
    let slow = format!(
        "{HEAD}\nread go </dev/null\nwhile [ ! -e \"$DOCUMENT_ROOT/go\" ]; do sleep 1; done\necho done"
    );
    let server = server("event", extra, &[("slow.cgi", &slow)]);
    let mut waiting: Vec<_> = (0..200).map(|_| connect(server.port)).collect();
    for stream in &mut waiting {
        stream.get_mut().write_all(b"GET /cgi/slow.cgi HTTP/1.0\r\n\r\n").unwrap();
    }
    wait_until("all scripts run", || scripts(&server) == 200);
    for _ in 0..50 {
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    }
    fs::write(server.root.join("htdocs/go"), "").unwrap();
    for stream in &mut waiting {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.ends_with("done\n"), "{reply:?}\n{}", server.complaints());
    }
    wait_until("no script is left", || scripts(&server) == 0);
}

/// A script ends when its client has gone, and leaves no zombie, even one that ignores SIGTERM.
#[test]
fn the_client_goes_away() {
    let stubborn = format!("trap '' TERM\n{HEAD}\nwhile :; do echo x; sleep .1; done");
    let endless = format!("{HEAD}\nexec yes");
    for engine in ENGINES {
        let server = server(engine, "", &[("stubborn.cgi", &stubborn), ("endless.cgi", &endless)]);
        for name in ["endless", "stubborn"] {
            let mut stream = connect(server.port);
            write!(stream.get_mut(), "GET /cgi/{name}.cgi HTTP/1.0\r\n\r\n").unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.starts_with("HTTP/1.1 200"), "{line}{}", server.complaints());
            drop(stream);
            wait_until("the script is gone", || scripts(&server) == 0);
        }
        assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
    }
}

/// Ten megabytes for a script that reads none of them, and for one that gives them back.
#[test]
fn large_bodies() {
    const LENGTH: usize = 10 << 20;
    let deaf = format!("{HEAD}\necho deaf");
    let echo = format!("{HEAD}\nexec cat");
    for engine in ENGINES {
        let server = server(engine, "", &[("deaf.cgi", &deaf), ("echo.cgi", &echo)]);
        for (name, length) in [("deaf", 5), ("echo", LENGTH)] {
            let mut stream = connect(server.port);
            let mut writer = stream.get_ref().try_clone().unwrap();
            let sender = std::thread::spawn(move || {
                write!(writer, "POST /cgi/{name}.cgi HTTP/1.0\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
                writer.write_all(&vec![b'x'; LENGTH]).unwrap();
            });
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply).unwrap();
            sender.join().unwrap();
            let body = reply.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| reply.len() - at - 4);
            assert_eq!(body, length, "{engine} {name}\n{}", server.complaints());
        }
    }
}

/// A hundred megabytes of output go through, and not into the server's memory.
#[test]
fn long_output() {
    let long = format!("{HEAD}\nexec head -c 104857600 /dev/zero");
    for engine in ENGINES {
        let server = server(engine, "", &[("long.cgi", &long)]);
        let mut stream = connect(server.port);
        stream.get_mut().write_all(b"GET /cgi/long.cgi HTTP/1.0\r\n\r\n").unwrap();
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).unwrap();
        }
        let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        assert_eq!(count, 100 << 20, "{engine}");
        for child in server.children() {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(peak < 60_000, "{peak} kB");
        }
    }
}

/// A script has three descriptors, and as many as the server was started to have.
#[test]
fn nothing_leaks_into_scripts() {
    let look = format!(
        "text=$(ls -l /proc/$$/fd | grep -cE 'socket:|eventpoll|eventfd|_log'; ulimit -S -n; for s in SigBlk SigIgn; do grep $s /proc/$$/status | tail -c 8; done)\n{HEAD}\necho \"$text\""
    );
    for engine in ENGINES {
        let server = server(engine, "", &[("look.cgi", &look)]);
        let reply = server.get("/cgi/look.cgi");
        let (_, body) = reply.split_once("\r\n\r\n").unwrap();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0;
        let expected = format!("0\n{limit}\n0000000\n0000000\n");
        assert!(body.contains(&expected), "{engine}: {reply}\n{}", server.complaints());
    }
}

/// A server that is told to end ends its scripts.
#[test]
fn the_server_ends() {
    let sleep = format!("{HEAD}\necho begun\nexec sleep 1000");
    for engine in ENGINES {
        let mut server = server(engine, "", &[("sleep.cgi", &sleep)]);
        let mut stream = connect(server.port);
        stream.get_mut().write_all(b"GET /cgi/sleep.cgi HTTP/1.0\r\n\r\n").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let running: Vec<i32> = server.children().into_iter().flat_map(children_of).collect();
        assert_eq!(running.len(), 1);
        server.signal(nix::sys::signal::Signal::SIGTERM);
        wait_until("the server ends", || server.ended().is_some());
        wait_until("the script is gone", || !crate::server::alive(running[0]));
    }
}
