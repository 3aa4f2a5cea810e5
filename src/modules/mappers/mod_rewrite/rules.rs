//! `RewriteRule`: a pattern, its conditions, what to put in place of the URL.

use std::sync::Arc;

use bstr::BString;
use httpd_conf::{from_bytes, to_bytes};

use super::arguments;
use super::conditions::{Condition, Test};
use super::flags::RuleFlags;
use super::{DIR, SERVER, dir_conf};
use crate::config::directive::{Cmd, Done};
use crate::regex::{Flags, Regex};

/// One rule: `rewriterule_entry`.
pub(super) struct Rule {
    pub(super) conditions: Vec<Arc<Condition>>,
    /// The pattern's text, for the log.
    pub(super) pattern: BString,
    pub(super) regex: Regex,
    pub(super) output: BString,
    pub(super) flags: RuleFlags,
    /// Filling it in may have to wait for a thread: the request is put back to what it was then.
    pub(super) may_wait: bool,
}

/// The setter of `RewriteRule`: `cmd_rewriterule`.
pub(super) fn rewrite_rule(cmd: &mut Cmd, line: &str) -> Done {
    dir_conf(cmd);
    let bytes = to_bytes(line);
    let Some(words) = arguments::words(&bytes) else {
        return Err(format!("RewriteRule: bad argument line '{line}'").into());
    };
    let mut flags = RuleFlags::default();
    if let Some(field) = words.flags {
        arguments::flags(field, |name, value| flags.set(name, value))
            .map_err(|error| format!("RewriteRule: {error}"))?;
    }
    let pattern = match words.first.strip_prefix(b"!") {
        Some(rest) => {
            flags.not_match = true;
            rest
        }
        None => words.first,
    };
    let case = if flags.nocase { Flags::ICASE } else { Flags::NONE };
    let regex = Regex::from_bytes(pattern, Flags::EXTENDED | case)
        .map_err(|_| format!("RewriteRule: cannot compile regular expression '{}'", from_bytes(pattern)))?;
    let mut output = words.second;
    if output == b"-" {
        flags.no_sub = true;
    }
    if let Some(bare) = output.strip_suffix(b"?") {
        // A literal ? at the end keeps a query string that is captured by chance from becoming ours.
        if flags.qs_append {
            flags.qs_last = true;
        } else {
            flags.qs_none = true;
            output = bare;
        }
    } else if flags.qs_discard && !output.contains(&b'?') {
        flags.qs_none = true;
    }
    let conditions = match cmd.path {
        None => std::mem::take(&mut cmd.server_conf(&SERVER)?.pending),
        Some(_) => std::mem::take(&mut cmd.dir(&DIR).pending),
    };
    let filled = [output].into_iter().chain(conditions.iter().map(|c| c.input.as_slice()));
    let extra =
        flags.env.iter().chain(&flags.cookies).chain(&flags.forced_mimetype).chain(&flags.forced_handler);
    let may_wait = filled.chain(extra.map(|text| text.as_slice())).any(asks_others)
        || conditions.iter().any(|c| match &c.test {
            Test::Url | Test::UrlOfFile => true,
            Test::Expr(expr) => expr.may_block(),
            _ => false,
        });
    let rule =
        Arc::new(Rule { conditions, pattern: pattern.into(), regex, output: output.into(), flags, may_wait });
    match cmd.path {
        None => cmd.server_conf(&SERVER)?.rules.push(rule),
        Some(_) => cmd.dir(&DIR).rules.push(rule),
    }
    Ok(())
}

/// Does filling in `text` ask a map or a sub-request?
fn asks_others(text: &[u8]) -> bool {
    let holds = |part: &[u8]| text.windows(part.len()).any(|w| w.eq_ignore_ascii_case(part));
    holds(b"${") || holds(b"%{LA-")
}
