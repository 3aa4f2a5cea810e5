//! The directives: lines that change header fields.

use std::sync::Arc;

use bstr::ByteSlice;
use httpd_conf::{getword_conf, to_bytes};

use super::{Action, DIR, Entry, Item, Value, When, Which};
use crate::config::directive::{Allowed, Args, Cmd, CmdError, Directive, Done};
use crate::regex::{Flags, Regex};

pub(super) static ROWS: &[Directive] = &[
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
}
