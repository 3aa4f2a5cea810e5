//! mod_authz_dbm: `Require dbm-group` and `Require dbm-file-group`, with the groups of each user in a DBM file.
//!
//! Answers to `modules/aaa/mod_authz_dbm.c`. What kinds of files there are is said in [`crate::dbm`].

use httpd_conf::to_bytes;

use super::{AuthzStatus, Requirement, auth_name, evaluate_required, mod_authz_owner, parse_required};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive};
use crate::dbm::Dbm;
use crate::expr::Expr;
use crate::hooks::Hooks;
use crate::log::{Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_dbm_module", file: "mod_authz_dbm.c", directives: ROWS, hooks };

static DIR: Slot<DbmDir> = Slot::new();

#[derive(Clone, Default)]
struct DbmDir {
    /// `AuthDBMGroupFile`
    file: Option<String>,
    /// `AuthzDBMType`
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
        name: "AuthDBMGroupFile",
        args: Args::Take1(|cmd, path| {
            let path = cmd.server_root_relative(path);
            cmd.dir(&DIR).file = Some(path);
            Ok(())
        }),
        allowed: Allowed::AUTHCFG,
        help: "database file containing group names and member user IDs",
    },
    Directive {
        name: "AuthzDBMType",
        args: Args::Take1(|cmd, kind| {
            cmd.dir(&DIR).kind = Some(kind.to_owned());
            Ok(())
        }),
        allowed: Allowed::AUTHCFG,
        help: "what type of DBM file the group file is",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("dbm-group", group);
    hooks.authz_provider("dbm-file-group", |_, _| Ok(Box::new(FileGroup)));
}

/// The user's groups, between commas. `unset` and `absent` number what is logged without a file and without the user,
/// `broken` is the answer for a file that can't be read. `get_dbm_grp`
fn groups(
    r: &mut Request,
    user: &[u8],
    [unset, absent]: [&'static str; 2],
    broken: AuthzStatus,
) -> Result<Vec<u8>, AuthzStatus> {
    memo::refuse();
    let realm = auth_name(r).unwrap_or_default();
    let conf = r.dir(&DIR);
    let kind = conf.kind.as_deref().unwrap_or("default");
    let Some(file) = &conf.file else {
        rerror!(r, Level::Error, "authz_dbm", unset, "No group file was specified in the configuration");
        return Err(AuthzStatus::Denied);
    };
    let dbm = Dbm::open(kind, &to_bytes(file)).map_err(|err| {
        rerror!(
            r,
            Level::Error,
            "authz_dbm",
            "AH01799",
            err = err,
            "could not open dbm (type {kind}) group access file: {file}"
        );
        broken
    })?;
    let value = dbm.fetch(&[user, b":", &realm].concat()).or_else(|| dbm.fetch(user));
    let Some(value) = value else {
        rerror!(
            r,
            Level::Error,
            "authz_dbm",
            absent,
            "Authorization of user {} to access {} failed, reason: user doesn't appear in DBM group file ({file}).",
            shown(user),
            r.uri
        );
        return Err(AuthzStatus::Denied);
    };
    Ok(list(&value).to_vec())
}

/// The list of groups in a value: all of it, or what stands between the first two colons, where passwords are kept in the
/// same file. A NUL ends it.
fn list(value: &[u8]) -> &[u8] {
    let value = value.split(|&c| c == 0).next().unwrap_or_default();
    let mut parts = value.split(|&c| c == b':');
    let first = parts.next().unwrap_or_default();
    parts.next().unwrap_or(first)
}

/// Is the group in the list? Commas that follow each other count as one, as in `ap_getword`.
fn is_in(list: &[u8], group: &[u8]) -> bool {
    let mut rest = list;
    while !rest.is_empty() {
        let end = rest.iter().position(|&c| c == b',').unwrap_or(rest.len());
        if &rest[..end] == group {
            return true;
        }
        let next = rest[end..].iter().position(|&c| c != b',').unwrap_or(rest.len() - end);
        rest = &rest[end + next..];
    }
    false
}

fn refused(r: &Request, number: &'static str, user: &[u8]) -> AuthzStatus {
    rerror!(
        r,
        Level::Error,
        "authz_dbm",
        number,
        "Authorization of user {} to access {} failed, reason: user is not part of the 'require'ed group(s).",
        shown(user),
        r.uri
    );
    AuthzStatus::Denied
}

/// One of the groups that the expression gives.
struct Group(Expr);

fn group(cmd: &mut Cmd, line: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(Group(parse_required(cmd, line)?)))
}

impl Requirement for Group {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        let groups = match groups(r, &user, ["AH01798", "AH01800"], AuthzStatus::GeneralError) {
            Ok(groups) => groups,
            Err(status) => return status,
        };
        let names = match evaluate_required(r, &self.0, ("authz_dbm", "dbm-group"), "AH02591") {
            Ok(names) => names,
            Err(status) => return status,
        };
        let mut names = names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
        match names.any(|name| is_in(&groups, name)) {
            true => AuthzStatus::Granted,
            false => refused(r, "AH01801", &user),
        }
    }

    fn may_block(&self) -> bool {
        self.0.may_block()
    }
}

/// The group that the file belongs to.
struct FileGroup;

impl Requirement for FileGroup {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        // Whose group the file is may be known elsewhere only.
        if r.needs_thread() {
            return AuthzStatus::NeedThread;
        }
        let groups = match groups(r, &user, ["AH01802", "AH01804"], AuthzStatus::Denied) {
            Ok(groups) => groups,
            Err(status) => return status,
        };
        match mod_authz_owner::file_group(r) {
            Ok(Some(group)) if is_in(&groups, group.as_bytes()) => AuthzStatus::Granted,
            Ok(_) => refused(r, "AH01805", &user),
            Err(status) => status,
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_groups() {
        assert_eq!(list(b"one,two"), b"one,two");
        assert_eq!(list(b"hash:one,two:comment"), b"one,two");
        assert_eq!(list(b"hash:one"), b"one");
        assert!(is_in(b"one,,two", b"two") && is_in(b"one", b"one"));
        assert!(!is_in(b"one,two", b"tw") && !is_in(b"", b""));
    }
}
