//! The way to a backend for schemes that send a request's variables: a lease of the worker, whom to connect to, the connection.
//!
//! Answers to `ap_proxy_acquire_connection`, `ap_proxy_determine_connection` and `ap_proxy_connect_backend`, as the handlers of
//! `mod_proxy_fcgi.c` and its like call them one after the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::connect::{self, Addresses, Checked, Connecting, Progress, check};
use super::errors::{proxyerror, proxyerror_with};
use super::forward::is_blocked;
use super::handler::Target;
use super::pool::{self, Acquired, Lease, Peer};
use super::state::flag;
use super::worker::proxy_port_of_scheme;
use crate::body::Wait;
use crate::http::status;
use crate::http::uri::Uri;
use crate::log::{self, Level, rerror, shown};
use crate::os::clock::{Millis, now_ms, unix_micros};
use crate::request::{Answer, Request};

/// The way to one backend, as far as it was gone.
pub struct Reach {
    /// The scheme, as it stands in the log.
    function: &'static str,
    target: Arc<Target>,
    waited: Option<Arc<EventFd>>,
    until: Option<Millis>,
    lease: Option<Lease>,
    /// Whom it leads to.
    pub peer: Peer,
    addrs: Vec<SocketAddr>,
    determined: bool,
    connecting: Option<Box<Connecting>>,
}

/// Why there is no connection (yet).
pub enum Unreached {
    /// What the request answers now; it may be asked again.
    Answer(Answer),
    /// The backend does not answer.
    Failed,
}

fn timed_out() -> io::Error {
    io::Error::other("(70007)The timeout specified has expired")
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let Some(event) = &self.waited {
            pool::forget(&self.target.worker, event);
        }
    }
}

impl Reach {
    /// A way that is still to go.
    pub fn new(function: &'static str, target: Arc<Target>) -> Reach {
        Reach {
            function,
            target,
            waited: None,
            until: None,
            lease: None,
            peer: Peer::default(),
            addrs: Vec::new(),
            determined: false,
            connecting: None,
        }
    }

    /// A line in the server's log.
    fn line(&self, r: &Request, level: Level, number: &str, err: Option<&io::Error>, text: &str) {
        log::event_of(&r.server, level, "proxy", number, err, text);
    }

    /// The backend, as the log names it.
    pub fn backend(&self) -> String {
        let first = match (&self.peer.uds_path, self.addrs.first()) {
            (Some(path), _) => shown(path).into_owned(),
            (None, first) => first.map(ToString::to_string).unwrap_or_default(),
        };
        format!("{first} ({})", self.peer.hostname)
    }

    fn worker_addr(&self) -> String {
        format!("{}:{}", self.target.worker.hostname, self.target.worker.port)
    }

    /// Gets a lease, and finds out whom to connect to. `Err`: what the request answers in place of going on.
    pub fn determine(&mut self, r: &mut Request) -> Result<(), Answer> {
        if self.lease.is_none() {
            self.acquire(r)?;
        }
        if !self.determined {
            self.find_peer(r)?;
            self.determined = true;
        }
        Ok(())
    }

    fn acquire(&mut self, r: &mut Request) -> Result<(), Answer> {
        let worker = self.target.worker.clone();
        let (function, addr) = (self.function, self.worker_addr());
        let score = worker.score();
        if !score.is_usable() {
            let due = score.error_time.load(Ordering::Relaxed) + worker.retry().as_micros() as i64;
            if score.has(flag::IN_ERROR) && !score.has(flag::STOPPED) {
                if score.has(flag::IGNORE_ERRORS) || unix_micros() > due {
                    score.retries.fetch_add(1, Ordering::Relaxed);
                    score.status.fetch_and(!flag::IN_ERROR, Ordering::Relaxed);
                    let text = format!("{function}: worker for ({addr}) has been marked for retry");
                    self.line(r, Level::Debug, "AH00932", None, &text);
                } else {
                    let text = format!("{function}: too soon to retry worker for ({addr})");
                    self.line(r, Level::Debug, "AH00933", None, &text);
                }
            }
            if !score.is_usable() {
                let text = format!("{function}: disabled connection for ({addr})");
                self.line(r, Level::Error, "AH00940", None, &text);
                return Err(Answer::Status(status::SERVICE_UNAVAILABLE));
            }
        }
        let waited = self.waited.take();
        let late = waited.is_some()
            && worker.params.acquire.is_some()
            && self.until.is_some_and(|until| now_ms() >= until);
        let limited = worker.params.max.is_some() && r.runtime.mpm_name() != "prefork";
        let err = match pool::acquire(&worker, limited, waited) {
            Acquired::Lease(lease) => {
                self.lease = Some(lease);
                if r.log_enabled("proxy", Level::Debug) {
                    let text = format!("{function}: has acquired connection for ({addr})");
                    self.line(r, Level::Debug, "AH00942", None, &text);
                }
                return Ok(());
            }
            Acquired::Wait(event) if late => {
                pool::forget(&worker, &event);
                timed_out()
            }
            Acquired::Wait(event) => {
                let fd = event.as_fd().as_raw_fd();
                // Without `acquire=`, for as long as it takes.
                let timeout = worker.params.acquire.unwrap_or(r.server.resolved.timeout);
                let now = now_ms();
                let until = match worker.params.acquire {
                    Some(_) => *self.until.get_or_insert(now + timeout.as_millis() as Millis),
                    None => now + timeout.as_millis() as Millis,
                };
                self.waited = Some(event);
                let timeout = Duration::from_millis(until.saturating_sub(now));
                return Err(Answer::Wait(Wait { fd, read: true, timeout, kept: None }));
            }
            Acquired::Failed(err) => err,
        };
        let text = format!("{function}: failed to acquire connection for ({addr})");
        self.line(r, Level::Error, "AH00941", Some(&err), &text);
        Err(Answer::Status(status::SERVICE_UNAVAILABLE))
    }

    fn find_peer(&mut self, r: &mut Request) -> Result<(), Answer> {
        let target = self.target.clone();
        let url = &target.url;
        let mut uri = Uri::default();
        if uri.parse(url, 0).is_err() {
            let text = [b"URI cannot be parsed: ", &url[..]].concat();
            return Err(Answer::Status(proxyerror(r, status::BAD_REQUEST, &text)));
        }
        let Some(host) = uri.hostname.clone().filter(|host| !host.is_empty()) else {
            let text = [b"URI has no hostname: ", &url[..]].concat();
            return Err(Answer::Status(proxyerror(r, status::BAD_REQUEST, &text)));
        };
        let host = shown(&url[host]).into_owned();
        let scheme = uri.scheme.clone().map(|scheme| shown(&url[scheme]).into_owned()).unwrap_or_default();
        let port = if uri.port == 0 { proxy_port_of_scheme(&scheme) } else { uri.port };
        rerror!(r, Level::Debug, "proxy", "AH00944", "connecting {} to {host}:{port}", shown(url));
        let noted = r.notes.get("uds_path").map(<[u8]>::to_vec);
        let uds_path = target.worker.uds_path.as_ref().map(|path| path.as_bytes().to_vec()).or(noted);
        self.peer = match &target.proxy {
            Some((name, port)) if uds_path.is_none() => {
                Peer { hostname: name.clone(), port: *port, uds_path: None }
            }
            _ => Peer { hostname: host.clone(), port, uds_path },
        };
        if let Some(path) = &self.peer.uds_path {
            let (path, function) = (shown(path), self.function);
            rerror!(
                r,
                Level::Debug,
                "proxy",
                "AH02545",
                "{function}: has determined UDS as {path} (for {host}:{port})"
            );
        } else {
            match connect::addresses(r, &target.worker, &self.peer) {
                Addresses::Known(addrs) => self.addrs = addrs,
                Addresses::NeedThread => return Err(Answer::NeedThread),
                Addresses::Failed => {
                    let text = format!("DNS lookup failure for: {}", self.peer.hostname);
                    let err = io::Error::other("(EAI 2)Name or service not known");
                    let code = status::INTERNAL_SERVER_ERROR;
                    return Err(Answer::Status(proxyerror_with(r, code, text.as_bytes(), Some(err))));
                }
            }
        }
        let ips: Vec<_> = self.addrs.iter().map(SocketAddr::ip).collect();
        if is_blocked(r, &host, if target.proxy.is_some() { &[] } else { &ips }) {
            let text = b"Connect to remote machine blocked";
            return Err(Answer::Status(proxyerror(r, status::FORBIDDEN, text)));
        }
        Ok(())
    }

    /// The connection: one that is there and still good, or a new one.
    pub fn connect(&mut self, r: &mut Request) -> Result<Lease, Unreached> {
        let worker = self.target.worker.clone();
        let mut connecting = match self.connecting.take() {
            Some(connecting) => connecting,
            None => {
                if self.idle_is_good(r)
                    && let Some(lease) = self.lease.take()
                {
                    return Ok(lease);
                }
                let addrs = std::mem::take(&mut self.addrs);
                Box::new(Connecting::new(r, &worker, self.peer.clone(), addrs))
            }
        };
        match connecting.go_on(r, &worker, self.function) {
            Progress::Done(conn) => {
                let score = worker.score();
                score.error_time.store(0, Ordering::Relaxed);
                score.retries.store(0, Ordering::Relaxed);
                match self.lease.take() {
                    Some(mut lease) => {
                        lease.conn = Some(conn);
                        Ok(lease)
                    }
                    None => Err(Unreached::Failed),
                }
            }
            Progress::Wait(fd, until) => {
                self.connecting = Some(connecting);
                let timeout = Duration::from_millis(until.saturating_sub(now_ms()));
                let wait = Wait { fd, read: false, timeout, kept: None };
                Err(Unreached::Answer(Answer::Wait(wait)))
            }
            Progress::Failed => {
                if !worker.score().has(flag::IGNORE_ERRORS) {
                    worker.score().fail();
                    let (addr, retry) = (self.worker_addr(), worker.retry().as_secs());
                    let text = format!("ap_proxy_connect_backend disabling worker for ({addr}) for {retry}s");
                    self.line(r, Level::Error, "AH00959", None, &text);
                }
                Err(Unreached::Failed)
            }
        }
    }

    /// Whether the connection that was kept can be used; else it is closed.
    fn idle_is_good(&mut self, r: &Request) -> bool {
        let Some(conn) = self.lease.as_ref().and_then(|lease| lease.conn.as_ref()) else { return false };
        let same = conn.peer == self.peer;
        let checked = if same { check(conn) } else { Checked::Closed };
        let function = self.function;
        match checked {
            Checked::Alive => return true,
            Checked::NotEmpty => {
                let text = format!("{function}: reusable backend connection is not empty: forcibly closed");
                self.line(r, Level::Info, "AH03408", None, &text);
            }
            Checked::Closed if same => {
                let text = format!("{function}: backend socket is disconnected.");
                self.line(r, Level::Debug, "AH00951", None, &text);
            }
            Checked::Closed => {}
        }
        if let Some(lease) = &mut self.lease {
            lease.conn = None;
        }
        false
    }
}
