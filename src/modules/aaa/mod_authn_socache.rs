//! mod_authn_socache: what other providers found is kept in a cache for a while, so that they needn't be asked again.
//!
//! Answers to `modules/aaa/mod_authn_socache.c`. Where it differs: in a `.htaccess` file `AuthnCacheProvideFor` has no effect
//! unless a cache was set up with the server (Apache crashes); who stores waits for the lock instead of leaving it.

use std::sync::Arc;

use super::{AuthnProvider, AuthnStatus, password};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden, Scope};
use crate::config::server::{FAILED, Setup};
use crate::hooks::{Hooks, order};
use crate::log::{Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::os::clock;
use crate::request::{Request, memo};
use crate::socache::{DEFAULT_PROVIDER, Hints, Socache};

/// The module.
pub static MODULE: Module =
    Module { name: "authn_socache_module", file: "mod_authn_socache.c", directives: ROWS, hooks };

static DIR: Slot<CacheDir> = Slot::new();
static SERVER: Slot<CacheServer> = Slot::new();

/// What the cache is called, and its lock.
const ID: &str = "authn-socache";
const HINTS: Hints = Hints { avg_id_len: 64, avg_obj_size: 32, expiry_interval: 60_000_000 };
/// `AuthnCacheTimeout`, in seconds, where it says nothing.
const TIMEOUT: i64 = 300;
/// Longer hashes are not taken out of the cache (`MAX_VAL_LEN`).
const MOST: usize = 255;

#[derive(Clone)]
struct CacheDir {
    /// `AuthnCacheTimeout`
    timeout: i64,
    /// `AuthnCacheProvideFor`
    providers: Option<Arc<Vec<String>>>,
    /// `AuthnCacheContext`
    context: Option<String>,
}

impl Default for CacheDir {
    fn default() -> CacheDir {
        CacheDir { timeout: TIMEOUT, providers: None, context: None }
    }
}

impl Conf for CacheDir {
    fn merge(&self, child: &Self) -> Self {
        CacheDir {
            timeout: if child.timeout == TIMEOUT { self.timeout } else { child.timeout },
            providers: child.providers.clone().or_else(|| self.providers.clone()),
            context: child.context.clone().or_else(|| self.context.clone()),
        }
    }
}

/// What there is once for all servers.
#[derive(Clone, Default)]
struct CacheServer {
    /// Somebody wants it.
    enabled: bool,
    /// `AuthnCacheSOCache`, or the default kind once the configuration was read.
    cache: Option<Arc<dyn Socache>>,
}

impl Conf for CacheServer {
    fn merge(&self, _: &Self) -> Self {
        self.clone()
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthnCacheSOCache",
        args: Args::Take1(socache),
        allowed: Allowed::RSRC_CONF,
        help: "socache provider for authn cache",
    },
    Directive {
        name: "AuthnCacheEnable",
        args: Args::Raw(enable),
        allowed: Allowed::RSRC_CONF,
        help: "enable socache configuration in htaccess even if not enabled anywhere else",
    },
    Directive {
        name: "AuthnCacheProvideFor",
        args: Args::Iterate(provide_for),
        allowed: Allowed::AUTHCFG,
        help: "Determine what authn providers to cache for",
    },
    Directive {
        name: "AuthnCacheTimeout",
        args: Args::Take1(timeout),
        allowed: Allowed::AUTHCFG,
        help: "Timeout (secs) for cached credentials",
    },
    Directive {
        name: "AuthnCacheContext",
        args: Args::Take1(|cmd, context| {
            cmd.dir(&DIR).context = Some(context.to_owned());
            Ok(())
        }),
        allowed: Allowed::ACCESS_CONF,
        help: "Context for authn cache",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.authn_provider("socache", &Cached);
    hooks.post_config(post_config, order::MIDDLE);
}

fn socache(cmd: &mut Cmd, word: &str) -> Done {
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let (name, argument) = match word.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (word, None),
    };
    let Some(create) = cmd.hooks().find_socache(name) else {
        return Err(format!(
            "AuthnCacheSOCache: Unknown socache provider '{word}'. Maybe you need to load the appropriate socache module (mod_socache_{word}?)"
        )
        .into());
    };
    let cache = create(cmd.setup()?, argument).map_err(|error| format!("AuthnCacheSOCache: {error}"))?;
    cmd.server_conf(&SERVER)?.cache = Some(cache);
    Ok(())
}

/// Whatever stands behind it.
fn enable(cmd: &mut Cmd, _: &str) -> Done {
    want(cmd);
    cmd.check_context(Forbidden::GLOBAL_ONLY)
}

/// There must be a cache, unless it is too late for it.
fn want(cmd: &mut Cmd) {
    if let Scope::Startup(setup) = &mut cmd.scope
        && let Some(main) = setup.servers.first_mut()
    {
        main.conf.get_mut(&SERVER).enabled = true;
    }
}

fn provide_for(cmd: &mut Cmd, name: &str) -> Done {
    Arc::make_mut(cmd.dir(&DIR).providers.get_or_insert_default()).push(name.to_owned());
    want(cmd);
    Ok(())
}

/// As `atoi` reads it.
fn timeout(cmd: &mut Cmd, text: &str) -> Done {
    let text = text.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = digits.bytes().position(|c| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number: i64 = digits[..end].parse().unwrap_or_default();
    cmd.dir(&DIR).timeout = if text.starts_with('-') { -number } else { number };
    Ok(())
}

/// Makes the cache, where one is wanted: `authn_cache_post_config`.
fn post_config(setup: &mut Setup) -> Result<(), String> {
    let Some(main) = setup.servers.first() else { return Ok(()) };
    let conf = main.conf.get(&SERVER).clone();
    if !conf.enabled {
        return Ok(());
    }
    let critical = |number, err: Option<&std::io::Error>, text: &str| {
        crate::log::server_error(Level::Crit, "authn_socache", number, err, text);
        FAILED.to_owned()
    };
    let cache = match conf.cache {
        Some(cache) => cache,
        None => {
            let create = setup.hooks.find_socache(DEFAULT_PROVIDER).ok_or_else(|| {
                let text = "Please select a socache provider with AuthnCacheSOCache (no default found on this platform). Maybe you need to load mod_socache_shmcb or another socache module first";
                critical("AH01674", None, text)
            })?;
            create(setup, None).map_err(|error| {
                let text = format!("failed to create mod_socache_shmcb socache instance: {error}");
                critical("AH02612", None, &text)
            })?
        }
    };
    cache
        .init(ID, &HINTS, setup)
        .map_err(|err| critical("AH01677", Some(&err), &format!("failed to initialise {ID} cache")))?;
    if let Some(main) = setup.servers.first_mut() {
        main.conf.get_mut(&SERVER).cache = Some(cache);
    }
    Ok(())
}

/// The cache, where it is made and this directory uses it.
fn cache_of(r: &Request) -> Option<Arc<dyn Socache>> {
    r.dir(&DIR).providers.as_ref()?;
    let conf = r.runtime.servers.first()?.conf.get(&SERVER);
    conf.cache.clone().filter(|_| conf.enabled)
}

/// What the hash is kept under: `construct_key`.
fn key(r: &Request, user: &[u8], realm: Option<&[u8]>) -> Vec<u8> {
    let mut key = match r.dir(&DIR).context.as_deref() {
        None | Some("directory") => {
            let folder = r.uri.iter().rposition(|&c| c == b'/').unwrap_or(0);
            [r.server.name().as_bytes(), &r.uri[..folder]].concat()
        }
        Some("server") => r.server.name().as_bytes().to_vec(),
        Some(context) => httpd_conf::to_bytes(context).into_owned(),
    };
    for part in std::iter::once(user).chain(realm) {
        key.push(b':');
        key.extend_from_slice(part);
    }
    key
}

/// Keeps what `provider` found, if it is wanted for that: `ap_authn_cache_store`.
pub(super) fn store(r: &Request, provider: &str, user: &[u8], realm: Option<&[u8]>, hash: &[u8]) {
    let Some(cache) = cache_of(r) else { return };
    let conf = r.dir(&DIR);
    if !conf.providers.as_ref().is_some_and(|names| names.iter().any(|name| name == provider)) {
        return;
    }
    memo::refuse();
    let context = conf.context.as_deref().unwrap_or("directory");
    let expiry = clock::unix_micros().saturating_add(conf.timeout.saturating_mul(1_000_000));
    match cache.store(&key(r, user, realm), expiry, hash) {
        Ok(()) => rerror!(
            r,
            Level::Debug,
            "authn_socache",
            "AH01681",
            "Cached authn credentials for {} in {context}",
            shown(user)
        ),
        Err(err) => rerror!(
            r,
            Level::Error,
            "authn_socache",
            "AH01682",
            err = err,
            "Failed to cache authn credentials for {provider} in {context}"
        ),
    }
}

struct Cached;

/// The hash that is kept; the numbers are for: not found, found, failed.
fn retrieve(
    r: &Request,
    user: &[u8],
    realm: Option<&[u8]>,
    [absent, found, failed]: [&'static str; 3],
) -> Result<Vec<u8>, AuthnStatus> {
    memo::refuse();
    let cache = cache_of(r).ok_or(AuthnStatus::UserNotFound)?;
    // Checking the hash is slow, and so are those who are asked where there is none.
    if r.needs_thread() {
        return Err(AuthnStatus::NeedThread);
    }
    let name = shown(user);
    match cache.retrieve(&key(r, user, realm), MOST) {
        Ok(Some(hash)) => {
            rerror!(r, Level::Debug, "authn_socache", found, "Authn cache: found credentials for {name}");
            Ok(hash)
        }
        Ok(None) => {
            rerror!(r, Level::Debug, "authn_socache", absent, "Authn cache: no credentials found for {name}");
            Err(AuthnStatus::UserNotFound)
        }
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "authn_socache",
                failed,
                err = err,
                "Error accessing authentication cache"
            );
            Err(AuthnStatus::UserNotFound)
        }
    }
}

impl AuthnProvider for Cached {
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        match retrieve(r, user, None, ["AH01684", "AH01685", "AH01686"]) {
            Ok(hash) if password::validate(password, &hash) => AuthnStatus::Granted,
            Ok(_) => AuthnStatus::Denied,
            Err(status) => status,
        }
    }

    fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        retrieve(r, user, Some(realm), ["AH01687", "AH01688", "AH01689"])
    }
}
