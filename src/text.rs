//! Text that costs nothing to hand on: media types and handler names, which the configuration holds and every request gets.
//! And what C's library and Apache's `server/util.c` make of text: numbers at its start, lines that go on.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A string that is cheap to clone: in the program itself, or shared.
#[derive(Clone)]
pub enum SharedStr {
    /// In the program.
    Static(&'static str),
    /// Shared.
    Shared(Arc<str>),
}

impl Deref for SharedStr {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        match self {
            SharedStr::Static(text) => text,
            SharedStr::Shared(text) => text,
        }
    }
}

impl AsRef<str> for SharedStr {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for SharedStr {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Default for SharedStr {
    fn default() -> Self {
        SharedStr::Static("")
    }
}

impl fmt::Display for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for SharedStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for SharedStr {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedStr {}

impl PartialEq<str> for SharedStr {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for SharedStr {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl From<&'static str> for SharedStr {
    fn from(text: &'static str) -> Self {
        SharedStr::Static(text)
    }
}

impl From<String> for SharedStr {
    fn from(text: String) -> Self {
        SharedStr::Shared(text.into())
    }
}

impl From<Arc<str>> for SharedStr {
    fn from(text: Arc<str>) -> Self {
        SharedStr::Shared(text)
    }
}

impl From<&SharedStr> for SharedStr {
    fn from(text: &SharedStr) -> Self {
        text.clone()
    }
}

impl From<Cow<'static, str>> for SharedStr {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => SharedStr::Static(text),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// True for what C's `isspace` takes for space.
pub fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

/// The number that a text begins with, as C's `atoi` reads it; one that is too large is cut as it is there.
pub fn atoi(text: impl AsRef<[u8]>) -> i32 {
    atol(text) as i32
}

/// The number that a text begins with, as C's `atol` reads it; one that is too large is the largest.
pub fn atol(text: impl AsRef<[u8]>) -> i64 {
    let text = text.as_ref();
    let space = text.iter().take_while(|&&byte| is_space(byte)).count();
    let text = &text[space..];
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let step = |number: i64, digit: &u8| number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let number = digits.fold(0, step);
    if negative { -number } else { number }
}

/// The lines of a file as `ap_cfg_getline` gives them with a buffer of `limit` bytes: without space around them; a backslash at the
/// end joins the next one. With each, its number, which is that of its last part. A line that is too long ends them.
pub fn config_lines(content: &[u8], limit: usize) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
    let mut rest = content;
    let mut number = 0;
    std::iter::from_fn(move || {
        let mut line: Option<Vec<u8>> = None;
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n');
            let (part, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = behind;
            number += 1;
            let line = line.get_or_insert_default();
            line.extend_from_slice(part);
            if line.len() >= limit {
                rest = b"";
                return None;
            }
            if line.pop_if(|byte| *byte == b'\n').is_none() {
                break;
            }
            line.pop_if(|byte| *byte == b'\r');
            if line.pop_if(|byte| *byte == b'\\').is_none() {
                break;
            }
        }
        line.map(|line| (number, trimmed(&line).to_vec()))
    })
}

/// Without what C takes for space around it.
pub fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().take_while(|&&byte| is_space(byte)).count();
    let end = text.iter().rposition(|&byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// A size of a file in four characters: `apr_strfsize`.
pub fn file_size(size: i64) -> String {
    if size < 0 {
        return "  - ".to_owned();
    }
    if size < 973 {
        return format!("{size:3} ");
    }
    let mut size = size;
    for unit in "KMGTPE".chars() {
        let remain = size & 1023;
        size >>= 10;
        if size >= 973 {
            continue;
        }
        if size < 9 || size == 9 && remain < 973 {
            let mut tenths = (remain * 5 + 256) / 512;
            if tenths >= 10 {
                size += 1;
                tenths = 0;
            }
            return format!("{size}.{tenths}{unit}");
        }
        if remain >= 512 {
            size += 1;
        }
        return format!("{size:3}{unit}");
    }
    "****".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_reads_them() {
        assert_eq!([&b" -12x"[..], b"x", b"+7", b"", b"\x0b3"].map(atoi), [-12, 0, 7, 0, 3]);
        assert_eq!((atol(b"99999999999999999999"), atoi(b"4294967297")), (i64::MAX, 1));
    }

    #[test]
    fn equal_however_it_is_held() {
        let owned: SharedStr = "text/html".to_owned().into();
        assert_eq!(owned, SharedStr::from("text/html"));
        assert!(owned == "text/html" && owned.starts_with("text/"));
        assert!(matches!(SharedStr::from(Cow::Borrowed("x")), SharedStr::Static("x")));
        let SharedStr::Shared(first) = &owned else { panic!("a String is shared") };
        let SharedStr::Shared(second) = owned.clone() else { panic!("a clone is shared too") };
        assert!(Arc::ptr_eq(first, &second));
    }

    #[test]
    fn lines_that_go_on() {
        let lines: Vec<_> = config_lines(b" a \\\n b\r\n\n#c\nlast", 100).collect();
        let lines: Vec<_> = lines.iter().map(|(at, line)| (*at, line.as_slice())).collect();
        assert_eq!(lines, [(2, &b"a  b"[..]), (3, b""), (4, b"#c"), (5, b"last")]);
        assert_eq!(config_lines(b"short\n0123456789\nnext\n", 10).count(), 1);
    }

    #[test]
    fn numbers() {
        for (text, number) in [(" 12x", 12), ("-7", -7), ("+3", 3), ("x", 0), ("", 0), ("-", 0)] {
            assert_eq!(atoi(text), number, "{text}");
        }
    }
}
