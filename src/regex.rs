//! Regular expressions as `ap_regex` gives them: server/util_pcre.c (`ap_regcomp`, `ap_regexec`, `ap_regname`),
//! server/util_regex.c (`ap_rxplus_*`) and `ap_pregsub` of server/util.c.
//!
//! PCRE2 works on bytes, just-in-time compiled. Differs: `$` of `DOLLAR_ENDONLY` is written as `\z` before compiling,
//! because the crate has no such option; a pattern with an inline `(?m)` keeps PCRE's plain `$` throughout.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use pcre2::bytes::{CaptureLocations, RegexBuilder};

/// Slots that expressions and `$0` to `$9` can name: `AP_MAX_REG_MATCH`.
pub const MAX_REG_MATCH: usize = 10;
/// A substitution as long as this fails: `AP_PREGSUB_MAXLEN`.
pub const PREGSUB_MAXLEN: usize = 64 * 1024;
/// Codes of PCRE2 that are acted on.
const ERROR_DUPLICATE_NAME: i32 = 143;
const ERROR_JIT_STACKLIMIT: i32 = -46;
/// Capture buffers kept for reuse, for each expression.
const SPARE_LOCATIONS: usize = 8;

/// How a pattern is compiled: the bits of `AP_REG_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Nothing but the default set by RegexDefaultOptions.
    pub const NONE: Flags = Flags(0);
    /// Letters match without regard to case.
    pub const ICASE: Flags = Flags(1);
    /// `^` and `$` match at newlines too.
    pub const NEWLINE: Flags = Flags(2);
    /// `.` matches newlines.
    pub const DOTALL: Flags = Flags(4);
    /// `$` matches at the very end only, not before a last newline.
    pub const DOLLAR_ENDONLY: Flags = Flags(8);
    /// Known by name, but without meaning (as in Apache).
    pub const EXTENDED: Flags = Flags(16);
    /// Leave out what RegexDefaultOptions says.
    pub const NO_DEFAULT: Flags = Flags(32);
    /// What RegexDefaultOptions starts from.
    pub const DEFAULT: Flags = Flags(4 | 8);

    /// Whether every bit of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags without those of `other`.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// The flag that RegexDefaultOptions calls `name` (`ap_regcomp_default_cflag_by_name`).
    pub fn by_name(name: &str) -> Option<Flags> {
        [
            ("ICASE", Flags::ICASE),
            ("DOTALL", Flags::DOTALL),
            ("DOLLAR_ENDONLY", Flags::DOLLAR_ENDONLY),
            ("EXTENDED", Flags::EXTENDED),
        ]
        .into_iter()
        .find_map(|(known, flag)| known.eq_ignore_ascii_case(name).then_some(flag))
    }

    fn with_default(self) -> Flags {
        if self.has(Flags::NO_DEFAULT) { self } else { self | default_flags() }
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

static DEFAULT_FLAGS: AtomicU8 = AtomicU8::new(Flags::DEFAULT.0);

/// The flags that every pattern gets (`ap_regcomp_get_default_cflags`).
pub fn default_flags() -> Flags {
    Flags(DEFAULT_FLAGS.load(Ordering::Relaxed))
}

/// Sets them, while the configuration is read (RegexDefaultOptions; back to [`Flags::DEFAULT`] before each reading).
pub fn set_default_flags(flags: Flags) {
    DEFAULT_FLAGS.store(flags.0, Ordering::Relaxed);
}

/// A compiled pattern.
pub struct Regex {
    code: pcre2::bytes::Regex,
    /// The same without the just-in-time compiler, for a subject that its stack is too small for.
    interpreted: OnceLock<Option<pcre2::bytes::Regex>>,
    source: String,
    flags: Flags,
    spare: Mutex<Vec<CaptureLocations>>,
}

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Regex").field(&self.source).field(&self.flags).finish()
    }
}

impl Regex {
    /// Compiles `pattern`; the error is PCRE2's, which Apache's callers replace by a text of their own.
    pub fn new(pattern: &str, flags: Flags) -> Result<Regex, String> {
        let flags = flags.with_default();
        let code = compile(pattern, flags, true).map_err(|e| e.to_string())?;
        let (source, spare) = (pattern.to_owned(), Mutex::new(Vec::new()));
        Ok(Regex { code, interpreted: OnceLock::new(), source, flags, spare })
    }

    /// Compiles a pattern that need not be UTF-8 (where it is not, what is between `\Q` and `\E` must be ASCII).
    pub fn from_bytes(pattern: &[u8], flags: Flags) -> Result<Regex, String> {
        match std::str::from_utf8(pattern) {
            Ok(text) => Regex::new(text, flags),
            Err(_) => {
                let escape =
                    |&c: &u8| if c < 0x80 { char::from(c).to_string() } else { format!("\\x{c:02x}") };
                Regex::new(&pattern.iter().map(escape).collect::<String>(), flags)
            }
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// How many groups capture, the whole match left out: `re_nsub`.
    pub fn groups(&self) -> usize {
        self.code.capture_names().len().saturating_sub(1)
    }

    /// Number and name of each named group, by number (`ap_regname`).
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.capture_names().iter().enumerate().filter_map(|(i, name)| Some((i, name.as_deref()?)))
    }

    /// Whether the pattern is found in `subject`. What PCRE2 gives up on is no match.
    pub fn is_match(&self, subject: &[u8]) -> bool {
        match self.code.is_match(subject) {
            Ok(found) => found,
            Err(e) if e.code() == ERROR_JIT_STACKLIMIT => {
                self.interpreted().is_some_and(|code| code.is_match(subject).unwrap_or(false))
            }
            Err(_) => false,
        }
    }

    /// The first match in `subject`, and what its groups captured.
    pub fn captures(&self, subject: &[u8]) -> Option<Captures> {
        self.captures_at(subject, 0)
    }

    /// The first match from `start` on; `^` does not match at a `start` behind the beginning (as with `AP_REG_NOTBOL`),
    /// and look-behind sees what is before it.
    pub fn captures_at(&self, subject: &[u8], start: usize) -> Option<Captures> {
        if start > subject.len() {
            return None;
        }
        let mut locations = self.spare().pop().unwrap_or_else(|| self.code.capture_locations());
        let found = match self.code.captures_read_at(&mut locations, subject, start) {
            Ok(found) => found.map(|_| Captures::read(&locations)),
            Err(e) if e.code() == ERROR_JIT_STACKLIMIT => self.interpreted().and_then(|code| {
                let mut locations = code.capture_locations();
                let found = code.captures_read_at(&mut locations, subject, start).ok().flatten();
                found.map(|_| Captures::read(&locations))
            }),
            Err(_) => None,
        };
        let mut spare = self.spare();
        if spare.len() < SPARE_LOCATIONS {
            spare.push(locations);
        }
        found
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<CaptureLocations>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interpreted(&self) -> Option<&pcre2::bytes::Regex> {
        self.interpreted.get_or_init(|| compile(&self.source, self.flags, false).ok()).as_ref()
    }
}

fn compile(pattern: &str, flags: Flags, jit: bool) -> Result<pcre2::bytes::Regex, pcre2::Error> {
    let mut builder = RegexBuilder::new();
    builder
        .caseless(flags.has(Flags::ICASE))
        .multi_line(flags.has(Flags::NEWLINE))
        .dotall(flags.has(Flags::DOTALL))
        .jit_if_available(jit);
    let pattern = match flags.has(Flags::DOLLAR_ENDONLY) && !flags.has(Flags::NEWLINE) {
        true => dollar_endonly(pattern),
        false => Cow::Borrowed(pattern),
    };
    match builder.build(&pattern) {
        // ap_regcomp always allows duplicate names; the verbs that may open a pattern stay in front.
        Err(e) if e.code() == ERROR_DUPLICATE_NAME => {
            let mut at = 0;
            while let Some(rest) = pattern.get(at..).filter(|rest| rest.starts_with("(*"))
                && let Some(end) = rest.find(')')
            {
                at += end + 1;
            }
            let (verbs, rest) = pattern.split_at(at);
            builder.build(&format!("{verbs}(?J){rest}"))
        }
        built => built,
    }
}

/// Writes each `$` that is an assertion as `\z`.
fn dollar_endonly(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains('$') || turns_multiline(pattern) {
        return Cow::Borrowed(pattern);
    }
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let len = match c {
            '\\' if rest.starts_with("\\Q") => rest.find("\\E").map_or(rest.len(), |end| end + 2),
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '[' => bracket_len(rest),
            '(' if rest.starts_with("(?#") || rest.starts_with("(*") => {
                rest.find(')').map_or(rest.len(), |end| end + 1)
            }
            '$' => {
                out.push_str("\\z");
                rest = &rest[1..];
                continue;
            }
            _ => c.len_utf8(),
        };
        let (head, tail) = rest.split_at(len);
        out.push_str(head);
        rest = tail;
    }
    Cow::Owned(out)
}

/// Whether an inline option such as `(?m)` or `(?im:` is somewhere in the pattern.
fn turns_multiline(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|options| {
        let end = options.find(|c: char| !(c.is_ascii_alphabetic() || c == '^')).unwrap_or(options.len());
        let (letters, after) = options.split_at(end);
        letters.contains('m') && after.starts_with([')', ':', '-'])
    })
}

/// Length of the character class that `text` starts with.
fn bracket_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    at += usize::from(bytes.get(at) == Some(&b'^'));
    at += usize::from(bytes.get(at) == Some(&b']'));
    while let Some(&c) = bytes.get(at) {
        match c {
            b']' => return at + 1,
            b'\\' if text[at..].starts_with("\\Q") => match text[at..].find("\\E") {
                Some(end) => at += end + 2,
                None => return text.len(),
            },
            b'\\' => at += 1 + text.get(at + 1..).and_then(|t| t.chars().next()).map_or(0, char::len_utf8),
            b'[' if matches!(bytes.get(at + 1), Some(b':' | b'.' | b'=')) => {
                match text[at + 2..].find(":]") {
                    Some(end) => at += 2 + end + 2,
                    None => at += 1,
                }
            }
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    text.len()
}

/// Where a match and its groups are in the subject: the `ap_regmatch_t`s. It owns no text, and allocates only for a
/// pattern of more than nine groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    first: [Option<(usize, usize)>; MAX_REG_MATCH],
    more: Vec<Option<(usize, usize)>>,
}

impl Captures {
    fn read(locations: &CaptureLocations) -> Captures {
        let mut first = [None; MAX_REG_MATCH];
        for (i, slot) in first.iter_mut().enumerate() {
            *slot = locations.get(i);
        }
        Captures { first, more: (MAX_REG_MATCH..locations.len()).map(|i| locations.get(i)).collect() }
    }

    /// Start and end of group `i` (0 is the whole match); none where the group took no part.
    pub fn get(&self, i: usize) -> Option<(usize, usize)> {
        self.first.get(i).or_else(|| self.more.get(i.checked_sub(MAX_REG_MATCH)?)).copied().flatten()
    }

    /// Start and end of the whole match.
    pub fn whole(&self) -> (usize, usize) {
        self.get(0).unwrap_or_default()
    }

    /// What group `i` captured of `subject`; empty where it took no part.
    pub fn text<'s>(&self, subject: &'s [u8], i: usize) -> &'s [u8] {
        self.get(i).and_then(|(start, end)| subject.get(start..end)).unwrap_or_default()
    }
}

/// A substitution would be longer than the caller allows (`APR_ENOMEM` of `ap_pregsub_ex`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the substitution is too long")
    }
}

impl std::error::Error for TooLong {}

/// Puts what was captured in place of `$0` to `$9` (`ap_pregsub`); a backslash takes the next character as it is.
pub fn substitute(template: &[u8], subject: &[u8], captures: &Captures) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(template.len() + 32);
    substitute_into(&mut out, template, subject, captures, PREGSUB_MAXLEN)?;
    Ok(out)
}

/// As [`substitute`], appended to `out`; fails when that takes `max` bytes or more (0: no limit), `out` then unchanged.
pub fn substitute_into(
    out: &mut Vec<u8>,
    template: &[u8],
    subject: &[u8],
    captures: &Captures,
    max: usize,
) -> Result<(), TooLong> {
    let before = out.len();
    let mut rest = template;
    while let Some((&c, tail)) = rest.split_first() {
        rest = tail;
        match (c, tail) {
            (b'$', [digit @ b'0'..=b'9', after @ ..]) => {
                rest = after;
                out.extend_from_slice(captures.text(subject, usize::from(digit - b'0')));
            }
            (b'\\', [escaped, after @ ..]) => {
                rest = after;
                out.push(*escaped);
            }
            _ => out.push(c),
        }
        if max > 0 && out.len() - before >= max {
            out.truncate(before);
            return Err(TooLong);
        }
    }
    Ok(())
}

/// A match or substitution written as Perl writes it (`ap_rxplus_t`): `m#regex#flags`, `/regex/flags`, `s/regex/text/flags`.
#[derive(Debug)]
pub struct RxPlus {
    regex: Regex,
    replacement: Option<Vec<u8>>,
    all: bool,
}

impl RxPlus {
    /// Reads and compiles it (`ap_rxplus_compile`); text without delimiters is a plain pattern. Flags: `i`, `m`, `s`, and
    /// `g` for every match; others are ignored.
    pub fn new(pattern: &str) -> Result<RxPlus, String> {
        let mut chars = pattern.chars();
        let (substitutes, delimiter) = match (chars.next(), chars.next()) {
            (Some(c), _) if !c.is_ascii_alphanumeric() => (false, Some((c, c.len_utf8()))),
            (Some(c @ ('s' | 'm')), Some(d)) if !d.is_ascii_alphanumeric() => {
                (c == 's', Some((d, 1 + d.len_utf8())))
            }
            _ => (false, None),
        };
        let parts = delimiter.and_then(|(c, len)| pattern.get(len..)?.split_once(c).map(|parts| (c, parts)));
        let Some((delimiter, (regex, mut rest))) = parts else {
            return Ok(RxPlus { regex: Regex::new(pattern, Flags::NONE)?, replacement: None, all: false });
        };
        let mut replacement = None;
        if substitutes {
            let (text, flags) =
                rest.split_once(delimiter).ok_or_else(|| "the replacement is not terminated".to_owned())?;
            replacement = Some(text.as_bytes().to_vec());
            rest = flags;
        }
        let mut flags = Flags::NO_DEFAULT;
        if default_flags().has(Flags::DOLLAR_ENDONLY) {
            flags = flags | Flags::DOLLAR_ENDONLY;
        }
        for c in rest.chars() {
            flags = match c {
                'i' => flags | Flags::ICASE,
                'm' => flags | Flags::NEWLINE,
                's' => flags | Flags::DOTALL,
                _ => flags,
            };
        }
        Ok(RxPlus { regex: Regex::new(regex, flags)?, replacement, all: rest.contains('g') })
    }

    /// The compiled pattern.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// The first match, whether or not there is a replacement.
    pub fn captures(&self, subject: &[u8]) -> Option<Captures> {
        self.regex.captures(subject)
    }

    /// The subject with its matches replaced (`ap_rxplus_exec`); none where nothing matches or there is no replacement.
    /// What follows a replaced match is a subject of its own: `^` may match there again, as in Apache.
    pub fn replace(&self, subject: &[u8]) -> Option<Vec<u8>> {
        let replacement = self.replacement.as_deref()?;
        let mut out = Vec::with_capacity(subject.len());
        let mut rest = subject;
        let mut replaced = false;
        while let Some(captures) = self.regex.captures(rest) {
            let (start, end) = captures.whole();
            let text = substitute(replacement, rest, &captures);
            let Ok(text) = text else { break };
            out.extend_from_slice(rest.get(..start).unwrap_or_default());
            out.extend_from_slice(&text);
            replaced = true;
            rest = rest.get(end..).unwrap_or_default();
            // Apache would recurse for ever on an empty match.
            if !self.all || end == start {
                break;
            }
        }
        out.extend_from_slice(rest);
        replaced.then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, flags: Flags, subject: &str) -> bool {
        Regex::new(pattern, flags).unwrap().is_match(subject.as_bytes())
    }

    #[test]
    fn default_options_are_dotall_and_dollar_endonly() {
        assert!(matches("a.b$", Flags::NONE, "a\nb"));
        assert!(!matches("a$", Flags::NONE, "a\n"));
        assert!(matches("a$", Flags::NO_DEFAULT, "a\n"));
        assert!(!matches("a.b", Flags::NO_DEFAULT, "a\nb"));
        assert!(matches("a$", Flags::NEWLINE, "a\nb"));
        assert!(matches("(?m)a$", Flags::NONE, "a\nb"));
        assert!(matches("(?im:A$)", Flags::NONE, "a\nb"));
    }

    #[test]
    fn only_the_assertion_is_rewritten() {
        for (pattern, rewritten) in [
            ("^a$|b$", "^a\\z|b\\z"),
            ("[$]", "[$]"),
            ("[]$]$", "[]$]\\z"),
            ("[^]$]x", "[^]$]x"),
            ("[[:alpha:]$]$", "[[:alpha:]$]\\z"),
            ("[\\]$]", "[\\]$]"),
            ("\\$$", "\\$\\z"),
            ("\\Qa$\\E$", "\\Qa$\\E\\z"),
            ("\\\\$", "\\\\\\z"),
            ("(?#$)$", "(?#$)\\z"),
            ("é$é", "é\\zé"),
            ("[é$", "[é$"),
        ] {
            assert_eq!(dollar_endonly(pattern), rewritten, "{pattern}");
        }
        assert!(Regex::new("a$?b", Flags::NONE).is_err() && Regex::new("a$?b", Flags::NO_DEFAULT).is_err());
        assert!(matches("(a|$)+", Flags::NONE, "x"));
    }

    #[test]
    fn names_and_duplicates() {
        let regex = Regex::new("^/(?<site>[^/]+)/(?<page>.*)", Flags::NONE).unwrap();
        assert_eq!(regex.names().collect::<Vec<_>>(), [(1, "site"), (2, "page")]);
        assert_eq!(regex.groups(), 2);
        let found = regex.captures(b"/a/b/c").unwrap();
        assert_eq!(found.text(b"/a/b/c", 2), b"b/c");
        let regex = Regex::new("(?<n>a)|(?<n>b)", Flags::NONE).unwrap();
        assert_eq!(regex.captures(b"b").unwrap().get(2), Some((0, 1)));
        assert!(Regex::new("(?<n>a)(", Flags::NONE).is_err());
    }

    #[test]
    fn many_groups_and_bytes() {
        let regex = Regex::new(&"(.)".repeat(12), Flags::NONE).unwrap();
        assert_eq!(regex.captures(b"abcdefghijkl").unwrap().get(12), Some((11, 12)));
        assert!(Regex::from_bytes(b"^\xe9[\xe0-\xff]$", Flags::NONE).unwrap().is_match(b"\xe9\xf0"));
        assert_eq!(Regex::new("^b", Flags::NONE).unwrap().captures_at(b"ab", 1), None);
    }

    #[test]
    fn a_subject_too_deep_for_the_jit_stack() {
        let regex = Regex::new("^(?:(a|b)c?)*$", Flags::NONE).unwrap();
        let long = b"ab".repeat(20_000);
        assert!(regex.is_match(&long));
        assert!(regex.captures(&long).is_some());
    }

    #[test]
    fn substitution() {
        let regex = Regex::new("(b)(x)?(c)", Flags::NONE).unwrap();
        let found = regex.captures(b"abcd").unwrap();
        let sub = |t: &str| String::from_utf8(substitute(t.as_bytes(), b"abcd", &found).unwrap()).unwrap();
        assert_eq!(sub("<$0|$1|$2|$3|$9>"), "<bc|b||c|>");
        assert_eq!(sub("&$a\\$1\\\\$"), "&$a$1\\$");
        assert_eq!(sub("x\\"), "x\\");
        assert_eq!(substitute(&[b'x'; PREGSUB_MAXLEN], b"abcd", &found), Err(TooLong));
        assert!(substitute(&[b'x'; PREGSUB_MAXLEN - 1], b"abcd", &found).is_ok());
    }

    #[test]
    fn perl_style() {
        let sub = |p: &str, s: &str| {
            RxPlus::new(p).unwrap().replace(s.as_bytes()).map(|v| String::from_utf8(v).unwrap())
        };
        assert_eq!(
            sub("s/^(!)?(\\w+)((=)(.+))?$/reqenv('$2')$1$4'$5'/", "!a=b"),
            Some("reqenv('a')!='b'".into())
        );
        assert_eq!(sub("s#a#b#", "aa"), Some("ba".into()));
        assert_eq!(sub("s#A#b#gi", "aXa"), Some("bXb".into()));
        assert_eq!(sub("s#x#b#", "aa"), None);
        assert_eq!(sub("m#x#", "x"), None);
        assert!(RxPlus::new("m#X#i").unwrap().captures(b"x").is_some());
        assert!(RxPlus::new("abc").unwrap().captures(b"abc").is_some());
        assert!(RxPlus::new("s/a/b").is_err());
    }
}
