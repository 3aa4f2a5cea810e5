//! Escaping and unescaping of URLs, HTML and log lines, as `server/util.c` does it.

use std::borrow::Cow;

use super::path::{hex_pair, is_unreserved};
use super::status::{self, Status};

/// What [`unescape_url`] leaves escaped or refuses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unescape<'a> {
    /// Bytes that may not be escaped: they are decoded, and the answer is 404.
    pub forbid: &'a [u8],
    /// Bytes whose escapes stay.
    pub reserved: &'a [u8],
    /// Escapes of RFC 3986's unreserved characters stay.
    pub keep_unreserved: bool,
}

impl Unescape<'static> {
    /// `AllowEncodedSlashes Off` (`ap_unescape_url`)
    pub const FORBID_SLASHES: Unescape<'static> =
        Unescape { forbid: b"/", reserved: b"", keep_unreserved: false };
    /// `AllowEncodedSlashes NoDecode`
    pub const KEEP_SLASHES: Unescape<'static> =
        Unescape { forbid: b"", reserved: b"/", keep_unreserved: false };
    /// `AllowEncodedSlashes On` (`ap_unescape_all`)
    pub const ALL: Unescape<'static> = Unescape { forbid: b"", reserved: b"", keep_unreserved: false };
    /// What a proxy must not touch stays (`ap_unescape_url_proxy`).
    pub const PROXY: Unescape<'static> = Unescape { forbid: b"", reserved: b"/;?", keep_unreserved: false };
}

/// Decodes `%xx` in place. Where that fails the status is 400 for an escape that is none and 404 for one of NUL
/// or of a forbidden byte; everything else is decoded nevertheless, and a NUL ends the text as it does in C.
pub fn unescape_url(url: &mut Vec<u8>, how: Unescape<'_>) -> Result<(), Status> {
    let Some(first) = url.iter().position(|&c| c == b'%') else { return Ok(()) };
    let (mut read, mut write) = (first, first);
    let (mut bad_escape, mut bad_path) = (false, false);
    while read < url.len() {
        let mut c = url[read];
        read += 1;
        if c == b'%' {
            match hex_pair(&url[read..]) {
                None => bad_escape = true,
                Some(decoded) => {
                    let bad = decoded == 0 || how.forbid.contains(&decoded);
                    bad_path |= bad;
                    let keep =
                        how.reserved.contains(&decoded) || (how.keep_unreserved && is_unreserved(decoded));
                    if bad || !keep {
                        c = decoded;
                        read += 2;
                    } else {
                        url[write] = c;
                        url[write + 1] = url[read];
                        write += 2;
                        c = url[read + 1];
                        read += 2;
                    }
                }
            }
        }
        url[write] = c;
        write += 1;
    }
    url.truncate(write);
    if bad_path && let Some(nul) = url.iter().position(|&c| c == 0) {
        url.truncate(nul);
    }
    if bad_escape {
        Err(status::BAD_REQUEST)
    } else if bad_path {
        Err(status::NOT_FOUND)
    } else {
        Ok(())
    }
}

/// Decodes `%xx` and `+`, as forms are encoded (`ap_unescape_urlencoded`).
pub fn unescape_urlencoded(query: &mut Vec<u8>) -> Result<(), Status> {
    for c in query.iter_mut().filter(|c| **c == b'+') {
        *c = b' ';
    }
    unescape_url(query, Unescape::ALL)
}

fn percent(out: &mut Vec<u8>, prefix: &[u8], c: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(prefix);
    out.push(HEX[usize::from(c >> 4)]);
    out.push(HEX[usize::from(c & 15)]);
}

/// The text unchanged if nothing in it needs escaping, else a copy of what came before and `escape` for the rest.
fn escaped<'a>(
    text: &'a [u8],
    special: impl Fn(u8) -> bool,
    mut escape: impl FnMut(&mut Vec<u8>, u8),
) -> Cow<'a, [u8]> {
    let Some(first) = text.iter().position(|&c| special(c)) else { return Cow::Borrowed(text) };
    let mut out = Vec::with_capacity(text.len() + 16);
    out.extend_from_slice(&text[..first]);
    for &c in &text[first..] {
        if special(c) { escape(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// One segment of a path (`ap_escape_path_segment`).
pub fn escape_path_segment(segment: &[u8]) -> Cow<'_, [u8]> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"$-_.+!*'(),:@&=~".contains(&c);
    escaped(segment, |c| !plain(c), |out, c| percent(out, b"%", c))
}

/// A path of the file system as URL path. Unless it is only a part of one, a relative path whose first segment
/// has a colon gets `./` in front, so that it does not look like a scheme (`ap_os_escape_path`; with `partial`
/// also `ap_escape_uri`).
pub fn os_escape_path(path: &[u8], partial: bool) -> Cow<'_, [u8]> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"$-_.+!*'(),:;@&=/~".contains(&c);
    let out = escaped(path, |c| !plain(c), |out, c| percent(out, b"%", c));
    let colon_first = path.iter().find(|c| matches!(c, b':' | b'/')) == Some(&b':');
    if !partial && colon_first { Cow::Owned([b"./", &*out].concat()) } else { out }
}

/// For a command line: what a shell would understand gets a backslash (`ap_escape_shell_cmd`).
pub fn escape_shell_cmd(text: &[u8]) -> Cow<'_, [u8]> {
    escaped(text, |c| b"&;`'\"|*?~<>^()[]{}$\\\n".contains(&c), |out, c| out.extend([b'\\', c]))
}

/// As forms are encoded (`ap_escape_urlencoded`).
pub fn escape_urlencoded(text: &[u8]) -> Cow<'_, [u8]> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-*_".contains(&c);
    escaped(text, |c| !plain(c), |out, c| if c == b' ' { out.push(b'+') } else { percent(out, b"%", c) })
}

/// `<`, `>`, `&` and `"` as entities (`ap_escape_html`).
pub fn escape_html(text: &[u8]) -> Cow<'_, [u8]> {
    escape_html2(text, false)
}

/// As [`escape_html`], and with `to_ascii` every byte beyond ASCII as a numeric entity (`ap_escape_html2`).
pub fn escape_html2(text: &[u8], to_ascii: bool) -> Cow<'_, [u8]> {
    let special = |c: u8| matches!(c, b'<' | b'>' | b'&' | b'"') || (to_ascii && !c.is_ascii());
    escaped(text, special, |out, c| match c {
        b'<' => out.extend_from_slice(b"&lt;"),
        b'>' => out.extend_from_slice(b"&gt;"),
        b'&' => out.extend_from_slice(b"&amp;"),
        b'"' => out.extend_from_slice(b"&quot;"),
        c => out.extend_from_slice(&[b'&', b'#', b'0' + c / 100, b'0' + c / 10 % 10, b'0' + c % 10, b';']),
    })
}

fn needs_log_escape(c: u8) -> bool {
    !(b' '..=b'~').contains(&c) || c == b'"' || c == b'\\'
}

fn log_escape(out: &mut Vec<u8>, c: u8) {
    let letter = match c {
        0x08 => b'b',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x0b => b'v',
        b'\\' | b'"' => c,
        _ => return percent(out, b"\\x", c),
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// For the access log: control and non-ASCII bytes, quotes and backslashes (`ap_escape_logitem`).
pub fn escape_logitem(text: &[u8]) -> Cow<'_, [u8]> {
    escaped(text, needs_log_escape, log_escape)
}

/// For the error log: as the access log, but quotes stay (`ap_escape_errorlog_item`).
pub fn escape_errorlog_item(text: &[u8]) -> Cow<'_, [u8]> {
    escaped(text, |c| c != b'"' && needs_log_escape(c), log_escape)
}

/// A backslash before each quote that has none (`ap_escape_quotes`).
pub fn escape_quotes(text: &[u8]) -> Cow<'_, [u8]> {
    let mut behind_backslash = false;
    let mut first = None;
    for (i, &c) in text.iter().enumerate() {
        if c == b'"' && !behind_backslash {
            first = Some(i);
            break;
        }
        behind_backslash = c == b'\\' && !behind_backslash;
    }
    let Some(first) = first else { return Cow::Borrowed(text) };
    let mut out = Vec::with_capacity(text.len() + 8);
    out.extend_from_slice(&text[..first]);
    behind_backslash = false;
    for &c in &text[first..] {
        if c == b'"' && !behind_backslash {
            out.push(b'\\');
        }
        out.push(c);
        behind_backslash = c == b'\\' && !behind_backslash;
    }
    Cow::Owned(out)
}

/// Whether the text starts with a scheme (`ap_is_url`).
pub fn is_url(text: &[u8]) -> bool {
    match text.iter().position(|c| !c.is_ascii_alphanumeric() && !matches!(c, b'+' | b'-' | b'.')) {
        Some(end) => end > 0 && text[end] == b':',
        None => false,
    }
}

/// `scheme://host[:port]uri`, with brackets for an IPv6 host and without the scheme's own port
/// (`ap_construct_url`).
pub fn construct_url(scheme: &str, host: &[u8], port: u16, uri: &[u8]) -> Vec<u8> {
    let mut url = Vec::with_capacity(scheme.len() + host.len() + uri.len() + 11);
    url.extend_from_slice(scheme.as_bytes());
    url.extend_from_slice(b"://");
    if host.contains(&b':') {
        url.push(b'[');
        url.extend_from_slice(host);
        url.push(b']');
    } else {
        url.extend_from_slice(host);
    }
    if super::uri::port_of_scheme(scheme.as_bytes()) != Some(port) {
        url.push(b':');
        url.extend_from_slice(port.to_string().as_bytes());
    }
    url.extend_from_slice(uri);
    url
}
