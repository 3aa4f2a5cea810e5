//! The head that a script, or a file, gives its own reply.
//!
//! Answers to `ap_scan_script_header_err_core_ex` of `server/util_script.c`.

use bstr::ByteSlice;

use super::Request;
use crate::http::date;
use crate::http::escape::escape_html;
use crate::http::method::Method;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::table::{Overlap, Table};

/// A line with more bytes is cut in two (`MAX_STRING_LEN`).
pub const LONGEST_LINE: usize = 8192 - 2;

/// What is read of a head.
pub enum Line {
    /// A line, with its end or without.
    Text(Vec<u8>),
    /// The last line, whose end is missing: as good as none.
    Rest(Vec<u8>),
    /// There is no more.
    End,
    /// It did not come in time.
    TimedOut,
}

/// Takes header lines from `line` until an empty one, and puts what they say into the request. `Err`: the status to end with.
/// With `last`, which then holds the last line that was read, what follows a line that is none is left unread.
pub fn scan(
    r: &mut Request,
    module: &'static str,
    mut last: Option<&mut Vec<u8>>,
    line: &mut dyn FnMut() -> Line,
) -> Result<(), Status> {
    let name = r.filename.rsplit_str("/").next().unwrap_or_default().to_vec();
    let name = name.as_bstr();
    let mut merge = Table::new();
    let mut cookies = Table::new();
    for cookie in r.err_headers_out.iter_all("Set-Cookie") {
        cookies.add("Set-Cookie", cookie);
    }
    let mut has_status = false;
    let mut first = true;
    loop {
        let mut text = match line() {
            Line::Text(text) => text,
            Line::End | Line::Rest(_) => {
                let what = match first {
                    true => "End of script output before headers",
                    false => "Premature end of script headers",
                };
                to_client(r, module, &format!("{what}: {name}"));
                return Err(status::INTERNAL_SERVER_ERROR);
            }
            Line::TimedOut => {
                to_client(r, module, &format!("Script timed out before returning headers: {name}"));
                return Err(status::GATEWAY_TIME_OUT);
            }
        };
        if text.last() == Some(&b'\n') {
            text.pop();
            if text.last() == Some(&b'\r') {
                text.pop();
            }
        }
        if let Some(nul) = text.find_byte(0) {
            text.truncate(nul);
        }
        if let Some(last) = last.as_deref_mut() {
            last.clone_from(&text);
        }
        if text.is_empty() {
            let asks =
                !has_status && r.method == Method::GET && !r.no_local_copy && status::is_success(r.status);
            let met = if asks { r.conditions().meets() } else { None };
            r.err_headers_out.overlap(&merge, Overlap::Merge);
            if !cookies.is_empty() {
                r.err_headers_out.unset("Set-Cookie");
                r.err_headers_out = Table::overlay(&r.err_headers_out, &cookies);
            }
            return met.map_or(Ok(()), Err);
        }
        if r.log_enabled(module, Level::Trace4) {
            if first {
                rerror!(r, Level::Trace4, module, "", "Headers from script '{name}':");
            }
            rerror!(r, Level::Trace4, module, "", "  {}", text.as_bstr());
        }
        let Some(colon) = text.find_byte(b':') else {
            if last.is_none() {
                // Apache reads what is left into the same memory before it shows the line.
                text = loop {
                    match line() {
                        Line::Text(_) => {}
                        Line::Rest(rest) => break rest,
                        Line::End | Line::TimedOut => break Vec::new(),
                    }
                };
            }
            let shown = text[..text.len().min(30)].as_bstr();
            to_client(r, module, &format!("malformed header from script '{name}': Bad header: {shown}"));
            return Err(status::INTERNAL_SERVER_ERROR);
        };
        let is_space = |c: &u8| c.is_ascii_whitespace() || *c == 0x0b;
        let blanks = text[colon + 1..].iter().take_while(|c| is_space(c)).count();
        let (field, value) = (text[..colon].to_vec(), text[colon + 1 + blanks..].to_vec());
        match field.to_ascii_lowercase().as_slice() {
            b"content-type" => {
                let media_type = lower_type(value.trim_end());
                r.set_content_type(media_type.to_str_lossy().into_owned());
            }
            b"status" => {
                has_status = true;
                let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
                r.status = digits.to_str().ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
                let shown = value[..value.len().min(30)].as_bstr().to_string();
                if status::is_valid_response(r.status) && !r.log_enabled("core", Level::Trace1) {
                    // Only with the core's trace is it told.
                } else if status::is_valid_response(r.status) {
                    rerror!(r, Level::Trace1, module, "", "Status line from script '{name}': {shown}");
                } else {
                    to_client(r, module, &format!("Invalid status line from script '{name}': {shown}"));
                }
                r.status_line = Some(value.to_str_lossy().into_owned());
            }
            b"location" | b"content-length" | b"content-range" | b"transfer-encoding" | b"etag" => {
                r.headers_out.set(&field, &value);
            }
            b"last-modified" => match date::parse(&value) {
                Some(secs) => {
                    r.mtime = r.mtime.max(secs.saturating_mul(1_000_000));
                    r.set_last_modified();
                }
                None => rerror!(
                    r,
                    Level::Info,
                    module,
                    "AH10247",
                    "Ignored invalid header value: Last-Modified: '{}'",
                    value.as_bstr()
                ),
            },
            b"set-cookie" => cookies.add(&field, &value),
            _ => merge.add(&field, &value),
        }
        first = false;
    }
}

/// Logs an error that the error's page shows, too (`APLOG_TOCLIENT`).
fn to_client(r: &mut Request, module: &'static str, text: &str) {
    rerror!(r, Level::Error, module, "", "{text}");
    if !r.notes.contains("error-notes") {
        r.notes.set("error-notes", escape_html(text.as_bytes()));
    }
}

/// The type in lower case, its parameters as they are: `ap_content_type_tolower`.
pub fn lower_type(media_type: &[u8]) -> Vec<u8> {
    let end = media_type.find_byte(b';').unwrap_or(media_type.len());
    let mut out = media_type.to_vec();
    out[..end].make_ascii_lowercase();
    out
}
