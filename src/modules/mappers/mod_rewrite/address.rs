//! What substitutions make of a URL: `is_absolute_uri`, `splitout_queryargs`, `reduce_uri`, `fully_qualify_uri`,
//! `escape_absolute_uri`, `prefix_stat`, `subst_prefix_path`.

use bstr::{BString, ByteSlice};

use super::flags::RuleFlags;
use super::log::rewritelog;
use super::rules::Rule;
use super::variables::{context_document_root, document_root};
use super::{Options, SERVER};
use crate::http::escape::os_escape_path;
use crate::http::method::Method;
use crate::log::shown;
use crate::request::walk::canonical_path;
use crate::request::{FileInfo, Request};

/// The schemes that are known, and whether they take a query string.
const SCHEMES: [(&str, bool); 18] = [
    ("ajp://", true),
    ("balancer://", true),
    ("ftp://", false),
    ("fcgi://", true),
    ("gopher://", false),
    ("http://", true),
    ("https://", true),
    ("h2://", true),
    ("h2c://", true),
    ("ldap://", false),
    ("mailto:", true),
    ("news:", false),
    ("nntp://", false),
    ("scgi://", true),
    ("ws://", true),
    ("wss://", true),
    ("unix://", true),
    ("unix:", true),
];

/// The length of the scheme of a URI that has one, and whether it takes a query string.
pub(super) fn is_absolute_uri(uri: &[u8]) -> Option<(usize, bool)> {
    if uri.first() == Some(&b'/') || uri.len() <= 5 {
        return None;
    }
    let scheme = SCHEMES.iter().find(|(scheme, _)| {
        uri.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    scheme.map(|(scheme, takes_query)| (scheme.len(), *takes_query))
}

/// Escapes a URI behind its `scheme` and host.
pub(super) fn escape_absolute_uri(uri: &[u8], scheme: usize) -> Vec<u8> {
    let mut start = scheme.min(uri.len());
    if uri[..start].last() == Some(&b'/') {
        start += match uri[start..].find_byte(b'/') {
            Some(slash) if start + slash + 1 < uri.len() => slash + 1,
            _ => return uri.to_vec(),
        };
        if uri.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"ldap")) {
            // RFC 2255: the parts are separated by question marks.
            let parts: Vec<_> =
                uri[start..].splitn(5, |&c| c == b'?').map(|part| os_escape_path(part, true)).collect();
            return [&uri[..start], &bstr::join("?", parts)].concat();
        }
    }
    [&uri[..start], &os_escape_path(&uri[start..], true)].concat()
}

/// Takes the query string off the file name.
pub(super) fn split_out_query(r: &mut Request, flags: &RuleFlags) {
    if flags.qs_none {
        rewritelog!(r, Trace2, None, "discarding query string, no parse from substitution");
        r.args = None;
        return;
    }
    let skip = match is_absolute_uri(&r.filename) {
        Some((_, false)) => {
            r.args = None;
            return;
        }
        Some((len, true)) => len,
        None => 0,
    };
    if flags.qs_discard {
        r.args = None;
        rewritelog!(r, Trace2, None, "discarding query string");
    }
    let behind = &r.filename[skip..];
    let at = if flags.qs_last { behind.rfind_byte(b'?') } else { behind.find_byte(b'?') };
    let Some(at) = at.map(|at| skip + at) else { return };
    let old = r.filename.clone();
    let query = &old[at + 1..];
    r.filename.truncate(at);
    if !flags.qs_append {
        r.args = Some(query.into());
    } else if !query.is_empty() {
        let before = r.args.take().unwrap_or_default();
        r.args = Some([query, b"&", &before].concat().into());
    }
    if let Some(args) = &mut r.args {
        if args.is_empty() {
            r.args = None;
        } else if args.last() == Some(&b'&') {
            args.pop();
        }
    }
    let args = r.args.as_ref().map_or("<none>".into(), |args| shown(args));
    rewritelog!(r, Trace3, None, "split uri={} -> uri={}, args={args}", shown(&old), shown(&r.filename));
}

/// Takes `http[s]://ourhost` off the file name.
pub(super) fn reduce(r: &mut Request) {
    let scheme = r.scheme();
    let start = [scheme, "://"].concat();
    let has_scheme =
        r.filename.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()))
            && r.filename.get(scheme.len()..start.len()) == Some(b"://");
    if !has_scheme {
        return;
    }
    let rest = &r.filename[start.len()..];
    let end = rest.find_byteset(b"/:").unwrap_or(rest.len());
    let (host, behind) = rest.split_at(end);
    let (port, url) = match behind.strip_prefix(b":") {
        Some(behind) => {
            let slash = behind.find_byte(b'/').unwrap_or(behind.len());
            (crate::text::atoi(&behind[..slash]) as u16, &behind[slash..])
        }
        None => (r.default_port(), behind),
    };
    let url: BString = if url.is_empty() { "/".into() } else { url.into() };
    if !matches_request_vhost(r, host, port) {
        return;
    }
    rewritelog!(r, Trace3, None, "reduce {} -> {}", shown(&r.filename), shown(&url));
    r.filename = url;
    if !r.server_conf(&SERVER).options.unwrap_or_default().has(Options::LEGACY_PREFIX_DOCROOT) {
        r.notes.set("mod_rewrite_uri_reduced", "true");
    }
}

/// Would a request for this host come here? `ap_matches_request_vhost`
pub(crate) fn matches_request_vhost(r: &Request, host: &[u8], port: u16) -> bool {
    let s = &r.server;
    let is = |name: &str| host.eq_ignore_ascii_case(name.as_bytes());
    if s.addrs.iter().any(|addr| (addr.port == 0 || addr.port == port) && is(&addr.virthost)) {
        return true;
    }
    port == s.port
        && (s.hostname.as_deref().is_some_and(is)
            || s.names.iter().any(|name| is(name))
            || s.wild_names.iter().any(|name| {
                crate::fnmatch::fnmatch(
                    name.to_ascii_lowercase().as_bytes(),
                    &host.to_ascii_lowercase(),
                    crate::fnmatch::Flags::default(),
                )
            }))
}

/// Puts `http[s]://ourhost[:port]/` in front of what is no full URI.
pub(super) fn fully_qualify(r: &mut Request) {
    if r.method == Method::CONNECT || is_absolute_uri(&r.filename).is_some() {
        return;
    }
    let slash: &[u8] = if r.filename.first() == Some(&b'/') { b"" } else { b"/" };
    let path = [slash, &r.filename].concat();
    r.filename = r.construct_url(&path).into();
}

/// Is the first component of `path` there, so that it is a file's name rather than a URL's path? Only where it is
/// the rule that says so, not the client.
pub(super) fn prefix_stat(r: &Request, path: &[u8], last_sub: Option<&Rule>) -> bool {
    let relative = path.trim_start_with(|c| c == '/');
    let first = relative.split(|&c| c == b'/').next().unwrap_or_default();
    if first == b".." {
        return false;
    }
    let stat_path = canonical_path(&[b"/", first].concat());
    if FileInfo::stat(&stat_path).is_err() {
        return false;
    }
    let Some(rule) = last_sub else {
        rewritelog!(r, Trace3, None, "prefix_stat no lastsub subst prefix {}", shown(&stat_path));
        return true;
    };
    rewritelog!(
        r,
        Trace3,
        None,
        "prefix_stat compare statpath {} and lastsub output {} STATOK {} ",
        shown(&stat_path),
        shown(&rule.output),
        // RULEFLAG_UNSAFE_PREFIX_STAT
        if rule.flags.unsafe_prefix_stat { 1 << 22 } else { 0 }
    );
    if rule.flags.unsafe_prefix_stat {
        return true;
    }
    let root = document_root(r).as_bytes();
    let context_root = context_document_root(r);
    starts_with(r, &rule.output, &stat_path)
        || starts_with(r, path, root)
        || r.notes.contains("context-document-root") && starts_with(r, path, context_root)
}

fn starts_with(r: &Request, text: &[u8], start: &[u8]) -> bool {
    let holds = text.starts_with(start);
    let (text, start) = (shown(text), shown(start));
    rewritelog!(r, Trace5, None, "prefix_stat startsWith({text}, {start}) {}", u8::from(holds));
    holds
}

/// `input` with `to` in place of the folder `from` that it begins with.
pub(super) fn subst_prefix_path(r: &Request, input: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let from = from.strip_suffix(b"/").unwrap_or(from);
    let rest = input.strip_prefix(from)?.strip_prefix(b"/")?;
    rewritelog!(r, Trace5, None, "strip matching prefix: {} -> {}", shown(input), shown(rest));
    let slash: &[u8] = if to.is_empty() || to.ends_with(b"/") { b"" } else { b"/" };
    let output = [to, slash, rest].concat();
    rewritelog!(r, Trace4, None, "add subst prefix: {} -> {}", shown(rest), shown(&output));
    Some(output)
}

/// A query string with a control character or a blank: somebody forgot to encode it (`ap_scan_vchar_obstext`).
pub(super) fn is_badly_encoded(args: &[u8]) -> bool {
    args.iter().any(|&c| c <= b' ' || c == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        assert_eq!(is_absolute_uri(b"HTTP://a"), Some((7, true)));
        assert_eq!(is_absolute_uri(b"gopher://a"), Some((9, false)));
        assert_eq!(is_absolute_uri(b"unix:/a"), Some((5, true)));
        assert_eq!(is_absolute_uri(b"ws://"), None);
        assert_eq!(is_absolute_uri(b"foo://bar"), None);
    }

    #[test]
    fn only_the_path_is_escaped() {
        assert_eq!(escape_absolute_uri(b"http://a b/c d", 7), b"http://a b/c%20d");
        assert_eq!(escape_absolute_uri(b"http://a", 7), b"http://a");
        assert_eq!(escape_absolute_uri(b"mailto:a b", 7), b"mailto:a%20b");
        assert_eq!(escape_absolute_uri(b"ldap://h/a b?c d", 7), b"ldap://h/a%20b?c%20d");
    }
}
