//! The request line, read with all of Apache's patience and in its order of complaints
//! (`ap_parse_request_line` and `ap_parse_uri` of `server/protocol.c`).

use super::fields::{Level, clip_name, is_space};
use super::head::{Failed, Head, Options};
use super::method::Method;
use super::status;
use crate::table::is_token_char;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deferred {
    BadMethod,
    BadWhitespace,
    ExcessWhitespace,
    MissingUri,
    BadUri,
    BadProtocol,
    TrailingText,
    BadMethod09,
    Reject09,
}

/// Where the parts of the line are; `trailing` is what follows the protocol.
#[derive(Default)]
struct Parts<'a> {
    method: &'a [u8],
    uri: &'a [u8],
    protocol: &'a [u8],
    trailing: &'a [u8],
    deferred: Option<Deferred>,
}

impl Parts<'_> {
    fn defer(&mut self, error: Deferred) {
        self.deferred.get_or_insert(error);
    }
}

/// Reads the line, which has neither its end nor a NUL in it, into `head`.
pub(super) fn parse(head: &mut Head, line: &[u8], options: &Options<'_>) -> Result<(), Failed> {
    let mut parts = split(line, options.strict);
    head.line.clear();
    head.line.extend_from_slice(parts.method);
    head.method_range = Some(0..parts.method.len());
    if !parts.uri.is_empty() {
        head.line.push(b' ');
        let start = head.line.len();
        head.line.extend_from_slice(parts.uri);
        head.uri_range = start..head.line.len();
        if !parts.protocol.is_empty() {
            head.line.push(b' ');
            head.line.extend_from_slice(parts.protocol);
        }
    }
    protocol(head, &mut parts, options);
    let method = options.methods.number_of(parts.method);
    head.method = Some(method);
    head.header_only = method == Method::GET && parts.method.first() == Some(&b'H');
    let uri_ok = target(head, method, options);
    if head.version == 9 && parts.deferred.is_none() {
        if !options.allow09 {
            parts.defer(Deferred::Reject09);
        } else if options.strict && (method != Method::GET || head.header_only) {
            parts.defer(Deferred::BadMethod09);
        }
    }
    if let Some(error) = parts.deferred {
        complain(head, error, &parts);
        return Err(fail(head));
    }
    if options.registered_methods && method == Method::INVALID {
        let text = b"HTTP Request Line; Unrecognized HTTP method: '";
        let rest = b"' (disallowed by RegisteredMethods)";
        head.log_line(Level::Debug, 2423, 0, &[text, clip_name(parts.method), rest]);
        return Err(Failed { status: status::NOT_IMPLEMENTED, notes: None, unusable_input: true });
    }
    if !uri_ok {
        let uri = clip_name(head.path()).to_vec();
        head.log_line(Level::Debug, 3450, 0, &[b"HTTP Request Line; Unable to parse URI: '", &uri, b"'"]);
        return Err(fail(head));
    }
    if options.strict && head.uri.fragment.is_some() {
        head.log_line(Level::Debug, 2421, 0, &[b"HTTP Request Line; URI must not contain a fragment"]);
        return Err(fail(head));
    }
    if options.strict && (head.uri.user.is_some() || head.uri.password.is_some()) {
        head.log_line(
            Level::Debug,
            2422,
            0,
            &[b"HTTP Request Line; URI must not contain a username/password"],
        );
        return Err(fail(head));
    }
    Ok(())
}

fn scan(text: &[u8], is: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&c| !is(c)).unwrap_or(text.len())
}

/// RFC 9112 3 knows one space between the parts; Apache looks at how else they are set apart.
fn split(line: &[u8], strict: bool) -> Parts<'_> {
    let mut parts = Parts::default();
    let blanks = scan(line, is_space);
    if blanks > 0 {
        parts.defer(Deferred::BadWhitespace);
    }
    let text = &line[blanks..];
    let mut end = if strict { scan(text, is_token_char) } else { scan(text, is_vchar_obstext) };
    let stuck = text.get(end).is_some_and(|&c| !is_space(c));
    if (end == 0 || stuck) && parts.deferred.is_none() {
        parts.defer(Deferred::BadMethod);
        match text[end..].iter().position(|&c| is_space(c)) {
            Some(i) => end += i,
            None => {
                parts.method = text;
                return parts;
            }
        }
    }
    parts.method = &text[..end];
    let rest = &text[end..];
    if strict && rest.len() > 1 && is_space(rest[1]) {
        parts.defer(Deferred::ExcessWhitespace);
    }
    let blanks = blanks_before(rest, &mut parts);
    // A method cut short by a byte that is no blank, after blanks in front of it: Apache overwrites that byte.
    let text = if blanks == 0 { &[][..] } else { &rest[blanks..] };
    if text.is_empty() {
        parts.defer(Deferred::MissingUri);
    }
    let mut end = scan(text, is_vchar_obstext);
    if end == 0 || text.get(end).is_some_and(|&c| !is_space(c)) {
        parts.deferred = Some(Deferred::BadUri);
        match text[end..].iter().position(|&c| is_space(c)) {
            Some(i) => end += i,
            None => {
                parts.uri = text;
                return parts;
            }
        }
    }
    parts.uri = &text[..end];
    let rest = &text[end..];
    if strict && rest.len() > 1 && is_space(rest[1]) {
        parts.defer(Deferred::ExcessWhitespace);
    }
    let blanks = blanks_before(rest, &mut parts);
    let text = &rest[blanks..];
    let end = scan(text, is_vchar_obstext);
    parts.protocol = &text[..end];
    let rest = &text[end..];
    parts.trailing = rest;
    if rest.first().is_some_and(|&c| !is_space(c)) {
        parts.deferred = Some(Deferred::BadProtocol);
    } else if strict && !rest.is_empty() {
        parts.deferred = Some(Deferred::ExcessWhitespace);
    } else {
        let blanks = blanks_before(rest, &mut parts);
        parts.trailing = &rest[blanks..];
        if !parts.trailing.is_empty() {
            parts.defer(Deferred::TrailingText);
        }
    }
    parts
}

/// Counts leading blanks and complains about those that are no space.
fn blanks_before(text: &[u8], parts: &mut Parts<'_>) -> usize {
    let blanks = scan(text, is_space);
    if text[..blanks].iter().any(|&c| c != b' ') {
        parts.defer(Deferred::BadWhitespace);
    }
    blanks
}

fn protocol(head: &mut Head, parts: &mut Parts<'_>, options: &Options<'_>) {
    head.protocol = *b"HTTP/0.9";
    head.version = 9;
    match parts.protocol {
        [name @ .., b'/', major @ b'1'..=b'9', b'.', minor @ b'0'..=b'9']
            if name.eq_ignore_ascii_case(b"HTTP") =>
        {
            head.version = u16::from(major - b'0') * 1000 + u16::from(minor - b'0');
            head.protocol = *b"HTTP/0.0";
            head.protocol[5] = *major;
            head.protocol[7] = *minor;
            if name != b"HTTP" && options.strict && parts.deferred.is_none() {
                head.protocol[..4].copy_from_slice(name);
                parts.defer(Deferred::BadProtocol);
            }
        }
        [] => head.assbackwards = true,
        _ => parts.defer(Deferred::BadProtocol),
    }
}

/// Parses the target; says whether it is one (RFC 9112 3.2).
fn target(head: &mut Head, method: Method, options: &Options<'_>) -> bool {
    let mut uri = std::mem::take(&mut head.uri);
    let text = &head.line[..head.uri_range.end];
    let mut from = head.uri_range.start.min(text.len());
    // A target is a path first: two slashes do not begin an authority here.
    while text[from..].starts_with(b"//") {
        from += 1;
    }
    let parsed =
        if method == Method::CONNECT { uri.parse_hostinfo(text, from) } else { uri.parse(text, from) };
    let path = uri.path.clone().map(|r| &text[r]);
    let path_ok = path.is_none_or(|p| p.starts_with(b"/") || (method == Method::OPTIONS && p == b"*"));
    if parsed.is_ok() {
        let own = uri.scheme.clone().is_some_and(|s| text[s].eq_ignore_ascii_case(options.scheme.as_bytes()));
        if let (true, Some(name)) = (own || method == Method::CONNECT, uri.hostname.clone()) {
            head.hostname.clear();
            head.hostname.extend_from_slice(&text[name]);
            head.has_hostname = true;
        }
    }
    head.uri_unparsable = parsed.is_err();
    head.uri = uri;
    parsed.is_ok() && path_ok
}

fn complain(head: &mut Head, error: Deferred, parts: &Parts<'_>) {
    let method = clip_name(parts.method);
    let (ah, text): (u32, Vec<&[u8]>) = match error {
        Deferred::BadMethod => (3445, vec![b"Invalid method token: '", method, b"'"]),
        Deferred::BadMethod09 => {
            (3444, vec![b"Invalid method token: '", method, b"' (only GET is allowed for HTTP/0.9 requests)"])
        }
        Deferred::MissingUri => (3446, vec![b"Missing URI"]),
        Deferred::BadUri => (3454, vec![b"URI incorrectly encoded: '", clip_name(parts.uri), b"'"]),
        Deferred::BadWhitespace => (3447, vec![b"Invalid whitespace"]),
        Deferred::ExcessWhitespace => {
            (3448, vec![b"Excess whitespace (disallowed by HttpProtocolOptions Strict)"])
        }
        Deferred::TrailingText => (
            3449,
            vec![
                b"Extraneous text found '",
                clip_name(parts.trailing),
                b"' (perhaps whitespace was injected?)",
            ],
        ),
        Deferred::Reject09 => (2401, vec![b"Rejected HTTP/0.9 request"]),
        Deferred::BadProtocol => (
            2418,
            vec![
                b"Unrecognized protocol '",
                clip_name(parts.protocol),
                b"' (perhaps whitespace was injected?)",
            ],
        ),
    };
    let text = text.concat();
    head.log_line(Level::Debug, ah, 0, &[b"HTTP Request Line; ", &text]);
}

/// Errors are told in the manner of HTTP/1, even to what may have been HTTP/0.9.
fn fail(head: &mut Head) -> Failed {
    if head.version == 9 {
        head.assbackwards = false;
        head.close = true;
        head.version = 1000;
        head.protocol = *b"HTTP/1.0";
    }
    Failed { status: status::BAD_REQUEST, notes: None, unusable_input: true }
}

fn is_vchar_obstext(c: u8) -> bool {
    c > b' ' && c != 0x7f
}
