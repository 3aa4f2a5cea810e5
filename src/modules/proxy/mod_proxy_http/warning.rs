//! `Warning` fields of replies (RFC 2616 14.46).

use bstr::ByteSlice;

use crate::table::Table;

/// Warnings with another date than the reply's are no longer true (`ap_proxy_clean_warnings`).
pub(super) fn clean_warnings(headers: &mut Table) {
    let date = headers.get("Date").and_then(crate::http::date::parse);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for value in headers.iter_all("Warning") {
        let mut rest = value;
        while let Some((warning, warned, behind)) = next_warning(rest) {
            let time = warned.and_then(crate::http::date::parse).filter(|&time| time != 0);
            if time.is_none() || time == date {
                kept.push(warning.to_vec());
            }
            rest = behind;
        }
    }
    if kept.is_empty() {
        return;
    }
    headers.unset("Warning");
    for warning in kept {
        headers.add("Warning", warning);
    }
}

/// `code agent "text" ["date"]`: all of it, the date, and what is behind.
fn next_warning(text: &[u8]) -> Option<(&[u8], Option<&[u8]>, &[u8])> {
    let start = text.windows(3).position(|three| three.iter().all(u8::is_ascii_digit))?;
    let blanks = |from: usize| from + text[from..].iter().take_while(|c| matches!(c, b' ' | b'\t')).count();
    let agent = blanks(start + 3);
    let words = agent + text[agent..].iter().take_while(|c| !matches!(c, b' ' | b'\t')).count();
    let quote = blanks(words);
    if text.get(quote) != Some(&b'"') {
        return None;
    }
    let mut end = quote + 2 + text[quote + 1..].find_byte(b'"')?;
    let mut date = None;
    let again = blanks(end);
    if again > end
        && text.get(again) == Some(&b'"')
        && let Some(len) = text[again + 1..].find_byte(b'"').filter(|&len| len > 0)
    {
        date = Some(&text[again + 1..again + 1 + len]);
        end = again + 2 + len;
    }
    Some((&text[start..end], date, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings() {
        let text = br#"110 a "stale" "Tue, 02 Jan 2024 03:04:05 GMT", 199 b "misc""#;
        let (first, date, rest) = next_warning(text).expect("a warning");
        assert!(first.ends_with(b"GMT\"") && date.is_some());
        assert_eq!(next_warning(rest), Some((&br#"199 b "misc""#[..], None, &b""[..])));
        assert_eq!(next_warning(b"nothing"), None);
    }
}
