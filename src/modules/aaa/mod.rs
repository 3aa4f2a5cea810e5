//! Authentication, authorization, access (`modules/aaa`): what the modules of this family share.

use std::any::Any;

use crate::config::directive::{Cmd, CmdError};
use crate::request::Request;

/// What a password checker found: `authn_status`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthnStatus {
    /// The user is unknown or the password wrong.
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
    /// The hash of user and realm, for digest authentication; `Ok(None)`: unknown user.
    fn get_realm_hash(
        &self,
        r: &mut Request,
        user: &[u8],
        realm: &[u8],
    ) -> Result<Option<Vec<u8>>, AuthnStatus>;
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

/// What a provider made of its `Require` line.
pub type Parsed = Box<dyn Any + Send + Sync>;

/// Checks one kind of `Require` line (`authz_provider`).
pub trait AuthzProvider: Sync {
    /// Reads what follows the provider's name, once, when the configuration is read.
    fn parse(&self, cmd: &mut Cmd, line: &str) -> Result<Parsed, CmdError>;
    /// Does it let the request in? `line` is as written.
    fn check(&self, r: &mut Request, line: &str, parsed: &Parsed) -> AuthzStatus;
}

/// `Satisfy Any`: host or user is enough: `ap_satisfies`.
pub fn satisfies_any(_r: &Request) -> bool {
    false
}
