//! `RewriteCond`: what must hold before a rule is applied.

use std::sync::Arc;

use bstr::BString;
use httpd_conf::{from_bytes, to_bytes};

use super::arguments;
use super::engine::Engine;
use super::log::rewritelog;
use super::{DIR, SERVER, dir_conf};
use crate::config::directive::{Cmd, Done};
use crate::expr::{self, Backrefs, Expr, Failure, NeedThread};
use crate::log::shown;
use crate::regex::{self, Regex};
use crate::request::{FileInfo, Request, Step};
use crate::text::atoi;

/// What the input is tried on: `pattern_type`.
pub(super) enum Test {
    Regex(Regex),
    FileExists,
    FileSize,
    FileLink,
    FileDir,
    FileExecutable,
    Url,
    UrlOfFile,
    /// By length, then by bytes, unless case is ignored.
    Text(Comparison),
    Number(Comparison),
    Expr(Box<Expr>),
}

/// How two values compare.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Comparison {
    Lt,
    Le,
    Eq,
    Gt,
    Ge,
}

impl Comparison {
    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Lt => order.is_lt(),
            Comparison::Le => order.is_le(),
            Comparison::Eq => order.is_eq(),
            Comparison::Gt => order.is_gt(),
            Comparison::Ge => order.is_ge(),
        }
    }
}

/// One condition: `rewritecond_entry`. (Shared by `Arc` with the rule, so it is never copied once read.)
pub(super) struct Condition {
    pub(super) input: BString,
    pub(super) test: Test,
    /// What stands behind the operator.
    operand: BString,
    /// The whole pattern, for the log.
    shown: BString,
    nocase: bool,
    not: bool,
    pub(super) or_next: bool,
    pub(super) no_vary: bool,
}

/// The setter of `RewriteCond`: `cmd_rewritecond`.
pub(super) fn rewrite_cond(cmd: &mut Cmd, line: &str) -> Done {
    dir_conf(cmd);
    let bytes = to_bytes(line);
    let Some(words) = arguments::words(&bytes) else {
        return Err(format!("RewriteCond: bad argument line '{line}'").into());
    };
    let (mut nocase, mut or_next, mut no_vary) = (false, false, false);
    if let Some(field) = words.flags {
        arguments::flags(field, |name, _| {
            match name.to_ascii_lowercase().as_slice() {
                b"nocase" | b"nc" => nocase = true,
                b"ornext" | b"or" => or_next = true,
                b"novary" | b"nv" => no_vary = true,
                _ => return Err(format!("unknown flag '{}'", from_bytes(name))),
            }
            Ok(())
        })
        .map_err(|error| format!("RewriteCond: {error}"))?;
    }
    let (mut not, pattern) = match words.second.strip_prefix(b"!") {
        Some(rest) => (true, rest),
        None => (false, words.second),
    };
    let mut operand = pattern;
    let mut test = None;
    if words.first.eq_ignore_ascii_case(b"expr") {
        let options = expr::Options {
            mode: expr::Mode::Condition,
            flags: cmd.expr_flags() | if no_vary { expr::Flags::DONT_VARY } else { expr::Flags::NONE },
            module: "rewrite",
            file: cmd.node.origin.file.clone(),
            line: cmd.node.origin.line,
            ..expr::Options::default()
        };
        let parsed = Expr::parse_with(pattern, &options).map_err(|error| {
            let place = if cmd.in_htaccess() { " in htaccess context" } else { "" };
            format!("RewriteCond: cannot compile expression{place} \"{}\" {error}", from_bytes(pattern))
        })?;
        test = Some(Test::Expr(Box::new(parsed)));
    } else if let Some((found, rest, inverted)) = operator(pattern) {
        test = Some(found);
        operand = rest;
        not ^= inverted;
    }
    if nocase && !matches!(test, None | Some(Test::Text(_))) {
        let origin = &cmd.node.origin;
        let text = format!(
            "RewriteCond: NoCase option for non-regex pattern '{}' is not supported and will be ignored. ({}:{})",
            from_bytes(operand),
            origin.file,
            origin.line
        );
        cmd.warn("rewrite", "AH00665", &text);
        nocase = false;
    }
    let test = match test {
        Some(test) => test,
        None => {
            let case = if nocase { regex::Flags::ICASE } else { regex::Flags::NONE };
            let compiled = Regex::from_bytes(operand, regex::Flags::EXTENDED | case).map_err(|_| {
                format!("RewriteCond: cannot compile regular expression '{}'", from_bytes(operand))
            })?;
            Test::Regex(compiled)
        }
    };
    let condition = Condition {
        input: words.first.into(),
        test,
        operand: operand.into(),
        shown: words.second.into(),
        nocase,
        not,
        or_next,
        no_vary,
    };
    match cmd.path {
        None => cmd.server_conf(&SERVER)?.pending.push(Arc::new(condition)),
        Some(_) => cmd.dir(&DIR).pending.push(Arc::new(condition)),
    }
    Ok(())
}

/// The test that a pattern begins with, what is behind its operator, and whether it is the contrary; none for a regular
/// expression.
fn operator(pattern: &[u8]) -> Option<(Test, &[u8], bool)> {
    if pattern.len() < 2 {
        return None;
    }
    let test = match pattern {
        b"-f" => Test::FileExists,
        b"-s" => Test::FileSize,
        b"-d" => Test::FileDir,
        b"-x" => Test::FileExecutable,
        b"-h" | b"-l" | b"-L" => Test::FileLink,
        b"-U" => Test::Url,
        b"-F" => Test::UrlOfFile,
        [b'-', a, b, rest @ ..] if !rest.is_empty() => {
            let (comparison, inverted) = match (a, b) {
                (b'l', b't') => (Comparison::Lt, false),
                (b'l', b'e') => (Comparison::Le, false),
                (b'g', b't') => (Comparison::Gt, false),
                (b'g', b'e') => (Comparison::Ge, false),
                (b'e', b'q') => (Comparison::Eq, false),
                (b'n', b'e') => (Comparison::Eq, true),
                _ => return None,
            };
            return Some((Test::Number(comparison), rest, inverted));
        }
        [b'>', b'=', rest @ ..] => return Some((Test::Text(Comparison::Ge), rest, false)),
        [b'>', rest @ ..] => return Some((Test::Text(Comparison::Gt), rest, false)),
        [b'<', b'=', rest @ ..] => return Some((Test::Text(Comparison::Le), rest, false)),
        [b'<', rest @ ..] => return Some((Test::Text(Comparison::Lt), rest, false)),
        // Two quotes are the empty string.
        [b'=', b'"', b'"'] => return Some((Test::Text(Comparison::Eq), b"", false)),
        [b'=', rest @ ..] => return Some((Test::Text(Comparison::Eq), rest, false)),
        _ => return None,
    };
    Some((test, pattern, false))
}

/// `compare_lexicography`
fn compare(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl Condition {
    /// Does it hold? `apply_rewrite_cond`
    pub(super) fn holds(&self, engine: &mut Engine, r: &mut Request) -> Result<bool, NeedThread> {
        let input = match self.test {
            Test::Expr(_) => None,
            _ => Some(engine.expand(r, &self.input, None, None)?),
        };
        let value = input.as_deref().unwrap_or_default();
        let holds = match &self.test {
            Test::FileExists => FileInfo::stat(value).is_ok_and(|f| f.is_file()),
            Test::FileSize => FileInfo::stat(value).is_ok_and(|f| f.is_file() && f.size > 0),
            Test::FileDir => FileInfo::stat(value).is_ok_and(|f| f.is_dir()),
            Test::FileExecutable => FileInfo::stat(value).is_ok_and(|f| f.mode & 0o111 != 0),
            Test::FileLink => {
                FileInfo::lstat(value).is_ok_and(|f| f.kind == crate::request::walk::FileKind::Link)
            }
            Test::Url => {
                !value.is_empty() && may_ask(r) && {
                    let status = sub_status(r.sub_req_lookup_uri(value))?.map_or(500, |sub| sub.status);
                    rewritelog!(
                        r,
                        Trace5,
                        None,
                        "RewriteCond URI (-U check: path={} -> status={status}",
                        shown(value)
                    );
                    status < 400
                }
            }
            Test::UrlOfFile => {
                !value.is_empty() && may_ask(r) && {
                    let sub = sub_status(r.sub_req_lookup_file(value))?;
                    let (status, name) =
                        sub.as_ref().map_or((500, &b""[..]), |sub| (sub.status, &sub.filename));
                    let there = status < 300 && FileInfo::stat(name).is_ok();
                    let (path, name) = (shown(value), shown(name));
                    rewritelog!(
                        r,
                        Trace5,
                        None,
                        "RewriteCond file (-F check: path={path} -> file={name} status={status}"
                    );
                    there
                }
            }
            Test::Text(comparison) => {
                let order = match (self.nocase, *comparison) {
                    (true, _) => value.to_ascii_lowercase().cmp(&self.operand.to_ascii_lowercase()),
                    (false, Comparison::Eq) => value.cmp(&self.operand),
                    (false, _) => compare(value, &self.operand),
                };
                comparison.holds(order)
            }
            Test::Number(comparison) => comparison.holds(atoi(value).cmp(&atoi(&self.operand))),
            Test::Expr(expr) => {
                let mut found = Backrefs::default();
                match r.evaluate_re(expr, &mut found) {
                    Ok(holds) => {
                        if holds && !self.not {
                            engine.of_condition = Some(found);
                        }
                        holds
                    }
                    Err(Failure::NeedThread) => return Err(NeedThread),
                    Err(Failure::Error(error)) => {
                        rewritelog!(
                            r,
                            Trace1,
                            engine.perdir,
                            "RewriteCond: expr='{}' evaluation failed: {error}",
                            shown(&self.shown)
                        );
                        false
                    }
                }
            }
            Test::Regex(regex) => match regex.captures(value) {
                Some(captures) => {
                    if !self.not {
                        engine.of_condition = Some(Backrefs::new(value.to_vec(), captures));
                    }
                    true
                }
                None => false,
            },
        } != self.not;
        rewritelog!(
            r,
            Trace4,
            engine.perdir,
            "RewriteCond: input='{}' pattern='{}'{} => {}",
            input.as_deref().map_or("(null)".into(), shown),
            shown(&self.shown),
            if self.nocase { " [NC]" } else { "" },
            if holds { "matched" } else { "not-matched" }
        );
        Ok(holds)
    }
}

/// A sub-request for the URI of the one that asks would ask for ever: `subreq_ok`.
pub(super) fn may_ask(r: &Request) -> bool {
    !r.is_subrequest || r.origin.as_ref().is_none_or(|main| main.uri != r.uri)
}

/// The sub-request, unless it needs a thread.
pub(super) fn sub_status(sub: Result<Box<Request>, Step>) -> Result<Option<Box<Request>>, NeedThread> {
    match sub {
        Ok(sub) => Ok(Some(sub)),
        Err(Step::NeedThread) => Err(NeedThread),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let kind = |pattern: &'static str| {
            operator(pattern.as_bytes()).map(|(test, rest, inverted)| {
                let comparison = match test {
                    Test::Text(c) | Test::Number(c) => Some(c),
                    _ => None,
                };
                (comparison, std::str::from_utf8(rest).unwrap(), inverted)
            })
        };
        assert_eq!(kind(">=b"), Some((Some(Comparison::Ge), "b", false)));
        assert_eq!(kind("=\"\""), Some((Some(Comparison::Eq), "", false)));
        assert_eq!(kind("-ne7"), Some((Some(Comparison::Eq), "7", true)));
        assert_eq!(kind("-f"), Some((None, "-f", false)));
        assert!(kind("-fx").is_none() && kind("-eq").is_none() && kind(">").is_none());
    }

    #[test]
    fn longer_is_greater() {
        assert!(compare(b"b", b"aa").is_lt());
        assert!(compare(b"b", b"a").is_gt());
    }
}
