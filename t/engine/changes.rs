//! Files that change: the next request sees it, also where replies are remembered and others ask for the same.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::ENGINES;
use crate::client::{Crowd, ask, connect};
use crate::server::Server;

/// Longer than the time after which the server takes a file for settled.
const SETTLED: Duration = Duration::from_millis(2_200);

/// Asks on a kept connection that has been used, and on a new one.
fn both(server: &Server, path: &str, check: impl Fn(&str) -> bool) {
    let mut kept = connect(server.port);
    ask(&mut kept, "/index.html").unwrap();
    for reply in [ask(&mut kept, path).unwrap(), server.get(path)] {
        assert!(check(&reply), "{reply:?}");
    }
}

/// Until the server remembers the reply.
fn learn(server: &Server, path: &str) {
    sleep(SETTLED);
    // Several connections: each may be in another child.
    for _ in 0..12 {
        let mut kept = connect(server.port);
        for _ in 0..4 {
            ask(&mut kept, path).unwrap();
        }
    }
}

#[test]
fn a_change_is_seen_by_the_next_request() {
    const CONF: &str = "LoadModule mime_module modules/mod_mime.so\nTypesConfig /dev/null\n\
                        <Directory />\nAllowOverride FileInfo\n</Directory>";
    for engine in ENGINES {
        let server = Server::start(engine, CONF);
        let page = server.root.join("htdocs/page.html");
        let access = server.root.join("htdocs/.htaccess");
        fs::write(&page, "one\n").unwrap();
        // These want another page all the time, so that turns are long and full.
        let crowd = Crowd::start(server.port, 6);
        learn(&server, "/page.html");
        // Written in place, with the same length.
        fs::write(&page, "two\n").unwrap();
        both(&server, "/page.html", |reply| reply.ends_with("two\n"));
        learn(&server, "/page.html");
        fs::write(server.root.join("htdocs/new"), "3hree\n").unwrap();
        fs::rename(server.root.join("htdocs/new"), &page).unwrap();
        both(&server, "/page.html", |reply| reply.ends_with("3hree\n"));
        learn(&server, "/page.html");
        fs::write(&access, "AddType text/x-one .html\n").unwrap();
        both(&server, "/page.html", |reply| reply.contains("Content-Type: text/x-one"));
        learn(&server, "/page.html");
        fs::write(&access, "AddType text/x-two .html\n").unwrap();
        both(&server, "/page.html", |reply| reply.contains("Content-Type: text/x-two"));
        learn(&server, "/page.html");
        fs::remove_file(&access).unwrap();
        both(&server, "/page.html", |reply| !reply.contains("Content-Type: text/x"));
        fs::remove_file(&page).unwrap();
        both(&server, "/page.html", |reply| reply.starts_with("HTTP/1.1 404"));
        crowd.stop().unwrap();
    }
}

/// A file that is sent from a descriptor that stays open for a while.
#[test]
fn a_large_file_that_is_replaced() {
    for engine in ENGINES {
        let server = Server::start(engine, "");
        learn(&server, "/large");
        let new = vec![b'y'; 4 << 20];
        fs::write(server.root.join("htdocs/new"), &new).unwrap();
        fs::rename(server.root.join("htdocs/new"), server.root.join("htdocs/large")).unwrap();
        both(&server, "/large", |reply| reply.ends_with("yyy"));
    }
}

/// Nobody asks for it any more: its space is not held.
#[test]
fn a_removed_file_is_let_go() {
    let server = Server::start("event", "");
    learn(&server, "/large");
    let holds = |pid: &i32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("/large")))
    };
    assert!(server.children().iter().any(holds), "nobody keeps it open");
    fs::remove_file(server.root.join("htdocs/large")).unwrap();
    crate::server::wait_until("it is closed", || !server.children().iter().any(holds));
}
