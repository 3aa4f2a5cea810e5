//! What the letters of `LogFormat` stand for.
//!
//! Answers to the `log_*` functions of `modules/loggers/mod_log_config.c` and `mod_logio.c`. Arguments are taken apart when
//! the format is compiled; a value is appended to the line where it lies, without an allocation for the common ones.

use std::ffi::CString;

use super::format::{LogItem, Logged};
use crate::conn::h1::decimal;
use crate::hooks::Hooks;
use crate::http::date;
use crate::http::escape::escape_logitem;
use crate::modules::metadata::mod_ident;
use crate::os::{clock, process};
use crate::request::Request;
use crate::table::Table;

/// One directive of a format.
pub enum Field {
    RemoteHost,
    RemoteAddress,
    /// `%{c}a`
    PeerAddress,
    LocalAddress,
    /// `%l`, by mod_ident.
    RemoteLogname,
    RemoteUser,
    Time(Time),
    Filename,
    BytesClf,
    Bytes,
    HeaderIn(String),
    HeaderOut(String),
    /// `%{Content-Type}o`
    ContentType,
    /// `%{Set-Cookie}o`: all of them.
    AllOut(String),
    TrailerIn(String),
    TrailerOut(String),
    Note(String),
    Variable(String),
    Cookie(Vec<u8>),
    RequestLogId,
    ConnectionLogId,
    ServerName,
    VirtualHost,
    CanonicalPort,
    RemotePort,
    LocalPort,
    Pid,
    ThreadId {
        hex: bool,
    },
    Protocol,
    Method,
    Query,
    ConnectionStatus,
    Keepalives,
    RequestLine,
    Micros,
    Duration(Unit),
    Uri,
    Status,
    Handler,
    BytesIn,
    BytesOut,
    BytesCombined,
    FirstByte,
    /// What stands for an argument that is none: itself.
    Bogus(Vec<u8>),
    Module(LogItem, Vec<u8>),
}

/// `%{…}T`.
#[derive(Clone, Copy)]
pub enum Unit {
    Seconds,
    Millis,
    Micros,
}

/// `%{…}t`.
pub struct Time {
    /// The time of the reply's end, not of the request's beginning.
    end: bool,
    form: TimeForm,
}

enum TimeForm {
    Clf,
    Seconds,
    Millis,
    Micros,
    MillisFraction,
    MicrosFraction,
    Custom(CString),
}

/// The directive that `text` begins with, and how long its name is.
pub fn find(text: &[u8], argument: &[u8], hooks: &Hooks) -> Option<(Field, usize)> {
    let length = if text.first() == Some(&b'^') && text.len() >= 3 { 3 } else { 1 };
    if length == 3 {
        let field = match &text[..3] {
            b"^ti" => Some(Field::TrailerIn(name(argument))),
            b"^to" => Some(Field::TrailerOut(name(argument))),
            b"^FB" => Some(Field::FirstByte),
            tag => module_item(tag, argument, hooks),
        };
        if let Some(field) = field {
            return Some((field, 3));
        }
    }
    let letter = *text.first()?;
    builtin(letter, argument).or_else(|| module_item(&text[..1], argument, hooks)).map(|field| (field, 1))
}

fn module_item(tag: &[u8], argument: &[u8], hooks: &Hooks) -> Option<Field> {
    hooks.find_log_item(tag).map(|item| Field::Module(item, argument.to_vec()))
}

fn builtin(letter: u8, argument: &[u8]) -> Option<Field> {
    let is = |word: &[u8]| argument.eq_ignore_ascii_case(word);
    let bogus = || Field::Bogus(argument.to_vec());
    Some(match letter {
        b'h' => Field::RemoteHost,
        b'a' if argument == b"c" => Field::PeerAddress,
        b'a' => Field::RemoteAddress,
        b'A' => Field::LocalAddress,
        b'l' => Field::RemoteLogname,
        b'u' => Field::RemoteUser,
        b't' => Field::Time(Time::parse(argument)),
        b'f' => Field::Filename,
        b'b' => Field::BytesClf,
        b'B' => Field::Bytes,
        b'i' => Field::HeaderIn(name(argument)),
        b'o' if is(b"Content-Type") => Field::ContentType,
        b'o' if is(b"Set-Cookie") => Field::AllOut(name(argument)),
        b'o' => Field::HeaderOut(name(argument)),
        b'n' => Field::Note(name(argument)),
        b'e' => Field::Variable(name(argument)),
        b'C' => Field::Cookie(argument.to_vec()),
        b'L' if argument == b"c" => Field::ConnectionLogId,
        b'L' => Field::RequestLogId,
        b'V' => Field::ServerName,
        b'v' => Field::VirtualHost,
        b'p' if argument.is_empty() || is(b"canonical") => Field::CanonicalPort,
        b'p' if is(b"remote") => Field::RemotePort,
        b'p' if is(b"local") => Field::LocalPort,
        b'P' if argument.is_empty() || is(b"pid") => Field::Pid,
        b'P' if is(b"tid") => Field::ThreadId { hex: false },
        b'P' if is(b"hextid") => Field::ThreadId { hex: argument.first() == Some(&b'h') },
        b'p' | b'P' => bogus(),
        b'H' => Field::Protocol,
        b'm' => Field::Method,
        b'q' => Field::Query,
        b'X' => Field::ConnectionStatus,
        b'k' => Field::Keepalives,
        b'r' => Field::RequestLine,
        b'D' => Field::Micros,
        b'T' if argument.is_empty() || is(b"s") => Field::Duration(Unit::Seconds),
        b'T' if is(b"ms") => Field::Duration(Unit::Millis),
        b'T' if is(b"us") => Field::Duration(Unit::Micros),
        b'T' => bogus(),
        b'U' => Field::Uri,
        b's' => Field::Status,
        b'R' => Field::Handler,
        b'I' => Field::BytesIn,
        b'O' => Field::BytesOut,
        b'S' => Field::BytesCombined,
        _ => return None,
    })
}

/// A name to look for in a table; one that is not UTF-8 is in none.
fn name(argument: &[u8]) -> String {
    String::from_utf8_lossy(argument).into_owned()
}

impl Time {
    /// The words that `begin`, `end` and the rest of the argument can be: `log_request_time`.
    fn parse(argument: &[u8]) -> Time {
        let mut end = false;
        let mut custom = argument;
        let mut form = argument;
        if let Some(behind) = argument.strip_prefix(b"begin") {
            form = behind;
            if let Some(behind) = behind.strip_prefix(b":") {
                (form, custom) = (behind, behind);
            }
        } else if let Some(behind) = argument.strip_prefix(b"end") {
            form = behind;
            end = behind.is_empty();
            if let Some(behind) = behind.strip_prefix(b":") {
                (form, custom) = (behind, behind);
                end = true;
            }
        }
        let form = match form {
            b"" => TimeForm::Clf,
            b"sec" => TimeForm::Seconds,
            b"msec" => TimeForm::Millis,
            b"usec" => TimeForm::Micros,
            b"msec_frac" => TimeForm::MillisFraction,
            b"usec_frac" => TimeForm::MicrosFraction,
            _ => TimeForm::Custom(CString::new(custom).unwrap_or_default()),
        };
        Time { end, form }
    }

    fn write(&self, r: &Request, logged: &Logged, out: &mut Vec<u8>) {
        let micros = if self.end { logged.end() } else { r.request_micros() };
        let secs = micros.div_euclid(1_000_000);
        match &self.form {
            TimeForm::Clf if self.end => {
                out.extend_from_slice(&date::clf(secs, clock::local_offset(secs)));
            }
            TimeForm::Clf => clock::with_dates(secs, |dates| out.extend_from_slice(dates.clf())),
            TimeForm::Seconds => number(out, secs),
            TimeForm::Millis => number(out, micros.div_euclid(1000)),
            TimeForm::Micros => number(out, micros),
            TimeForm::MillisFraction => padded(out, micros.rem_euclid(1_000_000) / 1000, 3),
            TimeForm::MicrosFraction => padded(out, micros.rem_euclid(1_000_000), 6),
            TimeForm::Custom(format) => clock::strftime(format, secs, out),
        }
    }
}

fn number(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(decimal(number.unsigned_abs(), &mut [0; 20]));
}

fn padded(out: &mut Vec<u8>, number: i64, width: usize) {
    let mut digits = [0; 20];
    let digits = decimal(number.unsigned_abs(), &mut digits);
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

/// Appends text with what could forge a line escaped.
fn text(out: &mut Vec<u8>, text: &[u8]) -> bool {
    out.extend_from_slice(&escape_logitem(text));
    true
}

/// The same for a text that is missing when it is empty.
fn given(out: &mut Vec<u8>, given: &[u8]) -> bool {
    !given.is_empty() && text(out, given)
}

fn entry(out: &mut Vec<u8>, table: &Table, name: &str) -> bool {
    table.get(name).is_some_and(|value| text(out, value))
}

impl Field {
    /// Looks at the request that came rather than at the one that was answered.
    pub fn wants_original(&self) -> bool {
        match self {
            Field::RequestLogId
            | Field::ConnectionLogId
            | Field::RequestLine
            | Field::Micros
            | Field::Duration(_)
            | Field::Uri
            | Field::Status
            | Field::Handler => true,
            Field::Module(item, _) => item.original,
            _ => false,
        }
    }

    /// Appends the value. False: there is none, a hyphen takes its place.
    pub fn write(&self, r: &Request, logged: &Logged, out: &mut Vec<u8>) -> bool {
        // What belongs to the connection is kept in the request that was answered.
        let last = logged.last;
        match self {
            Field::RemoteHost => return remote_host(r, out),
            Field::RemoteAddress => out.extend_from_slice(r.useragent_ip().as_bytes()),
            Field::PeerAddress => out.extend_from_slice(r.connection.client_ip.as_bytes()),
            Field::LocalAddress => {
                use std::io::Write;
                // Writing to memory can't fail.
                let _ = write!(out, "{}", r.connection.local_addr.ip());
            }
            Field::RemoteLogname => match mod_ident::remote_logname(r, true) {
                Ok(Some("")) => out.extend_from_slice(b"\"\""),
                Ok(Some(name)) => return text(out, name.as_bytes()),
                _ => return false,
            },
            Field::RemoteUser => match &r.user {
                None => return false,
                Some(user) if user.is_empty() => out.extend_from_slice(b"\"\""),
                Some(user) => return text(out, user),
            },
            Field::Time(time) => time.write(r, logged, out),
            Field::Filename => return given(out, &r.filename),
            Field::BytesClf if r.bytes_sent == 0 => return false,
            Field::BytesClf | Field::Bytes => number(out, r.bytes_sent as i64),
            Field::HeaderIn(name) => return entry(out, &r.headers_in, name),
            Field::HeaderOut(name) => return entry(out, &r.headers_out, name),
            Field::ContentType => return content_type(r, out),
            Field::AllOut(name) => return all(r, name, out),
            Field::TrailerIn(name) => return entry(out, &r.trailers_in, name),
            Field::TrailerOut(name) => return entry(out, &r.trailers_out, name),
            Field::Note(name) => return entry(out, &r.notes, name),
            Field::Variable(name) => return entry(out, &r.subprocess_env, name),
            Field::Cookie(name) => return cookie(r, name, out),
            Field::RequestLogId => return r.log_id.get().is_some_and(|id| text(out, id.as_bytes())),
            Field::ConnectionLogId => {
                return r.connection.log_id.get().is_some_and(|id| text(out, id.as_bytes()));
            }
            Field::ServerName => return text(out, r.server_name()),
            Field::VirtualHost => return text(out, r.server.name().as_bytes()),
            Field::CanonicalPort => {
                let port = r.server.port;
                number(out, i64::from(if port == 0 { r.default_port() } else { port }));
            }
            Field::RemotePort => number(out, i64::from(r.client_addr().port())),
            Field::LocalPort => number(out, i64::from(r.connection.local_addr.port())),
            Field::Pid => number(out, i64::from(std::process::id())),
            Field::ThreadId { hex } => {
                let id = process::pthread_id();
                if *hex {
                    out.extend_from_slice(format!("{id:x}").as_bytes());
                } else {
                    out.extend_from_slice(decimal(id, &mut [0; 20]));
                }
            }
            Field::Protocol => out.extend_from_slice(&r.protocol),
            Field::Method => return text(out, &r.method_name),
            Field::Query => {
                if let Some(args) = &r.args {
                    out.push(b'?');
                    return text(out, args);
                }
            }
            Field::ConnectionStatus => out.push(connection_status(last)),
            Field::Keepalives => number(out, i64::from(last.keepalives.saturating_sub(1))),
            Field::RequestLine => return request_line(r, out),
            Field::Micros => number(out, logged.end() - r.request_micros()),
            Field::Duration(unit) => {
                let micros = logged.end() - r.request_micros();
                number(
                    out,
                    match unit {
                        Unit::Seconds => micros / 1_000_000,
                        Unit::Millis => micros / 1000,
                        Unit::Micros => micros,
                    },
                );
            }
            Field::Uri => return given(out, &r.uri),
            Field::Status if r.status == 0 => return false,
            Field::Status => number(out, i64::from(r.status)),
            Field::Handler => return r.handler.as_ref().is_some_and(|h| text(out, h.as_bytes())),
            Field::BytesIn => number(out, last.bytes_in as i64),
            Field::BytesOut => number(out, last.bytes_out as i64),
            Field::BytesCombined => number(out, (last.bytes_in + last.bytes_out) as i64),
            Field::FirstByte => match r.ttfb {
                Some(time) => number(out, time.as_micros() as i64),
                None => return false,
            },
            Field::Bogus(argument) => out.extend_from_slice(argument),
            Field::Module(item, argument) => return (item.write)(r, argument, out),
        }
        true
    }
}

fn remote_host(r: &Request, out: &mut Vec<u8>) -> bool {
    // Looked up because `HostnameLookups` says so, or because somebody asked: `Require host`.
    if r.client_was_looked_up() {
        text(out, r.remote_name().as_bytes())
    } else {
        text(out, r.useragent_ip().as_bytes())
    }
}

/// The media type without its parameters.
fn content_type(r: &Request, out: &mut Vec<u8>) -> bool {
    match &r.content_type {
        Some(media_type) => {
            let bare = media_type.split(';').next().unwrap_or_default().trim_end();
            text(out, bare.as_bytes())
        }
        None => entry(out, &r.headers_out, "Content-Type"),
    }
}

fn all(r: &Request, name: &str, out: &mut Vec<u8>) -> bool {
    let mut first = true;
    for value in r.headers_out.iter_all(name) {
        if !std::mem::take(&mut first) {
            out.extend_from_slice(b", ");
        }
        text(out, value);
    }
    !first
}

fn connection_status(r: &Request) -> u8 {
    let most = r.server.resolved.keep_alive_max;
    if r.aborted {
        b'X'
    } else if r.keepalive && (most == 0 || most > r.keepalives) {
        b'+'
    } else {
        b'-'
    }
}

/// The request line; a password in its URI is not shown.
fn request_line(r: &Request, out: &mut Vec<u8>) -> bool {
    if r.unparsed_uri.first() != Some(&b'/')
        && let Some(shown) = without_password(&r.unparsed_uri)
    {
        let mut line = r.method_name.to_vec();
        line.push(b' ');
        line.extend_from_slice(&shown);
        if !r.assbackwards {
            line.push(b' ');
            line.extend_from_slice(&r.protocol);
        }
        return text(out, &line);
    }
    text(out, &r.the_request)
}

/// `http://user:password@host/` with the password covered, where there is one.
fn without_password(uri: &[u8]) -> Option<Vec<u8>> {
    let start = uri.windows(3).position(|w| w == b"://")? + 3;
    let authority = &uri[start..];
    let authority =
        &authority[..authority.iter().position(|c| b"/?#".contains(c)).unwrap_or(authority.len())];
    let at = authority.iter().rposition(|&c| c == b'@')?;
    let colon = authority[..at].iter().position(|&c| c == b':')?;
    let mut shown = uri[..start + colon + 1].to_vec();
    shown.extend_from_slice(b"XXXXXXXX");
    shown.extend_from_slice(&uri[start + at..]);
    Some(shown)
}

/// The value of a cookie, as lenient as Apache: names in any case, white space around names and values.
fn cookie(r: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(cookies) = r.headers_in.get("Cookie") else { return false };
    find_cookie(cookies, name).is_some_and(|value| text(out, value))
}

fn find_cookie<'c>(cookies: &'c [u8], name: &[u8]) -> Option<&'c [u8]> {
    cookies.split(|&c| c == b';').find_map(|cookie| {
        let start = cookie.iter().position(|&c| c != b'=')?;
        let cookie = &cookie[start..];
        let equals = cookie.iter().position(|&c| c == b'=')?;
        let (found, value) = (&cookie[..equals], &cookie[equals + 1..]);
        (!value.is_empty() && found.trim_ascii().eq_ignore_ascii_case(name)).then(|| value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies() {
        assert_eq!(find_cookie(b"one=1; two=\"2\"", b"TWO"), Some(&b"\"2\""[..]));
        assert_eq!(find_cookie(b"a = b = c ;d", b"a"), Some(&b"b = c"[..]));
        assert_eq!(find_cookie(b"a=; b", b"a"), None);
        assert_eq!(find_cookie(b"", b"a"), None);
    }

    #[test]
    fn passwords_are_covered() {
        assert_eq!(
            without_password(b"http://joe:secret@host/a@b").as_deref(),
            Some(&b"http://joe:XXXXXXXX@host/a@b"[..])
        );
        assert_eq!(without_password(b"http://host/a:b@c"), None);
    }

    #[test]
    fn forms_of_time() {
        assert!(
            matches!(Time::parse(b"begin:%Y"), Time { end: false, form: TimeForm::Custom(f) } if f.as_bytes() == b"%Y")
        );
        assert!(matches!(Time::parse(b"end"), Time { end: true, form: TimeForm::Clf }));
        assert!(matches!(Time::parse(b"end:msec_frac"), Time { end: true, form: TimeForm::MillisFraction }));
        assert!(
            matches!(Time::parse(b"ending"), Time { end: false, form: TimeForm::Custom(f) } if f.as_bytes() == b"ending")
        );
        let mut out = Vec::new();
        padded(&mut out, 42, 6);
        assert_eq!(out, b"000042");
    }
}
