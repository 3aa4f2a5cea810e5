//! The reply of a backend: its head step by step, and what the client gets of it (`ap_proxy_http_process_response`).

use std::io;
use std::sync::atomic::Ordering;

use super::NAME;
use super::content::{Content, Framing, read};
use super::exchange::{Exchange, Stage, Step, failed, hang_up, timed_out};
use super::reply::{Fields, Line, log_unreadable, next_line, read_fields, status_line};
use super::warning::clean_warnings;
use crate::body;
use crate::http::chunked::Decoder;
use crate::http::head::strict_length;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror, shown};
use crate::modules::proxy::mod_proxy::DIR;
use crate::modules::proxy::mod_proxy::connect;
use crate::modules::proxy::mod_proxy::errors::proxyerror;
use crate::modules::proxy::mod_proxy::header;
use crate::modules::proxy::mod_proxy::pool::Peer;
use crate::modules::proxy::mod_proxy::tunnel::Tunnel;
use crate::modules::proxy::mod_proxy::worker::RESPONSE_FIELD_SIZE;
use crate::request::{Answer, ProxyReq, Request};

use Step::Next;

/// So many interim replies are too many (`AP_MAX_INTERIM_RESPONSES`).
const MOST_INTERIM: u32 = 10;
/// Fields of a reply that belong to the connection.
const HOP_BY_HOP: [&str; 5] = ["Keep-Alive", "Proxy-Authenticate", "TE", "Trailer", "Upgrade"];

/// The status line of a reply.
#[derive(Default)]
pub(super) struct Head {
    pub(super) major: u8,
    minor: u8,
    code: Status,
    line: String,
    /// A field was read.
    begun: bool,
    /// `Set-Cookie` of modules, from before.
    cookies: Vec<Vec<u8>>,
}

impl Exchange {
    /// Reads more of the head. `Ok(false)`: nothing came.
    fn more(&mut self) -> io::Result<bool> {
        let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else { return Ok(false) };
        if self.ended {
            return Ok(false);
        }
        match read(conn)? {
            Some(0) => self.ended = true,
            Some(_) => self.until = None,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn wait_reply(&mut self, r: &Request, stage: Stage) -> Step {
        let ping = self.worker().params.ping.filter(|_| self.awaits_100);
        let timeout = ping.unwrap_or_else(|| connect::timeout(r, self.worker()));
        self.wait_for_backend(stage, timeout)
    }

    fn field_size(&self) -> usize {
        self.worker().params.response_field_size.unwrap_or(RESPONSE_FIELD_SIZE)
    }

    pub(super) fn status_line(&mut self, r: &mut Request) -> Step {
        let most = self.field_size();
        loop {
            let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
                return failed(status::INTERNAL_SERVER_ERROR);
            };
            let line = match next_line(conn, most, false, self.ended) {
                // One stray empty line is taken.
                Line::Some(line) if line.is_empty() && !self.skipped => {
                    self.skipped = true;
                    continue;
                }
                Line::Some(line) if line.is_empty() => return self.no_status_line(r, None),
                Line::Some(line) | Line::TooLong(line) => line,
                Line::NotYet if self.ended => {
                    return self.no_status_line(r, Some(io::Error::from_raw_os_error(20014)));
                }
                Line::NotYet => match self.more() {
                    Ok(true) => continue,
                    Ok(false) if self.is_late() => return self.reply_late(r),
                    Ok(false) => return self.wait_reply(r, Stage::StatusLine),
                    Err(err) => return self.no_status_line(r, Some(err)),
                },
            };
            return self.begin_reply(r, line, most);
        }
    }

    fn begin_reply(&mut self, r: &mut Request, line: Vec<u8>, most: usize) -> Step {
        self.worker().score().read.fetch_add(line.len() as u64, Ordering::Relaxed);
        self.status_before = if self.interim == 0 { r.status } else { self.status_before };
        let Some((major, minor, rest)) = status_line(&line) else {
            // HTTP/0.9: all of it is content.
            self.head = Head { code: status::OK, ..Head::default() };
            r.status = status::OK;
            r.status_line = Some("200 OK".to_owned());
            self.close = true;
            self.begun_body = line;
            return self.final_head(r);
        };
        if major != 1 || line.len() >= most - 1 {
            let text = [b"Corrupt status line returned by remote server: ", &line[..]].concat();
            return failed(proxyerror(r, status::BAD_GATEWAY, &text));
        }
        let code = rest[..3].iter().fold(0, |code, digit| code * 10 + Status::from(digit - b'0'));
        let mut text = shown(rest).into_owned();
        if rest.len() == 3 {
            text.push(' ');
        }
        r.notes.set("proxy-status", &rest[..3]);
        r.status = code;
        r.status_line = Some(text.clone());
        rerror!(r, Level::Trace3, NAME, "", "Status from backend: {code}");
        let cookies = r.headers_out.iter_all("Set-Cookie").map(<[u8]>::to_vec).collect();
        r.headers_out.clear();
        self.head = Head { major, minor, code, line: text, begun: false, cookies };
        rerror!(r, Level::Trace4, NAME, "", "Headers received from backend:");
        Next(Stage::Fields)
    }

    /// Nothing came in time.
    fn reply_late(&mut self, r: &mut Request) -> Step {
        self.log_no_status_line(r, Some(timed_out()));
        r.notes.set("proxy_timedout", "1");
        rerror!(r, Level::Debug, NAME, "AH01103", "read timeout");
        if self.awaits_100 {
            return failed(proxyerror(r, status::SERVICE_UNAVAILABLE, b"Timeout on 100-Continue"));
        }
        self.log_not_closing(r);
        failed(proxyerror(r, status::BAD_GATEWAY, b"Error reading from remote server"))
    }

    fn log_not_closing(&self, r: &Request) {
        if r.keepalives == 0 {
            let Peer { hostname, port, .. } = &self.peer;
            let text = format!(
                "NOT Closing connection to client although reading from backend server {hostname}:{port} failed."
            );
            rerror!(r, Level::Debug, NAME, "AH01105", "{text}");
        }
    }

    fn log_no_status_line(&self, r: &Request, err: Option<io::Error>) {
        let Peer { hostname, port, .. } = &self.peer;
        let text = format!("error reading status line from remote server {hostname}:{port}");
        match err {
            Some(err) => rerror!(r, Level::Error, NAME, "AH01102", err = err, "{text}"),
            None => rerror!(r, Level::Error, NAME, "AH01102", "{text}"),
        }
    }

    /// The backend closed, or said nothing.
    fn no_status_line(&mut self, r: &mut Request, err: Option<io::Error>) -> Step {
        self.log_no_status_line(r, err);
        if r.proxyreq == Some(ProxyReq::Reverse) && r.keepalives > 0 {
            let Peer { hostname, port, .. } = &self.peer;
            let text = format!(
                "Closing connection to client because reading from backend server {hostname}:{port} failed. Number of keepalives {}",
                r.keepalives
            );
            rerror!(r, Level::Debug, NAME, "AH01104", "{text}");
            r.no_cache = true;
            // A client whose connection was good for a request before asks again.
            return Step::Answer(hang_up(r));
        }
        self.log_not_closing(r);
        failed(proxyerror(r, status::BAD_GATEWAY, b"Error reading from remote server"))
    }

    pub(super) fn fields(&mut self, r: &mut Request) -> Step {
        let most = self.field_size();
        loop {
            let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
                return failed(status::INTERNAL_SERVER_ERROR);
            };
            let fields = read_fields(r, conn, most, self.ended, &mut self.head.begun);
            match fields {
                Fields::Done => return self.head_is_read(r),
                Fields::Bad => return self.bad_head(r),
                Fields::NotYet => match self.more() {
                    Ok(true) => {}
                    Ok(false) if self.is_late() => {
                        log_unreadable(r, timed_out());
                        return self.bad_head(r);
                    }
                    Ok(false) => return self.wait_reply(r, Stage::Fields),
                    Err(err) => {
                        log_unreadable(r, err);
                        return self.bad_head(r);
                    }
                },
            }
        }
    }

    fn bad_head(&mut self, r: &mut Request) -> Step {
        let Head { major, minor, .. } = self.head;
        let method = shown(&r.method_name).into_owned();
        let text = format!("bad HTTP/{major}.{minor} header returned by {} ({method})", shown(&r.uri));
        rerror!(r, Level::Warn, NAME, "AH01106", "{text}");
        r.headers_out.clear();
        r.status = status::BAD_GATEWAY;
        r.status_line = Some("bad gateway".to_owned());
        failed(status::BAD_GATEWAY)
    }

    /// All fields are there: those of the connection go, ours come.
    fn head_is_read(&mut self, r: &mut Request) -> Step {
        if !self.head.cookies.is_empty() || r.headers_out.contains("Set-Cookie") {
            let new: Vec<Vec<u8>> = r.headers_out.iter_all("Set-Cookie").map(<[u8]>::to_vec).collect();
            r.headers_out.unset("Set-Cookie");
            for cookie in self.head.cookies.drain(..).chain(new) {
                r.headers_out.add("Set-Cookie", cookie);
            }
        }
        let te = r.headers_out.get("Transfer-Encoding").map(<[u8]>::to_vec);
        if te.is_some() && r.headers_out.unset("Content-Length") {
            let Peer { hostname, port, .. } = &self.peer;
            let text = format!("server {hostname}:{port} returned Transfer-Encoding and Content-Length");
            rerror!(r, Level::Debug, NAME, "AH01107", "{text}");
            self.close = true;
        }
        let upgrade = r.headers_out.get("Upgrade").map(<[u8]>::to_vec);
        let code = self.head.code;
        if code == status::SWITCHING_PROTOCOLS {
            let agreed = match (&upgrade, &self.upgrade) {
                (Some(said), Some(asked)) => said.eq_ignore_ascii_case(asked),
                _ => false,
            };
            if !agreed {
                let name = |name: &Option<Vec<u8>>| name.as_deref().unwrap_or(b"n/a").to_vec();
                let text = [
                    &b"Unexpected Upgrade: "[..],
                    &name(&upgrade),
                    b" (expecting ",
                    &name(&self.upgrade),
                    b")",
                ];
                return failed(proxyerror(r, status::BAD_GATEWAY, &text.concat()));
            }
            self.close = true;
        }
        let to_close = header::clear_connection(&mut r.headers_out);
        self.close |= to_close;
        if let Some(media_type) = r.headers_out.get("Content-Type") {
            let media_type = shown(media_type).into_owned();
            r.set_content_type(media_type);
        }
        for name in HOP_BY_HOP {
            r.headers_out.unset(name);
        }
        if r.headers_out.contains("Warning") {
            clean_warnings(&mut r.headers_out);
        }
        if let Some(via) = header::via(r) {
            r.headers_out.add("Via", via);
        }
        if self.head.minor < 1 {
            self.close = true;
        } else if let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) {
            conn.keepalives += 1;
        }
        if status::is_info(code) {
            self.forward_interim(r, upgrade.as_deref());
            self.interim += 1;
        }
        let is_interim = status::is_info(code);
        if self.awaits_100 && (!is_interim || code == status::CONTINUE) {
            let sends = code == status::CONTINUE || !to_close && self.head.minor > 0;
            let (no, not) =
                (if code == status::CONTINUE { "" } else { "no " }, if sends { "" } else { "not " });
            let Head { major, minor, line, .. } = &self.head;
            let backend = &self.backend;
            rerror!(
                r,
                Level::Debug,
                NAME,
                "AH10153",
                "HTTP: {no}100 continue sent by {backend}: {not}sending body (response: HTTP/{major}.{minor} {line})"
            );
            self.awaits_100 = false;
            if sends {
                r.expecting_100 &= code != status::CONTINUE;
                // The client sends its body only when it is told to.
                self.resumes = true;
                self.upgrade_agreed = upgrade;
                self.te = te;
                return Next(Stage::Send);
            }
        }
        self.upgrade_agreed = upgrade;
        self.te = te;
        self.final_head(r)
    }

    /// An interim reply is passed on, as `proxy-interim-response` says.
    fn forward_interim(&mut self, r: &mut Request, upgrade: Option<&[u8]>) {
        let code = self.head.code;
        let switching = code == status::SWITCHING_PROTOCOLS;
        let policy = r.subprocess_env.get("proxy-interim-response").filter(|_| !switching);
        let is = |word: &[u8]| policy.is_some_and(|policy| policy.eq_ignore_ascii_case(word));
        let text = policy.map_or("n/a".into(), shown).into_owned();
        let (rfc, suppress) = (is(b"RFC"), is(b"Suppress"));
        let sends = policy.is_none() || rfc;
        rerror!(r, Level::Trace2, NAME, "", "HTTP: received interim {code} response (policy: {text})");
        if !sends && !suppress {
            rerror!(r, Level::Warn, NAME, "AH01108", "undefined proxy interim response policy");
        }
        if rfc && code == status::CONTINUE {
            r.expecting_100 = true;
        }
        if sends {
            if let Some(upgrade) = upgrade.filter(|_| switching) {
                r.headers_out.set("Connection", "Upgrade");
                r.headers_out.set("Upgrade", upgrade);
            }
            send_interim(r, code, &self.head.line);
        }
    }

    /// The reply as the client gets it; of an interim one, what follows it.
    pub(super) fn final_head(&mut self, r: &mut Request) -> Step {
        let code = self.head.code;
        let (upgrade, te) = (self.upgrade_agreed.take(), self.te.take());
        if code == status::SWITCHING_PROTOCOLS {
            return self.tunnel(r, upgrade);
        }
        if status::is_info(code) {
            if self.interim >= MOST_INTERIM {
                let text = format!("Too many ({}) interim responses from origin server", self.interim);
                return failed(proxyerror(r, status::BAD_GATEWAY, text.as_bytes()));
            }
            self.skipped = false;
            return Next(Stage::StatusLine);
        }
        self.interim = 0;
        let headless = r.header_only || matches!(code, status::NO_CONTENT | status::NOT_MODIFIED);
        let framing = self.framing(r, te.as_deref());
        let reusable = !self.close && self.worker().keeps_connections();
        let timeout = connect::timeout(r, self.worker());
        let Some(mut lease) = self.lease.take() else { return failed(status::INTERNAL_SERVER_ERROR) };
        if let Some(conn) = &mut lease.conn {
            conn.output = std::mem::take(&mut self.out);
        }
        let overrides = r.dir(&DIR).should_override(code);
        if overrides {
            if code == status::UNAUTHORIZED {
                match r.headers_out.get("WWW-Authenticate").map(<[u8]>::to_vec) {
                    Some(asks) => r.err_headers_out.set("WWW-Authenticate", asks),
                    None => rerror!(
                        r,
                        Level::Debug,
                        NAME,
                        "AH01109",
                        "origin server sent 401 without WWW-Authenticate header"
                    ),
                }
            }
            r.status = status::OK;
            r.notes.set("proxy-error-override", "1");
            let framing = if r.header_only || status::is_header_only(code) {
                Some(Framing::Length(0))
            } else {
                framing
            };
            return match framing {
                // The connection goes only for what can be read to its end.
                Some(framing) => {
                    let content = Content::new(lease, framing, Vec::new(), false, timeout);
                    Next(Stage::Discard(Box::new(content), code))
                }
                None => failed(code),
            };
        }
        if let Some(upgrade) = upgrade {
            let default = (self.scheme == "ws").then_some("WebSocket");
            if self.worker().can_upgrade(&upgrade, default) {
                r.headers_out.set("Connection", "Upgrade");
                r.headers_out.set("Upgrade", upgrade);
            }
        }
        if headless {
            if reusable {
                lease.release();
            }
            return Step::Answer(Answer::Body(body::Content::Empty));
        }
        r.headers_out.unset("Transfer-Encoding");
        if r.dir(&DIR).should_override(self.status_before) {
            // An error's page that comes from a backend keeps the error.
            r.status = self.status_before;
            r.status_line = None;
        }
        let Some(framing) = framing else {
            rerror!(
                r,
                Level::Error,
                NAME,
                "AH01110",
                err = io::Error::from_raw_os_error(20014),
                "error reading response"
            );
            (r.no_cache, r.length_unknown) = (true, true);
            return failed(status::BAD_GATEWAY);
        };
        let mut content =
            Content::new(lease, framing, std::mem::take(&mut self.begun_body), reusable, timeout);
        if let Some(whole) = content.whole() {
            return Step::Answer(Answer::Body(body::Content::Bytes(whole)));
        }
        if content.fails_at_once(r) {
            return failed(status::BAD_GATEWAY);
        }
        let content =
            if content.is_over() { body::Content::Empty } else { body::Content::Stream(Box::new(content)) };
        Step::Answer(Answer::Body(content))
    }

    /// How the content ends; `None`: its length is none.
    fn framing(&self, r: &Request, te: Option<&[u8]>) -> Option<Framing> {
        if let Some(te) = te {
            if te.eq_ignore_ascii_case(b"chunked") {
                return Some(Framing::Chunked(Box::new(Decoder::new())));
            }
            let te = shown(te);
            let text = format!("Unknown Transfer-Encoding: {te}; using read-until-close");
            rerror!(r, Level::Info, "http", "AH02555", "{text}");
            return Some(Framing::UntilClose);
        }
        match r.headers_out.get("Content-Length") {
            None => Some(Framing::UntilClose),
            Some(length) => match strict_length(length) {
                Some(length) => Some(Framing::Length(length)),
                None => {
                    let text = format!("Invalid Content-Length value '{}'", shown(length));
                    rerror!(r, Level::Info, "http", "AH01587", "{text}");
                    None
                }
            },
        }
    }

    fn tunnel(&mut self, r: &mut Request, upgrade: Option<Vec<u8>>) -> Step {
        let protocol = shown(&upgrade.unwrap_or_default()).into_owned();
        rerror!(r, Level::Debug, NAME, "AH10239", "HTTP: tunneling protocol {protocol}");
        let timeout = connect::timeout(r, self.worker());
        let Some(mut conn) = self.lease.as_mut().and_then(|lease| lease.conn.take()) else {
            return failed(status::INTERNAL_SERVER_ERROR);
        };
        conn.output.clear();
        Next(Stage::Tunnel(Box::new(Tunnel::new(r, conn, protocol, timeout))))
    }
}

/// Sends an interim reply with what is in `r.headers_out`, to clients that know such (`ap_send_interim_response`).
fn send_interim(r: &mut Request, code: Status, line: &str) {
    if r.proto_num < 1001 {
        return;
    }
    if code == status::CONTINUE && !std::mem::take(&mut r.expecting_100) {
        return;
    }
    let mut out = b"HTTP/1.1 ".to_vec();
    out.extend_from_slice(&httpd_conf::to_bytes(line));
    out.extend_from_slice(b"\r\n");
    for (name, value) in r.headers_out.iter() {
        out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
    r.headers_out.clear();
    if let Some(wire) = r.input.wire.as_deref_mut() {
        wire.push_bytes(&out);
        // What can't be sent now goes before what follows.
        _ = wire.flush();
    }
}
