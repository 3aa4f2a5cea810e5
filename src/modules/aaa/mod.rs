//! Authentication, authorization, access (`modules/aaa`): what the modules of this family share.
//!
//! Answers to `include/mod_auth.h` and to what `server/request.c` and `server/protocol.c` ask of these modules
//! (`ap_satisfies`, `ap_auth_type`, `ap_auth_name`, `ap_note_auth_failure`). A `Require` provider gives an object made
//! from its line, where Apache has an untyped pointer and a function.

pub mod mod_access_compat;
pub mod mod_allowmethods;
pub mod mod_auth_basic;
pub mod mod_auth_digest;
pub mod mod_authn_anon;
pub mod mod_authn_core;
pub mod mod_authn_dbd;
pub mod mod_authn_dbm;
pub mod mod_authn_file;
pub mod mod_authn_socache;
pub mod mod_authz_core;
pub mod mod_authz_dbd;
pub mod mod_authz_dbm;
pub mod mod_authz_groupfile;
pub mod mod_authz_host;
pub mod mod_authz_owner;
pub mod mod_authz_user;
pub mod password;

use crate::config::directive::{Cmd, CmdError};
use crate::expr::{Expr, Failure, SubnetError};
use crate::log::{Level, rerror};
use crate::request::{Request, Step};

/// What a password checker found: `authn_status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthnStatus {
    /// The password is wrong.
    Denied,
    /// They fit.
    Granted,
    /// The user is not known here: ask the next provider.
    UserNotFound,
    /// It can't be found out.
    GeneralError,
    /// Would block: ask again on a thread that may.
    NeedThread,
}

/// Checks passwords (`authn_provider`): a value for `AuthBasicProvider`.
pub trait AuthnProvider: Sync {
    /// Does the password fit the user?
    fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus;

    /// The hash of `user:realm:password` in hex digits, for digest authentication, or why there is none.
    /// Only called when [`AuthnProvider::has_realm_hash`].
    fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus>;

    /// False for a provider that can't be used for digest authentication.
    fn has_realm_hash(&self) -> bool {
        true
    }

    /// False for a provider that can't be used for basic authentication.
    fn has_check_password(&self) -> bool {
        true
    }
}

/// What a `Require` line says of a request: `authz_status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthzStatus {
    /// No.
    Denied,
    /// Yes.
    Granted,
    /// It does not apply.
    Neutral,
    /// It can't be found out.
    GeneralError,
    /// Only once the user is known.
    DeniedNoUser,
    /// Would block: ask again on a thread that may.
    NeedThread,
}

impl From<bool> for AuthzStatus {
    fn from(granted: bool) -> Self {
        if granted { AuthzStatus::Granted } else { AuthzStatus::Denied }
    }
}

/// What a `Require` line was made into.
pub trait Requirement: Send + Sync {
    /// Does it let the request in?
    fn check(&self, r: &mut Request) -> AuthzStatus;

    /// True when [`Requirement::check`] may answer `NeedThread`.
    fn may_block(&self) -> bool {
        false
    }
}

/// Makes a requirement of what follows the provider's name in a `Require` line (`authz_provider`).
pub type AuthzProvider = fn(&mut Cmd, &str) -> Result<Box<dyn Requirement>, CmdError>;

/// What follows the type in `Require`: text with variables.
pub(super) fn parse_required(cmd: &mut Cmd, line: &str) -> Result<Expr, CmdError> {
    cmd.parse_string(line).map_err(|error| format!("Cannot parse expression in require line: {error}").into())
}

/// What it says for this request. `name` is the module's without `mod_`, `requirement` the type, `number` that of the complaint.
pub(super) fn evaluate_required(
    r: &mut Request,
    expr: &Expr,
    (name, requirement): (&'static str, &str),
    number: &'static str,
) -> Result<Vec<u8>, AuthzStatus> {
    r.evaluate_string(expr).map_err(|failure| match failure {
        Failure::NeedThread => AuthzStatus::NeedThread,
        error => {
            let text = "Can't evaluate require expression";
            rerror!(
                r,
                Level::Error,
                name,
                number,
                "{name} authorize: require {requirement}: {text}: {error}"
            );
            AuthzStatus::Denied
        }
    })
}

/// `Satisfy Any`: host or user is enough: `ap_satisfies`.
#[inline]
pub fn satisfies_any(r: &Request) -> bool {
    mod_access_compat::satisfies_any(r)
}

/// The `AuthType` in force; `None` without one and for `None`: `ap_auth_type`.
pub fn auth_type(r: &mut Request) -> Option<String> {
    mod_authn_core::auth_type(r)
}

/// The `AuthName` in force, its quotes escaped: `ap_auth_name`.
pub fn auth_name(r: &mut Request) -> Option<Vec<u8>> {
    mod_authn_core::auth_name(r)
}

/// Tells the client how to authenticate, as the module for the `AuthType` in force does it: `ap_note_auth_failure`.
pub fn note_auth_failure(r: &mut Request) {
    let Some(auth_type) = auth_type(r) else {
        rerror!(r, Level::Error, "core", "AH00571", "need AuthType to note auth failure: {}", r.uri);
        return;
    };
    let runtime = r.runtime.clone();
    for hook in runtime.hooks.note_auth_failure.iter() {
        if hook(r, &auth_type) != Step::Declined {
            return;
        }
    }
}

/// Does the host `name` lie in `domain`, at a dot? `example.com` and `.example.com` hold `www.example.com`.
fn in_domain(domain: &str, name: &str) -> bool {
    let (domain, name) = (domain.as_bytes(), name.as_bytes());
    let Some(start) = name.len().checked_sub(domain.len()) else { return false };
    name[start..].eq_ignore_ascii_case(domain)
        && (start == 0 || domain.first() == Some(&b'.') || name[start - 1] == b'.')
}

/// APR's text for what is wrong with an address.
pub(crate) fn address_error(error: SubnetError) -> &'static str {
    match error {
        SubnetError::BadMask => "The specified network mask is invalid.",
        SubnetError::NotAnAddress | SubnetError::BadAddress => "The specified IP address is invalid.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_ends_at_a_dot() {
        assert!(in_domain("Example.com", "www.example.com"));
        assert!(in_domain("example.com", "example.com"));
        assert!(in_domain(".example.com", "www.example.com"));
        assert!(!in_domain(".example.com", "example.com"));
        assert!(!in_domain("example.com", "noexample.com"));
        assert!(!in_domain("www.example.com", "example.com"));
    }
}
