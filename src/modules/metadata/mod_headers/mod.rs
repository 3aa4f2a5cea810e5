//! mod_headers: changes of the header fields of requests and replies.
//!
//! Answers to `modules/metadata/mod_headers.c`. What reads a value that the memo keeps up to date (`Expires`) says so.

mod directives;

use std::borrow::Cow;
use std::sync::Arc;

use bstr::ByteSlice;

use crate::body::Content;
use crate::engine::scoreboard;
use crate::expr::{Expr, Failure};
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror, server_event};
use crate::module::{Conf, Module, Slot};
use crate::os::{clock, host};
use crate::regex::{self, Regex};
use crate::request::{Request, Step, memo};
use crate::table::Table;

/// The module.
pub static MODULE: Module =
    Module { name: "headers_module", file: "mod_headers.c", directives: directives::ROWS, hooks };

/// A directory's lines.
pub static DIR: Slot<HeadersConf> = Slot::new();

/// What a line does.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Add,
    Set,
    Append,
    Merge,
    Unset,
    Echo,
    Edit { all: bool },
    SetIfEmpty,
    Note,
}

/// A part of a value.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Text(Vec<u8>),
    /// `%D`
    Duration,
    /// `%t`
    Time,
    /// `%{…}e`
    Variable(String),
    /// `%{…}s`
    Ssl,
    /// `%l`
    Load,
    /// `%i`
    Idle,
    /// `%b`
    Busy,
}

/// A value.
#[derive(Clone)]
enum Value {
    None,
    Items(Vec<Item>),
    Expr(Arc<Expr>),
}

/// When a line counts.
#[derive(Clone)]
enum When {
    Always,
    Early,
    Set(String),
    NotSet(String),
    Expr(Arc<Expr>),
}

/// One `Header` or `RequestHeader`: `header_entry`.
#[derive(Clone)]
struct Entry {
    action: Action,
    header: String,
    value: Value,
    regex: Option<Arc<Regex>>,
    when: When,
}

/// Which header fields a line is about.
#[derive(Clone, Copy, PartialEq)]
enum Which {
    In,
    OnSuccess,
    Always,
}

/// A directory's lines: `headers_conf`.
#[derive(Clone, Default)]
pub struct HeadersConf {
    request: Vec<Entry>,
    on_success: Vec<Entry>,
    always: Vec<Entry>,
}

impl Conf for HeadersConf {
    fn merge(&self, child: &Self) -> Self {
        HeadersConf {
            request: [self.request.as_slice(), &child.request].concat(),
            on_success: [self.on_success.as_slice(), &child.on_success].concat(),
            always: [self.always.as_slice(), &child.always].concat(),
        }
    }
}

/// Will a line `early` change the request's header?
pub fn changes_request_early(r: &Request) -> bool {
    r.dir(&DIR).request.iter().any(|entry| matches!(entry.when, When::Early))
}

impl HeadersConf {
    fn entries(&self, which: Which) -> &[Entry] {
        match which {
            Which::In => &self.request,
            Which::OnSuccess => &self.on_success,
            Which::Always => &self.always,
        }
    }
}

fn hooks(hooks: &mut Hooks) {
    hooks.repeatable();
    hooks.output_filter("FIXUP_HEADERS_OUT", FilterKind::ContentSet, output_filter);
    hooks.output_filter("FIXUP_HEADERS_ERR", FilterKind::ContentSet, error_filter);
    hooks.insert_filter(insert_output_filter, order::LAST);
    hooks.insert_error_filter(insert_error_filter, order::LAST);
    hooks.fixups(fixup, order::LAST);
    hooks.post_read_request(early, order::FIRST);
}

fn table(r: &mut Request, which: Which) -> &mut Table {
    match which {
        Which::In => &mut r.headers_in,
        Which::OnSuccess => &mut r.headers_out,
        Which::Always => &mut r.err_headers_out,
    }
}

/// Why the lines were not all gone through.
enum Broken {
    /// A replacement is too long.
    TooLong,
    /// Again, on a thread that may block.
    NeedThread,
}

fn may_block(entries: &[Entry]) -> bool {
    let blocks = |expr: &Expr| expr.may_block();
    entries.iter().any(|entry| {
        matches!(&entry.value, Value::Expr(expr) if blocks(expr))
            || matches!(&entry.when, When::Expr(expr) if blocks(expr))
    })
}

fn insert_output_filter(r: &mut Request) {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if !conf.on_success.is_empty() || !conf.always.is_empty() {
        r.filters_need_thread |= may_block(&conf.on_success) || may_block(&conf.always);
        r.add_output_filter("FIXUP_HEADERS_OUT");
    }
}

fn insert_error_filter(r: &mut Request) {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if !conf.always.is_empty() {
        r.filters_need_thread |= may_block(&conf.always);
        r.add_output_filter("FIXUP_HEADERS_ERR");
    }
}

/// `ap_headers_output_filter`.
fn output_filter(r: &mut Request, content: Content) -> Content {
    note(r, Level::Trace2, "AH01502", "headers: ap_headers_output_filter()");
    let dir = r.dir.clone();
    // What goes wrong ends only the lines of one kind.
    let _ = do_headers_fixup(r, Which::Always, dir.get(&DIR), false);
    let _ = do_headers_fixup(r, Which::OnSuccess, dir.get(&DIR), false);
    content
}

/// `ap_headers_error_filter`.
fn error_filter(r: &mut Request, content: Content) -> Content {
    note(r, Level::Debug, "AH01503", "headers: ap_headers_error_filter()");
    let dir = r.dir.clone();
    let _ = do_headers_fixup(r, Which::Always, dir.get(&DIR), false);
    content
}

/// A line of the server's log, without the request.
fn note(r: &Request, level: Level, ah: &str, text: &str) {
    if r.log_enabled("headers", level) {
        memo::refuse();
        server_event(level, "headers", ah, text);
    }
}

/// `ap_headers_fixup`.
fn fixup(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    if conf.request.is_empty() {
        return Step::Declined;
    }
    if may_block(&conf.request) && r.needs_thread() {
        return Step::NeedThread;
    }
    match do_headers_fixup(r, Which::In, conf, false) {
        Err(Broken::NeedThread) => Step::NeedThread,
        _ => Step::Declined,
    }
}

/// `ap_headers_early`.
fn early(r: &mut Request) -> Step {
    let dir = r.dir.clone();
    let conf = dir.get(&DIR);
    for which in [Which::In, Which::Always, Which::OnSuccess] {
        match do_headers_fixup(r, which, conf, true) {
            Ok(()) => {}
            Err(Broken::NeedThread) => return Step::NeedThread,
            Err(Broken::TooLong) => {
                rerror!(
                    r,
                    Level::Crit,
                    "headers",
                    "AH01504",
                    "Regular expression replacement failed (replacement too long?)"
                );
                return Step::Status(status::INTERNAL_SERVER_ERROR);
            }
        }
    }
    Step::Declined
}

/// Goes through the lines: `do_headers_fixup`.
fn do_headers_fixup(r: &mut Request, which: Which, conf: &HeadersConf, early: bool) -> Result<(), Broken> {
    for entry in conf.entries(which) {
        if early != matches!(entry.when, When::Early) || !counts(r, &entry.when)? {
            continue;
        }
        apply(r, which, entry)?;
    }
    Ok(())
}

fn counts(r: &mut Request, when: &When) -> Result<bool, Broken> {
    Ok(match when {
        When::Always | When::Early => true,
        When::Set(name) => r.subprocess_env.contains(name),
        When::NotSet(name) => !r.subprocess_env.contains(name),
        When::Expr(expr) => match r.evaluate(expr) {
            Ok(counts) => counts,
            Err(Failure::NeedThread) => return Err(Broken::NeedThread),
            Err(Failure::Error(err)) => {
                let err = String::from_utf8_lossy(err.as_ref());
                rerror!(
                    r,
                    Level::Error,
                    "headers",
                    "AH01501",
                    "Failed to evaluate expression ({err}) - ignoring"
                );
                true
            }
        },
    })
}

fn apply(r: &mut Request, which: Which, entry: &Entry) -> Result<(), Broken> {
    let name = entry.header.as_str();
    let is_type = name.eq_ignore_ascii_case("Content-Type") && which != Which::In;
    if !matches!(entry.action, Action::Add | Action::Set | Action::Unset | Action::Echo) {
        memo::saw_reply_field(name.as_bytes());
    }
    match entry.action {
        Action::Add => {
            let value = entry.value.of(r)?;
            table(r, which).add(name, value);
        }
        Action::Append => {
            let value = entry.value.of(r)?;
            table(r, which).merge(name, value);
        }
        Action::Merge => {
            let value = entry.value.of(r)?;
            let table = table(r, which);
            match table.get(name) {
                None => table.add(name, value),
                Some(list) if has_member(list, &value) => {}
                Some(_) => table.merge(name, value),
            }
        }
        Action::SetIfEmpty if table(r, which).contains(name) => {}
        Action::Set | Action::SetIfEmpty => {
            let value = entry.value.of(r)?;
            if is_type {
                r.set_content_type(value.to_str_lossy().into_owned());
            }
            table(r, which).set(name, value);
        }
        Action::Unset => {
            table(r, which).unset(name);
        }
        Action::Echo => {
            if let Some(regex) = &entry.regex {
                for (name, value) in r.headers_in.iter().filter(|(name, _)| regex.is_match(name)) {
                    r.headers_out.add(name, value);
                }
            }
        }
        Action::Edit { all } => {
            let Some(regex) = &entry.regex else { return Ok(()) };
            if is_type && let Some(media_type) = r.content_type.as_ref().map(|t| t.as_bytes().to_vec()) {
                let edited = edit(r, entry, regex, all, &media_type)?;
                r.set_content_type(edited.to_str_lossy().into_owned());
            }
            let values: Vec<Vec<u8>> = table(r, which).iter_all(name).map(<[u8]>::to_vec).collect();
            if values.is_empty() {
                return Ok(());
            }
            let mut edited = Vec::with_capacity(values.len());
            for value in &values {
                edited.push(edit(r, entry, regex, all, value)?);
            }
            let table = table(r, which);
            table.unset(name);
            for value in edited {
                table.add(name, value);
            }
        }
        Action::Note => {
            let note = entry.value.of(r)?;
            match table(r, which).get(name).map(<[u8]>::to_vec) {
                Some(value) => r.notes.set(note, value),
                None => {
                    r.notes.unset(note);
                }
            }
        }
    }
    Ok(())
}

/// The value with what matches replaced; behind a match, with `all`, again: `process_regexp`.
fn edit(r: &mut Request, entry: &Entry, regex: &Regex, all: bool, value: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(captures) = regex.captures(rest) {
        let (start, end) = captures.whole();
        let template = entry.value.of(r)?;
        let replacement = regex::substitute(&template, rest, &captures).map_err(|_| Broken::TooLong)?;
        out.extend_from_slice(&rest[..start]);
        out.extend_from_slice(&replacement);
        rest = &rest[end..];
        // Apache would look at the same place for ever.
        if !all || end == 0 {
            break;
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// Is `value` one of the members of the list?
fn has_member(list: &[u8], value: &[u8]) -> bool {
    let mut rest = list;
    while !rest.is_empty() {
        let blanks = rest.iter().take_while(|c| c.is_ascii_whitespace() || **c == b'\x0b').count();
        rest = &rest[blanks..];
        let mut quoted = false;
        let end = rest.iter().position(|&c| {
            quoted ^= c == b'"';
            c == b',' && !quoted
        });
        let end = end.unwrap_or(rest.len());
        if &rest[..end] == value {
            return true;
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    false
}

impl Value {
    /// What it is for this request: `process_tags`.
    fn of<'v>(&'v self, r: &mut Request) -> Result<Cow<'v, [u8]>, Broken> {
        let items = match self {
            Value::None => return Ok(Cow::Borrowed(b"")),
            Value::Items(items) => items,
            Value::Expr(expr) => {
                return match r.evaluate_string(expr) {
                    Ok(value) => Ok(Cow::Owned(value)),
                    Err(Failure::NeedThread) => Err(Broken::NeedThread),
                    Err(Failure::Error(err)) => {
                        let err = String::from_utf8_lossy(err.as_ref());
                        rerror!(
                            r,
                            Level::Error,
                            "headers",
                            "AH02557",
                            "Can't evaluate value expression: {err}"
                        );
                        Ok(Cow::Borrowed(b""))
                    }
                };
            }
        };
        if let [Item::Text(text)] = items.as_slice() {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = Vec::new();
        for item in items {
            item.write(r, &mut out);
        }
        Ok(Cow::Owned(out))
    }
}

impl Item {
    fn write(&self, r: &Request, out: &mut Vec<u8>) {
        if !matches!(self, Item::Text(_) | Item::Variable(_) | Item::Ssl) {
            memo::refuse();
        }
        let text = match self {
            Item::Text(text) => {
                out.extend_from_slice(text);
                return;
            }
            Item::Variable(name) => {
                let Some(value) = r.subprocess_env.get(name) else {
                    out.extend_from_slice(b"(null)");
                    return;
                };
                let one_line = |c: &u8| if matches!(c, b'\r' | b'\n') { b' ' } else { *c };
                out.extend(value.iter().map(one_line));
                return;
            }
            // Without TLS none has a value.
            Item::Ssl => "(null)".to_owned(),
            Item::Duration => format!("D={}", clock::unix_micros() - r.request_time),
            Item::Time => format!("t={}", r.request_time),
            Item::Load => {
                let [one, five, fifteen] = host::load_average();
                format!("l={one:.2}/{five:.2}/{fifteen:.2}")
            }
            Item::Idle => format!("i={}", scoreboard::load().0),
            Item::Busy => format!("b={}", scoreboard::load().1),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_list() {
        assert!(has_member(b"a, b,c", b"b"));
        assert!(has_member(b"a, \"b,c\"", b"\"b,c\""));
        assert!(!has_member(b"a, \"b,c\"", b"c\""));
        assert!(!has_member(b"no-store", b"no"));
        assert!(!has_member(b"", b"x"));
    }
}
