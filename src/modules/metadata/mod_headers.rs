//! mod_headers: changes of the header fields of requests and replies.
//!
//! Answers to `modules/metadata/mod_headers.c`. What reads a value that the memo keeps up to date (`Expires`) says so.

use std::borrow::Cow;
use std::sync::Arc;

use bstr::ByteSlice;
use httpd_conf::{getword_conf, to_bytes};

use crate::body::Content;
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::engine::scoreboard;
use crate::expr::{Expr, Failure};
use crate::filter::FilterKind;
use crate::hooks::{Hooks, order};
use crate::http::status;
use crate::log::{Level, rerror, server_event};
use crate::module::{Conf, Module, Slot};
use crate::os::{clock, host};
use crate::regex::{self, Flags, Regex};
use crate::request::{Request, Step, memo};
use crate::table::Table;

/// The module.
pub static MODULE: Module = Module { name: "headers_module", file: "mod_headers.c", directives: ROWS, hooks };

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

static ROWS: &[Directive] = &[
    row(
        "Header",
        Args::Raw(|cmd, args| header_cmd(cmd, args, Which::OnSuccess)),
        "an optional condition, an action, header and value followed by optional env clause",
    ),
    row(
        "RequestHeader",
        Args::Raw(|cmd, args| header_cmd(cmd, args, Which::In)),
        "an action, header and value followed by optional env clause",
    ),
];

const fn row(name: &'static str, args: Args, help: &'static str) -> Directive {
    Directive { name, args, allowed: Allowed::FILEINFO, help }
}

fn header_cmd(cmd: &mut Cmd, args: &str, which: Which) -> Done {
    let mut rest = args;
    let mut which = which;
    let mut action = getword_conf(&mut rest);
    if which == Which::OnSuccess {
        if action.eq_ignore_ascii_case("always") {
            which = Which::Always;
            action = getword_conf(&mut rest);
        } else if action.eq_ignore_ascii_case("onsuccess") {
            action = getword_conf(&mut rest);
        }
    }
    let header = getword_conf(&mut rest);
    let mut optional = || (!rest.is_empty()).then(|| getword_conf(&mut rest));
    let (value, subs, clause) = (optional(), optional(), optional());
    if !rest.is_empty() {
        return Err(format!("{} has too many arguments", cmd.name).into());
    }
    let entry = entry(cmd, which, &action, &header, value.as_deref(), subs.as_deref(), clause.as_deref())?;
    let conf = cmd.dir(&DIR);
    match which {
        Which::In => conf.request.push(entry),
        Which::OnSuccess => conf.on_success.push(entry),
        Which::Always => conf.always.push(entry),
    }
    Ok(())
}

/// `header_inout_cmd`.
fn entry(
    cmd: &Cmd,
    which: Which,
    action: &str,
    header: &str,
    value: Option<&str>,
    subs: Option<&str>,
    clause: Option<&str>,
) -> Result<Entry, CmdError> {
    let action = match action.to_ascii_lowercase().as_str() {
        "set" => Action::Set,
        "setifempty" => Action::SetIfEmpty,
        "add" => Action::Add,
        "append" => Action::Append,
        "merge" => Action::Merge,
        "unset" => Action::Unset,
        "echo" => Action::Echo,
        "edit" => Action::Edit { all: false },
        "edit*" => Action::Edit { all: true },
        "note" if which == Which::In => {
            return Err(format!("{} does not support the 'note' action", cmd.name).into());
        }
        "note" => Action::Note,
        _ => {
            return Err("first argument must be 'add', 'set', 'setifempty', 'append', 'merge', 'unset', \
                        'echo', 'note', 'edit', or 'edit*'."
                .into());
        }
    };
    let (mut value, mut clause) = (value, clause);
    let mut compiled = None;
    let mut text = value;
    if let Action::Edit { .. } = action {
        if subs.is_none() {
            return Err("Header edit requires a match and a substitution".into());
        }
        compiled = Some(compile(value.unwrap_or_default(), "Header edit regex could not be compiled")?);
        text = subs;
    } else {
        // Without a substitution, its place is that of the condition.
        if clause.is_some() {
            return Err("Too many arguments to directive".into());
        }
        clause = subs;
    }
    if action == Action::Unset || action == Action::Echo {
        if value.is_some() {
            if clause.is_some() {
                return Err(match action {
                    Action::Unset => "header unset takes two arguments".into(),
                    _ => "Header echo takes two arguments".into(),
                });
            }
            clause = value.take();
        }
        if action == Action::Echo {
            if which == Which::In {
                return Err("Header echo only valid on Header directives".into());
            }
            compiled = Some(compile(header, "Header echo regex could not be compiled")?);
        }
        text = None;
    } else if value.is_none() {
        return Err("Header requires three arguments".into());
    }
    let when = match clause {
        None => When::Always,
        Some(clause) => when(cmd, clause)?,
    };
    let header = header.split(':').next().unwrap_or_default().to_owned();
    let value = match text {
        None => Value::None,
        Some(text) => match text.strip_prefix("expr=") {
            Some(expr) => {
                let expr = cmd.parse_string(expr);
                Value::Expr(Arc::new(expr.map_err(|err| format!("Can't parse value expression : {err}"))?))
            }
            None => Value::Items(items(&to_bytes(text))?),
        },
    };
    Ok(Entry { action, header, value, regex: compiled, when })
}

fn compile(pattern: &str, error: &'static str) -> Result<Arc<Regex>, CmdError> {
    Regex::from_bytes(&to_bytes(pattern), Flags::EXTENDED).map(Arc::new).map_err(|_| error.into())
}

/// The last word: `early`, `env=` or `expr=`.
fn when(cmd: &Cmd, clause: &str) -> Result<When, CmdError> {
    let behind = |prefix: &str| {
        let start = clause.get(..prefix.len())?;
        if start.eq_ignore_ascii_case(prefix) { clause.get(prefix.len()..) } else { None }
    };
    if clause.eq_ignore_ascii_case("early") {
        Ok(When::Early)
    } else if let Some(name) = behind("env=") {
        if name.is_empty() || name == "!" {
            return Err(
                "error: missing environment variable name. envclause should be in the form env=envar ".into(),
            );
        }
        Ok(match name.strip_prefix('!') {
            Some(name) => When::NotSet(name.to_owned()),
            None => When::Set(name.to_owned()),
        })
    } else if let Some(text) = behind("expr=") {
        let expr = cmd.parse_condition(text);
        Ok(When::Expr(Arc::new(expr.map_err(|err| format!("Can't parse envclause/expression: {err}"))?)))
    } else {
        Err(format!("Unknown parameter: {clause}").into())
    }
}

/// The items of a value: `parse_format_string`.
fn items(text: &[u8]) -> Result<Vec<Item>, CmdError> {
    let mut items = Vec::new();
    let mut rest = text;
    while let Some((&c, behind)) = rest.split_first() {
        if c != b'%' {
            let end = rest.find_byte(b'%').unwrap_or(rest.len());
            items.push(Item::Text(unescape(&rest[..end])));
            rest = &rest[end..];
            continue;
        }
        rest = behind;
        if let None | Some(b'%') = rest.first() {
            items.push(Item::Text(b"%".to_vec()));
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let mut argument: &[u8] = b"";
        if rest.first() == Some(&b'{') {
            let end = rest.find_byte(b'}').unwrap_or(rest.len());
            argument = &rest[1..end];
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        let letter = rest.first().copied();
        rest = rest.get(1..).unwrap_or_default();
        items.push(match letter {
            Some(b'D') => Item::Duration,
            Some(b't') => Item::Time,
            Some(b'e') => Item::Variable(argument.to_str_lossy().into_owned()),
            Some(b's') => Item::Ssl,
            Some(b'l') => Item::Load,
            Some(b'i') => Item::Idle,
            Some(b'b') => Item::Busy,
            other => {
                let letter = httpd_conf::from_bytes(other.as_slice()).into_owned();
                return Err(format!("Unrecognized header format %{letter}").into());
            }
        });
    }
    Ok(items)
}

/// `\n`, `\r`, `\t`, `\\`; any other backslash stands for itself: `parse_misc_string`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&c) = rest.next() {
        if c != b'\\' {
            out.push(c);
            continue;
        }
        let known = match rest.as_slice().first() {
            Some(b'\\') => Some(b'\\'),
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            Some(b't') => Some(b'\t'),
            _ => None,
        };
        match known {
            Some(known) => {
                out.push(known);
                rest.next();
            }
            None => out.push(b'\\'),
        }
    }
    out
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
    fn items_of_a_value() {
        let text = |t: &str| Item::Text(t.as_bytes().to_vec());
        assert_eq!(items(b"a%%b\\n\\x%t").unwrap(), [text("a"), text("%"), text("b\n\\x"), Item::Time]);
        assert_eq!(items(b"%{X}e%").unwrap(), [Item::Variable("X".to_owned()), text("%")]);
        assert_eq!(items(b"%{X").unwrap_err().message, "Unrecognized header format %");
        assert_eq!(items(b"%q").unwrap_err().message, "Unrecognized header format %q");
        assert!(items(b"").unwrap().is_empty());
    }

    #[test]
    fn members_of_a_list() {
        assert!(has_member(b"a, b,c", b"b"));
        assert!(has_member(b"a, \"b,c\"", b"\"b,c\""));
        assert!(!has_member(b"a, \"b,c\"", b"c\""));
        assert!(!has_member(b"no-store", b"no"));
        assert!(!has_member(b"", b"x"));
    }
}
