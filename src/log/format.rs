//! How a line of the error log looks: Apache's default, or `ErrorLogFormat`.
//!
//! Answers to `do_errorlog_default`, `do_errorlog_format` and the `log_…` functions of `server/log.c`, and to
//! `parse_errorlog_string` of `server/core.c`. A line is made where the event happens, while what it belongs to is at
//! hand; only the message is put in later ([`Frame`]). Differs in that the place in the source (`%F`, and lines of level
//! debug and below) is the module with the line of our source.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bstr::ByteSlice;

use super::Level;
use crate::http::date;
use crate::os::{clock, process};
use crate::request::{ConnInfo, Request};

/// What an event belongs to, and what it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Subject<'a> {
    pub request: Option<&'a Request>,
    pub connection: Option<&'a ConnInfo>,
    pub server_name: Option<&'a str>,
    /// `None` in the lines that introduce a connection or request.
    pub level: Option<Level>,
    pub module: &'a str,
    pub error: Option<&'a io::Error>,
    /// The line of our source.
    pub line: u32,
    /// The time and the process are added by syslog.
    pub syslog: bool,
}

/// Control characters and backslashes as `\xHH` and the like, so that a line stays a line: `ap_escape_errorlog_item`.
pub fn escape(text: &[u8]) -> String {
    String::from_utf8_lossy(&crate::http::escape::escape_errorlog_item(text)).into_owned()
}

/// A line without its message.
#[derive(Clone, Default)]
pub(crate) struct Frame {
    text: Vec<u8>,
    message_at: Vec<usize>,
}

impl Frame {
    /// The line, with its end.
    pub fn line(&self, message: &str) -> String {
        let message = escape(&httpd_conf::to_bytes(message));
        let mut line = String::with_capacity(self.text.len() + message.len() + 1);
        let mut from = 0;
        for &at in &self.message_at {
            line.push_str(&self.text[from..at].to_str_lossy());
            line.push_str(&message);
            from = at;
        }
        line.push_str(&self.text[from..].to_str_lossy());
        line.push('\n');
        line
    }

    fn put(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// How long it is: text, and messages in it.
    fn len(&self) -> (usize, usize) {
        (self.text.len(), self.message_at.len())
    }

    /// Takes back what came since the line was so long.
    fn cut(&mut self, (text, messages): (usize, usize)) {
        self.text.truncate(text);
        self.message_at.truncate(messages);
    }

    /// Apache's default.
    pub fn default_of(subject: &Subject) -> Frame {
        let mut frame = Frame::default();
        let level = subject.level.unwrap_or(Level::Notice);
        if !subject.syslog {
            frame.put("[");
            put_time(&mut frame.text, Some(b"u"));
            frame.put("] ");
        }
        let (pid, thread) = (std::process::id(), process::thread_id());
        frame.put(&format!("[{}:{}] [pid {pid}:tid {thread}] ", subject.module, level.name()));
        if level >= Level::Debug
            && let Some(place) = subject.place()
        {
            frame.put(&format!("{place}: "));
        }
        if let Some(error) = subject.error {
            frame.put(&format!("{}: ", super::system_error(error)));
        }
        if let Some(connection) = subject.connection {
            let client = subject.request.map_or(connection.client_addr, Request::client_addr);
            frame.put(&format!("[client {}] ", shown(&client)));
        }
        frame.message_at.push(frame.text.len());
        if let Some(referer) = subject.request.and_then(|r| r.headers_in.get("Referer")) {
            frame.put(", referer: ");
            frame.put(&escape(referer));
        }
        frame
    }

    /// By the items of `ErrorLogFormat`; `None` when an item that must be there is empty (`%+…`).
    pub fn of_items(items: &[Item], subject: &Subject) -> Option<Frame> {
        let mut frame = Frame::default();
        let (mut field, mut skipping) = ((0, 0), false);
        for item in items {
            if item.separates && !std::mem::take(&mut skipping) {
                field = frame.len();
            }
            if matches!(item.what, What::Message) {
                frame.message_at.push(frame.text.len());
                continue;
            }
            if skipping {
                continue;
            }
            let before = frame.text.len();
            if subject.level.is_none_or(|level| item.least_level <= level as u32) {
                item.what.put(subject, &mut frame.text);
            } else {
                frame.cut(field);
                skipping = true;
                continue;
            }
            if frame.text.len() > before {
                continue;
            }
            if item.required {
                return None;
            } else if item.hyphen {
                frame.put("-");
            } else {
                frame.cut(field);
                skipping = true;
            }
        }
        Some(frame)
    }
}

impl Subject<'_> {
    fn place(&self) -> Option<String> {
        let file = crate::modules::ALL
            .iter()
            .find(|module| module.name.strip_suffix("_module") == Some(self.module))
            .map(|module| module.file)?;
        Some(format!("{file}({})", self.line))
    }
}

/// `ErrorLogFormat` of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formats {
    /// Of every line.
    pub line: Option<Arc<Vec<Item>>>,
    /// Lines that introduce a connection.
    pub connection: Option<Vec<Arc<Vec<Item>>>>,
    /// Lines that introduce a request.
    pub request: Option<Vec<Arc<Vec<Item>>>>,
}

impl Formats {
    /// `child` on top.
    pub fn merge(&self, child: &Formats) -> Formats {
        Formats {
            line: child.line.clone().or_else(|| self.line.clone()),
            connection: child.connection.clone().or_else(|| self.connection.clone()),
            request: child.request.clone().or_else(|| self.request.clone()),
        }
    }

    /// The frame of a line.
    pub(crate) fn frame(&self, subject: &Subject) -> Frame {
        self.line
            .as_ref()
            .and_then(|items| Frame::of_items(items, subject))
            .unwrap_or_else(|| Frame::default_of(subject))
    }
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    what: What,
    /// A field begins here: what is empty takes its field with it.
    separates: bool,
    /// `+`: nothing is logged when it is empty.
    required: bool,
    /// `-`: a hyphen when it is empty.
    hyphen: bool,
    /// Only in lines of this level or below.
    least_level: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Text(Vec<u8>),
    Message,
    /// The directive's letter with what stood in braces.
    Directive(u8, Option<Vec<u8>>),
    /// `%{strftime format}t`
    Time(CString),
}

impl What {
    fn put(&self, subject: &Subject, out: &mut Vec<u8>) {
        let (letter, arg) = match self {
            What::Text(text) => return out.extend_from_slice(text),
            What::Message => return,
            What::Time(format) => return clock::strftime(format, now().0, out),
            What::Directive(letter, arg) => (*letter, arg.as_deref()),
        };
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        let entry = |table: fn(&Request) -> &crate::table::Table| {
            let name = arg.and_then(|name| name.to_str().ok()).unwrap_or_default();
            subject.request.and_then(|r| table(r).get(name)).map(escape).unwrap_or_default()
        };
        match letter {
            b'a' => {
                if let Some(connection) = subject.connection {
                    let request = subject.request.filter(|_| arg != Some(b"c"));
                    put(&shown(&request.map_or(connection.client_addr, Request::client_addr)));
                }
            }
            b'A' => {
                if let Some(connection) = subject.connection {
                    put(&shown(&connection.local_addr));
                }
            }
            b'e' => put(&entry(|r| &r.subprocess_env)),
            b'E' => put(&subject.error.map(super::system_error).unwrap_or_default()),
            b'F' => put(&subject.level.and_then(|_| subject.place()).unwrap_or_default()),
            b'i' => put(&entry(|r| &r.headers_in)),
            b'k' => {
                if let Some(r) = subject.request {
                    put(&r.keepalives.to_string());
                } else if subject.connection.is_some() {
                    put("0");
                }
            }
            b'l' => put(subject.level.map_or("", Level::name)),
            b'L' if arg.is_some_and(|arg| arg.eq_ignore_ascii_case(b"c")) => {
                if let Some(connection) = subject.connection
                    && (arg == Some(b"c") || subject.request.is_none())
                {
                    put(connection.log_id.get().map_or("", String::as_str));
                }
            }
            b'L' => put(subject.request.and_then(|r| r.log_id.get()).map_or("", String::as_str)),
            b'm' => put(if subject.level.is_some() { subject.module } else { "-" }),
            b'n' => put(&entry(|r| &r.notes)),
            b'P' => put(&std::process::id().to_string()),
            b't' => put_time(out, arg),
            b'T' if arg.is_some_and(|arg| arg.first() == Some(&b'g')) => {
                put(&process::thread_id().to_string());
            }
            // A process that is a thread has no number for it.
            b'T' if super::is_threaded() => put(&process::pthread_id().to_string()),
            b'v' => put(subject.server_name.unwrap_or_default()),
            b'V' => put(&subject.request.map(|r| super::shown(r.server_name())).unwrap_or_default()),
            _ => {}
        }
    }
}

/// Seconds and microseconds since 1970.
fn now() -> (i64, i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() as i64, now.as_micros() as i64)
}

/// The time; `u`: with microseconds, `c`: as ISO 8601 has it, `z`: with the zone: `ap_recent_ctime_ex`.
fn put_time(out: &mut Vec<u8>, options: Option<&[u8]>) {
    let has = |option: u8| options.is_some_and(|options| options.contains(&option));
    let (secs, micros) = now();
    let offset = clock::local_offset(secs);
    let fraction = format!(".{:06}", micros.rem_euclid(1_000_000));
    if has(b'c') {
        clock::strftime(c"%Y-%m-%d %H:%M:%S", secs, out);
        if has(b'u') {
            out.extend_from_slice(fraction.as_bytes());
        }
    } else {
        let text = date::error_log(micros, offset);
        let (day, year) = (&text[..19], &text[26..]);
        out.extend_from_slice(day);
        if has(b'u') {
            out.extend_from_slice(fraction.as_bytes());
        }
        out.extend_from_slice(year);
    }
    if has(b'z') {
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        out.extend_from_slice(format!(" {sign}{:02}{:02}", minutes / 60, minutes % 60).as_bytes());
    }
}

/// An address as Apache prints it: IPv6 without brackets.
fn shown(addr: &SocketAddr) -> String {
    format!("{}:{}", addr.ip().to_canonical(), addr.port())
}

/// Reads a format; `main`: that of every line, which must have `%M`.
pub fn parse(format: &[u8], main: bool) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = format;
    while !rest.is_empty() {
        let item = parse_item(&mut rest)?;
        let message = matches!(item.what, What::Message);
        if message && !main {
            return Err("%M cannot be used in once-per-request or once-per-connection formats".to_owned());
        }
        if main && item.required {
            return Err("The '+' flag cannot be used in the main error log format".to_owned());
        }
        if !main && item.least_level > 0 {
            return Err("The loglevel cannot be used as a condition in once-per-request or \
                        once-per-connection formats"
                .to_owned());
        }
        if item.least_level > Level::Trace8 as u32 {
            return Err("The specified loglevel modifier is out of range".to_owned());
        }
        items.push(item);
    }
    if main && !items.iter().any(|item| matches!(item.what, What::Message)) {
        return Err("main ErrorLogFormat must contain message format string '%M'".to_owned());
    }
    Ok(items)
}

fn parse_item(rest: &mut &[u8]) -> Result<Item, String> {
    let mut item = Item {
        what: What::Message,
        separates: rest.first() == Some(&b' '),
        required: false,
        hyphen: false,
        least_level: 0,
    };
    let mut arg = None;
    // `% ` begins a field, too.
    while let Some(after) = rest.strip_prefix(b"% ") {
        item.separates = true;
        *rest = after;
    }
    let Some(after) = rest.strip_prefix(b"%") else {
        item.separates |= rest.first() == Some(&b' ');
        item.what = What::Text(parse_text(rest));
        return Ok(item);
    };
    if let Some(after) = after.strip_prefix(b"%") {
        *rest = after;
        item.what = What::Text(b"%".to_vec());
        return Ok(item);
    }
    *rest = after;
    while let Some((&byte, after)) = rest.split_first() {
        *rest = after;
        match byte {
            b'{' => {
                let end = after.find_byte(b'}').unwrap_or(after.len());
                arg = Some(after[..end].to_vec());
                *rest = after.get(end + 1..).unwrap_or_default();
            }
            b'+' => item.required = true,
            b'-' => item.hyphen = true,
            b'0'..=b'9' => {
                let mut level = u32::from(byte - b'0');
                while let Some((&digit @ b'0'..=b'9', after)) = rest.split_first() {
                    level = level.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
                    *rest = after;
                }
                item.least_level = level;
            }
            b'M' => return Ok(item),
            b't' if arg.as_ref().is_some_and(|arg| arg.contains(&b'%')) => {
                item.what = What::Time(CString::new(arg.unwrap_or_default()).unwrap_or_default());
                return Ok(item);
            }
            b'a' | b'A' | b'e' | b'E' | b'F' | b'i' | b'k' | b'l' | b'L' | b'm' | b'n' | b'P' | b't'
            | b'T' | b'v' | b'V' => {
                item.what = What::Directive(byte, arg);
                return Ok(item);
            }
            other => {
                let other = [other];
                return Err(format!("Unrecognized error log format directive %{}", other.as_bstr()));
            }
        }
    }
    Err("Ran off end of error log format parsing args to some directive".to_owned())
}

/// Text up to the next directive, or to white space that is not at its beginning.
fn parse_text(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at_start = true;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'%' => break,
            b' ' if !at_start => break,
            b' ' => text.push(b' '),
            b'\\' => {
                let Some((&escaped, after)) = after.split_first() else {
                    text.push(b'\\');
                    *rest = after;
                    break;
                };
                text.push(match escaped {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    other => other,
                });
                *rest = after;
                continue;
            }
            other => {
                at_start = false;
                text.push(other);
            }
        }
        *rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str, level: Level) -> Option<String> {
        let subject = Subject { level: Some(level), module: "core", ..Subject::default() };
        Frame::of_items(&parse(format.as_bytes(), true).unwrap(), &subject).map(|frame| frame.line("x\ty"))
    }

    #[test]
    fn empty_items_take_their_field_along() {
        assert_eq!(line("[%l] [%a] %M% ,\\ referer\\ %{Referer}i", Level::Error).unwrap(), "[error] x\\ty\n");
        assert_eq!(line("[%-a] %%%M", Level::Error).unwrap(), "[-] %x\\ty\n");
        assert_eq!(line("%M [%7m]", Level::Error).unwrap(), "x\\ty\n");
        assert_eq!(line("%M [%7m]", Level::Debug).unwrap(), "x\\ty [core]\n");
    }

    #[test]
    fn what_is_no_format() {
        assert_eq!(
            parse(b"%l", true).unwrap_err(),
            "main ErrorLogFormat must contain message format string '%M'"
        );
        assert_eq!(parse(b"%M %y", true).unwrap_err(), "Unrecognized error log format directive %y");
        assert!(parse(b"%M", false).is_err());
        assert!(parse(b"%+a", false).is_ok());
    }
}
