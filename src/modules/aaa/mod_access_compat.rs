//! mod_access_compat: `Order`, `Allow`, `Deny`, `Satisfy`, the access control of Apache 2.2.
//!
//! Answers to `modules/aaa/mod_access_compat.c`. Names are looked up on threads that may block.

use std::sync::Arc;

use super::{address_error, in_domain};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::expr::{Subnet, SubnetError};
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "access_compat_module", file: "mod_access_compat.c", directives: ROWS, hooks };

static DIR: Slot<AccessDir> = Slot::new();

/// A directory's settings. Those of a section replace those around it as a whole.
#[derive(Clone, Default)]
struct AccessDir {
    order: Orders,
    allows: Arc<Vec<Rule>>,
    denies: Arc<Vec<Rule>>,
    satisfy: Satisfy,
}

impl Conf for AccessDir {
    fn merge(&self, child: &Self) -> Self {
        child.clone()
    }
}

/// `Order` by method: the methods of each kind, a bit each. The rest is `deny,allow`.
#[derive(Clone, Copy, Default)]
struct Orders {
    allow_then_deny: u64,
    mutual_failure: u64,
}

/// `Satisfy` by method.
#[derive(Clone, Copy, Default)]
struct Satisfy {
    any: u64,
}

/// An `Allow` or `Deny`.
#[derive(Clone)]
struct Rule {
    /// The methods that it is for.
    limited: u64,
    from: Place,
}

#[derive(Clone)]
enum Place {
    All,
    Env(String),
    NotEnv(String),
    Ip(Subnet),
    Host(String),
}

static ROWS: &[Directive] = &[
    Directive {
        name: "order",
        args: Args::Take1(order_directive),
        allowed: Allowed::LIMIT,
        help: "'allow,deny', 'deny,allow', or 'mutual-failure'",
    },
    Directive {
        name: "allow",
        args: Args::Iterate2(allow),
        allowed: Allowed::LIMIT,
        help: "'from' followed by hostnames or IP-address wildcards",
    },
    Directive {
        name: "deny",
        args: Args::Iterate2(deny),
        allowed: Allowed::LIMIT,
        help: "'from' followed by hostnames or IP-address wildcards",
    },
    Directive {
        name: "Satisfy",
        args: Args::Take1(satisfy),
        allowed: Allowed::AUTHCFG,
        help: "access policy if both allow and require used ('all' or 'any')",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.access_checker(check_dir_access, order::MIDDLE);
}

fn order_directive(cmd: &mut Cmd, arg: &str) -> Done {
    let methods = cmd.limited.unwrap_or(u64::MAX);
    let (allow_then_deny, mutual_failure) = match arg.to_ascii_lowercase().as_str() {
        "allow,deny" => (methods, 0),
        "deny,allow" => (0, 0),
        "mutual-failure" => (0, methods),
        _ => return Err("unknown order".into()),
    };
    let order = &mut cmd.dir(&DIR).order;
    order.allow_then_deny = order.allow_then_deny & !methods | allow_then_deny;
    order.mutual_failure = order.mutual_failure & !methods | mutual_failure;
    Ok(())
}

fn satisfy(cmd: &mut Cmd, arg: &str) -> Done {
    let methods = cmd.limited.unwrap_or(u64::MAX);
    let any = match arg.to_ascii_lowercase().as_str() {
        "all" => 0,
        "any" => methods,
        _ => return Err("Satisfy either 'any' or 'all'.".into()),
    };
    let satisfy = &mut cmd.dir(&DIR).satisfy;
    satisfy.any = satisfy.any & !methods | any;
    Ok(())
}

fn allow(cmd: &mut Cmd, from: &str, place: &str) -> Done {
    let rule = rule(cmd, from, place)?;
    Arc::make_mut(&mut cmd.dir(&DIR).allows).push(rule);
    Ok(())
}

fn deny(cmd: &mut Cmd, from: &str, place: &str) -> Done {
    let rule = rule(cmd, from, place)?;
    Arc::make_mut(&mut cmd.dir(&DIR).denies).push(rule);
    Ok(())
}

fn rule(cmd: &Cmd, from: &str, place: &str) -> Result<Rule, CmdError> {
    if !from.eq_ignore_ascii_case("from") {
        return Err("allow and deny must be followed by 'from'".into());
    }
    Ok(Rule { limited: cmd.limited.unwrap_or(u64::MAX), from: place_of(place)? })
}

fn place_of(place: &str) -> Result<Place, &'static str> {
    if let Some(name) = after(place, "env=!") {
        return Ok(Place::NotEnv(name.to_owned()));
    }
    if let Some(name) = after(place, "env=") {
        return Ok(Place::Env(name.to_owned()));
    }
    if place.eq_ignore_ascii_case("all") {
        return Ok(Place::All);
    }
    match Subnet::parse(place) {
        Ok(subnet) => Ok(Place::Ip(subnet)),
        Err(SubnetError::NotAnAddress) if place.contains('/') => Err("An IP address was expected"),
        Err(SubnetError::NotAnAddress) if place.contains('#') => Err("No comments are allowed here"),
        Err(SubnetError::NotAnAddress) => Ok(Place::Host(place.to_owned())),
        Err(error) => Err(address_error(error)),
    }
}

/// What follows `prefix`, in any case.
fn after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `Satisfy Any` for this method.
pub(super) fn satisfies_any(r: &Request) -> bool {
    r.dir(&DIR).satisfy.any & r.method.bit() != 0
}

/// Looking a name up must wait for a thread.
struct NeedThread;

/// Does one of the rules fit? `find_allowdeny`.
fn find(r: &Request, rules: &[Rule]) -> Result<bool, NeedThread> {
    for rule in rules.iter().filter(|rule| rule.limited & r.method.bit() != 0) {
        let fits = match &rule.from {
            Place::All => true,
            Place::Env(name) => r.subprocess_env.contains(name),
            Place::NotEnv(name) => !r.subprocess_env.contains(name),
            Place::Ip(subnet) => subnet.contains(r.useragent_addr()),
            Place::Host(domain) => r
                .confirmed_remote_host()
                .map_err(|_| NeedThread)?
                .is_some_and(|client| in_domain(domain, client)),
        };
        if fits {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_dir_access(r: &mut Request) -> Step {
    let conf = r.dir(&DIR);
    let granted = match granted(r, conf) {
        Ok(granted) => granted,
        Err(NeedThread) => return Step::NeedThread,
    };
    if granted {
        return Step::Ok;
    }
    let (what, name) = if r.filename.is_empty() { ("uri ", &r.uri) } else { ("", &r.filename) };
    rerror!(
        r,
        Level::Error,
        "access_compat",
        "AH01797",
        "client denied by server configuration: {what}{name}"
    );
    Step::Status(status::FORBIDDEN)
}

fn granted(r: &Request, conf: &AccessDir) -> Result<bool, NeedThread> {
    let bit = r.method.bit();
    if conf.order.allow_then_deny & bit != 0 || conf.order.mutual_failure & bit != 0 {
        // With only two verdicts, "allow, then deny" and "mutual failure" are the same.
        return Ok(find(r, &conf.allows)? && !find(r, &conf.denies)?);
    }
    Ok(!find(r, &conf.denies)? || find(r, &conf.allows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert!(matches!(place_of("ALL"), Ok(Place::All)));
        assert!(matches!(place_of("Env=!x"), Ok(Place::NotEnv(name)) if name == "x"));
        assert!(matches!(place_of("env=x"), Ok(Place::Env(name)) if name == "x"));
        assert!(matches!(place_of("10.1"), Ok(Place::Ip(_))));
        assert!(matches!(place_of("10.0.0.0/8"), Ok(Place::Ip(_))));
        assert!(matches!(place_of(".example.com"), Ok(Place::Host(_))));
        assert_eq!(place_of("example.com/8").err(), Some("An IP address was expected"));
        assert_eq!(place_of("a#b").err(), Some("No comments are allowed here"));
        assert_eq!(place_of("1.2.3.4/99").err(), Some("The specified network mask is invalid."));
    }
}
