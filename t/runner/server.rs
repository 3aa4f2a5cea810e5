//! Starting a server in the foreground, waiting until it serves, ending it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::case::Case;
use super::site::Site;

const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(15);
const COMMAND: Duration = Duration::from_secs(20);
/// How long a child may outlive its parent.
const ORPHANS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

/// A running server; what is left of it is killed when dropped.
pub struct Server<'a> {
    site: &'a Site,
    child: Child,
    ended: bool,
}

/// What a command left behind.
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub exit: String,
}

impl<'a> Server<'a> {
    /// Starts the server of a site and waits until it listens.
    pub fn start(site: &'a Site, case: &Case) -> Result<Server<'a>, String> {
        let mut command = prepare(site, case)?;
        command.args(["-D", "FOREGROUND"]);
        let mut server = Server { site, child: spawn(command)?, ended: false };
        // Apache opens its sockets before it writes the file with its pid.
        let pid_file = site.log("httpd.pid");
        let until = Instant::now() + START;
        while fs::metadata(&pid_file).map_or(true, |file| file.len() == 0) {
            if server.child.try_wait().map_err(|e| e.to_string())?.is_some() {
                server.ended = true;
                return Err(format!("the server did not start\n{}", server.complaints()));
            }
            if Instant::now() > until {
                return Err(format!("the server did not start in {START:?}\n{}", server.complaints()));
            }
            sleep(TICK);
        }
        Ok(server)
    }

    /// Ends the server by SIGTERM and waits for it.
    pub fn stop(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
            self.ended = true;
            return Err(format!("the server ended by itself: {status}\n{}", self.complaints()));
        }
        kill(self.pid(), Signal::SIGTERM).map_err(|e| format!("SIGTERM: {e}"))?;
        let status = wait(&mut self.child, STOP)?;
        let status = status.ok_or(format!("the server did not end in {STOP:?} after SIGTERM"))?;
        self.ended = true;
        if !status.success() {
            return Err(format!("the server ended with {status}\n{}", self.complaints()));
        }
        let until = Instant::now() + ORPHANS;
        while killpg(self.pid(), None).is_ok() {
            if Instant::now() > until {
                return Err(format!("children outlive the server\n{}", self.complaints()));
            }
            sleep(TICK);
        }
        Ok(())
    }

    /// What it wrote to its standard error and to its error log.
    pub fn complaints(&self) -> String {
        let mut text = String::new();
        for name in ["stderr", "error_log"] {
            if let Ok(content) = fs::read(self.site.log(name)) {
                text += &format!("{name}:\n{}", String::from_utf8_lossy(&content));
            }
        }
        text
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // The group outlives its leader where children are left over.
        _ = killpg(self.pid(), Signal::SIGKILL);
        if !self.ended {
            _ = self.child.wait();
        }
    }
}

/// Runs the command of a case to its end.
pub fn command(site: &Site, case: &Case) -> Result<Outcome, String> {
    let section = case.section("command").ok_or("no command")?;
    let mut command = prepare(site, case)?;
    if section.has_word("bare") {
        command = bare(site, case)?;
    }
    command.args(words(&site.fill(&section.text()))?);
    let mut child = spawn(command)?;
    let status = wait(&mut child, COMMAND);
    _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
    kill_daemons(site);
    let Some(status) = status? else {
        _ = child.wait();
        return Err(format!("the command did not end in {COMMAND:?}"));
    };
    let read = |name| fs::read(site.log(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok(Outcome {
        stdout: read("stdout").map_err(|e| e.to_string())?,
        stderr: read("stderr").map_err(|e| e.to_string())?,
        exit: status.code().map_or(status.to_string(), |code| code.to_string()),
    })
}

/// Kills what a command left running in the background: it has the path of the site in its arguments.
fn kill_daemons(site: &Site) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let root = site.root.to_string_lossy();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&arguments).starts_with(&*root) {
            _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The binary with its root and configuration.
fn prepare(site: &Site, case: &Case) -> Result<Command, String> {
    let mut command = bare(site, case)?;
    command.arg("-d").arg(&site.root).arg("-f").arg(site.root.join("conf/httpd.conf"));
    Ok(command)
}

/// The binary alone, in a small fixed environment.
fn bare(site: &Site, case: &Case) -> Result<Command, String> {
    let log = |name| File::create(site.log(name)).map_err(|e| format!("{name}: {e}"));
    let mut command = Command::new(site.root.join("bin/apache2"));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir(&site.root)
        .stdin(Stdio::null())
        .stdout(log("stdout")?)
        .stderr(log("stderr")?)
        .process_group(0);
    if let Some(section) = case.section("env") {
        for line in section.lines() {
            let (name, value) = line.split_once('=').ok_or(format!("env: {line:?}"))?;
            command.env(name, site.fill(value));
        }
    }
    Ok(command)
}

fn spawn(mut command: Command) -> Result<Child, String> {
    command.spawn().map_err(|e| format!("{}: {e}", command.get_program().display()))
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            return Ok(None);
        }
        sleep(TICK);
    }
}

/// The words of a command line: blanks part them, single or double quotes hold them together.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            (' ' | '\n', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("unclosed quote in {line:?}"));
    }
    words.extend(word);
    Ok(words)
}
