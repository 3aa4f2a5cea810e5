//! What covers a URI: the lines of a server or section, and what a section says without a path.

use bstr::ByteSlice;

use super::{AliasDir, Entry};
use crate::expr::{Expr, Failure};
use crate::http::escape;
use crate::http::status::{self, Status};
use crate::http::uri::{self, Uri};
use crate::log::{Level, rerror};
use crate::regex;
use crate::request::{Request, Step};

/// How much of `uri` the path `fake` covers; `None` when it does not: `alias_matches`. A slash matches any number of them.
pub(super) fn alias_matches(uri: &[u8], fake: &[u8]) -> Option<usize> {
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
pub(super) enum Broken {
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
pub(in crate::modules::mappers) fn set_context_info(
    r: &mut Request,
    prefix: Option<&[u8]>,
    document_root: &[u8],
) {
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
pub(super) fn try_redirect(r: &mut Request, conf: &AliasDir) -> Result<Option<(Vec<u8>, Status)>, Broken> {
    let Some(redirect) = &conf.redirect else { return Ok(None) };
    let target = match &redirect.to {
        Some(expr) => escape_target(&evaluate(r, expr, "AH02826", "redirect")?),
        None => Vec::new(),
    };
    Ok(Some((target, redirect.status)))
}

/// `Alias` with one argument: `try_alias`.
pub(super) fn try_alias(r: &mut Request, conf: &AliasDir) -> Result<Option<Vec<u8>>, Broken> {
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
pub(super) fn try_alias_list(
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
}
