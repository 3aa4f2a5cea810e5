//! Where text ends and an element begins, and what stands in an element: `find_start_sequence`, `find_directive`,
//! `find_argument`, `find_tail`.

/// An element's argument: its name, unless somebody forgot it, and its value, if it has one.
pub(super) type Argument = (Vec<u8>, Option<Vec<u8>>);

/// What is wrong with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// AH01368
    NoName,
    /// AH01369: a value begins where a name should.
    Quote,
    /// AH01370: an equals sign does.
    NoArgumentName,
}

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// In lower case.
    pub(super) name: Vec<u8>,
    pub(super) arguments: std::collections::VecDeque<Argument>,
    pub(super) faults: Vec<Fault>,
    pub(super) progress: Progress,
}

/// How far an element is, and what its earlier arguments said of the later ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) begun: bool,
    /// `include`: the last one failed.
    pub(super) failed: bool,
    /// `echo`, `set`
    pub(super) encoding: Option<Vec<u8>>,
    pub(super) decoding: Option<Vec<u8>>,
    /// `set`
    pub(super) variable: Option<Vec<u8>>,
}

fn is_space(c: u8) -> bool {
    c.is_ascii_whitespace() || c == 0x0b
}

/// Where `start` begins in `text`: the whole of it, or as much of it as fits at the end.
pub(super) fn find_start(text: &[u8], start: &[u8]) -> Result<usize, usize> {
    use bstr::ByteSlice;
    if let Some(at) = text.find(start) {
        return Ok(at);
    }
    let first = text.len().saturating_sub(start.len().saturating_sub(1));
    Err((first..text.len()).find(|&at| start.starts_with(&text[at..])).unwrap_or(text.len()))
}

/// Takes the element off that begins behind the start tag; how long it is with its end tag. `None`: it isn't all there.
pub(super) fn element(text: &[u8], end: &[u8]) -> Option<(Element, usize)> {
    let first = end.first().copied();
    let mut element = Element::default();
    let mut at = 0;
    // The name goes up to a blank, or to the end tag.
    loop {
        let &c = text.get(at)?;
        if is_space(c) {
            break;
        }
        if Some(c) == first {
            let rest = &text[at..];
            if rest.starts_with(end) {
                break;
            }
            if end.starts_with(rest) {
                return None;
            }
        }
        at += 1;
    }
    element.name = text[..at].to_ascii_lowercase();
    if element.name.is_empty() {
        element.faults.push(Fault::NoName);
    }
    loop {
        while is_space(*text.get(at)?) {
            at += 1;
        }
        let rest = &text[at..];
        if rest.starts_with(end) {
            return Some((element, at + end.len()));
        }
        if end.starts_with(rest) {
            return None;
        }
        at = argument(text, at, &mut element)?;
    }
}

/// Takes an argument off; where the next one may begin.
fn argument(text: &[u8], mut at: usize, element: &mut Element) -> Option<usize> {
    let &c = text.get(at)?;
    if matches!(c, b'"' | b'\'' | b'`') {
        element.faults.push(Fault::Quote);
        let (_, next) = value(text, at + 1, Some(c))?;
        element.arguments.push_back((Vec::new(), None));
        return Some(next);
    }
    let start = at;
    while !is_space(*text.get(at)?) && text[at] != b'=' {
        at += 1;
    }
    let name = text[start..at].to_ascii_lowercase();
    if name.is_empty() {
        element.faults.push(Fault::NoArgumentName);
    }
    while is_space(*text.get(at)?) {
        at += 1;
    }
    if text[at] != b'=' {
        element.arguments.push_back((name, None));
        return Some(at);
    }
    at += 1;
    while is_space(*text.get(at)?) {
        at += 1;
    }
    let quote = Some(text[at]).filter(|c| matches!(c, b'"' | b'\'' | b'`'));
    let (value, next) = value(text, at + usize::from(quote.is_some()), quote)?;
    element.arguments.push_back((name, Some(value)));
    Some(next)
}

/// A value up to its quote, or to a blank; and where what follows begins.
fn value(text: &[u8], start: usize, quote: Option<u8>) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = start;
    loop {
        let &c = text.get(at)?;
        match quote {
            Some(quote) if c == b'\\' => {
                let &next = text.get(at + 1)?;
                if next == quote {
                    at += 1;
                    value.push(quote);
                } else {
                    value.push(c);
                }
            }
            Some(quote) if c == quote => return Some((value, at + 1)),
            None if is_space(c) => return Some((value, at + 1)),
            _ => value.push(c),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Vec<(String, Option<String>)>, Vec<Fault>, usize) {
        let (element, used) = element(text.as_bytes(), b"-->").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let arguments = element.arguments.iter().map(|(n, v)| (text(n), v.as_deref().map(text))).collect();
        (text(&element.name), arguments, element.faults, used)
    }

    #[test]
    fn elements() {
        assert_eq!(parsed("printenv-->x"), ("printenv".into(), vec![], vec![], 11));
        let argument = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let (name, arguments, faults, _) = parsed("Set  VAR = 'a \\' \\x'\nvalue=`b`x=-y --> ");
        assert_eq!((name.as_str(), faults), ("set", vec![]));
        assert_eq!(arguments, [argument("var", "a ' \\x"), argument("value", "b"), argument("x", "-y")]);
        assert_eq!(parsed(" -->").2, [Fault::NoName]);
        assert_eq!(parsed("echo \"x\" ='y' -->").2, [Fault::Quote, Fault::NoArgumentName]);
        assert_eq!(parsed("if-not --x -->").1, [("--x".to_owned(), None)]);
        for part in ["ech", "echo var", "echo var=\"a", "echo var=a-->", "echo --", "echo-"] {
            assert_eq!(element(part.as_bytes(), b"-->"), None, "{part}");
        }
    }

    #[test]
    fn starts() {
        assert_eq!(find_start(b"ab<!--#echo", b"<!--#"), Ok(2));
        assert_eq!(find_start(b"ab<!--", b"<!--#"), Err(2));
        assert_eq!(find_start(b"ab<!-x", b"<!--#"), Err(6));
        assert_eq!(find_start(b"--.-", b"--->"), Err(3));
    }
}
