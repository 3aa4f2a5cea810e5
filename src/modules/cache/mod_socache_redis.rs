//! mod_socache_redis: a cache in Redis servers.
//!
//! Answers to `modules/cache/mod_socache_redis.c`, and to `apr_redis.c` for what is said to a server. Where it differs: see
//! [`super::servers`]; there is nothing in `server-status`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::mod_socache_memcache::{fit, up_to_an_hour};
use super::servers::{self, Connection, Kind, NOT_FOUND, Numbers, Servers, nonsense};
use crate::config::directive::{Allowed, Args, Directive};
use crate::config::server::Setup;
use crate::hooks::Hooks;
use crate::log::{Level, server_error};
use crate::module::{Conf, Module, Slot};
use crate::socache::{Hints, Socache};

/// The module.
pub static MODULE: Module =
    Module { name: "socache_redis_module", file: "mod_socache_redis.c", directives: ROWS, hooks };

static SERVER: Slot<RedisServer> = Slot::new();

/// `RedisTimeout` where it says nothing.
const WAIT: Duration = Duration::from_secs(5);

static KIND: Kind = Kind {
    name: "redis",
    module: "socache_redis",
    port: 6379,
    numbers: Numbers { unparsed: "AH03474", nameless: "AH03475", unknown: "AH03476" },
    alive,
};

#[derive(Clone, Default)]
struct RedisServer {
    /// `RedisConnPoolTTL`
    idle: Option<Duration>,
    /// `RedisTimeout`
    wait: Option<Duration>,
}

impl Conf for RedisServer {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "RedisConnPoolTTL",
        args: Args::Take1(|cmd, text| {
            let time = up_to_an_hour(cmd, text)?;
            cmd.server_conf(&SERVER)?.idle = Some(time);
            Ok(())
        }),
        allowed: Allowed::RSRC_CONF,
        help: "TTL used for the connection pool with the Redis server(s)",
    },
    Directive {
        name: "RedisTimeout",
        args: Args::Take1(|cmd, text| {
            let time = up_to_an_hour(cmd, text)?;
            cmd.server_conf(&SERVER)?.wait = Some(time);
            Ok(())
        }),
        allowed: Allowed::RSRC_CONF,
        help: "R/W timeout used for the connection with the Redis server(s)",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.socache_provider("redis", create);
}

fn create(_: &Setup, argument: Option<&str>) -> Result<Arc<dyn Socache>, String> {
    match argument.filter(|list| !list.is_empty()) {
        Some(list) => Ok(Arc::new(Redis { list: list.to_owned(), ready: OnceLock::new() })),
        None => Err("List of server names required to create redis socache.".to_owned()),
    }
}

/// The servers, and who uses the cache.
struct Redis {
    list: String,
    ready: OnceLock<(Servers, String)>,
}

fn alive(connection: &mut Connection) -> io::Result<()> {
    connection.send(b"PING\r\n")?;
    if connection.line()?.starts_with(b"+PONG") { Ok(()) } else { Err(nonsense()) }
}

/// A command in Redis's own form: how many words, and each with its length.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

impl Redis {
    fn ready(&self, id: &[u8]) -> io::Result<(&Servers, String)> {
        let (servers, namespace) = self.ready.get().ok_or_else(nonsense)?;
        Ok((servers, servers::key(namespace, id)?))
    }
}

impl Socache for Redis {
    fn init(&self, namespace: &str, _: &Hints, setup: &Setup) -> io::Result<()> {
        let conf = setup.servers.first().map(|main| main.conf.get(&SERVER).clone()).unwrap_or_default();
        let idle = conf.idle.unwrap_or(Duration::from_secs(15));
        // A wait of no time at all can't be asked for.
        let wait = conf.wait.unwrap_or(WAIT).max(Duration::from_millis(1));
        let servers = Servers::read(&KIND, &self.list, idle, wait)?;
        // It is made ready once for each reading of the configuration.
        let _ = self.ready.set((servers, namespace.to_owned()));
        Ok(())
    }

    fn store(&self, id: &[u8], expiry: i64, data: &[u8]) -> io::Result<()> {
        let (servers, key) = self.ready(id)?;
        let seconds = servers::seconds_until(expiry)?;
        let seconds = seconds.to_string();
        let command = command(&[b"SETEX", key.as_bytes(), seconds.as_bytes(), data]);
        let stored = servers.ask(key.as_bytes(), |connection| {
            connection.send(&command)?;
            if connection.line()?.starts_with(b"+OK") { Ok(()) } else { Err(nonsense()) }
        });
        stored.inspect_err(|err| {
            let text = format!("scache_rd: error setting key '{key}' with {} bytes of data", data.len());
            server_error(Level::Crit, KIND.module, "AH03478", Some(err), &text);
        })
    }

    fn retrieve(&self, id: &[u8], most: usize) -> io::Result<Option<Vec<u8>>> {
        let (servers, key) = self.ready(id)?;
        let found = servers.ask(key.as_bytes(), |connection| {
            connection.send(&command(&[b"GET", key.as_bytes()]))?;
            match connection.line()?.strip_prefix(b"$") {
                Some(b"-1") => Ok(None),
                Some(size) => connection.object(size).map(Some),
                None => Err(nonsense()),
            }
        });
        fit(found, most, KIND.module, ["AH03479", "AH03480"], "scache_rd")
    }

    fn remove(&self, id: &[u8]) -> io::Result<bool> {
        let (servers, key) = self.ready(id)?;
        let removed = servers.ask(key.as_bytes(), |connection| {
            connection.send(&command(&[b"DEL", key.as_bytes()]))?;
            match connection.line()?.as_slice() {
                b":1" => Ok(true),
                b":0" => Ok(false),
                _ => Err(nonsense()),
            }
        });
        let failure = match &removed {
            Ok(true) => return removed,
            Ok(false) => None,
            Err(err) => Some(err),
        };
        let text = format!("scache_rd: error deleting key '{key}' ");
        let missing = servers::error(NOT_FOUND);
        server_error(Level::Debug, KIND.module, "AH03481", failure.or(Some(&missing)), &text);
        removed
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
            ("*2\r\n$3\r\nGET\r\n$11\r\nme:61626364\r\n", "$-1\r\n"),
            ("*4\r\n$5\r\nSETEX\r\n$11\r\nme:61626364\r\n$1\r\n9\r\n$5\r\nvalue\r\n", "+OK\r\n"),
            ("*2\r\n$3\r\nGET\r\n$11\r\nme:61626364\r\n", "$5\r\nvalue\r\n"),
            ("*2\r\n$3\r\nDEL\r\n$11\r\nme:61626364\r\n", ":1\r\n"),
            ("*2\r\n$3\r\nDEL\r\n$11\r\nme:61626364\r\n", ":0\r\n"),
        ]);
        let second = Duration::from_secs(1);
        let cache = Redis { list: address.clone(), ready: OnceLock::new() };
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
