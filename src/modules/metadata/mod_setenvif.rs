//! mod_setenvif: variables that depend on the request.
//!
//! Answers to `modules/metadata/mod_setenvif.c`. The server's lines run when a request head was read, those of its directory
//! when that is known.

use std::borrow::Cow;
use std::sync::Arc;

use bstr::ByteSlice;
use httpd_conf::{getword_conf, to_bytes};

use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::expr::{Backrefs, Expr, Failure};
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror};
use crate::module::{Conf, Module, Slot};
use crate::regex::{self, Captures, Flags, Regex};
use crate::request::{Request, Step};

/// The module.
pub static MODULE: Module =
    Module { name: "setenvif_module", file: "mod_setenvif.c", directives: ROWS, hooks };

/// A server's lines.
pub static SERVER: Slot<SetEnvIf> = Slot::new();
/// A directory's lines.
pub static DIR: Slot<SetEnvIf> = Slot::new();

/// What a line looks at.
#[derive(Clone, Debug, PartialEq)]
enum Subject {
    RemoteAddr,
    RemoteHost,
    RequestUri,
    RequestMethod,
    RequestProtocol,
    ServerAddr,
    /// A request header, else (see [`Seen`]) a variable.
    Header(String),
    /// The last header whose name matches.
    Headers(Arc<HeaderPattern>),
}

/// A regular expression for header names; two of the same text are the same.
#[derive(Debug)]
struct HeaderPattern {
    text: String,
    regex: Regex,
}

impl PartialEq for HeaderPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

/// What makes a line take effect.
#[derive(Clone)]
enum Test {
    /// The value contains this text: a pattern without anything special in it.
    Contains { text: Vec<u8>, icase: bool },
    /// The value matches.
    Matches(Arc<Regex>),
    /// The expression is true.
    Expr(Arc<Expr>),
}

/// What it does then.
#[derive(Clone)]
enum Effect {
    Set(Vec<u8>),
    Unset,
}

/// One or more lines with the same condition: `sei_entry`.
#[derive(Clone)]
struct Entry {
    /// None for an expression.
    subject: Option<Subject>,
    /// As written, and whether without regard to case: lines that agree are one.
    pattern: (String, bool),
    test: Test,
    /// Can the condition be true where the value is missing?
    matches_empty: bool,
    features: Vec<(Vec<u8>, Effect)>,
}

/// The lines of a server or directory: `sei_cfg_rec`.
#[derive(Clone, Default)]
pub struct SetEnvIf {
    entries: Vec<Entry>,
}

impl Conf for SetEnvIf {
    fn merge(&self, child: &Self) -> Self {
        SetEnvIf { entries: [self.entries.as_slice(), &child.entries].concat() }
    }
}

static ROWS: &[Directive] = &[
    row(
        "SetEnvIf",
        Args::Raw(|cmd, args| set_env_if(cmd, args, false)),
        "A header-name, regex and a list of variables.",
    ),
    row(
        "SetEnvIfNoCase",
        Args::Raw(|cmd, args| set_env_if(cmd, args, true)),
        "a header-name, regex and a list of variables.",
    ),
    row("SetEnvIfExpr", Args::Raw(set_env_if_expr), "an expression and a list of variables."),
    row(
        "BrowserMatch",
        Args::Raw(|cmd, args| add(cmd, "User-Agent", args, false)),
        "A browser regex and a list of variables.",
    ),
    row(
        "BrowserMatchNoCase",
        Args::Raw(|cmd, args| add(cmd, "User-Agent", args, true)),
        "A browser regex and a list of variables.",
    ),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::FILEINFO, help }
}

/// Where a line goes: outside of sections to the server, else to the directory.
fn entries<'c>(cmd: &'c mut Cmd) -> Result<&'c mut Vec<Entry>, CmdError> {
    if cmd.path.is_some() {
        Ok(&mut cmd.dir(&DIR).entries)
    } else {
        Ok(&mut cmd.server_conf(&SERVER)?.entries)
    }
}

fn set_env_if(cmd: &mut Cmd, args: &str, icase: bool) -> Done {
    let mut rest = args;
    let name = getword_conf(&mut rest);
    if name.is_empty() {
        return Err(format!("Missing header-field name for {}", cmd.name).into());
    }
    add(cmd, &name, rest, icase)
}

fn set_env_if_expr(cmd: &mut Cmd, args: &str) -> Done {
    let mut rest = args;
    let text = getword_conf(&mut rest);
    if text.is_empty() {
        return Err(format!("Missing expression for {}", cmd.name).into());
    }
    let expr = cmd
        .parse_condition(&text)
        .map_err(|error| format!("Could not parse expression \"{text}\": {error}"))?;
    let features = features(cmd.name, rest)?;
    entries(cmd)?.push(Entry {
        subject: None,
        pattern: (String::new(), false),
        test: Test::Expr(Arc::new(expr)),
        matches_empty: true,
        features,
    });
    Ok(())
}

/// `add_setenvif_core`.
fn add(cmd: &mut Cmd, name: &str, args: &str, icase: bool) -> Done {
    let mut rest = args;
    let pattern = getword_conf(&mut rest).into_owned();
    if pattern.is_empty() {
        return Err(format!("Missing regular expression for {}", cmd.name).into());
    }
    let directive = cmd.name;
    let new = features(directive, rest);
    let subject = subject(directive, name, icase)?;
    let entries = entries(cmd)?;
    if let Some(last) = entries.last_mut()
        && last.subject.as_ref() == Some(&subject)
        && last.pattern == (pattern.clone(), icase)
    {
        for (name, effect) in new? {
            put(&mut last.features, name, effect);
        }
        return Ok(());
    }
    let test = match non_regex_pattern(&pattern) {
        Some(text) => Test::Contains { text: to_bytes(&text).into_owned(), icase },
        None => {
            let flags = if icase { Flags::EXTENDED | Flags::ICASE } else { Flags::EXTENDED };
            let regex = Regex::from_bytes(&to_bytes(&pattern), flags)
                .map_err(|_| format!("{directive} regex could not be compiled."))?;
            Test::Matches(Arc::new(regex))
        }
    };
    let matches_empty = test.matches(b"");
    entries.push(Entry {
        subject: Some(subject),
        pattern: (pattern, icase),
        test,
        matches_empty,
        features: new?,
    });
    Ok(())
}

fn subject(directive: &str, name: &str, icase: bool) -> Result<Subject, CmdError> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "remote_addr" => Subject::RemoteAddr,
        "remote_host" => Subject::RemoteHost,
        "request_uri" => Subject::RequestUri,
        "request_method" => Subject::RequestMethod,
        "request_protocol" => Subject::RequestProtocol,
        "server_addr" => Subject::ServerAddr,
        lower if lower.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) => {
            Subject::Header(lower.to_owned())
        }
        _ => {
            let flags = if icase { Flags::EXTENDED | Flags::ICASE } else { Flags::EXTENDED };
            let regex = Regex::from_bytes(&to_bytes(name), flags)
                .map_err(|_| format!("{directive}Header name regex could not be compiled."))?;
            Subject::Headers(Arc::new(HeaderPattern { text: name.to_owned(), regex }))
        }
    })
}

/// The text that a pattern without operators looks for: `non_regex_pattern`.
fn non_regex_pattern(pattern: &str) -> Option<Cow<'_, str>> {
    if !pattern.contains(|c| "^.$|()[]*+?{}\\".contains(c)) {
        return Some(Cow::Borrowed(pattern));
    }
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) if "^.$|()[]*+?{}\\".contains(escaped) => text.push(escaped),
                // A class such as \d; a lone backslash at the end stands for nothing.
                Some(_) => return None,
                None => {}
            },
            c if "^.$|()[]*+?{}".contains(c) => return None,
            c => text.push(c),
        }
    }
    Some(Cow::Owned(text))
}

/// Puts a variable into its place; a name stands once, the last line counts.
fn put(features: &mut Vec<(Vec<u8>, Effect)>, name: Vec<u8>, effect: Effect) {
    match features.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
        Some((_, old)) => *old = effect,
        None => features.push((name, effect)),
    }
}

/// `name`, `!name` and `name=value` words: `add_envvars`.
fn features(directive: &str, args: &str) -> Result<Vec<(Vec<u8>, Effect)>, CmdError> {
    let mut rest = args;
    let mut all = Vec::new();
    let mut none = true;
    loop {
        let word = getword_conf(&mut rest);
        if word.is_empty() {
            break;
        }
        none = false;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.trim_start_matches('=')),
            None => (&*word, ""),
        };
        let (name, effect) = match name.strip_prefix('!') {
            Some(name) if value.is_empty() => (name, Effect::Unset),
            _ if value.starts_with('!') => (name, Effect::Unset),
            _ if value.is_empty() => (name, Effect::Set(b"1".to_vec())),
            _ => (name, Effect::Set(to_bytes(value).into_owned())),
        };
        put(&mut all, to_bytes(name).into_owned(), effect);
    }
    if none {
        return Err(format!("Missing envariable expression for {directive}").into());
    }
    Ok(all)
}

impl Test {
    /// Does a value make it true? An expression is not asked here.
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Test::Contains { text, icase: false } => value.contains_str(text),
            Test::Contains { text, icase: true } => {
                text.is_empty() || value.windows(text.len()).any(|w| w.eq_ignore_ascii_case(text))
            }
            Test::Matches(regex) => regex.is_match(value),
            Test::Expr(_) => false,
        }
    }
}

impl Subject {
    fn value<'r>(&self, r: &'r Request) -> Option<Cow<'r, [u8]>> {
        let text = |text: &'r str| Some(Cow::Borrowed(text.as_bytes()));
        match self {
            Subject::RemoteAddr => text(r.useragent_ip()),
            Subject::RemoteHost => Some(Cow::Owned(r.remote_name().into_bytes())),
            Subject::RequestUri => Some(Cow::Borrowed(&r.uri)),
            Subject::RequestMethod => Some(Cow::Borrowed(&r.method_name)),
            Subject::RequestProtocol => Some(Cow::Borrowed(&r.protocol)),
            Subject::ServerAddr => {
                let ip = r.connection.local_addr.ip().to_canonical();
                Some(Cow::Owned(ip.to_string().into_bytes()))
            }
            Subject::Header(name) => r.headers_in.get(name).map(Cow::Borrowed),
            Subject::Headers(pattern) => r
                .headers_in
                .iter()
                .rfind(|(name, _)| pattern.regex.is_match(name))
                .map(|(_, value)| Cow::Borrowed(value)),
        }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.header_parser(for_directory, order::MIDDLE);
    hooks.post_read_request(for_server, order::MIDDLE);
}

fn for_server(r: &mut Request) -> Step {
    let server = r.server.clone();
    match_headers(r, &server.conf.get(&SERVER).entries)
}

fn for_directory(r: &mut Request) -> Step {
    if r.dir(&DIR).entries.is_empty() {
        return Step::Declined;
    }
    let dir = r.dir.clone();
    match_headers(r, &dir.get(&DIR).entries)
}

/// What a condition found.
enum Found {
    No,
    /// Nothing to take groups from.
    Plain,
    Groups(Box<(Vec<u8>, Captures)>),
}

/// The variable that stands in for a missing header. Lines in a row that look at the same name all see the value that it
/// had before the first of them.
#[derive(Default)]
struct Seen<'e> {
    name: Option<&'e str>,
    value: Option<Vec<u8>>,
}

impl<'e> Seen<'e> {
    fn look(&mut self, r: &Request, subject: &'e Subject) {
        let Subject::Header(name) = subject else {
            *self = Seen::default();
            return;
        };
        if self.name != Some(name) {
            self.name = Some(name);
            self.value = match r.headers_in.contains(name) {
                true => None,
                false => r.subprocess_env.get(name).map(<[u8]>::to_vec),
            };
        }
    }
}

fn test<'e>(r: &mut Request, entry: &'e Entry, seen: &mut Seen<'e>) -> Result<Found, Step> {
    let Some(subject) = &entry.subject else {
        let Test::Expr(expr) = &entry.test else { return Ok(Found::No) };
        let mut backrefs = Backrefs::default();
        return match r.evaluate_re(expr, &mut backrefs) {
            Ok(true) => Ok(match backrefs.matched() {
                Some((subject, captures)) => Found::Groups(Box::new((subject.to_vec(), captures.clone()))),
                // Apache would take groups from whatever matched last, of whatever text; after a pattern that must not match, the
                // value stands as it is.
                None => Found::Plain,
            }),
            Ok(false) | Err(Failure::Error(_)) => Ok(Found::No),
            Err(Failure::NeedThread) => Err(Step::NeedThread),
        };
    };
    seen.look(r, subject);
    let Some(value) = subject.value(r).or(seen.value.as_deref().map(Cow::Borrowed)) else {
        // Most lines ask for a header that is not there.
        return Ok(match (&entry.test, entry.matches_empty) {
            (_, false) => Found::No,
            (Test::Matches(regex), true) => match regex.captures(b"") {
                Some(captures) => Found::Groups(Box::new((Vec::new(), captures))),
                None => Found::No,
            },
            (_, true) => Found::Plain,
        });
    };
    Ok(match &entry.test {
        Test::Matches(regex) => match regex.captures(&value) {
            Some(captures) => Found::Groups(Box::new((value.into_owned(), captures))),
            None => Found::No,
        },
        plain if plain.matches(&value) => Found::Plain,
        _ => Found::No,
    })
}

/// `match_headers`.
fn match_headers(r: &mut Request, entries: &[Entry]) -> Step {
    let mut seen = Seen::default();
    for entry in entries {
        let found = match test(r, entry, &mut seen) {
            Ok(Found::No) => continue,
            Ok(found) => found,
            Err(step) => return step,
        };
        for (name, effect) in &entry.features {
            match (effect, &found) {
                (Effect::Unset, _) => {
                    r.subprocess_env.unset(name);
                }
                (Effect::Set(value), Found::Groups(groups)) => {
                    match regex::substitute(value, &groups.0, &groups.1) {
                        Ok(value) => r.subprocess_env.set(name, value),
                        Err(_) => {
                            rerror!(
                                r,
                                Level::Crit,
                                "setenvif",
                                "AH01505",
                                "Regular expression replacement failed for '{}', value too long?",
                                name.as_bstr()
                            );
                            return Step::Status(status::INTERNAL_SERVER_ERROR);
                        }
                    }
                }
                (Effect::Set(value), _) => r.subprocess_env.set(name, value),
            }
            rerror!(r, Level::Trace2, "setenvif", "", "Setting {}", name.as_bstr());
        }
    }
    Step::Declined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_patterns() {
        for (pattern, plain) in [
            ("MSIE", Some("MSIE")),
            ("^MSIE", None),
            ("a\\.b", Some("a.b")),
            ("a\\\\b", Some("a\\b")),
            ("a\\db", None),
            ("a.b", None),
            ("x\\", Some("x")),
        ] {
            assert_eq!(non_regex_pattern(pattern).as_deref(), plain, "{pattern}");
        }
    }

    #[test]
    fn variables() {
        let all = features("SetEnvIf", "a b=c !d e==f g=! a=2 \"h=x y\"").unwrap();
        let shown: Vec<String> = all
            .iter()
            .map(|(name, effect)| match effect {
                Effect::Set(value) => format!("{}={}", name.as_bstr(), value.as_bstr()),
                Effect::Unset => format!("!{}", name.as_bstr()),
            })
            .collect();
        assert_eq!(shown, ["a=2", "b=c", "!d", "e=f", "!g", "h=x y"]);
        assert!(features("SetEnvIf", "").is_err());
    }

    #[test]
    fn text_without_regard_to_case() {
        let test = Test::Contains { text: b"msie".to_vec(), icase: true };
        assert!(test.matches(b"Mozilla MSIE 5") && !test.matches(b"") && !test.matches(b"MS"));
    }
}
