//! Logical lines, and where they come from.
//!
//! Answers to `ap_cfg_getline` and `ap_varbuf_cfg_getline` of server/util.c and to mod_macro's array of lines
//! that takes the place of the file while a macro is read. Differs in that no line is lost or split: Apache
//! loses a last line without a newline that is as long as its buffer (206 bytes at first) or that follows a
//! `Use`, and a `-C` directive that is longer; a long line with a NUL in it is two lines there.

use std::sync::Arc;

use nom::Parser;
use nom::bytes::complete::take_till;
use nom::character::complete::char as newline;
use nom::combinator::{opt, recognize};

use crate::Origin;
use crate::encoding::len_in_bytes;
use crate::words::is_space;

/// Most bytes of a logical line of a server's file (VARBUF_MAX_LEN).
pub(crate) const MAX_CONFIG: usize = 16 * 1024 * 1024;
/// The same of a .htaccess, and of a macro's body (HUGE_STRING_LEN, MAX_STRING_LEN).
pub(crate) const MAX_HTACCESS: usize = 8192;

/// Lines of a file, with the macros that are read in the midst of it.
pub(crate) struct Lines {
    base: Source,
    /// Macros in use, the innermost last.
    macros: Vec<Source>,
    limit: usize,
}

/// One origin of lines.
struct Source {
    name: Arc<str>,
    text: Text,
    line: u32,
}

enum Text {
    /// A text and the place in it.
    Whole(String, usize),
    /// Line by line, as `-C` and `-c` give them.
    Each(Vec<String>, usize),
}

/// The line had more bytes than it may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn of_file(name: &str, text: String, limit: usize) -> Lines {
        Lines { base: Source::new(name, Text::Whole(text, 0)), macros: Vec::new(), limit }
    }

    pub(crate) fn of_list(name: &str, list: &[String]) -> Lines {
        Lines { base: Source::new(name, Text::Each(list.to_vec(), 0)), macros: Vec::new(), limit: MAX_CONFIG }
    }

    /// Goes on with the lines of a macro; `name` says which, and where it is used.
    pub(crate) fn push_macro(&mut self, name: &str, text: String) {
        self.macros.push(Source::new(name, Text::Whole(text, 0)));
    }

    /// Where the line read last ended.
    pub(crate) fn origin(&self) -> Origin {
        let current = self.macros.last().unwrap_or(&self.base);
        Origin { file: current.name.clone(), line: current.line }
    }

    /// Apache's text for a line that is too long.
    pub(crate) fn too_long(&self) -> String {
        let Origin { file, line } = self.origin();
        format!("Error reading {file} at line {line}: Line too long")
    }

    /// Reads a logical line into `line`, without the white space around it. False at the end.
    pub(crate) fn next(&mut self, line: &mut String) -> Result<bool, TooLong> {
        self.next_within(line, self.limit)
    }

    /// The same for a line of a macro's body, which has its own limit: no more than 8190 bytes and a newline.
    pub(crate) fn next_of_macro(&mut self, line: &mut String) -> Result<bool, TooLong> {
        self.next_within(line, MAX_HTACCESS - 1)
    }

    /// Reads a line as it stands, but for its newline. False at the end.
    pub(crate) fn next_raw(&mut self, line: &mut String) -> bool {
        line.clear();
        let source = self.current();
        source.line += 1;
        let Some(part) = source.next() else { return false };
        line.push_str(part.strip_suffix('\n').unwrap_or(part));
        true
    }

    fn next_within(&mut self, line: &mut String, limit: usize) -> Result<bool, TooLong> {
        line.clear();
        loop {
            let source = self.current();
            source.line += 1;
            let Some(part) = source.next() else {
                if line.is_empty() {
                    return Ok(false);
                }
                break;
            };
            // A string ends at a NUL in C; the newline after it is lost with it.
            match part.find('\0') {
                Some(nul) => line.push_str(&part[..nul]),
                None => line.push_str(part),
            }
            if line.len() > limit && len_in_bytes(line) > limit {
                return Err(TooLong);
            }
            // Looked for in all that was joined so far, as in Apache: `\\` before a newline and then an empty
            // line is one more continuation.
            let Some(joined) = line
                .strip_suffix('\n')
                .map(|l| l.strip_suffix('\r').unwrap_or(l))
                .and_then(|l| l.strip_suffix('\\'))
            else {
                break;
            };
            line.truncate(joined.len());
        }
        let end = line.trim_end_matches(is_space).len();
        line.truncate(end);
        let start = line.len() - line.trim_start_matches(is_space).len();
        line.drain(..start);
        Ok(true)
    }

    /// The innermost source that has something left, or the file itself.
    fn current(&mut self) -> &mut Source {
        while self.macros.last().is_some_and(Source::is_at_end) {
            self.macros.pop();
        }
        self.macros.last_mut().unwrap_or(&mut self.base)
    }
}

impl Source {
    fn new(name: &str, text: Text) -> Source {
        Source { name: name.into(), text, line: 0 }
    }

    fn is_at_end(&self) -> bool {
        match &self.text {
            Text::Whole(text, at) => *at >= text.len(),
            Text::Each(list, at) => *at >= list.len(),
        }
    }

    /// The next physical line, with its newline.
    fn next(&mut self) -> Option<&str> {
        match &mut self.text {
            Text::Whole(text, at) => {
                let (_, line) = physical(text.get(*at..)?).ok()?;
                *at += line.len();
                (!line.is_empty()).then_some(line)
            }
            Text::Each(list, at) => {
                let line = list.get(*at)?;
                *at += 1;
                Some(line)
            }
        }
    }
}

fn physical(text: &str) -> nom::IResult<&str, &str> {
    recognize((take_till(|c| c == '\n'), opt(newline('\n')))).parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(String, u32)> {
        let mut lines = Lines::of_file("f", text.to_string(), MAX_CONFIG);
        let (mut line, mut all) = (String::new(), Vec::new());
        while lines.next(&mut line) == Ok(true) {
            all.push((line.clone(), lines.origin().line));
        }
        all
    }

    fn one(text: &str, line: u32) -> Vec<(String, u32)> {
        vec![(text.to_string(), line)]
    }

    #[test]
    fn white_space_and_ends() {
        assert_eq!(lines(" \t a b \r\n"), one("a b", 1));
        assert_eq!(lines("a"), one("a", 1));
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n\n"), [(String::new(), 1), (String::new(), 2)]);
        assert_eq!(lines("a\0 b\\\nc"), [("a".to_string(), 1), ("c".to_string(), 2)]);
    }

    #[test]
    fn continued_lines_have_the_number_of_the_last() {
        assert_eq!(lines("a \\\n b\n"), one("a  b", 2));
        assert_eq!(lines("a\\\r\n b\n"), one("a b", 2));
        assert_eq!(lines("# a \\\nb\n"), one("# a b", 2));
        assert_eq!(lines("a\\\\\nb"), one("a\\b", 2));
        assert_eq!(lines("a\\\\\n\nb"), one("ab", 3));
        assert_eq!(lines("a\\"), one("a\\", 1));
        // The end of the file counts as one more line.
        assert_eq!(lines("a\\\n"), one("a", 2));
        assert_eq!(lines("\\\n"), []);
        assert_eq!(lines("a\\ \nb"), [("a\\".to_string(), 1), ("b".to_string(), 2)]);
    }

    #[test]
    fn limits() {
        for (len, ok) in [(8191, true), (8192, false)] {
            let mut lines = Lines::of_file("f", "x".repeat(len) + "\n", MAX_HTACCESS);
            assert_eq!(lines.next(&mut String::new()).is_ok(), ok, "{len}");
        }
        let mut long = Lines::of_file("f", "\u{F7E9}".repeat(8000), MAX_HTACCESS);
        assert_eq!(long.next(&mut String::new()), Ok(true));
        let mut long = Lines::of_file("f", "a\n".to_string() + &"x".repeat(9000), MAX_HTACCESS);
        assert_eq!(long.next(&mut String::new()), Ok(true));
        assert_eq!(long.next(&mut String::new()), Err(TooLong));
        assert_eq!(long.too_long(), "Error reading f at line 2: Line too long");
    }

    #[test]
    fn a_macro_is_read_in_place() {
        let mut lines = Lines::of_file("f", "one\nlast".to_string(), MAX_CONFIG);
        let mut line = String::new();
        assert_eq!(lines.next(&mut line), Ok(true));
        lines.push_macro("m", "a\nb\\\n".to_string());
        assert_eq!((lines.next(&mut line), &*line), (Ok(true), "a"));
        assert_eq!(lines.origin(), Origin { file: "m".into(), line: 1 });
        // What a macro's last line continues with is the line after its use.
        assert_eq!((lines.next(&mut line), &*line), (Ok(true), "blast"));
        assert_eq!(lines.origin(), Origin { file: "f".into(), line: 2 });
        assert_eq!(lines.next(&mut line), Ok(false));
    }

    #[test]
    fn lines_of_the_command_line() {
        let mut lines = Lines::of_list("-c/-C directives", &[" a ".to_string(), "b\nc".to_string()]);
        let mut line = String::new();
        assert_eq!((lines.next(&mut line), &*line), (Ok(true), "a"));
        assert_eq!((lines.next(&mut line), &*line), (Ok(true), "b\nc"));
        assert_eq!(lines.next(&mut line), Ok(false));
    }
}
