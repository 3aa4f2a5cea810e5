//! Bytes of a configuration file as `str`, without loss.
//!
//! Apache does not care about the encoding of its configuration. A byte that is no part of valid UTF-8
//! becomes the private-use character U+F700 + byte (0x80 to 0xFF), and a character of that very range that
//! stands in the file is taken as its three bytes, so that [`to_bytes`] is exact.

use std::borrow::Cow;

const BASE: u32 = 0xF700;

/// The text that stands for `bytes`.
pub fn from_bytes(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !has_stand_in(text) => Cow::Borrowed(text),
        _ => Cow::Owned(decode(bytes)),
    }
}

/// The bytes that `text` stands for.
pub fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    if !has_stand_in(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match stand_in(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// Length in bytes of what `text` stands for.
pub(crate) fn len_in_bytes(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { to_bytes(text).len() }
}

fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if stand_in(c).is_some() {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| text.push(as_char(b)));
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&b| text.push(as_char(b)));
    }
    text
}

fn as_char(byte: u8) -> char {
    char::from_u32(BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn stand_in(c: char) -> Option<u8> {
    u32::from(c).checked_sub(BASE).and_then(|n| u8::try_from(n).ok()).filter(|b| *b >= 0x80)
}

/// U+F780 to U+F7FF are EF 9E 80 to EF 9F BF.
fn has_stand_in(text: &str) -> bool {
    !text.is_ascii() && text.as_bytes().windows(2).any(|w| w[0] == 0xEF && (w[1] == 0x9E || w[1] == 0x9F))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_comes_back() {
        for bytes in [
            &b"plain"[..],
            "grün".as_bytes(),
            b"\xff\xfe a \x80",
            "\u{F7E9}\u{F700}\u{F800}".as_bytes(),
            b"\xEF\x9E",
        ] {
            assert_eq!(to_bytes(&from_bytes(bytes)), bytes);
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(to_bytes(&from_bytes(&all)), all);
        assert_eq!(from_bytes(b"a\xe9b"), "a\u{F7E9}b");
        assert_eq!(len_in_bytes("a\u{F7E9}b"), 3);
    }
}
