//! What `encoding` and `decoding` do to a value, in `echo` and `set`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bstr::ByteSlice;

use super::expand::decode_html;
use super::parse::Element;
use crate::http::escape::{
    Unescape, escape_html, escape_urlencoded, os_escape_path, unescape_url, unescape_urlencoded,
};
use crate::log::{Level, rerror, shown};
use crate::request::Request;

/// What a list of codings does to a text; `Err`: the word that is none.
fn code(list: &[u8], mut text: Vec<u8>, one: fn(&[u8], &mut Vec<u8>) -> bool) -> Result<Vec<u8>, Vec<u8>> {
    for word in list.split(|c| b", \t".contains(c)).filter(|word| !word.is_empty()) {
        if !one(&word.to_ascii_lowercase(), &mut text) {
            return Err(word.to_vec());
        }
    }
    Ok(text)
}

fn decode(how: &[u8], text: &mut Vec<u8>) -> bool {
    match how {
        b"none" => {}
        b"url" => _ = unescape_url(text, Unescape::FORBID_SLASHES),
        b"urlencoded" => _ = unescape_urlencoded(text),
        b"entity" => *text = decode_html(text),
        b"base64" => *text = decode_base64(text),
        _ => return false,
    }
    true
}

/// Up to the first character that is none of base64's, as `apr_base64_decode`.
fn decode_base64(text: &[u8]) -> Vec<u8> {
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let is_digit = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    let mut digits = text.iter().take_while(|c| is_digit(c)).count();
    if digits % 4 == 1 {
        digits -= 1;
    }
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let mut out =
        GeneralPurpose::new(&alphabet::STANDARD, config).decode(&text[..digits]).unwrap_or_default();
    if let Some(nul) = out.find_byte(0) {
        out.truncate(nul);
    }
    out
}

fn encode(how: &[u8], text: &mut Vec<u8>) -> bool {
    let coded: Cow<'_, [u8]> = match how {
        b"none" => return true,
        b"url" => os_escape_path(text, true),
        b"urlencoded" => escape_urlencoded(text),
        b"entity" => escape_html(text),
        b"base64" => STANDARD.encode(&*text).into_bytes().into(),
        _ => return false,
    };
    *text = coded.into_owned();
    true
}

/// Decodes and encodes a value as the element says; `Err`: it was logged.
pub(super) fn recode(r: &Request, element: &Element, value: Vec<u8>, encoding: &[u8]) -> Result<Vec<u8>, ()> {
    let progress = &element.progress;
    let is_echo = &*element.name == b"echo";
    let say = |word: Vec<u8>, what: &str, number: &'static str| {
        let (word, name) = (shown(&word), shown(&element.name));
        rerror!(
            r,
            Level::Error,
            "include",
            number,
            "unknown value \"{word}\" to parameter \"{what}\" of tag {name} in {}",
            r.filename
        );
    };
    let decoded = code(progress.decoding.as_deref().unwrap_or(b"none"), value, decode);
    let number = if is_echo { "AH01344" } else { "AH01364" };
    let decoded = decoded.map_err(|word| say(word, "decoding", number))?;
    let encoding = progress.encoding.as_deref().unwrap_or(encoding);
    let number = if is_echo { "AH01345" } else { "AH01365" };
    code(encoding, decoded, encode).map_err(|word| say(word, "encoding", number))
}
