//! URLs of backends in their canonical form.
//!
//! Answers to `ap_proxy_canonenc_ex`, `ap_proxy_canon_netloc`, `ap_proxy_canon_url` and `ap_proxy_interpolate`.

use crate::http::host::parse_addr_port;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::request::{ProxyReq, Request, Step};

/// The characters of a path that need no escape.
const PATH: &[u8] = b"~$-_.+!*'(),;:@&=";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A path with every character escaped that must be. `keep_slashes`: a slash that is escaped already stays so
/// (`PROXY_CANONENC_NOENCODEDSLASHENCODING`). `None`: one of its escapes is none.
pub fn canonenc_path(path: &[u8], keep_slashes: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len() + 16);
    let mut at = 0;
    while let Some(&c) = path.get(at) {
        at += 1;
        if c == b'/' || c.is_ascii_alphanumeric() || PATH.contains(&c) {
            out.push(c);
            continue;
        }
        if c == b'%' && keep_slashes {
            let digits = path.get(at..at + 2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            if digits.eq_ignore_ascii_case(b"2f") {
                out.push(b'%');
                out.extend_from_slice(digits);
                at += 2;
                continue;
            }
        }
        out.extend_from_slice(&[b'%', HEX[usize::from(c >> 4)], HEX[usize::from(c & 15)]]);
    }
    Some(out)
}

/// Host in lower case, port, and the path behind its first slash, of what stands behind a scheme's colon.
pub fn canon_netloc(url: &[u8]) -> Result<(Vec<u8>, Option<u16>, &[u8]), &'static str> {
    let Some(rest) = url.strip_prefix(b"//") else { return Err("Malformed URL") };
    let (mut host, path) = match rest.iter().position(|&c| c == b'/') {
        Some(slash) => (&rest[..slash], &rest[slash + 1..]),
        None => (rest, &rest[rest.len()..]),
    };
    if let Some(sign) = host.iter().rposition(|&c| c == b'@') {
        host = &host[sign + 1..];
    }
    match parse_addr_port(host) {
        Some((host, port)) if !host.is_empty() => Ok((host.to_ascii_lowercase(), port, path)),
        _ => Err("Invalid host/port"),
    }
}

/// The request's URL in its scheme's canonical form (`ap_proxy_canon_url`).
pub(super) fn canon_url(r: &mut Request) -> Step {
    if r.proxyreq.is_none() || !r.filename.starts_with(b"proxy:") {
        return Step::Declined;
    }
    if r.proxyreq == Some(ProxyReq::Reverse)
        && let Err(code) = split_socket(r)
    {
        return Step::Status(code);
    }
    let url = r.filename[6..].to_vec();
    let runtime = r.runtime.clone();
    for canon in runtime.hooks.canon_handler.iter() {
        match canon(r, &url) {
            Step::Declined => {}
            other => return other,
        }
    }
    match url.iter().position(|&c| c == b':') {
        None | Some(0) => Step::Status(status::BAD_REQUEST),
        Some(_) => Step::Ok,
    }
}

/// Takes the `unix:/path|` off the request's URL: the socket becomes a note (`fixup_uds_filename`).
fn split_socket(r: &mut Request) -> Result<(), u16> {
    let url = &r.filename[6..];
    let is_unix = url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"unix:"));
    let bar = url.iter().position(|&c| c == b'|').filter(|_| is_unix);
    let Some(bar) = bar else {
        r.notes.unset("uds_path");
        return Ok(());
    };
    let (path, target) = (url[5..bar].to_vec(), url[bar + 1..].to_vec());
    let Some(colon) = target.iter().position(|&c| c == b':').filter(|_| !path.is_empty()) else {
        rerror!(r, Level::Error, "proxy", "AH10292", "Invalid proxy UDS filename ({})", r.filename);
        r.notes.unset("uds_path");
        return Err(status::BAD_REQUEST);
    };
    let scheme = &target[..colon];
    let behind = &target[colon + 1..];
    let mut filename = b"proxy:".to_vec();
    match behind {
        [] => filename.extend_from_slice(&[&target, &b"//localhost"[..]].concat()),
        [b'/', b'/'] => filename.extend_from_slice(&[&target, &b"localhost"[..]].concat()),
        [b'/', b'/', b'/', ..] => {
            filename.extend_from_slice(&[scheme, b"://localhost", &behind[2..]].concat());
        }
        [b'/', b'/', ..] => filename.extend_from_slice(&target),
        [b'/', ..] => filename.extend_from_slice(&[scheme, b"://localhost", behind].concat()),
        _ => filename.extend_from_slice(&target),
    }
    let path = match path.first() {
        Some(b'/') => path,
        _ => [r.runtime.runtime_dir.as_bytes(), b"/", &path].concat(),
    };
    r.notes.set("uds_path", path);
    r.filename = filename.into();
    Ok(())
}

/// Puts variables in place of `${name}` (`ap_proxy_interpolate`); of one that isn't set, nothing.
pub fn interpolate(r: &Request, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(len) = rest[start + 2..].find('}') else { break };
        out += &rest[..start];
        let name = &rest[start + 2..start + 2 + len];
        if let Some(value) = r.subprocess_env.get(name) {
            out += &httpd_conf::from_bytes(value);
        }
        rest = &rest[start + 3 + len..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(canonenc_path(b"a b/%c", false).as_deref(), Some(&b"a%20b/%25c"[..]));
        assert_eq!(canonenc_path(b"a%2fb%2Fc", true).as_deref(), Some(&b"a%2fb%2Fc"[..]));
        assert_eq!(canonenc_path(b"a%41", true).as_deref(), Some(&b"a%2541"[..]));
        assert_eq!(canonenc_path(b"a%", true), None);
    }

    #[test]
    fn hosts() {
        assert_eq!(canon_netloc(b"//U:p@Host:81/x"), Ok((b"host".to_vec(), Some(81), &b"x"[..])));
        assert_eq!(canon_netloc(b"//h"), Ok((b"h".to_vec(), None, &b""[..])));
        assert_eq!(canon_netloc(b"/h"), Err("Malformed URL"));
        assert_eq!(canon_netloc(b"//:80/"), Err("Invalid host/port"));
    }
}
