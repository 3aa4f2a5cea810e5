//! The listening sockets. They stay open for as long as the configuration names them, over every restart.
//!
//! Answers to `server/listen.c`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::server::ListenSpec;
use crate::log;
use crate::modules::mpm::MpmConf;

/// `DEFAULT_LISTENBACKLOG`.
const BACKLOG: i32 = 511;

/// An open listening socket.
pub struct Listener {
    /// What it is there for.
    pub spec: ListenSpec,
    /// Its address.
    pub addr: SocketAddr,
    socket: Arc<TcpListener>,
}

/// How many sockets each address has, among which the children are divided: `ListenCoresBucketsRatio`. Decided once, at the
/// start (`ap_duplicate_listeners`).
pub fn buckets(conf: &MpmConf, cores: usize) -> usize {
    let Some(ratio) = conf.cores_buckets_ratio else { return 1 };
    let buckets = (cores / ratio as usize).max(1);
    let text = format!(
        "Using {buckets} listeners bucket(s) based on {cores} online CPU cores and a ratio of {ratio}"
    );
    log::server_event(log::Level::Info, "core", "AH02819", &text);
    buckets
}

impl Listener {
    /// The next connection, if one waits. Non-blocking, and so is the connection.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept()
    }

    /// The same for prefork: the connection blocks, so that its process can sleep in `recv` itself.
    pub fn accept_blocking(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, client) = SockRef::from(&*self.socket).accept()?;
        let client = client.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((TcpStream::from_std(socket.into()), client))
    }

    /// The same socket, for what the configuration says of it now.
    fn kept_as(&self, spec: &ListenSpec, conf: &MpmConf) -> Listener {
        let socket = SockRef::from(&*self.socket);
        let _ = socket.listen(conf.listen_backlog.unwrap_or(BACKLOG));
        size_buffers(socket, self.addr, conf);
        defer_accept(self.socket.as_fd(), spec, conf);
        Listener { spec: spec.clone(), addr: self.addr, socket: self.socket.clone() }
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

/// Opens what `specs` name and `open` does not have yet, for each of so many buckets; what is open already is used again.
/// Nothing that is open is closed here, so that an error leaves all as it was. Its text is what goes to standard error.
pub fn open(
    specs: &[ListenSpec],
    open: &[Vec<Arc<Listener>>],
    conf: &MpmConf,
    buckets: usize,
) -> Result<Vec<Vec<Arc<Listener>>>, String> {
    if specs.is_empty() {
        return Err(String::new());
    }
    let mut now = Vec::with_capacity(buckets);
    for bucket in 0..buckets {
        let mut listeners = Vec::with_capacity(specs.len());
        for spec in specs {
            let old = open
                .get(bucket)
                .and_then(|open| open.iter().find(|l| l.spec.ip == spec.ip && l.spec.port == spec.port));
            listeners.push(Arc::new(match old {
                Some(old) => old.kept_as(spec, conf),
                None => bind(spec, conf, buckets > 1)
                    .or_else(|failed| {
                        // In the way may be one that is closed when this one listens: `*:80` that becomes `127.0.0.1:80`.
                        let leaving = open.iter().flatten().filter(|l| l.spec.port == spec.port);
                        let leaving: Vec<_> = leaving
                            .filter(|l| !specs.iter().any(|s| s.ip == l.spec.ip && s.port == l.spec.port))
                            .collect();
                        if !failed.in_use || leaving.is_empty() {
                            return Err(failed);
                        }
                        for old in leaving {
                            let _ = SockRef::from(&*old.socket).set_reuse_port(true);
                        }
                        let bound = bind(spec, conf, true)?;
                        if buckets == 1 {
                            // Nobody else may have this address.
                            let _ = SockRef::from(&*bound.socket).set_reuse_port(false);
                        }
                        Ok(bound)
                    })
                    .map_err(|failed| failed.text)?,
            }));
        }
        now.push(listeners);
    }
    Ok(now)
}

/// Why there is no socket.
struct Failed {
    text: String,
    /// Another socket has the address.
    in_use: bool,
}

/// With `shared` others that say so, too, may have the same address.
fn bind(spec: &ListenSpec, conf: &MpmConf, shared: bool) -> Result<Listener, Failed> {
    // Without an address: IPv6 that takes IPv4 too, or IPv4 where there is no IPv6.
    let candidates: Vec<IpAddr> = match spec.ip {
        Some(ip) => vec![ip],
        None => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
    };
    let mut last = None;
    for ip in &candidates {
        let addr = SocketAddr::new(*ip, spec.port);
        match listen(addr, spec, conf, shared) {
            Ok(socket) => return Ok(Listener { spec: spec.clone(), addr, socket: Arc::new(socket) }),
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
    let text = format!("{}: AH00072: make_sock: could not bind to address {addr}", log::system_error(&err));
    Err(Failed { text, in_use: err.kind() == io::ErrorKind::AddrInUse })
}

fn listen(addr: SocketAddr, spec: &ListenSpec, conf: &MpmConf, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(spec.ip.is_some())?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_keepalive(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    size_buffers(SockRef::from(&socket), addr, conf);
    socket.bind(&addr.into())?;
    socket.listen(conf.listen_backlog.unwrap_or(BACKLOG))?;
    defer_accept(socket.as_fd(), spec, conf);
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// `SendBufferSize`, `ReceiveBufferSize`: accepted connections inherit them. One that the system does not take is no
/// reason not to listen.
fn size_buffers(socket: SockRef, addr: SocketAddr, conf: &MpmConf) {
    let failed = |ah: &str, option: &str, err: io::Error| {
        let text = format!("make_sock: failed to set {option} for address {addr}, using default");
        log::server_error(log::Level::Warn, "core", ah, Some(&err), &text);
    };
    if let Some(size) = conf.send_buffer_size
        && let Err(err) = socket.set_send_buffer_size(size)
    {
        failed("AH00070", "SendBufferSize", err);
    }
    if let Some(size) = conf.receive_buffer_size
        && let Err(err) = socket.set_recv_buffer_size(size)
    {
        failed("AH00071", "ReceiveBufferSize", err);
    }
}

/// Lets the kernel keep a connection until it has data: `ap_apply_accept_filter`. Both protocols have a filter by default,
/// whose name means nothing on Linux but for `none`; others have none.
fn defer_accept(socket: BorrowedFd, spec: &ListenSpec, conf: &MpmConf) {
    const DEFAULT_SECONDS: i32 = 30;
    let filter = conf.accept_filters.get(&spec.protocol).map(String::as_str);
    let known = matches!(spec.protocol.as_str(), "http" | "https").then_some("data");
    let on = filter.or(known).is_some_and(|filter| filter != "none");
    let seconds = if on { conf.defer_accept.unwrap_or(DEFAULT_SECONDS) } else { 0 };
    if let Err(err) = crate::os::socket::defer_accept(socket, seconds) {
        let text = "Failed to enable APR_TCP_DEFER_ACCEPT";
        log::server_error(log::Level::Warn, "core", "AH00076", Some(&err), text);
    }
}
