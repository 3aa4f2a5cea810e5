//! The head of a request as a backend gets it, and the fields that end at each server between.
//!
//! Answers to `ap_proxy_create_hdrbrgd` and `ap_proxy_clear_connection`. Where Apache copies the table, changes the copy and
//! writes it, the fields are written as they are met, in the same order.

use super::conf::Via;
use super::{DIR, SERVER};
use crate::http::uri::Uri;
use crate::log::{Level, rerror};
use crate::request::{ProxyReq, Request};
use crate::table::{Table, find_token};

/// The names that `Connection` lists; each field of such a name belongs to the one connection.
fn connection_words(headers: &Table) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    for value in headers.iter_all("Connection") {
        words.extend(
            value
                .split(|c| matches!(c, b',' | b';'))
                .map(|word| word.trim_ascii().to_vec())
                .filter(|word| !word.is_empty()),
        );
    }
    words
}

/// Takes off what `Connection` names, and itself; whether it says `close` (`ap_proxy_clear_connection`).
pub fn clear_connection(headers: &mut Table) -> bool {
    headers.unset("Proxy-Connection");
    if !headers.contains("Connection") {
        return false;
    }
    let words = connection_words(headers);
    headers.unset("Connection");
    for word in &words {
        headers.unset(word);
    }
    words.iter().any(|word| word.eq_ignore_ascii_case(b"close"))
}

/// `Via` as this server adds it, for a request or its reply.
pub fn via(r: &Request) -> Option<Vec<u8>> {
    let mode = r.server_conf(&SERVER).via.unwrap_or_default();
    if matches!(mode, Via::Off | Via::Block) {
        return None;
    }
    let name = r.server_name();
    // What the client called us is the backend's name as likely as ours.
    let asked_for = r.hostname.as_ref().is_some_and(|host| std::ptr::eq(host.as_ptr(), name.as_ptr()));
    let name = if asked_for { r.server.name().as_bytes() } else { name };
    let mut via = format!("{}.{} ", r.proto_num / 1000, r.proto_num % 1000).into_bytes();
    via.extend_from_slice(name);
    let port = r.server_port();
    if port != r.default_port() {
        via.extend_from_slice(format!(":{port}").as_bytes());
    }
    if mode == Via::Full {
        via.extend_from_slice(format!(" (Apache/{})", crate::modules::core::tokens::VERSION).as_bytes());
    }
    Some(via)
}

/// What a request is to say to a backend.
pub struct RequestHead<'a> {
    /// The backend's URL and its parts.
    pub url: &'a [u8],
    /// See above.
    pub uri: &'a Uri,
    /// The request's target: path and query, or for a remote proxy the whole URL.
    pub target: &'a [u8],
    /// It is sent as HTTP/1.0.
    pub force10: bool,
    /// It waits for `100 Continue`.
    pub expects_100: bool,
}

/// A field that is merged with what the client sent, or added behind it.
struct Added<'v> {
    name: &'static str,
    value: std::borrow::Cow<'v, [u8]>,
    done: bool,
}

/// Appends the head, but for the fields about its body and its connection, to `out`.
pub fn write(r: &Request, head: &RequestHead<'_>, out: &mut Vec<u8>) {
    let dir = r.dir(&DIR);
    let conf = r.server_conf(&SERVER);
    out.extend_from_slice(&r.method_name);
    out.push(b' ');
    out.extend_from_slice(head.target);
    out.extend_from_slice(if head.force10 { b" HTTP/1.0\r\nHost: " } else { b" HTTP/1.1\r\nHost: " });
    let saved_host = r.headers_in.get("Host");
    if dir.preserve_host == Some(true) {
        match saved_host {
            Some(host) => out.extend_from_slice(host),
            None => {
                let host = r.server.name();
                rerror!(
                    r,
                    Level::Warn,
                    "proxy",
                    "AH01092",
                    "no HTTP 0.9 request (with no host line) on incoming request and preserve host set forcing hostname to be {host} for uri {}",
                    r.uri
                );
                out.extend_from_slice(host.as_bytes());
            }
        }
    } else {
        let host = head.uri.hostname.clone().map_or(&b""[..], |range| &head.url[range]);
        let bracketed = host.contains(&b':');
        if bracketed {
            out.push(b'[');
        }
        out.extend_from_slice(host);
        if bracketed {
            out.push(b']');
        }
        if let Some(port) = head.uri.port_str.clone().filter(|_| head.uri.port != 80) {
            out.push(b':');
            out.extend_from_slice(&head.url[port]);
        }
    }
    out.extend_from_slice(b"\r\n");

    let mut added: Vec<Added<'_>> = Vec::with_capacity(6);
    let mut add = |name, value| added.push(Added { name, value, done: false });
    if let Some(via) = via(r) {
        add("Via", via.into());
    }
    if head.expects_100 {
        let expect = r.headers_in.get("Expect");
        if !expect.is_some_and(|expect| find_token(expect, "100-continue")) {
            add("Expect", b"100-Continue"[..].into());
        }
    }
    if dir.add_headers != Some(false) && r.proxyreq == Some(ProxyReq::Reverse) {
        add("X-Forwarded-For", r.useragent_ip().as_bytes().into());
        if let Some(host) = saved_host {
            add("X-Forwarded-Host", host.into());
        }
        add("X-Forwarded-Server", r.server.name().as_bytes().into());
    }
    let credentials = r.notes.get("proxy-basic-creds");
    if let Some(credentials) = credentials {
        add("Proxy-Authorization", credentials.into());
    }

    let words =
        if r.headers_in.contains("Connection") { connection_words(&r.headers_in) } else { Vec::new() };
    let keeps_credentials = r.user.is_none() || r.subprocess_env.contains("Proxy-Chain-Auth");
    let is_dropped = |name: &[u8]| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let dropped = match name.len() {
            2 => is("TE"),
            3 => is("Via") && conf.via == Some(Via::Block),
            4 => is("Host"),
            6 => is("Expect") && !head.expects_100,
            7 => is("Upgrade") || is("Trailer"),
            8 => r.is_subrequest && (is("If-Match") || is("If-Range")),
            10 => is("Connection") || is("Keep-Alive"),
            13 => is("If-None-Match") && r.is_subrequest,
            14 => is("Content-Length"),
            16 => is("Proxy-Connection"),
            17 => is("Transfer-Encoding") || is("If-Modified-Since") && r.is_subrequest,
            19 => {
                is("Proxy-Authorization") && !keeps_credentials
                    || is("If-Unmodified-Since") && r.is_subrequest
            }
            _ => false,
        };
        dropped || words.iter().any(|word| word.eq_ignore_ascii_case(name))
    };
    for (name, value) in r.headers_in.iter() {
        if is_dropped(name) {
            continue;
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        let more =
            added.iter_mut().find(|more| !more.done && name.eq_ignore_ascii_case(more.name.as_bytes()));
        if let Some(more) = more {
            more.done = true;
            out.extend_from_slice(b", ");
            out.extend_from_slice(&more.value);
        }
        out.extend_from_slice(b"\r\n");
    }
    for more in added.iter().filter(|more| !more.done) {
        out.extend_from_slice(more.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(&more.value);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let mut headers = Table::new();
        headers.add("Connection", "X-One; close");
        headers.add("connection", "x-two ,");
        for name in ["X-One", "X-Two", "X-Three", "Proxy-Connection"] {
            headers.add(name, "1");
        }
        assert!(clear_connection(&mut headers));
        let left: Vec<_> = headers.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(left, [b"X-Three".to_vec()]);
    }
}
