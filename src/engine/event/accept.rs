//! When a child of event takes connections, and when not.
//!
//! Answers to `enable_listensocks`, `disable_listensocks`, `connections_above_limit` and `process_keepalive_queue` of
//! `server/mpm/event/event.c` and to `ap_unixd_accept`. Differs: of the children that sleep the kernel wakes one for a
//! connection (`EPOLLEXCLUSIVE`); the one that took some stands behind the others then. When descriptors are short the child
//! makes room and goes on (Apache's ends).

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use mio::Poll;
use mio::unix::SourceFd;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::{LISTENERS, Reactor};
use crate::conn::task::{Need, Phase, Task};
use crate::engine::child::{AcceptFailed, Child, accept_failed};
use crate::log::{self, Level};
use crate::os::clock::{Millis, now_ms};
use crate::os::{process, socket};
use crate::request::memo;

/// How many connections are taken at once before those that are there have a turn, and the other children theirs.
pub(super) const ACCEPTS: usize = 16;

/// How many at most are taken before a child stops listening for good.
pub(super) const LAST_ACCEPTS: usize = 64;

/// How long accepting rests when descriptors are short and nothing could be closed, in milliseconds.
const PAUSE: Millis = 100;

/// Whether connections are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listening {
    Yes,
    /// Too many connections need a worker: not until some are done.
    Disabled,
    /// Descriptors are short: not until then.
    Paused(Millis),
    /// The child goes: never again.
    Over,
}

/// Some descriptors are kept for what serves the connections.
pub(super) fn last_descriptors(threads: u32) -> i32 {
    let most = process::descriptor_limit();
    let kept = (u64::from(threads) + 16).min(most / 4);
    i32::try_from(most - kept).unwrap_or(i32::MAX)
}

/// Waits for connections at all its sockets. mio does not know `EPOLLEXCLUSIVE`, but its events are epoll's.
pub(super) fn listen(child: &Child, poll: &Poll) -> io::Result<()> {
    let fd = socket::borrow(poll.as_raw_fd()).ok_or(io::ErrorKind::NotFound)?;
    let epoll = Epoll(fd.try_clone_to_owned()?);
    for (index, listener) in child.listeners.borrow().iter().enumerate() {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        epoll.add(&**listener, EpollEvent::new(flags, (LISTENERS - index) as u64))?;
    }
    Ok(())
}

impl Reactor<'_> {
    pub(super) fn stop_listening(&mut self) {
        if self.listening == Listening::Yes {
            for listener in self.child.listeners.borrow().iter() {
                // It was registered; that it can't be taken out any more only means it is out.
                let _ = self.poll.registry().deregister(&mut SourceFd(&listener.fd()));
            }
        }
    }

    /// Takes what waits now: the kernel may have told no other child of it.
    pub(super) fn drain_listeners(&mut self, most: usize) {
        let count = self.child.listeners.borrow().len();
        for index in 0..count {
            self.accept(index, most);
        }
    }

    /// `connections_above_limit`: `Some(true)` when no worker is idle, `Some(false)` when only too many connections need one.
    fn above_limit(&self) -> Option<bool> {
        let threads = self.child.limits.threads_per_child as usize;
        let idle = threads.saturating_sub(self.away);
        if idle == 0 {
            return Some(true);
        }
        // Off by one when disabled, so that it does not change to and fro.
        let off = usize::from(self.listening == Listening::Disabled);
        let factor = self.child.runtime.mpm.async_factor.unwrap_or(2.0);
        let most = threads as f64 + (idle - off) as f64 * factor;
        (self.away + self.elsewhere.once >= most as usize).then_some(false)
    }

    /// At the end of a turn: may it go on taking connections, or begin again?
    pub(super) fn review(&mut self) -> io::Result<()> {
        match self.listening {
            Listening::Yes => {
                let most = self.child.runtime.mpm.max_connections_per_child;
                if self.sick || most > 0 && self.child.score().accepted.load(Ordering::Relaxed) >= most {
                    if !self.sick {
                        let text = "Stopping process due to MaxConnectionsPerChild";
                        log::server_event(Level::Trace1, "mpm_event", "", text);
                    }
                    self.stop();
                } else if let Some(all_busy) = self.above_limit() {
                    self.disable(all_busy);
                } else if self.since_rotation >= ACCEPTS {
                    self.since_rotation = 0;
                    self.stop_listening();
                    listen(self.child, &self.poll)?;
                }
                return Ok(());
            }
            Listening::Disabled if self.above_limit().is_none() => {
                let threads = self.child.limits.threads_per_child as usize;
                let text = format!(
                    "Accepting new connections again: {} active conns ({} lingering/0 clogged/{} suspended), {} idle workers",
                    self.open,
                    self.phases[Phase::Closing as usize],
                    self.phases[Phase::WaitIo as usize],
                    threads.saturating_sub(self.away)
                );
                log::server_event(Level::Debug, "mpm_event", "AH00457", &text);
            }
            Listening::Paused(until) if now_ms() >= until => {}
            _ => return Ok(()),
        }
        self.listening = Listening::Yes;
        self.child.score().not_accepting.store(false, Ordering::Relaxed);
        listen(self.child, &self.poll)
    }

    /// Too many connections need a worker: the other children are to take what comes.
    fn disable(&mut self, all_busy: bool) {
        // A kernel older than 5.7 may have told nobody else of what waits.
        self.drain_listeners(ACCEPTS);
        self.stop_listening();
        // The last ones may have used up the descriptors.
        if self.listening == Listening::Yes {
            self.listening = Listening::Disabled;
        }
        self.child.score().not_accepting.store(true, Ordering::Relaxed);
        if all_busy {
            let text = "All workers busy, not accepting new conns in this process";
            log::server_event(Level::Debug, "mpm_event", "", text);
            let idle = self.phases[Phase::KeepAlive as usize];
            if idle > 0 {
                // So that they may connect to another process.
                let text =
                    format!("All workers are busy or dying, will shutdown {idle} keep-alive connections");
                log::server_event(Level::Trace1, "mpm_event", "", &text);
                self.close_idle(usize::MAX, Task::shut_down);
            }
        } else {
            let text =
                format!("Too many open connections ({}), not accepting new conns in this process", self.open);
            log::server_event(Level::Debug, "mpm_event", "", &text);
        }
    }

    /// Ends up to `most` connections that wait for a next request, those first that would end first anyway.
    fn close_idle(&mut self, most: usize, end: fn(&mut Task) -> Need) {
        let mut idle: Vec<(Millis, usize)> = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
            .filter(|(_, entry)| entry.idle && entry.held.is_here() && !entry.readable)
            .map(|(key, entry)| (entry.until, key))
            .collect();
        if idle.len() > most {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        for (_, key) in idle {
            let Some(entry) = self.entries.get_mut(key).and_then(Option::as_mut) else { continue };
            let Some(mut task) = entry.held.take() else { continue };
            let need = end(&mut task);
            self.park(key, task, need);
        }
    }

    /// Descriptors or memory are short: what nobody waits for is closed, then accepting is tried again.
    fn relieve(&mut self) {
        let idle = self.phases[Phase::KeepAlive as usize] as usize;
        self.close_idle((idle / 16).max(64), Task::drop_now);
        let freed = memo::close_files() || idle > 0;
        self.stop_listening();
        self.listening = Listening::Paused(now_ms() + if freed { 1 } else { PAUSE });
        if !freed {
            self.child.score().not_accepting.store(true, Ordering::Relaxed);
        }
    }

    /// Takes up to `most` of the connections that wait at a socket; how many came.
    pub(super) fn accept(&mut self, index: usize, most: usize) -> usize {
        let child = self.child;
        let Some(listener) = child.listener(index) else { return 0 };
        let mut count = 0;
        while count < most && self.listening == Listening::Yes && !self.sick {
            let (stream, client) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => match accept_failed(&err) {
                    AcceptFailed::Passing => continue,
                    AcceptFailed::Shortage => {
                        self.relieve();
                        break;
                    }
                    // Another child may do better, once this one has finished what it has.
                    AcceptFailed::Broken => {
                        self.sick = true;
                        break;
                    }
                },
            };
            count += 1;
            let fd = stream.as_raw_fd();
            if let Ok(task) = child.task(stream, client, &listener) {
                self.insert(task);
            }
            if fd >= self.last_descriptors {
                let text = "descriptors are short, will shutdown keep-alive connections";
                log::server_event(Level::Debug, "mpm_event", "", text);
                self.relieve();
            }
        }
        self.since_rotation += count;
        count
    }
}
