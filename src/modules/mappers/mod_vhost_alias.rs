//! mod_vhost_alias: document roots made of the name or address that was asked for.
//!
//! Answers to `modules/mappers/mod_vhost_alias.c`.

use bstr::{BString, ByteSlice};
use httpd_conf::to_bytes;

use super::mod_alias::set_context_info;
use crate::config::directive::{Allowed, Args, Cmd, Directive, Done};
use crate::hooks::{Hooks, order};
use crate::module::{Conf, Module, Slot};
use crate::request::expr::DOCUMENT_ROOT;
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "vhost_alias_module", file: "mod_vhost_alias.c", directives: ROWS, hooks };

/// A server's settings.
pub static SERVER: Slot<VhostAlias> = Slot::new();

/// What a root is made of.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Name,
    Ip,
}

/// A pattern and what it is filled with; `None` inside: switched off.
type Root = Option<Option<(Mode, BString)>>;

/// A server's settings: `mva_sconf_t`.
#[derive(Clone, Default)]
pub struct VhostAlias {
    doc_root: Root,
    cgi_root: Root,
}

impl Conf for VhostAlias {
    fn merge(&self, child: &Self) -> Self {
        VhostAlias {
            doc_root: child.doc_root.clone().or_else(|| self.doc_root.clone()),
            cgi_root: child.cgi_root.clone().or_else(|| self.cgi_root.clone()),
        }
    }
}

const CGI_HELP: &str = "how to create a ScriptAlias based on the host";
const DOC_HELP: &str = "how to create the DocumentRoot based on the host";

static ROWS: &[Directive] = &[
    row("VirtualScriptAlias", |cmd, map| set(cmd, map, Mode::Name, true), CGI_HELP),
    row("VirtualDocumentRoot", |cmd, map| set(cmd, map, Mode::Name, false), DOC_HELP),
    row("VirtualScriptAliasIP", |cmd, map| set(cmd, map, Mode::Ip, true), CGI_HELP),
    row("VirtualDocumentRootIP", |cmd, map| set(cmd, map, Mode::Ip, false), DOC_HELP),
];

const fn row(name: &'static str, set: fn(&mut Cmd, &str) -> Done, help: &'static str) -> Directive {
    Directive { name, args: Args::Take1(set), allowed: Allowed::RSRC_CONF, help }
}

/// `vhost_alias_set`.
fn set(cmd: &mut Cmd, map: &str, mode: Mode, cgi: bool) -> Done {
    let root = if map.starts_with('/') {
        if !is_well_formed(map.as_bytes()) {
            return Err("syntax error in format string".into());
        }
        Some((mode, to_bytes(map).into_owned().into()))
    } else if map.eq_ignore_ascii_case("none") {
        None
    } else {
        return Err("format string must be an absolute path, or 'none'".into());
    };
    let conf = cmd.server_conf(&SERVER)?;
    *(if cgi { &mut conf.cgi_root } else { &mut conf.doc_root }) = Some(root);
    Ok(())
}

/// One number of `%N.M`.
#[derive(Clone, Copy, Default)]
struct Part {
    from_end: bool,
    number: usize,
    and_more: bool,
}

impl Part {
    /// `-2+`, and what follows.
    fn parse(text: &[u8]) -> Option<(Part, &[u8])> {
        let (from_end, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (&digit, text) = text.split_first().filter(|(c, _)| c.is_ascii_digit())?;
        let (and_more, text) = match text.strip_prefix(b"+") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Some((Part { from_end, number: usize::from(digit - b'0'), and_more }, text))
    }

    /// Of `name`'s parts at dots.
    fn of_labels<'n>(&self, name: &'n [u8], dots: &[usize]) -> &'n [u8] {
        // Labels start one behind each of these; the last is the end. One more than positions, for that before the first.
        let count = dots.len() - 1;
        let n = self.number;
        let start = |i: usize| dots.get(i).copied().unwrap_or(0);
        let end = |i: usize| dots.get(i).map_or(name.len(), |at| at.saturating_sub(1));
        let range = match (n, self.from_end, self.and_more) {
            (0, ..) => 0..name.len(),
            _ if n > count => return b"_",
            (_, false, false) => start(n - 1)..end(n),
            (_, false, true) => start(n - 1)..name.len(),
            (_, true, false) => start(count - n)..end(count - n + 1),
            (_, true, true) => 0..end(count - n + 1),
        };
        name.get(range).unwrap_or_default()
    }

    /// Of a label's characters.
    fn of_chars<'n>(&self, label: &'n [u8]) -> &'n [u8] {
        let (m, len) = (self.number, label.len());
        let range = match (m, self.from_end, self.and_more) {
            (0, ..) => 0..len,
            _ if m > len => return b"_",
            (_, false, false) => m - 1..m,
            (_, false, true) => m - 1..len,
            (_, true, false) => len - m..len - m + 1,
            (_, true, true) => 0..len - m + 1,
        };
        label.get(range).unwrap_or_default()
    }
}

fn is_well_formed(map: &[u8]) -> bool {
    let mut rest = map;
    while let Some(at) = rest.find_byte(b'%') {
        rest = &rest[at + 1..];
        if let Some(b'p' | b'%') = rest.first() {
            rest = &rest[1..];
            continue;
        }
        let Some((_, behind)) = Part::parse(rest) else { return false };
        rest = behind;
        if let Some(behind) = rest.strip_prefix(b".") {
            let Some((_, behind)) = Part::parse(behind) else { return false };
            rest = behind;
        }
    }
    true
}

/// A root for `name`: `vhost_alias_interpolate`.
fn interpolate(map: &[u8], name: &[u8], port: u16) -> Vec<u8> {
    /// Dots beyond these are no bounds.
    const MOST_DOTS: usize = 19;
    let mut dots = vec![0];
    dots.extend(
        name.iter().enumerate().filter(|(_, c)| **c == b'.').map(|(at, _)| at + 1).take(MOST_DOTS - 1),
    );
    dots.push(name.len() + 1);
    let mut out = Vec::with_capacity(map.len() + name.len());
    let mut rest = map;
    while let Some((&c, behind)) = rest.split_first() {
        rest = behind;
        if c != b'%' {
            out.push(c);
            continue;
        }
        match rest.first() {
            Some(b'%') => {
                out.push(b'%');
                rest = &rest[1..];
            }
            Some(b'p') => {
                out.extend_from_slice(port.to_string().as_bytes());
                rest = &rest[1..];
            }
            _ => {
                let Some((labels, behind)) = Part::parse(rest) else { break };
                rest = behind;
                let mut chars = Part::default();
                if let Some(behind) = rest.strip_prefix(b".")
                    && let Some((part, behind)) = Part::parse(behind)
                {
                    chars = part;
                    rest = behind;
                }
                let found = chars.of_chars(labels.of_labels(name, &dots));
                out.extend(found.iter().map(u8::to_ascii_lowercase));
            }
        }
    }
    if out.last() == Some(&b'/') {
        out.pop();
    }
    out
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.translate_name(translate, order::MIDDLE).after(&["mod_alias.c", "mod_userdir.c"]);
}

/// `mva_translate`.
fn translate(r: &mut Request) -> Step {
    let server = r.server.clone();
    let conf = server.conf.get(&SERVER);
    let cgi_root = conf.cgi_root.as_ref().and_then(Option::as_ref);
    let slashes = r.uri.iter().take_while(|c| **c == b'/').count();
    let is_cgi = cgi_root.is_some() && r.uri.find(b"cgi-bin/") == Some(slashes);
    let (root, behind) = if is_cgi {
        (cgi_root, r.uri[slashes + b"cgi-bin".len()..].to_vec())
    } else if r.uri.first() == Some(&b'/') {
        (conf.doc_root.as_ref().and_then(Option::as_ref), r.uri.to_vec())
    } else {
        return Step::Declined;
    };
    let Some((mode, map)) = root else { return Step::Declined };
    let docroot = match mode {
        Mode::Name => interpolate(map, r.server_name(), r.server_port()),
        Mode::Ip => {
            let ip = r.connection.local_addr.ip().to_canonical().to_string();
            interpolate(map, ip.as_bytes(), r.server_port())
        }
    };
    r.filename = [docroot.as_slice(), &behind].concat().into();
    set_context_info(r, None, &docroot);
    r.notes.set(DOCUMENT_ROOT, &docroot);
    if is_cgi {
        r.handler = Some("cgi-script".into());
        r.notes.set("alias-forced-type", "cgi-script");
        r.notes.set("context-prefix", "/cgi-bin");
    }
    Step::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names() {
        let name = b"www.Domain.example.com";
        for (map, root) in [
            ("/v/%0/docs", "/v/www.domain.example.com/docs"),
            ("/v/%1", "/v/www"),
            ("/v/%2+/", "/v/domain.example.com"),
            ("/v/%-1", "/v/com"),
            ("/v/%-2+", "/v/www.domain.example"),
            ("/v/%9/x", "/v/_/x"),
            ("/v/%2.1/%2.2/%2.-1/%2.3+/%2.-2+/%2.9", "/v/d/o/n/main/domai/_"),
            ("/v/%p%%", "/v/8080%"),
        ] {
            assert!(is_well_formed(map.as_bytes()));
            assert_eq!(interpolate(map.as_bytes(), name, 8080).as_bstr(), root, "{map}");
        }
        assert!(!is_well_formed(b"/%x") && !is_well_formed(b"/%1.") && !is_well_formed(b"/%"));
        assert_eq!(interpolate(b"/%1/%2", b"localhost", 80).as_bstr(), "/localhost/_");
    }
}
