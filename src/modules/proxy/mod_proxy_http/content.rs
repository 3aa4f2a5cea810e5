//! The content of a backend's reply, pulled as the client takes it.

use std::cell::RefCell;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::NAME;
use crate::body::{Body, Chunk, Pull, Wait};
use crate::http::chunked::Decoder;
use crate::http::status;
use crate::log::{Level, rerror};
use crate::modules::proxy::mod_proxy::pool::{Conn, Lease};
use crate::os::clock::{Millis, now_ms};
use crate::request::Request;
use crate::table::Table;

/// How much is read at once.
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8; READ_SIZE]>> = RefCell::new(Box::new([0; READ_SIZE]));
}

/// Reads what is there behind `conn.input`; `Ok(None)`: nothing now.
pub(super) fn read(conn: &mut Conn) -> io::Result<Option<usize>> {
    loop {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let count = (&conn.socket).read(&mut scratch[..])?;
            if conn.taken > 0 {
                conn.input.drain(..conn.taken);
                conn.taken = 0;
            }
            conn.input.extend_from_slice(&scratch[..count]);
            Ok(count)
        });
        return match read {
            Ok(count) => Ok(Some(count)),
            Err(err) if io::Error::kind(&err) == io::ErrorKind::WouldBlock => Ok(None),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => Err(err),
        };
    }
}

/// Where the content ends.
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked(Box<Decoder>),
    /// With the connection.
    UntilClose,
}

/// The content.
pub(super) struct Content {
    lease: Option<Lease>,
    framing: Framing,
    /// What stands before what the connection gives.
    begun: Option<Bytes>,
    reusable: bool,
    timeout: Duration,
    until: Millis,
    trailers: Table,
    /// It broke off; what came before that is sent first.
    broken: bool,
}

/// How a pull of the content's own ends.
enum Next {
    Data(Bytes),
    NotYet,
    End,
}

impl Content {
    pub(super) fn new(
        lease: Lease,
        framing: Framing,
        begun: Vec<u8>,
        reusable: bool,
        timeout: Duration,
    ) -> Content {
        Content {
            lease: Some(lease),
            framing,
            begun: Some(Bytes::from(begun)).filter(|begun| !begun.is_empty()),
            reusable,
            timeout,
            until: now_ms() + timeout.as_millis() as Millis,
            trailers: Table::new(),
            broken: false,
        }
    }

    /// The connection goes back, or ends.
    fn release(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.reusable
        {
            lease.release();
        }
    }

    /// The whole content, if it came with the head and has a length; the connection is free then.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        let Framing::Length(length) = self.framing else { return None };
        let lease = self.lease.as_mut()?;
        let conn = lease.conn.as_mut()?;
        let length = usize::try_from(length).ok()?;
        let content = Bytes::copy_from_slice(conn.buffered().get(..length)?);
        conn.take(length);
        count_read(lease, content.len());
        self.release();
        Some(match self.begun.take() {
            Some(begun) => [begun, content].concat().into(),
            None => content,
        })
    }

    /// What is in the connection's buffer.
    fn decode(&mut self, r: &Request) -> io::Result<Next> {
        let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
            return Ok(Next::End);
        };
        match &mut self.framing {
            Framing::Length(0) => Ok(Next::End),
            Framing::Length(left) => {
                let part = conn.buffered().len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let data = Bytes::copy_from_slice(&conn.buffered()[..part]);
                conn.take(part);
                *left -= part as u64;
                Ok(if part == 0 { Next::NotYet } else { Next::Data(data) })
            }
            Framing::UntilClose => {
                let data = Bytes::copy_from_slice(conn.buffered());
                conn.take(data.len());
                Ok(if data.is_empty() { Next::NotYet } else { Next::Data(data) })
            }
            Framing::Chunked(decoder) => loop {
                let options = r.server.resolved.head.options(&r.runtime.methods);
                let decoded =
                    decoder.decode(conn.buffered(), &mut self.trailers, &options).map_err(|bad| {
                        let err = if bad.status == status::REQUEST_ENTITY_TOO_LARGE {
                            io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32)
                        } else {
                            io::Error::from_raw_os_error(nix::errno::Errno::EINVAL as i32)
                        };
                        let overflow =
                            if bad.status == status::REQUEST_ENTITY_TOO_LARGE { "(overflow)" } else { "" };
                        if !bad.in_trailers {
                            let text = format!("Error reading/parsing chunk {overflow} ");
                            rerror!(r, Level::Info, "http", "AH01590", err = err, "{text}");
                        }
                        io::Error::from_raw_os_error(20014)
                    })?;
                let (consumed, end) = (decoded.consumed, decoded.end);
                let data = Bytes::copy_from_slice(decoded.data);
                conn.take(consumed);
                if !data.is_empty() {
                    return Ok(Next::Data(data));
                }
                if end {
                    return Ok(Next::End);
                }
                if consumed == 0 || conn.buffered().is_empty() {
                    return Ok(Next::NotYet);
                }
            },
        }
    }

    fn next(&mut self, r: &Request) -> io::Result<Next> {
        loop {
            match self.decode(r)? {
                Next::NotYet => {}
                next => return Ok(next),
            }
            let Some(conn) = self.lease.as_mut().and_then(|lease| lease.conn.as_mut()) else {
                return Ok(Next::End);
            };
            match read(conn)? {
                Some(0) if matches!(self.framing, Framing::UntilClose) => return Ok(Next::End),
                Some(0) => {
                    let text = "(70008)Partial results are valid but processing is incomplete";
                    return Err(io::Error::other(text));
                }
                Some(_) => self.until = now_ms() + self.timeout.as_millis() as Millis,
                None => return Ok(Next::NotYet),
            }
        }
    }

    /// Reads and forgets it, for an error page of ours; `None`: it is over.
    pub(super) fn discard(&mut self, r: &Request) -> Option<Wait> {
        loop {
            match self.next(r) {
                Ok(Next::Data(_)) => {}
                Ok(Next::NotYet) if now_ms() < self.until => return self.wait(),
                Ok(Next::End) => {
                    self.release();
                    return None;
                }
                Ok(Next::NotYet) | Err(_) => {
                    self.lease = None;
                    return None;
                }
            }
        }
    }

    fn wait(&self) -> Option<Wait> {
        let conn = self.lease.as_ref()?.conn.as_ref()?;
        Some(conn.wait(true, Duration::from_millis(self.until.saturating_sub(now_ms()))))
    }

    /// It breaks off: what the client has by now is all that it gets.
    fn broke(&mut self, r: &mut Request, err: io::Error) -> io::Result<Pull> {
        rerror!(r, Level::Error, NAME, "AH01110", err = err, "error reading response");
        r.no_cache = true;
        r.keepalive = false;
        self.lease = None;
        self.broken = true;
        Ok(Pull::Flush)
    }

    /// Whether it fails before any of it came: then the client still gets an error's page.
    pub(super) fn fails_at_once(&mut self, r: &mut Request) -> bool {
        if self.begun.is_some() {
            return false;
        }
        match self.decode(r) {
            Ok(Next::Data(data)) => {
                if let Some(lease) = &self.lease {
                    count_read(lease, data.len());
                }
                self.begun = Some(data);
                false
            }
            Ok(Next::NotYet) => false,
            Ok(Next::End) => {
                self.release();
                self.framing = Framing::Length(0);
                false
            }
            Err(err) => {
                _ = self.broke(r, err);
                r.length_unknown = true;
                true
            }
        }
    }

    /// True when it is known to be empty.
    pub(super) fn is_over(&self) -> bool {
        self.lease.is_none() && self.begun.is_none() && self.trailers.is_empty()
    }
}

/// Counts what came from a worker.
pub(super) fn count_read(lease: &Lease, count: usize) {
    lease.worker().score().read.fetch_add(count as u64, Ordering::Relaxed);
}

impl Body for Content {
    fn pull(&mut self, r: &mut Request) -> io::Result<Pull> {
        if let Some(begun) = self.begun.take() {
            return Ok(Pull::Chunk(Chunk::Bytes(begun)));
        }
        if self.broken {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.next(r) {
            Ok(Next::Data(data)) => {
                if let Some(lease) = &self.lease {
                    count_read(lease, data.len());
                }
                if matches!(self.framing, Framing::Length(0)) {
                    // The next request may have it, however slow this client is.
                    self.release();
                }
                Ok(Pull::Chunk(Chunk::Bytes(data)))
            }
            Ok(Next::NotYet) => match self.wait().filter(|_| now_ms() < self.until) {
                Some(wait) => Ok(Pull::Wait(wait)),
                None => self.broke(r, io::Error::other("(70007)The timeout specified has expired")),
            },
            Ok(Next::End) => {
                self.release();
                r.trailers_out.extend_from(&self.trailers);
                Ok(Pull::End(None))
            }
            Err(err) => self.broke(r, err),
        }
    }

    fn len(&self) -> Option<u64> {
        None
    }
}
