//! Fills in `%{…}`, `${map:key|default}`, `$N` and `%N`: `do_expand`.

use bstr::ByteSlice;

use super::engine::Engine;
use super::log::rewritelog;
use super::rules::Rule;
use super::{maps, variables};
use crate::expr::{Backrefs, NeedThread};
use crate::log::shown;
use crate::request::Request;

/// Whether the `?` that ends the path comes from what a client sends: the first one, or with `QSL` the last one.
struct Qmark<'q> {
    found: Option<&'q mut bool>,
    last: bool,
}

impl Qmark<'_> {
    fn see(&mut self, text: &[u8], is_unsafe: bool) {
        let Some(found) = &mut self.found else { return };
        if text.contains(&b'?') {
            **found = is_unsafe;
            if !self.last {
                self.found = None;
            }
        }
    }
}

impl Engine<'_> {
    /// `input` with everything filled in. `rule` says how back-references are escaped; `unsafe_qmark` becomes true where
    /// the query string begins with a `?` that was filled in.
    pub(super) fn expand(
        &mut self,
        r: &mut Request,
        input: &[u8],
        rule: Option<&Rule>,
        unsafe_qmark: Option<&mut bool>,
    ) -> Result<Vec<u8>, NeedThread> {
        let mut qmark = Qmark { found: unsafe_qmark, last: rule.is_some_and(|rule| rule.flags.qs_last) };
        let mut out = Vec::with_capacity(input.len() + 64);
        let mut rest = input;
        loop {
            let plain = rest.find_byteset(b"\\$%").unwrap_or(rest.len());
            let (text, special) = rest.split_at(plain);
            qmark.see(text, false);
            out.extend_from_slice(text);
            let start = out.len();
            rest = match special {
                [] => return Ok(out),
                [b'\\', escaped, after @ ..] => {
                    out.push(*escaped);
                    after
                }
                [mark @ (b'$' | b'%'), b'{', after @ ..] => match closing_curly(after) {
                    None => {
                        out.extend_from_slice(&special[..2]);
                        after
                    }
                    Some(end) => {
                        let inner = &after[..end];
                        if *mark == b'%' {
                            variables::lookup(self, r, inner, &mut out)?;
                        } else if !self.look_up_map(r, inner, rule, &mut out)? {
                            out.extend_from_slice(&special[..2]);
                            rest = after;
                            continue;
                        }
                        qmark.see(&out[start..], true);
                        &after[end + 1..]
                    }
                },
                [mark @ (b'$' | b'%'), digit @ b'0'..=b'9', after @ ..] => {
                    let from = if *mark == b'$' { &self.of_rule } else { &self.of_condition };
                    let text =
                        from.as_ref().map_or(&b""[..], |refs: &Backrefs| refs.get(usize::from(digit - b'0')));
                    match rule.filter(|rule| rule.flags.escape_backref) {
                        Some(rule) if !text.is_empty() => {
                            let escaped = escape_backref(text, rule);
                            let (before, after) = (shown(text), shown(&escaped));
                            rewritelog!(
                                r,
                                Trace5,
                                self.perdir,
                                "escaping backreference '{before}' to '{after}'"
                            );
                            out.extend_from_slice(&escaped);
                        }
                        _ => out.extend_from_slice(text),
                    }
                    qmark.see(&out[start..], true);
                    after
                }
                [other, after @ ..] => {
                    out.push(*other);
                    after
                }
            };
        }
    }

    /// `map:key|default`; false where there is no colon.
    fn look_up_map(
        &mut self,
        r: &mut Request,
        inner: &[u8],
        rule: Option<&Rule>,
        out: &mut Vec<u8>,
    ) -> Result<bool, NeedThread> {
        let Some(colon) = char_in_curlies(inner, b':') else { return Ok(false) };
        let (name, key) = (&inner[..colon], &inner[colon + 1..]);
        let (key, default) = match char_in_curlies(key, b'|') {
            Some(bar) => (&key[..bar], &key[bar + 1..]),
            None => (key, &b""[..]),
        };
        let key = self.expand(r, key, rule, None)?;
        match maps::look_up(r, name, key)? {
            Some(value) => out.extend_from_slice(&value),
            None if !default.is_empty() => out.extend(self.expand(r, default, rule, None)?),
            None => {}
        }
        Ok(true)
    }
}

/// Where the bracket before `text` is closed.
fn closing_curly(text: &[u8]) -> Option<usize> {
    let mut depth = 1;
    text.iter().position(|&c| {
        match c {
            b'}' => depth -= 1,
            b'{' => depth += 1,
            _ => {}
        }
        depth == 0
    })
}

/// Where `wanted` stands outside of inner brackets.
fn char_in_curlies(text: &[u8], wanted: u8) -> Option<usize> {
    let mut depth = 1;
    for (at, &c) in text.iter().enumerate() {
        match c {
            c if c == wanted && depth == 1 => return Some(at),
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return None;
                }
            }
            b'{' => depth += 1,
            _ => {}
        }
    }
    None
}

/// Escapes a back-reference as the rule's `B` flags say.
fn escape_backref(text: &[u8], rule: &Rule) -> Vec<u8> {
    let flags = &rule.flags;
    let listed = |list: &Option<bstr::BString>, c: u8| list.as_ref().is_some_and(|list| list.contains(&c));
    let mut out = Vec::with_capacity(3 * text.len());
    for &c in text {
        let all = match flags.escape_ctls {
            // T_VCHAR_OBSTEXT
            true => c <= b' ' || c == 0x7f,
            false => flags.escapes.is_none(),
        };
        let escape = (all || listed(&flags.escapes, c)) && !listed(&flags.no_escapes, c);
        match c {
            c if !escape || c.is_ascii_alphanumeric() || c == b'_' => out.push(c),
            b' ' if !flags.escape_no_plus => out.push(b'+'),
            c => out.extend_from_slice(format!("%{c:02x}").as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets() {
        assert_eq!(closing_curly(b"a{b}c}d"), Some(5));
        assert_eq!(closing_curly(b"a{b}c"), None);
        assert_eq!(char_in_curlies(b"map{:}:key", b':'), Some(6));
        assert_eq!(char_in_curlies(b"map}:", b':'), None);
    }
}
