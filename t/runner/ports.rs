//! Free TCP ports on 127.0.0.1, never the same for two cases, nor for two runs at the same time.
//!
//! They are taken below the kernel's ephemeral range, so that no client connection can sit on one. As long as a
//! [`Port`] lives, an abstract Unix socket of its name keeps other runs away: such a name is free again when its
//! process ends, whoever ran it. All have five digits: a reply that names the port is equally long whatever the port.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 16_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A reserved port.
pub struct Port {
    pub number: u16,
    _reservation: UnixListener,
}

/// Reserves a free port.
pub fn reserve() -> Result<Port, String> {
    // Runs start at different places, so that they seldom meet.
    let start = (std::process::id() as u16).wrapping_mul(61);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + start.wrapping_add(step) % COUNT;
        let name = SocketAddr::from_abstract_name(format!("httpd-cases-port-{number}"));
        let Ok(reservation) = name.and_then(|name| UnixListener::bind_addr(&name)) else { continue };
        if TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Ok(Port { number, _reservation: reservation });
        }
    }
    Err("no free port".to_owned())
}
