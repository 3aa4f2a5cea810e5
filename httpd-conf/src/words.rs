//! Words of a line: quotes and backslashes.
//!
//! Answers to `ap_getword_conf` and `ap_getword_conf2` of server/util.c.

use std::borrow::Cow;

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{take_till, take_while};

/// White space of C's `isspace` in the C locale, which is what the configuration knows.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0B' | '\x0C' | '\r')
}

/// Takes the next word off `line`, with the white space after it; empty when there is none.
///
/// In quotes (`"` or `'`), a backslash before a quote of that kind or before a backslash is dropped; outside
/// of them, only one before a backslash. A quote that is not closed goes to the end. What follows a closing
/// quote directly is the next word.
pub fn getword_conf<'a>(line: &mut &'a str) -> Cow<'a, str> {
    take(line, word)
}

/// Like [`getword_conf`], where `{` begins a word that goes to the `}` matching it.
pub fn getword_conf2<'a>(line: &mut &'a str) -> Cow<'a, str> {
    take(line, |text| if text.starts_with('{') { braced(text) } else { word(text) })
}

/// [`getword_conf`] as an owned string.
pub fn next_word(line: &mut &str) -> String {
    getword_conf(line).into_owned()
}

/// The words of `line`.
pub fn words(line: &str) -> Words<'_> {
    Words { rest: line.trim_start_matches(is_space) }
}

/// Iterator over the words of a line. An empty word in quotes is a word.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// What has not been read yet.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        (!self.rest.is_empty()).then(|| getword_conf(&mut self.rest))
    }
}

fn take<'a>(line: &mut &'a str, one: impl Fn(&'a str) -> IResult<&'a str, Cow<'a, str>>) -> Cow<'a, str> {
    match (space, one, space).parse(*line) {
        Ok((rest, (_, word, _))) => {
            *line = rest;
            word
        }
        // None of the parsers can fail; an end of words is the safe answer to one that would.
        Err(_) => {
            *line = "";
            Cow::Borrowed("")
        }
    }
}

fn space(text: &str) -> IResult<&str, &str> {
    take_while(is_space).parse(text)
}

fn word(text: &str) -> IResult<&str, Cow<'_, str>> {
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = &text[1..];
            let end = closing(inner, quote);
            let rest = inner.get(end + 1..).unwrap_or("");
            Ok((rest, unescape(&inner[..end], Some(quote))))
        }
        _ => take_till(is_space).map(|w| unescape(w, None)).parse(text),
    }
}

/// Where the quote is closed in `inner`, or its length.
fn closing(inner: &str, quote: char) -> usize {
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return at;
        }
        if c == '\\' {
            chars.next_if(|(_, next)| *next == quote || *next == '\\');
        }
    }
    inner.len()
}

fn braced(text: &str) -> IResult<&str, Cow<'_, str>> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let mut depth = 1;
    let mut end = inner.len();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '}' if depth == 1 => {
                end = at;
                break;
            }
            '}' => depth -= 1,
            '{' => depth += 1,
            '\\' => {
                chars.next_if(|(_, next)| *next == '\\');
            }
            _ => {}
        }
    }
    Ok((inner.get(end + 1..).unwrap_or(""), unescape(&inner[..end], None)))
}

fn unescape(raw: &str, quote: Option<char>) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped =
            if c == '\\' { chars.next_if(|next| *next == '\\' || Some(*next) == quote) } else { None };
        out.push(escaped.unwrap_or(c));
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(line: &str) -> Vec<String> {
        words(line).map(Cow::into_owned).collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(all("  a\tb  c "), ["a", "b", "c"]);
        assert_eq!(all(r#""a b" 'c "d' e"f"#), ["a b", "c \"d", "e\"f"]);
        assert_eq!(all(r#""a"b 'c'"#), ["a", "b", "c"]);
        assert_eq!(all(r#""" ''"#), ["", ""]);
        assert_eq!(all(r#""open a"#), ["open a"]);
        assert_eq!(all("   "), Vec::<String>::new());
    }

    #[test]
    fn backslashes() {
        assert_eq!(all(r#""a\"b\\c\'d\n""#), [r#"a"b\c\'d\n"#]);
        assert_eq!(all(r#"a\"b\\c\ d"#), [r#"a\"b\c\"#, "d"]);
        assert_eq!(all(r#"'it\'s' x"#), ["it's", "x"]);
        assert_eq!(all(r#""open\"#), [r"open\"]);
        assert_eq!(all(r#""open\""#), ["open\""]);
        assert_eq!(all(r#""a\\" b"#), [r"a\", "b"]);
    }

    #[test]
    fn the_rest_of_the_line_is_left() {
        let mut line = "  Name   \"x y\"  z ";
        assert_eq!(next_word(&mut line), "Name");
        assert_eq!(line, "\"x y\"  z ");
        assert_eq!(next_word(&mut line), "x y");
        assert_eq!(line, "z ");
        assert_eq!((next_word(&mut line), line), ("z".to_string(), ""));
        assert_eq!((next_word(&mut line), line), (String::new(), ""));
    }

    #[test]
    fn braces() {
        let mut line = r"{a {b} \} c} d";
        assert_eq!(getword_conf2(&mut line), r"a {b} \");
        assert_eq!(line, "c} d");
        let mut line = "{open";
        assert_eq!((getword_conf2(&mut line).into_owned(), line), ("open".to_string(), ""));
        let mut line = "'q' {x}";
        assert_eq!(getword_conf2(&mut line), "q");
        assert_eq!(getword_conf2(&mut line), "x");
    }
}
