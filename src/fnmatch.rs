//! Wildcard matching of names: `apr_fnmatch` (apr's strings/apr_fnmatch.c; `apr_fnmatch_test` is in `httpd-conf`) and
//! `ap_strcmp_match`, `ap_strcasecmp_match`, `ap_is_matchexp` (server/util.c).

/// How [`fnmatch`] reads pattern and text: apr's `APR_FNM_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

/// `/` is matched by `/` only, never by a wildcard or a bracket.
pub const PATHNAME: Flags = Flags(1);
/// A leading `.` (in each segment, with [`PATHNAME`]) is matched by `.` only.
pub const PERIOD: Flags = Flags(2);
/// A backslash is an ordinary character.
pub const NOESCAPE: Flags = Flags(4);
/// ASCII letters are matched without regard to case.
pub const CASE_BLIND: Flags = Flags(8);
/// No flag at all.
pub const NONE: Flags = Flags(0);

impl Flags {
    /// Whether every bit of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Whether `text` as a whole is matched by the shell pattern `pattern`.
pub fn fnmatch(pattern: &[u8], text: &[u8], flags: Flags) -> bool {
    let slash = flags.has(PATHNAME);
    let (mut pattern, mut text) = (pattern, text);
    loop {
        let end = if slash { text.iter().position(|&c| c == b'/').unwrap_or(text.len()) } else { text.len() };
        let (segment, rest) = text.split_at(end);
        let Some(left) = match_segment(pattern, segment, flags) else { return false };
        // What is left starts with the pattern's `/`, if anything is left.
        match (left.first(), rest.first()) {
            (None, None) => return true,
            (Some(_), Some(_)) => {
                pattern = left.get(separator(left, flags)..).unwrap_or_default();
                text = rest.get(1..).unwrap_or_default();
            }
            _ => return false,
        }
        // apr stops as soon as the pattern is used up.
        if pattern.is_empty() {
            return text.is_empty();
        }
    }
}

/// Length of the separator that `pattern` starts with: 1 for `/`, 2 for an escaped one, 0 for none.
fn separator(pattern: &[u8], flags: Flags) -> usize {
    match pattern {
        _ if !flags.has(PATHNAME) => 0,
        [b'/', ..] => 1,
        [b'\\', b'/', ..] if !flags.has(NOESCAPE) => 2,
        _ => 0,
    }
}

/// Matches one path segment (or all, without `PATHNAME`); gives the pattern that is left, at its separator or end.
fn match_segment<'p>(pattern: &'p [u8], segment: &[u8], flags: Flags) -> Option<&'p [u8]> {
    let (mut pattern, mut segment) = (pattern, segment);
    if flags.has(PERIOD) && !pattern.is_empty() && segment.first() == Some(&b'.') {
        pattern = match pattern {
            [b'.', rest @ ..] => rest,
            [b'\\', b'.', rest @ ..] if !flags.has(NOESCAPE) => rest,
            _ => return None,
        };
        segment = segment.get(1..).unwrap_or_default();
    }
    // Only the last `*` ever has to be tried again: (pattern after it, text it has not swallowed yet).
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let at_end = pattern.is_empty() || separator(pattern, flags) > 0;
        if !at_end && pattern.first() == Some(&b'*') {
            pattern = pattern.get(1..).unwrap_or_default();
            retry = Some((pattern, segment));
            continue;
        }
        match segment.split_first() {
            None if at_end => return Some(pattern),
            None => return None,
            Some((&c, rest)) => {
                if !at_end && let Some(after) = match_byte(pattern, c, flags) {
                    (pattern, segment) = (after, rest);
                    continue;
                }
                let (after_star, from) = retry?;
                let from = from.get(1..)?;
                (pattern, segment) = (after_star, from);
                retry = Some((after_star, from));
            }
        }
    }
}

/// Matches `c` against the one character, `?` or bracket that `pattern` starts with; gives what follows it.
fn match_byte(pattern: &[u8], c: u8, flags: Flags) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', inner @ ..] => match match_bracket(inner, c, flags) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            // Not a bracket expression after all: the `[` stands for itself.
            None => same(c, b'[', flags).then_some(inner),
        },
        [b'\\', p, rest @ ..] if !flags.has(NOESCAPE) => same(c, *p, flags).then_some(rest),
        [p, rest @ ..] => same(c, *p, flags).then_some(rest),
        [] => None,
    }
}

fn same(c: u8, p: u8, flags: Flags) -> bool {
    c == p || flags.has(CASE_BLIND) && c.eq_ignore_ascii_case(&p)
}

/// Reads a bracket expression behind its `[`: whether it has `c`, and what follows `]`. None when it is not well formed.
fn match_bracket(inner: &[u8], c: u8, flags: Flags) -> Option<(bool, &[u8])> {
    let escape = !flags.has(NOESCAPE);
    let slash = flags.has(PATHNAME);
    let (negate, mut p) = match inner {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    // `]` is an ordinary character where it comes first.
    let mut first = p.first() == Some(&b']');
    loop {
        if !first {
            match p {
                [b']', rest @ ..] => return Some((found != negate, rest)),
                [b'\\', rest @ ..] if escape => p = rest,
                _ => {}
            }
            if slash && p.first() == Some(&b'/') {
                return None;
            }
        }
        first = false;
        match p {
            [] => return None,
            [low, b'-', end @ ..] if end.first() != Some(&b']') => {
                let end = match end {
                    [b'\\', rest @ ..] if escape => rest,
                    _ => end,
                };
                let (&high, rest) = end.split_first()?;
                // apr asks for a backslash here, where a slash was surely meant; a slash does end a range.
                if slash && high == b'\\' {
                    return None;
                }
                found |= in_range(c, *low, high, flags);
                p = rest;
            }
            [one, rest @ ..] => {
                found |= same(c, *one, flags);
                p = rest;
            }
        }
    }
}

/// Ranges compare as C's `char` does, which is signed where Apache is usually built; once lowered (by `tolower`) they
/// compare unsigned.
fn in_range(c: u8, low: u8, high: u8, flags: Flags) -> bool {
    if (low as i8..=high as i8).contains(&(c as i8)) {
        return true;
    }
    flags.has(CASE_BLIND)
        && [c, low, high].iter().any(u8::is_ascii_uppercase)
        && (low.to_ascii_lowercase()..=high.to_ascii_lowercase()).contains(&c.to_ascii_lowercase())
}

/// Whether `pattern` has `*` or `?` (`ap_is_matchexp`): the test for what [`strcmp_match`] takes.
pub fn is_matchexp(pattern: &str) -> bool {
    pattern.bytes().any(|c| matches!(c, b'*' | b'?'))
}

/// Matches `text` against a pattern of `*` and `?` only (`ap_strcmp_match`): no brackets, no escapes, `/` is nothing special.
pub fn strcmp_match(text: &[u8], pattern: &[u8]) -> bool {
    star_match(text, pattern, |a, b| a == b)
}

/// As [`strcmp_match`], ASCII letters without regard to case (`ap_strcasecmp_match`).
pub fn strcasecmp_match(text: &[u8], pattern: &[u8]) -> bool {
    star_match(text, pattern, |a, b| a.eq_ignore_ascii_case(&b))
}

fn star_match(mut text: &[u8], mut pattern: &[u8], same: fn(u8, u8) -> bool) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                if rest.is_empty() {
                    return true;
                }
                pattern = rest;
                retry = Some((rest, text));
            }
            ([], []) => return true,
            ([p, rest @ ..], [c, more @ ..]) if *p == b'?' || same(*c, *p) => (pattern, text) = (rest, more),
            (_, []) => return false,
            _ => {
                let Some((after_star, [_, from @ ..])) = retry else { return false };
                (pattern, text) = (after_star, from);
                retry = Some((after_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every expected value is what libapr 1.7.2 answered.
    #[test]
    fn patterns_as_apr_reads_them() {
        for (pattern, text, flags, matches) in [
            ("", "", NONE, true),
            ("*", "", NONE, true),
            ("?", "", NONE, false),
            ("*.html", "index.html", NONE, true),
            ("a*b*c", "aXbXbXc", NONE, true),
            ("a*b?c", "aXbbc", NONE, true),
            ("/a*", "/a/b", NONE, true),
            ("/a*", "/a/b", PATHNAME, false),
            ("/a*/b", "/ax/b", PATHNAME, true),
            ("/a?b", "/a/b", PATHNAME, false),
            ("/a/", "/a", PATHNAME, false),
            ("/a", "/a/", PATHNAME, false),
            ("/*/*", "/a/", PATHNAME, true),
            ("a\\/b", "a/b", PATHNAME, true),
            ("[a/]b", "/b", PATHNAME, false),
            ("[a/]b", "/b", NONE, true),
            ("[a/]b", "[a/]b", PATHNAME, true),
            ("[a-c]x", "bx", NONE, true),
            ("[!a-c]x", "bx", NONE, false),
            ("[^a-c]x", "dx", NONE, true),
            ("[]a]", "]", NONE, true),
            ("[a-m-z]", "-", NONE, true),
            ("[a-", "[a-", NONE, true),
            ("[x\\]]", "]", NONE, true),
            ("a\\*", "a*", NONE, true),
            ("a\\*", "a\\b", NOESCAPE, true),
            ("a\\", "a\\", NONE, true),
            ("*.A", "x.a", CASE_BLIND, true),
            ("[A-C]", "b", CASE_BLIND, true),
            ("[A-C]", "b", NONE, false),
            ("*", ".x", PERIOD, false),
            (".*", ".x", PERIOD, true),
            ("*/*", "a/.x", PERIOD | PATHNAME, false),
            ("*/*", "a/.x", PERIOD, true),
        ] {
            assert_eq!(
                fnmatch(pattern.as_bytes(), text.as_bytes(), flags),
                matches,
                "{pattern} {text} {flags:?}"
            );
        }
        assert!(!fnmatch(b"[\xe9-A!]A", b"\\a", CASE_BLIND | NOESCAPE));
    }

    #[test]
    fn what_counts_as_a_pattern() {
        assert!(is_matchexp("www?") && !is_matchexp("[a]"));
    }

    #[test]
    fn stars_and_question_marks_only() {
        assert!(strcmp_match(b"www.example.com", b"*.example.com"));
        assert!(strcmp_match(b"a/b[c]", b"a?b[*"));
        assert!(!strcmp_match(b"WWW.example.com", b"www*"));
        assert!(strcasecmp_match(b"WWW.example.com", b"www*.COM"));
        assert!(!strcmp_match(b"", b"?") && strcmp_match(b"", b"**"));
        assert!(!strcmp_match(b"abcabd", b"*abc"));
    }
}
