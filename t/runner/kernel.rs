//! What the kernel knows of a connection's other end: `sock_diag(7)`, which asks about one socket without a look at
//! the others, as `/proc/net/tcp` would need.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// `sizeof(struct nlmsghdr)`
const HEAD: usize = 16;
/// Where `idiag_rqueue` is in `struct inet_diag_msg`.
const RQUEUE: usize = HEAD + 4 + 48 + 4;

/// How many bytes the first socket has received that its owner has not read; 0 for one that is gone.
pub fn unread([own, peer]: [SocketAddr; 2]) -> io::Result<u32> {
    let (IpAddr::V4(own_ip), IpAddr::V4(peer_ip)) = (own.ip(), peer.ip()) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut ask = Vec::with_capacity(HEAD + 56);
    ask.extend_from_slice(&(HEAD as u32 + 56).to_ne_bytes());
    ask.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    ask.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    ask.extend_from_slice(&[0; 8]);
    // struct inet_diag_req_v2: family, protocol, no extensions, all states, then struct inet_diag_sockid.
    ask.extend_from_slice(&[libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    ask.extend_from_slice(&u32::MAX.to_ne_bytes());
    ask.extend_from_slice(&own.port().to_be_bytes());
    ask.extend_from_slice(&peer.port().to_be_bytes());
    for ip in [own_ip, peer_ip] {
        ask.extend_from_slice(&ip.octets());
        ask.extend_from_slice(&[0; 12]);
    }
    ask.extend_from_slice(&[0; 4]);
    ask.extend_from_slice(&[0xff; 8]);
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(netlink.as_raw_fd(), &ask, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
    let number = |at: usize| {
        let bytes = answer[..length].get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    match kind {
        Some(SOCK_DIAG_BY_FAMILY) => number(RQUEUE).ok_or(io::ErrorKind::InvalidData.into()),
        Some(NLMSG_ERROR) => match number(HEAD).map(|error| -(error as i32)) {
            Some(libc::ENOENT) => Ok(0),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Err(io::ErrorKind::InvalidData.into()),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
