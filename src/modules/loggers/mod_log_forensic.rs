//! mod_log_forensic: a line before and a line after each request.
//!
//! Answers to `modules/loggers/mod_log_forensic.c`. Lines are written at once. Requests whose reply is given again have theirs,
//! too.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use httpd_conf::to_bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::log::pipe::PipedLog;
use crate::log::{Level, server_error, server_event};
use crate::module::{Conf, Module, Slot};
use crate::os::clock;
use crate::request::{Request, Step};
use crate::table::Table;

/// The module.
pub static MODULE: Module =
    Module { name: "log_forensic_module", file: "mod_log_forensic.c", directives: ROWS, hooks };

static SERVER: Slot<Forensic> = Slot::new();

/// The note with a request's identifier.
pub const FORENSIC_ID: &str = "forensic-id";

#[derive(Clone)]
enum Log {
    File(Arc<File>),
    Pipe(Arc<PipedLog>),
}

#[derive(Clone, Default)]
struct Forensic {
    name: Option<String>,
    log: Option<Log>,
}

impl Conf for Forensic {
    fn merge(&self, child: &Self) -> Self {
        Forensic { name: child.name.clone().or_else(|| self.name.clone()), log: None }
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "ForensicLog",
    args: Args::Take1(forensic_log),
    allowed: Allowed::RSRC_CONF,
    help: "the filename of the forensic log",
}];

fn forensic_log(cmd: &mut Cmd, name: &str) -> Done {
    cmd.server_conf(&SERVER)?.name = Some(name.to_owned());
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.post_config(open_logs, order::MIDDLE).own();
    hooks.post_read_request(log_before, order::REALLY_FIRST).after(&["mod_unique_id.c"]);
    hooks.log_transaction(log_after, order::REALLY_LAST);
    hooks.renew(
        |r| {
            log_before(r);
        },
        order::LAST,
    );
}

/// `open_log`, for each server.
fn open_logs(setup: &mut Setup) -> Result<(), String> {
    for index in 0..setup.servers.len() {
        let Some(name) = setup.servers[index].conf.get(&SERVER).name.clone() else { continue };
        let log = if name.starts_with('|') {
            match PipedLog::open(&name, setup) {
                Ok(pipe) => Log::Pipe(pipe),
                Err(text) => {
                    let text = format!("{text}\nAH00650: couldn't spawn forensic log pipe {name}");
                    return Err(text);
                }
            }
        } else {
            let path = setup.server_root_relative(&name);
            let bytes = to_bytes(&path);
            let file: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&bytes);
            match OpenOptions::new().append(true).create(true).open(file) {
                Ok(file) => Log::File(Arc::new(file)),
                Err(err) => {
                    let text = format!("could not open forensic log file {path}.");
                    server_error(Level::Error, "log_forensic", "AH00651", Some(&err), &text);
                    return Err("AH00015: Unable to open logs".to_owned());
                }
            }
        };
        setup.servers[index].conf.get_mut(&SERVER).log = Some(log);
    }
    Ok(())
}

impl Log {
    fn write(&self, line: &[u8]) {
        let written = match self {
            Log::File(file) => (&**file).write_all(line),
            Log::Pipe(pipe) => pipe.write(line),
        };
        if let Err(err) = written {
            let text = format!("can't write to the forensic log: {err}");
            server_event(Level::Error, "log_forensic", "", &text);
        }
    }
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &c in text {
        if matches!(c, b' '..=b'~') && !matches!(c, b':' | b'|' | b'%') {
            out.push(c);
        } else {
            out.extend_from_slice(format!("%{c:02x}").as_bytes());
        }
    }
}

/// `log_before`.
fn log_before(r: &mut Request) -> Step {
    let Some(log) = r.server_conf(&SERVER).log.clone().filter(|_| r.prev.is_none()) else {
        return Step::Declined;
    };
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Looked at on the side: that a line is written doesn't change the reply.
    let (mut headers, mut variables) = (Table::new(), Table::new());
    headers.copy(&r.headers_in);
    variables.copy(&r.subprocess_env);
    let id = match variables.get("UNIQUE_ID") {
        Some(id) => id.to_vec(),
        None => {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            format!("{}:{:x}:{next:x}", std::process::id(), clock::unix_secs()).into_bytes()
        }
    };
    let mut line = Vec::with_capacity(256);
    line.push(b'+');
    line.extend_from_slice(&id);
    line.push(b'|');
    escape(&r.the_request, &mut line);
    for (name, value) in headers.iter() {
        line.push(b'|');
        escape(name, &mut line);
        line.push(b':');
        escape(value, &mut line);
    }
    line.push(b'\n');
    log.write(&line);
    r.notes.set(FORENSIC_ID, id);
    Step::Ok
}

/// `log_after`.
fn log_after(r: &mut Request) -> Step {
    let r = r.original();
    let (Some(log), Some(id)) = (&r.server_conf(&SERVER).log, r.notes.get(FORENSIC_ID)) else {
        return Step::Declined;
    };
    log.write(&[b"-", id, b"\n"].concat());
    Step::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        let mut out = Vec::new();
        escape(b"GET /a|b:c%d \x01\xff", &mut out);
        assert_eq!(out, b"GET /a%7cb%3ac%25d %01%ff");
    }
}
