//! Lists of media types, languages, charsets and codings with their qualities: `Accept` and its kin (RFC 9110 12.5), and
//! the same text in type maps.

use bstr::BString;

use super::variant::{INCLUDES_MAGIC_TYPE, INCLUDES_MAGIC_TYPE3};

/// One item of such a list: `accept_rec`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Accept {
    /// In lower case.
    pub name: BString,
    /// `q`, or `qs`.
    pub quality: f32,
    /// `level` of a media type.
    pub level: f32,
    /// `charset` of a media type.
    pub charset: BString,
}

pub(super) fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

pub(super) fn skip_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&c| !is_space(c)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Takes a token off `line`, up to `;` or `,` or (unless `accept_white`) white space, quoted strings in one piece; and the
/// white space behind it: `ap_get_token`.
pub(super) fn get_token<'t>(line: &mut &'t [u8], accept_white: bool) -> &'t [u8] {
    let text = skip_space(line);
    let mut end = 0;
    let mut in_quotes = false;
    for &c in text {
        if c == b'"' {
            in_quotes = !in_quotes;
        } else if !in_quotes && (c == b';' || c == b',' || !accept_white && is_space(c)) {
            break;
        }
        end += 1;
    }
    let (token, rest) = text.split_at(end);
    *line = skip_space(rest);
    token
}

/// A quality with at most three digits; what is no quality counts as 1: `atoq`.
fn quality(text: &[u8]) -> f32 {
    let text = skip_space(text);
    let fraction = match text {
        [b'.', fraction @ ..] | [b'0', b'.', fraction @ ..] => fraction,
        [b'0', ..] => return 0.0,
        _ => return 1.0,
    };
    let mut thousandths = 0u16;
    for (place, digit) in [100, 10, 1].into_iter().zip(fraction) {
        if !digit.is_ascii_digit() {
            break;
        }
        thousandths += place * u16::from(digit - b'0');
    }
    f32::from(thousandths) / 1000.0
}

fn integer(text: &[u8]) -> f32 {
    let text = skip_space(text);
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1.0, digits),
        [b'+', digits @ ..] => (1.0, digits),
        digits => (1.0, digits),
    };
    let number = digits
        .iter()
        .take_while(|c| c.is_ascii_digit())
        .fold(0i32, |n, c| n.saturating_mul(10).saturating_add(i32::from(c - b'0')));
    sign * number as f32
}

/// Takes one item with its parameters off `line`: `get_entry`.
pub(super) fn get_entry(line: &mut &[u8]) -> Accept {
    let name = get_token(line, false).to_ascii_lowercase();
    // HTML is of level 2 unless something else is said.
    let level = match name.as_slice() {
        b"text/html" => 2.0,
        name if name == INCLUDES_MAGIC_TYPE.as_bytes() => 2.0,
        name if name == INCLUDES_MAGIC_TYPE3.as_bytes() => 3.0,
        _ => 0.0,
    };
    let mut entry = Accept { name: name.into(), quality: 1.0, level, charset: BString::default() };
    while let [b';', rest @ ..] = *line {
        *line = rest;
        let parameter = get_token(line, true);
        let end = parameter.iter().position(|&c| is_space(c) || c == b'=');
        let Some((name, value)) = end.map(|end| parameter.split_at(end)) else { continue };
        let start = value.iter().position(|&c| !is_space(c) && c != b'=').unwrap_or(value.len());
        let value = value.get(start..).unwrap_or_default();
        let value = match value {
            [b'"', inner @ ..] => {
                inner.split(|c| matches!(c, b'"' | b'\n' | b'\r')).next().unwrap_or_default()
            }
            plain => plain.split(|&c| is_space(c)).next().unwrap_or_default(),
        };
        match name.to_ascii_lowercase().as_slice() {
            b"q" | b"qs" => entry.quality = quality_or_one(value),
            b"level" => entry.level = integer(value),
            b"charset" => entry.charset = value.to_ascii_lowercase().into(),
            _ => {}
        }
    }
    if let [b',', rest @ ..] = *line {
        *line = rest;
    }
    entry
}

fn quality_or_one(value: &[u8]) -> f32 {
    if value.is_empty() { 1.0 } else { quality(value) }
}

/// A whole field: `do_header_line`. `None` where the field is missing.
pub(super) fn header_line(line: Option<&[u8]>) -> Option<Vec<Accept>> {
    let mut rest = line?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        items.push(get_entry(&mut rest));
    }
    Some(items)
}

/// The languages of a type map: `do_languages_line`.
pub(super) fn languages_line(line: &[u8]) -> Vec<String> {
    let mut rest = line;
    let mut languages = Vec::new();
    while !rest.is_empty() {
        let token = get_token(&mut rest, false).to_ascii_lowercase();
        languages.push(String::from_utf8_lossy(&token).into_owned());
        if let [b',' | b';', after @ ..] = rest {
            rest = after;
        }
    }
    languages
}

/// What the `Accept` fields of a request say.
#[derive(Default)]
pub(super) struct Accepts {
    pub types: Option<Vec<Accept>>,
    pub encodings: Option<Vec<Accept>>,
    pub languages: Option<Vec<Accept>>,
    pub charsets: Option<Vec<Accept>>,
    /// A media type has a quality below 1: the client knows how to use them.
    pub has_q: bool,
}

/// What `Negotiate` says (RFC 2295 8.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Negotiate {
    pub dont_fiddle: bool,
    pub supports_transparent: bool,
    pub send_alternates: bool,
    pub may_choose: bool,
    pub use_rvsa: bool,
}

impl Default for Negotiate {
    fn default() -> Self {
        Negotiate {
            dont_fiddle: false,
            supports_transparent: false,
            send_alternates: false,
            may_choose: true,
            use_rvsa: false,
        }
    }
}

impl Negotiate {
    /// Reads the field: `parse_negotiate_header`.
    pub(super) fn parse(field: Option<&[u8]>, user_agent: Option<&[u8]>) -> Negotiate {
        let mut negotiate = Negotiate::default();
        let Some(field) = field else { return negotiate };
        // Lynx says so without meaning it.
        if field == b"trans" && user_agent.is_some_and(|ua| ua.starts_with(b"Lynx")) {
            return negotiate;
        }
        negotiate.may_choose = false;
        for token in field.split(|&c| c == b',') {
            let token = token.trim_ascii().to_ascii_lowercase();
            let known = matches!(token.as_slice(), b"trans" | b"vlist" | b"guess-small" | b"*");
            if !known && !token.first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            negotiate.supports_transparent = true;
            negotiate.send_alternates = true;
            if token == b"1.0" {
                negotiate.may_choose = true;
                negotiate.use_rvsa = true;
                negotiate.dont_fiddle = true;
            } else if token == b"*" {
                negotiate.may_choose = true;
                negotiate.dont_fiddle = true;
            }
        }
        negotiate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities() {
        for (text, q) in [
            ("0.5", 0.5),
            (".25", 0.25),
            ("0", 0.0),
            ("0.1234", 0.123),
            ("1", 1.0),
            ("x", 1.0),
            ("0.", 0.0),
            ("00.5", 0.0),
        ] {
            assert_eq!(quality(text.as_bytes()), q, "{text}");
        }
    }

    #[test]
    fn items_with_parameters() {
        let all = header_line(Some(
            b"Text/HTML;Level=3; q=0.7, text/plain text/x;qs=.2;charset=\"UTF-8\"; odd,*/*",
        ))
        .unwrap();
        let names: Vec<&[u8]> = all.iter().map(|a| a.name.as_slice()).collect();
        assert_eq!(names, [&b"text/html"[..], b"text/plain", b"text/x", b"*/*"]);
        assert_eq!((all[0].level, all[0].quality), (3.0, 0.7));
        assert_eq!(all[2].charset, "utf-8");
        assert_eq!(all[2].quality, 0.2);
        assert_eq!(header_line(Some(b"")).unwrap().len(), 0);
        assert!(header_line(None).is_none());
        assert_eq!(languages_line(b"en, De;fr"), ["en", "de", "fr"]);
    }

    #[test]
    fn transparent_negotiation() {
        assert_eq!(Negotiate::parse(None, None), Negotiate::default());
        assert_eq!(Negotiate::parse(Some(b"trans"), Some(b"Lynx/2.8")), Negotiate::default());
        let trans = Negotiate::parse(Some(b"trans"), None);
        assert!(trans.supports_transparent && trans.send_alternates && !trans.may_choose);
        let rvsa = Negotiate::parse(Some(b"trans, 1.0"), None);
        assert!(rvsa.use_rvsa && rvsa.may_choose && rvsa.dont_fiddle);
        assert!(!Negotiate::parse(Some(b""), None).may_choose);
    }
}
