//! mod_socache_memcache: a cache in memcached servers.
//!
//! Answers to `modules/cache/mod_socache_memcache.c`, and to `apr_memcache.c` for what is said to a server. Where it differs: see
//! [`super::servers`]; there is nothing in `server-status`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::servers::{self, Connection, Kind, NOT_FOUND, Numbers, Servers, nonsense};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive};
use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::log::{Level, server_error};
use crate::module::{Conf, Module, Slot};
use crate::modules::mpm;
use crate::socache::{Hints, Socache};

/// The module.
pub static MODULE: Module =
    Module { name: "socache_memcache_module", file: "mod_socache_memcache.c", directives: ROWS, hooks };

static SERVER: Slot<MemcacheServer> = Slot::new();

/// How long to wait for a server.
const WAIT: Duration = Duration::from_secs(30);

static KIND: Kind = Kind {
    name: "memcache",
    module: "socache_memcache",
    port: 11211,
    numbers: Numbers { unparsed: "AH00786", nameless: "AH00787", unknown: "AH00788" },
    alive,
};

#[derive(Clone, Default)]
struct MemcacheServer {
    /// `MemcacheConnTTL`
    idle: Option<Duration>,
}

impl Conf for MemcacheServer {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "MemcacheConnTTL",
    args: Args::Take1(|cmd, text| {
        let time = up_to_an_hour(cmd, text)?;
        cmd.server_conf(&SERVER)?.idle = Some(time);
        Ok(())
    }),
    allowed: Allowed::RSRC_CONF,
    help: "TTL used for the connection with the memcache server(s)",
}];

fn hooks(hooks: &mut Hooks) {
    hooks.socache_provider("memcache", create);
}

/// A time for connections.
pub(super) fn up_to_an_hour(cmd: &Cmd, text: &str) -> Result<Duration, CmdError> {
    let name = cmd.name;
    match mpm::parse_timeout(text, Duration::from_secs(1)) {
        None => Err(format!("{name} has wrong format").into()),
        Some(time) if time > Duration::from_secs(3600) => {
            Err(format!("{name} can only be 0 or up to one hour.").into())
        }
        Some(time) => Ok(time),
    }
}

fn create(_: &Setup, argument: Option<&str>) -> Result<Arc<dyn Socache>, String> {
    match argument.filter(|list| !list.is_empty()) {
        Some(list) => Ok(Arc::new(Memcache { list: list.to_owned(), ready: OnceLock::new() })),
        None => Err("List of server names required to create memcache socache.".to_owned()),
    }
}

/// The servers, and who uses the cache.
struct Memcache {
    list: String,
    ready: OnceLock<(Servers, String)>,
}

fn alive(connection: &mut Connection) -> io::Result<()> {
    connection.send(b"version\r\n")?;
    if connection.line()?.starts_with(b"VERSION ") { Ok(()) } else { Err(nonsense()) }
}

impl Memcache {
    fn ready(&self, id: &[u8]) -> io::Result<(&Servers, String)> {
        let (servers, namespace) = self.ready.get().ok_or_else(nonsense)?;
        Ok((servers, servers::key(namespace, id)?))
    }
}

impl Socache for Memcache {
    fn init(&self, namespace: &str, _: &Hints, setup: &Setup) -> io::Result<()> {
        let idle = setup.servers.first().and_then(|main| main.conf.get(&SERVER).idle);
        let idle = idle.unwrap_or(Duration::from_secs(15));
        let servers = Servers::read(&KIND, &self.list, idle, WAIT)?;
        // It is made ready once for each reading of the configuration.
        let _ = self.ready.set((servers, namespace.to_owned()));
        Ok(())
    }

    fn store(&self, id: &[u8], expiry: i64, data: &[u8]) -> io::Result<()> {
        let (servers, key) = self.ready(id)?;
        let seconds = servers::seconds_until(expiry)?;
        let command = format!("set {key} 0 {seconds} {} \r\n", data.len());
        let stored = servers.ask(key.as_bytes(), |connection| {
            connection.send(&[command.as_bytes(), data, b"\r\n"].concat())?;
            match connection.line()?.as_slice() {
                b"STORED" => Ok(()),
                _ => Err(nonsense()),
            }
        });
        stored.inspect_err(|err| {
            let text = format!("scache_mc: error setting key '{key}' with {} bytes of data", data.len());
            server_error(Level::Crit, KIND.module, "AH00790", Some(err), &text);
        })
    }

    fn retrieve(&self, id: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        let (servers, key) = self.ready(id)?;
        let found = servers.ask(key.as_bytes(), |connection| {
            connection.send(format!("get {key}\r\n").as_bytes())?;
            let line = connection.line()?;
            if line == b"END" {
                return Ok(None);
            }
            let size = match line.split(|&c| c == b' ').collect::<Vec<_>>().as_slice() {
                [b"VALUE", _, _, size, ..] => size.to_vec(),
                _ => return Err(nonsense()),
            };
            let object = connection.object(&size)?;
            if connection.line()? == b"END" { Ok(Some(object)) } else { Err(nonsense()) }
        });
        fit(found, most, KIND.module, ["AH00791", "AH00792"], "scache_mc")
    }

    fn remove(&self, id: &[u8]) -> io::Result<bool> {
        let (servers, key) = self.ready(id)?;
        let removed = servers.ask(key.as_bytes(), |connection| {
            connection.send(format!("delete {key}\r\n").as_bytes())?;
            match connection.line()?.as_slice() {
                b"DELETED" => Ok(true),
                b"NOT_FOUND" => Ok(false),
                _ => Err(nonsense()),
            }
        });
        let failure = match &removed {
            Ok(true) => return removed,
            Ok(false) => None,
            Err(err) => Some(err),
        };
        let text = format!("scache_mc: error deleting key '{key}' ");
        let missing = servers::error(NOT_FOUND);
        server_error(Level::Debug, KIND.module, "AH00793", failure.or(Some(&missing)), &text);
        removed
    }
}

/// What was found, if it is no longer than `most`; without a server nothing is. The numbers are for failures and for what
/// is too long.
pub(super) fn fit(
    found: io::Result<Option<Vec<u8>>>,
    most: usize,
    module: &str,
    [failed, too_long]: [&'static str; 2],
    prefix: &str,
) -> io::Result<Option<Vec<u8>>> {
    match found {
        Ok(Some(object)) if object.len() > most => {
            let text = format!("{prefix}: 'retrieve' OVERFLOW");
            server_error(Level::Error, module, too_long, None, &text);
            Err(servers::error(libc::ENOMEM))
        }
        Err(err) if err.raw_os_error() == Some(NOT_FOUND) => Ok(None),
        Err(err) => {
            let text = format!("{prefix}: 'retrieve' FAIL");
            server_error(Level::Error, module, failed, Some(&err), &text);
            Err(err)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::cache::servers::tests::play;
    use crate::os::clock;

    #[test]
    fn what_is_said_to_a_server() {
        let (address, server) = play(&[
            ("get me:61626364\r\n", "END\r\n"),
            ("set me:61626364 0 9 5 \r\nvalue\r\n", "STORED\r\n"),
            ("get me:61626364\r\n", "VALUE me:61626364 0 5\r\nvalue\r\nEND\r\n"),
            ("delete me:61626364\r\n", "DELETED\r\n"),
            ("delete me:61626364\r\n", "NOT_FOUND\r\n"),
        ]);
        let second = Duration::from_secs(1);
        let cache = Memcache { list: address.clone(), ready: OnceLock::new() };
        let servers = Servers::read(&KIND, &address, second, second).unwrap();
        assert!(cache.ready.set((servers, "me".to_owned())).is_ok());
        assert_eq!(cache.retrieve(b"abcd", 99).unwrap(), None);
        cache.store(b"abcd", clock::unix_micros() + 9_900_000, b"value").unwrap();
        assert_eq!(cache.retrieve(b"abcd", 99).unwrap(), Some(b"value".to_vec()));
        assert!(cache.remove(b"abcd").unwrap());
        assert!(!cache.remove(b"abcd").unwrap());
        server.join().unwrap();
    }
}
