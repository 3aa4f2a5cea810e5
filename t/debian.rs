//! Debian's own `apache2ctl`, pointed at our program, with Debian's stock tree: start, graceful, restart, stop, with either
//! engine enabled by `a2enmod`. Needs root and the package `apache2`; elsewhere it says so and passes.

#![allow(clippy::disallowed_methods)] // Tests start programs and wait for them.

mod stock;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

const SCRIPT: &str = "/usr/sbin/apache2ctl";

/// A copy of `/etc/apache2` with folders of its own and another port; nothing else in it is changed.
struct Stock {
    root: PathBuf,
    port: u16,
}

impl Stock {
    fn copy(name: &str) -> Stock {
        let root = std::env::temp_dir().join(format!("httpd-debian-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("log")).unwrap();
        let conf = root.join("apache2");
        run(Command::new("cp").arg("-a").arg("/etc/apache2").arg(&conf));
        // Below the ports of outgoing connections, which could take it before the server does.
        let port = (30_000..32_000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap();
        // Other packages may have enabled modules of theirs, which are no part of the stock tree.
        for entry in fs::read_dir(conf.join("mods-enabled")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let stem = name.split('.').next().unwrap_or_default();
            if !stock::MODULES.contains(&stem) && !stem.starts_with("mpm_") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        replace(&conf.join("ports.conf"), "Listen 80", &format!("Listen 127.0.0.1:{port}"));
        replace(&conf.join("sites-available/000-default.conf"), "*:80", &format!("*:{port}"));
        let envvars = conf.join("envvars");
        let mut text = fs::read_to_string(&envvars).unwrap();
        text.push_str(&format!(
            "\nexport APACHE_PID_FILE={0}/run/apache2.pid APACHE_RUN_DIR={0}/run APACHE_LOCK_DIR={0}/lock APACHE_LOG_DIR={0}/log\n",
            root.display()
        ));
        fs::write(envvars, text).unwrap();
        // Called as apache2, the program has Debian's layout.
        fs::create_dir(root.join("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_httpd"), root.join("bin/apache2")).unwrap();
        Stock { root, port }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APACHE_CONFDIR", self.root.join("apache2"))
            .env("APACHE_HTTPD", self.root.join("bin/apache2"))
            .env("APACHE_STARTED_BY_SYSTEMD", "true");
        command
    }

    fn apache2ctl(&self, verb: &str) -> Output {
        self.command("sh").arg(SCRIPT).arg(verb).output().unwrap()
    }

    fn must(&self, verb: &str) {
        let output = self.apache2ctl(verb);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = format!("{verb}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{shown}{}", self.error_log());
    }

    fn use_mpm(&self, mpm: &str) {
        for other in ["event", "prefork", "worker"] {
            run(self.command("a2dismod").args(["-q", "-f", &format!("mpm_{other}")]));
        }
        run(self.command("a2enmod").args(["-q", &format!("mpm_{mpm}")]));
    }

    fn get(&self, path: &str) -> Option<String> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        Some(String::from_utf8_lossy(&reply).into_owned())
    }

    fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.root.join("run/apache2.pid")).ok()?.trim().parse().ok()
    }

    fn error_log(&self) -> String {
        fs::read_to_string(self.root.join("log/error.log")).unwrap_or_default()
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn apache2ctl_controls_the_stock_site() {
    if !nix::unistd::geteuid().is_root() || !Path::new(SCRIPT).exists() {
        println!("skipped: needs root and Debian's package apache2");
        return;
    }
    for mpm in ["event", "prefork"] {
        let stock = Stock::copy(mpm);
        stock.use_mpm(mpm);
        stock.must("configtest");
        stock.must("start");
        wait_until("it answers", || stock.get("/").is_some_and(|r| r.starts_with("HTTP/1.1 200 OK")));
        let page = stock.get("/").unwrap();
        assert!(page.contains("Server: Apache/2.4.71 (Debian)"), "{page}");
        assert!(page.contains("Apache2 Debian Default Page"), "{mpm}");
        assert!(stock.get("/icons/ubuntu-logo.png").is_some_and(|r| r.starts_with("HTTP/1.1 ")));
        let status = stock.get("/server-status?auto").unwrap();
        assert!(status.contains("Total Accesses:"), "{mpm}: {status}");
        let pid = stock.pid().expect("a pid file");
        for verb in ["graceful", "restart"] {
            stock.must(verb);
            wait_until("it answers again", || {
                stock.get("/").is_some_and(|r| r.starts_with("HTTP/1.1 200 OK"))
            });
            assert_eq!(stock.pid(), Some(pid), "{mpm} {verb}");
        }
        stock.must("stop");
        wait_until("it is gone", || TcpStream::connect(("127.0.0.1", stock.port)).is_err());
        wait_until("the pid file is gone", || stock.pid().is_none());
        let access = fs::read_to_string(stock.root.join("log/access.log")).unwrap_or_default();
        assert!(access.contains("\"GET / HTTP/1.1\" 200 "), "{mpm}: {access}");
        let log = stock.error_log();
        assert!(log.contains("resuming normal operations") && log.contains("caught SIGTERM"), "{mpm}: {log}");
    }
}
