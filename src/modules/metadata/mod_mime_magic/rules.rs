//! The language of the magic file, which is that of an old file(1).

use crate::text::{is_space, trimmed};

/// `MAXDESC`, `MAXstring`, `BUFSIZ`: one less counts.
const LONGEST_DESCRIPTION: usize = 50;
const LONGEST_STRING: usize = 64;
const LONGEST_LINE: usize = 8191;

/// What is compared, as it lies in the file and as it is written.
pub(super) const VALUE: usize = LONGEST_STRING;

/// The type of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Byte,
    Short,
    Long,
    String,
    Date,
    BeShort,
    BeLong,
    BeDate,
    LeShort,
    LeLong,
    LeDate,
    /// A rule that could not be read: it never matches.
    Invalid,
}

/// The names, in the order in which they are looked for.
const TYPES: [(&str, Type); 11] = [
    ("byte", Type::Byte),
    ("short", Type::Short),
    ("long", Type::Long),
    ("string", Type::String),
    ("date", Type::Date),
    ("beshort", Type::BeShort),
    ("belong", Type::BeLong),
    ("bedate", Type::BeDate),
    ("leshort", Type::LeShort),
    ("lelong", Type::LeLong),
    ("ledate", Type::LeDate),
];

/// One rule: a line of the file.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// How many `>` stand before it.
    pub level: usize,
    pub offset: i64,
    /// `>(…)`: what is found there leads to the offset.
    pub indirect: Option<(Type, i64)>,
    pub unsigned: bool,
    pub kind: Type,
    pub mask: u64,
    /// `=`, `!`, `>`, `<`, `&`, `^`, or `x` for anything.
    pub relation: u8,
    pub value: [u8; VALUE],
    /// The length of a string.
    pub length: usize,
    /// No blank before the description.
    pub joined: bool,
    pub description: Vec<u8>,
}

impl Rule {
    /// The sign of a number of this type: `signextend`.
    pub fn extend(&self, value: u64) -> u64 {
        match self.kind {
            _ if self.unsigned => value,
            Type::Byte => value as i8 as u64,
            Type::Short | Type::BeShort | Type::LeShort => value as i16 as u64,
            _ => value,
        }
    }
}

/// The rules of a file, and whether all of them could be read. Whoever calls is told what is wrong.
pub(super) fn parse(content: &[u8], complain: &dyn Fn(&str, String)) -> (Vec<Rule>, bool) {
    let mut rules = Vec::new();
    let mut whole = true;
    let pieces = content.split(|&byte| byte == b'\n').flat_map(|line| line.chunks(LONGEST_LINE));
    for line in pieces {
        let line = trimmed(line.split(|&byte| byte == 0).next().unwrap_or_default());
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let (rule, valid) = parse_rule(line, complain);
        rules.push(rule);
        whole &= valid;
    }
    (rules, whole)
}

/// What is left of a line.
struct Rest<'l>(&'l [u8]);

impl Rest<'_> {
    fn peek(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is = self.0.first() == Some(&byte);
        if is {
            self.skip(1);
        }
        is
    }

    fn eat_space(&mut self) {
        self.skip(self.0.iter().take_while(|&&byte| is_space(byte)).count());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }

    /// `strtol` with base 0: decimal, `0x` and octal numbers. `None`: there is none, and nothing is skipped.
    fn number(&mut self) -> Option<i64> {
        let text = self.0;
        let mut at = text.iter().take_while(|&&byte| is_space(byte)).count();
        let sign = text.get(at).copied();
        at += usize::from(matches!(sign, Some(b'+' | b'-')));
        let hex = matches!(text.get(at..at + 2), Some(b"0x" | b"0X"))
            && text.get(at + 2).is_some_and(u8::is_ascii_hexdigit);
        let base = match text.get(at) {
            _ if hex => 16,
            Some(b'0') => 8,
            _ => 10,
        };
        at += if hex { 2 } else { 0 };
        let digits = &text[at.min(text.len())..];
        let count = digits.iter().take_while(|&&byte| char::from(byte).is_digit(base)).count();
        if count == 0 {
            return None;
        }
        let mut number: i128 = 0;
        for &digit in &digits[..count] {
            let digit = char::from(digit).to_digit(base).unwrap_or(0);
            number = (number * i128::from(base) + i128::from(digit)).min(i128::from(u64::MAX));
        }
        if sign == Some(b'-') {
            number = -number;
        }
        self.skip(at + count);
        Some(number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

fn parse_rule(line: &[u8], complain: &dyn Fn(&str, String)) -> (Rule, bool) {
    let mut rule = Rule {
        level: 0,
        offset: 0,
        indirect: None,
        unsigned: false,
        kind: Type::Invalid,
        mask: u64::MAX,
        relation: 0,
        value: [0; VALUE],
        length: 0,
        joined: false,
        description: Vec::new(),
    };
    let mut rest = Rest(line);
    while rest.eat(b'>') {
        rule.level += 1;
    }
    let indirect = rule.level > 0 && rest.eat(b'(');
    match rest.number() {
        Some(offset) => rule.offset = i64::from(offset as i32),
        None => complain("AH01521", format!("offset {} invalid", rest.text())),
    }
    if indirect {
        rule.indirect = Some(parse_indirection(&mut rest, complain));
    }
    rest.skip(rest.0.iter().take_while(|byte| byte.is_ascii_digit()).count());
    rest.eat_space();
    rule.unsigned = rest.eat(b'u');
    let Some((name, kind)) = TYPES.iter().find(|(name, _)| rest.0.starts_with(name.as_bytes())) else {
        complain("AH01524", format!("type {} invalid", rest.text()));
        return (rule, false);
    };
    rule.kind = *kind;
    rest.skip(name.len());
    if rest.eat(b'&') {
        rule.mask = rule.extend(rest.number().unwrap_or(0) as u64);
    }
    rest.eat_space();
    rule.relation = match rest.peek() {
        relation @ (b'>' | b'<' | b'&' | b'^' | b'=') => {
            rest.skip(1);
            relation
        }
        b'!' if rule.kind != Type::String => {
            rest.skip(1);
            b'!'
        }
        b'x' if rest.0.get(1).is_some_and(|&byte| is_space(byte)) => {
            rest.skip(1);
            b'x'
        }
        _ => b'=',
    };
    if rule.relation != b'x' {
        rest.eat_space();
        if rule.kind == Type::String {
            rule.length = parse_string(&mut rest, &mut rule.value, complain);
        } else {
            let value = rule.extend(rest.number().unwrap_or(0) as u64);
            rule.value[..8].copy_from_slice(&value.to_le_bytes());
        }
    }
    rest.eat_space();
    if rest.eat(0x08) {
        rule.joined = true;
    } else if rest.0.starts_with(b"\\b") {
        rest.skip(2);
        rule.joined = true;
    }
    rule.description = rest.0[..rest.0.len().min(LONGEST_DESCRIPTION - 1)].to_vec();
    (rule, true)
}

/// `[.lbs][+-]number)`
fn parse_indirection(rest: &mut Rest, complain: &dyn Fn(&str, String)) -> (Type, i64) {
    let mut kind = Type::Long;
    if rest.eat(b'.') {
        match rest.peek() {
            b'l' => kind = Type::Long,
            b's' => kind = Type::Short,
            b'b' => kind = Type::Byte,
            other => {
                complain("AH01522", format!("indirect offset type {} invalid", char::from(other)));
            }
        }
        rest.skip(1);
    }
    let negative = rest.peek() == b'-';
    if matches!(rest.peek(), b'+' | b'-') {
        rest.skip(1);
    }
    let mut offset = 0;
    if rest.peek().is_ascii_digit() {
        offset = rest.number().unwrap_or(0);
        if negative {
            offset = -offset;
        }
    }
    if rest.peek() != b')' {
        complain("AH01523", "missing ')' in indirect offset".to_owned());
    }
    rest.skip(1);
    (kind, offset)
}

/// A string with C's escapes, up to a blank, which is taken, too; its length.
fn parse_string(rest: &mut Rest, value: &mut [u8; VALUE], complain: &dyn Fn(&str, String)) -> usize {
    let whole = rest.text();
    let mut length = 0;
    while let Some(&byte) = rest.0.first() {
        rest.skip(1);
        if is_space(byte) {
            break;
        }
        if length >= LONGEST_STRING - 1 {
            complain("AH01526", format!("string too long: {whole}"));
            break;
        }
        value[length] = match byte {
            b'\\' => match rest.0.first() {
                None => break,
                Some(&escaped) => {
                    rest.skip(1);
                    escape(escaped, rest)
                }
            },
            byte => byte,
        };
        length += 1;
    }
    length
}

fn escape(escaped: u8, rest: &mut Rest) -> u8 {
    let mut digits = |base: u32, first: Option<u32>| {
        let mut value = first;
        let most = if first.is_some() { 2 } else { 3 };
        for _ in 0..most {
            let Some(digit) = char::from(rest.peek()).to_digit(base) else { break };
            value = Some(value.unwrap_or(0) * base + digit);
            rest.skip(1);
        }
        value
    };
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b'b' => 0x08,
        b't' => b'\t',
        b'f' => 0x0c,
        b'v' => 0x0b,
        b'0'..=b'7' => digits(8, Some(u32::from(escaped - b'0'))).unwrap_or(0) as u8,
        b'x' => digits(16, None).unwrap_or(u32::from(b'x')) as u8,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn one(line: &str) -> (Rule, Vec<String>) {
        let log = RefCell::new(Vec::new());
        let (mut rules, _) =
            parse(line.as_bytes(), &|ah, text| log.borrow_mut().push(format!("{ah} {text}")));
        (rules.remove(0), log.into_inner())
    }

    #[test]
    fn a_line() {
        let (rule, log) = one(">>10\tubeshort&0xff00\t>0x1200\t\\btext/x");
        assert!(log.is_empty());
        assert_eq!((rule.level, rule.offset, rule.kind, rule.relation), (2, 10, Type::BeShort, b'>'));
        assert_eq!((rule.unsigned, rule.mask, rule.joined), (true, 0xff00, true));
        assert_eq!(rule.description, b"text/x");
        assert_eq!(&rule.value[..2], [0, 0x12]);
    }

    #[test]
    fn strings_and_indirections() {
        let (rule, _) = one("0 string \\<?a\\040\\x41\\n\\z\ttext/xml");
        assert_eq!((&rule.value[..rule.length], &rule.description[..]), (&b"<?a A\nz"[..], &b"text/xml"[..]));
        let (rule, _) = one(">(4.s+0x10) byte x any");
        assert_eq!((rule.indirect, rule.relation), (Some((Type::Short, 16)), b'x'));
        let (rule, _) = one("0 byte -1 a");
        assert_eq!(rule.value[..8], u64::MAX.to_le_bytes());
    }

    #[test]
    fn complaints() {
        assert_eq!(
            one("x byte 1 a").1,
            ["AH01521 offset x byte 1 a invalid", "AH01524 type x byte 1 a invalid"]
        );
        assert_eq!(one("0 foo 1 a").1, ["AH01524 type foo 1 a invalid"]);
        assert_eq!(one(">(4.q byte 1 a").1.len(), 2);
        assert!(parse(b"\n# x\n\0", &|_, _| {}).1);
    }
}
