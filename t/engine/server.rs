//! A server of its own for each test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::client;

/// A running server.
pub struct Server {
    pub root: PathBuf,
    pub port: u16,
    pub process: Child,
    descriptors: Option<u32>,
}

/// A port that nobody has, below those that the kernel gives to outgoing connections: such a connection could take it before
/// the server does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let port = 10_000 + (std::process::id() * 37 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) {
            return listener.local_addr().unwrap().port();
        }
    }
}

/// Until `holds`, at most 20 seconds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    pub fn start(engine: &str, extra: &str) -> Server {
        Server::start_with(engine, extra, &["-D", "FOREGROUND"])
    }

    pub fn start_with(engine: &str, extra: &str, options: &[&str]) -> Server {
        Server::start_in(engine, extra, options, None)
    }

    /// With so many descriptors for each of its processes.
    pub fn start_limited(engine: &str, extra: &str, descriptors: u32) -> Server {
        Server::start_in(engine, extra, &["-D", "FOREGROUND"], Some(descriptors))
    }

    fn start_in(engine: &str, extra: &str, options: &[&str], descriptors: Option<u32>) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("httpd-engine-{}-{count}", std::process::id()));
        fs::create_dir_all(root.join("htdocs")).unwrap();
        fs::write(root.join("htdocs/index.html"), "hello\n").unwrap();
        fs::write(root.join("htdocs/large"), vec![b'x'; 4 << 20]).unwrap();
        if is_root() {
            // With -X the process that removes the pid file is the user's.
            let chowned = Command::new("chown").arg("www-data").arg(&root).status().unwrap();
            assert!(chowned.success());
        }
        let port = free_port();
        let mut server = Server { root, port, process: Command::new("true").spawn().unwrap(), descriptors };
        server.process.wait().unwrap();
        server.configure(engine, extra);
        server.launch(options);
        server
    }

    /// Starts the program, and waits until it listens.
    pub fn launch(&mut self, options: &[&str]) {
        let mut command = match self.descriptors {
            None => Command::new(env!("CARGO_BIN_EXE_httpd")),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh", &most.to_string()]);
                shell.arg(env!("CARGO_BIN_EXE_httpd"));
                shell
            }
        };
        self.process = command
            .args(options)
            .arg("-f")
            .arg(self.root.join("httpd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let port = self.port;
        wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// Writes the configuration. Lines of `extra` about spare servers count in prefork only.
    pub fn configure(&self, engine: &str, extra: &str) {
        let extra: String = extra
            .lines()
            .filter(|line| engine == "prefork" || !line.contains("SpareServers"))
            .map(|line| format!("{line}\n"))
            .collect();
        let root = self.root.display();
        let user = if is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let text = format!(
            "LoadModule mpm_{engine}_module modules/mod_mpm_{engine}.so\n\
             LoadModule authz_core_module modules/mod_authz_core.so\n\
             ServerRoot {root}\nServerName localhost\nListen 127.0.0.1:{}\n\
             PidFile {root}/pid\nErrorLog {root}/error_log\nDocumentRoot {root}/htdocs\n{user}\
             <Directory {root}/htdocs>\nRequire all granted\n</Directory>\n{extra}\n",
            self.port
        );
        fs::write(self.root.join("httpd.conf"), text).unwrap();
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until `count` children live, which are ready to serve.
    pub fn wait_for_children(&self, count: usize) -> Vec<i32> {
        wait_until("the children live", || self.children().len() >= count);
        self.children()
    }

    /// The living children of the master.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }

    pub fn get(&self, path: &str) -> String {
        client::get(self.port, path).unwrap()
    }

    pub fn error_log(&self) -> String {
        fs::read_to_string(self.root.join("error_log")).unwrap_or_default()
    }

    /// The error log without what is said at every start.
    pub fn complaints(&self) -> String {
        let log = self.error_log();
        log.lines().filter(|line| !line.contains(":notice]")).collect::<Vec<_>>().join("\n")
    }

    /// Waits for the end of the master: its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.process.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if Instant::now() > end => panic!("the master did not end"),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = self.children();
        let _ = self.process.kill();
        let _ = self.process.wait();
        for pid in children {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let state = fields.next().unwrap_or("");
        if state != "Z" && fields.next().and_then(|p| p.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Sends a signal.
pub fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count())
}
