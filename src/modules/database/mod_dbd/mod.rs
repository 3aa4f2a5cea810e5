//! mod_dbd: connections to SQL databases, for mod_authn_dbd, mod_authz_dbd and mod_rewrite.
//!
//! Answers to `modules/database/mod_dbd.c`. Servers with the same settings share a [`pool`] in each child, opened when the child
//! starts. The one driver is [`sqlite3`], as in Debian's package without others.
//! Where it differs: a connection is held for a query, not for the whole request.

mod pool;
pub mod sqlite3;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::pool::Handle;
use self::pool::Pool;
use crate::config::Runtime;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::config::server::{Server, Setup};
use crate::hooks::{Hooks, order};
use crate::log::{Level, event_of, server_error};
use crate::module::{Conf, Module, Slot};

/// The module.
pub static MODULE: Module = Module { name: "dbd_module", file: "mod_dbd.c", directives: ROWS, hooks };

static SERVER: Slot<DbdServer> = Slot::new();

/// The driver that there is.
const DRIVER: &str = "sqlite3";

/// The settings of a server: `dbd_cfg_t`.
#[derive(Clone, Default)]
struct DbdServer {
    /// `DBDriver`
    driver: Option<String>,
    /// `DBDParams`
    params: Option<String>,
    /// `DBDPersist`
    persist: Option<bool>,
    /// `DBDMin`, `DBDKeep`, `DBDMax`, `DBDExptime`
    sizes: [Option<i32>; 4],
    /// SQL by label; empty: none, whatever the main server has.
    queries: Queries,
    /// `DBDInitSQL`
    init: Vec<String>,
    /// The pool, once the configuration was read.
    pool: Option<Arc<Pool>>,
}

type Queries = BTreeMap<String, String>;

/// The sizes where nothing is said.
const SIZES: [i32; 4] = [1, 2, 10, 300];

impl Conf for DbdServer {
    fn merge(&self, child: &Self) -> Self {
        let mut queries = self.queries.clone();
        queries.extend(child.queries.clone());
        let mut sizes = self.sizes;
        for (size, said) in sizes.iter_mut().zip(child.sizes) {
            *size = said.or(*size);
        }
        DbdServer {
            driver: child.driver.clone().or_else(|| self.driver.clone()),
            params: child.params.clone().filter(|p| !p.is_empty()).or_else(|| self.params.clone()),
            persist: child.persist.or(self.persist),
            sizes,
            queries,
            init: [child.init.as_slice(), &self.init].concat(),
            pool: None,
        }
    }
}

impl DbdServer {
    fn persists(&self) -> bool {
        self.persist.unwrap_or(true)
    }

    /// What connections are made from; `None` without a driver.
    fn source(&self) -> Option<Source> {
        let mut sizes = SIZES;
        for (size, said) in sizes.iter_mut().zip(self.sizes) {
            *size = said.unwrap_or(*size);
        }
        Some(Source {
            driver: self.driver.clone()?,
            params: self.params.clone().unwrap_or_default(),
            sizes,
            queries: self.queries.clone(),
            init: self.init.clone(),
        })
    }
}

/// What a connection is made from.
#[derive(Clone)]
struct Source {
    driver: String,
    params: String,
    /// Least, kept, most; seconds that one may be idle.
    sizes: [i32; 4],
    queries: Queries,
    init: Vec<String>,
}

impl Source {
    /// The queries of both, if they may share connections.
    fn joined(&self, other: &Source) -> Option<Queries> {
        let same = self.driver == other.driver && self.params == other.params && self.sizes == other.sizes;
        let agree = |(label, query): (&String, &String)| self.queries.get(label).is_none_or(|q| q == query);
        (same && other.queries.iter().all(agree)).then(|| {
            let mut queries = self.queries.clone();
            queries.extend(other.queries.clone());
            queries
        })
    }
}

static ROWS: &[Directive] = &[
    row("DBDriver", Args::Take1(driver), "SQL Driver"),
    row(
        "DBDParams",
        Args::Take1(|cmd, params| {
            cmd.server_conf(&SERVER)?.params = Some(params.to_owned());
            Ok(())
        }),
        "SQL Driver Params",
    ),
    row(
        "DBDPersist",
        Args::Flag(|cmd, on| {
            cmd.server_conf(&SERVER)?.persist = Some(on);
            Ok(())
        }),
        "Use persistent connection/pool",
    ),
    row(
        "DBDPrepareSQL",
        Args::Take12(|cmd, query, label| match label {
            Some(label) => prepare(cmd, query, label),
            None => prepare(cmd, "", query),
        }),
        "SQL statement to prepare (or nothing, to override statement inherited from main server) and label",
    ),
    row("DBDInitSQL", Args::Take1(init_sql), "SQL statement to be executed after connection is created"),
    row("DBDMin", Args::Take1(|cmd, text| size(cmd, 0, text)), "Minimum number of connections"),
    row("DBDKeep", Args::Take1(|cmd, text| size(cmd, 1, text)), "Maximum number of sustained connections"),
    row("DBDMax", Args::Take1(|cmd, text| size(cmd, 2, text)), "Maximum number of connections"),
    row("DBDExptime", Args::Take1(|cmd, text| size(cmd, 3, text)), "Keepalive time for idle connections"),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::RSRC_CONF, help }
}

fn driver(cmd: &mut Cmd, name: &str) -> Done {
    if name != DRIVER {
        return Err(format!("Can't load driver file apr_dbd_{name}.so").into());
    }
    cmd.server_conf(&SERVER)?.driver = Some(name.to_owned());
    Ok(())
}

fn size(cmd: &mut Cmd, which: usize, text: &str) -> Done {
    if !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err("Argument must be numeric!".into());
    }
    if let Some(size) = cmd.server_conf(&SERVER)?.sizes.get_mut(which) {
        *size = Some(text.parse().unwrap_or(i32::MAX));
    }
    Ok(())
}

fn init_sql(cmd: &mut Cmd, query: &str) -> Done {
    if query.starts_with('\n') {
        return Err("You should specify SQL statement".into());
    }
    cmd.server_conf(&SERVER)?.init.push(query.to_owned());
    Ok(())
}

/// Names a query, for [`Handle`]s of this server: `ap_dbd_prepare`.
pub fn prepare(cmd: &mut Cmd, query: &str, label: &str) -> Done {
    if cmd.server_conf(&SERVER)?.queries.contains_key(label) && !query.is_empty() {
        cmd.warn("dbd", "AH02653", &format!("conflicting SQL statements with label {label}"));
    }
    cmd.server_conf(&SERVER)?.queries.insert(label.to_owned(), query.to_owned());
    Ok(())
}

/// A label that no other query of this server's life has: `prefix` and a number.
pub fn new_label(cmd: &mut Cmd, prefix: &str) -> Result<String, crate::config::directive::CmdError> {
    let taken = |label: &String, setup: &Setup| {
        setup.servers.iter().any(|server| server.conf.get(&SERVER).queries.contains_key(label))
    };
    let setup = cmd.setup()?;
    let label = (1..=u32::MAX).map(|n| format!("{prefix}_{n}")).find(|label| !taken(label, setup));
    label.ok_or_else(|| "too many SQL statements".into())
}

fn hooks(hooks: &mut Hooks) {
    hooks.post_config(post_config, order::MIDDLE);
    hooks.child_init(child_init, order::MIDDLE);
}

/// Finds out which servers may share connections.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let mut groups: Vec<(Source, Vec<usize>)> = Vec::new();
    for (index, server) in setup.servers.iter().enumerate() {
        let conf = server.conf.get(&SERVER);
        let Some(source) = conf.source().filter(|_| conf.persists()) else { continue };
        // The newest group is asked first.
        let joined = groups.iter_mut().rev().find_map(|(theirs, servers)| {
            theirs.queries = theirs.joined(&source)?;
            servers.push(index);
            Some(())
        });
        if joined.is_none() {
            groups.push((source, vec![index]));
        }
    }
    for (source, servers) in groups {
        let pool = Arc::new(Pool::new(source));
        for index in servers {
            if let Some(server) = setup.servers.get_mut(index) {
                server.conf.get_mut(&SERVER).pool = Some(pool.clone());
            }
        }
    }
    Ok(())
}

/// Opens the pools of a new child.
fn child_init(runtime: &Arc<Runtime>) {
    let mut pools: Vec<(&Arc<Pool>, &Server)> = Vec::new();
    for server in &runtime.servers {
        if let Some(pool) = &server.conf.get(&SERVER).pool
            && !pools.iter().any(|(known, _)| Arc::ptr_eq(known, pool))
        {
            pools.push((pool, server));
        }
    }
    let mut failed = None;
    for (pool, server) in pools.into_iter().rev() {
        if let Err(err) = pool.open(server) {
            failed.get_or_insert(err);
        }
    }
    if let Some(err) = failed {
        server_error(Level::Crit, "dbd", "AH00636", Some(&err), "child init failed!");
    }
}

/// A connection for a query, from the server's pool. Why there is none was logged: `ap_dbd_acquire`.
pub fn acquire(server: &Server) -> Option<Handle> {
    let conf = server.conf.get(&SERVER);
    let Some(source) = conf.source() else {
        event_of(server, Level::Error, "dbd", "AH02654", None, "not configured");
        return None;
    };
    match &conf.pool {
        Some(pool) => pool.acquire(server),
        None => pool::connect(&source, server).ok().map(Handle::once),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(params: &str, queries: &[(&str, &str)]) -> Source {
        let queries = queries.iter().map(|(l, q)| ((*l).to_owned(), (*q).to_owned())).collect();
        Source {
            driver: DRIVER.to_owned(),
            params: params.to_owned(),
            sizes: SIZES,
            queries,
            init: Vec::new(),
        }
    }

    #[test]
    fn servers_share_connections_unless_labels_differ() {
        let one = source("/db", &[("a", "1")]);
        assert_eq!(one.joined(&source("/db", &[("b", "2")])).map(|q| q.len()), Some(2));
        assert!(one.joined(&source("/db", &[("a", "2")])).is_none());
        assert!(one.joined(&source("/other", &[])).is_none());
    }

    #[test]
    fn settings_of_a_virtual_host() {
        let mut main = DbdServer { driver: Some(DRIVER.to_owned()), ..DbdServer::default() };
        main.queries.insert("a".to_owned(), "1".to_owned());
        main.sizes = [Some(3), None, None, None];
        main.init = vec!["main".to_owned()];
        let mut host = DbdServer { params: Some(String::new()), ..DbdServer::default() };
        host.queries.insert("a".to_owned(), String::new());
        host.sizes = [None, Some(4), None, None];
        host.init = vec!["host".to_owned()];
        let source = main.merge(&host).source().unwrap();
        assert_eq!(source.sizes, [3, 4, 10, 300]);
        assert_eq!(source.queries["a"], "");
        assert_eq!(source.init, ["host", "main"]);
    }
}
