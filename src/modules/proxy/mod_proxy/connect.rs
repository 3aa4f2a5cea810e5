//! Connecting to a backend, without waiting: its address, the socket, and whether an idle connection is still good.
//!
//! Answers to `ap_proxy_determine_address`, `ap_proxy_check_connection` and `ap_proxy_connect_backend`.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::SERVER;
use super::pool::{Conn, Peer, next_id};
use super::worker::Worker;
use crate::log::{self, Level, shown};
use crate::os::clock::{Millis, now_ms};
use crate::request::Request;

/// The addresses of a backend.
pub enum Addresses {
    /// These.
    Known(Vec<SocketAddr>),
    /// The resolver must be asked, which may block.
    NeedThread,
    /// There are none.
    Failed,
}

/// Finds the addresses of `peer`, as its worker keeps them or anew.
pub fn addresses(r: &Request, worker: &Worker, peer: &Peer) -> Addresses {
    if let Ok(ip) = peer.hostname.parse::<IpAddr>() {
        return Addresses::Known(vec![SocketAddr::new(ip, peer.port)]);
    }
    if let Some(known) = worker.pool.address(peer) {
        return Addresses::Known(known);
    }
    if r.needs_thread() {
        return Addresses::NeedThread;
    }
    match (peer.hostname.as_str(), peer.port).to_socket_addrs() {
        Ok(found) => {
            let mut addrs: Vec<SocketAddr> = Vec::new();
            found.for_each(|addr| {
                if !addrs.contains(&addr) {
                    addrs.push(addr)
                }
            });
            if addrs.is_empty() {
                return Addresses::Failed;
            }
            if worker.keeps_address() {
                worker.pool.keep_address(
                    peer.clone(),
                    addrs.clone(),
                    worker.params.address_ttl.unwrap_or(-1),
                );
            }
            Addresses::Known(addrs)
        }
        Err(_) => Addresses::Failed,
    }
}

/// What an idle connection turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// It can be used.
    Alive,
    /// The backend has closed it.
    Closed,
    /// The backend has said something that nobody asked for.
    NotEmpty,
}

/// Looks at an idle connection before it is used.
pub fn check(conn: &Conn) -> Checked {
    if !conn.buffered().is_empty() {
        return Checked::NotEmpty;
    }
    match conn.socket.peek(&mut [MaybeUninit::uninit(); 1]) {
        Ok(0) => Checked::Closed,
        Ok(_) => Checked::NotEmpty,
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Checked::Alive,
        Err(_) => Checked::Closed,
    }
}

/// A connection that is being made.
pub struct Connecting {
    peer: Peer,
    addrs: std::vec::IntoIter<SocketAddr>,
    under_way: Option<(Socket, Option<SocketAddr>, Millis)>,
    timeout: Duration,
}

/// How far it is.
pub enum Progress {
    /// It is made.
    Done(Conn),
    /// Not before the socket is writable, or until then.
    Wait(std::os::fd::RawFd, Millis),
    /// None of the addresses answers.
    Failed,
}

/// How long it is waited for a backend that is asked or answers (`timeout=`, `ProxyTimeout`, `TimeOut`).
pub fn timeout(r: &Request, worker: &Worker) -> Duration {
    worker.params.timeout.or(r.server_conf(&SERVER).timeout).unwrap_or(r.server.resolved.timeout)
}

impl Connecting {
    /// To one of these addresses, or to the peer's socket.
    pub fn new(r: &Request, worker: &Worker, peer: Peer, addrs: Vec<SocketAddr>) -> Connecting {
        let timeout = match &peer.uds_path {
            None => worker.params.connection_timeout.unwrap_or_else(|| timeout(r, worker)),
            Some(_) => timeout(r, worker),
        };
        Connecting { peer, addrs: addrs.into_iter(), under_way: None, timeout }
    }

    /// Goes on as far as it can.
    pub fn go_on(&mut self, r: &Request, worker: &Worker, scheme: &str) -> Progress {
        loop {
            if let Some((socket, addr, until)) = self.under_way.take() {
                let error = match socket.take_error() {
                    Ok(Some(err)) | Err(err) => err,
                    Ok(None) if socket.peer_addr().is_ok() => return self.done(r, socket, addr, scheme),
                    Ok(None) if now_ms() >= until => io::Error::from_raw_os_error(70007),
                    Ok(None) => {
                        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
                        self.under_way = Some((socket, addr, until));
                        return Progress::Wait(fd, until);
                    }
                };
                self.log_failed(r, addr, &error, scheme);
                continue;
            }
            let addr = match &self.peer.uds_path {
                // Once only.
                Some(_) if self.timeout.is_zero() => return Progress::Failed,
                Some(_) => None,
                None => match self.addrs.next() {
                    Some(addr) => Some(addr),
                    None => {
                        // They may have changed.
                        worker.pool.forget_address();
                        return Progress::Failed;
                    }
                },
            };
            let until = now_ms() + self.timeout.as_millis() as Millis;
            if self.peer.uds_path.is_some() {
                self.timeout = Duration::ZERO;
            }
            match self.begin(r, worker, addr) {
                Ok(socket) => self.under_way = Some((socket, addr, until)),
                Err(err) => self.log_failed(r, addr, &err, scheme),
            }
        }
    }

    fn begin(&self, r: &Request, worker: &Worker, addr: Option<SocketAddr>) -> io::Result<Socket> {
        let (domain, protocol) = match addr {
            Some(addr) => (Domain::for_address(addr), Some(Protocol::TCP)),
            None => (Domain::UNIX, None),
        };
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), protocol)?;
        let target = match (addr, &self.peer.uds_path) {
            (Some(addr), _) => {
                if let Some(size) = worker.params.receive_buffer_size.filter(|&size| size > 0) {
                    _ = socket.set_recv_buffer_size(size);
                }
                _ = socket.set_tcp_nodelay(true);
                if worker.params.keepalive {
                    _ = socket.set_keepalive(true);
                }
                if let Some(ip) = r.server_conf(&SERVER).source_address
                    && let Err(err) = socket.bind(&SocketAddr::new(ip, 0).into())
                {
                    let text = format!("{}: failed to bind socket to local address", worker.scheme);
                    log::event_of(&r.server, Level::Error, "proxy", "AH00956", Some(&err), &text);
                }
                SockAddr::from(addr)
            }
            (None, path) => {
                let path = path.as_deref().unwrap_or_default();
                SockAddr::unix(std::ffi::OsStr::from_bytes(path))?
            }
        };
        match socket.connect(&target) {
            Ok(()) => Ok(socket),
            Err(err) if err.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => Ok(socket),
            Err(err) => Err(err),
        }
    }

    fn log_failed(&self, r: &Request, addr: Option<SocketAddr>, err: &io::Error, scheme: &str) {
        let Peer { hostname, port, uds_path } = &self.peer;
        let timed_out = io::Error::other("(70007)The timeout specified has expired");
        let err = if err.raw_os_error() == Some(70007) { &timed_out } else { err };
        let (level, number, text) = match addr {
            Some(addr) => {
                let last = self.addrs.len() == 0;
                let level = if last { Level::Error } else { Level::Debug };
                let text = format!("{scheme}: attempt to connect to {addr} ({hostname}:{port}) failed");
                (level, "AH00957", text)
            }
            None => {
                let path = shown(uds_path.as_deref().unwrap_or_default());
                let text = format!(
                    "{scheme}: attempt to connect to Unix domain socket {path} ({hostname}:{port}) failed"
                );
                (Level::Error, "AH02454", text)
            }
        };
        log::event_of(&r.server, level, "proxy", number, Some(err), &text);
    }

    fn done(&mut self, r: &Request, socket: Socket, addr: Option<SocketAddr>, scheme: &str) -> Progress {
        let Peer { hostname, port, uds_path } = &self.peer;
        let (number, to) = match addr {
            Some(addr) => ("AH02824", addr.to_string()),
            None => {
                let path = shown(uds_path.as_deref().unwrap_or_default()).into_owned();
                ("AH02823", format!("Unix domain socket {path}"))
            }
        };
        if r.log_enabled("proxy", Level::Debug) {
            let text = format!("{scheme}: connection established with {to} ({hostname}:{port})");
            log::event_of(&r.server, Level::Debug, "proxy", number, None, &text);
        }
        Progress::Done(Conn {
            id: next_id(),
            socket,
            peer: std::mem::take(&mut self.peer),
            addr,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            keepalives: 0,
        })
    }
}
