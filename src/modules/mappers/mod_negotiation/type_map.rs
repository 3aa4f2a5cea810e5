//! Type maps: a file that lists the variants, with fields as in a message head.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use bstr::{BString, ByteSlice};

use super::accept::{get_entry, get_token, is_space, languages_line, skip_space};
use super::variant::Variant;
use crate::http::head::strict_length;
use crate::http::status::{self, Status};
use crate::log::{Level, rerror};
use crate::request::Request;

/// The longest content in a map, and the longest field: `MAX_STRING_LEN`.
const MAX_STRING_LEN: usize = 8192;

/// What a type map holds.
pub(super) struct TypeMap {
    /// The file, for contents within it.
    pub file: Arc<File>,
    pub variants: Vec<Variant>,
}

/// Reads the map `filename`: `read_type_map`. Log lines are those of `r`.
pub(super) fn read(r: &Request, filename: &[u8]) -> Result<TypeMap, Status> {
    let mut content = Vec::new();
    let opened = File::open(Path::new(std::ffi::OsStr::from_bytes(filename)))
        .and_then(|mut file| file.read_to_end(&mut content).map(|_| file));
    let file = match opened {
        Ok(file) => Arc::new(file),
        Err(err) => {
            let name = filename.as_bstr();
            rerror!(
                r,
                Level::Error,
                "negotiation",
                "AH00683",
                err = err,
                "cannot access type map file: {name}"
            );
            return Err(match err.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => status::NOT_FOUND,
                _ => status::FORBIDDEN,
            });
        }
    };
    let (variants, trouble) = parse(&content, filename);
    match trouble {
        Some(Trouble::NoColon(header)) => {
            rerror!(
                r,
                Level::Error,
                "negotiation",
                "AH00681",
                "Syntax error in type map, no ':' in {} for header {header}",
                r.filename
            );
            return Err(status::INTERNAL_SERVER_ERROR);
        }
        Some(Trouble::NoBody(header)) => {
            rerror!(
                r,
                Level::Error,
                "negotiation",
                "AH00682",
                "Syntax error in type map --- no header body: {} for {header}",
                r.filename
            );
            return Err(status::INTERNAL_SERVER_ERROR);
        }
        Some(Trouble::Length(length)) => rerror!(
            r,
            Level::Error,
            "negotiation",
            "AH00684",
            "Parse error in type map, Content-Length: '{length}' in {} is invalid.",
            r.filename
        ),
        Some(Trouble::NoEndTag(tag)) => rerror!(
            r,
            Level::Error,
            "negotiation",
            "AH00685",
            "Syntax error in type map, no end tag '{tag}' found in {} for Body: content.",
            r.filename
        ),
        None => {}
    }
    Ok(TypeMap { file, variants })
}

/// What is wrong with a map. The first two make it useless, the others end it.
#[derive(Debug, PartialEq)]
enum Trouble {
    NoColon(BString),
    NoBody(BString),
    Length(BString),
    NoEndTag(BString),
}

/// A line of a map, continuation lines joined.
enum Line {
    Eof,
    Blank,
    Field(Vec<u8>),
}

struct Lines<'m> {
    map: &'m [u8],
    at: usize,
}

impl Lines<'_> {
    fn byte(&self) -> Option<u8> {
        self.map.get(self.at).copied()
    }

    /// The rest of the line with its line feed.
    fn physical(&mut self) -> &[u8] {
        let rest = self.map.get(self.at..).unwrap_or_default();
        let len = rest.find_byte(b'\n').map_or(rest.len(), |end| end + 1);
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// `get_header_line`.
    fn next(&mut self) -> Line {
        let mut line = loop {
            let line = self.physical();
            match line.first() {
                None => return Line::Eof,
                Some(b'#') => {}
                Some(_) => break line.to_vec(),
            }
        };
        if line.iter().all(|&c| is_space(c)) {
            return Line::Blank;
        }
        // A content begins right behind its field.
        if line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"body:")) {
            return Line::Field(line);
        }
        while let Some(c) = self.byte() {
            if c == b'#' {
                self.physical();
            } else if is_space(c) {
                while self.byte().is_some_and(|c| c != b'\n' && is_space(c)) {
                    self.at += 1;
                }
                if matches!(self.byte(), None | Some(b'\n')) {
                    break;
                }
                let more = self.physical().to_vec();
                line.extend_from_slice(more.strip_suffix(b"\n").unwrap_or(&more));
                line.push(b'\n');
            } else {
                break;
            }
        }
        Line::Field(line)
    }

    /// Offset and length of the content up to `tag`; goes on behind the line of the tag: `get_body`.
    fn body(&mut self, tag: &[u8]) -> Option<(u64, u64)> {
        let start = self.at;
        let rest = self.map.get(start..).filter(|rest| !rest.is_empty())?;
        let window = rest.get(..MAX_STRING_LEN - 1).unwrap_or(rest);
        let window = window.split(|&c| c == 0).next().unwrap_or_default();
        let len = window.find(tag)?;
        self.at = start + len + tag.len();
        self.physical();
        Some((start as u64, len as u64))
    }
}

/// Comments in parentheses become blanks: `strip_paren_comments`.
fn strip_paren_comments(text: &mut [u8]) {
    let mut inside = false;
    for c in text {
        let at = *c;
        inside |= at == b'(';
        if inside {
            *c = b' ';
        }
        inside &= at != b')';
    }
}

/// The name in lower case and what follows the colon: `lcase_header_name_return_body`.
fn split_field(mut line: Vec<u8>) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
    let Some(colon) = line.find_byte(b':') else {
        line.make_ascii_lowercase();
        return Err(Trouble::NoColon(line.into()));
    };
    let value = skip_space(line.get(colon + 1..).unwrap_or_default()).to_vec();
    line.get_mut(..colon).unwrap_or_default().make_ascii_lowercase();
    if value.is_empty() {
        return Err(Trouble::NoBody(line.into()));
    }
    line.truncate(colon);
    let mut value = value;
    strip_paren_comments(&mut value);
    Ok((line, value))
}

fn parse(map: &[u8], filename: &[u8]) -> (Vec<Variant>, Option<Trouble>) {
    let mut lines = Lines { map, at: 0 };
    let mut variants = Vec::new();
    let mut variant = Variant::default();
    let mut has_content = false;
    loop {
        let line = match lines.next() {
            Line::Field(line) => line,
            end => {
                let done = std::mem::take(&mut variant);
                if !done.file_name.is_empty() && has_content {
                    variants.push(done);
                }
                has_content = false;
                if matches!(end, Line::Eof) {
                    return (variants, None);
                }
                continue;
            }
        };
        let (name, value) = match split_field(line) {
            Ok(parts) => parts,
            Err(trouble) => return (variants, Some(trouble)),
        };
        let mut rest: &[u8] = &value;
        match name.as_slice() {
            b"uri" => variant.file_name = get_token(&mut rest, false).into(),
            b"content-type" => {
                variant.set_mime_fields(get_entry(&mut rest));
                has_content = true;
            }
            b"content-length" => {
                let token = get_token(&mut rest, false);
                let Some(length) = strict_length(token) else {
                    return (variants, Some(Trouble::Length(token.into())));
                };
                variant.bytes = Some(length);
                has_content = true;
            }
            b"content-language" => {
                variant.content_languages = languages_line(rest);
                has_content = true;
            }
            b"content-encoding" => {
                variant.content_encoding = Some(get_token(&mut rest, false).into());
                has_content = true;
            }
            b"description" => {
                let text = rest.split_last().map_or(rest, |(_, text)| text);
                variant.description = text.replace(b"\n", b" ").into();
            }
            b"body" => {
                let tag = rest.trim_end_with(|c| u8::try_from(c).is_ok_and(is_space));
                let Some((offset, length)) = lines.body(tag) else {
                    return (variants, Some(Trouble::NoEndTag(tag.into())));
                };
                variant.body = Some(offset);
                variant.bytes = Some(length);
                variant.file_name = filename.rsplit_str("/").next().unwrap_or(filename).into();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map() {
        let map = b"# a comment\nURI: doc\n\nURI: doc.en.html (the first)\nContent-Type: text/html;\n  qs=0.8\n\
            Content-language: en, fr\nDescription: \"two\n lines\"\n\n\
            URI: doc.ps.gz\nContent-type: application/postscript\nContent-Encoding: x-gzip\nContent-Length: 12\n\n\
            Content-type: text/plain\nBody:----xyz----\nhello\nworld\n----xyz---- ignored\n";
        let (variants, trouble) = parse(map, b"/x/doc.var");
        assert_eq!(trouble, None);
        assert_eq!(variants.len(), 3);
        assert_eq!(variants[0].file_name, "doc.en.html");
        assert_eq!(variants[0].source_quality, 0.8);
        assert_eq!(variants[0].content_languages, ["en", "fr"]);
        assert_eq!(variants[0].description, "\"two lines\"");
        assert_eq!(variants[1].bytes, Some(12));
        assert_eq!(variants[2].file_name, "doc.var");
        let start = variants[2].body.unwrap() as usize;
        assert_eq!(&map[start..start + variants[2].bytes.unwrap() as usize], b"hello\nworld\n");
    }

    #[test]
    fn what_is_wrong_with_a_map() {
        let trouble = |map: &str| parse(map.as_bytes(), b"x").1.unwrap();
        assert_eq!(trouble("URI doc\n"), Trouble::NoColon("uri doc\n".into()));
        assert_eq!(trouble("URI: \n"), Trouble::NoBody("uri: \n".into()));
        assert_eq!(trouble("Content-Length: x\n"), Trouble::Length("x".into()));
        assert_eq!(trouble("Body: tag \nno end\n"), Trouble::NoEndTag("tag".into()));
    }
}
