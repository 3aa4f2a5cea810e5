//! Records, both ways at once (`dispatch`): what is to be sent goes out as the backend takes it, what it says is taken apart.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::NAME;
use super::params::{BEGIN_LEN, REQUEST_ID, header};
use super::stdin::{Piece, Stdin, reason, wait_for_client};
use crate::body::Wait;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror, shown};
use crate::modules::proxy::mod_proxy::pool::Lease;
use crate::modules::proxy::mod_proxy::tunnel::Watch;
use crate::modules::proxy::mod_proxy::worker::IO_BUFFER_SIZE;
use crate::modules::proxy::mod_proxy_http::content::{count_read, read};
use crate::os::clock::{Millis, now_ms};
use crate::request::Request;

const END_REQUEST: u8 = 3;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
/// How much of the body is put behind what is to be sent.
const AHEAD: usize = 64 * 1024;

/// What the backend said.
pub(super) enum Event {
    /// A part of its output.
    Stdout(Bytes),
    /// That was all of its output.
    StdoutEnd,
    /// The request is done.
    End,
    /// Nothing yet.
    Wait(Wait),
}

/// How it failed.
pub(super) struct Failure {
    /// The number of the line in the log.
    pub(super) number: &'static str,
    pub(super) err: io::Error,
    /// During what.
    pub(super) what: &'static str,
    pub(super) code: Status,
}

impl Failure {
    fn new(err: io::Error, what: &'static str, code: Status) -> Failure {
        Failure { number: "AH01075", err, what, code }
    }
}

/// Where in a record the input stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Content,
    Padding,
}

/// What the sending lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Nothing,
    Client,
    Backend,
}

/// The talk about one request.
pub(super) struct Talk {
    lease: Option<Lease>,
    stdin: Stdin,
    stdin_sent: bool,
    out: Vec<u8>,
    sent: usize,
    /// Up to where `out` is the request's head; 0 once that is sent.
    head: usize,
    place: Place,
    kind: u8,
    /// What is left of the record's content, and of its padding.
    left: usize,
    padding: usize,
    io_size: usize,
    timeout: Duration,
    until: Option<Millis>,
    watch: Watch,
}

fn timed_out() -> io::Error {
    io::Error::other("(70007)The timeout specified has expired")
}

impl Talk {
    /// Begins with `out`, of which all is the request's head.
    pub(super) fn new(lease: Lease, stdin: Stdin, out: Vec<u8>, timeout: Duration) -> Talk {
        let io_size = lease.worker().params.io_buffer_size.unwrap_or(IO_BUFFER_SIZE).max(1);
        Talk {
            lease: Some(lease),
            stdin,
            stdin_sent: false,
            head: out.len(),
            out,
            sent: 0,
            place: Place::Header,
            kind: 0,
            left: 0,
            padding: 0,
            io_size,
            timeout,
            until: None,
            watch: Watch::default(),
        }
    }

    /// The connection ends, or goes back to be used again.
    pub(super) fn release(&mut self, reusable: bool) {
        let Some(mut lease) = self.lease.take() else { return };
        // With some of the body unsent, the next request would be taken for the rest of it.
        if reusable && self.stdin_sent && self.sent == self.out.len() {
            if let Some(conn) = &mut lease.conn {
                conn.output = std::mem::take(&mut self.out);
                conn.keepalives += 1;
            }
            lease.release();
        }
    }

    /// Sends what can be sent now.
    fn send(&mut self, r: &mut Request) -> Result<Lacks, Failure> {
        loop {
            let mut lacks = Lacks::Nothing;
            while !self.stdin_sent && self.out.len() < AHEAD {
                match self.stdin.next(r) {
                    Piece::Data(data) => {
                        self.until = None;
                        for part in data.chunks(self.io_size.min(usize::from(u16::MAX))) {
                            self.out.extend_from_slice(&header(STDIN, part.len() as u16));
                            self.out.extend_from_slice(part);
                        }
                    }
                    Piece::NotYet => {
                        lacks = Lacks::Client;
                        break;
                    }
                    Piece::End => {
                        self.out.extend_from_slice(&header(STDIN, 0));
                        self.stdin_sent = true;
                    }
                    Piece::Failed(code) => {
                        return Err(Failure::new(reason(r, code), "reading input brigade", code));
                    }
                }
            }
            let Some(conn) = self.lease.as_ref().and_then(|lease| lease.conn.as_ref()) else {
                return Ok(Lacks::Nothing);
            };
            while self.sent < self.out.len() {
                match (&conn.socket).write(&self.out[self.sent..]) {
                    Ok(count) => {
                        self.sent += count;
                        self.until = None;
                        if let Some(lease) = &self.lease {
                            lease.worker().score().transferred.fetch_add(count as u64, Ordering::Relaxed);
                        }
                    }
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(Lacks::Backend),
                    Err(err) => return Err(self.not_sent(err)),
                }
            }
            self.out.clear();
            (self.sent, self.head) = (0, 0);
            if self.stdin_sent || lacks == Lacks::Client {
                return Ok(lacks);
            }
        }
    }

    fn not_sent(&self, err: io::Error) -> Failure {
        let failure = Failure::new(err, "sending stdin", status::SERVICE_UNAVAILABLE);
        match self.sent {
            sent if sent >= self.head => failure,
            sent if sent < BEGIN_LEN => Failure { number: "AH01073", ..failure },
            _ => Failure { number: "AH01074", ..failure },
        }
    }

    /// What is in the buffer already; `None`: nothing that is whole.
    pub(super) fn said(&mut self, r: &Request) -> Result<Option<Event>, Failure> {
        let invalid = || io::Error::from_raw_os_error(nix::errno::Errno::EINVAL as i32);
        let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
            return Ok(Some(Event::End));
        };
        loop {
            let buffered = conn.buffered();
            match self.place {
                Place::Header => {
                    let Some(&[version, kind, id_high, id_low, high, low, padding, _]) =
                        buffered.first_chunk()
                    else {
                        return Ok(None);
                    };
                    if version != 1 {
                        rerror!(r, Level::Error, NAME, "AH01068", "Got bogus version {version}");
                        return Err(Failure::new(invalid(), "", status::SERVICE_UNAVAILABLE));
                    }
                    let id = u16::from_be_bytes([id_high, id_low]);
                    if id != REQUEST_ID {
                        rerror!(
                            r,
                            Level::Error,
                            NAME,
                            "AH01069",
                            "Got bogus rid {id}, expected {REQUEST_ID}"
                        );
                        return Err(Failure::new(invalid(), "", status::SERVICE_UNAVAILABLE));
                    }
                    conn.take(8);
                    self.kind = kind;
                    self.left = usize::from(u16::from_be_bytes([high, low]));
                    self.padding = usize::from(padding);
                    self.place = Place::Content;
                    if kind == STDOUT && self.left == 0 {
                        return Ok(Some(Event::StdoutEnd));
                    }
                    if !matches!(kind, STDOUT | STDERR | END_REQUEST) {
                        rerror!(r, Level::Error, NAME, "AH01072", "Got bogus record {kind}");
                    }
                }
                Place::Content if self.left == 0 => self.place = Place::Padding,
                Place::Content if buffered.is_empty() => return Ok(None),
                Place::Content => {
                    let mut part = buffered.len().min(self.left);
                    if self.kind == STDERR {
                        let most = self.left.min(self.io_size);
                        if part < most {
                            return Ok(None);
                        }
                        part = most;
                        let text = &buffered[..part];
                        let end = text.iter().position(|&c| c == 0).unwrap_or(part);
                        rerror!(r, Level::Error, NAME, "AH01071", "Got error '{}'", shown(&text[..end]));
                    }
                    let said = (self.kind == STDOUT).then(|| Bytes::copy_from_slice(&buffered[..part]));
                    conn.take(part);
                    self.left -= part;
                    if let Some(said) = said {
                        return Ok(Some(Event::Stdout(said)));
                    }
                }
                Place::Padding => {
                    let part = buffered.len().min(self.padding);
                    conn.take(part);
                    self.padding -= part;
                    if self.padding > 0 {
                        return Ok(None);
                    }
                    self.place = Place::Header;
                    if self.kind == END_REQUEST {
                        return Ok(Some(Event::End));
                    }
                }
            }
        }
    }

    /// What the backend says next.
    pub(super) fn next(&mut self, r: &mut Request) -> Result<Event, Failure> {
        let mut lacks = Lacks::Nothing;
        loop {
            if let Some(event) = self.said(r)? {
                return Ok(event);
            }
            if !self.stdin_sent || self.sent < self.out.len() {
                let first = self.head > 0;
                lacks = self.send(r)?;
                if first && lacks == Lacks::Nothing {
                    // It never has its answer ready.
                    return self.wait(r, lacks);
                }
            }
            let Some(lease) = &mut self.lease else { return Ok(Event::End) };
            let Some(conn) = &mut lease.conn else { return Ok(Event::End) };
            match read(conn) {
                Ok(Some(0)) => {
                    return Err(self.broke(r, io::Error::other("(70014)End of file found")));
                }
                Ok(Some(count)) => {
                    count_read(lease, count);
                    self.until = None;
                }
                Ok(None) => return self.wait(r, lacks),
                Err(err) => return Err(self.broke(r, err)),
            }
        }
    }

    /// The connection ended before the request did.
    fn broke(&self, r: &Request, err: io::Error) -> Failure {
        let what = match self.place {
            Place::Header => {
                rerror!(r, Level::Error, NAME, "AH01067", "Failed to read FastCGI header");
                ""
            }
            Place::Content => "reading response body",
            Place::Padding => {
                rerror!(r, Level::Error, NAME, "AH02537", err = err, "Error occurred reading padding");
                ""
            }
        };
        Failure::new(err, what, status::SERVICE_UNAVAILABLE)
    }

    fn wait(&mut self, r: &mut Request, lacks: Lacks) -> Result<Event, Failure> {
        let now = now_ms();
        let client = if lacks == Lacks::Client { wait_for_client(r) } else { None };
        let timeout = client.map_or(self.timeout, |wait| wait.timeout);
        let until = *self.until.get_or_insert(now + timeout.as_millis() as Millis);
        if now >= until {
            if client.is_some() {
                r.input.broken = true;
                return Err(Failure::new(timed_out(), "reading input brigade", status::REQUEST_TIME_OUT));
            }
            let halfway = self.lease.as_ref().and_then(|lease| lease.conn.as_ref());
            let halfway =
                self.place != Place::Header || halfway.is_some_and(|conn| !conn.buffered().is_empty());
            let failure = match halfway {
                true => self.broke(r, timed_out()),
                false => Failure::new(timed_out(), "polling", status::GATEWAY_TIME_OUT),
            };
            return Err(Failure { code: status::GATEWAY_TIME_OUT, ..failure });
        }
        let left = Duration::from_millis(until - now);
        let Some(conn) = self.lease.as_ref().and_then(|lease| lease.conn.as_ref()) else {
            return Ok(Event::End);
        };
        let fd = conn.fd();
        let waited = match (lacks, client) {
            (Lacks::Client, Some(client)) => self.watch.wait(&[(fd, true), (client.fd, client.read)], left),
            (Lacks::Backend, _) => self.watch.wait(&[(fd, true), (fd, false)], left),
            _ => return Ok(Event::Wait(conn.wait(true, left))),
        };
        match waited {
            Ok(wait) => Ok(Event::Wait(wait)),
            Err(err) => Err(Failure::new(err, "polling", status::SERVICE_UNAVAILABLE)),
        }
    }
}
