//! mod_alias: URLs of other places in the file system, and redirects.
//!
//! Answers to `modules/mappers/mod_alias.c`. [`directives`] fills the settings, [`search`] finds what covers a URI; here are the
//! phases.

mod directives;
mod search;

use std::sync::Arc;

use bstr::{BString, ByteSlice};

use self::directives::ROWS;
pub(super) use self::search::set_context_info;
use self::search::{Broken, try_alias, try_alias_list, try_redirect};
use crate::expr::Expr;
use crate::hooks::{Hooks, order};
use crate::http::escape;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::regex::Regex;
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module = Module { name: "alias_module", file: "mod_alias.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<AliasServer> = Slot::new();
/// A directory's settings.
pub static DIR: Slot<AliasDir> = Slot::new();

/// What `ScriptAlias` hands its files to.
const CGI_SCRIPT: &str = "cgi-script";

/// One `Alias` or `Redirect` line: `alias_entry`.
#[derive(Clone)]
struct Entry {
    /// The path, or the regular expression's text.
    fake: BString,
    regex: Option<Arc<Regex>>,
    /// Where to; a redirect without a place (410) has none.
    real: Option<BString>,
    handler: Option<&'static str>,
    status: Status,
}

/// A server's settings: `alias_server_conf`.
#[derive(Clone, Default)]
pub struct AliasServer {
    aliases: Vec<Entry>,
    redirects: Vec<Entry>,
}

impl Conf for AliasServer {
    fn merge(&self, child: &Self) -> Self {
        AliasServer {
            aliases: [child.aliases.as_slice(), &self.aliases].concat(),
            redirects: [child.redirects.as_slice(), &self.redirects].concat(),
        }
    }
}

/// `Alias` with one argument, in a section: the place is an expression.
#[derive(Clone)]
struct SectionAlias {
    real: Arc<Expr>,
    /// The section's path.
    fake: BString,
    handler: Option<&'static str>,
}

/// `Redirect` without a path, in a section.
#[derive(Clone)]
struct SectionRedirect {
    to: Option<Arc<Expr>>,
    status: Status,
}

/// A directory's settings: `alias_dir_conf`.
#[derive(Clone, Default)]
pub struct AliasDir {
    redirects: Vec<Entry>,
    alias: Option<SectionAlias>,
    redirect: Option<SectionRedirect>,
    /// `RedirectRelative`.
    allow_relative: Option<bool>,
    /// `AliasPreservePath`.
    preserve_path: Option<bool>,
}

impl Conf for AliasDir {
    fn merge(&self, child: &Self) -> Self {
        AliasDir {
            redirects: [child.redirects.as_slice(), &self.redirects].concat(),
            alias: child.alias.clone().or_else(|| self.alias.clone()),
            redirect: child.redirect.clone().or_else(|| self.redirect.clone()),
            allow_relative: child.allow_relative.or(self.allow_relative),
            preserve_path: child.preserve_path.or(self.preserve_path),
        }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks
        .translate_name(translate_alias_redir, order::MIDDLE)
        .before(&["mod_userdir.c", "mod_vhost_alias.c"]);
    hooks.fixups(fixup_redir, order::MIDDLE);
}

/// Answers with the status of a redirect found, and says where to.
fn finish_redirect(
    r: &mut Request,
    conf: &AliasDir,
    target: Vec<u8>,
    code: Status,
    ah: [&'static str; 2],
) -> Step {
    if !status::is_redirect(code) {
        return Step::Status(code);
    }
    let mut target = target;
    if conf.allow_relative != Some(true) || target.first() != Some(&b'/') {
        if target.first() == Some(&b'/') {
            let url = r.construct_url(&target);
            rerror!(
                r,
                Level::Debug,
                "alias",
                ah[0],
                "incomplete redirection target of '{}' for URI '{}' modified to '{}'",
                target.as_bstr(),
                r.uri,
                url.as_bstr()
            );
            target = url;
        }
        if !escape::is_url(&target) {
            rerror!(
                r,
                Level::Error,
                "alias",
                ah[1],
                "cannot redirect '{}' to '{}'; target is not a valid absoluteURI or abs_path",
                r.uri,
                target.as_bstr()
            );
            return Step::Status(status::INTERNAL_SERVER_ERROR);
        }
    }
    // The client's query string goes along, unless the target has one.
    if let Some(args) = r.args.as_ref().filter(|_| !target.contains(&b'?')) {
        target.push(b'?');
        target.extend_from_slice(args);
    }
    r.headers_out.set("Location", target);
    Step::Status(code)
}

/// `translate_alias_redir`.
fn translate_alias_redir(r: &mut Request) -> Step {
    if !matches!(r.uri.first(), None | Some(b'/')) {
        return Step::Declined;
    }
    let (dir, server) = (r.dir.clone(), r.server.clone());
    let (dir, server) = (dir.get(&DIR), server.conf.get(&SERVER));
    let redirect = match try_redirect(r, dir) {
        Ok(None) => try_alias_list(r, &server.redirects, true),
        found => found,
    };
    match redirect {
        Ok(Some((target, code))) => return finish_redirect(r, dir, target, code, ["AH00673", "AH00674"]),
        Ok(None) => {}
        Err(broken) => return broken.into(),
    }
    let file = match try_alias(r, dir) {
        Ok(None) => try_alias_list(r, &server.aliases, false).map(|found| found.map(|(file, _)| file)),
        found => found,
    };
    match file {
        Ok(Some(file)) => {
            r.filename = file.into();
            Step::Ok
        }
        Ok(None) => Step::Declined,
        Err(Broken::NeedThread) => Step::NeedThread,
        // Apache takes the marker of the error for a file's name, and finds nothing there.
        Err(Broken::Error) => {
            r.filename = BString::default();
            Step::Ok
        }
    }
}

/// The sections are known now: `fixup_redir`.
fn fixup_redir(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if conf.redirect.is_none() && conf.redirects.is_empty() {
        return Step::Declined;
    }
    let redirect = match try_redirect(r, conf) {
        Ok(None) => try_alias_list(r, &conf.redirects, true),
        found => found,
    };
    match redirect {
        Ok(Some((target, code))) => finish_redirect(r, conf, target, code, ["AH00675", "AH00676"]),
        Ok(None) => Step::Declined,
        Err(broken) => broken.into(),
    }
}
