//! The head of a request: request line, header fields, and what they say about the body.
//!
//! Answers to `ap_read_request`, `ap_parse_request_line` and `ap_get_mime_headers_core` of `server/protocol.c`.
//! A whole head in one read goes through httparse; whatever that refuses, or is not complete yet, is read line by
//! line in Apache's order, so that the first error is Apache's. Host and Expect are checked by `host.rs`, once
//! the head is complete. Differs from Apache in that an overlong line is refused as soon as it is too long, where
//! Apache waits for its end or 8192 bytes.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::fields::{self, BadFields, ENOSPC, FieldReader, Level, Line, LogLine};
use super::host::LastHost;
use super::method::{Method, MethodRegistry};
use super::request_line;
use super::status::{self, Status};
use super::uri::Uri;
use crate::table::{Table, find_last_token};

/// What the configuration of the connection's server says about reading requests.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// `LimitRequestLine`
    pub limit_request_line: usize,
    /// `LimitRequestFields`; 0 is no limit.
    pub limit_request_fields: usize,
    /// `LimitRequestFieldSize`
    pub limit_request_fieldsize: usize,
    /// `HttpProtocolOptions Strict` (else `Unsafe`)
    pub strict: bool,
    /// `HttpProtocolOptions Allow0.9` (else `Require1.0`)
    pub allow09: bool,
    /// `HttpProtocolOptions RegisteredMethods` (else `LenientMethods`)
    pub registered_methods: bool,
    /// The scheme of the connection, `http` or `https` (`ap_http_scheme`).
    pub scheme: &'a str,
    /// The methods with a number.
    pub methods: &'a MethodRegistry,
}

static BUILTIN_METHODS: MethodRegistry = MethodRegistry::new();

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            limit_request_line: 8190,
            limit_request_fields: 100,
            limit_request_fieldsize: 8190,
            strict: true,
            allow09: true,
            registered_methods: false,
            scheme: "http",
            methods: &BUILTIN_METHODS,
        }
    }
}

/// How the body of a request is framed (RFC 9112 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding.
    #[default]
    None,
    /// Content-Length, which may be 0.
    Length(u64),
    /// Transfer-Encoding that ends in `chunked`.
    Chunked,
}

/// A request that is answered with an error before any hook of it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    pub status: Status,
    /// The `error-notes` of the error page.
    pub notes: Option<&'static str>,
    /// What follows in the connection is not to be read (`die_unusable_input`): reply and close.
    pub unusable_input: bool,
}

/// Why no more bytes of a head will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Eof,
    /// The same where mod_reqtimeout watches the head.
    WatchedEof,
    Timeout,
}

/// What to do about a head that ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// Close without a reply. After a timeout Apache logs the transaction with this status if it was the
    /// connection's first request.
    Close(Option<Status>),
    /// Reply and close.
    Reply(Failed),
}

/// What `Head::parse` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete.
    NeedMore,
    /// The head is complete and took this many bytes.
    Complete(usize),
    /// The request is refused.
    Failed(Failed),
}

/// A request's head. The memory is reused by [`Head::clear`] and the next request.
#[derive(Debug, Default)]
pub struct Head {
    /// `r->the_request`
    pub(super) line: Vec<u8>,
    pub(super) method_range: Option<Range<usize>>,
    pub(super) uri_range: Range<usize>,
    /// `r->protocol`
    pub protocol: [u8; 8],
    /// `r->method_number`
    pub method: Option<Method>,
    /// HEAD
    pub header_only: bool,
    /// An HTTP/0.9 request, whose reply has no head (`r->assbackwards`).
    pub assbackwards: bool,
    /// The version as major * 1000 + minor (`r->proto_num`): 1001 is HTTP/1.1.
    pub version: u16,
    pub(super) uri: Uri,
    /// `r->uri` is `uri_range`, as the target could not be parsed.
    pub(super) uri_unparsable: bool,
    /// The body's framing.
    pub framing: Framing,
    /// Close the connection after the reply, whatever else is said (`conn->keepalive = AP_CONN_CLOSE`).
    pub close: bool,
    /// The client waits for `100 Continue`.
    pub expecting_100: bool,
    pub(super) hostname: Vec<u8>,
    pub(super) has_hostname: bool,
    pub(super) host_port: Option<u16>,
    pub(super) last_host: LastHost,
    /// What Apache would write to the error log about this head, in order; nearly always empty.
    pub log: Vec<LogLine>,
    stage: Stage,
    reader: FieldReader,
    blank_lines: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing was looked at.
    #[default]
    Fresh,
    RequestLine,
    Fields,
}

/// Empty lines read in front of a request line (`DEFAULT_LIMIT_BLANK_LINES`).
pub const LIMIT_BLANK_LINES: usize = 10;
/// The header fields that the fast path has room for.
const FAST_FIELDS: usize = 64;

impl Head {
    /// A head without memory.
    pub fn new() -> Head {
        Head::default()
    }

    /// Ready for the next request; keeps the memory.
    pub fn clear(&mut self) {
        self.line.clear();
        self.method_range = None;
        self.uri_range = 0..0;
        self.protocol = [0; 8];
        self.method = None;
        self.header_only = false;
        self.assbackwards = false;
        self.version = 0;
        self.uri = Uri::default();
        self.uri_unparsable = false;
        self.framing = Framing::None;
        self.close = false;
        self.expecting_100 = false;
        self.hostname.clear();
        self.has_hostname = false;
        self.host_port = None;
        self.log.clear();
        self.stage = Stage::Fresh;
        self.reader.clear();
        self.blank_lines = 0;
    }

    /// Reads on. `buf` starts at the first byte that belongs to this request, at every call; `headers_in` is
    /// empty at the first call and is filled. What earlier calls looked at is not looked at again.
    pub fn parse(&mut self, buf: &[u8], headers_in: &mut Table, options: &Options<'_>) -> Parsed {
        if self.stage == Stage::Fresh {
            if buf.is_empty() {
                return Parsed::NeedMore;
            }
            self.stage = Stage::RequestLine;
            if let Some((consumed, repeated)) = self.parse_whole(buf, headers_in, options) {
                // Only joined fields can have become too long.
                let joined =
                    if repeated { fields::finish(headers_in, options, &mut self.log) } else { Ok(()) };
                let framed =
                    joined.map_err(|bad| self.bad_fields(bad)).and_then(|()| self.find_framing(headers_in));
                return match framed {
                    Ok(()) => Parsed::Complete(consumed),
                    Err(failed) => Parsed::Failed(failed),
                };
            }
        }
        match self.parse_lines(buf, headers_in, options) {
            Ok(true) => Parsed::Complete(self.reader.lines.start),
            Ok(false) => Parsed::NeedMore,
            Err(failed) => Parsed::Failed(failed),
        }
    }

    /// No more bytes will come, though the head in `buf` is not complete.
    pub fn ended(&mut self, why: Ended, buf: &[u8]) -> Unfinished {
        if self.stage != Stage::Fields {
            return Unfinished::Close((why == Ended::Timeout).then_some(status::REQUEST_TIME_OUT));
        }
        let bad = match why {
            Ended::Timeout => BadFields { status: status::REQUEST_TIME_OUT, notes: None },
            Ended::Eof => self.reader.end(buf, false, &mut self.log),
            Ended::WatchedEof => self.reader.end(buf, true, &mut self.log),
        };
        Unfinished::Reply(self.bad_fields(bad))
    }

    /// The head's parts in one go, if it is all there and nothing about it is unusual. Gives its length, and whether
    /// fields may be repeated.
    fn parse_whole(
        &mut self,
        buf: &[u8],
        headers_in: &mut Table,
        options: &Options<'_>,
    ) -> Option<(usize, bool)> {
        if !options.strict || !buf.first().is_some_and(u8::is_ascii_uppercase) {
            return None;
        }
        let mut fields = [const { MaybeUninit::uninit() }; FAST_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(consumed)) = request.parse_with_uninit_headers(buf, &mut fields)
        else {
            return None;
        };
        let limit = options.limit_request_fieldsize;
        let unlimited = options.limit_request_fields == 0;
        if !buf[..consumed].ends_with(b"\r\n\r\n")
            || (!unlimited && request.headers.len() > options.limit_request_fields)
        {
            return None;
        }
        let mut line_end = None;
        let mut field_start = 0;
        for field in request.headers.iter() {
            let start = (field.name.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
            // httparse takes a bare LF, Apache does not.
            if buf.get(start.wrapping_sub(2)..start) != Some(b"\r\n") {
                return None;
            }
            match line_end {
                None => line_end = Some(start - 2),
                Some(_) if start - 2 - field_start > limit => return None,
                Some(_) => {}
            }
            field_start = start;
        }
        // With fields, one CRLF ends the last of them and one the head.
        let line_end = match line_end {
            Some(_) if consumed - 4 - field_start > limit => return None,
            Some(end) => end,
            None => consumed - 4,
        };
        let line = &buf[..line_end];
        if line.len() > options.limit_request_line {
            return None;
        }
        self.fast_request_line(line, &request, options)?;
        let fields = request.headers.iter().map(|f| (f.name.as_bytes(), f.value));
        let repeated = headers_in.load(&buf[line_end..consumed], fields);
        Some((consumed, repeated))
    }

    /// Accepts a request line of which httparse found the parts, if only single spaces are between them.
    fn fast_request_line(
        &mut self,
        line: &[u8],
        request: &httparse::Request<'_, '_>,
        options: &Options<'_>,
    ) -> Option<()> {
        let (method, path) = (request.method?, request.path?);
        let version = match request.version? {
            0 => b"HTTP/1.0",
            _ => b"HTTP/1.1",
        };
        // "/x", of an origin-form without fragment and without control characters, is all that needs no care.
        let uri_start = method.len() + 1;
        if uri_start + path.len() + 9 != line.len() || !line.ends_with(version) {
            return None;
        }
        let path = path.as_bytes();
        if path.first() != Some(&b'/')
            || path.get(1) == Some(&b'/')
            || path.iter().any(|&c| c == b'#' || c == 0x7f)
        {
            return None;
        }
        let number = options.methods.number_of(method.as_bytes());
        if number == Method::CONNECT || (number == Method::INVALID && options.registered_methods) {
            return None;
        }
        self.line.extend_from_slice(line);
        self.method_range = Some(0..method.len());
        self.uri_range = uri_start..uri_start + path.len();
        self.method = Some(number);
        self.header_only = method == "HEAD";
        self.protocol = *version;
        self.version = if version[7] == b'0' { 1000 } else { 1001 };
        let end = self.uri_range.end;
        match path.iter().position(|&c| c == b'?') {
            Some(mark) => {
                self.uri.path = Some(uri_start..uri_start + mark);
                self.uri.query = Some(uri_start + mark + 1..end);
            }
            None => self.uri.path = Some(uri_start..end),
        }
        Some(())
    }

    /// Reads line by line, from where the last call stopped; says whether the head is complete.
    fn parse_lines(
        &mut self,
        buf: &[u8],
        headers_in: &mut Table,
        options: &Options<'_>,
    ) -> Result<bool, Failed> {
        while self.stage == Stage::RequestLine {
            let line = match self.reader.lines.next(buf, options.limit_request_line, options.strict) {
                Line::More => return Ok(false),
                Line::Bad(error, line) => return Err(self.bad_request_line(error, line, options)),
                Line::Complete(line) => line,
            };
            if line.is_empty() && self.blank_lines < LIMIT_BLANK_LINES {
                self.blank_lines += 1;
                continue;
            }
            request_line::parse(self, line, options)?;
            if self.assbackwards {
                return Ok(true);
            }
            self.stage = Stage::Fields;
        }
        let read = self.reader.read(buf, headers_in, options, &mut self.log);
        if !read.map_err(|bad| self.bad_fields(bad))? {
            return Ok(false);
        }
        self.find_framing(headers_in)?;
        Ok(true)
    }

    /// A request line that cannot even be taken apart.
    fn bad_request_line(&mut self, error: i32, line: &[u8], options: &Options<'_>) -> Failed {
        let line = fields::up_to_nul(line, &mut self.log);
        self.line.clear();
        self.line.extend_from_slice(line);
        self.version = 1000;
        self.protocol = *b"HTTP/1.0";
        if error != ENOSPC {
            self.log_line(Level::Debug, 566, 0, &[b"request failed: malformed request line"]);
            return Failed { status: status::BAD_REQUEST, notes: None, unusable_input: true };
        }
        let limit = options.limit_request_line.to_string();
        let text = "request failed: client's request-line exceeds LimitRequestLine (longer than ";
        self.log_line(Level::Info, 565, 0, &[text.as_bytes(), limit.as_bytes(), b")"]);
        Failed { status: status::REQUEST_URI_TOO_LARGE, notes: None, unusable_input: true }
    }

    fn find_framing(&mut self, headers_in: &mut Table) -> Result<(), Failed> {
        let unusable = Failed { status: status::BAD_REQUEST, notes: None, unusable_input: true };
        let mut has_length = false;
        if let Some(length) = headers_in.get("Content-Length") {
            has_length = true;
            let Some(n) = strict_length(length) else {
                let uri = self.path().to_vec();
                let text = b"client sent invalid Content-Length (";
                self.log_line(Level::Debug, 10242, 0, &[text, length, b"): ", &uri]);
                return Err(unusable);
            };
            self.framing = Framing::Length(n);
        }
        if let Some(coding) = headers_in.get("Transfer-Encoding") {
            if !is_chunked(coding) {
                let uri = self.path().to_vec();
                let text = b"client sent unknown Transfer-Encoding (";
                self.log_line(Level::Debug, 2539, 0, &[text, coding, b"): ", &uri]);
                return Err(unusable);
            }
            self.framing = Framing::Chunked;
            if has_length {
                // RFC 9112 6.3: Transfer-Encoding wins, and the connection is not to be trusted further.
                headers_in.unset("Content-Length");
                self.close = true;
            }
        }
        Ok(())
    }

    fn bad_fields(&mut self, bad: BadFields) -> Failed {
        self.log_line(Level::Debug, 567, 0, &[b"request failed: error reading the headers"]);
        Failed { status: bad.status, notes: bad.notes, unusable_input: true }
    }

    pub(super) fn log_line(&mut self, level: Level, ah: u32, error: i32, text: &[&[u8]]) {
        self.log.push(LogLine::new(level, ah, error, text));
    }
}

/// The request's text.
impl Head {
    /// `r->the_request`: the request line with single spaces, or what there was of an unreadable one.
    pub fn the_request(&self) -> &[u8] {
        &self.line
    }

    /// `r->method`; `None` when there was no readable request line.
    pub fn method_token(&self) -> Option<&[u8]> {
        self.method_range.clone().map(|r| self.slice(&r))
    }

    /// `r->unparsed_uri`
    pub fn unparsed_uri(&self) -> &[u8] {
        self.slice(&self.uri_range)
    }

    /// `r->parsed_uri`, whose ranges are of [`Head::the_request`].
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A part of [`Head::uri`].
    pub fn part<'a>(&'a self, part: &Option<Range<usize>>) -> Option<&'a [u8]> {
        part.as_ref().map(|r| self.slice(r))
    }

    /// `r->uri` as it is before any translation: the path, still escaped.
    pub fn path(&self) -> &[u8] {
        if self.uri_unparsable {
            return self.slice(&self.uri_range);
        }
        match &self.uri.path {
            Some(path) => self.slice(path),
            None if self.method_range.is_none() => b"",
            None if self.method == Some(Method::OPTIONS) => b"*",
            None => b"/",
        }
    }

    /// `r->args`: what follows the first `?`.
    pub fn args(&self) -> Option<&[u8]> {
        if self.uri_unparsable { None } else { self.part(&self.uri.query) }
    }

    /// Whether the target names a scheme other than http and https, which only a forward proxy takes.
    pub fn has_foreign_scheme(&self) -> bool {
        self.part(&self.uri.scheme)
            .is_some_and(|s| !s.eq_ignore_ascii_case(b"http") && !s.eq_ignore_ascii_case(b"https"))
    }

    fn slice(&self, r: &Range<usize>) -> &[u8] {
        self.line.get(r.clone()).unwrap_or_default()
    }
}

/// `ap_parse_strict_length`: digits only, and no more than an `apr_off_t` holds.
pub fn strict_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut n: i64 = 0;
    for c in text {
        let digit = c.is_ascii_digit().then(|| i64::from(c - b'0'))?;
        n = n.checked_mul(10)?.checked_add(digit)?;
    }
    u64::try_from(n).ok()
}

/// Whether a Transfer-Encoding ends in `chunked` (`ap_is_chunked`).
pub fn is_chunked(coding: &[u8]) -> bool {
    if coding.eq_ignore_ascii_case(b"chunked") {
        return true;
    }
    if !find_last_token(coding, "chunked") {
        return false;
    }
    let before = &coding[..coding.len() - b"chunked".len()];
    match before.iter().rposition(|&c| c != b' ') {
        Some(0) | None => matches!(before.first(), Some(b',' | b' ')),
        Some(i) => before[i] == b',',
    }
}
