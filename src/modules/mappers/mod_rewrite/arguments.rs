//! How the lines of `RewriteRule` and `RewriteCond` are cut into words, and their flags: `parseargline`,
//! `cmd_parseflagfield`. They have rules of their own, in which backslashes stay.

/// The words of a line.
#[derive(Debug, PartialEq)]
pub(super) struct Words<'a> {
    pub(super) first: &'a [u8],
    pub(super) second: &'a [u8],
    pub(super) flags: Option<&'a [u8]>,
}

/// The blanks of C's `isspace`.
pub(super) fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t'..=b'\r')
}

fn skip_space(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&c| !is_space(c)).unwrap_or(line.len());
    &line[start..]
}

/// A word, in quotes or up to a blank without a backslash before it, and what is behind it; nothing is, where the
/// word was not ended.
fn word(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (quote, text) = match line.split_first() {
        Some((&quote @ (b'"' | b'\''), rest)) => (Some(quote), rest),
        _ => (None, line),
    };
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        let ends = match quote {
            Some(quote) => c == quote,
            None => is_space(c),
        };
        if ends {
            return (&text[..at], Some(&text[at + 1..]));
        }
        at += if c == b'\\' && text.get(at + 1).copied().is_some_and(is_space) { 2 } else { 1 };
    }
    (text, None)
}

/// None where the second word is missing.
pub(super) fn words(line: &[u8]) -> Option<Words<'_>> {
    let (first, rest) = word(skip_space(line));
    let (second, rest) = word(skip_space(rest?));
    let rest = skip_space(rest.unwrap_or_default());
    let flags = (!rest.is_empty()).then(|| word(rest).0);
    Some(Words { first, second, flags })
}

/// Calls `set` with the name and the value of each flag in `[…]`.
pub(super) fn flags(
    field: &[u8],
    mut set: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let Some(inner) = field.strip_prefix(b"[").and_then(|f| f.strip_suffix(b"]")) else {
        return Err("bad flag delimiters".to_owned());
    };
    for flag in inner.split(|&c| c == b',') {
        let mut flag = skip_space(flag);
        while let Some((&last, rest)) = flag.split_last()
            && is_space(last)
        {
            flag = rest;
        }
        match flag.iter().position(|&c| c == b'=') {
            Some(at) => set(&flag[..at], &flag[at + 1..])?,
            None => set(flag, b"")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let cut = |line: &'static str| words(line.as_bytes()).map(|w| (w.first, w.second, w.flags));
        assert_eq!(cut("^a b"), Some((&b"^a"[..], &b"b"[..], None)));
        assert_eq!(cut("\"^a b\" 'c d' [L]"), Some((&b"^a b"[..], &b"c d"[..], Some(&b"[L]"[..]))));
        assert_eq!(cut("a\\ b c\\ d  [NC,  L]"), Some((&b"a\\ b"[..], &b"c\\ d"[..], Some(&b"[NC,"[..]))));
        assert_eq!(cut("a"), None);
    }

    #[test]
    fn flags_and_values() {
        let mut seen = Vec::new();
        let mut all = |field: &str| {
            flags(field.as_bytes(), |name, value| {
                seen.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
                Ok(())
            })
        };
        assert!(all("[ L , R=301,E=a:b=c]").is_ok());
        assert_eq!(all("L]"), Err("bad flag delimiters".to_owned()));
        assert_eq!(seen, ["L=", "R=301", "E=a:b=c"]);
    }
}
