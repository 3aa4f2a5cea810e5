//! mod_rewrite: URLs changed by rules.
//!
//! Answers to `modules/mappers/mod_rewrite.c`. [`server`] applies the rules of a server when a URL is translated,
//! [`directory`] those of a directory in the fixups; both go through [`engine`], rule by rule ([`rules`], [`flags`],
//! [`conditions`]), which fills in [`substitution`]s from [`variables`] and [`maps`].
//!
//! Differs: a cookie of a rule in a sub-request whose answer is not taken is not set.

pub(crate) mod address;
mod arguments;
mod conditions;
mod directory;
mod effects;
mod engine;
mod flags;
mod log;
mod maps;
mod rules;
mod server;
mod substitution;
mod variables;

use std::collections::HashMap;
use std::sync::Arc;

use bstr::BString;
use httpd_conf::{getword_conf, to_bytes};

use self::conditions::Condition;
use self::maps::Map;
use self::rules::Rule;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::module::{Conf, Module, Slot};

/// The module.
pub static MODULE: Module = Module { name: "rewrite_module", file: "mod_rewrite.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<RewriteServer> = Slot::new();
/// A directory's settings.
pub static DIR: Slot<RewriteDir> = Slot::new();

/// `REWRITE_REDIRECT_HANDLER_NAME`: what a request that a directory's rules send elsewhere is handled by.
const REDIRECT_HANDLER: &str = "redirect-handler";

/// What `RewriteOptions` says: `OPTION_*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Options(u16);

impl Options {
    const INHERIT: Options = Options(1);
    const INHERIT_BEFORE: Options = Options(2);
    const NOSLASH: Options = Options(4);
    const ANYURI: Options = Options(8);
    const MERGEBASE: Options = Options(16);
    const INHERIT_DOWN: Options = Options(32);
    const INHERIT_DOWN_BEFORE: Options = Options(64);
    const IGNORE_INHERIT: Options = Options(128);
    const IGNORE_CONTEXT_INFO: Options = Options(256);
    const LEGACY_PREFIX_DOCROOT: Options = Options(512);
    const UNSAFE_PREFIX_STAT: Options = Options(1024);

    const NAMES: [(&str, Options); 11] = [
        ("inherit", Options::INHERIT),
        ("inheritbefore", Options::INHERIT_BEFORE),
        ("inheritdown", Options::INHERIT_DOWN),
        ("inheritdownbefore", Options::INHERIT_DOWN_BEFORE),
        ("ignoreinherit", Options::IGNORE_INHERIT),
        ("allownoslash", Options::NOSLASH),
        ("allowanyuri", Options::ANYURI),
        ("mergebase", Options::MERGEBASE),
        ("ignorecontextinfo", Options::IGNORE_CONTEXT_INFO),
        ("legacyprefixdocroot", Options::LEGACY_PREFIX_DOCROOT),
        ("unsafeprefixstat", Options::UNSAFE_PREFIX_STAT),
    ];

    fn has(self, other: Options) -> bool {
        self.0 & other.0 != 0
    }
}

/// Where inherited rules stand.
#[derive(Clone, Copy, PartialEq)]
enum Inherit {
    Behind,
    Before,
    Not,
}

/// How a section with the options `merged` takes over the rules of one with `base`.
fn inheritance(base: Option<Options>, merged: Option<Options>) -> Inherit {
    let (base, merged) = (base.unwrap_or_default(), merged.unwrap_or_default());
    let pushed = |how| base.has(how) && !merged.has(Options::IGNORE_INHERIT);
    if merged.has(Options::INHERIT) || pushed(Options::INHERIT_DOWN) {
        Inherit::Behind
    } else if merged.has(Options::INHERIT_BEFORE) || pushed(Options::INHERIT_DOWN_BEFORE) {
        Inherit::Before
    } else {
        Inherit::Not
    }
}

fn merge_rules(how: Inherit, base: &[Arc<Rule>], child: &[Arc<Rule>]) -> Vec<Arc<Rule>> {
    match how {
        Inherit::Behind => [child, base].concat(),
        Inherit::Before => [base, child].concat(),
        Inherit::Not => child.to_vec(),
    }
}

/// A server's settings: `rewrite_server_conf`.
#[derive(Clone, Default)]
pub struct RewriteServer {
    engine: Option<bool>,
    options: Option<Options>,
    maps: HashMap<BString, Arc<Map>>,
    /// Conditions that wait for their rule.
    pending: Vec<Arc<Condition>>,
    rules: Vec<Arc<Rule>>,
    /// The server that a directive of this module stands in.
    server: Option<usize>,
}

impl Conf for RewriteServer {
    fn merge(&self, child: &Self) -> Self {
        let options = child.options.or(self.options);
        let how = inheritance(self.options, options);
        let maps = match how {
            Inherit::Not => child.maps.clone(),
            // With `Inherit` a map of the child wins, with `InheritBefore` one of the same name of its parent.
            Inherit::Behind => overlay(&self.maps, &child.maps),
            Inherit::Before => overlay(&child.maps, &self.maps),
        };
        RewriteServer {
            engine: child.engine.or(self.engine),
            options,
            maps,
            pending: child.pending.clone(),
            rules: merge_rules(how, &self.rules, &child.rules),
            server: child.server.or(self.server),
        }
    }
}

fn overlay(
    under: &HashMap<BString, Arc<Map>>,
    over: &HashMap<BString, Arc<Map>>,
) -> HashMap<BString, Arc<Map>> {
    let mut all = under.clone();
    all.extend(over.iter().map(|(name, map)| (name.clone(), map.clone())));
    all
}

/// A directory's settings: `rewrite_perdir_conf`.
#[derive(Clone, Default)]
pub struct RewriteDir {
    engine: Option<bool>,
    options: Option<Options>,
    pending: Vec<Arc<Condition>>,
    rules: Vec<Arc<Rule>>,
    /// The directory that the rules are for, with a slash at the end; none for those of a server.
    directory: Option<BString>,
    /// `RewriteBase`.
    base: Option<BString>,
    /// It counts for `MergeBase`.
    base_set: bool,
}

impl RewriteDir {
    fn options(&self) -> Options {
        self.options.unwrap_or_default()
    }
}

impl Conf for RewriteDir {
    fn merge(&self, child: &Self) -> Self {
        let options = child.options.or(self.options);
        let how = inheritance(self.options, options);
        let (base, base_set) = match options.unwrap_or_default().has(Options::MERGEBASE) {
            true => {
                let base = if child.base_set { &child.base } else { &self.base };
                (base.clone(), child.base_set || self.base_set)
            }
            false => (child.base.clone(), false),
        };
        RewriteDir {
            engine: child.engine.or(self.engine),
            options,
            pending: child.pending.clone(),
            rules: merge_rules(how, &self.rules, &child.rules),
            directory: child.directory.clone(),
            base,
            base_set,
        }
    }
}

static ROWS: &[Directive] = &[
    row(
        "RewriteEngine",
        Args::Flag(rewrite_engine),
        Allowed::FILEINFO,
        "On or Off to enable or disable (default) the whole rewriting engine",
    ),
    row("RewriteOptions", Args::Iterate(rewrite_options), Allowed::FILEINFO, "List of option strings to set"),
    row(
        "RewriteBase",
        Args::Take1(rewrite_base),
        Allowed::FILEINFO,
        "the base URL of the per-directory context",
    ),
    row(
        "RewriteCond",
        Args::Raw(conditions::rewrite_cond),
        Allowed::FILEINFO,
        "an input string and a to be applied regexp-pattern",
    ),
    row(
        "RewriteRule",
        Args::Raw(rules::rewrite_rule),
        Allowed::FILEINFO,
        "an URL-applied regexp-pattern and a substitution URL",
    ),
    row(
        "RewriteMap",
        Args::Take23(maps::rewrite_map),
        Allowed::RSRC_CONF,
        "a mapname and a filename and options",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

/// The settings of the directory that the directive stands in; they come to be with the first directive there
/// (`config_perdir_create`), and so do the server's.
fn dir_conf<'c>(cmd: &'c mut Cmd) -> &'c mut RewriteDir {
    let server = cmd.server;
    if let Ok(conf) = cmd.server_conf(&SERVER) {
        conf.server = Some(server);
    }
    let directory = cmd.path.map(|path| {
        let mut path = to_bytes(path).into_owned();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.into()
    });
    let conf = cmd.dir(&DIR);
    if conf.directory.is_none() {
        conf.directory = directory;
    }
    conf
}

fn rewrite_engine(cmd: &mut Cmd, on: bool) -> Done {
    dir_conf(cmd).engine = Some(on);
    if cmd.path.is_none() {
        cmd.server_conf(&SERVER)?.engine = Some(on);
    }
    Ok(())
}

fn rewrite_options(cmd: &mut Cmd, arg: &str) -> Done {
    let mut options = Options::default();
    let mut rest = arg;
    while !rest.is_empty() {
        let word = getword_conf(&mut rest);
        let known = Options::NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        match known {
            Some((_, option)) => options.0 |= option.0,
            None if word.get(..13).is_some_and(|w| w.eq_ignore_ascii_case("MaxRedirects=")) => cmd.warn(
                "rewrite",
                "AH00664",
                "RewriteOptions: MaxRedirects option has been removed in favor of the global LimitInternalRecursion directive and will be ignored.",
            ),
            None => return Err(format!("RewriteOptions: unknown option '{word}'").into()),
        }
    }
    let conf = dir_conf(cmd);
    conf.options = Some(Options(conf.options().0 | options.0));
    if cmd.path.is_none() {
        let conf = cmd.server_conf(&SERVER)?;
        conf.options = Some(Options(conf.options.unwrap_or_default().0 | options.0));
    }
    Ok(())
}

fn rewrite_base(cmd: &mut Cmd, arg: &str) -> Done {
    let conf = dir_conf(cmd);
    if conf.directory.is_none() {
        return Err("RewriteBase: only valid in per-directory config files".into());
    }
    if arg.is_empty() {
        return Err("RewriteBase: empty URL not allowed".into());
    }
    if !arg.starts_with('/') {
        return Err("RewriteBase: argument is not a valid URL".into());
    }
    conf.base = Some(to_bytes(arg).into_owned().into());
    conf.base_set = true;
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.handler(directory::handler_redirect, order::MIDDLE);
    hooks.post_config(maps::start_programs, order::MIDDLE);
    hooks.translate_name(server::uri2file, order::FIRST).before(&["mod_proxy.c"]);
    hooks.fixups(directory::fixup, order::FIRST).before(&["mod_proxy.c"]);
    hooks.fixups(effects::mimetype, order::LAST);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_replace_those_of_the_parent() {
        let base = RewriteDir { options: Some(Options::MERGEBASE), ..RewriteDir::default() };
        let child = RewriteDir { options: Some(Options::NOSLASH), ..RewriteDir::default() };
        assert_eq!(base.merge(&child).options, Some(Options::NOSLASH));
        assert_eq!(base.merge(&RewriteDir::default()).options, Some(Options::MERGEBASE));
    }

    #[test]
    fn a_base_is_inherited_with_mergebase_only() {
        let base = RewriteDir {
            base: Some("/a".into()),
            base_set: true,
            engine: Some(true),
            ..RewriteDir::default()
        };
        let plain = base.merge(&RewriteDir::default());
        assert_eq!((plain.base, plain.engine), (None, Some(true)));
        let child = RewriteDir { options: Some(Options::MERGEBASE), ..RewriteDir::default() };
        assert_eq!(base.merge(&child).base, Some("/a".into()));
    }
}
