//! Errors of ours about a backend: the page that says so, and the line in the log.

use bstr::ByteSlice;

use crate::http::escape::escape_html;
use crate::http::status::Status;
use crate::log::{Level, rerror, shown};
use crate::request::Request;

/// Ends the request with `code` and a page that gives `message` as the reason (`ap_proxyerror`).
pub fn proxyerror(r: &mut Request, code: Status, message: &[u8]) -> Status {
    proxyerror_with(r, code, message, None)
}

/// The same, with the system's error in the log (`proxyerror_core`).
pub fn proxyerror_with(
    r: &mut Request,
    code: Status,
    message: &[u8],
    error: Option<std::io::Error>,
) -> Status {
    match error {
        Some(err) => rerror!(
            r,
            Level::Error,
            "proxy",
            "AH00898",
            err = err,
            "{} returned by {}",
            shown(message),
            r.uri
        ),
        None => rerror!(r, Level::Error, "proxy", "AH00898", "{} returned by {}", shown(message), r.uri),
    }
    let mut notes = b"The proxy server could not handle the request<p>Reason: <strong>".to_vec();
    notes.extend_from_slice(&escape_html(message));
    notes.extend_from_slice(b"</strong></p>");
    r.notes.set("error-notes", notes.as_bytes());
    r.notes.set("verbose-error-to", "*");
    r.status_line = Some(format!("{code:03} Proxy Error"));
    code
}
