//! mod_authn_dbd: passwords in an SQL database.
//!
//! Answers to `modules/aaa/mod_authn_dbd.c`.

use super::{AuthnProvider, AuthnStatus, mod_authn_socache, password};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::hooks::Hooks;
use crate::log::{Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::modules::database::mod_dbd;
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authn_dbd_module", file: "mod_authn_dbd.c", directives: ROWS, hooks };

static DIR: Slot<DbdDir> = Slot::new();

/// The labels of the queries.
#[derive(Clone, Default)]
struct DbdDir {
    /// `AuthDBDUserPWQuery`
    user: Option<String>,
    /// `AuthDBDUserRealmQuery`
    realm: Option<String>,
}

impl Conf for DbdDir {
    fn merge(&self, child: &Self) -> Self {
        DbdDir {
            user: child.user.clone().or_else(|| self.user.clone()),
            realm: child.realm.clone().or_else(|| self.realm.clone()),
        }
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthDBDUserPWQuery",
        args: Args::Take1(user_password_query),
        allowed: Allowed::ACCESS_CONF,
        help: "Query used to fetch password for user",
    },
    Directive {
        name: "AuthDBDUserRealmQuery",
        args: Args::Take1(user_realm_query),
        allowed: Allowed::ACCESS_CONF,
        help: "Query used to fetch password for user+realm",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.authn_provider("dbd", &Dbd);
}

fn user_password_query(cmd: &mut Cmd, query: &str) -> Done {
    let label = prepare(cmd, query)?;
    cmd.dir(&DIR).user = Some(label);
    Ok(())
}

fn user_realm_query(cmd: &mut Cmd, query: &str) -> Done {
    let label = prepare(cmd, query)?;
    cmd.dir(&DIR).realm = Some(label);
    Ok(())
}

/// Names the query; gives the name.
fn prepare(cmd: &mut Cmd, query: &str) -> Result<String, CmdError> {
    cmd.check_context(Forbidden::HTACCESS)?;
    if !cmd.has_module("mod_dbd.c") {
        return Err("You must load mod_dbd to enable AuthDBD functions".into());
    }
    let label = mod_dbd::new_label(cmd, "authn_dbd")?;
    mod_dbd::prepare(cmd, query, &label)?;
    Ok(label)
}

struct Dbd;

impl AuthnProvider for Dbd {
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        const ASKED: Asked =
            Asked { directive: "AuthDBDUserPWQuery", numbers: ["AH01653", "AH01654", "AH01655", "AH01656"] };
        let label = r.dir(&DIR).user.clone();
        let hash = match first_column(r, label, &ASKED, &[user]) {
            Ok(hash) => hash,
            Err(status) => return status,
        };
        mod_authn_socache::store(r, "dbd", user, None, &hash);
        if password::validate(password, &hash) { AuthnStatus::Granted } else { AuthnStatus::Denied }
    }

    fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        const ASKED: Asked = Asked {
            directive: "AuthDBDUserRealmQuery",
            numbers: ["AH01658", "AH01659", "AH01660", "AH01661"],
        };
        let label = r.dir(&DIR).realm.clone();
        let hash = first_column(r, label, &ASKED, &[user, realm])?;
        mod_authn_socache::store(r, "dbd", user, Some(realm), &hash);
        Ok(hash)
    }
}

/// What the log says of a query, and the numbers for: no connection, no query, not known, failed.
struct Asked {
    directive: &'static str,
    numbers: [&'static str; 4],
}

/// What stands in the first column; the others become variables `AUTHENTICATE_<column>`.
fn first_column(
    r: &mut Request,
    label: Option<String>,
    asked: &Asked,
    key: &[&[u8]],
) -> Result<Vec<u8>, AuthnStatus> {
    memo::refuse();
    if r.needs_thread() {
        return Err(AuthnStatus::NeedThread);
    }
    let [no_connection, no_query, unknown, failed] = asked.numbers;
    let directive = asked.directive;
    let user = key.join(&b':');
    let user = shown(&user);
    let error = |r: &Request, number, text: String| {
        rerror!(r, Level::Error, "authn_dbd", number, "{text}");
        AuthnStatus::GeneralError
    };
    let server = r.server.clone();
    let Some(dbd) = mod_dbd::acquire(&server) else {
        let text = format!("Failed to acquire database connection to look up user '{user}'");
        return Err(error(r, no_connection, text));
    };
    let Some(label) = label else {
        return Err(error(r, no_query, format!("No {directive} has been specified")));
    };
    if !dbd.has(&label) {
        let text = format!("A prepared statement could not be found for {directive} with the key '{label}'");
        return Err(error(r, unknown, text));
    }
    let found = dbd.select(&label, key).map_err(|words| {
        error(r, failed, format!("Query execution error looking up '{user}' in database [{words}]"))
    })?;
    drop(dbd);
    let mut hash = None;
    for row in found.rows {
        let mut row = row.into_iter();
        let first = row.next().flatten();
        for (name, value) in found.names.iter().skip(1).zip(row) {
            if let Some(value) = value {
                r.subprocess_env.set(variable(name), value);
            }
        }
        // A NULL is no password: the next row counts.
        hash = first;
        if hash.is_some() {
            break;
        }
    }
    hash.ok_or(AuthnStatus::UserNotFound)
}

/// `AUTHENTICATE_` and the column in capitals; what is no letter and no digit is a low line.
fn variable(column: &str) -> String {
    let plain = |c: u8| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase().into() } else { '_' };
    "AUTHENTICATE_".chars().chain(column.bytes().map(plain)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        assert_eq!(variable("e-mail 2"), "AUTHENTICATE_E_MAIL_2");
    }
}
