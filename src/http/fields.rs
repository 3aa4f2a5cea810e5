//! Header fields, of a request's head or of the trailers of a chunked body: `ap_rgetline_core` and
//! `ap_get_mime_headers_core` of `server/protocol.c`.

use super::head::Options;
use super::status::{self, Status};
use crate::table::{Overlap, Table, is_token_char};

/// A level of the error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Warning,
    Info,
    Debug,
}

/// Whose a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// core, about a request.
    Core,
    /// http, about a request.
    Http,
    /// core, about nobody's in particular.
    Server,
}

/// A line for the error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub origin: Origin,
    pub level: Level,
    /// The number behind `AH`; 0 where the line has none.
    pub ah: u32,
    /// The `apr_status_t` that the line shows in front of its text; 0 is none.
    pub error: i32,
    pub text: Vec<u8>,
}

impl LogLine {
    /// A line whose text is the parts joined.
    pub fn new(level: Level, ah: u32, error: i32, text: &[&[u8]]) -> LogLine {
        LogLine { origin: Origin::Core, level, ah, error, text: text.concat() }
    }

    /// The same, of another origin.
    pub fn of(self, origin: Origin) -> LogLine {
        LogLine { origin, ..self }
    }
}

/// `EINVAL`
pub const EINVAL: i32 = 22;
/// `ENOSPC`
pub const ENOSPC: i32 = 28;
/// `APR_EGENERAL`
pub const APR_EGENERAL: i32 = 20014;
/// `APR_EOF`
pub const APR_EOF: i32 = 70014;

const FIELD_TOO_LARGE: &str = "Size of a request header field exceeds server limit.";
const TOO_MANY_FIELDS: &str = "The number of request header fields exceeds this server's limit.";

/// Finds lines in a buffer that grows, looking at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the current line starts.
    pub(super) start: usize,
    scanned: usize,
}

/// What [`Lines::next`] found.
pub(super) enum Line<'a> {
    More,
    /// A line without its end, and where the next one starts.
    Complete(&'a [u8]),
    /// A line that is refused with this error, as far as Apache would have it in hand; [`up_to_nul`] is what it uses.
    Bad(i32, &'a [u8]),
}

impl Lines {
    pub(super) fn next<'a>(&mut self, buf: &'a [u8], limit: usize, strict: bool) -> Line<'a> {
        let rest = buf.get(self.start..).unwrap_or_default();
        let from = self.scanned.saturating_sub(self.start).min(rest.len());
        // CRLF counts as one byte, as Apache reads it.
        let too_long = |line: &[u8]| line.len() > limit.saturating_add(1);
        let cut = |line: &'a [u8]| &line[..line.len().min(limit.saturating_add(1))];
        let Some(end) = rest[from..].iter().position(|&c| c == b'\n').map(|i| from + i) else {
            self.scanned = buf.len();
            // Its last byte may yet be a CR.
            return if rest.len() > limit.saturating_add(2) {
                Line::Bad(ENOSPC, cut(rest))
            } else {
                Line::More
            };
        };
        let line = match rest[..end].strip_suffix(b"\r") {
            Some(line) => line,
            None if strict && too_long(&rest[..end]) => return Line::Bad(ENOSPC, cut(rest)),
            // RFC 9112 2.2 lets a recipient take a bare LF; Strict does not.
            None if strict => return Line::Bad(EINVAL, &rest[..=end]),
            None => &rest[..end],
        };
        if too_long(line) {
            return Line::Bad(ENOSPC, cut(line));
        }
        if line.contains(&0) {
            return Line::Bad(EINVAL, line);
        }
        self.start += end + 1;
        self.scanned = self.start;
        Line::Complete(line)
    }

    /// The buffer lost this many bytes at its front.
    pub(super) fn shift(&mut self, n: usize) {
        self.start = self.start.saturating_sub(n);
        self.scanned = self.scanned.saturating_sub(n);
    }
}

/// Fields that are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadFields {
    pub(super) status: Status,
    pub(super) notes: Option<&'static str>,
}

const BAD_FIELDS: BadFields = BadFields { status: status::BAD_REQUEST, notes: None };

/// Reads fields line by line up to the empty line.
#[derive(Debug, Default)]
pub(super) struct FieldReader {
    pub(super) lines: Lines,
    fields: usize,
    /// The field that folded lines may still be added to.
    last: Vec<u8>,
    has_last: bool,
}

impl FieldReader {
    pub(super) fn clear(&mut self) {
        let mut last = std::mem::take(&mut self.last);
        last.clear();
        *self = FieldReader { last, ..FieldReader::default() };
    }

    /// Reads on; says whether the empty line was reached, which `lines.start` is then behind.
    pub(super) fn read(
        &mut self,
        buf: &[u8],
        fields: &mut Table,
        options: &Options<'_>,
        log: &mut Vec<LogLine>,
    ) -> Result<bool, BadFields> {
        loop {
            match self.lines.next(buf, options.limit_request_fieldsize, options.strict) {
                Line::More => return Ok(false),
                Line::Bad(error, line) => return Err(bad_line(error, line, log)),
                Line::Complete(line) => {
                    if self.line(line, fields, options, log)? {
                        finish(fields, options, log)?;
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// The end of the connection is all that follows. mod_reqtimeout holds back a line that isn't whole.
    pub(super) fn end(&self, buf: &[u8], held_back: bool, log: &mut Vec<LogLine>) -> BadFields {
        let line = buf.get(self.lines.start..).unwrap_or_default();
        let (error, line) = match line {
            _ if held_back => (APR_EOF, &b"(null)"[..]),
            [] => (APR_EGENERAL, &b"(null)"[..]),
            line => (APR_EOF, line),
        };
        log.push(LogLine::new(Level::Debug, 0, error, &[b"Failed to read request header line ", line]));
        BAD_FIELDS
    }

    /// Takes one line; says whether it was the empty one.
    fn line(
        &mut self,
        line: &[u8],
        fields: &mut Table,
        options: &Options<'_>,
        log: &mut Vec<LogLine>,
    ) -> Result<bool, BadFields> {
        let line = trim_end(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return self.folded(line, options, log).map(|()| false);
        }
        if self.has_last {
            self.fields += 1;
            if options.limit_request_fields != 0 && self.fields > options.limit_request_fields {
                let text = b"Number of request headers exceeds LimitRequestFields";
                log.push(LogLine::new(Level::Info, 563, 0, &[text]));
                return Err(BadFields { notes: Some(TOO_MANY_FIELDS), ..BAD_FIELDS });
            }
            let split = if options.strict { strict_field } else { unsafe_field };
            let (name, value) = split(&self.last).map_err(|l| {
                log.push(l);
                BAD_FIELDS
            })?;
            fields.add(name, value);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.last.clear();
        self.last.extend_from_slice(line);
        self.has_last = true;
        Ok(false)
    }

    /// RFC 9112 5.2: an obs-fold is one space.
    fn folded(
        &mut self,
        line: &[u8],
        options: &Options<'_>,
        log: &mut Vec<LogLine>,
    ) -> Result<(), BadFields> {
        if !self.has_last {
            log.push(bad_field(3442, &[b"Line folding encountered before first header line"]));
            return Err(BAD_FIELDS);
        }
        if line.len() == 1 {
            log.push(bad_field(3443, &[b"Empty folded line encountered"]));
            return Err(BAD_FIELDS);
        }
        let more = trim_start(line);
        if self.last.len() + more.len() + 2 >= options.limit_request_fieldsize {
            let text = b"Request header exceeds LimitRequestFieldSize after folding: ";
            log.push(LogLine::new(Level::Info, 562, 0, &[text, clip_name(&self.last)]));
            return Err(BadFields { notes: Some(FIELD_TOO_LARGE), ..BAD_FIELDS });
        }
        self.last.push(b' ');
        self.last.extend_from_slice(more);
        Ok(())
    }
}

/// Joins repeated fields (RFC 9110 5.3) and looks at the lengths once more.
pub(super) fn finish(
    fields: &mut Table,
    options: &Options<'_>,
    log: &mut Vec<LogLine>,
) -> Result<(), BadFields> {
    fields.compress(Overlap::Merge);
    let Some((name, _)) = fields.iter().find(|(_, value)| value.len() > options.limit_request_fieldsize)
    else {
        return Ok(());
    };
    let text = b"Request header exceeds LimitRequestFieldSize after merging: ";
    log.push(LogLine::new(Level::Info, 560, 0, &[text, clip(name)]));
    Err(BadFields { notes: Some(FIELD_TOO_LARGE), ..BAD_FIELDS })
}

/// A line ends at a NUL; where there is one all of it is shown in the log, sixteen bytes a line (`ap_log_data`).
pub(super) fn up_to_nul<'a>(line: &'a [u8], log: &mut Vec<LogLine>) -> &'a [u8] {
    let Some(nul) = line.iter().position(|&c| c == 0) else { return line };
    let mut push = |text: String| {
        log.push(LogLine::new(Level::Debug, 0, 0, &[text.as_bytes()]).of(Origin::Server));
    };
    push(format!("NULL bytes in header ({} bytes)", line.len()));
    for bytes in line.chunks(16) {
        let is_shown = |c: u8| (c.is_ascii_graphic() || c == b' ') && c != b'\\';
        let text: String = bytes.iter().map(|&c| if is_shown(c) { char::from(c) } else { '.' }).collect();
        let hex: String = bytes.iter().map(|c| format!("{c:02x}")).collect();
        push(format!("{text:<17}{hex:<32}"));
    }
    &line[..nul]
}

fn bad_line(error: i32, line: &[u8], log: &mut Vec<LogLine>) -> BadFields {
    let line = up_to_nul(line, log);
    log.push(LogLine::new(Level::Debug, 0, error, &[b"Failed to read request header line ", line]));
    if error != ENOSPC {
        return BAD_FIELDS;
    }
    let colon: &[u8] = if line.is_empty() { b"" } else { b": " };
    let text = b"Request header exceeds LimitRequestFieldSize";
    log.push(LogLine::new(Level::Info, 561, 0, &[text, colon, clip_name(line)]));
    BadFields { notes: Some(FIELD_TOO_LARGE), ..BAD_FIELDS }
}

fn bad_field(ah: u32, text: &[&[u8]]) -> LogLine {
    LogLine::new(Level::Debug, ah, 0, text)
}

fn strict_field(field: &[u8]) -> Result<(&[u8], &[u8]), LogLine> {
    let colon = field.iter().position(|&c| !is_token_char(c)).unwrap_or(field.len());
    if colon == 0 || field.get(colon) != Some(&b':') {
        return Err(bad_field(2426, &[b"Request header field name is malformed: ", clip(field)]));
    }
    let value = trim_start(&field[colon + 1..]);
    if value.iter().any(|&c| is_ctl(c)) {
        return Err(bad_field(2427, &[b"Request header value is malformed: ", clip(value)]));
    }
    Ok((&field[..colon], value))
}

fn unsafe_field(field: &[u8]) -> Result<(&[u8], &[u8]), LogLine> {
    let Some(colon) = field.iter().position(|&c| c == b':') else {
        return Err(bad_field(564, &[b"Request header field is missing ':' separator: ", clip(field)]));
    };
    if colon == 0 {
        return Err(bad_field(3453, &[b"Request header field name was empty"]));
    }
    if field[..colon].iter().any(|&c| is_space(c)) {
        return Err(bad_field(3452, &[b"Request header field name presented invalid whitespace"]));
    }
    let value = trim_start(&field[colon + 1..]);
    if value.iter().any(|c| matches!(c, b'\n' | 0x0b | 0x0c | b'\r')) {
        return Err(bad_field(3451, &[b"Request header field value presented bad whitespace"]));
    }
    Ok((&field[..colon], value))
}

const LOG_NAME_MAX_LEN: usize = 80;

fn clip(text: &[u8]) -> &[u8] {
    &text[..text.len().min(LOG_NAME_MAX_LEN)]
}

/// What the log shows of a field: its name, and no more than 80 bytes (`field_name_len`).
pub(super) fn clip_name(field: &[u8]) -> &[u8] {
    match field.iter().position(|&c| c == b':') {
        Some(colon) if colon <= LOG_NAME_MAX_LEN => &field[..colon],
        _ => clip(field),
    }
}

/// `apr_isspace`
pub(super) fn is_space(c: u8) -> bool {
    c == b' ' || (b'\t'..=b'\r').contains(&c)
}

/// A control character other than HTAB.
pub(super) fn is_ctl(c: u8) -> bool {
    (c < b' ' && c != b'\t') || c == 0x7f
}

fn trim_start(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|c| !matches!(c, b' ' | b'\t')).unwrap_or(value.len());
    &value[start..]
}

/// Without trailing blanks, but never less than one byte.
fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|c| !matches!(c, b' ' | b'\t')).map_or(1, |i| i + 1);
    &line[..end.min(line.len())]
}
