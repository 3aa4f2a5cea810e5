//! The rules of a directory, when the file is known: `hook_fixup`, and the redirect that they end in.

use super::address;
use super::engine::{self, Action};
use super::log::rewritelog;
use super::server::{decided_by, redirect};
use super::variables::{context_document_root, context_prefix, document_root};
use super::{DIR, Options, REDIRECT_HANDLER, RewriteDir};
use crate::expr::NeedThread;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::modules::core;
use crate::modules::core::options;
use crate::request::{Answer, ProxyReq, Request, Step};

/// `hook_fixup`
pub(super) fn fixup(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if conf.engine != Some(true) {
        return Step::Declined;
    }
    let Some(directory) = &conf.directory else { return Step::Declined };
    let perdir = Some(directory.as_slice());
    let is_proxyreq = r.proxyreq.is_some() && r.filename.starts_with(b"proxy:");
    // The folder itself, asked for without its slash: mod_dir adds it.
    if !is_proxyreq
        && !conf.options().has(Options::NOSLASH)
        && directory.strip_suffix(b"/") == Some(r.filename.as_slice())
    {
        return Step::Declined;
    }
    if super::maps::want_thread(r) {
        return Step::NeedThread;
    }
    if r.rewritten.ended {
        rewritelog!(r, Trace8, perdir, "Declining, no further rewriting due to END flag");
        return Step::Declined;
    }
    let opts = dir.get(&core::DIR).opts.in_force();
    if opts & (options::FOLLOW_SYMLINKS | options::SYMLINKS_IF_OWNER) == 0 {
        rerror!(
            r,
            Level::Error,
            "rewrite",
            "AH00670",
            "Options FollowSymLinks and SymLinksIfOwnerMatch are both off, so the RewriteRule directive is also forbidden due to its similar ability to circumvent directory restrictions : {}",
            shown(&r.filename)
        );
        return Step::Status(status::FORBIDDEN);
    }
    let old_filename = r.filename.clone();
    let old_args = r.args.clone();
    if r.filename.is_empty() {
        r.filename = r.uri.clone();
        rewritelog!(r, Trace2, perdir, "init rewrite engine with requested uri {}", shown(&r.filename));
    }
    let action = match engine::apply_list(r, &conf.rules, perdir) {
        Ok((action, _)) => action,
        Err(NeedThread) => {
            r.filename = old_filename;
            return Step::NeedThread;
        }
    };
    if action == Action::None {
        rewritelog!(r, Trace1, perdir, "pass through {}", shown(&r.filename));
        r.filename = old_filename;
        return Step::Declined;
    }
    let (absolute, decided) = decided_by(r, action, "AH10411");
    if let Some(step) = decided {
        return step;
    }
    if r.filename.len() > 6 && r.filename.starts_with(b"proxy:") {
        return to_proxy(r, action, perdir);
    }
    if let Some(scheme) = absolute {
        if let Some(base) = &conf.base {
            replace_in_url(r, scheme, directory, base);
        }
        if action != Action::NoEscape {
            rewritelog!(r, Trace1, perdir, "escaping {} for redirect", shown(&r.filename));
            r.filename = address::escape_absolute_uri(&r.filename, scheme).into();
        }
        return redirect(r, action, old_args.as_ref(), perdir);
    }
    if r.filename.len() > 12
        && let Some(path) = r.filename.strip_prefix(b"passthrough:")
    {
        r.filename = path.into();
    }
    if r.filename.first() != Some(&b'/') {
        return Step::Status(status::BAD_REQUEST);
    }
    if r.filename == old_filename {
        rewritelog!(
            r,
            Trace1,
            perdir,
            "initial URL equal rewritten URL: {} [IGNORING REWRITE]",
            shown(&r.filename)
        );
        return Step::Ok;
    }
    make_url(r, conf, directory);
    r.notes.set("redirect-keeps-vary", "");
    let name = shown(&r.filename);
    rewritelog!(r, Trace1, perdir, "internal redirect with {name} [INTERNAL REDIRECT]");
    r.filename.splice(..0, b"redirect:".iter().copied());
    r.handler = Some(REDIRECT_HANDLER.into());
    Step::Ok
}

fn to_proxy(r: &mut Request, action: Action, perdir: Option<&[u8]>) -> Step {
    if !r.runtime.has_module("mod_proxy.c") {
        rerror!(
            r,
            Level::Error,
            "rewrite",
            "AH10160",
            "attempt to make remote request from mod_rewrite without proxy enabled: {}",
            shown(&r.filename)
        );
        return Step::Status(status::FORBIDDEN);
    }
    if action == Action::NoEscape {
        r.notes.set("proxy-nocanon", "1");
    }
    if let Some(args) = &r.args
        && r.notes.contains("proxy-nocanon")
    {
        r.filename.push(b'?');
        r.filename.extend_from_slice(args);
    }
    r.proxyreq.get_or_insert(ProxyReq::Reverse);
    r.handler = Some("proxy-server".into());
    rewritelog!(r, Trace1, perdir, "go-ahead with proxy request {} [OK]", shown(&r.filename));
    Step::Ok
}

/// In a URL whose path begins with the directory's name, puts the base in its place: what `RewriteRule ^foo bar [R]` gives.
fn replace_in_url(r: &mut Request, scheme: usize, directory: &[u8], base: &[u8]) {
    let Some(slash) = r.filename[scheme..].iter().position(|&c| c == b'/') else { return };
    let at = scheme + slash + 1;
    if at >= r.filename.len() {
        return;
    }
    let (from, to) = (shown(directory), shown(base));
    rewritelog!(r, Trace2, Some(directory), "trying to replace prefix {from} with {to}");
    let strip = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
    let replaced = address::subst_prefix_path(r, &r.filename[at..], &strip(directory), &strip(base));
    if let Some(path) = replaced {
        r.filename.truncate(at);
        r.filename.extend_from_slice(&path);
    }
}

/// The file's name becomes a URL's path again: by `RewriteBase`, the document root, or the folder of an alias.
fn make_url(r: &mut Request, conf: &RewriteDir, directory: &[u8]) {
    let perdir = Some(directory);
    let replaced = match &conf.base {
        Some(base) => {
            let (from, to) = (shown(directory), shown(base));
            rewritelog!(r, Trace2, perdir, "trying to replace prefix {from} with {to}");
            address::subst_prefix_path(r, &r.filename, directory, base)
        }
        None => {
            let root = document_root(r).as_bytes();
            let root = root.strip_suffix(b"/").unwrap_or(root);
            let rest = r.filename.strip_prefix(root).filter(|rest| rest.first() == Some(&b'/'));
            if let Some(rest) = rest {
                let (name, rest) = (shown(&r.filename), shown(rest));
                rewritelog!(r, Trace2, perdir, "strip document_root prefix: {name} -> {rest}");
            }
            rest.map(<[u8]>::to_vec)
        }
    };
    if let Some(path) = replaced {
        r.filename = path.into();
        return;
    }
    if conf.options().has(Options::IGNORE_CONTEXT_INFO) {
        return;
    }
    let (root, prefix) = (context_document_root(r), context_prefix(r));
    let (root_text, prefix_text) = (shown(root), shown(prefix));
    rewritelog!(
        r,
        Trace2,
        perdir,
        "trying to replace context docroot {root_text} with context prefix {prefix_text}"
    );
    if let Some(path) = address::subst_prefix_path(r, &r.filename, root, prefix) {
        r.filename = path.into();
    }
}

/// Answers with what the rules made of the URL: `handler_redirect`.
pub(super) fn handler_redirect(r: &mut Request) -> Answer {
    if r.handler.as_deref() != Some(REDIRECT_HANDLER) {
        return Answer::Declined;
    }
    let Some(path) = r.filename.strip_prefix(b"redirect:") else { return Answer::Declined };
    let url = match &r.args {
        Some(args) => [path, b"?", args].concat(),
        None => path.to_vec(),
    };
    Answer::Redirect(url.into())
}
