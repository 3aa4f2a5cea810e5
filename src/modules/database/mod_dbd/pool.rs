//! The connections of a child that servers with the same settings share: `apr_reslist`.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sqlite3::Connection;
use super::{DRIVER, Source};
use crate::config::server::Server;
use crate::http::fields::APR_EGENERAL;
use crate::log::{Level, event_of};

/// Connections of one child. The master never opens one.
pub(super) struct Pool {
    source: Source,
    state: Mutex<State>,
    /// A connection came back.
    back: Condvar,
}

#[derive(Default)]
struct State {
    /// It was opened, with the least number of connections.
    is_open: bool,
    /// Those that nobody uses, the one that was used last in front, and since when.
    idle: VecDeque<(Instant, Connection)>,
    /// How many there are, in use or not.
    total: usize,
}

/// Opens a connection; what is wrong is logged: `dbd_construct`.
pub(super) fn connect(source: &Source, server: &Server) -> io::Result<Connection> {
    let failed = |ah, text: String| {
        let err = io::Error::from_raw_os_error(APR_EGENERAL);
        event_of(server, Level::Error, "dbd", ah, Some(&err), &text);
        err
    };
    let mut connection = Connection::open(&source.params)
        .map_err(|text| failed("AH00629", format!("Can't connect to {DRIVER}: {text}")))?;
    for (label, query) in source.queries.iter().filter(|(_, query)| !query.is_empty()) {
        connection
            .prepare(label, query)
            .map_err(|text| failed("AH00632", format!("failed to prepare SQL statements: {text}")))?;
    }
    for query in &source.init {
        // Apache doesn't say it either.
        if connection.run(query).is_err() {
            break;
        }
    }
    Ok(connection)
}

impl Pool {
    pub(super) fn new(source: Source) -> Pool {
        Pool { source, state: Mutex::default(), back: Condvar::new() }
    }

    /// Least, kept and most connections.
    fn sizes(&self) -> [usize; 3] {
        let [least, kept, most, _] = self.source.sizes;
        [least, kept, most].map(|size| usize::try_from(size).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the connections that are always there: `dbd_setup`.
    pub(super) fn open(&self, server: &Server) -> io::Result<()> {
        let mut state = self.lock();
        if state.is_open {
            return Ok(());
        }
        let [least, kept, most] = self.sizes();
        let opened = if least > kept || kept > most || most == 0 {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        } else {
            (0..least).map(|_| connect(&self.source, server)).collect::<io::Result<Vec<_>>>()
        };
        match opened {
            Ok(connections) => {
                state.is_open = true;
                state.total = connections.len();
                state.idle = connections.into_iter().map(|c| (Instant::now(), c)).collect();
                Ok(())
            }
            Err(err) => {
                event_of(server, Level::Error, "dbd", "AH00633", Some(&err), "failed to initialise");
                Err(err)
            }
        }
    }

    /// A connection that nobody uses, or a new one; where there are as many as may be, the next that comes back.
    pub(super) fn acquire(self: &Arc<Pool>, server: &Server) -> Option<Handle> {
        self.open(server).ok()?;
        let [_, _, most] = self.sizes();
        let mut state = self.lock();
        loop {
            if let Some((_, connection)) = state.idle.pop_front() {
                return Some(Handle { connection: Some(connection), pool: Some(self.clone()) });
            }
            if state.total < most {
                state.total += 1;
                drop(state);
                return match connect(&self.source, server) {
                    Ok(connection) => Some(Handle { connection: Some(connection), pool: Some(self.clone()) }),
                    Err(err) => {
                        self.lock().total -= 1;
                        let text = "Failed to acquire DBD connection from pool!";
                        event_of(server, Level::Error, "dbd", "AH02655", Some(&err), text);
                        None
                    }
                };
            }
            state = self.back.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a connection back, and closes what was idle for too long: `apr_reslist_release`, `reslist_maint`.
    fn release(&self, connection: Connection) {
        let [_, kept, _] = self.sizes();
        let lifetime = Duration::from_secs(u64::try_from(self.source.sizes[3]).unwrap_or_default());
        let mut old = Vec::new();
        let mut state = self.lock();
        state.idle.push_front((Instant::now(), connection));
        while state.idle.len() > kept
            && state.idle.back().is_some_and(|(since, _)| since.elapsed() >= lifetime)
        {
            old.extend(state.idle.pop_back());
            state.total -= 1;
        }
        drop(state);
        self.back.notify_one();
    }
}

/// A connection while it is used.
pub struct Handle {
    connection: Option<Connection>,
    pool: Option<Arc<Pool>>,
}

impl Handle {
    /// One that is closed after its use.
    pub(super) fn once(connection: Connection) -> Handle {
        Handle { connection: Some(connection), pool: None }
    }
}

impl Deref for Handle {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("only taken by drop")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), &self.pool) {
            pool.release(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pool(sizes: [i32; 4]) -> Arc<Pool> {
        let source = Source {
            driver: DRIVER.to_owned(),
            params: ":memory:".to_owned(),
            sizes,
            queries: BTreeMap::new(),
            init: Vec::new(),
        };
        Arc::new(Pool::new(source))
    }

    #[test]
    fn connections_come_back() {
        let pool = pool([1, 1, 3, 0]);
        let server = Server::new(0);
        let (one, two) = (pool.acquire(&server).unwrap(), pool.acquire(&server).unwrap());
        assert_eq!(pool.lock().total, 2);
        drop(one);
        drop(two);
        let state = pool.lock();
        assert_eq!((state.total, state.idle.len()), (1, 1));
    }

    #[test]
    fn sizes_that_contradict() {
        let server = Server::new(0);
        assert!(pool([3, 2, 10, 0]).acquire(&server).is_none());
        assert!(pool([0, 0, 0, 0]).acquire(&server).is_none());
    }
}
