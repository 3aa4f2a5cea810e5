//! The rules of a server, when a URL becomes a file's name: `hook_uri2file`.

use bstr::BString;
use nix::unistd::User;

use super::address::{self, is_badly_encoded};
use super::engine::{self, Action};
use super::log::rewritelog;
use super::{DIR, Options, SERVER};
use crate::expr::NeedThread;
use crate::http::escape::os_escape_path;
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::modules::core;
use crate::request::{ProxyReq, Request, Step, memo};

const SCRIPT_URL: &str = "SCRIPT_URL";

/// `hook_uri2file`
pub(super) fn uri2file(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let dir_conf = dir.get(&DIR);
    if dir_conf.engine != Some(true) {
        return Step::Declined;
    }
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    // A virtual host in which this module has no directive does without the main server's rules.
    if conf.server != Some(server.index) {
        return Step::Declined;
    }
    if super::maps::want_thread(r) {
        return Step::NeedThread;
    }
    if r.rewritten.ended {
        rewritelog!(r, Trace8, None, "Declining, no further rewriting due to END flag");
        return Step::Declined;
    }
    // CVE-2011-3368, CVE-2011-4317
    let is_path = r.unparsed_uri != "*" && r.uri.first() == Some(&b'/');
    if !dir_conf.options().has(Options::ANYURI) && !is_path {
        rewritelog!(
            r,
            Trace8,
            None,
            "Declining, request-URI '{}' is not a URL-path. Consult the manual entry for the RewriteOptions directive for options and caveats about matching other strings.",
            shown(&r.uri)
        );
        return Step::Declined;
    }
    let old_args = r.args.clone();
    set_script_variables(r);
    let mut last_sub = None;
    let action = match r.notes.get("mod_rewrite_rewritten").map(Action::of_number) {
        Some(action) => {
            rewritelog!(
                r,
                Trace2,
                None,
                "uri already rewritten. Status {}, Uri {}, r->filename {}",
                action.number(),
                shown(&r.uri),
                shown(&r.filename)
            );
            action
        }
        None => {
            let before = r.filename.clone();
            if r.filename.is_empty() {
                r.filename = r.uri.clone();
                let name = shown(&r.filename);
                rewritelog!(r, Trace2, None, "init rewrite engine with requested uri {name}");
            } else {
                let (name, uri) = (shown(&r.filename), shown(&r.uri));
                rewritelog!(
                    r,
                    Trace2,
                    None,
                    "init rewrite engine with passed filename {name}. Original uri = {uri}"
                );
            }
            match engine::apply_list(r, &conf.rules, None) {
                Ok((action, last)) => {
                    last_sub = last;
                    r.notes.set("mod_rewrite_rewritten", action.number().to_string());
                    action
                }
                Err(NeedThread) => {
                    r.filename = before;
                    return Step::NeedThread;
                }
            }
        }
    };
    if action == Action::None {
        rewritelog!(r, Trace1, None, "pass through {}", shown(&r.filename));
        return Step::Declined;
    }
    let (absolute, decided) = decided_by(r, action, "AH10410");
    if let Some(step) = decided {
        return step;
    }
    if r.filename.len() > 6 && r.filename.starts_with(b"proxy:") {
        return to_proxy(r, action);
    }
    if let Some(scheme) = absolute {
        if action != Action::NoEscape {
            rewritelog!(r, Trace1, None, "escaping {} for redirect", shown(&r.filename));
            r.filename = address::escape_absolute_uri(&r.filename, scheme).into();
        }
        return redirect(r, action, old_args.as_ref(), None);
    }
    if r.filename.len() > 12
        && let Some(uri) = r.filename.strip_prefix(b"passthrough:")
    {
        r.uri = uri.into();
        return Step::Declined;
    }
    local_path(r, last_sub, conf.options.unwrap_or_default())
}

/// After the rules: how long the scheme is if they made an absolute URL, and what is decided by now. `number` is that of the
/// complaint about a query string that must not go into a header as it is.
pub(super) fn decided_by(
    r: &mut Request,
    action: Action,
    number: &'static str,
) -> (Option<usize>, Option<Step>) {
    let absolute = address::is_absolute_uri(&r.filename).map(|(len, _)| len);
    let will_escape = absolute.is_some() && action != Action::NoEscape;
    if !will_escape && r.args.as_ref().is_some_and(|args| is_badly_encoded(args)) {
        let text = "Rewritten query string contains control characters or spaces";
        rerror!(r, Level::Error, "rewrite", number, "{text}");
        return (absolute, Some(Step::Status(status::FORBIDDEN)));
    }
    let decided = match action {
        Action::Status => Some(Step::Status(std::mem::replace(&mut r.status, status::OK))),
        Action::StatusSet => Some(Step::Status(r.status)),
        _ => None,
    };
    (absolute, decided)
}

/// `SCRIPT_URL` and `SCRIPT_URI`, for CGI programs: the URL as it was before all redirects.
fn set_script_variables(r: &mut Request) {
    let url = match r.is_subrequest {
        // It begins with its main request's variables.
        true => r.subprocess_env.get(SCRIPT_URL).map(<[u8]>::to_vec),
        false => {
            let before = r.subprocess_env.get("REDIRECT_SCRIPT_URL");
            Some(before.map_or_else(|| r.uri.to_vec(), <[u8]>::to_vec))
        }
    };
    let url = url.unwrap_or_default();
    let uri = r.construct_url(&url);
    r.subprocess_env.set(SCRIPT_URL, url);
    r.subprocess_env.set("SCRIPT_URI", uri);
}

fn to_proxy(r: &mut Request, action: Action) -> Step {
    if !r.runtime.has_module("mod_proxy.c") {
        rerror!(
            r,
            Level::Error,
            "rewrite",
            "AH00669",
            "attempt to make remote request from mod_rewrite without proxy enabled: {}",
            shown(&r.filename)
        );
        return Step::Status(status::FORBIDDEN);
    }
    if action == Action::NoEscape {
        r.notes.set("proxy-nocanon", "1");
    }
    let info = r.path_info.clone();
    r.filename.extend_from_slice(&info);
    if let Some(args) = &r.args
        && (r.proxyreq.is_some() || r.notes.contains("proxy-nocanon"))
    {
        r.filename.push(b'?');
        r.filename.extend_from_slice(args);
    }
    r.proxyreq.get_or_insert(ProxyReq::Reverse);
    r.handler = Some("proxy-server".into());
    rewritelog!(r, Trace1, None, "go-ahead with proxy request {} [OK]", shown(&r.filename));
    Step::Ok
}

/// Sends the client to the file name, which is a URL.
pub(super) fn redirect(
    r: &mut Request,
    action: Action,
    old_args: Option<&BString>,
    perdir: Option<&[u8]>,
) -> Step {
    if let Some(args) = r.args.clone() {
        let as_it_is = action == Action::NoEscape || old_args == Some(&args);
        r.filename.push(b'?');
        if as_it_is {
            r.filename.extend_from_slice(&args);
            rewritelog!(r, Trace1, perdir, "copying {} to query string for redirect ", shown(&args));
        } else {
            let escaped = os_escape_path(&args, true);
            r.filename.extend_from_slice(&escaped);
            let (args, escaped) = (shown(&args), shown(&escaped));
            rewritelog!(r, Trace1, perdir, "escaping {args} to query string for redirect {escaped}");
        }
    }
    let code = match status::is_redirect(r.status) {
        true => std::mem::replace(&mut r.status, status::OK),
        false => status::MOVED_TEMPORARILY,
    };
    let location = r.filename.clone();
    rewritelog!(r, Trace1, perdir, "redirect to {} [REDIRECT/{code}]", shown(&location));
    r.headers_out.set("Location", location);
    Step::Status(code)
}

fn local_path(r: &mut Request, last_sub: Option<&super::rules::Rule>, options: Options) -> Step {
    expand_tilde_path(r);
    rewritelog!(r, Trace2, None, "local path result: {}", shown(&r.filename));
    if r.filename.first() != Some(&b'/') {
        return Step::Status(status::BAD_REQUEST);
    }
    let reduced = !options.has(Options::LEGACY_PREFIX_DOCROOT) && r.notes.contains("mod_rewrite_uri_reduced");
    let trusted = if options.has(Options::UNSAFE_PREFIX_STAT) { None } else { last_sub };
    let is_file = address::prefix_stat(r, &r.filename, trusted);
    if !is_file || reduced {
        let filename = r.filename.clone();
        let uri = std::mem::replace(&mut r.uri, filename);
        let step = core::translate_name(r);
        r.uri = uri;
        if step != Step::Ok {
            rewritelog!(r, Trace1, None, "prefixing with document_root of {} FAILED", shown(&r.filename));
            return step;
        }
        rewritelog!(r, Trace2, None, "prefixed with document_root to {}", shown(&r.filename));
    }
    rewritelog!(r, Trace1, None, "go-ahead with {} [OK]", shown(&r.filename));
    Step::Ok
}

/// `/~user` becomes the user's home: `expand_tildepaths`.
fn expand_tilde_path(r: &mut Request) {
    let Some(rest) = r.filename.strip_prefix(b"/~") else { return };
    let end = rest.iter().position(|&c| c == b'/').unwrap_or(rest.len());
    let Ok(name) = std::str::from_utf8(&rest[..end]) else { return };
    if name.is_empty() {
        return;
    }
    memo::refuse();
    let Ok(Some(user)) = User::from_name(name) else { return };
    use std::os::unix::ffi::OsStrExt;
    let home = user.dir.as_os_str().as_bytes();
    let behind = &rest[end..];
    let home = if behind.is_empty() { home } else { home.strip_suffix(b"/").unwrap_or(home) };
    r.filename = [home, behind].concat().into();
}
