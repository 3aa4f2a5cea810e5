//! Servers that know of each other (`modules/cluster`).

pub mod mod_heartbeat;
pub mod mod_heartmonitor;

use std::net::{SocketAddr, ToSocketAddrs};

use crate::modules::core::server::split_addr_port;

/// Why an address can't be taken; each module says it in its own words.
enum BadAddress {
    Unparsable,
    NoHost,
    NoPort,
    Unknown,
}

/// `host:port`, looked up, for IPv4.
fn group_address(text: &str) -> Result<SocketAddr, BadAddress> {
    let (host, port) = split_addr_port(text).ok_or(BadAddress::Unparsable)?;
    let host = host.ok_or(BadAddress::NoHost)?;
    let port = port.ok_or(BadAddress::NoPort)?;
    let mut addresses = (host, port).to_socket_addrs().map_err(|_| BadAddress::Unknown)?;
    addresses.find(SocketAddr::is_ipv4).ok_or(BadAddress::Unknown)
}
