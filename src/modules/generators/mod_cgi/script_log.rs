//! `ScriptLog`: what was asked of a script that failed, and what it said.
//!
//! Answers to `log_scripterror` and `log_script`.

use std::fs::{File, OpenOptions};
use std::io::Write;

use bstr::ByteSlice;

use super::{Flavor, SERVER};
use crate::http::method::Method;
use crate::http::status::Status;
use crate::log::{Level, rerror, shown};
use crate::os::clock;
use crate::request::Request;
use crate::request::program::Program;

/// The file, where there is one and it isn't full.
fn open(r: &Request) -> Option<File> {
    let conf = r.server_conf(&SERVER);
    let path = conf.log.as_deref()?;
    if std::fs::metadata(path).is_ok_and(|file| file.len() as i64 > conf.log_length) {
        return None;
    }
    OpenOptions::new().append(true).create(true).open(path).ok()
}

/// The two lines that each entry begins with.
fn begin(r: &Request, code: Status) -> Vec<u8> {
    let now = clock::unix_secs();
    let time = crate::http::date::ctime(now, clock::local_offset(now));
    let mut entry = b"%% [".to_vec();
    entry.extend_from_slice(&time);
    entry.extend_from_slice(b"] ");
    entry.extend_from_slice(&r.method_name);
    entry.push(b' ');
    entry.extend_from_slice(&r.uri);
    if let Some(args) = &r.args {
        entry.push(b'?');
        entry.extend_from_slice(args);
    }
    entry.push(b' ');
    entry.extend_from_slice(&r.protocol);
    entry.extend_from_slice(format!("\n%% {code} ").as_bytes());
    entry.extend_from_slice(&r.filename);
    entry.push(b'\n');
    entry
}

/// An error about a script, or a line of its standard error.
pub(super) fn script_error(r: &Request, flavor: &Flavor, code: Status, number: &'static str, error: &[u8]) {
    let text = shown(error);
    rerror!(r, Level::Error, flavor.module, number, "stderr from {}: {text}", r.filename);
    let Some(mut file) = open(r) else { return };
    let mut entry = begin(r, code);
    entry.extend_from_slice(b"%error\n");
    entry.extend_from_slice(error);
    entry.push(b'\n');
    let _ = file.write_all(&entry);
}

/// A line of standard error with more bytes is logged in pieces (`HUGE_STRING_LEN`).
const LONGEST_LINE: usize = 8191;

/// Logs what the script has written to standard error, line by line: `log_script_err`. True when it may write more.
pub(super) fn log_stderr(r: &Request, flavor: &Flavor, script: &mut Program) -> bool {
    let mut text = Vec::new();
    let open = script.take_stderr(&mut text);
    for line in text.lines().flat_map(|line| line.chunks(LONGEST_LINE)) {
        script_error(r, flavor, r.status, "AH01215", line);
    }
    open
}

/// The entry about a script that gave no usable reply. What it says from now on is added as it comes.
pub(super) struct Entry {
    file: File,
    any: bool,
}

impl Entry {
    /// Begins one; `posted` is the begin of the request's body, `last` the last line of the script's head.
    pub(super) fn begin(r: &Request, code: Status, posted: &[u8], last: &[u8]) -> Option<Entry> {
        let mut file = open(r)?;
        let mut entry = begin(r, code);
        let field = |entry: &mut Vec<u8>, name: &[u8], value: &[u8]| {
            entry.extend_from_slice(&[name, b": ", value, b"\n"].concat());
        };
        entry.extend_from_slice(b"%request\n");
        for (name, value) in r.headers_in.iter() {
            field(&mut entry, name, value);
        }
        if matches!(r.method, Method::POST | Method::PUT) && !posted.is_empty() {
            entry.extend_from_slice(&[b"\n", posted, b"\n"].concat());
        }
        entry.extend_from_slice(b"%response\n");
        for (name, value) in r.err_headers_out.iter() {
            field(&mut entry, name, value);
        }
        if !last.is_empty() {
            entry.extend_from_slice(&[last, b"\n"].concat());
        }
        file.write_all(&entry).ok()?;
        Some(Entry { file, any: false })
    }

    /// A piece of the script's output.
    pub(super) fn stdout(&mut self, piece: &[u8]) {
        if !std::mem::replace(&mut self.any, true) {
            let _ = self.file.write_all(b"%stdout\n");
        }
        let _ = self.file.write_all(&[piece, b"\n"].concat());
    }
}
