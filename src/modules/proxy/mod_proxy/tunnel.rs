//! Both ways between a client and a backend, until both are done (`ap_proxy_tunnel_run`).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::pool::Conn;
use crate::body::Wait;
use crate::conn::wire;
use crate::log::{Level, rerror};
use crate::os::clock::{Millis, now_ms};
use crate::os::socket;
use crate::request::Request;

/// Several descriptors that are waited for as one.
#[derive(Default)]
pub struct Watch {
    epoll: Option<Epoll>,
    watched: Vec<(RawFd, bool)>,
}

impl Watch {
    /// Waits for any of these: to be read from, else to be written to.
    pub fn wait(&mut self, wanted: &[(RawFd, bool)], timeout: Duration) -> std::io::Result<Wait> {
        let epoll = match self.epoll.take() {
            Some(epoll) => epoll,
            None => Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        };
        if self.watched != wanted {
            for (fd, _) in self.watched.drain(..) {
                if let Some(fd) = socket::borrow(fd) {
                    _ = epoll.delete(fd);
                }
            }
            for (index, &(fd, read)) in wanted.iter().enumerate() {
                let mut flags = if read { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
                let Some(borrowed) = socket::borrow(fd) else { continue };
                if wanted[..index].iter().any(|(other, _)| *other == fd) {
                    continue;
                }
                if wanted[index + 1..].iter().any(|(other, _)| *other == fd) {
                    flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                }
                epoll.add(borrowed, EpollEvent::new(flags, 0))?;
            }
            self.watched = wanted.to_vec();
        }
        let fd = epoll.0.as_raw_fd();
        self.epoll = Some(epoll);
        Ok(Wait { fd, read: true, timeout, kept: None })
    }
}

/// How much is kept of what one side said and the other has not taken.
const KEPT: usize = 64 * 1024;

/// A tunnel.
pub struct Tunnel {
    conn: Conn,
    protocol: String,
    timeout: Duration,
    until: Millis,
    half_close: bool,
    client_done: bool,
    backend_done: bool,
    /// The backend was told that the client is done.
    shut_backend: bool,
    shut_client: bool,
    watch: Watch,
}

/// How it goes on.
pub enum Flow {
    /// With what comes.
    Wait(Wait),
    /// It is over.
    End,
}

impl Tunnel {
    /// Begins with what the backend has said already.
    pub fn new(r: &Request, conn: Conn, protocol: String, timeout: Duration) -> Tunnel {
        let timeout = timeout.max(r.server.resolved.timeout);
        rerror!(
            r,
            Level::Trace1,
            "proxy",
            "AH10212",
            "proxy: {protocol}: tunnel running (timeout {:.6})",
            timeout.as_secs_f64()
        );
        Tunnel {
            conn,
            protocol,
            timeout,
            until: now_ms() + timeout.as_millis() as Millis,
            half_close: !r.subprocess_env.contains("proxy-nohalfclose"),
            client_done: false,
            backend_done: false,
            shut_backend: false,
            shut_client: false,
            watch: Watch::default(),
        }
    }

    fn end(&self, r: &Request, status: i32) -> Flow {
        let protocol = &self.protocol;
        rerror!(r, Level::Trace1, "proxy", "AH10223", "proxy: {protocol}: tunneling returns ({status})");
        Flow::End
    }

    /// Moves what can be moved.
    pub fn go_on(&mut self, r: &mut Request) -> Flow {
        loop {
            let moved = match self.pass_to_backend(r).and_then(|one| Ok(self.pass_to_client(r)? | one)) {
                Ok(moved) => moved,
                Err(_) => return self.end(r, 500),
            };
            if self.shut_backend && self.shut_client
                || !self.half_close && (self.client_done || self.backend_done)
            {
                return self.end(r, 0);
            }
            if moved {
                self.until = now_ms() + self.timeout.as_millis() as Millis;
                continue;
            }
            if now_ms() >= self.until {
                return self.end(r, 504);
            }
            let Some(wire) = r.input.wire.as_deref() else { return self.end(r, 500) };
            let mut wanted = Vec::with_capacity(4);
            let room = self.conn.output.len() < KEPT;
            if !self.client_done && room {
                wanted.push((wire.fd(), true));
            }
            if !self.conn.output.is_empty() {
                wanted.push((self.conn.fd(), false));
            }
            if !wire.is_flushed() {
                wanted.push((wire.fd(), false));
            } else if !self.backend_done {
                wanted.push((self.conn.fd(), true));
            }
            let left = Duration::from_millis(self.until.saturating_sub(now_ms()));
            return match self.watch.wait(&wanted, left) {
                Ok(wait) => Flow::Wait(wait),
                Err(_) => self.end(r, 500),
            };
        }
    }

    fn pass_to_backend(&mut self, r: &mut Request) -> std::io::Result<bool> {
        let Some(wire) = r.input.wire.as_deref_mut() else { return Ok(false) };
        let mut moved = false;
        if !self.client_done && self.conn.output.len() < KEPT {
            if wire.buffered().is_empty() {
                // It may be told of by the poller of the tunnel only.
                wire.readable = true;
                if wire.fill()? == wire::Progress::Closed {
                    self.client_done = true;
                    moved = true;
                }
            }
            let count = wire.buffered().len();
            self.conn.output.extend_from_slice(wire.buffered());
            wire.take(count);
            r.bytes_in += count as u64;
            moved |= count > 0;
        }
        while !self.conn.output.is_empty() {
            match (&self.conn.socket).write(&self.conn.output) {
                Ok(sent) => {
                    self.conn.output.drain(..sent);
                    moved = true;
                }
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        if self.client_done && self.conn.output.is_empty() && !self.shut_backend {
            _ = self.conn.socket.shutdown(Shutdown::Write);
            self.shut_backend = true;
            moved = true;
        }
        Ok(moved)
    }

    fn pass_to_client(&mut self, r: &mut Request) -> std::io::Result<bool> {
        let mut moved = false;
        let Some(wire) = r.input.wire.as_deref_mut() else { return Ok(false) };
        let mut say = |wire: &mut wire::Wire, bytes: &[u8]| {
            r.bytes_sent += bytes.len() as u64;
            r.bytes_out += bytes.len() as u64;
            wire.push_bytes(bytes);
        };
        if !self.conn.buffered().is_empty() {
            say(wire, self.conn.buffered());
            let count = self.conn.buffered().len();
            self.conn.take(count);
            moved = true;
        }
        if wire.flush()? == wire::Progress::Done && !self.backend_done {
            let mut piece = [0; 16 * 1024];
            match (&self.conn.socket).read(&mut piece) {
                Ok(0) => {
                    self.backend_done = true;
                    moved = true;
                }
                Ok(count) => {
                    say(wire, &piece[..count]);
                    moved = true;
                    wire.flush()?;
                }
                Err(err)
                    if matches!(
                        err.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(err) => return Err(err),
            }
        }
        if self.backend_done && wire.is_flushed() && !self.shut_client {
            _ = wire.stream.shutdown(Shutdown::Write);
            self.shut_client = true;
            moved = true;
        }
        Ok(moved)
    }
}
