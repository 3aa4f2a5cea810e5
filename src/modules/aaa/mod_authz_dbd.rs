//! mod_authz_dbd: `Require dbd-group`, and `dbd-login` and `dbd-logout`, which note in the database who came and went.
//!
//! Answers to `modules/aaa/mod_authz_dbd.c`.

use super::{AuthzStatus, Requirement, evaluate_required, parse_required};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden};
use crate::expr::Expr;
use crate::hooks::Hooks;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::module::{Conf, Module, Slot};
use crate::modules::database::mod_dbd::{self, Handle};
use crate::request::{Request, memo};

/// The module.
pub static MODULE: Module =
    Module { name: "authz_dbd_module", file: "mod_authz_dbd.c", directives: ROWS, hooks };

static DIR: Slot<DbdDir> = Slot::new();

#[derive(Clone, Default)]
struct DbdDir {
    /// The label of `AuthzDBDQuery`.
    query: Option<String>,
    /// The label of `AuthzDBDRedirectQuery`.
    redirect_query: Option<String>,
    /// `AuthzDBDLoginToReferer`
    to_referer: Option<bool>,
}

impl Conf for DbdDir {
    fn merge(&self, child: &Self) -> Self {
        DbdDir {
            query: child.query.clone().or_else(|| self.query.clone()),
            redirect_query: child.redirect_query.clone().or_else(|| self.redirect_query.clone()),
            to_referer: child.to_referer.or(self.to_referer),
        }
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthzDBDLoginToReferer",
        args: Args::Flag(|cmd, on| {
            cmd.dir(&DIR).to_referer = Some(on);
            Ok(())
        }),
        allowed: Allowed::ACCESS_CONF,
        help: "Whether to redirect to referer on successful login",
    },
    Directive {
        name: "AuthzDBDQuery",
        args: Args::Take1(query),
        allowed: Allowed::ACCESS_CONF,
        help: "SQL query for DBD Authz or login",
    },
    Directive {
        name: "AuthzDBDRedirectQuery",
        args: Args::Take1(redirect_query),
        allowed: Allowed::ACCESS_CONF,
        help: "SQL query to get per-user redirect URL after login",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.authz_provider("dbd-group", group);
    hooks.authz_provider("dbd-login", |_, _| Ok(Box::new(Visit("login"))));
    hooks.authz_provider("dbd-logout", |_, _| Ok(Box::new(Visit("logout"))));
}

fn query(cmd: &mut Cmd, query: &str) -> Done {
    let label = prepare(cmd, query)?;
    cmd.dir(&DIR).query = Some(label);
    Ok(())
}

fn redirect_query(cmd: &mut Cmd, query: &str) -> Done {
    let label = prepare(cmd, query)?;
    cmd.dir(&DIR).redirect_query = Some(label);
    Ok(())
}

/// Names the query; gives the name.
fn prepare(cmd: &mut Cmd, query: &str) -> Result<String, CmdError> {
    cmd.check_context(Forbidden::HTACCESS)?;
    if !cmd.has_module("mod_dbd.c") {
        return Err("You must load mod_dbd to enable AuthzDBD functions".into());
    }
    let label = mod_dbd::new_label(cmd, "authz_dbd")?;
    mod_dbd::prepare(cmd, query, &label)?;
    Ok(label)
}

/// Logs what makes an answer impossible.
fn failed<T>(r: &Request, number: &'static str, text: &str) -> Option<T> {
    rerror!(r, Level::Error, "authz_dbd", number, "{text}");
    None
}

/// The user is in one of the groups that the expression gives.
struct Group(Expr);

fn group(cmd: &mut Cmd, line: &str) -> Result<Box<dyn Requirement>, CmdError> {
    Ok(Box::new(Group(parse_required(cmd, line)?)))
}

/// What the query says are the user's groups: `authz_dbd_group_query`.
fn groups(r: &Request, user: &[u8]) -> Option<Vec<Vec<u8>>> {
    let Some(label) = r.dir(&DIR).query.clone() else {
        return failed(r, "AH01649", "No query configured for dbd-group!");
    };
    let Some(dbd) = mod_dbd::acquire(&r.server) else {
        let text = "No db handle available for dbd-query! Check your database access";
        return failed(r, "AH02903", text);
    };
    if !dbd.has(&label) {
        return failed(r, "AH01650", "Error retrieving query for dbd-group!");
    }
    match dbd.select(&label, &[user]) {
        Ok(found) => Some(found.first_column().flatten().collect()),
        Err(words) => {
            failed(r, "AH01652", &format!("authz_dbd, in groups query for {} [{words}]", shown(user)))
        }
    }
}

impl Requirement for Group {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        memo::refuse();
        if r.needs_thread() {
            return AuthzStatus::NeedThread;
        }
        let Some(groups) = groups(r, &user) else { return AuthzStatus::GeneralError };
        let names = match evaluate_required(r, &self.0, ("authz_dbd", "dbd-group"), "AH02590") {
            Ok(names) => names,
            Err(status) => return status,
        };
        let mut names = names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
        names.any(|name| groups.iter().any(|group| group == name)).into()
    }

    fn may_block(&self) -> bool {
        true
    }
}

/// `login` or `logout`: the query notes it.
struct Visit(&'static str);

impl Requirement for Visit {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let Some(user) = r.user.clone() else { return AuthzStatus::DeniedNoUser };
        memo::refuse();
        if r.needs_thread() {
            return AuthzStatus::NeedThread;
        }
        let Some(dbd) = self.note(r, &user) else { return AuthzStatus::Denied };
        let mut to = None;
        if r.dir(&DIR).to_referer == Some(true) {
            to = r.headers_in.get("Referer").map(<[u8]>::to_vec);
        }
        if to.is_none() {
            to = self.redirect(r, &dbd, &user);
        }
        if let Some(to) = to {
            r.status = status::MOVED_TEMPORARILY;
            r.err_headers_out.set("Location", to);
        }
        AuthzStatus::Granted
    }

    fn may_block(&self) -> bool {
        true
    }
}

impl Visit {
    /// Runs the query that notes it: the first half of `authz_dbd_login`.
    fn note(&self, r: &Request, user: &[u8]) -> Option<Handle> {
        let action = self.0;
        let Some(label) = r.dir(&DIR).query.clone() else {
            return failed(r, "AH01642", &format!("No query configured for {action}!"));
        };
        let Some(dbd) = mod_dbd::acquire(&r.server) else {
            let text = format!("No db handle available for {action}! Check your database access");
            return failed(r, "AH02902", &text);
        };
        if !dbd.has(&label) {
            return failed(r, "AH01643", &format!("Error retrieving Query for {action}!"));
        }
        let name = shown(user);
        match dbd.query(&label, &[user]) {
            Ok(1) => {}
            Ok(count) => rerror!(
                r,
                Level::Warn,
                "authz_dbd",
                "AH01644",
                "authz_dbd: {action} of user {name} updated {count} rows"
            ),
            Err(words) => {
                let text = format!("authz_dbd: query for {action} failed; user {name} [{words}]");
                return failed(r, "AH01645", &text);
            }
        }
        Some(dbd)
    }

    /// Where `AuthzDBDRedirectQuery` sends the user.
    fn redirect(&self, r: &Request, dbd: &Handle, user: &[u8]) -> Option<Vec<u8>> {
        let label = r.dir(&DIR).redirect_query.clone()?;
        if !dbd.has(&label) {
            return failed(r, "AH01646", "authz_dbd: no redirect query!");
        }
        match dbd.select(&label, &[user]) {
            Ok(found) => found.first_column().flatten().next(),
            Err(words) => {
                let text = format!("authz_dbd/redirect for {} of {} [{words}]", self.0, shown(user));
                failed(r, "AH01648", &text)
            }
        }
    }
}
