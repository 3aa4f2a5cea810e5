//! Applies rules: `apply_rewrite_rule`, `apply_rewrite_list`.

use std::sync::Arc;

use bstr::BString;

use super::address;
use super::effects;
use super::log::rewritelog;
use super::rules::Rule;
use crate::expr::{Backrefs, NeedThread};
use crate::http::status;
use crate::log::{Level, rerror, shown};
use crate::request::{Lane, Request};
use crate::table::Table;

/// What came of a list of rules: `ACTION_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Nothing was changed.
    None,
    Normal,
    /// The result is not to be escaped.
    NoEscape,
    /// The request ends with the status that a rule set.
    Status,
    /// The same, for an error.
    StatusSet,
}

impl Action {
    /// As the note `mod_rewrite_rewritten` holds it.
    pub(super) fn number(self) -> u8 {
        match self {
            Action::None => 0,
            Action::Normal => 1,
            Action::NoEscape => 2,
            Action::Status => 4,
            Action::StatusSet => 8,
        }
    }
    pub(super) fn of_number(number: &[u8]) -> Action {
        match number {
            b"1" => Action::Normal,
            b"2" => Action::NoEscape,
            b"4" => Action::Status,
            b"8" => Action::StatusSet,
            _ => Action::None,
        }
    }
}

/// What came of a rule: `rule_return_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matched {
    No,
    Yes,
    NoSub,
    StatusSet,
}

/// What rules and what they are filled in with know of each other: `rewrite_ctx`.
pub(super) struct Engine<'a> {
    pub(super) perdir: Option<&'a [u8]>,
    /// What the rule's pattern is tried on.
    pub(super) uri: Vec<u8>,
    /// Header fields that the condition at hand looked at.
    pub(super) vary_this: Option<Vec<u8>>,
    vary: Option<Vec<u8>>,
    /// `$0` to `$9`
    pub(super) of_rule: Option<Backrefs>,
    /// `%0` to `%9`
    pub(super) of_condition: Option<Backrefs>,
}

/// What rules change of a request.
struct Before {
    filename: BString,
    path_info: BString,
    args: Option<BString>,
    status: u16,
    headers_out: Table,
    err_headers_out: Table,
    subprocess_env: Table,
    notes: Table,
    cookies: usize,
}

impl Before {
    fn of(r: &Request) -> Before {
        Before {
            filename: r.filename.clone(),
            path_info: r.path_info.clone(),
            args: r.args.clone(),
            status: r.status,
            headers_out: r.headers_out.clone(),
            err_headers_out: r.err_headers_out.clone(),
            subprocess_env: r.subprocess_env.clone(),
            notes: r.notes.clone(),
            cookies: r.rewritten.cookies.len(),
        }
    }

    fn restore(self, r: &mut Request) {
        r.filename = self.filename;
        r.path_info = self.path_info;
        r.args = self.args;
        r.status = self.status;
        r.headers_out = self.headers_out;
        r.err_headers_out = self.err_headers_out;
        r.subprocess_env = self.subprocess_env;
        r.notes = self.notes;
        r.rewritten.cookies.truncate(self.cookies);
    }
}

/// Applies `rules` to the request; with what came of it, the last rule that put something in place of the URL. Where a
/// thread is needed, the request is as it was before.
pub(super) fn apply_list<'a>(
    r: &mut Request,
    rules: &'a [Arc<Rule>],
    perdir: Option<&[u8]>,
) -> Result<(Action, Option<&'a Rule>), NeedThread> {
    let before = (r.lane == Lane::Reactor && rules.iter().any(|rule| rule.may_wait)).then(|| Before::of(r));
    let applied = rounds(r, rules, perdir);
    if let (Err(NeedThread), Some(before)) = (&applied, before) {
        before.restore(r);
    }
    applied
}

fn rounds<'a>(
    r: &mut Request,
    rules: &'a [Arc<Rule>],
    perdir: Option<&[u8]>,
) -> Result<(Action, Option<&'a Rule>), NeedThread> {
    let mut engine =
        Engine { perdir, uri: Vec::new(), vary_this: None, vary: None, of_rule: None, of_condition: None };
    let mut changed = Action::None;
    let mut last_sub = None;
    let mut round = 1;
    let mut next = 0;
    while let Some(rule) = rules.get(next) {
        next += 1;
        let flags = &rule.flags;
        if r.is_subrequest && (flags.ignore_on_subreq || flags.force_redirect) {
            continue;
        }
        engine.vary = None;
        let matched = engine.apply(r, rule)?;
        if matched == Matched::No {
            // The rules chained to this one are left out as well.
            let mut at = next - 1;
            while rules.get(at).is_some_and(|rule| rule.flags.chain) {
                at += 1;
            }
            next = at + 1;
            continue;
        }
        if !flags.no_sub {
            let output = shown(&rule.output);
            rewritelog!(r, Trace2, perdir, "setting lastsub to rule with output {output}");
            last_sub = Some(&**rule);
        }
        let longest = 2 * r.server.resolved.head.request_line();
        if r.filename.len() > longest {
            let pattern = shown(&rule.pattern);
            rerror!(
                r,
                Level::Error,
                "rewrite",
                "",
                "RewriteRule '{pattern}' and URI '{}' exceeded maximum length ({longest})",
                shown(&r.uri)
            );
            r.status = status::INTERNAL_SERVER_ERROR;
            return Ok((Action::Status, last_sub));
        }
        if let Some(vary) = engine.vary.take() {
            r.headers_out.merge("Vary", vary);
        }
        if matched == Matched::StatusSet {
            return Ok((Action::StatusSet, last_sub));
        }
        if flags.status {
            return Ok((Action::Status, last_sub));
        }
        if matched != Matched::NoSub {
            changed = if flags.noescape { Action::NoEscape } else { Action::Normal };
        }
        if flags.passthrough {
            rewritelog!(
                r,
                Trace2,
                perdir,
                "forcing '{}' to get passed through to next API URI-to-filename handler",
                shown(&r.filename)
            );
            r.filename.splice(..0, b"passthrough:".iter().copied());
            changed = Action::Normal;
            break;
        }
        if flags.end {
            rewritelog!(r, Trace8, perdir, "Rule has END flag, no further rewriting for this request");
            r.rewritten.ended = true;
            break;
        }
        if flags.proxy || flags.last {
            break;
        }
        if flags.new_round {
            round += 1;
            if round >= flags.max_rounds {
                rerror!(
                    r,
                    Level::Error,
                    "rewrite",
                    "AH02596",
                    "RewriteRule '{}' and URI '{}' exceeded maximum number of rounds ({}) via the [N] flag",
                    shown(&rule.pattern),
                    shown(&r.uri),
                    flags.max_rounds
                );
                r.status = status::INTERNAL_SERVER_ERROR;
                return Ok((Action::Status, last_sub));
            }
            next = 0;
            continue;
        }
        next += usize::try_from(flags.skip).unwrap_or(0);
    }
    Ok((changed, last_sub))
}

impl Engine<'_> {
    /// Applies one rule.
    fn apply(&mut self, r: &mut Request, rule: &Rule) -> Result<Matched, NeedThread> {
        let flags = &rule.flags;
        let perdir = self.perdir;
        let is_proxyreq = perdir.is_some() && r.proxyreq.is_some() && r.filename.starts_with(b"proxy:");
        self.begin(r, is_proxyreq);
        rewritelog!(
            r,
            Trace3,
            perdir,
            "applying pattern '{}' to uri '{}'",
            shown(&rule.pattern),
            shown(&self.uri)
        );
        let captures = rule.regex.captures(&self.uri);
        if captures.is_some() == flags.not_match {
            return Ok(Matched::No);
        }
        self.vary_this = None;
        self.of_condition = None;
        self.of_rule = captures.map(|captures| Backrefs::new(self.uri.clone(), captures));
        if !self.conditions_hold(r, rule)? {
            return Ok(Matched::No);
        }
        let mut new_uri = Vec::new();
        if !flags.no_sub {
            let mut unsafe_qmark = false;
            let watch = (!flags.unsafe_allow_3f).then_some(&mut unsafe_qmark);
            new_uri = self.expand(r, &rule.output, Some(rule), watch)?;
            rewritelog!(r, Trace2, perdir, "rewrite '{}' -> '{}'", shown(&self.uri), shown(&new_uri));
            if unsafe_qmark {
                rerror!(
                    r,
                    Level::Error,
                    "rewrite",
                    "AH10508",
                    "Unsafe URL with %3f URL rewritten without UnsafeAllow3F"
                );
                r.status = status::FORBIDDEN;
                return Ok(Matched::StatusSet);
            }
        }
        effects::set_env(self, r, rule)?;
        effects::set_cookies(self, r, rule)?;
        if flags.no_sub {
            effects::force_type_handler(self, r, rule)?;
            if flags.status {
                let code = flags.forced_response_code;
                rewritelog!(r, Trace2, perdir, "forcing responsecode {code} for {}", shown(&r.filename));
                r.status = code;
            }
            return Ok(Matched::NoSub);
        }
        let mut prefix_added = false;
        if !is_proxyreq && new_uri.first() != Some(&b'/') && address::is_absolute_uri(&new_uri).is_none() {
            if let Some(dir) = perdir {
                let (new, dir_text) = (shown(&new_uri), shown(dir));
                rewritelog!(r, Trace3, perdir, "add per-dir prefix: {new} -> {dir_text}{new}");
                new_uri.splice(..0, dir.iter().copied());
                prefix_added = true;
            } else if !flags.proxy && !flags.force_redirect {
                // Else `path(.*)` → `$1` could make a URL with a scheme from what a client sends.
                let new = shown(&new_uri);
                rewritelog!(r, Trace3, perdir, "add root prefix: {new} -> /{new}");
                new_uri.insert(0, b'/');
                prefix_added = true;
            }
        }
        r.filename = new_uri.into();
        if perdir.is_some() && flags.discard_path_info {
            r.path_info.clear();
        }
        address::split_out_query(r, flags);
        if flags.proxy {
            address::fully_qualify(r);
            rewritelog!(r, Trace2, perdir, "forcing proxy-throughput with {}", shown(&r.filename));
            r.filename.splice(..0, b"proxy:".iter().copied());
            return Ok(Matched::Yes);
        }
        if flags.force_redirect {
            address::fully_qualify(r);
            rewritelog!(r, Trace2, perdir, "explicitly forcing redirect with {}", shown(&r.filename));
            r.status = flags.forced_response_code;
            return Ok(Matched::Yes);
        }
        address::reduce(r);
        if address::is_absolute_uri(&r.filename).is_some() {
            let code = flags.forced_response_code;
            // The parenthesis is not closed in Apache either.
            rewritelog!(
                r,
                Trace2,
                perdir,
                "implicitly forcing redirect (rc={code} with {}",
                shown(&r.filename)
            );
            r.status = code;
            return Ok(Matched::Yes);
        }
        if !flags.unc && !prefix_added && !rule.output.starts_with(b"//") {
            let slashes = r.filename.iter().take_while(|&&c| c == b'/').count();
            r.filename.drain(..slashes.saturating_sub(1));
        }
        effects::force_type_handler(self, r, rule)?;
        Ok(Matched::Yes)
    }

    /// What patterns are tried on: in a directory, what is behind its name.
    fn begin(&mut self, r: &Request, is_proxyreq: bool) {
        self.uri.clear();
        self.uri.extend_from_slice(&r.filename);
        let Some(dir) = self.perdir else { return };
        if !r.path_info.is_empty() {
            let (uri, info) = (shown(&r.filename), shown(&r.path_info));
            rewritelog!(r, Trace3, self.perdir, "add path info postfix: {uri} -> {uri}{info}");
            self.uri.extend_from_slice(&r.path_info);
        }
        if !is_proxyreq && self.uri.starts_with(dir) {
            let rest = shown(&self.uri[dir.len()..]);
            rewritelog!(r, Trace3, self.perdir, "strip per-dir prefix: {} -> {rest}", shown(&self.uri));
            self.uri.drain(..dir.len());
        }
    }

    fn conditions_hold(&mut self, r: &mut Request, rule: &Rule) -> Result<bool, NeedThread> {
        let conditions = &rule.conditions;
        let mut next = 0;
        while let Some(condition) = conditions.get(next) {
            next += 1;
            let holds = condition.holds(self, r)?;
            if condition.no_vary {
                self.vary_this = None;
            }
            if condition.or_next {
                if !holds {
                    self.vary_this = None;
                    continue;
                }
                // The others of the chain don't matter any more.
                let mut at = next - 1;
                while conditions.get(at).is_some_and(|c| c.or_next) {
                    at += 1;
                }
                next = at + 1;
            } else if !holds {
                return Ok(false);
            }
            if let Some(looked_at) = self.vary_this.take() {
                match &mut self.vary {
                    Some(vary) => {
                        vary.extend_from_slice(b", ");
                        vary.extend_from_slice(&looked_at);
                    }
                    None => self.vary = Some(looked_at),
                }
            }
        }
        Ok(true)
    }
}
