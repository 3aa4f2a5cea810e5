//! `<AuthzProviderAlias>`: a `Require` type with settings of its own.
//!
//! Answers to `authz_require_alias_section` and `authz_alias_check_authorization` of `mod_authz_core.c`.

use std::collections::HashMap;
use std::sync::Arc;

use httpd_conf::next_word;

use super::SERVER;
use crate::config::directive::{Allowed, Cmd, CmdError, Done, Forbidden, Scope};
use crate::config::merge::DirConf;
use crate::config::read::Inside;
use crate::log::{self, Level};
use crate::modules::aaa::{AuthzStatus, Requirement};
use crate::request::Request;

/// The aliases by name.
pub(super) type Aliases = HashMap<String, Arc<Alias>>;

/// A provider with its arguments and settings.
pub(super) struct Alias {
    requirement: Arc<dyn Requirement>,
    conf: Arc<DirConf>,
}

/// The same alias in a `Require` line, whose own arguments mean nothing.
struct Named(Arc<Alias>);

impl Requirement for Named {
    fn check(&self, r: &mut Request) -> AuthzStatus {
        let merged = r.runtime.merges.overlay(&r.dir, &self.0.conf);
        let original = std::mem::replace(&mut r.dir, merged);
        let result = self.0.requirement.check(r);
        r.dir = original;
        result
    }

    fn may_block(&self) -> bool {
        self.0.requirement.may_block()
    }
}

/// Makes a requirement with the alias or provider called `name`.
pub(super) fn requirement(cmd: &mut Cmd, name: &str, args: &str) -> Result<Box<dyn Requirement>, CmdError> {
    let aliases = match &cmd.scope {
        Scope::Startup(setup) => &setup.servers[0].conf.get(&SERVER).aliases,
        Scope::Htaccess(runtime) => &runtime.servers[0].conf.get(&SERVER).aliases,
    };
    if let Some(alias) = aliases.get(name) {
        return Ok(Box::new(Named(alias.clone())));
    }
    match cmd.hooks().find_authz(name) {
        Some(provider) => provider(cmd, args),
        None => Err(format!("Unknown Authz provider: {name}").into()),
    }
}

/// `<AuthzProviderAlias provider alias "arguments">`.
pub(super) fn section(cmd: &mut Cmd, _: &str) -> Done {
    let row = cmd.name;
    cmd.check_context(Forbidden::GLOBAL_ONLY)?;
    let plain = row.trim_start_matches('<');
    let line = cmd
        .node
        .section_args(plain)
        .map_err(|_| CmdError::from(format!("{row}> directive missing closing '>'")))?
        .to_owned();
    let mut rest = line.as_str();
    let provider = next_word(&mut rest);
    let name = next_word(&mut rest);
    let args = next_word(&mut rest);
    let extra = next_word(&mut rest);
    if provider.is_empty() || name.is_empty() {
        return Err(format!("{row}> directive requires additional arguments").into());
    }
    if !extra.is_empty() {
        let text = format!(
            "When several arguments ({args} {extra}...) are passed to a {row} directive, they must be enclosed in quotation marks.  Otherwise, only the first one is taken into account"
        );
        log::server_event(Level::Warn, "authz_core", "AH10142", &text);
    }
    let overrides = Some(Allowed::AUTHCFG.or(Allowed::ACCESS_CONF));
    let conf = cmd.walk_section(Inside { path: None, overrides, server: None })?;
    // An alias of an alias finds the settings of both.
    let requirement = requirement(cmd, &provider, &args).map_err(|error| {
        if error.message.starts_with("Unknown Authz provider") {
            error
        } else {
            format!("Can't parse 'Require {provider} {args}': {}", error.message).into()
        }
    })?;
    let alias = Alias { requirement: requirement.into(), conf: DirConf::root(conf) };
    Arc::make_mut(&mut cmd.server_conf(&SERVER)?.aliases).insert(name, Arc::new(alias));
    Ok(())
}
