//! A worker's connections in one process, shared by its reactor and threads.
//!
//! Answers to the `apr_reslist` of `proxy_conn_pool`. Where it differs: without `max=`, there may be as many connections as
//! requests: here a request that waits for its backend holds no thread, so `ThreadsPerChild` limits nothing. One that was idle for
//! `ttl=` is not used again; without it, those above a number are closed when they were idle for a minute.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;

use super::worker::Worker;
use crate::body::Wait;
use crate::os::clock::{Millis, now_ms};

/// How many idle connections are kept without `ttl=`, and for how long the others are.
const KEPT: usize = 64;
const KEPT_LONGER: Millis = 60_000;

/// Whom a connection leads to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// The backend's name.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// The socket's path, where it is no network address.
    pub uds_path: Option<Vec<u8>>,
}

/// Numbers for connections.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A number that no other connection of this process has.
pub fn next_id() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A connection to a backend.
pub struct Conn {
    /// Its number for life ([`Wait::kept`]).
    pub id: u64,
    /// Non-blocking.
    pub socket: Socket,
    /// Whom it was made to.
    pub peer: Peer,
    /// The address that it was made to.
    pub addr: Option<SocketAddr>,
    /// What was read and not taken yet.
    pub input: Vec<u8>,
    /// Up to where `input` was taken.
    pub taken: usize,
    /// What is to be sent; the memory is used again.
    pub output: Vec<u8>,
    /// How many replies came by it that let it live.
    pub keepalives: u32,
}

impl Conn {
    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Waiting for it costs an engine that has waited for it before nothing.
    pub fn wait(&self, read: bool, timeout: Duration) -> Wait {
        Wait { fd: self.fd(), read, timeout, kept: Some(self.id) }
    }

    /// What was read and not taken yet.
    pub fn buffered(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }

    /// Takes `count` bytes off what was read.
    pub fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.input.len());
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }
}

#[derive(Default)]
struct Inner {
    /// The last used is the last.
    idle: Vec<(Millis, Conn)>,
    leased: usize,
    waiting: VecDeque<Arc<EventFd>>,
}

/// The connections of a worker.
#[derive(Default)]
pub struct Pool {
    inner: Mutex<Inner>,
    /// The worker's addresses, and when they are looked up again.
    address: Mutex<Option<(Peer, Vec<SocketAddr>, Millis)>>,
}

/// The right to have one connection of a worker; dropped, the connection is closed.
pub struct Lease {
    worker: Arc<Worker>,
    /// The connection, once there is one.
    pub conn: Option<Conn>,
}

/// What came of asking for a lease.
pub enum Acquired {
    /// Here it is.
    Lease(Lease),
    /// There are `max` already: one is given back when this can be read.
    Wait(Arc<EventFd>),
    /// Nothing can be waited for.
    Failed(std::io::Error),
}

fn lock(pool: &Pool) -> MutexGuard<'_, Inner> {
    pool.inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for a connection of `worker`; `waited`: for what it was waited.
pub fn acquire(worker: &Arc<Worker>, limited: bool, waited: Option<Arc<EventFd>>) -> Acquired {
    let pool = &worker.pool;
    let mut inner = lock(pool);
    if let Some(waited) = &waited {
        inner.waiting.retain(|other| !Arc::ptr_eq(other, waited));
    }
    let most = worker.params.max.filter(|&max| limited && max > 0).map_or(usize::MAX, |max| max as usize);
    if inner.leased >= most {
        let event = match waited {
            Some(event) => {
                // It was somebody else's.
                _ = nix::unistd::read(event.as_fd(), &mut [0; 8]);
                Ok(event)
            }
            None => EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new),
        };
        return match event {
            Ok(event) => {
                inner.waiting.push_back(event.clone());
                Acquired::Wait(event)
            }
            Err(err) => Acquired::Failed(err.into()),
        };
    }
    inner.leased += 1;
    if let Some(ttl) = worker.params.ttl {
        let now = now_ms();
        inner.idle.retain(|(since, _)| now - since < ttl.as_millis() as Millis);
    }
    let conn = inner.idle.pop().map(|(_, conn)| conn);
    Acquired::Lease(Lease { worker: worker.clone(), conn })
}

/// Nobody waits for it any more.
pub fn forget(worker: &Worker, event: &Arc<EventFd>) {
    lock(&worker.pool).waiting.retain(|other| !Arc::ptr_eq(other, event));
}

impl Lease {
    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Gives the connection back, for the next request.
    pub fn release(mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        conn.output.clear();
        let worker = self.worker.clone();
        let mut inner = lock(&worker.pool);
        let now = now_ms();
        inner.idle.push((now, conn));
        let params = &worker.params;
        let most = params.smax.filter(|_| params.ttl.is_some()).map_or(KEPT, |smax| smax as usize);
        let ttl = params.ttl.map_or(KEPT_LONGER, |ttl| ttl.as_millis() as Millis);
        let mut closed = Vec::new();
        while inner.idle.len() > most && inner.idle.first().is_some_and(|(since, _)| now - since >= ttl) {
            closed.push(inner.idle.remove(0));
        }
        // Closing takes time, which others need not wait for.
        drop(inner);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inner = lock(&self.worker.pool);
        inner.leased = inner.leased.saturating_sub(1);
        if let Some(next) = inner.waiting.pop_front() {
            _ = next.write(1);
        }
    }
}

impl Pool {
    /// The addresses that were found for this backend.
    pub fn address(&self, peer: &Peer) -> Option<Vec<SocketAddr>> {
        let known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, addrs, until) = known.as_ref()?;
        (known == peer && now_ms() < *until).then(|| addrs.clone())
    }

    /// Keeps the addresses of a backend, for so many seconds (-1: for ever).
    pub fn keep_address(&self, peer: Peer, addrs: Vec<SocketAddr>, ttl: i32) {
        let until = u64::try_from(ttl).map_or(Millis::MAX, |ttl| now_ms() + ttl * 1000);
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some((peer, addrs, until));
    }

    /// They don't answer: they are looked up again.
    pub fn forget_address(&self) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
