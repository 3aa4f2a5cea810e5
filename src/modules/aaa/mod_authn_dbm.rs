//! mod_authn_dbm: passwords in a DBM file, as `htdbm` makes them.
//!
//! Answers to `modules/aaa/mod_authn_dbm.c`. What kinds of files there are is said in [`crate::dbm`].

use httpd_conf::to_bytes;

use super::{AuthnProvider, AuthnStatus, mod_authn_socache, password};
use crate::config::directive::{Allowed, Args, Directive};
use crate::dbm::Dbm;
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authn_dbm_module", file: "mod_authn_dbm.c", directives: ROWS, hooks };

static DIR: Slot<DbmDir> = Slot::new();

#[derive(Clone, Default)]
struct DbmDir {
    /// `AuthDBMUserFile`
    file: Option<String>,
    /// `AuthDBMType`
    kind: Option<String>,
}

impl Conf for DbmDir {
    /// Nothing is inherited once one of the directives stands in a section.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthDBMUserFile",
        args: Args::Take1(|cmd, path| {
            let path = cmd.server_root_relative(path);
            cmd.dir(&DIR).file = Some(path);
            Ok(())
        }),
        allowed: Allowed::AUTHCFG,
        help: "dbm database file containing user IDs and passwords",
    },
    Directive {
        name: "AuthDBMType",
        args: Args::Take1(|cmd, kind| {
            cmd.dir(&DIR).kind = Some(kind.to_owned());
            Ok(())
        }),
        allowed: Allowed::AUTHCFG,
        help: "what type of DBM file the user file is",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.authn_provider("dbm", &DbmFile);
}

struct DbmFile;

impl AuthnProvider for DbmFile {
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        let hash = match fetch(r, user) {
            Ok(hash) => hash,
            Err(status) => return status,
        };
        if r.needs_thread() && password::is_slow(&hash) {
            return AuthnStatus::NeedThread;
        }
        mod_authn_socache::store(r, "dbm", user, None, &hash);
        if password::validate(password, &hash) { AuthnStatus::Granted } else { AuthnStatus::Denied }
    }

    fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        let hash = fetch(r, &[user, b":", realm].concat())?;
        mod_authn_socache::store(r, "dbm", user, Some(realm), &hash);
        Ok(hash)
    }
}

/// What stands under `key`, up to a colon: `fetch_dbm_value`.
fn fetch(r: &Request, key: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
    memo::refuse();
    let conf = r.dir(&DIR);
    let kind = conf.kind.as_deref().unwrap_or("default");
    let file = conf.file.as_deref().unwrap_or("(null)");
    let dbm = Dbm::open(kind, &to_bytes(file)).map_err(|err| {
        rerror!(
            r,
            Level::Error,
            "authn_dbm",
            "AH10285",
            err = err,
            "could not open dbm (type {kind}) file: {file}"
        );
        AuthnStatus::GeneralError
    })?;
    let mut value = dbm.fetch(key).ok_or(AuthnStatus::UserNotFound)?;
    if let Some(end) = value.iter().position(|&c| c == b':' || c == 0) {
        value.truncate(end);
    }
    Ok(value)
}
