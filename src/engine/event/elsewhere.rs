//! Descriptors that connections wait for besides their clients' sockets: a script's pipes, backends.
//!
//! A script's pipe is registered for one wait. A connection to a backend serves many requests, of one client after the
//! other: it stays registered, and who waits for it is noted here, so that a wait costs no system call. When it is closed,
//! the poller forgets it by itself; that its number then means another one is seen by the number that each has for life.

use std::collections::HashMap;
use std::os::fd::RawFd;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// What a connection waits for.
#[derive(Clone, Copy)]
pub(super) enum Other {
    /// Registered for this wait.
    Once(RawFd),
    /// Registered as long as it is open.
    Kept(RawFd),
}

/// How to wait for a descriptor.
pub(super) enum Waits {
    /// The poller will tell.
    For(Other),
    /// It is ready as it is, or always.
    Not,
}

/// Tokens of descriptors that stay registered: this and their number.
const KEPT: usize = 1 << 40;

/// One that stays registered.
struct Kept {
    /// Its number for life.
    id: u64,
    /// The key of the connection that waits for it.
    waiter: Option<usize>,
    /// Events that nobody waited for.
    readable: bool,
    writable: bool,
}

#[derive(Default)]
pub(super) struct Elsewhere {
    kept: HashMap<RawFd, Kept, foldhash::fast::RandomState>,
    /// Connections that wait for what was registered for one wait.
    pub(super) once: usize,
}

impl Elsewhere {
    /// Lets the connection at `key` wait for `fd`; `kept`: the number for life of one that stays registered.
    pub(super) fn wait(
        &mut self,
        registry: &Registry,
        key: usize,
        fd: RawFd,
        read: bool,
        kept: Option<u64>,
    ) -> Waits {
        let Some(id) = kept else {
            let interest = if read { Interest::READABLE } else { Interest::WRITABLE };
            // A plain file or the like is always ready.
            return match registry.register(&mut SourceFd(&fd), Token(key * 2 + 1), interest) {
                Ok(()) => {
                    self.once += 1;
                    Waits::For(Other::Once(fd))
                }
                Err(_) => Waits::Not,
            };
        };
        if let Some(known) = self.kept.get_mut(&fd).filter(|known| known.id == id) {
            if std::mem::take(if read { &mut known.readable } else { &mut known.writable }) {
                return Waits::Not;
            }
            known.waiter = Some(key);
            return Waits::For(Other::Kept(fd));
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        if registry.register(&mut SourceFd(&fd), Token(KEPT + fd as usize), both).is_err() {
            return Waits::Not;
        }
        self.kept.insert(fd, Kept { id, waiter: Some(key), readable: false, writable: false });
        Waits::For(Other::Kept(fd))
    }

    /// It waits no more.
    pub(super) fn over(&mut self, registry: &Registry, other: Other) {
        match other {
            Other::Once(fd) => {
                self.once -= 1;
                let _ = registry.deregister(&mut SourceFd(&fd));
            }
            Other::Kept(fd) => {
                if let Some(kept) = self.kept.get_mut(&fd) {
                    kept.waiter = None;
                }
            }
        }
    }

    /// Which connection an event of one that stays registered is for; without one, it is remembered.
    pub(super) fn ready(&mut self, event: &Event) -> Option<usize> {
        let fd = (event.token().0 - KEPT) as RawFd;
        let kept = self.kept.get_mut(&fd)?;
        let over = event.is_error() || event.is_read_closed();
        match kept.waiter {
            Some(key) => {
                kept.readable = false;
                kept.writable = false;
                Some(key)
            }
            None => {
                kept.readable |= event.is_readable() || over;
                kept.writable |= event.is_writable() || over;
                None
            }
        }
    }
}

/// Whether this is the token of one that stays registered.
pub(super) fn is_kept(token: usize) -> bool {
    (KEPT..super::LISTENERS - 1000).contains(&token)
}
