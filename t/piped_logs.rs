//! Logs that programs read, with real programs: started, started again when they die, changed on a restart, left behind by
//! nobody; rotatelogs among them.

// Tests start servers and wait for them.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ENGINES: [&str; 2] = ["prefork", "event"];

struct Server {
    root: PathBuf,
    port: u16,
    process: Child,
}

impl Server {
    /// With `@ROOT@` in `logs` filled in.
    fn start(engine: &str, logs: &str, options: &[&str]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("httpd-piped-{}-{count}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("page"), "hello\n").unwrap();
        let start = 31_000 + (std::process::id() * 7 + count) % 1_000;
        let port = (start as u16..).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let user = if nix::unistd::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let text = format!(
            "LoadModule mpm_{engine}_module modules/mod_mpm_{engine}.so\n\
             LoadModule authz_core_module modules/mod_authz_core.so\n\
             ServerRoot @ROOT@\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile @ROOT@/pid\n\
             DocumentRoot @ROOT@\n{user}LogFormat \"%U\" path\nStartServers 2\n{logs}"
        );
        fs::write(root.join("httpd.conf"), text.replace("@ROOT@", root.to_str().unwrap())).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_httpd"))
            .args(options)
            .arg("-f")
            .arg(root.join("httpd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Server { root, port, process };
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn get(&self, path: &str) {
        assert_eq!(self.status(path), "200");
    }

    /// The status of the reply, empty where the connection ended without one.
    fn status(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut reply = Vec::new();
        _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(reply.get(9..12).unwrap_or_default()).into_owned()
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap_or_default()
    }

    /// The processes whose command line has `word` in it and this server's folder.
    fn programs(&self, word: &str) -> Vec<i32> {
        let root = self.root.to_str().unwrap();
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains(root) && line.contains(word)).then_some(pid)
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
    }

    fn program(&self, word: &str) -> i32 {
        let found = self.programs(word);
        assert_eq!(found.len(), 1, "{word}");
        found[0]
    }

    fn master(&self) -> Pid {
        Pid::from_raw(self.log("pid").trim().parse().unwrap())
    }

    fn stop(&mut self) {
        kill(self.master(), Signal::SIGTERM).unwrap();
        wait_until("it stopped", || self.process.try_wait().unwrap().is_some());
        let root = self.root.to_str().unwrap().to_owned();
        wait_until("nobody is left", || self.programs(&root).is_empty());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in self.programs(self.root.to_str().unwrap()) {
            _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        _ = self.process.wait();
        _ = fs::remove_dir_all(&self.root);
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

#[test]
fn programs_get_every_line_and_are_started_again() {
    let logs = "ErrorLog \"|/usr/bin/tee -a @ROOT@/errors\"\n\
                CustomLog \"|/usr/bin/tee -a @ROOT@/one\" path\n\
                CustomLog \"||/usr/bin/tee -a @ROOT@/two\" path\n\
                CustomLog \"|$exec /usr/bin/tee -a @ROOT@/three\" path\n";
    for engine in ENGINES {
        let mut server = Server::start(engine, logs, &["-D", "FOREGROUND"]);
        server.get("/page");
        for name in ["one", "two", "three"] {
            wait_until(name, || server.log(name) == "/page\n");
            let old = server.program(&format!("/{name}"));
            kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
            let new = || server.programs(&format!("/{name}"));
            wait_until("it is there again", || new().len() == 1 && new() != [old]);
        }
        server.get("/page");
        for name in ["one", "two", "three"] {
            wait_until(name, || server.log(name) == "/page\n/page\n");
        }
        wait_until("it is told", || server.log("errors").contains("/one' failed unexpectedly\n"));
        let text = format!(
            "AH00106: piped log program '/usr/bin/tee -a {}/one' failed unexpectedly\n",
            server.root.display()
        );
        assert!(server.log("errors").contains(&text), "{}", server.log("errors"));

        // The error log's own program, too.
        let old = server.program("/errors");
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        wait_until("it is there again", || server.programs("/errors").iter().any(|pid| *pid != old));
        wait_until("it is told", || server.log("errors").contains("/errors' failed unexpectedly\n"));

        // A restart has programs of its own; the old ones read what is left and go.
        let signals = [Signal::SIGUSR1, Signal::SIGHUP];
        for signal in signals {
            let before: Vec<i32> =
                ["/one", "/two", "/three", "/errors"].iter().flat_map(|name| server.programs(name)).collect();
            kill(server.master(), signal).unwrap();
            for name in ["/one", "/two", "/three", "/errors"] {
                wait_until("the old one is gone", || {
                    let now = server.programs(name);
                    now.len() == 1 && !before.contains(&now[0])
                });
            }
            server.get("/page");
        }
        for name in ["one", "two", "three"] {
            wait_until(name, || server.log(name) == "/page\n".repeat(2 + signals.len()));
        }
        server.stop();
        assert!(server.log("errors").contains("caught SIGTERM, shutting down"));
    }
}

#[test]
fn rotatelogs_begins_new_files() {
    let program = env!("CARGO_BIN_EXE_rotatelogs");
    let logs = format!(
        "ErrorLog \"|{program} -t @ROOT@/errors 86400\"\n\
         CustomLog \"|{program} -n 3 @ROOT@/access 20B\" path\n"
    );
    for engine in ENGINES {
        let mut server = Server::start(engine, &logs, &["-D", "FOREGROUND"]);
        for (count, file) in ["access", "access.1", "access.2", "access"].iter().enumerate() {
            for _ in 0..4 {
                server.get("/page");
            }
            wait_until("it is written", || server.log(file).len() >= 24);
            // The first file is begun anew when all were used.
            assert!(count < 3 || server.log(file) == "/page\n".repeat(4), "{}", server.log(file));
        }
        wait_until("errors are written", || server.log("errors").contains("resuming normal operations"));
        server.stop();
    }
}

#[test]
fn buffered_lines_are_written_at_the_end() {
    let logs = "ErrorLog @ROOT@/errors\nBufferedLogs On\nCustomLog @ROOT@/one path\n\
                CustomLog \"|/usr/bin/tee -a @ROOT@/two\" path\n";
    for engine in ENGINES {
        let mut server = Server::start(engine, logs, &["-D", "FOREGROUND"]);
        server.get("/page");
        server.get("/page");
        assert_eq!((server.log("one"), server.log("two")), (String::new(), String::new()));
        // The children of before end, with what they kept.
        kill(server.master(), Signal::SIGUSR1).unwrap();
        wait_until("it is written", || server.log("one") == "/page\n/page\n");
        wait_until("the new ones serve", || server.log("errors").matches("resuming").count() == 2);
        server.get("/page");
        server.stop();
        assert_eq!(server.log("one"), "/page\n/page\n/page\n");
        assert_eq!(server.log("two"), "/page\n/page\n/page\n");
    }
}

#[test]
fn a_program_does_not_hold_the_console() {
    let logs =
        "ErrorLog \"|/usr/bin/tee -a @ROOT@/errors\"\nCustomLog \"|/usr/bin/tee -a @ROOT@/one\" path\n";
    for engine in ENGINES {
        let mut server = Server::start(engine, logs, &["-k", "start"]);
        let mut console = String::new();
        server.process.stdout.take().unwrap().read_to_string(&mut console).unwrap();
        server.process.stderr.take().unwrap().read_to_string(&mut console).unwrap();
        assert_eq!(console, "");
        server.get("/page");
        wait_until("it is written", || server.log("one") == "/page\n");
        server.stop();
    }
}

#[test]
fn a_program_that_can_not_be_started_again_is_told_of() {
    for engine in ENGINES {
        let logs = "ErrorLog @ROOT@/errors\nCustomLog \"|@ROOT@/program @ROOT@/one\" path\n";
        let root = std::env::temp_dir().join(format!("httpd-piped-program-{}-{engine}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let program = root.join("program");
        fs::copy("/usr/bin/tee", &program).unwrap();
        let logs = logs.replace("@ROOT@/program", program.to_str().unwrap());
        let mut server = Server::start(engine, &logs, &["-D", "FOREGROUND"]);
        fs::remove_dir_all(&root).unwrap();
        kill(Pid::from_raw(server.program("/one")), Signal::SIGKILL).unwrap();
        let error = "(2)No such file or directory: ";
        let name = program.display();
        let line = format!("{name} {}/one", server.root.display());
        let text = format!(
            "AH00106: piped log program '{line}' failed unexpectedly\n\
             {error}AH00104: unable to start piped log program '{line}'\n\
             {error}AH00107: piped_log_maintenance: unable to respawn '{line}'\n"
        );
        wait_until("it is told", || server.log("errors").contains(&text));
        server.get("/page");
        server.stop();
    }
}

/// The program of a `RewriteMap` goes on when the server goes into the background, is started anew by a restart, and ends
/// with the server.
#[test]
fn program_of_a_map() {
    for engine in ENGINES {
        let rules = "LoadModule rewrite_module modules/mod_rewrite.so\nErrorLog @ROOT@/error_log\nRewriteEngine On\n\
                     RewriteMap m \"prg:/bin/sed -u -e s|^|@ROOT@/|\"\nRewriteRule ^/map/(.*)$ ${m:$1}\n";
        let mut server = Server::start(engine, rules, &[]);
        server.get("/map/page");
        let before = server.program("sed");
        kill(server.master(), Signal::SIGHUP).unwrap();
        wait_until("another program", || {
            let now = server.programs("sed");
            now.len() == 1 && now[0] != before
        });
        // Requests that old children still have on their hands find no program, as with Apache.
        wait_until("the new children serve", || server.status("/map/page") == "200");
        server.stop();
    }
}
