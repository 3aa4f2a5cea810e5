//! mod_authz_user: `Require user` and `Require valid-user`.
//!
//! Answers to `modules/aaa/mod_authz_user.c`.

use httpd_conf::{from_bytes, next_word, to_bytes};

use super::{AuthzStatus, Requirement, evaluate_required, parse_required};
use crate::config::directive::{Cmd, CmdError};
use crate::expr::Expr;
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::Module;
use crate::request::Request;

/// The module.
pub static MODULE: Module =
    Module { name: "authz_user_module", file: "mod_authz_user.c", directives: &[], hooks };

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("user", user);
    hooks.authz_provider("valid-user", valid_user);
}

/// One of the names that the expression gives.
struct User(Expr);

fn user(cmd: &mut Cmd, line: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(User(parse_required(cmd, line)?)))
}

impl Requirement for User {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        let names = match evaluate_required(r, &self.0, ("authz_user", "user"), "AH02594") {
            Ok(names) => names,
            Err(status) => return status,
        };
        let names = from_bytes(&names);
        let mut rest: &str = &names;
        loop {
            let name = next_word(&mut rest);
            if name.is_empty() {
                break;
            }
            if *to_bytes(&name) == **user {
                return AuthzStatus::Granted;
            }
        }
        rerror!(
            r,
            Level::Debug,
            "authz_user",
            "AH01663",
            "access to {} failed, reason: user '{user}' does not meet 'require'ments for user to be allowed access",
            r.uri
        );
        AuthzStatus::Denied
    }
}

struct ValidUser;

fn valid_user(_: &mut Cmd, _: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(ValidUser))
}

impl Requirement for ValidUser {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        if r.user.is_some() { AuthzStatus::Granted } else { AuthzStatus::DeniedNoUser }
    }
}
