//! mod_authz_core: `Require` and its containers, how they merge, and the verdict.
//!
//! Answers to `modules/aaa/mod_authz_core.c`. The containers are a tree of [`Section`]s; what a `Require` line itself
//! means is in [`providers`], what `<AuthzProviderAlias>` makes in [`alias`].
//! Where it differs: `<RequireNone>` is folded into the container around it when it is closed, not after the whole
//! configuration was read; what is logged is the same.

mod alias;
mod directives;
mod providers;

use std::fmt;
use std::sync::Arc;

use super::{AuthzStatus, Requirement, auth_type, note_auth_failure};
use crate::config::server::Setup;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, ConfVec, Module, Slot};
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_core_module", file: "mod_authz_core.c", directives: directives::ROWS, hooks };

static DIR: Slot<AuthzDir> = Slot::new();
static SERVER: Slot<AuthzServer> = Slot::new();

/// The names of the aliases, for mod_info.
pub fn aliases(main: &ConfVec) -> Vec<String> {
    main.get(&SERVER).aliases.keys().cloned().collect()
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.check_config(check_config, order::MIDDLE);
    hooks.auth_checker(authorize_user, order::LAST);
    hooks.access_checker_ex(authorize_userless, order::LAST);
    hooks.authz_provider("env", providers::env);
    hooks.authz_provider("all", providers::all);
    hooks.authz_provider("method", providers::method);
    hooks.authz_provider("expr", providers::expr);
}

/// How a container joins what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Logic {
    And,
    Or,
}

/// `AuthMerging`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Merging {
    Off,
    With(Logic),
}

/// A `Require` line or a container of such.
#[derive(Clone)]
struct Section {
    /// The methods that it is for, a bit each.
    limited: u64,
    negate: bool,
    what: What,
}

#[derive(Clone)]
enum What {
    Line {
        name: String,
        args: String,
        requirement: Arc<dyn Requirement>,
    },
    Container {
        op: Logic,
        /// Not written by anybody, but made by `AuthMerging`.
        merged: bool,
        children: Vec<Section>,
    },
}

impl Section {
    fn container(op: Logic, negate: bool) -> Section {
        Section { limited: 0, negate, what: What::Container { op, merged: false, children: Vec::new() } }
    }

    /// The one that `Require` lines outside of every container are put into.
    fn outermost() -> Section {
        Section::container(Logic::Or, false)
    }

    fn op(&self) -> Option<Logic> {
        match &self.what {
            What::Container { op, .. } => Some(*op),
            What::Line { .. } => None,
        }
    }

    fn may_block(&self) -> bool {
        match &self.what {
            What::Line { requirement, .. } => requirement.may_block(),
            What::Container { children, .. } => children.iter().any(Section::may_block),
        }
    }
}

/// As the log names it: `format_authz_command`.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Line { name, args, .. } => {
                write!(f, "Require {}{name} {args}", if self.negate { "not " } else { "" })
            }
            What::Container { op, merged, .. } => {
                let kind = match (op, self.negate) {
                    (Logic::And, false) => "All",
                    (Logic::And, true) => "NotAll",
                    (Logic::Or, false) => "Any",
                    (Logic::Or, true) => "None",
                };
                if *merged { write!(f, "AuthMerging {kind}") } else { write!(f, "<Require{kind}>") }
            }
        }
    }
}

/// A directory's settings.
#[derive(Clone, Default)]
struct AuthzDir {
    section: Option<Arc<Section>>,
    merging: Option<Merging>,
    /// `AuthzSendForbiddenOnFailure`.
    forbidden_on_failure: Option<bool>,
}

impl Conf for AuthzDir {
    fn merge(&self, child: &Self) -> Self {
        let (section, merging) = match child.merging {
            // Only AuthzSendForbiddenOnFailure was set: that doesn't make the child a configuration of its own.
            None if child.section.is_none() && self.section.is_some() => (self.section.clone(), self.merging),
            None | Some(Merging::Off) => (child.section.clone(), child.merging),
            Some(Merging::With(op)) => {
                let section = match (&self.section, &child.section) {
                    (Some(base), Some(new)) => Some(Arc::new(Section {
                        limited: base.limited | new.limited,
                        negate: false,
                        what: What::Container {
                            op,
                            merged: true,
                            children: vec![(**base).clone(), (**new).clone()],
                        },
                    })),
                    (base, new) => base.clone().or_else(|| new.clone()),
                };
                (section, child.merging)
            }
        };
        AuthzDir {
            section,
            merging,
            forbidden_on_failure: child.forbidden_on_failure.or(self.forbidden_on_failure),
        }
    }
}

/// The server's settings; there is one set for all.
#[derive(Clone, Default)]
struct AuthzServer {
    aliases: Arc<alias::Aliases>,
    /// A container in the configuration has negative lines only, which can't let anybody in.
    only_negative: bool,
}

impl Conf for AuthzServer {
    fn merge(&self, child: &Self) -> Self {
        AuthzServer {
            aliases: self.aliases.clone(),
            only_negative: self.only_negative || child.only_negative,
        }
    }
}

/// `authz_core_check_config`.
fn check_config(setup: &mut Setup) -> Result<(), String> {
    if setup.servers.iter().any(|server| server.conf.get(&SERVER).only_negative) {
        return Err(
            "AH01624: <RequireAll> directive contains only negative authorization directives".to_owned()
        );
    }
    Ok(())
}

/// Before anybody has authenticated.
fn authorize_userless(r: &mut Request) -> Step {
    authorize(r, false)
}

/// With the user known.
fn authorize_user(r: &mut Request) -> Step {
    authorize(r, true)
}

/// `authorize_user_core`.
fn authorize(r: &mut Request, after_authn: bool) -> Step {
    let debug = r.log_enabled("authz_core", Level::Debug);
    let Some(section) = r.dir(&DIR).section.clone() else {
        if auth_type(r).is_some() {
            rerror!(
                r,
                Level::Error,
                "authz_core",
                "AH01627",
                "AuthType configured with no corresponding authorization directives"
            );
            return Step::Status(status::INTERNAL_SERVER_ERROR);
        }
        rerror!(r, Level::Debug, "authz_core", "AH01628", "authorization result: granted (no directives)");
        return Step::Ok;
    };
    if debug && r.needs_thread() && section.may_block() {
        // A check that is begun again on a thread would log its first lines twice.
        return Step::NeedThread;
    }
    match apply(r, &section, Logic::And, debug) {
        AuthzStatus::Granted => Step::Ok,
        AuthzStatus::NeedThread => Step::NeedThread,
        AuthzStatus::DeniedNoUser if !after_authn => Step::Declined,
        AuthzStatus::DeniedNoUser => {
            rerror!(
                r,
                Level::Error,
                "authz_core",
                "AH01629",
                "authorization failure (no authenticated user): {}",
                r.uri
            );
            ask_again(r)
        }
        AuthzStatus::Denied | AuthzStatus::Neutral => denied(r, after_authn),
        // Who couldn't find out has logged why.
        AuthzStatus::GeneralError => Step::Status(status::INTERNAL_SERVER_ERROR),
    }
}

fn denied(r: &mut Request, after_authn: bool) -> Step {
    if !after_authn || auth_type(r).is_none() {
        let (what, name) = if r.filename.is_empty() { ("uri ", &r.uri) } else { ("", &r.filename) };
        rerror!(
            r,
            Level::Error,
            "authz_core",
            "AH01630",
            "client denied by server configuration: {what}{name}"
        );
        return Step::Status(status::FORBIDDEN);
    }
    let user = r.user.clone().unwrap_or_else(|| "(null)".into());
    rerror!(
        r,
        Level::Error,
        "authz_core",
        "AH01631",
        "user {user}: authorization failure for \"{}\": ",
        r.uri
    );
    if r.dir(&DIR).forbidden_on_failure.unwrap_or(false) {
        return Step::Status(status::FORBIDDEN);
    }
    ask_again(r)
}

/// 401, with the challenge for a user who has authenticated. Without a user the challenge is there already.
fn ask_again(r: &mut Request) -> Step {
    if r.user.is_some() {
        note_auth_failure(r);
    }
    Step::Status(status::UNAUTHORIZED)
}

/// `apply_authz_sections`. `debug` says whether the debug lines are wanted.
fn apply(r: &mut Request, section: &Section, parent: Logic, debug: bool) -> AuthzStatus {
    if section.limited & r.method.bit() == 0 {
        let result = if parent == Logic::And { AuthzStatus::Granted } else { AuthzStatus::Neutral };
        if debug {
            rerror!(
                r,
                Level::Debug,
                "authz_core",
                "AH01625",
                "authorization result of {section}: {} (directive limited to other methods)",
                shown(result)
            );
        }
        return result;
    }
    let mut result = match &section.what {
        What::Line { requirement, .. } => requirement.check(r),
        What::Container { op, children, .. } => {
            let mut result = AuthzStatus::Neutral;
            for child in children {
                let one = apply(r, child, *op, debug);
                if matches!(one, AuthzStatus::GeneralError | AuthzStatus::NeedThread) {
                    return one;
                }
                let (decisive, weak) = match op {
                    Logic::And => (AuthzStatus::Denied, AuthzStatus::Granted),
                    Logic::Or => (AuthzStatus::Granted, AuthzStatus::Denied),
                };
                if one == AuthzStatus::Neutral {
                    continue;
                }
                if one == decisive {
                    result = one;
                    break;
                }
                // "Denied, but a user might change that" is kept: it decides whether to ask for one.
                if result == AuthzStatus::Neutral || (one == AuthzStatus::DeniedNoUser && result == weak) {
                    result = one;
                }
            }
            result
        }
    };
    if section.negate {
        result = match result {
            AuthzStatus::Granted => AuthzStatus::Denied,
            // That nothing forbids it grants nothing.
            AuthzStatus::Denied | AuthzStatus::DeniedNoUser => AuthzStatus::Neutral,
            other => other,
        };
    }
    if debug && result != AuthzStatus::NeedThread {
        rerror!(
            r,
            Level::Debug,
            "authz_core",
            "AH01626",
            "authorization result of {section}: {}",
            shown(result)
        );
    }
    result
}

/// `format_authz_result`.
fn shown(result: AuthzStatus) -> &'static str {
    match result {
        AuthzStatus::Denied => "denied",
        AuthzStatus::Granted => "granted",
        AuthzStatus::DeniedNoUser => "denied (no authenticated user yet)",
        _ => "neutral",
    }
}
