//! Where error log lines go: a file, a program, syslog, standard error.
//!
//! Answers to `ap_open_logs` of `server/log.c`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::Level;
use super::pipe::{PipedLog, Purpose};
use super::syslog::Syslog;
use crate::config::server::Setup;
use crate::modules::core;

/// One error log, shared by the servers that name the same file.
pub struct ErrorLog {
    /// The name it was opened by.
    pub name: String,
    target: Target,
}

enum Target {
    Stderr,
    File(File),
    Pipe(Arc<PipedLog>),
    Syslog(Syslog),
}

impl ErrorLog {
    /// Standard error.
    pub fn stderr() -> Arc<ErrorLog> {
        Arc::new(ErrorLog { name: String::new(), target: Target::Stderr })
    }

    /// Writes one line with one system call, so that the lines of several processes stay whole.
    pub fn write(&self, level: Level, line: &str) {
        match &self.target {
            Target::Stderr => write_stderr(line),
            // An error log that can't be written has nowhere to be reported.
            Target::File(file) => drop((&mut &*file).write_all(line.as_bytes())),
            Target::Pipe(pipe) => drop(pipe.write(line.as_bytes())),
            Target::Syslog(syslog) => syslog.write(level, line),
        }
    }

    /// True when the system's log has the time and the process already.
    pub fn is_syslog(&self) -> bool {
        matches!(self.target, Target::Syslog(_))
    }

    /// The open file, for standard error to be put in its place.
    pub fn file(&self) -> Option<&File> {
        match &self.target {
            Target::File(file) => Some(file),
            Target::Pipe(pipe) => Some(pipe.file()),
            Target::Stderr | Target::Syslog(_) => None,
        }
    }
}

/// Writes to standard error, whatever becomes of it.
pub fn write_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Opens the logs of all servers: `ap_open_logs`. The text of an error is what goes to standard error.
pub fn open(setup: &mut Setup) -> Result<(), String> {
    let mut opened: Vec<Arc<ErrorLog>> = Vec::new();
    for index in 0..setup.servers.len() {
        let server_conf = setup.servers[index].conf.get(&core::SERVER).clone();
        let name = match (&server_conf.error_log, index) {
            (Some(name), _) => name.clone(),
            (None, 0) => setup.options.layout.error_log.to_owned(),
            (None, _) => String::new(),
        };
        if name.is_empty() {
            setup.servers[index].error_log = setup.servers[0].error_log.clone();
            continue;
        }
        let known = opened.iter().find(|log| log.name == name).cloned();
        let log = match known {
            Some(log) => log,
            None => {
                let target =
                    open_one(&name, setup).map_err(|text| format!("{text}\nAH00015: Unable to open logs"))?;
                let log = Arc::new(ErrorLog { name, target });
                opened.push(log.clone());
                log
            }
        };
        setup.servers[index].error_log = log;
    }
    super::set_main(&setup.servers[0]);
    Ok(())
}

fn open_one(name: &str, setup: &Setup) -> Result<Target, String> {
    let program = &setup.options.program;
    if let Some(command) = name.strip_prefix('|') {
        let piped = PipedLog::start_program(name, Purpose::Errors, setup);
        return piped.map(Target::Pipe).map_err(|err| {
            let error = super::system_error(&err);
            format!("{error}: AH00089: Couldn't start ErrorLog process '{command}'.")
        });
    }
    if let Some(syslog) = Syslog::named(name, program) {
        return syslog.map(Target::Syslog);
    }
    let path = setup.server_root_relative(name);
    append(Path::new(&path)).map(Target::File).map_err(|err| {
        let error = super::system_error(&err);
        format!("{error}: AH00091: {program}: could not open error log file {path}.")
    })
}

/// Opens a log for appending, as `APR_APPEND|APR_WRITE|APR_CREATE` with 0644.
pub fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}
