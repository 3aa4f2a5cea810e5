//! Servers that keep objects for others, asked over TCP: what mod_socache_memcache and mod_socache_redis have in common.
//!
//! Answers to `apr_memcache.c` and `apr_redis.c` of APR-util, which are written alike. Connections belong to a process; one that is
//! idle is used again. Where it differs: a memcached that doesn't answer is given up after a while; Apache waits for ever.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::fields::{APR_EGENERAL, APR_EOF, EINVAL};
use crate::log::{Level, server_error};
use crate::modules::core::server::split_addr_port;
use crate::os::clock;

/// `APR_TIMEUP`
const TIMED_OUT: i32 = 70007;
/// `APR_NOTFOUND`: no server is alive.
pub(super) const NOT_FOUND: i32 = 70015;
/// How long a server that failed is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// Longer lines are not replies (`BUFFER_SIZE`).
const LONGEST_LINE: u64 = 512;
/// Longer objects are not taken.
const LARGEST: usize = 1 << 20;
/// Longer keys are not made (`MC_KEY_LEN`, `RD_KEY_LEN`).
const LONGEST_KEY: usize = 254;

/// The numbers of what is logged while the list of servers is read.
pub(super) struct Numbers {
    pub unparsed: &'static str,
    pub nameless: &'static str,
    pub unknown: &'static str,
}

/// One kind of server.
pub(super) struct Kind {
    /// As it is called in the log (`memcache`), and the module.
    pub name: &'static str,
    pub module: &'static str,
    pub port: u16,
    pub numbers: Numbers,
    /// Asks whether the server is there.
    pub alive: fn(&mut Connection) -> io::Result<()>,
}

/// The servers of a cache.
pub(super) struct Servers {
    kind: &'static Kind,
    servers: Vec<Server>,
    /// How long a connection may be idle.
    idle: Duration,
    /// How long to wait for a server.
    wait: Duration,
}

struct Server {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<(Instant, Connection)>,
    /// When it failed, or was asked in vain whether it is back.
    dead: Option<Instant>,
}

/// A connection to a server.
pub(super) struct Connection(BufReader<TcpStream>);

/// An error with a number of APR's.
pub(super) fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// What a server says that makes no sense.
pub(super) fn nonsense() -> io::Error {
    error(APR_EGENERAL)
}

impl Connection {
    fn open(address: SocketAddr, wait: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.set_write_timeout(Some(wait))?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Sends a command.
    pub(super) fn send(&mut self, command: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(command)
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.0.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let line = line.strip_suffix(b"\r\n").ok_or_else(nonsense)?;
        Ok(line.to_vec())
    }

    /// An object of this size, and the end of its line.
    pub(super) fn object(&mut self, size: &[u8]) -> io::Result<Vec<u8>> {
        let size: usize = std::str::from_utf8(size).ok().and_then(|s| s.parse().ok()).ok_or_else(nonsense)?;
        if size > LARGEST {
            return Err(nonsense());
        }
        let mut object = vec![0; size + 2];
        self.0.read_exact(&mut object)?;
        object.truncate(size);
        Ok(object)
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection: one that is idle, or a new one.
    fn connect(&self, idle: Duration, wait: Duration) -> io::Result<Connection> {
        let mut state = self.lock();
        state.idle.retain(|(since, _)| since.elapsed() < idle);
        let found = state.idle.pop();
        drop(state);
        match found {
            Some((_, connection)) => Ok(connection),
            None => Connection::open(self.address, wait),
        }
    }

    /// Takes a connection back after its use; a server that failed is dead.
    fn used<T>(&self, connection: Option<Connection>, result: &io::Result<T>) {
        let mut state = self.lock();
        match (result, connection) {
            (Ok(_), Some(connection)) => {
                state.dead = None;
                state.idle.push((Instant::now(), connection));
            }
            _ => {
                state.dead = Some(Instant::now());
                state.idle.clear();
            }
        }
    }
}

impl Servers {
    /// Reads `host:port,host:port`. What is wrong is logged.
    pub(super) fn read(
        kind: &'static Kind,
        list: &str,
        idle: Duration,
        wait: Duration,
    ) -> io::Result<Servers> {
        let failed = |number, err: io::Error, text: String| {
            server_error(Level::Crit, kind.module, number, Some(&err), &text);
            err
        };
        let mut servers = Vec::new();
        for word in list.split(',').filter(|word| !word.is_empty()) {
            let (host, port) = split_addr_port(word).ok_or_else(|| {
                let text = format!("Failed to Parse {} Server: '{word}'", kind.name);
                failed(kind.numbers.unparsed, error(EINVAL), text)
            })?;
            let host = host.ok_or_else(|| {
                let text = format!("Failed to Parse Server, no hostname specified: '{word}'");
                server_error(Level::Crit, kind.module, kind.numbers.nameless, None, &text);
                error(EINVAL)
            })?;
            let port = port.unwrap_or(kind.port);
            let resolved = (host, port).to_socket_addrs().map(|mut addresses| addresses.next());
            let Ok(Some(address)) = resolved else {
                let err = io::Error::other("(EAI 2)Name or service not known");
                let text = format!("Failed to Create {} Server: {host}:{port}", kind.name);
                return Err(failed(kind.numbers.unknown, err, text));
            };
            servers.push(Server { address, state: Mutex::default() });
        }
        Ok(Servers { kind, servers, idle, wait })
    }

    /// The server for a key: the hash says where to begin, those that are dead are left out.
    fn choose(&self, key: &[u8]) -> Option<&Server> {
        let hash = ((crc32(key) >> 16) & 0x7fff) as usize;
        let count = self.servers.len();
        let first = if hash == 0 { 1 } else { hash };
        (0..count)
            .filter_map(|turn| self.servers.get((first + turn) % count))
            .find(|server| self.lives(server))
    }

    fn lives(&self, server: &Server) -> bool {
        let Some(since) = server.lock().dead else { return true };
        if since.elapsed() <= LEFT_ALONE {
            return false;
        }
        let asked = Connection::open(server.address, self.wait).and_then(|mut connection| {
            (self.kind.alive)(&mut connection)?;
            Ok(connection)
        });
        let answer =
            asked.as_ref().map(|_| ()).map_err(|err| error(err.raw_os_error().unwrap_or(APR_EGENERAL)));
        server.used(asked.ok(), &answer);
        answer.is_ok()
    }

    /// Asks the server that has the key.
    pub(super) fn ask<T>(
        &self,
        key: &[u8],
        ask: impl FnOnce(&mut Connection) -> io::Result<T>,
    ) -> io::Result<T> {
        let server = self.choose(key).ok_or_else(|| error(NOT_FOUND))?;
        let mut connection = match server.connect(self.idle, self.wait) {
            Ok(connection) => connection,
            Err(err) => {
                let result = Err(err);
                server.used::<T>(None, &result);
                return result;
            }
        };
        let result = ask(&mut connection).map_err(|err| match err.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => error(TIMED_OUT),
            io::ErrorKind::UnexpectedEof => error(APR_EOF),
            _ => err,
        });
        server.used(Some(connection), &result);
        result
    }
}

/// `namespace:` and the identifier in hex digits; none where that is too long.
pub(super) fn key(namespace: &str, id: &[u8]) -> io::Result<String> {
    if id.len() * 2 + namespace.len() + 2 >= LONGEST_KEY {
        return Err(error(EINVAL));
    }
    let hex = id.iter().map(|byte| format!("{byte:02x}"));
    Ok(format!("{namespace}:") + &hex.collect::<String>())
}

/// For how many seconds something stays that expires then. What has expired is not kept.
pub(super) fn seconds_until(expiry: i64) -> io::Result<u32> {
    let seconds = expiry.saturating_sub(clock::unix_micros()) / 1_000_000;
    u32::try_from(seconds).ok().filter(|&seconds| seconds > 0).ok_or_else(|| error(EINVAL))
}

/// The checksum of zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that reads and writes what is said here, by turns, on one connection.
    pub fn play(turns: &'static [(&'static str, &'static str)]) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (asked, said) in turns {
                let mut read = vec![0; asked.len()];
                stream.read_exact(&mut read).unwrap();
                assert_eq!(String::from_utf8_lossy(&read), *asked);
                stream.write_all(said.as_bytes()).unwrap();
            }
        });
        (address, thread)
    }

    #[test]
    fn keys() {
        assert_eq!(key("authn-socache", b"x:joe").unwrap(), "authn-socache:783a6a6f65");
        assert!(key("authn-socache", &[0; 120]).is_err());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn seconds() {
        let now = clock::unix_micros();
        assert_eq!(seconds_until(now + 5_500_000).unwrap(), 5);
        assert!(seconds_until(now + 900_000).is_err());
    }

    #[test]
    fn a_server_that_is_not_there_is_left_alone() {
        static KIND: Kind = Kind {
            name: "memcache",
            module: "socache_memcache",
            port: 1,
            numbers: Numbers { unparsed: "", nameless: "", unknown: "" },
            alive: |_| Ok(()),
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let second = Duration::from_secs(1);
        let servers = Servers::read(&KIND, &free, second, second).unwrap();
        let ask = || servers.ask(b"key", |_| Ok(())).unwrap_err().raw_os_error();
        assert_eq!(ask(), Some(libc::ECONNREFUSED));
        assert_eq!(ask(), Some(NOT_FOUND));
    }
}
