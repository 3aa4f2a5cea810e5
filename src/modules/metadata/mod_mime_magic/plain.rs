//! Texts by the words in them, and archives of tar: `ascmagic`, `is_tar`.

use super::Found;
use crate::text::is_space;

/// How much of a text is looked at: `SMALL_HOWMANY`.
const LOOKED_AT: usize = 1024;

const HTML: &str = "text/html";
const PLAIN: &str = "text/plain";
const MAIL: &str = "message/rfc822";
const NEWS: &str = "message/news";

/// The words that tell, and of what.
const WORDS: [(&str, &str); 40] = [
    ("<html>", HTML),
    ("<HTML>", HTML),
    ("<head>", HTML),
    ("<HEAD>", HTML),
    ("<title>", HTML),
    ("<TITLE>", HTML),
    ("<h1>", HTML),
    ("<H1>", HTML),
    ("<!--", HTML),
    // Never met: it is no single word.
    ("<!DOCTYPE HTML", HTML),
    ("/*", PLAIN),
    ("#include", PLAIN),
    ("char", PLAIN),
    ("The", PLAIN),
    ("the", PLAIN),
    ("double", PLAIN),
    ("extern", PLAIN),
    ("float", PLAIN),
    ("real", PLAIN),
    ("struct", PLAIN),
    ("union", PLAIN),
    ("CFLAGS", PLAIN),
    ("LDFLAGS", PLAIN),
    ("all:", PLAIN),
    (".PRECIOUS", PLAIN),
    (".ascii", PLAIN),
    (".asciiz", PLAIN),
    (".byte", PLAIN),
    (".even", PLAIN),
    (".globl", PLAIN),
    ("clr", PLAIN),
    ("(input,", PLAIN),
    ("dcl", PLAIN),
    ("Received:", MAIL),
    (">From", MAIL),
    ("Return-Path:", MAIL),
    ("Cc:", MAIL),
    ("Newsgroups:", NEWS),
    ("Path:", NEWS),
    ("Organization:", NEWS),
];

pub(super) fn matches(content: &[u8], found: &mut Found) -> bool {
    let byte = |at: usize| content.get(at).copied().unwrap_or(0);
    if byte(0) == b'.' {
        let start = 1 + content[1..].iter().take_while(|&&byte| is_space(byte)).count();
        let (first, second) = (byte(start), byte(start + 1));
        if (first.is_ascii_alphanumeric() || first == b'\\')
            && (second.is_ascii_alphanumeric() || first == b'"')
        {
            found.push(b"application/x-troff".to_vec());
            return true;
        }
    }
    if matches!(byte(0), b'c' | b'C') && is_space(byte(1)) {
        found.push(PLAIN.into());
        return true;
    }
    let small = &content[..content.len().min(LOOKED_AT)];
    let text = small.split(|&byte| byte == 0).next().unwrap_or_default();
    for token in text.split(|byte| b" \t\n\r\x0c".contains(byte)) {
        if let Some((_, media_type)) = WORDS.iter().find(|(word, _)| word.as_bytes() == token) {
            found.push(media_type.as_bytes().to_vec());
            if small.contains(&0x1b) {
                found.push(b" (with escape sequences)".to_vec());
            }
            return true;
        }
    }
    if is_tar(content) {
        found.push(b"application/x-tar".to_vec());
        return true;
    }
    false
}

/// A tar archive begins with a record whose checksum is right.
fn is_tar(content: &[u8]) -> bool {
    let Some(record) = content.get(..512) else { return false };
    let field = &record[148..156];
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    // The field itself counts as blanks.
    octal(field) == Some(sum(record) - sum(field) + 8 * i64::from(b' '))
}

/// An octal number, after blanks, before a blank or NUL.
fn octal(field: &[u8]) -> Option<i64> {
    let start = field.iter().position(|&byte| !is_space(byte))?;
    let digits = field[start..].iter().take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let (digits, behind) = field[start..].split_at(digits);
    if behind.first().is_some_and(|&byte| byte != 0 && !is_space(byte)) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number << 3 | i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> String {
        let mut found = Found::new();
        matches(content, &mut found);
        String::from_utf8(found.concat()).unwrap()
    }

    #[test]
    fn words() {
        assert_eq!(of(b"this is the end"), "text/plain");
        assert_eq!(of(b"<html>\n"), "text/html");
        assert_eq!(of(b".TH x"), "application/x-troff");
        assert_eq!(of(b"c comment"), "text/plain");
        assert_eq!(of(b"Received: \x1b[1m"), "message/rfc822 (with escape sequences)");
        assert_eq!(of(b"\x01\x02"), "");
        assert_eq!(of(b""), "");
    }

    #[test]
    fn checksums() {
        assert_eq!(octal(b"  17 \0\0\0"), Some(15));
        assert_eq!(octal(b"        "), None);
        assert_eq!(octal(b"18      "), None);
        assert!(!is_tar(&[0; 512]));
    }
}
