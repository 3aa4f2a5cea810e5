//! `Require all`, `env`, `method` and `expr`.
//!
//! Answers to the providers at the end of `mod_authz_core.c`.

use httpd_conf::next_word;

use crate::config::directive::{Cmd, CmdError, Scope};
use crate::expr::{Expr, Failure, Variable};
use crate::http::method::Method;
use crate::log::{Level, rerror};
use crate::modules::aaa::{AuthzStatus, Requirement};
use crate::request::Request;

type Made = Result<Box<dyn Requirement>, CmdError>;

struct All(AuthzStatus);

impl Requirement for All {
    fn check(&self, _: &mut Request) -> AuthzStatus {
        self.0
    }
}

/// `Require all granted|denied`.
pub(super) fn all(_: &mut Cmd, line: &str) -> Made {
    match line.to_ascii_lowercase().as_str() {
        "granted" => Ok(Box::new(All(AuthzStatus::Granted))),
        "denied" => Ok(Box::new(All(AuthzStatus::Denied))),
        _ => Err("Argument for 'Require all' must be 'granted' or 'denied'".into()),
    }
}

/// One of these variables is set.
struct Env(Vec<String>);

impl Requirement for Env {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        self.0.iter().any(|name| r.subprocess_env.contains(name)).into()
    }
}

/// `Require env name …`.
pub(super) fn env(_: &mut Cmd, line: &str) -> Made {
    Ok(Box::new(Env(words(line))))
}

/// The words of a line, up to an empty one.
fn words(line: &str) -> Vec<String> {
    let mut rest = line;
    std::iter::from_fn(|| Some(next_word(&mut rest)).filter(|word| !word.is_empty())).collect()
}

/// The methods, a bit each.
struct Methods(u64);

impl Requirement for Methods {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        (self.0 & r.method.bit() != 0).into()
    }
}

/// `Require method name …`.
pub(super) fn method(cmd: &mut Cmd, line: &str) -> Made {
    let registry = match &cmd.scope {
        Scope::Startup(setup) => &setup.methods,
        Scope::Htaccess(runtime) => &runtime.methods,
    };
    let mut mask = 0;
    for name in words(line) {
        let method = registry.number_of(name.as_bytes());
        if method == Method::INVALID {
            return Err(format!("Invalid Method '{name}'").into());
        }
        mask |= method.bit();
    }
    Ok(Box::new(Methods(mask)))
}

struct Condition {
    expr: Expr,
    /// The expression names the user: where it is false, authenticating may help.
    wants_user: bool,
}

impl Requirement for Condition {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        match self.expr.is_true(r) {
            Ok(true) => AuthzStatus::Granted,
            Ok(false) if self.wants_user => AuthzStatus::DeniedNoUser,
            Ok(false) => AuthzStatus::Denied,
            Err(Failure::NeedThread) => AuthzStatus::NeedThread,
            Err(Failure::Error(text)) => {
                rerror!(
                    r,
                    Level::Error,
                    "authz_core",
                    "AH02320",
                    "Error evaluating expression in 'Require expr': {}",
                    String::from_utf8_lossy(text.as_ref())
                );
                AuthzStatus::GeneralError
            }
        }
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// `Require expr condition`, with or without quotes around the whole.
pub(super) fn expr(cmd: &mut Cmd, line: &str) -> Made {
    let text = match line.strip_prefix('"') {
        // A lone quote is both the first and the last one.
        Some("") => "",
        Some(rest) => rest.strip_suffix('"').unwrap_or(line),
        None => line,
    };
    let expr = cmd
        .parse_condition(text)
        .map_err(|error| CmdError::from(format!("Cannot parse expression in require line: {error}")))?;
    let wants_user = expr.uses(Variable::RemoteUser);
    Ok(Box::new(Condition { expr, wants_user }))
}
