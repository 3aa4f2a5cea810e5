//! Sockets: sending files.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Sends at most `len` bytes of `file` from `offset`; how many went.
pub fn sendfile(to: BorrowedFd, file: &File, offset: u64, len: u64) -> io::Result<usize> {
    let mut at = offset as libc::off_t;
    // At most 1 MiB a call: other connections want their turn.
    let count = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 20);
    Ok(nix::sys::sendfile::sendfile(to, file, Some(&mut at), count)?)
}

/// Whether a call may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocking {
    /// It answers at once, also on a socket that blocks.
    Never,
    /// For as long as the socket's timeout says, where the socket blocks.
    UntilTimeout,
}

/// Reads what is there.
pub fn recv(from: BorrowedFd, buffer: &mut [u8], blocking: Blocking) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, recv};
    let flags = if blocking == Blocking::Never { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
    Ok(recv(from.as_raw_fd(), buffer, flags)?)
}

/// Sends bytes that more will follow, so that the kernel may wait for these.
pub fn send_more(to: BorrowedFd, bytes: &[u8]) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, send};
    let flags = MsgFlags::from_bits_retain(libc::MSG_MORE | libc::MSG_NOSIGNAL);
    Ok(send(to.as_raw_fd(), bytes, flags)?)
}

/// `TCP_DEFER_ACCEPT`: a connection is handed over when its first data came, or after about so many seconds.
pub fn defer_accept(socket: BorrowedFd, seconds: i32) -> io::Result<()> {
    // SAFETY: the pointer is to a live integer of the length given; the kernel copies it.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor by its number, for one call of `poll` or the like. The caller holds what owns it.
pub fn borrow<'fd>(fd: RawFd) -> Option<BorrowedFd<'fd>> {
    if fd < 0 {
        return None;
    }
    // SAFETY: not -1; the callers own the descriptor for the length of the call, and a closed one would only be
    // answered with EBADF.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}
