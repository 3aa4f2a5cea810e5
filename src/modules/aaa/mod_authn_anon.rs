//! mod_authn_anon: guests, who give their mail address for a password.
//!
//! Answers to `modules/aaa/mod_authn_anon.c`.

use bstr::ByteSlice;
use httpd_conf::to_bytes;

use super::{AuthnProvider, AuthnStatus};
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::Hooks;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::Request;

/// The module.
pub static MODULE: Module =
    Module { name: "authn_anon_module", file: "mod_authn_anon.c", directives: ROWS, hooks };

static DIR: Slot<AnonDir> = Slot::new();

#[derive(Clone)]
struct AnonDir {
    users: Vec<Vec<u8>>,
    any_user: bool,
    no_user: bool,
    log_email: bool,
    verify_email: bool,
    must_give_email: bool,
}

impl Default for AnonDir {
    fn default() -> AnonDir {
        AnonDir {
            users: Vec::new(),
            any_user: false,
            no_user: false,
            log_email: true,
            verify_email: false,
            must_give_email: true,
        }
    }
}

impl Conf for AnonDir {
    /// Nothing is inherited once one of the directives stands in a section.
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

const FLAG: &str = "Limited to 'on' or 'off'";

static ROWS: &[Directive] = &[
    row("Anonymous", Args::Iterate(anonymous), "a space-separated list of user IDs"),
    row(
        "Anonymous_MustGiveEmail",
        Args::Flag(|cmd, on| set(cmd, on, |conf| &mut conf.must_give_email)),
        FLAG,
    ),
    row("Anonymous_NoUserId", Args::Flag(|cmd, on| set(cmd, on, |conf| &mut conf.no_user)), FLAG),
    row("Anonymous_VerifyEmail", Args::Flag(|cmd, on| set(cmd, on, |conf| &mut conf.verify_email)), FLAG),
    row("Anonymous_LogEmail", Args::Flag(|cmd, on| set(cmd, on, |conf| &mut conf.log_email)), FLAG),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::AUTHCFG, help }
}

fn set(cmd: &mut Cmd, on: bool, field: fn(&mut AnonDir) -> &mut bool) -> Done {
    *field(cmd.dir(&DIR)) = on;
    Ok(())
}

fn anonymous(cmd: &mut Cmd, user: &str) -> Done {
    if user.is_empty() {
        return Err("Anonymous string cannot be empty, use Anonymous_NoUserId".into());
    }
    let conf = cmd.dir(&DIR);
    if user == "*" {
        conf.any_user = true;
    } else if !conf.any_user {
        conf.users.push(to_bytes(user).into_owned());
    }
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.authn_provider("anon", &Anonymous);
}

struct Anonymous;

impl AuthnProvider for Anonymous {
    /// `check_anonymous`.
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        let dir = r.dir.clone();
        let conf = dir.get(&DIR);
        let known = match user {
            _ if conf.users.is_empty() && !conf.any_user => false,
            [] => conf.no_user,
            _ => conf.any_user || conf.users.iter().any(|own| own.eq_ignore_ascii_case(user)),
        };
        if !known {
            return AuthnStatus::UserNotFound;
        }
        let is_address = password.contains(&b'@') && password.contains(&b'.');
        if conf.must_give_email && password.is_empty() || conf.verify_email && !is_address {
            return AuthnStatus::Denied;
        }
        if conf.log_email && r.is_initial() {
            rerror!(
                r,
                Level::Info,
                "authn_anon",
                "AH01672",
                "Anonymous: Passwd <{}> Accepted",
                password.as_bstr()
            );
        }
        AuthnStatus::Granted
    }

    fn get_realm_hash(&self, _: &mut Request, _: &[u8], _: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        Err(AuthnStatus::GeneralError)
    }

    fn has_realm_hash(&self) -> bool {
        false
    }
}
