//! mod_authz_owner: `Require file-owner`, and whose group a file is.
//!
//! Answers to `modules/aaa/mod_authz_owner.c`.

use nix::unistd::{Gid, Group, Uid, User};

use super::{AuthzStatus, Requirement};
use crate::config::directive::{Cmd, CmdError};
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::Module;
use crate::request::{FileInfo, Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_owner_module", file: "mod_authz_owner.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("file-owner", file_owner);
}

/// The user is called like the account that the file belongs to.
struct FileOwner;

fn file_owner(_: &mut Cmd, _: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(FileOwner))
}

/// Says why the user isn't let in.
fn refused(r: &Request, number: &'static str, err: Option<std::io::Error>, reason: &str) {
    let user = r.user.clone().unwrap_or_default();
    match err {
        Some(err) => rerror!(
            r,
            Level::Error,
            "authz_owner",
            number,
            err = err,
            "Authorization of user {user} to access {} failed, reason: {reason}",
            r.uri
        ),
        None => rerror!(
            r,
            Level::Error,
            "authz_owner",
            number,
            "Authorization of user {user} to access {} failed, reason: {reason}",
            r.uri
        ),
    }
}

impl Requirement for FileOwner {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        // Who has an account is not noted; and it may be known elsewhere only.
        memo::refuse();
        if r.needs_thread() {
            return AuthzStatus::NeedThread;
        }
        let info = match FileInfo::stat(&r.filename) {
            Ok(info) => info,
            Err(err) => {
                let reason = format!("could not stat file {}", r.filename);
                refused(r, "AH01634", Some(err), &reason);
                return AuthzStatus::Denied;
            }
        };
        match User::from_uid(Uid::from_raw(info.uid)) {
            Ok(Some(owner)) if owner.name.as_bytes() == user.as_slice() => AuthzStatus::Granted,
            Ok(Some(owner)) => {
                refused(r, "AH01637", None, &format!("file owner {} does not match.", owner.name));
                AuthzStatus::Denied
            }
            _ => {
                let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
                refused(r, "AH01636", Some(missing), "could not get name of file owner");
                AuthzStatus::Denied
            }
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// The name of the group that the file belongs to: `authz_owner_get_file_group`.
pub(super) fn file_group(r: &mut Request) -> Result<Option<String>, AuthzStatus> {
    memo::refuse();
    if r.needs_thread() {
        return Err(AuthzStatus::NeedThread);
    }
    let info = match FileInfo::stat(&r.filename) {
        Ok(info) => info,
        Err(err) => {
            let reason = format!("could not stat file {}", r.filename);
            refused(r, "AH01639", Some(err), &reason);
            return Ok(None);
        }
    };
    match Group::from_gid(Gid::from_raw(info.gid)) {
        Ok(Some(group)) => Ok(Some(group.name)),
        _ => {
            let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
            refused(r, "AH01641", Some(missing), "could not get name of file group");
            Ok(None)
        }
    }
}
