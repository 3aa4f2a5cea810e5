//! Where error log lines go: a file, standard error, syslog.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::Level;
use super::format::Format;
use super::pipe::PipedLog;
use crate::config::server::Setup;
use crate::modules::core;
use crate::os::syslog;

/// One error log, shared by the servers that name the same file.
pub struct ErrorLog {
    /// The name it was opened by.
    pub name: String,
    /// How its lines look.
    pub format: Format,
    target: Target,
}

enum Target {
    Stderr,
    File(File),
    Pipe(Arc<PipedLog>),
    Syslog,
}

impl ErrorLog {
    /// Standard error.
    pub fn stderr() -> Arc<ErrorLog> {
        Arc::new(ErrorLog { name: String::new(), format: Format::default(), target: Target::Stderr })
    }

    /// Writes one line with one system call, so that the lines of several processes stay whole.
    pub fn write(&self, level: Level, line: &str) {
        match &self.target {
            Target::Stderr => write_stderr(line),
            // An error log that can't be written has nowhere to be reported.
            Target::File(file) => drop((&mut &*file).write_all(line.as_bytes())),
            Target::Pipe(pipe) => drop(pipe.write(line.as_bytes())),
            Target::Syslog => syslog::write(level as u8, line.trim_end_matches('\n')),
        }
    }

    /// Its lines need no time: the system's log has its own.
    pub fn is_syslog(&self) -> bool {
        matches!(self.target, Target::Syslog)
    }

    /// The open file, for standard error to be put in its place.
    pub fn file(&self) -> Option<&File> {
        match &self.target {
            Target::File(file) => Some(file),
            Target::Pipe(pipe) => Some(pipe.file()),
            Target::Stderr | Target::Syslog => None,
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
        let format = server_conf.error_log_format.clone().unwrap_or_default();
        if name.is_empty() {
            setup.servers[index].error_log = setup.servers[0].error_log.clone();
            continue;
        }
        let path = match name.starts_with('|') || syslog_target(&name).is_some() {
            true => name,
            false => setup.server_root_relative(&name),
        };
        let known = opened.iter().find(|log| log.name == path && log.format == format).cloned();
        let log = match known {
            Some(log) => log,
            None => {
                let log = Arc::new(open_one(&path, format, setup)?);
                opened.push(log.clone());
                log
            }
        };
        setup.servers[index].error_log = log;
    }
    let main = &setup.servers[0];
    super::set_main(Some(main.error_log.clone()), main.conf.get(&core::SERVER).log.clone());
    Ok(())
}

fn open_one(path: &str, format: Format, setup: &Setup) -> Result<ErrorLog, String> {
    let log = |target| Ok(ErrorLog { name: path.to_owned(), format: format.clone(), target });
    if path.starts_with('|') {
        let pipe = PipedLog::open(path, &setup.server_root).map_err(|text| {
            format!(
                "{text}\nAH00089: Couldn't start ErrorLog process '{}'.\nAH00015: Unable to open logs",
                &path[1..]
            )
        })?;
        return log(Target::Pipe(pipe));
    }
    if let Some(rest) = syslog_target(path) {
        let program = &setup.options.program;
        let (name, tag) = rest.split_once(':').unwrap_or((rest, ""));
        let Some(facility) = syslog::facility(name) else {
            return Err(format!(
                "AH10036: {program}: could not open syslog error log {rest}.\nAH00015: Unable to open logs"
            ));
        };
        syslog::open(if tag.is_empty() { program } else { tag }, facility);
        return log(Target::Syslog);
    }
    let file = append(Path::new(path)).map_err(|err| {
        format!(
            "{}: AH00091: {}: could not open error log file {path}.\nAH00015: Unable to open logs",
            super::system_error(&err),
            setup.options.program
        )
    })?;
    Ok(ErrorLog { name: path.to_owned(), format, target: Target::File(file) })
}

/// What is behind `syslog` or `syslog:`; `None` for other targets.
fn syslog_target(name: &str) -> Option<&str> {
    if name == "syslog" { Some("") } else { name.strip_prefix("syslog:") }
}

/// Opens a log for appending, as `APR_APPEND|APR_WRITE|APR_CREATE` with 0644.
pub fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}
