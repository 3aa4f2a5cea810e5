//! mod_authz_groupfile: `Require group` and `Require file-group`, with the groups in a text file.
//!
//! Answers to `modules/aaa/mod_authz_groupfile.c`.

use httpd_conf::{from_bytes, getword_conf, to_bytes};

use super::mod_authn_file::{Lines, open_and_read, word};
use super::{AuthzStatus, Requirement, evaluate_required, mod_authz_owner, parse_required};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::expr::Expr;
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_groupfile_module", file: "mod_authz_groupfile.c", directives: ROWS, hooks };

static DIR: Slot<GroupDir> = Slot::new();

#[derive(Clone, Default)]
struct GroupDir {
    /// `AuthGroupFile`.
    file: Option<String>,
}

impl Conf for GroupDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

static ROWS: &[Directive] = &[Directive {
    name: "AuthGroupFile",
    args: Args::Take1(group_file),
    allowed: Allowed::AUTHCFG,
    help: "text file containing group names and member user IDs",
}];

fn group_file(cmd: &mut Cmd, path: &str) -> Done {
    let path = cmd.server_root_relative(path);
    cmd.dir(&DIR).file = Some(path);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("group", group);
    hooks.authz_provider("file-group", file_group);
}

/// The numbers under which what is wrong with the file is logged.
struct Numbers {
    unset: &'static str,
    unreadable: &'static str,
    /// The user is in no group.
    absent: (&'static str, Level),
}

/// The groups that the user is in, if any: `groups_for_user`.
fn groups(r: &mut Request, user: &[u8], numbers: &Numbers) -> Option<Vec<Vec<u8>>> {
    memo::refuse();
    let Some(name) = r.dir(&DIR).file.clone() else {
        rerror!(
            r,
            Level::Error,
            "authz_groupfile",
            numbers.unset,
            "No group file was specified in the configuration"
        );
        return None;
    };
    let content = match open_and_read(&name) {
        Ok(content) => content,
        Err(err) => {
            rerror!(
                r,
                Level::Error,
                "authz_groupfile",
                numbers.unreadable,
                err = err,
                "Could not open group file: {name}"
            );
            return None;
        }
    };
    let mut found = Vec::new();
    for line in Lines(&content) {
        let mut rest = &*line;
        let group = word(&mut rest).trim_ascii_end().to_vec();
        let members = from_bytes(rest);
        let mut members: &str = &members;
        while !members.is_empty() {
            let member = getword_conf(&mut members);
            if *to_bytes(&member) == *user {
                found.push(group);
                break;
            }
        }
    }
    if found.is_empty() {
        let (number, level) = numbers.absent;
        rerror!(
            r,
            level,
            "authz_groupfile",
            number,
            "Authorization of user {} to access {} failed, reason: user doesn't appear in group file ({name}).",
            String::from_utf8_lossy(user),
            r.uri
        );
        return None;
    }
    Some(found)
}

fn is_in(groups: &[Vec<u8>], name: &[u8]) -> bool {
    groups.iter().any(|group| group.eq_ignore_ascii_case(name))
}

/// One of the groups that the expression gives.
struct Group(Expr);

fn group(cmd: &mut Cmd, line: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(Group(parse_required(cmd, line)?)))
}

impl Requirement for Group {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        let numbers = Numbers { unset: "AH01664", unreadable: "AH01665", absent: ("AH01666", Level::Info) };
        let Some(found) = groups(r, &user, &numbers) else { return AuthzStatus::Denied };
        let names = match evaluate_required(r, &self.0, ("authz_groupfile", "group"), "AH02592") {
            Ok(names) => names,
            Err(status) => return status,
        };
        let names = from_bytes(&names);
        let mut rest: &str = &names;
        loop {
            let name = getword_conf(&mut rest);
            if name.is_empty() {
                break;
            }
            if is_in(&found, &to_bytes(&name)) {
                return AuthzStatus::Granted;
            }
        }
        rerror!(
            r,
            Level::Debug,
            "authz_groupfile",
            "AH01667",
            "Authorization of user {user} to access {} failed, reason: user is not part of the 'require'ed group(s).",
            r.uri
        );
        AuthzStatus::Denied
    }

    fn may_block(&self) -> bool {
        self.0.may_block()
    }
}

/// The group that the file belongs to.
struct FileGroup;

fn file_group(_: &mut Cmd, _: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(FileGroup))
}

impl Requirement for FileGroup {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        let numbers = Numbers { unset: "AH01668", unreadable: "AH01669", absent: ("AH01670", Level::Error) };
        let Some(found) = groups(r, &user, &numbers) else { return AuthzStatus::Denied };
        let group = match mod_authz_owner::file_group(r) {
            Ok(Some(group)) => group,
            Ok(None) => return AuthzStatus::Denied,
            Err(status) => return status,
        };
        if is_in(&found, group.as_bytes()) {
            return AuthzStatus::Granted;
        }
        rerror!(
            r,
            Level::Debug,
            "authz_groupfile",
            "AH01671",
            "Authorization of user {user} to access {} failed, reason: user is not part of the 'require'ed file group.",
            r.uri
        );
        AuthzStatus::Denied
    }

    fn may_block(&self) -> bool {
        true
    }
}
