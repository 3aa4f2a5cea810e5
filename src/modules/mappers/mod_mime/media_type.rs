//! Media types and their parameters, as `analyze_ct` of `mod_mime.c` reads them (RFC 9110 8.3.1, more or less).

use crate::text::SharedStr;

/// A media type of the configuration, as written and in its canonical form.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaType {
    text: SharedStr,
    /// `None` when it can't be read; a request then logs why.
    canonical: Option<SharedStr>,
}

impl MediaType {
    /// Reads `text`.
    pub fn new(text: &str) -> MediaType {
        let shared = SharedStr::from(text.to_owned());
        let canonical = match canonical(text, None) {
            Ok(same) if same == text => Some(shared.clone()),
            Ok(other) => Some(other.into()),
            Err(_) => None,
        };
        MediaType { text: shared, canonical }
    }

    /// As it is written.
    pub fn text(&self) -> &SharedStr {
        &self.text
    }

    /// Without needless white space.
    pub fn canonical(&self) -> Option<&SharedStr> {
        self.canonical.as_ref()
    }

    /// True for the empty text of `RemoveType`.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Why a media type can't be read.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub ah: &'static str,
    pub text: String,
}

fn wrong(ah: &'static str, text: impl Into<String>) -> Wrong {
    Wrong { ah, text: text.into() }
}

const PARAMETER: &str = "Cannot get media parameter.";

/// `type/subtype; name=value`, with `charset` in place of the parameter of that name, or behind all others.
pub(super) fn canonical(text: &str, charset: Option<&str>) -> Result<String, Wrong> {
    let (name, parameters) = analyze(text)?;
    let mut out = name;
    let mut placed = false;
    for (attribute, value) in parameters {
        match charset {
            Some(charset) if attribute == "charset" => {
                if !placed {
                    push(&mut out, "charset", charset);
                    placed = true;
                }
            }
            _ => push(&mut out, attribute, value),
        }
    }
    if let Some(charset) = charset.filter(|_| !placed) {
        push(&mut out, "charset", charset);
    }
    Ok(out)
}

fn push(out: &mut String, attribute: &str, value: &str) {
    out.push_str("; ");
    out.push_str(attribute);
    out.push('=');
    out.push_str(value);
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| u8::try_from(c).is_ok_and(is_space))
}

fn is_token(c: u8) -> bool {
    c.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&c)
}

type Parameters<'t> = Vec<(&'t str, &'t str)>;

/// The canonical `type/subtype`, and the parameters: `analyze_ct`.
fn analyze(text: &str) -> Result<(String, Parameters<'_>), Wrong> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied();
    let skip = |mut i: usize| {
        while at(i).is_some_and(is_space) {
            i += 1;
        }
        i
    };
    let cannot = || format!("mod_mime: analyze_ct: cannot get media type from '{text}'");
    let type_start = skip(0);
    if at(type_start).is_none() {
        return Err(wrong("AH01598", cannot()));
    }
    let mut cp = type_start + 1;
    while at(cp).is_some_and(|c| c != b'/' && !is_space(c) && c != b';') {
        cp += 1;
    }
    if matches!(at(cp), None | Some(b';')) {
        return Err(wrong("AH01599", format!("Cannot get media type from '{text}'")));
    }
    cp = skip(cp);
    if at(cp) != Some(b'/') {
        return Err(wrong("AH01600", cannot()));
    }
    let type_end = cp;
    let subtype_start = skip(cp + 1);
    if at(subtype_start).is_none() {
        return Err(wrong("AH01601", "Cannot get media subtype."));
    }
    cp = subtype_start + 1;
    while at(cp).is_some_and(|c| !is_space(c) && c != b';') {
        cp += 1;
    }
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let name = format!("{}/{}", part(type_start, type_end), part(subtype_start, cp));
    cp = skip(cp);
    if at(cp).is_none() {
        return Ok((name, Vec::new()));
    }
    // Whatever stands here counts as the semicolon.
    cp = blank(bytes, cp + 1);
    if at(cp).is_none() {
        return Err(wrong("AH01602", PARAMETER));
    }
    Ok((name, parameters(text, cp)?))
}

/// Skips what `zap_sp` skips.
fn blank(bytes: &[u8], mut i: usize) -> usize {
    while matches!(bytes.get(i), Some(b' ' | b'\t' | b'\n')) {
        i += 1;
    }
    i
}

fn parameters(text: &str, start: usize) -> Result<Parameters<'_>, Wrong> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut cp = start;
    while cp < bytes.len() {
        let from = cp;
        while bytes.get(cp).is_some_and(|&c| is_token(c) || matches!(c, b' ' | b'\t' | b'\n')) {
            cp += 1;
        }
        match bytes.get(cp) {
            // A name without a value at the end is passed over.
            None => break,
            Some(b'=') => {}
            Some(_) => return Err(wrong("AH01605", PARAMETER)),
        }
        let attribute = trim(text.get(from..cp).unwrap_or_default());
        if attribute.is_empty() {
            return Err(wrong("AH01603", PARAMETER));
        }
        cp = blank(bytes, cp + 1);
        if cp >= bytes.len() {
            return Err(wrong("AH01604", PARAMETER));
        }
        let from = cp;
        cp = if bytes.get(cp) == Some(&b'"') { quoted(bytes, cp + 1)? } else { unquoted(bytes, cp)? };
        let value = trim(text.get(from..cp).unwrap_or_default());
        if value.is_empty() {
            return Err(wrong("AH01609", PARAMETER));
        }
        found.push((attribute, value));
        cp += 1;
    }
    Ok(found)
}

/// The place behind a quoted string and the white space after it.
fn quoted(bytes: &[u8], mut cp: usize) -> Result<usize, Wrong> {
    while let Some(&c) = bytes.get(cp) {
        match c {
            b'"' => {
                cp = blank(bytes, cp + 1);
                return match bytes.get(cp) {
                    None | Some(b';') => Ok(cp),
                    Some(_) => Err(wrong("AH01606", PARAMETER)),
                };
            }
            b'\\' if bytes.get(cp + 1).is_some_and(u8::is_ascii) => cp += 2,
            b'\\' | b'\n' => return Err(wrong("AH01607", PARAMETER)),
            c if c.is_ascii() => cp += 1,
            _ => return Err(wrong("AH01607", PARAMETER)),
        }
    }
    // A quote that is not closed goes to the end.
    Ok(cp)
}

fn unquoted(bytes: &[u8], mut cp: usize) -> Result<usize, Wrong> {
    loop {
        match bytes.get(cp) {
            None | Some(b';') => return Ok(cp),
            Some(&c) if is_token(c) => cp += 1,
            Some(_) => return Err(wrong("AH01608", PARAMETER)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes() {
        let same = |text: &str| canonical(text, None).unwrap();
        assert_eq!(same("text/html"), "text/html");
        assert_eq!(same(" text/html "), "text/html");
        assert_eq!(same("text/html;charset=utf-8"), "text/html; charset=utf-8");
        assert_eq!(same("text/html ; a = b;c=\"d ; e\" ;f=g"), "text/html; a=b; c=\"d ; e\"; f=g");
        assert_eq!(same("text/html; lonely"), "text/html");
    }

    #[test]
    fn a_charset_takes_the_place_of_the_one_there() {
        let with = |text: &str| canonical(text, Some("utf-8")).unwrap();
        assert_eq!(with("text/html"), "text/html; charset=utf-8");
        assert_eq!(with("text/html; charset=x; q=1; charset=y"), "text/html; charset=utf-8; q=1");
        assert_eq!(with("text/html; q=1"), "text/html; q=1; charset=utf-8");
    }

    #[test]
    fn what_is_wrong() {
        let ah = |text: &str| canonical(text, None).unwrap_err().ah;
        assert_eq!(ah(" "), "AH01598");
        assert_eq!(ah("text"), "AH01599");
        assert_eq!(ah("text;x"), "AH01599");
        assert_eq!(ah("text x"), "AH01600");
        assert_eq!(ah("text/ "), "AH01601");
        assert_eq!(ah("text/html;"), "AH01602");
        assert_eq!(ah("text/html;=x"), "AH01603");
        assert_eq!(ah("text/html;a="), "AH01604");
        assert_eq!(ah("text/html;(="), "AH01605");
        assert_eq!(ah("text/html;a=\"b\"c"), "AH01606");
        assert_eq!(ah("text/html;a=\"b\nc\""), "AH01607");
        assert_eq!(ah("text/html;a=b c"), "AH01608");
        assert_eq!(ah("text/html;a=;"), "AH01609");
        assert!(MediaType::new("text").canonical().is_none());
    }
}
