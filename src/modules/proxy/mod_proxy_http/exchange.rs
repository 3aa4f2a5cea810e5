//! One request and its reply, step by step: the steps of `proxy_http_handler`, each of which may have to wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bstr::ByteSlice;
use nix::sys::eventfd::EventFd;

use super::NAME;
use super::content::{Content, Framing, read};
use super::reply::{Fields, Line, log_unreadable, next_line, read_fields, status_line};
use super::sending::{Sending, Stop};
use crate::body::{self, Wait};
use crate::http::chunked::Decoder;
use crate::http::head::strict_length;
use crate::http::status::{self, Status};
use crate::http::uri::Uri;
use crate::log::{self, Level, rerror, shown};
use crate::modules::proxy::mod_proxy::DIR;
use crate::modules::proxy::mod_proxy::connect::{self, Addresses, Checked, Connecting, check};
use crate::modules::proxy::mod_proxy::errors::{proxyerror, proxyerror_with};
use crate::modules::proxy::mod_proxy::forward::is_blocked;
use crate::modules::proxy::mod_proxy::handler::Target;
use crate::modules::proxy::mod_proxy::header::{self, RequestHead};
use crate::modules::proxy::mod_proxy::pool::{self, Acquired, Lease, Peer};
use crate::modules::proxy::mod_proxy::state::flag;
use crate::modules::proxy::mod_proxy::tunnel::{Flow, Tunnel};
use crate::modules::proxy::mod_proxy::worker::{RESPONSE_FIELD_SIZE, Worker, proxy_port_of_scheme};
use crate::os::clock::{Millis, now_ms, unix_micros};
use crate::request::ongoing::Ongoing;
use crate::request::{Answer, ProxyReq, Request};
use crate::table::Table;

/// So many interim replies are too many (`AP_MAX_INTERIM_RESPONSES`).
const MOST_INTERIM: u32 = 10;
/// Fields of a reply that belong to the connection.
const HOP_BY_HOP: [&str; 5] = ["Keep-Alive", "Proxy-Authenticate", "TE", "Trailer", "Upgrade"];

enum Stage {
    Acquire(Option<Arc<EventFd>>),
    Determine,
    Prefetch,
    Spool,
    Prepare,
    Connect(Box<Connecting>),
    Send,
    StatusLine,
    Fields,
    Discard(Box<Content>, Status),
    Tunnel(Box<Tunnel>),
}

/// The status line of a reply.
#[derive(Default)]
struct Head {
    major: u8,
    minor: u8,
    code: Status,
    line: String,
    /// A field was read.
    begun: bool,
    /// `Set-Cookie` of modules, from before.
    cookies: Vec<Vec<u8>>,
}

/// A request and its reply.
pub(super) struct Exchange {
    scheme: &'static str,
    target: Arc<Target>,
    lease: Option<Lease>,
    stage: Stage,
    uri: Uri,
    peer: Peer,
    addrs: Vec<std::net::SocketAddr>,
    /// The backend, as the log names it.
    backend: String,
    sending: Sending,
    out: Vec<u8>,
    sent: usize,
    force10: bool,
    upgrade: Option<Vec<u8>>,
    /// The body waits for `100 Continue`.
    awaits_100: bool,
    /// The connection is not used again.
    close: bool,
    head: Head,
    interim: u32,
    /// The reply is read on when the body was sent.
    resumes: bool,
    until: Option<Millis>,
    ended: bool,
    status_before: Status,
    begun_body: Vec<u8>,
    /// A blank line before the status line was taken.
    skipped: bool,
    /// What the reply said of `Upgrade` and `Transfer-Encoding`, which are taken off its head.
    upgrade_agreed: Option<Vec<u8>>,
    te: Option<Vec<u8>>,
}

/// What a step says.
enum Step {
    /// To the next.
    Next(Stage),
    /// The request's answer.
    Answer(Answer),
}

use Step::Next;

fn failed(code: Status) -> Step {
    Step::Answer(Answer::Status(code))
}

impl Ongoing for Exchange {
    fn go_on(&mut self, r: &mut Request) -> Answer {
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Send);
            let step = match stage {
                Stage::Acquire(waited) => self.acquire(r, waited),
                Stage::Determine => self.determine(r),
                Stage::Prefetch => self.prefetch(r),
                Stage::Spool => self.spool(r),
                Stage::Prepare => self.prepare(r),
                Stage::Connect(connecting) => self.connect(r, connecting),
                Stage::Send => self.send(r),
                Stage::StatusLine => self.status_line(r),
                Stage::Fields => self.fields(r),
                Stage::Discard(mut content, code) => match content.discard(r) {
                    Some(wait) => {
                        self.stage = Stage::Discard(content, code);
                        return Answer::Wait(wait);
                    }
                    None => failed(code),
                },
                Stage::Tunnel(mut tunnel) => match tunnel.go_on(r) {
                    Flow::Wait(wait) => {
                        self.stage = Stage::Tunnel(tunnel);
                        return Answer::Wait(wait);
                    }
                    Flow::End => Step::Answer(hang_up(r)),
                },
            };
            match step {
                Next(stage) => self.stage = stage,
                Step::Answer(answer) => return answer,
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Stage::Acquire(Some(event)) = &self.stage {
            pool::forget(&self.target.worker, event);
        }
    }
}

/// Ends the request without a (further) word to the client.
fn hang_up(r: &mut Request) -> Answer {
    r.output_filters.clear();
    r.assbackwards = true;
    r.keepalive = false;
    r.notes.set("close", "1");
    Answer::Body(body::Content::Empty)
}

fn timed_out() -> io::Error {
    io::Error::other("(70007)The timeout specified has expired")
}

impl Exchange {
    pub(super) fn new(scheme: &'static str, target: Arc<Target>) -> Exchange {
        Exchange {
            scheme,
            target,
            lease: None,
            stage: Stage::Acquire(None),
            uri: Uri::default(),
            peer: Peer::default(),
            addrs: Vec::new(),
            backend: String::new(),
            sending: Sending::new(),
            out: Vec::new(),
            sent: 0,
            force10: false,
            upgrade: None,
            awaits_100: false,
            close: false,
            head: Head::default(),
            interim: 0,
            resumes: false,
            until: None,
            ended: false,
            status_before: status::OK,
            begun_body: Vec::new(),
            skipped: false,
            upgrade_agreed: None,
            te: None,
        }
    }

    fn worker(&self) -> &Arc<Worker> {
        &self.target.worker
    }

    /// Waits; the first wait for something says until when.
    fn wait(&mut self, stage: Stage, wait: Wait) -> Step {
        let now = now_ms();
        let until = *self.until.get_or_insert(now + wait.timeout.as_millis() as Millis);
        self.stage = stage;
        Step::Answer(Answer::Wait(Wait { timeout: Duration::from_millis(until.saturating_sub(now)), ..wait }))
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| now_ms() >= until)
    }

    fn server_line(&self, r: &Request, level: Level, number: &str, err: Option<&io::Error>, text: &str) {
        log::event_of(&r.server, level, "proxy", number, err, text);
    }

    /// `host:port` of the worker, for the log.
    fn worker_addr(&self) -> String {
        format!("{}:{}", self.worker().hostname, self.worker().port)
    }

    fn acquire(&mut self, r: &mut Request, waited: Option<Arc<EventFd>>) -> Step {
        let (scheme, addr) = (self.scheme, self.worker_addr());
        let score = self.worker().score();
        if !score.is_usable() {
            let due = score.error_time.load(Ordering::Relaxed) + self.worker().retry().as_micros() as i64;
            if score.has(flag::IN_ERROR) && !score.has(flag::STOPPED) {
                if score.has(flag::IGNORE_ERRORS) || unix_micros() > due {
                    score.retries.fetch_add(1, Ordering::Relaxed);
                    score.status.fetch_and(!flag::IN_ERROR, Ordering::Relaxed);
                    let text = format!("{scheme}: worker for ({addr}) has been marked for retry");
                    self.server_line(r, Level::Debug, "AH00932", None, &text);
                } else {
                    let text = format!("{scheme}: too soon to retry worker for ({addr})");
                    self.server_line(r, Level::Debug, "AH00933", None, &text);
                }
            }
            if !score.is_usable() {
                let text = format!("{scheme}: disabled connection for ({addr})");
                self.server_line(r, Level::Error, "AH00940", None, &text);
                return failed(status::SERVICE_UNAVAILABLE);
            }
        }
        let late = waited.is_some() && self.worker().params.acquire.is_some() && self.is_late();
        let limited = self.worker().params.max.is_some() && r.runtime.mpm_name() != "prefork";
        match pool::acquire(self.worker(), limited, waited) {
            Acquired::Lease(lease) => {
                self.until = None;
                self.lease = Some(lease);
                if r.log_enabled("proxy", Level::Debug) {
                    let text = format!("{scheme}: has acquired connection for ({addr})");
                    self.server_line(r, Level::Debug, "AH00942", None, &text);
                }
                Next(Stage::Determine)
            }
            Acquired::Wait(event) if late => {
                pool::forget(self.worker(), &event);
                let text = format!("{scheme}: failed to acquire connection for ({addr})");
                self.server_line(r, Level::Error, "AH00941", Some(&timed_out()), &text);
                failed(status::SERVICE_UNAVAILABLE)
            }
            Acquired::Wait(event) => {
                let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&*event));
                // Without `acquire=`, for as long as it takes.
                let timeout = self.worker().params.acquire.unwrap_or(Duration::from_secs(24 * 3600));
                self.wait(Stage::Acquire(Some(event)), Wait { fd, read: true, timeout, kept: None })
            }
            Acquired::Failed(err) => {
                let text = format!("{scheme}: failed to acquire connection for ({addr})");
                self.server_line(r, Level::Error, "AH00941", Some(&err), &text);
                failed(status::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Whom to connect to (`ap_proxy_determine_connection`).
    fn determine(&mut self, r: &mut Request) -> Step {
        let target = self.target.clone();
        let url = &target.url;
        let env = |name| r.subprocess_env.contains(name);
        self.force10 = env("force-proxy-request-1.0");
        let websocket = self.scheme == "ws";
        if !self.force10 && (!target.worker.params.upgrade.is_empty() || websocket) {
            let default = websocket.then_some("WebSocket");
            let asked = r.headers_in.get("Upgrade").filter(|asked| target.worker.can_upgrade(asked, default));
            self.upgrade = asked.map(<[u8]>::to_vec);
        }
        let forwards = r.dir(&DIR).forward_100_continue != Some(false);
        let reverse = r.proxyreq == Some(ProxyReq::Reverse);
        let pings = target.worker.params.ping.is_some() && reverse && r.input.has_body();
        self.awaits_100 = !self.force10 && (r.expecting_100 && forwards || pings);
        self.sending.nonblocking = self.awaits_100 || env("proxy-prefetch-nonblocking");
        if reverse
            && r.keepalives == 0
            && env("proxy-initial-not-pooled")
            && let Some(lease) = &mut self.lease
        {
            // A client that would not ask again gets no connection that may have ended just now.
            lease.conn = None;
        }

        if self.uri.parse(url, 0).is_err() {
            let text = [b"URI cannot be parsed: ", &url[..]].concat();
            return failed(proxyerror(r, status::BAD_REQUEST, &text));
        }
        let Some(host) = self.uri.hostname.clone().filter(|host| !host.is_empty()) else {
            let text = [b"URI has no hostname: ", &url[..]].concat();
            return failed(proxyerror(r, status::BAD_REQUEST, &text));
        };
        if self.uri.port == 0 {
            self.uri.port = proxy_port_of_scheme(self.scheme);
        }
        let host = shown(&url[host]).into_owned();
        let (host, port) = (host.as_str(), self.uri.port);
        rerror!(r, Level::Debug, "proxy", "AH00944", "connecting {} to {host}:{port}", shown(url));
        let noted = r.notes.get("uds_path").map(<[u8]>::to_vec);
        let uds_path = target.worker.uds_path.as_ref().map(|path| path.as_bytes().to_vec()).or(noted);
        self.peer = match &target.proxy {
            Some((name, port)) if uds_path.is_none() => {
                Peer { hostname: name.clone(), port: *port, uds_path: None }
            }
            _ => Peer { hostname: host.to_owned(), port, uds_path },
        };
        let host = host.to_owned();
        if let Some(path) = &self.peer.uds_path {
            let path = shown(path);
            rerror!(
                r,
                Level::Debug,
                "proxy",
                "AH02545",
                "{}: has determined UDS as {path} (for {host}:{port})",
                self.scheme
            );
            self.backend = format!("{path} ({host})");
        } else {
            match connect::addresses(r, &target.worker, &self.peer) {
                Addresses::Known(addrs) => self.addrs = addrs,
                Addresses::NeedThread => {
                    self.stage = Stage::Determine;
                    return Step::Answer(Answer::NeedThread);
                }
                Addresses::Failed => {
                    let text = format!("DNS lookup failure for: {}", self.peer.hostname);
                    let err = io::Error::other("(EAI 2)Name or service not known");
                    let code = status::INTERNAL_SERVER_ERROR;
                    return failed(proxyerror_with(r, code, text.as_bytes(), Some(err)));
                }
            }
            let first = self.addrs.first().map(ToString::to_string).unwrap_or_default();
            self.backend = format!("{first} ({})", self.peer.hostname);
        }
        let ips: Vec<_> = self.addrs.iter().map(std::net::SocketAddr::ip).collect();
        if is_blocked(r, &host, if target.proxy.is_some() { &[] } else { &ips }) {
            return failed(proxyerror(r, status::FORBIDDEN, b"Connect to remote machine blocked"));
        }
        Next(Stage::Prefetch)
    }

    fn stopped(&mut self, stage: Stage, stop: Stop) -> Step {
        match stop {
            Stop::Wait(wait) => self.wait(stage, wait),
            Stop::Failed(code) => failed(code),
        }
    }

    fn prefetch(&mut self, r: &mut Request) -> Step {
        if r.expecting_100 && self.awaits_100 {
            // Nothing can come before the backend has asked for it, unless the client doesn't wait.
            let came = r.input.wire.as_ref().is_some_and(|wire| !wire.buffered().is_empty());
            r.expecting_100 = !came;
        }
        if r.headers_in.contains("Transfer-Encoding") && r.headers_in.contains("Content-Length") {
            self.close = true;
        }
        self.sending.nothing_yet = r.expecting_100 && self.awaits_100;
        match self.sending.prefetch(r, self.force10, &self.backend, self.is_late()) {
            Ok(()) => {
                self.until = None;
                Next(Stage::Spool)
            }
            Err(stop) => self.stopped(Stage::Prefetch, stop),
        }
    }

    fn spool(&mut self, r: &mut Request) -> Step {
        match self.sending.spool(r, &self.backend, self.is_late()) {
            Ok(()) => {
                self.until = None;
                Next(Stage::Prepare)
            }
            Err(stop) => self.stopped(Stage::Spool, stop),
        }
    }

    /// The head; and a connection that is there, if it is still good.
    fn prepare(&mut self, r: &mut Request) -> Step {
        let target = self.target.clone();
        let url = &target.url;
        if let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) {
            self.out = std::mem::take(&mut conn.output);
        }
        self.out.clear();
        self.sent = 0;
        let lone = self.force10 || r.subprocess_env.contains("proxy-nokeepalive");
        if lone && let Some(lease) = &mut self.lease {
            lease.conn = None;
        }
        self.close |= lone || r.is_subrequest;
        let path = self.uri.path.clone().map_or(url.len(), |path| path.start);
        let head = RequestHead {
            url,
            uri: &self.uri,
            target: if target.proxy.is_some() { url } else { &url[path..] },
            force10: self.force10,
            expects_100: self.awaits_100,
        };
        header::write(r, &head, &mut self.out);
        self.sending.write_fields(&mut self.out);
        if !self.force10 {
            let reusable = !self.close && target.worker.keeps_connections();
            match &self.upgrade {
                Some(upgrade) => {
                    self.out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
                    self.out.extend_from_slice(upgrade);
                    self.out.extend_from_slice(b"\r\n");
                }
                None if reusable => self.out.extend_from_slice(b"Connection: Keep-Alive\r\n"),
                None => self.out.extend_from_slice(b"Connection: close\r\n"),
            }
        }
        self.out.extend_from_slice(b"\r\n");

        let scheme = self.scheme;
        let Some(lease) = &mut self.lease else { return failed(status::INTERNAL_SERVER_ERROR) };
        if let Some(conn) = &lease.conn {
            let same = conn.peer == self.peer;
            let checked = if same { check(conn) } else { Checked::Closed };
            if checked == Checked::Alive {
                return Next(Stage::Send);
            }
            lease.conn = None;
            match checked {
                Checked::NotEmpty => {
                    let text = format!("{scheme}: reusable backend connection is not empty: forcibly closed");
                    self.server_line(r, Level::Info, "AH03408", None, &text);
                }
                _ if same => {
                    let text = format!("{scheme}: backend socket is disconnected.");
                    self.server_line(r, Level::Debug, "AH00951", None, &text);
                }
                _ => {}
            }
        }
        let addrs = std::mem::take(&mut self.addrs);
        let connecting = Connecting::new(r, &target.worker, self.peer.clone(), addrs);
        Next(Stage::Connect(Box::new(connecting)))
    }

    fn connect(&mut self, r: &mut Request, mut connecting: Box<Connecting>) -> Step {
        let worker = self.worker().clone();
        match connecting.go_on(r, &worker, self.scheme) {
            connect::Progress::Done(conn) => {
                let score = worker.score();
                score.error_time.store(0, Ordering::Relaxed);
                score.retries.store(0, Ordering::Relaxed);
                if let Some(lease) = &mut self.lease {
                    lease.conn = Some(conn);
                }
                self.until = None;
                Next(Stage::Send)
            }
            connect::Progress::Wait(fd, until) => {
                self.stage = Stage::Connect(connecting);
                let timeout = Duration::from_millis(until.saturating_sub(now_ms()));
                Step::Answer(Answer::Wait(Wait { fd, read: false, timeout, kept: None }))
            }
            connect::Progress::Failed => {
                if !worker.score().has(flag::IGNORE_ERRORS) {
                    worker.score().fail();
                    let text = format!(
                        "ap_proxy_connect_backend disabling worker for ({}) for {}s",
                        self.worker_addr(),
                        worker.retry().as_secs()
                    );
                    self.server_line(r, Level::Error, "AH00959", None, &text);
                }
                let host = &self.peer.hostname;
                rerror!(
                    r,
                    Level::Error,
                    NAME,
                    "AH01114",
                    "HTTP: failed to make connection to backend: {host}"
                );
                failed(status::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// The head, and the body as far as it may be sent.
    fn send(&mut self, r: &mut Request) -> Step {
        let timeout = connect::timeout(r, self.worker());
        loop {
            let read_before = self.sending.count();
            if !self.awaits_100 && !self.sending.is_finished() && (self.sent == 0 || self.out.is_empty()) {
                let late = self.is_late();
                match self.sending.fill(r, &mut self.out, &self.backend, late) {
                    Ok(()) => {}
                    Err(stop) => {
                        if self.sending.count() != read_before {
                            self.until = None;
                        }
                        if let Stop::Failed(code) = stop {
                            return failed(self.not_sent(r, code));
                        }
                        return self.stopped(Stage::Send, stop);
                    }
                }
                if self.sending.count() != read_before {
                    self.until = None;
                }
            }
            let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
                return failed(status::INTERNAL_SERVER_ERROR);
            };
            while self.sent < self.out.len() {
                match (&conn.socket).write(&self.out[self.sent..]) {
                    Ok(count) => {
                        self.sent += count;
                        self.until = None;
                        let score = self.target.worker.score();
                        score.transferred.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                        if self.until.is_some_and(|until| now_ms() >= until) {
                            return self.send_failed(r, timed_out(), status::GATEWAY_TIME_OUT);
                        }
                        let wait = conn.wait(false, timeout);
                        return self.wait(Stage::Send, wait);
                    }
                    Err(err) => return self.send_failed(r, err, status::BAD_GATEWAY),
                }
            }
            self.out.clear();
            self.sent = 0;
            if self.awaits_100 || self.sending.is_finished() {
                break;
            }
        }
        self.until = None;
        if std::mem::take(&mut self.resumes) {
            return self.final_head(r);
        }
        // It never has its answer ready.
        let ping = self.worker().params.ping.filter(|_| self.awaits_100);
        self.wait_for_backend(Stage::StatusLine, ping.unwrap_or(timeout))
    }

    fn send_failed(&mut self, r: &mut Request, err: io::Error, code: Status) -> Step {
        let backend = &self.backend;
        rerror!(r, Level::Error, "proxy", "AH01084", err = err, "pass request body failed to {backend}");
        failed(self.not_sent(r, code))
    }

    fn not_sent(&self, r: &mut Request, code: Status) -> Status {
        let (backend, client) = (&self.backend, r.connection.client_ip.clone());
        let number = if self.resumes { "AH10154" } else { "AH01097" };
        let with = if self.resumes { format!(" with status {code}") } else { String::new() };
        rerror!(
            r,
            Level::Error,
            NAME,
            number,
            "pass request body failed to {backend} from {client} (){with}"
        );
        code
    }

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

    /// Until the backend says something.
    fn wait_for_backend(&mut self, stage: Stage, timeout: Duration) -> Step {
        match self.lease.as_ref().and_then(|lease| lease.conn.as_ref()) {
            Some(conn) => {
                let wait = conn.wait(true, timeout);
                self.wait(stage, wait)
            }
            None => Step::Answer(Answer::Status(status::BAD_GATEWAY)),
        }
    }

    fn field_size(&self) -> usize {
        self.worker().params.response_field_size.unwrap_or(RESPONSE_FIELD_SIZE)
    }

    fn status_line(&mut self, r: &mut Request) -> Step {
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

    fn fields(&mut self, r: &mut Request) -> Step {
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
    fn final_head(&mut self, r: &mut Request) -> Step {
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

/// Warnings with another date than the reply's are no longer true (`ap_proxy_clean_warnings`).
fn clean_warnings(headers: &mut Table) {
    let date = headers.get("Date").and_then(crate::http::date::parse);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for value in headers.iter_all("Warning") {
        let mut rest = value;
        while let Some((warning, warned, behind)) = next_warning(rest) {
            let time = warned.and_then(crate::http::date::parse).filter(|&time| time != 0);
            if time.is_none() || time == date {
                kept.push(warning.to_vec());
            }
            rest = behind;
        }
    }
    if kept.is_empty() {
        return;
    }
    headers.unset("Warning");
    for warning in kept {
        headers.add("Warning", warning);
    }
}

/// `code agent "text" ["date"]`: all of it, the date, and what is behind.
fn next_warning(text: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let start = text.windows(3).position(|three| three.iter().all(u8::is_ascii_digit))?;
    let blanks = |from: usize| from + text[from..].iter().take_while(|c| matches!(c, b' ' | b'\t')).count();
    let agent = blanks(start + 3);
    let words = agent + text[agent..].iter().take_while(|c| !matches!(c, b' ' | b'\t')).count();
    let quote = blanks(words);
    if text.get(quote) != Some(&b'"') {
        return None;
    }
    let mut end = quote + 2 + text[quote + 1..].find_byte(b'"')?;
    let mut date = None;
    let again = blanks(end);
    if again > end
        && text.get(again) == Some(&b'"')
        && let Some(len) = text[again + 1..].find_byte(b'"').filter(|&len| len > 0)
    {
        date = Some(&text[again + 1..again + 1 + len]);
        end = again + 2 + len;
    }
    Some((&text[start..end], date, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings() {
        let text = br#"110 a "stale" "Tue, 02 Jan 2024 03:04:05 GMT", 199 b "misc""#;
        let (first, date, rest) = next_warning(text).expect("a warning");
        assert!(first.ends_with(b"GMT\"") && date.is_some());
        assert_eq!(next_warning(rest), Some((&br#"199 b "misc""#[..], None, &b""[..])));
        assert_eq!(next_warning(b"nothing"), None);
    }
}
