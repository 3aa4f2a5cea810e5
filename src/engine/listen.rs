//! The listening sockets. They stay open for as long as the configuration names them, over every restart.
//!
//! Answers to `server/listen.c`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::server::ListenSpec;
use crate::log;
use crate::modules::mpm::MpmConf;

/// An open listening socket.
pub struct Listener {
    /// What it is there for.
    pub spec: ListenSpec,
    /// Its address.
    pub addr: SocketAddr,
    socket: TcpListener,
}

impl Listener {
    /// The next connection, if one waits. Non-blocking, and so is the connection.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }

    /// The same for prefork: the connection blocks, so that its process can sleep in `recv` itself.
    pub fn accept_blocking(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, client) = socket2::SockRef::from(&self.socket).accept()?;
        let client = client.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((TcpStream::from_std(socket.into()), client))
    }

    /// The socket's number.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// True when it is bound to one address, so that connections need not be asked for theirs.
    pub fn is_specific(&self) -> bool {
        !self.addr.ip().is_unspecified()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens what `specs` name and `open` does not have yet; what is open already is used again. Nothing that is open is
/// closed here, so that an error leaves all as it was. Its text is what goes to standard error.
pub fn open(
    specs: &[ListenSpec],
    open: &[Arc<Listener>],
    conf: &MpmConf,
) -> Result<Vec<Arc<Listener>>, String> {
    if specs.is_empty() {
        return Err(String::new());
    }
    let mut now = Vec::with_capacity(specs.len());
    for spec in specs {
        match open.iter().find(|l| l.spec.ip == spec.ip && l.spec.port == spec.port) {
            Some(listener) => now.push(listener.clone()),
            None => now.push(Arc::new(bind(spec, conf)?)),
        }
    }
    Ok(now)
}

fn bind(spec: &ListenSpec, conf: &MpmConf) -> Result<Listener, String> {
    // Without an address: IPv6 that takes IPv4 too, or IPv4 where there is no IPv6.
    let candidates: Vec<IpAddr> = match spec.ip {
        Some(ip) => vec![ip],
        None => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
    };
    let mut last = None;
    for ip in &candidates {
        let addr = SocketAddr::new(*ip, spec.port);
        match listen(addr, spec, conf) {
            Ok(socket) => return Ok(Listener { spec: spec.clone(), addr, socket }),
            Err(err) => {
                let no_family = matches!(err.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
                    && ip.is_ipv6();
                last = Some((addr, err));
                if !no_family {
                    break;
                }
            }
        }
    }
    let (addr, err) = last.unwrap_or_else(|| {
        (SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), spec.port), io::ErrorKind::AddrNotAvailable.into())
    });
    Err(format!("{}: AH00072: make_sock: could not bind to address {addr}", log::system_error(&err)))
}

fn listen(addr: SocketAddr, spec: &ListenSpec, conf: &MpmConf) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(spec.ip.is_some())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_keepalive(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    if let Some(size) = conf.send_buffer_size {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = conf.receive_buffer_size {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(conf.listen_backlog.unwrap_or(511))?;
    defer_accept(&socket, spec, conf);
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Lets the kernel keep a connection until it has data: `ap_apply_accept_filter`. Both protocols have a filter by default,
/// whose name means nothing on Linux but for `none`; others have none.
fn defer_accept(socket: &Socket, spec: &ListenSpec, conf: &MpmConf) {
    const DEFAULT_SECONDS: i32 = 30;
    let filter = conf.accept_filters.get(&spec.protocol).map(String::as_str);
    let known = matches!(spec.protocol.as_str(), "http" | "https").then_some("data");
    if filter.or(known).is_none_or(|filter| filter == "none") {
        return;
    }
    let seconds = conf.defer_accept.unwrap_or(DEFAULT_SECONDS);
    if let Err(err) = crate::os::socket::defer_accept(socket.as_fd(), seconds) {
        let text = "Failed to enable APR_TCP_DEFER_ACCEPT";
        log::server_error(log::Level::Warn, "core", "AH00076", Some(&err), text);
    }
}
