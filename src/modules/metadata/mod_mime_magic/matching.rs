//! Files held against the rules: `match`, `mget`, `mcheck`, `mprint`.

use super::Found;
use super::rules::{Rule, Type, VALUE};
use crate::http::date;
use crate::log::{Level, rerror};
use crate::os::clock;
use crate::request::Request;

/// `MAXMIMESTRING`
const LONGEST: usize = 256;

/// The descriptions of the first rule that matches, and of those below it.
pub(super) fn matches(r: &Request, rules: &[Rule], content: &[u8], found: &mut Found) -> bool {
    let mut rules = rules.iter().peekable();
    while let Some(rule) = rules.next() {
        let Some(value) = holds(r, rule, content) else {
            while rules.next_if(|below| below.level != 0).is_some() {}
            continue;
        };
        print(rule, &value, found);
        let mut separate = !rule.description.is_empty();
        // The level of the rules that may follow: one more than that of the last that matched.
        let mut level = 1;
        while let Some(below) = rules.next_if(|below| below.level != 0) {
            if level < below.level {
                continue;
            }
            level = below.level;
            let Some(value) = holds(r, below, content) else { continue };
            if separate && !below.joined && !below.description.is_empty() {
                found.push(b" ".to_vec());
                separate = false;
            }
            print(below, &value, found);
            separate |= !below.description.is_empty();
            level += 1;
        }
        return true;
    }
    false
}

/// What is found where a rule says, if it is what the rule says.
fn holds(r: &Request, rule: &Rule, content: &[u8]) -> Option<[u8; VALUE]> {
    let value = get(r, rule, content)?;
    check(r, rule, &value).then_some(value)
}

fn at(content: &[u8], offset: i64) -> Option<[u8; VALUE]> {
    let start = usize::try_from(offset).ok()?;
    content.get(start..start.checked_add(VALUE)?)?.try_into().ok()
}

fn get(r: &Request, rule: &Rule, content: &[u8]) -> Option<[u8; VALUE]> {
    let value = convert(r, rule, at(content, rule.offset)?)?;
    let Some((kind, more)) = rule.indirect else { return Some(value) };
    let offset = match kind {
        Type::Byte => i64::from(value[0]),
        Type::Short => i64::from(u16::from_le_bytes([value[0], value[1]])),
        _ => long(&value) as i64,
    };
    convert(r, rule, at(content, offset.wrapping_add(more))?)
}

/// The first eight bytes, as they lie in memory.
fn long(value: &[u8; VALUE]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Numbers in the order that this machine wants. A string ends with its line.
fn convert(r: &Request, rule: &Rule, mut value: [u8; VALUE]) -> Option<[u8; VALUE]> {
    let [a, b, c, d] = *value.first_chunk()?;
    // As C makes a long of an int.
    let mut set = |number: i32| value[..8].copy_from_slice(&i64::from(number).to_le_bytes());
    match rule.kind {
        Type::Byte | Type::Short | Type::Long | Type::Date | Type::LeShort => {}
        Type::String => {
            value[VALUE - 1] = 0;
            if let Some(end) = value.iter().position(|&byte| byte == b'\n' || byte == 0)
                && value[end] == b'\n'
            {
                value[end] = 0;
            }
        }
        Type::BeShort => value[..2].copy_from_slice(&[b, a]),
        Type::BeLong | Type::BeDate => set(i32::from_be_bytes([a, b, c, d])),
        Type::LeLong | Type::LeDate => set(i32::from_le_bytes([a, b, c, d])),
        Type::Invalid => {
            rerror!(
                r,
                Level::Error,
                "mime_magic",
                "AH01538",
                "mod_mime_magic: invalid type 0 in mconvert()."
            );
            return None;
        }
    }
    Some(value)
}

/// The number in a value, without what its mask leaves out.
fn number(rule: &Rule, value: &[u8; VALUE]) -> u64 {
    let number = match rule.kind {
        Type::Byte => u64::from(value[0]),
        Type::Short | Type::BeShort | Type::LeShort => u64::from(u16::from_le_bytes([value[0], value[1]])),
        _ => long(value),
    };
    rule.extend(number) & rule.mask
}

fn check(r: &Request, rule: &Rule, value: &[u8; VALUE]) -> bool {
    // A number whose bytes are those of the string is met by this, too.
    if rule.value[..2] == *b"x\0" {
        rerror!(r, Level::Error, "mime_magic", "AH01539", "mod_mime_magic: BOINK");
        return true;
    }
    let (have, want) = match rule.kind {
        Type::String => {
            let differ = value.iter().zip(&rule.value[..rule.length]).find(|(have, want)| have != want);
            let distance = differ.map_or(0, |(have, want)| i64::from(*have) - i64::from(*want));
            (distance as u64 & rule.mask, 0)
        }
        _ => (number(rule, value), long(&rule.value)),
    };
    match rule.relation {
        b'x' => true,
        b'!' => have != want,
        b'=' => have == want,
        b'>' if rule.unsigned => have > want,
        b'>' => have as i64 > want as i64,
        b'<' if rule.unsigned => have < want,
        b'<' => (have as i64) < want as i64,
        b'&' => have & want == want,
        b'^' => have & want != want,
        _ => false,
    }
}

fn print(rule: &Rule, value: &[u8; VALUE], found: &mut Found) {
    let string = |bytes: &[u8]| bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
    let argument = match rule.kind {
        Type::String if rule.relation == b'=' => Argument::Text(string(&rule.value)),
        Type::String => Argument::Text(string(value)),
        Type::Date | Type::BeDate | Type::LeDate => {
            let secs = long(value) as i64;
            Argument::Text(date::ctime(secs, clock::local_offset(secs)).to_vec())
        }
        _ => Argument::Number(number(rule, value)),
    };
    let mut text = format(&rule.description, &argument);
    text.truncate(LONGEST - 1);
    found.push(text);
}

/// What a description's `%` stands for.
enum Argument {
    Text(Vec<u8>),
    Number(u64),
}

/// `printf` with one argument. What asks for a second one, or for one of the other kind, gets nothing.
fn format(description: &[u8], argument: &Argument) -> Vec<u8> {
    let mut out = Vec::new();
    let mut argument = Some(argument);
    let mut rest = description;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let flags = rest.iter().take_while(|byte| b"-+ #0123456789.".contains(byte)).count();
        let (flags, behind) = rest.split_at(flags);
        let longs = behind.iter().take_while(|byte| matches!(byte, b'l' | b'h')).count();
        let wide = behind[..longs].contains(&b'l');
        let Some((&conversion, behind)) = behind[longs..].split_first() else { break };
        rest = behind;
        let text = match (conversion, argument.take_if(|_| conversion != b'%')) {
            (b'%', _) => b"%".to_vec(),
            (b's', Some(Argument::Text(text))) => text.clone(),
            (kind, Some(&Argument::Number(number))) => {
                let narrow = number as u32;
                match (kind, wide) {
                    (b'd' | b'i', true) => (number as i64).to_string().into_bytes(),
                    (b'd' | b'i', false) => (number as i32).to_string().into_bytes(),
                    (b'u', true) => number.to_string().into_bytes(),
                    (b'u', false) => narrow.to_string().into_bytes(),
                    (b'x', _) => format!("{:x}", if wide { number } else { narrow.into() }).into_bytes(),
                    (b'X', _) => format!("{:X}", if wide { number } else { narrow.into() }).into_bytes(),
                    (b'o', _) => format!("{:o}", if wide { number } else { narrow.into() }).into_bytes(),
                    (b'c', _) => vec![number as u8],
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        };
        pad(&mut out, flags, &text, conversion);
    }
    out
}

/// Width and precision.
fn pad(out: &mut Vec<u8>, flags: &[u8], text: &[u8], conversion: u8) {
    let left = flags.contains(&b'-');
    let plain = flags.iter().position(|byte| !b"-+ #0".contains(byte)).unwrap_or(flags.len());
    let zero = flags[..plain].contains(&b'0') && !left && conversion != b's';
    let digits = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<usize>().ok();
    let mut parts = flags[plain..].splitn(2, |&byte| byte == b'.');
    let width = parts.next().and_then(digits).unwrap_or(0).min(LONGEST);
    let most = parts.next().map(|precision| digits(precision).unwrap_or(0));
    let text = match most {
        Some(most) if conversion == b's' => &text[..text.len().min(most)],
        _ => text,
    };
    let padding = width.saturating_sub(text.len());
    if !left {
        out.extend(std::iter::repeat_n(if zero { b'0' } else { b' ' }, padding));
    }
    out.extend_from_slice(text);
    if left {
        out.extend(std::iter::repeat_n(b' ', padding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions() {
        let number =
            |text: &str, number| String::from_utf8(format(text.as_bytes(), &Argument::Number(number)));
        assert_eq!(number("a/v%d", 3).as_deref(), Ok("a/v3"));
        assert_eq!(number("a/%03ld%%%s", 7).as_deref(), Ok("a/007%"));
        assert_eq!(number("%x%", 255).as_deref(), Ok("ff"));
        assert_eq!(number("%d", u64::MAX).as_deref(), Ok("-1"));
        let text = Argument::Text(b"abc".to_vec());
        assert_eq!(format(b"x/%s", &text), b"x/abc");
        assert_eq!(format(b"x/%.2s|%-5d|", &text), b"x/ab|     |");
    }
}
