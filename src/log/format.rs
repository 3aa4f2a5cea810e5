//! How a line of the error log looks: Apache's default, or `ErrorLogFormat`.
//!
//! Answers to `do_errorlog_default`, `do_errorlog_format` of `server/log.c` and `parse_errorlog_string` of `server/core.c`.
//! Differs in `%F`, the place in the source, which is always empty.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use bstr::ByteSlice;

use super::{Context, Level};
use crate::http::date;
use crate::os::{clock, process};
use crate::request::{ConnInfo, Request};
use crate::table::Table;

/// What a request or connection gives to a line of the default form.
#[derive(Clone, Default, Debug)]
pub struct Items {
    /// The client.
    pub client: Option<SocketAddr>,
    /// The request's `Referer`.
    pub referer: Option<Vec<u8>>,
}

impl Items {
    /// Of a request.
    pub fn of_request(r: &Request) -> Items {
        Items {
            client: Some(r.connection.client_addr),
            referer: r.headers_in.get("Referer").map(<[u8]>::to_vec),
        }
    }
    /// Of a connection.
    pub fn of_connection(c: &ConnInfo) -> Items {
        Items { client: Some(c.client_addr), referer: None }
    }
}

/// The format of a log's lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Apache's own.
    #[default]
    Default,
    /// `ErrorLogFormat`.
    Custom(Arc<[Item]>),
}

/// One directive of a format, or text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    what: What,
    /// A field begins here: it is left out as a whole when something in it is missing.
    separator: bool,
    /// Without it there is no line.
    required: bool,
    /// A hyphen takes its place.
    hyphen: bool,
    /// Only for messages as fine as this.
    min_level: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Text(String),
    Message,
    Client,
    ConnectionClient,
    Local,
    Variable(String),
    SystemError,
    /// `%F`: not known.
    Source,
    Header(String),
    Keepalives,
    Level,
    RequestLogId,
    /// With `true` not in lines about a request.
    ConnectionLogId(bool),
    Module,
    Note(String),
    Pid,
    Time(TimeForm),
    /// With `true` the kernel's number.
    Tid(bool),
    VirtualHost,
    ServerName,
}

#[derive(Clone, Debug, PartialEq)]
enum TimeForm {
    Flags { micros: bool, compact: bool, zone: bool },
    Strftime(std::ffi::CString),
}

/// What a line is about.
#[derive(Clone, Copy, Default)]
pub(crate) struct Subject<'s> {
    pub request: Option<&'s Request>,
    pub connection: Option<&'s ConnInfo>,
    pub server: Option<&'s str>,
    /// `None`: a line once for a request or connection.
    pub level: Option<Level>,
    pub module: &'s str,
    pub error: Option<&'s str>,
}

impl Format {
    /// Compiles the format of every message.
    pub fn parse(text: &str) -> Result<Format, String> {
        let items = parse_items(text)?;
        if items.iter().any(|item| item.required) {
            return Err("The '+' flag cannot be used in the main error log format".to_owned());
        }
        if !items.iter().any(|item| item.what == What::Message) {
            return Err("main ErrorLogFormat must contain message format string '%M'".to_owned());
        }
        Ok(Format::Custom(items.into()))
    }

    /// Compiles a line that comes once for a request or connection.
    pub fn parse_once(text: &str) -> Result<Format, String> {
        let items = parse_items(text)?;
        for item in &items {
            if item.what == What::Message {
                return Err("%M cannot be used in once-per-request or once-per-connection formats".to_owned());
            }
            if item.min_level != 0 {
                return Err("The loglevel cannot be used as a condition in once-per-request or once-per-connection formats".to_owned());
            }
        }
        Ok(Format::Custom(items.into()))
    }

    /// The line by `ErrorLogFormat`, with its end; `None` for the default, and where what is required is missing.
    pub(crate) fn custom_line(&self, message: &str, about: &Subject) -> Option<String> {
        let Format::Custom(items) = self else { return None };
        let mut line = String::new();
        let (mut field, mut skipping) = (0, false);
        for item in items.iter() {
            if item.separator {
                if !skipping {
                    field = line.len();
                }
                skipping = false;
            }
            if item.what == What::Message {
                line.push_str(&escape(message.as_bytes()));
                continue;
            }
            if skipping {
                continue;
            }
            if about.level.is_some_and(|level| u64::from(item.min_level) > level as u64) {
                line.truncate(field);
                skipping = true;
                continue;
            }
            let before = line.len();
            item.what.write(about, &mut line);
            if line.len() > before {
                continue;
            }
            if item.required {
                return None;
            } else if item.hyphen {
                line.push('-');
            } else {
                line.truncate(field);
                skipping = true;
            }
        }
        line.push('\n');
        Some(line)
    }
}

fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (item, behind) = parse_item(rest)?;
        if item.min_level > Level::Trace8 as u8 {
            return Err("The specified loglevel modifier is out of range".to_owned());
        }
        items.push(item);
        rest = behind;
    }
    Ok(items)
}

fn parse_item(text: &str) -> Result<(Item, &str), String> {
    let mut item = Item {
        what: What::Text(String::new()),
        separator: false,
        required: false,
        hyphen: false,
        min_level: 0,
    };
    let mut rest = text;
    // Percent and blank only separate fields.
    while let Some(behind) = rest.strip_prefix("% ") {
        item.separator = true;
        rest = behind;
    }
    let Some(directive) = rest.strip_prefix('%') else {
        item.separator |= rest.starts_with(' ');
        let (plain, behind) = parse_text(rest);
        item.what = What::Text(plain);
        return Ok((item, behind));
    };
    if let Some(behind) = directive.strip_prefix('%') {
        item.what = What::Text("%".to_owned());
        return Ok((item, behind));
    }
    rest = directive;
    let mut argument = None;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        match c {
            '{' => {
                let (inside, after) = behind.split_once('}').unwrap_or((behind, ""));
                argument = Some(inside);
                rest = after;
                continue;
            }
            '+' => item.required = true,
            '-' => item.hyphen = true,
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                item.min_level = rest[..end].parse().unwrap_or(u8::MAX);
                rest = &rest[end..];
                continue;
            }
            c => {
                item.what = What::parse(c, argument)
                    .ok_or_else(|| format!("Unrecognized error log format directive %{c}"))?;
                return Ok((item, behind));
            }
        }
        rest = behind;
    }
    Err("Ran off end of error log format parsing args to some directive".to_owned())
}

/// Text up to the next directive, or to a blank behind other text: there the next field begins.
fn parse_text(text: &str) -> (String, &str) {
    let mut plain = String::new();
    let mut at_start = true;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '%' => return (plain, &text[at..]),
            ' ' if !at_start => return (plain, &text[at..]),
            '\\' => match chars.next() {
                Some((_, 'r')) => plain.push('\r'),
                Some((_, 'n')) => plain.push('\n'),
                Some((_, 't')) => plain.push('\t'),
                Some((_, c)) => plain.push(c),
                None => plain.push('\\'),
            },
            c => {
                at_start &= c == ' ';
                plain.push(c);
            }
        }
    }
    (plain, "")
}

impl What {
    fn parse(letter: char, argument: Option<&str>) -> Option<What> {
        let name = || argument.unwrap_or_default().to_owned();
        let starts = |with: char| argument.is_some_and(|a| a.starts_with(with));
        Some(match letter {
            'M' => What::Message,
            'a' if starts('c') => What::ConnectionClient,
            'a' => What::Client,
            'A' => What::Local,
            'e' => What::Variable(name()),
            'E' => What::SystemError,
            'F' => What::Source,
            'i' => What::Header(name()),
            'k' => What::Keepalives,
            'l' => What::Level,
            'L' if argument.is_some_and(|a| a.eq_ignore_ascii_case("c")) => {
                What::ConnectionLogId(starts('C'))
            }
            'L' => What::RequestLogId,
            'm' => What::Module,
            'n' => What::Note(name()),
            'P' => What::Pid,
            't' => What::Time(match argument {
                Some(format) if format.contains('%') => {
                    TimeForm::Strftime(std::ffi::CString::new(format).unwrap_or_default())
                }
                flags => {
                    let has = |flag: char| flags.is_some_and(|f| f.contains(flag));
                    TimeForm::Flags { micros: has('u'), compact: has('c'), zone: has('z') }
                }
            }),
            'T' => What::Tid(starts('g')),
            'v' => What::VirtualHost,
            'V' => What::ServerName,
            _ => return None,
        })
    }

    /// Appends the value, if there is one.
    fn write(&self, about: &Subject, out: &mut String) {
        let entry = |table: fn(&Request) -> &Table, name: &str| {
            about.request.and_then(|r| table(r).get(name)).map(escape).unwrap_or_default()
        };
        match self {
            What::Text(text) => out.push_str(text),
            What::Message | What::Source => {}
            What::Client | What::ConnectionClient => {
                if let Some(c) = about.connection {
                    out.push_str(&shown(&c.client_addr));
                }
            }
            What::Local => {
                if let Some(c) = about.connection {
                    out.push_str(&shown(&c.local_addr));
                }
            }
            What::Variable(name) => out.push_str(&entry(|r| &r.subprocess_env, name)),
            What::Header(name) => out.push_str(&entry(|r| &r.headers_in, name)),
            What::Note(name) => out.push_str(&entry(|r| &r.notes, name)),
            What::SystemError => out.push_str(about.error.unwrap_or_default()),
            What::Keepalives => {
                if let Some(r) = about.request {
                    out.push_str(&r.keepalives.to_string());
                } else if about.connection.is_some() {
                    out.push('0');
                }
            }
            What::Level => out.push_str(about.level.map_or("", Level::name)),
            What::RequestLogId => {
                out.push_str(about.request.and_then(|r| r.log_id.get()).map_or("", String::as_str));
            }
            What::ConnectionLogId(not_of_requests) => {
                if !not_of_requests || about.request.is_none() {
                    out.push_str(about.connection.and_then(|c| c.log_id.get()).map_or("", String::as_str));
                }
            }
            What::Module => out.push_str(about.module),
            What::Pid => out.push_str(&std::process::id().to_string()),
            What::Time(form) => form.write(out),
            What::Tid(true) => out.push_str(&process::thread_id().to_string()),
            What::Tid(false) => out.push_str(&process::pthread_id().to_string()),
            What::VirtualHost => out.push_str(about.server.unwrap_or_default()),
            What::ServerName => out.push_str(&about.request.map(Request::server_name).unwrap_or_default()),
        }
    }
}

impl TimeForm {
    fn write(&self, out: &mut String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let secs = now.as_secs() as i64;
        let (micros, compact, zone) = match self {
            TimeForm::Strftime(format) => {
                let mut text = Vec::new();
                clock::strftime(format, secs, &mut text);
                out.push_str(&text.to_str_lossy());
                return;
            }
            TimeForm::Flags { micros, compact, zone } => (*micros, *compact, *zone),
        };
        let offset = clock::local_offset(secs);
        let fraction = if micros { format!(".{:06}", now.subsec_micros()) } else { String::new() };
        if compact {
            let day = date::Civil::new(secs, offset);
            out.push_str(&format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction}",
                day.year, day.month, day.day, day.hour, day.minute, day.second
            ));
        } else {
            let text = date::ctime(secs, offset);
            out.push_str(&text[..19].to_str_lossy());
            out.push_str(&fraction);
            out.push_str(&text[19..].to_str_lossy());
        }
        if zone {
            let minutes = offset.unsigned_abs() / 60;
            let sign = if offset < 0 { '-' } else { '+' };
            out.push_str(&format!(" {sign}{:02}{:02}", minutes / 60, minutes % 60));
        }
    }
}

/// A number for a request or connection that was first logged at `micros`: `core_generate_log_id`.
pub(crate) fn generate_log_id(micros: u64) -> String {
    let pid = u64::from(std::process::id());
    let id = micros ^ pid << 40 ^ (pid >> 24) << 56 ^ process::pthread_id() << 32;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(id.to_ne_bytes())
}

/// Control characters and backslashes as `\xHH` and the like, so that a line stays a line: `ap_escape_errorlog_item`.
pub fn escape(text: &[u8]) -> String {
    String::from_utf8_lossy(&crate::http::escape::escape_errorlog_item(text)).into_owned()
}

/// One line in the default form, with its end. `syslog` has time and level itself.
pub(crate) fn default_line(
    level: Level,
    module: &str,
    message: &str,
    context: &Context,
    syslog: bool,
) -> String {
    let mut line = String::new();
    if !syslog {
        line.push('[');
        TimeForm::Flags { micros: true, compact: false, zone: false }.write(&mut line);
        line.push_str("] ");
    }
    let (pid, tid) = (std::process::id(), process::thread_id());
    line.push_str(&format!("[{module}:{}] [pid {pid}:tid {tid}] ", level.name()));
    if let Some(error) = &context.error {
        line.push_str(error);
        line.push_str(": ");
    }
    if let Some(client) = &context.items.client {
        line.push_str(&format!("[client {}] ", shown(client)));
    }
    line.push_str(&escape(message.as_bytes()));
    if let Some(referer) = &context.items.referer {
        line.push_str(", referer: ");
        line.push_str(&escape(referer));
    }
    line.push('\n');
    line
}

/// An address as Apache prints it: IPv6 without brackets.
fn shown(addr: &SocketAddr) -> String {
    format!("{}:{}", addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: &str, message: &str, level: Level) -> Option<String> {
        let about =
            Subject { level: Some(level), module: "core", server: Some("host"), ..Subject::default() };
        Format::parse(format).unwrap().custom_line(message, &about)
    }

    #[test]
    fn fields_without_value_are_left_out() {
        assert_eq!(line("[%l] [client\\ %a] %M", "text", Level::Error).as_deref(), Some("[error] text\n"));
        assert_eq!(line("[%-a] %m %M", "text", Level::Error).as_deref(), Some("[-] core text\n"));
        assert_eq!(line("%M% ,\\ referer\\ %{Referer}i", "a", Level::Error).as_deref(), Some("a\n"));
        assert_eq!(line("%v% : %M %%", "a", Level::Error).as_deref(), Some("host: a %\n"));
    }

    #[test]
    fn fields_for_fine_levels() {
        assert_eq!(line("%7m %M", "a", Level::Error).as_deref(), Some(" a\n"));
        assert_eq!(line("%7m %M", "a", Level::Debug).as_deref(), Some("core a\n"));
    }

    #[test]
    fn errors() {
        let error = |text: &str| Format::parse(text).unwrap_err();
        assert_eq!(error("%Z"), "Unrecognized error log format directive %Z");
        assert_eq!(error("%m"), "main ErrorLogFormat must contain message format string '%M'");
        assert_eq!(error("%+m %M"), "The '+' flag cannot be used in the main error log format");
        assert_eq!(error("%M %{x"), "Ran off end of error log format parsing args to some directive");
        assert_eq!(error("%99m %M"), "The specified loglevel modifier is out of range");
        assert!(Format::parse_once("%M").is_err());
        assert!(Format::parse_once("%+L").is_ok());
    }
}
