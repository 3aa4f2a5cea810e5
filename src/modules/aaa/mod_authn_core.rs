//! mod_authn_core: `AuthType`, `AuthName`, `<AuthnProviderAlias>`; what the authentication modules ask about them.
//!
//! Answers to `modules/aaa/mod_authn_core.c`. An alias is its base provider together with its settings, so a
//! [`Provider`] needs no note with the name it was called by.

use std::collections::HashMap;
use std::sync::Arc;

use httpd_conf::next_word;

use super::{AuthnProvider, AuthnStatus};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done, Forbidden, Scope};
use crate::config::merge::DirConf;
use crate::config::read::Inside;
use crate::expr::Expr;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, ConfVec, Module, Slot};
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "authn_core_module", file: "mod_authn_core.c", directives: ROWS, hooks };

static DIR: Slot<AuthnDir> = Slot::new();
static SERVER: Slot<AuthnServer> = Slot::new();

#[derive(Clone, Default)]
struct AuthnDir {
    auth_type: Option<Arc<Expr>>,
    auth_name: Option<Arc<Expr>>,
}

impl Conf for AuthnDir {
    fn merge(&self, child: &Self) -> Self {
        AuthnDir {
            auth_type: child.auth_type.clone().or_else(|| self.auth_type.clone()),
            auth_name: child.auth_name.clone().or_else(|| self.auth_name.clone()),
        }
    }
}

/// The server's settings; there is one set for all.
#[derive(Clone, Default)]
struct AuthnServer {
    aliases: Arc<HashMap<String, Provider>>,
}

impl Conf for AuthnServer {
    fn merge(&self, _: &Self) -> Self {
        self.clone()
    }
}

static ROWS: &[Directive] = &[
    Directive {
        name: "AuthType",
        args: Args::Take1(auth_type_directive),
        allowed: Allowed::AUTHCFG,
        help: "an HTTP authorization type (e.g., \"Basic\")",
    },
    Directive {
        name: "AuthName",
        args: Args::Take1(auth_name_directive),
        allowed: Allowed::AUTHCFG,
        help: "the authentication realm (e.g. \"Members Only\")",
    },
    Directive {
        name: "<AuthnProviderAlias",
        args: Args::Raw(alias_section),
        allowed: Allowed::RSRC_CONF,
        help: "container for grouping an authentication provider's directives under a provider alias",
    },
];

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.check_user_id(authenticate_no_user, order::LAST);
}

fn auth_type_directive(cmd: &mut Cmd, word: &str) -> Done {
    let expr = parse(cmd, word)?;
    cmd.dir(&DIR).auth_type = Some(expr);
    Ok(())
}

fn auth_name_directive(cmd: &mut Cmd, word: &str) -> Done {
    let expr = parse(cmd, word)?;
    cmd.dir(&DIR).auth_name = Some(expr);
    Ok(())
}

fn parse(cmd: &Cmd, word: &str) -> Result<Arc<Expr>, CmdError> {
    match cmd.parse_string(word) {
        Ok(expr) => Ok(Arc::new(expr)),
        Err(error) => Err(format!("Cannot parse expression '{word}' in {}: {error}", cmd.name).into()),
    }
}

/// The names of the aliases, for mod_info.
pub fn aliases(main: &ConfVec) -> Vec<String> {
    main.get(&SERVER).aliases.keys().cloned().collect()
}

/// `<AuthnProviderAlias provider alias>`.
fn alias_section(cmd: &mut Cmd, _: &str) -> Done {
    let row = cmd.name;
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let line = cmd
        .node
        .section_args(row.trim_start_matches('<'))
        .map_err(|_| CmdError::from(format!("{row}> directive missing closing '>'")))?
        .to_owned();
    let mut rest = line.as_str();
    let base = next_word(&mut rest);
    let name = next_word(&mut rest);
    if base.is_empty() || name.is_empty() {
        return Err(format!("{row}> directive requires additional arguments").into());
    }
    if base.eq_ignore_ascii_case(&name) {
        return Err("The alias provider name must be different from the base provider name.".into());
    }
    if Provider::find(cmd, &name).is_some() {
        return Err(format!(
            "The alias provider {name} has already be registered previously as either a base provider or an alias provider."
        )
        .into());
    }
    let overrides = Some(Allowed::AUTHCFG.or(Allowed::ACCESS_CONF));
    let conf = cmd.walk_section(Inside { path: None, overrides, server: None })?;
    let Some(provider) = Provider::find(cmd, &base) else {
        return Err(format!("Unknown Authn provider: {base}").into());
    };
    let alias = provider.with(&name, conf);
    Arc::make_mut(&mut cmd.server_conf(&SERVER)?.aliases).insert(name, alias);
    Ok(())
}

/// A password checker as a directive names it: a module's, or an alias.
#[derive(Clone)]
pub struct Provider {
    /// Its name.
    pub name: String,
    base: &'static dyn AuthnProvider,
    /// An alias's settings.
    conf: Option<Arc<DirConf>>,
}

impl Provider {
    /// The provider or alias called `name`, for a directive.
    pub fn find(cmd: &Cmd, name: &str) -> Option<Provider> {
        let main = match &cmd.scope {
            Scope::Startup(setup) => &setup.servers[0].conf,
            Scope::Htaccess(runtime) => &runtime.servers[0].conf,
        };
        Provider::look(main, cmd.hooks(), name)
    }

    /// The same while serving: for the provider of those who name none.
    pub fn of_request(r: &Request, name: &str) -> Option<Provider> {
        Provider::look(&r.runtime.servers[0].conf, &r.runtime.hooks, name)
    }

    fn look(main: &ConfVec, hooks: &Hooks, name: &str) -> Option<Provider> {
        let base = |base| Provider { name: name.to_owned(), base, conf: None };
        hooks.find_authn(name).map(base).or_else(|| main.get(&SERVER).aliases.get(name).cloned())
    }

    /// The alias `name` for this one.
    fn with(&self, name: &str, conf: ConfVec) -> Provider {
        let conf = match &self.conf {
            Some(outer) => conf.merge(outer),
            None => conf,
        };
        Provider { name: name.to_owned(), base: self.base, conf: Some(DirConf::root(conf)) }
    }

    /// Can it check passwords?
    pub fn has_check_password(&self) -> bool {
        self.base.has_check_password()
    }

    /// Can it give hashes for digest authentication?
    pub fn has_realm_hash(&self) -> bool {
        self.base.has_realm_hash()
    }

    /// Does the password fit the user?
    pub fn check_password(&self, r: &mut Request, user: &[u8], password: &[u8]) -> AuthnStatus {
        self.within(r, |base, r| base.check_password(r, user, password))
    }

    /// The hash of `user:realm:password`, or why there is none.
    pub fn get_realm_hash(&self, r: &mut Request, user: &[u8], realm: &[u8]) -> Result<Vec<u8>, AuthnStatus> {
        self.within(r, |base, r| base.get_realm_hash(r, user, realm))
    }

    /// Lets an alias's settings be in force.
    fn within<T>(&self, r: &mut Request, ask: impl FnOnce(&dyn AuthnProvider, &mut Request) -> T) -> T {
        let Some(conf) = &self.conf else { return ask(self.base, r) };
        let merged = r.runtime.merges.overlay(&r.dir, conf);
        let original = std::mem::replace(&mut r.dir, merged);
        let answer = ask(self.base, r);
        r.dir = original;
        answer
    }
}

/// `authn_ap_auth_type`.
pub(super) fn auth_type(r: &mut Request) -> Option<String> {
    let expr = r.dir(&DIR).auth_type.clone()?;
    match r.evaluate_string(&expr) {
        Ok(text) => {
            Some(String::from_utf8_lossy(&text).into_owned()).filter(|t| !t.eq_ignore_ascii_case("None"))
        }
        Err(error) => {
            rerror!(
                r,
                Level::Error,
                "authn_core",
                "AH02834",
                "AuthType expression could not be evaluated: {error}"
            );
            None
        }
    }
}

/// `authn_ap_auth_name`.
pub(super) fn auth_name(r: &mut Request) -> Option<Vec<u8>> {
    let expr = r.dir(&DIR).auth_name.clone()?;
    match r.evaluate_string(&expr) {
        Ok(text) => Some(escape_quotes(&text)),
        Err(error) => {
            rerror!(
                r,
                Level::Error,
                "authn_core",
                "AH02835",
                "AuthName expression could not be evaluated: {error}"
            );
            None
        }
    }
}

/// Puts a backslash before quotes that have none: `ap_escape_quotes`.
fn escape_quotes(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte == b'"' {
            escaped.push(b'\\');
        }
        escaped.push(byte);
        if byte == b'\\'
            && let Some(next) = rest.next()
        {
            escaped.push(next);
        }
    }
    escaped
}

/// Nobody has authenticated: right only where no `AuthType` asks for it.
fn authenticate_no_user(r: &mut Request) -> Step {
    let Some(auth_type) = auth_type(r) else { return Step::Ok };
    rerror!(
        r,
        Level::Error,
        "authn_core",
        "AH01796",
        "AuthType {auth_type} configured without corresponding module"
    );
    Step::Status(status::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_escaped_once() {
        assert_eq!(escape_quotes(br#"a "b" \"c\" \\"#), br#"a \"b\" \"c\" \\"#);
        assert_eq!(escape_quotes(b"end\\"), b"end\\");
    }
}
