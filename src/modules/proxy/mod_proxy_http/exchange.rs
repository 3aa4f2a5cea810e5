//! One request and its reply, step by step: the steps of `proxy_http_handler`, each of which may have to wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::NAME;
use super::content::Content;
use super::receiving::Head;
use super::sending::{Sending, Stop};
use crate::body::{self, Wait};
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
use crate::modules::proxy::mod_proxy::worker::{Worker, proxy_port_of_scheme};
use crate::os::clock::{Millis, now_ms, unix_micros};
use crate::request::ongoing::Ongoing;
use crate::request::{Answer, ProxyReq, Request};

pub(super) enum Stage {
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

/// A request and its reply.
pub(super) struct Exchange {
    pub(super) scheme: &'static str,
    pub(super) target: Arc<Target>,
    pub(super) lease: Option<Lease>,
    pub(super) stage: Stage,
    pub(super) uri: Uri,
    pub(super) peer: Peer,
    pub(super) addrs: Vec<std::net::SocketAddr>,
    /// The backend, as the log names it.
    pub(super) backend: String,
    pub(super) sending: Sending,
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    pub(super) force10: bool,
    pub(super) upgrade: Option<Vec<u8>>,
    /// The body waits for `100 Continue`.
    pub(super) awaits_100: bool,
    /// The connection is not used again.
    pub(super) close: bool,
    pub(super) head: Head,
    pub(super) interim: u32,
    /// The reply is read on when the body was sent.
    pub(super) resumes: bool,
    pub(super) until: Option<Millis>,
    pub(super) ended: bool,
    pub(super) status_before: Status,
    pub(super) begun_body: Vec<u8>,
    /// A blank line before the status line was taken.
    pub(super) skipped: bool,
    /// What the reply said of `Upgrade` and `Transfer-Encoding`, which are taken off its head.
    pub(super) upgrade_agreed: Option<Vec<u8>>,
    pub(super) te: Option<Vec<u8>>,
}

/// What a step says.
pub(super) enum Step {
    /// To the next.
    Next(Stage),
    /// The request's answer.
    Answer(Answer),
}

use Step::Next;

pub(super) fn failed(code: Status) -> Step {
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
pub(super) fn hang_up(r: &mut Request) -> Answer {
    r.output_filters.clear();
    r.assbackwards = true;
    r.keepalive = false;
    r.notes.set("close", "1");
    Answer::Body(body::Content::Empty)
}

pub(super) fn timed_out() -> io::Error {
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

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.target.worker
    }

    /// Waits; the first wait for something says until when.
    pub(super) fn wait(&mut self, stage: Stage, wait: Wait) -> Step {
        let now = now_ms();
        let until = *self.until.get_or_insert(now + wait.timeout.as_millis() as Millis);
        self.stage = stage;
        Step::Answer(Answer::Wait(Wait { timeout: Duration::from_millis(until.saturating_sub(now)), ..wait }))
    }

    pub(super) fn is_late(&self) -> bool {
        self.until.is_some_and(|until| now_ms() >= until)
    }

    fn server_line(&self, r: &Request, level: Level, number: &str, err: Option<&io::Error>, text: &str) {
        log::event_of(&r.server, level, "proxy", number, err, text);
    }

    /// `host:port` of the worker, for the log.
    pub(super) fn worker_addr(&self) -> String {
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

    /// Until the backend says something.
    pub(super) fn wait_for_backend(&mut self, stage: Stage, timeout: Duration) -> Step {
        match self.lease.as_ref().and_then(|lease| lease.conn.as_ref()) {
            Some(conn) => {
                let wait = conn.wait(true, timeout);
                self.wait(stage, wait)
            }
            None => Step::Answer(Answer::Status(status::BAD_GATEWAY)),
        }
    }
}
