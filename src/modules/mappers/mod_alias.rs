//! mod_alias: URLs of other places in the file system, and redirects.
//!
//! Answers to `modules/mappers/mod_alias.c`.

use std::sync::Arc;

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use crate::config::directive::{Allowed, Args, Cmd, Directive, Done, Forbidden};
use crate::expr::{Expr, Failure};
use crate::hooks::{Hooks, order};
use crate::http::escape;
use crate::http::status::{self, Status};
use crate::http::uri::{self, Uri};
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::regex::{self, Flags, Regex};
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

const REALNAME: &str = "a fakename and a realname, or a realname in a Location";
const REGEX: &str = "a regular expression and a filename";
const DOCUMENT: &str = "a document to be redirected, then the destination URL";
const TEMP: Status = status::MOVED_TEMPORARILY;

static ROWS: &[Directive] = &[
    row("Alias", Args::Take12(|cmd, a, b| alias(cmd, a, b, None)), Allowed::CONF, REALNAME),
    row("ScriptAlias", Args::Take12(|cmd, a, b| alias(cmd, a, b, Some(CGI_SCRIPT))), Allowed::CONF, REALNAME),
    row(
        "Redirect",
        Args::Take123(|cmd, a, b, c| redirect(cmd, a, b, c, TEMP, false)),
        Allowed::FILEINFO,
        "an optional status, then document to be redirected and destination URL",
    ),
    row("AliasMatch", Args::Take2(|cmd, a, b| add_alias(cmd, a, b, None, true)), Allowed::RSRC_CONF, REGEX),
    row(
        "ScriptAliasMatch",
        Args::Take2(|cmd, a, b| add_alias(cmd, a, b, Some(CGI_SCRIPT), true)),
        Allowed::RSRC_CONF,
        REGEX,
    ),
    row(
        "RedirectMatch",
        Args::Take23(|cmd, a, b, c| redirect(cmd, a, Some(b), c, TEMP, true)),
        Allowed::FILEINFO,
        "an optional status, then a regular expression and destination URL",
    ),
    row(
        "RedirectTemp",
        Args::Take2(|cmd, a, b| redirect(cmd, a, Some(b), None, TEMP, false)),
        Allowed::FILEINFO,
        DOCUMENT,
    ),
    row(
        "RedirectPermanent",
        Args::Take2(|cmd, a, b| redirect(cmd, a, Some(b), None, status::MOVED_PERMANENTLY, false)),
        Allowed::FILEINFO,
        DOCUMENT,
    ),
    row(
        "RedirectRelative",
        Args::Flag(redirect_relative),
        Allowed::FILEINFO,
        "Set to ON to allow relative redirect targets to be issued as-is",
    ),
    row(
        "AliasPreservePath",
        Args::Flag(alias_preserve_path),
        Allowed::FILEINFO,
        "Set to ON to map the full path after the fakename to the realname.",
    ),
];

const fn row(name: &'static str, args: Args, allowed: Allowed, help: &'static str) -> Directive {
    Directive { name, args, allowed, help }
}

fn bytes(text: &str) -> BString {
    to_bytes(text).into_owned().into()
}

fn compile(pattern: &str) -> Result<Arc<Regex>, &'static str> {
    match Regex::from_bytes(&to_bytes(pattern), Flags::EXTENDED) {
        Ok(regex) => Ok(Arc::new(regex)),
        Err(_) => Err("Regular expression could not be compiled."),
    }
}

fn alias(cmd: &mut Cmd, fake: &str, real: Option<&str>, handler: Option<&'static str>) -> Done {
    if let Some(real) = real {
        return add_alias(cmd, fake, real, handler, false);
    }
    cmd.check_context(Forbidden(Forbidden::DIRECTORY.0 | Forbidden::FILES.0))?;
    let Some(path) = cmd.path else { return Err("Alias must have two arguments when used globally".into()) };
    let expr =
        cmd.parse_string(fake).map_err(|error| format!("Cannot parse alias expression '{fake}': {error}"))?;
    cmd.dir(&DIR).alias = Some(SectionAlias { real: Arc::new(expr), fake: bytes(path), handler });
    Ok(())
}

/// `add_alias_internal`.
fn add_alias(cmd: &mut Cmd, fake: &str, real: &str, handler: Option<&'static str>, is_regex: bool) -> Done {
    cmd.check_context(Forbidden::DIR_CONTEXT)?;
    let regex = if is_regex { Some(compile(fake)?) } else { None };
    let new = Entry { fake: bytes(fake), regex, real: Some(bytes(real)), handler, status: 0 };
    let (name, origin) = (cmd.name, &cmd.node.origin);
    let aliases = &cmd.server_conf(&SERVER)?.aliases;
    let overlapped = aliases.iter().find(|earlier| match &earlier.regex {
        _ if is_regex => false,
        Some(regex) => regex.is_match(&new.fake),
        None => alias_matches(&new.fake, &earlier.fake).is_some(),
    });
    if let Some(earlier) = overlapped {
        let text = format!(
            "The {name} directive in {} at line {} will probably never match because it overlaps an earlier {}Alias{}.",
            origin.file,
            origin.line,
            if earlier.handler.is_some() { "Script" } else { "" },
            if earlier.regex.is_some() { "Match" } else { "" },
        );
        cmd.warn("alias", "AH00671", &text);
    }
    cmd.server_conf(&SERVER)?.aliases.push(new);
    Ok(())
}

/// What the first word of `Redirect` says.
#[derive(Clone, Copy, PartialEq)]
enum First {
    /// A status that takes a URL.
    Redirection,
    /// A status without one.
    Other,
    /// No status: the path, or the URL.
    NoStatus,
}

/// `add_redirect_internal`.
fn redirect(
    cmd: &mut Cmd,
    arg1: &str,
    arg2: Option<&str>,
    arg3: Option<&str>,
    default: Status,
    is_regex: bool,
) -> Done {
    let (code, first) = match arg1.to_ascii_lowercase().as_str() {
        "permanent" => (status::MOVED_PERMANENTLY, First::Redirection),
        "temp" => (status::MOVED_TEMPORARILY, First::Redirection),
        "seeother" => (status::SEE_OTHER, First::Redirection),
        "gone" => (status::GONE, First::Other),
        word if word.starts_with(|c: char| c.is_ascii_digit()) => {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            let code = digits.parse().unwrap_or(Status::MAX);
            (code, if status::is_redirect(code) { First::Redirection } else { First::Other })
        }
        _ => (default, First::NoStatus),
    };
    if arg3.is_some() && first == First::NoStatus {
        return Err("Redirect: invalid first argument (of three)".into());
    }
    if cmd.path.is_some() {
        let url = match (first, arg2, arg3) {
            (First::Redirection, Some(url), None) => Some(Some(url)),
            (First::NoStatus, None, _) => Some(Some(arg1)),
            (First::Other, None, _) => Some(None),
            _ => None,
        };
        if let Some(url) = url {
            let to = match url {
                Some(url) => {
                    let expr = cmd
                        .parse_string(url)
                        .map_err(|error| format!("Cannot parse redirect expression '{url}': {error}"))?;
                    Some(Arc::new(expr))
                }
                None => None,
            };
            cmd.dir(&DIR).redirect = Some(SectionRedirect { to, status: code });
            return Ok(());
        }
    }
    let (fake, url) =
        if arg3.is_none() && first == First::NoStatus { (Some(arg1), arg2) } else { (arg2, arg3) };
    // `Redirect permanent` alone: a URL is missing too.
    let fake = fake.unwrap_or_default();
    let regex = if is_regex { Some(compile(fake)?) } else { None };
    if status::is_redirect(code) {
        let Some(url) = url else { return Err("URL to redirect to is missing".into()) };
        if !is_regex && !escape::is_url(url.as_bytes()) && !url.starts_with('/') {
            return Err("Redirect to non-URL".into());
        }
    } else if url.is_some() {
        return Err("Redirect URL not valid for this status".into());
    }
    let new = Entry { fake: bytes(fake), regex, real: url.map(bytes), handler: None, status: code };
    if cmd.path.is_some() {
        cmd.dir(&DIR).redirects.push(new);
    } else {
        cmd.server_conf(&SERVER)?.redirects.push(new);
    }
    Ok(())
}

fn redirect_relative(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).allow_relative = Some(on);
    Ok(())
}

fn alias_preserve_path(cmd: &mut Cmd, on: bool) -> Done {
    cmd.dir(&DIR).preserve_path = Some(on);
    Ok(())
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks
        .translate_name(translate_alias_redir, order::MIDDLE)
        .before(&["mod_userdir.c", "mod_vhost_alias.c"]);
    hooks.fixups(fixup_redir, order::MIDDLE);
}

/// How much of `uri` the path `fake` covers; `None` when it does not: `alias_matches`. A slash matches any number of them.
fn alias_matches(uri: &[u8], fake: &[u8]) -> Option<usize> {
    let (mut u, mut a) = (0, 0);
    while let Some(&c) = fake.get(a) {
        if uri.get(u) != Some(&c) {
            return None;
        }
        u += 1;
        a += 1;
        if c == b'/' {
            while fake.get(a) == Some(&b'/') {
                a += 1;
            }
            while uri.get(u) == Some(&b'/') {
                u += 1;
            }
        }
    }
    let whole = fake.last() == Some(&b'/') || matches!(uri.get(u), None | Some(b'/'));
    (whole && u > 0).then_some(u)
}

/// How a search for an alias or redirect goes wrong.
enum Broken {
    /// 500; it is logged.
    Error,
    /// Again, on a thread that may block.
    NeedThread,
}

impl From<Broken> for Step {
    fn from(broken: Broken) -> Step {
        match broken {
            Broken::Error => Step::Status(status::INTERNAL_SERVER_ERROR),
            Broken::NeedThread => Step::NeedThread,
        }
    }
}

/// `ap_set_context_info`.
pub(super) fn set_context_info(r: &mut Request, prefix: Option<&[u8]>, document_root: &[u8]) {
    if let Some(prefix) = prefix {
        r.notes.set("context-prefix", prefix);
    }
    r.notes.set("context-document-root", document_root);
}

/// Hands the request to `handler`, with a note for mod_cgi.
fn force_handler(r: &mut Request, handler: Option<&'static str>) {
    if let Some(handler) = handler {
        r.handler = Some(handler.into());
        r.notes.set("alias-forced-type", handler);
    }
}

fn evaluate(r: &mut Request, expr: &Expr, ah: &'static str, what: &str) -> Result<Vec<u8>, Broken> {
    match expr.to_bytes(r) {
        Ok(value) => Ok(value),
        Err(Failure::NeedThread) => Err(Broken::NeedThread),
        Err(Failure::Error(error)) => {
            let error = String::from_utf8_lossy(error.as_ref()).into_owned();
            rerror!(r, Level::Error, "alias", ah, "Can't evaluate {what} expression: {error}");
            Err(Broken::Error)
        }
    }
}

/// The path and what is before it, escaped; the query string and the fragment as they are.
fn escape_target(url: &[u8]) -> Vec<u8> {
    let mut parts = Uri::default();
    // What could be read of a bad one is taken, as in Apache.
    let _ = parts.parse(url, 0);
    let part = |range: &Option<std::ops::Range<usize>>| range.clone().and_then(|range| url.get(range));
    let mut out = Vec::with_capacity(url.len() + 16);
    if let Some(scheme) = part(&parts.scheme) {
        out.extend_from_slice(scheme);
        out.push(b':');
    }
    if let Some(host) = part(&parts.hostname) {
        out.extend_from_slice(b"//");
        if parts.user.is_some() || parts.password.is_some() {
            out.extend_from_slice(part(&parts.user).unwrap_or_default());
            if parts.password.is_some() {
                // apr_uri_unparse reveals a password only where it is told to.
                out.extend_from_slice(b":XXXXXXXX");
            }
            out.push(b'@');
        }
        let bracketed = host.contains(&b':');
        out.extend_from_slice(if bracketed { b"[" } else { b"" });
        out.extend_from_slice(host);
        out.extend_from_slice(if bracketed { b"]" } else { b"" });
        let default = part(&parts.scheme).and_then(uri::port_of_scheme).unwrap_or(0);
        if let Some(port) = part(&parts.port_str)
            && parts.port != 0
            && parts.port != default
        {
            out.push(b':');
            out.extend_from_slice(port);
        }
    }
    out.extend_from_slice(part(&parts.path).unwrap_or_default());
    let mut escaped = escape::os_escape_path(&out, true).into_owned();
    for (mark, range) in [(b'?', &parts.query), (b'#', &parts.fragment)] {
        if let Some(text) = part(range) {
            escaped.push(mark);
            escaped.extend_from_slice(text);
        }
    }
    escaped
}

/// `ap_server_root_relative` of a place found.
fn root_relative(r: &Request, found: Vec<u8>) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let canonical = found.first() == Some(&b'/') && !found.contains_str("//") && !found.contains_str("/.");
    if canonical {
        return Some(found);
    }
    httpd_conf::filepath_merge(r.runtime.server_root.as_os_str().as_bytes(), &found)
}

/// `Redirect` without a path, in a section: `try_redirect`.
fn try_redirect(r: &mut Request, conf: &AliasDir) -> Result<Option<(Vec<u8>, Status)>, Broken> {
    let Some(redirect) = &conf.redirect else { return Ok(None) };
    let target = match &redirect.to {
        Some(expr) => escape_target(&evaluate(r, expr, "AH02826", "redirect")?),
        None => Vec::new(),
    };
    Ok(Some((target, redirect.status)))
}

/// `Alias` with one argument: `try_alias`.
fn try_alias(r: &mut Request, conf: &AliasDir) -> Result<Option<Vec<u8>>, Broken> {
    let Some(alias) = &conf.alias else { return Ok(None) };
    let mut found = evaluate(r, &alias.real, "AH02825", "alias")?;
    if conf.preserve_path == Some(true)
        && let Some(covered) = alias_matches(&r.uri, &alias.fake)
    {
        set_context_info(r, Some(&alias.fake), &found);
        found.extend_from_slice(r.uri.get(covered..).unwrap_or_default());
    }
    force_handler(r, alias.handler);
    Ok(root_relative(r, found))
}

/// The first line that covers the URI: `try_alias_list`.
fn try_alias_list(
    r: &mut Request,
    entries: &[Entry],
    is_redirect: bool,
) -> Result<Option<(Vec<u8>, Status)>, Broken> {
    for entry in entries {
        let found = match &entry.regex {
            Some(regex) => {
                let Some(captures) = regex.captures(&r.uri) else { continue };
                match &entry.real {
                    None => Vec::new(),
                    Some(real) => match regex::substitute(real, &r.uri, &captures) {
                        Ok(found) if is_redirect => escape_target(&found),
                        Ok(found) => found,
                        Err(_) => {
                            rerror!(
                                r,
                                Level::Error,
                                "alias",
                                "AH00672",
                                "Regex substitution in '{real}' failed. Replacement too long?"
                            );
                            return Err(Broken::Error);
                        }
                    },
                }
            }
            None => {
                let Some(covered) = alias_matches(&r.uri, &entry.fake) else { continue };
                let mut found = entry.real.as_ref().map_or_else(Vec::new, |real| real.to_vec());
                set_context_info(r, Some(&entry.fake), &found);
                let rest = r.uri.get(covered..).unwrap_or_default();
                if is_redirect {
                    found.extend_from_slice(&escape::os_escape_path(rest, true));
                } else {
                    found.extend_from_slice(rest);
                }
                found
            }
        };
        force_handler(r, entry.handler);
        let found = if is_redirect { Some(found) } else { root_relative(r, found) };
        return Ok(found.map(|found| (found, entry.status)));
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_in_any_number() {
        assert_eq!(alias_matches(b"/icons/a.gif", b"/icons/"), Some(7));
        assert_eq!(alias_matches(b"/icons", b"/icons/"), None);
        assert_eq!(alias_matches(b"/icons/a.gif", b"/icons"), Some(6));
        assert_eq!(alias_matches(b"/iconsx", b"/icons"), None);
        assert_eq!(alias_matches(b"//a///b/c", b"/a/b"), Some(7));
        assert_eq!(alias_matches(b"/a", b""), None);
        assert_eq!(alias_matches(b"/anything", b"/"), Some(1));
    }

    #[test]
    fn targets_of_regular_expressions() {
        let escaped = |url: &str| String::from_utf8(escape_target(url.as_bytes())).unwrap();
        assert_eq!(escaped("http://h:80/a b?c d#e f"), "http://h/a%20b?c d#e f");
        assert_eq!(escaped("http://u:p@h:81/"), "http://u:XXXXXXXX@h:81/");
        assert_eq!(escaped("/a%20b"), "/a%2520b");
        assert_eq!(escaped("http://[::1]:8080/x"), "http://%5b::1%5d:8080/x");
    }

    #[test]
    fn text_survives_the_configuration() {
        assert_eq!(bytes(&httpd_conf::from_bytes(b"/\xe9")), b"/\xe9".as_bstr());
    }
}
